"""What version 0.1 returned is still returned, under the names that `MOVED.toml` gives; see `golden_outputs.py`."""

import json
import tomllib
from pathlib import Path

import golden_outputs
import numpy as np
import pytest
from fuzzing_calls import CALLS, NO_FILE

MOVED = tomllib.loads((Path(__file__).parent.parent / "MOVED.toml").read_text())
RECORDED = json.loads((golden_outputs.FOLDER / "names.json").read_text())
RTOL, ATOL = 1e-6, 1e-10
"""Other processors and other versions of LAPACK round differently; some answers are rounding errors themselves."""


def now(name: str) -> str:
    """Return the present name of an old public name; the longest entry that begins it counts."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        moved = MOVED["names"].get(".".join(parts[:length]))
        if moved is not None:
            return moved if moved.startswith("gone: ") else ".".join([moved, *parts[length:]])
    return name


def argument_now(function: str, argument: str) -> str:
    return MOVED["arguments"].get(f"{function}.{argument}", MOVED["arguments"].get(f"*.{argument}", argument))


def gone(name: str) -> bool:
    return name.startswith("gone: ") and len(name) > len("gone: because")


@pytest.fixture(scope="module")
def names():
    return golden_outputs.public_names()


def test_every_old_name_is_there_or_told(names):
    wrong = [f"{old}: no {now(old)}" for old in RECORDED["names"] if not gone(now(old)) and now(old) not in names]
    assert not wrong, "\n".join(wrong)


def test_every_old_argument_is_there_or_told(names):
    wrong = [
        f"{old}({argument})"
        for old, arguments in RECORDED["names"].items()
        if not gone(now(old))
        for argument in arguments
        if not gone(argument_now(old, argument)) and argument_now(old, argument) not in names[now(old)]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["commands", "files"])
def test_every_old_option_and_name_in_files_is_there_or_told(kind):
    moved, wrong = MOVED[kind], []
    separator = " " if kind == "commands" else "."
    present = {group + separator + entry for group, some in getattr(golden_outputs, kind)().items() for entry in some}
    for group, entries in RECORDED[kind].items():
        for entry in entries:
            old = group + separator + entry
            new = moved.get(old, moved.get(group, group) + separator + entry)
            if not gone(new) and new not in present:
                wrong.append(old)
    assert not wrong, "\n".join(wrong)


def test_the_list_of_moved_names_says_nothing_needless(names):
    old = RECORDED["names"]
    functions = {f"{name}.{argument}" for name, arguments in old.items() for argument in arguments}
    functions |= {f"*.{argument}" for arguments in old.values() for argument in arguments}
    options = {f"{group} {one}" for group, some in RECORDED["commands"].items() for one in some}
    entries = {f"{group}.{one}" for group, some in RECORDED["files"].items() for one in some}
    unknown = {
        "names": MOVED["names"].keys() - old.keys(),
        "arguments": MOVED["arguments"].keys() - functions,
        "commands": MOVED["commands"].keys() - options - RECORDED["commands"].keys(),
        "files": MOVED["files"].keys() - entries - RECORDED["files"].keys(),
        "answers": MOVED["answers"].keys() - RECORDED["refusals"].keys(),
        "numbers": MOVED["numbers"].keys() - RECORDED["refusals"].keys(),
        "defaults": {name for name in MOVED["defaults"] if name.rpartition(".")[0] not in old},
    }
    assert not any(unknown.values()), f"not names of version 0.1: {unknown}"
    unmoved = [name for name, new in MOVED["names"].items() if name == new]
    assert not unmoved


def call_now(path: str):
    """Return the present call of a path of `CALLS`: "name" or "name of another use"."""
    name, blank, use = path.partition(" ")
    return CALLS.get(now(name) + blank + use)


def test_every_recorded_call_is_still_made():
    missing = [path for path in RECORDED["refusals"] if not gone(now(path.split(" ")[0])) and call_now(path) is None]
    assert not missing, missing


def field_now(leaf: str) -> str:
    for old, new in MOVED["fields"].items():
        if old in leaf and gone(new):
            return new
        leaf = leaf.replace(old, new)
    return leaf


RUGGED = {("bootstrap", "points"), ("bootstrap", "distances"), ("solvers.FromSources", "point")}
"""Points of descents with several optima: the last digits decide which one is found, and so do the processor and XLA's
flags (measured on 29 November 2026: each of them changed with a flag or a host). Their values are compared."""


@pytest.fixture(scope="module")
def recorded():
    """Return {path: {leaf: value}}."""
    found = {path: dict(texts) for path, texts in RECORDED["texts"].items()}
    with np.load(golden_outputs.FOLDER / "answers.npz") as file:
        for key in file:
            path, leaf = key.split("|", 1)
            found.setdefault(path, {})[leaf] = file[key]
    return found


@pytest.mark.thorough
@pytest.mark.usefixtures("as_installed")
def test_answers_are_those_of_version_0_1(recorded):
    wrong = []
    for path, leaves in recorded.items():
        call = call_now(path)
        if call is None or path in MOVED["answers"] or path in MOVED["numbers"] or path in NO_FILE:
            continue
        found = golden_outputs.answer(call)
        for leaf, value in leaves.items():
            other = found.get(field_now(leaf))
            if (path, leaf.rpartition(".")[2]) in RUGGED and np.shape(value) == np.shape(other):
                continue
            if not gone(field_now(leaf)) and not same(value, other):
                wrong.append(f"{path}{leaf}: {other!r}, and it was {value!r}"[:300])
    assert not wrong, "\n".join(wrong)


def same(value, other) -> bool:
    if isinstance(value, str) or other is None or isinstance(other, str):
        return isinstance(other, str) and (value == other or value.startswith("<"))
    if value.shape != other.shape or value.dtype.kind != other.dtype.kind:
        return False
    largest = max(1e-300, float(np.max(np.abs(value[np.isfinite(value)]), initial=0.0))) if value.size else 1.0
    return bool(np.allclose(value, other, rtol=RTOL, atol=max(ATOL, RTOL * min(largest, 1.0)), equal_nan=True))


@pytest.mark.thorough
@pytest.mark.usefixtures("as_installed")
def test_types_of_errors_are_those_of_version_0_1():
    wrong = []
    for path, kinds in RECORDED["refusals"].items():
        call = call_now(path)
        if call is None or path in MOVED["answers"]:
            continue
        found = golden_outputs.refusals(call)
        for case, kind in kinds.items():
            argument, what = case.split(": ")
            present = argument_now(path.split(" ")[0], argument)
            if not gone(present) and found.get(f"{present}: {what}") != kind:
                wrong.append(f"{path}({case}): {found.get(f'{present}: {what}')!r}, and it was {kind!r}")
    assert not wrong, "\n".join(wrong)
