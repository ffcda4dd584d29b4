"""Explanations: the joint judgement, the split, the readings by hand, and whole reports of networks of every source."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.findings import joint_p_values, time_blocks
from jaxdescramble.findings.explanations import _running, sentences, splitting
from jaxdescramble.findings.explanations.axes import ordered_axis
from jaxdescramble.findings.explanations.readings import READINGS

COMMAND = str(Path(sys.executable).parent / "jaxdescramble")


def f(params, x):
    return jnp.tanh(x @ params["first"]) @ params["last"]


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(0)
    params = {
        "first": jnp.asarray(rng.standard_normal((16, 12)), "float32"),
        "last": jnp.asarray(rng.standard_normal((12, 8)), "float32"),
    }
    x = jnp.asarray(np.cumsum(rng.standard_normal((60, 16)), axis=1), "float32")
    return params, x


@pytest.fixture(scope="module")
def empty(network):
    return jd.explain(f, *network, draws=19)


def planted(seed=0, strength=3.0):
    """Return slow filters in noise, rotated at random, and white input signals."""
    rng = np.random.default_rng(seed)
    waves = np.cos(np.outer(np.arange(1, 4), np.pi * (np.arange(16) + 0.5) / 16))
    turned = np.linalg.qr(rng.standard_normal((12, 12)))[0][:, :3] @ waves
    weight = rng.standard_normal((12, 16)) / 8 + strength * turned / np.linalg.norm(turned)
    return weight.astype("float32"), rng.standard_normal((16, 60)).astype("float32")


# --- the judgement ---------------------------------------------------------------------------------------------------


def by_hand(observed, draws, directions):
    """Step-down maximum, written as in the book, reading by reading."""
    pool = np.concatenate([observed[None], draws])
    scores = (pool - pool.mean(0)) / pool.std(0)
    scores = np.where(directions == 0, np.abs(scores), scores * directions)
    order = np.argsort(-scores[0], kind="stable")
    p, largest = np.empty(len(observed)), 0.0
    for rank, k in enumerate(order):
        rest = order[rank:]
        own = (1 + sum(max(row[rest]) >= scores[0, k] for row in scores[1:])) / len(pool)
        largest = max(largest, own)
        p[k] = largest
    return p


@pytest.mark.parametrize("seed", range(6))
def test_step_down_is_that_of_the_book(seed):
    rng = np.random.default_rng(seed)
    draws, directions = rng.standard_normal((29, 7)), rng.integers(-1, 2, 7)
    observed = rng.standard_normal(7) * 2
    p, judged = joint_p_values(observed, draws, directions)
    assert judged.all()
    np.testing.assert_allclose(p, by_hand(observed, draws, directions))


def test_the_smallest_p_value_of_empty_networks_is_uniform_or_larger():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((9, 9))
    smallest = []
    for _ in range(400):
        pool = rng.standard_normal((20, 9)) @ mixing  # readings that depend on each other
        smallest.append(joint_p_values(pool[0], pool[1:], np.ones(9, int))[0].min())
    # 20 of 400 are expected at .05; 35 is beyond a probability of 1e-3.
    assert 6 <= np.sum(np.asarray(smallest) <= 0.05) <= 35


def test_readings_that_a_null_cannot_change_or_that_are_not_finite_are_not_judged():
    draws = np.random.default_rng(0).standard_normal((19, 3))
    draws[:, 1], draws[3, 2] = 2.0, np.nan
    p, judged = joint_p_values(np.asarray([9.0, 2.0, 1.0]), draws, np.ones(3, int))
    assert judged.tolist() == [True, False, False]
    assert p[0] == 0.05
    assert np.isnan(p[1:]).all()


# --- the split -------------------------------------------------------------------------------------------------------


def test_groups_and_duplicates_stay_together_and_halves_are_balanced():
    rows = np.random.default_rng(0).standard_normal((40, 3))
    rows[7] = rows[30]
    groups = np.arange(40) // 4
    together = splitting.with_duplicates(rows, groups)
    side = splitting.halves(together, np.ones(40), [1])
    assert side[7] == side[30]
    assert all(len(set(side[groups == g])) == 1 for g in range(10))
    assert abs(np.sum(side == 0) - np.sum(side == 1)) <= 8
    assert set(side) == {0, 1}
    assert (splitting.halves(together, np.ones(40), [1]) == side).all()


def test_time_series_are_cut_into_blocks_with_gaps():
    groups = time_blocks(100, blocks=5, gap=3)
    assert [int(np.sum(groups == k)) for k in range(-1, 5)] == [15, 17, 17, 17, 17, 17]
    assert (np.diff(groups[groups >= 0]) >= 0).all()
    with pytest.raises(ValueError, match="do not fill"):
        time_blocks(10, blocks=5, gap=3)


# --- the readings, recomputed with NumPy -----------------------------------------------------------------------------


def edge(energies, frequencies):
    """Return the frequency below which 95% of the energy lies; between two modes, in proportion."""
    return float(np.interp(0.95, np.cumsum(energies) / energies.sum(), frequencies))


def test_the_readings_of_a_first_layer_by_hand(network, empty):
    """Split, closed form, readings: everything once more in float64, without a line of the package."""
    params, x = network
    W, X = np.asarray(params["first"], np.float64).T, np.asarray(x, np.float64).T
    seed = [int(one) for one in np.asarray(jax.random.key_data(jax.random.key(0))).ravel()]
    side, total = np.zeros(60, int), [0, 0]
    for name in np.random.default_rng(seed).permutation(60):
        side[name] = int(total[1] < total[0])
        total[side[name]] += 1
    halves = [X[:, side == k] for k in (0, 1)]
    grams = [one @ one.T / one.shape[1] for one in halves]
    frames = []
    for gram in grams:
        energies, directions = np.linalg.eigh(W @ gram @ W.T)
        frames.append((directions[:, ::-1], energies[::-1]))
    waves = 2 * np.pi * ((np.arange(12) + 1) // 2) / 12  # 0, 1, 1, 2, 2, ...
    rough = waves**4 / waves[-1] ** 4
    runs = (np.arange(12) + 1) // 2
    modes = np.pi * np.arange(16) / 16
    cosines = np.sqrt(2 / 16) * np.cos(np.outer(modes, np.arange(16) + 0.5))
    cosines[0] /= np.sqrt(2)
    wanted = {}
    for fit, other in ((0, 1), (1, 0)):
        U, energies = frames[fit]
        V, _ = frames[other]
        held = np.einsum("ni,nm,mi->i", U, W @ grams[other] @ W.T, U)
        rows = V.T @ W
        energy = (rows @ cosines.T) ** 2
        overlap = (U.T @ V) ** 2 * (runs[:, None] == runs[None, :])
        singular = np.linalg.svd(W, compute_uv=False)
        profiles = np.stack([np.sum(rows[runs == k] ** 2, axis=0) for k in range(7)])
        share = profiles / profiles.sum(axis=1, keepdims=True)
        place = np.arange(16)
        variance = share @ place**2 - (share @ place) ** 2
        columns = energy.sum(axis=0)
        values = {
            "roughness of signals": rough @ held / held.sum(),
            "agreement of halves": energies @ overlap.sum(axis=1) / energies.sum(),
            "roughness along outputs": rough @ energy.sum(axis=1) / energy.sum(),
            "roughness along inputs": (modes**2 / modes[-1] ** 2) @ columns / columns.sum(),
            "band edge of inputs": edge(columns, modes / modes[-1]),
            "entropy along inputs": -np.sum(columns / columns.sum() * np.log(columns / columns.sum())) / np.log(16),
            "effective rank of weights": np.sum(singular**2) ** 2 / np.sum(singular**4),
            "largest singular value": singular[0]
            / (np.sqrt(np.sum(singular**2) / (12 * 16)) * (np.sqrt(12) + np.sqrt(16))),
            "effective rank of signals": np.sum(frames[other][1]) ** 2 / np.sum(frames[other][1] ** 2),
            "sparsity of waves": np.sum(profiles.sum(1) * profiles.sum(1) ** 2 / np.sum(profiles**2, axis=1))
            / profiles.sum()
            / 16,
            "locality of waves": profiles.sum(1) @ variance / profiles.sum() / place.var(),
        }
        for name, value in values.items():
            wanted[name] = wanted.get(name, 0.0) + value / 2
    found = {one.reading: one.value for one in empty.layers["['first']"].verdicts}
    assert len(wanted) == 11
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=2e-3), name


def test_nothing_moves_with_the_order_or_the_rotation_of_the_neurons(network):
    """No frame of the hidden layer is preferred: turned weights give the same readings."""
    weight, signals = planted()
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((12, 12)))[0].astype("float32")
    both = [
        jd.explain({"a": jd.findings.LayerSignals(one, signals, ordered_output=False)}, draws=3)
        for one in (weight, turn @ weight)
    ]
    for one, other in zip(both[0].layers["a"].verdicts, both[1].layers["a"].verdicts, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-5), one.reading


def test_channels_are_not_told_apart():
    weight, signals = planted()
    order = np.random.default_rng(0).permutation(4)
    moved = [np.concatenate(np.split(one, 4, axis=axis)).reshape(one.shape) for axis, one in ((0, signals),)]
    swapped = weight.reshape(12, 4, 4)[:, order].reshape(12, 16), signals.reshape(4, 4, -1)[order].reshape(16, -1)
    values = []
    for W, X in ((weight, moved[0]), swapped):
        layer = jd.findings.LayerSignals(W, X, channels=4, ordered_output=False)
        values.append([one.value for one in jd.explain({"a": layer}, draws=1).layers["a"].verdicts])
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3, atol=1e-5)


def test_grids_have_an_order_along_both_sides():
    axis = ordered_axis(12, (3, 4))
    assert axis.size == 12
    assert axis.runs[-1] == 11 or axis.runs[-1] < 12
    with pytest.raises(ValueError, match="entries for an axis of"):
        ordered_axis(12, (5, 4))


# --- whole explanations ----------------------------------------------------------------------------------------------


def test_an_empty_network_has_no_finding_and_a_planted_one_has(empty):
    assert not empty.findings
    assert empty.headline.startswith("None of")
    weight, signals = planted()
    found = jd.explain({"a": jd.findings.LayerSignals(weight, signals, ordered_output=False)}, draws=39)
    assert {"band edge of inputs", "roughness along inputs"} & {one.reading for one in found.findings}
    assert "findings" in found.headline or "a finding" in found.headline
    # the spectrum of W is the same in every random frame: this null is left out there, and only there
    rank = next(one for one in found.verdicts if one.reading == "effective rank of weights")
    assert np.isnan(rank.p_values["random frame"])
    assert rank.p_value == rank.p_values["permuted entries"]


def test_a_report_survives_its_folder(empty, tmp_path):
    empty.save(tmp_path / "r")
    again = jd.Report.load(tmp_path / "r")
    assert again.headline == empty.headline
    for one, other in zip(again.verdicts, empty.verdicts, strict=True):
        np.testing.assert_equal(dataclasses.asdict(one), dataclasses.asdict(other))
    np.testing.assert_array_equal(again.layers["['last']"].after, empty.layers["['last']"].after)
    about = json.loads((tmp_path / "r" / "report.json").read_text())
    assert about["headline"] == empty.headline
    page = (tmp_path / "r" / "index.html").read_text()
    assert empty.headline in page
    assert page.count("<h2>") == 2
    assert "<svg" in empty._repr_html_()
    assert "p = " in empty.layers["['first']"].plot().html
    assert len(repr(empty)) < 300
    (tmp_path / "r" / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="no whole report"):
        jd.Report.load(tmp_path / "r")


def test_init_replaces_the_network_signals_included(network):
    params, x = network

    def init(key):
        one, other = jax.random.split(key)
        return {"first": jax.random.normal(one, (16, 12)), "last": jax.random.normal(other, (12, 8))}

    found = jd.explain(f, params, x, init=init, draws=5)
    assert found.nulls == ("random frame", "untrained")
    drawn = found.layers["['last']"].draws["untrained"]
    place = [one.reading for one in found.layers["['last']"].verdicts].index("roughness of input signals")
    assert drawn[:, place].std() > 0  # other networks have other signals
    assert found.layers["['last']"].draws["random frame"][:, place].std() < 1e-6
    with pytest.raises(ValueError, match="Structure and shapes must be the same"):
        jd.explain(f, params, x, init=lambda key: {"first": init(key)["first"]}, draws=5)


def test_other_networks_are_a_description(network):
    params, x = network
    found = jd.explain(f, params, x, others=[params, jax.tree.map(lambda w: 2 * w, params)], draws=1)
    first, _ = found.descriptions.values()
    assert set(first.values()) <= {0.0, 0.5, 1.0}
    assert "other networks" in found.page()


def test_padding_and_groups_of_tokens():
    rng = np.random.default_rng(0)
    params = {"first": jnp.asarray(rng.standard_normal((16, 12)), "float32")}
    x = jnp.asarray(rng.standard_normal((20, 5, 16)), "float32")
    weights = np.ones((20, 5))
    weights[:, 3:] = 0

    def g(params, x):
        return jnp.tanh(x @ params["first"]).sum(axis=1)

    spoiled = x.at[:, 4].set(jnp.nan)
    one = jd.explain(g, params, x, weights=weights, draws=1)
    other = jd.explain(g, params, spoiled, weights=weights, draws=1)
    assert sum(one.layers["['first']"].columns) == 60
    for a, b in zip(one.layers["['first']"].verdicts, other.layers["['first']"].verdicts, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-5)


def test_draws_are_kept_and_continued(network, tmp_path, monkeypatch):
    params, x = network
    whole = jd.explain(f, params, x, draws=25)
    monkeypatch.setattr(_running, "SOON", 0)  # as for a large network, whose first block is one draw
    made = []

    def stop(stage, done, total):
        made.append(stage)
        if len(made) > 9:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        jd.explain(f, params, x, draws=25, folder=tmp_path, progress=stop)
    kept = sorted(tmp_path.iterdir())
    assert kept
    calls = []
    real = _running.read_draws
    monkeypatch.setattr(_running, "read_draws", lambda *args: calls.append(1) or real(*args))
    again = jd.explain(f, params, x, draws=25, folder=tmp_path)
    assert len(calls) == 2 * (8 - len(kept))  # blocks of 1, 9, 10 and 5 draws from two nulls; two layers
    for one, other in zip(again.verdicts, whole.verdicts, strict=True):
        np.testing.assert_equal(one.p_values, other.p_values)


@pytest.mark.thorough
def test_time_ends_the_draws_and_the_report_says_so(network):
    seen = []

    def note(stage, done, total):
        seen.append((stage, done, total))

    with pytest.raises(TimeoutError, match="not enough for the first draws"):
        jd.explain(f, *network, draws=9999, max_seconds=1e-3)
    found = jd.explain(f, *network, draws=500_000, max_seconds=3.0, progress=note)
    assert 0 < found.draws < 500_000
    assert "stopped by max_seconds" in found.stopped
    assert found.stopped in found.page()
    assert all(done <= total for _, done, total in seen)
    with pytest.raises(ValueError, match="stopped by max_seconds"):
        found.check()


def test_ctrl_c_keeps_the_draws_so_far(network):
    count = []

    def press(stage, done, total):
        count.append(done)
        if done > 48:  # four for each draw: two nulls, two layers
            raise KeyboardInterrupt

    with pytest.raises(jd.Interrupted) as stopped:
        jd.explain(f, *network, draws=500, progress=press)
    assert stopped.value.result.draws >= 10
    assert "interrupted" in stopped.value.result.stopped


# --- layers without a function ---------------------------------------------------------------------------------------


def test_arrays_files_and_functions_agree(network, empty, tmp_path):
    params, x = network
    hidden = jnp.tanh(x @ params["first"])
    arrays = {
        "first.weight": np.asarray(params["first"]).T,
        "first.input": np.asarray(x).T,
        "last.weight": np.asarray(params["last"]).T,
        "last.input": np.asarray(hidden).T,
        "last.preactivation": np.asarray(hidden @ params["last"] + 3.0).T,
    }
    np.savez(tmp_path / "layers.npz", **arrays)
    found = jd.explain(tmp_path / "layers.npz", draws=19)
    for name, own in (("first", "['first']"), ("last", "['last']")):
        values = [[one.value for one in report.layers[at].verdicts] for report, at in ((found, name), (empty, own))]
        np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5)
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "layers.safetensors")
    again = jd.explain(tmp_path / "layers.safetensors", draws=19)
    assert again.headline == found.headline
    wrong = dict(arrays) | {"last.preactivation": arrays["last.preactivation"][::-1].copy()}
    np.savez(tmp_path / "wrong.npz", **wrong)
    with pytest.raises(ValueError, match="not weight @ input plus a constant"):
        jd.explain(tmp_path / "wrong.npz", draws=1)


def test_layers_are_chosen_by_name(network):
    params, x = network
    assert list(jd.explain(f, params, x, layers="last", draws=1).layers) == ["['last']"]
    assert list(jd.explain(f, params, x, layers=lambda name: "f" in name, draws=1).layers) == ["['first']"]
    with pytest.raises(ValueError, match="matches no layer"):
        jd.explain(f, params, x, layers="middle", draws=1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, x: (f, p, x[:1]), "at least one"),
        (lambda p, x: (f, p, jnp.broadcast_to(x[:1], x.shape)), "equal samples are kept together"),
        (lambda p, x: (f, p, x.at[5, 3].set(jnp.nan)), "NaN or infinite in 1 sample"),
        (lambda p, x: ({},), "empty mapping"),
        (lambda p, x: ({"a": (p["first"].T, x)},), "look transposed"),
        (lambda p, x: ({"a": {"weight": p["first"]}},), "has no input"),
        (lambda p, x: ("model.pth",), "safetensors"),
        (lambda p, x: (f,), "needs its parameters"),
    ],
)
@pytest.mark.every_case
def test_bad_input_says_what_was_seen_and_what_to_do(network, as_installed, spoil, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jd.explain(*spoil(*network), draws=1)


def test_bad_options(network, as_installed, tmp_path):
    params, x = network
    for options, message in (
        ({"draws": 0}, "draws"),
        ({"alpha": 2}, "alpha"),
        ({"nulls": "random frame"}, "list of names"),
        ({"nulls": ["noise"]}, "nulls"),
        ({"nulls": []}, "without a null"),
        ({"groups": [1, 2]}, "groups"),
        ({"groups": np.zeros(60, int)}, "1 group"),
        ({"weights": -np.ones(60)}, "negative"),
        ({"objective": jd.objectives.sparsity()}, "no closed form"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jd.explain(f, params, x, **options)
    np.savez(tmp_path / "weights.npz", **{"first.weight": np.ones((3, 4))})
    with pytest.raises(ValueError, match="no input signals"):
        jd.explain(tmp_path / "weights.npz")
    with pytest.raises(FileNotFoundError):
        jd.explain(tmp_path / "missing.npz")


def test_a_layer_that_cannot_be_judged_is_named_and_the_others_are_judged(network):
    params, x = network
    spoiled = {**params, "first": params["first"].at[0, 0].set(jnp.inf)}
    found = jd.explain(f, spoiled, x, draws=3)
    assert list(found.layers) == ["['last']"]
    assert "1 numbers that are NaN or infinite" in found.skipped["['first']"]
    assert "Not judged" in found.page()
    with pytest.raises(ValueError, match="NaN or infinite"):
        found.check()


@pytest.mark.thorough
def test_constant_layers_and_one_neuron_are_answered():
    rng = np.random.default_rng(0)
    signals = rng.standard_normal((6, 40)).astype("float32")
    found = jd.explain(
        {
            "constant": (np.ones((5, 6), "float32"), signals),
            "zero": (np.zeros((5, 6), "float32"), signals),
            "one": (rng.standard_normal((1, 6)).astype("float32"), signals),
        },
        draws=19,
    )
    assert list(found.layers) == ["constant", "zero", "one"]
    assert all(np.isnan(one.p_value) for one in found.layers["zero"].verdicts)
    found.page()


@pytest.mark.thorough
def test_the_command_line_explains_a_file_and_a_function(network, tmp_path):
    _, x = network
    (tmp_path / "model.py").write_text(
        "import numpy as np, jax.numpy as jnp\n"
        "def build():\n"
        "    rng = np.random.default_rng(0)\n"
        "    params = {'w': jnp.asarray(rng.standard_normal((16, 12)), 'float32'), 'v': jnp.ones((12, 3))}\n"
        "    return (lambda params, x: jnp.tanh(x @ params['w']) @ params['v']), params\n"
    )
    np.savez(tmp_path / "x.npz", x=np.asarray(x), names=[f"the sample {k}" for k in range(len(x))])
    command = [COMMAND, "explain", "model.py:build", "--data", "x.npz", "--draws", "3"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "3 draws cannot show a finding" in ran.stdout
    assert "<strong>largest:</strong> the sample" in (tmp_path / "jaxdescramble-explain" / "index.html").read_text()


def test_every_reading_has_a_note_and_a_direction():
    assert len({one.name for one in READINGS}) == len(READINGS)
    for one in READINGS:
        assert one.direction in (-1, 0, 1)
        assert one.note
    assert sentences.headline_of((), 0, 2, {"random frame": 199}, 0.05) == "No reading of 2 layers could be judged."
