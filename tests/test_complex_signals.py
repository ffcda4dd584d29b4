"""Complex signals on U(n): the closed form against the theorem, its gauge and derivatives, and what refuses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import unitary_group

import jaxdescramble as jd
from jaxdescramble import exact
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import unitary
from jaxdescramble.objectives import Factor, Gram, Samples, smoothness
from jaxdescramble.operators import derivative

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
EPS = float(np.finfo(np.float64).eps)


def gaussian(rng, n, m):
    return jnp.asarray(rng.standard_normal((n, m)) + 1j * rng.standard_normal((n, m)))


def planted(rng, singular, m):
    """Complex signals with given singular values in random frames."""
    n = len(singular)
    left = unitary_group.rvs(n, random_state=rng)
    right = np.linalg.qr(np.asarray(gaussian(rng, max(m, n), n)))[0]
    return jnp.asarray((left * singular) @ right.conj().T)


def singular_values(rng, n, kind):
    """Six orders of magnitude; for three kinds pairs tie, everything ties, or the rank is not full."""
    singular = np.sort(10.0 ** rng.uniform(-4, 2, n))[::-1]
    if kind == 1:
        singular = np.repeat(singular[::2], 2)[:n]
    elif kind == 2:
        singular = np.full(n, 3.0)
    elif kind == 3:
        singular = singular * (np.arange(n) < rng.integers(1, n + 1))
    return singular


@needs_x64
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
@pytest.mark.parametrize("n", [6, 1, 2, 3, 9])
def test_closed_form_attains_the_rearrangement_sum_on_a_hundred_problems(n, boundary):
    """Ten problems for each size and boundary; the value is computed here from the matrix D, in NumPy."""
    rng = np.random.default_rng(n)
    D = derivative(n, 2, boundary)
    a, matrix = D.eigenvalues, D.matrix
    kinds = (Samples, Factor, Gram)
    solve = {(kind, group): jax.jit(lambda s, g=group: exact.brockett_minimiser(D, s, g))
             for kind, group in zip(kinds, ("U", "SU", "U"), strict=True)}  # fmt: skip
    for count in range(10):
        singular = singular_values(rng, n, count % 4)
        S = planted(rng, singular, n + 3)
        truth, scale = np.sum(a * singular**2), max(a[-1], 1e-300) * np.sum(singular**2)
        for (kind, group), run in solve.items():
            found = run(kind.empty(n, S.dtype).update(S))
            P = np.asarray(found.point)
            tolerance = 1e-10 * truth + 20 * n * EPS * scale
            assert abs(np.linalg.norm(matrix @ P @ S) ** 2 - truth) < tolerance
            assert abs(float(found.value) * scale - truth) < tolerance
            assert abs(float(found.bound) * scale - truth) < tolerance
            assert np.linalg.norm(P.conj().T @ P - np.eye(n)) < 100 * n * EPS
            assert found.value.dtype == found.bound.dtype == jnp.float64
            assert int(found.rank) == (singular > 0).sum() or kind is Gram
            if group == "SU":
                assert abs(np.linalg.det(P) - 1) < 100 * n * EPS


@needs_x64
@pytest.mark.thorough
def test_maximiser_is_the_largest_value_and_no_random_point_is_better_than_either():
    rng, n = np.random.default_rng(0), 6
    D, S = derivative(n, 2, "neumann"), gaussian(rng, n, 9)
    low, high = (run(D, Samples(S), "U").value for run in (exact.brockett_minimiser, exact.brockett_maximiser))
    a, b = D.eigenvalues, np.linalg.svd(S, compute_uv=False) ** 2
    np.testing.assert_allclose(high, np.sum(a[::-1] * b) / (a[-1] * b.sum()), rtol=1e-12)
    values = [float(smoothness(boundary="neumann")(unitary_group.rvs(n, random_state=rng), S)) for _ in range(50)]
    assert low < min(values)
    assert max(values) < high


@needs_x64
def test_status_says_where_a_tie_is_a_kink():
    """Two equal singular values on an eigenvalue pair are smooth; across two eigenvalues they are a kink."""
    rng = np.random.default_rng(1)
    across, inside = (planted(rng, np.asarray(s), 8) for s in ([3.0, 3.0, 2.0, 1.0, 0.5], [3.0, 2.0, 2.0, 1.0, 0.5]))
    found = [jd.descramble(S, group="U") for S in (across, inside, 0 * across, across.at[0, 0].set(np.nan))]
    assert [int(one.status) for one in found] == [Status.KINK, Status.SOLVED, Status.ZERO_SIGNALS, Status.NOT_FINITE]
    assert np.isnan(found[3].point).all()
    assert np.isnan(found[3].value)


@needs_x64
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_a_phase_for_each_component_is_free_and_one_for_each_neuron_is_not(boundary):
    rng, n = np.random.default_rng(2), 7
    S, objective = gaussian(rng, n, 10), smoothness(boundary=boundary)
    found = jd.descramble(S, objective, group="U")
    phases = jnp.exp(1j * jnp.asarray(rng.uniform(0, 2 * np.pi, n)))
    modes = jnp.asarray(derivative(n, 2, boundary).basis)
    by_component = (modes * phases[None, :]) @ modes.T @ found.point
    assert abs(objective(by_component, S) - found.value) < 1e-14
    assert objective(phases[:, None] * found.point, S) > found.value + 1e-3
    # Signals with other phases of the components, or turned from the right, have the same canonical answer; a turned
    # frame of the signals has the same P S up to the gauge.
    U, singular, V = np.linalg.svd(S, full_matrices=False)
    other = jd.descramble((U * singular) @ unitary_group.rvs(n, random_state=rng) @ V, objective, group="U")
    np.testing.assert_allclose(other.point, found.point, atol=1e-11)
    trace = jnp.trace(found.point).real
    assert abs(jnp.trace(found.point).imag) < 1e-12
    assert trace >= jnp.trace(by_component).real
    assert trace >= jnp.trace(other.point).real - 1e-12


@needs_x64
@pytest.mark.thorough
def test_pairs_of_eigenvalues_are_turned_to_the_point_nearest_to_the_identity():
    rng, n = np.random.default_rng(3), 7
    D, S = derivative(n), gaussian(rng, n, 10)
    found = exact.brockett_minimiser(D, Samples(S), "U")
    for _ in range(20):  # e^{ikx} and e^{-ikx} are one of the choices of U(2) on each pair
        turn = jax.scipy.linalg.block_diag(*(unitary_group.rvs(k, random_state=rng) if k > 1 else jnp.eye(1)
                                             for k in D.multiplicities))  # fmt: skip
        moved = D.basis @ turn @ D.basis.T @ found.point
        assert abs(smoothness()(moved, S) - found.value) < 1e-14
        assert jnp.trace(moved).real < jnp.trace(found.point).real


@needs_x64
@pytest.mark.parametrize("group", ["U", "SU"])
def test_real_signals_have_the_real_answer(group):
    """Once as they are, and once as complex numbers, for which the complex gauge must choose the real point."""
    R = jax.random.normal(jax.random.key(0), (9, 14))
    real = jd.descramble(R, group=group.replace("U", "O"))
    promoted = jd.descramble(R, group=group)
    np.testing.assert_array_equal(promoted.point, real.point)
    assert promoted.point.dtype == jnp.complex128
    if group == "U":  # on SU(n) the determinant can be mended by a phase as well as by a sign
        np.testing.assert_allclose(jd.descramble(R + 0j, group=group).point, real.point, atol=1e-11)


@needs_x64
def test_quadrature_signals_are_unscrambled():
    """Two detectors in quadrature: e^{ikx} waves with a phase of their own, scrambled by a random unitary matrix."""
    rng, n = np.random.default_rng(4), 12
    x = 2 * np.pi * np.arange(n)[:, None] / n
    waves = 3 * np.exp(1j * x) * np.exp(2j * np.pi * rng.uniform(size=40)) + rng.standard_normal(40) * np.exp(-1j * x)
    scrambled = jnp.asarray(unitary_group.rvs(n, random_state=rng) @ waves)
    found = jd.descramble(scrambled, smoothness(boundary="periodic"), group="U").check()
    assert int(found.rank) == 2
    assert found.gap < 1e-14
    assert found.value < 0.01 * found.initial_value
    assert found.value <= smoothness()(jnp.eye(n), jnp.asarray(waves))
    # Stacked parts know nothing of the phase between the detectors: twice the rank.
    assert int(jd.descramble(jnp.concatenate([scrambled.real, scrambled.imag], axis=1)).rank) == 4


def differences(function, S, direction, step=1e-6):
    return (function(S + step * direction) - function(S - step * direction)) / (2 * step)


@needs_x64
@pytest.mark.parametrize("kind", ["factor", "samples", "gram"])
@pytest.mark.parametrize("group", ["U", "SU"])
def test_derivatives_of_value_and_of_gauge_invariants_of_the_point(kind, group):
    rng, n = np.random.default_rng(5), 5
    objective = smoothness(boundary="neumann", summary=kind)
    S = planted(rng, np.asarray([3.0, 2.2, 1.5, 0.9, 0.4]), 7)
    direction = gaussian(rng, *S.shape)
    goal = unitary_group.rvs(n, random_state=rng)

    def value(S):
        return jd.descramble(S, objective, group=group).value

    def modes(S):  # the phases of the components drop out of |T^T P M|: energies of P S, and projectors of P
        P = jd.descramble(S, objective, group=group).point
        return jnp.abs(derivative(n, 2, "neumann").basis.T @ P @ jnp.concatenate([goal, S], axis=1)) ** 2

    for function in (value, modes):
        expected = differences(function, S, direction)
        _, forward = jax.jvp(function, (S,), (direction,))
        np.testing.assert_allclose(forward, expected, rtol=1e-6, atol=1e-6 * abs(expected).max())
        weight = jnp.asarray(rng.standard_normal(expected.shape))
        slope = jax.grad(lambda S, f=function, w=weight: jnp.sum(w * f(S)))(
            S
        )  # the conjugate of the direction to climb
        np.testing.assert_allclose(jnp.sum(slope * direction).real, jnp.sum(weight * expected), rtol=1e-6)


@needs_x64
@pytest.mark.thorough
def test_derivative_is_finite_at_ties_and_in_the_null_space():
    rng = np.random.default_rng(6)
    S = planted(rng, np.asarray([3.0, 2.0, 2.0, 0.0, 0.0]), 4)
    slope = jax.grad(lambda S: jd.descramble(S, group="U").value)(S)
    direction = gaussian(rng, *S.shape)
    expected = differences(lambda S: jd.descramble(S, group="U").value, S, direction)
    np.testing.assert_allclose(jnp.sum(slope * direction).real, expected, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda S: jnp.abs(jd.descramble(S, group="U").point).sum())(S)).all()


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("kind", [Factor, Samples, Gram])
def test_summaries_of_complex_signals_are_mergeable_and_weighed(kind):
    rng, n = np.random.default_rng(7), 5
    S, weights, M = gaussian(rng, n, 9), jnp.asarray(rng.integers(0, 4, 9), float), gaussian(rng, 3, n)
    B = S * weights[None, :] @ S.conj().T
    parts = [kind.empty(n, S.dtype).update(S[:, place], weights[place]) for place in (slice(0, 4), slice(4, 9))]
    for summary in (parts[0].merge(parts[1]), parts[0].update(S[:, 4:], weights[4:])):
        for one, scale in ((summary, 1.0), (summary.normalised(), summary.scale())):
            np.testing.assert_allclose(one.power() * scale**2, jnp.trace(B).real, rtol=1e-12)
            np.testing.assert_allclose(one.energy(M) * scale**2, jnp.trace(M @ B @ M.conj().T).real, rtol=1e-12)
            np.testing.assert_allclose(one.moment(M) * scale**2, M @ B @ M.conj().T, rtol=1e-11)
            U, singular = one.principal()
            np.testing.assert_allclose((U * (scale * singular[None, :]) ** 2) @ U.conj().T, B, atol=1e-11)
            assert one.power().dtype == one.energy(M).dtype == singular.dtype == jnp.float64
        np.testing.assert_allclose(summary.effective(), weights.sum() ** 2 / (weights**2).sum(), rtol=1e-14)
        assert bool(summary.finite())
        np.testing.assert_allclose(summary.compressed(M).moment(jnp.eye(3)), M @ B @ M.conj().T, rtol=1e-11)
    assert not kind.empty(n, S.dtype).update(S.at[0, 0].set(1j * np.nan)).finite()


@needs_x64
@pytest.mark.thorough
def test_one_layer_a_batch_a_list_and_weights_agree():
    rng = np.random.default_rng(8)
    S, weights = gaussian(rng, 5, 8), jnp.asarray([1.0, 2.0, 0.0, 3.0, 1.0, 1.0, 2.0, 0.0])
    one = jd.descramble(S, group="U", weights=weights)
    repeated = jd.descramble(jnp.repeat(S, np.asarray(weights, int), axis=1), group="U")
    np.testing.assert_allclose(one.point, repeated.point, atol=1e-11)
    assert one.samples == weights.sum() ** 2 / (weights**2).sum()
    batch = jd.descramble(jnp.stack([S, 1j * S]), group="U", weights=weights)
    np.testing.assert_allclose(batch.value, [one.value, one.value], rtol=1e-12)
    listed = jd.descramble([S, S[:4], S.real, 1j * S], group="U")
    np.testing.assert_allclose(listed[0].value, listed[3].value, rtol=1e-12)
    assert all(found.point.dtype == jnp.complex128 for found in listed)


@needs_x64
def test_result_of_complex_signals(tmp_path):
    S = gaussian(np.random.default_rng(9), 5, 8)
    found = jd.descramble(S, group="U").check()
    np.testing.assert_allclose(found.transform(S), found.point @ S, atol=1e-13)
    np.testing.assert_allclose(found.score(S), found.value, rtol=1e-13)
    assert found.tightest_bound(S) == found.bound
    assert int(found.classes) == 1
    still = found.stationarity(S, key=jax.random.key(0))
    assert still.gradient_norm < 1e-13
    assert still.lowest > 0
    found.save(tmp_path / "found.npz")
    read = type(found).load(tmp_path / "found.npz")
    np.testing.assert_array_equal(read.point, found.point)
    assert read.score(S) == found.score(S)
    assert "complex128[5,5]" in repr(found)
    assert "<svg" in found._repr_html_()
    with pytest.raises(TypeError, match="got complex numbers"):
        jd.descramble(S.real).transform(S)


@needs_x64
@pytest.mark.thorough
@pytest.mark.parametrize("group", ["U", "SU"])
def test_an_iterative_solver_finds_the_closed_form(group):
    S = gaussian(np.random.default_rng(10), 4, 6)
    objective = smoothness(boundary="neumann")
    best = jd.descramble(S, objective, group=group)
    start = unitary.special(unitary.random(jax.random.key(1), 4))
    found = jd.descramble(S, objective, jd.solvers.LBFGS(), group=group, start=start).check()
    np.testing.assert_allclose(found.value, best.value, rtol=1e-10)
    np.testing.assert_allclose(found.bound, best.bound, rtol=1e-12)
    assert found.residual < 1e-6
    assert found.how == "LBFGS, from the given start"


OBJECTIVES = {
    "l1": jd.objectives.sparsity(epsilon=0.1),
    "logcosh": jd.objectives.sparsity("logcosh"),
    "l4": jd.objectives.sparsity("l4"),
    "participation": jd.objectives.sparsity("participation"),
    "entropy": jd.objectives.entropy(),
    "locality": jd.objectives.locality("neumann"),
    "total variation": jd.objectives.total_variation(boundary="neumann", epsilon=0.1),
    "smoothness": smoothness(boundary="neumann"),
}


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_of_complex_signals(name):
    """They read absolute values only, agree with the real formula, and stay above their bounds on U(n)."""
    rng, n = np.random.default_rng(12), 5
    objective, S, R = OBJECTIVES[name], gaussian(rng, n, 8), jnp.asarray(rng.standard_normal((n, 8)))
    weights = jnp.asarray(rng.integers(1, 4, 8), float)
    real = jd.manifolds.orthogonal.random(jax.random.key(2), n)
    np.testing.assert_allclose(objective(real + 0j, R * jnp.exp(0.3j)), objective(real, R), rtol=1e-13)
    points = [jnp.asarray(unitary_group.rvs(n, random_state=rng)) for _ in range(20)]
    values = np.asarray([objective(P, S, weights) for P in points])
    assert values.dtype == np.float64
    assert objective.bound(objective.summarise(S, weights)) <= values.min()
    repeated = objective(points[0], jnp.repeat(S, np.asarray(weights, int), axis=1))
    np.testing.assert_allclose(values[0], repeated, rtol=1e-12)
    phases = jnp.exp(1j * jnp.asarray(rng.uniform(0, 6, n)))[:, None]
    free = abs(objective(phases * points[0], S, weights) - values[0]) < 1e-13
    assert free == (name not in ("total variation", "smoothness"))  # these compare neurons
    # One direction against differences; the gradient of JAX is the conjugate of the direction to climb.
    direction = gaussian(rng, n, n)
    expected = differences(lambda P: objective(P, S, weights), points[0], direction)
    slope = jax.grad(lambda P: objective(P, S, weights))(points[0])
    np.testing.assert_allclose(jnp.sum(slope * direction).real, expected, rtol=1e-5, atol=1e-9)


@needs_x64
@pytest.mark.thorough
def test_modulus_of_a_known_signal():
    """By hand: entries 3 + 4i and 0 have the mean square 12.5; L1 is 5 / (2 sqrt(12.5)), TV is 1 / sqrt(2)."""
    S, eye = jnp.asarray([[3 + 4j], [0]]), jnp.eye(2) + 0j
    np.testing.assert_allclose(jd.objectives.sparsity(epsilon=1e-9)(eye, S), 5 / (2 * 12.5**0.5), rtol=1e-6)
    np.testing.assert_allclose(jd.objectives.sparsity("l4")(eye, S), -1, rtol=1e-12)
    np.testing.assert_allclose(jd.objectives.sparsity("participation")(eye, S), 0.5, rtol=1e-12)
    variation = jd.objectives.total_variation(boundary="neumann", epsilon=1e-9)
    np.testing.assert_allclose(variation(eye, S), 5 / (2**0.5 * 5), rtol=1e-6)


@needs_x64
@pytest.mark.thorough
def test_sparse_complex_sources_are_found_and_their_derivative():
    rng, n = np.random.default_rng(13), 3
    sources = np.where(rng.uniform(size=(n, 60)) < 0.3, gaussian(rng, n, 60), 0)
    mixed = unitary_group.rvs(n, random_state=rng)
    S, objective = jnp.asarray(mixed @ sources), jd.objectives.sparsity("logcosh", 0.3)
    found = jd.descramble(S, objective, group="U").check()
    overlap = np.abs(found.point @ mixed)
    assert np.sort(overlap.max(axis=1))[0] > 0.99  # each row is one source, up to a phase
    assert found.value <= objective(mixed.conj().T, S)
    assert found.bound < found.value
    assert int(found.classes) == 1
    assert "a random start" in found.how

    def moved(S):
        again = jd.descramble(S, objective, jd.solvers.LBFGS(tolerance=1e-12), group="U", start=found.point)
        return jnp.abs(again.point @ sources) ** 2

    direction = gaussian(rng, *S.shape)
    _, forward = jax.jvp(moved, (S,), (direction,))
    expected = differences(moved, S, direction, step=1e-4)
    np.testing.assert_allclose(forward, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())


@needs_x64
def test_what_is_for_orthogonal_matrices_only_refuses_complex_signals():
    S = gaussian(np.random.default_rng(14), 3, 5)
    for objective in (jd.objectives.sparsity(), jd.objectives.locality(), jd.objectives.entropy()):
        summary = objective.summarise(S)
        assert objective.tightest_bound(summary) == objective.bound(summary)
        for call in (objective.curvature, lambda s, o=objective: o.relaxation(s, 1)):
            with pytest.raises(TypeError, match="take real ones"):
                call(summary)
    with pytest.raises(TypeError, match="models functions on O"):
        jd.descramble(S, group="U", solver=jd.solvers.LBFGS(preconditioner=jd.solvers.Analytic()))


@pytest.mark.thorough
def test_single_precision():
    S = gaussian(np.random.default_rng(11), 6, 9).astype(jnp.complex64)
    found = jd.descramble(S, group="U").check()
    assert found.point.dtype == jnp.complex64
    assert found.value.dtype == jnp.float32
    assert abs(found.gap) < 1e-6


REAL, COMPLEX = jnp.ones((4, 6)), 1j * jnp.eye(4)
REFUSED = {
    "group O": (lambda: jd.descramble(COMPLEX), "use group='U'"),
    "group SO": (lambda: jd.descramble(COMPLEX, group="SO"), "use group='U'"),
    "permutation": (lambda: jd.descramble(COMPLEX, group="permutation"), "use group='U'"),
    "a summary, group O": (lambda: jd.descramble(Samples(COMPLEX)), "use group='U'"),
    "the closed form, group O": (lambda: exact.brockett_minimiser(derivative(4), Samples(COMPLEX)), "use group='U'"),
    "rank": (lambda: jd.descramble(COMPLEX, group="U", rank=2), "rank: group 'U' takes no rank"),
    "another objective": (
        lambda: jd.descramble(COMPLEX, jd.objectives.monotonicity(), group="U"),
        "monotonicity takes real signals.*smoothness",
    ),
    "its summary": (lambda: jd.objectives.monotonicity().summarise(COMPLEX), "Stack the real and the imaginary parts"),
    "a real summary": (lambda: Factor.empty(4, "float32").update(COMPLEX), "empty summary of a complex dtype"),
    "a real summary and a solver": (
        lambda: jd.descramble(Samples(REAL), group="U", solver=jd.solvers.LBFGS()),
        "Make the summary from complex signals",
    ),
    "degeneracy": (lambda: exact.degeneracy(derivative(4), Samples(COMPLEX)), "takes real ones"),
    "bootstrap": (lambda: jd.bootstrap(COMPLEX, key=jax.random.key(0)), "got complex numbers"),
    "a starting frame": (
        lambda: jd.descramble(COMPLEX, group="U", solver=jd.solvers.FromModes(jd.solvers.LBFGS(), derivative(4))),
        "FromModes",
    ),
}


@pytest.mark.every_case
@pytest.mark.parametrize("what", REFUSED)
def test_what_takes_no_complex_signals_says_so(what):
    call, message = REFUSED[what]
    with pytest.raises(TypeError, match=message):
        call()


def test_a_start_must_be_unitary():
    with pytest.raises(ValueError, match=r"start.*must be unitary"):
        jd.descramble(COMPLEX, group="U", solver=jd.solvers.LBFGS(), start=2 * jnp.eye(4))
