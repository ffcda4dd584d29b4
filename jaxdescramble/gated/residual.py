"""Gated networks with skips: an ensemble of as many networks as there are choices of blocks."""

import dataclasses
import math

from jaxtyping import Array

from jaxdescramble.gated._architecture import Shape, Turn, chained, check_sizes, check_spatial
from jaxdescramble.gated._layers import Layers, affine, head


@dataclasses.dataclass(frozen=True)
class Residual:
    """A gated dense layer, blocks with skips, a gated dense layer, a linear output.

    A block is `h + B(h)`, B so many gated layers; with `gate_after`, `G * (h + B(h))`. Gates come in the order: first,
    block by block (its layers, then the gate after), last. A ResNet has a gate after the addition and none before it;
    with both, a gate after sums of what ReLUs have passed is open wherever there is anything to pass.

    Args:
        inputs: features of x, which is (batch, inputs).
        width: of all gated layers.
        blocks: how many.
        depth: gated layers in a block.
        outputs: of the linear layer at the end.
        gate_after: whether there is a gate after each addition.
        biases: whether layers have them.
        gate_before: whether the last layer of a block has its gate, before the addition.

    Raises:
        ValueError, TypeError: sizes that are not positive integers, blocks without any gate.

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
    """The same with gated convolutions of stride 1, and a head before the linear output.

    Args:
        shape: of a sample, (*space, channels) with one or two axes of space.
        channels: of all gated convolutions.
        blocks, depth, outputs, gate_after, biases, gate_before: as for `Residual`.
        kernel, padding, head: as for `Convolutional`.

    Raises:
        ValueError, TypeError: sizes that are not positive integers, blocks without any gate, unknown names.

    >>> ConvolutionalResidual((32, 32, 3), 16, blocks=3, depth=2, outputs=10).weight_shapes[-1]
    (10, 16)

    Source: as for `Residual`.
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
        check_spatial(self)
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
        raise ValueError("gate_before: a block of one layer with no gate before the addition needs gate_after=True.")


def _branch_ends(net: Residual | ConvolutionalResidual) -> tuple[int, ...]:
    return tuple(net.depth * block for block in range(1, net.blocks + 1))
