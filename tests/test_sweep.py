"""Sweeps: the same numbers as one problem at a time, on any number of devices, and nothing lost on bad days."""

import csv
import errno
import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jaxdescramble as jd
from jaxdescramble._base import files
from jaxdescramble.sweeps import Generated, Table
from jaxdescramble.sweeps import _chunks as chunks
from jaxdescramble.sweeps import _plan as plan
from jaxdescramble.sweeps import _program as program
from jaxdescramble.sweeps._identity import described, digest
from jaxdescramble.sweeps.folder import events

N, M = 6, 20
SIGNALS = np.cumsum(np.random.default_rng(0).standard_normal((10, N, M)), axis=1).astype(np.float32)
SMOOTH = {"one": jd.objectives.smoothness(order=1), "two": jd.objectives.smoothness(order=2)}


def mesh(count):
    return Mesh(np.array(jax.devices()[:count]), ("problems",))


def layers(count=10, **options):
    return jd.grid(SIGNALS[:count], SMOOTH["one"], **options)


def same(one, other):
    assert list(one.columns) == list(other.columns)
    for name in one.columns:
        np.testing.assert_array_equal(one[name], other[name], name)
    for row in range(len(one)):
        for name, array in one.arrays(row).items():
            assert array.tobytes() == other.arrays(row)[name].tobytes(), (row, name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted sweep of ten layers in chunks of three, on one device."""
    out = tmp_path_factory.mktemp("whole")
    return jd.sweep(layers(), out, mesh(1), chunk_size=3)


def solved_chunks(folder):
    """Numbers of the chunks that were solved, run by run: within one, a device takes what is read first."""
    runs = []
    for event in events(folder):
        if event["event"] == "begin":
            runs.append([])
        if event["event"] == "chunk":
            runs[-1].append(event["chunk"])
    return [sorted(run) for run in runs]


def test_a_sweep_finds_what_descramble_finds(tmp_path):
    signals = {"small": SIGNALS[0], "wide": SIGNALS[1, :, :14], "small again": SIGNALS[2]}
    problems = jd.grid(signals, SMOOTH)
    table = jd.sweep(problems, tmp_path, mesh(1)).check()
    assert table["layer"].tolist() == ["small", "small", "wide", "wide", "small again", "small again"]
    for row, problem in zip(table, problems, strict=True):
        alone = jd.descramble(problem.signals, problem.objective)
        for name in ("value", "initial_value", "bound", "rank", "status"):
            np.testing.assert_allclose(row[name], getattr(alone, name), rtol=2e-6, atol=1e-9, err_msg=name)
        assert (row["m"], row["dtype"]) == (problem.shape[1], "float32")
        P = table.point(row["problem"])
        np.testing.assert_allclose(problem.objective(P, problem.signals), alone.value, rtol=1e-5)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_any_number_of_devices_finds_the_same_to_the_last_bit(whole, tmp_path, count):
    table = jd.sweep(layers(), tmp_path, mesh(count), chunk_size=3)
    same(table, whole)
    used = {event["device"] for event in events(tmp_path) if event["event"] == "chunk"}
    assert len(used) > 1


COLLECTIVES = re.compile(r"all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast")


def compiled_text(objective, solver, **options):
    problems = [one.with_defaults() for one in jd.grid(SIGNALS[:4], objective, solver, **options)]
    planned = plan.planned(problems, jax.random.key(0), 2)
    operands, _ = program.arguments(planned.chunks[0], problems, jax.random.key(0))
    kind = planned.chunks[0].kind
    return program.run.lower(*jax.device_put(operands, jax.devices()[3]), **program.static(kind)).compile().as_text()


def test_no_device_ever_waits_for_another_one():
    solver = jd.solvers.GradientDescent(max_steps=5)
    text = compiled_text(jd.objectives.sparsity(), solver, seeds=range(2))
    assert " while(" in text
    assert not COLLECTIVES.search(text)
    # What the search would find where there is one:
    one_for_all = jax.shard_map(
        lambda x: jax.lax.psum(x, "problems"),
        mesh=mesh(2),
        in_specs=jax.P("problems"),
        out_specs=jax.P(),
    )
    assert COLLECTIVES.search(jax.jit(one_for_all).lower(jnp.ones(2)).compile().as_text())


def test_numbers_of_objective_and_solver_may_differ_within_one_program(tmp_path):
    widths = {"narrow": 0.1, "wide": 0.3}
    aims = {name: jd.objectives.sparsity("logcosh", epsilon=width) for name, width in widths.items()}
    ways = {f"{k} steps": jd.solvers.GradientDescent(max_steps=k) for k in (1, 3)}
    problems = jd.grid(SIGNALS[:2], aims, ways)
    before = program.run._cache_size()
    table = jd.sweep(problems, tmp_path, mesh(1), chunk_size=8)
    assert program.run._cache_size() == before + 1
    for row, problem in zip(table, problems, strict=True):
        alone = jd.descramble(problem.signals, problem.objective, problem.solver)
        np.testing.assert_allclose(row["value"], alone.value, rtol=1e-5)
        assert row["steps"] == int(row["solver"][0])


@pytest.mark.thorough
def test_chance_depends_on_the_place_in_the_list_and_the_key_alone(tmp_path, key):
    solver = jd.solvers.GradientDescent(max_steps=2)
    few = jd.grid(SIGNALS[:2], jd.objectives.sparsity("l4"), solver, seeds=range(2))
    one = jd.sweep(few, tmp_path / "few", mesh(1), key=key, chunk_size=3)
    more = jd.sweep(few + few[:1], tmp_path / "more", mesh(2), key=key, chunk_size=3)
    np.testing.assert_array_equal(one["value"], more["value"][:4])
    assert len(np.unique(one["value"])) == 4
    assert more["value"][4] != more["value"][0]
    other = jd.sweep(few, tmp_path / "other", mesh(1), key=jax.random.key(1), chunk_size=3)
    assert not (other["value"] == one["value"]).any()
    start = jd.Problem(few[0].signals, few[0].objective, solver, start=np.asarray(one.point(0)))
    with pytest.raises(ValueError, match=r"problem 0 .*random start. Give sweep\(\.\.\., key="):
        jd.sweep(few, tmp_path / "none")
    warm = jd.sweep([start], tmp_path / "warm", mesh(1))
    assert warm["value"][0] <= one["value"][0]


def test_what_is_there_is_not_solved_again(whole, tmp_path):
    jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    assert solved_chunks(tmp_path) == [[0, 1, 2, 3]]
    chunks.location(tmp_path, 2).unlink()
    table = Table.load(tmp_path)
    assert table["status"].tolist() == [0] * 6 + [-1] * 3 + [0]
    assert not table.done
    with pytest.raises(FloatingPointError, match=r"3 of 10 problems \(6, 7, 8\) have no result yet"):
        table.check()
    with pytest.raises(FileNotFoundError, match="problem 7 has no result yet"):
        table.point(7)
    again = jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    assert solved_chunks(tmp_path) == [[0, 1, 2, 3], [2]]
    same(again, whole)


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_emptied(path):
    path.write_bytes(b"")


def damage_flipped(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 4  # behind the 128 bytes of the header: in the first array's numbers
    path.write_bytes(content)


def damage_of_another_sweep(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    del arrays["header"]
    chunks.write(path, arrays, "0" * 64, dict.fromkeys(range(3, 6), ""), jax.devices()[0])


def damage_of_another_format(path):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["header"] = np.asarray(str(arrays["header"]).replace(f'"format": {chunks.FORMAT}', '"format": 9'))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (damage_truncated, "not a complete .npz file"),
        (damage_emptied, "not a complete .npz file"),
        (damage_flipped, "cannot read the array"),
        (damage_of_another_sweep, "results of another specification"),
        (damage_of_another_format, f"got format 9; this version reads format {chunks.FORMAT}"),
    ],
)
def test_damaged_files_are_named_and_made_anew(whole, tmp_path, damage, why):
    jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    path = chunks.location(tmp_path, 1)
    damage(path)
    assert Table.load(tmp_path)["status"].tolist() == [0] * 3 + [-1] * 3 + [0] * 4
    table = jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    (found,) = [event for event in events(tmp_path) if event["event"] == "damaged"]
    assert found["file"] == str(path)
    assert re.search(why, found["why"])
    assert solved_chunks(tmp_path) == [[0, 1, 2, 3], [1]]
    same(table, whole)


def test_no_byte_of_a_chunk_can_change_unnoticed(whole):
    path = chunks.location(whole.folder, 0)
    content, known = path.read_bytes(), whole._specification.digests[0]
    original = chunks.read(path, known)
    rng = np.random.default_rng(0)
    noticed = 0
    try:
        for place in rng.choice(len(content), 200, replace=False):
            changed = bytearray(content)
            changed[place] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            try:
                found = chunks.read(path, known)
            except chunks.DamagedError as error:
                noticed += str(path) in str(error)
                continue
            # A byte that means nothing, such as a date in the archive.
            assert all(found[name].tobytes() == original[name].tobytes() for name in original)
    finally:
        path.write_bytes(content)
    assert noticed > 120


class Killed(BaseException):
    """As good as a killed process: nothing catches it."""


@pytest.mark.parametrize("instant", range(12))
def test_whatever_the_instant_at_which_writing_ends_the_rest_is_whole(whole, tmp_path, monkeypatch, instant):
    import os

    calls = iter(range(1000))

    def dying(function):
        def call(*args, **kwargs):
            if next(calls) == instant:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", dying(os.fsync))
        patch.setattr(files.os, "replace", dying(os.replace))
        with pytest.raises(Killed):
            jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    there = sorted(int(path.stem) for path in tmp_path.glob("chunks/*/*.npz"))
    table = jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    same(table, whole)
    # What is on the disk is not solved again.
    assert solved_chunks(tmp_path)[-1] == [number for number in range(4) if number not in there]


def test_a_full_disk_is_said_and_costs_nothing_that_was_kept(whole, tmp_path, monkeypatch):
    write = chunks.write

    def full(path, *args):
        if len(list(tmp_path.glob("chunks/*/*.npz"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(chunks, "write", full)
        with pytest.raises(OSError, match="No space left on device") as stopped:
            jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
    assert re.match("[46-7] of 10 problems were solved and are kept", stopped.value.__notes__[0])
    assert events(tmp_path)[-1]["event"] == "failed"
    same(jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3), whole)
    assert sorted(itertools.chain(*solved_chunks(tmp_path))) == [0, 1, 2, 3]


def test_an_interruption_costs_no_finished_chunk(whole, tmp_path):
    def stop(stage, done, total):
        if stage == "solving" and done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jd.sweep(layers(), tmp_path, mesh(1), progress=stop, chunk_size=3)
    assert 0 < len(solved_chunks(tmp_path)[0]) < 5
    same(jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3), whole)
    assert sorted(itertools.chain(*solved_chunks(tmp_path))) == [0, 1, 2, 3]


CHANGES = {
    "a shape": (lambda: jd.grid(SIGNALS[:, :, :-1], SMOOTH["one"]), {}, "the shapes of the signals"),
    "the objective": (lambda: jd.grid(SIGNALS, SMOOTH["two"]), {}, "an objective"),
    "the group": (lambda: layers(group="SO"), {}, "group, start, restarts or rank"),
    "the chunk": (layers, {"chunk_size": 4}, "the chunk size"),
    "labels": (lambda: jd.grid({f"l{i}": S for i, S in enumerate(SIGNALS)}, SMOOTH["one"]), {}, "labels"),
    "the key": (layers, {"key": 7}, "the key"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_specification_reuses_nothing_and_touches_nothing(whole, change):
    problems, options, what = CHANGES[change]
    if "key" in options:
        options = {"key": jax.random.key(options["key"])}
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.folder.rglob("*.npz"))
    with pytest.raises(ValueError, match=rf"holds another sweep, which differs in: (.*, )?{what}"):
        jd.sweep(problems(), whole.folder, mesh(1), **{"chunk_size": 3, **options})
    assert before == sorted((path, path.stat().st_mtime_ns) for path in whole.folder.rglob("*.npz"))


def test_changed_signals_reuse_nothing_and_touch_nothing(whole):
    changed = SIGNALS.copy()
    changed[7, 0, 0] += 1e-6
    before = sorted((path, path.stat().st_mtime_ns) for path in whole.folder.rglob("*.npz") if "chunks" in str(path))
    with pytest.raises(ValueError, match=r"other signals: those of problem 7 \({'layer': 7}\) have changed"):
        jd.sweep(jd.grid(changed, SMOOTH["one"]), whole.folder, mesh(1), chunk_size=3)
    after = sorted((path, path.stat().st_mtime_ns) for path in whole.folder.rglob("*.npz") if "chunks" in str(path))
    assert before == after


def test_two_processes_do_not_get_in_each_others_way(whole, tmp_path):
    with pytest.raises(FileExistsError, match="resume is False"):
        jd.sweep(layers(), whole.folder, mesh(1), False, chunk_size=3)

    def intrude(stage, done, total):
        if stage == "solving" and done == 0:
            with pytest.raises(BlockingIOError, match="another process works on shard 0 of 1"):
                jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)
            intruded.append(stage)

    intruded = []
    jd.sweep(layers(), tmp_path, mesh(1), progress=intrude, chunk_size=3)
    assert intruded


def test_shards_make_the_whole(whole, tmp_path):
    first = jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3, shard=(0, 3))
    assert first["status"].tolist() == [0] * 3 + [-1] * 6 + [0]
    assert not (tmp_path / "table.csv").exists()
    jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3, shard=(1, 3))
    same(jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3, shard=(2, 3)), whole)
    assert (tmp_path / "table.csv").exists()
    assert {path.name for path in tmp_path.glob("log*")} == {f"log-{i}-of-3.jsonl" for i in range(3)}


def test_one_bad_problem_never_costs_the_good_ones_beside_it(whole, tmp_path):
    signals = SIGNALS.copy()
    signals[4, 0, 0], signals[7] = np.nan, 0
    table = jd.sweep(jd.grid(signals, SMOOTH["one"]), tmp_path, mesh(1), chunk_size=3)
    assert [jd.Status(code).name for code in table["status"][[4, 7]]] == ["NOT_FINITE", "ZERO_SIGNALS"]
    good = [row for row in range(10) if row not in (4, 7)]
    np.testing.assert_array_equal(table["value"][good], whole["value"][good])
    with pytest.raises(FloatingPointError, match=r"sweep: ZERO_SIGNALS in 1 of 10 problems \(7\)"):
        table.check()


def test_threads_know_which_types_are_on(tmp_path):
    wide = SIGNALS[:2].astype(np.float64)
    with jax.enable_x64(True):
        table = jd.sweep(jd.grid(wide), tmp_path / "wide", mesh(1))
        assert table.point(0).dtype == np.float64
    with jax.enable_x64(False):
        assert jd.sweep(jd.grid(SIGNALS[:2]), tmp_path / "narrow", mesh(1)).point(0).dtype == np.float32
        with pytest.raises(TypeError, match="got float64 while JAX's 64-bit types are off"):
            jd.sweep(jd.grid(wide), tmp_path / "refused", mesh(1))


def walk(seed, scale):
    return (scale * np.cumsum(np.random.default_rng(seed).standard_normal((N, M)), axis=0)).astype(np.float32)


def test_signals_may_be_made_when_they_are_needed(tmp_path):
    sources = {seed: Generated(walk, (seed, 2.0), (N, M)) for seed in range(3)}
    table = jd.sweep(jd.grid(sources), tmp_path, mesh(1))
    np.testing.assert_allclose(table["value"][2], jd.descramble(walk(2, 2.0)).value, rtol=1e-5)
    liar = [jd.Problem(Generated(walk, (0, 1.0), (N, M + 1)))]
    with pytest.raises(ValueError, match=r"got float32 \(6, 20\), announced were float32 \(6, 21\)") as refused:
        jd.sweep(liar, tmp_path / "liar", mesh(1))
    assert "problem 0" in "".join(refused.value.__notes__)


def test_points_may_be_left_out(whole, tmp_path):
    table = jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3, points=False)
    np.testing.assert_array_equal(table["value"], whole["value"])
    assert set(table.arrays(0)) == set(whole.arrays(0)) - {"point"}
    with pytest.raises(KeyError, match=r"'point' was not kept \(points=False\)"):
        table.point(0)
    with pytest.raises(ValueError, match="differs in: whether points are kept"):
        jd.sweep(layers(), tmp_path, mesh(1), chunk_size=3)


def test_the_table_is_written_in_every_format(whole, tmp_path):
    import pyarrow.parquet

    with np.load(whole.folder / "table.npz") as file:
        for name in whole.columns:
            np.testing.assert_array_equal(file[name], whole[name])
    with open(whole.folder / "table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == whole["value"].tolist()
    parquet = pyarrow.parquet.read_table(whole.folder / "table.parquet")
    assert parquet["value"].to_pylist() == whole["value"].tolist()
    part = whole.where(layer=3)
    part.save(tmp_path / "part.csv")
    assert len((tmp_path / "part.csv").read_text().splitlines()) == 2
    assert part.point(0).tobytes() == whole.point(3).tobytes()
    assert "10 problems, 10 solved, 0 to do" in repr(whole)
    with pytest.raises(ValueError, match=r"'.csv', '.npz', '.parquet'"):
        whole.save(tmp_path / "table.xlsx")
    with pytest.raises(KeyError, match="there are the columns problem, objective"):
        whole["loss"]
    with pytest.raises(IndexError, match="row 10: the table has 10"):
        whole.point(10)


BAD = {
    "nothing": (list, {}, ValueError, "problems: got an empty list"),
    "one problem": (lambda: layers()[0], {}, TypeError, r"must be a list of problems"),
    "signals in place of problems": (lambda: list(SIGNALS), {}, TypeError, r"problems\[0\]: got ndarray"),
    "half precision": (lambda: jd.grid(SIGNALS.astype(np.float16)), {}, TypeError, r"problem 0 .*float16, in which"),
    "bfloat16": (
        lambda: [*layers(1), jd.Problem(jnp.asarray(SIGNALS[0], jnp.bfloat16))],
        {},
        TypeError,
        r"problem 1 .*bfloat16, in which orthogonality",
    ),
    "integers": (lambda: [jd.Problem(np.ones((3, 4), int))], {}, TypeError, "signals: got int64"),
    "a vector": (lambda: [jd.Problem(np.ones(3))], {}, ValueError, r"signals: shape \(3,\); expected"),
    "no samples": (lambda: [jd.Problem(np.ones((3, 0)))], {}, ValueError, "both at least 1"),
    "an objective that does not fit": (
        lambda: [*layers(2), *jd.grid(SIGNALS[:1], jd.objectives.smoothness(shape=(2, 2)))],
        {},
        ValueError,
        r"problem 2 \({'layer': 0}\): .*4 points, the signals have 6",
    ),
    "a start for a closed form": (lambda: layers(seeds=range(2)), {}, TypeError, "ClosedForm does not iterate"),
    "an unknown start": (
        lambda: [jd.Problem(SIGNALS[0], jd.objectives.sparsity(), start="haar")],
        {},
        ValueError,
        "start: got 'haar'; choose one of 'random'",
    ),
    "a label that is a list": (lambda: [jd.Problem(SIGNALS[0], labels={"a": [1]})], {}, TypeError, r"labels\['a'\]"),
    "minus one restarts": (lambda: [jd.Problem(SIGNALS[0], restarts=-1)], {}, ValueError, "restarts: expected"),
    "a chunk of none": (layers, {"chunk_size": 0}, ValueError, "chunk_size: expected a positive integer"),
    "a shard that is not": (layers, {"shard": (3, 3)}, ValueError, r"shard: got \(3, 3\)"),
    "a shard that is text": (layers, {"shard": "1/3"}, TypeError, "shard: got '1/3'"),
    "a list as a mesh": (layers, {"mesh": [0]}, TypeError, "mesh: got list"),
    "no seeds": (lambda: layers(seeds=[]), {}, ValueError, "grid: one of"),
    "a list of objectives": (lambda: jd.grid(SIGNALS, [SMOOTH["one"]]), {}, TypeError, "objectives: got a list; give"),
    "an objective that is unknowable": (
        lambda: [jd.Problem(SIGNALS[0], jd.objectives.from_function(walk, what=object(), static="what"))],
        {},
        TypeError,
        "problem 0, objective: .* has no description",
    ),
}


@pytest.mark.every_case
@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_named_before_anything_is_solved(tmp_path, case):
    make, options, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        jd.sweep(make(), tmp_path / "out", **options)
    assert not list(tmp_path.rglob("*.npz"))


def test_a_folder_without_a_sweep_says_so(whole, tmp_path):
    with pytest.raises(FileNotFoundError, match="this folder holds no sweep"):
        Table.load(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="The chunks are still complete"):
        Table.load(tmp_path)
    manifest = json.loads((whole.folder / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**manifest, "format": 5}))
    with pytest.raises(ValueError, match="got format 5; this version reads format 1"):
        Table.load(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps(manifest))
    (tmp_path / "problems.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"problems.npz: cannot be read .* Run the sweep into this folder again"):
        Table.load(tmp_path)


def powered(power):
    class Powered(jd.Objective):
        def value(self, point, summary):
            return jnp.mean((point @ summary.signals) ** power)

    return Powered()


def test_a_value_is_described_by_what_it_computes():
    def scaled(factor):
        return lambda x: factor * x

    assert digest(scaled(2.0)) == digest(scaled(2.0)) != digest(scaled(3.0))
    assert digest(jd.objectives.smoothness()) == digest(jd.objectives.smoothness()) != digest(SMOOTH["one"])
    assert digest(powered(2)) == digest(powered(2)) != digest(powered(4))
    assert digest(jd.solvers.LBFGS(max_steps=3)) != digest(jd.solvers.LBFGS(max_steps=4))
    assert digest(np.float32(1)) != digest(np.float64(1))
    assert digest(np.zeros((2, 3))) != digest(np.zeros((3, 2)))
    assert described(walk)[1].endswith("test_sweep.walk")
    loop: list = []
    loop.append(loop)
    assert json.dumps(described(loop))
    with pytest.raises(TypeError, match="has no description"):
        described(object())
    with pytest.raises(TypeError, match="array of Python objects"):
        described(np.array([object()]))


def test_chunks_are_planned_from_the_problems_alone():
    problems = [one.with_defaults() for one in jd.grid(SIGNALS, SMOOTH)]
    planned = plan.planned(problems, None, None)
    assert [len(one.places) for one in planned.chunks] == [10, 10]
    assert planned.chunks[0].places == tuple(range(0, 20, 2))
    sizes = [len(one.places) for one in plan.planned(problems, None, 4).chunks]
    assert sizes == [4, 4, 2, 4, 4, 2]
    again = plan.planned([one.with_defaults() for one in jd.grid(SIGNALS.copy(), dict(SMOOTH))], None, None)
    assert again.identity == planned.identity
    assert plan.planned(problems, jax.random.key(0), None).identity != planned.identity
