"""Convolutions: products of a kernel with the patches that its window sees."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdescramble.networks._places import Steps, constant
from jaxdescramble.networks.axes import FOREIGN, Atom, Axes, axis, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation, operand_shapes
from jaxdescramble.networks.kinds._meeting import summed
from jaxdescramble.networks.kinds.kind import Reaches
from jaxdescramble.networks.kinds.pooling import centred
from jaxdescramble.networks.kinds.products import LayerKind, Product, spread
from jaxdescramble.networks.strands import PRODUCT, UnevenError


class Convolution(LayerKind):
    """`conv_general_dilated` of all channels together, read as a product of its kernel with the patches that it sees.

    In a tap, "out" counts its output channels, "in" counts (input channels, *window), and samples count
    (batch, *positions). The kernel is the second operand.
    """

    primitives = frozenset({"conv_general_dilated"})
    weight_sides = (1,)
    reads_patches = True
    why_no_inputs = "is a convolution, whose patches overlap: a Q for its patches does not act on its input"

    def holds(self, operation: Operation) -> bool:
        return operation.params["feature_group_count"] == operation.params["batch_group_count"] == 1

    def outer_channels(self, operation: Operation) -> tuple[tuple[str, int], ...]:
        """Return label and size of the outer part of the channels, if each of its places has its own kernel."""
        return ()

    def product(self, name: str, operation: Operation, side: int, leaf: int, graph: Graph) -> Product:
        numbers, groups = operation.params["dimension_numbers"], self.outer_channels(operation)
        weight, data = graph.shape(operation.inputs[1]), graph.shape(operation.inputs[0])
        result, count = graph.shape(operation.outputs[0]), math.prod(size for _, size in groups)
        places = [result[i] for i in numbers.out_spec[2:]]
        sizes = {label: (size,) for label, size in groups} | {
            "out": (weight[numbers.rhs_spec[0]] // count,),
            "in": tuple(weight[i] for i in numbers.rhs_spec[1:]),
            "sample": (data[numbers.lhs_spec[0]], *places),
        }

        def laid(spec: Sequence[int], *dimensions: tuple[Atom, ...]) -> Axes:
            """Put (batch or out, features or in, *spatial) in the order in which the array has them."""
            return tuple(dimensions[spec.index(i)] for i in range(len(spec)))

        outer = tuple(atom for label, size in groups for atom in axis(label, size))
        out, samples = (*outer, *axis("out", *sizes["out"])), spread("sample", sizes["sample"])
        # The patches' features are channels with the window's places inside, which is the order of "in".
        patches = laid(numbers.out_spec, samples[0], (*outer, *axis("in", math.prod(sizes["in"]))), *samples[1:])
        axes = laid(numbers.out_spec, samples[0], out, *samples[1:])
        kernel = laid(numbers.rhs_spec, out, *spread("in", sizes["in"]))
        return Product(self, name, operation, side, leaf, kernel, patches, axes, sizes)

    def window(self, product: Product) -> tuple[int, ...]:
        return product.sizes["in"][1:]

    def patches(self, operation: Operation, operands: Sequence[Array]) -> Array:
        params, numbers = operation.params, operation.params["dimension_numbers"]
        shape = operand_shapes(operation.equation)[1]
        places = jnp.transpose(operands[0], numbers.lhs_spec)
        edges = [(*pad, dilation - 1) for pad, dilation in zip(params["padding"], params["lhs_dilation"], strict=True)]
        places = jax.lax.pad(places, jnp.zeros((), places.dtype), [(0, 0, 0), (0, 0, 0), *edges])
        dimensions = len(edges)
        # Copies. `jax.lax.conv_general_dilated_patches` multiplies by a kernel of zeros and ones: far slower.
        for d in range(dimensions):
            window = np.arange(shape[numbers.rhs_spec[2 + d]]) * params["rhs_dilation"][d]
            first = np.arange(0, places.shape[2 + 2 * d] - window[-1], params["window_strides"][d])
            places = jnp.take(places, window[:, None] + first[None, :], axis=2 + 2 * d)
        windows, positions = range(2, 2 + 2 * dimensions, 2), range(3, 3 + 2 * dimensions, 2)
        places = jnp.transpose(places, (0, 1, *windows, *positions))
        features = math.prod(places.shape[1 : 2 + dimensions])
        places = places.reshape(places.shape[0], features, *places.shape[2 + dimensions :])
        return jnp.transpose(places, np.argsort(numbers.out_spec).tolist())

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        numbers, result = operation.params["dimension_numbers"], list(foreign(graph.shape(operation.outputs[0])))
        if position == 0:
            result[numbers.out_spec[0]] = axes[numbers.lhs_spec[0]]
        return tuple(result)

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        """Assign each position of the result to the middle of its window, if there is one window for each position."""
        params, numbers = operation.params, operation.params["dimension_numbers"]
        if position != 0 or steps[numbers.lhs_spec[1]]:
            return None
        before, after = graph.shape(operation.inputs[0]), graph.shape(operation.outputs[0])
        result = constant(after)
        result[numbers.out_spec[0]] = steps[numbers.lhs_spec[0]]
        window = [graph.shape(operation.inputs[1])[i] for i in numbers.rhs_spec[2:]]
        for n, (i, j) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)):
            reach = (window[n] - 1) * params["rhs_dilation"][n] + 1
            at = (reach, params["window_strides"][n], params["padding"][n], params["lhs_dilation"][n])
            if steps[i] and not centred(*at, same=before[i] == after[j]):
                return None
            result[j] = steps[i]
        return result

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        if position != 0:
            return {}
        params, numbers = operation.params, operation.params["dimension_numbers"]
        window = [graph.shape(operation.inputs[1])[i] for i in numbers.rhs_spec[2:]]
        found = {}
        for a, one in reach.items():
            if one.axis not in numbers.lhs_spec[2:]:
                continue
            i = numbers.lhs_spec[2:].index(one.axis)
            if params["lhs_dilation"][i] == 1:
                stride, (low, _) = params["window_strides"][i], params["padding"][i]
                found[a] = one.windowed(numbers.out_spec[2 + i], window[i], stride, low, params["rhs_dilation"][i])
        return found

    def multiplications(self, operation: Operation, graph: Graph) -> int:
        return multiplications(operation, graph)

    def ties(self, operation: Operation, book: Book) -> None:
        numbers, (data, kernel) = operation.params["dimension_numbers"], operation.inputs
        book.use(data)
        book.use(kernel)
        # Channels that other dimensions hold, too, as before a pixel shuffle, are split first.
        book.strands.whole(book.filled(data), [numbers.lhs_spec[1]])
        axes, weight = book.filled(data), book.filled(kernel)
        result = list(book.spread(operation.outputs[0]))
        shape = book.graph.shape(operation.outputs[0])
        for i, j in zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True):
            result[j] = book.lost(axes[i], shape[j], "slides a window over them")
        book.pin(book.labels(weight[i] for i in numbers.rhs_spec[2:]), "are the places of its window")
        result[numbers.out_spec[0]] = axes[numbers.lhs_spec[0]]
        channels, into, out = axes[numbers.lhs_spec[1]], weight[numbers.rhs_spec[1]], weight[numbers.rhs_spec[0]]
        result[numbers.out_spec[1]] = _channels(
            book, operation.inputs, channels, into, out, operation.params["feature_group_count"]
        )
        book.axes[operation.outputs[0]] = tuple(result)


def multiplications(operation: Operation, graph: Graph) -> int:
    """Return how many numbers a convolution multiplies: for each result those that its window sees."""
    kernel, shape = operation.params["dimension_numbers"].rhs_spec, graph.shape(operation.inputs[1])
    return math.prod(graph.shape(operation.outputs[0])) * math.prod(shape[i] for i in kernel[1:])


def _channels(
    book: Book,
    numbers: Sequence[int],
    channels: Sequence[Atom],
    into: Sequence[Atom],
    out: Sequence[Atom],
    groups: int,
) -> tuple[Atom, ...]:
    """Tie the channels of a convolution, and return those of its result."""
    if groups > 1:
        for first in (dimension[0] for dimension in (channels, out) if dimension):
            if first.label != FOREIGN and first.size != groups:
                size = book.strands.size(first.label)
                book.strands.refine(first.label, PRODUCT, [groups, size // groups])
        channels, out = (book.strands.current((tuple(one),))[0] for one in (channels, out))
        mine, theirs = _front(channels, groups), _front(out, groups)
        if mine is None or theirs is None:
            raise UnevenError("mixes them in groups")
        group = mine.label or theirs.label
        if mine.label and theirs.label:
            group = book.strands.new(groups)
            text = "has a kernel for each group of them"
            book.charges([mine.label, theirs.label, group], (1, 1, -1), (1, 1, 1), text)
        channels, out = channels[1:], (Atom(group, groups, 1), *out[1:])
    summed(book, numbers, [[channels], [into]])
    return book.strands.current((tuple(out),))[0]


def _front(dimension: Sequence[Atom], size: int) -> Atom | None:
    """Return the slowest atom of a dimension if it has this size."""
    return dimension[0] if dimension and dimension[0].size == size else None


KINDS = (Convolution(),)
