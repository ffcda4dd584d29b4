"""Trust-region Newton: conjugate gradients on the Hessian that stop at negative curvature or at the border."""

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
from jaxdescramble.solvers.preconditioners import Automatic, Preconditioner
from jaxdescramble.solvers.problem import TINY, Iterate, ManifoldFunction, better, inner, norm, size_of


class _State(NamedTuple):
    radius: Array
    preconditioner: PyTree


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """Newton's method in a trust region (Steihaug-Toint).

    Use it for the last digits, or to get past saddles. Each step minimises the quadratic model
    `<g, W> + <W, H W> / 2` over `||W||_M <= radius` by preconditioned conjugate gradients. It needs Hessian products
    only, and moves the point by W along a geodesic.

    Attributes:
        tolerance: stop at `||g||_F <= tolerance * (largest ||grad f||_F seen)`; None means what the dtype allows.
        max_steps: largest number of outer steps.
        decrease: stop too if the value falls by less than `decrease * |f|` during ten steps; the status is then
            `DECREASE_SMALL`. 0, the default, does not stop.
        max_inner: largest number of Hessian products per step.
        preconditioner: a model of the Hessian: `Automatic()`, the default, takes the one of the objective
            (`Analytic()`), or measures one on any other function (`Kronecker()`); None is the identity.
        accept: least ratio of actual to predicted decrease for a step to be accepted.

    >>> from jaxdescramble import solvers
    >>> def misfit(point, goal):
    ...     return jnp.sum((point - goal) ** 2)
    >>> goal = jnp.asarray([[0.0, -1.0], [1.0, 0.0]])
    >>> found = solvers.minimise(misfit, jnp.eye(2), goal, solver=TrustRegion())
    >>> bool(abs(found.point - goal).max() < 1e-3)
    True

    Source: Absil, Baker, Gallivan, Found. Comput. Math. 7 (2007) 303; Conn, Gould, Toint, Trust-Region Methods (2000).
    """

    tolerance: ArrayLike | None = None
    max_steps: ArrayLike = 1000
    max_inner: ArrayLike = 1000
    preconditioner: Preconditioner | None = dataclasses.field(default_factory=Automatic)
    accept: ArrayLike = 0.1
    decrease: ArrayLike = 0.0

    def bind(self, problem: ManifoldFunction, start: Iterate) -> tuple[PyTree, Step]:
        """Return the initial state and the step; see `solvers.descent.Descent`."""
        modelled, prepare = preconditioners.bind(self.preconditioner, problem, start, preconditioners.steady)
        eps = jnp.finfo(start.value.dtype).eps

        def step(iterate: Iterate, state: _State) -> tuple[Iterate, _State, Info]:
            divide, _, modelled = prepare(iterate, state.preconditioner)
            product = problem.hessian(iterate)
            steepest = divide(iterate.gradient)
            cauchy = problem.farthest(iterate, steepest) * jnp.sqrt(jnp.maximum(inner(iterate.gradient, steepest), 0))
            radius = jnp.where(jnp.isfinite(state.radius), state.radius, cauchy)
            found = _steihaug(product, divide, iterate, steepest, radius, self.max_inner)
            velocity, factor = problem.manifold.limit(iterate.point, found.velocity)
            trial = problem.move(iterate, velocity)
            predicted = -factor * (
                inner(iterate.gradient, found.velocity) + factor * inner(found.velocity, found.image) / 2
            )
            # Differences of values below this are rounding; adding it makes both sides of the ratio equal there.
            blur = 1e3 * eps * jnp.abs(iterate.value)
            ratio = (iterate.value - trial.value + blur) / (predicted + blur)
            at_floor = predicted <= blur
            nearer = norm(trial.gradient) < norm(iterate.gradient)
            taken = trial.finite & jnp.where(at_floor, nearer, ratio > self.accept)
            length = factor * found.length
            # A long step along the gauge gains nothing: try a shorter one before giving up.
            refused = at_floor & ~nearer & found.border
            shrunk = ~(ratio > 0.25) | ~trial.finite | refused
            grown = (ratio > 0.75) & found.border
            radius = jnp.where(shrunk, 0.25 * length, jnp.where(grown, 2 * radius, radius))
            info = Info(stalled=~taken & ((at_floor & ~refused) | ~(length > 0)), evaluations=found.products + 2)
            return better(taken, trial, iterate), _State(radius, modelled), info

        return _State(jnp.full((), jnp.inf, start.value.dtype), modelled), step


class _Steihaug(NamedTuple):
    velocity: Array
    image: Array  # H velocity
    length: Array  # ||velocity||_M
    border: Array
    products: Array


class _Conjugate(NamedTuple):
    velocity: Array
    image: Array
    residual: Array
    direction: Array
    weight: Array  # <residual, M^-1 residual>
    velocity_square: Array  # ||velocity||_M^2 and the two below it come from recurrences: M itself is never applied
    cross: Array
    direction_square: Array
    products: Array
    border: Array
    done: Array


def _steihaug(
    product: Callable[[Array], Array],
    divide: Callable[[Array], Array],
    iterate: Iterate,
    steepest: Float[Array, "*coordinates"],
    radius: Array,
    max_inner: ArrayLike,
) -> _Steihaug:
    gradient, dtype = iterate.gradient, iterate.gradient.dtype
    size = norm(gradient)
    # The nearer the answer, the more exact the inner solve: this gives superlinear convergence.
    relative = size / jnp.maximum(size_of(iterate), TINY)
    goal = size * jnp.minimum(0.1, relative)
    weight = inner(gradient, steepest)
    zero, nothing = jnp.zeros((), dtype), jnp.zeros_like(gradient)

    def body(c: _Conjugate) -> _Conjugate:
        image = product(c.direction)
        bend = inner(c.direction, image)
        alpha = c.weight / jnp.where(bend > 0, bend, 1)
        reach = c.velocity_square + alpha * (2 * c.cross + alpha * c.direction_square)
        leaves = ~(bend > 0) | ~(reach < radius**2)
        to_border = (
            -c.cross + jnp.sqrt(jnp.maximum(c.cross**2 + c.direction_square * (radius**2 - c.velocity_square), 0))
        ) / jnp.where(c.direction_square > 0, c.direction_square, 1)
        move = jnp.where(leaves, to_border, alpha)
        velocity, moved = c.velocity + move * c.direction, c.image + move * image
        residual = c.residual + alpha * image
        descent = divide(residual)
        new_weight = inner(residual, descent)
        beta = new_weight / jnp.where(c.weight > 0, c.weight, 1)
        return _Conjugate(
            velocity=velocity,
            image=moved,
            residual=residual,
            direction=beta * c.direction - descent,
            weight=new_weight,
            velocity_square=jnp.where(leaves, radius**2, reach),
            cross=beta * (c.cross + alpha * c.direction_square),
            direction_square=new_weight + beta**2 * c.direction_square,
            products=c.products + 1,
            border=leaves,
            done=leaves | (norm(residual) <= goal) | ~(new_weight > 0),
        )

    start = _Conjugate(
        nothing, nothing, gradient, -steepest, weight, zero, zero, weight, jnp.zeros((), jnp.int32),
        jnp.zeros((), bool), ~(weight > 0),
    )  # fmt: skip
    end = jax.lax.while_loop(lambda c: ~c.done & (c.products < max_inner), body, start)
    length = jnp.sqrt(jnp.maximum(end.velocity_square, 0))
    return _Steihaug(end.velocity, end.image, length, end.border, end.products)
