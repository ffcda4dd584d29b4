"""Pictures of the strongest waves of a layer: curves over ordered inputs, pictures over grids, bars otherwise."""

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble._base import drawing
from jaxdescramble.findings.explanations.waves import LayerWave

if TYPE_CHECKING:
    from jaxdescramble.findings.explanations.report import LayerExplanation

WIDTH, CELLS = 150, 28
"""Width of a picture in pixels, and its largest number of cells along an axis."""
FEW = 12
"""Curves of at most this many points are drawn as bars."""
AGREED = 0.75
"""If the two halves agree on less, the page warns beside the waves."""
LONGEST = 60
"""Longest name of a sample on the page."""


def figure(picture: str, caption: str, more: str = "") -> str:
    return f"<figure>{picture}<figcaption>{escape(caption)}{more}</figcaption></figure>"


def view(weights: np.ndarray, grid: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Return the part of a wave's weights that is drawn, a curve or a picture, and which part it is.

    Args:
        weights: the weights of a wave, shape (in,).
        grid: (channels, points, ...) of ordered inputs; () for inputs without an order.

    >>> part, which = view(np.arange(12.0), (3, 2, 2))
    >>> part.tolist(), which
    ([[8.0, 9.0], [10.0, 11.0]], 'its strongest channel, 2 (of 0 to 2)')
    """
    if not grid or all(size == 1 for size in grid[1:]):
        return weights, ""
    part, which = weights.reshape(grid), []
    for axis, what in ((0, "channel"), *((-1, "part") for _ in grid[3:])):
        energy = np.sum(np.moveaxis(part, axis, 0).reshape(part.shape[axis], -1) ** 2, axis=1)
        strongest = int(energy.argmax())
        part = np.take(part, strongest, axis=axis)
        if len(energy) > 1:
            which.append(f"its strongest {what}, {strongest} (of 0 to {len(energy) - 1})")
    kept = part.reshape([size for size in part.shape if size > 1])
    return kept, ", ".join(which)


def _drawn(one: LayerWave, layer: "LayerExplanation") -> str:
    part, which = view(one.weights, layer.grid)
    title = f"{layer.name}, {one.name}"
    if part.ndim == 2:
        picture = drawing.heat_map(part, title, WIDTH if part.shape[1] >= part.shape[0] else WIDTH // 2, CELLS)
    elif layer.grid and len(part) > FEW:
        picture = drawing.profile(part, title, WIDTH)
    else:
        picture = drawing.bars(part, title, WIDTH)
    caption = f"{one.name}: {one.energy:.2g}" if one.energy < 0.01 else f"{one.name}: {one.energy:.0%}"
    more = f"; {which}" if which else ""
    if one.cycles is not None and layer.grid and len(part) > FEW:
        more += f"; {one.cycles_energy:.0%} of its weights at {one.cycles:.1f} cycles along the inputs"
    return figure(picture, caption + more, _ends("largest", one.largest) + _ends("smallest", one.smallest))


def _ends(side: str, samples: tuple[tuple[str, float], ...]) -> str:
    if not samples:
        return ""
    parts = [f"{_short(name)} ({value:.3g})" for name, value in samples]
    return f"<small><strong>{side}:</strong> {escape(', '.join(parts))}</small>"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def wave_pictures(layer: "LayerExplanation") -> str:
    """Return the strongest waves of a layer, with the samples on which they are largest and smallest."""
    if not layer.waves:
        return ""
    over = "its inputs" if layer.grid else "its inputs in the descrambled order"
    outputs = " The outputs of this layer are ordered, so each output is shown as it is." * ("outputs" in layer.ordered)
    text = (
        f"The weight of each wave on {over}, and its share of the energy of the preactivations.{outputs} Orange is "
        "positive, blue is negative."
    )
    agreed = next((one.value for one in layer.verdicts if one.reading == "agreement of halves"), None)
    if agreed is not None:
        text += f" The two halves of the samples agree on {agreed:.0%} of the energy of the waves"
        text += ": other samples may give other mixtures of these waves." if agreed < AGREED else "."
    drawn = "".join(_drawn(one, layer) for one in layer.waves)
    return f"<h3>Strongest waves</h3><p class='lead'>{escape(text)}</p><div class='pictures waves'>{drawn}</div>"
