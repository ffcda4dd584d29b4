"""Batches of a stream: check them, cut them into chunks of a few fixed sizes, and recognise them again."""

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sized

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from jaxdescramble._base.checks import is_traced, sample_weights

# CHUNK columns go to each device in one call. Fewer columns are padded to the next power of two, but to LEAST at least:
# about a dozen compiled programs are enough for batches of any size.
CHUNK, LEAST = 8192, 32

Signals = Array | np.ndarray
Batch = Signals | tuple[Signals, ArrayLike]
"""Signals, or a pair (signals, weights of their samples)."""

Batches = Iterable[Batch] | Callable[[int], Iterable[Batch]]
"""A stream of batches, or a function `batches(first)` that begins at the batch of that number."""


def checked(batch: object, n: int, dtype: np.dtype, name: str) -> Signals:
    """Return the batch if it is an array of NumPy or JAX of this dtype, with shape (n, any number).

    Raises:
        TypeError: if it is not an array, is traced, or has another dtype (nothing is converted).
        ValueError: if it has another shape.

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


def chunks(batch: Signals, parts: int = 1) -> Iterator[tuple[Signals, int, bool]]:
    """Cut a batch into chunks of at most `CHUNK` columns for each part, padded with zeros to a power of two.

    Yields:
        The chunk, how many of its columns belong to the batch, and whether the chunk is transposed, with samples in
        rows: this avoids a copy of a transposed NumPy array.

    >>> [(chunk.shape, real, rows) for chunk, real, rows in chunks(np.ones((2, 40), "float32"))]
    [((2, 64), 40, False)]
    """
    if isinstance(batch, jax.Array) and batch.is_fully_addressable and {d.platform for d in batch.devices()} == {"cpu"}:
        batch = np.asarray(batch)  # the same memory; JAX would compile a slice for every shape
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


def paired(item: Batch) -> tuple[Signals, ArrayLike | None]:
    """Split an item of a stream into a batch and the weights of its samples; None means no weights.

    >>> paired((np.ones((1, 2)), np.ones(2)))[1].tolist(), paired(np.ones((1, 2)))[1]
    ([1.0, 1.0], None)
    """
    return item if isinstance(item, tuple) and len(item) == 2 else (item, None)


def weights_of(batch: Signals, weights: ArrayLike | None, name: str) -> np.ndarray | None:
    """Return the weights of a batch's samples as a NumPy array of the batch's dtype; all may be zero.

    Raises:
        TypeError, ValueError: if the weights are not valid; see `checks.sample_weights`.

    >>> weights_of(np.ones((1, 2), "float32"), [True, False], "batch").tolist()
    [1.0, 0.0]
    """
    if weights is None:
        return None
    try:
        return np.asarray(sample_weights(weights, [batch.shape[1:]], batch.dtype, empty=True))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}, {error}") from error


def cleared_columns(batch: Signals, weights: np.ndarray) -> Signals:
    """Replace samples of weight zero by zeros, whatever they hold.

    >>> cleared_columns(np.asarray([[1.0, np.nan]]), np.asarray([1.0, 0.0])).tolist()
    [[1.0, 0.0]]
    """
    where = np.where if isinstance(batch, np.ndarray) else jnp.where
    return batch if (weights > 0).all() else where(weights[None, :] > 0, batch, np.zeros((), batch.dtype))


def faults(batch: Signals) -> str:
    """Say in words which columns are not finite.

    >>> faults(np.asarray([[1.0, np.nan]]))
    '1 of 2 columns hold NaN or infinity, the first is column 1'
    """
    bad = np.flatnonzero(~np.isfinite(np.asarray(batch)).all(axis=0))
    return f"{len(bad)} of {batch.shape[1]} columns hold NaN or infinity, the first is column {bad[0]}"


def length(batches: object) -> int | None:
    """Return the number of batches of a stream; None if it has no length.

    >>> length([1, 2]), length(iter([1, 2]))
    (2, None)
    """
    return len(batches) if isinstance(batches, Sized) else None


def starting_at(batches: Batches, first: int) -> Iterator[Batch]:
    """Return the batches from number `first` on; a function starts there, an iterable is read and skipped up to there.

    >>> list(starting_at(lambda first: range(first, 5), 3)), list(starting_at(range(5), 3))
    ([3, 4], [3, 4])

    Raises:
        TypeError: if `batches` is neither a function nor an iterable of arrays.
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


def fingerprint(batch: Batch) -> str:
    """Return a text that identifies a batch: made from its shape, first column, last column, and weights if any.

    >>> fingerprint(np.ones((2, 3))) == fingerprint(np.ones((2, 3))), fingerprint(np.ones((2, 3)))[:4]
    (True, '2x3:')
    """
    signals, weights = paired(batch)
    n, m = signals.shape
    ends = [np.ascontiguousarray(np.asarray(signals[:, k])) for k in (0, m - 1) if m]
    ends += [] if weights is None else [np.asarray(weights, np.float64)]
    return f"{n}x{m}:{zlib.crc32(b''.join(end.tobytes() for end in ends)):08x}"


def batch_type(dtype: DTypeLike) -> np.dtype:
    """Return a type of batches as float32 or float64.

    Raises:
        TypeError: if it is another type, or one that JAX does not use now.

    >>> batch_type("float32").name
    'float32'
    """
    try:
        found = jnp.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}.") from error
    if found not in (np.dtype("float32"), np.dtype("float64")):
        cure = "give both parts as separate samples" if found.kind == "c" else "convert batches with .astype('float32')"
        raise TypeError(f"dtype: expected float32 or float64, got {found}; {cure}.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise TypeError(f"dtype: {found} needs jax.config.update('jax_enable_x64', True); or use float32.")
    return found
