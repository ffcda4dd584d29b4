"""A problem in the form that solvers use: a scalar function on a manifold, its gradient and Hessian, in coordinates.

Near a point, the geodesic with the coordinates w ends at `exp(w)`. Coordinates are orthonormal, so

    f(exp(w)) = f + <g, w> + <w, H w> / 2 + ...

with plain sums of products. On O(n), w is a skew matrix Omega, `exp(w) = P exp(Omega)`, and with the Euclidean gradient
G of f and M the symmetric part of `P^T G`,

    g = skew(P^T G),   H Omega = skew(P^T D^2 f[P Omega] - (M Omega + Omega M) / 2).

Coordinates need no transport: to keep them is an isometry. So memories, moments and conjugate directions are plain
arrays.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.products import inner, is_complex, real_type, square_sum
from jaxdescramble.manifolds.groups import ORTHOGONAL
from jaxdescramble.manifolds.manifold import TINY, Manifold

Tree = TypeVar("Tree")

__all__ = ["TINY", "Iterate", "ManifoldFunction", "better", "check_samples", "inner", "is_finite", "name_of", "norm"]


class Iterate(NamedTuple):
    """A point, and the function's value and derivatives there.

    Attributes:
        point: the point, an array or a pytree of arrays.
        value: f(P).
        gradient: coordinates of the gradient: on O(n), the skew matrix g.
        normal: the part of the slope normal to the manifold, which the Hessian needs: on O(n), the symmetric matrix M;
            `P (g + M)` is the Euclidean gradient.
        place: what coordinates at the point depend on, see `Manifold.place`.
    """

    point: PyTree
    value: Float[Array, "*batch"]
    gradient: Float[Array, "*coordinates"]
    normal: PyTree
    place: PyTree = ()

    @property
    def finite(self) -> Array:
        """Whether value and gradient are finite."""
        return jnp.isfinite(self.value) & jnp.isfinite(self.gradient).all()


def norm(a: Array) -> Float[Array, ""]:
    """Return the Frobenius norm.

    >>> float(norm(2 * jnp.ones((2, 2))))
    4.0
    """
    return jnp.sqrt(square_sum(a))


def is_finite(tree: PyTree) -> Array:
    """Return whether all numbers of a pytree are finite.

    >>> bool(is_finite((jnp.ones(2), jnp.zeros(1))))
    True
    """
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def better(flag: Array, yes: Tree, no: Tree) -> Tree:
    """Return one of two pytrees, chosen by a scalar flag.

    >>> better(jnp.asarray(True), (1.0, 2.0), (3.0, 4.0))[0].tolist()
    1.0
    """
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def name_of(function: object) -> str:
    """Return the name of a function, for a message.

    >>> name_of(jax.tree_util.Partial(inner))
    'inner'
    """
    inner = getattr(function, "func", function)
    return getattr(inner, "name", "") or getattr(inner, "__name__", type(inner).__name__)


def check_samples(solver: str, method: str, function: object, args: tuple) -> None:
    """Raise `TypeError` unless an argument is a summary that keeps samples and has this method.

    >>> from jaxdescramble.objectives import Samples
    >>> check_samples("Minibatches", "draw", inner, (Samples(jnp.eye(2)),))
    """
    if not any(hasattr(argument, method) for argument in args):
        raise TypeError(
            f"{solver}: {name_of(function)} receives no samples to {method}. Use an objective that keeps samples "
            "(total_variation, smoothness(summary='samples')), or pass objectives.Samples(signals)."
        )


@dataclasses.dataclass(frozen=True)
class ManifoldFunction:
    """A scalar function on a manifold of a point and further arguments, with its gradient and its Hessian.

    Attributes:
        function: a function `function(point, *args) -> scalar`.
        args: data of the function, a tuple of pytrees.
        manifold: where the points live.
        unit: unit of the values; None means 1.
    """

    function: Callable[..., ArrayLike]
    args: tuple
    manifold: Manifold = ORTHOGONAL
    unit: Array | None = None

    def value(self, point: PyTree) -> Float[Array, ""]:
        """Return f(P)."""
        value = jnp.asarray(self.function(point, *self.args), real_type_of(point))
        return value if self.unit is None else value / self.unit

    def slope(self, point: PyTree) -> PyTree:
        """Return the Euclidean gradient."""
        return _conjugate(jax.grad(self.value)(point))

    def evaluate(self, point: PyTree) -> Iterate:
        """Return value and gradient at a point."""
        return self._evaluated(point)[0]

    def _evaluated(self, point: PyTree) -> tuple[Iterate, PyTree]:
        value, slope = jax.value_and_grad(self.value)(point)
        slope, place = _conjugate(slope), self.manifold.place(point)
        gradient, normal = self.manifold.split(point, place, slope)
        return Iterate(point, value, gradient, normal, place), slope

    def move(self, iterate: Iterate, velocity: Array) -> Iterate:
        """Move along the geodesic with a velocity of at most `CAP`; stay on the manifold to rounding."""
        return self.evaluate(self.manifold.move(iterate.point, iterate.place, velocity)[0])

    def move_along(self, iterate: Iterate, time: ArrayLike, direction: Array) -> tuple[Iterate, Array]:
        """Move along a geodesic for a time; return also the derivative of f by time at its end."""
        end, arrival = self.manifold.move(iterate.point, iterate.place, jnp.asarray(time * direction))
        trial, slope = self._evaluated(end)
        return trial, self.manifold.slope_along(trial.gradient, direction, arrival, slope, time)

    def farthest(self, iterate: Iterate, direction: Array) -> Float[Array, ""]:
        """Return the largest t for which `t * direction` turns no plane by more than `CAP`."""
        return self.manifold.farthest(iterate.point, direction)

    def euclidean(self, iterate: Iterate) -> PyTree:
        """Return the gradient in the space of all matrices."""
        return self.manifold.join(iterate.point, iterate.place, iterate.gradient, iterate.normal)

    def hessian(self, iterate: Iterate) -> Callable[[Array], Array]:
        """Return the product `w -> H w` at a point; the linearisation happens once."""
        point, place = iterate.point, iterate.place
        _, derivative = jax.linearize(self.slope, point)

        def product(velocity: Array) -> Array:
            bend = derivative(self.manifold.vector(point, place, velocity))
            return self.manifold.second(point, place, iterate.gradient, iterate.normal, velocity, bend)

        return product


def real_type_of(point: PyTree) -> np.dtype:
    """Return the type of the real numbers of a point.

    >>> real_type_of((jnp.zeros(2, jnp.complex64),)).name
    'float32'
    """
    return real_type(jax.tree.leaves(point)[0].dtype)


def size_of(iterate: Iterate) -> Float[Array, ""]:
    """Return `||grad f||_F`, the norm of the gradient in the space of all matrices."""
    return jnp.sqrt(square_sum(iterate.gradient) + sum(map(square_sum, jax.tree.leaves(iterate.normal))))


def _conjugate(slope: PyTree) -> PyTree:
    """Return the gradient `df/dx + i df/dy`; JAX returns its conjugate."""
    return jax.tree.map(lambda leaf: jnp.conj(leaf) if is_complex(leaf) else leaf, slope)
