"""The loop that every iterative solver shares: it steps, it stops, it keeps the record."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble.groups import orthogonal
from jaxdescramble.solvers.problem import Iterate, Problem, norm
from jaxdescramble.solvers.solution import History, Solution
from jaxdescramble.status import Status

RUNNING = -1


class Info(NamedTuple):
    """What a step reports; nothing of it is fed back.

    Attributes:
        stalled: no further step can lower the value in this precision.
        evaluations: of the function, its gradient or a Hessian product.
    """

    stalled: Array
    evaluations: Array | int


@runtime_checkable
class Descent(Protocol):
    """A solver that goes step by step. A pytree; `tolerance` and `max_steps` are read by the loop.

    `bind(problem, start)` returns an initial state and `step(iterate, state) -> (iterate, state, Info)`. What is
    computed in `bind` is computed once per solve.
    """

    tolerance: ArrayLike | None
    max_steps: ArrayLike

    def bind(self, problem: Problem, start: Iterate) -> tuple[Any, Callable]:
        """The initial state and the step."""
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Report:
    """What is to be told of a solve while it runs: compile-time choices.

    Attributes:
        history: how many steps to keep a record of.
        callback: called on the host as `callback(step, value, gradient_norm)`.
        every: steps between two calls.
    """

    history: int = 0
    callback: Callable[..., None] | None = None
    every: int = 1

    def start(self, dtype: Any) -> History | None:
        """An empty record."""
        if not self.history:
            return None
        empty = jnp.full((self.history,), jnp.nan, dtype)
        return History(empty, empty)


class _Loop(NamedTuple):
    iterate: Iterate
    state: Any
    scale: Array
    steps: Array
    evaluations: Array
    status: Array
    record: History | None


def default_tolerance(dtype: Any) -> float:
    """Relative gradient norm that a type can be asked for, `eps^0.6`.

    >>> default_tolerance(jnp.float32) < 1e-4
    True
    """
    return float(jnp.finfo(dtype).eps) ** 0.6


def descend(function: Callable, start: Float[Array, "n n"], args: tuple, solver: Any, report: Report) -> Solution:
    """Step until the gradient vanishes, nothing falls any more, steps are spent, or a number is not finite."""
    problem = Problem(function, args)
    # A start that is no number is solved at the identity, so that no decomposition meets a NaN.
    known = jnp.isfinite(start).all()
    eye = jnp.eye(start.shape[0], dtype=start.dtype)
    # Everything below is in units of the first gradient, a power of two: squares neither overflow nor vanish.
    raw = problem.evaluate(orthogonal.polish(jnp.where(known, start, eye)))
    unit = _unit(raw.gradient + raw.symmetric)
    problem = Problem(function, args, unit)
    first = Iterate(raw.point, raw.value / unit, raw.gradient / unit, raw.symmetric / unit)
    state, step = solver.bind(problem, first)

    def judged(iterate: Iterate, scale: Array, stalled: Array | bool) -> Array:
        status = jnp.where(jnp.asarray(stalled), Status.PRECISION, RUNNING)
        status = jnp.where(_flat(iterate, scale, solver.tolerance), Status.SOLVED, status)
        return jnp.where(iterate.finite & known, status, Status.NOT_FINITE).astype(jnp.int32)

    def body(loop: _Loop) -> _Loop:
        iterate, state, info = step(loop.iterate, loop.state)
        scale = jnp.maximum(loop.scale, _size(iterate))
        record = report_step(report, loop.record, loop.steps, iterate, unit)
        evaluations = loop.evaluations + info.evaluations
        status = judged(iterate, scale, info.stalled)
        return _Loop(iterate, state, scale, loop.steps + 1, evaluations, status, record)

    def goes_on(loop: _Loop) -> Array:
        return (loop.status == RUNNING) & (loop.steps < solver.max_steps)

    zero, scale = jnp.zeros((), jnp.int32), _size(first)
    begin = _Loop(first, state, scale, zero, zero + 1, judged(first, scale, False), report.start(start.dtype))
    end = jax.lax.while_loop(goes_on, body, begin)
    status = jnp.where(end.status == RUNNING, Status.STEPS_SPENT, end.status)
    return _solution(end.iterate, end.steps, end.evaluations, status, end.record, unit)


def report_step(
    report: Report, record: History | None, steps: Array, iterate: Iterate, unit: ArrayLike = 1.0
) -> History | None:
    """The record with one more step in it; the callback is called if it is its turn."""
    value, size = jnp.asarray(unit) * iterate.value, jnp.asarray(unit) * norm(iterate.gradient)
    if report.callback is not None:

        def tell() -> None:
            assert report.callback is not None
            jax.debug.callback(report.callback, steps + 1, value, size)

        jax.lax.cond((steps + 1) % report.every == 0, tell, lambda: None)
    if record is None:
        return None
    seen = History(value, size)
    return jax.tree.map(lambda entries, new: entries.at[steps].set(new, mode="drop"), record, seen)


def summed_up(
    iterate: Iterate, steps: Array, evaluations: Array, record: History | None, tolerance: ArrayLike | None
) -> Solution:
    """The solution of a solver that does not judge its own steps: solved if the gradient vanishes at the end."""
    status = jnp.where(_flat(iterate, _size(iterate), tolerance), Status.SOLVED, Status.STEPS_SPENT)
    status = jnp.where(iterate.finite, status, Status.NOT_FINITE)
    return _solution(iterate, steps, evaluations, status, record)


def _solution(
    iterate: Iterate, steps: Array, evaluations: Array, status: Array, record: History | None, unit: ArrayLike = 1.0
) -> Solution:
    dtype = iterate.value.dtype
    off = orthogonal.defect(iterate.point) > jnp.sqrt(jnp.finfo(dtype).eps)
    lost, missing = status == Status.NOT_FINITE, jnp.asarray(jnp.nan, dtype)
    return Solution(
        point=jnp.where(lost, missing, iterate.point),
        value=jnp.where(lost, missing, unit * iterate.value),
        gradient_norm=jnp.where(lost, missing, unit * norm(iterate.gradient)),
        steps=steps,
        status=jnp.where(off & ~lost, Status.OFF_GROUP, status).astype(jnp.int32),
        evaluations=evaluations,
        history=record,
    )


def _flat(iterate: Iterate, scale: Array, tolerance: ArrayLike | None) -> Array:
    if tolerance is None:
        tolerance = default_tolerance(iterate.value.dtype)
    return norm(iterate.gradient) <= jnp.asarray(tolerance) * scale


def _unit(slope: Array) -> Array:
    """The power of two next to the largest entry, 1 where there is none."""
    largest = jnp.max(jnp.abs(slope))
    usable = (largest > 0) & jnp.isfinite(largest)
    return jnp.where(usable, jnp.ldexp(jnp.ones((), slope.dtype), jnp.frexp(jnp.where(usable, largest, 1))[1] - 1), 1)


def _size(iterate: Iterate) -> Array:
    """`||grad f||_F`, 0 where it is no number."""
    size = jnp.sqrt(jnp.sum(iterate.gradient**2) + jnp.sum(iterate.symmetric**2))
    return jnp.where(jnp.isfinite(size), size, 0)
