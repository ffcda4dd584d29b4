"""The published networks and measured traces, where the data folder is there; readers that refuse what is broken."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.datasets.deer import DeerGrid, sample
from jaxdescramble.datasets.deernet_weights import encode, load, load_trace, network, random_points

DATA = Path(os.environ.get("JAXDESCRAMBLE_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "deervet_64_512_a.npz").exists(),
    reason="set JAXDESCRAMBLE_DATA to the folder with deervet_64_512_a.npz",
)


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(np.asarray(a), np.asarray(b), strict=True)])


@needs_data
@pytest.mark.parametrize("which", "ab")
def test_published_network_finds_simulated_distributions(which):
    net = load(DATA / f"deervet_64_512_{which}.npz")
    grid = DeerGrid(points=512, t_max=2.0)
    np.testing.assert_allclose(grid.time, net.time, atol=1e-12)
    np.testing.assert_allclose(grid.distance, net.distance, atol=1e-5)

    batch = sample(jax.random.key(1), 300, grid, dtype=jnp.float32)
    p = network(net.params, encode(batch.trace.T, random_points(jax.random.key(2), 300)))
    assert p.dtype == jnp.float32
    np.testing.assert_allclose(p.mean(axis=1), 1.0, rtol=1e-5)
    agreement = correlations(p, batch.distribution.T)
    assert agreement.mean() > 0.85, "0.91 when it was measured"
    assert np.median(agreement) > 0.93

    # The check can fail: v and v a in each other's place is not what the network was trained on.
    blocks = encode(batch.trace.T, random_points(jax.random.key(2), 300)).reshape(300, 5, 64)
    swapped = blocks[:, jnp.array([0, 1, 3, 2, 4])].reshape(300, 320)
    assert np.nanmean(correlations(network(net.params, swapped), batch.distribution.T)) < 0.5


@needs_data
@pytest.mark.parametrize("name", ["I", "II", "III"])
def test_two_published_networks_agree_on_measured_traces(name):
    measured = load_trace(DATA / f"deer_trace_{name}.dat")
    np.testing.assert_array_less(np.abs(measured.residual), 0.5)
    time = np.linspace(0, measured.time[-1], 512)
    trace = jnp.asarray(np.interp(time, measured.time, measured.trace), jnp.float32)
    points = random_points(jax.random.key(0), 16)
    a, b = (
        network(load(DATA / f"deervet_64_512_{which}.npz").params, encode(jnp.tile(trace, (16, 1)), points)).mean(
            axis=0
        )
        for which in "ab"
    )
    assert np.corrcoef(a, b)[0, 1] > 0.97


def planted(width=7, seed=0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "time_grid_s": np.linspace(0, 2e-6, 512),
        "distance_grid_angstrom": np.linspace(9, 59, 512),
    }
    for k, (out, inner) in enumerate([(width, 320), (512, width)], start=1):
        arrays[f"weight_{k}"] = rng.normal(size=(out, inner)).astype(np.float32)
        for name in ("mean", "var", "offset", "scale"):
            arrays[f"bn_{name}_{k}"] = rng.uniform(0.5, 1.5, out).astype(np.float32)
    return arrays


def test_forward_pass_by_hand(tmp_path):
    arrays = planted()
    np.savez(tmp_path / "net.npz", **arrays)
    net = load(tmp_path / "net.npz")
    assert net.time[-1] == pytest.approx(2.0)
    x = np.random.default_rng(1).normal(size=(3, 320)).astype(np.float32)
    expected = x.astype(np.float64).T
    for k in (1, 2):
        column = {
            name: arrays[f"bn_{name}_{k}"][:, None].astype(np.float64) for name in ("mean", "var", "offset", "scale")
        }
        normed = (arrays[f"weight_{k}"].astype(np.float64) @ expected - column["mean"]) / np.sqrt(column["var"] + 1e-5)
        expected = np.log1p(np.exp(column["scale"] * normed + column["offset"]))
    expected = (expected / expected.mean(axis=0)).T
    np.testing.assert_allclose(network(net.params, jnp.asarray(x)), expected, rtol=2e-4, atol=1e-5)


def test_inputs_are_the_five_blocks():
    traces = jnp.asarray(np.random.default_rng(0).normal(size=(2, 512)))
    points = random_points(jax.random.key(0), 2)
    inputs = np.asarray(encode(traces, points)).reshape(2, 5, 64)
    for trace, places, (a, b, v, va, vb) in zip(np.asarray(traces), np.asarray(points), inputs, strict=True):
        assert np.all(np.diff(places) > 0)
        assert places[[0, -1]].tolist() == [0, 511]
        i = places + 1
        np.testing.assert_allclose(a, 2 * (i / 512 - 0.5), atol=1e-6)
        np.testing.assert_allclose(b, 4 * (i / 512 - 0.5) ** 2 - 0.5, atol=1e-6)
        np.testing.assert_allclose(v, (trace[places] - trace.min()) / np.ptp(trace), atol=1e-6)
        np.testing.assert_allclose(va, v * a, atol=1e-6)
        np.testing.assert_allclose(vb, v * b, atol=1e-6)


def test_points_are_spread_evenly_and_differ_from_trace_to_trace():
    points = np.asarray(random_points(jax.random.key(0), 400))
    frequency = np.bincount(points.ravel(), minlength=512)[1:-1] / 400
    assert frequency.mean() == pytest.approx(62 / 510)
    assert frequency.std() < 2 * np.sqrt(62 / 510 * (1 - 62 / 510) / 400)
    assert len(np.unique(points, axis=0)) == 400


def test_broken_network_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*nowhere.npz"):
        load(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"text.npz is not a readable"):
        load(tmp_path / "text.npz")
    np.save(tmp_path / "single.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"single.npy is not a readable"):
        load(tmp_path / "single.npy")
    lacking = planted()
    del lacking["bn_var_2"]
    np.savez(tmp_path / "lacking.npz", **lacking)
    with pytest.raises(ValueError, match=r"lacks bn_var_2"):
        load(tmp_path / "lacking.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match=r"lacks time_grid_s.*it has a"):
        load(tmp_path / "other.npz")
    shape = planted()
    shape["weight_2"] = np.ones((512, 9), np.float32)
    np.savez(tmp_path / "shape.npz", **shape)
    with pytest.raises(ValueError, match=r"weight_2 of shape \(512, 9\); must be \(out, 7\)"):
        load(tmp_path / "shape.npz")
    norm = planted()
    norm["bn_mean_1"] = np.ones(5, np.float32)
    np.savez(tmp_path / "norm.npz", **norm)
    with pytest.raises(ValueError, match=r"bn_mean_1 of shape \(5,\); must be \(7,\)"):
        load(tmp_path / "norm.npz")


def test_broken_traces_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*gone.dat"):
        load_trace(tmp_path / "gone.dat")
    path = tmp_path / "trace.dat"
    for text, message in (
        ("a b c d\n", "not a table"),
        ("0 1 1 0 5\n1 1 1 0 5\n", r"\(2, 5\)"),
        ("0 1 1 0\n0 1 1 0\n", "do not ascend"),
        ("0 1 1 0\n1 nan 1 0\n", "not finite"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_trace(path)
    path.write_text("0 1 0.6 0.1\n0.008 0.9 0.5 0.2\n")
    measured = load_trace(path)
    assert (measured.time[1], measured.trace[1], measured.background[1], measured.residual[1]) == (0.008, 0.9, 0.5, 0.2)


def test_traces_of_another_length_are_refused():
    points = random_points(jax.random.key(0), 2)
    with pytest.raises(ValueError, match=r"traces: shape \(2, 256\)"):
        encode(jnp.ones((2, 256)), points)
    with pytest.raises(ValueError, match=r"points: shape \(2, 64\)"):
        encode(jnp.ones((3, 512)), points)
