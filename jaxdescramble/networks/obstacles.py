"""Name what a method cannot handle, with its line: smooth activations, integer inputs."""

from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdescramble._base.checks import numbers
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.graph import Graph, Operation, everything
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.tracing import Function, trace


def curved_operations(graph: Graph, facts: Facts) -> list[Operation]:
    """Return the operations on the data that are curved everywhere (erf, tanh, exp, powers), one for each line.

    If a line has several, the clearest name is taken: GELU contains a power and a `tanh`; `tanh` says more.
    """
    found: dict[str, Operation] = {}
    for operation in everything(graph):
        curve = kind_of(operation).curve
        if curve and any(number in facts.data for number in operation.inputs):
            known = found.get(operation.source)
            if known is None or (kind_of(known).curve == "power" and curve == "curve"):
                found[operation.source] = operation
    return list(found.values())


def obstacle_behind(graph: Graph, facts: Facts, operation: Operation) -> Operation:
    """Return the operation to blame for one that a method cannot pass: a curved one of its line or of its operands.

    GELU is `x * erf(x)`: a method that cannot pass the product of the two should name `erf`.
    """
    same_line = [one for one in curved_operations(graph, facts) if one.source == operation.source]
    if same_line:
        return same_line[0]
    if operation.name not in ("mul", "div"):
        return operation
    waiting, seen = [operation], {operation}
    for here in waiting:
        if kind_of(here).curve:
            return here
        makers = [facts.makers.get(number) for number in here.inputs if number in facts.data]
        fresh = [m for m in makers if m is not None and m not in seen and not kind_of(m).is_product and not m.blocks]
        seen.update(fresh)
        waiting += fresh
    return operation


def listed(*operations: Operation) -> str:
    """Write at most three operations with their lines, for a message."""
    shown = [f"`{operation.name}` ({operation.source})" for operation in operations[:3]]
    return ", ".join(shown) + (f" and {len(operations) - 3} more" if len(operations) > 3 else "")


def refuse_integers(f: Function, params: PyTree, x: object) -> None:
    """Raise `TypeError` if x holds integers: say where f looks them up, and what to do.

    >>> refuse_integers(lambda table, x: table[x], jnp.ones((5, 2)), jnp.ones((3, 2)))
    """
    array = numbers(x, "x", "an array of numbers (batch, ...)")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return
    try:
        graph = trace(f, params, array)
    except Exception as error:  # f may fail on integers in any way; the cause is x
        raise TypeError(f"x: got {array.dtype}; convert to a floating type with .astype(jnp.float32).") from error
    lookup = next(_lookups(graph, study(graph)), None)
    if lookup is None:
        raise TypeError(f"x: got {array.dtype}; convert to a floating type with .astype(jnp.float32).")
    raise TypeError(
        f"x: got {array.dtype}, which f looks up in a table by {listed(lookup)}. Integers have no derivative, so begin "
        "behind the lookup: write f(params, x) as rest(params, embedded), with embedded = table[x], and pass rest and "
        "embedded. Do not convert x to a floating type."
    )


def _lookups(graph: Graph, facts: Facts) -> Iterator[Operation]:
    """Yield the operations that look up integers of the data in a table, and comparisons that make one-hot codes."""
    operations = list(everything(graph))
    for operation in operations:
        if kind_of(operation).looks_up and any(n in facts.data for n in operation.inputs[1:]):
            yield operation
    for operation in operations:
        of_data = [graph.avals[number].dtype for number in operation.inputs if number in facts.data]
        if operation.name == "eq" and any(jnp.issubdtype(dtype, jnp.integer) for dtype in of_data):
            yield operation
