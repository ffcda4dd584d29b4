"""The groups O(n), SO(n), U(n) and SU(n) as manifolds, in body coordinates.

The tangent vector with the coordinates Omega is `P Omega`, with Omega skew (skew-Hermitian), and the metric is the
Frobenius product. Geodesics are `P exp(t Omega)`: their body velocity is constant, and so is the Hessian's part of the
metric, `skew(-M Omega)`, where M is the Hermitian part of `P^H slope`.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import adjoint, as_like, as_real, inner, matmul, real_type, square_sum
from jaxdescramble.manifolds import orthogonal, unitary
from jaxdescramble.manifolds._exponentials import CAP, angle_bound, exponential_minus_one, exponential_of_any, limit
from jaxdescramble.manifolds._logarithms import logarithm
from jaxdescramble.manifolds._points import (
    NOT_ORTHOGONAL,
    check_near,
    numbers_of,
    orthonormal_defect,
    orthonormality,
    typed,
)
from jaxdescramble.manifolds.manifold import TINY, Manifold
from jaxdescramble.manifolds.projections import polished, skewed


class _Group(Manifold):
    """What the groups share."""

    symbol: ClassVar[str] = "O(n)"
    complex: ClassVar[bool | None] = False

    def check(self, point: Any, name: str = "point") -> Array:
        array = numbers_of(point, name, self.complex, self.symbol)
        self.shaped(array, name)
        cure = NOT_ORTHOGONAL
        if self.complex:
            cure = "||P^H P - 1|| = {off}; must be unitary. Use manifolds.unitary.polar({name})."
        check_near(orthonormality, array, name, cure)
        return array

    def shaped(self, like: Any, name: str) -> None:
        typed(like, name, self.complex, self.symbol)
        shape = like.shape
        if len(shape) > 2:
            raise ValueError(
                f"{name}: got shape {shape}; a point of {self.symbol} is one matrix (n, n). Use jax.vmap for many "
                f"problems, or manifolds.Power({type(self).__name__}()) for one function of many matrices."
            )
        if len(shape) != 2 or shape[0] != shape[1] or 0 in shape:
            other = ""
            if len(shape) == 2 and 0 not in shape and shape[0] != shape[1]:
                wide = "its transpose, with orthonormal columns, " if shape[0] < shape[1] else ""
                other = f"; for {wide or shape}{'' if wide else ' '}use manifold=manifolds.Stiefel()"
            raise ValueError(f"{name}: shape {shape}; a point of {self.symbol} is square{other}.")

    def origin(self, like: Any) -> Array:
        return jnp.eye(like.shape[-1], dtype=like.dtype)

    def polish(self, point: Array) -> Array:
        return polished(point)

    def defect(self, point: Array) -> Float[Array, ""]:
        return orthonormal_defect(point)

    def dimension(self, point: Any) -> int:
        n = point.shape[-1]
        return n * n if self.complex else n * (n - 1) // 2

    def split(self, point: Array, place: PyTree, slope: Array) -> tuple[Array, Array]:
        body = matmul(adjoint(point), slope)
        gradient = skewed(body)
        return as_real(gradient), body - gradient

    def join(self, point: Array, place: PyTree, gradient: Array, normal: Array) -> Array:
        return matmul(point, as_like(gradient, point) + normal)

    def coordinates(self, point: Array, place: PyTree, vector: Array) -> Array:
        return self.clean(point, as_real(matmul(adjoint(point), vector)))

    def vector(self, point: Array, place: PyTree, velocity: Array) -> Array:
        return matmul(point, as_like(velocity, point))

    def clean(self, point: Any, velocity: Array) -> Array:
        return as_real(skewed(as_like(velocity, point)))

    def exponential(self, point: Any, vector: Any) -> Array:
        point, vector = self._given(point, vector)
        turn = as_like(self.coordinates(point, (), vector), point)
        return self.polish(matmul(point, exponential_of_any(turn)))

    def move(self, point: Array, place: PyTree, velocity: Array) -> tuple[Array, Array]:
        turn = as_like(velocity, point)
        end = polished(point + matmul(point, exponential_minus_one(turn)))
        return end, matmul(end, turn)

    def second(
        self, point: Array, place: PyTree, gradient: Array, normal: Array, velocity: Array, bend: Array
    ) -> Array:
        # M Omega + Omega M = X - X^H with X = M Omega, since M is Hermitian and Omega skew.
        return self.clean(point, as_real(matmul(adjoint(point), bend) - matmul(normal, as_like(velocity, point))))

    def slope_along(
        self, gradient: Array, direction: Array, arrival: Any, slope: Any, time: ArrayLike
    ) -> Float[Array, ""]:
        return inner(gradient, direction)  # the body velocity is constant

    def bound(self, point: Array, velocity: Array) -> Float[Array, ""]:
        return angle_bound(as_like(velocity, point))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SpecialOrthogonal(_Group):
    """The special orthogonal group SO(n): rotations. More exactly, the determinant class of the point given.

    Use it if reflections are no answer, or to save half of the work of `Orthogonal()`. `minimise` accepts a start of
    determinant -1 too, and stays in its class.

    >>> from jaxdescramble import solvers
    >>> turned = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> misfit = lambda P: jnp.sum((P - turned) ** 2)
    >>> int(solvers.minimise(misfit, jnp.eye(2), manifold=SpecialOrthogonal()).classes)
    1

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998) 303.
    """

    symbol: ClassVar[str] = "SO(n)"
    frames: ClassVar[bool] = True

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        turn = orthogonal.random(key, point.shape[-1], self.symbol.removesuffix("(n)"), point.dtype)
        return matmul(point, turn) if isinstance(point, Array) else turn

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the tangent vector of the shortest geodesic; NaN if the determinants differ."""
        point, to = self._both(point, to)
        return matmul(point, logarithm(matmul(point.T, to)))

    def distance(self, point: Any, to: Any) -> Float[Array, ""]:
        """Return the length of the shortest geodesic; infinite if the determinants differ."""
        return orthogonal.distance(*self._both(point, to))

    def class_of(self, point: Array) -> Array:
        # Negating a row maps one class to the other.
        sign = decompositions.determinant_sign(point)
        return jnp.ones(point.shape[0], point.dtype).at[0].set(sign)[:, None]

    def nearest(self, goal: Array, kind: Array) -> Array:
        return kind * orthogonal.polar(kind * goal, "SO")[0]

    def limit(self, point: Array, velocity: Array) -> tuple[Array, Float[Array, ""]]:
        return limit(velocity)

    def farthest(self, point: Array, velocity: Array) -> Float[Array, ""]:
        # The fastest of n/2 planes turns at least by the root mean square of all, so this t is certainly too large.
        beyond = 2 * CAP * velocity.shape[-1] ** 0.5 / jnp.maximum(jnp.sqrt(square_sum(velocity)), TINY)
        return beyond * limit(beyond * velocity)[1]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Orthogonal(SpecialOrthogonal):
    """The orthogonal group O(n): square matrices with `P^T P = 1`, of both determinants. `minimise` searches both.

    >>> from jaxdescramble import solvers
    >>> mirror = jnp.diag(jnp.asarray([1.0, -1.0]))
    >>> misfit = lambda P: jnp.sum((P - mirror) ** 2)
    >>> found = solvers.minimise(misfit, jnp.eye(2), manifold=Orthogonal())
    >>> bool(found.value < 1e-6), int(found.classes)
    (True, 2)

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998) 303.
    """

    symbol: ClassVar[str] = "O(n)"

    def classes(self, point: Any) -> int:
        return 2

    def in_each_class(self, point: Array) -> Array:
        return jnp.stack([point, reflected(point)])


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Unitary(_Group):
    """The unitary group U(n): complex square matrices with `P^H P = 1`. It is connected.

    >>> from jaxdescramble import solvers
    >>> goal = jnp.asarray([[0, 1j], [1, 0]])
    >>> misfit = lambda P: jnp.sum(jnp.abs(P - goal) ** 2)
    >>> found = solvers.minimise(misfit, jnp.eye(2), manifold=Unitary())
    >>> bool(abs(found.point - goal).max() < 1e-3)
    True

    Source: Abrudan, Eriksson, Koivunen, IEEE Trans. Signal Process. 56 (2008) 1134.
    """

    symbol: ClassVar[str] = "U(n)"
    complex: ClassVar[bool | None] = True

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        return unitary.random(key, point.shape[-1], real_type(point.dtype))

    def nearest(self, goal: Array, kind: PyTree) -> Array:
        return unitary.polar(goal)

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return the tangent vector of the shortest geodesic."""
        point, to = self._both(point, to)
        return matmul(point, unitary.logarithm(matmul(adjoint(point), to)))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SpecialUnitary(Unitary):
    """The special unitary group SU(n): unitary matrices of determinant 1, such as quantum gates up to a phase.

    >>> from jaxdescramble import solvers
    >>> gate = jnp.asarray([[0, 1j], [1j, 0]])
    >>> misfit = lambda P: 2 - jnp.trace(P @ gate.conj().T).real
    >>> found = solvers.minimise(misfit, jnp.eye(2), manifold=SpecialUnitary())
    >>> bool(abs(found.point - gate).max() < 1e-3)
    True

    Source: Abrudan, Eriksson, Koivunen, IEEE Trans. Signal Process. 56 (2008) 1134.
    """

    symbol: ClassVar[str] = "SU(n)"

    def check(self, point: Any, name: str = "point") -> Array:
        array = super().check(point, name)

        def off(host: Any) -> float:
            return abs(unitary.host_determinant(host) - 1)

        cure = "|det - 1| = {off}; a point of SU(n) has determinant 1. Use manifolds.unitary.special({name})."
        check_near(off, array, name, cure)
        return array

    def another(self, key: PRNGKeyArray, point: Any) -> Array:
        return unitary.special(super().another(key, point))

    def polish(self, point: Array) -> Array:
        return unitary.special(polished(point))

    def defect(self, point: Array) -> Float[Array, ""]:
        return orthonormal_defect(point) + jnp.abs(unitary.determinant(point) - 1)

    def dimension(self, point: Any) -> int:
        return point.shape[-1] ** 2 - 1

    def move(self, point: Array, place: PyTree, velocity: Array) -> tuple[Array, Array]:
        # Without this, rounding turns the phase of the determinant, a little at every step.
        end = unitary.special(super().move(point, place, velocity)[0])
        return end, matmul(end, as_like(velocity, point))

    def split(self, point: Array, place: PyTree, slope: Array) -> tuple[Array, Array]:
        body = matmul(adjoint(point), slope)
        gradient = self.clean(point, as_real(body))
        return gradient, body - as_like(gradient, body)

    def clean(self, point: Any, velocity: Array) -> Array:
        turn = skewed(as_like(velocity, point))
        return as_real(turn - jnp.mean(jnp.diagonal(turn)) * jnp.eye(turn.shape[-1], dtype=turn.dtype))

    def second(
        self, point: Array, place: PyTree, gradient: Array, normal: Array, velocity: Array, bend: Array
    ) -> Array:
        # The normal part contains the trace, a multiple of i, whose product with Omega is Hermitian: `clean` drops it.
        return super().second(point, place, gradient, normal, velocity, bend)

    def nearest(self, goal: Array, kind: PyTree) -> Array:
        return Manifold.nearest(self, goal, kind)

    def logarithm(self, point: Any, to: Any) -> Array:
        """Return a tangent vector whose geodesic ends at `to`.

        It is the shortest one if both are near each other: if the trace of the principal logarithm is not zero, angles
        change by multiples of 2 pi, the largest first.
        """
        point, to = self._both(point, to)
        return matmul(point, unitary.logarithm(matmul(adjoint(point), to), traceless=True))


def reflected(point: Float[Array, "*batch n k"]) -> Float[Array, "*batch n k"]:
    """Return the point with its last row negated: a point in the other determinant class.

    >>> reflected(jnp.eye(2)).tolist()
    [[1.0, 0.0], [-0.0, -1.0]]
    """
    return point.at[..., -1, :].multiply(-1)


ORTHOGONAL, SPECIAL_ORTHOGONAL = Orthogonal(), SpecialOrthogonal()
"""The defaults of functions that work on any manifold."""
