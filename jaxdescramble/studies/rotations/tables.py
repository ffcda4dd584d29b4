"""The table of the study: held-out numbers of every method, with 95% intervals over seeds, beside random Hadamard."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from jaxdescramble._base.results import Stored

BASELINE = "Hadamard"


class Interval(NamedTuple):
    """A mean with its 95% interval (Student's t over seeds); the interval is NaN for a single seed."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def interval(values: Float[np.ndarray, " seeds"]) -> Interval:
    """Return the mean of independent values and its 95% interval.

    >>> print(interval(np.asarray([1.0, 2.0, 3.0])))
    2 (-0.4841 to 4.484)
    """
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan)
    mean, count = float(known.mean()), len(known)
    half = float(stats.t.ppf(0.975, count - 1) * known.std(ddof=1) / count**0.5) if count > 1 else np.nan
    return Interval(mean, mean - half, mean + half)


def ratio(over: Float[np.ndarray, " pairs"], under: Float[np.ndarray, " pairs"]) -> Interval:
    """Return the geometric mean of the ratios of pairs, and its 95% interval.

    >>> print(ratio(np.asarray([2.0, 8.0]), np.asarray([1.0, 2.0])))
    2.828 (0.0346 to 231.2)
    """
    return Interval(*np.exp(interval(np.log(over / under))).tolist())


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        bits: such as "W4A4".
        method: name of the method.
        value: what rounding costs on held-out data.
        beside: the same minus that of random Hadamard, of each seed.
    """

    bits: str
    method: str
    value: Interval
    beside: Interval


@dataclasses.dataclass(frozen=True, repr=False)
class Rotations(Stored):
    """What rounding to few bits costs in each frame, on held-out data.

    Attributes:
        network: the network, in words.
        measure: what `cost` is, in words; small is good.
        bits: settings of the rounding, such as "W4A4".
        methods: names of the methods; one of them is "Hadamard".
        cost: costs (seeds, bits, methods); NaN where a method was not run.
        unrounded: the network without rounding, (seeds,), in the unit of its own measure.
        kurtosis: of the held-out activations that the rotations act on, (seeds, bits, methods); 3 is normal.
        seconds: time to find the frame, (seeds, bits, methods).
        changed: largest change of the exact network's result by the frame, relative to the largest entry, (seeds,).
        off: largest entry of `P P^T - 1` of all frames, (seeds,).
        timed: seconds of a few steps of SpinQuant's rule and of ours, measured in turn, (pairs, 2); may be empty.
    """

    network: str
    measure: str
    bits: tuple[str, ...]
    methods: tuple[str, ...]
    cost: np.ndarray
    unrounded: np.ndarray
    kurtosis: np.ndarray
    seconds: np.ndarray
    changed: np.ndarray
    off: np.ndarray
    timed: np.ndarray

    def check(self) -> "Rotations":
        """Return self, if all frames are orthogonal, none changed the exact network, and costs are finite.

        Raises:
            FloatingPointError: with every kind of failure.
        """
        wrong = []
        if not np.isfinite(self.cost[~np.isnan(self.cost)]).all() or not np.isfinite(self.unrounded).all():
            wrong.append("costs that are not finite")
        if np.isnan(self.cost[:, :, self.methods.index(BASELINE)]).any():
            wrong.append(f"no costs of {BASELINE}")
        if not (self.off < 1e-3).all():
            wrong.append(f"frames that are not orthogonal, by up to {self.off.max():.1e}")
        if not (self.changed < 1e-3).all():
            wrong.append(f"frames that change the exact network, by up to {self.changed.max():.1e}")
        if wrong:
            raise FloatingPointError(f"rotations: {'; '.join(wrong)}.")
        return self

    def rows(self) -> Iterator[Row]:
        """Yield the lines of the table."""
        base = self.methods.index(BASELINE)
        for b, bits in enumerate(self.bits):
            for m, method in enumerate(self.methods):
                own = self.cost[:, b, m]
                if not np.isnan(own).all():
                    yield Row(bits, method, interval(own), interval(own - self.cost[:, b, base]))

    def paired(self, over: str, under: str) -> Iterator[tuple[str, Interval, Interval, Interval]]:
        """Compare two methods of the same seeds.

        Yields:
            Bits, difference of costs, ratio of costs, ratio of seconds; each with its interval.
        """
        first, second = self.methods.index(over), self.methods.index(under)
        for b, bits in enumerate(self.bits):
            (a, c), (s, t) = (one[:, b, [first, second]].T for one in (self.cost, self.seconds))
            if not np.isnan(a - c).all():
                costs = ratio(a, c) if (a > 0).all() and (c > 0).all() else Interval(np.nan, np.nan, np.nan)
                yield bits, interval(a - c), costs, ratio(s, t)

    def verdicts(self) -> Iterator[str]:
        """Say of each method, except the random ones, whether it beats random Hadamard: its interval decides."""
        for row in self.rows():
            if row.method in (BASELINE, "Haar", "none"):
                continue
            low, high = row.beside.low, row.beside.high
            word = "better than" if high < 0 else "worse than" if low > 0 else "not told apart from"
            yield f"{row.bits}, {row.method}: {word} {BASELINE} ({row.beside})"

    def markdown(self) -> str:
        """Return the table."""
        lines = [
            f"| bits | method | {self.measure} | minus {BASELINE} | kurtosis | seconds |",
            "|---|---|---|---|---|---|",
        ]
        for row in self.rows():
            b, m = self.bits.index(row.bits), self.methods.index(row.method)
            kurtosis, seconds = (f"{np.nanmean(one[:, b, m]):.3g}" for one in (self.kurtosis, self.seconds))
            beside = "" if row.method == BASELINE else str(row.beside)
            lines.append(f"| {row.bits} | {row.method} | {row.value} | {beside} | {kurtosis} | {seconds} |")
        return "\n".join(lines)
