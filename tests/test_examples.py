"""The examples run, small, as the scripts that they are, and print what they are there to show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from compile_fast import COMPILE_FAST

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("JAXDESCRAMBLE_DATA", ROOT.parent / "shared" / "data"))
PUBLISHED = DATA / "deervet_64_512_a.npz"


def run(script, *arguments, folder):
    environment = {**os.environ, "XLA_FLAGS": COMPILE_FAST}  # one device, as users have
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / script), *map(str, arguments)]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert shown.returncode == 0, shown.stderr[-3000:]
    return shown.stdout


def numbers(pattern, text):
    match = re.search(pattern, text)
    assert match, f"{pattern!r} is not in:\n{text}"
    return [float(number) for number in match.groups()]


def test_my_flax_network(tmp_path):
    text = run("my_flax_network.py", "--steps", 60, "--out", "layers.png", folder=tmp_path)
    before, after = numbers(r"encode.*output: roughness (\S+) -> (\S+),", text)
    assert before > 5 * after
    assert (tmp_path / "layers.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_my_equinox_network(tmp_path):
    text = run("my_equinox_network.py", "--steps", 60, folder=tmp_path)
    before, after, unseen = numbers(r"layers\[1\].*roughness (\S+) -> (\S+) \(unseen signals (\S+)\)", text)
    assert before > 50 * after
    assert unseen < 10 * after


@pytest.mark.thorough
def test_deernet(tmp_path):
    text = run("deernet.py", "--steps", 100, folder=tmp_path)
    before, after = numbers(r"layer 1: roughness (\S+) -> (\S+) ", text)
    assert before > 1e5 * after
    assert numbers(r"changed by (\S+),", text)[0] < 1e-5


@pytest.mark.thorough
@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published networks are not here")
def test_published_networks_all_six_layers_in_one_call(tmp_path):
    text = run("published_deernet.py", PUBLISHED, "--samples", 1000, folder=tmp_path)
    assert numbers(r"truth: (\S+) over", text)[0] > 0.85
    assert numbers(r"(\d+) layers, both sides", text)[0] == 6
    assert len(re.findall(r"rank \d+/320", text)) == 10
    assert (tmp_path / "published.png").exists()


@pytest.mark.every_case
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_stay_short(script):
    assert len(script.read_text().splitlines()) < (60 if script.name.startswith(("my_", "why_")) else 100)


@pytest.mark.thorough
def test_many_networks(tmp_path):
    text = run("many_networks.py", "--count", 3, "--steps", 20, "--draws", 3, folder=tmp_path)
    score, chance = numbers(r"first layer: agreement (\S+), by chance (\S+), p", text)
    assert score > 0.5 > 0.2 > chance
    assert (tmp_path / "many_networks.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_jacobians(tmp_path):
    text = run("jacobians.py", "--steps", 100, "--traces", 16, folder=tmp_path)
    raw, own, other = numbers(r"all Jacobians: (\S+) raw, (\S+) in their common frame, (\S+) in the frame of", text)
    assert raw > 1000 * own
    assert own <= other < 3 * own
    share, _, untrained = numbers(r"mean Jacobian's share: (\S+); shuffled targets (\S+); untrained (\S+)", text)
    assert share < 0.9 < untrained <= 1.001
    assert numbers(r"band edge  .* untrained +(\S+) ", text)[0] > 110


@pytest.mark.thorough
def test_isotropic_null(tmp_path):
    text = run("isotropic_null.py", "--draws", 40, "--samples", 500, "--table", "null.md", folder=tmp_path)
    reading = r"\| notch, all link frequencies \| 1 \+- (\S+) \| (\S+) \+- (\S+) \| (\S+) \+- (\S+) \|"
    spread, form, form_spread, mean, mean_spread = numbers(reading, text)
    assert max(abs(form - 1), abs(mean - 1)) < 4 * spread / 40**0.5 + 0.03  # a ratio's mean is above 1 in second order
    assert 0.6 * spread < min(form_spread, mean_spread) <= max(form_spread, mean_spread) < 1.5 * spread
    assert numbers(r"off by (\S+)%", text)[0] < 2
    assert (tmp_path / "isotropic-null.png").stat().st_size > 50_000
    assert "| band edge |" in (tmp_path / "null.md").read_text()


@pytest.mark.slow
def test_how_many_samples(tmp_path):
    text = run("how_many_samples.py", "--repeats", 15, folder=tmp_path)
    measured, predicted = numbers(r"64000 samples: .* = (\S+), theory (\S+)", text)
    assert 0.7 < measured / predicted < 1.4
    assert numbers(r"holds (\d+)% of", text)[0] > 75
    assert (tmp_path / "samples.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_learn_a_prefilter(tmp_path):
    text = run("learn_a_prefilter.py", "--rounds", 30, folder=tmp_path)
    kept, left_out = numbers(r"good samples (\S+), of foreign ones (\S+)", text)
    before, after = numbers(r"frame off by (\S+) before, (\S+) after", text)
    assert kept > 1.3 * left_out
    assert after < before / 3


@pytest.mark.slow
def test_relaxometry(tmp_path):
    text = run("relaxometry.py", "--steps", 150, "--seeds", 1, "--table", "table.md", folder=tmp_path)
    for kind in ("joined", "fitted", "duplicated"):
        trained, quartic, _, random = numbers(rf"10000 {kind} +(\S+) +(\S+) +(\S+) +(\S+)", text)
        assert min(trained, quartic) > 0.6 > 0.2 > random
    assert (tmp_path / "relaxometry.png").stat().st_size > 10_000
    assert "| 900 | joined | 3 |" in (tmp_path / "table.md").read_text()


@pytest.mark.thorough
def test_bandpass(tmp_path):
    text = run("bandpass.py", "--points", 128, "--steps", 200, folder=tmp_path)
    raw, random, descrambled, untrained = numbers(r"likeness of W2 P\^T +(\S+) +(\S+) +(\S+) +(\S+)", text)
    assert descrambled > 0.9
    assert max(map(abs, (raw, random, untrained))) < 0.1
    assert (tmp_path / "bandpass.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_semantic_development(tmp_path):
    text = run("semantic_development.py", "--hidden", 64, "--out", "modes.png", folder=tmp_path)
    assert numbers(r"two layers: off by at most (\S+) of", text)[0] < 0.06
    assert numbers(r"8 of 8 modes: descrambled weights off by (\S+)", text)[0] < 0.02
    assert (tmp_path / "modes.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_convolutional_network(tmp_path):
    text = run("convolutional_network.py", "--channels", 8, "--steps", 150, folder=tmp_path)
    before, after, bound = numbers(r"along the channels (\S+) -> (\S+), bound (\S+)", text)
    assert bound <= after < 0.95 * before
    assert numbers(r"changed by (\S+):", text)[0] < 1e-4
    assert (tmp_path / "channels.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_why_a_three(tmp_path):
    text = run("why_a_three.py", 100, folder=tmp_path)
    scored, mapped = numbers(r"3 scores (\S+) more than \d; its map gives (\S+)", text)
    assert scored > 1
    assert abs(scored - mapped) < 2e-3  # no biases: the map is all
    assert (tmp_path / "why-a-three.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_gating_network(tmp_path):
    text = run("gating_network.py", "--steps", 300, folder=tmp_path)
    assert numbers(r"accuracy (\S+); hard gates change", text)[0] > 0.85
    before, after = numbers(r"\ntrained: roughness (\S+) -> (\S+),", text)
    (limit,) = numbers(r"autocorrelation alone: (\S+)", text)
    assert before > 20 * after
    assert abs(limit - after) < 0.01 * after  # no ReLU in between: the weights are enough
    assert (tmp_path / "gating-network.png").stat().st_size > 50_000


@pytest.mark.thorough
def test_film_of_training(tmp_path):
    text = run("film_of_training.py", "--steps", 150, "--every", 50, "--folder", "frames", folder=tmp_path)
    frames, skipped = numbers(r"(\d+) frames, (\d+) skipped", text)
    assert frames + skipped == 4
    assert len(list((tmp_path / "frames").glob("frame-*.npz"))) == frames
    (jump,) = numbers(r"encode.*output: .*, jumps (\S+)", text)
    assert jump < 1.3  # a frame that fell anywhere: 2 ** 0.5; skipped ones lie further apart
    assert (tmp_path / "film.png").stat().st_size > 30_000


@pytest.mark.thorough
def test_what_keeps_the_state(tmp_path):
    text = run("what_keeps_the_state.py", "--steps", 200, folder=tmp_path)
    assert numbers(r"accuracy (\S+) on", text)[0] > 0.9
    assert len(re.findall(r"^ +\S+ +0\.\d+ +\d\.\d+", text, re.MULTILINE)) == 13
    for name in ("Insens", "gradient", "input x gradient", "input x first layer"):
        (mean,) = numbers(rf"\n +{name}  (\S+)   \(", text)
        assert 0 < mean < 1


@pytest.mark.thorough
def test_quadrature_signals(tmp_path):
    text = run("quadrature_signals.py", "--n", 6, "--times", 128, folder=tmp_path)
    frames = ("mixed", "unitary", "real, parts as samples", "real, parts as features")
    mixed, unitary, samples, features = (numbers(rf"{name}: \d+ rows, .* has (\S+) of", text)[0] for name in frames)
    assert unitary > 0.85
    assert unitary > max(mixed, samples) + 0.2
    assert unitary > features - 0.02
    assert (tmp_path / "quadrature-signals.png").stat().st_size > 30_000


@pytest.mark.thorough
def test_merge_two_networks(tmp_path):
    text = run("merge_two_networks.py", 64, 300, folder=tmp_path)
    own, matched = numbers(r"\nb: accuracy (\S+)\nb, matched: accuracy (\S+)\n", text)
    assert own == matched > 0.85
    average, better = numbers(r"\naverage: accuracy (\S+)\naverage, matched: accuracy (\S+)\n", text)
    assert better > average + 0.02
    before, after, lowest, _ = numbers(r"barrier (\S+) before, (\S+) after; null (\S+) to (\S+)", text)
    assert after < 0.7 * min(before, lowest)


@pytest.mark.thorough
def test_rotate_a_small_llama(tmp_path):
    text = run("rotate_a_small_llama.py", 60, 32, folder=tmp_path)
    assert "multiplied into ['head']" in text
    assert re.search(r"\['embed'\] +32 +O\(32\) ", text)
    names = ("as trained", "Hadamard", "principal components", "both")
    found = {
        name: numbers(rf"\n{name}: kurtosis (\S+), int4 error (\S+), outputs changed by (\S+)", text) for name in names
    }
    assert max(change for _, _, change in found.values()) < 1e-5
    assert found["principal components"][0] > 3 * max(found[name][0] for name in names if name[0] != "p")
    assert found["both"][1] < 0.7 * min(found[name][1] for name in names[:3])


@pytest.mark.thorough
def test_a_readable_mlp(tmp_path):
    text = run("a_readable_mlp.py", 24, 300, folder=tmp_path)
    before, after = numbers(r"along the neurons (\S+) -> (\S+)\n", text)
    assert after < 0.8 * before
    assert numbers(r"changed by (\S+)\n", text)[0] < 1e-5
    assert (tmp_path / "readable-mlp.png").stat().st_size > 10_000


@pytest.mark.thorough
def test_equalise_a_relu_network(tmp_path):
    text = run("equalise_a_relu_network.py", 48, 100, folder=tmp_path)
    assert numbers(r"outputs changed by (\S+)\n", text)[0] < 1e-5
    before, after = (
        numbers(rf"\n{name}: int8 weight errors (\S+) (\S+) (\S+), output", text)
        for name in ("as trained", "equalised")
    )
    assert sum(after) < 0.95 * sum(before)
