"""The command line's sweeps: `jaxdescramble run`, `status`, `report`."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxdescramble.extras import extra
from jaxdescramble.show import terminal
from jaxdescramble.show.sweep_numbers import progress_of, summary_lines
from jaxdescramble.show.sweep_page import write_sweep_report
from jaxdescramble.show.terminal import INCOMPLETE, INTERRUPTED, TERMINATED, UNSOLVED, StoppedError
from jaxdescramble.status import DIAGNOSES, Status
from jaxdescramble.sweep import Table, sweep
from jaxdescramble.sweep.specification import Request, read, request
from jaxdescramble.sweep.table import PENDING


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a scheduler sends it before it kills."""


def run_sweep(
    source: Path, options: Mapping[str, Any], folder: Path, shard: str | None, resume: bool, figures: bool
) -> None:
    """A sweep from a file of arrays, a folder of them or a specification, to its report.

    Args:
        source: `.toml` for a specification, anything else for arrays.
        options: what the command line says; it has the last word over a specification.
        folder, resume: as `out` and `resume` of `sweep`.
        shard: "i/n", or None.
        figures: whether the report has any.

    Raises:
        StoppedError: interrupted, some problem without an answer, or (a shard's run) the others' not there yet.
        ValueError, TypeError, OSError: what cannot be read, understood or written.
    """
    screen, began = terminal.console(), time.perf_counter()
    if figures:
        # A missing extra is said now, not after hours.
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
    with _terminable():
        try:
            with stages:
                table = sweep(
                    asked.problems,
                    folder,
                    resume=resume,
                    progress=stages,
                    key=asked.key,
                    chunk=asked.chunk,
                    shard=None if shard is None else _shard(shard),
                )
                if table.done:
                    stages("writing", 0, 1)
                    write_sweep_report(table, asked.selection.layers, figures)
        except KeyboardInterrupt as error:
            how, code = (
                ("Terminated", TERMINATED) if isinstance(error, TerminatedError) else ("Interrupted", INTERRUPTED)
            )
            kept = f"Finished chunks are kept in {folder}; the same command goes on."
            raise StoppedError(f"{how} while {stages.stage or 'beginning'}. {kept}", code) from error
    _tell(table, screen)
    if table.done:
        screen.print(f"{folder / 'index.html'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    _verdict(table)


def show_status(folder: Path, as_json: bool) -> None:
    """How far the sweep in a folder is, by counting its files; no result is read unless all are there.

    Raises:
        FileNotFoundError: there is no sweep. StoppedError: it is not done, or some problem has no answer.
    """
    screen, table = terminal.console(), Table.open(folder)
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
            screen.print(f"damaged, made anew or to be: {event}", soft_wrap=True)
        if what["seconds_left"] is not None:
            screen.print(f"about {what['seconds_left']:.0f} s of work left, at the rate so far")
    _verdict(table)


def show_report(folder: Path, source: Path | None, figures: bool) -> None:
    """Write the report of the sweep in a folder, as far as it is.

    Args:
        folder: of the sweep.
        source: of its arrays, for pictures of them; None for no such pictures.
        figures: whether there are any.

    Raises:
        FileNotFoundError: there is no sweep. StoppedError: as `show_status`; the report has been written.
    """
    screen, table = terminal.console(), Table.open(folder)
    layers = {} if source is None else _request(source, {}).selection.layers
    path = write_sweep_report(table, layers, figures)
    _tell(table, screen)
    screen.print(str(path), soft_wrap=True)
    _verdict(table)


def _request(source: Path, options: Mapping[str, Any]) -> Request:
    given = {name: value for name, value in options.items() if value not in (None, [], ())}
    if source.suffix != ".toml":
        signals = {"files": [str(source.absolute())]}
        signals |= {name: given.pop(name) for name in ("names", "samples_first") if name in given}
        aims = {name: {"name": name} for name in given.pop("objectives", ["smoothness"])}
        return request({"signals": signals, "objectives": aims, **given})
    content = read(source)
    refused = [name for name in ("names", "samples_first", "objectives") if name in given]
    if refused:
        raise ValueError(f"--{refused[0].rstrip('s')}: stands in the specification; change {source} instead.")
    return request({**content, **given}, source.parent)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit()):
        raise ValueError(f"--shard: got {text!r}; the first of four is 0/4, the last 3/4.")
    return int(index), int(count)


def _narrowed(asked: Request, screen: Any) -> None:
    wide = [one for one in asked.selection.layers.values() if one.stored.dtype == "float64" and one.dtype == np.float32]
    if wide:
        screen.print(f"float64 taken as float32 in {len(wide)} layers; JAX_ENABLE_X64=1 keeps it", soft_wrap=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: what is in flight is kept."""

    def stop(*_: Any) -> None:
        raise TerminatedError

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(table: Table, screen: Any) -> None:
    rich_table = extra("rich.table", "the command line needs rich")
    shown = rich_table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("objective", "solver"):
        shown.add_column(name)
    for name in ("problems", "with answer", "before", "after", "largest gap", "steps"):
        shown.add_column(name, justify="right")
    for line in summary_lines(table):
        shown.add_row(*line)
    screen.print(shown)


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
