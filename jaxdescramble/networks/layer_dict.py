"""A dictionary of layers by name, in the order in which a network computes them."""

from collections.abc import Iterable
from typing import Any

import jax


@jax.tree_util.register_pytree_with_keys_class
class Layers(dict):
    """A dictionary `{layer name: value}` that keeps its order through `jax.jit` and other transformations.

    JAX sorts the keys of plain dictionaries. This one equals the plain dictionary with the same content, and works in
    the same way.

    >>> layers = Layers({"['up']": 1, "['down']": 2})
    >>> list(jax.jit(lambda layers: layers)(layers)), layers
    (["['up']", "['down']"], Layers(["['up']", "['down']"]))
    """

    def __repr__(self) -> str:
        # The values hold whole arrays; printed, they would fill the screen.
        return f"Layers({list(self)})"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        return [(jax.tree_util.DictKey(name), value) for name, value in self.items()], tuple(self)

    def tree_flatten(self) -> tuple[list[Any], tuple[str, ...]]:
        return list(self.values()), tuple(self)

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Iterable[Any]) -> "Layers":
        return cls(zip(names, values, strict=True))
