"""Stiefel and Grassmann manifolds: matrices of n rows and p orthonormal columns, and the subspaces that they span.

A tangent vector at X is `Z = X A + b` with A skew (skew-Hermitian) and `X^H b = 0`. Everything here takes O(n p^2)
operations and O(n p) memory: products of tall matrices, and operations on matrices of p or 2 p rows.

*Coordinates.* Let K be the upper p rows of X, and S = 1 unless `S + K` is nearly singular (then the orthogonal factor
of K). An orthogonal matrix R, a block of Householder reflections, turns the first p axes E, in the order S, into the
columns of X: `R^H b = b - (E S + X)(S + K)^-1 E^H b` for b perpendicular to X. The coordinates of Z are the n x p
array with A / c above and B below, where `b = R [0; B]`, and c = 1 for the Euclidean metric, sqrt 2 for the canonical
one. They are orthonormal: `|A|^2 / c^2 + |B|^2` is the metric.

*Geodesics.* For the metric `beta |A|^2 + |b|^2` (canonical: beta = 1/2; Euclidean: beta = 1),

    X(t) = [X b] exp(t [[2 beta A, -b^H b], [1, 0]]) [1; 0] exp(t (1 - 2 beta) A),

with second derivative `X (A^2 - b^H b) + 2 (1 - beta) b A` at t = 0. No QR decomposition is needed.

Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998) 303, section 2.4; Hueper, Markina, Silva Leite, J. Geom.
Mech. 13 (2021) 55, for both metrics; Huang, Absil, Gallivan, Math. Program. 150 (2015) 179, for coordinates in which
transport is the identity.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import one_of
from jaxdescramble._base.products import adjoint, as_like, as_real, is_complex, matmul, real_type, square_sum
from jaxdescramble.manifolds import orthogonal, unitary
from jaxdescramble.manifolds._exponentials import exponential_minus_one, exponential_of_any_minus_one
from jaxdescramble.manifolds._points import check_near, numbers_of, orthonormal_defect, orthonormality, typed
from jaxdescramble.manifolds._stiefel_logarithms import logarithm
from jaxdescramble.manifolds.groups import reflected
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.projections import orthonormal, polished, skewed

METRICS = {"canonical": 0.5, "euclidean": 1.0}
"""The metrics of Stiefel manifolds, and the weight beta of `|A|^2` in them."""

WILD = 100.0
"""Largest root mean square of the singular values of `(1 + K)^-1` for which S = 1 is kept."""


class Place(NamedTuple):
    """What coordinates at X depend on: the order S of the axes, and `(S + K)^-1`."""

    order: Array
    inverse: Array


class _Columns(Manifold):
    """What both manifolds share; beta is the weight of `|A|^2`, and `turns` says whether A is free."""

    complex: ClassVar[bool | None] = None
    symbol: ClassVar[str]
    turns: ClassVar[bool] = True

    @property
    def turn_weight(self) -> float:
        """The weight of `|A|^2` in the metric."""
        return 0.5

    def check(self, point: Any, name: str = "point") -> Array:
        array = numbers_of(point, name, None, self.symbol)
        self.shaped(array, name)
        cure = "||X^T X - 1|| = {off}; columns must be orthonormal. Use jnp.linalg.qr({name})[0]."
        check_near(orthonormality, array, name, cure)
        return array

    def shaped(self, like: Any, name: str) -> None:
        typed(like, name, None, self.symbol)
        shape = like.shape
        if len(shape) != 2:
            raise ValueError(
                f"{name}: got shape {shape}; a point of {self.symbol} is one matrix (n, p). Use jax.vmap for many "
                f"problems, or manifolds.Power({type(self).__name__}()) for one function of many matrices."
            )
        n, p = shape
        if not 1 <= p <= n:
            raise ValueError(
                f"{name}: got shape {shape}, more columns than rows; a point of {self.symbol} has n >= p. Orthonormal "
                f"rows are the transpose: use a function of point.T, and {name}.T."
                if p > n >= 1
                else f"{name}: got shape {shape}; a point of {self.symbol} has n >= p >= 1."
            )

    def origin(self, like: Any) -> Array:
        return jnp.eye(*like.shape, dtype=like.dtype)

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        columns = unitary.random_columns if is_complex(point) else orthogonal.random_columns
        return columns(key, *point.shape, dtype=real_type(point.dtype))

    def polish(self, point: Array) -> Array:
        return polished(point)

    def defect(self, point: Array) -> Float[Array, ""]:
        return orthonormal_defect(point)

    def dimension(self, point: Any) -> int:
        n, p = point.shape
        if not self.turns:
            return p * (n - p) * (2 if is_complex(point) else 1)
        return 2 * n * p - p * p if is_complex(point) else n * p - p * (p + 1) // 2

    def place(self, point: Array) -> Place:
        p = point.shape[-1]
        top, eye = point[:p], jnp.eye(p, dtype=point.dtype)
        inverse = decompositions.inverse(eye + top)
        tame = square_sum(inverse) <= WILD**2 * p  # also False for NaN

        def reordered() -> Place:
            order = orthonormal(jax.lax.stop_gradient(top))  # any fixed orthogonal matrix would do
            return Place(order, decompositions.inverse(order + top))

        return jax.lax.cond(tame, lambda: Place(eye, inverse), reordered)

    def split(self, point: Array, place: Place, slope: Array) -> tuple[Array, Array]:
        body = matmul(adjoint(point), slope)
        turn = skewed(body)
        return self._together(turn * self.scale, _below(point, place, slope, body), point), body - turn

    def join(self, point: Array, place: Place, gradient: Array, normal: Array) -> Array:
        turn, below = self._apart(gradient, point)
        body = normal + turn / self.scale**2 if self.turns else normal
        return matmul(point, body) + _perpendicular(point, place, below)

    def coordinates(self, point: Array, place: Place, vector: Array) -> Array:
        body = matmul(adjoint(point), vector)
        return self._together(skewed(body) / self.scale, _below(point, place, vector, body), point)

    def vector(self, point: Array, place: Place, velocity: Array) -> Array:
        turn, below = self._apart(velocity, point)
        return matmul(point, turn) + _perpendicular(point, place, below)

    def clean(self, point: Any, velocity: Array) -> Array:
        like = as_like(velocity, point)
        p = like.shape[-1]
        # Not `like.at[:p].set(...)`: jaxlib 0.10.2 then writes into rows of a complex array that it still has to read.
        return self._together(skewed(like[:p]), like[p:], point)

    def exponential(self, point: Any, vector: Any) -> Array:
        point, vector = self._given(point, vector)
        place = self.place(point)
        velocity = self.coordinates(point, place, vector)
        # A power of two, so that nothing is rounded.
        size = jax.lax.stop_gradient(jnp.sqrt(square_sum(self._apart(velocity, point)[1])))
        unit = jnp.where(size > 0, jnp.exp2(jnp.round(jnp.log2(jnp.where(size > 0, size, 1)))), 1)
        return self._travelled(point, place, velocity, _minus_one_of_any, unit)[0]

    def move(self, point: Array, place: Place, velocity: Array) -> tuple[Array, Array]:
        return self._travelled(point, place, velocity, exponential_minus_one)

    def _travelled(
        self,
        point: Array,
        place: Place,
        velocity: Array,
        minus_one: Callable[[Array], Array],
        unit: ArrayLike = 1.0,
    ) -> tuple[Array, Array]:
        """Return the end of a geodesic and its velocity there.

        Args:
            point, place: where it starts.
            velocity: its coordinates.
            minus_one: returns `exp(M) - 1`.
            unit: of b. In units near its size, the norm of the matrix below is about that of A and b.
        """
        turn, below = self._apart(velocity, point)
        aside = _perpendicular(point, place, below)
        p, twist = point.shape[-1], 2 * self.turn_weight
        gram = matmul(adjoint(below), below)
        # Similar to a skew matrix, and both blocks of columns below stay bounded: no decomposition is needed.
        upper = jnp.concatenate([twist * turn, -gram / unit], axis=1)
        lower = jnp.eye(p, 2 * p, dtype=point.dtype) * unit
        E = minus_one(jnp.concatenate([upper, lower]))
        E = E + jnp.eye(2 * p, dtype=point.dtype)
        if twist != 1:
            back = jnp.eye(p, dtype=point.dtype) + minus_one((1 - twist) * turn)
            E = jnp.concatenate([matmul(E[:, :p], back), matmul(E[:, p:], back)], axis=1)
        end = polished(matmul(point, E[:p, :p]) + matmul(aside / unit, E[p:, :p]))
        arrival = matmul(point, E[:p, p:] * unit) + matmul(aside, E[p:, p:])
        return end, arrival + matmul(end, turn)

    def second(self, point: Array, place: Place, gradient: Array, normal: Array, velocity: Array, bend: Array) -> Array:
        turn, below = self._apart(velocity, point)
        body = matmul(adjoint(point), bend)
        under = _below(point, place, bend, body) - matmul(below, normal)
        if not self.turns:
            return self._together(body, under, point)
        spin = skewed(body - matmul(normal, turn))
        if self.turn_weight != 1:
            _, aside = self._apart(gradient, point)
            spin = spin + (1 - self.turn_weight) * skewed(matmul(adjoint(below), aside))
            under = under - (1 - self.turn_weight) * matmul(aside, turn)
        return self._together(spin * self.scale, under, point)

    def bound(self, point: Array, velocity: Array) -> Float[Array, ""]:
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(velocity)))
        largest = jnp.where(largest > 0, largest, 1)
        turn, below = self._apart(velocity / largest, point)
        turn = 2 * self.turn_weight * turn
        gram = matmul(adjoint(below), below)
        mixed = jnp.sum((adjoint(turn) * matmul(gram, turn).T).real)
        total = square_sum(matmul(turn, turn) - gram) + 2 * mixed + square_sum(gram)
        total = jnp.maximum(total, 0) / (1 if is_complex(point) else 2)
        # The fourth root of the sum of the fourth powers of all angles of the planes in question.
        return jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** 0.25) * largest

    def nearest(self, goal: Array, kind: PyTree) -> Array:
        U, _, Vh = decompositions.svd(goal, full_matrices=False)
        return matmul(U, Vh)

    def cost(self, point: Any) -> float:
        n, p = point.shape
        return float(n * p * p)

    @property
    def scale(self) -> float:
        """A in units of the upper rows of coordinates."""
        return self.turn_weight**-0.5

    def _apart(self, velocity: Array, point: Array) -> tuple[Array, Array]:
        """Return A, and B."""
        like, p = as_like(velocity, point), point.shape[-1]
        return self.scale * like[:p] if self.turns else jnp.zeros_like(like[:p]), like[p:]

    def _together(self, turn: Array, below: Array, point: Array) -> Array:
        """Return coordinates with these upper and lower rows."""
        return as_real(jnp.concatenate([turn if self.turns else jnp.zeros_like(turn), below]))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Stiefel(_Columns):
    """The Stiefel manifold St(n, p): real or complex n x p matrices X with orthonormal columns, `X^H X = 1`.

    Use it for orthonormal frames of p <= n vectors, also very tall ones: steps take O(n p^2) operations and O(n p)
    memory. For p = n it is O(n), in other coordinates; `Orthogonal()` is faster there.

    Attributes:
        metric: "canonical", `|A|^2 / 2 + |b|^2` for a tangent vector `X A + b`, or "euclidean", `|A|^2 + |b|^2`
            (fixed at compile time). Answers do not depend on it; the way to them does.

    Raises:
        ValueError: if the metric is unknown.

    >>> from jaxdescramble import solvers
    >>> A = jnp.diag(jnp.arange(6.0))
    >>> energy = lambda X: jnp.trace(X.T @ A @ X)
    >>> start = Stiefel().random(jax.random.key(0), 6, 2)
    >>> found = solvers.minimise(energy, start, manifold=Stiefel())
    >>> bool(abs(found.value - 1) < 1e-4)  # the two smallest eigenvalues, 0 + 1
    True

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998) 303.
    """

    metric: str = "canonical"
    symbol: ClassVar[str] = "St(n, p)"

    def __post_init__(self) -> None:
        one_of(self.metric, "metric", tuple(METRICS))

    @property
    def turn_weight(self) -> float:
        return METRICS[self.metric]

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the tangent vector V with `exponential(point, V) = to`, for the canonical metric.

        It converges if the points are closer than the injectivity radius, .89 pi, and often beyond.

        Returns:
            V; NaN if it was not found.

        Raises:
            TypeError: for the Euclidean metric, whose logarithm has no such method.
        """
        if self.metric != "canonical":
            raise TypeError(
                f"{self!r}: knows no logarithms and distances; use manifolds.Stiefel(), of canonical metric."
            )
        point, to = self._both(point, to)
        like = jnp.zeros((), jnp.result_type(point, to))
        return logarithm(self, point.astype(like.dtype), to.astype(like.dtype))

    def classes(self, point: Any) -> int:
        return 2 if point.shape[0] == point.shape[1] and not is_complex(point) else 1

    def in_each_class(self, point: Array) -> Array:
        return jnp.stack([point, reflected(point)]) if self.classes(point) == 2 else point[None]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Grassmann(_Columns):
    """The Grassmann manifold Gr(n, p): subspaces of dimension p, each given by a matrix X of orthonormal columns.

    Use it for functions that depend on the span of the columns only, `f(X Q) = f(X)`: their Hessian on the Stiefel
    manifold is singular, here it need not be. Tangent vectors are those with `X^H Z = 0`. A function that depends on
    more is minimised over the directions that change the span.

    >>> from jaxdescramble import solvers
    >>> A = jnp.diag(jnp.arange(6.0))
    >>> energy = lambda X: jnp.trace(X.T @ A @ X)
    >>> start = Grassmann().random(jax.random.key(0), 6, 2)
    >>> found = solvers.minimise(energy, start, manifold=Grassmann())
    >>> bool(Grassmann().distance(found.point, jnp.eye(6, 2)) < 1e-2)
    True

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998) 303; Bendokat, Zimmermann, Absil, Adv. Comput. Math.
    50 (2024) 6, for the logarithm.
    """

    symbol: ClassVar[str] = "Gr(n, p)"
    turns: ClassVar[bool] = False

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the horizontal tangent vector of the shortest geodesic to the span of `to`.

        Its end spans the same subspace as `to`. The matrix differs from `to` by a rotation of the columns.
        """
        point, to = self._both(point, to)
        U, cosine, Vh = decompositions.svd(matmul(adjoint(to), point))
        aligned = matmul(to, matmul(U, Vh))
        rest = aligned - matmul(point, matmul(adjoint(point), aligned))
        Q, sine, Wh = decompositions.svd(rest, full_matrices=False)
        # Both lists hold the same planes, the cosines falling and the sines rising.
        angle = jnp.arctan2(sine, cosine[::-1])
        return matmul(Q * angle[None, :], Wh)

    def distance(self, point: Any, to: Any) -> Float[Array, ""]:
        """Return the length of the shortest geodesic: the norm of the principal angles, in radians."""
        return super().distance(point, to)


def _minus_one_of_any(matrix: Array) -> Array:
    """Return `exp(M) - 1` for a matrix of any norm up to 2^16."""
    absolute = jnp.abs(matrix)
    bound = jnp.sqrt(absolute.sum(0).max() * absolute.sum(1).max())  # at least the spectral norm
    return exponential_of_any_minus_one(matrix, bound)


def _below(point: Array, place: Place, vector: Array, body: Array) -> Array:
    """Return B of the part of an array perpendicular to X; `body` is `X^H vector`."""
    p = point.shape[-1]
    above = vector[:p] - matmul(point[:p], body)
    return vector[p:] - matmul(point[p:], body + matmul(place.inverse, above))


def _perpendicular(point: Array, place: Place, below: Array) -> Array:
    """Return `b = R [0; B]`."""
    p = point.shape[-1]
    y = matmul(adjoint(place.order), matmul(adjoint(place.inverse), matmul(adjoint(point[p:]), below)))
    return jnp.concatenate([-matmul(place.order + point[:p], y), below - matmul(point[p:], y)])
