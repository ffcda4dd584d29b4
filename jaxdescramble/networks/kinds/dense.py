"""Dense layers: `dot_general`, with batch dimensions or without."""

import math

from jaxdescramble.networks._places import Steps, constant
from jaxdescramble.networks.axes import Atom, Axes, axis, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds._meeting import meetings, results, summed, times
from jaxdescramble.networks.kinds.products import LayerKind, Product, spread


class Dense(LayerKind):
    """A matrix product; either operand may be the weight. Shared batch dimensions are leading axes of a tap."""

    primitives = frozenset({"dot_general"})
    weight_sides = (0, 1)

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        contract, batch = operation.params["dimension_numbers"]
        shapes = [graph.shape(value) for value in operation.inputs]
        free = [_free(operation, k, len(shapes[k])) for k in (0, 1)]
        # The weight's own order decides how contracted dimensions are folded.
        order = sorted(range(len(contract[side])), key=lambda i: contract[side][i])
        sizes: dict[str, tuple[int, ...]] = {f"batch{i}": (shapes[side][j],) for i, j in enumerate(batch[side])}
        sizes["out"] = tuple(shapes[side][i] for i in free[side])
        sizes["in"] = tuple(shapes[side][contract[side][i]] for i in order)
        sizes["sample"] = tuple(shapes[1 - side][i] for i in free[1 - side])
        operands = []
        for k in (0, 1):
            dimensions = list(foreign(shapes[k]))
            for i, j in enumerate(batch[k]):
                dimensions[j] = axis(f"batch{i}", shapes[k][j])
            for i, dimension in zip(order, spread("in", sizes["in"]), strict=True):
                dimensions[contract[k][i]] = dimension
            own = "out" if k == side else "sample"
            for i, dimension in zip(free[k], spread(own, sizes[own]), strict=True):
                dimensions[i] = dimension
            operands.append(tuple(dimensions))
        result = [operands[0][i] for i in batch[0]]
        result += [operands[k][i] for k in (0, 1) for i in free[k]]
        return Product(self, name, operation, side, leaf, operands[side], operands[1 - side], tuple(result), sizes)

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        after = graph.shape(operation.outputs[0])
        free, (_, batch) = _free(operation, position, len(axes)), operation.params["dimension_numbers"]
        kept = [axes[i] for i in batch[position]]
        mine, rest = [axes[i] for i in free], len(after) - len(kept) - len(free)
        others = foreign(after[len(kept) : len(kept) + rest] if position == 1 else after[len(after) - rest :])
        return tuple((*kept, *others, *mine) if position == 1 else (*kept, *mine, *others))

    def told_apart(self, operation: Operation, position: int, axes: Axes) -> list[tuple[Atom, ...]]:
        _, batch = operation.params["dimension_numbers"]
        return [axes[i] for i in batch[position]]

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        contract, batch = operation.params["dimension_numbers"]
        if any(steps[i] for i in contract[position]):
            return None
        common, mine = [steps[i] for i in batch[position]], [steps[i] for i in _free(operation, position, len(steps))]
        others = constant(graph.shape(operation.outputs[0])[len(common) + len(mine) :])
        return [*common, *mine, *others] if position == 0 else [*common, *others, *mine]

    def multiplications(self, operation: Operation, graph: Graph) -> int:
        (contract, _), _ = operation.params["dimension_numbers"]
        shape = graph.shape(operation.inputs[0])
        return math.prod(graph.shape(operation.outputs[0])) * math.prod(shape[i] for i in contract)

    def ties(self, operation: Operation, book: Book) -> None:
        contract, batch = operation.params["dimension_numbers"]
        numbers = operation.inputs
        for k in (0, 1):
            book.use(numbers[k])
            book.strands.whole(book.filled(numbers[k]), contract[k])
        axes = [book.filled(number) for number in numbers]
        summed(book, numbers, [[axes[k][i] for i in contract[k]] for k in (0, 1)])
        axes = [book.strands.current(one) for one in axes]
        met = book.meet(*([axes[k][i] for i in batch[k]] for k in (0, 1)))
        named = {(a, b): times(book, a, b) if a and b else a or b for a, b in meetings(met)}
        free = [[book.strands.current(axes[k])[i] for i in _free(operation, k, len(axes[k]))] for k in (0, 1)]
        book.axes[operation.outputs[0]] = (*results(met, named), *free[0], *free[1])


def _free(operation: Operation, position: int, rank: int) -> list[int]:
    """Return the dimensions of an operand that are neither contracted nor batch dimensions."""
    contract, batch = operation.params["dimension_numbers"]
    return [i for i in range(rank) if i not in contract[position] and i not in batch[position]]


KINDS = (Dense(),)
