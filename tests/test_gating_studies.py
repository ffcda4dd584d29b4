"""The studies of gated networks: variants side by side, gates frozen at stages, waves, and verdicts by fixed rules."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from typer.testing import CliRunner

from jaxdescramble import gated
from jaxdescramble.datasets.pictures import Pictures
from jaxdescramble.gated import path_kernel
from jaxdescramble.show import commands
from jaxdescramble.studies.deernet.claims import FAILS, IN_PART, STANDS
from jaxdescramble.studies.gating import claims, comparison, training
from jaxdescramble.studies.gating.spectrum import kinks, spectrum
from jaxdescramble.studies.gating.stages import learning_in_gates
from jaxdescramble.studies.gating.training import GatingPlan, Replicas

PLAN = GatingPlan(widths=(8, 8, 8), channels=(3, 3), blocks=1, steps=12, batch=8, chunks=3)


def parts(count=40):
    """Bright on the left or not; of the pictures to choose by half are misnamed."""
    rng = np.random.default_rng(0)

    def drawn(misnamed):
        labels = np.arange(count) % 2
        images = rng.uniform(size=(count, 4, 4, 1))
        images[:, :, :2] += 0.5 * labels[:, None, None, None]
        labels = np.where((np.arange(count) // 2) % 2 < misnamed, 1 - labels, labels)
        return Pictures(jnp.asarray(images, jnp.float32), jnp.asarray(labels))

    return drawn(0), drawn(1), drawn(0)


@pytest.mark.parametrize("kind", ["dgn", "dlgn", "dlgn-sf"])
def test_replicas_are_the_networks_that_specs_describe(key, kind):
    spec = PLAN.spec("dense", kind, (4, 4, 1), 2)
    group = training.replicas(key, spec, 3)
    x = jax.random.uniform(key, (5, 16), jnp.float32)
    assert training.variants(spec) == [("x", "in order"), ("x", "permuted"), ("ones", "in order"), ("ones", "permuted")]
    assert np.asarray(group.ones).tolist() == [0.0] * 6 + [1.0] * 6
    orders = np.asarray(group.order).reshape(4, 3, 3)
    assert (orders[[0, 2]] == [0, 1, 2]).all()
    assert all(sorted(one) == [0, 1, 2] != one.tolist() for one in orders[[1, 3]].reshape(-1, 3))
    for k in (0, 4, 8, 11):
        one: Replicas = jax.tree.map(lambda leaf, k=k: leaf[k], group)
        said = dataclasses.replace(
            spec, value_input="ones" if float(one.ones) else "x", order=tuple(int(i) for i in one.order)
        )
        ours = training.answer(one.params, x, spec, one.ones, one.order)
        np.testing.assert_allclose(ours, gated.apply(one.params, x, said), rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_side_by_side_is_one_by_one(key):
    specs = {("dense", kind): PLAN.spec("dense", kind, (4, 4, 1), 2) for kind in ("dnn", "dlgn")}
    groups = {name: training.replicas(key, spec, 2) for name, spec in specs.items()}
    together = training.train(specs, groups, parts(), PLAN)
    name = ("dense", "dlgn")
    alone_group = jax.tree.map(lambda leaf: leaf[5:6], groups[name])
    alone = training.train({name: specs[name]}, {name: alone_group}, parts(), PLAN)[name]
    same = jax.tree.map(lambda leaf: leaf[5:6], together[name].params)
    for one, other in zip(jax.tree.leaves(alone.params), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)
    assert together[name].test.shape == (8, 3)
    # And learn they do: chance is one half.
    longer = dataclasses.replace(PLAN, steps=600)
    course = training.train(specs, groups, parts(), longer)["dense", "dnn"]
    assert float(course.test[:, -1].min()) > 0.85
    assert float(jnp.abs(course.validation[:, -1] - 0.5).max()) < 0.15  # not the pictures that are reported


def test_what_is_frozen_stays_and_the_step_is_chosen_by_validation(key):
    spec = dataclasses.replace(PLAN.spec("dense", "dgn", (4, 4, 1), 2), gate=gated.Hard())
    group = training.replicas(key, spec, 1)
    course = training.train({("", ""): spec}, {("", ""): group}, parts(), PLAN, learned=("values",))["", ""]
    for before, after in zip(group.params["features"], course.params["features"], strict=True):
        np.testing.assert_array_equal(before["weight"], after["weight"])
    assert float(jnp.abs(group.params["values"][0]["weight"] - course.params["values"][0]["weight"]).max()) > 1e-4
    told = training.Course(jnp.asarray([[0.1, 0.9, 0.9]]), jnp.asarray([[0.5, 0.2, 0.7]]), None)
    assert told.chosen.tolist() == pytest.approx([0.2])


def test_snapshots_are_stages_of_one_training(key):
    spec = PLAN.spec("dense", "dnn", (4, 4, 1), 2)
    group = training.replicas(key, spec, 2)
    early, late = training.snapshots(spec, group, parts()[0], PLAN, (0, 12))
    np.testing.assert_array_equal(early["values"][0]["weight"], group.params["values"][0]["weight"])
    whole = training.train({("", ""): spec}, {("", ""): group}, parts(), PLAN)["", ""].params
    np.testing.assert_allclose(late["values"][1]["weight"], whole["values"][1]["weight"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "conv", "skip"])
def test_stages_of_gates(key, name):
    seen = parts()
    found = learning_in_gates(key, name, seen, PLAN, 1)
    assert found.steps == (0, 0, 1, 4, 12)
    assert all(one.shape == (5, 1) for one in found[1:6])
    np.testing.assert_allclose(found.kernel[0], found.kernel[1])  # the same gates
    assert found.kernel.min() > 0.6  # on unseen pictures
    # The kernel is that of the gates of the first stage, by hand.
    if name == "dense":
        relu = PLAN.spec("dense", "dnn", (4, 4, 1), 2)
        start = training.replicas(jax.random.split(key, 3)[0], relu, 1).params
        x = seen[0].images.reshape(-1, 16)
        h, K = x, x @ x.T
        for layer in jax.tree.map(lambda leaf: leaf[0], start)["values"][:-1]:
            q = h @ layer["weight"].T
            K, h = K * ((q > 0).astype(jnp.float32) @ (q > 0).astype(jnp.float32).T), jnp.maximum(q, 0)
        np.testing.assert_allclose(found.alignment[0], path_kernel.alignment(K, seen[0].labels), rtol=1e-4)


@pytest.mark.thorough
def test_slow_waves_are_learned_and_fast_ones_are_not():
    found = spectrum(jax.random.key(0), (1, 24), (16,), seeds=2, layers=2, steps=400, kinds=("dnn", "dlgn"))
    assert found.kinks.shape == found.hardened["dlgn"].shape == (1, 2, 2)
    assert 0 < found.kinks.min() <= found.kinks.max() <= 32
    assert (found.hardened["dlgn"] > found.errors["dlgn"])[0, 0].all()  # waves of soft gates have corners then
    for kind in ("dnn", "dlgn"):
        slow, fast = found.errors[kind][0].mean(axis=1)
        assert slow < 0.1 < 0.7 < fast
    spec = gated.Spec(gated.FullyConnected(1, (5, 7), 1, biases=True))
    params = gated.init(jax.random.key(1), spec, bias_scale=0.3)
    line = jnp.linspace(-1, 1, 20001)[:, None]
    turns = sum(int((jnp.diff(g, axis=0) != 0).sum()) for g in gated.gates(params, line, spec))
    assert int(kinks(params, spec)) == turns > 0


def test_verdicts_follow_the_numbers():
    def found(dlgn, conv, learned, kernel, cheap):
        rows = {"dnn": {"x, in order": [0.88]}} | {
            kind: {"x, in order": [dlgn], "x, permuted": [cheap], "ones, in order": [dlgn], "ones, permuted": [dlgn]}
            for kind in ("dgn", "dlgn", "dlgn-sf")
        }
        accuracy = {"dense": rows, "skip": rows, "conv": rows}
        shifted = {**accuracy, "conv": {kind: {v: [conv] for v in one} for kind, one in rows.items()}}
        stage = {"steps": [0, 9], "network": [[0.1], [0.9]], "values": [[0.5], [learned]], "dependent": [0.5],
                 "kernel": [[0.5], [kernel]], "alignment": [[0.1], [0.2]], "complexity": [[2.0], [1.0]],
                 "decoupled": [0.8]}  # fmt: skip
        rest = {"hardening": {}, "seconds": 1.0, "networks": 4}
        return {
            "settings": {"seeds": 1, "plan": {"steps": 9, "batch": 4}, "spectrum_steps": 9},
            "comparison": {"digits": {"accuracy": accuracy, **rest}, "shifted": {"accuracy": shifted, **rest}},
            "stages": {"digits": {"dense": stage}},
            "spectrum": {
                "frequencies": [1, 2],
                "widths": [8],
                "kinks": [[[5], [7]]],
                "errors": {"dlgn": [[[0.01], [0.8]]], "dnn": [[[0.01], [0.7]]]},
                "hardened": {"dlgn": [[[0.3], [0.4]]]},
            },
        }

    good = found(0.85, 0.99, 0.8, 0.8, 0.84)
    assert [one.verdict for one in claims.judge(good)] == [STANDS] * 6
    bad = found(0.6, 0.5, 0.6, 0.5, 0.2)
    verdicts = [one.verdict for one in claims.judge(bad)]
    assert verdicts == [
        FAILS,
        FAILS,
        FAILS,
        IN_PART,
        IN_PART,
        STANDS,
    ]  # all variants of convolutions on shifts are as bad
    page = claims.markdown(good, "here")
    assert "| dense | dlgn | 0.850 | 0.840 | 0.850 | 0.850 | 0.966 |" in page
    assert "| dlgn | 8 | 0.01 | 0.8 | 6 |" in page
    assert "| dlgn, hard gates | 8 | 0.3 | 0.4 | 6 |" in page
    assert "| digits | dense | 9 | 0.900 | 0.800 | 0.800 | 0.200 | 1.000 |" in page


@pytest.mark.slow
def test_a_small_run_is_kept_and_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "QUICK", PLAN)
    monkeypatch.setattr(comparison, "ARCHITECTURES", ("dense",))
    monkeypatch.setattr(comparison, "pictures_of", lambda of, folder: parts())
    monkeypatch.setattr(claims, "ARCHITECTURES", ("dense",))
    monkeypatch.setattr("jaxdescramble.show.papers.gating.ARCHITECTURES", ("dense",))
    out = tmp_path / "out"
    arguments = ["gates", "--quick", "--pictures", "digits", "--out", str(out)]
    shown = CliRunner().invoke(commands.build(), arguments)
    assert shown.exit_code == 0, shown.output
    assert "comparison, digits ..." in shown.output
    assert {"gates.md", "gates.json", "comparison.png", "spectrum.pdf"} <= {path.name for path in out.iterdir()}
    (compared,), (waves,), (_,) = (list(out.glob(f"{part}-*.json"))
                                   for part in ("comparison-digits", "spectrum", "stages-digits-dense"))  # fmt: skip
    found = json.loads((out / "gates.json").read_text())
    assert found["comparison"]["digits"]["networks"] == 2 * (1 + 3 * 4)
    before = compared.stat().st_mtime_ns
    waves.unlink()
    assert CliRunner().invoke(commands.build(), [*arguments, "--no-figures"]).exit_code == 0
    assert compared.stat().st_mtime_ns == before
    assert waves.exists()


def test_bad_input_is_named(tmp_path):
    for arguments, words in (
        (["--pictures", "faces"], "'faces'"),
        (["--pictures", "mnist"], "must be the folder with the files of mnist"),
        (["--pictures", "cifar10", "--folder", str(tmp_path), "--out", str(tmp_path / "out")], "cifar-10-batches-py"),
    ):
        shown = CliRunner().invoke(commands.build(), ["gates", "--quick", "--no-figures", *arguments])
        assert shown.exit_code == commands.REFUSED
        assert words in shown.output
