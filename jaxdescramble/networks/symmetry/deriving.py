"""Derive the streams of a network, and the largest group of each, from what a `Book` says."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from jaxdescramble.networks.axes import FOREIGN, Axes
from jaxdescramble.networks.book import Book, Restriction
from jaxdescramble.networks.graph import everything
from jaxdescramble.networks.strands import DUAL, PRODUCT, Family, number_of
from jaxdescramble.networks.symmetry.charges import beyond, free_signs, free_sizes
from jaxdescramble.networks.symmetry.groups import Matrices, Ordered
from jaxdescramble.networks.symmetry.moving import Mover, Part, place_of

MANY = 4096
"""Combinations of parts of one value that are looked at one by one."""


class End(NamedTuple):
    """Where a strand lies in the parameters.

    `vector`: whether the leaf has one axis. `first` is when the network first reads the leaf.
    """

    vector: bool
    first: int
    leaf: int
    axis: int
    side: str
    path: str


class Asked(NamedTuple):
    """A restriction, and the labels of those strands without parts that it is about."""

    restriction: Restriction
    labels: list[str]

    @property
    def kind(self) -> str:
        """The kind of the restriction."""
        return self.restriction.kind


@dataclasses.dataclass(frozen=True, eq=False)
class Derived:
    """One stream.

    Attributes:
        members: its strands without parts, by number; the first one is the number of the stream.
        group: what may act.
        ends: where it lies in the parameters, in the order in which the network reads them.
        asked: what restricts it.
    """

    members: tuple[int, ...]
    group: Matrices | Ordered
    ends: tuple[End, ...]
    asked: tuple[Asked, ...]

    @property
    def number(self) -> int:
        """Number of the stream."""
        return self.members[0]


class Derivation:
    """The streams of a network.

    Attributes:
        book: what a walk through the network wrote down.
        stream_of: by strand without parts, the number of its stream.
        places: by stream, those streams at whose positions its element may be another one, outermost first.
        streams: those that something may act on, in the order in which the network reads their leaves.
        outer: those of them at whose positions the element of another one may be another.
    """

    def __init__(self, book: Book):
        self.book = book
        families: dict[Family, list[int]] = {}
        for strand in book.strands.roots():
            if not strand.parts and strand.size > 1:
                families.setdefault(book.strands.family(str(strand.number)), []).append(strand.number)
        self.members = {own[0]: own for own in families.values()}
        self.stream_of = {number: first for first, own in self.members.items() for number in own}
        self.asked = self._asked()
        self.turned = self._turned()
        self.places = self._places()
        self.streams = self._derive()
        self.outer = {place for one in self.streams for place in self.places[one.number]}

    def parts(self, shape: Sequence[int], labels: Sequence[str]) -> Iterator[Part]:
        """Split an array until no axis has parts; `labels` are the strands of its axes."""
        return Mover(self.book.strands, {}, self.stream_of, self.places).parts(shape, labels)

    def _derive(self) -> list[Derived]:
        used, ends = self._used(), self._ends()
        groups = {number: self._group(number, outer=False) for number in self.members if number in used}
        live = [number for number, group in groups.items() if not _nothing(group)]
        outer = {place for number in live for place in self.places[number]}
        found = []
        for number in live:
            own = sorted(end for member in self.members[number] for end in ends.get(member, ()))
            group = self._group(number, outer=True) if number in outer else groups[number]
            if own and not _nothing(group):
                asked = tuple(self.asked.get(number, ()))
                found.append(Derived(tuple(self.members[number]), group, tuple(own), asked))
        return sorted(found, key=lambda one: one.ends)

    # What the book says about each stream

    def _asked(self) -> dict[int, list[Asked]]:
        """Return the restrictions of each stream, with the labels of strands without parts."""
        strands = self.book.strands
        found: dict[int, list[Asked]] = {}
        for one in self._restrictions():
            finest = [strands.finest(label) for label in one.labels]
            together = len({len(some) for some in finest}) == 1
            groups = zip(*finest, strict=True) if together else ([label] for some in finest for label in some)
            for group in groups:
                labels = [label for label in group if number_of(label) in self.stream_of]
                for stream in dict.fromkeys(self.stream_of[number_of(label)] for label in labels):
                    own = [label for label in labels if self.stream_of[number_of(label)] == stream]
                    if one.kind != "charges" or len(own) == len(one.labels):
                        found.setdefault(stream, []).append(Asked(one, own))
        return found

    def _restrictions(self) -> Iterator[Restriction]:
        """Yield the restrictions; a mean over an axis that has parts leaves an order of each part alone."""
        for one in self.book.restrictions:
            if one.kind in ("ones", "centred") and len(self.book.strands.finest(one.labels[0])) > 1:
                yield dataclasses.replace(one, kind="charges")
                yield dataclasses.replace(one, kind="fixes")
            else:
                yield one

    def _kinds(self, number: int) -> set[str]:
        return {one.kind for one in self.asked.get(number, ())}

    def _turned(self) -> dict[int, bool]:
        """Return for each strand whether the first value that depends on the data and has it has its dual."""
        book, found = self.book, {}
        for of_data in (True, False):
            for value, axes in book.axes.items():
                if of_data and (value not in book.facts.data or value in book.graph.inputs):
                    continue
                for label in book.labels(axes):
                    for one in book.strands.finest(label):
                        found.setdefault(number_of(one), one.endswith(DUAL))
        return found

    def _used(self) -> set[int]:
        """Return the streams that a value besides the arguments has, or that an operation sums over."""
        book = self.book
        summed = {label for one in book.restrictions if one.kind == "contracted" for label in one.labels}
        values = (axes for value, axes in book.axes.items() if value not in book.graph.inputs)
        labels = summed.union(label for axes in values for label in book.labels(axes))
        numbers = {number_of(one) for label in labels for one in book.strands.finest(label)}
        return {self.stream_of[number] for number in numbers if number in self.stream_of}

    def _ends(self) -> dict[int, list[End]]:
        """Return for each strand without parts where it lies in the parameters."""
        book = self.book
        order = {operation: i for i, operation in enumerate(everything(book.graph))}
        found: dict[int, list[End]] = {}
        for i, number in enumerate(book.graph.arguments[0]):
            first = min((order[operation] for operation, _ in book.facts.readers[number]), default=len(order))
            for axis, dimension in enumerate(book.axes[number]):
                own = (atom.label for atom in dimension if atom.label != FOREIGN)
                for label in (one for whole in own for one in book.strands.finest(whole)):
                    side = "written" if label.endswith(DUAL) == self.turned[number_of(label)] else "read"
                    end = End(len(book.axes[number]) < 2, first, i, axis, side, book.graph.names[number])
                    found.setdefault(number_of(label), []).append(end)
        return found

    # Places

    def _places(self) -> dict[int, tuple[int, ...]]:
        """Return for each stream those at whose positions its element may be another one.

        They lie beside it in every value, and only their order can change.
        """
        book = self.book
        beside: dict[int, set[int]] = {}
        for value, axes in book.axes.items():
            if book.is_known(value):
                continue
            loops = self._steps(value)
            for context in self._contexts(axes):
                whole = {self.stream_of[number] for number in context} | loops
                for number in whole - loops:
                    others = whole - {number}
                    beside[number] = beside[number] & others if number in beside else others
        found: dict[int, tuple[int, ...]] = {}
        for number in sorted(self.members):
            near = [other for other in beside.get(number, ()) if self._kinds(other) & {"charges", "pinned"}]
            # If two streams lie side by side everywhere, the first one is outside.
            free = {
                other
                for other in near
                if "pinned" in self._kinds(other) or other < number or number not in beside.get(other, ())
            }
            found[number] = tuple(sorted(free))
        layouts = self._layouts()
        return {
            number: tuple(one for one in some if _clear(number, one, layouts.get(number, ()), found))
            for number, some in found.items()
        }

    def _steps(self, value: int) -> set[int]:
        """Return the streams of the loops around a value; a loop of which the network uses parts apart has none."""
        book, found = self.book, set()
        for loop in book.facts.loops.get(value, ()):
            if loop in book.loops and loop.params["length"] > 1:
                alternatives = self._alternatives(book.loops[loop])
                found |= {self.stream_of[one] for one in alternatives[0]} if len(alternatives) == 1 else set()
        return found

    def _layouts(self) -> dict[int, list[tuple[list[int], list[int]]]]:
        """Return for each stream how it lies in each parameter: the stream of each factor, and the axis it comes from.

        Of an axis that is a sum of parts, each part makes a layout.
        """
        book, found = self.book, {}
        for leaf in book.graph.arguments[0]:
            labels = [atom.label for dimension in book.axes[leaf] for atom in dimension if atom.label != FOREIGN]
            for parts in itertools.product(*(self._alternatives(label) for label in labels)):
                streams = [self.stream_of[one] for some in parts for one in some]
                origins = [axis for axis, some in enumerate(parts) for _ in some]
                for stream in dict.fromkeys(streams):
                    found.setdefault(stream, []).append((streams, origins))
        return found

    def _contexts(self, axes: Axes) -> Iterator[list[int]]:
        """Yield the strands without parts that lie side by side in a value: for each combination of parts of sums."""
        choices = [self._alternatives(label) for label in self.book.labels(axes)]
        if math.prod(map(len, choices)) > MANY:
            yield from ([number] for choice in choices for some in choice for number in some)
            return
        for combination in itertools.product(*choices):
            yield [number for some in combination for number in some]

    def _alternatives(self, label: str) -> list[list[int]]:
        strands = self.book.strands
        how, parts = strands.parts(label)
        if not parts:
            root = strands.find(label)[0]
            return [[root.number]] if root.size > 1 else [[]]
        inner = [self._alternatives(part) for part in parts]
        if how == PRODUCT:
            return [[n for some in combination for n in some] for combination in itertools.product(*inner)]
        return [one for some in inner for one in some]

    # Groups

    def _group(self, number: int, outer: bool) -> Matrices | Ordered:
        """Return the group of a stream; `outer`: another stream has an element at each of its positions."""
        places = tuple(self.book.strands.all[place].size for place in self.places[number])
        if outer or self._kinds(number) & {"charges", "pinned"}:
            return self._ordered(number, places, outer)
        return self._matrices(number, places)

    def _label(self, number: int) -> str:
        return f"{number}{DUAL if self.turned.get(number) else ''}"

    def _matrices(self, number: int, places: tuple[int, ...]) -> Matrices:
        strands, asked = self.book.strands, self.asked.get(number, [])
        n = strands.all[number].size
        centred = [one.labels for one in asked if one.kind == "centred"]
        first = centred[0][0] if centred else self._label(number)
        base = number_of(first)
        # For the dual of a strand, `g 1 = 1` is `1^T g = 1^T`.
        turned = {"fixes": "cofixes", "cofixes": "fixes"}
        kept = {
            one.kind if one.labels[0].endswith(DUAL) == first.endswith(DUAL) else turned[one.kind]
            for one in asked
            if one.kind in turned
        }
        of_base = {one.kind for one in asked if base in map(number_of, one.labels)}
        if centred:
            bare = strands.all[base].self_dual or "ones" in of_base or bool(kept)
            others = dict.fromkeys(labels[-1] for labels in centred if number_of(labels[-1]) != base)
            orthogonal = "orthogonal" in self._kinds(number)
            return Matrices(n, places, first, orthogonal, ones=bare, mean=True, centred=tuple(others))
        orthogonal = strands.all[base].self_dual
        return Matrices(n, places, first, orthogonal, "fixes" in kept, "cofixes" in kept, "ones" in of_base)

    def _ordered(self, number: int, places: tuple[int, ...], outer: bool) -> Ordered:
        members = self.members[number]
        count, at = len(members), {member: j for j, member in enumerate(members)}
        sizes: list[list[int]] = []
        signs: list[list[int]] = []
        common: set[int] = set()
        moves = True

        def row(labels: Sequence[str], powers: Sequence[int], size: bool) -> list[int]:
            found = [0] * count
            for label, power in zip(labels, powers, strict=True):
                found[at[number_of(label)]] += -power if size and label.endswith(DUAL) else power
            return found

        def unit(member: int) -> list[int]:
            return [int(j == at[member]) for j in range(count)]

        for member in members:
            if self.book.strands.all[member].self_dual or outer:
                sizes.append(unit(member))
            if outer:
                signs.append(unit(member))
        for one in self.asked.get(number, ()):
            if one.kind == "charges":
                if one.restriction.logs:
                    sizes.append(row(one.labels, one.restriction.logs, True))
                if one.restriction.signs:
                    signs.append(row(one.labels, one.restriction.signs, False))
            elif one.kind == "orthogonal":
                sizes.append(row(one.labels, (1,), True))
            elif one.kind in ("pinned", "fixes", "cofixes"):
                moves &= one.kind != "pinned"
                for label in one.labels:
                    sizes.append(unit(number_of(label)))
                    signs.append(unit(number_of(label)))
            elif one.kind in ("ones", "centred"):
                common |= {at[number_of(label)] for label in one.labels}
                if len(one.labels) == 2:
                    sizes.append(row(one.labels, (1, -1), True))
                    signs.append(row(one.labels, (1, -1), False))
        same = [[int(j == k) for j in range(count)] for k in sorted(common)]
        own_sizes, own_signs = free_sizes([*sizes, *same], count), free_signs([*signs, *same], count)
        return Ordered(
            self.book.strands.all[number].size,
            places,
            tuple(self._label(member) for member in members),
            moves,
            own_sizes,
            own_signs,
            beyond(free_sizes(sizes, count), own_sizes, free_sizes),
            beyond(free_signs(signs, count), own_signs, free_signs),
        )


def _clear(
    number: int, place: int, layouts: Sequence[tuple[list[int], list[int]]], places: Mapping[int, Sequence[int]]
) -> bool:
    """Return whether each axis of a parameter along which a stream lies has one axis of its places."""
    return all(
        place_of(i, place, streams, origins, places) is not None
        for streams, origins in layouts
        for i, stream in enumerate(streams)
        if stream == number
    )


def _nothing(group: Matrices | Ordered) -> bool:
    return isinstance(group, Ordered) and group.trivial


def strands_of(group: Matrices | Ordered) -> Mapping[int, str]:
    """Return the strands that a group acts on: their labels by number."""
    labels = (group.strand, *group.centred) if isinstance(group, Matrices) else group.strands
    return {number_of(label): label for label in labels}
