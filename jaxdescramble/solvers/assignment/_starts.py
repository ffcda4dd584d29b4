"""Starts of a search for a quadratic assignment: relaxation to doubly stochastic matrices, or eigenvectors."""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds import permutation
from jaxdescramble.manifolds.assignment import assign
from jaxdescramble.solvers.assignment._bounds import sums_to_zero

RELAXED_STEPS = 30
"""Largest number of Frank-Wolfe steps; most starts need fewer than ten."""

SINKHORN_STEPS = 10
"""Number of balancing steps, which make a random matrix nearly doubly stochastic."""


def quadratic(a: Float[Array, "n n"], b: Float[Array, "n n"], p: Int[Array, " n"]) -> Float[Array, ""]:
    """Return `sum_ij a_ij b_(p(i) p(j))`.

    >>> a = jnp.asarray([[0.0, 1.0], [0.0, 0.0]])
    >>> float(quadratic(a, jnp.asarray([[0.0, 2.0], [3.0, 0.0]]), jnp.asarray([1, 0])))
    3.0
    """
    return jnp.sum(a * b[p][:, p])


def random_stochastic(key: PRNGKeyArray, n: int, dtype: jnp.dtype) -> Float[Array, "n n"]:
    """Return a matrix half way between the barycentre and a random one, with row and column sums of nearly one.

    >>> P = random_stochastic(jax.random.key(0), 4, jnp.zeros(0).dtype)
    >>> bool(abs(P.sum(axis=0) - 1).max() < 1e-3), bool(abs(P.sum(axis=1) - 1).max() < 1e-1)
    (True, True)

    Source: Sinkhorn, Knopp, Pacific J. Math. 21 (1967) 343.
    """

    def balance(_: Array, P: Array) -> Array:
        P = P / jnp.sum(P, axis=1, keepdims=True)
        return P / jnp.sum(P, axis=0, keepdims=True)

    P = jax.random.uniform(key, (n, n), dtype, minval=0.01)
    return (jax.lax.fori_loop(0, SINKHORN_STEPS, balance, P) + 1 / n) / 2


def relax(a: Float[Array, "n n"], b: Float[Array, "n n"], start: Float[Array, "n n"]) -> Int[Array, " n"]:
    """Return the permutation nearest to a stationary doubly stochastic matrix of `tr(A P B^T P^T)`, by Frank-Wolfe.

    The direction of a step is the permutation Q of least `<grad f(P), Q>`, a linear assignment. The length of a step is
    exact, because f is a parabola along a line.

    Args:
        a: matrix A.
        b: matrix B.
        start: doubly stochastic matrix P.

    >>> a = jnp.asarray([[0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    >>> turn = jnp.asarray([2, 0, 1])
    >>> relax(a, -a[turn][:, turn], jnp.full((3, 3), 1 / 3)).tolist()  # the turn undone
    [1, 2, 0]

    Source: Vogelstein et al., PLoS ONE 10 (2015) e0121002, algorithm 1.
    """
    n = len(a)
    places = jnp.arange(n)

    def slope_at(P: Array) -> Array:
        return matmul(matmul(a, P), b.T) + matmul(matmul(a.T, P), b)

    def slope_at_corner(q: Array) -> Array:
        back = permutation.inverse(q)
        return matmul(a[:, back], b.T) + matmul(a.T[:, back], b)

    def step(state: tuple) -> tuple:
        P, slope, prices, k, flat, _, _ = state
        # The last assignment rounds P. It is in the same loop, because each copy of the assignment compiles slowly.
        last = flat | (k == RELAXED_STEPS)
        found = assign(jnp.where(last, -P, slope), jnp.where(last, jnp.min(-P, axis=0), prices))
        q = found.columns
        change = slope_at_corner(q) - slope
        downhill = jnp.sum(slope * P) - jnp.sum(slope[places, q])
        curvature = jnp.sum(change[places, q]) - jnp.sum(change * P)
        convex = curvature > 0
        length = jnp.where(convex, jnp.clip(downhill / jnp.where(convex, curvature, 1), 0, 1), 1)
        moved = ((1 - length) * P).at[places, q].add(length)
        flat = downhill <= 1e-6 * jnp.sum(jnp.abs(slope * P))
        return moved, slope + length * change, found.prices, k + 1, flat, q, last

    slope, no = slope_at(start), jnp.zeros((), bool)
    state = (start, slope, jnp.min(slope, axis=0), 0, no, permutation.identity(n), no)
    return jax.lax.while_loop(lambda state: ~state[6], step, state)[5]


def spectral(a: Float[Array, "n n"], b: Float[Array, "n n"]) -> Int[Array, " n"]:
    """Return the best of sixteen orders from eigenvectors: match the entries of one of A and one of B by rank.

    The vectors are the first and the last eigenvectors of the matrices and of their graph Laplacians, orthogonal to
    constants. The Fiedler vector, which finds a hidden line, is one of them.

    >>> chain = jnp.abs(jnp.arange(4.0)[:, None] - jnp.arange(4.0)[None, :])
    >>> turn = jnp.asarray([2, 0, 3, 1])
    >>> order = turn[spectral(chain, -chain[turn][:, turn])].tolist()
    >>> order in ([0, 1, 2, 3], [3, 2, 1, 0])
    True

    Source: Atkins, Boman, Hendrickson, SIAM J. Comput. 28 (1998) 297; Umeyama, IEEE Trans. PAMI 10 (1988) 695.
    """
    V = sums_to_zero(len(a), a.dtype)

    def orders(m: Array) -> list[list[Array]]:
        even = (m + m.T) / 2
        found = []
        for one in (even, jnp.diag(jnp.sum(even, axis=1)) - even):
            vectors = matmul(V, decompositions.eigh(matmul(V.T, matmul(one, V)))[1])
            found.append([jnp.argsort(vectors[:, 0]), jnp.argsort(vectors[:, -1])])
        return found

    pairs = [pair for one, other in zip(orders(a), orders(b), strict=True) for pair in itertools.product(one, other)]
    rows, columns = (jnp.stack(side).astype(jnp.int32) for side in zip(*pairs, strict=True))
    candidates = jax.vmap(lambda row, column: jnp.zeros_like(row).at[row].set(column))(
        jnp.concatenate([rows, rows]), jnp.concatenate([columns, columns[:, ::-1]])
    )
    values = jax.vmap(quadratic, (None, None, 0))(a, b, candidates)
    return candidates[jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))]
