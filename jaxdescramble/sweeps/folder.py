"""The folder of a sweep: its specification, its finished chunks, and the processes that work in it.

sizes.json          number of problems in a chunk, where it was measured
sweep.json          what the sweep is: identity, digests of its parts, kinds of problems, format
problems.npz        a row for each problem: labels, sizes, place of its results
chunks/0000/*.npz   results, chunk by chunk
table.npz, .csv     the finished table (and .parquet if pyarrow is installed)
log.jsonl           events, one line of JSON for each
"""

import dataclasses
import datetime
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NotRequired, TypeAlias, TypedDict

import jax
import numpy as np

from jaxdescramble._base.files import write_arrays, write_atomically
from jaxdescramble.objectives import Objective
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps._plan import Plan
from jaxdescramble.sweeps.problems import Label, Problem

FORMAT = 1
MEANINGS = {
    "signals": "the shapes of the signals, or weights of samples",
    "objectives": "an objective",
    "solvers": "a solver",
    "settings": "group, start, restarts or rank",
    "labels": "labels",
    "key": "the key",
    "chunks": "the chunk size",
    "points": "whether points are kept",
    "version": "the version of jaxdescramble",
}


class KindOfProblem(TypedDict):
    """A kind of problem as `sweep.json` holds it. "chunk" is the chunk size, "problems" the number of problems.

    "rank" is only there if the problems have a rank.
    """

    shape: list[int]
    dtype: str
    group: str
    restarts: int
    chunk: int
    problems: int
    rank: NotRequired[int]


class Manifest(TypedDict):
    """The content of `sweep.json`."""

    format: int
    identity: str
    parts: dict[str, str]
    problems: int
    chunks: int
    kinds: list[KindOfProblem]
    made_by: dict[str, str]


Event: TypeAlias = dict[str, Any]
"""A line of a log: "time", "event", and entries that depend on the event."""


@dataclasses.dataclass(frozen=True)
class Specification:
    """The specification of the sweep in a folder.

    Attributes:
        identity: digest of the whole specification.
        parts: digests of the parts of the specification, by name.
        kinds: the kinds of problems.
        columns: arrays with a row for each problem: labels, "objective", "solver", "group", "n", "m", "dtype", and
            "kept" (the number of rows of P) if a problem has a rank.
        chunk, row: chunk and row that hold the results of each problem.
        digests: digest of each chunk.
    """

    identity: str
    parts: dict[str, str]
    kinds: list[KindOfProblem]
    columns: dict[str, np.ndarray]
    chunk: np.ndarray
    row: np.ndarray
    digests: list[str]

    def missing(self, folder: Path) -> list[int]:
        """Return the numbers of the chunks that have no file. The files are not opened."""
        return [number for number in range(len(self.digests)) if not chunks.location(folder, number).exists()]


def specification(problems: list[Problem], plan: Plan) -> Specification:
    """Return the specification of a planned sweep."""
    chunk, row = np.zeros(len(problems), np.int64), np.zeros(len(problems), np.int64)
    for one in plan.chunks:
        chunk[list(one.places)], row[list(one.places)] = one.number, np.arange(len(one.places))
    kinds = {id(one.kind): one.kind for one in plan.chunks}.values()
    described: list[KindOfProblem] = [
        {
            "shape": list(kind.shape),
            "dtype": kind.dtype,
            "group": kind.group,
            "restarts": kind.restarts,
            "chunk": kind.size,
            "problems": sum(len(one.places) for one in plan.chunks if one.kind is kind),
        }
        for kind in kinds
    ]
    for one, kind in zip(described, kinds, strict=True):
        if kind.rank is not None:
            one["rank"] = kind.rank
    return Specification(plan.identity, plan.parts, described, _columns(problems), chunk, row, list(plan.digests))


def _columns(problems: list[Problem]) -> dict[str, np.ndarray]:
    base = {
        "objective": [_objective_name(problem.objective) for problem in problems],
        "solver": ["" if one.group == "permutation" else type(one.solver).__name__ for one in problems],
        "group": [problem.group for problem in problems],
        "n": [problem.shape[0] for problem in problems],
        "m": [problem.shape[1] for problem in problems],
        "dtype": [np.dtype(problem.source.dtype).name for problem in problems],
    }
    if any(problem.rank is not None for problem in problems):
        base["kept"] = [problem.rank or problem.shape[0] for problem in problems]
    names = dict.fromkeys(name for problem in problems for name in problem.labels)
    labels = {name: [problem.labels.get(name) for problem in problems] for name in names}
    return {name: _column(values) for name, values in (base | labels).items()} | {"problem": np.arange(len(problems))}


def _objective_name(objective: Objective | None) -> str:
    return "" if objective is None else objective.name.strip("_")


def _column(values: list[Label | None]) -> np.ndarray:
    """Return labels as one array: of numbers if all are numbers, otherwise of text, with "" for a missing label."""
    numbers = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in numbers) or any(isinstance(value, str) for value in numbers):
        return np.asarray(["" if value is None else str(value) for value in values])
    if len(numbers) == len(values):
        return np.asarray(values)
    return np.asarray([np.nan if value is None else float(value) for value in values])


def open_sweep(folder: Path, wanted: Specification, resume: bool) -> None:
    """Write the specification into the folder, or check that the folder holds this sweep.

    Raises:
        FileExistsError: if the folder holds a sweep and `resume` is False.
        ValueError: if the folder holds another sweep. The message says what differs.
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    refuse(folder, wanted.parts, resume)
    arrays = {f"column:{name}": values for name, values in wanted.columns.items()}
    arrays |= {"chunk": wanted.chunk, "row": wanted.row, "digests": np.asarray(wanted.digests)}
    write_arrays(folder / "problems.npz", {**arrays, "identity": np.asarray(wanted.identity)})
    manifest: Manifest = {
        "format": FORMAT,
        "identity": wanted.identity,
        "parts": wanted.parts,
        "problems": len(wanted.chunk),
        "chunks": len(wanted.digests),
        "kinds": wanted.kinds,
        "made_by": chunks.maker(jax.local_devices()[0]),
    }
    text = json.dumps(manifest, indent=1) + "\n"
    if not path.exists() or path.read_text() != text:
        write_atomically(path, lambda file: file.write(text.encode()))


def refuse(folder: Path, parts: dict[str, str], resume: bool) -> None:
    """Raise if the folder holds another sweep, or any sweep if `resume` is False. Only these parts are compared.

    Raises:
        FileExistsError: if the folder holds a sweep and `resume` is False.
        ValueError: if the folder holds another sweep. The message says what differs.
    """
    path = folder / "sweep.json"
    if not path.exists():
        return
    if not resume:
        raise FileExistsError(
            f"out: {folder} already holds a sweep, and resume is False. Continue it with resume=True, name another "
            "folder, or remove this one."
        )
    there = _manifest(path)["parts"]
    # Before the sweep is divided into chunks, their digests are not known.
    names = [*parts, *(name for name in there if name not in parts and name != "chunks")]
    differing = [MEANINGS.get(name) or str(name) for name in names if there.get(name) != parts.get(name)]
    if differing:
        raise ValueError(
            f"out: {folder} holds another sweep, which differs in: {', '.join(differing)}. Its results are neither "
            "used nor changed. Name another folder, or remove this one."
        )


def read_specification(folder: str | os.PathLike) -> Specification:
    """Read the specification of the sweep in a folder.

    Raises:
        FileNotFoundError: if the folder holds no sweep.
        ValueError: if its files are damaged, or of another format.
    """
    folder = Path(folder)
    manifest = _manifest(folder / "sweep.json")
    try:
        with open(folder / "problems.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        if str(content["identity"]) != manifest["identity"]:
            raise ValueError("it belongs to another sweep than sweep.json")
    except Exception as error:  # NumPy and zipfile raise different errors for broken files
        raise ValueError(
            f"{folder / 'problems.npz'}: cannot be read ({error}). Run the sweep into this folder again. It writes "
            "this file again and keeps every chunk."
        ) from error
    columns = {name.split(":", 1)[1]: value for name, value in content.items() if name.startswith("column:")}
    return Specification(
        manifest["identity"],
        manifest["parts"],
        manifest["kinds"],
        columns,
        content["chunk"],
        content["row"],
        [str(one) for one in content["digests"]],
    )


def _manifest(path: Path) -> Manifest:
    try:
        found = json.loads(path.read_text())
        _ = found["identity"], found["parts"].items(), found["kinds"]
        form = found["format"]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path.parent}: this folder holds no sweep (no {path.name}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}). The chunks are still complete. Remove this file and run the sweep into "
            "the folder again."
        ) from error
    if form != FORMAT:
        raise ValueError(f"{path}: got format {form!r}; this version reads format {FORMAT}.")
    return found


class Log:
    """The log of a run: one line of JSON for each event, flushed at once."""

    def __init__(self, file: IO[str]):
        self._file = file

    def __call__(self, event: str, **details: object) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        # If the log cannot be written, the sweep goes on: its results matter more.
        with suppress(OSError):
            self._file.write(json.dumps({"time": now, "event": event, **details}) + "\n")
            self._file.flush()


@contextmanager
def at_work(folder: Path, shard: tuple[int, int]) -> Iterator[Log]:
    """Open the log of this process, and make sure that no other process works on the same shard.

    Raises:
        BlockingIOError: if another process works on this shard.
    """
    name = "log.jsonl" if shard[1] == 1 else f"log-{shard[0]}-of-{shard[1]}.jsonl"
    with open(folder / name, "a", encoding="utf-8") as file:
        _claim(file, folder, shard)
        # A killed process may have left an incomplete line.
        if file.tell() and not _ends_a_line(folder / name):
            file.write("\n")
        yield Log(file)


def _claim(file: IO[str], folder: Path, shard: tuple[int, int]) -> None:
    """Lock the log. The lock ends with the process, however it ends. Some file systems have no locks."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            f"out: another process works on shard {shard[0]} of {shard[1]} in {folder}. Wait for it, stop it, or "
            "choose another shard."
        ) from error
    except OSError:
        return


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def events(folder: str | os.PathLike) -> list[Event]:
    """Return all events of all logs in a folder, sorted by time. Lines that a killed process cut off are ignored."""
    found = []
    for path in sorted(Path(folder).glob("log*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
    return sorted(found, key=lambda event: event.get("time", ""))
