"""Verdicts on the claims for gated networks, and tables of the numbers behind them."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np

from jaxdescramble.studies.attributions.claims import Claim, ahead, judged, spread
from jaxdescramble.studies.gating.training import ARCHITECTURES, KINDS

PLAIN = "x, in order"
# The paper's number for CIFAR-10 and CIFAR-100: test accuracy of a linearly gated network over that of a ReLU network.
KEPT = 0.835
LITTLE = 0.05
SLOW = 0.1

Told = dict[str, tuple[bool | None, str]]


class PlanNumbers(TypedDict):
    """The training of the comparison. The results hold the whole plan; these entries are shown."""

    steps: int
    batch: int


class SettingsNumbers(TypedDict):
    """Settings of a run. The results hold all settings; these entries are shown."""

    seeds: int
    plan: PlanNumbers
    spectrum_steps: int


class ComparisonNumbers(TypedDict):
    """The comparison on one set of pictures.

    Accuracies are given by architecture, kind and variant, each a list over seeds. "hardening" is the share of answers
    that change when soft gates become hard, by architecture and kind.
    """

    accuracy: dict[str, dict[str, dict[str, list[float]]]]
    validation: dict[str, dict[str, dict[str, list[float]]]]
    hardening: dict[str, dict[str, float]]
    seconds: float
    networks: int


class StagesNumbers(TypedDict):
    """The arrays of `studies.gating.stages.Stages` as lists: rows are stages, columns are seeds."""

    steps: list[int]
    network: list[list[float]]
    values: list[list[float]]
    kernel: list[list[float]]
    alignment: list[list[float]]
    complexity: list[list[float]]
    dependent: list[float]
    decoupled: list[float]


class SpectrumNumbers(TypedDict):
    """The arrays of `studies.gating.spectrum.Spectrum` as lists over widths, frequencies and seeds, errors by kind."""

    frequencies: Sequence[int]
    widths: Sequence[int]
    kinks: list[list[list[int]]]
    errors: dict[str, list[list[list[float]]]]
    hardened: dict[str, list[list[list[float]]]]


class GatingNumbers(TypedDict):
    """All results: the comparison by set of pictures, the stages by set and architecture, and the sines."""

    settings: SettingsNumbers
    comparison: dict[str, ComparisonNumbers]
    stages: dict[str, dict[str, StagesNumbers]]
    spectrum: SpectrumNumbers


def judge(found: GatingNumbers) -> list[Claim]:
    """Give a verdict on each claim, by fixed rules.

    A claim is supported if the difference, seed by seed, exceeds two standard errors on its side. It is open if neither
    side does.
    """
    claims = {
        "Convolutions with global pooling classify shifted pictures better than dense networks, by 0.1": _shifts(found),
        "Values behind learned gates recover more than half of the loss of random gates": _gates(found),
        "The path kernel of learned dense gates predicts as well as values behind them (within 0.02)": _kernel(found),
        f"A linearly gated network keeps more than {KEPT:.1%} of a ReLU network's accuracy": _ratios(found),
        f"Ones instead of x and permuted gates cost a linearly gated network little (below {LITTLE})": _cheap(found),
        f"A linearly gated network learns sines as fast as a ReLU network (error below {SLOW})": _fast(found),
    }
    return [judged(words, told) for words, told in claims.items()]


def _accuracy(found: GatingNumbers, of: str, name: str, kind: str, variant: str = PLAIN) -> np.ndarray:
    return np.asarray(found["comparison"][of]["accuracy"][name][kind][variant])


def _shifts(found: GatingNumbers) -> Told:
    told: Told = {}
    for kind in KINDS if "shifted" in found["comparison"] else ():
        conv, dense = (_accuracy(found, "shifted", name, kind) for name in ("conv", "dense"))
        told[kind] = (ahead(conv, dense + 0.1), f"{conv.mean():.3f} against {dense.mean():.3f} dense")
    return told


def _gates(found: GatingNumbers) -> Told:
    told: Told = {}
    for of, by_name in found["stages"].items():
        for name, stage in by_name.items():
            ends = (stage["values"][0], stage["values"][-1], stage["network"][-1])
            random, learned, network = (np.asarray(one) for one in ends)
            lost = network.mean() > random.mean()
            told[f"{of}, {name}"] = (
                ahead(learned, (random + network) / 2) if lost else None,
                f"random {random.mean():.3f}, learned {learned.mean():.3f}, ReLU network {network.mean():.3f}",
            )
    return told


def _kernel(found: GatingNumbers) -> Told:
    told: Told = {}
    for of, by_name in found["stages"].items():
        for name in ("dense", "skip"):  # convolutional kernels use fewer pictures
            if name in by_name:
                kernel, values = (np.asarray(by_name[name][what][-1]) for what in ("kernel", "values"))
                why = f"kernel {kernel.mean():.3f}, trained values {values.mean():.3f}"
                told[f"{of}, {name}"] = (ahead(kernel, values - 0.02), why)
    return told


def _ratios(found: GatingNumbers) -> Told:
    told: Told = {}
    for of in found["comparison"]:
        for name in ARCHITECTURES:
            own, relu = (_accuracy(found, of, name, kind) for kind in ("dlgn", "dnn"))
            ratio = own.mean() / relu.mean()
            told[f"{of}, {name}"] = (ahead(own, KEPT * relu), f"{own.mean():.3f} / {relu.mean():.3f} = {ratio:.3f}")
    return told


def _cheap(found: GatingNumbers) -> Told:
    told: Told = {}
    for of, one in found["comparison"].items():
        for name in ARCHITECTURES:
            variants = {v: np.asarray(seeds) for v, seeds in one["accuracy"][name]["dlgn"].items()}
            worst = min((v for v in variants if v != PLAIN), key=lambda v: variants[v].mean())
            why = f"{variants[PLAIN].mean():.3f} to {variants[worst].mean():.3f} ({worst})"
            told[f"{of}, {name}"] = (ahead(variants[worst] + LITTLE, variants[PLAIN]), why)
    return told


def _fast(found: GatingNumbers) -> Told:
    waves = found["spectrum"]
    told: Told = {}
    for i, width in enumerate(waves["widths"]):
        reached = {}
        for kind in ("dlgn", "dnn"):
            errors = np.median(np.asarray(waves["errors"][kind][i]), axis=1)
            reached[kind] = max((k for k, e in zip(waves["frequencies"], errors, strict=True) if e < SLOW), default=0)
        told[f"width {width}"] = (reached["dlgn"] >= reached["dnn"], f"k = {reached['dlgn']}, ReLU {reached['dnn']}")
    return told


def markdown(found: GatingNumbers, setting: str) -> str:
    """Return the verdicts and tables as a Markdown page."""
    seeds, plan = found["settings"]["seeds"], found["settings"]["plan"]
    times = ", ".join(
        f"{of}: {one['networks']} networks in one program, {one['seconds']:.0f} s"
        for of, one in found["comparison"].items()
    )
    lines = [
        "# Gated networks on small sets of pictures",
        "",
        setting,
        "",
        f"{seeds} seeds of every variant, {plan['steps']} steps of {plan['batch']} pictures, Adam; {times}, "
        "compilation included. Accuracy on test pictures at the step that is best on the validation pictures; mean +- "
        "standard deviation over seeds (0.97 of 360 pictures has a standard error of 0.009). All kinds have the same "
        "widths, steps and learning rate; kinds with features have about twice as many weights. Digits are "
        "scikit-learn's, 8 x 8. Shifted pictures are textures at any circular shift, 8 x 8. Numbers for CIFAR are the "
        "paper's; we did not repeat them.",
        "",
        "| claim | verdict | numbers |",
        "|---|---|---|",
        *(f"| {one.claim} | {one.verdict} | {one.because} |" for one in judge(found)),
        "| Networks with skips are ensembles | by construction | the kernel is the sum over the sub-networks, to 1e-12 "
        "(tests/test_path_kernel.py) |",
    ]
    for of, one in found["comparison"].items():
        lines += ["", f"## {of}", "", *_compared(one)]
    lines += ["", "## Do the gates learn?", "", *_staged(found["stages"])]
    lines += ["", "## Is a linearly gated network a universal spectral approximator?", ""]
    steps = found["settings"]["spectrum_steps"]
    lines += [
        "Mean squared error on sin(pi k x + phase), divided by the error of the answer 0, median over seeds; "
        f"{steps} steps, four gated layers, one input and biases. Gates are soft in training, and hard afterwards. A "
        "gate of a linearly gated network turns at one place. With hard gates there are therefore at most as many "
        "pieces as gates that turn inside [-1, 1], plus one.",
        "",
        *_waves(found["spectrum"]),
    ]
    return "\n".join(lines) + "\n"


def _compared(one: ComparisonNumbers) -> list[str]:
    variants = (PLAIN, "x, permuted", "ones, in order", "ones, permuted")
    lines = [
        f"| network | kind | {' | '.join(variants)} | ratio to ReLU network | answers changed by hard gates (seed 0) |",
        "|---" * (len(variants) + 4) + "|",
    ]
    for name in ARCHITECTURES:
        best = np.mean(one["accuracy"][name]["dnn"][PLAIN])
        for kind in KINDS:
            rows, gap = one["accuracy"][name][kind], one["hardening"].get(name, {}).get(kind)
            cells = [spread(rows[variant]) if variant in rows else "" for variant in variants]
            ratio = "" if kind == "dnn" else f"{np.mean(rows[PLAIN]) / best:.3f}"
            lines.append(f"| {name} | {kind} | {' | '.join(cells)} | {ratio} | {'' if gap is None else f'{gap:.3f}'} |")
    return lines


def _staged(stages: Mapping[str, Mapping[str, StagesNumbers]]) -> list[str]:
    lines = [
        "The gates of a ReLU network are frozen after some steps of its training (FRNPF-II at step 0, FLNPF at the "
        "last). Then new values are trained behind them, and ridge regression uses their path kernel. The "
        "convolutional kernel uses 300 pictures of each part, everything else uses all. Accuracies are those at the "
        "last step. Complexity is y^T H^-1 y per picture, lambda = 1e-3.",
        "",
        "| pictures | network | steps | ReLU network | fresh values | kernel | alignment | complexity |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for of, by_name in stages.items():
        for name, stage in by_name.items():
            for k, steps in enumerate(stage["steps"]):
                cells = (spread(stage[what][k]) for what in ("network", "values", "kernel", "alignment", "complexity"))
                lines.append(f"| {of} | {name} | {steps} | {' | '.join(cells)} |")
            for what, words in (("dependent", "FRNPF-DI"), ("decoupled", "DLNPF")):
                lines.append(f"| {of} | {name} | {words} | | {spread(stage[what])} | | | |")
    return lines


def _waves(waves: SpectrumNumbers) -> list[str]:
    lines = [
        "| kind | width | " + " | ".join(f"k = {k}" for k in waves["frequencies"]) + " | gates that turn |",
        "|---" * (3 + len(waves["frequencies"])) + "|",
    ]
    for what, label in (("errors", ""), ("hardened", ", hard gates")):
        for kind, errors in waves[what].items():
            for i, (width, row) in enumerate(zip(waves["widths"], errors, strict=True)):
                turns = f"{np.median(waves['kinks'][i]):.0f}" if kind == "dlgn" else ""
                cells = " | ".join(f"{np.median(cell):.2g}" for cell in row)
                lines.append(f"| {kind}{label} | {width} | {cells} | {turns} |")
    return lines
