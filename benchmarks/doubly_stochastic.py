"""Compare directions of Frank-Wolfe on doubly stochastic matrices: exact assignment, or the Sinkhorn of ott-jax.

Run: python -m benchmarks.doubly_stochastic [--starts 16] [--out FILE]    (needs ott-jax)

Both begin at the same random doubly stochastic starts, each in one compiled and vmapped program. The direction of our
relaxation is the permutation of an exact assignment. The rival takes the same steps with the transport plan of ott-jax
as direction, at two entropies (in units of the slope's spread). Both results are rounded to the nearest permutation.
Values are gaps to the known optimum in percent: the median and the best over the starts.
"""

import argparse
import os
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ott.geometry.geometry import Geometry  # pyright: ignore[reportMissingImports]
from ott.solvers.linear import solve  # pyright: ignore[reportMissingImports]

from benchmarks.qaplib import load
from benchmarks.quadratic_assignment import planted
from jaxdescramble.manifolds import permutation
from jaxdescramble.solvers.assignment._starts import RELAXED_STEPS, quadratic, random_stochastic, relax

ENTROPIES = (0.1, 0.01)


def by_transport(a, b, start, entropy):
    """Run Frank-Wolfe with an entropic transport plan as direction, and the exact step along it."""
    n = len(a)
    even = jnp.full(n, 1 / n)

    def step(P, _):
        slope = a @ P @ b.T + a.T @ P @ b
        geometry = Geometry(slope - jnp.min(slope), epsilon=entropy * jnp.std(slope))
        plan = n * solve(geometry, even, even, max_iterations=2000).matrix
        D = plan - P
        downhill, curvature = -jnp.sum(slope * D), jnp.sum((a @ D) * (D @ b.T).conj())
        convex = curvature > 0
        length = jnp.where(convex, jnp.clip(downhill / jnp.where(convex, 2 * curvature, 1), 0, 1), 1)
        return P + jnp.where(downhill > 0, length, 0) * D, None

    return permutation.nearest(jax.lax.scan(step, start, length=RELAXED_STEPS)[0])


def row(name, a, b, optimum, starts):
    a, b = jnp.asarray(a, float), jnp.asarray(b, float)
    points = jax.vmap(lambda key: random_stochastic(key, len(a), a.dtype))(jax.random.split(jax.random.key(0), starts))
    ways = [("assignment", relax)]
    ways += [(f"Sinkhorn, {e:g}", lambda a, b, p, e=e: by_transport(a, b, p, e)) for e in ENTROPIES]
    for way, function in ways:
        program = jax.jit(jax.vmap(function, (None, None, 0)))
        jax.block_until_ready(program(a, b, points))
        begun = time.perf_counter()
        found = jax.block_until_ready(program(a, b, points))
        seconds = time.perf_counter() - begun
        values = np.asarray(jax.vmap(quadratic, (None, None, 0))(a, b, found))
        gaps = 100 * (values - optimum) / abs(optimum)
        yield f"| {name} | {way} | {np.median(gaps):.2f} | {gaps.min():.2f} | {1e3 * seconds / starts:.1f} |"


def main(starts: int, out: Path):
    lines = ["# Directions of Frank-Wolfe: assignment against Sinkhorn", ""]
    lines += [f"`python -m benchmarks.doubly_stochastic`; {platform.machine()}, {os.cpu_count()} cores, jax "
              f"{jax.__version__}, float64, {starts} starts, at most {RELAXED_STEPS} steps.", ""]  # fmt: skip
    lines += ["| instance | directions | median gap, % | best gap, % | ms a start |", "|---|---|---|---|---|"]
    problems = [(name, *load(name)[:3]) for name in ("nug20", "nug30", "tai25a", "chr25a", "kra30a", "sko42")]
    problems += [("planted 50", *planted(50))]
    for problem in problems:
        for text in row(*problem, starts):
            lines.append(text)
            print(text, flush=True)
            out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "doubly_stochastic.md")
    jax.config.update("jax_enable_x64", True)
    main(**vars(parser.parse_args()))
