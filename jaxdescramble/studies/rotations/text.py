"""Plain text to learn from: the manual of Perl, as Debian's package perl-doc ships it. Nothing of it is committed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxdescramble._base.checks import file_path, positive_integer

INSTALL = (
    "The text is the manual of Perl in Debian's package perl-doc: apt-get install perl-doc. Without root: "
    "apt-get download perl-doc; dpkg -x perl-doc_*.deb FOLDER; then give FOLDER as the path. "
    "Any other file or folder of .pod or .txt files works too."
)
SYSTEM = Path("/usr/share/perl")
ENDINGS = (".pod", ".txt")
SHARES = (0.9, 0.05, 0.05)
"""Shares of the text for training, validation and test, in this order."""

Bytes = UInt8[np.ndarray, " bytes"]


class Text(NamedTuple):
    """A text, split by position: training comes first, the test last.

    Attributes:
        training, validation, test: bytes.
    """

    training: Bytes
    validation: Bytes
    test: Bytes


def load(path: str | os.PathLike[str] | None = None) -> Text:
    """Read a text and split it by position.

    Args:
        path: a text file, or a folder whose `.pod` and `.txt` files are read in alphabetical order, except those in
            which more than 1% of the bytes are not ASCII. None means the folder of Debian's package perl-doc.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if there is no text (the error says which command installs it), or less than 10,000 bytes.
    """
    root = SYSTEM if path is None else file_path(path, "path")
    files = [root] if root.is_file() else sorted({one for end in ENDINGS for one in root.rglob(f"*{end}")}, key=_order)
    parts = [np.frombuffer(one.read_bytes(), np.uint8) for one in files]
    kept = [one for one in parts if one.size and (one > 127).mean() <= 0.01]
    if sum(map(len, kept)) < 10_000:
        raise ValueError(f"path: there is no text of 10,000 bytes or more in {root}. {INSTALL}")
    return split(np.concatenate(kept))


def _order(file: Path) -> tuple[str, str]:
    return file.name, str(file)


def split(whole: Bytes) -> Text:
    """Split a text by position, 90, 5 and 5 percent.

    >>> [len(part) for part in split(np.zeros(1000, np.uint8))]
    [900, 50, 50]
    """
    ends = np.round(np.cumsum(SHARES[:2]) * len(whole)).astype(int)
    training, validation, test = np.split(whole, ends)
    return Text(training, validation, test)


def windows(text: Bytes, length: int, count: int) -> UInt8[np.ndarray, "count length"]:
    """Return stretches of a text at equal distances that do not overlap.

    Raises:
        ValueError: if the text is too short.

    >>> windows(np.arange(10, dtype=np.uint8), 3, 2).tolist()
    [[0, 1, 2], [5, 6, 7]]
    """
    count = positive_integer(count, "count")
    if len(text) < count * length:
        raise ValueError(f"text: {len(text)} bytes; {count} windows of {length} need {count * length}.")
    starts = np.arange(count) * (len(text) // count)
    return text[starts[:, None] + np.arange(length)]


def made_up(words: int = 20_000, seed: int = 0, vocabulary: Sequence[str] | None = None) -> Bytes:
    """Return a text without files: words in random order, of which each favours a few followers. It serves tests.

    >>> len(made_up(100)) > 300
    True
    """
    rng = np.random.default_rng(seed)
    known = vocabulary or ["".join(rng.choice(list("aeiornstlmd"), rng.integers(2, 8))) for _ in range(40)]
    followers, said = rng.integers(0, len(known), (len(known), 3)), [0]
    for choice in rng.integers(0, 3, words - 1):
        said.append(int(followers[said[-1], choice]))
    return np.frombuffer(" ".join(known[k] for k in said).encode(), np.uint8)
