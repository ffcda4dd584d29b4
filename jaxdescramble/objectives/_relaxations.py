"""Eigenvalue relaxations: lower bounds of objectives of samples, for all frames P. They are computed on request.

Notation. A sample s has the direction `u_s = s / |s|` and the projector `A_s = u_s u_s^T`. The matrices Pi_k are the
projectors on the neurons (or on the planes of the frequencies). A frame P turns them into `Q_k = P^T Pi_k P`. The share
k of the energy of a sample is then `p_ks = <Q_k, A_s>`, so a quadratic form in the shares is one in the Q_k.

Method. The relaxation drops the condition that the Q_k come from a frame P. It keeps three of its consequences: the
inner products of the Q_k; `sum_k Q_k = 1`; and, with a multiplier Z (a symmetric matrix), `sum_k Q_k^2 = 1` (for
positions x_k of the neurons: the eigenvalues of the square of `sum_k x_k Q_k`). For each Z this is an eigenvalue
problem over symmetric matrices, and its solution is a bound. The best Z solves a convex problem; subgradient steps come
near it.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.units import ratio

LARGEST = 6000


def concentration(
    S: Float[Array, "n m"], weights: Float[Array, " m"], ranks: Sequence[int] | None = None, steps: int = 0
) -> Float[Array, ""]:
    """Return an upper bound, for all frames, on the weighted mean of `q_s = sum_k p_ks^2`.

    q_s says how concentrated sample s is: 1 means that all its energy is in one place. For every symmetric matrix Z,

    `mean q <= tr Z + (1 - tr Z) sum d_k^2 / n^2 + (2 / n) <z, b> + <g, lambda>`

    Here d_k are the ranks of the Pi_k, M is the weighted mean of `A_s (x) A_s`, and `L_Z(N) = (Z N + N Z) / 2`. The
    other symbols are eigenvalues in descending order: b of the mean of A_s minus Z; z of `sum_k d_k Pi_k`, minus their
    mean (0 if all ranks are equal); lambda of `M - L_Z` on matrices of trace 0; g of `diag(d) - d d^T / n`, the Gram
    matrix of the Pi_k without the part of the identity. For neurons and Z = 0, the bound is 1/n plus the n - 1 largest
    eigenvalues of M. It is attained if some P puts every sample into one neuron, and if the samples fill the space
    evenly.

    Args:
        S: samples in columns, in any unit.
        weights: weights of the samples, at least 0, and 0 for samples that are zero.
        ranks: the ranks d_k, positive integers that sum to n; None means n ones.
        steps: number of subgradient steps for Z, from 0. If symmetric matrices have a dimension above 6000, no steps
            are taken.

    Returns:
        The bound, at most 1. Rounding errors never make it too small.

    Raises:
        ValueError: if both m and n (n + 1) / 2 are more than 6000.

    >>> round(float(concentration(jnp.asarray([[1.0, 1.0], [0.0, 1.0]]), jnp.ones(2))), 4)  # 45 degrees apart
    0.75

    Source: Hadley, Rendl, Wolkowicz, Math. Oper. Res. 17 (1992), projected eigenvalue bounds; the steps are Polyak's,
    USSR Comput. Math. Math. Phys. 9 (1969).
    """
    n, m = S.shape
    size = n * (n + 1) // 2
    _check_size(min(m, size), n, m)
    U, w = _directions(S), ratio(weights, jnp.sum(weights))
    d = np.ones(n) if ranks is None else np.asarray(ranks, float)
    share = float(np.sum(d**2)) / n**2
    gram = jnp.asarray(np.linalg.eigvalsh(np.diag(d) - np.outer(d, d) / n)[:0:-1], S.dtype)  # without the 0 of the sum
    z = jnp.asarray(np.sort(np.repeat(d, d.astype(int)) - np.sum(d**2) / n), S.dtype)
    eps = float(np.finfo(S.dtype).eps)
    B = matmul(U * w[None, :], U.T)

    def total(values: Array, largest: ArrayLike) -> Array:
        count = min(len(gram), len(values))
        slack = 4 * eps * (n + math.sqrt(n * len(values))) * largest
        return jnp.sum(gram[:count] * values[:count]) + slack

    def cross(Z: Array) -> tuple[Array, Array]:
        if np.ptp(d) == 0:
            return jnp.zeros((), S.dtype), jnp.zeros_like(B)
        b, Q = decompositions.eigh(B - Z)
        return 2 / n * jnp.sum(z * b), -2 / n * matmul(Q * z[None, :], Q.T)

    if size > LARGEST or (steps == 0 and m <= size):
        return jnp.minimum(share + cross(0 * B)[0] + total(over_samples(U, w), 1), 1)
    M = _second_moment(U, w, 1 / n)

    def value(Z: Array) -> tuple[Array, Array]:
        values, vectors = decompositions.eigh(M - _traceless(Z))
        trace, (found, slope) = jnp.trace(Z), cross(Z)
        found = found + trace + share * (1 - trace) + total(values[::-1], 1 + _norm(Z))
        top = vectors[:, ::-1][:, : len(gram)]
        return found, slope + (1 - share) * jnp.eye(n, dtype=Z.dtype) - _squares(top, gram[: top.shape[1]], n)

    return jnp.minimum(_lowest(value, 0 * B, steps, lambda first: 0.3 * first), 1)


def from_levels(
    S: Float[Array, "n m"], levels: Float[Array, "k m"], ranks: Sequence[int] | None = None, steps: int = 0
) -> Float[Array, ""]:
    """Return a lower bound, for all frames, on `sum_s sum_k psi_s(p_ks)`, from the values for equal shares.

    It holds for every function psi that is linear plus a mixture of `p / (p + a)` with a >= 0. Examples are a root with
    any rounding of its corner, log cosh of a root, and `-p log(p + delta)`. It also holds for `-p^2`. For such psi, the
    sum of one sample is at least the convex polygon through the points `(q, level) = (1/j, j psi(1/j))`, with
    `q = sum_k p_k^2` and j = 1, 2, ... The proof needs only
    `sum_k p_k (p_k - 1/j) (p_k - 1/(j+1)) / (p_k + a) >= 0`; the minimum of this sum is at j equal shares and a smaller
    one. The bound is the sum of the polygons of all samples, at the largest mean q that `concentration` allows.

    Args:
        S: samples in columns, in any unit.
        levels: `j psi_s(1 / j)` in row j - 1, for j up to the number of shares: the sum of sample s if its energy is
            spread over j equal shares.
        ranks: the ranks of the Pi_k, positive integers that sum to n; None means n ones.
        steps: number of subgradient steps of `concentration`.

    Raises:
        ValueError: if both m and n (n + 1) / 2 are more than 6000.

    >>> S, j = jnp.asarray([[1.0, 1.0], [0.0, 1.0]]), jnp.arange(1.0, 3.0)[:, None]
    >>> round(float(from_levels(S, jnp.log(j) * jnp.ones((2, 2)))) / 2, 4)  # mean entropy, in nats
    0.3466

    Source: Harremoes and Topsoe, IEEE Trans. Information Theory 47 (2001), for entropy; that of order 2 is Renyi's.
    """
    k, n = len(levels), len(S)
    if k == 1:
        return jnp.sum(levels)
    q = jnp.asarray(1 / np.arange(1, k + 1), S.dtype)
    steepness = (levels[1:] - levels[:-1]) / (q[:-1] - q[1:])[:, None]
    # Weigh each sample by the slope of its polygon at the q of randomly spread energy.
    weights = jnp.maximum(steepness[min((n + 2) // 3, k - 1) - 1], 0)
    most = concentration(S, weights, ranks, steps)
    piece = jnp.clip(jnp.floor(1 / most).astype(jnp.int32), 1, k - 1) - 1
    steep = steepness[piece]
    # These weights may not be the best ones. Bound the remainder sample by sample, with 1/k <= q_s <= 1.
    rest = ratio(jnp.sum(steep), jnp.sum(weights)) * weights - steep
    lost = jnp.sum(jnp.where(rest > 0, rest * (most - q[-1]), rest * (most - 1)))
    found = jnp.sum(levels[piece] + steep * (q[piece] - most)) - lost
    return found - 8 * jnp.finfo(S.dtype).eps * jnp.abs(found)


def spread(S: Float[Array, "n m"], places: Float[Array, "n d"], steps: int = 0) -> Float[Array, ""]:
    """Return a lower bound, for all frames, on the mean squared distance of the energy from the centroids.

    `sum_s E_s sum_i p_is |x_i - c_s|^2 = sum_k <N_k, T N_k>`, `N_k = P^T diag(x_k) P`,
    `T(N) = L_B(N) - sum_s E_s <A_s, N> A_s`, `B = S S^T`, `L_B(N) = (B N + N B) / 2`

    Here x_i is the position of neuron i (row i of X), x_k is column k of X, and E_s and c_s are the energy and the
    centroid of sample s. T has no negative eigenvalues, and the identity is in its null space. The N_k are orthogonal
    to the identity, because the columns of X have mean 0. For every symmetric Z, the sum is at least the total of two
    sums of products. The first multiplies the smallest eigenvalues of `T - L_Z` on matrices of trace 0 by the squared
    singular values of X, the smallest by the largest, and so on. The second multiplies the eigenvalues of Z by the
    `|x_i|^2` in the same way. The bound is attained in the limit of samples that fill the space evenly.

    Args:
        S: samples in columns, in any unit.
        places: the positions X, one row per neuron; the columns have mean 0.
        steps: number of subgradient steps for Z, from 0.

    Returns:
        The bound, divided by `||S||_F^2`. Rounding errors never make it too large.

    Raises:
        ValueError: if n (n + 1) / 2 is more than 6000.

    >>> S, x = jnp.asarray([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]]), jnp.asarray([[-1.0], [1.0]])
    >>> [round(float(spread(each, x)), 3) for each in (S, S + jnp.asarray([[1.0], [0.0]]))]  # one-hot, and not
    [0.0, 0.278]

    Source: Hadley, Rendl, Wolkowicz, Math. Oper. Res. 17 (1992), projected eigenvalue bounds; the steps are Polyak's,
    USSR Comput. Math. Math. Phys. 9 (1969).
    """
    n, m = S.shape
    size = n * (n + 1) // 2
    _check_size(size, n, m)
    energies = jnp.sum(S**2, axis=0)
    U, w = _directions(S), ratio(energies, jnp.sum(energies))
    B = matmul(U * w[None, :], U.T)
    T = _anticommutator(B) - _second_moment(U, w)
    # The identity has eigenvalue 0. Move it to a large eigenvalue, so that it is not among the smallest.
    T = T + jnp.max(jnp.diagonal(T)) * jnp.outer(_identity(n, T.dtype), _identity(n, T.dtype))
    squares, _ = decompositions.eigh(matmul(places.T, places))
    squares = squares[::-1][: min(n - 1, size - 1)]
    eps = float(np.finfo(S.dtype).eps)
    heights = jnp.sort(jnp.sum(places**2, axis=1), descending=True)

    def value(Z: Array) -> tuple[Array, Array]:
        values, vectors = decompositions.eigh(T - _traceless(Z))
        low, Q = decompositions.eigh(Z)
        slack = 4 * eps * (n + math.sqrt(size)) * (_norm(B) + _norm(Z)) * jnp.sum(heights)
        found = jnp.sum(squares * values[: len(squares)]) + jnp.sum(heights * low) - slack
        slope = matmul(Q * heights[None, :], Q.T) - _squares(vectors[:, : len(squares)], squares, n)
        return -found, -slope

    lowest = _lowest(value, 0 * B, steps, lambda first: 0.1 * jnp.abs(first) + 0.01 * jnp.mean(heights))
    return jnp.maximum(-lowest, 0)


def _lowest(
    value: Callable[[Array], tuple[Array, Array]], Z: Array, steps: int, length: Callable[[Array], Array]
) -> Array:
    """Return the lowest value along subgradient steps. Each step aims at the best value so far minus an amount.

    The amount is `length(first value)` at first; it shrinks after each step that finds nothing lower.
    """

    def step(_: object, carry: tuple) -> tuple:
        Z, now, slope, best, aim = carry
        # Limit the steps and Z: if the slope is nearly zero, a huge Z would leave only rounding errors. Norm 1 is
        # enough, because the mean of A_s has trace 1.
        size = _norm(slope)
        change = ratio(slope, size) * jnp.minimum(ratio(now - best + aim, size), 1)
        Z = Z - change
        Z = Z / jnp.maximum(_norm(Z), 1)
        now, slope = value(Z)
        return Z, now, slope, jnp.minimum(now, best), jnp.where(now < best, aim, 0.85 * aim)

    first, slope = value(Z)
    return jax.lax.fori_loop(0, steps, step, (Z, first, slope, first, length(first)))[3]


def over_samples(U: Float[Array, "n m"], w: Float[Array, " m"]) -> Float[Array, " m"]:
    """Return the eigenvalues of M, descending, from the m x m matrix `sqrt(w_s w_t) ((u_s u_t)^2 - 1/n)`.

    >>> over_samples(jnp.eye(2), jnp.ones(2) / 2).round(4).tolist()
    [0.5, 0.0]
    """
    root = jnp.sqrt(w)
    values, _ = decompositions.eigh((matmul(U.T, U) ** 2 - 1 / len(U)) * root[:, None] * root[None, :])
    return values[::-1]


def over_matrices(U: Float[Array, "n m"], w: Float[Array, " m"]) -> Float[Array, " size"]:
    """Return the eigenvalues of M, descending, from M in the space of symmetric matrices, with a 0 for the identity.

    >>> over_matrices(jnp.eye(2), jnp.ones(2) / 2).round(4).tolist()
    [0.5, 0.0, 0.0]
    """
    values, _ = decompositions.eigh(_second_moment(U, w, 1 / len(U)))
    return values[::-1]


def _check_size(size: int, n: int, m: int) -> None:
    if size > LARGEST:
        raise ValueError(
            f"relaxation: {n} features, {m} samples make an eigenvalue problem of dimension {size}, above {LARGEST}; "
            "take fewer samples or features (a projection on the principal directions), or be content with `bound`."
        )


def _directions(S: Array) -> Array:
    lengths = jnp.sqrt(jnp.sum(S**2, axis=0, keepdims=True))
    return ratio(S, lengths)


def _basis(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, columns and factors of an orthonormal basis of the symmetric matrices."""
    i, j = np.triu_indices(n)
    return i, j, np.where(i == j, 1.0, math.sqrt(2))


def _identity(n: int, dtype: np.dtype) -> Float[Array, " size"]:
    """Return the identity, scaled to norm 1, in the basis of `_basis`."""
    i, j, _ = _basis(n)
    return jnp.asarray((i == j) / math.sqrt(n), dtype)


def _norm(Z: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(Z**2))


def _squares(vectors: Float[Array, "size k"], weights: Float[Array, " k"], n: int) -> Float[Array, "n n"]:
    """Return `sum_k weights_k N_k^2` for matrices N_k, given as columns in the basis of `_basis`."""
    i, j, factor = _basis(n)
    half = vectors.T / jnp.asarray(factor, vectors.dtype)[None, :]
    N = jnp.zeros((len(half), n, n), half.dtype).at[:, i, j].set(half).at[:, j, i].set(half)
    return jnp.einsum("k,kab,kbc->ac", weights, N, N, precision="highest")


def _traceless(Z: Float[Array, "n n"]) -> Float[Array, "size size"]:
    """Return the matrix of `L_Z`, restricted to matrices of trace 0."""
    L, one = _anticommutator(Z), _identity(len(Z), Z.dtype)
    image = matmul(L, one)
    return L - jnp.outer(one, image) - jnp.outer(image, one) + jnp.sum(one * image) * jnp.outer(one, one)


def _second_moment(U: Float[Array, "n m"], w: Float[Array, " m"], less: float = 0) -> Float[Array, "size size"]:
    """Return `sum_s w_s (A_s - less) (x) (A_s - less)`; process as many samples at a time as the result has rows."""
    n, m = U.shape
    i, j, factor = _basis(n)
    blocks = -(-m // len(i))
    pad = blocks * len(i) - m
    parts = jnp.pad(U, ((0, 0), (0, pad))).reshape((n, blocks, len(i))), jnp.pad(w, (0, pad)).reshape((blocks, -1))

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        u, each = part
        rows = jnp.asarray(factor, U.dtype)[:, None] * u[i] * u[j] - less * jnp.asarray(i == j, U.dtype)[:, None]
        return total + matmul(rows * each[None, :], rows.T), None

    return jax.lax.scan(add, jnp.zeros((len(i), len(i)), U.dtype), (parts[0].swapaxes(0, 1), parts[1]))[0]


def _anticommutator(B: Float[Array, "n n"]) -> Float[Array, "size size"]:
    """Return the matrix of `N -> (B N + N B) / 2` in the basis of `_basis`."""
    i, j, factor = _basis(len(B))
    k, l = i[None, :], j[None, :]  # noqa: E741
    i, j = i[:, None], j[:, None]
    total = sum(B[a, b] * (c == d) for a, b, c, d in ((j, k, i, l), (j, l, i, k), (i, k, j, l), (i, l, j, k)))
    return total * jnp.asarray(np.outer(factor, factor) / 4, B.dtype)
