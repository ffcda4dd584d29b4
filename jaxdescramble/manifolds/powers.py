"""Powers of manifolds: one function of many points of one manifold, stacked along a leading axis."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import is_traced, numbers
from jaxdescramble._base.products import complex_type, is_complex
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.products import Product, is_manifold


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Power(Manifold):
    """Several points of one manifold, stacked along a leading axis: one function of many matrices of one size.

    Use it instead of a `Product` of equal parts: one program moves all of them at once.

    Attributes:
        manifold: the manifold of each.

    >>> from jaxdescramble.manifolds import SpecialUnitary
    >>> gates = Power(SpecialUnitary())
    >>> gates.dimension(gates.random(jax.random.key(0), 3, 4, 4))
    45

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 3.1.6.
    """

    manifold: Any
    axes: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if not is_manifold(self.manifold) or isinstance(self.manifold, Product):
            raise TypeError(f"manifold: got {self.manifold!r}; expected a manifold such as manifolds.Unitary().")

    @property
    def symbol(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self.manifold.symbol}^k"

    @property
    def complex(self) -> bool | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.manifold.complex

    def check(self, point: Any, name: str = "point") -> Array:
        array = numbers(point, name)
        if not array.ndim or not len(array):
            raise ValueError(f"{name}: got shape {array.shape}; expected points stacked along a leading axis.")
        self.shaped(array, name)
        if self.complex and not is_complex(array):
            array = array.astype(complex_type(array.dtype))
        if not is_traced(array):  # test on the host: inside a user's jit, slices of the array would be traced
            for k, one in enumerate(np.asarray(array)):
                self.manifold.check(one, f"{name}[{k}]")
        return array

    def shaped(self, like: Any, name: str) -> None:
        if not like.shape or not like.shape[0]:
            raise ValueError(f"{name}: got shape {like.shape}; expected points stacked along a leading axis.")
        if self.manifold.axes is not None and len(like.shape) != self.manifold.axes + 1:
            expected = ("k", "n", "p")[: self.manifold.axes + 1]
            raise ValueError(
                f"{name}: got shape {like.shape}; k points of {self.manifold.symbol} have the shape "
                f"({', '.join(expected)}). One point alone is a point of {type(self.manifold).__name__}()."
            )
        self.manifold.shaped(_one(like), name)

    def origin(self, like: Any) -> Array:
        one = self.manifold.origin(_one(like))
        return jnp.broadcast_to(one, (like.shape[0], *one.shape))

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        keys = jax.random.split(key, point.shape[0])
        if isinstance(point, Array):
            return jax.vmap(self.manifold.another)(keys, point)
        return jax.vmap(lambda key: self.manifold.another(key, _one(point)))(keys)

    def polish(self, point: Array) -> Array:
        return jax.vmap(self.manifold.polish)(point)

    def defect(self, point: Array) -> Float[Array, ""]:
        return jnp.max(jax.vmap(self.manifold.defect)(point))

    def dimension(self, point: Any) -> int:
        return point.shape[0] * self.manifold.dimension(_one(point))

    def place(self, point: Array) -> PyTree:
        return jax.vmap(self.manifold.place)(point)

    def split(self, point: Array, place: PyTree, slope: Array) -> tuple[Array, PyTree]:
        return jax.vmap(self.manifold.split)(point, place, slope)

    def join(self, point: Array, place: PyTree, gradient: Array, normal: PyTree) -> Array:
        return jax.vmap(self.manifold.join)(point, place, gradient, normal)

    def coordinates(self, point: Array, place: PyTree, vector: Array) -> Array:
        return jax.vmap(self.manifold.coordinates)(point, place, vector)

    def vector(self, point: Array, place: PyTree, velocity: Array) -> Array:
        return jax.vmap(self.manifold.vector)(point, place, velocity)

    def clean(self, point: Array, velocity: Array) -> Array:
        return jax.vmap(self.manifold.clean)(point, velocity)

    def extent(self, point: Any) -> tuple[int, ...]:
        return (point.shape[0], *self.manifold.extent(_one(point)))

    def move(self, point: Array, place: PyTree, velocity: Array) -> tuple[Array, Array]:
        return jax.vmap(self.manifold.move)(point, place, velocity)

    def second(
        self, point: Array, place: PyTree, gradient: Array, normal: PyTree, velocity: Array, bend: Array
    ) -> Array:
        return jax.vmap(self.manifold.second)(point, place, gradient, normal, velocity, bend)

    def bound(self, point: Array, velocity: Array) -> Float[Array, ""]:
        return jnp.max(jax.vmap(self.manifold.bound)(point, velocity))

    def exponential(self, point: Any, vector: Any) -> Array:
        point, vector = self._given(point, vector)
        return jax.vmap(self.manifold.exponential)(point, vector)

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the tangent vectors of the parts."""
        point, to = self._both(point, to)
        return jax.vmap(self.manifold.logarithm)(point, to)

    def classes(self, point: Any) -> int:
        return self.manifold.classes(_one(point)) ** point.shape[0]

    def in_each_class(self, point: Array) -> Array:
        if self.manifold.classes(_one(point)) == 1:
            return point[None]
        return jnp.stack(Product((self.manifold,) * len(point)).in_each_class(tuple(point)), axis=1)

    def class_of(self, point: Array) -> PyTree:
        return jax.vmap(self.manifold.class_of)(point)

    def nearest(self, goal: Array, kind: PyTree) -> Array:
        return jax.vmap(self.manifold.nearest)(goal, kind)

    def cost(self, point: Any) -> float:
        return point.shape[0] * self.manifold.cost(_one(point))


def _one(like: Any) -> Any:
    """Return the shape and the type of one of several points."""
    return jax.ShapeDtypeStruct(like.shape[1:], like.dtype)
