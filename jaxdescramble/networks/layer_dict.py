"""A dictionary of layers by name, in the order in which a network computes them."""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

import jax

from jaxdescramble._base import results

One = TypeVar("One")
LONGEST, SHOWN = 250, 4
"""Characters of the names in a `repr`, and pictures."""


@jax.tree_util.register_pytree_with_keys_class
class Layers(dict[str, One]):
    """A dictionary `{layer name: value}` that keeps its order through `jax.jit` and other transformations.

    JAX sorts the keys of plain dictionaries. This one equals the plain dictionary with the same content, and works in
    the same way.

    >>> layers = Layers({"['up']": 1, "['down']": 2})
    >>> list(jax.jit(lambda layers: layers)(layers)), layers
    (["['up']", "['down']"], Layers(["['up']", "['down']"]))
    """

    def __repr__(self) -> str:
        # The values hold whole arrays; printed, they would fill the screen.
        names = str(list(self))
        return f"{type(self).__name__}({names if len(names) <= LONGEST else names[:LONGEST] + '…'})"

    def _repr_html_(self) -> str:
        drawn = "".join(results.pictures(one) for one in list(self.values())[:SHOWN] if dataclasses.is_dataclass(one))
        rows = [(str(name), results.brief(getattr(one, "weight", one))) for name, one in self.items()]
        return results.laid_out(f"{type(self).__name__} of {len(self)} layers", drawn, rows)

    def to_dict(self) -> dict[str, object]:
        """Return the layers by name, as plain Python values and NumPy arrays.

        Raises:
            TypeError: inside `jit`, where there are no numbers yet.
        """
        return results.to_dict(self)

    def tree_flatten_with_keys(self) -> tuple[list[tuple[object, One]], tuple[str, ...]]:
        return [(jax.tree_util.DictKey(name), value) for name, value in self.items()], tuple(self)

    def tree_flatten(self) -> tuple[list[One], tuple[str, ...]]:
        return list(self.values()), tuple(self)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Iterable[One]) -> "Layers[One]":
        return cls(zip(names, values, strict=True))
