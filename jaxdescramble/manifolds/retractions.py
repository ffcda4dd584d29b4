"""Retractions: moves on O(n) from an element along a skew velocity that stay on the group.

Each function is `name(point, velocity) -> point` for one element P and one skew Omega in body coordinates, in radians
(the tangent vector is `P Omega`); use `jax.vmap` for batches. Each agrees with the geodesic `P exp(t Omega)` up to an
error of O(t^(order+1)) and keeps the determinant. Each works under jit and vmap and has derivatives of every order, at
velocity 0 too. The result is orthogonal to rounding; a small drift of P is corrected.

| name          | order | made of                          | cost, n = 80 | n = 256   | for velocities     |
|---------------|-------|----------------------------------|--------------|-----------|--------------------|
| `exponential` | exact | 8 products (7)                   | 7.6 (6.6)    | 8.6 (7.0) | of norm <= CAP     |
| `cayley`      | 2     | 4 products and an inverse        | 9.1 (9.1)    | 8.8 (8.2) | of any norm        |
| `qr`          | 1     | a product and a QR decomposition | 7.9 (11.8)   | 6.9 (9.0) | of any norm        |
| `polar`       | 2     | 11 products (9)                  | 12.5 (8.3)   | 14.7 (9.4)| kept by `limit`    |

The unit of cost is one matrix product of the same shape, measured on one CPU core in float64 (float32); `limit` adds
1.2. The norm is the spectral norm: the largest angle by which a plane turns. On accelerators, inverses and QR
decompositions cost far more than here, and products cost less. On CPUs, `qr` and `cayley` process a batch one matrix
at a time.
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
    """Move along the geodesic itself, `P exp(Omega)`, for velocities up to CAP.

    It takes the Taylor polynomial of degree 18 (12 in float32), then one `polish`. The error at a largest angle theta
    is theta^19 / 19! in float64: 4e-12 at 2 rad, below rounding at 1.2. In float32 it is theta^13 / 13!: 1e-6 at 2 rad,
    below rounding at 1.6. It takes 5 + 1 + 2 products (4 + 1 + 2) and no decomposition. Beyond CAP the error grows
    gently (1e-8 at 3, 2e-6 at 4).

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega in radians, with a spectral norm of at most CAP (see `limit`). Use
            `orthogonal.geodesic` for longer ones.

    Returns:
        The new point, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> quarter = jnp.asarray([[0.0, -jnp.pi / 2], [jnp.pi / 2, 0.0]])
    >>> (exponential(jnp.eye(2), quarter).round(4) + 0.0).tolist()
    [[0.0, -1.0], [1.0, 0.0]]

    Source: Bader, Blanes, Casas, Mathematics 7 (2019) 1174, "Computing the matrix exponential with an optimized Taylor
    polynomial approximation", section 3.
    """
    point, velocity = _checked(point, velocity)
    return polish(point + matmul(point, exponential_minus_one(velocity)))


def cayley(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Move by the Cayley transform `P (1 - Omega/2)^-1 (1 + Omega/2)`, of order 2, for any velocity.

    Use it for velocities of any length. A plane turns by `2 atan(theta / 2)` instead of theta, never by pi. The cost is
    one inverse, one product and one `polish`.

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega, in radians.

    Returns:
        The new point, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> (cayley(jnp.eye(2), jnp.asarray([[0.0, -2.0], [2.0, 0.0]])).round(4) + 0.0).tolist()
    [[0.0, -1.0], [1.0, 0.0]]

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), example 4.1.2.
    """
    point, velocity = _checked(point, velocity)
    # (1 - W/2)^-1 (1 + W/2) = 1 + (1 - W/2)^-1 W: this form is exact at W = 0, and small changes keep their digits.
    eye = jnp.eye(velocity.shape[-1], dtype=velocity.dtype)
    turned = matmul(point, decompositions.inverse(eye - velocity / 2))
    return polish(point + matmul(turned, velocity))


def qr(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Move to the factor Q of `Q R = P (1 + Omega)`, where R has a positive diagonal; order 1, for any velocity.

    Use it for velocities of any length. The cost is one product and one QR decomposition. On GPUs, a batch of QR
    decompositions does not run in parallel (jax issue 8542).

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega, in radians.

    Returns:
        The new point, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> W = jnp.asarray([[0.0, -0.5], [0.5, 0.0]])
    >>> bool(abs(qr(jnp.eye(2), jnp.tan(0.5) / 0.5 * W) - exponential(jnp.eye(2), W)).max() < 1e-6)
    True

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), example 4.1.3.
    """
    point, velocity = _checked(point, velocity)
    return _orthogonal_factor(point + matmul(point, velocity))


def polar(point: Float[Array, "n n"], velocity: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Move to the element nearest to `P (1 + Omega)`, of order 2, for velocities that `limit` does not shorten.

    A plane turns by `atan(theta)` instead of theta. The polar factor comes from 5 scaled Newton-Schulz steps (4 in
    float32), because the singular values are known to lie between 1 and `(1 + b^2)^(1/2)`, where b is the bound of
    `limit`. The steps are products only and cost a half to a seventh of a singular value decomposition. Five steps
    reach rounding at b = 2, a defect of 1e-11 at b = 3, and 1e-8 at b = 4. Use `orthogonal.polar` for any matrix.

    Args:
        point: orthogonal matrix P, shape (n, n).
        velocity: skew matrix Omega in radians, with b <= CAP (see `limit`).

    Returns:
        The new point, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

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
        # x (3 - x^2) / 2 rises up to x = 1: the scale gives both ends of [low, high] the same image, and the middle 1.
        scale = jnp.sqrt(3 / (low**2 + low * high + high**2)).astype(moved.dtype)
        moved = moved * (1.5 * scale) - matmul(moved, gram) * (scale**3 / 2)
        low, high = scale * low * (3 - (scale * low) ** 2) / 2, jnp.ones_like(high)
        gram = matmul(moved.T, moved)
    return moved


RETRACTIONS = {"exponential": exponential, "cayley": cayley, "qr": qr, "polar": polar}
"""The retractions, by name."""


def _checked(point: Array, velocity: Array) -> tuple[Array, Array]:
    point = square(point, "point")
    return point, square(velocity, "velocity", like=point)


@jax.custom_jvp
def _orthogonal_factor(matrix: Array) -> Array:
    return orthonormal(matrix)


@_orthogonal_factor.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Q^T dA R^-1 = Q^T dQ + dR R^-1, and dR R^-1 is upper triangular: the strict lower part is that of the skew Q^T dQ.
    Q = _orthogonal_factor(primals[0])
    R = jnp.triu(matmul(Q.T, primals[0]))
    lower = jnp.tril(matmul(matmul(Q.T, tangents[0]), decompositions.inverse(R)), -1)
    return Q, matmul(Q, lower - lower.T)
