"""The strongest waves of a layer: what they read, and the samples on which they are largest and smallest.

The descrambled weight is `P W = B U^T W`. The columns of U are the principal directions of the preactivations, the
strongest first. The columns of B are the waves along the descrambled order, the slowest first. So every row of `P W` is
a sum of waves, wave k reads the inputs with the weights `u_k^T W`, and its activation on an input x is `u_k^T W x`. If
the outputs are ordered, P is the identity, and each output counts as one wave.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.fft
from jaxtyping import Float, Int

from jaxdescramble._base.results import Result
from jaxdescramble.findings.explanations import _linear as linear
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.preparing import Prepared

WAVES, SAMPLES = 6, 5
"""Largest numbers of waves of a layer, and of samples on each side of a wave."""

WEAKEST = 1e-5
"""Waves with a smaller share of the energy than this are left out."""

COLUMNS = 4096
"""Number of columns of signals that are read at a time."""


class Names(NamedTuple):
    """The names of the samples: sample k is called `labels[codes[k]]`."""

    labels: list[str]
    codes: Int[np.ndarray, " samples"]


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class LayerWave(Result):
    """One of the strongest waves of a layer.

    The sign of a wave is arbitrary; here its largest weight is positive. So "largest" and "smallest" are two ends of
    one scale.

    Attributes:
        name: such as "wave 2", or "output 3" (counted from 0) if the outputs are ordered.
        energy: share of the energy of the preactivations that it carries, on all samples.
        weights: its weight on each input, shape (in,); inputs without an order are in the descrambled order.
        largest: the samples on which it is largest, with its activation. Empty without `names`.
        smallest: the samples on which it is smallest, the smallest first.
        cycles: number of periods along the line of inputs, where most of the energy of its weights lies. None if the
            inputs are not an ordered line.
        cycles_energy: share of the energy of the weights within half a cycle of it.
    """

    name: str
    energy: float
    weights: Float[np.ndarray, " m"]
    largest: tuple[tuple[str, float], ...] = ()
    smallest: tuple[tuple[str, float], ...] = ()
    cycles: float | None = None
    cycles_energy: float = 0.0


def principal(signals: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Return the energies and the principal directions of signals, strongest first.

    >>> energies, _ = principal(np.diag([1.0, 2.0]))
    >>> energies.round(6).tolist()
    [4.0, 1.0]
    """
    energies, directions = linear.eigh(linear.matmul(signals, signals.T))
    order = np.argsort(-energies, kind="stable")
    return energies[order], directions[:, order]


def waves_of(
    one: Prepared,
    energies: Float[np.ndarray, " n"],
    directions: Float[np.ndarray, "n n"] | None,
    right: Float[np.ndarray, "size m"] | None,
    mean: Float[np.ndarray, " m"],
    names: Names | None,
) -> tuple[LayerWave, ...]:
    """Return the strongest waves of a layer.

    Args:
        one: the layer.
        energies: energy of the preactivations along each direction, or of each output if `directions` is None.
        directions: principal directions of the preactivations; None if the outputs are ordered.
        right: descrambler of the inputs; None if they are ordered.
        mean: mean of the input signals, which is subtracted if they are centred.
        names: the names of the samples, or None.
    """
    total = float(energies.sum())
    strongest = np.argsort(-energies, kind="stable")[:WAVES]
    strongest = strongest[energies[strongest] > WEAKEST * total]
    weight = np.asarray(one.weight)
    rows = weight[strongest] if directions is None else directions[:, strongest].T @ weight
    shown = rows if right is None else rows @ right.T
    signs = np.sign(np.take_along_axis(shown, np.abs(shown).argmax(axis=1)[:, None], axis=1))
    if directions is not None:  # the sign of an output is no choice
        rows, shown = rows * signs, shown * signs
    ends = [((), ())] * len(rows) if names is None else _ends(one, rows, mean, names)
    periods = [cycles_of(row, one.source.into) for row in rows]
    return tuple(
        LayerWave(
            name=f"output {k}" if directions is None else f"wave {k + 1}",
            energy=float(energies[k]) / total,
            weights=profile.astype(one.weight.dtype),
            largest=largest,
            smallest=smallest,
            cycles=cycles,
            cycles_energy=share,
        )
        for k, profile, (largest, smallest), (cycles, share) in zip(
            strongest.tolist(), shown, ends, periods, strict=True
        )
    )


def cycles_of(weights: Float[np.ndarray, " m"], into: Axis) -> tuple[float | None, float]:
    """Return the number of cycles along a line of inputs where most of the energy lies, and the share of this energy.

    The cosine transform has two frequencies for each cycle. The energy of three of them in a row counts, and the number
    of cycles is their mean.

    >>> from jaxdescramble.findings.explanations.axes import free_axis, ordered_axis
    >>> cycles, share = cycles_of(np.cos(2 * np.pi * 5 * (np.arange(64) + 0.5) / 64), ordered_axis(64))
    >>> round(cycles, 3), round(share, 3)
    (5.0, 1.0)
    """
    line = [size for size in into.shape if size > 1]
    if not into.ordered or len(line) != 1 or not np.any(weights):
        return None, 0.0
    modes = np.asarray(scipy.fft.dct(weights.reshape(into.channels, -1), norm="ortho", axis=1))
    energy = np.sum(modes**2, axis=0)
    padded = np.pad(energy, 1)
    most = int(np.argmax(padded[:-2] + padded[1:-1] + padded[2:]))
    near = slice(max(most - 1, 0), most + 2)
    found = energy[near]
    return float(np.arange(len(energy))[near] @ found / found.sum()) / 2, float(found.sum() / energy.sum())


def _signals(one: Prepared) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "m columns"]]]:
    """Yield the columns that are read, and their signals, some at a time."""
    for half in one.picked:
        for first in range(0, len(half), COLUMNS):
            own = half[first : first + COLUMNS]
            yield own, np.asarray(one.source.input[:, own], one.weight.dtype)


def _ends(
    one: Prepared, rows: Float[np.ndarray, "waves m"], mean: Float[np.ndarray, " m"], names: Names
) -> list[tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]]:
    """Return for each wave the samples on which it is largest, and smallest."""
    middle = mean[:, None].astype(rows.dtype) if one.source.centred else 0
    activations = np.concatenate([linear.matmul(rows, signals - middle) for _, signals in _signals(one)], axis=1)
    codes = names.codes[one.source.columns[np.concatenate(one.picked)]]

    def named(places: np.ndarray, row: np.ndarray) -> tuple[tuple[str, float], ...]:
        return tuple((names.labels[codes[k]], float(row[k])) for k in places)

    return [(named(smallest(-row, codes), row), named(smallest(row, codes), row)) for row in activations]


def smallest(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the places of the smallest values, in ascending order: one of each code, or more if there are few codes.

    >>> smallest(np.asarray([3.0, 1.0, 2.0, 9.0]), np.asarray([0, 1, 1, 0])).tolist()
    [1, 2, 0, 3]
    """
    order = np.argsort(values, kind="stable")
    distinct = np.sort(np.unique(codes[order], return_index=True)[1])[:SAMPLES]
    again = np.setdiff1d(np.arange(min(len(order), 2 * SAMPLES)), distinct)[: SAMPLES - len(distinct)]
    return order[np.sort(np.concatenate([distinct, again]))]


def mean_of(one: Prepared) -> Float[np.ndarray, " m"]:
    """Return the mean of the input signals over the samples; the two halves count the same."""
    weights = np.zeros(one.source.input.shape[1])
    for half in one.picked:
        weights[half] = one.weights[half] / one.weights[half].sum()
    parts = [signals @ weights[own] for own, signals in _signals(one)]
    return np.sum(parts, axis=0) / len(one.picked)


def mean_energy(
    weight: Float[np.ndarray, "n m"], mean: Float[np.ndarray, " m"], factor: Float[np.ndarray, "m k"]
) -> tuple[float, float]:
    """Return the share of the energy that the mean over samples carries: in the input signals and preactivations.

    A layer whose signals are all zero has NaN.

    Args:
        weight: the weight.
        mean: mean of the input signals.
        factor: factors F of the two halves, side by side.
    """

    def share(mean: np.ndarray, factor: np.ndarray) -> float:
        total = float(np.sum(factor**2)) / 2
        return min(float(np.sum(mean**2)) / total, 1.0) if total > 0 else float("nan")

    return share(mean, factor), share(weight @ mean, linear.matmul(weight, factor))


def as_json(waves: tuple[LayerWave, ...]) -> list[dict[str, object]]:
    """Return waves without their weights, for `report.json`."""
    names = ("name", "energy", "largest", "smallest", "cycles", "cycles_energy")
    return [{name: getattr(one, name) for name in names} for one in waves]


def from_json(found: list[dict], weights: Float[np.ndarray, "waves m"]) -> tuple[LayerWave, ...]:
    """Return the waves that `as_json` and a matrix of their weights describe."""

    def ends(side: list[list]) -> tuple[tuple[str, float], ...]:
        return tuple((name, value) for name, value in side)

    return tuple(
        LayerWave(
            name=one["name"],
            energy=one["energy"],
            weights=row,
            largest=ends(one["largest"]),
            smallest=ends(one["smallest"]),
            cycles=one["cycles"],
            cycles_energy=one["cycles_energy"],
        )
        for one, row in zip(found, weights, strict=True)
    )
