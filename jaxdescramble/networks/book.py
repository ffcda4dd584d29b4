"""What a walk through a network writes down about its streams: the axes of values, and every restriction with its line.

`kinds` fill the book, operation by operation (`Kind.ties`); `symmetry` reads it.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble.networks.axes import FOREIGN, Atom, Axes
from jaxdescramble.networks.evaluate import bind
from jaxdescramble.networks.graph import Graph, Operation, Value
from jaxdescramble.networks.strands import PRODUCT, Strands, UnevenError, common, dual

MOST = 10**6
"""Numbers of a constant that are computed, to see whether they are all the same."""

CONSTANT = "combines them with a constant that is not the same for all of them"


@dataclasses.dataclass(frozen=True, eq=False)
class Restriction:
    """What one operation asks of a strand.

    Attributes:
        operation: the operation; None for arguments and results of the network.
        labels: the strands.
        kind: "pinned" (moves nothing), "orthogonal", "charges" (one order of positions; see `logs` and `signs`),
            "contracted" (summed over; asks nothing), "ones" (the vector of ones is an eigenvector of g and of g^T),
            "fixes" (`g 1 = 1`), "cofixes" (`1^T g = 1^T`), "centred" (the second strand is the first one without its
            mean).
        text: why, for a person: it completes "`primitive` at line ...".
        logs: integers k with `sum k log |c| = 0`, one for each label; empty if nothing is asked of the sizes.
        signs: integers k with `prod sign(c)^k = 1`; empty if nothing is asked of the signs.
    """

    operation: Operation | None
    labels: tuple[str, ...]
    kind: str
    text: str
    logs: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Form:
    """A number that is a form of a value along whole strands, not yet used: its mean, or its square norm.

    Along the strands, `value = linear 1^T v` (degree 1), or `value = square v^T v + mixed (1^T v)^2` (degree 2).

    Attributes:
        base: the value v; `dimensions`: those that were summed.
        degree: 1 or 2.
        operation: the sum.
        linear, square, mixed: the coefficients.
    """

    base: int
    dimensions: tuple[int, ...]
    degree: int
    operation: Operation
    linear: float = 0.0
    square: float = 0.0
    mixed: float = 0.0

    def times(self, factor: float) -> "Form":
        """Return the form of the number times a factor."""
        return dataclasses.replace(
            self, linear=self.linear * factor, square=self.square * factor, mixed=self.mixed * factor
        )

    @property
    def key(self) -> tuple[int, tuple[int, ...], int]:
        """Forms with one key can be added."""
        return self.base, self.dimensions, self.degree


class Book:
    """Axes of values and restrictions, while a graph is followed.

    Attributes:
        strands: the axes that move together.
        axes: by value.
        restrictions: in the order of the operations.
        forms: by value, the numbers that are means or square norms and that nothing has used yet.
        squares: by value that a sum alone reads, the value that it is the square of, and the dimensions of the sum.
        origin: by value, the value that it is a copy of.
        loops: by scan, the strand of its steps.
        centred: by base value and dimensions, the axes of the value without its mean.
    """

    def __init__(self, graph: Graph, facts: Any):
        self.graph, self.facts = graph, facts
        self.strands = Strands()
        self.axes: dict[int, Axes] = {}
        self.restrictions: list[Restriction] = []
        self.forms: dict[int, Form] = {}
        self.squares: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.origin: dict[int, int] = {}
        self.centred: dict[tuple[int, tuple[int, ...]], Axes] = {}
        self.loops: dict[Operation, str] = {}
        self.operation: Operation | None = None
        self._known: dict[int, Value] = {}

    def summed(self, number: int) -> tuple[int, ...]:
        """Return the dimensions of the sum that alone reads a value; none if something else reads it."""
        readers = self.facts.readers[number]
        if number in self.facts.returned or len(readers) != 1:
            return ()
        (reader, _), name = readers[0], readers[0][0].name
        if name in ("convert_element_type", "real"):
            return self.summed(reader.outputs[0])
        return tuple(map(int, reader.params["axes"])) if name == "reduce_sum" else ()

    # Constants

    def constant(self, number: int) -> np.ndarray | None:
        """Return a value that depends on no argument, as an array; None if it does, or if it is large."""
        value = self._known.get(number)
        return value if isinstance(value, np.ndarray) else None

    def is_known(self, number: int) -> bool:
        """Return whether a value is a constant."""
        return number in self._known

    def compute(self, operation: Operation) -> bool:
        """Compute the results of an operation on constants; return whether that was possible."""
        sizes = [np.prod(self.graph.shape(number)) for number in operation.outputs]
        operands = [self._known.get(number) for number in operation.inputs]
        if (
            operation.blocks
            or operation.effects
            or any(one is None for one in operands)
            or max(sizes, default=0) > MOST
        ):
            return False
        for number, value in zip(operation.outputs, bind(operation, operands), strict=True):
            self.know(number, value)
        return True

    def know(self, number: int, value: Value) -> None:
        """Keep a constant. Along each dimension it is spread out, or it moves nothing."""
        self._known[number] = value if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else np.asarray(value)
        axes = list(self.spread(number))
        for i in range(len(axes)):
            if axes[i] and not self.alike(number, [i]):
                axes[i] = self.strands.axis(self.graph.shape(number)[i])
                self.pin(self.labels([axes[i]]), CONSTANT, self._combiner(number))
        self.axes[number] = tuple(axes)

    def _combiner(self, number: int) -> Operation | None:
        """Return the operation that combines a constant with arguments; the one that makes it if there is none."""
        facts = self.facts
        readers = (reader for reader, _ in facts.readers[number])
        dependent = (one for one in readers if any(n in facts.parameters or n in facts.data for n in one.outputs))
        return next(dependent, self.operation)

    def is_zero(self, number: int) -> bool:
        """Return whether a value is the constant 0."""
        array = self.constant(number)
        return array is not None and not np.any(array)

    def alike(self, number: int, dimensions: Sequence[int]) -> bool:
        """Return whether a value is a constant that is the same everywhere along some dimensions."""
        array = self.constant(number)
        if array is None:
            return False
        return all(array.shape[i] == 1 or bool((array == array.take([0], axis=i)).all()) for i in dimensions)

    # Axes

    def spread(self, number: int) -> Axes:
        """Return the axes of a value that is the same everywhere."""
        return tuple((Atom(FOREIGN, size, 1),) if size > 1 else () for size in self.graph.shape(number))

    def of(self, number: int) -> Axes:
        """Return the axes of a value as they are known by now."""
        return self.strands.current(self.axes[number])

    def leaf_labels(self, number: int) -> list[str]:
        """Return the strand of each axis of an argument; FOREIGN for one that nothing moves."""
        return [dimension[0].label if dimension else FOREIGN for dimension in self.axes[number]]

    def filled(self, number: int) -> Axes:
        """Return the axes of a value; a dimension without a strand is spread out."""
        axes = self.of(number)
        sizes = zip(axes, self.graph.shape(number), strict=True)
        return tuple(dimension or ((Atom(FOREIGN, size, 1),) if size > 1 else ()) for dimension, size in sizes)

    def hand_on(self, number: int, result: int, axes: Axes | None = None, same: bool = True) -> None:
        """Let a result move as its operand does, also a mean or a norm that nothing has used yet."""
        self.axes[result] = self.of(number) if axes is None else axes
        if number in self.forms:
            self.forms[result] = self.forms[number]
        if same:
            self.origin[result] = self.origin.get(number, number)
            if number in self.squares:
                self.squares[result] = self.squares[number]

    def lost(self, dimension: Sequence[Atom], size: int, text: str) -> tuple[Atom, ...]:
        """Allow nothing for a dimension, and return a new one of another size that nothing moves."""
        had = self.labels([dimension])
        if dimension and not had:
            return (Atom(FOREIGN, size, 1),) if size > 1 else ()
        self.pin(had, text)
        new = self.strands.axis(size)
        self.pin(self.labels([new]), text)
        return new

    def same(self, numbers: Sequence[int], text: str) -> list[tuple[Atom, ...]]:
        """Tie values of one shape along all dimensions; return their axes."""
        return self.tied([self.filled(number) for number in numbers], numbers, text)

    def tied(
        self, values: Sequence[Sequence[Sequence[Atom]]], numbers: Sequence[int], text: str
    ) -> list[tuple[Atom, ...]]:
        """Tie dimensions of some values; return the dimensions. `text` says what a value does that is spread out."""
        dimensions = []
        for dimension in self.meet(*values):
            atoms = []
            for column in dimension:
                labels = [atom.label for atom in column if atom.label != FOREIGN]
                for atom, number in zip(column, numbers, strict=True):
                    if atom.label != FOREIGN:
                        self.strands.tie(labels[0], atom.label)
                    elif labels:
                        self.beside(labels[0], number, text)
                atoms.append(next((atom for atom in column if atom.label != FOREIGN), column[0]))
            dimensions.append(tuple(atoms))
        return dimensions

    def beside(self, label: str, number: int, text: str) -> None:
        """Write down that a value which is spread out along a strand is put beside it."""
        if not self.is_zero(number):
            self.note("fixes", [label], text)

    def labels(self, axes: Iterable[Sequence[Atom]]) -> list[str]:
        """Return the strands in some dimensions, each once."""
        return list(dict.fromkeys(atom.label for dimension in axes for atom in dimension if atom.label != FOREIGN))

    # Restrictions

    def note(
        self, kind: str, labels: Sequence[str], text: str, logs: Sequence[int] = (), signs: Sequence[int] = ()
    ) -> None:
        """Write down what the current operation asks; see `Restriction`."""
        if labels:
            self.restrictions.append(Restriction(self.operation, tuple(labels), kind, text, tuple(logs), tuple(signs)))

    def pin(self, labels: Sequence[str], text: str, operation: Operation | None = None) -> None:
        """Allow nothing for some strands, because of the current operation or another one."""
        for label in labels:
            self.restrictions.append(Restriction(operation or self.operation, (label,), "pinned", text))

    def stop(self, operation: Operation, text: str) -> None:
        """Allow nothing for any strand of an operation's operands, and follow its results no further."""
        for number in operation.inputs:
            self.use(number)
            self.pin(self.labels(self.axes[number]), text)
        for block in operation.unread:
            for number in block.free:
                if number in self.axes:
                    self.use(number)
                    self.pin(self.labels(self.axes[number]), text)
        for number in operation.outputs:
            self.axes[number] = tuple(self.strands.axis(size) for size in self.graph.shape(number))
            self.pin(self.labels(self.axes[number]), text)

    def charges(self, labels: Sequence[str], logs: Sequence[int], signs: Sequence[int], text: str) -> None:
        """Allow only an order of the positions and charges: factors c, one for each position of each strand."""
        for other in labels[1:]:
            self.strands.pair(labels[0], other)
        self.note("charges", labels, text, logs, signs)

    def orthogonal(self, label: str, text: str, centred: bool = False) -> None:
        """Allow only matrices with `g^T g = 1`; for a strand without its mean, on the vectors of mean zero."""
        self.note("orthogonal", [label], text)
        if not centred:
            self.strands.tie(label, dual(label))

    def meet(self, *values: Sequence[Sequence[Atom]]) -> list[tuple[tuple[Atom, ...], ...]]:
        """Return what meets where dimensions of several values correspond: for each dimension, tuples of atoms.

        Strands are refined until each meets one other strand of each value, whole.
        """
        for _ in range(32):
            known = [self.strands.current(tuple(map(tuple, value))) for value in values]
            found = [common(*dimensions) for dimensions in zip(*known, strict=True)]
            torn = self._torn([atoms for dimension in found for atoms in dimension])
            if torn is None:
                return [tuple(dimension) for dimension in found]
            self.strands.refine(*torn)
        raise UnevenError("combines axes that are split in ways that do not fit each other")

    def _torn(self, columns: Sequence[tuple[Atom, ...]]) -> tuple[str, str, list[int]] | None:
        """Return a strand that meets another one in part only, with the factors to split it."""
        strands = self.strands
        for side in range(len(columns[0]) if columns else 0):
            for own in self._groups(columns, side):
                mine = [column[side] for column in own]
                for other in range(len(columns[0])):
                    theirs = [column[other] for column in own]
                    several = len({atom.label for atom in theirs}) > 1
                    moved = theirs[0].label != FOREIGN and any(
                        a.stride != b.stride for a, b in zip(mine, theirs, strict=True)
                    )
                    if several or moved:
                        if len(mine) > 1 or not strands.is_whole(mine[0], mine):
                            return mine[0].label, PRODUCT, strands.cuts(mine[0])
                        if moved:
                            return theirs[0].label, PRODUCT, strands.cuts(theirs[0])
        return None

    def _groups(self, columns: Sequence[tuple[Atom, ...]], side: int) -> list[list[tuple[Atom, ...]]]:
        """Return the columns of each strand; a strand may be whole in several dimensions."""
        found: dict[object, list[tuple[Atom, ...]]] = {}
        for i, column in enumerate(columns):
            atom = column[side]
            if atom.label != FOREIGN:
                key = i if atom.size == self.strands.size(atom.label) else atom.label
                found.setdefault(key, []).append(column)
        return list(found.values())

    # Forms

    def use(self, number: int) -> None:
        """Settle a number that is a mean or a square norm: something uses it as it is."""
        form = self.forms.pop(number, None)
        if form is not None:
            reader, self.operation = self.operation, form.operation
            self._settle(form)
            self.operation = reader

    def _settle(self, form: Form) -> None:
        """Write down what a form asks of its strands when it is used as it is."""
        axes = self.of(form.base)
        labels = self.labels(axes[i] for i in form.dimensions)
        if form.degree == 1:
            self.note("cofixes", labels, "sums them all up, or takes their mean")
            return
        if form.square and form.mixed and abs(form.square + form.mixed * self.count(form)) < 1e-5 * abs(form.square):
            if self.alone(form):
                axes = self.without_mean(form)
                for label in self.labels(axes[i] for i in form.dimensions):
                    self.orthogonal(label, "takes the norm of all of them without their mean", centred=True)
                return
            self.note("ones", labels, "takes the variance over them and other axes")
        elif form.mixed:
            self.note("ones", labels, "uses the square of their sum")
        for label in labels:
            if form.square:
                self.orthogonal(label, "takes the norm of all of them")

    def count(self, form: Form) -> int:
        """Return how many numbers a form sums up."""
        return int(np.prod([self.graph.shape(form.base)[i] for i in form.dimensions]))

    def alone(self, form: Form) -> bool:
        """Return whether a form sums up one strand and nothing else."""
        axes = self.of(form.base)
        summed = [atom for i in form.dimensions for atom in axes[i]]
        return len(summed) == 1 and summed[0].label != FOREIGN

    def without_mean(self, form: Form) -> Axes:
        """Return the axes of the form's base without its mean along the form's dimensions: those of a new strand."""
        key = (form.base, form.dimensions)
        if key not in self.centred:
            axes = list(self.of(form.base))
            (i,) = (i for i in form.dimensions if axes[i])
            (atom,) = axes[i]
            new = self.strands.new(atom.size)
            self.strands.pair(atom.label, new)
            self.note("centred", [atom.label, new], "subtracts their mean")
            axes[i] = (Atom(new, atom.size, 1),)
            self.centred[key] = tuple(axes)
        return self.centred[key]
