"""Permutations as descramblers: optima of small problems by enumeration, planted orders, reordered networks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.objectives import locality, periodicity, smoothness, sparsity, total_variation

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
OBJECTIVES = {
    "smoothness": smoothness(boundary="neumann"),
    "locality": locality("neumann"),
    "total variation": total_variation(boundary="neumann"),
    "periodicity": periodicity(2),
}


@pytest.mark.sampled(2)
@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_best_of_all_orders_is_found_and_the_bound_holds(key, objective):
    S = jax.random.normal(key, (6, 30))
    summary = objective.summarise(S)
    frames = jnp.stack([jnp.eye(6)[jnp.asarray(order)] for order in itertools.permutations(range(6))])
    best = jax.jit(lambda frames: jax.lax.map(lambda P: objective(P, summary), frames))(frames).min()
    found = jd.descramble(S, objective, group="permutation", restarts=3, key=key).check()
    np.testing.assert_allclose(found.value, best, rtol=1e-10)
    assert found.bound <= best * (1 + 1e-10)
    np.testing.assert_array_equal(np.sort(found.point.argmax(axis=1)), np.arange(6))
    np.testing.assert_allclose(found.point.sum(axis=0), 1, atol=0)


@needs_x64
def test_a_hidden_order_of_smooth_signals_is_read_off(key):
    t = jnp.linspace(0, 1, 24)[:, None]
    clean = jnp.sin(2 * t + jnp.linspace(0, 3, 40)[None, :])
    order = jax.random.permutation(key, 24)
    found = jd.descramble(clean[order], smoothness(order=1, boundary="neumann"), group="permutation")
    back = order[found.point.argmax(axis=1)]
    assert (jnp.abs(jnp.diff(back)) == 1).all()
    assert found.score(clean[order]) == pytest.approx(float(found.value))


@pytest.mark.thorough
@needs_x64
def test_batches_lists_and_problems_without_an_answer(key):
    S = jax.random.normal(key, (3, 5, 20)).at[1].set(jnp.nan).at[2].set(0)
    found = jd.descramble(S, smoothness(), group="permutation", restarts=1, key=key)
    assert found.status.tolist() == [0, Status.NOT_FINITE, Status.ZERO_SIGNALS]
    assert jnp.isnan(found.point[1]).all()
    alone = jd.descramble([S[0]] * 3, smoothness(), group="permutation", restarts=1, key=key)  # the program of S
    np.testing.assert_allclose(alone[1].value, found.value[0], rtol=1e-12)


def test_refusals(key):
    S = jax.random.normal(key, (4, 9))
    with pytest.raises(ValueError, match="no quadratic assignment"):
        jd.descramble(S, sparsity(), group="permutation")
    with pytest.raises(TypeError, match="no solver"):
        jd.descramble(S, group="permutation", solver=jd.solvers.LBFGS())
    with pytest.raises(ValueError, match="'permutation'"):
        jd.descramble(S, group="S(n)")
