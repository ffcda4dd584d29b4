"""The voice network: recordings and refusals, noise at the asked ratio, spectra and masks by hand, a small training."""

import dataclasses
import wave

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.findings.explanations.axes import free_axis, ordered_axis
from jaxdescramble.findings.explanations.looks import Look
from jaxdescramble.operators import derivative
from jaxdescramble.studies.voice import cleaning, noises, questions, recordings, spectra, synthetic
from jaxdescramble.studies.voice import network as voice
from jaxdescramble.studies.voice.cleaning import METHODS, Mixture
from jaxdescramble.studies.voice.network import VoicePlan
from jaxdescramble.studies.voice.readings import OWN, near_diagonal
from jaxdescramble.studies.voice.recordings import Recording

RNG = np.random.default_rng(0)


def write(path, sound, rate, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.round(sound * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes())


# Recordings


def test_recordings_are_brought_to_8_khz_and_a_tone_keeps_its_frequency(tmp_path):
    time = np.arange(22050) / 22050
    write(tmp_path / "anna" / "one.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), 22050)
    # 6 kHz lies above the new Nyquist frequency, so only the other channel's 500 Hz are left.
    time = np.arange(48000) / 48000
    both = np.stack([0.5 * np.sin(2 * np.pi * 500 * time), 0.5 * np.sin(2 * np.pi * 6000 * time)], axis=1)
    write(tmp_path / "bert" / "two.wav", both, 48000, channels=2)
    write(tmp_path / "bert" / "silence.wav", np.zeros(8000), 8000)
    write(tmp_path / "bert" / "short.wav", np.ones(100) / 2, 8000)
    found = recordings.load(tmp_path)
    assert [(one.speaker, one.name) for one in found] == [("anna", "one.wav"), ("bert", "two.wav")]
    for one, hertz in zip(found, (1000, 500), strict=True):
        assert one.sound.dtype == np.float32
        assert len(one.sound) == 8000
        assert np.mean(one.sound**2) == pytest.approx(1, abs=1e-5)
        power = np.abs(np.fft.rfft(one.sound)) ** 2
        assert power[hertz - 1 : hertz + 2].sum() > 0.99 * power.sum()
    assert [one.name for one in recordings.load(tmp_path, "t*.wav")] == ["two.wav"]
    assert len(recordings.load(tmp_path, most=1)) == 1


def test_bad_files_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder.*apt-get install alsa-utils.*espeak-ng.*pocketsphinx"):
        recordings.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no recording of at least 0.2 s matches \*.wav.*apt-get install"):
        recordings.load(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"ID3 this is no sound")
    with pytest.raises(ValueError, match=r"a\.wav: not a WAV file of 16-bit PCM.*ffmpeg -i IN"):
        recordings.load(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.wav: not a WAV file"):
        recordings.load(tmp_path)
    write(tmp_path / "a.wav", np.zeros(8000), 8000, width=4)
    with pytest.raises(ValueError, match=r"has 32 bits and 1 channel.*ffmpeg"):
        recordings.load(tmp_path)
    write(tmp_path / "a.wav", np.zeros((8000, 3)), 8000, channels=3)
    with pytest.raises(ValueError, match=r"has 16 bits and 3 channel"):
        recordings.load(tmp_path)
    write(tmp_path / "a.wav", RNG.uniform(-1, 1, 8000), 8000)
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"a\.wav: is cut off; it holds 15000 bytes"):
        recordings.load(tmp_path)


def test_speakers_are_held_out_or_recordings_if_there_are_few_speakers():
    made = [Recording(np.ones(4, np.float32), speaker, str(k)) for speaker in "abcdefgh" for k in range(3)]
    trained, tested = recordings.held_out(made)
    assert {one.speaker for one in tested} == {"c", "g"}
    assert len(trained) == 18
    assert not {one.speaker for one in trained} & {one.speaker for one in tested}
    trained, tested = recordings.held_out(made[:8])
    assert [one.speaker + one.name for one in tested] == ["a2", "c0"]
    with pytest.raises(ValueError, match=r"share: 0\.25 of 1 recordings leaves one side empty"):
        recordings.held_out(made[:1])


# Synthetic speech


def test_a_vowel_has_its_pitch_and_its_formants():
    sound = synthetic.vowel(np.full(16000, 100.0), (500.0, 1500.0), np.random.default_rng(1))[8000:]
    power = np.abs(np.fft.rfft(sound)) ** 2
    assert power[100:3000:100].sum() > 0.95 * power[20:3000].sum()
    smooth = np.asarray([power[f - 60 : f + 60].sum() for f in range(200, 3000, 100)])
    peaks = [200 + 100 * k for k in range(1, len(smooth) - 1) if smooth[k] > max(smooth[k - 1], smooth[k + 1])]
    assert {500, 1500} <= set(peaks)


def test_synthetic_speech_depends_on_the_key_alone(key):
    one, same, other = (synthetic.speech(k, 2, 1, 0.5) for k in (key, key, jax.random.key(1)))
    np.testing.assert_array_equal(one[1].sound, same[1].sound)
    assert np.abs(one[1].sound - other[1].sound).max() > 0.1
    assert np.mean(one[0].sound ** 2) == pytest.approx(1, abs=1e-5)


# Noise


@pytest.mark.every_case
@pytest.mark.parametrize("kind", noises.NOISES)
def test_noise_has_the_asked_ratio(kind, key):
    speech = synthetic.speech(key, 2, 1, 0.5)
    made = [one for one in cleaning.mixtures(speech, key, (-3.0, 12.0)) if one.kind == kind]
    assert [one.snr for one in made] == [-3.0, 12.0, -3.0, 12.0]
    for one in made:
        assert 10 * np.log10(np.mean(one.clean**2) / np.mean(one.noise**2)) == pytest.approx(one.snr, abs=1e-6)
        assert noises.ratio(one.clean, one.clean + one.noise) == pytest.approx(one.snr, abs=1e-6)


def test_babble_is_made_of_the_other_recordings_only():
    loud = [Recording(np.full(400, k, np.float32), str(k), "") for k in (1, 10)]
    np.testing.assert_array_equal(noises.babble(np.random.default_rng(0), 50, loud[:1]), 6.0)
    made = cleaning.mixtures([*loud, Recording(np.full(400, 100.0, np.float32), "", "")], jax.random.key(0), (0.0,))
    whole = [one.noise for one in made if one.kind == "babble"][2]
    assert np.ptp(whole) < 1e-9, "constants add up to a constant"
    with pytest.raises(ValueError, match="recordings: got none"):
        noises.babble(np.random.default_rng(0), 50, [])
    with pytest.raises(ValueError, match="noise: is silent"):
        noises.scaled(np.zeros(4), np.ones(4), 0.0)


# Spectra and masks


def test_spectra_by_hand_and_back():
    sound = RNG.normal(size=1000)
    found = spectra.spectra(sound)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(256) + 0.5) / 256))
    time = np.arange(256)
    for frame, band in ((1, 0), (3, 17), (5, 128)):
        piece = np.pad(sound, 128)[128 * frame : 128 * frame + 256]
        expected = np.sum(piece * window * np.exp(-2j * np.pi * band * time / 256))
        assert found[frame, band] == pytest.approx(expected, abs=1e-10)
    np.testing.assert_allclose(spectra.sound_of(found, 1000), sound, atol=1e-12)
    np.testing.assert_allclose(spectra.sound_of(0.5 * found, 1000), 0.5 * sound, atol=1e-12)
    # White noise of power 1 has features whose mean power is 1.
    noise = np.random.default_rng(1).normal(size=100_000)
    features = np.asarray(spectra.features(spectra.spectra(noise)[2:-2], np.ones(len(spectra.spectra(noise)) - 4)))
    assert np.mean(10 ** (features[:, 1:-1] - spectra.OFFSET)) == pytest.approx(1, abs=0.01)


def test_features_do_not_depend_on_loudness():
    sound = RNG.normal(size=600)
    made = [Mixture(np.float32(a) * sound, np.zeros(600), "white", 0.0, k) for k, a in enumerate((1.0, 7.0))]
    x, recording = cleaning.frames_of(made, 3)
    assert x.shape == (12, 3, 129)
    np.testing.assert_allclose(x[:6], x[6:], atol=1e-4)
    np.testing.assert_array_equal(x[1, 0], x[0, 1])
    np.testing.assert_array_equal(x[0, 0], x[0, 1], "the first frame repeats before the beginning")
    assert recording.tolist() == [0] * 6 + [1] * 6
    with pytest.raises(ValueError, match="lags: got 4; must be an odd number"):
        spectra.in_context(np.ones((3, 2)), 4)


def test_no_mask_is_better_than_the_best_and_subtraction_finds_white_noise():
    clean = RNG.normal(size=(6, 129)) + 1j * RNG.normal(size=(6, 129))
    noisy = clean + RNG.normal(size=(6, 129))
    best = cleaning.best_mask(noisy, clean)
    error = lambda mask: np.abs(mask * noisy - clean) ** 2  # noqa: E731
    for step in (-1e-3, 1e-3):
        assert (error(best) <= error(np.clip(best + step, 0, 1)) + 1e-12).all()
    noise = spectra.spectra(RNG.normal(size=200_000))
    assert (1 - cleaning.subtraction(noise)).mean() > 0.75
    known = np.quantile(np.abs(noise) ** 2, cleaning.QUIET, axis=0) / -np.log(0.8)
    np.testing.assert_allclose(known[1:-1] / 128, 1, atol=0.25)
    tone = noise + 1e4
    np.testing.assert_allclose(cleaning.known_noise(tone, noise), 1, atol=1e-4)


def test_network_by_hand(key):
    plan = VoicePlan(lags=3)
    params = voice.initial_parameters(key, plan)
    assert {name: leaf.shape for name, leaf in params.items() if name[0] == "W"} == {
        "W1": (129, 387), "W2": (129, 129), "W3": (129, 129)
    }  # fmt: skip
    x = RNG.normal(size=(4, 3, 129)).astype(np.float32)
    hidden = x.reshape(4, -1).astype(np.float64)
    for name in ("W1", "W2"):
        hidden = np.maximum(hidden @ np.asarray(params[name]).T, 0)
    expected = 1 / (1 + np.exp(-hidden @ np.asarray(params["W3"]).T))
    np.testing.assert_allclose(voice.network(params, jnp.asarray(x)), expected, atol=1e-5)
    before = questions.preactivations(params, jnp.asarray(x))
    np.testing.assert_allclose(before[0], x.reshape(4, -1) @ np.asarray(params["W1"]).T, atol=1e-5)
    for wrong, said in (({"lags": 2}, "must be odd"), ({"snrs": (5.0, 0.0)}, "first must not be larger")):
        with pytest.raises(ValueError, match=said):
            VoicePlan(**wrong)


# Questions


def test_a_hidden_filter_is_diagonal_in_the_paper_s_frame_and_untrained_layers_show_it_by_construction(key):
    turns = [np.linalg.qr(RNG.normal(size=(129, 129)))[0] for _ in range(2)]
    band = np.diag(np.linspace(1.0, 2.0, 129))
    beside = 0.3 * band
    planted = {
        "W1": np.concatenate([beside, band, np.roll(beside, 40, 1)], axis=1),
        "W2": turns[1] @ band @ turns[0].T,
        "W3": band @ turns[1].T,
    }
    planted["W1"] = turns[0] @ planted["W1"]
    params = {name: jnp.asarray(one, "float32") for name, one in planted.items()}
    params |= {f"b{k}": jnp.zeros(129, "float32") for k in (1, 2, 3)}
    found = questions.in_the_paper_s_frame(params, 3)
    assert set(found) == {"P1 W1, middle frame", "P1 W1, frames beside it", "P2 W2 P1^T", "W3 P2^T"}
    assert float(found["P1 W1, frames beside it"]) == pytest.approx(0.5, abs=1e-4), "one of two is shifted by 40 bands"
    for name in ("P1 W1, middle frame", "P2 W2 P1^T", "W3 P2^T"):
        assert float(found[name]) == pytest.approx(1, abs=1e-4)
    untrained = questions.in_the_paper_s_frame(voice.initial_parameters(key, VoicePlan(lags=3)), 3)
    assert float(untrained["P1 W1, middle frame"]) > 0.6
    assert float(untrained["W3 P2^T"]) < 0.06


def test_own_readings_by_hand():
    weight = np.zeros((129, 3, 129))
    weight[np.arange(129), 1, np.arange(129)] = 2.0
    weight[:, 0, :10] = RNG.normal(size=(129, 10))
    look = Look(
        singular=jnp.ones(1),
        shape=(129, 387),
        output=free_axis(derivative(129)),
        into=ordered_axis(387, (3, 129)),
        frames=None,
        input_frames=None,
        spectrum=jnp.ones(1),
        modes=jnp.ones((129, 1, 1)),
        profiles=jnp.asarray(weight.reshape(129, -1)[RNG.permutation(129)]),
    )
    assert all(one.fits(look.output, look.into) for one in OWN)
    assert not any(one.fits(look.into, look.into) for one in OWN)
    assert [one.name for one in OWN if not one.fits(look.output, ordered_axis(129))] == ["energy on the middle frame"]
    found = [float(one.function(look)) for one in OWN]
    energy = np.sum(weight**2, axis=0)
    bands = energy.sum(axis=0)
    expected = energy[1].sum() / energy.sum(), bands[:32].sum() / bands.sum(), bands.sum() ** 2 / np.sum(bands**2) / 129
    np.testing.assert_allclose(found, [*expected, 1.0], atol=1e-6)
    assert float(near_diagonal(jnp.eye(129)[::-1])) == pytest.approx(3 / 129), "the two diagonals cross"


@pytest.mark.thorough
def test_a_planted_neuron_for_a_formant_is_found(key):
    plan = VoicePlan(lags=1)
    given = questions.probes(jax.random.key(1), 1, 60)
    # A neuron that regression finds for the first formant, among noise.
    x = np.asarray(given.x[:, 0], np.float64)
    centred = x - x.mean(axis=0)
    wanted = np.asarray(given.logs["first"] - given.logs["first"].mean())
    neuron = centred.T @ np.linalg.solve(centred @ centred.T + 10 * np.eye(60), wanted)
    params = voice.initial_parameters(key, plan)
    own = params | {"W1": params["W1"].at[3].set(jnp.asarray(neuron, jnp.float32))}
    answers = {one.name: one for one in questions.units(own, params, plan, jax.random.key(2), 39, 60)}
    planted = answers["best neuron for the first formant, layer 1"]
    assert planted.p_value < 0.05 < answers["best neuron for the second formant, layer 2"].p_value
    assert planted.value > 0.7 > planted.shuffled
    assert set(answers["best wave for the first formant, layer 1"].p_values) == {"untrained"}


@pytest.fixture(scope="module")
def trained():
    speech = synthetic.speech(jax.random.key(0), 8, 4, 1.0)
    seen, unseen = recordings.held_out(speech)
    plan = VoicePlan(steps=600, batch=128)
    given = voice.pool(seen, plan.lags, jax.random.key(1), 20)
    return voice.train(jax.random.key(2), given, plan), given, unseen


@pytest.mark.thorough
def test_a_trained_network_gains_on_speakers_that_it_has_not_heard(trained):
    net, given, unseen = trained
    found = cleaning.gains(net.params, cleaning.mixtures(unseen, jax.random.key(3), (5.0,)), net.plan.lags)
    mean = {method: cleaning.mean_gain(found, method).mean() for method in METHODS}
    assert mean["network"] > 3
    assert mean["best mask"] > mean["network"]
    for kind in noises.NOISES:
        assert cleaning.mean_gain(found, "network", kind).mean() > 0.5
    plan = dataclasses.replace(net.plan, steps=200, shuffled=True)
    control = voice.train(jax.random.key(2), given, plan)
    assert control.losses[-50:].mean() > 1.5 * net.losses[-50:].mean()
    with pytest.raises(FloatingPointError, match="learning_rate"):
        voice.train(jax.random.key(2), given, dataclasses.replace(net.plan, steps=60, learning_rate=1e30))


@pytest.mark.slow
def test_the_experiment_tells_what_it_found():
    from jaxdescramble.studies.voice.experiment import experiment

    speech = synthetic.speech(jax.random.key(0), 4, 4, 0.6)
    report = experiment(
        speech, "Synthetic speech", jax.random.key(1), VoicePlan(lags=3, steps=20, batch=32),
        others={"more": speech[:2]}, seeds=1, draws=3,
    )  # fmt: skip
    page = report.markdown()
    assert "Synthetic speech: 12 recordings for training (7 s), 4 held out (2 s; 1 speakers" in page
    assert "3 draws cannot show a finding" in page
    for row in (
        "| held out | babble | 5 dB |",
        "| more | hum | 10 dB |",
        "| W3 | band edge of outputs |",
        "| W3 P2^T |",
    ):
        assert row in page
    assert len(report.network_gains["more"]) == 1
    assert report.explanation.groups == 4
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
