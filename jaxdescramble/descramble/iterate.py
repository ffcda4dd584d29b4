"""Descramble by iteration: which start, which solver, and what is said about the problem itself."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdescramble import decompositions
from jaxdescramble.exact import ClosedForm
from jaxdescramble.groups import orthogonal
from jaxdescramble.objectives import Objective, Summary
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.solvers import LBFGS, FromSources, PolarPower, Restarts, minimise
from jaxdescramble.solvers.starts import reads_sources
from jaxdescramble.status import Status


class Found(NamedTuple):
    """What an iterative solver found: as `exact.Extremum`, with the steps it took.

    Attributes:
        bound: what the objective says that no orthogonal point goes below; minus infinity if it says nothing.
    """

    point: Float[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    bound: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch n"]
    rank: Int[Array, "*batch"]
    steps: Int[Array, "*batch"]
    status: Int[Array, "*batch"]


def solver_for(objective: Objective) -> Any:
    """The solver that suits what an objective says about itself.

    A quadratic form has its closed form; minus a convex function has the polar fixed point; whatever else is minimised
    by L-BFGS, preconditioned by a Hessian that is measured.

    >>> from jaxdescramble.objectives import smoothness
    >>> solver_for(smoothness())
    ClosedForm()
    """
    if objective.operator is not None:
        return ClosedForm()
    return PolarPower() if objective.concave else LBFGS()


def iterate(
    objective: Objective,
    summary: Summary,
    group: str,
    solver: Any,
    start: Float[Array, "n n"] | None = None,
    keys: Array | None = None,
) -> Found:
    """Minimise an objective of a summary by an iterative solver.

    Args:
        objective, summary, group: as in `descramble`.
        solver: a value of `jaxdescramble.solvers`.
        start: where to start; None for the better of the raw frame and the polar step from it.
        keys: of further starts, one each; None for none. Where the order of neurons can be read off sparse sources, the
            keys are those of the search for the sources; elsewhere starts are Haar-random.
    """
    finite = summary.finite()
    # A poisoned problem is solved as zeros; its point says so afterwards.
    safe = cleared(summary)
    if start is None:
        start = first_guess(objective, safe, group)
    if keys is not None:
        solver = FromSources(solver, keys) if reads_sources(objective, safe) else Restarts(solver, keys, group)
    found = minimise(objective, start, safe, solver=solver)
    bound = objective.bound_on(safe)
    _, singular = jax.lax.stop_gradient(safe).principal()
    rank = jnp.sum(decompositions.resolved(singular**safe.exponent), dtype=jnp.int32)
    status = jnp.where(safe.power() > 0, found.status, Status.ZERO_SIGNALS)
    missing = jnp.asarray(jnp.nan, safe.dtype)
    return Found(
        point=jnp.where(finite, found.point, missing),
        value=jnp.where(finite, found.value, missing),
        bound=jnp.where(finite, -jnp.inf if bound is None else bound, missing).astype(safe.dtype),
        singular_values=jnp.where(finite, singular, missing),
        rank=rank,
        steps=found.steps,
        status=jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int32),
    )


def first_guess(objective: Objective, summary: Summary, group: str) -> Array:
    """The raw frame, or the minimiser of the objective linearised there if that is better: exact for linear ones."""
    fixed, quiet = jax.lax.stop_gradient((objective, summary))
    eye = jnp.eye(summary.size, dtype=summary.dtype)
    value, slope = jax.value_and_grad(lambda point: fixed(point, quiet))(eye)
    slope = jnp.where(jnp.isfinite(slope).all(), slope, -eye)
    polar, _ = orthogonal.polar(-slope, group)
    return jnp.where(fixed(polar, quiet) < value, polar, eye)
