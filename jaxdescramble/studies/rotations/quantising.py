"""Numbers rounded to few bits and back, with straight-through gradients."""

import dataclasses

import jax
from jaxtyping import Array, Float

from jaxdescramble.objectives import quantised


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
        for bits in (self.weights, self.activations):
            quantised(bits)  # it checks the bits

    @property
    def name(self) -> str:
        """Short name: bits of weights and activations."""
        return f"W{self.weights}A{self.activations}"

    def weight(self, weight: Float[Array, "out in"]) -> Float[Array, "out in"]:
        """Round a weight; each output has its own step."""
        return quantised(self.weights).quantise(weight, axis=-1)

    def activation(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch in"]:
        """Round activations; each token has its own step."""
        return quantised(self.activations).quantise(x, axis=-1)
