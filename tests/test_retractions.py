"""Retractions: their order against the geodesic, their derivatives, and that they stay on the group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescramble.manifolds import orthogonal
from jaxdescramble.manifolds._exponentials import exponential_minus_one, exponential_of_any
from jaxdescramble.manifolds.retractions import CAP, RETRACTIONS, limit

X64 = jax.config.jax_enable_x64  # pyright: ignore
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
DEFECT = 1e-14 if X64 else 1e-6  # per row
ORDERS = {"exponential": None, "cayley": 2, "qr": 1, "polar": 2}

pytestmark = pytest.mark.both_precisions
each = pytest.mark.parametrize("name", sorted(RETRACTIONS))
needs_digits = pytest.mark.skipif(not X64, reason="slopes need 64 bits")


def skew(n, norm, seed=1):
    """A random skew matrix of a given spectral norm."""
    W = np.random.default_rng(seed).standard_normal((n, n))
    W = W - W.T
    return jnp.asarray(norm * W / max(np.linalg.norm(W, 2), 1e-300))


def slope(steps, errors):
    return float(np.polyfit(np.log2(steps), np.log2(np.asarray(errors)), 1)[0])


def test_every_retraction_has_an_order_here():
    assert set(ORDERS) == set(RETRACTIONS)


@needs_digits
@each
def test_order_against_the_geodesic(name, key):
    point, W = orthogonal.random(key, 7), skew(7, 1.0)
    move = jax.jit(RETRACTIONS[name])
    steps = 2.0 ** -np.arange(3, 8)
    errors = [np.linalg.norm(move(point, t * W) - point @ scipy.linalg.expm(t * np.asarray(W))) for t in steps]
    if ORDERS[name] is None:
        assert max(errors) < 1e-14
    else:
        assert abs(slope(steps, errors) - (ORDERS[name] + 1)) < 0.05


@each
def test_first_derivative_at_zero_is_the_identity_and_the_second_that_of_a_geodesic(name, key):
    point, W, V = orthogonal.random(key, 6), skew(6, 1.0), skew(6, 1.0, seed=2)

    def velocity(w, v):
        return jax.jvp(lambda x: RETRACTIONS[name](point, x), (w,), (v,))[1]

    np.testing.assert_allclose(RETRACTIONS[name](point, 0 * W), point, rtol=0, atol=8 * EPS)
    np.testing.assert_allclose(velocity(0 * W, W), point @ W, rtol=0, atol=30 * EPS)
    acceleration = jax.jvp(lambda w: velocity(w, V), (0 * W,), (W,))[1]
    if ORDERS[name] != 1:
        np.testing.assert_allclose(acceleration, point @ (W @ V + V @ W) / 2, rtol=0, atol=100 * EPS)
    else:
        assert bool(jnp.isfinite(acceleration).all())
        assert float(jnp.abs(acceleration - point @ (W @ V + V @ W) / 2).max()) > 0.01


@needs_digits
@each
@pytest.mark.parametrize("norm", [0.0, CAP])
def test_derivatives_by_taylor_slopes_forward_and_reverse(name, norm, key):
    point, W, V = orthogonal.random(key, 5), skew(5, norm), skew(5, 1.0, seed=2)
    target = jax.random.normal(jax.random.key(3), (5, 5))

    @jax.jit
    def function(w, p=point):
        return jnp.sum(jnp.sin(RETRACTIONS[name](p, w)) * target)

    gradient = jax.jit(jax.grad(function))
    first = float(jnp.sum(gradient(W) * V))
    second = float(jnp.sum(jax.jvp(gradient, (W,), (V,))[1] * V))
    np.testing.assert_allclose(first, jax.jvp(function, (W,), (V,))[1], rtol=1e-9)
    twice = jax.grad(lambda w: jnp.sum(jax.grad(function)(w) * V))(W)
    np.testing.assert_allclose(jnp.sum(twice * V), second, rtol=1e-8)
    steps = 2.0 ** -np.arange(4, 9)
    model = [abs(float(function(W + t * V) - function(W)) - t * first) for t in steps]
    better = [abs(float(function(W + t * V) - function(W)) - t * first - t * t * second / 2) for t in steps]
    assert abs(slope(steps, model) - 2) < 0.15
    assert abs(slope(steps, better) - 3) < 0.3
    # A change of the point that stays on the group: P exp(t V) moved by W.
    along = jax.jvp(lambda t: function(W, orthogonal.geodesic(point, t * V)), (0.0,), (1.0,))[1]
    ahead, behind = (function(W, orthogonal.geodesic(point, t * V)) for t in (1e-5, -1e-5))
    np.testing.assert_allclose(along, (ahead - behind) / 2e-5, rtol=0, atol=1e-8)


@pytest.mark.sampled(12)
@each
@pytest.mark.parametrize("n", [1, 2, 3, 64])
@pytest.mark.parametrize("determinant", [1, -1])
def test_stays_on_the_group_and_in_its_component(name, n, determinant, key):
    point = orthogonal.random(key, n, determinant=determinant)
    for norm in (0.0, 1e-4, 1.0, CAP):
        W = limit(skew(n, norm))[0]
        moved = RETRACTIONS[name](point, W)
        assert moved.dtype == point.dtype
        assert float(orthogonal.defect(orthogonal.polish(moved))) <= DEFECT * n
        assert float(orthogonal.defect(moved)) <= DEFECT * n
        assert float(jnp.linalg.det(moved)) * determinant > 0.99


@each
def test_a_thousand_steps_do_not_drift_and_a_drifted_point_is_mended(name, key):
    n = 16
    point, W = orthogonal.random(key, n), skew(n, 0.3)
    walk = jax.jit(lambda p: jax.lax.fori_loop(0, 1000, lambda k, q: RETRACTIONS[name](q, W), p))
    assert float(orthogonal.defect(walk(point))) <= DEFECT * n
    drifted = point * (1 + 30 * EPS ** (2 / 3))
    assert float(orthogonal.defect(RETRACTIONS[name](drifted, W))) <= DEFECT * n


@pytest.mark.parametrize("n", [2, 3, 64])
def test_exponential_is_accurate_up_to_its_cap(n, key):
    point = orthogonal.random(key, n)
    for norm, error in ((1e-3, 0.0), (1.0, 0.0), (CAP, 5e-12 if X64 else 2e-6)):
        W = skew(n, norm)
        exact = np.asarray(point, float) @ scipy.linalg.expm(np.asarray(W, float))
        np.testing.assert_allclose(RETRACTIONS["exponential"](point, W), exact, rtol=0, atol=error + 20 * EPS)


def test_exponential_keeps_the_digits_of_small_velocities():
    W = skew(5, 1e-3)
    got = exponential_minus_one(1e-9 * W)
    np.testing.assert_allclose(got, 1e-9 * W, rtol=1e-6 if not X64 else 1e-11, atol=1e-20)


@pytest.mark.parametrize("norm", [0.0, 0.1, 3.0, 50.0, 1000.0])
def test_exponential_of_any_velocity(norm, key):
    W = skew(6, norm)
    exact = scipy.linalg.expm(np.asarray(W, float))
    # Compared with eigenvectors, it is scipy that is off by this much at 1000 (7e-12, against 1.4e-13).
    np.testing.assert_allclose(exponential_of_any(W), exact, rtol=0, atol=60 * EPS * (1 + norm))
    many = jax.vmap(exponential_of_any)(jnp.stack([W, 0 * W]))
    np.testing.assert_allclose(many[0], exact, rtol=0, atol=60 * EPS * (1 + norm))
    np.testing.assert_allclose(many[1], np.eye(6), rtol=0, atol=0)
    back = jax.grad(lambda t: exponential_of_any(t * W)[0, 1])(1.0)
    np.testing.assert_allclose(back, (W @ exact)[0, 1], rtol=0, atol=100 * EPS * (1 + norm) ** 2)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 3, 64]), st.integers(0, 2**31), st.integers(-12, 12), st.floats(0.01, 100))
def test_limit_bounds_the_spectral_norm(n, seed, decade, cap):
    W = skew(n, 1.0, seed) * 10.0**decade
    short, factor = limit(W, cap)
    largest = float(np.linalg.norm(np.asarray(W, float), 2))
    assert float(np.linalg.norm(np.asarray(short, float), 2)) <= cap * (1 + 20 * EPS)
    assert 0 < float(factor) <= 1
    np.testing.assert_allclose(short, factor * W, rtol=4 * EPS)
    if float(factor) < 1:
        assert float(factor) * largest >= cap / max(n / 2, 1) ** 0.25 * (1 - 20 * EPS)
        if n in (2, 3):  # one plane: the bound is the angle
            np.testing.assert_allclose(factor * largest, cap, rtol=50 * EPS)
    else:
        np.testing.assert_array_equal(short, W)


def test_limit_is_safe_at_zero_in_its_derivatives_and_at_huge_velocities():
    zero = jnp.zeros((3, 3))
    short, back = jax.vjp(lambda w: limit(w)[0], zero)
    np.testing.assert_array_equal(short, zero)
    np.testing.assert_array_equal(back(jnp.ones((3, 3)))[0], jnp.ones((3, 3)))
    np.testing.assert_array_equal(jax.jacfwd(jax.grad(lambda w: jnp.sum(limit(w)[0])))(zero), 0)
    huge = jnp.float32(1e30) * skew(4, 1.0).astype(jnp.float32)
    assert 0.5 < float(jnp.linalg.norm(limit(huge)[0], 2)) <= CAP * 1.001
    tiny = jnp.float32(1e-30) * skew(4, 1.0).astype(jnp.float32)
    assert float(limit(tiny)[1]) == 1
    assert bool(jnp.isnan(limit(tiny.at[0, 1].set(jnp.nan))[0]).any())
    # Beyond the cap the length is fixed: the derivative along the velocity is zero.
    W = skew(4, 10.0)
    assert float(jnp.abs(jax.jvp(lambda w: limit(w)[0], (W,), (W,))[1]).max()) < 100 * EPS


@each
def test_vmapped_and_jitted_equal_looped_with_no_batched_lapack_call_on_a_cpu(name):
    points = jax.vmap(lambda k: orthogonal.random(k, 5))(jax.random.split(jax.random.key(0), 40))
    velocities = jnp.stack([skew(5, 0.05 * k, seed=k) for k in range(40)])
    batch = jax.jit(jax.vmap(RETRACTIONS[name]))
    together = batch(points, velocities)
    for k in (0, 7, 39):
        np.testing.assert_allclose(together[k], RETRACTIONS[name](points[k], velocities[k]), rtol=0, atol=30 * EPS)
    if jax.default_backend() == "cpu":
        text = batch.lower(points, velocities).compile().as_text()
        calls = [line for line in text.splitlines() if "custom-call(" in line and ("lapack" in line or "blas" in line)]
        assert bool(calls) == (name in ("cayley", "qr"))
        assert not any("[40,5,5]" in line for line in calls)


@each
@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_named(name):
    move, eye = RETRACTIONS[name], jnp.eye(3)
    with pytest.raises(ValueError, match=r"point: expected a square matrix, got shape \(3, 2\)"):
        move(jnp.ones((3, 2)), eye)
    with pytest.raises(ValueError, match=r"velocity: got shape \(2, 2\); must have the shape of the point, \(3, 3\)"):
        move(eye, jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"use jax.vmap for a batch"):
        move(jnp.stack([eye, eye]), eye)
    with pytest.raises(TypeError, match="complex"):
        move(eye * 1j, eye)
