"""Move a network's parameters to another frame."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxdescramble._base.checks import is_traced
from jaxdescramble.networks.strands import number_of
from jaxdescramble.networks.symmetry.deriving import Derivation, strands_of
from jaxdescramble.networks.symmetry.groups import Element
from jaxdescramble.networks.symmetry.moving import Mover
from jaxdescramble.networks.symmetry.streams import Stream, symmetries
from jaxdescramble.networks.tracing import Function


def transform(
    f: Function, params: PyTree, x: PyTree, elements: Mapping[str, object], *, at_values: bool = False
) -> PyTree:
    """Return parameters in another frame; f computes the same function with them.

    Use it to write a frame that you found into a network: an order of hidden neurons, a rotation of a residual stream,
    scales that even out the weights. Numbers are moved in float64 on the host; the types of the leaves stay.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        params, x: parameters and a batch of f. The parameters must not be traced.
        elements: for some streams of `symmetries(f, params, x)`, by name, an element of the stream's group: an order
            (n whole numbers), a matrix (n, n), scales (n numbers), or what `Stream.random` returns. Where the group
            acts at each of several places, such as heads, an array with these leading axes, or one element for all.
        at_values: whether the streams are those of `symmetries(..., at_values=True)`.

    Returns:
        Parameters with the structure and the types of `params`.

    Raises:
        TypeError: if f is not a function, `elements` is not a mapping, or parameters are traced.
        ValueError: if there is no such stream, or an element is not in its group. The message names the operation that
            forbids it, and its line.

    >>> f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
    >>> params = {"a": jnp.array([[1.0, 2.0]]), "b": jnp.array([[3.0], [4.0]])}
    >>> moved = transform(f, params, jnp.ones((1, 1)), {"['a']": jnp.asarray([-1.0, 1.0])})
    >>> moved["a"].tolist(), moved["b"].tolist()
    ([[-1.0, 2.0]], [[-3.0], [4.0]])

    Source: Ashkboos et al. (2024, arXiv 2404.00456) for rotations of transformers.
    """
    if not isinstance(elements, Mapping):
        raise TypeError(f"elements: expected a mapping from names of streams, got {type(elements).__name__}.")
    if any(map(is_traced, jax.tree.leaves(params))):
        raise TypeError("params: got traced arrays; call transform outside of jit, grad and vmap.")
    known = symmetries(f, params, x, at_values=at_values)
    by_strand: dict[int, Element] = {}
    for name, value in elements.items():
        if name not in known:
            raise ValueError(f"elements: there is no stream {name!r}; there are {', '.join(known) or 'none'}.")
        element = _element(known[name], value)
        by_strand.update(dict.fromkeys(strands_of(known[name].group), element))
    return moved_leaves(known.derivation, params, by_strand)


def moved_leaves(derivation: Derivation, params: PyTree, elements: Mapping[int, Element]) -> PyTree:
    """Return parameters after elements have acted on them; `elements` are those of strands, by number."""
    book = derivation.book
    mover = Mover(book.strands, elements, derivation.stream_of, derivation.places)
    leaves, tree = jax.tree.flatten(params)
    moved = []
    for leaf, number in zip(leaves, book.graph.arguments[0], strict=True):
        labels = book.leaf_labels(number)
        touched = {number_of(one) for label in labels if label for one in book.strands.finest(label)}
        moved.append(leaf if touched.isdisjoint(elements) else _moved(leaf, labels, mover))
    return jax.tree.unflatten(tree, moved)


def _element(stream: Stream, value: object) -> Element:
    """Return an element that was given as an array, or raise an error that says what forbids it."""
    if isinstance(value, Element):
        own, n = set(strands_of(stream.group)), stream.size
        order = value.order is None or value.order.shape == (*stream.group.places, n)
        arrays = [*value.scales.values(), *value.matrices.values()]
        if not (order and own.issuperset({*value.scales, *value.matrices}) and all(a.shape[-1] == n for a in arrays)):
            raise ValueError(f"elements: that of {stream.name} belongs to another stream, or to another network.")
        return value
    try:
        return stream.group.given(np.asarray(value))
    except ValueError as error:
        reasons = "".join(f"\n- {reason}" for reason in stream.why)
        raise ValueError(
            f"elements: that of {stream.name} {error}. Its group is {stream.group.name}"
            + (f", because{reasons}" if reasons else ".")
        ) from None


def _moved(leaf: Array, labels: list[str], mover: Mover) -> Array:
    array = np.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return jnp.asarray(mover.move(array, labels), array.dtype)
    wide = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
    return jnp.asarray(mover.move(wide, labels)).astype(array.dtype)
