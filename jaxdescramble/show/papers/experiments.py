"""Experiments of the command line that consist of parts: run them, continue them, write tables and figures."""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jax
import numpy as np

from jaxdescramble._base.extras import extra
from jaxdescramble.show import terminal
from jaxdescramble.show._exits import INTERRUPTED, StoppedError
from jaxdescramble.show.papers import report as reports
from jaxdescramble.studies.attributions import claims, evaluation
from jaxdescramble.studies.gating import claims as gate_claims
from jaxdescramble.studies.gating import comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Found = TypeVar("Found")


def run_attribution(seeds: int, pictures: int, quick: bool, folder: Path, figures: bool = True) -> None:
    """Run the evaluation of attributions: tables, verdicts and figures.

    Raises:
        StoppedError: on Ctrl-C. Finished parts are kept and not run again.
    """
    settings = evaluation.EvaluationSettings(seeds, pictures, quick)

    def page(found: evaluation.Evaluation) -> str:
        return claims.markdown(found["cells"], found["settings"], where("jaxdescramble attribution"))

    def draw(found: evaluation.Evaluation) -> dict[str, "Figure"]:
        from jaxdescramble.show.papers import gallery

        shown = {}
        for cell in found["cells"]:
            if cell["set"] not in shown:
                with np.load(folder / cell["arrays"]) as file:
                    shown[cell["set"]] = dict(file)
        return {
            "gallery": gallery.gallery_figure(shown),
            "evaluation": gallery.evaluation_figure(found["cells"]),
            "patterns": gallery.patterns_figure(shown),
        }

    _experiment(
        "attribution",
        folder,
        lambda progress: evaluation.evaluate(settings, folder, progress),
        page,
        draw if figures else None,
        lambda found: claims.judge(found["cells"]),
    )


def run_gates(
    seeds: int, pictures: tuple[str, ...], files: Path | None, quick: bool, folder: Path, figures: bool = True
) -> None:
    """Run the comparison of gated networks: tables, verdicts and figures.

    Raises:
        StoppedError: on Ctrl-C. Finished parts are kept and not run again.
        ValueError: if a set of pictures is unknown; if a file cannot be read.
    """
    sets, where_files = pictures or comparison.BUILT_IN, None if files is None else str(files)
    settings = (
        comparison.ComparisonSettings.quick(sets, where_files)
        if quick
        else comparison.ComparisonSettings(sets, where_files, seeds)
    )

    def draw(found: gate_claims.GatingNumbers) -> dict[str, "Figure"]:
        from jaxdescramble.show.papers.gating import comparison_figure, spectrum_figure

        return {"comparison": comparison_figure(found), "spectrum": spectrum_figure(found)}

    _experiment(
        "gates",
        folder,
        lambda progress: comparison.compare_gates(settings, folder, progress),
        lambda found: gate_claims.markdown(found, where("jaxdescramble gates")),
        draw if figures else None,
        gate_claims.judge,
    )


def where(command: str) -> str:
    """Return the command and the machine that made a table."""
    device = jax.devices()[0]
    kind = f"{platform.machine()}, {os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return f"`{command}`; {kind}, jax {version('jax')}, Python {platform.python_version()}, float32."


def _experiment(
    name: str,
    folder: Path,
    compute: Callable[[terminal.Stages], Found],
    page: Callable[[Found], str],
    draw: Callable[[Found], dict[str, "Figure"]] | None,
    judge: Callable[[Found], Sequence[claims.Claim]],
) -> None:
    screen, began = terminal.console(), time.perf_counter()
    if draw is not None:
        # Report a missing extra now, not after minutes of training.
        extra("matplotlib", "figures need matplotlib")
    terminal.writable(folder)
    stages = terminal.Stages(screen)
    try:
        with stages:
            found = compute(stages)
            stages("writing", 0, 1)
            reports.write_text(folder / f"{name}.json", json.dumps(found, indent=1) + "\n")
            reports.write_text(folder / f"{name}.md", page(found))
            for figure_name, figure in draw(found).items() if draw is not None else ():
                reports.write_figure(folder / figure_name, figure)
    except KeyboardInterrupt as error:
        kept = f"Finished parts are kept in {folder}. Run the same command again to continue."
        raise StoppedError(f"Interrupted at {stages.stage}. {kept}", INTERRUPTED) from error

    for claim in judge(found):
        screen.print(f"{claim.verdict:>22}  {claim.claim}", soft_wrap=True)
    screen.print(f"{folder / f'{name}.md'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
