"""`shape` and `boundary`: their meaning in every objective that uses the places of neurons.

The n neurons fill a grid in C order: the last axis varies fastest. `shape` holds the sizes of its axes; None means one
axis of n neurons. `boundary` says what happens at the ends of the axes: one name for all axes, or one name per axis.
The default is always "periodic".

| boundary    | meaning                                                            |
|-------------|--------------------------------------------------------------------|
| "periodic"  | the ends of the axis meet: a circle; two such axes make a torus    |
| "neumann"   | the axis ends: a line; nothing is compared across its ends         |
| "dirichlet" | the signals are zero beyond the ends (`smoothness` only)           |
"""

import math
from collections.abc import Sequence

from jaxdescramble._base.checks import in_order, one_of, positive_integer

Shape = tuple[int, ...] | None
Boundary = str | tuple[str, ...]
BOUNDARY = "periodic"
"""The default boundary."""
ENDS = ("periodic", "neumann")
"""Boundaries that every objective accepts."""


def checked_shape(shape: Sequence[int] | None) -> Shape:
    """Check `shape` and return it as a tuple of positive integers, or None.

    >>> checked_shape([2, 3])
    (2, 3)
    """
    if shape is None:
        return None
    sizes = in_order(shape, "shape", "the number of points along each axis")
    if not sizes:
        raise ValueError("shape: got no axes; give the number of points along each.")
    return tuple(positive_integer(n, "shape") for n in sizes)


def checked_boundary(boundary: str | Sequence[str], allowed: Sequence[str] = ENDS) -> Boundary:
    """Check `boundary` and return it as one name for all axes, or as a tuple of one name per axis.

    >>> checked_boundary(["periodic"])
    'periodic'
    """
    names = (
        (boundary,) if isinstance(boundary, str) else tuple(in_order(boundary, "boundary", "a name, or one per axis"))
    )
    if not names:
        raise ValueError("boundary: got no names; give one, or one per axis.")
    for name in names:
        one_of(name, "boundary", allowed)
    return names[0] if len(names) == 1 else names


def axes(n: int, shape: Shape, boundary: Boundary, name: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the sizes and the boundaries of the axes of a grid of n neurons.

    Raises:
        ValueError: if the grid does not have n points, or the number of boundaries differs from the number of axes.

    >>> axes(6, (2, 3), "periodic", "locality")
    ((2, 3), ('periodic', 'periodic'))
    """
    n = positive_integer(n, "n")
    sizes = (n,) if shape is None else shape
    if math.prod(sizes) != n:
        raise ValueError(
            f"{name}: the grid {sizes} has {math.prod(sizes)} points, the signals have {n} features; "
            "they must be the same."
        )
    ends = (boundary,) * len(sizes) if isinstance(boundary, str) else boundary
    if len(ends) != len(sizes):
        raise ValueError(f"boundary: got {len(ends)} names for a grid of {len(sizes)} axes {sizes}.")
    return sizes, ends
