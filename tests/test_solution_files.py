"""Files of solutions whose points are pytrees: the structure and JAX arrays come back, and old files are read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import Solution
from jaxdescramble._base import results
from jaxdescramble.solvers.solution import History

ONE, EYE = jnp.asarray(1.0), jnp.arange(4.0).reshape(2, 2)
POINTS = {
    "tuple": (EYE, ONE),
    "nested": {"a": [EYE, (2 * EYE, None)], "b": {"0": 1j * EYE, "c/d": jnp.arange(3)}},
    "list": [EYE],
    "array": EYE,
}


def solution(point, history=None):
    return Solution(point, ONE, 2 * ONE, jnp.asarray(3), jnp.asarray(0), jnp.asarray(5), history)


@pytest.mark.every_case
@pytest.mark.parametrize("name", POINTS)
def test_what_was_saved_is_read(name, tmp_path):
    point = POINTS[name]
    solution(point, History(jnp.ones(2), jnp.zeros(2))).save(tmp_path / "found.npz")
    found = Solution.load(tmp_path / "found.npz")
    assert jax.tree.structure(found.point) == jax.tree.structure(point)
    for one, other in zip(jax.tree.leaves(found.point), jax.tree.leaves(point), strict=True):
        assert isinstance(one, jax.Array)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert float(found.gradient_norm) == 2
    np.testing.assert_array_equal(found.history.value, np.ones(2))


def test_files_of_arrays_and_dicts_are_those_of_before(tmp_path):
    """An array is stored as before; a file of a dict without a structure, as versions before wrote it, is read."""
    found = solution(EYE)
    found.save(tmp_path / "found.npz")
    results.write(tmp_path / "before.npz", found, "Solution")
    assert np.load(tmp_path / "found.npz").files == np.load(tmp_path / "before.npz").files
    header = json.loads(str(np.load(tmp_path / "found.npz")["header"]))
    assert header["format"] == 1
    assert "structure" not in header["plain"]
    results.write(tmp_path / "before.npz", solution({"turn": EYE, "more": {"shift": ONE}}), "Solution")
    read = Solution.load(tmp_path / "before.npz")
    assert isinstance(read.point["turn"], jax.Array)
    np.testing.assert_array_equal(read.point["turn"], EYE)
    assert read.point["more"]["shift"] == 1


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("point", "message"),
    [
        ({1: EYE}, "a dict with the key 1; keys must be text"),
        ([History(EYE, EYE)], "cannot save a History, only tuples"),
        ({"a/b": EYE, "a": {"b": EYE}}, "two entries have the name 'a/b'"),
    ],
)
def test_points_that_files_cannot_hold_are_refused(point, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        solution(point).save(tmp_path / "found.npz")
    assert not (tmp_path / "found.npz").exists()
