"""Entropies: small if the energy of a sample is in few neurons, or in few frequencies."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import positive_number
from jaxdescramble._base.products import squared
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import AxesCurvature, SpatialCurvature, axes_curvature, entrywise_curvature
from jaxdescramble.objectives._grids import axes
from jaxdescramble.objectives._relaxations import from_levels
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import in_frame, in_own_unit, nothing_below_zero, ratio


def entropy(epsilon: ArrayLike = 1e-3) -> "Entropy":
    """Return the objective that puts the energy of every sample into few neurons, measured by Shannon entropy.

    `f(P) = sum_s E_s H_s / (log n sum_s E_s)`, `H_s = -sum_i p_is log((p_is + delta) / (1 + delta))`,
    `p_is = y_is^2 / E_s`, `Y = P S`, `delta = epsilon^2 / n`

    Here E_s is the energy of sample s (the sum of its squares), and p_is is the share of neuron i in it. f lies in
    [0, 1]. It is 0 if every sample is in one neuron only (and for n = 1), and 1 if every sample is spread evenly. f
    does not change when S is scaled, when samples are repeated or permuted, or when neurons are permuted or change
    sign. There is no closed form. The bound is 0; it is reached if some P puts every sample into one neuron.
    `Descrambling.tightest_bound` gives a higher bound.

    Use it if you expect few active neurons per sample, in no particular place; `sparsity` is similar. Use `locality` if
    the active neurons should be neighbours.

    Args:
        epsilon: the amplitude below which a neuron counts as silent, in units of the root mean square of the sample. It
            keeps the second derivative at y = 0 finite. It changes f by at most `epsilon^2 (1 + 1/n) / log n`.

    Returns:
        An `Entropy`. It has a bound, a relaxation (the higher bound), and a curvature (the exact diagonal of its
        Hessian in the frame of the neurons, for preconditioners).

    Raises:
        ValueError, TypeError: if `epsilon` is not a positive number.

    >>> [round(float(entropy()(jnp.eye(4), S)), 4) for S in (jnp.ones((4, 1)), jnp.eye(4))]
    [1.0, 0.0]

    Source: Amey et al. 2021 name Shannon entropy among their figures of merit; the entropy of energies is from Coifman
    and Wickerhauser, IEEE Trans. Information Theory 38 (1992).
    """
    return Entropy(positive_number(epsilon, "epsilon"))


class Entropy(Objective[SampleSummary]):
    """Entropy of the energy of each sample over the neurons. Make it with `entropy`, which documents it.

    Attributes:
        epsilon: the amplitude below which a neuron counts as silent.
    """

    epsilon: ArrayLike = 1e-3

    takes_weights = True
    takes_complex = True

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        return jnp.sum(summary.weigh(_surprise(squared(Y), energies, self.epsilon))) / max(Y.size, 1)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: SampleSummary, steps: int) -> Float[Array, ""]:
        return _relaxation(summary, steps, self.epsilon, [1] * summary.size)

    def curvature(self, summary: SampleSummary) -> SpatialCurvature:
        return entrywise_curvature(summary, lambda Y, energies: _surprise(Y**2, energies, self.epsilon))

    def symmetries(self, n: int) -> Symmetries:
        return Symmetries(every_sign=True, every_order=True)


def spectral_entropy(epsilon: ArrayLike = 1e-3) -> "SpectralEntropy":
    """Return the objective that makes every sample a wave of few frequencies along the neurons.

    f is the mean Shannon entropy of the power spectra of the samples. It has the formula of `entropy`, but p is now the
    share of each of the `n // 2 + 1` frequencies of a circle of n neurons in the energy of the sample. f lies in
    [0, 1]. It is 0 for pure waves, and 1 if the power is spread evenly over the frequencies. f does not change when S
    is scaled, when samples are repeated or permuted, or when the circle is shifted or reflected. There is no closed
    form. The bound is 0; it is reached if every sample lies in one of several planes that are orthogonal to each other,
    one plane for each frequency.

    Args:
        epsilon: the amplitude below which a frequency counts as silent, in units of the root mean square of the sample.
            It keeps second derivatives finite.

    Returns:
        A `SpectralEntropy`. It has a bound and a relaxation (a higher bound, computed on request).

    Raises:
        ValueError, TypeError: if `epsilon` is not a positive number.

    >>> wave = jnp.cos(2 * jnp.pi * jnp.arange(8) / 8)[:, None]
    >>> [abs(round(float(spectral_entropy()(jnp.eye(8), S)), 3)) for S in (wave, wave + 1)]
    [0.0, 0.395]

    Source: Powell and Percival, J. Phys. A 12 (1979); Amey et al. 2021 name Shannon entropy.
    """
    return SpectralEntropy(positive_number(epsilon, "epsilon"))


class SpectralEntropy(Objective[SampleSummary]):
    """Entropy of the power spectrum of each sample. Make it with `spectral_entropy`, which documents it.

    Attributes:
        epsilon: the amplitude below which a frequency counts as silent.
    """

    epsilon: ArrayLike = 1e-3

    rugged = True
    takes_weights = True

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        power, energies = _powers(point, summary)
        terms = summary.weigh(_surprise(power, energies, self.epsilon))
        return jnp.sum(terms) / max(len(point) * terms.shape[1], 1)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: SampleSummary, steps: int) -> Float[Array, ""]:
        return _relaxation(summary, steps, self.epsilon, _ranks(summary.size))

    def curvature(self, summary: SampleSummary) -> AxesCurvature:
        """Return a model of the Hessian in the principal directions of the signals, from the mean Hessian of a sample.

        A term `psi(r |z|^2)` of one frequency with the complex amplitude z and the rank r has the second derivatives
        `2 r psi' + 4 r^2 psi'' z z^T` by the two parts of z. Its mean over all phases is `2 r (psi' + r |z|^2 psi'')`.
        """
        S = in_own_unit(summary)
        energies = jnp.sum(S**2, axis=0, keepdims=True)
        ranks = jnp.asarray(_ranks(len(S)), S.dtype)[:, None]

        def bending(point: Array, V: Array) -> Array:
            power, _ = _powers(point, summary)
            gradient = jax.grad(lambda power: jnp.sum(_surprise(power, energies, self.epsilon)))
            first, second = jax.jvp(gradient, (power,), (jnp.ones_like(power),))
            # The amplitude of a frequency of rank 1 is real: it has one phase only.
            h = 2 * ranks * (first + jnp.where(ranks == 1, 2, 1) * power * second)
            moved = jnp.fft.rfft(V, axis=0, norm="ortho")
            bent = jnp.sum(summary.weigh(h), axis=1)[:, None] * (moved.real**2 + moved.imag**2)
            return jnp.sum(bent, axis=0) / max(S.size, 1)

        return axes_curvature(self, summary, bending)

    def symmetries(self, n: int) -> Symmetries:
        return of_grid(*axes(n, None, "periodic", self.name))


def _surprise(power: Float[Array, "k m"], energies: Float[Array, "1 m"], epsilon: ArrayLike) -> Float[Array, "k m"]:
    """Return `-E p log((p + delta) / (1 + delta)) / log k`: concave in p, 0 at p = 0 and p = 1."""
    k = len(power)
    delta = jnp.asarray(epsilon, power.dtype) ** 2 / k
    return -power * jnp.log((ratio(power, energies) + delta) / (1 + delta)) / (math.log(k) if k > 1 else 1)


def _powers(point: Float[Array, "n n"], summary: SampleSummary) -> tuple[Float[Array, "k m"], Float[Array, "1 m"]]:
    """Return the energy of each frequency of `P S`, and of each sample, in the unit of the signals.

    The transform U is taken of P, `U (P S) = (U P) S`: no transform of all samples is needed.
    """
    spectrum, ranks = jnp.fft.rfft(point, axis=0, norm="ortho"), _ranks(len(point))
    twice = slice(1, 1 + ranks.count(2))  # the amplitudes of the other frequencies are real
    parts, energies = in_frame(jnp.concatenate([spectrum.real, spectrum.imag[twice]]), summary)
    squares = parts**2
    power = squares[: len(ranks)].at[twice].add(squares[len(ranks) :])
    return jnp.asarray(ranks, power.dtype)[:, None] * power, energies


def _ranks(n: int) -> list[int]:
    """Return the number of modes at each frequency: two, but one at frequency 0 and, if n is even, at the fastest."""
    return [1 if k == 0 or 2 * k == n else 2 for k in range(n // 2 + 1)]


def _relaxation(summary: SampleSummary, steps: int, epsilon: ArrayLike, ranks: list[int]) -> Float[Array, ""]:
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)
    count = jnp.arange(1, len(ranks) + 1, dtype=S.dtype)[:, None]
    levels = summary.weigh(count * _surprise(energies / count, energies, epsilon))
    return from_levels(S, levels, ranks, steps) / max(S.size, 1)
