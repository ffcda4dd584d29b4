"""Divide a sweep into chunks: groups of problems that one compiled program solves together."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray

from jaxdescramble.sweeps._identity import described, digest
from jaxdescramble.sweeps.problems import Problem

WORK, MEMORY, MOST = 2e10, 2**28, 512
Numbers = tuple[tuple[tuple[int, ...], str], ...]
"""Shapes and types of the leaves of an objective and a solver."""


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """What the problems of one compiled program have in common.

    Attributes:
        structure: the parts of objective and solver that are fixed at compile time.
        leaves: numbers and arrays of objective and solver that all problems share; None where they differ.
        group: group of the problems.
        start: whether the problems have a start.
        restarts: number of further solves from random starts.
        shape, dtype: shape and type of the signals.
        size: number of problems in a chunk. The last chunk is padded to it.
        count: number of problems of this kind in the whole sweep.
        rank: number of rows of the points; None means one for each feature.
    """

    structure: object
    leaves: tuple[ArrayLike | None, ...]
    group: str
    start: bool
    restarts: int
    shape: tuple[int, int]
    dtype: str
    size: int
    count: int
    rank: int | None = None


class _Sort(NamedTuple):
    """What two problems must share to be of one kind."""

    structure: object
    numbers: Numbers
    weighted: bool
    group: str
    start: bool
    restarts: int
    shape: tuple[int, int]
    dtype: str
    rank: int | None


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Problems that are solved together and kept in one file, by their places in the list."""

    number: int
    kind: Kind
    places: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole sweep: its chunks, and a digest of everything that its results depend on, except the signals.

    The plan knows only the shapes of the signals. Each chunk file keeps the digests of its own signals, so that no
    process has to read the signals of another process.

    Attributes:
        chunks: the chunks, in the order of their numbers.
        parts: digests of the parts of the specification, by name. They show what has changed.
        identity: digest of all parts.
        digests: digest of each chunk.
    """

    chunks: tuple[Chunk, ...]
    parts: dict[str, str]
    identity: str
    digests: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Draft:
    """A sweep before it is divided into chunks.

    Attributes:
        kinds: kinds of problems, in the order of their first appearance. The default sizes of their chunks depend only
            on shapes.
        places: places of the problems of each kind.
        parts: digests of the parts of the specification, by name, without "chunks".
        alone: digest of each problem.
        points: whether points are kept.
    """

    kinds: tuple[Kind, ...]
    places: tuple[tuple[int, ...], ...]
    parts: dict[str, str]
    alone: list[str]
    points: bool

    def cut(self, sizes: Sequence[int] | None = None) -> Plan:
        """Return the plan with these chunk sizes, one for each kind; None means the default sizes of the kinds."""
        chunks: list[Chunk] = []
        for number, (kind, places) in enumerate(zip(self.kinds, self.places, strict=True)):
            kind = kind if sizes is None else dataclasses.replace(kind, size=sizes[number])
            for first in range(0, len(places), kind.size):
                chunks.append(Chunk(len(chunks), kind, places[first : first + kind.size]))
        parts = self.parts | {"chunks": _hashed([[chunk.places, chunk.kind.size] for chunk in chunks])}
        common = json.dumps([parts["version"], parts["key"], self.points])
        digests = tuple(
            _hashed([common, chunk.kind.size, *((place, self.alone[place]) for place in chunk.places)])
            for chunk in chunks
        )
        return Plan(tuple(chunks), parts, _hashed(sorted(parts.items())), digests)


def planned(problems: Sequence[Problem], key: PRNGKeyArray | None, size: int | None, points: bool = True) -> Plan:
    """Divide problems into chunks; the problems of one kind keep their order. See `drafted` for arguments."""
    return drafted(problems, key, size, points).cut()


def drafted(problems: Sequence[Problem], key: PRNGKeyArray | None, size: int | None, points: bool = True) -> Draft:
    """Find the kinds of problems with defaults filled in, and the digests that identify the sweep.

    The problems and the sizes of the chunks decide which problems share a chunk and how it is padded. The number of
    devices or processes has no influence. Therefore results are the same to the last bit on any number of devices and
    hosts of one make.

    Args:
        problems: problems from `Problem.with_defaults`.
        key: random key of the sweep; None without random draws.
        size: number of problems in a chunk. None means a number that depends on shapes: two seconds of one core for a
            closed form (`sizes.measured` measures other solvers), at most 256 MiB and 512 problems.
        points: whether points are kept.
    """
    alike: dict[_Sort, list[int]] = {}
    flat: dict[tuple[int, int], tuple[list[ArrayLike], object, Numbers]] = {}
    pairs = [(id(problem.objective), id(problem.solver)) for problem in problems]
    for place, (problem, pair) in enumerate(zip(problems, pairs, strict=True)):
        if pair not in flat:
            leaves, structure = jax.tree.flatten((problem.objective, problem.solver))
            flat[pair] = leaves, structure, tuple((np.shape(leaf), _number_kind(leaf)) for leaf in leaves)
        _, structure, numbers = flat[pair]
        n, m = problem.shape
        sort = _Sort(
            structure,
            numbers,
            problem.weights is not None,
            problem.group,
            problem.start is not None,
            problem.restarts,
            (n, m),
            _dtype(problem),
            problem.rank,
        )
        alike.setdefault(sort, []).append(place)
    kinds: list[Kind] = []
    for one, places in alike.items():
        most = size or default_size(*one.shape, np.dtype(one.dtype).itemsize, one.restarts, one.rank)
        each = size or evened(most, len(places))
        shared = _shared([flat[pair][0] for pair in dict.fromkeys(pairs[i] for i in places)])
        kinds.append(
            Kind(
                one.structure,
                shared,
                one.group,
                one.start,
                one.restarts,
                one.shape,
                one.dtype,
                each,
                len(places),
                one.rank,
            )
        )
    parts, alone = _parts(problems, key)
    parts["points"] = str(points)
    return Draft(tuple(kinds), tuple(map(tuple, alike.values())), parts, alone, points)


def evened(most: int, count: int) -> int:
    """Return the size of equal chunks of at most `most` problems, which leaves little padding in the last chunk.

    >>> evened(10, 12)
    6
    """
    return -(-count // -(-count // most))


def default_size(n: int, m: int, itemsize: int, restarts: int, rank: int | None = None) -> int:
    """Return the default number of problems in a chunk: as many as a closed form solves in two seconds.

    With a rank k, k components are solved for; finding them takes about 20 products with the signals.

    >>> default_size(320, 640, 4, 0), default_size(32, 500, 4, 0), default_size(320, 640, 4, 0, rank=8)
    (10, 512, 148)
    """
    k = n if rank is None else rank
    work = (1 + restarts) * (50 * k**3 + 4 * k**2 * m) + (0 if rank is None else 20 * n * m * k)
    return int(max(1, min(WORK // work, most_in_memory(n, m, itemsize, rank))))


def most_in_memory(n: int, m: int, itemsize: int, rank: int | None = None) -> int:
    """Return the largest chunk size that is chosen automatically: 256 MiB, 512 problems.

    >>> most_in_memory(320, 640, 4), most_in_memory(320, 640, 4, rank=8)
    (32, 148)
    """
    k = n if rank is None else rank
    return max(1, min(MEMORY // (itemsize * (2 * n * m + 16 * n * k)), MOST))


def _parts(problems: Sequence[Problem], key: PRNGKeyArray | None) -> tuple[dict[str, str], list]:
    """Return digests of the parts of a specification, and a digest of each problem."""
    known: dict[int, str] = {}

    def once(what: str, place: int, value: object) -> str:
        # A grid repeats the same objective many times, so each object is described once.
        if id(value) not in known:
            try:
                known[id(value)] = digest(value)
            except TypeError as error:
                raise TypeError(f"problem {place}, {what}: {error}") from error
        return known[id(value)]

    columns: dict[str, list] = {"signals": [], "objectives": [], "solvers": [], "settings": [], "labels": []}
    for place, problem in enumerate(problems):
        start = problem.start if isinstance(problem.start, str) else described(problem.start)
        own = [] if problem.weights is None else [once("weights", place, problem.weights)]
        columns["signals"].append([list(problem.shape), _dtype(problem), *own])
        columns["objectives"].append(once("objective", place, problem.objective))
        columns["solvers"].append(once("solver", place, problem.solver))
        rank = [] if problem.rank is None else [problem.rank]
        columns["settings"].append([problem.group, start, problem.restarts, *rank])
        columns["labels"].append(described(dict(problem.labels)))
    alone = [_hashed(row) for row in zip(*columns.values(), strict=True)]
    parts = {name: _hashed(column) for name, column in columns.items()}
    parts["key"] = digest(key if key is None else jax.random.key_data(key))
    parts["version"] = version("jaxdescramble")
    return parts, alone


def _shared(leaves: list[list[ArrayLike]]) -> tuple[ArrayLike | None, ...]:
    """Return the value of each leaf that all problems share, or None where they differ."""
    return tuple(
        column[0] if all(leaf is column[0] or _equal(leaf, column[0]) for leaf in column[1:]) else None
        for column in zip(*leaves, strict=True)
    )


def _equal(one: ArrayLike, other: ArrayLike) -> bool:
    if jax.dtypes.issubdtype(getattr(one, "dtype", np.float64), jax.dtypes.prng_key):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _number_kind(leaf: ArrayLike) -> str:
    dtype = getattr(leaf, "dtype", None)
    return type(leaf).__name__ if dtype is None else str(dtype)


def _dtype(problem: Problem) -> str:
    return np.dtype(problem.source.dtype).name


def _hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
