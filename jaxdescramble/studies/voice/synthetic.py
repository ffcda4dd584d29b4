"""Synthetic speech, for tests and for studies without recordings: glottal pulses and noise through formant resonances.

It is no replacement for speech: syllables follow each other without a language, and formants stand still in a vowel.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.signal import lfilter

from jaxdescramble._base.checks import positive_integer, random_key
from jaxdescramble.studies.voice.recordings import Recording, prepared
from jaxdescramble.studies.voice.spectra import RATE

VOWELS = (
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
)  # fmt: skip
"""First three formants of vowels in Hz, means of American men (Peterson and Barney, J. Acoust. Soc. Am. 24, 1952)."""
BANDWIDTHS = (60.0, 90.0, 150.0, 250.0)
FOURTH = 3500.0


def generator(key: PRNGKeyArray) -> np.random.Generator:
    """Return NumPy's random generator with the words of a JAX key as its seed."""
    return np.random.default_rng(np.asarray(jax.random.key_data(random_key(key))).ravel().tolist())


def resonance(
    sound: Float[np.ndarray, " samples"], frequency: float, bandwidth: float
) -> Float[np.ndarray, " samples"]:
    """Filter sound by one resonance: two poles of radius `exp(-pi bandwidth / rate)`, gain 1 at frequency 0.

    >>> impulse = np.eye(1, 4000)[0]
    >>> spectrum = np.abs(np.fft.rfft(resonance(impulse, 500.0, 50.0)))
    >>> int(np.argmax(spectrum)) * 2, round(float(spectrum[0]), 3)
    (500, 1.0)
    """
    radius = np.exp(-np.pi * bandwidth / RATE)
    denominator = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2]
    return np.asarray(lfilter([sum(denominator)], denominator, sound))


def vowel(
    pitch: Float[np.ndarray, " samples"], formants: tuple[float, ...], rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    """Return a vowel: one pulse for each period, smoothed by the glottis, through all formants.

    Args:
        pitch: fundamental frequency in Hz at each sample.
        formants: frequencies of the resonances in Hz, at most four.
        rng: random generator, for the phase of the first pulse and some breath.
    """
    turns = np.floor(rng.uniform() + np.cumsum(pitch) / RATE)
    pulses = np.diff(turns, prepend=turns[:1]) * RATE / pitch
    # The glottis falls by 12 dB an octave, and the mouth gains 6.
    sound = np.asarray(lfilter([1.0], [1.0, -0.95], pulses + 0.1 * rng.standard_normal(len(pitch))))
    for frequency, bandwidth in zip(formants, BANDWIDTHS[: len(formants)], strict=True):
        sound = resonance(sound, frequency, bandwidth)
    return sound


def _syllable(rng: np.random.Generator, pitch: float, tract: float) -> np.ndarray:
    length = int(rng.uniform(0.12, 0.3) * RATE)
    first, last = pitch * rng.uniform(0.85, 1.15, 2)
    glide = np.linspace(first, last, length)
    formants = tuple(tract * f for f in VOWELS[rng.integers(len(VOWELS))])
    sound = vowel(glide, (*formants, min(tract * FOURTH, 3900.0)), rng)
    sound = sound / np.sqrt(np.mean(sound**2)) * _envelope(length, 0.03)
    if rng.uniform() < 0.6:
        consonant = rng.standard_normal(int(rng.uniform(0.04, 0.12) * RATE))
        consonant = resonance(consonant, rng.uniform(1500, 3600), 400.0)
        consonant = consonant / np.sqrt(np.mean(consonant**2)) * _envelope(len(consonant), 0.01)
        sound = np.concatenate([rng.uniform(0.1, 0.4) * consonant, sound])
    return np.concatenate([sound, np.zeros(int(rng.exponential(0.03) * RATE))])


def _envelope(length: int, seconds: float) -> np.ndarray:
    ramp = np.minimum(np.arange(length) + 1, length - np.arange(length)) / (seconds * RATE)
    return np.sin(np.pi / 2 * np.minimum(ramp, 1)) ** 2


def speech(key: PRNGKeyArray, speakers: int = 12, utterances: int = 8, seconds: float = 2.0) -> list[Recording]:
    """Make utterances of random syllables by speakers with pitches and vocal tracts of their own.

    Args:
        key: random key.
        speakers: number of speakers.
        utterances: number of utterances of each speaker.
        seconds: length of an utterance.

    >>> made = speech(jax.random.key(0), 2, 1, 0.5)
    >>> [(one.speaker, one.sound.shape) for one in made]
    [('synthetic 00', (4000,)), ('synthetic 01', (4000,))]
    """
    rng, found = generator(key), []
    for speaker in range(positive_integer(speakers, "speakers")):
        pitch = np.exp(rng.uniform(np.log(90), np.log(250)))
        # High voices come from short tracts, more or less.
        tract = 1 + 0.18 * np.log(pitch / 90) + rng.uniform(-0.04, 0.04)
        for number in range(positive_integer(utterances, "utterances")):
            parts: list[np.ndarray] = []
            while sum(map(len, parts)) < seconds * RATE:
                parts.append(_syllable(rng, pitch * rng.uniform(0.9, 1.1), tract))
            sound = prepared(np.concatenate(parts)[: int(seconds * RATE)], RATE)
            assert sound is not None
            found.append(Recording(sound, f"synthetic {speaker:02d}", f"{number:02d}"))
    return found


class Vowels(NamedTuple):
    """Steady vowels with known formants.

    Attributes:
        sound: the samples, shape (count, samples), mean square 1.
        first, second: the first and the second formant in Hz, shape (count,).
    """

    sound: Float[np.ndarray, "count samples"]
    first: Float[np.ndarray, " count"]
    second: Float[np.ndarray, " count"]


def vowels(key: PRNGKeyArray, count: int = 400, samples: int = 2048) -> Vowels:
    """Make steady vowels whose formants and pitch are independent of each other.

    The first formant lies between 250 and 800 Hz and the second between 900 and 2500 Hz, both uniform in the logarithm.
    The pitch lies between 90 and 250 Hz.

    >>> vowels(jax.random.key(0), 3).sound.shape
    (3, 2048)
    """
    rng = generator(key)
    pitch, first, second = (
        np.exp(rng.uniform(np.log(low), np.log(high), count)) for low, high in ((90, 250), (250, 800), (900, 2500))
    )
    sound = np.stack([
        vowel(np.full(samples + RATE // 10, p), (a, b, 2900.0, FOURTH), rng)[RATE // 10 :]
        for p, a, b in zip(pitch, first, second, strict=True)
    ])  # fmt: skip
    return Vowels((sound / np.sqrt(np.mean(sound**2, axis=1, keepdims=True))).astype(np.float32), first, second)
