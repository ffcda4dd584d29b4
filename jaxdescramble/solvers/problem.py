"""A problem in the form that solvers use: a scalar function on O(n), its gradient and Hessian, in body coordinates.

Near P, points of the group are `P exp(Omega)` with skew Omega. With the Frobenius inner product on skew matrices, the
Euclidean gradient G of f, and M the symmetric part of `P^T G`,

    f(P exp(Omega)) = f(P) + <g, Omega> + <Omega, H Omega> / 2 + ...
    g = skew(P^T G),   H Omega = skew(P^T D^2 f[P Omega] - (M Omega + Omega M) / 2).

Body velocities need no transport: the left-invariant transport along any curve is the identity, and is an isometry. So
memories, moments and conjugate directions are plain arrays of skew matrices.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds import orthogonal, retractions

Tree = TypeVar("Tree")

TINY = 1e-30
"""Lower limit of divisors, so that nothing is divided by zero in any dtype."""


class Iterate(NamedTuple):
    """A point, and the function's value and derivatives there.

    Attributes:
        point: the point P.
        value: f(P).
        gradient: g, skew.
        symmetric: M, the contribution of the group's curvature to the Hessian; `P (g + M)` is the Euclidean gradient.
    """

    point: Float[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    gradient: Float[Array, "*batch n n"]
    symmetric: Float[Array, "*batch n n"]

    @property
    def finite(self) -> Array:
        """Whether value and gradient are finite."""
        return jnp.isfinite(self.value) & jnp.isfinite(self.gradient).all()

    @property
    def euclidean(self) -> Float[Array, "*batch n n"]:
        """The gradient in the space of all matrices."""
        return matmul(self.point, self.gradient + self.symmetric)


def inner(a: Array, b: Array) -> Float[Array, ""]:
    """Return `<A, B> = tr(A^T B)`.

    >>> float(inner(jnp.ones((2, 2)), jnp.eye(2)))
    2.0
    """
    return jnp.vdot(a, b, precision=jax.lax.Precision.HIGHEST)


def norm(a: Array) -> Float[Array, ""]:
    """Return the Frobenius norm.

    >>> float(norm(2 * jnp.ones((2, 2))))
    4.0
    """
    return jnp.sqrt(jnp.sum(a * a))


def better(flag: Array, yes: Tree, no: Tree) -> Tree:
    """Return one of two pytrees, chosen by a scalar flag.

    >>> better(jnp.asarray(True), (1.0, 2.0), (3.0, 4.0))[0].tolist()
    1.0
    """
    return jax.tree.map(lambda a, b: jnp.where(flag, a, b), yes, no)


def farthest(direction: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the largest t for which `t * direction` turns no plane by more than `CAP`; large for a zero direction.

    >>> float(farthest(jnp.asarray([[0.0, 4.0], [-4.0, 0.0]])))
    0.5
    """
    # The fastest of n/2 planes turns at least by the root mean square of all, so this t is certainly too large.
    beyond = 2 * retractions.CAP * direction.shape[-1] ** 0.5 / jnp.maximum(norm(direction), TINY)
    return beyond * retractions.limit(beyond * direction)[1]


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
class GroupFunction:
    """A scalar function on O(n) of a point and further arguments, with its gradient and its Hessian.

    Attributes:
        function: a function `function(point, *args) -> scalar`.
        args: data of the function, a tuple of pytrees.
        unit: unit of the values; None means 1.
    """

    function: Callable[..., ArrayLike]
    args: tuple
    unit: Array | None = None

    def value(self, point: Float[Array, "n n"]) -> Float[Array, ""]:
        """Return f(P)."""
        value = jnp.asarray(self.function(point, *self.args), point.dtype)
        return value if self.unit is None else value / self.unit

    def evaluate(self, point: Float[Array, "n n"]) -> Iterate:
        """Return value and gradient at a point."""
        value, slope = jax.value_and_grad(self.value)(point)
        body = matmul(point.T, slope)
        gradient = orthogonal.skew(body)
        return Iterate(point, value, gradient, body - gradient)

    def move(self, iterate: Iterate, velocity: Float[Array, "n n"]) -> Iterate:
        """Move along the geodesic with a body velocity of at most `retractions.CAP`; stay on the group to rounding."""
        return self.evaluate(retractions.exponential(iterate.point, velocity))

    def hessian(self, iterate: Iterate) -> Callable[[Float[Array, "n n"]], Float[Array, "n n"]]:
        """Return the product `Omega -> H Omega` at a point; the linearisation happens once."""
        point, symmetric = iterate.point, iterate.symmetric
        _, derivative = jax.linearize(jax.grad(self.value), point)

        def product(velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
            bend = matmul(point.T, derivative(matmul(point, velocity)))
            # M Omega + Omega M = X - X^T with X = M Omega, since M is symmetric and Omega skew.
            return orthogonal.skew(bend - matmul(symmetric, velocity))

        return product
