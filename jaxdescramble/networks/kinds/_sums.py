"""How sums and products of two operands act on the frames of their strands.

A product that a sum alone reads is a contraction; of a value with itself, it is a square norm.
"""

import numpy as np

from jaxdescramble.networks.book import Book, Form
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.kinds._meeting import by_meeting, meetings, operands, ratio, results, times
from jaxdescramble.networks.strands import dual


def add(operation: Operation, book: Book) -> None:
    """Let both sides of a sum move alike. The mean of a value that is taken from it makes a strand without its mean."""
    one, other = operation.inputs
    (result,) = operation.outputs
    sign = -1.0 if operation.name == "sub" else 1.0
    if _add_forms(one, other, result, sign, book) or (sign < 0 and _centre(one, other, result, book)):
        return
    book.use(one)
    book.use(other)
    values = operands(operation, book, operation.inputs)
    book.axes[result] = tuple(book.tied(values, operation.inputs, "adds the same number to all of them"))


def _add_forms(one: int, other: int, result: int, sign: float, book: Book) -> bool:
    first, second = book.forms.get(one), book.forms.get(other)
    if first is None or second is None or first.key != second.key:
        return False
    second = second.times(sign)
    book.axes[result] = tuple(book.same([one, other], "adds the same number to all of them"))
    book.forms[result] = Form(
        first.base,
        first.dimensions,
        first.degree,
        first.operation,
        first.linear + second.linear,
        first.square + second.square,
        first.mixed + second.mixed,
    )
    return True


def _centre(value: int, mean: int, result: int, book: Book) -> bool:
    form = book.forms.get(mean)
    if form is None or form.degree != 1 or form.base != book.origin.get(value, value):
        return False
    if abs(form.linear * book.count(form) - 1) > 1e-5:
        return False
    axes, own = book.of(value), book.of(mean)
    if len(axes) != len(own):
        return False
    there = all(
        (not book.labels([own[i]])) if i in form.dimensions else own[i] == axes[i] or not axes[i]
        for i in range(len(axes))
    )
    if not there:
        return False
    if book.alone(form):
        book.axes[result] = book.without_mean(form)
    else:
        labels = book.labels(axes[i] for i in form.dimensions)
        book.note("ones", labels, "subtracts the mean of them and of other axes")
        book.axes[result] = axes
    return True


def multiply(operation: Operation, book: Book) -> None:
    """Multiply (or divide) the charges of two factors. Numbers that are the same for all of a strand leave it alone."""
    one, other = operation.inputs
    (result,) = operation.outputs
    by = 1 if operation.name == "mul" else -1
    if _scale_form(operation, book, by):
        return
    form = book.forms.get(one)
    if form is not None and form.degree == 1 and one == other and by == 1:
        square_form(form, result, one, book)
        return
    if by == 1 and contract(operation, one, other, book):
        return

    def law(meeting: tuple[str, ...]) -> str:
        left, right = meeting
        if left and right:
            return times(book, left, right, by)
        return ratio(book, right) if right and by == -1 else left or right

    by_meeting(operation, book, law)


def _scale_form(operation: Operation, book: Book, by: int) -> bool:
    for number, factor in (operation.inputs, operation.inputs[::-1]):
        if number in book.forms and (array := book.constant(factor)) is not None and array.size == 1:
            if by == -1 and number != operation.inputs[0]:
                return False
            value = float(np.real(array).reshape(()))
            if value == 0:
                return False
            (result,) = operation.outputs
            book.axes[result] = book.of(number)
            book.forms[result] = book.forms[number].times(value**by)
            return True
    return False


def square_form(form: Form, result: int, number: int, book: Book) -> None:
    """Give the square of a mean its form; along its other axes, it moves as a square."""
    axes = book.of(number)
    squares = {label: times(book, label, label) for label in book.labels(axes)}
    book.axes[result] = tuple(
        tuple(atom._replace(label=squares.get(atom.label, atom.label)) for atom in dimension) for dimension in axes
    )
    book.forms[result] = Form(form.base, form.dimensions, 2, form.operation, mixed=form.linear**2)


def contract(operation: Operation, one: int, other: int, book: Book) -> bool:
    """Read a product that a sum alone reads as a contraction: of a value with itself, its square norm."""
    (result,) = operation.outputs
    dimensions = book.summed(result)
    if not dimensions:
        return False
    book.use(one)
    book.use(other)
    for number in {one, other}:
        if len(book.axes[number]) == len(book.graph.shape(result)):
            book.strands.whole(book.axes[number], dimensions)
    found = book.meet(*operands(operation, book, (one, other)))
    inside = [found[i] for i in dimensions]
    if not any(all(labels) for labels in meetings(inside)):
        return False
    named: dict[tuple[str, ...], str] = {}
    rest = [dimension for i, dimension in enumerate(found) if i not in dimensions]
    same = book.origin.get(one, one) == book.origin.get(other, other)
    for meeting in meetings(inside):
        left, right = meeting
        if left and right and not same:
            book.note("contracted", [left, right], "sums up their products with other numbers")
            book.strands.tie(left, dual(right))
        elif not same:
            named[meeting] = left or right
    for meeting in meetings(rest):
        left, right = meeting
        named[meeting] = times(book, left, right) if left and right else left or right
    book.axes[result] = results(found, named)
    if same:
        book.squares[result] = (book.origin.get(one, one), dimensions)
    return True
