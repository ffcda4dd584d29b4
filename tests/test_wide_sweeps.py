"""Sweeps with `rank=`: rectangular points through files, tables, the command line and a second run."""

import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.show.commands import build
from jaxdescramble.sweeps import Table
from jaxdescramble.sweeps.folder import events
from jaxdescramble.sweeps.problems import keys_of
from jaxdescramble.sweeps.specification import request

N, M, K = 7, 30, 3
LAYERS = {f"layer {k}": np.cumsum(np.random.default_rng(k).standard_normal((N, M)), axis=1) for k in range(2)}
LAYERS = {name: layer.astype(np.float32) for name, layer in LAYERS.items()} | {"narrow": np.eye(K, M, dtype=np.float32)}
WEIGHTS = np.arange(M) % 3.0


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two wide layers and a narrow one, in chunks of two."""
    out = tmp_path_factory.mktemp("wide")
    return jd.sweep(jd.grid(LAYERS, rank=K, weights=WEIGHTS), out, chunk_size=2).check()


def test_rows_are_what_one_call_finds(table):
    assert table["kept"].tolist() == [K, K, K]
    for row, (name, layer) in enumerate(LAYERS.items()):
        found = jd.descramble(layer, rank=None if name == "narrow" else K, weights=WEIGHTS)
        assert table.point(row).shape == (K, len(layer))
        np.testing.assert_allclose(table.point(row), found.point, atol=2e-6)
        for field in ("value", "initial_value", "left_out"):
            np.testing.assert_allclose(table[field][row], getattr(found, field), atol=1e-6)
    assert 0 < table["left_out"][0] < 1
    assert table["left_out"][2] == 0


def test_a_second_run_solves_nothing_and_another_rank_is_refused(table):
    again = jd.sweep(jd.grid(LAYERS, rank=K, weights=WEIGHTS), table.folder, chunk_size=2)
    assert sum(event["event"] == "chunk" for event in events(table.folder)) == 2
    np.testing.assert_array_equal(again.point(1), table.point(1))
    read = Table.load(table.folder)
    np.testing.assert_array_equal(read["left_out"], table["left_out"])
    assert [kind.get("rank") for kind in read.kinds()] == [K, None]
    with pytest.raises(ValueError, match="differs in: group, start, restarts or rank"):
        jd.sweep(jd.grid(LAYERS, rank=2, weights=WEIGHTS), table.folder, chunk_size=2)


@pytest.mark.thorough
def test_without_a_rank_the_table_has_no_new_columns(tmp_path):
    plain = jd.sweep(jd.grid({"a": LAYERS["layer 0"]}), tmp_path)
    assert not {"kept", "left_out"} & set(plain.columns)
    assert "rank" not in json.loads((tmp_path / "sweep.json").read_text())["kinds"][0]


@pytest.mark.thorough
def test_random_starts_are_rows_of_a_random_frame(tmp_path):
    sparse, quick, key = jd.objectives.sparsity(), jd.solvers.LBFGS(max_steps=20), jax.random.key(3)
    problems = jd.grid(LAYERS["layer 0"], sparse, quick, seeds=range(2), rank=K)
    found = jd.sweep(problems, tmp_path, key=key, chunk_size=2)
    for place in range(2):
        start = orthogonal.random_columns(keys_of(place, key)[0], N, K, dtype=np.float32).T
        alone = jd.descramble(LAYERS["layer 0"], sparse, quick, rank=K, start=start)
        np.testing.assert_allclose(found["value"][place], alone.value, atol=1e-5)
    assert found["value"][0] != found["value"][1]


@pytest.mark.thorough
def test_the_command_line_takes_a_rank(tmp_path):
    np.savez(tmp_path / "net.npz", **LAYERS)
    words = ["run", str(tmp_path / "net.npz"), "--out", str(tmp_path / "out"), "--rank", "2", "--no-figures"]
    said = CliRunner().invoke(build(), words)
    assert said.exit_code == 0, said.output
    assert Table.load(tmp_path / "out").point(0).shape == (2, N)
    assert "2 components kept" in (tmp_path / "out" / "index.html").read_text()


def test_a_specification_takes_a_rank(tmp_path):
    np.savez(tmp_path / "net.npz", **LAYERS)
    asked = request({"signals": {"files": ["net.npz"]}, "rank": 5}, tmp_path)
    assert {one.labels["layer"]: one.rank for one in asked.problems} == {"layer 0": 5, "layer 1": 5, "narrow": None}


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"rank": N + 1}, ValueError, f"problem 0 .*rank: got {N + 1}, but the signals have {N} features"),
        ({"rank": 2, "group": "permutation"}, ValueError, "takes no rank. Leave rank out"),
        ({"rank": 2, "start": np.eye(N)}, ValueError, r"expected \(rank, features\) = \(2, 7\)"),
        ({"rank": 2, "start": np.ones((2, N))}, ValueError, "rows are not orthonormal"),
    ],
)
def test_bad_problems_are_refused(options, kind, message, tmp_path):
    sparse = jd.objectives.sparsity()
    objective = jd.objectives.smoothness() if "group" in options else sparse
    with pytest.raises(kind, match=message):
        jd.sweep([jd.Problem(LAYERS["layer 0"], objective, **options)], tmp_path)


def test_grid_checks_the_rank():
    with pytest.raises(ValueError, match="rank: expected a positive integer, got 0"):
        jd.grid(LAYERS, rank=0)
