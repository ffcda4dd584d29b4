"""Where the energy of a descrambled matrix lies in frequency: on its link axis, on its input axis, or on both.

The link axis of `P W` is known only up to its gauge: the elements of O(n) that commute with the derivative. They are a
phase and a direction at each frequency, and a sign at frequency zero and at the Nyquist frequency. The energy at each
|link frequency| does not change under this gauge. All readings here use such energies. They therefore describe the
layer, whichever gauge its descrambler has.

Complex weights have a unitary gauge, which mixes the link frequencies +k and -k, so the same energies are free of it.
Their input frequencies have a sign: +f and -f are different waves.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import results, transforms
from jaxdescramble._base.checks import (
    is_finite,
    number_between,
    positive_integer,
    real_or_complex_array,
    true_or_false,
)
from jaxdescramble._base.products import is_complex, real_type, squared


class FourierMap(NamedTuple):
    """A centred 2-D spectrum, for pictures. Frequencies are in cycles per axis, with zero in the middle."""

    link_frequency: Float[Array, " n"]
    input_frequency: Float[Array, " m"]
    magnitude: Float[Array, "n m"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def fourier_map(weight: ArrayLike) -> FourierMap:
    """Return the centred magnitude of the 2-D Fourier transform, for a picture of a descrambled layer.

    `sqrt((|W(k, f)|^2 + |W(-k, f)|^2) / 2)` with the orthonormal transform `W(k, f) = F+ W F-`. The gauge can exchange
    the link frequencies +k and -k. Their root mean square does not change.

    Args:
        weight: the descrambled weight P W, shape (link, input).

    Returns:
        A `FourierMap`. The squares of `magnitude` sum to `||W||_F^2`.

    Raises:
        TypeError, ValueError: if `weight` is not a finite matrix.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> wave = fourier_map(jnp.cos(t[:, None] - 3 * t[None, :]) / 4)
    >>> [round(x, 2) for x in wave.magnitude[4 + 1].tolist()]  # link frequency 1, input frequencies -4 to 3
    [0.0, 0.71, 0.0, 0.0, 0.0, 0.0, 0.0, 0.71]

    Source: Amey et al. 2021, the symmetrised 2-D transform of the first layer; the mean over +k and -k is ours.
    """
    W = matrix(weight)
    n, m = W.shape
    energy = jnp.abs(jnp.fft.fft2(W, norm="ortho")) ** 2
    mirrored = energy[-np.arange(n)]  # row k holds link frequency -k
    magnitude = jnp.fft.fftshift(jnp.sqrt((energy + mirrored) / 2))
    dtype = real_type(W.dtype)
    link, given = (jnp.asarray(np.fft.fftshift(np.fft.fftfreq(size, 1 / size)), dtype) for size in (n, m))
    return FourierMap(link, given, magnitude)


def fourier_energy(weight: ArrayLike) -> Float[Array, "k f"]:
    """Return the energy at each |link frequency| and |input frequency|.

    `E(k, f) = sum over signs of |W(+-k, +-f)|^2`. The sum of E is `||W||_F^2`. In complex weights the waves of input
    frequency +f and -f are different; use `fourier_map` to tell them apart.

    Args:
        weight: the descrambled weight P W, shape (link, input).

    Returns:
        Array of shape (link // 2 + 1, input // 2 + 1); frequencies 0, 1, 2, ... in cycles per axis.

    Raises:
        TypeError, ValueError: if `weight` is not a finite matrix.

    >>> fourier_energy(jnp.ones((4, 4))).round(4).tolist()
    [[16.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    modes = transforms.analyse(transforms.analyse(matrix(weight), "periodic", 0), "periodic", 1)
    return fold(fold(squared(modes), 0), 1)


def band_edge(weight: ArrayLike, fraction: float = 0.95) -> Float[Array, ""]:
    """Return the input frequency below which a given fraction of the energy lies.

    The answer f solves `sum_{k, |g| <= f} E(k, g) = fraction * ||W||_F^2`. The energy of each bin is spread evenly over
    the width of the bin, half a bin on either side. This reading does not depend on P, because the sum runs over all
    link frequencies: `sum_k |(F+ P W F-)(k, f)|^2 = ||(W F-)(:, f)||^2`.

    Args:
        weight: the weight W or the descrambled weight P W, shape (link, input).
        fraction: share of the energy, between 0 and 1.

    Returns:
        A frequency in cycles per record; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `weight` is not a finite matrix; if `fraction` is not between 0 and 1.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> round(float(band_edge(jnp.cos(3 * t)[None, :])), 2)  # the third bin reaches from 2.5 to 3.5
    3.45

    Source: Amey et al. 2021, the band-pass filter of the first layer (edges near 33 of 128).
    """
    fraction = number_between(fraction, "fraction", 0, 1, "a number between 0 and 1, such as 0.95")  # pyright: ignore
    W = matrix(weight)
    edge = quantile(jnp.sum(fourier_energy(W), axis=0), fraction)
    # The first bin has no left half. The last bin has no right half when the length is even.
    return jnp.clip(edge, 0, W.shape[1] / 2)


def notch_depth(weight: ArrayLike, link_zero: bool = False, neighbours: int = 3) -> Float[Array, ""]:
    """Return the energy at input frequency zero divided by the energy at its neighbours; below 1 means a notch.

    `E(f=0) / mean over 0 < |f| <= neighbours of E(f)`, with energies per two-sided bin, summed over link frequencies.
    With `link_zero` the sum includes link frequency 0, and the reading does not depend on P. Without it the sum starts
    at link frequency 1, and the reading depends on P.

    Args:
        weight: the descrambled weight P W, shape (link, input).
        link_zero: whether the sum includes link frequency zero.
        neighbours: number of frequencies to compare with. A short record may have fewer; then all of them are used.

    Returns:
        A ratio: 0 for a zero matrix, infinite when all energy lies at frequency zero, NaN for a single input.

    Raises:
        TypeError, ValueError: if `weight` is not a finite matrix; if `neighbours` is below 1.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> row = 0.5 + sum(jnp.cos(k * t) for k in (1, 2, 3))
    >>> round(float(notch_depth(row[None, :], link_zero=True)), 3)  # amplitudes 1/2 and, on each side, 1/2
    1.0

    Source: Amey et al. 2021, the notch at input frequency zero of the first layer.
    """
    W = matrix(weight)
    neighbours, link_zero = positive_integer(neighbours, "neighbours"), true_or_false(link_zero, "link_zero")
    # In a short record fewer frequencies come in pairs; then all of them are neighbours.
    neighbours = min(neighbours, max((W.shape[1] - 1) // 2, 1))
    if W.shape[1] < 2:
        return jnp.asarray(jnp.nan, real_type(W.dtype))
    energy = jnp.sum(fourier_energy(W)[0 if link_zero else 1 :], axis=0)
    beside = jnp.sum(energy[1 : neighbours + 1]) / (2 * neighbours)
    return jnp.where(energy[0] == 0, 0, energy[0] / jnp.where(energy[0] == 0, 1, beside))


def frequency_concentration(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Measure how much the link frequency says about the input frequency, between 0 and 1.

    `I(k; f) / log min(number of k, number of f)`, where I is the mutual information. The energy is read as a joint
    distribution of k and f. The reading is 0 when all link frequencies have the same spectrum. It is 1 when each link
    frequency has its own input frequency and all carry the same energy. The estimate has a positive bias: pure noise
    gives about 0.23 / log(bins). The input frequencies of complex weights have a sign, so +f and -f are two bins.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (link, input). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.

    Returns:
        A number in [0, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> one_to_one = sum(jnp.cos(k * t[:, None]) * jnp.cos((4 - k) * t) for k in (1, 2, 3))
    >>> bool(frequency_concentration(one_to_one, one_to_one) > 0.6)  # log 3 / log 5
    True
    """
    _, read = pair(fit, read)
    energy = _signed_energy(read) if is_complex(read) else fourier_energy(read)
    joint = ratio(energy, jnp.sum(energy))
    product = jnp.sum(joint, axis=1, keepdims=True) * jnp.sum(joint, axis=0, keepdims=True)
    is_empty = (joint == 0) | (product == 0)  # the product can underflow where `joint` does not
    terms = jnp.where(is_empty, 0, joint * jnp.log(jnp.where(is_empty, 1, joint / jnp.where(is_empty, 1, product))))
    # Rounding can give a slightly negative value for independent frequencies.
    return jnp.maximum(jnp.sum(terms), 0) / np.log(max(min(energy.shape), 2)).astype(energy.dtype)


def _signed_energy(W: Inexact[Array, "n m"]) -> Float[Array, "k m"]:
    """Return the energy at each |link frequency| and signed input frequency."""
    return fold(squared(transforms.analyse(jnp.fft.fft(W, axis=1, norm="ortho"), "periodic", 0)), 0)


def matrix(weight: ArrayLike, name: str = "weight", axes: str = "(link, input)") -> Inexact[Array, "n m"]:
    """Check that an argument is a matrix of finite numbers; a traced matrix may still hold NaN."""
    array = real_or_complex_array(weight, name, (2,), axes)
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity. Call .check() on the descrambling.")
    return array


def real_matrix(weight: ArrayLike, name: str, axes: str, why: str) -> Float[Array, "n m"]:
    """Check that an argument is a matrix of finite real numbers; `why` says why it cannot be complex."""
    array = matrix(weight, name, axes)
    if is_complex(array):
        raise TypeError(
            f"{name}: got complex numbers ({array.dtype}), but this reading takes real weights: {why} Leave it out of "
            "the battery, as tuple(one for one in FIRST_LAYER if 'ridge' not in one.name)."
        )
    return array


def pair(fit: ArrayLike, read: ArrayLike, axes: str = "(link, input)") -> tuple[Array, Array]:
    """Check that both halves are matrices of one shape and kind of numbers."""
    first, second = matrix(fit, "fit", axes), matrix(read, "read", axes)
    if first.shape != second.shape:
        raise ValueError(
            f"fit, read: got shapes {first.shape} and {second.shape}; must be the same shape. Pass one weight that was "
            "descrambled on two halves of the signals."
        )
    if is_complex(first) != is_complex(second):
        raise TypeError(
            f"fit, read: got {first.dtype} and {second.dtype}; both must be real or both complex. Use one group for "
            "both halves."
        )
    return first, second


def fold(modes: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Sum over cosine and sine: n modes in the order of `transforms.analyse` become n // 2 + 1 frequencies."""
    modes = jnp.moveaxis(modes, axis, -1)
    n = modes.shape[-1]
    # The constant has no sine, and for even n the fastest mode has none either. Both are padded with zeros.
    padded = jnp.pad(modes, [(0, 0)] * (modes.ndim - 1) + [(1, (n + 1) % 2)])
    return jnp.moveaxis(jnp.sum(padded.reshape((*modes.shape[:-1], n // 2 + 1, 2)), axis=-1), -1, axis)


def quantile(energy: Float[Array, " bins"], fraction: float) -> Float[Array, ""]:
    """Return the bin at which the running sum reaches a fraction of the total; bin i covers i - 1/2 to i + 1/2."""
    running = jnp.cumsum(energy)
    target = fraction * running[-1]
    index = jnp.clip(jnp.sum(running < target), 0, len(energy) - 1)
    here = energy[index]
    return index - 0.5 + jnp.where(here == 0, 0.5, (target - running[index] + here) / jnp.where(here == 0, 1, here))


def ratio(part: Inexact[Array, "..."], whole: Float[Array, "..."]) -> Inexact[Array, "..."]:
    """Return `part / whole`, or `part` where the whole is zero (then the part is zero too); NaN stays NaN."""
    return part / jnp.where(whole == 0, jnp.ones_like(whole), whole)
