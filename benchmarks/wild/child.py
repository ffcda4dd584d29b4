"""One rival on one case, in a process of its own.

Run: python -m benchmarks.wild.child CASE RIVAL --data FOLDER --out FILE

Started by `run.py`, which sets the number of threads; the process keeps to one core. The record is the trace of each
start: seconds, and the lowest value so far.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers.reference import Done
from benchmarks.wild.cases import END, TUNE
from benchmarks.wild.rivals import RATES, RIVALS, geoopt_adam
from benchmarks.wild.task import Task


def traced(task: Task, rival: Any, start: np.ndarray) -> list[tuple[float, float]]:
    """Return the trace of one rival from one start."""
    task.begin()
    with contextlib.suppress(Done):
        rival(task, start)
    return task.ended()


def of_rival(task: Task, name: str, starts: int) -> dict[str, Any]:
    """Return the traces of a rival from each start; geoopt is given the best of five rates, found apart."""
    rival, record, limit = RIVALS[name], {}, task.limit_s
    task.limit_s = min(0.5, limit)
    traced(task, rival, task.starts[0])  # all is imported and compiled
    task.limit_s = limit
    if name == "geoopt_adam":
        task.limit_s = min(3.0, limit)
        reached = {}
        for rate in RATES:
            traced(task, lambda task, start, rate=rate: geoopt_adam(task, start, rate), task.starts[0])
            reached[rate] = task.lowest
        rate, task.limit_s = min(reached, key=lambda rate: reached[rate]), limit
        rival, record = lambda task, start: geoopt_adam(task, start, rate), {"rate": rate}
    return record | {"traces": [traced(task, rival, start) for start in task.starts[:starts]]}


def of_ours(task: Task, seconds: float) -> dict[str, Any]:
    """Return what `jd.descramble` reaches within shorter and shorter times, and what it makes of all the time."""
    import jaxdescramble as jd
    from jaxdescramble.descrambling._planning import solver_for

    def call(**options: Any) -> tuple[float, Any]:
        began = time.perf_counter()
        found = jax.block_until_ready(jd.descramble(task.signals, task.objective, **options))
        return time.perf_counter() - began, found

    cold, _ = call()
    whole, found = call()
    call(max_seconds=whole / 2)  # what a deadline needs is compiled
    trace = [(whole, float(found.value))]
    for part in 0.75 ** np.arange(1, 16) if whole < 10 else 0.6 ** np.arange(1, 9):
        taken, one = call(max_seconds=whole * part)
        if taken < trace[-1][0]:
            trace.append((taken, float(one.value)))
    record = {"cold": cold, "whole": whole, "value": float(found.value), "steps": int(found.steps)}
    record |= {"status": jd.Status(int(found.status)).name, "traces": [sorted(trace)]}
    # The same solver with all the time: as many starts as half of the time allows, and a finer end.
    solver: Any = solver_for(task.objective)
    more = max(1, min(100, int(seconds / 2 / whole)))
    last = solver.solver.solvers[-1]
    fine = dataclasses.replace(last, solver=dataclasses.replace(last.solver, decrease=1e-6))
    chain = dataclasses.replace(solver.solver, solvers=(solver.solver.solvers[0], fine))
    longer = dataclasses.replace(solver, solver=chain)
    taken, one = call(solver=longer, restarts=more, key=jax.random.key(1), max_seconds=seconds)
    longer = float(one.value) if whole > seconds else min(float(one.value), float(found.value))
    return record | {"longer_s": taken, "longer": longer}


def main() -> None:
    """Solve, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("name", choices=(*RIVALS, "ours"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=30.0)
    parser.add_argument("--starts", type=int, default=2)
    parser.add_argument("--core", type=int, default=-1, help="the core to keep to; -1 for any")
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    warnings.simplefilter("ignore")
    case = next(one for one in TUNE + END if one.name == given.case)
    task = Task(case, given.data, given.limit)
    record = {"case": case.name, "name": given.name, "n": task.n, "m": task.signals.shape[1], "limit": given.limit}
    record |= of_ours(task, given.limit) if given.name == "ours" else of_rival(task, given.name, given.starts)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(record | {"load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
