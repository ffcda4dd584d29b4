"""The symmetric group S(n): a permutation is an index array p; its matrix P has ones at (i, p(i)), so `P S = S[p]`.

The module also has the moves: how each exchange of two entries changes the form `sum_ij a_ij b_(p(i) p(j))`. Each
function takes one element; use `jax.vmap` for a batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from jaxdescramble._base.checks import floating_type, is_traced, numbers, positive_integer, random_key
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds.assignment import assign
from jaxdescramble.manifolds.projections import square

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
    """Return the identity permutation.

    Args:
        n: number of features.

    Raises:
        TypeError: if `n` is not an integer.
        ValueError: if `n` is less than 1.

    >>> identity(3).tolist()
    [0, 1, 2]
    """
    return jnp.arange(positive_integer(n, "n"), dtype=jnp.int32)


def compose(p: Int[Array, " n"], q: Int[Array, " n"]) -> Int[Array, " n"]:
    """Return the permutation whose matrix is the product `P Q`; it maps i to q(p(i)).

    Args:
        p, q: permutations of the same size, shape (n,).

    Raises:
        TypeError: if an argument is not an array of integers (n,).
        ValueError: if an argument is not a permutation, or the sizes differ.

    >>> compose(jnp.asarray([1, 2, 0]), jnp.asarray([0, 2, 1])).tolist()
    [2, 1, 0]
    """
    p, q = _permutation(p, "p"), _permutation(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"q: got a permutation of {len(q)}; must have the size of p, {len(p)}.")
    return q[p]


def inverse(p: Int[Array, " n"]) -> Int[Array, " n"]:
    """Return the permutation whose matrix is `P^T`.

    Args:
        p: permutation, shape (n,).

    Raises:
        TypeError: if `p` is not an array of integers (n,).
        ValueError: if `p` is not a permutation.

    >>> inverse(jnp.asarray([1, 2, 0])).tolist()
    [2, 0, 1]
    """
    p = _permutation(p, "p")
    return jnp.zeros_like(p).at[p].set(jnp.arange(len(p), dtype=p.dtype))


def matrix(p: Int[Array, " n"], dtype: DTypeLike = float) -> Float[Array, "n n"]:
    """Return the matrix P of a permutation, with `P S = S[p]`.

    Args:
        p: permutation, shape (n,).
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if `p` is not an array of integers (n,), or `dtype` is not float32 or float64.
        ValueError: if `p` is not a permutation.

    >>> matrix(jnp.asarray([1, 0])).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    p = _permutation(p, "p")
    return jnp.eye(len(p), dtype=floating_type(dtype))[p]


def sign(p: Int[Array, " n"]) -> Int[Array, ""]:
    """Return the determinant of P: +1 for an even number of exchanges, -1 for an odd number.

    Args:
        p: permutation, shape (n,).

    Raises:
        TypeError: if `p` is not an array of integers (n,).
        ValueError: if `p` is not a permutation.

    >>> sign(jnp.asarray([1, 0, 2])).item(), sign(jnp.asarray([1, 2, 0])).item()
    (-1, 1)
    """
    p = _permutation(p, "p")
    places = jnp.arange(len(p))
    inversions = jnp.sum((places[:, None] < places[None, :]) & (p[:, None] > p[None, :]))
    return 1 - 2 * (inversions % 2).astype(jnp.int32)


def random(key: PRNGKeyArray, n: int) -> Int[Array, " n"]:
    """Return a random permutation; all have the same probability.

    Args:
        key: random key.
        n: number of features.

    Raises:
        TypeError: if `key` is not a key, or `n` is not an integer.
        ValueError: if `n` is less than 1.

    >>> sorted(random(jax.random.key(0), 4).tolist())
    [0, 1, 2, 3]
    """
    # Rank random numbers: `jax.random.permutation` sorts several times and takes that much longer to compile.
    return jnp.argsort(jax.random.uniform(random_key(key), (positive_integer(n, "n"),))).astype(jnp.int32)


def nearest(point: Float[Array, "n n"]) -> Int[Array, " n"]:
    """Return the permutation nearest to a matrix in the Frobenius norm, `argmax_p sum_i M_(i p(i))`, by assignment.

    Args:
        point: matrix M, shape (n, n), such as a descrambler P.

    Raises:
        TypeError: if `point` is not made of real numbers.
        ValueError: if `point` is not a square matrix.

    >>> nearest(jnp.asarray([[0.1, 0.9], [0.4, 0.6]])).tolist()
    [1, 0]
    """
    return assign(-square(point, "point")).columns


def gradient(a: Float[Array, "n n"], c: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return `G = A C^T + A^T C`; G_ij is the cost of row i in the place of row j, with `c_ij = b_(p(i) p(j))`.

    Args:
        a: matrix A, shape (n, n).
        c: matrix C, shape (n, n).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if an argument is not square, or the sizes differ.

    >>> gradient(jnp.eye(2), jnp.asarray([[0.0, 1.0], [2.0, 0.0]])).tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    a = _form(a, "a")
    c = _form(c, "c", like=a)
    return matmul(a, c.T) + matmul(a.T, c)


def corners(m: Shaped[Array, "n n"]) -> Shaped[Array, "n n"]:
    """Return `m_ii + m_jj - m_ij - m_ji` for all i and j.

    Args:
        m: matrix of integers or real numbers, shape (n, n).

    Raises:
        TypeError: if `m` is not made of real numbers.
        ValueError: if `m` is not a square matrix.

    >>> corners(jnp.asarray([[1, 2], [3, 4]])).tolist()
    [[0, 0], [0, 0]]
    """
    m = _form(m, "m")
    diagonal = jnp.diagonal(m)
    return diagonal[:, None] + diagonal[None, :] - m - m.T


def exchange_gains(a: Float[Array, "n n"], b: Float[Array, "n n"], p: Int[Array, " n"]) -> Float[Array, "n n"]:
    """Return the change of `sum_ij a_ij b_(p(i) p(j))` when entries i and j of p are exchanged, for all i and j.

    `Delta_ij = G_ij + G_ji - G_ii - G_jj + (a_ii + a_jj - a_ij - a_ji) (c_ii + c_jj - c_ij - c_ji)`, with
    `c_ij = b_(p(i) p(j))` and `G = A C^T + A^T C`. It takes two matrix products.

    Args:
        a: matrix A, symmetric or not.
        b: matrix B of the same size.
        p: permutation of the same size.

    Returns:
        A symmetric matrix with zero diagonal; an entry is negative if the exchange lowers the form.

    Raises:
        TypeError: if a matrix is not made of real numbers, or `p` not of integers.
        ValueError: if a matrix is not square, `p` is not a permutation, or the sizes differ.

    >>> a, b = jnp.asarray([[0.0, 1.0], [2.0, 0.0]]), jnp.asarray([[0.0, 5.0], [3.0, 0.0]])
    >>> exchange_gains(a, b, jnp.asarray([0, 1])).tolist()  # 5 + 6 becomes 3 + 10
    [[0.0, 2.0], [2.0, 0.0]]

    Source: Burkard, Dell'Amico, Martello, Assignment Problems (2009), section 8.2.3, rearranged.
    """
    a, p = _form(a, "a"), _permutation(p, "p")
    b = _form(b, "b", like=a)
    if len(p) != len(a):
        raise ValueError(f"p: got a permutation of {len(p)}; must have the size of a, {len(a)}.")
    c = b[p][:, p]
    G = gradient(a, c)
    diagonal = jnp.diagonal(G)
    return G + G.T - diagonal[:, None] - diagonal[None, :] + corners(a) * corners(c)


def _permutation(value: ArrayLike, name: str) -> Int[Array, " n"]:
    p = numbers(value, name, "a permutation, an array of integers (n,)")
    if p.ndim != 1 or not len(p) or not jnp.issubdtype(p.dtype, jnp.integer):
        raise TypeError(f"{name}: expected a permutation, an array of integers (n,), got {p.dtype} of shape {p.shape}.")
    if not is_traced(p) and not np.array_equal(np.sort(np.asarray(p)), np.arange(len(p))):
        raise ValueError(f"{name}: expected each of 0 ... {len(p) - 1} once; use nearest(matrix) to project a matrix.")
    return p


def _form(value: ArrayLike, name: str, like: Array | None = None) -> Shaped[Array, "n n"]:
    m = numbers(value, name, "a square matrix (n, n)")
    # Keep integers: then the result is exact.
    return (
        m if _is_integral(m) and m.shape == (like if like is not None else m.T).shape else square(m, name, like, of="a")
    )


def _is_integral(m: Array) -> bool:
    return m.ndim == 2 and 0 not in m.shape and bool(jnp.issubdtype(m.dtype, jnp.integer))
