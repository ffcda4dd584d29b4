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
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Smoothness, smoothness
from jaxdescramble.solvers import LBFGS, Analytic, Kronecker, Optax, TrustRegion, minimise
from jaxdescramble.solvers.descent import RunOptions, descend

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
    "restarts": solvers.Restarts(LBFGS(preconditioner=Analytic()), 2, key=jax.random.key(4)),
    "chain": solvers.Chain((solvers.GradientDescent(max_steps=5), TrustRegion(preconditioner=None))),
}
# One that is not named above joins with its defaults: a new solver is its file and a line in `__init__`. Those that are
# not for every function, or need data to start from, have tests of their own.
ELSEWHERE = {"PolarPower", "Minibatches", "Progressive", "Continuation", "FromModes", "FromSources", "Seriated"}
ELSEWHERE |= {"SinglePrecision", "Tournament", "InFrame"}
NAMED = {type(solver).__name__ for solver in BATTERY.values()} | ELSEWHERE
PUBLIC = {name: getattr(solvers, name) for name in solvers.__all__}
BATTERY |= {
    name: kind() for name, kind in PUBLIC.items() if name not in NAMED and {"max_steps", "run"} & set(dir(kind))
}
GAPS = {"Adam": 1e-9}
"""How far from the optimum a solver may end, if its tolerance here is wider than that of this type."""
# Combinations of what the others try alone: on request.
SLOW = {"trust region, Analytic", "conjugate gradient, Kronecker", "an optax line search"}
each_solver = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in BATTERY]
)

traces = []


class Counted(Smoothness):
    """Smoothness that counts how often it is traced."""

    def value(self, point, summary):
        traces.append(1)
        return super().value(point, summary)


# All eigenvalues are different: what is found is unique up to the signs of modes.
BROCKETT = Counted(order=1, boundary="neumann")


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
    options = {"history": 40, "group": "SO"}
    solve = jax.jit(lambda start, summary, solver: minimise(BROCKETT, start, summary, solver=solver, **options))
    problems, points = summaries(), starts()
    return stacked([solve(points[i], nth(problems, i), BATTERY[name]) for i in range(5)])


# --- what every solver promises ------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.sampled(3)
@needs_x64
@each_solver
def test_the_brockett_optimum_in_the_class_of_the_start(name):
    found, problems = looped(name), summaries()
    found.check()
    assert found.status.tolist() == [Status.SOLVED] * 5, (
        f"{name} ended with {[Status(one).name for one in found.status.tolist()]}. With its defaults a solver must "
        "reach the optimum of five problems of size 6 within max_steps; other options stand in BATTERY."
    )
    best = jax.vmap(BROCKETT.bound)(problems)
    wanted = (
        f"{name}: with its defaults a solver must reach the value of the closed form to 1e-13 (GAPS has exceptions)."
    )
    np.testing.assert_allclose(found.value, best, rtol=0, atol=GAPS.get(name, 1e-13), err_msg=wanted)
    assert float(jax.vmap(orthogonal.defect)(found.point).max()) < 1e-13 * N
    np.testing.assert_allclose(np.linalg.det(found.point), np.linalg.det(starts()), rtol=1e-12, atol=0)
    np.testing.assert_allclose(found.value, jax.vmap(BROCKETT)(found.point, problems), rtol=1e-12, atol=0)
    assert (np.asarray(found.evaluations) > np.asarray(found.steps)).all()
    for i in range(5):
        slope = orthogonal.skew(found.point[i].T @ jax.grad(BROCKETT)(found.point[i], nth(problems, i)))
        np.testing.assert_allclose(found.gradient_norm[i], np.linalg.norm(slope), rtol=1e-3, atol=1e-15)
        # The frame itself, up to its gauge: the closed form's descrambled signals.
        closed = exact.ClosedForm()(BROCKETT, nth(problems, i)).point @ signals(i)
        gauge = exact.Stabiliser(BROCKETT.operator(N))
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
        if not getattr(BATTERY[name], "may_rise", False):
            assert np.diff(values[:kept]).max(initial=0) <= 100 * EPS, (
                f"{name} went uphill. Every step must lower the value, unless the solver says "
                "`may_rise: ClassVar[bool] = True` (solvers.descent.Descent)."
            )


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("name", ["trust region, Kronecker", "L-BFGS, Analytic", "conjugate gradient"])
def test_problems_that_march_in_step_equal_single_ones_and_a_poisoned_one_costs_the_others_nothing(name):
    # What accelerators run (on a CPU, vmap takes one problem after another): the batch inside the loop.
    problems = summaries()
    poisoned = dataclasses.replace(problems, factor=problems.factor.at[2, 0, 0].set(jnp.nan))
    march = jax.jit(jax.vmap(lambda start, s: descend(BROCKETT, start, (s,), BATTERY[name], RunOptions())))
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
    options = {"history": 40, "group": "SO"}
    found = jax.vmap(lambda P, s: minimise(BROCKETT, P, s, solver=BATTERY[name], **options))(points, poisoned)
    assert found.status.tolist() == [0, 0, Status.NOT_FINITE, 0, Status.NOT_FINITE]
    with pytest.raises(FloatingPointError, match=r"minimise: NOT_FINITE in problems \[\[2\], \[4\]\]"):
        found.check()
    assert bool(jnp.isnan(found.point[jnp.asarray([2, 4])]).all())
    for i in (0, 1, 3):
        alone = nth(looped(name), i)
        np.testing.assert_allclose(found.value[i], alone.value, rtol=1e-14, atol=0)
        if name == "restarts":  # its solves end in one optimum to rounding, and rounding chooses among them
            gauge = exact.Stabiliser(BROCKETT.operator(N))
            assert float(exact.align(found.point[i], alone.point, gauge).distance) < 1e-6
            continue
        assert int(found.steps[i]) == int(alone.steps)
        np.testing.assert_allclose(found.point[i], alone.point, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found.history.value[i], alone.history.value, rtol=1e-12, atol=0)


@pytest.mark.thorough
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
    np.testing.assert_allclose(found.value, jax.vmap(objective.bound)(problems), rtol=0, atol=1e-13)


# --- other problems ------------------------------------------------------------------------------------------------


# --- large and slow ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_x64
@pytest.mark.parametrize("determinant", [1, -1])
def test_twenty_haar_starts_reach_the_brockett_optimum_every_time(determinant):
    n = 64
    objective, S = smoothness(), signals(0, n, 4 * n)
    summary = objective.summarise(S)
    solve = jax.jit(lambda start: minimise(objective, start, summary, solver=LBFGS(preconditioner=Kronecker())))
    bound = float(objective.bound(summary))
    for key in jax.random.split(jax.random.key(0), 20):
        found = solve(orthogonal.random(key, n, determinant=determinant))
        assert abs(float(found.value) / bound - 1) < 1e-6
        assert found.status in (Status.SOLVED, Status.PRECISION)
        np.testing.assert_allclose(np.linalg.det(found.point), determinant, rtol=1e-10, atol=0)


@pytest.mark.slow
@needs_x64
def test_two_hundred_and_fifty_six_problems_equal_as_many_single_ones():
    problems, points = summaries(256), starts(256)
    solver = LBFGS(preconditioner=Kronecker())
    together = jax.vmap(lambda start, s: minimise(BROCKETT, start, s, solver=solver))(points, problems)
    march = jax.jit(jax.vmap(lambda start, s: descend(BROCKETT, start, (s,), solver, RunOptions())))(points, problems)
    assert together.status.tolist() == [0] * 256
    for i in range(256):
        alone = minimise(BROCKETT, points[i], nth(problems, i), solver=solver)
        for batch in (together, march):
            np.testing.assert_allclose(batch.value[i], alone.value, rtol=1e-11, atol=0)
            np.testing.assert_allclose(batch.point[i], alone.point, rtol=0, atol=1e-6)
    # One that is not finite leaves the other 255 as they were.
    spoiled = jax.tree.map(
        lambda leaf: leaf.at[100].set(jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, problems
    )
    beside = jax.vmap(lambda start, s: minimise(BROCKETT, start, s, solver=solver))(points, spoiled)
    good = np.arange(256) != 100
    assert beside.status[100] == Status.NOT_FINITE
    np.testing.assert_array_equal(np.asarray(beside.status)[good], np.asarray(together.status)[good])
    np.testing.assert_allclose(np.asarray(beside.point)[good], np.asarray(together.point)[good], rtol=0, atol=1e-12)
