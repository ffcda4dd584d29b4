"""Dataclasses as pytrees whose structures differ if their classes differ.

In jaxlib 0.10.0 to 0.10.2 the structures of two dataclasses that `jax.tree_util.register_dataclass` registered compare
equal if their static fields do, whatever their classes are. Their hashes differ, so a `jax.jit` cache seldom compares
them; but when it does, it runs the program of the other class. A derivative of one objective was then that of another.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeVar

import jax

Kind = TypeVar("Kind", bound=type)


class _Aside:
    """Values that are equal to any others."""

    def __init__(self, values: tuple[object, ...]):
        self.values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Aside)

    def __hash__(self) -> int:
        return 0


Static = tuple[tuple[object, ...], _Aside]
"""What is fixed in a tree: values that belong to its structure, and remarks that do not."""


def register_dataclass(
    cls: Kind,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    asides: Sequence[str] = (),
) -> Kind:
    """Make a dataclass a pytree, as `jax.tree_util.register_dataclass` does, and return it.

    Args:
        cls: the dataclass.
        data_fields: names of the fields that hold pytrees; None means all fields not marked as static.
        meta_fields: names of the static fields; None means those marked `metadata={"static": True}`.
        asides: names of further static fields that say nothing about the structure, such as remarks in words: trees
            that differ only there can be stacked, and share compiled programs.

    >>> @register_dataclass
    ... @dataclasses.dataclass(frozen=True)
    ... class Line:
    ...     slope: float
    ...     name: str = dataclasses.field(default="", metadata={"static": True})
    >>> jax.tree.map(lambda x: 2 * x, Line(1.5, "a")).slope
    3.0
    """
    fields = [field for field in dataclasses.fields(cls) if field.init]
    static = {field.name for field in fields if field.metadata.get("static")}
    data = tuple([field.name for field in fields if field.name not in static] if data_fields is None else data_fields)
    meta = tuple([field.name for field in fields if field.name in static] if meta_fields is None else meta_fields)
    if {*data, *meta, *asides} != {field.name for field in fields}:
        raise TypeError(
            f"{cls.__name__}: its fields are {[field.name for field in fields]}; got {data}, {meta} and {asides}."
        )
    keys = tuple(map(jax.tree_util.GetAttrKey, data))

    def flatten(tree: object) -> tuple[tuple[object, ...], Static]:
        fixed = tuple(getattr(tree, name) for name in meta)
        aside = _Aside(tuple(getattr(tree, name) for name in asides))
        return tuple(getattr(tree, name) for name in data), (fixed, aside)

    def flatten_with_keys(tree: object) -> tuple[tuple[tuple[object, object], ...], Static]:
        children, static = flatten(tree)
        return tuple(zip(keys, children, strict=True)), static

    def unflatten(static: Static, children: Iterable[object]) -> object:
        fixed, aside = static
        return cls(**dict(zip((*meta, *asides, *data), (*fixed, *aside.values, *children), strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
