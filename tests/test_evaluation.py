"""The evaluation of attributions: its tests by hand, its verdicts by fixed rules, and a small run of the whole."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxdescramble._base.parts import kept
from jaxdescramble.datasets.pictures import Pictures, shapes
from jaxdescramble.show import commands
from jaxdescramble.studies.attributions import claims, evaluation, saliency
from jaxdescramble.studies.attributions.classifiers import (
    ClassifierPlan,
    accuracy,
    classifier,
    initial_parameters,
    train,
)
from jaxdescramble.studies.deernet.claims import FAILS, IN_PART, STANDS


def dot(*places, size=9):
    return jnp.zeros((1, size, size, 1)).at[0, jnp.asarray([p[0] for p in places]),
                                            jnp.asarray([p[1] for p in places]), 0].set(1.0)  # fmt: skip


def test_outlines_keep_as_many_pixels_elsewhere():
    image = dot((2, 2), (2, 3))
    kept = {name: np.asarray(one[0, :, :, 0]) for name, one in saliency.outlines(image, reach=1).items()}
    assert kept["figure"].sum() == 2
    assert kept["outline"].sum() == 12
    assert kept["outline"][1:4, 1:5].all()
    assert kept["elsewhere"].sum() == 12
    rows, columns = np.nonzero(kept["elsewhere"] & ~kept["figure"])
    away = np.maximum(np.abs(rows - 2), np.minimum(np.abs(columns - 2), np.abs(columns - 3)))
    assert away.min() >= 5  # the two farthest rows and columns, the whole of the farthest first
    assert (np.asarray(saliency.outlines(jnp.ones((1, 4, 4, 1)))["elsewhere"])).all()


def test_strongest_pixels_and_edges(key):
    values = jnp.arange(16.0).reshape(1, 4, 4, 1) - 10
    assert np.flatnonzero(saliency.strongest(values, 0.25, key)).tolist() == [0, 1, 2, 3]  # |-10| to |-7|
    # Ties are broken anywhere, the same for every map and picture.
    flat = jnp.zeros((2, 8, 8, 1)).at[:, 0, 0, 0].set(1.0)
    kept = np.asarray(saliency.strongest(flat, 0.25, key))
    assert kept[:, 0, 0].all()
    assert kept.sum() == 32
    assert 0 < kept[0, 4:].sum() == kept[1, 4:].sum() < 15
    ramp = jnp.broadcast_to(jnp.arange(5.0)[None, None, :, None], (1, 5, 5, 1))
    np.testing.assert_allclose(saliency.edges(ramp)[0, 1:-1, 1:-1], 8.0)  # Sobel: twice 1 + 2 + 1


def test_a_step_across_an_edge_wakes_the_neuron():
    params = [
        {"W": jnp.asarray([[1.0, -1.0], [0.0, 0.0]]), "b": jnp.asarray([0.0, 0.0])},
        {"W": jnp.eye(2), "b": jnp.zeros(2)},
    ]
    images = jnp.asarray([1.0, 0.0]).reshape(1, 1, 2, 1)  # one neuron active, the other silent
    assert saliency.share_active(params, images) == 0.5
    there = saliency.flips(params, images, -images, 1.5)
    assert (there["woken"], there["silenced"], there["class changed"]) == (1.0, 1.0, 1.0)
    assert saliency.flips(params, images, -images, 0.5) == {"woken": 0.0, "silenced": 0.0, "class changed": 0.0}
    assert saliency.flips(params, images, 0 * images, 1.0)["woken"] == 0.0


def test_noise_takes_what_is_not_kept(key):
    """A network that reads one pixel: kept, nothing changes; else chance."""
    weight = jnp.zeros((4, 2)).at[3, 1].set(1.0)
    params = [{"W": weight, "b": jnp.asarray([0.5, 0.0])}]
    labels = jnp.arange(200) % 2
    images = jnp.zeros((200, 2, 2, 1)).at[:, 1, 1, 0].set(labels.astype(float))
    keeps = jnp.zeros((1, 2, 2, 1), bool).at[0, 1, 1, 0].set(True)
    assert saliency.accuracy_where_clean(params, images, labels, keeps, 1.0, key) == 1.0
    assert 0.3 < saliency.accuracy_where_clean(params, images, labels, ~keeps, 1.0, key) < 0.7


def test_rank_correlation_is_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other, where = rng.normal(size=(3, 20)), rng.normal(size=(3, 20)), rng.uniform(size=(3, 20)) > 0.3
    truth = [spearmanr(abs(a[k]), abs(b[k])).statistic for a, b, k in zip(one, other, where, strict=True)]
    one, other, where = map(jnp.asarray, (one, other, where))
    np.testing.assert_allclose(saliency.rank_correlation(one, other, where), np.mean(truth), rtol=1e-12)
    assert saliency.rank_correlation(one, jnp.ones_like(other), where) == 0.0


def test_small_networks_learn_the_shapes(key):
    one, two = jax.random.split(key)
    seen, unseen = shapes(one, 1000, size=12, dtype=jnp.float32), shapes(two, 200, size=12, dtype=jnp.float32)
    before, after = train(key, ClassifierPlan(channels=(8,), widths=(32,), steps=150, learning_rate=5e-3), seen)
    assert accuracy(before, unseen.images, unseen.labels) < 0.35
    assert accuracy(after, unseen.images, unseen.labels) > 0.7
    assert [layer["W"].shape for layer in after] == [(5, 5, 1, 8), (288, 32), (32, 10)]
    with pytest.raises(FloatingPointError, match="learning_rate: got"):
        train(key, ClassifierPlan(channels=(), widths=(4,), steps=4, learning_rate=1e38),
              Pictures(seen.images[:20], seen.labels[:20]))  # fmt: skip


@pytest.mark.thorough
def test_every_method_is_the_library_s_own(key):
    plan = ClassifierPlan(channels=(2,), kernel=3, widths=(8,), bias=-0.1)
    params = initial_parameters(key, plan, (8, 8, 1), 3)
    images = jax.random.uniform(key, (20, 8, 8, 1), jnp.float32)  # more than go together
    found = saliency.maps(params, images, key) | saliency.controls(params, images, key)
    assert set(found) == {*saliency.METHODS, *saliency.CONTROLS}
    assert all(one.shape == images.shape and bool(jnp.isfinite(one).all()) for one in found.values())
    np.testing.assert_allclose(found["input x gradient"], images * found["gradient"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["Insens"], found["Insens, untrained"])
    top = jnp.max(classifier(params, images), axis=1)
    given = jnp.sum(found["LRP alpha 1"], axis=(1, 2, 3)) / top
    assert float(jnp.median(given)) > 0.7  # but for what biases take


def cell(of, network, seed, better):
    own, other = (0.8, 0.4) if better else (0.4, 0.8)
    rest = dict.fromkeys((*saliency.METHODS, *saliency.CONTROLS), other) | {"Insens": own}
    steps = {
        name: {"0.3": {"woken": other}} for name in ("-Insens", "random", "+gradient", "-gradient", "+input", "-input")
    }
    return {
        "set": of, "network": network, "seed": seed, "accuracy": 0.9, "active": 0.2,
        "kept": {name: {"1.0": [value] * 6} for name, value in rest.items()},
        "outline": {name: {"1.0": v} for name, v in (("outline", own), ("figure", other), ("elsewhere", other))},
        "noise": {name: {"0.1": value} for name, value in {**rest, "share that stays": 0.9}.items()},
        "steps": {**steps, "+Insens": {"0.3": {"woken": other - 0.1 if better else other}}},
        "random": {name: {"all layers, ink": 0.2 if better else 0.9} for name in saliency.METHODS},
        "input": dict.fromkeys(rest, 0.5),
    }  # fmt: skip


def test_verdicts_follow_the_numbers():
    good, bad = (cell("digits", "dense", k, True) for k in range(2)), cell("shapes", "dense", 0, False)
    good = list(good)
    good[1]["kept"]["Insens"] = {"1.0": [0.9] * 6}
    assert {claim.verdict for claim in claims.judge(good)} == {STANDS}
    assert {claim.verdict for claim in claims.judge([bad])} == {FAILS}
    both = claims.judge([*good, bad])
    assert {claim.verdict for claim in both} == {IN_PART}
    assert both[1].holds == {"digits, dense": True, "shapes, dense": False}
    unsure = claims.judge([cell("digits", "dense", 0, True), cell("digits", "dense", 1, False)])
    assert unsure[1].holds == {"digits, dense": None}
    assert "digits, dense: open, 0.600, gradient 0.600" in unsure[1].because
    page = claims.markdown([*good, bad], {"seeds": 2, "pictures": 8}, "here")
    assert "| Insens | 0.850 +- 0.071 | 0.400 |" in page


@pytest.mark.slow
def test_a_small_run_is_kept_and_gone_on_with(tmp_path, monkeypatch):
    plan = ClassifierPlan(channels=(), widths=(24, 16), steps=40)
    monkeypatch.setattr(evaluation, "QUICK", {"dense": plan})
    monkeypatch.setattr(evaluation, "SETS", ("digits",))
    pictures = shapes(jax.random.key(0), 200, size=12, dtype=jnp.float32)
    monkeypatch.setattr(evaluation, "pictures_of", lambda of: (pictures, pictures))
    arguments = ["attribution", "--quick", "--seeds", "1", "--pictures", "8", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(commands.build(), arguments)
    assert shown.exit_code == 0, shown.output
    assert "digits, dense, seed 0 ..." in shown.output
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"attribution.md", "attribution.json"} <= files
    (cell_file,) = (name for name in files if name.startswith("cell-digits-dense-0") and name.endswith(".npz"))
    assert {f"{name}.{kind}" for name in ("gallery", "evaluation", "patterns") for kind in ("png", "pdf")} <= files
    (numbers,) = json.loads((tmp_path / "out" / "attribution.json").read_text())["cells"]
    assert numbers["accuracy"] > 0.2
    assert set(numbers["kept"]) == {*saliency.METHODS, *saliency.CONTROLS}
    assert numbers["input"]["input"] == pytest.approx(1, abs=1e-5)
    assert numbers["arrays"] == cell_file
    with np.load(tmp_path / "out" / cell_file) as arrays:
        assert arrays["pattern active"].shape == (6, 4, 12, 12, 1)
    # Again: nothing is computed anew; other settings are, beside it; and so is a damaged file.
    cell_path = tmp_path / "out" / cell_file
    began = cell_path.stat().st_mtime_ns
    again = CliRunner().invoke(commands.build(), [*arguments, "--no-figures"])
    assert "kept ..." in again.output
    arguments[arguments.index("8")] = "6"
    assert "seed 0 ..." in CliRunner().invoke(commands.build(), [*arguments, "--no-figures"]).output
    assert cell_path.stat().st_mtime_ns == began
    assert kept(tmp_path / "out", "cell-digits-dense-0", numbers["settings"]) is not None
    cell_path.with_suffix(".json").write_text("{")
    assert kept(tmp_path / "out", "cell-digits-dense-0", numbers["settings"]) is None


def test_an_interruption_says_what_is_kept(tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "cell", stopped)
    shown = CliRunner().invoke(commands.build(), ["attribution", "--quick", "--no-figures", "--out", str(tmp_path)])
    assert shown.exit_code == commands.INTERRUPTED
    assert "Interrupted at digits, 2CONV, seed 0" in shown.output


@pytest.mark.thorough
def test_pictures_have_a_background_beyond_the_outline():
    """Or there would be no other pixels to leave clean."""
    for of in evaluation.SETS:
        _, unseen = evaluation.pictures_of(of)
        assert unseen.images.shape[1:] == (28, 28, 1)
        kept_ = saliency.outlines(jnp.asarray(unseen.images[:100]), ink=evaluation.INK)
        clean = {name: np.asarray(one).reshape(100, -1).sum(axis=1) for name, one in kept_.items()}
        assert np.mean(clean["elsewhere"] / clean["outline"]) > 0.99
        assert int((kept_["elsewhere"] & kept_["outline"] & ~kept_["figure"]).sum()) == 0
