"""The closed form: minimisers and maximisers of `tr(A P B P^H)` over O(n) and SO(n), or U(n) and SU(n).

With `A = D^T D = T diag(a) T^T`, a ascending, and `S = U Sigma V^T`, singular values descending, `P = T U^T` attains
`sum_i a_i sigma_i^2`. By the rearrangement inequality, no orthogonal matrix goes below this value. So the descrambler
lays the principal components of the signals on the slowest modes of D. All values here are divided by `a_n ||S||_F^2`.

For complex signals, `B = S S^H` and `P = T Phi U^H` attains the same sum over U(n). The diagonal matrix Phi holds a
free phase for each component (not for each neuron), and each run of k equal eigenvalues brings a U(k). The phases here
are those that bring P nearest to the identity (they maximise Re tr P). SU(n) attains the value of U(n): the roughest
mode takes the phase that makes the determinant 1. Real signals have the answer of O(n), as complex numbers.

Derivatives are those of the answer up to gauge: `dP = P Omega`, where Omega is `pinv(Hessian)` applied to the change of
B. If singular values tie where eigenvalues of A tie too, the value is smooth and P is only free: these modes do not
turn. If singular values tie where eigenvalues of A differ, the status is a kink: the value has only a supergradient
there, and that is what is returned. The phases of complex answers are constants in derivatives.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Int

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import an_operator, instance_of, one_of
from jaxdescramble._base.products import adjoint, complex_type, real_type
from jaxdescramble._base.programs import fused
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble._base.status import Status, check_status
from jaxdescramble.exact.gauge import canonical_modes
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import paired_roughness, roughness
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.objectives.summary import Summary, a_summary
from jaxdescramble.operators import Operator

UNITARY = ("U", "SU")
"""The groups of complex matrices."""

GROUPS = (*orthogonal.NAMES, *UNITARY)

REAL_PART = {"U": "O", "SU": "SO"}
"""The real matrices of a group of complex ones."""


@functools.partial(
    register_dataclass,
    data_fields=["point", "value", "bound", "singular_values", "rank", "status"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Extremum(Stored):
    """An exact extremum of a quadratic objective.

    Attributes:
        point: the descrambler P, in the gauge nearest to the identity; rows beyond `rank` are an arbitrary orthonormal
            completion. Complex for the groups "U" and "SU".
        value: the objective at `point`, computed there as a sum of squares.
        bound: value of the rearrangement inequality, computed from the singular values only. It equals `value` up to
            rounding; 1 is the largest possible value.
        singular_values: singular values of the signals, descending.
        rank: number of singular values that are larger than rounding.
        status: a `Status`.
    """

    point: Inexact[Array, "*batch n n"]
    value: Float[Array, "*batch"]
    bound: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch n"]
    rank: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    def check(self) -> "Extremum":
        """Return this result if every problem of the batch has an answer.

        Raises:
            FloatingPointError: says which problems have none, why, and what to do.
        """
        check_status(self.status, "closed form")
        return self


def brockett_minimiser(operator: Operator, summary: Summary, group: str = "O") -> Extremum:
    """Return the orthogonal P with the smoothest `P S`: `argmin ||D P S||_F^2`.

    Use it for every objective of the form `||D P S||_F^2`; it needs no iteration. `P = T U^T`, and the value is
    `sum_i a_i sigma_i^2 / (a_n sum_i sigma_i^2)`.

    Args:
        operator: the derivative operator D, from `jaxdescramble.operators`, on n points.
        summary: summary of signals with n features (`Factor`, `Samples` or `Gram`).
        group: "O" or "SO"; for "SO" the sign of the roughest mode may flip, which does not change the value. "U" or
            "SU" for complex signals; P is then complex, also for real signals.

    Raises:
        TypeError: if `operator` is not an operator, `summary` is not a summary, or complex signals come with "O" or
            "SO".
        ValueError: if the sizes differ, or the group is unknown.

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
    """Return the orthogonal P with the roughest `P S`: `argmax ||D P S||_F^2`.

    Use it to see how rough the signals could be at most. It pairs in the opposite order: `P = T J U^T`, where J is the
    reversal, and the value is `sum_i a_(n+1-i) sigma_i^2 / (a_n sum_i sigma_i^2)`.

    Args:
        operator: the derivative operator D, from `jaxdescramble.operators`, on n points.
        summary: summary of signals with n features (`Factor`, `Samples` or `Gram`).
        group: "O" or "SO"; for "SO" the sign of one mode may flip, which does not change the value. "U" or "SU" for
            complex signals.

    Raises:
        TypeError: if `operator` is not an operator, `summary` is not a summary, or complex signals come with "O" or
            "SO".
        ValueError: if the sizes differ, or the group is unknown.

    >>> from jaxdescramble.operators import derivative
    >>> from jaxdescramble.objectives import Samples
    >>> float(brockett_maximiser(derivative(3), Samples(jnp.eye(3)[:, :1])).value.round(4))
    1.0

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820); Brockett 1991.
    """
    return _extremum(operator, summary, group, largest=True)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ClosedForm:
    """The exact solver for objectives of the form `||D P S||_F^2`: no iteration, and a certificate with each answer.

    >>> from jaxdescramble.objectives import smoothness
    >>> objective = smoothness()
    >>> int(ClosedForm()(objective, objective.summarise(jnp.eye(3))).rank)
    3
    """

    def __call__(self, objective: Objective, summary: Summary, group: str = "O") -> Extremum:
        """Minimise an objective over O(n), SO(n), U(n) or SU(n).

        Raises:
            TypeError: if `objective` is not an objective, `summary` is not a summary, or complex signals come with "O"
                or "SO".
            ValueError: if the objective has no closed form, or the group is unknown.
        """
        instance_of(objective, "objective", Objective, "an Objective such as objectives.smoothness()")
        a_summary(summary)
        operator = objective.operator(summary.size)
        if operator is None:
            raise ValueError(
                f"ClosedForm: the objective {objective.name!r} gives no `operator`, so it has no closed form. "
                "Use an objective that gives one (jaxdescramble.objectives.smoothness), or pass another solver."
            )
        return brockett_minimiser(operator, summary, group)


def _extremum(operator: Operator, summary: Summary, group: str, largest: bool) -> Extremum:
    an_operator(operator)
    a_summary(summary)
    one_of(group, "group", GROUPS)
    if operator.size != summary.size:
        raise ValueError(
            f"brockett: got an operator on {operator.size} points and signals with {summary.size} features; the two "
            "numbers must be the same."
        )
    if jnp.issubdtype(summary.dtype, jnp.complexfloating):
        if group not in UNITARY:
            raise TypeError(f"summary: got complex signals ({summary.dtype}) with group={group!r}; use group='U'.")
    elif group in UNITARY:
        found = _extremum(operator, summary, REAL_PART[group], largest)
        return dataclasses.replace(found, point=found.point.astype(complex_type(found.point.dtype)))
    finite = summary.finite() & jnp.isfinite(jnp.asarray(operator.eigenvalues)).all()
    # If the numbers are not finite, solve zeros instead, and mark the point afterwards.
    scaled = cleared(summary).normalised()
    eigenvalues = jnp.asarray(operator.eigenvalues, real_type(scaled.dtype))
    paired = eigenvalues[::-1] if largest else eigenvalues
    runs = operator.multiplicities[::-1] if largest else operator.multiplicities
    directions, squares, kink, rank = _in_one_program(scaled, runs)
    modes = canonical_modes(directions[:, ::-1] if largest else directions, operator)
    point = operator.synthesise(adjoint(modes))
    if group == "SU":
        phase = decompositions.determinant_sign(jax.lax.stop_gradient(point))
        modes = jnp.concatenate([modes[:, :-1], modes[:, -1:] * phase], axis=1)
        point = operator.synthesise(adjoint(modes))
    if group == "SO":
        modes = modes.at[:, -1].multiply(decompositions.determinant_sign(jax.lax.stop_gradient(point)))
        point = operator.synthesise(modes.T)
    value = _value(jnp.where(finite, point, 0), scaled, operator)
    singular = _root(squares) * summary.scale()
    bound = paired_roughness(paired, squares)
    status = jnp.where(kink, Status.KINK, Status.SOLVED)
    status = jnp.where(squares[0] > 0, status, Status.ZERO_SIGNALS)
    status = jnp.where(finite, status, Status.NOT_FINITE)
    missing = jnp.asarray(jnp.nan, real_type(scaled.dtype))
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
) -> tuple[Inexact[Array, "n n"], Float[Array, " n"], Bool[Array, ""], Int[Array, ""]]:
    """Return principal directions, squared singular values, whether a tie is a kink, and the rank.

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
    _, moment = jax.jvp(lambda s: s.moment(adjoint(directions)), (summary,), (change,))
    singular = _root(squares)
    gap = (singular[None, :] - singular[:, None]) * (singular[None, :] + singular[:, None])
    free = _same_run(runs) | _resolution(summary, singular)[1] | (gap == 0)
    omega = jnp.where(free, 0, moment / jnp.where(free, 1, gap))
    turn = jnp.matmul(directions, omega, precision="highest")
    nothing = jnp.zeros((), jax.dtypes.float0)
    return (directions, squares, kink, rank), (turn, jnp.diagonal(moment).real, nothing, nothing)


_in_one_program = fused(_frame, static_argnames="runs")


def _resolution(summary: Summary, singular: Float[Array, " n"]) -> tuple[Bool[Array, " n"], Bool[Array, "n n"]]:
    """Return which singular values are larger than rounding, and which pairs are equal in this precision."""
    seen = singular**summary.exponent
    rounding = jnp.finfo(seen.dtype).eps * seen[0]
    return decompositions.resolved(seen), jnp.abs(seen[:, None] - seen[None, :]) <= 8 * rounding


def _root(squares: Float[Array, " n"]) -> Float[Array, " n"]:
    """Return square roots whose derivative at zero is zero, not infinite."""
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def _same_run(runs: tuple[int, ...]) -> Bool[Array, "n n"]:
    run = np.repeat(np.arange(len(runs)), runs)
    return jnp.asarray(run[:, None] == run[None, :])


@jax.custom_jvp
def _value(point: Inexact[Array, "n n"], summary: Summary, operator: Operator) -> Float[Array, ""]:
    """Return the objective at the extremum. A stationary point adds nothing to the derivative (envelope theorem)."""
    return roughness(point, summary, operator)


@_value.defjvp
def _value_jvp(primals, tangents):
    point, summary, operator = primals
    fixed = functools.partial(roughness, point)
    _, change = jax.jvp(fixed, (summary, operator), tangents[1:])
    return _value(point, summary, operator), change
