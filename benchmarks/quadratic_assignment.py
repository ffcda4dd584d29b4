"""Quadratic assignment: published and planted instances, compared with SciPy in the same time.

Run: python -m benchmarks.quadratic_assignment [--only nug30 chr25a] [--out FILE]

Ours is one call with its defaults, compiled before, for each of several keys. SciPy gets as many random starts of FAQ,
each refined by 2opt, as fit into the same time, but at least one; the best counts. Gaps are measured to the published
optimum. For planted instances (b is -a in another order) they are measured to the hidden order. Published optima and
their permutations come from QAPLIB (Burkard, Karisch, Rendl, J. Global Optim. 10 (1997) 391). Every instance is checked
against its permutation before use.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np
from scipy.optimize import quadratic_assignment as scipys

from benchmarks.qaplib import load
from jaxdescramble.solvers import quadratic_assignment

NAMES = ("nug12", "nug15", "nug20", "nug30", "sko42", "chr12c", "chr25a", "had20", "rou12", "tai25a", "tai30a", "scr20",
         "bur26e", "lipa20a", "kra30a", "esc16a")  # fmt: skip


def published(name):
    """Return a, b and the optimum."""
    found = load(name)
    return found.a, found.b, found.optimum


def planted(n):
    """Return minus a random matrix, and the matrix in another order, which is best by the Cauchy-Schwarz inequality."""
    rng = np.random.default_rng(n)
    half = rng.integers(0, 100, (n, n))
    a, p = half + half.T, rng.permutation(n)
    return -a, a[np.ix_(p, p)], -int((a * a).sum())


def by_scipy(a, b, seconds, seed):
    """Run FAQ and 2opt from as many random starts as fit into the time; return the best value and their number."""
    best, starts, begun = np.inf, 0, time.perf_counter()
    while starts == 0 or time.perf_counter() - begun < seconds:
        rng = np.random.default_rng((seed, starts))
        options = {"rng": rng, "P0": "randomized"} if starts or seed else {"rng": rng}
        faq = scipys(a, b, method="faq", options=options)
        guess = np.stack([np.arange(len(a)), faq.col_ind], axis=1)
        best = min(best, scipys(a, b, method="2opt", options={"rng": rng, "partial_guess": guess}).fun)
        starts += 1
    return best, starts


def beside(name, a, b, optimum, runs):
    """Measure one row of the table."""
    begun = time.perf_counter()
    jax.block_until_ready(quadratic_assignment(a, b, key=jax.random.key(runs)))
    first = time.perf_counter() - begun
    ours, theirs, times, tried, bounds = [], [], [], [], []
    for seed in range(runs):
        begun = time.perf_counter()
        found = jax.block_until_ready(quadratic_assignment(a, b, key=jax.random.key(seed)))
        times.append(time.perf_counter() - begun)
        best, starts = by_scipy(a, b, times[-1], seed)
        for kept, value in ((ours, found.value), (theirs, best), (bounds, found.bound)):
            kept.append(100 * (float(value) - optimum) / abs(optimum))
        tried.append(starts)
    hits = [sum(gap < 1e-9 for gap in gaps) for gaps in (ours, theirs)]
    return (
        f"| {name} | {len(a)} | {optimum} | {np.mean(ours):.3f} | {hits[0]} | {np.mean(theirs):.3f} | {hits[1]} | "
        f"{np.mean(tried):.0f} | {np.mean(times):.2f} | {max(first - times[0], 0):.1f} | {np.mean(bounds):.1f} |"
    )


def main(only, runs, out):
    """Print or write the table."""
    jax.config.update("jax_enable_x64", True)
    lines = [
        "# Quadratic assignment",
        "",
        f"`python -m benchmarks.quadratic_assignment`; {platform.machine()}, {os.cpu_count()} cores, jax "
        f"{jax.__version__}, float64. Means over {runs} keys: gaps to the optimum in percent, and how often it was",
        "reached; SciPy's is the best of as many starts as fit into the time that ours took.",
        "",
        "| instance | n | optimum | gap | reached | gap, SciPy faq + 2opt | reached | its starts | seconds "
        "| compile, s | bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    cases = dict.fromkeys(NAMES, published) | {f"planted {n}": planted for n in (20, 50, 100)}
    for name, make in cases.items():
        if only and name not in only:
            continue
        lines.append(beside(name, *make(name if make is published else int(name.split()[1])), runs))
        print(lines[-1], flush=True)
    if not only:
        out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "quadratic_assignment.md")
    main(**vars(parser.parse_args()))
