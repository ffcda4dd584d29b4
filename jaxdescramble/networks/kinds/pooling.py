"""Pooling: `reduce_window_sum`, `reduce_window_max` and their kin."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxdescramble.networks._places import Steps
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Graph, Operation, Value
from jaxdescramble.networks.kinds._laws import positive
from jaxdescramble.networks.kinds.kind import (
    Kind,
    Piece,
    PieceRule,
    Reaches,
    Relevance,
)
from jaxdescramble.networks.kinds.reducing import to_winner

WINDOWS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")


class _Window(Kind):
    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        before, after = graph.shape(operation.inputs[position]), graph.shape(operation.outputs[output])
        rows = zip(*(operation.params[key] for key in WINDOWS[:4]), strict=True)
        slid = zip(steps, rows, before, after, strict=True)
        return [step if not step or centred(*row, same=old == new) else None for step, row, old, new in slid]

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        window, stride, padding, base, dilation = (operation.params[key] for key in WINDOWS)
        return {
            a: r.windowed(r.axis, window[r.axis], stride[r.axis], padding[r.axis][0], dilation[r.axis])
            for a, r in reach.items()
            if base[r.axis] == 1
        }


class OtherPool(_Window):
    """`reduce_window` with any other function."""

    primitives = frozenset({"reduce_window"})


class _Pool(_Window):
    def ties(self, operation: Operation, book: Book) -> None:
        (number,), (result,) = operation.inputs, operation.outputs
        book.use(number)
        before, after = book.graph.shape(number), book.graph.shape(result)
        axes = list(book.filled(number))
        for i, size in enumerate(operation.params["window_dimensions"]):
            if size > 1 or before[i] != after[i]:
                axes[i] = book.lost(axes[i], after[i], "slides a window over them")
        if not self.linear:
            for i, size in enumerate(operation.params["window_dimensions"]):
                for label in book.labels([axes[i]]) if size == 1 else ():
                    positive(book, label)
        book.axes[result] = tuple(axes)


class SumPool(_Pool):
    """Average pools, up to a scale."""

    primitives = frozenset({"reduce_window_sum"})
    linear = "together"

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.shared()


class ExtremePool(_Pool):
    """The largest (or smallest) of every window: the first of those that tie."""

    primitives = frozenset({"reduce_window_max", "reduce_window_min"})
    decides = True
    chooses = True
    chooses_anywhere = True

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return _first_of_window

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return to_winner(flow, _first_of_window) if flow.operation.name == "reduce_window_max" else None


def centred(window: int, stride: int, padding: tuple[int, int], dilation: int, same: bool) -> bool:
    """Return whether every position of the result stands at the middle of the window that it reads."""
    return bool(same and stride == dilation == 1 and padding[0] == padding[1] and window == 2 * padding[0] + 1)


def _first_of_window(operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
    """The winner is given as its place among all positions of the operand."""
    (value,), params = real, operation.params
    sign = 1 if operation.name == "reduce_window_max" else -1
    places = jnp.asarray(np.arange(value.size, dtype=np.int32)).reshape(value.shape)

    def better(one: tuple[Array, Array], two: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, i), (b, j) = one, two
        first = (a > b) | ((a == b) & (i < j))
        return jnp.where(first, a, b), jnp.where(first, i, j)

    nothing = (jnp.asarray(-jnp.inf, value.dtype), jnp.asarray(value.size, jnp.int32))
    winner = jax.lax.reduce_window((sign * value, places), nothing, better, *(params[key] for key in WINDOWS))[1]
    return Piece([moved[0].reshape(-1)[jnp.minimum(winner, value.size - 1)]], winner=winner)


KINDS = (SumPool(), ExtremePool(), OtherPool())
