"""Limited-memory BFGS with its memory in the Lie algebra."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.solvers import preconditioners
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.line_search import line_search
from jaxdescramble.solvers.preconditioners import Automatic, Preconditioner
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, inner, norm


class _Memory(NamedTuple):
    """The last pairs (step, change of the gradient) in a ring; the weight of an empty place is 0.

    A new pair overwrites the oldest one. To move all pairs by one place would copy the whole memory at every step,
    which takes longer than the products of a step.
    """

    steps: Float[Array, "memory *coordinates"]
    changes: Float[Array, "memory *coordinates"]
    weights: Float[Array, " memory"]  # 1 / <step, change>
    products: Float[Array, "memory memory"]  # <step i, change j>, for steps i older than j
    newest: Array


class _State(NamedTuple):
    memory: _Memory
    preconditioner: PyTree
    plain: Array  # whether the next step ignores the preconditioner, because a search along its direction failed


@register_dataclass
@dataclasses.dataclass(frozen=True)
class LBFGS:
    """Quasi-Newton descent, which learns the curvature from the gradients of the last steps. It is the default solver.

    Use it first, on any smooth function. A step moves P to `P exp(Omega)` with a skew matrix Omega. The memory keeps
    the last steps Omega and the changes of the gradient, both as skew matrices, so pairs from different points can be
    combined as they are. Do not use `optax.lbfgs` instead: its memory holds differences of parameters, and a step in
    Omega always starts at the parameter zero.

    Attributes:
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None means what the dtype allows. Here
            grad f is the matrix of derivatives by the entries of P, and `g = skew(P^T grad f)` the gradient on O(n).
        max_steps: largest number of steps.
        decrease: stop too if the value falls by less than `decrease * |f|` during ten steps; the status is then
            `DECREASE_SMALL`. 0, the default, does not stop.
        preconditioner: a first model of the Hessian, which the memory then corrects. `Automatic()`, the default, takes
            the one of the objective (`Analytic()`), or measures one on any other function (`Kronecker()`); None is a
            multiple of the identity.
        memory: number of pairs to keep (fixed at compile time).

    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return jnp.sum((point - goal) ** 2)
    >>> goal = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> found = solvers.minimise(misfit, jnp.eye(2), goal, solver=LBFGS())
    >>> bool(abs(found.point - goal).max() < 1e-3)
    True

    Source: Nocedal, Wright, Numerical Optimization (2006), algorithm 7.4; Huang, Gallivan, Absil, SIAM J. Optim. 25
    (2015) 1660, for the group.
    """

    tolerance: ArrayLike | None = None
    max_steps: ArrayLike = 10_000
    preconditioner: Preconditioner | None = dataclasses.field(default_factory=Automatic)
    memory: int = dataclasses.field(default=10, metadata={"static": True})
    decrease: ArrayLike = 0.0

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        modelled, prepare = preconditioners.bind(self.preconditioner, problem, start)
        dtype = start.value.dtype
        nothing = jnp.zeros((self.memory, *start.gradient.shape), dtype)
        empty = _Memory(
            nothing,
            nothing,
            jnp.zeros(self.memory, dtype),
            jnp.zeros((self.memory,) * 2, dtype),
            jnp.zeros((), jnp.int32),
        )

        def step(iterate: Iterate, state: _State) -> tuple[Iterate, _State, Info]:
            divided, guided, modelled = prepare(iterate, state.preconditioner)
            memory, guided = state.memory, guided & ~state.plain

            def divide(velocity: Array) -> Array:
                return jnp.where(state.plain, velocity, divided(velocity))

            known = memory.weights[memory.newest] > 0
            direction, good, memory = _descending(iterate.gradient, memory, divide)
            far = problem.farthest(iterate, direction)
            # If no curvature is known yet, the first step goes as far as allowed.
            first = jnp.where((known & good) | guided, 1.0, far)
            found = line_search(problem, iterate, direction, first, far)
            moved = found.step * direction
            change = found.iterate.gradient - iterate.gradient
            bend = inner(moved, change)
            kept = found.success & (bend > 1e-10 * norm(moved) * norm(change))
            # While the preconditioner still turns planes by a radian, its metric changes too fast for a memory.
            if problem.manifold.frames:
                kept = kept & (~guided | (far > 2))
            memory = _with_pair(memory, kept, moved, change, 1 / jnp.where(kept, bend, 1))
            # If a search with a memory fails, drop the memory and try again; if it fails without one, do without the
            # preconditioner too; if it fails along the gradient itself, it stalled.
            memory = memory._replace(weights=jnp.where(found.success, memory.weights, 0))
            plain, stalled = ~found.success & ~known & guided, ~found.success & ~known & ~guided
            return found.iterate, _State(memory, modelled, plain), Info(stalled, found.evaluations)

        return _State(empty, modelled, jnp.zeros((), bool)), step


def _with_pair(memory: _Memory, kept: Array, step: Array, change: Array, weight: Array) -> _Memory:
    """Return the memory with one more pair if it is kept; only one place of each array is written."""
    place = (memory.newest + 1) % len(memory.weights)

    def written(ring: Array, new: Array) -> Array:
        return ring.at[place].set(jnp.where(kept, new, ring[place]))

    return memory._replace(
        steps=written(memory.steps, step),
        changes=written(memory.changes, change),
        weights=written(memory.weights, weight),
        newest=jnp.where(kept, place, memory.newest),
    )


def _descending(gradient: Array, memory: _Memory, divide: Callable[[Array], Array]) -> tuple[Array, Array, _Memory]:
    """Return the direction from the memory and True if it descends; otherwise the one of an empty memory and False.

    The memory is returned with the products of the newest pair.
    """
    newest, along = memory.newest, _each(memory.steps, gradient)
    column = _each(memory.steps, memory.changes[newest])
    memory = memory._replace(products=memory.products.at[:, newest].set(column))

    def attempt(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, _, tries = state
        known = memory._replace(weights=jnp.where(tries == 0, memory.weights, 0))
        direction = -_two_loops(gradient, along, known, divide)
        good = inner(gradient, direction) < -1e-8 * norm(gradient) * norm(direction)
        return direction, good, tries + 1

    # A loop with at most two rounds compiles the preconditioner only once.
    start = (jnp.zeros_like(gradient), jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    direction, good, tries = jax.lax.while_loop(lambda state: ~state[1] & (state[2] < 2), attempt, start)
    return direction, good & (tries == 1), memory


def _each(
    ring: Float[Array, "memory *coordinates"], direction: Float[Array, "*coordinates"]
) -> Float[Array, " memory"]:
    """Return the inner products of all entries of a ring with a direction."""
    return matmul(ring.reshape(len(ring), -1), direction.reshape(-1))


def _sum(factors: Float[Array, " memory"], ring: Float[Array, "memory *coordinates"]) -> Float[Array, "*coordinates"]:
    """Return the sum of the entries of a ring, each times its factor."""
    return matmul(factors, ring.reshape(len(ring), -1)).reshape(ring.shape[1:])


def _two_loops(gradient: Array, along: Array, memory: _Memory, divide: Callable[[Array], Array]) -> Array:
    """Return the quasi-Newton direction. Both loops run over numbers; the matrices of the memory are read as wholes.

    In the first loop, `alpha_i = w_i <s_i, q - sum_j alpha_j y_j>` over the newer pairs j, from the newest pair to the
    oldest. In the second, in the other order, `beta_i = w_i <y_i, r + sum_j c_j s_j>` over the older pairs j, with
    `c_j = alpha_j - beta_j`. So all that the loops need are products with the gradient (`along`) and with r, and
    `<s_i, y_j>` for steps older than j.
    """
    weights, products, count = memory.weights, memory.products, len(memory.weights)

    def back(k: Array, alphas: Array) -> Array:
        i = (memory.newest - k) % count
        return alphas.at[i].set(weights[i] * (along[i] - jnp.sum(alphas * products[i])))

    alphas = jax.lax.fori_loop(0, count, back, jnp.zeros_like(weights))
    q = gradient - _sum(alphas, memory.changes)
    # Shanno and Phua: the newest pair sets the scale.
    newest, weight = memory.changes[memory.newest], weights[memory.newest]
    r, divided = jax.lax.map(divide, jnp.stack([q, newest]))
    scale = 1 / jnp.maximum(weight * inner(newest, divided), TINY)
    r = jnp.where(weight > 0, scale, 1.0) * r
    against = _each(memory.changes, r)

    def forth(k: Array, factors: Array) -> Array:
        i = (memory.newest + 1 + k) % count
        beta = weights[i] * (against[i] + jnp.sum(factors * products[:, i]))
        return factors.at[i].set(alphas[i] - beta)

    return r + _sum(jax.lax.fori_loop(0, count, forth, jnp.zeros_like(weights)), memory.steps)
