"""Rounding to a few bits: its error against loops, its derivatives, and what descent does to unseen samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objectives_family import EPS, M, N, both, drawn

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Factor, Quantised, Samples, quantised, spread

OPTIONS = {
    "symmetric": {},
    "two bits": {"bits": 2},
    "groups": {"bits": 3, "group_size": 2},
    "zero points": {"bits": 4, "symmetric": False},
    "groups with zero points": {"bits": 3, "group_size": 3, "symmetric": False},
    "eight bits": {"bits": 8},
}
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def by_hand(column, bits=4, group_size=None, symmetric=True):
    """Round one column, group by group, to the nearest of all values that the codes can express."""
    size, found = group_size or len(column), []
    for start in range(0, len(column), size):
        part = column[start : start + size]
        if symmetric:
            top = 2 ** (bits - 1) - 1
            values = np.arange(-top, top + 1) * np.max(np.abs(part)) / top
        else:
            low, high = min(part.min(), 0), max(part.max(), 0)
            step = (high - low) / (2**bits - 1)
            values = (np.arange(2**bits) - np.round(-low / step)) * step
        found += [values[np.argmin(np.abs(values - one))] for one in part]
    return np.asarray(found)


def shifted(seed=0):
    return drawn(seed) + np.linspace(0, 2, M, dtype=drawn().dtype)[None, :]


@both
@pytest.mark.every_case
@each_option
def test_the_error_is_that_of_the_nearest_codes(options):
    S, point = shifted(), orthogonal.random(jax.random.key(0), N)
    Y = np.asarray(point, np.float64) @ S.astype(np.float64)
    errors = np.stack([by_hand(y, **options) - y for y in Y.T], axis=1)
    expected = np.sum(errors**2) / np.sum(Y**2)
    np.testing.assert_allclose(quantised(**options)(point, S), expected, rtol=1e3 * EPS**0.75)
    weights = np.arange(M)
    weighed = np.sum(weights * errors**2) / np.sum(weights * Y**2)
    np.testing.assert_allclose(quantised(**options)(point, S, weights), weighed, rtol=1e3 * EPS**0.75)


@both
@each_option
def test_an_array_is_rounded_along_any_axis(options):
    S = shifted(1)
    columns = np.stack([by_hand(y, **options) for y in S.astype(np.float64).T], axis=1)
    form = quantised(**options)
    np.testing.assert_allclose(form.quantise(S), columns, rtol=0, atol=100 * EPS)
    np.testing.assert_array_equal(form.quantise(S.T, axis=1), form.quantise(S).T)
    np.testing.assert_array_equal(form.quantise(S.T[None], axis=-1)[0], form.quantise(S).T)
    assert len(np.unique(form.quantise(S[:, :1]))) <= 2**form.bits * (1 if form.group_size is None else 3)


def test_the_derivative_of_a_rounded_array_is_that_of_the_array():
    S, V = drawn(), drawn(1)
    value, change = jax.jvp(quantised(2).quantise, (S,), (V,))
    np.testing.assert_array_equal(change, V)
    assert len(np.unique(value[:, 0])) <= 3
    coarse = quantised(8).quantise(jnp.asarray(S, jnp.bfloat16))
    assert coarse.dtype == jnp.bfloat16
    np.testing.assert_allclose(coarse.astype(float), S, rtol=0, atol=0.03)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need 64 bits")  # pyright: ignore
@each_option
def test_derivatives_are_those_of_rounding_or_of_noise_in_each_step(options):
    S, point, V = jnp.asarray(shifted(2)), orthogonal.random(jax.random.key(0), N), jnp.asarray(drawn(1, N, N))
    summary = Samples(S)

    def along(function):
        return (function(point + 1e-7 * V) - function(point - 1e-7 * V)) / 2e-7

    rounded = quantised(**options, gradient="rounded")
    slope = jnp.sum(jax.grad(rounded)(point, summary) * V)
    np.testing.assert_allclose(slope, along(lambda P: rounded(P, summary)), rtol=1e-5)

    def noise(P):
        Y = P @ S
        groups = Y.reshape(-1, options.get("group_size") or N, M)
        if options.get("symmetric", True):
            steps = jnp.abs(groups).max(1) / (2 ** (options.get("bits", 4) - 1) - 1)
        else:
            steps = (jnp.maximum(groups.max(1), 0) - jnp.minimum(groups.min(1), 0)) / (2 ** options["bits"] - 1)
        return jnp.mean(steps**2) / 12 / jnp.mean(S**2)

    steps = quantised(**options)
    slope = jnp.sum(jax.grad(steps)(point, summary) * V)
    np.testing.assert_allclose(slope, along(noise), rtol=1e-5)
    assert float(steps(point, summary)) == float(rounded(point, summary))


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="continuity is seen at 1e-9")  # pyright: ignore
@each_option
def test_the_error_is_continuous_where_codes_change(options):
    objective, S = quantised(**options), jnp.asarray(shifted(3))
    turn = orthogonal.skew(jnp.asarray(drawn(4, N, N)))
    times = jnp.linspace(0, 1, 2001)
    values = jax.vmap(lambda t: objective(orthogonal.geodesic(jnp.eye(N), t * turn), Samples(S)))(times)
    steepest = jnp.max(jnp.abs(jnp.diff(values)))
    nearer = jax.vmap(lambda t: objective(orthogonal.geodesic(jnp.eye(N), t * turn), Samples(S)))(times / 100)
    assert float(jnp.max(jnp.abs(jnp.diff(nearer)))) < 0.03 * float(steepest)


@both
def test_known_errors_and_edges():
    whole = jnp.asarray([[7.0, -7.0], [1.0, 3.0], [-3.0, 0.0]])
    np.testing.assert_allclose(quantised(4)(jnp.eye(3), whole), 0, atol=EPS)
    assert float(quantised(3)(jnp.eye(3), whole)) > 1e-3
    for symmetric in (True, False):
        form = quantised(2, None, symmetric)
        np.testing.assert_allclose(form(jnp.eye(1), jnp.ones((1, 4))), 0, atol=EPS)
        np.testing.assert_allclose(form(jnp.eye(4), jnp.full((4, 2), -5.0)), 0, atol=EPS)
        assert float(form(jnp.eye(4), jnp.zeros((4, 2)))) == 0
        np.testing.assert_array_equal(form.quantise(jnp.zeros((4, 2))), 0)
        assert jnp.isnan(form(jnp.eye(3), whole.at[0, 0].set(jnp.nan)))
        assert jnp.isnan(form.quantise(whole.at[0, 0].set(jnp.nan))[:, 0]).any()
        nothing_kept = jnp.asarray([[1.0], *[[0.49]] * 3]) if symmetric else jnp.asarray([[1.0], *[[0.16]] * 3])
        kept = 1 / float(jnp.sum(nothing_kept**2))
        np.testing.assert_allclose(form(jnp.eye(4), nothing_kept), 1 - kept, rtol=1e-4)
    relu = jnp.maximum(jnp.asarray(drawn(5, 40, 30)), 0)
    ratio = quantised(4)(jnp.eye(40), relu) / quantised(4, symmetric=False)(jnp.eye(40), relu)
    assert 3 < float(ratio) < 6  # a zero point spends no codes on numbers below zero: steps of 7/15


@pytest.mark.thorough
def test_normal_signals_lose_what_noise_in_each_step_predicts():
    S = jnp.asarray(drawn(6, 128, 500))
    for bits in (3, 4, 6, 8):
        top = 2 ** (bits - 1) - 1
        predicted = jnp.mean(jnp.max(jnp.abs(S), axis=0) ** 2) / top**2 / 12
        np.testing.assert_allclose(quantised(bits)(jnp.eye(128), S), predicted, rtol=0.03)


def mixed(seed, n=32, m=600):
    """Channels of different size in a hidden frame, and an offset in three neurons."""
    rng = np.random.default_rng(seed)
    hidden = np.linalg.qr(np.random.default_rng(99).standard_normal((n, n)))[0]
    return jnp.asarray(
        hidden @ (rng.laplace(size=(n, m)) * np.linspace(0.4, 3, n)[:, None] ** 2) + 30 * (np.arange(n) < 3)[:, None]
    )


@pytest.mark.thorough
@pytest.mark.parametrize("gradient", ["steps", "rounded"])
@pytest.mark.parametrize("bits", [4, 3])
def test_descent_lowers_the_error_of_samples_not_seen(bits, gradient):
    objective, seen, unseen = quantised(bits, gradient=gradient), mixed(0), mixed(1)
    start = orthogonal.random(jax.random.key(0), 32)
    found = jd.descramble(seen, objective, jd.solvers.LBFGS(max_steps=60), start=start)
    np.testing.assert_allclose(found.value, objective(found.point, seen), rtol=1e-10)
    before, after = objective(start, unseen), found.score(unseen)
    assert float(after) < (0.75 if gradient == "steps" else 0.85) * float(before)


@pytest.mark.thorough
def test_the_derivative_of_noise_leads_to_lower_errors_than_that_of_rounding():
    """The numbers in the docstring of `quantised`."""
    quick, starts = jd.solvers.LBFGS(max_steps=100), jax.random.split(jax.random.key(1), 3)
    starts = [orthogonal.random(key, 32) for key in starts]
    aims = {gradient: quantised(3, gradient=gradient) for gradient in ("steps", "rounded")} | {"lp": spread("lp")}
    ends = {
        name: [jd.descramble(mixed(0), aim, quick, start=one).point for one in starts] for name, aim in aims.items()
    }
    ends |= {"raw": [jnp.eye(32)], "start": starts}
    ends |= {"Hadamard": [orthogonal.random_hadamard(key, 32) for key in jax.random.split(jax.random.key(2), 3)]}
    errors = {name: np.asarray([quantised(3)(point, mixed(1)) for point in points]) for name, points in ends.items()}
    assert errors["steps"].max() < errors["rounded"].min()
    expected = {"raw": 0.093, "Hadamard": 0.046, "start": 0.056, "steps": 0.029, "rounded": 0.034, "lp": 0.028}
    for name, value in expected.items():
        assert errors[name].mean() == pytest.approx(value, abs=1e-3), name


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: quantised(1), ValueError, "bits: expected an integer of at least 2, got 1"),
        (lambda: quantised(9), ValueError, "bits: got 9; must be at most 8"),
        (lambda: Quantised(9), ValueError, "bits: got 9; must be at most 8"),
        (lambda: quantised(4.0), TypeError, "bits: expected an integer"),  # pyright: ignore
        (lambda: quantised(4, 0), ValueError, "group_size: expected a positive integer, got 0"),
        (lambda: quantised(4, 4)(jnp.eye(N), drawn()), ValueError, "group_size: groups of 4 do not divide 6 features"),
        (lambda: quantised(symmetric="no"), TypeError, "symmetric: expected True or False"),  # pyright: ignore
        (lambda: quantised(gradient="none"), ValueError, "gradient: got 'none'"),
        (lambda: quantised()(jnp.eye(N), Factor.empty(N, float)), TypeError, "reads samples, and a Factor keeps none"),
        (lambda: quantised().quantise(drawn(), axis=2), ValueError, r"axis: got 2 for an array of shape \(6, 9\)"),
        (lambda: quantised().quantise(drawn() + 0j), TypeError, "array: got complex numbers"),
        (
            lambda: quantised().quantise(jnp.pi * jnp.ones(())),
            ValueError,
            "array: expected real numbers of one axis or more",
        ),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
