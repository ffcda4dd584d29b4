"""Barriers: how far the loss rises on a straight line between two networks."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, PyTree

from jaxdescramble._base.results import Result


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Barrier(Result):
    """Losses on straight lines from network a to network b: before matching, after, and after random elements.

    Attributes:
        position: t, 0 at network a and 1 at network b.
        losses_before, losses_after: the loss at these positions.
        losses_null: the same with random elements of the group, shape (nulls, points).
    """

    position: Float[np.ndarray, " points"]
    losses_before: Float[np.ndarray, " points"]
    losses_after: Float[np.ndarray, " points"]
    losses_null: Float[np.ndarray, "nulls points"]

    @property
    def before(self) -> float:
        """Barrier between a and b as they are."""
        return _height(self.position, self.losses_before)

    @property
    def after(self) -> float:
        """Barrier between a and the matched b."""
        return _height(self.position, self.losses_after)

    @property
    def null(self) -> Float[np.ndarray, " nulls"]:
        """Barriers between a and b after random elements of the group."""
        return np.array([_height(self.position, one) for one in self.losses_null])

    def __repr__(self) -> str:
        null = f", null={np.median(self.null):.4g} (median of {len(self.null)})" if len(self.null) else ""
        return f"Barrier(before={self.before:.4g}, after={self.after:.4g}{null})"


def _height(position: np.ndarray, losses: np.ndarray) -> float:
    return float(np.max(losses - (1 - position) * losses[0] - position * losses[-1]))


def barrier(
    loss: Callable[[PyTree], ArrayLike], a: PyTree, b: PyTree, matched: PyTree, nulls: Iterable[PyTree], points: int
) -> Barrier:
    """Return the losses along the lines from a to b, to the matched b, and to each null."""
    position = np.linspace(0, 1, points)

    def between(t: Any, one: Any, other: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(one), jnp.inexact):
            return one
        return ((1 - t) * one + t * other).astype(jnp.result_type(one))

    @jax.jit
    def along(other: PyTree) -> Any:
        def at(t: Any) -> Any:
            return jnp.asarray(loss(jax.tree.map(lambda one, two: between(t, one, two), a, other))).reshape(())

        return jax.lax.map(at, jnp.asarray(position, jnp.result_type(float)))

    null = [np.asarray(along(one), np.float64) for one in nulls]
    before, after = (np.asarray(along(one), np.float64) for one in (b, matched))
    return Barrier(position, before, after, np.array(null).reshape(-1, points))
