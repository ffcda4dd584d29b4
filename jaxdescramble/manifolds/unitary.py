"""The unitary group U(n): random elements, nearest element, principal logarithm, determinant.

Each function takes one matrix; use `jax.vmap` for a batch.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Complex, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import floating_type, numbers, positive_integer, random_key
from jaxdescramble._base.products import adjoint, complex_type, is_complex, matmul
from jaxdescramble.manifolds.projections import orthonormal, polished, skewed

__all__ = ["determinant", "logarithm", "polar", "random", "random_columns", "special"]


def random(key: PRNGKeyArray, n: int, dtype: DTypeLike = float) -> Complex[Array, "n n"]:
    """Return a Haar-distributed element of U(n).

    Args:
        key: random key.
        n: number of rows.
        dtype: floating type of the real parts: float32 or float64.

    Raises:
        TypeError: if `n` is not an integer, `key` is not a key, or `dtype` is not float32 or float64.
        ValueError: if `n` is less than 1.

    >>> Q = random(jax.random.key(0), 3)
    >>> bool(abs(Q.conj().T @ Q - jnp.eye(3)).max() < 1e-5)
    True

    Source: Mezzadri, Notices of the AMS 54 (2007).
    """
    return random_columns(key, positive_integer(n, "n"), n, dtype)


def random_columns(key: PRNGKeyArray, n: int, k: int, dtype: DTypeLike = float) -> Complex[Array, "n k"]:
    """Return the first k <= n columns of a Haar-distributed element of U(n).

    Args:
        key: random key.
        n: number of rows.
        k: number of columns.
        dtype: floating type of the real parts: float32 or float64.

    Raises:
        TypeError: if a size is not an integer, `key` is not a key, or `dtype` is not float32 or float64.
        ValueError: if a size is less than 1, or there are more columns than rows.

    >>> random_columns(jax.random.key(0), 5, 2).shape
    (5, 2)

    Source: Mezzadri, Notices of the AMS 54 (2007): QR of a Gaussian matrix, phases taken from the diagonal of R.
    """
    n, k, dtype = positive_integer(n, "n"), positive_integer(k, "k"), floating_type(dtype)
    if k > n:
        raise ValueError(f"k: got {k} columns; must be at most n = {n}, the number of rows.")
    parts = jax.random.normal(random_key(key), (2, n, k), dtype)
    return orthonormal(jax.lax.complex(parts[0], parts[1]))


def polar(matrix: ArrayLike) -> Complex[Array, "n n"]:
    """Return the unitary matrix nearest to a square matrix, `U V^H` for `M = U S V^H`.

    Args:
        matrix: square matrix M, shape (n, n).

    Raises:
        TypeError: if the matrix is not made of numbers.
        ValueError: if the matrix is not square.

    >>> polar(jnp.asarray([[0.0, 2j], [1.0, 0.0]])).round(4).tolist()
    [[0j, 1j], [(1+0j), 0j]]

    Source: Higham, Functions of Matrices (2008), chapter 8.
    """
    return _polar(_square(matrix, "matrix"))


@jax.custom_jvp
def _polar(matrix: Array) -> Array:
    U, _, Vh = decompositions.svd(matrix)
    return matmul(U, Vh)


@_polar.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    U, s, Vh = decompositions.svd(primals[0])
    K = matmul(matmul(adjoint(U), tangents[0]), adjoint(Vh))
    total = s[:, None] + s[None, :]
    unique = total > 4 * len(s) * jnp.finfo(s.dtype).eps * s[0]
    turn = jnp.where(unique, (K - adjoint(K)) / jnp.where(unique, total, 1), 0)
    return matmul(U, Vh), matmul(matmul(U, turn), Vh)


def determinant(point: ArrayLike) -> Complex[Array, ""]:
    """Return the determinant of a unitary matrix: a number of absolute value 1.

    Args:
        point: unitary matrix, shape (n, n).

    Raises:
        TypeError: if the matrix is not made of numbers.
        ValueError: if the matrix is not square.

    >>> complex(determinant(jnp.asarray([[0, 1j], [1, 0]])).round(4))
    -1j
    """
    return decompositions.determinant_sign(_square(point, "point"))


def special(point: ArrayLike) -> Complex[Array, "n n"]:
    """Return a unitary matrix times the phase that makes its determinant 1, the smallest of the n possible turns.

    Args:
        point: unitary matrix, shape (n, n).

    Raises:
        TypeError: if the matrix is not made of numbers.
        ValueError: if the matrix is not square.

    >>> bool(abs(determinant(special(jnp.asarray([[0, 1j], [1, 0]]))) - 1) < 1e-5)
    True
    """
    matrix = _square(point, "point")
    angle = jnp.angle(decompositions.determinant_sign(jax.lax.stop_gradient(matrix))) / matrix.shape[-1]
    return matrix * jnp.exp(-1j * angle).astype(matrix.dtype)


def logarithm(point: ArrayLike, traceless: bool = False) -> Complex[Array, "n n"]:
    """Return the principal logarithm of a unitary matrix: the shortest skew-Hermitian Omega with `exp(Omega) = Q`.

    Its eigenvalues are `i theta` with theta in (-pi, pi]. The method is that of `orthogonal.logarithm`: with
    `1 + Q = R V diag(2 cos(theta/2)) V^H`, `Omega = skew(R) V diag(theta / sin(theta/2)) V^H`.

    Args:
        point: unitary matrix Q, shape (n, n).
        traceless: for a Q of determinant 1, change angles by multiples of 2 pi, the largest first, until their sum is
            zero: a logarithm in the Lie algebra of SU(n).

    Raises:
        TypeError: if the matrix is not made of numbers.
        ValueError: if the matrix is not square.

    >>> (logarithm(jnp.asarray([[1j, 0], [0, 1]])).imag / jnp.pi).round(4).tolist()
    [[0.5, 0.0], [0.0, 0.0]]

    Source: Higham, Functions of Matrices (2008), section 11.5.
    """
    Q = _square(point, "point")
    n = Q.shape[-1]
    U, s, Vh = decompositions.svd(jnp.eye(n, dtype=Q.dtype) + Q)
    # An eigenvalue -1 has both square roots i and -i; take i.
    half_turn = s < 100 * n * jnp.finfo(s.dtype).eps
    U = jnp.where(half_turn[None, :], 1j * adjoint(Vh), U).astype(Q.dtype)
    half = jnp.clip(s / 2, 0, 1)
    V = adjoint(Vh)
    R = skewed(matmul(U, Vh)) + matmul(V * half[None, :], Vh)
    R = polished(polished(R))
    sine = jnp.sqrt((1 - half) * (1 + half))
    ratio = jnp.where(sine > 0, jnp.arctan2(sine, half) / jnp.where(sine > 0, sine, 1), 1)
    omega = skewed(matmul(2 * skewed(R), matmul(V * ratio[None, :], Vh)))
    if not traceless:
        return omega
    angles, vectors = decompositions.eigh(-1j * omega)
    turns = jnp.round(jnp.sum(angles) / (2 * jnp.pi))
    # A positive sum: lower the largest angles by 2 pi; a negative one: raise the smallest.
    rank = jnp.arange(n)
    down = jnp.where(rank >= n - turns, -2 * jnp.pi, 0) + jnp.where(rank < -turns, 2 * jnp.pi, 0)
    return skewed(matmul(vectors * (1j * (angles + down)).astype(Q.dtype)[None, :], adjoint(vectors)))


def host_determinant(matrix: np.ndarray) -> Any:
    """Return the determinant of a NumPy matrix.

    >>> complex(host_determinant(np.diag([1j, 1])))
    1j
    """
    return np.linalg.det(matrix)


def _square(value: ArrayLike, name: str) -> Array:
    array = numbers(value, name)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise ValueError(f"{name}: expected a square matrix, got shape {array.shape}.")
    if not jnp.issubdtype(array.dtype, jnp.inexact) or array.dtype in (jnp.float16, jnp.bfloat16):
        raise TypeError(f"{name}: got {array.dtype}; convert to complex64 or complex128 with .astype.")
    return array if is_complex(array) else array.astype(complex_type(array.dtype))
