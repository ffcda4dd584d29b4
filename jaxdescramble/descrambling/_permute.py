"""Descramble by a permutation, the only change of frame that commutes with every pointwise activation."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._iterate import Found
from jaxdescramble.manifolds import permutation
from jaxdescramble.objectives import Objective, Summary
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.solvers import quadratic_assignment


def permute(objective: Objective, summary: Summary, restarts: int = 0, key: PRNGKeyArray | None = None) -> Found:
    """Minimise an objective over S(n): a quadratic assignment problem.

    Args:
        objective: an objective with an `assignment` method.
        summary: summary of the signals.
        restarts: number of searches after the first.
        key: random key of the searches; None means a fixed key.

    Raises:
        ValueError: if the objective is not a quadratic assignment problem.
    """
    finite = summary.finite()
    safe = cleared(summary)
    matrices = objective.assignment(safe)
    if matrices is None:
        raise ValueError(
            f"group 'permutation': {objective.name} is no quadratic assignment problem over permutations. Use "
            "smoothness, periodicity, locality or total_variation(order=1), or write one with a method `assignment`."
        )
    key = jax.random.key(0) if key is None else key
    found = quadratic_assignment(*matrices, key=key, searches=1 + restarts, symmetric=True)
    point = permutation.matrix(found.point, safe.dtype)
    known = objective.bound(safe)
    bound = found.bound if known is None else jnp.maximum(found.bound, known)
    _, singular = safe.principal()
    missing = jnp.asarray(jnp.nan, safe.dtype)
    status = jnp.where(safe.power() > 0, found.status, Status.ZERO_SIGNALS)
    return Found(
        point=jnp.where(finite, point, missing),
        # Take the value from the objective: that of the assignment is a difference of large numbers, hence inaccurate.
        value=jnp.where(finite, objective(point, safe), missing),
        bound=jnp.where(finite, bound, missing).astype(safe.dtype),
        singular_values=jnp.where(finite, singular, missing),
        rank=jnp.sum(decompositions.resolved(singular**safe.exponent), dtype=jnp.int32),
        steps=found.steps,
        status=jnp.where(finite, status, Status.NOT_FINITE).astype(jnp.int32),
        classes=jnp.full((), 2, jnp.int32),
    )
