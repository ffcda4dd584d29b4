"""Solvers for more samples than a gradient should cost: minibatches, and few samples first."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdescramble import solvers
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import smoothness, sparsity

N, M = 6, 3000
OBJECTIVE = sparsity("logcosh")


def mixed(seed=0):
    frame = orthogonal.random(jax.random.key(seed), N)
    return frame, OBJECTIVE.summarise(frame.T @ jax.random.laplace(jax.random.key(seed + 1), (N, M)))


def from_signed_permutation(point):
    return float(jnp.linalg.norm(1 - jnp.max(jnp.abs(point), axis=1)))


@pytest.mark.both_precisions
def test_minibatches_find_the_sources_and_report_on_all_samples():
    frame, summary = mixed()
    schedule = optax.cosine_decay_schedule(0.05, 400)
    solver = solvers.Minibatches(optax.adam(schedule), 100, 400, key=jax.random.key(5))
    found = solvers.minimise(OBJECTIVE, jnp.eye(N), summary, solver=solver, history=400)
    assert from_signed_permutation(found.point @ frame.T) < 0.02
    np.testing.assert_allclose(found.value, OBJECTIVE(found.point, summary), rtol=1e-5, atol=0)
    assert int(found.steps) == 400
    assert found.history is not None
    # What a step sees is its own batch: values scatter about that of all samples.
    last = np.asarray(found.history.value[-50:])
    assert 0.003 < last.std() / last.mean() < 0.2
    other = solvers.minimise(
        OBJECTIVE, jnp.eye(N), summary, solver=solvers.Minibatches(solver.transform, 100, 400, key=jax.random.key(6))
    )
    assert not np.array_equal(other.point, found.point)  # other keys, other batches


@pytest.mark.thorough
@pytest.mark.both_precisions
def test_few_samples_first_gives_the_same_answer():
    _, summary = mixed(3)
    inside = solvers.LBFGS(preconditioner=None)
    direct = solvers.minimise(OBJECTIVE, jnp.eye(N), summary, solver=inside)
    staged = solvers.minimise(OBJECTIVE, jnp.eye(N), summary, solver=solvers.Progressive(inside, steps=(8, 2)))
    assert staged.status in (Status.SOLVED, Status.PRECISION)
    np.testing.assert_allclose(staged.value, direct.value, rtol=1e-6, atol=0)
    assert from_signed_permutation(staged.point @ direct.point.T) < 1e-3


def test_a_summary_without_samples_is_refused_with_what_to_do():
    objective = smoothness()
    summary = objective.summarise(jnp.ones((N, 9)))
    for solver in (solvers.Progressive(solvers.LBFGS()), solvers.Minibatches(optax.sgd(0.1), 4, key=jax.random.key(0))):
        with pytest.raises(TypeError, match=r"receives no samples .*\n?.*Samples"):
            solvers.minimise(objective, jnp.eye(N), summary, solver=solver)
