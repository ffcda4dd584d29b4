"""A model of the Hessian on products of manifolds, for `preconditioners.bind`: one block for each part.

What couples two parts is left out. A part that has a model of its own, such as O(n), gets this model, of the function
of the part with the others fixed. Any other part gets one number: its curvature along a fixed direction. So a part
whose numbers are large, such as a shift in millimetres beside a rotation, does not decide alone how long a step is.
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

LEAST = 1e-8
"""The least divisor of a part, in units of the largest; the numbers of parts may have very different units."""

Prepare = Callable[[Iterate, PyTree], tuple[Callable[[Array], Array], Array, PyTree]]
"""What `preconditioners.bind` returns too."""


class State(NamedTuple):
    """What a solver carries.

    Attributes:
        age: number of steps.
        curvatures: a number for each part, measured at the steps 0, 1, 2, 4, 8, ...
        parts: the states of the models of the parts.
    """

    age: Array
    curvatures: Float[Array, " parts"]
    parts: tuple


def bind(
    problem: ManifoldFunction, start: Iterate, bind_part: Callable[[ManifoldFunction, Iterate], tuple[PyTree, Prepare]]
) -> tuple[PyTree, Prepare]:
    """Return the initial state and `prepare`; see `preconditioners.bind`.

    Args:
        problem: a function on a product.
        start: where the models of the parts begin.
        bind_part: what binds a model to one part.
    """
    manifold = problem.manifold
    count = len(manifold.factors)

    def prepare(iterate: Iterate, state: State) -> tuple[Callable[[Array], Array], Array, State]:
        due = state.age & (state.age - 1) == 0
        curvatures = if_due(due, lambda: _curvatures(problem, iterate), state.curvatures)
        sizes = _divisors(problem, iterate, curvatures)
        own = []
        for k in range(count):
            # The others stand where they are now.
            _, of_part = bind_part(part(problem, iterate, k)[0], part(problem, start, k)[1])
            own.append(of_part(part(problem, iterate, k)[1], state.parts[k]))

        def divide(velocity: Array) -> Array:
            divided = []
            for k, its in enumerate(manifold.velocities(iterate.point, velocity)):
                modelled, known, _ = own[k]
                divided.append(jnp.ravel(jnp.where(known, modelled(its), its / sizes[k])))
            return jnp.concatenate(divided)

        known = jnp.isfinite(sizes).all()
        return divide, known, State(state.age + 1, curvatures, tuple(its for _, _, its in own))

    states = tuple(bind_part(*part(problem, start, k))[0] for k in range(count))
    return State(jnp.zeros((), jnp.int32), jnp.ones(count, start.value.dtype), states), prepare


def part(problem: ManifoldFunction, iterate: Iterate, k: int) -> tuple[ManifoldFunction, Iterate]:
    """Return the function of one part, with the others fixed, and its point and derivatives there."""
    manifold = problem.manifold
    points = manifold.parts_of(iterate.point)
    gradient = manifold.velocities(iterate.point, iterate.gradient)[k]

    def alone(point: PyTree, points: list, *args: PyTree) -> Array:
        return jnp.asarray(problem.function(manifold.whole_of([*points[:k], point, *points[k + 1 :]]), *args))

    its = Iterate(points[k], iterate.value, gradient, iterate.normal[k], iterate.place[k])
    return ManifoldFunction(alone, (points, *problem.args), manifold.factors[k], problem.unit), its


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
    return jnp.where(usable, jnp.maximum(found, LEAST * largest), 1)
