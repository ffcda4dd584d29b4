"""Follow a long solve from the host: report progress, keep a deadline, react to Ctrl-C."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jaxtyping import PyTree

from jaxdescramble._base.checks import a_function, number_between, staged
from jaxdescramble._base.status import Status

Progress = Callable[[str, int, int], object]
"""`progress(stage, done, total)`: the part of the work in progress, and how much of it is done."""

OpenProgress = Callable[[str, int, int | None], object]
"""The same, except that `total` is None if the length of a stream is unknown."""

POLL = 0.02
"""Longest pause, in seconds, between two checks of a running computation."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a solve. `result` is the best result so far; it has the type that the call returns.

    >>> Interrupted("descramble was interrupted", result=3).result
    3
    """

    def __init__(self, message: str, result: Any = None):
        super().__init__(message)
        self.result = result


class Watch:
    """Watch solves from outside: stop them at a deadline or on Ctrl-C, and report their progress.

    Attributes:
        stopped: `Status.TIME_SPENT` or `Status.INTERRUPTED` after the watch has stopped the solves; otherwise None.
        answered: whether a solve has a first result, which an interruption must not lose.
    """

    def __init__(self, progress: Progress | None = None, max_seconds: float | int | None = None):
        self.progress = progress
        self.deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.stopped: Status | None = None
        self.answered = False
        self._stages: list[str] = []
        self._lasted = 0.0

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; infinite without a deadline."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def over(self) -> bool:
        """Return whether the solves must stop now."""
        if self.stopped is None and self.remaining <= 0:
            self.stopped = Status.TIME_SPENT
        return self.stopped is not None

    def short_of(self, reserve: float) -> bool:
        """Return whether less time is left than the last `timed` part took, times `reserve`; also if time is over."""
        return self.over() or self.remaining < reserve * self._lasted

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measure how long the `with` block takes, for `short_of`."""
        began = time.monotonic()
        yield
        self._lasted = time.monotonic() - began

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name a part of the work in the reports of progress, for the length of a `with` block."""
        self._stages.append(name)
        try:
            yield
        finally:
            self._stages.pop()

    def tell(self, news: str, done: int, total: int) -> None:
        """Report progress, if the user gave a function `progress`."""
        if self.progress is not None:
            self.progress(", ".join([*self._stages, news]), done, total)

    def wait(self, value: PyTree) -> bool:
        """Wait for a computation and return True; return False at once on Ctrl-C, even if it is still running."""
        try:
            began = time.monotonic()
            for leaf in jax.tree.leaves(value):
                while not leaf.is_ready():
                    # Wait a sixteenth of the time so far: few checks, and little delay after the end.
                    time.sleep(min(max((time.monotonic() - began) / 16, 2e-5), POLL))
        except KeyboardInterrupt:
            self.stopped = Status.INTERRUPTED
            return False
        return True


def watched(progress: Progress | None, max_seconds: float | int | None, data: PyTree, what: str) -> Watch | None:
    """Return a watch for a call outside `jit`; inside `jit`, where nobody can follow a solve, return None.

    Args:
        progress, max_seconds: the arguments of the user.
        data: all other arguments of the call; traced values mean that the call is inside `jit`.
        what: name of the function, for the message.

    Raises:
        TypeError, ValueError: if `progress` is not a function, if `max_seconds` is not a positive number, or if one of
            them is given inside a transformation of JAX.
    """
    if progress is not None:
        a_function(progress, "progress", "(stage, done, total)")
    if max_seconds is not None:
        max_seconds = float(number_between(max_seconds, "max_seconds", 0, float("inf"), "a positive number of seconds"))
    if not staged(data):
        return Watch(progress, max_seconds)
    if progress is not None or max_seconds is not None:
        name = "progress" if progress is not None else "max_seconds"
        raise TypeError(
            f"{name}: {what} runs inside jit, vmap or grad here, as one compiled program that nobody can follow. Call "
            f"{what} outside, or leave {name} out."
        )
    return None
