"""Minimise a function on a manifold, and differentiate the answer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.checks import a_function, positive_integer, staged
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds.named import point_on
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.implicit import attach
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.options import check_solver
from jaxdescramble.solvers.solution import Count, Solution
from jaxdescramble.solvers.solve import best, in_each_class, several_classes, solve, solve_each
from jaxdescramble.solvers.watch import Interrupted, Progress, watched


def minimise(
    function: Function,
    start: PyTree,
    *args: PyTree,
    solver: Solver | None = None,
    group: str | None = None,
    manifold: PyTree = None,
    history: int = 0,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Solution:
    """Minimise a scalar function on a manifold: `argmin_P f(P, *args)` over O(n), or over any of `jd.manifolds`.

    `manifold=manifolds.Stiefel()` finds orthonormal columns, and a pytree of manifolds several parameters together:
    `minimise(f, {"turn": P, "shift": t}, manifold={"turn": Orthogonal(), "shift": Euclidean()})`. O(n) has two
    determinant classes, +1 and -1, and no descent leads from one to the other. So the solver runs twice, from the start
    and from its reflection (the start with its last row negated), and returns the better answer. One run is enough for
    an objective that takes the same values in both classes (`Objective.mirrored`).

    Outside `jit`, the solve runs in slices of a fraction of a second. Between slices it reports progress and checks the
    deadline; Ctrl-C ends it within a second and keeps the best point so far. Slices do not change the answer. Inside
    `jit`, the solve is one compiled program. `jax.vmap` solves many problems, one after another on a CPU and all at
    once elsewhere.

    You can differentiate the answer with respect to `args`, and to the numbers inside `function` if it is a pytree, in
    forward and reverse mode and with every solver. With g the gradient of f on the group (a skew matrix) and H its
    Hessian, the minimum satisfies `g(P, args) = 0`, so `dP = P Omega` where Omega solves `H Omega = -dg[d args]`; on
    other manifolds alike. Along directions in which f does not change (its gauge), dP is zero.

    Args:
        function: a function `function(point, *args)` that returns a scalar, pure and twice differentiable. One function
            object is compiled once. So pass the data as `args`: a new function that closes over new data would be
            compiled again.
        start: the first point P: an orthogonal matrix, shape (n, n), or a point of the manifold, an array or a pytree
            of arrays. The solve uses its dtype.
        args: data of the function, pytrees.
        solver: the solver, such as `LBFGS()`, `TrustRegion()` or `Restarts(...)`; None means `LBFGS()`.
        group: short for a manifold. "O" searches both determinant classes; "SO" keeps the class of the start, at half
            the cost; "U" and "SU" are the unitary groups.
        manifold: a manifold, or for a pytree of parameters a pytree of manifolds; a manifold given for a branch
            stands for all parameters below. If `group` and `manifold` are None, it is `manifolds.Orthogonal()`.
        history: number of steps, from the first, whose value and gradient norm are recorded in `Solution.history`; 0
            records nothing. It works inside `jit` too.
        progress: called as `progress(stage, done, total)` several times a second, outside `jit`; the text `stage`
            contains the value.
        max_seconds: stop after this many seconds, compilation included; the status is then `TIME_SPENT`.

    Returns:
        A `Solution`. Call its `check()`, which raises if no minimum was found. Read `point`, `value`, `status` (0 means
        solved) and `classes` (how many determinant classes were searched).

    Raises:
        TypeError: if `function` is not callable or does not return a scalar, if another argument has the wrong type, or
            if `progress` or `max_seconds` is given inside `jit`; if `group` and `manifold` are both given.
        ValueError: if `start` is not on the manifold (not square, not orthogonal), or `group` is unknown.
        Interrupted: on Ctrl-C; it is a `KeyboardInterrupt` whose `result` is the `Solution` so far.

    >>> def roughness(point, signals):
    ...     return jnp.sum(jnp.diff(point @ signals, axis=0) ** 2)
    >>> signals = jax.random.normal(jax.random.key(0), (4, 9))
    >>> found = minimise(roughness, jnp.eye(4), signals)
    >>> bool(found.value < roughness(jnp.eye(4), signals)), found.status.item(), int(found.classes)
    (True, 0, 2)

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008); implicit derivatives as in
    Blondel et al., NeurIPS 2022 (arXiv 2105.15183).
    """
    solver = LBFGS() if solver is None else solver
    a_function(function, "function", "a point and data")
    check_solver(solver)
    where, point = point_on(group, manifold, start, "start")
    history = positive_integer(history, "history", least=0)
    # A plain function is static; a function that is a pytree (an objective) contains numbers.
    pure = jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
    _check_scalar(pure, point, args)
    data = jax.lax.stop_gradient((pure, point, args, solver))
    watch = watched(progress, max_seconds, data, "minimise")
    options = RunOptions(history, where, watch)
    solution = _solve(*data, options) if watch is None else search(*data, options)
    if watch is None or staged(pure, args):  # otherwise nobody differentiates
        solution = attach(solution, pure, args, where)
    if watch is not None and watch.stopped == Status.INTERRUPTED:
        raise Interrupted("minimise was interrupted; the best point so far is in .result of this exception.", solution)
    return solution


def search(function: Function, start: PyTree, args: tuple, solver: Solver, options: RunOptions) -> Solution:
    """Return what a solver finds in all determinant classes of the manifold.

    Args:
        function, start, args, solver, options: see `solve`.
    """
    classes = options.manifold.classes(start)
    if hasattr(solver, "both_classes") or not several_classes(function, start, options):
        found = solve(function, start, args, solver, options)
    else:
        found = best(solve_each(function, in_each_class(start, options.manifold), args, solver, options))
    return dataclasses.replace(found, classes=_counted(found.steps, classes))


def _counted(steps: Count, classes: int) -> Array:
    return jnp.asarray(np.full(np.shape(steps), classes, np.int32))


@jax.jit
def _value(function: Function, point: PyTree, args: tuple) -> ArrayLike:
    return function(point, *args)


def _check_scalar(function: Function, point: PyTree, args: tuple) -> None:
    shape = _value.eval_shape(function, point, args)  # a second call does not trace the function again
    if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            f"function: returned {shape}; expected one real number. Take a sum or a mean over samples, or jax.vmap "
            "minimise over problems."
        )


@functools.partial(jax.jit, static_argnames="options")
def _solve(function: Function, start: PyTree, args: tuple, solver: Solver, options: RunOptions) -> Solution:
    return search(function, start, args, solver, options)
