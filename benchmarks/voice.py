"""Voice networks: what do they gain on speech that training has not heard, and what can be read from them?

Run: python benchmarks/voice.py [--speech FOLDER] [--speak] [--others FOLDER ...] [--seeds 3] [--draws 199] [--out FILE]

`--speech` is a folder of WAV files, a subfolder for each speaker; without it, only synthetic speech is used. `--speak`
fills that folder first, by espeak-ng (`apt-get install espeak-ng`): 18 voices say eight sentences each, all different.
`--others` are folders whose recordings are used for tests only. The table in benchmarks/results comes from
`--speech /work/speech --speak --others /usr/share/sounds/alsa /usr/share/pocketsphinx/test/data`
(`apt-get install alsa-utils pocketsphinx-testdata`). Files of alsa-utils that hold noise are left out.
"""

import argparse
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from pydoc_data.topics import topics

import jax

from jaxdescramble.studies.voice import recordings, synthetic
from jaxdescramble.studies.voice.cleaning import mean_gain
from jaxdescramble.studies.voice.experiment import experiment
from jaxdescramble.studies.voice.network import VoicePlan

VOICES = [*(f"f{k}" for k in range(1, 6)), *(f"m{k}" for k in range(1, 9)), "adam", "Andy", "belinda", "linda", "steph"]
ACCENTS = ("en-us", "en-gb", "en-gb-scotland")
EACH = 8
"""Number of sentences of each voice."""


def sentences():
    """Return different sentences of 6 to 12 plain words from Python's help."""
    found = {}
    for text in topics.values():
        for part in re.split(r"(?<=[.])\s+|\n\n", text):
            part = " ".join(part.split())
            if re.fullmatch(r"[A-Z][a-z ,'-]+\.", part) and 6 <= len(part.split()) <= 12:
                found[part] = None
    return list(found)


def speak(folder):
    """Let espeak-ng say the sentences; existing files stay."""
    texts = iter(sentences())
    for voice in VOICES:
        (folder / voice).mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            text, accent, file = next(texts), ACCENTS[number % len(ACCENTS)], folder / voice / f"{number}.wav"
            if not file.exists():
                subprocess.run(["espeak-ng", "-v", f"{accent}+{voice}", "-w", str(file), text], check=True)


def results(given):
    """Run every kind of speech; return title, report and seconds of each."""
    key, parts = jax.random.key(given.seed), []
    several, single = VoicePlan(steps=given.steps), VoicePlan(lags=1, steps=given.steps)
    if given.speech is not None:
        if given.speak:
            speak(given.speech)
        speech = recordings.load(given.speech)
        people = [one for folder in given.others for one in recordings.load(folder, "[!N]*.wav")]
        tests = {"people": people} if people else {}
        parts.append(("Recordings", speech, several, tests, given.seeds))
        parts.append(("Recordings, one frame at a time", speech, single, tests, given.seeds))
    parts.append(("Synthetic speech", synthetic.speech(jax.random.key(0)), several, {}, 1))
    found = []
    for title, speech, plan, tests, seeds in parts:
        start, kind = time.perf_counter(), title.split(",")[0]
        report = experiment(speech, kind, key, plan, others=tests, seeds=seeds, draws=given.draws, progress=print)
        found.append((title, report, time.perf_counter() - start))
    return found


def words(report):
    """Return what was found in plain English; numbers and verdicts are those of this run."""
    read = {(one.layer.strip("[]'"), one.reading): one for one in report.explanation.verdicts}
    asked = {one.name: [] for one in (*report.diagonals[0], *report.units[0])}
    for seed in (*report.diagonals, *report.units):
        for one in seed:
            asked[one.name].append(one)

    def gained(name, found):
        own, other = (mean_gain(found, method) for method in ("network", "subtraction"))
        wins = f"the network is better in {(own > other).sum()} of {len(own)} recordings"
        return f"{name}: {own.mean():.1f} dB by the network, {other.mean():.1f} dB by spectral subtraction ({wins})"

    lags = report.nets[0].plan.lags

    def finding(layer, reading):
        one = read[layer, reading]
        verdict = "a finding" if one.p_value <= 0.05 else "no finding"
        return f"{one.value:.3g} (untrained {one.nulls['untrained'][0]:.3g}; {verdict}, p = {one.p_value:.3f})"

    def answer(name):
        every = asked[name]
        nulls = ", ".join(f"{null} {value:.3g}" for null, value in every[0].nulls.items())
        count = sum(one.p_value <= 0.05 for one in every)
        return f"{every[0].value:.3g} ({nulls}; a finding in {count} of {len(every)} seeds)"

    gains = "; ".join(
        gained("held-out recordings" if name == "held out" else "recordings of people", found)
        for name, found in report.gains.items()
    )
    middle = beside = ""
    if lags > 1:
        middle = f" On the middle one of {lags} frames: {finding('W1', 'energy on the middle frame')}."
        beside = f"the first layer's part for the frames beside it, {answer('P1 W1, frames beside it')}, and for "
    text = f"""**Gain**, mean over all noises and ratios: {gains}. Training has heard neither these speakers nor their
sentences.

**Which bands, which frames?** Share of the first layer's energy below 1 kHz: {finding("W1", "energy below 1 kHz")}.
{middle}

**Is there locality?** Variance of the places that a wave of the first layer reads, in units of that of the whole axis:
{finding("W1", "locality of waves")}. Share of the bands that a neuron reads: {answer("bands of a neuron, layer 1")}.

**Is the last layer smooth along the bands?** Roughness along the outputs:
{finding("W3", "roughness along ordered outputs")}; 95% of the energy lies below this share of the highest frequency:
{finding("W3", "band edge of outputs")}.

**The paper's frame**, the largest diagonal sum. Share of the energy near the diagonal in the first layer, middle frame:
{answer("P1 W1, middle frame")}; in the second: {answer("P2 W2 P1^T")}. P makes these two diagonal, whatever the weights
are. No P was chosen for {beside}the last layer, {answer("W3 P2^T")}.

**Units for a formant?** Squared correlation of the best neuron of the first layer with the first formant:
{answer("best neuron for the first formant, layer 1")}; with the second:
{answer("best neuron for the second formant, layer 1")}. Best wave for the first formant:
{answer("best wave for the first formant, layer 1")}; for the second:
{answer("best wave for the second formant, layer 1")}."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def page(found):
    """Format the results as Markdown."""
    command = "python benchmarks/voice.py --speech FOLDER --speak --others FOLDER FOLDER"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, Python {platform.python_version()}"
    parts = [
        f"## {title}\n\n{words(report)}\n\n{report.markdown()}\n\n{seconds:.0f} s with compilation.\n"
        for title, report, seconds in found
    ]
    return f"""# A network that takes noise off speech

`{command}`; {machine}, float32. Other programs ran at the same time.

The voice network of the descrambler paper's supplement, trained again. "Recordings" are {len(VOICES) * EACH} sentences
that espeak-ng speaks with {len(VOICES)} voices; "people" are the recordings of Debian's packages alsa-utils and
pocketsphinx-testdata, which only the test uses. Nothing of them is committed. "Synthetic speech" needs no files. The
noise is white, mains hum, or babble of the same speech. p-values are corrected for all readings of a table, and the
largest one over the nulls counts. "Shuffled targets" is one network whose targets belong to other frames; this is no
test.

{chr(10).join(parts)}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Voice networks: gains and readings.")
    parser.add_argument("--speech", type=Path)
    parser.add_argument("--speak", action="store_true")
    parser.add_argument("--others", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=199)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "voice.md")
    arguments = parser.parse_args()
    arguments.out.write_text(page(results(arguments)))
