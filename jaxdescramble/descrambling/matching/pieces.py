"""The parameters of two networks in pieces, each of whose axes one stream moves: what `match` compares.

A *piece* is a part of a leaf, or of an array of activations, whose axes have no parts. The same problem occurs at many
places of a network: the blocks of a transformer. Therefore a problem is described by static values without names, and
equal problems share one compiled program.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble.networks.strands import DUAL, number_of
from jaxdescramble.networks.symmetry import Matrices, Ordered
from jaxdescramble.networks.symmetry.deriving import Derivation, Derived, strands_of

State = dict[str, Array]
"""Element of a stream: "order" and "scales" (strands, *places, n), or "matrix" and its "dual", (*places, n, n)."""


class Axis(NamedTuple):
    """An axis of a piece that a stream moves.

    `slot` is the position of the stream in its problem, and `strand` that of the strand in the stream. `places` are the
    axes of the piece at whose positions the element may be another one.
    """

    axis: int
    slot: int
    strand: int
    dual: bool
    places: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A stream's group, as a value that can be compared.

    Attributes:
        size, places: see `Ordered`.
        ordered: whether it is a group of orders.
        sizes, signs, common_sizes, common_signs: bases of the free charges, rows for strands.
        moves: whether the order is free.
        orthogonal: whether matrices must be orthogonal.
        ones: 0 if matrices need not keep the vector of ones; 1 if they must keep it, -1 if they may change its sign.
        outer: whether other streams have an element at each position.
    """

    size: int
    places: tuple[int, ...]
    ordered: bool
    sizes: tuple[tuple[int, ...], ...] = ()
    signs: tuple[tuple[int, ...], ...] = ()
    common_sizes: tuple[tuple[int, ...], ...] = ()
    common_signs: tuple[tuple[int, ...], ...] = ()
    moves: bool = True
    orthogonal: bool = False
    ones: int = 0
    outer: bool = False


class Piece(NamedTuple):
    """A piece of both networks: `axes` are static, `one` and `other` are the numbers."""

    axes: tuple[Axis, ...]
    one: Array
    other: Array


class Problem(NamedTuple):
    """One stream and the pieces that it moves. `slots` are the streams in them by number; the first is the own one."""

    kind: Kind
    slots: tuple[int, ...]
    pieces: tuple[Piece, ...]


def kind_of_group(group: Matrices | Ordered, outer: bool) -> Kind:
    """Return a group as a value."""
    if isinstance(group, Ordered):
        bases = (group.sizes, group.signs, group.common_sizes, group.common_signs)
        rows = (tuple(tuple(int(number) for number in row) for row in basis) for basis in bases)
        return Kind(group.size, group.places, True, *rows, moves=group.moves, outer=outer)
    signed = group.ones and not (group.fixes or group.cofixes)
    ones = (-1 if signed else 1) if group.mean or group.fixes or group.cofixes or group.ones else 0
    ones = 1 if group.mean and not group.ones else ones
    return Kind(group.size, group.places, False, orthogonal=group.orthogonal, ones=ones, outer=outer)


def start(kind: Kind, dtype: Any) -> State:
    """Return the identity."""
    shape = (*kind.places, kind.size)
    if kind.ordered:
        order = np.broadcast_to(np.arange(kind.size, dtype=np.int32), shape)
        return {"order": jnp.asarray(order), "scales": jnp.ones((len(kind.sizes), *shape), dtype)}
    eye = jnp.broadcast_to(jnp.eye(kind.size, dtype=dtype), (*shape, kind.size))
    return {"matrix": eye, "dual": eye}


class Pieces:
    """All pieces of two networks.

    Attributes:
        streams: those that move, by number of the stream.
        kinds: their groups.
        all: pieces; in their axes, `slot` is the number of the stream.
        rest: the squared distance of what nothing moves.
    """

    def __init__(self, derivation: Derivation):
        self.derivation = derivation
        self.streams: dict[int, Derived] = {one.number: one for one in derivation.streams}
        self.kinds = {
            number: kind_of_group(one.group, number in derivation.outer) for number, one in self.streams.items()
        }
        self.strand = {strand: i for one in self.streams.values() for i, strand in enumerate(strands_of(one.group))}
        self.all: list[Piece] = []
        self.rest = 0.0

    def add(self, labels: Sequence[str], one: Array, other: Array) -> None:
        """Add two arrays; `labels` are the strands of their axes, "" for none."""
        for part in self.derivation.parts(one.shape, labels):
            axes = []
            for i, label in enumerate(part.labels):
                stream = self.derivation.stream_of.get(number_of(label)) if label else None
                if stream in self.streams and number_of(label) in self.strand:
                    places = tuple(part.places.get(i, ()))
                    if len(places) == len(self.kinds[stream].places):
                        axes.append(Axis(i, stream, self.strand[number_of(label)], label.endswith(DUAL), places))
            whole = part.where.shape == one.shape
            first, second = (array if whole else array.ravel()[part.where] for array in (one, other))
            if not axes:
                self.rest += float(jnp.sum(jnp.square(first - second)))
            else:
                self.all.append(Piece(tuple(axes), first, second))

    def problems(self) -> Iterator[tuple[int, Problem]]:
        """Yield the problem of each stream by number, those first at whose positions others have an element."""
        for number in sorted(self.streams, key=lambda number: len(self.kinds[number].places)):
            own = [piece for piece in self.all if any(axis.slot == number for axis in piece.axes)]
            slots = list(dict.fromkeys([number, *(axis.slot for piece in own for axis in piece.axes)]))
            at = {stream: i for i, stream in enumerate(slots)}
            pieces = tuple(
                piece._replace(axes=tuple(axis._replace(slot=at[axis.slot]) for axis in piece.axes)) for piece in own
            )
            yield number, Problem(self.kinds[number], tuple(slots), pieces)


def moved(array: Array, axes: Sequence[Axis], states: Sequence[State], kinds: Sequence[Kind]) -> Array:
    """Return an array after elements have acted along some of its axes, those without places first."""
    for axis in sorted(axes, key=lambda axis: len(axis.places)):
        state = states[axis.slot]
        if kinds[axis.slot].ordered:
            array = _scaled(_taken(array, state["order"], axis), state, axis)
        else:
            array = multiplied(array, state["dual" if axis.dual else "matrix"], axis)
    return array


def moved_back(array: Array, axes: Sequence[Axis], states: Sequence[State], kinds: Sequence[Kind]) -> Array:
    """Return an array after the adjoints of elements have acted: `<a, g b> = <g^T a, b>`."""
    for axis in sorted(axes, key=lambda axis: -len(axis.places)):
        state = states[axis.slot]
        if kinds[axis.slot].ordered:
            array = _taken(_scaled(array, state, axis), jnp.argsort(state["order"], axis=-1), axis)
        else:
            array = multiplied(array, jnp.swapaxes(state["dual" if axis.dual else "matrix"], -1, -2), axis)
    return array


def _taken(array: Array, order: Array, axis: Axis) -> Array:
    if order.ndim == 1:
        return jnp.take(array, order, axis=axis.axis)
    return jnp.take_along_axis(array, _laid(order, axis, array.ndim), axis=axis.axis)


def _scaled(array: Array, state: State, axis: Axis) -> Array:
    scale = _laid(state["scales"][axis.strand], axis, array.ndim).astype(array.dtype)
    return array / scale if axis.dual else array * scale


def _laid(values: Array, axis: Axis, ndim: int) -> Array:
    """Return values (*places, n) with their axes where a piece has them."""
    axes = (*axis.places, axis.axis)
    shape = [1] * ndim
    for i, size in zip(axes, values.shape, strict=True):
        shape[i] = size
    return values.transpose(tuple(int(i) for i in np.argsort(axes))).reshape(shape)


def multiplied(array: Array, matrix: Array, axis: Axis) -> Array:
    """Multiply along an axis by the matrices (*places, n, n) that stand at each position of its places."""
    old, new = array.ndim, array.ndim + 1
    letters = [*range(array.ndim)]
    letters[axis.axis] = old
    result = [*range(array.ndim)]
    result[axis.axis] = new
    return jnp.einsum(array, letters, matrix.astype(array.dtype), [*axis.places, new, old], result, precision="highest")


def element_of(derived: Derived, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, dict, dict]:
    """Return the order, the scales by strand and the matrices by strand of a state."""
    numbers = list(strands_of(derived.group))
    if isinstance(derived.group, Matrices):
        return None, {}, dict.fromkeys(numbers, np.asarray(state["matrix"], np.float64))
    scales = dict(zip(numbers, np.asarray(state["scales"], np.float64), strict=True))
    return np.asarray(state["order"]), {n: c for n, c in scales.items() if (c != 1).any()}, {}
