"""Run a solver on a problem, or on a batch of them, without derivatives."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxdescramble.solvers.descent import Report, descend
from jaxdescramble.solvers.solution import Solution


def solve(function: Callable, start: Any, args: tuple, solver: Any, report: Report) -> Solution:
    """What a solver finds: step by step if it can `bind`, else as the combinator that it is (`run`)."""
    if hasattr(solver, "bind"):
        return _each(function, start, args, solver, report)
    return solver.run(function, start, args, report)


@jax.custom_batching.custom_vmap
def _each(function: Callable, start: Any, args: tuple, solver: Any, report: Report) -> Solution:
    return descend(function, start, args, solver, report)


@_each.def_vmap
def _(axis_size: int, in_batched: Any, *operands: Any) -> tuple[Solution, Any]:
    """Problems of a batch: one after another on a CPU, where marching in step would make every one as slow as the
    slowest, and a matrix fills the cores by itself; in step on accelerators."""
    leaves, structure = jax.tree.flatten(operands)
    marks = jax.tree.leaves(in_batched)
    batched = [leaf for leaf, mark in zip(leaves, marks, strict=True) if mark]
    shared = [leaf for leaf, mark in zip(leaves, marks, strict=True) if not mark]

    def one(run: Callable[..., Solution], mine: list) -> Solution:
        own, common = iter(mine), iter(shared)
        merged = [next(own if mark else common) for mark in marks]
        return run(*jax.tree.unflatten(structure, merged))

    in_turn = functools.partial(jax.lax.map, functools.partial(one, _each))
    in_step = jax.vmap(functools.partial(one, descend))
    found = jax.lax.platform_dependent(batched, cpu=in_turn, default=in_step)
    return found, jax.tree.map(lambda leaf: True, found)
