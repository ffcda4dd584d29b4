"""Descramble signals: one layer's, many layers' in one program, or a summary of more than memory holds."""

import functools
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble.checks import one_of, real_array
from jaxdescramble.descramble.result import Descrambling, batched
from jaxdescramble.exact import ClosedForm, Extremum
from jaxdescramble.groups import orthogonal
from jaxdescramble.objectives import Objective, Summary, smoothness

AXES = "(features, samples) or (layers, ..., features, samples)"


@runtime_checkable
class Solver(Protocol):
    """A value that minimises an objective over a group: `ClosedForm()`, or an iterative one. A pytree of numbers."""

    def __call__(self, objective: Objective, summary: Summary, group: str) -> Extremum: ...


def descramble(
    signals: ArrayLike | Summary | Sequence[ArrayLike | Summary],
    objective: Objective | None = None,
    solver: Solver | None = None,
    *,
    group: str = "O",
) -> Any:
    """Find the P in O(n) that makes signals readable: `argmin_P objective(P S)`.

    Args:
        signals: S, shape (features, samples); or (layers, ..., features, samples), solved in one vmapped program; or a
            list of such arrays of any sizes; or a summary built from batches (`objective.empty`, `.update`, `.merge`),
            or a list of summaries.
        objective: what "readable" means; `objectives.smoothness()` if none is given.
        solver: how to look for it; the closed form if none is given.
        group: "O", or "SO" for determinant one.

    Returns:
        A `Descrambling`; for a list, a list of them. A problem without an answer (NaN, all zero) says so in its status
        and costs the others nothing; `.check()` raises.

    Raises:
        TypeError, ValueError: what can be known from shapes, types and names.

    >>> t = jnp.arange(16) / 16
    >>> wave = jnp.stack([jnp.sin(2 * jnp.pi * (t + phase)) for phase in (0.0, 0.1, 0.4)], axis=1)
    >>> scrambled = orthogonal.random(jax.random.key(0), 16) @ wave
    >>> found = descramble(scrambled)
    >>> bool(found.value < 1e-3 * found.initial_value), int(found.rank)
    (True, 2)

    Source: Amey et al. 2021; the closed form is Sule, Spencer, Czaja 2025.
    """
    objective = smoothness() if objective is None else objective
    solver = ClosedForm() if solver is None else solver
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective: got {type(objective).__name__}; expected an Objective such as objectives.smoothness() - "
            "mind the parentheses - or Objective(function)."
        )
    if not callable(solver) or isinstance(solver, type):
        raise TypeError(f"solver: got {solver!r}; expected a solver value such as exact.ClosedForm().")
    if not all(hasattr(leaf, "dtype") or isinstance(leaf, int | float) for leaf in jax.tree.leaves(solver)):
        raise TypeError(
            f"solver: {solver!r} is no pytree of numbers; decorate its class with jax.tree_util.register_static or "
            "register_dataclass, or wrap a function in jax.tree_util.Partial."
        )
    one_of(group, "group", orthogonal.NAMES)
    if isinstance(signals, list | tuple) and signals and all(map(_is_problem, signals)):
        return [descramble(item, objective, solver, group=group) for item in signals]
    if hasattr(signals, "principal"):
        axes = jax.tree.leaves(signals)[0].ndim - 2
        return Descrambling(**_solve_summary(objective, solver, group, signals, axes), objective=objective)  # pyright: ignore
    columns = real_array(signals, "signals", range(2, 9), AXES)  # pyright: ignore
    return Descrambling(**_solve_signals(objective, solver, group, columns), objective=objective)


def _solve(objective: Objective, solver: Solver, group: str, summary: Summary) -> dict[str, Array]:
    """The fields of a `Descrambling`, its objective left out: that one is not to be batched."""
    found = solver(objective, summary, group)
    return {
        "point": found.point,
        "value": found.value,
        "initial_value": objective(jnp.eye(summary.size, dtype=summary.dtype), summary),
        "bound": found.bound,
        "gap": found.value - found.bound,
        "rank": found.rank,
        "steps": jnp.asarray(getattr(found, "steps", 0), jnp.int32),
        "status": found.status,
        "singular_values": found.singular_values,
    }


@functools.partial(jax.jit, static_argnames=("group", "axes"))
def _solve_summary(objective: Objective, solver: Solver, group: str, summary: Summary, axes: int) -> dict[str, Array]:
    def one(objective: Objective, summary: Summary) -> dict[str, Array]:
        return _solve(objective, solver, group, summary)

    return batched(one, axes)(objective, summary)


@functools.partial(jax.jit, static_argnames="group")
def _solve_signals(objective: Objective, solver: Solver, group: str, signals: Array) -> dict[str, Array]:
    def one(objective: Objective, columns: Array) -> dict[str, Array]:
        return _solve(objective, solver, group, objective.summarise(columns))

    return batched(one, signals.ndim - 2)(objective, signals)


def _is_problem(item: object) -> bool:
    """Whether an item of a list is signals or a summary of them."""
    return getattr(item, "ndim", 0) >= 2 or hasattr(item, "principal")
