"""Operations along the order of one axis: running sums and the like, reversal, sorting."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jax import Array

from jaxdescramble.networks._places import Steps, constant
from jaxdescramble.networks.axes import Axes
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds._laws import ordered, positive
from jaxdescramble.networks.kinds._meeting import alike
from jaxdescramble.networks.kinds.kind import Kind, Permuted, Relevance, agreed, padded


class _Along(Kind):
    """`parameter` says along which dimensions it acts."""

    keeps = True
    parameter: ClassVar[str] = "axis"

    def permuted(self, operation: Operation, operands: list[Axes], graph: Graph) -> Permuted:
        acted = [int(i) for i in np.atleast_1d(operation.params[self.parameter])]
        (common,), needed = agreed(operands, [graph.shape(number) for number in operation.inputs], acted)
        return Permuted([padded(common, graph.shape(number)) for number in operation.outputs], needed)

    def ties(self, operation: Operation, book: Book) -> None:
        acted = [int(i) for i in np.atleast_1d(operation.params[self.parameter])]
        for number in operation.inputs:
            book.use(number)
        axes = list(alike(operation, book))
        for i in acted:
            axes[i] = book.lost(axes[i], book.graph.shape(operation.inputs[0])[i], "goes through them in their order")
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

    def permuted(self, operation: Operation, operands: list[Axes], graph: Graph) -> Permuted:
        """Sorted numbers do not tell their order; but with several operands, such as positions, the others do."""
        if len(operands) > 1:
            return super().permuted(operation, operands, graph)
        along = operation.params["dimension"]
        kept = [() if i == along else dimension for i, dimension in enumerate(operands[0])]
        return Permuted([padded(kept, graph.shape(operation.outputs[0]))])

    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        return None if steps[operation.params["dimension"]] else steps


KINDS = (Running(), RunningSum(), Reversal(), Sorting())
