"""The work of a sweep: give chunks to devices, solve and keep them; drop unfinished chunks on an interruption."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import wide_types
from jaxdescramble._base.lapack import one_thread
from jaxdescramble._base.status import Status
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps import _program as program
from jaxdescramble.sweeps._chunks import Device
from jaxdescramble.sweeps._plan import Chunk, Plan
from jaxdescramble.sweeps._sizes import Begun
from jaxdescramble.sweeps.folder import Log
from jaxdescramble.sweeps.problems import Problem

GRACE = 1.0
"""Seconds that threads get to end after an interruption. A compilation may take longer."""


class Work:
    """The workers of a sweep: two threads per device take chunks until none are left or an error occurs."""

    def __init__(
        self,
        problems: Sequence[Problem],
        key: PRNGKeyArray | None,
        plan: Plan,
        folder: Path,
        log: Log,
        progress: Progress,
        points: bool,
        begun: Sequence[Begun] = (),
    ):
        self._problems, self._key, self._plan, self._folder = problems, key, plan, folder
        self._log, self._progress, self._points = log, progress, points
        self._lock, self._stop, self._errors = threading.Lock(), threading.Event(), []
        self._begun = {one.place: one for one in begun}
        self._done = 0

    def all(self, todo: list[Chunk], devices: list[Device]) -> None:
        """Solve these chunks and keep their results.

        Raises:
            KeyboardInterrupt: within about a second of Ctrl-C. Unfinished chunks are dropped, finished ones are kept.
        """
        total = sum(len(chunk.places) for chunk in todo)
        self._progress("solving", 0, total)
        with one_thread():
            self._share_out(todo, devices, total)
        if self._errors:
            error = self._errors[0]
            self._log("failed", why=f"{type(error).__name__}: {error}", problems_done=self._done)
            error.add_note(f"{self._done} of {total} problems were solved and are kept in {self._folder}.")
            raise error

    def _share_out(self, todo: list[Chunk], devices: list[Device], total: int) -> None:
        queue = iter(todo)
        threads = []
        for device in devices[: len(todo)]:
            words = (device, threading.Lock(), queue, wide_types())
            # Two threads per device: while the device solves one chunk, the other thread reads the next signals.
            # They are no daemons: a thread in a compilation must end before the interpreter does.
            threads += [threading.Thread(target=self._serve, args=words) for _ in range(2)]
        for thread in threads:
            thread.start()
        shown = 0
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.05)
                    if self._done != shown:
                        shown = self._done
                        self._progress("solving", shown, total)
        except BaseException as error:
            self._stop.set()
            end = time.monotonic() + GRACE
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
            self._log("stopped", problems_done=self._done, problems_left=total - self._done)
            error.add_note(f"{self._done} of {total} problems were solved and are kept in {self._folder}.")
            raise
        if self._done != shown:
            self._progress("solving", self._done, total)

    def _serve(self, device: Device, turn: threading.Lock, queue: Iterator[Chunk], wide: bool) -> None:
        # Threads do not inherit this context from the caller.
        with jax.enable_x64(wide):
            self._take(device, turn, queue)

    def _take(self, device: Device, turn: threading.Lock, queue: Iterator[Chunk]) -> None:
        while not self._stop.is_set():
            with self._lock:
                chunk = next(queue, None)
            if chunk is None:
                return
            try:
                operands, digests = program.arguments(chunk, self._problems, self._key)
                with turn:
                    if not self._stop.is_set():
                        self._solve(chunk, operands, digests, device)
            except BaseException as error:
                self._errors.append(error)
                self._stop.set()
                return

    def _solve(self, chunk: Chunk, operands: program.Arguments, digests: dict[int, str], device: Device) -> None:
        began = time.perf_counter()
        with self._lock:
            self._log("solve", chunk=chunk.number, device=str(device))
        begun = self._begun.pop(chunk.places[0], None) if chunk.kind.size == 1 else None
        if begun is not None and begun.device == device and begun.digests == digests:
            found, compiled = begun.found, began
        else:
            placed = jax.device_put(operands, device)
            program.compiled(chunk.kind, placed)
            compiled = time.perf_counter()
            if self._stop.is_set():
                return
            found = program.run(*placed, **program.static(chunk.kind))
        if not program.finished(found, self._stop):
            return
        found, solved = jax.device_get(found), time.perf_counter()
        arrays = {name: np.asarray(values)[: len(chunk.places)] for name, values in found.items()}
        if not self._points:
            del arrays["point"]
        path = chunks.location(self._folder, chunk.number)
        chunks.write(path, arrays, self._plan.digests[chunk.number], digests, device)
        ended = {
            Status(code).name: int(times)
            for code, times in zip(*np.unique(arrays["status"], return_counts=True), strict=True)
        }
        with self._lock:
            self._done += len(chunk.places)
            self._log(
                "chunk",
                chunk=chunk.number,
                problems=list(chunk.places),
                status=ended,
                device=str(device),
                compiling=round(compiled - began, 4),
                seconds=round(solved - compiled, 4),
                writing=round(time.perf_counter() - solved, 4),
            )
