"""What both models of a Hessian `D^2 f[V] = A V B` share: the test of this form, its signs, and divisors of planes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.solvers.problem import norm

MISFIT = 0.03
"""Largest relative distance from rank one of the image of a rank-one matrix, for a Hessian to count as Kronecker."""

DOWNWARD = 0.03
"""The least divisor of a plane in which the model bends downward, in units of that curvature."""


def rank_one(
    slope: Callable[[Array], Array], points: tuple[Array, Array], u: Float[Array, " n"], v: Float[Array, " p"]
) -> tuple[Float[Array, "n p"], Float[Array, "1 p"], Array]:
    """Return `H = D^2 f[u v^T]` at the first point, `u^T H`, and whether f has a Kronecker Hessian.

    A Kronecker product maps the rank-one matrix u v^T to another one, (A u)(B v)^T, and does so at every point: at the
    corner of an L1 norm, a single sample can look like a Kronecker product.

    >>> weights = jnp.asarray([1.0, 2.0])
    >>> square = jax.grad(lambda X: jnp.sum(X**2 * weights[None, :]))
    >>> bool(rank_one(square, (jnp.eye(2), -jnp.eye(2)), jnp.ones(2), jnp.ones(2))[2])
    True
    """
    one = u[:, None] * v[None, :]
    seen, elsewhere = jax.lax.map(lambda at: jax.jvp(slope, (at,), (one,))[1], jnp.stack(points))
    column, row = matmul(seen, v[:, None]), matmul(u[None, :], seen)
    corner = u @ column[:, 0]
    foreseen = column * row / jnp.where(corner == 0, 1, corner)
    same = norm(seen - elsewhere) <= MISFIT * norm(seen)
    return seen, row, (norm(seen - foreseen) <= MISFIT * norm(seen)) & same


def at_the_minimum(slope: Float[Array, "n n"], curvature: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return divisors `2 s / atan2(2 s, h)` that turn planes to the minimum; see `preconditioners.jacobi_divisors`.

    >>> round(float(at_the_minimum(jnp.ones((1, 1)), jnp.zeros((1, 1)))[0, 0]), 4)  # 4 / pi
    1.2732
    """
    angle = jnp.arctan2(2 * slope, curvature)
    sloping = (slope > 0) & (angle > 0)
    size = jnp.where(sloping, 2 * slope / jnp.where(sloping, angle, 1), jnp.abs(curvature))
    return jnp.maximum(size, -DOWNWARD * curvature)


def rudin_shapiro(n: int) -> np.ndarray:
    """Return the first n Rudin-Shapiro signs: the +1/-1 sequence with the flattest spectrum, so it misses no mode.

    >>> rudin_shapiro(8).astype(int).tolist()
    [1, 1, 1, -1, 1, 1, -1, 1]

    Source: Rudin, Proc. AMS 10 (1959) 855: the parity of the number of times that 11 occurs in the binary index.
    """
    index = np.arange(n)
    pairs = sum(((index >> bit) & (index >> (bit + 1)) & 1 for bit in range(n.bit_length())), np.zeros(n, int))
    return np.where(pairs % 2 == 0, 1.0, -1.0)
