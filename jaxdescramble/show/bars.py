"""A progress bar for long calls: `with show.bar() as progress: jd.minimise(..., progress=progress)`."""

import contextlib
import time
from collections.abc import Callable, Iterator

from jaxdescramble._base.extras import extra
from jaxdescramble.show.terminal import console

QUIET = 10.0
"""Seconds between two lines when the output is not a terminal."""


@contextlib.contextmanager
def bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Open a progress bar; it gives the callable for `progress=` of any long call.

    On a terminal the bar moves. Elsewhere (a log file) it prints a line every ten seconds. It needs rich:
    `pip install "jaxdescramble[demo]"`.

    >>> with bar() as progress:
    ...     progress("LBFGS, value 0.0669", 120, 10_000)
    LBFGS, value 0.0669: 120 of 10000
    """
    screen = console()
    if not screen.is_terminal:
        yield _lines(screen.print)
        return
    rich = extra("rich.progress", "a progress bar needs rich")
    columns = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), rich.MofNCompleteColumn())
    with rich.Progress(*columns, rich.TimeElapsedColumn(), console=screen) as shown:
        task = shown.add_task("", total=None)
        yield lambda stage, done, total: shown.update(task, description=stage, completed=done, total=total)


def _lines(say: Callable[[str], None]) -> Callable[[str, int, int | None], None]:
    last = [-QUIET]

    def tell(stage: str, done: int, total: int | None) -> None:
        if time.monotonic() - last[0] >= QUIET or done == total:
            last[0] = time.monotonic()
            say(f"{stage}: {done}" if total is None else f"{stage}: {done} of {total}")

    return tell
