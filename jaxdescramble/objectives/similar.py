"""Similarity: small if the signals look like known signals."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import real_array
from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import Samples, SampleSummary
from jaxdescramble.objectives.units import in_own_unit
from jaxdescramble.objectives.weighing import clear


def similarity(reference: ArrayLike | None = None) -> "Similarity":
    """Return the objective that makes the signals look like a reference R, sample by sample.

    `f(P) = -<P S, R> / (||S||_F ||R||_F)`

    Here `<A, B>` is the sum of the products of the entries. f lies in [-1, 1], and is -1 if `P S` equals R up to a
    positive factor. f does not change when S or R is scaled, or when the samples of both are repeated or permuted
    together. The bound is `-||R S^T||_* / (||S||_F ||R||_F)` with the nuclear norm (the sum of the singular values). It
    is attained at the polar factor of `R S^T`: `exact.procrustes` is the closed form. f is linear in P, so the polar
    fixed point (`solvers.PolarPower`) needs one step.

    Args:
        reference: the reference R, shape (n, m), with the same samples in the same order, such as the input of a layer
            or the signals of a teacher. It may be traced and differentiated. None means `R = S`: f is then smallest at
            the identity. Use this as a term of `weighted`, to keep P near the identity.

    Returns:
        A `Similarity`. It has a bound.

    Raises:
        ValueError, TypeError: if the reference is not a real matrix. When you use the objective: if its shape is not
            the shape of the signals.

    >>> S = jnp.asarray([[1.0, 2.0], [0.0, 1.0]])
    >>> [round(float(similarity(S[::-1])(P, S)), 4) for P in (jnp.eye(2), jnp.eye(2)[::-1])]
    [-0.6667, -1.0]

    Source: Schonemann, Psychometrika 31 (1966), for the closed form.
    """
    given = None if reference is None else real_array(reference, "reference", (2,), "(features, samples)")
    return Similarity(given)


class Similarity(Objective[SampleSummary]):
    """Likeness of the signals to a reference. Make it with `similarity`, which documents it.

    Attributes:
        reference: the reference R; None means the signals themselves.
    """

    reference: Array | None = None

    concave = True
    takes_weights = True

    def _pair(self, summary: SampleSummary) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
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

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        S, R = self._pair(summary)
        return -jnp.sum(summary.weigh(matmul(point, S) * R)) / max(S.size, 1)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        S, R = self._pair(summary)
        return -nuclear_norm(matmul(summary.weigh(R), S.T)) / max(S.size, 1)


def nuclear_norm(matrix: Float[Array, "n k"]) -> Float[Array, ""]:
    """Return the nuclear norm: the sum of the singular values, `max tr(Q M)` over Q with orthonormal rows or columns.

    Its derivative is the polar factor, without the singular values that are lost in rounding. It is finite for every
    matrix. Second derivatives are not supported: they are zero.

    >>> float(nuclear_norm(jnp.asarray([[0.0, 2.0], [-1.0, 0.0]])).round(4))
    3.0
    """
    U, singular, Vh = decompositions.svd(jax.lax.stop_gradient(matrix), full_matrices=False)
    lost = singular <= max(matrix.shape) * jnp.finfo(singular.dtype).eps * singular[0]  # a NaN is not lost
    return jnp.sum(jnp.where(lost, 0, jnp.sum(U * matmul(matrix, Vh.T), axis=0)))
