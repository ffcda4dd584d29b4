"""Find the linear layers of a network, and what belongs to each."""

import dataclasses
import math
from collections.abc import Callable, Iterator

from jax import Array

from jaxdescramble.networks.axes import Axes, labels
from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import IDENTITY, Block, Graph, Operation
from jaxdescramble.networks.kinds import arranges, kind_of
from jaxdescramble.networks.kinds.products import LayerKind, Product, layer_of


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """One step from a product to its preactivation: a constant shifts or scales the operand `side`, of these axes."""

    operation: Operation
    side: int
    axes: Axes

    @property
    def other(self) -> int:
        """The value that is the constant."""
        return self.operation.inputs[1 - self.side]

    def scale_and_shift(self, constant: Array) -> tuple[Array | None, Array | None]:
        """Return what the step multiplies by, and what it adds then; None for nothing."""
        return kind_of(self.operation).scale_and_shift(self.operation, self.side, constant)


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A product and its surroundings: affine steps, preactivation, activation, and how its axes are folded.

    `lead_loops` are the scans through the weight, `sample_loops` those through the data alone. `factors` are those of
    the out axis, slowest first, each with a flag: whether it counts layers (heads).
    """

    product: Product
    steps: tuple[Affine, ...]
    preactivation: int
    axes: Axes
    activation: int | None
    factors: tuple[tuple[int, bool], ...]
    lead_loops: tuple[Operation, ...]
    sample_loops: tuple[Operation, ...]
    from_input: bool
    to_output: bool


def find_products(graph: Graph, facts: Facts) -> tuple[dict[str, Product], list[Product]]:
    """Return the layers by name, and those inside bodies that cannot be read (`while`, `cond`)."""
    found: dict[str, Product] = {}
    hidden: list[Product] = []
    counts: dict[str, int] = {}
    for operation, kind, readable in _possible_layers(graph, True):
        views = [_parameter_behind(facts, value) for value in operation.inputs]
        for side in kind.weight_sides:
            leaf, other = views[side], kind.other_factor(side)
            if leaf is None or views[other] is not None or operation.inputs[other] not in facts.data:
                continue
            base = (graph.names[leaf] or "params") + facts.origin[operation.inputs[side]].cut
            if not readable:
                hidden.append(layer_of(kind, base, operation, side, leaf, graph))
                continue
            counts[base] = counts.get(base, 0) + 1
            name = base if counts[base] == 1 else f"{base}#{counts[base]}"
            found[name] = layer_of(kind, name, operation, side, leaf, graph)
    return found, hidden


def _possible_layers(block: Block, readable: bool) -> Iterator[tuple[Operation, LayerKind, bool]]:
    for operation in block.operations:
        if operation.body is not None:
            yield from _possible_layers(operation.body, readable)
        for inner in operation.unread:
            yield from _possible_layers(inner, False)
        kind = kind_of(operation)
        if isinstance(kind, LayerKind):
            yield operation, kind, readable


def _parameter_behind(facts: Facts, value: int) -> int | None:
    """Return the parameter leaf that a value is a view of."""
    origin = facts.origin.get(value)
    return origin.leaf if origin is not None and origin.leaf in facts.graph.arguments[0] else None


def find_layers(graph: Graph, facts: Facts) -> tuple[dict[str, Layer], list[Product]]:
    """Return the layers by name with their surroundings, and the products inside bodies that cannot be read."""
    found, hidden = find_products(graph, facts)
    return {name: _layer(product, facts) for name, product in found.items()}, hidden


def _layer(product: Product, facts: Facts) -> Layer:
    loops = facts.loops[product.operation.outputs[0]]
    through_weight = facts.varying.get(product.weight, set())
    lead_loops = tuple(loop for loop in loops if loop in through_weight)
    sample_loops = tuple(loop for loop in loops if loop not in through_weight)

    def is_constant(other: int, axes: Axes) -> bool:
        # A lone number is a scaling that the function contains, unless it is a parameter.
        learned = other in facts.parameters or bool(facts.along(other))
        along = not any("sample" in labels(axes[i]) for i in facts.along(other))
        return learned and along and other not in facts.data and facts.varying.get(other, set()) <= set(lead_loops)

    steps, preactivation, axes = affine_steps(product, facts, is_constant)
    activation = _activation(preactivation, facts)
    return Layer(
        product,
        steps,
        preactivation,
        axes,
        activation,
        _factors(product, facts),
        lead_loops,
        sample_loops,
        from_input=product.kind.from_input(product, facts.graph, facts.is_input),
        to_output=_reaches_output(preactivation, facts),
    )


def affine_steps(
    product: Product, facts: Facts, is_constant: Callable[[int, Axes], bool], rearranged: bool = True
) -> tuple[tuple[Affine, ...], int, Axes]:
    """Return the affine steps that follow a product, the value after the last of them, and its axes.

    Args:
        product: the layer.
        facts: about its graph.
        is_constant: `is_constant(other, axes)` says whether a value may be a bias or a scale of the layer, where the
            product's value has these axes.
        rearranged: also follow the value through operations that rearrange it.
    """
    value, axes, steps = product.operation.outputs[0], product.axes, []
    graph, home = facts.graph, facts.home[product.operation]
    while value not in facts.returned and len(facts.readers[value]) == 1:
        operation, position = facts.readers[value][0]
        if facts.home[operation] is not home:
            break
        result = operation.output_for(position)
        if position in kind_of(operation).affine_sides:
            other = operation.inputs[1 - position]
            if not is_constant(other, axes) or graph.shape(result) != graph.shape(value):
                break
            steps.append(Affine(operation, position, axes))
        elif rearranged and arranges(operation, graph):
            after = kind_of(operation).arranged(operation, axes, graph)
            # In a dimension of samples and units a bias looks like a signal.
            if after is None or any("sample" in labels(d) and len(labels(d)) > 1 for d in after):
                break
            axes = after
        else:
            break
        value = result
    return tuple(steps), value, axes


def elementwise_results(start: int, facts: Facts) -> tuple[dict[int, frozenset[int]], list[int]]:
    """Return the values that elementwise operations compute from one value alone, and which of them others read.

    Each value comes with the set of values that every way from `start` to it goes through.
    """
    graph, home = facts.graph, facts.home[start]
    through: dict[int, frozenset[int]] = {start: frozenset({start})}
    inner: set[tuple[Operation, int]] = set()  # with the operand that was followed
    for operation in home.operations:
        for output in operation.outputs if operation.pointwise else ():
            operands = operation.operands_of(output)
            data = [number for number in operands if number in facts.data]
            together = (output,) if operation.name in IDENTITY else operation.outputs
            alike = all(graph.shape(number) == graph.shape(start) for number in together)
            if data and alike and all(number in through for number in data):
                through[output] = frozenset.intersection(*(through[number] for number in data)) | {output}
                inner.update((operation, i) for i, number in enumerate(operation.inputs) if number in operands)
    leaving = [number for number in through if number in facts.returned or not inner.issuperset(facts.readers[number])]
    return through, leaving


def _activation(start: int, facts: Facts) -> int | None:
    """Return the activation: the last value that all elementwise results of a preactivation go through.

    Only results that other operations read count. Often there is one; a norm may also read its square. Return None if
    the last value is the preactivation itself.
    """
    through, leaving = elementwise_results(start, facts)
    if not leaving:
        return None
    shared = frozenset.intersection(*(through[number] for number in leaving))
    last = max(shared, key=lambda number: len(through[number]))
    return None if last == start else last


def _reaches_output(start: int, facts: Facts) -> bool:
    """Return whether a value reaches the function's result by elementwise operations, moving, cutting and joining."""
    seen, waiting = {start}, [start]
    while waiting:
        value = waiting.pop()
        if value in facts.graph.outputs:
            return True
        onward = list(facts.onward(value))
        for operation, position in facts.readers[value]:
            if kind_of(operation).cuts or kind_of(operation).joins:
                onward += operation.outputs
            elif operation.pointwise or arranges(operation, facts.graph):
                onward.append(operation.output_for(position))
        waiting += [number for number in onward if number not in seen]
        seen.update(onward)
    return False


def _factors(product: Product, facts: Facts) -> tuple[tuple[int, bool], ...]:
    """Return the factors of the out axis, each with a flag: whether a later product treats its places one by one.

    Such a factor is a batch dimension of the later product: heads of attention, or the members of an ensemble whose
    first layers all read the same data.
    """
    graph, total = facts.graph, math.prod(product.sizes["out"])
    found: set[tuple[int, int]] = set()
    seen: set[tuple[int, Axes]] = set()
    waiting: list[tuple[int, Axes]] = [(product.operation.outputs[0], product.axes)]
    while waiting:
        value, axes = waiting.pop()
        if (value, axes) in seen or not any("out" in labels(dimension) for dimension in axes):
            continue
        seen.add((value, axes))
        for operation, position in facts.readers[value]:
            kind = kind_of(operation)
            apart = kind.told_apart(operation, position, axes)
            found.update((d[0].size, d[0].stride) for d in apart if labels(d) == {"out"} and len(d) == 1)
            if kind.is_product or operation.body is not None:
                continue
            for i, output in enumerate(operation.outputs):
                onward = kind.axes_after(operation, position, i, axes, graph)
                if onward is not None:
                    waiting.append((output, onward))
    found.discard((total, 1))
    rest, factors = total, []
    for size, stride in sorted(found, key=lambda piece: -piece[1]):
        if rest % (size * stride):  # the factors overlap: they count no layers
            return ((total, False),)
        factors += [(rest // (size * stride), False), (size, True)]
        rest = stride
    factors.append((rest, False))
    return tuple((size, apart) for size, apart in factors if apart or size > 1) or ((1, False),)
