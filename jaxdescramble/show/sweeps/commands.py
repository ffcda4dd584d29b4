"""Commands for sweeps: `jaxdescramble run`, `status`, `report`."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from jaxdescramble._base.extras import extra
from jaxdescramble._base.status import DIAGNOSES, Status
from jaxdescramble.show import terminal
from jaxdescramble.show._exits import INCOMPLETE, INTERRUPTED, TERMINATED, UNSOLVED, StoppedError
from jaxdescramble.show.sweeps.numbers import HEADINGS, SweepProgress, ends, progress_of, summary_lines
from jaxdescramble.show.sweeps.page import write_sweep_report
from jaxdescramble.sweeps import Table, sweep
from jaxdescramble.sweeps.specification import Request, catalogue, read, request
from jaxdescramble.sweeps.table import PENDING

if TYPE_CHECKING:
    from rich.console import Console


class Options(TypedDict, total=False):
    """Options of `jaxdescramble run`; None means that an option was not given."""

    objectives: list[str] | None
    names: list[str] | None
    samples_first: bool | None
    group: str | None
    seed: int | None
    seeds: int | None
    restarts: int | None
    rank: int | None
    chunk_size: int | None


class TerminatedError(KeyboardInterrupt):
    """Raised on SIGTERM, which a scheduler sends before it kills a process."""


def run_sweep(source: Path, options: Options, folder: Path, shard: str | None, resume: bool, figures: bool) -> None:
    """Run a sweep from arrays or from a specification, and write its report.

    Args:
        source: a `.toml` file for a specification; any other file, or a folder, for arrays.
        options: options of the command line. They take precedence over the specification.
        folder: path of the folder of the sweep.
        shard: "i/n", or None.
        resume: whether to continue a sweep that is already in the folder.
        figures: whether the report has figures.

    Raises:
        StoppedError: on Ctrl-C or SIGTERM; if a problem has no answer; if other shards are not finished yet.
        ValueError, TypeError, OSError: if something cannot be read, understood or written.
    """
    screen, began = terminal.console(), time.perf_counter()
    if figures:
        # Report a missing extra now, not after hours.
        extra("matplotlib", "figures need matplotlib")
    asked = _request(source, options)
    terminal.writable(folder)
    for name, why in list(asked.selection.left_out.items())[:8]:
        screen.print(f"left out: {name} ({why})", soft_wrap=True)
    if len(asked.selection.left_out) > 8:
        screen.print(f"left out: {len(asked.selection.left_out) - 8} more")
    _narrowed(asked, screen)
    screen.print(f"{len(asked.problems)} problems, {len(asked.selection.layers)} layers, in {folder}", soft_wrap=True)
    stages = terminal.Stages(screen)
    with _interruptible(folder):
        try:
            with stages:
                table = sweep(
                    asked.problems,
                    folder,
                    resume=resume,
                    progress=stages,
                    key=asked.key,
                    chunk_size=asked.chunk_size,
                    shard=None if shard is None else _shard(shard),
                )
                if table.done:
                    stages("writing", 0, 1)
                    write_sweep_report(table, asked.selection.layers, figures)
        except KeyboardInterrupt as error:
            how, code = (
                ("Terminated", TERMINATED) if isinstance(error, TerminatedError) else ("Interrupted", INTERRUPTED)
            )
            solved = f" ({stages.done} of {stages.total} problems by this run)" * (stages.stage == "solving")
            kept = f"Finished chunks are kept in {folder}{solved}. Run the same command again to continue."
            raise StoppedError(f"{how} while {stages.stage or 'beginning'}. {kept}", code) from error
    _tell(table, screen)
    if table.done:
        screen.print(f"{folder / 'index.html'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    _verdict(table)


def catalogue_text() -> str:
    """Return objectives, solvers and preconditioners with their options, as paragraphs for the help."""
    paragraphs = []
    for kind, names in catalogue().items():
        where = {"objectives": "--objective NAME, or [objectives.LABEL] name = NAME"}
        where |= {"solvers": "[solvers.LABEL] name = NAME", "preconditioners": "preconditioner = { name = NAME }"}
        paragraphs.append(f"{kind.capitalize()} and their options ({where[kind]}):")
        paragraphs += [f"- {name}{': ' * bool(options)}{options}" for name, options in names.items()]
    # The help is read as markup, where brackets are styles.
    return "\n\n".join(paragraphs).replace("[", "\\[")


def show_status(folder: Path, as_json: bool) -> None:
    """Show the progress of the sweep in a folder. It counts files; it reads results only if all are there.

    Raises:
        FileNotFoundError: if the folder holds no sweep.
        StoppedError: if the sweep is not finished, or a problem has no answer.
    """
    screen, table = terminal.console(), Table.load(folder)
    what = progress_of(table)
    if as_json:
        print(json.dumps(what, indent=1))
    else:
        screen.print(
            f"{what['done']} of {what['problems']} problems done, {what['solved']} with an answer", soft_wrap=True
        )
        for name, count in what["statuses"].items():
            screen.print(f"  {count:>8}  {name}")
        for line in what["made_by"]:
            screen.print(f"made by: {line}", soft_wrap=True)
        for event in what["damaged"]:
            screen.print(f"damaged (solved again by the next run, if not yet): {event}", soft_wrap=True)
        for line in _left(what):
            screen.print(line, soft_wrap=True)
    _verdict(table)


def _left(what: SweepProgress) -> Iterator[str]:
    """Describe the remaining time: one line for what is known, one for each kind of problem with an unknown time."""
    if what["done"] == what["problems"]:
        return
    if what["seconds_left"] is not None:
        rest = what["problems"] - what["done"] - sum(what["unknown_left"].values())
        yield f"about {what['seconds_left']:.0f} s of work left for {rest} problems, at the rates so far"
    for kind, count in what["unknown_left"].items():
        yield f"unknown time for {count} problems of a kind without a finished problem ({kind})"


def show_report(folder: Path, source: Path | None, figures: bool) -> None:
    """Write the report of the sweep in a folder, finished or not.

    Args:
        folder: path of the folder of the sweep.
        source: arrays or specification of the sweep, for pictures of its layers; None means no such pictures.
        figures: whether the report has figures.

    Raises:
        FileNotFoundError: if the folder holds no sweep.
        StoppedError: if the sweep is not finished, or a problem has no answer. The report is written before.
    """
    screen, table = terminal.console(), Table.load(folder)
    layers = {} if source is None else _request(source, {}).selection.layers
    path = write_sweep_report(table, layers, figures)
    _tell(table, screen)
    screen.print(str(path), soft_wrap=True)
    _verdict(table)


def _request(source: Path, options: Options) -> Request:
    given = {name: value for name, value in options.items() if value not in (None, [], ())}
    if source.suffix != ".toml":
        signals: dict[str, object] = {"files": [str(source.absolute())]}
        signals |= {name: given.pop(name) for name in ("names", "samples_first") if name in given}
        given.pop("objectives", None)
        aims = {name: {"name": name} for name in options.get("objectives") or ["smoothness"]}
        return request({"signals": signals, "objectives": aims, **given})
    content = read(source)
    refused = [name for name in ("names", "samples_first", "objectives") if name in given]
    if refused:
        raise ValueError(f"--{refused[0].rstrip('s')}: the specification decides this. Change {source} instead.")
    return request({**content, **given}, source.parent)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit()):
        raise ValueError(f"--shard: got {text!r}; must be i/n: the first of four shards is 0/4, the last 3/4.")
    return int(index), int(count)


def _narrowed(asked: Request, screen: "Console") -> None:
    wide = [one for one in asked.selection.layers.values() if one.stored.dtype == "float64" and one.dtype == np.float32]
    if wide:
        screen.print(f"{len(wide)} layers of float64 become float32; JAX_ENABLE_X64=1 keeps float64", soft_wrap=True)


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """On SIGINT or SIGTERM, say what is kept and how to continue, then raise. A second signal ends the process."""
    kinds = {
        signal.SIGINT: ("Interrupted", INTERRUPTED, KeyboardInterrupt),
        signal.SIGTERM: ("Terminated", TERMINATED, TerminatedError),
    }
    received = []

    def stop(number: int, _: FrameType | None) -> None:
        how, code, kind = kinds[signal.Signals(number)]
        if received:
            # Every file is written whole or not at all, so an immediate end loses nothing.
            os._exit(code)
        received.append(number)
        words = (
            f"{how}. Stopping within seconds: finished chunks are kept in {folder}, unfinished chunks are dropped. "
            "To continue, run the same command again.\n"
        )
        # Not print, which the signal may have interrupted. The first newline ends the line of a progress bar.
        with suppress(OSError):
            os.write(2, (os.linesep * os.isatty(2) + words).encode())
        raise kind

    try:
        before = {number: signal.signal(number, stop) for number in kinds}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(table: Table, screen: "Console") -> None:
    rich_table = extra("rich.table", "the command line needs rich")
    shown = rich_table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    # The last column (statuses) would be too wide here.
    for place, name in enumerate(HEADINGS[:-1]):
        shown.add_column(name, justify="left" if place < 2 else "right")
    for line in summary_lines(table):
        shown.add_row(*line[:-1])
    screen.print(shown)
    screen.print(f"{HEADINGS[-1]}: {ends(table)}", soft_wrap=True)


def _verdict(table: Table) -> None:
    codes = table["status"]
    if (codes == PENDING).any():
        raise StoppedError(f"{(codes == PENDING).sum()} of {len(table)} problems have no result yet.", INCOMPLETE)
    bad = [Status(code) for code in codes.tolist() if not Status(code).usable]
    if bad:
        first = bad[0]
        raise StoppedError(
            f"{len(bad)} of {len(table)} problems have no answer. {first.name}: {DIAGNOSES[first]}", UNSOLVED
        )
