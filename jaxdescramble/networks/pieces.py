"""The affine piece of a piecewise-linear function that an input lands on.

A graph is run on two inputs at once: the real one, which decides every gate, and another, which goes through the gates
as the real one set them. What the second run gives is affine in its input, and equal to the function at the first.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.checks import is_traced
from jaxdescramble.networks.evaluate import bind
from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import IDENTITY, SLICES, Block, Graph, Operation

# Linear in all their operands of floating type together, or only arranging them.
TOGETHER = IDENTITY | SLICES | frozenset(
    """add add_any sub neg broadcast_in_dim concatenate copy_p cumsum dynamic_update_slice expand_dims pad
    reduce_sum reduce_window_sum reshape rev scatter-add squeeze stack transpose select_n dynamic_slice gather
    scatter real""".split()  # noqa: SIM905
)  # fmt: skip
# Linear in one operand while the others stay.
APART = frozenset({"mul", "dot_general", "conv_general_dilated"})
# Constant between jumps.
STEPS = frozenset(
    """eq ne lt le gt ge sign floor ceil round argmax argmin is_finite and or not xor
    random_bits""".split()  # noqa: SIM905
)
COMPARISONS = frozenset({"gt", "ge", "lt", "le"})


@dataclasses.dataclass
class Pieces:
    """What a run along a piece leaves.

    `outputs` and `moved` are of the other input, on the piece of the real one; `real` are the wanted values at the real
    one; `winners` says for each operation that takes a largest or smallest which operand or place it took; `edges` are
    where the gates turn, by the value that they read, and `gates` the operation behind each edge; `refused` names, for
    values with no such piece, the operation that has none; `blocked` the same for gates that read such values. What is
    inside a scan comes stacked.
    """

    outputs: list[Any]
    moved: dict[int, Any] = dataclasses.field(default_factory=dict)
    real: dict[int, Any] = dataclasses.field(default_factory=dict)
    winners: dict[int, Any] = dataclasses.field(default_factory=dict)
    edges: dict[int, list[Any]] = dataclasses.field(default_factory=dict)
    gates: dict[tuple[int, int], Operation] = dataclasses.field(default_factory=dict)
    refused: dict[int, Operation] = dataclasses.field(default_factory=dict)
    blocked: dict[int, Operation] = dataclasses.field(default_factory=dict)


def follow(
    graph: Graph, facts: Facts, arguments: Sequence[Any], moved: Mapping[int, Any], wanted: Collection[int] = ()
) -> Pieces:
    """Run a graph on the piece of its arguments, with other numbers in the place of some values.

    Args:
        graph: from `trace(..., opened=True)`; facts: from `study` of it.
        arguments: one array for each of `graph.inputs`: they set the gates.
        moved: other numbers for those values in which the piece is wanted. What the piece does not depend on by way of
            them stays as it is.
        wanted: values to keep, real and moved.
    """
    run = _Run(graph, facts, set(wanted), dict(moved))
    state = _State(dict(graph.constants) | dict(zip(graph.inputs, arguments, strict=True)), {}, {})
    for number in graph.inputs:
        run.keep(number, state)
    run.block(graph, state)
    run.result.outputs = [state.other(number) for number in graph.outputs]
    run.result.refused |= {number: state.refused[number] for number in graph.outputs if number in state.refused}
    return run.result


@dataclasses.dataclass
class _State:
    """Values known so far; `moved` holds only those that depend on the input, `refused` those with no affine piece."""

    real: dict[int, Any]
    moved: dict[int, Any]
    refused: dict[int, Operation]

    def other(self, number: int) -> Any:
        return self.moved.get(number, self.real[number])

    def blamed(self, operation: Operation) -> Operation | None:
        return next((self.refused[number] for number in operation.reads if number in self.refused), None)


class _Run:
    def __init__(self, graph: Graph, facts: Facts, wanted: set[int], given: dict[int, Any]):
        self.graph, self.facts, self.wanted, self.given = graph, facts, wanted, given
        self.result = Pieces([])
        self.found = (self.result.real, self.result.moved, self.result.winners, self.result.edges)

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
        if operation.name in STEPS or not any(self.inexact(number) for number in outputs):
            if operation.name in COMPARISONS and culprit is not None:
                self.result.blocked[outputs[0]] = culprit
            elif operation.name in COMPARISONS and sum(live) == 1:
                self.gate(inputs[live.index(True)], values[live.index(False)], operation)
            return
        if culprit is None and not any(number in state.moved for number in operation.reads):
            return
        rule = _rule(operation, live) if culprit is None else None
        if rule is None:
            state.refused.update(dict.fromkeys(outputs, culprit or operation))
            if operation.unread or (operation.name in RULES and culprit is not None):
                self.result.blocked[outputs[0]] = culprit or operation
            return
        went = rule(operation, values, [state.other(number) for number in inputs], live)
        state.moved.update(zip(outputs, went.results, strict=True))
        for side, edge in went.edges:
            self.gate(inputs[side], edge, operation)
        if went.winner is not None:
            self.found[2][outputs[0]] = went.winner

    def gate(self, value: int, edge: Any, operation: Operation) -> None:
        if not is_traced(edge) and np.isinf(np.asarray(edge)).all():
            return  # `max(x, -inf)`, as a softmax begins, decides nothing
        edges = self.found[3].setdefault(value, [])
        self.result.gates[value, len(edges)] = operation
        edges.append(jnp.asarray(edge))

    def inexact(self, number: int) -> bool:
        return jnp.issubdtype(self.graph.avals[number].dtype, jnp.inexact)

    def scan(self, operation: Operation, body: Block, state: _State) -> None:
        params, count, found = operation.params, operation.carries, self.found
        starts = [state.real[number] for number in operation.inputs]
        # A carry that starts without the input may come to depend on it, so all that depend on data are moved.
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

        def step(carry: Any, slices: Any) -> Any:
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
            # What one turn refuses the next one starts from: turn until nothing new is refused.
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


def along_piece(operation: Operation, real: list[Any], moved: list[Any]) -> Sequence[Any]:
    """What a gate or a maximum makes of other operands, set as the real ones set it."""
    return RULES[operation.name](operation, real, moved, [True] * len(real)).results


class _Went(NamedTuple):
    """What became of an operation on the piece: its results, where its operands have kinks, which one won."""

    results: Sequence[Any]
    edges: Sequence[tuple[int, Any]] = ()
    winner: Any = None


Rule = Callable[[Operation, list[Any], list[Any], list[bool]], _Went]


def _rule(operation: Operation, live: list[bool]) -> Rule | None:
    """How an operation goes along its piece; None if it has none."""
    name = operation.name
    if name in RULES:
        return RULES[name]
    is_affine = (
        (name in TOGETHER and any(live))
        or (name in APART and sum(live) == 1)
        or (name == "div" and live == [True, False])
        or (name == "integer_pow" and operation.params["y"] == 1)
    )
    return _again if is_affine else None


def _again(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    # The value goes on through a stop_gradient: only its derivative, as JAX has it, does not.
    return _Went(moved if operation.name == "stop_gradient" else bind(operation, moved))


def _extreme(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    """`max` and `min` of two: with a constant, a tie goes to it; of two values, to the first."""
    sign = 1 if operation.name == "max" else -1
    first, second = (sign * value for value in real)
    takes_second = second >= first if live == [True, False] else second > first
    result = [jnp.where(takes_second, moved[1], moved[0])]
    if all(live):
        return _Went(result, winner=takes_second.astype(jnp.int32))
    side = live.index(True)
    return _Went(result, [(side, real[1 - side])])


def _abs(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    return _Went([jnp.where(real[0] > 0, moved[0], -moved[0])], [(0, jnp.zeros((), real[0].dtype))])


def _clamp(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    low, x, high = real
    result = [jnp.where(x <= low, moved[0], jnp.where(x >= high, moved[2], moved[1]))]
    return _Went(result, [(1, low), (1, high)] if live[1] else [])


def _reduce(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    """The largest (or smallest) along some axes: the first of those that tie."""
    axes = tuple(operation.params["axes"])
    kept = [i for i in range(real[0].ndim) if i not in axes]
    flat = (*(real[0].shape[i] for i in kept), math.prod(real[0].shape[i] for i in axes))
    rows, others = (jnp.transpose(value[0], (*kept, *axes)).reshape(flat) for value in (real, moved))
    winner = jnp.argmax(rows if operation.name == "reduce_max" else -rows, axis=-1)
    taken = jnp.take_along_axis(others, winner[..., None], axis=-1)[..., 0]
    return _Went([taken], winner=winner.astype(jnp.int32))


def _pool(operation: Operation, real: list[Any], moved: list[Any], live: list[bool]) -> _Went:
    """The largest (or smallest) of every window: the first of those that tie; its place among all of the operand's."""
    (value,), params = real, operation.params
    sign = 1 if operation.name == "reduce_window_max" else -1
    places = jnp.asarray(np.arange(value.size, dtype=np.int32)).reshape(value.shape)

    def better(one: Any, two: Any) -> Any:
        (a, i), (b, j) = one, two
        first = (a > b) | ((a == b) & (i < j))
        return jnp.where(first, a, b), jnp.where(first, i, j)

    nothing = (jnp.asarray(-jnp.inf, value.dtype), jnp.asarray(value.size, jnp.int32))
    how = [params[name] for name in ("window_dimensions", "window_strides", "padding", "base_dilation",
                                     "window_dilation")]  # fmt: skip
    winner = jax.lax.reduce_window((sign * value, places), nothing, better, *how)[1]
    return _Went([moved[0].reshape(-1)[jnp.minimum(winner, value.size - 1)]], winner=winner)


RULES: dict[str, Rule] = {
    "max": _extreme,
    "min": _extreme,
    "abs": _abs,
    "clamp": _clamp,
    "reduce_max": _reduce,
    "reduce_min": _reduce,
    "reduce_window_max": _pool,
    "reduce_window_min": _pool,
}
