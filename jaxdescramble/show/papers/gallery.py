"""Figures of the evaluation of attributions: a gallery of maps, the results of the tests, one layer in parts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble.show.style import (
    AMBER,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    INK,
    PALE,
    PURPLE,
    SIGNED,
    SKY,
    VERMILION,
    panel,
    sheet,
    styled,
)
from jaxdescramble.studies.attributions import claims
from jaxdescramble.studies.attributions.evaluation import SHARES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = {
    "images": "Picture",
    "Insens": "Insens",
    "Insens, untrained": "... untrained",
    "gradient": "Gradient",
    "input x gradient": "Input x grad.",
    "integrated gradients": "Integr. grad.",
    "SmoothGrad": "SmoothGrad",
    "LRP epsilon": "LRP $\\epsilon$",
    "LRP alpha 1": "LRP $\\alpha$1$\\beta$0",
    "LRP alpha 2": "LRP $\\alpha$2$\\beta$1",
    "Deep Taylor z-box": "Deep Taylor",
    "edges": "Edges",
}
CURVES = {"Insens": BLUE, "SmoothGrad": VERMILION, "integrated gradients": AMBER, "LRP alpha 1": GREEN,
          "Deep Taylor z-box": PURPLE, "input": INK, "edges": GREY, "random": PALE}  # fmt: skip


@styled
def gallery_figure(cells: Mapping[str, Mapping[str, np.ndarray]], rows: int = 3) -> "Figure":
    """Draw the maps of a few pictures by every method. Red is positive, blue is negative; each map has its own scale.

    Args:
        cells: arrays of one cell, by set of pictures.
        rows: number of pictures of each set.
    """
    figure = sheet(DOUBLE, 15.5 * rows * len(cells) + 4)
    axes = figure.subplots(rows * len(cells), len(COLUMNS), squeeze=False)
    for s, arrays in enumerate(cells.values()):
        for k in range(rows):
            for ax, (name, title) in zip(axes[s * rows + k], COLUMNS.items(), strict=True):
                _map(ax, arrays[name][k], grey=name in ("images", "edges"))
                if s == k == 0:
                    ax.set_title(title, fontsize=5.5)
    return figure


@styled
def evaluation_figure(cells: claims.Cells) -> "Figure":
    """Draw accuracy against clean pixels for every configuration, and below outlines, steps and random parameters."""
    groups = claims.configurations(cells)
    figure = sheet(DOUBLE, 150)
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(2.1, 1))
    columns = (len(groups) + 1) // 2
    upper = np.ravel(np.asarray(top.subgridspec(2, columns).subplots(), object))
    for i, (ax, (name, group)) in enumerate(zip(upper, groups.items(), strict=False)):
        for method, colour in CURVES.items():
            curve = np.mean([list(cell["kept"][method].values()) for cell in group], axis=(0, 1))
            ax.plot(100 * np.asarray(SHARES), curve, "o-", color=colour, lw=1.4 if method == "Insens" else 0.8)
        label = ("Pixels kept (%)" if i >= columns else "", "Accuracy" if i % columns == 0 else "")
        panel(ax, "abcdefghi"[i], name, *label)
        ax.set(xscale="log", ylim=(0, 1.02), xticks=(2, 5, 10, 20, 50), xticklabels=("2", "5", "10", "20", "50"))
        ax.minorticks_off()
        if i == 0:
            ax.legend(list(CURVES), ncols=1, fontsize=4.8, loc="upper left", handlelength=1)
    names = list(groups)
    places = np.arange(len(names))
    one, two, three = np.asarray(bottom.subgridspec(1, 3).subplots(), object)
    bars = (
        (one, claims.outline, {"outline": BLUE, "elsewhere": SKY, "figure": PALE}, "Clean pixels", "Accuracy"),
        (two, claims.woken, {"+Insens": BLUE, "-Insens": SKY, "random": PALE, "+gradient": AMBER}, "A step",
         "Silent neurons activated"),
        (three, claims.randomised, {"Insens": BLUE, "SmoothGrad": VERMILION, "input x gradient": AMBER,
                                    "LRP alpha 1": GREEN}, "Other parameters", "Rank correlation"),
    )  # fmt: skip
    for k, (ax, read, colours, title, label) in enumerate(bars):
        breadth = 0.8 / len(colours)
        for j, (name, colour) in enumerate(colours.items()):
            values = [[read(cell, name) for cell in group] for group in groups.values()]
            at = places + (j - (len(colours) - 1) / 2) * breadth
            ax.bar(at, [np.mean(v) for v in values], breadth, color=colour, label=name)
            for place, v in zip(at, values, strict=True):
                ax.plot([place] * len(v), v, ".", color=INK, ms=1.5)
        ax.axhline(0, color=INK, lw=0.5)
        ax.set_xticks(places, [name.replace(", ", "\n") for name in names], fontsize=5)
        panel(ax, "ghi"[k], title, "", label)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.28 * (high - low))
        ax.legend(ncols=2, fontsize=5, loc="upper right")
    return figure


@styled
def patterns_figure(cells: Mapping[str, Mapping[str, np.ndarray]], rows: int = 2) -> "Figure":
    """Draw the parts of the last hidden layer for a few pictures.

    The parts are the neurons that add most to the score, the silent neurons with the largest sensitivity, the sums of
    both, and the switched projection of the score.

    Args:
        cells: arrays of one cell, by set of pictures.
        rows: number of pictures of each set.
    """
    shown = next(iter(cells.values()))["pattern active"].shape[1]
    figure = sheet(DOUBLE, 17.5 * rows * len(cells) + 6)
    axes = figure.subplots(rows * len(cells), 2 * shown + 4, squeeze=False)
    for s, arrays in enumerate(cells.values()):
        for k in range(rows):
            row = list(axes[s * rows + k])
            _map(row.pop(0), arrays["images"][k], grey=True)
            for kind in ("active", "silent"):
                for i in range(shown):
                    ax = row.pop(0)
                    _map(ax, arrays[f"pattern {kind}"][k, i])
                    added = arrays[f"pattern {kind} added"][k, i] if kind == "active" else None
                    text = f"{added:+.2g}" if added is not None else f"v={arrays['pattern silent value'][k, i]:.2g}"
                    ax.set_xlabel(text.replace("-", "\N{MINUS SIGN}"), fontsize=5, labelpad=1)
                _map(row.pop(0), arrays[f"pattern sum {kind}"][k])
            _map(row.pop(0), arrays["pattern projection"][k])
    titles = ["Picture", *["Active"] * shown, "Sum active", *["Silent"] * shown, "Sum silent", "Projection"]
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=5.5)
    return figure


def _map(ax: "Axes", values: np.ndarray, grey: bool = False) -> None:
    flat = np.asarray(values, np.float64).sum(axis=-1)
    reach = float(np.abs(flat).max()) or 1.0
    ax.imshow(flat, cmap="gray" if grey else SIGNED, vmin=0 if grey else -reach, vmax=reach)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(not grey)
        spine.set_linewidth(0.3)
