"""Descramblers from weights and moments alone, and how fast samples approach them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import exact, objectives, operators
from jaxdescramble.exact import Stabiliser, align, from_weights, sampling_error

N, K = 8, 12
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def layer(seed=0):
    """A weight, a bias, and inputs with a mean and correlations."""
    rng = np.random.default_rng(seed)
    W, b = jnp.asarray(rng.standard_normal((N, K))), jnp.asarray(rng.standard_normal(N))
    half = jnp.asarray(rng.standard_normal((K, K)) * 0.7 ** np.arange(K)[None, :])
    mu = jnp.asarray(rng.standard_normal(K))
    return W, b, mu, half


@needs_x64
def test_moments_of_a_sample_give_what_the_sample_gives(key):
    W, b, mu, half = layer()
    x = half @ jax.random.normal(key, (K, 40)) + mu[:, None]
    S = W @ x + b[:, None]
    objective = objectives.smoothness(boundary="neumann")
    limit = from_weights(W, b, x.mean(axis=1), x @ x.T / 40, objective)
    measured = exact.ClosedForm()(objective, objective.summarise(S))
    np.testing.assert_allclose(limit.value, measured.value, rtol=1e-9, atol=0)
    np.testing.assert_allclose(limit.singular_values * 40**0.5, measured.singular_values, rtol=1e-9, atol=0)
    np.testing.assert_allclose(limit.point, measured.point, rtol=0, atol=1e-8)


@needs_x64
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_white_inputs_lay_the_weight_s_own_components_on_the_slowest_waves(boundary):
    W = layer(1)[0]
    objective = objectives.smoothness(boundary=boundary)
    D = objective.operator(N)
    _, s, Vh = np.linalg.svd(np.asarray(W), full_matrices=False)
    predicted = np.asarray(D.basis) @ (s[:, None] * Vh)
    found = from_weights(W, objective=objective).point @ W
    # Each component's sign is free on both sides; within a pair of waves so is a turn.
    modes = np.asarray(D.analyse(found)) @ Vh.T
    first = 0
    for k in D.multiplicities:
        block = np.abs(modes[first : first + k, first : first + k])
        np.testing.assert_allclose(np.linalg.norm(block, axis=0), s[first : first + k], rtol=1e-9, atol=0)
        first += k
    if boundary == "neumann":
        np.testing.assert_allclose(np.abs(modes), np.diag(s), rtol=0, atol=1e-9)
        np.testing.assert_allclose(np.abs(D.analyse(jnp.asarray(predicted)) @ Vh.T), np.diag(s), rtol=0, atol=1e-9)


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
def test_samples_approach_the_limit_at_the_rate_of_theory(key, boundary):
    W, _, _, half = layer(2)
    objective = objectives.smoothness(boundary=boundary)
    D = objective.operator(N)
    limit = from_weights(W, autocorrelation=half @ half.T, objective=objective)
    closed, gauge = exact.ClosedForm(), Stabiliser(D)

    def distance(one, m):
        S = W @ (half @ jax.random.normal(one, (K, m)))
        point = closed(objective, objective.summarise(S)).point
        # Signs of modes are free too, where the operator's are not turned: both are in the gauge of the operator.
        return jnp.sum((align(point, limit.point, gauge).aligned - limit.point) ** 2)

    for m in (4_000, 16_000):
        keys = jax.random.split(jax.random.fold_in(key, m), 60)
        measured = jax.jit(jax.vmap(lambda one, m=m: distance(one, m)))(keys)
        predicted = sampling_error(D, limit.singular_values**2, m)
        error = float(measured.std() / 60**0.5)
        assert abs(float(measured.mean() - predicted)) < 4 * error + 0.1 * float(predicted)


@pytest.mark.thorough
@needs_x64
def test_derivatives_in_weight_and_bias():
    W, b, mu, half = layer(3)
    objective = objectives.smoothness(boundary="neumann")

    def value(W, b):
        return from_weights(W, b, mu, half @ half.T + jnp.outer(mu, mu), objective).value

    slope = jax.grad(value, (0, 1))(W, b)
    rng = np.random.default_rng(0)
    dW, db = jnp.asarray(rng.standard_normal(W.shape)), jnp.asarray(rng.standard_normal(N))
    step = 1e-6
    numerical = (value(W + step * dW, b + step * db) - value(W - step * dW, b - step * db)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(slope[0] * dW) + slope[1] @ db, numerical, rtol=1e-6, atol=0)


@needs_x64
def test_refusals_name_what_is_wrong():
    W, b, mu, half = layer(4)
    R = half @ half.T
    with pytest.raises(ValueError, match=r"add mean mean\^T to a covariance"):
        from_weights(W, b, 100 * mu, R)
    with pytest.raises(ValueError, match="not symmetric"):
        from_weights(W, autocorrelation=half)
    with pytest.raises(ValueError, match="bias"):
        from_weights(W, b[:-1])
    with pytest.raises(ValueError, match="NaN"):
        from_weights(W, b, mu * jnp.nan, R)
    with pytest.raises(ValueError, match="closed form"):
        from_weights(W, objective=objectives.locality("neumann"))
    with pytest.raises(ValueError, match="powers"):
        sampling_error(operators.derivative(5), jnp.ones(4), 10)
