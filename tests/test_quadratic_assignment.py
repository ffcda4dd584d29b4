"""Quadratic assignment against enumeration, published optima and planted orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.quadratic_assignment import NAMES, planted, published
from jaxdescramble.groups import permutation
from jaxdescramble.solvers import quadratic_assignment

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
DEFAULT = {"chr12c", "nug12"}


@needs_x64
@pytest.mark.parametrize("symmetric", [True, False])
def test_small_problems_are_solved_and_bounded(key, symmetric):
    orders = np.asarray(list(itertools.permutations(range(6))))
    solve = jax.jit(lambda a, b: quadratic_assignment(a, b, key, steps=500, restarts=4, symmetric=symmetric))
    for seed in range(10):
        a, b = np.random.default_rng(seed).standard_normal((2, 6, 6))
        if symmetric:
            a, b = a + a.T, b + b.T
        values = np.asarray([np.sum(a * b[np.ix_(p, p)]) for p in orders])
        found = solve(jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(found.value, values.min(), rtol=1e-12)
        assert found.bound <= values.min()
        p = np.asarray(found.point)
        np.testing.assert_allclose(np.sum(a * b[np.ix_(p, p)]), found.value, rtol=1e-12)


@needs_x64
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in DEFAULT else pytest.mark.slow) for n in NAMES])
def test_published_optima_are_reached(key, name):
    a, b, optimum = published(name)
    found = quadratic_assignment(a, b, key).check()
    assert int(found.value) == optimum
    assert found.bound <= optimum


@needs_x64
def test_a_planted_order_is_found_and_proved(key):
    a, b, optimum = planted(20)
    found = quadratic_assignment(a, b, key)
    assert (int(found.value), float(found.gap)) == (optimum, 0.0)


def test_gains_of_exchanges_are_what_exchanges_gain(key):
    a, b = np.random.default_rng(0).standard_normal((2, 5, 5))
    p = np.asarray([2, 0, 4, 1, 3])
    gains = permutation.exchange_gains(jnp.asarray(a), jnp.asarray(b), jnp.asarray(p))
    for i, j in itertools.combinations(range(5), 2):
        q = p.copy()
        q[[i, j]] = q[[j, i]]
        expected = np.sum(a * b[np.ix_(q, q)]) - np.sum(a * b[np.ix_(p, p)])
        np.testing.assert_allclose(gains[i, j], expected, rtol=1e-5, atol=1e-5)


def test_refusals(key):
    with pytest.raises(ValueError, match="square"):
        quadratic_assignment(jnp.ones((2, 3)), jnp.ones((2, 3)), key)
    with pytest.raises(ValueError, match="shape"):
        quadratic_assignment(jnp.eye(3), jnp.eye(4), key)
    with pytest.raises(ValueError, match="start"):
        quadratic_assignment(jnp.eye(3), jnp.eye(3), key, start=jnp.asarray([0, 0, 1]))
