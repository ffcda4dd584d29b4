"""How many draws each null has, in words. Nulls of trained networks may have fewer draws than the others."""

import math
from collections.abc import Mapping

Counts = Mapping[str, int]


def drawn(counts: Counts) -> str:
    """Return how many draws there are.

    >>> drawn({"random frame": 199, "untrained": 199})
    '199 draws of each null'
    >>> drawn({"random frame": 199, "trained on shuffled targets": 19})
    "199 draws of each null, but 19 of 'trained on shuffled targets'"
    """
    most = max(counts.values())
    return f"{most} draws of each null" + "".join(
        f", but {count} of '{name}'" for name, count in counts.items() if count < most
    )


def too_few(counts: Counts, alpha: float) -> str:
    """Return a sentence if a null has so few draws that nothing can be a finding; otherwise "".

    >>> too_few({"random frame": 199}, 0.05), too_few({"random frame": 9}, 0.05)
    ('', '9 draws cannot show a finding at 0.05: give at least 19.')
    """
    name = min(counts, key=lambda name: counts[name])
    if 1 / (counts[name] + 1) <= alpha:
        return ""
    which = f" of '{name}'" if len(set(counts.values())) > 1 else ""
    return f"{counts[name]} draws{which} cannot show a finding at {alpha:g}: give at least {math.ceil(1 / alpha) - 1}."


def floors(counts: Counts) -> str:
    """Return the smallest p-value that each null can give, in a sentence.

    >>> floors({"random frame": 199, "untrained": 199})
    'The smallest p-value that a null can give (the floor) is 0.005.'
    >>> floors({"untrained": 199, "few networks": 19})
    "The smallest p-value that a null can give (the floor) is 0.005 for 'untrained', 0.05 for 'few networks'."
    """
    found = {name: f"{1 / (count + 1):.3g}" for name, count in counts.items()}
    if len(set(found.values())) == 1:
        text = next(iter(found.values()))
    else:
        text = ", ".join(f"{floor} for '{name}'" for name, floor in found.items())
    return f"The smallest p-value that a null can give (the floor) is {text}."
