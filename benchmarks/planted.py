"""Planted recovery: hide frames in signals, and find them again from the signals alone.

Run: python benchmarks/planted.py [--problems 100] [--sizes 32 64] [--curve 8 12 16 24 32 48 64] [--out FILE]

Every row consists of many problems of `datasets.planted` with m = 10 n. Each is solved from a Haar-random start, all in
one compiled program. "value" counts the problems whose final value is at most that of the hidden frame. "frame" counts
those whose final frame is within 0.05 sqrt(n) of the hidden one (Frobenius norm, up to the objective's gauge). Seconds
are CPU seconds for one problem, start and finish together, without compilation.
"""

import argparse
import functools
import os
import platform
import time
from pathlib import Path

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxdescramble import objectives, operators, solvers
from jaxdescramble.datasets import planted
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers import FromModes, FromSources, Seriated

PLAIN = solvers.LBFGS(preconditioner=None, max_steps=500)
DIAGONAL = solvers.LBFGS(preconditioner=solvers.Analytic(), max_steps=500)
LINES = (slice(None), slice(None, None, -1))


def signs_free(p, q):
    """Return the distance up to the signs of rows and the direction of the line."""
    return min(np.sqrt(max(0, 2 * len(p) - 2 * np.abs((p[line] * q).sum(axis=1)).sum())) for line in LINES)


def order_free(p, q):
    """Return the distance up to signed permutations."""
    overlap = np.abs(p @ q.T)
    return np.sqrt(max(0, 2 * len(p) - 2 * overlap[linear_sum_assignment(-overlap)].sum()))


def mean_free(p, q):
    """Return the distance up to the common sign, the direction of the line, and a reflection of the neurons' mean."""
    mirror = np.eye(len(p)) - 2 / len(p)
    points = [sign * turned[line] for turned in (p, mirror @ p) for sign in (1, -1) for line in LINES]
    return min(np.linalg.norm(point - q) for point in points)


VARIATION, LOCALITY, SPARSITY = (
    objectives.total_variation(boundary="neumann"),
    objectives.locality("neumann"),
    objectives.sparsity(),
)
BOTH = objectives.weighted((1.0, SPARSITY), (0.3, LOCALITY))
KINDS = {
    "piecewise constant": (planted.piecewise_constant, mean_free),
    "local, random signs": (planted.local, signs_free),
    "local, smooth": (functools.partial(planted.local, smooth=True), signs_free),
    "sparse": (planted.sparse, order_free),
}


def rows(n):
    """Return (kind, m / n, objective, idea, solver of a key); the first row of a kind is the recommended one."""
    slow = operators.derivative(n, 1, "neumann")
    steps, bumps, smooth, few = KINDS
    return [
        (steps, 10, VARIATION, "sources, in a chain", lambda key: FromSources(PLAIN, 4, key=key)),
        (steps, 10, VARIATION, "principal components on slow modes", lambda key: FromModes(PLAIN, slow)),
        (steps, 10, VARIATION, "Haar, corners rounded first", lambda key: solvers.Continuation(PLAIN)),
        (steps, 10, VARIATION, "best of 5 Haar points", lambda key: solvers.Restarts(PLAIN, 4, key=key)),
        (bumps, 10, LOCALITY, "sources, seriated", lambda key: FromSources(Seriated(DIAGONAL), 4, key=key)),
        (bumps, 100, LOCALITY, "sources, seriated", lambda key: FromSources(Seriated(DIAGONAL), 4, key=key)),
        (bumps, 10, LOCALITY, "Haar, seriated", lambda key: Seriated(DIAGONAL)),
        (bumps, 10, LOCALITY, "best of 5 Haar points", lambda key: solvers.Restarts(DIAGONAL, 4, key=key)),
        (bumps, 10, BOTH, "sources, seriated", lambda key: FromSources(Seriated(PLAIN), 4, key=key)),
        (smooth, 10, LOCALITY, "sources, seriated", lambda key: FromSources(Seriated(DIAGONAL), 4, key=key)),
        (smooth, 10, LOCALITY, "best of 5 Haar points", lambda key: solvers.Restarts(DIAGONAL, 4, key=key)),
        (few, 10, SPARSITY, "Haar", lambda key: DIAGONAL),
        (few, 10, SPARSITY, "sources", lambda key: FromSources(DIAGONAL, 4, key=key)),
    ]


def count(kind, times, objective, solver, n, noise, problems):
    """Count how often the value and the frame are reached; return also the median distance and seconds per problem."""
    generator, distance = KINDS[kind]

    @jax.jit
    def solve(key):
        data, start, chance = jax.random.split(key, 3)
        problem = generator(data, n, times * n, noise=noise)
        summary = objective.summarise(problem.signals)
        found = solvers.minimise(objective, orthogonal.random(start, n), summary, solver=solver(chance))
        return found.point, found.value, problem.frame, objective(problem.frame, summary)

    keys = jax.random.split(jax.random.key(0), problems)
    jax.block_until_ready(solve(keys[0]))
    begin = time.process_time()
    found = [jax.tree.map(np.asarray, solve(key)) for key in keys]
    seconds = (time.process_time() - begin) / problems
    values = sum(float(value) <= float(goal) * (1 + 1e-9) for _, value, _, goal in found)
    distances = np.asarray([distance(point, frame) / n**0.5 for point, _, frame, _ in found])
    return values, int((distances <= 0.05).sum()), float(np.median(distances)), seconds


def line(n, noise, row, problems):
    """Measure one row of the table."""
    kind, times, objective, idea, solver = row
    values, frames, median, seconds = count(kind, times, objective, solver, n, noise, problems)
    decibels = "none" if noise is None else f"{noise:.0f} dB"
    cells = (
        kind,
        objective.name or "sum",
        idea,
        n,
        times,
        decibels,
        f"{values} / {problems}",
        f"{frames} / {problems}",
    )
    return f"| {' | '.join(map(str, cells))} | {median:.3f} | {seconds:.2f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--rivals", type=int, default=20, help="number of problems for ideas that are not recommended")
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 64])
    parser.add_argument("--curve", type=int, nargs="*", default=[8, 12, 16, 24, 48])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    lines = [
        "# Planted recovery",
        "",
        f"`python benchmarks/planted.py`, {platform.machine()}, one core of {os.cpu_count()}, jax {jax.__version__}, "
        "float64.",
        "Median distance in units of sqrt(n). The objective called weighted is sparsity + 0.3 locality.",
        "",
        "| signals | objective | start | n | m / n | noise | value | frame | median distance | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]

    def add(text):
        lines.append(text)
        print(text, flush=True)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text("\n".join(lines) + "\n")

    recommended = (0, 4, 5, 9, 11)
    for n in arguments.sizes:
        for i, row in enumerate(rows(n)):
            problems = arguments.problems if i in recommended else arguments.rivals
            if i in recommended or n == min(arguments.sizes):
                for noise in (None, 20.0):
                    add(line(n, noise, row, problems))
    for n in arguments.curve:
        for noise in (None, 20.0):
            add(line(n, noise, rows(n)[0], arguments.problems))


if __name__ == "__main__":
    main()
