"""Write files so that a full disk or a killed process leaves the whole old file or the whole new one."""

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from jax.typing import ArrayLike


def write_atomically(path: str | os.PathLike, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a temporary file, sync it to the disk, and rename it to its final name.

    Args:
        path: path of the file; missing folders are created.
        fill: function that writes the content into an open binary file.

    Raises:
        OSError: if the file cannot be written. Its `filename` is `path`; an existing file does not change.

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
        # Only the owner can read a temporary file; give it the usual permissions.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, ArrayLike | str]) -> None:
    """Write a compressed `.npz` file atomically. Raise the errors of `write_atomically`.

    >>> write_arrays("arrays.npz", {"a": np.ones(3)})
    >>> float(np.load("arrays.npz")["a"].sum())
    3.0
    """
    write_atomically(path, functools.partial(np.savez_compressed, **arrays))


def array_digest(array: np.ndarray) -> str:
    """Return the SHA-256 digest of the dtype, shape and bytes of an array, as hexadecimal digits.

    >>> array_digest(np.ones(2)) == array_digest(np.ones((1, 2)))
    False
    """
    array = np.asarray(array, order="C")
    found = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
    found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _flush_folder(folder: Path) -> None:
    """Sync the folder too, so that the rename is durable. Do nothing on systems that cannot sync folders."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
