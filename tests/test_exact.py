"""The closed form against the theorem, its gauge, and its derivatives at and away from ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

from jaxdescramble import exact
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Factor, Gram, Samples, smoothness
from jaxdescramble.operators import combine, derivative, from_matrix

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def planted(rng, n, singular, m=None):
    """Signals with given singular values in random frames."""
    m = n + 5 if m is None else m
    left = ortho_group.rvs(n, random_state=rng) if n > 1 else np.ones((1, 1))
    right = np.linalg.qr(rng.standard_normal((max(m, n), n)))[0]
    return jnp.asarray((left * singular) @ right.T)


SIZES = [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 33, 40, 64, 65, 80, 100, 128, 200, 300]


def random_operator(rng, n):
    boundary, scheme = rng.choice(["periodic", "neumann", "dirichlet"]), rng.choice(["spectral", "difference"])
    return derivative(n, int(rng.integers(1, 5)), str(boundary), str(scheme))


def random_singular_values(rng, n):
    """Ranks from 0 to n, twelve orders of magnitude, ties."""
    singular = np.sort(10.0 ** rng.uniform(-6, 2, n))[::-1]
    kind = rng.integers(4)
    if kind == 1:
        singular = np.full(n, 3.0)  # everything ties
    elif kind == 2:
        singular = np.repeat(singular[::2], 2)[:n]  # pairs tie
    return singular * (np.arange(n) < rng.integers(0, n + 1))


@pytest.mark.sampled(8)
@needs_x64
@pytest.mark.parametrize("n", SIZES)
def test_value_equals_the_rearrangement_bound_on_two_hundred_random_problems(n):
    eps, rng = np.finfo(np.float64).eps, np.random.default_rng(n)
    operator = random_operator(rng, n)
    solve = jax.jit(lambda S: exact.brockett_minimiser(operator, Samples(S)))
    a = operator.eigenvalues
    for _ in range(10):
        singular = random_singular_values(rng, n)
        rank, found = int((singular > 0).sum()), solve(planted(rng, n, singular))
        truth = float(np.sum(a * singular**2))
        scale = float(a[-1] * np.sum(singular**2))
        # Relative where the bound is more than rounding, else absolute in eps a_n sigma_1^2.
        allowed = 1e-10 * truth + 10 * n * eps * a[-1] * singular[0] ** 2
        assert abs(float(found.value) * scale - truth) <= allowed
        assert abs(float(found.bound) * scale - truth) <= allowed
        assert int(found.rank) == rank
        np.testing.assert_allclose(found.singular_values, singular, atol=10 * n * eps * singular[0])
        assert float(orthogonal.defect(found.point)) < 50 * n * eps
        assert (int(found.status) == Status.ZERO_SIGNALS) == (rank == 0)


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("summary", [Factor, Samples, Gram])
@pytest.mark.parametrize("group", ["O", "SO"])
def test_nothing_on_the_group_is_below_the_minimum_or_above_the_maximum(summary, group):
    S = jnp.asarray(np.random.default_rng(3).standard_normal((7, 20)))
    for operator in (derivative(7, 2), from_matrix(jnp.asarray(np.random.default_rng(4).standard_normal((5, 7))))):
        objective, kept = smoothness(operator=operator), summary.empty(7, S.dtype).update(S)
        low = exact.brockett_minimiser(operator, kept, group)
        high = exact.brockett_maximiser(operator, kept, group)
        points = jax.vmap(lambda k: orthogonal.random(k, 7, group))(jax.random.split(jax.random.key(0), 500))
        values = jax.vmap(lambda p, objective=objective, kept=kept: objective(p, kept))(points)
        assert float(low.value) < float(values.min())
        assert float(values.max()) < float(high.value)
        for found in (low, high):
            np.testing.assert_allclose(objective(found.point, kept), found.value, rtol=1e-12)
            np.testing.assert_allclose(found.value, found.bound, rtol=1e-11)
            if group == "SO":
                np.testing.assert_allclose(jnp.linalg.det(found.point), 1, rtol=1e-10)


@pytest.mark.thorough
@needs_x64
def test_special_group_turns_the_sign_of_the_roughest_mode_only():
    for seed in range(6):
        S = jnp.asarray(np.random.default_rng(seed).standard_normal((6, 9)))
        full, special = (exact.brockett_minimiser(derivative(6), Samples(S), group) for group in ("O", "SO"))
        modes = derivative(6).basis.T @ np.asarray(special.point - full.point)
        np.testing.assert_allclose(modes[:-1], 0, atol=1e-12)
        np.testing.assert_allclose(special.value, full.value, rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.both_precisions
@pytest.mark.parametrize(("summary", "worst"), [(Factor, 1e-3), (Samples, 1e-3), (Gram, np.inf)])
def test_float32_resolves_what_the_summary_promises(summary, worst):
    # One strong component and many of 1e-4: what decides is below a float32 Gram matrix's resolution.
    n = 40
    singular = np.concatenate([[1.0], np.geomspace(3e-4, 1e-4, n - 1)])
    S = planted(np.random.default_rng(0), n, singular, 200).astype(jnp.float32)
    operator = derivative(n)
    truth = float(np.sum(operator.eigenvalues * singular**2) / (operator.eigenvalues[-1] * np.sum(singular**2)))
    found = exact.brockett_minimiser(operator, summary.empty(n, jnp.float32).update(S))
    assert found.point.dtype == jnp.float32
    at_point = np.linalg.norm(operator.matrix @ np.asarray(found.point, np.float64) @ np.asarray(S, np.float64)) ** 2
    error = at_point / (operator.eigenvalues[-1] * np.sum(singular**2)) / truth - 1
    assert abs(error) < worst
    if summary is Gram:
        assert error > 0.02  # and this is why the Gram route is on request only
        assert int(found.rank) < n


@pytest.mark.thorough
@needs_x64
def test_streamed_in_any_batches_the_answer_is_the_same():
    S = jnp.asarray(np.random.default_rng(0).standard_normal((10, 300)))
    objective = smoothness(order=1, boundary="neumann")
    summary = objective.empty(10, S.dtype)
    for start in range(0, 300, 7):
        summary = objective.update(summary, S[:, start : start + 7])
    whole, streamed = (exact.ClosedForm()(objective, s) for s in (objective.summarise(S), summary))
    np.testing.assert_allclose(streamed.point, whole.point, atol=1e-11)
    assert int(summary.count) == 300


@needs_x64
def test_sums_of_terms_on_one_set_of_signals_have_a_closed_form():
    S = jnp.asarray(np.random.default_rng(0).standard_normal((8, 30)))
    terms, weights = [derivative(8, 1), derivative(8, 2, "neumann")], [0.7, 1.9]
    both = combine(weights, terms)
    found = exact.brockett_minimiser(both, Samples(S))
    total = float(found.value) * float(both.eigenvalues[-1]) * float(jnp.sum(S**2))
    by_hand = sum(w * np.linalg.norm(d.matrix @ found.point @ S) ** 2 for w, d in zip(weights, terms, strict=True))
    np.testing.assert_allclose(total, by_hand, rtol=1e-10)
    A = sum(w * d.matrix.T @ d.matrix for w, d in zip(weights, terms, strict=True))
    np.testing.assert_allclose(
        total, np.sum(np.linalg.eigvalsh(A) * np.linalg.eigvalsh(np.asarray(S @ S.T))[::-1]), rtol=1e-10
    )


@needs_x64
def test_joint_signals_are_one_problem():
    # Different signals with one operator: the Gram matrices add up, and merging summaries says so.
    rng = np.random.default_rng(0)
    one, other = (jnp.asarray(rng.standard_normal((6, m))) for m in (9, 14))
    objective = smoothness()
    merged = objective.merge(objective.summarise(one), objective.summarise(other))
    together = objective.summarise(jnp.concatenate([one, other], axis=1))
    np.testing.assert_allclose(
        exact.ClosedForm()(objective, merged).value, exact.ClosedForm()(objective, together).value, rtol=1e-12
    )


# --- derivatives ---------------------------------------------------------------------------------------------------


def optimum(operator):
    return jax.jit(lambda S: exact.brockett_minimiser(operator, Factor.empty(S.shape[0], S.dtype).update(S)).value)


def invariant_reading(operator):
    """Energy of `P S` at one |frequency|: the same for every gauge."""

    @jax.jit
    def reading(S):
        P = exact.brockett_minimiser(operator, Factor.empty(S.shape[0], S.dtype).update(S)).point
        return jnp.sum(operator.analyse(jnp.tanh(P @ S) @ S.T)[1:3] ** 2)

    return reading


def finite_difference(f, S, V, step=1e-5):
    return (f(S + step * V) - f(S - step * V)) / (2 * step)


@needs_x64
@pytest.mark.parametrize("case", ["generic", "tie inside a Fourier pair", "two ties", "rank deficient"])
def test_gradients_match_finite_differences_at_smooth_ties(case):
    rng, n = np.random.default_rng(5), 7
    singular = {
        "generic": np.array([9.0, 6, 5, 3, 2, 1, 0.5]),
        "tie inside a Fourier pair": np.array([9.0, 6, 6, 3, 2, 1, 0.5]),
        "two ties": np.array([9.0, 6, 6, 3, 3, 1, 0.5]),
        "rank deficient": np.array([9.0, 6, 5, 3, 0, 0, 0]),
    }[case]
    S, V, operator = planted(rng, n, singular, 12), jnp.asarray(rng.standard_normal((n, 12))), derivative(n)
    value = optimum(operator)
    np.testing.assert_allclose(jnp.sum(jax.grad(value)(S) * V), finite_difference(value, S, V), rtol=1e-6)
    bound = jax.jit(lambda S: exact.brockett_minimiser(operator, Samples(S)).bound)
    np.testing.assert_allclose(jnp.sum(jax.grad(bound)(S) * V), finite_difference(bound, S, V), rtol=1e-6)
    assert int(exact.brockett_minimiser(operator, Samples(S)).status) == Status.SOLVED
    if case == "rank deficient":
        return  # P S is free outside the range of S; only the value is differentiable there
    reading = invariant_reading(operator)
    expected = finite_difference(reading, S, V, 1e-6)
    np.testing.assert_allclose(jnp.sum(jax.grad(reading)(S) * V), expected, rtol=2e-5)
    np.testing.assert_allclose(jax.jvp(reading, (S,), (V,))[1], expected, rtol=2e-5)


@pytest.mark.thorough
@needs_x64
def test_the_canonical_point_itself_moves_as_its_derivative_says():
    rng = np.random.default_rng(1)
    S, V = (jnp.asarray(rng.standard_normal((9, 30))) for _ in range(2))
    for operator in (derivative(9), derivative((3, 3), boundary="neumann"), derivative(9, 1, "dirichlet")):

        @jax.jit
        def point(S, operator=operator):
            return exact.brockett_minimiser(operator, Factor.empty(9, S.dtype).update(S)).point

        np.testing.assert_allclose(jax.jvp(point, (S,), (V,))[1], finite_difference(point, S, V, 1e-6), atol=1e-6)


@needs_x64
def test_second_derivatives_of_the_value():
    rng = np.random.default_rng(1)
    S, V = (jnp.asarray(rng.standard_normal((6, 20))) for _ in range(2))
    slope = jax.grad(optimum(derivative(6)))
    bend = jax.jvp(slope, (S,), (V,))[1]
    np.testing.assert_allclose(bend, finite_difference(slope, S, V), atol=1e-7)
    assert float(jnp.abs(bend).max()) > 1e-3


@pytest.mark.thorough
@needs_x64
def test_a_kink_is_named_and_its_supergradient_lies_above():
    # a = (0, a_2) on two points, B = 1: along diag(1, -1) the value moves as 1 - |t|.
    operator = derivative(2, scheme="difference")
    S = jnp.eye(2)
    found = exact.brockett_minimiser(operator, Samples(S))
    assert int(found.status) == Status.KINK

    @jax.jit
    def value(S):
        return exact.brockett_minimiser(operator, Samples(S)).value

    slope = jax.grad(value)(S)
    assert bool(jnp.isfinite(slope).all())
    rng = np.random.default_rng(0)
    strict = 0
    for step in (1e-2, 1e-3):
        for _ in range(20):
            V = jnp.asarray(rng.standard_normal((2, 2)))
            line = float(value(S) + step * jnp.sum(slope * V))
            # Concave in B, so the supergradient is an upper bound up to second order in S.
            assert float(value(S + step * V)) <= line + 10 * step**2
            strict += float(value(S + step * V)) < line - 0.1 * step
    assert strict >= 10
    smooth = exact.brockett_minimiser(derivative(3), Samples(planted(rng, 3, np.array([2.0, 1, 1]))))
    assert int(smooth.status) == Status.SOLVED  # the same tie, inside a cosine-sine pair


@needs_x64
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_derivatives_are_clean_under_vmap(mode):
    S = jnp.asarray(np.random.default_rng(0).standard_normal((3, 5, 9)))
    take = jax.jacfwd if mode == "forward" else jax.jacrev
    f = optimum(derivative(5))
    np.testing.assert_allclose(jax.vmap(take(f))(S), jnp.stack([take(f)(s) for s in S]), atol=1e-10)


# --- gauge and alignment ---------------------------------------------------------------------------------------------


def random_element(operator, key):
    """A Haar-random element of the stabiliser of D^T D."""
    T, blocks, start = operator.basis, np.zeros((operator.size,) * 2), 0
    for size, k in zip(operator.multiplicities, jax.random.split(key, len(operator.multiplicities)), strict=True):
        blocks[start : start + size, start : start + size] = orthogonal.random(k, size)
        start += size
    return jnp.asarray(T @ blocks @ T.T)


OPERATORS = [derivative(8), derivative(9, 1, "neumann"), derivative((4, 4)), derivative((3, 4), boundary="dirichlet")]


@needs_x64
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda d: f"{d.shape} {d.boundary[0]}")
def test_canonical_is_one_representative_of_every_gauge_orbit(operator):
    point = orthogonal.random(jax.random.key(0), operator.size)
    chosen = exact.canonical(point, operator)
    for seed in range(5):
        element = random_element(operator, jax.random.key(seed))
        np.testing.assert_allclose(exact.canonical(element @ point, operator), chosen, atol=1e-10)
        assert float(jnp.trace(element @ point)) <= float(jnp.trace(chosen)) + 1e-12
    assert float(orthogonal.defect(chosen)) < 1e-12


@needs_x64
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda d: f"{d.shape} {d.boundary[0]}")
def test_align_undoes_any_element_of_the_gauge_and_beats_all_others(operator):
    rng = np.random.default_rng(0)
    p, noise = (jnp.asarray(rng.standard_normal((operator.size, 5))) for _ in range(2))
    element = random_element(operator, jax.random.key(1))
    found = exact.align(p, element @ p, exact.Stabiliser(operator))
    assert float(found.distance) < 1e-12
    np.testing.assert_allclose(found.element @ p, found.aligned, atol=1e-12)
    target = element @ p + 0.5 * noise
    best = float(exact.align(p, target, exact.Stabiliser(operator)).distance)
    for seed in range(50):
        other = random_element(operator, jax.random.key(seed))
        assert best <= float(jnp.linalg.norm(other @ p - target) / jnp.linalg.norm(target)) + 1e-12


@pytest.mark.both_precisions
@pytest.mark.parametrize("n", [1, 6, 7])
def test_circular_shifts_find_shift_reversal_and_sign(n):
    p = jnp.asarray(np.random.default_rng(n).standard_normal((n, 3)))
    tolerance = 100 * float(jnp.finfo(p.dtype).eps)
    for shift in range(n):
        for q in (jnp.roll(p, shift, 0), -jnp.roll(p, shift, 0), jnp.roll(p[::-1], shift, 0)):
            assert float(exact.align(p, q, exact.CircularShifts(n)).distance) < tolerance
    if n > 2:
        assert float(exact.align(p, p[::-1], exact.CircularShifts(n, reversal=False)).distance) > 0.1
        assert float(exact.align(p, -p, exact.CircularShifts(n, sign=False)).distance) > 0.1


@needs_x64
def test_two_runs_on_differently_scrambled_neurons_agree_after_alignment():
    S = jnp.asarray(np.random.default_rng(0).standard_normal((8, 40)))
    operator = derivative(8)
    one = exact.brockett_minimiser(operator, Samples(S)).point @ S
    turned = orthogonal.random(jax.random.key(0), 8) @ S
    other = exact.brockett_minimiser(operator, Samples(turned)).point @ turned
    assert float(jnp.linalg.norm(one - other) / jnp.linalg.norm(one)) > 0.1
    assert float(exact.align(other, one, exact.Stabiliser(operator)).distance) < 1e-10


# --- Procrustes and circulant ----------------------------------------------------------------------------------------


@needs_x64
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
@pytest.mark.parametrize("group", ["O", "SO"])
def test_the_diagonal_sum_is_the_nuclear_norm_and_nothing_beats_it(shape, group):
    W = jnp.asarray(np.random.default_rng(0).standard_normal(shape))
    best = exact.diagonal_sum(W, group)
    total = float(jnp.trace(best.point @ W))
    points = jax.vmap(lambda k: orthogonal.random(k, shape[0], group))(jax.random.split(jax.random.key(0), 2000))
    assert total > float(jax.vmap(lambda p: jnp.trace(p @ W))(points).max())
    if group == "O" and shape[1] <= shape[0]:
        np.testing.assert_allclose(total, np.linalg.norm(np.asarray(W), "nuc"), rtol=1e-12)
        np.testing.assert_allclose(best.value, -1, rtol=1e-12)
    if group == "SO":
        np.testing.assert_allclose(jnp.linalg.det(best.point), 1, rtol=1e-12)
    np.testing.assert_allclose(
        jax.grad(lambda w: exact.diagonal_sum(w, "O").singular_values.sum())(W)[:4, :4],
        exact.diagonal_sum(W, "O").point.T[:4, :4],
        atol=1e-10,
    )


@pytest.mark.both_precisions
def test_procrustes_recovers_a_planted_rotation():
    S = jnp.asarray(np.random.default_rng(0).standard_normal((5, 12)))
    Q = orthogonal.random(jax.random.key(0), 5)
    found = exact.procrustes(S, Q @ S)
    eps = float(jnp.finfo(S.dtype).eps)
    np.testing.assert_allclose(found.point, Q, atol=200 * eps)
    assert float(found.value) < 100 * eps
    assert float(exact.procrustes(S, jnp.zeros_like(S)).value) == pytest.approx(1)


@needs_x64
@pytest.mark.parametrize("n", [7, 8])
def test_stationary_signals_are_descrambled_by_permuting_modes(n):
    rng = np.random.default_rng(n)
    spectrum = rng.uniform(0.1, 2, n // 2 + 1)
    c = jnp.asarray(np.fft.irfft(spectrum, n=n))
    B = jnp.stack([jnp.roll(c, k) for k in range(n)], axis=1)
    fast = exact.circulant_minimiser(c)
    slow = exact.brockett_minimiser(derivative(n), Gram(B, jnp.asarray(n)))
    np.testing.assert_allclose(fast.value, slow.value, rtol=1e-10)
    P = fast.point
    assert float(orthogonal.defect(P)) < 1e-12
    modes = derivative(n).basis.T @ np.asarray(P) @ derivative(n).basis
    np.testing.assert_allclose(np.sort(np.abs(modes), axis=1)[:, -1], 1, atol=1e-12)  # a permutation of modes
    np.testing.assert_allclose(smoothness(summary="gram")(P, Gram(B, jnp.asarray(n))), slow.value, rtol=1e-10)
    filtered = jnp.asarray(rng.standard_normal((n, 4)))
    np.testing.assert_allclose(fast.transform(filtered), P @ filtered, atol=1e-12)
    low_pass = exact.circulant_minimiser(jnp.asarray(np.fft.irfft(np.sort(spectrum)[::-1], n=n)))
    np.testing.assert_allclose(low_pass.point, np.eye(n), atol=1e-12)


@needs_x64
def test_jit_vmap_and_one_compilation():
    traces = []

    @jax.jit
    def solve(summary):
        traces.append(1)
        return exact.brockett_minimiser(derivative(6), summary)

    batch = [jnp.asarray(np.random.default_rng(seed).standard_normal((6, 9))) for seed in range(4)]
    looped = [solve(Factor.empty(6, s.dtype).update(s)) for s in batch]
    assert len(traces) == 1
    together = jax.vmap(lambda s: exact.brockett_minimiser(derivative(6), Factor.empty(6, s.dtype).update(s)))(
        jnp.stack(batch)
    )
    np.testing.assert_allclose(together.point, jnp.stack([found.point for found in looped]), atol=1e-12)
    poisoned = together_with_poison = jax.vmap(lambda s: exact.brockett_minimiser(derivative(6), Samples(s)))(
        jnp.stack(batch).at[2, 0, 0].set(jnp.nan)
    )
    assert poisoned.status.tolist() == [0, 0, Status.NOT_FINITE, 0]
    np.testing.assert_allclose(together_with_poison.value[3], looped[3].value, rtol=1e-12)
    assert bool(jnp.isnan(poisoned.point[2]).all())


@pytest.mark.thorough
@pytest.mark.both_precisions
@pytest.mark.parametrize("n", [64, 256])
def test_numerical_operators_reach_their_bound_in_float32(n):
    step = np.eye(n, k=1)[:-1] - np.eye(n)[:-1]
    S = planted(np.random.default_rng(0), n, 1 / (1 + np.arange(n)) ** 3.0, 2 * n).astype(jnp.float32)
    found = exact.brockett_minimiser(from_matrix(jnp.asarray(step.T @ step, jnp.float32)), Samples(S))
    np.testing.assert_allclose(found.value, found.bound, rtol=2e-2)


@pytest.mark.thorough
@pytest.mark.both_precisions
def test_a_decaying_spectrum_is_no_kink():
    S = planted(np.random.default_rng(0), 64, 1 / (1 + np.arange(64)) ** 2.0).astype(jnp.float32)
    assert int(exact.brockett_minimiser(derivative(64, boundary="neumann"), Samples(S)).status) == Status.SOLVED
