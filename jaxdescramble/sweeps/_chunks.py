"""The file of a chunk: written completely or not at all, and checked completely when it is read.

A chunk file is a `.npz` of plain arrays with a header. The header holds the format, the digest of the chunk's
specification, the places of its problems, and the versions and device that made it. Every member of the archive has a
checksum (CRC-32), which is compared when the member is read. We do not use orbax: of 200 flipped bits it noticed one,
and a killed process can leave neither the old checkpoint nor the new one (`benchmarks/results/checkpoints.md`).
"""

import functools
import json
import os
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.lib.npyio import NpzFile

from jaxdescramble._base.files import write_atomically

FORMAT = 2
HEADER = "header"


@runtime_checkable
class Device(Protocol):
    """A device of JAX, whose own class is not visible to type checkers."""

    @property
    def platform(self) -> str: ...

    @property
    def device_kind(self) -> str: ...


class Header(TypedDict):
    """The header of a chunk file: "signals" has the digests by problem, "made_by" versions, platform and device."""

    format: int
    chunk: str
    signals: dict[str, str]
    made_by: dict[str, str]
    arrays: list[str]


class DamagedError(ValueError):
    """A chunk file that is incomplete, changed, or from another sweep."""


def write(
    path: Path, arrays: Mapping[str, np.ndarray], digest: str, signals: Mapping[int, str], device: Device
) -> None:
    """Write the results of a chunk.

    Args:
        path: path of the file.
        arrays: results, with one row for each problem.
        digest: digest of the chunk's specification.
        signals: digest of the signals of each problem, by the place of the problem.
        device: device that solved the chunk.

    Raises:
        OSError: if the file cannot be written. The error's `filename` is `path`.
    """
    about: Header = {
        "format": FORMAT,
        "chunk": digest,
        "signals": {str(place): one for place, one in signals.items()},
        "made_by": maker(device),
        "arrays": sorted(arrays),
    }
    content: dict[str, Any] = {**arrays, HEADER: np.asarray(json.dumps(about))}
    # Points compress like noise: compression takes longer than the solve and saves a tenth of the space.
    write_atomically(path, functools.partial(np.savez, **content))


def read(path: Path, digest: str, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of a chunk file, and check each of them.

    Args:
        path: path of the file.
        digest: digest of the chunk's specification.
        names: names of the arrays; None means all arrays.

    Raises:
        FileNotFoundError: if the file does not exist.
        KeyError: if the file does not hold an array of this name.
        DamagedError: if the file is truncated, changed, of another format or of another specification. The message says
            which file and why.
    """
    with _opened(path) as file:
        about = _of_specification(file, path, digest)
        missing = [name for name in names or () if name not in about["arrays"]]
        if missing:
            raise KeyError(f"{missing[0]!r} was not kept (points=False); the arrays are {', '.join(about['arrays'])}.")
        return {name: _member(file, name, path) for name in (about["arrays"] if names is None else names)}


def checked(path: Path, digest: str) -> Header:
    """Read and check every array of a chunk file, and return its header. It raises the errors of `read`."""
    with _opened(path) as file:
        about = _of_specification(file, path, digest)
        for name in about["arrays"]:
            _member(file, name, path)
    return about


def header(path: Path) -> Header:
    """Read the header of a chunk file.

    Raises:
        FileNotFoundError: if the file does not exist.
        DamagedError: if the header cannot be read.
    """
    with _opened(path) as file:
        return _header(file, path)


def maker(device: Device) -> dict[str, str]:
    """Return the versions, platform and device of a computation, for the header of a chunk."""
    versions = {name: version(name) for name in ("jaxdescramble", "jax", "jaxlib")}
    return {**versions, "platform": device.platform, "device": device.device_kind, "machine": platform.machine()}


class _opened:  # noqa: N801
    """A context manager that opens a `.npz` and raises one kind of error for every kind of damage."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> NpzFile:
        # Open the file here, because NumPy does not close a file that it cannot read.
        self.raw = open(self.path, "rb")
        try:
            self.file = np.load(self.raw, allow_pickle=False)
            if not isinstance(self.file, NpzFile):
                raise ValueError("it holds a single array")
        except Exception as error:  # zipfile and NumPy raise different errors for broken files
            self.raw.close()
            raise DamagedError(f"{self.path}: not a complete .npz file ({error}).") from error
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.raw.close()


def _member(file: NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return file[name]
    except Exception as error:
        raise DamagedError(f"{path}: cannot read the array {name!r} ({error}).") from error


def _header(file: NpzFile, path: Path) -> Header:
    try:
        about = json.loads(str(_member(file, HEADER, path)))
        form = about["format"]
        sound = isinstance(about["arrays"], list) and isinstance(about["signals"], dict) and about["made_by"]["jax"]
        _ = about["chunk"]
    except DamagedError:
        raise
    except Exception as error:
        raise DamagedError(f"{path}: cannot read the header ({error}).") from error
    if form != FORMAT or not sound:
        raise DamagedError(f"{path}: got format {form!r}; this version reads format {FORMAT}.")
    return about


def _of_specification(file: NpzFile, path: Path, digest: str) -> Header:
    about = _header(file, path)
    if about["chunk"] != digest:
        raise DamagedError(f"{path}: holds results of another specification.")
    return about


def location(folder: str | os.PathLike, number: int) -> Path:
    """Return the path of a chunk's file. A folder holds at most 1000 chunks, which file systems handle well."""
    return Path(folder) / "chunks" / f"{number // 1000:04d}" / f"{number:07d}.npz"


def clear(folder: str | os.PathLike, numbers: Collection[int]) -> None:
    """Remove temporary files that killed processes left for these chunks. No other process may work on them."""
    for path in Path(folder).glob("chunks/*/.*.npz.*.tmp"):
        if int(path.name.split(".")[1]) in numbers:
            path.unlink(missing_ok=True)
