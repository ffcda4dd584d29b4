"""Spread of samples over the neurons: formulas, bounds, invariances, and what descent makes of outliers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from test_objectives_family import EPS, M, N, both, drawn

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Factor, Samples, Spread, sparsity, spread, weighted


def in_own_units(y):
    return y / math.sqrt(np.mean(y**2))


FORMULAS = {
    "fourth": (spread(), lambda y: np.mean(in_own_units(y) ** 4)),
    "kurtosis": (spread("kurtosis"), lambda y: scipy.stats.kurtosis(y, fisher=False)),
    "lp": (spread("lp", power=5.0), lambda y: np.mean(np.abs(in_own_units(y)) ** 5) ** 0.2),
    "whip": (
        spread("whip", epsilon=0.3),
        lambda y: np.mean([math.exp(0.3 - math.hypot(one, 0.3)) for one in in_own_units(y)]),
    ),
}
each_measure = pytest.mark.parametrize(("objective", "formula"), FORMULAS.values(), ids=FORMULAS.keys())


@both
@pytest.mark.every_case
@each_measure
def test_it_is_the_mean_of_the_formula_of_each_sample(objective, formula):
    S, point = drawn() * np.logspace(-2, 2, M, dtype=drawn().dtype)[None, :], orthogonal.random(jax.random.key(0), N)
    Y = np.asarray(point, np.float64) @ S.astype(np.float64)
    each = [formula(y) for y in Y.T]
    np.testing.assert_allclose(objective(point, S), np.mean(each), rtol=500 * EPS)
    weights = np.arange(M)
    np.testing.assert_allclose(objective(point, S, weights), np.average(each, weights=weights), rtol=500 * EPS)


@both
@pytest.mark.every_case
@pytest.mark.parametrize("measure", FORMULAS)
def test_flat_samples_attain_the_bound_and_outliers_the_other_end(measure):
    n, objective = 8, spread(measure)
    outliers, flat = jnp.eye(n) * 3, jnp.asarray(scipy.linalg.hadamard(n), drawn().dtype)[:, 1:]
    bound = objective.bound(objective.summarise(flat))
    np.testing.assert_allclose(objective(jnp.eye(n), flat), bound, rtol=40 * EPS)
    assert float(bound) == pytest.approx({"whip": math.exp(-1)}.get(measure, 1), rel=2e-3)
    share = n * (1 - 1 / n) * ((1 - 1 / n) ** 3 + (1 / n) ** 3) / (1 - 1 / n) ** 2  # by hand, of one entry of n
    worst = {"fourth": n, "kurtosis": share, "lp": n ** (1 / 2 - 1 / 8), "whip": (n - 1 + math.exp(-math.sqrt(n))) / n}
    np.testing.assert_allclose(objective(jnp.eye(n), outliers), worst[measure], rtol=1e-3)


@pytest.mark.every_case
@pytest.mark.parametrize("measure", FORMULAS)
def test_samples_of_zeros_count_as_zero_and_nan_is_not_hidden(measure):
    objective, S = spread(measure), jnp.asarray(drawn(m=4))
    value = objective(jnp.eye(N), S)
    np.testing.assert_allclose(objective(jnp.eye(N), jnp.concatenate([S, 0 * S], axis=1)), value / 2, rtol=1e-12)
    assert jnp.isnan(objective(jnp.eye(N), S.at[1, 2].set(jnp.nan)))
    one = objective(jnp.eye(1), jnp.ones((1, 3)))
    np.testing.assert_allclose(one, {"whip": math.exp(-1)}.get(measure, 1), rtol=2e-3)


@both
def test_equal_entries_are_flat_for_kurtosis_also_after_rounding():
    angle = orthogonal.random(jax.random.key(3), N)
    S = angle.T @ jnp.ones((N, 3))
    np.testing.assert_allclose(spread("kurtosis")(angle, S), 1, rtol=10 * EPS)
    slope = jax.grad(spread("kurtosis"))(angle, Samples(S))
    np.testing.assert_array_equal(slope, 0)


def test_the_fourth_power_weighed_with_squared_energies_is_sparsity():
    S, point = jnp.asarray(drawn()), orthogonal.random(jax.random.key(0), N)
    energies = jnp.sum(S**2, axis=0)
    weighed = spread()(point, S, energies**2)
    np.testing.assert_allclose(weighed, -N * sparsity("l4")(point, S), rtol=1e-12)


def test_a_power_of_two_to_four_has_two_derivatives_at_zero_entries():
    objective, S = spread("lp", power=2.5), jnp.eye(N)[:, :2]
    slope = jax.grad(objective)
    bend = jax.jvp(lambda P: slope(P, Samples(S)), (jnp.eye(N),), (jnp.asarray(drawn(1, N, N)),))[1]
    assert np.isfinite(bend).all()
    change = jax.grad(lambda p: spread("lp", power=p)(jnp.eye(N), S))(3.0)
    size = N ** (1 / 2 - 1 / 3)
    np.testing.assert_allclose(change, size * math.log(N) / 9, rtol=1e-6)


def test_a_large_power_tends_to_the_largest_entry_without_overflow():
    S = drawn(n=60, m=3).astype(np.float32)
    largest = np.mean(np.max(np.abs(S), axis=0) / np.sqrt(np.mean(S**2, axis=0)))
    assert float(spread("lp", power=200.0)(jnp.eye(60, dtype=np.float32), S)) == pytest.approx(largest, rel=0.03)


def outlying(seed, n=16, m=600):
    """Signals with one neuron far above the others."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.laplace(size=(n, m)) * np.where(np.arange(n) == 3, 30, 1)[:, None])


@pytest.mark.every_case
@pytest.mark.parametrize("measure", FORMULAS)
def test_descent_takes_outliers_out_of_samples_not_seen(measure):
    objective, seen, unseen = spread(measure), outlying(0), outlying(1)
    found = jd.descramble(seen, objective, jd.solvers.LBFGS(max_steps=60))
    assert float(found.value) >= float(found.bound)
    raw, random = (objective(P, unseen) for P in (jnp.eye(16), orthogonal.random(jax.random.key(0), 16)))
    bound = float(objective.bound(Samples(unseen)))
    assert float(found.score(unseen)) - bound < 0.7 * (float(random) - bound)
    assert float(random) < float(raw)


def test_it_can_be_a_term_and_only_the_whip_has_a_corner():
    S = drawn()
    total = weighted((0.5, spread("whip")), (2.0, spread("kurtosis")))
    parts = 0.5 * spread("whip")(jnp.eye(N), S) + 2 * spread("kurtosis")(jnp.eye(N), S)
    np.testing.assert_allclose(total(jnp.eye(N), S), parts, rtol=1e-12)
    assert [spread(measure).smoothing for measure in FORMULAS] == ["", "", "", "epsilon"]
    assert spread("whip").smoothed(10.0) == spread("whip", epsilon=1e-2)
    assert spread("whip").mirrored(4)
    assert spread("kurtosis").mirrored(4)


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: spread("l3"), ValueError, "measure: got 'l3'"),
        (lambda: Spread("l3"), ValueError, "measure: got 'l3'"),
        (lambda: spread("lp", power=2), ValueError, "power: expected a number above 2, got 2"),
        (lambda: spread(power=4), ValueError, "power: measure 'fourth' takes no power"),
        (lambda: spread("lp", epsilon=0.1), ValueError, "epsilon: measure 'lp' has no corner"),
        (lambda: spread("whip", epsilon=0), ValueError, "epsilon: expected a positive number"),
        (lambda: spread()(jnp.eye(N), Factor.empty(N, float)), TypeError, "reads samples, and a Factor keeps none"),
        (lambda: spread()(jnp.eye(N), drawn() + 0j), TypeError, "must be real"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
