"""Retractions: ways to move on O(n), from an element along a skew velocity, that stay on the group.

Each is `name(point, velocity) -> point` for one element P and one skew Omega in body coordinates, radians (the tangent
vector is `P Omega`); `jax.vmap` makes batches. Each agrees with the geodesic `P exp(t Omega)` up to an error
O(t^(order+1)), keeps the determinant, and may be jitted, vmapped and differentiated any number of times, at velocity 0
too. What is returned is orthogonal to rounding, and a small drift of P is mended rather than passed on.

| name          | order | made of                          | cost, n = 80 | n = 256   | for velocities     |
|---------------|-------|----------------------------------|--------------|-----------|--------------------|
| `exponential` | exact | 8 products (7)                   | 7.6 (6.6)    | 8.6 (7.0) | of norm <= CAP     |
| `cayley`      | 2     | 4 products and an inverse        | 9.1 (9.1)    | 8.8 (8.2) | of any norm        |
| `qr`          | 1     | a product and a QR decomposition | 7.9 (11.8)   | 6.9 (9.0) | of any norm        |
| `polar`       | 2     | 11 products (9)                  | 12.5 (8.3)   | 14.7 (9.4)| `limit` lets alone |

Costs are in matrix products of the same shape, measured on one CPU core in float64 (float32); `limit` adds 1.2. The
norm is the spectral one: the largest angle by which a plane turns. On accelerators inverses and QR decompositions cost
far more than here and products less. `qr` and `cayley` take a batch one matrix at a time on CPUs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds._exponentials import CAP, exponential_minus_one, is_double, limit
from jaxdescramble.manifolds.projections import orthonormal, polish, square

__all__ = ["CAP", "RETRACTIONS", "cayley", "exponential", "limit", "polar", "qr"]


def exponential(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The geodesic itself, `P exp(Omega)`, for velocities within CAP.

    The Taylor polynomial of degree 18 (12 in float32), then one `polish`. The error at a largest angle theta is
    theta^19 / 19! (theta^13 / 13!): 4e-12 at 2 and below rounding at 1.2 in float64, 1e-6 and 1.6 in float32.
    Products: 5 + 1 + 2 (4 + 1 + 2); no decomposition. Beyond CAP the error grows gently (1e-8 at 3, 2e-6 at 4).

    Args:
        point: P.
        velocity: skew Omega, radians, of spectral norm <= CAP (see `limit`); `orthogonal.geodesic` takes any.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> quarter = jnp.asarray([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> (exponential(jnp.eye(2), quarter).round(4) + 0.0).tolist()
    [[0.0, -1.0], [1.0, 0.0]]

    Source: Bader, Blanes, Casas, Mathematics 7 (2019) 1174, "Computing the matrix exponential with an optimized Taylor
    polynomial approximation", section 3.
    """
    point, velocity = _checked(point, velocity)
    return polish(point + matmul(point, exponential_minus_one(velocity)))


def cayley(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The Cayley transform `P (1 - Omega/2)^-1 (1 + Omega/2)`, of order 2, for any velocity.

    A plane turns by `2 atan(theta / 2)` in place of theta, never by pi. One inverse, one product, one `polish`.

    Args:
        point: P.
        velocity: skew Omega, radians.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> (cayley(jnp.eye(2), jnp.asarray([[0.0, -2.0], [2.0, 0.0]])).round(4) + 0.0).tolist()
    [[0.0, -1.0], [1.0, 0.0]]

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), example 4.1.2.
    """
    point, velocity = _checked(point, velocity)
    # (1 - W/2)^-1 (1 + W/2) = 1 + (1 - W/2)^-1 W: exact at W = 0, and the small part keeps its digits.
    eye = jnp.eye(velocity.shape[-1], dtype=velocity.dtype)
    turned = matmul(point, decompositions.inverse(eye - velocity / 2))
    return polish(point + matmul(turned, velocity))


def qr(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The factor Q of `Q R = P (1 + Omega)` whose R has a positive diagonal, of order 1, for any velocity.

    One product and one QR decomposition, which does not run in parallel over a batch on GPUs (jax issue 8542).

    Args:
        point: P.
        velocity: skew Omega, radians.

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> W = jnp.asarray([[0.0, -0.5], [0.5, 0.0]])
    >>> bool(abs(qr(jnp.eye(2), jnp.tan(0.5) / 0.5 * W) - exponential(jnp.eye(2), W)).max() < 1e-6)
    True

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), example 4.1.3.
    """
    point, velocity = _checked(point, velocity)
    return _orthogonal_factor(point + matmul(point, velocity))


def polar(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The element nearest to `P (1 + Omega)`, of order 2, for velocities that `limit` leaves alone.

    A plane turns by `atan(theta)` in place of theta. The polar factor is taken by 5 scaled Newton-Schulz steps (4 in
    float32), since the singular values are known to lie between 1 and `(1 + b^2)^(1/2)`, b the bound of `limit`:
    products alone, a half to a seventh of the cost of a singular value decomposition. Five steps leave rounding at
    b = 2, a defect of 1e-11 at b = 3, 1e-8 at b = 4; `orthogonal.polar` takes any matrix.

    Args:
        point: P.
        velocity: skew Omega, radians, with b <= CAP (see `limit`).

    Raises:
        TypeError: not real numbers.
        ValueError: not square, or of different sizes.

    >>> W = jnp.asarray([[0.0, -0.5], [0.5, 0.0]])
    >>> bool(abs(polar(jnp.eye(2), jnp.tan(0.5) / 0.5 * W) - exponential(jnp.eye(2), W)).max() < 1e-6)
    True

    Source: Absil, Mahony, Sepulchre (2008), example 4.1.3; Chen, Chow (2014), "A stable scaling of Newton-Schulz for
    improving the sign function computation of a Hermitian matrix", for the scaling.
    """
    point, velocity = _checked(point, velocity)
    moved = point + matmul(point, velocity)
    gram = matmul(moved.T, moved)
    # The squared singular values are 1 + theta_j^2, each twice, so this is the bound of `limit`, squared.
    eye = jnp.eye(velocity.shape[-1], dtype=velocity.dtype)
    excess = jnp.linalg.norm(jax.lax.stop_gradient(gram) - eye) / jnp.sqrt(2.0)
    low, high = jnp.ones_like(excess), jnp.sqrt(1 + excess)
    for _ in range(5 if is_double(velocity) else 4):
        # x (3 - x^2) / 2 rises up to x = 1: the scale makes both ends of [low, high] come out equal, the middle at 1.
        scale = jnp.sqrt(3 / (low**2 + low * high + high**2)).astype(moved.dtype)
        moved = moved * (1.5 * scale) - matmul(moved, gram) * (scale**3 / 2)
        low, high = scale * low * (3 - (scale * low) ** 2) / 2, jnp.ones_like(high)
        gram = matmul(moved.T, moved)
    return moved


RETRACTIONS = {"exponential": exponential, "cayley": cayley, "qr": qr, "polar": polar}
"""The retractions by name."""


def _checked(point: Array, velocity: Array) -> tuple[Array, Array]:
    point = square(point, "point")
    return point, square(velocity, "velocity", like=point)


@jax.custom_jvp
def _orthogonal_factor(matrix: Array) -> Array:
    return orthonormal(matrix)


@_orthogonal_factor.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # dA R^-1 = dQ + Q dR R^-1, the second an upper triangle: the strict lower one is that of the skew Q^T dQ.
    Q = _orthogonal_factor(primals[0])
    R = jnp.triu(matmul(Q.T, primals[0]))
    lower = jnp.tril(matmul(matmul(Q.T, tangents[0]), decompositions.inverse(R)), -1)
    return Q, matmul(Q, lower - lower.T)
