"""The report of a demonstration: numbers in JSON, matrices, figures, and a page that shows them in order.

Every file is replaced whole or not at all. Numbers are written first, so that a later error does not lose them.
"""

import functools
import json
import math
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdescramble._base.files import write_arrays, write_atomically
from jaxdescramble.findings import Reading
from jaxdescramble.show.figures import first_layer_figure, last_layer_figure, products_figure, vectors_figure
from jaxdescramble.show.page import page
from jaxdescramble.show.papers.evidence import nulls_figure, replica_figure
from jaxdescramble.show.style import save
from jaxdescramble.studies.deernet.claims import beaten
from jaxdescramble.studies.deernet.contents import ReportContent, SettingsContent
from jaxdescramble.studies.deernet.demonstration import Demonstration, DemonstrationSettings, Progress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
FIGURES: dict[str, Callable[[Demonstration], "Figure"]] = {
    "figure-2-first-layer": first_layer_figure,
    "figure-3-last-layer": last_layer_figure,
    "figure-4-products": products_figure,
    "figure-5-vectors": vectors_figure,
    "figure-6-replica": replica_figure,
    "figure-7-nulls": nulls_figure,
}


def write_report(
    demonstration: Demonstration, folder: str | os.PathLike, figures: bool = True, progress: Progress | None = None
) -> Path:
    """Write `report.json`, `matrices.npz`, the figures (PNG and PDF) and `index.html`.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.
        folder: path of the folder. It is made if needed, and files of the same names are replaced.
        figures: whether to draw the figures, which need matplotlib.
        progress: called as `progress("drawing", done, total)`.

    Returns:
        The path of `index.html`.

    Raises:
        ImportError: if figures are wanted and matplotlib is not installed. Numbers and matrices are written before.
        OSError: if a file cannot be written. Files written before are complete.
    """
    folder, content = Path(folder), report(demonstration)
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(folder / "report.json", text + "\n")
    write_arrays(folder / "matrices.npz", matrices(demonstration))
    drawn = []
    for done, (name, draw) in enumerate(FIGURES.items() if figures else ()):
        if progress is not None:
            progress("drawing", done, len(FIGURES))
        write_figure(folder / name, draw(demonstration))
        drawn.append(name)
    write_text(folder / "index.html", page(content, drawn))
    return folder / "index.html"


def report(demonstration: Demonstration) -> ReportContent:
    """Collect all results as numbers for JSON. Numbers that are not finite become None.

    Args:
        demonstration: result of `jaxdescramble.studies.deernet.demonstration.demonstrate`.

    Returns:
        A dictionary with "settings", "training", "smoothness", "function_change", "agreement", "readings" (by layer, a
        list of readings with their nulls), "findings", "seconds", "versions" and "hardware".
    """
    losses = np.asarray(demonstration.net.losses, np.float64)
    tail = losses[-min(100, len(losses)) :]
    content = {
        "format": FORMAT,
        "settings": settings_of(demonstration.settings),
        "training": {"first_loss": losses[0], "last_loss": tail.mean(), "steps": len(losses)},
        "smoothness": {
            name: {**asdict(value), "fall": value.fall, "fall_held_out": value.fall_held_out}
            for name, value in demonstration.smoothness.items()
        },
        "function_change": demonstration.function_change,
        "agreement": {name: value._asdict() for name, value in demonstration.agreement.items()},
        "readings": {layer: [_reading(one) for one in group] for layer, group in demonstration.readings.items()},
        "findings": [asdict(finding) for finding in demonstration.findings],
        "seconds": demonstration.seconds,
        "versions": {name: version(name) for name in ("jaxdescramble", "jax", "jaxlib", "numpy")}
        | {"python": platform.python_version()},
        "hardware": {
            "platform": jax.default_backend(),
            "device_kind": jax.devices()[0].device_kind,
            "machine": platform.machine(),
            "processors": os.cpu_count(),
        },
    }
    return _plain(content)


def settings_of(settings: DemonstrationSettings) -> SettingsContent:
    """Return settings in the form in which `report.json` has them, for comparison."""
    return json.loads(json.dumps(asdict(settings)))


def matrices(demonstration: Demonstration) -> dict[str, np.ndarray]:
    """Collect weights and frames. "first", "middle" (if there is one) and "last" are descrambled weights.

    "raw_first", "P_first", "Q_last" and so on are the raw weights and the descramblers. "Q_joint_last" belongs to the
    paper's joint tap.
    """
    grid, layers = demonstration.settings.plan.grid, list(demonstration.layers.values())
    found: dict[str, np.ndarray] = {"time_us": grid.time, "distance_angstrom": grid.distance}
    places = ("first", *["middle"] * (len(layers) - 2), "last")
    raw = [demonstration.net.params[name] for name in sorted(demonstration.net.params)]
    for place, layer, weight in zip(places, layers, raw, strict=True):
        found[place], found[f"raw_{place}"] = np.asarray(layer.weight), np.asarray(weight)
        for letter, side in (("P", layer.output), ("Q", layer.input)):
            if side is not None:
                found[f"{letter}_{place}"] = np.asarray(side.point)
    if demonstration.joint.input is not None:
        found["Q_joint_last"] = np.asarray(demonstration.joint.input.point)
    return found


def write_text(path: Path, text: str) -> None:
    """Write a text file; replace it whole or not at all."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG and as PDF; replace each file whole or not at all."""
    for kind in ("png", "pdf"):
        write_atomically(path.with_name(f"{path.name}.{kind}"), functools.partial(save, figure, kind=kind))


def _reading(reading: Reading) -> dict[str, object]:
    verdicts = beaten(reading)
    nulls = {
        name: {
            "draws": np.asarray(draws, np.float64).tolist(),
            "mean": _finite(draws).mean() if len(_finite(draws)) else None,
            "sd": _finite(draws).std(ddof=1) if len(_finite(draws)) > 1 else None,
            "difference": reading.difference[name],
            "effect": reading.effect[name],
            "p_value": reading.p_value[name],
            "beaten": verdicts.get(name),
        }
        for name, draws in reading.nulls.items()
    }
    fields = ("name", "value", "unit", "depends_on_point", "direction", "note")
    return {**{name: getattr(reading, name) for name in fields}, "nulls": nulls}


def _finite(draws: np.ndarray) -> np.ndarray:
    draws = np.asarray(draws, np.float64)
    return draws[np.isfinite(draws)]


def _plain(value: Any) -> Any:
    """Convert to dictionaries, lists, strings, numbers and None."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | Iterator):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
