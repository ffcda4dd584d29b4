"""The orthogonal group O(n) and its component SO(n): elements, tangent vectors, geodesics, distance.

Each function takes one element; use `jax.vmap` for a batch. Velocities are skew matrices Omega in *body* coordinates,
in radians: the tangent vector at P is `P Omega`, the geodesic is `P exp(t Omega)`, and the metric is the Frobenius
inner product.

All numbers are real. For U(n), every transpose would become an adjoint, the determinant a phase, "SO" a constraint on
this phase, and every gradient a conjugate. Stack real and imaginary parts as samples instead.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import (
    floating_type,
    one_of,
    positive_integer,
    random_key,
    real_or_complex_array,
)
from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.manifolds._exponentials import exponential_of_any
from jaxdescramble.manifolds._hadamards import hadamard, random_hadamard
from jaxdescramble.manifolds._logarithms import angle_norm, logarithm
from jaxdescramble.manifolds.projections import (
    NAMES,
    check_orthogonal,
    defect,
    orthonormal,
    polar,
    polish,
    sign_of,
    skew,
    special,
    square,
    tangent,
)

__all__ = [
    "NAMES",
    "block_diagonal",
    "check_orthogonal",
    "defect",
    "distance",
    "geodesic",
    "hadamard",
    "logarithm",
    "polar",
    "polish",
    "random",
    "random_columns",
    "random_hadamard",
    "skew",
    "special",
    "tangent",
    "to_body",
    "to_spatial",
    "transport",
]

MANY = 32
"""From this number of random columns on, their Gram matrix is far from singular if there are twice as many rows."""


def geodesic(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the point at time 1 on the geodesic from P with body velocity Omega, `P exp(Omega)`.

    Use it for velocities of any length; `retractions.exponential` is faster for lengths up to its cap.

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega in body coordinates (the tangent vector is `P Omega`), in radians.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> quarter = jnp.asarray([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> abs(geodesic(jnp.eye(2), quarter) - jnp.asarray([[0.0, -1.0], [1.0, 0.0]])).max() < 1e-6
    Array(True, dtype=bool)
    """
    point = square(point, "point")
    return matmul(point, exponential_of_any(square(velocity, "velocity", like=point)))


def distance(p: Float[Array, "n n"], q: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return the length of the shortest geodesic, `||log(P^T Q)||_F = (2 sum_j theta_j^2)^(1/2)`, in radians.

    The distance between the two components of O(n) is infinite. Multiplying P and Q by the same element, from the left
    or from the right, does not change it. The function is differentiable twice; at P = Q its derivatives are zero.

    Args:
        p: orthogonal matrix P.
        q: orthogonal matrix Q of the same size.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> bool(abs(distance(jnp.eye(2), jnp.asarray([[0.0, -1.0], [1.0, 0.0]])) - jnp.pi / jnp.sqrt(2)) < 1e-6)
    True
    >>> float(distance(jnp.eye(2), jnp.diag(jnp.asarray([1.0, -1.0]))))
    inf

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998), section 2.2 (their metric is half of ours).
    """
    p = square(p, "p")
    between = matmul(p.T, square(q, "q", like=p))
    apart = decompositions.determinant_sign(jax.lax.stop_gradient(between)) < 0
    # `where` differentiates both branches: the unused one must be finite too.
    length = angle_norm(jnp.where(apart, jnp.eye(len(p), dtype=p.dtype), between))
    return jnp.where(apart, jnp.inf, length)


def transport(
    point: Float[Array, "n n"], velocity: Float[Array, "n n"], vector: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Transport a vector in parallel along the geodesic `P exp(t Omega)`, t = 0 to 1: `exp(-Omega/2) V exp(Omega/2)`.

    The connection is that of Levi-Civita: the transport is an isometry and keeps the velocity of a geodesic. (To keep V
    unchanged in body coordinates is the other, flat connection. It is cheaper, is an isometry too, and agrees to first
    order.)

    Args:
        point: orthogonal matrix P, where V starts. In body coordinates the result does not depend on its numbers.
        velocity: skew matrix Omega in body coordinates at P, in radians.
        vector: skew matrix V in body coordinates at P.

    Returns:
        A skew matrix in body coordinates at `P exp(Omega)`.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> W = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> transport(jnp.eye(2), W, 3 * W).round(4).tolist()
    [[0.0, -3.0], [3.0, 0.0]]

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998), section 2.2.3.
    """
    point = square(point, "point")
    half = exponential_of_any(square(velocity, "velocity", like=point) / 2)
    return skew(matmul(matmul(half.T, square(vector, "vector", like=point)), half))


def to_spatial(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return a body velocity in the spatial frame, `P Omega P^T`; the same motion is `exp(t P Omega P^T) P`.

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega in body coordinates.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> flip = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> to_spatial(flip, jnp.asarray([[0.0, -1.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    point = square(point, "point")
    return matmul(matmul(point, square(velocity, "velocity", like=point)), point.T)


def to_body(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return a spatial velocity in the body frame, `P^T Omega P`: the inverse of `to_spatial`.

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega in spatial coordinates.

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> flip = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> to_body(flip, jnp.asarray([[0.0, 1.0], [-1.0, 0.0]])).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    point = square(point, "point")
    return matmul(matmul(point.T, square(velocity, "velocity", like=point)), point)


def random(
    key: PRNGKeyArray, n: int, group: str = "O", dtype: DTypeLike = float, determinant: int | None = None
) -> Float[Array, "n n"]:
    """Return a Haar-distributed element of O(n), of SO(n), or of the component with determinant -1.

    For a batch, write `jax.vmap(lambda k: random(k, n))(jax.random.split(key, batch))`.

    Args:
        key: random key.
        n: number of features.
        group: "O" or "SO".
        dtype: floating type of the result: float32 or float64.
        determinant: +1 or -1 chooses one component of O(n); None chooses either with equal probability.

    Raises:
        TypeError: if `n` is not an integer, `key` is not a key, or `dtype` is not float32 or float64.
        ValueError: if the group is unknown, `n` is less than 1, or the group does not have this determinant.

    >>> float(jnp.linalg.det(random(jax.random.key(0), 5, "SO")).round(4))
    1.0
    >>> float(jnp.linalg.det(random(jax.random.key(0), 5, determinant=-1)).round(4))
    -1.0
    """
    one_of(group, "group", NAMES)
    determinant = None if determinant is None else sign_of(determinant, "1, -1, or None for either")
    if group == "SO":
        if determinant == -1:
            raise ValueError("determinant: got -1; must be 1 for group='SO'. Use group='O' for determinant -1.")
        determinant = 1
    point = random_columns(key, positive_integer(n, "n"), n, dtype)
    return point if determinant is None else special(point, determinant)


def random_columns(key: PRNGKeyArray, n: int, k: int, dtype: DTypeLike = float) -> Float[Array, "n k"]:
    """Return the first k <= n columns of a Haar-distributed element of O(n).

    Args:
        key: random key.
        n: number of features.
        k: number of columns.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if a size is not an integer, `key` is not a key, or `dtype` is not float32 or float64.
        ValueError: if a size is less than 1, or there are more columns than rows.

    >>> Q = random_columns(jax.random.key(0), 5, 2)
    >>> bool(abs(Q.T @ Q - jnp.eye(2)).max() < 1e-5)
    True

    Source: Mezzadri, Notices of the AMS 54 (2007): QR of a Gaussian matrix, signs taken from the diagonal of R.
    """
    n, k, dtype = positive_integer(n, "n"), positive_integer(k, "k"), floating_type(dtype)
    if k > n:
        raise ValueError(f"k: got {k} columns; must be at most n = {n}, the number of rows.")
    return _random_columns(random_key(key), n, k, dtype)


@functools.partial(fused, static_argnames=("n", "k", "dtype"))
def _random_columns(key: PRNGKeyArray, n: int, k: int, dtype: np.dtype) -> Float[Array, "n k"]:
    normal = jax.random.normal(key, (n, k), dtype)
    if k < MANY or n < 2 * k:
        return orthonormal(normal)
    # The condition number is near 6 or smaller, so the Cholesky factor of the Gram matrix is R, at half of the cost.
    factor = decompositions.cholesky(matmul(normal.T, normal))
    return decompositions.solve_triangular(factor, normal.T).T


def block_diagonal(blocks: ArrayLike) -> Inexact[Array, "n n"]:
    """Return the matrix that turns each of k groups of d features by itself, such as the heads of attention.

    `P = diag(B_1, ..., B_k)`, so features `i d` to `(i + 1) d - 1` of `P S` are `B_i` times those of S. P is orthogonal
    (unitary) if all blocks are.

    To find the frame of each head, minimise over the blocks: their manifold is a `Power`. It costs k d^3 operations a
    step instead of (k d)^3. Each block has two determinant classes, and `Orthogonal()` searches all 2^k of them, up to
    k = 4. For more heads, take `SpecialOrthogonal()`. It misses nothing if the objective ignores the signs of neurons.

    Args:
        blocks: the matrices `B_i`, real or complex, shape (k, d, d).

    Returns:
        A matrix of shape (k d, k d). It has derivatives in both modes.

    Raises:
        TypeError: if the blocks are not made of floating-point numbers.
        ValueError: if their shape is not (k, d, d).

    >>> from jaxdescramble import objectives, solvers
    >>> from jaxdescramble.manifolds import Power, SpecialOrthogonal
    >>> heads = Power(SpecialOrthogonal())
    >>> hidden = block_diagonal(heads.random(jax.random.key(0), 3, 4, 4))
    >>> S = hidden.T @ jax.random.laplace(jax.random.key(1), (12, 400))
    >>> sparse = objectives.sparsity("logcosh")
    >>> def in_heads(blocks, summary):
    ...     return sparse(block_diagonal(blocks), summary)
    >>> start = heads.origin(jnp.zeros((3, 4, 4)))
    >>> found = solvers.minimise(in_heads, start, sparse.summarise(S), manifold=heads).check()
    >>> bool(found.value < sparse(hidden, S) < sparse(jnp.eye(12), S))
    True
    """
    parts = real_or_complex_array(blocks, "blocks", (3,), "square matrices (k, d, d)")
    k, d, other = parts.shape
    if d != other:
        raise ValueError(f"blocks: got shape {parts.shape}; expected square matrices (k, d, d).")
    # Place the blocks; a product with zeros would make NaN in one block a NaN everywhere.
    each = jnp.arange(k)
    return jnp.zeros((k, d, k, d), parts.dtype).at[each, :, each, :].set(parts).reshape(k * d, k * d)
