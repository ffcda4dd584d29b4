"""Spread: small if the energy of each sample lies evenly on all neurons. Such signals have no outliers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import number_between, one_of, positive_number
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import SpatialCurvature, entrywise_curvature
from jaxdescramble.objectives._symmetries import Symmetries
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import in_frame, in_own_unit, ratio, softened

MEASURES = ("fourth", "kurtosis", "lp", "whip")


def spread(measure: str = "fourth", *, power: ArrayLike | None = None, epsilon: ArrayLike | None = None) -> "Spread":
    """Return the objective that spreads the energy of each sample evenly over the neurons, without outliers.

    Use it before quantisation: a quantiser has one scale for each sample (a token), so its steps are as wide as the
    largest entry of the sample asks for. For the error of a quantiser itself, use `quantised`. The opposite aim is
    `sparsity`.

    f is the mean over samples of a measure of each sample. Here y are the n entries of a column of `Y = P S`, in units
    of their own root mean square, which no orthogonal P changes; means are over the n entries.

    | measure    | of one sample                                       | range             | normal y | flat abs(y) |
    |------------|-----------------------------------------------------|-------------------|----------|-------------|
    | "fourth"   | `mean(y^4)`                                         | [1, n]            | 3        | 1           |
    | "kurtosis" | `mean((y - mean y)^4) / mean((y - mean y)^2)^2`     | [1, n)            | 3        | 1           |
    | "lp"       | `mean(abs(y)^p)^(1/p)`                              | [1, n^(1/2-1/p)]  | 1.79     | 1           |
    | "whip"     | `mean(exp(epsilon - sqrt(y^2 + epsilon^2)))`        | (0, 1]            | 0.523    | 0.368       |

    "lp" is shown for p = 8. For large p it tends to the largest entry, which sets the step of a symmetric quantiser.
    The bound is the value of flat samples: all entries of a sample have the same absolute value, as after a Hadamard
    matrix if the sample was one-hot. Samples of zeros count as 0. Equal entries count as 1 for "kurtosis".

    No measure changes when S is scaled, when one sample is scaled, or when samples are repeated or permuted. So every
    sample counts alike, whatever its energy is; sample weights change this. With the squared energies as weights,
    "fourth" is `-n` times `sparsity("l4")`. All measures need the samples: no matrix of second moments holds a fourth
    power. There is no closed form.

    Args:
        measure: one of the four in the table. "fourth" is the smoothest. "kurtosis" ignores the mean over the neurons,
            which suits quantisers with a zero point.
        power: p of "lp", more than 2; None means 8. Leave it out for other measures.
        epsilon: how widely the corner of |y| is rounded, for "whip"; None means 1e-3. Leave it out for other measures.

    Returns:
        A `Spread`. It has a bound, and for "fourth" and "whip" a curvature (the exact diagonal of its Hessian in the
        frame of the neurons).

    Raises:
        ValueError, TypeError: if the measure is unknown, a number is out of range, or the measure does not take it.

    >>> outlier, flat = jnp.eye(4)[:, :1], jnp.asarray([[1.0], [-1.0], [1.0], [1.0]])
    >>> [[round(float(spread(m)(jnp.eye(4), S)), 3) for S in (outlier, flat)] for m in ("fourth", "lp", "whip")]
    [[4.0, 1.0], [1.682, 1.0], [0.784, 0.368]]

    Source: Akhondzadeh et al., KurTail, EMNLP Findings 2025, arXiv:2503.01483 (kurtosis); Shao et al., DartQuant,
    NeurIPS 2025, arXiv:2511.04063 (whip); Chmiel et al., NeurIPS 2020, for kurtosis and quantisation.
    """
    one_of(measure, "measure", MEASURES)
    numbers: dict[str, ArrayLike] = {}
    if power is not None:
        if measure != "lp":
            raise ValueError(f"power: measure {measure!r} takes no power; leave it out, or use measure 'lp'.")
        numbers["power"] = number_between(power, "power", 2, math.inf, "a number above 2")
    if epsilon is not None:
        if measure != "whip":
            raise ValueError(f"epsilon: measure {measure!r} has no corner to round; leave epsilon out.")
        numbers["epsilon"] = positive_number(epsilon, "epsilon")
    return Spread(measure, **numbers)


class Spread(Objective[SampleSummary]):
    """How far samples are from lying evenly on all neurons. Make it with `spread`, which documents it.

    Attributes:
        measure: name of the measure.
        power: p of the measure "lp"; others ignore it.
        epsilon: how widely the measure "whip" rounds its corner; others ignore it.
    """

    measure: str = dataclasses.field(default="fourth", metadata={"static": True})
    power: ArrayLike = 8.0
    epsilon: ArrayLike = 1e-3

    takes_weights = True

    def __post_init__(self) -> None:
        one_of(self.measure, "measure", MEASURES)

    @property
    def smoothing(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "epsilon" if self.measure == "whip" else ""

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        if self.measure == "kurtosis":
            each = _kurtosis(Y, energies)
        elif self.measure == "lp":
            each = _norm(Y, energies, jnp.asarray(self.power, Y.dtype))
        else:
            each = jnp.sum(self._terms(Y, energies), axis=0) / len(Y)
        return jnp.sum(summary.weigh(each)) / max(each.size, 1)

    def _terms(self, Y: Array, energies: Array) -> Array:
        """Return the term of each entry, for measures that are means over the entries."""
        squares = ratio(len(Y) * Y**2, energies)
        if self.measure == "fourth":
            return squares**2
        soft = softened(squares, jnp.asarray(self.epsilon, squares.dtype))
        return jnp.where(energies == 0, 0, jnp.exp(-soft))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        """Return the value of flat samples: no measure is below a convex function of the squares of the entries."""
        energies = jnp.sum(in_own_unit(summary) ** 2, axis=0)
        one = jnp.ones((), energies.dtype)
        least = jnp.exp(-softened(one, jnp.asarray(self.epsilon, one.dtype))) if self.measure == "whip" else one
        return least * jnp.sum(summary.weigh((energies > 0) * one)) / max(energies.size, 1)

    def curvature(self, summary: SampleSummary) -> SpatialCurvature | None:
        return entrywise_curvature(summary, self._terms) if self.measure in ("fourth", "whip") else None

    def symmetries(self, n: int) -> Symmetries:
        return Symmetries(every_sign=self.measure != "kurtosis", every_order=True)


def _kurtosis(Y: Float[Array, "n m"], energies: Float[Array, "1 m"]) -> Float[Array, " m"]:
    """Return the kurtosis of each sample over the neurons: 1 if all entries are equal, 0 if they are all zero."""
    centred = Y - jnp.mean(Y, axis=0, keepdims=True)
    variance = jnp.mean(centred**2, axis=0, keepdims=True)
    equal = variance <= 4 * jnp.finfo(Y.dtype).eps ** 2 * energies  # only rounding is left; a NaN is not
    squares = ratio(centred**2, jnp.where(equal, 0, variance))
    return jnp.mean(squares**2, axis=0) + (equal & (energies > 0))[0]


def _norm(Y: Float[Array, "n m"], energies: Float[Array, "1 m"], power: Float[Array, ""]) -> Float[Array, " m"]:
    """Return the mean of `|y|^p` of each sample to the power 1/p, over the root mean square."""
    # In units of the largest entry, no power overflows. The unit drops out, so it is a constant in derivatives.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(Y), axis=0, keepdims=True))
    squares = ratio(Y**2, largest**2)
    counts = ~(squares <= 0)
    powers = jnp.where(counts, jnp.where(counts, squares, 1) ** (power / 2), 0)
    total = jnp.mean(powers, axis=0)
    some = ~(total <= 0)
    size = jnp.where(energies > 0, jnp.sqrt(jnp.where(energies > 0, energies, 1) / len(Y)), energies)
    return ratio(largest, size)[0] * jnp.where(some, jnp.where(some, total, 1) ** (1 / power), 0)
