"""From the signals of a layer to the two factors that all draws share."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdescramble._base.decompositions import triangle
from jaxdescramble._base.products import matmul
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Inputs, frames_of, singular_values
from jaxdescramble.findings.explanations.sources import Source

COLUMNS, ENTRIES, LEAST = 16384, 2**25, 2048
"""Largest number of columns of each half that are read; a layer with more gives a random part of them. A layer with
more inputs gives fewer columns, so that they have at most `ENTRIES` numbers, but `LEAST` columns in any case."""


class UnreadableError(ValueError):
    """A layer cannot be judged, and the message says why; the other layers can."""


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
        weight = jnp.asarray(weights, signals.dtype)[own]
        share = weight / jnp.sum(weight)
        part = jnp.asarray(signals)[:, own]
        if centred:
            part = part - matmul(part, share)[:, None]
        part = part * jnp.sqrt(share)[None, :]
        factors.append(triangle(part.T).T if part.shape[1] > part.shape[0] else part)
    frames = None if into.ordered else frames_of(factors, into)
    return Inputs((factors[0], factors[1]), frames)


class Prepare:
    """Prepare layers for draws; layers that share their input signals share the factors.

    Attributes:
        side: the half of each sample, or -1.
        weights: weight of each sample.
        seed: seed of the choice of columns.
    """

    def __init__(
        self, side: Int[np.ndarray, " samples"], weights: Float[np.ndarray, " samples"], seed: tuple[int, ...]
    ):
        self.side, self.weights, self.seed = side, weights, seed
        self._read: dict[tuple[int, int, Axis], tuple[list[np.ndarray], Inputs]] = {}

    def __call__(self, source: Source) -> Prepared:
        """Return a layer with the factors of its input signals on the two halves of the samples.

        Raises:
            UnreadableError: if a half has no sample of positive weight in this layer, or if numbers are not finite.
        """
        bad = int((~np.isfinite(source.weight)).sum())
        if bad:
            raise UnreadableError(f"its weight contains {bad} numbers that are NaN or infinite")
        same = id(source.input), id(source.columns), source.into
        if same not in self._read:
            self._read[same] = self._signals(source)
        columns, inputs = self._read[same]
        own = self.weights[source.columns]
        weight = jnp.asarray(source.weight)
        return Prepared(source, weight, singular_values(weight), inputs, (columns[0], columns[1]), own)

    def _signals(self, source: Source) -> tuple[list[np.ndarray], Inputs]:
        columns = columns_of(source, self.side, self.weights, self.seed)
        for half, own in enumerate(columns):
            if not len(own):
                raise UnreadableError(f"half {half + 1} of the samples has no column of positive weight in this layer")
        used = np.concatenate(columns)
        bad = ~np.isfinite(source.input[:, used])
        if bad.any():
            samples = np.unique(source.columns[used[bad.any(axis=0)]])
            raise UnreadableError(
                f"its input signals contain {int(bad.sum())} numbers that are NaN or infinite in {len(samples)} "
                f"sample(s), the first is number {samples[0]}; give these samples the weight 0"
            )
        return columns, inputs_of(source.input, columns, self.weights[source.columns], source.into, source.centred)
