"""Places of samples: the sample that every position of a value belongs to.

A place gives an index along one axis of x for every position of a value. It is a sum of one array for each dimension:
slices, reversals, cuts, joins and reshapes are followed exactly. Sizes are never compared, so that axes of equal size
are not confused. Each kind of operation says in `kinds` how places go through it.
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
        """Return whether the index changes along a dimension."""
        return bool(self.steps[dimension])

    def indices(self, shape: Sequence[int]) -> np.ndarray:
        """Return the index of every position of a value of this shape; negative where there is none."""
        total = np.full((1,) * len(shape), self.offset, np.int64)
        for i, step in enumerate(self.steps):
            if step:
                total = total + np.asarray(step).reshape([-1 if j == i else 1 for j in range(len(shape))])
        return np.broadcast_to(total, tuple(shape))


Steps = list[Sequence[int]]
"""For each dimension the steps of a place; an empty tuple where the index does not change."""
Places = Mapping[int, frozenset[Place]]
"""By axis of x. The value does not depend on an axis that is missing; it mixes an axis that has no places."""


def place(offset: int, steps: Iterable[Sequence[int] | np.ndarray]) -> Place:
    """Return a place in its simplest form: steps begin at 0, and constant ones are left out.

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
    """Return the place with one more dimension, along which the index is constant."""
    return Place(one.offset, (*one.steps[:at], (), *one.steps[at:]))


def constant(shape: Sequence[int]) -> Steps:
    """Return the steps of an index that is the same everywhere."""
    return [()] * len(shape)


def dropped(steps: Steps, gone: set[int]) -> Steps | None:
    """Return the steps without some dimensions; None if the index changes along one of these."""
    return None if any(len(set(steps[i])) > 1 for i in gone) else [s for i, s in enumerate(steps) if i not in gone]
