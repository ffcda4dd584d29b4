"""The principal logarithm of rotations and its derivative, also for angles of pi or nearly pi."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds.projections import polish, skew, square


def logarithm(point: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Return the principal logarithm of a special orthogonal matrix: the shortest skew Omega with `exp(Omega) = Q`.

    Planes turn by angles in [0, pi]. The square root R = polar(1 + Q) has the polar decomposition
    `1 + Q = R V diag(2 cos(theta/2)) V^T`, and the logarithm is `skew(R) V diag(theta / sin(theta/2)) V^T`. This costs
    one singular value decomposition and eight products.

    For a plane that turns by pi (eigenvalue -1), both directions are possible; one of the logarithms of least norm is
    returned. At pi - d the direction is uncertain by eps / d, as it is in Q itself; `exp` of the result is still Q to
    rounding (to about 1000 n eps if d is below 100 n eps: the code takes such planes to turn by pi).

    The function is differentiable once. In the eigenbasis of Omega, with eigenvalues i a, the derivative is
    `dOmega_jk = x / (1 - e^-x) K_jk` with `K = Q^T dQ` and `x = i (a_j - a_k)`. Where this is infinite (a plane that
    turns by pi) it is set to zero.

    Args:
        point: special orthogonal matrix Q (determinant +1), shape (n, n).

    Returns:
        The skew matrix Omega, in radians; NaN if the determinant is -1, because no real logarithm exists.

    Raises:
        TypeError: if the point is not made of real numbers.
        ValueError: if the point is not a square matrix.

    >>> ((logarithm(jnp.asarray([[0.0, -1.0], [1.0, 0.0]])) / jnp.pi).round(4) + 0.0).tolist()
    [[0.0, -0.5], [0.5, 0.0]]

    Source: Higham, Functions of Matrices (2008), sections 8.1 (polar factor) and 11.5 (inverse scaling and squaring,
    here with one square root); Rossmann, Lie Groups (2002), section 1.2, for the derivative of exp.
    """
    return _logarithm(square(point, "point"))


@jax.custom_jvp
def _logarithm(Q: Array) -> Array:
    n, dtype = Q.shape[0], Q.dtype
    U, s, Vh = decompositions.svd(jnp.eye(n, dtype=dtype) + Q)
    U = jnp.where(_turned_by_pi(s)[None, :], _quarter_turn(Vh.T), U)
    half = jnp.clip(s / 2, 0, 1)
    # Near pi, rounding in Q changes R by eps / d. That change is symmetric there (or does not affect exp), so the skew
    # part is right to second order; s gives the symmetric part, and polishing does the rest.
    R = skew(matmul(U, Vh)) + matmul(Vh.T * half[None, :], Vh)
    R = polish(polish(R))
    sine = jnp.sqrt((1 - half) * (1 + half))
    ratio = jnp.where(sine > 0, jnp.arctan2(sine, half) / jnp.where(sine > 0, sine, 1), 1)
    W = skew(matmul(2 * skew(R), matmul(Vh.T * ratio[None, :], Vh)))
    return jnp.where(decompositions.determinant_sign(Q) < 0, jnp.nan, W)


@_logarithm.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    W = _logarithm(primals[0])
    angles, Z = decompositions.eigh(-1j * W)
    K = matmul(matmul(Z.conj().T, skew(matmul(primals[0].T, tangents[0])).astype(Z.dtype)), Z)
    half = (angles[:, None] - angles[None, :]) / 2
    finite = jnp.abs(half) < jnp.pi * (1 - 100 * len(half) * jnp.finfo(half.dtype).eps)
    ratio = jnp.where(half == 0, 1, half / jnp.where(half == 0, 1, jnp.tan(half)))
    weight = jnp.where(finite, ratio + 1j * half, 0)
    return W, skew(matmul(matmul(Z, weight * K), Z.conj().T).real)


@jax.custom_jvp
def angle_norm(Q: Float[Array, "n n"]) -> Float[Array, ""]:
    """Return `||log Q||_F`. Its derivatives need no derivative of the logarithm, so it has a second one too.

    >>> float(angle_norm(jnp.eye(2)))
    0.0
    """
    total = jnp.sum(_logarithm(Q) ** 2)
    return jnp.where(total == 0, 0, jnp.sqrt(jnp.where(total == 0, 1, total)))


@angle_norm.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (Q,), (change,) = primals, tangents
    length = angle_norm(Q)
    return length, per_length(jnp.sum(matmul(Q, _logarithm(Q)) * change), length)


def per_length(change: Float[Array, ""], length: Float[Array, ""]) -> Float[Array, ""]:
    """Return a change divided by a length, or 0 where the length is nothing but rounding.

    >>> float(per_length(jnp.ones(()), jnp.zeros(()))), float(per_length(jnp.ones(()), jnp.full((), 2.0)))
    (0.0, 0.5)
    """
    apart = ~(length <= 100 * jnp.finfo(length.dtype).eps)  # also for NaN
    return jnp.where(apart, change / jnp.where(apart, length, 1), 0)


def _turned_by_pi(s: Array) -> Array:
    """Return which singular values of 1 + Q vanish: in pairs from the last, judged by the larger one of each pair."""
    pairs = s[len(s) % 2 :: 2]
    vanish = jnp.repeat(pairs < 100 * len(s) * jnp.finfo(s.dtype).eps, 2)
    return jnp.concatenate([jnp.zeros(len(s) % 2, bool), vanish])


def _quarter_turn(V: Array) -> Array:
    """Turn pairs of columns, counted from the last, by a right angle: (v, w) -> (w, -v)."""
    first = V.shape[1] % 2
    v, w = V[:, first::2], V[:, first + 1 :: 2]
    turned = jnp.stack([w, -v], axis=-1).reshape(len(V), -1)
    return jnp.concatenate([V[:, :first], turned], axis=1)
