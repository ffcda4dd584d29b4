"""Properties that hold for any signals whatever, looked for by hypothesis."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal
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


@pytest.mark.thorough
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


skews = hnp.arrays(np.float64, (N, N), elements=st.floats(-1, 1, allow_subnormal=False)).map(lambda M: (M - M.T) / 2)
matrices = hnp.arrays(np.float64, (N, N), elements=st.floats(-10, 10, allow_subnormal=False))
permutations = st.permutations(range(N)).map(np.asarray)
few = settings(max_examples=25, deadline=None)
MOVES = {name: jax.jit(move) for name, move in jd.manifolds.retractions.RETRACTIONS.items()}
geodesic, logarithm, polar = map(jax.jit, (orthogonal.geodesic, orthogonal.logarithm, orthogonal.polar))


@few
@given(skews, seeds)
def test_retractions_stay_on_the_group_and_leave_along_the_geodesic(W, seed):
    W, P = jnp.asarray(W), orthogonal.random(jax.random.key(seed), N)
    small = 1e-4 * W
    for name, move in MOVES.items():
        assert float(orthogonal.defect(move(P, W))) < 1e-12, name
        # Of order one at least: what is left is of the size of the square.
        assert float(jnp.abs(move(P, small) - geodesic(P, small)).max()) <= 1e-8 * float((W**2).sum()) + 1e-14, name
        assert float(jnp.linalg.det(move(P, W)) * jnp.linalg.det(P)) > 0, name


@few
@given(skews)
def test_the_logarithm_undoes_the_exponential_and_measures_its_length(W):
    W = W * min(1.0, 3.0 / max(np.linalg.norm(W, 2), 1e-300))  # turned by less than pi, every plane is told
    Q = geodesic(jnp.eye(N), jnp.asarray(W))
    np.testing.assert_allclose(logarithm(Q), W, atol=1e-11)
    np.testing.assert_allclose(logarithm(Q.T), -W, atol=1e-11)


@few
@given(matrices, seeds)
def test_the_polar_factor_is_nearest_and_its_own(M, seed):
    M, other = jnp.asarray(M), orthogonal.random(jax.random.key(seed), N)
    nearest, singular = polar(M)
    assert float(jnp.linalg.norm(nearest - M)) <= float(jnp.linalg.norm(other - M)) + 1e-10
    np.testing.assert_allclose(jnp.sum(nearest * M), singular.sum(), atol=1e-10)
    np.testing.assert_allclose(polar(nearest)[0], nearest, atol=1e-12)
    vector = orthogonal.tangent(other, M)
    np.testing.assert_allclose(orthogonal.tangent(other, vector), vector, atol=1e-12)  # a projection


@pytest.mark.thorough
@few
@given(permutations, permutations, permutations, seeds)
def test_permutations_are_a_group_and_their_matrices_say_so(p, q, r, seed):
    G = jd.manifolds.permutation
    p, q, r = map(jnp.asarray, (p, q, r))
    np.testing.assert_array_equal(G.compose(G.compose(p, q), r), G.compose(p, G.compose(q, r)))
    np.testing.assert_array_equal(G.compose(p, G.inverse(p)), G.identity(N))
    np.testing.assert_array_equal(G.matrix(G.compose(p, q)), G.matrix(p) @ G.matrix(q))
    assert int(G.sign(G.compose(p, q))) == int(G.sign(p)) * int(G.sign(q))
    noise = 0.4 * np.random.default_rng(seed).uniform(-1, 1, (N, N))  # no permutation gains as much as one entry
    np.testing.assert_array_equal(G.nearest(G.matrix(p) + jnp.asarray(noise) / N), p)


OPERATORS = [
    derivative(N, order, boundary, scheme)
    for order, boundary, scheme in (
        (1, "periodic", "spectral"),
        (2, "periodic", "difference"),
        (1, "neumann", "difference"),
        (2, "neumann", "spectral"),
        (2, "dirichlet", "difference"),
        (3, "dirichlet", "spectral"),
    )
]


@pytest.mark.thorough
@few
@given(signals, st.sampled_from(OPERATORS), st.integers(0, N - 1))
def test_operators_know_their_own_modes(S, D, shift):
    S, scale = jnp.asarray(S), float(np.abs(S).max()) + 1e-300
    np.testing.assert_allclose(D.synthesise(D.analyse(S)) / scale, S / scale, atol=1e-13)
    largest = D.eigenvalues[-1]
    energy = D.eigenvalues @ np.asarray(D.analyse(S) / scale) ** 2
    np.testing.assert_allclose(jnp.sum((D.apply(S) / scale) ** 2, axis=0), energy, atol=1e-11 * largest)
    np.testing.assert_allclose(D.apply(S) / scale, D.matrix @ S / scale, atol=1e-11 * largest)
    if D.boundary == ("periodic",):
        turned = D.apply(jnp.roll(S, shift, axis=0))
        np.testing.assert_allclose(turned / scale, jnp.roll(D.apply(S), shift, axis=0) / scale, atol=1e-11 * largest)
    constant = jnp.sum(D.apply(jnp.ones(N)) ** 2)
    assert float(constant) < 1e-20 if D.boundary != ("dirichlet",) else float(constant) > 1e-3


OBJECTIVES = {
    name: (jax.jit(objective), jax.jit(lambda S, objective=objective: objective.bound(objective.summarise(S))))
    for name, objective in {
        "smoothness": smoothness(),
        "periodicity": jd.objectives.periodicity(2),
        "total variation": jd.objectives.total_variation(boundary="neumann"),
        "locality": jd.objectives.locality("neumann"),
        "sparsity": jd.objectives.sparsity(),
        "l4": jd.objectives.sparsity("l4"),
        "participation": jd.objectives.sparsity("participation"),
        "entropy": jd.objectives.entropy(),
        "spectral entropy": jd.objectives.spectral_entropy(),
        "monotonicity": jd.objectives.monotonicity(),
        "similarity": jd.objectives.similarity(),
    }.items()
}


@few
@given(
    hnp.arrays(np.float64, (N, 7), elements=st.floats(-1e3, 1e3, allow_subnormal=False)),
    seeds,
    st.permutations(range(7)),
    st.floats(1e-6, 1e6),
)
def test_objectives_are_without_units_and_between_their_bound_and_one(S, seed, order, scale):
    S, P = jnp.asarray(S), orthogonal.random(jax.random.key(seed), N)
    for name, (at, bound) in OBJECTIVES.items():
        found = float(at(P, S))
        assert -1 - 1e-12 <= found <= 1 + 1e-9, name
        assert float(bound(S)) <= found + 1e-9, name
        assert abs(float(at(P, scale * S)) - found) < 1e-9, name
        assert abs(float(at(P, S[:, jnp.asarray(order)])) - found) < 1e-9, name
        assert abs(float(at(P, jnp.concatenate([S, S], axis=1))) - found) < 1e-9, name


@few
@given(signals, seeds, permutations, hnp.arrays(np.float64, N, elements=st.sampled_from([-1.0, 1.0])))
def test_objectives_do_not_see_their_own_gauge(S, seed, order, signs):
    S, P = jnp.asarray(S), orthogonal.random(jax.random.key(seed), N)
    turned, mixed, signs = jnp.roll(P, 2, axis=0), P[jnp.asarray(order)], jnp.asarray(signs)[:, None]
    free = {
        "smoothness": (turned, P[::-1], -P),
        "periodicity": (turned, P[::-1], -P),
        "total variation": (P[::-1], -P),
        "locality": (P[::-1], signs * P),
        "sparsity": (mixed, signs * P),
        "l4": (mixed, signs * P),
        "participation": (mixed, signs * P),
        "entropy": (mixed, signs * P),
        "spectral entropy": (turned, P[::-1], -P),
    }
    for name, points in free.items():
        at = OBJECTIVES[name][0]
        for point in points:
            assert abs(float(at(point, S)) - float(at(P, S))) < 1e-9, name


@few
@given(signals, seeds, st.sampled_from(["O", "SO"]))
def test_the_closed_form_pairs_slow_with_strong_and_its_opposite_slow_with_weak(S, seed, group):
    S, turn, D = jnp.asarray(S), orthogonal.random(jax.random.key(seed), N), derivative(N)
    powers = np.linalg.svd(np.asarray(S) / max(float(jnp.abs(S).max()), 1e-300), compute_uv=False) ** 2
    whole = max(powers.sum() * D.eigenvalues[-1], 1e-300)
    low, high = extremes(S, group)
    np.testing.assert_allclose(low.value, D.eigenvalues @ powers / whole, atol=1e-9)
    np.testing.assert_allclose(high.value, D.eigenvalues[::-1] @ powers / whole, atol=1e-9)
    assert float(low.value) - 1e-9 <= float(value(turn, S)) <= float(high.value) + 1e-9
    if group == "SO":
        assert float(jnp.linalg.det(low.point)) > 0
    # Turned signals have the answer turned back, up to what the modes leave free.
    np.testing.assert_allclose(value(extremes(turn @ S, group)[0].point @ turn, S), low.value, atol=1e-9)


@functools.partial(jax.jit, static_argnames="group")
def extremes(S, group):
    summary = Factor.empty(N, S.dtype).update(S)
    return tuple(
        solve(derivative(N), summary, group) for solve in (jd.exact.brockett_minimiser, jd.exact.brockett_maximiser)
    )


@few
@given(signals, signals, signals, st.sampled_from([jd.objectives.Factor, jd.objectives.Gram, jd.objectives.Samples]))
def test_merging_summaries_is_associative_and_commutative(A, B, C, kind):
    one, two, three = (kind.empty(N, np.float64).update(jnp.asarray(part)) for part in (A, B, C))
    scale = max(float(np.abs([A, B, C]).max()) ** 2, 1e-300)

    def moment(summary):
        return summary.moment(jnp.eye(N)) / scale

    left, right = one.merge(two).merge(three), one.merge(two.merge(three))
    np.testing.assert_allclose(moment(left), moment(right), atol=1e-12)
    np.testing.assert_allclose(moment(one.merge(two)), moment(two.merge(one)), atol=1e-12)
    np.testing.assert_allclose(moment(one.merge(kind.empty(N, np.float64))), moment(one), atol=1e-12)
