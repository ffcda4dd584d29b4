"""Products of data with a weight: the layers of a network, and the questions to each kind of layer."""

import dataclasses
import math
from collections.abc import Sequence

from jax import Array

from jaxdescramble.networks.axes import Atom, Axes, axis
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.kind import Kind


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A layer as it stands in the graph: a product of data with a view of a parameter leaf.

    A convolution is a product with the patches of the data that its window sees: `data_axes` are those of
    `patches(data)`, whose features are (channel, place in the window).

    `side` is the position of the weight among the operands. The axes of weight, data and result are written with the
    labels `batch0, batch1, ...` (dimensions shared by both), `out` (the weight's free ones), `in` (contracted) and
    `sample` (the data's free ones); `sizes` are the original sizes under each label.
    """

    kind: "LayerKind"
    name: str
    operation: Operation
    side: int
    leaf: int
    weight_axes: Axes
    data_axes: Axes
    axes: Axes
    sizes: dict[str, tuple[int, ...]]

    @property
    def weight(self) -> int:
        return self.operation.inputs[self.side]

    @property
    def data(self) -> int:
        return self.operation.inputs[1 - self.side]

    @property
    def positions(self) -> int:
        """The value along whose positions the samples stand: the data, or the result where windows overlap."""
        return self.operation.outputs[0] if self.kind.has_windows else self.data

    def patches(self, data: Array) -> Array:
        """Return the data as the product reads it: itself, or what each position of a window sees of it."""
        return self.kind.patches(self.operation, data)


class LayerKind(Kind):
    """A kind of operation that can be a layer.

    Attributes:
        has_windows: the weight is a window that slides over the data, so that its inputs overlap.
    """

    is_product = True
    linear = "apart"
    has_windows = False
    why_unread = "with a weight that f computes"

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        """Return the layer whose weight is the operand `side`, a view of the parameter `leaf`."""
        raise NotImplementedError

    def patches(self, operation: Operation, data: Array) -> Array:
        """Return the data with the axes `Product.data_axes`."""
        return data


class RaggedProduct(Kind):
    """Products with a weight for each group of rows, as mixtures of experts use them: none is read as a layer."""

    primitives = frozenset({"ragged_dot", "ragged_dot_general"})
    is_product = True


def spread(label: str, sizes: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the dimensions of an axis that lies over several dimensions of an array, slowest first."""
    return [axis(label, size, math.prod(sizes[i + 1 :])) for i, size in enumerate(sizes)]


KINDS = (RaggedProduct(),)
