"""Readers of well-known sets of pictures from folders that you have: MNIST and sets in its format, CIFAR-10, CIFAR-100.

The files of CIFAR are pickles, and a pickle can ask to call any function. These readers give it only two stand-ins that
hold bytes. So a pickle can run no code, neither NumPy's nor anybody else's.
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

import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.checks import file_path, one_of
from jaxdescramble.datasets.pictures import Pictures

PARTS = ("train", "test")


def mnist(folder: str | os.PathLike, part: str = "train") -> Pictures:
    """Read MNIST, or Fashion-MNIST, KMNIST and others in the same IDX files: bytes, divided by 255.

    Args:
        folder: folder with `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, or `t10k-...`. A dot before `idx`
            and compressed files (`.gz`) are allowed too.
        part: "train" or "test".

    Returns:
        `Pictures` of shape (samples, height, width, 1), float32.

    Raises:
        TypeError: if `folder` is not a path.
        ValueError: if the part is unknown, a folder or file is missing, damaged or of another format, or the numbers
            of images and labels differ.

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
    """Read CIFAR-10 in its "python version": bytes, divided by 255.

    Args:
        folder: the folder `cifar-10-batches-py`, or the folder that contains it.
        part: "train" (five files) or "test".

    Returns:
        `Pictures` of shape (samples, 32, 32, 3), float32.

    Raises:
        TypeError: if `folder` is not a path.
        ValueError: if the part is unknown, or a folder or file is missing, damaged, of another format, or asks for more
            than bytes and lists.

    >>> cifar10("nowhere", "test")
    Traceback (most recent call last):
    ValueError: folder: there is no folder nowhere; give one that has test_batch.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    train = one_of(part, "part", PARTS) == "train"
    names = [f"data_batch_{number}" for number in range(1, 6)] if train else ["test_batch"]
    return _cifar(file_path(folder, "folder"), "cifar-10-batches-py", names, b"labels", 10)


def cifar100(folder: str | os.PathLike, part: str = "train") -> Pictures:
    """Read CIFAR-100 in its "python version", with its hundred fine labels: bytes, divided by 255.

    Args:
        folder: the folder `cifar-100-python`, or the folder that contains it.
        part: "train" or "test".

    Returns:
        `Pictures` of shape (samples, 32, 32, 3), float32.

    Raises:
        TypeError: if `folder` is not a path.
        ValueError: if the part is unknown, or a folder or file is missing, damaged, of another format, or asks for more
            than bytes and lists.

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
    # NumPy divides exactly; XLA would multiply by a rounded 1/255.
    return Pictures(jnp.asarray(images / np.float32(255)), jnp.asarray(labels, int))


def _find(folders: Sequence[Path], names: Sequence[str]) -> Path:
    if not folders[0].is_dir():
        raise ValueError(f"folder: there is no folder {folders[0]}; give one that has {names[0]}.")
    for path in (folder / name for folder in folders for name in names):
        if path.is_file():
            return path
    places = " or ".join(str(folder) for folder in folders)
    raise ValueError(f"folder: there is no file {' or '.join(names)} in {places}; give the folder that has it.")


def _idx(path: Path, axes: int) -> np.ndarray:
    """Return the array of bytes in an IDX file: `00 00 08 axes`, the sizes as big-endian 32-bit numbers, the bytes."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":  # test the content, because browsers unpack files without renaming them
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
            f"folder: {path} is truncated or damaged: it has {len(content)} bytes, but its header announces "
            f"{' x '.join(map(str, sizes))}, which needs {needed}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(sizes)


class _Dtype:
    """A stand-in for `numpy.dtype`; pictures need only the type of bytes."""

    def __init__(self, name: object, *rest: object):
        if name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"it holds numbers of type {name!r}; must be bytes, 'u1'")

    def __setstate__(self, state: object) -> None:
        pass  # bytes have no byte order, and no other state


class _Array:
    """A stand-in for `numpy.ndarray`, created where the pickle calls NumPy's `_reconstruct`."""

    values: np.ndarray | None = None

    def __init__(self, *rest: object):
        pass  # ignore the class, shape and type of the array before its state is set

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("it holds an array that is not made of bytes")
        self.values = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


# A pickle cannot change what it finds here: the classes set their own state, and text has no state.
ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> object:
        if (module_name, global_name) not in ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which no original file of CIFAR does; it may be harmful"
            )
        return ADMITTED[module_name, global_name]


def _batch(path: Path, key: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of 3 x 32 x 32 bytes, and their labels."""
    content = path.read_bytes()
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise almost any error
        raise ValueError(f"folder: {path}, of {len(content)} bytes, cannot be read ({error}).") from error
    if not isinstance(found, dict) or not {b"data", key} <= found.keys():
        seen = reprlib.repr(list(found)) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"folder: {path} holds {seen}; must be a dictionary with {b'data'} and {key}.")
    data, labels = getattr(found[b"data"], "values", None), found[key]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072:
        seen = f"shape {data.shape}" if isinstance(data, np.ndarray) else type(found[b"data"]).__name__
        raise ValueError(f"folder: {path} has {b'data'} of {seen}; must be an array (samples, 3072).")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < classes for label in labels):
        raise ValueError(f"folder: {path} has wrong labels {key}; must be a list of integers from 0 to {classes - 1}.")
    if len(labels) != len(data):
        raise ValueError(f"folder: {path} has {len(data)} images but {len(labels)} labels.")
    return data, np.asarray(labels)
