"""Starts on the slowest modes of an operator: the closed form of smoothness, as a start for other objectives."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.operators import Operator
from jaxdescramble.solvers._starting import (
    check_square,
    in_class_of,
    search_from,
    sparsifying_matrix,
    sparsifying_operator_of,
    summary_of,
)
from jaxdescramble.solvers.descent import Function, RunOptions, Solver
from jaxdescramble.solvers.solution import Solution


@register_dataclass
@dataclasses.dataclass(frozen=True)
class FromModes:
    """A solver that starts with the principal components of the signals on the slowest modes of an operator, in order.

    Use it for objectives whose answer is close to a smooth one. The start is `P = T U^T`, the minimiser of
    `||D P S||_F`: T are the eigenvectors of `D^T D` by rising eigenvalue, U the left singular vectors of S by falling
    singular value. The given start is not used, except that `group="SO"` keeps its determinant class.

    Attributes:
        solver: the solver that runs from this start.
        operator: the derivative operator D, such as `operators.derivative(n)`.

    >>> from jaxdescramble import objectives, operators, solvers
    >>> objective = objectives.total_variation(boundary="neumann")
    >>> signals = jax.random.normal(jax.random.key(0), (4, 40)).cumsum(axis=0)
    >>> solver = FromModes(solvers.LBFGS(), operators.derivative(4))
    >>> found = solvers.minimise(objective, jnp.eye(4)[::-1], objective.summarise(signals), solver=solver)
    >>> bool(found.value <= objective(jnp.eye(4), signals))
    True

    Source: `exact.brockett_minimiser`; Amey et al., PNAS 118, e2016917118 (2021).
    """

    solver: Solver
    operator: Operator

    both_classes: ClassVar[bool] = True

    def run(self, function: Function, start: Array, args: tuple, options: RunOptions) -> Solution:
        """Return the solution that the solver finds from this start."""
        check_square("FromModes", options)
        point, fast = _from_modes(summary_of(function, args), self.operator, start)
        return search_from(function, start, point, fast, args, self.solver, options)


def on_modes(summary: Summary, operator: Operator, like: Array, any_class: bool) -> Float[Array, "n n"]:
    """Return the start of `FromModes`, in the determinant class of a point unless any class will do.

    >>> from jaxdescramble.objectives import Samples
    >>> from jaxdescramble.operators import derivative
    >>> summary = Samples(jnp.asarray([[1.0, 2.0], [1.0, -2.0]]))
    >>> point = on_modes(summary, derivative(2, boundary="neumann"), jnp.eye(2), any_class=False)
    >>> float(jnp.linalg.det(point).round(4))
    1.0
    """
    point, fast = _from_modes(summary, operator, like)
    return point if any_class else in_class_of(like, point, fast)


def modes_operator(function: object, n: int) -> Operator | None:
    """Return the operator D if an objective looks at differences `D P S` of neurons; for a sum, that of its first term.

    None for a quadratic form: there the start would be the answer, and an iterative solver would have nothing to do.

    >>> from jaxdescramble import objectives
    >>> [modes_operator(one, 8) is None for one in (objectives.sparsity(), objectives.total_variation())]
    [True, False]
    """
    if sparsifying_matrix(function, n) is not None:
        return sparsifying_operator_of(function, n)
    for term in getattr(function, "terms", ()):
        operator = term.operator(n)
        operator = modes_operator(term, n) if operator is None else operator
        if operator is not None:
            return operator
    return None


@jax.jit
def _from_modes(summary: Summary, operator: Operator, like: Array) -> tuple[Array, Array]:
    """Return the start of `FromModes`, and the fastest mode: the smallest change to the other determinant class is to
    negate the weakest component, which lies on this mode."""
    directions, _ = summary.principal()
    fast = operator.synthesise(jnp.eye(operator.size, dtype=like.dtype)[:, -1:])
    return operator.synthesise(directions.T).astype(like.dtype), fast.astype(like.dtype)
