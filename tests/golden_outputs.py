"""Record what every public function returns, and the public names, as data in `tests/golden`; compare with them later.

    python tests/golden_outputs.py

writes the data. They were recorded once, before the names changed (`RECORDED`); `test_golden.py` calls the present
functions, translates names through `MOVED.toml`, and compares. Recording again hides a change of results: do it only
together with an entry in `MOVED.toml` that gives the reason.
"""

import argparse
import dataclasses
import enum
import inspect
import json
import os
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from compile_fast import COMPILE_FAST

    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", COMPILE_FAST)

import jax
import jax.numpy as jnp
import numpy as np

if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)

import fuzzing
import fuzzing_calls

import jaxdescramble as jd
from jaxdescramble.sweeps import specification

FOLDER = Path(__file__).parent / "golden"
LARGEST = 2000
"""Leaves with more numbers are recorded by their first and last entries, sum and sum of squares."""


def flat(value: Any, path: str = "") -> Iterator[tuple[str, np.ndarray | str]]:
    """Return every leaf of a result with the names of the fields that lead to it; numbers as arrays, others as text."""
    if isinstance(value, enum.Enum):
        yield path, value.name
    elif value is None or isinstance(value, str | bool):
        yield path, str(value)
    elif isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        yield path, np.asarray(jax.random.key_data(value))
    elif isinstance(value, int | float | complex | np.generic | np.ndarray | jax.Array):
        array = np.asarray(value)
        yield path, array if array.dtype.kind in "biufc" else str(array.tolist())
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from flat(one, f"{path}[{key}]")
    elif hasattr(value, "_fields"):
        for field in value._fields:
            yield from flat(getattr(value, field), f"{path}.{field}")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from flat(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, list | tuple):
        for place, one in enumerate(value):
            yield from flat(one, f"{path}[{place}]")
    else:  # a function, a class: it has a kind and no value
        yield path, f"<{type(value).__name__}>"


def digest(array: np.ndarray) -> np.ndarray:
    if array.size <= LARGEST:
        return array
    numbers = array.astype(np.complex128 if array.dtype.kind == "c" else np.float64).ravel()
    return np.concatenate([numbers[:50], numbers[-50:], [numbers.sum(), np.vdot(numbers, numbers)]])


def answer(call: fuzzing.Call) -> dict[str, np.ndarray | str]:
    """Return every leaf of what a call returns; an error is a leaf too."""
    arguments = dict(call.arguments)
    try:
        result = call.function(**arguments)
        if callable(result) and "params" in arguments:  # `insert` gives a function
            result = result(arguments["params"], arguments["x"])
    except Exception as error:
        return {"error": type(error).__name__}
    return {path: leaf if isinstance(leaf, str) else digest(leaf) for path, leaf in flat(result)}


def refusals(call: fuzzing.Call) -> dict[str, str]:
    """Return the type of the error for two strange values of each argument; "" where there is none."""
    found = {}
    for argument in call.arguments:
        if argument in call.fixed:
            continue
        for what in ("text", "an object"):
            result = fuzzing.outcome(call, argument, fuzzing.strangers()[what], what)
            found[f"{argument}: {what}"] = result.detail.split(":")[0] if result.kind == "refused" else ""
    return found


def public_names() -> dict[str, list[str]]:
    """Return every public name by its path, with the arguments of functions and the members of classes."""
    names: dict[str, list[str]] = {}

    def walk(room: types.ModuleType, path: str) -> None:
        listed = getattr(room, "__all__", None)
        if listed is None:
            listed = [name for name, one in vars(room).items() if getattr(one, "__module__", "") == room.__name__]
        for name in sorted(one for one in listed if not one.startswith("_")):
            value = getattr(room, name)
            if isinstance(value, types.ModuleType):
                names[path + name] = []
                walk(value, f"{path}{name}.")
                continue
            names[path + name] = arguments(value)
            if isinstance(value, type):
                for member in sorted(one for one in dir(value) if not one.startswith("_")):
                    if not _inherited_from_python(value, member):
                        names[f"{path}{name}.{member}"] = arguments(inspect.getattr_static(value, member))

    walk(jd, "")
    return names


def arguments(value: Any) -> list[str]:
    function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if not callable(function):
        return []
    try:
        return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    except (TypeError, ValueError):
        return []


def _inherited_from_python(kind: type, member: str) -> bool:
    owner = next((one for one in kind.__mro__ if member in vars(one)), None)
    return owner is None or not owner.__module__.startswith("jaxdescramble")


def commands() -> dict[str, list[str]]:
    """Return every command of the command line with its options."""
    import typer

    from jaxdescramble.show import commands as module

    group: Any = typer.main.get_command(module.build())
    return {"": _options(group)} | {name: _options(one) for name, one in group.commands.items()}


def _options(command: Any) -> list[str]:
    return sorted(name for one in command.params for name in (*one.opts, *one.secondary_opts))


def files() -> dict[str, list[str]]:
    """Return the names in every kind of saved file, and the keys of a sweep's TOML."""
    found = {}
    S = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        jd.descramble(S).save(folder / "one.npz")
        with np.load(folder / "one.npz") as file:
            found["Descrambling"] = sorted(file)
            found["Descrambling header"] = sorted(json.loads(str(file["header"])))
        jd.Accumulator.empty(3, dtype=S.dtype).add(S).save(folder / "sums.npz")
        with np.load(folder / "sums.npz") as file:
            found["Accumulator"] = sorted(file)
        found["sweep table"] = sorted(jd.sweep(jd.grid({"first": S}), folder / "sweep").columns)
        names = (path.relative_to(folder / "sweep").parts[0] for path in (folder / "sweep").rglob("*"))
        found["sweep folder"] = sorted({name for name in names if not name.startswith(".")})
    return found | {"sweep TOML": sorted((*specification.SINGLE, *specification.TABLES))}


def record(out: Path) -> None:
    out.mkdir(exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    texts: dict[str, dict[str, str]] = {}
    refused: dict[str, dict[str, str]] = {}
    for path, call in fuzzing_calls.CALLS.items():
        for leaf, value in answer(call).items():
            if isinstance(value, str):
                texts.setdefault(path, {})[leaf] = value
            else:
                arrays[f"{path}|{leaf}"] = value
        refused[path] = refusals(call)
        print(path, file=sys.stderr)
    np.savez_compressed(out / "answers.npz", **arrays)  # pyright: ignore[reportArgumentType]
    content = {"texts": texts, "refusals": refused, "names": public_names(), "commands": commands(), "files": files()}
    (out / "names.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    warnings.simplefilter("ignore")
    record(parser.parse_args().out)
