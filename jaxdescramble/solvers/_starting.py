"""What starts that are computed from the signals share: the signals, the operator of an objective, and the classes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.objectives.summaries import Samples
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.operators import MatrixOperator, Operator
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.problem import name_of
from jaxdescramble.solvers.solution import Solution
from jaxdescramble.solvers.solve import best, mirrored, solve, solve_each


def search_from(
    function: Function,
    start: Array,
    point: Array,
    axis: Float[Array, "n 1"] | np.ndarray,
    args: tuple,
    solver: Solver,
    options: RunOptions,
) -> Solution:
    """Solve from a point computed from the signals, and from its mirror image if both classes are searched."""
    axis = jnp.asarray(axis, start.dtype)
    if options.manifold.classes(start) == 1:
        return solve(function, in_class_of(start, point, axis), args, solver, options)
    if mirrored(function, start):
        return solve(function, point, args, solver, options)
    return best(solve_each(function, jnp.stack([point, mirror_image(point, axis)]), args, solver, options))


def check_square(solver: str, options: RunOptions) -> None:
    """Raise `TypeError` unless the points are orthogonal matrices, which a start made of signals is.

    >>> check_square("FromModes", RunOptions())
    """
    if not options.manifold.frames:
        raise TypeError(
            f"{solver}: works with frames, a point of O(n); got {options.manifold!r}. Leave {solver} out, or use "
            "manifold=manifolds.Orthogonal()."
        )


def summary_of(function: object, args: tuple) -> Summary:
    if not args or not isinstance(args[0], Summary):
        raise TypeError(
            f"{name_of(function)}: a start is read off the signals, which must be a summary and the first argument: "
            "minimise(objective, start, objective.summarise(signals), solver=...)."
        )
    if getattr(function, "turned", False):
        raise TypeError(
            f"InFrame: a start that is read off the signals of {name_of(function)} needs the coordinates of the "
            "signals. Put InFrame inside: FromSources(InFrame(solver), key=key)."
        )
    return args[0]


def samples_of(solver: str, function: object, args: tuple) -> Samples:
    summary = summary_of(function, args)
    if not isinstance(summary, Samples):
        raise TypeError(f"{solver}: the summary that {name_of(function)} reads keeps no samples.")
    return summary


@jax.jit
def in_class_of(start: Array, point: Array, axis: Float[Array, "n 1"]) -> Array:
    """Return the point, mirrored along a unit vector if this is needed to reach the determinant class of the start."""
    other = decompositions.determinant_sign(start) * decompositions.determinant_sign(point) < 0
    return jnp.where(other, mirror_image(point, axis), point)


def mirror_image(point: Array, axis: Float[Array, "n 1"]) -> Array:
    return point - 2 * matmul(axis, matmul(axis.T, point))


def sparsifying_operator_of(function: object, n: int) -> Operator | None:
    named: Callable[[int], Operator | None] | None = getattr(function, "sparsifying_operator", None)
    return None if named is None else named(n)


def sparsifying_matrix(function: object, n: int) -> np.ndarray | None:
    """Return the matrix D if the objective names an operator; None means the identity."""
    operator = sparsifying_operator_of(function, n)
    if operator is None:
        return None
    with jax.ensure_compile_time_eval():
        known = isinstance(operator, MatrixOperator)
        D = np.asarray(operator.matrix if known else operator.apply(jnp.eye(n)), np.float64)
    return None if D.shape == (n, n) and np.array_equal(D, np.eye(n)) else D
