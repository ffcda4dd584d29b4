"""Move the leaves of parameters by elements of the streams' groups."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdescramble.networks.strands import DUAL, PRODUCT, Strands, number_of
from jaxdescramble.networks.symmetry.groups import Element


class Part(NamedTuple):
    """A part of an array whose axes have no parts.

    `where` says where it lies in the flat array. `labels` are the strands of its axes, "" for none; `places` are, by
    axis of a strand, the axes of its places.
    """

    where: np.ndarray
    labels: list[str]
    places: dict[int, list[int]]


class Mover:
    """Moves arrays along their strands.

    Attributes:
        strands: the axes.
        elements: by strand without parts, the element of its stream.
        stream_of: by strand, the number of its stream.
        places: by number of a stream, those at whose positions its element may be another one, outermost first.
    """

    def __init__(
        self,
        strands: Strands,
        elements: Mapping[int, Element],
        stream_of: Mapping[int, int],
        places: Mapping[int, Sequence[int]],
    ):
        self.strands, self.elements, self.stream_of, self.places = strands, elements, stream_of, places

    def move(self, array: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Return an array after the elements have acted along its axes; `labels` are their strands, "" for none."""
        flat, moved = array.ravel(), np.empty(array.size, array.dtype)
        for part in self.parts(array.shape, labels):
            moved[part.where] = self._act(flat[part.where], part)
        return moved.reshape(array.shape)

    def parts(self, shape: Sequence[int], labels: Sequence[str]) -> Iterator[Part]:
        """Split an array until no axis has parts."""
        index = np.arange(math.prod(shape)).reshape(shape)
        yield from self._split(index, list(labels), list(range(len(shape))))

    def _split(self, index: np.ndarray, labels: list[str], origins: list[int]) -> Iterator[Part]:
        """Split an array; `origins` are the axes of the whole array that its axes are factors of."""
        for i, label in enumerate(labels):
            how, parts = self.strands.parts(label) if label else ("", [])
            if not parts:
                continue
            sizes = [self.strands.size(part) for part in parts]
            if how == PRODUCT:
                inner = index.reshape(*index.shape[:i], *sizes, *index.shape[i + 1 :])
                wider = [*origins[:i], *[origins[i]] * len(parts), *origins[i + 1 :]]
                yield from self._split(inner, [*labels[:i], *parts, *labels[i + 1 :]], wider)
                return
            for piece, part in zip(np.split(index, np.cumsum(sizes)[:-1], axis=i), parts, strict=True):
                yield from self._split(piece, [*labels[:i], part, *labels[i + 1 :]], origins)
            return
        roots = [self.strands.root(label) if label else "" for label in labels]
        numbers = [number_of(label) if label else -1 for label in roots]
        places = {i: self._where(i, numbers, origins) for i, one in enumerate(numbers) if one in self.stream_of}
        yield Part(index, roots, places)

    def _act(self, array: np.ndarray, part: Part) -> np.ndarray:
        numbers = [number_of(label) if label else -1 for label in part.labels]
        where = {i: part.places[i] for i, number in enumerate(numbers) if number in self.elements}
        # An outer order moves first: what stands at the new positions is moved by their elements.
        axes = sorted(where, key=lambda i: len(where[i]))
        for i in axes:
            order = self.elements[numbers[i]].order
            if order is not None:
                array = np.take_along_axis(array, _laid(order, [*where[i], i], array.ndim), axis=i)
        for i in axes:
            element, dual = self.elements[numbers[i]], part.labels[i].endswith(DUAL)
            scale = element.scales.get(numbers[i])
            if scale is not None:
                factors = _laid(scale, [*where[i], i], array.ndim)
                array = array / factors if dual else array * factors
            matrix = element.matrices.get(numbers[i])
            if matrix is not None:
                matrix = np.swapaxes(np.linalg.inv(matrix), -1, -2) if dual else matrix
                array = _multiplied(array, matrix, i, where[i])
        return array

    def _where(self, i: int, numbers: Sequence[int], origins: Sequence[int]) -> list[int]:
        """Return the axes of the places of the strand at axis i."""
        streams = [self.stream_of.get(number, -1) for number in numbers]
        found = [place_of(i, place, streams, origins, self.places) for place in self.places[streams[i]]]
        return [axis for axis in found if axis is not None]


def place_of(
    i: int, place: int, streams: Sequence[int], origins: Sequence[int], places: Mapping[int, Sequence[int]]
) -> int | None:
    """Return the axis of the places at which the element of the stream at axis i is another one; None if unclear.

    A stream may lie along several axes of an array: heads that write and heads that read. The place of axis i is the
    axis that comes from the same axis of the whole array, or the one that no other axis has as its place.

    >>> place_of(3, 0, [0, 1, 0, 1], [0, 0, 1, 2], {1: (0,)})
    2
    """
    axes = [j for j, stream in enumerate(streams) if stream == place]
    own = [j for j in axes if origins[j] == origins[i]]
    if not own and len(axes) > 1:
        taken = {origins[k] for k, stream in enumerate(streams) if k != i and place in places.get(stream, ())}
        own = [j for j in axes if origins[j] not in taken]
    own = own or (axes if len(axes) == 1 else [])
    return own[0] if len(own) == 1 else None


def _laid(values: np.ndarray, axes: Sequence[int], ndim: int) -> np.ndarray:
    """Return values with their axes where the array has them."""
    shape = [1] * ndim
    for axis, size in zip(axes, values.shape, strict=True):
        shape[axis] = size
    return values.transpose(np.argsort(axes)).reshape(shape)


def _multiplied(array: np.ndarray, matrix: np.ndarray, i: int, outer: Sequence[int]) -> np.ndarray:
    """Multiply along axis i by the matrices that stand at each position of the outer axes."""
    rest = [axis for axis in range(array.ndim) if axis not in outer and axis != i]
    front = array.transpose(*outer, i, *rest)
    moved = matrix @ front.reshape(*front.shape[: len(outer) + 1], -1)
    return moved.reshape(front.shape).transpose(np.argsort([*outer, i, *rest]))
