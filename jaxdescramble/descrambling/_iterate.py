"""Descramble by an iterative solver: choose the start and the solver, and describe the problem."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import real_type
from jaxdescramble._base.programs import quick_jit
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._planning import planned
from jaxdescramble.exact.brockett import UNITARY, brockett_minimiser
from jaxdescramble.manifolds import orthogonal, unitary
from jaxdescramble.manifolds.groups import ORTHOGONAL
from jaxdescramble.manifolds.named import GROUPS
from jaxdescramble.objectives import Objective, Summary
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.solvers import Solution, Solver
from jaxdescramble.solvers.descent import RunOptions
from jaxdescramble.solvers.implicit import attach
from jaxdescramble.solvers.modes import modes_operator, on_modes
from jaxdescramble.solvers.solution import Count
from jaxdescramble.solvers.solve import best, best_of, solve_each
from jaxdescramble.solvers.watch import Watch


class Found(NamedTuple):
    """Result of an iterative solver: the fields of `exact.Extremum`, and the number of steps.

    Attributes:
        bound: lower bound over all orthogonal points, from the objective; minus infinity if the objective has none.
        classes: number of determinant classes of O(n) that were searched.
        residual: relative size of the gradient at the point, see `solvers.Solution`; NaN for a permutation.
    """

    point: Inexact[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    bound: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch n"]
    rank: Int[Array, "*batch"]
    steps: Count
    status: Int[Array, "*batch"]
    classes: Int[Array, "*batch"]
    residual: Float[Array, "*batch"] | float = math.nan


class Prepared(NamedTuple):
    """A problem in the form that a solver takes.

    Attributes:
        summary: summary of the signals; all zeros if they are not finite.
        starts: one start for each determinant class to search.
    """

    summary: Summary
    starts: Inexact[Array, "classes n n"]


def iterate(
    objective: Objective,
    summary: Summary,
    group: str,
    solver: Solver,
    start: Inexact[Array, "n n"] | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
) -> Found:
    """Minimise an objective of a summary by an iterative solver, inside a compiled program.

    Args:
        objective, summary, group: see `descramble`.
        solver: a solver of `jaxdescramble.solvers`.
        start: the first point; its determinant class is kept. None means the better of the raw frame and the polar step
            from it.
        restarts, key: number of further starts, and the random key that draws them; see `_planning.planned`.
    """
    solver, options = _plan(objective, summary, group, solver, start, restarts, key)
    prepared = prepare(objective, summary, group, start, _classes(objective, solver, options, summary.size))
    args = (prepared.summary,)
    found = best(_solve_each(*jax.lax.stop_gradient((objective, prepared.starts, args, solver)), options))
    known = known_of(objective, summary, prepared.summary)
    manifold = options.manifold if group in UNITARY else ORTHOGONAL
    return describe(known, attach(found, objective, args, manifold), options)


def iterate_in_slices(
    objective: Objective,
    summaries: Summary,
    group: str,
    solver: Solver,
    start: Inexact[Array, "n n"] | Inexact[Array, "batch n n"] | None,
    restarts: int,
    key: PRNGKeyArray | None,
    watch: Watch,
) -> Found:
    """Do what `iterate` does for a batch of problems outside `jit`, where a watch can stop the solves.

    Args:
        objective, group, solver, restarts, key: see `iterate`.
        summaries: summaries with one leading axis.
        start: one start for all problems, or one for each.
        watch: the watch that follows the solves.
    """
    one = jax.tree.map(lambda leaf: leaf[0], summaries)
    solver, options = _plan(objective, one, group, solver, start, restarts, key, watch)
    classes = _classes(objective, solver, options, one.size)
    prepared = _prepare_all(objective, summaries, start, group, classes)
    # Do this before the solve, so that nothing large must be compiled after Ctrl-C.
    known = _known_all(objective, summaries, prepared.summary)
    if len(prepared.starts) == 1:
        starts, summary = _first_of(prepared)
        found = _as_batch(solve_each(objective, starts, (summary,), solver, options))
    else:  # one class after the other, by the same program
        starts = _by_class(prepared.starts)
        both = [solve_each(objective, one, (prepared.summary,), solver, options, own=True) for one in starts]
        found = both[0] if classes == 1 else best_of(both)
    return _describe_all(known, found, options.compiled)


@functools.partial(jax.jit, static_argnames="options")
def _solve_each(objective: Objective, starts: Array, args: tuple, solver: Solver, options: RunOptions) -> Solution:
    return solve_each(objective, starts, args, solver, options)


def _plan(
    objective: Objective,
    summary: Summary,
    group: str,
    solver: Solver,
    start: Array | None,
    restarts: int,
    key: PRNGKeyArray | None,
    watch: Watch | None = None,
) -> tuple[Solver, RunOptions]:
    """Return the solver with its restarts, and the options of its run.

    Without restarts, a given start keeps its determinant class.
    """
    solver = planned(objective, summary, solver, start is not None, restarts, key, group)
    if group in UNITARY:
        return solver, RunOptions(manifold=GROUPS[group], watch=watch)
    both = group == "O" and (start is None or restarts)
    return solver, RunOptions(manifold=GROUPS["O" if both else "SO"], watch=watch)


def _classes(objective: Objective, solver: Solver, options: RunOptions, n: int) -> int:
    """Return the number of starts, one for each determinant class that must be searched."""
    several = options.manifold == ORTHOGONAL and not (objective.mirrored(n) or hasattr(solver, "both_classes"))
    return 2 if several else 1


def prepare(
    objective: Objective, summary: Summary, group: str, start: Inexact[Array, "n n"] | None, classes: int
) -> Prepared:
    """Return the problem in the form that a solver takes; signals that are not finite become zeros, and `describe`
    reports them later."""
    safe = cleared(summary)
    if classes == 2:
        in_class = functools.partial(first_guess, objective, safe, group)
        return Prepared(safe, jax.lax.map(in_class, jnp.asarray([1.0, -1.0], safe.dtype)))
    start = first_guess(objective, safe, group) if start is None else start
    return Prepared(safe, start[None])


class Known(NamedTuple):
    """What is known about a problem before it is solved: whether it has an answer, and some fields of `Found`."""

    finite: Array
    silent: Array
    bound: Array
    singular_values: Array
    rank: Array


def known_of(objective: Objective, summary: Summary, safe: Summary) -> Known:
    """Return what is known about a problem before it is solved."""
    finite = summary.finite()
    # Bounds need decompositions that have no derivative in reverse mode; here they are constants.
    bound = jax.lax.stop_gradient(objective).bound(jax.lax.stop_gradient(safe))
    _, singular = jax.lax.stop_gradient(safe).principal()
    missing = jnp.asarray(jnp.nan, real_type(safe.dtype))
    return Known(
        finite=finite,
        silent=~(safe.power() > 0),
        bound=jnp.where(finite, -jnp.inf if bound is None else bound, missing).astype(missing.dtype),
        singular_values=jnp.where(finite, singular, missing),
        rank=jnp.sum(decompositions.resolved(singular**safe.exponent), dtype=jnp.int32),
    )


def describe(known: Known, found: Solution, options: RunOptions) -> Found:
    """Return the result of a solve, together with what is known about the problem."""
    missing = jnp.asarray(jnp.nan, real_type(found.point.dtype))
    status = jnp.where(known.silent, Status.ZERO_SIGNALS, found.status)
    return Found(
        point=jnp.where(known.finite, found.point, missing),
        value=jnp.where(known.finite, found.value, missing),
        bound=known.bound,
        singular_values=known.singular_values,
        rank=known.rank,
        steps=found.steps,
        status=jnp.where(known.finite, status, Status.NOT_FINITE).astype(jnp.int32),
        classes=jnp.full_like(found.steps, options.manifold.classes(found.point)),
        residual=jnp.where(known.finite, found.residual, missing),
    )


@quick_jit
def _first_of(prepared: Prepared) -> tuple[Array, Summary]:
    return prepared.starts[0], jax.tree.map(lambda leaf: leaf[0], prepared.summary)


@quick_jit
def _as_batch(found: Solution) -> Solution:
    return jax.tree.map(lambda leaf: leaf[None], best(found))


@quick_jit
def _by_class(starts: Inexact[Array, "batch classes n n"]) -> list[Array]:
    return [starts[:, k] for k in range(starts.shape[1])]


@functools.partial(quick_jit, static_argnames=("group", "classes"))
def _prepare_all(objective: Objective, summaries: Summary, start: Array | None, group: str, classes: int) -> Prepared:
    each = None if start is None or start.ndim == 2 else 0
    run = functools.partial(prepare, objective, group=group, classes=classes)
    return jax.vmap(lambda summary, start: run(summary, start=start), (0, each))(summaries, start)


@quick_jit
def _known_all(objective: Objective, summaries: Summary, safe: Summary) -> Known:
    return jax.vmap(functools.partial(known_of, objective))(summaries, safe)


@functools.partial(quick_jit, static_argnames="options")
def _describe_all(known: Known, found: Solution, options: RunOptions) -> Found:
    return jax.vmap(functools.partial(describe, options=options))(known, found)


def first_guess(objective: Objective, summary: Summary, group: str, determinant: Array | None = None) -> Array:
    """Return the best of the raw frame P = 1, the polar step from it, and the principal components on slow modes.

    The polar step is the minimiser of the objective linearised at P = 1; for a linear objective it is the exact answer.
    If the objective looks at differences `D P S`, the third candidate is the closed form of `||D P S||_F`.

    Args:
        objective, summary, group: see `descramble`.
        determinant: determinant of the guess, +1 or -1; None means the better one that `group` allows.
    """
    fixed, quiet = jax.lax.stop_gradient((objective, summary))
    eye = jnp.eye(summary.size, dtype=summary.dtype)
    raw = eye if determinant is None else eye.at[-1, -1].set(determinant)
    value, slope = jax.value_and_grad(lambda point: fixed(point, quiet))(raw)
    slope = jnp.where(jnp.isfinite(slope).all(), slope, -raw)
    if group in UNITARY:
        polar = _in_group(unitary.polar(-jnp.conj(slope)), group)
    elif determinant is None:
        polar, _ = orthogonal.polar(-slope, group)
    else:
        flip = jnp.diagonal(raw)[:, None]
        polar = flip * orthogonal.polar(-flip * slope, "SO")[0]
    guesses = [polar]
    operator = modes_operator(objective, summary.size)
    if operator is not None and group in UNITARY:
        guesses.append(brockett_minimiser(operator, quiet, group).point)
    elif operator is not None:
        modes = on_modes(quiet, operator, raw, any_class=determinant is None and group == "O")
        guesses.append(modes.astype(raw.dtype))
    for guess in guesses:
        new = fixed(guess, quiet)
        raw, value = jnp.where(new < value, guess, raw), jnp.where(new < value, new, value)
    return raw


def _in_group(point: Array, group: str) -> Array:
    return unitary.special(point) if group == "SU" else point
