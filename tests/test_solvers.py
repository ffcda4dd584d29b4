"""Every solver against the closed form of Brockett's problem, and what all of them promise.

A new solver joins the battery by itself, with its defaults; other options of it by one line in `BATTERY`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdescramble import exact, solvers
from jaxdescramble.groups import orthogonal, retractions
from jaxdescramble.objectives import Objective, smoothness, sparsity
from jaxdescramble.solvers import LBFGS, Analytic, Kronecker, Optax, TrustRegion, minimise
from jaxdescramble.solvers.descent import Report, descend
from jaxdescramble.status import Status

N, M = 6, 20
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore

ZOOM = optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(max_linesearch_steps=15))

BATTERY = {
    "trust region": TrustRegion(preconditioner=None),
    "trust region, Kronecker": TrustRegion(preconditioner=Kronecker()),
    "trust region, Analytic": TrustRegion(preconditioner=Analytic()),
    "L-BFGS": LBFGS(preconditioner=None),
    "L-BFGS, Kronecker": LBFGS(preconditioner=Kronecker(every=4)),
    "L-BFGS, Analytic": LBFGS(preconditioner=Analytic()),
    "conjugate gradient": solvers.ConjugateGradient(),
    "conjugate gradient, Kronecker": solvers.ConjugateGradient(preconditioner=Kronecker()),
    "gradient descent": solvers.GradientDescent(),
    "gradient descent, Analytic": solvers.GradientDescent(preconditioner=Analytic()),
    "Adam": Optax(optax.adam(0.02), max_steps=3000, tolerance=1e-6),
    "an optax line search": Optax(ZOOM, max_steps=6000),
    "restarts": solvers.Restarts(LBFGS(preconditioner=Analytic()), jax.random.split(jax.random.key(4), 2)),
    "chain": solvers.Chain((solvers.GradientDescent(max_steps=5), TrustRegion(preconditioner=None))),
}
# One that is not named above joins with its defaults: a new solver is its file and a line in `__init__`. Those that are
# not for every function, or need data to start from, have tests of their own.
ELSEWHERE = {"PolarPower", "Minibatches", "Progressive", "Continuation", "FromModes", "FromSources", "Seriated"}
NAMED = {type(solver).__name__ for solver in BATTERY.values()} | ELSEWHERE
PUBLIC = {name: getattr(solvers, name) for name in solvers.__all__}
BATTERY |= {
    name: kind() for name, kind in PUBLIC.items() if name not in NAMED and {"max_steps", "run"} & set(dir(kind))
}
GAPS = {"Adam": 1e-9}
UPHILL = {"Adam", "an optax line search"}
# Combinations of what the others try alone: on request.
SLOW = {"trust region, Analytic", "conjugate gradient, Kronecker", "an optax line search"}
each_solver = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BATTERY]
)

traces = []


def counted(point, summary, **options):
    """Smoothness that counts how often it is traced."""
    traces.append(1)
    return smoothness().function(point, summary, **options)


# All eigenvalues are different: what is found is unique up to the signs of modes.
BROCKETT = dataclasses.replace(smoothness(order=1, boundary="neumann"), function=counted)


def signals(seed=0, n=N, m=M):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, m)))


def summaries(count=5, n=N):
    """A batch of problems."""
    return jax.vmap(BROCKETT.summarise)(jnp.stack([signals(seed, n) for seed in range(count)]))


def starts(count=5, n=N):
    """Haar-random, determinants -1 and +1 in turn."""
    keys = jax.random.split(jax.random.key(3), count)
    return jnp.stack([orthogonal.random(key, n, determinant=2 * (i % 2) - 1) for i, key in enumerate(keys)])


def nth(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def stacked(found):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


@functools.cache
def looped(name):
    """One problem after another, in one compiled program."""
    solve = jax.jit(lambda start, summary, solver: minimise(BROCKETT, start, summary, solver=solver, history=40))
    problems, points = summaries(), starts()
    return stacked([solve(points[i], nth(problems, i), BATTERY[name]) for i in range(5)])


# --- what every solver promises ------------------------------------------------------------------------------------


@needs_x64
@each_solver
def test_the_brockett_optimum_in_the_class_of_the_start(name):
    found, problems = looped(name), summaries()
    found.check()
    assert found.status.tolist() == [Status.SOLVED] * 5
    best = jax.vmap(BROCKETT.bound_on)(problems)
    np.testing.assert_allclose(found.value, best, rtol=0, atol=GAPS.get(name, 1e-13))
    assert float(jax.vmap(orthogonal.defect)(found.point).max()) < 1e-13 * N
    np.testing.assert_allclose(np.linalg.det(found.point), np.linalg.det(starts()), rtol=1e-12, atol=0)
    np.testing.assert_allclose(found.value, jax.vmap(BROCKETT)(found.point, problems), rtol=1e-12, atol=0)
    assert (np.asarray(found.evaluations) > np.asarray(found.steps)).all()
    for i in range(5):
        slope = orthogonal.skew(found.point[i].T @ jax.grad(BROCKETT)(found.point[i], nth(problems, i)))
        np.testing.assert_allclose(found.gradient_norm[i], np.linalg.norm(slope), rtol=1e-3, atol=1e-15)
        # The frame itself, up to its gauge: the closed form's descrambled signals.
        closed = exact.ClosedForm()(BROCKETT, nth(problems, i)).point @ signals(i)
        gauge = exact.Stabiliser(BROCKETT.operator_on(N))
        distance = exact.align(found.point[i] @ signals(i), closed, gauge).distance
        assert float(distance) < max(1e-6, 20 * GAPS.get(name, 0) ** 0.5)


@needs_x64
@each_solver
def test_history_falls_ends_with_the_value_and_is_nan_after_it(name):
    if name in ("restarts", "chain"):
        return  # the record of one of their solves, whose steps are not told apart
    found = looped(name)
    for i in range(5):
        steps, values = int(found.steps[i]), np.asarray(found.history.value[i])
        kept = min(steps, 40)
        assert np.isfinite(values[:kept]).all()
        assert np.isnan(values[kept:]).all()
        assert np.isnan(np.asarray(found.history.gradient_norm[i])[kept:]).all()
        if steps <= 40:
            np.testing.assert_allclose(values[steps - 1], found.value[i], rtol=1e-15, atol=0)
        if name not in UPHILL:
            assert np.diff(values[:kept]).max(initial=0) <= 100 * EPS


@needs_x64
@pytest.mark.parametrize("name", ["trust region, Kronecker", "L-BFGS, Analytic", "conjugate gradient"])
def test_problems_that_march_in_step_equal_single_ones_and_a_poisoned_one_costs_the_others_nothing(name):
    # What accelerators run (on a CPU, vmap takes one problem after another): the batch inside the loop.
    problems = summaries()
    poisoned = dataclasses.replace(problems, factor=problems.factor.at[2, 0, 0].set(jnp.nan))
    march = jax.jit(jax.vmap(lambda start, s: descend(BROCKETT, start, (s,), BATTERY[name], Report())))
    alone, together = looped(name), march(starts(), poisoned)
    assert together.status.tolist() == [0, 0, Status.NOT_FINITE, 0, 0]
    assert bool(jnp.isnan(together.point[2]).all())
    assert bool(jnp.isnan(together.value[2]))
    for i in (0, 1, 3, 4):
        # Rounding is not the same in step and alone, and a hundred steps of conjugate gradients tell.
        assert abs(int(together.steps[i]) - int(alone.steps[i])) <= 2 + int(alone.steps[i]) // 3
        np.testing.assert_allclose(together.value[i], alone.value[i], rtol=1e-11, atol=0)
        np.testing.assert_allclose(together.point[i], alone.point[i], rtol=0, atol=1e-6)


@needs_x64
@pytest.mark.parametrize("name", ["L-BFGS, Analytic", "restarts"])
def test_vmapped_equals_looped_and_a_poisoned_problem_is_named(name):
    problems, points = summaries(), starts()
    poisoned = dataclasses.replace(problems, factor=problems.factor.at[2, 0, 0].set(jnp.inf))
    points = points.at[4].set(jnp.nan)
    found = jax.vmap(lambda start, s: minimise(BROCKETT, start, s, solver=BATTERY[name], history=40))(points, poisoned)
    assert found.status.tolist() == [0, 0, Status.NOT_FINITE, 0, Status.NOT_FINITE]
    with pytest.raises(FloatingPointError, match=r"minimise: NOT_FINITE in problems \[\[2\], \[4\]\]"):
        found.check()
    assert bool(jnp.isnan(found.point[jnp.asarray([2, 4])]).all())
    for i in (0, 1, 3):
        alone = nth(looped(name), i)
        assert int(found.steps[i]) == int(alone.steps)
        np.testing.assert_allclose(found.value[i], alone.value, rtol=1e-14, atol=0)
        np.testing.assert_allclose(found.point[i], alone.point, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found.history.value[i], alone.history.value, rtol=1e-12, atol=0)


@needs_x64
def test_batches_of_batches_shared_starts_and_batches_of_solvers():
    problems = summaries(4)
    grid = jax.tree.map(lambda leaf: leaf.reshape((2, 2, *leaf.shape[1:])), problems)
    solve = functools.partial(minimise, BROCKETT, solver=LBFGS(preconditioner=Analytic()))
    together = jax.vmap(jax.vmap(solve, (None, 0)), (None, 0))(jnp.eye(N), grid)
    assert together.point.shape == (2, 2, N, N)
    for i in range(4):
        alone = solve(jnp.eye(N), nth(problems, i))
        np.testing.assert_allclose(together.value[i // 2, i % 2], alone.value, rtol=1e-13, atol=0)
    found = jax.vmap(
        lambda t: minimise(BROCKETT, jnp.eye(N), nth(problems, 0), solver=LBFGS(tolerance=t, preconditioner=Analytic()))
    )(jnp.asarray([1e-1, 1e-3, 1e-6, 1e-9]))
    assert sorted(set(found.steps.tolist())) == found.steps.tolist()
    assert float(found.value[0]) > float(found.value[3])


@needs_x64
@pytest.mark.parametrize("solver", [TrustRegion(1e-8, 50), LBFGS(1e-8, 50)], ids=["trust region", "L-BFGS"])
def test_other_numbers_do_not_trace_again(solver):
    problems, points = summaries(2), starts(2)
    one = minimise(BROCKETT, points[0], nth(problems, 0), solver=solver)
    before = len(traces)
    two = minimise(BROCKETT, points[1], nth(problems, 1), solver=solver)
    loose = minimise(
        BROCKETT, points[0], nth(problems, 0), solver=dataclasses.replace(solver, tolerance=1e-2, max_steps=49)
    )
    short = minimise(BROCKETT, points[0], nth(problems, 0), solver=dataclasses.replace(solver, max_steps=2))
    assert len(traces) == before
    assert abs(float(one.value - two.value)) > 1e-3
    assert int(loose.steps) < int(one.steps)
    assert int(short.steps) == 2
    assert int(short.status) == Status.STEPS_SPENT


@needs_x64
def test_at_the_solution_nothing_is_left_to_do():
    problem = nth(summaries(), 0)
    for solver in (LBFGS(1e-8), solvers.PolarPower(1e-8)):
        found = minimise(BROCKETT, looped("trust region").point[0], problem, solver=solver)
        assert int(found.steps) == 0
        assert int(found.evaluations) == 1
        assert int(found.status) == Status.SOLVED


@needs_x64
def test_newton_does_not_stall_on_a_gauge():
    # Periodic smoothness turns freely inside Fourier pairs: there the Hessian is zero up to rounding of either sign.
    objective, solver = smoothness(), TrustRegion(preconditioner=None)
    problems = jax.vmap(objective.summarise)(jnp.stack([signals(seed) for seed in range(5)]))
    found = jax.vmap(lambda P, s: minimise(objective, P, s, solver=solver))(starts(), problems)
    assert found.status.tolist() == [Status.SOLVED] * 5
    np.testing.assert_allclose(found.value, jax.vmap(objective.bound_on)(problems), rtol=0, atol=1e-13)


# --- other problems ------------------------------------------------------------------------------------------------


def peaks(point, turn):
    """Minus a convex function whose minima, -n, are the signed permutations of a hidden frame, in both classes."""
    return -jnp.sum((point @ turn) ** 4)


@pytest.mark.both_precisions
@pytest.mark.parametrize("determinant", [1, -1])
def test_the_polar_fixed_point_climbs_convex_functions(determinant):
    hidden = orthogonal.random(jax.random.key(0), 5, "SO")
    start = hidden.T @ orthogonal.special(
        retractions.exponential(jnp.eye(5), 0.2 * orthogonal.skew(signals(3, 5, 5))), determinant
    )
    found = minimise(peaks, start, hidden, solver=solvers.PolarPower(), history=10)
    assert int(found.status) == Status.SOLVED
    np.testing.assert_allclose(found.value, -5, rtol=10 * EPS, atol=0)
    np.testing.assert_allclose(np.linalg.det(found.point), determinant, rtol=100 * EPS, atol=0)
    assert int(found.steps) < 12  # cubically
    values = np.asarray(found.history.value)[: int(found.steps)]
    assert np.diff(values).max(initial=0) <= 100 * EPS


def linear(point, goal):
    return -jnp.sum(point * goal)


@pytest.mark.both_precisions
@pytest.mark.parametrize("determinant", [1, -1])
def test_a_linear_function_takes_one_polar_step_and_newton_agrees(determinant):
    goal, start = signals(1, 4, 4), orthogonal.random(jax.random.key(1), 4, determinant=determinant)
    singular = np.linalg.svd(np.asarray(goal), compute_uv=False)
    # The closed form in one class: the last singular value changes its sign where the goal lies in the other.
    singular[-1] *= determinant * np.sign(np.linalg.det(goal))
    polar = minimise(linear, start, goal, solver=solvers.PolarPower())
    assert int(polar.steps) == 1
    np.testing.assert_allclose(polar.value, -singular.sum(), rtol=20 * EPS, atol=0)
    newton = minimise(linear, start, goal)
    assert newton.status in (Status.SOLVED, Status.PRECISION)
    np.testing.assert_allclose(newton.value, polar.value, rtol=100 * EPS, atol=0)


def corners(point, signals, *, width):
    return jnp.mean(jnp.sqrt((point @ signals) ** 2 + width**2))


@needs_x64
def test_continuation_finds_the_planted_frame_under_sharp_corners():
    rng = np.random.default_rng(0)
    sparse = jnp.asarray(rng.standard_normal((N, 60)) * (rng.random((N, 60)) < 0.3))
    hidden = orthogonal.random(jax.random.key(0), N, determinant=1)
    objective, start = sparsity(epsilon=1e-4), orthogonal.random(jax.random.key(5), N, determinant=1)
    summary = objective.summarise(hidden @ sparse)
    inner = LBFGS(preconditioner=None, max_steps=300)
    found = minimise(objective, start, summary, solver=solvers.Continuation(inner, (1e4, 1e3, 1e2, 10.0)))
    planted = objective(hidden.T, summary)
    assert float(found.value) <= float(planted) + 1e-9
    np.testing.assert_allclose(found.value, objective(found.point, summary), rtol=1e-12, atol=0)
    frame = np.abs(found.point @ hidden)
    np.testing.assert_allclose(np.sort(frame, axis=1)[:, -1], 1, rtol=0, atol=1e-3)  # a signed permutation
    direct = minimise(objective, start, summary, solver=inner)
    assert float(direct.value) >= float(found.value) - 1e-9


def double_well(point):
    return (point[0, 0] ** 2 - 0.5) ** 2 + 0.1 * point[0, 0] + 0.05 * jnp.linalg.slogdet(point)[0]


@needs_x64
def test_restarts_find_the_deeper_well_and_other_class_only_if_allowed():
    keys = jax.random.split(jax.random.key(0), 6)
    angle = np.linspace(0, 2 * np.pi, 100_001)
    lowest = ((np.cos(angle) ** 2 - 0.5) ** 2 + 0.1 * np.cos(angle)).min()
    start = orthogonal.geodesic(jnp.eye(2), jnp.asarray([[0.0, -0.88], [0.88, 0.0]]))  # at the bottom of the upper one
    inner = TrustRegion(preconditioner=None)
    alone = minimise(double_well, start, solver=inner)
    assert float(alone.value) > 0.1
    for group, best in (("SO", lowest + 0.05), ("O", lowest - 0.05)):
        found = minimise(double_well, start, solver=solvers.Restarts(inner, keys, group))
        np.testing.assert_allclose(found.value, best, rtol=0, atol=1e-8)
        assert int(found.steps) > int(alone.steps)
        np.testing.assert_allclose(found.value, double_well(found.point), rtol=1e-13, atol=0)


def roughness(point, signals, scale):
    return scale * jnp.sum(jnp.diff(point @ signals, axis=0) ** 2)


@needs_x64
@pytest.mark.parametrize(
    "solver",
    [TrustRegion(preconditioner=None), TrustRegion(preconditioner=Kronecker()), LBFGS(preconditioner=None),
     LBFGS(preconditioner=Kronecker()), solvers.ConjugateGradient(), solvers.GradientDescent()],
    ids=["trust region", "trust region, Kronecker", "L-BFGS", "L-BFGS, Kronecker", "conjugate gradient", "descent"],
)  # fmt: skip
def test_the_scale_of_a_function_changes_nothing(solver):
    S, start = signals(0, 4, 12), orthogonal.random(jax.random.key(0), 4)
    plain = minimise(roughness, start, S, 1.0, solver=solver)
    assert int(plain.status) == Status.SOLVED
    for scale in (2.0**100, 2.0**-100):  # powers of two: no rounding tells them apart
        found = minimise(roughness, start, S, scale, solver=solver)
        assert int(found.status) == Status.SOLVED
        np.testing.assert_allclose(found.value / scale, plain.value, rtol=1e-12, atol=0)
        assert abs(int(found.steps) - int(plain.steps)) <= 0.1 * int(plain.steps)


@pytest.mark.both_precisions
def test_the_scale_of_a_function_changes_nothing_in_single_precision():
    S, start = signals(0, 4, 12).astype(jnp.float32), orthogonal.random(jax.random.key(0), 4, dtype=jnp.float32)
    plain = minimise(roughness, start, S, 1.0)
    for scale in (1e30, 1e-30):
        found = minimise(roughness, start, S, scale)
        assert found.status in (Status.SOLVED, Status.PRECISION)
        np.testing.assert_allclose(found.value / scale, plain.value, rtol=1e-5, atol=0)


@pytest.mark.both_precisions
@pytest.mark.parametrize("solver", [None, LBFGS(), Optax(optax.adam(0.01), max_steps=50)], ids=["TR", "L-BFGS", "Adam"])
def test_types_are_kept_and_single_precision_reaches_what_it_can(solver):
    S = signals(1).astype(jnp.float32)
    objective, start = smoothness(), orthogonal.random(jax.random.key(2), N, dtype=jnp.float32)
    summary = objective.summarise(S)
    found = minimise(objective, start, summary, solver=solver, history=5)
    numbers = (found.point, found.value, found.gradient_norm, *found.history)
    assert all(leaf.dtype == jnp.float32 for leaf in numbers)
    assert found.steps.dtype == found.status.dtype == found.evaluations.dtype == jnp.int32
    assert float(orthogonal.defect(found.point)) < 1e-6 * N
    if not isinstance(solver, Optax):
        assert found.status in (Status.SOLVED, Status.PRECISION)
        np.testing.assert_allclose(found.value, objective.bound_on(summary), rtol=1e-5, atol=0)


@needs_x64
def test_data_of_another_precision_than_the_point():
    start = orthogonal.random(jax.random.key(0), 4, dtype=jnp.float32)
    found = minimise(roughness, start, signals(0, 4, 12), 1.0, solver=LBFGS())
    assert found.point.dtype == jnp.float32
    np.testing.assert_allclose(
        found.value, minimise(roughness, start.astype(float), signals(0, 4, 12), 1.0).value, rtol=1e-5, atol=0
    )


@pytest.mark.both_precisions
@pytest.mark.parametrize("solver", [TrustRegion(), LBFGS(), solvers.PolarPower()], ids=["TR", "L-BFGS", "polar"])
def test_one_neuron_has_nothing_to_turn(solver):
    for sign in (1.0, -1.0):
        found = minimise(roughness, sign * jnp.eye(1), jnp.ones((1, 3)), 1.0, solver=solver)
        assert (int(found.status), int(found.steps), float(found.point[0, 0])) == (Status.SOLVED, 0, sign)


def constant(point):
    return jnp.sum(point**2)


def no_point(point):
    return 1.5


@pytest.mark.both_precisions
def test_a_function_that_does_not_change_is_solved_where_it_starts():
    start = orthogonal.random(jax.random.key(0), 4)
    for function, value in ((constant, 4.0), (no_point, 1.5)):
        found = minimise(function, start)
        np.testing.assert_allclose(found.value, value, rtol=10 * EPS, atol=0)
        np.testing.assert_allclose(found.point, start, rtol=0, atol=10 * EPS)
        assert found.status in (Status.SOLVED, Status.PRECISION)
        assert int(found.steps) <= 1


def walled(point, goal):
    """Not a number beyond a wall that lies between the start and the lowest points."""
    return jnp.where(point[0, 0] < 0, jnp.nan, -jnp.sum(point * goal))


@needs_x64
def test_steps_onto_numbers_that_are_none_are_taken_back():
    goal = jnp.asarray([[0.2, -1.0], [1.0, 0.2]])  # the lowest point has P_11 = 0.196
    for solver in (TrustRegion(preconditioner=None), LBFGS(preconditioner=None)):
        found = minimise(walled, jnp.eye(2), goal, solver=solver)
        assert int(found.status) == Status.SOLVED
        np.testing.assert_allclose(found.value, -2 * np.hypot(0.2, 1.0), rtol=1e-12, atol=0)


# --- reports -------------------------------------------------------------------------------------------------------


@needs_x64
def test_the_callback_hears_of_every_third_step():
    heard = []

    def hear(step, value, gradient_norm):
        heard.append((int(step), float(value), float(gradient_norm)))

    found = minimise(
        BROCKETT, starts()[0], nth(summaries(), 0), solver=LBFGS(preconditioner=None), history=100, callback=hear,
        every=3,
    )  # fmt: skip
    jax.effects_barrier()
    assert sorted(step for step, _, _ in heard) == list(range(3, int(found.steps) + 1, 3))
    for step, value, size in heard:
        np.testing.assert_allclose(value, found.history.value[step - 1], rtol=1e-15, atol=0)
        np.testing.assert_allclose(size, found.history.gradient_norm[step - 1], rtol=1e-15, atol=0)


@pytest.mark.both_precisions
def test_spent_steps_are_a_status_with_a_remedy():
    S, start = signals(0, 4, 12), orthogonal.random(jax.random.key(0), 4)
    found = minimise(roughness, start, S, 1.0, solver=LBFGS(max_steps=0))
    assert (int(found.status), int(found.steps), int(found.evaluations)) == (Status.STEPS_SPENT, 0, 1)
    np.testing.assert_allclose(found.point, start, rtol=0, atol=10 * EPS)
    np.testing.assert_allclose(found.value, roughness(start, S, 1.0), rtol=100 * EPS, atol=0)
    with pytest.raises(FloatingPointError, match=r"STEPS_SPENT.*allow more max_steps"):
        found.check()
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda s: minimise(roughness, start, s, 1.0).check().value)(S)


# --- bad input -----------------------------------------------------------------------------------------------------


def twice(point):
    return point[0] * 2


def complex_valued(point):
    return jnp.sum(point) * 1j


def counts(point):
    return jnp.sum(point > 0)


def pair(point):
    return jnp.sum(point), jnp.sum(point)


EYE = jnp.eye(3)
WRONG = {
    "not orthogonal": ((linear, 1.1 * EYE, EYE), {}, ValueError, r"not orthogonal.*polar"),
    "not square": ((linear, EYE[:2], EYE), {}, ValueError, "square"),
    "a batch": ((linear, jnp.stack([EYE, EYE]), EYE), {}, ValueError, r"jax\.vmap"),
    "integers": ((linear, np.eye(3, dtype=int), EYE), {}, TypeError, "start"),
    "complex numbers": ((linear, 1j * np.eye(3), EYE), {}, TypeError, "start"),
    "half precision": ((linear, EYE.astype(jnp.bfloat16), EYE), {}, TypeError, "start"),
    "words": ((linear, "identity", EYE), {}, TypeError, "start"),
    "not a scalar": ((twice, EYE), {}, TypeError, "one real number"),
    "two numbers": ((pair, EYE), {}, TypeError, "one real number"),
    "a complex number": ((complex_valued, EYE), {}, TypeError, "one real number"),
    "a count": ((counts, EYE), {}, TypeError, "one real number"),
    "no function": ((EYE, EYE), {}, TypeError, "expected a function"),
    "a solver class": ((constant, EYE), {"solver": LBFGS}, TypeError, "solver value"),
    "no solver": ((constant, EYE), {"solver": "LBFGS"}, TypeError, "solver value"),
    "no curvature": ((constant, EYE), {"solver": LBFGS(preconditioner=Analytic())}, TypeError, "'?constant'? gives no"),
    "no smoothing": ((constant, EYE), {"solver": solvers.Continuation(LBFGS())}, TypeError, "'?constant'? names no"),
    "an empty chain": ((constant, EYE), {"solver": solvers.Chain(())}, ValueError, "at least one"),
    "every = 0": ((constant, EYE), {"callback": print, "every": 0}, ValueError, "every"),
    "a negative history": ((constant, EYE), {"history": -1}, ValueError, "history"),
    "an optax transform": ((constant, EYE), {"solver": optax.adam(0.1)}, TypeError, "solver value"),
}


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_anything_is_computed(case):
    given, options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        minimise(*given, **options)


@needs_x64
def test_a_start_that_is_nearly_orthogonal_is_mended_and_one_that_is_not_is_found_out_inside_jit():
    S = signals(0, 4, 12)
    mended = minimise(roughness, jnp.eye(4) + 1e-3 * signals(1, 4, 4), S, 1.0)
    assert float(orthogonal.defect(mended.point)) < 4e-13
    np.testing.assert_allclose(mended.value, minimise(roughness, jnp.eye(4), S, 1.0).value, rtol=1e-10, atol=0)
    frozen = jax.jit(lambda start: minimise(roughness, start, S, 1.0, solver=LBFGS(max_steps=0)))(0.5 * jnp.eye(4))
    assert int(frozen.status) == Status.OFF_GROUP
    with pytest.raises(FloatingPointError, match=r"OFF_GROUP.*Project it"):
        frozen.check()


# --- riemannian ----------------------------------------------------------------------------------------------------


@pytest.mark.both_precisions
def test_two_thousand_steps_of_adam_neither_drift_nor_fall_below_the_minimum():
    # Plain Adam with retraction but no polish drifts by 1e-3 in float32 and goes below the true minimum (specs/5).
    n = 16
    S = signals(0, n, 60).astype(jnp.float32)
    objective = smoothness()
    summary, optimiser = objective.summarise(S), solvers.riemannian(optax.adam(optax.exponential_decay(0.05, 200, 0.5)))
    bound = float(objective.bound_on(summary))

    def step(carry, _):
        point, state = carry
        updates, state = optimiser.update(jax.grad(objective)(point, summary), state, point)
        point = optax.apply_updates(point, updates)
        return (point, state), objective(point, summary)

    start = jnp.eye(n, dtype=jnp.float32)
    (point, _), values = jax.jit(lambda c: jax.lax.scan(step, c, length=2000))((start, optimiser.init(start)))
    assert point.dtype == jnp.float32
    assert float(orthogonal.defect(point)) <= 1e-5
    assert float(values.min()) >= bound * (1 - 1e-5)
    np.testing.assert_allclose(values[-1], bound, rtol=2e-3, atol=0)


@needs_x64
def test_riemannian_is_the_update_by_hand_for_batches_in_trees():
    points = {"a": starts(3, 4), "b": [orthogonal.random(jax.random.key(9), 3)]}
    slopes = {"a": jnp.stack([signals(i, 4, 4) for i in range(3)]), "b": [100 * signals(7, 3, 3)]}
    optimiser = solvers.riemannian(optax.sgd(0.1))
    updates, _ = optimiser.update(slopes, optimiser.init(points), points)
    moved = optax.apply_updates(points, updates)
    for i in range(3):
        velocity = -0.1 * orthogonal.skew(points["a"][i].T @ slopes["a"][i])
        by_hand = orthogonal.geodesic(points["a"][i], velocity)
        np.testing.assert_allclose(moved["a"][i], by_hand, rtol=0, atol=1e-12)
    # Here the step of plain SGD would turn by dozens of radians: no plane turns by more than CAP.
    angles = np.angle(np.linalg.eigvals(points["b"][0].T @ moved["b"][0]))
    assert 0.5 * retractions.CAP < np.abs(angles).max() <= retractions.CAP * (1 + 1e-12)
    assert float(orthogonal.defect(moved["b"][0])) < 1e-13


@needs_x64
def test_riemannian_adam_is_optax_adam_in_the_lie_algebra():
    # Two steps by hand: moments live in body coordinates, where nothing has to be transported.
    point, slope = orthogonal.random(jax.random.key(0), 4), [signals(i, 4, 4) for i in (1, 2)]
    optimiser = solvers.riemannian(optax.adam(0.05, b1=0.9, b2=0.99, eps=1e-8))
    state, P = optimiser.init(point), point
    m = v = np.zeros((4, 4))
    by_hand = point
    for k, G in enumerate(slope, 1):
        updates, state = optimiser.update(G, state, P)
        P = optax.apply_updates(P, updates)
        g = np.asarray(orthogonal.skew(by_hand.T @ G))
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        velocity = -0.05 * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.99**k)) + 1e-8)
        by_hand = orthogonal.geodesic(by_hand, jnp.asarray(velocity))
    np.testing.assert_allclose(P, by_hand, rtol=0, atol=1e-12)


@needs_x64
def test_riemannian_passes_line_searches_what_they_ask_for():
    S, P = signals(0, 4, 12), orthogonal.random(jax.random.key(0), 4)
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20, store_grad=False))
    optimiser = solvers.riemannian(search)

    def step(carry, _):
        P, state = carry
        value, slope = jax.value_and_grad(roughness)(P, S, 1.0)
        updates, state = optimiser.update(
            slope, state, P, value=value, grad=slope, value_fn=lambda Q: roughness(Q, S, 1.0)
        )
        return (optax.apply_updates(P, updates), state), value

    values = jax.jit(lambda c: jax.lax.scan(step, c, length=300))((P, optimiser.init(P)))[1]
    assert float(jnp.diff(values).max()) < 1e-12
    np.testing.assert_allclose(values[-1], minimise(roughness, P, S, 1.0).value, rtol=1e-3, atol=0)


@pytest.mark.usefixtures("as_installed")
def test_riemannian_says_what_it_cannot_do():
    optimiser = solvers.riemannian(optax.sgd(0.1))
    state = optimiser.init(jnp.eye(3))
    with pytest.raises(ValueError, match="needs the parameters"):
        optimiser.update(jnp.eye(3), state)
    for wrong in (jnp.zeros((2, 3)), jnp.zeros(3), jnp.zeros(())):
        with pytest.raises(ValueError, match=r"no orthogonal matrix; use optax\.partition"):
            optimiser.init({"weight": wrong})


# --- large and slow ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_x64
@pytest.mark.parametrize("determinant", [1, -1])
def test_twenty_haar_starts_reach_the_brockett_optimum_every_time(determinant):
    n = 64
    objective, S = smoothness(), signals(0, n, 4 * n)
    summary = objective.summarise(S)
    solve = jax.jit(lambda start: minimise(objective, start, summary, solver=LBFGS(preconditioner=Kronecker())))
    bound = float(objective.bound_on(summary))
    for key in jax.random.split(jax.random.key(0), 20):
        found = solve(orthogonal.random(key, n, determinant=determinant))
        assert abs(float(found.value) / bound - 1) < 1e-6
        assert found.status in (Status.SOLVED, Status.PRECISION)
        np.testing.assert_allclose(np.linalg.det(found.point), determinant, rtol=1e-10, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [Optax(optax.adam(1e-3), 100_000, 0.0), TrustRegion(0.0, 100_000), LBFGS(0.0, 100_000),
     solvers.ConjugateGradient(0.0, 100_000), solvers.GradientDescent(0.0, 100_000)],
    ids=["Adam", "trust region", "L-BFGS", "conjugate gradient", "gradient descent"],
)  # fmt: skip
def test_after_a_hundred_thousand_steps_in_single_precision_the_value_belongs_to_a_point_on_the_group(solver):
    n = 128
    objective = smoothness()
    summary = objective.summarise(signals(0, n, 4 * n).astype(jnp.float32))
    found = minimise(objective, orthogonal.random(jax.random.key(0), n, dtype=jnp.float32), summary, solver=solver)
    assert found.point.dtype == jnp.float32
    assert float(jnp.linalg.norm(found.point.T @ found.point - jnp.eye(n, dtype=jnp.float32))) <= 1e-5
    projected = orthogonal.polar(found.point)[0]
    np.testing.assert_allclose(found.value, objective(projected, summary), rtol=1e-4, atol=0)
    assert float(found.value) >= float(objective.bound_on(summary)) * (1 - 1e-4)


@pytest.mark.slow
@needs_x64
def test_two_hundred_and_fifty_six_problems_equal_as_many_single_ones():
    problems, points = summaries(256), starts(256)
    solver = LBFGS(preconditioner=Kronecker())
    together = jax.vmap(lambda start, s: minimise(BROCKETT, start, s, solver=solver))(points, problems)
    march = jax.jit(jax.vmap(lambda start, s: descend(BROCKETT, start, (s,), solver, Report())))(points, problems)
    assert together.status.tolist() == [0] * 256
    for i in range(256):
        alone = minimise(BROCKETT, points[i], nth(problems, i), solver=solver)
        for batch in (together, march):
            np.testing.assert_allclose(batch.value[i], alone.value, rtol=1e-11, atol=0)
            np.testing.assert_allclose(batch.point[i], alone.point, rtol=0, atol=1e-6)


def test_objectives_made_by_a_user_are_minimised_like_any_function():
    objective = Objective(corners_of, parameters=(("width", 0.1),))
    S = signals(0, 4, 12)
    wrapped = minimise(objective, jnp.eye(4), objective.summarise(S), solver=LBFGS(preconditioner=None))
    plain = minimise(lambda P, s: corners(P, s, width=0.1), jnp.eye(4), S, solver=LBFGS(preconditioner=None))
    np.testing.assert_allclose(wrapped.value, plain.value, rtol=1e-10, atol=0)


def corners_of(point, summary, width):
    return corners(point, summary.signals, width=width)
