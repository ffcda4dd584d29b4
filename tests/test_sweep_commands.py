"""The command line's sweeps: from files to a report, with exit codes that mean something."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from compile_fast import COMPILE_FAST
from typer.testing import CliRunner

import jaxdescramble as jd
from jaxdescramble._base.inputs import selected
from jaxdescramble.show.commands import build
from jaxdescramble.show.sweeps.numbers import progress_of
from jaxdescramble.sweeps import Table
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps.specification import catalogue, read, request

N = 8


def smooth(seed, m=20):
    rng = np.random.default_rng(seed)
    t = np.arange(N)[:, None] / N
    waves = np.sin(2 * np.pi * (t + rng.uniform(size=m))) + 0.01 * rng.standard_normal((N, m))
    return (np.linalg.qr(rng.standard_normal((N, N)))[0] @ waves).astype(np.float32)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """Weights and signals of three layers, and what else a file may hold."""
    path = tmp_path_factory.mktemp("files") / "net.npz"
    arrays = {f"layer_{i}.signals": smooth(i) for i in range(3)}
    arrays |= {f"layer_{i}.weight": smooth(10 + i, 12) for i in range(3)}
    np.savez(path, **arrays, step=np.array(7), bias=np.ones(N, np.float32))
    return path


def called(*words, code=0):
    result = CliRunner().invoke(build(), [str(word) for word in words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def done(net, tmp_path_factory):
    out = tmp_path_factory.mktemp("done")
    return out, called("run", net, "--out", out, "--chunk-size", "2")


def test_run_goes_from_files_to_a_report(net, done):
    out, said = done
    assert "3 problems, 3 layers" in said
    assert "left out: step (int64, not a floating type)" in said
    assert "left out: bias (shape (8,), neither a matrix nor a stack of matrices)" in said
    table = Table.load(out).check()
    assert table["layer"].tolist() == ["layer_0", "layer_1", "layer_2"]
    assert (table["value"] < table["initial_value"] / 5).all()
    page = (out / "index.html").read_text()
    assert "A sweep of 3 problems" in page
    assert {path.name for path in out.glob("*.png")} == {"values.png", "layers.png"}
    report = json.loads((out / "report.json").read_text())
    assert (report["done"], report["solved"]) == (3, 3)
    # The picture shows P W, of the weight that belongs to the signals.
    layer = selected([net]).layers["layer_1"]
    np.testing.assert_array_equal(layer.read_weight(), smooth(11, 12))


def test_running_again_solves_nothing_again(net, done):
    out, _ = done
    before = {path: path.stat().st_mtime_ns for path in out.glob("chunks/*/*")}
    called("run", net, "--out", out, "--chunk-size", "2", "--no-figures")
    assert {path: path.stat().st_mtime_ns for path in out.glob("chunks/*/*")} == before
    assert "resume is False" in called("run", net, "--out", out, "--chunk-size", "2", "--no-resume", code=1)
    assert "which differs in: the chunk size" in called("run", net, "--out", out, "--chunk-size", "1", code=2)


def test_status_and_report_of_a_part(net, tmp_path):
    said = called("run", net, "--out", tmp_path, "--chunk-size", "1", "--shard", "1/3", "--no-figures", code=4)
    assert "2 of 3 problems have no result yet." in said
    assert "1 of 3 problems done, 1 with an answer 1 SOLVED" in called("status", tmp_path, code=4)
    what = json.loads(CliRunner().invoke(build(), ["status", str(tmp_path), "--json"]).stdout)
    assert (what["problems"], what["done"], what["statuses"]) == (3, 1, {"SOLVED": 1})
    assert what["seconds_left"] > 0
    assert what["made_by"][0].startswith("1 chunks: ")
    called("report", tmp_path, "--no-figures", code=4)
    assert "2 have no result yet" in (tmp_path / "index.html").read_text()
    for shard in ("0/3", "2/3"):
        called(
            "run",
            net,
            "--out",
            tmp_path,
            "--chunk-size",
            "1",
            "--shard",
            shard,
            "--no-figures",
            code=4 * (shard == "0/3"),
        )
    assert "3 of 3 problems done" in called("status", tmp_path)


def test_a_problem_without_an_answer_has_an_exit_code_of_its_own(tmp_path):
    np.savez(tmp_path / "net.npz", good=smooth(0), bad=smooth(1) * np.nan)
    said = called("run", tmp_path / "net.npz", "--out", tmp_path / "out", "--no-figures", code=3)
    assert "1 of 2 problems have no answer. NOT_FINITE: the signals" in said
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Without an answer" in page
    assert "<td>bad</td>" in page
    called("status", tmp_path / "out", code=3)


class Tables(HTMLParser):
    """The cells of every table of a page, row by row, each as wide as it says."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.inside = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1] += [""] * int(dict(attrs).get("colspan", 1))
            self.inside = True

    def handle_endtag(self, tag):
        self.inside &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data.strip()


@pytest.mark.thorough
def test_the_page_has_a_heading_for_each_column_and_counts_every_status(tmp_path):
    names = [f"layer {i}" for i in range(4)]
    np.savez(tmp_path / "net.npz", **{name: smooth(i) for i, name in enumerate(names)}, bad=smooth(5) * np.nan)
    path = tmp_path / "sweep.toml"
    path.write_text(PAGE)
    called("run", path, "--out", tmp_path / "out", "--shard", "0/2", "--no-figures", code=4)
    called("report", tmp_path / "out", "--no-figures", code=4)
    tables = Tables((tmp_path / "out" / "index.html").read_text()).tables
    assert len(tables) == 3
    for heads, *rows in tables:
        assert rows
        assert {len(row) for row in rows} == {len(heads)}, heads
    heads, *rows = tables[0]
    assert heads[2:4] == ["problems", "with an answer"]
    assert [dict(zip(heads, row, strict=True))["how they ended"] for row in rows] == [
        "2 STEPS_SPENT, 1 NOT_FINITE, 2 not done"
    ]
    assert tables[1][1:] == [
        ["NOT_FINITE", "1", "no; see below"],
        ["STEPS_SPENT", "2", "no; see below"],
        ["not done", "2", "not yet"],
    ]
    assert "how they ended: 2 STEPS_SPENT, 1 NOT_FINITE, 2 not done" in called(
        "report", tmp_path / "out", "--no-figures", code=4
    )


PAGE = """
chunk_size = 1

[signals]
files = ["net.npz"]

[objectives.sparsity]
measure = "l4"

[solvers.brief]
name = "GradientDescent"
max_steps = 1
"""


def test_the_time_that_is_left_is_told_kind_by_kind(net, tmp_path):
    """Three closed forms are finished, one of three searches, none of three others: rates do not mix."""
    layers = {name: layer.read() for name, layer in selected([net], ["*.signals"]).layers.items()}
    brief = jd.solvers.GradientDescent(max_steps=1)
    problems = jd.grid(layers)
    problems += jd.grid(layers, {name: jd.objectives.sparsity("l4") for name in ("known", "new")}, {"brief": brief})
    problems = sorted(problems, key=lambda problem: problem.labels.get("objective", ""))
    table = jd.sweep(problems, tmp_path, chunk_size=1)
    for number in (4, 5, 6, 7, 8):
        chunks.location(tmp_path, number).unlink()
    log = tmp_path / "log.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [event for event in events if event["event"] != "chunk" or event["chunk"] < 4]
    for event in kept:
        if event["event"] == "chunk":
            event |= {"seconds": 100.0 if event["chunk"] == 3 else 1.0, "writing": 0.0, "compiling": 7.0}
    log.write_text("".join(json.dumps(event) + "\n" for event in kept))
    what = progress_of(Table.load(tmp_path))
    assert what["seconds_left"] == pytest.approx(200.0)  # two searches; the closed forms' rate says 5
    assert what["unknown_left"] == {"new, brief, 8 x 20": 3}
    said = called("status", tmp_path, code=4)
    assert "about 200 s of work left for 2 problems" in said
    assert "unknown time for 3 problems of a kind without a finished problem (new, brief, 8 x 20)" in said
    assert table.done


@pytest.mark.thorough
def test_the_documented_specification_runs_as_it_stands(tmp_path):
    text = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    np.savez(tmp_path / "layers.npz", **{"encoder.0": smooth(0), "encoder.1": smooth(1), "decoder": smooth(2)})
    (tmp_path / "sweep.toml").write_text(example)
    asked = request(read(tmp_path / "sweep.toml"), tmp_path)
    assert len(asked.problems) == 2 * 2 * 2 * 2
    assert {one.labels["solver"] for one in asked.problems} == {"quick", "rounded"}
    # Every option in the text is one that the catalogue lists, or the name.
    given = read(tmp_path / "sweep.toml")
    for kind in ("objectives", "solvers"):
        for one in given[kind].values():
            known = catalogue()[kind][one["name"]]
            assert all(option == "name" or re.search(rf"\b{option}\b", known) for option in one)
    few = jd.sweep([one for one in asked.problems if one.labels["seed"] == 1][:1], tmp_path / "out", key=asked.key)
    assert few.done


def test_the_help_lists_what_a_specification_may_name():
    said = called("run", "--help")
    for kind, names in catalogue().items():
        assert f"{kind.capitalize()} and their options" in said
        for name, options in names.items():
            assert f"- {name}" in said
            assert " ".join(options.split(", ")[0].split()) in said
    listed = catalogue()
    assert "smoothness" in listed["objectives"]
    assert not {"Solution", "Restarts", "Optax", "History"} & set(listed["solvers"])
    # What is listed can be made by its name, where nothing is needed.
    for kind, room in (("objectives", jd.objectives), ("solvers", jd.solvers)):
        for name, options in listed[kind].items():
            if "(needed)" not in options and name != "ClosedForm":
                assert getattr(room, name)() is not None


def test_a_class_of_objectives_that_no_function_makes_is_listed(monkeypatch):
    class Unmade(jd.Objective):
        power: float = 2.0

    assert not [name for name in catalogue()["objectives"] if not name.islower()]
    monkeypatch.setattr(jd.objectives, "Unmade", Unmade, raising=False)
    monkeypatch.setattr(jd.objectives, "__all__", [*jd.objectives.__all__, "Unmade"])
    assert catalogue()["objectives"]["Unmade"] == "power = 2.0"


def test_a_list_of_tables_makes_a_chain():
    chain = {"name": "Chain", "solvers": [{"name": "GradientDescent", "max_steps": 3}, {"name": "LBFGS"}]}
    content = {"signals": {"files": ["x"]}, "solvers": {"both": chain}}
    from jaxdescramble import exact, solvers
    from jaxdescramble.sweeps.specification import built

    made = built("solvers.both", content["solvers"]["both"], "both", (solvers, exact))
    assert [type(one).__name__ for one in made.solvers] == ["GradientDescent", "LBFGS"]
    assert made.solvers[0].max_steps == 3


SPECIFICATION = """
seed = 3
seeds = 2
chunk_size = 4

[signals]
files = ["net.npz"]
names = ["*_[01].signals"]

[objectives.sparse]
name = "sparsity"
measure = "l4"

[solvers.quick]
name = "GradientDescent"
max_steps = 2
"""


def test_a_specification_says_it_all(net, tmp_path):
    path = net.parent / "sweep.toml"
    path.write_text(SPECIFICATION)
    said = called("run", path, "--out", tmp_path / "out", "--no-figures", code=3)
    assert "STEPS_SPENT" in said
    table = Table.load(tmp_path / "out")
    assert table["layer"].tolist() == ["layer_0", "layer_0", "layer_1", "layer_1"]
    assert set(table["solver"]) == {"quick"}
    assert set(table["objective"]) == {"sparse"}
    assert table["steps"].tolist() == [2] * 4
    assert len(np.unique(table["value"])) == 4
    asked = request(read(path), path.parent)
    assert asked.problems[0].solver.max_steps == 2


MISTAKES = {
    "an unknown table": ("[signal]\nfiles = []", "got 'signal'; must be one of seed"),
    "no files": ("seed = 1", "signals.files: got no files"),
    "an unknown objective": (
        "[objectives.smooth]",
        "objectives.smooth: got 'smooth'; name must be one of band",
    ),
    "an option that it has not": ("[objectives.smoothness]\npower = 2", "objectives.smoothness: .*'power'"),
    "an order below one": ("[objectives.smoothness]\norder = 0", "objectives.smoothness: order: expected a positive"),
    "an unknown solver": ('[solvers.fast]\nname = "Newton"', "solvers.fast: got 'Newton'"),
    "a solver that is text": ("solvers = 3", "solvers: got 3; must be a table"),
    "half a seed": ("seed = 0.5", "seed: got 0.5; must be an integer"),
    "no TOML": ("seed == 1", "not valid TOML"),
    "no such array": ('[signals]\nnames = ["nothing"]', "no array to descramble .*matches no pattern"),
    "no such file": ('[signals]\nfiles = ["nowhere.npz"]', "no such file or folder"),
    "seeds without a seed": ("seeds = 2\n[objectives.sparsity]", "random start. Give"),
    "an unknown group": ('group = "U"', "group: got 'U'"),
}


@pytest.mark.every_case
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("as_installed")
def test_mistakes_in_a_specification_are_named(net, tmp_path, mistake):
    text, message = MISTAKES[mistake]
    if "[signal" not in text and mistake != "no files":
        text += '\n[signals]\nfiles = ["net.npz"]\n' if text.startswith("[") else ""
        text = text if "[signals]" in text else f'{text}\n[signals]\nfiles = ["net.npz"]\n'
    elif mistake == "no such array":
        text += '\nfiles = ["net.npz"]'
    path = net.parent / "mistake.toml"
    path.write_text(text)
    result = CliRunner().invoke(build(), ["run", str(path), "--out", str(tmp_path / "out"), "--no-figures"])
    assert result.exit_code in (1, 2), result.output
    assert re.search(message, " ".join(result.output.split())), result.output


def test_what_the_command_line_refuses(net, tmp_path):
    assert "--shard: got '3'; must be i/n" in called(
        "run", net, "--out", tmp_path / "a", "--shard", "3", "--no-figures", code=2
    )
    assert "the specification decides this" in called(
        "run", _written(tmp_path), "--out", tmp_path / "b", "--objective", "sparsity", "--no-figures", code=2
    )
    assert "this folder holds no sweep" in called("status", tmp_path, code=1)
    (tmp_path / "broken.npz").write_bytes(net.read_bytes()[:500])
    assert "broken.npz" in called("run", tmp_path / "broken.npz", "--out", tmp_path / "c", "--no-figures", code=2)


def _written(folder):
    path = folder / "plain.toml"
    path.write_text('[signals]\nfiles = ["net.npz"]\n')
    return path


def test_which_arrays_are_layers(tmp_path):
    rng = np.random.default_rng(0)
    stack, kernel = rng.standard_normal((3, 4, 9)), rng.standard_normal((5, 4)).astype(np.float32)
    np.savez(tmp_path / "flax.npz", **{"Dense_0/kernel": kernel, "Dense_0/bias": np.ones(4), "stack": stack})
    found = selected([tmp_path / "flax.npz"])
    assert {name: layer.shape for name, layer in found.layers.items()} == {
        "Dense_0/kernel": (4, 5),
        "stack[0]": (4, 9),
        "stack[1]": (4, 9),
        "stack[2]": (4, 9),
    }
    np.testing.assert_array_equal(found.layers["Dense_0/kernel"].read(), kernel.T)
    np.testing.assert_array_equal(found.layers["stack[1]"].read(), stack[1])
    turned = selected([tmp_path / "flax.npz"], ["stack"], samples_first=True)
    assert turned.layers["stack[2]"].shape == (9, 4)
    np.save(tmp_path / "wide.npy", np.ones((9000, 2), np.float32))
    with pytest.raises(ValueError, match="9000 features; must be at most 8192"):
        selected([tmp_path / "wide.npy"])


@pytest.mark.thorough
def test_a_terminated_run_keeps_what_it_has_and_goes_on(tmp_path):
    """What a scheduler does: SIGTERM, a while to write in, and the same command again."""
    signals = {f"layer_{i}": smooth(i, 400) for i in range(40)}
    np.savez(tmp_path / "net.npz", **signals)
    program = "from jaxdescramble.show.commands import main; main()"
    words = [sys.executable, "-c", program, "run", str(tmp_path / "net.npz")]
    words += ["--out", str(tmp_path / "out"), "--chunk-size", "1", "--no-figures"]
    environment = {**os.environ, "XLA_FLAGS": COMPILE_FAST, "COLUMNS": "200"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("out/chunks/*/*.npz")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    kept = len(list(tmp_path.glob("out/chunks/*/*.npz")))
    assert process.returncode == 143, err
    assert "Terminated while solving. Finished chunks are kept" in err
    assert 0 < kept < 40
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/chunks/*/*.npz")}
    again = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == then for path, then in times.items())
    assert Table.load(tmp_path / "out").check().done
    assert chunks.location(tmp_path / "out", 39).exists()


SLOW = """
chunk_size = 1

[signals]
files = ["net.npz"]

[objectives.total_variation]

[solvers.GradientDescent]
tolerance = 0.0
"""


def test_ctrl_c_on_the_command_line_is_answered_in_words_and_drops_the_chunk_in_flight(tmp_path):
    """Every chunk here takes a minute: nobody waits for it."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "net.npz", **{name: rng.standard_normal((64, 4000)).astype("float32") for name in "ab"})
    (tmp_path / "sweep.toml").write_text(SLOW)
    program = "from jaxdescramble.show.commands import main; main()"
    words = [sys.executable, "-c", program, "run", str(tmp_path / "sweep.toml")]
    words += ["--out", str(tmp_path / "out"), "--no-figures"]
    environment = {**os.environ, "XLA_FLAGS": COMPILE_FAST, "COLUMNS": "200"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log, limit = tmp_path / "out" / "log.jsonl", time.monotonic() + 120
    while not (log.exists() and '"solve"' in log.read_text()) and time.monotonic() < limit:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    with process.stderr:
        said = process.stderr.readline()
        answered = time.monotonic() - began
        err = process.stderr.read()  # not communicate, which would miss what readline has buffered
    process.wait(timeout=120)
    ended = time.monotonic() - began
    assert said.startswith("Interrupted. Stopping within seconds: finished chunks are kept in ")
    assert "run the same command again" in said
    assert "Interrupted while solving. Finished chunks are kept" in err
    assert process.returncode == 130
    assert answered < 3
    assert ended < 15
    assert not list(tmp_path.glob("out/chunks/*/*"))
