"""Which charges are free: solutions of `prod c_j^k_j = 1`, for the sizes of the charges and for their signs."""

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np


def free_sizes(relations: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """Return a basis of the whole-number solutions x of `K x = 0`, as columns, shape (count, solutions).

    >>> free_sizes([[1, 1, -1]], 3).tolist()
    [[-1, 1], [1, 0], [0, 1]]
    """
    basis = _null_space(relations, count, Fraction)
    for j in range(basis.shape[1]):
        basis[:, j] *= int(np.lcm.reduce([value.denominator for value in basis[:, j]]))
    return basis.astype(int)


def free_signs(relations: Sequence[Sequence[int]], count: int) -> np.ndarray:
    """Return a basis of the solutions x of `K x = 0` modulo 2, as columns, shape (count, solutions).

    >>> free_signs([[1, 1, 1], [2, 0, 1]], 3).tolist()
    [[1], [1], [0]]
    """
    return _null_space(relations, count, lambda value: int(value) % 2).astype(int)


def _null_space(
    relations: Sequence[Sequence[int]], count: int, number: Callable[[int | Fraction], int | Fraction]
) -> np.ndarray:
    """Return a basis of the solutions of `K x = 0` as columns; `number` makes a number of the field of any number."""
    rows = [[number(value) for value in row] for row in relations]
    pivots: list[int] = []
    for column in range(count):
        at = len(pivots)
        found = next((i for i in range(at, len(rows)) if rows[i][column]), None)
        if found is None:
            continue
        rows[at], rows[found] = rows[found], rows[at]
        lead = Fraction(rows[at][column])
        rows[at] = [number(value / lead) for value in rows[at]]
        for i in range(len(rows)):
            if i != at and rows[i][column]:
                factor = rows[i][column]
                rows[i] = [number(a - factor * b) for a, b in zip(rows[i], rows[at], strict=True)]
        pivots.append(column)
    free = [column for column in range(count) if column not in pivots]
    basis = np.full((count, len(free)), number(0), dtype=object)
    for j, column in enumerate(free):
        basis[column, j] = number(1)
        for row, pivot in zip(rows, pivots, strict=False):
            basis[pivot, j] = number(-row[column])
    return basis


def beyond(
    whole: np.ndarray, part: np.ndarray, free: Callable[[Sequence[Sequence[int]], int], np.ndarray]
) -> np.ndarray:
    """Return the columns of a basis that are independent of those of another one; `free` says in which numbers.

    >>> beyond(np.asarray([[1, 1], [0, 1]]), np.asarray([[1], [0]]), free_sizes).tolist()
    [[1], [1]]
    """

    def rank(matrix: np.ndarray) -> int:
        return len(matrix) - free(matrix.T.tolist(), len(matrix)).shape[1]

    kept, columns = part, []
    for j in range(whole.shape[1]):
        wider = np.concatenate([kept, whole[:, j : j + 1]], axis=1)
        if rank(wider) > rank(kept):
            kept = wider
            columns.append(j)
    return whole[:, columns]
