"""Malformed arguments and what may come of them: the machinery of `test_fuzz`.

A case is one public function, one of its arguments and one way to spoil it; `case(number)` makes it again. What may
come of it is a result, or an error of the package's own that names the argument.
"""

import inspect
import re
import signal
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescramble as jd

PACKAGE = Path(jd.__file__).parent
ERRORS = (OSError, TypeError, ValueError, FloatingPointError, IndexError, ImportError, NotImplementedError)
SECONDS = 40
"""A call that takes longer hangs; alone on a machine the longest takes 12, which it compiles."""


class Call(NamedTuple):
    """One valid call of a public function.

    Attributes:
        function: called with the arguments by name.
        arguments: valid ones, tiny.
        fixed: those that are not spoiled: what they are is the user's own business, or a program of its own each.
        aliases: what a message may call an argument besides its name.
        free: arguments of which NaN need not be seen in the answer, because they make no difference to it.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    fixed: tuple[str, ...] = ()
    aliases: Mapping[str, str] = types.MappingProxyType({})
    free: tuple[str, ...] = ()


class Outcome(NamedTuple):
    kind: str  # "result", "status", "refused", "theirs", or what may not be: "crash", "hang", "silent"
    detail: str


class Hang(BaseException):
    """Not an Exception: nothing in between may take it for one of its own."""


def public_functions() -> dict[str, Any]:
    """Every public callable by its path, and the methods of public classes that take arguments."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(room: types.ModuleType, path: str) -> None:
        names = getattr(room, "__all__", None)
        if names is None:
            names = [n for n, v in vars(room).items() if getattr(v, "__module__", "") == room.__name__]
        values = {name: getattr(room, name) for name in sorted(names) if not name.startswith("_")}
        # Names of this room first: some of them are those of an inner room too.
        for name, value in sorted(values.items(), key=lambda one: isinstance(one[1], types.ModuleType)):
            if isinstance(value, types.ModuleType):
                walk(value, f"{path}{name}.")
            elif callable(value) and id(value) not in seen:
                seen.add(id(value))
                found[path + name] = value
                if isinstance(value, type):
                    found.update({f"{path}{name}.{key}": member for key, member in _methods(value)})

    walk(jd, "")
    return found


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    for key, member in vars(kind).items():
        function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if isinstance(function, types.FunctionType) and (key == "__call__" or not key.startswith("_")):
            taken = len(inspect.signature(function).parameters)
            if taken > (0 if isinstance(member, staticmethod) else 1):
                yield key, member


class _Opaque:
    def __repr__(self) -> str:
        return "an object"


def strangers() -> dict[str, Any]:
    """What no argument is."""
    return {
        "None": None,
        "text": "some text",
        "a dict": {"a": 1.0},
        "an object": _Opaque(),
        "a ragged list": [[1.0], [1.0, 2.0]],
        "a class": dict,
        "bytes": b"bytes",
        "an empty tuple": (),
        "a list of names": ["a", "b"],
        "an object array": np.asarray([[None, "x"], [1.0, 2.0]], dtype=object),
        "a structured array": np.zeros((4, 4), dtype=[("a", float), ("b", int)]),
        "an array of strings": np.asarray([["a", "b"], ["c", "d"]]),
        "dates": np.zeros((4, 4), dtype="datetime64[s]"),
        "a masked array": np.ma.masked_greater(np.arange(16.0).reshape(4, 4), 3.0),
        "a complex number": 1j,
        "NaN": float("nan"),
        "a negative number": -3,
        "an array of six axes": jnp.ones((1,) * 6),
    }


def spoiled_arrays(value: Any, chance: np.random.Generator) -> dict[str, Callable[[], Any]]:
    """Ways to spoil an array: axes, sizes, types, entries."""
    array = np.asarray(value)
    floats = np.issubdtype(array.dtype, np.floating)
    axis = int(chance.integers(array.ndim)) if array.ndim else 0
    place = tuple(int(chance.integers(size)) for size in array.shape)

    def put(entry: Any) -> Any:
        changed = array.copy()
        changed[place] = entry
        return jnp.asarray(changed)

    ways: dict[str, Callable[[], Any]] = {
        "an axis more": lambda: jnp.asarray(array)[None],
        "two axes more": lambda: jnp.asarray(array)[None, ..., None],
        "int": lambda: jnp.asarray(np.round(array * 3), int),
        "bool": lambda: jnp.asarray(array > 0),
        "complex": lambda: jnp.asarray(array + 1j * array),
        "float16": lambda: jnp.asarray(array, jnp.float16),
        "bfloat16": lambda: jnp.asarray(array, jnp.bfloat16),
        "float32": lambda: jnp.asarray(array, jnp.float32),
        "objects": lambda: array.astype(object),
        "strings": lambda: array.astype(str),
        "a number": lambda: 2.5,
        "0-d": lambda: jnp.asarray(1.0),
        "zero": lambda: jnp.zeros_like(jnp.asarray(array)),
        "negative": lambda: -jnp.asarray(array) - 1,
        "a masked array": lambda: np.ma.masked_greater(array, 0),
        "a nested list": lambda: array.tolist(),
    }
    if array.ndim:
        rest = (slice(None),) * axis
        ways |= {
            "an axis less": lambda: jnp.asarray(array)[(*rest, 0)],
            "flat": lambda: jnp.asarray(array).ravel(),
            "an axis shorter": lambda: jnp.asarray(array)[(*rest, slice(0, max(array.shape[axis] - 1, 1)))],
            "an axis longer": lambda: jnp.concatenate([jnp.asarray(array)] * 2, axis=axis),
            "an empty axis": lambda: jnp.asarray(array)[(*rest, slice(0, 0))],
            "an axis of one": lambda: jnp.asarray(array)[(*rest, slice(0, 1))],
            "all axes of one": lambda: jnp.asarray(array)[(slice(0, 1),) * array.ndim],
        }
    if floats:
        ways |= {
            "one NaN": lambda: put(np.nan),
            "all NaN": lambda: jnp.full(array.shape, jnp.nan, array.dtype),
            "infinity": lambda: put(np.inf),
            "minus infinity": lambda: put(-np.inf),
            "huge": lambda: jnp.asarray(array / np.abs(array).max() * np.finfo(array.dtype).max / 4),
            "denormal": lambda: jnp.full(array.shape, 5e-324, array.dtype),
            "tiny": lambda: jnp.asarray(array * 1e-300, array.dtype),
            "stretched": lambda: jnp.asarray(array * 3),
        }
    elif np.issubdtype(array.dtype, np.integer):
        ways |= {
            "floats": lambda: jnp.asarray(array, float) + 0.5,
            "out of range": lambda: put(10_000),
            "repeated": lambda: jnp.full(array.shape, array.ravel()[0], array.dtype),
        }
    return ways


NUMBERS: dict[str, Any] = {
    "zero": 0,
    "minus one": -1,
    "a half": 0.5,
    "a float for an int": 2.0,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -float("inf"),
    "True": True,
    "a number as text": "3",
    "huge": 10**30,
    "a huge float": 1e300,
    "tiny": 1e-300,
    "a vector": np.ones(3),
    "an array of one": np.ones((1, 1)),
    "a numpy integer": np.int64(2),
    "a jax number": jnp.asarray(2.0),
}
FLAGS: dict[str, Any] = {"text": "yes", "two": 2, "a vector": np.ones(3), "NaN": float("nan"), "a list": [True]}
TEXTS: dict[str, Any] = {
    "unknown": "nonsense", "empty": "", "bytes": b"O", "a list": ["O"], "a number": 3, "a space": "O "
}  # fmt: skip
KEYS: dict[str, Any] = {
    "an int": 0,
    "an old key": jax.random.PRNGKey(0),
    "three words": jnp.zeros(3, jnp.uint32),
    "several keys": jax.random.split(jax.random.key(0), 2),
    "floats": jnp.ones(2),
    "no words": jnp.zeros(0, jnp.uint32),
    "a numpy key": np.zeros(2, np.uint32),
}
SEQUENCES: dict[str, Any] = {
    "zero": (0,), "negative": (-1,), "a half": (0.5,), "names": ("a",), "a number": 3, "a negative number": -3,
    "nested": ((1, 2), 3), "none in it": (None,), "huge": (10**30,), "NaN": (float("nan"),), "a set": {1, 2},
}  # fmt: skip


def spoiled(value: Any, chance: np.random.Generator) -> dict[str, Callable[[], Any]]:
    """Ways to spoil a valid argument, by name; each is a function that makes it."""
    ways = {name: lambda bad=bad: bad for name, bad in strangers().items()}
    if value is None or isinstance(value, str | bool | int | float):
        table = {str: TEXTS, bool: FLAGS}.get(type(value), NUMBERS)
        return ways | {name: lambda bad=bad: bad for name, bad in table.items()}
    if _is_key(value):
        return ways | {name: lambda bad=bad: bad for name, bad in KEYS.items()}
    if isinstance(value, np.ndarray | jax.Array):
        return ways | spoiled_arrays(value, chance)
    if isinstance(value, tuple | list) and all(isinstance(item, int | float | str) for item in value):
        return ways | {name: lambda bad=bad: bad for name, bad in SEQUENCES.items()}
    if isinstance(value, tuple | list | dict):
        return ways | _spoiled_leaf(value, chance)
    return ways


def _spoiled_leaf(value: Any, chance: np.random.Generator) -> dict[str, Callable[[], Any]]:
    """A tree of arrays with one of its leaves spoiled, or lost."""
    leaves, structure = jax.tree.flatten(value)
    arrays = [i for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray | jax.Array) and not _is_key(leaf)]
    if not arrays:
        return {}
    arrays = [i for i in arrays if leaves[i].dtype == leaves[arrays[0]].dtype]  # which has the same ways to be spoiled
    place = arrays[int(chance.integers(len(arrays)))]

    def replaced(leaf: Any) -> Any:
        return jax.tree.unflatten(structure, [*leaves[:place], leaf, *leaves[place + 1 :]])

    inner = spoiled_arrays(leaves[place], chance) | {name: lambda bad=bad: bad for name, bad in strangers().items()}
    ways = {f"in it: {name}": lambda make=make: replaced(make()) for name, make in inner.items()}
    if isinstance(value, dict):
        ways["a name less"] = lambda: dict(list(value.items())[1:])
    else:
        ways |= {"one less": lambda: value[1:], "one more": lambda: [*value, *value[:1]]}
    return ways


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def outcome(call: Call, argument: str, bad: Any, what: str) -> Outcome:
    """What comes of a call with one bad argument."""
    previous = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        result = call.function(**(call.arguments | {argument: bad}))
        jax.block_until_ready([leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, jax.Array)])
    except Hang:
        return Outcome("hang", f"more than {SECONDS} s")
    except Exception as error:
        return _judged(error, call, argument)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if what.endswith("all NaN") and argument not in call.free and not _says_so(result):
        return Outcome("silent", f"finite numbers out of NaN: {str(result)[:200]}")
    return Outcome("status" if _bad_status(result) else "result", "")


def _ring(*_: Any) -> None:
    raise Hang


def _judged(error: Exception, call: Call, argument: str) -> Outcome:
    frames = traceback.extract_tb(error.__traceback__)
    message = str(error)
    detail = f"{type(error).__name__}: {message[:300]} [{Path(frames[-1].filename).name}:{frames[-1].lineno}]"
    if any(frame.name.startswith("users_") for frame in frames):
        return Outcome("theirs", detail)  # raised in the user's own function, in its own words
    if isinstance(error, OSError):  # of the operating system, which names the file
        return Outcome("refused" if error.filename else "crash", detail)
    own = PACKAGE in Path(frames[-1].filename).parents
    named = re.search(rf"\b({argument}|{call.aliases.get(argument, argument)})\b", message)
    if own and named and isinstance(error, ERRORS):
        return Outcome("refused", detail)
    return Outcome("crash", detail)


def _bad_status(result: Any) -> bool:
    status = getattr(result, "status", None)
    return status is not None and not all(jd.Status(int(one)).usable for one in np.ravel(np.asarray(status)))


def _says_so(result: Any) -> bool:
    """Whether NaN, infinity or a status is anywhere in a result."""
    if _bad_status(result):
        return True
    leaves = [leaf for leaf in jax.tree.leaves(result) if isinstance(leaf, float | np.ndarray | jax.Array)]
    floats = [np.asarray(x) for x in leaves if not _is_key(x) and jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return not floats or not all(np.isfinite(x).all() for x in floats)


class Case(NamedTuple):
    """One spoiled argument of one function."""

    number: int
    path: str
    argument: str
    what: str

    def run(self, calls: dict[str, Call]) -> Outcome:
        call = calls[self.path]
        make = spoiled(call.arguments[self.argument], np.random.default_rng(self.number))[self.what]
        return outcome(call, self.argument, make(), self.what)


def every_case(calls: dict[str, Call]) -> list[Case]:
    """All kinds of cases in an order drawn once; the places that are spoiled differ with the number."""
    kinds = [
        (path, argument, what)
        for path, call in sorted(calls.items())
        for argument, value in call.arguments.items()
        if argument not in call.fixed
        for what in spoiled(value, np.random.default_rng(0))
    ]
    order = np.random.default_rng(0).permutation(len(kinds))
    return [Case(number, *kinds[place]) for number, place in enumerate(order)]
