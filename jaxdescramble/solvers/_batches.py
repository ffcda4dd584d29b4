"""Measuring something at some steps only, also in batches."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

Tree = TypeVar("Tree")


@jax.custom_batching.custom_vmap
def _any(flag: Array) -> Array:
    """Return the flag: under `vmap`, whether that of any problem is set."""
    return flag


@_any.def_vmap
def _(size: int, in_batched: list[bool], flag: Array) -> tuple[Array, bool]:
    return (flag.any() if in_batched[0] else flag), False


def if_due(due: Array, measure: Callable[[], Tree], kept: Tree) -> Tree:
    """Return what is measured if it is due. In a batch, nothing is measured unless one of the problems is due."""

    def measured() -> Tree:
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), measure(), kept)

    return jax.lax.cond(_any(due), measured, lambda: kept)
