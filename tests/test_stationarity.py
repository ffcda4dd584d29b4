"""Second-order conditions against dense Hessians: minima, saddles, gauges, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import exact, objectives
from jaxdescramble.manifolds import orthogonal, retractions
from jaxdescramble.solvers import minimise, stationarity
from jaxdescramble.solvers.problem import ManifoldFunction

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def dense(function, point, *args):
    """All eigenvalues of the Hessian on skew matrices, by products with an orthonormal basis of them."""
    n = len(point)
    planes = [(i, j) for i in range(n) for j in range(i)]
    basis = np.zeros((len(planes), n, n))
    for k, (i, j) in enumerate(planes):
        basis[k, i, j], basis[k, j, i] = 0.5**0.5, -(0.5**0.5)
    problem = ManifoldFunction(function, args)
    product = problem.hessian(problem.evaluate(point))
    images = jax.vmap(product)(jnp.asarray(basis))
    return np.linalg.eigvalsh(np.einsum("aij,bij->ab", basis, images))


def summarised(seed, n=7, m=20, **options):
    objective = objectives.smoothness(**options)
    return objective, objective.summarise(jnp.asarray(np.random.default_rng(seed).standard_normal((n, m))))


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_extreme_eigenvalues_at_a_minimum_are_those_of_the_dense_hessian_without_the_gauge(key, boundary):
    objective, summary = summarised(0, order=1, boundary=boundary)
    point = exact.ClosedForm()(objective, summary).point
    eigenvalues = dense(objective, point, summary)
    gauge = np.abs(eigenvalues) < 1e-12 * eigenvalues[-1]
    assert gauge.sum() == (3 if boundary == "periodic" else 0)  # a phase for each pair of waves
    found = stationarity(objective, point, summary, key=key)
    np.testing.assert_allclose(found.lowest, eigenvalues[~gauge][0], rtol=1e-8, atol=0)
    np.testing.assert_allclose(found.highest, eigenvalues[-1], rtol=1e-8, atol=0)
    assert float(found.error) < 1e-9
    assert float(found.gradient_norm) < 1e-12


@pytest.mark.thorough
@needs_x64
def test_a_saddle_is_seen_and_the_direction_leads_off_it(key):
    objective, summary = summarised(1, order=1, boundary="neumann")
    point = exact.ClosedForm()(objective, summary).point
    D = objective.operator(7)
    # Two modes exchanged: the gradient vanishes still.
    modes = D.analyse(point)
    saddle = D.synthesise(modes[jnp.asarray([0, 2, 1, 3, 4, 5, 6])])
    found = stationarity(objective, saddle, summary, key=key)
    assert float(found.gradient_norm) < 1e-12
    np.testing.assert_allclose(found.lowest, dense(objective, saddle, summary)[0], rtol=1e-8, atol=0)
    assert float(found.lowest) < 0
    off = retractions.exponential(saddle, 0.1 * found.direction)
    assert objective(off, summary) < objective(saddle, summary)
    np.testing.assert_allclose(minimise(objective, off, summary).value, objective(point, summary), rtol=1e-9, atol=0)


@needs_x64
def test_anywhere_else_the_hessian_is_the_riemannian_one(key):
    objective, summary = summarised(2, n=5)
    start = orthogonal.random(key, 5)
    found = stationarity(objective, start, summary, key=key)
    eigenvalues = dense(objective, start, summary)
    np.testing.assert_allclose([found.lowest, found.highest], eigenvalues[[0, -1]], rtol=1e-8, atol=0)
    along = jax.grad(lambda t: objective(retractions.exponential(start, t * found.direction), summary))
    np.testing.assert_allclose(jax.grad(along)(0.0), found.lowest, rtol=1e-8, atol=0)


@pytest.mark.slow
@needs_x64
def test_few_steps_bound_the_extremes_from_inside_and_say_how_far_off_they_may_be(key):
    objective, summary = summarised(3, n=12, m=40)
    point = exact.ClosedForm()(objective, summary).point
    eigenvalues = dense(objective, point, summary)
    found = stationarity(objective, point, summary, key=key, steps=12)
    assert eigenvalues[0] - 1e-12 <= found.lowest <= found.highest <= eigenvalues[-1] + 1e-12
    assert np.abs(eigenvalues - float(found.lowest)).min() <= found.error + 1e-12


@pytest.mark.both_precisions
def test_edges(key):
    for n in (1, 2):
        found = stationarity(lambda P: jnp.sum(P * 0), jnp.eye(n), key=key)
        assert (float(found.lowest), float(found.highest), float(found.error)) == (0, 0, 0)
    assert np.isnan(stationarity(lambda P: jnp.sum(P) * jnp.nan, jnp.eye(3), key=key).lowest)
    plane = stationarity(lambda P: -jnp.trace(P), jnp.eye(2), key=key)  # -2 cos(t), t = |Omega| / sqrt(2)
    np.testing.assert_allclose([plane.lowest, plane.highest], [1, 1], rtol=1e-5)
    with pytest.raises(ValueError, match="steps"):
        stationarity(lambda P: jnp.trace(P), jnp.eye(2), key=key, steps=0)


@pytest.mark.slow
@needs_x64
def test_batches(key):
    objective, summary = summarised(2, n=5)
    starts = jnp.stack([orthogonal.random(one, 5) for one in jax.random.split(key, 3)])
    found = jax.vmap(lambda start: stationarity(objective, start, summary, key=key))(starts)
    for i in range(3):
        alone = stationarity(objective, starts[i], summary, key=key)
        np.testing.assert_allclose(found.lowest[i], alone.lowest, rtol=1e-9, atol=0)


@pytest.mark.thorough
@needs_x64
def test_a_descrambling_without_a_bound_is_certified_as_a_minimum(key):
    S = jnp.stack([orthogonal.random(one, 5) @ jax.random.laplace(one, (5, 200)) for one in jax.random.split(key)])
    found = jd.descramble(S, jd.objectives.locality("neumann"))
    certificate = found.stationarity(S, key=key)
    assert certificate.lowest.shape == (2,)
    assert (certificate.gradient_norm < 1e-7).all()
    assert (certificate.lowest > 1e-4).all()  # a strict minimum
    with pytest.raises(ValueError, match="batch"):
        found.stationarity(S[:1], key=key)
