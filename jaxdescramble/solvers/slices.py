"""Solves outside `jit`, in slices of a fraction of a second, so that they can be followed and stopped.

The steps are those of `descent.descend`: a slice is a program that takes the loop at most so many steps further, and
how many these are makes no difference to where it goes. Between two slices the host looks at its `Watch`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble.programs import quick_jit
from jaxdescramble.solvers import descent
from jaxdescramble.solvers.descent import RUNNING, Loop, Report
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.watch import Watch
from jaxdescramble.status import Status

SECONDS = 0.2
"""How long a slice should take."""

RATE, FIRST = 4e9, 16
"""Operations a second that the first slice is sized by, before any is measured, and how many steps it has at most."""


def solve_in_slices(
    function: Callable, start: Float[Array, "n n"], args: tuple, solver: Any, report: Report
) -> Solution:
    """One problem of a solver that can `bind`; what is found until the watch stops it, if it does."""
    steps = _first_steps(start.shape[-1], sum(np.size(leaf) for leaf in jax.tree.leaves(args)), 1)
    return _run(_Slices(function, args, solver, report), start, report.watch, steps, done=0, total=1)


def solve_many_in_slices(
    function: Callable, starts: Float[Array, "batch n n"], args: tuple, solver: Any, report: Report, own: bool
) -> Solution:
    """A batch of problems of a solver that can `bind`, in groups that make slices of the right length.

    Args:
        function: the same for all problems.
        starts: one for each problem.
        args: data; with a leading axis for the problems if `own`, else the same for all.
        solver, report: as in `solve`.
        own: see `args`.
    """
    count, n = starts.shape[0], starts.shape[-1]
    watch, found = report.watch, []
    entries = sum(np.size(leaf) for leaf in jax.tree.leaves(args)) // (count if own else 1)
    how = "in turn" if all(device.platform == "cpu" for device in starts.devices()) else "in step"
    size = min(_first_steps(n, entries, 1), count) if how == "in turn" else count
    for first in range(0, count, size):
        # The last group is filled up with copies of its last problem, so that all groups are one program.
        places = np.minimum(np.arange(first, first + size), count - 1)
        part = _taken(args, places) if own and size < count else args
        group = _Slices(function, part, solver, report, own, how)
        steps = _first_steps(n, entries, size)
        begin = starts if size == count else starts[places]
        found.append(_run(group, begin, watch, steps, done=first, total=count))
    return found[0] if len(found) == 1 else _joined(found, count)


@quick_jit
def _taken(args: Any, places: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[places], args)


@functools.partial(quick_jit, static_argnames="count")
def _joined(found: list[Solution], count: int) -> Solution:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *found)


@dataclasses.dataclass(frozen=True)
class _Slices:
    """A problem, or a group of them, as its programs take it.

    Attributes:
        own: whether each problem of a group has data of its own, with a leading axis.
        how: "alone", or for a group "in turn" (on CPUs, where a matrix fills the cores by itself), "in step" elsewhere.
    """

    function: Callable
    args: tuple
    solver: Any
    report: Report
    own: bool = False
    how: str = "alone"

    def begin(self, start: Array) -> tuple[Loop, Solution, Array]:
        return _begin(self.function, start, self.args, self.solver, self.report.compiled, self.own, self.how)

    def advance(self, loop: Loop, steps: int) -> tuple[Loop, Solution, Array]:
        limit = np.int32(steps)
        return _advance(self.function, self.args, self.solver, loop, limit, self.report.compiled, self.own, self.how)


def _run(group: _Slices, start: Array, watch: Watch, steps: int, done: int, total: int) -> Solution:
    loop, found, left = group.begin(start)
    per_step = None
    try:
        running = int(left) if watch.wait(left) else 0
        while running and not watch.over():
            before = time.perf_counter()
            later, better, left = group.advance(loop, steps)
            if not watch.wait(left):
                break
            loop, found, running = later, better, int(left)
            seconds, taken = time.perf_counter() - before, int(np.max(np.asarray(found.steps)))
            per_step, steps = _next(per_step, seconds, steps, watch.remaining)
            _tell(watch, found, taken, group, done, total)
    except KeyboardInterrupt:  # while a program was traced or compiled
        watch.stopped = Status.INTERRUPTED
    if watch.stopped is None:
        return found
    status = jnp.where(found.status == RUNNING, watch.stopped, found.status).astype(jnp.int32)
    return dataclasses.replace(found, status=status)


def _next(per_step: float | None, seconds: float, steps: int, remaining: float) -> tuple[float, int]:
    """What a step costs, and how many steps the next slice takes; the first slice is not believed, it may compile."""
    if per_step is None:
        return float("inf"), steps
    cost = max(seconds / steps, 1e-7)
    wanted = min(SECONDS, max(remaining, 0)) / cost
    return cost, int(np.clip(wanted, 1, 8 * steps))


def _tell(watch: Watch, found: Solution, taken: int, group: _Slices, done: int, total: int) -> None:
    if watch.progress is None:
        return
    name = type(group.solver).__name__
    if group.how == "alone":
        watch.tell(f"{name}, value {float(found.value):.6g}", taken, int(np.asarray(group.solver.max_steps)))
        return
    finished = int(np.sum(np.asarray(found.status) != RUNNING))
    if not group.own:  # one problem from several starts
        best = float(np.nanmin(np.asarray(found.value), initial=np.inf))
        watch.tell(f"{name} from {total} starts, value {best:.6g}", taken, int(np.asarray(group.solver.max_steps)))
        return
    watch.tell(f"{name}, at most {taken} steps a problem", min(done + finished, total), total)


def _first_steps(n: int, entries: int, problems: int) -> int:
    """How many steps the first slice takes, from a count of operations: sixty products of n x n, six with the data."""
    return int(np.clip(SECONDS * RATE / (problems * (60 * n**3 + 12 * n * entries + 1e4)), 1, FIRST))


def _each(run: Callable, how: str, *batched: Any) -> Any:
    if how == "alone":
        return run(*batched)
    return jax.lax.map(lambda mine: run(*mine), batched) if how == "in turn" else jax.vmap(run)(*batched)


@functools.partial(quick_jit, static_argnames=("report", "own", "how"))
def _begin(
    function: Callable, start: Array, args: tuple, solver: Any, report: Report, own: bool, how: str
) -> tuple[Loop, Solution, Array]:
    def run(start: Array, mine: Any) -> tuple[Loop, Solution]:
        loop = descent.begin(function, start, mine if own else args, solver, report)
        return loop, descent.finish(loop, solver)

    loop, found = _each(run, how, start, args if own else None)
    return loop, found, jnp.sum(found.status == RUNNING)


@functools.partial(quick_jit, static_argnames=("report", "own", "how"))
def _advance(
    function: Callable, args: tuple, solver: Any, loop: Loop, steps: Array, report: Report, own: bool, how: str
) -> tuple[Loop, Solution, Array]:
    def run(loop: Loop, mine: Any) -> tuple[Loop, Solution]:
        loop = descent.advance(function, mine if own else args, solver, report, loop, steps)
        return loop, descent.finish(loop, solver)

    loop, found = _each(run, how, loop, args if own else None)
    return loop, found, jnp.sum(found.status == RUNNING)
