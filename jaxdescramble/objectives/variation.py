"""Total variation: signals that stand still but for a few jumps."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import transforms
from jaxdescramble._base.checks import positive_integer, positive_number
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._mirrors import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import paired_roughness
from jaxdescramble.objectives.spatial import (
    SpatialCurvature,
    end_names,
    grid_of,
    grid_shape,
    heavy,
    in_own_unit,
    softened,
    spatial_curvature,
    turned,
)
from jaxdescramble.objectives.summaries import Samples, Summary
from jaxdescramble.operators import Operator, from_matrix

ENDS = ("neumann", "periodic")


def total_variation(
    order: int = 1,
    boundary: str | Sequence[str] = "neumann",
    *,
    shape: Sequence[int] | None = None,
    isotropic: bool = False,
    epsilon: ArrayLike = 1e-3,
) -> Objective:
    """Total variation of the signals along the link axis, in [0, 1]: small for signals that are piecewise constant.

    `f(P) = sum_ks (sqrt(d_ks^2 + (epsilon s)^2) - epsilon s) / (sqrt(lambda_max(D^T D) K m) ||S||_F)`, `d = D P S`

    with D the plain differences, K of them to a sample, and `s = ||S||_F / sqrt(n m)`. 0 for constants; at most 1 by
    the Cauchy-Schwarz inequality, reached by a sawtooth on an even circle; unchanged when S is scaled and when samples
    are repeated or permuted. There is no closed form. The bound is that of a reweighted smoothness: as `d_ks^2` is at
    most `c^2 E_s`, a sample's variation is at least `||D y_s||^2 / (sqrt(c^2 E_s + (epsilon s)^2) + epsilon s)`, and of
    these squares the rearrangement inequality knows the minimum; in general it is not attained.

    Args:
        order: of the differences; 2 makes signals piecewise linear.
        boundary: "neumann" (a line; only differences that need no point beyond its ends) or "periodic" (a circle), or
            one per axis.
        shape: the grid on which the n neurons are laid out, C order; None for a line or circle of n points.
        isotropic: on a grid, the length of the gradient at each point in place of the sum over the axes. K is then n.
        epsilon: in units of s, how widely the corner of |d| is rounded; f falls short of its limit, epsilon to 0, by at
            most epsilon.

    Returns:
        An `Objective` with the exact diagonal of its Hessian in the neurons' frame as curvature, and a bound.

    Raises:
        ValueError, TypeError: unknown names, an order below 1, an epsilon that is not positive, a shape that does not
            hold n points.

    >>> steps = jnp.asarray([[1.0], [1.0], [-1.0], [-1.0]])
    >>> round(float(total_variation(boundary="periodic")(jnp.eye(4), steps)), 3)
    0.5

    Source: Rudin, Osher, Fatemi, Physica D 60 (1992); order 2 is Kim et al., l1 trend filtering, SIAM Review 51 (2009).
    """
    if not isinstance(isotropic, bool):
        raise TypeError(f"isotropic: expected True or False, got {isotropic!r}.")
    settings = (
        ("order", positive_integer(order, "order")),
        ("boundary", end_names(boundary, ENDS)),
        ("shape", grid_shape(shape)),
        ("isotropic", isotropic),
    )
    return Objective(
        _total_variation,
        Samples,
        settings=settings,
        parameters=(("epsilon", positive_number(epsilon, "epsilon")),),
        name="total_variation",
        curvature=_curvature,
        bound=_bound,
        smoothing="epsilon",
        sparse_under=_sparse_under,
        assignment=_assignment,
        symmetries=_symmetries,
        takes_weights=True,
    )


def _total_variation(point: Float[Array, "n n"], summary: Summary, epsilon: ArrayLike, **layout) -> Float[Array, ""]:
    Y, _ = turned(point, summary)
    return _variation(Y, summary, jnp.asarray(epsilon, Y.dtype), **layout)


def _symmetries(
    n: int,
    epsilon: ArrayLike,
    order: int,
    boundary: str | tuple[str, ...],
    shape: tuple[int, ...] | None,
    isotropic: bool,
) -> Symmetries:
    grid, ends = _axes(n, boundary, shape)
    # An isotropic gradient looks ahead along every axis: a reversal would make it look back along one of them.
    return of_grid(grid, [end == "periodic" for end in ends], reversals=not isotropic or len(grid) == 1)


def _variation(Y: Float[Array, "n m"], summary: Any, epsilon: Array, **layout) -> Float[Array, ""]:
    d = differences(Y, **layout)
    lengths = softened(jnp.sum(d**2, axis=0), epsilon)
    return jnp.sum(summary.weigh(lengths)) / largest_variation(d, len(Y), **layout)


def differences(
    Y: Float[Array, "n m"],
    order: int = 1,
    boundary: str | tuple[str, ...] = "neumann",
    shape: tuple[int, ...] | None = None,
    isotropic: bool = False,
) -> Float[Array, "axes k m"]:
    """Plain differences along every axis of a grid: K numbers to a sample, or K gradients of as many parts as axes.

    >>> differences(jnp.asarray([[1.0], [4.0], [9.0]])).tolist()
    [[[3.0], [5.0]]]
    """
    grid, ends = _axes(len(Y), boundary, shape)
    parts = []
    for axis, end in enumerate(ends):
        d = Y.reshape((*grid, Y.shape[1]))
        if end == "neumann":
            d = jnp.diff(d, order, axis=axis)
            # A gradient needs all its parts at every point; beyond the end, as at a mirror, there is no slope.
            missing = grid[axis] - d.shape[axis] if isotropic else 0
            d = jnp.pad(d, [(0, missing if i == axis else 0) for i in range(d.ndim)])
        else:
            for _ in range(order):
                d = jnp.roll(d, -1, axis) - d
        parts.append(d.reshape((math.prod(d.shape[:-1]), Y.shape[1])))
    return jnp.stack(parts) if isotropic else jnp.concatenate(parts)[None]


def largest_variation(d: Float[Array, "axes k m"], n: int, **layout) -> float:
    """`m sqrt(lambda_max K n)`, what differences of signals of root mean square 1 add up to at most; 1 for 0.

    >>> saw = jnp.asarray([[1.0], [-1.0], [1.0], [-1.0]])
    >>> d = differences(saw, boundary="periodic")
    >>> largest_variation(d, 4, boundary="periodic"), float(abs(d).sum())
    (8.0, 8.0)
    """
    _, k, m = d.shape
    return m * math.sqrt(_eigenvalues(n, **layout)[-1] * k * n) or 1.0


@functools.lru_cache(maxsize=32)
def _eigenvalues(
    n: int,
    order: int = 1,
    boundary: str | tuple[str, ...] = "neumann",
    shape: tuple[int, ...] | None = None,
    isotropic: bool = False,
) -> np.ndarray:
    """Eigenvalues of `D^T D`, ascending: sums of those of the axes, however the rows of D are grouped."""
    del isotropic
    total = np.zeros(1)
    for points, end in zip(*_axes(n, boundary, shape), strict=True):
        if end == "periodic" or order == 1:
            one_axis = (2 * np.sin(transforms.angles(points, end) / 2)) ** (2 * order)
        else:
            one_axis = np.zeros(points)
            singular = np.linalg.svd(np.diff(np.eye(points), order, axis=0), compute_uv=False)
            one_axis[: len(singular)] = singular**2
        total = np.add.outer(total, one_axis).ravel()
    return np.sort(total)


def _axes(n: int, boundary: str | tuple[str, ...], shape: tuple[int, ...] | None):
    grid = grid_of(n, shape, "total_variation")
    ends = (boundary,) * len(grid) if isinstance(boundary, str) else boundary
    if len(ends) != len(grid):
        raise ValueError(f"boundary: got {len(ends)} names for a grid of {len(grid)} axes {grid}.")
    return grid, ends


def _sparse_under(n: int, epsilon: ArrayLike, **layout) -> Operator:
    del epsilon
    with jax.ensure_compile_time_eval():
        return from_matrix(differences(jnp.eye(n), **layout).reshape((-1, n)))


def _assignment(summary: Any, epsilon: ArrayLike, **layout) -> tuple[Array, Array] | None:
    """Who stands next to whom, and how far apart any two are: a shortest path through the neurons."""
    grid, _ = _axes(summary.size, layout["boundary"], layout["shape"])
    if layout["order"] > 1 or (layout["isotropic"] and len(grid) > 1):
        return None
    S = in_own_unit(summary)
    with jax.ensure_compile_time_eval():
        D = np.asarray(differences(jnp.eye(len(S)), **layout), np.float64)[0]
    a = -np.minimum(D.T @ D, 0) * (1 - np.eye(len(S))) / 2
    floor = jnp.asarray(epsilon, S.dtype)
    apart = jax.lax.map(lambda row: jnp.sum(summary.weigh(softened((S - row[None, :]) ** 2, floor)), axis=1), S)
    return jnp.asarray(a, S.dtype), apart / largest_variation(differences(S, **layout), len(S), **layout)


def _bound(summary: Any, epsilon: ArrayLike, **layout) -> Float[Array, ""]:
    S = in_own_unit(summary)
    n, order, isotropic = len(S), layout["order"], layout["isotropic"]
    grid, ends = _axes(n, layout["boundary"], layout["shape"])
    # The largest difference of a sample of unit energy; on a circle of few points a difference meets itself.
    rows = [
        math.comb(2 * order, order) if end == "neumann" or points > order else 4**order
        for points, end in zip(grid, ends, strict=True)
    ]
    square = (sum(rows) if isotropic else max(rows)) * jnp.sum(S**2, axis=0)
    weight = 1 / (jnp.sqrt(square + epsilon**2) + epsilon)
    _, singular = Samples(heavy(S * jnp.sqrt(weight)[None, :], summary)).principal()
    a = _eigenvalues(n, **layout)
    unit = largest_variation(differences(S, **layout), n, **layout)
    return paired_roughness(a, singular**2) * a[-1] * jnp.sum(singular**2) / unit


def _curvature(summary: Any, epsilon: ArrayLike, **layout) -> SpatialCurvature:
    """`F_ij = sum_k (r^2 D_ki D_kj - (g_k D_ki)(g_k D_kj)) / r^3` for gradients g and `r^2 = g_k^2 + epsilon^2`."""
    S = in_own_unit(summary)
    n = len(S)
    place, weight = _stencil(n, **layout)
    products = np.einsum("akp,akq->pqk", weight, weight)

    def diagonal(point: Array) -> Array:
        Y = matmul(point, S)
        floor = jnp.asarray(epsilon, Y.dtype)
        g = differences(Y, **layout)
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
        unit = largest_variation(g, n, **layout)
        radial = jnp.sum(jax.grad(lambda y: _variation(y, summary, floor, **layout))(Y) * Y, axis=1)
        return spatial_curvature(matmul(bend, (Y**2).T) / unit, radial, (cross + cross.T) / unit)

    return SpatialCurvature(diagonal)


@functools.lru_cache(maxsize=8)
def _stencil(n: int, **layout) -> tuple[np.ndarray, np.ndarray]:
    """The points that each difference touches, (K, L), and their coefficients, (axes, K, L)."""
    with jax.ensure_compile_time_eval():
        D = np.asarray(differences(jnp.eye(n), **layout), np.float64)
    touched = np.abs(D).sum(axis=0)
    width = max(1, int((touched > 0).sum(axis=1).max(initial=1)))
    place = np.argsort(-touched, axis=1, kind="stable")[:, :width]
    return place, np.take_along_axis(D, np.broadcast_to(place, (len(D), *place.shape)), axis=2)
