"""Logarithms on Stiefel manifolds with the canonical metric, by an iteration on matrices of at most 2 p rows."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import adjoint, as_like, as_real, is_complex, matmul, square_sum
from jaxdescramble.manifolds import unitary
from jaxdescramble.manifolds._logarithms import logarithm as logarithm_of_rotation
from jaxdescramble.manifolds.projections import polished, skewed

STEPS = 200
"""Largest number of iterations."""


def log_of(V: Array) -> Array:
    """Return the principal logarithm of a rotation or of a unitary matrix.

    >>> log_of(jnp.eye(2)).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return unitary.logarithm(V) if is_complex(V) else logarithm_of_rotation(V)


def logarithm(manifold: Any, point: Array, to: Array) -> Array:
    """Return the tangent vector at a point whose geodesic ends at another one; NaN if the iteration does not end.

    In an orthonormal basis [X Q] of the columns of both points, `to = [X Q] [M; N]`. The wanted Omega satisfies
    `exp(Omega) = [M O; N P]` for that completion [O; P] of [M; N] for which the lower right block of Omega is zero. The
    iteration turns the completion until it is.

    Args:
        manifold: the Stiefel manifold, for its coordinates.
        point: X.
        to: the other point.

    Source: Zimmermann, SIAM J. Matrix Anal. 38 (2017) 322; Zimmermann, Hueper, SIAM J. Matrix Anal. 43 (2022) 953,
    section 5, for the correction by a Sylvester equation.
    """
    p = point.shape[-1]
    place = manifold.place(point)
    M = matmul(adjoint(point), to)
    if len(point) == p:  # a rotation; on arrays without rows, XLA loses the kernels of the loop below
        return manifold.vector(point, place, as_real(log_of(M) / manifold.scale))
    # The coordinates of the part of `to` perpendicular to X: n - p rows, so that n < 2 p needs no special case.
    below = as_like(manifold.coordinates(point, place, to), point)[p:]
    Q, N = decompositions.qr(below)
    first = jnp.concatenate([M, N])
    extra = len(N)
    V = _completed(first, extra)
    eps = jnp.finfo(V.dtype).eps

    def size(L: Array) -> Array:
        return jnp.sqrt(square_sum(L[p:, p:]))

    def turned(state: tuple) -> tuple:
        V, L, best, count = state
        B, C = L[p:, :p], L[p:, p:]
        # exp(Gamma) with S Gamma + Gamma S = C cancels C up to third order.
        weights, frame = decompositions.eigh(matmul(B, adjoint(B)) / 12 - jnp.eye(extra, dtype=V.dtype) / 2)
        inside = matmul(matmul(adjoint(frame), C), frame) / (weights[:, None] + weights[None, :])
        gamma = skewed(matmul(matmul(frame, inside), adjoint(frame)))
        eye = jnp.eye(extra, dtype=V.dtype)
        # The Cayley transform is near enough to the exponential, and orthogonal for any gamma.
        turn = matmul(decompositions.inverse(eye - gamma / 2), eye + gamma / 2)
        V = polished(V.at[:, p:].set(matmul(V[:, p:], turn)))
        L = log_of(V)
        return V, L, jnp.minimum(best, size(L)), count + 1

    def goes_on(state: tuple) -> Array:
        _, L, best, count = state
        return (size(L) > 100 * eps) & (size(L) <= 10 * best) & (count < STEPS)

    L = log_of(V)
    V, L, _, _ = jax.lax.while_loop(goes_on, turned, (V, L, size(L), jnp.zeros((), jnp.int32)))
    spin, under = skewed(L[:p, :p]), matmul(Q, L[p:, :p])
    found = manifold.vector(point, place, as_real(jnp.concatenate([spin / manifold.scale, under])))
    return jnp.where(size(L) <= eps**0.5, found, jnp.nan)


def _completed(first: Array, extra: int) -> Array:
    """Return an orthogonal matrix with these first columns, of determinant 1 if real, whose last block is near 1."""
    U, _, _ = decompositions.svd(first)
    last = U[:, first.shape[1] :]
    D, _, Rh = decompositions.svd(last[-extra:])
    last = matmul(last, matmul(adjoint(Rh), adjoint(D)))
    V = jnp.concatenate([first, last], axis=1)
    if is_complex(V):
        return V
    # Flip the direction in which the last block is farthest from 1.
    sign = jnp.where(decompositions.determinant_sign(V) < 0, -1, 1).astype(V.dtype)
    flip = matmul(D * jnp.ones(extra, V.dtype).at[-1].set(sign)[None, :], D.T)
    return jnp.concatenate([first, matmul(last, flip)], axis=1)
