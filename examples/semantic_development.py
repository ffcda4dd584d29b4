"""Semantic development: when a deep linear network learns what, compared with the closed form, and its hidden layer.

Eight things share features along a tree. A feature that divides many of them is learned before one that divides few.

Run: python examples/semantic_development.py [--hidden 256] [--out semantic-development.png]
"""

import argparse
import functools

import jax
import jax.numpy as jnp

import jaxdescramble as jd
from jaxdescramble.show import style

THINGS = ["canary", "robin", "salmon", "sunfish", "rose", "daisy", "oak", "pine"]
FEATURES = [5], [8, 8], [14, 14, 10, 10], [16, 16, 10, 10, 6, 6, 4, 4]  # number of features of each branch of the tree
EVERY, RATE = 20, 0.002


def chain(weights):
    return functools.reduce(lambda below, above: above @ below, weights)


@functools.partial(jax.jit, static_argnames="steps")
def train(start, target, steps):  # gradient descent; returns the weights of every twentieth step
    def step(weights, _):
        slopes = jax.grad(lambda weights: jnp.sum((target - chain(weights)) ** 2) / 2)(weights)
        return [w - RATE * slope for w, slope in zip(weights, slopes, strict=True)], None

    return jax.lax.scan(lambda w, _: (jax.lax.scan(step, w, length=EVERY)[0], w), start, length=steps // EVERY)[1]


def random_start(key, scale, *shapes):
    numbers = [jax.random.normal(jax.random.fold_in(key, k), shape) for k, shape in enumerate(shapes)]
    return [scale / max(weight.shape) ** 0.5 * weight for weight in numbers]


@style.styled
def picture(curves, columns):
    figure = style.sheet(style.DOUBLE, 135)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.8])  # pyright: ignore[reportGeneralTypeIssues]
    for ax, letter, (title, time, trained, closed) in zip(above.subplots(1, 2), "ab", curves, strict=True):
        ax.plot(time / 1000, trained, color=style.SKY, lw=2.2)
        ax.plot(time / 1000, closed, color=style.INK, lw=0.6)
        ax.set(xlim=(0, time[-1] / 1000), ylim=(0, 4))
        style.panel(ax, letter, f"{title}: trained (blue), closed form (black)", "Thousands of steps", "Mode strength")
    axes, limit = below.subplots(3, 4, sharex=True, sharey=True), float(abs(columns[-1][3]).max())
    for k, (title, *weights) in enumerate(columns):
        for ax, weight in zip(axes[:, k], weights, strict=True):
            ax.imshow(weight, cmap=style.SIGNED, vmin=-limit, vmax=limit, aspect="auto", origin="lower")
        style.panel(axes[0, k], "cdef"[k], title)
        axes[2, k].set_xticks(range(8), THINGS, rotation=90)
    for ax, label in zip(axes[:, 0], ("As trained", "Descrambled", "Closed form"), strict=True):
        ax.set_ylabel(f"{label}\nhidden neuron")
    below.colorbar(axes[0, 0].images[0], ax=axes, label="Weight of the first layer", fraction=0.02, pad=0.01)
    return figure


def main(hidden: int, out: str):
    shared = jnp.concatenate([jnp.diag(jnp.asarray(row)).repeat(8 // len(row), axis=1) for row in FEATURES])
    target = jnp.sqrt(shared / 8)  # Y X^T / m with X = sqrt(8) 1; the features of a branch are one row
    U, s, Vt = jnp.linalg.svd(target, full_matrices=False)

    # Two layers: from a small random start, only the part grows in which the two layers agree.
    start = random_start(jax.random.key(0), 1e-3, (hidden, 8), (15, hidden))
    initial = jnp.sum((start[0] @ Vt.T + start[1].T @ U) ** 2, axis=0) / 4
    first, last = train(start, target, 8000)
    two, time = jnp.einsum("ak,tab,kb->tk", U, last @ first, Vt), EVERY * jnp.arange(len(first), dtype=float)
    closed = jd.exact.linear_network_modes(s, initial, time, tau=1 / RATE)
    print(f"two layers: off by at most {abs((two - closed) / s).max():.3f} of a mode")

    # Three layers: compare each mode from the time when a tenth of it is learned. Before, other modes disturb it.
    history = train(random_start(jax.random.key(1), 0.05, (hidden, 8), (hidden, hidden), (15, hidden)), target, 24000)
    three, later = jnp.einsum("ak,tab,kb->tk", U, chain(history), Vt), EVERY * jnp.arange(len(history[0]), dtype=float)
    seen = jnp.argmax(three > s / 10, axis=0)
    since = jax.vmap(lambda s, u, t: jd.exact.linear_network_modes(s[None], u, t, tau=1 / RATE, depth=3)[:, 0])
    late = later - later[seen][:, None]
    deep = jnp.where(late < 0, jnp.nan, since(s, three[seen, jnp.arange(8)], jnp.maximum(late, 0))).T
    print("three layers, from a tenth on:", *[f"{off:.3f}" for off in jnp.nanmax(abs(three - deep) / s, axis=0)])

    # The hidden layer of the first network when 1, 2, 4 and 8 modes are learned, with strong modes on slow waves.
    operator, columns = jd.operators.derivative(hidden, 2, "neumann"), []
    for count in (1, 2, 4, 8):
        frame = round(float(jd.exact.learning_times(s, initial, tau=1 / RATE, fraction=0.9)[count - 1]) / EVERY)
        ideal = operator.synthesise(jnp.zeros((hidden, 8)).at[:8].set(jnp.sqrt(closed[frame])[:, None] * Vt))
        found = jd.descramble(first[frame], jd.objectives.smoothness(operator=operator)).check()
        shown = jd.exact.align(found.transform(first[frame]), ideal, jd.exact.Stabiliser(operator))
        columns.append((f"Step {EVERY * frame}: {count} of 8 modes", first[frame], shown.aligned, ideal))
        print(f"step {EVERY * frame}, {count} of 8 modes: descrambled weights off by {shown.distance:.3f}")
    picture([("Two layers", time, two, closed), ("Three layers", later, three, deep)], columns).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--out", default="semantic-development.png")
    main(**vars(parser.parse_args()))
