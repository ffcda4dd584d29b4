"""Independent components, sparsity with exact rivals: `python -m benchmarks.peers.sparsity NAME N --out FILE`.

Started by `run.py`. Everybody is given the same whitened signals and the same start, and is timed for just as many
steps as bring `max |skew(E tanh(Y) Y^T)|`, computed here, below one tolerance.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 20_000
TOLERANCE = 1e-7  # Picard's own default
MOST = 512


def whitened(n: int, m: int = SAMPLES) -> np.ndarray:
    """Laplace sources, mixed at random, whitened by PCA: `X X^T = m`."""
    chance = np.random.default_rng(n)
    mixed = chance.standard_normal((n, n)) @ chance.laplace(size=(n, m))
    mixed -= mixed.mean(axis=1, keepdims=True)
    _, _, Vh = np.linalg.svd(mixed, full_matrices=False)
    return np.ascontiguousarray(Vh * np.sqrt(m))


def figure(W: np.ndarray, X: np.ndarray) -> float:
    """Mean of log cosh over all entries of Y, W projected onto the group first."""
    U, _, Vh = np.linalg.svd(W)
    size = np.abs(U @ Vh @ X)
    return float(np.mean(size + np.log1p(np.exp(-2 * size)) - np.log(2)))


def gradient(W: np.ndarray, X: np.ndarray) -> float:
    """Return the largest entry of the relative gradient, which is Picard's own criterion."""
    U, _, Vh = np.linalg.svd(W)
    Y = U @ Vh @ X
    G = np.tanh(Y) @ Y.T / Y.shape[1]
    return float(np.abs(G - G.T).max() / 2)


@dataclasses.dataclass(frozen=True)
class Method:
    """`build(X)` gives a function of the number of steps that returns W, or of None for "until satisfied"."""

    label: str
    build: Callable[[np.ndarray], Callable[[int], np.ndarray]]
    packages: tuple[str, ...]


def picard_o(X: np.ndarray) -> Callable[[int], np.ndarray]:
    """python-picard with its defaults: tanh, extended, m = 7; without numexpr, which makes it slower here."""
    sys.modules["numexpr"] = None  # pyright: ignore[reportArgumentType]
    from picard import picard  # pyright: ignore[reportMissingImports]

    def solve(steps: int) -> np.ndarray:
        start = np.eye(len(X))
        return picard(X, whiten=False, centering=False, w_init=start, max_iter=steps, tol=TOLERANCE)[1]

    return solve


def fastica(X: np.ndarray) -> Callable[[int], np.ndarray]:
    """scikit-learn, parallel, logcosh."""
    from sklearn.decomposition import fastica as solver  # pyright: ignore[reportMissingImports]

    def solve(steps: int) -> np.ndarray:
        settings: dict[str, Any] = {"whiten": False, "w_init": np.eye(len(X)), "compute_sources": False}
        return solver(X.T, algorithm="parallel", fun="logcosh", tol=0.0, max_iter=steps, **settings)[1]

    return solve


def ours(make: Callable[[Any], Any]) -> Callable[[np.ndarray], Callable[[int], np.ndarray]]:
    """Return a solver of this library on its own sparsity objective."""

    def build(X: np.ndarray) -> Callable[[int], np.ndarray]:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp

        from jaxdescramble import objectives, solvers

        objective = objectives.sparsity("logcosh", epsilon=1.0)
        summary, start = objective.summarise(jnp.asarray(X)), jnp.eye(len(X))
        solver: Any = make(solvers)

        def solve(steps: int) -> np.ndarray:
            if isinstance(solver, solvers.Progressive):  # the steps are those of the last stage
                inner: Any = solver.solver
                limited = dataclasses.replace(inner, max_steps=steps, tolerance=0.0)
                limited = dataclasses.replace(solver, solver=limited)
            else:
                limited = dataclasses.replace(solver, max_steps=steps, tolerance=0.0)
            return np.asarray(solvers.minimise(objective, start, summary, solver=limited).point)

        return solve

    return build


OURS = ("jaxdescramble", "jax")
METHODS = {
    "picard_o": Method("Picard-O", picard_o, ("python-picard", "numpy")),
    "fastica": Method("FastICA (parallel, logcosh)", fastica, ("scikit-learn",)),
    "ours_lbfgs": Method("**L-BFGS, bare**", ours(lambda s: s.LBFGS(preconditioner=None)), OURS),
    "ours_progressive": Method(
        "**L-BFGS, bare, an eighth of the samples first**",
        ours(lambda s: s.Progressive(s.LBFGS(preconditioner=None))),
        OURS,
    ),
    "ours_lbfgs_analytic": Method("**L-BFGS, Analytic**", ours(lambda s: s.LBFGS(preconditioner=s.Analytic())), OURS),
    "ours_tr": Method("**trust region, Analytic**", ours(lambda s: s.TrustRegion(preconditioner=s.Analytic())), OURS),
    "ours_cg": Method("**CG, Analytic**", ours(lambda s: s.ConjugateGradient(preconditioner=s.Analytic())), OURS),
}


def fewest(solve: Callable[[int], np.ndarray], X: np.ndarray) -> tuple[int, bool]:
    """Return the least number of steps that satisfies the tolerance, by doubling and halving, and whether it exists."""
    steps = 8
    while gradient(solve(steps), X) > TOLERANCE:
        if steps >= MOST:
            return steps, False
        steps *= 2
    low, high = (0 if steps == 8 else steps // 2), steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if gradient(solve(middle), X) <= TOLERANCE else (middle, high)
    return high, True


def main() -> None:
    """Measure one method, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=METHODS)
    parser.add_argument("n", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--core", type=int, default=-1)
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    warnings.simplefilter("ignore")  # that few steps were enough is what is looked for
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[given.clock]
    method, X = METHODS[given.name], whitened(given.n)
    solve = method.build(X)

    def timed(steps: int) -> tuple[float, np.ndarray]:
        start = clock()
        found = solve(steps)
        return clock() - start, found

    cold, _ = timed(1)
    warm, _ = timed(1)
    steps, reached = fewest(solve, X)
    runs = [timed(steps) for _ in range(5)]
    W = runs[0][1]
    record = {"name": given.name, "label": method.label, "n": given.n, "m": SAMPLES, "tolerance": TOLERANCE}
    record |= {"seconds": float(np.median([one for one, _ in runs])), "steps": steps, "reached": reached}
    record |= {"figure": figure(W, X), "gradient": gradient(W, X), "compile_s": max(cold - warm, 0.0), "note": ""}
    record |= {"clock": given.clock, "versions": {one: importlib.metadata.version(one) for one in method.packages}}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
