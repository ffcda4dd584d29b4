"""Objectives of a descrambled weight `P W`, for layers whose output should line up with their input.

The S of these objectives is the weight W, shape (out, in); their `applies_to` is "weights". The columns of W are the
inputs, in their order. Therefore the values change when columns are permuted or repeated.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.similar import nuclear_norm
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import kept_samples, ratio


def diagonal_sum() -> "DiagonalSum":
    """Return the objective that makes the sum of the diagonal of `P W` large. f lies in [-1, 1].

    `f(P) = -tr(P W) / ||W||_*`

    Here `||W||_*` is the nuclear norm, the sum of the singular values. If W is rectangular, n by k, only its first
    min(n, k) columns reach the diagonal, and the nuclear norm is the norm of these columns. f does not change when W is
    scaled. It does not depend on columns after the first n. The bound is -1 and is attained: `exact.diagonal_sum` is
    the closed form. f is linear in P, so the polar fixed point (`solvers.PolarPower`) needs one step.

    Returns:
        A `DiagonalSum`: an objective that applies to weights, with a bound.

    >>> W = jnp.asarray([[0.0, 2.0], [1.0, 0.0]])
    >>> [abs(float(diagonal_sum()(P, W).round(4))) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [0.0, 1.0]

    Source: Amey et al. 2021, SI (voice network): maximum diagonal sum.
    """
    return DiagonalSum()


class DiagonalSum(Objective[SampleSummary]):
    """The diagonal sum of a weight. Make it with `diagonal_sum`, which documents it."""

    applies_to = "weights"
    concave = True

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.trace(matmul(point, W)), nuclear_norm(W[:, : len(W)]))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        nuclear = nuclear_norm(W[:, : len(W)])
        return -ratio(nuclear, nuclear)


def diagonal_norm() -> "DiagonalNorm":
    """Return the objective that makes the sum of squares of the diagonal of `P W` large. f lies in [-1, 0].

    `f(P) = -sum_i (P W)_ii^2 / ||W||_F^2`, W of shape (n, k)

    f does not change when W is scaled, or when columns of W or rows of P change sign. There is no closed form. The
    bound is minus the share of the first min(n, k) columns in `||W||_F^2`; it is attained if these columns are
    orthogonal to each other. f is minus a convex function, so the solver `solvers.PolarPower` applies.

    Returns:
        A `DiagonalNorm`: an objective that applies to weights, with a bound.

    >>> W = jnp.asarray([[0.0, 2.0], [1.0, 0.0]])
    >>> [abs(float(diagonal_norm()(P, W).round(4))) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [0.0, 1.0]

    Source: Amey et al. 2021: maximum diagonal norm-square.
    """
    return DiagonalNorm()


class DiagonalNorm(Objective[SampleSummary]):
    """The diagonal norm-square of a weight. Make it with `diagonal_norm`, which documents it."""

    applies_to = "weights"
    concave = True

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.sum(jnp.diagonal(matmul(point, W)) ** 2), jnp.sum(W**2))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.sum(W[:, : len(W)] ** 2), jnp.sum(W**2))


def bandedness() -> "Bandedness":
    """Return the objective that brings the energy of `P W` near to its diagonal. f lies in [0, 1].

    `f(P) = sum_ij (x_i - z_j)^2 (P W)_ij^2 / ||W||_F^2`, `x_i = i / (n - 1)`, `z_j = j / (k - 1)`, W of shape (n, k)

    f is the mean squared distance of the energy from the diagonal, and 0 for a diagonal matrix. f does not change when
    W is scaled, or when columns of W or rows of P change sign. It also does not change when both are reversed. There
    is no closed form. The bound, with the columns w_j of W, is `sum_j ||w_j||^2 min_i (x_i - z_j)^2 / ||W||_F^2`. It is
    0 for k = n. It is attained if columns that are nearest to the same row are parallel and all others are orthogonal.
    (The rearrangement inequality, applied to the sums of squares of rows and columns, gives no higher bound for k = n:
    by the theorem of Schur and Horn, some orthogonal P makes these sums equal.)

    Returns:
        A `Bandedness`: an objective that applies to weights, with a bound.

    >>> W = jnp.eye(3)
    >>> [round(float(bandedness()(P, W)), 4) for P in (jnp.eye(3), jnp.eye(3)[::-1])]
    [0.0, 0.6667]

    Source: the formula is ours; it is the locality of the weights of each input, about the input itself.
    """
    return Bandedness()


class Bandedness(Objective[SampleSummary]):
    """The distance of a weight from its diagonal. Make it with `bandedness`, which documents it."""

    applies_to = "weights"

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        return ratio(jnp.sum(_distances(W) * matmul(point, W) ** 2), jnp.sum(W**2))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        W = _scaled(summary)
        return ratio(jnp.sum(jnp.min(_distances(W), axis=0)[None, :] * W**2), jnp.sum(W**2))


def _scaled(summary: SampleSummary) -> Float[Array, "n k"]:
    return kept_samples(summary).normalised().signals


def _distances(W: Float[Array, "n k"]) -> Float[Array, "n k"]:
    x, z = (jnp.arange(size, dtype=W.dtype) / max(size - 1, 1) for size in W.shape)
    return (x[:, None] - z[None, :]) ** 2
