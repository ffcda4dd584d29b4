"""Read recordings of speech that you have: WAV files in a folder, brought to 8 kHz."""

import math
import os
import wave
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

from jaxdescramble._base.checks import file_path
from jaxdescramble.studies.voice.spectra import FRAME, RATE

INSTALL = (
    "No recordings are shipped. `apt-get install alsa-utils` brings spoken words to /usr/share/sounds/alsa; "
    "`apt-get install espeak-ng` and `espeak-ng -v en+f3 -w FOLDER/f3/one.wav 'any text'` speak any text in many "
    "voices; `apt-get install pocketsphinx-testdata` brings recordings to /usr/share/pocketsphinx/test/data. Put WAV "
    "files into a folder with one subfolder for each speaker. Or use `synthetic.speech`, which needs no files."
)
CONVERT = "Convert it: `ffmpeg -i IN -c:a pcm_s16le OUT.wav`."
SHORTEST = 0.2
"""Shortest recording that is used, in seconds."""


class Recording(NamedTuple):
    """A recording of one speaker, at 8 kHz; the mean of its samples is 0 and their mean square is 1.

    Attributes:
        sound: the samples.
        speaker: the name of its folder, or of the synthetic speaker.
        name: the name of its file.
    """

    sound: Float[np.ndarray, " samples"]
    speaker: str
    name: str


def load(folder: str | os.PathLike[str], pattern: str = "*.wav", most: int | None = None) -> list[Recording]:
    """Read all WAV files of a folder and its subfolders; a subfolder is a speaker.

    Stereo is averaged. `scipy.signal.resample_poly` changes the rate: interpolation, and a linear-phase low-pass filter
    below the lower of the two Nyquist frequencies. Recordings shorter than 0.2 s, and silent ones, are left out.

    Args:
        folder: path of the folder.
        pattern: pattern of the file names.
        most: largest number of recordings; None means all.

    Returns:
        The recordings in the order of their paths.

    Raises:
        TypeError: if `folder` is not a path.
        ValueError: if there is no such folder, or no usable recording in it (the error says what to install); if a file
            is not a WAV file of 16-bit PCM with one or two channels.
    """
    place = file_path(folder, "folder")
    if not place.is_dir():
        raise ValueError(f"folder: there is no folder {place}. {INSTALL}")
    found: list[Recording] = []
    for path in sorted(one for one in place.rglob(pattern) if one.is_file()):
        if most is not None and len(found) == most:
            break
        sound = prepared(*read(path))
        if sound is not None:
            found.append(Recording(sound, path.parent.relative_to(place).as_posix(), path.name))
    if not found:
        raise ValueError(f"folder: no recording of at least {SHORTEST} s matches {pattern} in {place}. {INSTALL}")
    return found


def read(path: str | os.PathLike[str]) -> tuple[Float[np.ndarray, " samples"], int]:
    """Return the samples of a WAV file, between -1 and 1, and their number in a second.

    Raises:
        ValueError: if the file is not a WAV file of 16-bit PCM with one or two channels, or is cut off.
    """
    path = Path(path)
    try:
        with wave.open(str(path), "rb") as file:
            about, data = file.getparams(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError(f"{path}: not a WAV file of 16-bit PCM ({error}). {CONVERT}") from error
    if about.sampwidth != 2 or about.nchannels not in (1, 2):
        raise ValueError(
            f"{path}: has {8 * about.sampwidth} bits and {about.nchannels} channel(s); must be 16-bit PCM with one or "
            f"two channels. {CONVERT}"
        )
    if len(data) != 2 * about.nchannels * about.nframes:
        raise ValueError(f"{path}: is cut off; it holds {len(data)} bytes of sound and promises more. Copy it again.")
    sound = np.frombuffer(data, "<i2").reshape(-1, about.nchannels).mean(axis=1) / 2**15
    return sound, about.framerate


def prepared(sound: Float[np.ndarray, " samples"], rate: int) -> Float[np.ndarray, " resampled"] | None:
    """Bring sound to 8 kHz, mean 0 and mean square 1; return None if it is silent or shorter than 0.2 s.

    >>> wave = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050)
    >>> made = prepared(wave, 22050)
    >>> made.shape, round(float(np.mean(made**2)), 6), prepared(0 * wave, 22050)
    ((8000,), 1.0, None)
    """
    if rate != RATE and len(sound):
        common = math.gcd(rate, RATE)
        sound = resample_poly(sound, RATE // common, rate // common)
    if len(sound) < max(SHORTEST * RATE, FRAME):
        return None
    sound = sound - sound.mean()
    size = float(np.sqrt(np.mean(sound**2)))
    return None if size < 1e-6 else (sound / size).astype(np.float32)


def held_out(recordings: list[Recording], share: float = 0.25) -> tuple[list[Recording], list[Recording]]:
    """Split recordings for training and testing: by speakers if there are at least four, else by recordings.

    The held-out ones are spread over the sorted list, so that voices of one kind, which often have similar names, are
    on both sides.

    Args:
        recordings: the recordings.
        share: share of the speakers (or recordings) that are held out.

    Returns:
        Recordings for training, and held-out recordings.

    Raises:
        ValueError: if a side stays empty.

    >>> made = [Recording(np.ones(4), speaker, str(k)) for speaker in "abcd" for k in range(2)]
    >>> [[one.speaker + one.name for one in side] for side in held_out(made)]
    [['a0', 'a1', 'b0', 'b1', 'd0', 'd1'], ['c0', 'c1']]
    """
    speakers = sorted({one.speaker for one in recordings})
    by_speaker = len(speakers) >= 4
    labels = [one.speaker if by_speaker else k for k, one in enumerate(recordings)]
    units = speakers if by_speaker else list(range(len(recordings)))
    count = round(share * len(units))
    if not 0 < count < len(units):
        raise ValueError(
            f"share: {share} of {len(units)} {'speakers' if by_speaker else 'recordings'} leaves one side empty; give "
            "more recordings or another share."
        )
    chosen = {units[int((k + 0.5) * len(units) / count)] for k in range(count)}
    sides = [[one for one, label in zip(recordings, labels, strict=True) if (label in chosen) == out] for out in (0, 1)]
    return sides[0], sides[1]
