"""The compiled program of a chunk: `jit(vmap(solve))` on one device, without communication."""

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble.descrambling.solving import solve
from jaxdescramble.descrambling.wide import solve_wide
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.sweeps._plan import Chunk, Kind
from jaxdescramble.sweeps.problems import Problem, keys_of, signals_digest

Arguments: TypeAlias = tuple[
    list[ArrayLike | None],
    list[ArrayLike],
    ArrayLike | tuple[ArrayLike, ArrayLike],
    ArrayLike | None,
    ArrayLike | None,
]
"""Arguments of `run` by place."""


def arguments(
    chunk: Chunk, problems: Sequence[Problem] | Mapping[int, Problem], key: PRNGKeyArray | None
) -> tuple[Arguments, dict[int, str]]:
    """Read the signals of a chunk, and collect the arguments of its program in host memory.

    Returns:
        The arguments: shared leaves of objective and solver; leaves of every problem; signals (with weights of samples
        a pair of arrays); starts; keys. Rows beyond the last problem hold zeros, which every solver finishes at once.
        Then the digests of the signals, by place.

    Raises:
        OSError, ValueError: if signals cannot be read, or have changed.
    """
    kind, count = chunk.kind, len(chunk.places)
    signals, digests = np.zeros((kind.size, *kind.shape), kind.dtype), {}
    for row, place in enumerate(chunk.places):
        signals[row] = _signals(problems[place], place, kind)
        digests[place] = signals_digest(problems[place].source, signals[row])
    if problems[chunk.places[0]].weights is not None:  # then all problems of this kind have weights
        own_weights = np.ones((kind.size, kind.shape[1]), kind.dtype)
        own_weights[:count] = [problems[place].weights for place in chunk.places]
        signals = (signals, own_weights)
    mine = [jax.tree.leaves((problems[place].objective, problems[place].solver)) for place in chunk.places]
    mine += [mine[-1]] * (kind.size - count)
    own: list[ArrayLike] = [
        _stack(column, kind) for column, one in zip(zip(*mine, strict=True), kind.leaves, strict=True) if one is None
    ]
    start = keys = None
    if kind.start or kind.restarts:
        drawn = [keys_of(place, key) for place in chunk.places] if key is not None else []
        if kind.restarts:
            data = np.stack([np.asarray(jax.random.key_data(again)) for _, again in drawn])
            keys = np.concatenate([data, np.repeat(data[-1:], kind.size - count, axis=0)])
        if kind.start:
            points = [_start(problems[place], row, drawn, kind) for row, place in enumerate(chunk.places)]
            filling = np.eye(kind.rank or kind.shape[0], kind.shape[0], dtype=kind.dtype)
            start = np.stack(points + [filling] * (kind.size - count))
    return (list(kind.leaves), own, signals, start, keys), digests


def _signals(problem: Problem, place: int, kind: Kind) -> np.ndarray:
    try:
        found = np.asarray(problem.source.read())
    except (OSError, ValueError) as error:
        error.add_note(f"problem {place} ({dict(problem.labels)})")
        raise
    if found.shape != kind.shape or found.dtype != kind.dtype:
        raise ValueError(
            f"problem {place}: its signals are now {found.dtype} {found.shape}, but were {kind.dtype} {kind.shape} "
            "when the sweep began. Do not change them while it runs."
        )
    return found


def _stack(column: Sequence[ArrayLike], kind: Kind) -> Array | np.ndarray:
    """Stack one leaf of every problem. Python numbers take the type of the signals, as in a single solve."""
    first = column[0]
    if jax.dtypes.issubdtype(getattr(first, "dtype", np.float64), jax.dtypes.prng_key):
        return jnp.stack(column)
    dtype = None if hasattr(first, "dtype") else kind.dtype if isinstance(first, float) else np.int32
    return np.stack([np.asarray(leaf, dtype) for leaf in column])


def _start(problem: Problem, row: int, drawn: list, kind: Kind) -> np.ndarray:
    if not isinstance(problem.start, str):
        return np.asarray(problem.start, kind.dtype)
    n, k = kind.shape[0], kind.rank or kind.shape[0]
    if k < n:  # it decides only where a search on O(k) begins, and has no determinant
        return np.asarray(_haar_rows(drawn[row][0], k, n, kind.dtype))
    return np.asarray(_haar(drawn[row][0], n, kind.dtype, kind.group == "SO"))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _haar(key: PRNGKeyArray, n: int, dtype: str, special: bool) -> Array:
    point = orthogonal.random(key, n, dtype=np.dtype(dtype))
    return orthogonal.special(point) if special else point


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _haar_rows(key: PRNGKeyArray, k: int, n: int, dtype: str) -> Array:
    return orthogonal.random_columns(key, n, k, dtype=np.dtype(dtype)).T


@functools.partial(jax.jit, static_argnames=("structure", "group", "restarts", "shared", "rank"))
def run(
    leaves: list[Array | None],
    own: list[Array],
    signals: Array | tuple[Array, Array],
    start: Array | None,
    keys: Array | None,
    *,
    structure: object,
    group: str,
    restarts: int,
    shared: tuple[bool, ...],
    rank: int | None = None,
) -> dict[str, Array]:
    """Solve all problems of a chunk: return the fields of a `Descrambling`, each with a leading axis.

    This is one program for one device. Under `shard_map` over a mesh, XLA rewrites the program before it divides it,
    and two devices round differently from one. One program per device computes the same bits on any number of devices,
    needs no collective operation, and never waits for the slowest device.
    """

    def one(
        own: list[Array], given: Array | tuple[Array, Array], start: Array | None, key: Array | None
    ) -> dict[str, Array]:
        mine = iter(own)
        all_leaves = [common if fixed else next(mine) for common, fixed in zip(leaves, shared, strict=True)]
        objective, solver = jax.tree.unflatten(structure, all_leaves)
        key = None if key is None else jax.random.wrap_key_data(key)
        S, weights = given if isinstance(given, tuple) else (given, None)
        if rank is not None:
            return solve_wide(objective, solver, group, S, weights, rank, start, restarts, key)
        return solve(objective, solver, group, objective.summarise(S, weights), start, restarts, key)

    axes = (0, 0, None if start is None else 0, None if keys is None else 0)
    return jax.vmap(one, axes)(own, signals, start, keys)


def static(kind: Kind) -> dict[str, object]:
    """Return the parts of a kind that are fixed at compile time, as arguments of `run`."""
    shared = tuple(one is not None for one in kind.leaves)
    return {
        "structure": kind.structure,
        "group": kind.group,
        "restarts": kind.restarts,
        "shared": shared,
        "rank": kind.rank,
    }


def compiled(kind: Kind, placed: Arguments) -> None:
    """Compile the program of a kind for the device of these arguments; `run` then uses the compiled program.

    This is separate from `run` because a compilation cannot be stopped: after it, a sweep checks whether to continue.
    """
    run.lower(*placed, **static(kind)).compile()


def finished(found: dict[str, Array], stop: threading.Event, limit: float = float("inf")) -> bool:
    """Wait until arrays are computed. Return True, or False after `stop` is set or `limit` seconds have passed.

    XLA cannot be interrupted. So this function polls instead of blocking, and leaves the computation running.
    """
    leaves, pause, end = jax.tree.leaves(found), 2e-4, time.monotonic() + limit
    while not all(leaf.is_ready() for leaf in leaves):
        if stop.wait(pause) or time.monotonic() > end:
            return False
        pause = min(1.5 * pause, 0.02)
    return True
