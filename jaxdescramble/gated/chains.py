"""Chains of gated layers: dense layers, or convolutions with pools and a head."""

import dataclasses
import math

from jaxtyping import Array

from jaxdescramble.gated._architecture import Shape, Turn, chained, check_sizes, check_spatial
from jaxdescramble.gated._layers import Layers, affine, average_pool, head


@dataclasses.dataclass(frozen=True)
class FullyConnected:
    """Gated dense layers and a linear output: `h_l = G_l * (W_l h_(l-1))`, `f = W_d h_(d-1)`.

    Args:
        inputs: number of features of x, whose shape is (batch, inputs).
        widths: widths of the gated layers.
        outputs: width of the linear output layer.
        biases: whether the layers have biases.

    Raises:
        ValueError, TypeError: if a size is not a positive integer; if there is no gated layer.

    >>> FullyConnected(784, (128,) * 5, 10).weight_shapes[-1]
    (10, 128)

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """

    inputs: int
    widths: tuple[int, ...]
    outputs: int
    biases: bool = False

    padding = "zero"
    window = ()
    branch_ends = ()
    gate_before = True
    gate_after = False

    def __post_init__(self):
        check_sizes(self, ("inputs", "outputs"), ("widths",))

    @property
    def input_shape(self) -> Shape:
        return (self.inputs,)

    @property
    def gate_shapes(self) -> tuple[Shape, ...]:
        return tuple((width,) for width in self.widths)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        return chained((self.inputs, *self.widths, self.outputs))

    def hidden(self, layers: Layers, h: Array, turn: Turn) -> Array:
        for layer in layers:
            h = turn(affine(layer, h, self.padding))
        return h

    def views(self, x: Array) -> list[Array]:
        return [x] * len(self.widths)


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """Gated convolutions of stride 1 with average pools, then a head, gated dense layers and a linear output.

    With circular padding, no pools and an average head, a circular shift of x does not change the output. With pools,
    this holds only for shifts by multiples of the product of the pool factors.

    Args:
        shape: shape of a sample, (*space, channels), with one or two axes of space.
        channels: number of channels of each gated convolution.
        outputs: width of the linear output layer.
        kernel: size of all windows.
        padding: "circular" or "zero".
        pooling: factor of the average pool after the gate of each convolution; 1 means no pool. () means no pools.
        widths: widths of the gated dense layers after the head.
        head: "average" takes the mean over space; "flatten" keeps every position.
        biases: whether the layers have biases.

    Raises:
        ValueError, TypeError: if a size is not a positive integer; if the pools do not divide the space; if a name is
            unknown.

    >>> Convolutional((32, 32, 3), (64, 64), 10, pooling=(2, 1)).gate_shapes
    ((32, 32, 64), (16, 16, 64))

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529).
    """

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    outputs: int
    kernel: int = 3
    padding: str = "circular"
    pooling: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    head: str = "average"
    biases: bool = False

    branch_ends = ()
    gate_before = True
    gate_after = False

    def __post_init__(self):
        check_sizes(self, ("outputs", "kernel"), ("shape", "channels"), ("pooling", "widths"))
        check_spatial(self.shape, self.padding, self.head)
        if self.pooling and len(self.pooling) != len(self.channels):
            raise ValueError(
                f"pooling: got {len(self.pooling)} factors for {len(self.channels)} convolutions. Give one factor for "
                "each convolution, 1 for no pool, or () for no pools at all."
            )
        if any(size % math.prod(self.pooling) for size in self.shape[:-1]):
            raise ValueError(
                f"pooling: got {self.pooling}, which divides space by {math.prod(self.pooling)}; this must divide "
                f"every size of {self.shape[:-1]}."
            )

    @property
    def input_shape(self) -> Shape:
        return self.shape

    @property
    def window(self) -> Shape:
        return (self.kernel,) * (len(self.shape) - 1)

    @property
    def gate_shapes(self) -> tuple[Shape, ...]:
        spaces = self._spaces()
        convolved = tuple((*space, c) for space, c in zip(spaces, self.channels, strict=False))
        return convolved + tuple((width,) for width in self.widths)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        convolutions = chained((self.shape[-1], *self.channels), self.window)
        features = self.channels[-1] * (math.prod(self._spaces()[-1]) if self.head == "flatten" else 1)
        return convolutions + chained((features, *self.widths, self.outputs))

    def hidden(self, layers: Layers, h: Array, turn: Turn) -> Array:
        for layer, factor in zip(layers, self._factors(), strict=False):
            h = average_pool(turn(affine(layer, h, self.padding)), factor)
        h = head(h, self.head)
        for layer in layers[len(self.channels) :]:
            h = turn(affine(layer, h, self.padding))
        return h

    def views(self, x: Array) -> list[Array]:
        found = []
        for factor in self._factors():
            found.append(x)
            x = average_pool(x, factor)
        return found + [head(x, self.head)] * len(self.widths)

    def _factors(self) -> tuple[int, ...]:
        return self.pooling or (1,) * len(self.channels)

    def _spaces(self) -> list[Shape]:
        """Return the space before each convolution, and after the last one."""
        spaces = [self.shape[:-1]]
        for factor in self._factors():
            spaces.append(tuple(size // factor for size in spaces[-1]))
        return spaces
