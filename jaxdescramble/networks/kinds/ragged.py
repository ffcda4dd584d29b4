"""Mixtures of experts: `ragged_dot`, a product in which each group of rows has a weight of its own."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks._places import Place, Steps, constant
from jaxdescramble.networks.axes import Axes, axis, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation, Value, operand_shapes
from jaxdescramble.networks.kinds._meeting import summed
from jaxdescramble.networks.kinds.kind import Kind, Piece, PieceRule
from jaxdescramble.networks.kinds.products import LayerKind, Product, spread


class RaggedProduct(Kind):
    """Products in groups that are no `Experts`, as in derivatives: none is read as a layer."""

    primitives = frozenset({"ragged_dot", "ragged_dot_general"})
    is_product = True


class Experts(LayerKind):
    """Read as one product with the weights of all experts side by side.

    In a tap, "in" counts (experts, features). A sample has its features at its own expert, and zeros at the others. The
    sizes of the groups are the third operand. They may depend on x: the affine piece, relevance and the order of
    neurons keep them as they are.
    """

    primitives = RaggedProduct.primitives
    weight_sides = (1,)
    reads_patches = True
    why_no_inputs = (
        "is a mixture of experts, which read rows of their own: a Q for all of them does not act on its input"
    )

    def holds(self, operation: Operation) -> bool:
        """Return whether rows of the data are in groups. Sums over groups, as in derivatives, and batches are not."""
        numbers = _numbers(operation)
        (contract, _), (batch, _) = numbers.dot_dimension_numbers
        rows = numbers.lhs_ragged_dimensions
        one = len(rows) == len(numbers.rhs_group_dimensions) == 1 and rows[0] not in contract and not batch
        data, weight, *_ = operand_shapes(operation.equation)
        return one and len(weight) > len(contract) + 1 and len(data) > len(contract)

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        data, weight = (graph.shape(number) for number in operation.inputs[:2])
        contract, order = _contracted(operation)[1], _order(operation)
        (group,) = _numbers(operation).rhs_group_dimensions
        free = [_free(operation, k, len(shape)) for k, shape in enumerate((data, weight))]
        sizes = {
            "out": tuple(weight[i] for i in free[1]),
            "in": (weight[group], *(weight[contract[i]] for i in order)),
            "sample": tuple(data[i] for i in free[0]),
        }
        out, samples = spread("out", sizes["out"]), spread("sample", sizes["sample"])
        dimensions = [group, *(contract[i] for i in order), *free[1]]
        of_weight = dict(zip(dimensions, [*spread("in", sizes["in"]), *out], strict=True))
        weight_axes = tuple(of_weight[i] for i in range(len(weight)))
        # As in the result, but with all features in the place of the first dimension of "out".
        patches = (*samples, axis("in", math.prod(sizes["in"])), *(() for _ in out[1:]))
        return Product(self, name, operation, side, leaf, weight_axes, patches, (*samples, *out), sizes)

    def patches(self, operation: Operation, operands: Sequence[Array]) -> Array:
        """Return the data once for each expert, with zeros in the rows of the other experts."""
        data, counts = operands
        (rows,), ends = _numbers(operation).lhs_ragged_dimensions, jnp.cumsum(counts)
        at = jnp.arange(data.shape[rows])[None, :]
        own = (at >= (ends - counts)[:, None]) & (at < ends[:, None])
        copies = jnp.where(own.reshape(len(ends), *(-1 if i == rows else 1 for i in range(data.ndim))), data[None], 0)
        free, into = _free(operation, 0, data.ndim), [_contracted(operation)[0][i] for i in _order(operation)]
        copies = copies.transpose([*(i + 1 for i in free), 0, *(i + 1 for i in into)])
        out = len(_free(operation, 1, len(operand_shapes(operation.equation)[1])))
        return copies.reshape(*(data.shape[i] for i in free), -1, *(1 for _ in range(out - 1)))

    def constant_side(self, live: Sequence[bool]) -> int | None:
        return self.constant_factor(live)  # the sizes of the groups scale nothing

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        result = list(foreign(graph.shape(operation.outputs[0])))
        if position < 2:
            mine = [axes[i] for i in _free(operation, position, len(axes))]
            start = 0 if position == 0 else len(result) - len(mine)
            result[start : start + len(mine)] = mine
        return tuple(result)

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        if position != 0 or any(steps[i] for i in _contracted(operation)[0]):
            return None
        mine = [steps[i] for i in _free(operation, 0, len(steps))]
        return [*mine, *constant(graph.shape(operation.outputs[0])[len(mine) :])]

    def places_after(
        self, operation: Operation, output: int, had: Sequence[frozenset[Place] | None], loops: int, graph: Graph
    ) -> frozenset[Place]:
        # The sizes of the groups say which expert a row meets, not where it stands.
        return super().places_after(operation, output, [had[0], *(None for _ in had[1:])], loops, graph)

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return self._same_groups if live[0] != live[1] else None

    def _same_groups(self, operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
        # As one dense product: JAX cannot map `ragged_dot` over data without mapping the weight too (0.10).
        data, weight = self.patches(operation, [moved[0], real[2]]), moved[1]
        contract, free = _contracted(operation)[1], _free(operation, 1, weight.ndim)
        order = [*_numbers(operation).rhs_group_dimensions, *(contract[i] for i in _order(operation)), *free]
        rows = data.shape[: data.ndim - len(free)]
        flat = weight.transpose(order).reshape(-1, math.prod(weight.shape[i] for i in free))
        result = jnp.matmul(data.reshape(*rows, -1), flat, precision=operation.params["precision"])
        dtype = operation.params["preferred_element_type"] or result.dtype
        return Piece([result.reshape(*rows, *(weight.shape[i] for i in free)).astype(dtype)])

    def ties(self, operation: Operation, book: Book) -> None:
        contract = _contracted(operation)
        data, weight, *sizes = operation.inputs
        for number in operation.inputs:
            book.use(number)
        for number, dimensions in ((data, contract[0]), (weight, contract[1])):
            book.strands.whole(book.filled(number), dimensions)
        axes = [book.filled(number) for number in (data, weight)]
        summed(book, (data, weight), [[axes[k][i] for i in contract[k]] for k in (0, 1)])
        numbers = _numbers(operation)
        apart = [axes[0][i] for i in numbers.lhs_ragged_dimensions] + [axes[1][i] for i in numbers.rhs_group_dimensions]
        for number in sizes:
            apart += book.filled(number)
        book.pin(book.labels(apart), "chooses a weight for each row by the order of rows and of weights")
        axes = [book.filled(number) for number in (data, weight)]
        book.axes[operation.outputs[0]] = tuple(axes[k][i] for k in (0, 1) for i in _free(operation, k, len(axes[k])))

    def multiplications(self, operation: Operation, graph: Graph) -> int:
        shape = graph.shape(operation.inputs[0])
        return math.prod(graph.shape(operation.outputs[0])) * math.prod(shape[i] for i in _contracted(operation)[0])


def _numbers(operation: Operation):
    return operation.params["ragged_dot_dimension_numbers"]


def _contracted(operation: Operation) -> tuple[Sequence[int], Sequence[int]]:
    return _numbers(operation).dot_dimension_numbers[0]


def _order(operation: Operation) -> list[int]:
    """Return the order of the contracted dimensions: that of the weight."""
    contract = _contracted(operation)[1]
    return sorted(range(len(contract)), key=lambda i: contract[i])


def _free(operation: Operation, position: int, rank: int) -> list[int]:
    """Return the dimensions of data or weight that the result keeps."""
    gone = {*_contracted(operation)[position], *(_numbers(operation).rhs_group_dimensions if position else ())}
    return [i for i in range(rank) if i not in gone]


KINDS = (Experts(), RaggedProduct())
