"""What was found, in words: the sentence of each finding, and the headline of a report."""

import math
from typing import TYPE_CHECKING

from jaxdescramble.findings.explanations import _counts
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.judging import distances

if TYPE_CHECKING:
    from jaxdescramble.findings.explanations.readings import LayerReading
    from jaxdescramble.findings.explanations.report import Verdict

PLURALS = {"random frame": "random frames", "untrained": "untrained networks"}
"""Names of nulls as subjects of a sentence; names of several things stay as they are."""


def in_words(text: str, output: Axis, into: Axis) -> str:
    """Return a text in which "{outputs}" and "{inputs}" are replaced by words for these axes.

    >>> from jaxdescramble.findings.explanations.axes import free_axis, ordered_axis
    >>> from jaxdescramble.operators import derivative
    >>> in_words("neighbouring {outputs} read neighbouring {inputs}", free_axis(derivative(4)), ordered_axis(3))
    'neighbouring neurons in the descrambled order read neighbouring inputs'
    """
    outputs = "outputs" if output.ordered else "neurons in the descrambled order"
    inputs = "inputs" if into.ordered else "inputs in the descrambled order"
    return text.replace("{outputs}", outputs).replace("{inputs}", inputs)


def claim_of(reading: "LayerReading", value: float, means: list[float], output: Axis, into: Axis) -> str:
    """Return what a finding says.

    Args:
        reading: the reading.
        value: its value in the network.
        means: mean value of each null that can change the reading.
        output, into: axes of the layer.
    """
    if reading.claim:
        return in_words(reading.claim, output, into)
    larger = [reading.direction > 0] if reading.direction else [value > mean for mean in means]
    side = "is larger" if all(larger) else "differs more" if any(larger) else "is smaller"
    return f"its value {side} than by chance"


def applying(one: "Verdict") -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each null that can change the reading."""
    return {name: null for name, null in one.nulls.items() if not math.isnan(one.p_values[name])}


def nulls_of(one: "Verdict") -> str:
    """Return what the nulls give that can change the reading, or "" if none can."""
    parts = [
        f"{PLURALS.get(name, name)} give {mean:.3g} (sd {spread:.2g})" for name, (mean, spread) in applying(one).items()
    ]
    return ", ".join(parts)


def called(layer: str) -> str:
    """Return the name of a layer as it is called in a sentence.

    >>> called("conv1"), called("0")
    ('conv1', 'layer 0')
    """
    return f"layer {layer}" if layer.isdigit() else layer


FAR = 5.0
"""Distance from every null, in standard deviations, from which a reading on the other side of a finding is told."""


def opposite(one: "Verdict") -> bool:
    """Return whether a reading lies far from every null that can change it, on the side that is no finding."""
    found = distances(one.value, one.direction, applying(one).values())
    return bool(found) and max(found) < -FAR


def sentence(one: "Verdict") -> str:
    """Return a verdict as a sentence: what was found, the value, what the nulls give, and the p-value."""
    found = f"{one.claim}: " if one.claim else ""
    against = nulls_of(one)
    judged = f"; {against}; p = {one.p_value:.2g}" if against else "; no null can change it"
    return f"{called(one.layer)}: {found}{one.reading} is {one.value:.3g}{judged}."


DOMINANT = 0.5
"""Share of the energy above which the mean over samples is said to dominate a layer's signals."""


def mean_note(shares: tuple[float, float]) -> str:
    """Return a caution if the mean carries most of the energy of the input signals or of the preactivations, or "".

    >>> mean_note((0.2, 0.3)), mean_note((0.97, 0.3))[:85]
    ('', 'The signals of this layer are not centred: their mean over samples carries 97% of the')
    """
    parts = [
        f"{share:.0%} of the energy of the {what}"
        for what, share in zip(("input signals", "preactivations"), shares, strict=True)
        if share > DOMINANT
    ]
    if not parts:
        return ""
    return (
        f"The signals of this layer are not centred: their mean over samples carries {' and '.join(parts)}. So the "
        "strongest wave and the readings of signals mostly describe this mean. To see what differs between samples, "
        "explain the network with centred=True."
    )


def _chance(one: "Verdict") -> str:
    """Return the mean of the null that comes closest to the value, among those that can change the reading."""
    means = {name: mean for name, (mean, _) in applying(one).items()}
    name = min(means, key=lambda name: abs(means[name] - one.value))
    nearest = "the nearest null: " if len(means) > 1 else ""
    return f"{nearest}{PLURALS.get(name, name)} give {means[name]:.3g}"


def headline_of(findings: "tuple[Verdict, ...]", judged: int, layers: int, draws: _counts.Counts, alpha: float) -> str:
    """Return the result of an explanation in one sentence.

    >>> headline_of((), 64, 4, {"random frame": 199}, 0.05)
    'None of 64 readings of 4 layers is a finding (199 draws of each null, corrected for all readings).'
    """
    how = f"({_counts.drawn(draws)}, corrected for all readings)"
    of = f"{judged} reading{'s' * (judged != 1)} of {layers} layer{'s' * (layers != 1)}"
    if not judged:
        return f"No reading of {layers} layer{'s' * (layers != 1)} could be judged."
    if not findings:
        return _counts.too_few(draws, alpha) or f"None of {of} is a finding {how}."
    shown = "; ".join(f"{one.reading} of {called(one.layer)}, {one.value:.3g} ({_chance(one)})" for one in findings[:3])
    more = f"; and {len(findings) - 3} more" if len(findings) > 3 else ""
    verb = "is a finding" if len(findings) == 1 else "are findings"
    return f"{len(findings)} of {of} {verb}: {shown}{more} {how}."
