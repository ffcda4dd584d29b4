"""The results of a chunk in a file of its own: written whole or not at all, and known to be whole when it is read.

A chunk file is a `.npz` of plain arrays, with a header that says what it is: format, the digest of the specification
that the chunk belongs to, the places of its problems, what made it. Every member of the archive has a check sum
(CRC-32), which is held against what is read. Why not orbax: of 200 flipped bits it noticed one, and a killed process
can leave neither the old checkpoint nor the new one (`benchmarks/results/checkpoints.md`).
"""

import functools
import json
import os
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from jaxdescramble._base.files import write_atomically

FORMAT = 2
HEADER = "header"


class DamagedError(ValueError):
    """A chunk file that is not whole, or not of this sweep."""


def write(path: Path, arrays: Mapping[str, np.ndarray], digest: str, signals: Mapping[int, str], device: Any) -> None:
    """Keep the results of a chunk.

    Args:
        path: of the file.
        arrays: what was found, a row for each problem.
        digest: of the chunk's specification.
        signals: digests of the signals that were solved for, by the places of their problems.
        device: what it was solved on.

    Raises:
        OSError: it could not be written (its `filename` is `path`).
    """
    about = {
        "format": FORMAT,
        "chunk": digest,
        "signals": {str(place): one for place, one in signals.items()},
        "made_by": maker(device),
        "arrays": sorted(arrays),
    }
    content = {**arrays, HEADER: np.asarray(json.dumps(about))}
    # Points are as good as noise: compressing them takes longer than solving for them, and gains a tenth.
    write_atomically(path, functools.partial(np.savez, **content))  # pyright: ignore[reportArgumentType]


def read(path: Path, digest: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a chunk file, every one of them checked.

    Args:
        path: of the file.
        digest: of the chunk that it should hold.
        names: of the arrays; None for all that there are.

    Raises:
        FileNotFoundError: there is none. KeyError: no such array was kept.
        DamagedError: it is truncated, changed, of another format or of another specification; says which and why.
    """
    with _opened(path) as file:
        about = _of_specification(file, path, digest)
        missing = [name for name in names or () if name not in about["arrays"]]
        if missing:
            raise KeyError(f"{missing[0]!r} was not kept (points=False); there are {', '.join(about['arrays'])}.")
        return {name: _member(file, name, path) for name in (about["arrays"] if names is None else names)}


def checked(path: Path, digest: str) -> dict[str, Any]:
    """The header of a chunk file of which every byte that counts has been read; errors as for `read`."""
    with _opened(path) as file:
        about = _of_specification(file, path, digest)
        for name in about["arrays"]:
            _member(file, name, path)
    return about


def header(path: Path) -> dict[str, Any]:
    """What a chunk file says of itself: "made_by" (versions, platform, device), "signals" (digests by problem).

    Raises:
        FileNotFoundError, DamagedError: as `read`.
    """
    with _opened(path) as file:
        return _header(file, path)


def maker(device: Any) -> dict[str, str]:
    """What a chunk is being made by, as its header says it."""
    versions = {name: version(name) for name in ("jaxdescramble", "jax", "jaxlib")}
    return {**versions, "platform": device.platform, "device": device.device_kind, "machine": platform.machine()}


class _opened:  # noqa: N801
    """A `.npz`, and one kind of exception for all that can be wrong with it."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Any:
        # Opened here: NumPy leaves a file that it cannot read open.
        self.raw = open(self.path, "rb")
        try:
            self.file = np.load(self.raw, allow_pickle=False)
        except Exception as error:  # zipfile and NumPy each say in their own way that a file is broken
            self.raw.close()
            raise DamagedError(f"{self.path}: not a whole .npz file ({error}).") from error
        return self.file

    def __exit__(self, *_: Any) -> None:
        if hasattr(self.file, "close"):
            self.file.close()
        self.raw.close()


def _member(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return file[name]
    except Exception as error:
        raise DamagedError(f"{path}: array {name!r} cannot be read ({error}).") from error


def _header(file: Any, path: Path) -> dict[str, Any]:
    try:
        about = json.loads(str(_member(file, HEADER, path)))
        form = about["format"]
        sound = isinstance(about["arrays"], list) and isinstance(about["signals"], dict) and about["made_by"]["jax"]
        _ = about["chunk"]
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"{path}: its header cannot be read ({error}).") from error
    if form != FORMAT or not sound:
        raise DamagedError(f"{path}: format {form!r}; this version reads {FORMAT}.")
    return about


def _of_specification(file: Any, path: Path, digest: str) -> dict[str, Any]:
    about = _header(file, path)
    if about["chunk"] != digest:
        raise DamagedError(f"{path}: holds results of another specification.")
    return about


def location(folder: str | os.PathLike, number: int) -> Path:
    """The file of a chunk. A thousand to a folder, so that a million layers are no burden to a file system."""
    return Path(folder) / "chunks" / f"{number // 1000:04d}" / f"{number:07d}.npz"


def clear(folder: str | os.PathLike, numbers: Collection[int]) -> None:
    """Remove what killed processes left unfinished of these chunks; nobody else may be at work on them."""
    for path in Path(folder).glob("chunks/*/.*.npz.*.tmp"):
        if int(path.name.split(".")[1]) in numbers:
            path.unlink(missing_ok=True)
