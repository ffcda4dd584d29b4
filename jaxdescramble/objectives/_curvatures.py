"""Curvatures of objectives: diagonal models of the Hessian, each in a frame in which it is simple.

There are two frames. In the frame of the neurons the diagonal is exact; it suits objectives whose neurons do not act on
each other, such as sparsity. In the frame of the principal directions of the signals, the diagonal follows from the
mean Hessian of one sample; it suits objectives that compare neurons, such as total variation.

`aligned` returns the same model in coordinates in which its frame is 1; `solvers.InFrame` solves in them. Those of the
neurons are `Q = P^T`, so that a path `exp(t W) P` becomes `Q exp(-t W)`. Those of the principal directions F are
`Q = P F`, for the signals `F^T S`. `transposes` says whether it is the first of the two.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.objectives.units import heavy, in_own_unit, kept_samples, mean

Bending = Callable[[Array, Array], Array]
"""`bending(P, V)` returns `v_k^T A v_k` for the columns v_k of V, shape (n,).

A is the sum over samples of the second derivatives of f by the column y_s of `P S`, in the unit of the signals.
"""


@dataclasses.dataclass(frozen=True)
class AxesCurvature:
    """A curvature in the frame of the principal directions F of the signals, from the mean Hessian of one sample.

    Let H_s be the second derivatives of f by the column y_s of `P S`. If H_s does not depend on how the sample lies,
    `D^2 f[V] = sum_s H_s V S_s S_s^T` is `A V B`, with the sum A of all H_s and the mean B of `S_s S_s^T`. In the frame
    F of B, with the eigenvalues b, the second derivative along `exp(t F W F^T)`, `W = E_ij - E_ji`, is
    `a_i b_j + a_j b_i - M_ii - M_jj`. Here `a_i = (P F_i)^T A (P F_i)`, and M is the symmetric part of
    `F^T P^T grad f F`. For a quadratic form, this is exact.

    Attributes:
        slope: a function of the point, the gradient of f in the space of all matrices.
        covariance: B.
        frame, variances: F and b; a frame of None means that F is 1.
        bending: see `Bending`.
        diagonal: the same in the frame of the neurons, see `SpatialCurvature`; None if it is unknown. Weighted sums
            use it.

    Source: this package; the assumption is that of K-FAC (Martens, Grosse, ICML 2015).
    """

    slope: Callable[[Array], Array]
    covariance: Float[Array, "n n"]
    frame: Float[Array, "n n"] | None
    variances: Float[Array, " n"]
    bending: Bending
    diagonal: Callable[[Array], Array] | None = None
    every: ClassVar[int] = 5
    """The mean over samples changes slowly: solvers may use one model for this number of steps."""
    transposes: ClassVar[bool] = False

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        body = matmul(point.T, self.slope(point))
        return self.of(point, (body + body.T) / 2)

    def of(self, point: Float[Array, "n n"], symmetric: Float[Array, "n n"]) -> Curvature:
        """Return the model at a point where the symmetric part of `P^T grad f` is known already."""
        frame = self.frame
        modes = point if frame is None else matmul(point, frame)
        a = self.bending(point, modes)
        bent = jnp.diagonal(symmetric) if frame is None else jnp.sum(frame * matmul(symmetric, frame), axis=0)
        one_way = a[:, None] * self.variances[None, :] - bent[:, None]
        return Curvature(frame, (one_way + one_way.T) * (1 - jnp.eye(len(a), dtype=a.dtype)))

    def aligned(self) -> "AxesCurvature":
        """Return the model for signals whose principal directions are the axes already."""
        return dataclasses.replace(self, frame=None, variances=jnp.diagonal(self.covariance))


def axes_curvature(
    objective: Objective,
    summary: Summary,
    bending: Bending,
    diagonal: Callable[[Array], Array] | None = None,
) -> AxesCurvature:
    """Return the curvature of an objective in the frame of the principal directions of the signals."""
    S = heavy(in_own_unit(summary), kept_samples(summary))
    covariance = matmul(S, S.T) / max(S.shape[1], 1)
    variances, frame = decompositions.eigh(covariance)
    slope = jax.grad(lambda point: objective.value(point, summary))
    return AxesCurvature(slope, covariance, frame, variances, bending, diagonal)


def second_derivatives(terms: Callable[[Array], Array], z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the second derivative of each term by its own entry of z, by two automatic derivatives.

    >>> second_derivatives(lambda z: z**3, jnp.asarray([1.0, 2.0])).tolist()
    [6.0, 12.0]
    """
    return jax.jvp(jax.grad(lambda z: jnp.sum(terms(z))), (z,), (jnp.ones_like(z),))[1]


@dataclasses.dataclass(frozen=True)
class SpatialCurvature:
    """A curvature in the frame of the neurons: the exact diagonal of the Hessian along paths `exp(t W) P`, W skew.

    Attributes:
        diagonal: a function of the point. Entry `[i, j]` of its result is the second derivative along
            `W = E_ij - E_ji`.
        bending: the mean Hessian of one sample, see `Bending`; None if it is unknown. Weighted sums use it.
    """

    diagonal: Callable[[Array], Array]
    bending: "Bending | None" = None
    transposes: ClassVar[bool] = True

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        return Curvature(point.T, self.diagonal(point))

    def aligned(self) -> "TransposedCurvature":
        """Return the model for a function of `Q = P^T`."""
        return TransposedCurvature(self.diagonal)


@dataclasses.dataclass(frozen=True)
class TransposedCurvature:
    """The curvature in the frame of the neurons, as a function of `Q = P^T`; there this frame is 1.

    Attributes:
        diagonal: see `SpatialCurvature`.
    """

    diagonal: Callable[[Array], Array]
    every: ClassVar[int] = 3
    """The frame moves with the point, and the diagonal changes slowly: solvers may use it for this number of steps."""

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        return Curvature(None, self.diagonal(point.T))


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

    def derivatives(point: Array) -> tuple[Array, Array, Array]:
        Y = matmul(point, S)
        gradient = jax.grad(lambda y: mean(summary.weigh(terms(y, energies))))
        return Y, *jax.jvp(gradient, (Y,), (jnp.ones_like(Y),))  # the Hessian is diagonal: this is all of it

    def diagonal(point: Array) -> Array:
        Y, slope, bend = derivatives(point)
        return spatial_curvature(matmul(bend, (Y**2).T), jnp.sum(slope * Y, axis=1), jnp.zeros_like(point))

    def bending(point: Array, V: Array) -> Array:
        _, _, bend = derivatives(point)
        return jnp.sum(jnp.sum(bend, axis=1)[:, None] * V**2, axis=0)

    return SpatialCurvature(diagonal, bending)
