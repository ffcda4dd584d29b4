"""Many problems over many devices and hosts, results on the disk chunk by chunk."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import positive_integer, random_key, true_or_false
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps import _program as program
from jaxdescramble.sweeps import _sizes as sizes
from jaxdescramble.sweeps._plan import Chunk, Draft, Plan, drafted
from jaxdescramble.sweeps._work import Work
from jaxdescramble.sweeps.folder import Log, at_work, open_sweep, refuse, specification
from jaxdescramble.sweeps.problems import Problem, signals_digest
from jaxdescramble.sweeps.table import Table, gathered, save_everywhere


def sweep(
    problems: Iterable[Problem],
    out: str | os.PathLike[str],
    mesh: Mesh | None = None,
    resume: bool = True,
    progress: Progress | None = None,
    *,
    key: PRNGKeyArray | None = None,
    chunk_size: int | None = None,
    shard: tuple[int, int] | None = None,
    points: bool = True,
) -> Table:
    """Solve many descrambling problems on all devices there are, and lose nothing.

    Problems of one kind (shapes, group, objective and solver but for their numbers) are solved in chunks by one
    compiled program, one chunk to a device at a time. Every finished chunk is a file in `out`, whole or not there.
    Whatever ends the run (an interruption, a killed process, a full disk), run it again: it goes on and solves again
    only the chunks that were in flight. Damaged files are found, reported in the log, and made anew.

    Ctrl-C raises KeyboardInterrupt within about a second. Finished chunks are kept, chunks in flight are dropped. XLA
    cannot be interrupted: a computation that has begun goes on in the background until it ends, and Python waits for it
    at exit. `os._exit` does not wait; files are whole at any time.

    On CPUs, LAPACK is held to one thread for the whole process while a sweep solves, whatever `jaxdescramble.threads`
    says. To use many cores, give JAX many CPU devices, or run shards.

    Results depend on the problems, the key and the sizes of the chunks, not on the number of devices, processes or
    interruptions. They are the same to the last bit on machines of one make (processor, its number of cores, jaxlib).
    Where `chunk_size` is None, the sizes for iterative solvers are measured when the folder is made and kept in it: two
    folders may then differ in the last bits. Give `chunk_size` if they must not.

    With `jax.distributed` every process calls `sweep` alike, with a folder that all can see, and takes its share.
    Without it, separate jobs take one each by `shard`. No process waits for another before the end.

    Args:
        problems: `Problem` values, or what `grid` gives. Their places in the list are their numbers.
        out: the folder.
        mesh: whose devices to use, those of this process; all that it has if None.
        resume: False to refuse a folder in which there is a sweep already.
        progress: called as `progress(stage, done, total)`: "measuring" how long a problem takes (kinds of
            problems), "checking" what is there (chunks), "solving" (problems), "gathering" (chunks).
        key: where all chance comes from; needed where problems have restarts or random starts. Problem i uses
            `fold_in(key, i)`.
        chunk_size: problems to a chunk. None for the sizes that the folder already has; in a new folder, for about two
            seconds of one core and at most 256 MiB. A problem that takes longer than two seconds is a chunk alone.
            The sizes are part of the sweep's identity.
        points: False keeps numbers and singular values alone: P is n^2 numbers, and the disk is the first thing that a
            million layers fill.
        shard: `(i, count)`, every count-th chunk beginning with the i-th, for separate jobs; None for all, or this
            process's share under `jax.distributed`.

    Returns:
        A `Table` of all problems; those that others have yet to solve have the status -1.

    Raises:
        TypeError, ValueError: a problem that cannot be solved, by its number, before any is; a folder that holds
            another sweep; a shard index out of range.
        FileExistsError: `resume=False` and a sweep is there. BlockingIOError: another process is at work on this shard.
        OSError: signals cannot be read or results not written; what is finished is kept.
        KeyboardInterrupt: as above; a note on it says how many problems are kept.

    >>> import jaxdescramble as jd
    >>> signals = jax.random.normal(jax.random.key(0), (4, 5, 20), "float32")
    >>> problems = jd.grid(signals, {"smooth": jd.objectives.smoothness(), "alike": jd.objectives.similarity()})
    >>> table = jd.sweep(problems, "sweep-of-eight")
    >>> table.where(objective="smooth")["status"].tolist()
    [0, 0, 0, 0]
    """
    key = None if key is None else random_key(key)
    points, resume = true_or_false(points, "points"), true_or_false(resume, "resume")
    listed = with_defaults(problems, key)
    devices, share = _devices(mesh), _share(mesh, shard)
    folder = Path(out)
    say = progress or (lambda stage, done, total: None)
    draft = drafted(listed, key, None if chunk_size is None else positive_integer(chunk_size, "chunk_size"), points)
    _shapes(draft, listed, key)
    found, begun = _sizes(draft, listed, key, folder, resume, devices[0], say) if chunk_size is None else (None, [])
    plan = draft.cut(found)
    wanted = specification(listed, plan)
    open_sweep(folder, wanted, resume)
    with at_work(folder, share) as log:
        log("begin", identity=plan.identity, problems=len(listed), chunks=len(plan.chunks), shard=list(share))
        todo = _todo(plan, listed, folder, share, log, say)
        Work(listed, key, plan, folder, log, say, points, begun).all(todo, devices)
        if jax.process_count() > 1 and shard is None:
            _meet("sweep results")
        table = gathered(folder, wanted, say)
        if table.done and (share[0] == 0 or shard is not None):
            save_everywhere(table)
        log("end", done=table.done)
    return table


def with_defaults(problems: Iterable[Problem], key: PRNGKeyArray | None) -> list[Problem]:
    """Return the problems with their defaults filled in. What they share is one object.

    Raises:
        TypeError, ValueError: a problem that cannot be solved, by its number.
    """
    if isinstance(problems, Problem):
        raise TypeError("problems: got one Problem; expected a list of them, [problem].")
    sources: dict[int, Any] = {}
    pairs: dict[tuple[int, int], tuple[Any, Any]] = {}
    kept: list[Any] = []
    found = []
    for place, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise TypeError(
                f"problems[{place}]: got {type(problem).__name__}; expected a jaxdescramble.Problem, as grid gives."
            )
        try:
            # The same signals in many problems are one source.
            if id(problem.signals) not in sources:
                kept.append(problem.signals)
                sources[id(problem.signals)] = problem.source
            one = dataclasses.replace(problem, signals=sources[id(problem.signals)]).with_defaults()
            if one.chancy and key is None:
                raise ValueError("it has restarts or a random start; give sweep(..., key=jax.random.key(seed)).")
        except (TypeError, ValueError) as error:
            raise type(error)(f"problem {place} ({dict(problem.labels)}): {error}") from error
        # What a grid holds many times over is one object from here on, and is looked at once.
        kept += [problem.objective, problem.solver]
        objective, solver = pairs.setdefault((id(problem.objective), id(problem.solver)), (one.objective, one.solver))
        found.append(dataclasses.replace(one, objective=objective, solver=solver))
    if not found:
        raise ValueError("problems: there are none.")
    return found


def _share(mesh: Mesh | None, shard: Any) -> tuple[int, int]:
    if shard is not None:
        try:
            index, count = (int(part) for part in shard)
        except (TypeError, ValueError) as error:
            raise TypeError(f"shard: got {shard!r}; expected (i, count), such as (0, 4).") from error
        if not 0 <= index < count:
            raise ValueError(f"shard: got {index} of {count}; the first of four is (0, 4), the last (3, 4).")
        return index, count
    if mesh is None:
        return jax.process_index(), jax.process_count()
    processes = sorted({device.process_index for device in mesh.devices.flat})
    if jax.process_index() not in processes:
        raise ValueError(
            f"mesh: it has no device of process {jax.process_index()}; leave that process out, or mesh=None."
        )
    return processes.index(jax.process_index()), len(processes)


def _devices(mesh: Mesh | None) -> list[Any]:
    if mesh is None:
        return jax.local_devices()
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: got {type(mesh).__name__}; expected a jax.sharding.Mesh, or None for all devices.")
    return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


def _sizes(
    draft: Draft, problems: Sequence[Problem], key: Any, folder: Path, resume: bool, device: Any, say: Progress
) -> tuple[list[int] | None, list[sizes.Begun]]:
    """Sizes of chunks, from the folder or measured now, and problems that measuring has begun to solve."""
    kept = sizes.recorded(folder, draft)
    unknown = [] if kept else sizes.unknown(draft, problems)
    if not unknown:
        return kept, []
    refuse(folder, draft.parts, resume)
    found, seconds, begun = sizes.measured(draft, unknown, problems, key, device, say)
    return sizes.record(folder, draft, found, seconds), begun


def _shapes(draft: Draft, problems: Sequence[Problem], key: Any) -> None:
    """Trace every program once, on shapes alone: what does not fit is said before anything is solved."""
    for kind, places in zip(draft.kinds, draft.places, strict=True):
        place = places[0]
        blank = Chunk(0, kind, (place,))
        source = _Blank(kind.shape, kind.dtype)
        stand_in = {place: dataclasses.replace(problems[place], signals=source)}
        try:
            operands, _ = program.arguments(blank, stand_in, key)
            program.run.eval_shape(*operands, **program.static(kind))
        except (TypeError, ValueError) as error:
            raise type(error)(f"problem {place} ({dict(problems[place].labels)}): {error}") from error


@dataclasses.dataclass(frozen=True)
class _Blank:
    shape: tuple[int, ...]
    dtype: Any

    def read(self) -> np.ndarray:
        return np.zeros(self.shape, self.dtype)


def _todo(
    plan: Plan, problems: Sequence[Problem], folder: Path, share: tuple[int, int], log: Log, say: Progress
) -> list[Chunk]:
    """The chunks that this process has to solve, damaged ones among them."""
    index, count = share
    mine = plan.chunks[index::count]
    missing = np.zeros(len(plan.chunks), np.int32)
    chunks.clear(folder, {one.number for one in mine})
    known: dict[int, str] = {}
    for done, one in enumerate(mine):
        path = chunks.location(folder, one.number)
        try:
            about = chunks.checked(path, plan.digests[one.number])
            _same_signals(one, problems, about["signals"], folder, known)
        except FileNotFoundError:
            missing[one.number] = 1
        except chunks.DamagedError as error:
            log("damaged", chunk=one.number, file=str(path), why=str(error))
            missing[one.number] = 1
        else:
            say("checking", done + 1, len(mine))
    if jax.process_count() > 1 and count == jax.process_count():
        # What is left is dealt out anew, or a sweep that lost one of its processes would wait for that one alone.
        from jax.experimental import multihost_utils

        missing = np.asarray(multihost_utils.process_allgather(missing)).reshape(count, -1).max(axis=0)
        left = np.flatnonzero(missing)[index::count]
    else:
        left = np.flatnonzero(missing)
    kept = sum(len(one.places) for one in mine) - sum(len(plan.chunks[i].places) for i in left)
    log("plan", chunks=left.tolist(), problems_kept=max(kept, 0))
    return [plan.chunks[number] for number in left]


def _same_signals(
    chunk: Chunk, problems: Sequence[Problem], kept: dict[str, str], folder: Path, known: dict[int, str]
) -> None:
    for place in chunk.places:
        source = problems[place].source
        # A grid has the same signals many times over.
        if id(source) not in known:
            known[id(source)] = signals_digest(source)
        if kept.get(str(place)) != known[id(source)]:
            raise ValueError(
                f"out: {folder} holds results for other signals: those of problem {place} "
                f"({dict(problems[place].labels)}) have changed. Its results are not reused and not touched; name "
                "another folder, or remove this one."
            )


def _meet(where: str) -> None:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(where)
