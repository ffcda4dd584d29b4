"""The Euclidean space of arrays of any shape: free parameters beside constrained ones."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.products import as_like, as_real, is_complex, square_sum
from jaxdescramble.manifolds._exponentials import CAP
from jaxdescramble.manifolds._points import numbers_of, typed
from jaxdescramble.manifolds.manifold import Manifold


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Euclidean(Manifold):
    """Free real or complex numbers: arrays of any shape, with the Frobenius product.

    Use it for the leaves of a product that have no constraint, such as a shift beside a rotation. One step changes an
    array by at most twice (1 + its norm), which is what `CAP` radians are for groups. `Restarts` keeps the given
    values, because no uniform distribution exists.

    >>> from jaxdescramble import solvers
    >>> misfit = lambda x: jnp.sum((x - jnp.asarray([1.0, 300.0])) ** 2)
    >>> solvers.minimise(misfit, jnp.zeros(2), manifold=Euclidean()).point.round(3).tolist()
    [1.0, 300.0]

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 3.1.
    """

    axes: ClassVar[int | None] = None
    symbol: ClassVar[str] = "R^n"
    complex: ClassVar[bool | None] = None

    def check(self, point: Any, name: str = "point") -> Array:
        array = numbers_of(point, name, None, self.symbol)
        self.shaped(array, name)
        return array

    def shaped(self, like: Any, name: str) -> None:
        typed(like, name, None, self.symbol)
        if 0 in like.shape:
            raise ValueError(f"{name}: shape {like.shape} has an empty axis; leave this parameter out.")

    def origin(self, like: Any) -> Array:
        return jnp.zeros(like.shape, like.dtype)

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        return point if isinstance(point, Array) else jax.random.normal(key, point.shape, point.dtype)

    def polish(self, point: Array) -> Array:
        return point

    def defect(self, point: Array) -> Float[Array, ""]:
        return jnp.zeros((), point.real.dtype)

    def dimension(self, point: Any) -> int:
        return int(point.size) * (2 if is_complex(point) else 1)

    def split(self, point: Array, place: PyTree, slope: Array) -> tuple[Array, PyTree]:
        return as_real(slope), ()

    def join(self, point: Array, place: PyTree, gradient: Array, normal: PyTree) -> Array:
        return as_like(gradient, point)

    def coordinates(self, point: Array, place: PyTree, vector: Array) -> Array:
        return as_real(vector)

    def vector(self, point: Array, place: PyTree, velocity: Array) -> Array:
        return as_like(velocity, point)

    def clean(self, point: Any, velocity: Array) -> Array:
        return velocity

    def move(self, point: Array, place: PyTree, velocity: Array) -> tuple[Array, Array]:
        change = as_like(velocity, point)
        return point + change, change

    def second(
        self, point: Array, place: PyTree, gradient: Array, normal: PyTree, velocity: Array, bend: Array
    ) -> Array:
        return as_real(bend)

    def bound(self, point: Array, velocity: Array) -> Float[Array, ""]:
        return CAP / 2 * _length(velocity) / (1 + _length(jax.lax.stop_gradient(point)))

    def exponential(self, point: Any, vector: Any) -> Array:
        """Return the sum."""
        point, vector = self._given(point, vector)
        return point + vector

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the difference."""
        point, to = self._both(point, to)
        return to - point


def _length(array: Array) -> Float[Array, ""]:
    """Return the norm; neither it nor its derivative is infinite for large and zero arrays."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(array)))
    unit = jnp.where(largest > 0, largest, 1)
    total = square_sum(array / unit)
    return jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total))) * unit
