"""The orthogonal group O(n) and its component SO(n): elements, tangent vectors, geodesics, the polar projection."""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble import decompositions
from jaxdescramble.checks import one_of, positive_integer
from jaxdescramble.products import matmul

NAMES = ("O", "SO")


def defect(point: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Distance from orthogonality, `||P^T P - 1||_F`.

    >>> float(defect(jnp.eye(3)))
    0.0
    """
    eye = jnp.broadcast_to(jnp.eye(point.shape[-1], dtype=point.dtype), point.shape)
    return jnp.linalg.norm(matmul(jnp.swapaxes(point, -1, -2), point) - eye, axis=(-2, -1))


def skew(matrix: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """Skew part `(M - M^T) / 2`: the projection onto the Lie algebra.

    >>> skew(jnp.asarray([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    return (matrix - jnp.swapaxes(matrix, -1, -2)) / 2


def tangent(point: Float[Array, "n n"], vector: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Orthogonal projection of a matrix onto the tangent space at P, `P skew(P^T V)`.

    >>> tangent(jnp.eye(2), jnp.asarray([[1.0, 2.0], [0.0, 1.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    return matmul(point, skew(matmul(point.T, vector)))


def geodesic(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Where the geodesic from P with body velocity Omega is at time one, `P exp(Omega)`.

    Args:
        point: P.
        velocity: skew Omega, in body coordinates (the tangent vector is `P Omega`), radians.

    >>> quarter = jnp.asarray([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> abs(geodesic(jnp.eye(2), quarter) - jnp.asarray([[0.0, -1.0], [1.0, 0.0]])).max() < 1e-6
    Array(True, dtype=bool)
    """
    return matmul(point, jax.scipy.linalg.expm(velocity))


def random(key: PRNGKeyArray, n: int, group: str = "O", dtype: DTypeLike = float) -> Float[Array, "n n"]:
    """A Haar-distributed element of O(n) or SO(n).

    Args:
        key: source of chance.
        n: size.
        group: "O" or "SO".

    >>> float(jnp.linalg.det(random(jax.random.key(0), 5, "SO")).round(4))
    1.0
    """
    one_of(group, "group", NAMES)
    point = random_columns(key, positive_integer(n, "n"), n, dtype)
    return special(point) if group == "SO" else point


def random_columns(key: PRNGKeyArray, n: int, k: int, dtype: DTypeLike = float) -> Float[Array, "n k"]:
    """The first k <= n columns of a Haar-distributed element of O(n).

    >>> Q = random_columns(jax.random.key(0), 5, 2)
    >>> bool(abs(Q.T @ Q - jnp.eye(2)).max() < 1e-5)
    True

    Source: Mezzadri, Notices of the AMS 54 (2007): QR of a Gaussian matrix, signs taken from the diagonal of R.
    """
    Q, R = decompositions.qr(jax.random.normal(key, (n, k), dtype))
    return Q * jnp.where(jnp.diagonal(R) < 0, -1, 1).astype(Q.dtype)[None, :]


def special(point: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The point itself if its determinant is positive, else with its last row turned round.

    >>> special(jnp.asarray([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, -0.0]]
    """
    sign = jnp.where(decompositions.determinant_sign(point) < 0, -1, 1).astype(point.dtype)
    return point.at[-1].multiply(sign)


def polar(matrix: Float[Array, "n n"], group: str = "O") -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
    """The nearest element of the group to a matrix, and the singular values whose sum is `tr(Q^T M)`.

    `M = U S V^T` gives `Q = U V^T`, the maximiser of `tr(Q^T M)` over O(n); over SO(n) the smallest singular value
    enters with the sign of `det(U V^T)`. Differentiable at equal singular values too: with `K = U^T dM V`,
    `dQ = U [(K - K^T)_ij / (s_i + s_j)] V^T`; where `s_i + s_j = 0` the nearest element is not unique and that part of
    the derivative is set to zero.

    Args:
        matrix: M, square.
        group: "O" or "SO".

    Returns:
        Q, and the singular values, descending, the last one signed for "SO".

    >>> Q, s = polar(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    >>> Q.round(4).tolist(), s.round(4).tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [2.0, 1.0])

    Source: Higham, Functions of Matrices (2008), chapter 8.
    """
    one_of(group, "group", NAMES)
    return _polar_special(matrix) if group == "SO" else _polar_full(matrix)


def _decompose(matrix: Array, is_special: bool) -> tuple[Array, Array, Array]:
    U, s, Vh = decompositions.svd(jax.lax.stop_gradient(matrix))
    if is_special:
        # The smallest singular value pays least for the wrong sign.
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
