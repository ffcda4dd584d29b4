"""Two figures that test the claims: does a replica do what the network does, and does chance show the same readings?"""

from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble.findings import Reading
from jaxdescramble.show.style import (
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    INK,
    PALE,
    PURPLE,
    VERMILION,
    image,
    panel,
    plotting,
    sheet,
    styled,
)
from jaxdescramble.studies.deernet.claims import BY_CONSTRUCTION, FAILS, IN_PART, STANDS, Finding, beaten
from jaxdescramble.studies.deernet.demonstration import Demonstration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

TIME, DISTANCE = "Time (μs)", "Distance (Å)"
# Amber, dark enough for text.
VERDICT_COLOURS = {STANDS: GREEN, IN_PART: "#b87700", BY_CONSTRUCTION: GREY, FAILS: VERMILION}
NULL_COLOURS = {"random frame": BLUE, "untrained": GREY, "shuffled targets": PURPLE}
LAYER_TITLES = {"first": "First layer", "last": "Last layer", "last, joint tap": "Last layer, the paper's joint tap"}


@styled
def replica_figure(demonstration: Demonstration) -> "Figure":
    """Draw figure 6: the rational replica, its parts, and its answers for three held-out traces.

    The traces are those at the quartiles of the network's correlation with the truth, so nobody chose them.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.

    Source: Amey et al. 2021, fig. 6.
    """
    replica, grid = demonstration.replica, demonstration.settings.plan.grid
    figure = sheet(DOUBLE, 132)
    top, rest = figure.add_gridspec(2, 1, height_ratios=(1, 1.5))
    a, b, c = (figure.add_subplot(cell) for cell in top.subgridspec(1, 3, width_ratios=(1, 1.15, 1)))

    frequencies, high, low = replica.response(4096)
    a.semilogx(frequencies[1:], high[1:], color=BLUE, label="high-pass")
    a.semilogx(frequencies[1:], low[1:], color=VERMILION, label="low-pass")
    a.semilogx(frequencies[1:], (high * low)[1:], color=INK, lw=0.7, ls=(0, (2, 1.5)), label="both")
    a.set(xlim=(frequencies[1], 1), ylim=(-0.03, 1.22))
    a.legend(loc="center left", bbox_to_anchor=(0.02, 0.5))
    panel(a, "a", "Filters, forward and back", "Frequency / Nyquist", "Gain")

    image(b, replica.transform, (0, grid.t_max, grid.distance[0], grid.distance[-1]), label="Weight")
    panel(b, "b", "Transform $T$", TIME, DISTANCE)

    curve = replica.curve
    c.loglog(curve.residual, curve.size, color=GREY)
    c.plot(curve.residual[curve.corner], curve.size[curve.corner], "o", color=VERMILION, ms=4)
    c.annotate(
        f"$\\lambda$ = {float(replica.regularisation):.2g}",
        (curve.residual[curve.corner], curve.size[curve.corner]),
        (9, 9),
        textcoords="offset points",
        color=VERMILION,
    )
    _plain_log_ticks(c.xaxis)
    panel(c, "c", "L-curve and its corner", r"Residual $\|TF-P\|$", r"Size $\|T\|$")

    axes = np.asarray(rest.subgridspec(2, 3, height_ratios=(1, 1.2)).subplots(), object)
    for column, index in enumerate(_quartiles(demonstration)):
        trace, clean = (np.asarray(x[:, index]) for x in (demonstration.test.trace, demonstration.test.clean))
        above, below = axes[:, column]
        above.plot(grid.time, trace, ".", color=PALE, ms=1.5, rasterized=True, label="trace")
        above.plot(grid.time, clean, color=INK, lw=0.7, label="without noise")
        above.set(xlim=(0, grid.t_max))
        above.xaxis.set_major_locator(plotting("matplotlib.ticker").MaxNLocator(5))
        panel(above, "def"[column], f"{('Lower quartile', 'Median', 'Upper quartile')[column]} of fits", TIME)
        truth = np.asarray(demonstration.test.distribution[:, index])
        below.fill_between(grid.distance, truth, color=PALE, alpha=0.7, lw=0, label="truth")
        for name, colour in (("network", BLUE), ("replica", VERMILION)):
            estimate = np.asarray(demonstration.estimates[name][:, index])
            agreement = np.corrcoef(estimate, truth)[0, 1] if estimate.std() > 0 else 0.0
            below.plot(grid.distance, estimate, color=colour, label=f"{name}, r = {agreement:.2f}")
        below.set(xlim=(grid.distance[0], grid.distance[-1]), ylim=(0, 1.19))
        below.set_xlabel(DISTANCE)
        below.legend(loc="upper right", ncols=2, columnspacing=0.9)
    axes[0, 0].set_ylabel("Signal")
    axes[1, 0].set_ylabel("p(r), scaled")
    axes[0, 0].legend(loc="upper right", markerscale=2)
    return figure


@styled
def nulls_figure(demonstration: Demonstration) -> "Figure":
    """Draw figure 7: is it a finding? Every reading beside its nulls, with the direction of the finding to the right.

    A row is a reading with its own scale. Dots are draws from the null models. The diamond is the one network that was
    trained on shuffled targets. The line is the value. At the right are the p-value of each null, and the verdict on
    the claim that depends on the reading.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A matplotlib Figure, 180 mm wide.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    groups = {name: list(group) for name, group in demonstration.readings.items()}
    rows = [(name, reading) for name, group in groups.items() for reading in group]
    pitch, heading, head, foot = 10.2, 6.0, 13.0, 3.0
    height = pitch * len(rows) + heading * len(groups) + head + foot
    figure = sheet(DOUBLE, height)
    figure.set_layout_engine("none")
    y = height - head
    columns = {"value": 0.650, "p": 0.765, "verdict": 0.785}
    _head(figure, height, columns)
    current = None
    for name, reading in rows:
        if name != current:
            y -= heading
            current = name
            title = LAYER_TITLES.get(name, name)
            figure.text(0.012, (y + 1.2) / height, title, fontsize=7.5, fontweight="bold", va="bottom")
            _rule(figure, (y + 0.4) / height)
        y -= pitch
        ax = figure.add_axes((0.265, (y + 3.3) / height, 0.31, (pitch - 4.0) / height))
        _strip(ax, reading)
        _margins(figure, (y + 3.3 + (pitch - 4.0) / 2) / height, name, reading, demonstration.findings, columns)
    return figure


def _head(figure: "Figure", height: float, columns: dict[str, float]) -> None:
    lines = plotting("matplotlib.lines")
    handles = [
        lines.Line2D([], [], ls="", marker="D" if name.startswith("shuffled") else "o", color=colour, ms=3, label=name)
        for name, colour in NULL_COLOURS.items()
    ]
    handles.append(lines.Line2D([], [], color=INK, lw=1.6, label="this network"))
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.42, 1 - 1.5 / height), ncols=4, columnspacing=1.2
    )
    y = 1 - 10.5 / height
    bold = {"fontsize": 6.5, "fontweight": "bold", "va": "center"}
    figure.text(0.012, y, "Reading", **bold)
    figure.text(0.42, y, "chance  \N{RIGHTWARDS ARROW}  finding", ha="center", color=GREY, fontsize=6.5, va="center")
    figure.text(columns["value"], y, "Value", ha="right", **bold)
    figure.text(columns["p"], y, "p of each null", ha="right", **bold)
    figure.text(columns["verdict"], y, "The claim", **bold)


def _rule(figure: "Figure", y: float) -> None:
    line = plotting("matplotlib.lines").Line2D((0.012, 0.988), (y, y), color=PALE, lw=0.5)
    figure.add_artist(line)


def _strip(ax: "Axes", reading: Reading) -> None:
    """Draw the draws of every null, each null on its own line, and the value through all of them."""
    draws = {name: np.asarray(values, np.float64) for name, values in reading.nulls.items()}
    finite = [values[np.isfinite(values)] for values in draws.values()]
    everything = np.concatenate([*finite, [reading.value] if np.isfinite(reading.value) else []])
    low, high = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 1.0)
    wide = low > 0 and high / low > 8
    if wide:
        pad = (high / low) ** 0.06
        ax.set_xscale("log")
        ax.set_xlim(low / pad, high * pad)
        _plain_log_ticks(ax.xaxis)
    else:
        # If P cannot change a reading, its draws differ only by rounding. The scale must not show rounding as a spread.
        pad = 0.06 * max(high - low, 0.02 * max(abs(low), abs(high)), 1e-6)
        ax.set_xlim(low - pad, high + pad)
        ax.xaxis.set_major_locator(plotting("matplotlib.ticker").MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
        ax.ticklabel_format(axis="x", useOffset=False, style="plain")
    if reading.direction < 0:
        ax.invert_xaxis()
    jitter = (np.arange(1000) * 0.6180339887 % 1 - 0.5) * 0.62
    for lane, (name, values) in enumerate(draws.items()):
        height, colour = len(draws) - 1 - lane, NULL_COLOURS.get(name, GREY)
        ax.axhline(height, color="#ececec", lw=0.5, zorder=0)
        if len(values) == 1:
            ax.plot(values, [height], "D", color=colour, ms=3, mew=0)
            continue
        spread = height + jitter[np.arange(len(values)) % 1000]
        ax.plot(values, spread, "o", color=colour, ms=1.9, mew=0, alpha=0.65)
        mean = float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan
        ax.plot([mean, mean], [height - 0.45, height + 0.45], color=INK, lw=0.5)
    ax.axvline(reading.value, color=INK, lw=1.6, zorder=3, solid_capstyle="butt")
    ax.set_ylim(-0.7, len(draws) - 0.3)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="x", labelsize=5.2, length=1.5, pad=1)
    ax.set_label(reading.name)


def _margins(
    figure: "Figure", y: float, layer: str, reading: Reading, findings: list[Finding], columns: dict[str, float]
) -> None:
    height = figure.get_figheight() * 25.4
    figure.text(0.012, y + 1.3 / height, pretty(_sentence(reading.name)), fontsize=6.5, va="center")
    depends = "depends on P" if reading.depends_on_point else "does not depend on P"
    figure.text(0.012, y - 1.7 / height, f"{pretty(reading.unit)}; {depends}", fontsize=5.2, color=GREY, va="center")
    figure.text(columns["value"], y, f"{reading.value:.3g}".replace("-", "\N{MINUS SIGN}"), ha="right", va="center")

    verdicts = beaten(reading)
    for lane, (name, values) in enumerate(reading.nulls.items()):
        at = y + (1 - lane) * 2.1 / height
        if len(values) == 1:
            said = "no test"
        elif name not in verdicts or reading.direction == 0:
            said = "always equal" if reading.direction else "\N{EN DASH}"
        else:
            said = f"{reading.p_value[name]:.3f}"
        won = verdicts.get(name, False) and reading.direction != 0
        figure.text(
            columns["p"],
            at,
            said,
            ha="right",
            va="center",
            fontsize=5.4,
            color=NULL_COLOURS.get(name, GREY) if name in verdicts else PALE,
            fontweight="bold" if won else "normal",
        )
    finding = finding_on(reading, layer, findings)
    if finding is None:
        return
    colour = VERDICT_COLOURS[finding.verdict]
    lines, x = _wrapped(finding.claim, 38), columns["verdict"]
    figure.text(x, y + 0.6 / height, finding.verdict, fontsize=6.5, fontweight="bold", color=colour, va="bottom")
    figure.text(x, y - 0.1 / height, "\n".join(lines), fontsize=5, color=GREY, va="top")


def finding_on(reading: Reading, layer: str, findings: list[Finding]) -> Finding | None:
    """Return the finding that depends on a reading, or None."""
    return next((one for one in findings if (one.layer, one.reading) == (layer, reading.name)), None)


def _quartiles(demonstration: Demonstration) -> list[int]:
    """Return the held-out samples at the quartiles of the network's correlation with the truth."""
    estimate, truth = (
        np.asarray(x, np.float64) - np.asarray(x, np.float64).mean(axis=0)
        for x in (demonstration.estimates["network"], demonstration.test.distribution)
    )
    norms = np.linalg.norm(estimate, axis=0) * np.linalg.norm(truth, axis=0)
    order = np.argsort((estimate * truth).sum(axis=0) / np.where(norms > 0, norms, 1))
    return [int(order[int(share * (len(order) - 1))]) for share in (0.25, 0.5, 0.75)]


def _plain_log_ticks(axis: "Axis") -> None:
    """Place ticks at 1, 2, 5 and their decades: a short logarithmic axis has too few powers of ten."""
    ticker = plotting("matplotlib.ticker")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_minor_locator(ticker.NullLocator())


def pretty(text: str) -> str:
    """Write names and units with superscripts and minus signs."""
    return text.replace("R2", "R\N{SUPERSCRIPT TWO}").replace("1 - cos^2", "1 \N{MINUS SIGN} cos\N{SUPERSCRIPT TWO}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
