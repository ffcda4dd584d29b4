"""Quadratic assignment against every permutation of few, published optima and planted orders of many."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from benchmarks import qaplib
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import permutation
from jaxdescramble.manifolds.assignment import assign
from jaxdescramble.solvers import quadratic_assignment
from jaxdescramble.solvers.assignment._bounds import eigenvalue_bound, gilmore_lawler, lower_bound
from jaxdescramble.solvers.assignment._search import insertions, kick, reversals, straighten, tabu
from jaxdescramble.solvers.assignment._starts import random_stochastic, relax, spectral
from jaxdescramble.solvers.assignment.quadratic import _starts

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
key = jax.random.key


def evaluated(a, b, p):
    return (np.asarray(a) * np.asarray(b)[np.ix_(p, p)]).sum()


def least_of_all(a, b):
    """The optimum, by looking at every permutation."""
    every = np.asarray(list(itertools.permutations(range(len(a)))))
    return np.einsum("ij,pij->p", a, b[every[:, :, None], every[:, None, :]]).min()


def problems(n, count, seed=0, symmetric=False):
    """Pairs of all kinds in turn: with diagonals and without, integers, sparse, one or both of them symmetric."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        a, b = rng.standard_normal((2, n, n)) * (1.0, 100.0)[k % 2]
        if k % 3 == 1:
            a, b = np.round(3 * a), np.round(2 * b)
        if k % 4 == 2:
            a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        if k % 5 == 3:
            a = a * (rng.random((n, n)) < 0.3)
        if symmetric or k % 4 == 1:
            a = a + a.T
        if symmetric or k % 8 == 1:
            b = b + b.T
        found.append((a, b))
    return [np.stack(side) for side in zip(*found, strict=True)]


def planted(kind, n, seed=0):
    """A problem with a hidden order and its known optimum."""
    rng, x = np.random.default_rng(seed), np.arange(n)
    apart = abs(x[:, None] - x)
    if kind == "weights":  # -||A||^2, by Cauchy and Schwarz
        a = rng.standard_normal((n, n))
        a = a + a.T
        b = -a
    elif kind == "not symmetric":
        a = rng.standard_normal((n, n))
        b = -a
    elif kind == "graph":
        a = np.triu(rng.random((n, n)) < 0.3, 1).astype(float)
        a = a + a.T
        b = -a
    elif kind == "line":  # neighbours on a line are the most alike there are
        a, b = (apart == 1).astype(float), -np.exp(-apart / 5.0)
    else:  # "far apart": the rearrangement inequality, for both are functions of the distance on a line
        a, b = apart.astype(float) ** 2, np.exp(-apart / (n / 8))
    optimum, q = (a * b).sum(), rng.permutation(n)
    return a, b[np.ix_(q, q)], optimum


# --- the group and its moves ---------------------------------------------------------------------------------------


def test_permutations_are_their_matrices():
    p, q = permutation.random(key(1), 7), permutation.random(key(2), 7)
    P, Q = permutation.matrix(p), permutation.matrix(q)
    signals = np.arange(21.0).reshape(7, 3)
    np.testing.assert_array_equal(P @ signals, signals[p])
    np.testing.assert_array_equal(permutation.matrix(permutation.compose(p, q)), P @ Q)
    np.testing.assert_array_equal(permutation.matrix(permutation.inverse(p)), P.T)
    np.testing.assert_array_equal(permutation.identity(7), permutation.compose(p, permutation.inverse(p)))
    for k in range(6):
        p = permutation.random(key(k), 5)
        assert int(permutation.sign(p)) == round(np.linalg.det(np.asarray(permutation.matrix(p))))
    counts = np.bincount(np.asarray(jax.vmap(lambda k: permutation.random(k, 3) @ jnp.asarray([9, 3, 1]))(
        jax.random.split(key(0), 1200)
    )))  # fmt: skip
    assert len(counts[counts > 0]) == 6
    assert counts[counts > 0].min() > 140


def test_the_nearest_permutation_is_nearer_than_all_others():
    M = np.asarray(jax.random.normal(key(0), (5, 5)))
    distances = [np.linalg.norm(M - np.eye(5)[list(p)]) for p in itertools.permutations(range(5))]
    found = np.linalg.norm(M - np.eye(5)[np.asarray(permutation.nearest(jnp.asarray(M)))])
    np.testing.assert_allclose(found, min(distances), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["uniform", "ties", "all equal", "rank one"])
def test_linear_assignments_are_least_and_prove_it(kind):
    rng = np.random.default_rng(0)
    costs = {
        "uniform": rng.random((20, 9, 9)),
        "ties": rng.integers(0, 4, (20, 9, 9)).astype(float),
        "all equal": np.full((20, 9, 9), -3.0),
        "rank one": rng.standard_normal((20, 9, 1)) * rng.standard_normal((20, 1, 9)),
    }[kind]
    solve = jax.jit(jax.vmap(assign))
    found = solve(jnp.asarray(costs), jnp.asarray(rng.standard_normal((20, 9))))
    for k, cost in enumerate(costs):
        least = cost[linear_sum_assignment(cost)].sum()
        assert sorted(found.columns[k].tolist()) == list(range(9))
        np.testing.assert_allclose(cost[np.arange(9), found.columns[k]].sum(), least, rtol=0, atol=100 * EPS)
        u, v = np.asarray(found.rows[k]), np.asarray(found.prices[k])
        assert (cost - u[:, None] - v[None, :]).min() > -100 * EPS
        np.testing.assert_allclose(u.sum() + v.sum(), least, rtol=0, atol=200 * EPS)


def test_costs_that_are_no_numbers_end_all_the_same():
    found = jax.jit(assign)(jnp.full((4, 4), jnp.nan))
    assert sorted(found.columns.tolist()) == [0, 1, 2, 3]


def test_gains_of_all_moves_against_the_form_itself():
    n, places = 7, np.arange(7)
    for symmetric, (a, b) in zip((False, True), (problems(n, 1), problems(n, 1, symmetric=True)), strict=True):
        a, b = a[0], b[0]
        p = np.asarray(permutation.random(key(3), n))
        now, size = evaluated(a, b, p), 50 * n * n * EPS * abs(a).max() * abs(b).max()

        def change(order, a=a, b=b, p=p, now=now):
            return evaluated(a, b, p[order]) - now

        gains = permutation.exchange_gains(jnp.asarray(a), jnp.asarray(b), jnp.asarray(p))
        for i, j in itertools.product(range(n), repeat=2):
            order = places.copy()
            order[[i, j]] = order[[j, i]]
            np.testing.assert_allclose(gains[i, j], change(order), rtol=0, atol=size)
        c = jnp.asarray(b[np.ix_(p, p)])
        turn = jax.jit(functools.partial(reversals, symmetric=symmetric))
        move = jax.jit(functools.partial(insertions, symmetric=symmetric))
        seen = 0
        for centre in range(1, 2 * n - 2):
            for got, i, j in zip(*map(np.asarray, turn(jnp.asarray(a), c, jnp.asarray(centre))), strict=True):
                if np.isfinite(got):
                    order = places.copy()
                    order[i : j + 1] = order[i : j + 1][::-1]
                    np.testing.assert_allclose(got, change(order), rtol=0, atol=size)
                    seen += 1
        assert seen == n * (n - 1) // 2  # every stretch
        for i in range(n - 1):
            got = np.asarray(move(jnp.asarray(a), c, jnp.asarray(i)))
            assert np.isfinite(got).sum() == n - 1 - i
            for j in range(i + 1, n):
                order = np.insert(np.delete(places, i), j, i)
                np.testing.assert_allclose(got[j - i - 1], change(order), rtol=0, atol=size)


@needs_x64
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_walk_is_the_one_that_a_plain_loop_takes(symmetric):
    n, steps = 8, 60
    a, b = (m[0] for m in problems(n, 1, seed=5, symmetric=symmetric))
    tenures = np.random.default_rng(0).integers(4, 13, steps)
    p = np.asarray(permutation.random(key(0), n))
    until, best, best_p = np.zeros((n, n)), evaluated(a, b, p), p
    walked = p.copy()
    for k in range(steps):  # the reference: gains from scratch at every step
        gains = np.asarray(permutation.exchange_gains(*map(jnp.asarray, (a, b, walked))))
        now = evaluated(a, b, walked)
        open_to = ((until <= k) | (now + gains < best - 1e-9)) & ~np.eye(n, dtype=bool)
        u, v = divmod(np.where(open_to, gains, np.inf).argmin(), n)
        walked[[u, v]] = walked[[v, u]]
        until[u, v] = until[v, u] = k + tenures[k]
        if evaluated(a, b, walked) < best - 1e-9:
            best, best_p = evaluated(a, b, walked), walked.copy()
    walk = jax.jit(functools.partial(tabu, symmetric=symmetric))
    found = walk(*map(jnp.asarray, (a, b)), jnp.asarray(p), jnp.asarray(tenures), jnp.asarray(1e-9))
    np.testing.assert_array_equal(found, best_p)


def test_kicks_permute_and_straightening_never_raises_the_value():
    a, b = (jnp.asarray(m[0]) for m in problems(9, 1))
    tried = jnp.stack([jnp.arange(1, 16), jnp.arange(15) % 8], axis=1)
    kicked = jax.jit(jax.vmap(kick, (0, None)))(jax.random.split(key(0), 50), jnp.arange(9))
    assert (np.sort(kicked, axis=1) == np.arange(9)).all()
    assert len(np.unique(kicked, axis=0)) > 40
    straight = jax.jit(jax.vmap(lambda p: straighten(a, b, p, tried, jnp.asarray(1e-9), False)))(kicked)
    assert (np.sort(straight, axis=1) == np.arange(9)).all()
    falls = [evaluated(a, b, p) - evaluated(a, b, q) for p, q in zip(kicked, straight, strict=True)]
    assert min(falls) >= 0
    assert np.median(falls) > 0


# --- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_no_bound_exceeds_the_optimum_and_each_is_the_best_somewhere():
    a, b = problems(5, 48)
    kinds = [lambda a, b: gilmore_lawler(a, b).evaluate(), lambda a, b: gilmore_lawler(a.T, b.T).evaluate()]
    for project, split in itertools.product((False, True), repeat=2):
        kinds.append(lambda a, b, p=project, s=split: eigenvalue_bound(a, b, False, p, s).evaluate())
    bounds = jax.jit(jax.vmap(lambda a, b: jnp.stack([*(kind(a, b) for kind in kinds), lower_bound(a, b)])))
    found = np.asarray(bounds(jnp.asarray(a), jnp.asarray(b)), float)
    optima = np.asarray([least_of_all(*pair) for pair in zip(a, b, strict=True)])
    size = np.linalg.norm(a, axis=(1, 2)) * np.linalg.norm(b, axis=(1, 2))
    assert (found - optima[:, None]).max(axis=1).max(initial=-np.inf, where=size > 0) <= (100 * EPS * size).max()
    assert (found[:, :-1] <= optima[:, None] + 100 * EPS * size[:, None]).all()
    assert (found[:, -1] <= optima).all()  # the certificate, rounding included
    np.testing.assert_allclose(found[:, -1], found[:, :-1].max(axis=1), rtol=0, atol=(200 * EPS * size).max())
    winners = found[:, :-1].argmax(axis=1)
    assert {0, 1} & set(winners)
    assert {4, 5} & set(winners)


@needs_x64
def test_bounds_are_the_published_ones():
    # Anstreicher and Brixius, Math. Program. 89 (2001) 341, table 1: Gilmore-Lawler, projected eigenvalues.
    bounds = jax.jit(lambda a, b: (gilmore_lawler(a, b).evaluate(), eigenvalue_bound(a, b, True).evaluate()))
    for name, published in (("nug12", (493, 472)), ("nug30", (4539, 5266))):
        a, b, _, _ = qaplib.load(name)
        lawler, projected = bounds(jnp.asarray(a, float), jnp.asarray(b, float))
        assert (round(float(lawler), 6), np.ceil(float(projected))) == published


@needs_x64
def test_the_eigenvalue_bound_proves_that_isomorphic_weights_are_laid_best_though_not_symmetric():
    a, b, optimum = planted("not symmetric", 12)
    np.testing.assert_allclose(jax.jit(lower_bound)(jnp.asarray(a), jnp.asarray(b)), optimum, rtol=1e-12, atol=0)


# --- the verb ------------------------------------------------------------------------------------------------------


def few(a, b, key):
    return quadratic_assignment(a, b, key=key, searches=1, steps=500, symmetric=False)


@pytest.mark.thorough
@needs_x64
def test_the_best_of_all_permutations_in_float32_and_a_poisoned_problem_costs_the_others_nothing():
    a, b = (m.astype(np.float32) for m in problems(6, 40))
    a[7, 2, 3], b[9, 0, 0] = np.nan, np.inf
    keys = jax.random.split(key(0), 40)
    found = jax.vmap(few)(a, b, keys)
    assert found.value.dtype == found.bound.dtype == jnp.float32
    assert [int(found.status[k]) for k in (7, 9)] == [Status.NOT_FINITE] * 2
    assert np.isnan(np.asarray(found.value)[[7, 9]]).all()
    assert np.isnan(np.asarray(found.bound)[[7, 9]]).all()
    with pytest.raises(FloatingPointError, match=r"quadratic_assignment: NOT_FINITE in problems \[\[7\], \[9\]\]"):
        found.check()
    for k in (k for k in range(40) if k not in (7, 9)):
        p, size = np.asarray(found.point[k]), np.linalg.norm(a[k].astype(float)) * np.linalg.norm(b[k].astype(float))
        assert int(found.status[k]) == Status.SOLVED
        assert sorted(p) == list(range(6))
        optimum = least_of_all(a[k].astype(float), b[k].astype(float))
        np.testing.assert_allclose(found.value[k], optimum, rtol=0, atol=1e-6 * size)
        np.testing.assert_allclose(found.value[k], evaluated(a[k], b[k], p), rtol=0, atol=1e-6 * size)
        assert float(found.bound[k]) <= optimum
        np.testing.assert_array_equal(found.gap[k], found.value[k] - found.bound[k])
        if k < 6:  # one by one they come to the same
            alone = few(a[k], b[k], keys[k]).check()
            np.testing.assert_allclose(alone.value, found.value[k], rtol=0, atol=1e-6 * size)
            np.testing.assert_allclose(alone.bound, found.bound[k], rtol=0, atol=1e-4 * size)


TWELVE = ["nug12", "had12", "scr12", "rou12", "tai12a", "chr12c"]


@pytest.mark.thorough
@pytest.mark.parametrize("name", TWELVE)
def test_published_optima_come_out_exactly_of_integers(name):
    a, b, optimum, _ = qaplib.load(name)
    found = quadratic_assignment(a, b, key=key(0), steps=2500).check()
    assert jnp.issubdtype(found.value.dtype, jnp.integer)
    assert int(found.value) == optimum == evaluated(a, b, found.point)
    assert float(found.bound) == round(float(found.bound)) <= optimum
    assert float(found.gap) < 0.32 * optimum
    assert found.point.dtype == jnp.int32


@pytest.mark.thorough
def test_the_same_key_gives_the_same_answer_and_another_another_walk():
    a, b, _, _ = qaplib.load("nug12")
    one, same, other = (quadratic_assignment(a, b, key=key(k), steps=2500) for k in (0, 0, 1))
    np.testing.assert_array_equal(one.point, same.point)
    assert int(one.steps) == int(same.steps) >= 2500
    assert one.point.tolist() != other.point.tolist()  # eight best ones, by symmetry


def test_a_start_is_where_the_first_search_begins():
    start = permutation.random(key(3), 6)
    points = _starts(*(jnp.asarray(m[0]) for m in problems(6, 1)), key(0), start, 1)
    np.testing.assert_array_equal(points, start[None])


@pytest.mark.slow
def test_a_start_is_never_lost():
    a, b, optimum, best = qaplib.load("nug12")
    found = quadratic_assignment(a, b, key=key(0), start=best, searches=1, steps=1)
    assert int(found.value) == optimum


@pytest.mark.sampled(2)
@needs_x64
@pytest.mark.parametrize("kind", ["weights", "graph", "line", "far apart"])
def test_planted_orders_of_fifty_are_found(kind):
    a, b, optimum = planted(kind, 50)
    found = quadratic_assignment(a, b, key=key(0), steps=2500).check()
    np.testing.assert_allclose(found.value, optimum, rtol=1e-9, atol=0)
    assert float(found.bound) <= optimum + 1e-9 * abs(optimum)
    if kind == "weights":  # proved, so no time is spent
        np.testing.assert_allclose(found.bound, optimum, rtol=1e-10, atol=0)
        assert int(found.steps) == 0


@needs_x64
def test_relaxed_and_spectral_starts_find_what_they_are_for():
    a, b, optimum = planted("weights", 30)
    p = jax.jit(relax)(jnp.asarray(a), jnp.asarray(b), jnp.full((30, 30), 1 / 30))
    np.testing.assert_allclose(evaluated(a, b, p), optimum, rtol=1e-12, atol=0)
    for kind in ("line", "far apart"):
        a, b, optimum = planted(kind, 30)
        p = jax.jit(spectral)(jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(evaluated(a, b, p), optimum, rtol=1e-12, atol=0)
    P = np.asarray(jax.jit(lambda k: random_stochastic(k, 30, jnp.zeros(0).dtype))(key(0)))
    np.testing.assert_allclose([P.sum(axis=0), P.sum(axis=1)], 1, rtol=0, atol=1e-4)
    assert P.min() > 0


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_one_two_three(n):
    a, b = np.arange(1.0, n * n + 1).reshape(n, n), np.arange(n * n, 0.0, -1).reshape(n, n) ** 2
    found = quadratic_assignment(a, b, key=key(0), searches=1, steps=3).check()
    optimum = least_of_all(a, b)
    assert float(found.value) == optimum == evaluated(a, b, found.point)
    np.testing.assert_allclose(found.bound, optimum, rtol=0.3, atol=0)
    assert float(found.bound) <= optimum


MATRIX = np.ones((3, 3))
BAD = {
    "not square": (
        lambda: quadratic_assignment(np.ones((3, 4)), MATRIX, key=key(0)),
        ValueError,
        r"a: expected a square",
    ),
    "an integer vector": (
        lambda: quadratic_assignment(MATRIX, np.arange(3), key=key(0)),
        ValueError,
        r"b: expected a sq",
    ),
    "a batch": (lambda: quadratic_assignment(np.ones((2, 3, 3)), MATRIX, key=key(0)), ValueError, "a square matrix"),
    "two sizes": (
        lambda: quadratic_assignment(MATRIX, np.ones((4, 4)), key=key(0)),
        ValueError,
        r"b: got shape \(4, 4\)",
    ),
    "nothing": (lambda: quadratic_assignment(np.ones((0, 0)), MATRIX, key=key(0)), ValueError, "empty axis"),
    "complex": (lambda: quadratic_assignment(1j * MATRIX, MATRIX, key=key(0)), TypeError, "complex"),
    "half precision": (
        lambda: quadratic_assignment(MATRIX.astype("float16"), MATRIX, key=key(0)),
        TypeError,
        "float16",
    ),
    "booleans": (lambda: quadratic_assignment(MATRIX > 0, MATRIX, key=key(0)), TypeError, "got bool"),
    "text": (lambda: quadratic_assignment("ab", MATRIX, key=key(0)), TypeError, "array of numbers"),
    "no searches": (lambda: quadratic_assignment(MATRIX, MATRIX, key=key(0), searches=0), ValueError, "searches"),
    "half a step": (lambda: quadratic_assignment(MATRIX, MATRIX, key=key(0), steps=0.5), TypeError, "steps"),
    "a start of another size": (
        lambda: quadratic_assignment(MATRIX, MATRIX, key=key(0), start=[0, 1]),
        ValueError,
        "start: expected a permutation, 3 integers",
    ),
    "a start with a place twice": (
        lambda: quadratic_assignment(MATRIX, MATRIX, key=key(0), start=[0, 1, 1]),
        ValueError,
        "each of 0 ... 2 once",
    ),
}


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
@needs_x64
@pytest.mark.parametrize("kind", ["weights", "not symmetric", "graph", "line", "far apart"])
def test_planted_orders_of_a_hundred_are_found(kind):
    a, b, optimum = planted(kind, 100)
    np.testing.assert_allclose(quadratic_assignment(a, b, key=key(0)).check().value, optimum, rtol=1e-9, atol=0)


@pytest.mark.slow
@needs_x64
@pytest.mark.parametrize("name", [name for name in qaplib.solutions() if name not in TWELVE])
def test_published_problems_are_solved_within_a_hundredth(name):
    a, b, optimum, _ = qaplib.load(name)
    found = quadratic_assignment(a, b, key=key(0), steps=20_000).check()
    assert optimum <= int(found.value) <= (1.02 if name == "chr25a" else 1.005) * optimum
    assert float(found.bound) <= optimum
