"""The roof: the command line end to end, the report's numbers, the figures, and what is said when things go wrong."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxdescramble._base import extras
from jaxdescramble.show import commands, figures, layers_figure, page, style, terminal, write_report
from jaxdescramble.show.papers import evidence, report
from jaxdescramble.studies.deernet import claims as verdicts
from jaxdescramble.studies.deernet import demonstration as demonstrations
from jaxdescramble.studies.deernet.demonstration import DemonstrationSettings
from jaxdescramble.studies.deernet.network import TrainingPlan

STAGES = ["training", "training the null", "descrambling", "reading", "building the replica", "done", "writing"]


@pytest.fixture(scope="module", autouse=True)
def small():
    """What --quick means here: fewer links, so that nothing takes long."""
    plan = TrainingPlan(width=24, steps=300, batch=64)

    def quick(seed=0, layers=2):
        return DemonstrationSettings(seed, demonstrations.replace(plan, layers=layers), 100, 256, 19)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DemonstrationSettings, "quick", quick)
        yield


def call(*arguments):
    return CliRunner().invoke(commands.build(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One quick demonstration through the command line: its folder, what it found, what it printed."""
    folder, kept = tmp_path_factory.mktemp("show") / "made for it", {}
    original = demonstrations.demonstrate

    def watched(settings, where, progress):
        kept["stages"] = progress
        kept["found"] = original(settings, where, progress)
        return kept["found"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstrations, "demonstrate", watched)
        result = call("demo", "--quick", "--seed", 0, "--out", folder)
    assert result.exit_code == 0, result.output
    return {"folder": folder, "output": result.output, **kept}


@pytest.fixture(scope="module")
def found(run):
    return run["found"]


@pytest.fixture
def content(run):
    return json.loads((run["folder"] / "report.json").read_text())


def fake(monkeypatch, found, *, stop=None):
    """`demonstrate` that answers at once, or is interrupted where a real one could be."""

    def demonstrate(settings, folder, progress):
        progress("training", 100, 300)
        if stop is not None:
            raise stop
        return found

    monkeypatch.setattr(demonstrations, "demonstrate", demonstrate)


def test_the_command_line_leaves_every_file_and_prints_little(run):
    names = {path.name for path in run["folder"].iterdir()}
    drawn = {f"{name}.{kind}" for name in report.FIGURES for kind in ("png", "pdf")}
    assert names == drawn | {
        "report.json",
        "matrices.npz",
        "index.html",
        "training.npz",
        "training-the-null.npz",
    }
    for name in drawn:
        start = (run["folder"] / name).read_bytes()[:8]
        assert start.startswith(b"\x89PNG" if name.endswith("png") else b"%PDF")
    lines = run["output"].splitlines()
    assert len(lines) < 45
    assert run["stages"].reached == [*STAGES, "drawing"]
    assert sum(line.startswith("training") for line in lines) == 2
    assert not any("\x1b" in line for line in lines)  # not a terminal: no colours, no cursor movements
    assert "index.html" in lines[-1]


def test_the_numbers_in_the_report_are_those_of_the_demonstration(content, found):
    assert content["settings"] == json.loads(json.dumps(report.settings_of(found.settings)))
    assert content["function_change"] == found.function_change
    for name, smoothness in found.smoothness.items():
        assert content["smoothness"][name]["fall"] == smoothness.fall
        assert content["smoothness"][name]["fall_held_out"] == smoothness.fall_held_out
    for name, agreement in found.agreement.items():
        assert content["agreement"][name]["correlation"] == float(agreement.correlation)
    assert [one["verdict"] for one in content["findings"]] == [one.verdict for one in found.findings]
    for layer, group in found.readings.items():
        for written, reading in zip(content["readings"][layer], group, strict=True):
            assert (written["name"], written["value"]) == (reading.name, reading.value)
            for name, draws in reading.nulls.items():
                null = written["nulls"][name]
                np.testing.assert_allclose(null["draws"], draws)
                np.testing.assert_allclose(null["mean"], draws.astype(np.float64).mean(), rtol=1e-12)
                assert null["p_value"] == reading.p_value[name]
                assert null["beaten"] == verdicts.beaten(reading).get(name)
    assert content["seconds"] == found.seconds
    assert {"jax", "jaxdescramble"} <= content["versions"].keys()
    assert content["hardware"]["platform"] == "cpu"


def test_the_matrices_are_one_weight_in_two_frames(run, found):
    with np.load(run["folder"] / "matrices.npz") as file:
        kept = {name: file[name] for name in file.files}
    for name, raw, one in (("first", "W1", found.first), ("last", "W2", found.last)):
        np.testing.assert_array_equal(kept[name], one)
        np.testing.assert_array_equal(kept[f"raw_{name}"], found.net.params[raw])
    np.testing.assert_allclose(kept["P_first"] @ kept["raw_first"], kept["first"], atol=1e-4)
    np.testing.assert_allclose(kept["raw_last"] @ kept["Q_last"].T, kept["last"], atol=1e-4)
    assert kept["Q_joint_last"].shape == kept["Q_last"].shape
    assert kept["time_us"][-1] == 2.0


def test_the_page_shows_all_figures_findings_and_readings(run, content):
    text = (run["folder"] / "index.html").read_text()
    for name in report.FIGURES:
        assert f'src="{name}.png"' in text
        assert f'href="{name}.pdf"' in text
    for finding in content["findings"]:
        assert page.escape(finding["claim"]) in text
    rows = sum(len(group) for group in content["readings"].values())
    assert text.count("depends on P</") + text.count("; depends on P;") + text.count("; does not depend on P;") == rows
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text  # nothing is fetched from anywhere
    assert set(page.CAPTIONS) == set(report.FIGURES)


def test_without_figures_nothing_is_drawn(found, tmp_path):
    write_report(found, tmp_path, figures=False)
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "matrices.npz", "index.html"}
    assert "<img" not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("name", report.FIGURES)
def test_every_panel_is_labelled_and_nothing_leaves_the_page(found, name):
    from matplotlib.figure import Figure

    drawn = report.FIGURES[name](found)
    assert isinstance(drawn, Figure)
    assert round(drawn.get_figwidth() * 25.4) == style.DOUBLE
    panels = [ax for ax in drawn.axes if ax.get_label() != "<colorbar>"]
    if name == "figure-7-nulls":
        assert len(panels) == sum(map(len, found.readings.values()))
        assert all(ax.get_label() for ax in panels)
    else:
        assert [ax.get_xlabel() for ax in panels if ax.get_subplotspec().is_last_row()].count("") == 0
        assert sum(bool(ax.get_title("left")) for ax in panels) >= 4
    width, height = drawn.bbox.width, drawn.bbox.height
    box = drawn.get_tightbbox().transformed(drawn.dpi_scale_trans)
    assert box.x0 >= -0.01 * width, "text leaves the page at the left"
    assert box.x1 <= 1.005 * width, "text leaves the page at the right"
    assert box.y0 >= -0.01 * height
    assert box.y1 <= 1.01 * height


def test_the_null_figure_turns_every_finding_to_the_right(found):
    drawn = evidence.nulls_figure(found)
    readings = [reading for group in found.readings.values() for reading in group]
    for ax, reading in zip(drawn.axes, readings, strict=True):
        left, right = ax.get_xlim()
        assert (left > right) == (reading.direction < 0), reading.name
        everything = np.concatenate([*reading.nulls.values(), [reading.value]])
        assert min(left, right) <= everything.min()
        assert everything.max() <= max(left, right)


def test_a_claim_stands_beside_the_reading_it_rests_on(found):
    claims = {
        reading.name: evidence.finding_on(reading, "first", found.findings).claim
        for reading in found.readings["first"]
        if evidence.finding_on(reading, "first", found.findings)
    }
    assert claims.keys() == {"band edge", "notch, link frequency 0 left out", "ridge monotonicity"}
    assert "cube root" in claims["ridge monotonicity"]


def test_any_networks_layers_can_be_drawn(found):
    drawn = layers_figure(found.layers)
    raw = drawn.axes[0].images[0].get_array()
    np.testing.assert_allclose(raw, found.net.params["W1"], atol=1e-5)
    with pytest.raises(ValueError, match="layers: got none"):
        layers_figure({})


def test_drawing_leaves_the_users_settings_alone(found):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        drawn = figures.last_layer_figure(found)
        assert dict(matplotlib.rcParams) == before
    assert drawn.axes[0].xaxis.label.get_fontsize() == style.STYLE["axes.labelsize"]
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(run, tmp_path, monkeypatch):
    folder, original, reached = tmp_path / "again", demonstrations.demonstrate, {}
    folder.mkdir()
    for name in ("training.npz", "training-the-null.npz"):
        (folder / name).write_bytes((run["folder"] / name).read_bytes())

    def stops(settings, where, progress):
        def report_then_stop(stage, done, total):
            reached.setdefault(stage, []).append(done)
            progress(stage, done, total)
            if stage == "descrambling":
                raise KeyboardInterrupt

        return original(settings, where, report_then_stop)

    monkeypatch.setattr(demonstrations, "demonstrate", stops)
    result = call("demo", "--quick", "--out", folder)
    assert result.exit_code == 130
    assert reached == {"training": [0], "training the null": [0], "descrambling": [0]}  # not a step was trained again
    assert "while descrambling" in result.stderr
    assert f"{folder / 'training.npz'} (step 300)" in result.stderr
    assert "same command" in result.stderr
    assert "Traceback" not in result.output


def test_ctrl_c_before_anything_is_saved(found, tmp_path, monkeypatch):
    fake(monkeypatch, found, stop=KeyboardInterrupt())
    result = call("demo", "--quick", "--out", tmp_path)
    assert result.exit_code == 130
    assert "at step 100 of 300" in result.stderr
    assert "Nothing was saved" in result.stderr


def test_a_checkpoint_of_another_run_is_refused_in_one_line(run):
    result = call("demo", "--quick", "--seed", 1, "--out", run["folder"])
    assert result.exit_code == 2
    assert "belongs to another run" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert (run["folder"] / "index.html").exists()


def test_a_full_disk_leaves_whole_files_and_an_explanation(found, tmp_path, monkeypatch):
    fake(monkeypatch, found)
    replace = os.replace

    def full(source, target):
        if Path(target).name == "matrices.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    result = call("demo", "--quick", "--out", tmp_path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'matrices.npz'}: No space left on device" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]  # written before, whole; nothing in part
    json.loads((tmp_path / "report.json").read_text())


def test_a_folder_that_cannot_be_is_found_out_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(demonstrations, "demonstrate", lambda *_: pytest.fail("trained in vain"))
    (tmp_path / "file").write_text("in the way")
    result = call("demo", "--quick", "--out", tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


def test_the_traceback_is_there_for_who_asks(run, monkeypatch):
    monkeypatch.setenv("JAXDESCRAMBLE_DEBUG", "1")
    result = call("demo", "--quick", "--seed", 1, "--out", run["folder"])
    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("missing", ["matplotlib", "rich", "typer"])
def test_a_missing_extra_is_named(missing, found, tmp_path, monkeypatch, capsys):
    import_module = extras.importlib.import_module

    def without(name, *rest):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return import_module(name, *rest)

    monkeypatch.setattr(extras.importlib, "import_module", without)
    monkeypatch.setattr(demonstrations, "demonstrate", lambda *_: pytest.fail("trained in vain"))
    if missing == "typer":
        with pytest.raises(SystemExit) as stopped:
            commands.main()
        assert stopped.value.code == 2
        said = capsys.readouterr().err
    else:
        result = call("demo", "--quick", "--out", tmp_path)
        assert result.exit_code == 2
        said = result.stderr
    assert f"{missing}: pip install 'jaxdescramble[demo]'" in said
    assert len(said.splitlines()) == 1
    if missing == "matplotlib":
        with pytest.raises(ImportError, match=r"jaxdescramble\[demo\]"):
            write_report(found, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"report.json", "matrices.npz"}


def test_the_version_is_printed(monkeypatch):
    result = call("--version")
    assert result.exit_code == 0
    assert result.output.startswith("jaxdescramble 0.")


@pytest.mark.parametrize("arguments", [["demo", "--layers", "4"], ["demo", "--seed", "-1"], ["unheard-of"], []])
def test_wrong_arguments_are_refused(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.slow
def test_seeds_run_only_those_that_are_missing(run, found, tmp_path, monkeypatch):
    asked = []

    def demonstrate(settings, folder, progress):
        asked.append(settings.seed)
        return demonstrations.replace(found, settings=settings)

    monkeypatch.setattr(demonstrations, "demonstrate", demonstrate)
    for _ in range(2):
        result = call("seeds", "--quick", "--count", 2, "--out", tmp_path)
        assert result.exit_code == 0, result.output
    assert asked == [0, 1]
    assert result.output.count("already finished") == 2
    assert json.loads((tmp_path / "seeds.json").read_text())["seeds"] == [0, 1]
    assert (tmp_path / "seeds.md").read_text().startswith("# ")
    call("seeds", "--quick", "--count", 1, "--layers", 3, "--out", tmp_path)
    assert asked == [0, 1, 0]  # other settings are another run


def test_progress_on_a_terminal_shows_bars_and_ends_clean():
    import io

    from rich.console import Console

    screen = Console(file=io.StringIO(), force_terminal=True, width=100, highlight=False, markup=False)
    with terminal.Stages(screen) as stages:
        stages("training", 0, 300)
        stages("training", 300, 300)
        stages("training the null", 0, 100)
        stages("reading", 0, 1)
        stages("done", 1, 1)
    shown = screen.file.getvalue()
    assert "300/300" in shown
    assert "kept" in shown  # by the checkpoint: it was never trained
    assert stages.reached == ["training", "training the null", "reading", "done"]


def test_numbers_that_are_not_finite_are_null_in_json(found):
    readings = {"first": [demonstrations.replace(found.readings["first"][0], value=float("nan"))]}
    content = report.report(demonstrations.replace(found, readings=readings, findings=[]))
    assert content["readings"]["first"][0]["value"] is None
    json.dumps(content, allow_nan=False)
    assert "\N{EN DASH}" in page.page(content, [])


def test_settings_of_quick_and_full_runs_differ():
    assert report.settings_of(DemonstrationSettings.quick()) != report.settings_of(DemonstrationSettings())
    assert isinstance(report.settings_of(DemonstrationSettings())["plan"]["grid"], dict)
