"""Small pictures as SVG text, without matplotlib: heat maps of matrices, and curves.

Notebooks show them beside a result. Positive and negative numbers have two colours, and the opacity shows the
magnitude. So zero has the colour of the background, light or dark. Frames have the colour of the text around them.
Every picture has a title that the mouse shows, and a label for screen readers.
"""

from collections.abc import Sequence
from html import escape

import numpy as np

POSITIVE, NEGATIVE, MISSING = "#d9622b", "#2f7fc1", "#8a8a8a"
"""Orange, blue, and grey (for numbers that are not finite). Colour-blind readers can tell orange from blue too."""

LEVELS = 8
"""Number of steps of opacity."""

CELLS, POINTS, CURVES, BARS = 40, 160, 8, 64
"""Largest numbers of cells along an axis, of points of a curve, of curves in one picture, and of bars."""


def heat_map(matrix: np.ndarray, title: str, width: int = 160, most: int = CELLS) -> str:
    """Return a picture of a matrix: orange for positive entries, blue for negative ones, grey for NaN and infinity.

    Large matrices are drawn in blocks. A block shows its entry of largest magnitude, so that thin lines stay visible.

    Args:
        matrix: real numbers or truth values, shape (rows, columns).
        title: text that the mouse shows, and that screen readers read.
        width: width in pixels; the height follows from the shape, within limits.
        most: largest number of cells along an axis.

    >>> picture = heat_map(np.eye(3), "P, the identity")
    >>> picture.count("M"), 'aria-label="P, the identity"' in picture
    (3, True)
    """
    cells = _blocks(np.asarray(matrix, np.float64), most)
    rows, columns = cells.shape
    known = np.isfinite(cells)
    largest = np.abs(cells[known]).max(initial=0.0)
    levels = np.zeros(cells.shape, int)
    if largest > 0:
        levels[known] = np.rint(cells[known] / largest * LEVELS).astype(int)
    paths = [_runs(~known, MISSING, 1.0)]
    for level in np.unique(levels[levels != 0]).tolist():
        paths.append(_runs(levels == level, POSITIVE if level > 0 else NEGATIVE, abs(level) / LEVELS))
    height = int(np.clip(width * rows / columns, width / 8, 2 * width))
    inside = f'<g transform="translate(0 .5)" stroke-width="1.02">{"".join(paths)}</g>'
    return _svg(inside, title, (columns, rows), (width, height))


def lines(curves: np.ndarray | Sequence[np.ndarray], title: str, width: int = 160) -> str:
    """Return a picture of one or several curves over their index. A curve has a gap where a number is not finite.

    Args:
        curves: real numbers, shape (points,) or (curves, points); the first eight curves are drawn.
        title: text that the mouse shows, and that screen readers read.
        width: width in pixels; the height is half of it.

    >>> lines(np.asarray([0.0, 1.0, 0.5]), "loss").count("<polyline")
    1
    """
    many = np.atleast_2d(np.asarray(curves, np.float64))[:CURVES]
    many = many[:, :: -(-many.shape[1] // POINTS) or 1]
    known = np.isfinite(many)
    low, high = many[known].min(initial=np.inf), many[known].max(initial=-np.inf)
    height = width // 2
    x = np.linspace(2, width - 2, many.shape[1]) if many.shape[1] > 1 else np.full(many.shape[1], width / 2)
    drawn = []
    for number, (curve, there) in enumerate(zip(many, known, strict=True)):
        # Halve the numbers first: the difference of two large numbers of opposite sign can overflow.
        span = high / 2 - low / 2
        y = height - 3 - (height - 6) * ((curve / 2 - low / 2) / span if span > 0 else np.full_like(curve, 0.5))
        colour = (POSITIVE, NEGATIVE)[number % 2]
        for piece in np.split(np.arange(len(curve)), np.flatnonzero(~there)):
            piece = piece[there[piece]]
            if len(piece):
                points = " ".join(f"{x[k]:.1f},{y[k]:.1f}" for k in (piece if len(piece) > 1 else piece.repeat(2)))
                drawn.append(f'<polyline points="{points}" stroke="{colour}"/>')
    style = 'fill="none" stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round"'
    return _svg(f"<g {style}>{''.join(drawn)}</g>", title, (width, height), (width, height))


def profile(values: np.ndarray, title: str, width: int = 160, height: int = 60) -> str:
    """Return a picture of finite numbers over their index, with a line at zero.

    Long curves are drawn in blocks. A block shows its smallest and its largest number, so that fast waves stay visible.

    Args:
        values: real numbers, shape (points,).
        title: text that the mouse shows, and that screen readers read.
        width, height: size in pixels.

    >>> profile(np.sin(np.arange(512.0)), "a wave").count("<polyline")
    1
    """
    numbers = np.asarray(values, np.float64)
    places = np.arange(len(numbers))
    if len(numbers) > POINTS:
        parts = np.array_split(places, POINTS // 2)
        ends = [sorted((part[numbers[part].argmin()], part[numbers[part].argmax()])) for part in parts]
        places = np.ravel(ends)
    y = _heights(numbers, height)
    x = 3 + (width - 6) * places / max(len(numbers) - 1, 1)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y[places].tolist(), strict=True))
    curve = f'<polyline points="{points}" fill="none" stroke="{POSITIVE}" stroke-width="1.5" stroke-linejoin="round"/>'
    return _svg(_zero(width, height) + curve, title, (width, height), (width, height))


def bars(values: np.ndarray, title: str, width: int = 160, height: int = 60) -> str:
    """Return a picture of finite numbers as bars: orange above zero, blue below.

    If there are more than 64 numbers, each bar shows the number of largest magnitude in a block.

    Args:
        values: real numbers, shape (points,).
        title: text that the mouse shows, and that screen readers read.
        width, height: size in pixels.

    >>> bars(np.asarray([1.0, -1.0]), "two").count("V")
    2
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) > BARS:
        numbers = np.asarray([_largest(part, 0) for part in np.array_split(numbers, BARS)])
    x = 3 + (width - 6) * (np.arange(len(numbers)) + 0.5) / len(numbers)
    y, thick = _heights(numbers, height), 0.8 * (width - 6) / len(numbers)
    paths = []
    for colour, mask in ((POSITIVE, numbers > 0), (NEGATIVE, numbers < 0)):
        strokes = "".join(f"M{x[k]:.1f} {height / 2:g}V{y[k]:.1f}" for k in np.flatnonzero(mask))
        paths.append(f'<path d="{strokes}" stroke="{colour}" stroke-width="{min(thick, 14):.1f}"/>' if strokes else "")
    return _svg(_zero(width, height) + "".join(paths), title, (width, height), (width, height))


def _heights(numbers: np.ndarray, height: int) -> np.ndarray:
    """Return heights in pixels: zero is in the middle."""
    largest = np.abs(numbers).max(initial=0.0)
    return height / 2 - (height / 2 - 3) * (numbers / largest if largest > 0 else np.zeros_like(numbers))


def _zero(width: int, height: int) -> str:
    return f'<path d="M0 {height / 2:g}H{width}" stroke="currentColor" stroke-opacity=".35"/>'


def _blocks(matrix: np.ndarray, most: int) -> np.ndarray:
    """Return the matrix, or if it is large the largest entries of its blocks, at most `most` along each axis."""
    for axis in (0, 1):
        count = matrix.shape[axis]
        if count > most:
            edges = np.linspace(0, count, most + 1).astype(int)
            parts = np.split(matrix, edges[1:-1], axis=axis)
            matrix = np.stack([_largest(part, axis) for part in parts], axis=axis)
    return matrix


def _largest(part: np.ndarray, axis: int) -> np.ndarray:
    size = np.where(np.isfinite(part), np.abs(part), -1.0)
    return np.take_along_axis(part, np.expand_dims(size.argmax(axis=axis), axis), axis).squeeze(axis)


def _runs(mask: np.ndarray, colour: str, opacity: float) -> str:
    """Return one SVG path for all marked cells: one stroke for each run of marked cells in a row."""
    edges = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    if not len(starts):
        return ""
    strokes = "".join(f"M{first} {row}h{last - first}" for (row, first), (_, last) in zip(starts, ends, strict=True))
    return f'<path d="{strokes}" stroke="{colour}" stroke-opacity="{opacity:g}"/>'


def _svg(inside: str, title: str, view: tuple[int, int], size: tuple[int, int]) -> str:
    text = escape(title, quote=True)
    frame = (
        f'<rect width="{view[0]}" height="{view[1]}" fill="none" stroke="currentColor" stroke-opacity=".35" '
        'vector-effect="non-scaling-stroke"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{text}" viewBox="0 0 {view[0]} {view[1]}" '
        f'width="{size[0]}" height="{size[1]}" preserveAspectRatio="none"><title>{text}</title>{inside}{frame}</svg>'
    )
