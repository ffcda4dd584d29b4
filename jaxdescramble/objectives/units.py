"""What objectives of samples share: signals in their own unit, and ratios and corners that are safe to differentiate.

The unit is `s = ||S||_F / sqrt(n m)`, the root mean square of the entries: Y = P S below is in that unit, and so are
every epsilon, the energies `E_s = ||S_s||^2` of the samples (which no orthogonal P changes) and `sum_s E_s = n m`.

Samples may have weights. `summary.weigh(terms)` multiplies the terms of a sum over samples by them, in units of their
mean: then `sum_s w_s E_s = n m`, and every formula stays as it is.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.objectives.weighing import balanced, shares


def ratio(above: Array, below: Array) -> Array:
    """Return `above / below`, and 0 with zero derivatives where `below` is not positive; a NaN stays one.

    >>> ratio(jnp.asarray([1.0, 1.0]), jnp.asarray([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    nothing = below <= 0
    return jnp.where(nothing, 0, above / jnp.where(nothing, 1, below))


def mean(terms: Float[Array, "n m"]) -> Float[Array, ""]:
    """Return the mean of all entries, 0 where there are none."""
    return jnp.sum(terms) / max(terms.size, 1)


def _unit(summary: Samples) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return two numbers whose product is s: the size of the signals, a constant in derivatives, and s in that unit."""
    size = summary.scale()
    # The summary says what its power is: its samples may be a few of many (`descrambling.accumulators`).
    square = summary.normalised().power() / summary.entries
    return size, jnp.sqrt(jnp.where(square > 0, square, 1))


def in_own_unit(summary: Summary) -> Float[Array, "n m"]:
    """Return `S / s`, whose entries have root mean square 1 (or are all zero).

    Raises:
        TypeError: `summary` is not `Samples`.

    >>> [round(float(x), 4) for x in in_own_unit(Samples(jnp.asarray([[6e-30], [8e-30]])))[:, 0]]
    [0.8485, 1.1314]
    """
    samples = kept_samples(summary)
    size, unit = _unit(samples)
    return samples.signals / size / unit


def in_frame(point: Float[Array, "n n"], summary: Summary) -> tuple[Float[Array, "n m"], Float[Array, "1 m"]]:
    """Return Y = P S in its own unit, and the energies of its samples."""
    samples = kept_samples(summary)
    size, unit = _unit(samples)
    energies = jnp.sum((samples.signals / size / unit) ** 2, axis=0, keepdims=True)
    # The small matrix is divided, not the large one: with many samples the passes over them are what costs.
    return matmul(point / size / unit, samples.signals), energies


def kept_samples(summary: Summary) -> Samples:
    """Return the summary if it keeps samples.

    Raises:
        TypeError: it is no summary, or one of another kind.

    >>> kept_samples(Samples(jnp.ones((2, 3)))).size
    2
    """
    if not isinstance(summary, Samples):
        a_summary(summary)
        raise TypeError(
            f"summary: this objective reads samples, and a {type(summary).__name__} keeps none. Make the summary with "
            "objective.summarise(signals), or pass the signals."
        )
    return summary


def heavy(S: Float[Array, "n m"], summary: Samples) -> Float[Array, "n m"]:
    """Return samples times the roots of their weights in units of the mean weight, or S where there are no weights.

    >>> heavy(jnp.ones((1, 4)), Samples(jnp.ones((1, 4)), weights=jnp.asarray([5.0, 0.0, 0.0, 0.0]))).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """
    return S if summary.weights is None else balanced(S, shares(summary.weights))


def softened(square: Array, epsilon: ArrayLike) -> Array:
    """Return `sqrt(x^2 + epsilon^2) - epsilon` of `x^2`: |x| with its corner rounded, at most epsilon below it.

    >>> softened(jnp.asarray([0.0, 9.0]), 4.0).tolist()
    [0.0, 1.0]
    """
    return square / (jnp.sqrt(square + epsilon**2) + epsilon)  # without the cancellation of the formula as written


def nothing_below_zero(summary: Summary) -> Float[Array, ""]:
    """Return 0, the bound of objectives that are known to be at least 0, and no more."""
    a_summary(summary)
    return jnp.zeros((), summary.dtype)
