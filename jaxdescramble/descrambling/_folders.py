"""Save several descramblings in one folder: a file for each, and a table of contents, which is written last."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdescramble._base.checks import file_path
from jaxdescramble._base.files import write_arrays, write_atomically
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.objectives import Objective

FORMAT = 1
CONTENTS = "contents.json"


def save_items(
    folder: str | os.PathLike[str],
    kind: str,
    items: Mapping[str, Descrambling],
    about: Mapping[str, object],
    arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Path:
    """Write descramblings into a folder, each into the file `<name>.npz`.

    The old table of contents is deleted first and the new one is written last: a folder that was written in part cannot
    be loaded.

    Args:
        folder: path of the folder, which is created if it is missing.
        kind: name of the class that can load it.
        items: the descramblings by name of file.
        about: plain values that go into the table of contents.
        arrays: further files of arrays, by name of file.
    """
    place = file_path(folder, "folder")
    (place / CONTENTS).unlink(missing_ok=True)
    for name, one in items.items():
        one.save(place / f"{name}.npz")
    for name, some in (arrays or {}).items():
        write_arrays(place / name, some)
    text = json.dumps({"format": FORMAT, "kind": kind, "items": list(items), "about": about}, indent=1)
    write_atomically(place / CONTENTS, lambda file: file.write(text.encode()))
    return place


def load_items(
    folder: str | os.PathLike[str], kind: str, objective: Objective | None
) -> tuple[dict[str, Descrambling], dict[str, Any]]:
    """Read what `save_items` wrote: the descramblings by name of file, and `about`.

    Raises:
        FileNotFoundError: if the folder or its table of contents is missing.
        ValueError: if the folder holds another class or another version, or a file is damaged.
    """
    place = file_path(folder, "folder")
    text = (place / CONTENTS).read_text()
    try:
        content = json.loads(text)
        found, version = content["kind"], content["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"folder: {place / CONTENTS} is damaged ({error}); write it again with .save().") from error
    if found != kind:
        raise ValueError(f"folder: {place} holds a {found}, not a {kind}; use its own load.")
    if version != FORMAT:
        raise ValueError(f"folder: {place} has format {version!r}; this version reads format {FORMAT}.")
    return {name: Descrambling.load(place / f"{name}.npz", objective) for name in content["items"]}, content["about"]
