"""Convolutions in groups (`feature_group_count > 1`): each group of channels has a kernel of its own.

Depthwise convolutions have one incoming channel in each group. Where a network of convolutions is mapped over its
parameters by `jax.vmap`, each member is a group.
"""

from collections.abc import Sequence

from jaxdescramble.networks.axes import FOREIGN, Axes, axis, foreign, labels, regroup
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.convolution import Convolution, multiplications, refuse_places
from jaxdescramble.networks.kinds.kind import UNIT, OrderMattersError, Permuted
from jaxdescramble.networks.kinds.products import LayerKind, Product


class GroupedConvolution(Convolution):
    """Read as one layer for each group: weight (groups, out of a group, in of a group).

    A tap has a leading axis that counts the groups. A depthwise convolution has a single channel in each.
    """

    def holds(self, operation: Operation) -> bool:
        return operation.params["feature_group_count"] > 1 and operation.params["batch_group_count"] == 1

    def outer_channels(self, operation: Operation) -> tuple[tuple[str, int], ...]:
        return (("batch0", operation.params["feature_group_count"]),)

    def permuted(self, operation: Operation, operands: list[Axes], graph: Graph) -> Permuted:
        """Channels are (group, channel in it): whole groups may change places, or the channels of all groups alike."""
        numbers, count = operation.params["dimension_numbers"], operation.params["feature_group_count"]
        (_, channel), (out, into) = numbers.lhs_spec[:2], numbers.rhs_spec[:2]
        data, weight = list(operands[0]), list(operands[1])
        refuse_places(operation, operands)
        shapes = [graph.shape(number) for number in operation.inputs]
        group, inside = _parted(data[channel], count, shapes[0][channel])
        same_group, made = _parted(weight[out], count, shapes[1][out])
        group, inside = _one_of(group, same_group), _one_of(inside, weight[into])
        data[channel] = _joined(group, inside, count, shapes[0][channel])
        weight[into], weight[out] = inside, _joined(group, made, count, shapes[1][out])
        result = list(foreign(graph.shape(operation.outputs[0])))
        result[numbers.out_spec[1]] = weight[out] or axis(FOREIGN, shapes[1][out])
        return Permuted([tuple(result)], [tuple(data), tuple(weight)])


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


def _parted(dimension: Sequence, count: int, size: int) -> Axes:
    """Return the dimension of channels as two: groups, and channels in each."""
    parts = regroup((tuple(dimension),), (count, size // count))
    units = [atom for atom in dimension if atom.label == UNIT]
    if parts is None or units != [atom for part in parts for atom in part if atom.label == UNIT]:
        raise OrderMattersError("mixes them in groups")
    return parts


def _one_of(first: Sequence, second: Sequence) -> tuple:
    """Return the arrangement of the neurons in one of two dimensions that meet; empty if neither holds any."""
    both = {tuple(d) for d in (first, second) if UNIT in labels(tuple(d))}
    if len(both) > 1:
        raise OrderMattersError("combines them with a copy of themselves in another arrangement")
    return both.pop() if both else ()


def _joined(group: tuple, inside: tuple, count: int, size: int) -> tuple:
    """Return groups and the channels in each as one dimension; empty if neither holds neurons."""
    if UNIT not in labels(group) | labels(inside):
        return ()
    sizes = zip((group, inside), (count, size // count), strict=True)
    return tuple(atom for part, size in sizes for atom in (part if UNIT in labels(part) else axis(FOREIGN, size)))


KINDS = (GroupedConvolution(), BatchGroupedConvolution())
