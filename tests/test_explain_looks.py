"""The arithmetic of `explain`: each short cut gives what its definition gives."""

import threading

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.findings.explanations import _linear, draws, looks
from jaxdescramble.findings.explanations._workers import Workers, sharing
from jaxdescramble.findings.explanations.axes import free_axis
from jaxdescramble.findings.explanations.preparing import inputs_of
from jaxdescramble.findings.explanations.readings import READINGS, fitting
from jaxdescramble.operators import derivative
from jaxdescramble.solvers.watch import Watch

AXES = {
    "line": derivative(12, boundary="neumann"),
    "circle": derivative(13),
    "torus": derivative((6, 6)),
    "long": derivative(40),
}


@pytest.mark.parametrize("name", AXES)
@pytest.mark.parametrize("columns", [5, 90])
def test_frames_are_read_on_the_other_half_as_defined(name, columns):
    axis, rng = free_axis(AXES[name]), np.random.default_rng(0)
    scale = 1.2 ** -np.arange(axis.size)  # energies without ties
    halves = [scale[:, None] * rng.normal(size=(axis.size, columns)) for _ in range(2)]
    found = looks.frames_of([jnp.asarray(one) for one in halves], axis)
    runs = axis.runs
    for fit, other in ((0, 1), (1, 0)):
        energies, directions = (np.asarray(one[fit]) for one in (found.fit.energies, found.fit.directions))
        strong = energies > 1e-9 * energies[0]  # the others are arbitrary
        held_out = np.sum((directions.T @ halves[other]) ** 2, axis=1)
        np.testing.assert_allclose(found.held_out[fit][strong], held_out[strong], rtol=1e-6)
        overlap = (directions.T @ np.asarray(found.fit.directions[other])) ** 2
        agreed = [sum(overlap[k, j] for j in range(axis.size) if runs[j] == runs[k]) for k in range(axis.size)]
        np.testing.assert_allclose(found.agreement[fit], energies @ agreed / energies.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", AXES)
def test_sums_by_run_are_those_of_a_loop(name):
    axis = free_axis(AXES[name])
    for runs in (axis.runs, axis.bins):
        for size in (axis.size, axis.size - 3):
            values = np.random.default_rng(1).normal(size=(size, 4))
            wanted = [values[runs[:size] == run].sum(axis=0) for run in range(int(runs[size - 1]) + 1)]
            np.testing.assert_allclose(looks.by_run(jnp.asarray(values), runs), wanted, atol=1e-12)


@pytest.mark.every_case
@pytest.mark.parametrize("rows", [1, 381, 382, 385])
def test_a_gram_matrix_in_blocks_is_the_product(rows):
    factor = np.random.default_rng(2).normal(size=(rows, 7))
    np.testing.assert_allclose(looks.gram_of(jnp.asarray(factor)), factor @ factor.T, atol=1e-12)


@pytest.mark.every_case
@pytest.mark.parametrize("smallest", [1.0, 1e-3, 0.0])
def test_a_thin_factor_keeps_weak_directions(smallest):
    """Half of the singular values are small, and the signals lie only there."""
    rng, values = np.random.default_rng(3), np.repeat([1.0, smallest], 10)
    left, right = (np.linalg.qr(rng.normal(size=shape))[0] for shape in ((60, 20), (20, 20)))
    weight = (left * values) @ right.T
    R = looks.thin(jnp.asarray(weight, jnp.float32))
    assert R.shape == (20, 20)
    signals = right[:, 10:] @ rng.normal(size=(10, 30))
    wanted, got = (np.linalg.svd(one @ signals, compute_uv=False) for one in (weight, np.asarray(R, np.float64)))
    np.testing.assert_allclose(got, wanted[:20], rtol=2e-3, atol=1e-5)


def test_weights_read_side_by_side_give_what_each_gives_alone():
    keys = jax.random.split(jax.random.key(6), 2)
    stack, X = jax.random.normal(keys[0], (3, 8, draws.WIDE)), jax.random.normal(keys[1], (draws.WIDE, 60))
    output, into = free_axis(derivative(8)), free_axis(derivative(draws.WIDE))
    inputs = inputs_of(np.asarray(X), [np.arange(30), np.arange(30, 60)], np.ones(60), into)
    singular = jax.vmap(looks.singular_values)(stack)
    about = (fitting(READINGS, output, into), (8, draws.WIDE), output, into)
    together = draws.read_stack(stack, singular, jnp.asarray(3), inputs, *about)
    for k in range(3):
        rolled = jnp.roll(stack, -k, axis=0), jnp.roll(singular, -k, axis=0)
        alone = draws.read_stack(*rolled, jnp.asarray(1), inputs, *about)
        np.testing.assert_allclose(alone[0], together[k], rtol=1e-6)
        assert not np.any(alone[1:])  # the others were not read


def test_a_thin_factor_is_compiled_once():
    weight = jnp.asarray(np.random.default_rng(4).normal(size=(31, 17)), jnp.float32)
    other = weight + 1
    looks.thin(weight)
    before = conftest.programs
    looks.thin(other)
    assert conftest.programs == before


def test_groups_of_work_begin_with_the_longest_and_keep_the_order():
    assert sharing([3, 1, 3, 2]) == [[0, 2], [1], [3]]
    began, heard, lock = [], [], threading.Lock()

    def task(group):
        with lock:
            began.append(group)
        return [10 * k for k in group]

    with Workers(Watch()) as workers:
        found = workers.run_together([[0, 2], [1], [3]], task, [1, 7, 3], heard.append)
    assert (found, began[0], heard) == ([0, 10, 20, 30], [1], [1, 2, 4])


def test_pictures_are_drawn_without_a_cpu_backend(monkeypatch):
    """With JAX_PLATFORMS=cuda, JAX has no CPU."""

    def none(backend=None):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", none)
    assert _linear.singular_values(np.diag([1.0, 3.0])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_waves_do_not_depend_on_the_units_of_the_signals(size):
    keys = jax.random.split(jax.random.key(5), 2)
    W = np.asarray(jax.random.normal(keys[0], (6, 8)), np.float32)
    X = np.asarray(jax.random.normal(keys[1], (8, 40)), np.float32)
    one, other = (jd.explain({"a": (W, unit * X)}, draws=19).layers["a"] for unit in (1.0, np.float32(size)))
    np.testing.assert_allclose([wave.energy for wave in one.waves], [wave.energy for wave in other.waves], rtol=1e-3)
    np.testing.assert_allclose(one.mean_energy, other.mean_energy, rtol=1e-3)
