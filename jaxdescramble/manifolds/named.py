"""Manifolds by name: `group="O"` is short for `manifold=Orthogonal()`."""

from typing import Any

from jaxtyping import PyTree

from jaxdescramble._base.checks import one_of
from jaxdescramble.manifolds.groups import Orthogonal, SpecialOrthogonal, SpecialUnitary, Unitary
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.products import as_manifold

GROUPS = {"O": Orthogonal(), "SO": SpecialOrthogonal(), "U": Unitary(), "SU": SpecialUnitary()}
"""The groups, by name."""


def point_on(group: str | None, manifold: PyTree, point: Any, name: str) -> tuple[Manifold, Any]:
    """Return the manifold that a user chose, and the point on it.

    Args:
        group: a name of `GROUPS`, or None.
        manifold: a manifold, a pytree of manifolds, or None; if both are None, the manifold is O(n).
        point: the point, an array or a pytree of arrays.
        name: name of the point, for the message.

    Raises:
        TypeError: if both are given, a manifold is none, or the point has another structure or type.
        ValueError: if the group is unknown, or the point is not on the manifold.

    >>> point_on(None, None, [[1.0]], "start")[0]
    Orthogonal()
    """
    if manifold is None:
        chosen: Manifold = GROUPS[one_of("O" if group is None else group, "group", tuple(GROUPS))]
    elif group is None:
        chosen = as_manifold(manifold, point)
    else:
        raise TypeError(
            f"group, manifold: got both, {group!r} and {manifold!r}; group is short for a manifold: give one."
        )
    return chosen, chosen.check(point, name)
