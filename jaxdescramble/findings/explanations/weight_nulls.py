"""Null models of a network's weights: models that do not contain the finding.

| null              | draws                                     | exact if                                           |
|-------------------|-------------------------------------------|----------------------------------------------------|
| `RandomFrame`     | `U diag(s(W)) V^T`, U and V Haar          | the frames are Haar, given the singular values     |
| `Isotropic`       | normal entries, the Frobenius norm of W   | the entries are normal, all of the same variance   |
| `PermutedEntries` | the entries of W in random places         | the entries are exchangeable (any iid distribution)|
| `Untrained`       | the whole network, parameters from `init` | the network was drawn by `init`                    |

The first three change one layer at a time: its input signals stay those of the network. The last one replaces the whole
network, signals included.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble.findings.explanations.looks import thin
from jaxdescramble.findings.nulls import random_frame
from jaxdescramble.manifolds import orthogonal


@runtime_checkable
class WeightNull(Protocol):
    """A null that changes the weight of one layer."""

    @property
    def name(self) -> str: ...

    def draw(self, key: PRNGKeyArray, weight: Float[Array, "n m"], reduced: bool) -> Float[Array, "r m"]:
        """Return one draw; if `reduced`, return `thin` of it, up to a rotation of the outputs."""
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RandomFrame:
    """Random matrices with the singular values of W: is the weight aligned with its inputs and outputs?

    Descrambling undoes the frame on the output side. So a small p-value says that W is aligned with its input signals
    or with the order of its inputs. It says nothing about the singular values, which all draws share.
    """

    name: str = "random frame"

    def draw(self, key: PRNGKeyArray, weight: Float[Array, "n m"], reduced: bool) -> Float[Array, "r m"]:
        """Return `U diag(s(W)) V^T`, or `diag(s(W)) V^T` if only the product with a rotation matters."""
        if not reduced:
            return random_frame(key, weight)
        singular = decompositions.singular_values(weight)
        right = orthogonal.random_columns(jax.random.split(key)[1], weight.shape[1], len(singular), weight.dtype)
        return singular[:, None] * right.T


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Isotropic:
    """Normal entries with the Frobenius norm of W: does the weight differ from noise?"""

    name: str = "isotropic weights"

    def draw(self, key: PRNGKeyArray, weight: Float[Array, "n m"], reduced: bool) -> Float[Array, "r m"]:
        """Return a normal matrix with the norm of W."""
        drawn = jax.random.normal(key, weight.shape, weight.dtype)
        drawn = drawn * jnp.sqrt(jnp.sum(weight**2) / jnp.sum(drawn**2))
        return thin(drawn) if reduced else drawn


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PermutedEntries:
    """The entries of W in random places: does it matter where the entries stand?

    It is valid for any independent entries of one distribution, and therefore for most networks before training. It is
    not valid for orthogonal starts: give `init` to `explain` for those.
    """

    name: str = "permuted entries"

    def draw(self, key: PRNGKeyArray, weight: Float[Array, "n m"], reduced: bool) -> Float[Array, "r m"]:
        """Return W with its entries in random order."""
        drawn = jax.random.permutation(key, weight.reshape(-1)).reshape(weight.shape)
        return thin(drawn) if reduced else drawn


@dataclasses.dataclass(frozen=True)
class Untrained:
    """Networks with parameters from `init(key)`: did training make the finding?

    Attributes:
        init: function of a random key that returns parameters, a pytree with the structure and shapes of `params`.
        name: name in the report.
    """

    init: Callable[[PRNGKeyArray], PyTree]
    name: str = "untrained"

    def network(self, key: PRNGKeyArray) -> PyTree:
        """Return the parameters of one network."""
        return self.init(key)


NULLS: dict[str, Callable[[], WeightNull]] = {
    "random frame": RandomFrame,
    "isotropic weights": Isotropic,
    "permuted entries": PermutedEntries,
}
