"""How many samples does a frame need? The limit from weights alone, the distance to it, and a confidence band.

Sixteen filters, mixed by a random rotation, read a correlated process. Weights and autocorrelation alone give the frame
of infinitely many samples. The theory predicts how far the frame of m samples is from it. The bootstrap estimates this
distance from one set of samples.

Run: python examples/how_many_samples.py [--repeats 60] [--out samples.png]
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd
from jaxdescramble.show import style

FILTERS, POINTS, COUNTS = 16, 64, (250, 1000, 4000, 16000, 64000)


def stirred_filters(key):
    """Return wavelets of growing frequency and falling gain, and the same wavelets in a random frame."""
    t = (jnp.arange(POINTS) + 0.5) / POINTS
    k = jnp.arange(FILTERS)[:, None]
    filters = 0.87**k * jnp.exp(-(((t[None, :] - 0.5) / 0.2) ** 2)) * jnp.cos(jnp.pi * k * t[None, :])
    return filters, jd.manifolds.orthogonal.random(key, FILTERS) @ filters


@style.styled
def picture(raw, tidy, measured, predicted, row, band):
    figure = style.sheet(style.DOUBLE, 105)
    (a, b), (c, d) = figure.subplots(2, 2)
    for ax, letter, title, weight in ((a, "a", "$W$ as it stands", raw), (b, "b", "$PW$ without any data", tidy)):
        style.image(ax, np.asarray(weight), (0, POINTS, 0, FILTERS), label="Weight")
        style.panel(ax, letter, title, "Input", "Neuron")
    c.loglog(COUNTS, predicted, "k:", label="theory")
    c.errorbar(COUNTS, *np.asarray(measured).T, fmt="o", ms=3, color=style.VERMILION, label="measured, two std. errors")
    c.legend()
    style.panel(c, "c", "Distance from the limit", "Samples", r"$\|P_m-P\|_F^2$")
    d.fill_between(np.arange(POINTS), *band, color=style.SKY, alpha=0.6, lw=0, label="90% band from 250 samples")
    d.plot(row, color=style.INK, lw=0.8, label="limit")
    d.legend()
    style.panel(d, "d", "The first row of $PW$", "Input", "Weight")
    return figure


def main(repeats: int, out: str):
    keys = jax.random.split(jax.random.key(0), 3)
    _, W = stirred_filters(keys[0])
    apart = jnp.abs(jnp.arange(POINTS)[:, None] - jnp.arange(POINTS)[None, :])
    half = jnp.linalg.cholesky(0.5**apart)  # a first-order autoregressive process
    operator = jd.operators.derivative(FILTERS, 2, "neumann")
    objective = jd.objectives.smoothness(operator=operator)
    gauge, limit = jd.exact.Stabiliser(operator), jd.exact.from_weights(W, None, None, 0.5**apart, objective)

    def signals(key, count):
        return W @ (half @ jax.random.normal(key, (POINTS, count)))

    measured, predicted = [], []
    for count in COUNTS:
        squares = []
        for key in jax.random.split(jax.random.fold_in(keys[1], count), repeats):
            point = jd.descramble(signals(key, count), objective).point
            off = jd.exact.align(point, limit.point, gauge).aligned - limit.point
            squares.append(float(jnp.sum(off**2)))
        measured.append((np.mean(squares), 2 * np.std(squares) / repeats**0.5))
        predicted.append(float(jd.exact.sampling_error(operator, limit.singular_values**2, count)))
        print(f"{count} samples: ||P_m - P||^2 = {measured[-1][0]:.4f}, theory {predicted[-1]:.4f}")

    sample = signals(keys[2], COUNTS[0])
    found = jd.bootstrap(sample, objective, key=keys[2], draws=200)
    to_limit = gauge.nearest(limit.point, found.point)  # the limit in the gauge of the sample
    low, high = found.band(lambda P: (P @ W)[0])
    row = (to_limit @ limit.point @ W)[0]
    inside = float(jnp.mean((low <= row) & (row <= high)))
    print(f"90% band of the first row, from {COUNTS[0]} samples: holds {inside:.0%} of the limit's")
    picture(W, limit.point @ W, measured, predicted, row, (low, high)).savefig(out, dpi=200)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", default="samples.png")
    main(**vars(parser.parse_args()))
