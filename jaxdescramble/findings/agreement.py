"""Agreement between independently trained networks: a score, and the score that chance would give."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, PRNGKeyArray

from jaxdescramble._base.checks import (
    is_finite,
    one_with,
    positive_integer,
    random_key,
    real_or_complex_array,
    same_size,
)
from jaxdescramble._base.decompositions import svd
from jaxdescramble._base.products import adjoint, inner, is_complex, matmul, square_sum
from jaxdescramble._base.results import Stored
from jaxdescramble.exact import Stabiliser
from jaxdescramble.exact.gauge import Gauge
from jaxdescramble.manifolds import orthogonal, unitary
from jaxdescramble.operators import derivative


@dataclass(frozen=True, eq=False, repr=False)
class Consistency(Stored):
    """Result of `consistency`: how similar several matrices are up to their gauge.

    Attributes:
        score: mean cosine over all pairs after alignment, at most 1.
        pairs: cosine of each pair, shape (count, count). For entry (k, l), matrix k is aligned to matrix l.
        null: one score per draw, computed from random twins of the matrices, shape (draws,).
        effect: `(score - mean(null)) / sd(null)`; None if the null scores do not vary.
        p_value: `(r + 1) / (draws + 1)`, where r is the number of draws that score at least as high.
    """

    score: float
    pairs: Float[Array, "count count"]
    null: np.ndarray
    effect: float | None
    p_value: float

    def __iter__(self):
        """Unpack as `score, null = consistency(...)`."""
        return iter((self.score, self.null))


def consistency(matrices: ArrayLike, *, key: PRNGKeyArray, gauge: Gauge | None = None, draws: int = 100) -> Consistency:
    """Measure how similar the descrambled matrices of k networks are, and compare the score with chance.

    Use it to check whether a structure appears in every training run.

    `score = mean_{k < l} max_G <G M_k, M_l> / (||M_k||_F ||M_l||_F)`, where G runs over the gauge group. For complex
    matrices, `<A, B> = Re tr(A^H B)`, and the gauge and the twins are unitary.

    Descrambling puts the strongest components of any matrix on the slowest waves. Therefore even random matrices agree
    to some degree, and alignment increases the agreement. The null uses random twins. The twin of a matrix keeps its
    singular values and its singular vectors on the link axis. Its singular vectors on the other axis are random.

    Args:
        matrices: descrambled weights `P W` or descramblers P of the networks, shape (count, link, columns). The columns
            must have the same meaning in all networks.
        key: random key; it decides the random twins.
        gauge: what each answer is free up to. None means every matrix that commutes with the periodic derivative on the
            link axis, which is the gauge of `objectives.smoothness()`.
        draws: number of draws of the null.

    Returns:
        A `Consistency`. It also unpacks as `score, null`.

    Raises:
        TypeError, ValueError: if `matrices` is not an array of three axes, has fewer than two matrices, or contains
            NaN or infinity; if `gauge` does not fit the link axis.

    >>> W = jax.random.normal(jax.random.key(0), (6, 9))
    >>> shifted = jnp.stack([jnp.roll(W, k, axis=0) for k in range(3)])
    >>> found = consistency(shifted, key=jax.random.key(1), draws=9)
    >>> round(found.score, 3), found.p_value
    (1.0, 0.1)

    Source: Amey et al., PNAS 118, e2016917118 (2021) claim agreement for 100 networks; the null is ours.
    """
    stack = real_or_complex_array(matrices, "matrices", (3,), "(count, link, columns)")
    if len(stack) < 2:
        raise ValueError(f"matrices: got {len(stack)}; must be at least 2, one for each network.")
    if not is_finite(stack):
        raise ValueError("matrices: contain NaN or infinity. Call .check() on each network's descrambling.")
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


def pairwise_cosines(
    matrices: Inexact[Array, "count link columns"], gauge: Gauge | None
) -> Float[Array, "count count"]:
    """Return `max_G <G M_k, M_l> / (||M_k|| ||M_l||)` for every pair; without a gauge, G = 1.

    >>> [round(float(x), 3) for x in pairwise_cosines(jnp.asarray([[[1.0]], [[-2.0]]]), None)[0]]
    [1.0, -1.0]
    """

    def alike(one: Array, other: Array) -> Array:
        brought = one if gauge is None else matmul(gauge.nearest(one, other), one)
        size = jnp.sqrt(square_sum(one) * square_sum(other))
        overlap = inner(brought, other) if is_complex(one) else jnp.sum(brought * other)
        return overlap / jnp.where(size > 0, size, 1)

    return jax.lax.map(lambda one: jax.vmap(lambda other: alike(one, other))(matrices), matrices)


def mean_over_pairs(square: Float[Array, "count count"]) -> Float[Array, ""]:
    """Return the mean of the entries off the diagonal.

    >>> float(mean_over_pairs(jnp.asarray([[9.0, 1.0], [3.0, 9.0]])))
    2.0
    """
    count = len(square)
    return (jnp.sum(square) - jnp.trace(square)) / max(count * (count - 1), 1)


def chance_twin(key: PRNGKeyArray, weight: Inexact[Array, "link columns"]) -> Inexact[Array, "link columns"]:
    """Draw a matrix with the singular values and the link-side vectors of `weight`; the other side is random.

    >>> W = jnp.asarray([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> twin = chance_twin(jax.random.key(0), W)
    >>> bool(abs(twin @ twin.T - W @ W.T).max() < 1e-5)
    True
    """
    left, singular, _ = svd(weight, full_matrices=False)
    random_columns = unitary.random_columns if is_complex(weight) else orthogonal.random_columns
    turned = random_columns(key, weight.shape[1], len(singular), singular.dtype)
    return matmul(left * singular[None, :], adjoint(turned))
