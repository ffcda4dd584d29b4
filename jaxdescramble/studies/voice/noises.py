"""Noise, and mixtures of speech and noise: white noise, mains hum, babble of the same speech."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from jaxdescramble.studies.voice.recordings import Recording
from jaxdescramble.studies.voice.spectra import RATE

TALKERS = 6
"""Number of recordings that are added up to babble."""


def white(
    rng: np.random.Generator, samples: int, recordings: Sequence[Recording] = ()
) -> Float[np.ndarray, " samples"]:
    """Return independent normal samples."""
    return rng.standard_normal(samples)


def hum(rng: np.random.Generator, samples: int, recordings: Sequence[Recording] = ()) -> Float[np.ndarray, " samples"]:
    """Return mains hum: 50 or 60 Hz (0.2% off at most) with 19 overtones of random strengths and phases.

    >>> spectrum = np.abs(np.fft.rfft(hum(np.random.default_rng(0), 8000)))
    >>> np.flatnonzero(spectrum > 0.2 * spectrum.max())[:2].tolist()
    [60, 120]
    """
    order = np.arange(1, 21)
    frequency = rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    strength = rng.uniform(0.2, 1.0, 20) / order
    turns = frequency * order[:, None] * np.arange(samples)[None, :] / RATE + rng.uniform(size=(20, 1))
    return strength @ np.sin(2 * np.pi * turns)


def babble(rng: np.random.Generator, samples: int, recordings: Sequence[Recording]) -> Float[np.ndarray, " samples"]:
    """Return the sum of six recordings, each repeated from a random place."""
    if not recordings:
        raise ValueError("recordings: got none; babble is made of them.")
    total = np.zeros(samples)
    for number in rng.choice(len(recordings), TALKERS, replace=len(recordings) < TALKERS):
        sound = recordings[number].sound
        total += sound[(rng.integers(len(sound)) + np.arange(samples)) % len(sound)]
    return total


NOISES: dict[str, Callable[[np.random.Generator, int, Sequence[Recording]], np.ndarray]] = {
    "white": white,
    "hum": hum,
    "babble": babble,
}
"""Each noise by its name: `function(rng, samples, recordings) -> samples`, of any loudness."""


def scaled(
    noise: Float[np.ndarray, " samples"], clean: Float[np.ndarray, " samples"], snr: float
) -> Float[np.ndarray, " samples"]:
    """Return the noise at the loudness that gives this signal-to-noise ratio (in dB, of mean squares).

    Raises:
        ValueError: if the noise is silent.

    >>> quiet = scaled(np.ones(8), np.full(8, 2.0), 20.0)
    >>> round(float(quiet[0]), 6)
    0.2
    """
    power = np.mean(np.square(noise))
    if not power > 0:
        raise ValueError("noise: is silent, so no ratio can be reached.")
    return noise * np.sqrt(np.mean(np.square(clean)) / power) * 10 ** (-snr / 20)


def ratio(clean: Float[np.ndarray, " samples"], found: Float[np.ndarray, " samples"]) -> float:
    """Return the signal-to-noise ratio of `found` in dB: all that differs from the clean sound is noise.

    >>> round(ratio(np.asarray([1.0, -1.0]), np.asarray([1.1, -1.1])), 6)
    20.0
    """
    missed = np.sum(np.square(found - clean, dtype=np.float64))
    return float(10 * np.log10(np.sum(np.square(clean, dtype=np.float64)) / max(missed, 1e-30)))
