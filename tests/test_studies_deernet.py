"""DEERNet: the network, its training, its checkpoints; and the rational replica that is to do the same."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.datasets.deer import DeerGrid, DeerPriors, sample
from jaxdescramble.studies.deernet.network import TrainingPlan, _loss, initial_parameters, network, train
from jaxdescramble.studies.deernet.replica import (
    agreement,
    filter_matrix,
    filter_taps,
    fit,
    l_curve_corner,
    rational_replica,
)

TINY = TrainingPlan(steps=450, batch=16, width=8, grid=DeerGrid(points=32, t_max=1.0))


def smoothness_fall(weight, traces):
    """tr(A P B P^T) at P = 1 over its least value, A = D^T D of the periodic spectral second derivative.

    The closed form pairs singular values, falling, with the eigenvalues k^4 of A, rising.
    """
    signals = np.asarray(weight, np.float64) @ np.asarray(traces, np.float64)
    n = len(signals)
    k = np.fft.fftfreq(n, 1 / n)
    raw = np.sum(np.abs(np.fft.fft(signals, axis=0)) ** 2 * k[:, None] ** 4) / n
    return raw / np.sum(np.linalg.svd(signals, compute_uv=False) ** 2 * np.sort(k**4))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.both_precisions
@pytest.mark.parametrize("layers", [2, 3])
def test_network_and_loss_by_hand(key, layers):
    params = initial_parameters(key, TrainingPlan(layers=layers))
    assert [w.shape for w in params.values()] == [(80, 256), *[(80, 80)] * (layers - 2), (256, 80)]
    assert [float(w.std()) for w in params.values()] == pytest.approx([0.01, *[0.05] * (layers - 1)], rel=0.05)
    traces = np.random.default_rng(0).normal(size=(5, 256))
    x = traces.T
    *hidden, last = (np.asarray(w, np.float64) for w in params.values())
    for weight in hidden:
        x = np.tanh(weight @ x)
    expected = 1 / (1 + np.exp(-last @ x))
    tolerance = 100 * float(jnp.finfo(params["W1"].dtype).eps)
    np.testing.assert_allclose(network(params, jnp.asarray(traces)), expected.T, atol=tolerance)
    targets = np.random.default_rng(1).uniform(size=(256, 5))
    loss = _loss(params, jnp.asarray(traces.T), jnp.asarray(targets))
    assert float(loss) == pytest.approx(np.mean((expected - targets) ** 2), rel=tolerance)


@pytest.mark.thorough
@pytest.mark.both_precisions
def test_training_finds_distributions_and_shuffled_targets_do_not():
    key = jax.random.key(0)
    seen = []
    net = train(key, steps=600, batch=256, callback=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == [100, 200, 300, 400, 500, 600]
    assert seen[-1][1] == pytest.approx(float(net.losses[-100:].mean()), rel=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(net)} == {jnp.dtype(jnp.float32)}
    assert net.losses.shape == (600,)

    fresh = sample(jax.random.key(7), 1000, dtype=jnp.float32)
    mean = fresh.distribution.mean(axis=1, keepdims=True)
    nothing_learned = float(jnp.mean((fresh.distribution - mean) ** 2))
    trained = agreement(network(net.params, fresh.trace.T).T, fresh.distribution)
    assert trained.correlation > 0.66
    assert float(net.losses[-100:].mean()) < 0.75 * nothing_learned

    null = train(key, steps=600, batch=256, shuffled=True)
    assert float(null.losses[-100:].mean()) == pytest.approx(nothing_learned, rel=0.06)
    assert agreement(network(null.params, fresh.trace.T).T, fresh.distribution).correlation < 0.45
    assert same(null.initial_params, net.initial_params)

    assert smoothness_fall(net.params["W1"], fresh.trace) > 1e5
    assert smoothness_fall(net.initial_params["W1"], fresh.trace) < 1e4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_whole_network_is_as_good_as_it_was(seed):
    net = train(jax.random.key(seed))
    fresh = sample(jax.random.key(99), 4096, dtype=jnp.float32)
    assert smoothness_fall(net.params["W1"], fresh.trace) > 1e6
    found = agreement(network(net.params, fresh.trace.T).T, fresh.distribution)
    assert found.correlation > 0.85
    assert found.absolute_error < 0.09


@pytest.mark.thorough
def test_three_layers_learn_too():
    net = train(jax.random.key(0), plan=TINY, layers=3, steps=300, batch=64)
    assert sorted(net.params) == ["W1", "W2", "W3"]
    assert float(net.losses[-50:].mean()) < 0.6 * float(net.losses[:5].mean())


@pytest.mark.thorough
def test_keys_decide_and_networks_can_be_trained_side_by_side():
    keys = jax.random.split(jax.random.key(5), 2)
    together = train(keys, plan=TINY, steps=120)
    apart = [train(key, plan=TINY, steps=120) for key in keys]
    assert together.losses.shape == (2, 120)
    for i in (0, 1):
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(apart[i]), strict=True):
            np.testing.assert_allclose(a[i], b, atol=2e-4)
    assert not same(apart[0], apart[1])
    assert same(apart[0], train(keys[0], plan=TINY, steps=120))
    legacy = jax.random.key_data(keys[0])  # as `jax.random.PRNGKey` gives them
    assert same(apart[0], train(legacy, plan=TINY, steps=120))


def test_an_interrupted_run_goes_on_bitwise(tmp_path):
    key, path = jax.random.key(2), tmp_path / "folder" / "run.npz"
    whole = train(key, plan=TINY)

    def interrupt(step, _):
        if step == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(key, plan=TINY, callback=interrupt, checkpoint=path, checkpoint_every=200)
    with np.load(path) as file:
        assert int(file["step"]) == 200
    steps = []
    resumed = train(key, plan=TINY, callback=lambda step, _: steps.append(step), checkpoint=path, checkpoint_every=200)
    assert steps == [300, 400, 450]
    assert same(resumed, whole)

    def forbidden(*_):
        raise AssertionError("a run that was finished takes no further step")

    assert same(train(key, plan=TINY, callback=forbidden, checkpoint=path), whole)
    assert [file.name for file in path.parent.iterdir()] == ["run.npz"]


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    key, path = jax.random.key(2), tmp_path / "run.npz"
    real, writes = os.replace, []

    def full_disk(source, target):
        writes.append(target)
        if len(writes) > 1:
            raise OSError("no space left")
        real(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        train(key, plan=TINY, checkpoint=path, checkpoint_every=100)
    with np.load(path) as file:
        assert int(file["step"]) == 100
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_checkpoints_are_named(tmp_path):
    key, path = jax.random.key(2), tmp_path / "run.npz"
    train(key, plan=TINY, steps=10, checkpoint=path)
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    np.savez(tmp_path / "foreign.npz", a=np.ones(3))
    for bad in (good[: len(good) // 2], b"", b"rubbish", bytes(flipped), (tmp_path / "foreign.npz").read_bytes()):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"run.npz is not a readable checkpoint.*delete it"):
            train(key, plan=TINY, steps=10, checkpoint=path)


def test_checkpoints_of_another_run_are_refused(tmp_path):
    key, path = jax.random.key(2), tmp_path / "run.npz"
    train(key, plan=TINY, steps=10, checkpoint=path)
    for change, message in (
        ({"steps": 20}, "steps is 10 in the file and 20 in this run"),
        ({"shuffled": True}, "shuffled is False in the file and True in this run"),
        ({"layers": 3}, "layers is 2 in the file and 3 in this run"),
    ):
        with pytest.raises(ValueError, match=rf"run.npz belongs to another run: {message}"):
            train(key, plan=TINY, **{"steps": 10, "checkpoint": path, **change})
    with pytest.raises(ValueError, match="key is"):
        train(jax.random.key(3), plan=TINY, steps=10, checkpoint=path)


def test_plans_that_make_no_sense_are_refused(key):
    with pytest.raises(ValueError, match=r"layers: got 4"):
        train(key, layers=4)
    with pytest.raises(ValueError, match=r"steps.*got 0"):
        train(key, steps=0)
    with pytest.raises(ValueError, match=r"batch: got 1; shuffled"):
        train(key, batch=1, shuffled=True)
    with pytest.raises(ValueError, match=r"checkpoint_every.*got 0"):
        train(key, checkpoint_every=0)


def test_divergence_is_an_error(key):
    with pytest.raises(FloatingPointError, match="learning_rate: got"):
        train(key, plan=TrainingPlan(steps=5, batch=16, width=8, grid=TINY.grid, learning_rate=float("inf")))


def test_filters_pass_and_stop_what_they_should():
    high, low = filter_taps()
    assert (len(high), len(low)) == (257, 33)
    np.testing.assert_allclose(high, high[::-1], atol=1e-12)
    n = 256
    high_pass, low_pass = filter_matrix(high, n), filter_matrix(low, n)
    t = np.arange(n)
    # A constant stays one, scaled by the gain at zero frequency; ends included.
    np.testing.assert_allclose(high_pass @ np.ones(n), high.sum(), atol=1e-10)
    assert abs(high.sum()) < 0.1
    np.testing.assert_allclose(low_pass @ np.ones(n), 1, atol=1e-4)
    # Cosines of the mirrored grid are eigenvectors, with the frequency response as the eigenvalue.
    for k in (1, 5, 40, 120, 200):
        wave = np.cos(np.pi * k * t / (n - 1))
        for matrix, taps in ((high_pass, high), (low_pass, low)):
            half = len(taps) // 2
            gain = taps @ np.cos(np.pi * k / (n - 1) * np.arange(-half, half + 1))
            np.testing.assert_allclose(matrix @ wave, gain * wave, atol=1e-9)
    with pytest.raises(ValueError, match=r"taps: got 4"):
        filter_matrix(np.ones(4), 10)
    with pytest.raises(ValueError, match=r"points: got 100.*at least 129"):
        filter_matrix(high, 100)


def test_corner_of_a_planted_curve():
    # Two singular values, 1 for the signal and 1e-4 for the noise: the exact curvature says where the curve bends.
    s, weight, beyond = np.array([1.0, 1e-4]), np.array([1.0, 1e-6]), 1e-4

    def curve(u):
        t = jnp.exp(u)
        residual = beyond + jnp.sum(weight * (t / (s**2 + t)) ** 2)
        return jnp.array([jnp.log(residual) / 2, jnp.log(jnp.sum(weight * (s / (s**2 + t)) ** 2)) / 2])

    def curvature(u):
        (dx, dy), (ddx, ddy) = jax.jacfwd(curve)(u), jax.jacfwd(jax.jacfwd(curve))(u)
        return (dx * ddy - dy * ddx) / (dx**2 + dy**2) ** 1.5

    grid = np.linspace(np.log(1e-8), 0, 400)
    fine = np.linspace(grid[2], grid[-3], 5000)
    best = fine[np.argmax(jax.vmap(curvature)(fine))]
    points = np.exp(jax.vmap(curve)(grid))
    corner = l_curve_corner(points[:, 0], points[:, 1])
    assert grid[corner] == pytest.approx(best, abs=0.1)
    assert -15 < best < -3, "between the squares of the two singular values"


def test_transform_solves_the_normal_equations(key):
    batch = sample(key, 400, DeerGrid(points=160))
    replica = fit(batch.trace, batch.distribution)
    F = np.asarray(replica.filters) @ np.asarray(batch.trace)
    T, rate = np.asarray(replica.transform), float(replica.regularisation)
    expected = np.linalg.solve(F @ F.T + rate * np.eye(160), F @ np.asarray(batch.distribution).T).T
    np.testing.assert_allclose(T, expected, atol=1e-6 * np.abs(expected).max())
    corner = replica.curve.corner
    assert replica.curve.regularisation[corner] == pytest.approx(rate)
    assert replica.curve.size[corner] == pytest.approx(np.linalg.norm(T), rel=1e-6)
    residual = np.linalg.norm(T @ F - np.asarray(batch.distribution))
    assert replica.curve.residual[corner] == pytest.approx(residual, rel=1e-6)
    _, high, low = replica.response(3)
    np.testing.assert_allclose(high, np.abs([replica.high_pass.sum(), high[1] ** 0.5, high[2] ** 0.5]) ** 2, rtol=1e-9)
    assert (high[0] < 0.01, low[0] > 0.99, high[2] > 0.9, low[2] < 1e-3) == (True,) * 4


@pytest.mark.thorough
@pytest.mark.both_precisions
def test_replica_comes_close_to_what_the_network_reaches():
    fresh = sample(jax.random.key(6), 1000)
    no_background = sample(jax.random.key(6), 1000, priors=DeerPriors(rate=(0.0, 0.0)))
    replica = rational_replica(jax.random.key(0), 1000)
    found = agreement(replica.apply(fresh.trace), fresh.distribution)
    # A trained network has 0.865 and 0.084 on these.
    assert found.correlation == pytest.approx(0.863, abs=0.015)
    assert found.absolute_error == pytest.approx(0.079, abs=0.008)
    assert agreement(replica.apply(fresh.clean), fresh.distribution).correlation > found.correlation

    # What the library holds matters more than the filters do.
    pure = rational_replica(jax.random.key(0), 1000, library="form factors")
    assert agreement(pure.apply(no_background.trace), no_background.distribution).correlation > 0.9
    assert agreement(pure.apply(fresh.trace), fresh.distribution).correlation < 0.75

    estimate = jax.jit(lambda replica, traces: replica.apply(traces))(replica, fresh.trace)
    assert float(estimate.min()) == 0
    np.testing.assert_allclose(estimate.max(axis=0), 0.75, rtol=1e-5)
    assert estimate.dtype == fresh.trace.dtype
    np.testing.assert_array_equal(replica.apply(jnp.zeros((256, 2), estimate.dtype)), 0)


def test_replicas_of_what_does_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"distributions: shape \(256, 4\)"):
        fit(jnp.ones((256, 5)), jnp.ones((256, 4)))
    with pytest.raises(ValueError, match=r"points: got 64"):
        fit(jnp.ones((64, 5)), jnp.ones((64, 5)))
    with pytest.raises(ValueError, match=r"library: got 'x'"):
        rational_replica(jax.random.key(0), library="x")
