"""Models of the Hessian: exact where the Hessian is of their form, harmless where it is not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal, retractions
from jaxdescramble.objectives import smoothness, spectral_entropy
from jaxdescramble.objectives.objective import Curvature
from jaxdescramble.operators import derivative
from jaxdescramble.solvers import LBFGS, Analytic, ConjugateGradient, GradientDescent, Kronecker, TrustRegion, minimise
from jaxdescramble.solvers._kronecker import DOWNWARD, rudin_shapiro
from jaxdescramble.solvers.preconditioners import FLOOR, divide, jacobi_divisors
from jaxdescramble.solvers.problem import ManifoldFunction

N = 5
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def random_matrix(seed, n=N, m=None):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, n if m is None else m)))


def positive(seed, n=N):
    half = random_matrix(seed, n)
    return half @ half.T


def brockett(point, A, B):
    return jnp.sum(A * (point @ B @ point.T))


def measured(preconditioner, function, args, point):
    """The curvature at a point, as a solver sees it."""
    problem = ManifoldFunction(function, args)
    iterate = problem.evaluate(point)
    state, refresh = preconditioner.bind(problem, iterate)
    return refresh(iterate, state)


def bends(function, point, frame, args):
    """Second derivatives along the planes of a frame, by differentiating twice along geodesics."""
    n = len(point)

    def along(i, j):
        plane = jnp.outer(frame[:, i], frame[:, j])
        velocity = plane - plane.T
        return jax.hessian(lambda t: function(retractions.exponential(point, t * velocity), *args))(0.0)

    index = jnp.arange(n)
    return jax.jit(jax.vmap(jax.vmap(along, (None, 0)), (0, None)))(index, index)


@needs_x64
def test_kronecker_measures_both_factors_of_a_quadratic_form_up_to_one_factor():
    A, B, point = positive(0), positive(1), orthogonal.random(jax.random.key(0), N)
    curvature, (age, factors) = measured(Kronecker(), brockett, (A, B), point)
    assert bool(factors.fits)
    assert int(age) == 1
    whole = jnp.einsum("ik,jl->ijkl", factors.left, (factors.frame * factors.values[None, :]) @ factors.frame.T)
    np.testing.assert_allclose(whole, 2 * jnp.einsum("ik,jl->ijkl", A, B), rtol=1e-9, atol=1e-10)
    # Then the model has the very diagonal of the Hessian, at any point, not only near the answer.
    by_hand = bends(brockett, point, curvature.frame, (A, B))
    assert float(jnp.abs(by_hand).max()) > 1
    np.testing.assert_allclose(
        curvature.diagonal - jnp.diag(jnp.diag(curvature.diagonal)), by_hand, rtol=1e-9, atol=1e-9
    )


@needs_x64
def test_what_was_measured_at_the_start_still_holds_far_from_it():
    # A and B of a quadratic form are the same everywhere; only P^T A P and M are new at every point.
    A, B = positive(2), positive(3)
    start, there = (orthogonal.random(jax.random.key(k), N, "SO") for k in range(2))
    problem = ManifoldFunction(brockett, (A, B))
    state, refresh = Kronecker().bind(problem, problem.evaluate(start))
    curvature, _ = refresh(problem.evaluate(there), state)
    by_hand = bends(brockett, there, curvature.frame, (A, B))
    off = curvature.diagonal - jnp.diag(jnp.diag(curvature.diagonal))
    np.testing.assert_allclose(off, by_hand, rtol=1e-9, atol=1e-9)


def changing(point, A, B):
    """Brockett's function in other units from place to place, so to speak: what was measured grows old."""
    return jax.lax.stop_gradient(1 + 0.2 * point[0, 0] ** 2) * brockett(point, A, B)


@pytest.mark.thorough
@needs_x64
def test_kronecker_measures_anew_when_it_is_told_to():
    A, B = positive(2), positive(3)
    start, there = (orthogonal.random(jax.random.key(k), N, "SO") for k in (0, 3))
    problem = ManifoldFunction(changing, (A, B))
    first, later = problem.evaluate(start), problem.evaluate(there)

    def values(every, steps):
        state, refresh = Kronecker(every).bind(problem, first)
        for step in range(steps):
            _, state = refresh(later if step else first, state)
        assert bool(state[1].fits)
        return state[1].values

    fresh = Kronecker().bind(problem, later)[0][1].values
    assert float(jnp.abs(values(0, 4) / fresh - 1).max()) > 1e-2
    np.testing.assert_array_equal(values(3, 3), values(0, 1))
    np.testing.assert_allclose(values(3, 4), fresh, rtol=1e-12, atol=1e-12)


@pytest.mark.thorough
@needs_x64
def test_analytic_is_the_diagonal_of_the_hessian_at_the_optimum_and_elsewhere():
    objective = smoothness(order=1, boundary="neumann")
    summary = objective.summarise(random_matrix(0, N, 20))
    best = minimise(objective, jnp.eye(N), summary, solver=LBFGS(preconditioner=Analytic())).point
    for point in (best, orthogonal.random(jax.random.key(1), N)):
        curvature, _ = measured(Analytic(), objective, (summary,), point)
        by_hand = bends(objective, point, curvature.frame, (summary,))
        np.testing.assert_allclose(curvature.diagonal, by_hand, rtol=1e-8, atol=1e-10)
    # At the optimum the planes do not mix: the diagonal is the Hessian.
    problem = ManifoldFunction(objective, (summary,))
    curvature, _ = measured(Analytic(), objective, (summary,), best)
    product = problem.hessian(problem.evaluate(best))
    velocity = orthogonal.skew(random_matrix(4))
    frame = curvature.frame
    model = frame @ ((frame.T @ velocity @ frame) * curvature.diagonal / 2) @ frame.T
    np.testing.assert_allclose(product(velocity), model, rtol=0, atol=1e-8)


@pytest.mark.both_precisions
def test_turned_goes_to_the_bottom_of_every_sinusoid():
    # f(theta) = c + r cos(2 theta - phi) in one plane: slope s = 2 r sin(phi), curvature h = -4 r cos(phi).
    rng = np.random.default_rng(0)
    tolerance = 20 * float(jnp.finfo(jnp.zeros(0).dtype).eps)
    angles = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    for _ in range(50):
        r, phi = 10 ** rng.uniform(-3, 3), rng.uniform(-np.pi, np.pi)
        lowest = angles[np.argmin(r * np.cos(2 * angles - phi))]
        # <g, W> = s for W = E_ij - E_ji, so g has the entries s / 2.
        s, h = 2 * r * np.sin(phi), -4 * r * np.cos(phi)
        if abs(s) < -DOWNWARD * h * np.pi / 2:  # near the top: see the next test
            continue
        plane = jnp.asarray([[0.0, 1.0], [-1.0, 0.0]])
        curvature, known = jacobi_divisors(Curvature(jnp.eye(2), h * (1 - jnp.eye(2))), s / 2 * plane)
        assert bool(known)
        assert float(curvature.diagonal[0, 1]) > 0
        theta = float(-divide(curvature, s / 2 * plane)[0, 1])
        assert abs(theta - lowest) < 2 * (angles[1] - angles[0])
        value = np.cos(2 * theta - phi)
        np.testing.assert_allclose(value, -1, rtol=tolerance, atol=0)


@pytest.mark.both_precisions
def test_a_plane_near_the_top_of_its_sinusoid_turns_by_its_slope():
    plane = jnp.asarray([[0.0, 1.0], [-1.0, 0.0]])
    for s in (1e-1, 1e-3, 1e-5):
        curvature, known = jacobi_divisors(Curvature(jnp.eye(2), -4 * (1 - jnp.eye(2))), s / 2 * plane)
        assert bool(known)
        turn = -float(divide(curvature, s / 2 * plane)[0, 1])
        np.testing.assert_allclose(turn, -s / (4 * DOWNWARD), rtol=1e-5, atol=0)
        assert abs(turn) < np.pi / 2


@pytest.mark.thorough
@needs_x64
def test_wrong_downward_curvature_does_not_stop_a_solve():
    # The model of spectral entropy is rough. With quarter turns for tiny slopes, the last of these solves stopped
    # 3.5e-4 above what the same method reaches without a model when it goes on from there.
    signals = np.random.default_rng(0).normal(size=(32, 200)) * np.arange(1, 33)[:, None] ** -1.5
    objective = spectral_entropy()
    summary = objective.summarise(jnp.asarray(signals))
    solver = LBFGS(decrease=1e-5)
    for seed in range(3):
        start = orthogonal.random(jax.random.key(seed), 32)
        first = minimise(objective, start, summary, solver=solver)
        more = minimise(objective, first.point, summary, solver=dataclasses.replace(solver, preconditioner=None))
        assert float(more.value) > float(first.value) * (1 - 1e-5)


@pytest.mark.both_precisions
def test_turned_without_slope_or_curvature():
    zero, eye = jnp.zeros((3, 3)), jnp.eye(3)
    flat, known = jacobi_divisors(Curvature(eye, zero), zero)
    assert not bool(known)
    np.testing.assert_array_equal(flat.diagonal, 1.0)
    for hopeless in (jnp.inf, jnp.nan):
        none, known = jacobi_divisors(Curvature(eye, zero.at[0, 1].set(hopeless)), orthogonal.skew(random_matrix(0, 3)))
        assert not bool(known)
        np.testing.assert_array_equal(none.diagonal, 1.0)
    bent, _ = jacobi_divisors(Curvature(eye, zero.at[0, 1].set(-4.0).at[1, 2].set(1e-12)), zero)
    np.testing.assert_allclose(bent.diagonal[0, 1], 4, rtol=1e-6, atol=0)
    np.testing.assert_allclose(bent.diagonal[1, 2], 4 * jnp.finfo(zero.dtype).eps ** FLOOR, rtol=1e-5, atol=0)


@pytest.mark.both_precisions
def test_dividing_is_the_inverse_of_the_model():
    frame, velocity = orthogonal.random(jax.random.key(0), N), orthogonal.skew(random_matrix(0))
    diagonal = jnp.abs(random_matrix(1)) + 0.1
    diagonal = diagonal + diagonal.T
    found = divide(Curvature(frame, diagonal), velocity)
    # <W, H W> = sum over planes of diagonal w^2, so H W has the entries diagonal w / 2 in the frame.
    back = frame @ ((frame.T @ found @ frame) * diagonal / 2) @ frame.T
    tolerance = 100 * float(jnp.finfo(velocity.dtype).eps)
    np.testing.assert_allclose(back, velocity, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found, -found.T, rtol=0, atol=tolerance)


def ill(n=24):
    """A Brockett problem with condition numbers of 1e3 in the operator and 1e4 in the signals."""
    objective = smoothness(order=2, boundary="neumann")
    S = jnp.asarray(np.geomspace(1, 1e-2, n))[:, None] * random_matrix(0, n, 3 * n)
    return objective, objective.summarise(orthogonal.random(jax.random.key(0), n) @ S)


@pytest.mark.sampled(1)
@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("solver", [LBFGS, TrustRegion, GradientDescent], ids=lambda solver: solver.__name__)
def test_a_preconditioner_saves_two_of_three_evaluations_on_an_ill_conditioned_problem(solver):
    objective, summary = ill()
    bound = float(objective.bound(summary))

    @jax.jit
    def work(given):
        found = minimise(objective, jnp.eye(24), summary, solver=given)
        return found.value / bound - 1, found.evaluations

    gap, plain = work(solver(1e-7, 3000, preconditioner=None))  # 1e-6 may stop at a gap of 1.1e-6
    if solver is not GradientDescent:  # which is not there yet after all its steps
        assert abs(float(gap)) < 1e-3
    for preconditioner in (Kronecker(), Analytic()):
        gap, count = work(solver(1e-7, 3000, preconditioner=preconditioner))
        assert abs(float(gap)) < 1e-6
        assert 3 * int(count) < int(plain)


def corner(point, signals):
    return jnp.mean(jnp.sqrt((point @ signals) ** 2 + 1e-4))


def poisoned(point, A, B):
    """Its value and gradient are numbers, its second derivatives are not: those of |x|^3/2 at 0."""
    safe = point[0, 0] - jax.lax.stop_gradient(point[0, 0])
    return brockett(point, A, B) + jnp.abs(safe) ** 1.5


@needs_x64
@pytest.mark.parametrize("solver", [LBFGS, ConjugateGradient], ids=lambda solver: solver.__name__)
def test_an_l1_norm_is_no_kronecker_product_and_the_solver_goes_on_without(solver):
    S = jnp.asarray(np.random.default_rng(0).laplace(size=(N, 400)))
    curvature, (_, factors) = measured(Kronecker(), corner, (S,), jnp.eye(N))
    assert not bool(factors.fits)
    assert bool(jnp.isinf(curvature.diagonal).all())
    start = orthogonal.random(jax.random.key(0), N)
    for steps, rtol in ((10, 1e-9), (200, 1e-6)):  # rounding differs between the two programs, and grows
        with_it, without = (
            minimise(corner, start, S, solver=solver(max_steps=steps, preconditioner=p), group="SO")
            for p in (Kronecker(), None)
        )
        np.testing.assert_allclose(with_it.value, without.value, rtol=rtol, atol=0)
        assert abs(int(with_it.steps) - int(without.steps)) <= int(without.steps) // 10 - 1


@needs_x64
def test_a_hessian_that_is_no_number_is_survived():
    A, B = derivative(N, 1).matrix.T @ derivative(N, 1).matrix, positive(1)
    curvature, _ = measured(Kronecker(), poisoned, (jnp.asarray(A), B), jnp.eye(N))
    divisors, _ = jacobi_divisors(curvature, orthogonal.skew(random_matrix(0)))
    assert bool(jnp.isfinite(divisors.diagonal).all())
    found = minimise(poisoned, jnp.eye(N), jnp.asarray(A), B, solver=LBFGS(preconditioner=Kronecker()))
    assert found.status in (Status.SOLVED, Status.PRECISION)
    best = np.sum(np.sort(np.linalg.eigvalsh(A)) * np.sort(np.linalg.eigvalsh(B))[::-1])
    np.testing.assert_allclose(found.value, best, rtol=1e-8, atol=0)


@pytest.mark.both_precisions
def test_a_linear_function_has_no_curvature_to_measure():
    goal = random_matrix(0)
    solver = LBFGS(preconditioner=Kronecker())
    found = minimise(lambda P, g: -jnp.sum(P * g), jnp.eye(N), goal, solver=solver, group="SO")
    singular = np.linalg.svd(np.asarray(goal), compute_uv=False)
    singular[-1] *= np.sign(np.linalg.det(goal))
    np.testing.assert_allclose(found.value, -singular.sum(), rtol=1e-5, atol=0)


def test_rudin_shapiro_signs_miss_no_frequency():
    for n in (1, 2, 7, 64, 100, 513):
        signs = rudin_shapiro(n)
        assert signs.shape == (n,)
        assert set(np.abs(signs)) == {1.0}
        # Rudin's bound (2 + sqrt 2) sqrt(n) for any length; sqrt(2 n) for powers of two.
        peak = np.abs(np.fft.fft(signs, 16 * n)).max()
        assert peak <= (2 + 2**0.5) * n**0.5
        if n & (n - 1) == 0:
            assert peak <= (2 * n) ** 0.5 * (1 + 1e-12)
    energies = np.abs(np.fft.rfft(rudin_shapiro(64))) ** 2
    assert energies.min() > 0


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("solver", [LBFGS, GradientDescent])
def test_a_curvature_that_is_given_serves_as_well_as_one_that_is_measured(solver):
    # A quadratic form's factors are measured exactly: both must take the same way, in whatever unit the solver works.
    objective = smoothness(order=1)
    summary = objective.summarise(random_matrix(0, 12, 40) * jnp.linspace(1, 30, 12)[:, None])
    start = orthogonal.random(jax.random.key(1), 12)
    given, found = (
        minimise(objective, start, summary, solver=solver(preconditioner=kind)) for kind in (Analytic(), Kronecker())
    )
    assert abs(int(given.steps) - int(found.steps)) <= 2
    np.testing.assert_allclose(given.value, objective.bound(summary), rtol=1e-9, atol=0)
