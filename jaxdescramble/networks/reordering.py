"""Permute a layer's neurons in its parameters: the same function, the neurons in another order."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxdescramble._base.checks import a_function, numbers
from jaxdescramble.networks.axes import FOREIGN, Axes, axis, foreign, labels
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.flows import axes_outside, carry_forward
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.kind import UNIT, OrderMattersError, has_unit, padded
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.tracing import trace


def reorder(
    f: Callable[[Any, Any], Any], params: Any, x: Any, name: str, permutation: ArrayLike | Sequence[int]
) -> Any:
    """Return parameters in which one layer's neurons stand in another order; f is the same function with them.

    The layer's weight becomes `weight[permutation]`. The axis of its neurons is followed forward, and everything that
    it meets is permuted with it: biases, norms, the input side of the weights that read it. At the end every use of
    every permuted parameter has been checked.

    Args:
        f, params, x: as for `wiretap`.
        name: a layer's name, as `wiretap` gives it.
        permutation: (out,), each of 0 ... out - 1 once; not traced. A layer with leading axes (`Layout.lead`), such as
            a convolution in groups, is permuted in the same way at every place along these axes.

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
    wanted = tuple(
        tuple(atom for a in d for atom in axis(UNIT if a.label == "out" else FOREIGN, a.size))
        if "out" in labels(d)
        else ()
        for d in product.weight_axes
    )
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


class _Passage:
    """Where the neurons' axis goes: `leaves` are the parameters to permute, `known` the values that this permutes."""

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
            carry_forward(self.graph, self.known, self.step, self.enter, self.leave)
        for number in self.graph.outputs:
            if number in self.known:
                maker = self.facts.makers.get(number)
                if maker is None:
                    raise ValueError(
                        f"The neurons of {self.name} cannot be reordered: the function returns its weight."
                    )
                self.fail(maker, "computes the function's result, which would show their order")

    def axes(self, number: int) -> Axes:
        return self.known.get(number) or foreign(self.graph.shape(number))

    def step(self, operation: Operation) -> None:
        if not any(number in self.known for number in operation.reads):
            return
        for number, axes in zip(operation.outputs, self.results(operation), strict=True):
            if any(a.label == UNIT and a.size != len(self.order) for d in axes for a in d):
                self.fail(operation, "splits their axis")
            if has_unit(axes):
                self.known[number] = axes

    def enter(self, scan: Operation, position: int, axes: Axes) -> Axes:
        if has_unit(axes if position < scan.carries else axes[:1]):
            self.fail(scan, "carries them from step to step" if position < scan.carries else "reads them one by one")
        return axes[1:]

    def leave(self, scan: Operation, position: int, axes: Axes) -> Axes:
        if position < scan.carries:
            self.fail(scan, "carries them from step to step")
        return axes_outside(scan, position, axes)

    def results(self, operation: Operation) -> Sequence[Axes]:
        """Return the axes of an operation's results; note the parameters that must be permuted for it."""
        operands = [self.axes(number) for number in operation.inputs]
        try:
            results, needed = kind_of(operation).permuted(operation, operands, self.graph)
        except OrderMattersError as why:
            self.fail(operation, str(why))
        for number, axes, wanted in zip(operation.inputs, operands, needed or operands, strict=True):
            self.satisfy(number, axes, wanted, operation)
        return results

    def satisfy(self, number: int, axes: Axes, needed: Axes, operation: Operation) -> None:
        missing = tuple(n if UNIT in labels(n) and n != d else () for d, n in zip(axes, needed, strict=True))
        self.demand(number, missing, operation)

    def demand(self, number: int, axes: Axes, operation: Operation) -> None:
        """Permute the parameters that a value is made of so that the value is permuted like this, or fail.

        Data is never permuted on demand: data that meets the neurons must be the same for all of them.
        """
        if not has_unit(axes):
            return
        graph, facts = self.graph, self.facts
        from_data = number in facts.data
        if number in graph.constants:
            array = jnp.asarray(graph.constants[number])
            if not np.array_equal(
                np.asarray(array), np.asarray(_permuted(array, self.filled(number, axes), self.order))
            ):
                self.fail(operation, "combines them with a constant that is not the same for all of them")
            return
        if number in graph.arguments[0]:
            self.assign(number, axes, operation)
            return
        if number in self.fed:
            loop, i = self.fed[number]
            if i < loop.carries:
                self.fail(loop, "carries them from step to step")
            self.demand(loop.inputs[i], ((), *axes), operation)
            return
        maker = self.facts.makers.get(number)
        back = None if maker is None else self.operands(maker, number, self.filled(number, axes), from_data)
        if maker is None or back is None:
            self.fail(
                operation,
                "combines them with other data (another stream, attention, or a second use of one parameter)"
                if from_data
                else "combines them with a value that cannot be permuted",
            )
        for operand, needed in zip(maker.inputs, back, strict=True):
            self.demand(operand, needed, operation)

    def filled(self, number: int, axes: Axes) -> Axes:
        return padded(axes, self.graph.shape(number))

    def operands(self, maker: Operation, number: int, axes: Axes, from_data: bool) -> Sequence[Axes] | None:
        """Return what must be permuted in an operation's operands for its result to be permuted like this."""
        kind = kind_of(maker)
        if kind.is_product and from_data:
            return None
        return kind.permuted_back(maker, maker.outputs.index(number), axes, self.graph)

    def assign(self, leaf: int, axes: Axes, operation: Operation) -> None:
        merged = []
        for old, new in zip(self.leaves.get(leaf, axes), axes, strict=True):
            if UNIT in labels(old) and UNIT in labels(new) and old != new:
                self.fail(operation, f"needs {self.graph.names[leaf]} in two orders at once")
            merged.append(old if UNIT in labels(old) else new)
        self.leaves[leaf] = self.filled(leaf, tuple(merged))
