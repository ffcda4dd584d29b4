"""Logarithm, distance, transport and frames of O(n), and elements of the component asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdescramble.manifolds import orthogonal

pytestmark = pytest.mark.both_precisions
X64 = jax.config.jax_enable_x64  # pyright: ignore
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
N = 5  # one size for hypothesis, so that everything compiles once
seeds = st.integers(0, 2**31)
often = settings(max_examples=40, deadline=None)

logarithm = jax.jit(orthogonal.logarithm)
distance = jax.jit(orthogonal.distance)


def rotation(n, angles, seed=0):
    """Planes of a random frame turned by these angles: the rotation and its logarithm, in double precision."""
    frame = scipy.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    W = np.zeros((n, n))
    for j, angle in enumerate(angles):
        W[2 * j, 2 * j + 1], W[2 * j + 1, 2 * j] = -angle, angle
    turned = np.eye(n)
    for j, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turned[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = [[c, -s], [s, c]]
    return frame @ turned @ frame.T, frame @ W @ frame.T


@pytest.mark.parametrize("n", [1, 2, 3, 64, 200])
@pytest.mark.parametrize("angles", ["none", "tiny", "generic", "equal", "all by pi", "some by pi"])
def test_logarithm_undoes_the_exponential(n, angles):
    k = n // 2
    theta = {
        "none": np.zeros(k),
        "tiny": np.full(k, 1e-5),
        "generic": np.random.default_rng(1).uniform(0, 3, k),
        "equal": np.full(k, 1.3),
        "all by pi": np.full(k, np.pi),
        "some by pi": np.where(np.arange(k) % 2, np.pi, 0.4),
    }[angles]
    Q, W = rotation(n, theta)
    found = np.asarray(logarithm(jnp.asarray(Q)), float)
    np.testing.assert_allclose(found, -found.T, rtol=0, atol=0)
    np.testing.assert_allclose(scipy.linalg.expm(found), Q, rtol=0, atol=4e3 * EPS)
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(W), rtol=0, atol=100 * EPS * max(n, 10))
    if "pi" not in angles:  # there the sense of turning is anybody's
        np.testing.assert_allclose(found, W, rtol=0, atol=300 * EPS)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14])
@pytest.mark.parametrize("n", [3, 8, 64])
def test_logarithm_nearly_at_pi(n, gap):
    angles = np.pi - gap * (1 + np.arange(n // 2))
    Q, W = rotation(n, np.where(angles > 0.1, angles, 0.1))
    found = np.asarray(logarithm(jnp.asarray(Q)), float)
    # The planes are as uncertain as they are in Q, the angles and the exponential are not.
    np.testing.assert_allclose(scipy.linalg.expm(found), Q, rtol=0, atol=1e3 * n * EPS)
    np.testing.assert_allclose(np.linalg.norm(found), np.linalg.norm(W), rtol=0, atol=1e3 * n * EPS)
    if gap > 1e4 * n * EPS:
        np.testing.assert_allclose(found, W, rtol=0, atol=300 * EPS / gap)


@often
@given(seeds)
def test_logarithm_of_haar_elements(seed):
    Q = orthogonal.random(jax.random.key(seed), N, "SO")
    W = np.asarray(logarithm(Q), float)
    assert np.linalg.norm(W, 2) <= np.pi + 10 * EPS
    np.testing.assert_allclose(scipy.linalg.expm(W), Q, rtol=0, atol=1e3 * N * EPS)
    np.testing.assert_allclose(logarithm(Q.T), -W, rtol=0, atol=1e-9 if X64 else 2e-2)
    assert bool(jnp.isnan(logarithm(Q.at[0].multiply(-1))).all())


@pytest.mark.thorough
@pytest.mark.skipif(not X64, reason="finite differences need 64 bits")
@pytest.mark.parametrize("angles", [[0.0, 0.0], [0.5, 0.5], [2.9, 1.0], [3.1, 3.1]])
def test_derivative_of_the_logarithm(angles, key):
    Q = jnp.asarray(rotation(N, angles)[0])
    V = orthogonal.skew(jax.random.normal(key, (N, N)))
    ahead, behind = (logarithm(orthogonal.geodesic(Q, t * V)) for t in (1e-6, -1e-6))
    got = jax.jvp(orthogonal.logarithm, (Q,), (Q @ V,))[1]
    np.testing.assert_allclose(got, (ahead - behind) / 2e-6, rtol=0, atol=2e-5)
    G = jax.random.normal(jax.random.key(1), (N, N))
    back = jax.vjp(orthogonal.logarithm, Q)[1](G)[0]
    np.testing.assert_allclose(jnp.sum(back * (Q @ V)), jnp.sum(got * G), rtol=1e-8)


def test_derivatives_are_finite_where_a_plane_turns_by_pi_and_where_points_meet():
    turned = jnp.diag(jnp.asarray([-1.0, -1.0, 1.0]))
    assert bool(jnp.isfinite(jax.grad(lambda q: orthogonal.logarithm(q)[0, 2])(turned)).all())
    np.testing.assert_array_equal(jax.grad(orthogonal.distance)(jnp.eye(3), jnp.eye(3)), 0)
    apart = jax.grad(orthogonal.distance)(jnp.eye(3), jnp.diag(jnp.asarray([-1.0, 1.0, 1.0])))
    np.testing.assert_array_equal(apart, 0)


@often
@given(seeds)
def test_distance_is_a_bi_invariant_metric(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    p, q, r, turn = (orthogonal.random(k, N, "SO") for k in keys)
    far, error = float(distance(p, q)), (1e-12 if X64 else 1e-5)
    assert 0 <= far <= np.pi * 2**0.5 * (N // 2) ** 0.5 + error
    np.testing.assert_allclose(distance(q, p), far, rtol=0, atol=error)
    np.testing.assert_allclose(distance(turn @ p, turn @ q), far, rtol=0, atol=error)
    np.testing.assert_allclose(distance(p @ turn, q @ turn), far, rtol=0, atol=error)
    assert far <= float(distance(p, r) + distance(r, q)) + error
    assert float(distance(p, p)) < 100 * EPS
    mirrored = p.at[0].multiply(-1)
    assert float(distance(mirrored, q)) == np.inf
    np.testing.assert_allclose(distance(mirrored, mirrored @ p.T @ q), far, rtol=0, atol=error)


def test_distance_is_the_length_of_the_geodesic_and_its_gradient_points_along_it(key):
    point = orthogonal.random(key, 6)
    W = orthogonal.skew(jax.random.normal(jax.random.key(1), (6, 6)))
    W = W / jnp.linalg.norm(W, 2)
    for t in (0.01, 1.0, 3.1):
        np.testing.assert_allclose(
            distance(point, orthogonal.geodesic(point, t * W)), t * jnp.linalg.norm(W), rtol=0, atol=200 * EPS
        )
    end = orthogonal.geodesic(point, 2 * W)
    gradient = orthogonal.skew(end.T @ jax.grad(orthogonal.distance, argnums=1)(point, end))
    np.testing.assert_allclose(gradient, W / jnp.linalg.norm(W), rtol=0, atol=300 * EPS)
    assert bool(jnp.isnan(distance(point, end.at[0, 0].set(jnp.nan))))


@pytest.mark.thorough
@often
@given(seeds, st.floats(0, 10))
def test_transport_is_an_isometry_that_keeps_velocities(seed, length):
    point = orthogonal.random(jax.random.key(seed), N)
    W, V, U = (orthogonal.skew(m) for m in jax.random.normal(jax.random.key(seed), (3, N, N)))
    W = length * W / jnp.linalg.norm(W, 2)
    moved = [transport(point, W, m) for m in (W, V, U)]
    error = 1e3 * EPS * (1 + length)
    np.testing.assert_allclose(moved[0], W, rtol=0, atol=error)
    np.testing.assert_allclose(jnp.sum(moved[1] * moved[2]), jnp.sum(V * U), rtol=0, atol=20 * error)
    np.testing.assert_allclose(transport(orthogonal.geodesic(point, W), -W, moved[1]), V, rtol=0, atol=error)


transport = jax.jit(orthogonal.transport)


@pytest.mark.skipif(not X64, reason="slopes need 64 bits")
def test_transport_solves_its_equation(key):
    # In body coordinates a parallel field along exp(t W) obeys dV/dt = -[W, V] / 2; P itself says nothing.
    W, V = (orthogonal.skew(m) for m in jax.random.normal(key, (2, N, N)))
    point, other = orthogonal.random(key, N), orthogonal.random(jax.random.key(1), N)
    change = jax.jacfwd(lambda t: orthogonal.transport(point, t * W, V))(0.7)
    here = orthogonal.transport(point, 0.7 * W, V)
    np.testing.assert_allclose(change, -(W @ here - here @ W) / 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(orthogonal.transport(other, 0.7 * W, V), here, rtol=0, atol=0)


def test_spatial_and_body_frames_describe_the_same_motion(key):
    point = orthogonal.random(key, 6)
    body = orthogonal.skew(jax.random.normal(jax.random.key(1), (6, 6)))
    spatial = orthogonal.to_spatial(point, body)
    np.testing.assert_allclose(spatial, -spatial.T, rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(orthogonal.to_body(point, spatial), body, rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(
        orthogonal.geodesic(point, body), orthogonal.geodesic(jnp.eye(6), spatial) @ point, rtol=0, atol=200 * EPS
    )


@pytest.mark.parametrize(("group", "determinant", "expected"), [("O", 1, 1), ("O", -1, -1), ("SO", None, 1)])
def test_random_elements_of_one_component(key, group, determinant, expected):
    points = jax.vmap(lambda k: orthogonal.random(k, 4, group, determinant=determinant))(jax.random.split(key, 400))
    np.testing.assert_allclose(jnp.linalg.det(points), expected, rtol=0, atol=100 * EPS)
    np.testing.assert_allclose((points**2).mean(0), 0.25, rtol=0, atol=0.07)
    np.testing.assert_allclose(points.mean(0), 0.0, rtol=0, atol=0.1)
    np.testing.assert_allclose(orthogonal.special(points[0], -1)[-1], -expected * points[0, -1], rtol=0, atol=0)


def test_polishing_squares_the_defect_and_finds_the_nearest_element(key):
    point = orthogonal.random(key, 8)
    off = point + (1e-5 if X64 else 1e-3) * jax.random.normal(jax.random.key(1), (8, 8))
    before, after = (float(orthogonal.defect(p)) for p in (off, orthogonal.polish(off)))
    assert before > 1e-5
    assert after < before**2 + 50 * EPS
    np.testing.assert_allclose(orthogonal.polish(off), orthogonal.polar(off)[0], rtol=0, atol=before**2 + 50 * EPS)
    together = orthogonal.polish(jnp.stack([off, point]))
    np.testing.assert_allclose(together[0], orthogonal.polish(off), rtol=0, atol=10 * EPS)


def test_vmapped_equals_looped_with_no_batched_lapack_call_on_a_cpu(key):
    p, q = (jax.vmap(lambda k: orthogonal.random(k, N, "SO"))(jax.random.split(k, 40)) for k in jax.random.split(key))
    batch = jax.jit(jax.vmap(lambda a, b: (orthogonal.distance(a, b), orthogonal.geodesic(a, orthogonal.skew(b)))))
    for k in (0, 39):
        np.testing.assert_allclose(batch(p, q)[0][k], distance(p[k], q[k]), rtol=0, atol=100 * EPS)
        np.testing.assert_allclose(
            batch(p, q)[1][k], orthogonal.geodesic(p[k], orthogonal.skew(q[k])), rtol=0, atol=100 * EPS
        )
    if jax.default_backend() == "cpu":
        lines = batch.lower(p, q).compile().as_text().splitlines()
        assert not any("custom-call(" in line and "lapack" in line and "[40,5,5]" in line for line in lines)


@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_named(key):
    eye = jnp.eye(3)
    with pytest.raises(ValueError, match=r"point: expected a square matrix, got shape \(3, 2\)"):
        orthogonal.logarithm(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"q: got shape \(2, 2\); must have the shape of the point, \(3, 3\)"):
        orthogonal.distance(eye, jnp.eye(2))
    with pytest.raises(ValueError, match="velocity: got shape"):
        orthogonal.transport(eye, jnp.zeros((2, 2)), jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="vector: got shape"):
        orthogonal.transport(eye, jnp.zeros((3, 3)), jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be 1 for group='SO'"):
        orthogonal.random(key, 3, "SO", determinant=-1)
    with pytest.raises(ValueError, match="must be 1, -1, or None"):
        orthogonal.random(key, 3, determinant=0)
    with pytest.raises(ValueError, match="group: got 'U'"):
        orthogonal.random(key, 3, "U")
    with pytest.raises(ValueError, match="n: expected a positive integer"):
        orthogonal.random(key, 0)
