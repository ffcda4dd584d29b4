"""Descriptions of values that are the same in every process. The identity of a sweep is a hash of them."""

import dataclasses
import functools
import hashlib
import inspect
import json
import types
from collections.abc import Callable, Mapping

import jax
import numpy as np

from jaxdescramble._base.files import array_digest

PACKAGE = __name__.split(".")[0]


def digest(value: object) -> str:
    """Return the SHA-256 of `described(value)`, in hexadecimal digits.

    >>> digest({"a": 1.0, "b": (1, 2)}) == digest({"b": (1, 2), "a": 1.0})
    True
    >>> digest(1.0) == digest(1)
    False
    """
    return hashlib.sha256(json.dumps(described(value), sort_keys=True).encode()).hexdigest()


def described(value: object) -> object:
    """Describe a value as JSON: the same in every process, and different for values that compute something different.

    Numbers are described to the last bit. Arrays are described by their digest; dataclasses by their class and fields;
    functions and classes of known packages by their name; a user's functions by name, code, defaults and closed-over
    values; a user's dataclasses by their methods too. The functions that a user's function calls are not included.

    Args:
        value: a number, text, array, random key, function, dataclass (objective, solver), or a container of these.

    Raises:
        TypeError: if the value has no description that is the same in every process.

    >>> described(0.5)
    ['float', '0x1.0000000000000p-1']
    >>> described(max)
    ['function', 'builtins.max']
    """
    return _described(value, ())


def _described(value: object, inside: tuple[int, ...]) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return ["int", str(int(value))]
    if isinstance(value, float):
        return ["float", float(value).hex()]
    if id(value) in inside:
        return ["again", inside.index(id(value))]
    deeper = functools.partial(_described, inside=(*inside, id(value)))
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return ["key", str(jax.random.key_impl(value)), array_digest(np.asarray(jax.random.key_data(value)))]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if np.asarray(value).dtype.hasobject:
            raise TypeError("an array of Python objects has no stable description. Use an array of numbers.")
        return ["array", array_digest(np.asarray(value))]
    if isinstance(value, Mapping):
        pairs = [[deeper(name), deeper(entry)] for name, entry in value.items()]
        return ["map", sorted(pairs, key=json.dumps)]
    if isinstance(value, set | frozenset):
        return ["set", sorted((deeper(entry) for entry in value), key=json.dumps)]
    if isinstance(value, functools.partial):
        return ["partial", deeper(value.func), deeper(value.args), deeper(value.keywords)]
    if isinstance(value, list | tuple):
        return [_name(type(value)), *(deeper(entry) for entry in value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [[field.name, deeper(getattr(value, field.name))] for field in dataclasses.fields(value)]
        return ["dataclass", _name(type(value)), fields, *_methods(type(value), deeper)]
    return _callable(value, deeper)


def _callable(value: object, deeper: Callable[[object], object]) -> object:
    if isinstance(value, type):
        return ["class", _name(value)]
    # Describe the original function, not the wrapper that jit, custom_jvp and others put around it.
    plain = inspect.unwrap(value) if callable(value) else value
    plain = getattr(plain, "fun", plain) if not isinstance(plain, types.FunctionType) else plain
    if isinstance(plain, types.MethodType):
        return ["method", deeper(plain.__func__), deeper(plain.__self__)]
    if isinstance(plain, types.FunctionType):
        nested = "<" in plain.__qualname__
        found: list[object] = ["function", _name(plain)]
        if nested or not _of_a_package(plain):
            cells = [_contents(cell) for cell in plain.__closure__ or ()]
            found += [_code(plain.__code__), deeper(plain.__defaults__), deeper(plain.__kwdefaults__), deeper(cells)]
        return found
    name = getattr(value, "__name__", None)
    if callable(value) and isinstance(name, str):
        return ["function", f"{getattr(value, '__module__', '')}.{name}"]
    raise TypeError(
        f"{value!r} ({type(value).__name__}) has no description that is the same in every process, so its results "
        "could not be found again. Use numbers, arrays, module-level functions or frozen dataclasses."
    )


def _methods(kind: type, deeper: Callable[[object], object]) -> list[object]:
    """Describe a user's class: its methods and attributes, and those of its bases, except what Python added."""
    found = {}
    for owner in reversed([one for one in kind.__mro__ if not _of_a_package(one)]):
        for name, member in vars(owner).items():
            if name in ("__call__", "__post_init__") or not name.startswith(("__", "_abc_")):
                found[name] = _function_of(member)
    return [deeper(found)] if found else []


def _function_of(member: object) -> object:
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, functools.cached_property) else getattr(member, "__func__", member)


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # an empty cell
        return None


def _code(code: types.CodeType) -> str:
    inner = [_code(one) if isinstance(one, types.CodeType) else _constant(one) for one in code.co_consts]
    return hashlib.sha256(repr((code.co_code, code.co_names, inner)).encode()).hexdigest()


def _constant(value: object) -> str:
    # The order of a set of texts differs from process to process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _of_a_package(function: types.FunctionType | type) -> bool:
    """Check whether a function or class belongs to a known package; then the version of the package identifies it.

    >>> _of_a_package(digest), _of_a_package(dict)
    (True, True)
    """
    return function.__module__.split(".")[0] in (
        PACKAGE,
        "jax",
        "jaxlib",
        "optax",
        "numpy",
        "scipy",
        "builtins",
        "typing",
    )


def _name(value: types.FunctionType | type) -> str:
    return f"{value.__module__}.{value.__qualname__}"
