"""Symmetries of objectives: signed permutations of the neurons that do not change an objective.

O(n) has two determinant classes, +1 and -1, and no path leads from one to the other. If `f(G P) = f(P)` for some G of
determinant -1, then every point of one class has a point of equal value in the other class. A solver then needs to
search only one class.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class SignedOrder(NamedTuple):
    """A signed permutation `(G y)_i = sign * y_order[i]`. Two of them can be compared with `==`."""

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


@dataclasses.dataclass(frozen=True)
class Symmetries:
    """Signed permutations of the n neurons that do not change an objective. The default contains no known symmetry.

    Attributes:
        orders: some symmetries.
        every_sign: whether every single neuron may change its sign.
        every_order: whether the neurons may be permuted in any way.

    >>> reversed_signs = SignedOrder((2, 1, 0), -1)
    >>> reversed_signs in Symmetries(every_sign=True), reversed_signs in Symmetries(every_sign=True, every_order=True)
    (False, True)
    """

    orders: frozenset[SignedOrder] = frozenset()
    every_sign: bool = False
    every_order: bool = False

    def __contains__(self, one: SignedOrder) -> bool:
        sign_is_free = self.every_sign or one.sign == 1
        if self.every_order or one.order == tuple(range(len(one.order))):
            return sign_is_free or one in self.orders
        return one in self.orders or (self.every_sign and SignedOrder(one.order, -one.sign) in self.orders)

    def reflect(self, n: int) -> bool:
        """Return whether one of the symmetries has determinant -1.

        >>> Symmetries(every_sign=True).reflect(3), Symmetries().reflect(3)
        (True, False)
        """
        return self.every_sign or (self.every_order and n > 1) or any(one.determinant < 0 for one in self.orders)


def of_grid(
    sizes: Sequence[int], ends: Sequence[str], *, rising: bool = False, reversals: bool = True, every_sign: bool = False
) -> Symmetries:
    """Return the symmetries of an objective that compares neurons by their places on a grid.

    Args:
        sizes: sizes of the grid, in C order.
        ends: boundary of each axis; "periodic" if its ends meet.
        rising: whether the sign of a difference matters. Then a reversal needs a change of sign too.
        reversals: whether an axis may be reversed.
        every_sign: whether every neuron may change its sign.

    >>> [sorted(one.determinant for one in of_grid([4], [end]).orders) for end in ("neumann", "periodic")]
    [[1, 1], [-1, 1, 1]]
    """
    places = np.arange(math.prod(sizes)).reshape(sizes)

    def signed(order: np.ndarray, sign: int) -> SignedOrder:
        return SignedOrder(tuple(order.ravel().tolist()), sign)

    found = set() if rising else {signed(places, -1)}
    for axis, end in enumerate(ends):
        if reversals:
            found.add(signed(np.flip(places, axis), -1 if rising else 1))
        if end == "periodic":
            found.add(signed(np.roll(places, 1, axis), 1))
    return Symmetries(frozenset(found), every_sign)


def common(several: Sequence[Symmetries]) -> Symmetries:
    """Return the symmetries that several objectives have in common.

    >>> line = of_grid([3], ["neumann"])
    >>> common([line, Symmetries(every_sign=True, every_order=True)]) == line
    True
    """
    candidates = frozenset().union(*(one.orders for one in several))
    return Symmetries(
        frozenset(order for order in candidates if all(order in one for one in several)),
        all(one.every_sign for one in several),
        all(one.every_order for one in several),
    )
