"""List the weights and signals in files without loading them, and load one array at a time."""

import dataclasses
import errno
import os
import re
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.files import array_digest
from jaxdescramble._base.inputs import readers

# Other files that orbax writes beside a tree of arrays, and the folder's name before the checkpoint is complete.
OTHER_PARTS, UNFINISHED = {"manifest.ocdbt", "array_metadatas", "_sharding"}, ".orbax-checkpoint-tmp"
UNREADABLE = "unreadable"


@dataclasses.dataclass(frozen=True)
class Stored:
    """One array of a file, or one slice of it, not loaded yet.

    Attributes:
        path: the file, or the folder of an orbax checkpoint.
        name: name, unique among the arrays of one call of `stored`.
        shape: shape of the result of `read`.
        dtype: dtype of the result of `read`. Half precision is widened to float32, which loses nothing. "unreadable"
            means that `read` raises: pickled objects, text, dtypes that NumPy does not support.
        stored_dtype: name of the dtype in the file.
        key: name of the array in the file.
        layer: index of the slice along the first axis; None means the whole array.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    stored_dtype: str
    key: str
    layer: int | None = None

    def read(self) -> np.ndarray:
        """Load the array into memory, in this machine's byte order.

        Raises:
            FileNotFoundError: if the file is gone.
            OSError: if the file cannot be read; `filename` names it.
            ValueError: if the array is damaged, has changed since it was listed, or is unreadable.
            ImportError: if the extra `files` is needed and not installed.
        """
        if self.dtype == UNREADABLE:
            raise ValueError(
                f"{self._place}: holds {self.stored_dtype}, which cannot be read (pickled objects could run any code, "
                "and NumPy does not support every dtype). Save it as an array of float32."
            )
        with readers.named(self._place, self.path):
            array = readers.read(Path(self.path), self.key, self.layer)
        if array.shape != self.shape or array.dtype.name != self.stored_dtype:
            raise ValueError(
                f"{self._place}: was {self.stored_dtype} {self.shape} when it was listed, but is {array.dtype.name} "
                f"{array.shape} now; list the file again when nothing writes to it any more."
            )
        return np.array(array, dtype=_widened(array.dtype), order="C")

    def digest(self) -> str:
        """Return the SHA-256 digest of dtype, shape and bytes, in hexadecimal. Raise the errors of `read`."""
        return array_digest(self.read())

    @property
    def _place(self) -> str:
        return f"{self.path}, array {self.key!r}" if self.key else self.path


def stored(path: str | os.PathLike) -> list[Stored]:
    """List the arrays of a file or a folder; read only headers.

    The list has every array, whatever its dtype and number of axes, so that a caller can report what it leaves out.
    Names are those in the file, `a/b/c` in trees. In a folder, the path of the file without suffix comes first. The
    order is natural: `layer_2` before `layer_10`.

    Args:
        path: a `.npz`, `.npy` or `.safetensors` file, an orbax checkpoint, or a folder of these, with its subfolders.
            In a folder, hidden files, other kinds of files and unfinished orbax checkpoints are ignored.

    Returns:
        One `Stored` for each array.

    Raises:
        FileNotFoundError: if nothing exists at `path`.
        OSError: if a file cannot be read; `filename` names it.
        ValueError: if the file is of another kind, empty, damaged, or has two arrays of the same name.
        ImportError: if the extra `files` is needed and not installed.

    >>> np.savez("net.npz", encode=np.ones((3, 4)), steps=np.array(7))
    >>> [(one.name, one.shape, one.dtype) for one in stored("net.npz")]
    [('encode', (3, 4), 'float64'), ('steps', (), 'int64')]
    >>> stored("net.npz")[0].read().sum()
    np.float64(12.0)
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(errno.ENOENT, f"no such file or folder; expected {readers.KINDS}", str(path))
    sources = _sources(root) if root.is_dir() else [root]
    # Files whose names differ only in the suffix keep it in the names of their arrays.
    stems = Counter(source.with_suffix("") for source in sources)
    found = []
    for source in sources:
        with readers.named(str(source), str(source)):
            listed = readers.listed(source)
        if source == root:
            prefix = "" if any(listed) or source.is_dir() else source.stem
        else:
            short = source if source.is_dir() or stems[source.with_suffix("")] > 1 else source.with_suffix("")
            prefix = short.relative_to(root).as_posix()
        for key, (shape, dtype) in listed.items():
            label, given = (dtype, UNREADABLE) if isinstance(dtype, str) else (dtype.name, _widened(dtype).name)
            name = "/".join(part for part in (prefix, key) if part)
            found.append(Stored(str(source), name, tuple(int(n) for n in shape), given, label, key))
    if not found:
        raise ValueError(f"{path}: contains no arrays; write some into it.")
    twice = [name for name, times in Counter(one.name for one in found).items() if times > 1]
    if twice:
        raise ValueError(f"{path}: several arrays are named {twice[0]!r}; give each a different name.")
    return sorted(found, key=lambda one: _natural(one.name))


def layers(one: Stored) -> list[Stored]:
    """Return the slices of an array (layers, features, samples), to be read one by one; a matrix is its only layer.

    From `.npy` and `.safetensors` files, only the slice is read. For other kinds, the last array stays in memory.

    Args:
        one: a floating-point array with two or three axes.

    Raises:
        ValueError: if the dtype or the number of axes is different.

    >>> np.save("signals.npy", np.zeros((2, 3, 4)))
    >>> [(layer.name, layer.shape) for layer in layers(stored("signals.npy")[0])]
    [('signals[0]', (3, 4)), ('signals[1]', (3, 4))]
    """
    if not one.dtype.startswith("float") or len(one.shape) not in (2, 3):
        raise ValueError(
            f"{one._place}: got {one.stored_dtype} {one.shape}; must be floating-point numbers (features, samples) or "
            "(layers, features, samples)."
        )
    if len(one.shape) == 2:
        return [one]
    return [
        dataclasses.replace(one, name=f"{one.name}[{k}]", shape=one.shape[1:], layer=k) for k in range(one.shape[0])
    ]


def _sources(root: Path) -> list[Path]:
    """Return the files, and the folders of checkpoints, to list."""

    def refuse(error: OSError):
        raise error

    if UNFINISHED in root.absolute().name:
        raise ValueError(f"{root}: orbax was interrupted while it wrote this checkpoint; use an earlier one.")
    found, others = [], []
    # os.walk reports folders that cannot be read; rglob skips them silently.
    for where, folders, files in os.walk(root, onerror=refuse):
        if readers.TREE in files:
            found.append(Path(where))
            folders.clear()
            continue
        if OTHER_PARTS & {*files, *folders}:
            raise ValueError(
                f"{where}: an orbax checkpoint without {readers.TREE}; it is damaged, or is not a tree of arrays."
            )
        folders[:] = [name for name in folders if not name.startswith(".") and UNFINISHED not in name]
        for name in files:
            if not name.startswith("."):
                (found if readers.kind(name) in (".npz", ".npy", ".safetensors") else others).append(Path(where, name))
    if not found:
        seen = ", ".join(sorted(path.name for path in others)[:5]) or "nothing"
        raise ValueError(f"{root}: no arrays in this folder; expected {readers.KINDS}, found {seen}.")
    return sorted(found, key=lambda path: _natural(path.as_posix()))


def _widened(dtype: np.dtype) -> np.dtype:
    """Return float32 for a floating type of fewer bits; otherwise the type itself in this machine's byte order."""
    small = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return np.dtype(np.float32) if small else dtype.newbyteorder("=")


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
