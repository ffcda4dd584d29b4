"""What the verb promises whatever the solver: scales, types, edges, reports and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_combinators import corners, linear
from test_solvers import EPS, N, needs_x64, signals

from jaxdescramble import solvers
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import from_function, smoothness
from jaxdescramble.solvers import LBFGS, Analytic, Kronecker, Optax, TrustRegion, minimise


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
        np.testing.assert_allclose(found.value, objective.bound(summary), rtol=1e-5, atol=0)


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


@pytest.mark.both_precisions
def test_spent_steps_are_a_status_with_a_remedy():
    S, start = signals(0, 4, 12), orthogonal.random(jax.random.key(0), 4)
    both = minimise(roughness, start, S, 1.0, solver=LBFGS(max_steps=0))
    assert (int(both.status), int(both.steps), int(both.evaluations)) == (Status.STEPS_SPENT, 0, 2)
    found = minimise(roughness, start, S, 1.0, solver=LBFGS(max_steps=0), group="SO")
    assert (int(found.status), int(found.steps), int(found.evaluations)) == (Status.STEPS_SPENT, 0, 1)
    np.testing.assert_allclose(found.point, start, rtol=0, atol=10 * EPS)
    np.testing.assert_allclose(found.value, roughness(start, S, 1.0), rtol=100 * EPS, atol=0)
    with pytest.raises(FloatingPointError, match=r"STEPS_SPENT.*raise max_steps"):
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
    "not orthogonal": ((linear, 1.1 * EYE, EYE), {}, ValueError, r"must be orthogonal.*polar"),
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
    "a negative history": ((constant, EYE), {"history": -1}, ValueError, "history"),
    "an optax transform": ((constant, EYE), {"solver": optax.adam(0.1)}, TypeError, "solver value"),
}


@pytest.mark.every_case
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


def test_objectives_made_by_a_user_are_minimised_like_any_function():
    objective = from_function(corners_of, width=0.1)
    S = signals(0, 4, 12)
    wrapped = minimise(objective, jnp.eye(4), objective.summarise(S), solver=LBFGS(preconditioner=None))
    plain = minimise(lambda P, s: corners(P, s, width=0.1), jnp.eye(4), S, solver=LBFGS(preconditioner=None))
    np.testing.assert_allclose(wrapped.value, plain.value, rtol=1e-10, atol=0)


def corners_of(point, summary, width):
    return corners(point, summary.signals, width=width)
