"""The model of the Hessian on products of manifolds: one block for each part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_columns import N, P, brockett, started, symmetric
from test_solvers import needs_x64

from jaxdescramble.manifolds import Euclidean, Orthogonal, Product, SpecialOrthogonal, Stiefel, Unitary
from jaxdescramble.solvers import LBFGS, Analytic, Kronecker, TrustRegion, minimise, preconditioners
from jaxdescramble.solvers._blocks import part
from jaxdescramble.solvers.problem import ManifoldFunction

pytestmark = needs_x64

MOTIONS = {"turn": SpecialOrthogonal(), "scale": Euclidean(), "shift": Euclidean()}
STILL = {"turn": jnp.eye(3), "scale": jnp.zeros(()), "shift": jnp.zeros(3)}


def moved(unit):
    """Return points in some unit of length, and the same points turned, scaled and shifted, with noise."""
    X = jax.random.normal(jax.random.key(2), (3, 50))
    turn = SpecialOrthogonal().random(jax.random.key(3), 3, 3)
    Y = 2.5 * turn @ X + jnp.asarray([1.0, 2.0, -3.0])[:, None]
    return unit * X, unit * (Y + 0.1 * jax.random.normal(jax.random.key(4), Y.shape))


def misfit(q, X, Y):
    return jnp.mean((jnp.exp(q["scale"]) * q["turn"] @ X + q["shift"][:, None] - Y) ** 2)


@pytest.mark.parametrize("solver", [LBFGS(), TrustRegion()], ids=["L-BFGS", "trust region"])
def test_the_unit_of_length_costs_no_evaluations(solver):
    """A number for each part takes the unit out; without it, the shift is 1000 times too stiff or too soft."""

    def evaluations(unit, preconditioner):
        given = type(solver)(preconditioner=preconditioner)
        found = minimise(misfit, STILL, *moved(unit), solver=given, manifold=MOTIONS)
        assert int(found.status) == 0
        return int(found.evaluations)

    usual = evaluations(1.0, solver.preconditioner)
    assert evaluations(100.0, solver.preconditioner) < 1.5 * usual
    assert evaluations(100.0, solver.preconditioner) < evaluations(100.0, None) / 1.5


def both(q, A, weight):
    """Brockett's function of columns, times a positive scale, and a quadratic form of free numbers."""
    return jnp.exp(q[1]) * brockett(q[0], A) + weight * jnp.sum(q[2] ** 2) / 2


def prepared(problem, at, start=None, preconditioner=None):
    """Return `M^-1` at a point, for a solve that began at another one."""
    state, prepare = preconditioners.bind(
        preconditioner or preconditioners.Automatic(), problem, problem.evaluate(start or at)
    )
    for _ in range(2 * P + 2):  # the default measures the columns after some steps
        _, _, state = prepare(problem.evaluate(at), state)
    divide, known, _ = prepare(problem.evaluate(at), state)
    assert bool(known)
    return divide


def test_each_part_has_the_model_that_it_has_alone_with_the_others_where_they_are_now():
    A, manifold = symmetric(1), Product((Stiefel(), Euclidean(), Euclidean()))
    X = started(Stiefel(), 2)
    problem = ManifoldFunction(both, (A, 1e6), manifold)
    start, at = (X, jnp.asarray(0.0), jnp.zeros(3)), (X, jnp.asarray(1.5), jnp.ones(3))
    divide = prepared(problem, at, start)
    w = manifold.clean(at, jax.random.normal(jax.random.key(3), manifold.extent(at)))
    columns, _, free = manifold.velocities(at, divide(w))
    before, _, numbers = manifold.velocities(at, w)
    np.testing.assert_allclose(free, numbers / 1e6, rtol=1e-12)  # its Hessian is 1e6
    alone = ManifoldFunction(lambda X, A, scale: jnp.exp(scale) * brockett(X, A), (A, 1.5), Stiefel())
    np.testing.assert_allclose(columns, prepared(alone, X)(before), rtol=1e-9, atol=1e-12)
    # The block of one part is a function of its own.
    of_part, its = part(problem, problem.evaluate(at), 0)
    np.testing.assert_allclose(of_part.evaluate(its.point).gradient, its.gradient, atol=1e-12)


def test_the_metric_is_symmetric_and_positive_and_batches_have_it_too():
    manifold = Product({"turn": Orthogonal(), "phases": Unitary()})

    def f(q, goal):
        return jnp.sum(jnp.sin(q["turn"]) * goal) + jnp.sum(jnp.abs(q["phases"] - 1) ** 2 * goal[:2, :2])

    goal = jax.random.normal(jax.random.key(0), (2, 9, 9))
    at = manifold.random(jax.random.key(1), (2, 2), (9, 9))  # phases, turn
    size = manifold.extent(at)[0]
    units = jax.vmap(lambda e: manifold.clean(at, e))(jnp.eye(size))

    def metric(goal):
        problem = ManifoldFunction(f, (goal,), manifold)
        state, prepare = preconditioners.bind(preconditioners.Automatic(), problem, problem.evaluate(at))
        return jax.vmap(prepare(problem.evaluate(at), state)[0])(units) @ units.T

    matrices = jax.jit(jax.vmap(metric))(goal)
    np.testing.assert_allclose(matrices, matrices.transpose(0, 2, 1), rtol=0, atol=1e-10 * float(matrices.max()))
    assert float(jnp.linalg.eigvalsh(matrices)[:, -manifold.dimension(at) :].min()) > 0
    np.testing.assert_allclose(matrices[1], jax.jit(metric)(goal[1]), rtol=1e-9, atol=1e-12)


def test_kronecker_may_be_asked_for_and_analytic_is_refused():
    q = (started(Stiefel(), 0, N, P), jnp.zeros(()), jnp.ones(2))
    places = (Stiefel(), Euclidean(), Euclidean())
    found = minimise(both, q, symmetric(0), 1.0, solver=LBFGS(preconditioner=Kronecker(), max_steps=3), manifold=places)
    assert float(found.value) < float(both(q, symmetric(0), 1.0))
    with pytest.raises(TypeError, match=r"Analytic: got Product.*orthonormal columns.*products"):
        minimise(both, q, symmetric(0), 1.0, solver=LBFGS(preconditioner=Analytic()), manifold=places)
