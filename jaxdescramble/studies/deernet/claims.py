"""Verdicts on the paper's findings: each finding is compared with its readings and their nulls."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from jaxdescramble.findings import Reading, Readings, joint_p_values
from jaxdescramble.studies.deernet.replica import Agreement

ALPHA = 0.05
STANDS, IN_PART, BY_CONSTRUCTION, FAILS = "stands", "stands in part", "comes by construction", "does not stand"


@dataclass(frozen=True)
class Finding:
    """One claim of the paper and its verdict.

    Attributes:
        claim: the claim in a few words.
        layer: name of the battery of readings that the claim is compared with.
        reading: name of the reading that decides, or "" if there is none.
        verdict: one of "stands", "stands in part", "comes by construction", "does not stand".
        because: the numbers behind the verdict.
        depends_on_point: whether the descrambler can change the reading.
    """

    claim: str
    layer: str
    reading: str
    verdict: str
    because: str
    depends_on_point: bool


DECIDING = (
    ("first", "band edge"),
    ("first", "notch, link frequency 0 left out"),
    ("first", "ridge monotonicity"),
    ("last", "link purity"),
    ("last, joint tap", "link purity"),
    ("last", "distance map"),
    ("last", "link bandedness"),
    ("last", "Chebyshev R2"),
)
"""The readings that decide the claims: layer and name. Their p-values are corrected for each other."""


def corrected(readings: Mapping[str, list[Reading]]) -> dict[str, list[Reading]]:
    """Return the readings, with the p-values of the deciding ones corrected for their number.

    Each draw is one whole network, so the correction is the joint one of `findings.joint_p_values`: an empty network
    beats a null with any of the deciding readings with a probability of at most 0.05. The other readings keep their
    own p-values; they describe.
    """
    named = {(layer, one.name): one for layer, group in readings.items() for one in group}
    chosen = [named[one] for one in DECIDING]
    values = np.asarray([one.value for one in chosen])
    directions = np.asarray([one.direction for one in chosen])
    p_values = {one: dict(named[one].p_value) for one in DECIDING}
    for null, draws in chosen[0].nulls.items():
        if len(draws) > 1:
            p, judged = joint_p_values(values, np.stack([one.nulls[null] for one in chosen], axis=1), directions)
            for place, one in enumerate(DECIDING):
                if judged[place]:
                    p_values[one][null] = float(p[place])
    return {
        layer: Readings(
            replace(one, p_value=p_values[layer, one.name]) if (layer, one.name) in p_values else one for one in group
        )
        for layer, group in readings.items()
    }


def judge(readings: Mapping[str, list[Reading]], agreements: Mapping[str, Agreement]) -> list[Finding]:
    """Give a verdict on each finding, by fixed rules.

    The readings are those that `corrected` returns. A reading beats a null if its corrected p-value is at most 0.05. A
    null of one draw (the network on shuffled targets) is a picture, not a test. A reading that P cannot change need not
    beat random frames, because these do not change it either. "Stands" means that the reading beats every null and has
    the paper's value. "In part" means that it beats some nulls, or that the value differs. "By construction" means that
    the value is there, but the nulls show it too.
    """
    named = {layer: {reading.name: reading for reading in group} for layer, group in readings.items()}
    first, last = named["first"], named["last"]
    exponent, exponent_error = first["ridge exponent"], first["ridge exponent error"]
    cubic = abs(exponent.value - 3) <= 2 * exponent_error.value
    joint = named["last, joint tap"]["link purity"]
    best_family = max(("Chebyshev R2", "Legendre R2", "cosine R2"), key=lambda name: last[name].value)
    replica, net = agreements["replica"], agreements["network"]
    return [
        _from_reading("Layer 1 is a band-pass filter", "first", first["band edge"]),
        _from_reading(
            "A notch at zero frequency removes the baseline", "first", first["notch, link frequency 0 left out"]
        ),
        _from_reading(
            "Ridges: the frequency axis is rescaled by a cube root",
            "first",
            first["ridge monotonicity"],
            IN_PART if not cubic else None,
            f"; exponent {exponent.value:.2f} +- {exponent_error.value:.2f}",
        ),
        _from_reading("Frequency multiplexing: sinusoidal link vectors, data-only tap", "last", last["link purity"]),
        _by_construction("Frequency multiplexing, the paper's joint tap", "last, joint tap", joint),
        _from_reading("Layer 2 maps fast oscillations to short distances", "last", last["distance map"]),
        _from_reading("Link waves of layer 2 form nearly orthogonal bands", "last", last["link bandedness"]),
        _from_reading(
            "Output vectors are Chebyshev polynomials",
            "last",
            last["Chebyshev R2"],
            IN_PART if best_family != "Chebyshev R2" or last["Chebyshev R2"].value < 0.9 else None,
            f"; best family {best_family} {last[best_family].value:.2f}",
        ),
        Finding(
            "Two filters and one matrix replicate the network",
            "network",
            "",
            STANDS if float(replica.correlation) > 0.95 * float(net.correlation) else IN_PART,
            f"correlation with the truth {float(replica.correlation):.3f}, the network's {float(net.correlation):.3f}",
            False,
        ),
    ]


def beaten(reading: Reading) -> dict[str, bool]:
    """Check for each null whether the reading beats it.

    Nulls that cannot change the reading are left out, and so are nulls of one draw: they are no tests.
    """
    verdicts = {}
    for name, draws in reading.nulls.items():
        if name == "random frame" and not reading.depends_on_point and reading.effect[name] is None:
            continue  # random frames do not change a reading that P cannot change
        if len(draws) > 1:
            verdicts[name] = reading.p_value[name] <= ALPHA
    return verdicts


def _from_reading(claim: str, layer: str, reading: Reading, at_best: str | None = None, more: str = "") -> Finding:
    verdicts = beaten(reading)
    verdict = (at_best or STANDS) if all(verdicts.values()) else IN_PART if any(verdicts.values()) else FAILS
    return Finding(claim, layer, reading.name, verdict, _numbers(reading) + more, reading.depends_on_point)


def _by_construction(claim: str, layer: str, reading: Reading) -> Finding:
    verdicts = beaten(reading)
    typical = max(float(draws.mean()) for name, draws in reading.nulls.items() if name != "shuffled targets")
    made = typical > 0.8 * reading.value or not any(verdicts.values())
    return Finding(
        claim, layer, reading.name, BY_CONSTRUCTION if made else STANDS, _numbers(reading), reading.depends_on_point
    )


def _numbers(reading: Reading) -> str:
    against = ", ".join(f"{name} {float(draws.mean()):.3g}" for name, draws in reading.nulls.items())
    return f"{reading.name} {reading.value:.3g} (nulls: {against})"
