"""The orthogonal group O(n) and its component SO(n): elements, tangent vectors, geodesics, distance.

Matters of one element stand for a batch under `jax.vmap`. Velocities are skew matrices Omega in *body* coordinates,
radians: the tangent vector at P is `P Omega`, the geodesic `P exp(t Omega)`, the metric the Frobenius inner product.

Real numbers only. U(n) does not fall out: a transpose would have to become an adjoint everywhere, determinants a phase
and "SO" a constraint on it, and every gradient a conjugate. Stack real and imaginary parts as samples instead.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import floating_type, one_of, positive_integer, random_key
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds._exponentials import exponential_of_any
from jaxdescramble.manifolds._logarithms import logarithm
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
    "check_orthogonal",
    "defect",
    "distance",
    "geodesic",
    "logarithm",
    "polar",
    "polish",
    "random",
    "random_columns",
    "skew",
    "special",
    "tangent",
    "to_body",
    "to_spatial",
    "transport",
]


def geodesic(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Where the geodesic from P with body velocity Omega is at time one, `P exp(Omega)`.

    For velocities of any length; `retractions.exponential` is the faster one for lengths within its cap.

    Args:
        point: P.
        velocity: skew Omega, in body coordinates (the tangent vector is `P Omega`), radians.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> quarter = jnp.asarray([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> abs(geodesic(jnp.eye(2), quarter) - jnp.asarray([[0.0, -1.0], [1.0, 0.0]])).max() < 1e-6
    Array(True, dtype=bool)
    """
    point = square(point, "point")
    return matmul(point, exponential_of_any(square(velocity, "velocity", like=point)))


def distance(p: Float[Array, "n n"], q: Float[Array, "n n"]) -> Float[Array, ""]:
    """The length of the shortest geodesic, `||log(P^T Q)||_F = (2 sum_j theta_j^2)^(1/2)`, radians.

    Between the two components it is infinite. Turning both by one element, from either side, changes nothing.
    Differentiable once, at P = Q with derivative zero.

    Args:
        p: P, orthogonal.
        q: Q, orthogonal, of the same size.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> bool(abs(distance(jnp.eye(2), jnp.asarray([[0.0, -1.0], [1.0, 0.0]])) - jnp.pi / jnp.sqrt(2)) < 1e-6)
    True
    >>> float(distance(jnp.eye(2), jnp.diag(jnp.asarray([1.0, -1.0]))))
    inf

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998), section 2.2 (their metric is half of this, squared).
    """
    p = square(p, "p")
    between = matmul(p.T, square(q, "q", like=p))
    apart = decompositions.determinant_sign(jax.lax.stop_gradient(between)) < 0
    # Both branches of `where` are differentiated: the one not taken must be finite too.
    total = jnp.sum(logarithm(jnp.where(apart, jnp.eye(len(p), dtype=p.dtype), between)) ** 2)
    length = jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total)))
    return jnp.where(apart, jnp.inf, length)


def transport(
    point: Float[Array, "n n"], velocity: Float[Array, "n n"], vector: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Parallel transport along the geodesic `P exp(t Omega)` from t = 0 to 1, `exp(-Omega/2) V exp(Omega/2)`.

    The Levi-Civita connection's: an isometry under which velocities of geodesics stay themselves. (Leaving V as it is
    in body coordinates is the other, flat, connection: cheaper, an isometry too, right to first order.)

    Args:
        point: P, where V stands. The group looks alike from everywhere: its numbers make no difference.
        velocity: skew Omega, body coordinates at P, radians.
        vector: skew V, body coordinates at P.

    Returns:
        Skew, in body coordinates at `P exp(Omega)`.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> W = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> transport(jnp.eye(2), W, 3 * W).round(4).tolist()
    [[0.0, -3.0], [3.0, 0.0]]

    Source: Edelman, Arias, Smith, SIAM J. Matrix Anal. 20 (1998), section 2.2.3.
    """
    point = square(point, "point")
    half = exponential_of_any(square(velocity, "velocity", like=point) / 2)
    return skew(matmul(matmul(half.T, square(vector, "vector", like=point)), half))


def to_spatial(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A velocity in the spatial frame, `P Omega P^T`: the same motion is `exp(t P Omega P^T) P`.

    Args:
        point: P.
        velocity: skew Omega, body coordinates.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> flip = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> to_spatial(flip, jnp.asarray([[0.0, -1.0], [1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    point = square(point, "point")
    return matmul(matmul(point, square(velocity, "velocity", like=point)), point.T)


def to_body(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A velocity in the body frame, `P^T Omega P`, from one in the spatial frame: undoes `to_spatial`.

    Args:
        point: P.
        velocity: skew Omega, spatial coordinates.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> flip = jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    >>> to_body(flip, jnp.asarray([[0.0, 1.0], [-1.0, 0.0]])).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    point = square(point, "point")
    return matmul(matmul(point.T, square(velocity, "velocity", like=point)), point)


def random(
    key: PRNGKeyArray, n: int, group: str = "O", dtype: DTypeLike = float, determinant: int | None = None
) -> Float[Array, "n n"]:
    """A Haar-distributed element of O(n), of SO(n), or of the component of reflections.

    For a batch, `jax.vmap(lambda k: random(k, n))(jax.random.split(key, batch))`.

    Args:
        key: source of chance.
        n: size.
        group: "O" or "SO".
        dtype: floating type.
        determinant: +1 or -1 for one component of O(n) alone; None for both, with equal chance.

    Raises:
        TypeError: a size that is no integer, no key, a type other than float32 and float64.
        ValueError: an unknown group, a size below 1, a determinant that the group does not have.

    >>> float(jnp.linalg.det(random(jax.random.key(0), 5, "SO")).round(4))
    1.0
    >>> float(jnp.linalg.det(random(jax.random.key(0), 5, determinant=-1)).round(4))
    -1.0
    """
    one_of(group, "group", NAMES)
    determinant = None if determinant is None else sign_of(determinant, "1, -1, or None for either")
    if group == "SO":
        if determinant == -1:
            raise ValueError("determinant: got -1, but elements of SO have determinant 1. Ask for group='O'.")
        determinant = 1
    point = random_columns(key, positive_integer(n, "n"), n, dtype)
    return point if determinant is None else special(point, determinant)


def random_columns(key: PRNGKeyArray, n: int, k: int, dtype: DTypeLike = float) -> Float[Array, "n k"]:
    """The first k <= n columns of a Haar-distributed element of O(n).

    Raises:
        TypeError: sizes that are no integers, no key, a type other than float32 and float64.
        ValueError: sizes below 1, more columns than rows.

    >>> Q = random_columns(jax.random.key(0), 5, 2)
    >>> bool(abs(Q.T @ Q - jnp.eye(2)).max() < 1e-5)
    True

    Source: Mezzadri, Notices of the AMS 54 (2007): QR of a Gaussian matrix, signs taken from the diagonal of R.
    """
    n, k, dtype = positive_integer(n, "n"), positive_integer(k, "k"), floating_type(dtype)
    if k > n:
        raise ValueError(f"k: got {k} columns of {n} rows; there are {n} at most.")
    return orthonormal(jax.random.normal(random_key(key), (n, k), dtype))
