"""Products of data with a weight: the layers of a network, and the questions to each kind of layer.

This is how `product` describes a layer, in the words of `networks/axes.py`. Each dimension of an array is a piece of a
named axis, or several of them. `Product` has the names.

- `weight_axes` are the dimensions of the weight, and `axes` those of the result.
- `data_axes` are the dimensions of the data. If the kind sets `reads_patches`, they are those of `patches(data)`.
- Patches have the dimensions of the result, in its order. One dimension differs: it holds all features ("in") where the
  result holds "out". If "out" has further dimensions, patches have size 1 there.
- A kind chooses the order of the features within "in", and the data must have the same one. The present kinds take the
  order of the dimensions in the weight. `spread` writes an axis over several dimensions.

For example, a convolution of data (batch, channel, place) gives the result (sample, out, sample) and reads the patches
(sample, in, sample).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from jax import Array

from jaxdescramble.networks.axes import Atom, Axes, axis, labels
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.kind import Kind


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A layer as it stands in the graph: a product of data with a view of a parameter leaf.

    `side` is the position of the weight among the operands. The axes of weight, data and result are written with the
    labels `batch0, batch1, ...` (dimensions shared by both), `out` (the weight's free ones), `in` (contracted) and
    `sample` (the data's free ones). The module says how they are laid out. `sizes` are the original sizes under each
    label.
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
        return self.operation.inputs[self.data_side]

    @property
    def data_side(self) -> int:
        """The position of the data among the operands."""
        return self.kind.other_factor(self.side)

    @property
    def reads(self) -> tuple[int, ...]:
        """The values that `patches` takes: all operands except the weight, or the data alone."""
        inputs = self.operation.inputs
        return (*inputs[: self.side], *inputs[self.side + 1 :]) if self.kind.reads_patches else (self.data,)

    @property
    def positions(self) -> int:
        """The value along whose positions the samples stand: the data, or the result if the kind reads patches."""
        return self.operation.outputs[0] if self.kind.reads_patches else self.data

    def patches(self, operands: list[Array]) -> Array:
        """Return the data as the product reads it: itself, or what each position of a window sees of it.

        Args:
            operands: the values with the numbers `reads`.
        """
        if not self.kind.reads_patches:
            return operands[0]
        patches = self.kind.patches(self.operation, operands)
        if patches.shape != shape_of(self.data_axes):
            raise ValueError(
                f"{_place(self)}: `patches` returned the shape {patches.shape}, but `data_axes` of `product` has the "
                f"shape {shape_of(self.data_axes)}."
            )
        return patches


class LayerKind(Kind):
    """A kind of operation that can be a layer: a product of a weight with data, or with patches of the data.

    A subclass must define `primitives`, `weight_sides` and `product`. Without `ties`, `symmetries` and `reorder` move
    nothing along the axes of its operands and results; without `steps_after`, weights of samples are not followed
    beyond it. Everything else has an answer that fits a product of two operands. If there are more, `factors` says
    which two are multiplied.

    Attributes:
        reads_patches: the layer multiplies its weight with `patches`, which are not the data. Then the samples of a tap
            stand along the positions of the result.
        why_no_inputs: why no Q can be inserted at the input of such a layer; it completes "layer ...". "" if it can.
            A layer that reads patches takes no Q in any case.
    """

    is_product = True
    linear = "apart"
    reads_patches: ClassVar[bool] = False
    why_no_inputs: ClassVar[str] = ""
    why_unread = "with a weight that f computes"

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        """Return the layer whose weight is the operand `side`, a view of the parameter `leaf`. Required.

        The first lines of this module say how the axes are laid out. Rules of relevance also ask for layers whose
        constant operand is not one of `weight_sides`; they read `axes` only.
        """
        raise NotImplementedError(f"{type(self).__name__}: define product(name, operation, side, leaf, graph).")

    def patches(self, operation: Operation, operands: Sequence[Array]) -> Array:
        """Return the patches of the data, with the axes `Product.data_axes`. Required with `reads_patches = True`.

        In a scan, `jax.vmap` maps this over the steps.

        Args:
            operation: the layer's operation.
            operands: the values of all its operands except the weight, in their order. In a product of two operands
                this is the data alone.
        """
        raise NotImplementedError(f"{type(self).__name__}: define patches(operation, operands).")

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
        value may do so, also one that f computes: this is a wider question than `weight_sides`. With more than two
        operands the answer is None, because rules that take signs and squares of the factors are wrong if a third
        operand scales the result. If the others only choose or sort, return `constant_factor(live)`.
        """
        return self.constant_factor(live) if len(live) == len(self.factors) else None

    def constant_factor(self, live: Sequence[bool]) -> int | None:
        """Return the position of the one factor of a product that does not depend on x, if there is exactly one."""
        constant = [side for side in self.factors if not live[side]]
        return constant[0] if self.is_product and len(constant) == 1 else None


def layer_of(kind: LayerKind, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
    """Return the layer that `kind.product` describes.

    Raises:
        ValueError: if its axes do not fit the operation; the message names the kind.
    """
    product = kind.product(name, operation, side, leaf, graph)
    if side not in kind.weight_sides:
        return product  # for relevance, which reads no axes except those of the result
    arrays = {
        "weight_axes": (product.weight_axes, graph.shape(product.weight)),
        "axes": (product.axes, graph.shape(operation.outputs[0])),
    }
    if not kind.reads_patches:
        arrays["data_axes"] = (product.data_axes, graph.shape(product.data))
    for field, (axes, shape) in arrays.items():
        if shape_of(axes) != shape:
            raise ValueError(f"{_place(product)}: `{field}` has the shape {shape_of(axes)}, the array has {shape}.")
    features = [i for i, dimension in enumerate(product.data_axes) if "in" in labels(dimension)]
    if kind.reads_patches and (len(features) > 1 or _without(product.data_axes, "in") != _without(product.axes, "out")):
        raise ValueError(
            f"{_place(product)}: `data_axes` does not fit `axes`. Patches have the dimensions of the result, with all "
            f'features ("in") in one dimension, where the result has "out". The data have {product.data_axes}, the '
            f"result has {product.axes}."
        )
    for label, field, axes in (
        ("in", "weight_axes", product.weight_axes),
        ("in", "data_axes", product.data_axes),
        ("out", "weight_axes", product.weight_axes),
        ("out", "axes", product.axes),
    ):
        size = math.prod(atom.size for dimension in axes for atom in dimension if atom.label == label)
        if label in product.sizes and size != math.prod(product.sizes[label]):
            raise ValueError(
                f"{_place(product)}: the axis {label!r} has size {size} in `{field}`, but `sizes` says "
                f"{product.sizes[label]}."
            )
    return product


def shape_of(axes: Axes) -> tuple[int, ...]:
    """Return the shape of an array with these axes."""
    return tuple(math.prod(atom.size for atom in dimension) for dimension in axes)


def _without(axes: Axes, label: str) -> Axes:
    return tuple(tuple(atom for atom in dimension if atom.label != label) for dimension in axes)


def _place(product: Product) -> str:
    """Return the beginning of a message to the author of a kind."""
    return f"{type(product.kind).__name__}, layer {product.name} ({product.operation.source})"


def spread(label: str, sizes: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the dimensions of an axis that lies over several dimensions of an array, slowest first."""
    return [axis(label, size, math.prod(sizes[i + 1 :])) for i, size in enumerate(sizes)]
