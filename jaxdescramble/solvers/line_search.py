"""A line search along a geodesic by slopes, which are exact: the manifold knows the velocity at the end.

It accepts a step by the Wolfe conditions. Where rounding hides differences of values, it uses their approximate form,
which needs slopes only (Hager and Zhang 2005, equations 4.1 to 4.3). So the gradient can reach rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble.solvers.problem import Iterate, ManifoldFunction, better, inner

DECREASE = 0.1
SLOPE = 0.9
EVALUATIONS = 20


class Search(NamedTuple):
    """The result of a line search.

    Attributes:
        iterate: the point at which the search ended.
        step: distance to this point, in units of the direction.
        evaluations: number of evaluations of the function with its gradient.
        success: whether the function fell.
    """

    iterate: Iterate
    step: Float[Array, ""]
    evaluations: Array
    success: Array


class _State(NamedTuple):
    low: Iterate
    low_step: Array
    low_slope: Array
    high_step: Array
    high_slope: Array
    step: Array
    evaluations: Array
    done: Array


def line_search(
    problem: ManifoldFunction,
    start: Iterate,
    direction: Float[Array, "*coordinates"],
    first: Float[Array, ""],
    longest: Float[Array, ""],
) -> Search:
    """Find a point on the geodesic `exp(t direction)` that satisfies the Wolfe conditions.

    Args:
        problem: the function to lower.
        start: the point at t = 0, where the direction descends.
        direction: velocity, in coordinates.
        first: the first t to try.
        longest: the largest t: see `ManifoldFunction.farthest`.

    Source: Hager and Zhang, SIAM J. Optim. 16 (2005) 170; the bracket shrinks by safeguarded secants of the slope.
    """
    dtype = start.value.dtype
    slope = inner(start.gradient, direction)
    # Values that differ by less than this are equal to rounding.
    blur = 10 * jnp.finfo(dtype).eps * jnp.abs(start.value)

    def body(state: _State) -> _State:
        t = state.step
        trial, trial_slope = problem.move_along(start, t, direction)
        finite = trial.finite
        low_enough = finite & (trial.value <= start.value + DECREASE * t * slope)
        level = finite & (trial.value <= start.value + blur)
        flat = trial_slope >= SLOPE * slope
        done = (low_enough | (level & (trial_slope <= (2 * DECREASE - 1) * slope))) & flat
        done = done | (low_enough & (t >= longest))
        # This end of the bracket lies beyond the minimum if the value is too high or the slope points back.
        beyond = ~(low_enough | level) | (trial_slope >= 0)
        keep = done | ~beyond
        low, low_step, low_slope = better(keep, (trial, t, trial_slope), (state.low, state.low_step, state.low_slope))
        high_step = jnp.where(beyond, t, state.high_step)
        high_slope = jnp.where(beyond, jnp.where(finite, trial_slope, jnp.nan), state.high_slope)
        width = high_step - low_step
        secant = low_slope / (low_slope - high_slope)
        inside = jnp.where(secant > 0, jnp.clip(secant, 0.1, 0.9), 0.5)  # halve if the secant is NaN or negative
        # If nothing lies beyond yet, extrapolate the slope, by a factor of two to five.
        growth = jnp.clip(-low_slope / (low_slope - state.low_slope), 1.0, 4.0)
        onward = low_step + jnp.where(growth >= 1, growth, 1.0) * low_step
        step = jnp.where(jnp.isfinite(high_step), low_step + inside * width, jnp.minimum(onward, longest))
        return _State(low, low_step, low_slope, high_step, high_slope, step, state.evaluations + 1, done)

    def goes_on(state: _State) -> Array:
        return ~state.done & (state.evaluations < EVALUATIONS)

    zero, infinite = jnp.zeros((), dtype), jnp.full((), jnp.inf, dtype)
    first = jnp.minimum(first, longest).astype(dtype)
    nothing = _State(start, zero, slope, infinite, infinite, first, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    end = jax.lax.while_loop(goes_on, body, nothing)
    success = end.done | ((end.low_step > 0) & (end.low.value < start.value))
    return Search(better(success, end.low, start), end.low_step, end.evaluations, success)
