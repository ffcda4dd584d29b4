"""Smoothness: the Tikhonov figure of merit, a quadratic form with a closed-form minimiser."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble.checks import one_of, positive_integer
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.summaries import Factor, Gram, Samples, Summary
from jaxdescramble.operators import BOUNDARIES, SCHEMES, Operator, derivative

SUMMARIES = {"factor": Factor, "gram": Gram, "samples": Samples}


def smoothness(
    order: int = 2,
    boundary: str | Sequence[str] = "periodic",
    scheme: str = "spectral",
    *,
    shape: Sequence[int] | None = None,
    operator: Operator | None = None,
    summary: str = "factor",
) -> Objective:
    """Roughness of the signals along the link axis: Tikhonov's criterion, in [0, 1].

    `f(P) = ||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`

    0 for signals in the null space of D (constants), 1 for the fastest mode; unchanged when S is scaled, when samples
    are repeated or permuted, and when S is turned on the right.

    Args:
        order, boundary, scheme: of the derivative D, as in `jaxdescramble.operators.derivative`.
        shape: the grid on which the n neurons are laid out, C order; None for a line or circle of n points.
        operator: any operator in place of the derivative, e.g. `operators.from_matrix(graph_incidence)`.
        summary: what is kept of the signals: "factor" (default), "gram" or "samples".

    Returns:
        An `Objective` with an operator (so it has a closed form), a curvature and a bound.

    Raises:
        ValueError, TypeError: unknown names, an order below 1, a shape that does not hold n points.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> round(float(smoothness()(jnp.eye(8), jnp.cos(t)[:, None])), 4), round(1 / 4**4, 4)
    (0.0039, 0.0039)

    Source: Amey et al. 2021, equation for Tikhonov smoothness; the normalisation is this package's.
    """
    kind = SUMMARIES[one_of(summary, "summary", tuple(SUMMARIES))]
    functions: dict[str, Any] = {"operator": _operator, "curvature": _curvature, "bound": rearrangement_bound}
    if operator is not None:
        if not callable(getattr(operator, "synthesise", None)):
            raise TypeError(
                f"operator: got {type(operator).__name__}; make one with operators.derivative or operators.from_matrix."
            )
        return Objective(_smoothness, kind, name="smoothness", parameters=(("given_operator", operator),), **functions)
    names = (boundary,) if isinstance(boundary, str) else tuple(boundary)
    settings = (
        ("order", positive_integer(order, "order")),
        ("boundary", names[0] if len(names) == 1 else names),
        ("scheme", one_of(scheme, "scheme", SCHEMES)),
        ("shape", None if shape is None else tuple(positive_integer(n, "shape") for n in shape)),
    )
    for name in names:
        one_of(name, "boundary", BOUNDARIES)
    return Objective(_smoothness, kind, name="smoothness", settings=settings, **functions)


def _operator(n: int, given_operator: Operator | None = None, shape: tuple[int, ...] | None = None, **grid) -> Operator:
    D = derivative(n if shape is None else shape, **grid) if given_operator is None else given_operator
    if D.size != n:
        given = f"grid {shape}" if shape else "operator"
        raise ValueError(
            f"smoothness: the {given} has {D.size} points, the signals have {n} features; they must be the same."
        )
    return D


def _largest(D: Operator, dtype) -> Array:
    """The normalising eigenvalue, 1 where D vanishes altogether (a single point)."""
    largest = jnp.asarray(D.eigenvalues)[-1].astype(dtype)
    return jnp.where(largest > 0, largest, 1)


def _smoothness(point: Float[Array, "n n"], summary: Summary, **options) -> Float[Array, ""]:
    return roughness(point, summary, _operator(summary.size, **options))


def roughness(point: Float[Array, "n n"], summary: Summary, D: Operator) -> Float[Array, ""]:
    """`||D P S||_F^2 / (lambda_max ||S||_F^2)`, 0 for signals that are zero.

    Taken as a sum of squares: a trace of Gram products would cancel, and err by 1e-4 where the answer is small.
    """
    scaled = summary.normalised()
    total = scaled.power()
    energy = scaled.energy(D.apply(point)) / _largest(D, point.dtype)
    return jnp.where(total > 0, energy / jnp.where(total > 0, total, 1), 0)


def rearrangement_bound(summary: Summary, **options) -> Float[Array, ""]:
    """`sum_i a_i sigma_i^2 / (a_n sum_i sigma_i^2)`, a ascending, sigma descending: no orthogonal P goes below."""
    D = _operator(summary.size, **options)
    _, singular = summary.normalised().principal()
    return paired_roughness(D.eigenvalues, singular**2)


def paired_roughness(eigenvalues: ArrayLike, powers: Float[Array, " n"]) -> Float[Array, ""]:
    """`sum_i a_i b_i / (a_max sum_i b_i)`, 0 where either sum vanishes: the value when mode i carries power b_i.

    >>> round(float(paired_roughness([0.0, 4.0], jnp.asarray([9.0, 1.0]))), 4)
    0.1
    """
    a = jnp.asarray(eigenvalues, powers.dtype)
    a = a / jnp.where(jnp.max(a) > 0, jnp.max(a), 1)
    total = jnp.sum(powers)
    return jnp.where(total > 0, jnp.sum(a * powers) / jnp.where(total > 0, total, 1), 0)


def _curvature(point: Float[Array, "n n"], summary: Summary, **options) -> Curvature:
    """In the eigenbasis of B the Hessian's diagonal is `2 (At_ii - At_jj)(b_j - b_i)`, with `At = U^T P^T A P U`."""
    D = _operator(summary.size, **options)
    scaled = summary.normalised()
    directions, singular = scaled.principal()
    b = singular**2
    height = jnp.sum(D.apply(jnp.matmul(point, directions, precision="highest")) ** 2, axis=0)
    scale = jnp.sum(b) * _largest(D, b.dtype)
    diagonal = 2 * (height[:, None] - height[None, :]) * (b[None, :] - b[:, None])
    return Curvature(directions, diagonal / jnp.where(scale > 0, scale, 1))
