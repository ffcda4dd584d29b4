"""Frames that were hidden in signals are found again, and starts do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.planted import PLAIN, count, rows
from jaxdescramble import objectives, operators, solvers
from jaxdescramble.datasets import planted
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers import FromModes, FromSources, Seriated

NOWHERE = solvers.LBFGS(max_steps=0)

RECOMMENDED = {"steps": 0, "bumps": 4, "smooth": 9, "few": 11}
each_kind = pytest.mark.parametrize("name", RECOMMENDED)


SEARCHES = 2


@pytest.fixture
def other(key):
    return jax.random.fold_in(key, 1)


def recovered(name, n, noise, problems):
    """How many of the benchmark's problems reach the planted value, and how many the frame."""
    kind, times, objective, _, solver = rows(n)[RECOMMENDED[name]]
    return count(kind, times, objective, solver, n, noise, problems)[:2]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("noise", [None, 20.0])
@each_kind
def test_value_of_the_planted_frame_is_reached(name, noise):
    values, frames = recovered(name, 20, noise, 3)
    assert values == 3
    if name == "few" or (name == "steps" and noise is None):
        assert frames == 3


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("noise", [None, 20.0])
@each_kind
def test_planted_recovery_in_95_of_100(name, noise, n):
    values, frames = recovered(name, n, noise, 100)
    assert values >= 95
    if name == "few" or (name == "steps" and noise is None):
        assert frames >= 95


def test_noise_is_as_loud_as_asked_for(key):
    loud, silent = (planted.local(key, 20, 2000, noise=noise) for noise in (10.0, None))
    power = jnp.mean((loud.signals - silent.signals) ** 2) / jnp.mean(loud.clean**2)
    assert abs(10 * jnp.log10(power) + 10) < 0.1
    np.testing.assert_allclose(silent.frame @ silent.signals, silent.clean, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("determinant", "order"), [(1, 2), (-1, 1)])
def test_every_start_keeps_the_determinant_class(key, other, order, determinant):
    signals = planted.piecewise_constant(key, 12, 120).signals
    objective = objectives.total_variation(order, boundary="neumann")
    start = orthogonal.random(key, 12, determinant=determinant)
    for solver in (
        FromSources(NOWHERE, SEARCHES, key=other),
        Seriated(NOWHERE),
        FromModes(NOWHERE, operators.derivative(12, 1, "neumann")),
    ):
        found = solvers.minimise(objective, start, objective.summarise(signals), solver=solver)
        assert np.linalg.det(found.point) == pytest.approx(determinant)


def test_modes_are_the_closed_form_of_smoothness(key):
    objective = objectives.smoothness()
    summary = objective.summarise(jax.random.normal(key, (9, 40)))
    start = FromModes(NOWHERE, objective.operator(9))
    found = solvers.minimise(objective, orthogonal.random(key, 9), summary, solver=start)
    assert found.value == pytest.approx(float(objective.bound(summary)), rel=1e-9)


@pytest.mark.thorough
def test_circle_is_a_chain_too(key, other):
    jumps, levels = jax.random.uniform(key, (16, 320)) < 0.2, jax.random.normal(key, (16, 320))
    signals = jnp.cumsum(jumps * levels, axis=0)
    objective = objectives.total_variation(boundary="periodic")
    start = orthogonal.random(key, 16)
    found = solvers.minimise(
        objective, start, objective.summarise(signals), solver=FromSources(PLAIN, SEARCHES, key=other)
    )
    assert found.value <= objective(jnp.eye(16), signals)


@pytest.mark.slow
def test_batches_equal_single_solves(key):
    keys = jax.random.split(key)
    objective = objectives.total_variation(boundary="neumann")

    def solve(key):
        problem = planted.piecewise_constant(key, 12, 120)
        start = FromSources(NOWHERE, 2, key=key)
        return solvers.minimise(objective, problem.frame, objective.summarise(problem.signals), solver=start).value

    np.testing.assert_allclose(jax.vmap(solve)(keys), [solve(key) for key in keys], rtol=1e-6)


@pytest.mark.thorough
def test_float32_finds_the_frame_as_well(key, other):
    problem = planted.piecewise_constant(key, 24, 240, dtype=jnp.float32)
    objective = objectives.total_variation(boundary="neumann")
    start = orthogonal.random(key, 24, dtype=jnp.float32)
    summary = objective.summarise(problem.signals)
    found = solvers.minimise(objective, start, summary, solver=FromSources(PLAIN, SEARCHES, key=other))
    assert found.point.dtype == jnp.float32
    assert found.value <= objective(problem.frame, summary) * (1 + 1e-4)


@pytest.mark.thorough
def test_signals_that_do_not_fill_the_space_do_no_harm(key, other):
    signals = planted.piecewise_constant(key, 12, 120).signals.at[:3].set(0)
    objective = objectives.total_variation(boundary="neumann")
    summary = objective.summarise(signals)
    for data in (summary, objective.summarise(0 * signals)):
        found = solvers.minimise(objective, jnp.eye(12), data, solver=FromSources(PLAIN, SEARCHES, key=other))
        assert np.isfinite(found.value)


def test_refusals(key, other):
    signals = jax.random.normal(key, (6, 30))
    grid, line = (
        objectives.total_variation(shape=(2, 3), boundary="neumann"),
        objectives.total_variation(boundary="neumann"),
    )
    start = jnp.eye(6)
    with pytest.raises(ValueError, match="no chain"):
        solvers.minimise(grid, start, grid.summarise(signals), solver=FromSources(PLAIN, SEARCHES, key=other))
    with pytest.raises(ValueError, match="at least as many samples"):
        solvers.minimise(line, start, line.summarise(signals[:, :4]), solver=FromSources(PLAIN, SEARCHES, key=other))
    smoothness = objectives.smoothness()
    for solver in (FromSources(PLAIN, SEARCHES, key=other), Seriated(PLAIN)):
        with pytest.raises(TypeError, match="keeps no samples"):
            solvers.minimise(smoothness, start, smoothness.summarise(signals), solver=solver)
        with pytest.raises(TypeError, match="read off the signals"):
            solvers.minimise(lambda point: point[0, 0], start, solver=solver)
