"""Curvatures of objectives: diagonal models of a Hessian, in the frame in which each is simple."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Curvature
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import in_own_unit, mean


@dataclasses.dataclass(frozen=True)
class SpatialCurvature:
    """A curvature in the neurons' frame, `exp(t W) P`: the exact diagonal of the Hessian there.

    Attributes:
        diagonal: `diagonal(point)`, the second derivative along `W = E_ij - E_ji` at `[i, j]`.
    """

    diagonal: Callable[[Array], Array]

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        return Curvature(point.T, self.diagonal(point))


def spatial_curvature(
    across: Float[Array, "n n"], radial: Float[Array, " n"], cross: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Return the second derivative of `sum_s F(y_s)` along `exp(t (E_ij - E_ji)) Y`, for all i and j.

    `across_ij + across_ji - 2 cross_ij - radial_i - radial_j`, 0 for i = j: row i of Y moves by row j and row j by
    minus row i, and both shrink in second order.

    Args:
        across: `sum_s F_ii(y_s) y_js^2`.
        radial: `sum_s F_i(y_s) y_is`.
        cross: `sum_s F_ij(y_s) y_is y_js`; on its diagonal anything.
    """
    bend = across + across.T - 2 * cross - radial[:, None] - radial[None, :]
    return bend * (1 - jnp.eye(len(radial), dtype=bend.dtype))


def entrywise_curvature(summary: Samples, terms: Callable[[Array, Array], Array]) -> SpatialCurvature:
    """Return the curvature of a mean of `terms(Y, energies)`, each a function of one entry of Y, by two derivatives."""
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)

    def diagonal(point: Array) -> Array:
        Y = matmul(point, S)
        gradient = jax.grad(lambda y: mean(summary.weigh(terms(y, energies))))
        slope, bend = jax.jvp(gradient, (Y,), (jnp.ones_like(Y),))  # the Hessian is diagonal: this is all of it
        return spatial_curvature(matmul(bend, (Y**2).T), jnp.sum(slope * Y, axis=1), jnp.zeros_like(point))

    return SpatialCurvature(diagonal)
