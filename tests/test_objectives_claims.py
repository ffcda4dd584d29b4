"""What objectives say of themselves: bounds that hold and are attained, closed forms, sums, derivatives, refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objectives_family import EPS, M, N, both, drawn, one_hot

from jaxdescramble import exact
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    Samples,
    bandedness,
    diagonal_norm,
    diagonal_sum,
    entropy,
    locality,
    monotonicity,
    periodicity,
    similarity,
    smoothness,
    sparsity,
    total_variation,
    weighted,
)
from jaxdescramble.operators import combine, derivative

ATTAINED = {
    "locality": locality("neumann"),
    "l1": sparsity(),
    "log cosh": sparsity("logcosh"),
    "l4": sparsity("l4"),
    "participation": sparsity("participation"),
    "entropy": entropy(),
}


@both
@pytest.mark.parametrize("objective", ATTAINED.values(), ids=ATTAINED.keys())
def test_bounds_of_samples_that_can_be_one_hot_are_attained(objective):
    hidden = orthogonal.random(jax.random.key(3), N)
    S = hidden @ (one_hot(2 * N) * jnp.linspace(-1.0, 2.0, 2 * N)[None, :])
    summary = objective.summarise(S)
    np.testing.assert_allclose(objective(hidden.T, summary), objective.bound(summary), rtol=1e-5, atol=3 * EPS**0.5)


@both
@pytest.mark.parametrize("k", [4, N, 9])
def test_the_bounds_of_weights_and_likeness_are_attained(k):
    W, frame = jnp.asarray(drawn(1, N, k)), orthogonal.random(jax.random.key(2), N)
    summary = Samples(W)
    best = exact.diagonal_sum(W).point
    np.testing.assert_allclose(diagonal_sum()(best, summary), -1, rtol=100 * EPS)
    np.testing.assert_allclose(diagonal_sum().bound(summary), -1, rtol=100 * EPS)
    R = jnp.asarray(drawn(2, N, k))
    bound = similarity(R).bound(summary)
    np.testing.assert_allclose(similarity(R)(exact.procrustes(W, R).point, summary), bound, rtol=100 * EPS)
    square = frame[:, :k] * jnp.arange(1.0, 1 + min(k, N))[None, :]
    W = jnp.concatenate([square, drawn(3, N, max(k - N, 0))], axis=1)
    bound = diagonal_norm().bound(Samples(W))
    np.testing.assert_allclose(diagonal_norm()(frame.T, W), bound, rtol=100 * EPS)
    nearest = jnp.round(jnp.arange(k) / (k - 1) * (N - 1)).astype(int)
    W = frame[:, nearest] * jnp.arange(1.0, 1 + k)[None, :]
    np.testing.assert_allclose(bandedness()(frame.T, W), bandedness().bound(Samples(W)), rtol=1e-4, atol=20 * EPS)


@pytest.mark.thorough
@pytest.mark.parametrize("boundary", ["neumann", "periodic"])
@pytest.mark.parametrize("n", [2, 3, 6])
def test_total_variation_stays_above_its_bound_and_below_one_on_every_grid(n, boundary):
    for objective in (
        total_variation(boundary=boundary, epsilon=0.1),
        total_variation(2, boundary, epsilon=0.1),
        total_variation(boundary=boundary, shape=(n, 2), epsilon=0.1),
        total_variation(boundary=boundary, shape=(n, 2), isotropic=True, epsilon=0.1),
    ):
        size = n if objective.shape is None else 2 * n
        summary = Samples(jnp.asarray(drawn(n, size, 2)))
        points = jax.vmap(lambda k, size=size: orthogonal.random(k, size))(jax.random.split(jax.random.key(0), 50))
        values = jax.vmap(objective, (0, None))(points, summary)
        assert float(objective.bound(summary)) <= float(values.min()) <= float(values.max()) <= 1


@pytest.mark.thorough
def test_periodicity_has_its_closed_form_on_circles_and_lines():
    S = jnp.asarray(drawn(8))
    for objective in (periodicity(1), periodicity(4), periodicity(2, "neumann"), periodicity(5, "neumann")):
        D = objective.operator(N)
        A = np.asarray(D.apply(jnp.eye(N))).T @ np.asarray(D.apply(jnp.eye(N)))
        np.testing.assert_allclose(D.basis * D.eigenvalues @ D.basis.T, A, atol=1e-13)
        np.testing.assert_allclose(D.synthesise(D.analyse(S)), S, atol=1e-13)
        assert sum(D.multiplicities) == N
        found = exact.ClosedForm()(objective, objective.summarise(S))
        np.testing.assert_allclose(objective(found.point, S), found.bound, atol=1e-14)
        np.testing.assert_allclose(objective.bound(objective.summarise(S)), found.bound, atol=1e-14)


@pytest.mark.thorough
def test_the_bound_of_a_weighted_sum_of_quadratics_is_the_closed_form_of_their_combined_operator():
    S, weights = jnp.asarray(drawn(8)), (0.7, 0.2)
    one, other = smoothness(3), periodicity(3)
    objective = weighted(*zip(weights, (one, other), strict=True))
    scaled = [w / D.eigenvalues[-1] for w, D in zip(weights, (one.operator(N), other.operator(N)), strict=True)]
    D = combine(scaled, [derivative(N, 3), other.operator(N)])
    found = exact.brockett_minimiser(D, objective.summarise(S))
    np.testing.assert_allclose(objective.bound(objective.summarise(S)), objective(found.point, S), rtol=1e-10)


# --- the rest of what they say of themselves -------------------------------------------------------------------------


def test_an_l1_norm_says_under_which_differences():
    for objective in (total_variation(2, "periodic"), total_variation(shape=(2, 3), boundary="neumann"), sparsity()):
        D = objective.sparsifying_operator(N)
        terms = np.abs(D.apply(jnp.asarray(drawn())))
        largest = float(D.eigenvalues[-1]) * len(terms) * M
        norm = np.sum(terms) / math.sqrt(largest) / np.linalg.norm(drawn())
        np.testing.assert_allclose(objective.smoothed(1e-6)(jnp.eye(N), drawn()), norm, rtol=1e-6)


def test_weights_parameters_of_terms_and_references_are_differentiated():
    S = jnp.asarray(drawn())
    P = orthogonal.random(jax.random.key(1), N)

    @jax.jit
    def value(weight, epsilon, positions, reference):
        terms = (sparsity(epsilon=epsilon), locality(positions=positions), similarity(reference))
        return weighted((weight, terms[0]), *terms[1:])(P, S)

    given = (0.3, 0.2, jnp.asarray(drawn(1, N, 2)), jnp.asarray(drawn(2)))
    slopes = jax.grad(value, (0, 1, 2, 3))(*given)
    np.testing.assert_allclose(slopes[0], sparsity(epsilon=0.2)(P, S), rtol=1e-12)
    for k, slope in enumerate(slopes):
        change = jnp.cos(jnp.arange(jnp.size(slope))).reshape(jnp.shape(slope))

        def moved(t, k=k, change=change):
            return value(*given[:k], given[k] + t * change, *given[k + 1 :])

        np.testing.assert_allclose(jnp.sum(slope * change), (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-5)


def test_what_a_weighted_sum_is_follows_from_its_terms():
    assert weighted(smoothness(), periodicity(2)).summary is smoothness().summary
    assert weighted(smoothness(), locality("neumann")).summary is Samples
    assert weighted(sparsity("l4"), similarity()).concave
    assert not weighted((-1, sparsity("l4")), similarity()).concave
    assert weighted((-1, sparsity()), similarity()).bound(Samples(S)) is None
    assert weighted((-1, smoothness()), periodicity(2)).bound(Samples(S)) is not None
    assert weighted(diagonal_sum(), diagonal_norm()).applies_to == "weights"
    nested = weighted((0.5, weighted(sparsity(), locality("neumann"))), total_variation(boundary="neumann"))
    np.testing.assert_allclose(
        nested.smoothed(10.0)(jnp.eye(N), drawn()),
        weighted(
            (0.5, sparsity(epsilon=1e-2)), (0.5, locality("neumann")), total_variation(epsilon=1e-2, boundary="neumann")
        )(jnp.eye(N), drawn()),
    )


S = jnp.asarray(drawn())
REFUSED = {
    "an unknown measure": (lambda: sparsity("l2"), ValueError, "measure: got 'l2'"),
    "an epsilon of zero": (
        lambda: total_variation(epsilon=0),
        ValueError,
        "epsilon: expected a positive number, got 0",
    ),
    "a negative epsilon": (lambda: sparsity(epsilon=-1.0), ValueError, "epsilon: expected a positive number"),
    "an epsilon of many": (lambda: entropy(jnp.ones(2)), TypeError, "epsilon: expected a positive number"),
    "an epsilon in words": (lambda: monotonicity("small"), TypeError, "epsilon: expected a positive number"),
    "an epsilon of no use": (lambda: sparsity("l4", 0.1), ValueError, "no corner to round"),
    "an unknown boundary": (lambda: total_variation(boundary="dirichlet"), ValueError, "boundary: got 'dirichlet'"),
    "a boundary too many": (
        lambda: total_variation(boundary=("neumann", "periodic"))(jnp.eye(N), S),
        ValueError,
        "2 names for a grid of 1",
    ),
    "a grid too large": (lambda: total_variation(shape=(3, 3))(jnp.eye(N), S), ValueError, "9 points, .* 6 features"),
    "isotropic in words": (lambda: total_variation(isotropic="yes"), TypeError, "isotropic: .*'yes'"),  # pyright: ignore
    "order zero": (lambda: total_variation(0), ValueError, "order"),
    "an unknown boundary of places": (lambda: locality("torus"), ValueError, "boundary: got 'torus'"),
    "places on a grid too large": (
        lambda: locality(shape=(3, 3))(jnp.eye(N), S),
        ValueError,
        "9 points, .* 6 features",
    ),
    "a shape and positions": (lambda: locality(shape=(2, 3), positions=S), ValueError, "beside positions"),
    "positions for others": (
        lambda: locality(positions=jnp.ones((4, 2)))(jnp.eye(N), S),
        ValueError,
        r"positions: shape \(4, 2\) does not fit .* 6",
    ),
    "positions in a row": (lambda: locality(positions=jnp.ones(6)), ValueError, r"positions: .*\(6,\)"),
    "a period too long": (lambda: periodicity(6)(jnp.eye(N), S), ValueError, "period of 6 does not fit 6 features"),
    "half a period": (lambda: periodicity(1.5), TypeError, "period"),  # pyright: ignore
    "a reference for others": (
        lambda: similarity(jnp.ones((N, 2)))(jnp.eye(N), S),
        ValueError,
        r"reference has shape \(6, 2\) and the signals \(6, 9\)",
    ),
    "no terms": (lambda: weighted(), ValueError, "no terms"),
    "a factory for a term": (lambda: weighted(locality), TypeError, "mind the parentheses"),  # pyright: ignore
    "a weight in words": (lambda: weighted(("much", locality("neumann"))), TypeError, "weight 'much'"),
    "an endless weight": (lambda: weighted((math.inf, locality("neumann"))), ValueError, "finite"),
    "signals and weights": (
        lambda: weighted(locality("neumann"), diagonal_sum()),
        ValueError,
        "apply to signals and others to weights",
    ),
}


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()


ASSIGNMENTS = {
    "smoothness": smoothness(),
    "smoothness on a grid": smoothness(order=1, boundary="neumann", shape=(2, 3)),
    "periodicity": periodicity(2),
    "locality": locality("neumann"),
    "locality on a circle": locality(),
    "variation": total_variation(boundary="neumann"),
    "variation on a circle": total_variation(boundary="periodic"),
    "variation on a grid": total_variation(shape=(2, 3), boundary="neumann"),
}


@both
@pytest.mark.parametrize("objective", ASSIGNMENTS.values(), ids=ASSIGNMENTS.keys())
def test_over_permutations_the_objective_is_a_quadratic_assignment(objective):
    S = drawn(3)
    summary = objective.summarise(S)
    a, b = objective.assignment(summary)
    for seed in range(4):
        p = np.random.default_rng(seed).permutation(N)
        paired = jnp.sum(a * b[p][:, p])
        np.testing.assert_allclose(objective(jnp.eye(N)[p], summary), paired, rtol=100 * EPS, atol=100 * EPS)


def test_objectives_that_are_no_assignment_say_so():
    for objective in (
        total_variation(order=2, boundary="neumann"),
        total_variation(shape=(2, 3), isotropic=True, boundary="neumann"),
        sparsity(),
    ):
        assert objective.assignment(objective.summarise(drawn())) is None
