"""Lookups: `gather`, `dynamic_slice`."""

from collections.abc import Sequence

from jax import Array

from jaxdescramble.networks._places import Place, Steps, constant
from jaxdescramble.networks.axes import Axes, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.kind import Kind, Relevance


class _Lookup(Kind):
    linear = "together"
    looks_up = True
    keeps = True

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()


class Gather(_Lookup):
    """`gather`."""

    primitives = frozenset({"gather"})

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
        before, after = graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0])
        result, of_indices = list(foreign(after)), _places_of_indices(operation, len(after))
        if position == 1:
            for i, at in enumerate(of_indices):
                result[at] = axes[i]
            return tuple(result)
        for i, at in _pairs(operation, len(axes)):
            if after[at] == sizes[i] == before[i]:
                result[at] = axes[i]
        for i, j in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
            result[of_indices[j]] = axes[i]
        return tuple(result)

    def places_after(
        self, operation: Operation, output: int, had: Sequence[frozenset[Place] | None], loops: int, graph: Graph
    ) -> frozenset[Place]:
        # Indices cannot restore the order of an operand that was taken apart.
        used = had if had[0] is None else (had[0], None, *had[2:])
        return super().places_after(operation, output, used, loops, graph)

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
        before, after = graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0])
        result, of_indices = constant(after), _places_of_indices(operation, len(after))
        if position == 1:
            for i, at in enumerate(of_indices):
                result[at] = steps[i]
            return result
        for i, at in _pairs(operation, len(steps)):
            if steps[i] and sizes[i] != before[i]:
                return None
            result[at] = steps[i]
        for i, j in zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True):
            result[of_indices[j]] = steps[i]
        return None if any(steps[i] for i in numbers.collapsed_slice_dims) else result

    def ties(self, operation: Operation, book: Book) -> None:
        numbers, sizes = operation.params["dimension_numbers"], operation.params["slice_sizes"]
        if numbers.operand_batching_dims:
            book.stop(operation, "looks them up one by one")
            return
        (table, indices), (result,) = operation.inputs, operation.outputs
        book.use(table)
        book.use(indices)
        before, axes, places = book.graph.shape(table), book.filled(table), book.filled(indices)
        found = list(book.spread(result))
        for i, at in enumerate(_places_of_indices(operation, len(found))):
            found[at] = places[i]
        kept = dict(_pairs(operation, len(axes)))
        for i, dimension in enumerate(axes):
            if i in kept and sizes[i] == before[i]:
                found[kept[i]] = dimension
                continue
            book.pin(book.labels([dimension]), "selects some of them")
            if i in kept:
                found[kept[i]] = book.lost((), sizes[i], "selects some of them")
        book.axes[result] = tuple(found)


class DynamicSlice(_Lookup):
    """`dynamic_slice`."""

    primitives = frozenset({"dynamic_slice"})

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        before, after = graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0])
        if position > 0 or any(steps[i] for i in range(len(after)) if before[i] != after[i]):
            return None
        return steps

    def ties(self, operation: Operation, book: Book) -> None:
        for number in operation.inputs:
            book.use(number)
        number, (result,) = operation.inputs[0], operation.outputs
        before, after = book.graph.shape(number), book.graph.shape(result)
        sizes = zip(book.filled(number), before, after, strict=True)
        book.axes[result] = tuple(
            d if old == new else book.lost(d, new, "selects some of them") for d, old, new in sizes
        )


def _places_of_indices(operation: Operation, rank: int) -> list[int]:
    """Return where the axes of the indices stand in the result, in order; the last one is not among them.

    Along the last axis one index is written.
    """
    return [i for i in range(rank) if i not in operation.params["dimension_numbers"].offset_dims]


def _pairs(operation: Operation, rank: int) -> list[tuple[int, int]]:
    """Return pairs of dimensions, of the operand and of the result, that hold the same slice."""
    numbers = operation.params["dimension_numbers"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    return list(zip((i for i in range(rank) if i not in gone), numbers.offset_dims, strict=True))


KINDS = (Gather(), DynamicSlice())
