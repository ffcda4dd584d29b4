"""Nulls whose draws are whole networks: from an initialiser, or trained by the user on other targets."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PRNGKeyArray, PyTree

from jaxdescramble.findings.explanations.weight_nulls import Untrained

LEAST = 19
"""Smallest number of networks of a test: its p-values go down to 1 / (19 + 1) = 0.05."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetworks:
    """Networks that you trained in the same way on targets without meaning: do the targets make the finding?

    Shuffle the targets over the training samples, each time in another order, and train a network from a fresh start
    each time. All else stays the same: samples, number of steps, learning rate. Draw k is network k, so N networks give
    p-values down to `1 / (N + 1)`. The test is exact if the targets mean nothing for the samples.

    Attributes:
        parameters: the parameters of the networks, each with the structure and shapes of `params`; at least 19.
        name: name in the report.

    Raises:
        TypeError, ValueError: if `parameters` is no list, or has fewer than 19 entries.

    >>> networks = [{"w": jax.random.normal(jax.random.key(k), (3, 2))} for k in range(19)]
    >>> null = TrainedNetworks(networks)
    >>> null.name, len(null.parameters)
    ('trained on shuffled targets', 19)
    """

    parameters: Sequence[PyTree]
    name: str = "trained on shuffled targets"

    def __post_init__(self):
        if not isinstance(self.parameters, list | tuple):
            raise TypeError(
                f"parameters: got {type(self.parameters).__name__}; must be a list of the parameters of each network. "
                "Take them out of a stack with [jax.tree.map(lambda leaf: leaf[k], stack) for k in range(networks)]."
            )
        if len(self.parameters) < LEAST:
            raise ValueError(
                f"parameters: got {len(self.parameters)} network(s); a test at 5% needs at least {LEAST}. Train more, "
                "or give them as explain(..., others=networks): the report then describes where your network lies "
                "among them, without a test."
            )
        object.__setattr__(self, "parameters", tuple(self.parameters))

    @functools.cached_property
    def digests(self) -> tuple[str, ...]:
        """A text for each network that tells its parameters from others."""
        return tuple(digest_of(one) for one in self.parameters)


WholeNull = Untrained | TrainedNetworks
"""Nulls that replace all parameters of the network."""


def check_networks(null: TrainedNetworks, params: PyTree) -> None:
    """Check that the networks can be draws for a network with these parameters.

    Raises:
        ValueError: if structure or shapes differ, if numbers are not finite, or if two networks are equal.
    """
    for k, one in enumerate(null.parameters):
        what = f"nulls: network {k} of '{null.name}'"
        same_structure(one, params, what)
        bad = next((name for name, array in _arrays(one) if not _finite(array)), None)
        if bad is not None:
            raise ValueError(f"{what}: `{bad}` contains NaN or infinity. Train this network again, or leave it out.")
        first = null.digests.index(null.digests[k])
        if first < k:
            raise ValueError(
                f"{what} equals network {first}. A test needs networks that were trained independently: use another "
                "random key for each."
            )


def most_draws(null: object, draws: int) -> int:
    """Return how many draws a null gives if `draws` are asked for."""
    return min(draws, len(null.parameters)) if isinstance(null, TrainedNetworks) else draws


def member(null: WholeNull, number: int, key: PRNGKeyArray) -> PyTree:
    """Return the parameters of one draw: network `number`, or a network drawn with `key`."""
    return null.parameters[number] if isinstance(null, TrainedNetworks) else null.network(key)


def same_structure(other: PyTree, params: PyTree, what: str) -> None:
    """Check that parameters have the structure and shapes of `params`.

    Raises:
        ValueError: if not; the message names the first entry that differs.

    >>> same_structure({"w": np.ones(2)}, {"w": np.ones(3)}, "others")
    Traceback (most recent call last):
    ValueError: others: `['w']` has shape (2,), but (3,) in `params`. Structure and shapes must be the same.
    """
    own, wanted = ({name: np.shape(leaf) for name, leaf in _leaves(one)} for one in (other, params))
    missing = [name for name in wanted if name not in own]
    more = [name for name in own if name not in wanted]
    shapes = [name for name in wanted if name in own and own[name] != wanted[name]]
    if missing:
        how = f"has no entry `{missing[0]}`, which `params` has"
    elif more:
        how = f"has an entry `{more[0]}`, which `params` does not have"
    elif shapes:
        how = f"`{shapes[0]}` has shape {own[shapes[0]]}, but {wanted[shapes[0]]} in `params`"
    elif jax.tree.structure(other) != jax.tree.structure(params):
        how = f"has the structure {jax.tree.structure(other)}, but `params` has {jax.tree.structure(params)}"
    else:
        return
    raise ValueError(f"{what}: {how}. Structure and shapes must be the same.")


def _leaves(params: PyTree) -> list[tuple[str, ArrayLike]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]


def _arrays(params: PyTree) -> list[tuple[str, np.ndarray]]:
    """Return the leaves as NumPy arrays; random keys as their words."""
    found = []
    for name, leaf in _leaves(params):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        found.append((name, np.asarray(leaf)))
    return found


def _finite(array: np.ndarray) -> bool:
    return not jnp.issubdtype(array.dtype, jnp.inexact) or bool(np.isfinite(array).all())


def digest_of(params: PyTree) -> str:
    """Return a text that tells parameters from others."""
    found = hashlib.sha256()
    for name, array in _arrays(params):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
