"""The model of the Hessian on manifolds of orthonormal columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_solvers import needs_x64

from jaxdescramble.manifolds import Grassmann, Power, Stiefel, Unitary
from jaxdescramble.solvers import LBFGS, Analytic, ConjugateGradient, Kronecker, TrustRegion, minimise, preconditioners
from jaxdescramble.solvers.problem import ManifoldFunction

pytestmark = needs_x64

N, P = 64, 5
WEIGHTS = jnp.arange(1.0, P + 1)


def symmetric(seed, n=N):
    A = jax.random.normal(jax.random.key(seed), (n, n))
    return (A + A.T) / (2 * n) ** 0.5


def brockett(X, A, weights=WEIGHTS):
    return jnp.sum(X * (A @ X) * weights[None, :])


def procrustes(X, A, B):
    return jnp.sum((A @ X - B) ** 2) / 2


def started(manifold, seed=0, n=N, p=P):
    return manifold.random(jax.random.key(seed), n, p)


def modelled(function, args, manifold, point):
    """Return the problem, its state at a point, and `M^-1` there."""
    problem = ManifoldFunction(function, args, manifold)
    iterate = problem.evaluate(point)
    state, prepare = preconditioners.bind(Kronecker(), problem, iterate)
    divide, known, _ = prepare(iterate, state)
    return problem, iterate, divide, known


@pytest.mark.parametrize("manifold", [Stiefel(), Stiefel("euclidean"), Grassmann()], ids=repr)
def test_the_metric_is_symmetric_and_positive_on_tangent_vectors(manifold):
    A, B = jax.random.normal(jax.random.key(1), (2, 8, 8))
    point = started(manifold, 2, 8, 3)
    _, _, divide, known = modelled(procrustes, (A, B[:, :3]), manifold, point)
    tangent = jax.vmap(lambda e: manifold.clean(point, e))(jnp.eye(24).reshape(24, 8, 3))
    matrix = jnp.einsum("ikl,jkl->ij", tangent, jax.vmap(divide)(tangent))
    assert bool(known)
    np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-12)
    positive = jnp.linalg.eigvalsh(matrix)[-manifold.dimension(point) :]
    assert float(positive[0]) > 0
    # What is divided stays in the space of coordinates.
    divided = divide(tangent[7])
    np.testing.assert_allclose(manifold.clean(point, divided), divided, rtol=0, atol=1e-13)


@pytest.mark.thorough
@pytest.mark.parametrize("manifold", [Stiefel(), Stiefel("euclidean")], ids=repr)
def test_where_a_is_a_multiple_of_one_the_model_is_the_hessian(manifold):
    # `f = tr(X^T X B) - tr(X^T C)` is least at X = U if C = U S: there M = 2 B - S, and the Hessian is `b -> b S`.
    U = started(manifold, 3)
    sizes = jnp.linspace(1.0, 2.0, P)

    def function(X):
        return jnp.sum(X**2 * WEIGHTS[None, :]) - jnp.sum(X * U * sizes[None, :])

    problem, iterate, divide, known = modelled(function, (), manifold, U)
    assert bool(known)
    assert float(jnp.abs(iterate.gradient).max()) < 1e-12
    w = manifold.clean(U, jax.random.normal(jax.random.key(5), (N, P)))
    np.testing.assert_allclose(divide(problem.hessian(iterate)(w)), w, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "share"),
    [(LBFGS, 0.7), (TrustRegion, 0.6), (ConjugateGradient, 0.7)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_it_saves_evaluations_where_columns_weigh_differently(kind, share):
    A, weights = symmetric(1), WEIGHTS**2
    least = float(jnp.linalg.eigvalsh(A)[:P] @ weights[::-1])
    plain, modelled = (
        minimise(brockett, started(Stiefel()), A, weights, manifold=Stiefel(), solver=kind(preconditioner=one))
        for one in (None, Kronecker())
    )
    np.testing.assert_allclose([plain.value, modelled.value], least, rtol=0, atol=1e-9)
    assert int(modelled.evaluations) < share * int(plain.evaluations)


def test_the_default_models_large_functions_of_real_columns_only():
    def state(manifold, point):
        problem = ManifoldFunction(lambda X: jnp.sum(jnp.abs(X) ** 2), (), manifold)

        def bound(point):
            return preconditioners.bind(preconditioners.Automatic(), problem, problem.evaluate(point))[0]

        return jax.eval_shape(bound, point)

    assert state(Stiefel(), started(Stiefel())) != ()
    assert state(Grassmann(), started(Grassmann())) != ()
    assert state(Stiefel(), started(Stiefel(), n=10)) == ()
    assert state(Stiefel(), started(Stiefel(), p=1)) == ()
    assert state(Stiefel(), Stiefel().random(jax.random.key(0), N, P, dtype=complex)) == ()
    assert state(Power(Stiefel()), Power(Stiefel()).random(jax.random.key(0), 2, N, P)) == ()


def test_a_function_without_this_form_is_left_alone():
    goal = started(Stiefel(), 6)

    def quartic(X):
        return jnp.sum((X - goal) ** 4)

    _, iterate, divide, known = modelled(quartic, (), Stiefel(), started(Stiefel()))
    assert not bool(known)
    assert jnp.array_equal(divide(iterate.gradient), iterate.gradient)
    # Columns that do not count, and a form that is not definite.
    for weights, form in ((jnp.asarray([0.0, 0, 0, 1, 2]), True), (jnp.asarray([-2.0, -1, 0, 1, 2]), False)):
        *_, known = modelled(brockett, (symmetric(1), weights), Stiefel(), started(Stiefel()))
        assert bool(known) is form
    # A constant function, and one that is not finite.
    for function in (lambda X: 0 * jnp.sum(X), lambda X: jnp.nan * jnp.sum(X**2)):
        *_, known = modelled(function, (), Stiefel(), started(Stiefel()))
        assert not bool(known)


@pytest.mark.thorough
def test_the_default_measures_when_the_solve_has_cost_as_much():
    A, start = symmetric(1), started(Stiefel())
    plain, automatic = (
        minimise(brockett, start, A, WEIGHTS**2, manifold=Stiefel(), solver=LBFGS(preconditioner=one), history=500)
        for one in (None, preconditioners.Automatic())
    )
    one, other = (np.asarray(found.history.value) for found in (plain, automatic) if found.history is not None)
    same = one == other
    assert same[: 2 * P].all()
    assert not same[2 * P]
    assert int(automatic.evaluations) < 0.8 * int(plain.evaluations)


@pytest.mark.thorough
def test_batches_programs_and_measuring_again_agree():
    A = jnp.stack([symmetric(1), symmetric(2)])
    start = started(Stiefel())

    @jax.jit
    def value(A):
        return minimise(brockett, start, A, manifold=Stiefel()).value

    np.testing.assert_allclose(jax.vmap(value)(A), [value(one) for one in A], rtol=1e-10)
    again = minimise(brockett, start, A[0], manifold=Stiefel(), solver=LBFGS(preconditioner=Kronecker(every=10)))
    np.testing.assert_allclose(again.value, value(A[0]), rtol=1e-10)
    slope = jax.grad(value)(A[0])
    point = minimise(brockett, start, A[0], manifold=Stiefel()).point
    np.testing.assert_allclose(slope, (point * WEIGHTS[None, :]) @ point.T, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("as_installed")
def test_refusals_say_what_can_be_modelled():
    for manifold, point in (
        (Unitary(), Unitary().random(jax.random.key(0), 3, 3)),
        (Stiefel(), Stiefel().random(jax.random.key(0), 4, 2, dtype=complex)),
        (Power(Stiefel()), Power(Stiefel()).random(jax.random.key(0), 2, 4, 2)),
    ):
        with pytest.raises(TypeError, match=r"Kronecker: got .*real orthonormal columns"):
            minimise(
                lambda X: jnp.sum(jnp.abs(X) ** 4), point, manifold=manifold, solver=LBFGS(preconditioner=Kronecker())
            )
    with pytest.raises(TypeError, match="Analytic: got Stiefel"):
        minimise(
            brockett, started(Stiefel()), symmetric(1), manifold=Stiefel(), solver=LBFGS(preconditioner=Analytic())
        )
