"""Threads that read layers side by side, while the main thread watches."""

import concurrent.futures
import functools
import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

import jax

from jaxdescramble._base.checks import wide_types
from jaxdescramble._base.lapack import one_thread
from jaxdescramble._base.status import Status
from jaxdescramble.solvers.watch import POLL, Watch

T = TypeVar("T")

MOST = 8
"""Largest number of threads; each keeps a stack of weights, or the signals of a layer while they are prepared."""


def sharing(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the places that have the same key together, in the order of their first place.

    >>> sharing(["a", "b", "a"])
    [[0, 2], [1]]
    """
    found: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())


class StoppedError(Exception):
    """The time is spent, or somebody pressed Ctrl-C; work that is not complete is dropped."""


def threads() -> int:
    """Return how many layers are read at a time: one LAPACK on one core each, or all of them on an accelerator."""
    if jax.default_backend() != "cpu":
        return 1
    return min(MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Workers:
    """A pool of threads for the length of a `with` block. On Ctrl-C it does not wait for work that runs."""

    def __init__(self, watch: Watch):
        self.watch = watch
        self._pool = concurrent.futures.ThreadPoolExecutor(threads(), "explain")

    def __enter__(self) -> "Workers":
        self._lapack = one_thread()
        self._lapack.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._lapack.__exit__(None, None, None)

    def why(self, stopped: StoppedError | KeyboardInterrupt) -> str:
        """Return why work was stopped, in words; the watch learns of a Ctrl-C."""
        if isinstance(stopped, KeyboardInterrupt):
            self.watch.stopped = Status.INTERRUPTED
        return "interrupted" if self.watch.stopped == Status.INTERRUPTED else "stopped by max_seconds"

    def run(self, tasks: Sequence[Callable[[], T]], to_the_end: bool = False) -> Iterator[T]:
        """Yield the result of each task, in order.

        Args:
            tasks: functions without arguments.
            to_the_end: whether to go on when the watch has stopped.

        Raises:
            StoppedError: when the watch stops; a task may raise it too.
            KeyboardInterrupt: on Ctrl-C.
        """
        # Contexts of the caller, such as enable_x64, do not reach other threads; set them again.
        wide, device = wide_types(), jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

        def within(task: Callable[[], T]) -> T:
            with jax.enable_x64(wide), jax.default_device(device):
                return task()

        for one in [self._pool.submit(within, task) for task in tasks]:
            began = time.monotonic()
            while not one.done():
                if self.watch.over() and not to_the_end:
                    raise StoppedError
                concurrent.futures.wait([one], timeout=min(max((time.monotonic() - began) / 16, 1e-4), POLL))
            yield one.result()

    def run_together(
        self,
        groups: Sequence[list[int]],
        task: Callable[[list[int]], Sequence[T]],
        sizes: Sequence[int],
        told: Callable[[int], None] = lambda done: None,
        to_the_end: bool = False,
    ) -> list[T]:
        """Return what `task` finds for each place, in the order of the places.

        Args:
            groups: places that one task works on; together they hold each place once.
            task: function of a group that returns a result for each of its places.
            sizes: a measure of the work of each group. The longest work begins first, so that no thread waits at the
                end.
            told: called with the number of places that are done.
            to_the_end: whether to go on when the watch has stopped.

        Raises:
            StoppedError, KeyboardInterrupt: as `run`.
        """
        order = sorted(range(len(groups)), key=lambda k: -sizes[k])
        found: dict[int, T] = {}
        tasks = [functools.partial(task, groups[k]) for k in order]
        for k, results in zip(order, self.run(tasks, to_the_end), strict=True):
            found |= zip(groups[k], results, strict=True)
            told(len(found))
        return [found[place] for place in range(len(found))]
