"""How sure is it? Descramblers of resampled signals, brought into one gauge, and bands of what is read from them."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import one_with, positive_integer, random_key, real_array
from jaxdescramble._base.products import matmul
from jaxdescramble._base.results import Stored
from jaxdescramble.descrambling.result import weighed
from jaxdescramble.descrambling.signals import descramble, with_defaults
from jaxdescramble.descrambling.solving import DirectSolver
from jaxdescramble.exact import Stabiliser
from jaxdescramble.exact.gauge import Gauge
from jaxdescramble.objectives import Objective
from jaxdescramble.objectives.weighing import drawn, effective_number
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.solve import is_iterative


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["point", "points", "values", "distances"], meta_fields=[]
)
@dataclasses.dataclass(frozen=True, repr=False)
class Bootstrap(Stored):
    """Descramblers of resampled signals.

    Attributes:
        point: P of the signals themselves.
        points: those of the resampled signals, each brought as near to P as the gauge allows.
        values: of the objective, each on its own resampled signals.
        distances: `||P_k - P||_F`.
    """

    point: Float[Array, "n n"]
    points: Float[Array, "draws n n"]
    values: Float[Array, " draws"]
    distances: Float[Array, " draws"]

    def band(self, reading: Callable[[Float[Array, "n n"]], PyTree], level: float = 0.9) -> tuple[PyTree, PyTree]:
        """Between what a reading lies: the quantiles of `reading(P_k)` over the draws, entry by entry.

        Args:
            reading: a function of P: `lambda P: P @ W` for a band of the descrambled weight.
            level: how much lies inside.

        Returns:
            The lower and the upper end, each of the structure of what the reading returns.

        Raises:
            ValueError: a level that is not between 0 and 1.

        >>> S = jax.random.normal(jax.random.key(0), (4, 50)) * jnp.asarray([[4.0], [3.0], [2.0], [1.0]])
        >>> low, high = bootstrap(S, key=jax.random.key(1), draws=20).band(lambda P: P @ S[:, 0])
        >>> low.shape, bool((low <= high).all())
        ((4,), True)
        """
        if not 0 < level < 1:
            raise ValueError(f"level: expected a number between 0 and 1, got {level!r}.")
        read = jax.lax.map(reading, self.points)
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
    gauge: Gauge | None = None,
    weights: ArrayLike | None = None,
    size: int | None = None,
) -> Bootstrap:
    """Descramble resampled signals, to see what of an answer the samples settle and what they leave open.

    Every draw takes as many columns as there are, with replacement, and is solved as `descramble` solves, all in one
    program. An answer is free up to gauge, so each is first brought to the answer of the signals themselves.

    With weights, columns are drawn with probabilities proportional to them, and count once each. A draw then takes as
    many columns as the effective number of samples, `(sum w)^2 / sum w^2` rounded: for weights of zeros and ones, as
    many as there are ones. Where a weight counts independent samples, give `size=sum(weights)`: then the draws are
    distributed as those of the repeated samples.

    Args:
        signals: S, shape (features, samples); columns are taken to be independent.
        objective, solver, group: as in `descramble`.
        key: source of chance.
        draws: how many.
        gauge: what an answer is free up to; if none is given, all that commutes with the operator of a quadratic
            objective, and nothing for other objectives.
        weights: of the samples, as in `descramble`.
        size: columns to a draw; None as said above.

    Raises:
        TypeError, ValueError: as `descramble`; draws or size below 1.

    >>> found = bootstrap(jax.random.normal(jax.random.key(0), (4, 50)), key=jax.random.key(1), draws=8)
    >>> found.points.shape, found.distances.shape
    ((8, 4, 4), (8,))

    Source: Efron, Ann. Statist. 7 (1979) 1.
    """
    objective, solver = with_defaults(objective, solver, group)
    S = real_array(signals, "signals", (2,), "(features, samples)")
    draws, key = positive_integer(draws, "draws"), random_key(key)
    if gauge is not None:
        one_with(gauge, "gauge", ("size", "nearest"), "a gauge such as exact.Stabiliser(operator)")
        if gauge.size != len(S):
            raise ValueError(f"gauge: of {gauge.size} points, where the signals have {len(S)} features.")
    size = None if size is None else positive_integer(size, "size")
    S, weights = weighed(objective, S, weights)
    point = descramble(S, objective, solver, group=group, weights=weights).point
    operator = objective.operator(S.shape[0])
    if gauge is None and operator is not None:
        gauge = Stabiliser(operator)
    points, values = _resampled(objective, solver, gauge, S, point, jax.random.split(key, draws), group, weights, size)
    return Bootstrap(point, points, values, jnp.sqrt(jnp.sum((points - point[None]) ** 2, axis=(1, 2))))


@functools.partial(jax.jit, static_argnames=("group", "size"))
def _resampled(
    objective: Objective,
    solver: Any,
    gauge: Any,
    signals: Array,
    point: Array,
    keys: Array,
    group: str,
    weights: Array | None,
    size: int | None,
) -> tuple[Array, Array]:
    count = signals.shape[1] if size is None else size
    taken = None
    if weights is not None and size is None:
        # Weights may be traced: all columns are drawn, and the first so many of them count.
        number = jnp.maximum(jnp.round(effective_number(weights)), 1)
        taken = (jnp.arange(count) < number).astype(signals.dtype)

    def one(key: Array) -> tuple[Array, Array]:
        if weights is None:
            columns = jax.random.randint(key, (count,), 0, signals.shape[1])
        else:
            columns = drawn(key, weights, count)
        # From the answer itself, where there is a way to go: the nearest minimum is the one that is meant.
        start: dict[str, Any] = {"start": point} if is_iterative(solver) else {}
        found = descramble(signals[:, columns], objective, solver, group=group, weights=taken, **start)
        if gauge is None:
            return found.point, found.value
        return matmul(gauge.nearest(found.point, point), found.point), found.value

    return jax.lax.map(one, keys)
