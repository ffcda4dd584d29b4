"""The ridge of a descrambled first layer: which input frequency each link frequency selects, and by which law.

The paper sees `input frequency = 0.05 (link frequency)^3` and explains it: dipolar frequencies scale as 1 / r^3. Here
the place of the ridge at a link frequency is the energy-weighted median of the input frequency. We do not pick peaks,
because a peak picker finds peaks in noise as easily as in a ridge: with centroids around the peaks, untrained layers
show a law with exponent 1.8 to 2.0; with medians they show 0.1, and a random frame shows 0.0. The median also commutes
with the logarithm of the fit, and it stays in place until half of the energy lies elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import results, transforms
from jaxdescramble._base.products import squared
from jaxdescramble.findings.fourier import fold, fourier_energy, pair, quantile, ratio, real_matrix

# Mean over median of a Gamma(2) variable. The folded energies of white noise follow this distribution.
WHITE = 1.1917


class Ridge(NamedTuple):
    """The ridge `input_frequency ~ coefficient * link_frequency ** exponent`, for link frequencies 1 to link // 2.

    Attributes:
        link_frequency: 1 to link // 2, in cycles per axis.
        input_frequency: place of the ridge at each link frequency, in cycles per axis.
        weight: amplitude above a white floor at each link frequency; the weights sum to 1.
        exponent: exponent of the fitted law.
        exponent_error: standard error of the exponent.
        coefficient: coefficient of the fitted law.
        r2: weighted share of the variance of log input_frequency that the law explains.
    """

    link_frequency: Float[Array, " k"]
    input_frequency: Float[Array, " k"]
    weight: Float[Array, " k"]
    exponent: Float[Array, ""]
    exponent_error: Float[Array, ""]
    coefficient: Float[Array, ""]
    r2: Float[Array, ""]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def ridge(weight: ArrayLike) -> Ridge:
    """Find the median input frequency of every link frequency, and fit a power law to these places.

    `log f(k) = log c + p log k`, fitted by least squares with the weights `w_k = sqrt(max(E(k) - E_white(k), 0))`: the
    amplitude above a white floor. The floor comes from the median bin, on the assumption of Gamma(2) energies, which
    noise has. Most link frequencies of a trained layer belong to small singular values and carry white noise. Noise has
    its median in the middle of the band, so these frequencies must not count. Weights equal to the energy would keep
    only the first two or three link frequencies.

    `exponent_error` is the standard error HC3, `sqrt(sum_k (w_k x_k e_k / (1 - h_k))^2) / sum_k w_k x_k^2`, with x =
    log k centred, residuals e and leverages h. It is close to a jackknife. HC3 suits this fit because the weights are
    not inverse variances and few link frequencies carry them. The error says how well the places follow one law. Other
    weights would change the exponent too, by a similar amount; the error does not include this.

    Input frequency zero is excluded, so the smallest possible place is half a cycle per record. No place can follow a
    law below one cycle, which makes fitted exponents too small.

    Args:
        weight: the descrambled weight P W, shape (link, input), with at least four points on each axis.

    Returns:
        A `Ridge`. A zero matrix gives exponent 0 and all weights 0.

    Raises:
        TypeError, ValueError: if `weight` is not a finite real matrix (see `fourier_map` for complex ones), or has
            fewer than four points on an axis.

    >>> t, s = 2 * jnp.pi * jnp.arange(16) / 16, 2 * jnp.pi * jnp.arange(64) / 64
    >>> square = sum(jnp.cos(k * t[:, None] - k**2 * s) for k in (1, 2, 3, 4))
    >>> round(float(ridge(square).exponent), 3), round(float(ridge(square).coefficient), 3)
    (2.0, 1.0)

    Source: Amey et al. 2021, the cube-root rescaling of the first layer; HC3 is MacKinnon and White 1985.
    """
    why = "in complex ones an input frequency has a sign, which a power law cannot have. Look at fourier_map."
    W = real_matrix(weight, "weight", "(link, input)", why)
    if min(W.shape) < 4:
        raise ValueError(
            f"weight: got shape {W.shape}, which is too small: a ridge needs at least 4 points on each axis."
        )
    energy = fourier_energy(W)[1:, 1:]
    return _law(energy, jnp.asarray(np.arange(1, energy.shape[0] + 1), W.dtype))


def _law(energy: Float[Array, "k f"], link: Float[Array, " k"]) -> Ridge:
    place = 1 + jax.vmap(lambda row: quantile(row, 0.5))(energy)
    white = WHITE * energy.shape[1] * jnp.median(energy, axis=1)
    amplitude = jnp.sqrt(jnp.maximum(jnp.sum(energy, axis=1) - white, 0))
    w = ratio(amplitude, jnp.sum(amplitude))
    x, y = jnp.log(link), jnp.log(place)
    x = x - jnp.sum(w * x)
    mean = jnp.sum(w * y)
    spread = jnp.sum(w * x**2)
    exponent = ratio(jnp.sum(w * x * y), spread)
    intercept = mean - exponent * jnp.sum(w * jnp.log(link))
    residual = y - intercept - exponent * jnp.log(link)
    leverage = w + ratio(w * x**2, spread)
    # A link frequency that decides the fit alone has leverage 1 and residual 0. It adds nothing to the error.
    remainder = jnp.maximum(1 - leverage, jnp.sqrt(jnp.finfo(w.dtype).eps))
    error = ratio(jnp.sqrt(jnp.sum((w * x * residual / remainder) ** 2)), spread)
    r2 = _explained(residual, y, w)
    return Ridge(link, place, w, exponent, error, jnp.exp(intercept), r2)


def _explained(residual: Array, y: Array, w: Array) -> Float[Array, ""]:
    variance = jnp.sum(w * (y - jnp.sum(w * y)) ** 2)
    return jnp.where(variance == 0, 0, 1 - ratio(jnp.sum(w * residual**2), variance))


def ridge_exponent(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Return the exponent of the law of the ridge. The paper finds 3.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (link, input). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite real matrices of one shape, at least 4 by 4.

    >>> float(ridge_exponent(jnp.zeros((8, 8)), jnp.zeros((8, 8))))
    0.0
    """
    return ridge(pair(fit, read)[1]).exponent


def ridge_exponent_error(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Return the standard error of `ridge_exponent`.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (link, input). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite real matrices of one shape, at least 4 by 4.

    >>> noise = jax.random.normal(jax.random.key(0), (16, 64))
    >>> bool(ridge_exponent_error(noise, noise) > 0)
    True
    """
    return ridge(pair(fit, read)[1]).exponent_error


def ridge_fit_r2(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Measure how well the law fitted on one half describes the ridge of the other half: R^2 of log input frequency.

    `1 - sum_k w_k (log f_k - log c' - p' log k)^2 / sum_k w_k (log f_k - mean)^2`, with c', p' from `fit` and w, f from
    `read`. The value is at most 1. It is below 0 when the mean describes the ridge better than the law.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (link, input).

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite real matrices of one shape, at least 4 by 4.

    >>> t, s = 2 * jnp.pi * jnp.arange(16) / 16, 2 * jnp.pi * jnp.arange(64) / 64
    >>> linear = sum(jnp.cos(k * t[:, None] - 2 * k * s) for k in (1, 2, 3, 4))
    >>> round(float(ridge_fit_r2(linear, linear)), 3)
    1.0
    """
    fit, read = pair(fit, read)
    law, there = ridge(fit), ridge(read)
    y = jnp.log(there.input_frequency)
    residual = y - jnp.log(law.coefficient) - law.exponent * jnp.log(there.link_frequency)
    return _explained(residual, y, there.weight)


def ridge_monotonicity(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Return the weighted Kendall correlation of the link frequency and the place of the ridge.

    Use it when you expect an order but no particular law.

    `sum_{i<j} w_i w_j sign(k_i - k_j) sign(f_i - f_j) / sum_{i<j} w_i w_j`: the probability of a concordant pair minus
    that of a discordant pair, when pairs are drawn by weight.

    Args:
        fit, read: the weight, descrambled on the two halves of the signals, shape (link, input). The value is that of
            `read`; `fit` is only checked, because nothing is chosen here.

    Returns:
        A number in [-1, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite real matrices of one shape, at least 4 by 4.

    >>> t, u = 2 * jnp.pi * jnp.arange(16)[:, None] / 16, 2 * jnp.pi * jnp.arange(64)[None, :] / 64
    >>> M = sum(jnp.cos(k * t) * jnp.cos(4 * k * u) for k in range(1, 5))  # link frequency k, input frequency 4 k
    >>> round(float(ridge_monotonicity(M, M)), 3)
    1.0
    """
    there = ridge(pair(fit, read)[1])
    return weighted_kendall(there.link_frequency, there.input_frequency, there.weight)


def distance_map_monotonicity(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Measure whether a second layer sends fast link oscillations to short distances; -1 if it does.

    The value is the weighted Kendall correlation of the output index i with the centroid of row i over link
    frequencies, `sum_k k E(i, k) / sum_k E(i, k)`. The weights are the norms of the rows.

    Args:
        fit, read: the second-layer weight `W_2 Q^T`, descrambled on the two halves of the signals, shape (output,
            link). The value is that of `read`; `fit` is only checked, because nothing is chosen here.

    Returns:
        A number in [-1, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: if `fit` and `read` are not finite matrices of one shape.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> M = jnp.stack([jnp.cos(k * t) for k in (6, 4, 3, 1)])
    >>> round(float(distance_map_monotonicity(M, M)), 3)
    -1.0

    Source: Amey et al. 2021, the time-to-distance map of the second layer.
    """
    _, M = pair(fit, read, "(output, link)")
    energy = fold(squared(transforms.analyse(M, "periodic", 1)), 1)
    total = jnp.sum(energy, axis=1)
    frequency = jnp.asarray(np.arange(energy.shape[1]), energy.dtype)
    centroid = ratio(jnp.sum(energy * frequency[None, :], axis=1), total)
    index = jnp.asarray(np.arange(M.shape[0]), energy.dtype)
    return weighted_kendall(index, centroid, ratio(jnp.sqrt(total), jnp.sum(jnp.sqrt(total))))


def weighted_kendall(x: Float[Array, " n"], y: Float[Array, " n"], w: Float[Array, " n"]) -> Float[Array, ""]:
    """Return Kendall's correlation, each pair weighted by the product of its weights; a tie counts as zero.

    >>> round(float(weighted_kendall(jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([1.0, 3.0, 2.0]), jnp.ones(3))), 4)
    0.3333
    """
    agree = jnp.sign(x[:, None] - x[None, :]) * jnp.sign(y[:, None] - y[None, :])
    both = w[:, None] * w[None, :] * (1 - jnp.eye(len(w), dtype=w.dtype))
    return ratio(jnp.sum(both * agree), jnp.sum(both))
