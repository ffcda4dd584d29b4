"""White noise, before and after an ideal band-pass filter. Signals are (features, samples).

The record is one period: its frequencies are the multiples of `rate / points`, and the filter is a projection that
commutes with every shift. So the map that a network has to learn is known exactly.
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
    real_array,
    same_size,
)


@dataclass(frozen=True)
class Band:
    """A record, and the band of frequencies that a filter passes.

    Args:
        low, high: edges of the band in Hz; both edges pass.
        points: number of points of the record.
        rate: sampling rate in Hz. If it equals `points`, the record lasts a second and frequencies are whole Hz.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if the band contains no frequency of the record, or goes beyond half the sampling rate.

    >>> Band(10.0, 50.0).rank, Band(100.0, 200.0).rank
    (82, 202)

    Source: Sule, Spencer, Czaja, ACHA 79, 101793 (2025), whose networks pass 10 to 50 or 100 to 200 Hz at 1024 points
    and 1024 Hz. They filter tones in noise with a digital filter; we filter pure noise with the ideal filter.
    """

    low: float = 100.0
    high: float = 200.0
    points: int = 1024
    rate: float = 1024.0

    def __post_init__(self):
        # Store Python's own numbers, because a band is hashed.
        for name in ("low", "high"):
            number = number_between(getattr(self, name), name, 0, np.inf, "a frequency in Hz, at least 0", ends=True)
            object.__setattr__(self, name, float(number))
        object.__setattr__(self, "rate", float(positive_number(self.rate, "rate")))
        object.__setattr__(self, "points", positive_integer(self.points, "points", least=2))
        if not 0 <= self.low <= self.high <= self.rate / 2:
            raise ValueError(
                f"low, high, rate: got {self.low}, {self.high} and {self.rate}; must be 0 <= low <= high <= "
                f"{self.rate / 2} Hz, half the sampling rate."
            )
        if not self.passes.any():
            raise ValueError(
                f"low, high, points, rate: no frequency of the record lies between {self.low} and {self.high} Hz, "
                f"because they are {self.rate / self.points} Hz apart; widen the band."
            )

    @property
    def frequency(self) -> np.ndarray:
        """Frequencies of the record in Hz, shape (points // 2 + 1,), float64."""
        return np.fft.rfftfreq(self.points, 1 / self.rate)

    @property
    def passes(self) -> np.ndarray:
        """Which frequencies pass, shape (points // 2 + 1,), bool."""
        return (self.frequency >= self.low) & (self.frequency <= self.high)

    @property
    def rank(self) -> int:
        """Dimension of the band: two per frequency (cosine and sine), one at zero and at half the sampling rate."""
        alone = (self.frequency == 0) | (self.frequency == self.rate / 2)
        return int(np.sum(np.where(alone, 1, 2)[self.passes]))


class BandBatch(NamedTuple):
    """Records as columns, before and after the filter."""

    signal: Float[Array, "points samples"]
    passed: Float[Array, "points samples"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def band_pass(signals: ArrayLike, band: Band) -> Float[Array, "points samples"]:
    """Remove everything outside the band with the ideal filter, and keep everything inside.

    Args:
        signals: records as columns, shape (points, samples).
        band: the band that passes.

    Returns:
        The filtered records, shape (points, samples).

    Raises:
        TypeError: if the signals are not made of real numbers, or `band` is not a `Band`.
        ValueError: if the signals do not have two axes, or not the band's number of points.

    >>> time = jnp.arange(64) / 64
    >>> tones = jnp.stack([jnp.sin(2 * jnp.pi * f * time) for f in (5, 20)], axis=1)
    >>> left = jnp.linalg.norm(band_pass(tones, Band(10.0, 25.0, 64, 64.0)), axis=0)
    >>> [round(float(size), 3) for size in left]
    [0.0, 5.657]
    """
    signals = real_array(signals, "signals", (2,), "(points, samples)")
    instance_of(band, "band", Band, "a Band")
    same_size(signals, 0, band.points, "signals", "the band")
    spectrum = jnp.where(band.passes[:, None], jnp.fft.rfft(signals, axis=0), 0)
    return jnp.fft.irfft(spectrum, band.points, axis=0).astype(signals.dtype)


def filter_matrix(band: Band, dtype: DTypeLike = float) -> Float[Array, "points points"]:
    """Return the filter as a matrix: a circulant projection of rank `band.rank`.

    Args:
        band: the band that passes.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if `band` is not a `Band`, or `dtype` is not float32 or float64.

    >>> Pi = filter_matrix(Band(2.0, 3.0, 16, 16.0))
    >>> round(float(jnp.trace(Pi))), bool(jnp.allclose(Pi @ Pi, Pi, atol=1e-6))
    (4, True)
    """
    instance_of(band, "band", Band, "a Band")
    return band_pass(jnp.eye(band.points, dtype=floating_type(dtype)), band)


@functools.partial(jax.jit, static_argnames=("count", "band", "dtype"))
def _sample(key, count, band, dtype) -> BandBatch:
    signal = jax.random.normal(key, (band.points, count), dtype)
    return BandBatch(signal, band_pass(signal, band))


def sample(key: PRNGKeyArray, count: int, band: Band | None = None, dtype: DTypeLike = float) -> BandBatch:
    """Draw standard white noise, and filter it.

    Args:
        key: random key; the same key gives the same signals.
        count: number of samples.
        band: record and band; None means 100 to 200 Hz.
        dtype: floating type of the results: float32 or float64.

    Raises:
        TypeError: if `key` is not a key, `band` is not a `Band`, or `dtype` is not float32 or float64.
        ValueError: if `count` is not a positive integer.

    >>> batch = sample(jax.random.key(0), 200)
    >>> batch.signal.shape, round(float(jnp.mean(batch.passed**2)), 2)  # 202 of 1024
    ((1024, 200), 0.2)
    """
    band = Band() if band is None else instance_of(band, "band", Band, "a Band")
    return _sample(random_key(key), positive_integer(count, "count"), band, floating_type(dtype).name)
