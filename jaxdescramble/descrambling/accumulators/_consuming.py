"""The loop over a stream of batches; it keeps counted batches after any error."""

import os
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxdescramble.descrambling.accumulators._batches import (
    Batch,
    Batches,
    Signals,
    fingerprint,
    length,
    paired,
    starting_at,
)
from jaxdescramble.solvers.watch import OpenProgress

Cursor = tuple[str, int, str]
"""Name of a stream, number of its batches that are counted, and fingerprint of the last counted batch."""

State = TypeVar("State", bound="Counting")


@runtime_checkable
class Counting(Protocol):
    """The members of an accumulator that the loop needs."""

    @property
    def count(self) -> int: ...

    @property
    def cursors(self) -> tuple[Cursor, ...]: ...

    def added(self: State, batch: Signals, name: str, weights: ArrayLike | None = None) -> State: ...

    def at(self: State, stream: str, done: int, mark: str) -> State: ...

    def save(self, path: str | os.PathLike) -> None: ...


def consume(
    state: State,
    batches: Batches,
    save: str | os.PathLike | None,
    every: int,
    progress: OpenProgress | None,
    stream: str,
) -> State:
    """Count the batches of a stream; see `Accumulator.consume`."""
    total = length(batches)
    done, mark = next(((k, mark) for name, k, mark in state.cursors if name == stream), (0, ""))
    source = starting_at(batches, max(done - 1, 0))
    if done:
        _check_stream(next(source, None), stream, done, mark)
    written = done
    try:
        for batch in source:
            signals, weights = paired(batch)
            state = state.added(signals, f"batch {done}", weights).at(stream, done + 1, fingerprint(batch))
            done += 1
            if save is not None and done % every == 0:
                state.save(save)
                written = done
            if progress is not None:
                progress(stream, done, total)
        if save is not None and (written < done or not Path(save).exists()):
            state.save(save)
    except BaseException as error:
        error.accumulator = state  # pyright: ignore[reportAttributeAccessIssue]
        error.add_note(f"consume: stopped at batch {done}; {state.count} samples are counted in error.accumulator.")
        if save is not None and written < done:
            try:
                state.save(save)
            except OSError as full:
                error.add_note(f"consume: and they could not be saved ({full}); the file is the last that was whole.")
        raise
    return state


def _check_stream(last: Batch | None, stream: str, done: int, mark: str) -> None:
    if last is None:
        raise ValueError(
            f"batches: {done} batches of the stream {stream!r} are counted, but this one ends before; is it another?"
        )
    signals, _ = paired(last)
    if not isinstance(signals, np.ndarray | jax.Array) or signals.ndim != 2 or fingerprint(last) != mark:
        raise ValueError(
            f"batches: batch {done - 1} is not the one that was counted as such for the stream {stream!r}. To go on, "
            "give the same batches in the same order (no shuffling); for other data give stream= another name."
        )
