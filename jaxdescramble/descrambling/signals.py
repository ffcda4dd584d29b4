"""Descramble signals of one layer, of many layers in one program, or a summary of more data than memory holds."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, overload

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble._base.cautions import caution
from jaxdescramble._base.checks import (
    is_traced,
    one_of,
    positive_integer,
    random_key,
    real_array,
    same_size,
    true_or_false,
)
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._how import how
from jaxdescramble.descrambling._lists import alike_together, is_problem
from jaxdescramble.descrambling._planning import planned, solver_for, unitary_solver_for
from jaxdescramble.descrambling._shared import side_by_side
from jaxdescramble.descrambling._unitary import UNITARY, as_columns, check_problem, promoted, start_on
from jaxdescramble.descrambling.descramblings import Descramblings
from jaxdescramble.descrambling.result import Descrambling, weighed
from jaxdescramble.descrambling.solving import (
    DirectSolver,
    solve_in_slices,
    solve_signals,
    solve_summary,
    summarised,
)
from jaxdescramble.descrambling.wide import checked_rank, first_turn, keep, refuse_rows, widened
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Objective, Samples, Sketch, Summary, smoothness
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.options import check_solver
from jaxdescramble.solvers.solve import is_iterative
from jaxdescramble.solvers.watch import Interrupted, Progress, Watch, watched

GROUPS = (*orthogonal.NAMES, "permutation")
"""The groups of real matrices."""
LARGE = 1024
"""With more features than this, and fewer samples than features, the signals were probably passed transposed."""
AXES = "(features, samples) or (layers, ..., features, samples)"


@overload
def descramble(
    signals: ArrayLike | Summary,
    objective: Objective | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    rank: int | None = None,
    weights: ArrayLike | None = None,
    start: ArrayLike | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    shared: Literal[False] = False,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Descrambling: ...


@overload
def descramble(
    signals: Sequence[ArrayLike | Summary],
    objective: Objective | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    rank: int | None = None,
    weights: Sequence[ArrayLike | None] | None = None,
    start: ArrayLike | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    shared: Literal[True],
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Descrambling: ...


@overload
def descramble(
    signals: Sequence[ArrayLike | Summary],
    objective: Objective | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    rank: int | None = None,
    weights: ArrayLike | Sequence[ArrayLike | None] | None = None,
    start: ArrayLike | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    shared: Literal[False] = False,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Descramblings: ...


def descramble(
    signals: ArrayLike | Summary | Sequence[ArrayLike | Summary],
    objective: Objective | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    rank: int | None = None,
    weights: ArrayLike | Sequence[ArrayLike | None] | None = None,
    start: ArrayLike | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    shared: bool = False,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Descrambling | Descramblings:
    """Find the P in O(n), or U(n), that makes signals readable: `argmin_P objective(P S)`.

    Call `descramble(S).check()` first: it finds the smoothest frame, or raises an error with the reason.

    Args:
        signals: the signals S, shape (features, samples). Leading axes (layers, ..., features, samples) are a batch,
            solved in one vmapped program. A list holds arrays of any sizes; arrays of one shape are solved in one
            program. If the data do not fit in memory, pass a summary (what the objective needs to know about them), or
            a list of summaries; build it from batches with `objective.empty`, `.update` and `.merge`.
        objective: what "readable" means; None means `objectives.smoothness()`.
        solver: an iterative solver, such as `solvers.LBFGS()`, or a direct one, such as `exact.ClosedForm()`, which is
            called as `solver(objective, summary, group)`. Both kinds must be pytrees of numbers. None means the closed
            form if there is one, else `solvers.PolarPower()` if the objective is concave in P. Otherwise it is L-BFGS
            with the objective's model of the Hessian: roughly from the computed start and from a second one, in single
            precision, with corners rounded less and less; then finely, from the better answer, until ten steps lower
            the value by less than a hundred thousandth (`DECREASE_SMALL`). For total variation and locality on a line,
            the second start is made of sparse sources, if there are as many samples as features; otherwise it is a
            random point. The field `how` says what was done.
        group: "O" allows both determinants; "SO" allows determinant +1 only. "permutation" searches S(n): the point is
            a permutation matrix, and `reorder` takes the order of the neurons, `point.argmax(axis=-1)`. It needs an
            objective that is a quadratic assignment problem over permutations (one with `Objective.assignment`), and
            raises an error if you give a solver or a start. "U" searches the unitary matrices, and "SU" those of
            determinant 1, for complex signals (quadrature detection, Fourier features). P is then complex. With
            the closed form, each component has a free phase (the one that brings P nearest to the identity is taken,
            and is a constant in derivatives), and real signals have the answer of "O", as complex numbers. Smoothness,
            periodicity, total variation, sparsity, entropy and locality, and sums of them, take complex signals.
        rank: k, for wide layers: `P = R U_k^T` has k rows, where the columns of U_k are the k leading left singular
            vectors of the (weighted) signals, and R in O(k) is found on the k signals `U_k^T S`. `P^T P` is the
            projector onto the kept directions, and `left_out` of the result is the fraction of the energy that they do
            not contain. Everything about neurons (`shape`, operators) means the k descrambled ones. P is not the
            minimiser over all orthonormal k x n matrices, because that throws the signals away: `P S = 0` is perfectly
            smooth. If singular values k and k + 1 are equal, the directions have no derivative, and `SOLVED` becomes
            `KINK`. None keeps all features.
        weights: how much each sample counts, shape (samples,) or (layers, ..., samples), at least 0; None means 1 each.
            A whole number counts a sample that many times; 0 leaves it out, whatever it holds (padding). For a list of
            signals, give one such array for all, or a list with one entry (an array or None) for each. A summary
            already contains its weights (`objective.summarise(signals, weights)`).
        start: the first point P of an iterative solver, orthogonal, shape (features, features), or with the leading
            axes of the signals; with "SO", its determinant must be +1. With `rank=k`, a P of shape (k, features), as
            the point of an earlier answer, or R of shape (k, k) if k < features. Without restarts, the answer keeps the
            determinant of the start. None means the identity (the raw frame), or the minimiser of the objective
            linearised there, or the principal components on the slowest modes of its differences, whichever has the
            lowest value. With "O", if the objective does not take the same values in both determinant classes, both are
            searched.
        restarts: number of further solves of an iterative solver, from Haar-random starts; the best result is kept.
            For an L1 norm of the signals or of their differences, and for locality on a line, the best of that many
            searches for sparse sources is another start (`solvers.FromSources`). If you give a solver and the objective
            is an L1 norm, these searches take the place of random starts. With "permutation", number of further
            searches.
        key: random key of the restarts. With "permutation" you can give it without restarts, because there is always
            one search; None then means a fixed key.
        shared: find one P for all signals of a list, such as a stream of values that is read at several layers. It
            minimises the mean of the objective over the layers; each counts the same, however loud it is and however
            many samples it has (a layer of zeros counts nothing). All arrays then have the same features, and the
            result is one `Descrambling`; `score` it on each layer. An entry of `weights` may be a number, the share of
            the layer. Summaries of one kind (`Gram`, `Factor`, `Sketch`) are merged in the same way. Objectives without
            such a mean (`l4`, `similarity`) are refused.
        progress: called as `progress(stage, done, total)` several times a second, outside `jit`.
        max_seconds: stop iterative solvers after this many seconds; the status is then `TIME_SPENT`.

    Returns:
        A `Descrambling`; for a list, a `Descramblings`. Its `point` is P, `value` the objective at P, `bound` a lower
        bound for all P, and `rank` the number of principal components of S above rounding. A problem without an answer
        (NaN, all zero) has a status that says so, and does not affect the other problems; `.check()` raises.

    Raises:
        TypeError, ValueError: if a shape, a type or a name is wrong; if complex signals come with a group of real
            matrices, or with an objective that takes real signals only; if there are restarts but no key; if weights
            are negative, not finite, all zero, complex or of another shape, or the objective cannot use them.
        Interrupted: on Ctrl-C; it is a `KeyboardInterrupt` whose `result` holds what was found so far.

    >>> t = jnp.arange(16) / 16
    >>> wave = jnp.stack([jnp.sin(2 * jnp.pi * (t + phase)) for phase in (0.0, 0.1, 0.4)], axis=1)
    >>> scrambled = orthogonal.random(jax.random.key(0), 16) @ wave
    >>> found = descramble(scrambled)
    >>> bool(found.value < 1e-3 * found.initial_value), int(found.rank)
    (True, 2)

    Keep two of the 16 directions; they contain all of this wave:

    >>> kept = descramble(scrambled, rank=2)
    >>> kept.point.shape, round(float(kept.left_out), 4)
    ((2, 16), 0.0)

    Source: Amey et al. 2021; the closed form is Sule, Spencer, Czaja 2025.
    """
    given = (signals, objective, solver, weights, start, key)
    watch = watched(progress, max_seconds, given, "descramble")
    if true_or_false(shared, "shared"):
        if not (isinstance(signals, list | tuple) and signals and all(map(is_problem, signals))):
            raise TypeError("shared: needs a list of signals, one array (features, samples) for each layer.")
        chosen, _ = with_defaults(objective, solver, group, start, restarts, key, UNITARY)
        signals, weights = side_by_side(signals, weights, chosen)
    if isinstance(signals, list | tuple) and signals and all(map(is_problem, signals)):
        found = descramble_each(watch, signals, objective, solver, group, weights, start, restarts, key, rank)
    else:
        found = descramble_one(watch, signals, objective, solver, group, weights, start, restarts, key, rank)
    if watch is not None and watch.stopped == Status.INTERRUPTED:
        raise Interrupted("descramble was interrupted; what was found so far is in .result of this exception.", found)
    return found


def descramble_each(
    watch: Watch | None,
    signals: Sequence[ArrayLike | Summary],
    objective: Objective | None,
    solver: Solver | DirectSolver | None,
    group: str,
    weights: object,
    start: ArrayLike | None,
    restarts: int,
    key: PRNGKeyArray | None,
    rank: int | None = None,
) -> Descramblings:
    """Descramble a list, under a watch that may follow other calls too; None means that nobody follows."""
    objective, _ = with_defaults(objective, solver, group, start, restarts, key, UNITARY)
    alike = functools.partial(
        descramble_one, watch, objective=objective, solver=solver, group=group, restarts=restarts, key=key, rank=rank
    )
    return alike_together(list(signals), alike, start, watch, weights)


def descramble_one(
    watch: Watch | None,
    signals: object,
    objective: Objective | None,
    solver: Solver | DirectSolver | None,
    group: str,
    weights: object,
    start: ArrayLike | None,
    restarts: int,
    key: PRNGKeyArray | None,
    rank: int | None = None,
) -> Descrambling:
    """Descramble one layer, or layers of one size along leading axes, under a watch as in `descramble_each`."""
    objective, solver = with_defaults(objective, solver, group, start, restarts, key, UNITARY)
    in_slices = solver if is_iterative(solver) and group != "permutation" else None
    weighs = None
    if isinstance(signals, Summary):
        if weights is not None:
            raise TypeError("weights: a summary holds its samples' weights already; give them to objective.summarise.")
        if rank is None and isinstance(signals, Sketch):
            raise TypeError("signals: a Sketch holds few directions of the signals; say how many to use, rank=k.")
        data, axes, n = signals, jax.tree.leaves(signals)[0].ndim - 2, signals.size
    else:
        columns = _columns(signals, rank is None, group)
        axes, n = columns.ndim - 2, columns.shape[-2]
        data, weighs = weighed(objective, columns, weights)
    check_problem(objective, data, group, rank)
    data = promoted(data, solver, group)
    kept = None
    if rank is not None:
        rank = checked_rank(rank, n, group, objective, data)
        kept = keep(data, weighs, rank, axes)
        start = None if start is None else first_turn(start, kept, group)
        data, n = kept.data, rank
    start = _start(start, n, axes, group)
    text = _how(objective, in_slices, solver, group, data, start, restarts, key)
    if watch is not None and in_slices is not None:
        data = data if isinstance(data, Summary) else summarised(objective, data, weighs)
        fields = solve_in_slices(objective, in_slices, group, data, start, restarts, key, axes, watch)
    elif isinstance(data, Summary):
        fields = solve_summary(objective, solver, group, data, start, restarts, key, axes)
    else:
        fields = solve_signals(objective, solver, group, data, start, restarts, key, weighs)
    if kept is not None:
        fields, text = widened(fields, kept), f"{text}, on {rank} principal components"
    return Descrambling(**fields, objective=objective, how=text)


def _how(
    objective: Objective,
    iterative: Solver | None,
    solver: Solver | DirectSolver,
    group: str,
    data: Array | Summary,
    start: Array | None,
    restarts: int,
    key: PRNGKeyArray | None,
) -> str:
    if iterative is not None:
        summary = data if isinstance(data, Summary) else Samples(data)
        solver = planned(objective, summary, iterative, start is not None, restarts, key, group)
    return how(objective, solver, group, start is not None)


def _columns(signals: Any, square: bool, group: str) -> Array:
    columns = as_columns(signals, group, AXES)
    features, samples = columns.shape[-2:]
    if square and features > LARGE and samples < features:
        caution(
            f"signals: {features} features and only {samples} samples, for a P of {features} x {features}. If samples "
            "stand in rows, pass signals.T."
        )
    return columns


def with_defaults(
    objective: Objective | None,
    solver: Solver | DirectSolver | None,
    group: str,
    start: ArrayLike | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    more_groups: tuple[str, ...] = (),
) -> tuple[Objective, Solver | DirectSolver]:
    """Return the objective and the solver with defaults filled in; check everything that needs no signals.

    Raises:
        TypeError, ValueError: if an argument is wrong; see `descramble`.

    >>> with_defaults(None, None, "O")[1]
    ClosedForm()
    """
    objective = smoothness() if objective is None else objective
    one_of(group, "group", (*GROUPS, *more_groups))
    if group == "permutation" and (solver is not None or start is not None):
        raise TypeError("group 'permutation': its search takes no solver and no start; leave them out.")
    objective = an_objective(objective)
    if solver is None:
        solver = unitary_solver_for(objective) if group in UNITARY else solver_for(objective)
    if isinstance(solver, type) or not (callable(solver) or is_iterative(solver)):
        raise TypeError(f"solver: got {solver!r}; expected a solver value, solvers.LBFGS() or exact.ClosedForm().")
    if not all(hasattr(leaf, "dtype") or isinstance(leaf, int | float) for leaf in jax.tree.leaves(solver)):
        raise TypeError(
            f"solver: {solver!r} is no pytree of numbers; decorate its class with jax.tree_util.register_static or "
            "register_dataclass, or wrap a function in jax.tree_util.Partial."
        )
    direct = group != "permutation" and not is_iterative(solver)
    if direct and (start is not None or restarts or key is not None):
        raise TypeError(
            f"{type(solver).__name__} does not iterate, so it takes no start, no restarts and no key; leave them out."
        )
    if is_iterative(solver):
        check_solver(solver)
    _check_restarts(restarts, key, group)
    return objective, solver


def an_objective(value: object) -> Objective:
    """Return `value` if it is an objective.

    Raises:
        TypeError: if it is something else, such as the function that makes the objective.

    >>> an_objective(smoothness()).name
    'smoothness'
    """
    if not isinstance(value, Objective):
        raise TypeError(
            f"objective: got {type(value).__name__}; expected an Objective such as objectives.smoothness() - "
            "mind the parentheses - or objectives.from_function(function)."
        )
    return value


def _check_restarts(restarts: int, key: PRNGKeyArray | None, group: str) -> None:
    restarts = positive_integer(restarts, "restarts", least=0)
    if key is not None:
        random_key(key)
    elif restarts:
        raise ValueError(f"restarts: {restarts} random starts need a key; give key=jax.random.key(seed).")
    if key is not None and not restarts and group != "permutation":
        raise ValueError("key: a key without restarts changes nothing; give restarts=8 or so, or leave the key out.")


def _start(start: ArrayLike | None, n: int, axes: int, group: str) -> Array | None:
    """Return the start as an array: one point, or one for each problem."""
    if start is None:
        return None
    if group in UNITARY:
        return start_on(group, start, n, axes)
    point = real_array(start, "start", {2, axes + 2}, "(features, features), or with the layers in front")
    same_size(point, -1, n, "start", "the signals' features")
    refuse_rows(point, n)
    same_size(point, -2, n, "start", "the signals' features")
    orthogonal.check_orthogonal(point, "start")
    if group == "SO" and not is_traced(point) and (np.linalg.det(np.asarray(point)) < 0).any():
        raise ValueError("start: determinant -1, for group 'SO'; use manifolds.orthogonal.special(start).")
    return point
