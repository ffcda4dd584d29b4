"""A model of the Hessian on manifolds of orthonormal columns, for `preconditioners.Kronecker`: what columns weigh.

Let `D^2 f[V] = A V B` for n x p matrices V, and let M be the symmetric part of `X^T grad f`. On tangent vectors
`X T + b`, with T skew and `X^T b = 0`, the Hessian is

    b -> (1 - X X^T) A b B - b M,

and in the plane of the columns i and j it is `a_i b_j + a_j b_i - m_i - m_j`, with a, b and m the diagonals of
`X^T A X`, B and M in a frame of the columns in which B and M are nearly diagonal. The model puts the mean c and the
standard deviation s of the eigenvalues of A in the place of A: then column j of b has the divisor
`sqrt((c b_j - m_j)^2 + (s b_j)^2)`. So everything takes O(n p^2) operations and O(n p) memory, and B takes p Hessian
products.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import is_complex, matmul
from jaxdescramble.manifolds.projections import skewed
from jaxdescramble.solvers._batches import if_due
from jaxdescramble.solvers._kronecker import MISFIT, at_the_minimum, rank_one, rudin_shapiro
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, norm

ROWS = 64
"""`Automatic` models functions of at least this number of rows: compiling a model takes longer than a smaller solve."""

WAIT = 1.0
"""The default measures B after this number of Hessian products for each column."""

EVERY = 8
"""Number of steps after which what terms of first order add is measured again."""

BATCH = 64
"""Number of columns that Hessian products take together, about."""

SHARE = 0.7
"""Weight of M in the matrix whose eigenvectors are the frame of the columns."""

DEFINITE = 1e-3
"""The least eigenvalue of B, in units of the largest; smaller ones are raised to it."""

FLAT = 1e-3
"""The least divisor, in units of the largest."""

Prepare = Callable[[Iterate, PyTree], tuple[Callable[[Array], Array], Array, PyTree]]
"""What `preconditioners.bind` returns too."""


class Factors(NamedTuple):
    """What was measured: B up to a factor, which A takes, and what A is like.

    Attributes:
        right: B, positive definite.
        fits: whether the Hessian has the form `A V B` with a definite B.
        mean: the mean eigenvalue of A, estimated.
        spread: the standard deviation of its eigenvalues, estimated.
    """

    right: Float[Array, "p p"]
    fits: Array
    mean: Float[Array, ""]
    spread: Float[Array, ""]


class State(NamedTuple):
    """What a solver carries.

    Attributes:
        age: number of steps.
        factors: what was measured at the start.
        extra: the symmetric part of `X^T D^2 f[X] - X^T grad f`, which is what terms of first order add.
    """

    age: Array
    factors: Factors
    extra: Float[Array, "p p"]


def possible(problem: ManifoldFunction, start: Iterate) -> bool:
    """Return whether the points are real matrices of orthonormal columns."""
    return problem.manifold.turn_weight is not None and not is_complex(start.point)


def worthwhile(problem: ManifoldFunction, start: Iterate) -> bool:
    """Return whether a model is possible, and worth its compilation."""
    return possible(problem, start) and start.point.shape[0] >= ROWS and start.point.shape[1] > 1


def bind(problem: ManifoldFunction, start: Iterate, every: int | None, products: float) -> tuple[PyTree, Prepare]:
    """Return the initial state and `prepare`; see `preconditioners.bind`.

    Args:
        problem: the function.
        start: where B is measured.
        every: measure B again after this many steps; 0 measures once, at the start. None measures once, when the
            solve has cost about as much as that, so that short solves pay nothing.
        products: about how many Hessian products a step of the solver costs.
    """
    p, slope = start.point.shape[1], jax.grad(problem.value)

    def prepare(iterate: Iterate, state: State) -> tuple[Callable[[Array], Array], Array, State]:
        if every != 0:
            due = state.age == int(WAIT * p / products) if every is None else state.age % every == 0
            found = if_due(due, lambda: _factors(slope, iterate), state.factors)
            state = state._replace(factors=found)
        early = state.age & (state.age - 1) == 0  # 0, 1, 2, 4
        due = state.factors.fits & (early | (state.age % EVERY == 0))
        extra = if_due(due, lambda: _extra(slope, iterate), state.extra)
        state = State(state.age + 1, state.factors, extra)
        return (*_divide(problem, iterate, state), state)

    nothing = jnp.zeros((p, p), start.point.dtype)
    first = _factors(slope, start) if every == 0 else _nothing(start.point)
    return State(jnp.zeros((), jnp.int32), first, nothing), prepare


def _factors(slope: Callable[[Array], Array], start: Iterate) -> Factors:
    X, (n, p) = start.point, start.point.shape
    u, v = jnp.asarray(rudin_shapiro(n), X.dtype), jnp.asarray(rudin_shapiro(2 * p)[p:], X.dtype)
    seen, row, form = rank_one(slope, (X, X[::-1, ::-1]), u, v)
    size = norm(seen)

    def measure() -> Factors:
        _, linear = jax.linearize(slope, X)
        eye = jnp.eye(p, dtype=X.dtype)
        rows = jax.lax.map(
            lambda y: matmul(u[None, :], linear(u[:, None] * y[None, :]))[0], eye, batch_size=max(1, min(p, BATCH // p))
        )
        B = (rows + rows.T) / 2
        sign = jnp.where(jnp.trace(B) < 0, -1, 1).astype(X.dtype)
        values, frame = decompositions.eigh(jnp.where(jnp.isfinite(B).all(), sign * B, eye))
        definite = (values[0] >= -MISFIT * values[-1]) & jnp.isfinite(B).all()
        right = matmul(frame * jnp.maximum(values, DEFINITE * values[-1])[None, :], frame.T)
        # u^T A u is 1 now, so that u gives the means of the eigenvalues of A and of their squares.
        mean, square = sign / n, (size / jnp.maximum(norm(row), TINY)) ** 2 / n
        return Factors(right, definite, mean, jnp.sqrt(jnp.maximum(square - mean**2, 0)))

    return if_due(form & (size > 0), measure, _nothing(X))


def _nothing(X: Array) -> Factors:
    zero = jnp.zeros((), X.dtype)
    return Factors(jnp.eye(X.shape[1], dtype=X.dtype), jnp.zeros((), bool), zero, zero)


def _extra(slope: Callable[[Array], Array], iterate: Iterate) -> Array:
    X = iterate.point
    own = matmul(X.T, jax.jvp(slope, (X,), (X,))[1])
    return (own + own.T) / 2 - iterate.normal


class _Metric(NamedTuple):
    """Divisors in a frame of the columns.

    Attributes:
        frame: the frame F.
        of_turn: divisor of the plane of each pair of columns.
        of_b: divisor of each column of b.
        known: whether they model f.
    """

    frame: Float[Array, "p p"]
    of_turn: Float[Array, "p p"]
    of_b: Float[Array, " p"]
    known: Array


def _divide(problem: ManifoldFunction, iterate: Iterate, state: State) -> tuple[Callable[[Array], Array], Array]:
    """Return `M^-1` at a point, as a function of coordinates, and whether it models f."""
    X, place, manifold, p = iterate.point, iterate.place, problem.manifold, iterate.point.shape[1]
    weight = 2 * (manifold.turn_weight or 0)
    eye, ones = jnp.eye(p, dtype=X.dtype), jnp.ones((p, p), X.dtype)
    nothing = _Metric(eye, ones, ones[0], jnp.zeros((), bool))
    # Functions without this form, and solves that end before B is measured, pay nothing.
    F, of_turn, of_b, known = if_due(state.factors.fits, lambda: _metric(problem, iterate, state), nothing)

    def divide(velocity: Array) -> Array:
        def divided() -> Array:
            turn, b = _apart(problem, iterate, F, velocity)
            turn = matmul(matmul(F, weight * turn / of_turn), F.T)
            b = matmul(matmul(b, F) / of_b[None, :], F.T)
            return manifold.coordinates(X, place, matmul(X, turn) + b)

        return if_due(known, divided, velocity)

    return divide, known


def _metric(problem: ManifoldFunction, iterate: Iterate, state: State) -> _Metric:
    M, factors, weight = iterate.normal, state.factors, 2 * (problem.manifold.turn_weight or 0)
    # Where B and M commute, and where B is a multiple of 1, this frame diagonalises both.
    ratio = SHARE * norm(factors.right) / jnp.maximum(norm(M), TINY)
    _, F = decompositions.eigh(factors.right + ratio * M)
    values, bent, extra = (jnp.sum(F * matmul(one, F), axis=0) for one in (factors.right, M, state.extra))
    own = (bent + extra) / values
    both = own[:, None] * values[None, :] + own[None, :] * values[:, None] - bent[:, None] - bent[None, :]
    # See `preconditioners.jacobi_divisors`. A column turns in many planes at once, and their slopes add up.
    row = weight * jnp.sqrt(jnp.sum(_apart(problem, iterate, F, iterate.gradient)[0] ** 2, axis=0))
    slopes = jnp.maximum(row[:, None], row[None, :])
    of_turn = at_the_minimum(slopes, both)
    of_b = jnp.sqrt((factors.mean * values - bent) ** 2 + (factors.spread * values) ** 2)
    largest = jnp.max(of_b)
    known = factors.fits & jnp.isfinite(largest) & (largest > 0) & jnp.isfinite(of_turn).all()
    of_turn, of_b = (jnp.where(known, jnp.maximum(one, FLAT * largest), 1) for one in (of_turn, of_b))
    return _Metric(F, of_turn, of_b, known)


def _apart(problem: ManifoldFunction, iterate: Iterate, F: Array, velocity: Array) -> tuple[Array, Array]:
    """Return `F^T T F` and b of the tangent vector `X T + b` with these coordinates."""
    X = iterate.point
    vector = problem.manifold.vector(X, iterate.place, velocity)
    turn = skewed(matmul(X.T, vector))
    return matmul(matmul(F.T, turn), F), vector - matmul(X, turn)
