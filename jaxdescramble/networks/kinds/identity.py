"""Operations that hand their operands on as they are, one result each."""

import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks._places import Steps
from jaxdescramble.networks.axes import Axes
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import IDENTITY, Graph, Operation
from jaxdescramble.networks.kinds._laws import ordered
from jaxdescramble.networks.kinds.kind import Kind, Piece, PieceRule, Reaches, Relevance


class Identity(Kind):
    """Changes of type, copies, barriers, and what closes a call with a derivative of its own."""

    primitives = IDENTITY
    linear = "together"

    def arranges(self, operation: Operation, graph: Graph) -> bool:
        return True

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        return axes

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        return axes if _belongs(operation, position, output) else None

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return steps if _belongs(operation, position, output) else None

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        return dict(reach)

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.moved_back()

    def ties(self, operation: Operation, book: Book) -> None:
        for position, number in enumerate(operation.inputs):
            result = operation.output_for(position)
            before, after = (jnp.issubdtype(book.graph.avals[one].dtype, jnp.inexact) for one in (number, result))
            if before and not after:
                book.use(number)
                for label in book.labels(book.of(number)):
                    ordered(book, label, "rounds each of them")
            book.hand_on(number, result)


class StopGradient(Identity):
    """`stop_gradient`: its value goes on, its derivative does not."""

    primitives = frozenset({"stop_gradient"})

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return (lambda operation, real, moved, live: Piece(moved)) if any(live) else None

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.relevance


def _belongs(operation: Operation, position: int, output: int) -> bool:
    """Return whether a result is that of an operand; a barrier hands each operand on by itself."""
    return operation.outputs[output] == operation.output_for(position)


KINDS = (StopGradient(), Identity())
