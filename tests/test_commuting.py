"""Sums of quadratic criteria on different signals: exact where matrices commute, a strict bound where they do not."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import minimise, operators, solvers
from jaxdescramble.exact import commuting_minimiser
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
N, TERMS = 5, 3


def total(P, A, B):
    return jnp.sum((A @ P[None]) * (P[None] @ B))


def problem(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, TERMS, N))
    T, U = (orthogonal.random(jax.random.key(seed + k), N) for k in (0, 100))
    A, B = (jnp.einsum("ij,kj,lj->kil", basis, jnp.asarray(one), basis) for one, basis in ((a, T), (b, U)))
    return jnp.asarray(a), jnp.asarray(b), T, U, A, B


@pytest.mark.slow
@needs_x64
def test_no_pairing_and_no_descent_ends_below():
    descend = jax.jit(jax.vmap(lambda start, A, B: minimise(total, start, A, B).value, (0, None, None)))
    for seed in range(3):
        a, b, T, U, A, B = problem(seed)
        found = commuting_minimiser(a, b, T, U)
        np.testing.assert_allclose(total(found.point, A, B), found.value, rtol=0, atol=1e-12)
        cost = np.asarray(a).T @ np.asarray(b)
        least = min(sum(cost[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(N)))
        np.testing.assert_allclose(found.value, least, rtol=0, atol=1e-12)
        starts = jax.vmap(lambda key: orthogonal.random(key, N))(jax.random.split(jax.random.key(seed), 40))
        values = descend(starts, A, B)
        assert float(values.min()) >= least - 1e-9
        assert float(values.min()) < least + 1e-6  # and some of forty descents get there
        assert float(found.bound) < least - 0.1


@needs_x64
def test_one_term_is_the_rearrangement_inequality():
    a, b, T, U, _, _ = problem(7)
    found = commuting_minimiser(a[:1], b[:1], T, U)
    np.testing.assert_allclose(found.value, found.bound, rtol=0, atol=1e-12)


@pytest.mark.thorough
@needs_x64
def test_where_they_do_not_commute_the_terms_minima_are_a_strict_bound():
    rng = np.random.default_rng(0)
    # The Laplacians of a line and of a circle: they share the constants alone.
    D = [operators.derivative(N, 1, ends, "difference").matrix for ends in ("neumann", "periodic")]
    A = jnp.stack([jnp.asarray(one.T @ one) for one in D])
    S = rng.standard_normal((2, N, 8))
    B = jnp.asarray(S @ S.transpose(0, 2, 1))
    spectra = [np.linalg.eigvalsh(np.asarray(M)) for M in (A, B)]
    bound = (spectra[0] * spectra[1][:, ::-1]).sum()
    starts = jax.vmap(lambda key: orthogonal.random(key, N))(jax.random.split(jax.random.key(1), 20))
    solve = jax.jit(jax.vmap(lambda start: minimise(total, start, A, B, solver=solvers.LBFGS()).value))
    assert float(solve(starts).min()) > bound * 1.01
    # What is best for one term is not for the sum, but a place from which to see the bound from above.
    for k in (0, 1):
        (a, T), (b, U) = (np.linalg.eigh(np.asarray(M)[k]) for M in (A, B))
        alone = commuting_minimiser(a[None], b[None], T, U)
        np.testing.assert_allclose(alone.value, (spectra[0][k] * spectra[1][k, ::-1]).sum(), rtol=1e-10)
        assert float(total(alone.point, A, B)) > bound * 1.01


def test_bad_input_is_named():
    a = jnp.ones((2, 3))
    for arguments, message in (
        ((a, a[:, :2]), r"\(2, 3\) and \(2, 2\)"),
        ((a, a, jnp.eye(2)), r"left_basis: got shape \(2, 2\)"),
        ((a, a, None, 2 * jnp.eye(3)), "right_basis: .*must be orthogonal"),
    ):
        with pytest.raises(ValueError, match=message):
            commuting_minimiser(*arguments)
