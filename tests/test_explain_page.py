"""The page of an explanation: sentences of findings, the strongest waves, names of samples, uncentred signals."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble._base import drawing
from jaxdescramble.findings import LayerSignals, Verdict
from jaxdescramble.findings.explanations import sentences, waves
from jaxdescramble.findings.explanations._samples import names_of, samples_of, texts_of
from jaxdescramble.findings.explanations._wave_pictures import view
from jaxdescramble.findings.explanations.axes import free_axis, ordered_axis
from jaxdescramble.findings.explanations.readings import READINGS, LayerReading
from jaxdescramble.operators import derivative

FREE, ORDERED = free_axis(derivative(4)), ordered_axis(4)
FEW = tuple(
    one
    for one in READINGS
    if one.name in ("agreement of halves", "roughness along outputs", "roughness along inputs", "band edge of inputs")
)
"""Few readings compile sooner."""
WORDS = [f"sample {k}" for k in range(60)]


def f(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"]


@pytest.fixture(scope="module")
def network():
    """A first layer of slow filters, rotated at random; a random last layer."""
    rng = np.random.default_rng(0)
    filters = np.cos(np.outer(np.arange(1, 4), np.pi * (np.arange(16) + 0.5) / 16))
    first = np.linalg.qr(rng.standard_normal((12, 12)))[0][:, :3] @ filters + rng.standard_normal((12, 16)) / 16
    params = {"first": jnp.asarray(first.T, "float32"), "last": jnp.asarray(rng.standard_normal((12, 8)), "float32")}
    return params, jnp.asarray(rng.standard_normal((60, 16)), "float32")


@pytest.fixture(scope="module")
def report(network):
    return jd.explain(f, *network, draws=39, names=WORDS, readings=FEW)


@pytest.fixture(scope="module")
def saved(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    report.save(folder)
    return folder


# --- sentences -------------------------------------------------------------------------------------------------------


def verdict(direction=-1, value=0.03, **more):
    nulls = {"random frame": (0.41, 0.02), "permuted entries": (0.4, 0.03)}
    p_values = {"random frame": 0.005, "permuted entries": 0.005}
    facts = {"layer": "conv1", "reading": "roughness along inputs", "note": "", "depends_on_point": False}
    facts |= {"p_value": 0.005, "p_values": p_values, "nulls": nulls, "effect": 9.0}
    return Verdict(value=value, direction=direction, **(facts | more))


def test_a_finding_is_one_sentence():
    own = next(one for one in READINGS if one.name == "roughness along inputs")
    claim = sentences.claim_of(own, 0.03, [0.41, 0.4], FREE, ORDERED)
    one = verdict(claim=claim, look_at="the picture")
    assert one.sentence == (
        "conv1: neighbouring inputs have more similar weights than by chance: roughness along inputs is 0.03; random "
        "frames give 0.41 (sd 0.02), permuted entries give 0.4 (sd 0.03); p = 0.005."
    )
    assert str(one) == f"{one.sentence} Look at the picture."
    assert "in the descrambled order" in sentences.claim_of(own, 0.03, [0.41], FREE, FREE)
    # A null that cannot change the reading is no comparison; what is no finding claims nothing.
    only = {"random frame": math.nan, "permuted entries": 0.6}
    assert verdict(p_values=only, p_value=0.6).sentence == (
        "conv1: roughness along inputs is 0.03; permuted entries give 0.4 (sd 0.03); p = 0.6."
    )
    none = dict.fromkeys(only, math.nan)
    assert verdict(p_values=none, p_value=math.nan).sentence.endswith("is 0.03; no null can change it.")


@pytest.mark.parametrize(
    ("direction", "value", "means", "claim"),
    [
        (0, 3.0, [1.0, 5.0], "its value differs more than by chance"),
        (0, 3.0, [1.0, 2.0], "its value is larger than by chance"),
        (0, 0.5, [1.0, 2.0], "its value is smaller than by chance"),
        (1, 3.0, [1.0], "its value is larger than by chance"),
        (-1, 0.5, [1.0], "its value is smaller than by chance"),
    ],
)
@pytest.mark.every_case
def test_a_reading_of_your_own_needs_no_claim(direction, value, means, claim):
    own = LayerReading("own", lambda look: look.singular[0], lambda output, into: True, False, direction, "a note")
    assert sentences.claim_of(own, value, means, FREE, ORDERED) == claim


def test_every_claim_compares_with_chance_in_the_direction_of_its_reading():
    small = ("fewer", "more slowly", "more alike", "more similar", "closer together")
    large = ("agree", "stronger", "different frequencies")
    for one in READINGS:
        claims = {sentences.claim_of(one, 0.0, [1.0], *axes) for axes in ((FREE, ORDERED), (ORDERED, FREE))}
        for claim in claims:
            assert claim.endswith("than by chance"), one.name
            assert "{" not in claim
            assert any(word in claim for word in (small if one.direction < 0 else large)), one.name
            assert not any(word in claim for word in (large if one.direction < 0 else small)), one.name
        assert (
            "'Descrambled'" in one.look_at or "'Strongest waves'" in one.look_at or "'Singular values'" in one.look_at
        )


@pytest.mark.thorough
def test_findings_speak_on_the_page_and_in_the_file(report, saved):
    page = (saved / "index.html").read_text()
    about = json.loads((saved / "report.json").read_text())
    assert report.findings
    for one, told in zip(report.verdicts, about["verdicts"], strict=True):
        assert told["sentence"] == one.sentence
        assert bool(one.claim) == (one in report.findings) == bool(one.look_at)
    for one in report.findings:
        assert one.claim.replace("'", "&#x27;") in page
        assert one.look_at.replace("'", "&#x27;") in page
        assert one.sentence.startswith(f"{one.layer}: {one.claim}: {one.reading} is")


# --- waves -----------------------------------------------------------------------------------------------------------


def test_waves_are_principal_components_of_the_preactivations(network, report):
    """On halves of the same size and weight, the frame of all samples is that of the whole matrix."""
    params, x = network
    assert report.samples == (30, 30)
    W, X = np.asarray(params["first"], np.float64).T, np.asarray(x, np.float64).T
    energies, directions = np.linalg.eigh(W @ X @ X.T @ W.T)
    found = report.layers["['first']"].waves
    assert [one.name for one in found] == [f"wave {k + 1}" for k in range(6)]
    for k, one in enumerate(found):
        wanted = directions[:, -1 - k] @ W
        np.testing.assert_allclose(one.weights, wanted * np.sign(wanted[np.abs(wanted).argmax()]), rtol=1e-3, atol=1e-4)
        assert one.energy == pytest.approx(energies[-1 - k] / energies.sum(), rel=1e-4)
    # Every row of P W is a sum of waves: the first wave has frequency 0, and the next two have one frequency.
    modes = np.asarray(derivative(12).basis, np.float64).T @ report.layers["['first']"].after
    np.testing.assert_allclose(np.abs(modes[0]), np.abs(found[0].weights), rtol=1e-2, atol=1e-4)
    pair = found[1].weights.astype(float) ** 2 + found[2].weights.astype(float) ** 2
    np.testing.assert_allclose(modes[1] ** 2 + modes[2] ** 2, pair, rtol=1e-2, atol=1e-4)


def test_ordered_outputs_are_shown_as_they_are(network, report):
    params, x = network
    layer = report.layers["['last']"]
    powers = np.mean(np.asarray(f(params, x), np.float64) ** 2, axis=0)
    strongest = np.argsort(-powers)[:6]
    assert [one.name for one in layer.waves] == [f"output {k}" for k in strongest]
    for k, one in zip(strongest, layer.waves, strict=True):
        assert one.energy == pytest.approx(powers[k] / powers.sum(), rel=1e-4)
        np.testing.assert_allclose(one.weights, layer.after[k], rtol=1e-5)


def test_layers_say_where_they_stand(report, saved):
    assert [one.link for one in report.layers.values()] == [
        "reads the network's inputs",
        "gives the network's outputs",
    ]
    assert "reads the network&#x27;s inputs" in (saved / "index.html").read_text()
    assert [one.grid for one in report.layers.values()] == [(1, 16), ()]


def test_the_strongest_channel_of_a_window_is_drawn():
    weights = np.zeros((3, 4, 5))
    weights[1, 2, 3], weights[0] = 5.0, 0.1
    part, which = view(weights.ravel(), (3, 4, 5))
    np.testing.assert_array_equal(part, weights[1])
    assert which == "its strongest channel, 1 (of 0 to 2)"
    part, which = view(weights.ravel(), (1, 3, 4, 5))  # a picture with its colours last
    np.testing.assert_array_equal(part, weights[:, :, 3])
    assert which == "its strongest part, 3 (of 0 to 4)"
    part, which = view(weights.ravel(), ())
    assert (part.shape, which) == ((60,), "")


def test_long_curves_keep_their_extremes():
    wave = np.zeros(4001)
    wave[1234], wave[2345] = 1.0, -1.0
    drawn = drawing.profile(wave, "a curve", 160, 60)
    heights = [float(point.split(",")[1]) for point in drawn.split('points="')[1].split('"')[0].split()]
    assert (min(heights), max(heights), len(heights)) == (3.0, 57.0, drawing.POINTS)
    stripes = drawing.bars(wave, "bars", 160, 60)
    assert "V3.0" in stripes
    assert "V57.0" in stripes
    assert "nan" not in drawing.profile(np.zeros(3), "nothing") + drawing.bars(np.zeros(3), "nothing")


# --- names of samples ------------------------------------------------------------------------------------------------


def test_names_of_the_samples_at_both_ends_of_a_wave(network, report, saved):
    _, x = network
    for one in report.layers["['first']"].waves:  # the inputs are ordered: weights are those of x as it is
        activations = np.asarray(x, np.float64) @ one.weights
        order = np.argsort(activations)
        assert [name for name, _ in one.largest] == [WORDS[k] for k in order[:-6:-1]]
        assert [name for name, _ in one.smallest] == [WORDS[k] for k in order[:5]]
        np.testing.assert_allclose([value for _, value in one.smallest], activations[order[:5]], rtol=1e-3)
    told = json.loads((saved / "report.json").read_text())["layers"][0]["waves"][0]
    first = report.layers["['first']"].waves[0]
    assert [name for name, _ in told["largest"]] == [name for name, _ in first.largest]
    assert f"{first.largest[0][0]} ({first.largest[0][1]:.3g})" in (saved / "index.html").read_text()


def test_different_names_come_first():
    values = np.asarray([5.0, 1.0, 2.0, 3.0, 4.0, 0.0, 9.0])
    assert waves.smallest(values, np.asarray([0, 1, 1, 1, 1, 2, 3])).tolist() == [5, 1, 2, 0, 6]
    assert waves.smallest(values, np.arange(7)).tolist() == [5, 1, 2, 3, 4]
    assert waves.smallest(values[:2], np.asarray([0, 0])).tolist() == [1, 0]


def test_names_of_tokens_and_of_columns(network, report):
    params, x = network
    tokens = np.asarray([["the", "cat"], ["the", "dog"], ["a", "dog"]])
    axes = samples_of(jnp.ones((3, 2, 16)), None, None, texts_of(tokens))[0]
    assert axes == (3, 2)
    names = names_of(texts_of(tokens), axes)
    assert [names.labels[k] for k in names.codes] == tokens.ravel().tolist()
    assert samples_of(jnp.ones((3, 2, 16)), None, None, texts_of(["x", "y", "z"]))[0] == (3,)
    sentences_ = names_of(texts_of(["x", "y", "z"]), (3, 2))
    assert [sentences_.labels[k] for k in sentences_.codes] == ["x", "x", "y", "y", "z", "z"]
    layer = LayerSignals(np.asarray(params["first"]).T, np.asarray(x).T, ordered_output=False)
    found = jd.explain({"a": layer}, draws=1, names=WORDS, readings=FEW)
    assert found.layers["a"].waves[0].largest == report.layers["['first']"].waves[0].largest


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (WORDS[:59], r"names: got shape \(59,\); must be \(60,\)"),
        ([WORDS, WORDS], r"names: got shape \(2, 60\); must be \(60,\)"),
        (list(range(60)), "names: got int64; must be texts"),
        ([["a"], ["b", "c"]], "names: rows of different lengths"),
        ("one name", r"names: got shape \(\)"),
    ],
)
@pytest.mark.every_case
def test_names_of_another_shape_are_refused(network, as_installed, names, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jd.explain(f, *network, draws=1, names=names)


# --- signals that are not centred ------------------------------------------------------------------------------------


def test_a_mean_that_dominates_is_named(network, report, tmp_path):
    _, x = network
    rng = np.random.default_rng(1)
    weight, signals = rng.standard_normal((12, 16)).astype("float32"), np.asarray(x).T + 5
    layer = LayerSignals(weight, signals, ordered_output=False)
    found = jd.explain({"a": layer}, draws=1, readings=FEW).layers["a"]
    side = np.mean(signals, axis=1, dtype=np.float64)
    shares = [
        np.sum((w @ side) ** 2) / np.mean(np.sum((w @ signals.astype(float)) ** 2, axis=0))
        for w in (np.eye(16), weight)
    ]
    np.testing.assert_allclose(found.mean_energy, shares, rtol=1e-4)
    assert shares[0] > 0.95
    assert f"carries {shares[0]:.0%} of the energy of the input signals" in found.note
    assert found.waves[0].energy > 0.9
    loud = dataclasses.replace(report, layers={"a": found}, verdicts=found.verdicts)
    assert "not centred" in loud.page()
    loud.save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["layers"][0]["note"] == found.note
    assert max(report.layers["['first']"].mean_energy) < 0.2
    assert "not centred" not in report.page()


# --- files -----------------------------------------------------------------------------------------------------------


def test_waves_survive_the_folder(report, saved):
    again = jd.Report.load(saved)
    for name, layer in report.layers.items():
        other = again.layers[name]
        assert (other.link, other.grid, other.mean_energy) == (layer.link, layer.grid, layer.mean_energy)
        for one, two in zip(layer.waves, other.waves, strict=True):
            np.testing.assert_array_equal(one.weights, two.weights)
            assert (one.name, one.energy, one.largest) == (two.name, two.energy, two.largest)
    assert again.page() == report.page()


def test_reports_of_former_versions_can_be_read(saved, tmp_path):
    """Without the fields that came later: sentences have no claim, and there are no waves."""
    about = json.loads((saved / "report.json").read_text())
    for one in about["verdicts"]:
        for name in ("claim", "look_at", "sentence"):
            del one[name]
    for one in about["layers"]:
        for name in ("waves", "grid", "link", "mean_energy", "note"):
            del one[name]
    (tmp_path / "report.json").write_text(json.dumps(about))
    with np.load(saved / "arrays.npz") as file:
        np.savez(tmp_path / "arrays.npz", **{name: file[name] for name in file.files if not name.endswith("/waves")})
    old = jd.Report.load(tmp_path)
    old.save(tmp_path / "again")
    assert jd.Report.load(tmp_path / "again").page() == old.page()
    assert old.layers["['first']"].waves == ()
    assert old.layers["['first']"].note == ""
    assert old.findings[0].sentence.startswith(f"{old.findings[0].layer}: {old.findings[0].reading} is")
    assert "Strongest waves" not in old.page().split("</details>", 1)[1]


def test_waves_say_how_many_cycles_they_make():
    line = np.arange(48) / 48
    two = np.concatenate([np.sin(2 * np.pi * (3 * line + 0.3)), 0.1 * np.cos(np.pi * (np.arange(48) + 0.5) * 20 / 48)])
    cycles, share = waves.cycles_of(two, ordered_axis(96, channels=2))
    assert cycles == pytest.approx(3, abs=0.1)
    assert 0.85 < share < 1
    assert waves.cycles_of(np.ones(48), ordered_axis(48)) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    for axis in (ordered_axis(48, (6, 8)), free_axis(derivative(48))):
        assert waves.cycles_of(line, axis) == (None, 0.0)


def test_readings_on_the_other_side_are_told(report):
    found = report.layers["['first']"].verdicts[0]
    a, b = report.nulls
    nulls = {a: (1.0, 1.0), b: (8.9, 0.1)}
    far = dataclasses.replace(found, direction=-1, value=9.0, p_value=1.0, nulls=nulls, p_values={a: 1.0, b: math.nan})
    assert sentences.opposite(far)
    assert not sentences.opposite(dataclasses.replace(far, p_values={a: 1.0, b: 1.0}))
    assert not sentences.opposite(dataclasses.replace(far, direction=1))
    assert not sentences.opposite(dataclasses.replace(far, direction=0))
    layer = dataclasses.replace(report.layers["['first']"], verdicts=(far,))
    page = dataclasses.replace(report, layers={"['first']": layer}).page()
    assert "Far from chance in the other direction (no test): " + far.reading in page
