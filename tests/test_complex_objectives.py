"""Weighted sums and plain functions of complex signals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import unitary_group

import jaxdescramble as jd
from jaxdescramble.objectives import from_function, smoothness, sparsity, weighted

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
N = 4
SUM = weighted(smoothness(boundary="neumann"), (0.5, sparsity("logcosh", 0.3)))
QUADRATIC = weighted(smoothness(1, boundary="neumann"), (0.5, smoothness(2, boundary="neumann")))


def fourth_power(point, summary, scale):
    """Minus the mean of |y|^4, in units of the mean square: a real number."""
    Y = point @ summary.signals
    return -scale * jnp.mean(jnp.abs(Y) ** 4) / jnp.mean(jnp.abs(summary.signals) ** 2) ** 2


def complex_mean(point, summary):
    return jnp.mean(point @ summary.signals)


MINE = from_function(fourth_power, scale=0.5, takes_complex=True)


def gaussian(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@needs_x64
def test_sums_are_the_sums_of_their_terms_and_the_bound_of_quadratic_ones_holds_on_unitary_matrices():
    rng = np.random.default_rng(0)
    S, point = gaussian(rng, N, 9), jnp.asarray(unitary_group.rvs(N, random_state=rng))
    both = [smoothness(boundary="neumann"), sparsity("logcosh", 0.3), SUM, QUADRATIC]
    first, second, total, quadratic, bound = jax.jit(
        lambda point, S: [*(one(point, S) for one in both), QUADRATIC.bound(QUADRATIC.summarise(S))]
    )(point, S)
    np.testing.assert_allclose(total, first + 0.5 * second, rtol=1e-14)
    # By hand: the matrices of the two operators commute, so the eigenvalues of the sum pair with those of S S^H.
    first, second = (smoothness(k, boundary="neumann").operator(N).eigenvalues for k in (1, 2))
    a = first / first[-1] + 0.5 * second / second[-1]
    b = np.linalg.svd(S, compute_uv=False) ** 2
    np.testing.assert_allclose(bound, np.sum(a * b) / b.sum(), rtol=1e-12)
    assert bound < quadratic


@needs_x64
@pytest.mark.thorough
def test_sums_and_functions_are_minimised_on_the_unitary_group(tmp_path):
    rng = np.random.default_rng(1)
    sources = np.where(rng.uniform(size=(N, 80)) < 0.3, gaussian(rng, N, 80), 0)
    mixed = unitary_group.rvs(N, random_state=rng)
    S = jnp.asarray(mixed @ sources)
    found = jd.descramble(S, MINE, jd.solvers.LBFGS(), group="U").check()
    assert np.abs(found.point @ mixed).max(axis=1).min() > 0.95
    assert found.value <= MINE(mixed.conj().T, S)
    quadratic = jd.descramble(S, QUADRATIC, jd.solvers.LBFGS(), group="U").check()
    np.testing.assert_allclose(quadratic.value, quadratic.bound, rtol=1e-9)
    quadratic.save(tmp_path / "found.npz")
    read = jd.Descrambling.load(tmp_path / "found.npz", QUADRATIC)
    np.testing.assert_allclose(read.score(S), quadratic.value, rtol=1e-12)


def test_what_takes_no_complex_signals_says_so():
    S = 1j * jnp.eye(3)
    with pytest.raises(TypeError, match=r"takes real signals.*sums of them.*takes_complex=True"):
        jd.descramble(S, from_function(fourth_power, scale=1.0), group="U")
    with pytest.raises(TypeError, match="takes real signals"):
        jd.descramble(S, weighted(smoothness(), jd.objectives.spectral_entropy()), group="U")
    with pytest.raises(TypeError, match="complex_mean: the function returned a complex number"):
        from_function(complex_mean, takes_complex=True)(S, S)
    assert from_function(complex_mean, takes_complex=True)(jnp.eye(3), jnp.ones((3, 2))) == 1
