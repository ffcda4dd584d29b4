"""Run a graph; read or replace any of its values on the way."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend import source_info_util

from jaxdescramble.networks.graph import Block, Graph, Operation, Value

# A value's number, or (an operation's first result, the position of one of its operands).
Place: TypeAlias = int | tuple[int, int]
# The steps that the loops around a value are at, outermost first.
Steps: TypeAlias = tuple[Array, ...]
# What replaces a value at these steps.
Replacement: TypeAlias = Callable[[Array, Steps], Array]


def evaluate(
    graph: Graph,
    arguments: Sequence[Array],
    wanted: Collection[int] = (),
    replace: Mapping[Place, Replacement] | None = None,
) -> tuple[list[Value], dict[int, Array]]:
    """Run a graph on the leaves of its arguments.

    A `custom_rule` runs its call, so that values and derivatives are those of the function. If something inside the
    call's body is replaced, the value comes from the body and the derivative still comes from the call. Operations do
    not run if nothing needs their results.

    Args:
        graph: from `trace`.
        arguments: one array for each of `graph.inputs`.
        wanted: values to read. A value inside a scan is stacked: it has a leading axis for each loop around it.
        replace: functions whose result replaces a value wherever it is read, or one operand of one operation. Inside a
            scan the function gets the value of one step.

    Returns:
        The leaves of the function's result, and the wanted values by number.
    """
    run = _Run(graph, set(wanted), dict(replace or {}))
    known = dict(graph.constants)
    found: dict[int, Array] = {}
    for number, value in zip(graph.inputs, arguments, strict=True):
        run.set(known, found, number, value, ())
    return run.block(graph, known, found, ()), found


def constants_of(graph: Graph) -> dict[int, Value]:
    """Return the constants of a graph as JAX arrays; the graph has NumPy arrays. They stay concrete under `jit`."""
    with jax.ensure_compile_time_eval():
        return {n: jnp.asarray(c) if isinstance(c, np.ndarray) else c for n, c in graph.constants.items()}


class _Run:
    def __init__(self, graph: Graph, wanted: set[int], replace: dict[Place, Replacement]):
        self.wanted, self.replace = wanted, replace
        self.touched = {place if isinstance(place, int) else place[0] for place in replace}
        self.idle: set[Operation] = set()
        self.needed(graph)

    def needed(self, block: Block) -> set[int]:
        """Return the values that a block needs; add the operations that need not run to `idle`."""
        needed = set(block.outputs)
        for operation in reversed(block.operations):
            results = needed.union(self.wanted)
            read = self.wanted and any(not self.wanted.isdisjoint(inner.defined) for inner in operation.blocks)
            if not (operation.effects or read or not results.isdisjoint(operation.outputs)):
                self.idle.add(operation)
                continue
            if operation.body is not None:
                needed |= self.needed(operation.body).union(operation.inputs)
            else:
                needed |= self.reads(operation)
        return needed

    def reads(self, operation: Operation) -> set[int]:
        return operation.reads if self.opened(operation) else set(operation.call or ())

    def opened(self, operation: Operation) -> bool:
        """Return whether an operation needs its operands: a `custom_rule` does if something inside was replaced."""
        return operation.call is None or any(number in operation.inside for number in self.touched)

    def set(self, known: dict[int, Value], found: dict[int, Array], number: int, value: Value, steps: Steps) -> None:
        if number in self.replace:
            value = self.replace[number](value, steps)
        if number in self.wanted:
            found[number] = value
        known[number] = value

    def block(self, block: Block, known: dict[int, Value], found: dict[int, Array], steps: Steps) -> list[Value]:
        # Delete values after their last use: outside `jit` they would all stay in memory.
        last: dict[int, Operation] = {}
        operations = [operation for operation in block.operations if operation not in self.idle]
        for operation in operations:
            last.update(dict.fromkeys(self.reads(operation), operation))
        mine = {number for operation in operations for number in operation.outputs}.difference(block.outputs)
        for operation in operations:
            values = [known[number] for number in operation.inputs] if self.opened(operation) else []
            for position in range(len(values)):
                place = (operation.outputs[0], position) if operation.outputs else None
                if place in self.replace:
                    values[position] = self.replace[place](values[position], steps)
            if operation.call is not None:
                results = bind(operation, [known[number] for number in operation.call])
                if values:
                    results = [_value_of(*pair) for pair in zip(values, results, strict=True)]
            elif operation.body is None:
                results = bind(operation, values)
            else:
                results = self.scan(operation, operation.body, values, known, found, steps)
            for number, value in zip(operation.outputs, results, strict=True):
                self.set(known, found, number, value, steps)
            for number in self.reads(operation) & mine:
                if last[number] is operation:
                    del known[number]
        return [known[number] for number in block.outputs]

    def scan(
        self,
        operation: Operation,
        body: Block,
        values: list[Value],
        known: dict[int, Value],
        found: dict[int, Array],
        steps: Steps,
    ) -> list[Array]:
        params, carries = operation.params, operation.carries

        def step(
            carry: list[Array], slices: tuple[Array, list[Array]]
        ) -> tuple[list[Value], tuple[list[Value], dict[int, Array]]]:
            index, slices_ = slices
            inner, seen = dict(known), {}
            for number, value in zip(body.inputs, [*carry, *slices_], strict=True):
                self.set(inner, seen, number, value, (*steps, index))
            results = self.block(body, inner, seen, (*steps, index))
            return results[:carries], (results[carries:], seen)

        carry, (stacked, seen) = jax.lax.scan(
            step,
            values[:carries],
            (jnp.arange(params["length"]), values[carries:]),
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        found.update(seen)
        return [*carry, *stacked]


def _value_of(body: Array, call: Array) -> Array:
    """Return the value of `body` with the derivative of `call`."""
    return _swapped(jax.lax.stop_gradient(body), call) if jnp.issubdtype(body.dtype, jnp.inexact) else body


@jax.custom_jvp
def _swapped(body: Array, call: Array) -> Array:
    return body


@_swapped.defjvp
def _swapped_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return _swapped(*primals), tangents[1]


def bind(operation: Operation, values: Sequence[Value]) -> Sequence[Value]:
    equation = operation.equation
    # The parameters alone in some releases of jax, (functions, parameters) in others.
    bound = equation.primitive.get_bind_params(dict(equation.params))
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    stack = source_info_util.current_name_stack() + equation.source_info.name_stack
    with source_info_util.user_context(equation.source_info.traceback, name_stack=stack), equation.ctx.manager:
        results = equation.primitive.bind(*functions, *values, **params)
    return results if equation.primitive.multiple_results else [results]
