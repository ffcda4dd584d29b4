"""Small networks of many architectures, with the groups of their streams: for tests of symmetries.

Each entry: a function, parameters, a batch, and the group of each stream as the table shows it.
"""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape) / (shape[-2] if len(shape) > 1 else 1) ** 0.5, float)


def tokens(rows=40, length=5):
    return jnp.asarray(RNG.integers(0, 40, size=(rows, length)))


def rms_norm(v):
    return v * jax.lax.rsqrt(jnp.mean(v * v, axis=-1, keepdims=True) + 1e-6)


def layer_norm(v):
    return jax.nn.standardize(v)


def layer_norm_by_var(v):
    return (v - v.mean(-1, keepdims=True)) / jnp.sqrt(v.var(-1, keepdims=True) + 1e-5)


def multilayer(activation):
    def f(p, x):
        return activation(activation(x @ p["a"] + p["bias_a"]) @ p["b"] + p["bias_b"]) @ p["c"]

    return f


MULTILAYER = {"a": draw(5, 8), "bias_a": draw(8), "b": draw(8, 7), "bias_b": draw(7), "c": draw(7, 9)}
HALVES = {"['a']": "S(8)", "['b']": "S(7)"}


def gated(p, x):
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def residual(norm):
    def f(p, x):
        h = p["embedding"][x]
        for block in p["blocks"]:
            h = h + jax.nn.relu(norm(h) @ block["in"] + block["bias"]) @ block["out"]
        return norm(h) @ p["head"]

    return f


def residual_params():
    blocks = [{"in": draw(6, 9), "bias": draw(9), "out": draw(9, 6)} for _ in range(2)]
    return {"embedding": draw(40, 6), "blocks": blocks, "head": draw(6, 13)}


def tied(p, x):
    h = p["embedding"][x]
    h = h + jax.nn.relu(layer_norm(h) @ p["in"]) @ p["out"]
    return layer_norm(h) @ p["embedding"].T


def attention(p, h, heads, shared):
    batch, length, _ = h.shape
    q = (h @ p["q"] + p["bq"]).reshape(batch, length, heads, -1)
    k, v = ((h @ p[name] + p["b" + name]).reshape(batch, length, shared, -1) for name in "kv")
    if shared != heads:
        k, v = (jnp.repeat(one, heads // shared, axis=2) for one in (k, v))
    scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e30)
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), v)
    return mixed.reshape(batch, length, -1) @ p["o"] + p["bo"]


def attention_params(n, heads, shared, width=2):
    sizes = {"q": heads, "k": shared, "v": shared}
    params = {name: draw(n, size * width) for name, size in sizes.items()}
    params |= {"b" + name: draw(size * width) for name, size in sizes.items()}
    return params | {"o": draw(heads * width, n), "bo": draw(n)}


def gpt(p, x):
    h = p["embedding"][x] + p["positions"][: x.shape[1]]
    for block in p["blocks"]:
        h = h + attention(block, layer_norm(h) * block["gain1"] + block["offset1"], 3, 3)
        inner = jax.nn.gelu((layer_norm(h) * block["gain2"] + block["offset2"]) @ block["in"] + block["bias"])
        h = h + inner @ block["out"] + block["bias_out"]
    return (layer_norm(h) * p["gain"] + p["offset"]) @ p["head"]


def bert(p, x):
    h = layer_norm(p["embedding"][x] + p["positions"][: x.shape[1]]) * p["gain"] + p["offset"]
    for block in p["blocks"]:
        h = layer_norm(h + attention(block, h, 3, 3)) * block["gain1"] + block["offset1"]
        inner = jax.nn.gelu(h @ block["in"] + block["bias"])
        h = layer_norm(h + inner @ block["out"] + block["bias_out"]) * block["gain2"] + block["offset2"]
    return h @ p["head"]


def transformer_params():
    blocks = [
        attention_params(6, 3, 3)
        | {"gain1": draw(6), "offset1": draw(6), "gain2": draw(6), "offset2": draw(6)}
        | {"in": draw(6, 9), "bias": draw(9), "out": draw(9, 6), "bias_out": draw(6)}
        for _ in range(2)
    ]
    params = {"embedding": draw(40, 6), "positions": draw(7, 6), "blocks": blocks}
    return params | {"gain": draw(6), "offset": draw(6), "head": draw(6, 13)}


def llama(p, x):
    h = p["embedding"][x]
    for block in p["blocks"]:
        h = h + attention(block, rms_norm(h), 4, 2)
        inner = rms_norm(h)
        h = h + (jax.nn.silu(inner @ block["gate"]) * (inner @ block["up"])) @ block["down"]
    return rms_norm(h) @ p["head"]


def llama_params():
    blocks = [attention_params(6, 4, 2) | {"gate": draw(6, 9), "up": draw(6, 9), "down": draw(9, 6)} for _ in range(2)]
    return {"embedding": draw(40, 6), "blocks": blocks, "head": draw(6, 13)}


def fused_split(p, x):
    h = p["embedding"][x]
    q, k, v = (one.reshape(*h.shape[:2], 3, 2) for one in jnp.split(h @ p["qkv"] + p["bias"], 3, -1))
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k), -1)
    return jnp.einsum("bhts,bshd->bthd", weights, v).reshape(*h.shape[:2], -1) @ p["out"]


def fused_reshaped(p, x):
    h = p["embedding"][x]
    q, k, v = (h @ p["qkv"] + p["bias"]).reshape(*h.shape[:2], 3, 3, 2).transpose(2, 0, 3, 1, 4)
    weights = jax.nn.softmax(jnp.einsum("bhtd,bhsd->bhts", q, k), -1)
    return jnp.einsum("bhts,bhsd->bthd", weights, v).reshape(*h.shape[:2], -1) @ p["out"]


FUSED = {"embedding": draw(40, 6), "qkv": draw(6, 18), "bias": draw(18), "out": draw(6, 5)}
HEADS = {"['qkv']": "GL(2) at each of 3 places", "['qkv']#2": "S(3)", "['qkv']#3": "GL(2) at each of 3 places"}


def lstm(p, x):
    def step(carry, u):
        h, cell = carry
        i, f, g, o = jnp.split(u @ p["in"] + h @ p["back"] + p["bias"], 4, -1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (h, cell), h

    zeros = jnp.zeros((x.shape[1], 5))
    (h, _), every = jax.lax.scan(step, (zeros, zeros), x)
    return h @ p["out"] + every.sum(0) @ p["sum"]


def gru(p, x):
    def step(h, u):
        reset = jax.nn.sigmoid(u @ p["in_reset"] + h @ p["reset"])
        update = jax.nn.sigmoid(u @ p["in_update"] + h @ p["update"])
        new = jnp.tanh(u @ p["in_new"] + reset * (h @ p["new"] + p["bias"]))
        return (1 - update) * new + update * h, None

    return jax.lax.scan(step, jnp.zeros((x.shape[1], 5)), x)[0] @ p["out"]


def convolve(h, kernel, groups=1):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(h, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=groups)


def batch_norm(h, p):
    return (h - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-5) * p["gain"] + p["offset"]


def resnet(p, x):
    h = jax.nn.relu(batch_norm(convolve(x, p["stem"]), p["norm"]))
    for block in p["blocks"]:
        inner = jax.nn.relu(batch_norm(convolve(h, block["one"]), block["norm1"]))
        h = jax.nn.relu(h + batch_norm(convolve(inner, block["two"]), block["norm2"]))
    return h.mean((1, 2)) @ p["head"]


def norm_params(n):
    return {"mean": draw(n), "var": jnp.abs(draw(n)), "gain": draw(n), "offset": draw(n)}


def resnet_params():
    block = {"one": draw(3, 3, 4, 5), "norm1": norm_params(5), "two": draw(3, 3, 5, 4), "norm2": norm_params(4)}
    return {"stem": draw(3, 3, 2, 4), "norm": norm_params(4), "blocks": [block], "head": draw(4, 6)}


def unet(p, x):
    a = jax.nn.relu(convolve(x, p["down1"]))
    pooled = jax.lax.reduce_window(a, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    b = jnp.repeat(jnp.repeat(jax.nn.relu(convolve(pooled, p["down2"])), 2, 1), 2, 2)
    return convolve(jax.nn.relu(convolve(jnp.concatenate([a, b], -1), p["up"])), p["out"])


def in_groups(p, x):
    h = jax.nn.relu(convolve(x, p["a"]))
    h = jax.nn.relu(convolve(h, p["depthwise"], 6))
    return convolve(jax.nn.relu(convolve(h, p["grouped"], 3)), p["out"]).mean((1, 2))


def mixer(p, x):
    h = x @ p["embedding"]
    mixed = jax.nn.gelu(jnp.swapaxes(layer_norm(h), 1, 2) @ p["token1"]) @ p["token2"]
    h = h + jnp.swapaxes(mixed, 1, 2)
    h = h + jax.nn.gelu(layer_norm(h) @ p["channel1"]) @ p["channel2"]
    return layer_norm(h).mean(1) @ p["out"]


def flattened(p, x):
    h = jax.nn.relu(convolve(x, p["kernel"]) + p["bias"])
    return jax.nn.relu(h.reshape(h.shape[0], -1) @ p["dense"]) @ p["out"]


def scanned(p, x):
    def block(h, b):
        return h + jax.nn.relu(rms_norm(h) @ b["in"]) @ b["out"], None

    return rms_norm(jax.lax.scan(block, p["embedding"][x], p["blocks"])[0]) @ p["head"]


IMAGES = (30, 6, 6, 2)
TRANSFORMER = {"['blocks'][0]['q']": "GL(2) at each of 3 places", "['blocks'][0]['q']#2": "S(3)"} | {
    "['blocks'][0]['v']": "GL(2) at each of 3 places",
    "['blocks'][0]['in']": "S(9)",
}


def both(groups):
    """The same groups in block 1."""
    return groups | {name.replace("[0]", "[1]").replace("0/", "1/"): group for name, group in groups.items()}


def with_text(text):
    return {name: group + text for name, group in HALVES.items()}


ARCHITECTURES = {
    "relu": (multilayer(jax.nn.relu), MULTILAYER, draw(200, 5), with_text(" with scales")),
    "leaky relu": (multilayer(jax.nn.leaky_relu), MULTILAYER, draw(200, 5), with_text(" with scales")),
    "abs": (multilayer(jnp.abs), MULTILAYER, draw(200, 5), with_text(" with signs, scales")),
    "square": (multilayer(jnp.square), MULTILAYER, draw(200, 5), with_text(" with signs, scales")),
    "tanh": (multilayer(jnp.tanh), MULTILAYER, draw(200, 5), with_text(" with signs")),
    "gelu": (multilayer(jax.nn.gelu), MULTILAYER, draw(200, 5), HALVES),
    "softmax": (multilayer(jax.nn.softmax), MULTILAYER, draw(200, 5), HALVES),
    "linear": (multilayer(lambda v: v), MULTILAYER, draw(200, 5), {"['a']": "GL(8)", "['b']": "GL(7)"}),
    "gated unit": (
        gated,
        {"gate": draw(5, 8), "up": draw(5, 8), "down": draw(8, 9)},
        draw(200, 5),
        {"['gate']": "S(8) with signs, scales"},
    ),
    "residual, rms norm": (
        residual(rms_norm),
        residual_params(),
        tokens(),
        both({"['blocks'][0]['in']": "S(9) with scales"}) | {"['embedding']": "O(6)"},
    ),
    "residual, layer norm": (
        residual(layer_norm),
        residual_params(),
        tokens(),
        both({"['blocks'][0]['in']": "S(9) with scales"}) | {"['embedding']": "O(5) on mean 0, any shift"},
    ),
    "residual, layer norm by var": (
        residual(layer_norm_by_var),
        residual_params(),
        tokens(),
        both({"['blocks'][0]['in']": "S(9) with scales"}) | {"['embedding']": "O(5) on mean 0, any shift"},
    ),
    "tied embedding": (
        tied,
        {"embedding": draw(40, 6), "in": draw(6, 9), "out": draw(9, 6)},
        tokens(),
        {"['in']": "S(9) with scales", "['embedding']": "O(5) on mean 0, any shift"},
    ),
    "gpt": (
        gpt,
        transformer_params(),
        tokens(),
        both(TRANSFORMER) | {"['embedding']": "S(6) with 5 signs, 5 scales, one sign"},
    ),
    "bert": (
        bert,
        transformer_params(),
        tokens(),
        both(TRANSFORMER) | {"['embedding']": "S(6) with signs, scales, one sign"},
    ),
    "llama, grouped queries": (
        llama,
        llama_params(),
        tokens(),
        both(
            {
                "['blocks'][0]['q']": "GL(2) at each of 2 places",
                "['blocks'][0]['q']#2": "S(2)",
                "['blocks'][0]['q']#3": "S(2) at each of 2 places",
                "['blocks'][0]['v']": "GL(2) at each of 2 places",
                "['blocks'][0]['gate']": "S(9) with signs, scales",
            }
        )
        | {"['embedding']": "O(6)"},
    ),
    "heads split": (fused_split, FUSED, tokens(), HEADS | {"['embedding']": "GL(6)"}),
    "heads reshaped": (fused_reshaped, FUSED, tokens(), HEADS | {"['embedding']": "GL(6)"}),
    "lstm": (
        lstm,
        {"in": draw(3, 20), "back": draw(5, 20), "bias": draw(20), "out": draw(5, 4), "sum": draw(5, 4)},
        draw(6, 60, 3),
        {"['in']": "S(5) with signs"},
    ),
    "gru": (
        gru,
        {name: draw(5, 5) for name in ("reset", "update", "new", "out")}
        | {name: draw(3, 5) for name in ("in_reset", "in_update", "in_new")}
        | {"bias": draw(5)},
        draw(6, 60, 3),
        {"['in_reset']": "S(5) with signs"},
    ),
    "resnet, batch norm": (
        resnet,
        resnet_params(),
        draw(*IMAGES),
        {"['stem']": "S(4) with 2 signs, 3 scales", "['blocks'][0]['one']": "S(5) with signs, 2 scales"},
    ),
    "unet": (
        unet,
        {"down1": draw(3, 3, 2, 4), "down2": draw(3, 3, 4, 5), "up": draw(3, 3, 9, 6), "out": draw(1, 1, 6, 8)},
        draw(*IMAGES),
        {"['down1']": "S(4) with scales", "['down2']": "S(5) with scales", "['up']": "S(6) with scales"},
    ),
    "convolutions in groups": (
        in_groups,
        {"a": draw(1, 1, 2, 6), "depthwise": draw(3, 3, 1, 6), "grouped": draw(1, 1, 2, 6), "out": draw(1, 1, 6, 8)},
        draw(*IMAGES),
        {
            "['a']": "S(2) with 2 scales at each of 3 places",
            "['a']#2": "S(3)",
            "['grouped']": "S(2) with scales at each of 3 places",
        },
    ),
    "mixer": (
        mixer,
        {"embedding": draw(3, 6), "token1": draw(4, 7), "token2": draw(7, 4)}
        | {"channel1": draw(6, 8), "channel2": draw(8, 6), "out": draw(6, 9)},
        draw(60, 4, 3),
        {"['embedding']": "S(6)", "['token1']": "S(7)", "['channel1']": "S(8)"},
    ),
    "flattened": (
        flattened,
        {"kernel": draw(3, 3, 2, 4), "bias": draw(4), "dense": draw(144, 7), "out": draw(7, 9)},
        draw(*IMAGES),
        {"['kernel']": "S(4) with scales", "['dense']": "S(7) with scales"},
    ),
    "scanned blocks": (
        scanned,
        {"embedding": draw(40, 6), "blocks": {"in": draw(3, 6, 8), "out": draw(3, 8, 6)}, "head": draw(6, 13)},
        tokens(),
        {"['embedding']": "O(6)", "['blocks']['in']": "S(8) with scales at each of 3 places"},
    ),
}
