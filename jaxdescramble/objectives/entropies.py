"""Entropies: samples whose energy is in few neurons, or in few frequencies."""

import math

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import positive_number
from jaxdescramble.objectives._curvatures import SpatialCurvature, entrywise_curvature
from jaxdescramble.objectives._grids import axes
from jaxdescramble.objectives._relaxations import from_levels
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import in_frame, in_own_unit, nothing_below_zero, ratio


def entropy(epsilon: ArrayLike = 1e-3) -> "Entropy":
    """Shannon entropy of how a sample's energy is spread over the neurons, in [0, 1].

    `f(P) = sum_s E_s H_s / (log n sum_s E_s)`, `H_s = -sum_i p_is log((p_is + delta) / (1 + delta))`,
    `p_is = y_is^2 / E_s`, `Y = P S`, `delta = epsilon^2 / n`

    0 for samples of one neuron each (and for n = 1), 1 for energy spread evenly; unchanged when S is scaled, when
    samples are repeated or permuted, and when neurons are permuted or change sign. There is no closed form; the bound
    is 0, reached where samples can be made one-hot together, and `Descrambling.tightest_bound` knows a higher one.

    Args:
        epsilon: the amplitude, in units of a sample's root mean square, below which a neuron counts as silent: the
            floor that keeps the second derivative at y = 0 finite. f differs from its limit, epsilon to 0, by at most
            `epsilon^2 (1 + 1/n) / log n`.

    Returns:
        An objective with the exact diagonal of its Hessian in the neurons' frame as curvature, a bound and a
        relaxation.

    Raises:
        ValueError, TypeError: epsilon is not a positive number.

    >>> [round(float(entropy()(jnp.eye(4), S)), 4) for S in (jnp.ones((4, 1)), jnp.eye(4))]
    [1.0, 0.0]

    Source: Shannon entropy is among the figures of merit that Amey et al. 2021 name; of energies, it is that of Coifman
    and Wickerhauser, IEEE Trans. Information Theory 38 (1992).
    """
    return Entropy(positive_number(epsilon, "epsilon"))


class Entropy(Objective[Samples]):
    """Entropy of how a sample's energy is spread over the neurons. Make one by `entropy`, which says what it is.

    Attributes:
        epsilon: the amplitude below which a neuron counts as silent.
    """

    epsilon: ArrayLike = 1e-3

    smoothing = "epsilon"
    takes_weights = True

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        return jnp.sum(summary.weigh(_surprise(Y**2, energies, self.epsilon))) / max(Y.size, 1)

    def bound(self, summary: Samples) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: Samples, steps: int) -> Float[Array, ""]:
        return _relaxation(summary, steps, self.epsilon, [1] * summary.size)

    def curvature(self, summary: Samples) -> SpatialCurvature:
        return entrywise_curvature(summary, lambda Y, energies: _surprise(Y**2, energies, self.epsilon))

    def symmetries(self, n: int) -> Symmetries:
        return Symmetries(every_sign=True, every_order=True)


def spectral_entropy(epsilon: ArrayLike = 1e-3) -> "SpectralEntropy":
    """Shannon entropy of each sample's power spectrum along the neurons, in [0, 1]: 0 for samples of one frequency.

    As `entropy`, with p the power at each of the `n // 2 + 1` frequencies of a circle of n neurons, over E_s: 0 for
    pure waves, 1 for power spread evenly over the frequencies. Unchanged when S is scaled, when samples are repeated or
    permuted, and when the circle is turned or reflected. There is no closed form; the bound is 0, reached where samples
    fall into planes orthogonal to each other, one for each frequency.

    Args:
        epsilon: as in `entropy`, of the amplitudes of frequencies.

    Returns:
        An objective with a bound and a relaxation.

    Raises:
        ValueError, TypeError: epsilon is not a positive number.

    >>> wave = jnp.cos(2 * jnp.pi * jnp.arange(8) / 8)[:, None]
    >>> [abs(round(float(spectral_entropy()(jnp.eye(8), S)), 3)) for S in (wave, wave + 1)]
    [0.0, 0.395]

    Source: Powell and Percival, J. Phys. A 12 (1979); Shannon entropy is named by Amey et al. 2021.
    """
    return SpectralEntropy(positive_number(epsilon, "epsilon"))


class SpectralEntropy(Objective[Samples]):
    """Entropy of each sample's power spectrum. Make one by `spectral_entropy`, which says what it is.

    Attributes:
        epsilon: the amplitude below which a frequency counts as silent.
    """

    epsilon: ArrayLike = 1e-3

    smoothing = "epsilon"
    takes_weights = True

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        spectrum = jnp.fft.rfft(Y, axis=0, norm="ortho")
        power = jnp.asarray(_ranks(len(Y)), Y.dtype)[:, None] * (spectrum.real**2 + spectrum.imag**2)
        return jnp.sum(summary.weigh(_surprise(power, energies, self.epsilon))) / max(Y.size, 1)

    def bound(self, summary: Samples) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: Samples, steps: int) -> Float[Array, ""]:
        return _relaxation(summary, steps, self.epsilon, _ranks(summary.size))

    def symmetries(self, n: int) -> Symmetries:
        return of_grid(*axes(n, None, "periodic", self.name))


def _surprise(power: Float[Array, "k m"], energies: Float[Array, "1 m"], epsilon: ArrayLike) -> Float[Array, "k m"]:
    """Return `-E p log((p + delta) / (1 + delta)) / log k`: concave in p, 0 at p = 0 and p = 1."""
    k = len(power)
    delta = jnp.asarray(epsilon, power.dtype) ** 2 / k
    return -power * jnp.log((ratio(power, energies) + delta) / (1 + delta)) / (math.log(k) if k > 1 else 1)


def _ranks(n: int) -> list[int]:
    """Return how often real signals have each frequency: twice, but for the constant and, of an even n, the fastest."""
    return [1 if k == 0 or 2 * k == n else 2 for k in range(n // 2 + 1)]


def _relaxation(summary: Samples, steps: int, epsilon: ArrayLike, ranks: list[int]) -> Float[Array, ""]:
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)
    count = jnp.arange(1, len(ranks) + 1, dtype=S.dtype)[:, None]
    levels = summary.weigh(count * _surprise(energies / count, energies, epsilon))
    return from_levels(S, levels, ranks, steps) / max(S.size, 1)
