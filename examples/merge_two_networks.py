"""Average two networks that were trained from different seeds, before and after `jd.match`.

Both know the digits, in other orders of their neurons. Run: python examples/merge_two_networks.py [width [steps]]
"""

import sys

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jaxdescramble as jd


def network(params, x):
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ params[-1]["kernel"] + params[-1]["bias"]


def loss(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(network(params, x), y).mean()


def train(key, x, y, width, steps):
    sizes = ((64, width), (width, width), (width, 10))
    keys = jax.random.split(key, 3)
    params = [
        {"kernel": jax.random.normal(k, s) * (2 / s[0]) ** 0.5, "bias": jnp.zeros(s[1])}
        for k, s in zip(keys, sizes, strict=True)
    ]
    optimiser = optax.adamw(1e-3, weight_decay=0.1)

    def step(k, carry):
        some = jax.random.randint(jax.random.fold_in(key, k), (128,), 0, len(x))
        updates, state = optimiser.update(jax.grad(loss)(carry[0], x[some], y[some]), carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    return jax.jit(lambda params: jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0])(params)


def main(width=512, steps=1500):
    x, y = (jnp.asarray(one) for one in load_digits(return_X_y=True))
    x = x.astype(jnp.float32) / 16
    a, b = (train(jax.random.key(seed), x[:1200], y[:1200], width, steps) for seed in (0, 1))
    x, y = x[1200:], y[1200:]  # unseen digits
    found = jd.match(network, a, b, x)
    average = lambda other: jax.tree.map(lambda one, two: (one + two) / 2, a, other)  # noqa: E731
    networks = {"a": a, "b": b, "b, matched": found.params}
    networks |= {"average": average(b), "average, matched": average(found.params)}
    for name, params in networks.items():
        print(f"{name}: accuracy {float((network(params, x).argmax(axis=1) == y).mean()):.3f}")
    bar = found.barrier(lambda params: loss(params, x, y), nulls=10)
    print(f"barrier {bar.before:.3f} before, {bar.after:.3f} after; null {bar.null.min():.3f} to {bar.null.max():.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
