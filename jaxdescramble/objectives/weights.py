"""Figures of merit of a descrambled weight `P W`, for layers whose output should line up with their input.

The S of these objectives is the weight W, shape (out, in), and they say so: `applies_to` is "weights". Its columns are
inputs in their order, so nothing here is unchanged when they are permuted or repeated.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.similar import nuclear_norm
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import kept_samples, ratio


def diagonal_sum() -> "DiagonalSum":
    """The diagonal sum of `P W`, in [-1, 1].

    `f(P) = -tr(P W) / ||W||_*` (nuclear norm)

    Of a rectangular W, n by k, the diagonal has min(n, k) entries and only as many columns of W reach it: the nuclear
    norm is theirs. Unchanged when W is scaled and when columns beyond n change among themselves. The bound is -1,
    attained: the closed form is `exact.diagonal_sum`. f is linear in P, so the polar fixed point arrives in one step.

    Returns:
        An objective that applies to weights, with a bound.

    >>> W = jnp.asarray([[0.0, 2.0], [1.0, 0.0]])
    >>> [abs(float(diagonal_sum()(P, W).round(4))) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [0.0, 1.0]

    Source: Amey et al. 2021, SI (voice network): maximum diagonal sum.
    """
    return DiagonalSum()


class DiagonalSum(Objective[Samples]):
    """The diagonal sum of a weight. Make one by `diagonal_sum`, which says what it is."""

    applies_to = "weights"
    concave = True

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.trace(matmul(point, W)), nuclear_norm(W[:, : len(W)]))

    def bound(self, summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        nuclear = nuclear_norm(W[:, : len(W)])
        return -ratio(nuclear, nuclear)


def diagonal_norm() -> "DiagonalNorm":
    """The diagonal norm-square of `P W`, in [-1, 0].

    `f(P) = -sum_i (P W)_ii^2 / ||W||_F^2`

    Unchanged when W is scaled and when its columns or rows of P change sign. There is no closed form; the bound is
    minus the share of the first min(n, k) columns in `||W||_F^2`, attained where these are orthogonal. Minus f is
    convex, so the polar fixed point applies.

    Returns:
        An objective that applies to weights, with a bound.

    >>> W = jnp.asarray([[0.0, 2.0], [1.0, 0.0]])
    >>> [abs(float(diagonal_norm()(P, W).round(4))) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [0.0, 1.0]

    Source: Amey et al. 2021: maximum diagonal norm-square.
    """
    return DiagonalNorm()


class DiagonalNorm(Objective[Samples]):
    """The diagonal norm-square of a weight. Make one by `diagonal_norm`, which says what it is."""

    applies_to = "weights"
    concave = True

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.sum(jnp.diagonal(matmul(point, W)) ** 2), jnp.sum(W**2))

    def bound(self, summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        return -ratio(jnp.sum(W[:, : len(W)] ** 2), jnp.sum(W**2))


def bandedness() -> "Bandedness":
    """How far from its diagonal the weight of `P W` lies, in [0, 1]: 0 for a diagonal matrix.

    `f(P) = sum_ij (x_i - z_j)^2 (P W)_ij^2 / ||W||_F^2`, `x_i = i / (n - 1)`, `z_j = j / (k - 1)`

    Unchanged when W is scaled, and when its columns or the rows of P change sign or both run backwards. There is no
    closed form. The bound, `sum_j ||w_j||^2 min_i (x_i - z_j)^2 / ||W||_F^2`, is 0 for k = n; it is attained where
    columns nearest to one row are parallel and all others orthogonal. (For k = n, pairing the row sums of squares with
    those of the columns by the rearrangement inequality gives no more: by Schur and Horn's theorem some orthogonal P
    makes them equal.)

    Returns:
        An objective that applies to weights, with a bound.

    >>> W = jnp.eye(3)
    >>> [round(float(bandedness()(P, W)), 4) for P in (jnp.eye(3), jnp.eye(3)[::-1])]
    [0.0, 0.6667]

    Source: the formula is this package's; it is locality of each input's weights about the input itself.
    """
    return Bandedness()


class Bandedness(Objective[Samples]):
    """How far from its diagonal a weight lies. Make one by `bandedness`, which says what it is."""

    applies_to = "weights"

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        return ratio(jnp.sum(_distances(W) * matmul(point, W) ** 2), jnp.sum(W**2))

    def bound(self, summary: Samples) -> Float[Array, ""]:
        W = _scaled(summary)
        return ratio(jnp.sum(jnp.min(_distances(W), axis=0)[None, :] * W**2), jnp.sum(W**2))


def _scaled(summary: Samples) -> Float[Array, "n k"]:
    return kept_samples(summary).normalised().signals


def _distances(W: Float[Array, "n k"]) -> Float[Array, "n k"]:
    x, z = (jnp.arange(size, dtype=W.dtype) / max(size - 1, 1) for size in W.shape)
    return (x[:, None] - z[None, :]) ** 2
