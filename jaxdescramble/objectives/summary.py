"""The base class of summaries of signals."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import instance_of


class Summary(abc.ABC):
    """What an objective keeps of the signals S, shape (n, m).

    Each kind of summary is a subclass. It is a frozen dataclass and a pytree.
    """

    exponent: ClassVar[int] = 1
    """The power of the singular values that the summary keeps: 1, or 2 if it keeps only squares."""

    @staticmethod
    @abc.abstractmethod
    def empty(n: int, dtype: DTypeLike) -> "Summary":
        """Return an empty summary, of no samples."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of features n."""

    @property
    @abc.abstractmethod
    def dtype(self) -> np.dtype:
        """Dtype of the signals."""

    @abc.abstractmethod
    def update(
        self, signals: Inexact[Array, "n m"], weights: ArrayLike | Sequence[ArrayLike] | None = None
    ) -> "Summary":
        """Return a summary that includes further samples.

        Args:
            signals: the further signals, shape (features, samples).
            weights: how much each of these samples counts, shape (samples,), at least 0; None means 1 each.
        """

    @abc.abstractmethod
    def merge(self, other: "Summary") -> "Summary":
        """Return the summary of both data sets."""

    @abc.abstractmethod
    def power(self) -> Float[Array, ""]:
        """Return `||S||_F^2`."""

    @abc.abstractmethod
    def energy(self, matrix: Inexact[Array, "k n"]) -> Float[Array, ""]:
        """Return `||M S||_F^2`."""

    @abc.abstractmethod
    def moment(self, matrix: Inexact[Array, "k n"]) -> Inexact[Array, "k k"]:
        """Return `M S S^H M^H`."""

    @abc.abstractmethod
    def principal(self) -> tuple[Inexact[Array, "n n"], Float[Array, " n"]]:
        """Return the left singular vectors of S and its singular values, n of each, largest values first.

        The vectors are the columns of an orthogonal matrix, or of a unitary one for complex signals.
        """

    def spanning(self) -> Inexact[Array, "n c"]:
        """Return a matrix with the left singular vectors of S; its singular values are those of S to `exponent`.

        `descramble(..., rank=k)` needs this method.
        """
        raise TypeError(f"{type(self).__name__}: rank= needs a summary with methods spanning() and compressed(matrix).")

    def compressed(self, matrix: Inexact[Array, "k n"]) -> "Summary":
        """Return the summary of the signals `M S`. `descramble(..., rank=k)` needs this method."""
        raise TypeError(f"{type(self).__name__}: rank= needs a summary with methods spanning() and compressed(matrix).")

    @abc.abstractmethod
    def scale(self) -> Float[Array, ""]:
        """Return the size of the entries of S, or 1 if they are all zero. It is a constant in derivatives."""

    @abc.abstractmethod
    def normalised(self) -> "Summary":
        """Return the summary of the signals divided by `scale()`, so that later squares cannot overflow or vanish."""

    @abc.abstractmethod
    def finite(self) -> Array:
        """Return whether every number in the summary is finite."""


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


def on_rows(point: Inexact[Array, "k n"], summary: Summary) -> tuple[Inexact[Array, "k p"], Any]:
    """Return a square point and a summary: those given, or the point 1 and the summary of `P S` if P is not square.

    >>> from jaxdescramble.objectives import Samples
    >>> square, small = on_rows(jnp.eye(2, 3), Samples(jnp.ones((3, 5))))
    >>> square.shape, small.size
    ((2, 2), 2)
    """
    if point.shape[-2] == point.shape[-1]:
        return point, summary
    if type(summary).compressed is Summary.compressed:
        raise TypeError(
            f"point: shape {point.shape} is not square; for such points, {type(summary).__name__} needs a method "
            "compressed(matrix)."
        )
    return jnp.eye(point.shape[-2], dtype=point.dtype), summary.compressed(point)
