"""Locality: samples whose energy sits in one place."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import real_array, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._curvatures import SpatialCurvature, spatial_curvature
from jaxdescramble.objectives._grids import BOUNDARY, Boundary, Shape, axes, checked_boundary, checked_shape
from jaxdescramble.objectives._relaxations import concentration, spread
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import heavy, in_frame, in_own_unit, mean, nothing_below_zero, ratio


def locality(
    boundary: str | Sequence[str] = BOUNDARY,
    *,
    shape: Sequence[int] | None = None,
    positions: ArrayLike | None = None,
) -> "Locality":
    """Spread of each sample's energy about its centroid, in [0, 1]: small for signals that are local.

    `f(P) = sum_s sum_i y_is^2 |x_i - c_s|^2 / (R^2 ||S||_F^2)`, `c_s = sum_i y_is^2 x_i / E_s`, `Y = P S`

    with `x_i` the position of neuron i and `E_s` the energy of sample s, which no orthogonal P changes; `R^2`, the
    largest distance from the mean position squared, is the largest spread there can be on a line, circle or grid, and
    is not less elsewhere. On a circle f is the circular variance. 0 for samples of one neuron each, and for n = 1;
    unchanged when S is scaled, when samples are repeated, permuted or change sign, when neurons change sign, and when
    the grid is reflected. There is no closed form; the bound is 0, reached where samples can be made one-hot together,
    and `Descrambling.tightest_bound` knows a higher one.

    Args:
        boundary: "periodic" (the ends of an axis meet: its neurons are equally spaced points of a circle of
            circumference n) or "neumann" (the axis ends: positions 0, 1, ... n - 1); or one name per axis.
        shape: sizes of the grid that the n neurons fill, C order; None for one axis of n neurons.
        positions: in place of a grid, shape (n, d): data, which may be traced and differentiated.

    Returns:
        An objective with the exact diagonal of its Hessian in the neurons' frame as curvature, a bound and a
        relaxation.

    Raises:
        ValueError, TypeError: an unknown boundary, a grid that does not hold n points, positions beside a shape,
            positions that are no real matrix or not one row per neuron.

    >>> near, far = jnp.asarray([[1.0], [1.0], [0.0]]), jnp.asarray([[1.0], [0.0], [1.0]])
    >>> [round(float(locality("neumann")(jnp.eye(3), S)), 4) for S in (near, far)]
    [0.25, 1.0]

    Source: locality is among the figures of merit that Amey et al. 2021 name; circular variance is in Mardia and Jupp,
    Directional Statistics (2000), section 2.3.
    """
    ends, sizes = checked_boundary(boundary), checked_shape(shape)
    if positions is None:
        return Locality(ends, sizes)
    if sizes is not None:
        raise ValueError(f"shape: got {shape!r} beside positions; give one of the two.")
    return Locality(ends, positions=real_array(positions, "positions", (2,), "(neurons, dimensions)"))


class Locality(Objective[Samples]):
    """Spread of each sample's energy about its centroid. Make one by `locality`, which says what it is.

    Attributes:
        boundary, shape: of the grid.
        positions: of the neurons, in place of a grid, or None.
    """

    boundary: Boundary = dataclasses.field(default=BOUNDARY, metadata={"static": True})
    shape: Shape = dataclasses.field(default=None, metadata={"static": True})
    positions: Array | None = None

    takes_weights = True

    def _places(self, n: int, dtype: np.dtype) -> Float[Array, "n d"]:
        """Return the positions about their mean, in units of the largest distance from it."""
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

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        x = self._places(summary.size, Y.dtype)
        shares = ratio(Y**2, energies)
        centroids = matmul(x.T, shares)
        # About the centroid, one coordinate at a time: a difference of two moments would cancel for local signals.
        squares = sum((x[:, k, None] - centroids[None, k]) ** 2 for k in range(x.shape[1]))
        return jnp.sum(summary.weigh(Y**2 * squares)) / max(Y.size, 1)

    def bound(self, summary: Samples) -> Float[Array, ""]:
        return nothing_below_zero(summary)

    def relaxation(self, summary: Samples, steps: int) -> Float[Array, ""]:
        """Return the better of two bounds; the other: all that is not in one neuron is as far apart as neighbours."""
        S = heavy(in_own_unit(summary), summary)  # of samples, the bound sees directions and energies
        x = self._places(summary.size, S.dtype)
        energies = jnp.sum(S**2, axis=0)
        nearest = jnp.min(jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, _apart(x))) if len(x) > 1 else 0.0
        nearest = nearest - 8 * jnp.finfo(S.dtype).eps
        return jnp.maximum(spread(S, x, steps), nearest * mean(S**2) * (1 - concentration(S, energies, steps=steps)))

    def curvature(self, summary: Samples) -> SpatialCurvature:
        """Return the exact diagonal of the Hessian.

        Of a sample, `F = sum y_i^2 |x_i|^2 - |sum y_i^2 x_i|^2 / E`: `F_i = 2 y_i (|x_i|^2 - 2 x_i c)`,
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

        return SpatialCurvature(diagonal)

    def assignment(self, summary: Samples) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """Return the spread about the centroid, pair by pair.

        `|x_i - x_j|^2 / 2` and `sum_s S_ks^2 S_ls^2 / (E_s n m)`.
        """
        S = in_own_unit(summary)
        square = S**2
        shares = summary.weigh(ratio(square, jnp.sum(square, axis=0, keepdims=True)))
        return _apart(self._places(summary.size, S.dtype)), matmul(square, shares.T) / max(S.size, 1)

    def symmetries(self, n: int) -> Symmetries:
        if self.positions is not None:
            return Symmetries(every_sign=True)
        return of_grid(*axes(n, self.shape, self.boundary, self.name), every_sign=True)


def _on_axis(size: int, end: str) -> np.ndarray:
    """Return positions along one axis, neighbours about 1 apart: points of a line, or of a circle in two dimensions."""
    if end == "neumann":
        return np.arange(size)[:, None]
    angle = 2 * np.pi * np.arange(size)[:, None] / size
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * size / (2 * np.pi)


def _apart(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Return half the squared distances between places."""
    inner = matmul(x, x.T)
    heights = jnp.diagonal(inner)
    return (heights[:, None] + heights[None, :]) / 2 - inner
