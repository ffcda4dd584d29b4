"""Wide layers: descramble the leading principal components of the signals, `P = R U_k^T`."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import is_traced, positive_integer, real_array, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling.solving import DirectSolver, solve
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Objective, Samples, SampleSummary, Summary
from jaxdescramble.objectives.leading import leading_directions
from jaxdescramble.objectives.weighing import clear
from jaxdescramble.solvers import Solver


class Kept(NamedTuple):
    """What `rank` keeps of the signals.

    Attributes:
        directions: U_k, the leading left singular vectors of the signals.
        data: `U_k^T S`, signals or a summary, in the form that was given.
        left_out: the fraction of the energy that `U_k^T S` does not contain.
        tied: whether the kept directions are not unique, because singular values k and k + 1 are equal.
    """

    directions: Float[Array, "*batch n k"]
    data: Array | Summary
    left_out: Float[Array, "*batch"]
    tied: Bool[Array, "*batch"]


def checked_rank(
    rank: object, n: int, group: str, objective: Objective, data: ArrayLike | Summary | None = None
) -> int:
    """Return the rank as an integer.

    Raises:
        TypeError: if it is no integer, or the objective needs samples and the summary keeps none.
        ValueError: if it is not between 1 and the number of features, or the group is "permutation".

    >>> from jaxdescramble.objectives import smoothness
    >>> checked_rank(2, 3, "O", smoothness(), jnp.ones((3, 4)))
    2
    """
    rank = positive_integer(rank, "rank")
    if group == "permutation":
        raise ValueError(
            "rank: a permutation keeps all features, so group 'permutation' takes no rank. Leave rank out, or use "
            "group 'O' or 'SO'."
        )
    if rank > n:
        raise ValueError(f"rank: got {rank}, but the signals have {n} features; must be at most {n}.")
    without_samples = isinstance(data, Summary) and not isinstance(data, SampleSummary)
    if without_samples and issubclass(objective.summary, SampleSummary):
        raise TypeError(
            f"signals: {objective.name} reads samples, and a {type(data).__name__} keeps none. Find directions U (of a "
            "Sketch: sketch.leading(rank)), collect U.T @ batch in a second pass, and descramble these without rank. "
            "The descrambler is found.point @ U.T."
        )
    return rank


@functools.partial(jax.jit, static_argnames=("rank", "axes"))
def keep(data: Array | Summary, weights: Array | None, rank: int, axes: int) -> Kept:
    """Return the leading principal components of signals or of a summary, with `axes` leading batch axes.

    If all are kept, their matrix is a rotation, so that R and P have the same determinant.
    """

    def one(data: Array | Summary, weights: Array | None) -> Kept:
        summary = data if isinstance(data, Summary) else Samples(clear(data, weights), weights=weights)
        found = leading_directions(summary, rank)
        U = found.directions
        if rank == len(U):
            U = U.at[:, -1].multiply(decompositions.determinant_sign(jax.lax.stop_gradient(U)))
        small = data.compressed(U.T) if isinstance(data, Summary) else matmul(U.T, data)
        return Kept(U, small, found.left_out, found.tied)

    for _ in range(axes):
        one = jax.vmap(one)
    return one(data, weights)


def first_turn(start: ArrayLike, kept: Kept, group: str) -> Array:
    """Return the start R of the solver: a given R, or the R nearest to `P U_k` for a given point P.

    Args:
        start: R of shape (k, k), or P of shape (k, n), with or without the batch axes. If k = n, it is P.
        kept: what the rank keeps.
        group: see `descramble`.

    Raises:
        TypeError, ValueError: if a shape is wrong, the rows are not orthonormal, or the determinant is -1 for "SO".
    """
    U = kept.directions
    *batch, n, k = U.shape
    wanted = f"(rank, rank) = {(k, k)} or (rank, features) = {(k, n)}, or with the layers in front"
    point = real_array(start, "start", {2, len(batch) + 2}, wanted)
    same_size(point, -2, k, "start", "the rank")
    if point.shape[-1] not in (k, n):
        raise ValueError(f"start: got shape {point.shape}; expected {wanted}.")
    if point.shape[-1] == n:
        if not is_traced(point):
            _check_orthonormal(point)
        turn = matmul(point.astype(U.dtype), U)
        # With fewer components than features, U_k has no orientation, so neither has P: choose R in SO(k).
        polar = lambda one: orthogonal.polar(one, group if n > k else "O")[0]  # noqa: E731
        for _ in range(turn.ndim - 2):
            polar = jax.vmap(polar)
        point = polar(turn)
    return point


def check_rows(start: ArrayLike, shape: tuple[int, int]) -> None:
    """Check a start of a problem with a rank: a P of shape (rank, features).

    Raises:
        TypeError, ValueError: if the type or the shape is wrong, or the rows are not orthonormal.

    >>> check_rows(jnp.eye(2, 5), (2, 5))
    """
    point = real_array(start, "start", {2}, f"(rank, features) = {shape}")
    if point.shape != shape:
        raise ValueError(f"start: got shape {point.shape}; expected (rank, features) = {shape}.")
    _check_orthonormal(point)


def refuse_rows(start: Array, n: int) -> None:
    """Raise `ValueError` for a start of fewer rows than features, in a call without a rank.

    >>> refuse_rows(jnp.eye(3), 3)
    """
    k = start.shape[-2]
    if k < n:
        raise ValueError(
            f"start: got shape {start.shape}; expected {(n, n)}. If it is the point of an answer with rank={k}, give "
            f"rank={k} here too."
        )


def _check_orthonormal(point: Array) -> None:
    rows = np.asarray(point, np.float64)
    defect = np.abs(rows @ np.swapaxes(rows, -1, -2) - np.eye(rows.shape[-2])).max()
    if not defect <= float(jnp.finfo(point.dtype).eps) ** 0.5 * 10:
        raise ValueError(
            f"start: its rows are not orthonormal (|P P^T - 1| is {defect:.2g}); give the point of an earlier answer, "
            "or leave the start out."
        )


@jax.jit
def widened(fields: dict[str, Array], kept: Kept) -> dict[str, Array]:
    """Return the fields of a descrambling of all features, from those of its principal components."""
    point = matmul(fields["point"], jnp.swapaxes(kept.directions, -1, -2))
    kink = kept.tied & (fields["status"] == Status.SOLVED)
    left_out = jnp.where(fields["status"] == Status.NOT_FINITE, jnp.nan, kept.left_out)
    status = jnp.where(kink, Status.KINK, fields["status"]).astype(jnp.int32)
    return fields | {"point": point, "status": status, "left_out": left_out}


def solve_wide(
    objective: Objective,
    solver: Solver | DirectSolver,
    group: str,
    signals: Float[Array, "n m"],
    weights: Float[Array, " m"] | None,
    rank: int,
    start: Array | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
) -> dict[str, Array]:
    """Solve one problem on its leading principal components; return what `solving.solve` returns, for all features.

    >>> from jaxdescramble import exact, objectives
    >>> solve_wide(objectives.smoothness(), exact.ClosedForm(), "O", jnp.eye(3), None, 2)["point"].shape
    (2, 3)
    """
    kept = keep(signals, weights, rank, 0)
    turn = None if start is None else first_turn(start, kept, group)
    summary = objective.summarise(kept.data, weights)
    return widened(solve(objective, solver, group, summary, turn, restarts, key), kept)
