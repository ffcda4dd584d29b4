"""Where strands of several operands meet, and the axes of what comes out."""

from collections.abc import Callable, Sequence

from jaxdescramble.networks.axes import FOREIGN, Atom, Axes
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.strands import dual

NONLINEAR = "is no linear function of each of them"
MIXED = "combines two values of them, element by element"


def operands(operation: Operation, book: Book, numbers: Sequence[int]) -> list[list[tuple[Atom, ...]]]:
    """Return the axes of operands in the shape of the result; a scalar, or a dimension of size 1, is spread out."""
    shape = book.graph.shape(operation.outputs[0])
    values = []
    for number in numbers:
        own, axes = book.graph.shape(number), book.filled(number)
        if len(own) != len(shape):
            own, axes = (1,) * len(shape), ((),) * len(shape)
        sizes = zip(axes, own, shape, strict=True)
        values.append([axis if size == wide else (Atom(FOREIGN, wide, 1),) for axis, size, wide in sizes])
    return values


def by_meeting(operation: Operation, book: Book, law: Callable[[tuple[str, ...]], str]) -> None:
    """Give the results of an operation axes, in which each meeting of strands has the strand that a law returns."""
    for number in operation.inputs:
        book.use(number)
    found = book.meet(*operands(operation, book, operation.inputs))
    axes = results(found, {meeting: law(meeting) for meeting in meetings(found)})
    for number in operation.outputs:
        book.axes[number] = axes


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


def alike(operation: Operation, book: Book) -> list[tuple[Atom, ...]]:
    """Tie the operands of an operation that treats them alike; return their axes."""
    for number in operation.inputs:
        book.use(number)
    return book.same(operation.inputs, "puts the same number beside all of them")


def summed(book: Book, numbers: Sequence[int], values: Sequence[Sequence[Sequence[Atom]]]) -> None:
    """Tie the dimensions of two factors that a product sums over: one side moves by g, the other by its dual."""
    for left, right in meetings(book.meet(*values)):
        if left and right:
            book.note("contracted", [left, right], "multiplies and sums them")
            book.strands.tie(left, dual(right))
        elif not book.is_zero(numbers[1] if left else numbers[0]):
            book.note("cofixes", [left or right], "sums them all up, or takes their mean")
