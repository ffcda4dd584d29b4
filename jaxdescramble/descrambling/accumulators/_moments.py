"""Moments and factors from the sums, in float64 on the host for every type of data."""

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxdescramble.descrambling.accumulators._compensated import Sums


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Sums over m columns: `S S^T = squares unit^2`, `S 1 = totals unit`. With weights w, weighted sums; m is sum w.

    >>> Moments(np.eye(2), np.ones(2), 2.0, 4).autocorrelation().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    squares: Float[np.ndarray, "n n"]
    totals: Float[np.ndarray, " n"]
    unit: float
    count: int | float

    @staticmethod
    def of(sums: Sums, count: int | float) -> "Moments":
        """Make the moments from the sums of one device."""
        gram, gram_low, total, total_low, unit, _ = (np.asarray(part[0], np.float64) for part in sums)
        squares = gram + gram_low
        return Moments((squares + squares.T) / 2, total + total_low, float(unit), count)

    def gram(self) -> Float[np.ndarray, "n n"]:
        """Return `S S^T`."""
        with np.errstate(over="ignore"):
            return self.squares * self.unit * self.unit

    def mean(self) -> Float[np.ndarray, " n"]:
        """Return `S 1 / m`."""
        return self.totals / self.count * self.unit

    def autocorrelation(self) -> Float[np.ndarray, "n n"]:
        """Return `S S^T / m`."""
        with np.errstate(over="ignore"):
            return self.squares / self.count * self.unit * self.unit

    def covariance(self) -> Float[np.ndarray, "n n"]:
        """Return `S S^T / m - mean mean^T`."""
        mean = self.totals / self.count
        with np.errstate(over="ignore"):
            return (self.squares / self.count - np.outer(mean, mean)) * self.unit * self.unit

    def root_mean_square(self) -> float:
        """Return the root mean square of all entries; 1 if all are zero."""
        return float((np.trace(self.squares) / len(self.squares) / self.count) ** 0.5 * self.unit) or 1.0

    def resolution(self, dtype: np.dtype) -> float:
        """Return the fraction of the largest singular value below which others are only rounding."""
        return self._resolution(np.linalg.eigvalsh(self.squares), dtype)

    def factor(self, dtype: np.dtype) -> Float[np.ndarray, "n n"]:
        """Return a triangular R with `R^T R = S S^T`, without eigenvalues that are only rounding."""
        values, vectors = np.linalg.eigh(self.squares)
        least = self._resolution(values, dtype) ** 2 * values[-1]
        roots = np.where(values > least, np.sqrt(np.maximum(values, 0)), 0) * self.unit
        return np.asarray(np.linalg.qr(roots[:, None] * vectors.T, mode="r"))

    @staticmethod
    def _resolution(values: Float[np.ndarray, " n"], dtype: np.dtype) -> float:
        if values[-1] <= 0:
            return 1.0
        # The second term is the rounding of the decomposition itself, which is in float64.
        noise = max(np.finfo(dtype).eps * values.sum(), len(values) * np.finfo(np.float64).eps * values[-1])
        return float((noise / values[-1]) ** 0.5)
