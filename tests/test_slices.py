"""Solves outside `jit`: the same points in slices of any length, progress, deadlines, Ctrl-C with the best so far."""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.solvers import _slices as slices
from jaxdescramble.solvers import solve

N = 10
OBJECTIVE = jd.objectives.total_variation(boundary="neumann")
SIGNALS = jnp.asarray(np.random.default_rng(0).normal(size=(N, 60))).cumsum(axis=0)
SUMMARY = OBJECTIVE.summarise(SIGNALS)
KEY = jax.random.key(0)
SHORT = jd.solvers.LBFGS(max_steps=30, preconditioner=None)
SOLVERS = {
    "alone": SHORT,
    "restarts": jd.solvers.Restarts(SHORT, 2, key=KEY),
    "continuation": jd.solvers.Continuation(SHORT, (10.0,)),
    "progressive": jd.solvers.Progressive(SHORT, SHORT, steps=(2,)),
    "chain": jd.solvers.Chain((SHORT, SHORT)),
    "sources": jd.solvers.FromSources(SHORT, 2, SHORT, key=KEY),
    "minibatches": jd.solvers.Minibatches(optax.sgd(1e-3), 20, max_steps=30, key=jax.random.split(KEY)[0]),
}


@pytest.fixture
def one_step_slices(monkeypatch):
    monkeypatch.setattr(slices, "SECONDS", 1e-9)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_length_of_the_slices_makes_no_difference(name, monkeypatch):
    heard = []
    found = jd.minimise(OBJECTIVE, jnp.eye(N), SUMMARY, solver=SOLVERS[name])
    monkeypatch.setattr(slices, "SECONDS", 1e-9)
    again = jd.minimise(
        OBJECTIVE, jnp.eye(N), SUMMARY, solver=SOLVERS[name], progress=lambda *news: heard.append(news), max_seconds=600
    )
    np.testing.assert_array_equal(found.point, again.point)
    assert (int(found.steps), float(found.value)) == (int(again.steps), float(again.value))
    assert int(found.classes) == 2
    assert len(heard) > 5
    assert all(isinstance(stage, str) and 0 <= done <= total for stage, done, total in heard)


@pytest.mark.thorough
def test_a_batch_and_a_list_are_sliced_as_their_members_are(one_step_slices):
    batch = jnp.stack([SIGNALS, SIGNALS[::-1], SIGNALS**2])
    together = jd.descramble(batch, OBJECTIVE, SHORT)
    listed = jd.descramble([*batch, SIGNALS[:6]], OBJECTIVE, SHORT)
    for k in range(3):
        alone = jd.descramble(batch[k], OBJECTIVE, SHORT)
        np.testing.assert_allclose(together.point[k], alone.point, rtol=0, atol=1e-9)
        np.testing.assert_allclose(listed[k].value, alone.value, rtol=1e-9)
    compiled = jax.jit(lambda S: jd.descramble(S, OBJECTIVE, SHORT).value)(batch)
    np.testing.assert_allclose(together.value, compiled, rtol=1e-7)  # one program rounds differently from several


def test_a_deadline_leaves_the_best_point_so_far_and_one_can_go_on(one_step_slices):
    def slow(point, signals):
        jax.debug.callback(lambda: time.sleep(0.02))
        return OBJECTIVE(point, signals)

    solver = jd.solvers.LBFGS(preconditioner=None)
    one = jd.solvers.LBFGS(preconditioner=None, max_steps=1)
    jd.minimise(slow, jnp.eye(N), SUMMARY, solver=one, group="SO")  # the same programs, compiled
    began = time.monotonic()
    found = jd.minimise(slow, jnp.eye(N), SUMMARY, solver=solver, max_seconds=1, group="SO")
    assert time.monotonic() - began < 3
    assert found.status.item() == Status.TIME_SPENT
    assert int(found.steps) > 0
    assert float(found.value) < float(OBJECTIVE(jnp.eye(N), SUMMARY))
    with pytest.raises(FloatingPointError, match="max_seconds passed"):
        found.check()
    onward = jd.minimise(OBJECTIVE, found.point, SUMMARY, solver=SHORT, group="SO")
    assert float(onward.value) < float(found.value)


def press_ctrl_c_after(seconds):
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def wandering(point, signals):
    """No solver is done with this one soon: a valley that bends with the values' last digits."""
    steps = jnp.diff(point @ signals, axis=0)
    return jnp.sum(jnp.sqrt(steps**2 + 1e-12))


def interrupted(call):
    """What Ctrl-C brings out of a call that would take for ever, and how long that takes."""
    started = []
    adam = jd.solvers.Optax(optax.adam(1e-4), max_steps=10**8, tolerance=0.0)

    def once(*news):
        if not started:
            started.append(time.monotonic())
            press_ctrl_c_after(0.2)

    with pytest.raises(KeyboardInterrupt) as caught:
        call(adam, once)
    return caught.value, time.monotonic() - started[0] - 0.2


def test_ctrl_c_brings_the_best_point_so_far_within_a_second():
    error, seconds = interrupted(
        lambda solver, progress: jd.minimise(wandering, jnp.eye(N), SIGNALS, solver=solver, progress=progress)
    )
    found = error.result
    assert isinstance(error, jd.Interrupted)
    assert seconds < 1.5  # on a machine that does other things too
    assert found.status.item() == Status.INTERRUPTED
    assert int(found.steps) > 0
    np.testing.assert_allclose(found.point @ found.point.T, jnp.eye(N), atol=1e-10)
    with pytest.raises(FloatingPointError, match="interrupted"):
        found.check()


def test_ctrl_c_in_descramble_keeps_what_is_finished():
    error, seconds = interrupted(
        lambda solver, progress: jd.descramble([SIGNALS, SIGNALS[:6]], OBJECTIVE, solver, progress=progress)
    )
    first, second = error.result
    assert seconds < 1.5
    assert isinstance(first, jd.Descrambling)
    assert first.status.item() == Status.INTERRUPTED
    assert float(first.value) <= float(first.initial_value)
    assert second is None


def test_ctrl_c_in_restarts_keeps_the_best_of_them():
    error, _ = interrupted(
        lambda solver, progress: jd.minimise(
            OBJECTIVE, jnp.eye(N), SUMMARY, solver=jd.solvers.Restarts(solver, 2, key=KEY), progress=progress
        )
    )
    assert float(error.result.value) <= float(OBJECTIVE(jnp.eye(N), SUMMARY))


def test_ctrl_c_while_a_later_program_is_compiled_keeps_the_answers_before(monkeypatch):
    begin = slices._Slices.begin
    first = jd.minimise(OBJECTIVE, jnp.eye(N), SUMMARY, solver=SHORT, group="SO")
    solver = jd.solvers.Chain((SHORT, jd.solvers.LBFGS()))

    def interrupted_at(call):
        opened = []

        def pressed(group, start):
            opened.append(start)
            if len(opened) == call:
                raise KeyboardInterrupt
            return begin(group, start)

        monkeypatch.setattr(slices._Slices, "begin", pressed)
        with pytest.raises(KeyboardInterrupt) as caught:
            jd.minimise(OBJECTIVE, jnp.eye(N), SUMMARY, solver=solver, group="SO")
        return caught.value

    found = interrupted_at(2).result
    assert found.status.item() == Status.INTERRUPTED
    np.testing.assert_allclose(found.point, first.point)
    assert not isinstance(interrupted_at(1), jd.Interrupted)  # nothing was computed before


def test_inside_jit_nobody_can_follow():
    def inside(S):
        return jd.minimise(wandering, jnp.eye(N), S, solver=SHORT, progress=print).value

    with pytest.raises(TypeError, match=r"progress: minimise runs inside jit"):
        jax.jit(inside)(SIGNALS)
    with pytest.raises(TypeError, match=r"max_seconds: descramble runs inside jit"):
        jax.vmap(lambda S: jd.descramble(S, OBJECTIVE, SHORT, max_seconds=1.0).value)(SIGNALS[None])


def test_a_combinator_of_the_users_own_may_vmap_solves():
    @jax.tree_util.register_static
    class Twice:
        def run(self, function, start, args, report):
            starts = jnp.stack([start, start])
            found = jax.vmap(lambda one: solve.solve(function, one, args, SHORT, report))(starts)
            return jax.tree.map(lambda leaf: leaf[0], found)

    found = jd.minimise(OBJECTIVE, jnp.eye(N), SUMMARY, solver=Twice(), group="SO")
    alone = jd.minimise(OBJECTIVE, jnp.eye(N), SUMMARY, solver=SHORT, group="SO")
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-6)
