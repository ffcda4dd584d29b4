"""Gradient descent along geodesics."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.solvers import preconditioners
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.line_search import line_search
from jaxdescramble.solvers.preconditioners import Preconditioner
from jaxdescramble.solvers.problem import Iterate, ManifoldFunction, inner


class _State(NamedTuple):
    step: Array
    preconditioner: PyTree


@register_dataclass
@dataclasses.dataclass(frozen=True)
class GradientDescent:
    """Steepest descent with Barzilai-Borwein steps and a line search that makes each step fall.

    Use it with a preconditioner, or as a baseline. With a preconditioner it is Jacobi's method on all planes at once:
    each step turns every plane of the frame to the minimum of its own sinusoid
    (`solvers.preconditioners.jacobi_divisors`).

    Attributes:
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None means what the dtype allows.
        max_steps: largest number of steps.
        decrease: stop too if the value falls by less than `decrease * |f|` during ten steps; the status is then
            `DECREASE_SMALL`. 0, the default, does not stop.
        preconditioner: a preconditioner such as `Analytic()` or `Kronecker()`; None means none.

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
    decrease: ArrayLike = 0.0

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        modelled, prepare = preconditioners.bind(self.preconditioner, problem, start)

        def step(iterate: Iterate, state: _State) -> tuple[Iterate, _State, Info]:
            divide, guided, modelled = prepare(iterate, state.preconditioner)
            direction = -divide(iterate.gradient)
            far = problem.farthest(iterate, direction)
            first = jnp.where(guided, 1.0, jnp.where(state.step > 0, state.step, far))
            found = line_search(problem, iterate, direction, first, far)
            # The curvature along this step sets the length of the next step.
            bend = inner(direction, found.iterate.gradient - iterate.gradient)
            length = inner(direction, direction) * found.step / jnp.where(bend > 0, bend, 1)
            step = jnp.where(bend > 0, length, 2 * found.step)
            return found.iterate, _State(step, modelled), Info(~found.success, found.evaluations)

        return _State(jnp.zeros((), start.value.dtype), modelled), step
