"""Solves outside `jit`, in slices of a fraction of a second, so that you can follow and stop them.

The steps are those of `descent.descend`. A slice is one program that takes the loop at most a given number of steps
further; this number never changes the result. Between two slices the host looks at its `Watch`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.programs import quick_jit
from jaxdescramble._base.status import Status
from jaxdescramble.solvers import descent
from jaxdescramble.solvers.descent import RUNNING, Descent, Function, Loop, RunOptions
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.watch import Watch

SECONDS = 0.2
"""Target duration of a slice, in seconds."""

TOGETHER = 10**7
"""If all starts of a problem have at most this many entries of P together, they take turns; otherwise memory has room
for one."""

RATE, FIRST = 4e9, 16
"""Assumed operations per second before any slice is measured, and the largest number of steps of the first slice."""


def solve_in_slices(
    function: Function, start: PyTree, args: tuple, solver: Descent, options: RunOptions, watch: Watch
) -> Solution:
    """Solve one problem with a solver that has `bind`. If the watch stops the solve, return the best point so far."""
    lane = _Lane(_Slices(function, args, solver, options), start, _first_steps(start, options, _entries(args), 1))
    return _run([lane], watch)[0]


def solve_many_in_slices(
    function: Function,
    starts: PyTree,
    args: tuple,
    solver: Descent,
    options: RunOptions,
    watch: Watch,
    own: bool,
) -> Solution:
    """Solve a batch of problems with a solver that has `bind`.

    On a CPU, several starts of one problem take turns, slice by slice, so that a deadline finds all of them equally
    far. Problems with their own data are solved one after another, small ones in groups. On other devices all problems
    advance in step.

    Args:
        function: the same function for all problems.
        starts: one start for each problem.
        args: data of the function; with `own`, the leading axis of every leaf counts the problems.
        solver, options: see `solve`.
        watch: follows the solves.
        own: whether each problem has its own data.
    """
    leaves = jax.tree.leaves(starts)
    count, one = len(leaves[0]), jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), starts)
    entries = _entries(args) // (count if own else 1)
    in_turn = all(device.platform == "cpu" for leaf in leaves for device in leaf.devices())
    steps = _first_steps(one, options, entries, 1)
    size = min(steps, count) if in_turn and own else count
    if in_turn and (not own or size == 1):
        # Make each lane when it is needed, because a lane holds a copy of its data.
        lanes = (
            _Lane(_Slices(function, _taken(args, k) if own else args, solver, options), start, steps)
            for k, start in enumerate(_apart(starts))
        )
        if not own and _entries(starts) <= TOGETHER:
            return _stacked(_run(list(lanes), watch))
        return _stacked([_run([lane], watch, k, count)[0] for k, lane in enumerate(lanes)])
    found, how = [], "in turn" if in_turn else "in step"
    for first in range(0, count, size):
        # Fill the last group with copies of its last problem, so that one program serves all groups.
        places = np.minimum(np.arange(first, first + size), count - 1)
        part = _taken(args, places) if own and size < count else args
        begin = starts if size == count else _taken(starts, places)
        group = _Slices(function, part, solver, options, own, how)
        lane = _Lane(group, begin, _first_steps(one, options, entries, size))
        found += _run([lane], watch, first, count)
    return found[0] if len(found) == 1 else _joined(found, count)


@quick_jit
def _apart(starts: PyTree) -> list[PyTree]:
    return [jax.tree.map(lambda leaf, k=k: leaf[k], starts) for k in range(len(jax.tree.leaves(starts)[0]))]


@quick_jit
def _stacked(found: list[Solution]) -> Solution:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@quick_jit
def _taken(args: PyTree, places: ArrayLike) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[places], args)


@functools.partial(quick_jit, static_argnames="count")
def _joined(found: list[Solution], count: int) -> Solution:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *found)


@dataclasses.dataclass(frozen=True)
class _Slices:
    """A problem, or a group of problems, in the form that the compiled programs take.

    Attributes:
        own: whether each problem of a group has its own data, with a leading axis.
        how: "alone"; or for a group "in turn" (on CPUs, where one matrix fills the cores) or "in step" (elsewhere).
    """

    function: Function
    args: tuple
    solver: Descent
    options: RunOptions
    own: bool = False
    how: str = "alone"

    def begin(self, start: PyTree) -> tuple[Loop, Solution, Array]:
        return _begin(self.function, start, self.args, self.solver, self.options.compiled, self.own, self.how)

    def advance(self, loop: Loop, steps: int) -> tuple[Loop, Solution, Array]:
        limit = np.int32(steps)
        options = self.options.compiled
        return _advance(self.function, self.args, self.solver, options, loop, limit, self.own, self.how)


@dataclasses.dataclass
class _Lane:
    """A solve in progress: its state, and the number of steps of its next slice."""

    group: _Slices
    start: PyTree
    steps: int
    loop: Loop = dataclasses.field(init=False)
    found: Solution = dataclasses.field(init=False)
    running: int = 1
    per_step: float | None = None

    def open(self, watch: Watch) -> None:
        """Evaluate the start; Ctrl-C stops the watch."""
        self.loop, self.found, left = self.group.begin(self.start)
        self.running = int(left) if watch.wait(left) else 0

    def go_on(self, watch: Watch) -> None:
        """Take the next slice; on Ctrl-C, keep the state as it was."""
        before = time.perf_counter()
        loop, found, left = self.group.advance(self.loop, self.steps)
        if watch.wait(left):
            self.loop, self.found, self.running = loop, found, int(left)
            seconds = time.perf_counter() - before
            self.per_step, self.steps = _next(self.per_step, seconds, self.steps, watch.remaining)


def _run(lanes: list[_Lane], watch: Watch, done: int = 0, total: int = 1) -> list[Solution]:
    """Run lanes in turn, one slice each, until all have finished or the watch stops them."""
    for lane in lanes:
        try:
            lane.open(watch)
        except KeyboardInterrupt:  # while the program was traced or compiled
            if not watch.answered:
                raise  # nothing is lost
            watch.stopped = Status.INTERRUPTED
            lane.open(watch)
        watch.answered = True
    try:
        while any(lane.running for lane in lanes) and not watch.over():
            for lane in lanes:
                if lane.running and not watch.over():
                    lane.go_on(watch)
            _tell(watch, lanes, done, total)
    except KeyboardInterrupt:  # while a program was traced or compiled
        watch.stopped = Status.INTERRUPTED
    if watch.stopped is None:
        return [lane.found for lane in lanes]
    return [_marked(lane.found, np.int32(watch.stopped)) for lane in lanes]


@quick_jit
def _marked(found: Solution, stopped: ArrayLike) -> Solution:
    status = jnp.where(found.status == RUNNING, stopped, found.status).astype(jnp.int32)
    return dataclasses.replace(found, status=status)


def _next(per_step: float | None, seconds: float, steps: int, remaining: float) -> tuple[float, int]:
    """Return the time of a step, and the number of steps of the next slice. Ignore the first slice: it may compile."""
    if per_step is None:
        return float("inf"), steps
    cost = max(seconds / steps, 1e-7)
    wanted = min(SECONDS, max(remaining, 0)) / cost
    return cost, int(np.clip(wanted, 1, 8 * steps))


def _tell(watch: Watch, lanes: list[_Lane], done: int, total: int) -> None:
    if watch.progress is None:
        return
    group = lanes[0].group
    name, taken = type(group.solver).__name__, max(int(np.max(np.asarray(lane.found.steps))) for lane in lanes)
    if group.how != "alone" and group.own:
        finished = int(np.sum(np.asarray(lanes[0].found.status) != RUNNING))
        watch.tell(f"{name}, at most {taken} steps a problem", min(done + finished, total), total)
        return
    values = np.concatenate([np.atleast_1d(lane.found.value) for lane in lanes])
    starts = f" from {len(values)} starts" if len(values) > 1 else ""
    which = f"problem {done + 1} of {total}, " if total > 1 else ""
    value = float(np.nanmin(values, initial=np.inf))
    watch.tell(f"{which}{name}{starts}, value {value:.6g}", taken, int(np.asarray(group.solver.max_steps)))


def _entries(args: PyTree) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(args))


def _first_steps(start: PyTree, options: RunOptions, entries: int, problems: int) -> int:
    """Return the number of steps of the first slice, from a count of operations: 60 products of n x n, 6 with data."""
    rows = max(np.shape(leaf)[-1] if np.shape(leaf) else 1 for leaf in jax.tree.leaves(start))
    operations = problems * (60 * options.manifold.cost(start) + 12 * rows * entries + 1e4)
    return int(np.clip(SECONDS * RATE / operations, 1, FIRST))


def _each(run: Callable[..., tuple[Loop, Solution]], how: str, *batched: PyTree) -> tuple[Loop, Solution]:
    if how == "alone":
        return run(*batched)
    return jax.lax.map(lambda mine: run(*mine), batched) if how == "in turn" else jax.vmap(run)(*batched)


@functools.partial(quick_jit, static_argnames=("options", "own", "how"))
def _begin(
    function: Function, start: PyTree, args: tuple, solver: Descent, options: RunOptions, own: bool, how: str
) -> tuple[Loop, Solution, Array]:
    def run(start: PyTree, mine: tuple) -> tuple[Loop, Solution]:
        loop = descent.begin(function, start, mine if own else args, solver, options)
        return loop, descent.finish(loop, solver, options)

    loop, found = _each(run, how, start, args if own else ())
    return loop, found, jnp.sum(found.status == RUNNING)


@functools.partial(quick_jit, static_argnames=("options", "own", "how"))
def _advance(
    function: Function,
    args: tuple,
    solver: Descent,
    options: RunOptions,
    loop: Loop,
    steps: ArrayLike,
    own: bool,
    how: str,
) -> tuple[Loop, Solution, Array]:
    def run(loop: Loop, mine: tuple) -> tuple[Loop, Solution]:
        loop = descent.advance(function, mine if own else args, solver, options, loop, steps)
        return loop, descent.finish(loop, solver, options)

    loop, found = _each(run, how, loop, args if own else ())
    return loop, found, jnp.sum(found.status == RUNNING)
