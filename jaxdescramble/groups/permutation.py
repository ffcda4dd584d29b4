"""The symmetric group S(n): permutations as index arrays p, whose matrix P has ones at (i, p(i)), so `P S = S[p]`.

Also its moves: what every exchange of two entries would change in a quadratic form `sum_ij a_ij b_(p(i) p(j))`. Matters
of one element stand for a batch under `jax.vmap`.
"""

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxdescramble.checks import positive_integer
from jaxdescramble.groups.assignment import assign
from jaxdescramble.products import matmul

__all__ = [
    "compose",
    "corners",
    "exchange_gains",
    "gradient",
    "identity",
    "inverse",
    "matrix",
    "nearest",
    "random",
    "sign",
]


def identity(n: int) -> Int[Array, " n"]:
    """The permutation that leaves everything in its place.

    >>> identity(3).tolist()
    [0, 1, 2]
    """
    return jnp.arange(positive_integer(n, "n"), dtype=jnp.int32)


def compose(p: Int[Array, " n"], q: Int[Array, " n"]) -> Int[Array, " n"]:
    """The permutation whose matrix is the product `P Q`: i to q(p(i)).

    >>> compose(jnp.asarray([1, 2, 0]), jnp.asarray([0, 2, 1])).tolist()
    [2, 1, 0]
    """
    return q[p]


def inverse(p: Int[Array, " n"]) -> Int[Array, " n"]:
    """The permutation whose matrix is `P^T`.

    >>> inverse(jnp.asarray([1, 2, 0])).tolist()
    [2, 0, 1]
    """
    return jnp.zeros_like(p).at[p].set(jnp.arange(len(p), dtype=p.dtype))


def matrix(p: Int[Array, " n"], dtype: DTypeLike = float) -> Float[Array, "n n"]:
    """P, with `P S = S[p]`.

    >>> matrix(jnp.asarray([1, 0])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return jnp.eye(len(p), dtype=dtype)[p]


def sign(p: Int[Array, " n"]) -> Int[Array, ""]:
    """The determinant of P: +1 for an even number of exchanges, -1 for an odd one.

    >>> sign(jnp.asarray([1, 0, 2])).item(), sign(jnp.asarray([1, 2, 0])).item()
    (-1, 1)
    """
    places = jnp.arange(len(p))
    inversions = jnp.sum((places[:, None] < places[None, :]) & (p[:, None] > p[None, :]))
    return 1 - 2 * (inversions % 2).astype(jnp.int32)


def random(key: PRNGKeyArray, n: int) -> Int[Array, " n"]:
    """A permutation, all with equal chance.

    >>> sorted(random(jax.random.key(0), 4).tolist())
    [0, 1, 2, 3]
    """
    # Ranks of random numbers: `jax.random.permutation` sorts several times, and takes that much longer to compile.
    return jnp.argsort(jax.random.uniform(key, (positive_integer(n, "n"),))).astype(jnp.int32)


def nearest(point: Float[Array, "n n"]) -> Int[Array, " n"]:
    """The permutation nearest to a matrix in the Frobenius norm, `argmax_p sum_i M_(i p(i))`: a linear assignment.

    >>> nearest(jnp.asarray([[0.1, 0.9], [0.4, 0.6]])).tolist()
    [1, 0]
    """
    return assign(-point).columns


def gradient(a: Float[Array, "n n"], c: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`G = A C^T + A^T C`, whose entry (i, j) is what row i costs in the place of row j, `c_ij = b_(p(i) p(j))`.

    >>> gradient(jnp.eye(2), jnp.asarray([[0.0, 1.0], [2.0, 0.0]])).tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    return matmul(a, c.T) + matmul(a.T, c)


def corners(m: Shaped[Array, "n n"]) -> Shaped[Array, "n n"]:
    """`m_ii + m_jj - m_ij - m_ji` for all i and j.

    >>> corners(jnp.asarray([[1, 2], [3, 4]])).tolist()
    [[0, 0], [0, 0]]
    """
    diagonal = jnp.diagonal(m)
    return diagonal[:, None] + diagonal[None, :] - m - m.T


def exchange_gains(a: Float[Array, "n n"], b: Float[Array, "n n"], p: Int[Array, " n"]) -> Float[Array, "n n"]:
    """What `sum_ij a_ij b_(p(i) p(j))` changes by when entries i and j of p are exchanged, for all i and j at once.

    `Delta_ij = G_ij + G_ji - G_ii - G_jj + (a_ii + a_jj - a_ij - a_ji) (c_ii + c_jj - c_ij - c_ji)`, with
    `c_ij = b_(p(i) p(j))` and `G = A C^T + A^T C`: two matrix products.

    Args:
        a: A, symmetric or not.
        b: B, of the same size.
        p: the permutation.

    Returns:
        Symmetric, zero on the diagonal; negative where the exchange lowers the form.

    >>> a, b = jnp.asarray([[0.0, 1.0], [2.0, 0.0]]), jnp.asarray([[0.0, 5.0], [3.0, 0.0]])
    >>> exchange_gains(a, b, jnp.asarray([0, 1])).tolist()  # 5 + 6 becomes 3 + 10
    [[0.0, 2.0], [2.0, 0.0]]

    Source: Burkard, Dell'Amico, Martello, Assignment Problems (2009), section 8.2.3, rearranged.
    """
    c = b[p][:, p]
    G = gradient(a, c)
    diagonal = jnp.diagonal(G)
    return G + G.T - diagonal[:, None] - diagonal[None, :] + corners(a) * corners(c)
