"""Projections onto the orthogonal group and its Lie algebra, and distances from orthogonality."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import one_of, real_array, real_or_complex_array
from jaxdescramble._base.products import adjoint, is_complex, matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.manifolds._points import NOT_ORTHOGONAL, check_near, orthonormal_defect, orthonormality

NAMES = ("O", "SO")


def square(
    value: ArrayLike, name: str, like: Array | None = None, of: str = "the point", or_complex: bool = False
) -> Array:
    """Return `value` as a square matrix of real numbers. If `like` (called `of`) is given, require its shape.

    Raises:
        TypeError: if the value is not made of real floating-point numbers (or complex ones, with `or_complex`).
        ValueError: if the value is not a square matrix, or has another shape.

    >>> square(jnp.eye(2), "point").shape
    (2, 2)
    """
    checked = real_or_complex_array if or_complex else real_array
    matrix = checked(value, name, (2,), "a square matrix (n, n); use jax.vmap for a batch")
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name}: expected a square matrix, got shape {matrix.shape}.")
    if like is not None and matrix.shape != like.shape:
        raise ValueError(f"{name}: got shape {matrix.shape}; must have the shape of {of}, {like.shape}.")
    return matrix


def squares(value: ArrayLike, name: str) -> Array:
    """Return `value` as one square matrix of real numbers, or as a stack of them. Raise the errors of `square`.

    >>> squares(jnp.ones((5, 2, 2)), "matrix").shape
    (5, 2, 2)
    """
    matrices = real_array(value, name, range(2, 9), "square matrices (..., n, n)")
    if matrices.shape[-1] != matrices.shape[-2]:
        raise ValueError(f"{name}: expected square matrices (..., n, n), got shape {matrices.shape}.")
    return matrices


def defect(point: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Return the distance from orthogonality, `||P^T P - 1||_F`.

    Args:
        point: P, shape (..., n, n).

    Raises:
        TypeError: if the point is not made of real numbers.
        ValueError: if the point is not square.

    >>> float(defect(jnp.eye(3)))
    0.0
    """
    return orthonormal_defect(squares(point, "point"))


def check_orthogonal(point: Array, name: str) -> None:
    """Raise `ValueError` if a matrix, or one of a batch, is more than 1e-2 from orthogonal. Accept traced matrices.

    Args:
        point: P, shape (..., n, n).
        name: name of the argument, for the message.

    >>> check_orthogonal(jnp.eye(2), "start")
    """
    check_near(orthonormality, squares(point, name), name, NOT_ORTHOGONAL)


def skew(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """Return the skew part `(M - M^T) / 2`, the projection onto the Lie algebra.

    Args:
        matrix: M, shape (..., n, n).

    Raises:
        TypeError: if the matrix is not made of real numbers.
        ValueError: if the matrix is not square.

    >>> skew(jnp.asarray([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    return skewed(squares(matrix, "matrix"))


def skewed(matrix: Inexact[Array, "*batch n n"]) -> Inexact[Array, "*batch n n"]:
    """Return the skew part of a real matrix, or the skew-Hermitian part `(M - M^H) / 2` of a complex one.

    >>> skewed(jnp.asarray([[1 + 2j]])).tolist()
    [[2j]]
    """
    return (matrix - adjoint(matrix)) / 2


def tangent(point: Float[Array, "n n"], vector: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the orthogonal projection of a matrix onto the tangent space at P, `P skew(P^T V)`.

    Args:
        point: orthogonal matrix P, shape (n, n).
        vector: any matrix V, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> tangent(jnp.eye(2), jnp.asarray([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    point = square(point, "point")
    return matmul(point, skew(matmul(point.T, square(vector, "vector", like=point))))


def polish(point: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """Remove the rounding drift of an orthogonal matrix with one Newton-Schulz step, `P (3 - P^T P) / 2`.

    A singular value `1 + e` becomes `1 - 3 e^2 / 2`; up to that, the result is the nearest element of the group. It
    takes two products.

    Args:
        point: nearly orthogonal matrix P, shape (..., n, n).

    Raises:
        TypeError: if the point is not made of real numbers.
        ValueError: if the point is not square.

    >>> [bool(defect(P) < 1e-5) for P in (1.001 * jnp.eye(2), polish(1.001 * jnp.eye(2)))]
    [False, True]

    Source: Higham, Functions of Matrices (2008), equation (8.20).
    """
    return polished(squares(point, "point"))


@fused
def polished(point: Inexact[Array, "*batch n k"]) -> Inexact[Array, "*batch n k"]:
    """Remove the rounding drift of a matrix with orthonormal columns, real or complex; see `polish`.

    >>> abs(polished(1.001 * jnp.eye(3, 2)) - jnp.eye(3, 2)).max() < 1e-5
    Array(True, dtype=bool)
    """
    # Subtract a correction: an orthogonal point then changes by the square of rounding only.
    k = point.shape[-1]
    eye = jnp.broadcast_to(jnp.eye(k, dtype=point.dtype), (*point.shape[:-2], k, k))
    return point - matmul(point, matmul(adjoint(point), point) - eye) / 2


@fused
def orthonormal(matrix: Inexact[Array, "n k"]) -> Inexact[Array, "n k"]:
    """Return the factor Q of the QR decomposition whose R has no negative diagonal entry; unique if the rank is k.

    >>> orthonormal(jnp.asarray([[-2.0], [0.0]])).tolist()
    [[-1.0], [0.0]]
    """
    Q, R = decompositions.qr(matrix)
    diagonal = jnp.diagonal(R)
    if is_complex(Q):
        size = jnp.abs(diagonal)
        return Q * jnp.where(size > 0, diagonal / jnp.where(size > 0, size, 1), 1).astype(Q.dtype)[None, :]
    return Q * jnp.where(diagonal < 0, -1, 1).astype(Q.dtype)[None, :]


def special(point: Float[Array, "n n"], determinant: int = 1) -> Float[Array, "n n"]:
    """Return the point if its determinant has the given sign; otherwise return it with its last row negated.

    Args:
        point: orthogonal matrix P, shape (n, n).
        determinant: the sign, +1 or -1.

    Raises:
        TypeError: if the point is not made of real numbers.
        ValueError: if the point is not square, or `determinant` is not 1 or -1.

    >>> special(jnp.asarray([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, -0.0]]
    """
    point, determinant = square(point, "point"), sign_of(determinant)
    sign = jnp.where(decompositions.determinant_sign(point) < 0, -determinant, determinant).astype(point.dtype)
    return point.at[-1].multiply(sign)


def sign_of(determinant: object, choices: str = "1 or -1") -> int:
    """Return a determinant if it is 1 or -1; otherwise raise `ValueError`.

    >>> sign_of(-1)
    -1
    """
    if isinstance(determinant, int | np.integer) and determinant in (1, -1) and not isinstance(determinant, bool):
        return int(determinant)
    raise ValueError(f"determinant: got {determinant!r}; must be {choices}.")


def polar(matrix: Float[Array, "n n"], group: str = "O") -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """Return the element of the group nearest to a matrix, and the singular values, whose sum is `tr(Q^T M)`.

    `M = U S V^T` gives `Q = U V^T`, which maximises `tr(Q^T M)` over O(n). Over SO(n), the smallest singular value gets
    the sign of `det(U V^T)`. The function is differentiable at equal singular values too: with `K = U^T dM V`,
    `dQ = U [(K - K^T)_ij / (s_i + s_j)] V^T`. Where `s_i + s_j = 0`, the nearest element is not unique, and that part
    of the derivative is set to zero.

    Args:
        matrix: square matrix M.
        group: "O" or "SO".

    Returns:
        Q, and the singular values in descending order; for "SO" the last one has a sign.

    Raises:
        TypeError: if the matrix is not made of real numbers.
        ValueError: if the matrix is not square, or the group is unknown.

    >>> Q, s = polar(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    >>> Q.round(4).tolist(), s.round(4).tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [2.0, 1.0])

    Source: Higham, Functions of Matrices (2008), chapter 8.
    """
    matrix = square(matrix, "matrix")
    one_of(group, "group", NAMES)
    return _polar_special(matrix) if group == "SO" else _polar_full(matrix)


def _decompose(matrix: Array, is_special: bool) -> tuple[Array, Array, Array]:
    U, s, Vh = decompositions.svd(jax.lax.stop_gradient(matrix))
    if is_special:
        # Flipping the smallest singular value costs least.
        sign = jnp.where(decompositions.determinant_sign(matmul(U, Vh)) < 0, -1, 1).astype(s.dtype)
        U, s = U.at[:, -1].multiply(sign), s.at[-1].multiply(sign)
    return U, s, Vh


def _make_polar(is_special: bool):
    @jax.custom_jvp
    def nearest(matrix: Array) -> tuple[Array, Array]:
        U, s, Vh = _decompose(matrix, is_special)
        return matmul(U, Vh), s

    @nearest.defjvp
    def _(primals, tangents):
        U, s, Vh = _decompose(primals[0], is_special)
        K = matmul(matmul(U.T, tangents[0]), Vh.T)
        total = s[:, None] + s[None, :]
        unique = jnp.abs(total) > 4 * len(s) * jnp.finfo(s.dtype).eps * s[0]
        turn = jnp.where(unique, (K - K.T) / jnp.where(unique, total, 1), 0)
        return (matmul(U, Vh), s), (matmul(matmul(U, turn), Vh), jnp.diagonal(K))

    return nearest


_polar_full, _polar_special = _make_polar(False), _make_polar(True)
