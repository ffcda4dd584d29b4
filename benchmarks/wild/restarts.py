"""Does a default call lose to its own restarts, or to a frame that was hidden in the signals?

Run: python -m benchmarks.wild.restarts --data FOLDER [--restarts 8] [--seeds 4] [--only TEXT] [--out FILE]

Each case is solved by the default call and by `restarts=8`, in float64. Wild cases are the 16 to tune on. Planted cases
are signals with a hidden frame (`datasets.planted`), n = 32 and m = 320, for several seeds.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402

import jaxdescramble as jd  # noqa: E402
from benchmarks.peers.table import hardware  # noqa: E402
from benchmarks.wild.cases import OBJECTIVES, TUNE, signals_of  # noqa: E402
from jaxdescramble.datasets import planted  # noqa: E402
from jaxdescramble.objectives import locality, sparsity, total_variation  # noqa: E402

N, TIMES = 32, 10
LOST = 0.01


def hidden(seeds: int) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the name, the signals, the objective and the hidden frame of each planted case."""
    kinds = {
        "sparse, l1": (planted.sparse, {"active": 0.15}, sparsity()),
        "sparse, log-cosh": (planted.sparse, {"active": 0.15}, sparsity("logcosh")),
        "piecewise constant, total variation": (planted.piecewise_constant, {}, total_variation(boundary="neumann")),
        "local, locality": (planted.local, {}, locality("neumann")),
        "local and smooth, locality": (planted.local, {"smooth": True}, locality("neumann")),
    }
    for name, (generator, options, objective) in kinds.items():
        for seed in range(seeds):
            problem = generator(jax.random.key(seed), N, TIMES * N, dtype=jnp.float64, **options)
            yield f"planted {name}, seed {seed}", problem.signals, objective, problem.frame


def wild(data: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the name, the signals and the objective of each case to tune on; no frame is known."""
    for case in TUNE:
        signals = jnp.asarray(signals_of(case, data))
        yield case.name, signals, OBJECTIVES[case.objective](len(signals)), None


def row(name: str, signals: Any, objective: Any, frame: Any, restarts: int) -> tuple[str, float, float | None]:
    """Return a row of the table, and how far the default lies above its restarts and above the hidden frame."""
    began = time.perf_counter()
    alone = float(jd.descramble(signals, objective).value)
    more = float(jd.descramble(signals, objective, restarts=restarts, key=jax.random.key(7)).value)
    lost = (alone - more) / abs(more)
    goal = None if frame is None else float(objective(frame, objective.summarise(signals)))
    above = None if goal is None else (alone - goal) / abs(goal)
    cells = (name, f"{alone:.5f}", f"{more:.5f}", f"{lost:+.2%}")
    cells += ("", "") if goal is None else (f"{goal:.5f}", f"{above:+.2%}")
    print(*cells, f"{time.perf_counter() - began:.0f} s", flush=True)
    return f"| {' | '.join(cells)} |", lost, above


def main() -> None:
    """Solve all cases, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--restarts", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", default="", help="only the cases whose names contain this text")
    parser.add_argument("--core", type=int, default=(os.cpu_count() or 1) - 1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "wild_restarts.md")
    given = parser.parse_args()
    os.sched_setaffinity(0, {given.core})
    cases = [one for one in (*hidden(given.seeds), *wild(given.data)) if given.only in one[0]]
    rows, losses, gaps = zip(*(row(*one, given.restarts) for one in cases), strict=True)
    known = [gap for gap in gaps if gap is not None]
    lines = [
        "# The default call beside its own restarts",
        "",
        f"`python -m benchmarks.wild.restarts`; {hardware()}, one of them used, jax {jax.__version__}. float64. "
        f"`restarts={given.restarts}`; the hidden frame of planted signals in the last columns.",
        "",
        f"The default is at most {LOST:.0%} higher than its restarts in {sum(one <= LOST for one in losses)} of "
        f"{len(losses)} cases, and than the hidden frame in {sum(one <= LOST for one in known)} of {len(known)}.",
        "",
        f"| case | default | restarts={given.restarts} | default above | hidden frame | default above |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
