"""`minimise`, `riemannian`, `stationarity` and derivatives on all manifolds, against answers that are known."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescramble as jd
from jaxdescramble import objectives, solvers
from jaxdescramble.manifolds import (
    Euclidean,
    Grassmann,
    Orthogonal,
    Power,
    Product,
    SpecialOrthogonal,
    SpecialUnitary,
    Stiefel,
    Unitary,
)
from jaxdescramble.solvers import LBFGS, TrustRegion

N, P = 12, 3


def energy(X, A, weights):
    """Brockett's function, `tr(X^H A X diag(w))`."""
    return jnp.sum((jnp.conj(X) * (A @ X)).real * weights[None, :])


def hermitian(key, n, dtype=float):
    raw = jax.random.normal(key, (n, n), dtype)
    return raw + raw.conj().T


A = hermitian(jax.random.key(0), N)
C = hermitian(jax.random.key(0), N, complex)
WEIGHTS = jnp.arange(1.0, P + 1)


def least(matrix, weights):
    """Return the minimum of Brockett's function: large weights on small eigenvalues."""
    return float(np.linalg.eigvalsh(matrix)[: len(weights)] @ np.sort(weights)[::-1])


SOLVERS = {
    "L-BFGS": LBFGS(),
    "trust region": TrustRegion(),
    "conjugate gradients": solvers.ConjugateGradient(),
    "gradient descent": solvers.GradientDescent(),
    "Adam": solvers.Optax(optax.adam(optax.cosine_decay_schedule(0.1, 800)), 800),
    "restarts": solvers.Restarts(LBFGS(), 2, key=jax.random.key(3)),
    "chain in single precision": solvers.Chain((solvers.SinglePrecision(LBFGS()), TrustRegion())),
}
PLACES = {
    "Stiefel, complex": (Stiefel(), C, P),
    "Stiefel": (Stiefel(), A, P),
    "Stiefel, Euclidean metric": (Stiefel("euclidean"), A, P),
    "U(n)": (Unitary(), C, N),
    "SU(n)": (SpecialUnitary(), C, N),
}
PAIRS = [
    pair
    for pair in itertools.product(PLACES, SOLVERS)
    if pair[0] in ("Stiefel, complex", "SU(n)") or pair[1] in ("L-BFGS", "trust region")
]


@pytest.mark.parametrize(("place", "solver"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_every_solver_finds_the_least_value_on_every_manifold(place, solver):
    manifold, matrix, p = PLACES[place]
    weights = jnp.arange(1.0, p + 1)
    start = manifold.random(jax.random.key(1), N, p, dtype=matrix.dtype if p < N else float)
    found = jd.minimise(energy, start, matrix, weights, solver=SOLVERS[solver], manifold=manifold)
    best = least(matrix, weights)
    assert abs(float(found.value) - best) < 1e-8 * abs(best) + (1e-2 * abs(best) if solver == "Adam" else 0)
    assert float(manifold.defect(found.point)) < 1e-12
    assert int(found.classes) == 1
    if solver != "Adam":
        assert int(found.check().status) in (jd.Status.SOLVED, jd.Status.PRECISION)


@pytest.mark.parametrize("manifold", [Grassmann(), Stiefel(), Stiefel("euclidean")], ids=str)
@pytest.mark.parametrize("dtype", [float, complex])
def test_derivatives_of_the_answer_are_those_of_finite_differences(manifold, dtype):
    matrix, change = hermitian(jax.random.key(0), 6, dtype), hermitian(jax.random.key(5), 6, dtype)
    weights = jnp.ones(2) if isinstance(manifold, Grassmann) else jnp.asarray([1.0, 2.0])
    start = manifold.random(jax.random.key(2), 6, 2, dtype=dtype)

    @jax.jit
    def outcome(matrix):
        found = jd.minimise(energy, start, matrix, weights, solver=TrustRegion(1e-12), manifold=manifold)
        # What does not depend on the gauge: the projectors on the columns, or on their span.
        if isinstance(manifold, Grassmann):
            return found.point @ found.point.conj().T
        return jnp.einsum("ia,ja->aij", found.point, found.point.conj())

    forward = jax.jvp(outcome, (matrix,), (change,))[1]
    measured = (outcome(matrix + 1e-5 * change) - outcome(matrix - 1e-5 * change)) / 2e-5
    assert float(jnp.abs(measured).max()) > 1e-2
    np.testing.assert_allclose(forward, measured, atol=1e-6)

    def number(matrix):
        made = jnp.abs(outcome(matrix)) ** 2
        return jnp.sum(made * jnp.arange(made.size).reshape(made.shape))

    backward = jax.grad(number)(matrix)
    along = jax.jvp(number, (matrix,), (change,))[1]
    np.testing.assert_allclose(jnp.sum(backward * change).real, along, rtol=1e-6)


def misfit(q, X, Y):
    return jnp.mean((jnp.exp(q["scale"]) * q["turn"] @ X + q["shift"][:, None] - Y) ** 2)


def registration():
    X = jax.random.normal(jax.random.key(0), (3, 40))
    turn = SpecialOrthogonal().random(jax.random.key(1), 3, 3)
    truth = {"scale": jnp.log(2.5), "turn": turn.at[0].multiply(-1), "shift": jnp.asarray([1.0, 2.0, -30.0])}
    start = {"scale": jnp.zeros(()), "turn": jnp.eye(3), "shift": jnp.zeros(3)}
    Y = jnp.exp(truth["scale"]) * truth["turn"] @ X + truth["shift"][:, None]
    return start, truth, X, Y


def test_rotation_scale_and_shift_are_found_together_in_both_classes():
    start, truth, X, Y = registration()
    places = {"scale": Euclidean(), "turn": Orthogonal(), "shift": Euclidean()}
    found = jd.minimise(misfit, start, X, Y, manifold=places, history=3).check()
    assert int(found.classes) == 2
    assert float(found.value) < 1e-12
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), found.point, truth)
    assert found.history is not None
    assert found.history.value.shape == (3,)
    # The determinant of the start is kept if reflections are not searched.
    kept = jd.minimise(misfit, start, X, Y, manifold=places | {"turn": SpecialOrthogonal()})
    assert int(kept.classes) == 1
    assert float(kept.value) > 0.1


@pytest.mark.thorough
def test_one_manifold_stands_for_all_leaves_below_and_derivatives_pass_through_products():
    start, _truth, X, Y = registration()
    places = {"scale": Euclidean(), "turn": Orthogonal(), "shift": Euclidean()}

    @jax.jit
    def shift(Y):
        return jd.minimise(misfit, start, X, Y, manifold=places, solver=TrustRegion()).point["shift"]

    tangent = jax.jvp(shift, (Y,), (jnp.ones_like(Y),))[1]
    np.testing.assert_allclose(tangent, jnp.ones(3), atol=1e-6)  # to move all points by 1 moves the shift by 1
    free = jd.minimise(
        lambda q: jnp.sum((q["a"][0] - 1) ** 2) + jnp.sum((q["a"][1] + 2) ** 2) + jnp.sum((q["b"] @ q["b"].T)[0, 1:]),
        {"a": [jnp.zeros(2), jnp.zeros(3)], "b": jnp.eye(3)},
        manifold={"a": Euclidean(), "b": SpecialOrthogonal()},
    )
    np.testing.assert_allclose(free.point["a"][0], 1, atol=1e-5)
    np.testing.assert_allclose(free.point["a"][1], -2, atol=1e-5)


@pytest.mark.thorough
def test_gates_make_a_target_on_a_power_of_su():
    target = SpecialUnitary().random(jax.random.key(1), 4, 4)
    swap = jnp.asarray(np.eye(4)[[0, 1, 3, 2]] + 0j)

    def infidelity(gates, target):
        local = jax.vmap(jnp.kron)(gates[:4], gates[4:])
        made = local[0] @ swap @ local[1] @ swap @ local[2] @ swap @ local[3]
        return 1 - jnp.abs(jnp.trace(made.conj().T @ target)) / 4

    start = Power(SpecialUnitary()).random(jax.random.key(2), 8, 2, 2)
    solver = solvers.Restarts(LBFGS(), 4, key=jax.random.key(0))
    found = jd.minimise(infidelity, start, target, manifold=Power(SpecialUnitary()), solver=solver)
    assert float(found.value) < 1e-8
    assert float(Power(SpecialUnitary()).defect(found.point)) < 1e-12


def test_batches_jit_deadlines_and_progress():
    starts = jax.vmap(lambda key: Stiefel().random(key, N, P))(jax.random.split(jax.random.key(0), 3))
    matrices = jnp.stack([A, 2 * A, A + jnp.eye(N)])
    solve = jax.jit(jax.vmap(lambda X, A: jd.minimise(energy, X, A, WEIGHTS, manifold=Stiefel())))
    found = solve(starts, matrices)
    np.testing.assert_allclose(found.value, [least(one, WEIGHTS) for one in matrices], rtol=1e-8)
    seen = []
    alone = jd.minimise(
        energy, starts[0], A, WEIGHTS, manifold=Stiefel(), progress=lambda *news: seen.append(news), max_seconds=60
    )
    np.testing.assert_allclose(alone.point, found.point[0], atol=1e-6)
    assert seen
    assert "LBFGS" in seen[0][0]
    stopped = jd.minimise(energy, starts[0], A, WEIGHTS, manifold=Stiefel(), max_seconds=1e-9)
    assert int(stopped.status) == jd.Status.TIME_SPENT
    lost = jax.jit(lambda X: jd.minimise(energy, X, A, WEIGHTS, manifold=Stiefel()))(starts[0].at[0, 0].set(jnp.nan))
    assert int(lost.status) == jd.Status.NOT_FINITE


@pytest.mark.thorough
def test_saddles_of_subspaces_are_seen():
    values, vectors = np.linalg.eigh(A)
    solved = solvers.stationarity(
        energy, jnp.asarray(vectors[:, :P]), A, jnp.ones(P), manifold=Grassmann(), key=jax.random.key(0)
    )
    # The Hessian of the span of eigenvectors is `2 (a_j - a_i)` for i inside and j outside.
    np.testing.assert_allclose(solved.lowest, 2 * (values[P] - values[P - 1]), rtol=1e-6)
    np.testing.assert_allclose(solved.highest, 2 * (values[-1] - values[0]), rtol=1e-6)
    saddle = jnp.asarray(vectors[:, 1 : P + 1])
    seen = solvers.stationarity(energy, saddle, A, jnp.ones(P), manifold=Grassmann(), key=jax.random.key(0))
    assert float(seen.lowest) < -0.1
    below = Grassmann().exponential(saddle, 0.1 * seen.direction)
    assert float(energy(below, A, jnp.ones(P))) < float(energy(saddle, A, jnp.ones(P))) - 1e-3


def test_optax_keeps_every_parameter_on_its_manifold():
    params = {
        "turns": jnp.broadcast_to(jnp.eye(3), (2, 3, 3)),
        "gate": Unitary().random(jax.random.key(0), 3, 3),
        "frame": Stiefel().random(jax.random.key(1), 6, 2),
        "bias": jnp.zeros(4),
    }
    places = {"turns": Orthogonal(), "gate": Unitary(), "frame": Stiefel(), "bias": Euclidean()}
    goal = {
        "turns": jax.vmap(lambda key: SpecialOrthogonal().random(key, 3, 3))(jax.random.split(jax.random.key(2))),
        "gate": Unitary().random(jax.random.key(3), 3, 3),
        "frame": Stiefel().random(jax.random.key(4), 6, 2),
        "bias": jnp.arange(4.0),
    }

    def loss(params):
        return sum(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.sum(jnp.abs(a - b) ** 2), params, goal)))

    optimiser = jd.riemannian(optax.adam(optax.cosine_decay_schedule(0.1, 600)), places)
    state = optimiser.init(params)

    @jax.jit
    def step(_, carry):
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    last, _ = jax.jit(lambda carry: jax.lax.fori_loop(0, 600, step, carry))((params, state))
    assert float(loss(last)) < 1e-3 < float(loss(params))
    assert float(jnp.max(jax.vmap(Orthogonal().defect)(last["turns"]))) < 1e-12
    assert float(Unitary().defect(last["gate"]) + Stiefel().defect(last["frame"])) < 1e-12


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"manifold": Stiefel(), "group": "O"}, TypeError, r"got both, 'O' and Stiefel"),
        ({"group": "Sp"}, ValueError, r"group: got 'Sp'"),
        ({}, ValueError, r"start: shape \(12, 3\); a point of O\(n\) is square; for \(12, 3\) use manifold"),
        ({"manifold": {"a": Stiefel()}}, TypeError, r"one for a branch stands for all parts below"),
        ({"manifold": "Stiefel"}, TypeError, r"expected a manifold such as manifolds\.Stiefel\(\)"),
        (
            {"manifold": Stiefel(), "solver": LBFGS(preconditioner=solvers.Analytic())},
            TypeError,
            r"Analytic: got Stiefel",
        ),
        ({"manifold": Unitary()}, ValueError, r"a point of U\(n\) is square"),
    ],
    ids=["both", "name", "rectangular", "structure", "no manifold", "preconditioner", "unitary"],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        jd.minimise(energy, jnp.eye(N, P), A, WEIGHTS, **arguments)


def test_starts_that_are_frames_belong_to_rotations():
    objective = objectives.sparsity()
    summary = objective.summarise(jax.random.normal(jax.random.key(0), (4, 30)))
    for solver in (
        solvers.FromSources(LBFGS(), key=jax.random.key(0)),
        solvers.Seriated(LBFGS()),
        solvers.InFrame(LBFGS()),
    ):
        with pytest.raises(TypeError, match=r"a point of O\(n\); got Stiefel"):
            jd.minimise(objective, jnp.eye(4), summary, solver=solver, manifold=Stiefel())


def test_products_are_hashed_by_what_they_hold():
    one, other = Product({"a": Stiefel(), "b": Euclidean()}), Product({"a": Stiefel(), "b": Euclidean()})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Product({"a": Stiefel("euclidean"), "b": Euclidean()})
    assert repr(one) == "Product({'a': Stiefel(metric='canonical'), 'b': Euclidean()})"


def test_optax_limits_each_point_of_a_stack_alone_and_takes_what_training_loops_hold():
    optimiser = jd.riemannian(optax.sgd(1.0))
    points = jnp.broadcast_to(jnp.eye(3), (2, 3, 3))
    slopes = jnp.asarray([[[0.0, 100.0, 0], [0, 0, 0], [0, 0, 0]], [[0.0, 0.02, 0], [0, 0, 0], [0, 0, 0]]])
    updates, _ = optimiser.update(slopes, optimiser.init(points), points)
    alone, _ = optimiser.update(slopes[1], optimiser.init(points[1]), points[1])
    np.testing.assert_allclose(updates[1], alone, atol=1e-15)
    optimiser.init({})  # optax.partition gives such trees
    with pytest.raises(TypeError, match=r"whose points are complex; convert it with \.astype"):
        jd.riemannian(optax.sgd(1.0), Unitary()).init(jnp.eye(3))
    free = jd.riemannian(optax.sgd(0.1), {"turn": Orthogonal(), "scale": Euclidean()})
    updates, _ = free.update({"turn": jnp.eye(2), "scale": 2.0}, free.init(p := {"turn": jnp.eye(2), "scale": 0.0}), p)
    np.testing.assert_allclose(updates["scale"], -0.2)


def test_nested_lists_are_one_point():
    found = jd.minimise(lambda P: P[0, 1], [[1.0, 0.0], [0.0, 1.0]], manifold=Orthogonal())
    np.testing.assert_allclose(found.value, -1, atol=1e-6)
