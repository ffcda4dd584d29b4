"""Simulated magnetic resonance relaxometry: biexponential decays in noise, with smoothing and estimation.

A tissue with two pools of water relaxes as the sum of two exponentials. Finding the two time constants from a noisy
decay is an ill-posed problem: different pairs make nearly the same curve. Signals are (features, samples).
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base import results
from jaxdescramble._base.checks import (
    floating_type,
    instance_of,
    number_between,
    positive_integer,
    positive_number,
    random_key,
    range_within,
    real_array,
    same_size,
)
from jaxdescramble._base.products import matmul

# Among all multiples of the noise variance, this penalty of `smooth` comes nearest to the clean decays. At SNR 1, 900
# and 10^4 the distance is 0.139, 0.232 and 0.253 noise standard deviations; a tenth of the penalty gives 0.162, 0.249
# and 0.269, and ten times the penalty 0.274, 0.279 and 0.293. The best possible linear filter (Wiener's, which must
# know the covariance of the signals) gives 0.134, 0.230 and 0.251, and the best penalty on second differences 0.200,
# 0.382 and 0.471.
PENALTY = 100.0
ATOMS = 64


@dataclass(frozen=True)
class RelaxometryPriors:
    """The experiment and the range of its time constants; the defaults are those of the source.

    `T1 <= T2` are two draws from the uniform distribution on `constants`, in ascending order. The range covers water
    between myelin sheaths in white and grey matter (50 to 120 ms) and freer water. Myelin water itself (10 to 40 ms)
    would decay within three of the 12.7 ms steps.

    Args:
        points: number of times.
        t_max: last time, in milliseconds; the first time is 0.
        fraction: c1, the share of the component with T1.
        constants: range of the time constants, in milliseconds.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if there are fewer than two points, `t_max` is not positive, or a share or range is impossible.

    Source: Rozowski et al., Magn. Reson. Chem. 60, 1076 (2022), whose networks Sule, Spencer and Czaja, ACHA 79, 101793
    (2025), explain; range and times are those of the code of the latter.
    """

    points: int = 64
    t_max: float = 800.0
    fraction: float = 0.6
    constants: tuple[float, float] = (50.0, 500.0)

    def __post_init__(self):
        # Store Python's own numbers, because priors are hashed.
        object.__setattr__(self, "points", positive_integer(self.points, "points", least=2))
        object.__setattr__(self, "t_max", float(positive_number(self.t_max, "t_max")))
        share = number_between(self.fraction, "fraction", 0, 1, "a share between 0 and 1", ends=True)
        object.__setattr__(self, "fraction", float(share))
        low, high = range_within(self.constants, "constants")
        object.__setattr__(self, "constants", (low, high))
        if not 0 < low < high:
            raise ValueError(f"constants: got {self.constants}; must be (low, high) with 0 < low < high.")

    @property
    def time(self) -> np.ndarray:
        """Times in milliseconds, shape (points,), float64."""
        return np.linspace(0.0, self.t_max, self.points)


class RelaxometryBatch(NamedTuple):
    """Simulated decays as columns: `decay = clean + noise`."""

    decay: Float[Array, "points samples"]
    clean: Float[Array, "points samples"]
    constants: Float[Array, "2 samples"]  # T1 <= T2, milliseconds

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def biexponential(
    constants: Float[Array, "2 samples"], priors: RelaxometryPriors | None = None
) -> Float[Array, "points samples"]:
    """Return decays without noise: `c1 e^(-t/T1) + (1 - c1) e^(-t/T2)`.

    Args:
        constants: T1 and T2 in milliseconds, shape (2, samples); the result has their dtype.
        priors: times and c1; None means `RelaxometryPriors()`.

    Raises:
        TypeError: if the constants are not made of real numbers, or `priors` is not `RelaxometryPriors`.
        ValueError: if the constants do not have two rows.

    >>> biexponential(jnp.asarray([[100.0], [400.0]])).shape
    (64, 1)
    """
    priors, constants = _priors(priors), real_array(constants, "constants", (2,), "(2, samples)", half=True)
    same_size(constants, 0, 2, "constants", "the two rows T1 and T2")
    time = jnp.asarray(priors.time, constants.dtype)[:, None]
    first, second = (jnp.exp(-time / constant[None, :]) for constant in constants)
    return priors.fraction * first + (1 - priors.fraction) * second


@functools.partial(jax.jit, static_argnames=("count", "priors", "dtype"))
def _sample(key, count, snr, priors, dtype) -> RelaxometryBatch:
    for_constants, for_noise = jax.random.split(key)
    constants = jnp.sort(jax.random.uniform(for_constants, (2, count), dtype, *priors.constants), axis=0)
    clean = biexponential(constants, priors)
    noise = jax.random.normal(for_noise, (priors.points, count), dtype)
    return RelaxometryBatch(clean + noise / jnp.sqrt(snr).astype(dtype), clean, constants)


def sample(
    key: PRNGKeyArray,
    count: int,
    snr: ArrayLike,
    priors: RelaxometryPriors | None = None,
    dtype: DTypeLike = float,
) -> RelaxometryBatch:
    """Draw random decays in white noise of standard deviation `1 / sqrt(snr)`; clean decays start at 1.

    Args:
        key: random key; the same key gives the same decays at every SNR, and the same noise up to its size.
        count: number of samples.
        snr: signal-to-noise ratio in energy: 1, 900 and 10^4 in the source. It may be traced.
        priors: times and ranges; None means `RelaxometryPriors()`.
        dtype: floating type of the results.

    Returns:
        A `RelaxometryBatch`.

    Raises:
        TypeError: if `key` is not a key, or another argument has the wrong type.
        ValueError: if `count` or `snr` is not positive.

    >>> batch = sample(jax.random.key(0), 1000, 900)
    >>> batch.decay.shape, round(float(jnp.std(batch.decay - batch.clean)), 3)
    ((64, 1000), 0.033)

    Source: Rozowski et al., Magn. Reson. Chem. 60, 1076 (2022); Sule, Spencer, Czaja, ACHA 79, 101793 (2025).
    """
    count, snr = positive_integer(count, "count"), jnp.asarray(positive_number(snr, "snr"))
    return _sample(random_key(key), count, snr, _priors(priors), floating_type(dtype, half=True).name)


def smooth(decay: ArrayLike, snr: ArrayLike, priors: RelaxometryPriors | None = None) -> Float[Array, "points samples"]:
    """Smooth decays by Tikhonov regularisation, a linear map: a sum of exponentials with a penalty on its weights.

    `K argmin_a ||K a - y||^2 + lambda ||a||^2 = K (K^T K + lambda)^-1 K^T y` with `lambda = 100 / snr`. The 64 columns
    of K are exponentials; their time constants are evenly spaced in logarithm over the range of the priors.

    Args:
        decay: decays y, shape (points, samples).
        snr: signal-to-noise ratio in energy, which sets the penalty. It may be traced.
        priors: times and ranges; None means `RelaxometryPriors()`.

    Returns:
        Smoothed decays of the same shape and dtype.

    Raises:
        TypeError: if the decays are not made of real numbers.
        ValueError: if the number of points is not that of the priors, or `snr` is not positive.

    >>> batch = sample(jax.random.key(0), 1000, 900)
    >>> left = jnp.std(smooth(batch.decay, 900) - batch.clean) / jnp.std(batch.decay - batch.clean)
    >>> round(float(left), 2)
    0.23
    """
    priors = _priors(priors)
    decay = _decays(decay, priors)
    left, squares = _dictionary(priors)
    strength = PENALTY / jnp.asarray(positive_number(snr, "snr"), decay.dtype)
    basis, squares = jnp.asarray(left, decay.dtype), jnp.asarray(squares, decay.dtype)
    kept = squares / (squares + strength)
    return matmul(basis, kept[:, None] * matmul(basis.T, decay))


def fit(
    decay: ArrayLike, priors: RelaxometryPriors | None = None, strength: float = 1.6e-4
) -> tuple[Float[Array, "points samples"], Float[Array, "2 samples"]]:
    """Smooth decays as the source does: return the one biexponential that fits best. This map is not linear.

    `G(p)` at `argmin_p ||G(p) - y||^2 + strength^2 ||p||^2`, p = (T1, T2): the minimum over all `T1 <= T2` on a grid of
    46 constants. The search is exhaustive, so it needs no start and finds no false minimum.

    Args:
        decay: decays y, shape (points, samples).
        priors: times and ranges; None means `RelaxometryPriors()`.
        strength: strength of the penalty, in 1/ms; the default is that of the source.

    Returns:
        The fitted decays, shape (points, samples), and their constants in milliseconds, shape (2, samples).

    Raises:
        TypeError: if the decays are not made of real numbers.
        ValueError: if the number of points is not that of the priors, or `strength` is negative.

    >>> batch = sample(jax.random.key(0), 1000, 900)
    >>> left = jnp.std(fit(batch.decay)[0] - batch.clean) / jnp.std(batch.decay - batch.clean)
    >>> round(float(left), 2)
    0.17

    Source: Rozowski et al., Magn. Reson. Chem. 60, 1076 (2022), input-layer regularisation.
    """
    priors = _priors(priors)
    decay = _decays(decay, priors)
    strength = number_between(strength, "strength", 0, np.inf, "a number of at least 0", ends=True)
    constants, curves = (jnp.asarray(part, decay.dtype) for part in _grid(priors))
    # ||y||^2 is the same for all pairs, so leave it out.
    itself = jnp.sum(curves**2, axis=0) + jnp.asarray(strength, decay.dtype) ** 2 * jnp.sum(constants**2, axis=0)
    best = jnp.argmin(itself[:, None] - 2 * matmul(curves.T, decay), axis=0)
    known = jnp.isfinite(decay).all(axis=0)[None, :]  # argmin of NaN would be the first pair of the grid
    return jnp.where(known, curves[:, best], jnp.nan), jnp.where(known, constants[:, best], jnp.nan)


def posterior_mean(
    decay: ArrayLike, snr: ArrayLike, priors: RelaxometryPriors | None = None
) -> Float[Array, "2 samples"]:
    """Return the time constants with the least mean square error: their mean given the decay, on the grid of `fit`.

    Use it as the lower bound of a network's error. The formula is `sum_p p w(p) / sum_p w(p)` with
    `w(p) = prior(p) exp(-snr ||G(p) - y||^2 / 2)`.

    Args:
        decay: decays y, shape (points, samples).
        snr: signal-to-noise ratio in energy. It may be traced.
        priors: times and ranges; None means `RelaxometryPriors()`.

    Returns:
        T1 and T2 in milliseconds, shape (2, samples).

    Raises:
        TypeError: if the decays are not made of real numbers.
        ValueError: if the number of points is not that of the priors, or `snr` is not positive.

    >>> batch = sample(jax.random.key(0), 1000, 900)
    >>> error = jnp.sqrt(jnp.mean((posterior_mean(batch.decay, 900) - batch.constants) ** 2, axis=1))
    >>> bool(error[0] < error[1]), bool(error[1] < 30)
    (True, True)
    """
    priors = _priors(priors)
    decay = _decays(decay, priors)
    snr = jnp.asarray(positive_number(snr, "snr"), decay.dtype)
    constants, curves = (jnp.asarray(part, decay.dtype) for part in _grid(priors))
    itself = jnp.sum(curves**2, axis=0)[:, None]
    # On the diagonal of the triangle T1 <= T2, only half of a grid cell is inside.
    prior = jnp.where(constants[0] == constants[1], 0.5, 1.0)[:, None]
    weights = jax.nn.softmax(-snr / 2 * (itself - 2 * matmul(curves.T, decay)) + jnp.log(prior), axis=0)
    return matmul(constants, weights)


def _priors(priors: RelaxometryPriors | None) -> RelaxometryPriors:
    if priors is None:
        return RelaxometryPriors()
    return instance_of(priors, "priors", RelaxometryPriors, "RelaxometryPriors")


def _decays(decay: ArrayLike, priors: RelaxometryPriors) -> Array:
    decay = real_array(decay, "decay", (2,), "(points, samples)")
    same_size(decay, 0, priors.points, "decay", "the times of the priors")
    return decay


@functools.lru_cache(maxsize=8)
def _dictionary(priors: RelaxometryPriors) -> tuple[np.ndarray, np.ndarray]:
    """Return the left singular vectors of the dictionary, and its squared singular values."""
    constants = np.geomspace(*priors.constants, ATOMS)
    left, singular, _ = np.linalg.svd(np.exp(-priors.time[:, None] / constants[None, :]), full_matrices=False)
    return left, singular**2


@functools.lru_cache(maxsize=8)
def _grid(priors: RelaxometryPriors) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs `T1 <= T2` on a grid, shape (2, pairs), and their decays, shape (points, pairs)."""
    steps = np.linspace(*priors.constants, 46)
    pairs = np.stack([steps[i] for i in np.triu_indices(len(steps))])
    exponentials = np.exp(-priors.time[:, None, None] / pairs[None])
    return pairs, priors.fraction * exponentials[:, 0] + (1 - priors.fraction) * exponentials[:, 1]
