"""Who follows a long solve on the host: progress, a deadline, Ctrl-C."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxdescramble._base.checks import a_function, number_between, staged
from jaxdescramble._base.status import Status

Progress = Callable[[str, int, int], object]
"""`progress(stage, done, total)`: what is being done, and how much of it is done."""

OpenProgress = Callable[[str, int, int | None], object]
"""The same where `total` is None if nobody knows how long a stream is."""

POLL = 0.02
"""Longest pause, in seconds, between two looks at a computation that is under way."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a solve. `result` is the best result until then, of the type that the call returns.

    >>> Interrupted("descramble was interrupted", result=3).result
    3
    """

    def __init__(self, message: str, result: Any = None):
        super().__init__(message)
        self.result = result


class Watch:
    """Follows solves from outside: it stops them at a deadline or on Ctrl-C, and reports how far they are.

    Attributes:
        stopped: `Status.TIME_SPENT` or `Status.INTERRUPTED` once it has stopped them, else None.
    """

    def __init__(self, progress: Progress | None = None, max_seconds: float | int | None = None):
        self.progress = progress
        self.deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self.stopped: Status | None = None
        self._stages: list[str] = []

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; infinite where there is none."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()

    def over(self) -> bool:
        """Whether solves have to stop now."""
        if self.stopped is None and self.remaining <= 0:
            self.stopped = Status.TIME_SPENT
        return self.stopped is not None

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """`with` the name of a part of the work, for reports of progress."""
        self._stages.append(name)
        try:
            yield
        finally:
            self._stages.pop()

    def tell(self, news: str, done: int, total: int) -> None:
        """Report progress to whoever listens."""
        if self.progress is not None:
            self.progress(", ".join([*self._stages, news]), done, total)

    def wait(self, value: Any) -> bool:
        """Wait for a computation; return False on Ctrl-C, at once, although the computation may go on for a while."""
        try:
            began = time.monotonic()
            for leaf in jax.tree.leaves(value):
                while not leaf.is_ready():
                    # A sixteenth of the time so far: whoever looks seldom learns late.
                    time.sleep(min(max((time.monotonic() - began) / 16, 2e-5), POLL))
        except KeyboardInterrupt:
            self.stopped = Status.INTERRUPTED
            return False
        return True


def watched(progress: Any, max_seconds: Any, data: Any, what: str) -> Watch | None:
    """A watch for a call outside `jit`; None inside, where nobody can follow.

    Args:
        progress, max_seconds: as the user gave them.
        data: all that the call was given.
        what: the name of the function, for the message.

    Raises:
        TypeError, ValueError: no function, no positive number, or either of them inside a transformation of JAX.
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
