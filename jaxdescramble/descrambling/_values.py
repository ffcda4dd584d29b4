"""The values of a network, with the strands of their axes: activations for `match`, signals for symmetric frames."""

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxdescramble.networks.axes import FOREIGN, Atom
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.strands import number_of
from jaxdescramble.networks.symmetry.deriving import Derivation


def last_values(derivation: Derivation) -> dict[int, int]:
    """Return by strand the last value that has it: what the next weights read, or the end of a residual stream."""
    book = derivation.book
    found: dict[int, int] = {}
    for value, axes in book.axes.items():
        if value in book.facts.data and value not in book.graph.inputs and np.prod(book.graph.shape(value)):
            for label in book.labels(axes):
                found |= dict.fromkeys(map(number_of, book.strands.finest(label)), value)
    return found


def values_of(derivation: Derivation, params: PyTree, x: PyTree, wanted: Iterable[int]) -> dict[int, Array]:
    """Return values of a network by number; a value inside a loop has a leading axis for each loop around it."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves((params, x))]
    return evaluate(derivation.book.graph, leaves, list(wanted))[1]


def unfolded(derivation: Derivation, value: int, array: Array) -> tuple[list[str], Array]:
    """Return a value with one axis for each loop around it and each strand; "" is an axis that nothing moves."""
    book = derivation.book
    axes = book.of(value)
    around = [book.loops.get(loop, "") for loop in book.facts.loops.get(value, ())]
    shape, labels = list(array.shape[: len(around)]), [label and book.strands.root(label) for label in around]
    for size, dimension in zip(book.graph.shape(value), axes, strict=True):
        if not dimension or not all(_is_whole(derivation, atom) for atom in dimension):
            shape, labels = [*shape, size], [*labels, ""]
        else:
            shape += [atom.size for atom in dimension]
            labels += ["" if atom.label == FOREIGN else atom.label for atom in dimension]
    return labels, array.reshape(shape)


def _is_whole(derivation: Derivation, atom: Atom) -> bool:
    return atom.label == FOREIGN or (atom.stride == 1 and atom.size == derivation.book.strands.size(atom.label))


def activations(derivation: Derivation, a: PyTree, b: PyTree, x: PyTree) -> Iterator[tuple[list[str], Array, Array]]:
    """Yield values of both networks with the strand of each axis: the last value of each strand."""
    live = {strand for derived in derivation.streams for strand in derived.members}
    wanted = sorted({value for strand, value in last_values(derivation).items() if strand in live})
    found = [values_of(derivation, params, x, wanted) for params in (a, b)]
    for value in wanted:
        labels, one = unfolded(derivation, value, found[0][value])
        yield labels, one, unfolded(derivation, value, found[1][value])[1]
