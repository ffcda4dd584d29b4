"""The affine piece of a piecewise-linear function that an input lands on.

A graph runs on two inputs at once. The real input decides every gate; the other one goes through the gates as the real
one set them. The second result is affine in its input, and equals the function at the real input.

A curved operation has no piece. On request its tangent at the real input stands in for it: then the second result is
the first-order expansion of the function at the real input.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import is_traced
from jaxdescramble.networks.evaluate import bind, constants_of
from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import Block, Graph, Operation, Value
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.kind import PieceRule, tangent_piece

Halves: TypeAlias = tuple[list[Value], list[Value]]
"""What a scan carries or slices: real values, and values for the other input. None stands for one that never moves."""


@dataclasses.dataclass
class Pieces:
    """Results of a run along a piece.

    Values inside a scan are stacked.

    Attributes:
        outputs: the function's results for the other input, on the piece of the real one.
        moved, real: the wanted values for the other input, and for the real one.
        winners: for each operation that takes a largest or smallest, which operand or place it took.
        edges: where the gates turn, by the value that they read; `gates`: the operation behind each edge.
        refused: for values without an affine piece, the operation that has none.
        blocked: the same for gates that read such values.
    """

    outputs: list[Value]
    moved: dict[int, Array] = dataclasses.field(default_factory=dict)
    real: dict[int, Array] = dataclasses.field(default_factory=dict)
    winners: dict[int, Array] = dataclasses.field(default_factory=dict)
    edges: dict[int, list[Array]] = dataclasses.field(default_factory=dict)
    gates: dict[tuple[int, int], Operation] = dataclasses.field(default_factory=dict)
    refused: dict[int, Operation] = dataclasses.field(default_factory=dict)
    blocked: dict[int, Operation] = dataclasses.field(default_factory=dict)


def follow_piece(
    graph: Graph,
    facts: Facts,
    arguments: Sequence[Array],
    moved: Mapping[int, Array],
    wanted: Collection[int] = (),
    tangents: bool = False,
) -> Pieces:
    """Run a graph on the piece of its arguments, with other numbers for some values.

    Args:
        graph: from `trace(..., opened=True)`; facts: from `study` of it.
        arguments: one array for each of `graph.inputs`: they set the gates.
        moved: other numbers for the values in which the piece is wanted. Values that do not depend on these stay.
        wanted: values to keep, real and moved.
        tangents: whether operations without a piece are replaced by their tangents at the real input.
    """
    run = _Run(graph, facts, set(wanted), dict(moved), tangents)
    state = _State(constants_of(graph) | dict(zip(graph.inputs, arguments, strict=True)), {}, {})
    for number in graph.inputs:
        run.keep(number, state)
    run.block(graph, state)
    run.result.outputs = [state.other(number) for number in graph.outputs]
    run.result.refused |= {number: state.refused[number] for number in graph.outputs if number in state.refused}
    return run.result


def decides_on_complex(graph: Graph, operation: Operation) -> bool:
    """Return whether a gate would compare complex numbers; their absolute value is a curve, not a gate."""
    types = [graph.avals[number].dtype for number in (*operation.inputs, *operation.outputs)]
    return kind_of(operation).decides and any(jnp.issubdtype(one, jnp.complexfloating) for one in types)


@dataclasses.dataclass
class _State:
    """Values known so far; `moved` holds only those that depend on the input, `refused` those with no affine piece."""

    real: dict[int, Value]
    moved: dict[int, Value]
    refused: dict[int, Operation]

    def other(self, number: int) -> Value:
        return self.moved.get(number, self.real[number])

    def blamed(self, operation: Operation) -> Operation | None:
        return next((self.refused[number] for number in operation.reads if number in self.refused), None)


class _Run:
    def __init__(self, graph: Graph, facts: Facts, wanted: set[int], given: dict[int, Array], tangents: bool):
        self.graph, self.facts, self.wanted, self.given, self.tangents = graph, facts, wanted, given, tangents
        self.result = Pieces([])
        self.found: tuple[dict[int, PyTree], ...] = (
            self.result.real,
            self.result.moved,
            self.result.winners,
            self.result.edges,
        )

    def keep(self, number: int, state: _State) -> None:
        if number in self.given:
            state.moved[number] = self.given[number]
            state.refused.pop(number, None)
        if number not in self.wanted:
            return
        if number in state.refused:
            self.result.refused[number] = state.refused[number]
        self.found[0][number] = state.real[number]
        self.found[1][number] = state.other(number)

    def block(self, block: Block, state: _State) -> None:
        for operation in block.operations:
            if operation.body is not None:
                self.scan(operation, operation.body, state)
            else:
                self.step(operation, state)
            for number in operation.outputs:
                self.keep(number, state)

    def step(self, operation: Operation, state: _State) -> None:
        inputs, outputs = operation.inputs, operation.outputs
        values = [state.real[number] for number in inputs]
        state.real.update(zip(outputs, bind(operation, values), strict=True))
        culprit = state.blamed(operation)
        live = [number in state.moved for number in inputs]
        kind = kind_of(operation)
        if kind.is_step or not any(self.inexact(number) for number in outputs):
            if kind.compares and culprit is not None:
                self.result.blocked[outputs[0]] = culprit
            elif kind.compares and sum(live) == 1:
                self.gate(inputs[live.index(True)], values[live.index(False)], operation)
            return
        if culprit is None and not any(number in state.moved for number in operation.reads):
            return
        rule = self.rule(operation, live) if culprit is None else None
        if rule is None:
            state.refused.update(dict.fromkeys(outputs, culprit or operation))
            if operation.unread or (
                kind.decides and (culprit is not None or decides_on_complex(self.graph, operation))
            ):
                self.result.blocked[outputs[0]] = culprit or operation
            return
        went = rule(operation, values, [state.other(number) for number in inputs], live)
        state.moved.update(zip(outputs, went.results, strict=True))
        for side, edge in went.edges:
            self.gate(inputs[side], edge, operation)
        if went.winner is not None:
            self.found[2][outputs[0]] = went.winner

    def rule(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        """Return how an operation goes on: along its piece, else along its tangent if that is asked for."""
        kind = kind_of(operation)
        piece = None if decides_on_complex(self.graph, operation) else kind.piece(operation, live)
        return tangent_piece if self.tangents and piece is None and kind.has_tangent else piece

    def gate(self, value: int, edge: ArrayLike, operation: Operation) -> None:
        if not is_traced(edge) and np.isinf(np.asarray(edge)).all():
            return  # `max(x, -inf)`, the first step of a softmax, decides nothing
        edges = self.found[3].setdefault(value, [])
        self.result.gates[value, len(edges)] = operation
        edges.append(jnp.asarray(edge))

    def inexact(self, number: int) -> bool:
        return jnp.issubdtype(self.graph.avals[number].dtype, jnp.inexact)

    def scan(self, operation: Operation, body: Block, state: _State) -> None:
        params, count, found = operation.params, operation.carries, self.found
        starts = [state.real[number] for number in operation.inputs]
        # A carry that starts without the input may depend on it later, so every carry that depends on data is moved.
        others = [
            state.other(number) if self.floating(inner) else None
            for number, inner in zip(operation.inputs, body.inputs, strict=True)
        ]
        culprit, blamed = state.blamed(operation), {}
        inherited = {
            inner: state.refused[number]
            for number, inner in zip(operation.inputs, body.inputs, strict=True)
            if number in state.refused
        }

        def step(carry: Halves, slices: Halves) -> tuple[Halves, tuple[Halves, tuple[dict[int, PyTree], ...]]]:
            real, moved = ([*one, *two] for one, two in zip(carry, slices, strict=True))
            inner = _State(dict(state.real), dict(state.moved), {**state.refused, **inherited})
            inner.real.update(zip(body.inputs, real, strict=True))
            inner.moved.update({n: v for n, v in zip(body.inputs, moved, strict=True) if v is not None})
            self.found = ({}, {}, {}, {})
            for number in body.inputs:
                self.keep(number, inner)
            self.block(body, inner)
            blamed.update({n: inner.refused[n] for n in body.outputs if n in inner.refused})
            real = [inner.real[number] for number in body.outputs]
            moved = [inner.other(number) if self.floating(number) else None for number in body.outputs]
            return (real[:count], moved[:count]), ((real[count:], moved[count:]), self.found)

        carry, slices = (starts[:count], others[:count]), (starts[count:], others[count:])
        gates = dict(self.result.gates)
        while True:
            # The next step starts from what this one refuses: repeat until nothing new is refused.
            jax.eval_shape(lambda c, s: step(c, jax.tree.map(lambda leaf: leaf[0], s)), carry, slices)
            ends = zip(body.inputs[:count], body.outputs[:count], strict=True)
            more = {start: blamed[end] for start, end in ends if end in blamed and start not in inherited}
            self.result.gates = dict(gates)
            if not more:
                break
            inherited.update(more)
        (real, moved), ((real_ys, moved_ys), seen) = jax.lax.scan(
            step, carry, slices, length=params["length"], reverse=params["reverse"], unroll=params["unroll"]
        )
        self.found = found
        for mine, more in zip(found, seen, strict=True):
            mine.update(more)
        state.real.update(zip(operation.outputs, [*real, *real_ys], strict=True))
        state.moved.update({n: v for n, v in zip(operation.outputs, [*moved, *moved_ys], strict=True) if v is not None})
        culprit = culprit or next(iter(blamed.values()), None)
        if culprit is not None:
            state.refused.update(dict.fromkeys(operation.outputs, culprit))

    def floating(self, number: int) -> bool:
        return number in self.facts.data and self.inexact(number)


def along_piece(operation: Operation, real: list[Array], moved: list[Array]) -> Sequence[Array]:
    """Return the results of a gate or a maximum for other operands, where the real ones decide."""
    live = [True] * len(real)
    rule = kind_of(operation).piece(operation, live)
    assert rule is not None
    return rule(operation, real, moved, live).results
