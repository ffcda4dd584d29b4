"""Compare the closed form with the one decomposition that it needs, in one run.

Run: python benchmarks/closed_form.py [--out benchmarks/results/closed_form.md]

For a Gram matrix this is its `eigh`; for a QR factor it is the SVD of the factor. A separate column gives the time to
make the Gram matrix or the factor. Every time is the median of interleaved repetitions after a warm-up. Compile time is
listed apart.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jaxdescramble.exact import brockett_minimiser  # noqa: E402
from jaxdescramble.objectives import Factor, Gram  # noqa: E402
from jaxdescramble.operators import derivative  # noqa: E402


def compiled(function, *arguments):
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def interleaved(programs, repetitions):
    """Return the median seconds of each (program, arguments). They take turns, so a busy moment affects all equally."""
    times = [[] for _ in programs]
    for _ in range(repetitions + 1):
        for i, (program, arguments) in enumerate(programs):
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            times[i].append(time.perf_counter() - start)
    return [float(np.median(one[1:])) for one in times]


def row(n, dtype, kind, repetitions):
    signals = jnp.asarray(np.random.default_rng(0).standard_normal((n, 4 * n)), dtype)
    operator = derivative(n)
    gather, _ = compiled(lambda s: kind.empty(n, dtype).update(s), signals)
    summary = gather(signals)
    decompose, matrix = (jnp.linalg.eigh, summary.gram) if kind is Gram else (jnp.linalg.svd, summary.factor)
    solve, seconds_to_compile = compiled(lambda s: brockett_minimiser(operator, s), summary)
    rival, _ = compiled(decompose, matrix)
    ours, theirs, gathering = interleaved([(solve, (summary,)), (rival, (matrix,)), (gather, (signals,))], repetitions)
    found = solve(summary)
    error = abs(float(found.value - found.bound))
    name = "eigh" if kind is Gram else "SVD"
    return (
        f"| {n} | {jnp.dtype(dtype).name} | {kind.__name__} | {name} | {theirs * 1e3:.2f} | {ours * 1e3:.2f} | "
        f"{ours / theirs:.2f} | {gathering * 1e3:.2f} | {seconds_to_compile:.1f} | {error:.1e} |"
    )


def main(out: Path, repetitions: int):
    lines = [
        "# The closed form against the decomposition it needs",
        "",
        f"`python benchmarks/closed_form.py`; {platform.machine()}, {os.cpu_count()} cores, "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, medians of {repetitions} interleaved repetitions. "
        "Signals are (n, 4n); gap is |value - bound| in units of the largest possible value.",
        "",
        "| n | type | summary | needs | needed, ms | closed form, ms | ratio | summary alone, ms | compile, s | gap |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for n in (80, 320, 1024):
        for dtype in ("float32", "float64"):
            for kind in (Gram, Factor):
                lines.append(row(n, dtype, kind, repetitions if n < 1000 else max(repetitions // 3, 3)))
                print(lines[-1], flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "closed_form.md")
    parser.add_argument("--repetitions", type=int, default=15)
    main(**vars(parser.parse_args()))
