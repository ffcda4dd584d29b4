"""Convolutions in groups (`feature_group_count > 1`): each group of channels has a kernel of its own.

Depthwise convolutions have one incoming channel in each group. Where a network of convolutions is mapped over its
parameters by `jax.vmap`, each member is a group.
"""

from jaxdescramble.networks.axes import Axes, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.convolution import Convolution, multiplications
from jaxdescramble.networks.kinds.products import LayerKind, Product


class GroupedConvolution(Convolution):
    """Read as one layer for each group: weight (groups, out of a group, in of a group).

    A tap has a leading axis that counts the groups. A depthwise convolution has a single channel in each.
    """

    def holds(self, operation: Operation) -> bool:
        return operation.params["feature_group_count"] > 1 and operation.params["batch_group_count"] == 1

    def outer_channels(self, operation: Operation) -> tuple[tuple[str, int], ...]:
        return (("batch0", operation.params["feature_group_count"]),)


class BatchGroupedConvolution(LayerKind):
    """Convolutions of groups of samples (`batch_group_count > 1`), as in derivatives: none is found as a layer."""

    primitives = Convolution.primitives
    why_unread = "a convolution in groups of samples"

    def holds(self, operation: Operation) -> bool:
        return operation.params["batch_group_count"] > 1

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        return foreign(graph.shape(operation.outputs[0]))

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        shapes = [graph.shape(number) for number in (*operation.inputs, *operation.outputs)]
        data, weight, result = map(foreign, shapes)
        return Product(self, name, operation, side, leaf, weight, data, result, {})

    def multiplications(self, operation: Operation, graph: Graph) -> int:
        return multiplications(operation, graph)

    def ties(self, operation: Operation, book: Book) -> None:
        book.stop(operation, "has no rule for frames")


KINDS = (GroupedConvolution(), BatchGroupedConvolution())
