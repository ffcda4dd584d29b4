"""What objectives of samples share: signals turned and in their own unit, safe ratios, curvature in the neurons' frame.

The unit is `s = ||S||_F / sqrt(n m)`, the root mean square of the entries: Y = P S below is in that unit, and so are
every epsilon, the energies `E_s = ||S_s||^2` of the samples (which no orthogonal P changes) and `sum_s E_s = n m`.

Samples may have weights. `summary.weigh(terms)` multiplies the terms of a sum over samples by them, in units of their
mean: then `sum_s w_s E_s = n m`, and every formula stays as it is.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import in_order, one_of, positive_integer
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Curvature
from jaxdescramble.objectives.summaries import Summary
from jaxdescramble.objectives.weighing import balanced, shares


def ratio(above: Array, below: Array) -> Array:
    """`above / below`, and 0 with zero derivatives where `below` is not positive; a NaN stays one.

    >>> ratio(jnp.asarray([1.0, 1.0]), jnp.asarray([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    nothing = below <= 0
    return jnp.where(nothing, 0, above / jnp.where(nothing, 1, below))


def mean(terms: Float[Array, "n m"]) -> Float[Array, ""]:
    """The mean of all entries, 0 where there are none."""
    return jnp.sum(terms) / max(terms.size, 1)


def _unit(summary: Summary) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Two numbers whose product is s: the size of the signals, a constant in derivatives, and s in units of it."""
    size = summary.scale()
    # What the summary says of its power, not its samples': these may be a few of many (`streaming`).
    square = summary.normalised().power() / summary.entries  # pyright: ignore[reportAttributeAccessIssue]
    return size, jnp.sqrt(jnp.where(square > 0, square, 1))


def in_own_unit(summary: Summary) -> Float[Array, "n m"]:
    """`S / s`, whose entries have root mean square 1 (or are all zero).

    >>> from jaxdescramble.objectives.summaries import Samples
    >>> [round(float(x), 4) for x in in_own_unit(Samples(jnp.asarray([[6e-30], [8e-30]])))[:, 0]]
    [0.8485, 1.1314]
    """
    size, unit = _unit(summary)
    return summary.signals / size / unit  # pyright: ignore[reportAttributeAccessIssue]


def turned(point: Float[Array, "n n"], summary: Summary) -> tuple[Float[Array, "n m"], Float[Array, "1 m"]]:
    """Y = P S in its own unit, and the energies of its samples."""
    size, unit = _unit(summary)
    energies = jnp.sum(in_own_unit(summary) ** 2, axis=0, keepdims=True)
    # The small matrix is divided, not the large one: with many samples the passes over them are what costs.
    return matmul(point / size / unit, summary.signals), energies  # pyright: ignore[reportAttributeAccessIssue]


def heavy(S: Float[Array, "n m"], summary: Any) -> Float[Array, "n m"]:
    """Samples times the roots of their weights in units of the mean weight; themselves where there are no weights.

    >>> from jaxdescramble.objectives.summaries import Samples
    >>> heavy(jnp.ones((1, 4)), Samples(jnp.ones((1, 4)), weights=jnp.asarray([5.0, 0.0, 0.0, 0.0]))).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """
    return S if summary.weights is None else balanced(S, shares(summary.weights))


def softened(square: Array, epsilon: ArrayLike) -> Array:
    """`sqrt(x^2 + epsilon^2) - epsilon` as a function of `x^2`: |x| with its corner rounded, at most epsilon below it.

    >>> softened(jnp.asarray([0.0, 9.0]), 4.0).tolist()
    [0.0, 1.0]
    """
    return square / (jnp.sqrt(square + epsilon**2) + epsilon)  # without the cancellation of the formula as written


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
    """The second derivative of `sum_s F(y_s)` along `exp(t (E_ij - E_ji)) Y`, for all i and j.

    `across_ij + across_ji - 2 cross_ij - radial_i - radial_j`, 0 for i = j: row i of Y moves by row j and row j by
    minus row i, and both shrink in second order.

    Args:
        across: `sum_s F_ii(y_s) y_js^2`.
        radial: `sum_s F_i(y_s) y_is`.
        cross: `sum_s F_ij(y_s) y_is y_js`; on its diagonal anything.
    """
    bend = across + across.T - 2 * cross - radial[:, None] - radial[None, :]
    return bend * (1 - jnp.eye(len(radial), dtype=bend.dtype))


def entrywise_curvature(summary: Any, terms: Callable[[Array, Array], Array]) -> SpatialCurvature:
    """The curvature of a mean of `terms(Y, energies)`, each a function of one entry of Y, by two derivatives."""
    S = in_own_unit(summary)
    energies = jnp.sum(S**2, axis=0, keepdims=True)

    def diagonal(point: Array) -> Array:
        Y = matmul(point, S)
        gradient = jax.grad(lambda y: mean(summary.weigh(terms(y, energies))))
        slope, bend = jax.jvp(gradient, (Y,), (jnp.ones_like(Y),))  # the Hessian is diagonal: this is all of it
        return spatial_curvature(matmul(bend, (Y**2).T), jnp.sum(slope * Y, axis=1), jnp.zeros_like(point))

    return SpatialCurvature(diagonal)


def grid_shape(shape: Sequence[int] | None) -> tuple[int, ...] | None:
    """A grid as a setting holds it: a tuple of positive integers, or None for a line or circle.

    >>> grid_shape([2, 3])
    (2, 3)
    """
    if shape is None:
        return None
    sizes = in_order(shape, "shape", "the number of points along each axis")
    if not sizes:
        raise ValueError("shape: got no axes; give the number of points along each.")
    return tuple(positive_integer(n, "shape") for n in sizes)


def end_names(boundary: str | Sequence[str], allowed: Sequence[str]) -> str | tuple[str, ...]:
    """What happens at the ends, as a setting holds it: one name for all axes, or one for each.

    >>> end_names(["periodic"], ("neumann", "periodic"))
    'periodic'
    """
    names = (
        (boundary,) if isinstance(boundary, str) else tuple(in_order(boundary, "boundary", "a name, or one per axis"))
    )
    if not names:
        raise ValueError("boundary: got no names; give one, or one per axis.")
    for name in names:
        one_of(name, "boundary", allowed)
    return names[0] if len(names) == 1 else names


def no_less_than_zero(summary: Summary, **options) -> Float[Array, ""]:
    """The bound of objectives of which no more is known than that they are not negative."""
    del options
    return jnp.zeros((), summary.dtype)


def grid_of(n: int, shape: tuple[int, ...] | None, name: str) -> tuple[int, ...]:
    """The grid on which n neurons are laid out; `ValueError` if it does not hold them.

    >>> grid_of(6, None, "locality")
    (6,)
    """
    grid = (n,) if shape is None else shape
    if int(np.prod(grid)) != n:
        raise ValueError(
            f"{name}: the grid {grid} has {int(np.prod(grid))} points, the signals have {n} features; "
            "they must be the same."
        )
    return grid
