"""The function `sweep`: solve many problems on many devices and hosts, and keep results on the disk."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray

from jaxdescramble._base.checks import positive_integer, random_key, true_or_false
from jaxdescramble.descrambling.solving import DirectSolver
from jaxdescramble.objectives import Objective
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.watch import Progress
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps import _program as program
from jaxdescramble.sweeps import _sizes as sizes
from jaxdescramble.sweeps._chunks import Device
from jaxdescramble.sweeps._plan import Chunk, Draft, Plan, drafted
from jaxdescramble.sweeps._work import Work
from jaxdescramble.sweeps.folder import Log, at_work, open_sweep, refuse, specification
from jaxdescramble.sweeps.problems import Problem, Source, signals_digest
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
    """Solve many descrambling problems on all devices, and keep every finished chunk on the disk.

    Use it for more than a few problems: many layers, objectives, solvers or seeds. `grid` makes the list of problems.

    Problems of one kind have the same shapes, group and restarts; their objectives and solvers differ only in numbers.
    One compiled program solves them in chunks, one chunk per device at a time. Each finished chunk becomes a file in
    `out`; a file is either complete or absent. After an interruption, a killed process or a full disk, run the sweep
    again: it solves only what is missing. It also detects damaged files, reports them in the log, and solves these
    chunks again.

    Ctrl-C raises KeyboardInterrupt within about a second. Finished chunks are kept, unfinished chunks are dropped. XLA
    cannot be interrupted, so a computation that has begun continues in the background, and Python waits for it at
    exit. `os._exit` does not wait. The files are complete at any time.

    On CPUs, LAPACK uses one thread in the whole process while a sweep solves, whatever `jaxdescramble.threads` says. To
    use many cores, give JAX many CPU devices, or run shards.

    Results depend on the problems, the key and the sizes of the chunks. They do not depend on the number of devices or
    processes, nor on interruptions. They are the same to the last bit on machines of one make (processor, number of
    cores, jaxlib). If `chunk_size` is None, the sizes for iterative solvers are measured once and kept in the folder.
    Two folders may then differ in the last bits; give `chunk_size` to avoid this.

    With `jax.distributed`, every process makes the same call, with a folder that all processes can see, and solves its
    share. Without `jax.distributed`, give each job its `shard`. No process waits for another one before the end.

    Args:
        problems: list of `Problem` values, such as the result of `grid`. Their places in the list are their numbers.
        out: path of the folder.
        mesh: mesh whose devices of this process are used; None means all devices of this process.
        resume: whether to continue a sweep that is already in the folder. If False, such a folder raises an error.
        progress: called as `progress(stage, done, total)`. Stages: "measuring" (counts kinds of problems), "checking"
            (counts chunks), "solving" (counts problems), "gathering" (counts chunks).
        key: random key; it decides restarts and random starts, and only they need it. Problem i uses `fold_in(key, i)`.
        chunk_size: number of problems in a chunk. None means the sizes that the folder already has; a new folder gets
            sizes of about two seconds of one core and at most 256 MiB. A problem that takes longer than two seconds
            gets its own chunk. The sizes are part of the identity of the sweep.
        shard: `(i, count)` solves every count-th chunk, beginning with chunk i. Use it for separate jobs. None means
            all chunks, or the share of this process under `jax.distributed`.
        points: whether to keep the points P. Each point has n^2 numbers, which can fill the disk for a million layers.
            If False, only scalars and singular values are kept.

    Returns:
        A `Table` of all problems. Problems that are not solved yet have the status -1.

    Raises:
        TypeError, ValueError: if a problem cannot be solved (the message gives its number; nothing is solved then); if
            the folder holds another sweep; if the shard index is out of range.
        FileExistsError: if `resume` is False and the folder holds a sweep.
        BlockingIOError: if another process works on this shard.
        OSError: if signals cannot be read or results cannot be written. Finished chunks are kept.
        KeyboardInterrupt: on Ctrl-C. A note on the error says how many problems are kept.

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
    """Fill in the defaults of all problems. Problems with the same parts then share one object.

    Raises:
        TypeError, ValueError: if a problem cannot be solved. The message gives its number.
    """
    if isinstance(problems, Problem):
        raise TypeError("problems: got one Problem; must be a list of problems, [problem].")
    sources: dict[int, Source] = {}
    pairs: dict[tuple[int, int], tuple[Objective | None, Solver | DirectSolver | None]] = {}
    kept: list[object] = []
    found = []
    for place, problem in enumerate(problems):
        if not isinstance(problem, Problem):
            raise TypeError(
                f"problems[{place}]: got {type(problem).__name__}; must be a jaxdescramble.Problem, as grid returns."
            )
        try:
            # Problems with the same signals share one source.
            if id(problem.signals) not in sources:
                kept.append(problem.signals)
                sources[id(problem.signals)] = problem.source
            one = dataclasses.replace(problem, signals=sources[id(problem.signals)]).with_defaults()
            if one.chancy and key is None:
                raise ValueError("it has restarts or a random start. Give sweep(..., key=jax.random.key(seed)).")
        except (TypeError, ValueError) as error:
            raise type(error)(f"problem {place} ({dict(problem.labels)}): {error}") from error
        # A grid repeats objectives and solvers. Problems share one object from here on, which is checked once.
        kept += [problem.objective, problem.solver]
        objective, solver = pairs.setdefault((id(problem.objective), id(problem.solver)), (one.objective, one.solver))
        found.append(dataclasses.replace(one, objective=objective, solver=solver))
    if not found:
        raise ValueError("problems: got an empty list; must hold at least one problem.")
    return found


def _share(mesh: Mesh | None, shard: tuple[int, int] | None) -> tuple[int, int]:
    if shard is not None:
        try:
            index, count = (int(part) for part in shard)
        except (TypeError, ValueError) as error:
            raise TypeError(f"shard: got {shard!r}; must be (i, count), such as (0, 4).") from error
        if not 0 <= index < count:
            raise ValueError(f"shard: got {(index, count)}; the index must be at least 0 and below the count.")
        return index, count
    if mesh is None:
        return jax.process_index(), jax.process_count()
    processes = sorted({device.process_index for device in mesh.devices.flat})
    if jax.process_index() not in processes:
        raise ValueError(
            f"mesh: has no device of process {jax.process_index()}. Do not call sweep there, or use mesh=None."
        )
    return processes.index(jax.process_index()), len(processes)


def _devices(mesh: Mesh | None) -> list[Device]:
    if mesh is None:
        return jax.local_devices()
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: got {type(mesh).__name__}; must be a jax.sharding.Mesh, or None for all devices.")
    return [device for device in mesh.devices.flat if device.process_index == jax.process_index()]


def _sizes(
    draft: Draft,
    problems: Sequence[Problem],
    key: PRNGKeyArray | None,
    folder: Path,
    resume: bool,
    device: Device,
    say: Progress,
) -> tuple[list[int] | None, list[sizes.Begun]]:
    """Return chunk sizes, read from the folder or measured now, and the problems that are still being solved."""
    kept = sizes.recorded(folder, draft)
    unknown = [] if kept else sizes.unknown(draft, problems)
    if not unknown:
        return kept, []
    refuse(folder, draft.parts, resume)
    found, seconds, begun = sizes.measured(draft, unknown, problems, key, device, say)
    return sizes.record(folder, draft, found, seconds), begun


def _shapes(draft: Draft, problems: Sequence[Problem], key: PRNGKeyArray | None) -> None:
    """Trace every program once, on shapes alone, so that errors appear before anything is solved."""
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
    dtype: str

    def read(self) -> np.ndarray:
        return np.zeros(self.shape, self.dtype)


def _todo(
    plan: Plan, problems: Sequence[Problem], folder: Path, share: tuple[int, int], log: Log, say: Progress
) -> list[Chunk]:
    """Return the chunks that this process must solve. Damaged chunks are among them."""
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
        # Share the remaining chunks out again. Otherwise, after a process is lost, its share would go to one process.
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
        # A grid repeats the same signals many times, so each source is read once.
        if id(source) not in known:
            known[id(source)] = signals_digest(source)
        if kept.get(str(place)) != known[id(source)]:
            raise ValueError(
                f"out: {folder} holds results for other signals: those of problem {place} "
                f"({dict(problems[place].labels)}) have changed. Its results are neither used nor changed. Name "
                "another folder, or remove this one."
            )


def _meet(where: str) -> None:
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(where)
