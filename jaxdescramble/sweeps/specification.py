"""A sweep written down in TOML."""

import dataclasses
import inspect
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from jaxdescramble import exact, objectives, solvers
from jaxdescramble._base.inputs import Selection, selected, stored
from jaxdescramble.sweeps.problems import Problem, grid

# What TOML cannot express: keys, optax transformations, operators, functions.
UNWRITABLE = ("key", "keys", "transform", "operator", "function")
TABLES = ("signals", "objectives", "solvers")
SINGLE = {"seed": int, "seeds": int, "restarts": int, "chunk": int, "group": str}


@dataclasses.dataclass(frozen=True)
class Request:
    """A sweep that somebody asks for: what `sweep` takes.

    Attributes:
        problems: layers x objectives x solvers x seeds.
        key: from the seed; None without one.
        chunk: problems to a chunk, or None.
        selection: the layers, and what was left out.
    """

    problems: list[Problem]
    key: PRNGKeyArray | None
    chunk: int | None
    selection: Selection


def request(content: Mapping[str, Any], folder: str | os.PathLike = ".") -> Request:
    """A sweep from a table of plain values, as they stand in TOML; `docs/sweeps.md` explains each line.

        seed = 0                      # of all chance; needed with seeds or restarts
        seeds = 3                     # random starts of each problem; left out: the usual start
        restarts = 4                  # more random starts within a problem; the best is kept
        group = "O"
        chunk = 16

        [signals]
        files = ["layers.npz"]        # relative to this file
        names = ["encoder*"]
        samples_first = false
        weights = "padding"           # an array of these files: how much each sample counts, for every layer

        [objectives.steps]            # any name; `name` says which objective it is, the same if left out
        name = "total_variation"
        epsilon = 0.01

        [solvers.quick]
        name = "LBFGS"
        max_steps = 100
        preconditioner = { name = "Analytic" }

    Args:
        content: as `tomllib` reads it.
        folder: what files are relative to.

    Raises:
        ValueError, TypeError: names what is not understood. FileNotFoundError, OSError: as `selection.selected`.

    >>> np.savez("net.npz", first=np.ones((3, 4)))
    >>> asked = request({"signals": {"files": ["net.npz"]}, "objectives": {"smoothness": {"order": 1}}})
    >>> len(asked.problems), dict(asked.problems[0].labels)
    (1, {'layer': 'first', 'objective': 'smoothness'})
    """
    _known("the specification", content, (*SINGLE, *TABLES))
    for name, kind in SINGLE.items():
        value = content.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise TypeError(f"{name}: got {value!r}; expected {'text' if kind is str else 'an integer'}.")
    signals = _table("signals", content.get("signals", {}))
    _known("signals", signals, ("files", "names", "samples_first", "weights"))
    files, names = _texts("signals.files", signals.get("files", [])), _texts("signals.names", signals.get("names", []))
    if not files:
        raise ValueError("signals.files: there are none; name files of weights or signals.")
    selection = selected([Path(folder) / file for file in files], names, signals.get("samples_first"))
    aims = {
        label: built(f"objectives.{label}", _table(f"objectives.{label}", one), label, (objectives,))
        for label, one in _table("objectives", content.get("objectives", {})).items()
    }
    ways = {
        label: built(f"solvers.{label}", _table(f"solvers.{label}", one), label, (solvers, exact))
        for label, one in _table("solvers", content.get("solvers", {})).items()
    }
    seeds = content.get("seeds")
    problems = grid(
        selection.layers,
        aims or {"smoothness": objectives.smoothness()},
        ways or None,
        seeds=None if seeds is None else range(seeds),
        group=content.get("group", "O"),
        restarts=content.get("restarts", 0),
        weights=_weights(signals.get("weights"), [Path(folder) / file for file in files]),
    )
    seed = content.get("seed")
    return Request(problems, None if seed is None else jax.random.key(seed), content.get("chunk"), selection)


def read(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        FileNotFoundError, OSError: it cannot be read. ValueError: it is no TOML; says where.
    """
    with open(path, "rb") as file:
        try:
            return tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: no TOML ({error}).") from error


def built(where: str, options: Mapping[str, Any], name: str, rooms: tuple[Any, ...]) -> Any:
    """An objective or a solver from its name and options; options that are tables with a name are built alike.

    Args:
        where: the place in the specification, for messages.
        options: of the factory; "name" names it.
        name: of the factory, where `options` has none.
        rooms: modules to look in.

    Raises:
        ValueError: no such name. TypeError: options that it does not take.

    >>> built("solvers.a", {"name": "LBFGS", "max_steps": 5}, "a", (solvers,)).max_steps
    5
    """
    options = dict(options)
    name = options.pop("name", name)
    factory = next((getattr(room, name) for room in rooms if isinstance(name, str) and name in room.__all__), None)
    if factory is None or not callable(factory):
        raise ValueError(f"{where}: {name!r} is not known; give name = one of {', '.join(_factories(rooms))}.")
    given = {key: _value(f"{where}.{key}", value, key, rooms) for key, value in options.items()}
    try:
        return factory(**given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from error


def catalogue() -> dict[str, dict[str, str]]:
    """What a specification may name, with its options and their defaults as they stand in TOML.

    Returns:
        Three dicts from names to options: "objectives", "solvers" and "preconditioners".

    >>> catalogue()["objectives"]["monotonicity"]
    'epsilon = 0.001'
    >>> catalogue()["solvers"]["ConjugateGradient"]
    'tolerance, max_steps = 10000, preconditioner'
    """
    found: dict[str, dict[str, str]] = {"objectives": {}, "solvers": {}, "preconditioners": {}}
    for name in _factories((objectives,)):
        found["objectives"][name] = _options(getattr(objectives, name))
    for name in _factories((solvers, exact)):
        factory = getattr(solvers, name, None) or getattr(exact, name)
        kind = "preconditioners" if factory.__module__.endswith(".preconditioners") else "solvers"
        found[kind][name] = _options(factory)
    return found


def _factories(rooms: tuple[Any, ...]) -> list[str]:
    """What a specification may name: functions that give objectives, classes of solvers and preconditioners."""
    return sorted(name for room in rooms for name in room.__all__ if _writable(getattr(room, name), name, room))


def _writable(factory: Any, name: str, room: Any) -> bool:
    """Whether it makes an objective or a solver, from values that TOML can express."""
    if room is objectives:
        makes = name.islower()
    else:
        makes = isinstance(factory, type) and any(hasattr(factory, verb) for verb in ("bind", "run"))
        makes |= factory is exact.ClosedForm
    if not makes:
        return False
    needed = [one for one in inspect.signature(factory).parameters.values() if one.default is one.empty]
    return not any(one.name in UNWRITABLE or one.kind is one.VAR_POSITIONAL for one in needed)


def _options(factory: Any) -> str:
    """Names of options, with their defaults where there are any that TOML can express."""
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


def _in_toml(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f'{{ name = "{type(value).__name__}" }}'
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _value(where: str, value: Any, name: str, rooms: tuple[Any, ...]) -> Any:
    """An option: a table is an objective or a solver, in a list too (`Chain`); everything else is taken as it is."""
    if isinstance(value, Mapping):
        return built(where, value, name, rooms)
    if isinstance(value, list):
        return tuple(_value(f"{where}[{place}]", one, "", rooms) for place, one in enumerate(value))
    return value


def _table(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: got {value!r}; expected a table, [{where}].")
    return value


def _weights(name: Any, paths: list[Path]) -> Any:
    """The array of weights that the files hold under this name; None without one."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"signals.weights: got {name!r}; expected the name of an array in the files.")
    there = [one for path in paths for one in stored(path) if len(one.shape) == 1]
    for one in there:
        if one.name == name:
            return one.read()
    raise ValueError(
        f"signals.weights: no array {name!r} of one axis in the files; there are "
        f"{', '.join(one.name for one in there) or 'none'}."
    )


def _texts(where: str, value: Any) -> list[str]:
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{where}: got {value!r}; expected text or a list of texts.")
    return value


def _known(where: str, content: Mapping[str, Any], names: tuple[str, ...]) -> None:
    unknown = [name for name in content if name not in names]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} is not known; there are {', '.join(names)}.")
