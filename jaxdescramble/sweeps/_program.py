"""The compiled program of a chunk: `jit(vmap(solve))`, one device, no word to any other."""

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble.descrambling.solving import solve
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.sweeps._plan import Chunk, Kind
from jaxdescramble.sweeps.problems import Problem, keys_of, signals_digest

Arguments = tuple[list[Any], list[Any], Any, Any, Any]


def arguments(
    chunk: Chunk, problems: Sequence[Problem] | Mapping[int, Problem], key: PRNGKeyArray | None
) -> tuple[Arguments, dict[int, str]]:
    """What the program of a chunk is called with, in host memory: its signals are read here.

    Returns:
        Shared leaves of objective and solver, leaves of every problem, signals (with weights of samples a pair of
        arrays), starts and keys, empty places at the end holding zeros, which every solver has done with at once; and
        digests of the signals, by place.

    Raises:
        OSError, ValueError: signals that cannot be read, or are not what they were.
    """
    kind, count = chunk.kind, len(chunk.places)
    signals, digests = np.zeros((kind.size, *kind.shape), kind.dtype), {}
    for row, place in enumerate(chunk.places):
        signals[row] = _signals(problems[place], place, kind)
        digests[place] = signals_digest(problems[place].source, signals[row])
    if problems[chunk.places[0]].weights is not None:  # then all of the kind have some
        own_weights = np.ones((kind.size, kind.shape[1]), kind.dtype)
        own_weights[:count] = [problems[place].weights for place in chunk.places]
        signals = (signals, own_weights)
    mine = [jax.tree.leaves((problems[place].objective, problems[place].solver)) for place in chunk.places]
    mine += [mine[-1]] * (kind.size - count)
    own = [
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
            start = np.stack(points + [np.eye(kind.shape[0], dtype=kind.dtype)] * (kind.size - count))
    return (list(kind.leaves), own, signals, start, keys), digests


def _signals(problem: Problem, place: int, kind: Kind) -> np.ndarray:
    try:
        found = np.asarray(problem.source.read())
    except (OSError, ValueError) as error:
        error.add_note(f"problem {place} ({dict(problem.labels)})")
        raise
    if found.shape != kind.shape or found.dtype != kind.dtype:
        raise ValueError(
            f"problem {place}: its signals are {found.dtype} {found.shape} now and were {kind.dtype} {kind.shape} "
            "when the sweep began. Nothing may write to them while it runs."
        )
    return found


def _stack(column: Sequence[Any], kind: Kind) -> Any:
    """One leaf of every problem. Python numbers take the signals' type, as they would have."""
    first = column[0]
    if jax.dtypes.issubdtype(getattr(first, "dtype", np.float64), jax.dtypes.prng_key):
        return jnp.stack(column)
    dtype = None if hasattr(first, "dtype") else kind.dtype if isinstance(first, float) else np.int32
    return np.stack([np.asarray(leaf, dtype) for leaf in column])


def _start(problem: Problem, row: int, drawn: list, kind: Kind) -> np.ndarray:
    if not isinstance(problem.start, str):
        return np.asarray(problem.start, kind.dtype)
    return np.asarray(_haar(drawn[row][0], kind.shape[0], kind.dtype, kind.group == "SO"))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _haar(key: PRNGKeyArray, n: int, dtype: str, special: bool) -> Array:
    point = orthogonal.random(key, n, dtype=np.dtype(dtype))
    return orthogonal.special(point) if special else point


@functools.partial(jax.jit, static_argnames=("structure", "group", "restarts", "shared"))
def run(
    leaves: list[Any],
    own: list[Any],
    signals: Any,
    start: Any,
    keys: Any,
    *,
    structure: Any,
    group: str,
    restarts: int,
    shared: Any,
) -> dict[str, Array]:
    """Solve all problems of a chunk: the fields of a `Descrambling`, each with a leading axis.

    One program for one device. Under `shard_map` over a mesh, XLA rewrites the program before it cuts it up, and rounds
    otherwise on two devices than on one; a program to each device computes the same bits on any number of them, has no
    collective operation, and no device waits for the slowest.
    """

    def one(own: list[Any], given: Any, start: Array | None, key: Array | None) -> dict[str, Array]:
        mine = iter(own)
        all_leaves = [common if fixed else next(mine) for common, fixed in zip(leaves, shared, strict=True)]
        objective, solver = jax.tree.unflatten(structure, all_leaves)
        key = None if key is None else jax.random.wrap_key_data(key)
        S, weights = given if isinstance(given, tuple) else (given, None)
        return solve(objective, solver, group, objective.summarise(S, weights), start, restarts, key)

    axes = (0, 0, None if start is None else 0, None if keys is None else 0)
    return jax.vmap(one, axes)(own, signals, start, keys)


def static(kind: Kind) -> dict[str, Any]:
    """What of a kind is fixed at compile time, as `run` takes it."""
    shared = tuple(one is not None for one in kind.leaves)
    return {"structure": kind.structure, "group": kind.group, "restarts": kind.restarts, "shared": shared}


def compiled(kind: Kind, placed: Arguments) -> None:
    """Compile the program of a kind, for the device of these arguments; `run` then finds it compiled.

    Apart from `run`, because nothing can end a compilation: after it a sweep looks whether it is to go on at all.
    """
    run.lower(*placed, **static(kind)).compile()


def finished(found: Any, stop: threading.Event, limit: float = float("inf")) -> bool:
    """Wait until arrays are computed: True, or False once `stop` is set or `limit` seconds are over.

    XLA cannot be interrupted. So this looks every so often instead of blocking, and leaves the computation behind.
    """
    leaves, pause, end = jax.tree.leaves(found), 2e-4, time.monotonic() + limit
    while not all(leaf.is_ready() for leaf in leaves):
        if stop.wait(pause) or time.monotonic() > end:
            return False
        pause = min(1.5 * pause, 0.02)
    return True
