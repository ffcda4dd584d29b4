"""Carry what is known of values forward through a graph, into the bodies of scans and out again."""

from collections.abc import Callable
from typing import TypeVar

from jaxdescramble.networks.axes import FOREIGN, Axes, axis, labels
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of

T = TypeVar("T")


def carry_forward(
    block: Block,
    known: dict[int, T],
    step: Callable[[Operation], None],
    enter: Callable[[Operation, int, T], T | None],
    leave: Callable[[Operation, int, T], T | None],
    again: Callable[[Operation, int], bool] = lambda scan, turn: False,
) -> None:
    """Fill in what is known of every value, in the order of computation.

    Args:
        block: the graph, or a body of it.
        known: by value; changed in place. Where a hook returns None, nothing is known.
        step: fills in the results of an operation that is no scan.
        enter: `enter(scan, position, outer)`: what is known of an operand, as the scan's body sees it at one step.
        leave: `leave(scan, position, inner)`: what is known of a result of the body, as the scan returns it.
        again: `again(scan, turn)`: whether to go through the body once more, after it has changed what is known of the
            body's operands.
    """
    for operation in block.operations:
        body = operation.body
        if body is None:
            step(operation)
            continue
        for position, (outer, inner) in enumerate(zip(operation.inputs, body.inputs, strict=True)):
            _pass(known, outer, inner, operation, position, enter)
        turn = 0
        while turn == 0 or again(operation, turn):
            carry_forward(body, known, step, enter, leave, again)
            turn += 1
        for position, (outer, inner) in enumerate(zip(operation.outputs, body.outputs, strict=True)):
            _pass(known, inner, outer, operation, position, leave)


def _pass(
    known: dict[int, T],
    start: int,
    end: int,
    operation: Operation,
    position: int,
    hook: Callable[[Operation, int, T], T | None],
) -> None:
    found = hook(operation, position, known[start]) if start in known else None
    if found is not None:
        known[end] = found


def axes_inside(scan: Operation, position: int, axes: Axes) -> Axes:
    """Return an operand's axes as one step of a scan sees it."""
    return axes if position < scan.carries else axes[1:]


def axes_outside(scan: Operation, position: int, axes: Axes) -> Axes:
    """Return the axes of a scan's result from those of one step's."""
    return axes if position < scan.carries else (axis(FOREIGN, scan.params["length"]), *axes)


def follow_axis(graph: Graph, start: int, at: int, label: str) -> dict[int, Axes]:
    """Return the axes of every value that a named axis gets into.

    Args:
        graph: from `trace`.
        start: the value that has the axis.
        at: its dimension there.
        label: its name.
    """
    shape = graph.shape(start)
    known = {start: tuple(axis(label if i == at else FOREIGN, size) for i, size in enumerate(shape))}

    def step(operation: Operation) -> None:
        kind = kind_of(operation)
        live = [(k, known[number]) for k, number in enumerate(operation.inputs) if number in known]
        for i, number in enumerate(operation.outputs):
            found = [kind.axes_after(operation, k, i, axes, graph) for k, axes in live]
            met = [axes for axes in found if axes is not None and any(label in labels(d) for d in axes)]
            if met:
                # What two operands bring along one dimension is the same, or one of them is spread out there.
                known[number] = tuple(
                    next((d for d in dimensions if label in labels(d)), dimensions[0])
                    for dimensions in zip(*met, strict=True)
                )

    carry_forward(graph, known, step, axes_inside, axes_outside)
    return known
