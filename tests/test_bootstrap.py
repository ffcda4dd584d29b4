"""Resampled descramblers scatter as theory says that samples do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
POWERS = np.asarray([9.0, 4.0, 2.0, 1.0, 0.4, 0.1])


def signals(key, m):
    keys = jax.random.split(key)
    turn = orthogonal.random(keys[0], 6)
    return turn @ (jnp.sqrt(jnp.asarray(POWERS))[:, None] * jax.random.normal(keys[1], (6, m)))


@needs_x64
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_draws_scatter_about_the_answer_as_samples_do_about_the_limit(key, boundary):
    m, objective = 4000, jd.objectives.smoothness(boundary=boundary)
    found = jd.bootstrap(signals(key, m), objective, key=jax.random.fold_in(key, 1), draws=200)
    predicted = float(jd.exact.sampling_error(objective.operator(6), POWERS, m))
    np.testing.assert_allclose(jnp.mean(found.distances**2), predicted, rtol=0.35)
    np.testing.assert_allclose(
        found.distances, jnp.linalg.norm(found.points - found.point[None], axis=(1, 2)), rtol=1e-12
    )


@needs_x64
def test_a_band_holds_as_many_draws_as_it_says_and_the_limit_as_often(key):
    objective = jd.objectives.smoothness(boundary="neumann")
    found = jd.bootstrap(signals(key, 300), objective, key=key, draws=100)
    low, high = found.band(lambda P: P, 0.5)
    share = jnp.mean((found.points >= low[None]) & (found.points <= high[None]))
    np.testing.assert_allclose(share, 0.5, atol=0.02)

    def holds(key):
        # The frame of the limit is known: the turn that the signals were made with.
        limit = objective.operator(6).synthesise(orthogonal.random(jax.random.split(key)[0], 6).T)
        found = jd.bootstrap(signals(key, 300), objective, key=jax.random.fold_in(key, 1), draws=60)
        gauge = jd.exact.Stabiliser(objective.operator(6))
        nearest = gauge.nearest(limit, found.point) @ limit
        low, high = found.band(lambda P: P, 0.9)
        return jnp.mean((nearest >= low) & (nearest <= high))

    often = jax.jit(lambda keys: jax.lax.map(holds, keys))(jax.random.split(key, 20))
    assert 0.8 < float(often.mean()) < 0.97


@pytest.mark.thorough
@needs_x64
def test_iterative_objectives_start_from_the_answer_and_refusals(key):
    S = orthogonal.random(key, 4) @ jax.random.laplace(key, (4, 400))
    found = jd.bootstrap(S, jd.objectives.sparsity(), key=key, draws=5)
    assert float(found.distances.max()) < 0.5  # no jump to another signed permutation
    with pytest.raises(ValueError, match="draws"):
        jd.bootstrap(S, key=key, draws=0)
    with pytest.raises(ValueError, match="group: got 'permutation'; choose one of 'O', 'SO'"):
        jd.bootstrap(jnp.ones((3, 5)), key=jax.random.key(0), group="permutation")
    with pytest.raises(ValueError, match="level"):
        found.band(lambda P: P, 1.0)


def test_columns_that_are_no_samples_are_not_drawn():
    with pytest.raises(ValueError, match=r"objective: diagonal_sum applies to a weight matrix, .* cannot be drawn"):
        jd.bootstrap(jnp.eye(4), jd.objectives.diagonal_sum(), key=jax.random.key(0), draws=2)
