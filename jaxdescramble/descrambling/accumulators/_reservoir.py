"""A uniform sample of the columns of a stream, whichever way it is cut, shared out or merged."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

Span = tuple[int, int, int]
"""The seed of a key, and the positions from one up to another that were drawn from with it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reservoir:
    """The `size` columns of lowest priority, each column's priority a hash of the key and its position in the stream.

    Which columns these are depends on nothing else: not on batches, devices or the order of merging. Every column is as
    likely to be among them as any other.

    Attributes:
        size: columns kept at most.
        seed: of the key, 64 bits.
        columns: shape (n, at most size), lowest priority first, so that the first k are such a sample themselves.
        priorities: theirs, ascending, unsigned 64-bit integers.
        spans: which positions have been seen, under which seed.
        weights: of the columns kept, or None. Columns of weight 0 are never kept; others as likely as any, whatever
            their weight, which they keep.
    """

    size: int
    seed: int
    columns: Float[np.ndarray, "n k"]
    priorities: np.ndarray
    spans: tuple[Span, ...]
    weights: Float[np.ndarray, " k"] | None = None

    @property
    def position(self) -> int:
        """Of the next column."""
        return max(stop for seed, _, stop in self.spans if seed == self.seed)

    def add(self, batch: Any, weights: np.ndarray | None = None) -> "Reservoir":
        """Return a reservoir that has seen the columns of a batch too, the next in the stream."""
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
        """Of both streams; the next column follows this one's.

        Raises:
            ValueError: sizes that differ; positions that both have seen with one key.
        """
        if self.size != other.size:
            raise ValueError(f"merge: reservoirs of {self.size} and {other.size} columns; make both of one size.")
        seen = sorted(span for span in (*self.spans, *other.spans) if span[1] < span[2])
        # Those of one reservoir are apart: if any two overlap, so do some that follow on each other in order.
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


def empty(size: int, key: Any, n: int, dtype: Any, first: int) -> Reservoir:
    """A reservoir that has seen nothing of a stream whose first column has that position.

    >>> empty(2, jax.random.key(0), 3, "float32", 0).add(np.ones((3, 5), "float32")).columns.shape
    (3, 2)
    """
    high, low = (int(word) for word in np.asarray(jax.random.bits(key, (2,), "uint32")))
    seed = high << 32 | low
    return Reservoir(size, seed, np.zeros((n, 0), dtype), np.zeros(0, np.uint64), ((seed, first, first),))


def priorities(seed: int, start: int, count: int) -> np.ndarray:
    """64-bit hashes of so many positions, no two alike.

    >>> bool((priorities(7, 0, 5)[2:] == priorities(7, 2, 3)).all())
    True

    Source: SplitMix64; Steele, Lea, Flood, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(start + 1, start + 1 + count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _joined(spans: Any) -> tuple[Span, ...]:
    """Spans in order, those that follow on each other made one."""
    found: list[Span] = []
    for seed, start, stop in sorted(spans):
        if found and found[-1][0] == seed and found[-1][2] == start:
            found[-1] = (seed, found[-1][1], stop)
        else:
            found.append((seed, start, stop))
    return tuple(found)


def _take(batch: Any, places: np.ndarray) -> np.ndarray:
    if not isinstance(batch, Array):
        return batch[:, places]
    # As many places as a power of two: no new program for every batch.
    padded = np.zeros(1 << (len(places) - 1).bit_length(), np.int32)
    padded[: len(places)] = places
    return np.asarray(batch[:, padded])[:, : len(places)]
