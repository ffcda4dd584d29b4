"""Run a solver on one problem or on a batch, without derivatives."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import TypeGuard

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxdescramble._base.checks import staged
from jaxdescramble._base.programs import quick_jit
from jaxdescramble.manifolds.manifold import Manifold
from jaxdescramble.solvers._slices import solve_in_slices, solve_many_in_slices
from jaxdescramble.solvers.descent import Descent, Function, RunOptions, Solver, descend
from jaxdescramble.solvers.solution import Solution


def is_iterative(solver: object) -> TypeGuard[Solver]:
    """Return whether a value is a solver of `minimise`: it has `bind`, or it is a combinator and has `run`.

    >>> from jaxdescramble.solvers import LBFGS
    >>> is_iterative(LBFGS()), is_iterative(LBFGS)
    (True, False)
    """
    return not isinstance(solver, type) and (hasattr(solver, "bind") or hasattr(solver, "run"))


def solve(function: Function, start: PyTree, args: tuple, solver: Solver, options: RunOptions) -> Solution:
    """Run a solver: step by step if it has `bind`, otherwise by its own `run`.

    Outside `jit`, if the options have a watch, the solve runs in slices.
    """
    options = _untraced(options, (function, start, args, solver))
    if not isinstance(solver, Descent):
        return solver.run(function, start, args, options)
    if options.watch is not None:
        return solve_in_slices(function, start, args, solver, options, options.watch)
    leaves, structure = jax.tree.flatten((function, start, args, solver, options))
    return Solution(*_each(_Operands(structure), leaves))


def solve_each(
    function: Function,
    starts: PyTree,
    args: tuple,
    solver: Solver,
    options: RunOptions,
    own: bool = False,
    reserve: float = 0.0,
) -> Solution:
    """Run a solver from each of several starts; the result has a leading axis.

    Args:
        function, solver, options: see `solve`.
        starts: one start for each solve.
        args: data of the function; with `own`, the leading axis of every leaf counts the solves.
        own: whether each solve has its own data.
        reserve: leave out the remaining starts if less time is left than the last solve took, times this number. It
            applies to solves that run one after another, with a deadline.
    """
    options = _untraced(options, (function, starts, args, solver))
    if options.watch is None:
        return jax.vmap(lambda start, mine: solve(function, start, mine, solver, options), (0, 0 if own else None))(
            starts, args
        )
    if isinstance(solver, Descent):
        return solve_many_in_slices(function, starts, args, solver, options, options.watch, own)
    found = []
    count = len(jax.tree.leaves(starts)[0])
    for k in range(count):
        start = jax.tree.map(lambda leaf, k=k: leaf[k], starts)
        mine = jax.tree.map(lambda leaf, k=k: leaf[k], args) if own else args
        with options.watch.stage(f"{k + 1} of {count}"), timed(options):
            found.append(solve(function, start, mine, solver, options))
        if reserve and options.watch.short_of(reserve):
            break
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@quick_jit
def best(found: Solution) -> Solution:
    """Return the solution of least value among several along the leading axis; `evaluations` is their sum."""
    chosen = jnp.argmin(jnp.where(jnp.isnan(found.value), jnp.inf, found.value), axis=0)

    def pick(leaf: Array) -> Array:
        index = chosen.reshape(1, *chosen.shape, *(1,) * (leaf.ndim - 1 - chosen.ndim))
        return jnp.take_along_axis(leaf, index, axis=0)[0]

    return dataclasses.replace(
        jax.tree.map(pick, found), evaluations=jnp.sum(found.evaluations, axis=0, dtype=jnp.int32)
    )


@quick_jit
def best_of(found: list[Solution]) -> Solution:
    """Return the solution of least value among several; `evaluations` is their sum."""
    return best(jax.tree.map(lambda *leaves: jnp.stack(leaves), *found))


def mirrored(function: object, point: PyTree) -> bool:
    """Return whether a function of n x n matrices declares that both determinant classes have the same values.

    >>> from jaxdescramble.objectives import sparsity
    >>> mirrored(sparsity(), jnp.eye(4)), mirrored(jnp.sum, jnp.eye(4))
    (True, False)
    """
    known = getattr(function, "mirrored", None)
    return known is not None and bool(known(point.shape[-1]))


def several_classes(function: object, start: PyTree, options: RunOptions) -> bool:
    """Return whether a search from one start would miss answers in other determinant classes."""
    if options.manifold.classes(start) == 1:
        return False
    return not (options.manifold.frames and mirrored(function, start))


@functools.partial(quick_jit, static_argnames="manifold")
def in_each_class(start: PyTree, manifold: Manifold) -> PyTree:
    """Return the start and one point in each other determinant class, along a new leading axis."""
    return manifold.in_each_class(start)


def _untraced(options: RunOptions, operands: PyTree) -> RunOptions:
    """Return the options without their watch if the operands are traced: under `vmap`, or in a user's combinator."""
    if options.watch is not None and staged(operands):
        return options.compiled
    return options


def stage(options: RunOptions, name: str) -> contextlib.AbstractContextManager[None]:
    """Name a part of the work, in a `with` statement, if somebody watches."""
    return contextlib.nullcontext() if options.watch is None else options.watch.stage(name)


def timed(options: RunOptions) -> contextlib.AbstractContextManager[None]:
    """Measure how long the work in a `with` statement takes, if somebody watches; see `Watch.short_of`."""
    return contextlib.nullcontext() if options.watch is None else options.watch.timed()


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Operands:
    """The structure that turns a list of arrays into a problem. Records hold arrays only, so the list marks batches."""

    structure: object


def _run(operands: _Operands, leaves: list) -> tuple:
    found = descend(*jax.tree.unflatten(operands.structure, leaves))
    return tuple(getattr(found, field.name) for field in dataclasses.fields(found))


_each = jax.custom_batching.custom_vmap(_run)


@_each.def_vmap
def _(axis_size: int, in_batched: list, operands: _Operands, leaves: list) -> tuple[tuple, tuple]:
    """Solve the problems of a batch: one after another on a CPU, where one matrix fills the cores and where all would
    wait for the slowest if they advanced in step; in step on accelerators."""
    marks = in_batched[1]
    batched = [leaf for leaf, mark in zip(leaves, marks, strict=True) if mark]
    shared = [leaf for leaf, mark in zip(leaves, marks, strict=True) if not mark]

    def one(run: Callable[..., tuple], mine: list) -> tuple:
        own, common = iter(mine), iter(shared)
        return run(operands, [next(own if mark else common) for mark in marks])

    in_turn = functools.partial(jax.lax.map, functools.partial(one, _each))
    in_step = jax.vmap(functools.partial(one, _run))
    found = jax.lax.platform_dependent(batched, cpu=in_turn, default=in_step)
    return found, jax.tree.map(lambda leaf: True, found)
