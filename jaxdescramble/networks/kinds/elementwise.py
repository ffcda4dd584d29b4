"""Operations on every element by itself, each operand of the same shape, of size 1 along an axis, or a scalar."""

import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks._places import Steps, constant
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.graph import POINTWISE, Graph, Operation
from jaxdescramble.networks.kinds._laws import COMPARISONS, compare, curve, negative, power
from jaxdescramble.networks.kinds._sums import add, multiply
from jaxdescramble.networks.kinds.kind import (
    Kind,
    PieceRule,
    Reaches,
    Relevance,
    linear_piece,
)


class Elementwise(Kind):
    """Elementwise operations without a more special kind below."""

    primitives = POINTWISE

    def steps_after(self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph) -> Steps | None:
        return steps if graph.shape(operation.inputs[position]) else constant(graph.shape(operation.outputs[output]))

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        same = graph.shape(operation.inputs[position]) == graph.shape(operation.outputs[0])
        return dict(reach) if same else {}

    def ties(self, operation: Operation, book: Book) -> None:
        (compare if operation.name in COMPARISONS else curve)(operation, book)


class Addition(Elementwise):
    """Sums and differences."""

    primitives = frozenset({"add", "add_any", "sub"})
    linear = "together"
    affine_sides = (0, 1)

    def scale_and_shift(self, operation: Operation, side: int, constant: Array) -> tuple[Array | None, Array | None]:
        if operation.name != "sub":
            return None, constant
        return (None, -constant) if side == 0 else (jnp.full_like(constant, -1), constant)

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.shared()

    def ties(self, operation: Operation, book: Book) -> None:
        add(operation, book)


class Negation(Elementwise):
    """`neg`, a scaling."""

    primitives = frozenset({"neg"})
    linear = "together"

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.passed_on()

    def ties(self, operation: Operation, book: Book) -> None:
        negative(operation, book)


class RealPart(Elementwise):
    """`real`."""

    primitives = frozenset({"real"})
    linear = "together"

    def ties(self, operation: Operation, book: Book) -> None:
        book.hand_on(operation.inputs[0], operation.outputs[0])


class Multiplication(Elementwise):
    """`mul`: a scaling if one operand is constant."""

    primitives = frozenset({"mul"})
    linear = "apart"
    affine_sides = (0, 1)

    def scale_and_shift(self, operation: Operation, side: int, constant: Array) -> tuple[Array | None, Array | None]:
        return constant, None

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.passed_on() if len(flow.floating) == 1 else None

    def ties(self, operation: Operation, book: Book) -> None:
        multiply(operation, book)


class Division(Elementwise):
    """`div`: a scaling if the denominator is constant."""

    primitives = frozenset({"div"})
    affine_sides = (0,)

    def scale_and_shift(self, operation: Operation, side: int, constant: Array) -> tuple[Array | None, Array | None]:
        return 1 / constant, None

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return linear_piece if live == [True, False] else None

    def relevance(self, flow: Relevance) -> list[Array] | None:
        return flow.passed_on() if flow.floating == [0] else None

    def ties(self, operation: Operation, book: Book) -> None:
        multiply(operation, book)


class Power(Elementwise):
    """Whole powers; the first power is its operand."""

    primitives = frozenset({"integer_pow", "square"})
    curve = "power"

    def holds(self, operation: Operation) -> bool:
        return operation.name == "square" or operation.params["y"] != 1

    def ties(self, operation: Operation, book: Book) -> None:
        power(operation, book)


class FirstPower(Elementwise):
    """`x ** 1`, as `integer_pow` writes it."""

    primitives = frozenset({"integer_pow"})

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        return linear_piece

    def ties(self, operation: Operation, book: Book) -> None:
        book.hand_on(operation.inputs[0], operation.outputs[0])


class Curve(Elementwise):
    """Functions that are curved everywhere: no gate, no piece."""

    primitives = frozenset(
        """acos acosh asin asinh atan atan2 atanh cbrt cos cosh digamma erf erf_inv erfc exp exp2 expm1 lgamma log log1p
        logistic pow rsqrt sin sinh sqrt tan tanh""".split()  # noqa: SIM905
    )
    curve = "curve"


class Rounding(Elementwise):
    """Functions that are constant between jumps."""

    primitives = frozenset({"sign", "floor", "ceil", "round"})
    is_step = True


class Comparison(Elementwise):
    """Which operand is larger: the condition of a gate."""

    primitives = frozenset({"gt", "ge", "lt", "le"})
    is_step = True
    compares = True


KINDS = (
    Addition(),
    Negation(),
    RealPart(),
    Multiplication(),
    Division(),
    Power(),
    FirstPower(),
    Curve(),
    Rounding(),
    Comparison(),
    Elementwise(),  # the others
)
