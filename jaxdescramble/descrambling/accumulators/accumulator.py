"""The moments of more data than memory holds, in one pass that can be stopped, resumed, shared out and merged."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import one_of, positive_integer
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
from jaxdescramble.descrambling.accumulators._consuming import consume
from jaxdescramble.descrambling.accumulators._moments import Moments
from jaxdescramble.descrambling.accumulators._reservoir import Reservoir
from jaxdescramble.descrambling.accumulators._storage import read_sealed, write_sealed
from jaxdescramble.objectives import Factor, Gram, Objective, Samples, Summary
from jaxdescramble.objectives.summaries import SUMMARIES
from jaxdescramble.solvers.watch import OpenProgress

FORMAT = 2
Cursor = tuple[str, int, str]
"""A stream's name, how many of its batches are counted, and the fingerprint of the last of them."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Accumulator(Result):
    """`S S^T`, `S 1` and a sample of the columns of S, added up batch by batch: a value, `acc = acc.add(batch)`.

    In float32 errors of `S S^T`, relative to `sqrt(g_ii g_jj)`, are 1e-9 as a rule and 1e-7 for constant features,
    however many columns there are (`_compensated.py` says how).

    What is bitwise the same: sums of the same batches in the same order on as many devices, stopped and resumed
    wherever; and the reservoir, always. Sums that were cut, shared out or merged differently agree to such errors.
    Processes and machines have an accumulator each, and meet in `merge` or in files.

    Attributes:
        sums: what each device has added up.
        count: samples m, a Python integer.
        devices: those that share out the columns; None for one, where JAX puts things.
        reservoir: a uniform sample of the columns, or None.
        cursors: where in its streams `consume` stands.
        tally: `(sum w, sum w^2)` where samples have weights, else None. Sums are weighted then, and `count` leaves out
            samples of weight 0.

    >>> acc = Accumulator.empty(2, "float32").add(np.ones((2, 3), "float32")).add(np.ones((2, 1), "float32"))
    >>> acc.count, acc.mean.tolist(), acc.autocorrelation.tolist()
    (4, [1.0, 1.0], [[1.0, 1.0], [1.0, 1.0]])

    Source: compensated sums are Knuth, TAOCP 2, 4.2.2; reservoirs by priority are Efraimidis and Spirakis, Inf. Proc.
    Letters 97 (2006), here with equal weights.
    """

    sums: Sums
    count: int
    devices: tuple[Any, ...] | None = None
    reservoir: Reservoir | None = None
    cursors: tuple[Cursor, ...] = ()
    tally: tuple[float, float] | None = None

    @staticmethod
    def empty(
        n: int,
        dtype: DTypeLike,
        *,
        devices: Sequence[Any] | None = None,
        reservoir: int | None = None,
        key: PRNGKeyArray | None = None,
        first: int = 0,
    ) -> "Accumulator":
        """The accumulator of no samples.

        Args:
            n: features.
            dtype: float32, or float64 where 64-bit types are enabled.
            devices: among which the columns of each batch are shared out: each adds up its own, and nothing is
                exchanged before someone asks.
            reservoir: how many columns to keep for objectives that need samples; a uniform sample of all.
            key: chance for the reservoir.
            first: position of the first column in the whole, where several accumulators with one key share a stream.

        Raises:
            TypeError, ValueError: other types; a reservoir without a key or a key without a reservoir.

        >>> Accumulator.empty(3, "float32", reservoir=10, key=jax.random.key(0)).summary("samples")
        Traceback (most recent call last):
        ...
        ValueError: summary: no samples have been added yet.
        """
        n, dtype = positive_integer(n, "n"), _real_type(dtype)
        if (reservoir is None) != (key is None):
            raise ValueError("reservoir, key: one was given without the other; a reservoir is drawn by a key.")
        if isinstance(first, bool) or not isinstance(first, int) or not 0 <= first < 2**62:
            raise ValueError(f"first: expected a position, an integer of at least 0, got {first!r}.")
        kept = None
        if reservoir is not None:
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
        """Of the batches, and of what is made of them."""
        return np.dtype(self.sums.gram.dtype)

    def add(self, batch: Array | np.ndarray, weights: ArrayLike | None = None) -> "Accumulator":
        """Return an accumulator with more samples.

        Args:
            batch: an array of NumPy or JAX, (features, any number of samples), of the accumulator's type.
            weights: how much each sample counts, shape (samples,), as in `descramble`; None for 1 each. All may be
                zero: a batch of padding adds nothing.

        Raises:
            TypeError: not such an array.
            ValueError: another shape; NaN or infinity, but in samples of weight 0; weights that are negative or not
                finite. This accumulator is as it was.
        """
        return self.added(batch, "batch", weights)

    def added(self, batch: Array | np.ndarray, name: str, weights: ArrayLike | None = None) -> "Accumulator":
        """`add` of a batch that messages call by that name."""
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
        """The tally with more weights; a sample without one counts as one."""
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
        """The effective number of samples, `(sum w)^2 / sum w^2` (Kish); their number where they have no weights."""
        total, squares = self._tally
        return total**2 / squares if squares else 0.0

    def consume(
        self,
        batches: cuts.Batches,
        *,
        save: str | os.PathLike | None = None,
        every: int = 16,
        progress: OpenProgress | None = None,
        stream: str = "batches",
    ) -> "Accumulator":
        """With all batches of a stream that are not counted yet.

        The same call again, after `Accumulator.load(save)`, goes on where the last save was, and adds nothing once all
        is counted: a script that does both may be killed and started again at any time.

        Args:
            batches: arrays as for `add`, or pairs (array, weights), in a list or an iterator; or a function
                `batches(first)` that gives an iterator from the batch of that number on, so that nothing is read twice.
                To go on, a stream must begin
                again with the same batches in the same order: the last one counted is looked at again, and must be the
                same.
            save: a file to write after every so many batches, at the end, and when anything is raised. The old one
                stays until the new one is whole.
            every: batches.
            progress: called as `progress(stream, done, total)` after each batch; `total` is None where `batches` has no
                length.
            stream: a name; streams after the first need one of their own.

        Raises:
            ValueError, TypeError: a batch that `add` refuses, by its number; a stream that is not the one counted.
            Whatever the stream raises, a full disk, an interrupt: with a note of where, and as `error.accumulator` what
            was counted until then.

        >>> stream = [np.ones((1, 2), "float32")] * 3
        >>> acc = Accumulator.empty(1, "float32").consume(stream[:2], save="sums.npz")
        >>> Accumulator.load("sums.npz").consume(stream).count
        6
        """
        return consume(self, batches, save, positive_integer(every, "every"), progress, stream)

    def at(self, stream: str, done: int, mark: str) -> "Accumulator":
        """This accumulator with its cursor in a stream moved: so many batches are counted, the last of them `mark`."""
        others = tuple(cursor for cursor in self.cursors if cursor[0] != stream)
        return dataclasses.replace(self, cursors=(*others, (stream, done, mark)))

    def merge(self, other: "Accumulator") -> "Accumulator":
        """Of both sets of samples, on this one's devices; where `consume` stands is this one's too.

        Raises:
            TypeError, ValueError: features, types or reservoirs that do not fit; a reservoir that would hold columns of
                one position twice.
        """
        if not isinstance(other, Accumulator):
            raise TypeError(f"merge: expected an Accumulator, got {type(other).__name__}.")
        if (self.size, self.dtype) != (other.size, other.dtype):
            raise ValueError(
                f"merge: {other.size} features of {other.dtype} do not fit {self.size} features of {self.dtype}."
            )
        if (self.reservoir is None) != (other.reservoir is None):
            raise ValueError("merge: one accumulator has a reservoir and the other has none; make both alike.")
        kept = None if self.reservoir is None else self.reservoir.merge(other.reservoir)  # pyright: ignore
        names = {cursor[0] for cursor in self.cursors}
        cursors = (*self.cursors, *(cursor for cursor in other.cursors if cursor[0] not in names))
        sums = spread(together(self.sums, other.sums), self.devices)
        tally = None
        if self.tally is not None or other.tally is not None:
            tally = (self._tally[0] + other._tally[0], self._tally[1] + other._tally[1])
        return Accumulator(sums, self.count + other.count, self.devices, kept, cursors, tally)

    def save(self, path: str | os.PathLike) -> None:
        """Write all of it to a `.npz` file with a checksum; an old file stays whole until the new one is.

        Raises:
            OSError: the file cannot be written (a full disk).
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
    def load(path: str | os.PathLike, devices: Sequence[Any] | None = None) -> "Accumulator":
        """Read what `save` wrote, for as many devices as there are now.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, truncated, or not a bit as it was written.
            TypeError: float64, where 64-bit types are not enabled.
        """
        header, arrays = read_sealed(path, "Accumulator")
        # Format 1 knew no weights.
        if header.get("format") not in (1, FORMAT) or header.get("kind") != "Accumulator":
            raise ValueError(
                f"{path}: {header.get('kind')} of format {header.get('format')!r}; this reads 1 to {FORMAT}."
            )
        sums = Sums(*(arrays[name] for name in Sums._fields))
        _real_type(sums.gram.dtype)
        devices = None if devices is None else tuple(devices)
        # On as many devices as before each goes on with its own, to the last bit.
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
        """`S S^T` and `S 1` in float64 on the host, and what is made of them."""
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
        """`S S^T / m`, means left in: with `mean`, what `exact.from_weights` takes of a layer's input."""
        return self._cast(self.moments.autocorrelation(), "autocorrelation")

    @property
    def covariance(self) -> Float[Array, "n n"]:
        """`S S^T / m` less the outer product of the mean."""
        return self._cast(self.moments.covariance(), "covariance")

    @property
    def unit(self) -> float:
        """`||S||_F / sqrt(n m)`, the root mean square of all entries; 1 if all are zero."""
        return self.moments.root_mean_square()

    @property
    def resolution(self) -> float:
        """Down to which part of the largest one singular values of S are known: `sqrt(eps tr(S S^T) / sigma_1^2)`.

        Errors of at most `eps sqrt(g_ii g_jj)` change no eigenvalue of `S S^T` by more than eps times its trace.
        Smaller singular values are rounding, and zero in `summary()`: in float32 below 1/3000 to 1/500 of the largest.
        """
        return self.moments.resolution(self.dtype)

    def summary(self, objective: Objective | str | None = None) -> Summary:
        """What `descramble(summary, objective)` takes.

        Args:
            objective: or the name of a summary, "factor" (the default), "gram" or "samples".

        Returns:
            A `Factor` from the eigenvalues of `S S^T`, those below `resolution` left out; a `Gram`; or the `Samples` of
            the reservoir, of which all are equally likely, lowest priority first. Their own counts stop at 2^31 - 1.

        Raises:
            ValueError: no samples yet; no reservoir; squares that overflow (`Gram`).

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


def _real_type(dtype: DTypeLike) -> np.dtype:
    try:
        found = jnp.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}.") from error
    if found not in (np.dtype("float32"), np.dtype("float64")):
        raise TypeError(f"dtype: expected float32 or float64, got {found}; convert batches with .astype('float32').")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise TypeError(f"dtype: {found} needs jax.config.update('jax_enable_x64', True); or use float32.")
    return found
