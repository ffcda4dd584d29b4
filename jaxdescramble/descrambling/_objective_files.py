"""Objectives in the files of results: as arrays and plain values, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble import objectives
from jaxdescramble.objectives import Objective
from jaxdescramble.objectives.summaries import SUMMARIES
from jaxdescramble.operators import from_matrix


def written(objective: Objective) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Return an objective as arrays (its data, by field name) and as a header (its class, settings and summary).

    >>> written(objectives.smoothness(order=1))[1]["settings"]["order"]
    1
    """
    arrays: dict[str, np.ndarray] = {}
    settings: dict[str, object] = {}
    for field in dataclasses.fields(objective):
        value = getattr(objective, field.name)
        if field.metadata.get("static"):
            settings[field.name] = value
        elif value is not None:
            kind = "operator" if hasattr(value, "matrix") else "parameter"
            arrays[f"{kind}:{field.name}"] = np.asarray(getattr(value, "matrix", value), _type_of(value))
    settings.pop("summary", None)
    kind, summary = type(objective), objective.summary.__name__.lower()
    ours = getattr(objectives, kind.__name__, None) is kind
    name = kind.__name__ if ours else f"{kind.__module__}.{kind.__qualname__}"
    return arrays, {"objective": name, "settings": settings, "summary": summary}


def _type_of(value: object) -> type | None:
    """Return None for an array or number, and `object` for containers, so that NumPy does not turn them into arrays."""
    return object if isinstance(value, tuple | list | dict) else None


def objective_named(header: Mapping[str, Any], data: Mapping[str, np.ndarray], path: str) -> Objective:
    """Return the objective that `written` described.

    Raises:
        ValueError: if it is not one of `jaxdescramble.objectives`, or its data are not those of its class.
    """
    name = header["objective"]
    kind = getattr(objectives, name, None) if name else None
    try:
        if not (isinstance(kind, type) and issubclass(kind, Objective)):
            raise TypeError(f"{name or '(unnamed)'!r} is not one of jaxdescramble.objectives")
        fields = {one: tuple(value) if isinstance(value, list) else value for one, value in header["settings"].items()}
        for key, value in data.items():
            prefix, _, one = key.partition(":")
            fields[one] = from_matrix(jnp.asarray(value)) if prefix == "operator" else _number_or_array(value)
        if any(field.name == "summary" for field in dataclasses.fields(kind)):
            fields["summary"] = SUMMARIES[header["summary"]]
        return kind(**fields)
    except TypeError as error:
        raise ValueError(
            f"{path}: its objective has to be given ({error}); pass it as load(path, objective=...)."
        ) from error


def _number_or_array(value: np.ndarray) -> float | Array:
    """Return an array without axes as a number, so that the loaded objective equals the saved one."""
    return value.item() if value.ndim == 0 else jnp.asarray(value)
