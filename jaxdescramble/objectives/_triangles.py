"""The triangle of a QR decomposition, with a derivative that exists for any rank."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul


@jax.custom_jvp
def triangularise(rows: Float[Array, "k n"]) -> Float[Array, "n n"]:
    """R of a QR decomposition of k >= n rows.

    Only `R^T R` is ever used, so its derivative is taken in the gauge where Q stands still, `dR = Q^T d(rows)`: then
    `d(R^T R)` is right for any rank, where the derivative of the decomposition itself does not exist.

    >>> abs(triangularise(jnp.asarray([[3.0], [4.0]]))).round(4).tolist()
    [[5.0]]
    """
    return decompositions.triangle(rows)


@triangularise.defjvp
def _triangularise_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    return triangularise(rows), matmul(_orthonormal(rows).T, change)


@jax.custom_jvp
def _orthonormal(rows: Float[Array, "k n"]) -> Float[Array, "k n"]:
    """Q of the decomposition, in the same gauge: `dQ = (1 - Q Q^T) d(rows) pinv(R)`, met in second derivatives only."""
    return decompositions.qr(rows)[0]


@_orthonormal.defjvp
def _orthonormal_jvp(primals, tangents):
    (rows,), (change,) = primals, tangents
    Q = _orthonormal(rows)
    U, singular, Vh = decompositions.svd(jax.lax.stop_gradient(triangularise(rows)))
    resolved = decompositions.resolved(singular)
    inverse = jnp.where(resolved, 1 / jnp.where(resolved, singular, 1), 0)
    return Q, matmul(matmul(change - matmul(Q, matmul(Q.T, change)), Vh.T * inverse[None, :]), U.T)
