"""How sure is an answer? Descramblers of resampled signals, aligned with each other, and bands of their readings."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import one_of, one_with, positive_integer, random_key
from jaxdescramble._base.products import is_complex, matmul, real_type, squared
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble.descrambling._planning import DirectSolver, near_start
from jaxdescramble.descrambling._unitary import UNITARY, as_columns, check_problem
from jaxdescramble.descrambling.result import weighed
from jaxdescramble.descrambling.signals import descramble, with_defaults
from jaxdescramble.exact import Phases, Stabiliser
from jaxdescramble.exact.gauge import Gauge
from jaxdescramble.manifolds.orthogonal import NAMES
from jaxdescramble.objectives import Objective
from jaxdescramble.objectives.weighing import drawn, effective_number
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.solve import is_iterative


@functools.partial(register_dataclass, data_fields=["point", "points", "values", "distances"], meta_fields=[])
@dataclasses.dataclass(frozen=True, repr=False)
class Bootstrap(Stored):
    """Descramblers of resampled signals, and their distances from the descrambler of the signals themselves.

    Attributes:
        point: the descrambler P of the signals themselves.
        points: the descramblers P_k of the resampled signals, each moved as near to P as its gauge allows.
        values: the objective at P_k on the resampled signals of draw k.
        distances: `||P_k - P||_F`, from 0 (the samples determine P) to `2 sqrt(n)`.
    """

    point: Inexact[Array, "k n"]
    points: Inexact[Array, "draws k n"]
    values: Float[Array, " draws"]
    distances: Float[Array, " draws"]

    def band(self, reading: Callable[[Inexact[Array, "k n"]], PyTree], level: float = 0.9) -> tuple[PyTree, PyTree]:
        """Return the band in which a reading lies: quantiles of `reading(P_k)` over the draws, entry by entry.

        Args:
            reading: a function of P, such as `lambda P: P @ W` for a band of the descrambled weight. It returns real
                numbers; if P is complex, read absolute values or both parts.
            level: fraction of the draws inside the band.

        Returns:
            The lower and the upper end, each with the structure that `reading` returns.

        Raises:
            ValueError: if `level` is not between 0 and 1.
            TypeError: if the reading is complex, because complex numbers have no quantiles.

        >>> S = jax.random.normal(jax.random.key(0), (4, 50)) * jnp.asarray([[4.0], [3.0], [2.0], [1.0]])
        >>> low, high = bootstrap(S, key=jax.random.key(1), draws=20).band(lambda P: P @ S[:, 0])
        >>> low.shape, bool((low <= high).all())
        ((4,), True)
        """
        if not 0 < level < 1:
            raise ValueError(f"level: expected a number between 0 and 1, got {level!r}.")
        read = jax.lax.map(reading, self.points)
        for leaf in jax.tree.leaves(read):
            if is_complex(leaf):
                raise TypeError(
                    f"reading: returned complex numbers ({leaf.dtype}), which have no order and no quantiles. Read "
                    "real numbers: lambda P: jnp.abs(P @ W), or lambda P: (P.real, P.imag)."
                )
        tails = jnp.asarray([(1 - level) / 2, (1 + level) / 2])
        ends = jax.tree.map(lambda leaf: jnp.quantile(leaf, tails.astype(leaf.dtype), axis=0), read)
        return jax.tree.map(lambda leaf: leaf[0], ends), jax.tree.map(lambda leaf: leaf[1], ends)


def bootstrap(
    signals: ArrayLike,
    objective: Objective | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    key: PRNGKeyArray,
    draws: int = 200,
    group: str = "O",
    rank: int | None = None,
    gauge: Gauge | None = None,
    weights: ArrayLike | None = None,
    size: int | None = None,
) -> Bootstrap:
    """Descramble resampled signals, to see how much the descrambler changes with the choice of the samples.

    Use it before you trust details of a descrambled weight; `Bootstrap.band` gives their uncertainty. Every draw takes
    as many columns of S as there are, with replacement, and descrambles them, all in one program. Many answers can be
    equally good (their group is the gauge, such as the signs of modes). So each descrambler is first aligned: the gauge
    moves it as near as possible to the descrambler P of the signals themselves. For complex signals (group "U"), the
    gauge is unitary: a sign becomes a phase, and O(k) becomes U(k).

    With weights, a column is drawn with a probability proportional to its weight, and then counts once. The number of
    columns in a draw is the effective number of samples, `(sum w)^2 / sum w^2`, rounded; for weights of zeros and ones
    this is the number of ones. If your weights are counts (weight 3 stands for three independent samples), give
    `size=sum(weights)`: the draws are then distributed like draws from the repeated samples.

    Args:
        signals: the signals S, shape (features, samples); the samples must be independent.
        objective: what "readable" means; None means `objectives.smoothness()`.
        solver: the solver; None means the one that suits the objective.
        group: "O" allows both determinants; "SO" allows determinant +1 only. "U" and "SU" for complex signals. The
            alignment may change the determinant.
        key: random key of the draws.
        draws: number of draws.
        rank: k, the number of principal components that are kept, see `descramble`; each draw finds its own components.
            None keeps all features.
        gauge: the group of orthogonal matrices (k x k with a rank) that leaves the objective unchanged, such as
            `exact.Stabiliser(operator)` or `exact.CircularShifts(n)`. None means `exact.Stabiliser` of the operator
            if the objective has one (smoothness). Otherwise it means no alignment of real descramblers, and
            `exact.Phases` of complex ones: a phase for each neuron if the objective reads each neuron's absolute
            values (sparsity, entropy, locality), and a common phase if it compares neurons (total variation). Give
            it for objectives of your own from `objectives.from_function`, whose symmetries are unknown.
        weights: how much each sample counts, shape (samples,), at least 0; None means 1 each.
        size: number of columns in a draw; None means the number of samples, or the effective number with weights.

    Returns:
        A `Bootstrap(point, points, values, distances)`. `distances` are `||P_k - P||_F`, after the alignment.

    Raises:
        TypeError, ValueError: if an argument is wrong (see `descramble`), `draws` or `size` is less than 1, or the
            objective applies to a weight matrix, whose columns are no samples.

    >>> found = bootstrap(jax.random.normal(jax.random.key(0), (4, 50)), key=jax.random.key(1), draws=8)
    >>> found.points.shape, found.distances.shape
    ((8, 4, 4), (8,))

    Source: Efron, Ann. Statist. 7 (1979) 1.
    """
    one_of(group, "group", (*NAMES, *UNITARY))
    objective, solver = with_defaults(objective, solver, group, more_groups=UNITARY)
    S = as_columns(signals, group, "(features, samples)", (2,))
    check_problem(objective, S, group, rank)
    draws, key = positive_integer(draws, "draws"), random_key(key)
    if gauge is not None:
        one_with(gauge, "gauge", ("size", "nearest"), "a gauge such as exact.Stabiliser(operator)")
        if rank is None and gauge.size != len(S):
            raise ValueError(f"gauge: of {gauge.size} points, where the signals have {len(S)} features.")
        if rank is not None and gauge.size != rank:
            raise ValueError(f"gauge: of {gauge.size} points, where the rank is {rank}.")
    size = None if size is None else positive_integer(size, "size")
    if objective.applies_to != "signals":
        raise ValueError(
            f"objective: {objective.name} applies to a weight matrix, or to columns in an order that matters "
            "(applies_to = 'weights'); such columns cannot be drawn at random. Use an objective of samples."
        )
    S, weights = weighed(objective, S, weights)
    point = descramble(S, objective, solver, group=group, rank=rank, weights=weights).point
    operator = objective.operator(len(point))
    if gauge is None:
        gauge = _gauge(objective, point) if operator is None else Stabiliser(operator)
    keys = jax.random.split(key, draws)
    points, values = _resampled(objective, solver, gauge, S, point, keys, group, weights, size, rank)
    return Bootstrap(point, points, values, jnp.sqrt(jnp.sum(squared(points - point[None]), axis=(1, 2))))


def _gauge(objective: Objective, point: Array) -> Phases | None:
    """Return the phases that an objective without an operator leaves free; None for real descramblers.

    Objectives of complex signals read absolute values of `P S` or of sums of its rows. So a neuron's phase is free if
    its sign is, and a common phase is always free.
    """
    if not is_complex(point):
        return None
    symmetries = objective.symmetries(len(point))
    return None if symmetries is None else Phases(len(point), common=not symmetries.every_sign)


@functools.partial(jax.jit, static_argnames=("group", "size", "rank"))
def _resampled(
    objective: Objective,
    solver: Solver | DirectSolver,
    gauge: Gauge | None,
    signals: Array,
    point: Array,
    keys: Array,
    group: str,
    weights: Array | None,
    size: int | None,
    rank: int | None,
) -> tuple[Array, Array]:
    count = signals.shape[1] if size is None else size
    taken = None
    if weights is not None and size is None:
        # Weights may be traced, so their number is not static: draw all columns, and count the first `number` of them.
        number = jnp.maximum(jnp.round(effective_number(weights)), 1)
        taken = (jnp.arange(count) < number).astype(real_type(signals.dtype))

    def one(key: Array) -> tuple[Array, Array]:
        if weights is None:
            columns = jax.random.randint(key, (count,), 0, signals.shape[1])
        else:
            columns = drawn(key, weights, count)
        # An iterative solver starts from P: of several minima, the one nearest to P is wanted.
        start = point if is_iterative(solver) else None
        near = near_start(solver)
        found = descramble(signals[:, columns], objective, near, group=group, rank=rank, weights=taken, start=start)
        if gauge is None:
            return found.point, found.value
        return matmul(gauge.nearest(found.point, point), found.point), found.value

    return jax.lax.map(one, keys)
