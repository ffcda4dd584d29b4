"""Gates: elementwise operations that are piecewise linear, and choices by a condition."""

import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import Operation, Value
from jaxdescramble.networks.kinds._laws import choose, curve, extreme
from jaxdescramble.networks.kinds.elementwise import Elementwise
from jaxdescramble.networks.kinds.kind import Piece, PieceRule, Relevance


class _Gate(Elementwise):
    decides = True

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return self.along

    def along(self, operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
        raise NotImplementedError

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.passed_on() if len(flow.floating) == 1 else None


class Extreme(_Gate):
    """`max` and `min` of two: with a constant, a tie goes to it; of two values, to the first."""

    primitives = frozenset({"max", "min"})
    clips = True

    def along(self, operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
        sign = 1 if operation.name == "max" else -1
        first, second = (sign * value for value in real)
        takes_second = second >= first if live == [True, False] else second > first
        result = [jnp.where(takes_second, moved[1], moved[0])]
        if all(live):
            return Piece(result, winner=takes_second.astype(jnp.int32))
        side = live.index(True)
        return Piece(result, [(side, real[1 - side])])

    def relevance(self, flow: Relevance) -> list[Array] | None:
        if len(flow.floating) == 1:
            return flow.passed_on()
        sign, (R,) = 1 if flow.operation.name == "max" else -1, flow.relevance
        takes_second = sign * flow.values[1] > sign * flow.values[0]
        return [jnp.where(takes_second, 0, R), jnp.where(takes_second, R, 0)]

    def ties(self, operation: Operation, book: Book) -> None:
        extreme(operation, book)


class Absolute(_Gate):
    """`abs`: the piece of negative numbers at 0."""

    primitives = frozenset({"abs"})

    def along(self, operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
        return Piece([jnp.where(real[0] > 0, moved[0], -moved[0])], [(0, jnp.zeros((), real[0].dtype))])


class Clamp(_Gate):
    """`clamp` between two bounds; a tie goes to the bound."""

    primitives = frozenset({"clamp"})
    clips = True

    def along(self, operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
        low, x, high = real
        result = [jnp.where(x <= low, moved[0], jnp.where(x >= high, moved[2], moved[1]))]
        return Piece(result, [(1, low), (1, high)] if live[1] else [])

    def ties(self, operation: Operation, book: Book) -> None:
        curve(operation, book)


class Choice(Elementwise):
    """`select_n`, as `where` writes it: a condition that the real input sets chooses among the others."""

    primitives = frozenset({"select_n"})
    linear = "together"

    def relevance(self, flow: Relevance) -> list[Array] | None:
        if len(flow.floating) == 1:
            return flow.passed_on()
        (R,) = flow.relevance
        return [jnp.where(flow.values[0] == i - 1, R, 0) for i in flow.floating]

    def ties(self, operation: Operation, book: Book) -> None:
        choose(operation, book)


KINDS = (Extreme(), Absolute(), Clamp(), Choice())
