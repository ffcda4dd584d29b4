"""The claims made for inactive-state sensitivity, each held against six configurations, and the tables behind them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdescramble.studies.attributions.saliency import CONTROLS, METHODS
from jaxdescramble.studies.deernet.claims import FAILS, IN_PART, STANDS

Cells = Sequence[Mapping[str, Any]]
OTHERS = tuple(name for name in METHODS if name != "Insens")
NOISE, STEP = "0.1", "0.3"


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it: "stands" where every configuration bears it out, "stands in part" where some do.

    Attributes:
        claim: in a few words.
        verdict: one of `findings`' constants.
        holds: by configuration, whether it does; None where the numbers leave it open.
        because: the numbers behind it.
    """

    claim: str
    verdict: str
    holds: dict[str, bool | None]
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
    """Cosine of test c; of "share that stays", the share of pictures that it is a mean over."""
    return cell["noise"][name][NOISE]


def woken(cell: Mapping[str, Any], name: str) -> float:
    """Share of silent neurons that a step of test d wakes."""
    return cell["steps"][name][STEP]["woken"]


def randomised(cell: Mapping[str, Any], name: str) -> float:
    """Rank correlation of test e, all layers drawn anew, where there is ink."""
    return cell["random"][name]["all layers, ink"]


def likeness(cell: Mapping[str, Any], name: str) -> float:
    """Cosine between a map and its picture."""
    return cell["input"][name]


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
        "Modulus of the cosine between the maps of a picture and of one with noise of standard deviation "
        f"{NOISE}, cut to [0, 1], where the class stays; and of the pictures themselves.",
        ("share that stays", *METHODS, "input"),
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
        likeness,
    ),
)


def judge(cells: Cells) -> list[Claim]:
    """A verdict on each claim, by fixed rules: a configuration bears it out if, seed by seed, Insens is ahead of the
    best of its rivals by two standard errors, and leaves it open if neither is."""
    groups = configurations(cells)

    def claim(words: str, rule: Callable[[Cells], tuple[bool | None, str]]) -> Claim:
        return judged(words, {name: rule(group) for name, group in groups.items()})

    def learned(group: Cells) -> tuple[bool | None, str]:
        own, like = ([read(cell, "Insens") for cell in group] for read in (randomised, likeness))
        why = f"{np.mean(own):.2f} with all parameters drawn anew, cosine with the picture {np.mean(like):.2f}"
        return ahead(np.asarray(own), np.full(len(own), 0.5), lower=True), why

    return [
        claim(
            "The background just around a figure matters more than as much of it elsewhere",
            lambda group: against(group, outline, "outline", ("elsewhere", "figure")),
        ),
        claim(
            "Insens finds the pixels that the network needs better than the other methods",
            lambda group: against(group, kept, "Insens", OTHERS),
        ),
        claim(
            "Insens finds them better than controls that know nothing of the network",
            lambda group: against(group, kept, "Insens", CONTROLS),
        ),
        claim(
            "Insens changes less under noise than the other methods, where the class stays",
            lambda group: against(group, under_noise, "Insens", OTHERS),
        ),
        claim(
            "A step along Insens wakes fewer silent neurons than one backwards or at random",
            lambda group: against(group, woken, "+Insens", ("-Insens", "random"), lower=True),
        ),
        claim(
            "... and than one along the picture itself",
            lambda group: against(group, woken, "+Insens", ("+input",), lower=True),
        ),
        claim("Insens shows what was learned: rank correlation below .5 with other parameters' maps", learned),
    ]


def against(
    group: Cells,
    read: Callable[[Mapping[str, Any], str], float],
    own: str,
    rivals: Sequence[str],
    lower: bool = False,
) -> tuple[bool | None, str]:
    """Whether one row is ahead of the best of others, and the numbers in words."""
    rows = {name: np.asarray([read(cell, name) for cell in group]) for name in (own, *rivals)}
    pick = min if lower else max
    best = pick(rivals, key=lambda name: rows[name].mean())
    return ahead(rows[own], rows[best], lower), f"{rows[own].mean():.3f}, {best} {rows[best].mean():.3f}"


def ahead(own: np.ndarray, other: np.ndarray, lower: bool = False) -> bool | None:
    """Whether the mean difference, seed by seed, is above two standard errors; None if neither it nor its opposite is.

    >>> ahead(np.asarray([0.9, 0.8]), np.asarray([0.5, 0.4])), ahead(np.asarray([0.9, 0.2]), np.asarray([0.5, 0.5]))
    (True, None)
    """
    difference = (other - own) if lower else (own - other)
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else 0.0
    if abs(difference.mean()) <= 2 * error + 1e-12:
        return None
    return bool(difference.mean() > 0)


def judged(words: str, told: Mapping[str, tuple[bool | None, str]]) -> Claim:
    """A claim that stands if everything bears it out, and does not if nothing does."""
    holds = {name: yes for name, (yes, _) in told.items()}
    verdict = STANDS if holds and all(holds.values()) else IN_PART if any(holds.values()) else FAILS
    marks = {True: "yes", False: "no", None: "open"}
    return Claim(words, verdict, holds, "; ".join(f"{name}: {marks[yes]}, {why}" for name, (yes, why) in told.items()))


def markdown(cells: Cells, settings: Mapping[str, Any], setting: str) -> str:
    """The tables, as a page."""
    groups = configurations(cells)
    lines = ["# Insens and other attributions, put to the test", "", setting, ""]
    lines += [
        f"{settings['seeds']} seeds of each configuration, {settings['pictures']} unseen pictures (all for accuracies "
        "and test a). Means +- standard deviations over seeds. A configuration bears a claim out (yes) if Insens is "
        "ahead of the best of its rivals, seed by seed, by two standard errors; no, if it is behind by as much.",
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
