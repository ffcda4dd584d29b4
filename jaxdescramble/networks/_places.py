"""Places of samples: for every position of a value, the sample that it belongs to.

A place gives, for every position of a value, an index along one axis of x, as a sum of one array for each dimension. So
slices, reversals, cuts, joins and reshapes are followed exactly, and no size is ever taken for another one. What each
operation makes of places stands with its kind (`kinds`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

NOWHERE = -(2**40)
"""Added to the index of a position that comes from no position of x, such as a class token."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Indices along one axis of x: `offset` plus, for each dimension of the value, an entry of its array.

    A dimension along which the index does not change has an empty tuple.
    """

    offset: int
    steps: tuple[tuple[int, ...], ...]

    def along(self, dimension: int) -> bool:
        """Whether the index changes along a dimension."""
        return bool(self.steps[dimension])

    def indices(self, shape: Sequence[int]) -> np.ndarray:
        """The index of every position of a value of this shape; negative where there is none."""
        total = np.full((1,) * len(shape), self.offset, np.int64)
        for i, step in enumerate(self.steps):
            if step:
                total = total + np.asarray(step).reshape([-1 if j == i else 1 for j in range(len(shape))])
        return np.broadcast_to(total, tuple(shape))


Steps = list[Sequence[int]]
"""For each dimension the steps of a place; an empty tuple where the index does not change."""
Places = Mapping[int, frozenset[Place]]
"""By axis of x; an axis that is missing has no part in the value, one without places has been mixed."""


def place(offset: int, steps: Iterable[Sequence[int] | np.ndarray]) -> Place:
    """A place in its simplest form: steps begin at 0, and those that do not change are left out.

    >>> place(0, [[2, 3], [1, 1]])
    Place(offset=3, steps=((0, 1), ()))
    """
    found = []
    for step in steps:
        numbers = [int(i) for i in step]
        offset += numbers[0] if numbers else 0
        found.append(tuple(i - numbers[0] for i in numbers) if len(set(numbers)) > 1 else ())
    return Place(offset, tuple(found))


def inserted(one: Place, at: int) -> Place:
    """The place with one more dimension, along which it does not change."""
    return Place(one.offset, (*one.steps[:at], (), *one.steps[at:]))


def constant(shape: Sequence[int]) -> Steps:
    """Return the steps of an index that is the same everywhere."""
    return [()] * len(shape)


def dropped(steps: Steps, gone: set[int]) -> Steps | None:
    """Return the steps without some dimensions; None if the index changes along one of these."""
    return None if any(len(set(steps[i])) > 1 for i in gone) else [s for i, s in enumerate(steps) if i not in gone]
