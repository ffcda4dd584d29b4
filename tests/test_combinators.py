"""Solvers with a condition or with others inside: the polar fixed point, continuation, restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_solvers import EPS, N, needs_x64, signals

from jaxdescramble import solvers
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal, retractions
from jaxdescramble.objectives import sparsity
from jaxdescramble.solvers import LBFGS, TrustRegion, minimise


def peaks(point, turn):
    """Minus a convex function whose minima, -n, are the signed permutations of a hidden frame, in both classes."""
    return -jnp.sum((point @ turn) ** 4)


@pytest.mark.both_precisions
@pytest.mark.parametrize("determinant", [1, -1])
def test_the_polar_fixed_point_climbs_convex_functions(determinant):
    hidden = orthogonal.random(jax.random.key(0), 5, "SO")
    start = hidden.T @ orthogonal.special(
        retractions.exponential(jnp.eye(5), 0.2 * orthogonal.skew(signals(3, 5, 5))), determinant
    )
    found = minimise(peaks, start, hidden, solver=solvers.PolarPower(), history=10, group="SO")
    assert int(found.status) == Status.SOLVED
    np.testing.assert_allclose(found.value, -5, rtol=10 * EPS, atol=0)
    np.testing.assert_allclose(np.linalg.det(found.point), determinant, rtol=100 * EPS, atol=0)
    assert int(found.steps) < 12  # cubically
    values = np.asarray(found.history.value)[: int(found.steps)]
    assert np.diff(values).max(initial=0) <= 100 * EPS


def linear(point, goal):
    return -jnp.sum(point * goal)


@pytest.mark.both_precisions
@pytest.mark.parametrize("determinant", [1, -1])
def test_a_linear_function_takes_one_polar_step_and_newton_agrees(determinant):
    goal, start = signals(1, 4, 4), orthogonal.random(jax.random.key(1), 4, determinant=determinant)
    singular = np.linalg.svd(np.asarray(goal), compute_uv=False)
    # The closed form in one class: the last singular value changes its sign where the goal lies in the other.
    singular[-1] *= determinant * np.sign(np.linalg.det(goal))
    polar = minimise(linear, start, goal, solver=solvers.PolarPower(), group="SO")
    assert int(polar.steps) == 1
    np.testing.assert_allclose(polar.value, -singular.sum(), rtol=20 * EPS, atol=0)
    newton = minimise(linear, start, goal, group="SO")
    assert newton.status in (Status.SOLVED, Status.PRECISION)
    np.testing.assert_allclose(newton.value, polar.value, rtol=100 * EPS, atol=0)


def corners(point, signals, *, width):
    return jnp.mean(jnp.sqrt((point @ signals) ** 2 + width**2))


@pytest.mark.thorough
@needs_x64
def test_continuation_finds_the_planted_frame_under_sharp_corners():
    rng = np.random.default_rng(0)
    sparse = jnp.asarray(rng.standard_normal((N, 60)) * (rng.random((N, 60)) < 0.3))
    hidden = orthogonal.random(jax.random.key(0), N, determinant=1)
    objective, start = sparsity(epsilon=1e-4), orthogonal.random(jax.random.key(5), N, determinant=1)
    summary = objective.summarise(hidden @ sparse)
    inner = LBFGS(preconditioner=None, max_steps=300)
    found = minimise(objective, start, summary, solver=solvers.Continuation(inner, (1e4, 1e3, 1e2, 10.0)))
    planted = objective(hidden.T, summary)
    assert float(found.value) <= float(planted) + 1e-9
    np.testing.assert_allclose(found.value, objective(found.point, summary), rtol=1e-12, atol=0)
    frame = np.abs(found.point @ hidden)
    np.testing.assert_allclose(np.sort(frame, axis=1)[:, -1], 1, rtol=0, atol=1e-3)  # a signed permutation
    direct = minimise(objective, start, summary, solver=inner)
    assert float(direct.value) >= float(found.value) - 1e-9


def double_well(point):
    return (point[0, 0] ** 2 - 0.5) ** 2 + 0.1 * point[0, 0] + 0.05 * jnp.linalg.slogdet(point)[0]


@needs_x64
def test_restarts_find_the_deeper_well_and_other_class_only_if_allowed():
    angle = np.linspace(0, 2 * np.pi, 100_001)
    lowest = ((np.cos(angle) ** 2 - 0.5) ** 2 + 0.1 * np.cos(angle)).min()
    start = orthogonal.geodesic(jnp.eye(2), jnp.asarray([[0.0, -0.88], [0.88, 0.0]]))  # at the bottom of the upper one
    inner = TrustRegion(preconditioner=None)
    alone = minimise(double_well, start, solver=inner, group="SO")
    assert float(alone.value) > 0.1
    for group, best in (("SO", lowest + 0.05), ("O", lowest - 0.05)):
        found = minimise(double_well, start, solver=solvers.Restarts(inner, 6, key=jax.random.key(0)), group=group)
        np.testing.assert_allclose(found.value, best, rtol=0, atol=1e-8)
        assert int(found.steps) > int(alone.steps)
        np.testing.assert_allclose(found.value, double_well(found.point), rtol=1e-13, atol=0)
