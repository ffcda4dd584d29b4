"""Run a solver on a problem, or on a batch of them, without derivatives."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxdescramble.solvers.descent import Report, descend
from jaxdescramble.solvers.solution import Solution


def is_iterative(solver: Any) -> bool:
    """Whether a value is a solver as `minimise` knows them: it can `bind`, or it is a combinator that can `run`.

    >>> from jaxdescramble.solvers import LBFGS
    >>> is_iterative(LBFGS()), is_iterative(LBFGS)
    (True, False)
    """
    return not isinstance(solver, type) and (hasattr(solver, "bind") or hasattr(solver, "run"))


def solve(function: Callable, start: Any, args: tuple, solver: Any, report: Report) -> Solution:
    """What a solver finds: step by step if it can `bind`, else as the combinator that it is (`run`)."""
    if not hasattr(solver, "bind"):
        return solver.run(function, start, args, report)
    leaves, structure = jax.tree.flatten((function, start, args, solver, report))
    return Solution(*_each(_Operands(structure), leaves))


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
