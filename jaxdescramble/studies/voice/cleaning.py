"""Take noise off held-out recordings by a network and by simpler methods, and measure what is gained."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Complex, Float, Int, PRNGKeyArray

from jaxdescramble.studies.voice.network import Params, network
from jaxdescramble.studies.voice.noises import NOISES, ratio, scaled
from jaxdescramble.studies.voice.recordings import Recording
from jaxdescramble.studies.voice.spectra import features, in_context, sound_of, spectra
from jaxdescramble.studies.voice.synthetic import generator

QUIET = 0.2
"""Share of the frames of a band that spectral subtraction takes for noise alone."""


class Mixture(NamedTuple):
    """One recording with noise; everything has its mean square of 1 before the noise is added.

    Attributes:
        clean, noise: the samples of speech and of noise; their sum is the mixture.
        kind: name of the noise.
        snr: signal-to-noise ratio in dB.
        recording: number of the recording.
    """

    clean: Float[np.ndarray, " samples"]
    noise: Float[np.ndarray, " samples"]
    kind: str
    snr: float
    recording: int


def mixtures(
    recordings: Sequence[Recording], key: PRNGKeyArray, snrs: Sequence[float] = (0.0, 5.0, 10.0)
) -> list[Mixture]:
    """Mix each recording with every noise at every ratio; babble consists of the other recordings.

    >>> from jaxdescramble.studies.voice.synthetic import speech
    >>> made = mixtures(speech(jax.random.key(0), 2, 1, 0.5), jax.random.key(1), (5.0,))
    >>> [(one.kind, one.recording) for one in made][:4]
    [('white', 0), ('hum', 0), ('babble', 0), ('white', 1)]
    """
    rng, found = generator(key), []
    for number, one in enumerate(recordings):
        others = [other for k, other in enumerate(recordings) if k != number] or [one]
        for kind, make in NOISES.items():
            noise = make(rng, len(one.sound), others)
            for snr in snrs:
                found.append(Mixture(one.sound, scaled(noise, one.sound, snr), kind, float(snr), number))
    return found


def frames_of(
    made: Sequence[Mixture], lags: int
) -> tuple[Float[np.ndarray, "frames lags 129"], Int[np.ndarray, " frames"]]:
    """Return what the network reads of all mixtures, one after the other, and the number of each frame's recording."""
    sounds = [one.clean + one.noise for one in made]
    parts = [spectra(one) for one in sounds]
    lengths = [len(part) for part in parts]
    power = np.repeat([np.mean(one**2) for one in sounds], lengths).astype(np.float32)
    rows = np.asarray(features(np.concatenate(parts).astype(np.complex64), power))
    x = np.concatenate([in_context(part, lags) for part in np.split(rows, np.cumsum(lengths)[:-1])])
    return x, np.repeat([one.recording for one in made], lengths)


def subtraction(spectrum: Complex[np.ndarray, "frames 129"]) -> Float[np.ndarray, "frames 129"]:
    """Return the gain of spectral subtraction, `max(0, 1 - N / |Y|^2)`; N is the mean noise power of a band.

    N comes from the quietest fifth of the frames, as if noise were Gaussian (its power is then exponential). The method
    knows nothing about speech.
    """
    power = np.abs(spectrum) ** 2
    noise = np.quantile(power, QUIET, axis=0) / -np.log(1 - QUIET)
    return np.maximum(0, 1 - noise[None, :] / np.maximum(power, 1e-30))


def known_noise(
    spectrum: Complex[np.ndarray, "frames 129"], noise: Complex[np.ndarray, "frames 129"]
) -> Float[np.ndarray, "frames 129"]:
    """Return the gain of spectral subtraction if the mean power of the noise in each band is known exactly."""
    known = np.mean(np.abs(noise) ** 2, axis=0)
    return np.maximum(0, 1 - known[None, :] / np.maximum(np.abs(spectrum) ** 2, 1e-30))


def best_mask(
    spectrum: Complex[np.ndarray, "frames 129"], clean: Complex[np.ndarray, "frames 129"]
) -> Float[np.ndarray, "frames 129"]:
    """Return the mask between 0 and 1 with the smallest error of the spectrum; no mask of these frames does better.

    >>> best_mask(np.asarray([[2.0 + 0j, 1.0 + 0j]]), np.asarray([[1.0 + 0j, -1.0 + 0j]])).tolist()
    [[0.5, 0.0]]
    """
    return np.clip(np.real(clean * np.conj(spectrum)) / np.maximum(np.abs(spectrum) ** 2, 1e-30), 0, 1)


METHODS = ("subtraction", "subtraction, noise known", "network", "best mask")


class Gain(NamedTuple):
    """Improvement of the signal-to-noise ratio in dB by each of `METHODS`, for one mixture; doing nothing gives 0."""

    kind: str
    snr: float
    recording: int
    by: dict[str, float]


def gains(params: Params, made: Sequence[Mixture], lags: int) -> list[Gain]:
    """Clean each mixture by every method, return to sound, and measure the improvement.

    All methods keep the phases of the mixture.
    """
    x, _ = frames_of(made, lags)
    masks = np.asarray(jax.jit(network)(params, x))
    found, first = [], 0
    for one in made:
        clean, noise = spectra(one.clean), spectra(one.noise)
        noisy = clean + noise
        gain = {
            "subtraction": subtraction(noisy),
            "subtraction, noise known": known_noise(noisy, noise),
            "network": masks[first : first + len(noisy)],
            "best mask": best_mask(noisy, clean),
        }
        first += len(noisy)
        before = ratio(one.clean, one.clean + one.noise)
        by = {name: ratio(one.clean, sound_of(mask * noisy, len(one.clean))) - before for name, mask in gain.items()}
        found.append(Gain(one.kind, one.snr, one.recording, by))
    return found


def mean_gain(found: Sequence[Gain], method: str, kind: str | None = None, snr: float | None = None) -> np.ndarray:
    """Return the mean improvement of each recording in dB, over all its mixtures of this kind and ratio (None: all).

    >>> both = [Gain("hum", 0.0, 3, {"network": 4.0}), Gain("white", 0.0, 3, {"network": 2.0})]
    >>> mean_gain(both, "network").tolist(), mean_gain(both, "network", "hum").tolist()
    ([3.0], [4.0])
    """
    chosen = [one for one in found if kind in (None, one.kind) and snr in (None, one.snr)]
    numbers = sorted({one.recording for one in chosen})
    return np.asarray([np.mean([one.by[method] for one in chosen if one.recording == k]) for k in numbers])
