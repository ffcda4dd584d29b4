"""Solve prepared problems: one, a batch in one compiled program, or a batch in slices that can be stopped."""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxdescramble._base.programs import quick_jit
from jaxdescramble.descrambling._iterate import iterate, iterate_in_slices
from jaxdescramble.descrambling._permute import permute
from jaxdescramble.descrambling._planning import Answer, DirectSolver
from jaxdescramble.objectives import Objective, Summary
from jaxdescramble.objectives.summaries import effective_samples
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.solve import is_iterative
from jaxdescramble.solvers.watch import Watch


def solve(
    objective: Objective,
    solver: Solver | DirectSolver,
    group: str,
    summary: Summary,
    start: Array | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
) -> dict[str, Array]:
    """Solve one problem; return the fields of a `Descrambling` without the objective, which has no batch axes.

    >>> from jaxdescramble import exact, objectives
    >>> summary = objectives.smoothness().summarise(jnp.eye(3))
    >>> sorted(solve(objectives.smoothness(), exact.ClosedForm(), "O", summary))[:4]
    ['bound', 'classes', 'gap', 'initial_value']
    """
    if group == "permutation":
        found = permute(objective, summary, restarts, key)
    elif is_iterative(solver):
        found = iterate(objective, summary, group, solver, start, restarts, key)
    else:
        found = cast(DirectSolver, solver)(objective, summary, group)
    return fields_of(found, *_given(objective, summary), group)


def _given(objective: Objective, summary: Summary) -> tuple[Array, Array]:
    """Return the value of the raw frame (P = 1), and the effective number of samples."""
    return objective(jnp.eye(summary.size, dtype=summary.dtype), summary), effective_samples(summary)


def fields_of(found: Answer, initial_value: Array, samples: Array, group: str) -> dict[str, Array]:
    """Return the fields of a `Descrambling` from the result of a solver, and the values of the problem."""
    residual = jnp.asarray(getattr(found, "residual", 0.0), found.value.dtype)  # a closed form is exact
    return {
        "point": found.point,
        "value": found.value,
        "initial_value": initial_value,
        "bound": found.bound,
        "gap": found.value - found.bound,
        "rank": found.rank,
        "steps": jnp.asarray(getattr(found, "steps", 0), jnp.int32),
        "status": found.status,
        "singular_values": found.singular_values,
        # A closed form searches the whole group.
        "classes": jnp.asarray(getattr(found, "classes", 2 if group == "O" else 1), jnp.int32),
        "samples": samples,
        "residual": jnp.broadcast_to(residual, found.value.shape),
        "left_out": jnp.zeros_like(found.value),
    }


@functools.partial(jax.jit, static_argnames=("group", "restarts", "axes"))
def solve_summary(
    objective: Objective,
    solver: Solver | DirectSolver,
    group: str,
    summary: Summary,
    start: Array | None,
    restarts: int,
    key: PRNGKeyArray | None,
    axes: int,
) -> dict[str, Array]:
    def one(summary: Summary, start: Array | None) -> dict[str, Array]:
        return solve(objective, solver, group, summary, start, restarts, key)

    each = None if start is None or start.ndim == 2 else 0
    for _ in range(axes):
        one = jax.vmap(one, (0, each))
    return one(summary, start)


@functools.partial(jax.jit, static_argnames=("group", "restarts"))
def solve_signals(
    objective: Objective,
    solver: Solver | DirectSolver,
    group: str,
    signals: Array,
    start: Array | None,
    restarts: int,
    key: PRNGKeyArray | None,
    weights: Array | None,
) -> dict[str, Array]:
    summaries = summarised(objective, signals, weights)
    return solve_summary(objective, solver, group, summaries, start, restarts, key, signals.ndim - 2)


@quick_jit
def summarised(objective: Objective, signals: Array, weights: Array | None) -> Summary:
    summarise = objective.summarise
    for _ in range(signals.ndim - 2):
        summarise = jax.vmap(summarise)
    return summarise(signals, weights)


def solve_in_slices(
    objective: Objective,
    solver: Solver,
    group: str,
    summaries: Summary,
    start: Array | None,
    restarts: int,
    key: PRNGKeyArray | None,
    axes: int,
    watch: Watch,
) -> dict[str, Array]:
    """Do what `solve_summary` does, outside `jit`: the host loops over the batch axes, flattened into one."""
    batch = jax.tree.leaves(summaries)[0].shape[:axes]
    flat = _flat(summaries, axes)
    start = start if start is None or start.ndim == 2 else _flat(start, axes)
    given = _given_all(objective, flat)
    found = iterate_in_slices(objective, flat, group, solver, start, restarts, key, watch)
    return _fields_of_all(found, *given, group, batch)


@functools.partial(quick_jit, static_argnames="axes")
def _flat(tree: PyTree, axes: int) -> PyTree:
    """Merge the leading axes into one; without leading axes, add one of size 1."""
    return jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *leaf.shape[axes:])), tree)


@quick_jit
def _given_all(objective: Objective, summaries: Summary) -> tuple[Array, Array]:
    return jax.vmap(functools.partial(_given, objective))(summaries)


@functools.partial(quick_jit, static_argnames=("group", "batch"))
def _fields_of_all(
    found: Answer, initial_value: Array, samples: Array, group: str, batch: tuple[int, ...]
) -> dict[str, Array]:
    fields = jax.vmap(functools.partial(fields_of, group=group))(found, initial_value, samples)
    return {name: jnp.reshape(field, (*batch, *field.shape[1:])) for name, field in fields.items()}
