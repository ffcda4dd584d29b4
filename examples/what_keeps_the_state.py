"""Which inputs keep a network's neurons in the state they are in? Thirteen measurements of 178 wines, three growers.

A network learns to tell the growers apart. Of every wine, Insens says what holds its silent neurons silent; then each
measurement is set to its mean, and the neurons that change their state are counted.

    python examples/what_keeps_the_state.py [--steps 400]    (needs scikit-learn)
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import optax
from scipy.stats import spearmanr
from sklearn.datasets import load_wine

import jaxdescramble as jd


def f(params, x):
    for W, b in params[:-1]:
        x = jax.nn.relu(x @ W + b[None])
    return x @ params[-1][0] + params[-1][1][None]


def train(key, x, labels, steps):
    shapes, optimiser = ((13, 32), (32, 16), (16, 3)), optax.adamw(5e-3, weight_decay=1e-2)
    params = [((2 / s[0]) ** 0.5 * jax.random.normal(k, s), jnp.zeros(s[1]))
              for k, s in zip(jax.random.split(key, 3), shapes, strict=True)]  # fmt: skip
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(f(p, x), labels).mean()  # noqa: E731

    def step(_, carry):
        updates, state = optimiser.update(jax.grad(loss)(carry[0]), carry[1], carry[0])
        return optax.apply_updates(carry[0], updates), state

    return jax.lax.fori_loop(0, steps, step, (params, optimiser.init(params)))[0]


def states(params, x):
    """Which of the 48 hidden neurons are active, for every wine."""
    return jnp.concatenate([piece > 0 for piece in jd.switched.gates(f, params, x).values()], axis=1)


def main(steps: int):
    wines: Any = load_wine()
    x, labels = jnp.asarray(wines.data), jnp.asarray(wines.target)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    order = jax.random.permutation(jax.random.key(1), len(x))
    x, labels = x[order], labels[order]
    params = jax.jit(train, static_argnums=3)(jax.random.key(0), x[:120], labels[:120], steps)
    seen, names = x[120:], wines.feature_names
    accuracy = float((f(params, seen).argmax(axis=1) == labels[120:]).mean())
    active = states(params, seen)
    print(f"accuracy {accuracy:.2f} on 58 unseen wines, {100 * float(active.mean()):.0f}% of the neurons active")

    omega = jd.switched.insens(f, params, seen).map
    weight = jnp.abs(omega).mean(axis=0)
    changed = jnp.stack([(states(params, seen.at[:, j].set(0.0)) != active).mean() for j in range(13)])
    likely = jnp.abs(jd.attribution.gradient(f, params, seen)).mean(axis=0)
    print(f"{'':>30}  Insens  states changed  gradient")
    for j in jnp.argsort(-weight).tolist():
        print(f"{names[j]:>30}  {weight[j]:6.3f}  {100 * changed[j]:13.1f}%  {likely[j]:8.2f}")
    ours, theirs = (float(spearmanr(one, changed)[0]) for one in (weight, likely))  # pyright: ignore
    print(f"rank correlation with the states that change: Insens {ours:.2f}, gradient {theirs:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    main(**vars(parser.parse_args()))
