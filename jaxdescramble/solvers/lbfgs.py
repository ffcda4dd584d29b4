"""Limited-memory BFGS with its memory in the Lie algebra."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.solvers import preconditioners
from jaxdescramble.solvers.descent import Info, Step
from jaxdescramble.solvers.line_search import line_search
from jaxdescramble.solvers.preconditioners import Automatic, Preconditioner
from jaxdescramble.solvers.problem import TINY, GroupFunction, Iterate, farthest, inner, norm


class _Memory(NamedTuple):
    """The last pairs (step, change of the gradient) in a ring; the weight of an empty place is 0.

    A new pair overwrites the oldest one. To move all pairs by one place would copy the whole memory at every step,
    which takes longer than the products of a step.
    """

    steps: Float[Array, "memory n n"]
    changes: Float[Array, "memory n n"]
    weights: Float[Array, " memory"]  # 1 / <step, change>
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

    def bind(self, problem: GroupFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        modelled, prepare = preconditioners.bind(self.preconditioner, problem, start)
        n, dtype = start.point.shape[0], start.value.dtype
        nothing = jnp.zeros((self.memory, n, n), dtype)
        empty = _Memory(nothing, nothing, jnp.zeros(self.memory, dtype), jnp.zeros((), jnp.int32))

        def step(iterate: Iterate, state: _State) -> tuple[Iterate, _State, Info]:
            divided, guided, modelled = prepare(iterate, state.preconditioner)
            memory, guided = state.memory, guided & ~state.plain

            def divide(velocity: Array) -> Array:
                return jnp.where(state.plain, velocity, divided(velocity))

            known = memory.weights[memory.newest] > 0
            direction, good = _descending(iterate.gradient, memory, divide)
            far = farthest(direction)
            # If no curvature is known yet, the first step goes as far as allowed.
            first = jnp.where((known & good) | guided, 1.0, far)
            found = line_search(problem, iterate, direction, first, far)
            moved = found.step * direction
            change = found.iterate.gradient - iterate.gradient
            bend = inner(moved, change)
            kept = found.success & (bend > 1e-10 * norm(moved) * norm(change))
            # While the preconditioner still turns planes by a radian, its metric changes too fast for a memory.
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

    return _Memory(
        written(memory.steps, step),
        written(memory.changes, change),
        written(memory.weights, weight),
        jnp.where(kept, place, memory.newest),
    )


def _descending(gradient: Array, memory: _Memory, divide: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return the direction from the memory and True if it descends; otherwise the one of an empty memory and False."""

    def attempt(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, _, tries = state
        known = memory._replace(weights=jnp.where(tries == 0, memory.weights, 0))
        direction = -_two_loops(gradient, known, divide)
        good = inner(gradient, direction) < -1e-8 * norm(gradient) * norm(direction)
        return direction, good, tries + 1

    # A loop with at most two rounds compiles the preconditioner only once.
    start = (jnp.zeros_like(gradient), jnp.zeros((), bool), jnp.zeros((), jnp.int32))
    direction, good, tries = jax.lax.while_loop(lambda state: ~state[1] & (state[2] < 2), attempt, start)
    return direction, good & (tries == 1)


def _along(pair: Array, direction: Array) -> Array:
    """Return an inner product in a form that XLA reads from the ring in place; a `dot` would copy the entry first."""
    return jnp.sum(pair * direction)


def _two_loops(gradient: Array, memory: _Memory, divide: Callable[[Array], Array]) -> Array:
    count = len(memory.weights)

    def back(k: Array, carry: tuple) -> tuple:
        q, alphas = carry
        i = (memory.newest - k) % count
        alpha = memory.weights[i] * _along(memory.steps[i], q)
        return q - alpha * memory.changes[i], alphas.at[i].set(alpha)

    q, alphas = jax.lax.fori_loop(0, count, back, (gradient, jnp.zeros_like(memory.weights)))
    # Shanno and Phua: the newest pair sets the scale.
    newest, weight = memory.changes[memory.newest], memory.weights[memory.newest]
    r, divided = jax.lax.map(divide, jnp.stack([q, newest]))
    scale = 1 / jnp.maximum(weight * inner(newest, divided), TINY)
    r = jnp.where(weight > 0, scale, 1.0) * r

    def forth(k: Array, r: Array) -> Array:
        i = (memory.newest + 1 + k) % count
        beta = memory.weights[i] * _along(memory.changes[i], r)
        return r + (alphas[i] - beta) * memory.steps[i]

    return jax.lax.fori_loop(0, count, forth, r)
