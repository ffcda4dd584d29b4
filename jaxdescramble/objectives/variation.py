"""Total variation: signals that are constant but for a few jumps."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import positive_integer, positive_number, true_or_false
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._curvatures import SpatialCurvature, spatial_curvature
from jaxdescramble.objectives._differences import Differences
from jaxdescramble.objectives._grids import BOUNDARY, Boundary, Shape, axes, checked_boundary, checked_shape
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import paired_roughness
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import heavy, in_frame, in_own_unit, softened
from jaxdescramble.operators import Operator, from_matrix


def total_variation(
    order: int = 1,
    boundary: str | Sequence[str] = BOUNDARY,
    *,
    shape: Sequence[int] | None = None,
    isotropic: bool = False,
    epsilon: ArrayLike = 1e-3,
) -> "TotalVariation":
    """Total variation of the signals along the neurons, in [0, 1]: small for signals that are piecewise constant.

    `f(P) = sum_ks (sqrt(d_ks^2 + (epsilon s)^2) - epsilon s) / (sqrt(lambda_max(D^T D) K m) ||S||_F)`, `d = D P S`

    with D the plain differences, K of them to a sample, and `s = ||S||_F / sqrt(n m)`. 0 for constants; at most 1 by
    the Cauchy-Schwarz inequality, reached by a sawtooth on an even circle; unchanged when S is scaled and when samples
    are repeated or permuted. There is no closed form. The bound is that of a reweighted smoothness: as `d_ks^2` is at
    most `c^2 E_s`, a sample's variation is at least `||D y_s||^2 / (sqrt(c^2 E_s + (epsilon s)^2) + epsilon s)`, and of
    these squares the rearrangement inequality knows the minimum; in general it is not attained.

    Args:
        order: of the differences; 2 makes signals piecewise linear.
        boundary: "periodic" (the ends of an axis meet) or "neumann" (the axis ends: only differences that need no point
            beyond its ends); or one name per axis.
        shape: sizes of the grid that the n neurons fill, C order; None for one axis of n neurons.
        isotropic: on a grid, the length of the gradient at each point in place of the sum over the axes. K is then n.
        epsilon: in units of s, how widely the corner of |d| is rounded; f falls short of its limit, epsilon to 0, by at
            most epsilon.

    Returns:
        An objective with the exact diagonal of its Hessian in the neurons' frame as curvature, and a bound.

    Raises:
        ValueError, TypeError: unknown names, an order below 1, an epsilon that is not positive, a shape that does not
            hold n points.

    >>> steps = jnp.asarray([[1.0], [1.0], [-1.0], [-1.0]])
    >>> round(float(total_variation()(jnp.eye(4), steps)), 3)
    0.5

    Source: Rudin, Osher, Fatemi, Physica D 60 (1992); order 2 is Kim et al., l1 trend filtering, SIAM Review 51 (2009).
    """
    return TotalVariation(
        positive_integer(order, "order"),
        checked_boundary(boundary),
        checked_shape(shape),
        true_or_false(isotropic, "isotropic"),
        positive_number(epsilon, "epsilon"),
    )


class TotalVariation(Objective[Samples]):
    """Total variation of the signals along the neurons. Make one by `total_variation`, which says what it is.

    Attributes:
        order, boundary, shape, isotropic: of the differences D.
        epsilon: how widely corners are rounded, in units of s.
    """

    order: int = dataclasses.field(default=1, metadata={"static": True})
    boundary: Boundary = dataclasses.field(default=BOUNDARY, metadata={"static": True})
    shape: Shape = dataclasses.field(default=None, metadata={"static": True})
    isotropic: bool = dataclasses.field(default=False, metadata={"static": True})
    epsilon: ArrayLike = 1e-3

    smoothing = "epsilon"
    takes_weights = True

    def _differences(self, n: int) -> Differences:
        """Return D on n points."""
        sizes, ends = axes(n, self.shape, self.boundary, self.name)
        return Differences(sizes, ends, self.order, self.isotropic)

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        Y, _ = in_frame(point, summary)
        return _variation(Y, summary, jnp.asarray(self.epsilon, Y.dtype), self._differences(len(Y)))

    def bound(self, summary: Samples) -> Float[Array, ""]:
        S = in_own_unit(summary)
        D = self._differences(len(S))
        square = D.largest_square * jnp.sum(S**2, axis=0)
        weight = 1 / (jnp.sqrt(square + self.epsilon**2) + self.epsilon)
        _, singular = Samples(heavy(S * jnp.sqrt(weight)[None, :], summary)).principal()
        a = D.eigenvalues
        return paired_roughness(a, singular**2) * a[-1] * jnp.sum(singular**2) / D.largest_variation(D(S))

    def curvature(self, summary: Samples) -> SpatialCurvature:
        """Return the exact diagonal of the Hessian.

        `F_ij = sum_k (r^2 D_ki D_kj - (g_k D_ki)(g_k D_kj)) / r^3` for gradients g and `r^2 = g_k^2 + epsilon^2`.
        """
        S = in_own_unit(summary)
        D = self._differences(len(S))
        place, weight = D.stencil
        products = np.einsum("akp,akq->pqk", weight, weight)

        def diagonal(point: Array) -> Array:
            Y = matmul(point, S)
            floor = jnp.asarray(self.epsilon, Y.dtype)
            g = D(Y)
            square = jnp.sum(g**2, axis=0)
            cube = (square + floor**2) ** 1.5
            along = [jnp.sum(jnp.asarray(weight[..., p, None], Y.dtype) * g, axis=0) for p in range(place.shape[1])]

            def second(p: int, q: int) -> Array:
                both = jnp.asarray(products[p, q][:, None], Y.dtype)
                return summary.weigh((floor**2 * both + (square * both - along[p] * along[q])) / cube)

            bend, cross = jnp.zeros_like(Y), jnp.zeros_like(point)
            for p in range(place.shape[1]):
                bend = bend.at[place[:, p]].add(second(p, p))
                for q in range(p):
                    pairs = jnp.sum(second(p, q) * Y[place[:, p]] * Y[place[:, q]], axis=1)
                    cross = cross.at[place[:, p], place[:, q]].add(pairs)
            unit = D.largest_variation(g)
            radial = jnp.sum(jax.grad(lambda y: _variation(y, summary, floor, D))(Y) * Y, axis=1)
            return spatial_curvature(matmul(bend, (Y**2).T) / unit, radial, (cross + cross.T) / unit)

        return SpatialCurvature(diagonal)

    def assignment(self, summary: Samples) -> tuple[Float[Array, "n n"], Float[Array, "n n"]] | None:
        """Return which neurons are neighbours, and how far apart any two are: a shortest path through the neurons."""
        S = in_own_unit(summary)
        D = self._differences(len(S))
        if self.order > 1 or (self.isotropic and len(D.sizes) > 1):
            return None
        rows = D.rows[0]
        a = -np.minimum(rows.T @ rows, 0) * (1 - np.eye(len(S))) / 2
        floor = jnp.asarray(self.epsilon, S.dtype)
        apart = jax.lax.map(lambda row: jnp.sum(summary.weigh(softened((S - row[None, :]) ** 2, floor)), axis=1), S)
        return jnp.asarray(a, S.dtype), apart / D.largest_variation(D(S))

    def symmetries(self, n: int) -> Symmetries:
        D = self._differences(n)
        # An isotropic gradient looks ahead along every axis: a reversal would make it look back along one of them.
        return of_grid(D.sizes, D.ends, reversals=not self.isotropic or len(D.sizes) == 1)

    def sparsifying_operator(self, n: int) -> Operator:
        with jax.ensure_compile_time_eval():
            return from_matrix(self._differences(n)(jnp.eye(n)).reshape((-1, n)))


def _variation(Y: Float[Array, "n m"], summary: Samples, epsilon: Array, D: Differences) -> Float[Array, ""]:
    d = D(Y)
    lengths = softened(jnp.sum(d**2, axis=0), epsilon)
    return jnp.sum(summary.weigh(lengths)) / D.largest_variation(d)
