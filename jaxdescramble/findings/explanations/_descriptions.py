"""What a report says beyond its tests: where the network lies among others, and its readings with shuffled inputs."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int, PyTree

from jaxdescramble.findings.explanations._intervals import Intervals, intervals_of
from jaxdescramble.findings.explanations._running import Network
from jaxdescramble.findings.explanations._workers import StoppedError, Workers
from jaxdescramble.findings.explanations.draws import Battery
from jaxdescramble.findings.explanations.preparing import Prepared

SHUFFLES = 10
"""Number of times that the inputs are shuffled; the report shows the mean."""

Descriptions = dict[str, dict[str, float]]


class Asked(NamedTuple):
    """What the user asked for beside the tests.

    Attributes:
        others: parameters of other trained networks.
        shuffled_inputs: whether to read the network with shuffled inputs.
        intervals: number of resamples; 0 for no intervals.
        axes: shape of the samples.
        side: the half of each sample; -1 for samples that do not count.
        groups: the group of each sample.
        seed: integers that decide the shuffles and the resamples.
    """

    others: Sequence[PyTree]
    shuffled_inputs: bool
    intervals: int
    axes: tuple[int, ...]
    side: Int[np.ndarray, " samples"]
    groups: Int[np.ndarray, " samples"]
    seed: tuple[int, ...]


class Described(NamedTuple):
    """The answer: descriptions, intervals of each layer with a sentence about them, and why something is missing."""

    descriptions: Descriptions
    intervals: Intervals
    about_intervals: str
    missing: str


def described(
    workers: Workers,
    network: Network | None,
    layers: list[Prepared],
    batteries: list[Battery],
    values: list[np.ndarray],
    asked: Asked,
) -> Described:
    """Return what the user asked for beside the tests. If the time is over or on Ctrl-C, the rest is left out."""
    found: Descriptions = {}
    intervals: Intervals = [None] * len(layers)
    about, missing = "", ""
    try:
        if network is not None and asked.others:
            missing = "no comparison with other networks"
            found |= among_others(network, asked.others, batteries, values, workers)
        if network is not None and asked.shuffled_inputs:
            missing = "no readings with shuffled inputs"
            found |= with_shuffled_inputs(network, asked.axes, asked.side, asked.seed, batteries, workers)
        if asked.intervals:
            missing = "no intervals"
            intervals, about = intervals_of(
                workers, layers, batteries, asked.groups, asked.side, asked.intervals, asked.seed
            )
    except (StoppedError, KeyboardInterrupt) as why:
        return Described(found, intervals, about, f"{workers.why(why)}: {missing}")
    return Described(found, intervals, about, "")


def among_others(
    network: Network, others: Sequence[PyTree], batteries: list[Battery], values: list[np.ndarray], workers: Workers
) -> Descriptions:
    """Return for each layer the share of the other networks whose reading is smaller."""
    stacks = [network.readings(other, batteries, "others", workers) for other in others]
    return {
        f"share of {len(others)} other networks with a smaller reading, {network.layers[k].source.name}": {
            one.name: float(np.mean([stack[k][place] < values[k][place] for stack in stacks]))
            for place, one in enumerate(battery)
        }
        for k, battery in enumerate(batteries)
    }


def with_shuffled_inputs(
    network: Network,
    axes: tuple[int, ...],
    side: Int[np.ndarray, " samples"],
    seed: Sequence[int],
    batteries: list[Battery],
    workers: Workers,
) -> Descriptions:
    """Return for each layer its readings when the features of x no longer depend on each other: a mean of shuffles."""
    rng, found = np.random.default_rng([*seed, 1]), []
    for k in range(SHUFFLES):
        mixed = shuffled(network.x, axes, side, rng)
        found.append(network.readings(network.params, batteries, "x", workers, mixed))
        workers.watch.tell("shuffled inputs", k + 1, SHUFFLES)
    return {
        f"readings with shuffled inputs, {network.layers[k].source.name}": {
            one.name: float(np.mean([stack[k][place] for stack in found]))
            for place, one in enumerate(battery)
            if all(np.isfinite(stack[k][place]) for stack in found)
        }
        for k, battery in enumerate(batteries)
    }


def shuffled(x: PyTree, axes: tuple[int, ...], side: Int[np.ndarray, " samples"], rng: np.random.Generator) -> PyTree:
    """Return x with each feature in a random order over the samples of each half.

    Args:
        x: inputs. Arrays whose first axes are not `axes` stay as they are.
        axes: shape of the samples, one or two axes.
        side: the half of each sample, flat; samples with -1 stay as they are.
        rng: source of the random orders.

    >>> x = np.asarray([[1, 5], [2, 6], [3, 7], [4, 8]])
    >>> mixed = shuffled(x, (4,), np.asarray([0, 0, 1, 1]), np.random.default_rng(0))
    >>> np.sort(mixed[:2], axis=0).tolist(), np.sort(mixed[2:], axis=0).tolist()
    ([[1, 5], [2, 6]], [[3, 7], [4, 8]])
    """

    def one(leaf: ArrayLike) -> ArrayLike:
        if np.shape(leaf)[: len(axes)] != axes:
            return leaf
        flat = np.array(leaf).reshape(len(side), -1)
        for half in (0, 1):
            rows = np.flatnonzero(side == half)
            order = rng.permuted(np.broadcast_to(rows[:, None], (len(rows), flat.shape[1])), axis=0)
            flat[rows] = np.take_along_axis(flat, order, axis=0)
        return flat.reshape(np.shape(leaf))

    return jax.tree.map(one, x)
