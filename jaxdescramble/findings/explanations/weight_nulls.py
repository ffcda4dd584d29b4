"""Null models of a network's weights: models that do not contain the finding.

| null              | draws                                     | exact if                                           |
|-------------------|-------------------------------------------|----------------------------------------------------|
| `RandomFrame`     | `U diag(s(W)) V^T`, U and V Haar          | the frames are Haar, given the singular values     |
| `Isotropic`       | normal entries, the Frobenius norm of W   | the entries are normal, all of the same variance   |
| `PermutedEntries` | the entries of W in random places         | the entries are exchangeable (any iid distribution)|
| `Untrained`       | the whole network, parameters from `init` | the network was drawn by `init`                    |

The first three change one layer at a time: its input signals stay those of the network. The last one replaces the whole
network, signals included; so does `TrainedNetworks` (`whole_networks.py`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations.looks import thin, together
from jaxdescramble.manifolds import orthogonal


@runtime_checkable
class WeightNull(Protocol):
    """A null that changes the weight of one layer.

    A null that keeps the singular values of the weight may say so with an attribute `keeps_singular_values = True`.
    Then the values of the weight stand for those of all draws.
    """

    @property
    def name(self) -> str: ...

    def draw(
        self, key: Key[Array, " draws"], weight: Float[Array, "n m"], singular: Float[Array, " k"], reduced: bool
    ) -> Float[Array, "draws r m"]:
        """Return one draw for each entry of `key`; if `reduced`, `thin` of each, up to a rotation of the outputs.

        `singular` are the singular values of the weight, descending. `explain` calls it outside `jit`, from several
        threads at once.
        """
        ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class RandomFrame:
    """Random matrices with the singular values of W: is the weight aligned with its inputs and outputs?

    Descrambling undoes the frame on the output side. So a small p-value says that W is aligned with its input signals
    or with the order of its inputs. It says nothing about the singular values, which all draws share.
    """

    name: str = "random frame"
    keeps_singular_values: ClassVar[bool] = True

    def draw(
        self, key: Key[Array, " draws"], weight: Float[Array, "n m"], singular: Float[Array, " k"], reduced: bool
    ) -> Float[Array, "draws r m"]:
        """Return `U diag(s(W)) V^T`, or `diag(s(W)) V^T` if only the product with a rotation matters."""
        return _random_frames(key, weight, singular, reduced)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Isotropic:
    """Normal entries with the Frobenius norm of W: does the weight differ from noise?"""

    name: str = "isotropic weights"

    def draw(
        self, key: Key[Array, " draws"], weight: Float[Array, "n m"], singular: Float[Array, " k"], reduced: bool
    ) -> Float[Array, "draws r m"]:
        """Return normal matrices with the norm of W."""
        return _normal(key, weight, reduced)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PermutedEntries:
    """The entries of W in random places: does it matter where the entries stand?

    It is valid for any independent entries of one distribution, and therefore for most networks before training. It is
    not valid for orthogonal starts: give `init` to `explain` for those.
    """

    name: str = "permuted entries"

    def draw(
        self, key: Key[Array, " draws"], weight: Float[Array, "n m"], singular: Float[Array, " k"], reduced: bool
    ) -> Float[Array, "draws r m"]:
        """Return W with its entries in random order.

        NumPy shuffles, with the words of the key as its seed: 600,000 entries take 14 ms, and 340 ms with
        `jax.random.permutation` on a CPU, which sorts.
        """
        seeds = np.asarray(jax.random.key_data(key)).reshape(len(key), -1)
        entries = np.asarray(weight, np.float64).reshape(-1)  # NumPy is faster with entries of eight bytes
        shuffled = [np.random.default_rng(seed.tolist()).permutation(entries).astype(weight.dtype) for seed in seeds]
        stack = jnp.asarray(np.stack(shuffled).reshape(len(key), *np.shape(weight)))
        return _thin(stack) if reduced and len(weight) > weight.shape[1] else stack


@functools.partial(quick_jit, static_argnames="reduced")
def _random_frames(
    keys: Key[Array, " draws"], weight: Float[Array, "n m"], singular: Float[Array, " k"], reduced: bool
) -> Float[Array, "draws r m"]:
    def columns(key: PRNGKeyArray, size: int) -> Array:
        return orthogonal.random_columns(key, size, len(singular), weight.dtype)

    def one(key: PRNGKeyArray) -> Array:
        left, right = jax.random.split(key)
        drawn = singular[:, None] * columns(right, weight.shape[1]).T
        return drawn if reduced else matmul(columns(left, weight.shape[0]), drawn)

    return together(one, len(keys) * weight.size)(keys)


@functools.partial(quick_jit, static_argnames="reduced")
def _normal(keys: Key[Array, " draws"], weight: Float[Array, "n m"], reduced: bool) -> Float[Array, "draws r m"]:
    size = jnp.sum(weight**2)

    def one(key: PRNGKeyArray) -> Array:
        drawn = jax.random.normal(key, weight.shape, weight.dtype)
        drawn = drawn * jnp.sqrt(size / jnp.sum(drawn**2))
        return thin(drawn) if reduced else drawn

    return together(one, len(keys) * weight.size)(keys)


@quick_jit
def _thin(stack: Float[Array, "draws n m"]) -> Float[Array, "draws r m"]:
    return together(thin, stack.size)(stack)


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
