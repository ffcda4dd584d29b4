"""Compare many layers in one call with a Python loop over them, for exact and iterative solves, in one run.

Run: python benchmarks/layers.py [--layers 384] [--size 320]

Signals are float32. The exact solve is the closed form. The iterative solves are ten steps of L-BFGS, on the same
smoothness with the objective's own curvature, and on total variation. Both are warmed up by a solve of zero steps,
which is the same program. The loop calls the same function for each layer and waits for each result, as a user would.
"""

import argparse
import dataclasses
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxdescramble as jd


def timed(function):
    start = time.perf_counter()
    found = jax.block_until_ready(function())
    return found, time.perf_counter() - start


def row(name, signals, objective, solver):
    def looped():
        return [jax.block_until_ready(jd.descramble(layer, objective, solver)) for layer in signals]

    idle = dataclasses.replace(solver, max_steps=0) if hasattr(solver, "max_steps") else solver
    _, first = timed(lambda: jd.descramble(signals, objective, idle))
    _, second = timed(lambda: jd.descramble(signals, objective, idle))
    timed(lambda: jd.descramble(signals[0], objective, idle))
    one, call = timed(lambda: jd.descramble(signals, objective, solver))
    many, loop = timed(looped)
    worst = max(abs(float(a - b.value)) / abs(float(b.value)) for a, b in zip(one.value, many, strict=True))
    return (
        f"| {name} | {len(signals)} | {signals.shape[1]} | {call:.1f} | {loop:.1f} | {loop / call:.2f} | "
        f"{max(first - second, 0):.1f} | {float(one.steps.mean()):.0f} | {worst:.0e} |"
    )


def main(layers: int, size: int, out: Path):
    signals = jax.random.normal(jax.random.key(0), (layers, size, 2 * size), jnp.float32)
    scales = jnp.linspace(1, 50, size)[None, :, None]
    signals = jax.block_until_ready(jnp.cumsum(signals, axis=1) / scales)
    smooth, steps = jd.objectives.smoothness(), jd.objectives.total_variation(epsilon=0.1, boundary="neumann")
    few = max(layers // 16, 2)
    cases = [
        ("smoothness, closed form", signals, smooth, jd.exact.ClosedForm()),
        ("smoothness, L-BFGS", signals, smooth, jd.solvers.LBFGS(preconditioner=jd.solvers.Analytic(), max_steps=10)),
        ("total variation, L-BFGS", signals[:few], steps, jd.solvers.LBFGS(preconditioner=None, max_steps=10)),
    ]
    lines = [
        "# Many layers in one call against a loop",
        "",
        f"`python benchmarks/layers.py --layers {layers} --size {size}`; {platform.machine()}, {os.cpu_count()} cores, "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, float32, after a warm-up.",
        "",
        "| problem | layers | n | one call, s | loop, s | loop / call | compile, s | steps | largest difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        lines.append(row(*case))
        print(lines[-1], flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=384)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "layers.md")
    main(**vars(parser.parse_args()))
