"""The result of `explain`: verdicts, layers, one sentence, and one page."""

import dataclasses
import json
import math
import os

import numpy as np
from jaxtyping import Float

from jaxdescramble._base import results
from jaxdescramble._base.checks import file_path
from jaxdescramble._base.files import write_arrays, write_atomically
from jaxdescramble._base.results import Result
from jaxdescramble.findings.explanations import _page, sentences, waves
from jaxdescramble.findings.explanations.waves import LayerWave

FORMAT = 1


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict(Result):
    """One reading of one layer, and whether it is a finding.

    Attributes:
        layer: name of the layer.
        reading: name of the reading.
        value: its value.
        direction: +1 if large values are the finding, -1 if small values are, 0 if both are.
        depends_on_point: whether the descrambler can change the value.
        p_value: the largest of `p_values`: the probability that a network without findings shows a reading as extreme
            as this one *anywhere* (all layers and readings are counted). NaN if no null can change the reading.
        p_values: the corrected p-value against each null; NaN for a null that cannot change the reading.
        nulls: mean and standard deviation of the draws of each null.
        effect: distance of the value from the draws, in the direction of a finding and in standard deviations of the
            draws; the smallest one over the nulls that can change the reading. NaN if there is none.
        note: what the reading is, in one line.
        interval: 95% interval of the value, if `explain` was called with `intervals`: the middle 95% of resamples of
            the groups of samples. It says how much the value depends on which samples were taken. None if there is
            none.
        claim: what a finding says, in plain words; "" if the reading is no finding.
        look_at: where you can see a finding on the page; "" if the reading is no finding.
    """

    layer: str
    reading: str
    value: float
    direction: int
    depends_on_point: bool
    p_value: float
    p_values: dict[str, float]
    nulls: dict[str, tuple[float, float]]
    effect: float
    note: str
    interval: tuple[float, float] | None = None
    claim: str = ""
    look_at: str = ""

    @property
    def sentence(self) -> str:
        """The verdict as a sentence: what was found, the value, what the nulls give, and the p-value."""
        return sentences.sentence(self)

    def __str__(self) -> str:
        return self.sentence + (f" Look at {self.look_at}." if self.look_at else "")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class LayerExplanation(Result):
    """One layer before and after descrambling, with the draws that its readings are judged by.

    Attributes:
        name: name of the layer.
        before: the weight W, shape (out, in).
        after: the weight in the descrambled frames, `P W Q^T`; an ordered axis keeps its order.
        null: one draw of the first null, descrambled in the same way.
        null_name: name of that null.
        singular_values: singular values of W, descending.
        edge: the largest singular value that noise of this shape and norm would have (Marchenko-Pastur).
        columns: number of columns of signals in each half.
        ordered: which axes count as ordered: "outputs", "inputs", both, or none.
        draws: readings of the draws, one array (draws, readings) for each null; the readings are those of `verdicts`.
        verdicts: the readings of this layer.
        waves: the strongest waves, up to six.
        grid: (channels, points, ...), the sizes of the input axis if it is ordered, else ().
        link: its place: "reads the network's inputs", "gives the network's outputs", both, or "hidden layer"; for
            layers that were given as arrays, also "first layer" and "last layer". "" means unknown.
        mean_energy: share of the energy that the mean over samples carries, of the input signals and of the
            preactivations.
    """

    name: str
    before: Float[np.ndarray, "n m"]
    after: Float[np.ndarray, "n m"]
    null: Float[np.ndarray, "n m"]
    null_name: str
    singular_values: Float[np.ndarray, " r"]
    edge: float
    columns: tuple[int, int]
    ordered: tuple[str, ...]
    draws: dict[str, Float[np.ndarray, "draws readings"]]
    verdicts: tuple[Verdict, ...]
    waves: tuple[LayerWave, ...] = ()
    grid: tuple[int, ...] = ()
    link: str = ""
    mean_energy: tuple[float, float] = (math.nan, math.nan)

    @property
    def note(self) -> str:
        """A caution if the mean over samples carries most of the energy of the signals, or ""."""
        return sentences.mean_note(self.mean_energy)

    def plot(self) -> "Plot":
        """Return a picture of the layer: before, after, one draw of a null, and the strongest reading with its p-value.

        It is SVG, which notebooks show; `plot().save("layer.html")` writes a file.
        """
        return Plot(_page.layer(self))


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture as HTML with SVG inside."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture as an HTML file.

        Raises:
            OSError: if the file cannot be written.
        """
        text = f"<!doctype html><meta charset='utf-8'><title>layer</title>{self.html}"
        write_atomically(file_path(path, "path"), lambda file: file.write(text.encode()))


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Report(Result):
    """What was found in a network, what chance would have shown, and what to look at.

    Attributes:
        layers: for each layer its `LayerExplanation`.
        verdicts: every reading of every layer: smallest p-value first, and among equal ones the largest effect first.
        headline: the result in one sentence.
        alpha: a reading is a finding if its p-value is at most this.
        draws: number of draws from each null; a null of trained networks may have fewer, see `null_draws`.
        nulls: names of the nulls that had to be beaten.
        samples: number of samples in each half.
        groups: number of groups of samples.
        skipped: layers that were not judged, with the reasons.
        descriptions: comparisons that are no tests: where the network lies among other networks, and its readings with
            shuffled inputs.
        stopped: "" if all draws were made; otherwise why not.
        intervals: a sentence about the intervals of the verdicts; "" if none were asked for.
    """

    layers: dict[str, LayerExplanation]
    verdicts: tuple[Verdict, ...]
    headline: str
    alpha: float
    draws: int
    nulls: tuple[str, ...]
    samples: tuple[int, int]
    groups: int
    skipped: dict[str, str]
    descriptions: dict[str, dict[str, float]]
    stopped: str = ""
    intervals: str = ""

    @property
    def findings(self) -> tuple[Verdict, ...]:
        """The readings that beat every null that applies to them."""
        return tuple(one for one in self.verdicts if one.p_value <= self.alpha)

    @property
    def null_draws(self) -> dict[str, int]:
        """Number of draws from each null; N draws give p-values down to `1 / (N + 1)`."""
        first = next(iter(self.layers.values()))
        return {name: len(rows) for name, rows in first.draws.items()}

    def check(self) -> "Report":
        """Return this report if every layer was judged with all draws.

        Raises:
            ValueError: if layers were skipped, or if the work was stopped early.
        """
        if self.skipped or self.stopped:
            lines = [f"{name}: {why}" for name, why in self.skipped.items()]
            raise ValueError("explain: " + "; ".join([*lines, *([self.stopped] if self.stopped else [])]) + ".")
        return self

    def __repr__(self) -> str:
        text = self.headline if len(self.headline) <= 240 else self.headline[:239] + "…"
        return f"Report({text!r}, {len(self.layers)} layers)"

    def _repr_html_(self) -> str:
        rows = [(f"{one.layer}: {one.reading}", _page.sentence(one)) for one in self.findings[:8]]
        drawn = "".join(_page.thumbnail(one) for one in list(self.layers.values())[:3])
        return results.laid_out(self.headline, drawn, rows)

    def page(self) -> str:
        """Return the report as one HTML page without other files."""
        return _page.whole(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder: `index.html` for people, `report.json` for programs, `arrays.npz` with matrices and draws.

        Raises:
            OSError: if a file cannot be written (a full disk); files that are already there stay whole.
        """
        place = file_path(folder, "folder")
        place.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, np.ndarray] = {}
        for number, one in enumerate(self.layers.values()):
            for name in ("before", "after", "null", "singular_values"):
                arrays[f"{number}/{name}"] = getattr(one, name)
            arrays[f"{number}/waves"] = np.asarray([wave.weights for wave in one.waves]).reshape(-1, one.after.shape[1])
            for name, drawn in one.draws.items():
                arrays[f"{number}/draws/{name}"] = drawn
        write_arrays(place / "arrays.npz", arrays)
        text = json.dumps(self._as_json(), indent=1, allow_nan=False, ensure_ascii=False)
        write_atomically(place / "report.json", lambda file: file.write(text.encode()))
        write_atomically(place / "index.html", lambda file: file.write(self.page().encode()))

    def _as_json(self) -> dict[str, object]:
        layers = [
            {
                "name": one.name,
                "shape": list(one.before.shape),
                "null": one.null_name,
                "edge": one.edge,
                "columns": list(one.columns),
                "ordered": list(one.ordered),
                "nulls": list(one.draws),
                "readings": [verdict.reading for verdict in one.verdicts],
                "link": one.link,
                "grid": list(one.grid),
                "mean_energy": list(one.mean_energy),
                "note": one.note,
                "waves": waves.as_json(one.waves),
            }
            for one in self.layers.values()
        ]
        own = {
            name: getattr(self, name)
            for name in (
                "headline",
                "alpha",
                "draws",
                "null_draws",
                "samples",
                "groups",
                "skipped",
                "descriptions",
                "stopped",
                "intervals",
                "nulls",
            )
        }
        verdicts = [dataclasses.asdict(one) | {"sentence": one.sentence} for one in self.verdicts]
        return {
            "format": FORMAT,
            "kind": "Report",
            **own,
            "layers": _without_nan(layers),
            "verdicts": _without_nan(verdicts),
        }

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> "Report":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if the folder has no `report.json`.
            ValueError: if it holds something else, another version, or damaged files.
        """
        place = file_path(folder, "folder")
        try:
            about = json.loads((place / "report.json").read_text())
            if about.get("kind") != "Report" or about.get("format") != FORMAT:
                raise ValueError(
                    f"kind {about.get('kind')!r}, format {about.get('format')!r}; this version reads 'Report', {FORMAT}"
                )
            verdicts = tuple(_verdict(one) for one in about["verdicts"])
            with np.load(place / "arrays.npz", allow_pickle=False) as file:
                layers = {
                    one["name"]: _layer(number, one, verdicts, {name: file[name] for name in file.files})
                    for number, one in enumerate(about["layers"])
                }
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, OSError, AttributeError) as error:
            raise ValueError(
                f"folder: {place} holds no whole report ({error}); write it again with .save()."
            ) from error
        return Report(
            layers=layers,
            verdicts=verdicts,
            headline=about["headline"],
            alpha=about["alpha"],
            draws=about["draws"],
            nulls=tuple(about["nulls"]),
            samples=(about["samples"][0], about["samples"][1]),
            groups=about["groups"],
            skipped=about["skipped"],
            descriptions=about["descriptions"],
            stopped=about["stopped"],
            intervals=about["intervals"],
        )


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _verdict(found: dict) -> Verdict:
    found.pop("sentence", None)
    nulls = {name: (_number(mean), _number(spread)) for name, (mean, spread) in found.pop("nulls").items()}
    p_values = {name: _number(value) for name, value in found.pop("p_values").items()}
    value, p_value, effect = (_number(found.pop(name)) for name in ("value", "p_value", "effect"))
    ends = found.pop("interval", None)
    interval = None if ends is None else (ends[0], ends[1])
    own = {"value": value, "p_value": p_value, "effect": effect, "interval": interval}
    return Verdict(p_values=p_values, nulls=nulls, **own, **found)


def _layer(number: int, about: dict, verdicts: tuple[Verdict, ...], arrays: dict[str, np.ndarray]) -> LayerExplanation:
    own = {one.reading: one for one in verdicts if one.layer == about["name"]}
    layer = LayerExplanation(
        name=about["name"],
        before=arrays[f"{number}/before"],
        after=arrays[f"{number}/after"],
        null=arrays[f"{number}/null"],
        null_name=about["null"],
        singular_values=arrays[f"{number}/singular_values"],
        edge=about["edge"],
        columns=(about["columns"][0], about["columns"][1]),
        ordered=tuple(about["ordered"]),
        draws={name: arrays[f"{number}/draws/{name}"] for name in about["nulls"]},
        verdicts=tuple(own[name] for name in about["readings"]),
    )
    if "waves" not in about:  # written before reports had waves
        return layer
    return dataclasses.replace(
        layer,
        waves=waves.from_json(about["waves"], arrays[f"{number}/waves"]),
        grid=tuple(about["grid"]),
        link=about["link"],
        mean_energy=(_number(about["mean_energy"][0]), _number(about["mean_energy"][1])),
    )
