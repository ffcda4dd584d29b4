"""The model of the Hessian on products of manifolds: one number for each part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_columns import N, P, brockett, started, symmetric
from test_solvers import needs_x64

from jaxdescramble.manifolds import Euclidean, Product, SpecialOrthogonal, Stiefel
from jaxdescramble.solvers import LBFGS, Analytic, Kronecker, TrustRegion, minimise, preconditioners
from jaxdescramble.solvers.problem import ManifoldFunction

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


@needs_x64
@pytest.mark.parametrize("solver", [LBFGS(), TrustRegion()], ids=["L-BFGS", "trust region"])
def test_the_unit_of_length_costs_no_evaluations(solver):
    """One number for each part takes the unit out: lengths in units 100 times smaller take about as many steps."""

    def evaluations(unit, preconditioner):
        given = type(solver)(preconditioner=preconditioner)
        found = minimise(misfit, STILL, *moved(unit), solver=given, manifold=MOTIONS)
        assert int(found.status) == 0
        return int(found.evaluations)

    usual = evaluations(1.0, solver.preconditioner)
    assert evaluations(100.0, solver.preconditioner) < 1.5 * usual
    assert evaluations(100.0, solver.preconditioner) < evaluations(100.0, None) / 1.5


@needs_x64
def test_each_part_is_divided_by_its_curvature():
    manifold = Product({"columns": Stiefel(), "free": Euclidean(), "stiff": Euclidean()})

    def f(q, A):
        return brockett(q["columns"], A) + jnp.sum(q["free"] ** 2) / 2 + 1e6 * jnp.sum(q["stiff"] ** 2) / 2

    at = {"columns": started(Stiefel(), 2), "free": jnp.ones(3), "stiff": jnp.ones((2, 2))}
    problem = ManifoldFunction(f, (symmetric(1),), manifold)
    iterate = problem.evaluate(at)
    state, prepare = preconditioners.bind(preconditioners.Automatic(), problem, iterate)
    divide, known, _ = prepare(iterate, state)
    assert bool(known)
    w = manifold.clean(at, jax.random.normal(jax.random.key(3), manifold.extent(at)))
    columns, free, stiff = zip(*map(manifold.velocities, (at, at), (w, divide(w))), strict=True)
    np.testing.assert_allclose(free[1], free[0], rtol=1e-9)  # the Hessian is 1 there,
    np.testing.assert_allclose(stiff[1], stiff[0] / 1e6, rtol=1e-9)  # and here 1e6
    size = float(jnp.sum(columns[0] ** 2) / jnp.sum(columns[0] * columns[1]))
    np.testing.assert_allclose(columns[1], columns[0] / size, atol=1e-12)
    point = at["columns"]
    alone = ManifoldFunction(brockett, (symmetric(1),), Stiefel())
    hessian = alone.hessian(alone.evaluate(point))
    units = jax.vmap(lambda e: Stiefel().clean(point, e.reshape(N, P)))(jnp.eye(N * P))
    curvatures = jnp.linalg.eigvalsh(jnp.einsum("ikl,jkl->ij", units, jax.vmap(hessian)(units)))
    assert 0 < size <= float(jnp.abs(curvatures).max())


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("name", ["low rank", "moving scale"])
def test_parts_that_change_each_other_cost_no_more_steps_than_without_a_model(name):
    """A model of a part, measured at the start, took up to twenty times as many steps here."""
    A, B = jax.random.normal(jax.random.key(5), (2, 12, 40))

    def low_rank(q, A, B):
        return jnp.mean((A - (q[0] * q[1][None, :]) @ q[2].T) ** 2)

    def moving(q, A, B):
        return jnp.mean((q[1] * q[0] @ A + q[2][:, None] - 2.5 * A[::-1] - 0.3 * B) ** 2)

    if name == "low rank":
        f, places = low_rank, (Stiefel(), Euclidean(), Stiefel())
        start = (started(Stiefel(), 1, 12, 3), jnp.ones(3), started(Stiefel(), 2, 40, 3))
    else:
        f, places = moving, (SpecialOrthogonal(), Euclidean(), Euclidean())
        start = (jnp.eye(12), jnp.asarray(0.0), jnp.zeros(12))
    ours, plain = (
        minimise(f, start, A, B, solver=LBFGS(preconditioner=one), manifold=places)
        for one in (preconditioners.Automatic(), None)
    )
    assert int(ours.status) == 0
    assert float(ours.value) < float(plain.value) + 1e-6
    assert int(ours.evaluations) < 1.5 * int(plain.evaluations)


@pytest.mark.both_precisions
def test_a_part_in_large_units_does_not_end_a_solve_before_the_others():
    """A gradient that is small beside that of the shift may be large beside that of the rotation."""
    X, Y = moved(1.0)

    def in_thousands(q, X, Y):
        return jnp.mean((jnp.exp(q["scale"]) * q["turn"] @ X + 1000 * q["shift"][:, None] - Y) ** 2)

    found = minimise(in_thousands, STILL, X, Y, manifold=MOTIONS)
    best = minimise(misfit, STILL, X, Y, manifold=MOTIONS)
    assert float(found.value) < 1.01 * float(best.value)


@needs_x64
def test_batches_and_models_that_products_do_not_have():
    def solved(X, Y):
        return minimise(misfit, STILL, X, Y, manifold=MOTIONS).value

    sets = [moved(1.0), moved(10.0)]
    many = jax.jit(jax.vmap(solved))(*(jnp.stack(both) for both in zip(*sets, strict=True)))
    np.testing.assert_allclose(many, [solved(*one) for one in sets], rtol=1e-9)
    for one in (Analytic(), Kronecker()):
        with pytest.raises(TypeError, match=r"got Product.*use preconditioner=None"):
            minimise(misfit, STILL, *sets[0], solver=LBFGS(preconditioner=one), manifold=MOTIONS)
