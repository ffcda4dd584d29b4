"""Derivatives of the answer against central differences of problems solved again, for every objective there is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objectives import BATTERY, N, signals

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.manifolds.groups import ORTHOGONAL
from jaxdescramble.objectives import Samples, locality, similarity, smoothness, sparsity, total_variation, weighted
from jaxdescramble.operators import derivative, from_matrix
from jaxdescramble.solvers import LBFGS, Chain, Optax, PolarPower, Restarts, TrustRegion, minimise
from jaxdescramble.solvers.implicit import solve_hessian

pytestmark = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need 64 bits")  # pyright: ignore

# To rounding: an error of the point is an error of its derivative, times what the Hessian spans.
SOLVER = TrustRegion(1e-15, 100, preconditioner=None)
STEP = 1e-5


def largest(point, summary):
    """A user's own function, without any gauge."""
    return jnp.mean(jnp.logaddexp(0.0, 3 * (point @ summary.signals)[0])) + 0.1 * jnp.sum(point * signals(8, N, N))


def spectrum(D):
    """A symmetric matrix that weighs the eigenspaces of `D^T D`, each as a whole: blind to the gauge."""
    heights = np.repeat(np.cos(np.arange(len(D.multiplicities))), D.multiplicities)
    return D.synthesise(heights[:, None] * D.analyse(jnp.eye(N)))


# Rotations inside Fourier pairs leave these as they are, though they have no `operator`.
CIRCULAR = {"spectral entropy", "weighted, quadratic"}


def reading_for(name, objective):
    """A smooth function of P that does not change under the continuous gauge of the objective."""
    D = objective.operator(N) if hasattr(objective, "operator") else None
    if D is None and name not in CIRCULAR:
        return lambda P: jnp.sum(jnp.sin(signals(5, N, N)) * P)
    H, C = spectrum(derivative(N) if D is None else D), signals(6, N, N)
    return lambda P: jnp.sum(H * (P @ (C + C.T) @ P.T))


def differences(f, x, change, step=STEP):
    return (f(x + step * change) - f(x - step * change)) / (2 * step)


def checked(answer, read, x, change, rtol=1e-4):
    """Forward and reverse mode of `read(answer(x, start).point)`, and of the value, against central differences.

    `answer(x, start)` is a Solution.
    """
    base = answer(x, None)
    assert float(base.gradient_norm) < 1e-12

    def outcome(x):
        found = answer(x, base.point)
        return jnp.stack([read(found.point), found.value])

    expected = differences(outcome, x, change)
    _, forward = jax.jvp(outcome, (x,), (change,))
    _, pull = jax.vjp(outcome, x)
    reverse = jnp.stack([jnp.sum(pull(row)[0] * change) for row in jnp.eye(2)])
    np.testing.assert_allclose(forward, expected, rtol=rtol, atol=1e-7)
    np.testing.assert_allclose(reverse, expected, rtol=rtol, atol=1e-7)
    return expected


# Values of rounding have the derivatives of a model: no answer is stationary to the last digits.
MODELLED = {name for name, one in BATTERY.items() if getattr(one, "gradient", "") == "steps"}
FUNCTIONS = {name: one for name, one in BATTERY.items() if name not in MODELLED} | {"a user's function": largest}
# One of each family always, the others on request: nothing here costs anything but compilation.
FIRST = {
    "smoothness", "isotropic total variation", "locality", "sparsity", "entropy", "spectral entropy", "periodicity",
    "monotonicity", "diagonal sum", "diagonal norm", "bandedness", "similarity", "weighted, of many kinds",
    "a user's function",
}  # fmt: skip


def some_slow(names, first):
    return [pytest.param(name, marks=() if name in first else pytest.mark.slow) for name in names]


@pytest.mark.thorough
@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", some_slow(FUNCTIONS, FIRST))
def test_the_answer_moves_with_the_signals_as_its_derivative_says(name):
    function = FUNCTIONS[name]
    summarise = getattr(function, "summarise", Samples)
    first = orthogonal.random(jax.random.key(2), N, determinant=1)

    def answer(S, start):
        return minimise(function, first if start is None else start, summarise(S), solver=SOLVER)

    moved = checked(answer, reading_for(name, function), signals(), signals(1))
    if name == "similarity":  # to itself: the answer is the raw frame whatever the signals are
        np.testing.assert_allclose(moved, 0, rtol=0, atol=1e-7)
    else:
        assert abs(float(moved[0])) > 1e-4


LINE = locality("neumann")
PARAMETERS = {
    "the rounding of corners": (lambda e: total_variation(1, "neumann", epsilon=e), jnp.asarray(0.5), jnp.asarray(1.0)),
    "the rounding of log cosh": (lambda e: sparsity("logcosh", epsilon=e), jnp.asarray(0.7), jnp.asarray(1.0)),
    "a weight": (lambda w: weighted(sparsity(epsilon=0.5), (w, LINE)), jnp.asarray(0.3), jnp.asarray(1.0)),
    "a weight of zero": (lambda w: weighted(sparsity("l4"), (w, similarity())), jnp.asarray(0.0), jnp.asarray(1.0)),
    "a reference": (lambda R: similarity(R), signals(3), signals(4)),
    "positions": (lambda x: locality(positions=x), signals(3, N, 2), signals(4, N, 2)),
    "an operator": (
        lambda A: weighted(smoothness(operator=from_matrix(A), summary="samples"), (0.1, sparsity("l4"))),
        jnp.triu(jnp.ones((N, N))), signals(4, N, N),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", some_slow(PARAMETERS, ("the rounding of corners", "a weight", "a reference")))
def test_the_answer_moves_with_the_objective_as_its_derivative_says(name):
    build, parameter, change = PARAMETERS[name]
    first = orthogonal.random(jax.random.key(3), N)

    def answer(x, start):
        objective = build(x)
        return minimise(objective, first if start is None else start, objective.summarise(signals()), solver=SOLVER)

    moved = checked(answer, reading_for(name, weighted), parameter, change)
    assert abs(float(moved[0])) > 1e-4


def mixed(point, summary, weight):
    return sparsity(epsilon=0.5)(point, summary) + weight * locality("neumann")(point, summary)


SOLVERS = {
    "L-BFGS": LBFGS(1e-12, preconditioner=None),
    "a chain": Chain((LBFGS(1e-2, preconditioner=None), TrustRegion(1e-12, preconditioner=None))),
    "restarts": Restarts(LBFGS(1e-12, preconditioner=None), 2, key=jax.random.key(0)),
}


@pytest.mark.parametrize("name", some_slow(SOLVERS, ("L-BFGS",)))
def test_it_is_the_answer_that_is_differentiated_whatever_found_it(name):
    # At one point all solvers have one derivative: that of the trust region, which was compared above.
    S, read = signals(), reading_for("", largest)
    best = minimise(mixed, jnp.eye(N), Samples(S), 0.3, solver=SOLVERS[name])

    def outcome(solver, w):
        return read(minimise(mixed, best.point, Samples(S), w, solver=solver).point)

    slope = jax.grad(functools.partial(outcome, SOLVERS[name]))(0.3)
    np.testing.assert_allclose(slope, jax.grad(functools.partial(outcome, SOLVER))(0.3), rtol=1e-6, atol=0)
    assert abs(float(slope)) > 1e-3


def outcome_of_weight(w, S):
    found = minimise(mixed, jnp.eye(N), Samples(S), w, solver=SOLVER)
    return jnp.sum(jnp.sin(signals(5, N, N)) * found.point)


@pytest.mark.thorough
def test_under_jit_and_vmap_derivatives_are_those_of_single_problems():
    batch, weights = jnp.stack([signals(seed) for seed in range(3)]), jnp.asarray([0.2, 0.3, 0.5])
    both = jax.grad(outcome_of_weight, (0, 1))
    together = jax.jit(jax.vmap(both))(weights, batch)
    for i in range(3):
        alone = both(weights[i], batch[i])
        np.testing.assert_allclose(together[0][i], alone[0], rtol=1e-6, atol=0)
        np.testing.assert_allclose(together[1][i], alone[1], rtol=1e-6, atol=1e-9)
    forward = jax.vmap(lambda w, S: jax.jvp(lambda w: outcome_of_weight(w, S), (w,), (1.0,))[1])(weights, batch)
    np.testing.assert_allclose(forward, together[0], rtol=1e-7, atol=0)
    jacobian = jax.jacfwd(outcome_of_weight, 1)(weights[0], batch[0])
    np.testing.assert_allclose(jacobian, together[1][0], rtol=1e-6, atol=1e-9)


@pytest.mark.thorough
def test_one_problem_without_an_answer_keeps_its_derivative_to_itself():
    batch = jnp.stack([signals(seed) for seed in range(3)]).at[1, 0, 0].set(jnp.nan)
    slopes = jax.vmap(jax.grad(outcome_of_weight, 1), (None, 0))(jnp.asarray(0.3), batch)
    assert bool(jnp.isnan(slopes[1]).any())
    for i in (0, 2):
        np.testing.assert_allclose(slopes[i], jax.grad(outcome_of_weight, 1)(0.3, batch[i]), rtol=1e-6, atol=1e-9)


@pytest.mark.thorough
def test_second_derivatives_in_a_weight():
    slope = jax.grad(lambda w: outcome_of_weight(w, signals()))
    expected = differences(slope, jnp.asarray(0.3), 1.0)
    assert abs(float(expected)) > 1e-2
    np.testing.assert_allclose(jax.jvp(slope, (0.3,), (1.0,))[1], expected, rtol=1e-4, atol=0)
    np.testing.assert_allclose(jax.grad(slope)(0.3), expected, rtol=1e-4, atol=0)


def test_the_derivative_of_the_value_is_that_at_a_fixed_point():
    S = signals()

    def value(S, w):
        return minimise(mixed, jnp.eye(N), Samples(S), w, solver=SOLVER).value

    found = minimise(mixed, jnp.eye(N), Samples(S), 0.3, solver=SOLVER)
    slopes = jax.grad(value, (0, 1))(S, 0.3)
    envelope = jax.grad(lambda S, w: mixed(found.point, Samples(S), w), (0, 1))(S, 0.3)
    np.testing.assert_allclose(slopes[0], envelope[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slopes[1], envelope[1], rtol=1e-12, atol=0)
    # Twice differentiated the point moves: the value falls faster than the envelope.
    bend = jax.grad(jax.grad(value, 1), 1)(S, 0.3)
    np.testing.assert_allclose(bend, differences(lambda w: jax.grad(value, 1)(S, w), 0.3, 1.0), rtol=1e-4, atol=0)
    assert float(bend) < -1e-4


def test_nothing_but_point_and_value_has_a_derivative_and_the_start_has_none():
    S, start = signals(), orthogonal.random(jax.random.key(0), N)

    def everything(S, start):
        found = minimise(mixed, start, Samples(S), 0.3, solver=SOLVER, history=4)
        return found.gradient_norm + jnp.sum(found.history.value), jnp.sum(found.point)

    np.testing.assert_array_equal(jax.grad(lambda S: everything(S, start)[0])(S), 0)
    np.testing.assert_array_equal(jax.grad(lambda P: everything(S, P)[1])(start), 0)


# --- gauges --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_signals_of_low_rank_leave_the_answer_free_where_they_are_not():
    # P is free on the complement of range(S): readings of P S have derivatives, along changes that keep the rank.
    rng = np.random.default_rng(0)
    left, right = (jnp.asarray(rng.standard_normal(shape)) for shape in ((N, 2), (2, 15)))
    change = jnp.asarray(rng.standard_normal((2, 15)))

    def answer(right, start):
        return minimise(mixed, jnp.eye(N) if start is None else start, Samples(left @ right), 0.3, solver=SOLVER)

    base = answer(right, None)

    def outcome(right):
        found = answer(right, base.point)
        return jnp.sum(signals(7, N, 15) * (found.point @ (left @ right)))

    expected = differences(outcome, right, change)
    assert abs(float(expected)) > 1e-2
    np.testing.assert_allclose(jax.jvp(outcome, (right,), (change,))[1], expected, rtol=1e-4, atol=0)
    np.testing.assert_allclose(jnp.sum(jax.grad(outcome)(right) * change), expected, rtol=1e-4, atol=0)


def test_the_derivative_has_no_part_along_the_gauge():
    objective, S = smoothness(), signals()
    start = orthogonal.random(jax.random.key(2), N)
    summary = objective.summarise(S)
    found = minimise(objective, start, summary, solver=SOLVER)

    def point(S):
        return minimise(objective, found.point, objective.summarise(S), solver=SOLVER).point

    _, moved = jax.jvp(point, (S,), (signals(1),))
    # Rotations inside a Fourier pair, exp(t G) P: their velocities are P^T G P in body coordinates.
    velocity, T, first = found.point.T @ moved, derivative(N).basis, 0
    np.testing.assert_allclose(velocity, -velocity.T, rtol=0, atol=1e-10)
    for size in derivative(N).multiplicities:
        if size == 2:
            turn = np.outer(T[:, first], T[:, first + 1])
            spatial = found.point @ velocity @ found.point.T
            assert abs(float(jnp.sum(spatial * (turn - turn.T)))) < 1e-8
        first += size
    assert float(jnp.linalg.norm(velocity)) > 1e-2


def test_the_hessian_is_inverted_on_what_it_sees_and_zero_elsewhere():
    rng = np.random.default_rng(0)
    planes = np.stack([np.outer(a, b) - np.outer(b, a) for i, a in enumerate(np.eye(4)) for b in np.eye(4)[i + 1 :]])
    basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    skews = jnp.asarray(np.einsum("ab,bij->aij", basis, planes) / 2**0.5)
    heights = jnp.asarray([0.0, 0.0, 1e-4, 0.1, 1.0, 30.0])

    def product(W):
        return jnp.einsum("a,aij,a->ij", heights, skews, jnp.einsum("aij,ij->a", skews, W))

    parts = jnp.asarray([0.0, 0.0, 1.0, -2.0, 3.0, 4.0])
    found = solve_hessian(product, jnp.einsum("a,aij->ij", parts, skews), ORTHOGONAL, jnp.eye(4))
    expected = jnp.where(heights > 0, parts / jnp.where(heights > 0, heights, 1), 0)
    np.testing.assert_allclose(jnp.einsum("aij,ij->a", skews, found), expected, rtol=1e-8, atol=1e-8)
    for scale in (1e-20, 1e20):
        scaled = solve_hessian(
            lambda W, scale=scale: scale * product(W),
            jnp.einsum("a,aij->ij", scale * parts, skews),
            ORTHOGONAL,
            jnp.eye(4),
        )
        np.testing.assert_allclose(scaled, found, rtol=1e-6, atol=1e-8)
    assert bool((solve_hessian(product, jnp.zeros((4, 4)), ORTHOGONAL, jnp.eye(4)) == 0).all())


@pytest.mark.thorough
def test_in_single_precision_a_function_of_tiny_values_has_the_same_derivative():
    S, start = signals().astype(jnp.float32), jnp.eye(N, dtype=jnp.float32)

    def outcome(w, unit):
        def scaled(point, summary, w):
            return unit * mixed(point, summary, w)

        found = minimise(scaled, start, Samples(S), w, solver=TrustRegion(preconditioner=None))
        return jnp.sum(jnp.sin(signals(5, N, N)).astype(jnp.float32) * found.point)

    weight = jnp.asarray(0.3, jnp.float32)
    slopes = [jax.grad(lambda w, u=unit: outcome(w, u))(weight) for unit in (1.0, 1e-25)]
    assert slopes[0].dtype == jnp.float32
    np.testing.assert_allclose(slopes[0], jax.grad(outcome_of_weight)(0.3, signals()), rtol=2e-2, atol=0)
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-2, atol=0)


# --- through descramble --------------------------------------------------------------------------------------------


def test_gradients_go_through_descramble():
    S, V = signals(), signals(1)
    objective = weighted(sparsity(epsilon=0.5), (0.3, locality("neumann")))

    def found(S):
        return jd.descramble(S, objective, SOLVER, start=start)

    start = jd.descramble(S, objective, SOLVER).point
    value = jax.jit(lambda S: found(S).value)
    np.testing.assert_allclose(jnp.sum(jax.grad(value)(S) * V), differences(value, S, V), rtol=1e-6, atol=0)
    read = jax.jit(lambda S: jnp.sum(jnp.sin(signals(5, N, N)) * found(S).point))
    np.testing.assert_allclose(jnp.sum(jax.grad(read)(S) * V), differences(read, S, V), rtol=1e-4, atol=0)


def test_a_filter_is_learned_through_the_descrambler():
    # Gains of a pre-filter are turned until the descrambled signals are most local: down the gradient the value falls.
    S = signals()

    def value(gains):
        return jd.descramble(jnp.exp(gains)[:, None] * S, locality("neumann"), LBFGS(preconditioner=None)).value

    step = jax.jit(jax.value_and_grad(value))
    gains, values = jnp.zeros(N), []
    for _ in range(5):
        found, slope = step(gains)
        values.append(float(found))
        gains = gains - 2.0 * slope
    assert np.diff(values).max() < 0
    assert values[-1] < values[0] - 1e-3


@pytest.mark.thorough
def test_solvers_that_stop_early_are_differentiated_where_they_stopped():
    # Not at a minimum the formula is an approximation; it is finite, and the value's is exact at a fixed point.
    import optax

    def value(w):
        return minimise(mixed, jnp.eye(N), Samples(signals()), w, solver=Optax(optax.sgd(0.1), max_steps=3)).value

    point = minimise(mixed, jnp.eye(N), Samples(signals()), 0.3, solver=Optax(optax.sgd(0.1), max_steps=3)).point
    slope = jax.grad(lambda w: mixed(point, Samples(signals()), w))(0.3)
    np.testing.assert_allclose(jax.grad(value)(0.3), slope, rtol=1e-10, atol=0)
    polar = minimise(similarity(signals(3)), jnp.eye(N), Samples(signals()), solver=PolarPower())
    assert int(polar.status) == Status.SOLVED
