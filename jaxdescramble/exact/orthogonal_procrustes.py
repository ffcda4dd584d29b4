"""Orthogonal Procrustes problems: alignment of signals to a reference, and the maximum diagonal sum."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import is_finite, one_of, real_array
from jaxdescramble.manifolds import orthogonal


@functools.partial(jax.tree_util.register_dataclass, data_fields=["point", "value", "singular_values"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Procrustes:
    """The answer to a Procrustes problem.

    Attributes:
        point: P.
        value: what was minimised, dimensionless (see the function that made this).
        singular_values: of the matrix whose polar factor P is, descending, the last one signed for "SO"; P is unique
            where the last two do not add up to zero.
    """

    point: Float[Array, "n n"]
    value: Float[Array, ""]
    singular_values: Float[Array, " n"]


def procrustes(signals: ArrayLike, reference: ArrayLike, group: str = "O") -> Procrustes:
    """The orthogonal P that brings signals nearest to a reference: `argmin ||P S - R||_F`.

    `P = U V^T` for `R S^T = U diag(s) V^T`; value `||P S - R||_F^2 / (||S||_F^2 + ||R||_F^2)`, 0 when R is a turned S
    and 1 when the two have nothing in common.

    Args:
        signals: S, shape (n, m).
        reference: R, shape (n, m).
        group: "O" or "SO".

    Raises:
        ValueError, TypeError: shapes that differ, not finite, an unknown group.

    >>> S = jnp.asarray([[1.0, 2.0], [0.0, 1.0]])
    >>> float(procrustes(S, S[::-1]).value.round(4))
    0.0

    Source: Schönemann, Psychometrika 31 (1966).
    """
    S = real_array(signals, "signals", (2,), "(features, samples)")
    R = real_array(reference, "reference", (2,), "(features, samples)")
    if S.shape != R.shape:
        raise ValueError(
            f"procrustes: signals have shape {S.shape} and the reference {R.shape}; they must be the same."
        )
    one_of(group, "group", orthogonal.NAMES)
    _refuse_nan(S, "signals")
    _refuse_nan(R, "reference")
    point, singular = orthogonal.polar(jnp.matmul(R, S.T, precision="highest"), group)
    total = jnp.sum(S**2) + jnp.sum(R**2)
    distance = jnp.sum((jnp.matmul(point, S, precision="highest") - R) ** 2)
    return Procrustes(point, jnp.where(total > 0, distance / jnp.where(total > 0, total, 1), 0), singular)


def diagonal_sum(weight: ArrayLike, group: str = "O") -> Procrustes:
    """The orthogonal P with the largest diagonal sum of `P W`: for layers whose input and output share an axis.

    `max tr(P W) = ||W||_*` (nuclear norm) at `P = V U^T` for `W = U diag(s) V^T`; the value is `-tr(P W) / ||W||_*`, -1
    at the optimum over O(n). A rectangular W is judged by its leading square part, zeros filled in.

    Args:
        weight: W, shape (n, k).
        group: "O", or "SO", where the smallest singular value is given up if the determinant demands it.

    Raises:
        ValueError, TypeError: not a finite real matrix, an unknown group.

    >>> best = diagonal_sum(jnp.asarray([[0.0, 2.0], [1.0, 0.0]]))
    >>> best.point.round(4).tolist(), float(best.value)
    ([[0.0, 1.0], [1.0, 0.0]], -1.0)

    Source: Amey et al. 2021, SI (voice network), who iterate; the closed form is Procrustes with the identity.
    """
    W = real_array(weight, "weight", (2,), "(out, in)")
    one_of(group, "group", orthogonal.NAMES)
    _refuse_nan(W, "weight")
    n, k = W.shape
    # Only the first min(n, k) diagonal entries count: the rest of the square matrix is nothing.
    square = W[:, :n] if k >= n else jnp.concatenate([W, jnp.zeros((n, n - k), W.dtype)], axis=1)
    point, singular = orthogonal.polar(square.T, group)
    nuclear = jnp.sum(jnp.abs(singular))
    return Procrustes(point, -jnp.sum(singular) / jnp.where(nuclear > 0, nuclear, 1), singular)


def _refuse_nan(array: Array, name: str) -> None:
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity; find the columns with jnp.isfinite({name}).all(axis=0).")
