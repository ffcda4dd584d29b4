"""What stands in a method's way: smooth activations and integer inputs, named with the line that asked for them."""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp

from jaxdescramble._base.checks import numbers
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.graph import PRODUCTS, Block, Graph, Operation, trace

# Curved everywhere: no gate, no piece.
CURVED = frozenset(
    """acos acosh asin asinh atan atan2 atanh cbrt cos cosh digamma erf erf_inv erfc exp exp2 expm1 lgamma log log1p
    logistic pow rsqrt sin sinh sqrt tan tanh""".split()  # noqa: SIM905
)
POWERS = frozenset({"integer_pow", "square"})


def curved(graph: Graph, facts: Facts) -> list[Operation]:
    """The operations on the data that are curved everywhere (erf, tanh, exp, powers), one of each line, in order.

    Of several on one line the most telling is named: `tanh` rather than the power that GELU has inside it.
    """
    found: dict[str, Operation] = {}
    for operation in _everything(graph):
        if operation.name in CURVED | POWERS and _of_data(operation, facts):
            known = found.get(operation.source)
            if known is None or (known.name in POWERS and operation.name in CURVED):
                found[operation.source] = operation
    return list(found.values())


def telling(graph: Graph, facts: Facts, operation: Operation) -> Operation:
    """The operation to name for one that cannot be passed: the curved one of its line, or that its operands come from.

    GELU is `x * erf(x)`: a method that cannot pass the product of the two should name `erf`.
    """
    same_line = [one for one in curved(graph, facts) if one.source == operation.source]
    if same_line:
        return same_line[0]
    if operation.name not in ("mul", "div"):
        return operation
    waiting, seen = [operation], {operation}
    for here in waiting:
        if here.name in CURVED | POWERS:
            return here
        makers = [facts.makers.get(number) for number in here.inputs if number in facts.data]
        fresh = [m for m in makers if m is not None and m not in seen and m.name not in PRODUCTS and not m.blocks]
        seen.update(fresh)
        waiting += fresh
    return operation


def named(*operations: Operation) -> str:
    """At most three operations with their lines, for a message."""
    shown = [f"`{operation.name}` ({operation.source})" for operation in operations[:3]]
    return ", ".join(shown) + (f" and {len(operations) - 3} more" if len(operations) > 3 else "")


def refuse_integers(f: Callable[[Any, Any], Any], params: Any, x: Any) -> None:
    """Raise `TypeError` if x holds integers: say where f looks them up, and what to do.

    >>> refuse_integers(lambda table, x: table[x], jnp.ones((5, 2)), jnp.ones((3, 2)))
    """
    array = numbers(x, "x", "an array of numbers (batch, ...)")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        return
    try:
        graph = trace(f, params, array)
    except Exception as error:  # f may fail on integers in any way; x is to blame
        raise TypeError(f"x: got {array.dtype}; convert to a floating type with .astype(jnp.float32).") from error
    lookup = next(_lookups(graph, study(graph)), None)
    if lookup is None:
        raise TypeError(f"x: got {array.dtype}; convert to a floating type with .astype(jnp.float32).")
    raise TypeError(
        f"x: got {array.dtype}, which f looks up in a table by {named(lookup)}. Integers have no derivative, so begin "
        "behind the lookup: write f(params, x) as rest(params, embedded), with embedded = table[x], and pass rest and "
        "embedded. Do not convert x to a floating type."
    )


def _lookups(graph: Graph, facts: Facts) -> Iterator[Operation]:
    """The operations that take integers of the data as places in a table; a comparison is a lookup by one-hot codes."""
    operations = list(_everything(graph))
    for operation in operations:
        if operation.name in ("gather", "dynamic_slice") and any(n in facts.data for n in operation.inputs[1:]):
            yield operation
    for operation in operations:
        of_data = [graph.avals[number].dtype for number in operation.inputs if number in facts.data]
        if operation.name == "eq" and any(jnp.issubdtype(dtype, jnp.integer) for dtype in of_data):
            yield operation


def _everything(block: Block) -> Iterator[Operation]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _everything(inner)


def _of_data(operation: Operation, facts: Facts) -> bool:
    linear = operation.name == "integer_pow" and operation.params["y"] == 1
    return not linear and any(number in facts.data for number in operation.inputs)
