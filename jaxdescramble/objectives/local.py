"""Locality: samples whose energy sits in one place."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import one_of, real_array, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._mirrors import every_sign
from jaxdescramble.objectives._relaxations import concentration, spread
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.spatial import (
    SpatialCurvature,
    grid_of,
    grid_shape,
    heavy,
    in_own_unit,
    mean,
    no_less_than_zero,
    ratio,
    spatial_curvature,
    turned,
)
from jaxdescramble.objectives.summaries import Samples

LAYOUTS = ("line", "circle", "grid")


def locality(
    layout: str = "line", *, shape: Sequence[int] | None = None, positions: ArrayLike | None = None
) -> Objective:
    """Spread of each sample's energy about its centroid, in [0, 1]: small for signals that are local.

    `f(P) = sum_s sum_i y_is^2 |x_i - c_s|^2 / (R^2 ||S||_F^2)`, `c_s = sum_i y_is^2 x_i / E_s`, `Y = P S`

    with `x_i` the position of neuron i and `E_s` the energy of sample s, which no orthogonal P changes; `R^2`, the
    largest distance from the mean position squared, is the largest spread there can be on a line, circle or grid, and
    is not less elsewhere. On a circle f is the circular variance. 0 for samples of one neuron each, and for n = 1;
    unchanged when S is scaled, when samples are repeated, permuted or change sign, when neurons change sign, and when
    the layout is reflected. There is no closed form; the bound is 0, reached where samples can be made one-hot
    together, and `Descrambling.tightest_bound` knows a higher one.

    Args:
        layout: "line" (positions 0, 1, ... n - 1), "circle" (equally spaced points of the unit circle) or "grid".
        shape: of the grid, C order.
        positions: in place of a layout, shape (n, d): a parameter, which may be traced and differentiated.

    Returns:
        An `Objective` with the exact diagonal of its Hessian in the neurons' frame as curvature, a bound and a
        relaxation.

    Raises:
        ValueError, TypeError: an unknown layout, a grid without a shape or that does not hold n points, positions that
            are no real matrix or not one row per neuron.

    >>> near, far = jnp.asarray([[1.0], [1.0], [0.0]]), jnp.asarray([[1.0], [0.0], [1.0]])
    >>> [round(float(locality()(jnp.eye(3), S)), 4) for S in (near, far)]
    [0.25, 1.0]

    Source: locality is among the figures of merit that Amey et al. 2021 name; circular variance is in Mardia and Jupp,
    Directional Statistics (2000), section 2.3.
    """
    functions = {"name": "locality", "curvature": _curvature, "assignment": _assignment}
    functions |= {
        "bound": no_less_than_zero,
        "relaxation": _relaxation,
        "symmetries": every_sign,
        "takes_weights": True,
    }
    one_of(layout, "layout", LAYOUTS)
    if (shape is not None) != (layout == "grid" and positions is None):
        raise ValueError(f"shape: got {shape!r} for layout {layout!r}; a grid needs one, and nothing else has one.")
    if positions is not None:
        given = real_array(positions, "positions", (2,), "(neurons, dimensions)")
        return Objective(_locality, Samples, parameters=(("positions", given),), **functions)
    settings = (("layout", layout), ("shape", grid_shape(shape)))
    return Objective(_locality, Samples, settings=settings, **functions)


def _places(
    n: int, dtype: np.dtype, layout: str = "line", shape: tuple[int, ...] | None = None, positions: Array | None = None
) -> Float[Array, "n d"]:
    """Positions about their mean, in units of the largest distance from it."""
    if positions is not None:
        same_size(positions, 0, n, "positions", "the signals' features")
        x = positions.astype(dtype)
    elif layout == "circle":
        angle = 2 * np.pi * np.arange(n)[:, None] / n
        x = jnp.asarray(np.concatenate([np.cos(angle), np.sin(angle)], axis=1), dtype)
    else:
        grid = grid_of(n, shape, "locality")
        x = jnp.asarray(np.stack([axis.ravel() for axis in np.indices(grid)], axis=1), dtype)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    x = ratio(x, jnp.max(jnp.abs(x)))
    furthest = jnp.max(jnp.sum(x**2, axis=1))
    return ratio(x, jnp.sqrt(jnp.where(furthest > 0, furthest, 1)))


def _locality(point: Float[Array, "n n"], summary: Any, **options) -> Float[Array, ""]:
    Y, energies = turned(point, summary)
    x = _places(summary.size, Y.dtype, **options)
    shares = ratio(Y**2, energies)
    centroids = matmul(x.T, shares)
    # About the centroid, one coordinate at a time: a difference of two moments would cancel for local signals.
    squares = sum((x[:, k, None] - centroids[None, k]) ** 2 for k in range(x.shape[1]))
    return jnp.sum(summary.weigh(Y**2 * squares)) / max(Y.size, 1)


def _assignment(summary: Any, **options) -> tuple[Array, Array]:
    """`|x_i - x_j|^2 / 2` and `sum_s S_ks^2 S_ls^2 / (E_s n m)`: the spread about the centroid, pair by pair."""
    S = in_own_unit(summary)
    square = S**2
    shares = summary.weigh(ratio(square, jnp.sum(square, axis=0, keepdims=True)))
    return _apart(_places(summary.size, S.dtype, **options)), matmul(square, shares.T) / max(S.size, 1)


def _apart(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Half the squared distances between places."""
    inner = matmul(x, x.T)
    heights = jnp.diagonal(inner)
    return (heights[:, None] + heights[None, :]) / 2 - inner


def _relaxation(summary: Any, steps: int, **options) -> Float[Array, ""]:
    """The better of two: all that is not in one neuron is as far apart as neighbours at least."""
    S = heavy(in_own_unit(summary), summary)  # of samples, the bound sees directions and energies
    x = _places(summary.size, S.dtype, **options)
    energies = jnp.sum(S**2, axis=0)
    nearest = jnp.min(jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, _apart(x))) if len(x) > 1 else 0.0
    nearest = nearest - 8 * jnp.finfo(S.dtype).eps
    return jnp.maximum(spread(S, x, steps), nearest * mean(S**2) * (1 - concentration(S, energies, steps=steps)))


def _curvature(summary: Any, **options) -> SpatialCurvature:
    """Of a sample, `F = sum y_i^2 |x_i|^2 - |sum y_i^2 x_i|^2 / E`: `F_i = 2 y_i (|x_i|^2 - 2 x_i c)`,
    `F_ij = 2 (|x_i|^2 - 2 x_i c) [i = j] - 8 y_i y_j x_i x_j / E`."""
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)
    x = _places(summary.size, S.dtype, **options)
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
