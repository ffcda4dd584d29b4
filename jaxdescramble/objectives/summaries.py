"""Mergeable summaries: what an objective keeps of the signals S, shape (n, m), also of more samples than memory holds.

Build a summary from batches with `empty(n, dtype)`, `update(signals)` and `merge(other)`. Every summary gives the two
things that a quadratic objective needs: `energy(M) = ||M S||_F^2`, and `principal()`, the principal directions of S
with their singular values. The table says which singular values are still correct; sigma_1 is the largest one, and eps
the rounding unit of the dtype.

| summary   | keeps                            | singular values resolved down to |
|-----------|----------------------------------|----------------------------------|
| `Factor`  | R with `R^H R = S S^H`           | n eps sigma_1                    |
| `Samples` | S itself                         | n eps sigma_1                    |
| `Gram`    | `S S^H`                          | sqrt(n eps) sigma_1              |

`Factor` is the default. `Samples` is for objectives that are not quadratic. `Gram` squares the condition number: in
float32 it loses all singular values below about 1/300 of the largest.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import floating_type, positive_integer, same_size
from jaxdescramble._base.products import adjoint, matmul, real_type, square_sum
from jaxdescramble._base.programs import fused
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.objectives._taken import alike, columns_for, unit
from jaxdescramble.objectives._triangles import triangularise
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.objectives.weighing import (
    added,
    balanced,
    clear,
    counted,
    drawn,
    effective_number,
    finite,
    merged,
    shares,
    valid,
)


def cleared(summary: Summary) -> Summary:
    """Return the summary if it is finite, otherwise a summary of zeros. So no decomposition gets a NaN.

    >>> float(cleared(Samples(jnp.full((2, 3), jnp.nan))).power())
    0.0
    """
    finite = summary.finite()
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), summary)


def effective_samples(summary: Summary) -> Float[Array, ""]:
    """Return Kish's effective number of samples, `(sum w)^2 / sum w^2`; without weights, the number of samples.

    >>> float(effective_samples(Samples(jnp.ones((2, 3)), weights=jnp.asarray([1.0, 1.0, 0.0]))))
    2.0

    Source: Kish, Survey Sampling (1965), section 11.7.
    """
    count = getattr(summary, "effective", None)
    return jnp.asarray(jnp.nan if count is None else count(), real_type(summary.dtype))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Factor(Summary):
    """The triangular factor R of a QR decomposition of `S^H`, updated batch by batch. It is the default.

    `S S^H = R^H R`, so every quadratic objective has the same value for S and for the n columns of `R^H`. The condition
    number is not squared.

    >>> S = jnp.asarray([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    >>> R = Factor.empty(2, S.dtype).update(S[:, :2]).update(S[:, 2:]).factor
    >>> (R.T @ R).round(4).tolist()
    [[5.0, 2.0], [2.0, 2.0]]
    """

    factor: Inexact[Array, "*batch n n"]
    count: ArrayLike  # an int32 scalar; float0 if this is a tangent
    tally: Array | None = None  # (sum w, sum w^2) if samples have weights, shape (2,)
    exponent: ClassVar[int] = 1

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Factor":
        n = positive_integer(n, "n")
        return Factor(jnp.zeros((n, n), floating_type(dtype, half=True, is_complex=True)), jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        return self.factor.shape[-1]

    @property
    def dtype(self) -> np.dtype:
        return self.factor.dtype

    def update(
        self, signals: Inexact[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None
    ) -> "Factor":
        signals = columns_for(self, signals)
        each = valid(weights, signals)
        return self._with(signals, each)

    @fused
    def _with(self, signals: Array, weights: Array | None) -> "Factor":
        factor = triangularise(jnp.concatenate([self.factor, adjoint(balanced(signals, weights))]))
        return Factor(factor, *added(self, signals, weights))

    def merge(self, other: Summary) -> "Factor":
        other = alike(self, other)
        factor = triangularise(jnp.concatenate([self.factor, other.factor]))
        return Factor(factor, *merged(self, other))

    def effective(self) -> ArrayLike:
        return counted(self)

    @fused
    def power(self) -> Float[Array, ""]:
        return square_sum(self.factor)

    @fused
    def energy(self, matrix: Inexact[Array, "k n"]) -> Float[Array, ""]:
        return square_sum(matmul(matrix, adjoint(self.factor)))

    @fused
    def moment(self, matrix: Inexact[Array, "k n"]) -> Inexact[Array, "k k"]:
        half = matmul(matrix, adjoint(self.factor))
        return matmul(half, adjoint(half))

    def principal(self) -> tuple[Inexact[Array, "n n"], Float[Array, " n"]]:
        directions, singular, _ = decompositions.svd(adjoint(self.factor))
        return directions, singular

    def spanning(self) -> Inexact[Array, "n n"]:
        return adjoint(self.factor)

    @fused
    def compressed(self, matrix: Inexact[Array, "k n"]) -> "Factor":
        return Factor(triangularise(matmul(self.factor, adjoint(matrix))), self.count, self.tally)

    @fused
    def scale(self) -> Float[Array, ""]:
        return unit(jnp.max(jnp.abs(self.factor)))

    @fused
    def normalised(self) -> "Factor":
        return Factor(self.factor / self.scale(), self.count, self.tally)

    def finite(self) -> Array:
        return finite(self.factor, self.tally)


class SampleSummary(Summary):
    """The base class of summaries that keep their samples, for objectives that are not quadratic.

    Use it in annotations: an objective that is an `Objective[SampleSummary]` may read `summary.signals`, and multiplies
    the terms of its sums over samples by `summary.weigh`. `Samples` is such a summary, `Factor` and `Gram` are not.

    Attributes:
        signals: the signals S, shape (..., n, m).
        weights: how much each sample counts, shape (..., m); None means 1 each.

    >>> isinstance(Samples(jnp.ones((2, 3))), SampleSummary), isinstance(Factor.empty(2, float), SampleSummary)
    (True, False)
    """

    signals: Inexact[Array, "*batch n m"]
    weights: Array | None

    @abc.abstractmethod
    @fused
    def normalised(self) -> "SampleSummary":
        """Return the summary of the signals divided by `scale()`; it keeps its samples too."""

    def weigh(self, terms: Float[Array, "*rest m"]) -> Float[Array, "*rest m"]:
        """Multiply each term of a sum over samples by the weight of its sample, in units of the mean weight.

        `jnp.sum(summary.weigh(terms))` and `jnp.mean(summary.weigh(terms))` are then the weighted sum and mean. Without
        weights, return the terms unchanged.

        Args:
            terms: the terms of the sum; the last axis counts the samples.

        Raises:
            ValueError: if the number of samples differs.

        >>> Samples(jnp.ones((2, 2)), weights=jnp.asarray([3.0, 1.0])).weigh(jnp.asarray([1.0, 1.0])).tolist()
        [1.5, 0.5]
        """
        if self.weights is None:
            return terms
        m = self.weights.shape[-1]
        same_size(terms, -1, m, "terms", "the summary's samples")
        return terms * shares(self.weights).astype(terms.dtype).reshape((1,) * (terms.ndim - 1) + (m,))

    @property
    def entries(self) -> ArrayLike:
        """The number of entries of S; with weights, n times the sum of the weights."""
        if self.weights is None:
            return max(self.signals.size, 1)
        total = jnp.sum(self.weights)
        return self.size * jnp.where(total == 0, 1, total)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples(SampleSummary):
    """The signals themselves, for objectives that are not quadratic. It grows with every update.

    If you build it without `update`, samples of weight zero must be finite too; `update` replaces them by zeros.

    >>> Samples.empty(2, jnp.float32).update(jnp.ones((2, 3))).signals.shape
    (2, 3)
    """

    signals: Inexact[Array, "*batch n m"]
    weights: Array | None = dataclasses.field(default=None, kw_only=True)  # how much each counts, shape (*batch, m)
    exponent: ClassVar[int] = 1

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Samples":
        return Samples(jnp.zeros((positive_integer(n, "n"), 0), floating_type(dtype, half=True, is_complex=True)))

    @property
    def size(self) -> int:
        return self.signals.shape[-2]

    @property
    def dtype(self) -> np.dtype:
        return self.signals.dtype

    def update(
        self, signals: Inexact[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None
    ) -> "Samples":
        signals = columns_for(self, signals)
        each = valid(weights, signals)
        return self._with(clear(signals, each), each)

    def merge(self, other: Summary) -> "Samples":
        other = alike(self, other)
        return self._with(other.signals, other.weights)

    def _with(self, signals: Array, weights: Array | None) -> "Samples":
        together = jnp.concatenate([self.signals, signals], axis=1)
        pairs = ((self.signals, self.weights), (signals, weights))
        if weights is not None or self.weights is not None:
            each = [jnp.ones(some.shape[1], real_type(some.dtype)) if w is None else w for some, w in pairs]
            weights = jnp.concatenate(each)
        return dataclasses.replace(self, signals=together, weights=weights)

    def thin(self, step: int) -> "Samples":
        """Return every `step`-th sample, with its weight."""
        return dataclasses.replace(
            self, signals=self.signals[:, ::step], weights=None if self.weights is None else self.weights[::step]
        )

    def draw(self, key: PRNGKeyArray, size: int) -> "Samples":
        """Draw a minibatch of `size` samples, with replacement, in proportion to their weights if they have any."""
        if self.weights is None:
            places = jax.random.randint(key, (size,), 0, self.signals.shape[1])
        else:
            places = drawn(key, self.weights, size)
        return dataclasses.replace(self, signals=self.signals[:, places], weights=None)

    def effective(self) -> ArrayLike:
        return self.signals.shape[-1] if self.weights is None else effective_number(self.weights)

    @fused
    def power(self) -> Float[Array, ""]:
        return square_sum(balanced(self.signals, self.weights))

    @fused
    def energy(self, matrix: Inexact[Array, "k n"]) -> Float[Array, ""]:
        return square_sum(matmul(matrix, balanced(self.signals, self.weights)))

    @fused
    def moment(self, matrix: Inexact[Array, "k n"]) -> Inexact[Array, "k k"]:
        half = matmul(matrix, balanced(self.signals, self.weights))
        return matmul(half, adjoint(half))

    def principal(self) -> tuple[Inexact[Array, "n n"], Float[Array, " n"]]:
        n, m = self.signals.shape
        if m > n:  # the triangular factor has the same directions and singular values, equally accurate
            return Factor.empty(n, self.dtype).update(self.signals, self.weights).principal()
        directions, singular, _ = decompositions.svd(balanced(self.signals, self.weights), full_matrices=m < n)
        return directions, jnp.zeros(n, singular.dtype).at[: min(n, m)].set(singular)

    def spanning(self) -> Inexact[Array, "n m"]:
        return balanced(self.signals, self.weights)

    @fused
    def compressed(self, matrix: Inexact[Array, "k n"]) -> "Samples":
        return dataclasses.replace(self, signals=matmul(matrix, self.signals))

    @fused
    def scale(self) -> Float[Array, ""]:
        return unit(jnp.max(jnp.abs(self.signals), initial=0))

    @fused
    def normalised(self) -> "Samples":
        return dataclasses.replace(self, signals=self.signals / self.scale())

    def finite(self) -> Array:
        return finite(self.signals, self.weights)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Gram(Summary):
    """The Gram matrix `S S^H`. Its update is the cheapest, but it keeps half the digits; use it in float64.

    >>> Gram.empty(2, jnp.float32).update(jnp.ones((2, 3), jnp.float32)).gram.tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """

    gram: Inexact[Array, "*batch n n"]
    count: ArrayLike  # an int32 scalar; float0 if this is a tangent
    tally: Array | None = None  # (sum w, sum w^2) if samples have weights, shape (2,)
    exponent: ClassVar[int] = 2

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Gram":
        n = positive_integer(n, "n")
        return Gram(jnp.zeros((n, n), floating_type(dtype, half=True, is_complex=True)), jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        return self.gram.shape[-1]

    @property
    def dtype(self) -> np.dtype:
        return self.gram.dtype

    def update(self, signals: Inexact[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None) -> "Gram":
        signals = columns_for(self, signals)
        each = valid(weights, signals)
        return self._with(signals, each)

    @fused
    def _with(self, signals: Array, weights: Array | None) -> "Gram":
        half = balanced(signals, weights)
        return Gram(self.gram + matmul(half, adjoint(half)), *added(self, signals, weights))

    def merge(self, other: Summary) -> "Gram":
        other = alike(self, other)
        return Gram(self.gram + other.gram, *merged(self, other))

    def effective(self) -> ArrayLike:
        return counted(self)

    @fused
    def power(self) -> Float[Array, ""]:
        return jnp.trace(self.gram).real

    @fused
    def energy(self, matrix: Inexact[Array, "k n"]) -> Float[Array, ""]:
        return jnp.sum(matmul(matrix, self.gram) * jnp.conj(matrix)).real

    @fused
    def moment(self, matrix: Inexact[Array, "k n"]) -> Inexact[Array, "k k"]:
        return matmul(matmul(matrix, self.gram), adjoint(matrix))

    def principal(self) -> tuple[Inexact[Array, "n n"], Float[Array, " n"]]:
        squares, directions = decompositions.eigh(self.gram)
        return directions[:, ::-1], jnp.sqrt(jnp.maximum(squares[::-1], 0))

    def spanning(self) -> Inexact[Array, "n n"]:
        return self.gram

    @fused
    def compressed(self, matrix: Inexact[Array, "k n"]) -> "Gram":
        return Gram(self.moment(matrix), self.count, self.tally)

    @fused
    def scale(self) -> Float[Array, ""]:
        return jnp.sqrt(unit(jnp.max(jnp.abs(self.gram))))

    @fused
    def normalised(self) -> "Gram":
        return Gram(self.gram / self.scale() / self.scale(), self.count, self.tally)

    def finite(self) -> Array:
        return finite(self.gram, self.tally)


SUMMARIES = {"factor": Factor, "gram": Gram, "samples": Samples}
