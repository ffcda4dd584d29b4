"""Results for a list of signals."""

import os
from typing import TYPE_CHECKING, cast

from jaxdescramble._base import results
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._folders import load_items, save_items
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.objectives import Objective

SHOWN = 4
"""Number of items of a list that are shown with a picture."""


# For type checkers a list of results. After Ctrl-C some are None, which a check at run time must let pass.
Several = list[Descrambling] if TYPE_CHECKING else list


class Descramblings(Several):
    """Descramblings of a list of signals, in the order of the list. After Ctrl-C, items without a result are None."""

    def check(self) -> "Descramblings":
        """Return this list if every problem in it has an answer.

        Raises:
            FloatingPointError: if a problem has no answer; one paragraph for each item and kind of failure.

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
        """Write a folder with one file for each item and a table of contents.

        Raises:
            TypeError: if `folder` is not a path.
            OSError: if a file cannot be written (no such folder, a full disk).
        """
        items = {str(place): one for place, one in enumerate(self) if one is not None}
        save_items(folder, "Descramblings", items, {"count": len(self)})

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "Descramblings":
        """Read what `save` wrote.

        Args:
            folder: path of the folder.
            objective: the objective of all items; needed only if it is not one of `jaxdescramble.objectives`.

        Raises:
            FileNotFoundError: if the folder or its table of contents is missing.
            TypeError: if `folder` is not a path.
            ValueError: if the folder holds something else or another version, a file is damaged, or the objective is
                missing.
        """
        items, about = load_items(folder, "Descramblings", objective)
        return Descramblings(cast(Descrambling, items.get(str(place))) for place in range(about["count"]))
