"""The triangular factor of a QR decomposition, with a derivative that exists for every rank."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import adjoint, matmul


@jax.custom_jvp
def triangularise(rows: Inexact[Array, "k n"]) -> Inexact[Array, "n n"]:
    """Return the factor R of a QR decomposition of a matrix with k >= n rows. Use only `R^H R`.

    The derivative treats Q as a constant: `dR = Q^H d(rows)`. With it, `d(R^H R)` is right for every rank. The
    derivative of the decomposition itself exists only for full rank.

    >>> abs(triangularise(jnp.asarray([[3.0], [4.0]]))).round(4).tolist()
    [[5.0]]
    """
    return decompositions.triangle(rows)


@triangularise.defjvp
def _triangularise_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    return triangularise(rows), matmul(adjoint(_orthonormal(rows)), change)


@jax.custom_jvp
def _orthonormal(rows: Inexact[Array, "k n"]) -> Inexact[Array, "k n"]:
    """Return Q of the decomposition. Its derivative, `dQ = (1 - Q Q^H) d(rows) pinv(R)`, is for second derivatives."""
    return decompositions.qr(rows)[0]


@_orthonormal.defjvp
def _orthonormal_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    Q = _orthonormal(rows)
    U, singular, Vh = decompositions.svd(jax.lax.stop_gradient(triangularise(rows)))
    resolved = decompositions.resolved(singular)
    inverse = jnp.where(resolved, 1 / jnp.where(resolved, singular, 1), 0)
    return Q, matmul(matmul(change - matmul(Q, matmul(adjoint(Q), change)), adjoint(Vh) * inverse[None, :]), adjoint(U))
