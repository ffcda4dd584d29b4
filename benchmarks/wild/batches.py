"""Batches of wild cases: 8 and 64 problems in one vmapped call, beside a loop over compiled calls.

Run: python -m benchmarks.wild.batches --data FOLDER [--problems 8 64] [--out FILE]

A problem of a batch is the case with its features turned by a random rotation of its own. Float64, one thread; both
sides are compiled before, and take turns.
"""

import argparse
import os
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402

import jaxdescramble as jd  # noqa: E402
from benchmarks.peers.table import hardware  # noqa: E402
from benchmarks.wild.cases import OBJECTIVES, TUNE, signals_of  # noqa: E402
from jaxdescramble.manifolds import orthogonal  # noqa: E402

LARGEST = 64
"""Largest number of features of the cases."""


def row(case, data: Path, problems: int) -> str:
    """Measure one case; return a row of the table."""
    S = jnp.asarray(signals_of(case, data))
    objective = OBJECTIVES[case.objective](len(S))
    keys = jax.random.split(jax.random.key(0), problems)
    batch = jax.vmap(lambda key: orthogonal.random(key, len(S)) @ S)(keys)
    program = jax.jit(lambda S: jd.descramble(S, objective))

    def together():
        return program(batch).value

    def loop():
        return jnp.stack([program(one).value for one in batch])

    def timed(run):
        began = time.perf_counter()
        values = jax.block_until_ready(run())
        return time.perf_counter() - began, values

    first = timed(together)[0], timed(loop)[0]
    pairs = [(timed(together), timed(loop)) for _ in range(2)]
    (one, values), (other, looped) = min(pairs, key=lambda pair: pair[0][0])
    apart = float(jnp.max(jnp.abs(values - looped) / jnp.abs(looped)))
    spread = float((jnp.max(values) - jnp.min(values)) / jnp.abs(jnp.mean(values)))
    cells = (case.name, len(S), problems, f"{one:.2f}", f"{other:.2f}", f"{other / one:.2f}")
    cells += (f"{1e3 * one / problems:.0f}", f"{apart:.1e}", f"{spread:.1%}", f"{first[0] - one:.1f}")
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure all small cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--problems", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    default = Path(__file__).parents[1] / "results" / "wild_batches.md"
    parser.add_argument("--out", type=Path, default=default)
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    lines = [
        "# Batches on signals of ordinary networks",
        "",
        f"`python -m benchmarks.wild.batches`; {hardware()}, one of them used, jax {jax.__version__}. float64. "
        "Seconds of one vmapped call and of a loop over compiled calls; on a CPU both solve one problem after another. "
        '"Apart" is the largest difference of values, "spread" that between the rotated copies of one case.',
        "",
        "| case | n | problems | vmapped, s | loop, s | loop / vmapped | ms a problem | apart | spread | compile, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for problems in given.problems:
        for case in TUNE:
            if len(signals_of(case, given.data)) <= LARGEST:
                lines.append(row(case, given.data, problems))
                print(lines[-1], flush=True)
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
