"""Leading left singular vectors of a matrix: exact for up to about a thousand rows, randomised for more.

The randomised method is a block Krylov method with restarts. It starts from a random block X of b columns, and collects
`X, (M M^T) X, (M M^T)^2 X, ...` in an orthonormal basis V; every product reads M twice. The singular vectors of
`V^T M`, turned back by V, are the answer (Rayleigh-Ritz). They keep the accuracy of M: `M M^T` is never decomposed. If
the last k / 2 columns of the basis changed the kept energy `sum_i s_i^2` by a share of more than `SMALL`, the method
keeps the best k + b vectors, extends them by k further columns, and decides again, at most `RESTARTS` times.

Accuracy: without the last k / 2 columns, the kept vectors missed about `SMALL` of the best energy, and with them less:
four products with `M M^T` divide what is missed by 1000 or more if s_2k < 0.75 s_k. `benchmarks/results/wide.md` has
figures. If singular values around s_k are nearly equal (k inside flat noise), the vectors among them are not separated;
their choice hardly changes the energy.

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
"""A block has k / BLOCKS columns, but at least `LEAST`. The first basis has about 3 BLOCKS blocks."""

LEAST = 8

RESTARTS = 12
"""Largest number of restarts."""

SMALL = 1e-12
"""Share of the energy that decides about a restart; in single precision 8 eps, 1e-6."""

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
    block, kept = _sizes(k)
    return min(n, c) <= EXACT or 2 * (kept + 2 * BLOCKS * block) > min(n, c)


def _sizes(k: int) -> tuple[int, int]:
    """Return the columns of a block, and the columns kept at a restart: k and about one block."""
    block = max(-(-k // BLOCKS), LEAST)
    return block, block * (-(-k // block) + 1)


def _exact(matrix: Float[Array, "n c"], k: int) -> tuple[Float[Array, "n k"], Float[Array, " s"]]:
    n, c = matrix.shape
    if c > n:  # the triangular factor has the same left singular vectors and values, equally accurate
        matrix = decompositions.triangle(matrix.T).T
    elif c < k:
        matrix = jnp.concatenate([matrix, jnp.zeros((n, k - c), matrix.dtype)], axis=1)
    vectors, values, _ = decompositions.svd(matrix, full_matrices=False)
    return vectors[:, :k], values


class _Basis(NamedTuple):
    """An orthonormal basis V, filled block by block, its columns `M^T V`, and the next block."""

    vectors: Float[Array, "n d"]
    columns: Float[Array, "c d"]
    block: Float[Array, "n b"]


class _State(NamedTuple):
    """A basis with the kept vectors in front, the singular values, the kept energy, and without the last columns."""

    basis: _Basis
    values: Float[Array, " l"]
    energy: Float[Array, ""]
    before: Float[Array, ""]
    restarts: Array


def _randomised(matrix: Float[Array, "n c"], k: int) -> tuple[Float[Array, "n k"], Float[Array, " l"]]:
    (n, c), (block, kept) = matrix.shape, _sizes(k)
    most, dtype = kept + 2 * BLOCKS * block, matrix.dtype
    small = max(8 * float(jnp.finfo(dtype).eps), SMALL)
    start, _ = decompositions.qr(jax.random.normal(jax.random.key(KEY), (n, block), dtype))

    def cycle(basis: _Basis, first: int, last: int, restarts: Array) -> _State:
        basis = jax.lax.fori_loop(first // block, last // block, functools.partial(_extended, matrix), basis)
        # The leading part of a triangular factor is that of the leading columns.
        factor, part = decompositions.triangle(basis.columns[:, :last]), last - BLOCKS // 2 * block
        before = decompositions.singular_values(factor[:part, :part])
        _, values, turn = decompositions.svd(factor)
        front = turn[:kept].T
        vectors = jnp.zeros_like(basis.vectors).at[:, :kept].set(matmul(basis.vectors[:, :last], front))
        columns = jnp.zeros_like(basis.columns).at[:, :kept].set(matmul(basis.columns[:, :last], front))
        energy, before = (jnp.sum(some[:k] ** 2) for some in (values, before))
        return _State(_Basis(vectors, columns, basis.block), values[:kept], energy, before, restarts)

    def unsettled(state: _State) -> Array:
        return (state.energy - state.before > small * state.energy) & (state.restarts < RESTARTS)

    def again(state: _State) -> _State:
        return cycle(state.basis, kept, kept + BLOCKS * block, state.restarts + 1)

    empty = _Basis(jnp.zeros((n, most), dtype), jnp.zeros((c, most), dtype), start)
    found = jax.lax.while_loop(unsettled, again, cycle(empty, 0, most, jnp.zeros((), jnp.int32)))
    return found.basis.vectors[:, :k], found.values


def _extended(matrix: Float[Array, "n c"], place: Array, basis: _Basis) -> _Basis:
    """Return the basis with its next block in place, and the block after it: `M M^T` times this one, orthonormalised.

    The basis may span all of M already. Noise of the size of rounding then gives the directions that complete it.
    """
    V, columns, X = basis
    n, b = X.shape
    half = matmul(matrix.T, X)
    V = jax.lax.dynamic_update_slice_in_dim(V, X, place * b, axis=1)
    columns = jax.lax.dynamic_update_slice_in_dim(columns, half, place * b, axis=1)
    new = matmul(matrix, half)
    largest = jnp.max(jnp.linalg.norm(new, axis=0))
    new = new / jnp.where(largest > 0, largest, 1)
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(KEY), place), (n, b), new.dtype)
    new = new + jnp.finfo(new.dtype).eps * noise / n**0.5
    for _ in range(3):  # twice is enough for a full rank (Giraud, Langou, Rozloznik 2005); noise takes one more
        new, _ = decompositions.qr(new - matmul(V, matmul(V.T, new)))
    return _Basis(V, columns, new)
