"""The closed form: minimisers and maximisers of `tr(A P B P^T)` over O(n) and SO(n).

With `A = D^T D = T diag(a) T^T`, a ascending, and `S = U Sigma V^T`, singular values descending, `P = T U^T` attains
`sum_i a_i sigma_i^2`, below which no orthogonal matrix goes (the rearrangement inequality): the principal components
of the signals, laid on the slowest modes of D, are the descrambler. Values here are divided by `a_n ||S||_F^2`.

Derivatives are those of the answer up to gauge. `dP = P Omega` with `Omega = pinv(Hessian)` of the change of B: modes
whose singular values tie are left alone where the eigenvalues of A tie too (there the value is smooth and P merely
free), and counted as a kink where those differ: the value then has only a supergradient, which is what is returned.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import an_operator, instance_of, one_of
from jaxdescramble._base.status import Status
from jaxdescramble.exact.gauge import canonical_modes
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import paired_roughness, roughness
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.operators import Operator


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["point", "value", "bound", "singular_values", "rank", "status"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Extremum:
    """An exact extremum of a quadratic objective.

    Attributes:
        point: P, in the gauge nearest to the identity; rows beyond `rank` are an arbitrary orthonormal completion.
        value: the objective at `point`, evaluated there as a sum of squares.
        bound: the value of the rearrangement inequality, from the singular values alone; equal to `value` up to
            rounding, in units where the largest possible is 1.
        singular_values: of the signals, descending.
        rank: number of singular values that stand clear of rounding.
        status: a `Status`.
    """

    point: Float[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    bound: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch n"]
    rank: Int[Array, "*batch"]
    status: Int[Array, "*batch"]


def brockett_minimiser(operator: Operator, summary: Summary, group: str = "O") -> Extremum:
    """The orthogonal P with the smoothest `P S`: `argmin ||D P S||_F^2`.

    `P = T U^T`, value `sum_i a_i sigma_i^2 / (a_n sum_i sigma_i^2)`.

    Args:
        operator: D on n points.
        summary: of signals with n features (`Factor`, `Samples` or `Gram`).
        group: "O", or "SO" for determinant one: the sign of the roughest mode is turned, the value stays.

    Raises:
        TypeError, ValueError: no operator, no summary; sizes that do not fit, an unknown group.

    >>> from jaxdescramble.operators import derivative
    >>> from jaxdescramble.objectives import Samples
    >>> S = jnp.asarray([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0]])
    >>> best = brockett_minimiser(derivative(3, scheme="difference"), Samples(S))
    >>> round(float(best.value), 4), int(best.rank)  # (0 * 9 + 9 * 4) / (9 * 13)
    (0.3077, 2)

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820), the optimal smoothing descrambler; Brockett 1991.
    """
    return _extremum(operator, summary, group, largest=False)


def brockett_maximiser(operator: Operator, summary: Summary, group: str = "O") -> Extremum:
    """The orthogonal P with the roughest `P S`, by the opposite pairing: the other end of every certificate.

    `P = T J U^T` with J the reversal, value `sum_i a_(n+1-i) sigma_i^2 / (a_n sum_i sigma_i^2)`.

    Args, errors: as for `brockett_minimiser`.

    >>> from jaxdescramble.operators import derivative
    >>> from jaxdescramble.objectives import Samples
    >>> float(brockett_maximiser(derivative(3), Samples(jnp.eye(3)[:, :1])).value.round(4))
    1.0

    Source: as for `brockett_minimiser`.
    """
    return _extremum(operator, summary, group, largest=True)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """The solver of objectives that say they are `||D P S||_F^2`: no iteration, a certificate with every answer.

    >>> from jaxdescramble.objectives import smoothness
    >>> objective = smoothness()
    >>> int(ClosedForm()(objective, objective.summarise(jnp.eye(3))).rank)
    3
    """

    def __call__(self, objective: Objective, summary: Summary, group: str = "O") -> Extremum:
        """Minimise an objective over O(n) or SO(n).

        Raises:
            TypeError, ValueError: no objective, no summary; an objective that is not a quadratic form.
        """
        instance_of(objective, "objective", Objective, "an Objective such as objectives.smoothness()")
        a_summary(summary)
        operator = objective.operator(summary.size)
        if operator is None:
            raise ValueError(
                f"ClosedForm: the objective {objective.name!r} gives no `operator`, so it has no closed form. "
                "Use an objective that does (jaxdescramble.objectives.smoothness), or pass a solver."
            )
        return brockett_minimiser(operator, summary, group)


def _extremum(operator: Operator, summary: Summary, group: str, largest: bool) -> Extremum:
    an_operator(operator)
    a_summary(summary)
    one_of(group, "group", orthogonal.NAMES)
    if operator.size != summary.size:
        raise ValueError(
            f"brockett: the operator acts on {operator.size} points and the signals have {summary.size} features; "
            "they must be the same."
        )
    finite = summary.finite() & jnp.isfinite(jnp.asarray(operator.eigenvalues)).all()
    # A poisoned problem is solved as zeros; its point says so afterwards.
    scaled = cleared(summary).normalised()
    eigenvalues = jnp.asarray(operator.eigenvalues, scaled.dtype)
    paired = eigenvalues[::-1] if largest else eigenvalues
    runs = operator.multiplicities[::-1] if largest else operator.multiplicities
    directions, squares, kink, rank = _frame(scaled, runs)
    modes = canonical_modes(directions[:, ::-1] if largest else directions, operator)
    point = operator.synthesise(modes.T)
    if group == "SO":
        modes = modes.at[:, -1].multiply(decompositions.determinant_sign(jax.lax.stop_gradient(point)))
        point = operator.synthesise(modes.T)
    value = _value(jnp.where(finite, point, 0), scaled, operator)
    singular = _root(squares) * summary.scale()
    bound = paired_roughness(paired, squares)
    status = jnp.where(kink, Status.KINK, Status.SOLVED)
    status = jnp.where(squares[0] > 0, status, Status.ZERO_SIGNALS)
    status = jnp.where(finite, status, Status.NOT_FINITE)
    missing = jnp.asarray(jnp.nan, scaled.dtype)
    return Extremum(
        jnp.where(finite, point, missing),
        jnp.where(finite, value, missing),
        jnp.where(finite, bound, missing),
        jnp.where(finite, singular, missing),
        rank,
        status.astype(jnp.int32),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _frame(
    summary: Summary, runs: tuple[int, ...]
) -> tuple[Float[Array, "n n"], Float[Array, " n"], Bool[Array, ""], Int[Array, ""]]:
    """Principal directions, squared singular values, whether a tie is a kink, and the rank.

    `runs` are the lengths of the runs of equal eigenvalues of A, in the order in which the directions meet them.
    """
    directions, singular = summary.principal()
    resolved, tied = _resolution(summary, singular)
    same_run = _same_run(runs)
    borders = ~jnp.diagonal(same_run, offset=1)
    kink = jnp.any(jnp.diagonal(tied, offset=1) & borders & resolved[1:])
    return directions, singular**2, kink, jnp.sum(resolved, dtype=jnp.int32)


@_frame.defjvp
def _frame_jvp(runs, primals, tangents):
    (summary,), (change,) = primals, tangents
    directions, squares, kink, rank = _frame(summary, runs)
    _, moment = jax.jvp(lambda s: s.moment(directions.T), (summary,), (change,))
    singular = _root(squares)
    gap = (singular[None, :] - singular[:, None]) * (singular[None, :] + singular[:, None])
    free = _same_run(runs) | _resolution(summary, singular)[1] | (gap == 0)
    omega = jnp.where(free, 0, moment / jnp.where(free, 1, gap))
    turn = jnp.matmul(directions, omega, precision="highest")
    nothing = jnp.zeros((), jax.dtypes.float0)
    return (directions, squares, kink, rank), (turn, jnp.diagonal(moment), nothing, nothing)


def _resolution(summary: Summary, singular: Float[Array, " n"]) -> tuple[Bool[Array, " n"], Bool[Array, "n n"]]:
    """Which singular values stand clear of rounding, and which pairs cannot be told apart in this precision."""
    seen = singular**summary.exponent
    rounding = jnp.finfo(seen.dtype).eps * seen[0]
    return decompositions.resolved(seen), jnp.abs(seen[:, None] - seen[None, :]) <= 8 * rounding


def _root(squares: Float[Array, " n"]) -> Float[Array, " n"]:
    """Square roots with a zero derivative, not an infinite one, at zero."""
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _same_run(runs: tuple[int, ...]) -> Bool[Array, "n n"]:
    run = np.repeat(np.arange(len(runs)), runs)
    return jnp.asarray(run[:, None] == run[None, :])


@jax.custom_jvp
def _value(point: Float[Array, "n n"], summary: Summary, operator: Operator) -> Float[Array, ""]:
    """The objective at the extremum. The point is stationary, so only what the signals change counts (envelope)."""
    return roughness(point, summary, operator)


@_value.defjvp
def _value_jvp(primals, tangents):
    point, summary, operator = primals
    fixed = functools.partial(roughness, point)
    _, change = jax.jvp(fixed, (summary, operator), tangents[1:])
    return _value(point, summary, operator), change
