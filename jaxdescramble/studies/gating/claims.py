"""The claims made for gated networks, each held against what was measured here, and the tables behind them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdescramble.studies.attributions.claims import Claim, spread
from jaxdescramble.studies.findings import FAILS, IN_PART, STANDS
from jaxdescramble.studies.gating.training import ARCHITECTURES, KINDS

PLAIN = "x, in order"
# What the paper has for CIFAR-10 and CIFAR-100: the ratio of test accuracies that a linearly gated network keeps.
KEPT = 0.835
LITTLE = 0.05


Told = dict[str, tuple[bool, str]]


def judge(found: Mapping[str, Any]) -> list[Claim]:
    """A verdict on each claim, by fixed rules on means over seeds: it stands if it holds wherever it was tried."""
    claims = {
        "Convolutions with global pooling know shifted pictures, which dense networks do not": _shifts(found),
        "Values behind learned gates win back more than half of what random gates lose": _gates(found),
        "The path kernel of the learned gates predicts as well as values behind them (within .02)": _kernel(found),
        f"A linearly gated network keeps more than {KEPT:.1%} of a ReLU network's accuracy": _ratios(found),
        f"Ones for x and permuted gate layers cost a linearly gated network little (below {LITTLE})": _cheap(found),
    }
    judged = []
    for words, told in claims.items():
        holds = {name: yes for name, (yes, _) in told.items()}
        verdict = STANDS if all(holds.values()) else IN_PART if any(holds.values()) else FAILS
        judged.append(Claim(words, verdict, holds, "; ".join(f"{name}: {why}" for name, (_, why) in told.items())))
    return judged


def _accuracy(found: Mapping[str, Any], of: str, name: str, kind: str, variant: str = PLAIN) -> float:
    return float(np.mean(found["comparison"][of]["accuracy"][name][kind][variant]))


def _shifts(found: Mapping[str, Any]) -> Told:
    told: Told = {}
    for kind in KINDS if "shifted" in found["comparison"] else ():
        conv, dense = (_accuracy(found, "shifted", name, kind) for name in ("conv", "dense"))
        told[kind] = (conv > dense + 0.1, f"{conv:.2f} against {dense:.2f} dense")
    return told


def _gates(found: Mapping[str, Any]) -> Told:
    told: Told = {}
    for of, by_name in found["stages"].items():
        for name, stage in by_name.items():
            ends = (stage["values"][0], stage["values"][-1], stage["network"][-1])
            random, learned, network = (float(np.mean(one)) for one in ends)
            told[f"{of}, {name}"] = (
                learned - random > max(0.5 * (network - random), 0),
                f"random gates {random:.3f}, learned {learned:.3f}, ReLU network {network:.3f}",
            )
    return told


def _kernel(found: Mapping[str, Any]) -> Told:
    told: Told = {}
    for of, by_name in found["stages"].items():
        for name, stage in by_name.items():
            if name == "conv":
                continue  # on fewer pictures
            kernel, values = float(np.mean(stage["kernel"][-1])), float(np.mean(stage["values"][-1]))
            told[f"{of}, {name}"] = (kernel > values - 0.02, f"kernel {kernel:.3f}, trained values {values:.3f}")
    return told


def _ratios(found: Mapping[str, Any]) -> Told:
    told: Told = {}
    for of in found["comparison"]:
        for name in ARCHITECTURES:
            own, best = (_accuracy(found, of, name, kind) for kind in ("dlgn", "dnn"))
            told[f"{of}, {name}"] = (own > KEPT * best, f"{own:.3f} / {best:.3f} = {own / best:.3f}")
    return told


def _cheap(found: Mapping[str, Any]) -> Told:
    told: Told = {}
    for of, one in found["comparison"].items():
        for name in ARCHITECTURES:
            variants = {v: float(np.mean(seeds)) for v, seeds in one["accuracy"][name]["dlgn"].items()}
            worst = min((v for v in variants if v != PLAIN), key=lambda v: variants[v])
            lost = variants[PLAIN] - variants[worst]
            told[f"{of}, {name}"] = (lost < LITTLE, f"{variants[PLAIN]:.3f} to {variants[worst]:.3f} ({worst})")
    return told


def markdown(found: Mapping[str, Any], setting: str) -> str:
    """The tables, as a page."""
    seeds, plan = found["settings"]["seeds"], found["settings"]["plan"]
    times = ", ".join(
        f"{of}: {one['networks']} networks in one program, {one['seconds']:.0f} s"
        for of, one in found["comparison"].items()
    )
    lines = [
        "# Gated networks on what runs here",
        "",
        setting,
        "",
        f"{seeds} seeds of every variant, {plan['steps']} steps of {plan['batch']} pictures, Adam; {times}, with "
        "compilation. Accuracy on test pictures where the validation pictures are answered best; mean +- standard "
        "deviation over seeds. Digits are scikit-learn's, 8 x 8; shifted are textures at any circular shift, 8 x 8. "
        "Figures for CIFAR are the paper's and were not made again.",
        "",
        "| claim | verdict | numbers |",
        "|---|---|---|",
        *(f"| {one.claim} | {one.verdict} | {one.because} |" for one in judge(found)),
        "| Skips make an ensemble | by construction | the kernel is the sum over the sub-networks, to 1e-12 "
        "(tests/test_path_kernel.py) |",
    ]
    for of, one in found["comparison"].items():
        lines += ["", f"## {of}", "", *_compared(one)]
    lines += ["", "## What learns in the gates", "", *_staged(found["stages"])]
    lines += ["", "## Is a linearly gated network a universal spectral approximator?", ""]
    steps = found["settings"]["spectrum_steps"]
    lines += [
        "Mean square error on sin(pi k x + phase), over that of the answer 0, median over seeds; "
        f"{steps} steps, four gated layers, one input and biases.",
        "",
        *_waves(found["spectrum"]),
    ]
    return "\n".join(lines) + "\n"


def _compared(one: Mapping[str, Any]) -> list[str]:
    variants = (PLAIN, "x, permuted", "ones, in order", "ones, permuted")
    lines = [
        f"| network | kind | {' | '.join(variants)} | of the ReLU network | answers that hard gates change |",
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


def _staged(stages: Mapping[str, Any]) -> list[str]:
    lines = [
        "Gates of a ReLU network frozen after so many steps of its training (FRNPF-II at first, FLNPF at last), values "
        "trained anew behind them, and ridge regression with their path kernel; the convolutional kernel on 300 "
        "pictures of each part, all else on all. Complexity is y^T H^-1 y per picture.",
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


def _waves(waves: Mapping[str, Any]) -> list[str]:
    lines = [
        "| kind | width | " + " | ".join(f"k = {k}" for k in waves["frequencies"]) + " |",
        "|---" * (2 + len(waves["frequencies"])) + "|",
    ]
    for kind, errors in waves["errors"].items():
        for width, row in zip(waves["widths"], errors, strict=True):
            lines.append(f"| {kind} | {width} | " + " | ".join(f"{np.median(cell):.2g}" for cell in row) + " |")
    return lines
