"""Reductions: sums, extremes and the like along whole axes."""

import math

import jax
import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks._places import Steps, dropped
from jaxdescramble.networks.axes import Axes
from jaxdescramble.networks.book import Book, Form
from jaxdescramble.networks.graph import Graph, Operation, Value
from jaxdescramble.networks.kinds._laws import ordered, positive
from jaxdescramble.networks.kinds.kind import Kind, Piece, PieceRule, Reaches, Relevance


class Reduction(Kind):
    """`reduce_prod`, `reduce_and`, `reduce_or`: reductions that have neither a piece nor relevance."""

    primitives = frozenset({"reduce_prod", "reduce_and", "reduce_or"})
    keeps = True

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        return tuple(dimension for i, dimension in enumerate(axes) if i not in operation.params["axes"])

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return dropped(steps, set(operation.params["axes"]))

    def ties(self, operation: Operation, book: Book) -> None:
        (number,), gone = operation.inputs, _axes(operation)
        book.use(number)
        axes = book.filled(number)
        book.strands.whole(axes, gone)
        axes = book.strands.current(axes)
        for label in book.labels(axes):
            ordered(book, label)
        for result in operation.outputs:
            book.axes[result] = tuple(dimension for i, dimension in enumerate(axes) if i not in gone)


class _Windowless(Reduction):
    """Reductions that leave the other axes alone: a place there sees what it saw before."""

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        gone = operation.params["axes"]
        return {
            a: r._replace(axis=r.axis - sum(g < r.axis for g in gone)) for a, r in reach.items() if r.axis not in gone
        }


class Summation(_Windowless):
    """`reduce_sum`."""

    primitives = frozenset({"reduce_sum"})
    linear = "together"

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.shared()

    def ties(self, operation: Operation, book: Book) -> None:
        _sum(book, operation, _axes(operation))


class ReducedExtreme(_Windowless):
    """The largest (or smallest) along some axes: the first of those that tie."""

    primitives = frozenset({"reduce_max", "reduce_min"})
    decides = True
    chooses = True

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return _first_extreme

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return to_winner(flow, _first_extreme) if flow.operation.name == "reduce_max" else None

    def ties(self, operation: Operation, book: Book) -> None:
        (number,), (result,), gone = operation.inputs, operation.outputs, _axes(operation)
        book.use(number)
        axes = book.filled(number)
        book.strands.whole(axes, gone)
        axes = book.strands.current(axes)
        for label in book.labels(axes[i] for i in gone):
            ordered(book, label, "takes the largest or smallest of them")
        kept = [dimension for i, dimension in enumerate(axes) if i not in gone]
        for label in book.labels(kept):
            positive(book, label)
        book.axes[result] = tuple(kept)


class ExtremePosition(Reduction):
    """`argmax` and `argmin`: positions along one axis."""

    primitives = frozenset({"argmax", "argmin"})
    is_step = True

    def ties(self, operation: Operation, book: Book) -> None:
        (number,), (result,), gone = operation.inputs, operation.outputs, _axes(operation)
        book.use(number)
        axes = book.filled(number)
        book.pin(book.labels(axes[i] for i in gone), "depends on their order: it returns the position of one of them")
        kept = [dimension for i, dimension in enumerate(axes) if i not in gone]
        for label in book.labels(kept):
            ordered(book, label)
        book.axes[result] = tuple(kept)


def to_winner(flow: Relevance, along: PieceRule) -> list[Array]:
    """Hand relevance to the operand's position that won."""
    (value,), (R,) = flow.values, flow.relevance
    transposed = jax.linear_transpose(lambda moved: along(flow.operation, [value], [moved], [True]).results[0], value)
    return [transposed(R)[0]]


def _first_extreme(operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
    axes = tuple(operation.params["axes"])
    kept = [i for i in range(real[0].ndim) if i not in axes]
    flat = (*(real[0].shape[i] for i in kept), math.prod(real[0].shape[i] for i in axes))
    rows, others = (jnp.transpose(value[0], (*kept, *axes)).reshape(flat) for value in (real, moved))
    winner = jnp.argmax(rows if operation.name == "reduce_max" else -rows, axis=-1)
    taken = jnp.take_along_axis(others, winner[..., None], axis=-1)[..., 0]
    return Piece([taken], winner=winner.astype(jnp.int32))


def _axes(operation: Operation) -> tuple[int, ...]:
    """Return the axes that a reduction takes; under `vmap` they are numbers of NumPy."""
    return tuple(map(int, operation.params["axes"]))


def _sum(book: Book, operation: Operation, gone: tuple[int, ...]) -> None:
    """Sum a value over some dimensions: the result is a form, until something uses it."""
    (number,), (result,) = operation.inputs, operation.outputs
    book.use(number)
    axes = book.filled(number)
    if number in book.squares and book.squares[number][1] == gone:
        base, _ = book.squares[number]
        book.forms[result] = Form(base, gone, 2, operation, square=1.0)
    elif book.labels(axes[i] for i in gone):
        book.strands.whole(axes, gone)
        axes = book.strands.current(axes)
        book.forms[result] = Form(book.origin.get(number, number), gone, 1, operation, linear=1.0)
    book.axes[result] = tuple(dimension for i, dimension in enumerate(axes) if i not in gone)


KINDS = (Summation(), ReducedExtreme(), ExtremePosition(), Reduction())
