"""Total variation: small for signals that are constant except for a few jumps."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import positive_integer, positive_number, true_or_false
from jaxdescramble._base.products import matmul, real_type, squared
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import AxesCurvature, axes_curvature, spatial_curvature
from jaxdescramble.objectives._differences import Differences
from jaxdescramble.objectives._grids import BOUNDARY, Boundary, Shape, axes, checked_boundary, checked_shape
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import paired_roughness
from jaxdescramble.objectives.summaries import Samples, SampleSummary
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
    """Return the objective that makes signals piecewise constant along the neurons, with few jumps.

    `f(P) = sum_ks (sqrt(d_ks^2 + (epsilon s)^2) - epsilon s) / (sqrt(lambda_max(D^T D) K m) ||S||_F)`, `d = D P S`

    Here S has n features and m samples, and `s = ||S||_F / sqrt(n m)` is the root mean square of its entries. D takes
    differences of neighbouring neurons, K differences per sample. The sum runs over the differences k and the samples;
    the index s counts samples. f lies in [0, 1]. It is 0 for signals that are equal in all neurons. By the
    Cauchy-Schwarz inequality it is at most 1; on a circle with an even number of neurons, the signal 1, -1, 1, -1, ...
    reaches this value in the limit of small epsilon. f does not change when S is scaled, or when samples are repeated
    or permuted. There is no closed form.

    Use it if you expect jumps between blocks of equal neurons. If you expect gradual changes, use `smoothness`.

    Args:
        order: order of the differences, at least 1; 2 makes signals piecewise linear.
        boundary: "periodic" (the ends of an axis meet) or "neumann" (the axis ends, and no difference crosses its
            ends); or one name per axis.
        shape: sizes of the grid that the n neurons fill, in C order; None means one axis of n neurons.
        isotropic: whether to sum the length of the gradient at each point of a grid, instead of the differences along
            every axis. K is then n.
        epsilon: how widely the corner of |d| is rounded, in units of s. The rounding makes f smaller by at most
            epsilon.

    Returns:
        A `TotalVariation`. It has a bound, and a curvature (the exact diagonal of its Hessian in the frame of the
        neurons, for preconditioners).

    Raises:
        ValueError, TypeError: if a name is unknown, `order` is less than 1, or `epsilon` is not positive. When you use
            the objective: if the grid does not have n points.

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


class TotalVariation(Objective[SampleSummary]):
    """Total variation of the signals along the neurons. Make it with `total_variation`, which documents it.

    Attributes:
        order, boundary, shape, isotropic: arguments of the differences D.
        epsilon: how widely corners are rounded, in units of s.
    """

    order: int = dataclasses.field(default=1, metadata={"static": True})
    boundary: Boundary = dataclasses.field(default=BOUNDARY, metadata={"static": True})
    shape: Shape = dataclasses.field(default=None, metadata={"static": True})
    isotropic: bool = dataclasses.field(default=False, metadata={"static": True})
    epsilon: ArrayLike = 1e-3

    smoothing = "epsilon"
    takes_weights = True
    takes_complex = True

    def _differences(self, n: int) -> Differences:
        """Return D on n points."""
        sizes, ends = axes(n, self.shape, self.boundary, self.name)
        return Differences(sizes, ends, self.order, self.isotropic)

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        D = self._differences(len(point))
        d = D.of_product(point, lambda matrix: in_frame(matrix, summary)[0])
        return _variation(d, summary, jnp.asarray(self.epsilon, real_type(d.dtype)), D)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        """Return a number that no orthogonal P goes below. In general no P reaches it.

        Let E be the energy of a sample and y its column of `P S`, both in the unit s of the signals. Each squared
        difference is at most `c^2 E`, where c depends on D alone (`Differences.largest_square` is `c^2`). Therefore
        the variation of the sample is at least `||D y||^2 / (sqrt(c^2 E + epsilon^2) + epsilon)`. The sum of these
        terms is the roughness of weighted samples, whose minimum is known from the rearrangement inequality.
        """
        S = in_own_unit(summary, complex_too=True)
        D = self._differences(len(S))
        square = D.largest_square * jnp.sum(squared(S), axis=0)
        weight = 1 / (jnp.sqrt(square + self.epsilon**2) + self.epsilon)
        _, singular = Samples(heavy(S * jnp.sqrt(weight)[None, :], summary)).principal()
        a = D.eigenvalues
        return paired_roughness(a, singular**2) * a[-1] * jnp.sum(singular**2) / D.largest_variation(D(S))

    def curvature(self, summary: SampleSummary) -> AxesCurvature:
        """Return a model of the Hessian in the principal directions of the signals, from the mean Hessian of a sample.

        Let F be the term of one sample. Its second derivatives are
        `F_ij = sum_k (r^2 D_ki D_kj - (g_k D_ki)(g_k D_kj)) / r^3`, with the gradients g and `r^2 = g_k^2 + epsilon^2`.
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
            radial = jnp.sum(jax.grad(lambda y: _variation(D(y), summary, floor, D))(Y) * Y, axis=1)
            return spatial_curvature(matmul(bend, (Y**2).T) / unit, radial, (cross + cross.T) / unit)

        def bending(point: Array, V: Array) -> Array:
            g = D.of_product(point, lambda matrix: matmul(matrix, S))
            square = jnp.sum(g**2, axis=0) + jnp.asarray(self.epsilon, g.dtype) ** 2
            even = jnp.sum(summary.weigh(1 / jnp.sqrt(square)), axis=1)
            along = jnp.sum(summary.weigh(g[:, None] * g[None] / square[None, None] ** 1.5), axis=3)
            moved = D(V)
            bent = even[None, :, None] * moved - jnp.sum(along[..., None] * moved[None], axis=1)
            return jnp.sum(moved * bent, axis=(0, 1)) / D.largest_variation(g)

        return axes_curvature(self, summary, bending, diagonal)

    def assignment(self, summary: SampleSummary) -> tuple[Float[Array, "n n"], Float[Array, "n n"]] | None:
        """Return which places are neighbours, and the distance between any two neurons.

        The best order of the neurons is then a shortest path through them. None if the order of the differences is
        more than 1, or if the differences are isotropic on a grid of several axes.
        """
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
        # An isotropic gradient takes forward differences on every axis. A reversal makes them backward on one axis.
        return of_grid(D.sizes, D.ends, reversals=not self.isotropic or len(D.sizes) == 1)

    def sparsifying_operator(self, n: int) -> Operator:
        return _operator(self._differences(n), jnp.zeros(()).dtype)


@functools.lru_cache(maxsize=8)
def _operator(D: Differences, dtype: np.dtype) -> Operator:
    with jax.ensure_compile_time_eval():
        return from_matrix(jnp.asarray(D.rows.reshape((-1, D.rows.shape[-1])), dtype))


def _variation(
    d: Inexact[Array, "axes k m"], summary: SampleSummary, epsilon: Array, D: Differences
) -> Float[Array, ""]:
    lengths = softened(jnp.sum(squared(d), axis=0), epsilon)
    return jnp.sum(summary.weigh(lengths)) / D.largest_variation(d)
