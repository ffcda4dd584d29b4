"""What descrambling makes of a layer that learned nothing: random weights, white inputs.

With `X X^T` proportional to 1 and `W = U Sigma V^T`, the descrambled weight is `P W = T Sigma V^T`: the largest
singular value stands on the slowest wave whatever W is. Of Gaussian W, V is independent of Sigma and Haar-distributed.
So the picture is known beforehand: a power spectrum over waves that falls as Marchenko and Pastur say, each wave with a
white spectrum over the inputs. Findings begin where a layer differs from this.
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
    """Mean and standard deviation of a random number."""

    mean: Float[Array, "*any"]
    spread: Float[Array, "*any"]


def isotropic_form(
    key: PRNGKeyArray, singular: Float[ArrayLike, " r"], inputs: int, operator: Operator
) -> Float[Array, "n k"]:
    """A descrambled weight as chance makes it: `P W = T Sigma V^T`, V Haar-distributed.

    In distribution the same as drawing a matrix with these singular values in a random frame and descrambling it on
    white inputs without end, for the price of one QR factorisation.

    Args:
        key: source of chance; `jax.vmap` over keys draws many.
        singular: singular values of W, descending, shape (r,), r at most the smaller side.
        inputs: k.
        operator: D, of n points, with `D^T D = T diag(a) T^T`.

    Raises:
        TypeError, ValueError: not one row of real numbers; more singular values than the smaller side has room for.

    >>> from jaxdescramble.operators import derivative
    >>> D = derivative(8, boundary="neumann")
    >>> drawn = isotropic_form(jax.random.key(0), jnp.asarray([3.0, 2.0, 1.0]), 5, D)
    >>> [round(float(x), 3) for x in jnp.linalg.norm(D.analyse(drawn), axis=1)]  # wave by wave
    [3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820), isotropic hidden data; V's distribution is derived here.
    """
    an_operator(operator)
    s = real_array(singular, "singular", (1,), "(values,)")
    k, n = positive_integer(inputs, "inputs"), operator.size
    if len(s) > min(n, k):
        raise ValueError(f"singular: got {len(s)} values; a matrix of {n} rows and {k} inputs has {min(n, k)} at most.")
    right = orthogonal.random_columns(random_key(key), k, len(s), s.dtype)
    return operator.synthesise(jnp.pad(s[:, None] * right.T, ((0, n - len(s)), (0, 0))))


def isotropic_moments(gram: ArrayLike, form: ArrayLike) -> Moments:
    """Mean and spread of any energy read off a descrambled weight, when its frame is chance.

    An energy at given inputs, or input frequencies, is `tr(A M)`, `M = W^T W`. With M turned by Haar-distributed
    rotations of the k inputs

    `E = tr(A) tr(M) / k`, `Var = 2 ||A_0||_F^2 ||M_0||_F^2 / ((k - 1) (k + 2))`, `A_0 = A - tr(A) / k`, M_0 alike:

    traceless symmetric matrices are one irreducible representation of O(k), of dimension `(k - 1) (k + 2) / 2`. To
    first order it gives the distribution of shares, ratios (A with the mean taken off) and band edges as well.

    Args:
        gram: M, shape (k, k), symmetric.
        form: A, shape (..., k, k), symmetric.

    Returns:
        `Moments`, each of shape (...).

    Raises:
        TypeError, ValueError: not matrices of one size.

    >>> moments = isotropic_moments(jnp.diag(jnp.asarray([1.0, 0.0])), jnp.diag(jnp.asarray([1.0, 0.0])))
    >>> round(float(moments.mean), 4), round(float(moments.spread) ** 2, 4)  # cos^2 of a random angle
    (0.5, 0.125)

    Source: Schur's lemma on the traceless symmetric matrices; Collins and Sniady, Commun. Math. Phys. 264 (2006) 773.
    """
    M = real_array(gram, "gram", (2,), "(k, k)")
    A = real_array(form, "form", (2, 3, 4), "(..., k, k)")
    k = len(M)
    if M.shape != (k, k) or A.shape[-2:] != (k, k):
        raise ValueError(f"gram, form: got shapes {M.shape} and {A.shape}; expected (k, k) and (..., k, k).")
    traces = jnp.trace(M), jnp.trace(A, axis1=-2, axis2=-1)

    def traceless(m: Array, trace: Array) -> Array:
        centred = m - trace[..., None, None] / k * jnp.eye(k, dtype=m.dtype).reshape((1,) * (m.ndim - 2) + (k, k))
        return jnp.sum(centred**2, axis=(-2, -1))

    squares = traceless(M, traces[0]) * traceless(A, traces[1])
    variance = 2 * squares / max((k - 1) * (k + 2), 1)
    return Moments(traces[0] * traces[1] / k, jnp.sqrt(variance))


def marchenko_pastur(outputs: int, inputs: int) -> Float[Array, " r"]:
    """Singular values that a random weight is expected to have: the quantiles of Marchenko and Pastur.

    Of an n x k matrix of independent entries of variance 1 / k, the share of eigenvalues of `W W^T` above
    `1 + c + 2 sqrt(c) cos(t)`, c = n / k <= 1, tends to

    `G(t) = (2 / pi) int_0^t sin^2(u) / (1 + c + 2 sqrt(c) cos(u)) du`.

    Returned are the roots of the quantiles at (i - 1/2) / r: after descrambling on white inputs, the norms of waves
    i = 1, ..., r of `P W`. The matrix at hand has them to about 1 / r.

    Args:
        outputs: n. inputs: k.

    Returns:
        Descending, shape (min(n, k),).

    Raises:
        TypeError, ValueError: sizes that are not positive integers.

    >>> W = jax.random.normal(jax.random.key(0), (80, 256)) / 16
    >>> bool(jnp.max(jnp.abs(jnp.linalg.svd(W, compute_uv=False) - marchenko_pastur(80, 256))) < 0.05)
    True

    Source: Marchenko and Pastur, Mat. Sb. 72 (1967) 507.
    """
    n, k = positive_integer(outputs, "outputs"), positive_integer(inputs, "inputs")
    few, many = min(n, k), max(n, k)
    c = few / many
    t = np.linspace(0, np.pi, QUADRATURE)
    middle = (t[1:] + t[:-1]) / 2  # never at pi, where a square matrix has 0 / 0

    def power(t: np.ndarray) -> np.ndarray:
        return 1 + c + 2 * np.sqrt(c) * np.cos(t)

    above = np.concatenate([[0], np.cumsum(np.sin(middle) ** 2 / power(middle))])
    places = (np.arange(few) + 0.5) / few
    return jnp.asarray(np.sqrt(power(np.interp(places, above / above[-1], t)) * many / k))
