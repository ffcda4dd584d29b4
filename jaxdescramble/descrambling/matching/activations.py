"""The activations of two networks, for each strand that they move along."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jaxdescramble.networks.axes import FOREIGN
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.strands import number_of
from jaxdescramble.networks.symmetry.deriving import Derivation


def activations(derivation: Derivation, a: PyTree, b: PyTree, x: PyTree) -> Iterator[tuple[list[str], Array, Array]]:
    """Yield values of both networks with the strand of each axis: for each strand, the last value that has it.

    The last value of a strand is what the next weights read: activations, or the end of a residual stream.
    """
    book = derivation.book
    last: dict[int, int] = {}
    for value, axes in book.axes.items():
        if value not in book.facts.data or value in book.graph.inputs or not np.prod(book.graph.shape(value)):
            continue
        for label in book.labels(axes):
            for one in book.strands.finest(label):
                last[number_of(one)] = value
    live = {strand for derived in derivation.streams for strand in derived.members}
    wanted = sorted({value for strand, value in last.items() if strand in live})
    found = [_values(derivation, params, x, wanted) for params in (a, b)]
    for value in wanted:
        one, other = (values[value] for values in found)
        axes = book.of(value)
        loops = one.ndim - len(axes)
        shape, labels = list(one.shape[:loops]), [""] * loops
        for size, dimension in zip(book.graph.shape(value), axes, strict=True):
            whole = all(atom.label == FOREIGN or book.strands.is_whole(atom, dimension) for atom in dimension)
            if (
                not dimension
                or not whole
                or any(atom.size != book.strands.size(atom.label) for atom in dimension if atom.label)
            ):
                shape, labels = [*shape, size], [*labels, ""]
            else:
                shape += [atom.size for atom in dimension]
                labels += ["" if atom.label == FOREIGN else atom.label for atom in dimension]
        yield labels, one.reshape(shape), other.reshape(shape)


def _values(derivation: Derivation, params: PyTree, x: PyTree, wanted: list[int]) -> dict[int, Array]:
    graph = derivation.book.graph
    leaves = [jax.numpy.asarray(leaf) for leaf in jax.tree.leaves((params, x))]
    return evaluate(graph, leaves, wanted)[1]
