"""O(n) and SO(n): projections, geodesics, the polar factor and its derivative at ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.manifolds import orthogonal

pytestmark = pytest.mark.both_precisions
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)


@pytest.mark.parametrize("group", ["O", "SO"])
def test_random_elements_are_orthogonal_and_fill_the_component_they_are_asked_for(key, group):
    points = jax.vmap(lambda k: orthogonal.random(k, 5, group))(jax.random.split(key, 400))
    assert float(orthogonal.defect(points).max()) < 100 * EPS
    positive = int((jnp.linalg.det(points) > 0).sum())
    assert positive == 400 if group == "SO" else 150 < positive < 250
    # Haar: E[P_ij^2] = 1/n and E[P_ij] = 0, the signs fair.
    np.testing.assert_allclose((points**2).mean(0), 0.2, atol=0.07)
    np.testing.assert_allclose(points.mean(0), 0.0, atol=0.09)


def test_tangent_projects_and_the_geodesic_leaves_along_it(key):
    point = orthogonal.random(key, 6)
    vector = jax.random.normal(jax.random.key(1), (6, 6))
    along = orthogonal.tangent(point, vector)
    np.testing.assert_allclose(orthogonal.tangent(point, along), along, atol=50 * EPS)
    np.testing.assert_allclose(point.T @ along, -(point.T @ along).T, atol=50 * EPS)
    velocity = point.T @ along
    assert float(orthogonal.defect(orthogonal.geodesic(point, velocity))) < 300 * EPS
    slope = jax.jvp(lambda t: orthogonal.geodesic(point, t * velocity), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(slope, along, atol=100 * EPS)


@pytest.mark.parametrize("group", ["O", "SO"])
def test_polar_beats_every_other_element(key, group):
    M = jax.random.normal(key, (4, 4)).at[0].multiply(-1)
    Q, singular = orthogonal.polar(M, group)
    best = float(jnp.trace(Q.T @ M))
    np.testing.assert_allclose(best, singular.sum(), rtol=100 * EPS)
    others = jax.vmap(lambda k: orthogonal.random(k, 4, group))(jax.random.split(key, 500))
    assert best > float(jnp.einsum("bij,ij->b", others, M).max())
    nearby = jax.vmap(lambda w: orthogonal.geodesic(Q, 0.1 * orthogonal.skew(w)))(jax.random.normal(key, (200, 4, 4)))
    assert best > float(jnp.einsum("bij,ij->b", nearby, M).max())
    if group == "SO":
        np.testing.assert_allclose(jnp.linalg.det(Q), 1, rtol=100 * EPS)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need 64 bits")  # pyright: ignore
@pytest.mark.parametrize("group", ["O", "SO"])
@pytest.mark.parametrize("matrix", ["generic", "all singular values equal"])
def test_derivative_of_the_polar_factor_is_right_at_ties_too(key, group, matrix):
    M = jax.random.normal(key, (5, 5)) if matrix == "generic" else orthogonal.random(key, 5, "SO")
    V = jax.random.normal(jax.random.key(1), (5, 5))
    step = 1e-5
    ahead, behind = orthogonal.polar(M + step * V, group)[0], orthogonal.polar(M - step * V, group)[0]
    got = jax.jvp(lambda m: orthogonal.polar(m, group)[0], (M,), (V,))[1]
    np.testing.assert_allclose(got, (ahead - behind) / (2 * step), atol=1e-7)
    back = jax.vjp(lambda m: orthogonal.polar(m, group)[0], M)[1](V)[0]
    np.testing.assert_allclose(jnp.sum(back * V), jnp.sum(got * V), rtol=1e-9)


def test_polar_of_a_singular_matrix_is_still_orthogonal_with_a_finite_derivative():
    M = jnp.zeros((3, 3)).at[0, 1].set(2.0)
    Q, change = jax.jvp(lambda m: orthogonal.polar(m)[0], (M,), (jnp.ones((3, 3)),))
    assert float(orthogonal.defect(Q)) < 100 * EPS
    assert bool(jnp.isfinite(change).all())
