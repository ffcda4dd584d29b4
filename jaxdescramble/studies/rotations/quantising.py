"""Numbers rounded to few bits and back, with straight-through gradients."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.checks import positive_integer


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Quantising:
    """Rounding of what enters a product: weights for each output, activations for each token, both symmetric.

    Attributes:
        weights, activations: bits.

    >>> Quantising(4, 8).name
    'W4A8'
    """

    weights: int = 4
    activations: int = 4

    def __post_init__(self):
        for name in ("weights", "activations"):
            positive_integer(getattr(self, name), name, least=2)

    @property
    def name(self) -> str:
        """Short name: bits of weights and activations."""
        return f"W{self.weights}A{self.activations}"

    def weight(self, weight: Float[Array, "out in"]) -> Float[Array, "out in"]:
        """Round a weight; each output has its own unit."""
        return rounded(weight, self.weights)

    def activation(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch in"]:
        """Round activations; each token has its own unit."""
        return rounded(x, self.activations)


def rounded(x: Float[Array, "*batch n"], bits: int) -> Float[Array, "*batch n"]:
    """Round to `2^bits - 1` numbers at equal distances, symmetric about 0; the largest entry of a row stays.

    The derivative is that of the identity.

    >>> rounded(jnp.asarray([[7.0, 3.4, -0.2]]), 4).tolist()
    [[7.0, 3.0, 0.0]]
    """
    largest = jnp.abs(x).max(axis=-1, keepdims=True)
    unit = jnp.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)
    return x + jax.lax.stop_gradient(jnp.round(x / unit) * unit - x)
