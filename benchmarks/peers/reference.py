"""The reference problem, numpy alone, and the stopwatch that every rival is held to."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

TARGETS = (1e-2, 1e-4, 1e-6)
STARTS = ("plain", "scrambled")
ENDLESS = {
    "max_time": 1e9,
    "max_iterations": 10**9,
    "min_gradient_norm": 0.0,
    "min_step_size": 0.0,
    "max_cost_evaluations": 10**9,
    "verbosity": 0,
}
"""Options of pymanopt's optimisers with which none stops by itself."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """`f(P) = tr(P^T A P B)` from P = 1, scaled so that f(1) = 1.

    Attributes:
        A: `D^T D`, D the periodic Fourier second derivative on n points.
        B: `S S^T`.
        best: the least value, the sum of ascending a times descending b.
    """

    n: int
    A: np.ndarray
    B: np.ndarray
    best: float

    def value(self, point: np.ndarray) -> float:
        """f(P)."""
        return float(np.vdot(point, self.A @ point @ self.B))

    def gap(self, value: float) -> float:
        """Return `(f - f*) / f*`."""
        return (value - self.best) / self.best


def fourier(n: int) -> np.ndarray:
    """Return `D^T D` of the periodic Fourier second derivative; a turn of n points has length 2 pi."""
    wave = np.fft.fftfreq(n, 1 / n)
    column = np.fft.ifft(wave**4).real
    index = np.arange(n)
    return column[np.abs(index[:, None] - index[None, :])]


def reference(n: int, start: str = "plain", seed: int = 0) -> Reference:
    """Return the problem of one size; "scrambled" turns the signals by a Haar matrix, so P = 1 is a random start."""
    index = np.arange(n)
    cover = np.exp(-np.abs(index[:, None] - index[None, :]) / (n / 8))
    signals = np.linalg.cholesky(cover) @ np.random.default_rng(seed).standard_normal((n, 4 * n))
    if start == "scrambled":
        Q, R = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((n, n)))
        signals = Q * np.sign(np.diagonal(R)) @ signals
    A, B = fourier(n), signals @ signals.T
    A = A / np.vdot(A, B)
    best = np.sort(np.linalg.eigvalsh(A)) @ np.sort(np.linalg.eigvalsh(B))[::-1]
    return Reference(n, A, B, float(best))


def nearest(table: dict[int, float], n: int) -> float:
    """Return the entry of the size nearest to n.

    >>> nearest({32: 1.0, 80: 2.0}, 512)
    2.0
    """
    return table[min(table, key=lambda size: abs(size - n))]


class Done(Exception):  # noqa: N818 - not an error: it is how a rival is stopped from inside its own callbacks
    """The last target is reached, or the time is up."""


class Stopwatch:
    """Told every value a rival finds, it says when each target was reached and stops the rival at the last one.

    Seconds run from `begin`, so a rival may compile before. Both clocks run: a solve on one core of a quiet machine has
    as many seconds of its own as of the wall; the share says how quiet it was.

    Attributes:
        clock: seconds, of the wall or of this process.
        reached: seconds and steps at which each target was reached.
        compile_s: what a rival reports of compiling, never part of a solve.
    """

    def __init__(self, problem: Reference, limit_s: float, targets: tuple[float, ...] = TARGETS, clock: str = "wall"):
        self.problem, self.limit_s, self.targets = problem, limit_s, targets
        self.clock = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
        self.compile_s = 0.0
        self.note_of_rival = ""
        self.share = 1.0
        self.begin()

    def begin(self) -> None:
        """Start, or start again."""
        self._started, self._cpu, self._wall = self.clock(), time.process_time(), time.perf_counter()
        self.reached: dict[float, tuple[float, int]] = {}
        self.steps, self.evaluations, self.lowest, self.point = 0, 0, np.inf, None

    def tick(self) -> None:
        """Count one evaluation of a function, a gradient or a Hessian product; raise `Done` after the time limit."""
        self.evaluations += 1
        if self.clock() - self._started > self.limit_s:
            raise Done

    def step(self, value: float, point: Any = None) -> None:
        """Count a step that was taken, or tried, and record its value."""
        now = self.clock() - self._started
        self.steps += 1
        if value < self.lowest:
            self.lowest, self.point = value, point
        gap = self.problem.gap(value)
        for target in self.targets:
            if gap <= target and target not in self.reached:
                self.reached[target] = (now, self.steps)
        if len(self.reached) == len(self.targets) or now > self.limit_s:
            raise Done

    def run(self, solve: Callable[[], Any]) -> None:
        """Run a solve until it raises `Done`, or until the rival gives up by itself."""
        self.begin()
        try:
            solve()
            if len(self.reached) < len(self.targets):
                self.note_of_rival = f"stopped by itself after {self.clock() - self._started:.1f} s"
        except Done:
            pass
        self.share = (time.process_time() - self._cpu) / (time.perf_counter() - self._wall)

    def warm(self, solve: Callable[[], Any]) -> None:
        """Run two short solves that do not count; the first takes longer than the second by the compile time."""
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            self.run(solve)
            seconds.append(time.perf_counter() - start)
        self.compile_s = max(seconds[0] - seconds[1], 0.0)
        self.note_of_rival = ""

    def record(self) -> dict[str, Any]:
        """Return the entries of the table, ready for JSON."""
        gap = projected = defect = None
        if np.isfinite(self.lowest):
            gap = self.problem.gap(self.lowest)
        if self.point is not None:
            point = np.asarray(self.point)
            defect = float(np.linalg.norm(point.T @ point - np.eye(len(point))))
            U, _, Vh = np.linalg.svd(point)
            projected = self.problem.gap(self.problem.value(U @ Vh))
        return {
            "seconds": {str(target): self.reached[target][0] for target in self.reached},
            "steps": {str(target): self.reached[target][1] for target in self.reached},
            "evaluations": self.evaluations,
            "gap": gap,
            "gap_projected": projected,
            "defect": defect,
            "compile_s": self.compile_s,
            "share": self.share,
            "note": self.note_of_rival,
        }
