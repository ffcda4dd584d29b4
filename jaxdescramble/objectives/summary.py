"""What every summary of signals can do."""

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import instance_of


class Summary(abc.ABC):
    """What is kept of signals S of shape (n, m). A kind of summary is a subclass, a frozen dataclass and a pytree."""

    exponent: ClassVar[int] = 1
    """Singular values are resolved in this power: 1, or 2 where only squares are kept."""

    @staticmethod
    @abc.abstractmethod
    def empty(n: int, dtype: DTypeLike) -> "Summary":
        """Return the summary of no samples."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of features n."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """Type of the signals."""

    @abc.abstractmethod
    def update(self, signals: Float[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None) -> "Summary":
        """Return the summary with more samples; `weights`, shape (m,), say how much each of these counts."""

    @abc.abstractmethod
    def merge(self, other: "Summary") -> "Summary":
        """Return the summary of both data sets."""

    @abc.abstractmethod
    def power(self) -> Float[Array, ""]:
        """Return `||S||_F^2`."""

    @abc.abstractmethod
    def energy(self, matrix: Float[Array, "k n"]) -> Float[Array, ""]:
        """Return `||M S||_F^2`."""

    @abc.abstractmethod
    def moment(self, matrix: Float[Array, "k n"]) -> Float[Array, "k k"]:
        """Return `M S S^T M^T`."""

    @abc.abstractmethod
    def principal(self) -> tuple[Float[Array, "n n"], Float[Array, " n"]]:
        """Return the left singular vectors of S in columns (completed to n) and the singular values, descending."""

    @abc.abstractmethod
    def scale(self) -> Float[Array, ""]:
        """Return the size of the signals' entries, 1 if there are none; a constant in derivatives."""

    @abc.abstractmethod
    def normalised(self) -> "Summary":
        """Return the summary of the signals divided by `scale()`: no later square can overflow or vanish."""

    @abc.abstractmethod
    def finite(self) -> Array:
        """Return whether every number is finite."""


def a_summary(value: object, name: str = "summary") -> None:
    """Raise `TypeError` unless `value` is a summary of signals.

    >>> from jaxdescramble.objectives import Samples
    >>> a_summary(Samples(jnp.ones((2, 3))))
    """
    instance_of(value, name, Summary, "a summary of signals, objective.summarise(signals)")


def size_of(summary: Summary) -> int:
    """Return the number of features of a summary; raise `TypeError` if it is not a summary."""
    a_summary(summary)
    return summary.size
