"""Run a long experiment in parts; write each finished part to its own file, and never repeat it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from jaxdescramble._base.files import write_arrays, write_atomically

Json: TypeAlias = dict[str, Any]
"""An object as JSON stores it."""

Made = tuple[Mapping[str, object], Mapping[str, np.ndarray]]


def plain(value: Mapping[str, object]) -> Json:
    """Return what JSON makes of a mapping: tuples become lists, and keys become strings."""
    return json.loads(json.dumps(value))


def place(folder: Path, name: str, settings: Mapping[str, object]) -> Path:
    """Return the path of a part, without suffix. The name depends on the settings, so parts never overwrite others.

    >>> place(Path("."), "part", {"terms": 2}) == place(Path("."), "part", {"terms": 3})
    False
    """
    digest = hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:8]}"


def kept(folder: Path, name: str, settings: Mapping[str, object]) -> Json | None:
    """Return a finished part with exactly these settings, or None if there is no such part.

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


def part(folder: Path, name: str, settings: Mapping[str, object], make: Callable[[], Made]) -> Json:
    """Return a part of an experiment: read it if it is finished, otherwise compute and save it.

    The arrays go into an `.npz` file first; the `.json` file comes last and marks the part as finished.

    Args:
        folder: folder of the parts.
        name: name of the part.
        settings: everything that the part depends on; other settings give another part.
        make: function that computes the numbers (ready for JSON) and the arrays.

    Raises:
        OSError: if the part cannot be written; existing files do not change.

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
