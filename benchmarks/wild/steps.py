"""What a step of L-BFGS costs with a model of the Hessian, in the coordinates of the signals and of the model.

Run: python -m benchmarks.wild.steps --data FOLDER [--core 0]

Both solve the same problem in single precision, as the rough solves of a default call do, for the same number of steps,
in turns; the figures are medians.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.peers.table import hardware
from benchmarks.wild.cases import OBJECTIVES, TUNE, signals_of
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers import LBFGS, InFrame, minimise

ROOT = Path(__file__).parents[2]
STEPS, ROUNDS = 60, 5


def main() -> None:
    """Time every case that has such a model, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "wild_steps.md")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    plain = LBFGS(max_steps=STEPS, tolerance=0.0)
    lines = [
        "# A step of L-BFGS with a model of the Hessian, in its own coordinates",
        "",
        f"`python -m benchmarks.wild.steps`; {hardware()}. float32, one core, {STEPS} steps from a random start, "
        f"medians of {ROUNDS} rounds in turns.",
        "",
        "| case | size | LBFGS, ms a step | InFrame(LBFGS), ms a step | part of the time |",
        "|---|---|--:|--:|--:|",
    ]
    for case in TUNE:
        signals = jnp.asarray(signals_of(case, given.data), jnp.float32)
        objective, (n, m) = OBJECTIVES[case.objective](len(signals)), signals.shape
        summary, start = objective.summarise(signals), orthogonal.random(jax.random.key(0), n, "O", signals.dtype)
        taken: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(ROUNDS + 1):
            for inside in taken:
                solver = InFrame(plain) if inside else plain
                began = time.perf_counter()
                found = minimise(objective, start, summary, solver=solver)
                seconds = time.perf_counter() - began
                if turn:  # the first round compiles
                    taken[inside].append(1e3 * seconds / max(int(found.steps), 1))
        outside, inside = (statistics.median(taken[one]) for one in (False, True))
        row = f"| {case.name} | {n} x {m} | {outside:.2f} | {inside:.2f} | {inside / outside:.0%} |"
        print(row, flush=True)
        lines.append(row)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
