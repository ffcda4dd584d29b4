"""A model of the Hessian on products of manifolds, for `preconditioners.bind`: one number for each part.

The number is the curvature of the part along a fixed direction. So a part whose numbers are large, such as a shift in
millimetres beside a rotation, does not decide alone how long a step is. Finer models of the parts, such as those that
they have alone, saved steps in some problems and took three to twenty times as many in others, because what they
measure changes with the other parts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxdescramble.manifolds.manifold import CAP
from jaxdescramble.solvers._batches import if_due
from jaxdescramble.solvers._kronecker import rudin_shapiro
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, inner

LEAST = 0.9
"""The least divisor of a part, in units of the largest, is the dtype's eps to this power."""

Prepare = Callable[[Iterate, PyTree], tuple[Callable[[Array], Array], Array, PyTree]]
"""What `preconditioners.bind` returns too."""


class State(NamedTuple):
    """What a solver carries.

    Attributes:
        age: number of steps.
        curvatures: a number for each part, measured at the steps 0, 1, 2, 4, 8, ...
    """

    age: Array
    curvatures: Float[Array, " parts"]


def bind(problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Prepare]:
    """Return the initial state and `prepare`; see `preconditioners.bind`."""
    manifold = problem.manifold

    def prepare(iterate: Iterate, state: State) -> tuple[Callable[[Array], Array], Array, State]:
        due = state.age & (state.age - 1) == 0
        curvatures = if_due(due, lambda: _curvatures(problem, iterate), state.curvatures)
        sizes = _divisors(problem, iterate, curvatures)

        def divide(velocity: Array) -> Array:
            parts = manifold.velocities(iterate.point, velocity)
            return jnp.concatenate([jnp.ravel(its / size) for its, size in zip(parts, sizes, strict=True)])

        return divide, jnp.isfinite(sizes).all(), State(state.age + 1, curvatures)

    nothing = jnp.ones(len(manifold.factors), start.value.dtype)
    return State(jnp.zeros((), jnp.int32), nothing), prepare


def _curvatures(problem: ManifoldFunction, iterate: Iterate) -> Float[Array, " parts"]:
    """Return `|<v, H v>| / <v, v>` for each part, v made of signs."""
    manifold, point = problem.manifold, iterate.point
    parts = manifold.velocities(point, iterate.gradient)
    signs = jnp.asarray(rudin_shapiro(iterate.gradient.size), iterate.value.dtype)
    v = manifold.clean(point, signs)
    owner = jnp.asarray(np.repeat(np.arange(len(parts)), [its.size for its in parts]))
    product = problem.hessian(iterate)

    def along(k: Array) -> Array:
        its = jnp.where(owner == k, v, 0)
        return jnp.abs(inner(its, product(its))) / jnp.maximum(inner(its, its), TINY)

    return jax.lax.map(along, jnp.arange(len(parts)))


def _divisors(problem: ManifoldFunction, iterate: Iterate, curvatures: Array) -> Float[Array, " parts"]:
    """Return the curvatures, raised so that no part turns by more than `CAP` and none is divided by about zero."""
    manifold = problem.manifold
    points, gradients = manifold.parts_of(iterate.point), manifold.velocities(iterate.point, iterate.gradient)
    turns = [one.bound(point, g) / CAP for one, point, g in zip(manifold.factors, points, gradients, strict=True)]
    found = jnp.maximum(curvatures, jnp.stack(turns).astype(curvatures.dtype))
    largest = jnp.max(found)
    usable = jnp.isfinite(largest) & (largest > 0)
    least = float(jnp.finfo(found.dtype).eps) ** LEAST
    return jnp.where(usable, jnp.maximum(found, least * largest), 1)
