"""Verdicts on the claims for inactive-state sensitivity (Insens) over six configurations, and tables of numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from jaxdescramble.studies.attributions.saliency import CONTROLS, METHODS
from jaxdescramble.studies.deernet.claims import FAILS, IN_PART, STANDS

OTHERS = tuple(name for name in METHODS if name != "Insens")
NOISE, STEP = "0.1", "0.3"


class Cell(TypedDict):
    """The numbers of one trained network. `TABLES` explains the tests, from "outline" to "input".

    Most numbers are given by the name of a method, then by a setting such as the level of noise.
    """

    set: str
    network: str
    seed: int
    arrays: str
    settings: dict[str, object]
    accuracy: float
    active: float
    outline: dict[str, dict[str, float]]
    kept: dict[str, dict[str, list[float]]]
    noise: dict[str, dict[str, float]]
    steps: dict[str, dict[str, dict[str, float]]]
    random: dict[str, dict[str, float]]
    input: dict[str, float]


Cells = Sequence[Cell]


@dataclass(frozen=True)
class Claim:
    """A claim and its verdict: "stands" if every configuration supports it, "stands in part" if some do.

    Attributes:
        claim: the claim in a few words.
        verdict: one of the verdicts of `studies.deernet.claims`.
        holds: by configuration, whether it supports the claim; None if the numbers do not decide.
        because: the numbers behind the verdict.
    """

    claim: str
    verdict: str
    holds: dict[str, bool | None]
    because: str


def configurations(cells: Cells) -> dict[str, list[Cell]]:
    """Group cells by "set, network" and keep their order."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(f"{cell['set']}, {cell['network']}", []).append(cell)
    return found


def about(cell: Cell, name: str) -> float:
    """Return the accuracy of the network on unseen pictures, or the share of its neurons that are active."""
    return cell["accuracy"] if name == "accuracy" else cell["active"]


def outline(cell: Cell, name: str) -> float:
    """Return the accuracy of test a: the mean over noise levels ("outline") or at one level ("outline, 0.5")."""
    name, _, level = name.partition(", ")
    levels = cell["outline"][name]
    return levels[level] if level else float(np.mean(list(levels.values())))


def kept(cell: Cell, name: str) -> float:
    """Return the mean accuracy of test b over noise levels and shares of pixels."""
    return float(np.mean(list(cell["kept"][name].values())))


def under_noise(cell: Cell, name: str) -> float:
    """Return the cosine of test c. For "share that stays", return the share of pictures in this mean."""
    return cell["noise"][name][NOISE]


def woken(cell: Cell, name: str) -> float:
    """Return the share of silent neurons that a step of test d activates."""
    return cell["steps"][name][STEP]["woken"]


def randomised(cell: Cell, name: str) -> float:
    """Return the rank correlation of test e on pixels with ink, after all layers are drawn again."""
    return cell["random"][name]["all layers, ink"]


def likeness(cell: Cell, name: str) -> float:
    """Return the cosine between a map and its picture."""
    return cell["input"][name]


# For each table: title, explanation, names of its rows, and a function that reads a row off a cell.
TABLES: tuple[tuple[str, str, tuple[str, ...], Callable[[Cell, str], float]], ...] = (
    (
        "The networks",
        "On unseen pictures. The paper's network has 0.99 and 0.17.",
        ("accuracy", "active"),
        about,
    ),
    (
        "a. Some pixels stay clean",
        "Accuracy when all other pixels become noise, uniform in [0, a]. Clean pixels: the figure and three pixels "
        "around it; the figure alone; the figure and as many pixels elsewhere, the most distant ones. Means over a = "
        "0.25, 0.5, 1, and values at a = 1. The paper, at its noise: 0.87, 0.32, 0.45.",
        ("outline", "figure", "elsewhere", "outline, 1.0", "figure, 1.0", "elsewhere, 1.0"),
        outline,
    ),
    (
        "b. The strongest pixels stay clean",
        "Accuracy when all other pixels become noise, uniform in [0, a]: mean over 2, 5, 10, 20, 30, 50% of clean "
        "pixels and over a = 0.25, 0.5, 1. The last four rows do not depend on the trained network.",
        (*METHODS, *CONTROLS),
        kept,
    ),
    (
        "c. Under noise",
        "Absolute cosine between the map of a picture and the map of the same picture with noise of standard deviation "
        f"{NOISE}, clipped to [0, 1], over pictures that keep their class; in the last row, between the pictures.",
        ("share that stays", *METHODS, "input"),
        under_noise,
    ),
    (
        "d. States of neurons",
        f"Share of silent neurons that become active after a step of {STEP} of the picture's length.",
        ("+Insens", "-Insens", "random", "+input", "-input", "+gradient", "-gradient"),
        woken,
    ),
    (
        "e. Other parameters",
        "Rank correlation between the absolute maps of the trained network and of a network with new random "
        "parameters, over the pixels with ink.",
        tuple(METHODS),
        randomised,
    ),
    (
        "Likeness to the input",
        "Cosine between map and picture.",
        (*METHODS, "edges", "Insens, untrained"),
        likeness,
    ),
)


def judge(cells: Cells) -> list[Claim]:
    """Give a verdict on each claim, by fixed rules.

    A configuration supports a claim if Insens is better than its best rival by more than two standard errors, seed by
    seed. It contradicts the claim if Insens is worse by as much, and is open otherwise.
    """
    groups = configurations(cells)

    def claim(words: str, rule: Callable[[Cells], tuple[bool | None, str]]) -> Claim:
        return judged(words, {name: rule(group) for name, group in groups.items()})

    def learned(group: Cells) -> tuple[bool | None, str]:
        own, like = ([read(cell, "Insens") for cell in group] for read in (randomised, likeness))
        why = f"{np.mean(own):.2f} with new random parameters, cosine with the picture {np.mean(like):.2f}"
        return ahead(np.asarray(own), np.full(len(own), 0.5), lower=True), why

    return [
        claim(
            "The background just around a figure matters more than the same amount of background elsewhere",
            lambda group: against(group, outline, "outline", ("elsewhere", "figure")),
        ),
        claim(
            "Insens finds the pixels that the network needs better than the other methods",
            lambda group: against(group, kept, "Insens", OTHERS),
        ),
        claim(
            "Insens finds these pixels better than controls that do not depend on the network",
            lambda group: against(group, kept, "Insens", CONTROLS),
        ),
        claim(
            "Insens changes less under noise than the other methods, for pictures that keep their class",
            lambda group: against(group, under_noise, "Insens", OTHERS),
        ),
        claim(
            "A step along Insens activates fewer silent neurons than a backward or a random step",
            lambda group: against(group, woken, "+Insens", ("-Insens", "random"), lower=True),
        ),
        claim(
            "... and fewer than a step along the picture itself",
            lambda group: against(group, woken, "+Insens", ("+input",), lower=True),
        ),
        claim("Insens shows what was learned: rank correlation below 0.5 with maps of random parameters", learned),
    ]


def against(
    group: Cells,
    read: Callable[[Cell, str], float],
    own: str,
    rivals: Sequence[str],
    lower: bool = False,
) -> tuple[bool | None, str]:
    """Check whether a row is better than its best rival, and return the numbers as text."""
    rows = {name: np.asarray([read(cell, name) for cell in group]) for name in (own, *rivals)}
    pick = min if lower else max
    best = pick(rivals, key=lambda name: rows[name].mean())
    return ahead(rows[own], rows[best], lower), f"{rows[own].mean():.3f}, {best} {rows[best].mean():.3f}"


def ahead(own: np.ndarray, other: np.ndarray, lower: bool = False) -> bool | None:
    """Check whether the mean difference, seed by seed, exceeds two standard errors; None if neither side does.

    >>> ahead(np.asarray([0.9, 0.8]), np.asarray([0.5, 0.4])), ahead(np.asarray([0.9, 0.2]), np.asarray([0.5, 0.5]))
    (True, None)
    """
    difference = (other - own) if lower else (own - other)
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else 0.0
    if abs(difference.mean()) <= 2 * error + 1e-12:
        return None
    return bool(difference.mean() > 0)


def judged(words: str, told: Mapping[str, tuple[bool | None, str]]) -> Claim:
    """Give a verdict: a claim stands if all configurations support it, and fails if none does."""
    holds = {name: yes for name, (yes, _) in told.items()}
    verdict = STANDS if holds and all(holds.values()) else IN_PART if any(holds.values()) else FAILS
    marks = {True: "yes", False: "no", None: "open"}
    return Claim(words, verdict, holds, "; ".join(f"{name}: {marks[yes]}, {why}" for name, (yes, why) in told.items()))


def markdown(cells: Cells, settings: Mapping[str, object], setting: str) -> str:
    """Return the verdicts and tables as a Markdown page."""
    groups = configurations(cells)
    lines = ["# Tests of Insens and other attributions", "", setting, ""]
    lines += [
        f"{settings['seeds']} seeds of each configuration, {settings['pictures']} unseen pictures (all unseen pictures "
        "for accuracies and test a). Means +- standard deviations over seeds. A configuration supports a claim (yes) "
        "if Insens is better than its best rival by two standard errors, seed by seed. It contradicts the claim (no) "
        "if Insens is worse by as much.",
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
    """Format mean and standard deviation.

    >>> spread([0.25, 0.75]), spread([0.5])
    ('0.500 +- 0.354', '0.500')
    """
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) < 2 else f"{mean} +- {np.std(values, ddof=1):.3f}"
