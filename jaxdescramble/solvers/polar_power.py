"""The polar fixed point: a solver without step length, for functions whose negative is convex."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.problem import Iterate, ManifoldFunction, better


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PolarPower:
    """The iteration `P <- polar(-grad f(P))`, which minimises the linearisation of f at P.

    Use it if -f is convex on matrices (L4 sparsity, diagonal sums and norms). Then f lies below its linearisation, so
    every step lowers f without a step length. Near a maximum of the fourth power it converges cubically. For other
    functions it may stall. On O(n) it keeps the determinant class of the start. It works on the orthogonal, unitary
    and Stiefel manifolds, where the polar factor is the nearest point; not on SU(n) and free parameters.

    Attributes:
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None means what the dtype allows.
        max_steps: largest number of steps.

    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return -jnp.sum(point * goal)
    >>> goal = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> solvers.minimise(misfit, jnp.eye(2), goal, solver=PolarPower()).steps.item()
    1

    Source: Journee et al., J. Mach. Learn. Res. 11 (2010) 517; for L4, Zhai et al., J. Mach. Learn. Res. 21 (2020) 165.
    """

    tolerance: ArrayLike | None = None
    max_steps: ArrayLike = 10_000

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        manifold = problem.manifold
        kind = manifold.class_of(start.point)

        def step(iterate: Iterate, state: tuple) -> tuple[Iterate, tuple, Info]:
            downhill = jax.tree.map(jnp.negative, problem.euclidean(iterate))
            goal = better(iterate.finite, downhill, iterate.point)
            trial = problem.evaluate(manifold.polish(manifold.nearest(goal, kind)))
            blur = 10 * jnp.finfo(iterate.value.dtype).eps * jnp.abs(iterate.value)
            fell = trial.finite & (trial.value <= iterate.value + blur)
            return better(fell, trial, iterate), state, Info(~fell, jnp.ones((), jnp.int32))

        return (), step
