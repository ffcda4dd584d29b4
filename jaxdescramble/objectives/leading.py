"""The leading principal directions of a summary of signals, with their derivative."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdescramble._base import decompositions, range_finder
from jaxdescramble._base.products import matmul
from jaxdescramble._base.range_finder import Leading
from jaxdescramble.objectives._triangles import triangularise
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.objectives.summary import Summary

STEPS = 500
"""Largest number of steps of the linear solve for the derivative."""


class Principal(NamedTuple):
    """The k leading principal directions of signals S, and what they leave out.

    Attributes:
        directions: U_k, the k leading left singular vectors of S as columns. The largest entry of each is positive.
        left_out: the fraction of the energy `||S||_F^2` that `U_k^T S` does not contain.
        tied: whether the singular values k and k + 1 are equal in this precision, and not zero; then the directions
            are not unique.
    """

    directions: Float[Array, "n k"]
    left_out: Float[Array, ""]
    tied: Bool[Array, ""]


def leading_directions(summary: Summary, k: int) -> Principal:
    """Return the k leading principal directions of a summary, 1 <= k <= n.

    Up to `range_finder.EXACT` features they are exact; for more features, see `range_finder` for the accuracy.

    The derivative keeps `U^T dU = 0` (a turn inside the kept directions changes only their coordinates), and solves
    `dU_i sigma_i^2 - Q B Q dU_i = Q dB U_i` by conjugate gradients, with `B = S S^T` and `Q = 1 - U U^T`. It exists if
    `sigma_k > sigma_(k+1)`. Directions that tie with direction k + 1 do not move.

    >>> from jaxdescramble.objectives import Samples
    >>> found = leading_directions(Samples(jnp.asarray([[0.0, 3.0], [2.0, 0.0], [0.0, 1.0]])), 2)
    >>> round(float(found.left_out), 4), found.directions.shape
    (0.0, (3, 2))
    """
    scaled = cleared(summary).normalised()
    matrix = scaled.spanning()
    n, c = matrix.shape
    if c > n and range_finder.is_exact(n, c, k):
        matrix = triangularise(matrix.T).T
    found = _leading(matrix, k)
    U = jax.lax.stop_gradient(found.vectors)  # the kept energy is stationary in U
    power = scaled.power()
    left = jnp.clip(1 - scaled.energy(U.T) / jnp.where(power > 0, power, 1), 0, 1)
    left = jnp.where(power > 0, left, 0) if k < n else jnp.zeros_like(power)
    values = jnp.append(found.values, found.following)
    rounding = jnp.finfo(values.dtype).eps * values[0]
    tied = (values[k - 1] - values[k] <= 8 * rounding) & (values[k] > n * rounding)
    return Principal(found.vectors, left, tied)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _leading(matrix: Float[Array, "n c"], k: int) -> Leading:
    return range_finder.leading(matrix, k)


@_leading.defjvp
def _leading_jvp(k, primals, tangents):
    (matrix,), (change,) = primals, tangents
    found = _leading(matrix, k)
    U, half = found.vectors, matmul(found.vectors.T, matrix)
    squares = jnp.sum(half**2, axis=1)
    following = found.following**2
    rounding = jnp.finfo(squares.dtype).eps * squares[0]
    apart = squares - following > 8 * rounding
    apart &= decompositions.resolved(found.values)
    scale = jnp.where(apart, squares, 1)[None, :]

    def outside(X: Array) -> Array:
        return X - matmul(U, matmul(U.T, X))

    def operator(X: Array) -> Array:
        other = outside(X)
        return X - jnp.where(apart[None, :], outside(matmul(matrix, matmul(matrix.T, other))) / scale, 0)

    forced = matmul(change, half.T) + matmul(matrix, matmul(change.T, U))
    forced = jnp.where(apart[None, :], outside(forced) / scale, 0)

    def solve(product: Callable[[Array], Array], right: Array) -> Array:
        return _by_columns(product, right)

    turn = jax.lax.custom_linear_solve(operator, forced, solve, symmetric=True)
    nothing = jnp.zeros_like(found.values)
    return found, Leading(outside(turn), nothing, jnp.zeros_like(found.following))


def _by_columns(product: Callable[[Array], Array], right: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Solve a positive definite problem for each column by conjugate gradients, all columns side by side."""

    def inner(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=0)

    def divided(a: Array, b: Array) -> Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    largest = jnp.max(jnp.abs(right))
    unit = jnp.where(largest > 0, largest, 1)  # so that squares neither overflow nor vanish
    right = right / unit
    goal = (10 * jnp.finfo(right.dtype).eps) ** 2 * jnp.max(inner(right, right), initial=0)

    def body(state: tuple) -> tuple:
        X, residual, direction, weight, count = state
        image = product(direction)
        step = divided(weight, inner(direction, image))[None, :]
        X, residual = X + step * direction, residual - step * image
        new = inner(residual, residual)
        return X, residual, residual + divided(new, weight)[None, :] * direction, new, count + 1

    def goes_on(state: tuple) -> Array:
        return (state[3] > goal).any() & (state[4] < STEPS)

    start = (jnp.zeros_like(right), right, right, inner(right, right), jnp.zeros((), jnp.int32))
    return unit * jax.lax.while_loop(goes_on, body, start)[0]
