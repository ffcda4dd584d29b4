"""Results for a list of signals."""

import os
from typing import cast

from jaxdescramble._base import results
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._folders import load_items, save_items
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.objectives import Objective

SHOWN = 4
"""Pictures of a list."""


class Descramblings(list[Descrambling]):
    """Descramblings of a list of signals, in its order. An interrupted call leaves None where nothing was found yet."""

    def check(self) -> "Descramblings":
        """Return this list if every problem in it has an answer.

        Raises:
            FloatingPointError: one paragraph for every kind of failure of every item, as `Descrambling.check`.

        >>> Descramblings([]).check()
        Descramblings(0 items)
        """
        failures = []
        for place, found in enumerate(self):
            if found is None:
                failures.append(f"item {place} of {len(self)}, descramble: {Status.INTERRUPTED.name} before it began.")
                continue
            try:
                found.check()
            except FloatingPointError as error:
                failures += [f"item {place} of {len(self)}, {line}" for line in str(error).splitlines()]
        if failures:
            raise FloatingPointError("\n".join(failures))
        return self

    def __repr__(self) -> str:
        shapes = [results.brief(None if one is None else one.point) for one in self]
        shown = ", ".join(shapes[:SHOWN]) + (", …" if len(shapes) > SHOWN else "")
        count = "1 item" if len(self) == 1 else f"{len(self)} items"
        return f"Descramblings({count}: {shown})" if shapes else f"Descramblings({count})"

    def _repr_html_(self) -> str:
        drawn = "".join(results.pictures(one) for one in self[:SHOWN] if one is not None)
        rows = [(f"item {place}", repr(one)) for place, one in enumerate(self[:SHOWN])]
        return results.laid_out(f"Descramblings of {len(self)} signals", drawn, rows)

    def to_dict(self) -> dict[str, object]:
        """Return `{"items": [...]}`, each item as plain Python values and NumPy arrays."""
        return {"items": [None if one is None else one.to_dict() for one in self]}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write every item into a file of its own in a folder, and a table of contents.

        Raises:
            TypeError: not a path.
            OSError: a file cannot be written (no such folder, a full disk).
        """
        items = {str(place): one for place, one in enumerate(self) if one is not None}
        save_items(folder, "Descramblings", items, {"count": len(self)})

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "Descramblings":
        """Read what `save` wrote.

        Args:
            folder: the folder.
            objective: needed only where the objective is not one of `jaxdescramble.objectives`.

        Raises:
            FileNotFoundError: no such folder, or one without a table of contents.
            TypeError: not a path.
            ValueError: a folder of something else or of another version, a damaged file, a missing objective.
        """
        items, about = load_items(folder, "Descramblings", objective)
        return Descramblings(cast(Descrambling, items.get(str(place))) for place in range(about["count"]))
