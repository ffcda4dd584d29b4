"""Permuting a layer's neurons in its parameters: the same function, the neurons in another order."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxdescramble._base.checks import a_function, numbers
from jaxdescramble.networks.axes import Axes, axis, cut, foreign, labels, moved, moved_back, taken
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.graph import IDENTITY, SLICES, Block, Graph, Operation, trace
from jaxdescramble.networks.layers import find_products, groups

UNIT = "unit"
REDUCTIONS = frozenset({"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"})
# Operations that act along some axes only, with the parameter that says which.
ALONG = {
    "argmax": "axes",
    "argmin": "axes",
    "concatenate": "dimension",
    "cumlogsumexp": "axis",
    "cummax": "axis",
    "cummin": "axis",
    "cumprod": "axis",
    "cumsum": "axis",
    "rev": "dimensions",
    "sort": "dimension",
}
# Pooling: one operand, looked at through a window.
WINDOWS = frozenset({"reduce_window_sum", "reduce_window_max", "reduce_window_min"})
ARRANGING = frozenset({"transpose", "reshape", "squeeze", "broadcast_in_dim"})


def reorder(
    f: Callable[[Any, Any], Any], params: Any, x: Any, name: str, permutation: ArrayLike | Sequence[int]
) -> Any:
    """New parameters in which one layer's neurons stand in another order, and with which f is the same function.

    The layer's weight becomes `weight[permutation]`. The axis of its neurons is followed forward, and all that is met
    on it is permuted with it: biases, norms, the input side of the weights that read it. At the end every use of every
    permuted parameter has been checked.

    Args:
        f, params, x: as for `wiretap`.
        name: a layer's name, as `wiretap` gives it.
        permutation: (out,), each of 0 ... out - 1 once; not traced.

    Returns:
        Parameters of the same structure.

    Raises:
        ValueError: no such layer; not a permutation of its neurons; or the neurons cannot be followed, as where they
            reach the result, are added to another stream, are told apart by a reshape, slice or lookup, meet a constant
            that varies from one to the next, go round a loop or into an attention product, or a parameter is used in a
            second place that would need another order. The message names the operation and its line.

    >>> f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
    >>> params = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[3.0], [4.0]])}
    >>> reorder(f, params, jnp.ones((1, 1)), "['a']", [1, 0])["b"].tolist()
    [[4.0], [3.0]]

    Source: the permutation symmetry of hidden units, Hecht-Nielsen (1990); Amey et al. (2021) for the group S(n).
    """
    a_function(f, "f")
    graph = trace(f, params, x)
    facts = study(graph)
    products, _ = find_products(graph, facts)
    if not isinstance(name, str) or name not in products:
        raise ValueError(f"name: there is no layer {name}; there are {', '.join(products) or 'none'}.")
    product = products[name]
    sizes = [size for size in product.sizes["out"] if size > 1]
    if len(sizes) > 1:
        raise ValueError(
            f"name: the neurons of {name} lie on several axes of its weight, {product.sizes['out']}: "
            "they are not one list that could be permuted."
        )
    size = sizes[0] if sizes else 1
    order = np.asarray(numbers(permutation, "permutation", f"each of 0 ... {size - 1} once"))
    if order.ndim != 1 or not np.issubdtype(order.dtype, np.integer):
        raise TypeError(
            f"permutation: expected each of 0 ... {size - 1} once, got {order.dtype} of shape {order.shape}."
        )
    if order.shape != (size,) or not np.array_equal(np.sort(order), np.arange(size)):
        raise ValueError(
            f"permutation: expected each of 0 ... {size - 1} once, the neurons of {name}; got "
            + (f"shape {order.shape}." if order.shape != (size,) else f"{order.tolist()}.")
        )
    if size == 1:
        return params
    order = order.astype(int)
    passage = _Passage(graph, facts, name, order)
    wanted = tuple(axis(UNIT, size) if labels(d) == {"out"} else () for d in product.weight_axes)
    passage.demand(product.weight, wanted, product.operation)
    passage.settle()
    leaves, tree = jax.tree.flatten(params)
    for i, number in enumerate(graph.arguments[0]):
        if number in passage.leaves:
            leaves[i] = _permuted(jnp.asarray(leaves[i]), passage.leaves[number], order)
    return jax.tree.unflatten(tree, leaves)


def _permuted(array: Array, axes: Axes, order: np.ndarray) -> Array:
    shape = array.shape
    pieces = [(i, j) for i, dimension in enumerate(axes) for j, atom in enumerate(dimension) if atom.label == UNIT]
    for i, j in pieces:
        sizes = [atom.size for atom in axes[i]]
        array = jnp.take(array.reshape(*shape[:i], *sizes, *shape[i + 1 :]), order, axis=i + j).reshape(shape)
    return array


def _has_unit(axes: Axes) -> bool:
    return any(UNIT in labels(dimension) for dimension in axes)


class _Passage:
    """Where the neurons' axis goes: `leaves` are the parameters to permute, `known` the values permuted thereby."""

    def __init__(self, graph: Graph, facts: Facts, name: str, order: np.ndarray):
        self.graph, self.facts, self.name, self.order = graph, facts, name, order
        self.leaves: dict[int, Axes] = {}
        self.known: dict[int, Axes] = {}
        self.fed: dict[int, tuple[Operation, int]] = {}
        self._index(graph)

    def _index(self, block: Block) -> None:
        for operation in block.operations:
            if operation.body is not None:
                self.fed.update({number: (operation, i) for i, number in enumerate(operation.body.inputs)})
                self._index(operation.body)

    def fail(self, operation: Operation, why: str) -> NoReturn:
        primitive = operation.equation.primitive.name
        raise ValueError(f"The neurons of {self.name} cannot be reordered: `{primitive}` at {operation.source} {why}.")

    def settle(self) -> None:
        """Go through the function until no further parameter has to be permuted, then look at the result."""
        before = None
        while before != self.leaves:
            before = dict(self.leaves)
            self.known = dict(self.leaves)
            self.run(self.graph)
        for number in self.graph.outputs:
            if number in self.known:
                maker = self.facts.makers.get(number)
                if maker is None:
                    raise ValueError(
                        f"The neurons of {self.name} cannot be reordered: the function returns its weight."
                    )
                self.fail(maker, "makes the function's result, in which their order shows")

    def axes(self, number: int) -> Axes:
        return self.known.get(number) or foreign(self.graph.shape(number))

    def run(self, block: Block) -> None:
        for operation in block.operations:
            if any(number in self.known for number in operation.reads):
                for number, axes in zip(operation.outputs, self.results(operation), strict=True):
                    if any(a.label == UNIT and a.size != len(self.order) for d in axes for a in d):
                        self.fail(operation, "splits their axis")
                    if _has_unit(axes):
                        self.known[number] = axes

    def results(self, operation: Operation) -> list[Axes]:
        """The axes of an operation's results; parameters that have to be permuted for it are noted."""
        graph, name = self.graph, operation.name
        operands = [self.axes(number) for number in operation.inputs]
        shapes = [graph.shape(number) for number in operation.inputs]
        after = [graph.shape(number) for number in operation.outputs]
        if operation.body is not None:
            return self.scan(operation, operation.body, operands)
        if name in IDENTITY:
            return operands
        if name in ARRANGING:
            axes = moved(operation, operands[0], shapes[0], after[0])
            if axes is None:
                self.fail(operation, "splits their axis")
            return [axes]
        if operation.pointwise or name in ALONG:
            acted = operation.params[ALONG[name]] if name in ALONG else ()
            acted = tuple(int(i) for i in np.atleast_1d(acted))
            if any(UNIT in labels(axes[i]) for axes in operands for i in acted):
                self.fail(operation, "treats them by their place")
            common = self.common(operation, operands, shapes, acted)
            if name in ("argmax", "argmin"):
                common = tuple(d for i, d in enumerate(common) if i not in acted)
            return [
                tuple(d if UNIT in labels(d) else axis("", n) for d, n in zip(common, s, strict=True)) for s in after
            ]
        if name in REDUCTIONS:
            return [tuple(d for i, d in enumerate(operands[0]) if i not in operation.params["axes"])]
        if name in SLICES:
            if any(self.takes_out(operation, i, operands[0]) for i in range(len(after))):
                self.fail(operation, "takes out some of them")
            return [cut(operation, i, operands[0], shapes[0]) for i in range(len(after))]
        if name == "stack":
            place, common = operation.params["axis"], self.common(operation, operands, shapes, ())
            return [self.padded((*common[:place], (), *common[place:]), after[0])]
        if name == "dot_general":
            return [self.product(operation, operands)]
        if name == "conv_general_dilated":
            return [self.convolution(operation, operands, after[0])]
        if name in WINDOWS:
            if any(
                UNIT in labels(d) and n > 1
                for d, n in zip(operands[0], operation.params["window_dimensions"], strict=True)
            ):
                self.fail(operation, "treats them by their place")
            return [tuple(d if UNIT in labels(d) else axis("", n) for d, n in zip(operands[0], after[0], strict=True))]
        self.fail(operation, "is none of the operations that they can be followed through")

    def common(
        self, operation: Operation, operands: list[Axes], shapes: list[tuple[int, ...]], acted: tuple[int, ...]
    ) -> Axes:
        """The axes on which all operands of a pointwise operation have to agree."""
        rank = max(map(len, shapes))
        result = []
        for i in range(rank):
            found = {axes[i] for axes in operands if len(axes) == rank and UNIT in labels(axes[i])}
            if len(found) > 1:
                self.fail(operation, "brings them together with themselves in another arrangement")
            result.append(found.pop() if found else ())
        for number, axes, shape in zip(operation.inputs, operands, shapes, strict=True):
            if len(shape) == rank:
                pairs = enumerate(zip(result, shape, strict=True))
                needed = tuple(d if size > 1 and i not in acted else () for i, (d, size) in pairs)
                self.satisfy(number, axes, needed, operation)
        return tuple(result)

    def product(self, operation: Operation, operands: list[Axes]) -> Axes:
        contract, batch = operation.params["dimension_numbers"]
        needed = [list(operands[0]), list(operands[1])]
        for i, j in [*zip(*contract, strict=True), *zip(*batch, strict=True)]:
            left, right = operands[0][i], operands[1][j]
            if UNIT in labels(left) and UNIT in labels(right) and left != right:
                self.fail(operation, "brings them together with themselves in another arrangement")
            needed[0][i] = needed[1][j] = left if UNIT in labels(left) else right
        for k in (0, 1):
            self.satisfy(operation.inputs[k], operands[k], tuple(needed[k]), operation)
        free = [[d for i, d in enumerate(needed[k]) if i not in contract[k] and i not in batch[k]] for k in (0, 1)]
        return (*(needed[0][i] for i in batch[0]), *free[0], *free[1])

    def convolution(self, operation: Operation, operands: list[Axes], shape: tuple[int, ...]) -> Axes:
        """Channels in are met by the weight's; channels out are the weight's own. In groups: of one channel each."""
        numbers, count = operation.params["dimension_numbers"], groups(operation)
        data, weight = operands
        (_, channel), (out, into) = numbers.lhs_spec[:2], numbers.rhs_spec[:2]
        places = [*(data[i] for i in numbers.lhs_spec if i != channel), *(weight[i] for i in numbers.rhs_spec[2:])]
        if any(UNIT in labels(d) for d in places):
            self.fail(operation, "treats them by their place")
        needed = list(weight)
        apart = self.graph.shape(operation.inputs[1])[out] == count
        if UNIT in labels(data[channel]):
            if count > 1 and not apart:
                self.fail(operation, "brings them together in groups")
            needed[out if count > 1 else into] = data[channel]
        met = list(data)
        if UNIT in labels(weight[into]) or (count > 1 and UNIT in labels(weight[out])):
            if count > 1 and (not apart or UNIT in labels(weight[into])):
                self.fail(operation, "brings them together in groups")
            met[channel] = weight[out if count > 1 else into]
        if UNIT in labels(data[channel]) and met[channel] != data[channel]:
            self.fail(operation, "brings them together with themselves in another arrangement")
        self.satisfy(operation.inputs[0], data, tuple(met), operation)
        self.satisfy(operation.inputs[1], weight, tuple(needed), operation)
        result = list(foreign(shape))
        result[numbers.out_spec[1]] = needed[out]
        return tuple(result)

    def scan(self, operation: Operation, body: Block, operands: list[Axes]) -> list[Axes]:
        for i, (number, axes) in enumerate(zip(body.inputs, operands, strict=True)):
            if _has_unit(axes if i < operation.carries else axes[:1]):
                self.fail(operation, "carries them round" if i < operation.carries else "goes through them one by one")
            if _has_unit(axes):
                self.known[number] = axes[1:]
        self.run(body)
        result = []
        for i, number in enumerate(body.outputs):
            axes = self.axes(number)
            if i < operation.carries and _has_unit(axes):
                self.fail(operation, "carries them round")
            result.append(axes if i < operation.carries else (axis("", operation.params["length"]), *axes))
        return result

    def satisfy(self, number: int, axes: Axes, needed: Axes, operation: Operation) -> None:
        missing = tuple(n if UNIT in labels(n) and n != d else () for d, n in zip(axes, needed, strict=True))
        self.demand(number, missing, operation)

    def demand(self, number: int, axes: Axes, operation: Operation) -> None:
        """See to it that a value comes out permuted like this: permute the parameters it is made of, or fail.

        Data is never permuted on demand; what of it is met has to be the same for all neurons, spread out over them.
        """
        if not _has_unit(axes):
            return
        graph, facts = self.graph, self.facts
        from_data = number in facts.data
        if number in graph.constants:
            array = jnp.asarray(graph.constants[number])
            if not np.array_equal(
                np.asarray(array), np.asarray(_permuted(array, self.filled(number, axes), self.order))
            ):
                self.fail(operation, "meets them with a constant that varies from one to the next")
            return
        if number in graph.arguments[0]:
            self.assign(number, axes, operation)
            return
        if number in self.fed:
            loop, i = self.fed[number]
            if i < loop.carries:
                self.fail(loop, "carries them round")
            self.demand(loop.inputs[i], ((), *axes), operation)
            return
        maker = self.facts.makers.get(number)
        back = None if maker is None else self.operands(maker, number, self.filled(number, axes), from_data)
        if maker is None or back is None:
            self.fail(
                operation,
                "brings them together with other data (another stream, attention, or a second use of one parameter)"
                if from_data
                else "meets them with a value that is not arranged by them",
            )
        for operand, needed in zip(maker.inputs, back, strict=True):
            self.demand(operand, needed, operation)

    def takes_out(self, operation: Operation, output: int, axes: Axes) -> bool:
        shape = self.graph.shape(operation.inputs[0])
        spans = zip(axes, taken(operation, output), shape, strict=True)
        return any(UNIT in labels(dimension) and span != (0, size, 1) for dimension, span, size in spans)

    def padded(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """The same axes with the sizes of those that do not matter."""
        return tuple(d if UNIT in labels(d) else other for d, other in zip(axes, foreign(shape), strict=True))

    def filled(self, number: int, axes: Axes) -> Axes:
        return self.padded(axes, self.graph.shape(number))

    def operands(self, maker: Operation, number: int, axes: Axes, from_data: bool) -> list[Axes] | None:
        """What has to be permuted in an operation's operands for its result to be permuted like this."""
        shapes = [self.graph.shape(operand) for operand in maker.inputs]
        after = self.graph.shape(number)
        if maker.name in IDENTITY:
            return [axes if maker.output_for(i) == number else () for i in range(len(shapes))]
        if maker.name in ARRANGING:
            back = moved_back(maker, axes, shapes[0], after)
            return None if back is None else [back]
        if maker.pointwise:
            return [
                tuple(d if n > 1 else () for d, n in zip(axes, shape, strict=True)) if shape else () for shape in shapes
            ]
        if maker.name in REDUCTIONS:
            rest = iter(axes)
            return [tuple(() if i in maker.params["axes"] else next(rest) for i in range(len(shapes[0])))]
        if maker.name in SLICES:
            back = list(axes)
            if maker.name == "unstack":
                back.insert(maker.params["axis"], ())
            return None if self.takes_out(maker, maker.outputs.index(number), tuple(back)) else [tuple(back)]
        if maker.name == "iota":
            return None if UNIT in labels(axes[maker.params["dimension"]]) else []
        if maker.name == "dot_general" and not from_data:
            contract, batch = maker.params["dimension_numbers"]
            rest, result = iter(axes[len(batch[0]) :]), []
            for k in (0, 1):
                shared = {i: axes[batch[k].index(i)] for i in batch[k]}
                dimensions = range(len(shapes[k]))
                result.append(
                    tuple(shared[i] if i in batch[k] else () if i in contract[k] else next(rest) for i in dimensions)
                )
            return result
        return None

    def assign(self, leaf: int, axes: Axes, operation: Operation) -> None:
        merged = []
        for old, new in zip(self.leaves.get(leaf, axes), axes, strict=True):
            if UNIT in labels(old) and UNIT in labels(new) and old != new:
                self.fail(operation, f"needs {self.graph.names[leaf]} in two orders at once")
            merged.append(old if UNIT in labels(old) else new)
        self.leaves[leaf] = self.filled(leaf, tuple(merged))
