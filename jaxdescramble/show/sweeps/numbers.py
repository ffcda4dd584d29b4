"""The results of a sweep in numbers: for the terminal, as JSON and for the page."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np

from jaxdescramble._base.status import Status
from jaxdescramble.sweeps import Table
from jaxdescramble.sweeps.folder import Event, events
from jaxdescramble.sweeps.table import PENDING

HEADINGS = (
    "objective",
    "solver",
    "problems",
    "with an answer",
    "before",
    "after",
    "largest gap",
    "steps",
    "how they ended",
)
"""Headings of the columns of `summary_lines`. The first two and the last are text, the others are numbers."""


class SweepProgress(TypedDict):
    """What `status --json` prints: numbers of problems, seconds, and texts about chunks."""

    folder: str
    problems: int
    done: int
    solved: int
    statuses: dict[str, int]
    seconds_worked: float
    seconds_left: float | None
    unknown_left: dict[str, int]
    made_by: list[str]
    damaged: list[str]


def progress_of(table: Table) -> SweepProgress:
    """Return what `status --json` prints."""
    codes = Counter(table["status"].tolist())
    done = len(table) - codes.pop(PENDING, 0)
    logged = events(table.folder)
    solved = [event for event in logged if event["event"] == "chunk"]
    worked = sum(event["seconds"] + event["writing"] + event.get("compiling", 0) for event in solved)
    left, unknown = _time_left(table, solved)
    makers = Counter(tuple(sorted(one.items())) for one in table.makers())
    return {
        "folder": str(table.folder),
        "problems": len(table),
        "done": done,
        "solved": sum(times for code, times in codes.items() if Status(code).usable),
        "statuses": {Status(code).name: times for code, times in sorted(codes.items())},
        "seconds_worked": round(worked, 3),
        "seconds_left": left,
        "unknown_left": unknown,
        "made_by": [f"{times} chunks: {', '.join(value for _, value in maker)}" for maker, times in makers.items()],
        "damaged": [event["file"] for event in logged if event["event"] == "damaged"],
    }


def _time_left(table: Table, solved: Sequence[Event]) -> tuple[float | None, dict[str, int]]:
    """Estimate the seconds of work left, and count the problems, by kind, whose time is unknown.

    Each kind (objective, solver, group, shape, type, rank) has its own rate: an iterative solver takes hundreds of
    times longer than a closed form. Compilation does not count, because it happens once. The time of a kind without
    a finished problem is unknown.

    Returns:
        The seconds, or None if nothing is known; the number of problems of unknown time, by kind.
    """
    ranked = {"kept", "left_out"} <= set(table.columns)  # a label of the user may have one of these names
    names = ("objective", "solver", "group", "n", "m", "dtype", *(("kept",) if ranked else ()))
    columns = [table[name].tolist() for name in names]
    kinds = list(zip(*columns, strict=True))
    place_to_row = {place: row for row, place in enumerate(table["problem"].tolist())}
    seconds, counts = Counter(), Counter()
    for event in solved:
        for place in event["problems"]:
            kind = kinds[place_to_row[place]]
            counts[kind] += 1
            seconds[kind] += (event["seconds"] + event["writing"]) / len(event["problems"])
    left = Counter(kind for kind, code in zip(kinds, table["status"].tolist(), strict=True) if code == PENDING)
    known = [count * seconds[kind] / counts[kind] for kind, count in left.items() if counts[kind]]
    unknown = Counter()
    for (objective, solver, _, n, m, *_), count in ((kind, count) for kind, count in left.items() if not counts[kind]):
        unknown[f"{objective}{f', {solver}' if solver else ''}, {n} x {m}"] += count
    return (round(sum(known, 0.0), 3) if known or not left else None), dict(unknown)


def summary_lines(table: Table) -> list[tuple[str, ...]]:
    """Return a row of texts for each objective and solver. Before, after and steps are medians over answers."""
    pairs = dict.fromkeys(zip(table["objective"].tolist(), table["solver"].tolist(), strict=True))
    lines = []
    for objective, solver in pairs:
        part = table.where(objective=objective, solver=solver)
        good = np.asarray([code != PENDING and Status(code).usable for code in part["status"].tolist()], bool)

        def number(values: np.ndarray, figure: Callable[[np.ndarray], np.floating], good: np.ndarray = good) -> str:
            values = values[good & np.isfinite(values)]
            return f"{figure(values):.3g}" if len(values) else ""

        lines.append(
            (
                str(objective),
                str(solver),
                str(len(part)),
                str(int(good.sum())),
                number(part["initial_value"], np.median),
                number(part["value"], np.median),
                number(part["gap"], np.max),
                number(part["steps"].astype(float), np.median),
                ends(part),
            )
        )
    return lines


def ends(table: Table) -> str:
    """Count how many problems ended with each status, the most frequent first, and how many have no result yet."""
    codes = Counter(table["status"].tolist())
    waiting = codes.pop(PENDING, 0)
    ends = [f"{count} {Status(code).name}" for code, count in codes.most_common()]
    return ", ".join(ends + [f"{waiting} not done"] * (waiting > 0))
