"""Long experiments in parts, each kept in a file of its own when it is finished, and not done again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdescramble._base.files import write_arrays, write_atomically

Made = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]


def plain(value: Any) -> Any:
    """What a value is after JSON: tuples become lists, keys strings."""
    return json.loads(json.dumps(value))


def place(folder: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """The file of a part, without its suffix. Parts of other settings have other names, and leave each other alone.

    >>> place(Path("."), "part", {"terms": 2}) == place(Path("."), "part", {"terms": 3})
    False
    """
    digest = hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:8]}"


def kept(folder: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """A part that is there, whole and of these settings; None if it has to be made.

    >>> kept(Path("nowhere"), "part", {}) is None
    True
    """
    path = place(folder, name, settings)
    try:
        found = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return None
    same = isinstance(found, dict) and found.get("settings") == plain(settings)
    return found if same and path.with_suffix(".npz").exists() else None


def part(folder: Path, name: str, settings: Mapping[str, Any], make: Callable[[], Made]) -> dict[str, Any]:
    """A part of an experiment, from its files if they are there, else made and kept as `.npz` and, last, `.json`.

    Args:
        folder: where parts are kept.
        name: of the part.
        settings: all that it depends on; a part of other settings is made anew.
        make: gives its numbers, ready for JSON, and its arrays.

    Raises:
        OSError: it could not be written; what was there stays.

    >>> part(Path("."), "sum", {"terms": 2}, lambda: ({"value": 1 + 1}, {}))["value"]
    2
    >>> part(Path("."), "sum", {"terms": 2}, lambda: 1 / 0)["value"]
    2
    """
    found = kept(folder, name, settings)
    if found is None:
        path = place(folder, name, settings)
        numbers, arrays = make()
        found = plain({"settings": settings, **numbers})
        write_arrays(path.with_suffix(".npz"), arrays)
        text = json.dumps(found, indent=1) + "\n"
        write_atomically(path.with_suffix(".json"), lambda file: file.write(text.encode()))
    return found
