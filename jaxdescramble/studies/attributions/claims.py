"""The claims made for inactive-state sensitivity, each held against six configurations, and the tables behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdescramble.studies.attributions.saliency import CONTROLS, METHODS
from jaxdescramble.studies.findings import FAILS, IN_PART, STANDS

Cells = Sequence[Mapping[str, Any]]
OTHERS = tuple(name for name in METHODS if name != "Insens")
NOISE, STEP = "0.3", "0.3"


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it: "stands" where it holds in every configuration, "stands in part" in some.

    Attributes:
        claim: in a few words.
        verdict: one of `findings`' constants.
        holds: by configuration, whether it does, by means over seeds.
        because: the numbers behind it.
    """

    claim: str
    verdict: str
    holds: dict[str, bool]
    because: str


def configurations(cells: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """Cells by "set, network", in their order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        found.setdefault(f"{cell['set']}, {cell['network']}", []).append(cell)
    return found


def outline(cell: Mapping[str, Any], name: str) -> float:
    """Accuracy of test a, mean over levels of noise, or at one: "outline" or "outline, 0.5"."""
    name, _, level = name.partition(", ")
    levels = cell["outline"][name]
    return levels[level] if level else float(np.mean(list(levels.values())))


def kept(cell: Mapping[str, Any], name: str) -> float:
    """Mean accuracy of test b over levels of noise and shares of pixels kept."""
    return float(np.mean(list(cell["kept"][name].values())))


def under_noise(cell: Mapping[str, Any], name: str) -> float:
    """Cosine of test c."""
    return cell["noise"][name][NOISE]


def woken(cell: Mapping[str, Any], name: str) -> float:
    """Share of silent neurons that a step of test d wakes."""
    return cell["steps"][name][STEP]["woken"]


def randomised(cell: Mapping[str, Any], name: str) -> float:
    """Rank correlation of test e, all layers drawn anew, where there is ink."""
    return cell["random"][name]["all layers, ink"]


# Title, what is shown, rows, and how a row is read off a cell.
TABLES: tuple[tuple[str, str, tuple[str, ...], Callable[[Mapping[str, Any], str], float]], ...] = (
    (
        "The networks",
        "On unseen pictures; the paper's network: .99 and .17.",
        ("accuracy", "active"),
        lambda cell, name: cell[name],
    ),
    (
        "a. What stays clean",
        "Accuracy, the rest replaced by noise, uniform in [0, a]: the figure and three pixels around it, the figure "
        "alone, the figure and as many pixels elsewhere, those farthest away. Means over a = 0.25, 0.5, 1, and at "
        "a = 1. The paper, at its noise: .87, .32, .45.",
        ("outline", "figure", "elsewhere", "outline, 1.0", "figure, 1.0", "elsewhere, 1.0"),
        outline,
    ),
    (
        "b. The strongest pixels stay clean",
        "Accuracy, the rest replaced by noise in [0, a]: mean over 2, 5, 10, 20, 30, 50% of the pixels kept and over "
        "a = 0.25, 0.5, 1. The last four know nothing of the trained network.",
        (*METHODS, *CONTROLS),
        kept,
    ),
    (
        "c. Under noise",
        f"Cosine between the maps of a picture and of one with noise of standard deviation {NOISE}, cut to [0, 1], "
        "where the class stays; and of the pictures themselves.",
        (*METHODS, "input"),
        under_noise,
    ),
    (
        "d. States of neurons",
        f"Share of silent neurons woken by a step of {STEP} of the picture's length.",
        ("+Insens", "-Insens", "random", "+input", "-input", "+gradient", "-gradient"),
        woken,
    ),
    (
        "e. Other parameters",
        "Rank correlation between the moduli of maps, over the pixels with ink, of the trained network and of one "
        "with all parameters drawn anew.",
        tuple(METHODS),
        randomised,
    ),
    (
        "Likeness to the input",
        "Cosine between map and picture.",
        (*METHODS, "edges", "Insens, untrained"),
        lambda cell, name: cell["input"][name],
    ),
)


def judge(cells: Cells) -> list[Claim]:
    """A verdict on each claim, by fixed rules on means over seeds."""
    groups = configurations(cells)

    def mean(read: Callable[[Mapping[str, Any], str], float], group: Cells, name: str) -> float:
        return float(np.mean([read(cell, name) for cell in group]))

    def best(read: Callable[[Mapping[str, Any], str], float], group: Cells) -> tuple[str, float]:
        return max(((name, mean(read, group, name)) for name in OTHERS), key=lambda pair: pair[1])

    def claim(words: str, rule: Callable[[Cells], tuple[bool, str]]) -> Claim:
        told = {name: rule(group) for name, group in groups.items()}
        holds = {name: yes for name, (yes, _) in told.items()}
        verdict = STANDS if all(holds.values()) else IN_PART if any(holds.values()) else FAILS
        return Claim(words, verdict, holds, "; ".join(f"{name}: {why}" for name, (_, why) in told.items()))

    def outlined(group: Cells) -> tuple[bool, str]:
        near, alone, far = (mean(outline, group, name) for name in ("outline", "figure", "elsewhere"))
        return near > max(alone, far), f"{near:.2f} against {far:.2f} elsewhere, {alone:.2f} without"

    def chooses(group: Cells) -> tuple[bool, str]:
        own, (name, other) = mean(kept, group, "Insens"), best(kept, group)
        return own > other, f"{own:.2f}, {name} {other:.2f}"

    def above_controls(group: Cells) -> tuple[bool, str]:
        own = mean(kept, group, "Insens")
        name, other = max(((one, mean(kept, group, one)) for one in CONTROLS), key=lambda pair: pair[1])
        return own > other, f"{own:.2f}, {name} {other:.2f}"

    def steady(group: Cells) -> tuple[bool, str]:
        own, (name, other) = mean(under_noise, group, "Insens"), best(under_noise, group)
        return own > other, f"{own:.3f}, {name} {other:.3f}"

    def keeps(group: Cells) -> tuple[bool, str]:
        on, back, chance = (mean(woken, group, name) for name in ("+Insens", "-Insens", "random"))
        why = f"{100 * on:.1f}% woken, {100 * back:.1f}% backwards, {100 * chance:.1f}% at random"
        return on < min(back, chance), why

    def learned(group: Cells) -> tuple[bool, str]:
        own = mean(randomised, group, "Insens")
        like = float(np.mean([cell["input"]["Insens"] for cell in group]))
        return own < 0.5, f"{own:.2f} with all parameters drawn anew, cosine with the input {like:.2f}"

    return [
        claim("The background just around a figure matters more than as much of it elsewhere", outlined),
        claim("Insens finds the pixels that the network needs better than the other methods", chooses),
        claim("Insens finds them better than controls that know nothing of the network", above_controls),
        claim("Insens changes less under noise than the other methods, where the class stays", steady),
        claim("A step along Insens wakes fewer silent neurons than one backwards or at random", keeps),
        claim("Insens shows what was learned: other parameters give another map (rank correlation below .5)", learned),
    ]


def markdown(cells: Cells, settings: Mapping[str, Any], setting: str) -> str:
    """The tables, as a page."""
    groups = configurations(cells)
    lines = ["# Insens and other attributions, put to the test", "", setting, ""]
    lines += [
        f"{settings['seeds']} seeds of each configuration, {settings['pictures']} unseen pictures (all for accuracies "
        "and test a). Means +- standard deviations over seeds; claims are judged on the means.",
        "",
        "| claim | verdict | numbers |",
        "|---|---|---|",
    ]
    lines += [f"| {one.claim} | {one.verdict} | {one.because} |" for one in judge(cells)]

    for title, words, rows, read in TABLES:
        lines += ["", f"## {title}", "", words, "", f"| | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
        for row in rows:
            found = (spread([read(cell, row) for cell in group]) for group in groups.values())
            lines.append(f"| {row} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation.

    >>> spread([0.25, 0.75]), spread([0.5])
    ('0.500 +- 0.354', '0.500')
    """
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} +- {np.std(values, ddof=1):.3f}"
