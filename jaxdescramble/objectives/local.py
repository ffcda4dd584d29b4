"""Locality: small if the energy of each sample is in one place."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import real_array, same_size
from jaxdescramble._base.products import matmul, squared
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import SpatialCurvature, spatial_curvature
from jaxdescramble.objectives._grids import BOUNDARY, Boundary, Shape, axes, checked_boundary, checked_shape
from jaxdescramble.objectives._relaxations import concentration, spread
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import heavy, in_frame, in_own_unit, mean, nothing_below_zero, ratio


def locality(
    boundary: str | Sequence[str] = BOUNDARY,
    *,
    shape: Sequence[int] | None = None,
    positions: ArrayLike | None = None,
) -> "Locality":
    """Return the objective that puts the energy of every sample into neurons that are near each other.

    `f(P) = sum_s sum_i y_is^2 |x_i - c_s|^2 / (R^2 ||S||_F^2)`, `c_s = sum_i y_is^2 x_i / E_s`, `Y = P S`

    Here x_i is the position of neuron i, c_s is the centroid of sample s, and E_s is its energy, the sum of its squares
    (the same for every orthogonal P). R is the largest distance of a neuron from the mean position. On a line, a circle
    or a grid, `R^2` is the largest possible spread; for other positions the spread is at most `R^2`. On a circle f is
    the circular variance.

    f lies in [0, 1]. It is 0 if every sample is in one neuron only, and for n = 1. f does not change when S is scaled,
    when samples are repeated, permuted or change sign, when neurons change sign, or when the grid is reflected. There
    is no closed form. The bound is 0; it is reached if some P puts every sample into one neuron.
    `Descrambling.tightest_bound` gives a higher bound.

    Args:
        boundary: "periodic" (the ends of an axis meet: its neurons are equally spaced points of a circle of
            circumference n) or "neumann" (the axis ends: positions 0, 1, ... n - 1); or one name per axis.
        shape: sizes of the grid that the n neurons fill, in C order; None means one axis of n neurons.
        positions: positions of the neurons if they do not fill a grid, shape (n, d). They may be traced and
            differentiated. None means the grid.

    Returns:
        A `Locality`. It has a bound, a relaxation (the higher bound), and a curvature (the exact diagonal of its
        Hessian in the frame of the neurons, for preconditioners).

    Raises:
        ValueError, TypeError: if the boundary is unknown, if you give both positions and a shape, or if the positions
            are not a real matrix. When you use the objective: if the grid or the positions do not have n points.

    >>> near, far = jnp.asarray([[1.0], [1.0], [0.0]]), jnp.asarray([[1.0], [0.0], [1.0]])
    >>> [round(float(locality("neumann")(jnp.eye(3), S)), 4) for S in (near, far)]
    [0.25, 1.0]

    Source: Amey et al. 2021 name locality among their figures of merit; circular variance is in Mardia and Jupp,
    Directional Statistics (2000), section 2.3.
    """
    ends, sizes = checked_boundary(boundary), checked_shape(shape)
    if positions is None:
        return Locality(ends, sizes)
    if sizes is not None:
        raise ValueError(f"shape: got {shape!r} beside positions; give one of the two.")
    return Locality(ends, positions=real_array(positions, "positions", (2,), "(neurons, dimensions)"))


class Locality(Objective[SampleSummary]):
    """Spread of the energy of each sample about its centroid. Make it with `locality`, which documents it.

    Attributes:
        boundary, shape: boundaries and sizes of the grid.
        positions: positions of the neurons if they do not fill a grid, otherwise None.
    """

    boundary: Boundary = dataclasses.field(default=BOUNDARY, metadata={"static": True})
    shape: Shape = dataclasses.field(default=None, metadata={"static": True})
    positions: Array | None = None

    takes_weights = True
    takes_complex = True

    def _places(self, n: int, dtype: np.dtype) -> Float[Array, "n d"]:
        """Return the positions relative to their mean, in units of the largest distance from the mean."""
        if self.positions is not None:
            same_size(self.positions, 0, n, "positions", "the signals' features")
            x = self.positions.astype(dtype)
        else:
            sizes, ends = axes(n, self.shape, self.boundary, self.name)
            along = [_on_axis(size, end) for size, end in zip(sizes, ends, strict=True)]
            grid = np.indices(sizes).reshape(len(sizes), n)
            x = jnp.asarray(np.concatenate([points[k] for points, k in zip(along, grid, strict=True)], axis=1), dtype)
        x = x - jnp.mean(x, axis=0, keepdims=True)
        x = ratio(x, jnp.max(jnp.abs(x)))
        furthest = jnp.max(jnp.sum(x**2, axis=1))
        return ratio(x, jnp.sqrt(jnp.where(furthest > 0, furthest, 1)))

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        x = self._places(summary.size, energies.dtype)
        shares = ratio(squared(Y), energies)
        centroids = matmul(x.T, shares)
        # Subtract the centroid first, one coordinate at a time. The difference of two moments would lose digits for
        # local signals.
        squares = sum((x[:, k, None] - centroids[None, k]) ** 2 for k in range(x.shape[1]))
        return jnp.sum(summary.weigh(squared(Y) * squares)) / max(Y.size, 1)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: SampleSummary, steps: int) -> Float[Array, ""]:
        """Return the better of two lower bounds.

        The first is `spread`. The second is from `concentration`: energy that is not in one neuron is at least as far
        apart as the nearest two neurons.
        """
        S = heavy(in_own_unit(summary), summary)  # the bound depends only on directions and energies of samples
        x = self._places(summary.size, S.dtype)
        energies = jnp.sum(S**2, axis=0)
        nearest = jnp.min(jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, _apart(x))) if len(x) > 1 else 0.0
        nearest = nearest - 8 * jnp.finfo(S.dtype).eps
        return jnp.maximum(spread(S, x, steps), nearest * mean(S**2) * (1 - concentration(S, energies, steps=steps)))

    def curvature(self, summary: SampleSummary) -> SpatialCurvature:
        """Return the exact diagonal of the Hessian.

        The term of one sample y, with energy E and centroid c, is `F = sum y_i^2 |x_i|^2 - |sum y_i^2 x_i|^2 / E`. Its
        derivatives are `F_i = 2 y_i (|x_i|^2 - 2 x_i c)` and
        `F_ij = 2 (|x_i|^2 - 2 x_i c) [i = j] - 8 y_i y_j x_i x_j / E`.
        """
        S = in_own_unit(summary)
        energies = jnp.sum(S**2, axis=0, keepdims=True)
        x = self._places(summary.size, S.dtype)
        inner = matmul(x, x.T)

        def diagonal(point: Array) -> Array:
            square = matmul(point, S) ** 2
            shares = ratio(square, energies)
            counted = summary.weigh(square)
            squares = jnp.diagonal(inner)[:, None]
            height = squares - 2 * matmul(inner, shares)
            across = matmul(2 * height - 8 * shares * squares, counted.T)
            cross = -8 * inner * matmul(shares, counted.T)
            return spatial_curvature(across, jnp.sum(2 * height * counted, axis=1), cross) / max(S.size, 1)

        def bending(point: Array, V: Array) -> Array:
            # Along v, the centroid moves by 2 q / E with `q = sum_i v_i y_i x_i`, and the second derivative of a sample
            # is `2 sum_i v_i^2 |x_i - c|^2 - 8 |q|^2 / E + 16 (c q) (v y) / E`.
            Y = matmul(point, S)
            centroids, along = matmul(x.T, ratio(Y**2, energies)), matmul(V.T, Y)
            squares, rest = jnp.zeros_like(V), jnp.zeros_like(along)
            for k in range(x.shape[1]):
                apart = jnp.sum(summary.weigh((x[:, k, None] - centroids[None, k]) ** 2), axis=1)
                q = matmul((x[:, k, None] * V).T, Y)
                squares, rest = squares + apart[:, None] * V**2, rest + q * (2 * centroids[None, k] * along - q)
            return (2 * jnp.sum(squares, axis=0) + 8 * jnp.sum(summary.weigh(ratio(rest, energies)), axis=1)) / max(
                S.size, 1
            )

        return SpatialCurvature(diagonal, bending)

    def assignment(self, summary: SampleSummary) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """Return the spread as a sum over pairs of neurons.

        The two matrices are `|x_i - x_j|^2 / 2` and `sum_s S_ks^2 S_ls^2 / (E_s n m)`.
        """
        S = in_own_unit(summary)
        square = S**2
        shares = summary.weigh(ratio(square, jnp.sum(square, axis=0, keepdims=True)))
        return _apart(self._places(summary.size, S.dtype)), matmul(square, shares.T) / max(S.size, 1)

    def symmetries(self, n: int) -> Symmetries:
        if self.positions is not None:
            return Symmetries(every_sign=True)
        return of_grid(*axes(n, self.shape, self.boundary, self.name), every_sign=True)

    def seriates(self, n: int) -> bool:
        if self.positions is not None:
            return False
        sizes, _ = axes(n, self.shape, self.boundary, self.name)
        return sum(size > 1 for size in sizes) == 1


def _on_axis(size: int, end: str) -> np.ndarray:
    """Return positions along one axis, about 1 apart: points of a line, or points of a circle in two dimensions."""
    if end == "neumann":
        return np.arange(size)[:, None]
    angle = 2 * np.pi * np.arange(size)[:, None] / size
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * size / (2 * np.pi)


def _apart(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Return half the squared distance between every two places."""
    inner = matmul(x, x.T)
    heights = jnp.diagonal(inner)
    return (heights[:, None] + heights[None, :]) / 2 - inner
