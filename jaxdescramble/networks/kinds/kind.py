"""The questions that the package asks about a kind of operation, with the answers of an unknown kind."""

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxdescramble.networks._places import Place, Steps, place
from jaxdescramble.networks.axes import Atom, Axes, foreign
from jaxdescramble.networks.book import Book
from jaxdescramble.networks.evaluate import bind
from jaxdescramble.networks.graph import Graph, Operation, Value

"""The label of an axis of neurons that `reorder` permutes."""


class Span(NamedTuple):
    """The positions `range(start, stop, step)` along one dimension."""

    start: int
    stop: int
    step: int


class Reach(NamedTuple):
    """Along one axis of x: place i on a value's own `axis` sees `stride * i + low` to `stride * i + high`."""

    axis: int
    stride: int
    low: int
    high: int

    def windowed(self, axis: int, window: int, stride: int, padding: int, dilation: int) -> "Reach":
        """Return what the places of a result see, each of which reads a window of these places."""
        low = self.low - self.stride * padding
        high = low + (self.high - self.low) + self.stride * (window - 1) * dilation
        return Reach(axis, self.stride * stride, low, high)


Reaches = dict[int, Reach]  # by axis of x


class Piece(NamedTuple):
    """An operation on the affine piece: its results, where its operands have kinks, and which operand or place won.

    `edges` are pairs (position of the operand, where it has a kink).
    """

    results: Sequence[Array]
    edges: Sequence[tuple[int, ArrayLike]] = ()
    winner: Array | None = None


# (operation, real operands, moved operands, which operands depend on the input) -> Piece
PieceRule: TypeAlias = Callable[[Operation, list[Value], list[Value], list[bool]], Piece]


class Relevance(NamedTuple):
    """The relevance of an operation's results, and what is needed to hand it back to its operands.

    Attributes:
        operation: the operation.
        values: of all its operands.
        floating: the positions of the operands that depend on x and have a floating type.
        results: the values of its results.
        relevance: of each result.
        share: `share(R, z)` is R / z, with the stabiliser of the rule in use.
    """

    operation: Operation
    values: list[Array]
    floating: list[int]
    results: list[Array]
    relevance: list[Array]
    share: Callable[[Array, Array], Array]

    def pulled(self, cotangents: list[Array]) -> list[Array]:
        """Return the cotangents of the floating operands."""

        def run(*some: Array) -> list[Array]:
            full = list(self.values)
            for i, value in zip(self.floating, some, strict=True):
                full[i] = value
            return list(bind(self.operation, full))

        return list(jax.vjp(run, *(self.values[i] for i in self.floating))[1](cotangents))

    def moved_back(self) -> list[Array]:
        """Hand every number back to where it came from."""
        return self.pulled(self.relevance)

    def passed_on(self) -> list[Array]:
        """Hand all relevance to the one floating operand, summed where it was spread out."""
        return [unspread(self.relevance[0], self.values[self.floating[0]].shape)]

    def shared(self) -> list[Array]:
        """Share relevance among the operands in proportion to what each of their numbers adds."""
        pulls = self.pulled([self.share(self.relevance[0], self.results[0])])
        return [self.values[i] * pull for i, pull in zip(self.floating, pulls, strict=True)]


def unspread(array: Array, shape: Sequence[int]) -> Array:
    """Sum an array over the axes along which an operand has size 1."""
    axes = tuple(i for i, (new, old) in enumerate(zip(array.shape, shape, strict=True)) if new != old)
    return jnp.sum(array, axis=axes, keepdims=True) if axes else array


class Kind:
    """One kind of operation. A subclass overrides the methods that it needs; `kinds.KINDS` lists all kinds.

    Attributes:
        primitives: the names of the JAX primitives of this kind.
        weight_sides: the positions of the operands that may be the weight of a layer; empty if it makes no layers.
        is_product: every number of its result is a sum of products, of a number of one operand with one of another. So
            the neurons of a layer are mixed there: their axis is followed no further, and a parameter that meets data
            there is a weight, not a table. An operation that only moves numbers, such as a lookup, is no product.
        factors: for a product, the positions of the two operands that are multiplied. Other operands may say how (the
            sizes of groups), or scale the result.
        linear: "together" if it is linear in all floating operands at once, "apart" if in each of them alone.
        affine_sides: the positions of an operand that the other operand, a constant, shifts or scales.
        is_step: its floating results are constant between jumps.
        compares: its results say which operand is larger.
        decides: it is piecewise linear, and the real input decides which piece is taken.
        clips: it passes its operand on or replaces it by a constant.
        chooses: it takes the largest or smallest of several positions.
        chooses_anywhere: the position that it took is counted among all those of its operand.
        curve: "curve" if it is curved everywhere, "power" for powers, which other functions are made of.
        cuts: its results are slices of its operand.
        joins: it puts its operands side by side, all of them whole.
        writes: it puts one operand into another one, or orders numbers.
        looks_up: it takes positions out of its first operand, as the others say.
        keeps: a parameter that goes through it is still that parameter, seen in another way.
        is_transform: it mixes all positions along an axis in the same way for every operand, as a Fourier transform.
        has_tangent: it can be differentiated in both directions.
        why_unread: why a product of this kind with a parameter may be no layer; for a warning.
    """

    primitives: ClassVar[frozenset[str]] = frozenset()
    weight_sides: ClassVar[tuple[int, ...]] = ()
    is_product: ClassVar[bool] = False
    factors: ClassVar[tuple[int, int]] = (0, 1)
    linear: ClassVar[str] = ""
    affine_sides: ClassVar[tuple[int, ...]] = ()
    is_step: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    decides: ClassVar[bool] = False
    clips: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    chooses_anywhere: ClassVar[bool] = False
    curve: ClassVar[str] = ""
    cuts: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False
    keeps: ClassVar[bool] = False
    is_transform: ClassVar[bool] = False
    has_tangent: ClassVar[bool] = True
    why_unread: ClassVar[str] = ""

    def holds(self, operation: Operation) -> bool:
        """Return whether an operation of one of the primitives is of this kind."""
        return True

    def other_factor(self, position: int) -> int:
        """Return the position of the operand that a product multiplies with the one at `position`."""
        return self.factors[1 - self.factors.index(position)]

    # Arranging

    def arranges(self, operation: Operation, graph: Graph) -> bool:
        """Return whether all elements of the operand stand in the result, each once, in whatever order."""
        return False

    def arranged(self, operation: Operation, axes: Axes, graph: Graph) -> Axes | None:
        """Return the result's axes, from the operand's, if elements are only moved or repeated; else None."""
        return None

    def spans(self, operation: Operation, output: int) -> list[Span]:
        """Return the positions along each dimension of the operand that one result consists of; for slices."""
        raise NotImplementedError

    # Following

    def axes_after(self, operation: Operation, position: int, output: int, axes: Axes, graph: Graph) -> Axes | None:
        """Return the axes of one result, from those of one operand; None where nothing is known.

        Dimensions that are reduced go; those that are cut unevenly, joined or new are foreign; the others stay.
        """
        before, after = graph.shape(operation.inputs[position]), graph.shape(operation.outputs[output])
        arranged = self.arranged(operation, axes, graph)
        if arranged is not None or len(before) != len(after):
            return arranged
        return resized(axes, before, after)

    def told_apart(self, operation: Operation, position: int, axes: Axes) -> list[tuple[Atom, ...]]:
        """Return the dimensions of an operand whose places are treated one by one, such as heads of attention."""
        return []

    def steps_after(
        self, operation: Operation, position: int, output: int, steps: Steps, graph: Graph
    ) -> Sequence[Sequence[int] | None] | None:
        """Return the steps of a place (see `_places`) in one result, from those in one operand.

        None, or None among the steps, where a position of the result belongs to no single position of the operand.
        """
        return None

    def places_after(
        self, operation: Operation, output: int, had: Sequence[frozenset[Place] | None], loops: int, graph: Graph
    ) -> frozenset[Place]:
        """Return the places of one result along one axis of x.

        Args:
            operation, output: which result of which operation.
            had: the places of the operands; None for one that does not depend on the axis.
            loops: how many of a place's first dimensions are loops, which the operation does not touch.
        """
        found: set[Place] = set()
        for position, some in enumerate(had):
            for one in some or ():
                moved = self.steps_after(operation, position, output, list(one.steps[loops:]), graph)
                known = [step for step in moved or () if step is not None]
                if moved is not None and len(known) == len(moved):
                    found.add(place(one.offset, [*one.steps[:loops], *known]))
        return frozenset(found)

    def reach_after(self, operation: Operation, position: int, reach: Reaches, graph: Graph) -> Reaches:
        """Return along which axes of x an element of the result sees a window only, from those of one operand."""
        return {}

    # Moving

    def ties(self, operation: Operation, book: Book) -> None:
        """Write down which axes move together, and what the operation asks of them; give its results axes."""
        book.stop(operation, "has no rule for frames")

    # Attributing

    def piece(self, operation: Operation, live: list[bool]) -> PieceRule | None:
        """Return how the operation goes along the affine piece of an input; None if it has no such piece.

        Args:
            operation: the operation.
            live: for each operand, whether it depends on the input.
        """
        is_affine = (self.linear == "together" and any(live)) or (self.linear == "apart" and sum(live) == 1)
        return linear_piece if is_affine else None

    def scale_and_shift(self, operation: Operation, side: int, constant: Array) -> tuple[Array | None, Array | None]:
        """Return the scale and the shift that a constant applies to the operand `side`; None where there is none."""
        raise NotImplementedError

    def relevance(self, flow: Relevance) -> list[Array] | None:
        """Return the relevance of each floating operand; None if there is no rule."""
        return None

    def multiplications(self, operation: Operation, graph: Graph) -> int:
        """Return how many numbers are multiplied; only products are counted."""
        return 0


def linear_piece(operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
    """Do an affine operation once more, with the moved operands."""
    return Piece(bind(operation, moved))


def tangent_piece(operation: Operation, real: list[Value], moved: list[Value], live: list[bool]) -> Piece:
    """Return the first-order expansion of an operation at its real operands: `g(real) + g'(real) (moved - real)`.

    Results that are not floating, such as indices, stay those of the real operands.
    """
    floating = [i for i, value in enumerate(real) if live[i] and jnp.issubdtype(jnp.result_type(value), jnp.inexact)]

    def run(*some: Array) -> list[Array]:
        full = list(real)
        for i, value in zip(floating, some, strict=True):
            full[i] = value
        return list(bind(operation, full))

    results, steps = jax.jvp(run, [real[i] for i in floating], [moved[i] - real[i] for i in floating])
    return Piece(
        [
            result + step if jnp.issubdtype(result.dtype, jnp.inexact) else result
            for result, step in zip(results, steps, strict=True)
        ]
    )


def resized(axes: Axes, before: Sequence[int], after: Sequence[int]) -> Axes:
    """Return axes in which the dimensions that changed their size are foreign."""
    sizes = zip(before, after, axes, foreign(after), strict=True)
    return tuple(kept if old == new else lost for old, new, kept, lost in sizes)
