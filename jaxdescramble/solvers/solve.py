"""Run a solver on a problem, or on a batch of them, without derivatives."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.checks import staged
from jaxdescramble._base.programs import quick_jit
from jaxdescramble.solvers._slices import solve_in_slices, solve_many_in_slices
from jaxdescramble.solvers.descent import RunOptions, descend
from jaxdescramble.solvers.solution import Solution


def is_iterative(solver: Any) -> bool:
    """Whether a value is a solver as `minimise` knows them: it can `bind`, or it is a combinator that can `run`.

    >>> from jaxdescramble.solvers import LBFGS
    >>> is_iterative(LBFGS()), is_iterative(LBFGS)
    (True, False)
    """
    return not isinstance(solver, type) and (hasattr(solver, "bind") or hasattr(solver, "run"))


def solve(function: Callable, start: Any, args: tuple, solver: Any, options: RunOptions) -> Solution:
    """What a solver finds: step by step if it can `bind`, else as the combinator that it is (`run`).

    Outside `jit`, where the options have a watch, the solve runs in slices.
    """
    options = _untraced(options, (function, start, args, solver))
    if not hasattr(solver, "bind"):
        return solver.run(function, start, args, options)
    if options.watch is not None:
        return solve_in_slices(function, start, args, solver, options)
    leaves, structure = jax.tree.flatten((function, start, args, solver, options))
    return Solution(*_each(_Operands(structure), leaves))


def solve_each(
    function: Callable,
    starts: Float[Array, "batch n n"],
    args: tuple,
    solver: Any,
    options: RunOptions,
    own: bool = False,
) -> Solution:
    """What a solver finds from each of several starts, with a leading axis.

    Args:
        function, solver, options: as in `solve`.
        starts: one for each solve.
        args: data; with a leading axis of the same length if `own`, else the same for all.
        own: see `args`.
    """
    options = _untraced(options, (function, starts, args, solver))
    if options.watch is None:
        return jax.vmap(lambda start, mine: solve(function, start, mine, solver, options), (0, 0 if own else None))(
            starts, args
        )
    if hasattr(solver, "bind"):
        return solve_many_in_slices(function, starts, args, solver, options, own)
    found = []
    for k, start in enumerate(starts):
        mine = jax.tree.map(lambda leaf, k=k: leaf[k], args) if own else args
        with options.watch.stage(f"{k + 1} of {len(starts)}"):
            found.append(solve(function, start, mine, solver, options))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@quick_jit
def best(found: Solution) -> Solution:
    """The solution of least value of several, which lie along the leading axis; evaluations are those of all."""
    chosen = jnp.argmin(jnp.where(jnp.isnan(found.value), jnp.inf, found.value), axis=0)

    def pick(leaf: Array) -> Array:
        index = chosen.reshape(1, *chosen.shape, *(1,) * (leaf.ndim - 1 - chosen.ndim))
        return jnp.take_along_axis(leaf, index, axis=0)[0]

    return dataclasses.replace(
        jax.tree.map(pick, found), evaluations=jnp.sum(found.evaluations, axis=0, dtype=jnp.int32)
    )


def mirrored(function: Any, n: int) -> bool:
    """Whether a function says that both determinant classes hold the same values.

    >>> from jaxdescramble.objectives import sparsity
    >>> mirrored(sparsity(), 4), mirrored(jnp.sum, 4)
    (True, False)
    """
    known = getattr(function, "mirrored", None)
    return known is not None and bool(known(n))


@quick_jit
def both_classes(start: Float[Array, "n n"]) -> Float[Array, "2 n n"]:
    """The start and its reflection, one start in each determinant class."""
    return jnp.stack([start, reflected(start)])


def reflected(point: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """The point with its last row turned round: the same in the other determinant class.

    >>> reflected(jnp.eye(2)).tolist()
    [[1.0, 0.0], [-0.0, -1.0]]
    """
    return point.at[..., -1, :].multiply(-1)


def _untraced(options: RunOptions, operands: Any) -> RunOptions:
    """Drop the watch where the operands are traced: in a user-defined combinator, under `vmap`."""
    if options.watch is not None and staged(operands):
        return options.compiled
    return options


def stage(options: RunOptions, name: str) -> contextlib.AbstractContextManager[None]:
    """`with` the name of a part of the work, where somebody watches."""
    return contextlib.nullcontext() if options.watch is None else options.watch.stage(name)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Operands:
    """How a list of arrays makes a problem. What is batched is marked on the list: typed records hold arrays only."""

    structure: Any


def _run(operands: _Operands, leaves: list) -> tuple:
    found = descend(*jax.tree.unflatten(operands.structure, leaves))
    return tuple(getattr(found, field.name) for field in dataclasses.fields(found))


_each = jax.custom_batching.custom_vmap(_run)


@_each.def_vmap
def _(axis_size: int, in_batched: Any, operands: _Operands, leaves: list) -> tuple[tuple, Any]:
    """Problems of a batch: one after another on a CPU, where marching in step would make every one as slow as the
    slowest, and a matrix fills the cores by itself; in step on accelerators."""
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
