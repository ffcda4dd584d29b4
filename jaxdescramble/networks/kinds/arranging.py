"""Operations that move or repeat elements: transpose, reshape, squeeze, broadcast."""

import math
from collections.abc import Sequence

import numpy as np
from jax import Array

from jaxdescramble.networks._places import Place, Steps, constant
from jaxdescramble.networks.axes import Axes, foreign, regroup
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds.kind import Kind, Reaches, Relevance

LARGEST = 10**7
"""Elements that a reshape may mix: no more are followed one by one."""


class _Arranging(Kind):
    linear = "together"

    def arranges(self, operation: Operation, graph: Graph) -> bool:
        return True

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()

    def ties(self, operation: Operation, book: Book) -> None:
        (number, *sizes), (result,) = operation.inputs, operation.outputs
        axes = None if sizes else self.arranged(operation, book.filled(number), book.graph)
        if axes is None:
            book.stop(operation, "splits or joins them unevenly")
            return
        book.hand_on(number, result, axes, same=False)


class Transpose(_Arranging):
    """`transpose`."""

    primitives = frozenset({"transpose"})

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        return tuple(axes[i] for i in operation.params["permutation"])

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return [steps[i] for i in operation.params["permutation"]]

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        order = list(operation.params["permutation"])
        return {a: r._replace(axis=order.index(r.axis)) for a, r in reach.items()}


class Reshape(_Arranging):
    """`reshape`."""

    primitives = frozenset({"reshape"})

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        if operation.params.get("dimensions") is not None:
            return None
        return regroup(axes, graph.shape(operation.outputs[0]))

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        if operation.params.get("dimensions") is not None:
            return None
        return _reshaped(steps, graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0]))


class Squeeze(_Arranging):
    """`squeeze`."""

    primitives = frozenset({"squeeze"})

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        gone = _squeezed(operation, len(axes))
        return tuple(dimension for i, dimension in enumerate(axes) if i not in gone)

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        gone = _squeezed(operation, len(steps))
        return [step for i, step in enumerate(steps) if i not in gone]


class Broadcast(_Arranging):
    """`broadcast_in_dim`, which also moves and adds dimensions."""

    primitives = frozenset({"broadcast_in_dim"})
    keeps = True

    def arranges(self, operation: Operation, graph: Graph) -> bool:
        sizes = [math.prod(graph.shape(number)) for number in (*operation.inputs, *operation.outputs)]
        return len(sizes) == 2 and sizes[0] == sizes[1]

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        before, after = graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0])
        result = list(foreign(after))
        for i, j in enumerate(operation.params["broadcast_dimensions"]):
            if before[i] == after[j]:
                result[j] = axes[i]
        return tuple(result)

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        there = operation.params["broadcast_dimensions"]
        spread = dict(zip(there, steps, strict=True)) if position == 0 else {}
        return [spread.get(i, ()) for i in range(len(graph.shape(operation.outputs[0])))]

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        before, after = graph.shape(operation.inputs[position]), graph.shape(operation.outputs[0])
        there = operation.params["broadcast_dimensions"]
        return {a: r._replace(axis=there[r.axis]) for a, r in reach.items() if after[there[r.axis]] == before[r.axis]}


def _squeezed(operation: Operation, rank: int) -> set[int]:
    return {i % rank for i in operation.params["dimensions"]}


def _reshaped(steps: Steps, before: tuple[int, ...], after: tuple[int, ...]) -> Steps | None:
    """Find groups of dimensions that hold the same elements before and after; write the index as a sum in each."""
    if 0 in before:
        return None
    result: Steps = []
    i = 0
    while len(result) < len(after) or i < len(before):
        j, first = i, len(result)
        old = new = 1
        sizes: list[int] = []
        while True:
            if old <= new and j < len(before) and (old < new or old == 1):
                old *= before[j]
                j += 1
            elif new < old and first + len(sizes) < len(after):
                sizes.append(after[first + len(sizes)])
                new *= sizes[-1]
            else:
                break
            if old == new and old > 1:
                break
        if old == new == 1:  # only sizes of 1 are left
            return [*result, *constant(after[len(result) :])]
        if old != new:
            return None
        found = _split(steps[i:j], before[i:j], sizes)
        if found is None:
            return None
        result += found
        i = j
    return result


def _split(steps: Steps, before: Sequence[int], after: Sequence[int]) -> Steps | None:
    if not any(steps):
        return constant(after)
    if math.prod(before) > LARGEST:
        return None
    index = Place(0, tuple(map(tuple, steps))).indices(before).reshape(after)
    parts, total = [], np.full((1,) * len(after), index.flat[0])
    for i in range(len(after)):
        line = index[tuple(slice(None) if j == i else 0 for j in range(len(after)))] - index.flat[0]
        parts.append(tuple(line.tolist()))
        total = total + line.reshape([-1 if j == i else 1 for j in range(len(after))])
    if not np.array_equal(np.broadcast_to(total, index.shape), index):
        return None
    parts[0] = tuple(i + int(index.flat[0]) for i in parts[0])
    return [*parts]


KINDS = (Transpose(), Reshape(), Squeeze(), Broadcast())
