"""Frames that were hidden in signals are found again, and starts do what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxdescramble import objectives, operators, solvers
from jaxdescramble.datasets import planted
from jaxdescramble.groups import orthogonal
from jaxdescramble.solvers.starts import FromModes, FromSources, Seriated

PLAIN = solvers.LBFGS(preconditioner=None, max_steps=500)
DIAGONAL = solvers.LBFGS(preconditioner=solvers.Analytic(), max_steps=500)
NOWHERE = solvers.LBFGS(max_steps=0)

PROBLEMS = {
    "steps": (planted.piecewise_constant, objectives.total_variation(), lambda keys: FromSources(PLAIN, keys)),
    "bumps": (planted.local, objectives.locality(), lambda keys: FromSources(Seriated(DIAGONAL), keys)),
    "smooth": (
        functools.partial(planted.local, smooth=True),
        objectives.locality(),
        lambda keys: FromSources(Seriated(DIAGONAL), keys),
    ),
    "few": (planted.sparse, objectives.sparsity(), lambda keys: FromSources(DIAGONAL, keys)),
}


@pytest.fixture
def keys(key):
    return jax.random.split(key, 2)


def _distance(p, q, name):
    """Modulo what the objective cannot tell, in units of sqrt(n)."""
    n, overlap = len(p), np.abs(p @ q.T)
    if name == "few":
        return np.sqrt(max(0, 2 - 2 * overlap[linear_sum_assignment(-overlap)].sum() / n))
    if name == "bumps":
        return min(np.sqrt(max(0, 2 - 2 * np.abs((p[::way] * q).sum(axis=1)).sum() / n)) for way in (1, -1))
    mirror = np.eye(n) - 2 / n
    points = [sign * turned[::way] for turned in (p, mirror @ p) for sign in (1, -1) for way in (1, -1)]
    return min(np.linalg.norm(point - q) for point in points) / n**0.5


def _recovered(name, n, noise, problems, times=10):
    """How many reach the planted value, and how many the frame."""
    generator, objective, solver = PROBLEMS[name]

    @jax.jit
    def solve(key):
        data, start, chance = jax.random.split(key, 3)
        problem = generator(data, n, times * n, noise=noise)
        summary = objective.summarise(problem.signals)
        found = solvers.minimise(
            objective, orthogonal.random(start, n), summary, solver=solver(jax.random.split(chance, 4))
        )
        return found.point, problem.frame, found.value <= objective(problem.frame, summary) * (1 + 1e-9)

    found = [jax.tree.map(np.asarray, solve(key)) for key in jax.random.split(jax.random.key(1), problems)]
    frames = sum(_distance(point, frame, name) <= 0.05 for point, frame, _ in found)
    return sum(bool(reached) for *_, reached in found), frames


@pytest.mark.parametrize("noise", [None, 20.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_value_of_the_planted_frame_is_reached(name, noise):
    values, frames = _recovered(name, 20, noise, 3)
    assert values == 3
    if name == "few" or (name == "steps" and noise is None):
        assert frames == 3


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("noise", [None, 20.0])
@pytest.mark.parametrize("name", PROBLEMS)
def test_planted_recovery_in_95_of_100(name, noise, n):
    values, frames = _recovered(name, n, noise, 100)
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
def test_every_start_keeps_the_determinant_class(key, keys, order, determinant):
    signals = planted.piecewise_constant(key, 12, 120).signals
    objective = objectives.total_variation(order)
    start = orthogonal.random(key, 12, determinant=determinant)
    for solver in (
        FromSources(NOWHERE, keys),
        Seriated(NOWHERE),
        FromModes(NOWHERE, operators.derivative(12, 1, "neumann")),
    ):
        found = solvers.minimise(objective, start, objective.summarise(signals), solver=solver)
        assert np.linalg.det(found.point) == pytest.approx(determinant)


def test_modes_are_the_closed_form_of_smoothness(key):
    objective = objectives.smoothness()
    summary = objective.summarise(jax.random.normal(key, (9, 40)))
    start = FromModes(NOWHERE, objective.operator_on(9))
    found = solvers.minimise(objective, orthogonal.random(key, 9), summary, solver=start)
    assert found.value == pytest.approx(float(objective.bound_on(summary)), rel=1e-9)


def test_circle_is_a_chain_too(key, keys):
    jumps, levels = jax.random.uniform(key, (16, 320)) < 0.2, jax.random.normal(key, (16, 320))
    signals = jnp.cumsum(jumps * levels, axis=0)
    objective = objectives.total_variation(boundary="periodic")
    start = orthogonal.random(key, 16)
    found = solvers.minimise(objective, start, objective.summarise(signals), solver=FromSources(PLAIN, keys))
    assert found.value <= objective(jnp.eye(16), signals)


@pytest.mark.slow
def test_batches_equal_single_solves(keys):
    generator, objective, _ = PROBLEMS["steps"]

    def solve(key):
        problem = generator(key, 12, 120)
        start = FromSources(NOWHERE, jax.random.split(key, 2))
        return solvers.minimise(objective, problem.frame, objective.summarise(problem.signals), solver=start).value

    np.testing.assert_allclose(jax.vmap(solve)(keys), [solve(key) for key in keys], rtol=1e-6)


def test_float32_finds_the_frame_as_well(key, keys):
    problem = planted.piecewise_constant(key, 24, 240, dtype=jnp.float32)
    objective = objectives.total_variation()
    start = orthogonal.random(key, 24, dtype=jnp.float32)
    summary = objective.summarise(problem.signals)
    found = solvers.minimise(objective, start, summary, solver=FromSources(PLAIN, keys))
    assert found.point.dtype == jnp.float32
    assert found.value <= objective(problem.frame, summary) * (1 + 1e-4)


def test_signals_that_do_not_fill_the_space_do_no_harm(key, keys):
    signals = planted.piecewise_constant(key, 12, 120).signals.at[:3].set(0)
    objective = objectives.total_variation()
    summary = objective.summarise(signals)
    for data in (summary, objective.summarise(0 * signals)):
        found = solvers.minimise(objective, jnp.eye(12), data, solver=FromSources(PLAIN, keys))
        assert np.isfinite(found.value)


def test_refusals(key, keys):
    signals = jax.random.normal(key, (6, 30))
    grid, line = objectives.total_variation(shape=(2, 3)), objectives.total_variation()
    start = jnp.eye(6)
    with pytest.raises(ValueError, match="no chain"):
        solvers.minimise(grid, start, grid.summarise(signals), solver=FromSources(PLAIN, keys))
    with pytest.raises(ValueError, match="at least as many samples"):
        solvers.minimise(line, start, line.summarise(signals[:, :4]), solver=FromSources(PLAIN, keys))
    smoothness = objectives.smoothness()
    for solver in (FromSources(PLAIN, keys), Seriated(PLAIN)):
        with pytest.raises(TypeError, match="keeps no samples"):
            solvers.minimise(smoothness, start, smoothness.summarise(signals), solver=solver)
        with pytest.raises(TypeError, match="read off the signals"):
            solvers.minimise(lambda point: point[0, 0], start, solver=solver)
