"""Of many samples, `explain` reads a random part, before the network runs."""

import jax
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.findings.explanations import _samples
from jaxdescramble.findings.explanations._samples import Labels
from jaxdescramble.findings.explanations.splitting import halves


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(_samples, "MOST", 80)


def layer(count):
    keys = jax.random.split(jax.random.key(0), 2)
    return np.asarray(jax.random.normal(keys[0], (6, 12))), np.asarray(jax.random.normal(keys[1], (12, count)))


@pytest.mark.thorough
def test_the_report_of_many_columns_is_that_of_the_chosen_ones(few):
    W, X = layer(400)
    groups, weights = np.arange(400) // 4, np.arange(400) % 7.0
    report = jd.explain({"first": (W, X)}, groups=groups, weights=weights, draws=19)
    seed = tuple(int(one) for one in np.asarray(jax.random.key_data(jax.random.key(0))))
    given = _samples.some_columns({"first": (W, X)}, None, Labels(weights, groups, None), seed)
    assert given.picked is not None
    assert (weights[given.picked] > 0).all()
    assert len(np.unique(given.picked)) == 80
    again = jd.explain(
        {"first": (W, X[:, given.picked])}, groups=groups[given.picked], weights=weights[given.picked], draws=19
    )
    assert [one.value for one in report.verdicts] == [one.value for one in again.verdicts]
    assert report.descriptions == {"samples, chosen at random": {"given": 400.0, "read": 80.0}}
    assert not again.descriptions
    assert "given 400" in report.page()


def test_rows_are_chosen_before_the_network_reads_them(few, tmp_path):
    seen = []

    class Map(np.memmap):
        def __getitem__(self, index):
            seen.append(np.size(index))
            return np.asarray(super().__getitem__(index))

    rows = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")
    rows.tofile(tmp_path / "rows.bin")
    x = {"rows": Map(tmp_path / "rows.bin", "float32", "r", shape=rows.shape), "shared": np.ones(12, "float32")}
    given = _samples.some_samples(x, Labels(np.ones((300, 4)), np.arange(300), None), [0])  # four tokens in each row
    assert given.picked is not None
    assert len(given.picked) == 20
    assert seen == [20]
    np.testing.assert_array_equal(given.data["rows"], rows[given.picked])
    assert given.data["shared"].shape == (12,)
    assert given.labels.weights.shape == (20, 4)
    np.testing.assert_array_equal(given.labels.groups, given.picked)
    report = jd.explain(lambda W, x: x["rows"] @ W, layer(1)[0].T, {"rows": rows}, draws=19)
    assert sum(report.samples) == 80


def test_few_samples_are_all_read(few):
    assert _samples.some_samples(np.zeros((80, 2)), Labels(None, None, None), [0]).picked is None


def values(report):
    return np.asarray([one.value for one in report.layers["first"].verdicts])


def test_centred_signals_lose_their_mean_in_each_half():
    W, X = layer(80)
    side = halves(np.arange(80), np.ones(80), [0, 0])
    X = X + np.where(side == 0, 3.0, 9.0).astype("float32") * np.arange(1, 13, dtype="float32")[:, None]
    by_hand = X.copy()
    for half in (0, 1):
        by_hand[:, side == half] -= X[:, side == half].mean(axis=1, keepdims=True)
    centred = jd.explain({"first": (W, X)}, centred=True, draws=19, names=[str(k) for k in range(80)])
    np.testing.assert_allclose(values(centred), values(jd.explain({"first": (W, by_hand)}, draws=19)), rtol=1e-4)
    assert centred.layers["first"].note == ""
    largest = centred.layers["first"].waves[0].largest
    total = X[:, side == 0].mean(axis=1) / 2 + X[:, side == 1].mean(axis=1) / 2
    wave = centred.layers["first"].waves[0].weights
    assert wave.shape == (12,)
    np.testing.assert_allclose(largest[0][1], wave @ (X[:, int(largest[0][0])] - total), rtol=1e-4)
    raw = jd.explain({"first": (W, X)}, draws=19)
    assert "not centred" in raw.layers["first"].note
    assert abs(values(raw) - values(centred)).max() > 0.01


def test_ends_without_an_order_are_descrambled():
    W, X = layer(80)
    layers = {"first": (W, X), "last": (np.eye(6, dtype="float32")[:5], W @ X)}
    for ordered in (["inputs"], []):
        report = jd.explain(layers, ordered=ordered, draws=19)
        readings = {name: {one.reading for one in kept.verdicts} for name, kept in report.layers.items()}
        assert "roughness along outputs" in readings["last"]
        assert "roughness along ordered outputs" not in readings["last"]
        assert ("band edge of inputs" in readings["first"]) == ("inputs" in ordered)
    with pytest.raises(ValueError, match=r"'rows'.*must be a list of 'inputs' and 'outputs'"):
        jd.explain(layers, ordered=["rows"])


def test_arguments_that_cannot_be_meant_are_refused_at_once():
    W, X = layer(80)
    with pytest.raises(TypeError, match="explain\\(layers, out='folder'\\)"):
        jd.explain({"first": (W, X)}, "folder")
    read = []

    def f(params, x):
        read.append(x.shape)
        return x @ params

    with pytest.raises(TypeError, match="cannot run inside jit"):  # also the default key is traced there
        jax.jit(lambda x: jd.explain(lambda params, x: x @ params, W.T, x).draws)(X.T)
    with pytest.raises(ValueError, match="init"):
        jd.explain(f, W.T, X.T, init=lambda key: {"w": W.T})
    assert not read
