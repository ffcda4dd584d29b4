"""A sketch of very many features: a summary that needs neither the samples nor a matrix of features times features."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import floating_type, instance_of, positive_integer, real_array, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.objectives._triangles import triangularise
from jaxdescramble.objectives.leading import leading_directions
from jaxdescramble.objectives.summaries import Factor
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.objectives.weighing import added, balanced, counted, finite, merged, valid

RANK = 512
"""Default number of columns of the factor."""


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Sketch(Summary):
    """A factor F of few columns with `F F^T ≈ S S^T`, for `descramble(sketch, objective, rank=k)` of very wide layers.

    Use it for many thousands of features whose samples do not fit in memory. It takes n r numbers for n features and r
    columns. Each update appends a batch to F, decomposes, and keeps the r largest singular values. Batches of about r
    samples cost least for each sample; larger ones are cut into parts of r samples.

    Accuracy: let `error` be the sum, over all updates, of the largest squared singular value that was dropped. Then
    `0 <= x^T (S S^T - F F^T) x <= error` for every unit vector x. So the k directions of the sketch keep at least the
    energy of the best k directions minus `k * error`; if S has a rank of at most r, both are the same up to rounding.
    Choose r = 2 k or more, and compare `k * error` with `power()`, the exact energy. `left_out` of a `Descrambling`
    counts everything that F dropped as left out, so it is never too small.

    The answer depends on the order of the batches, within this bound. An update has no derivative. Squares are summed
    as they are: divide signals in float32 that are above 1e18 or below 1e-18. Without `rank`, values of an objective
    at a sketch compare what is kept with the whole energy.

    Attributes:
        factor: F, with orthogonal columns, largest first.
        total: `||S||_F^2` as a sum of two numbers, a rounded sum and its rounding error.
        error: upper bound for `||S S^T - F F^T||_2`.
        count: number of samples.
        tally: `(sum w, sum w^2)` if samples have weights, else None.

    >>> S = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)) @ np.ones((3, 30)))
    >>> sketch = Sketch.empty(20, S.dtype, rank=4).update(S[:, :10]).update(S[:, 10:])
    >>> sketch.factor.shape, bool(abs(sketch.energy(jnp.eye(20)) - jnp.sum(S**2)) < 1e-5 * jnp.sum(S**2))
    ((20, 4), True)

    Source: Brand, Linear Algebra Appl. 415 (2006) 20, updates of a truncated decomposition; the bound is that of the
    sum of the dropped parts, as for frequent directions (Ghashami, Liberty, Phillips, Woodruff 2016, arXiv 1501.01711),
    which also subtract the dropped value from those that are kept.
    """

    factor: Float[Array, "*batch n r"]
    total: Float[Array, "*batch 2"]
    error: ArrayLike
    count: ArrayLike  # an int32 scalar; float0 if this is a tangent
    tally: Array | None = None
    exponent: ClassVar[int] = 1

    @staticmethod
    def empty(n: int, dtype: DTypeLike, rank: int = RANK) -> "Sketch":
        """Return a sketch of no samples.

        Args:
            n: number of features.
            dtype: dtype of the signals.
            rank: number of columns of the factor; at most n are kept.

        Raises:
            TypeError, ValueError: if a number is not a positive integer, or the dtype is not a floating type.
        """
        n, rank, dtype = positive_integer(n, "n"), positive_integer(rank, "rank"), floating_type(dtype)
        nothing = jnp.zeros((), dtype)
        return Sketch(jnp.zeros((n, min(rank, n)), dtype), jnp.zeros(2, dtype), nothing, jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        return self.factor.shape[-2]

    @property
    def dtype(self) -> np.dtype:
        return self.factor.dtype

    def update(self, signals: Float[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None) -> "Sketch":
        columns = real_array(signals, "signals", (2,), "(features, samples)")
        same_size(columns, 0, self.size, "signals", "the summary's features")
        each = valid(weights, columns)
        columns, rank = balanced(columns, each), self.factor.shape[1]
        found = (self.factor, self.total, self.error)
        for first in range(0, columns.shape[1], rank):
            part = columns[:, first : first + rank]
            factor, dropped = _truncated(found[0], part)
            found = (factor, _sum(found[1], jnp.sum(jnp.sum(part**2, axis=0))), found[2] + dropped)
        return Sketch(*found, *added(self, columns, each))

    def merge(self, other: Summary) -> "Sketch":
        other = instance_of(other, "other", Sketch, "a Sketch, to be merged with one")
        if other.factor.shape != self.factor.shape:
            raise ValueError(
                f"other: a sketch of {other.size} features and rank {other.factor.shape[1]}, to be merged with one of "
                f"{self.size} features and rank {self.factor.shape[1]}; make both alike."
            )
        factor, dropped = _truncated(self.factor, other.factor)
        total = _sum(_sum(self.total, other.total[0]), other.total[1])
        return Sketch(factor, total, self.error + other.error + dropped, *merged(self, other))

    def leading(self, k: int) -> Float[Array, "n k"]:
        """Return the k leading principal directions U_k.

        Use it for objectives that need samples: make `U_k^T S` of each batch in a second pass, and descramble these
        k features. With its answer R, the descrambler of S is `P = R U_k^T`.

        Raises:
            TypeError, ValueError: if k is not an integer from 1 to the number of features.
        """
        if positive_integer(k, "k") > self.size:
            raise ValueError(f"k: got {k}; must be at most {self.size}, the number of features.")
        return leading_directions(self, k).directions

    def effective(self) -> ArrayLike:
        return counted(self)

    def power(self) -> Float[Array, ""]:
        return self.total[0] + self.total[1]

    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        return jnp.sum(matmul(matrix, self.factor) ** 2)

    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        half = matmul(matrix, self.factor)
        return matmul(half, half.T)

    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        directions, singular, _ = decompositions.svd(self.factor)
        return directions, jnp.zeros(self.size, self.dtype).at[: len(singular)].set(singular)

    def spanning(self) -> Float[Array, "n r"]:
        return self.factor

    def compressed(self, matrix: Float[Array, "k n"]) -> Factor:
        rows = matmul(matrix, self.factor).T
        missing = max(len(matrix) - len(rows), 0)
        rows = jnp.concatenate([rows, jnp.zeros((missing, len(matrix)), rows.dtype)])
        return Factor(triangularise(rows), self.count, self.tally)

    def scale(self) -> Float[Array, ""]:
        largest = jnp.max(jnp.abs(self.factor))
        return jax.lax.stop_gradient(jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1))

    def normalised(self) -> "Sketch":
        unit = self.scale()
        total, error = self.total / unit / unit, jnp.asarray(self.error) / unit / unit
        return dataclasses.replace(self, factor=self.factor / unit, total=total, error=error)

    def finite(self) -> Array:
        return finite(self.factor, self.tally) & jnp.isfinite(self.total).all()


@jax.custom_jvp
@jax.jit
def _truncated(factor: Float[Array, "n r"], columns: Float[Array, "n c"]) -> tuple[Array, Array]:
    """Return the factor of `[F, X]` with the r largest singular values, and the square of the next one."""
    rank = factor.shape[1]
    Q, R = decompositions.qr(jnp.concatenate([factor, columns], axis=1))
    turn, singular, _ = decompositions.svd(R, full_matrices=False)
    front = turn[:, :rank] * singular[None, :rank]
    following = singular[rank] if len(singular) > rank else jnp.zeros((), singular.dtype)
    return matmul(Q, front), following**2


@_truncated.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[tuple, tuple]:
    raise TypeError("Sketch: an update has no derivative. Use the signals themselves, or objectives.Factor.")


@jax.jit
def _sum(pair: Float[Array, " 2"], further: Float[Array, ""]) -> Float[Array, " 2"]:
    """Add a number to a compensated sum (Knuth, TAOCP 2, 4.2.2)."""
    total = pair[0] + further
    part = total - pair[0]
    lost = (pair[0] - (total - part)) + (further - part)
    return jnp.stack([total, pair[1] + lost])
