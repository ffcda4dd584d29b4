"""Deep linear networks in closed form: the strength of each mode of the data at each time of training.

A chain of N weights, `W = W_N ... W_1`, learns a target with singular values s from whitened inputs by gradient flow.
From a balanced and aligned start, the modes never mix. The strength u of each mode obeys
`tau du/dt = N u^(2 - 2/N) (s - u)`, so large modes are learned before small ones (semantic development).

With its own clock theta, `d theta = N u^r dt / tau` with `r = 1 - 2/N`, every depth from two on follows one logistic
curve: `u = u0 / D(theta)`, `D = e^(-s theta) + u0 (1 - e^(-s theta)) / s`. For two layers r = 0, and theta is
`2 t / tau`. For more layers, theta is the root of `integral_0^theta D^r = N u0^r t / tau`. The integral is elementary.
It is convex for modes that shrink and concave for modes that grow, so Newton's method converges monotonically.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.special import roots_jacobi

from jaxdescramble._base.checks import is_finite, is_traced, positive_integer, positive_number, real_array

# Newton's method takes about `r log(s / u0) + 6` steps; even a start at 1e-300 needs fewer than this.
STEPS = 1000


def linear_network_modes(
    singular_values: ArrayLike, initial: ArrayLike, times: ArrayLike, tau: ArrayLike, depth: int = 2
) -> Float[Array, "t k"]:
    """Return the strengths of the modes of a deep linear network during training, `u_k(t) = (U^T W_N ... W_1 V)_kk`.

    Use it as the exact curve of learning, to compare a trained network with. The equation is
    `tau du/dt = N u^(2 - 2/N) (s - u)`. For one layer `u = s + (u0 - s) e^(-t/tau)`, for two layers
    `u = s e^(2 s t/tau) / (e^(2 s t/tau) - 1 + s/u0)`; for more layers see the top of this module. The loss is
    `||Y - W X||_F^2 / (2 m)` over m samples with `X X^T / m = 1`, and `Y X^T / m = U diag(s) V^T`. The start is
    balanced, `W_(l+1)^T W_(l+1) = W_l W_l^T`, and aligned with U and V: each weight holds the N-th root of u.

    A small random start is neither balanced nor aligned. With two layers, the part grows in which both layers agree:
    `u0 = ||W_1 v + W_2^T u||^2 / 4`, where v and u are the singular vectors of a mode. The curve then holds within 2%
    of s with hundreds of hidden neurons, and within 3 to 20% with tens. With three layers no formula is known. With
    hundreds of neurons, a mode follows the curve within 1 to 9% once a tenth of it is learned. With tens, modes of
    similar strength mix during training, and the curve need not hold.

    Args:
        singular_values: s, shape (k,), at least 0. A mode that the weights have and the target lacks (s = 0) decays.
        initial: u0, one number or shape (k,). From two layers on it must be at least 0; a mode that starts at 0 stays.
        times: t, shape (t,), at least 0, in any order.
        tau: time constant, in the unit of `times`: 1 / (learning rate) if the unit is one step of gradient descent.
        depth: number of weights N.

    Returns:
        u, shape (t, k). Its relative error is a few roundings, times the sensitivity of the equation to a rounding of s
        or t while a mode rises: up to `s t / tau` for two layers, `(s/u0)^r` for more. It works under jit and vmap, and
        has derivatives of every order, also at s = 0 and at u0 = s.

    Raises:
        TypeError: if an array is not made of real numbers.
        ValueError: if the shapes do not fit, a number is negative or not finite, or `depth` is less than 1.

    >>> modes = linear_network_modes(jnp.asarray([2.0, 1.0]), 0.01, jnp.asarray([0.0, 2.0, 9.0]), tau=1.0)
    >>> [[round(float(u), 2) for u in row] for row in modes]
    [[0.01, 0.01], [1.87, 0.36], [2.0, 1.0]]

    Source: Saxe, McClelland, Ganguli 2014 (arXiv 1312.6120) and 2019 (PNAS 116, 11537) for one and two layers, and for
    the differential equation of more layers; its solution is derived here.
    """
    s, u0, depth = _checked(singular_values, initial, depth)
    t = _not_negative(real_array(times, "times", (1,), "(times,)"), "times")
    elapsed = t / positive_number(tau, "tau")
    dtype = jnp.result_type(s, elapsed)
    return _strengths(s.astype(dtype), u0.astype(dtype), elapsed.astype(dtype), depth)


def learning_times(
    singular_values: ArrayLike, initial: ArrayLike, tau: ArrayLike, depth: int = 2, fraction: ArrayLike = 0.5
) -> Float[Array, " k"]:
    """Return the time at which each mode reaches a fraction f of its singular value.

    This is the inverse of `linear_network_modes`. For two layers `t = tau / (2 s) log((s/u0 - 1) f / (1 - f))`: a mode
    of twice the strength is learned in half the time.

    Args:
        singular_values: s, shape (k,), at least 0.
        initial: u0, one number or shape (k,). From two layers on it must be at least 0.
        tau: time constant: 1 / (learning rate) gives times in steps of gradient descent.
        depth: number of weights N.
        fraction: f, between 0 and 1.

    Returns:
        t, shape (k,), in the unit of tau: 0 for modes that start beyond the fraction, infinity for modes that are never
        learned (s = 0; from two layers on, u0 = 0).

    Raises:
        TypeError: if an array is not made of real numbers.
        ValueError: if the shapes do not fit, a number is negative or not finite, `depth` is less than 1, or the
            fraction is not between 0 and 1.

    >>> [round(float(t), 2) for t in learning_times(jnp.asarray([2.0, 1.0, 0.0]), 0.01, tau=1.0)]
    [1.32, 2.3, inf]

    Source: Saxe, McClelland, Ganguli 2014 (arXiv 1312.6120) and 2019 (PNAS 116, 11537).
    """
    s, u0, depth = _checked(singular_values, initial, depth)
    f = positive_number(fraction, "fraction")
    if not is_traced(f) and not f < 1:
        raise ValueError(f"fraction: got {fraction}; must be below 1, which a mode reaches only after infinite time.")
    wait = jax.vmap(_wait, (0, 0, None, None))(s, u0, jnp.asarray(f, s.dtype), depth)
    return wait * positive_number(tau, "tau")


def _checked(singular_values: ArrayLike, initial: ArrayLike, depth: int) -> tuple[Array, Array, int]:
    s = _not_negative(real_array(singular_values, "singular_values", (1,), "(modes,)"), "singular_values")
    u0 = real_array(initial, "initial", (0, 1), "one number or (modes,)")
    if u0.shape not in ((), s.shape):
        raise ValueError(f"initial: got shape {u0.shape}; must be one number, or one for each of {s.shape[0]} modes.")
    depth = positive_integer(depth, "depth")
    u0 = _not_negative(u0, "initial", sign=depth > 1)
    dtype = jnp.result_type(s, u0)
    return s.astype(dtype), jnp.broadcast_to(u0, s.shape).astype(dtype), depth


def _not_negative(array: Array, name: str, sign: bool = True) -> Array:
    if not is_finite(array):
        raise ValueError(f"{name}: contains NaN or infinity; must be finite.")
    if sign and not is_traced(array) and float(np.min(np.asarray(array))) < 0:
        raise ValueError(f"{name}: got {float(np.min(np.asarray(array)))} as the smallest; must be at least 0.")
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
    """Return the learning time of one mode, in units of tau."""
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
    """Return `D = u0 / u`, in a form in which nothing grows and nothing is divided by s."""
    divisor = jnp.exp(-s * theta) + u0 * theta * _mean_decay(s * theta)
    return jnp.maximum(divisor, jnp.finfo(divisor.dtype).tiny)  # if u0 = 0, the exponential can underflow


def _mean_decay(x: Array) -> Array:
    """Return `(1 - e^-x) / x = integral_0^1 e^(-x y) dy`; a Gauss rule takes over where derivatives would cancel."""
    small = x < 1
    near, far = jnp.where(small, x, 0), jnp.where(small, 1, x)
    y, weights = _rule(7, 1.0, x)
    return jnp.where(small, jnp.sum(weights * jnp.exp(-near * y)), -jnp.expm1(-far) / far)


def _rule(size: int, power: float, like: Array) -> tuple[Array, Array]:
    """Return nodes and weights of `integral_0^1 y^(power - 1) f(y) dy`."""
    nodes, weights = roots_jacobi(size, 0, power - 1)
    return jnp.asarray((1 + nodes) / 2, like.dtype), jnp.asarray(weights / 2**power, like.dtype)


def _clock(s: Array, u0: Array, elapsed: Array, depth: int) -> Array:
    """Return the theta at which `integral_0^theta D^r = N u0^r t / tau`; 0 for a mode that starts and stays at 0."""
    stays, rate = u0 == 0, 1 - 2 / depth
    u0 = jnp.where(stays, 1, u0)
    target = depth * u0**rate * elapsed

    def excess(theta):
        return _integral(theta, s, u0, depth) - target

    def solve(excess, theta):
        # D lies between 1 and u0/s, so theta = target is on the side from which Newton's steps never go too far: u
        # rises in every step until rounding stops it.
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
    """Return `integral_0^theta D^r = (u0/s)^r / s (s theta + bend(s/u0) - bend(q))`; `q = s/u` goes from s/u0 to 1.

    For small q these terms nearly cancel; then the integral from 0 to q takes their place, which is regular at s = 0.
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
    """Return `q^-p integral_0^q y^(p-1) / (1 - y) dy = integral_0^1 y^(p-1) / (1 - q y) dy` for q up to 1/2."""
    y, weights = _rule(13, power, q)
    return jnp.sum(weights / (1 - q * y))


def _bend(q: Array, depth: int) -> Array:
    """Return `integral_0^q (y^r - 1) / (y - 1) dy`, `r = 1 - 2/N`, N >= 2, as a sum over the N-th roots of unity."""
    if depth == 2:
        return jnp.zeros_like(q)
    x = q ** (1 / depth)
    angle = 2 * np.pi * np.arange(1, (depth + 1) // 2) / depth
    cosine, sine = (jnp.asarray(wave(angle), q.dtype) for wave in (np.cos, np.sin))
    double, across = (jnp.asarray(wave, q.dtype) for wave in (np.cos(2 * angle) - 1, 2 * np.sin(2 * angle)))
    logarithms = double * jnp.log1p(x * (x - 2 * cosine))
    return depth / (depth - 2) * x ** (depth - 2) + jnp.sum(logarithms + across * jnp.arctan2(x * sine, 1 - x * cosine))
