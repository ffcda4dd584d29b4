"""How operations on every element act on the frames of their operands.

If a value is multiplied by charges c, one for each position of a strand, a law says which charges the result has, and
which ones are allowed: `relu` wants c > 0 and hands c on, `tanh` wants signs, `exp` wants 1.
"""

from collections.abc import Callable, Sequence

from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.kinds._meeting import MIXED, NONLINEAR, columns, is_zero, meetings, results, unite
from jaxdescramble.networks.kinds._sums import contract, square_form

ODD = frozenset("tanh sin tan asin atan sinh asinh atanh erf erf_inv round".split())  # noqa: SIM905
EVEN = frozenset({"cos", "cosh"})
COMPARISONS = frozenset("gt ge lt le gt_to ge_to lt_to le_to eq ne".split())  # noqa: SIM905


def keep(operation: Operation, book: Book) -> None:
    """Let the result move as the operand does, also a mean or a norm that nothing has used yet."""
    (number,), (result,) = operation.inputs, operation.outputs
    book.axes[result] = book.of(number)
    if number in book.forms and operation.name != "neg":
        book.forms[result] = book.forms[number]
    elif number in book.forms:
        book.forms[result] = book.forms[number].times(-1)
    if number in book.squares:
        book.squares[result] = book.squares[number]
    if operation.name != "neg":
        book.origin[result] = book.origin.get(number, number)


def one_operand(operation: Operation, book: Book, law: Callable[[str], str]) -> None:
    """Give each strand of the result's operand the strand that a law returns for it."""
    found = columns(operation, book, operation.inputs[:1])
    named = {meeting: law(meeting[0]) for meeting in meetings(found)}
    for number in operation.outputs:
        book.axes[number] = results(found, named)


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
    for number in operation.inputs:
        book.use(number)
    if len(operation.inputs) == 1:
        if name in ODD:
            one_operand(operation, book, lambda label: signed(book, label))
        elif name in EVEN:
            one_operand(operation, book, lambda label: fresh(book, signed(book, label)))
        elif name == "abs":
            one_operand(operation, book, lambda label: _absolute(book, label))
        elif name == "sign":
            one_operand(operation, book, lambda label: _sign(book, label))
        elif name in ("sqrt", "rsqrt", "cbrt"):
            one_operand(operation, book, lambda label: _root(book, label, name))
        else:
            one_operand(operation, book, lambda label: ordered(book, label))
        return
    found = columns(operation, book, operation.inputs)
    named = {meeting: ordered_all(book, meeting) for meeting in meetings(found)}
    for number in operation.outputs:
        book.axes[number] = results(found, named)


def ordered_all(book: Book, meeting: Sequence[str], text: str = NONLINEAR) -> str:
    """Allow one order for several strands, without charges."""
    labels = [label for label in meeting if label]
    for label in labels:
        book.strands.pair(labels[0], label)
        ordered(book, label, text)
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
    """Whole powers."""
    (number,), (result,) = operation.inputs, operation.outputs
    exponent = 2 if operation.name == "square" else int(operation.params["y"])
    form = book.forms.get(number)
    if exponent == 2 and form is not None and form.degree == 1:
        square_form(form, result, number, book)
        return
    if exponent == 2 and contract(operation, number, number, book):
        return
    book.use(number)
    if exponent == 1:
        book.axes[result] = book.of(number)
        return
    one_operand(operation, book, lambda label: _power(book, label, exponent))


def _power(book: Book, label: str, exponent: int) -> str:
    new = book.strands.new(book.strands.size(label))
    book.charges([label, new], (exponent, -1), (exponent, 1), NONLINEAR)
    return new


def extreme(operation: Operation, book: Book) -> None:
    """Write down what the larger or smaller of two numbers asks: of a number and 0, `relu`."""
    one, other = operation.inputs
    for number in (one, other):
        form = book.forms.get(number)
        if form is not None and form.degree == 2 and is_zero(other if number == one else one, book):
            # `max(variance, 0)`: the squares along other axes are positive anyway.
            (result,) = operation.outputs
            book.axes[result], book.forms[result] = book.of(number), form
            return
        book.use(number)
    found = columns(operation, book, operation.inputs)
    named = {}
    for meeting in meetings(found):
        left, right = meeting
        if left and right:
            book.strands.tie(left, right)
            named[meeting] = positive(book, left)
        else:
            zero = is_zero(other if left else one, book)
            named[meeting] = (positive if zero else ordered)(book, left or right)
    book.axes[operation.outputs[0]] = results(found, named)


def compare(operation: Operation, book: Book) -> None:
    """Write down what a comparison of two numbers asks."""
    one, other = operation.inputs
    book.use(one)
    book.use(other)
    found = columns(operation, book, operation.inputs)
    named = {}
    for meeting in meetings(found):
        left, right = meeting
        if left and right:
            book.strands.tie(left, right)
            positive(book, left)
        elif is_zero(other if left else one, book):
            if operation.name in ("eq", "ne"):
                book.charges([left or right], (), (), NONLINEAR)
            else:
                positive(book, left or right)
        else:
            ordered(book, left or right)
        named[meeting] = fresh(book, left or right)
    book.axes[operation.outputs[0]] = results(found, named)


def choose(operation: Operation, book: Book) -> None:
    """Write down what a choice among several values asks, at each position as a condition says."""
    for number in operation.inputs:
        book.use(number)
    found = columns(operation, book, operation.inputs)
    named = {}
    for meeting in meetings(found):
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
                unite(labels[0], number, book, "replaces all of them by the same number")
        named[meeting] = labels[0] if labels else condition
    book.axes[operation.outputs[0]] = results(found, named)
