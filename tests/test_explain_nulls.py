"""Nulls of networks that the user trained, readings with shuffled inputs, and intervals over groups of samples."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.findings import TrainedNetworks, joint_p_values
from jaxdescramble.findings.explanations import _descriptions, _intervals, _running
from jaxdescramble.findings.explanations._descriptions import shuffled


def f(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"]


def init(key):
    one, other = jax.random.split(key)
    return {"first": jax.random.normal(one, (16, 12)), "last": jax.random.normal(other, (12, 8))}


@pytest.fixture(scope="module")
def network():
    x = np.cumsum(np.random.default_rng(0).standard_normal((60, 16)), axis=1)
    return init(jax.random.key(99)), jnp.asarray(x, "float32")


@pytest.fixture(scope="module")
def networks():
    return [init(jax.random.key(k)) for k in range(21)]


@pytest.fixture(scope="module")
def judged(network, networks):
    """One report with everything: nulls of 25 and of 21 draws, intervals, shuffled inputs."""
    nulls = ["random frame", TrainedNetworks(networks)]
    return jd.explain(f, *network, nulls=nulls, init=init, draws=25, intervals=40, shuffled_inputs=True)


# --- nulls of trained networks ---------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_draw_k_is_network_k_and_each_null_judges_with_its_own_draws(network, networks, judged):
    assert judged.nulls == ("random frame", "trained on shuffled targets", "untrained")
    assert judged.null_draws == {"random frame": 25, "trained on shuffled targets": 21, "untrained": 25}
    assert judged.draws == 25
    drawn = judged.layers["['last']"].draws["trained on shuffled targets"]
    alone = jd.explain(f, networks[17], network[1], nulls=["random frame"], draws=1)
    np.testing.assert_allclose(
        drawn[17], [one.value for one in alone.layers["['last']"].verdicts], rtol=1e-5, atol=1e-6
    )
    flat = [one for layer in judged.layers.values() for one in layer.verdicts]
    table = np.concatenate([layer.draws["trained on shuffled targets"] for layer in judged.layers.values()], axis=1)
    values, directions = (np.asarray([getattr(one, name) for one in flat]) for name in ("value", "direction"))
    wanted, _ = joint_p_values(values, table, directions)
    found = [one.p_values["trained on shuffled targets"] for one in flat]
    np.testing.assert_array_equal(found, wanted)
    assert min(found) >= 1 / 22


def test_the_page_and_the_headline_say_how_many_draws_and_which_floor(judged):
    assert "25 draws of each null, but 21 of 'trained on shuffled targets'" in judged.headline
    page = judged.page()
    assert "p against trained on shuffled targets (floor 0.0455)" in page
    assert "p against untrained (floor 0.0385)" in page
    assert "0.0385 for &#x27;random frame&#x27;, 0.0455 for &#x27;trained on shuffled targets&#x27;" in page


def test_a_report_of_unequal_nulls_survives_its_folder(judged, tmp_path):
    judged.save(tmp_path)
    again = jd.Report.load(tmp_path)
    assert again.null_draws == judged.null_draws
    assert again.descriptions == judged.descriptions
    assert again.intervals == judged.intervals
    assert [one.interval for one in again.verdicts] == [one.interval for one in judged.verdicts]
    assert again.page() == judged.page()
    about = json.loads((tmp_path / "report.json").read_text())
    assert about["null_draws"]["trained on shuffled targets"] == 21
    assert about["verdicts"][0]["interval"] == list(judged.verdicts[0].interval)


def test_too_few_networks_for_alpha_is_said(network, networks):
    found = jd.explain(f, *network, nulls=[TrainedNetworks(networks[:19], "few")], draws=25, alpha=0.01)
    assert found.draws == 19  # no null has more
    assert found.headline == "19 draws cannot show a finding at 0.01: give at least 99."
    both = _running.most_draws(TrainedNetworks(networks), 20), _running.most_draws("random frame", 20)
    assert both == (20, 20)


def test_a_network_that_training_changed_is_found(networks, network):
    """Slow filters in every neuron are not what the other networks have."""
    waves = np.cos(np.outer(np.pi * (np.arange(16) + 0.5) / 16, 1 + np.arange(12) % 3)).astype("float32")
    params = {**network[0], "first": network[0]["first"] + 3 * waves}
    found = jd.explain(f, params, network[1], nulls=[TrainedNetworks(networks)], draws=25)
    assert "roughness along inputs" in {one.reading for one in found.findings}
    assert found.verdicts[0].p_value == pytest.approx(1 / 22)


def test_progress_counts_the_draws_of_each_null_and_folders_tell_networks_apart(network, networks, tmp_path):
    seen = []
    options = {"draws": 25, "folder": tmp_path}
    nulls = ["random frame", TrainedNetworks(networks)]
    first = jd.explain(f, *network, nulls=nulls, progress=lambda *one: seen.append(one), **options)
    totals = {(done, total) for stage, done, total in seen if stage.startswith("draws")}
    assert max(totals) == (2 * (25 + 21), 2 * (25 + 21))
    assert "draws 21 to 21 of 21 from 'trained on shuffled targets'" in {stage for stage, _, _ in seen}
    again: list[str] = []
    same = jd.explain(f, *network, nulls=nulls, progress=lambda stage, *_: again.append(stage), **options)
    assert not any(stage.startswith("draws") for stage in again)  # all of them were kept
    np.testing.assert_equal(same.verdicts[0].p_values, first.verdicts[0].p_values)
    changed = [*networks[:20], init(jax.random.key(77))]
    other = jd.explain(f, *network, nulls=[nulls[0], TrainedNetworks(changed)], **options)
    rows = [one.layers["['last']"].draws["trained on shuffled targets"] for one in (first, other)]
    np.testing.assert_array_equal(rows[0][:20], rows[1][:20])
    assert np.abs(rows[0][20] - rows[1][20]).max() > 1e-3


def test_bad_networks_are_refused_and_the_message_says_what_to_do(network, networks, as_installed):
    params, x = network
    with pytest.raises(ValueError, match=r"got 18 network\(s\).*others=networks"):
        TrainedNetworks(networks[:18])
    with pytest.raises(TypeError, match=r"must be a list.*stack"):
        TrainedNetworks(params)
    spoiled = {
        r"network 2 of 'trained on shuffled targets': `\['first'\]` has shape \(16, 11\), but \(16, 12\)": {
            **params,
            "first": params["first"][:, :11],
        },
        r"has no entry `\['last'\]`": {"first": params["first"]},
        r"has an entry `\['bias'\]`": {**params, "bias": params["last"][0]},
        r"`\['last'\]` contains NaN or infinity": {**params, "last": params["last"] / 0},
        "network 2 of .* equals network 0": networks[0],
    }
    for message, wrong in spoiled.items():
        null = TrainedNetworks([*networks[:2], wrong, *networks[2:]])
        with pytest.raises(ValueError, match=message):
            jd.explain(f, params, x, nulls=[null], draws=1)
    with pytest.raises(ValueError, match=r"others: network 1: has no entry"):
        jd.explain(f, params, x, others=[params, {"first": params["first"]}], draws=1)
    with pytest.raises(ValueError, match="two of them have the name"):
        jd.explain(f, params, x, nulls=[TrainedNetworks(networks), TrainedNetworks(networks)], draws=1)
    layers = {"first": (params["first"].T, x.T)}
    for options, name in (
        ({"nulls": [TrainedNetworks(networks)]}, "null 'trained on shuffled targets'"),
        ({"shuffled_inputs": True}, "`shuffled_inputs`"),
    ):
        with pytest.raises(TypeError, match=f"{name} need a function f"):
            jd.explain(layers, draws=1, **options)


# --- shuffled inputs -------------------------------------------------------------------------------------------------


def test_shuffled_inputs_keep_each_feature_in_its_half():
    x = np.arange(24.0).reshape(6, 4)
    side = np.asarray([0, 1, 0, 1, 0, -1])
    mixed = shuffled({"x": x, "other": np.ones(3)}, (6,), side, np.random.default_rng(0))
    np.testing.assert_array_equal(mixed["other"], np.ones(3))
    for half in (0, 1):
        np.testing.assert_array_equal(np.sort(mixed["x"][side == half], axis=0), x[side == half])
    np.testing.assert_array_equal(mixed["x"][5], x[5])
    rows = mixed["x"][:5] // 4
    assert (rows != rows[:, :1]).any()  # features move on their own
    tokens = np.arange(12.0).reshape(3, 4, 1)
    moved = shuffled(tokens, (3, 4), np.repeat([0, 1, 0], 4), np.random.default_rng(0))
    assert sorted(moved[[0, 2]].ravel()) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_shuffled_inputs_are_a_description_and_change_what_depends_on_correlations(judged):
    """The inputs are random walks, so their sums have few directions; shuffled, they have many."""
    found = judged.descriptions["readings with shuffled inputs, ['first']"]
    own = {one.reading: one.value for one in judged.layers["['first']"].verdicts}
    assert set(found) == set(own)
    assert found["effective rank of signals"] > 1.5 * own["effective rank of signals"]
    assert found["effective rank of weights"] == pytest.approx(own["effective rank of weights"], rel=1e-5)
    assert "shuffled inputs" not in judged.nulls
    page = judged.page()
    assert "readings with shuffled inputs" in page
    assert "(as it is: " in page


# --- intervals -------------------------------------------------------------------------------------------------------


def test_a_resample_draws_whole_groups_within_each_half():
    groups = np.repeat(np.arange(12), 3)
    side = np.where(groups < 7, 0, 1)
    side[-1] = -1
    both = _intervals.Groups.of(groups, side)
    assert both.counts == (7, 5)
    times = [both.drawn([b]) for b in range(400)]
    for one in times[:20]:
        assert one[side == 0].sum() == 21
        assert one[-1] == 0
        assert all(len(set(one[(groups == g) & (side >= 0)])) == 1 for g in range(12))
    counts = np.stack(times)[:, ::3]
    np.testing.assert_allclose(counts[:, :7].mean(axis=0), 1, atol=4 * math.sqrt(6 / 7 / 400))
    np.testing.assert_allclose(counts[:, :7].var(axis=0), 6 / 7, atol=0.3)  # of multinomial counts


def test_equal_weights_give_the_value_and_an_interval_is_that_of_its_resamples(network, judged):
    """With every group drawn once, the resampled inputs are those of the samples."""
    params, x = network
    again = jd.explain(f, params, x, nulls=["random frame"], draws=1, intervals=40)
    for one, other in zip(again.layers["['first']"].verdicts, judged.layers["['first']"].verdicts, strict=True):
        assert one.interval == other.interval, one.reading
        low, high = one.interval
        assert low <= high
        if one.reading in ("effective rank of weights", "largest singular value", "band edge of inputs"):
            assert low == pytest.approx(high, rel=1e-4) == pytest.approx(one.value, rel=1e-4)
    rank = next(one for one in again.layers["['first']"].verdicts if one.reading == "effective rank of signals")
    assert rank.interval[1] - rank.interval[0] > 0.05 * rank.value
    assert "40 resamples" in again.intervals
    assert "Value, 95% interval" in again.page()


def test_few_groups_give_no_interval_and_the_report_says_so_once(network, as_installed):
    params, x = network
    few = jd.explain(f, params, x, nulls=["random frame"], draws=1, intervals=40, groups=np.arange(60) // 4)
    assert all(one.interval is None for one in few.verdicts)
    assert few.intervals == "No intervals: a half has only 7 group(s) of samples, and an interval needs 10."
    assert few.page().count("No intervals") == 1
    none = jd.explain(f, params, x, nulls=["random frame"], draws=1)
    assert (none.intervals, none.verdicts[0].interval) == ("", None)
    assert "95% interval" not in none.page()
    for wrong in (-1, 5, 1.5):
        with pytest.raises((TypeError, ValueError), match="intervals"):
            jd.explain(f, params, x, draws=1, intervals=wrong)


def test_ctrl_c_during_the_intervals_keeps_the_draws(network, monkeypatch):
    def press(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_descriptions, "intervals_of", press)
    with pytest.raises(jd.Interrupted) as stopped:
        jd.explain(f, *network, nulls=["random frame"], draws=1, intervals=40, others=[network[0]])
    found = stopped.value.result
    assert found.stopped == "interrupted: no intervals"
    assert found.draws == 1
    assert len(found.descriptions) == 2


def test_time_that_ends_during_the_intervals_keeps_the_draws(network, monkeypatch):
    real = _intervals.read_one

    def slow(layer, battery):
        monkeypatch.setattr(jd.solvers.watch.Watch, "remaining", -1.0)
        return real(layer, battery)

    monkeypatch.setattr(_intervals, "read_one", slow)
    found = jd.explain(f, *network, nulls=["random frame"], draws=1, intervals=40, max_seconds=600)
    assert found.stopped == "stopped by max_seconds: no intervals"
    assert found.draws == 1
    assert found.verdicts[0].interval is None


@pytest.mark.slow
def test_intervals_shrink_with_the_groups_and_cover_the_value_of_many_samples():
    """One layer whose inputs have known correlations. The truth is the reading of 40,000 samples."""
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((8, 8)) * 0.7 ** np.arange(8)
    weight = rng.standard_normal((5, 8)).astype("float32")

    def explained(samples, number, intervals):
        signals = mixing @ np.random.default_rng([samples, number]).standard_normal((8, samples))
        layer = jd.findings.LayerSignals(weight, signals.astype("float32"), ordered_output=False)
        report = jd.explain({"a": layer}, draws=1, nulls=["random frame"], intervals=intervals)
        return {one.reading: one for one in report.verdicts}

    truth = explained(40_000, 0, 0)
    few = [explained(200, number, 60) for number in range(30)]
    many = [explained(800, number, 60) for number in range(5)]
    for name in ("effective rank of signals", "roughness of signals"):
        covered = sum(one[name].interval[0] <= truth[name].value <= one[name].interval[1] for one in few)
        assert covered >= 22, (name, covered)
        widths = [np.mean([one[name].interval[1] - one[name].interval[0] for one in each]) for each in (few, many)]
        assert 1.6 < widths[0] / widths[1] < 2.6, (name, widths)
