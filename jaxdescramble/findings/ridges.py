"""The ridge of a descrambled first layer: which input frequency each link frequency listens to, and by what law.

The paper sees `input frequency = 0.05 (link frequency)^3` and explains it: dipolar frequencies go as 1 / r^3. The place
of the ridge at a link frequency is taken to be the energy-weighted median input frequency. No peak is picked, for a
peak is picked from noise as willingly as from a ridge: centroids around the peaks give untrained layers a law with
exponent 1.8 to 2.0, while medians give them 0.1, and a random frame 0.0. The median also commutes with the logarithm in
which the law is fitted, and does not move before half the energy lies elsewhere.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import results, transforms
from jaxdescramble.findings.fourier import fold, fourier_energy, matrix, pair, quantile, ratio

# Mean over median of a Gamma(2) variable, which the folded energies of white noise are.
WHITE = 1.1917


class Ridge(NamedTuple):
    """The ridge `input_frequency ~ coefficient * link_frequency ** exponent`, for link frequencies 1 to link // 2.

    `weight` is the amplitude above a white floor at each link frequency, adding up to 1; `exponent_error` a standard
    error; `r2` the weighted share of the variance of log input_frequency that the law explains.
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
    """Median input frequency of every link frequency, and the power law through them.

    `log f(k) = log c + p log k` by least squares with weights `w_k = sqrt(max(E(k) - E_white(k), 0))`: the amplitude
    that stands above a white floor, the latter from the median bin (of Gamma(2) energies, as noise has them). Most link
    frequencies of a trained layer, those of its small singular values, carry white noise, which has its median in the
    middle of the band: they must not count. Weighted by energy itself, the first two or three would be all there is.

    `exponent_error` is the standard error HC3, `sqrt(sum_k (w_k x_k e_k / (1 - h_k))^2) / sum_k w_k x_k^2`, with x =
    log k centred, e residuals and h leverages, nearly a jackknife: these weights are not inverse variances, and few
    link frequencies carry them. It says how far the places follow one law; not what other weights would have made of
    them, which can be as much again. Input frequency zero is left out, so that places begin at half a cycle per record:
    a law that asks for less than one cycle cannot be followed there, which makes fitted exponents small.

    Args:
        weight: descrambled weight, shape (link, input), four points at least on each axis.

    Returns:
        A `Ridge`; for a zero matrix one with exponent 0 and all weights 0.

    Raises:
        TypeError, ValueError: not a finite real matrix, or too small a one.

    >>> t, s = 2 * jnp.pi * jnp.arange(16) / 16, 2 * jnp.pi * jnp.arange(64) / 64
    >>> square = sum(jnp.cos(k * t[:, None] - k**2 * s) for k in (1, 2, 3, 4))
    >>> round(float(ridge(square).exponent), 3), round(float(ridge(square).coefficient), 3)
    (2.0, 1.0)

    Source: Amey et al. 2021, the cube-root rescaling of the first layer; HC3 is MacKinnon and White 1985.
    """
    W = matrix(weight)
    if min(W.shape) < 4:
        raise ValueError(
            f"weight: shape {W.shape} has no ridge to speak of; two frequencies, four points, an axis at least."
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
    # A link frequency that alone decides the fit has leverage one and no residual: it says nothing about the error.
    remainder = jnp.maximum(1 - leverage, jnp.sqrt(jnp.finfo(w.dtype).eps))
    error = ratio(jnp.sqrt(jnp.sum((w * x * residual / remainder) ** 2)), spread)
    r2 = _explained(residual, y, w)
    return Ridge(link, place, w, exponent, error, jnp.exp(intercept), r2)


def _explained(residual: Array, y: Array, w: Array) -> Float[Array, ""]:
    variance = jnp.sum(w * (y - jnp.sum(w * y)) ** 2)
    return jnp.where(variance == 0, 0, 1 - ratio(jnp.sum(w * residual**2), variance))


def ridge_exponent(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Exponent of the ridge's law; 3 is the paper's. Medians choose nothing, so `fit` is only checked.

    Args, errors: as for `ridge`, of the two halves.

    >>> float(ridge_exponent(jnp.zeros((8, 8)), jnp.zeros((8, 8))))
    0.0
    """
    return ridge(pair(fit, read)[1]).exponent


def ridge_exponent_error(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Standard error of `ridge_exponent`.

    Args, errors: as for `ridge`, of the two halves.

    >>> noise = jax.random.normal(jax.random.key(0), (16, 64))
    >>> bool(ridge_exponent_error(noise, noise) > 0)
    True
    """
    return ridge(pair(fit, read)[1]).exponent_error


def ridge_fit_r2(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """How well the law fitted on one half describes the ridge of the other: R^2 of log input frequency.

    `1 - sum_k w_k (log f_k - log c' - p' log k)^2 / sum_k w_k (log f_k - mean)^2` with c', p' from `fit` and w, f from
    `read`: at most 1, and below 0 when the mean would have been the better guess.

    Args, errors: as for `ridge`, of the two halves.

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
    """Weighted Kendall correlation of link frequency and place of the ridge: no law assumed, only an order.

    `sum_{i<j} w_i w_j sign(k_i - k_j) sign(f_i - f_j) / sum_{i<j} w_i w_j`, the chance of a concordant pair less that
    of a discordant one when pairs are drawn by weight. Nothing is chosen, so `fit` is only checked.

    Args, errors: as for `ridge`, of the two halves.

    Returns:
        A number in [-1, 1]; 0 for a zero matrix.

    >>> t, u = 2 * jnp.pi * jnp.arange(16)[:, None] / 16, 2 * jnp.pi * jnp.arange(64)[None, :] / 64
    >>> M = sum(jnp.cos(k * t) * jnp.cos(4 * k * u) for k in range(1, 5))  # link frequency k, input frequency 4 k
    >>> round(float(ridge_monotonicity(M, M)), 3)
    1.0
    """
    there = ridge(pair(fit, read)[1])
    return weighted_kendall(there.link_frequency, there.input_frequency, there.weight)


def distance_map_monotonicity(fit: ArrayLike, read: ArrayLike) -> Float[Array, ""]:
    """Does a second layer send fast link oscillations to short distances? Rank correlation of the two, -1 if it does.

    Weighted Kendall correlation of the output's index with the centroid `sum_k k E(i, k) / sum_k E(i, k)` of row i over
    link frequencies, weighted by the rows' norms. Nothing is chosen, so `fit` is only checked.

    Args:
        fit, read: descrambled second-layer weights `W_2 Q^T` of the two halves, shape (output, link).

    Returns:
        A number in [-1, 1]; 0 for a zero matrix.

    Raises:
        TypeError, ValueError: not finite real matrices of one shape.

    >>> t = 2 * jnp.pi * jnp.arange(16) / 16
    >>> M = jnp.stack([jnp.cos(k * t) for k in (6, 4, 3, 1)])
    >>> round(float(distance_map_monotonicity(M, M)), 3)
    -1.0

    Source: Amey et al. 2021, the time-to-distance map of the second layer.
    """
    _, M = pair(fit, read, "(output, link)")
    energy = fold(transforms.analyse(M, "periodic", 1) ** 2, 1)
    total = jnp.sum(energy, axis=1)
    frequency = jnp.asarray(np.arange(energy.shape[1]), M.dtype)
    centroid = ratio(jnp.sum(energy * frequency[None, :], axis=1), total)
    index = jnp.asarray(np.arange(M.shape[0]), M.dtype)
    return weighted_kendall(index, centroid, ratio(jnp.sqrt(total), jnp.sum(jnp.sqrt(total))))


def weighted_kendall(x: Float[Array, " n"], y: Float[Array, " n"], w: Float[Array, " n"]) -> Float[Array, ""]:
    """Kendall's correlation with pairs counted by the product of their weights; a tie counts as neither order.

    >>> round(float(weighted_kendall(jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([1.0, 3.0, 2.0]), jnp.ones(3))), 4)
    0.3333
    """
    agree = jnp.sign(x[:, None] - x[None, :]) * jnp.sign(y[:, None] - y[None, :])
    both = w[:, None] * w[None, :] * (1 - jnp.eye(len(w), dtype=w.dtype))
    return ratio(jnp.sum(both * agree), jnp.sum(both))
