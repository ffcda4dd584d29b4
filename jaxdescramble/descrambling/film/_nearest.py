"""Choose, among equally good answers, the one nearest to the last frame, so that a film does not jump."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdescramble._base.decompositions import determinant_sign
from jaxdescramble._base.products import matmul
from jaxdescramble.exact import CircularShifts, Stabiliser, align
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.manifolds.assignment import assign
from jaxdescramble.objectives import Objective, Summary
from jaxdescramble.operators import Operator


def nearest_minimiser(
    operator: Operator, point: Float[Array, "n n"], before: Float[Array, "n n"], rank: Int[Array, ""], group: str = "O"
) -> Float[Array, "n n"]:
    """Return the minimiser `G P` of `||D P S||_F` that is nearest to Q: `min_G ||G P - Q||_F`.

    G is an orthogonal matrix that mixes the modes without signal (those from the rank on), and then an element of the
    `Stabiliser` of `D^T D`. The rank is a number here, not a shape, so one compiled program serves frames of any rank.
    Equal singular values, which `exact.degeneracy` counts, give more freedom; during training they do not occur, except
    for those that are zero.

    Args:
        operator: the derivative operator D.
        point: a minimiser P. For any other point, give n as rank: then only the stabiliser is used.
        before: the matrix Q.
        rank: number of modes that carry signal.
        group: "O" or "SO"; "SO" reflects one mode if the determinant would be -1, the one that costs least.

    >>> from jaxdescramble.operators import derivative
    >>> P = orthogonal.random(jax.random.key(0), 5)
    >>> near = nearest_minimiser(derivative(5), -P, P, jnp.asarray(5))
    >>> bool(jnp.abs(near - P).max() < 1e-5)
    True
    """
    n, wanted = operator.size, operator.analyse(before)

    def without_null_space() -> Array:
        modes = operator.analyse(point)
        silent = jnp.arange(n) >= rank
        both = silent[:, None] & silent[None, :]
        overlap = jnp.where(both, matmul(wanted, modes.T), jnp.diag(1 - silent.astype(point.dtype)))
        return operator.synthesise(matmul(orthogonal.polar(overlap)[0], modes))

    turned = jax.lax.cond(rank < n, without_null_space, lambda: point)
    turned = align(turned, before, Stabiliser(operator)).aligned
    if group == "O":
        return turned
    modes = operator.analyse(turned)
    least = jnp.argmin(jnp.sum(modes * wanted, axis=1))
    reflected = operator.synthesise(modes.at[least].multiply(-1))
    return jnp.where(determinant_sign(turned) < 0, reflected, turned)


def nearest_equal(
    objective: Objective, summary: Summary, point: Float[Array, "n n"], before: Float[Array, "n n"], group: str = "O"
) -> Float[Array, "n n"]:
    """Return `G P` nearest to Q, over the discrete symmetries G that an objective may have.

    The candidates for G are the nearest signed permutation of the rows (sparsity, entropies), signs of the rows, a
    circular shift with reversal and a common sign (circles), and a reversal with a common sign (lines). The function
    does not look up the symmetries of the objective. It evaluates the objective, and leaves out candidates that give a
    higher value, beyond rounding.

    Args:
        objective, summary: the objective that P minimises, and the summary of the signals.
        point: the minimiser P.
        before: the matrix Q.
        group: "O" or "SO".

    >>> from jaxdescramble.objectives import Samples, sparsity
    >>> P, S = orthogonal.random(jax.random.key(0), 4), jax.random.laplace(jax.random.key(1), (4, 30))
    >>> bool(jnp.abs(nearest_equal(sparsity(), Samples(S), -P[::-1], P) - P).max() < 1e-6)
    True
    """
    n, eye = len(point), jnp.eye(len(point), dtype=point.dtype)
    overlap = matmul(before, point.T)  # (i, j): row i before with row j now
    columns = assign(-jnp.abs(overlap)).columns
    ends = jnp.stack([eye, -eye, eye[::-1], -eye[::-1]])
    elements = jnp.concatenate(
        [
            ends,
            jnp.stack(
                [
                    eye * _signs(jnp.diagonal(overlap))[:, None],
                    eye[columns] * _signs(jnp.take_along_axis(overlap, columns[:, None], axis=1)),
                    CircularShifts(n).nearest(point, before),
                ]
            ),
        ]
    )
    # `||G P - Q||^2 = 2 n - 2 <G, Q P^T>`: this tells which candidates are nearer, before any of them is evaluated.
    nearness = jnp.sum(elements * overlap[None], axis=(1, 2))
    rounding = 100 * jnp.finfo(point.dtype).eps

    def tried() -> Array:
        turned = matmul(elements, point[None])
        values = jax.lax.map(lambda one: objective(one, summary), turned)
        allowed = values <= values[0] + rounding * jnp.maximum(1, jnp.abs(values[0]))
        if group == "SO":
            allowed &= jax.vmap(determinant_sign)(elements) > 0
        return turned[jnp.argmax(jnp.where(allowed.at[0].set(True), nearness, -jnp.inf))]

    return jax.lax.cond((nearness > nearness[0] + rounding * n).any(), tried, lambda: point)


def _signs(numbers: Array) -> Array:
    return jnp.where(numbers < 0, -1, 1).astype(numbers.dtype)
