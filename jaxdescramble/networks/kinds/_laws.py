"""How operations on every element act on the frames of their operands.

If a value is multiplied by charges c, one for each position of a strand, a law says which charges the result has, and
which ones are allowed: `relu` wants c > 0 and hands c on, `tanh` wants signs, `exp` wants 1.
"""

from collections.abc import Sequence

from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.kinds._meeting import MIXED, NONLINEAR, by_meeting
from jaxdescramble.networks.kinds._sums import contract, square_form

ODD = frozenset("tanh sin tan asin atan sinh asinh atanh erf erf_inv round".split())  # noqa: SIM905
EVEN = frozenset({"cos", "cosh"})
ROOTS = frozenset({"sqrt", "rsqrt", "cbrt"})
COMPARISONS = frozenset("gt ge lt le gt_to ge_to lt_to le_to eq ne".split())  # noqa: SIM905


def negative(operation: Operation, book: Book) -> None:
    """Let the result move as the operand does, also a mean or a norm that nothing has used yet."""
    (number,), (result,) = operation.inputs, operation.outputs
    book.axes[result] = book.of(number)
    if number in book.forms:
        book.forms[result] = book.forms[number].times(-1)


def positive(book: Book, label: str, text: str = NONLINEAR) -> str:
    """Allow an order and positive charges, which go on."""
    book.charges([label], (), (1,), text)
    return label


def signed(book: Book, label: str, text: str = NONLINEAR) -> str:
    """Allow an order and signs, which go on."""
    book.charges([label], (1,), (), text)
    return label


def ordered(book: Book, label: str, text: str = NONLINEAR) -> str:
    """Allow an order alone."""
    book.charges([label], (1,), (), text)
    book.charges([label], (), (1,), text)
    return label


def fresh(book: Book, label: str) -> str:
    """Return a strand of the same order that has no charges."""
    new = book.strands.new(book.strands.size(label))
    book.strands.pair(label, new)
    return ordered(book, new)


def curve(operation: Operation, book: Book) -> None:
    """Write down what any other function asks."""
    name = operation.name

    def law(meeting: tuple[str, ...]) -> str:
        label, *others = meeting
        if others:
            return ordered_all(book, meeting)
        if name in ODD:
            return signed(book, label)
        if name in EVEN:
            return fresh(book, signed(book, label))
        if name == "abs":
            return _absolute(book, label)
        if name == "sign":
            return _sign(book, label)
        return _root(book, label, name) if name in ROOTS else ordered(book, label)

    by_meeting(operation, book, law)


def ordered_all(book: Book, meeting: Sequence[str]) -> str:
    """Allow one order for several strands, without charges."""
    labels = [label for label in meeting if label]
    for label in labels:
        book.strands.pair(labels[0], label)
        ordered(book, label)
    return labels[0]


def _absolute(book: Book, label: str) -> str:
    new = book.strands.new(book.strands.size(label))
    book.charges([label, new], (1, -1), (0, 1), NONLINEAR)
    return new


def _sign(book: Book, label: str) -> str:
    new = book.strands.new(book.strands.size(label))
    book.charges([label, new], (0, 1), (1, 1), NONLINEAR)
    return new


def _root(book: Book, label: str, name: str) -> str:
    new = book.strands.new(book.strands.size(label))
    degree, by = (3, 1) if name == "cbrt" else (2, 1 if name == "sqrt" else -1)
    book.charges([label, new], (1, -degree * by), (1, 1) if degree == 3 else (1, 0), NONLINEAR)
    if degree == 2:
        book.charges([new], (), (1,), NONLINEAR)
    return new


def power(operation: Operation, book: Book) -> None:
    """Write down what a whole power asks."""
    (number,), (result,) = operation.inputs, operation.outputs
    exponent = 2 if operation.name == "square" else int(operation.params["y"])
    form = book.forms.get(number)
    if exponent == 2 and form is not None and form.degree == 1:
        square_form(form, result, number, book)
        return
    if exponent == 2 and contract(operation, number, number, book):
        return
    by_meeting(operation, book, lambda meeting: _power(book, meeting[0], exponent))


def _power(book: Book, label: str, exponent: int) -> str:
    new = book.strands.new(book.strands.size(label))
    book.charges([label, new], (exponent, -1), (exponent, 1), NONLINEAR)
    return new


def extreme(operation: Operation, book: Book) -> None:
    """Write down what the larger or smaller of two numbers asks: of a number and 0, `relu`."""
    one, other = operation.inputs
    for number, against in ((one, other), (other, one)):
        form = book.forms.get(number)
        if form is not None and form.degree == 2 and book.is_zero(against):
            # `max(variance, 0)`: the squares along other axes are positive anyway.
            (result,) = operation.outputs
            book.axes[result], book.forms[result] = book.of(number), form
            return

    def law(meeting: tuple[str, ...]) -> str:
        left, right = meeting
        if left and right:
            book.strands.tie(left, right)
            return positive(book, left)
        return (positive if book.is_zero(other if left else one) else ordered)(book, left or right)

    by_meeting(operation, book, law)


def compare(operation: Operation, book: Book) -> None:
    """Write down what a comparison of two numbers asks."""
    one, other = operation.inputs

    def law(meeting: tuple[str, ...]) -> str:
        left, right = meeting
        label = left or right
        if left and right:
            book.strands.tie(left, right)
            positive(book, left)
        elif not book.is_zero(other if left else one):
            ordered(book, label)
        elif operation.name in ("eq", "ne"):
            book.charges([label], (), (), NONLINEAR)
        else:
            positive(book, label)
        return fresh(book, label)

    by_meeting(operation, book, law)


def choose(operation: Operation, book: Book) -> None:
    """Write down what a choice among several values asks, at each position as a condition says."""

    def law(meeting: tuple[str, ...]) -> str:
        condition, *cases = meeting
        labels = [label for label in cases if label]
        for label in labels:
            book.strands.tie(labels[0], label)
        if condition:
            ordered(book, condition)
            for label in labels[:1]:
                book.charges([condition, label], (), (), MIXED)
        for label, number in zip(cases, operation.inputs[1:], strict=True):
            if not label and labels:
                book.beside(labels[0], number, "replaces all of them by the same number")
        return labels[0] if labels else condition

    by_meeting(operation, book, law)
