"""Further small networks with the groups of their streams, as in `architectures`."""

import jax
import jax.numpy as jnp
from agreement import llama, network
from architectures import ARCHITECTURES, IMAGES, attention, attention_params, both, draw, layer_norm, tokens


def vision(p, x):
    patches = x.reshape(len(x), 3, 2, 3, 2, 2).swapaxes(2, 3).reshape(len(x), 9, 8)
    last = jnp.broadcast_to(p["class"], (len(x), 1, 6))  # where the mask lets it see every patch
    h = jnp.concatenate([patches @ p["embedding"], last], 1) + p["positions"]
    h = h + attention(p, layer_norm(h), 3, 3)
    h = h + jax.nn.gelu(layer_norm(h) @ p["in"]) @ p["out"]
    return layer_norm(h)[:, -1] @ p["head"]


def deep_linear_gates(p, x):
    first = x @ p["gate1"]
    second = first @ p["gate2"]
    value = (x @ p["value1"]) * (first > 0)
    return ((value @ p["value2"]) * (second > 0)) @ p["out"]


def tied_autoencoder(p, x):
    h = jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"])
    return jax.nn.relu(h @ p["b"].T) @ p["a"].T


ROTARY = tokens()
FURTHER = {
    "llama, rotary": (
        *network(llama, ROTARY),
        ROTARY,
        both(
            {
                "['0/q']": "signs with scales at each of 2 places",
                "['0/q']#2": "S(2)",
                "['0/q']#3": "S(2) at each of 2 places",
                "['0/v']": "GL(8) at each of 2 places",
                "['0/gate']": "S(8) with signs, scales",
            }
        )
        | {"['embed']": "O(6)"},
    ),
    "vision": (
        vision,
        attention_params(6, 3, 3)
        | {"class": draw(6), "embedding": draw(8, 6), "positions": draw(10, 6), "head": draw(6, 13)}
        | {"in": draw(6, 9), "out": draw(9, 6)},
        draw(*IMAGES),
        {"['q']": "GL(2) at each of 3 places", "['q']#2": "S(3)", "['v']": "GL(2) at each of 3 places"}
        | {"['in']": "S(9)", "['embedding']": "O(5) on mean 0, any shift"},
    ),
    "deep linear gates": (
        deep_linear_gates,
        {"gate1": draw(5, 8), "gate2": draw(8, 7), "value1": draw(5, 8), "value2": draw(8, 7), "out": draw(7, 9)},
        draw(200, 5),
        {"['gate1']": "S(8) with signs, 2 scales", "['gate2']": "S(7) with signs, 2 scales"},
    ),
    "tied autoencoder": (
        tied_autoencoder,
        {"a": draw(9, 8), "b": draw(8, 7)},
        draw(200, 9),
        {"['a']": "S(8) with scales", "['b']": "S(7)"},
    ),
}
EVERY = ARCHITECTURES | FURTHER
