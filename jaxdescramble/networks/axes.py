"""Axes with names: the dimensions of a value, written as products of pieces of named axes.

An `Atom` is a piece of a named axis: `size` positions, `stride` apart. Each dimension of a value is a tuple of atoms,
slowest first, so that splitting, merging and moving dimensions about only regroups atoms. A dimension of size 1 is the
empty tuple. Axes that nobody follows have the name `FOREIGN`.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from jax import Array

from jaxdescramble._base.programs import fused


class Atom(NamedTuple):
    label: str
    size: int
    stride: int


Axes = tuple[tuple[Atom, ...], ...]
FOREIGN = ""


def axis(label: str, size: int, stride: int = 1) -> tuple[Atom, ...]:
    """Return a dimension that is one piece of a named axis."""
    return () if size == 1 else (Atom(label, size, stride),)


def foreign(shape: Sequence[int]) -> Axes:
    return tuple(axis(FOREIGN, size) for size in shape)


def labels(dimension: tuple[Atom, ...]) -> set[str]:
    return {atom.label for atom in dimension}


def _joined(atoms: Sequence[Atom]) -> list[Atom]:
    """Merge neighbouring pieces of one axis where one continues the other."""
    result: list[Atom] = []
    for atom in atoms:
        if result and result[-1].label == atom.label:
            outer = result[-1]
            if atom.label == FOREIGN or outer.stride == atom.size * atom.stride:
                result[-1] = Atom(atom.label, outer.size * atom.size, atom.stride)
                continue
        result.append(atom)
    return result


def regroup(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes after a reshape, or None where the reshape cuts a piece unevenly."""
    if 0 in shape:
        return None
    atoms = _joined([atom for dimension in axes for atom in dimension])
    result = []
    for size in shape:
        dimension: list[Atom] = []
        while size > 1:
            atom = atoms.pop(0)
            if size % atom.size == 0:
                dimension.append(atom)
                size //= atom.size
            elif atom.size % size == 0:
                inner = atom.size // size
                dimension.append(Atom(atom.label, size, atom.stride * inner))
                atoms.insert(0, Atom(atom.label, inner, atom.stride))
                size = 1
            else:
                return None
        result.append(tuple(_joined(dimension)))
    return tuple(result)


def fold(array: Array, axes: Axes, order: Sequence[str]) -> Array:
    """Return the array with one axis for each label, in this order; a missing label becomes an axis of size 1."""
    return _fold(array, axes, tuple(order))


@functools.partial(fused, static_argnames=("axes", "order"))
def _fold(array: Array, axes: Axes, order: tuple[str, ...]) -> Array:
    atoms, places = _sorted(axes, order)
    array = array.reshape([atom.size for atom in atoms]).transpose(places)
    return array.reshape([math.prod(atom.size for atom in atoms if atom.label == label) for label in order])


def unfold(array: Array, axes: Axes, order: Sequence[str], shape: Sequence[int]) -> Array:
    """Undo `fold`: return the array in the shape that has these axes."""
    return _unfold(array, axes, tuple(order), tuple(shape))


@functools.partial(fused, static_argnames=("axes", "order", "shape"))
def _unfold(array: Array, axes: Axes, order: tuple[str, ...], shape: tuple[int, ...]) -> Array:
    atoms, places = _sorted(axes, order)
    array = array.reshape([atoms[i].size for i in places])
    return array.transpose([places.index(i) for i in range(len(places))]).reshape(shape)


def _sorted(axes: Axes, order: Sequence[str]) -> tuple[list[Atom], list[int]]:
    atoms = [atom for dimension in axes for atom in dimension]
    places = sorted(range(len(atoms)), key=lambda i: (order.index(atoms[i].label), -atoms[i].stride))
    return atoms, places
