"""Permute the neurons of a layer in the parameters, so that the function stays the same."""

from collections.abc import Sequence
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import a_function, numbers
from jaxdescramble.networks.axes import FOREIGN, Axes, axis, foreign, labels
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.flows import axes_outside, carry_forward
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.kind import UNIT, OrderMattersError, has_unit, padded
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.tracing import Function, trace


def reorder(f: Function, params: PyTree, x: PyTree, name: str, permutation: ArrayLike | Sequence[int]) -> PyTree:
    """Return new parameters in which the neurons of one layer have another order; f computes the same function.

    Use it to write an order that you found, such as the one of `descramble(group="permutation")`, into the network. The
    weight of the layer becomes `weight[permutation]`. All other parameters that belong to these neurons are permuted
    too: biases, scales of norms, and the input side of the weights of the next layers. The function finds them by
    following the neurons forward through f, and checks every use of every parameter that it permutes.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        params, x: parameters and a batch of f.
        name: name of a layer, from `wiretap`. The order of an output layer cannot change.
        permutation: the new order, shape (out,), each of 0 ... out - 1 once; not traced. If the layer has leading axes
            (`Layout.lead`), such as the groups of a convolution, the same order is used at every place along them.

    Returns:
        Parameters with the structure of `params`.

    Raises:
        TypeError: if `permutation` is not a list of integers.
        ValueError: if there is no such layer; if `permutation` is not a permutation of its neurons; or if the order
            matters to an operation of f. The message names this operation and its line. The order matters if the
            neurons

            - reach the result of f;
            - are added to another stream, as at the end of a residual block (hidden layers inside the block are fine);
            - are treated differently by a reshape, slice or lookup;
            - are combined with a constant that is not the same for all neurons;
            - are carried from step to step by a loop, or enter a product of attention;
            - use a parameter that is used a second time and would need another order there.

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
    """The way of the neurons' axis through f: `leaves` are the parameters to permute, `known` the permuted values."""

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
        """Go through f until no further parameter must be permuted; then check that its result is not permuted."""
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
        """Permute the parameters that a value is computed from, so that the value is permuted along `axes`; or fail.

        Data is never permuted on demand: data that is combined with the neurons must be the same for all of them.
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
        """Return the axes to permute in the operands of an operation, so that its result is permuted along `axes`."""
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
