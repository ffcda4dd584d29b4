"""Points that are pytrees, in files: arrays by name, and the structure of tuples, lists and dicts as text."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def taken_apart(point: PyTree) -> tuple[dict[str, Any], str]:
    """Return the leaves of a point by name, and its structure as text.

    The name of a leaf has the keys and places on its way, joined by "/".

    Raises:
        TypeError: if a container is not a tuple, list or dict, a key is not text, or two names are the same.

    >>> taken_apart({"turns": (1.0, 2.0)})
    ({'turns/0': array(1.), 'turns/1': array(2.)}, '{"turns": ["tuple", "leaf", "leaf"]}')
    """
    leaves: dict[str, Any] = {}
    structure = _described(point, (), leaves)
    return leaves, json.dumps(structure)


def put_together(leaves: Mapping[str, object], structure: str) -> PyTree:
    """Return the point that `taken_apart` took apart, with JAX arrays as leaves.

    >>> put_together({"turns/0": 1.0, "turns/1": 2.0}, '{"turns": ["tuple", "leaf", "leaf"]}')["turns"][1].shape
    ()
    """
    return _rebuilt(json.loads(structure), (), leaves)


def nested(leaves: Mapping[str, object]) -> dict[str, Any]:
    """Return the dict of a file without a structure, as versions before 0.2 wrote it, with JAX arrays as leaves.

    >>> sorted(nested({"turn": 1.0, "more/shift": 2.0})["more"])
    ['shift']
    """
    found: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *way, last = name.split("/")
        inner = found
        for key in way:
            inner = inner.setdefault(key, {})
        inner[last] = jnp.asarray(leaf)
    return found


def _described(part: Any, way: tuple[str, ...], leaves: dict[str, Any]) -> object:
    if type(part) is dict:
        strange = [key for key in part if not isinstance(key, str)]
        if strange:
            raise TypeError(f"point: cannot save a dict with the key {strange[0]!r}; keys must be text.")
        return {key: _described(one, (*way, key), leaves) for key, one in part.items()}
    if type(part) in (tuple, list):
        return [type(part).__name__, *(_described(one, (*way, str(k)), leaves) for k, one in enumerate(part))]
    if part is None:
        return None
    part = np.asarray(part) if isinstance(part, bool | int | float | complex) else part
    if not isinstance(part, np.ndarray | np.generic | jax.Array):
        raise TypeError(
            f"point: cannot save a {type(part).__name__}, only tuples, lists, dicts and arrays. Save a copy with "
            "dataclasses.replace(found, point=...)."
        )
    name = "/".join(way)
    if name in leaves:
        raise TypeError(f"point: two entries have the name {name!r} in the file; use keys without '/'.")
    leaves[name] = part
    return "leaf"


def _rebuilt(structure: Any, way: tuple[str, ...], leaves: Mapping[str, object]) -> PyTree:
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {key: _rebuilt(one, (*way, key), leaves) for key, one in structure.items()}
    if isinstance(structure, list):
        parts = [_rebuilt(one, (*way, str(k)), leaves) for k, one in enumerate(structure[1:])]
        return tuple(parts) if structure[0] == "tuple" else parts
    return jnp.asarray(leaves["/".join(way)])
