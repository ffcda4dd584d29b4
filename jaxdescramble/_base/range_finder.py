"""Leading left singular vectors of a matrix: exact for up to about a thousand rows, randomised for more.

The randomised method is a block Krylov method with restarts. It starts from a random block X of b columns, and collects
`X, (M M^T) X, (M M^T)^2 X, ...` in an orthonormal basis V; every product reads M twice. The singular vectors of
`V^T M`, turned back by V, are the answer (Rayleigh-Ritz). They keep the accuracy of M: `M M^T` is never decomposed. If
the last cycle changed the kept energy `sum_i s_i^2` by more than rounding, the method keeps the best k + b vectors,
extends the basis by 2 k further columns, and decides again, at most `CYCLES` times.

Accuracy: let E be the share of the best energy that the kept vectors miss. Before the last cycle E was at most 8 eps,
and a cycle divides E by 10^6 or more if s_2k < 0.75 s_k (measured). So the vectors that carry energy are right to
rounding. If singular values around s_k are nearly equal (k inside flat noise), the vectors among them are not
separated, but the choice changes the energy by a share of less than 8 eps, or after `CYCLES` cycles by little more.

Compared with plain power iterations with oversampling (Halko, Martinsson, Tropp 2011, algorithm 4.4), a basis of all
powers needs a third of the products for singular values like 1/i, and it also works in single precision, where high
powers lose the small singular values.

Sources: Halko, Martinsson, Tropp, SIAM Review 53 (2011) 217, random starts, power iterations and their bounds; Musco
and Musco, NeurIPS 2015 (arXiv 1504.05477), block Krylov bases; Meyer, Musco, Musco, SODA 2024 (arXiv 2305.02535), small
blocks; Baglama and Reichel, SIAM J. Sci. Comput. 27 (2005) 19, restarts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul

EXACT = 1024
"""Matrices with this many rows or columns, or fewer, are decomposed exactly."""

BLOCKS = 8
"""A block has k / BLOCKS columns, but at least `LEAST`. A cycle multiplies 2 BLOCKS blocks."""

LEAST = 8

CYCLES = 8
"""Largest number of cycles after the first."""

KEY = 0
"""Seed of the random block, fixed so that answers can be repeated."""


class Leading(NamedTuple):
    """Leading left singular vectors of a matrix.

    Attributes:
        vectors: the k leading left singular vectors as columns. The largest entry of each is positive.
        values: the k largest singular values, descending.
        following: the next singular value; 0 if there is none.
    """

    vectors: Float[Array, "n k"]
    values: Float[Array, " k"]
    following: Float[Array, ""]


def leading(matrix: Float[Array, "n c"], k: int) -> Leading:
    """Return the k leading left singular vectors of a matrix, 1 <= k <= n.

    If the rank of the matrix is below k, the vectors are completed to an orthonormal set. Give a matrix whose entries
    are of the size of 1: squares must neither overflow nor vanish. The result has no derivative.

    Args:
        matrix: the matrix M.
        k: number of vectors, fixed at compile time.

    >>> Q, _ = decompositions.qr(jax.random.normal(jax.random.key(1), (1100, 1100)))
    >>> found = leading(Q * jnp.arange(1, 1101.0)[None, :] ** -1, 3)
    >>> [round(float(value), 4) for value in (*found.values, found.following)]
    [1.0, 0.5, 0.3333, 0.25]
    >>> bool((abs(abs(found.vectors.T @ Q[:, :3]) - jnp.eye(3)) < 1e-4).all())
    True
    """
    matrix = jax.lax.stop_gradient(matrix)
    n, c = matrix.shape
    vectors, values = (_exact if is_exact(n, c, k) else _randomised)(matrix, k)
    places = jnp.argmax(jnp.abs(vectors), axis=0)
    signs = jnp.where(jnp.take_along_axis(vectors, places[None, :], axis=0) < 0, -1, 1).astype(vectors.dtype)
    values = jnp.concatenate([values, jnp.zeros(max(k + 1 - len(values), 0), values.dtype)])
    return Leading(vectors * signs, values[:k], values[k])


def is_exact(n: int, c: int, k: int) -> bool:
    """Return whether `leading` decomposes a matrix of this shape exactly, instead of by the randomised method.

    >>> is_exact(1024, 20_000, 256), is_exact(4096, 20_000, 256), is_exact(4096, 20_000, 2000)
    (True, False, True)
    """
    return min(n, c) <= EXACT or 2 * sum(_sizes(k)[1:]) > min(n, c)


def _sizes(k: int) -> tuple[int, int, int]:
    """Return the columns of a block, the columns kept at a restart, and those that a cycle adds."""
    block = max(-(-k // BLOCKS), LEAST)
    return block, block * (-(-k // block) + 1), 2 * BLOCKS * block


def _exact(matrix: Float[Array, "n c"], k: int) -> tuple[Float[Array, "n k"], Float[Array, " s"]]:
    n, c = matrix.shape
    if c > n:  # the triangular factor has the same left singular vectors and values, equally accurate
        matrix = decompositions.triangle(matrix.T).T
    elif c < k:
        matrix = jnp.concatenate([matrix, jnp.zeros((n, k - c), matrix.dtype)], axis=1)
    vectors, values, _ = decompositions.svd(matrix, full_matrices=False)
    return vectors[:, :k], values


class _Basis(NamedTuple):
    """An orthonormal basis V, filled block by block, its rows `V^T M`, and the next block."""

    vectors: Float[Array, "n d"]
    rows: Float[Array, "d c"]
    block: Float[Array, "n b"]


class _State(NamedTuple):
    """A basis with the kept vectors in front, the singular values, the kept energy before and after, and the cycle."""

    basis: _Basis
    values: Float[Array, " d"]
    before: Float[Array, ""]
    energy: Float[Array, ""]
    cycle: Array


def _randomised(matrix: Float[Array, "n c"], k: int) -> tuple[Float[Array, "n k"], Float[Array, " d"]]:
    (n, c), (block, kept, further) = matrix.shape, _sizes(k)
    d, key = kept + further, jax.random.key(KEY)
    start, _ = decompositions.qr(jax.random.normal(key, (n, block), matrix.dtype))
    empty = _Basis(jnp.zeros((n, d), matrix.dtype), jnp.zeros((d, c), matrix.dtype), start)

    def cycle(basis: _Basis, first: int, before: Array, number: Array) -> _State:
        basis = jax.lax.fori_loop(first // block, d // block, functools.partial(_extended, matrix), basis)
        turn, values, _ = decompositions.svd(decompositions.triangle(basis.rows.T).T)
        front = turn[:, :kept]
        vectors = jnp.zeros_like(basis.vectors).at[:, :kept].set(matmul(basis.vectors, front))
        rows = jnp.zeros_like(basis.rows).at[:kept].set(matmul(front.T, basis.rows))
        return _State(_Basis(vectors, rows, basis.block), values, before, jnp.sum(values[:k] ** 2), number)

    def unsettled(state: _State) -> Array:
        rounding = 8 * jnp.finfo(matrix.dtype).eps * state.energy
        return (state.energy - state.before > rounding) & (state.cycle < CYCLES)

    def again(state: _State) -> _State:
        return cycle(state.basis, kept, state.energy, state.cycle + 1)

    found = jax.lax.while_loop(unsettled, again, cycle(empty, 0, jnp.zeros((), matrix.dtype), jnp.asarray(0)))
    return found.basis.vectors[:, :k], found.values


def _extended(matrix: Float[Array, "n c"], place: Array, basis: _Basis) -> _Basis:
    """Return the basis with its next block in place, and the block after it: `M M^T` times this one, orthonormalised.

    The basis may span all of M already. Noise of the size of rounding then gives the directions that complete it.
    """
    V, rows, X = basis
    n, b = X.shape
    half = matmul(X.T, matrix)
    V = jax.lax.dynamic_update_slice_in_dim(V, X, place * b, axis=1)
    rows = jax.lax.dynamic_update_slice_in_dim(rows, half, place * b, axis=0)
    new = matmul(matrix, half.T)
    largest = jnp.max(jnp.linalg.norm(new, axis=0))
    new = new / jnp.where(largest > 0, largest, 1)
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(KEY), place), (n, b), new.dtype)
    new = new + jnp.finfo(new.dtype).eps * noise / n**0.5
    for _ in range(3):  # twice is enough for a full rank (Giraud, Langou, Rozloznik 2005); noise takes one more
        new, _ = decompositions.qr(new - matmul(V, matmul(V.T, new)))
    return _Basis(V, rows, new)
