"""How failures are told: the right cause, every kind of failure, by the names of those that failed."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import objectives, solvers
from jaxdescramble._base.status import Status, check_status

SIGNALS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 20)))


def test_every_kind_of_failure_is_told():
    batch = jnp.stack([SIGNALS, SIGNALS * jnp.nan, jnp.zeros_like(SIGNALS), SIGNALS])
    with pytest.raises(FloatingPointError) as caught:
        jd.descramble(batch).check()
    message = str(caught.value)
    assert "NOT_FINITE in problems [[1]] of (4,)" in message
    assert "ZERO_SIGNALS in problems [[2]] of (4,)" in message
    assert check_status(np.asarray([0, 1, 4]), "descramble") is None


def test_the_samples_that_are_finite_are_found_as_the_message_says():
    batch = jnp.stack([SIGNALS, SIGNALS.at[:, 3].set(jnp.nan)])
    with pytest.raises(FloatingPointError, match=r"isfinite\(signals\)\.all\(axis=-2\)"):
        jd.descramble(batch).check()
    finite = jnp.isfinite(batch).all(axis=-2)
    assert finite.shape == (2, 20)
    assert np.argwhere(~finite).tolist() == [[1, 3]]
    jd.descramble(batch, weights=finite.astype(batch.dtype)).check()


def test_the_samples_of_a_network_that_are_finite_are_found_as_the_message_says():
    def f(params, x):
        return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"])

    params = {"a": jnp.eye(4), "b": jnp.eye(4)[:, :3]}
    x = SIGNALS.T.at[3, 1].set(jnp.nan)
    said = r"input x of the network.*weights=finite.*isfinite\(x\)\.all\(axis=tuple\(range\(1, x\.ndim\)\)\)"
    with pytest.raises(FloatingPointError, match=said):
        jd.descramble_network(f, params, x).check()
    finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    assert np.flatnonzero(~finite).tolist() == [3]
    jd.descramble_network(f, params, x, weights=finite).check()


def test_spent_steps_are_counted_and_the_closed_form_is_named():
    objective, quick = objectives.total_variation(boundary="neumann"), solvers.LBFGS(max_steps=3)
    batch = jnp.stack([SIGNALS, jnp.zeros_like(SIGNALS), -SIGNALS])
    with pytest.raises(FloatingPointError) as caught:
        jd.descramble(batch, objective, quick).check()
    assert "STEPS_SPENT in problems [[0], [2]] of (3,) after 3 steps: the solver took" in str(caught.value)
    assert "max_steps=100_000" in str(caught.value)
    assert "smoothness, needs no steps: leave the solver out" in str(caught.value)

    def f(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    layers = jd.descramble_network(f, {"a": jnp.eye(4), "b": jnp.eye(4)}, SIGNALS.T, objective, quick)
    with pytest.raises(FloatingPointError, match=r"STEPS_SPENT in \['a'\] \(output side\).* after 3 steps"):
        layers.check()


def test_minimise_looks_for_the_fault_in_the_function():
    with pytest.raises(FloatingPointError, match=r"the function or its gradient is NaN"):
        jd.minimise(lambda P: jnp.sqrt(jnp.sum(P) - 100.0), jnp.eye(3)).check()


def test_a_list_of_results_checks_all_of_them():
    found = jd.descramble([SIGNALS, SIGNALS[:3] * jnp.nan, jnp.zeros((2, 5))])
    with pytest.raises(FloatingPointError) as caught:
        found.check()
    assert "item 1 of 3, descramble: NOT_FINITE" in str(caught.value)
    assert "item 2 of 3, descramble: ZERO_SIGNALS" in str(caught.value)
    assert jd.descramble([SIGNALS]).check()[0].point.shape == (4, 4)


@pytest.mark.thorough
def test_the_layers_of_a_network_are_checked_by_name():
    def f(params, x):
        return jnp.maximum(x @ params["dead"] - 100.0, 0) @ params["last"] @ params["end"]

    params = {"dead": jnp.ones((4, 3)), "last": jnp.ones((3, 5)), "end": jnp.ones((5, 2))}
    layers = jd.descramble_network(f, params, SIGNALS.T)
    assert isinstance(layers, jd.NetworkDescrambling)
    with pytest.raises(FloatingPointError, match=r"ZERO_SIGNALS in \['last'\] \(output side\)"):
        layers.check()
    assert list(jax.jit(lambda x: jd.descramble_network(f, params, x))(SIGNALS.T)) == list(layers)


def test_more_features_than_samples_look_transposed(monkeypatch):
    monkeypatch.setattr(sys.modules["jaxdescramble.descrambling.signals"], "LARGE", 7)
    with pytest.warns(jd.JaxdescrambleWarning, match=r"8 features and only 2 samples.*pass signals\.T"):
        jd.descramble(jnp.ones((8, 2)))
    jd.descramble(jnp.ones((8, 8)))


def test_spent_time_and_interruptions_are_no_answers():
    assert not any(Status(s).usable for s in (Status.TIME_SPENT, Status.INTERRUPTED, Status.STEPS_SPENT))
    found = jd.descramble(
        SIGNALS, objectives.total_variation(boundary="neumann"), solvers.LBFGS(max_steps=1), max_seconds=100.0
    )
    with pytest.raises(FloatingPointError, match="STEPS_SPENT"):
        found.check()
