"""The commands `jaxdescramble demo` and `jaxdescramble seeds`."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxdescramble._base.extras import extra
from jaxdescramble.show import terminal
from jaxdescramble.show._exits import INTERRUPTED, StoppedError
from jaxdescramble.show.papers import report as reports
from jaxdescramble.studies.deernet import demonstration as demonstrations
from jaxdescramble.studies.deernet.demonstration import Demonstration, DemonstrationSettings
from jaxdescramble.studies.deernet.network import TrainingPlan
from jaxdescramble.studies.deernet.seeds import across_seeds

if TYPE_CHECKING:
    from rich.console import Console


def run_demo(settings: DemonstrationSettings, folder: Path, figures: bool = True) -> None:
    """Run one demonstration, write its report, and show it on the terminal.

    Raises:
        StoppedError: on Ctrl-C.
    """
    screen, began = terminal.console(), time.perf_counter()
    screen.print(f"Demonstration, seed {settings.seed}, in {folder}", soft_wrap=True)
    if figures:
        # Report a missing extra now, not after a minute of training.
        extra("matplotlib", "figures need matplotlib")
    terminal.writable(folder)
    found = _demonstrated(settings, folder, figures, screen)
    terminal.summary(screen, reports.report(found), folder, time.perf_counter() - began)


def run_seeds(seeds: range, layers: int, quick: bool, folder: Path) -> None:
    """Run several demonstrations, skip those that are finished, and compare them.

    Raises:
        StoppedError: on Ctrl-C. Finished demonstrations are kept and not run again.
    """
    screen, began = terminal.console(), time.perf_counter()
    terminal.writable(folder)
    folders = []
    for seed in seeds:
        settings, one = settings_for(seed, layers, quick), folder / f"seed-{seed}"
        folders.append(one)
        if _finished(one, settings):
            screen.print(f"seed {seed}: already finished")
            continue
        screen.print(f"seed {seed} ({seed - seeds.start + 1} of {len(seeds)})")
        _demonstrated(settings, one, False, screen)
    result = across_seeds(folders)
    reports.write_text(folder / "seeds.md", result.markdown())
    reports.write_text(folder / "seeds.json", json.dumps(result.summary, indent=1) + "\n")
    screen.print(result.markdown(), soft_wrap=True)
    screen.print(f"{folder / 'seeds.md'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)


def _demonstrated(settings: DemonstrationSettings, folder: Path, figures: bool, screen: "Console") -> Demonstration:
    stages = terminal.Stages(screen)
    try:
        with stages:
            found = demonstrations.demonstrate(settings, folder, stages)
            stages("writing", 0, 1)
            reports.write_report(found, folder, figures, stages)
    except KeyboardInterrupt as error:
        raise StoppedError(terminal.interrupted(stages, folder, _step), INTERRUPTED) from error
    return found


def settings_for(seed: int, layers: int, quick: bool) -> DemonstrationSettings:
    return (
        DemonstrationSettings.quick(seed, layers) if quick else DemonstrationSettings(seed, TrainingPlan(layers=layers))
    )


def _finished(folder: Path, settings: DemonstrationSettings) -> bool:
    try:
        with open(folder / "report.json", encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return False
    same = content.get("format") == reports.FORMAT and content.get("settings") == reports.settings_of(settings)
    return same and (folder / "matrices.npz").exists()


def _step(checkpoint: Path) -> int | None:
    """Return the step of a checkpoint, or None if the file cannot be read."""
    try:
        with open(checkpoint, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return int(file["step"])
    except Exception:  # the next run reports what is wrong with the file
        return None
