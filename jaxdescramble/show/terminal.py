"""What the command line shows while it works, and at the end."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from jaxdescramble._base.extras import extra
from jaxdescramble.show.page import headlines, number
from jaxdescramble.studies.deernet.claims import BY_CONSTRUCTION, FAILS, IN_PART, STANDS
from jaxdescramble.studies.deernet.contents import ReportContent

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {STANDS: "green", IN_PART: "yellow", BY_CONSTRUCTION: "dim", FAILS: "red"}
CHECKPOINTS = ("training", "training the null")


def writable(folder: Path) -> None:
    """Check that a folder is writable, before minutes of work.

    Raises:
        OSError: if the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(folder)
        raise


def console() -> "Console":
    """Return a rich console that does not change its text: no colours for numbers, no markup from data."""
    return extra("rich.console", "the command line needs rich").Console(highlight=False, markup=False)


class Stages:
    """Shows the stages of a run: bars and spinners on a terminal, one line for each stage elsewhere.

    Use it as a context manager. It is also the callable `progress(stage, done, total)` for `demonstrate` and
    `write_report`.
    """

    def __init__(self, screen: "Console"):
        self.screen, self.stage, self.done, self.total = screen, "", 0, 1
        self.reached: list[str] = []
        self.first_step: dict[str, int] = {}
        self._task, self._bars, self._since = None, None, time.perf_counter()

    def __enter__(self) -> "Stages":
        if self.screen.is_terminal:
            parts = extra("rich.progress", "the command line needs rich")
            self._bars = parts.Progress(
                parts.SpinnerColumn(finished_text="\N{CHECK MARK}"),
                parts.TextColumn("{task.description:<22}", markup=False),
                parts.BarColumn(bar_width=30),
                parts.TextColumn("{task.fields[count]:>11}", markup=False),
                parts.TimeElapsedColumn(),
                console=self.screen,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self.stage:
            self._finish()
            self.stage, self._since = stage, time.perf_counter()
            self.reached.append(stage)
            if stage != "done":
                self._begin(stage, total)
        self.done, self.total = done, total
        if done:
            self.first_step.setdefault(stage, done)
        if self._bars is not None and self._task is not None:
            count = f"{done}/{total}" if total > 1 else ""
            self._bars.update(self._task, completed=done, count=count)

    def _begin(self, stage: str, total: int) -> None:
        if self._bars is not None:
            # A stage without steps cannot fill a bar, so the bar moves back and forth.
            self._task = self._bars.add_task(stage, total=total if total > 1 else None, count="")
        else:
            self.screen.print(f"{stage}, {total} steps ..." if stage in CHECKPOINTS else f"{stage} ...")

    def _finish(self) -> None:
        if self._bars is None or self._task is None:
            return
        total = max(self.total, 1)
        # If the checkpoint was complete, the stage never counts its steps.
        count = "" if self.total <= 1 else "kept" if not self.done else f"{total}/{total}"
        self._bars.update(self._task, total=total, completed=total, count=count)
        self._task = None


def interrupted(stages: Stages, folder: Path, checkpoint_step: Callable[[Path], int | None]) -> str:
    """Return the message after Ctrl-C: how far the run came, what is kept, how to continue."""
    where = f"while {stages.stage}" if stages.stage else "before it began"
    if stages.stage in CHECKPOINTS:
        where += f", at step {stages.done} of {stages.total}"
    kept = []
    for stage in CHECKPOINTS:
        path = folder / f"{stage.replace(' ', '-')}.npz"
        step = checkpoint_step(path) if path.exists() else None
        if step is not None:
            kept.append(f"{path} (step {step})")
    saved = f"Kept: {', '.join(kept)}." if kept else "Nothing was saved yet."
    return f"Interrupted {where}. {saved} Run the same command again to continue."


def summary(screen: "Console", content: ReportContent, folder: Path, seconds: float) -> None:
    """Print the headline numbers, the findings with their verdicts, the path of the page, and the time."""
    tables, text = (extra(f"rich.{name}", "the command line needs rich") for name in ("table", "text"))
    screen.print()
    numbers = tables.Table.grid(padding=(0, 2))
    numbers.add_column(justify="right")
    numbers.add_column()
    for value, what in headlines(content):
        numbers.add_row(text.Text(value, style="bold"), text.Text(what))
    screen.print(numbers)
    screen.print()
    findings = tables.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    findings.add_column("The paper's finding")
    findings.add_column("Verdict", no_wrap=True)
    for one in content["findings"]:
        findings.add_row(text.Text(one["claim"]), text.Text(one["verdict"], style=COLOURS[one["verdict"]]))
    screen.print(findings)
    screen.print()
    screen.print(f"{folder / 'index.html'}  ({number(seconds, 2)} s)", soft_wrap=True)
