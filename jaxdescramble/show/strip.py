"""A film as one picture: the descrambled weight of a layer at chosen steps, and its objective during training."""

from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble.descrambling.film import Frames
from jaxdescramble.findings import fourier_map
from jaxdescramble.show.style import (
    BLUE,
    DOUBLE,
    ENERGY,
    PALE,
    SIGNED,
    VERMILION,
    note,
    panel,
    plotting,
    sheet,
    styled,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("weight", "fourier")
COLOURS = {"output": BLUE, "input": VERMILION}


@styled
def strip_figure(frames: Frames, layer: str, *, count: int = 6, kind: str = "weight") -> "Figure":
    """Draw one layer of a film: pictures of its weight above, its objective against the training step below.

    Args:
        frames: result of `Film.close`.
        layer: name of the layer. If the layer is a batch, its first member is shown.
        count: number of pictures. Their frames are evenly spread and include the first and the last one.
        kind: "weight" shows `P W Q^T`, with one colour scale for all pictures. "fourier" shows the magnitude of its 2-D
            Fourier transform, over three decades below the largest value of each picture.

    Returns:
        A matplotlib Figure, 180 mm wide. In the lower part, solid lines are values in the descrambled frame and dashed
        lines are values in the raw frame. Vertical lines mark the steps of the pictures.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there are no frames; if there is no such layer.

    >>> from jaxdescramble.descrambling.film import Film
    >>> f = lambda params, x: jnp.tanh(x @ params["first"]) @ params["second"]
    >>> with Film(f, jax.random.normal(jax.random.key(0), (50, 6)), every=1, wait=True) as film:
    ...     for step in range(3):
    ...         seen = film.see(step, {"first": jnp.eye(6, 4) + 0.1 * step, "second": jnp.ones((4, 2))})
    >>> len(strip_figure(film.frames, "['first']", count=3).axes)
    5
    """
    one_of(kind, "kind", KINDS)
    if not len(frames):
        raise ValueError("frames: got none; must have at least one. Call Film.see during the training.")
    if layer not in frames.layers:
        raise ValueError(f"layer: got {layer!r}; must be one of {', '.join(map(repr, frames.layers))}.")
    shown = frames.layers[layer]
    count = min(positive_integer(count, "count"), len(frames))
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    pictures = [shown.weight[k].reshape(-1, *shown.weight.shape[-2:])[0] for k in chosen]
    figure = sheet(DOUBLE, 68)
    top, bottom = figure.add_gridspec(2, 1, height_ratios=(1, 0.9))
    axes = top.subgridspec(1, len(chosen)).subplots(sharey=True, squeeze=False)[0]
    colors = plotting("matplotlib.colors")
    reach = float(np.percentile(np.abs(pictures), 99.5)) or 1.0
    norm = colors.Normalize(-reach, reach) if kind == "weight" else colors.LogNorm(1e-3, 1)
    # If only the input side is descrambled, no gauge hides the frequency of the output axis, so its sign is shown.
    is_read_from_input = shown.output is None and shown.input is not None
    unit, drawn = "index" if kind == "weight" else "frequency", None
    for ax, k, picture in zip(axes, chosen, pictures, strict=True):
        rows, columns = picture.shape
        left, low = 0, 0
        if kind == "fourier":
            spectrum = np.asarray(fourier_map(picture.T if is_read_from_input else picture).magnitude)
            picture = spectrum.T if is_read_from_input else spectrum
            picture = np.maximum(picture / (picture.max() or 1.0), 1e-3)
            left, low = -(columns // 2), -(rows // 2)
        extent = (left - 0.5, left + columns - 0.5, low - 0.5, low + rows - 0.5)
        colours = SIGNED if kind == "weight" else ENERGY
        drawn = ax.imshow(
            picture, norm=norm, cmap=colours, origin="lower", aspect="auto", extent=extent, rasterized=True
        )
        ax.spines[:].set_visible(True)
        ax.set_title(f"Step {frames.steps[k]:,}", loc="left")
        ax.set_xlabel(f"Input {unit}")
    panel(axes[0], "a", f"Step {frames.steps[chosen[0]]:,}", axes[0].get_xlabel(), f"Output {unit}")
    assert drawn is not None
    bar = figure.colorbar(drawn, ax=list(axes), fraction=0.012, pad=0.008, aspect=24)
    thin(bar)
    bar.set_label("Weight" if kind == "weight" else "Share of the largest", labelpad=2)
    ax = figure.add_subplot(bottom)
    for side, one in shown.sides.items():
        value, raw = (number.reshape(len(frames), -1)[:, 0] for number in (one.value, one.initial_value))
        ax.plot(frames.steps, raw, color=COLOURS[side], ls=(0, (3, 2)), lw=0.7)
        ax.plot(frames.steps, value, color=COLOURS[side], label=f"{side} side")
    for k in chosen:
        ax.axvline(int(frames.steps[k]), color=PALE, lw=0.5, zorder=0)
    ax.set(yscale="log", xlim=(frames.steps[0], max(frames.steps[-1], frames.steps[0] + 1)))
    note(ax, 0.99, 0.5, "dashed: raw frame", ha="right", va="center")
    if shown.sides:
        ax.legend(loc="upper right", bbox_to_anchor=(1, 0.45))
    panel(ax, "b", "Objective of the layer's signals", "Training step", "Value")
    return figure
