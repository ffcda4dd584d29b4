"""Deep linear networks: the closed form against the differential equation, its limits, and networks really trained."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import ortho_group

from jaxdescramble.exact import learning_times, linear_network_modes

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def integrated(s, u0, times, tau, depth):
    """The differential equation, by a Runge-Kutta method of order eight."""
    s = np.asarray(s, np.float64)

    def slope(t, u):
        return depth * u ** (2 - 2 / depth) * (s - u) / tau

    start = np.broadcast_to(np.asarray(u0, np.float64), s.shape)
    return solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-13, atol=1e-18).y.T


def one_mode(depth):
    """`u(s, u0, t)` for many triples at once."""

    def strength(s, u0, t):
        return linear_network_modes(s[None], u0[None], t[None], 1.0, depth)[0, 0]

    return jax.jit(jax.vmap(strength))


# Small starts and large ones, starts on and beside the target, targets that are nothing or next to it.
PAIRS = [
    (2.0, 1e-3),
    (1.0, 1e-3),
    (0.3, 1e-2),
    (2.0, 1.9),
    (0.5, 0.5),
    (0.5, 0.51),
    (0.4, 0.75),
    (0.4, 0.85),
    (0.3, 2.0),
]
PAIRS += [(1e-3, 1.0), (1e-9, 0.3), (0.0, 1.0), (0.0, 1e-3)]
S, U0 = (np.array(numbers) for numbers in zip(*PAIRS, strict=True))


@needs_x64
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_it_solves_the_differential_equation(depth):
    times = np.linspace(0, 60, 121)
    found = linear_network_modes(S, U0, times, 2.5, depth)
    assert found.shape == (121, len(S))
    np.testing.assert_allclose(found, integrated(S, U0, times, 2.5, depth), rtol=2e-11, atol=1e-16)


@needs_x64
@pytest.mark.parametrize("depth", [2, 3, 7])
def test_stopping_and_going_on_is_going_on_over_twenty_orders_of_magnitude(depth):
    rng, n = np.random.default_rng(depth), 2000
    s, u0 = 10 ** rng.uniform(-9, 2, n), 10 ** rng.uniform(-9, 3, n)
    wait = np.asarray(jax.vmap(lambda s, u0: learning_times(s[None], u0[None], 1.0, depth)[0])(s, u0))
    scale = np.where(wait > 0, wait, 1 / (depth * np.maximum(s, u0) ** (2 - 2 / depth)))
    end = scale * 10 ** rng.uniform(-2, 3, n)
    stop = end * rng.uniform(0, 1, n)
    go = one_mode(depth)
    whole, halves = np.asarray(go(s, u0, end)), np.asarray(go(s, go(s, u0, stop), end - stop))
    assert np.isfinite(whole).all()
    assert (np.abs(halves / whole - 1) <= 2e-14 * (1 + (s / u0) ** (1 - 2 / depth))).all()
    # A rising mode never passes its target, nor a falling one.
    assert (np.sign(s - u0) * (s - whole) >= -1e-14 * s).all()


@needs_x64
def test_two_layers_follow_the_published_formula_and_do_not_overflow():
    s, times, tau = np.array([1.5, 0.2]), np.linspace(0, 30, 50), 3.0
    growth = np.exp(2 * s * times[:, None] / tau)
    np.testing.assert_allclose(
        linear_network_modes(s, 1e-4, times, tau), s * growth / (growth - 1 + s / 1e-4), rtol=1e-12
    )
    np.testing.assert_allclose(linear_network_modes(s, 1e-4, np.array([1e9]), tau)[0], s, rtol=1e-14)


@needs_x64
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_limits(depth):
    times, power = np.array([7.0, 0.0, 1e4, 0.5]), 2 - 2 / depth
    at = dict(zip(times, np.asarray(linear_network_modes(S, U0, times, 1.0, depth)), strict=True))
    np.testing.assert_allclose(at[0.0], U0, rtol=1e-15)
    np.testing.assert_allclose(at[1e4][S > 0.1], S[S > 0.1], rtol=1e-14)
    np.testing.assert_allclose([u[4] for u in at.values()], 0.5, rtol=1e-15)  # starts where it ends
    for t, u in at.items():
        fading = U0 * np.exp(-t) if depth == 1 else (U0**-power + depth * power * t) ** (-1 / power)
        np.testing.assert_allclose(u[S == 0], fading[S == 0], rtol=1e-13)
    order = np.argsort(times)
    steps = np.diff(np.stack(list(at.values()))[order], axis=0)
    assert (steps * np.sign(S - U0) >= -1e-15).all()
    if depth > 1:
        assert linear_network_modes(S, 0.0, times, 1.0, depth).tolist() == np.zeros((4, len(S))).tolist()
    slower = linear_network_modes(S, U0, 3 * times, 3.0, depth)
    np.testing.assert_allclose(slower, np.stack(list(at.values())), rtol=1e-12)


# --- learning times --------------------------------------------------------------------------------------------------


@needs_x64
@pytest.mark.parametrize("depth", [1, 2, 3, 6])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_at_its_learning_time_a_mode_is_learned(depth, fraction):
    s = np.array([3.0, 1.0, 0.2])
    wait = learning_times(s, 1e-4, 2.0, depth, fraction)
    np.testing.assert_allclose(np.diagonal(linear_network_modes(s, 1e-4, wait, 2.0, depth)), fraction * s, rtol=1e-11)
    if depth > 1:
        assert (np.diff(wait) > 0).all()  # strong modes first


@needs_x64
def test_learning_times_where_there_is_no_learning():
    s, u0 = np.array([0.0, 1.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.0, 0.7, 0.4, 0.0])
    assert learning_times(s, u0, 1.0).tolist() == [np.inf, np.inf, 0.0, pytest.approx(np.log(1.5) / 2), np.inf]
    assert learning_times(s, u0, 1.0, 3)[:3].tolist() == [np.inf, np.inf, 0.0]
    assert learning_times(s, u0, 1.0, 1)[1] == pytest.approx(np.log(2))  # one layer leaves zero
    slope = jax.grad(lambda s: learning_times(s, 0.01, 1.0, 3)[0])(jnp.array([1.0, 0.0]))
    ahead, behind = (float(learning_times(np.array([1 + h]), 0.01, 1.0, 3)[0]) for h in (1e-5, -1e-5))
    assert slope.tolist() == [pytest.approx((ahead - behind) / 2e-5, rel=1e-8), 0.0]


# --- derivatives and transformations ---------------------------------------------------------------------------------


@needs_x64
@pytest.mark.parametrize("depth", [2, 3])
def test_derivatives(depth):
    times = np.array([0.0, 0.3, 2.0, 9.0])
    s, u0, t = (jnp.asarray(x) for x in (np.repeat(S, 4), np.repeat(U0, 4), np.tile(times, len(S))))
    strength = one_mode(depth)
    u = np.asarray(strength(s, u0, t))

    @jax.jit
    def slopes(s, u0, t):
        one = jnp.ones_like(s)
        return [jax.jvp(strength, (s, u0, t), tuple(one * (k == i) for k in range(3)))[1] for i in range(3)]

    by_s, by_u0, by_t = slopes(s, u0, t)
    # Along t the equation itself says it; along u0 its translation in time, or the linear law beside the target.
    speed = [depth * x ** (2 - 2 / depth) * (s - x) for x in (u, u0)]
    still = np.exp(-depth * s ** (2 - 2 / depth) * t)
    np.testing.assert_allclose(by_t, speed[0], rtol=1e-11, atol=1e-14)
    later = np.where(s == u0, still, speed[0] / np.where(s == u0, 1, speed[1]))
    np.testing.assert_allclose(by_u0, later, rtol=1e-9, atol=1e-11)
    # Along s by differences of order four, to one side where it is zero.
    step = 1e-3 * np.maximum(u0, s) * np.minimum(1, (u0 / np.maximum(s, u0)) ** 0.5)
    low = np.maximum(s - 2 * step, 0)
    points = [np.asarray(strength(low + k * step, u0, t)) for k in range(5)]
    middle = np.array([1, -8, 0, 8, -1]) / 12
    edge = np.array([-25, 48, -36, 16, -3]) / 12
    by_hand = [sum(w * p for w, p in zip(rule, points, strict=True)) / step for rule in (middle, edge)]
    inside = s - 2 * step >= 0
    np.testing.assert_allclose(by_s[inside], by_hand[0][inside], rtol=2e-6, atol=1e-10)
    np.testing.assert_allclose(by_s[s == 0], by_hand[1][s == 0], rtol=2e-6, atol=1e-10)
    backwards = jax.jit(jax.grad(lambda *x: strength(*x).sum(), (0, 1, 2)))(s, u0, t)
    for one, other in zip(backwards, (by_s, by_u0, by_t), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.thorough
@needs_x64
def test_second_derivatives():
    strength = one_mode(3)
    s, u0, t = np.array([1.0, 0.5, 0.0, 0.2]), np.array([1e-2, 0.5, 0.5, 1.0]), np.array([6.0, 1.0, 2.0, 3.0])
    by_s = jax.jit(lambda s: jax.jvp(lambda s: strength(s, u0, t), (s,), (jnp.ones_like(s),))[1])
    bend = jax.jit(lambda s: jax.jvp(by_s, (s,), (jnp.ones_like(s),))[1])(s)
    step = 1e-4
    ahead, here, behind = by_s(s + step), by_s(s), by_s(s - step)
    central = (ahead - behind) / (2 * step)
    one_sided = (-3 * here + 4 * ahead - by_s(s + 2 * step)) / (2 * step)
    np.testing.assert_allclose(bend, np.where(s > 0, central, one_sided), rtol=1e-5)
    assert (np.abs(bend) > 0.01).all()


@needs_x64
def test_jit_vmap_and_one_compilation():
    traces = []

    @jax.jit
    def solve(s, u0):
        traces.append(1)
        return linear_network_modes(s, u0, jnp.linspace(0, 9, 7), 1.0, depth=3)

    s = np.random.default_rng(0).uniform(0, 2, (4, 5))
    looped = [solve(row, 0.1 * row + 0.01) for row in s]
    assert len(traces) == 1
    np.testing.assert_allclose(jax.vmap(solve)(s, 0.1 * s + 0.01), looped, rtol=1e-13)
    np.testing.assert_allclose(linear_network_modes(s[0], 0.1 * s[0] + 0.01, np.linspace(0, 9, 7), 1.0, 3), looped[0])


@pytest.mark.both_precisions
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_single_precision(depth):
    times = np.linspace(0, 40, 21)
    s, u0, t = (np.asarray(x, np.float32) for x in (S, U0, times))
    found = linear_network_modes(s, u0, t, 2.5, depth)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, integrated(s, u0, t.astype(np.float64), 2.5, depth), rtol=2e-4)
    assert learning_times(s, u0, 2.5, depth).dtype == jnp.float32


# --- networks that are trained ---------------------------------------------------------------------------------------


def chain(weights):
    return functools.reduce(lambda below, above: above @ below, weights)


@functools.partial(jax.jit, static_argnames=("steps", "every"))
def trained(weights, X, Y, rate, steps, every):
    """Gradient descent on `||Y - W X||_F^2 / (2 m)`, the weights of every so many steps."""

    def step(weights, _):
        slopes = jax.grad(lambda weights: jnp.sum((Y - chain(weights) @ X) ** 2) / (2 * X.shape[1]))(weights)
        return [w - rate * slope for w, slope in zip(weights, slopes, strict=True)], None

    def stretch(weights, _):
        return jax.lax.scan(step, weights, length=every)[0], weights

    return jax.lax.scan(stretch, weights, length=steps // every)[1]


def problem(s, outputs=7, samples=20):
    """White inputs and targets, noise among them, and the modes of their correlation."""
    rng, k = np.random.default_rng(0), len(s)
    X = np.sqrt(samples) * np.linalg.qr(rng.standard_normal((samples, k)))[0].T
    U, V = ortho_group.rvs(outputs, random_state=rng)[:, :k], ortho_group.rvs(k, random_state=rng)
    noise = rng.standard_normal((outputs, samples))
    return X, (U * s) @ V.T @ X + noise - noise @ X.T @ X / samples, U, V


def strengths(history, U, V):
    return np.einsum("ak,tab,bk->tk", U, chain([np.asarray(weight) for weight in history]), V)


def aligned_start(u0, depth, U, V, hidden=9):
    """Balanced and aligned: the N-th root of u0 in every weight, in random frames of the hidden neurons."""
    frames = [V, *(ortho_group.rvs(hidden, random_state=layer)[:, : len(u0)] for layer in range(1, depth)), U]
    return [jnp.asarray((b * u0 ** (1 / depth)) @ a.T) for a, b in itertools.pairwise(frames)]


@needs_x64
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_trained_network_follows_the_closed_form(depth):
    s, u0 = np.array([2.0, 1.5, 1.5, 1.0, 0.0]), np.array([1e-3, 1e-3, 2e-2, 1e-3, 0.5])
    X, Y, U, V = problem(s)
    off = {}
    for rate in (0.004, 0.002):
        u = strengths(trained(aligned_start(u0, depth, U, V), X, Y, rate, 15000, 10), U, V)
        closed = linear_network_modes(s, u0, np.arange(0.0, 15000, 10), 1 / rate, depth)
        off[rate] = float((np.abs(u - closed) / np.maximum(s, u0)).max())
    assert float(np.abs(u[-1] - s)[:4].max()) < 0.02  # pyright: ignore[reportPossiblyUnboundVariable]
    assert off[0.004] < 0.02
    assert off[0.004] / off[0.002] == pytest.approx(2, rel=0.1)  # what is left is the length of the steps


@needs_x64
def test_two_layers_from_a_small_random_start():
    s, rate, hidden = np.array([2.0, 1.4, 1.0, 0.7]), 0.005, 256
    X, Y, U, V = problem(s)
    rng = np.random.default_rng(1)
    start = [1e-3 / np.sqrt(hidden) * rng.standard_normal(shape) for shape in ((hidden, 4), (7, hidden))]
    u = strengths(trained([jnp.asarray(w) for w in start], X, Y, rate, 4000, 10), U, V)
    times = 10.0 * np.arange(len(u))
    grows = np.sum((start[0] @ V + start[1].T @ U) ** 2, axis=0) / 4
    closed = np.asarray(linear_network_modes(s, grows, times, 1 / rate))
    assert (np.abs(u - closed) / s).max() < 0.02
    # What the modes measure at the start is chance, of either sign.
    measured = np.asarray(linear_network_modes(s, np.abs(u[0]), times, 1 / rate))
    assert (np.abs(u - measured) / s).max() > 0.2


@needs_x64
def test_three_layers_from_a_small_random_start_follow_once_they_are_seen():
    s, rate, hidden = np.array([2.0, 1.4, 1.0, 0.7]), 0.01, 128
    X, Y, U, V = problem(s)
    rng = np.random.default_rng(1)
    shapes = ((hidden, 4), (hidden, hidden), (7, hidden))
    start = [jnp.asarray(0.1 / np.sqrt(hidden) * rng.standard_normal(shape)) for shape in shapes]
    u = strengths(trained(start, X, Y, rate, 4000, 10), U, V)
    assert (np.abs(u[-1] / s - 1) < 0.01).all()
    off = {}
    for begin in (0, 0.02, 0.1):
        seen = np.argmax(u > begin * s, axis=0) if begin else np.zeros(4, int)
        off[begin] = 0.0
        for k, first in enumerate(seen):
            times = 10.0 * np.arange(len(u))
            closed = linear_network_modes(s[k : k + 1], abs(u[first, k]), times, 1 / rate, 3)[: len(u) - first, 0]
            off[begin] = max(off[begin], float(np.abs(u[first:, k] - closed).max() / s[k]))
    # Not aligned, it crosses its plateaus at other times; each rise is by the law, the sooner the fewer others rise.
    assert off[0] > 0.5
    assert 0.02 < off[0.02] < 0.1
    assert off[0.1] < 0.01


# --- bad input -------------------------------------------------------------------------------------------------------

ONE, T = np.ones(3, np.float32), np.ones(4, np.float32)
BAD = {
    "no axis": (lambda: linear_network_modes(1.0, 0.1, T, 1.0), ValueError, r"singular_values: expected \(modes,\)"),
    "integers": (lambda: linear_network_modes([2, 1], 0.1, T, 1.0), TypeError, r"singular_values: got int"),
    "steps that are integers": (
        lambda: linear_network_modes(ONE, 0.1, np.arange(4), 1.0),
        TypeError,
        r"times: got int.*astype\(jnp.float32\)",
    ),
    "one time": (lambda: linear_network_modes(ONE, 0.1, 3.0, 1.0), ValueError, r"times: expected \(times,\)"),
    "a negative singular value": (
        lambda: linear_network_modes(-ONE, 0.1, T, 1.0),
        ValueError,
        "singular_values: got -1.0 as the smallest",
    ),
    "time before the start": (
        lambda: linear_network_modes(ONE, 0.1, -T, 1.0),
        ValueError,
        r"times: got -\d\S* as the smallest",
    ),
    "NaN": (lambda: linear_network_modes(ONE * np.nan, 0.1, T, 1.0), ValueError, "singular_values: contains NaN"),
    "infinite time": (
        lambda: linear_network_modes(ONE, 0.1, T * np.inf, 1.0),
        ValueError,
        "times: contains NaN or inf",
    ),
    "starts of other modes": (
        lambda: linear_network_modes(ONE, 0.1 * T, T, 1.0),
        ValueError,
        r"initial: got shape \(4,\); must be one number, or one for each of 3 modes",
    ),
    "a negative start": (lambda: linear_network_modes(ONE, -0.1, T, 1.0), ValueError, "initial: got -0.1"),
    "no time constant": (lambda: linear_network_modes(ONE, 0.1, T, 0.0), ValueError, "tau: expected a positive number"),
    "no layer": (lambda: linear_network_modes(ONE, 0.1, T, 1.0, 0), ValueError, "depth: expected a positive integer"),
    "half a layer": (lambda: linear_network_modes(ONE, 0.1, T, 1.0, 1.5), TypeError, "depth: expected a positive int"),
    "all of it learned": (lambda: learning_times(ONE, 0.1, 1.0, fraction=1.0), ValueError, "fraction: got 1.0; must"),
    "nothing learned": (lambda: learning_times(ONE, 0.1, 1.0, fraction=0.0), ValueError, "fraction: expected a posit"),
}


@pytest.mark.every_case
@pytest.mark.both_precisions
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_refused_with_a_reason(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_one_layer_takes_a_start_of_either_sign():
    found = linear_network_modes(ONE, -0.5, T, 1.0, depth=1)
    np.testing.assert_allclose(found, 1 - 1.5 / np.e, rtol=1e-6)
