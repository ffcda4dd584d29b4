"""Moments of more data than memory holds, in one pass that can be stopped, resumed, split over devices and merged."""

import dataclasses
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import one_of, positive_integer
from jaxdescramble._base.devices import Device
from jaxdescramble._base.results import Result
from jaxdescramble.descrambling.accumulators import _batches as cuts
from jaxdescramble.descrambling.accumulators import _reservoir as reservoirs
from jaxdescramble.descrambling.accumulators._compensated import (
    Sums,
    add_columns,
    mesh_of,
    no_sums,
    placed,
    spread,
    together,
)
from jaxdescramble.descrambling.accumulators._consuming import Cursor, consume
from jaxdescramble.descrambling.accumulators._moments import Moments
from jaxdescramble.descrambling.accumulators._reservoir import Reservoir
from jaxdescramble.descrambling.accumulators._storage import read_sealed, write_sealed
from jaxdescramble.objectives import Factor, Gram, Objective, Samples, Summary
from jaxdescramble.objectives.summaries import SUMMARIES
from jaxdescramble.solvers.watch import OpenProgress

FORMAT = 2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Accumulator(Result):
    """Sums `S S^T` and `S 1` and a random sample of the columns of S, batch by batch: `acc = acc.add(batch)`.

    Use it for data that do not fit in memory; then call `descramble(acc.summary(objective), objective)`. In float32,
    errors of `G = S S^T` relative to `sqrt(g_ii g_jj)` are about 1e-9, and 1e-7 for constant features, for any number
    of columns (`_compensated.py` says how).

    The sums are the same to the last bit if the batches, their order and the number of devices are the same, even if
    you stop and resume. With other batches, devices or merges, they agree up to the errors above. The reservoir is
    always the same. Give each process or machine an accumulator of its own, and merge them at the end.

    Attributes:
        sums: the sums of each device.
        count: number of samples m, a Python integer.
        devices: the devices that share the columns of each batch; None means JAX's default device.
        reservoir: a uniform random sample of the columns, or None.
        cursors: position of `consume` in each of its streams.
        tally: `(sum w, sum w^2)` if samples have weights, else None. With weights, the sums are weighted, and `count`
            leaves out samples of weight 0.

    >>> acc = Accumulator.empty(2, "float32").add(np.ones((2, 3), "float32")).add(np.ones((2, 1), "float32"))
    >>> acc.count, acc.mean.tolist(), acc.autocorrelation.tolist()
    (4, [1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]])

    Source: compensated sums are Knuth, TAOCP 2, 4.2.2; reservoirs by priority are Efraimidis and Spirakis, Inf. Proc.
    Letters 97 (2006), here with equal weights.
    """

    sums: Sums
    count: int
    devices: tuple[Device, ...] | None = None
    reservoir: Reservoir | None = None
    cursors: tuple[Cursor, ...] = ()
    tally: tuple[float, float] | None = None

    @staticmethod
    def empty(
        n: int,
        dtype: DTypeLike,
        *,
        devices: Sequence[Device] | None = None,
        reservoir: int | None = None,
        key: PRNGKeyArray | None = None,
        first: int = 0,
    ) -> "Accumulator":
        """Return an accumulator without samples.

        Args:
            n: number of features.
            dtype: type of the batches: float32, or float64 if 64-bit types are enabled.
            devices: devices that share the columns of each batch; they exchange data only when you read a result. None
                means JAX's default device.
            reservoir: number of columns to keep for objectives that need samples, a uniform random sample; None keeps
                none.
            key: random key of the reservoir.
            first: number of the first column, if several accumulators with one key share a stream.

        Raises:
            TypeError, ValueError: if the dtype is another one; if a reservoir has no key, or a key no reservoir.

        >>> Accumulator.empty(3, "float32", reservoir=10, key=jax.random.key(0)).summary("samples")
        Traceback (most recent call last):
        ...
        ValueError: summary: no samples have been added yet.
        """
        n, dtype = positive_integer(n, "n"), cuts.batch_type(dtype)
        if (reservoir is None) != (key is None):
            raise ValueError("reservoir, key: one was given without the other; a reservoir is drawn by a key.")
        if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first < 2**62:
            raise ValueError(f"first: expected a position, an integer of at least 0, got {first!r}.")
        kept = None
        if reservoir is not None and key is not None:
            kept = reservoirs.empty(positive_integer(reservoir, "reservoir"), key, n, dtype, first)
        elif first:
            raise ValueError(f"first: {first} means nothing without a reservoir; leave it out.")
        devices = None if devices is None else tuple(devices)
        sums = no_sums(n, dtype, 1 if devices is None else positive_integer(len(devices), "devices"))
        return Accumulator(placed(sums, devices), 0, devices, kept)

    @property
    def size(self) -> int:
        """Number of features n."""
        return self.sums.gram.shape[-1]

    @property
    def dtype(self) -> np.dtype:
        """Type of the batches and of all results."""
        return np.dtype(self.sums.gram.dtype)

    def add(self, batch: Array | np.ndarray, weights: ArrayLike | None = None) -> "Accumulator":
        """Return a copy that includes `batch`.

        Args:
            batch: signals, an array of NumPy or JAX, shape (features, samples), of the accumulator's dtype.
            weights: how much each sample counts, shape (samples,), at least 0; None means 1 each. All may be zero: a
                batch of padding adds nothing.

        Raises:
            TypeError: if `batch` is not such an array.
            ValueError: if the shape is wrong, if a sample with a weight above 0 holds NaN or infinity, or if weights
                are negative or not finite. This accumulator does not change.
        """
        return self.added(batch, "batch", weights)

    def added(self, batch: Array | np.ndarray, name: str, weights: ArrayLike | None = None) -> "Accumulator":
        """Do what `add` does, and call the batch `name` in error messages."""
        batch = cuts.checked(batch, self.size, self.dtype, name)
        weights = cuts.weights_of(batch, weights, name)
        sums, mesh, devices = self.sums, mesh_of(self.devices), len(self.devices or (0,))
        count, tally = batch.shape[1], self._tallied(weights, batch.shape[1])
        parts = [batch]
        if weights is not None:
            count = int((weights > 0).sum())
            batch = cuts.cleared_columns(batch, weights)
            parts = [batch * np.sqrt(weights)[None, :], batch * weights[None, :]]
        for pieces in zip(*(cuts.chunks(part, devices) for part in parts), strict=True):
            rows = pieces[0][2]
            given = [piece[0] for piece in pieces]
            if mesh is not None:
                where = NamedSharding(mesh, P("columns") if rows else P(None, "columns"))
                given = [jax.device_put(piece, where) for piece in given]
            sums = add_columns(sums, jnp.asarray(given[0]), mesh, rows, *map(jnp.asarray, given[1:]))
        if not np.isfinite(np.asarray(sums.largest)).all():
            raise ValueError(f"{name}: {cuts.faults(batch)}; nothing of it was added.")
        kept = None if self.reservoir is None else self.reservoir.add(batch, weights)
        return dataclasses.replace(self, sums=sums, count=self.count + count, reservoir=kept, tally=tally)

    def _tallied(self, weights: np.ndarray | None, columns: int) -> tuple[float, float] | None:
        """Return the tally with more weights; a sample without a weight counts as 1."""
        if weights is None and self.tally is None:
            return None
        wide = np.ones(columns) if weights is None else np.asarray(weights, np.float64)
        total, squares = self._tally
        return total + float(wide.sum()), squares + float((wide**2).sum())

    @property
    def _tally(self) -> tuple[float, float]:
        return (float(self.count), float(self.count)) if self.tally is None else self.tally

    @property
    def samples(self) -> float:
        """Effective number of samples, `(sum w)^2 / sum w^2` (Kish); without weights, their number."""
        total, squares = self._tally
        return total**2 / squares if squares else 0.0

    def consume(
        self: "Accumulator",
        batches: cuts.Batches,
        *,
        save: str | os.PathLike | None = None,
        every: int = 16,
        progress: OpenProgress | None = None,
        stream: str = "batches",
    ) -> "Accumulator":
        """Return a copy that includes all batches of a stream which are not counted yet.

        A script may be killed and started again: let it load the file `save` if it exists (`Accumulator.load(save)`)
        and call `consume` with the whole stream. It continues after the last save, and counts no batch twice.

        Args:
            batches: a list or an iterator of batches, arrays (features, samples) or pairs (array, weights). It must
                always start at the first batch and keep the order; counted batches are read and skipped. To save time,
                give a function `batches(first)` that returns an iterator from batch number `first` (from 0) on. The
                last counted batch is read again, to check that the stream is the same.
            save: path of a file, written after every `every` batches, at the end, and after an error. A crash while
                writing leaves the old file whole. None writes nothing.
            every: number of batches between two saves.
            progress: called as `progress(stream, done, total)` after each batch; `total` is None if `batches` has no
                length.
            stream: name of the stream. If you consume several streams, give each of them its own name.

        Raises:
            ValueError, TypeError: if `add` refuses a batch (the message gives its number), or if the stream is not the
                one that was counted.
            BaseException: if the stream raises, on a full disk, on Ctrl-C; `error.accumulator` holds what was counted.

        >>> stream = [np.ones((1, 2), "float32")] * 3
        >>> acc = Accumulator.empty(1, "float32").consume(stream[:2], save="sums.npz")
        >>> Accumulator.load("sums.npz").consume(stream).count
        6
        """
        return consume(self, batches, save, positive_integer(every, "every"), progress, stream)

    def at(self, stream: str, done: int, mark: str) -> "Accumulator":
        """Return a copy with a new cursor: `done` batches of a stream are counted, the last with fingerprint `mark`."""
        others = tuple(cursor for cursor in self.cursors if cursor[0] != stream)
        return dataclasses.replace(self, cursors=(*others, (stream, done, mark)))

    def merge(self, other: "Accumulator") -> "Accumulator":
        """Merge two accumulators; keep the devices of `self`, and its cursors where both have one.

        Raises:
            TypeError, ValueError: if features, dtypes or reservoirs do not fit, or if both reservoirs have drawn from
                the same positions with one key.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"merge: expected an Accumulator, got {type(other).__name__}.")
        if (self.size, self.dtype) != (other.size, other.dtype):
            raise ValueError(
                f"merge: {other.size} features of {other.dtype} do not fit {self.size} features of {self.dtype}."
            )
        if (self.reservoir is None) != (other.reservoir is None):
            raise ValueError("merge: one accumulator has a reservoir and the other has none; make both alike.")
        kept = None
        if self.reservoir is not None and other.reservoir is not None:
            kept = self.reservoir.merge(other.reservoir)
        names = {cursor[0] for cursor in self.cursors}
        cursors = (*self.cursors, *(cursor for cursor in other.cursors if cursor[0] not in names))
        sums = spread(together(self.sums, other.sums), self.devices)
        tally = None
        if self.tally is not None or other.tally is not None:
            tally = (self._tally[0] + other._tally[0], self._tally[1] + other._tally[1])
        return Accumulator(sums, self.count + other.count, self.devices, kept, cursors, tally)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to a `.npz` file with a checksum; an old file stays until the new one is complete.

        Raises:
            OSError: if the file cannot be written (a full disk).
        """
        header = {"format": FORMAT, "kind": "Accumulator", "count": self.count, "cursors": self.cursors}
        header["tally"] = self.tally
        arrays = {name: np.asarray(part) for name, part in self.sums._asdict().items()}
        if self.reservoir is not None:
            header["reservoir"] = {name: getattr(self.reservoir, name) for name in ("size", "seed", "spans")}
            arrays |= {"columns": self.reservoir.columns, "priorities": self.reservoir.priorities}
            if self.reservoir.weights is not None:
                arrays["weights"] = self.reservoir.weights
        write_sealed(path, header, arrays)

    @staticmethod
    def load(path: str | os.PathLike, devices: Sequence[Device] | None = None) -> "Accumulator":
        """Read what `save` wrote, for these devices; their number may differ from before.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is something else, or truncated, or changed in any bit.
            TypeError: if the data are float64 and 64-bit types are not enabled.
        """
        header, arrays = read_sealed(path, "Accumulator")
        # Format 1 had no weights.
        if header.get("format") not in (1, FORMAT) or header.get("kind") != "Accumulator":
            raise ValueError(
                f"{path}: {header.get('kind')} of format {header.get('format')!r}; this reads 1 to {FORMAT}."
            )
        sums = Sums(*(arrays[name] for name in Sums._fields))
        cuts.batch_type(sums.gram.dtype)
        devices = None if devices is None else tuple(devices)
        # With the same number of devices, each continues with its own sums: the result is the same to the last bit.
        same = len(sums.unit) == len(devices or (0,))
        sums = placed(sums, devices) if same else spread(together(sums), devices)
        kept = None
        if "reservoir" in header:
            fields = header["reservoir"] | {"spans": tuple(map(tuple, header["reservoir"]["spans"]))}
            kept = Reservoir(
                **fields, columns=arrays["columns"], priorities=arrays["priorities"], weights=arrays.get("weights")
            )
        tally = None if header.get("tally") is None else tuple(header["tally"])
        return Accumulator(sums, header["count"], devices, kept, tuple(map(tuple, header["cursors"])), tally)

    @property
    def moments(self) -> Moments:
        """`S S^T` and `S 1` in float64 on the host, and all that follows from them."""
        if not self.count:
            raise ValueError("summary: no samples have been added yet.")
        return Moments.of(together(self.sums), self.count if self.tally is None else self.tally[0])

    @property
    def gram(self) -> Float[Array, "n n"]:
        """`S S^T`."""
        return self._cast(self.moments.gram(), "gram")

    @property
    def mean(self) -> Float[Array, " n"]:
        """`S 1 / m`."""
        return self._cast(self.moments.mean(), "mean")

    @property
    def autocorrelation(self) -> Float[Array, "n n"]:
        """`S S^T / m`, means not removed: `exact.from_weights` takes it, with `mean`, for a layer's input."""
        return self._cast(self.moments.autocorrelation(), "autocorrelation")

    @property
    def covariance(self) -> Float[Array, "n n"]:
        """`S S^T / m` minus the outer product of the mean with itself."""
        return self._cast(self.moments.covariance(), "covariance")

    @property
    def unit(self) -> float:
        """Root mean square of all entries, `||S||_F / sqrt(n m)`; 1 if all are zero."""
        return self.moments.root_mean_square()

    @property
    def resolution(self) -> float:
        """Smallest singular value of S that is known, over the largest: `sqrt(eps tr(S S^T) / sigma_1^2)`.

        Errors of at most `eps sqrt(g_ii g_jj)` change no eigenvalue of `G = S S^T` by more than eps times its trace.
        Smaller singular values are rounding, and zero in `summary()`: in float32 below 1/3000 to 1/500 of the largest.
        """
        return self.moments.resolution(self.dtype)

    def summary(self, objective: Objective | str | None = None) -> Summary:
        """Return the summary that an objective reads, for `descramble(summary, objective)`.

        Args:
            objective: the objective, or the name of a summary: "factor" (the default), "gram" or "samples".

        Returns:
            A `Factor` from the eigenvalues of `S S^T`, without singular values below `resolution`; a `Gram`; or the
            `Samples` of the reservoir, each equally likely, lowest priority first. Counts stop at 2^31 - 1.

        Raises:
            ValueError: if there are no samples yet, if there is no reservoir, or if squares overflow (`Gram`).

        >>> acc = Accumulator.empty(2, "float32").add(np.asarray([[3.0, 4.0], [0.0, 0.0]], "float32"))
        >>> abs(acc.summary().factor).round(4).tolist()
        [[5.0, 0.0], [0.0, 0.0]]
        """
        kind = objective.summary if isinstance(objective, Objective) else objective
        if kind not in SUMMARIES.values():
            kind = SUMMARIES[one_of("factor" if kind is None else kind, "objective", tuple(SUMMARIES))]
        moments = self.moments
        count = jnp.asarray(min(self.count, 2**31 - 1), jnp.int32)
        tally = None if self.tally is None else jnp.asarray(self.tally, self.dtype)
        if kind is Factor:
            return Factor(self._cast(moments.factor(self.dtype), "factor"), count, tally)
        if kind is Gram:
            return Gram(self.gram, count, tally)
        if self.reservoir is None:
            raise ValueError(
                "summary: this objective reads samples, and none were kept. Make the accumulator with a reservoir, "
                "Accumulator.empty(n, dtype, reservoir=10_000, key=key); descrambling.score and descrambling.refine "
                "then see all the data in a second pass."
            )
        weights = self.reservoir.weights
        weights = None if weights is None else jnp.asarray(weights)
        return Samples(jnp.asarray(self.reservoir.columns), weights=weights)

    def _cast(self, array: np.ndarray, name: str) -> Array:
        with np.errstate(over="ignore"):
            cast = array.astype(self.dtype)
        if not np.isfinite(cast).all():
            largest = float(np.max(np.asarray(self.sums.largest)))
            raise ValueError(
                f"{name}: overflows {self.dtype}, with entries of S up to {largest:.3g}. summary('factor') holds "
                "square roots; or scale the data."
            )
        return jnp.asarray(cast)
