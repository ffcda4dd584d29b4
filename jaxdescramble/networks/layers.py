"""Which operations of a network are linear layers, and what belongs to each."""

import dataclasses
import math
from collections.abc import Iterator

import jax
from jax import Array

from jaxdescramble.networks.axes import Atom, Axes, axis, foreign, labels, moved
from jaxdescramble.networks.carry import carried
from jaxdescramble.networks.facts import Facts, arranges
from jaxdescramble.networks.graph import IDENTITY, SLICES, Block, Graph, Operation

AFFINE = frozenset({"add", "sub", "mul", "div"})


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A `dot_general` or a convolution of data with a view of a parameter leaf: a layer, as it stands in the graph.

    A convolution is a product with the patches of the data that its window sees: there `data_axes` are those of
    `patches(data)`, whose features are (channel, place in the window).

    `side` is the position of the weight among the operands. The axes of weight, data and result are written with the
    labels `batch0, batch1, ...` (dimensions shared by both), `out` (the weight's free ones), `in` (contracted) and
    `sample` (the data's free ones); `sizes` are the original sizes under each label.
    """

    name: str
    operation: Operation
    side: int
    leaf: int
    weight_axes: Axes
    data_axes: Axes
    axes: Axes
    sizes: dict[str, tuple[int, ...]]

    @property
    def weight(self) -> int:
        return self.operation.inputs[self.side]

    @property
    def data(self) -> int:
        return self.operation.inputs[1 - self.side]

    @property
    def is_convolution(self) -> bool:
        return self.operation.name == "conv_general_dilated"

    def patches(self, data: Array) -> Array:
        """The data as the product reads it: itself, or what each position of a convolution's window sees of it."""
        if not self.is_convolution:
            return data
        params, shape = self.operation.params, self.operation.equation.invars[1].aval.shape
        numbers = params["dimension_numbers"]
        return jax.lax.conv_general_dilated_patches(
            data,
            [shape[i] for i in numbers.rhs_spec[2:]],
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            dimension_numbers=numbers,
            precision=jax.lax.Precision.HIGHEST,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
    """One step from a product to its preactivation: `value op other`, or `other op value` where `swapped`.

    `axes` are those of the value at that point.
    """

    name: str
    other: int
    swapped: bool
    axes: Axes


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """A product with what surrounds it: affine steps, preactivation, activation, and how its axes are to be folded.

    `lead_loops` are the scans that go through the weight, `sample_loops` those that only go through the data. `factors`
    are those of the out axis, slowest first, each with whether it is told apart (heads) and counts layers.
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
    """The layers by name, and those inside bodies that cannot be read (`while`, `cond`)."""
    found: dict[str, Product] = {}
    hidden: list[Product] = []
    counts: dict[str, int] = {}
    for operation, readable in _products(graph, True):
        left, right = operation.inputs
        describe = _convolution if operation.name == "conv_general_dilated" else _product
        views = [_from(facts, value) for value in (left, right)]
        for side in (1,) if operation.name == "conv_general_dilated" else (0, 1):
            leaf, other = views[side], operation.inputs[1 - side]
            if leaf is None or views[1 - side] is not None or other not in facts.data:
                continue
            base = (graph.names[leaf] or "params") + facts.origin[operation.inputs[side]].cut
            if not readable:
                hidden.append(describe(base, operation, side, leaf, graph))
                continue
            counts[base] = counts.get(base, 0) + 1
            name = base if counts[base] == 1 else f"{base}#{counts[base]}"
            found[name] = describe(name, operation, side, leaf, graph)
    return found, hidden


def _products(block: Block, readable: bool) -> Iterator[tuple[Operation, bool]]:
    for operation in block.operations:
        if operation.body is not None:
            yield from _products(operation.body, readable)
        for inner in operation.unread:
            yield from _products(inner, False)
        if operation.name == "dot_general" or (operation.name == "conv_general_dilated" and groups(operation) == 1):
            yield operation, readable


def groups(operation: Operation) -> int:
    """Into how many convolutions of fewer channels a convolution falls."""
    return operation.params["feature_group_count"] * operation.params["batch_group_count"]


def _from(facts: Facts, value: int) -> int | None:
    """The parameter leaf that a value is a view of."""
    origin = facts.origin.get(value)
    return origin.leaf if origin is not None and origin.leaf in facts.graph.arguments[0] else None


def _product(name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
    (contract, batch) = operation.params["dimension_numbers"]
    shapes = [graph.shape(value) for value in operation.inputs]
    free = [[i for i in range(len(shapes[k])) if i not in contract[k] and i not in batch[k]] for k in (0, 1)]
    # The weight's own order decides how contracted dimensions are folded.
    order = sorted(range(len(contract[side])), key=lambda i: contract[side][i])
    sizes: dict[str, tuple[int, ...]] = {f"batch{i}": (shapes[side][j],) for i, j in enumerate(batch[side])}
    sizes["out"] = tuple(shapes[side][i] for i in free[side])
    sizes["in"] = tuple(shapes[side][contract[side][i]] for i in order)
    sizes["sample"] = tuple(shapes[1 - side][i] for i in free[1 - side])

    def labelled(label: str) -> Axes:
        return tuple(axis(label, size, math.prod(sizes[label][i + 1 :])) for i, size in enumerate(sizes[label]))

    operands = []
    for k in (0, 1):
        dimensions = list(foreign(shapes[k]))
        for i, j in enumerate(batch[k]):
            dimensions[j] = axis(f"batch{i}", shapes[k][j])
        for i, dimension in zip(order, labelled("in"), strict=True):
            dimensions[contract[k][i]] = dimension
        for i, dimension in zip(free[k], labelled("out" if k == side else "sample"), strict=True):
            dimensions[i] = dimension
        operands.append(tuple(dimensions))
    result = [operands[0][i] for i in batch[0]]
    result += [operands[k][i] for k in (0, 1) for i in free[k]]
    return Product(name, operation, side, leaf, operands[side], operands[1 - side], tuple(result), sizes)


def _convolution(name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
    numbers = operation.params["dimension_numbers"]
    weight, data = graph.shape(operation.inputs[1]), graph.shape(operation.inputs[0])
    result = graph.shape(operation.outputs[0])
    window, places = [weight[i] for i in numbers.rhs_spec[2:]], [result[i] for i in numbers.out_spec[2:]]
    sizes = {
        "out": (weight[numbers.rhs_spec[0]],),
        "in": (weight[numbers.rhs_spec[1]], *window),
        "sample": (data[numbers.lhs_spec[0]], *places),
    }

    def laid(spec: tuple[int, ...], *dimensions: tuple[Atom, ...]) -> Axes:
        """(batch or out, features or in, *spatial) in the order in which the array has them."""
        return tuple(dimensions[spec.index(i)] for i in range(len(spec)))

    def spread(label: str) -> list[tuple[Atom, ...]]:
        return [axis(label, size, math.prod(sizes[label][i + 1 :])) for i, size in enumerate(sizes[label])]

    out, samples = axis("out", *sizes["out"]), spread("sample")
    # The patches' features are channels with the window's places inside, which is the order of "in".
    patches = laid(numbers.out_spec, samples[0], axis("in", math.prod(sizes["in"])), *samples[1:])
    axes = laid(numbers.out_spec, samples[0], out, *samples[1:])
    return Product(name, operation, side, leaf, laid(numbers.rhs_spec, out, *spread("in")), patches, axes, sizes)


def find_layers(graph: Graph, facts: Facts) -> tuple[dict[str, Layer], list[Product]]:
    """`find_products`, each layer with its surroundings."""
    found, hidden = find_products(graph, facts)
    return {name: _layer(product, facts) for name, product in found.items()}, hidden


def _layer(product: Product, facts: Facts) -> Layer:
    loops = facts.loops[product.operation.outputs[0]]
    through_weight = facts.varying.get(product.weight, set())
    lead_loops = tuple(loop for loop in loops if loop in through_weight)
    sample_loops = tuple(loop for loop in loops if loop not in through_weight)
    steps, preactivation, axes = _affine(product, facts, set(lead_loops))
    activation = _activation(preactivation, facts)
    origin = facts.origin.get(product.data)
    return Layer(
        product,
        steps,
        preactivation,
        axes,
        activation,
        _factors(product, facts),
        lead_loops,
        sample_loops,
        from_input=origin is not None and origin.leaf not in facts.graph.arguments[0],
        to_output=_reaches_output(preactivation, facts),
    )


def _affine(product: Product, facts: Facts, loops: set[Operation]) -> tuple[tuple[Affine, ...], int, Axes]:
    """The affine steps along the product's only way on, and where they end."""
    value, axes, steps = product.operation.outputs[0], product.axes, []
    graph, home = facts.graph, facts.home[product.operation]
    while value not in facts.returned and len(facts.readers[value]) == 1:
        operation, position = facts.readers[value][0]
        if facts.home[operation] is not home:
            break
        result = operation.output_for(position)
        if operation.name in AFFINE:
            other, swapped = operation.inputs[1 - position], position == 1
            inverted = operation.name == "div" and swapped
            # A lone number is a scaling written into the function, unless it was learned.
            learned = other in facts.parameters or bool(facts.along(other))
            along = not any("sample" in labels(axes[i]) for i in facts.along(other))
            constant = other not in facts.data and facts.varying.get(other, set()) <= loops
            if inverted or not (learned and along and constant) or graph.shape(result) != graph.shape(value):
                break
            steps.append(Affine(operation.name, other, swapped, axes))
        elif arranges(operation, graph):
            after = moved(operation, axes, graph.shape(value), graph.shape(result))
            # Where samples and units share a dimension, a bias could no longer be told from a signal.
            if after is None or any("sample" in labels(d) and len(labels(d)) > 1 for d in after):
                break
            axes = after
        else:
            break
        value = result
    return tuple(steps), value, axes


def made_of(start: int, facts: Facts) -> tuple[dict[int, frozenset[int]], list[int]]:
    """What pointwise operations make of one value alone: each such value with those that every way to it goes through,
    and the ones that are handed on to others."""
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
    """The last value through which everything goes that pointwise operations make of a preactivation and hand on.

    Often it is the only one handed on; a norm behind it may also hand on its square. None if that is the preactivation.
    """
    through, leaving = made_of(start, facts)
    if not leaving:
        return None
    shared = frozenset.intersection(*(through[number] for number in leaving))
    last = max(shared, key=lambda number: len(through[number]))
    return None if last == start else last


def _reaches_output(start: int, facts: Facts) -> bool:
    """Whether a value gets into the function's result by pointwise operations, arranging, cutting and joining."""
    seen, waiting = {start}, [start]
    while waiting:
        value = waiting.pop()
        if value in facts.graph.outputs:
            return True
        onward = list(facts.onward(value))
        for operation, position in facts.readers[value]:
            if operation.name in SLICES or operation.name in ("concatenate", "stack"):
                onward += operation.outputs
            elif operation.pointwise or arranges(operation, facts.graph):
                onward.append(operation.output_for(position))
        waiting += [number for number in onward if number not in seen]
        seen.update(onward)
    return False


def _factors(product: Product, facts: Facts) -> tuple[tuple[int, bool], ...]:
    """The out axis as a product, each factor with whether it is later one that products go along, not across.

    That is what a batch dimension of a product is: heads of attention, or the members of an ensemble whose first layers
    all read the same data.
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
            if operation.name == "dot_general":
                _, batch = operation.params["dimension_numbers"]
                batched = [axes[i] for i in batch[position]]
                found.update((d[0].size, d[0].stride) for d in batched if labels(d) == {"out"} and len(d) == 1)
                continue
            if operation.body is not None:
                continue
            for i, output in enumerate(operation.outputs):
                onward = carried(operation, position, i, axes, graph)
                if onward is not None:
                    waiting.append((output, onward))
    found.discard((total, 1))
    rest, factors = total, []
    for size, stride in sorted(found, key=lambda piece: -piece[1]):
        if rest % (size * stride):  # pieces that do not fit into each other: no order of layers
            return ((total, False),)
        factors += [(rest // (size * stride), False), (size, True)]
        rest = stride
    factors.append((rest, False))
    return tuple((size, apart) for size, apart in factors if apart or size > 1) or ((1, False),)
