"""What descrambling makes of a layer that learned nothing: random weights and white inputs.

With `X X^T` proportional to 1 and `W = U Sigma V^T`, the descrambled weight is `P W = T Sigma V^T`: for every W, the
largest singular value is on the slowest wave. For Gaussian W, V is independent of Sigma and Haar-distributed. So the
picture is known in advance: the power spectrum over waves falls by the law of Marchenko and Pastur, and each wave has a
white spectrum over the inputs. A finding begins where a layer differs from this picture.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import an_operator, positive_integer, random_key, real_array
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.operators import Operator

QUADRATURE = 20_001


class Moments(NamedTuple):
    """Mean and standard deviation (`spread`) of a random number."""

    mean: Float[Array, "*any"]
    spread: Float[Array, "*any"]


def isotropic_form(
    key: PRNGKeyArray, singular: Float[ArrayLike, " r"], inputs: int, operator: Operator
) -> Float[Array, "n k"]:
    """Draw a descrambled weight of a random layer: `P W = T Sigma V^T`, with Haar-distributed V.

    Use it as a null for the descrambled weight of a trained layer. It has the distribution of a matrix with these
    singular values in a random frame, descrambled on infinitely many white inputs; it costs one QR factorisation.

    Args:
        key: random key; `jax.vmap` over keys draws many weights.
        singular: singular values of W, descending, shape (r,), where r is at most the smaller side of W.
        inputs: number of inputs k.
        operator: the derivative operator D on n points, with `D^T D = T diag(a) T^T`.

    Raises:
        TypeError: if `singular` is not made of real numbers, or `key` is not a key.
        ValueError: if `singular` does not have one axis, or has more values than the smaller side of W.

    >>> from jaxdescramble.operators import derivative
    >>> D = derivative(8, boundary="neumann")
    >>> drawn = isotropic_form(jax.random.key(0), jnp.asarray([3.0, 2.0, 1.0]), 5, D)
    >>> [round(float(x), 3) for x in jnp.linalg.norm(D.analyse(drawn), axis=1)]  # wave by wave
    [3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820), isotropic hidden data; the distribution of V is derived here.
    """
    an_operator(operator)
    s = real_array(singular, "singular", (1,), "(values,)")
    k, n = positive_integer(inputs, "inputs"), operator.size
    if len(s) > min(n, k):
        raise ValueError(f"singular: got {len(s)} values; a matrix with {n} rows and {k} columns has only {min(n, k)}.")
    right = orthogonal.random_columns(random_key(key), k, len(s), s.dtype)
    return operator.synthesise(jnp.pad(s[:, None] * right.T, ((0, n - len(s)), (0, 0))))


def isotropic_moments(gram: ArrayLike, form: ArrayLike) -> Moments:
    """Return mean and standard deviation of an energy of a descrambled weight whose frame is random.

    Use it as a null for a reading: an energy at given inputs, or input frequencies, is `tr(A M)` with `M = W^T W`. If a
    Haar-distributed rotation turns M in the space of the k inputs, then

    `E = tr(A) tr(M) / k`, `Var = 2 ||A_0||_F^2 ||M_0||_F^2 / ((k - 1) (k + 2))`, `A_0 = A - tr(A) / k`, likewise M_0.

    The traceless symmetric matrices are one irreducible representation of O(k), of dimension `(k - 1) (k + 2) / 2`. To
    first order, the result also gives the distribution of shares, ratios (subtract the mean from A) and band edges.


    Args:
        gram: symmetric matrix M, shape (k, k).
        form: symmetric matrix A, shape (..., k, k).

    Returns:
        `Moments`, two arrays of shape (...).

    Raises:
        TypeError: if an argument is not made of real numbers.
        ValueError: if the matrices are not square and of one size.

    >>> moments = isotropic_moments(jnp.diag(jnp.asarray([1.0, 0.0])), jnp.diag(jnp.asarray([1.0, 0.0])))
    >>> round(float(moments.mean), 4), round(float(moments.spread) ** 2, 4)  # cos^2 of a random angle
    (0.5, 0.125)

    Source: Schur's lemma on the traceless symmetric matrices; Collins and Sniady, Commun. Math. Phys. 264 (2006) 773.
    """
    M = real_array(gram, "gram", (2,), "(k, k)")
    A = real_array(form, "form", (2, 3, 4), "(..., k, k)")
    k = len(M)
    if M.shape != (k, k) or A.shape[-2:] != (k, k):
        raise ValueError(f"gram, form: got shapes {M.shape} and {A.shape}; must be (k, k) and (..., k, k).")
    traces = jnp.trace(M), jnp.trace(A, axis1=-2, axis2=-1)

    def traceless(m: Array, trace: Array) -> Array:
        centred = m - trace[..., None, None] / k * jnp.eye(k, dtype=m.dtype).reshape((1,) * (m.ndim - 2) + (k, k))
        return jnp.sum(centred**2, axis=(-2, -1))

    squares = traceless(M, traces[0]) * traceless(A, traces[1])
    variance = 2 * squares / max((k - 1) * (k + 2), 1)
    return Moments(traces[0] * traces[1] / k, jnp.sqrt(variance))


def marchenko_pastur(outputs: int, inputs: int) -> Float[Array, " r"]:
    """Return the expected singular values of a random weight: quantiles of the law of Marchenko and Pastur.

    Use them as a null for the norms of the waves of a descrambled weight. For an n x k matrix with independent entries
    of variance 1 / k, and c = n / k <= 1, the share of eigenvalues of `W W^T` above `1 + c + 2 sqrt(c) cos(t)` tends to

    `G(t) = (2 / pi) int_0^t sin^2(u) / (1 + c + 2 sqrt(c) cos(u)) du`.

    The result holds the square roots of the quantiles at (i - 1/2) / r. After descrambling on white inputs these are
    the norms of the waves i = 1, ..., r of `P W`. A single matrix agrees to about 1 / r.

    Args:
        outputs: number of outputs n.
        inputs: number of inputs k.

    Returns:
        Singular values, descending, shape (min(n, k),).

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is less than 1.

    >>> W = jax.random.normal(jax.random.key(0), (80, 256)) / 16
    >>> bool(jnp.max(jnp.abs(jnp.linalg.svd(W, compute_uv=False) - marchenko_pastur(80, 256))) < 0.05)
    True

    Source: Marchenko and Pastur, Mat. Sb. 72 (1967) 507.
    """
    n, k = positive_integer(outputs, "outputs"), positive_integer(inputs, "inputs")
    few, many = min(n, k), max(n, k)
    c = few / many
    t = np.linspace(0, np.pi, QUADRATURE)
    middle = (t[1:] + t[:-1]) / 2  # avoids pi, where a square matrix has 0 / 0

    def power(t: np.ndarray) -> np.ndarray:
        return 1 + c + 2 * np.sqrt(c) * np.cos(t)

    above = np.concatenate([[0], np.cumsum(np.sin(middle) ** 2 / power(middle))])
    places = (np.arange(few) + 0.5) / few
    return jnp.asarray(np.sqrt(power(np.interp(places, above / above[-1], t)) * many / k))
