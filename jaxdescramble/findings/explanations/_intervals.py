"""Intervals of readings: the groups of samples of each half are drawn again, with replacement."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations._workers import StoppedError, Workers, sharing
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.draws import Battery, read_one
from jaxdescramble.findings.explanations.looks import Inputs
from jaxdescramble.findings.explanations.preparing import Prepared, inputs_of

FEWEST_GROUPS = 10
"""Smallest number of groups of a half that give an interval."""
FEWEST_RESAMPLES = 40
"""Smallest number of resamples: one of them then lies outside the interval on either side."""
TAILS = (2.5, 97.5)
"""Percentiles of the resamples at the ends of an interval."""

Intervals = list[Float[np.ndarray, "_ 2"] | None]


@functools.partial(quick_jit, static_argnames=("first", "into", "centred"))
def _weighted(
    signals: Float[Array, "m columns"], weights: Float[Array, " columns"], first: int, into: Axis, centred: bool
) -> Inputs:
    """Return the inputs of a layer with other weights of its columns; the first half has `first` columns."""
    halves = [np.arange(first), np.arange(first, signals.shape[1])]
    return inputs_of(signals, halves, weights, into, centred)


class Groups(NamedTuple):
    """The groups of both halves, numbered through.

    Attributes:
        number: number of the group of each sample; -1 for samples that do not count. The second half follows the first.
        counts: number of groups of each half.
    """

    number: Int[np.ndarray, " samples"]
    counts: tuple[int, int]

    @staticmethod
    def of(groups: Int[np.ndarray, " samples"], side: Int[np.ndarray, " samples"]) -> "Groups":
        """Number the groups; `side` is the half of each sample, or -1."""
        number, counts = np.full(len(groups), -1), [0, 0]
        for half in (0, 1):
            own = side == half
            names, place = np.unique(groups[own], return_inverse=True)
            number[own], counts[half] = place + counts[0], len(names)
        return Groups(number, (counts[0], counts[1]))

    def drawn(self, seed: Sequence[int]) -> Int[np.ndarray, " samples"]:
        """Return how often each sample is drawn, if each half draws as many groups as it has, with replacement.

        >>> groups = Groups.of(np.asarray([0, 0, 1, 1, 2]), np.asarray([0, 0, 0, 0, 1]))
        >>> times = groups.drawn([0])
        >>> int(times[:4].sum()), int(times[4])
        (4, 1)
        """
        rng = np.random.default_rng(list(seed))
        times = [np.bincount(rng.integers(count, size=count), minlength=count) for count in self.counts]
        return np.append(np.concatenate(times), 0)[self.number]


def intervals_of(
    workers: Workers,
    layers: list[Prepared],
    batteries: list[Battery],
    groups: Int[np.ndarray, " samples"],
    side: Int[np.ndarray, " samples"],
    resamples: int,
    seed: Sequence[int],
) -> tuple[Intervals, str]:
    """Return a 95% interval of every reading of each layer, or None, and a sentence about them.

    An interval holds the middle 95% of the readings of the resamples. Both halves are drawn again, each from its own
    groups, and every resample goes through the same steps as the samples: frames on one half, readings on the other.

    Args:
        workers: threads.
        layers: the layers.
        batteries: the readings of each layer.
        groups: the group of each sample.
        side: the half of each sample; -1 for samples that do not count.
        resamples: number of resamples.
        seed: integers that decide the resamples.

    Raises:
        StoppedError, KeyboardInterrupt: if the work is stopped before all resamples are read.
    """
    both = Groups.of(groups, side)
    fewest = [min(len(np.unique(groups[one.source.columns[own]])) for own in one.picked) for one in layers]
    enough = [k for k, count in enumerate(fewest) if count >= FEWEST_GROUPS]
    # Layers that share their input signals share the resamples of them.
    alike = [[enough[place] for place in group] for group in sharing([id(layers[k].inputs) for k in enough])]

    def task(members: list[int]) -> list[np.ndarray]:
        one = layers[members[0]]
        columns = np.concatenate(one.picked)
        signals, own = jnp.asarray(one.source.input[:, columns]), one.weights[columns]
        rows: list[list[np.ndarray]] = [[] for _ in members]
        for b in range(resamples):
            times = both.drawn([*seed, 2, b])[one.source.columns[columns]]
            weights = jnp.asarray(own * times, signals.dtype)
            inputs = _weighted(signals, weights, len(one.picked[0]), one.source.into, one.source.centred)
            for place, k in enumerate(members):
                rows[place].append(read_one(layers[k]._replace(inputs=inputs), batteries[k]))
                if workers.watch.over():
                    raise StoppedError
        return [np.stack(each) for each in rows]

    found: Intervals = [None] * len(layers)
    tasks: list[Callable[[], list[np.ndarray]]] = [functools.partial(task, members) for members in alike]
    done = 0
    for members, tables in zip(alike, workers.run(tasks), strict=True):
        for k, table in zip(members, tables, strict=True):
            found[k] = np.percentile(table, TAILS, axis=0).T
        done += len(members)
        workers.watch.tell(f"intervals from {resamples} resamples", done, len(enough))
    return found, _sentence(layers, fewest, resamples)


def _sentence(layers: list[Prepared], fewest: list[int], resamples: int) -> str:
    lacking = [one.source.name for one, count in zip(layers, fewest, strict=True) if count < FEWEST_GROUPS]
    why = f"a half has only {min(fewest)} group(s) of samples, and an interval needs {FEWEST_GROUPS}"
    if len(lacking) == len(layers):
        return f"No intervals: {why}."
    said = f"Intervals hold 95% of {resamples} resamples of the groups within each half."
    return said + (f" There are none for {', '.join(lacking)}: {why}." if lacking else "")
