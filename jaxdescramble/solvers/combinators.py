"""Solvers made of solvers: restarts, continuation, chains, and solves on few samples first."""

import dataclasses
import functools
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxdescramble._base.products import complex_type
from jaxdescramble._base.programs import quick_jit
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.problem import better, check_samples, is_finite, name_of, real_type_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import best, best_of, several_classes, solve, solve_each, stage, timed

Data = TypeVar("Data")

RESERVE = 2.0
"""A tournament with a deadline keeps this much time for its fine solve, in units of the last rough solve."""

LIMITS = 1e-30, 1e30
"""Sizes of signals that single precision can hold, with their small entries."""


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Restarts:
    """The best of several solves: from the given start, and from uniformly random points.

    Use it for functions with many local minima. On O(n), the random points lie in both determinant classes, and the
    reflected start is tried too, unless the objective takes the same values in both classes. On SO(n) (`group="SO"`),
    all points lie in the class of the start. Parameters on `manifolds.Euclidean()` keep the given values.

    Attributes:
        solver: the solver of each solve.
        restarts: number of random points (fixed at compile time).
        key: random key of the random points.

    >>> from jaxdescramble import solvers
    >>> def double_well(point):
    ...     return (point[0, 0] ** 2 - 0.5) ** 2 + 0.1 * point[0, 0]
    >>> solver = Restarts(solvers.LBFGS(), 3, key=jax.random.key(0))
    >>> float(solvers.minimise(double_well, jnp.eye(2), solver=solver).value) < -0.07
    True

    Source: common practice; random points as in `Manifold.another`, on O(n) of the Haar measure.
    """

    solver: Solver
    restarts: int = dataclasses.field(metadata={"static": True})
    key: PRNGKeyArray = dataclasses.field(kw_only=True)
    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution with the lowest value; its `steps` are the sum over all solves."""
        every = several_classes(function, start, options)
        starts = _drawn(start, self.restarts, self.key, options.manifold, every)
        found = solve_each(function, starts, args, self.solver, options)
        return dataclasses.replace(best(found), steps=jnp.sum(found.steps, dtype=jnp.int32))


@functools.partial(jax.jit, static_argnames=("restarts", "manifold", "every"))
def _drawn(start: PyTree, restarts: int, key: PRNGKeyArray, manifold: Manifold, every: bool) -> PyTree:
    """Return the given start, with `every` one in each other determinant class, and random points."""
    keys = jax.random.split(key, restarts)
    given = manifold.in_each_class(start) if every else jax.tree.map(lambda leaf: leaf[None], start)
    others = jax.vmap(lambda key: manifold.another(key, start))(keys)
    return jax.tree.map(lambda first, more: jnp.concatenate([first, more]), given, others)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Continuation:
    """Continuation in the smoothing of an objective: begin with widely rounded corners, end with the given ones.

    Use it for objectives with corners that name a smoothing parameter, such as `sparsity` and `total_variation`. Each
    stage starts from the answer of the stage before.

    Attributes:
        solver: the solver of each stage.
        factors: factors of the smoothing parameter, one for each stage; a last stage with factor 1 is added.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity()
    >>> signals = jax.random.laplace(jax.random.key(0), (4, 200))
    >>> solver = Continuation(solvers.LBFGS(), (100.0, 10.0))
    >>> found = solvers.minimise(objective, jnp.eye(4), objective.summarise(signals), solver=solver)
    >>> bool(found.value <= objective(jnp.eye(4), signals))
    True

    Source: graduated non-convexity, Blake and Zisserman, Visual Reconstruction (1987).
    """

    solver: Solver
    factors: tuple[ArrayLike, ...] = (1000.0, 100.0, 10.0)

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution of the last stage; its `steps` are the sum over all stages."""
        smoothed = getattr(function, "smoothed", None)
        if smoothed is None or not getattr(function, "smoothing", ""):
            raise TypeError(
                f"Continuation: {name_of(function)} names no smoothing parameter. Use an objective that has one "
                "(objectives.total_variation, sparsity), or write one with `smoothing = 'its name'`."
            )
        factors = jnp.stack([jnp.asarray(factor, real_type_of(start)) for factor in (*self.factors, 1.0)])
        if options.watch is not None:
            stages = [(smoothed(factor), self.solver, args) for factor in factors]
            return _one_after_another(stages, start, options)

        def softer(point: PyTree, factor: Array) -> tuple[PyTree, Solution]:
            found = solve(smoothed(factor), point, args, self.solver, options)
            return better(is_finite(found.point), found.point, point), found

        _, found = jax.lax.scan(softer, start, factors)
        return _with_work(jax.tree.map(lambda leaf: leaf[-1], found), found.steps.sum(), found.evaluations.sum())


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Tournament:
    """Rough solves from several starts, then a fine solve from the best of their answers.

    Use it for objectives with many local minima, if a rough solve tells which of them are good. It is a part of the
    default of `descramble`. The starts are the given one and Haar-random points, in the determinant classes that
    `Restarts` would search; `others` compute starts of their own. If no rough answer has a lower value than the given
    start, the fine solve begins there: so the answer is never worse than the start. With a deadline, rough
    solves that run one after another leave time for the fine solve: none begins if less than twice the time of the last
    one is left.

    Attributes:
        solver: the solver of the fine solve.
        rough: the solver of the rough solves; a coarse `decrease` or `tolerance` is enough.
        restarts: number of random points (fixed at compile time); 0 takes the given start only.
        others: further rough solvers that compute a start, such as `FromSources(rough, key=key)`.
        key: random key of the random points.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity()
    >>> summary = objective.summarise(jax.random.laplace(jax.random.key(0), (4, 200)))
    >>> rough = Continuation(solvers.LBFGS(decrease=1e-2), (100.0, 10.0))
    >>> solver = Tournament(solvers.LBFGS(decrease=1e-4), rough, restarts=3, key=jax.random.key(0))
    >>> solvers.minimise(objective, jnp.eye(4), summary, solver=solver).check().classes.item()
    2

    Source: common practice.
    """

    solver: Solver
    rough: Solver
    restarts: int = dataclasses.field(default=1, metadata={"static": True})
    others: tuple[Solver, ...] = ()
    key: PRNGKeyArray = dataclasses.field(kw_only=True)
    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution of the fine solve; its `steps` are those that led to it, `evaluations` all."""
        every = several_classes(function, start, options)
        starts = _drawn(start, self.restarts, self.key, options.manifold, every)
        with stage(options, "rough solves"):
            plain = dataclasses.replace(options, history=0)
            rough = [best(solve_each(function, starts, args, self.rough, plain, reserve=RESERVE))]
            for other in self.others:
                if options.watch is not None and options.watch.short_of(RESERVE):
                    break
                try:
                    with timed(options):
                        rough.append(solve(function, start, args, other, plain))
                except KeyboardInterrupt:  # between the solves, while a program was compiled or ran
                    if options.watch is None:
                        raise
                    options.watch.stopped = Status.INTERRUPTED
        first = rough[0] if len(rough) == 1 else best_of(rough)
        point = _lower(function, first.point, start, args)
        with stage(options, "fine solve"):
            last = solve(function, point, args, self.solver, options)
        return _with_work(last, last.steps + first.steps, last.evaluations + first.evaluations)


@quick_jit
def _lower(function: Function, point: PyTree, start: PyTree, args: tuple) -> PyTree:
    """Return the point of lower value; the start if the other one is not finite."""
    return better(jnp.asarray(function(point, *args)) < jnp.asarray(function(start, *args)), point, start)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SinglePrecision:
    """A solve in single precision of data in double precision; a step takes about half the time.

    Use it for the rough part of a solve, before a solver in double precision (`Chain`, `Tournament`). The answer has
    the type of the start. On data in single precision it changes nothing. Signals smaller than 1e-30 or larger than
    1e30 are divided by their size; the value of an objective with units is then that of the divided signals.

    Attributes:
        solver: the solver.

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity("logcosh")
    >>> summary = objective.summarise(jax.random.laplace(jax.random.key(0), (4, 200)))
    >>> solver = Chain((SinglePrecision(solvers.LBFGS(decrease=1e-4)), solvers.LBFGS()))
    >>> int(solvers.minimise(objective, jnp.eye(4), summary, solver=solver).status)
    0

    Source: common practice.
    """

    solver: Solver

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution, in the type of the start; its point is orthogonal to single precision."""
        wide = real_type_of(start)
        if wide == jnp.float32:
            return solve(function, start, args, self.solver, options)
        function, begin, data = _single((function, start, args))
        found = solve(function, begin, data, self.solver, options)
        return _converted(found, wide)


@quick_jit
def _single(problem: tuple) -> tuple:
    """Return a problem in single precision; signals whose size lies outside its range are divided by their size."""

    def within_range(argument: Any) -> Any:
        if not isinstance(argument, Summary):
            return argument
        low, high = (limit ** (1 / argument.exponent) for limit in LIMITS)
        inside = (argument.scale() > low) & (argument.scale() < high)
        return jax.tree.map(lambda leaf, scaled: jnp.where(inside, leaf, scaled), argument, argument.normalised())

    function, start, args = problem
    return _converted((function, start, tuple(map(within_range, args))), jnp.float32)


@functools.partial(quick_jit, static_argnames="dtype")
def _converted(tree: Data, dtype: DTypeLike) -> Data:
    """Return the same data with all real and complex arrays in another precision."""

    def one(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            return leaf.astype(complex_type(dtype))
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Chain:
    """Several solvers, one after another; each starts where the one before stopped.

    Use it to begin with a cheap or robust solver and to end with a precise one.

    Attributes:
        solvers: the solvers, in the order of their use.

    >>> import optax
    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return jnp.sum((point - goal) ** 2)
    >>> solver = Chain((solvers.Optax(optax.adam(0.1), max_steps=20), solvers.TrustRegion()))
    >>> int(solvers.minimise(misfit, jnp.eye(3), jnp.eye(3)[::-1] * 0.9, solver=solver).status)
    0

    Source: common practice.
    """

    solvers: tuple[Solver, ...]

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution of the last solver; its `steps` are the sum over all solvers."""
        if not self.solvers:
            raise ValueError("Chain: got no solvers; give at least one.")
        return _one_after_another([(function, solver, args) for solver in self.solvers], start, options)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Progressive:
    """Solves on few samples first, then a solve on all samples.

    Use it for objectives that read many samples. A solve on every 16th sample costs a sixteenth, and its answer is a
    good start for the solve on all samples.

    Attributes:
        solver: the solver of the last stage, on all samples.
        rough: the solver of the stages before it; a coarse `tolerance` is enough.
        steps: strides of the stages before the last: 8 keeps every 8th sample (fixed at compile time).

    >>> from jaxdescramble import objectives, solvers
    >>> objective = objectives.sparsity("logcosh")
    >>> summary = objective.summarise(jax.random.laplace(jax.random.key(0), (4, 800)))
    >>> int(solvers.minimise(objective, jnp.eye(4), summary, solver=Progressive(solvers.LBFGS())).status)
    0

    Source: Byrd, Chin, Nocedal, Wu, Math. Program. 134 (2012) 127, sample size selection.
    """

    solver: Solver
    rough: Solver = dataclasses.field(default_factory=lambda: LBFGS(tolerance=1e-2, preconditioner=None))
    steps: tuple[int, ...] = dataclasses.field(default=(8,), metadata={"static": True})

    def run(self, function: Function, start: PyTree, args: tuple, options: RunOptions) -> Solution:
        """Return the solution on all samples; its `steps` are the sum over all stages."""
        check_samples("Progressive", "thin", function, args)
        stages = [(function, self.rough, tuple(_thinned(argument, step) for argument in args)) for step in self.steps]
        return _one_after_another([*stages, (function, self.solver, args)], start, options)


def _thinned(argument: PyTree, step: int) -> PyTree:
    return argument.thin(step) if hasattr(argument, "thin") else argument


def _one_after_another(stages: list[tuple[Function, Solver, tuple]], start: PyTree, options: RunOptions) -> Solution:
    """Solve the stages (function, solver, data) in order; return the last solution, with the work of all stages."""
    solutions = []
    for k, (function, solver, data) in enumerate(stages):
        last = k + 1 == len(stages)
        if options.watch is not None and options.watch.over() and not last:
            continue  # only the last stage computes the value of the objective
        with stage(options, f"stage {k + 1} of {len(stages)}"):
            found = solve(function, start, data, solver, options)
        start = better(is_finite(found.point), found.point, start)
        solutions.append(found)
    steps, evaluations = sum(found.steps for found in solutions), sum(found.evaluations for found in solutions)
    return _with_work(solutions[-1], steps, evaluations)


def _with_work(solution: Solution, steps: ArrayLike, evaluations: ArrayLike) -> Solution:
    steps, evaluations = jnp.asarray(steps, jnp.int32), jnp.asarray(evaluations, jnp.int32)
    return dataclasses.replace(solution, steps=steps, evaluations=evaluations)
