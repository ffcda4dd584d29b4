"""Test whether a point is a minimum: the gradient, and the extreme eigenvalues of the Hessian modulo its null space."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import a_function, positive_integer, random_key
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.manifolds.projections import square
from jaxdescramble.solvers.descent import Function
from jaxdescramble.solvers.problem import GroupFunction, inner, norm


@functools.partial(
    register_dataclass,
    data_fields=["gradient_norm", "lowest", "highest", "error", "direction"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Stationarity(Stored):
    """First- and second-order conditions at a point of O(n). It is a pytree; leading axes are batches.

    Attributes:
        gradient_norm: `||skew(P^T grad f)||_F`.
        lowest: estimate from above of the smallest non-zero eigenvalue of the Hessian; negative at a saddle. It is 0 if
            all computed eigenvalues are zero (n = 1, or a constant function).
        highest: estimate from below of the largest eigenvalue.
        error: some eigenvalue is at most this far from `lowest`.
        direction: skew matrix of norm one with the curvature `lowest`: `P exp(t direction)` leads away from a saddle.
    """

    gradient_norm: Float[Array, "*batch"]
    lowest: Float[Array, "*batch"]
    highest: Float[Array, "*batch"]
    error: Float[Array, "*batch"]
    direction: Float[Array, "*batch n n"]


class _Krylov(NamedTuple):
    basis: Float[Array, "steps n n"]
    image: Float[Array, "n n"]
    alphas: Float[Array, " steps"]
    betas: Float[Array, " steps"]


def stationarity(
    function: Function, point: ArrayLike, *args: PyTree, key: PRNGKeyArray, steps: int = 60
) -> Stationarity:
    """Test whether P is a minimum of `f(P, *args)` over O(n): return its gradient norm and extreme curvatures.

    Use it after a solve, to tell a minimum from a saddle. Points near P are `P exp(Omega)` with a skew matrix Omega;
    the Hessian H of f on the group maps Omega to `H Omega`. The function computes the smallest and the largest non-zero
    eigenvalue of H by Lanczos' method, which needs products `H Omega` but never the whole H. It starts from
    `H Omega_0` with a random Omega_0, so directions with zero curvature do not enter. You therefore need not say along
    which directions f is constant (its gauge).

    Args:
        function: a function `function(point, *args)` that returns a scalar.
        point: orthogonal matrix P, shape (n, n).
        args: data of the function.
        key: random key of the random start.
        steps: number of Hessian products, fixed at compile time. More steps make the eigenvalues more accurate.

    Returns:
        A `Stationarity`. If `gradient_norm` is not small, P is not stationary. If it is small and `lowest` is negative,
        P is a saddle (or a maximum): move along `direction`. If `lowest` is positive, P is a minimum as far as the
        steps can see; `error` says how accurate `lowest` is.

    Raises:
        TypeError: if `point` is not made of real numbers, or another argument has the wrong type.
        ValueError: if `point` is not square, or `steps` is less than 1.

    >>> A = jnp.diag(jnp.asarray([1.0, 2.0, 4.0]))
    >>> found = stationarity(lambda P: jnp.trace(A @ P @ -A @ P.T), jnp.eye(3), key=jax.random.key(0))
    >>> round(float(found.lowest), 3), round(float(found.highest), 3)  # (a_i - a_j)^2, in the unit of ||Omega||_F
    (1.0, 9.0)

    Source: Lanczos 1950, with full orthogonalisation; `solvers.problem` gives the Hessian.
    """
    P = square(point, "point")
    a_function(function, "function", "a point and data")
    steps, key = positive_integer(steps, "steps"), random_key(key)
    n = P.shape[0]
    pure = jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
    return _stationarity(pure, P, args, key, min(steps, max(n * (n - 1) // 2, 1)))


@functools.partial(jax.jit, static_argnames="steps")
def _stationarity(function: Function, point: Array, args: tuple, key: PRNGKeyArray, steps: int) -> Stationarity:
    problem = GroupFunction(function, args)
    iterate = problem.evaluate(point)
    product = problem.hessian(iterate)
    eps = jnp.finfo(point.dtype).eps
    first = product(orthogonal.skew(jax.random.normal(key, point.shape, point.dtype)))
    size = norm(first)
    basis = jnp.zeros((steps, *point.shape), point.dtype).at[0].set(_unit(first, size, 0))
    numbers = jnp.zeros(steps, point.dtype)

    def body(k: Array, krylov: _Krylov) -> _Krylov:
        image = product(krylov.basis[k])
        alpha = inner(krylov.basis[k], image)
        rest = image
        for _ in range(2):  # twice is enough
            overlap = jnp.einsum("kij,ij->k", krylov.basis, rest, precision="highest")
            rest = rest - jnp.einsum("k,kij->ij", overlap, krylov.basis, precision="highest")
        beta = norm(rest)
        # Below this size the new direction is only rounding: the space is exhausted, so fill up with zeros.
        largest = jnp.max(jnp.abs(krylov.alphas.at[k].set(alpha)) + krylov.betas)
        following = _unit(rest, beta, 100 * eps * largest)
        basis = krylov.basis.at[k + 1].set(following, mode="drop")
        return _Krylov(basis, rest, krylov.alphas.at[k].set(alpha), krylov.betas.at[k].set(beta))

    krylov = jax.lax.fori_loop(0, steps, body, _Krylov(basis, first, numbers, numbers))
    met = jnp.sum(krylov.basis**2, axis=(1, 2)) > 0.5
    links = jnp.where(met[1:], krylov.betas[:-1], 0)
    tridiagonal = jnp.diag(krylov.alphas) + jnp.diag(links, 1) + jnp.diag(links, -1)
    values, vectors = decompositions.eigh(tridiagonal)
    # Steps that were not taken add eigenvalues 0 of their own; leave them out.
    real = jnp.sum(vectors**2 * met[:, None], axis=0) > 0.5
    real = real & (jnp.abs(values) > 100 * eps * jnp.max(jnp.abs(values)))
    low = jnp.argmin(jnp.where(real, values, jnp.inf))
    high = jnp.argmax(jnp.where(real, values, -jnp.inf))
    any_met = real.any()
    direction = jnp.einsum("k,kij->ij", vectors[:, low], krylov.basis, precision="highest")
    finite = iterate.finite & jnp.isfinite(values).all()
    missing = jnp.asarray(jnp.nan, point.dtype)
    return Stationarity(
        gradient_norm=jnp.where(finite, norm(iterate.gradient), missing),
        lowest=jnp.where(finite, jnp.where(any_met, values[low], 0), missing),
        highest=jnp.where(finite, jnp.where(any_met, values[high], 0), missing),
        error=jnp.where(finite, jnp.where(any_met, krylov.betas[-1] * jnp.abs(vectors[-1, low]), 0), missing),
        direction=jnp.where(finite, direction, missing),
    )


def _unit(matrix: Array, size: Array, least: ArrayLike) -> Array:
    """Return a matrix scaled to norm one, or zero if its norm is at most `least`."""
    there = size > least
    return jnp.where(there, matrix / jnp.where(there, size, 1), 0)
