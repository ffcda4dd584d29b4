"""Measure the first call of a solver (tracing and compilation) in new processes, paired with another checkout.

    python -m benchmarks.first_call [--against FOLDER] [--rounds 5] [--out benchmarks/results/first_call.md]

Every number comes from one process, which imports JAX and compiles something before the clock starts. "cached" is a
second process that uses the compilation cache of a first one.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CASES = ("minimise, black box", "minimise, total variation", "descramble, total variation", "descramble, sparsity")
HOME = Path(__file__).parent.parent


def measure(case: str, n: int) -> tuple[float, float]:
    """Return processor seconds and wall-clock seconds of the first call in this process."""
    import time

    import jax
    import jax.numpy as jnp

    import jaxdescramble as jd

    def black(P, S):
        return jnp.sum(jnp.sqrt(jnp.diff(P @ S, axis=0) ** 2 + 1e-3))

    signals = jax.random.normal(jax.random.key(0), (n, 4 * n))
    objective = jd.objectives.sparsity() if "sparsity" in case else jd.objectives.total_variation(boundary="neumann")
    summary = jax.block_until_ready(objective.summarise(signals))
    solver, start = jd.solvers.LBFGS(max_steps=3), jnp.eye(n)
    jax.block_until_ready(jax.jit(jnp.matmul)(start, start))
    processor, clock = time.process_time(), time.perf_counter()
    if case.startswith("descramble"):
        found = jd.descramble(signals, objective, solver)
    elif "black" in case:
        found = jd.minimise(black, start, signals, solver=solver)
    else:
        found = jd.minimise(objective, start, summary, solver=solver)
    jax.block_until_ready(found.point)
    return time.process_time() - processor, time.perf_counter() - clock


def run(folder: Path, case: str, n: int, cache: str | None) -> tuple[float, float]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    if cache is not None:
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, __file__, "--worker", case, str(n)]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=folder).stdout
    processor, clock = said.split()
    return float(processor), float(clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=2)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.worker:
        print(*measure(given.worker[0], int(given.worker[1])))
        return
    folders = {"here": HOME} | ({"before": given.against.resolve()} if given.against else {})
    rows = []
    for case in CASES:
        for n in given.sizes:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*folders, "cached")}
            with tempfile.TemporaryDirectory() as cache:
                run(HOME, case, n, cache)
                for _ in range(given.rounds):
                    for name, folder in folders.items():
                        found[name].append(run(folder, case, n, None))
                    found["cached"].append(run(HOME, case, n, cache))
            rows.append((case, n, found))
            print(case, n, {name: medians(times) for name, times in found.items()}, flush=True)
    if given.out:
        given.out.write_text(table(rows, given.rounds))


def medians(times: list[tuple[float, float]]) -> list[float]:
    return [statistics.median(column) for column in zip(*times, strict=True)]


def table(rows: list, rounds: int) -> str:
    names = list(rows[0][2])
    lines = [
        "# What the first call costs",
        "",
        f"`python -m benchmarks.first_call`: seconds of a processor (of the clock), medians of {rounds} fresh",
        f"processes, paired; {platform.machine()}, {os.cpu_count()} cores. `cached` finds JAX's persistent",
        "compilation cache, which a first process has filled.",
        "",
        "| call | n | " + " | ".join(names) + (" | here / before |" if "before" in names else " |"),
        "|---|---|" + "---|" * (len(names) + ("before" in names)),
    ]
    for case, n, found in rows:
        cells = ["{:.2f} ({:.2f})".format(*medians(found[name])) for name in names]
        if "before" in names:
            pairs = zip(found["here"], found["before"], strict=True)
            cells.append(f"{statistics.median(here[0] / before[0] for here, before in pairs):.2f}")
        lines.append(f"| {case} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
