"""Solvers made of solvers: restarts, continuation, one after another."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.problem import check_samples, name_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import best, both_classes, mirrored, solve, solve_each, stage


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Restarts:
    """The best of several solves: from the given start, and from Haar-random points.

    With `group="O"` the random points are of both determinant classes, and the reflected start is tried too, unless the
    objective says that signs do not matter. With `group="SO"` all are of the class of the start.

    Attributes:
        solver: what each of them uses.
        restarts: number of random points (fixed at compile time).
        key: source of chance for the random points.

    >>> from jaxdescramble import solvers
    >>> def double_well(point):
    ...     return (point[0, 0] ** 2 - 0.5) ** 2 + 0.1 * point[0, 0]
    >>> solver = Restarts(solvers.LBFGS(), 3, key=jax.random.key(0))
    >>> float(solvers.minimise(double_well, jnp.eye(2), solver=solver).value) < -0.07
    True

    Source: common practice; Haar measure as in `manifolds.orthogonal.random`.
    """

    solver: Solver
    restarts: int = dataclasses.field(metadata={"static": True})
    key: PRNGKeyArray = dataclasses.field(kw_only=True)
    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """The solution of least value; its `steps` are those of all."""
        reflect = options.group == "O" and not mirrored(function, start.shape[0])
        starts = _drawn(start, self.restarts, self.key, options.group, reflect)
        found = solve_each(function, starts, args, self.solver, options)
        return dataclasses.replace(best(found), steps=jnp.sum(found.steps, dtype=jnp.int32))


@functools.partial(jax.jit, static_argnames=("restarts", "group", "reflect"))
def _drawn(start: Array, restarts: int, key: PRNGKeyArray, group: str, reflect: bool) -> Array:
    n, keys = start.shape[0], jax.random.split(key, restarts)
    turns = jax.vmap(lambda key: orthogonal.random(key, n, group, start.dtype))(keys)
    given = both_classes(start) if reflect else start[None]
    return jnp.concatenate([given, matmul(start[None], turns)])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Continuation:
    """Rounded corners first: solve with the objective's smoothing enlarged, then less and less, then as it is.

    Attributes:
        solver: what each stage uses.
        factors: what the parameter is multiplied by, stage by stage; a last stage with 1 is added.

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

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """The solution of the last stage; its `steps` are those of all."""
        smoothed = getattr(function, "smoothed", None)
        if smoothed is None or not getattr(function, "smoothing", ""):
            raise TypeError(
                f"Continuation: {name_of(function)} names no smoothing parameter. Use an objective that has one "
                "(objectives.total_variation, sparsity), or write one with `smoothing = 'its name'`."
            )
        factors = jnp.stack([jnp.asarray(factor, start.dtype) for factor in (*self.factors, 1.0)])
        if options.watch is not None:
            stages = [(smoothed(factor), self.solver, args) for factor in factors]
            return _one_after_another(stages, start, options)

        def softer(point: Array, factor: Array) -> tuple[Array, Solution]:
            found = solve(smoothed(factor), point, args, self.solver, options)
            usable = jnp.isfinite(found.point).all()
            return jnp.where(usable, found.point, point), found

        _, found = jax.lax.scan(softer, start, factors)
        return _with_work(jax.tree.map(lambda leaf: leaf[-1], found), found.steps.sum(), found.evaluations.sum())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Chain:
    """One solver after another, each from where the last one stopped.

    Attributes:
        solvers: in order.

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

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """The solution of the last solver; its `steps` are those of all."""
        if not self.solvers:
            raise ValueError("Chain: got no solvers; give at least one.")
        return _one_after_another([(function, solver, args) for solver in self.solvers], start, options)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progressive:
    """Few samples first: a solve on every 16th sample costs a sixteenth, and starts the solve on all of them near by.

    Attributes:
        solver: what the last stage uses.
        rough: what the stages before it use; a low `tolerance` is enough.
        steps: of each stage every how many samples are kept; a last stage with all is added (fixed at compile time).

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

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """The solution on all samples; its `steps` are those of all stages."""
        check_samples("Progressive", "thin", function, args)
        stages = [(function, self.rough, tuple(_thinned(argument, step) for argument in args)) for step in self.steps]
        return _one_after_another([*stages, (function, self.solver, args)], start, options)


def _thinned(argument: Any, step: int) -> Any:
    return argument.thin(step) if hasattr(argument, "thin") else argument


def _one_after_another(stages: list[tuple[Any, Any, tuple]], start: Array, options: RunOptions) -> Solution:
    """The last of several solves, of a function, a solver and data each; its work is that of all."""
    solutions = []
    for k, (function, solver, data) in enumerate(stages):
        last = k + 1 == len(stages)
        if options.watch is not None and options.watch.over() and not last:
            continue  # the last stage alone knows the value
        with stage(options, f"stage {k + 1} of {len(stages)}"):
            found = solve(function, start, data, solver, options)
        start = jnp.where(jnp.isfinite(found.point).all(), found.point, start)
        solutions.append(found)
    steps, evaluations = sum(found.steps for found in solutions), sum(found.evaluations for found in solutions)
    return _with_work(solutions[-1], steps, evaluations)


def _with_work(solution: Solution, steps: Any, evaluations: Any) -> Solution:
    return dataclasses.replace(solution, steps=steps.astype(jnp.int32), evaluations=evaluations.astype(jnp.int32))
