"""Figures of gated networks: the comparison, learning in the gates, and errors against frequency."""

from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble.show.style import AMBER, BLUE, DOUBLE, GREY, INK, PALE, SKY, VERMILION, panel, sheet, styled
from jaxdescramble.studies.gating.claims import PLAIN, GatingNumbers
from jaxdescramble.studies.gating.training import ARCHITECTURES, KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"dnn": INK, "dgn": AMBER, "dlgn": BLUE, "dlgn-sf": SKY}
NAMES = {"dnn": "ReLU", "dgn": "DGN", "dlgn": "DLGN", "dlgn-sf": "DLGN-SF"}


@styled
def comparison_figure(found: GatingNumbers) -> "Figure":
    """Draw the accuracies of every kind and variant, a dot for each seed; and those behind gates frozen at stages.

    Args:
        found: result of `studies.gating.comparison.compare_gates`.
    """
    sets = list(found["comparison"])
    figure = sheet(DOUBLE, 58 * len(sets))
    axes = np.atleast_2d(np.asarray(figure.subplots(len(sets), 2, width_ratios=(1.7, 1)), object))
    for row, of in enumerate(sets):
        left, right = axes[row]
        accuracy = found["comparison"][of]["accuracy"]
        place, ticks = 0.0, []
        for name in ARCHITECTURES:
            start = place
            for kind in KINDS:
                for variant, values in accuracy[name][kind].items():
                    shown = variant == PLAIN
                    left.bar(place, np.mean(values), 0.8, color=COLOURS[kind], alpha=1.0 if shown else 0.45)
                    left.plot([place] * len(values), values, ".", color=VERMILION, ms=2)
                    place += 1
                place += 0.4
            ticks.append(((start + place - 1.4) / 2, name))
            place += 1
        left.set_xticks([at for at, _ in ticks], [name for _, name in ticks])
        left.set_ylim(0, 1.02)
        panel(
            left, "ac"[row % 2], f"{of}: full colour x, in order; pale: x permuted, ones, ones permuted", "", "Accuracy"
        )
        if row == 0:
            handles = [left.bar(0, 0, color=COLOURS[kind], label=NAMES[kind]) for kind in KINDS]
            left.legend(handles=handles, ncols=4, loc="lower left", frameon=True, edgecolor="none", framealpha=0.85)
        for name, colour in zip(found["stages"][of], (BLUE, AMBER, GREY), strict=False):
            stage = found["stages"][of][name]
            steps = np.asarray(stage["steps"], float)
            at = np.where(steps == 0, steps[1] / 4, steps)
            for what, line in (("values", "o-"), ("network", "--"), ("kernel", ":")):
                right.plot(at, np.mean(stage[what], axis=1), line, color=colour, lw=0.9,
                           label=f"{name}: {what}" if row == 0 else None)  # fmt: skip
        right.set(xscale="log", ylim=(0, 1.02))
        panel(right, "bd"[row % 2], "Gates frozen at a stage of training", "Steps (first: 0)", "Accuracy")
        if row == 0:
            right.legend(fontsize=4.8, ncols=1, loc="lower right")
    return figure


@styled
def spectrum_figure(found: GatingNumbers) -> "Figure":
    """Draw error against frequency for each kind. Each width has a line; wider networks have darker lines.

    Args:
        found: result of `studies.gating.comparison.compare_gates`.
    """
    waves = found["spectrum"]
    figure = sheet(DOUBLE, 58)
    axes = np.atleast_1d(np.asarray(figure.subplots(1, len(waves["errors"]), sharey=True), object))
    for i, (ax, (kind, errors)) in enumerate(zip(axes, waves["errors"].items(), strict=True)):
        for k, (width, row) in enumerate(zip(waves["widths"], np.asarray(errors), strict=True)):
            strength = (k + 1) / len(waves["widths"])
            shade = {"color": COLOURS[kind], "alpha": 0.25 + 0.75 * strength}
            ax.plot(waves["frequencies"], np.median(row, axis=1), "o-", label=f"width {width}", **shade)
            ax.plot(waves["frequencies"], row, ".", color=COLOURS[kind], alpha=0.2 + 0.3 * strength, ms=2)
        ax.axhline(1, color=PALE, lw=0.6, zorder=0)
        ax.set(xscale="log", yscale="log", xticks=waves["frequencies"], xticklabels=map(str, waves["frequencies"]))
        ax.minorticks_off()
        panel(ax, "abc"[i], NAMES[kind], "Periods on [-1, 1]", "Relative error" if i == 0 else "")
        ax.legend(loc="lower right")
    return figure
