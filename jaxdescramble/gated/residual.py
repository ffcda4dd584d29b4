"""Gated networks with skips. Such a network is an ensemble with one member for each subset of its blocks."""

import dataclasses
import math

from jaxtyping import Array

from jaxdescramble.gated._architecture import Shape, Turn, chained, check_sizes, check_spatial
from jaxdescramble.gated._layers import Layers, affine, head


@dataclasses.dataclass(frozen=True)
class Residual:
    """A gated dense layer, residual blocks, another gated dense layer, and a linear output.

    A block computes `h + B(h)`, or `G * (h + B(h))` with `gate_after`; B has `depth` gated layers. The gates come in
    this order: first layer, each block (its layers, then the gate after the addition), last layer. A ResNet has a gate
    after the addition and none before it. With both, a gate after the addition of ReLU outputs is always open where
    the sum is not zero.

    Args:
        inputs: number of features of x, whose shape is (batch, inputs).
        width: width of all gated layers.
        blocks: number of blocks.
        depth: number of layers in a block.
        outputs: width of the linear output layer.
        gate_after: whether there is a gate after each addition.
        biases: whether the layers have biases.
        gate_before: whether the last layer of a block has a gate, before the addition.

    Raises:
        ValueError, TypeError: if a size is not a positive integer; if a block has no gate.

    >>> len(Residual(10, 16, blocks=3, depth=2, outputs=1).gate_shapes)
    8

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), the ensemble of sub-networks.
    """

    inputs: int
    width: int
    blocks: int
    depth: int
    outputs: int
    gate_after: bool = False
    biases: bool = False
    gate_before: bool = True

    padding = "zero"
    window = ()

    def __post_init__(self):
        check_sizes(self, ("inputs", "width", "blocks", "depth", "outputs"))
        _check_gates(self)

    @property
    def input_shape(self) -> Shape:
        return (self.inputs,)

    @property
    def gate_shapes(self) -> tuple[Shape, ...]:
        return ((self.width,),) * _residual_gates(self)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        return chained((self.inputs, *(self.width,) * (self.blocks * self.depth + 2), self.outputs))

    @property
    def branch_ends(self) -> tuple[int, ...]:
        return _branch_ends(self)

    def hidden(self, layers: Layers, h: Array, turn: Turn) -> Array:
        return _skipping(self, layers, h, turn)

    def views(self, x: Array) -> list[Array]:
        return [x] * _residual_gates(self)


@dataclasses.dataclass(frozen=True)
class ConvolutionalResidual:
    """A gated convolution, residual blocks of convolutions, another gated convolution, a head and a linear output.

    The structure is that of `Residual`. All convolutions have stride 1.

    Args:
        shape: shape of a sample, (*space, channels), with one or two axes of space.
        channels: number of channels of all gated convolutions.
        blocks: number of blocks.
        depth: number of layers in a block.
        outputs: width of the linear output layer.
        kernel: size of all windows.
        padding: "circular" or "zero".
        head: "average" takes the mean over space; "flatten" keeps every position.
        gate_after: whether there is a gate after each addition.
        biases: whether the layers have biases.
        gate_before: whether the last layer of a block has a gate, before the addition.

    Raises:
        ValueError, TypeError: if a size is not a positive integer; if a block has no gate; if a name is unknown.

    >>> ConvolutionalResidual((32, 32, 3), 16, blocks=3, depth=2, outputs=10).weight_shapes[-1]
    (10, 16)

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), the ensemble of sub-networks.
    """

    shape: tuple[int, ...]
    channels: int
    blocks: int
    depth: int
    outputs: int
    kernel: int = 3
    padding: str = "circular"
    head: str = "average"
    gate_after: bool = False
    biases: bool = False
    gate_before: bool = True

    def __post_init__(self):
        check_sizes(self, ("channels", "blocks", "depth", "outputs", "kernel"), ("shape",))
        check_spatial(self.shape, self.padding, self.head)
        _check_gates(self)

    @property
    def input_shape(self) -> Shape:
        return self.shape

    @property
    def window(self) -> Shape:
        return (self.kernel,) * (len(self.shape) - 1)

    @property
    def gate_shapes(self) -> tuple[Shape, ...]:
        return ((*self.shape[:-1], self.channels),) * _residual_gates(self)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        wide = (self.channels,) * (self.blocks * self.depth + 2)
        features = self.channels * (math.prod(self.shape[:-1]) if self.head == "flatten" else 1)
        return (*chained((self.shape[-1], *wide), self.window), (self.outputs, features))

    @property
    def branch_ends(self) -> tuple[int, ...]:
        return _branch_ends(self)

    def hidden(self, layers: Layers, h: Array, turn: Turn) -> Array:
        return head(_skipping(self, layers, h, turn), self.head)

    def views(self, x: Array) -> list[Array]:
        return [x] * _residual_gates(self)


def _skipping(net: Residual | ConvolutionalResidual, layers: Layers, h: Array, turn: Turn) -> Array:
    todo = iter(layers)
    h = turn(affine(next(todo), h, net.padding))
    for _ in range(net.blocks):
        branch = h
        for i in range(1, net.depth + 1):
            branch = affine(next(todo), branch, net.padding)
            branch = turn(branch) if i < net.depth or net.gate_before else branch
        h = turn(h + branch) if net.gate_after else h + branch
    return turn(affine(next(todo), h, net.padding))


def _residual_gates(net: Residual | ConvolutionalResidual) -> int:
    return net.blocks * (net.depth - 1 + net.gate_before + net.gate_after) + 2


def _check_gates(net: Residual | ConvolutionalResidual) -> None:
    if net.depth == 1 and not (net.gate_before or net.gate_after):
        raise ValueError("gate_before: got False, so a block of one layer has no gate. Set gate_after=True.")


def _branch_ends(net: Residual | ConvolutionalResidual) -> tuple[int, ...]:
    return tuple(net.depth * block for block in range(1, net.blocks + 1))
