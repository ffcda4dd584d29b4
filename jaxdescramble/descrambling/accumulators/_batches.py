"""Batches of a stream: what may be one, how it is cut into chunks of few sizes, and where in a stream one stands."""

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble._base.checks import is_traced, sample_weights

# Columns to a device and a call; fewer are padded to the next power of two, so that a dozen programs serve any batch.
CHUNK, LEAST = 8192, 32

Batch = Array | np.ndarray | tuple[Array | np.ndarray, ArrayLike]
"""Signals, or a pair (signals, weights of their samples)."""

Batches = Iterable[Batch] | Callable[[int], Iterable[Batch]]
"""A stream of batches, or a function `batches(first)` that begins at the batch of that number."""


def checked(batch: Any, n: int, dtype: Any, name: str) -> Any:
    """The batch as an array of NumPy or JAX, (n, any number), if it is one of that type.

    Raises:
        TypeError: no array, one that is traced, or of another type than the accumulator's: nothing is converted.
        ValueError: another shape.

    >>> checked(np.ones((2, 3), "float32"), 2, np.dtype("float32"), "batch").shape
    (2, 3)
    """
    if not isinstance(batch, np.ndarray | jax.Array):
        raise TypeError(f"{name}: expected an array of NumPy or JAX, (features, samples), got {type(batch).__name__}.")
    if is_traced(batch):
        raise TypeError(f"{name}: a traced array; an accumulator adds outside jit and vmap, and compiles what it does.")
    if batch.dtype != dtype:
        parts = " (real and imaginary parts as separate samples)" if np.iscomplexobj(batch) else ""
        raise TypeError(
            f"{name}: {batch.dtype} given to an accumulator of {dtype}; convert it with .astype({str(dtype)!r}){parts}"
            ", or, from float32 or float64, make the accumulator of that type."
        )
    if batch.ndim != 2 or batch.shape[0] != n:
        hint = " Samples seem to be in rows: give batch.T." if batch.ndim == 2 and batch.shape[1] == n else ""
        raise ValueError(f"{name}: expected ({n} features, samples), got an array of shape {batch.shape}.{hint}")
    return batch


def chunks(batch: Any, parts: int = 1) -> Iterator[tuple[Array | np.ndarray, int, bool]]:
    """A batch in chunks of at most `CHUNK` columns to each of the parts, padded with zeros to a power of two.

    Yields:
        The chunk, how many of its columns are the batch's, and whether they are its rows: a transposed array of NumPy
        is not worth copying.

    >>> [(chunk.shape, real, rows) for chunk, real, rows in chunks(np.ones((2, 40), "float32"))]
    [((2, 64), 40, False)]
    """
    if isinstance(batch, jax.Array) and batch.is_fully_addressable and {d.platform for d in batch.devices()} == {"cpu"}:
        batch = np.asarray(batch)  # the same memory; slices of JAX's would compile for every shape
    pad = np.pad if isinstance(batch, np.ndarray) else jnp.pad
    rows = isinstance(batch, np.ndarray) and batch.flags.f_contiguous and not batch.flags.c_contiguous
    for start in range(0, batch.shape[1], CHUNK * parts):
        part = batch[:, start : start + CHUNK * parts]
        real = part.shape[1]
        width = min(CHUNK, max(LEAST, 1 << (-(-real // parts) - 1).bit_length())) * parts
        part = part.T if rows else part
        if width > real:
            part = pad(part, ((0, width - real), (0, 0)) if rows else ((0, 0), (0, width - real)))
        yield part, real, rows


def paired(item: Any) -> tuple[Any, Any]:
    """What a stream gives as a batch and the weights of its samples, None where it gives a batch alone.

    >>> paired((np.ones((1, 2)), np.ones(2)))[1].tolist(), paired(np.ones((1, 2)))[1]
    ([1.0, 1.0], None)
    """
    return item if isinstance(item, tuple) and len(item) == 2 else (item, None)


def weights_of(batch: Any, weights: Any, name: str) -> np.ndarray | None:
    """Weights of a batch's samples as an array of NumPy, of the batch's type; all may be zero.

    Raises:
        TypeError, ValueError: as `checks.sample_weights`.

    >>> weights_of(np.ones((1, 2), "float32"), [True, False], "batch").tolist()
    [1.0, 0.0]
    """
    if weights is None:
        return None
    try:
        return np.asarray(sample_weights(weights, [batch.shape[1:]], batch.dtype, empty=True))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}, {error}") from error


def cleared_columns(batch: Any, weights: np.ndarray) -> Any:
    """The batch with zeros in the place of samples of weight zero, whatever these hold.

    >>> cleared_columns(np.asarray([[1.0, np.nan]]), np.asarray([1.0, 0.0])).tolist()
    [[1.0, 0.0]]
    """
    where = np.where if isinstance(batch, np.ndarray) else jnp.where
    return batch if (weights > 0).all() else where(weights[None, :] > 0, batch, np.zeros((), batch.dtype))


def faults(batch: Any) -> str:
    """Which columns are not finite, in words.

    >>> faults(np.asarray([[1.0, np.nan]]))
    '1 of 2 columns hold NaN or infinity, the first is column 1'
    """
    bad = np.flatnonzero(~np.isfinite(np.asarray(batch)).all(axis=0))
    return f"{len(bad)} of {batch.shape[1]} columns hold NaN or infinity, the first is column {bad[0]}"


def length(batches: object) -> int | None:
    """Return the number of batches of a stream, or None where it has no length.

    >>> length([1, 2]), length(iter([1, 2]))
    (2, None)
    """
    return len(batches) if isinstance(batches, Sized) else None


def starting_at(batches: Batches, first: int) -> Iterator[Any]:
    """The batches from the one numbered `first` on; a callable starts there, what is iterated is read up to there.

    >>> list(starting_at(lambda first: range(first, 5), 3)), list(starting_at(range(5), 3))
    ([3, 4], [3, 4])

    Raises:
        TypeError: neither.
    """
    if isinstance(batches, np.ndarray | jax.Array):
        raise TypeError("batches: got one array; give a list or an iterator of arrays, or use add(batch).")
    if callable(batches):
        return iter(batches(first))
    if not hasattr(batches, "__iter__"):
        raise TypeError(
            f"batches: expected arrays to iterate over, or a function batches(first), got {type(batches).__name__}."
        )
    return itertools.islice(iter(batches), first, None)


def fingerprint(batch: Any) -> str:
    """By which a batch is known again: its shape, its first and last column, and all its weights if it has any.

    >>> fingerprint(np.ones((2, 3))) == fingerprint(np.ones((2, 3))), fingerprint(np.ones((2, 3)))[:4]
    (True, '2x3:')
    """
    batch, weights = paired(batch)
    ends = [np.ascontiguousarray(np.asarray(batch[:, k])) for k in (0, batch.shape[1] - 1) if batch.shape[1]]
    ends += [] if weights is None else [np.asarray(weights, np.float64)]
    return f"{batch.shape[0]}x{batch.shape[1]}:{zlib.crc32(b''.join(end.tobytes() for end in ends)):08x}"
