"""The table of a sweep: its results, one row per problem."""

import contextlib
import csv
import functools
import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import SupportsIndex

import numpy as np

from jaxdescramble._base.checks import one_of
from jaxdescramble._base.drawing import lines
from jaxdescramble._base.extras import extra
from jaxdescramble._base.files import write_arrays, write_atomically
from jaxdescramble._base.results import laid_out
from jaxdescramble._base.status import DIAGNOSES, Status
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps.folder import KindOfProblem, Specification, read_specification

PENDING, LONGEST = -1, 200
NUMBERS = ("value", "initial_value", "bound", "gap", "samples", "rank", "steps", "status")
WIDE = "left_out"
"""A further number, in sweeps with a rank."""
SUFFIXES = (".csv", ".npz", ".parquet")


class Table:
    """The results of a sweep: one row per problem, one NumPy array per column. Matrices stay on disk until you ask.

    The columns are the labels, "problem" (the place in the list of problems), "objective", "solver", "group", "n", "m"
    and "dtype"; and the results "value", "initial_value", "bound", "gap", "samples" (their effective number), "rank",
    "steps" and "status" (a `jaxdescramble.Status`). A problem without a result yet has status -1, and NaN in the
    columns from "value" to "samples".

    If a problem has a rank, there are also "kept", the number of rows of P, and "left_out", the fraction of the
    energy of the signals that `P S` does not contain.

    >>> import jaxdescramble as jd
    >>> table = jd.sweep(jd.grid(jax.random.normal(jax.random.key(0), (3, 4, 9), "float32")), "sweep-of-three")
    >>> len(table), table["layer"].tolist(), table.done, table.point(1).shape
    (3, [0, 1, 2], True, (4, 4))
    >>> bool((table["value"] <= table["initial_value"]).all())
    True
    """

    def __init__(self, folder: Path, specification: Specification, columns: dict[str, np.ndarray]):
        self.folder, self.columns, self._specification = folder, columns, specification

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> "Table":
        """Read the table of a sweep from its folder. The sweep need not be finished.

        Raises:
            FileNotFoundError: if the folder contains no sweep.
            ValueError: if a file is damaged; the message names the file and says what to do.
        """
        return gathered(Path(folder), read_specification(folder))

    def __len__(self) -> int:
        return len(self.columns["problem"])

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.columns:
            raise KeyError(f"{name!r}: there are the columns {', '.join(self.columns)}.")
        return self.columns[name]

    def __iter__(self) -> Iterator[dict[str, np.generic]]:
        """Yield the rows as dictionaries."""
        for row in range(len(self)):
            yield {name: values[row] for name, values in self.columns.items()}

    def __repr__(self) -> str:
        solved = sum(Status(code).usable for code in self["status"][self["status"] != PENDING])
        folder = str(self.folder)
        where = folder if len(folder) <= LONGEST else f"…{folder[-LONGEST:]}"
        return f"Table({len(self)} problems, {solved} solved, {(self['status'] == PENDING).sum()} to do; {where})"

    def _repr_html_(self) -> str:
        curves = [np.sort(self[name]) for name in ("initial_value", "value")]
        drawn = lines(curves, "initial values (orange) and values (blue), sorted") if len(self) else ""
        rows = [(name, ", ".join(map(str, values[:5].tolist()))) for name, values in self.columns.items()]
        return laid_out(repr(self), drawn, rows)

    def to_dict(self) -> dict[str, np.ndarray]:
        """Return the columns by name, as NumPy arrays."""
        return dict(self.columns)

    @property
    def done(self) -> bool:
        """Whether every problem has a result."""
        return bool((self["status"] != PENDING).all())

    def where(self, **labels: str | int | float | bool) -> "Table":
        """Return the table of those rows whose columns have these values: `table.where(objective="tv", seed=3)`.

        Raises:
            KeyError: if there is no such column.
        """
        keep = np.ones(len(self), bool)
        for name, value in labels.items():
            keep &= self[name] == value
        return Table(self.folder, self._specification, {name: values[keep] for name, values in self.columns.items()})

    def point(self, row: SupportsIndex) -> np.ndarray:
        """Return the descrambler P of a row, shape (n, n), or (k, n) with `rank=k`."""
        return self.arrays(row, "point")["point"]

    def arrays(self, row: SupportsIndex, *names: str) -> dict[str, np.ndarray]:
        """Return the arrays of a row by name, such as "point" and "singular_values".

        Args:
            row: number of the row.
            names: names of the arrays to read; without names, all of them.

        Raises:
            IndexError: if there is no such row.
            FileNotFoundError: if the row has no result yet.
            KeyError: if the sweep did not keep an array of this name.
            ValueError: if the file of the row is damaged. Run the sweep again; it computes this chunk again.
        """
        row = row.__index__()
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row}: the table has {len(self)}.")
        place = int(self["problem"][row])
        number, inside = int(self._specification.chunk[place]), int(self._specification.row[place])
        path = chunks.location(self.folder, number)
        try:
            found = chunks.read(path, self._specification.digests[number], names or None)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"problem {place} has no result yet ({path}); run the sweep again.") from error
        return {name: np.asarray(values[inside]) for name, values in found.items()}

    def makers(self) -> list[dict[str, str]]:
        """Return where each finished chunk was computed: versions, platform, device, machine."""
        found = []
        for number in range(len(self._specification.digests)):
            with contextlib.suppress(FileNotFoundError, chunks.DamagedError):
                found.append(chunks.header(chunks.location(self.folder, number))["made_by"])
        return found

    def kinds(self) -> list[KindOfProblem]:
        """Return the kinds of problems: shape, dtype, group, restarts, chunk size, number of problems, rank."""
        return self._specification.kinds

    def check(self) -> "Table":
        """Return this table if every problem has an answer; otherwise raise an error.

        Raises:
            FloatingPointError: if a problem has no result yet or its solve failed. The message has one paragraph per
                kind of failure: which problems, why, and what to do.
        """
        failures = []
        for code in np.unique(self["status"]):
            rows = np.flatnonzero(self["status"] == code)
            which = f"{len(rows)} of {len(self)} problems ({', '.join(str(self['problem'][row]) for row in rows[:5])}"
            which += ", ...)" if len(rows) > 5 else ")"
            if code == PENDING:
                failures.append(f"sweep: {which} have no result yet; run the sweep again into {self.folder}.")
            elif not Status(code).usable:
                failures.append(f"sweep: {Status(code).name} in {which}: {DIAGNOSES[Status(code)]}")
        if failures:
            raise FloatingPointError("\n".join(failures))
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table as `.csv`, `.npz` or `.parquet`; the suffix of the path decides.

        If writing fails, no partly written file is left.

        Raises:
            ValueError: if the suffix is another one.
            ImportError: if the suffix is `.parquet` and pyarrow is not installed.
            OSError: if the file cannot be written.
        """
        path = Path(path)
        one_of(path.suffix, "path (its suffix)", SUFFIXES)
        if path.suffix == ".npz":
            write_arrays(path, self.columns)
        elif path.suffix == ".csv":
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(zip(*(values.tolist() for values in self.columns.values()), strict=True))
            write_atomically(path, lambda file: file.write(text.getvalue().encode()))
        else:
            arrow = extra("pyarrow", "parquet needs pyarrow", "files")
            parquet = extra("pyarrow.parquet", "parquet needs pyarrow", "files")
            write_atomically(path, functools.partial(parquet.write_table, arrow.table(self.columns)))


def gathered(folder: Path, specification: Specification, progress: Progress | None = None) -> Table:
    """Return the table of the results in a folder. The problems of a damaged chunk count as not done."""
    count = len(specification.chunk)
    found = {name: np.full(count, np.nan) for name in NUMBERS[:5]}
    found |= {name: np.full(count, PENDING if name == "status" else 0, np.int32) for name in NUMBERS[5:]}
    names = NUMBERS
    if any("rank" in kind for kind in specification.kinds):
        found, names = {**found, WIDE: np.full(count, np.nan)}, (*NUMBERS, WIDE)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(specification.chunk.tolist()):
        places.setdefault(number, []).append(place)
    for done, (number, mine) in enumerate(sorted(places.items())):
        try:
            arrays = chunks.read(chunks.location(folder, number), specification.digests[number], names)
        except (FileNotFoundError, chunks.DamagedError):
            continue
        rows = specification.row[mine]
        for name in names:
            found[name][mine] = arrays[name][rows]
        if progress is not None:
            progress("gathering", done + 1, len(places))
    order = ["problem", *(name for name in specification.columns if name != "problem")]
    return Table(folder, specification, {name: specification.columns[name] for name in order} | found)


def save_everywhere(table: Table) -> None:
    """Save the table in the folder of its chunks, in every format (parquet only if pyarrow is installed)."""
    for suffix in SUFFIXES:
        if suffix != ".parquet" or importlib.util.find_spec("pyarrow") is not None:
            table.save(table.folder / f"table{suffix}")
