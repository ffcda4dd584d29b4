"""Shared parts of all results: a short `repr`, a picture in notebooks, plain values, files with a format version.

If your result is a dataclass, inherit from `Result`, or from `Stored` if it can be saved:

    @dataclasses.dataclass(frozen=True, repr=False)
    class Answer(Stored): ...

A named tuple cannot inherit. Assign the functions of this module as its methods:

    class Pair(NamedTuple):
        one: Array
        other: Array

        __repr__ = results.describe
        _repr_html_ = results.page
        to_dict = results.to_dict

All of this works on batches. It also works on traced results inside `jit`, where only shapes are known.
"""

import dataclasses
import enum
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping
from html import escape
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.checks import file_path, is_traced
from jaxdescramble._base.drawing import heat_map, lines
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.status import Status

LONGEST = 280
"""Largest number of characters of a `repr`."""

FORMAT = 1
"""Version of the files that `Stored.save` writes."""

DRAWN = ("point", "map", "weight", "images", "value", "values")
"""Fields that a picture shows, the first choice first. Without them, it shows the first matrix or vector."""

Kept = TypeVar("Kept", bound="Stored")
Built = TypeVar("Built")


@runtime_checkable
class WithShape(Protocol):
    """An array, traced or not, or a description of one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


class Result:
    """Base class of results that are dataclasses."""

    __slots__ = ()

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        return page(self)

    def to_dict(self) -> dict[str, object]:
        """Return the content as plain Python values and NumPy arrays.

        Raises:
            TypeError: if you call it inside `jit`, where numbers are not known yet.
        """
        return to_dict(self)


class Stored(Result):
    """Base class of results that can be saved: dataclasses of arrays, numbers, texts and other results."""

    __slots__ = ()
    format: ClassVar[int] = FORMAT

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file. An old file of this name stays whole until the new one is complete.

        Raises:
            TypeError: if `path` is not a path, or the result is traced.
            OSError: if the file cannot be written (no such folder, a full disk).
        """
        write(path, self, type(self).__name__, self.format)

    @classmethod
    def load(cls: type[Kept], path: str | os.PathLike[str]) -> Kept:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: if the file does not exist.
            TypeError: if `path` is not a path.
            ValueError: if the file is not a whole file of this class, or has another version.
        """
        return built(cls, read(path, cls.__name__, cls.format))


def write(path: str | os.PathLike[str], result: object, kind: str, version: int = FORMAT) -> None:
    """Write a result, or a mapping of results, to a `.npz` file.

    The names in the file are the names of the fields, joined by "/". Arrays are stored as arrays, all else as JSON.

    Args:
        path: path of the file.
        result: a result or a mapping, as `to_dict` accepts it.
        kind: name of the class that can load it.
        version: version of the format.
    """
    leaves = dict(_leaves({name: _plain(value, name, True) for name, value in _fields(result)}))
    arrays = {name: value for name, value in leaves.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in leaves.items() if name not in arrays}
    header = json.dumps({"format": version, "kind": kind, "plain": plain})
    write_arrays(file_path(path, "path"), arrays | {"header": np.asarray(header)})


def read(path: str | os.PathLike[str], kind: str, version: int = FORMAT) -> dict[str, object]:
    """Read a file that `write` wrote. Return its arrays and plain values by names, joined by "/".

    Raises:
        FileNotFoundError: if the file does not exist.
        TypeError: if `path` is not a path.
        ValueError: if the file is not whole, or belongs to another class or version.

    >>> write("pair.npz", {"one": np.ones(2), "other": {"text": "b"}}, "Pair")
    >>> sorted(read("pair.npz", "Pair"))
    ['one', 'other/text']
    """
    path = file_path(path, "path")
    try:
        # Open the file here: NumPy does not close a file that it cannot read.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            content: dict[str, object] = {name: file[name] for name in file.files}
        header = json.loads(str(content.pop("header")))
        found, is_version, plain = header["kind"], header["format"], header.get("plain", {})
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy, zipfile and json raise different errors if a file is damaged
        raise ValueError(f"path: {path} is not a whole {kind} file ({error}); write it again with .save().") from error
    if found != kind:
        raise ValueError(f"path: {path} holds a {found}, not a {kind}; use its own load.")
    if is_version != version:
        raise ValueError(f"path: {path} has format {is_version!r}; this version reads format {version}.")
    return content | plain


def built(kind: type[Built], content: Mapping[str, object]) -> Built:
    """Build a result of a class from the content that `read` returned.

    >>> @dataclasses.dataclass
    ... class Answer:
    ...     value: float
    >>> built(Answer, {"value": 0.5})
    Answer(value=0.5)
    """
    hints = typing.get_type_hints(kind)
    values = {}
    for name in _names(kind):
        choices = _choices(hints[name])
        below = below_path(content, name)
        inner = next((one for one in choices if isinstance(one, type) and _has_fields(one)), None)
        if name in content:
            values[name] = _as_hinted(content[name], choices)
        elif below:
            values[name] = below if inner is None else built(inner, below)
    return kind(**values)


def below_path(content: Mapping[str, object], name: str) -> dict[str, object]:
    """Return the entries whose names begin with `name/`, without this beginning.

    >>> below_path({"a/b": 1, "c": 2}, "a")
    {'b': 1}
    """
    front = f"{name}/"
    return {key.removeprefix(front): value for key, value in content.items() if key.startswith(front)}


def _as_hinted(value: object, choices: list[object]) -> object:
    """Convert a value from a file to the type of its field: a tuple, a JAX array, or NumPy if the field says so."""
    if isinstance(value, np.ndarray):
        return value if any(getattr(one, "array_type", one) is np.ndarray for one in choices) else jnp.asarray(value)
    return tuple(value) if isinstance(value, list) and tuple in choices else value


def describe(self: object) -> str:
    """Return a `repr` of at most 300 characters. It shows numbers, and the dtypes and shapes of arrays.

    >>> @dataclasses.dataclass
    ... class Answer:
    ...     value: np.float32
    ...     point: jax.Array
    ...     status: int = 0
    >>> describe(Answer(np.float32(0.25), jnp.eye(3)))
    'Answer(value=0.25, point=float32[3,3], status=SOLVED)'
    """
    parts = [f"{name}={brief(value, name)}" for name, value in _fields(self)]
    name = type(self).__name__
    while sum(map(len, parts)) + 2 * len(parts) > LONGEST - len(name) and len(parts) > 1:
        parts[-2:] = ["…"]
    return f"{name}({', '.join(parts)})"


def brief(value: object, name: str = "") -> str:
    """Return a short text for a value. `name` is the name of its field.

    >>> brief(jnp.ones((2, 3))), brief(jnp.asarray([0, 0, 3]), "status"), brief({"a": 1})
    ('float32[2,3]', '2 SOLVED, 1 NOT_FINITE', '{1 entry}')
    """
    if value is None or isinstance(value, bool | int):
        return _status(np.asarray(value)) if name == "status" and isinstance(value, int) else repr(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:37]}...")
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, WithShape):
        return _array(value, name)
    if isinstance(value, Mapping):
        return f"{{{_counted(len(value))}}}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return f"[{_counted(len(value))}]"
    named = getattr(value, "name", None) or getattr(value, "__name__", None)
    return named if isinstance(named, str) else f"{type(value).__name__}(…)"


def to_dict(self: object) -> dict[str, object]:
    """Return the fields of a result as plain Python values and NumPy arrays; inner results become dictionaries.

    >>> @dataclasses.dataclass
    ... class Answer:
    ...     value: jax.Array
    ...     point: jax.Array
    >>> to_dict(Answer(jnp.asarray(0.25), jnp.eye(2)))["value"]
    0.25
    """
    return {name: _plain(value, name) for name, value in _fields(self)}


def page(self: object) -> str:
    """Return HTML for notebooks: a picture and a table of the fields.

    >>> @dataclasses.dataclass
    ... class Answer:
    ...     point: np.ndarray
    >>> html = page(Answer(np.eye(2)))
    >>> html.count("<svg"), "float64[2,2]" in html
    (1, True)
    """
    rows = [(name, brief(value, name)) for name, value in _fields(self)]
    return laid_out(type(self).__name__, pictures(self), rows)


def laid_out(title: str, drawn: str, rows: list[tuple[str, str]]) -> str:
    """Return HTML with a title, pictures and a table of names and values."""
    cells = "".join(
        f'<tr><th style="text-align:left;font-weight:normal;opacity:.7">{escape(name)}</th>'
        f'<td style="text-align:left"><code>{escape(text)}</code></td></tr>'
        for name, text in rows
    )
    return (
        f'<div style="display:flex;gap:1em;align-items:flex-start;flex-wrap:wrap"><div>{drawn}</div>'
        f"<div><strong>{escape(title)}</strong><table>{cells}</table></div></div>"
    )


def pictures(result: object) -> str:
    """Return an SVG picture of the most informative field of a result, or "" if no field has known numbers."""
    fields = dict(_fields(result))
    for name in (*DRAWN, *fields):
        array = concrete(fields.get(name))
        if array is not None and array.dtype.kind in "fiub" and array.size > 1:
            return picture(array, f"{type(result).__name__}.{name}")
    return ""


def picture(array: np.ndarray, title: str) -> str:
    """Return a heat map of a matrix, or a picture of a curve. If there are more axes, draw the first matrix.

    >>> picture(np.ones((2, 3, 3)), "P").count("aria-label")
    1
    """
    if array.ndim == 1:
        return lines(array, f"{title}, {array.size} numbers")
    first = array[(0,) * (array.ndim - 2)]
    which = f", first of {'x'.join(map(str, array.shape[:-2]))}" if array.ndim > 2 else ""
    return heat_map(first, f"{title}, {first.shape[0]} x {first.shape[1]}{which}")


def concrete(value: object) -> np.ndarray | None:
    """Return an array as a NumPy array, or None for anything whose numbers are not available on this host.

    >>> concrete(jnp.ones(2)).tolist(), concrete("text")
    ([1.0, 1.0], None)
    """
    if is_traced(value) or not isinstance(value, np.ndarray | np.generic | jax.Array):
        return None
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    if isinstance(value, jax.Array) and (value.is_deleted() or not value.is_fully_addressable):
        return None
    found = np.asarray(value)
    # Most of NumPy does not support bfloat16 and similar types.
    return found.astype(np.float32) if found.dtype.kind == "V" and jnp.issubdtype(found.dtype, jnp.floating) else found


def _fields(result: object) -> Iterator[tuple[str, object]]:
    if isinstance(result, Mapping):
        return ((str(name), value) for name, value in result.items())
    # A field may be missing while JAX builds the object, or if a test replaces it.
    return ((name, getattr(result, name, None)) for name in _names(result))


def _names(result: object) -> list[str]:
    """Return the names of the fields of a named tuple or a dataclass; `result` may also be the class."""
    named: tuple[str, ...] | None = getattr(result, "_fields", None)
    if named is not None:
        return list(named)
    if not dataclasses.is_dataclass(result):
        raise TypeError(f"result: expected a dataclass, a named tuple or a mapping, got {type(result).__name__}.")
    return [one.name for one in dataclasses.fields(result)]


def _array(value: WithShape, name: str) -> str:
    found = concrete(value)
    if found is not None and name == "status" and found.size:
        return _status(found)
    if found is not None and found.size == 1 and found.ndim == 0:
        return f"{found.item():.6g}" if found.dtype.kind == "f" else repr(found.item())
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _status(codes: np.ndarray) -> str:
    known = {int(member): member.name for member in Status} | {-1: "PENDING"}
    found, counts = np.unique(codes, return_counts=True)
    names = [known.get(int(code), str(code)) for code in found]
    if codes.ndim == 0:
        return names[0]
    return ", ".join(f"{count} {name}" for count, name in zip(counts, names, strict=True))


def _counted(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


def _plain(value: object, name: str, whole: bool = False) -> object:
    """Return plain Python and NumPy values. Arrays without axes become numbers, except if `whole` is true."""
    if is_traced(value):
        raise TypeError(f"to_dict: {name} is traced and has no numbers yet; call to_dict outside jit, on the result.")
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | int | float | complex | str):
        return value
    if isinstance(value, WithShape):
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        found = np.asarray(value)
        return found.item() if found.ndim == 0 and not whole else found
    if isinstance(value, Mapping):
        return {str(key): _plain(one, f"{name}[{key!r}]", whole) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_plain(one, f"{name}[{place}]", whole) for place, one in enumerate(value)]
    if hasattr(value, "_fields") or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        # Add the class of solvers, objectives and operators: it says more than their numbers.
        kind = {} if isinstance(value, Result | tuple) else {"kind": type(value).__name__}
        return kind | {key: _plain(one, f"{name}.{key}", whole) for key, one in _fields(value)}
    return getattr(value, "__qualname__", None) or type(value).__name__


def _leaves(tree: Mapping[str, object], front: str = "") -> Iterator[tuple[str, object]]:
    """Yield arrays and plain values with their names, joined by "/", in the order of the fields."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{front}{name}/")
        else:
            yield f"{front}{name}", value


def _choices(hint: object) -> list[object]:
    """Return the types that an annotation allows, without their parameters."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [one for part in typing.get_args(hint) for one in _choices(part)]
    return [typing.get_origin(hint) or hint]


def _has_fields(kind: type) -> bool:
    """Return whether a class is a named tuple or a `Stored`."""
    return hasattr(kind, "_fields") or issubclass(kind, Stored)
