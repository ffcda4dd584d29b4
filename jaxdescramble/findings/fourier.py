"""Where the energy of a descrambled matrix lies in frequency: on its link axis, on its input axis, on both.

The link axis of `P W` is known up to the elements of O(n) that commute with the derivative: a phase and a direction at
each frequency, a sign at zero and at Nyquist's. Energies folded onto |link frequency| do not see them, so everything
here, and everything built on it, is a property of the layer and not of the gauge its descrambler happened to be
returned in.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import results, transforms
from jaxdescramble._base.checks import is_finite, number_between, positive_integer, real_array, true_or_false


class FourierMap(NamedTuple):
    """A centred 2-D spectrum, for pictures; frequencies in cycles per axis, zero in the middle."""

    link_frequency: Float[Array, " n"]
    input_frequency: Float[Array, " m"]
    magnitude: Float[Array, "n m"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def fourier_map(weight: ArrayLike) -> FourierMap:
    """Centred magnitude of the 2-D Fourier transform, the same for +k and -k on the link axis.

    `sqrt((|W(k, f)|^2 + |W(-k, f)|^2) / 2)` with `W(k, f) = F+ W F-`, orthonormal. The root mean square over the sign
    of k is what the gauge leaves: turning the direction of one link frequency exchanges the two.

    Args:
        weight: descrambled weight, shape (link, input).

    Returns:
        A `FourierMap`; the squares of `magnitude` add up to `||W||_F^2`.

    Raises:
        TypeError, ValueError: not a finite real matrix.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> wave = fourier_map(jnp.cos(t[:, None] - 3 * t[None, :]) / 4)
    >>> [round(x, 2) for x in wave.magnitude[4 + 1].tolist()]  # link frequency 1, input frequencies -4 to 3
    [0.0, 0.71, 0.0, 0.0, 0.0, 0.0, 0.0, 0.71]

    Source: Amey et al. 2021, the symmetrised 2-D transform of the first layer; the symmetrisation over k is ours.
    """
    W = matrix(weight)
    n, m = W.shape
    energy = jnp.abs(jnp.fft.fft2(W, norm="ortho")) ** 2
    mirrored = energy[-np.arange(n)]  # row k of it is link frequency -k
    magnitude = jnp.fft.fftshift(jnp.sqrt((energy + mirrored) / 2))
    link, given = (jnp.asarray(np.fft.fftshift(np.fft.fftfreq(size, 1 / size)), W.dtype) for size in (n, m))
    return FourierMap(link, given, magnitude)


def fourier_energy(weight: ArrayLike) -> Float[Array, "k f"]:
    """Energy at each |link frequency| and |input frequency|.

    `E(k, f) = sum over signs of |W(+-k, +-f)|^2`, which adds up to `||W||_F^2`.

    Args:
        weight: descrambled weight, shape (link, input).

    Returns:
        Shape (link // 2 + 1, input // 2 + 1), frequencies 0, 1, 2, ... in cycles per axis.

    Raises:
        TypeError, ValueError: not a finite real matrix.

    >>> fourier_energy(jnp.ones((4, 4))).round(4).tolist()
    [[16.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    modes = transforms.analyse(transforms.analyse(matrix(weight), "periodic", 0), "periodic", 1)
    return fold(fold(modes**2, 0), 1)


def band_edge(weight: ArrayLike, fraction: float = 0.95) -> Float[Array, ""]:
    """The input frequency below which a given fraction of the energy lies.

    `f` with `sum_{k, |g| <= f} E(k, g) = fraction * ||W||_F^2`, each bin's energy spread evenly over its width (half a
    bin on either side). The sum runs over all link frequencies, `sum_k |(F+ P W F-)(k, f)|^2 = ||(W F-)(:, f)||^2`, so
    this is a property of W: it does not depend on P.

    Args:
        weight: descrambled (or raw) weight, shape (link, input).
        fraction: between 0 and 1.

    Returns:
        A frequency in cycles per record; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: not a finite real matrix, a fraction outside (0, 1).

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> round(float(band_edge(jnp.cos(3 * t)[None, :])), 2)  # the third bin reaches from 2.5 to 3.5
    3.45

    Source: Amey et al. 2021, the band-pass of the first layer (edges near 33 of 128).
    """
    fraction = number_between(fraction, "fraction", 0, 1, "a number between 0 and 1, such as 0.95")  # pyright: ignore
    W = matrix(weight)
    edge = quantile(jnp.sum(fourier_energy(W), axis=0), fraction)
    # The first bin has no left half and, when the length is even, the last has no right half.
    return jnp.clip(edge, 0, W.shape[1] / 2)


def notch_depth(weight: ArrayLike, link_zero: bool = False, neighbours: int = 3) -> Float[Array, ""]:
    """Energy at input frequency zero against its neighbours': below 1 is a notch, above 1 the opposite.

    `E(f=0) / mean over 0 < |f| <= neighbours of E(f)`, energies per two-sided bin, summed over link frequencies: over
    all of them if `link_zero`, and then the number is one of W alone; else over k != 0, and then it depends on P.

    Args:
        weight: descrambled weight, shape (link, input).
        link_zero: count link frequency zero.
        neighbours: how many frequencies to compare with; all there are, if they are fewer.

    Returns:
        A ratio; 0 for a zero matrix, infinite when zero is the only frequency there, NaN for a single input.

    Raises:
        TypeError, ValueError: not a finite real matrix, no neighbours.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> row = 0.5 + sum(jnp.cos(k * t) for k in (1, 2, 3))
    >>> round(float(notch_depth(row[None, :], link_zero=True)), 3)  # amplitudes 1/2 and, on each side, 1/2
    1.0

    Source: Amey et al. 2021, the notch at input frequency zero of the first layer.
    """
    W = matrix(weight)
    neighbours, link_zero = positive_integer(neighbours, "neighbours"), true_or_false(link_zero, "link_zero")
    # A short record has fewer frequencies that come in pairs: all of them are neighbours then.
    neighbours = min(neighbours, max((W.shape[1] - 1) // 2, 1))
    if W.shape[1] < 2:
        return jnp.asarray(jnp.nan, W.dtype)
    energy = jnp.sum(fourier_energy(W)[0 if link_zero else 1 :], axis=0)
    beside = jnp.sum(energy[1 : neighbours + 1]) / (2 * neighbours)
    return jnp.where(energy[0] == 0, 0, energy[0] / jnp.where(energy[0] == 0, 1, beside))


def frequency_concentration(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """How far the link frequency tells the input frequency, as a share of what it could tell.

    `I(k; f) / log min(number of k, number of f)`, the mutual information of the energy seen as a joint distribution: 0
    when every link frequency has the same spectrum, 1 when each has its own input frequency and all carry the same
    energy. Nothing is chosen, so `fit` is only checked. The estimate has a positive bias: pure noise gives about 0.23 /
    log(bins).

    Args:
        fit, read: descrambled weights of the two halves, shape (link, input).

    Returns:
        A number in [0, 1], of `read`; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: not finite real matrices of one shape.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> one_to_one = sum(jnp.cos(k * t[:, None]) * jnp.cos((4 - k) * t) for k in (1, 2, 3))
    >>> bool(frequency_concentration(one_to_one, one_to_one) > 0.6)  # log 3 / log 5
    True
    """
    _, read = pair(fit, read)
    energy = fourier_energy(read)
    joint = ratio(energy, jnp.sum(energy))
    product = jnp.sum(joint, axis=1, keepdims=True) * jnp.sum(joint, axis=0, keepdims=True)
    is_empty = (joint == 0) | (product == 0)  # the product may underflow where the joint probability did not
    terms = jnp.where(is_empty, 0, joint * jnp.log(jnp.where(is_empty, 1, joint / jnp.where(is_empty, 1, product))))
    # Rounding can leave an independent distribution a little below zero.
    return jnp.maximum(jnp.sum(terms), 0) / np.log(max(min(energy.shape), 2)).astype(read.dtype)


def matrix(weight: ArrayLike, name: str = "weight", axes: str = "(link, input)") -> Float[Array, "n m"]:
    """The argument as a matrix of finite real numbers (finiteness cannot be known of a traced one)."""
    array = real_array(weight, name, (2,), axes)
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity; was the descrambling solved? (its .check() says)")
    return array


def pair(fit: ArrayLike, read: ArrayLike, axes: str = "(link, input)") -> tuple[Array, Array]:
    """Both halves as matrices of one shape."""
    first, second = matrix(fit, "fit", axes), matrix(read, "read", axes)
    if first.shape != second.shape:
        raise ValueError(
            f"fit, read: got shapes {first.shape} and {second.shape}; they are one weight descrambled on two halves of "
            "the signals and must have the same shape."
        )
    return first, second


def fold(modes: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Sums over cosine and sine: n modes in the order of `transforms.analyse` become n // 2 + 1 frequencies."""
    modes = jnp.moveaxis(modes, axis, -1)
    n = modes.shape[-1]
    # A sine of the constant and, for even n, of the fastest mode: neither exists, both would be zero.
    padded = jnp.pad(modes, [(0, 0)] * (modes.ndim - 1) + [(1, (n + 1) % 2)])
    return jnp.moveaxis(jnp.sum(padded.reshape((*modes.shape[:-1], n // 2 + 1, 2)), axis=-1), -1, axis)


def quantile(energy: Float[Array, " bins"], fraction: float) -> Float[Array, ""]:
    """Where the running sum reaches a fraction of the whole, in bins, each spread evenly from i - 1/2 to i + 1/2."""
    running = jnp.cumsum(energy)
    target = fraction * running[-1]
    index = jnp.clip(jnp.sum(running < target), 0, len(energy) - 1)
    here = energy[index]
    return index - 0.5 + jnp.where(here == 0, 0.5, (target - running[index] + here) / jnp.where(here == 0, 1, here))


def ratio(part: Float[Array, "..."], whole: Float[Array, "..."]) -> Float[Array, "..."]:
    """`part / whole`, and `part` (zero, being a part) where the whole is zero; a NaN stays one."""
    return part / jnp.where(whole == 0, jnp.ones_like(whole), whole)
