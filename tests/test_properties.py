"""Properties that hold for any signals whatever, looked for by hypothesis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxdescramble as jd
from jaxdescramble.groups import orthogonal
from jaxdescramble.objectives import Factor, smoothness
from jaxdescramble.operators import derivative

N = 5  # one size, so that everything compiles once
finite = st.floats(-1e6, 1e6, allow_subnormal=False)
signals = hnp.arrays(np.float64, (N, 7), elements=finite)
seeds = st.integers(0, 2**31)
pytestmark = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="tolerances are float64's")  # pyright: ignore
often = settings(max_examples=60, deadline=None)


@jax.jit
def solved(S):
    return jd.descramble(S)


@jax.jit
def value(P, S):
    return smoothness()(P, S)


@often
@given(signals, seeds)
def test_no_orthogonal_matrix_goes_below_the_descrambler_and_all_lie_between_zero_and_one(S, seed):
    S, point = jnp.asarray(S), orthogonal.random(jax.random.key(seed), N)
    found = solved(S)
    other = float(value(point, S))
    assert -1e-12 <= other <= 1 + 1e-9
    assert float(found.value) <= other + 1e-9
    assert abs(float(found.gap)) < 1e-9
    assert float(orthogonal.defect(found.point)) < 1e-10


@often
@given(signals, st.integers(0, 7))
def test_a_summary_does_not_care_where_the_data_were_cut(S, cut):
    S = jnp.asarray(S)
    whole = Factor.empty(N, S.dtype).update(S)
    parts = Factor.empty(N, S.dtype).update(S[:, :cut]).merge(Factor.empty(N, S.dtype).update(S[:, cut:]))
    scale = max(float(jnp.max(jnp.abs(S))) ** 2, 1e-300)
    np.testing.assert_allclose(parts.moment(jnp.eye(N)) / scale, whole.moment(jnp.eye(N)) / scale, atol=1e-12)


@often
@given(signals, seeds)
def test_turning_the_neurons_first_changes_no_answer(S, seed):
    S, turn = jnp.asarray(S), orthogonal.random(jax.random.key(seed), N)
    np.testing.assert_allclose(solved(S).value, solved(turn @ S).value, atol=1e-9)


@often
@given(signals, signals)
def test_alignment_is_a_projection_and_never_makes_things_worse(p, q):
    p, q = jnp.asarray(p), jnp.asarray(q)
    gauge = jd.exact.Stabiliser(derivative(N))
    once = jd.exact.align(p, q, gauge)
    again = jd.exact.align(once.aligned, q, gauge)
    scale = 1 + float(jnp.linalg.norm(p) + jnp.linalg.norm(q))
    assert float(jnp.linalg.norm(once.aligned - q)) <= float(jnp.linalg.norm(p - q)) + 1e-9 * scale
    np.testing.assert_allclose(
        jnp.linalg.norm(again.aligned - q) / scale, jnp.linalg.norm(once.aligned - q) / scale, atol=1e-9
    )
    assert float(orthogonal.defect(once.element)) < 1e-10
