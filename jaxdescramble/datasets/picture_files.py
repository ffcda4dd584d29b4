"""Well-known sets of pictures, from folders that you have: MNIST and what comes in its format, CIFAR-10 and CIFAR-100.

CIFAR's files are pickles, and a pickle may ask for any function to be called. Here it gets two stand-ins that hold
bytes, and nothing else: nothing of NumPy's, or of anybody's, runs at its word.
"""

import gzip
import io
import math
import os
import pickle
import reprlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.checks import file_path, one_of
from jaxdescramble.datasets.pictures import Pictures

PARTS = ("train", "test")


def mnist(folder: str | os.PathLike, part: str = "train") -> Pictures:
    """MNIST, or Fashion-MNIST, KMNIST and the like in the same IDX files: bytes, divided by 255.

    Args:
        folder: holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or `t10k-...`; a dot before `idx` will
            do, and so will files that are still compressed, `.gz`.
        part: "train" or "test".

    Returns:
        `Pictures` of shape (samples, height, width, 1), float32.

    Raises:
        ValueError: an unknown part, a folder or file that is not there, is damaged or not of this format; images and
            labels that differ in number.

    >>> mnist("nowhere")
    Traceback (most recent call last):
    ValueError: folder: there is no folder nowhere; give one that has train-images-idx3-ubyte.

    Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", file formats.
    """
    prefix = "train" if one_of(part, "part", PARTS) == "train" else "t10k"
    paths = []
    for kind in ("images-idx3", "labels-idx1"):
        names = [f"{prefix}-{kind}-ubyte", f"{prefix}-{kind.replace('-', '.')}-ubyte"]
        paths.append(_find([file_path(folder, "folder")], [name + end for name in names for end in ("", ".gz")]))
    images, labels = _idx(paths[0], 3), _idx(paths[1], 1)
    if len(images) != len(labels):
        raise ValueError(f"folder: {paths[0]} has {len(images)} images, {paths[1]} {len(labels)} labels.")
    return _pictures(images[..., None], labels)


def cifar10(folder: str | os.PathLike, part: str = "train") -> Pictures:
    """CIFAR-10, its "python version": bytes, divided by 255.

    Args:
        folder: `cifar-10-batches-py`, or the folder that it is in.
        part: "train", of five files, or "test".

    Returns:
        `Pictures` of shape (samples, 32, 32, 3), float32.

    Raises:
        ValueError: an unknown part, a folder or file that is not there, is damaged, not of this format, or asks for
            more than bytes and lists.

    >>> cifar10("nowhere", "test")
    Traceback (most recent call last):
    ValueError: folder: there is no folder nowhere; give one that has test_batch.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    train = one_of(part, "part", PARTS) == "train"
    names = [f"data_batch_{number}" for number in range(1, 6)] if train else ["test_batch"]
    return _cifar(file_path(folder, "folder"), "cifar-10-batches-py", names, b"labels", 10)


def cifar100(folder: str | os.PathLike, part: str = "train") -> Pictures:
    """CIFAR-100, its "python version", with its hundred fine labels; as `cifar10`.

    Args:
        folder: `cifar-100-python`, or the folder that it is in.
        part: "train" or "test".

    >>> cifar100("nowhere")
    Traceback (most recent call last):
    ValueError: folder: there is no folder nowhere; give one that has train.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    return _cifar(file_path(folder, "folder"), "cifar-100-python", [one_of(part, "part", PARTS)], b"fine_labels", 100)


def _cifar(folder: Path, name: str, files: Sequence[str], key: bytes, classes: int) -> Pictures:
    paths = [_find([folder, folder / name], [file]) for file in files]
    images, labels = zip(*(_batch(path, key, classes) for path in paths), strict=True)
    return _pictures(np.concatenate(images).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), np.concatenate(labels))


def _pictures(images: np.ndarray, labels: np.ndarray) -> Pictures:
    # NumPy divides; XLA would multiply by a rounded 1/255.
    return Pictures(jnp.asarray(images / np.float32(255)), jnp.asarray(labels, int))


def _find(folders: Sequence[Path], names: Sequence[str]) -> Path:
    if not folders[0].is_dir():
        raise ValueError(f"folder: there is no folder {folders[0]}; give one that has {names[0]}.")
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    places = " or ".join(str(folder) for folder in folders)
    raise ValueError(f"folder: there is no file {' or '.join(names)} in {places}.")


def _idx(path: Path, axes: int) -> np.ndarray:
    """The array of bytes in an IDX file: `00 00 08 axes`, the sizes as big-endian 32-bit numbers, the bytes."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # whatever its name: browsers unpack files without renaming them
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"folder: {path} is truncated or damaged ({error}).") from error
    magic, header = bytes([0, 0, 8, axes]), 4 + 4 * axes
    if content[:4] != magic:
        raise ValueError(
            f"folder: {path} begins with {content[:4].hex(' ') or 'nothing'}; an IDX file of bytes with {axes} axes "
            f"begins with {magic.hex(' ')}."
        )
    sizes = [int.from_bytes(content[4 * k : 4 * k + 4], "big") for k in range(1, axes + 1)]
    needed = header + math.prod(sizes)
    if len(content) != needed:
        raise ValueError(
            f"folder: {path} is truncated or damaged: it has {len(content)} bytes, and {needed} would hold the "
            f"{' x '.join(map(str, sizes))} that it announces."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)


class _Dtype:
    """Stands in for `numpy.dtype`; of all types pictures need one."""

    def __init__(self, name: Any, *rest: Any):
        if name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"it holds numbers of type {name!r}; bytes, 'u1', are expected")

    def __setstate__(self, state: Any) -> None:
        pass  # bytes have no byte order, nor anything else to be told


class _Array:
    """Stands in for `numpy.ndarray`, and is made in place of calling NumPy's `_reconstruct`."""

    values: np.ndarray | None = None

    def __init__(self, *rest: Any):
        pass  # the array's class, and the shape and type that it has until its state is set

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array that is not made of bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


# The classes have a state to set, and text has none: a pickle cannot alter what it finds here.
ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, as no file of CIFAR's own does; it may be meant to do harm"
            )
        return ADMITTED[module_name, global_name]


def _batch(path: Path, key: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 3 x 32 x 32 bytes, and their labels."""
    content = path.read_bytes()
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises almost any
        raise ValueError(f"folder: {path}, of {len(content)} bytes, cannot be read ({error}).") from error
    if not isinstance(found, dict) or not {b"data", key} <= found.keys():
        seen = reprlib.repr(list(found)) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"folder: {path} holds {seen}; a dictionary with {b'data'} and {key} is expected.")
    data, labels = getattr(found[b"data"], "values", None), found[key]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072:
        seen = f"shape {data.shape}" if isinstance(data, np.ndarray) else type(found[b"data"]).__name__
        raise ValueError(f"folder: {path} has {b'data'} of {seen}; an array (samples, 3072) is expected.")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise ValueError(f"folder: {path} has {key} that are no list of integers from 0 to {classes - 1}.")
    if len(labels) != len(data):
        raise ValueError(f"folder: {path} has {len(data)} images and {len(labels)} labels.")
    return data, np.asarray(labels)
