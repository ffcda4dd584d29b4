"""Any optax transformation on the group: its updates, its Lie algebra, its drift."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_minimise import roughness
from test_solvers import ZOOM, needs_x64, signals, starts

from jaxdescramble import solvers
from jaxdescramble.manifolds import orthogonal, retractions
from jaxdescramble.objectives import smoothness
from jaxdescramble.solvers import LBFGS, Optax, TrustRegion, minimise

# --- riemannian ----------------------------------------------------------------------------------------------------


@pytest.mark.both_precisions
def test_two_thousand_steps_of_adam_neither_drift_nor_fall_below_the_minimum():
    # Plain Adam with retraction but no polish drifts by 1e-3 in float32 and goes below the true minimum (specs/5).
    n = 16
    S = signals(0, n, 60).astype(jnp.float32)
    objective = smoothness()
    summary, optimiser = objective.summarise(S), solvers.riemannian(optax.adam(optax.exponential_decay(0.05, 200, 0.5)))
    bound = float(objective.bound(summary))

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


@needs_x64
@pytest.mark.parametrize("transform", [optax.sgd(0.1), ZOOM], ids=["SGD", "a line search"])
def test_the_solver_takes_the_steps_of_a_loop_whatever_the_size_of_the_gradient(transform):
    # Inside, solvers divide a function by the size of its first gradient; a learning rate must not notice.
    goal, optimiser = signals(5, 4, 4), solvers.riemannian(transform)
    for size in (1e-3, 0.7, 40.0):

        def function(point, size=size):
            return -size * jnp.sum(point * goal)

        point = start = starts(1, 4)[0]
        state = optimiser.init(point)
        for _ in range(3):
            value, slope = jax.value_and_grad(function)(point)
            updates, state = optimiser.update(slope, state, point, value=value, grad=slope, value_fn=function)
            point = optax.apply_updates(point, updates)
        found = minimise(function, start, solver=Optax(transform, max_steps=3), group="SO")
        np.testing.assert_allclose(found.point, point, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("as_installed")
def test_riemannian_says_what_it_cannot_do():
    optimiser = solvers.riemannian(optax.sgd(0.1))
    state = optimiser.init(jnp.eye(3))
    with pytest.raises(ValueError, match="needs the parameters"):
        optimiser.update(jnp.eye(3), state)
    for wrong in (jnp.zeros((2, 3)), jnp.zeros(3), jnp.zeros(())):
        with pytest.raises(ValueError, match=r"a point of O\(n\) is square.*optax\.partition"):
            optimiser.init({"weight": wrong})


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
    assert float(found.value) >= float(objective.bound(summary)) * (1 - 1e-4)
