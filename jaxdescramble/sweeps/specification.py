"""Sweeps that are written in TOML."""

import dataclasses
import inspect
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble import exact, objectives, solvers
from jaxdescramble._base.inputs import Selection, selected, stored
from jaxdescramble.sweeps.problems import Problem, grid

# TOML cannot express keys, optax transformations and operators, functions.
UNWRITABLE = ("key", "transform", "operator", "function")
TABLES = ("signals", "objectives", "solvers")
SINGLE = ("seed", "seeds", "restarts", "chunk_size", "rank", "group")


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep that a specification asks for: the arguments of `sweep`.

    Attributes:
        problems: all combinations of layers, objectives, solvers and seeds.
        key: random key, made from the seed; None without a seed.
        chunk_size: number of problems in a chunk, or None.
        selection: the layers, and the arrays that were left out.
    """

    problems: list[Problem]
    key: PRNGKeyArray | None
    chunk_size: int | None
    selection: Selection


def request(content: Mapping[str, object], folder: str | os.PathLike = ".") -> Request:
    """Make a sweep from plain values, in the structure of a TOML file. `docs/sweeps.md` explains each line.

        seed = 0                      # random seed; needed with seeds or restarts
        seeds = 3                     # number of random starts of each problem; without it, the usual start
        restarts = 4                  # further random starts within a problem; the best result is kept
        group = "O"
        rank = 64                     # keep 64 principal components of wider layers; without it, all features
        chunk_size = 16

        [signals]
        files = ["layers.npz"]        # relative to this file
        names = ["encoder*"]
        samples_first = false
        weights = "padding"           # name of an array in these files: the weight of each sample, for every layer

        [objectives.steps]            # a name of your choice; without `name` below, it must be that of an objective
        name = "total_variation"
        epsilon = 0.01

        [solvers.quick]
        name = "LBFGS"
        max_steps = 100
        preconditioner = { name = "Analytic" }

    Args:
        content: content of the file, as `tomllib` reads it.
        folder: folder that the paths of files are relative to.

    Returns:
        A `Request`.

    Raises:
        ValueError, TypeError: if an entry is unknown or wrong. The message names the entry.
        FileNotFoundError, OSError: if a file cannot be read.

    >>> np.savez("net.npz", first=np.ones((3, 4)))
    >>> asked = request({"signals": {"files": ["net.npz"]}, "objectives": {"smoothness": {"order": 1}}})
    >>> len(asked.problems), dict(asked.problems[0].labels)
    (1, {'layer': 'first', 'objective': 'smoothness'})
    """
    _known("the specification", content, (*SINGLE, *TABLES))
    seed, seeds, restarts, chunk_size, rank = (_integer(name, content.get(name)) for name in SINGLE[:5])
    group = content.get("group", "O")
    if not isinstance(group, str):
        raise TypeError(f"group: got {group!r}; must be text.")
    signals = _table("signals", content.get("signals", {}))
    _known("signals", signals, ("files", "names", "samples_first", "weights"))
    files, names = _texts("signals.files", signals.get("files", [])), _texts("signals.names", signals.get("names", []))
    if not files:
        raise ValueError("signals.files: got no files; must name at least one file of weights or signals.")
    samples_first = signals.get("samples_first")
    if not isinstance(samples_first, bool | None):
        raise TypeError(f"signals.samples_first: got {samples_first!r}; must be true or false.")
    selection = selected([Path(folder) / file for file in files], names, samples_first)
    aims = {
        label: built(f"objectives.{label}", _table(f"objectives.{label}", one), label, (objectives,))
        for label, one in _table("objectives", content.get("objectives", {})).items()
    }
    ways = {
        label: built(f"solvers.{label}", _table(f"solvers.{label}", one), label, (solvers, exact))
        for label, one in _table("solvers", content.get("solvers", {})).items()
    }
    problems = grid(
        selection.layers,
        aims or {"smoothness": objectives.smoothness()},
        ways or None,
        seeds=None if seeds is None else range(seeds),
        group=group,
        restarts=restarts or 0,
        weights=_weights(signals.get("weights"), [Path(folder) / file for file in files]),
        rank=rank,
    )
    return Request(problems, None if seed is None else jax.random.key(seed), chunk_size, selection)


def read(path: str | os.PathLike) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        FileNotFoundError, OSError: if the file cannot be read.
        ValueError: if the file is not valid TOML. The message says where.
    """
    with open(path, "rb") as file:
        try:
            return tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid TOML ({error}).") from error


def built(where: str, options: Mapping[str, object], name: str, rooms: tuple[ModuleType, ...]) -> Any:
    """Make an objective or a solver from its name and options. Options that are tables with a name are made too.

    Args:
        where: place in the specification, for messages.
        options: options of the factory; "name" is the name of the factory.
        name: name of the factory if `options` has no "name".
        rooms: modules to search.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if the factory does not take an option.

    >>> built("solvers.a", {"name": "LBFGS", "max_steps": 5}, "a", (solvers,)).max_steps
    5
    """
    called = options.get("name", name)
    factory = next(
        (getattr(room, called) for room in rooms if isinstance(called, str) and called in room.__all__), None
    )
    if factory is None or not callable(factory):
        raise ValueError(f"{where}: got {called!r}; name must be one of {', '.join(_factories(rooms))}.")
    given = {key: _value(f"{where}.{key}", value, key, rooms) for key, value in options.items() if key != "name"}
    try:
        return factory(**given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def catalogue() -> dict[str, dict[str, str]]:
    """List the names that a specification can use, with their options and defaults in TOML.

    An objective is listed by the function that makes it, or by its class if no function makes it.

    Returns:
        Three dictionaries from names to options: "objectives", "solvers" and "preconditioners".

    >>> catalogue()["objectives"]["monotonicity"]
    'epsilon = 0.001'
    >>> catalogue()["solvers"]["ConjugateGradient"]
    'tolerance, max_steps = 10000, preconditioner, decrease = 0.0'
    """
    found: dict[str, dict[str, str]] = {"objectives": {}, "solvers": {}, "preconditioners": {}}
    for name in _factories((objectives,)):
        found["objectives"][name] = _options(getattr(objectives, name))
    for name in _factories((solvers, exact)):
        factory = getattr(solvers, name, None) or getattr(exact, name)
        kind = "preconditioners" if factory.__module__.endswith(".preconditioners") else "solvers"
        found[kind][name] = _options(factory)
    return found


def _factories(rooms: tuple[ModuleType, ...]) -> list[str]:
    """List the names that a specification can use: objectives, solvers and preconditioners."""
    return sorted(name for room in rooms for name in room.__all__ if _writable(getattr(room, name), name, room))


def _writable(factory: object, name: str, room: ModuleType) -> bool:
    """Check whether a factory makes an objective or a solver, from values that TOML can express."""
    if room is objectives:
        makes = name.islower() or (_is_objective(factory) and not any(name in made for made in _made_by_functions()))
    else:
        makes = isinstance(factory, type) and any(hasattr(factory, verb) for verb in ("bind", "run"))
        makes |= factory is exact.ClosedForm
    if not makes or not callable(factory):
        return False
    needed = [one for one in inspect.signature(factory).parameters.values() if one.default is one.empty]
    return not any(one.name in UNWRITABLE or one.kind is one.VAR_POSITIONAL for one in needed)


def _is_objective(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, objectives.Objective) and one is not objectives.Objective


def _made_by_functions() -> list[str]:
    """Return what the functions of `objectives` return, as their annotations say it: these classes are not listed."""
    functions = [getattr(objectives, name) for name in objectives.__all__ if name.islower()]
    return [str(inspect.signature(one).return_annotation) for one in functions]


def _options(factory: Callable[..., object]) -> str:
    """Return the names of options, with those defaults that TOML can express."""
    listed = []
    for one in inspect.signature(factory).parameters.values():
        if one.name in UNWRITABLE:
            continue
        default = one.default
        if isinstance(factory, type) and dataclasses.is_dataclass(factory):
            made = {field.name: field.default_factory for field in dataclasses.fields(factory)}[one.name]
            if made is not dataclasses.MISSING:
                default = made()
        if default is one.empty:
            listed.append(f"{one.name} (needed)")
        elif default is None:
            listed.append(one.name)
        else:
            listed.append(f"{one.name} = {_in_toml(default)}")
    return ", ".join(listed)


def _in_toml(value: object) -> str:
    if dataclasses.is_dataclass(value):
        return f'{{ name = "{type(value).__name__}" }}'
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _value(where: str, value: object, name: str, rooms: tuple[ModuleType, ...]) -> object:
    """Return an option; turn tables into objectives or solvers, also in lists (for `Chain`)."""
    if isinstance(value, Mapping):
        return built(where, value, name, rooms)
    if isinstance(value, list):
        return tuple(_value(f"{where}[{place}]", one, "", rooms) for place, one in enumerate(value))
    return value


def _integer(name: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{name}: got {value!r}; must be an integer.")


def _table(where: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: got {value!r}; must be a table, [{where}].")
    return value


def _weights(name: object, paths: list[Path]) -> np.ndarray | None:
    """Return the array of weights with this name in the files, or None without a name."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"signals.weights: got {name!r}; must be the name of an array in the files.")
    there = [one for path in paths for one in stored(path) if len(one.shape) == 1]
    for one in there:
        if one.name == name:
            return one.read()
    raise ValueError(
        f"signals.weights: got {name!r}; must be the name of an array with one axis. The files hold "
        f"{', '.join(one.name for one in there) or 'none'}."
    )


def _texts(where: str, value: object) -> list[str]:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{where}: got {value!r}; must be text or a list of texts.")
    return value


def _known(where: str, content: Mapping[str, object], names: tuple[str, ...]) -> None:
    unknown = [name for name in content if name not in names]
    if unknown:
        raise ValueError(f"{where}: got {unknown[0]!r}; must be one of {', '.join(names)}.")
