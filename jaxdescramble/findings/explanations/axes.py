"""The axes of a weight matrix: where its order has a meaning, and which frequencies it has."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble.operators import Derivative, Operator, derivative

BINS = 16
"""Largest number of frequency bins where two axes are compared with each other."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a weight matrix: its modes, from slow to fast, and their frequencies.

    An axis of size `channels * points` has `channels` blocks of the same line, circle or grid, one after the other, as
    the inputs of a convolution have. Modes of one frequency are never told apart. Therefore a reading of an axis does
    not change if the descrambler mixes these modes, or if the order of the channels changes.

    Attributes:
        operator: derivative operator on the points.
        channels: number of blocks.
        ordered: whether the order of the axis is known. If not, descrambling finds it.
    """

    operator: Operator
    channels: int = 1
    ordered: bool = True

    @property
    def size(self) -> int:
        """Number of entries along the axis."""
        return self.channels * self.operator.size

    @functools.cached_property
    def roughness(self) -> np.ndarray:
        """Eigenvalue of each mode, as a share of the largest one, ascending, shape (points,)."""
        values = np.asarray(self.operator.eigenvalues, np.float64)
        return values / max(float(values[-1]), 1e-300)

    @functools.cached_property
    def frequencies(self) -> np.ndarray:
        """Frequency of each mode, as a share of the highest frequency, ascending, shape (points,)."""
        order = self.operator.order if isinstance(self.operator, Derivative) else 1
        return self.roughness ** (1 / (2 * order))

    @functools.cached_property
    def runs(self) -> np.ndarray:
        """Number of the run of equal frequencies that each mode belongs to, shape (points,)."""
        lengths = self.operator.multiplicities
        return np.repeat(np.arange(len(lengths)), lengths)

    @functools.cached_property
    def bins(self) -> np.ndarray:
        """Number of the frequency bin of each mode, shape (points,): at most `BINS` bins, of about the same size."""
        last = int(self.runs[-1])
        return np.minimum(self.runs * min(BINS, last + 1) // (last + 1), BINS - 1)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the line, circle or grid."""
        return self.operator.shape if isinstance(self.operator, Derivative) else (self.operator.size,)

    def analyse(self, columns: Float[Array, "size k"]) -> Float[Array, "channels points k"]:
        """Return the coefficients of the modes in each channel."""
        blocks = columns.reshape(self.channels, self.operator.size, -1)
        if self.channels == 1:
            return self.operator.analyse(blocks[0])[None]
        return jnp.swapaxes(self.operator.analyse(jnp.swapaxes(blocks, 0, 1)), 0, 1)


def ordered_axis(size: int, shape: tuple[int, ...] | None = None, channels: int = 1) -> Axis:
    """Return an axis whose order is known: a line, or a grid if `shape` has several entries.

    >>> ordered_axis(12, (3, 4)).shape, ordered_axis(12, channels=2).operator.size
    ((3, 4), 6)
    """
    points = shape or (size // channels,)
    if math.prod(points) * channels != size:
        raise ValueError(
            f"shape: got {points} with {channels} channel(s), which is {math.prod(points) * channels} entries for an "
            f"axis of {size}."
        )
    return Axis(derivative(points, order=1, boundary="neumann"), channels)


def free_axis(operator: Operator) -> Axis:
    """Return an axis that descrambling orders, with the operator of the objective.

    >>> free_axis(derivative(5)).runs.tolist()
    [0, 1, 1, 2, 2]
    """
    return Axis(operator, ordered=False)
