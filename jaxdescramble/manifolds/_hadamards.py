"""Hadamard matrices: square matrices of +1 and -1 with orthogonal rows.

Their sizes are 1, 2 and multiples of 4. Paley's cores are computed from the squares of a finite field: q + 1 for a q of
the form 4 k + 3, and 2 (q + 1) for a q of the form 4 k + 1, where q is a prime or the square of a prime. Kronecker
products of Hadamard matrices are Hadamard matrices; a product with the one of size 2 is Sylvester's doubling.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import floating_type, positive_integer, random_key, true_or_false
from jaxdescramble.manifolds.permutation import random as random_order


def hadamard(n: int, dtype: DTypeLike = float) -> Float[Array, "n n"]:
    """Return a Hadamard matrix over sqrt(n): an orthogonal matrix whose entries all have the same absolute value.

    Use it to spread outliers: a sample with one large entry becomes one with n equal entries. Its first row is
    constant, so it does not spread the mean over the neurons; `random_hadamard` does.

    It is known here for n = 2^k c, where c is 1, 12, 20, 28, 36, 44, 52, 60, 68, 76, 84, 100, 108, 124, ... or a
    product of such cores. Among the sizes of layers, 384, 768, 896, 2560, 3072, 5120, 8960, 11008, 13824, 14336 and
    18944 work; 13696 = 128 * 107 does not. The multiples of 4 below 200 that do not work are 92, 116, 156, 172, 184 and
    188.

    Args:
        n: number of features.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if `n` is not an integer, or `dtype` is not float32 or float64.
        ValueError: if `n` is less than 1, or no such matrix is known here; the message names the nearest sizes.

    >>> (2 * hadamard(4)).astype(int).tolist()
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]

    Source: Paley, J. Math. Phys. 12 (1933) 311; Horadam, Hadamard Matrices and Their Applications (2007), chapter 2.
    """
    n, dtype = positive_integer(n, "n"), floating_type(dtype)
    return jnp.asarray(_signs(n)).astype(dtype) / np.sqrt(n).astype(dtype)


def random_hadamard(
    key: PRNGKeyArray, n: int, dtype: DTypeLike = float, *, permuted: bool = False
) -> Float[Array, "n n"]:
    """Return a Hadamard matrix with random signs of its columns, over sqrt(n): `P = H diag(signs)`.

    Use it as the frame in which signals are quantised, as the start of `minimise` for objectives such as
    `objectives.spread`, and as the null of a learned frame. It spreads outliers in known neurons better than a Haar
    element of `random` does: every entry has the absolute value `1 / sqrt(n)`.

    For a batch, write `jax.vmap(lambda k: random_hadamard(k, n))(jax.random.split(key, batch))`.

    Args:
        key: random key.
        n: number of features, a size that `hadamard` knows.
        dtype: floating type of the result: float32 or float64.
        permuted: whether the columns are also put in a random order. Without this, there are 2^n matrices.

    Raises:
        TypeError: if `n` is not an integer, `key` is not a key, `dtype` is not float32 or float64, or `permuted` is not
            True or False.
        ValueError: if `n` is less than 1, or no such matrix is known here; the message names the nearest sizes.

    >>> P = random_hadamard(jax.random.key(0), 12)
    >>> bool(abs(P @ P.T - jnp.eye(12)).max() < 1e-6), bool(abs(abs(P) - 12**-0.5).max() < 1e-6)
    (True, True)

    Source: Ashkboos et al., QuaRot, NeurIPS 2024, arXiv:2404.00456.
    """
    for_signs, for_order = jax.random.split(random_key(key))
    point = hadamard(n, dtype) * jax.random.rademacher(for_signs, (1, n), floating_type(dtype))
    return point[:, random_order(for_order, n)] if true_or_false(permuted, "permuted") else point


def _signs(n: int) -> np.ndarray:
    """Return a Hadamard matrix of integers."""
    if not _known(n):
        near = [next((size for size in sizes if _known(size)), 0) for sizes in (range(n, 0, -1), range(n, 2 * n))]
        raise ValueError(
            f"n: no Hadamard matrix of size {n} is known here; the nearest sizes are {near[0]} and {near[1]}. Pad the "
            "features with zeros, use orthogonal.block_diagonal of smaller ones, or orthogonal.random."
        )
    if n == 1:
        return np.ones((1, 1), np.int8)
    core, rest = _split(n)
    return np.kron(_signs(rest), _core(core)) if rest > 1 else _core(core)


@functools.cache
def _known(n: int) -> bool:
    return n in (1, 2) or (n % 4 == 0 and _split(n) != (0, 0))


@functools.cache
def _split(n: int) -> tuple[int, int]:
    """Return the size of a core and the rest of n, which is known too; twos first. Return zeros if there is none."""
    if n % 2 == 0 and _known(n // 2):
        return 2, n // 2
    sizes = [n, *(size for size in range(4, n // 2 + 1, 4) if n % size == 0)]
    found = ((size, n // size) for size in sizes if _field(size) is not None and _known(n // size))
    return next(found, (0, 0))


@functools.cache
def _field(size: int) -> tuple[int, int, bool] | None:
    """Return p, the exponent k of `q = p^k`, and whether Paley's second construction is meant; None if none fits."""
    for q, second in ((size - 1, False), (size // 2 - 1, True)):
        root = round(q**0.5)
        if q % 4 == (1 if second else 3) and _is_prime(q):
            return q, 1, second
        if second and size % 4 == 0 and root**2 == q and root > 2 and _is_prime(root):  # squares are 4 k + 1
            return root, 2, second
    return None


def _is_prime(q: int) -> bool:
    return q > 1 and all(q % factor for factor in range(2, int(q**0.5) + 1))


def _core(size: int) -> np.ndarray:
    if size == 2:
        return np.asarray([[1, 1], [1, -1]], np.int8)
    field = _field(size)
    assert field is not None
    p, exponent, second = field
    squares = _characters(p, exponent)
    bordered = np.ones((len(squares) + 1,) * 2, np.int8)
    bordered[0, 0], bordered[1:, 1:] = 0, squares
    if second:
        one, other = np.asarray([[1, 1], [1, -1]], np.int8), np.asarray([[1, -1], [-1, -1]], np.int8)
        return np.kron(bordered, one) + np.kron(np.eye(len(bordered), dtype=np.int8), other)
    bordered[1:, 0] = -1
    return bordered + np.eye(size, dtype=np.int8)


def _characters(p: int, exponent: int) -> np.ndarray:
    """Return +1 where the difference of two elements of the field is a square, -1 where not, and 0 if they are equal.

    The field of p^2 elements is `a + b sqrt(r)`, r not a square. Such a number is a square if its norm `a^2 - r b^2` is
    one in the field of p elements.
    """
    of_prime = np.full(p, -1, np.int8)
    of_prime[np.arange(1, p, dtype=np.int64) ** 2 % p] = 1
    of_prime[0] = 0
    places = np.arange(p, dtype=np.int32)
    apart = places[:, None] - places[None, :]
    if exponent == 1:
        return of_prime[apart % p]
    r = int(np.flatnonzero(of_prime == -1)[0])
    norms = apart[:, None, :, None] ** 2 - r * apart[None, :, None, :] ** 2
    return of_prime[norms % p].reshape(p * p, p * p)
