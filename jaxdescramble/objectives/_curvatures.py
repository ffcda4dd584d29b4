"""Curvatures of objectives: diagonal models of the Hessian, each in a frame in which it is simple."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Curvature
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import in_own_unit, mean


@dataclasses.dataclass(frozen=True)
class SpatialCurvature:
    """A curvature in the frame of the neurons: the exact diagonal of the Hessian along paths `exp(t W) P`, W skew.

    Attributes:
        diagonal: a function of the point. Entry `[i, j]` of its result is the second derivative along
            `W = E_ij - E_ji`.
    """

    diagonal: Callable[[Array], Array]

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        return Curvature(point.T, self.diagonal(point))


def spatial_curvature(
    across: Float[Array, "n n"], radial: Float[Array, " n"], cross: Float[Array, "n n"]
) -> Float[Array, "n n"]:
    """Return the second derivative of `sum_s F(y_s)` along `exp(t (E_ij - E_ji)) Y`, for all i and j.

    Here y_s are the columns of Y, and F_i, F_ij the derivatives of F. The result is
    `across_ij + across_ji - 2 cross_ij - radial_i - radial_j`, and 0 for i = j. To first order, row i of Y moves by row
    j, and row j by minus row i. To second order, both rows shrink.

    Args:
        across: `sum_s F_ii(y_s) y_js^2` at `[i, j]`.
        radial: `sum_s F_i(y_s) y_is` at `[i]`.
        cross: `sum_s F_ij(y_s) y_is y_js` at `[i, j]`; its diagonal is not used.
    """
    bend = across + across.T - 2 * cross - radial[:, None] - radial[None, :]
    return bend * (1 - jnp.eye(len(radial), dtype=bend.dtype))


def entrywise_curvature(summary: SampleSummary, terms: Callable[[Array, Array], Array]) -> SpatialCurvature:
    """Return the curvature of the mean of `terms(Y, energies)`, from two automatic derivatives.

    Each term must depend on one entry of Y only.
    """
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)

    def diagonal(point: Array) -> Array:
        Y = matmul(point, S)
        gradient = jax.grad(lambda y: mean(summary.weigh(terms(y, energies))))
        slope, bend = jax.jvp(gradient, (Y,), (jnp.ones_like(Y),))  # the Hessian is diagonal: this is all of it
        return spatial_curvature(matmul(bend, (Y**2).T), jnp.sum(slope * Y, axis=1), jnp.zeros_like(point))

    return SpatialCurvature(diagonal)
