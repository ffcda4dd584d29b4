"""Slices: `slice`, `split`, `unstack`."""

import itertools
from collections.abc import Sequence

from jax import Array

from jaxdescramble.networks._places import Steps, dropped
from jaxdescramble.networks.axes import FOREIGN, Atom, Axes, axis
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation, operand_shapes
from jaxdescramble.networks.kinds.kind import Kind, Reach, Reaches, Relevance, Span
from jaxdescramble.networks.strands import PRODUCT, SUM


class Slicing(Kind):
    """All three; a slice of a parameter is a view of it."""

    primitives = frozenset({"slice", "split", "unstack"})
    linear = "together"
    cuts = True
    keeps = True

    def spans(self, operation: Operation, output: int) -> list[Span]:
        params = operation.params
        if operation.name == "slice":
            starts, stops = map(int, params["start_indices"]), map(int, params["limit_indices"])
            strides = map(int, params["strides"] or [1] * len(params["start_indices"]))
            return list(map(Span, starts, stops, strides))
        spans = [Span(0, size, 1) for size in operand_shapes(operation.equation)[0]]
        sizes = params["sizes"] if operation.name == "split" else [1] * len(operation.outputs)
        start = int(sum(sizes[:output]))
        spans[params["axis"]] = Span(start, start + int(sizes[output]), 1)
        return spans

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        return cut(operation, self.spans(operation, output), axes, graph.shape(operation.inputs[position]))

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        spans = zip(steps, self.spans(operation, output), strict=True)
        kept: Steps = [step[start:stop:stride] if step else step for step, (start, stop, stride) in spans]
        return dropped(kept, {operation.params["axis"]}) if operation.name == "unstack" else kept

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        if operation.name != "slice":
            return {}
        spans = self.spans(operation, 0)

        def sliced(one: Reach) -> Reach:
            span = spans[one.axis]
            shift = one.stride * span.start
            return Reach(one.axis, one.stride * span.step, one.low + shift, one.high + shift)

        return {a: sliced(one) for a, one in reach.items()}

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()

    def ties(self, operation: Operation, book: Book) -> None:
        (number,) = operation.inputs
        book.use(number)
        shape, wide = book.graph.shape(number), [self.spans(operation, i) for i in range(len(operation.outputs))]
        for result, spans in zip(operation.outputs, wide, strict=True):
            axes = list(book.filled(number))
            for i, (size, span) in enumerate(zip(shape, spans, strict=True)):
                if span != (0, size, 1):
                    axes = _part(book, axes, i, span)
            if operation.name == "unstack":
                del axes[operation.params["axis"]]
            book.axes[result] = tuple(axes)


def cut(operation: Operation, spans: Sequence[Span], axes: Axes, before: Sequence[int]) -> Axes:
    """Return the axes of a slice; a dimension that is not cut into equal parts becomes foreign."""
    result = list(axes)
    for i, (old, (start, stop, step)) in enumerate(zip(before, spans, strict=True)):
        new = len(range(start, stop, step))
        if old != new:
            even = len(axes[i]) == 1 and step == 1 and new > 0 and old % new == 0 and start % new == 0
            result[i] = axis(axes[i][0].label, new, axes[i][0].stride) if even else axis(FOREIGN, new)
    if operation.name == "unstack":
        del result[operation.params["axis"]]
    return tuple(result)


def _part(book: Book, axes: Sequence[Sequence[Atom]], i: int, span: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the axes after a slice `range(*span)` of one dimension: a part of a strand, if it is one."""
    start, stop, step = span
    size, strands = len(range(start, stop, step)), book.strands
    found = [tuple(dimension) for dimension in axes]
    if not book.labels([found[i]]):
        found[i] = (Atom(FOREIGN, size, 1),) if size > 1 else ()
        return found
    if len(found[i]) == 1 and (step > 1 or _inner(found[i][0], book)):
        strands.refine(found[i][0].label, PRODUCT, strands.cuts(found[i][0]))
        found = list(strands.current(tuple(found)))
    dimension = found[i]
    if step > 1 and len(dimension) == 1 and size * step == dimension[0].size and start < step:
        # Every second position, or third, ...: one position of an inner factor.
        strands.refine(dimension[0].label, PRODUCT, [size, step])
        factors = strands.current((dimension,))[0]
        if len(factors) == 2:
            strands.refine(factors[1].label, SUM, [n for n in (start, 1, step - start - 1) if n])
            found[i] = factors[:1]
            return found
    if step != 1 or len(dimension) != 1 or _inner(dimension[0], book):
        found[i] = book.lost(dimension, size, "selects some of them")
        return found
    (atom,) = dimension
    total, unit = strands.size(atom.label), atom.stride
    low, high = start * unit, stop * unit
    strands.refine(atom.label, SUM, [n for n in (low, high - low, total - high) if n])
    _, parts = strands.parts(atom.label)
    offsets = [0, *itertools.accumulate(strands.size(part) for part in parts)]
    own = parts[offsets.index(low) : offsets.index(high)]
    label = own[0] if len(own) == 1 else strands.sum_of(own)
    if atom.size < total:  # the other dimensions hold the rest of this strand
        found = [
            tuple(one._replace(label=label) if one.label == atom.label else one for one in other) for other in found
        ]
    found[i] = (Atom(label, size, unit),) if size > 1 else ()
    return found


def _inner(atom: Atom, book: Book) -> bool:
    """Return whether an atom is not the slowest factor of its strand."""
    return atom.size * atom.stride < book.strands.size(atom.label)


KINDS = (Slicing(),)
