"""Files of numbers with a checksum: a file that is not exactly as written is refused."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdescramble._base.files import write_atomically

SEAL = 64
"""Number of hexadecimal digits of the SHA-256 at the end of a file. They are a zip comment, so NumPy can read it."""


def write_sealed(path: str | os.PathLike, header: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays and a header to a `.npz` file, atomically and with a checksum over every byte.

    >>> write_sealed("sealed.npz", {"format": 1}, {"a": np.ones(3)})
    >>> float(np.load("sealed.npz")["a"].sum()), read_sealed("sealed.npz", "Example")[0]
    (3.0, {'format': 1})
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=np.asarray(json.dumps(header)), **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = b"0" * SEAL
    body = buffer.getvalue()[:-SEAL]
    write_atomically(path, lambda file: (file.write(body), file.write(_seal(body))))


def read_sealed(path: str | os.PathLike, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file that `write_sealed` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is something else, or not exactly as it was written.
    """
    content = Path(path).read_bytes()
    body, seal = content[:-SEAL], content[-SEAL:]
    if len(content) <= SEAL or _seal(body) != seal:
        raise ValueError(
            f"{path}: no {kind} file, or damaged: its {len(content)} bytes do not have the checksum that they end on. "
            "Nothing was read. Take a copy that is whole, or delete it and count again from the start."
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(str(arrays.pop("header"))), arrays


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
