"""Short-time spectra of sound, the way back, and the features that the network reads.

Frames of 256 samples (32 ms at 8 kHz) overlap by half. Each frame is multiplied by the square root of a Hann window, on
the way to spectra and on the way back. The squares of overlapping windows add up to 1, so the way back is exact.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

RATE, FRAME, HOP = 8000, 256, 128
"""Samples a second, samples of a frame, samples from one frame to the next."""
BANDS = FRAME // 2 + 1
"""Number of frequency bands of a spectrum, from 0 to 4 kHz."""
HERTZ = RATE / FRAME
"""Distance of two bands in Hz."""
FLOOR = 1e-4
"""Smallest power that the features show, as a share of that of white noise as loud as the recording."""
OFFSET = 1.5
"""Added to the logarithm, so that the mean feature of speech is near 0."""

WINDOW = np.sin(np.pi * (np.arange(FRAME) + 0.5) / FRAME)


def spectra(sound: Float[np.ndarray, " samples"]) -> Complex[np.ndarray, "frames 129"]:
    """Return the spectrum of every frame; half a frame of silence is added at both ends.

    NumPy computes it: recordings have many lengths, and each would be a compilation.

    >>> spectra(np.ones(1000)).shape
    (9, 129)
    """
    frames = -(-len(sound) // HOP) + 1
    blocks = np.pad(sound, (HOP, frames * HOP - len(sound))).reshape(-1, HOP)
    return np.fft.rfft(np.concatenate([blocks[:-1], blocks[1:]], axis=1) * WINDOW, axis=1)


def sound_of(spectrum: Complex[np.ndarray, "frames 129"], samples: int) -> Float[np.ndarray, " samples"]:
    """Return the sound of spectra: the inverse of `spectra`, or the sound that is closest to changed spectra.

    >>> noise = np.sin(np.arange(1000.0) ** 1.5)
    >>> bool(np.abs(sound_of(spectra(noise), 1000) - noise).max() < 1e-12)
    True
    """
    frames = np.fft.irfft(spectrum, FRAME, axis=1) * WINDOW
    blocks = np.zeros((len(frames) + 1, HOP))
    blocks[:-1] += frames[:, :HOP]
    blocks[1:] += frames[:, HOP:]
    return blocks.reshape(-1)[HOP : HOP + samples]


def features(
    spectrum: Complex[Array | np.ndarray, "*batch 129"], power: Float[Array | np.ndarray, "*batch"]
) -> Float[Array, "*batch 129"]:
    """Return `log10(|Y|^2 / m + 1e-4) + 1.5`: the log power of each band; m is what white noise as loud would have.

    Args:
        spectrum: spectra Y of a recording with noise.
        power: mean square of that recording's samples, for each frame.

    Returns:
        Features between -2.5 and about 4. They do not depend on how loud the recording is.

    >>> features(np.zeros((1, 129), complex), np.ones(1)).tolist()[0][:2]
    [-2.5, -2.5]
    """
    spectrum, power = jnp.asarray(spectrum), jnp.asarray(power)
    # White noise of power 1 has power sum(window^2) = FRAME / 2 in each band.
    mean = jnp.maximum(power, 1e-12)[..., None] * FRAME / 2
    squared = jnp.real(spectrum) ** 2 + jnp.imag(spectrum) ** 2
    return jnp.log10(squared / mean + FLOOR) + OFFSET


def in_context(frames: Float[np.ndarray, "frames bands"], lags: int) -> Float[np.ndarray, "frames lags bands"]:
    """Return each frame with its neighbours, the frame itself in the middle; beyond the ends, the last frame repeats.

    Args:
        frames: one row for each time.
        lags: number of frames that are put together, odd.

    >>> in_context(np.asarray([[1.0], [2.0], [3.0]]), 3)[..., 0].tolist()
    [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 3.0]]
    """
    if lags < 1 or lags % 2 == 0:
        raise ValueError(f"lags: got {lags}; must be an odd number, so that one frame is in the middle.")
    count = len(frames)
    places = np.clip(np.arange(count)[:, None] + np.arange(lags)[None, :] - lags // 2, 0, count - 1)
    return frames[places]
