"""Mergeable summaries of signals: what an objective keeps of a data set, however long.

Every summary has `empty(n, dtype)`, `update(signals)` and `merge(other)`, and answers the two questions a quadratic
objective asks: `energy(M) = ||M S||_F^2` and `principal()`, the principal directions with their singular values.

| summary   | keeps                            | singular values resolved down to |
|-----------|----------------------------------|----------------------------------|
| `Factor`  | R with `R^T R = S S^T`           | n eps sigma_1                    |
| `Samples` | S itself                         | n eps sigma_1                    |
| `Gram`    | `S S^T`                          | sqrt(n eps) sigma_1              |

A Gram matrix squares the condition number: in float32 it loses all singular values below 1/300 or so of the largest.
"""

import dataclasses
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble import decompositions
from jaxdescramble.checks import floating_type, instance_of, positive_integer, real_array, same_size
from jaxdescramble.products import matmul


@runtime_checkable
class Summary(Protocol):
    """What is kept of signals S of shape (n, m)."""

    exponent: ClassVar[int]
    """Singular values are resolved in this power: 1, or 2 where only squares are kept."""

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Summary":
        """The summary of no samples."""
        ...

    @property
    def size(self) -> int:
        """Number of features n."""
        ...

    @property
    def dtype(self) -> jnp.dtype: ...

    def update(self, signals: Float[Array, "n m"]) -> "Summary":
        """The summary of these signals and all before."""
        ...

    def merge(self, other: Any) -> "Summary":
        """The summary of both data sets."""
        ...

    def power(self) -> Float[Array, ""]:
        """`||S||_F^2`."""
        ...

    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        """`||M S||_F^2`."""
        ...

    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        """`M S S^T M^T`."""
        ...

    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        """Left singular vectors of S in columns (completed to n) and singular values, descending."""
        ...

    def scale(self) -> Float[Array, ""]:
        """The size of the signals' entries, 1 if there are none; a constant in derivatives."""
        ...

    def normalised(self) -> "Summary":
        """The summary of the signals divided by `scale()`: no later square can overflow or vanish."""
        ...

    def finite(self) -> Array:
        """Whether every number is finite."""
        ...


def cleared(summary: Summary) -> Summary:
    """The summary itself if it is finite, else one of zeros, so that no decomposition meets a NaN.

    >>> float(cleared(Samples(jnp.full((2, 3), jnp.nan))).power())
    0.0
    """
    finite = summary.finite()
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), summary)


def _columns(signals: ArrayLike, size: int) -> Float[Array, "n m"]:
    # No columns at all are as good as any.
    empty = hasattr(signals, "shape") and signals.shape == (size, 0)  # pyright: ignore[reportAttributeAccessIssue]
    columns = jnp.asarray(signals) if empty else real_array(signals, "signals", (2,), "(features, samples)")
    same_size(columns, 0, size, "signals", "the summary's features")
    return columns


def _check_alike(one: Any, other: Any) -> None:
    instance_of(other, "other", type(one), f"a {type(one).__name__}, to be merged with one")
    if other.size != one.size:
        raise ValueError(f"other: a summary of {other.size} features, to be merged with one of {one.size}.")


def _unit(largest: Array) -> Array:
    """What to divide by: the scale itself, frozen, or 1 where there is nothing to scale."""
    return jax.lax.stop_gradient(jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factor:
    """The triangular factor of a QR decomposition of `S^T`, updated batch by batch; the default.

    `S S^T = R^T R`, so that every quadratic objective of S is one of the n columns of `R^T`, without squaring the
    condition number.

    >>> S = jnp.asarray([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    >>> R = Factor.empty(2, S.dtype).update(S[:, :2]).update(S[:, 2:]).factor
    >>> (R.T @ R).round(4).tolist()
    [[5.0, 2.0], [2.0, 2.0]]
    """

    factor: Float[Array, "*batch n n"]
    count: Any  # an int32 scalar; of type float0 where this is a tangent
    exponent: ClassVar[int] = 1

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Factor":
        n = positive_integer(n, "n")
        return Factor(jnp.zeros((n, n), floating_type(dtype, half=True)), jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        return self.factor.shape[-1]

    @property
    def dtype(self) -> jnp.dtype:
        return self.factor.dtype

    def update(self, signals: Float[Array, "n m"]) -> "Factor":
        signals = _columns(signals, self.size)
        return Factor(triangularise(jnp.concatenate([self.factor, signals.T])), self.count + signals.shape[1])

    def merge(self, other: "Factor") -> "Factor":
        _check_alike(self, other)
        return Factor(triangularise(jnp.concatenate([self.factor, other.factor])), self.count + other.count)

    def power(self) -> Float[Array, ""]:
        return jnp.sum(self.factor**2)

    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        return jnp.sum(matmul(matrix, self.factor.T) ** 2)

    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        half = matmul(matrix, self.factor.T)
        return matmul(half, half.T)

    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        directions, singular, _ = decompositions.svd(self.factor.T)
        return directions, singular

    def scale(self) -> Float[Array, ""]:
        return _unit(jnp.max(jnp.abs(self.factor)))

    def normalised(self) -> "Factor":
        return Factor(self.factor / self.scale(), self.count)

    def finite(self) -> Array:
        return jnp.isfinite(self.factor).all()


@jax.custom_jvp
def triangularise(rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """R of a QR decomposition of k >= n rows.

    Only `R^T R` is ever used, so its derivative is taken in the gauge where Q stands still, `dR = Q^T d(rows)`: then
    `d(R^T R)` is right for any rank, where the derivative of the decomposition itself does not exist.

    >>> abs(triangularise(jnp.asarray([[3.0], [4.0]]))).round(4).tolist()
    [[5.0]]
    """
    return decompositions.triangle(rows)


@triangularise.defjvp
def _triangularise_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    return triangularise(rows), matmul(_orthonormal(rows).T, change)


@jax.custom_jvp
def _orthonormal(rows: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """Q of the decomposition, in the same gauge: `dQ = (1 - Q Q^T) d(rows) pinv(R)`, met in second derivatives only."""
    return decompositions.qr(rows)[0]


@_orthonormal.defjvp
def _orthonormal_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    Q = _orthonormal(rows)
    U, singular, Vh = decompositions.svd(jax.lax.stop_gradient(triangularise(rows)))
    resolved = decompositions.resolved(singular)
    inverse = jnp.where(resolved, 1 / jnp.where(resolved, singular, 1), 0)
    return Q, matmul(matmul(change - matmul(Q, matmul(Q.T, change)), Vh.T * inverse[None, :]), U.T)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Samples:
    """The signals themselves: for objectives that are not quadratic, and for small data. Grows with every update.

    >>> Samples.empty(2, jnp.float32).update(jnp.ones((2, 3))).signals.shape
    (2, 3)
    """

    signals: Float[Array, "*batch n m"]
    exponent: ClassVar[int] = 1

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Samples":
        return Samples(jnp.zeros((positive_integer(n, "n"), 0), floating_type(dtype, half=True)))

    @property
    def size(self) -> int:
        return self.signals.shape[-2]

    @property
    def dtype(self) -> jnp.dtype:
        return self.signals.dtype

    def update(self, signals: Float[Array, "n m"]) -> "Samples":
        return Samples(jnp.concatenate([self.signals, _columns(signals, self.size)], axis=1))

    def merge(self, other: "Samples") -> "Samples":
        _check_alike(self, other)
        return Samples(jnp.concatenate([self.signals, other.signals], axis=1))

    def thin(self, step: int) -> "Samples":
        """Every so many samples only."""
        return Samples(self.signals[:, ::step])

    def draw(self, key: PRNGKeyArray, size: int) -> "Samples":
        """So many samples, drawn with replacement: a minibatch."""
        return Samples(self.signals[:, jax.random.randint(key, (size,), 0, self.signals.shape[1])])

    def power(self) -> Float[Array, ""]:
        return jnp.sum(self.signals**2)

    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        return jnp.sum(matmul(matrix, self.signals) ** 2)

    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        half = matmul(matrix, self.signals)
        return matmul(half, half.T)

    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        n, m = self.signals.shape
        if m > n:  # a triangle has the same directions and singular values, and as many digits of them
            return Factor.empty(n, self.dtype).update(self.signals).principal()
        directions, singular, _ = decompositions.svd(self.signals, full_matrices=m < n)
        return directions, jnp.zeros(n, self.dtype).at[: min(n, m)].set(singular)

    def scale(self) -> Float[Array, ""]:
        return _unit(jnp.max(jnp.abs(self.signals), initial=0))

    def normalised(self) -> "Samples":
        return Samples(self.signals / self.scale())

    def finite(self) -> Array:
        return jnp.isfinite(self.signals).all()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gram:
    """The Gram matrix `S S^T`: the cheapest update, half the digits. On request, best in float64.

    >>> Gram.empty(2, jnp.float32).update(jnp.ones((2, 3), jnp.float32)).gram.tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """

    gram: Float[Array, "*batch n n"]
    count: Any  # an int32 scalar; of type float0 where this is a tangent
    exponent: ClassVar[int] = 2

    @staticmethod
    def empty(n: int, dtype: DTypeLike) -> "Gram":
        n = positive_integer(n, "n")
        return Gram(jnp.zeros((n, n), floating_type(dtype, half=True)), jnp.zeros((), jnp.int32))

    @property
    def size(self) -> int:
        return self.gram.shape[-1]

    @property
    def dtype(self) -> jnp.dtype:
        return self.gram.dtype

    def update(self, signals: Float[Array, "n m"]) -> "Gram":
        signals = _columns(signals, self.size)
        return Gram(self.gram + matmul(signals, signals.T), self.count + signals.shape[1])

    def merge(self, other: "Gram") -> "Gram":
        _check_alike(self, other)
        return Gram(self.gram + other.gram, self.count + other.count)

    def power(self) -> Float[Array, ""]:
        return jnp.trace(self.gram)

    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        return jnp.sum(matmul(matrix, self.gram) * matrix)

    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        return matmul(matmul(matrix, self.gram), matrix.T)

    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        squares, directions = decompositions.eigh(self.gram)
        return directions[:, ::-1], jnp.sqrt(jnp.maximum(squares[::-1], 0))

    def scale(self) -> Float[Array, ""]:
        return jnp.sqrt(_unit(jnp.max(jnp.abs(self.gram))))

    def normalised(self) -> "Gram":
        return Gram(self.gram / self.scale() / self.scale(), self.count)

    def finite(self) -> Array:
        return jnp.isfinite(self.gram).all()


SUMMARIES = {"factor": Factor, "gram": Gram, "samples": Samples}
