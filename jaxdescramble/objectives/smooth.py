"""Smoothness: Tikhonov's criterion, a quadratic form in P whose minimiser has a closed form."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base.checks import an_operator, one_of, positive_integer, same_size
from jaxdescramble._base.products import matmul, real_type
from jaxdescramble._base.programs import fused
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
    """Return the objective that makes signals smooth from neuron to neuron. It is the default of `descramble`.

    `f(P) = ||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)` (Tikhonov's criterion)

    Here D is the derivative along the neurons (the rows of `P S`), and `lambda_max` is the largest eigenvalue. f
    measures roughness and lies in [0, 1]; small values are smooth. f is 0 if D maps the signals to zero: with
    "periodic" or "neumann" ends, these are signals that are equal in all neurons. f is 1 if every sample is the fastest
    mode, the one of the largest eigenvalue. f does not change when S is scaled, when samples are repeated or permuted,
    or when S is multiplied from the right by an orthogonal matrix.

    Args:
        order: order of the derivative D, at least 1.
        boundary: "periodic" (the ends of an axis meet), "neumann" (the axis ends, with zero slope) or "dirichlet" (the
            signals are zero beyond the ends); or one name per axis.
        scheme: "spectral" (the default) or "difference" (finite differences); see `operators.derivative`.
        shape: sizes of the grid that the n neurons fill, in C order; None means one axis of n neurons.
        operator: any operator instead of the derivative, such as `operators.from_matrix(graph_incidence)`. The other
            arguments except `summary` are then ignored.
        summary: which summary of the signals to keep. "factor" (the default) suits most data; "gram" has cheaper
            updates but half the digits; "samples" keeps the signals themselves.

    Returns:
        A `Smoothness`. It has an operator, and therefore a closed form. It also has a bound, and a curvature (a model
        of its Hessian for preconditioners).

    Raises:
        ValueError, TypeError: if a name is unknown, or `order` is less than 1. When you use the objective: if the grid
            does not have n points.

    >>> t = 2 * jnp.pi * jnp.arange(8) / 8
    >>> round(float(smoothness()(jnp.eye(8), jnp.cos(t)[:, None])), 4), round(1 / 4**4, 4)
    (0.0039, 0.0039)

    Source: Amey et al. 2021, equation for Tikhonov smoothness; the normalisation is ours.
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
    """An objective `||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`; a subclass defines D as `operator(n)`."""

    summary = Factor
    takes_weights = True
    takes_complex = True

    def operator(self, n: int) -> Operator:
        raise NotImplementedError(f"{type(self).__name__}: define operator(self, n).")

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: Summary) -> Float[Array, ""]:
        return roughness(point, summary, self.operator(size_of(summary)))

    def bound(self, summary: Summary) -> Float[Array, ""]:
        return rearrangement_bound(summary, self.operator(size_of(summary)))

    def curvature(self, summary: Summary) -> "PrincipalCurvature | None":
        operator = self.operator(size_of(summary))
        return None if jnp.issubdtype(summary.dtype, jnp.complexfloating) else PrincipalCurvature(summary, operator)

    def assignment(self, summary: Summary) -> tuple[Float[Array, "n n"], Float[Array, "n n"]]:
        """Return `D^T D / lambda_max` and `S S^T / ||S||_F^2`, or the real part of `S S^H / ||S||_F^2`."""
        D = self.operator(size_of(summary))
        scaled = summary.normalised()
        eye = jnp.eye(summary.size, dtype=real_type(scaled.dtype))
        columns = D.apply(eye)
        b = ratio(scaled.moment(eye).real, scaled.power())
        return matmul(columns.T, columns) / largest_eigenvalue(D, eye.dtype), b


class Smoothness(Quadratic):
    """Roughness of the signals along the neurons. Make it with `smoothness`, which documents it.

    Attributes:
        order, boundary, scheme, shape: arguments of the derivative D.
        custom: the operator that replaces the derivative, or None.
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
    """Return `lambda_max(D^T D)`, by which a quadratic form is divided; 1 if D is zero (a single point).

    >>> from jaxdescramble.operators import derivative
    >>> float(largest_eigenvalue(derivative(4, scheme="difference"), float))
    16.0
    """
    largest = jnp.asarray(D.eigenvalues)[-1].astype(dtype)
    return jnp.where(largest > 0, largest, 1)


def roughness(point: Inexact[Array, "n n"], summary: Summary, D: Operator) -> Float[Array, ""]:
    """Return `||D P S||_F^2 / (lambda_max ||S||_F^2)`, or 0 if the signals are zero.

    The sum is a sum of squares. A trace of Gram products would lose digits: its error is 1e-4 if the value is small.
    """
    same_size(point, 0, D.size, "point", "the operator")
    scaled = summary.normalised()
    return ratio(scaled.energy(D.apply(point)) / largest_eigenvalue(D, real_type(point.dtype)), scaled.power())


def rearrangement_bound(summary: Summary, D: Operator) -> Float[Array, ""]:
    """Return `sum_i a_i sigma_i^2 / (a_n sum_i sigma_i^2)`: no orthogonal or unitary P has a smaller roughness.

    Here a are the eigenvalues of `D^T D`, ascending, and sigma the singular values of S, descending.
    """
    _, singular = summary.normalised().principal()
    return paired_roughness(D.eigenvalues, singular**2)


@fused
def paired_roughness(eigenvalues: ArrayLike, powers: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the roughness if the mode of eigenvalue a_i carries the power b_i.

    `sum_i a_i b_i / (a_max sum_i b_i)`, or 0 if either sum is 0.

    >>> round(float(paired_roughness([0.0, 4.0], jnp.asarray([9.0, 1.0]))), 4)
    0.1
    """
    a = jnp.asarray(eigenvalues, powers.dtype)
    a = a / jnp.where(jnp.max(a) > 0, jnp.max(a), 1)
    return ratio(jnp.sum(a * powers), jnp.sum(powers))


class PrincipalCurvature:
    """The curvature of `||D P S||_F^2 / (lambda_max ||S||_F^2)` in the principal directions U of the signals.

    In this frame the diagonal of the Hessian is `2 (At_ii - At_jj)(b_j - b_i)`, with `A = D^T D`,
    `At = U^T P^T A P U` and the squared singular values b of S, in units of the denominator. Near the minimum the other
    entries are small. `diagonal(point)` returns the diagonal in the frame of the neurons instead. Weighted sums use it
    if the other terms have their curvature in that frame.
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

    def bending(self, point: Float[Array, "n n"], V: Float[Array, "n k"]) -> Float[Array, " k"]:
        """Return `v^T A v` for the columns v of V; see `Bending`."""
        share = 2 / (largest_eigenvalue(self._D, V.dtype) * len(V))
        return share * jnp.sum(self._D.apply(V) ** 2, axis=0)

    def diagonal(self, point: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """Return the second derivatives along `exp(t W) P`, with `W = E_ij - E_ji`, for all i and j."""
        columns = self._D.apply(jnp.eye(self._D.size, dtype=point.dtype))
        A, B = matmul(columns.T, columns), self._scaled.moment(point)
        across = jnp.diagonal(A)[:, None] * jnp.diagonal(B)[None, :]
        return 2 * self._unit * spatial_curvature(across, jnp.sum(A * B, axis=1), A * B)
