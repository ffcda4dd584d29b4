"""What a sweep came to, in numbers: for the terminal, for programs and for the page."""

from collections import Counter
from typing import Any

import numpy as np

from jaxdescramble.status import Status
from jaxdescramble.sweep import Table
from jaxdescramble.sweep.folder import events
from jaxdescramble.sweep.table import PENDING


def progress_of(table: Table) -> dict[str, Any]:
    """What `status --json` prints."""
    codes = Counter(table["status"].tolist())
    done = len(table) - codes.pop(PENDING, 0)
    logged = events(table.folder)
    solved = [event for event in logged if event["event"] == "chunk"]
    worked = sum(event["seconds"] + event["writing"] for event in solved)
    count = sum(len(event["problems"]) for event in solved)
    makers = Counter(tuple(sorted(one.items())) for one in table.makers())
    return {
        "folder": str(table.folder),
        "problems": len(table),
        "done": done,
        "solved": sum(times for code, times in codes.items() if Status(code).usable),
        "statuses": {Status(code).name: times for code, times in sorted(codes.items())},
        "seconds_worked": round(worked, 3),
        "seconds_left": round((len(table) - done) * worked / count, 3) if count else None,
        "made_by": [f"{times} chunks: {', '.join(value for _, value in maker)}" for maker, times in makers.items()],
        "damaged": [event["file"] for event in logged if event["event"] == "damaged"],
    }


def summary_lines(table: Table) -> list[tuple[str, ...]]:
    """By objective and solver: how many, medians before and after, the largest gap, the median of the steps."""
    pairs = dict.fromkeys(zip(table["objective"].tolist(), table["solver"].tolist(), strict=True))
    lines = []
    for objective, solver in pairs:
        part = table.where(objective=objective, solver=solver)
        good = np.asarray([code != PENDING and Status(code).usable for code in part["status"].tolist()], bool)

        def number(values: np.ndarray, figure: Any, good: np.ndarray = good) -> str:
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
            )
        )
    return lines
