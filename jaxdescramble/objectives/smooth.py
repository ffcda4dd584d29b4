"""Smoothness: the Tikhonov figure of merit, a quadratic form with a closed-form minimiser."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import an_operator, one_of, positive_integer, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives._curvatures import spatial_curvature
from jaxdescramble.objectives._grids import BOUNDARY, Boundary, Shape, axes, checked_boundary, checked_shape
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.summaries import SUMMARIES, Factor
from jaxdescramble.objectives.summary import Summary, size_of
from jaxdescramble.objectives.units import ratio
from jaxdescramble.operators import BOUNDARIES, SCHEMES, Operator, derivative


def smoothness(
    order: int = 2,
    boundary: str | Sequence[str] = BOUNDARY,
    scheme: str = "spectral",
    *,
    shape: Sequence[int] | None = None,
    operator: Operator | None = None,
    summary: str = "factor",
) -> "Smoothness":
    """Roughness of the signals along the neurons: Tikhonov's criterion, in [0, 1].

    `f(P) = ||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`

    0 for signals in the null space of D (constants), 1 for the fastest mode; unchanged when S is scaled, when samples
    are repeated or permuted, and when S is turned on the right.

    Args:
        order, scheme: of the derivative D, as in `jaxdescramble.operators.derivative`.
        boundary: "periodic" (the ends of an axis meet), "neumann" (the axis ends, with zero slope) or "dirichlet" (the
            signals are zero beyond the ends); or one name per axis.
        shape: sizes of the grid that the n neurons fill, C order; None for one axis of n neurons.
        operator: any operator in place of the derivative, e.g. `operators.from_matrix(graph_incidence)`.
        summary: what is kept of the signals: "factor" (default), "gram" or "samples".

    Returns:
        An objective with an operator (so it has a closed form), a curvature and a bound.

    Raises:
        ValueError, TypeError: unknown names, an order below 1, a shape that does not hold n points.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> round(float(smoothness()(jnp.eye(8), jnp.cos(t)[:, None])), 4), round(1 / 4**4, 4)
    (0.0039, 0.0039)

    Source: Amey et al. 2021, equation for Tikhonov smoothness; the normalisation is this package's.
    """
    kind = SUMMARIES[one_of(summary, "summary", tuple(SUMMARIES))]
    if operator is not None:
        an_operator(operator)
        return Smoothness(custom=operator, summary=kind)
    return Smoothness(
        positive_integer(order, "order"),
        checked_boundary(boundary, BOUNDARIES),
        one_of(scheme, "scheme", SCHEMES),
        checked_shape(shape),
        summary=kind,
    )


class Quadratic(Objective[Summary]):
    """An objective `||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`: a subclass gives D, `operator(n)`."""

    summary = Factor
    takes_weights = True

    def operator(self, n: int) -> Operator:
        raise NotImplementedError(f"{type(self).__name__}: define operator(self, n).")

    def value(self, point: Float[Array, "n n"], summary: Summary) -> Float[Array, ""]:
        return roughness(point, summary, self.operator(size_of(summary)))

    def bound(self, summary: Summary) -> Float[Array, ""]:
        return rearrangement_bound(summary, self.operator(size_of(summary)))

    def curvature(self, summary: Summary) -> "PrincipalCurvature":
        return PrincipalCurvature(summary, self.operator(size_of(summary)))

    def assignment(self, summary: Summary) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """Return `D^T D / lambda_max` and `S S^T / ||S||_F^2`."""
        D = self.operator(size_of(summary))
        scaled = summary.normalised()
        eye = jnp.eye(summary.size, dtype=scaled.dtype)
        columns = D.apply(eye)
        b = ratio(scaled.moment(eye), scaled.power())
        return matmul(columns.T, columns) / largest_eigenvalue(D, scaled.dtype), b


class Smoothness(Quadratic):
    """Roughness of the signals along the neurons. Make one by `smoothness`, which says what it is.

    Attributes:
        order, boundary, scheme, shape: of the derivative D.
        custom: an operator in place of the derivative, or None.
        summary: the kind of summary.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    boundary: Boundary = dataclasses.field(default=BOUNDARY, metadata={"static": True})
    scheme: str = dataclasses.field(default="spectral", metadata={"static": True})
    shape: Shape = dataclasses.field(default=None, metadata={"static": True})
    custom: Operator | None = None
    summary: type[Summary] = dataclasses.field(default=Factor, metadata={"static": True})

    def operator(self, n: int) -> Operator:
        if self.custom is None:
            grid, ends = axes(n, self.shape, self.boundary, self.name)
            return derivative(grid, self.order, ends, self.scheme)
        if self.custom.size != n:
            raise ValueError(
                f"smoothness: the operator has {self.custom.size} points, the signals have {n} features; "
                "they must be the same."
            )
        return self.custom

    def symmetries(self, n: int) -> Symmetries:
        if self.custom is not None:
            return of_grid(*axes(n, None, "neumann", self.name), reversals=False)
        return of_grid(*axes(n, self.shape, self.boundary, self.name))


def largest_eigenvalue(D: Operator, dtype: DTypeLike) -> Float[Array, ""]:
    """`lambda_max(D^T D)`, 1 where D vanishes altogether (a single point): what a quadratic form is divided by.

    >>> from jaxdescramble.operators import derivative
    >>> float(largest_eigenvalue(derivative(4, scheme="difference"), float))
    16.0
    """
    largest = jnp.asarray(D.eigenvalues)[-1].astype(dtype)
    return jnp.where(largest > 0, largest, 1)


def roughness(point: Float[Array, "n n"], summary: Summary, D: Operator) -> Float[Array, ""]:
    """`||D P S||_F^2 / (lambda_max ||S||_F^2)`, 0 for signals that are zero.

    Taken as a sum of squares: a trace of Gram products would cancel, and err by 1e-4 where the answer is small.
    """
    same_size(point, 0, D.size, "point", "the operator")
    scaled = summary.normalised()
    return ratio(scaled.energy(D.apply(point)) / largest_eigenvalue(D, point.dtype), scaled.power())


def rearrangement_bound(summary: Summary, D: Operator) -> Float[Array, ""]:
    """`sum_i a_i sigma_i^2 / (a_n sum_i sigma_i^2)`, a ascending, sigma descending: no orthogonal P goes below."""
    _, singular = summary.normalised().principal()
    return paired_roughness(D.eigenvalues, singular**2)


def paired_roughness(eigenvalues: ArrayLike, powers: Float[Array, " n"]) -> Float[Array, ""]:
    """`sum_i a_i b_i / (a_max sum_i b_i)`, 0 where either sum vanishes: the value when mode i carries power b_i.

    >>> round(float(paired_roughness([0.0, 4.0], jnp.asarray([9.0, 1.0]))), 4)
    0.1
    """
    a = jnp.asarray(eigenvalues, powers.dtype)
    a = a / jnp.where(jnp.max(a) > 0, jnp.max(a), 1)
    return ratio(jnp.sum(a * powers), jnp.sum(powers))


class PrincipalCurvature:
    """The curvature of `||D P S||_F^2 / (lambda_max ||S||_F^2)` in the principal directions U of the signals.

    There the Hessian's diagonal is `2 (At_ii - At_jj)(b_j - b_i)`, with `At = U^T P^T A P U`, and near the answer there
    is little beside it. `diagonal(point)` is the Hessian's diagonal in the neurons' frame instead, for sums with
    objectives that have theirs there.
    """

    def __init__(self, summary: Summary, D: Operator):
        self._scaled, self._D = summary.normalised(), D
        self._directions, singular = self._scaled.principal()
        b = singular**2
        self._unit = ratio(jnp.ones((), b.dtype), jnp.sum(b) * largest_eigenvalue(D, b.dtype))
        self._slopes = 2 * self._unit * (b[None, :] - b[:, None])

    def __call__(self, point: Float[Array, "n n"]) -> Curvature:
        height = jnp.sum(self._D.apply(matmul(point, self._directions)) ** 2, axis=0)
        return Curvature(self._directions, (height[:, None] - height[None, :]) * self._slopes)

    def diagonal(self, point: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """The second derivatives along `exp(t W) P`, `W = E_ij - E_ji`."""
        columns = self._D.apply(jnp.eye(self._D.size, dtype=point.dtype))
        A, B = matmul(columns.T, columns), self._scaled.moment(point)
        across = jnp.diagonal(A)[:, None] * jnp.diagonal(B)[None, :]
        return 2 * self._unit * spatial_curvature(across, jnp.sum(A * B, axis=1), A * B)
