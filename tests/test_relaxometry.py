"""Relaxometry and band-pass networks: simulators against statistics, fits against planted curves, small training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import exact, minimise, objectives, solvers
from jaxdescramble.datasets import bandpass, relaxometry
from jaxdescramble.datasets.bandpass import Band
from jaxdescramble.datasets.relaxometry import RelaxometryPriors
from jaxdescramble.studies import bandpass as band_study
from jaxdescramble.studies.bandpass import BandPlan
from jaxdescramble.studies.relaxometry import network as study
from jaxdescramble.studies.relaxometry.biexponential import fit_biexponential, fit_polynomial, right_vectors
from jaxdescramble.studies.relaxometry.network import RelaxometryPlan

TIME = RelaxometryPriors().time
BAND = Band(10.0, 50.0, 128, 128.0)


# The simulator of decays


def test_decays_by_hand_and_their_statistics(key):
    batch = relaxometry.sample(key, 20000, 900)
    T1, T2 = np.asarray(batch.constants)
    expected = 0.6 * np.exp(-TIME[:, None] / T1) + 0.4 * np.exp(-TIME[:, None] / T2)
    np.testing.assert_allclose(batch.clean, expected, atol=1e-12)
    assert TIME[[0, 1, -1]] == pytest.approx([0, 800 / 63, 800])
    # The smaller and the larger of two uniform numbers have means 1/3 and 2/3.
    assert (T1.mean() - 50) / 450 == pytest.approx(1 / 3, abs=0.01)
    assert (T2.mean() - 50) / 450 == pytest.approx(2 / 3, abs=0.01)
    assert (T1 <= T2).all()
    noise = np.asarray(batch.decay - batch.clean) * 30
    assert noise.std() == pytest.approx(1, abs=0.005)
    assert np.mean(noise[1:] * noise[:-1]) == pytest.approx(0, abs=0.005)


def test_the_same_key_gives_the_same_noise_at_every_snr(key):
    one, other = (relaxometry.sample(key, 5, snr, dtype="float32") for snr in (1.0, 1e4))
    assert one.decay.dtype == jnp.float32
    np.testing.assert_allclose(one.decay - one.clean, 100 * (other.decay - other.clean), atol=2e-4)


@pytest.mark.parametrize(("snr", "left", "fitted"), [(1.0, 0.139, 0.115), (900.0, 0.232, 0.171), (1e4, 0.253, 0.263)])
def test_smoothing_leaves_as_much_noise_as_documented(key, snr, left, fitted):
    batch = relaxometry.sample(key, 8000, snr)
    rms = lambda decay: float(jnp.sqrt(jnp.mean((decay - batch.clean) ** 2) * snr))  # noqa: E731
    assert rms(relaxometry.smooth(batch.decay, snr)) == pytest.approx(left, abs=0.002)
    assert rms(relaxometry.fit(batch.decay)[0]) == pytest.approx(fitted, abs=0.003)
    for factor in (0.1, 10.0):  # another penalty is worse
        assert rms(relaxometry.smooth(batch.decay, snr / factor)) > 1.05 * left


def test_smoothing_is_the_ridge_it_says_it_is(key):
    decay = relaxometry.sample(key, 3, 900).decay
    K = np.exp(-TIME[:, None] / np.geomspace(50, 500, 64)[None, :])
    expected = K @ np.linalg.solve(K.T @ K + 100 / 900 * np.eye(64), K.T @ np.asarray(decay))
    np.testing.assert_allclose(relaxometry.smooth(decay, 900), expected, atol=1e-10)


def test_a_decay_of_the_grid_is_fitted_and_estimated_exactly():
    constants = jnp.asarray([[60.0, 200.0], [300.0, 200.0]])
    clean = relaxometry.biexponential(constants)
    fitted, found = relaxometry.fit(clean, strength=0.0)
    np.testing.assert_allclose(found, constants)
    np.testing.assert_allclose(fitted, clean, atol=1e-12)
    np.testing.assert_allclose(relaxometry.posterior_mean(clean, 1e9), constants, atol=1e-3)
    shrunk = relaxometry.fit(clean, strength=1.0)[1]  # the penalty pulls to the shortest constants there are
    np.testing.assert_allclose(shrunk, 50.0)


def test_what_makes_no_sense_is_refused(key, as_installed):
    for wrong, said in ((0, r"snr.*got 0"), (-1.0, r"snr")):
        with pytest.raises(ValueError, match=said):
            relaxometry.sample(key, 5, wrong)
    with pytest.raises(ValueError, match=r"constants.*\(500.0, 50.0\)"):
        RelaxometryPriors(constants=(500.0, 50.0))
    with pytest.raises(ValueError, match=r"decay.*\(32, 2\).*times"):
        relaxometry.smooth(jnp.ones((32, 2)), 900)
    with pytest.raises(ValueError, match=r"inputs: got 'twice'.*'duplicated'"):
        RelaxometryPlan(inputs=("twice",))
    with pytest.raises(ValueError, match=r"low, high.*half the sampling rate"):
        Band(10.0, 600.0)
    with pytest.raises(ValueError, match=r"no frequency.*2.0 Hz apart"):
        Band(10.5, 11.5, 512, 1024.0)
    with pytest.raises(ValueError, match=r"curves.*\(64,\)"):
        fit_biexponential(np.ones(64), TIME)
    with pytest.raises(ValueError, match=r"activation: got 'tanh'"):
        BandPlan(activation="tanh")


# Fits


def test_planted_biexponentials_are_found_and_noise_is_not():
    draws = np.random.default_rng(0)
    constants = np.sort(np.exp(draws.uniform(np.log(20), np.log(2000), (10, 2))), axis=1)
    constants[:, 1] = np.maximum(constants[:, 1], 1.5 * constants[:, 0])
    curves = np.exp(-TIME[None, :] / constants[:, :1]) - 0.7 * np.exp(-TIME[None, :] / constants[:, 1:]) + 0.2
    found = fit_biexponential(curves, TIME)
    assert found.r2.min() > 1 - 1e-6
    np.testing.assert_allclose(curves, found.fitted, atol=1e-3)
    assert fit_biexponential(curves, TIME, offset=False).r2.min() < 0.999
    short = fit_biexponential(curves, TIME, constants=(10.0, 15.0))
    assert ((short.constants > 9.99) & (short.constants < 15.01)).all()
    assert (short.r2 < found.r2).all()
    noise = fit_biexponential(draws.standard_normal((10, 64)), TIME).r2
    assert -1e-9 < noise.min() < noise.max() < 0.3  # four parameters beside the mean out of 63
    assert fit_biexponential(np.ones((1, 64)), TIME).r2[0] == 0


def test_quartics_are_fitted_exactly_by_quartics_alone():
    x = np.linspace(-1, 1, 64)
    quartic = (x**4 - x**2 + 0.3 * x)[None, :]
    assert fit_polynomial(quartic)[0] == pytest.approx(1)
    assert fit_polynomial(quartic, coefficients=4)[0] < 0.9
    assert fit_biexponential(quartic, TIME).r2[0] < 0.95


def test_right_vectors_are_cut_in_halves():
    first = np.concatenate([np.exp(-TIME / 100), np.exp(-TIME / 300)])
    weights = np.random.default_rng(0).standard_normal((2, 5, 1)) * first[None, None, :]
    halves = right_vectors(weights, 64)
    assert halves.shape == (2, 3, 2, 64)
    alike = np.abs(halves[:, 0].reshape(2, 128) @ first) / np.linalg.norm(first)
    np.testing.assert_allclose(alike, 1, atol=1e-12)
    found = fit_biexponential(halves[0, 0], TIME)
    assert found.r2.min() > 1 - 1e-9


# The networks


def test_network_by_hand_and_inputs(key):
    plan = RelaxometryPlan(width=8)
    params = study.initial_parameters(key, plan)
    batch = relaxometry.sample(key, 3, 900, dtype="float32")
    inputs = study.assemble(batch.decay, 900.0, plan)
    np.testing.assert_array_equal(inputs[:, :64], jnp.stack([batch.decay] * 3))
    np.testing.assert_array_equal(inputs[2, 64:], batch.decay)
    np.testing.assert_array_equal(inputs[0, 64:], relaxometry.smooth(batch.decay, 900.0))
    x = np.asarray(inputs[1], np.float64)
    for i in range(1, 5):
        x = np.maximum(np.asarray(params[f"W{i}"]) @ x, 0)
    expected = np.asarray(params["W5"]) @ x
    np.testing.assert_allclose(study.network(params, inputs[1].T).T, expected, atol=1e-5)


@pytest.fixture(scope="module")
def report():
    plan = RelaxometryPlan(steps=500, batch=64, width=32, snrs=(1e4,), inputs=("joined", "duplicated"))
    return study.experiment(jax.random.split(jax.random.key(0), 2), plan, draws=5, samples=2000)


@pytest.mark.slow
def test_networks_learn_and_no_network_beats_the_posterior_mean(report):
    assert report.errors.shape == (2, 1, 2, 2)
    assert (report.errors > report.floor[None, :, None, :]).all()
    assert (report.errors < 60).all(), "answering the mean misses by 107 ms"


@pytest.mark.thorough
def test_singular_vectors_of_trained_networks_are_smooth_and_those_of_the_nulls_are_not(report):
    trained, quartic = (report.mean("trained", fit)[0] for fit in ("biexponential", "quartic"))
    assert (trained[:, 0] > 0.85).all()
    for null in ("untrained", "random frame"):
        assert (report.mean(null)[0] < 0.3).all()
    # Smooth is all that they are: a polynomial with as many parameters fits as well.
    np.testing.assert_allclose(trained[:, 0], quartic[:, 0], atol=0.05)
    # The principal components of the decays are biexponentials indeed, and the third is no quartic.
    assert (report.mean("inputs")[0] > 0.99).all()
    assert (report.mean("inputs", "signal model")[0, :, :2] > 0.99).all()
    assert (report.mean("trained", "signal model")[0] < 0.95).all()
    assert (report.mean("inputs", "quartic")[0, :, 2] < 0.95).all()


@pytest.mark.thorough
def test_the_table_has_a_row_for_every_network_and_vector(report):
    page = report.markdown("made here")
    assert "made here" in page
    assert page.count("| 10000 | joined |") == page.count("| 10000 | duplicated |") == 1 + 3 + 3
    rows = [line.split("|") for line in page.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {8, 11, 12}


@pytest.mark.thorough
def test_networks_of_one_program_are_those_of_programs_of_their_own(report):
    together = report.nets
    alone = study.train(
        jax.random.split(jax.random.key(0), 2)[1:], dataclasses.replace(together.plan, inputs=("duplicated",))
    )
    np.testing.assert_allclose(together.losses[1, 0, 1, :20], alone.losses[0, 0, 0, :20], rtol=1e-4)
    first = together.initial_params["W1"]
    # The same numbers were drawn; the programs round them differently.
    np.testing.assert_allclose(first[1, 0, 0], alone.initial_params["W1"][0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(first[:, :, 0], first[:, :, 1])


def test_a_loss_that_is_not_finite_is_said(key):
    plan = BandPlan(Band(3.0, 5.0, 16, 16.0), "linear", steps=20, batch=4, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="learning_rate: got"):
        band_study.train(key, plan)


# The band-pass network


def test_the_ideal_filter_is_a_projection_that_passes_the_band(key):
    Pi = np.asarray(bandpass.filter_matrix(BAND))
    np.testing.assert_allclose(Pi @ Pi, Pi, atol=1e-12)
    np.testing.assert_allclose(Pi, Pi.T, atol=1e-12)
    np.testing.assert_allclose(np.roll(Pi, (5, 5), (0, 1)), Pi, atol=1e-12)
    assert round(np.trace(Pi)) == BAND.rank == 2 * 41
    batch = bandpass.sample(key, 7, BAND)
    np.testing.assert_allclose(batch.passed, Pi @ np.asarray(batch.signal), atol=1e-12)
    for f, passes in ((9, 0), (10, 1), (50, 1), (51, 0)):
        tone = np.sin(2 * np.pi * f * np.arange(128) / 128)[:, None]
        np.testing.assert_allclose(bandpass.band_pass(tone, BAND), passes * tone, atol=1e-12)
    assert Band(0.0, 64.0, 128, 128.0).rank == 128


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_the_diagonal_sum_descrambles_a_trained_filter_and_random_frames_do_not(key, activation):
    plan = BandPlan(BAND, activation, steps=300, batch=64, learning_rate=3e-3)
    net = band_study.train(key, plan)
    assert net.losses[-1] < (0.01 if activation == "linear" else 0.3)  # 164 rectifiers would be needed, there are 128
    trained, untrained = (band_study.read(params, BAND, key) for params in (net.params, net.initial_params))
    for layer in ("P W1", "W2 P^T"):
        assert trained["descrambled"][f"likeness of {layer}"] > 0.95
        assert trained["descrambled"][f"diagonal share of {layer}"] > 0.95
        for frame in ("raw", "random"):
            assert abs(trained[frame][f"likeness of {layer}"]) < 0.1
            assert trained[frame][f"diagonal share of {layer}"] < 0.1
    assert trained["descrambled"]["diagonal sum"] == pytest.approx(1, abs=1e-4)
    assert trained["raw"]["passband share"] == pytest.approx(trained["random"]["passband share"], abs=1e-5)
    # On the first layer descrambling lays anything along the diagonal; on the second only what was learned.
    assert untrained["descrambled"]["diagonal share of P W1"] > 0.6
    assert untrained["descrambled"]["diagonal share of W2 P^T"] < 0.1


def test_descrambled_by_the_diagonal_sum_a_square_weight_is_the_root_of_its_gram_matrix(key):
    W = jax.random.normal(key, (12, 12))
    root = exact.diagonal_sum(W).point @ W
    np.testing.assert_allclose(root, root.T, atol=1e-12)
    np.testing.assert_allclose(root @ root, W.T @ W, atol=1e-11)
    assert np.linalg.eigvalsh(np.asarray(root)).min() > 0


def test_iterating_on_the_diagonal_sum_arrives_at_the_closed_form(key):
    net = band_study.train(key, BandPlan(Band(3.0, 8.0, 24, 24.0), "linear", steps=100, batch=32, learning_rate=1e-2))
    W = net.params["W1"].astype(float)
    best, objective = exact.diagonal_sum(W), objectives.diagonal_sum()
    start = jnp.eye(24) * jnp.where(jnp.arange(24) == 0, jnp.linalg.det(best.point), 1)[None, :]
    found = minimise(objective, start, objective.summarise(W), solver=solvers.PolarPower()).check()
    assert float(found.value) == pytest.approx(float(best.value), abs=1e-8)
    assert int(found.steps) == 1, "the diagonal sum is linear in P"
