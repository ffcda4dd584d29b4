"""Weights of samples: how much each one counts, and how sums over samples use the weights.

A whole number counts a sample that many times. Weight 0 leaves a sample out, so the sample may contain NaN: it is
replaced by zeros before any arithmetic.
"""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray

from jaxdescramble._base.checks import sample_weights
from jaxdescramble._base.products import real_type
from jaxdescramble._base.programs import fused


@runtime_checkable
class Counted(Protocol):
    """A summary that counts its samples."""

    @property
    def count(self) -> ArrayLike:
        """The number of samples whose weight is not zero."""
        ...

    @property
    def tally(self) -> Array | None:
        """`(sum w, sum w^2)`, or None if samples have no weights."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the signals."""
        ...


@fused
def effective_number(weights: Float[Array, "*batch m"]) -> Float[Array, "*batch"]:
    """Return Kish's effective number of samples, `(sum w)^2 / sum w^2`, or 0 if all weights are zero.

    >>> float(effective_number(jnp.asarray([2.0, 2.0, 0.0])))
    2.0
    """
    # Divide by the largest weight, so that no square overflows or vanishes.
    largest = jnp.max(weights, axis=-1, keepdims=True, initial=0)
    parts = weights / _or_one(largest)
    return jnp.sum(parts, axis=-1) ** 2 / _or_one(jnp.sum(parts**2, axis=-1))


@functools.partial(fused, static_argnames="size")
def drawn(key: PRNGKeyArray, weights: Float[Array, " m"], size: int) -> Int[Array, " size"]:
    """Draw `size` samples with replacement, with probabilities proportional to their weights; return their places.

    A sample of weight zero is never drawn, unless all are zero.

    >>> drawn(jax.random.key(0), jnp.asarray([0.0, 2.0, 0.0]), 4).tolist()
    [1, 1, 1, 1]
    """
    heights = jnp.cumsum(weights / _or_one(jnp.max(weights, initial=0)))
    levels = jax.random.uniform(key, (size,), heights.dtype) * heights[-1]
    found = jnp.clip(jnp.searchsorted(heights, levels, side="right"), 0, len(weights) - 1)
    # Rounding of the sums may lead to a sample of weight zero. Take the nearest place before it with a weight.
    places = jnp.arange(len(weights))
    first = jnp.argmax(weights > 0)
    return jax.lax.cummax(jnp.where(weights > 0, places, first))[found]


@fused
def clear(signals: Inexact[Array, "*b n m"], weights: Float[Array, "*b m"] | None) -> Inexact[Array, "*b n m"]:
    """Replace samples of weight zero, which may contain NaN, by zeros.

    >>> clear(jnp.asarray([[1.0, jnp.nan]]), jnp.asarray([2.0, 0.0])).tolist()
    [[1.0, 0.0]]
    """
    return signals if weights is None else jnp.where((weights > 0)[..., None, :], signals, 0)


@fused
def balanced(signals: Inexact[Array, "*batch n m"], weights: Float[Array, "*batch m"] | None) -> Array:
    """Multiply each sample by the square root of its weight. Quadratic forms of the result are then weighted.

    >>> balanced(jnp.asarray([[1.0, jnp.nan]]), jnp.asarray([4.0, 0.0])).tolist()
    [[2.0, 0.0]]
    """
    if weights is None:
        return signals
    counts = ~(weights <= 0)  # a NaN remains a NaN
    root = jnp.where(counts, jnp.sqrt(jnp.where(counts, weights, 1)), 0)
    return clear(signals, weights) * root[..., None, :]


@fused
def shares(weights: Float[Array, "*batch m"]) -> Float[Array, "*batch m"]:
    """Divide the weights by their mean, so that they sum to the number of samples. If all are zero, return zeros.

    >>> shares(jnp.asarray([3.0, 1.0])).tolist()
    [1.5, 0.5]
    """
    return weights * (weights.shape[-1] / _or_one(jnp.sum(weights, axis=-1, keepdims=True)))


@fused
def tally(weights: Float[Array, " m"]) -> Float[Array, " 2"]:
    """Return `(sum w, sum w^2)`. The effective number of samples needs only these sums, added up over batches.

    >>> tally(jnp.asarray([2.0, 1.0])).tolist()
    [3.0, 5.0]
    """
    return jnp.stack([jnp.sum(weights), jnp.sum(weights**2)])


def valid(weights: ArrayLike | Sequence[ArrayLike] | None, like: Inexact[Array, "n m"]) -> Array | None:
    """Check weights, and return them in the real dtype of the signals. None remains None, and all weights may be zero.

    In traced code, numbers are unknown; there a negative weight becomes NaN.

    Raises:
        TypeError, ValueError: if `checks.sample_weights` rejects the weights.

    >>> jax.jit(valid)(jnp.asarray([1, -1]), jnp.ones((2, 2))).tolist()
    [1.0, nan]
    """
    if weights is None:
        return None
    each = sample_weights(weights, [like.shape[-1:]], real_type(like.dtype), empty=True)
    return jnp.where(each >= 0, each, jnp.nan)


def tallied(summary: Counted) -> Array:
    """Return the tally `(sum w, sum w^2)` of a summary. A sample without a weight has weight 1."""
    count = jnp.asarray(summary.count).astype(jnp.promote_types(real_type(summary.dtype), jnp.float32))
    return jnp.stack([count, count], axis=-1) if summary.tally is None else summary.tally


def counted(summary: Counted) -> ArrayLike:
    """Return Kish's effective number of samples: from the tally if there is one, otherwise the count."""
    if summary.tally is None:
        return summary.count
    total, squares = summary.tally[..., 0], summary.tally[..., 1]
    return total**2 / jnp.where(squares == 0, 1, squares)


def added(summary: Counted, signals: Array, weights: Array | None) -> tuple[ArrayLike, Array | None]:
    """Return the count and the tally of a summary after further samples, with valid weights or None."""
    if weights is None and summary.tally is None:
        return summary.count + signals.shape[1], None
    before = tallied(summary)
    each = jnp.ones(signals.shape[1], before.dtype) if weights is None else weights.astype(before.dtype)
    return summary.count + jnp.sum(each > 0, dtype=jnp.int32), before + tally(each)


def merged(one: Counted, other: Counted) -> tuple[ArrayLike, Array | None]:
    """Return the count and the tally of two merged summaries."""
    plain = one.tally is None and other.tally is None
    return one.count + other.count, None if plain else tallied(one) + tallied(other)


@fused
def finite(array: Array, weights: Array | None) -> Array:
    """Return whether all numbers in an array, and all weights if there are any, are finite."""
    known = jnp.isfinite(array).all()
    return known if weights is None else known & jnp.isfinite(weights).all()


def _or_one(number: Array) -> Array:
    """Return a number to divide by: the given one, or 1 if it is zero. A NaN remains a NaN."""
    return jnp.where(number == 0, 1, number)
