"""Deep linear networks: how strongly each mode of the data is learned at each time of training, in closed form.

A chain of N weights, `W = W_N ... W_1`, learns a target with singular values s from whitened inputs by gradient flow.
From a balanced and aligned start the modes never meet: the strength u of each obeys
`tau du/dt = N u^(2 - 2/N) (s - u)`, and large ones are learned before small ones (semantic development).

On a clock of its own, `d theta = N u^r dt / tau` with `r = 1 - 2/N`, every depth from two on runs along one logistic
curve: `u = u0 / D(theta)`, `D = e^(-s theta) + u0 (1 - e^(-s theta)) / s`. With two layers r = 0, and the clock shows
`2 t / tau`. With more it is the root of `integral_0^theta D^r = N u0^r t / tau`: the integral is elementary, and bent
one way for modes that grow and the other for modes that shrink, so that Newton's method walks straight to the root.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.special import roots_jacobi

from jaxdescramble._base.checks import is_finite, is_traced, positive_integer, positive_number, real_array

# Newton's method takes about `r log(s / u0) + 6` steps; even a start of 1e-300 stays below this.
STEPS = 1000


def linear_network_modes(
    singular_values: ArrayLike, initial: ArrayLike, times: ArrayLike, tau: ArrayLike, depth: int = 2
) -> Float[Array, "t k"]:
    """Strengths of the modes of a deep linear network while it is trained: `u_k(t) = (U^T W_N ... W_1 V)_kk`.

    `tau du/dt = N u^(2 - 2/N) (s - u)`: for one layer `u = s + (u0 - s) e^(-t/tau)`, for two layers
    `u = s e^(2 s t/tau) / (e^(2 s t/tau) - 1 + s/u0)`, for more see the top of this module. The loss is
    `||Y - W X||_F^2 / (2 m)` over m samples with `X X^T / m = 1`, and `Y X^T / m = U diag(s) V^T`. The start is
    balanced, `W_(l+1)^T W_(l+1) = W_l W_l^T`, and aligned with U and V: each weight holds the N-th root of u.

    A small random start is neither. Of two layers the part grows in which both agree, `u0 = ||W_1 v + W_2^T u||^2 / 4`
    with v and u the singular vectors of a mode: with hundreds of hidden neurons within 2% of s, with tens within 3 to
    20%. Of three layers nothing as simple is known: with hundreds a mode follows within 1 to 9% from when it is a tenth
    learned; with tens, modes of like strength turn into one another on their way, and none of this need hold.

    Args:
        singular_values: s, shape (k,), not negative. A mode of the weights that the target lacks (s = 0) fades.
        initial: u0, one number or shape (k,). From two layers on not negative, and a mode at 0 stays there.
        times: t, shape (t,), not negative, in any order.
        tau: the time constant in the unit of `times`: 1 / (learning rate) if that is steps of gradient descent.
        depth: N, the number of weights.

    Returns:
        u, shape (t, k). Its relative error is a few roundings, times what the equation itself makes of a rounding of s
        or t while a mode rises: up to `s t / tau` for two layers, `(s/u0)^r` for more. It can be jitted, vmapped, and
        differentiated any number of times, at s = 0 and at u0 = s too.

    Raises:
        ValueError, TypeError: shapes that do not fit, numbers that are negative or not finite, a depth below 1.

    >>> modes = linear_network_modes(jnp.asarray([2.0, 1.0]), 0.01, jnp.asarray([0.0, 2.0, 9.0]), tau=1.0)
    >>> [[round(float(u), 2) for u in row] for row in modes]
    [[0.01, 0.01], [1.87, 0.36], [2.0, 1.0]]

    Source: Saxe, McClelland, Ganguli 2014 (arXiv 1312.6120) and 2019 (PNAS 116, 11537): one and two layers, and the
    differential equation of more, whose solution is derived here.
    """
    s, u0, depth = _checked(singular_values, initial, depth)
    t = _not_negative(real_array(times, "times", (1,), "(times,)"), "times")
    elapsed = t / positive_number(tau, "tau")
    dtype = jnp.result_type(s, elapsed)
    return _strengths(s.astype(dtype), u0.astype(dtype), elapsed.astype(dtype), depth)


def learning_times(
    singular_values: ArrayLike, initial: ArrayLike, tau: ArrayLike, depth: int = 2, fraction: ArrayLike = 0.5
) -> Float[Array, " k"]:
    """When each mode has grown to a fraction f of its singular value: the inverse of `linear_network_modes`.

    For two layers `t = tau / (2 s) log((s/u0 - 1) f / (1 - f))`: what is twice as strong is learned in half the time.

    Args:
        singular_values, initial, tau, depth: as for `linear_network_modes`.
        fraction: f, between 0 and 1.

    Returns:
        t, shape (k,), in the unit of tau. 0 for modes that start beyond the fraction, infinity for those that are never
        learned (s = 0; from two layers on, u0 = 0).

    Raises:
        ValueError, TypeError: as for `linear_network_modes`; a fraction that is not between 0 and 1.

    >>> [round(float(t), 2) for t in learning_times(jnp.asarray([2.0, 1.0, 0.0]), 0.01, tau=1.0)]
    [1.32, 2.3, inf]

    Source: as for `linear_network_modes`.
    """
    s, u0, depth = _checked(singular_values, initial, depth)
    f = positive_number(fraction, "fraction")
    if not is_traced(f) and not f < 1:  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"fraction: got {fraction}; a mode comes to 1 after infinite time only. Use 0.99, say.")
    wait = jax.vmap(_wait, (0, 0, None, None))(s, u0, jnp.asarray(f, s.dtype), depth)
    return wait * positive_number(tau, "tau")


def _checked(singular_values: ArrayLike, initial: ArrayLike, depth: int) -> tuple[Array, Array, int]:
    s = _not_negative(real_array(singular_values, "singular_values", (1,), "(modes,)"), "singular_values")
    u0 = real_array(initial, "initial", (0, 1), "one number or (modes,)")
    if u0.shape not in ((), s.shape):
        raise ValueError(f"initial: shape {u0.shape} does not fit the {s.shape[0]} singular values; give one for each.")
    depth = positive_integer(depth, "depth")
    u0 = _not_negative(u0, "initial", sign=depth > 1)
    dtype = jnp.result_type(s, u0)
    return s.astype(dtype), jnp.broadcast_to(u0, s.shape).astype(dtype), depth


def _not_negative(array: Array, name: str, sign: bool = True) -> Array:
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity.")
    if sign and not is_traced(array) and float(np.min(np.asarray(array))) < 0:
        raise ValueError(f"{name}: the smallest is {float(np.min(np.asarray(array)))}, and none may be negative.")
    return array


@functools.partial(jax.jit, static_argnames="depth")
def _strengths(
    s: Float[Array, " k"], u0: Float[Array, " k"], elapsed: Float[Array, " t"], depth: int
) -> Float[Array, "t k"]:
    def strength(s, u0, t):
        if depth == 1:
            return u0 * jnp.exp(-t) - s * jnp.expm1(-t)
        return u0 / _shrinkage(2 * t if depth == 2 else _clock(s, u0, t, depth), s, u0)

    return jax.vmap(jax.vmap(strength, (0, 0, None)), (None, None, 0))(s, u0, elapsed)


@functools.partial(jax.jit, static_argnums=3)
def _wait(s: Array, u0: Array, fraction: Array, depth: int) -> Array:
    """The learning time of one mode, in units of tau."""
    below = u0 < fraction * s
    rising = below & ((u0 > 0) | (depth == 1))
    size = jnp.where(rising, s, 1)
    begin = jnp.where(rising, u0 / size, fraction / 2)
    if depth == 1:
        time = jnp.log((1 - begin) / (1 - fraction))
    else:
        logistic = jnp.log((1 / begin - 1) / (1 / fraction - 1))
        time = logistic + _bend(1 / begin, depth) - _bend(1 / fraction, depth)
        time = time / (depth * size ** (2 - 2 / depth))
    return jnp.where(rising, time, jnp.where(below | (s == 0), jnp.inf, 0))


def _shrinkage(theta: Array, s: Array, u0: Array) -> Array:
    """`D = u0 / u`: nothing grows in it, and nothing is divided by s."""
    divisor = jnp.exp(-s * theta) + u0 * theta * _mean_decay(s * theta)
    return jnp.maximum(divisor, jnp.finfo(divisor.dtype).tiny)  # where u0 = 0 and the exponential is below everything


def _mean_decay(x: Array) -> Array:
    """`(1 - e^-x) / x = integral_0^1 e^(-x y) dy`: a Gauss rule where the derivatives of the quotient would cancel."""
    small = x < 1
    near, far = jnp.where(small, x, 0), jnp.where(small, 1, x)
    y, weights = _rule(7, 1.0, x)
    return jnp.where(small, jnp.sum(weights * jnp.exp(-near * y)), -jnp.expm1(-far) / far)


def _rule(size: int, power: float, like: Array) -> tuple[Array, Array]:
    """Nodes and weights of `integral_0^1 y^(power - 1) f(y) dy`."""
    nodes, weights = roots_jacobi(size, 0, power - 1)
    return jnp.asarray((1 + nodes) / 2, like.dtype), jnp.asarray(weights / 2**power, like.dtype)


def _clock(s: Array, u0: Array, elapsed: Array, depth: int) -> Array:
    """The theta at which `integral_0^theta D^r = N u0^r t / tau`; 0 for a mode that starts at 0 and stays."""
    stays, rate = u0 == 0, 1 - 2 / depth
    u0 = jnp.where(stays, 1, u0)
    target = depth * u0**rate * elapsed

    def excess(theta):
        return _integral(theta, s, u0, depth) - target

    def solve(excess, theta):
        # D lies between 1 and u0/s, so that theta = target is on the side from which no step goes too far: u rises in
        # every step, until it cannot.
        def going(state):
            _, shrinkage, before, count = state
            return (shrinkage < (1 - 4 * jnp.finfo(theta.dtype).eps) * before) & (count < STEPS)

        def newton(state):
            theta, shrinkage, _, count = state
            theta = jnp.maximum(theta - excess(theta) / shrinkage**rate, 0)
            return theta, _shrinkage(theta, s, u0), shrinkage, count + 1

        start = (theta, _shrinkage(theta, s, u0), jnp.full_like(theta, jnp.inf), 0)
        return jax.lax.while_loop(going, newton, start)[0]

    def tangent_solve(linear, y):
        return y / linear(jnp.ones_like(y))

    theta = jax.lax.custom_root(excess, target, solve, tangent_solve)
    return jnp.where(stays, 0, theta)


def _integral(theta: Array, s: Array, u0: Array, depth: int) -> Array:
    """`integral_0^theta D^r = (u0/s)^r / s (s theta + bend(s/u0) - bend(q))`, with `q = s/u` on its way from s/u0 to 1.

    Where q is small these terms all but cancel, and the integral from 0 to q takes their place: it is regular at s = 0.
    """
    rate, power = 1 - 2 / depth, 2 - 2 / depth
    shrinkage = _shrinkage(theta, s, u0)
    start, now = s / u0, s / u0 * shrinkage
    far = now < 1 / 2
    size, first, last = jnp.where(far, u0, s), jnp.where(far, 1, start), jnp.where(far, 1, now)
    closed = (u0 / size) ** rate / size * (s * theta + _bend(first, depth) - _bend(last, depth))
    first, last = jnp.where(far, start, 0), jnp.where(far, now, 0)
    series = (shrinkage**power * _early(last, power) - _early(first, power)) / u0
    return jnp.where(far, series, closed)


def _early(q: Array, power: float) -> Array:
    """`q^-p integral_0^q y^(p-1) / (1 - y) dy = integral_0^1 y^(p-1) / (1 - q y) dy` for q up to 1/2."""
    y, weights = _rule(13, power, q)
    return jnp.sum(weights / (1 - q * y))


def _bend(q: Array, depth: int) -> Array:
    """`integral_0^q (y^r - 1) / (y - 1) dy` with `r = 1 - 2/N`, N >= 2: a sum over the N-th roots of unity."""
    if depth == 2:
        return jnp.zeros_like(q)
    x = q ** (1 / depth)
    angle = 2 * np.pi * np.arange(1, (depth + 1) // 2) / depth
    cosine, sine = (jnp.asarray(wave(angle), q.dtype) for wave in (np.cos, np.sin))
    double, across = (jnp.asarray(wave, q.dtype) for wave in (np.cos(2 * angle) - 1, 2 * np.sin(2 * angle)))
    logarithms = double * jnp.log1p(x * (x - 2 * cosine))
    return depth / (depth - 2) * x ** (depth - 2) + jnp.sum(logarithms + across * jnp.arctan2(x * sine, 1 - x * cosine))
