"""A uniform random sample of the columns of a stream, the same for every way to cut, split and merge the stream."""

import dataclasses
import itertools
from collections.abc import Iterable

import jax
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

Span = tuple[int, int, int]
"""Seed of a key, first position and end position (excluded) of the columns that have been seen with this key."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reservoir:
    """The `size` columns with the lowest priorities; a priority is a hash of the key and the position in the stream.

    So the choice depends only on the key and the positions, not on batches, devices or the order of merging. All
    columns are equally likely to be kept.

    Attributes:
        size: largest number of columns to keep.
        seed: seed of the key, 64 bits.
        columns: the columns, shape (n, at most size), lowest priority first; so the first k columns are a reservoir of
            size k.
        priorities: priorities of the columns, ascending, unsigned 64-bit integers.
        spans: positions that have been seen, with their seeds.
        weights: weights of the columns, or None. Columns of weight 0 are never kept. Other weights do not change how
            likely a column is kept; they are stored with it.
    """

    size: int
    seed: int
    columns: Float[np.ndarray, "n k"]
    priorities: np.ndarray
    spans: tuple[Span, ...]
    weights: Float[np.ndarray, " k"] | None = None

    @property
    def position(self) -> int:
        """Position of the next column in the stream."""
        return max(stop for seed, _, stop in self.spans if seed == self.seed)

    def add(self, batch: Array | np.ndarray, weights: np.ndarray | None = None) -> "Reservoir":
        """Return a copy that has also seen the columns of a batch, which come next in the stream."""
        start, m = self.position, batch.shape[1]
        found = priorities(self.seed, start, m)
        full = len(self.priorities) == self.size
        lower = np.flatnonzero(found < self.priorities[-1]) if full else np.arange(m)
        lower = lower if weights is None else lower[weights[lower] > 0]
        lower = lower[np.argsort(found[lower], kind="stable")[: self.size]]
        spans = _joined((*self.spans, (self.seed, start, start + m)))
        if not len(lower):
            return dataclasses.replace(self, spans=spans)
        return self._with(_take(batch, lower), found[lower], spans, None if weights is None else weights[lower])

    def merge(self, other: "Reservoir") -> "Reservoir":
        """Merge two reservoirs; the next column follows those of `self`.

        Raises:
            ValueError: if the sizes differ, or if both have seen the same positions with one key.
        """
        if self.size != other.size:
            raise ValueError(f"merge: reservoirs of {self.size} and {other.size} columns; make both of one size.")
        seen = sorted(span for span in (*self.spans, *other.spans) if span[1] < span[2])
        # Spans of one reservoir do not overlap. So if any two spans overlap, two neighbours in the sorted list do.
        for (seed, _, stop), (following, begin, end) in itertools.pairwise(seen):
            if seed == following and begin < stop:
                raise ValueError(
                    f"merge: both reservoirs have drawn from positions {begin} to {min(stop, end)} with one key. Give "
                    "each stream a key of its own, Accumulator.empty(..., key=jax.random.fold_in(key, worker)), or "
                    "tell it where in the whole its columns begin (first=)."
                )
        spans = _joined((*self.spans, *other.spans))
        return self._with(other.columns, other.priorities, spans, other.weights)

    def _with(
        self, columns: np.ndarray, found: np.ndarray, spans: tuple[Span, ...], weights: np.ndarray | None
    ) -> "Reservoir":
        together = np.concatenate([self.priorities, found])
        order = np.argsort(together, kind="stable")[: self.size]
        kept = np.concatenate([self.columns, columns], axis=1)[:, order]
        if weights is not None or self.weights is not None:
            pairs = ((self.priorities, self.weights), (found, weights))
            each = [np.ones(len(of), kept.dtype) if one is None else one for of, one in pairs]
            weights = np.concatenate(each)[order]
        return dataclasses.replace(self, columns=kept, priorities=together[order], spans=spans, weights=weights)


def empty(size: int, key: PRNGKeyArray, n: int, dtype: DTypeLike, first: int) -> Reservoir:
    """Return a reservoir that has seen no column yet; the first column of its stream has the position `first`.

    >>> empty(2, jax.random.key(0), 3, "float32", 0).add(np.ones((3, 5), "float32")).columns.shape
    (3, 2)
    """
    high, low = (int(word) for word in np.asarray(jax.random.bits(key, (2,), "uint32")))
    seed = high << 32 | low
    return Reservoir(size, seed, np.zeros((n, 0), dtype), np.zeros(0, np.uint64), ((seed, first, first),))


def priorities(seed: int, start: int, count: int) -> np.ndarray:
    """Return 64-bit hashes of `count` positions from `start` on; all are different.

    >>> bool((priorities(7, 0, 5)[2:] == priorities(7, 2, 3)).all())
    True

    Source: SplitMix64; Steele, Lea, Flood, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(start + 1, start + 1 + count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the spans in order; adjacent spans become one."""
    found: list[Span] = []
    for seed, start, stop in sorted(spans):
        if found and found[-1][0] == seed and found[-1][2] == start:
            found[-1] = (seed, found[-1][1], stop)
        else:
            found.append((seed, start, stop))
    return tuple(found)


def _take(batch: Array | np.ndarray, places: np.ndarray) -> np.ndarray:
    if not isinstance(batch, Array):
        return batch[:, places]
    # Pad the number of places to a power of two, so that not every batch compiles a new program.
    padded = np.zeros(1 << (len(places) - 1).bit_length(), np.int32)
    padded[: len(places)] = places
    return np.asarray(batch[:, padded])[:, : len(places)]
