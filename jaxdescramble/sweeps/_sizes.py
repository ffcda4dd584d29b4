"""The number of problems in a chunk for iterative solvers: measured once for a folder, and kept in it.

A closed form of one shape always costs the same, so its chunk size follows from the shape (`plan.default_size`). Nobody
knows in advance how long an iterative solver takes. The first process that opens a folder solves up to three problems
of each kind, one at a time, and uses the longest time. It writes the sizes to `sizes.json` before the sweep solves
anything. Later processes (a resumed run, another shard, a faster machine) read this file. So the plan, and every bit of
the results, stays the same.
"""

import dataclasses
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble._base.checks import wide_types
from jaxdescramble._base.lapack import one_thread
from jaxdescramble.exact import ClosedForm
from jaxdescramble.solvers import Minibatches, Optax
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.sweeps import _program as program
from jaxdescramble.sweeps._chunks import Device
from jaxdescramble.sweeps._plan import WORK, Chunk, Draft, Kind, evened, most_in_memory
from jaxdescramble.sweeps.problems import Problem

FORMAT, FILE = 1, "sizes.json"
SECONDS, STEPS = 2.0, 300


@dataclasses.dataclass(frozen=True)
class Begun:
    """A problem that was still being solved when its measurement ended. Its chunk uses the result.

    Attributes:
        place: place of the problem, which is the only one of its chunk.
        device: device that solves the problem.
        digests: digest of its signals, by place.
        found: arrays that will hold the result.
    """

    place: int
    device: Device
    digests: dict[int, str]
    found: dict[str, Array]


def unknown(draft: Draft, problems: Sequence[Problem]) -> list[int]:
    """Return the numbers of the kinds whose chunk size must be measured.

    These are the kinds with a solver other than the closed form. Kinds are left out if 300 steps of all their problems
    together take less than two seconds.
    """
    return [
        number
        for number, (kind, places) in enumerate(zip(draft.kinds, draft.places, strict=True))
        if len(places) > 1 and _may_be_long(kind, [problems[place] for place in places])
    ]


def _may_be_long(kind: Kind, problems: Sequence[Problem]) -> bool:
    if kind.group != "permutation" and all(isinstance(one.solver, ClosedForm) for one in problems):
        return False
    steps = STEPS
    if kind.group != "permutation":
        solvers = {id(one.solver): one.solver for one in problems}.values()
        limits = [getattr(solver, "max_steps", None) for solver in solvers]
        if None in limits:
            return True
        # First-order solvers always take all their steps; other solvers stop where the gradient vanishes.
        every = any(isinstance(solver, Optax | Minibatches) for solver in solvers)
        most = max(int(np.asarray(limit)) for limit in limits)
        steps = most if every else min(most, STEPS)
    n, m = kind.rank or kind.shape[0], kind.shape[1]
    return len(problems) * (1 + kind.restarts) * steps * (30 * n**2 * m + 50 * n**3 + 10**6) > WORK


def specification(draft: Draft) -> str:
    """Return what `sizes.json` belongs to: all parts of a sweep except its chunks."""
    return json.dumps(sorted(draft.parts.items()))


def recorded(folder: Path, draft: Draft) -> list[int] | None:
    """Return the sizes that a folder holds for this sweep, from `sizes.json` or `sweep.json`, or None."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((folder / FILE).read_text())
        if found["format"] == FORMAT and found["specification"] == specification(draft):
            return _sound(found["sizes"], draft)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads((folder / "sweep.json").read_text())
        if {name: one for name, one in found["parts"].items() if name != "chunks"} == draft.parts:
            return _sound([kind["chunk"] for kind in found["kinds"]], draft)
    return None


def _sound(sizes: object, draft: Draft) -> list[int]:
    if not isinstance(sizes, list) or len(sizes) != len(draft.kinds) or not all(map(_positive, sizes)):
        raise ValueError("sizes: must be one positive integer for each kind")
    return sizes


def _positive(size: object) -> bool:
    return isinstance(size, int) and size > 0


def record(folder: Path, draft: Draft, sizes: list[int], seconds: dict[int, float]) -> list[int]:
    """Write the sizes to the folder, unless another process was faster; return the sizes that are valid.

    Raises:
        OSError: if the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": FORMAT,
        "specification": specification(draft),
        "sizes": sizes,
        "seconds": [seconds.get(number) for number in range(len(sizes))],
    }
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{FILE}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(content, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        try:
            # A link fails if the file exists, a rename does not. So only one of several processes can be first.
            os.link(temporary, folder / FILE)
        except FileExistsError:
            found = recorded(folder, draft)
            if found is not None:
                return found
            os.replace(temporary, folder / FILE)  # the file is from another sweep, which never began
        except OSError:  # the file system has no links
            if recorded(folder, draft) is None:
                os.replace(temporary, folder / FILE)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return recorded(folder, draft) or sizes


def measured(
    draft: Draft,
    kinds: Sequence[int],
    problems: Sequence[Problem],
    key: PRNGKeyArray | None,
    device: Device,
    progress: Progress,
) -> tuple[list[int], dict[int, float], list[Begun]]:
    """Solve a few problems of these kinds one at a time, for about two seconds per kind, and choose chunk sizes.

    Args:
        draft: the sweep.
        kinds: numbers of the kinds to measure.
        problems: problems of the sweep.
        key: random key of the sweep; None without random draws.
        device: device to solve on.
        progress: called as `progress("measuring", done, total)`.

    Returns:
        A size for each kind of the draft; the measured seconds by kind; problems that are still being solved.

    Raises:
        KeyboardInterrupt: at once, on Ctrl-C. Compilations and solves that have begun continue in the background.
        OSError, ValueError: if signals cannot be read.
    """
    stop, wide = threading.Event(), wide_types()
    seconds, begun, errors = {}, [], []
    progress("measuring", 0, len(kinds))

    def work() -> None:
        try:
            # Threads do not inherit this context from the caller.
            with jax.enable_x64(wide), one_thread():
                for number in kinds:
                    seconds[number] = _seconds(draft, number, problems, key, device, stop, begun)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    shown = 0
    try:
        while thread.is_alive():
            thread.join(0.05)
            if len(seconds) != shown:
                shown = len(seconds)
                progress("measuring", shown, len(kinds))
    except BaseException:
        stop.set()
        raise
    if errors:
        raise errors[0]
    if len(seconds) != shown:
        progress("measuring", len(seconds), len(kinds))
    sizes = [kind.size for kind in draft.kinds]
    for number, spent in seconds.items():
        kind = draft.kinds[number]
        most = most_in_memory(kind.shape[0], kind.shape[1], np.dtype(kind.dtype).itemsize, kind.rank)
        sizes[number] = evened(int(max(1, min(SECONDS // max(spent, 1e-9), most))), kind.count)
    return sizes, seconds, begun


def _seconds(
    draft: Draft,
    number: int,
    problems: Sequence[Problem],
    key: PRNGKeyArray | None,
    device: Device,
    stop: threading.Event,
    begun: list[Begun],
) -> float:
    """Return the longest time of the first, the middle and the last problem of a kind; stop after two seconds."""
    kind, places = dataclasses.replace(draft.kinds[number], size=1), draft.places[number]
    longest = total = 0.0
    for place in dict.fromkeys((places[0], places[len(places) // 2], places[-1])):
        operands, digests = program.arguments(Chunk(0, kind, (place,)), problems, key)
        placed = jax.device_put(operands, device)
        program.compiled(kind, placed)
        if stop.is_set():
            break
        began = time.perf_counter()
        found = program.run(*placed, **program.static(kind))
        if not program.finished(found, stop, SECONDS):
            begun.append(Begun(place, device, digests, found))
            return SECONDS + 1
        longest = max(longest, time.perf_counter() - began)
        total += longest
        if total > SECONDS:
            break
    return longest
