"""The one verb: minimise a function over O(n), in the determinant class of the start, and differentiate the answer."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxdescramble.checks import a_function, positive_integer, real_array
from jaxdescramble.groups import orthogonal
from jaxdescramble.solvers.descent import Report
from jaxdescramble.solvers.implicit import attach
from jaxdescramble.solvers.lbfgs import LBFGS
from jaxdescramble.solvers.options import check_solver
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import solve


def minimise(
    function: Callable[..., Any],
    start: ArrayLike,
    *args: Any,
    solver: Any = None,
    history: int = 0,
    callback: Callable[..., None] | None = None,
    every: int = 1,
) -> Solution:
    """Minimise a scalar function of an orthogonal matrix: `argmin_P f(P, *args)`, P in the class of the start.

    The whole solve is one compiled program; `jax.vmap` runs many (one after another on a CPU, in step elsewhere). The
    answer has derivatives in `args`, and in the numbers that `function` holds if it is a pytree: at a minimum
    `g(P, args) = 0`, so `H Omega = -dg[d args]`, `dP = P Omega`, in forward and in reverse mode, whatever the solver.
    Directions along which f does not change (its gauge) are left alone.

    Args:
        function: `function(point, *args) -> scalar`, pure and twice differentiable. The same function object does not
            compile twice; so give it data as `args` and do not close over them.
        start: P at the start, (n, n), orthogonal; its dtype is that of the solve.
        args: pytrees of data.
        solver: a value such as `LBFGS()`, the default; `TrustRegion()`, `Restarts(...)`.
        history: how many steps to keep a record of.
        callback: called on the host as `callback(step, value, gradient_norm)`.
        every: steps between two calls.

    Returns:
        A `Solution(point, value, gradient_norm, steps, status, evaluations, history)`.

    Raises:
        TypeError: not callable, not a scalar, wrong types. ValueError: not square, not orthogonal.

    >>> def roughness(point, signals):
    ...     return jnp.sum(jnp.diff(point @ signals, axis=0) ** 2)
    >>> signals = jax.random.normal(jax.random.key(0), (4, 9))
    >>> found = minimise(roughness, jnp.eye(4), signals)
    >>> bool(found.value < roughness(jnp.eye(4), signals)), found.status.item()
    (True, 0)

    Source: Absil, Mahony, Sepulchre, Optimization Algorithms on Matrix Manifolds (2008); implicit derivatives as in
    Blondel et al., NeurIPS 2022 (arXiv 2105.15183).
    """
    solver = LBFGS() if solver is None else solver
    a_function(function, "function", "a point and data")
    check_solver(solver)
    point = real_array(start, "start", (2,), "(n, n); use jax.vmap for many problems")
    if point.shape[0] != point.shape[1]:
        raise ValueError(f"start: shape {point.shape}; a point of O(n) is square.")
    orthogonal.check_orthogonal(point, "start")
    history, every = positive_integer(history, "history", least=0), positive_integer(every, "every")
    if callback is not None:
        a_function(callback, "callback", "(step, value, gradient_norm)")
    # A plain function is structure, one that is a pytree (an objective) brings numbers.
    pure = jax.tree_util.Partial(function) if jax.tree_util.all_leaves([function]) else function
    _check_scalar(pure, point, args)
    report = Report(history, callback, every)
    solution = _solve(*jax.lax.stop_gradient((pure, point, args, solver)), report)
    return attach(solution, pure, args)


def _check_scalar(function: Callable, point: Any, args: tuple) -> None:
    shape = jax.eval_shape(function, point, *args)
    if getattr(shape, "shape", None) != () or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(
            f"function: returned {shape}; expected one real number. Take a sum or a mean over samples, or jax.vmap "
            "minimise over problems."
        )


@functools.partial(jax.jit, static_argnames="report")
def _solve(function: Callable, start: Any, args: tuple, solver: Any, report: Report) -> Solution:
    return solve(function, start, args, solver, report)
