"""The report of a sweep: a page, its numbers, and figures of the results."""

import contextlib
import json
import platform
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble._base.inputs import Layer
from jaxdescramble._base.status import DIAGNOSES, Status
from jaxdescramble.show.page import STYLE
from jaxdescramble.show.papers.report import write_figure, write_text
from jaxdescramble.show.style import BLUE, DOUBLE, GREY, INK, PALE, image, panel, sheet, styled
from jaxdescramble.show.sweeps.numbers import HEADINGS, SweepProgress, progress_of, summary_lines
from jaxdescramble.sweeps import Table
from jaxdescramble.sweeps.folder import KindOfProblem, events
from jaxdescramble.sweeps.table import PENDING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, LISTED = 4, 200
CAPTIONS = {
    "values": (
        "Before and after",
        "Every problem of an objective, ordered by its final value: grey before, blue after. The line is the bound, if "
        "the objective has one: no orthogonal matrix goes below it. Smaller is more readable. The whole scale is 0 to "
        "1.",
    ),
    "layers": (
        "Layers, as trained and descrambled",
        "Weights (or signals, if there is no weight) from the file, and the same in the frame that was found for the "
        "first objective. The layers are those with the largest decrease, the smallest, and two between.",
    ),
}


class SweepContent(SweepProgress):
    """What `report.json` holds. "where" names the machine and the version of JAX."""

    kinds: list[KindOfProblem]
    where: str


def write_sweep_report(table: Table, layers: Mapping[str, Layer], figures: bool) -> Path:
    """Write `report.json`, figures and `index.html` beside the results of a sweep.

    Args:
        table: table of the sweep, finished or not.
        layers: layers of the source files by label, for pictures; empty for no pictures.
        figures: whether to draw figures, which need matplotlib.

    Returns:
        The path of `index.html`.

    Raises:
        OSError: if a file cannot be written. Files written before are complete.
    """
    content: SweepContent = {**progress_of(table), "kinds": table.kinds(), "where": _where(table)}
    write_text(table.folder / "report.json", json.dumps(content, indent=1) + "\n")
    drawn = []
    if figures and (table["status"] != PENDING).any():
        write_figure(table.folder / "values", values_figure(table))
        drawn.append("values")
        examples = _examples(table, layers)
        if examples:
            write_figure(table.folder / "layers", examples_figure(examples))
            drawn.append("layers")
    write_text(table.folder / "index.html", _page(table, content, summary_lines(table), drawn))
    return table.folder / "index.html"


@styled
def values_figure(table: Table) -> "Figure":
    """Draw the values before and after, and the bounds, with one panel for each objective."""
    names = list(dict.fromkeys(table["objective"].tolist()))
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure = sheet(DOUBLE if columns > 1 else DOUBLE / 1.6, 58 * rows)
    for place, name in enumerate(names):
        ax = figure.add_subplot(rows, columns, place + 1)
        part = table.where(objective=name)
        good = np.flatnonzero(np.isfinite(part["value"]))
        order = good[np.argsort(part["value"][good], kind="stable")]
        x = np.arange(len(order))
        before, after, bound = (part[column][order] for column in ("initial_value", "value", "bound"))
        ax.vlines(x, after, before, color=PALE, lw=min(0.6, 40 / max(len(x), 1)), zorder=0)
        ax.plot(x, before, ".", color=GREY, ms=2.5, label="as trained")
        ax.plot(x, after, ".", color=BLUE, ms=2.5, label="descrambled")
        known = np.isfinite(bound)
        if known.any():
            ax.plot(x[known], bound[known], color=INK, lw=0.7, label="bound", zorder=1)
        positive = min(after.min(initial=1.0), before.min(initial=1.0)) > 0
        if positive:
            ax.set_yscale("log")
        panel(ax, chr(ord("a") + place), str(name), "Problem, by value", "Value")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, handletextpad=0.3, columnspacing=1)
    return figure


def _examples(table: Table, layers: Mapping[str, Layer]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return layers, raw and descrambled, spread evenly over the order of their decrease."""
    if "layer" not in table.columns or not layers:
        return []
    part = table.where(objective=table["objective"][0])
    rows = [row for row, code in enumerate(part["status"].tolist()) if code != PENDING and Status(code).usable]
    rows = [row for row in rows if str(part["layer"][row]) in layers]
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = np.nan_to_num(part["value"] / part["initial_value"])
    rows = sorted(rows, key=lambda row: fall[row])
    chosen = [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, SHOWN).astype(int))] if rows else []
    found = []
    for row in chosen:
        name = str(part["layer"][row])
        try:
            weight = layers[name].read_weight()
        except (OSError, ValueError):  # the files may have moved; the report works without them
            continue
        with contextlib.suppress(KeyError):  # the sweep kept no points
            if weight.shape[0] == part["n"][row]:
                found.append((name, weight, part.point(row) @ weight))
    return found


@styled
def examples_figure(examples: list[tuple[str, np.ndarray, np.ndarray]]) -> "Figure":
    """Draw matrices from the file, and descrambled below."""
    figure = sheet(DOUBLE, 2 * 150 / max(len(examples), 3))
    for column, (name, raw, readable) in enumerate(examples):
        short = name if len(name) <= 28 else f"...{name[-25:]}"
        for row, (matrix, title) in enumerate(((raw, short), (readable, "descrambled"))):
            ax = figure.add_subplot(2, len(examples), row * len(examples) + column + 1)
            image(ax, matrix)
            letter = chr(ord("a") + row * len(examples) + column)
            panel(ax, letter, title, "Column" if row else "", "" if column else "Neuron" if row == 0 else "Row of P")
    return figure


def _where(table: Table) -> str:
    makers = table.makers()
    made = f"{makers[0]['device']}, jax {makers[0]['jax']}" if makers else "nothing yet"
    return f"{platform.machine()}; {made}"


def _page(table: Table, content: SweepContent, lines: list[tuple[str, ...]], drawn: list[str]) -> str:
    done, solved = content["done"], content["solved"]
    unsolved = [row for row, code in enumerate(table["status"].tolist()) if code != PENDING and not Status(code).usable]
    title = f"A sweep of {len(table)} problems"
    state = "" if done == len(table) else f" {len(table) - done} have no result yet."
    labels = [name for name in table.columns if name not in ("n", "m", "dtype", "group")][:4]
    heads = "".join(_cell("th", place, name) for place, name in enumerate(HEADINGS))
    body = "".join(
        f"<tr><th scope=row>{escape(line[0])}</th>"
        + "".join(_cell("td", place, cell) for place, cell in enumerate(line[1:], 1))
        + "</tr>"
        for line in lines
    )
    figures = "".join(
        f'<figure><a href="{name}.pdf"><img src="{name}.png" alt="{escape(CAPTIONS[name][0])}"></a>'
        f"<figcaption><b>{escape(CAPTIONS[name][0])}.</b> {escape(CAPTIONS[name][1])}</figcaption></figure>"
        for name in drawn
    )
    numbers = (
        (f"{done}", f"of {len(table)} problems done"),
        (f"{solved}", "with an answer"),
        (f"{content['seconds_worked']:.0f} s", "of work on devices and disk"),
        (f"{len({event['device'] for event in events(table.folder) if event['event'] == 'chunk'})}", "devices at work"),
    )
    cells = "".join(f"<div><dd>{escape(value)}</dd><dt>{escape(what)}</dt></div>" for value, what in numbers)
    kinds = "; ".join(
        f"{kind['problems']} of {kind['shape'][0]} x {kind['shape'][1]}, {kind['dtype']}, in chunks of {kind['chunk']}"
        + (f", {kind['rank']} components kept" if "rank" in kind else "")
        for kind in content["kinds"]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="lead">{escape(kinds)}.{escape(state)} Matrices are in <code>chunks/</code>;
<code>jaxdescramble.sweeps.Table.load(folder).point(row)</code> reads one.</p>
<dl class="numbers">{cells}</dl>
<h2>By objective and solver</h2>
<p>Before, after and steps are medians over problems with an answer. The gap is the value minus the bound. For a closed
form it is only rounding.</p>
<div class="scroll"><table>
<thead><tr>{heads}</tr></thead>
<tbody>{body}</tbody></table></div>
{_ends(content)}
{_failures(table, unsolved, labels)}
<h2>Pictures</h2>
{figures or "<p>No pictures.</p>"}
<footer>{escape(content["where"])}. <a href="table.csv">table.csv</a>, <a href="table.npz">table.npz</a>,
<a href="report.json">report.json</a>, <a href="log.jsonl">log.jsonl</a>.</footer>
</body>
</html>
"""


def _cell(tag: str, place: int, text: str) -> str:
    """Return a cell of the first table; numbers are aligned to the right."""
    number = " class=number" * (1 < place < len(HEADINGS) - 1)
    return f"<{tag}{number}>{escape(text)}</{tag}>"


def _ends(content: SweepProgress) -> str:
    """Return a table of statuses: how many problems ended with each, and whether it is an answer."""
    rows = [
        (name, count, "yes" if Status[name].usable else "no; see below") for name, count in content["statuses"].items()
    ]
    if content["done"] < content["problems"]:
        rows.append(("not done", content["problems"] - content["done"], "not yet"))
    body = "".join(
        f"<tr><th scope=row>{name}</th><td class=number>{count}</td><td>{answer}</td></tr>"
        for name, count, answer in rows
    )
    heads = "<th>status</th><th class=number>problems</th><th>an answer</th>"
    return f"""<h2>How problems ended</h2>
<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"""


def _failures(table: Table, rows: list[int], labels: list[str]) -> str:
    if not rows:
        return ""
    reasons = {code: DIAGNOSES[Status(code)] for code in table["status"][rows].tolist()}
    said = "".join(f"<p><b>{Status(code).name}</b>: {escape(why)}</p>" for code, why in reasons.items())
    heads = "".join(f"<th>{escape(name)}</th>" for name in [*labels, "status"])
    body = "".join(
        "<tr>"
        + "".join(f"<td>{escape(str(table[name][row]))}</td>" for name in labels)
        + f"<td>{Status(table['status'][row]).name}</td></tr>"
        for row in rows[:LISTED]
    )
    more = f"<p>The table has {len(rows) - LISTED} more.</p>" if len(rows) > LISTED else ""
    return f"<h2>Without an answer</h2>{said}<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}"
