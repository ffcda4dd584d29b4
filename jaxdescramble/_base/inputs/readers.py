"""Readers for each kind of file with named arrays: list its arrays, and read one."""

import contextlib
import errno
import functools
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib import format as npy

from jaxdescramble._base.extras import extra

Entry: TypeAlias = tuple[tuple[int, ...], np.dtype | str]
"""Shape and dtype of an array; a word instead of the dtype if the array cannot be read as numbers."""

KINDS = ".npz, .npy, .safetensors, an orbax checkpoint, or a folder of these"
TREE = "_METADATA"  # orbax writes this file into the folder of a tree of arrays
SAFETENSORS = {
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
}


def listed(source: Path) -> dict[str, Entry]:
    """Return shape and dtype by key; the dtype is a word if the array cannot be read as numbers."""
    if source.is_dir():
        names, leaves, _ = _tree(source)
        return {name: _leaf(leaf) for name, leaf in zip(names, leaves, strict=True)}
    listers = {".npy": _list_npy, ".npz": _list_npz, ".safetensors": _list_safetensors}
    if kind(source) not in listers:
        raise ValueError(
            f"{source}: unknown kind of file ({source.suffix or 'no suffix'}); expected {KINDS}. From PyTorch, "
            "write one with safetensors.torch.save_file(model.state_dict(), ...)."
        )
    with open(source, "rb") as file:
        return listers[kind(source)](source, file)


def read(source: Path, key: str, layer: int | None) -> np.ndarray:
    """Return one array, or one entry of its first axis, as it is in the file."""
    if source.is_dir():
        if layer is None:
            return _read_tree(source, key)
        return _kept(source, key, _stamp((source / TREE).stat()))[layer]
    # Open the file here for every reader: an error then names the file.
    with open(source, "rb") as file:
        if kind(source) == ".npy":
            return _read_npy(source, file, layer)
        if kind(source) == ".safetensors":
            with _safetensors(source) as opened:
                return opened.get_tensor(key) if layer is None else opened.get_slice(key)[layer]
        return _read_npz(file, key) if layer is None else _kept(source, key, _stamp(os.fstat(file.fileno())))[layer]


@functools.lru_cache(maxsize=1)
def _kept(source: Path, key: str, stamp: tuple[int, int]) -> np.ndarray:
    """Return the array of the last request for a slice, because these formats cannot be read in part."""
    if source.is_dir():
        return _read_tree(source, key)
    with open(source, "rb") as file:
        return _read_npz(file, key)


@runtime_checkable
class Readable(Protocol):
    """An open file, or a member of an open archive."""

    def read(self, size: int = -1, /) -> bytes: ...
    def tell(self) -> int: ...


def _list_npz(source: Path, file: IO[bytes]) -> dict[str, Entry]:
    found = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key in found:
                raise ValueError(f"two arrays are named {key!r}")
            if key == member.filename:
                found[key] = (), "a file of another kind"
                continue
            with archive.open(member) as opened:
                shape, _, dtype = _npy_header(opened, member.file_size)
            found[key] = shape, _plain(dtype)
    return found


def _read_npz(file: IO[bytes], key: str) -> np.ndarray:
    with zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as opened:
        array = npy.read_array(opened, allow_pickle=False)
        # zipfile compares the checksum only at the end of the file, so read up to the end.
        if opened.read(1):
            raise ValueError("there are more bytes than the array needs")
        return array


def _list_npy(source: Path, file: IO[bytes]) -> dict[str, Entry]:
    shape, _, dtype = _npy_header(file, os.fstat(file.fileno()).st_size)
    return {"": (shape, _plain(dtype))}


def _read_npy(source: Path, file: IO[bytes], layer: int | None) -> np.ndarray:
    shape, order, dtype = _npy_header(file, os.fstat(file.fileno()).st_size)
    if 0 in shape:  # nothing to map
        return np.zeros(shape if layer is None else shape[1:], dtype)
    mapped = np.memmap(file, dtype, "r", file.tell(), shape, order)
    return np.array(mapped if layer is None else mapped[layer])


def _npy_header(file: Readable, size: int) -> tuple[tuple[int, ...], Literal["F", "C"], np.dtype]:
    """Return shape, order and dtype, leave the file at the first number, and check the number of bytes that follow."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"version {version} of the .npy format is not supported")
    # Version 3 differs only in the names of fields, which are not used.
    shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    needed, left = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or (needed != left and not dtype.hasobject):
        raise ValueError(f"{dtype.name} of shape {shape} needs {needed} bytes, but there are {left}")
    return shape, "F" if fortran else "C", dtype


def _plain(dtype: np.dtype) -> np.dtype | str:
    return "pickled objects" if dtype.hasobject else dtype


def _list_safetensors(source: Path, file: IO[bytes]) -> dict[str, Entry]:
    found = {}
    with _safetensors(source) as opened:
        for key in opened.keys():  # noqa: SIM118
            here = opened.get_slice(key)
            name = SAFETENSORS.get(here.get_dtype())
            found[key] = tuple(here.get_shape()), jnp.dtype(name) if name else here.get_dtype()
    return found


def _safetensors(source: Path) -> Any:
    module = extra("safetensors", f"{source}: reading it needs safetensors", group="files")
    return module.safe_open(source, framework="np")


def _tree(source: Path) -> tuple[list[str], list[Any], object]:
    """Return names and metadata of a checkpoint's leaves, and the structure of their tree."""
    orbax = extra("orbax.checkpoint", f"{source}: reading this checkpoint needs orbax-checkpoint", group="files")
    with orbax.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.metadata(source.absolute()).item_metadata
    if found is None:
        raise ValueError("orbax finds no tree of arrays here")
    leaves, structure = jax.tree_util.tree_flatten_with_path(found.tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    if len(set(names)) < len(names):
        raise ValueError(f"two arrays of the tree have the same name, among {sorted(names)}")
    return names, [leaf for _, leaf in leaves], structure


def _leaf(metadata: Any) -> Entry:
    dtype = getattr(metadata, "dtype", None)
    return (tuple(metadata.shape), np.dtype(dtype)) if dtype is not None else ((), "text")


def _read_tree(source: Path, key: str) -> np.ndarray:
    """Return one leaf of a checkpoint without reading the others."""
    orbax = extra("orbax.checkpoint", f"{source}: reading this checkpoint needs orbax-checkpoint", group="files")
    names, _, structure = _tree(source)
    if key not in names:
        raise ValueError(f"none of the {len(names)} arrays has this name")
    wanted = jax.tree.unflatten(structure, [0 if name == key else orbax.PLACEHOLDER for name in names])
    how = jax.tree.map(lambda _: orbax.RestoreArgs(restore_type=np.ndarray), wanted)
    with orbax.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(source.absolute(), args=orbax.args.PyTreeRestore(item=wanted, restore_args=how))
    return np.asarray(jax.tree.leaves(tree)[names.index(key)])


@contextlib.contextmanager
def named(place: str, path: str) -> Iterator[None]:
    """Turn every error of a reader about a damaged file into a `ValueError` that names the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            error.filename = error.filename or path
            raise
        said = " ".join(str(error).split())[:300]
        if said.startswith(path):
            raise
        raise ValueError(
            f"{place}: cannot be read ({type(error).__name__}: {said}); it is damaged or incomplete. Write it again, "
            "or leave it out."
        ) from error


def kind(path: str | Path) -> str:
    return Path(path).suffix.lower()


def _stamp(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, found.st_size
