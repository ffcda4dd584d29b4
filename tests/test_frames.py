"""Solves in coordinates in which the model of the Hessian is diagonal take the same steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import solvers
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    entropy,
    from_function,
    locality,
    monotonicity,
    smoothness,
    sparsity,
    spectral_entropy,
    total_variation,
    weighted,
)
from jaxdescramble.objectives.variation import TotalVariation
from jaxdescramble.solvers import LBFGS, Analytic, Continuation, FromSources, InFrame, TrustRegion, minimise

X64 = bool(jax.config.jax_enable_x64)  # pyright: ignore
N, M = 9, 60

NEURONS = {
    "l1": sparsity(epsilon=0.1),
    "locality": locality(),
    "entropy": entropy(epsilon=0.1),
    "two of them": weighted((0.5, sparsity("logcosh")), (0.5, entropy(epsilon=0.1))),
}
AXES = {
    "total variation": total_variation(epsilon=0.1),
    "grid": total_variation(epsilon=0.1, shape=(3, 3)),
    "monotonicity": monotonicity(epsilon=0.1),
    "spectral entropy": spectral_entropy(epsilon=0.1),
    "sum": weighted((0.5, smoothness()), (0.5, total_variation(epsilon=0.1))),
}
EVERY = NEURONS | AXES


def signals(weights=None):
    """Return signals whose principal directions have quite different variances."""
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((N, N)) * 0.8 ** np.arange(N)
    S = jnp.asarray(np.maximum(mixing @ rng.standard_normal((N, M)), -0.3))
    return S, None if weights is None else jnp.asarray(rng.uniform(0.5, 2, M))


@pytest.mark.sampled(9)
@pytest.mark.both_precisions
@pytest.mark.parametrize("weights", [None, True], ids=["all alike", "weights"])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_the_model_is_the_same_in_its_own_coordinates(objective, weights):
    S, weights = signals(weights)
    summary = objective.summarise(S, weights)
    P = orthogonal.random(jax.random.key(0), N, "O", S.dtype)
    at = objective.curvature(summary)
    model = at(P)
    if at.transposes:
        inside = at.aligned()(P.T)
        np.testing.assert_array_equal(model.frame, P.T)
    else:
        turned = dataclasses.replace(summary, signals=model.frame.T @ summary.signals)
        inside = objective.curvature(turned).aligned()(P @ model.frame)
    assert inside.frame is None
    scale = float(abs(model.diagonal).max())
    np.testing.assert_allclose(inside.diagonal, model.diagonal, atol=(1e-12 if X64 else 1e-4) * scale)


@pytest.mark.sampled(9)
@pytest.mark.skipif(not X64, reason="compares steps")
@pytest.mark.parametrize("solver", [LBFGS, TrustRegion])
@pytest.mark.parametrize("objective", EVERY.values(), ids=EVERY)
def test_a_solve_in_the_frame_takes_the_same_steps(objective, solver):
    S, _ = signals()
    summary, start = objective.summarise(S), orthogonal.random(jax.random.key(1), N, "O", S.dtype)
    # A memory in the frame of the neurons keeps velocities of rows, so only the first step is the same.
    steps = 1 if solver is LBFGS and objective.curvature(summary).transposes else 6
    few = solver(max_steps=steps, preconditioner=Analytic(every=1))
    plain, inside = (minimise(objective, start, summary, solver=one, group="SO") for one in (few, InFrame(few)))
    np.testing.assert_allclose(inside.value, plain.value, rtol=1e-6)
    np.testing.assert_allclose(inside.point, plain.point, atol=1e-4)
    assert int(inside.evaluations) == int(plain.evaluations)
    assert float(inside.value) < float(objective(start, summary))
    np.testing.assert_allclose(objective(inside.point, summary), inside.value, rtol=1e-12)
    assert float(orthogonal.defect(inside.point)) < 1e-13


@pytest.mark.thorough
@pytest.mark.both_precisions
@pytest.mark.parametrize("objective", [NEURONS["l1"], AXES["total variation"]], ids=["neurons", "axes"])
def test_stages_batches_programs_and_groups(objective):
    S, _ = signals()
    summary, start = objective.summarise(S), jnp.eye(N, dtype=S.dtype).at[0, 0].set(-1)
    solver = InFrame(Continuation(LBFGS(max_steps=30), (3.0,)))

    def solve(start):
        return minimise(objective, start, summary, solver=solver, group="SO")

    found = solve(start)
    assert float(jnp.linalg.det(found.point)) < 0
    assert found.point.dtype == S.dtype
    np.testing.assert_allclose(jax.jit(solve)(start).value, found.value, rtol=1e-2)
    starts = jnp.stack([start, jnp.eye(N, dtype=S.dtype)])
    many = jax.vmap(solve)(starts)
    values = jax.vmap(lambda point: objective(point, summary))(many.point)
    np.testing.assert_allclose(values, many.value, rtol=1e-10 if X64 else 1e-4)
    np.testing.assert_array_less(many.value, jax.vmap(lambda point: objective(point, summary))(starts))


@pytest.mark.parametrize("args", [(), (signals()[0],)], ids=["no data", "no summary"])
def test_a_function_without_a_model_is_solved_as_it_is(args):
    def misfit(point, *data):
        return jnp.sum((point - jnp.roll(jnp.eye(N, dtype=point.dtype), 1, 0) * 0.9) ** 2)

    plain, inside = (minimise(misfit, jnp.eye(N), *args, solver=one, group="SO") for one in (LBFGS(), InFrame(LBFGS())))
    np.testing.assert_array_equal(plain.point, inside.point)


@pytest.mark.thorough
def test_objectives_with_other_models_are_solved_as_they_are():
    S, _ = signals()
    for objective in (
        smoothness(),
        from_function(lambda P, summary: jnp.mean((P @ summary.signals)[0] ** 4), name="fourth"),
    ):
        summary = objective.summarise(S)
        plain, inside = (
            minimise(objective, jnp.eye(N), summary, solver=one, group="SO")
            for one in (LBFGS(max_steps=20), InFrame(LBFGS(max_steps=20)))
        )
        np.testing.assert_array_equal(plain.point, inside.point)


@pytest.mark.thorough
def test_a_solver_that_computes_a_start_goes_outside():
    objective = sparsity()
    summary = objective.summarise(signals()[0])
    sources = FromSources(LBFGS(), key=jax.random.key(0))
    for inside in (sources, solvers.Chain((sources, LBFGS()))):
        with pytest.raises(TypeError, match=r"Put InFrame inside: FromSources\(InFrame"):
            minimise(objective, jnp.eye(N), summary, solver=InFrame(inside))
    found = minimise(
        objective, jnp.eye(N), summary, solver=FromSources(InFrame(LBFGS(max_steps=20)), key=jax.random.key(0))
    )
    assert float(found.value) < float(objective(jnp.eye(N), summary))


def test_a_solve_in_a_frame_may_contain_another():
    objective = total_variation(epsilon=0.1)
    summary = objective.summarise(signals()[0])
    one, two = (
        minimise(objective, jnp.eye(N), summary, solver=solver, group="SO")
        for solver in (InFrame(LBFGS(max_steps=9)), InFrame(solvers.Chain((InFrame(LBFGS(max_steps=9)),))))
    )
    np.testing.assert_array_equal(one.point, two.point)


class Distant(TotalVariation):
    """Total variation, and how far P is from 1: no function of `P S`."""

    def value(self, point, summary):
        return super().value(point, summary) + 0.1 * jnp.mean((point - jnp.eye(len(point))) ** 2)


@pytest.mark.parametrize("objective", [Distant(), weighted((0.5, Distant()), (0.5, smoothness()))], ids=["one", "sum"])
def test_an_objective_of_your_own_is_solved_with_its_own_signals(objective):
    summary = objective.summarise(signals()[0])
    found = minimise(objective, jnp.eye(N), summary, solver=InFrame(LBFGS(max_steps=9)), group="SO")
    np.testing.assert_allclose(objective(found.point, summary), found.value, rtol=1e-10 if X64 else 1e-5)
