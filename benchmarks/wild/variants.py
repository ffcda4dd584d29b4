"""What the default solver leaves out: other stages of the continuation, and other rough solves for rugged objectives.

Run: python -m benchmarks.wild.variants --data FOLDER [--core 0] [--keys 6]

The values are those of single precision solves. "Above" is the mean over the keys, above the lowest value of the row.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd
from benchmarks.peers.table import hardware
from jaxdescramble.descrambling._planning import FINE, ROUGH, STEPS, stages
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import sparsity, spectral_entropy, total_variation
from jaxdescramble.objectives.entropies import Entropy
from jaxdescramble.solvers import LBFGS, Chain, Continuation, InFrame, Solver, Tournament, minimise

ROOT = Path(__file__).parents[2]
LAYERS = {"crepe_conv6": 64, "minilm_v1_head3": 32, "digits_relu_64_last": 53, "minilm_residual3": 96}
"""Arrays of the file, and how many of their features are used."""


class Rounded(Entropy):
    """The entropy, with its epsilon named as if it rounded a corner: its default has no stages."""

    smoothing = "epsilon"


Make = Callable[[jax.Array], Solver]
"""A function from a random key to a solver."""


def of_stages(objective: jd.Objective) -> dict[str, Make]:
    """Return solvers that differ in the stages of their continuation."""

    def chain(factors: tuple, steps: int) -> Solver:
        rough = Continuation(LBFGS(decrease=ROUGH, max_steps=steps), factors)
        return Chain((InFrame(rough), InFrame(LBFGS(decrease=FINE))))

    wide = stages(objective)
    return {
        "all stages": lambda key: chain(wide, STEPS),
        "every second stage": lambda key: chain(wide[1::2], STEPS),
        "30 steps a stage": lambda key: chain(wide, 30),
        "no stages": lambda key: InFrame(LBFGS(decrease=FINE)),
    }


def of_starts() -> dict[str, Make]:
    """Return tournaments that differ in their rough solves."""
    fine, rough = InFrame(LBFGS(decrease=FINE)), InFrame(LBFGS(decrease=ROUGH, max_steps=STEPS))
    plain = Chain((LBFGS(decrease=1e-2, max_steps=30, preconditioner=None), rough))
    short = InFrame(LBFGS(decrease=ROUGH, max_steps=30))
    return {
        "the default": lambda key: Tournament(fine, rough, 3, key=key),
        "30 steps without the model first": lambda key: Tournament(fine, plain, 3, key=key),
        "7 starts of 30 steps": lambda key: Tournament(fine, short, 7, key=key),
    }


def row(name: str, objective: jd.Objective, signals: jax.Array, solvers: dict[str, Make], keys: int) -> str:
    """Solve with every solver from the same random starts; return a row of the table."""
    summary, n = objective.summarise(signals), len(signals)
    values, seconds = [], []
    for make in solvers.values():
        found, began = [], 0.0
        for k in (keys, *range(keys)):  # the first compiles
            if k == 0:
                began = time.perf_counter()
            start = orthogonal.random(jax.random.key(k), n, "O", signals.dtype)
            found.append(float(minimise(objective, start, summary, solver=make(jax.random.key(100 + k))).value))
        seconds.append((time.perf_counter() - began) / keys)
        values.append(np.array(found[1:]))
    best = min(each.min() for each in values)
    cells = [
        f"{each.mean() / best - 1:.2%}, {took / seconds[0]:.2g}x" for each, took in zip(values, seconds, strict=True)
    ]
    return f"| {name}, {n} neurons | {objective.name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure all, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--keys", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "wild_variants.md")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    with np.load(given.data / "wild_activations.npz") as file:
        layers = {name: jnp.asarray(file[name][:rows], jnp.float32) for name, rows in LAYERS.items()}
    lines = [
        "# What the default solver leaves out",
        "",
        f"`python -m benchmarks.wild.variants`; {hardware()}. float32, one core, {given.keys} keys. Each cell: the "
        "mean value above the lowest of the row, and the time in units of the first solver's.",
        "",
    ]
    sections = {
        "Stages of the continuation": [(one, of_stages(one)) for one in (sparsity(), total_variation(), Rounded())],
        "Rough solves": [(spectral_entropy(), of_starts())],
    }
    for title, chosen in sections.items():
        names = list(chosen[0][1])
        lines += [
            f"## {title}",
            "",
            "| layer | objective | " + " | ".join(names) + " |",
            "|---" * (len(names) + 2) + "|",
        ]
        for objective, solvers in chosen:
            for name, signals in layers.items():
                lines.append(row(name, objective, signals, solvers, given.keys))
                print(lines[-1], flush=True)
        lines.append("")
    given.out.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
