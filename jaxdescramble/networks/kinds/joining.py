"""Operations that put arrays side by side, or one into another: concatenate, stack, pad, writing into an array."""

from collections.abc import Sequence

from jax import Array

from jaxdescramble.networks._places import NOWHERE, Place, Steps, inserted, place
from jaxdescramble.networks.axes import FOREIGN, Atom, Axes, axis
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds._meeting import alike
from jaxdescramble.networks.kinds.kind import Kind, Reaches, Relevance


class _Joining(Kind):
    linear = "together"
    joins = True
    keeps = True

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()


class Concatenation(_Joining):
    """`concatenate` along a dimension."""

    primitives = frozenset({"concatenate"})

    def places_after(
        self, operation: Operation, output: int, had: Sequence[frozenset[Place] | None], loops: int, graph: Graph
    ) -> frozenset[Place]:
        along = loops + int(operation.params["dimension"])
        some = frozenset().union(*(one for one in had if one is not None))
        if len({one.offset for one in some}) == 1 and not any(one.along(along) for one in some):
            return some
        return _side_by_side(had, along, [graph.shape(number)[along - loops] for number in operation.inputs])

    def ties(self, operation: Operation, book: Book) -> None:
        _joined(book, operation, int(operation.params["dimension"]))


class Stack(_Joining):
    """`stack` along a new dimension."""

    primitives = frozenset({"stack"})

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        at = operation.params["axis"]
        return (*axes[:at], axis(FOREIGN, graph.shape(operation.outputs[0])[at]), *axes[at:])

    def places_after(
        self, operation: Operation, output: int, had: Sequence[frozenset[Place] | None], loops: int, graph: Graph
    ) -> frozenset[Place]:
        along = loops + int(operation.params["axis"])
        wider = [None if one is None else frozenset(inserted(each, along) for each in one) for one in had]
        return _side_by_side(wider, along, [1] * len(wider))

    def ties(self, operation: Operation, book: Book) -> None:
        at, (result,) = operation.params["axis"], operation.outputs
        axes = list(alike(operation, book))
        new = book.strands.axis(book.graph.shape(result)[at])
        book.pin(book.labels([new]), "numbers the arrays that it puts side by side")
        book.axes[result] = (*axes[:at], new, *axes[at:])


class Padding(Kind):
    """`pad` with a constant; padding inside, or cutting by it, is not followed."""

    primitives = frozenset({"pad"})
    linear = "together"
    writes = True
    keeps = True

    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        wide = zip(steps, operation.params["padding_config"], strict=True)
        return [_padded(step, low, high, inside) for step, (low, high, inside) in wide]

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        if position != 0:
            return {}
        settings = operation.params["padding_config"]
        return {
            a: r._replace(low=r.low - r.stride * settings[r.axis][0], high=r.high - r.stride * settings[r.axis][0])
            for a, r in reach.items()
            if settings[r.axis][2] == 0
        }

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()

    def ties(self, operation: Operation, book: Book) -> None:
        number, filling = operation.inputs
        book.use(number)
        book.use(filling)
        axes = list(book.filled(number))
        for i, padding in enumerate(operation.params["padding_config"]):
            if any(padding):
                axes[i] = book.lost(axes[i], book.graph.shape(operation.outputs[0])[i], "pads them")
        rest = [dimension for i, dimension in enumerate(axes) if not any(operation.params["padding_config"][i])]
        for label in book.labels(rest):
            book.beside(label, filling, "pads with the same number for all of them")
        book.axes[operation.outputs[0]] = tuple(axes)


class Writing(Kind):
    """A write into an array: `dynamic_update_slice`, `scatter`; the positions of the array stay where they are."""

    primitives = frozenset({"dynamic_update_slice", "scatter", "scatter-add", "scatter_add"})
    linear = "together"
    writes = True
    keeps = True

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return None if position > 0 else steps

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back() if flow.operation.name == "dynamic_update_slice" else None


def _padded(step: Sequence[int], low: int, high: int, inside: int) -> Sequence[int] | None:
    if not step:
        return step
    return None if inside or min(low, high) < 0 else (*[NOWHERE] * low, *step, *[NOWHERE] * high)


def _side_by_side(had: Sequence[frozenset[Place] | None], along: int, sizes: Sequence[int]) -> frozenset[Place]:
    """Join operands with one place each; an operand without a place is nowhere along the joined dimension."""
    if any(one is not None and len(one) > 1 for one in had):
        return frozenset()
    line: list[int] = []
    rests = set()
    for one, size in zip(had, sizes, strict=True):
        if not one:
            line += [NOWHERE] * size
            continue
        (single,) = one
        line += [single.offset + i for i in single.steps[along] or [0] * size]
        rests.add((*single.steps[:along], *single.steps[along + 1 :]))
    if len(rests) != 1:
        return frozenset()
    (rest,) = rests
    return frozenset({place(0, [*rest[:along], line, *rest[along:]])})


def _joined(book: Book, operation: Operation, along: int) -> None:
    """Put values side by side along one dimension: a sum of strands. Along the others they move alike."""
    numbers, (result,) = operation.inputs, operation.outputs
    for number in numbers:
        book.use(number)
    rest = [[d for i, d in enumerate(book.filled(number)) if i != along] for number in numbers]
    dimensions = book.tied(rest, numbers, "puts the same number beside all of them")
    parts = []
    for number in numbers:
        dimension, size = book.filled(number)[along], book.graph.shape(number)[along]
        if size == 0:
            continue
        whole = len(dimension) == 1 and dimension[0].label != FOREIGN and dimension[0].stride == 1
        if whole and book.strands.size(dimension[0].label) == size:
            parts.append(dimension[0].label)
            continue
        book.pin(book.labels([dimension]), "puts them beside others")
        new = book.strands.new(size)
        book.pin([new], "puts them beside others")
        parts.append(new)
    label = parts[0] if len(parts) == 1 else book.strands.sum_of(parts)
    size = book.graph.shape(result)[along]
    dimensions.insert(along, (Atom(label, size, 1),) if size > 1 else ())
    book.axes[result] = tuple(dimensions)


KINDS = (Concatenation(), Stack(), Padding(), Writing())
