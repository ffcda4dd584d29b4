"""Chunk sizes of iterative solvers: measured by the first process, kept in the folder, the same for all that follow."""

import json

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import jaxdescramble as jd
from jaxdescramble.sweeps import _plan as plan
from jaxdescramble.sweeps import _sizes as sizes
from jaxdescramble.sweeps.folder import events

SIGNALS = np.cumsum(np.random.default_rng(0).standard_normal((6, 5, 20)), axis=1).astype(np.float32)
BRIEF = jd.solvers.GradientDescent(max_steps=1)
SPARSE = jd.objectives.sparsity("l4")


def mesh():
    return Mesh(np.array(jax.devices()[:1]), ("problems",))


def problems(objective=SPARSE):
    return jd.grid(SIGNALS, objective, BRIEF)


def draft_of(problems, size=None):
    return plan.drafted([one.with_defaults() for one in problems], None, size)


def a_machine_of(monkeypatch, seconds):
    """Make every iterative kind worth measuring, and every measurement come out so."""
    monkeypatch.setattr(sizes, "WORK", 0)
    monkeypatch.setattr(sizes, "_seconds", lambda *_: seconds)


def no_machine(monkeypatch):
    def measure(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(sizes, "_seconds", measure)


@pytest.fixture(scope="module")
def by_twos(tmp_path_factory):
    """The sweep with chunks of two, asked for by number."""
    return jd.sweep(problems(), tmp_path_factory.mktemp("twos"), mesh(), chunk_size=2)


def same(one, other):
    for name in one.columns:
        np.testing.assert_array_equal(one[name], other[name], name)
    for row in range(len(one)):
        assert one.point(row).tobytes() == other.point(row).tobytes(), row


@pytest.mark.thorough
def test_the_first_process_measures_and_faster_ones_follow(by_twos, tmp_path, monkeypatch):
    a_machine_of(monkeypatch, 0.9)  # two problems in two seconds
    stages = []
    jd.sweep(problems(), tmp_path, mesh(), progress=lambda *stage: stages.append(stage), shard=(0, 2))
    assert ("measuring", 1, 1) in stages
    kept = json.loads((tmp_path / "sizes.json").read_text())
    assert (kept["sizes"], kept["seconds"]) == ([2], [0.9])
    a_machine_of(monkeypatch, 0.001)
    table = jd.sweep(problems(), tmp_path, mesh(), shard=(1, 2))
    assert table.done
    assert table.kinds()[0]["chunk"] == 2
    same(table, by_twos)
    # Another run finds everything there, and so does one to which only sweep.json is left.
    no_machine(monkeypatch)
    (tmp_path / "sizes.json").unlink()
    jd.sweep(problems(), tmp_path, mesh())
    assert len([event for event in events(tmp_path) if event["event"] == "chunk"]) == 3


def test_a_folder_made_with_a_number_goes_on_without_it(by_twos, monkeypatch):
    monkeypatch.setattr(sizes, "WORK", 0)
    no_machine(monkeypatch)
    same(jd.sweep(problems(), by_twos.folder, mesh()), by_twos)


def test_another_sweep_is_refused_before_anything_is_measured(by_twos, monkeypatch):
    monkeypatch.setattr(sizes, "WORK", 0)
    no_machine(monkeypatch)
    with pytest.raises(ValueError, match="holds another sweep, which differs in: an objective"):
        jd.sweep(problems(jd.objectives.sparsity("l1")), by_twos.folder, mesh())
    with pytest.raises(FileExistsError, match="resume is False"):
        jd.sweep(problems(), by_twos.folder, mesh(), False)


def test_of_two_processes_the_first_one_decides(tmp_path):
    draft, other = draft_of(problems()), draft_of(problems(jd.objectives.sparsity("l1")))
    assert sizes.recorded(tmp_path, draft) is None
    assert sizes.record(tmp_path, draft, [2], {0: 0.9}) == [2]
    assert sizes.record(tmp_path, draft, [5], {0: 0.4}) == [2]
    assert sizes.recorded(tmp_path, other) is None
    # What another sweep left, which never began, is in nobody's way; nor is half a file.
    assert sizes.record(tmp_path, other, [3], {0: 0.6}) == [3]
    (tmp_path / "sizes.json").write_text('{"format": 1, "sizes"')
    assert sizes.recorded(tmp_path, other) is None
    assert sizes.record(tmp_path, other, [4], {0: 0.5}) == [4]
    assert [path.name for path in tmp_path.iterdir()] == ["sizes.json"]


def test_a_problem_that_takes_longer_is_a_chunk_alone_and_is_not_solved_twice(tmp_path, monkeypatch):
    few = jd.grid(SIGNALS[:3], SPARSE, BRIEF)
    expected = jd.sweep(few, tmp_path / "expected", mesh(), chunk_size=1)
    monkeypatch.setattr(sizes, "WORK", 0)
    finished = sizes.program.finished

    def too_long(found, stop, limit=np.inf):
        return limit == np.inf and finished(found, stop)

    monkeypatch.setattr(sizes.program, "finished", too_long)
    table = jd.sweep(few, tmp_path / "out", mesh())
    assert table.kinds()[0]["chunk"] == 1
    same(table, expected)
    taken_over = [event["chunk"] for event in events(tmp_path / "out") if event.get("compiling") == 0]
    assert taken_over == [0]


def test_a_real_measurement_takes_the_slowest_of_three(tmp_path, monkeypatch):
    slow = jd.grid(SIGNALS, SPARSE, BRIEF)
    draft, solved = draft_of(slow), []
    monkeypatch.setattr(sizes, "WORK", 0)
    settled = [one.with_defaults() for one in slow]
    arguments = sizes.program.arguments
    monkeypatch.setattr(
        sizes.program, "arguments", lambda chunk, *rest: solved.append(chunk.places) or arguments(chunk, *rest)
    )
    found, seconds, begun = sizes.measured(draft, [0], settled, None, jax.devices()[0], lambda *_: None)
    assert 0 < seconds[0] < 60
    if seconds[0] < 0.5:  # else the machine was so slow that one was enough
        assert solved == [(0,), (3,), (5,)]
        assert not begun
    assert 1 <= found[0] <= 6


MANY = np.ones((50, 64, 256), np.float32)
ITERATIVE = {
    "a closed form": (jd.grid(MANY), False),
    "a few small problems": (problems(), False),
    "one problem": (jd.grid(MANY[:1], SPARSE), False),
    "many problems": (jd.grid(MANY, SPARSE), True),
    "many, of few steps": (jd.grid(MANY, SPARSE, BRIEF), False),
    "a solver that tells no number of steps": (
        jd.grid(SIGNALS, SPARSE, jd.solvers.Chain((BRIEF, jd.solvers.LBFGS()))),
        True,
    ),
    "a solver that takes every step": (
        jd.grid(SIGNALS, SPARSE, jd.solvers.Optax(optax.sgd(0.1), max_steps=100_000)),
        True,
    ),
    "permutations": (jd.grid(MANY, SPARSE, group="permutation"), True),
}


@pytest.mark.parametrize("case", ITERATIVE)
def test_what_is_measured(case):
    asked, wanted = ITERATIVE[case]
    settled = [one.with_defaults() for one in asked]
    assert bool(sizes.unknown(plan.drafted(settled, None, None), settled)) == wanted
