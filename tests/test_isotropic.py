"""The isotropic null: what descrambled random weights look like, on paper and measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxdescramble import descramble, objectives
from jaxdescramble.exact import isotropic_form, isotropic_moments, marchenko_pastur
from jaxdescramble.findings import random_frame
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
N, K = 12, 20


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize(("n", "k"), [(80, 256), (120, 60), (64, 64)])
def test_random_singular_values_are_marchenko_pastur_s(n, k):
    drawn = jax.vmap(lambda key: jnp.linalg.svd(jax.random.normal(key, (n, k)) / k**0.5, compute_uv=False))(keys(40))
    predicted = np.asarray(marchenko_pastur(n, k))
    assert predicted.shape == (min(n, k),)
    assert (np.diff(predicted) < 0).all()
    # The law's own energy is n in all; quantiles at the middles of their bins keep it to 1 / r^2.
    np.testing.assert_allclose((predicted**2).sum(), n, rtol=2e-3, atol=0)
    # Ordered values of one matrix are a quantile, up to one part in r and the edge's fluctuation.
    np.testing.assert_allclose(np.asarray(drawn).mean(axis=0), predicted, rtol=0, atol=0.02 * predicted[0])


def test_a_matrix_of_one_row_has_the_norm_that_it_must():
    np.testing.assert_allclose(marchenko_pastur(1, 400), [1.0], rtol=0, atol=0.01)


@pytest.mark.thorough
def test_the_form_is_what_descrambling_a_random_frame_leaves():
    """The same distribution: every wave's energy exactly, and the entries by a Kolmogorov-Smirnov test."""
    objective = objectives.smoothness(boundary="neumann")
    D = objective.operator(N)
    s = jnp.linspace(2.0, 0.5, N)
    raw = jax.vmap(random_frame, (0, None))(keys(300), jnp.pad(jnp.diag(s), ((0, 0), (0, K - N))))
    found = descramble(raw, objective)  # the columns of W itself: white inputs, without end
    tidy = np.asarray(found.point @ raw)
    drawn = np.asarray(jax.vmap(lambda key: isotropic_form(key, s, K, D))(keys(300, seed=1)))
    for stack in (tidy, drawn):
        waves = np.asarray(jax.vmap(D.analyse)(jnp.asarray(stack)))
        np.testing.assert_allclose(np.linalg.norm(waves, axis=2), np.tile(s, (300, 1)), rtol=1e-3, atol=0)
    for i, j in ((0, 0), (5, 3), (N - 1, K - 1)):
        # Signs of waves are the gauge's: of a canonical point they are fixed, of chance they are not.
        assert stats.ks_2samp(np.abs(tidy[:, i, j]), np.abs(drawn[:, i, j])).pvalue > 1e-3
    # It could have gone wrong: undescrambled, no wave holds one component.
    undone = np.linalg.norm(np.asarray(jax.vmap(D.analyse)(raw)), axis=2)
    assert (undone.std(axis=0) > 0.1).all()


@needs_x64
@pytest.mark.parametrize("k", [2, 3, 9])
def test_moments_of_energies_in_random_frames(k):
    rng = np.random.default_rng(k)
    half, forms = rng.standard_normal((k, k)), rng.standard_normal((2, k, k))
    M, A = half @ half.T, forms + forms.swapaxes(1, 2)
    draws = 20_000
    Q = np.asarray(jax.vmap(lambda key: orthogonal.random(key, k))(keys(draws)))
    energy = np.einsum("aij,djk,kl,dil->ad", A, Q, M, Q)
    found = isotropic_moments(M, A)
    assert found.mean.shape == (2,)
    for a in range(2):
        spread = float(found.spread[a])
        assert abs(energy[a].mean() - float(found.mean[a])) < 4 * spread / draws**0.5
        # The variance of a variance, measured: fourth moments.
        fourth = np.std((energy[a] - energy[a].mean()) ** 2) / draws**0.5
        assert abs(energy[a].var() - spread**2) < 4 * fourth
        assert fourth < 0.03 * spread**2


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="12 rows and 5 columns has only 5"):
        isotropic_form(jax.random.key(0), jnp.ones(6), 5, objectives.smoothness().operator(12))
    with pytest.raises(ValueError, match=r"\(3, 3\) and \(2, 2\)"):
        isotropic_moments(jnp.eye(3), jnp.eye(2))
    with pytest.raises(TypeError, match="inputs"):
        marchenko_pastur(3, 2.5)  # pyright: ignore[reportArgumentType]
    assert float(isotropic_moments(jnp.eye(1), jnp.eye(1)).spread) == 0.0
