"""Operations along the order of one axis: running sums and the like, reversal, sorting."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jax import Array

from jaxdescramble.networks._places import Steps, constant
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds._laws import ordered, positive
from jaxdescramble.networks.kinds._meeting import alike
from jaxdescramble.networks.kinds.kind import Kind, Relevance


class _Along(Kind):
    """`parameter` says along which dimensions it acts."""

    keeps = True
    parameter: ClassVar[str] = "axis"

    def ties(self, operation: Operation, book: Book) -> None:
        acted = [int(i) for i in np.atleast_1d(operation.params[self.parameter])]
        for number in operation.inputs:
            book.use(number)
        axes = list(alike(operation, book))
        for i in acted:
            axes[i] = book.lost(axes[i], book.graph.shape(operation.inputs[0])[i], "depends on their order")
        if not self.linear:
            for label in book.labels(axes):
                (positive if operation.name in ("cummax", "cummin", "sort") else ordered)(book, label)
        for number in operation.outputs:
            book.axes[number] = tuple(axes)


class Running(_Along):
    """Running products and extremes; every position of the result belongs to the last one that it reads."""

    primitives = frozenset({"cumlogsumexp", "cummax", "cummin", "cumprod"})

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return steps if graph.shape(operation.inputs[position]) else constant(graph.shape(operation.outputs[output]))


class RunningSum(Running):
    """`cumsum`."""

    primitives = frozenset({"cumsum"})
    linear = "together"

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.shared()


class Reversal(_Along):
    """`rev`."""

    primitives = frozenset({"rev"})
    linear = "together"
    parameter = "dimensions"

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return [step[::-1] if i in operation.params["dimensions"] else step for i, step in enumerate(steps)]

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()


class Sorting(_Along):
    """`sort`, of one or more operands together."""

    primitives = frozenset({"sort"})
    writes = True
    parameter = "dimension"

    def ties(self, operation: Operation, book: Book) -> None:
        """Sorted numbers do not tell their order; but with several operands, such as positions, the others do."""
        (number, *others), (result, *_), along = operation.inputs, operation.outputs, operation.params["dimension"]
        if others:
            super().ties(operation, book)
            return
        book.use(number)
        book.strands.whole(book.filled(number), [along])
        axes = list(book.filled(number))
        for label in book.labels([axes[along]]):
            ordered(book, label)
        axes[along] = book.strands.axis(book.graph.shape(number)[along])
        book.pin(book.labels([axes[along]]), "has them sorted")
        for i, dimension in enumerate(axes):
            for label in book.labels([dimension] if i != along else []):
                positive(book, label)
        book.axes[result] = tuple(axes)

    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        return None if steps[operation.params["dimension"]] else steps


KINDS = (Running(), RunningSum(), Reversal(), Sorting())
