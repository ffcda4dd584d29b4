"""Find parameters that look like weights and affect the result, but belong to no layer that can be read."""

import collections
from collections.abc import Iterable

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxdescramble._base.cautions import caution
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import arranges, kind_of
from jaxdescramble.networks.kinds.products import Product
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.tracing import Function, trace


def find_unread(graph: Graph, facts: Facts, read: Iterable[int]) -> dict[int, Operation]:
    """Return the matrix-shaped parameters that belong to no layer, with the operation that applies each to the data.

    Parameters do not count if the data only looks them up (tables), if they meet the data element by element (scales,
    positions), or if they never meet it.

    Args:
        graph, facts: from `trace` and `study`.
        read: the leaves that layers belong to.
    """
    ends = _ends(graph)
    skipped = set(read)
    found = {}
    for leaf in graph.arguments[0]:
        if leaf in skipped or not _is_matrix(graph, leaf) or not _is_number(graph, leaf):
            continue
        operation = _applied_by(leaf, graph, facts, ends)
        if operation is not None:
            found[leaf] = operation
    return found


def caution_unread(graph: Graph, facts: Facts, layers: Iterable[Product], hidden: Iterable[Product]) -> None:
    """Warn of layers that cannot be read, and of calls that lost their own derivative.

    Args:
        graph, facts: from `trace` and `study`.
        layers, hidden: from `find_products`.
    """
    for product in hidden:
        caution(
            f"The layer {product.name} stands inside a `while` or `cond` ({product.operation.source}) and cannot be "
            "read; it is evaluated as usual. A `scan`, or a Python loop, can be read."
        )
    unread = find_unread(graph, facts, [product.leaf for product in (*layers, *hidden)])
    if unread:
        caution(
            f"No layer is read for some parameters that f applies to x: {_listed(graph, unread)}. They are evaluated "
            "as usual. If f computes a weight from them (weight norm, a sum of matrices), compute it before f and pass "
            "it in params: then it is read."
        )
    for call in graph.lost:
        caution(
            f"`{call.equation.primitive.name}` ({call.source}) changes a Ref, so its own derivative is lost: the "
            "result has the derivative of its body. Return the new value instead of writing it into a Ref."
        )


def why_no_layer(f: Function, params: PyTree, x: PyTree) -> str:
    """Explain for a function without layers what a layer is, and what the function has instead.

    >>> why_no_layer(lambda params, x: x * params, jnp.ones(3), jnp.ones(3)).split(". ")[-1]
    'f has the parameters params (3,), and applies none of them as a matrix.'
    """
    graph = trace(f, params, x)
    facts = study(graph)
    _, hidden = find_products(graph, facts)
    unread = find_unread(graph, facts, [product.leaf for product in hidden])
    seen = [f"{product.name} inside a `while` or `cond` ({product.operation.source})" for product in hidden]
    seen += [_listed(graph, unread)] if unread else []
    there = ", ".join(f"{_name(graph, leaf)} {graph.shape(leaf)}" for leaf in graph.arguments[0])
    return (
        "A layer is a product or a convolution of a parameter with something that depends on x. Not read are layers "
        "inside `while` or `cond`, convolutions in groups of samples, and weights that f computes from parameters. "
        + (
            f"f applies {'; '.join(seen)}."
            if seen
            else f"f has the parameters {there or '(none)'}, and applies none of them as a matrix."
        )
    )


def _listed(graph: Graph, found: dict[int, Operation]) -> str:
    """Write names, shapes, operations and lines; group parameters of one line."""
    together: dict[str, list[str]] = {}
    for leaf, operation in found.items():
        how = kind_of(operation).why_unread
        line = f"`{operation.equation.primitive.name}` ({operation.source}){how and f', {how}'}"
        together.setdefault(line, []).append(f"{_name(graph, leaf)} {graph.shape(leaf)}")
    return "; ".join(f"{', '.join(names)} by {line}" for line, names in together.items())


def _name(graph: Graph, leaf: int) -> str:
    return graph.names[leaf] or "params"


def _is_matrix(graph: Graph, value: int) -> bool:
    return sum(size > 1 for size in graph.shape(value)) > 1


def _is_number(graph: Graph, value: int) -> bool:
    """Return whether a weight may have the type of this value: quantised integers yes, masks and random keys no."""
    dtype = graph.avals[value].dtype
    return jnp.issubdtype(dtype, jnp.number) and dtype != jnp.uint32


def _ends(block: Block) -> dict[int, list[Operation]]:
    """Return for each value the operations (`cond`, `while`) whose bodies return it."""
    ends: dict[int, list[Operation]] = collections.defaultdict(list)

    def walk(block: Block) -> None:
        for operation in block.operations:
            for inner in operation.blocks:
                walk(inner)
            for inner in operation.unread:
                for number in inner.outputs:
                    ends[number].append(operation)

    walk(block)
    return ends


def _applied_by(leaf: int, graph: Graph, facts: Facts, ends: dict[int, list[Operation]]) -> Operation | None:
    """Return the operation that applies a parameter to the data as more than a table, a scale or a shift."""
    seen = {leaf}
    waiting: list[tuple[int, Operation | None]] = [(leaf, None)]  # a value, and what computed it from the leaf

    def push(numbers: Iterable[int], computed: Operation | None) -> None:
        fresh = [number for number in numbers if number not in seen and number not in facts.data]
        seen.update(fresh)
        waiting.extend((number, computed) for number in fresh)

    while waiting:
        value, computed = waiting.pop()
        push(facts.onward(value), computed)  # this value starts a loop's state that depends on the data: no weight
        for operation in ends.get(value, ()):
            if any(number in facts.data for number in operation.outputs):
                return operation
            push(operation.outputs, computed or operation)
        for operation, position in facts.readers[value]:
            if operation.blocks:
                continue  # the readers of a value are also those inside the bodies that it is given to
            if not any(number in facts.data for number in operation.outputs):
                is_view = kind_of(operation).keeps or operation.pointwise or arranges(operation, graph)
                push(operation.outputs, computed if is_view else computed or operation)
                continue
            blamed = _meeting(operation, position, graph, facts)
            if blamed is not None or computed is not None:
                return blamed or computed
    return None


def _meeting(operation: Operation, position: int, graph: Graph, facts: Facts) -> Operation | None:
    """Return what applies a parameter as a matrix where it meets the data; None for tables, scales and shifts."""
    kind = kind_of(operation)
    if kind.looks_up:
        if position > 0:
            return None
        # A vector looked up is an embedding; a matrix looked up for each sample and multiplied with it is a weight.
        sizes = [size for size in operation.params["slice_sizes"] if size > 1]
        return operation if len(sizes) > 1 and _multiplied(operation.outputs[0], graph, facts) else None
    if operation.pointwise:
        others = (number for i, number in enumerate(operation.inputs) if i != position and number in facts.data)
        return next((maker for number in others if (maker := _transform(number, graph, facts)) is not None), None)
    return None if kind.joins or kind.writes or kind.arranges(operation, graph) else operation


def _multiplied(value: int, graph: Graph, facts: Facts) -> bool:
    """Return whether a value, at most rearranged, is a factor of a product with data."""
    waiting = [value]
    for here in waiting:
        for operation, position in facts.readers[here]:
            kind = kind_of(operation)
            is_factor = kind.is_product and position in kind.factors
            if is_factor and operation.inputs[kind.other_factor(position)] in facts.data:
                return True
            if arranges(operation, graph):
                waiting.append(operation.output_for(position))
    return False


def _transform(value: int, graph: Graph, facts: Facts) -> Operation | None:
    """Return the Fourier transform whose rearranged or cut result a value is; None if there is none."""
    maker = facts.makers.get(value)
    while maker is not None and (arranges(maker, graph) or kind_of(maker).cuts):
        maker = facts.makers.get(maker.inputs[0])
    return maker if maker is not None and kind_of(maker).is_transform else None
