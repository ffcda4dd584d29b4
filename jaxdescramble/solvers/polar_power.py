"""The polar fixed point: a solver without step length, for functions whose negative is convex."""

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.problem import GroupFunction, Iterate, better


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PolarPower:
    """The iteration `P <- polar(-grad f(P))`, which minimises the linearisation of f at P.

    Use it if -f is convex on matrices (L4 sparsity, diagonal sums and norms). Then f lies below its linearisation, so
    every step lowers f without a step length. Near a maximum of the fourth power it converges cubically. For other
    functions it may stall. It keeps the determinant class of the start.

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

    def bind(self, problem: GroupFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        sign = decompositions.determinant_sign(start.point)
        flip = jnp.ones(start.point.shape[0], start.point.dtype).at[0].set(sign)[:, None]

        def step(iterate: Iterate, state: tuple) -> tuple[Iterate, tuple, Info]:
            goal = jnp.where(iterate.finite, -iterate.euclidean, iterate.point)
            # Stay in the class of the start: negating a row maps one class to the other.
            nearest, _ = orthogonal.polar(flip * goal, "SO")
            trial = problem.evaluate(orthogonal.polish(flip * nearest))
            blur = 10 * jnp.finfo(iterate.value.dtype).eps * jnp.abs(iterate.value)
            fell = trial.finite & (trial.value <= iterate.value + blur)
            return better(fell, trial, iterate), state, Info(~fell, jnp.ones((), jnp.int32))

        return (), step
