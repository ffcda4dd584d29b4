"""Nonlinear conjugate gradients along geodesics."""

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
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, inner, norm


class _State(NamedTuple):
    direction: Array  # the last direction; zero if there is none
    gradient: Array  # the gradient where that direction began
    step: Array
    slope: Array
    preconditioner: PyTree


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ConjugateGradient:
    """Nonlinear conjugate gradients with the update of Hager and Zhang.

    Use it if memory is short: among the solvers, only gradient descent needs less. The direction is
    `d = -M^-1 g + beta d` with `beta = <y - 2 (|y|^2 / <d, y>) d, g> / <d, y>`. Norms use the metric of M; y is
    the change of the gradient. Directions live in body coordinates, where transport is the identity.

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
    >>> found = solvers.minimise(misfit, jnp.eye(2), goal, solver=ConjugateGradient())
    >>> bool(abs(found.point - goal).max() < 1e-3)
    True

    Source: Hager, Zhang, SIAM J. Optim. 16 (2005) 170; on groups: Edelman, Arias, Smith, SIMAX 20 (1998) 303.
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
            steepest = -divide(iterate.gradient)
            change = iterate.gradient - state.gradient
            bend = inner(state.direction, change)
            scale = 1 / jnp.where(bend > 0, bend, 1)
            beta = -inner(change, steepest) - 2 * scale * inner(change, divide(change)) * inner(
                state.direction, iterate.gradient
            )
            direction = steepest + jnp.where(bend > 0, jnp.maximum(scale * beta, 0), 0) * state.direction
            slope = inner(iterate.gradient, direction)
            fresh = ~(slope < -1e-8 * norm(iterate.gradient) * norm(direction)) | ~(bend > 0)
            direction = jnp.where(fresh, steepest, direction)
            slope = jnp.where(fresh, inner(iterate.gradient, steepest), slope)
            # Aim at the same first-order decrease as in the last step; in the first step, go as far as allowed.
            again = state.step * state.slope / jnp.minimum(slope, -TINY)
            far = problem.farthest(iterate, direction)
            first = jnp.where(state.step > 0, jnp.minimum(2 * again, far), far)
            first = jnp.where(guided & fresh, 1.0, first)
            found = line_search(problem, iterate, direction, first, far)
            # If a search fails along a conjugate direction, try the steepest direction next; if that fails, it stalled.
            kept = jnp.where(found.success, direction, 0)
            state = _State(kept, iterate.gradient, jnp.where(found.success, found.step, 0), slope, modelled)
            return found.iterate, state, Info(~found.success & fresh, found.evaluations)

        nothing, zero = jnp.zeros_like(start.gradient), jnp.zeros((), start.value.dtype)
        return _State(nothing, start.gradient, zero, zero, modelled), step
