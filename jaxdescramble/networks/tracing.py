"""Trace a JAX function to a `Graph`."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal, Var
from jaxtyping import PyTree

from jaxdescramble.networks.graph import (
    CALLS,
    CUSTOM,
    RULED,
    Block,
    Code,
    Graph,
    Operation,
    Value,
    bodies_of,
    opened_jaxpr,
)
from jaxdescramble.networks.kinds import PRODUCTS

LOOPS = frozenset({"scan", "while", "cond"})

Function: TypeAlias = Callable[[PyTree, PyTree], PyTree]
"""A network, `f(params, x)`."""


def trace(function: Callable[..., PyTree], *arguments: PyTree, opened: bool = False) -> Graph:
    """Return the graph of a function at these arguments.

    Calls (`jit`, `checkpoint`, ...) are opened; an opened `checkpoint` saves no memory. `custom_jvp` and `custom_vjp`
    calls without a product or a loop inside stay whole. Others are opened, so that they can be read, and closed by a
    `custom_rule`, so that they keep their derivative; calls that change a `Ref` lose it, and `lost` lists these.
    Operations that are the same at every step of a scan move out of the scan. Operations that do not matter for the
    result are left out. If `opened`, every `custom_jvp` and `custom_vjp` call is opened, and has its body's derivative.
    """
    leaves, names = [], []
    for argument in arguments:
        with_path, _ = jax.tree_util.tree_flatten_with_path(argument)
        names.append([jax.tree_util.keystr(path) for path, _ in with_path])
        leaves.append([leaf for _, leaf in with_path])
    # make_jaxpr needs a hashable function, and a callable model may not be hashable.
    closed, result = jax.make_jaxpr(lambda *arguments: function(*arguments), return_shape=True)(*arguments)
    builder = _Builder(opened)
    inputs = builder.fresh(closed.jaxpr.invars)
    with builder.scope() as operations:
        outputs = builder.emit(closed, inputs)
    groups, start = [], 0
    for group in leaves:
        groups.append(tuple(inputs[start : start + len(group)]))
        start += len(group)
    paths = dict(zip(inputs, (name for group in names for name in group), strict=True))
    tree = jax.tree.structure(result)
    graph = Graph(
        tuple(inputs),
        operations,
        tuple(outputs),
        builder.avals,
        builder.constants,
        tuple(groups),
        paths,
        tree,
        builder.lost,
    )
    _prune(graph)
    return graph


class _Scope:
    """A block under construction: `local` are the values that cannot be computed further out."""

    def __init__(self, local: Iterable[int], closed: bool):
        self.operations: list[Operation] = []
        self.local = set(local)
        self.closed = closed


class _Builder:
    """Turns jaxprs into blocks; numbers the values in order."""

    def __init__(self, opened: bool):
        self.opened = opened
        self.avals: list[Any] = []
        self.constants: dict[int, Value] = {}
        self.scopes: list[_Scope] = []
        self.callers: tuple[JaxprEqn, ...] = ()
        self.closed = False
        self.lost: list[Operation] = []

    def fresh(self, variables: Iterable[Var | Literal]) -> list[int]:
        start = len(self.avals)
        self.avals.extend(variable.aval for variable in variables)
        return list(range(start, len(self.avals)))

    def constant(self, value: Value, variable: Var | Literal) -> int:
        (number,) = self.fresh([variable])
        self.constants[number] = value
        return number

    @contextlib.contextmanager
    def scope(self, local: Iterable[int] = (), closed: bool = True) -> Iterator[list[Operation]]:
        """Open a new innermost block; give the list that its operations go to."""
        self.scopes.append(_Scope(local, closed))
        try:
            yield self.scopes[-1].operations
        finally:
            self.scopes.pop()

    def emit(self, code: Code, arguments: Sequence[int]) -> list[int]:
        """Write a jaxpr's operations into the current block; return its results."""
        jaxpr, constants = opened_jaxpr(code)
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, value in zip(jaxpr.constvars, constants, strict=True):
            known[variable] = self.constant(value, variable)

        def read(atom: Var | Literal) -> int:
            return self.constant(atom.val, atom) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            known.update(zip(equation.outvars, self.write(equation, inputs), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def write(self, equation: JaxprEqn, inputs: list[int]) -> Sequence[int]:
        name = equation.primitive.name
        bodies = bodies_of(equation)
        if name in CALLS or (name in CUSTOM and (self.opened or _holds(equation, PRODUCTS | LOOPS))):
            return self.call(equation, inputs, bodies[0], name in RULED and not self.opened)
        if name == "scan":
            return self.scan(equation, inputs)
        operation = Operation(equation, tuple(inputs), tuple(self.fresh(equation.outvars)))
        if name == "cond":
            operation.unread = tuple(self.block(branch, inputs[1:]) for branch in bodies)
        elif name == "while":
            self.loop(operation)
        elif name not in CUSTOM:
            # Others with code (`shard_map`) can be inspected if their operands match those of the code one to one.
            operation.unread = tuple(self.block(body, inputs) for body in bodies if _takes(body) == len(inputs))
        self.place(operation)
        return operation.outputs

    def call(self, equation: JaxprEqn, inputs: list[int], body: Code, ruled: bool) -> Sequence[int]:
        """Open a call; close it again with a `custom_rule` if it has a derivative of its own."""
        rule = Operation(equation, (), (), callers=self.callers, call=tuple(inputs))
        if ruled and _changes_state(body):
            self.lost.append(rule)  # opened and whole it would run twice, and change the Ref twice
            ruled = False
        outer, start = (self.callers, self.closed), len(self.avals)
        self.callers, self.closed = (*self.callers, equation), self.closed or ruled
        results = self.emit(body, inputs)
        self.callers, self.closed = outer
        if not ruled:
            return results
        rule.inputs, rule.inside = tuple(results), range(start, len(self.avals))
        rule.outputs = tuple(self.fresh(equation.outvars))
        self.place(rule)
        return rule.outputs

    def block(self, code: Code, arguments: Sequence[int], inputs: Iterable[int] = ()) -> Block:
        with self.scope() as operations:
            outputs = self.emit(code, arguments)
        return Block(tuple(inputs), operations, tuple(outputs))

    def loop(self, operation: Operation) -> None:
        params = operation.params
        in_test, in_body = params["cond_nconsts"], params["body_nconsts"]
        starts = operation.inputs[in_test + in_body :]
        carry = self.fresh(opened_jaxpr(params["body_jaxpr"])[0].outvars)
        test = self.block(params["cond_jaxpr"], [*operation.inputs[:in_test], *carry])
        body = self.block(params["body_jaxpr"], [*operation.inputs[in_test : in_test + in_body], *carry], carry)
        operation.unread = (body, test)
        operation.feeds = dict(zip(carry, zip(starts, body.outputs, strict=True), strict=True))

    def scan(self, equation: JaxprEqn, inputs: list[int]) -> Sequence[int]:
        jaxpr, _ = opened_jaxpr(equation.params["jaxpr"])
        constants, carries = _scan_counts(equation.params)
        stop = constants + carries
        # A carry that no step changes is a constant.
        moving = [i for i in range(constants, stop) if jaxpr.outvars[i - constants] is not jaxpr.invars[i]]
        fed = [*moving, *range(stop, len(inputs))]
        inner = self.fresh([jaxpr.invars[i] for i in fed])
        arguments = list(inputs)
        for i, number in zip(fed, inner, strict=True):
            arguments[i] = number
        with self.scope(inner, closed=False) as operations:
            results = self.emit(equation.params["jaxpr"], arguments)
        kept = [*(i - constants for i in moving), *range(carries, len(results))]
        body = Block(tuple(inner), operations, tuple(results[i] for i in kept))
        outputs = self.fresh([equation.outvars[i] for i in kept])
        starts = [inputs[i] for i in fed]
        feeds = {
            number: (start, body.outputs[i]) if i < len(moving) else (start,)
            for i, (number, start) in enumerate(zip(inner, starts, strict=True))
        }
        self.place(Operation(equation, tuple(starts), tuple(outputs), body, len(moving), feeds=feeds))
        everything = list(inputs[constants:stop]) + [-1] * (len(results) - carries)
        for i, number in zip(kept, outputs, strict=True):
            everything[i] = number
        return everything

    def place(self, operation: Operation) -> None:
        """Put an operation as far out as its operands allow; operations with effects stay where they are."""
        operation.callers, operation.closed = self.callers, self.closed
        if self.closed and operation.equation.effects and not operation.outputs:
            return  # the call itself has this effect
        depth, reads = len(self.scopes) - 1, operation.reads
        while not (operation.equation.effects or self.scopes[depth].closed or reads & self.scopes[depth].local):
            depth -= 1
        self.scopes[depth].operations.append(operation)
        self.scopes[depth].local.update(operation.outputs)


def _prune(block: Block) -> None:
    needed, kept = set(block.outputs), []
    for operation in reversed(block.operations):
        if operation.effects or not needed.isdisjoint(operation.outputs):
            for inner in operation.blocks:
                _prune(inner)
            needed |= operation.reads
            kept.append(operation)
    block.operations[:] = reversed(kept)


def _holds(equation: JaxprEqn, names: frozenset[str]) -> bool:
    inner = (opened_jaxpr(body)[0].eqns for body in bodies_of(equation))
    return any(e.primitive.name in names or _holds(e, names) for equations in inner for e in equations)


def _changes_state(body: Code) -> bool:
    """Return whether a body reads or writes something besides its operands (a `Ref`); prints do not count."""
    return any(
        any(map(_changes_state, bodies_of(e))) if bodies_of(e) else bool(e.effects and e.outvars)
        for e in opened_jaxpr(body)[0].eqns
    )


def _takes(body: Code) -> int:
    return len(opened_jaxpr(body)[0].invars)


def _scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many constants and carries a scan has; JAX releases write this in two ways."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carries, _ = params["ft_in"].unpack()
    return len(constants), len(carries)


def leaves_of(arguments: Iterable[PyTree]) -> list[jax.Array]:
    """Return the arrays in the arguments, in the order of `trace`."""
    return [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in jax.tree.leaves(list(arguments))]
