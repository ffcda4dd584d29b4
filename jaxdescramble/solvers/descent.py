"""The loop that all iterative solvers share: it takes steps, decides when to stop, and keeps the record.

`descend` runs the loop to its end inside one program. Outside `jit`, `_slices` runs the same loop a few steps at a
time: `begin` opens it, `advance` takes it some steps further, and `finish` returns the solution so far.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.status import Status
from jaxdescramble.manifolds.groups import SPECIAL_ORTHOGONAL
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, better, is_finite, norm, size_of
from jaxdescramble.solvers.solution import History, Solution
from jaxdescramble.solvers.watch import Watch

RUNNING = -1
WINDOW = 10
"""Number of steps over which a solver with the option `decrease` measures how far the value falls."""

SPENT = Status.STEPS_SPENT


class Info(NamedTuple):
    """Diagnostics of one step; they never influence the next.

    Attributes:
        stalled: whether no further step can lower the value in this precision. The solve then ends with the status
            `PRECISION`, which is an answer: do not set it because a step was too long.
        evaluations: number of evaluations of the function, its gradient or a Hessian product.
    """

    stalled: Array
    evaluations: Array | int


Function = Callable[..., ArrayLike]
"""A function of a point and data that returns one real number."""

Step = Callable[[Iterate, PyTree], tuple[Iterate, PyTree, Info]]
"""`step(iterate, state) -> (iterate, state, Info)`."""


@runtime_checkable
class Descent(Protocol):
    """A solver that works step by step. It is a pytree; the loop reads `tolerance`, `max_steps` and, if there is one,
    `decrease`.

    `bind(problem, start)` returns an initial state and `step(iterate, state) -> (iterate, state, Info)`. Do in `bind`
    what is needed once per solve. Values and gradients inside a step have the unit `problem.unit`, a power of two near
    the largest entry of the first gradient: the solver then works alike for `f` and `1000 f`.

    A solver whose steps may raise the value, such as one with momentum, says so with the class attribute
    `may_rise: ClassVar[bool] = True`. Without it, the tests demand that the value falls at every step.
    """

    @property
    def tolerance(self) -> ArrayLike | None: ...

    @property
    def max_steps(self) -> ArrayLike: ...

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step."""
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RunOptions:
    """Options of a solve besides the problem; they are fixed at compile time.

    Attributes:
        history: number of steps to record.
        manifold: where the points live. Combinators search all its determinant classes; `SpecialOrthogonal()` keeps
            the class of the start.
        watch: follows the solve on the host, outside `jit` only; no part of a program.
    """

    history: int = 0
    manifold: Manifold = SPECIAL_ORTHOGONAL
    watch: Watch | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def compiled(self) -> "RunOptions":
        """These options without the watch: the part that belongs to a compiled program."""
        return dataclasses.replace(self, watch=None)

    def start(self, dtype: DTypeLike) -> History | None:
        """Return an empty record, or None."""
        if not self.history:
            return None
        empty = jnp.full((self.history,), jnp.nan, dtype)
        return History(empty, empty)


@runtime_checkable
class Combinator(Protocol):
    """A solver made of solvers, such as `Restarts`: it runs them itself."""

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution."""
        ...


Solver = Descent | Combinator
"""What `minimise` takes: a solver that steps, or one that runs others."""


class Loop(NamedTuple):
    """A solve in progress: everything that the next step needs.

    Attributes:
        first: the start, in units of `unit`; every slice gives it to `solver.bind` again.
        iterate, state: the current point, and the memory of the solver.
        unit: the unit of values and gradients.
        known: whether the start was finite.
        scale: largest size of the gradient so far; on a product, one for each part.
        mark: the value at the last multiple of `WINDOW` steps.
        steps, evaluations, status, record: see `Solution`; the status is `RUNNING` until the loop ends.
    """

    first: Iterate
    iterate: Iterate
    state: PyTree
    unit: Array
    known: Array
    scale: Array
    mark: Array
    steps: Array
    evaluations: Array
    status: Array
    record: History | None


def default_tolerance(dtype: DTypeLike) -> float:
    """Return the smallest sensible relative gradient norm for a dtype, `eps^0.6`.

    >>> default_tolerance(jnp.float32) < 1e-4
    True
    """
    return float(jnp.finfo(dtype).eps) ** 0.6


def descend(function: Function, start: PyTree, args: tuple, solver: Descent, options: RunOptions) -> Solution:
    """Step until the gradient vanishes, the value falls no more or too slowly, the steps are spent, or a number is not
    finite."""
    problem, first, known = _first(function, start, args, options.manifold)
    state, step = solver.bind(problem, first)
    loop = _opened(problem, first, known, state, solver, options)
    return finish(_stepped(loop, step, solver, options.manifold, None), solver, options)


def begin(function: Function, start: PyTree, args: tuple, solver: Descent, options: RunOptions) -> Loop:
    """Open the loop: evaluate the start, and let the solver make its state."""
    problem, first, known = _first(function, start, args, options.manifold)
    state, _ = solver.bind(problem, first)
    return _opened(problem, first, known, state, solver, options)


def advance(
    function: Function, args: tuple, solver: Descent, options: RunOptions, loop: Loop, steps: ArrayLike
) -> Loop:
    """Take the loop at most `steps` steps further."""
    _, step = solver.bind(ManifoldFunction(function, args, options.manifold, loop.unit), loop.first)
    return _stepped(loop, step, solver, options.manifold, loop.steps + steps)


def finish(loop: Loop, solver: Descent, options: RunOptions) -> Solution:
    """Return the solution so far. Its status is `RUNNING` if the solver is not finished."""
    status = jnp.where(_goes_on(loop, solver), RUNNING, jnp.where(loop.status == RUNNING, SPENT, loop.status))
    return _solution(loop.iterate, loop.steps, loop.evaluations, status, loop.record, options.manifold, loop.unit)


def _first(
    function: Function, start: PyTree, args: tuple, manifold: Manifold
) -> tuple[ManifoldFunction, Iterate, Array]:
    problem = ManifoldFunction(function, args, manifold)
    # If the start is not finite, solve from a fixed point, so that no decomposition meets a NaN.
    known = is_finite(start)
    raw = problem.evaluate(manifold.polish(better(known, start, manifold.origin(start))))
    # From here on, the unit is a power of two near the first gradient: squares neither overflow nor vanish.
    unit = _unit(raw)
    normal = jax.tree.map(lambda leaf: leaf / unit, raw.normal)
    first = raw._replace(value=raw.value / unit, gradient=raw.gradient / unit, normal=normal)
    return ManifoldFunction(function, args, manifold, unit), first, known


def _opened(
    problem: ManifoldFunction, first: Iterate, known: Array, state: PyTree, solver: Descent, options: RunOptions
) -> Loop:
    zero, scale = jnp.zeros((), jnp.int32), _sizes(first, options.manifold)
    status = _judged(first, scale, False, False, known, solver, options.manifold)
    record = options.start(first.value.dtype)
    unit = jnp.asarray(problem.unit)
    return Loop(first, first, state, unit, known, scale, first.value, zero, zero + 1, status, record)


def _stepped(loop: Loop, step: Step, solver: Descent, manifold: Manifold, until: Array | None) -> Loop:
    def body(loop: Loop) -> Loop:
        iterate, state, info = step(loop.iterate, loop.state)
        scale = jnp.maximum(loop.scale, _sizes(iterate, manifold))
        ends = (loop.steps + 1) % WINDOW == 0
        decrease = jnp.asarray(getattr(solver, "decrease", 0.0))
        slow = ends & (decrease > 0) & (loop.mark - iterate.value < decrease * jnp.abs(iterate.value))
        record = record_step(loop.record, loop.steps, iterate, loop.unit)
        return loop._replace(
            iterate=iterate,
            state=state,
            scale=scale,
            mark=jnp.where(ends, iterate.value, loop.mark),
            steps=loop.steps + 1,
            evaluations=loop.evaluations + info.evaluations,
            status=_judged(iterate, scale, slow, info.stalled, loop.known, solver, manifold),
            record=record,
        )

    def goes_on(loop: Loop) -> Array:
        more = _goes_on(loop, solver)
        return more if until is None else more & (loop.steps < until)

    return jax.lax.while_loop(goes_on, body, loop)


def _goes_on(loop: Loop, solver: Descent) -> Array:
    return (loop.status == RUNNING) & (loop.steps < solver.max_steps)


def _judged(
    iterate: Iterate,
    scale: Array,
    slow: Array | bool,
    stalled: Array | bool,
    known: Array,
    solver: Descent,
    manifold: Manifold,
) -> Array:
    status = jnp.where(jnp.asarray(slow), Status.DECREASE_SMALL, RUNNING)
    status = jnp.where(jnp.asarray(stalled), Status.PRECISION, status)
    status = jnp.where(_flat(iterate, scale, solver.tolerance, manifold), Status.SOLVED, status)
    return jnp.where(iterate.finite & known, status, Status.NOT_FINITE).astype(jnp.int32)


def record_step(record: History | None, steps: Array, iterate: Iterate, unit: ArrayLike = 1.0) -> History | None:
    """Return the record with one more step."""
    if record is None:
        return None
    seen = History(jnp.asarray(unit) * iterate.value, jnp.asarray(unit) * norm(iterate.gradient))
    return jax.tree.map(lambda entries, new: entries.at[steps].set(new, mode="drop"), record, seen)


def summed_up(
    iterate: Iterate,
    steps: Array,
    evaluations: Array,
    record: History | None,
    tolerance: ArrayLike | None,
    manifold: Manifold,
) -> Solution:
    """Return the solution of a solver that does not judge its own steps: solved if the last gradient vanishes."""
    status = jnp.where(_flat(iterate, _size(iterate), tolerance, manifold), Status.SOLVED, Status.STEPS_SPENT)
    status = jnp.where(iterate.finite, status, Status.NOT_FINITE)
    return _solution(iterate, steps, evaluations, status, record, manifold)


def _solution(
    iterate: Iterate,
    steps: Array,
    evaluations: Array,
    status: Array,
    record: History | None,
    manifold: Manifold,
    unit: ArrayLike = 1.0,
) -> Solution:
    dtype = iterate.value.dtype
    off = manifold.defect(iterate.point) > jnp.sqrt(jnp.finfo(dtype).eps)
    lost, missing = status == Status.NOT_FINITE, jnp.asarray(jnp.nan, dtype)
    return Solution(
        point=jax.tree.map(lambda leaf: jnp.where(lost, missing, leaf), iterate.point),
        value=jnp.where(lost, missing, unit * iterate.value),
        gradient_norm=jnp.where(lost, missing, unit * norm(iterate.gradient)),
        steps=steps,
        status=jnp.where(off & ~lost & (status != RUNNING), Status.OFF_GROUP, status).astype(jnp.int32),
        evaluations=evaluations,
        history=record,
        classes=jnp.ones((), jnp.int32),
        residual=jnp.where(lost, missing, norm(iterate.gradient) / jnp.maximum(_size(iterate), TINY)),
    )


def _flat(iterate: Iterate, scale: Array, tolerance: ArrayLike | None, manifold: Manifold) -> Array:
    """Return whether the gradient vanishes beside a scale; with one scale for each part, that of every part."""
    if tolerance is None:
        tolerance = default_tolerance(iterate.value.dtype)
    if not scale.ndim:
        return norm(iterate.gradient) <= jnp.asarray(tolerance) * scale
    gradients = jnp.stack([norm(its) for its in manifold.velocities(iterate.point, iterate.gradient)])
    # Where the slope of a part is nothing but rounding of the others, its own scale means nothing.
    rounding = jnp.finfo(scale.dtype).eps * jnp.max(scale)
    return (gradients <= jnp.maximum(jnp.asarray(tolerance) * scale, rounding)).all()


def _sizes(iterate: Iterate, manifold: Manifold) -> Array:
    """Return `||grad f||_F`; on a product, one for each part. It is 0 if not finite."""
    if not manifold.factors:
        return _size(iterate)
    gradients = manifold.velocities(iterate.point, iterate.gradient)
    parts = zip(gradients, iterate.normal, strict=True)
    return jnp.stack([_size(iterate._replace(gradient=its, normal=normal)) for its, normal in parts])


def _unit(iterate: Iterate) -> Array:
    """Return the power of two next to the largest entry of the slope; 1 if all are zero or one is not finite."""
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves((iterate.gradient, iterate.normal))]
    largest = jnp.max(jnp.stack(sizes))
    usable = (largest > 0) & jnp.isfinite(largest)
    one = jnp.ones((), largest.dtype)
    return jnp.where(usable, jnp.ldexp(one, jnp.frexp(jnp.where(usable, largest, 1))[1] - 1), 1)


def _size(iterate: Iterate) -> Array:
    """Return `||grad f||_F`, or 0 if it is not finite."""
    size = size_of(iterate)
    return jnp.where(jnp.isfinite(size), size, 0)
