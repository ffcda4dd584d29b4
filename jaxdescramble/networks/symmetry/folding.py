"""Fold the gains and offsets of norms into the weights and biases that read them."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdescramble._base.checks import is_traced
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.strands import DUAL, number_of
from jaxdescramble.networks.symmetry.charges import beyond, free_sizes
from jaxdescramble.networks.symmetry.deriving import Asked, Derivation, Derived, End
from jaxdescramble.networks.symmetry.groups import Element, Ordered
from jaxdescramble.networks.symmetry.offsets import ARRANGING, moved_offsets
from jaxdescramble.networks.symmetry.streams import symmetries
from jaxdescramble.networks.symmetry.transforming import moved_leaves
from jaxdescramble.networks.tracing import Function


def fold(f: Function, params: PyTree, x: PyTree) -> tuple[PyTree, dict[str, str]]:
    """Return parameters whose gains are 1 and whose norms have offset 0; f computes the same function with them.

    Use it before you rotate a network. The gain of a norm allows only orders of the features; without it, the norm
    allows rotations. A gain that only products with weights read is multiplied into these weights. An offset that only
    products with biases read is moved into these biases. `symmetries(..., at_values=True)` then takes the gains of 1
    and the offsets of 0 for constants, and finds the larger group.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        params, x: parameters and a batch of f. The parameters must not be traced; of x only shapes and types matter.

    Returns:
        Parameters with the structure and the types of `params`, and what was done, by tree path of the gain or offset:
        "multiplied into ...", "moved into ...", or "kept: ..." with the operation that forbids it, and its line.

    Raises:
        TypeError: if f is not a function, or parameters are traced.

    >>> f = lambda p, x: jax.nn.standardize(x @ p["in"]) * p["gain"] @ p["out"]
    >>> params = {"in": jnp.eye(3), "gain": jnp.array([1.0, 2.0, 4.0]), "out": jnp.ones((3, 1))}
    >>> folded, what = fold(f, params, jnp.ones((2, 3)))
    >>> folded["gain"].tolist(), folded["out"].ravel().tolist()
    ([1.0, 1.0, 1.0], [1.0, 2.0, 4.0])
    >>> what
    {"['gain']": "multiplied into ['out']"}

    Source: Ashkboos et al. (2024, arXiv 2401.15024, SliceGPT) fold the gains of norms before they rotate a network.
    """
    known = symmetries(f, params, x)
    if any(map(is_traced, jax.tree.leaves(params))):
        raise TypeError("params: got traced arrays; call fold outside of jit, grad and vmap.")
    derivation = known.derivation
    params, what = moved_offsets(derivation.book.graph, derivation.book.facts, params)
    for derived in derivation.streams:
        group = derived.group
        if not isinstance(group, Ordered):
            continue
        for end in derived.ends:
            factors = _factors(derivation, derived, end)
            if factors:
                params, what[end.path] = _folded(derivation, derived, group, end, factors, params)
    order = [derivation.book.graph.names[number] for number in derivation.book.graph.arguments[0]]
    return params, {path: what[path] for path in order if path in what}


def _factors(derivation: Derivation, derived: Derived, end: End) -> list[Asked]:
    """Return the products of values of the data with a vector of parameters, among what restricts its stream."""
    book = derivation.book
    found = []
    for asked in derived.asked:
        operation = asked.restriction.operation
        if asked.kind == "charges" and operation is not None and operation.name in ("mul", "div"):
            factors = [number for number in operation.inputs if number not in book.facts.data]
            if len(factors) == 1 and _leaf(factors[0], book) == book.graph.arguments[0][end.leaf]:
                found.append(asked)
    return found


def _leaf(number: int, book: Book) -> int:
    """Return the leaf that a value is a whole view of, or the sum of such a view and a constant."""
    while True:
        origin = book.facts.origin.get(number)
        if origin is not None:
            return origin.leaf if not origin.cut else number
        if number not in book.facts.makers:
            return number
        maker = book.facts.makers[number]
        inner = [one for one in maker.inputs if not book.is_known(one)]
        if len(inner) != 1 or maker.name not in (*ARRANGING, "add"):
            return number
        (number,) = inner


def _folded(
    derivation: Derivation, derived: Derived, group: Ordered, end: End, factors: Sequence[Asked], params: PyTree
) -> tuple[PyTree, str]:
    """Return parameters in which a gain is 1, and what was done; or the same parameters, and why not."""
    leaf = np.asarray(jax.tree.leaves(params)[end.leaf], np.float64)
    if not (np.isfinite(leaf).all() and leaf.all()):
        return params, "kept: it has numbers that are 0 or not finite"
    elements: dict[int, Element] = {}
    labels = derivation.book.leaf_labels(derivation.book.graph.arguments[0][end.leaf])
    for gain, label, places in _blocks(derivation, derived, leaf, labels):
        element, why = _element(derived, group, gain, label, factors)
        if element is None or places != group.places:
            return params, f"kept: {why or 'it is the same at all places, where the network is not'}"
        elements |= dict.fromkeys(element.scales, element)
    moved = set(elements)
    into = dict.fromkeys(one.path for one in derived.ends if one.path != end.path and _touched(derivation, one, moved))
    weights = [path for path in into if path in {one.path for one in derived.ends if not one.vector}] or list(into)
    leaves, tree = jax.tree.flatten(moved_leaves(derivation, params, elements))
    leaves[end.leaf] = jnp.ones_like(leaves[end.leaf])  # gain * (1 / gain) is not always 1
    return jax.tree.unflatten(tree, leaves), f"multiplied into {', '.join(weights)}"


def _touched(derivation: Derivation, end: End, strands: set[int]) -> bool:
    book = derivation.book
    dimension = book.axes[book.graph.arguments[0][end.leaf]][end.axis]
    return any(number_of(one) in strands for atom in dimension for one in book.strands.finest(atom.label))


def _blocks(
    derivation: Derivation, derived: Derived, leaf: np.ndarray, labels: Sequence[str]
) -> Iterator[tuple[np.ndarray, str, tuple[int, ...]]]:
    """Yield the parts of a leaf that lie in one stream: numbers of shape (*places, n), their strand, the places."""
    for part in derivation.parts(leaf.shape, labels):
        array = leaf.ravel()[part.where]
        for i, label in enumerate(part.labels):
            if label and number_of(label) in derived.members:
                yield np.moveaxis(array, i, -1), label, tuple(array.shape[:i] + array.shape[i + 1 :])


def _element(
    derived: Derived, group: Ordered, gain: np.ndarray, label: str, factors: Sequence[Asked]
) -> tuple[Element | None, str]:
    """Return the element that makes a gain 1 and moves what it multiplies, or what is multiplied; or why there is none.

    `c_gain = 1 / gain`, and the charge of the product follows; or else the charge of the other factor.
    """
    numbers = [number_of(one) for one in group.strands]
    own, at = number_of(label), {number: j for j, number in enumerate(numbers)}
    why = "what it multiplies is used at other places, too"
    for side in ("product", "factor"):
        powers = np.zeros(len(numbers), int)
        powers[at[own]] = 1
        for asked in factors:
            row = np.zeros(len(numbers), int)
            for one, power in zip(asked.labels, asked.restriction.logs, strict=True):
                row[at[number_of(one)]] += -power if one.endswith(DUAL) else power
            others = asked.labels[-1:] if side == "product" else asked.labels[:-1]
            for one in (at[number_of(other)] for other in others if number_of(other) != own):
                powers[one] = -row[at[own]] * row[one]
        moved = {number for number, power in zip(numbers, powers, strict=True) if power}
        other = [
            one.restriction
            for one in derived.asked
            if one not in factors and one.kind != "contracted" and moved.intersection(map(number_of, one.labels))
        ]
        if not other and not beyond(powers[:, None], group.sizes, free_sizes).shape[1]:
            wanted = gain if label.endswith(DUAL) else 1 / gain
            return Element(scales={n: wanted ** float(powers[at[n]]) for n in moved}), ""
        found = next((one for one in other if one.operation is not None), None)
        if side == "product" and found is not None and found.operation is not None:
            why = f"`{found.operation.equation.primitive.name}` at {found.operation.source} {found.text}"
    return None, why
