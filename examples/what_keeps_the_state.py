"""Which inputs keep a network's neurons in their state? Thirteen measurements of 178 wines from three growers.

A network learns to recognise the growers. For every wine, Insens shows what keeps its silent neurons silent. Then each
measurement is set to its mean, and the neurons that change their state are counted. The script does this for four
networks, and compares with simpler measures.

    python examples/what_keeps_the_state.py [--steps 400]    (needs scikit-learn)
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
    """Return which of the 48 hidden neurons are active, for every wine."""
    return jnp.concatenate([piece > 0 for piece in jd.attribution.switched.gates(f, params, x).values()], axis=1)


def measures(params, x):
    """Rate each measurement by Insens and by other measures, and by the share of states that change without it."""
    found = jax.jit(lambda p, x: jd.attribution.switched.insens(f, p, x).map)(params, x)
    slope = jd.attribution.gradient(f, params, x)
    rows = {"Insens": found, "gradient": slope, "input x gradient": slope * x,
            "input x first layer": x * jnp.linalg.norm(params[0][0], axis=1)[None]}  # fmt: skip
    rows = {name: jnp.abs(row).mean(axis=0) for name, row in rows.items()}
    active, without = states(params, x), jax.jit(states)
    changed = [(without(params, x.at[:, j].set(0.0)) != active).mean() for j in range(13)]
    return rows | {"states changed": jnp.stack(changed)}


def main(steps: int):
    wines: Any = load_wine()
    order = jax.random.permutation(jax.random.key(1), 178)
    x, labels = jnp.asarray(wines.data)[order], jnp.asarray(wines.target)[order]
    x = (x - x[:120].mean(axis=0)) / x[:120].std(axis=0)
    networks = [jax.jit(train, static_argnums=3)(jax.random.key(k), x[:120], labels[:120], steps) for k in range(4)]
    right = np.mean([(f(params, x[120:]).argmax(axis=1) == labels[120:]).mean() for params in networks])
    print(f"accuracy {right:.2f} on 58 unseen wines")
    tables = [measures(params, x[120:]) for params in networks]
    first = tables[0]
    print(f"{'':>30}  {'  '.join(first)}")
    for j in jnp.argsort(-first["Insens"]).tolist():
        print(f"{wines.feature_names[j]:>30}  " + "  ".join(f"{row[j]:{len(name)}.3f}" for name, row in first.items()))
    print("rank correlation with the states that change, four networks:")
    for name in list(first)[:-1]:
        ranks = [float(spearmanr(table[name], table["states changed"])[0]) for table in tables]  # pyright: ignore
        print(f"{name:>30}  {np.mean(ranks):.2f}   ({', '.join(f'{one:.2f}' for one in ranks)})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    main(**vars(parser.parse_args()))
