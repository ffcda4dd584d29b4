"""The whole gauge group of a problem: it leaves values alone, and brings any two minimisers together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import exact, objectives, operators
from jaxdescramble.exact import align, degeneracy
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.solvers.problem import ManifoldFunction

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore

# Singular values of signals on 7 points: all different, a tie within a pair of waves and one across pairs, no rank.
SPECTRA = {
    "distinct": ([7, 6, 5, 4, 3, 2, 1], (1,) * 7),
    "ties": ([7, 6, 6, 4, 4, 4, 1], (1, 2, 3, 1)),
    "rank 4": ([7, 6, 5, 4, 0, 0, 0], (1, 1, 1, 1, 3)),
    "rank 3 and a tie": ([7, 6, 6, 0, 0, 0, 0], (1, 2, 4)),
    "nothing": ([0] * 7, (7,)),
}
SLOW = {"ties", "rank 4", "nothing"}


def problem(spectrum, boundary="periodic"):
    keys = jax.random.split(jax.random.key(0))
    U, V = orthogonal.random(keys[0], 7), orthogonal.random(keys[1], 7)
    S = (U * jnp.asarray(spectrum, float)[None, :]) @ V.T
    objective = objectives.smoothness(boundary=boundary)
    return objective, objective.summarise(S)


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("boundary", ["periodic", pytest.param("neumann", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("spectrum", "ties"),
    [pytest.param(*case, marks=pytest.mark.slow if name in SLOW else (), id=name) for name, case in SPECTRA.items()],
)
def test_every_element_keeps_the_value_and_alignment_undoes_it(key, spectrum, ties, boundary):
    objective, summary = problem(spectrum, boundary)
    gauge = degeneracy(objective.operator(7), summary, 1e-12)
    assert gauge.ties == ties
    point = exact.ClosedForm()(objective, summary).point
    others = jax.jit(jax.vmap(gauge.random, (0, None)))(jax.random.split(key, 8), point)
    np.testing.assert_allclose(jnp.swapaxes(others, 1, 2) @ others, jnp.stack([jnp.eye(7)] * 8), rtol=0, atol=1e-12)
    values = jax.jit(jax.vmap(objective, (0, None)))(others, summary)
    np.testing.assert_allclose(values, jnp.full(8, objective(point, summary)), rtol=1e-9, atol=1e-14)
    distances = jax.jit(jax.vmap(lambda other: align(other, point, gauge).distance))(others)
    assert float(distances.max()) < 1e-6
    anything = orthogonal.random(key, 7)
    turned = gauge.random(key, anything)  # it keeps the value of any point, not of minimisers alone
    np.testing.assert_allclose(objective(turned, summary), objective(anything, summary), rtol=1e-9, atol=1e-14)


@pytest.mark.thorough
@needs_x64
def test_what_is_no_minimiser_of_the_problem_stays_away(key):
    objective, summary = problem(SPECTRA["ties"][0])
    gauge = degeneracy(objective.operator(7), summary, 1e-12)
    point = exact.ClosedForm()(objective, summary).point
    assert float(align(orthogonal.random(key, 7), point, gauge).distance) > 0.1


@needs_x64
def test_the_dimension_is_that_of_the_null_space_of_the_hessian():
    # At a minimum whose ties lie within runs of the operator only one side turns what the other turns too.
    objective, summary = problem([7, 6, 5, 4, 3, 2, 1])
    gauge = degeneracy(objective.operator(7), summary)
    assert gauge.dimension == 3
    assert str(gauge) == "operator: 1 sign, 3 O(2); signals: 7 signs"
    point = exact.ClosedForm()(objective, summary).point
    problem_there = ManifoldFunction(objective, (summary,))
    product = jax.vmap(problem_there.hessian(problem_there.evaluate(point)))
    images = product(orthogonal.skew(jnp.eye(49).reshape(49, 7, 7))).reshape(49, 49)
    eigenvalues = np.abs(np.linalg.eigvalsh(images))
    # Besides the gauge: the symmetric matrices, 28, which turn nothing.
    assert int((eigenvalues < 1e-12 * eigenvalues.max()).sum()) == 28 + gauge.dimension


def test_refusals():
    objective, summary = problem(SPECTRA["ties"][0])
    D = objective.operator(7)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda s: degeneracy(D, s).directions)(summary)
    with pytest.raises(ValueError, match="7 features"):
        degeneracy(operators.derivative(6), summary)
    with pytest.raises(ValueError, match="tolerance"):
        degeneracy(D, summary, -1.0)
