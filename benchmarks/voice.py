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
from jaxdescramble.studies.voice.experiment import experiment
from jaxdescramble.studies.voice.network import VoicePlan

VOICES = "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 adam Andy belinda linda steph".split()
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
    plan, key, parts = VoicePlan(steps=given.steps), jax.random.key(given.seed), []
    if given.speech is not None:
        if given.speak:
            speak(given.speech)
        people = [one for folder in given.others for one in recordings.load(folder, "[!N]*.wav")]
        tests = {"people": people} if people else {}
        parts.append(("Recordings", recordings.load(given.speech), tests, given.seeds))
    parts.append(("Synthetic speech", synthetic.speech(jax.random.key(0)), {}, 1))
    found = []
    for title, speech, tests, seeds in parts:
        start = time.perf_counter()
        report = experiment(speech, title, key, plan, others=tests, seeds=seeds, draws=given.draws, progress=print)
        found.append((title, report, time.perf_counter() - start))
    return found


def page(found):
    """Format the results as Markdown."""
    command = "python benchmarks/voice.py --speech FOLDER --speak --others FOLDER FOLDER"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, Python {platform.python_version()}"
    parts = [f"## {title}\n\n{report.markdown()}\n\n{seconds:.0f} s with compilation." for title, report, seconds in found]
    head = f"# A network that takes noise off speech\n\n`{command}`; {machine}, float32.\n\n"
    return head + "\n\n".join(parts) + "\n"


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
