"""Do many seeds agree? Readings, verdicts and aligned weights of several demonstrations side by side."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble.exact import Stabiliser
from jaxdescramble.findings import fourier_map
from jaxdescramble.findings.agreement import chance_twin, mean_over_pairs, pairwise_cosines
from jaxdescramble.operators import derivative
from jaxdescramble.studies.deernet.contents import ReportContent


class FindingCounts(TypedDict):
    """A claim of the paper, and how many seeds give each verdict."""

    claim: str
    layer: str
    depends_on_point: bool
    verdicts: dict[str, int]


class HeadlineRow(TypedDict):
    """One number of every seed."""

    name: str
    mean: float
    worst: float
    values: list[float]


class NullRow(TypedDict):
    """A null of a reading, its draws pooled over seeds. The effect is None if the draws are all alike."""

    mean: float
    sd: float
    draws: int
    effect: float | None


class ReadingRow(TypedDict):
    """A reading of every seed beside its nulls."""

    layer: str
    name: str
    depends_on_point: bool
    mean: float
    sd: float
    values: list[float]
    nulls: dict[str, NullRow]


class AgreementRow(TypedDict):
    """How similar the weights of different seeds are, and the same by chance."""

    name: str
    value: float
    chance: float


class SeedsSummary(TypedDict):
    """The data of a `SeedsReport`."""

    seeds: list[int]
    settings: dict[str, object]
    hardware: dict[str, object]
    findings: list[FindingCounts]
    headline: list[HeadlineRow]
    readings: list[ReadingRow]
    agreement: list[AgreementRow]


@dataclass(frozen=True)
class SeedsReport:
    """What several demonstrations have in common: `markdown()` is a page to read, `summary` holds the data."""

    summary: SeedsSummary

    def markdown(self) -> str:
        """Return the tables as a Markdown page."""
        seeds, lines = self.summary["seeds"], []
        lines += [f"# DEERNet demonstration, seeds {seeds[0]} to {seeds[-1]}", "", _setting(self.summary), ""]
        lines += ["## Verdicts", "", "| finding of the paper | verdict (seeds) | depends on P |", "|---|---|---|"]
        for finding in self.summary["findings"]:
            counts = ", ".join(f"{verdict} {count}" for verdict, count in finding["verdicts"].items())
            lines.append(f"| {finding['claim']} | {counts} | {'yes' if finding['depends_on_point'] else 'no'} |")
        lines += ["", "## Headline numbers", "", "| | mean | worst |", "|---|---|---|"]
        lines += [f"| {row['name']} | {row['mean']:.3g} | {row['worst']:.3g} |" for row in self.summary["headline"]]
        names = list(self.summary["readings"][0]["nulls"])
        lines += ["", "## Readings beside their nulls, mean +- sd over seeds", ""]
        lines += ["Effect: (mean of the readings - mean of the null) / sd of the null, nulls pooled over seeds.", ""]
        lines += ["| layer | reading | P | value | " + " | ".join(f"{name} (effect)" for name in names) + " |"]
        lines += ["|" + "---|" * (4 + len(names))]
        for row in self.summary["readings"]:
            cells = [f"{null['mean']:.3g} +- {null['sd']:.2g} ({_effect(null)})" for null in row["nulls"].values()]
            lines.append(
                f"| {row['layer']} | {row['name']} | {'yes' if row['depends_on_point'] else 'no'} | "
                f"{row['mean']:.3g} +- {row['sd']:.2g} | {' | '.join(cells)} |"
            )
        lines += ["", "## Agreement between seeds", "", "| | seeds | chance |", "|---|---|---|"]
        lines += [f"| {row['name']} | {row['value']:.3f} | {row['chance']:.3f} |" for row in self.summary["agreement"]]
        return "\n".join(lines) + "\n"


def across_seeds(folders: Sequence[Path]) -> SeedsReport:
    """Combine the reports of several demonstrations.

    Args:
        folders: one folder per seed, each with the `report.json` and `matrices.npz` of a demonstration.

    Returns:
        A `SeedsReport`.

    Raises:
        ValueError: if there are no folders; if a report is missing, or has other settings than the first one.
    """
    if not folders:
        raise ValueError("folders: got no folders; must be at least one.")
    reports = [_read(Path(folder)) for folder in folders]
    first = reports[0]
    for folder, report in zip(folders, reports, strict=True):
        if _without_seed(report) != _without_seed(first):
            raise ValueError(f"{folder}: has other settings than {folders[0]}; only the seeds may differ.")
    matrices = []
    for folder in folders:
        with open(Path(folder) / "matrices.npz", "rb") as opened, np.load(opened) as file:
            matrices.append({name: file[name] for name in file.files})
    return SeedsReport(
        {
            "seeds": [report["settings"]["seed"] for report in reports],
            "settings": _without_seed(first),
            "hardware": first.get("hardware", {}),
            "findings": _findings(reports),
            "headline": _headline(reports),
            "readings": _readings(reports),
            "agreement": _agreement(matrices),
        }
    )


def _read(folder: Path) -> ReportContent:
    try:
        return json.loads((folder / "report.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: no readable report.json ({error}). Run the demonstration first.") from error


def _without_seed(report: ReportContent) -> dict[str, object]:
    return {name: value for name, value in report["settings"].items() if name != "seed"}


def _setting(summary: SeedsSummary) -> str:
    hardware = ", ".join(f"{name} {value}" for name, value in summary["hardware"].items())
    return f"`jaxdescramble seeds --first {summary['seeds'][0]} --count {len(summary['seeds'])}`; {hardware}."


def _effect(null: NullRow) -> str:
    return "-" if null["effect"] is None else f"{null['effect']:+.1f}"


def _findings(reports: list[ReportContent]) -> list[FindingCounts]:
    rows: list[FindingCounts] = []
    for finding in reports[0]["findings"]:
        verdicts = Counter(
            one["verdict"] for report in reports for one in report["findings"] if one["claim"] == finding["claim"]
        )
        rows.append(
            {
                "claim": finding["claim"],
                "layer": finding["layer"],
                "depends_on_point": finding["depends_on_point"],
                "verdicts": dict(verdicts.most_common()),
            }
        )
    return rows


def _headline(reports: list[ReportContent]) -> list[HeadlineRow]:
    rows: list[HeadlineRow] = []

    def add(name: str, values: list[float], worst: Callable[[list[float]], float]) -> None:
        rows.append({"name": name, "mean": float(np.mean(values)), "worst": float(worst(values)), "values": values})

    for layer in reports[0]["smoothness"]:
        for key, words in (("fall", "smoothness falls by"), ("fall_held_out", "smoothness falls by, held-out signals")):
            add(f"{layer}: {words}", [report["smoothness"][layer][key] for report in reports], min)
        add(
            f"{layer}: float32 value above the float64 optimum, relative",
            [report["smoothness"][layer]["descrambled"] / report["smoothness"][layer]["float64_bound"] - 1
             for report in reports], lambda values: max(values, key=abs),
        )  # fmt: skip
    add("relative change of the function", [report["function_change"] for report in reports], max)
    for name in reports[0]["agreement"]:
        values = [report["agreement"][name]["correlation"] for report in reports]
        add(f"correlation, {name}", values, min)
    add("seconds, total", [sum(report["seconds"].values()) for report in reports], max)
    return rows


def _readings(reports: list[ReportContent]) -> list[ReadingRow]:
    rows: list[ReadingRow] = []
    for layer, group in reports[0]["readings"].items():
        for i, reading in enumerate(group):
            same = [report["readings"][layer][i] for report in reports]
            values = np.asarray([one["value"] for one in same], float)
            nulls: dict[str, NullRow] = {}
            for name in reading["nulls"]:
                draws = np.concatenate([np.asarray(one["nulls"][name]["draws"], float) for one in same])
                sd = float(draws.std(ddof=1)) if len(draws) > 1 else 0.0
                resolved = sd > 1e-6 * max(float(np.abs(draws).max(initial=0)), 1e-12)
                effect = float((values.mean() - draws.mean()) / sd) if resolved else None
                nulls[name] = {"mean": float(draws.mean()), "sd": sd, "draws": len(draws), "effect": effect}
            sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            rows.append(
                {
                    "layer": layer,
                    "name": reading["name"],
                    "depends_on_point": reading["depends_on_point"],
                    "mean": float(values.mean()),
                    "sd": sd,
                    "values": values.tolist(),
                    "nulls": nulls,
                }
            )
    return rows


def _agreement(matrices: list[dict[str, np.ndarray]]) -> list[AgreementRow]:
    """Measure how similar the descrambled weights of different seeds are after alignment, and compare with chance.

    The random twin of a descrambled weight keeps its singular values and link vectors; its input frame is random. The
    number is the cosine between matrices, averaged over pairs of seeds.
    """
    rows: list[AgreementRow] = []
    for name, words, link_first in (("first", "layer 1, P W", True), ("last", "last layer, W Q^T", False)):
        weights = jnp.stack([jnp.asarray(one[name] if link_first else one[name].T) for one in matrices])
        keys = jax.random.split(jax.random.key(0), len(weights))
        chance = jax.vmap(chance_twin)(keys, weights)
        raw = jnp.stack([jnp.asarray(one[f"raw_{name}"] if link_first else one[f"raw_{name}"].T) for one in matrices])
        for label, one, other in (
            (f"{words}: correlation after alignment", _pairs(weights, True), _pairs(chance, True)),
            (f"{words}: before alignment", _pairs(weights, False), _pairs(chance, False)),
            (f"{words}: raw weights, aligned too", _pairs(raw, True), _pairs(chance, True)),
            (f"{words}: Fourier maps |F+ W F-|", _maps(weights), _maps(chance)),
        ):
            rows.append({"name": label, "value": float(one), "chance": float(other)})
    return rows


def _pairs(weights: Float[Array, "seeds link input"], aligned: bool) -> Array:
    gauge = Stabiliser(derivative(weights.shape[1])) if aligned else None
    return mean_over_pairs(pairwise_cosines(weights, gauge))


def _maps(weights: Float[Array, "seeds link input"]) -> Array:
    maps = jax.vmap(lambda weight: jnp.ravel(fourier_map(weight).magnitude))(weights)
    maps = maps - maps.mean(axis=1, keepdims=True)
    maps = maps / jnp.linalg.norm(maps, axis=1, keepdims=True)
    return mean_over_pairs(maps @ maps.T)
