"""What a manifold is: a value that solvers ask. They know no manifold by name.

A manifold gives *coordinates* of its tangent vectors: real arrays in which the metric is the sum of products. So the
memory of a solver is a plain array, an optax transformation sees plain arrays, and the transport of a vector from one
point to another keeps its coordinates: it is an isometry, and costs nothing.
"""

import abc
import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import floating_type
from jaxdescramble._base.products import complex_type, inner, is_complex
from jaxdescramble.manifolds._exponentials import CAP
from jaxdescramble.manifolds._logarithms import per_length
from jaxdescramble.manifolds._points import like_point

TINY = 1e-30
"""Lower limit of divisors, so that nothing is divided by zero in any dtype."""

PIECES = 1024
"""Largest number of pieces of a geodesic; each is at most `CAP` radians long."""


class Manifold(abc.ABC):
    """Base class of manifolds. A manifold has no sizes: they come from the points.

    Users call the methods with tangent vectors in the shape of a point (`project`, `gradient`, `inner`, `exponential`,
    `transport`, `logarithm`, `distance`, `random`, `check`). Solvers call the methods with coordinates.

    To add a manifold, write a frozen dataclass, register it with `jax.tree_util.register_static`, and give it the
    abstract methods below; solvers, derivatives and the tests of geometry then accept it. In these methods, `point` is
    a point, one array, `place` what `place(point)` returned, `velocity` an array of coordinates, and complex points
    have real coordinates with one more axis (`_base.products.as_real`).
    """

    # What users call: tangent vectors in the shape of a point.

    @abc.abstractmethod
    def check(self, point: Any, name: str = "point") -> Any:
        """Return a point as an array, if it is one of this manifold.

        Args:
            point: the point.
            name: name of the argument, for the message.

        Raises:
            TypeError: if it is not made of numbers of the right type.
            ValueError: if it has another shape, or lies off the manifold by more than 1e-2. A traced point is not
                tested.
        """

    @abc.abstractmethod
    def another(self, key: PRNGKeyArray, point: Any) -> Any:
        """Return a random point of the shape and the type of a point, uniformly distributed where this means something.

        Args:
            key: random key.
            point: any point.
        """

    def random(self, key: PRNGKeyArray, *shape: int, dtype: DTypeLike = float) -> Array:
        """Return a uniformly distributed point.

        Args:
            key: random key.
            shape: shape of the point, such as `n, p`.
            dtype: floating type of its real numbers, float32 or float64. Stiefel, Grassmann and Euclidean points may be
                complex: complex64 or complex128.

        Raises:
            TypeError, ValueError: if the shape or the type is not one of this manifold.
        """
        if self.complex is not False and _is_complex_type(dtype):
            kind = np.dtype(jax.dtypes.canonicalize_dtype(dtype))
        else:
            kind = floating_type(dtype)
        if self.complex:
            kind = complex_type(kind)
        try:
            like = jax.eval_shape(lambda: jnp.zeros(shape, kind))
            self.shaped(like, "shape")
        except TypeError as error:
            raise TypeError(f"shape: got {shape!r}; expected integers. {error}") from error
        return self.another(key, like)

    def project(self, point: Any, vector: Any) -> Any:
        """Return the tangent vector at a point nearest to any array of its shape.

        Args:
            point: the point.
            vector: an array of the same shape.
        """
        point, vector = self._given(point, vector)
        place = self.place(point)
        return self.vector(point, place, self.coordinates(point, place, vector))

    def gradient(self, point: Any, slope: Any) -> Any:
        """Return the Riemannian gradient, as a tangent vector: `<gradient, V> = <slope, V>_F` for all tangent V.

        Args:
            point: the point.
            slope: the matrix of derivatives by the entries of the point, `df/dx + i df/dy` for complex ones. (For a
                real function of complex numbers, `jax.grad` returns the conjugate.)
        """
        point, slope = self._given(point, slope, "slope")
        place = self.place(point)
        return self.vector(point, place, self.split(point, place, slope)[0])

    def inner(self, point: Any, vector: Any, other: Any) -> Float[Array, ""]:
        """Return the inner product of two tangent vectors at a point, in the metric of the manifold.

        Args:
            point: the point.
            vector: a tangent vector there.
            other: another tangent vector there.
        """
        point, vector = self._given(point, vector)
        _, other = self._given(point, other, "other")
        place = self.place(point)
        return inner(self.coordinates(point, place, vector), self.coordinates(point, place, other))

    def exponential(self, point: Any, vector: Any) -> Any:
        """Return the point at time 1 on the geodesic from a point along a tangent vector.

        Vectors may turn planes by up to 2000 radians. The manifolds of this library have derivatives in both modes;
        this method, which a new manifold inherits, goes in pieces of at most `CAP` and has them in forward mode.

        Args:
            point: the point.
            vector: a tangent vector there.
        """
        point, vector = self._given(point, vector)
        velocity = self.coordinates(point, self.place(point), vector)
        bound = jax.lax.stop_gradient(self.bound(point, velocity))
        pieces = jnp.where(jnp.isnan(bound), 1, jnp.clip(jnp.ceil(bound / CAP), 1, PIECES))  # NaN must pass

        def onward(state: tuple[Array, Any, Any]) -> tuple[Array, Any, Any]:
            k, at, vector = state
            place = self.place(at)
            return k + 1, *self.move(at, place, self.coordinates(at, place, vector))

        piece = jax.tree.map(lambda leaf: leaf / pieces.astype(leaf.real.dtype), vector)
        first = jnp.zeros((), pieces.dtype), point, piece
        return jax.lax.while_loop(lambda state: state[0] < pieces, onward, first)[1]

    def transport(self, point: Any, to: Any, vector: Any) -> Any:
        """Return a tangent vector at another point with the same coordinates. The transport is an isometry.

        Solvers move their memories in this way. It depends on both points only, not on a path between them.

        Args:
            point: the point where the vector starts.
            to: the other point.
            vector: a tangent vector at `point`.
        """
        point, to = self._both(point, to)
        point, vector = self._given(point, vector)
        return self.vector(to, self.place(to), self.coordinates(point, self.place(point), vector))

    def logarithm(self, point: Any, to: Any) -> Any:
        """Return the tangent vector V at a point with `exponential(point, V) = to`, the shortest one if both are near.

        Args:
            point: the point.
            to: the other point.

        Returns:
            V; NaN where it was not found (points far apart).

        Raises:
            TypeError: if the manifold does not know it.
        """
        raise TypeError(f"{self!r}: does not know logarithms and distances.")

    def distance(self, point: Any, to: Any) -> Float[Array, ""]:
        """Return the length of the geodesic that `logarithm` finds, in the metric of the manifold.

        It has derivatives in both modes, also where the logarithm has them in forward mode only: the gradient of
        `distance(P, Q)^2 / 2` by P is `-logarithm(P, Q)`. Where both points are equal, the derivative is 0.

        Args:
            point: the point.
            to: the other point.
        """
        return _distance(self, *self._both(point, to))

    # What solvers call: coordinates.

    complex: ClassVar[bool | None] = False
    """Whether the points are made of complex numbers; None allows both."""

    frames: ClassVar[bool] = False
    """Whether the points are frames of real signals, with skew matrices as coordinates: O(n) and SO(n). Models of the
    Hessian, and starts that are read off signals, are made for these."""

    axes: ClassVar[int | None] = 2
    """Number of axes of a point; None allows several."""

    symbol: ClassVar[str] = ""
    """The name of the manifold in messages."""

    @property
    def turn_weight(self) -> float | None:
        """Weight of `|A|^2` in the metric where tangent vectors are `X A + b`: on manifolds of orthonormal columns."""
        return None

    @property
    def factors(self) -> "tuple[Manifold, ...]":
        """The manifolds of a product; empty for any other manifold."""
        return ()

    def parts_of(self, tree: Any, name: str = "point") -> list:
        """Return the parts of a point or a tangent vector, one for each of `factors`; `name` is for messages."""
        return [tree]

    def whole_of(self, parts: Any) -> Any:
        """Return the point or the tangent vector with these parts."""
        (whole,) = parts
        return whole

    def velocities(self, point: Any, velocity: Array) -> list[Array]:
        """Return the coordinates of each part."""
        return [velocity]

    def place(self, point: Any) -> PyTree:
        """Return what coordinates at a point depend on, besides the point itself."""
        return ()

    @abc.abstractmethod
    def shaped(self, like: Any, name: str) -> None:
        """Raise the errors of `check` for a shape or a type; `like` has both, but no entries."""

    @abc.abstractmethod
    def origin(self, like: Any) -> Any:
        """Return some fixed point of the shape and the type of `like`."""

    @abc.abstractmethod
    def polish(self, point: Any) -> Any:
        """Return a point without the drift of rounding: the error becomes its square."""

    @abc.abstractmethod
    def defect(self, point: Any) -> Float[Array, ""]:
        """Return how far an array is from the manifold."""

    @abc.abstractmethod
    def dimension(self, point: Any) -> int:
        """Return the dimension of the manifold: the number of independent coordinates."""

    @abc.abstractmethod
    def split(self, point: Any, place: PyTree, slope: Any) -> tuple[Array, PyTree]:
        """Return the coordinates of the gradient and the normal part of the slope, as `second` wants it."""

    @abc.abstractmethod
    def join(self, point: Any, place: PyTree, gradient: Array, normal: PyTree) -> Any:
        """Return the slope: the inverse of `split`, for a slope without a part along the gauge."""

    @abc.abstractmethod
    def coordinates(self, point: Any, place: PyTree, vector: Any) -> Array:
        """Return the coordinates of an array projected onto the tangent space."""

    @abc.abstractmethod
    def vector(self, point: Any, place: PyTree, velocity: Array) -> Any:
        """Return the tangent vector with these coordinates."""

    @abc.abstractmethod
    def clean(self, point: Any, velocity: Array) -> Array:
        """Return the nearest array that holds coordinates: for O(n), the skew part of a matrix."""

    def extent(self, point: Any) -> tuple[int, ...]:
        """Return the shape of coordinates."""
        return (2, *point.shape) if is_complex(point) else tuple(point.shape)

    @abc.abstractmethod
    def move(self, point: Any, place: PyTree, velocity: Array) -> tuple[Any, Any]:
        """Return the end of the geodesic with this velocity, whose bound is at most `CAP`, and its velocity there, as a
        tangent vector."""

    @abc.abstractmethod
    def second(self, point: Any, place: PyTree, gradient: Array, normal: PyTree, velocity: Array, bend: Any) -> Array:
        """Return `H velocity`, where H is the Hessian along geodesics.

        Args:
            point, place: the point.
            gradient, normal: what `split` returned for the slope of the function.
            velocity: coordinates.
            bend: derivative of the slope along the tangent vector of the velocity.
        """

    @abc.abstractmethod
    def bound(self, point: Any, velocity: Array) -> Float[Array, ""]:
        """Return an upper bound of the angle, in radians, by which the fastest plane turns at time 1; it is linear in
        the length of the velocity."""

    def limit(self, point: Any, velocity: Array) -> tuple[Array, Float[Array, ""]]:
        """Return the velocity, shortened if its bound is above `CAP`, and the factor by which it was shortened."""
        factor = jnp.minimum(1, self.farthest(point, velocity)).astype(velocity.dtype)
        return factor * velocity, factor

    def farthest(self, point: Any, velocity: Array) -> Float[Array, ""]:
        """Return the largest t for which the bound of `t * velocity` is at most `CAP`; large for a velocity of 0."""
        return CAP / jnp.maximum(self.bound(point, velocity), TINY)

    def slope_along(
        self, gradient: Array, direction: Array, arrival: Any, slope: Any, time: ArrayLike
    ) -> Float[Array, ""]:
        """Return the derivative of a function by time, at the end of a geodesic.

        Args:
            gradient: coordinates of the gradient at the end.
            direction: coordinates of the velocity at the start, for time 1.
            arrival: what `move` returned for the velocity `time * direction`.
            slope: the slope of the function at the end.
            time: the time of the end.
        """
        return sum(map(inner, jax.tree.leaves(slope), jax.tree.leaves(arrival)), jnp.zeros((), direction.dtype)) / time

    def classes(self, point: Any) -> int:
        """Return the number of parts of the manifold that no path connects."""
        return 1

    def in_each_class(self, point: Any) -> Any:
        """Return one point in each part, the given one first, stacked along a new leading axis."""
        return jax.tree.map(lambda leaf: leaf[None], point)

    def class_of(self, point: Any) -> PyTree:
        """Return what tells the class of a point from others, for `nearest`."""
        return ()

    def nearest(self, goal: Any, kind: PyTree) -> Any:
        """Return the point of a class nearest to an array.

        Raises:
            TypeError: if the manifold does not know it.
        """
        raise TypeError(f"{self!r}: does not know the nearest point of an array, which PolarPower needs; use LBFGS().")

    def cost(self, point: Any) -> float:
        """Return about how many multiplications an operation of a solver takes at a point."""
        return sum(float(np.size(leaf) * min(np.shape(leaf)[-2:], default=1)) for leaf in jax.tree.leaves(point))

    # What both need.

    def _both(self, point: Any, to: Any) -> tuple[Any, Any]:
        """Return two points of one shape."""
        point, to = self.check(point), self.check(to, "to")
        shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(one)] for one in (point, to)]
        if shapes[0] != shapes[1]:
            here, there = (", ".join(map(str, some)) for some in shapes)
            raise ValueError(f"to: got shape {there}; must be that of the point, {here}.")
        return point, to

    def _given(self, point: Any, vector: Any, name: str = "vector") -> tuple[Any, Any]:
        """Return a point and an array of its shape and type."""
        point = self.check(point)
        return point, like_point(vector, point, name)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _distance(manifold: Manifold, point: Any, to: Any) -> Array:
    vector = manifold.logarithm(point, to)
    return jnp.sqrt(manifold.inner(point, vector, vector))


@_distance.defjvp
def _distance_jvp(manifold: Manifold, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    """Use the first variation of the length: only the ends of a geodesic matter."""
    (point, to), (here, there) = primals, tangents
    length = _distance(manifold, point, to)
    vector, back = manifold.logarithm(point, to), manifold.logarithm(to, point)
    change = manifold.inner(point, vector, here) + manifold.inner(to, back, there)
    return length, per_length(-change, length)


def _is_complex_type(dtype: DTypeLike) -> bool:
    try:
        return bool(np.issubdtype(np.dtype(dtype), np.complexfloating))
    except TypeError:
        return False
