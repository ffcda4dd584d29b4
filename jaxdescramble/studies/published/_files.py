"""Read the arrays of published networks from files that you have; refuse pickles."""

import importlib.util
import os
from pathlib import Path

import numpy as np

from jaxdescramble._base.checks import file_path
from jaxdescramble._base.inputs.arrays import stored
from jaxdescramble.findings.explanations import sources

PICKLES = (*sources.PICKLES, ".lz4", ".joblib")


def read(path: str | os.PathLike[str] | None, install: str) -> dict[str, np.ndarray]:
    """Return all arrays of a `.safetensors` or `.npz` file by name.

    Args:
        path: path of the file; None raises the error that says what to install.
        install: what to do if there is no file.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if there is no file, or if it is a pickle or not readable.

    >>> np.savez("net.npz", weight=np.ones((2, 3)))
    >>> read("net.npz", "")["weight"].shape
    (2, 3)
    """
    if path is None:
        raise ValueError(f"path: give a file. {install}")
    file = file_path(path, "path")
    if file.suffix.lower() in PICKLES:
        raise ValueError(f"path: {file} is a pickle, which can run any code when it is opened. {install}")
    if not file.is_file():
        raise ValueError(f"path: there is no file {file}. {install}")
    return {one.name: one.read() for one in stored(file)}


def wheel(package: str, inside: str, path: str | os.PathLike[str] | None, install: str) -> Path:
    """Return the path of a file of an installed wheel, without importing the wheel.

    Args:
        package: name of the package to look for if `path` is None.
        inside: path of the file inside the package.
        path: the file itself, the package's folder, or the folder that the wheel was installed into.
        install: what to do if there is no file.

    Raises:
        ValueError: if the file is not found.
    """
    if path is None:
        found = importlib.util.find_spec(package)
        places = [] if found is None else [Path(one) / inside for one in found.submodule_search_locations or ()]
        missing = f"the package {package} is not installed"
    else:
        root = file_path(path, "path")
        places = [root, root / inside, root / package / inside]
        missing = f"there is no {inside} in {root}"
    for place in places:
        if place.is_file():
            return place
    raise ValueError(f"path: {missing}. {install}")


def want(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int | None, ...]]) -> None:
    """Raise a `ValueError` that names every missing array and every wrong shape; None allows any size.

    >>> want({"a": np.ones((2, 3))}, {"a": (2, None)})
    >>> want({"a": np.ones((2, 3))}, {"a": (4, None), "b": (1,)})
    Traceback (most recent call last):
    ValueError: path: not the expected network: a has shape (2, 3), must be (4, any); b is missing.
    """
    wrong = []
    for name, shape in shapes.items():
        if name not in arrays:
            wrong.append(f"{name} is missing")
            continue
        own = arrays[name].shape
        if len(own) != len(shape) or any(n is not None and n != m for n, m in zip(shape, own, strict=True)):
            text = ", ".join("any" if n is None else str(n) for n in shape)
            wrong.append(f"{name} has shape {own}, must be ({text}{',' if len(shape) == 1 else ''})")
    if wrong:
        raise ValueError(f"path: not the expected network: {'; '.join(wrong)}.")
