"""Rotate the residual stream of a small Llama: outliers come and go with the frame, the function stays.

The network predicts the next row of a handwritten digit. Run: python examples/rotate_a_small_llama.py [steps]
"""

import sys

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jaxdescramble as jd


def norm(x, gain):
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * gain


def rotary(x):  # (batch, time, d)
    angles = jnp.arange(x.shape[1])[:, None] / 100 ** jnp.linspace(0, 1, x.shape[2] // 2)
    (a, b), cos, sin = jnp.split(x, 2, axis=2), jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=2)


def llama(params, x):
    h = x @ params["embed"]
    for p in params["blocks"]:
        q, k, v = (norm(h, p["gain1"]) @ p[name] for name in "qkv")
        scores = rotary(q) @ rotary(k).swapaxes(1, 2) / q.shape[2] ** 0.5
        h = h + jax.nn.softmax(jnp.where(jnp.tri(x.shape[1], dtype=bool), scores, -jnp.inf)) @ v @ p["o"]
        h = h + (jax.nn.silu(norm(h, p["gain2"]) @ p["gate"]) * (norm(h, p["gain2"]) @ p["up"])) @ p["down"]
    return norm(h, params["gain"]) @ params["head"]


def trained(x, steps, n):
    draw = lambda k, *shape: jax.random.normal(jax.random.key(k), shape) / 2 / n**0.5  # noqa: E731
    shapes = dict.fromkeys("qkvo", (n, n)) | {"gate": (n, 3 * n), "up": (n, 3 * n), "down": (3 * n, n)}
    blocks = [{name: draw(10 * k + i, *shapes[name]) for i, name in enumerate(shapes)} for k in (1, 2)]
    blocks = [block | {"gain1": jnp.ones(n), "gain2": jnp.ones(n)} for block in blocks]
    params = {"embed": draw(0, 8, n), "blocks": blocks, "gain": jnp.ones(n), "head": draw(1, n, 8)}
    slope, adam = jax.grad(lambda params, x: jnp.mean((llama(params, x[:, :-1]) - x[:, 1:]) ** 2)), optax.adam(3e-3)

    def step(k, carry):
        updates, state = adam.update(slope(carry[0], x[jnp.arange(128) + 9 * (k % 140)]), carry[1])
        return optax.apply_updates(carry[0], updates), state

    return jax.lax.fori_loop(0, steps, step, (params, adam.init(params)))[0]


def main(steps=300, n=64):
    x = jnp.asarray(load_digits(return_X_y=True)[0], jnp.float32).reshape(-1, 8, 8) / 16
    params, seen, unseen = trained(x[:1400], steps, n), x[:1400, :-1], x[1400:, :-1]
    folded, what = jd.fold(llama, params, seen)
    print(what, jd.symmetries(llama, folded, seen, at_values=True), sep="\n")
    S, T = (jd.wiretap(llama)(folded, x)[1]["['blocks'][1]['up']"].input for x in (seen, unseen))
    hadamards = [jd.manifolds.orthogonal.random_hadamard(jax.random.key(k), n) for k in range(10)]
    principal = jnp.linalg.svd(S, full_matrices=False)[0].T
    measures = jd.objectives.spread("kurtosis"), jd.objectives.quantised(4)
    frames = {"as trained": [jnp.eye(n)], "Hadamard": hadamards, "principal components": [principal]}
    for name, some in (frames | {"both": [H @ principal for H in hadamards]}).items():
        moved = jd.transform(llama, folded, seen, {"['embed']": some[0]}, at_values=True)
        kurtosis, error = (sum(measure(P, T) for P in some) / len(some) for measure in measures)
        change = jnp.abs(llama(moved, unseen) - llama(params, unseen)).max()
        print(f"{name}: kurtosis {kurtosis:.2f}, int4 error {error:.4f}, outputs changed by {change:.1e}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
