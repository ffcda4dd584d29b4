"""Numbers with a separate logarithm for each pair of samples, so that products of any depth stay in range.

Without the logarithm these are plain arrays, at the cost of plain arrays.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Scaled(NamedTuple):
    """The numbers `value * exp(log)`: value (n1, *space, n2, *space), log (n1, n2); log None means zero.

    >>> big = Scaled(jnp.full((1, 1), 1e30, "float32"), jnp.zeros((1, 1), "float32")).settled()
    >>> round(float(big.times(big.value).times(big.value).plus(big).log[0, 0] / jnp.log(10)), 3)
    30.301
    """

    value: Float[Array, "..."]
    log: Float[Array, "n1 n2"] | None = None

    def times(self, factor: Array) -> "Scaled":
        return Scaled(self.value * factor, self.log).settled()

    def map(self, linear: Callable[[Array], Array]) -> "Scaled":
        """Apply the same linear function to the values of every pair."""
        return Scaled(linear(self.value), self.log).settled()

    def plus(self, other: "Scaled") -> "Scaled":
        if self.log is None or other.log is None:
            return Scaled(self.value + other.value)
        top = jnp.maximum(self.log, other.log)
        mine, theirs = (_spread(jnp.exp(log - top), self.value) for log in (self.log, other.log))
        return Scaled(self.value * mine + other.value * theirs, top).settled()

    def plus_number(self, number: Array) -> "Scaled":
        if self.log is None:
            return Scaled(self.value + number)
        return self.plus(Scaled(jnp.broadcast_to(number, self.value.shape), jnp.zeros_like(self.log)).settled())

    def settled(self) -> "Scaled":
        """Return the same numbers, with a largest value of 1 for every pair."""
        if self.log is None:
            return self
        half = self.value.ndim // 2
        axes = tuple(i for i in range(self.value.ndim) if i not in (0, half))
        size = jnp.max(jnp.abs(self.value), axis=axes)
        zero = size == 0
        size = jnp.where(zero, 1, size)
        # Zero gets a very small logarithm, so that a number added to it keeps all its digits.
        log = jnp.where(zero, jnp.finfo(size.dtype).min / 4, self.log + jnp.log(size))
        return Scaled(self.value / _spread(size, self.value), log)

    def logarithm(self) -> Float[Array, "n1 n2"]:
        """Return `log(value) + log` of numbers without positions: -inf at zero, NaN for negative numbers."""
        log = jnp.log(self.value)
        return log if self.log is None else jnp.where(self.value == 0, -jnp.inf, log + self.log)


def _spread(pairs: Float[Array, "n1 n2"], value: Array) -> Array:
    positions = (1,) * (value.ndim // 2 - 1)
    return pairs.reshape(pairs.shape[0], *positions, pairs.shape[1], *positions)
