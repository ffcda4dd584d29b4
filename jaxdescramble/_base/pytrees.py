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


def register_dataclass(
    cls: Kind, data_fields: Sequence[str] | None = None, meta_fields: Sequence[str] | None = None
) -> Kind:
    """Make a dataclass a pytree, as `jax.tree_util.register_dataclass` does, and return it.

    Args:
        cls: the dataclass.
        data_fields: names of the fields that hold pytrees; None means all fields not marked as static.
        meta_fields: names of the static fields; None means those marked `metadata={"static": True}`.

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
    if {*data, *meta} != {field.name for field in fields}:
        raise TypeError(f"{cls.__name__}: its fields are {[field.name for field in fields]}; got {data} and {meta}.")
    keys = tuple(map(jax.tree_util.GetAttrKey, data))

    def flatten(tree: object) -> tuple[tuple[object, ...], tuple[object, ...]]:
        return tuple(getattr(tree, name) for name in data), tuple(getattr(tree, name) for name in meta)

    def flatten_with_keys(tree: object) -> tuple[tuple[tuple[object, object], ...], tuple[object, ...]]:
        children, static = flatten(tree)
        return tuple(zip(keys, children, strict=True)), static

    def unflatten(static: tuple[object, ...], children: Iterable[object]) -> object:
        return cls(**dict(zip(meta, static, strict=True)), **dict(zip(data, children, strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
