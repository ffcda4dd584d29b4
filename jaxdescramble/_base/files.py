"""Files that are either the old one or the whole new one, whatever happens: a full disk, a killed process."""

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np


def write_atomically(path: str | os.PathLike, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place and move it there when it is whole and on the disk.

    Args:
        path: where the file is to be; folders are made.
        fill: writes the content into an open binary file.

    Raises:
        OSError: it could not be written (its `filename` is `path`); an old file stays as it was.

    >>> write_atomically("words.txt", lambda file: file.write(b"whole"))
    >>> Path("words.txt").read_text()
    'whole'
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are made for their owner's eyes only; results are to be shared like any other file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """A compressed `.npz`, written atomically; errors as for `write_atomically`.

    >>> write_arrays("arrays.npz", {"a": np.ones(3)})
    >>> float(np.load("arrays.npz")["a"].sum())
    3.0
    """
    write_atomically(path, functools.partial(np.savez_compressed, **arrays))


def array_digest(array: np.ndarray) -> str:
    """SHA-256, in hexadecimal digits, of dtype, shape and bytes of an array.

    >>> array_digest(np.ones(2)) == array_digest(np.ones((1, 2)))
    False
    """
    array = np.asarray(array, order="C")
    found = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Until its folder is on the disk, a new name is not; where folders cannot be flushed, the system sees to it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
