"""The page of a report: one HTML file with its style and its pictures (SVG) inside, for light and dark screens."""

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble._base import drawing
from jaxdescramble.findings.explanations import _counts, sentences
from jaxdescramble.findings.explanations._wave_pictures import figure, wave_pictures

if TYPE_CHECKING:
    from jaxdescramble.findings.explanations.report import LayerExplanation, Report, Verdict

STYLE = """
:root { --ink: #1b1b1b; --soft: #666; --line: #dcdcdc; --paper: #fdfdfb; --found: #00795a; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4df; --soft: #a19e97; --line: #3a3a3c; --paper: #17181a;
  --found: #3fcf9f } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 2rem 1.25rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .6rem; text-wrap: balance }
h2 { font-size: 1.15rem; margin: 3rem 0 .6rem; overflow-wrap: anywhere }
p.lead { color: var(--soft); max-width: 46rem }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4 }
th, td { text-align: left; vertical-align: middle; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line) }
thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom }
tbody th { font-weight: 400; min-width: 9rem } th small { min-width: 14rem }
td.number, th.number { text-align: right; white-space: nowrap }
tr.found th, tr.found td { color: var(--found); font-weight: 600 }
small { color: var(--soft); display: block; font-size: .8125rem; font-weight: 400 }
td.names { min-width: 14rem }
.scroll { overflow-x: auto }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem; margin: .6rem 0 1rem }
section { content-visibility: auto; contain-intrinsic-size: auto 60rem }
.notice { border-left: 3px solid #d9622b; padding-left: .8rem; max-width: 46rem }
.waves figure { width: 10rem } .waves figcaption { overflow-wrap: anywhere }
ol.findings { padding-left: 1.6rem; max-width: 52rem } ol.findings li { margin-bottom: .7rem }
a { color: inherit } h2#findings { margin-top: 1.5rem } h3 { font-size: .95rem; margin: 1.2rem 0 0 }
@media (max-width: 30rem) { .pictures { gap: 1rem .8rem } .pictures figure { width: calc(50% - .4rem) }
  .pictures svg { max-width: 100% } }
figure { margin: 0 } figcaption { color: var(--soft); font-size: .8125rem; max-width: 11rem }
"""
WORDS = (
    (
        "Finding",
        "a reading that beats every null that can change it. It says that training left a trace there. It does "
        "not say that the network uses it, and a layer without findings may still do its work. Readings of one layer "
        "depend on each other, because they are read from one matrix. So one fact about a layer can show as several "
        "findings, and their number does not count facts.",
    ),
    (
        "Wave",
        "after descrambling, the neurons of a layer stand in an order in which the signals change slowly from one "
        "neuron to the next. Along this order, the neurons differ in waves: slow and strong ones, fast and weak ones. "
        "They are the principal components of the preactivations W X (without biases); the page shows the strongest "
        "six. The sign of a wave is arbitrary. Cycles count its periods along the inputs.",
    ),
    (
        "Columns",
        "the signals of each half that are read: one for each sample, token, or place of a window. A layer with more "
        "than 16,384 in a half gives a random part of them.",
    ),
    ("Roughness", "0 if the numbers along an axis are all equal, 1 if they alternate as fast as possible."),
    (
        "p",
        "how often a network without findings shows a reading as extreme as this one anywhere in all layers. The "
        "floor is the smallest p-value that this number of draws can give.",
    ),
    (
        "Effect",
        "how far the network lies from the draws, in their standard deviations, in the direction of a finding; "
        "for the null that comes closest.",
    ),
    (
        "Interval",
        "the middle 95% of the values when the groups of samples of each half are drawn again, with replacement. It "
        "says how much the value depends on which samples were taken. A reading that gets better with more groups can "
        "lie outside, because a resample repeats some groups and lacks others.",
    ),
    (
        "Not judged",
        "this null cannot change the reading: for example, all random frames have the same singular values.",
    ),
    (
        "Inputs of hidden layers",
        "they have no order of their own. They are descrambled too, on the input signals, and "
        "their waves follow that order.",
    ),
)
"""What a reader must know, word by word."""
WIDE, TALL, SHADES = 200, 26, 4
LISTED = 20
"""Number of findings that are listed at the top; the others unfold."""


def number(value: float) -> str:
    """Return a number with three digits; a dash for NaN.

    >>> number(0.12345), number(float("nan"))
    ('0.123', '–')
    """
    return "\N{EN DASH}" if math.isnan(value) else f"{value:.3g}"


def p_text(value: float, draws: int) -> str:
    """Return a p-value; a value at the floor `1 / (draws + 1)` says so.

    >>> p_text(0.005, 199), p_text(0.25, 199), p_text(float("nan"), 199)
    ('0.005, the floor', '0.25', 'not judged')
    """
    if math.isnan(value):
        return "not judged"
    return f"{value:.3g}" + (", the floor" if value <= 1.0001 / (draws + 1) else "")


def sentence(one: "Verdict") -> str:
    """Return a verdict as a short text."""
    against = ", ".join(f"{name} {number(mean)}" for name, (mean, _) in one.nulls.items())
    return f"{number(one.value)} (nulls: {against}), p = {number(one.p_value)}"


def strip(value: float, draws: dict[str, np.ndarray], title: str) -> str:
    """Return a picture of a reading on its nulls: a line for the network, a row of dots for each null.

    The dots of a null are drawn in `SHADES` paths, so that the picture is darker where many draws lie.

    >>> strip(3.0, {"noise": np.asarray([0.0, 1.0])}, "rank").count("h0")
    2
    """
    everything = np.concatenate([[value], *draws.values()])
    finite = everything[np.isfinite(everything)]
    if not len(finite):
        return ""
    low, high = float(finite.min()), float(finite.max())
    span = (high - low) or 1.0

    def place(x: float) -> float:
        return 6 + (WIDE - 12) * (x - low) / span

    height = max(TALL, 9 * len(draws) + 8)
    parts = []
    for row, (name, drawn) in enumerate(draws.items()):
        kept = np.sort(drawn[np.isfinite(drawn)])
        kept = kept[:: -(-len(kept) // 60) or 1]
        y = (row + 0.5) * height / max(len(draws), 1)
        dots = [f"M{place(x):.1f} {y:.1f}h0" for x in kept.tolist()]
        paths = "".join(f'<path d="{"".join(dots[k::SHADES])}"/>' for k in range(min(SHADES, len(dots))))
        ink = 'stroke="currentColor" stroke-opacity=".35" stroke-width="4" stroke-linecap="round"'
        parts.append(f"<g {ink}><title>{escape(name)}</title>{paths}</g>")
    if math.isfinite(value):
        x = place(value)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="1" y2="{height - 1}" stroke="#d9622b" stroke-width="2"/>')
    text = escape(title, quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{text}" width="{WIDE}" height="{height}" '
        f'viewBox="0 0 {WIDE} {height}"><title>{text}</title>{"".join(parts)}</svg>'
    )


def thumbnail(one: "LayerExplanation") -> str:
    """Return a small picture of a layer's descrambled weight."""
    return drawing.heat_map(one.after, f"{one.name}, descrambled")


def pictures(one: "LayerExplanation") -> str:
    """Return the pictures of a layer side by side."""
    shape = f"{one.before.shape[0]} x {one.before.shape[1]}"
    spectrum = np.asarray(one.singular_values, np.float64)
    curves = [spectrum, np.full(len(spectrum), one.edge)]
    return (
        '<div class="pictures">'
        + figure(
            drawing.heat_map(one.before, f"{one.name}, as trained", 175), f"As trained, {shape}: a neuron in each row"
        )
        + figure(
            drawing.heat_map(one.after, f"{one.name}, descrambled", 175),
            "Descrambled: waves along the axes that have no order",
        )
        + figure(drawing.heat_map(one.null, f"{one.name}, null", 175), f"One draw of '{one.null_name}', descrambled")
        + figure(
            drawing.lines(curves, f"{one.name}, singular values", 175),
            "Singular values; the flat line is the edge of noise (Marchenko-Pastur)",
        )
        + "</div>"
    )


def layer(one: "LayerExplanation") -> str:
    """Return the picture of one layer: its matrices, and its strongest reading with value and p-value."""
    judged = [verdict for verdict in one.verdicts if not math.isnan(verdict.p_value)]
    caption, drawn = "No reading of this layer could be judged.", ""
    if judged:
        best = min(judged, key=lambda verdict: verdict.p_value)
        place = one.verdicts.index(best)
        draws = {name: values[:, place] for name, values in one.draws.items()}
        drawn = strip(best.value, draws, best.reading)
        caption = f"{best.reading}: {sentence(best)}"
    return f"<div><strong>{escape(one.name)}</strong>{pictures(one)}{figure(drawn, caption)}</div>"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f"<th>{escape(one)}</th>" for one in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _verdict_row(one: "Verdict", place: int, of: "LayerExplanation", report: "Report") -> str:
    draws = {name: values[:, place] for name, values in of.draws.items() if name in one.p_values}
    arrow = {1: "large", -1: "small", 0: "either"}[one.direction]
    against = "".join(
        f'<td class="number">{p_text(p, len(of.draws[name]))}<small>{number(one.nulls[name][0])} &plusmn; '
        f"{number(one.nulls[name][1])}</small></td>"
        for name, p in one.p_values.items()
    )
    mark = ' class="found"' if one.p_value <= report.alpha else ""
    frame = "" if one.depends_on_point else " The descrambler cannot change it."
    return (
        f"<tr{mark}><th>{escape(one.reading)}<small>{escape(one.note)}.{frame}</small></th>"
        f'<td class="number">{number(one.value)}{_interval(one)}</td><td>{arrow}</td>'
        f'<td class="number">{number(one.effect)}</td>'
        f"<td>{strip(one.value, draws, one.reading)}</td>{against}</tr>"
    )


def _interval(one: "Verdict") -> str:
    return "" if one.interval is None else f"<small>{number(one.interval[0])} to {number(one.interval[1])}</small>"


def _description(name: str, values: dict[str, float], report: "Report") -> str:
    """Return a paragraph: shares in per cent, readings beside those of the samples as they are."""
    layer = report.layers.get(name.partition(", ")[2])
    if name.startswith("share"):
        parts = [f"{escape(what)} {value:.0%}" for what, value in values.items()]
    elif layer is None:
        parts = [f"{escape(what)} {value:,.0f}" for what, value in values.items()]
    else:
        own = {one.reading: one.value for one in layer.verdicts}
        parts = [f"{escape(what)} {number(value)} (as it is: {number(own[what])})" for what, value in values.items()]
    return f"<p>{escape(name)} (a description, no test): {'; '.join(parts)}</p>"


def _layer_section(place: int, one: "LayerExplanation", report: "Report") -> str:
    rows = [_verdict_row(verdict, place, one, report) for place, verdict in enumerate(one.verdicts)]
    order = ", ".join(f"row {k + 1}: {name}" for k, name in enumerate(one.draws))
    nulls = [f"p against {name} (floor {1 / (len(drawn) + 1):.3g}); its mean ± sd" for name, drawn in one.draws.items()]
    value = "Value" if all(verdict.interval is None for verdict in one.verdicts) else "Value, 95% interval"
    table = _table(
        ("Reading", value, "Finding if", "Effect, sd", f"The network (line) on draws (dots; {order})", *nulls), rows
    )
    found = "; ".join(_said(verdict) for verdict in one.verdicts if verdict.p_value <= report.alpha)
    said = f"<p>{escape(f'Findings: {found}' if found else 'No finding')}.</p>"
    far = "; ".join(
        f"{verdict.reading} {number(verdict.value)} ({sentences.nulls_of(verdict)})"
        for verdict in one.verdicts
        if sentences.opposite(verdict)
    )
    said += f"<p>{escape(f'Far from chance in the other direction (no test): {far}')}.</p>" if far else ""
    note = f"<p class='notice'>{escape(one.note)}</p>" if one.note else ""
    return (
        f"<section id='layer-{place}'><h2>{escape(one.name)}</h2>{said}{note}{pictures(one)}{wave_pictures(one)}{table}"
        "</section>"
    )


def _said(one: "Verdict") -> str:
    return one.claim or one.reading


def _findings(report: "Report") -> str:
    """Return the list of findings, as sentences with links to their layers."""
    places = {name: place for place, name in enumerate(report.layers)}
    items = []
    for one in report.findings:
        against = sentences.nulls_of(one)
        look_at = f" Look at {one.look_at}." if one.look_at else ""
        strictest = max(sentences.applying(one), key=lambda name: (one.p_values[name], name))
        p = p_text(one.p_value, report.null_draws[strictest])
        numbers = f"{one.reading} is {number(one.value)}; {against}; p = {p}.{look_at}"
        items.append(
            f"<li><a href='#layer-{places[one.layer]}'>{escape(one.layer)}</a>: <strong>{escape(_said(one))}</strong>"
            f"<small>{escape(numbers)}</small></li>"
        )
    if not items:
        return ""
    more = "".join(items[LISTED:])
    if more:
        more = f"<details><summary>{len(items) - LISTED} more</summary><ol class='findings'>{more}</ol></details>"
    return f"<h2 id='findings'>Findings</h2><ol class='findings'>{''.join(items[:LISTED])}</ol>{more}"


def whole(report: "Report") -> str:
    """Return the whole page."""
    nulls, counts = ", ".join(f"'{name}'" for name in report.nulls), report.null_draws
    lead = (
        f"The samples were split in two halves ({report.samples[0]} and {report.samples[1]} samples, {report.groups} "
        "groups). Frames were found on one half and read on the other, and the other way round. "
        f"{_counts.drawn(counts)} ({nulls}) went through the same steps. {_counts.floors(counts)} A reading is a "
        f"finding if its p-value is at most {report.alpha:g} against every null that can change it. The p-values count "
        "all readings of all layers."
    )
    rows = []
    for place, one in enumerate(report.layers.values()):
        found = [verdict for verdict in one.verdicts if verdict.p_value <= report.alpha]
        names = ", ".join(verdict.reading for verdict in found) or "no finding"
        mark = ' class="found"' if found else ""
        rows.append(
            f"<tr{mark}><th><a href='#layer-{place}'>{escape(one.name)}</a></th>"
            f"<td>{one.before.shape[0]} x {one.before.shape[1]}</td><td>{escape(one.link) or '&ndash;'}</td>"
            f"<td>{' and '.join(one.ordered) or 'none'}</td><td>{one.columns[0]} + {one.columns[1]}</td>"
            f"<td class='names'>{escape(names)}</td></tr>"
        )
    words = "".join(f"<p><strong>{escape(word)}</strong>: {escape(text)}</p>" for word, text in WORDS)
    guide = f"<details><summary>How to read this page</summary>{words}</details>"
    table = _table(
        ("Layer", "Outputs x inputs", "Place in the network", "Ordered axes", "Columns of signals", "Findings"), rows
    )
    skipped = "".join(f"<p>Not judged: {escape(name)}: {escape(why)}.</p>" for name, why in report.skipped.items())
    stopped = f"<p>{escape(report.stopped)}.</p>" if report.stopped else ""
    others = "".join(_description(name, one, report) for name, one in report.descriptions.items())
    intervals = f"<p>{escape(report.intervals)}</p>" if report.intervals else ""
    sections = "".join(_layer_section(place, one, report) for place, one in enumerate(report.layers.values()))
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>Explanation of a network</title><style>{STYLE}</style></head><body><h1>{escape(report.headline)}</h1>"
        f"<p class='lead'>{escape(lead)}</p>{stopped}{guide}{_findings(report)}"
        f"<h2 id='layers'>Layers</h2>{table}{skipped}{intervals}{others}{sections}</body></html>"
    )
