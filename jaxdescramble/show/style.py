"""The style of every figure: sizes in millimetres, one typeface, colours for colour-blind readers and grey prints.

Each figure imports matplotlib when it is drawn. Nothing here uses pyplot or changes a setting of the user.
"""

import functools
import os
from collections.abc import Callable
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, ParamSpec, SupportsFloat

import numpy as np
from jax.typing import ArrayLike

from jaxdescramble._base.extras import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

# Column widths of the journal in mm.
SINGLE, DOUBLE = 90, 180

# The palette of Okabe and Ito.
INK, GREY, PALE = "#1a1a1a", "#7a7a7a", "#c8c8c8"
BLUE, SKY, GREEN, AMBER, VERMILION, PURPLE = "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7"
SIGNED, ENERGY = "RdBu_r", "magma"

STYLE = {
    "font.family": ["DejaVu Sans"],  # matplotlib includes it, so figures look the same on every machine
    "mathtext.fontset": "dejavusans",
    "font.size": 6.5,
    "axes.titlesize": 7,
    "axes.titlepad": 3.5,
    "axes.labelsize": 6.5,
    "axes.labelpad": 2,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.minor.size": 1.2,
    "ytick.minor.size": 1.2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.pad": 1.5,
    "ytick.major.pad": 1.5,
    "lines.linewidth": 0.9,
    "lines.markersize": 2.5,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.3,
    "image.interpolation": "nearest",
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.wspace": 0.02,
    "figure.constrained_layout.hspace": 0.03,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}

P = ParamSpec("P")


def plotting(module: str = "matplotlib") -> ModuleType:
    """Import matplotlib, or one of its modules."""
    return extra(module, "figures need matplotlib")


def styled(function: Callable[P, "Figure"]) -> Callable[P, "Figure"]:
    """Make a function draw in the style of this library, and compute the layout once for all formats."""

    @functools.wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        with plotting().rc_context({**plotting().rcParamsDefault, **STYLE, "backend": plotting().get_backend()}):
            figure = function(*args, **kwargs)
            # Otherwise constrained layout would measure every text again for the PDF and again for the PNG.
            engine = figure.get_layout_engine()
            if engine is not None:
                engine.execute(figure)
                if any(ax.get_box_aspect() and ax.get_label() != "<colorbar>" for ax in figure.axes):
                    engine.execute(figure)  # the space beside square panels is known only after the first pass
            figure.set_layout_engine("none")
            return figure

    return draw


def sheet(width: float | int, height: float | int) -> "Figure":
    """Return an empty figure; sizes in mm."""
    return plotting("matplotlib.figure").Figure(figsize=(width / 25.4, height / 25.4), layout="constrained", dpi=200)


def panel(ax: "Axes", letter: str, title: str = "", x: str = "", y: str = "") -> None:
    """Set the letter and title of a panel, and its axis labels."""
    ax.set_title(rf"$\mathbf{{{letter}}}$  {title}", loc="left")
    ax.set_xlabel(x)
    ax.set_ylabel(y)


def image(
    ax: "Axes",
    matrix: ArrayLike,
    extent: tuple[SupportsFloat, SupportsFloat, SupportsFloat, SupportsFloat] | None = None,
    *,
    label: str = "",
    limit: float | None = None,
    decades: float | int | None = None,
) -> None:
    """Draw a matrix with its colour bar; rows go upwards.

    Args:
        ax: axes to draw on.
        matrix: the matrix. Its rows go up the page, its columns go across.
        extent: centres of the first and last column, and of the first and last row; None means indices.
        label: label of the colour bar.
        limit: colours run from -limit to limit; None means the 99.5th percentile of the absolute values.
        decades: for energies: a logarithmic scale that reaches this many decades below the largest value.
    """
    colors = plotting("matplotlib.colors")
    values = np.asarray(matrix, np.float64)
    rows, columns = values.shape
    left, right, bottom, top = map(float, extent or (0, columns - 1, 0, rows - 1))
    # Pixels are centred on their coordinates.
    dx, dy = (right - left) / max(columns - 1, 1) / 2, (top - bottom) / max(rows - 1, 1) / 2
    if decades is None:
        reach = limit or float(np.percentile(np.abs(values), 99.5)) or 1.0
        norm, cmap = colors.Normalize(-reach, reach), SIGNED
        beyond = "both" if np.abs(values).max() > reach else "neither"
    else:
        reach = float(values.max()) or 1.0
        norm, cmap, beyond = colors.LogNorm(reach / 10**decades, reach), ENERGY, "min"
        values = np.maximum(values, reach / 10**decades)
    drawn = ax.imshow(
        values,
        norm=norm,
        cmap=cmap,
        origin="lower",
        aspect="auto",
        extent=(left - dx, right + dx, bottom - dy, top + dy),
        rasterized=True,
    )
    for spine in ax.spines.values():
        spine.set_visible(True)
    # The bar has the same width beside every panel, and the height of the panel.
    figure = ax.get_figure(root=True)
    assert figure is not None
    breadth, position = 1.4, ax.get_position()
    height, width = position.height * figure.get_figheight() * 25.4, position.width * figure.get_figwidth() * 25.4
    bar = figure.colorbar(
        drawn, ax=ax, extend=beyond, fraction=1.1 * breadth / width, pad=0.02, aspect=height / breadth, extendfrac=0.04
    )
    thin(bar)
    bar.ax.minorticks_off()
    if decades is not None:
        bar.set_label(label, labelpad=1)
        return
    largest = np.format_float_positional(reach, precision=2, fractional=False, trim="-")
    bar.set_ticks([-reach, 0, reach], labels=[f"\N{MINUS SIGN}{largest}", "0", largest])
    # The label stands beside the zero, in the space that the longer numbers leave free.
    bar.set_label(label, labelpad=2 - 3.6 * len(largest))


def thin(bar: "Colorbar") -> None:
    """Draw a colour bar with a thin frame and short ticks."""
    bar.outline.set_linewidth(0.4)  # pyright: ignore[reportCallIssue]
    bar.ax.tick_params(length=1.5, pad=1)


def note(ax: "Axes", x: float | int, y: float | int, text: str, **options: Any) -> None:
    """Write small text inside axes, at fractions of their size. A halo keeps it readable on any picture."""
    effects = plotting("matplotlib.patheffects")
    halo = options.pop("halo", "white")
    settings = {"fontsize": 6, "transform": ax.transAxes, **options}
    ax.text(x, y, text, path_effects=[effects.withStroke(linewidth=1.4, foreground=halo)], **settings)


def save(figure: "Figure", path: str | os.PathLike[str] | IO[bytes], kind: str, dpi: int = 200) -> None:
    """Write a figure to an open file or a path as "png" or "pdf". The file has no date, so equal figures are equal."""
    with plotting().rc_context(STYLE):
        metadata = {"CreationDate": None} if kind == "pdf" else None
        figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)
