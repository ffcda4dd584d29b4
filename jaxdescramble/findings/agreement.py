"""Do independently trained networks tell the same story? A score of agreement, beside what chance makes of it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base.checks import is_finite, one_with, positive_integer, random_key, real_array, same_size
from jaxdescramble._base.decompositions import svd
from jaxdescramble._base.products import matmul
from jaxdescramble._base.results import Stored
from jaxdescramble.exact import Stabiliser
from jaxdescramble.exact.gauge import Gauge
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.operators import derivative


@dataclass(frozen=True, eq=False, repr=False)
class Consistency(Stored):
    """How alike several matrices are, modulo gauge.

    Attributes:
        score: mean over all pairs of the cosine between them after alignment, at most 1.
        pairs: the cosines, shape (count, count); row k is aligned to column l.
        null: scores of as many chance twins of the matrices, shape (draws,).
        effect: `(score - mean(null)) / sd(null)`; None if the null does not vary.
        p_value: `(r + 1) / (draws + 1)`, r the number of draws that score at least as high.
    """

    score: float
    pairs: Float[Array, "count count"]
    null: np.ndarray
    effect: float | None
    p_value: float

    def __iter__(self):
        """`score, null = consistency(...)`."""
        return iter((self.score, self.null))


def consistency(matrices: ArrayLike, *, key: PRNGKeyArray, gauge: Gauge | None = None, draws: int = 100) -> Consistency:
    """Whether k networks tell the same story: how alike their descrambled matrices are, against chance.

    `score = mean_{k < l} max_G <G M_k, M_l> / (||M_k||_F ||M_l||_F)`, G in the gauge group.

    Descrambling lays the strongest components of any matrix on the slowest waves, so that even random matrices agree to
    some degree, and alignment makes them agree more. The chance twin of a matrix has its singular values and its
    vectors along the link axis, in a random frame on the other side: the same shapes, nothing learned.

    Args:
        matrices: descrambled weights `P W` or descramblers P of networks, (count, link, columns), link axis first;
            columns must mean the same in all of them.
        key: of the chance twins.
        gauge: what is free: if none is given, all that commutes with the periodic derivative on the link axis, which is
            the gauge of `objectives.smoothness()`.
        draws: how many times all twins are drawn.

    Raises:
        TypeError, ValueError: not such an array; fewer than two matrices; NaN.

    >>> W = jax.random.normal(jax.random.key(0), (6, 9))
    >>> shifted = jnp.stack([jnp.roll(W, k, axis=0) for k in range(3)])
    >>> found = consistency(shifted, key=jax.random.key(1), draws=9)
    >>> round(found.score, 3), found.p_value
    (1.0, 0.1)

    Source: the claim is that of Amey et al., PNAS 118, e2016917118 (2021), on 100 networks; the null is this package's.
    """
    stack = real_array(matrices, "matrices", (3,), "(count, link, columns)")
    if len(stack) < 2:
        raise ValueError(f"matrices: got {len(stack)}; a story is told by at least two.")
    if not is_finite(stack):
        raise ValueError("matrices: contain NaN or infinity; check the networks' descramblings with .check().")
    gauge = Stabiliser(derivative(stack.shape[1])) if gauge is None else gauge
    one_with(gauge, "gauge", ("size", "nearest"), "a gauge such as exact.Stabiliser(operator)")
    same_size(stack, 1, gauge.size, "matrices", "the gauge")
    draws, key = positive_integer(draws, "draws"), random_key(key)
    pairs, null = _scores(stack, gauge, jax.random.split(key, draws))
    score, null = float(mean_over_pairs(pairs)), np.asarray(null)
    spread = float(null.std(ddof=1)) if draws > 1 else 0.0
    effect = (score - float(null.mean())) / spread if spread > 1e-6 * max(float(np.abs(null).max()), 1e-12) else None
    return Consistency(score, pairs, null, effect, (1 + int((null >= score).sum())) / (draws + 1))


@jax.jit
def _scores(stack: Array, gauge: Gauge, keys: Array) -> tuple[Array, Array]:
    def twins(key: Array) -> Array:
        others = jax.vmap(chance_twin)(jax.random.split(key, len(stack)), stack)
        return mean_over_pairs(pairwise_cosines(others, gauge))

    return pairwise_cosines(stack, gauge), jax.lax.map(twins, keys)


def pairwise_cosines(matrices: Float[Array, "count link columns"], gauge: Gauge | None) -> Float[Array, "count count"]:
    """`max_G <G M_k, M_l> / (||M_k|| ||M_l||)`, or that for G = 1 without a gauge.

    >>> [round(float(x), 3) for x in pairwise_cosines(jnp.asarray([[[1.0]], [[-2.0]]]), None)[0]]
    [1.0, -1.0]
    """

    def alike(one: Array, other: Array) -> Array:
        brought = one if gauge is None else matmul(gauge.nearest(one, other), one)
        size = jnp.sqrt(jnp.sum(one**2) * jnp.sum(other**2))
        return jnp.sum(brought * other) / jnp.where(size > 0, size, 1)

    return jax.lax.map(lambda one: jax.vmap(lambda other: alike(one, other))(matrices), matrices)


def mean_over_pairs(square: Float[Array, "count count"]) -> Float[Array, ""]:
    """The mean of what stands off the diagonal.

    >>> float(mean_over_pairs(jnp.asarray([[9.0, 1.0], [3.0, 9.0]])))
    2.0
    """
    count = len(square)
    return (jnp.sum(square) - jnp.trace(square)) / max(count * (count - 1), 1)


def chance_twin(key: PRNGKeyArray, weight: Float[Array, "link columns"]) -> Float[Array, "link columns"]:
    """A matrix with the singular values and link vectors of another, in a random frame of its columns.

    >>> W = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> twin = chance_twin(jax.random.key(0), W)
    >>> bool(abs(twin @ twin.T - W @ W.T).max() < 1e-5)
    True
    """
    left, singular, _ = svd(weight, full_matrices=False)
    turned = orthogonal.random_columns(key, weight.shape[1], len(singular), weight.dtype)
    return matmul(left * singular[None, :], turned.T)
