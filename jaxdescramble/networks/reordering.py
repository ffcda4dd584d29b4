"""Permute the neurons of a layer in the parameters, so that the function stays the same."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import a_function, numbers
from jaxdescramble.networks.axes import Atom, labels
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.kinds.products import Product
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.strands import SUM, number_of
from jaxdescramble.networks.symmetry.deriving import Derivation, strands_of
from jaxdescramble.networks.symmetry.transforming import moved_leaves
from jaxdescramble.networks.symmetry.walking import read
from jaxdescramble.networks.tracing import Function

ORDER = "depends on their order"
ORDER_HINT = (
    " Reorder another layer, or replace this operation by one that treats all neurons alike, such as a sum, a maximum, "
    "or `jnp.sort` of one array."
)


def reorder(f: Function, params: PyTree, x: PyTree, name: str, permutation: ArrayLike | Sequence[int]) -> PyTree:
    """Return new parameters in which the neurons of one layer have another order; f computes the same function.

    Use it to write an order that you found, such as the one of `descramble(group="permutation")`, into the network. The
    weight of the layer becomes `weight[permutation]`; its columns move too if the layer reads its own neurons. All
    other parameters of the neurons' stream are permuted as well: biases, scales of norms, the input side of the weights
    of the next layers, and all that writes to a residual stream. It is short for `transform` with this order for the
    stream of the layer's neurons.

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
            matters to an operation of f: the neurons reach the result of f, are treated differently by a reshape, slice
            or lookup, are combined with a constant that is not the same for all of them, or share a parameter with
            axes of another order. The message names this operation and its line.

    >>> f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
    >>> params = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[3.0], [4.0]])}
    >>> reorder(f, params, jnp.ones((1, 1)), "['a']", [1, 0])["b"].tolist()
    [[4.0], [3.0]]

    See also: `symmetries`, `transform`, which also rotates and scales.

    Source: the permutation symmetry of hidden units, Hecht-Nielsen (1990); Amey et al. (2021) for the group S(n).
    """
    a_function(f, "f")
    derivation = Derivation(read(f, params, x))
    products, _ = find_products(derivation.book.graph, derivation.book.facts)
    if not isinstance(name, str) or name not in products:
        raise ValueError(f"name: there is no layer {name}; there are {', '.join(products) or 'none'}.")
    order = _order(products[name], permutation)
    if len(order) == 1:
        return params
    own = _labels(derivation, products[name])
    finest = {one for label in own for one in derivation.book.strands.finest(label)}
    if len(own) != 1 or len(finest) != 1:
        _fail_at(name, *_split(derivation, own))
    stream = derivation.stream_of[number_of(finest.pop())]
    derived = next((one for one in derivation.streams if one.number == stream), None)
    if derived is not None:
        try:
            element = derived.group.given(order)
        except ValueError:
            derived = None
        else:
            return moved_leaves(derivation, params, dict.fromkeys(strands_of(derived.group), element))
    reasons = [
        one.restriction for one in derivation.asked.get(stream, ()) if one.kind in ("pinned", "fixes", "cofixes")
    ]
    if not reasons:
        raise ValueError(f"The neurons of {name} cannot be reordered: no parameter could take the order up.")
    first = min(reasons, key=lambda one: (not one.text.startswith(ORDER), one.operation is None))
    _fail_at(name, first.operation, first.text)


def _order(product: Product, permutation: ArrayLike | Sequence[int]) -> np.ndarray:
    """Return an order that a user gave, checked."""
    sizes = [size for size in product.sizes["out"] if size > 1]
    if len(sizes) > 1:
        raise ValueError(
            f"name: the neurons of {product.name} lie on several axes of its weight, {product.sizes['out']}: "
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
            f"permutation: expected each of 0 ... {size - 1} once, the neurons of {product.name}; got "
            + (f"shape {order.shape}." if order.shape != (size,) else f"{order.tolist()}.")
        )
    return order.astype(int)


def _labels(derivation: Derivation, product: Product) -> list[str]:
    """Return the strands along which a layer's neurons lie."""
    axes = derivation.book.of(product.operation.outputs[0])
    found: list[tuple[Atom, ...]] = []
    for dimension, names in zip(axes, product.axes, strict=True):
        if [atom.size for atom in dimension] == [atom.size for atom in names]:
            found += [(atom,) for atom, name in zip(dimension, names, strict=True) if name.label == "out"]
        elif "out" in labels(names):
            found.append(dimension)
    return derivation.book.labels(found)


def _split(derivation: Derivation, found: Sequence[str]) -> tuple[Operation | None, str]:
    """Return the operation that splits an axis into parts with orders of their own, and what it does."""
    strands = derivation.book.strands
    for label in found:
        for strand in strands.all:
            if (
                strand.parts
                and strand.cause is not None
                and set(strands.finest(label)) <= {part for own in strand.parts for part in strands.finest(own)}
            ):
                text = "splits their axis into parts, such as heads, that have orders of their own"
                return strand.cause, "selects some of them" if strand.how == SUM else text
    return None, "are not on one axis of their own"


def _fail_at(name: str, operation: Operation | None, text: str) -> NoReturn:
    where = "their axis" if operation is None else f"`{operation.equation.primitive.name}` at {operation.source}"
    hint = ORDER_HINT if text.startswith(ORDER) else ""
    raise ValueError(f"The neurons of {name} cannot be reordered: {where} {text}.{hint}")
