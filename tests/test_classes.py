"""Both determinant classes of O(n): searched by default, free where the objective says so, kept on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objectives import CLASSES

import jaxdescramble as jd
from jaxdescramble import objectives, solvers
from jaxdescramble.objectives import SignedOrder, Symmetries
from jaxdescramble.objectives._symmetries import common, of_grid

RNG = np.random.default_rng(0)
N = 12
SIGNALS = jnp.asarray(RNG.normal(size=(N, 30)))
FAMILY = {
    "total variation": objectives.total_variation(boundary="neumann"),
    "on a circle": objectives.total_variation(boundary="periodic"),
    "second order": objectives.total_variation(order=2, boundary="neumann"),
    "on a grid": objectives.total_variation(shape=(3, 4), boundary=("periodic", "neumann")),
    "isotropic": objectives.total_variation(shape=(3, 4), isotropic=True, boundary="neumann"),
    "isotropic torus": objectives.total_variation(shape=(3, 4), isotropic=True, boundary="periodic"),
    "monotonicity": objectives.monotonicity(),
    "locality": objectives.locality("neumann"),
    "locality on a circle": objectives.locality(),
    "locality on a cylinder": objectives.locality(("periodic", "neumann"), shape=(3, 4)),
    "locality at positions": objectives.locality(positions=RNG.normal(size=(N, 2))),
    "entropy": objectives.entropy(),
    "spectral entropy": objectives.spectral_entropy(),
    "sparsity": objectives.sparsity(),
    "l4": objectives.sparsity("l4"),
    "participation": objectives.sparsity("participation"),
    "smoothness": objectives.smoothness(),
    "smoothness on a grid": objectives.smoothness(order=1, boundary=("neumann", "dirichlet"), shape=(3, 4)),
    "graph": objectives.smoothness(operator=jd.operators.from_matrix(RNG.normal(size=(N, N)))),
    "periodicity": objectives.periodicity(3),
    "a sum": objectives.weighted(objectives.total_variation(boundary="neumann"), (0.3, objectives.sparsity())),
    "a sum that a circle does not share": objectives.weighted(
        objectives.total_variation(), (0.3, objectives.locality("neumann"))
    ),
    "a sum with positions": objectives.weighted(
        objectives.total_variation(), (0.3, objectives.locality(positions=RNG.normal(size=(N, 2))))
    ),
    "a sum of energies": objectives.weighted(objectives.entropy(), objectives.locality(shape=(3, 4))),
}
MET = {type(one) for one in FAMILY.values()}
FAMILY |= {kind.__name__: kind() for kind in CLASSES if kind not in MET}
"""Classes that are not met above join with their defaults."""


def matrix(one: SignedOrder) -> np.ndarray:
    found = np.zeros((len(one.order),) * 2)
    found[np.arange(len(one.order)), one.order] = one.sign
    return found


@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", FAMILY)
def test_what_an_objective_says_of_its_symmetries_is_true(name):
    objective = FAMILY[name]
    point = jd.manifolds.orthogonal.random(jax.random.key(1), N, dtype=float)
    value = objective(point, SIGNALS)
    known = objective.symmetries(N)
    if known is None:
        assert not objective.mirrored(N)
        return
    turns = [matrix(one) for one in known.orders]
    turns += [np.diag([-1.0] + [1.0] * (N - 1))] * known.every_sign + [
        np.eye(N)[RNG.permutation(N)]
    ] * known.every_order
    assert turns
    for turn in turns:
        np.testing.assert_allclose(objective(turn @ point, SIGNALS), value, rtol=0, atol=1e-12)
    assert all(round(np.linalg.det(matrix(one))) == one.determinant for one in known.orders)


def test_a_sum_has_the_symmetries_that_its_terms_share():
    circle, line, energies = of_grid([4], ["periodic"]), of_grid([4], ["neumann"]), Symmetries(every_sign=True)
    assert circle.reflect(4)
    assert not line.reflect(4)
    assert common([circle, Symmetries(every_sign=True, every_order=True)]) == circle
    assert common([circle, energies]).orders == {SignedOrder((0, 1, 2, 3), -1)}
    assert not common([circle, energies]).reflect(4)
    # A circle may be turned by one neuron, a reflection at n = 4; a line may not, and neither may the sum of both.
    assert objectives.total_variation().mirrored(4)
    assert not objectives.weighted(objectives.total_variation(), objectives.locality("neumann")).mirrored(4)


def test_where_signs_matter_nothing_is_claimed():
    assert not objectives.monotonicity().mirrored(4)
    assert objectives.monotonicity().mirrored(5)  # reversed, with the sign changed: of determinant -1 at n = 5
    assert objectives.total_variation(boundary="neumann").mirrored(5)
    assert not objectives.total_variation(boundary="neumann").mirrored(4)
    assert not objectives.weighted(objectives.sparsity(), objectives.monotonicity()).mirrored(4)
    assert not objectives.from_function(lambda point, summary: jnp.sum(point)).mirrored(4)
    assert {one.determinant for one in of_grid([6], ["neumann"]).orders} == {1, -1}


def procrustes(point, A, B):
    return jnp.sum((point @ A - B) ** 2)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "solver",
    [None, solvers.TrustRegion(preconditioner=None), solvers.Restarts(solvers.LBFGS(preconditioner=None), 2, key=KEY)],
    ids=["default", "trust region", "restarts"],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_the_optimum_is_found_whichever_class_it_is_in(solver, compiled):
    A, B = (jnp.asarray(np.random.default_rng(k).normal(size=(7, 9))) for k in (1, 2))

    def run(A, B):
        return jd.minimise(procrustes, jnp.eye(7), A, B, solver=solver)

    for sign in (1, -1):
        goal = B.at[0].multiply(sign)  # one of the two has its optimum in the other class
        U, _, Vh = np.linalg.svd(goal @ A.T)
        found = (jax.jit(run) if compiled else run)(A, goal)
        np.testing.assert_allclose(found.value, procrustes(jnp.asarray(U @ Vh), A, goal), rtol=1e-10)
        assert int(found.classes) == 2


def test_so_keeps_the_class_of_the_start():
    A, B = (jnp.asarray(np.random.default_rng(k).normal(size=(5, 9))) for k in (1, 2))
    for sign in (1, -1):
        start = jnp.eye(5).at[0].multiply(sign)
        found = jd.minimise(procrustes, start, A, B, group="SO")
        assert round(float(np.linalg.det(found.point))) == sign
        assert int(found.classes) == 1
        drawn = jd.minimise(procrustes, start, A, B, group="SO", solver=solvers.Restarts(solvers.LBFGS(), 2, key=KEY))
        assert round(float(np.linalg.det(drawn.point))) == sign


@pytest.mark.thorough
def test_descramble_looks_at_both_classes_where_they_differ():
    """Total variation of n = 4: reflected starts are better about as often as not."""
    objective, quick = objectives.total_variation(boundary="neumann"), solvers.LBFGS(max_steps=200, preconditioner=None)
    batch = jnp.asarray(np.random.default_rng(3).normal(size=(8, 4, 12))).cumsum(axis=1)
    both = jd.descramble(batch, objective, quick)
    guess = jax.vmap(lambda S: jnp.eye(4))(batch)
    one = jd.descramble(batch, objective, quick, start=guess)
    other = jd.descramble(batch, objective, quick, start=guess.at[:, -1].multiply(-1))
    assert both.classes.tolist() == [2] * 8
    assert one.classes.tolist() == [1] * 8
    np.testing.assert_allclose(np.linalg.det(one.point), 1)
    np.testing.assert_allclose(np.linalg.det(other.point), -1)
    assert ((other.value < one.value - 1e-6) & (both.value < one.value - 1e-6)).any()
    assert len({round(float(det)) for det in np.linalg.det(both.point)}) == 2
    compiled = jax.jit(lambda S: jd.descramble(S, objective, quick))(batch)
    np.testing.assert_allclose(compiled.value, both.value, rtol=1e-9)
    assert compiled.classes.tolist() == [2] * 8


def test_free_classes_cost_nothing_and_files_keep_them(tmp_path):
    quick = solvers.LBFGS(max_steps=5, preconditioner=None)
    found = jd.descramble(SIGNALS, objectives.sparsity(), quick)
    assert int(found.classes) == 2
    assert int(found.steps) <= 5
    found.save(tmp_path / "found.npz")
    assert int(jd.Descrambling.load(tmp_path / "found.npz").classes) == 2
    assert int(jd.descramble(SIGNALS).classes) == 2
    assert int(jd.descramble(SIGNALS, group="SO").classes) == 1


def test_what_an_objective_says_is_of_this_very_objective():
    """A bound once ran with default settings, and certified a value above the optimum."""
    objective = objectives.smoothness(order=1, boundary="neumann")
    best = jd.descramble(SIGNALS, objective)
    np.testing.assert_allclose(objective.bound(objective.summarise(SIGNALS)), best.value, rtol=1e-10)
    softer = objectives.sparsity(epsilon=0.1).smoothed(10.0)
    summary = objectives.Samples(SIGNALS)
    assert float(softer.bound(summary)) == float(objectives.sparsity(epsilon=1.0).bound(summary))
    assert objective == objectives.smoothness(order=1, boundary="neumann")
    assert hash(jax.tree.structure(objective)) == hash(jax.tree.structure(objectives.smoothness(1, "neumann")))
