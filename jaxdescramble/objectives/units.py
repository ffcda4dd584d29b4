"""Shared parts of objectives of samples: signals in their own unit, and safely differentiable ratios and corners.

The unit of signals S, shape (n, m), is `||S||_F / sqrt(n m)`, the root mean square of the entries. In this room
`Y = P S` is in that unit, and so is every epsilon. In that unit the energy of sample s, `E_s = ||S_s||^2`, is the same
for every orthogonal P, and `sum_s E_s = n m`.

Samples may have weights. `summary.weigh(terms)` multiplies the terms of a sum over samples by the weights w_s, in units
of their mean. Then `sum_s w_s E_s = n m`, and all formulas stay valid.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.products import is_complex, matmul, real_type, squared
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.objectives.weighing import balanced, shares


@fused
def ratio(above: Array, below: Array) -> Array:
    """Return `above / below`, or 0 with zero derivatives where `below` is not positive. A NaN remains a NaN.

    >>> ratio(jnp.asarray([1.0, 1.0]), jnp.asarray([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    nothing = below <= 0
    return jnp.where(nothing, 0, above / jnp.where(nothing, 1, below))


def mean(terms: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Return the mean of all entries, or 0 if there are no entries."""
    return jnp.sum(terms) / max(terms.size, 1)


def _unit(summary: SampleSummary) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return two factors of the unit: the size of the signals, a constant in derivatives, and the unit over it."""
    size = summary.scale()
    # Ask the summary for its power: it may hold only some of the samples (`descrambling.accumulators`).
    square = summary.normalised().power() / summary.entries
    return size, jnp.sqrt(jnp.where(square > 0, square, 1))


def in_own_unit(summary: Summary, complex_too: bool = False) -> Inexact[Array, "n m"]:
    """Return the signals in their own unit: entries with root mean square 1 (or all zero).

    Args:
        summary: summary of the signals.
        complex_too: whether the caller's formula also holds for complex signals.

    Raises:
        TypeError: if `summary` does not keep its samples, or the signals are complex and the caller takes real ones.

    >>> from jaxdescramble.objectives import Samples
    >>> [round(float(x), 4) for x in in_own_unit(Samples(jnp.asarray([[6e-30], [8e-30]])))[:, 0]]
    [0.8485, 1.1314]
    """
    samples = kept_samples(summary)
    if is_complex(samples.signals) and not complex_too:
        raise TypeError(
            f"summary: got complex signals ({samples.signals.dtype}); curvatures, relaxations and quadratic assignment "
            "take real ones. On U(n), use solvers without a preconditioner, and `bound`."
        )
    size, unit = _unit(samples)
    return samples.signals / size / unit


@fused
def in_frame(point: Inexact[Array, "k n"], summary: Summary) -> tuple[Inexact[Array, "k m"], Float[Array, "1 m"]]:
    """Return `Y = P S` in the unit of the signals, and the energies of the samples. P may be any matrix."""
    samples = kept_samples(summary)
    size, unit = _unit(samples)
    energies = jnp.sum(squared(samples.signals / size / unit), axis=0, keepdims=True)
    # Divide the small matrix, not the large one: with many samples, each pass over them takes most of the time. Signals
    # so small that 1 cannot be divided by them count as zero.
    counts = ~(size * unit <= 8 * jnp.finfo(point.dtype).tiny)  # true for NaN
    scaled = jnp.where(counts, point / size / jnp.where(counts, unit, 1), 0)
    return matmul(scaled, samples.signals), jnp.where(counts, energies, 0)


def kept_samples(summary: Summary) -> SampleSummary:
    """Return the summary if it keeps its samples.

    Raises:
        TypeError: if it is not a summary, or is another kind of summary.

    >>> from jaxdescramble.objectives import Samples
    >>> kept_samples(Samples(jnp.ones((2, 3)))).size
    2
    """
    if not isinstance(summary, SampleSummary):
        a_summary(summary)
        raise TypeError(
            f"summary: this objective reads samples, and a {type(summary).__name__} keeps none. Make the summary with "
            "objective.summarise(signals), or pass the signals."
        )
    return summary


def heavy(S: Inexact[Array, "n m"], summary: SampleSummary) -> Inexact[Array, "n m"]:
    """Multiply each sample by the square root of its weight, in units of the mean weight. Without weights, return S.

    >>> from jaxdescramble.objectives import Samples
    >>> heavy(jnp.ones((1, 4)), Samples(jnp.ones((1, 4)), weights=jnp.asarray([5.0, 0.0, 0.0, 0.0]))).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """
    return S if summary.weights is None else balanced(S, shares(summary.weights))


@fused
def softened(square: Array, epsilon: ArrayLike) -> Array:
    """Return |x| with a rounded corner, `sqrt(x^2 + epsilon^2) - epsilon`, from `square = x^2`.

    The result is smaller than |x| by at most epsilon.

    >>> softened(jnp.asarray([0.0, 9.0]), 4.0).tolist()
    [0.0, 1.0]
    """
    return square / (jnp.sqrt(square + epsilon**2) + epsilon)  # this form has no cancellation


def nothing_below_zero(summary: Summary) -> Float[Array, ""]:
    """Return 0, the bound of objectives for which nothing better than 0 is known."""
    a_summary(summary)
    return jnp.zeros((), real_type(summary.dtype))


def tighter(bound: Array | None, other: Array | None) -> Array | None:
    """Return the larger of two bounds. None means a missing bound.

    >>> float(tighter(jnp.asarray(1.0), None)), tighter(None, None)
    (1.0, None)
    """
    if bound is None or other is None:
        return other if bound is None else bound
    return jnp.maximum(bound, other)
