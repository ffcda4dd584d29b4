"""The demonstration, run quick, and the rules by which verdicts are given."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.findings import Reading
from jaxdescramble.studies.deernet import claims as findings
from jaxdescramble.studies.deernet import network as deernet
from jaxdescramble.studies.deernet.claims import BY_CONSTRUCTION, FAILS, IN_PART, STANDS, beaten, judge
from jaxdescramble.studies.deernet.demonstration import DemonstrationSettings, demonstrate
from jaxdescramble.studies.deernet.replica import Agreement
from jaxdescramble.studies.deernet.seeds import across_seeds


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    stages = []
    folder = tmp_path_factory.mktemp("demo")
    shown = demonstrate(
        DemonstrationSettings.quick(seed=3), folder, lambda stage, done, total: stages.append((stage, done, total))
    )
    return shown, folder, stages


@pytest.mark.thorough
def test_the_demonstration_descrambles_and_leaves_the_function_alone(quick):
    shown, _, stages = quick
    layer, link = shown.smoothness["['W1'] output"], shown.smoothness["['W2'] input"]
    assert layer.fall > 1e5
    assert layer.fall_held_out > 1e5
    assert link.fall > 100
    assert shown.function_change < 1e-5
    for one in (layer, link):
        assert abs(one.descrambled / one.float64_bound - 1) < 1e-3
        np.testing.assert_allclose(one.bound, one.float64_bound, rtol=1e-3)
    assert [stage for stage, done, _ in stages if done == 0] == [
        "training", "training the null", "descrambling", "reading", "building the replica",
    ]  # fmt: skip
    assert ("training", 300, 300) in stages
    np.testing.assert_allclose(
        shown.first, next(iter(shown.layers.values())).output.point @ shown.net.params["W1"], atol=1e-5
    )


@pytest.mark.thorough
def test_random_frames_cannot_change_what_does_not_depend_on_the_frame(quick):
    # The link tap's singular vectors and the 2-D map of the network itself: declared dependence is real dependence.
    shown, _, _ = quick
    first = {reading.name: reading for reading in shown.readings["first"]}
    assert not first["band edge"].depends_on_point
    assert first["band edge"].p_value["untrained"] <= 0.05
    assert len(first["band edge"].nulls["random frame"]) == 19
    assert len(first["band edge"].nulls["shuffled targets"]) == 1
    assert {reading.name for reading in shown.readings["last, joint tap"]} == {"link purity"}


@pytest.mark.thorough
def test_a_second_run_in_the_same_folder_does_not_train_again_and_agrees(quick):
    shown, folder, _ = quick
    stages = []
    again = demonstrate(
        DemonstrationSettings.quick(seed=3), folder, lambda stage, done, total: stages.append((stage, done))
    )
    assert not [stage for stage in stages if stage[0] == "training" and stage[1] > 0]
    np.testing.assert_array_equal(again.first, shown.first)
    for one, other in zip(again.readings["last"], shown.readings["last"], strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-5)
    with pytest.raises(ValueError, match="belongs to another run"):
        demonstrate(DemonstrationSettings.quick(seed=4), folder)


@pytest.mark.slow
def test_three_layers():
    shown = demonstrate(DemonstrationSettings.quick(layers=3))
    assert list(shown.layers) == ["['W1']", "['W2']", "['W3']"]
    middle = shown.layers["['W2']"]
    np.testing.assert_allclose(
        middle.weight, middle.output.point @ shown.net.params["W2"] @ middle.input.point.T, atol=1e-4
    )
    assert shown.function_change < 1e-5


def reading(name="a", value=1.0, nulls=None, direction=1, depends=True):
    nulls = {"random frame": np.zeros(39), "shuffled targets": np.zeros(1)} if nulls is None else nulls
    ranks = {k: (1 + int((direction * v >= direction * value).sum())) / (len(v) + 1) for k, v in nulls.items()}
    effects = {k: None if v.std() == 0 else (value - v.mean()) / v.std() for k, v in nulls.items()}
    gaps = {k: value - float(v.mean()) for k, v in nulls.items()}
    return Reading(name, value, depends, direction, "", nulls, effects, gaps, ranks, "")


def test_verdicts_follow_their_rules():
    spread = np.linspace(-1, 1, 39)
    far = reading(value=3.0, nulls={"random frame": spread, "shuffled targets": np.zeros(1)})
    near = reading(value=0.9, nulls={"random frame": spread, "shuffled targets": np.zeros(1)})
    wrong = reading(value=-3.0, nulls={"random frame": spread, "shuffled targets": np.zeros(1)})
    assert beaten(far) == {"random frame": True}  # one shuffled network is no test
    assert beaten(near) == {"random frame": False}
    mixed = reading(value=3.0, nulls={"random frame": spread, "untrained": 4 + spread})
    for one, verdict in ((far, STANDS), (near, FAILS), (mixed, IN_PART), (wrong, FAILS)):
        assert findings._from_reading("claim", "first", one).verdict == verdict
    made = reading(value=0.9, nulls={"random frame": np.full(39, 0.85) + spread / 100})
    assert findings._by_construction("claim", "last", made).verdict == BY_CONSTRUCTION
    fixed = reading(value=3.0, nulls={"random frame": np.full(39, 3.0)}, depends=False)
    assert beaten(fixed) == {}


def test_deciding_readings_are_judged_together():
    rng = np.random.default_rng(0)
    groups: dict[str, list] = {}
    for layer, name in findings.DECIDING:
        nulls = {"random frame": rng.standard_normal(39), "shuffled targets": np.zeros(1)}
        groups.setdefault(layer, []).append(reading(name, 2.2 if name == "band edge" else 0.0, nulls))
    groups["first"].append(reading("band edge, 99%", 9.0))
    found = findings.corrected(groups)
    own, joint = (one["first"][0].p_value["random frame"] for one in (groups, found))
    chosen = [one for group in groups.values() for one in group if one.name != "band edge, 99%"]
    largest = np.stack([one.nulls["random frame"] for one in chosen], axis=1)
    pool = np.concatenate([[[2.2, *[0.0] * 7]], largest])
    scores = ((pool - pool.mean(axis=0)) / pool.std(axis=0)).max(axis=1)
    assert joint == pytest.approx(np.mean(scores >= scores[0] - 1e-9))
    assert joint > own
    assert found["first"][0].p_value["shuffled targets"] == groups["first"][0].p_value["shuffled targets"]
    assert found["first"][-1] is groups["first"][-1]


def test_judge_reads_the_exponent_and_the_best_family():
    names = {
        "first": ["band edge", "notch, link frequency 0 left out", "ridge monotonicity"],
        "last": ["link purity", "distance map", "link bandedness", "Chebyshev R2", "Legendre R2", "cosine R2"],
        "last, joint tap": ["link purity"],
    }
    readings = {layer: [reading(name, 0.95) for name in group] for layer, group in names.items()}
    good, bad = Agreement(jnp.asarray(0.9), jnp.asarray(0.1)), Agreement(jnp.asarray(0.5), jnp.asarray(0.1))

    def verdicts(exponent, replica=good):
        first = [*readings["first"], reading("ridge exponent", exponent), reading("ridge exponent error", 0.2)]
        found = judge({**readings, "first": first}, {"replica": replica, "network": good})
        return {one.claim: one.verdict for one in found}

    ridge, copy = (
        "Ridges: the frequency axis is rescaled by a cube root",
        "Two filters and one matrix replicate the network",
    )
    assert verdicts(2.8)[ridge] == STANDS
    assert verdicts(1.0)[ridge] == IN_PART
    assert verdicts(3.0)[copy] == STANDS
    assert verdicts(3.0, bad)[copy] == IN_PART


def test_settings_are_checked():
    with pytest.raises(ValueError, match="draws: expected a positive integer, got 0"):
        DemonstrationSettings(draws=0)
    with pytest.raises(ValueError, match="layers: got 5"):
        DemonstrationSettings.quick(layers=5)
    assert dataclasses.replace(DemonstrationSettings(), seed=4).plan == deernet.TrainingPlan()


def write_seed(folder, seed, weight, value):
    folder.mkdir(parents=True)
    nulls = {"random frame": {"draws": [0.0, 1.0, 2.0]}, "shuffled targets": {"draws": [1.0]}}
    report = {
        "settings": {"seed": seed, "draws": 3},
        "hardware": {"device": "cpu"},
        "findings": [{"claim": "c", "layer": "first", "verdict": STANDS if seed else FAILS, "depends_on_point": True}],
        "smoothness": {"W1": {"fall": 1e6 + seed, "fall_held_out": 1e5, "descrambled": 1.0, "float64_bound": 1.0}},
        "function_change": 1e-6 * (seed + 1),
        "agreement": {"network": {"correlation": 0.8 + 0.1 * seed}},
        "readings": {"first": [{"name": "r", "value": value, "depends_on_point": True, "nulls": nulls}]},
        "seconds": {"train": 2.0, "read": 1.0},
    }
    (folder / "report.json").write_text(json.dumps(report))
    np.savez(folder / "matrices.npz", first=weight, last=weight.T, raw_first=weight, raw_last=weight.T)


@pytest.mark.thorough
def test_seeds_are_put_together(tmp_path):
    from jaxdescramble.operators import derivative

    weight = np.random.default_rng(0).standard_normal((8, 12))
    T = derivative(8).basis
    blocks = np.eye(8)
    blocks[1:3, 1:3] = [[0, 1], [1, 0]]  # another gauge: the cosine and sine of one frequency change places
    folders = [tmp_path / f"seed-{seed}" for seed in range(2)]
    write_seed(folders[0], 0, weight, 5.0)
    write_seed(folders[1], 1, T @ blocks @ T.T @ weight, 7.0)
    found = across_seeds(folders)
    row = found.summary["readings"][0]
    assert (row["mean"], row["nulls"]["random frame"]["mean"]) == (6.0, 1.0)
    np.testing.assert_allclose(row["nulls"]["random frame"]["effect"], 5 / np.std([0, 1, 2] * 2, ddof=1))
    agreement = {entry["name"]: entry for entry in found.summary["agreement"]}
    aligned = agreement["layer 1, P W: correlation after alignment"]
    np.testing.assert_allclose(aligned["value"], 1, atol=1e-6)
    assert aligned["chance"] < 0.9
    assert agreement["layer 1, P W: before alignment"]["value"] < 0.99
    assert found.summary["findings"][0]["verdicts"] == {FAILS: 1, STANDS: 1}
    assert "| r | yes | 6 +- 1.4 |" in found.markdown()
    with pytest.raises(ValueError, match="got no folders"):
        across_seeds([])
    with pytest.raises(ValueError, match=r"no readable report\.json"):
        across_seeds([tmp_path / "none"])
    write_seed(tmp_path / "other", 0, weight, 1.0)
    other = json.loads((tmp_path / "other" / "report.json").read_text())
    other["settings"]["draws"] = 4
    (tmp_path / "other" / "report.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="other settings"):
        across_seeds([folders[0], tmp_path / "other"])
