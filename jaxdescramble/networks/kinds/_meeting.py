"""Where strands of several operands meet, and the axes of what comes out."""

from collections.abc import Sequence

import numpy as np

from jaxdescramble.networks.axes import FOREIGN, Atom, Axes
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.strands import dual

NONLINEAR = "is no linear function of each of them"
MIXED = "combines two values of them, element by element"


def full(number: int, book: Book, rank: int) -> list[tuple[Atom, ...]]:
    """Return the axes of an operand; a scalar, and a dimension of size 1, is spread out."""
    axes = book.of(number)
    return list(axes) if len(axes) == rank else [()] * rank


def columns(operation: Operation, book: Book, numbers: Sequence[int]) -> list[tuple[tuple[Atom, ...], ...]]:
    """Return the atoms of the operands that meet, for each dimension of the result."""
    shape = book.graph.shape(operation.outputs[0])
    values = []
    for number in numbers:
        axes = full(number, book, len(shape))
        own = book.graph.shape(number) if len(book.axes[number]) == len(shape) else (1,) * len(shape)
        values.append(
            [
                dimension if size == wide or wide == 1 else (Atom(FOREIGN, wide, 1),)
                for dimension, size, wide in zip(axes, own, shape, strict=True)
            ]
        )
    return book.meet(*values)


def meetings(found: Sequence[Sequence[tuple[Atom, ...]]]) -> list[tuple[str, ...]]:
    """Return the strands that meet, each meeting once; FOREIGN for a value that is spread out there."""
    every = (tuple(atom.label for atom in atoms) for dimension in found for atoms in dimension)
    return [labels for labels in dict.fromkeys(every) if any(labels)]


def results(found: Sequence[Sequence[tuple[Atom, ...]]], named: dict[tuple[str, ...], str]) -> Axes:
    """Return the axes of a result, in which each meeting has got a strand."""
    dimensions = []
    for dimension in found:
        atoms = []
        for column in dimension:
            label = named.get(tuple(atom.label for atom in column), FOREIGN)
            like = next((atom for atom in column if atom.label != FOREIGN), column[0])
            atoms.append(Atom(label, like.size, like.stride if label else 1))
        dimensions.append(tuple(atoms))
    return tuple(dimensions)


def is_zero(number: int, book: Book) -> bool:
    """Return whether a value is the constant 0."""
    array = book.constant(number)
    return array is not None and not np.any(array)


def unite(label: str, number: int, book: Book, text: str) -> None:
    """Write down that a value which is spread out along a strand is put beside it."""
    if not is_zero(number, book):
        book.note("fixes", [label], text)


def times(book: Book, left: str, right: str, by: int = 1) -> str:
    """Return the strand of a product (or quotient, by = -1) of two strands."""
    new = book.strands.new(book.strands.size(left))
    if left == right and by == 1:
        book.charges([left, new], (2, -1), (2, 1), MIXED)
    else:
        book.charges([left, right, new], (1, by, -1), (1, 1, 1), MIXED)
    return new


def ratio(book: Book, label: str) -> str:
    """Return the strand of 1 / x."""
    new = book.strands.new(book.strands.size(label))
    book.charges([label, new], (1, 1), (1, 1), NONLINEAR)
    return new


def alike(operation: Operation, book: Book) -> Axes:
    """Tie the operands of an operation that treats them alike; return their axes."""
    for number in operation.inputs:
        book.use(number)
    found = book.meet(*(book.filled(number) for number in operation.inputs))
    named = {}
    for meeting in meetings(found):
        labels = [label for label in meeting if label]
        for label, number in zip(meeting, operation.inputs, strict=True):
            if label:
                book.strands.tie(labels[0], label)
            else:
                unite(labels[0], number, book, "puts the same number beside all of them")
        named[meeting] = labels[0]
    return results(found, named)


def summed(book: Book, numbers: Sequence[int], axes: Sequence[Axes], contract: Sequence[Sequence[int]]) -> None:
    """Tie what a product sums over: one side moves by g, the other by its dual."""
    found = book.meet(*([axes[k][i] for i in contract[k]] for k in (0, 1)))
    for left, right in meetings(found):
        if left and right:
            book.note("contracted", [left, right], "multiplies and sums them")
            book.strands.tie(left, dual(right))
            continue
        lonely = numbers[1] if left else numbers[0]
        if not is_zero(lonely, book):
            book.note("cofixes", [left or right], "sums them all up, or takes their mean")
