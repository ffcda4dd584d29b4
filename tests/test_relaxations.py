"""Relaxations: never above any value, attained where they should be, and how close they come elsewhere."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.descrambling.result import _tightest_bound
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import _relaxations as relaxations
from jaxdescramble.objectives import (
    entropy,
    from_function,
    locality,
    monotonicity,
    smoothness,
    sparsity,
    spectral_entropy,
    weighted,
)

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
both = pytest.mark.both_precisions

FAMILY = {
    "l1": sparsity(),
    "l1, wide corners": sparsity(epsilon=0.5),
    "logcosh": sparsity("logcosh"),
    "l4": sparsity("l4"),
    "participation": sparsity("participation"),
    "entropy": entropy(),
    "entropy, wide corners": entropy(epsilon=0.5),
    "spectral entropy": spectral_entropy(),
    "locality": locality("neumann"),
    "locality on a circle": locality(),
    "weighted": weighted((0.3, locality("neumann")), (0.5, sparsity()), smoothness()),
}
each = pytest.mark.parametrize("objective", FAMILY.values(), ids=FAMILY.keys())


def drawn(n, m, seed=0):
    """Five kinds of signals: even, of few directions, sparse in a hidden frame, of few samples, and one-hot there."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.standard_normal((n, n)))[0]
    even = rng.standard_normal((n, m))
    slim = np.exp(-4 * np.arange(n) / n)[:, None] * rng.standard_normal((n, m))
    slim[0] += 1
    sparse = frame @ (rng.laplace(size=(n, m)) ** 3)
    few = np.where(np.arange(m)[None, :] < max(n // 2, 1), even, 0)
    one_hot = frame @ (np.eye(n)[:, rng.integers(n, size=m)] * rng.standard_normal(m))
    return jnp.asarray(np.stack([even, slim, sparse, few, one_hot])), jnp.asarray(frame)


def bounds(objective, S, steps=40):
    return _tightest_bound(objective, S, steps)


@functools.partial(jax.jit, static_argnames="count")
def lowest_met(objective, S, count=100):
    """The lowest value at random points."""
    keys = jax.random.split(jax.random.key(0), count)
    points = jax.vmap(lambda k: orthogonal.random(k, S.shape[-2]))(keys)
    return jax.lax.map(lambda s: jnp.min(jax.vmap(lambda p: objective(p, objective.summarise(s)))(points)), S)


@pytest.mark.sampled(6)
@each
@both
def test_never_above_the_value_at_random_points_and_attained_by_one_hot_signals(objective):
    S, frame = drawn(5, 40)
    found, values = bounds(objective, S), lowest_met(objective, S)
    assert found.dtype == values.dtype == S.dtype
    assert (found <= values + 40 * EPS).all()
    assert (found >= jax.vmap(lambda s: objective.bound(objective.summarise(s)))(S) - 10 * EPS).all()
    if objective.name not in ("weighted", "spectral_entropy"):  # what is smooth, or a wave, is not one-hot
        np.testing.assert_allclose(found[-1], objective(frame.T, S[-1]), rtol=100 * EPS, atol=100 * EPS)


@both
@pytest.mark.parametrize("objective", [sparsity("l4"), locality("neumann")])
@pytest.mark.parametrize(("n", "m"), [(2, 5), (6, 4)])
def test_never_above_the_value_whatever_the_shape(objective, n, m):
    # In two dimensions the optimum is attained: no slope is left for a step to follow.
    S, _ = drawn(n, m, seed=1)
    found, plain, values = bounds(objective, S), bounds(objective, S, 0), lowest_met(objective, S, 1000)
    assert (found <= values + 40 * EPS).all()
    assert (plain <= found + 40 * EPS).all()
    if n == 2:
        np.testing.assert_allclose(found[:3], values[:3], rtol=1e-3, atol=1e-4)


# What is left of the gap between the cheap bound and the best value found, for the first two kinds of signals.
LEFT = {
    "l1": pytest.param(sparsity(), 0.56, 0.63, marks=pytest.mark.slow),
    "logcosh": pytest.param(sparsity("logcosh"), 0.37, 0.44, marks=pytest.mark.slow),
    "l4": pytest.param(sparsity("l4"), 0.05, 0.05),
    "participation": pytest.param(sparsity("participation"), 0.35, 0.27, marks=pytest.mark.slow),
    "entropy": pytest.param(entropy(), 0.33, 0.33, marks=pytest.mark.slow),
    "spectral entropy": pytest.param(spectral_entropy(), 0.37, 0.65, marks=pytest.mark.slow),
    "locality": pytest.param(locality("neumann"), 0.04, 0.75, marks=pytest.mark.slow),
    "locality on a circle": pytest.param(locality(), 0.04, 0.45, marks=pytest.mark.slow),
}


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize(("objective", "even", "slim"), LEFT.values(), ids=LEFT.keys())
def test_closes_most_of_the_gap_on_random_signals(objective, even, slim):
    S, _ = drawn(10, 100)
    found = jd.descramble(S, objective)
    tight = found.tightest_bound(S)
    assert (tight <= found.value + 1e-12).all()
    assert (tight >= found.bound - 1e-12).all()
    left = (found.value - tight) / found.gap
    assert left[0] < even
    assert left[1] < slim


@both
@pytest.mark.parametrize("objective", [sparsity("l4"), locality()])
def test_attained_by_signals_that_fill_the_space_evenly(objective):
    # A spherical four-design: the vertices of a square, of a cross and of a cube weighted evenly, in four dimensions.
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, 16) / 2
    pairs = [
        np.eye(4)[:, [i]] * a + np.eye(4)[:, [j]] * b
        for i in range(4)
        for j in range(i)
        for a in (1, -1)
        for b in (1, -1)
    ]
    S = jnp.asarray(np.concatenate([np.eye(4), -np.eye(4), signs, np.concatenate(pairs, axis=1) / 2**0.5], axis=1))
    values = lowest_met(objective, S[None], 5)
    np.testing.assert_allclose(bounds(objective, S[None], 0), values, rtol=100 * EPS)


@both
@pytest.mark.parametrize(("n", "m"), [(1, 3), (4, 7), (4, 10), (4, 25), (3, 1)])
def test_samples_and_symmetric_matrices_have_the_same_eigenvalues(n, m):
    rng = np.random.default_rng(3)
    U = rng.standard_normal((n, m))
    U, w = jnp.asarray(U / np.linalg.norm(U, axis=0)), jnp.asarray(rng.random(m) * (np.arange(m) != 2))
    one, other = relaxations.over_samples(U, w), relaxations.over_matrices(U, w)
    size = max(len(one), len(other))
    padded = [np.pad(np.asarray(x), (0, size - len(x))) for x in (one, other)]
    np.testing.assert_allclose(np.sort(padded[0]), np.sort(padded[1]), atol=50 * EPS)


@needs_x64
def test_few_samples_of_many_features_are_bounded_over_samples_alone(monkeypatch):
    S = drawn(6, 9)[0][0]
    whole = relaxations.concentration(S, jnp.ones(9))
    monkeypatch.setattr(relaxations, "LARGEST", 10)
    np.testing.assert_allclose(relaxations.concentration(S, jnp.ones(9), steps=5), whole, rtol=1e-12)


@needs_x64
def test_a_polygon_is_what_shares_of_a_given_concentration_add_up_to_at_least():
    rng, k = np.random.default_rng(4), np.arange(1, 13)
    kinds = {
        "root": np.sqrt,
        "rounded root": lambda t: np.sqrt(16 * t + 0.01) - 0.1,
        "log cosh": lambda t: np.log(np.cosh(3 * np.sqrt(t))),
        "entropy": lambda p: -p * np.log((p + 1e-3) / 1.001),
        "fraction": lambda p: p / (p + 0.05),
    }
    for psi in kinds.values():
        for _ in range(300):
            some = rng.dirichlet(np.full(rng.integers(1, 13), 10 ** rng.uniform(-2, 1.5)))
            j = rng.integers(1, 12)
            b = rng.uniform(0, 1 / (j + 1))
            for p in (some, np.append(np.full(j, (1 - b) / j), b)):  # the extremal ones
                assert psi(p).sum() >= np.interp(-np.sum(p**2), -1 / k, k * psi(1 / k)) - 1e-12


@both
def test_scale_order_repetition_and_samples_of_nothing_do_not_matter():
    S = drawn(4, 12)[0][0]
    alike = jnp.stack([jnp.concatenate(two, axis=1) for two in ((S, S), (1e9 * S[:, ::-1], 1e9 * S), (S, 0 * S))])
    found = bounds(entropy(), alike, 0)
    np.testing.assert_allclose(found, np.full(3, found[0]), rtol=1e3 * EPS)


@both
@each
def test_edges_are_finite_and_one_bad_problem_costs_the_others_nothing(objective):
    S, _ = drawn(5, 40)
    S = jnp.stack([S[0], 0 * S[0], S[1].at[0, 0].set(jnp.nan), S[0].at[1:].set(0.0), S[0]])
    tight = bounds(objective, S)
    np.testing.assert_array_equal(jnp.isnan(tight), jnp.arange(5) == 2)
    np.testing.assert_array_equal(tight[0], tight[4])
    assert tight[1] <= 0
    assert (tight <= lowest_met(objective, S) + 40 * EPS)[jnp.asarray([1, 3])].all()


@both
@pytest.mark.parametrize("objective", [sparsity("participation"), spectral_entropy(), locality("neumann")])
def test_a_single_neuron(objective):
    S = jnp.ones((1, 1, 3))
    assert bounds(objective, S, 1)[0] <= objective(jnp.eye(1), S[0]) + 40 * EPS


@both
def test_float32_stays_below_float64():
    S = drawn(5, 40)[0].astype("float32")
    values, eps = lowest_met(sparsity("l4"), S), float(jnp.finfo(jnp.float32).eps)
    rounded = bounds(sparsity("l4"), S, 0)
    assert rounded.dtype == jnp.float32
    assert (rounded <= values + 40 * eps).all()
    if jax.config.jax_enable_x64:  # pyright: ignore
        exact = bounds(sparsity("l4"), S.astype("float64"), 0)
        assert (rounded <= exact + 4 * eps).all()
        np.testing.assert_allclose(rounded, exact, atol=1e-4)


@both
def test_what_falls_is_half_of_the_variation_where_signals_have_no_mean():
    S = drawn(10, 100)[0][0]
    centred, raised = S - S.mean(axis=1, keepdims=True), S + 10
    values = lowest_met(monotonicity(), jnp.stack([centred, raised]))
    bound = monotonicity().bound(monotonicity().summarise(centred))
    assert 0.3 < bound / values[0] < 1
    assert monotonicity().bound(monotonicity().summarise(raised)) == 0


def largest(point, summary):
    return -jnp.max(jnp.abs(point @ summary.signals))


def test_too_large_steps_that_make_no_sense_and_objectives_that_know_nothing(as_installed):
    wide = jnp.ones((120, 3))
    with pytest.raises(ValueError, match="120 features, 3 samples make an eigenvalue problem of dimension 7260"):
        locality("neumann").tightest_bound(locality("neumann").summarise(wide))
    S = drawn(3, 5)[0][0]
    exact = jd.descramble(S, smoothness())
    np.testing.assert_allclose(exact.tightest_bound(S), exact.bound, rtol=1e-6)
    found = dataclasses.replace(exact, objective=from_function(largest))
    assert found.tightest_bound(S) == -jnp.inf
    with pytest.raises(ValueError, match="steps"):
        found.tightest_bound(S, steps=-1)
    with pytest.raises(ValueError, match="signals"):
        found.tightest_bound(drawn(3, 5)[0])
    assert weighted((-1.0, locality("neumann")), smoothness()).relaxation(jd.objectives.Samples(S), 1) is None
