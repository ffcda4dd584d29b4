"""Gradient descent along geodesics."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble.solvers import preconditioners
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.line_search import line_search
from jaxdescramble.solvers.preconditioners import Preconditioner
from jaxdescramble.solvers.problem import GroupFunction, Iterate, farthest, inner


class _State(NamedTuple):
    step: Array
    preconditioner: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """Steepest descent with steps of Barzilai and Borwein, made to fall by a line search.

    With a preconditioner this is Jacobi's method with all planes at once: each step turns every plane of the frame to
    the bottom of its own sinusoid (`solvers.preconditioners.jacobi_divisors`).

    Attributes:
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None for what the type can do.
        max_steps: outer steps.
        preconditioner: such as `Analytic()` or `Kronecker()`; None for none.

    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return jnp.sum((point - goal) ** 2)
    >>> goal = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> found = solvers.minimise(misfit, jnp.eye(2), goal, solver=GradientDescent())
    >>> bool(abs(found.point - goal).max() < 1e-3)
    True

    Source: Barzilai, Borwein, IMA J. Numer. Anal. 8 (1988) 141; Iannazzo, Porcelli, IMA J. Numer. Anal. 38 (2018) 495.
    """

    tolerance: ArrayLike | None = None
    max_steps: ArrayLike = 10_000
    preconditioner: Preconditioner | None = None

    def bind(self, problem: GroupFunction, start: Iterate) -> tuple[PyTree, Step]:
        """See `solvers.descent.Descent`."""
        modelled, prepare = preconditioners.bind(self.preconditioner, problem, start)

        def step(iterate: Iterate, state: _State) -> tuple[Iterate, _State, Info]:
            divide, guided, modelled = prepare(iterate, state.preconditioner)
            direction = -divide(iterate.gradient)
            far = farthest(direction)
            first = jnp.where(guided, 1.0, jnp.where(state.step > 0, state.step, far))
            found = line_search(problem, iterate, direction, first, far)
            # The curvature met along this step sets the length of the next.
            bend = inner(direction, found.iterate.gradient - iterate.gradient)
            length = inner(direction, direction) * found.step / jnp.where(bend > 0, bend, 1)
            step = jnp.where(bend > 0, length, 2 * found.step)
            return found.iterate, _State(step, modelled), Info(~found.success, found.evaluations)

        return _State(jnp.zeros((), start.value.dtype), modelled), step
