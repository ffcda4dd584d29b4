"""Similarity: signals that look like something known."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import real_array
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.units import in_own_unit
from jaxdescramble.objectives.weighing import clear


def similarity(reference: ArrayLike | None = None) -> "Similarity":
    """Likeness of the signals to a reference, sample by sample, in [-1, 1]: -1 if they are equal up to scale.

    `f(P) = -<P S, R> / (||S||_F ||R||_F)`

    Unchanged when S or R is scaled, and when the samples of both are repeated or permuted together. The bound is
    `-||R S^T||_* / (||S||_F ||R||_F)` (nuclear norm), attained at the polar factor of `R S^T`: the closed form is
    `exact.procrustes`. f is linear in P, so the polar fixed point arrives in one step.

    Args:
        reference: R, shape (n, m), paired with the samples: a layer's input, a teacher's signals. Data, which
            may be traced and differentiated. None for the signals in their raw frame, R = S: then f is least at P = 1,
            and in a sum keeps P near it.

    Returns:
        An objective with a bound.

    Raises:
        ValueError, TypeError: a reference that is no real matrix, or not of the signals' shape.

    >>> S = jnp.asarray([[1.0, 2.0], [0.0, 1.0]])
    >>> [round(float(similarity(S[::-1])(P, S)), 4) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [-0.6667, -1.0]

    Source: Schonemann, Psychometrika 31 (1966), for the closed form.
    """
    given = None if reference is None else real_array(reference, "reference", (2,), "(features, samples)")
    return Similarity(given)


class Similarity(Objective[Samples]):
    """Likeness of the signals to a reference. Make one by `similarity`, which says what it is.

    Attributes:
        reference: R, or None for the signals themselves.
    """

    reference: Array | None = None

    concave = True
    takes_weights = True

    def _pair(self, summary: Samples) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        S = in_own_unit(summary)
        if self.reference is None:
            return S, S
        if self.reference.shape != S.shape:
            raise ValueError(
                f"similarity: the reference has shape {self.reference.shape} and the signals {S.shape}; they are "
                "compared sample by sample and must be the same."
            )
        R = clear(self.reference.astype(S.dtype), summary.weights)
        return S, in_own_unit(Samples(R, weights=summary.weights))

    def value(self, point: Float[Array, "n n"], summary: Samples) -> Float[Array, ""]:
        S, R = self._pair(summary)
        return -jnp.sum(summary.weigh(matmul(point, S) * R)) / max(S.size, 1)

    def bound(self, summary: Samples) -> Float[Array, ""]:
        S, R = self._pair(summary)
        return -nuclear_norm(matmul(summary.weigh(R), S.T)) / max(S.size, 1)


def nuclear_norm(matrix: Float[Array, "n k"]) -> Float[Array, ""]:
    """Return the sum of singular values, `max tr(Q M)` over Q with orthonormal rows or columns.

    Its derivative is the polar factor, singular values lost in rounding left out: finite for any matrix. Second
    derivatives are not given (they read zero).

    >>> float(nuclear_norm(jnp.asarray([[0.0, 2.0], [-1.0, 0.0]])).round(4))
    3.0
    """
    U, singular, Vh = decompositions.svd(jax.lax.stop_gradient(matrix), full_matrices=False)
    lost = singular <= max(matrix.shape) * jnp.finfo(singular.dtype).eps * singular[0]  # a NaN is not, and stays one
    return jnp.sum(jnp.where(lost, 0, jnp.sum(U * matmul(matrix, Vh.T), axis=0)))
