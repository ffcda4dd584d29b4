"""Compare two versions of this package in turns: the closed form, the peers' problem, Insens, the path kernel.

Run: python -m benchmarks.versions OLD NEW [--pairs 15] [--data FOLDER] [--all] [--limit 60]
                                          [--out benchmarks/results/versions.md]

OLD and NEW are folders that contain `jaxdescramble` (two worktrees). Each version runs in a process of its own, and
warms up. Then the two take turns, and each pair of calls gives one ratio; the order alternates. The table shows the
median ratio with a distribution-free 95% interval (order statistics of the ratios). Results must agree too.

With `--data`, the folder of `benchmarks.wild`, also default calls of `jd.descramble` on signals of ordinary networks:
three of the cases of `benchmarks.wild`, or all with `--all`. A row takes about `--limit` seconds: slow work gets fewer
pairs, at least one; with fewer than six, the interval is the whole range of the ratios.
"""

import argparse
import importlib
import importlib.util
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WORK = {
    "closed form, n = 512, Gram": "closed_512",
    "peers, n = 80, trust region, analytic": "peers_80_analytic",
    "peers, n = 128, trust region, analytic": "peers_128_analytic",
    "peers, n = 80, L-BFGS, plain function": "peers_80_plain",
    "peers, n = 128, L-BFGS, plain function": "peers_128_plain",
    "Insens, convolutional, 8 images": "insens",
    "path kernel, dense, 2,000 samples": "path_kernel",
}
WILD = (
    "digits_relu_128_preactivation, total variation",
    "random_relu_128, log-cosh",
    "minilm_v1_head3, l1",
)
"""Cases of `benchmarks.wild` that are compared without `--all`."""
LEAST = 0.3
"""Seconds that one timed call takes at least: short calls are repeated."""


def wild(name, data):
    """Return a default call on a case of `benchmarks.wild`."""
    import jaxdescramble as jd
    from benchmarks.wild.cases import END, OBJECTIVES, TUNE, signals_of

    (case,) = (one for one in (*TUNE, *END) if one.name == name)
    signals = signals_of(case, data)
    objective = OBJECTIVES[case.objective](len(signals))
    return lambda: jd.descramble(signals, objective).value


def calls(name, data):
    """Return a function of no arguments that does the work, and gives one number to compare."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    from benchmarks.peers.reference import reference
    from jaxdescramble import exact, objectives, operators, solvers

    if ", " in name:
        return wild(name, data)
    if name == "closed_512":
        signals = jnp.asarray(np.random.default_rng(0).standard_normal((512, 2048)))
        summary = objectives.Gram.empty(512, signals.dtype).update(signals)
        operator = operators.derivative(512)
        program = jax.jit(lambda given: exact.brockett_minimiser(operator, given).value)
        return lambda: program(summary)
    if name.startswith("peers"):
        n, kind = int(name.split("_")[1]), name.split("_")[2]
        problem = reference(n, "scrambled")
        if kind == "analytic":
            objective: Callable[..., Any] = objectives.smoothness(summary="gram")
            arguments = (objectives.Gram(jnp.asarray(problem.B), jnp.asarray(4 * n, jnp.int32)),)
            solver = solvers.TrustRegion(preconditioner=solvers.Analytic(), max_steps=60, tolerance=0.0)
        else:

            def quadratic(point, A, B):
                return jnp.sum(point * (A @ point @ B))

            objective = quadratic
            arguments = (jnp.asarray(problem.A), jnp.asarray(problem.B))
            solver = solvers.LBFGS(preconditioner=solvers.Kronecker(), max_steps=60, tolerance=0.0)
        return lambda: solvers.minimise(objective, jnp.eye(n), *arguments, solver=solver, group="SO").value
    if name == "insens":
        from benchmarks.insens import network

        new = importlib.util.find_spec("jaxdescramble.attribution.switched")
        switched = importlib.import_module("jaxdescramble.attribution.switched" if new else "jaxdescramble.switched")
        shapes = [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 1024), (1024, 10)]
        rng = np.random.default_rng(0)
        params = [jnp.asarray(rng.standard_normal(s) * (2 / np.prod(s[:-1])) ** 0.5, "float32") for s in shapes]
        images = jnp.asarray(rng.standard_normal((8, 28, 28, 1)), "float32")
        program = jax.jit(lambda x: jnp.sum(jnp.abs(jax.tree.leaves(switched.insens(network, params, x))[0])))
        return lambda: program(images)
    from benchmarks.path_kernel import LAYERS, WIDTH, streamed

    rng = np.random.default_rng(0)
    gates = [jnp.asarray(rng.random((2000, WIDTH), "float32") > 0.5, "int8") for _ in range(LAYERS)]
    data = jnp.asarray(rng.standard_normal((2000, 784), "float32")), gates
    return lambda: streamed(data)


def worker(data):
    """Answer lines "repeats name" with "seconds value"; the first call of a name compiles."""
    import jax

    known = {}
    for line in sys.stdin:
        repeats, name = line.strip().split(" ", 1)
        if name not in known:
            known[name] = calls(name, Path(data))
            jax.block_until_ready(known[name]())
        begun, value = time.perf_counter(), None
        for _ in range(int(repeats)):
            value = jax.block_until_ready(known[name]())
        print(time.perf_counter() - begun, float(np.asarray(value)), flush=True)


class Version:
    """A process that runs one version. It imports the package, and the benchmarks of the same folder."""

    def __init__(self, folder: Path, data: Path | None):
        code = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2])['worker'](sys.argv[3])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), __file__, str(data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def __call__(self, name: str, repeats: int = 1) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{repeats} {name}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if len(answer) != 2:
            raise RuntimeError(f"{name}: the worker process stopped; its message is above.")
        return float(answer[0]), float(answer[1])


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Return the median, and the order statistics that enclose the true median with probability at least .95."""
    from scipy.stats import binom

    ordered, count = np.sort(ratios), len(ratios)
    below = max(int(binom.ppf(0.025, count, 0.5)) - 1, 0)
    return float(np.median(ordered)), float(ordered[below]), float(ordered[count - 1 - below])


def cases(every: bool) -> tuple[str, ...]:
    """Return the names of the cases of `benchmarks.wild` to compare."""
    from benchmarks.wild.cases import END, TUNE

    return tuple(one.name for one in (*TUNE, *END)) if every else WILD


def main(old: Path, new: Path, pairs: int, data: Path | None, every: bool, limit: float, out: Path):
    data = None if data is None else data.resolve()
    versions = [Version(old.resolve(), data), Version(new.resolve(), data)]
    lines = [
        "# Two versions of the package, in turns",
        "",
        f"`python -m benchmarks.versions OLD NEW --pairs {pairs} --limit {limit:g}`; {platform.machine()}, "
        f"{os.cpu_count()} cores. Ratio: seconds of the new version over seconds of the old one, median of the pairs, "
        "with a 95% interval (with fewer than six pairs: the whole range). "
        f"Load of the machine when this began: {os.getloadavg()[0]:.1f}.",
        "",
        "| work | pairs | old, ms | new, ms | ratio | interval | results differ by |",
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    work = WORK | ({name: name for name in cases(every)} if data else {})
    for title, name in work.items():
        values = [version(name)[1] for version in versions]
        once = min(version(name)[0] for version in versions)
        repeats = max(1, int(np.ceil(LEAST / once)))
        seconds: list[list[float]] = [[], []]
        count = max(1, min(pairs, int(limit / (2 * once * repeats))))
        for pair in range(count):
            for which in (0, 1) if pair % 2 == 0 else (1, 0):
                seconds[which].append(versions[which](name, repeats)[0] / repeats)
        middle, low, high = interval([b / a for a, b in zip(*seconds, strict=True)])
        milliseconds = [1e3 * float(np.median(one)) for one in seconds]
        lines.append(
            f"| {title} | {count} | {milliseconds[0]:.2f} | {milliseconds[1]:.2f} | {middle:.3f} | "
            f"{low:.3f} to {high:.3f} | {abs(values[1] - values[0]) / max(abs(values[0]), 1e-300):.0e} |"
        )
        print(lines[-1], flush=True)
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "versions.md")
    given = parser.parse_args()
    main(given.old, given.new, given.pairs, given.data, given.all, given.limit, given.out)
