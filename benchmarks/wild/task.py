"""One case as every rival sees it: jitted derivatives of one function, equal starts, and a clock with a trace."""

import time
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.peers.reference import Done  # noqa: E402
from benchmarks.wild.cases import OBJECTIVES, Case, signals_of  # noqa: E402
from jaxdescramble.descrambling._iterate import first_guess  # noqa: E402
from jaxdescramble.manifolds import orthogonal  # noqa: E402


class Task:
    """A function on O(n), its derivatives, and two starts.

    Attributes:
        starts: the start that `jd.descramble` computes, and a Haar-random one.
    """

    def __init__(self, case: Case, data: Path, limit_s: float):
        signals = jnp.asarray(signals_of(case, data))
        self.objective = OBJECTIVES[case.objective](len(signals))
        self.signals, self.n, self.limit_s = signals, len(signals), limit_s
        summary = self.objective.summarise(signals)
        self.summary = summary

        def value(point: Any) -> Any:
            return self.objective(point, summary)

        slope = jax.grad(value)
        both = jax.jit(jax.value_and_grad(value))
        product = jax.jit(lambda point, along: jax.jvp(slope, (point,), (along,))[1])
        first = jax.jit(lambda: first_guess(self.objective, summary, "O"))()
        self.starts = [np.asarray(first), np.asarray(orthogonal.random(jax.random.key(1), self.n, "O", jnp.float64))]
        self.both, self.product = both, product
        jax.block_until_ready((both(first), product(first, first)))
        self.begin()

    def begin(self) -> None:
        """Start the clock."""
        self._started, self.lowest = time.perf_counter(), np.inf
        self.trace: list[tuple[float, float]] = []

    def value_and_gradient(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return f and its gradient in the space of all matrices; record f."""
        value, slope = self.both(point)
        self.tell(float(value))
        return float(value), np.asarray(slope)

    def hessian(self, point: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Return the derivative of the gradient along a direction."""
        self.check()
        return np.asarray(self.product(point, along))

    def tell(self, value: float) -> None:
        """Record the value of a point that was tried."""
        now = time.perf_counter() - self._started
        if value < self.lowest:
            if not self.trace or (value < self.trace[-1][1] - 2e-5 * abs(value) and now > 1.01 * self.trace[-1][0]):
                self.trace.append((now, value))
            self.lowest = value
        self.check()

    def check(self) -> None:
        """Stop the rival if the time is up."""
        if time.perf_counter() - self._started > self.limit_s:
            raise Done

    def ended(self) -> list[tuple[float, float]]:
        """Return the trace: seconds, and the lowest value so far."""
        last = [(time.perf_counter() - self._started, self.lowest)] if np.isfinite(self.lowest) else []
        return self.trace + last
