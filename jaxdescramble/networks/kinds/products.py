"""Products of data with a weight: the layers of a network, and the questions to each kind of layer."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

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
    def others(self) -> tuple[int, ...]:
        """The values of further operands, such as the sizes of groups."""
        return self.operation.inputs[2:]

    @property
    def positions(self) -> int:
        """The value along whose positions the samples stand: the data, or the result if the kind reads patches."""
        return self.operation.outputs[0] if self.kind.reads_patches else self.data

    def patches(self, data: Array, *others: Array) -> Array:
        """Return the data as the product reads it: itself, or what each position of a window sees of it."""
        return self.kind.patches(self.operation, data, *others)


class LayerKind(Kind):
    """A kind of operation that can be a layer: a product of a weight with data, or with patches of the data.

    A subclass must define `primitives`, `weight_sides` and `product`. Without `permuted` and `permuted_back`, `reorder`
    refuses networks with this layer; without `axes_after`, `told_apart` and `steps_after`, neurons and samples are not
    followed beyond it (heads, weights of samples). Everything else has an answer that fits a product of two operands.

    Attributes:
        reads_patches: the layer multiplies its weight with `patches(data)`, which are not the data. Then the samples of
            a tap stand along the positions of the result, and in a scan `patches` is mapped over the steps.
        why_no_inputs: why no Q can be inserted at the input of such a layer; it completes "layer ...". "" if it can.
    """

    is_product = True
    linear = "apart"
    reads_patches: ClassVar[bool] = False
    why_no_inputs: ClassVar[str] = ""
    why_unread = "with a weight that f computes"

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        """Return the layer whose weight is the operand `side`, a view of the parameter `leaf`. Required."""
        raise NotImplementedError(f"{type(self).__name__}: define product(name, operation, side, leaf, graph).")

    def patches(self, operation: Operation, data: Array, *others: Array) -> Array:
        """Return the data with the axes `Product.data_axes`. If this is not the data, set `reads_patches`.

        Patches have the dimensions of the result, with all features in the place of one dimension of "out".

        Args:
            operation, data: the layer's operation and the value of its data.
            others: the values of its operands beyond the first two.
        """
        return data

    def window(self, product: Product) -> tuple[int, ...]:
        """Return the sizes of the window whose places are the fast part of the columns of the weight; () for none."""
        return ()

    def from_input(self, product: Product, graph: Graph, is_input: Callable[[int], bool]) -> bool:
        """Return whether the layer reads x itself, so that no layer comes before it.

        Args:
            product: the layer.
            graph: the graph that it stands in.
            is_input: `is_input(value)` says whether a value is x, at most rearranged or sliced.
        """
        return is_input(product.data)

    def constant_side(self, live: Sequence[bool]) -> int | None:
        """Return the operand that acts as a weight on the other, for rules of relevance; None if none does.

        In a product either operand acts on the other, so it is the one that does not depend on x (`live` is False). Any
        value may do so, also one that f computes: this is a wider question than `weight_sides`.
        """
        return live.index(False) if self.is_product and sum(live) == 1 else None


class RaggedProduct(Kind):
    """Products in groups that `ragged.Experts` does not hold, as in derivatives: none is read as a layer."""

    primitives = frozenset({"ragged_dot", "ragged_dot_general"})
    is_product = True


def spread(label: str, sizes: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the dimensions of an axis that lies over several dimensions of an array, slowest first."""
    return [axis(label, size, math.prod(sizes[i + 1 :])) for i, size in enumerate(sizes)]


KINDS = (RaggedProduct(),)
