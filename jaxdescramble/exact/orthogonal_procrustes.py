"""Orthogonal Procrustes problems: align signals with a reference, and maximise a diagonal sum."""

import dataclasses
import functools

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import is_finite, one_of, real_array
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds import orthogonal


@functools.partial(register_dataclass, data_fields=["point", "value", "singular_values"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Procrustes:
    """The solution of a Procrustes problem.

    Attributes:
        point: the orthogonal matrix P.
        value: the minimum, dimensionless; the function that returns it gives the formula.
        singular_values: singular values of the matrix whose polar factor is P, descending; for "SO" the last one has a
            sign. P is unique unless the sum of the last two is zero.
    """

    point: Float[Array, "n n"]
    value: Float[Array, ""]
    singular_values: Float[Array, " n"]


def procrustes(signals: ArrayLike, reference: ArrayLike, group: str = "O") -> Procrustes:
    """Return the orthogonal P that brings signals nearest to a reference: `argmin ||P S - R||_F`.

    Use it to compare two layers, or two networks, in one frame. `P = U V^T` for `R S^T = U diag(s) V^T`. The value is
    `||P S - R||_F^2 / (||S||_F^2 + ||R||_F^2)`: 0 if R is S in another frame, 1 if the two have nothing in common.

    Args:
        signals: the signals S, shape (features, samples).
        reference: the reference R, of the same shape.
        group: "O" or "SO".

    Raises:
        TypeError: if an array is not made of real numbers.
        ValueError: if the shapes differ, a number is not finite, or the group is unknown.

    >>> S = jnp.asarray([[1.0, 2.0], [0.0, 1.0]])
    >>> float(procrustes(S, S[::-1]).value.round(4))
    0.0

    Source: Schönemann, Psychometrika 31 (1966).
    """
    S = real_array(signals, "signals", (2,), "(features, samples)")
    R = real_array(reference, "reference", (2,), "(features, samples)")
    if S.shape != R.shape:
        raise ValueError(
            f"procrustes: got signals of shape {S.shape} and a reference of shape {R.shape}; must be the same."
        )
    one_of(group, "group", orthogonal.NAMES)
    _refuse_nan(S, "signals")
    _refuse_nan(R, "reference")
    point, singular = orthogonal.polar(jnp.matmul(R, S.T, precision="highest"), group)
    total = jnp.sum(S**2) + jnp.sum(R**2)
    distance = jnp.sum((jnp.matmul(point, S, precision="highest") - R) ** 2)
    return Procrustes(point, jnp.where(total > 0, distance / jnp.where(total > 0, total, 1), 0), singular)


def diagonal_sum(weight: ArrayLike, group: str = "O") -> Procrustes:
    """Return the orthogonal P with the largest diagonal sum of `P W`.

    Use it for layers whose input and output share an axis. `max tr(P W) = ||W||_*` (nuclear norm) at `P = V U^T` for
    `W = U diag(s) V^T`. The value is `-tr(P W) / ||W||_*`, which is -1 at the optimum over O(n). A rectangular W is
    judged by its leading square part, filled up with zeros.

    Args:
        weight: the weight W, shape (n, k).
        group: "O" or "SO"; for "SO" the smallest singular value is lost if the determinant demands it.

    Raises:
        TypeError: if `weight` is not made of real numbers.
        ValueError: if `weight` is not a finite matrix, or the group is unknown.

    >>> best = diagonal_sum(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    >>> best.point.round(4).tolist(), float(best.value)
    ([[0.0, 1.0], [1.0, 0.0]], -1.0)

    Source: Amey et al. 2021, SI (voice network), who iterate; the closed form is Procrustes with the identity.
    """
    W = real_array(weight, "weight", (2,), "(out, in)")
    one_of(group, "group", orthogonal.NAMES)
    _refuse_nan(W, "weight")
    n, k = W.shape
    # Only the first min(n, k) diagonal entries count, so fill the rest of the square matrix with zeros.
    square = W[:, :n] if k >= n else jnp.concatenate([W, jnp.zeros((n, n - k), W.dtype)], axis=1)
    point, singular = orthogonal.polar(square.T, group)
    nuclear = jnp.sum(jnp.abs(singular))
    return Procrustes(point, -jnp.sum(singular) / jnp.where(nuclear > 0, nuclear, 1), singular)


def _refuse_nan(array: Array, name: str) -> None:
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity; jnp.isfinite({name}).all(axis=0) finds the good columns.")
