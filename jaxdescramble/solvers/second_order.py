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
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.manifolds.named import point_on
from jaxdescramble.solvers.descent import Function
from jaxdescramble.solvers.problem import ManifoldFunction, inner, norm


@functools.partial(
    register_dataclass,
    data_fields=["gradient_norm", "lowest", "highest", "error", "direction"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Stationarity(Stored):
    """First- and second-order conditions at a point of a manifold. It is a pytree; leading axes are batches.

    Attributes:
        gradient_norm: norm of the gradient on the manifold; on O(n), `||skew(P^T grad f)||_F`.
        lowest: estimate from above of the smallest non-zero eigenvalue of the Hessian; negative at a saddle. It is 0 if
            all computed eigenvalues are zero (n = 1, or a constant function).
        highest: estimate from below of the largest eigenvalue.
        error: some eigenvalue is at most this far from `lowest`.
        direction: a direction of norm one with the curvature `lowest`, which leads away from a saddle. On O(n) it is a
            skew matrix: `P exp(t direction)`. On other manifolds it is a tangent vector V:
            `manifold.exponential(P, t V)`.
    """

    gradient_norm: Float[Array, "*batch"]
    lowest: Float[Array, "*batch"]
    highest: Float[Array, "*batch"]
    error: Float[Array, "*batch"]
    direction: PyTree


class _Krylov(NamedTuple):
    basis: Float[Array, "steps *coordinates"]
    image: Float[Array, "*coordinates"]
    alphas: Float[Array, " steps"]
    betas: Float[Array, " steps"]


def stationarity(
    function: Function,
    point: PyTree,
    *args: PyTree,
    key: PRNGKeyArray,
    steps: int = 60,
    group: str | None = None,
    manifold: PyTree = None,
) -> Stationarity:
    """Test whether P is a minimum of `f(P, *args)` on a manifold: return its gradient norm and extreme curvatures.

    Use it after a solve, to tell a minimum from a saddle. Points of O(n) near P are `P exp(Omega)` with a skew matrix
    Omega; the Hessian H of f on the group maps Omega to `H Omega`. The function computes the smallest and the largest
    non-zero eigenvalue of H by Lanczos' method, which needs products `H Omega` but never the whole H. It starts from
    `H Omega_0` with a random Omega_0, so directions with zero curvature do not enter. You therefore need not say along
    which directions f is constant (its gauge).

    Args:
        function: a function `function(point, *args)` that returns a scalar.
        point: the point P, such as an orthogonal matrix, shape (n, n).
        args: data of the function.
        key: random key of the random start.
        steps: number of Hessian products, fixed at compile time. More steps make the eigenvalues more accurate.
        group, manifold: see `minimise`; None means `manifolds.Orthogonal()`.

    Returns:
        A `Stationarity`. If `gradient_norm` is not small, P is not stationary. If it is small and `lowest` is negative,
        P is a saddle (or a maximum): move along `direction`. If `lowest` is positive, P is a minimum as far as the
        steps can see; `error` says how accurate `lowest` is.

    Raises:
        TypeError: if `point` is not made of numbers of the manifold, or another argument has the wrong type.
        ValueError: if `point` is not on the manifold, or `steps` is less than 1.

    >>> A = jnp.diag(jnp.asarray([1.0, 2.0, 4.0]))
    >>> found = stationarity(lambda P: jnp.trace(A @ P @ -A @ P.T), jnp.eye(3), key=jax.random.key(0))
    >>> round(float(found.lowest), 3), round(float(found.highest), 3)  # (a_i - a_j)^2, in the unit of ||Omega||_F
    (1.0, 9.0)

    Source: Lanczos 1950, with full orthogonalisation; `solvers.problem` gives the Hessian.
    """
    a_function(function, "function", "a point and data")
    steps, key = positive_integer(steps, "steps"), random_key(key)
    where, P = point_on(group, manifold, point, "point")
    pure = jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
    return _stationarity(pure, P, args, key, min(steps, max(where.dimension(P), 1)), where)


@functools.partial(jax.jit, static_argnames=("steps", "manifold"))
def _stationarity(
    function: Function, point: PyTree, args: tuple, key: PRNGKeyArray, steps: int, manifold: Manifold
) -> Stationarity:
    problem = ManifoldFunction(function, args, manifold)
    iterate = problem.evaluate(point)
    product = problem.hessian(iterate)
    dtype, extent = iterate.value.dtype, iterate.gradient.shape
    eps = jnp.finfo(dtype).eps
    first = product(manifold.clean(point, jax.random.normal(key, extent, dtype)))
    size = norm(first)
    basis = jnp.zeros((steps, *extent), dtype).at[0].set(_unit(first, size, 0))
    numbers = jnp.zeros(steps, dtype)

    def body(k: Array, krylov: _Krylov) -> _Krylov:
        image = product(krylov.basis[k])
        alpha = inner(krylov.basis[k], image)
        rest = image
        for _ in range(2):  # twice is enough
            overlap = jnp.einsum("k...,...->k", krylov.basis, rest, precision="highest")
            rest = rest - jnp.einsum("k,k...->...", overlap, krylov.basis, precision="highest")
        beta = norm(rest)
        # Below this size the new direction is only rounding: the space is exhausted, so fill up with zeros.
        largest = jnp.max(jnp.abs(krylov.alphas.at[k].set(alpha)) + krylov.betas)
        following = _unit(rest, beta, 100 * eps * largest)
        basis = krylov.basis.at[k + 1].set(following, mode="drop")
        return _Krylov(basis, rest, krylov.alphas.at[k].set(alpha), krylov.betas.at[k].set(beta))

    krylov = jax.lax.fori_loop(0, steps, body, _Krylov(basis, first, numbers, numbers))
    met = jnp.sum(krylov.basis.reshape(steps, -1) ** 2, axis=1) > 0.5
    links = jnp.where(met[1:], krylov.betas[:-1], 0)
    tridiagonal = jnp.diag(krylov.alphas) + jnp.diag(links, 1) + jnp.diag(links, -1)
    values, vectors = decompositions.eigh(tridiagonal)
    # Steps that were not taken add eigenvalues 0 of their own; leave them out.
    real = jnp.sum(vectors**2 * met[:, None], axis=0) > 0.5
    real = real & (jnp.abs(values) > 100 * eps * jnp.max(jnp.abs(values)))
    low = jnp.argmin(jnp.where(real, values, jnp.inf))
    high = jnp.argmax(jnp.where(real, values, -jnp.inf))
    any_met = real.any()
    direction = jnp.einsum("k,k...->...", vectors[:, low], krylov.basis, precision="highest")
    if not manifold.frames:
        direction = manifold.vector(point, iterate.place, direction)
    finite = iterate.finite & jnp.isfinite(values).all()
    missing = jnp.asarray(jnp.nan, dtype)
    return Stationarity(
        gradient_norm=jnp.where(finite, norm(iterate.gradient), missing),
        lowest=jnp.where(finite, jnp.where(any_met, values[low], 0), missing),
        highest=jnp.where(finite, jnp.where(any_met, values[high], 0), missing),
        error=jnp.where(finite, jnp.where(any_met, krylov.betas[-1] * jnp.abs(vectors[-1, low]), 0), missing),
        direction=jax.tree.map(lambda leaf: jnp.where(finite, leaf, missing), direction),
    )


def _unit(matrix: Array, size: Array, least: ArrayLike) -> Array:
    """Return a matrix scaled to norm one, or zero if its norm is at most `least`."""
    there = size > least
    return jnp.where(there, matrix / jnp.where(there, size, 1), 0)
