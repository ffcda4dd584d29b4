"""The report as a web page: one file that contains its style, with figures beside it, for light and dark screens."""

from collections.abc import Mapping, Sequence
from html import escape

from jaxdescramble.show.papers.evidence import LAYER_TITLES, pretty
from jaxdescramble.studies.deernet.claims import BY_CONSTRUCTION, FAILS, IN_PART, STANDS
from jaxdescramble.studies.deernet.contents import FindingContent, NullContent, ReadingContent, ReportContent

CAPTIONS = {
    "figure-2-first-layer": (
        "The first layer",
        "Raw and descrambled weights (a, b) and their 2-D spectra (c, d). Descrambling puts the layer on a few slow "
        "waves of the link axis. It cannot change which input frequencies the layer passes (e). Link frequency zero "
        "carries the baseline. Without it there is a notch at input frequency zero (f). Circles in d show the median "
        "input frequency of every link frequency; their area is its weight. Panel d shows the slow part of the link "
        "axis of c.",
    ),
    "figure-3-last-layer": (
        "The last layer",
        "Each row is a distance. After descrambling (b), the weights along a row are waves of the link axis. The paper "
        "found that fast waves make short distances. Then the energy in c and its centroid in d would move to the "
        "right towards the bottom; \N{GREEK SMALL LETTER TAU} is \N{MINUS SIGN}1 for a perfect map.",
    ),
    "figure-4-products": (
        "What works together",
        "Inner products of the last layer's columns before and after descrambling (a, b); the same by link frequency, "
        "which no gauge can change (c); inner products of its rows, which no frame can change (d). Bands along the "
        "diagonal mean that only neighbours work together. The network learned those singular values (e) that exceed "
        "the values from before training.",
    ),
    "figure-5-vectors": (
        "Singular vectors of the last layer",
        "On the link side the vectors are noise in the raw frame (a). They are smooth after descrambling on the data "
        "(b). With the paper's joint tap, which contains the weight itself, they become sinusoids by construction (c). "
        "Numbers are the share of energy at the strongest frequency. On the output side (d) the dashed line is the "
        "best Chebyshev polynomial of degree 1 to 8.",
    ),
    "figure-6-replica": (
        "The rational replica",
        "Two filters (a) and one matrix (b), regularised at the corner of the L-curve (c), replace the network. Below "
        "are three held-out traces, at the quartiles of the network's correlation with the truth, and the answers of "
        "network and replica.",
    ),
    "figure-7-nulls": (
        "Is it a finding?",
        "Every reading (line) beside the same reading of null networks (dots). The diamond is one network trained on "
        "shuffled targets; it is shown, but one network is no test. Each row has its own scale, with the direction of "
        "the paper's finding to the right. The p-values of the readings that decide a claim are corrected for their "
        "number. A claim stands if its reading beats every null with p at most 0.05 (bold) and the value is the "
        "paper's.",
    ),
}
TIMES = "\N{MULTIPLICATION SIGN}"
CLASSES = {STANDS: "stands", IN_PART: "part", BY_CONSTRUCTION: "construction", FAILS: "fails"}
STYLE = """
:root { --ink: #1b1b1b; --soft: #666; --line: #dcdcdc; --paper: #fdfdfb; --card: #fff; color-scheme: light dark;
  --stands: #00795a; --part: #8f5d00; --construction: #666; --fails: #b44700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4df; --soft: #a19e97; --line: #3a3a3c; --paper: #17181a;
  --card: #1e1f22; --stands: #3fcf9f; --part: #e9b44c; --construction: #a19e97; --fails: #ff8a4c; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 5rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; text-wrap: balance }
h2 { font-size: 1.25rem; margin: 3rem 0 .8rem }
p.lead { color: var(--soft); margin: 0 0 2rem; max-width: 44rem }
dl.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1rem; margin: 0 }
dl.numbers div { border-top: 2px solid var(--ink); padding-top: .5rem; display: flex; flex-direction: column }
dl.numbers dd { order: -1; margin: 0; font-size: 1.7rem; line-height: 1.2; letter-spacing: -.02em; white-space: nowrap }
dl.numbers dt { color: var(--soft); font-size: .875rem; line-height: 1.35 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4 }
th, td { text-align: left; vertical-align: top; padding: .45rem .9rem .45rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } thead th { border-bottom: 1px solid var(--ink); vertical-align: bottom }
tbody th[scope=row] { font-weight: 400 } tbody th[scope=rowgroup] { font-weight: 600; padding-top: 1.2rem }
td.number, th.number { text-align: right; white-space: nowrap }
small { color: var(--soft); font-size: .8125rem }
td small, th small { display: block }
.verdict { font-weight: 600; white-space: nowrap } .beaten { font-weight: 600 }
.stands { color: var(--stands) } .part { color: var(--part) }
.construction { color: var(--construction) } .fails { color: var(--fails) }
figure { margin: 0 0 2.75rem }
figure img { display: block; width: 100%; height: auto; background: #fff; padding: .9rem; border-radius: 4px;
  border: 1px solid var(--line) }
figcaption { margin-top: .7rem; max-width: 46rem; font-size: .9375rem }
a { color: inherit; text-underline-offset: .15em }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .875rem }
@media print { body { max-width: none; padding: 0 } figure, tr { break-inside: avoid } }
"""


def page(content: ReportContent, figures: Sequence[str]) -> str:
    """Return the report as a web page.

    Args:
        content: result of `jaxdescramble.show.papers.report.report`, which is also in `report.json`.
        figures: names of the figures beside the page (.png and .pdf), in order.

    Returns:
        The page as HTML.
    """
    plan = content["settings"]["plan"]
    counts = {verdict: sum(f["verdict"] == verdict for f in content["findings"]) for verdict in CLASSES}
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A descrambled network: what it learned, and what chance explains</title>
<style>{STYLE}</style>
</head>
<body>
<h1>A descrambled network: what it learned, and what chance explains</h1>
<p class="lead">DEERNet with {plan["layers"]} layers was trained for {plan["steps"]} steps on simulated traces (seed
{content["settings"]["seed"]}) and descrambled to the smoothest frame of its hidden signals. Every reading is compared
with the same reading of networks without the finding. Verdicts on the paper's claims: {escape(tally)}.</p>
<dl class="numbers">
{_headline(content)}
</dl>
<h2>Verdicts on the paper's findings</h2>
{_findings(content["findings"])}
{_gallery(figures)}
<h2>Every reading beside its nulls</h2>
<p><small>Mean and standard deviation over draws from the null, then p. <i>Random frame</i>: the same singular values in
random bases. <i>Untrained</i>: initial weights. <i>Shuffled targets</i>: one network that was trained on the targets of
other traces. All went through the same descrambling. Bold: the reading beats the null.</small></p>
{_readings(content["readings"])}
<footer>{_footer(content)}</footer>
</body>
</html>
"""


def number(value: float | int | None, digits: int = 3) -> str:
    """Format a number for people.

    >>> number(-8421624.7, 2), number(0.00891), number(40.7), number(1e-5, 1), number(None)
    ('−8.4 × 10⁶', '0.00891', '40.7', '1 × 10⁻⁵', '–')
    """
    if value is None:
        return "\N{EN DASH}"
    sign, size = "\N{MINUS SIGN}" if value < 0 else "", abs(value)
    if size == 0 or 1e-3 <= size < 1e5:
        written = f"{size:.0f}" if size >= 10 ** (digits - 1) else f"{size:.{digits}g}"
        return sign + written
    mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{sign}{mantissa} {TIMES} 10{raised}"


def headlines(content: ReportContent) -> list[tuple[str, str]]:
    """Return the most important numbers, each with its meaning."""
    agreement = content["agreement"]
    falls = [
        (number(entry["fall_held_out"], 2), f"times smoother on unseen signals, {_side(name)}")
        for name, entry in content["smoothness"].items()
    ]
    # A network of three layers has two more sides, but the readings are about the two ends.
    falls = falls if len(falls) <= 2 else [falls[0], falls[-1]]
    return [
        *falls,
        (number(content["function_change"], 2), "relative change of the output when P⁻¹P is inserted"),
        (number(agreement["network"]["correlation"]), "correlation with the truth, network"),
        (number(agreement["replica"]["correlation"]), "correlation with the truth, replica"),
    ]


def _side(name: str) -> str:
    layer, _, side = name.rpartition(" ")
    return f"{layer.strip(chr(91) + chr(93) + chr(39))} {side} side"


def _headline(content: ReportContent) -> str:
    return "\n".join(
        f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for value, what in headlines(content)
    )


def _findings(findings: Sequence[FindingContent]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(one["claim"])}</th>'
        f'<td class="verdict {CLASSES[one["verdict"]]}">{escape(one["verdict"])}</td>'
        f"<td>{escape(pretty(one['because']))}"
        f"<small>{'depends on the frame' if one['depends_on_point'] else 'the same in every frame'}</small></td></tr>"
        for one in findings
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">The paper\'s finding</th><th scope="col">Verdict</th>'
        f'<th scope="col">Because</th></tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )


def _gallery(figures: Sequence[str]) -> str:
    if not figures:
        return ""
    shown = []
    for name in figures:
        title, caption = CAPTIONS[name]
        label = name.split("-")[1]
        shown.append(
            f'<figure id="{name}"><img src="{name}.png" alt="Figure {label}: {escape(title)}" loading="lazy">\n'
            f"<figcaption><b>Figure {label}. {escape(title)}.</b> {escape(caption)} "
            f'<small><a href="{name}.pdf">PDF</a></small></figcaption></figure>'
        )
    return "<h2>Figures</h2>\n" + "\n".join(shown)


def _readings(readings: Mapping[str, Sequence[ReadingContent]]) -> str:
    names = list(next(iter(readings.values()))[0]["nulls"])
    columns = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in names)
    body = []
    for layer, group in readings.items():
        title = escape(LAYER_TITLES.get(layer, layer))
        body.append(f'<tr><th scope="rowgroup" colspan="{2 + len(names)}">{title}</th></tr>')
        for one in group:
            cells = "".join(_null(one["nulls"][name], one["direction"]) for name in names)
            depends = "depends on P" if one["depends_on_point"] else "does not depend on P"
            body.append(
                f'<tr><th scope="row">{escape(pretty(one["name"]))}<small>{escape(pretty(one["unit"]))}; {depends}; '
                f'{escape(one["note"])}</small></th><td class="number">{number(one["value"])}</td>{cells}</tr>'
            )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">Reading</th><th scope="col" class="number">Value</th>'
        f"{columns}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


def _null(null: NullContent, direction: int) -> str:
    spread = "" if null["sd"] is None else f" ± {number(null['sd'], 2)}"
    below = f"p = {number(null['p_value'], 2)}" if len(null["draws"]) > 1 else "one network"
    mark = " beaten" if null["beaten"] and direction else ""
    return f'<td class="number{mark}">{number(null["mean"])}{spread}<small>{below}</small></td>'


def _footer(content: ReportContent) -> str:
    seconds = "; ".join(f"{name} {spent:.1f} s" for name, spent in content["seconds"].items())
    versions = ", ".join(f"{name} {text}" for name, text in content["versions"].items())
    hardware = content["hardware"]
    where = f"{hardware['device_kind']} ({hardware['platform']}, {hardware['machine']})"
    return escape(f"{versions}. {where}. Time: {seconds}.") + (
        ' All numbers: <a href="report.json">report.json</a>; weights and frames: '
        '<a href="matrices.npz">matrices.npz</a>. Method: Amey, Keeley, Choudhury, Kuprov, PNAS 118, e2016917118 '
        "(2021); nulls and verdicts are ours."
    )
