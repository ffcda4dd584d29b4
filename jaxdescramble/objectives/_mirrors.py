"""Which determinant classes hold the same values: signed permutations of neurons that leave an objective alone.

O(n) falls into two classes, determinant +1 and -1, and no path leads from one to the other. Where f(G P) = f(P)
for some G of determinant -1, every point of one class has a twin of equal value in the other, and a solver that looks
at one class has looked at both.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class SignedOrder(NamedTuple):
    """A signed permutation `(G y)_i = sign * y_order[i]`, as a value that can be compared."""

    order: tuple[int, ...]
    sign: int

    @property
    def determinant(self) -> int:
        """The determinant, +1 or -1."""
        cycles, seen = 0, set()
        for start in range(len(self.order)):
            cycles += start not in seen
            place = start
            while place not in seen:
                seen.add(place)
                place = self.order[place]
        return (-1) ** (len(self.order) - cycles) * self.sign ** len(self.order)


Symmetries = frozenset[SignedOrder] | None
"""Generators of the symmetries of an objective; None stands for all changes of sign of single neurons."""


def every_sign(n: int, **options: Any) -> Symmetries:
    """The symmetries of an objective of energies: every neuron may change its sign."""
    del n, options
    return None


def of_grid(
    sizes: Sequence[int], circles: Sequence[bool], *, rising: bool = False, reversals: bool = True
) -> frozenset[SignedOrder]:
    """Symmetries of an objective that looks at differences between neighbours on a grid.

    Args:
        sizes: the grid's sizes, C order.
        circles: for each axis whether its ends meet.
        rising: whether the sign of a difference matters, so that a reversal needs a change of sign too.
        reversals: whether an axis may be reversed.

    >>> [sorted(one.determinant for one in of_grid([4], [circle])) for circle in (False, True)]
    [[1, 1], [-1, 1, 1]]
    """
    n = math.prod(sizes)
    places = np.arange(n).reshape(sizes)

    def signed(order: np.ndarray, sign: int) -> SignedOrder:
        return SignedOrder(tuple(order.ravel().tolist()), sign)

    found = set() if rising else {signed(places, -1)}
    for axis, circle in enumerate(circles):
        if reversals:
            found.add(signed(np.flip(places, axis), -1 if rising else 1))
        if circle:
            found.add(signed(np.roll(places, 1, axis), 1))
    return frozenset(found)


def common(several: Sequence[Symmetries]) -> Symmetries:
    """Symmetries that all of several objectives have.

    >>> common([None, of_grid([3], [False])]) == of_grid([3], [False]), common([None, None])
    (True, None)
    """
    sets = [one for one in several if one is not None]
    return frozenset.intersection(*sets) if sets else None
