"""Copy parameters before the next training step, which may donate their buffers."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxdescramble._base.devices import Device


def snapshot(tree: PyTree, name: str) -> PyTree:
    """Copy all arrays of a tree on their own devices; the copies have begun when this returns.

    A copy is a computation like any other. The runtime runs it before any later computation overwrites the original, so
    nothing has to wait. `device_put` is not enough: it returns the same buffer if the array is already in place, and a
    transfer to another backend would wait until the training step ends.

    Args:
        tree: JAX arrays on any devices, sharded or not; NumPy arrays; numbers.
        name: name of the tree in error messages.

    Raises:
        RuntimeError: if an array was already donated.
        ValueError: if a part of an array is on another host.

    >>> snapshot({"a": jnp.ones(2), "b": 3}, "params")
    {'a': Array([1., 1.], dtype=float32), 'b': 3}
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [leaf for _, leaf in paths]
    together: dict[frozenset[Device], list[int]] = defaultdict(list)
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
        # One program copies all arrays on the same devices, so there is one dispatch instead of one for each array.
        together[frozenset(leaves[place].sharding.device_set)].append(place)
    for places in together.values():
        for place, copy in zip(places, _copied([leaves[place] for place in places]), strict=True):
            leaves[place] = copy
    return jax.tree.unflatten(structure, leaves)


def described(tree: PyTree) -> dict[str, str]:
    """Return the shape and dtype of every leaf, by its path; this waits for no computation.

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
