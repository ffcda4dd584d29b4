"""The DEER simulator against direct integration, one experiment by hand, and the statistics it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.datasets.deer import (
    DIPOLAR,
    DeerGrid,
    DeerParameters,
    DeerPriors,
    dipolar_kernel,
    draw,
    sample,
    simulate,
)

SMALL = DeerGrid(points=64, t_max=1.5)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(1000)


def powder_average(time, distance):
    """gamma as it is defined: every orientation with its weight, by Gauss-Legendre quadrature."""
    z, weights = (NODES + 1) / 2, WEIGHTS / 2
    phase = time[:, None] * DIPOLAR / distance[None, :] ** 3
    return np.cos(phase[..., None] * (1 - 3 * z**2)) @ weights


def test_coupling_constant_of_two_electrons():
    # 52.04 MHz at 1 nm, as in every DEER textbook; DIPOLAR is in rad/us angstrom^3.
    assert DIPOLAR / 1000 / (2 * np.pi) == pytest.approx(52.04, abs=0.005)


def test_kernel_is_the_powder_average():
    grid = DeerGrid()
    rows = np.r_[0, 1, 2, 100, 255]
    expected = powder_average(grid.time[rows], grid.distance[::15])
    np.testing.assert_allclose(grid.kernel[rows][:, ::15], expected, atol=1e-11)
    assert np.all(grid.kernel[0] == 1)


def test_kernel_near_zero_time_has_the_second_moment_of_the_powder():
    # gamma = 1 - (2/5) (D t)^2 + ..., since <(1 - 3 z^2)^2> = 4/5.
    t, r = np.array([1e-4]), np.array([30.0])
    phase = 1e-4 * DIPOLAR / 30.0**3
    assert (1 - dipolar_kernel(t, r)[0, 0]) / phase**2 == pytest.approx(0.4, rel=1e-3)


def test_grid_holds_what_the_time_steps_can_resolve():
    grid = DeerGrid(points=256, t_max=2.0)
    fastest = 2 * DIPOLAR / (2 * np.pi) / grid.distance**3  # MHz; electrons parallel to the field
    assert fastest[0] * (grid.time[1] - grid.time[0]) == pytest.approx(0.5)
    assert fastest[-1] * grid.time[-1] == pytest.approx(1.0)
    assert grid.distance[[0, -1]] == pytest.approx([11.775, 59.265], abs=1e-3)
    assert grid.kernel is DeerGrid().kernel, "the kernel of a grid is computed once"
    assert not grid.kernel.flags.writeable


def test_one_experiment_by_hand():
    grid = SMALL
    parameters = DeerParameters(
        centre=jnp.array([[20.0], [35.0]]),
        fwhm=jnp.array([[2.0], [6.0]]),
        amplitude=jnp.array([[0.5], [1.0]]),
        modulation_depth=jnp.array([0.3]),
        rate=jnp.array([0.2]),
        dimension=jnp.array([2.5]),
        noise_level=jnp.array([0.01]),
    )
    noise = jnp.linspace(-1, 1, grid.points)[:, None]
    batch = simulate(parameters, noise, grid, peak=0.75)

    r, t = grid.distance, grid.time
    p = 0.5 * np.exp2(-(((r - 20) / 1.0) ** 2)) + np.exp2(-(((r - 35) / 3.0) ** 2))  # half height at half the FWHM
    gamma = powder_average(t, r) @ p / p.sum()
    trace = (1 - 0.3 + 0.3 * gamma) * np.exp(-((0.2 * t) ** (2.5 / 3))) + 0.01 * np.asarray(noise[:, 0])
    tolerance = 50 * float(jnp.finfo(batch.trace.dtype).eps)
    np.testing.assert_allclose(batch.trace[:, 0], trace, atol=tolerance)
    np.testing.assert_allclose(batch.distribution[:, 0], 0.75 * p / p.max(), atol=tolerance)
    np.testing.assert_allclose(batch.clean[:, 0], trace - 0.01 * np.asarray(noise[:, 0]), atol=tolerance)


def test_a_background_that_does_not_decay_is_one():
    batch = sample(jax.random.key(0), 20, SMALL, DeerPriors(rate=(0.0, 0.0), noise=0.0))
    np.testing.assert_array_equal(batch.background, 1.0)
    np.testing.assert_allclose(batch.trace, batch.clean, atol=8 * float(jnp.finfo(batch.trace.dtype).eps))


def test_batches_are_reproducible_and_finite(key):
    one, same, other = sample(key, 300), sample(key, 300), sample(jax.random.key(1), 300)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.all(np.isfinite(a))
    assert float(jnp.abs(one.trace - other.trace).max()) > 0.1
    eps = float(jnp.finfo(one.trace.dtype).eps)
    np.testing.assert_allclose(one.distribution.max(axis=0), 0.75, atol=4 * eps)
    np.testing.assert_allclose(one.form_factor[0], 1.0, atol=100 * eps)
    np.testing.assert_array_equal(one.background[0], 1.0)
    assert float(one.distribution.min()) >= 0
    assert float(jnp.abs(one.form_factor).max()) <= 1 + 100 * eps
    assert np.all(np.diff(np.asarray(one.background), axis=0) <= 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, float])
def test_dtype_is_the_one_asked_for(key, dtype):
    batch = sample(key, 3, SMALL, dtype=dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(batch)} == {jax.dtypes.canonicalize_dtype(dtype)}


def test_single_and_double_precision_agree(key):
    parameters = draw(key, 50, SMALL, dtype=jnp.float32)
    noise = jnp.zeros((SMALL.points, 50))
    low = simulate(parameters, noise.astype(jnp.float32), SMALL)
    high = simulate(jax.tree.map(lambda x: x.astype(noise.dtype), parameters), noise, SMALL)
    np.testing.assert_allclose(low.trace, high.trace, atol=2e-6)


def test_parameters_have_the_statistics_of_the_priors(key):
    grid, count = DeerGrid(), 20000
    p = draw(key, count, grid)
    r_min, r_max = grid.distance[[0, -1]]
    span = r_max - r_min

    # |u1 + u2 - 1| has density 2 (1 - x): mean 1/3, variance 1/18.
    place = (np.asarray(p.centre, float) - r_min) / span
    assert place.mean() == pytest.approx(1 / 3, abs=4 * np.sqrt(1 / 18 / place.size))
    assert np.mean(place < 0.5) == pytest.approx(0.75, abs=0.01)
    assert -1e-6 <= place.min() < 0.01
    assert 0.95 < place.max() <= 1
    narrowest = 0.025 * np.asarray(p.centre, float)
    width = (np.asarray(p.fwhm, float) - narrowest) / (0.5 * span - narrowest)
    assert width.mean() == pytest.approx(1 / 3, abs=0.005)
    assert width.min() > -1e-5
    assert width.max() <= 1 + 1e-6
    assert np.corrcoef(place.ravel(), width.ravel())[0, 1] == pytest.approx(0, abs=0.02)

    present = (np.asarray(p.amplitude) > 0).sum(axis=0)
    np.testing.assert_allclose(np.bincount(present, minlength=5) / count, [0, 0.25, 0.25, 0.25, 0.25], atol=0.015)
    heights = np.asarray(p.amplitude)[np.asarray(p.amplitude) > 0]
    assert heights.mean() == pytest.approx(0.5, abs=0.01)
    for value, (low, high) in ((p.modulation_depth, (0.01, 1)), (p.rate, (0, 0.5)), (p.dimension, (2, 3.5))):
        unit = (np.asarray(value, float) - low) / (high - low)
        assert unit.mean() == pytest.approx(0.5, abs=0.01)
        assert unit.std() == pytest.approx(np.sqrt(1 / 12), abs=0.01)
        assert -1e-6 <= unit.min() < 0.001
        assert 0.999 < unit.max() <= 1 + 1e-6
    level = np.asarray(p.noise_level / p.modulation_depth, float)
    assert level.mean() == pytest.approx(0.025, abs=0.0005)
    assert level.max() <= 0.05 * (1 + 1e-6)


def test_noise_is_white_and_of_the_stated_strength(key):
    batch = sample(key, 2000, SMALL)
    noise = np.asarray(batch.trace - batch.clean, float) / np.asarray(batch.parameters.noise_level, float)
    noise = noise[:, np.asarray(batch.parameters.noise_level) > 1e-4]  # below, rounding of the trace counts
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.mean(noise[1:] * noise[:-1]) == pytest.approx(0, abs=0.01)
    assert np.mean(noise**4) == pytest.approx(3, abs=0.1)


def test_vmapped_equals_looped():
    keys = jax.random.split(jax.random.key(3), 3)
    together = jax.vmap(lambda key: sample(key, 4, SMALL).trace)(keys)
    apart = jnp.stack([sample(key, 4, SMALL).trace for key in keys])
    np.testing.assert_allclose(together, apart, atol=100 * float(jnp.finfo(apart.dtype).eps))


def test_what_makes_no_sense_is_refused(key):
    with pytest.raises(ValueError, match=r"count.*got 0"):
        sample(key, 0)
    with pytest.raises(ValueError, match=r"points.*got 1"):
        DeerGrid(points=1)
    with pytest.raises(ValueError, match=r"t_max.*-1"):
        DeerGrid(t_max=-1.0)
    with pytest.raises(ValueError, match=r"gaussians.*got 0"):
        DeerPriors(gaussians=0)
    with pytest.raises(ValueError, match=r"depth.*\(1.0, 0.5\)"):
        DeerPriors(depth=(1.0, 0.5))
