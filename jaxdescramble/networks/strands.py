"""Which axes of a network's values move together: strands, and the streams that they form.

A *strand* is an axis of values and parameters that one matrix g acts on. Two axes are the same strand if an operation
ties them: both sides of a sum, or a contraction, where one side takes g and the other its dual `g^-T`. Strands of one
*stream* have different matrices, but one order of their positions: the two factors of a gated unit.

An axis may turn out to be several: a reshape makes a *product* (heads times the features of a head), a concatenation or
a slice a *sum* of parts. Then its strand has parts, and so have all strands of the stream.

Axes are written as in `axes`: an `Atom` has the label of its strand, or `FOREIGN` where the value is the same at all
positions. A label that ends in "*" is the dual of a strand.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdescramble.networks.axes import FOREIGN, Atom, Axes

DUAL = "*"
PRODUCT, SUM = "product", "sum"


class UnevenError(Exception):
    """An axis would have to be split in two ways that do not fit; the text completes "`primitive` at line ..."."""


@dataclasses.dataclass(eq=False)
class Strand:
    """One axis. If `parent` is set, it moves as the parent does, or as its dual if `flipped`.

    `cause` is the operation for which the strand got parts.
    """

    number: int
    size: int
    parent: "Strand | None" = None
    flipped: bool = False
    parts: "list[str]" = dataclasses.field(default_factory=list)
    how: str = ""
    family: "Family" = dataclasses.field(default_factory=lambda: Family())
    self_dual: bool = False
    cause: Any = None


@dataclasses.dataclass(eq=False)
class Family:
    """The strands that have one order of their positions: those of one stream."""

    members: list[Strand] = dataclasses.field(default_factory=list)
    parent: "Family | None" = None


class Strands:
    """All strands of a network, by label.

    Attributes:
        all: by number.
        operation: the operation that is looked at.
    """

    def __init__(self) -> None:
        self.all: list[Strand] = []
        self.operation: Any = None

    def new(self, size: int) -> str:
        """Return the label of a new strand."""
        strand = Strand(len(self.all), size)
        strand.family.members.append(strand)
        self.all.append(strand)
        return str(strand.number)

    def axis(self, size: int) -> tuple[Atom, ...]:
        """Return a dimension that is a new strand."""
        return () if size == 1 else (Atom(self.new(size), size, 1),)

    def find(self, label: str) -> tuple[Strand, bool]:
        """Return the strand that a label stands for, and whether the label is its dual."""
        strand, flipped = self.all[int(label.removesuffix(DUAL))], label.endswith(DUAL)
        while strand.parent is not None:
            flipped, strand = flipped != strand.flipped, strand.parent
        return strand, flipped

    def root(self, label: str) -> str:
        """Return the label of the strand that a label stands for."""
        return name(*self.find(label))

    def size(self, label: str) -> int:
        """Return the number of positions of a strand."""
        return self.find(label)[0].size

    def family(self, label: str) -> Family:
        """Return the family of a strand."""
        family = self.find(label)[0].family
        while family.parent is not None:
            family = family.parent
        return family

    def roots(self) -> Iterator[Strand]:
        """Yield every strand that is not tied to an earlier one."""
        return (strand for strand in self.all if strand.parent is None)

    # Parts

    def parts(self, label: str) -> tuple[str, list[str]]:
        """Return how a strand has parts, and the parts, those of parts included; ("", []) if it has none."""
        strand, flipped = self.find(label)
        if not strand.parts:
            return "", []
        found: list[str] = []
        for part in strand.parts:
            how, inner = self.parts(part)
            found += inner if how == strand.how else [self.root(part)]
        return strand.how, [dual(one) if flipped else one for one in found]

    def finest(self, label: str) -> list[str]:
        """Return the strands without parts that a strand consists of."""
        _, parts = self.parts(label)
        return [one for part in parts for one in self.finest(part)] if parts else [self.root(label)]

    def refine(self, label: str, how: str, sizes: Sequence[int]) -> None:
        """Give a strand, and all others of its stream, parts of these sizes.

        Raises:
            UnevenError: if it has other parts that do not fit.
        """
        sizes = list(sizes) if how == SUM else [size for size in sizes if size > 1]
        if len(sizes) < 2:
            return
        had, parts = self.parts(label)
        if not parts:
            self._first_parts(label, how, sizes)
            return
        old = [self.size(part) for part in parts]
        if had == PRODUCT and how == SUM:
            raise UnevenError("takes some positions of an axis whose heads are also used together")
        if had == SUM and how == PRODUCT:
            if any(size % math.prod(sizes[1:]) for size in old):
                raise UnevenError("splits an axis in two ways that do not fit each other")
            for part, size in zip(parts, old, strict=True):
                inner = math.prod(sizes[1:])
                self.refine(part, PRODUCT, [size // inner, *sizes[1:]])
            return
        marks = _marks(how, old) | _marks(how, sizes)
        wanted = _between(how, sorted(marks))
        if wanted is None:
            raise UnevenError("splits an axis in two ways that do not fit each other")
        for part, inner in zip(parts, _grouped(how, old, wanted), strict=True):
            self.refine(part, how, inner)

    def _first_parts(self, label: str, how: str, sizes: Sequence[int]) -> None:
        members = [strand for strand in self.family(label).members if strand.parent is None]
        for strand in members:
            strand.how, strand.parts, strand.cause = how, [self.new(size) for size in sizes], self.operation
        for other in members[1:]:
            for one, two in zip(members[0].parts, other.parts, strict=True):
                self.pair(one, two)
        for strand in members:
            if strand.self_dual:
                for part in strand.parts:
                    self.tie(part, dual(part))

    def sum_of(self, labels: Sequence[str]) -> str:
        """Return a strand that consists of others, side by side."""
        label = self.new(sum(self.size(one) for one in labels))
        strand, _ = self.find(label)
        strand.how, strand.parts = SUM, list(labels)
        return label

    # Ties

    def pair(self, one: str, other: str) -> None:
        """Put two strands into one stream: their positions have one order."""
        first, second = self.family(one), self.family(other)
        if first is second:
            return
        if self.size(one) != self.size(other):
            raise UnevenError("combines axes of different sizes")
        self._align(one, other)
        first, second = self.family(one), self.family(other)
        if first is second:
            return
        second.parent = first
        first.members += second.members
        second.members = []
        for one_part, other_part in zip(self.parts(one)[1], self.parts(other)[1], strict=True):
            self.pair(one_part, other_part)

    def tie(self, one: str, other: str) -> None:
        """Make two strands one: they move by the same matrix. A strand that is tied to its dual is orthogonal."""
        self.pair(one, other)
        (first, turned), (second, flipped) = self.find(one), self.find(other)
        if first is second:
            if turned != flipped and not first.self_dual:
                first.self_dual = True
                for part in first.parts:
                    self.tie(part, dual(part))
            return
        pairs = list(zip(self.parts(one)[1], self.parts(other)[1], strict=True))
        second.parent, second.flipped = first, turned != flipped
        first.self_dual |= second.self_dual
        for one_part, other_part in pairs:
            self.tie(one_part, other_part)

    def _align(self, one: str, other: str) -> None:
        """Give two strands parts of the same sizes."""
        for _ in range(8):
            (how, parts), (other_how, other_parts) = self.parts(one), self.parts(other)
            sizes, other_sizes = ([self.size(part) for part in some] for some in (parts, other_parts))
            if (how, sizes) == (other_how, other_sizes):
                return
            if parts:
                self.refine(other, how, sizes)
            if other_parts:
                self.refine(one, other_how, other_sizes)
        raise UnevenError("splits an axis in two ways that do not fit each other")

    # Axes of values

    def current(self, axes: Axes) -> Axes:
        """Return axes in which every factor of a product is an atom of its own."""
        return tuple(tuple(new for atom in dimension for new in self._resolved(atom)) for dimension in axes)

    def _resolved(self, atom: Atom) -> list[Atom]:
        if atom.label == FOREIGN:
            return [atom]
        label = self.root(atom.label)
        how, parts = self.parts(label)
        if how != PRODUCT:
            return [Atom(label, atom.size, atom.stride)]
        found, below = [], 1
        for part in reversed(parts):
            size = self.size(part)
            low, high = max(below, atom.stride), min(below * size, atom.stride * atom.size)
            if low < high:
                if high % low or low % below:
                    raise UnevenError("splits an axis in two ways that do not fit each other")
                found += reversed(self._resolved(Atom(part, high // low, low // below)))
            below *= size
        return found[::-1]

    def whole(self, axes: Axes, dimensions: Sequence[int]) -> None:
        """Refine strands until those in some dimensions lie in no other dimension, each whole."""
        for _ in range(16):
            atoms = self.current(axes)
            inside = [atom for i in dimensions for atom in atoms[i] if atom.label != FOREIGN]
            torn = next((atom for atom in inside if not self.is_whole(atom, inside)), None)
            if torn is None:
                return
            self.refine(torn.label, PRODUCT, self.cuts(torn))
        raise UnevenError("splits an axis in two ways that do not fit each other")

    def is_whole(self, atom: Atom, atoms: Sequence[Atom]) -> bool:
        """Return whether the atoms of this one's strand, among these atoms, are all of the strand, in its order."""
        own = [one for one in atoms if one.label == atom.label]
        below = 1
        for one in reversed(own):
            if one.stride != below:
                return False
            below *= one.size
        return below == self.size(atom.label)

    def cuts(self, atom: Atom) -> list[int]:
        """Return the factors that make an atom a factor of its strand."""
        size, inner = self.size(atom.label), atom.stride
        return [size // (atom.size * inner), atom.size, inner]


def name(strand: Strand, flipped: bool) -> str:
    """Return the label of a strand or its dual."""
    return f"{strand.number}{DUAL if flipped else ''}"


def number_of(label: str) -> int:
    """Return the number of the strand of a label.

    >>> number_of("3*")
    3
    """
    return int(label.removesuffix(DUAL))


def dual(label: str) -> str:
    """Return the label of the dual.

    >>> dual("3"), dual("3*")
    ('3*', '3')
    """
    return label.removesuffix(DUAL) if label.endswith(DUAL) else label + DUAL


def common(*dimensions: Sequence[Atom]) -> list[tuple[Atom, ...]]:
    """Split the atoms of several dimensions of one size until they correspond one to one.

    Raises:
        UnevenError: if their sizes do not fit.
    """
    rests, found = [list(one) for one in dimensions], []
    while any(rests):
        if not all(rests):
            raise UnevenError("combines axes that are split in ways that do not fit each other")
        last = [rest.pop() for rest in rests]  # the fastest first
        size = min(atom.size for atom in last)
        if any(atom.size % size for atom in last):
            raise UnevenError("combines axes that are split in ways that do not fit each other")
        found.append(tuple(Atom(atom.label, size, atom.stride) for atom in last))
        for rest, atom in zip(rests, last, strict=True):
            if atom.size > size:
                rest.append(Atom(atom.label, atom.size // size, atom.stride * size))
    return found[::-1]


def _marks(how: str, sizes: Sequence[int]) -> set[int]:
    """Return where parts begin: offsets of a sum, strides of a product."""
    if how == SUM:
        return {0, *itertools.accumulate(sizes)}
    return {1, *itertools.accumulate(reversed(sizes), int.__mul__)}


def _between(how: str, marks: Sequence[int]) -> list[int] | None:
    """Return the sizes of the parts between these marks; None if they are no whole numbers."""
    pairs = list(itertools.pairwise(marks))
    if how == SUM:
        return [high - low for low, high in pairs]
    return None if any(high % low for low, high in pairs) else [high // low for low, high in reversed(pairs)]


def _grouped(how: str, coarse: Sequence[int], fine: Sequence[int]) -> list[list[int]]:
    """Return for each coarse part the fine ones that it consists of."""
    rest, found = iter(fine), []
    for size in coarse:
        own: list[int] = []
        while (sum(own) if how == SUM else math.prod(own)) < size:
            own.append(next(rest))
        found.append(own)
    return found
