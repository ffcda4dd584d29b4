"""A copy of parameters that outlives them: the next training step may donate their buffers."""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def snapshot(tree: Any, name: str) -> Any:
    """Copies of all arrays, on the devices where they are, begun before this returns.

    A copy is a computation like any other: the runtime orders it before whatever later overwrites what it reads, so
    nothing waits. `device_put` alone would not do, since it gives the same buffer back where it is already in place;
    and a transfer to another backend would wait for the step to end.

    Args:
        tree: JAX arrays on any devices, sharded or not; NumPy arrays; numbers.
        name: for messages.

    Raises:
        RuntimeError: arrays that were donated already.
        ValueError: arrays in part on other hosts.

    >>> snapshot({"a": jnp.ones(2), "b": 3}, "params")
    {'a': Array([1., 1.], dtype=float32), 'b': 3}
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in paths]
    together: dict[Any, list[int]] = defaultdict(list)
    for place, (path, leaf) in enumerate(paths):
        if isinstance(leaf, np.ndarray):
            leaves[place] = leaf.copy()
        if not isinstance(leaf, jax.Array):
            continue
        where = f"{name}{jax.tree_util.keystr(path)}"
        if leaf.is_deleted():
            raise RuntimeError(
                f"{where}: its buffer was donated. Give film.see the parameters that the step returned, before the "
                "next step."
            )
        if not leaf.is_fully_addressable:
            if not leaf.is_fully_replicated:
                raise ValueError(
                    f"{where}: sharded over several hosts ({leaf.sharding}). Gather it first, with "
                    "jax.experimental.multihost_utils.process_allgather."
                )
            leaves[place] = leaf.addressable_data(0)
        # One program copies all that live together: dispatched once, not once for each array.
        together[frozenset(leaves[place].sharding.device_set)].append(place)
    for places in together.values():
        for place, copy in zip(places, _copied([leaves[place] for place in places]), strict=True):
            leaves[place] = copy
    return jax.tree.unflatten(structure, leaves)


def described(tree: Any) -> dict[str, str]:
    """What every leaf is, by its path: shapes and types, nothing that has to be waited for.

    >>> described({"a": jnp.ones((2, 3)), "b": 3})
    {"['a']": '(2, 3) float32', "['b']": 'int'}
    """
    return {
        jax.tree_util.keystr(path): f"{leaf.shape} {leaf.dtype}" if hasattr(leaf, "dtype") else type(leaf).__name__
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@jax.jit
def _copied(leaves: list[jax.Array]) -> list[jax.Array]:
    return [jnp.copy(leaf) for leaf in leaves]
