"""From the signals of a layer to the two factors that all draws share."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble._base.decompositions import triangle
from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Inputs, frames_of, singular_values
from jaxdescramble.findings.explanations.sources import Source

COLUMNS, ENTRIES, LEAST = 16384, 2**25, 2048
"""Largest number of columns of each half that are read; a layer with more gives a random part of them. A layer with
more inputs gives fewer columns, so that they have at most `ENTRIES` numbers, but `LEAST` columns in any case."""


class Prepared(NamedTuple):
    """One layer, ready for draws.

    Attributes:
        source: the layer.
        weight: W as a JAX array.
        singular: singular values of W, descending.
        inputs: factors and frames of the two halves.
        picked: the columns of signals that are read in each half.
        weights: weight of each column.
    """

    source: Source
    weight: Float[Array, "n m"]
    singular: Float[Array, " k"]
    inputs: Inputs
    picked: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray

    @property
    def reduced(self) -> bool:
        """Whether a rotation of the outputs changes no reading, so that a thin factor of W is enough."""
        return not self.source.output.ordered


def columns_of(
    source: Source, side: Int[np.ndarray, " samples"], weights: Float[np.ndarray, " samples"], seed: tuple[int, ...]
) -> list[np.ndarray]:
    """Return for each half the columns to read: at most `COLUMNS` and `ENTRIES`, of positive weight."""
    most = int(np.clip(ENTRIES // source.weight.shape[1], LEAST, COLUMNS))
    own_side, own_weight = side[source.columns], weights[source.columns]
    rng = np.random.default_rng(list(seed))
    found = []
    for half in (0, 1):
        columns = np.flatnonzero((own_side == half) & (own_weight > 0))
        if len(columns) > most:
            columns = np.sort(rng.choice(columns, most, replace=False))
        found.append(columns)
    return found


def inputs_of(
    signals: Float[np.ndarray | Array, "m columns"],
    columns: Sequence[np.ndarray | Array],
    weights: Float[np.ndarray | Array, " columns"],
    into: Axis,
    centred: bool = False,
) -> Inputs:
    """Return the factors of both halves, `F F^T = X diag(w) X^T / sum(w)`, with at most as many columns as rows.

    If the axis `into` is not ordered, its frames are found too. If `centred`, X is the signals without their mean over
    the columns of the half.

    >>> from jaxdescramble.findings.explanations.axes import ordered_axis
    >>> X = np.asarray([[1.0, 1.0, 3.0, 3.0]], "float32")
    >>> found = inputs_of(X, [np.arange(2), np.arange(2, 4)], np.ones(4), ordered_axis(1))
    >>> [round(abs(float(one[0, 0])), 4) for one in found.factors]
    [1.0, 3.0]
    """
    factors = []
    for own in columns:
        # A layer with more columns than rows is compressed: the triangle has the same Gram matrix.
        factors.append(_factor(jnp.asarray(signals), jnp.asarray(weights, signals.dtype), own, centred))
    frames = None if into.ordered else frames_of(factors, into)
    return Inputs((factors[0], factors[1]), frames)


@functools.partial(fused, static_argnames="centred")
def _factor(signals: Array, weights: Array, columns: np.ndarray | Array, centred: bool) -> Array:
    share = weights[columns] / jnp.sum(weights[columns])
    part = signals[:, columns]
    if centred:
        part = part - matmul(part, share)[:, None]
    part = part * jnp.sqrt(share)[None, :]
    return triangle(part.T).T if part.shape[1] > part.shape[0] else part


def signals_of(source: Source) -> tuple[int, int, Axis]:
    """Return a key that is equal for layers that read the same input signals in the same way."""
    return id(source.input), id(source.columns), source.into


def prepared(
    sources: Sequence[Source],
    side: Int[np.ndarray, " samples"],
    weights: Float[np.ndarray, " samples"],
    seed: tuple[int, ...],
) -> list[Prepared | str]:
    """Return layers with the factors of their input signals, or why a layer cannot be judged.

    Args:
        sources: layers with the same `signals_of`. They share the factors.
        side: the half of each sample, or -1.
        weights: weight of each sample.
        seed: seed of the choice of columns.
    """
    signals = _signals(sources[0], side, weights, seed)
    return [_prepared(one, signals, weights) for one in sources]


def _prepared(
    source: Source, signals: tuple[list[np.ndarray], Inputs] | str, weights: Float[np.ndarray, " samples"]
) -> Prepared | str:
    bad = int((~np.isfinite(source.weight)).sum())
    if bad:
        return f"its weight contains {bad} numbers that are NaN or infinite"
    if isinstance(signals, str):
        return signals
    columns, inputs = signals
    weight = jnp.asarray(source.weight)
    picked, own = (columns[0], columns[1]), weights[source.columns]
    return Prepared(source, weight, singular_values(weight), inputs, picked, own)


def _signals(
    source: Source, side: Int[np.ndarray, " samples"], weights: Float[np.ndarray, " samples"], seed: tuple[int, ...]
) -> tuple[list[np.ndarray], Inputs] | str:
    """Return the columns to read in each half, and the factors; or why the signals cannot be read."""
    columns = columns_of(source, side, weights, seed)
    for half, own in enumerate(columns):
        if not len(own):
            return f"half {half + 1} of the samples has no column of positive weight in this layer"
    used = np.concatenate(columns)
    bad = ~np.isfinite(source.input[:, used])
    if bad.any():
        samples = np.unique(source.columns[used[bad.any(axis=0)]])
        return (
            f"its input signals contain {int(bad.sum())} numbers that are NaN or infinite in {len(samples)} "
            f"sample(s), the first is number {samples[0]}; give these samples the weight 0"
        )
    return columns, inputs_of(source.input, columns, weights[source.columns], source.into, source.centred)
