"""`descramble` by iteration: objectives, solvers, batches, lists, starts, restarts, problems without an answer."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_objectives import BATTERY, N, signals

import jaxdescramble as jd
from jaxdescramble import exact, solvers
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._planning import solver_for
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    diagonal_sum,
    entropy,
    from_function,
    locality,
    similarity,
    smoothness,
    sparsity,
    spectral_entropy,
    weighted,
)
from jaxdescramble.solvers import LBFGS, Analytic, PolarPower, TrustRegion

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore

PLAIN = LBFGS(preconditioner=None, max_steps=500)
L4 = sparsity("l4")  # the cheapest to compile: the polar fixed point, no samples to sort
MIXED = weighted(sparsity("l4"), (0.5, similarity()))
FAMILIES = (
    "smoothness",
    "total variation",
    "locality",
    "sparsity, fourth power",
    "entropy",
    "diagonal sum",
    "similarity",
)
each_objective = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.slow) for name in BATTERY]
)


def planted(seed=0, n=N, m=80):
    """Sparse signals in a hidden frame: `H^T S` with H of determinant one, so that P = H (or a signed permutation)."""
    rng = np.random.default_rng(seed)
    sparse = jnp.asarray(rng.standard_normal((n, m)) * (rng.random((n, m)) < 0.2))
    hidden = orthogonal.random(jax.random.key(seed), n, "SO")
    return hidden.T @ sparse, hidden


@needs_x64
@each_objective
def test_every_objective_is_minimised_by_the_solver_that_suits_it(name):
    objective = BATTERY[name]
    found = jd.descramble(signals(), objective)
    found.check()
    np.testing.assert_allclose(found.value, objective(found.point, signals()), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.initial_value, objective(jnp.eye(N), signals()), rtol=1e-12, atol=1e-15)
    assert float(orthogonal.defect(found.point)) < 1e-13 * N
    assert int(found.rank) == N
    np.testing.assert_allclose(found.singular_values, np.linalg.svd(signals(), compute_uv=False), rtol=1e-10, atol=0)
    slope = orthogonal.skew(found.point.T @ jax.grad(objective)(found.point, objective.summarise(signals())))
    assert float(jnp.linalg.norm(slope)) < (1e-7 if int(found.status) == Status.SOLVED else 0.05)
    if name == "similarity":  # its answer is the frame in which it starts
        np.testing.assert_allclose(found.point, np.eye(N), rtol=0, atol=1e-10)
        return
    assert float(found.value) < float(found.initial_value) - 1e-3
    bound = objective.bound(objective.summarise(signals()))
    if bound is None:
        assert float(found.gap) == np.inf
    else:
        np.testing.assert_allclose(found.gap, found.value - bound, rtol=1e-12, atol=1e-14)
        assert float(found.gap) > -1e-13


def test_the_solver_is_chosen_by_what_the_objective_says():
    assert isinstance(solver_for(smoothness()), exact.ClosedForm)
    assert isinstance(solver_for(diagonal_sum()), PolarPower)
    assert isinstance(solver_for(MIXED), PolarPower)
    corners = solver_for(sparsity())
    assert isinstance(corners, solvers.Tournament)
    assert isinstance(corners.rough.solver, solvers.InFrame)
    assert isinstance(corners.rough.solver.solver, solvers.Continuation)
    for smooth in (locality(), entropy(), spectral_entropy()):
        assert isinstance(solver_for(smooth).rough.solver.solver, solvers.LBFGS)


@needs_x64
@pytest.mark.parametrize(
    "solver",
    [None, TrustRegion(preconditioner=Analytic()), solvers.ConjugateGradient(preconditioner=Analytic())],
    ids=["closed form", "trust region", "conjugate gradient"],
)
@pytest.mark.parametrize("group", ["O", "SO"])
def test_iterated_smoothness_is_the_closed_form(solver, group):
    S = signals()
    found, closed = (jd.descramble(S, smoothness(), s, group=group) for s in (solver, None))
    assert int(found.status) in (Status.SOLVED, Status.PRECISION)
    np.testing.assert_allclose(found.value, closed.value, rtol=1e-11, atol=0)
    np.testing.assert_allclose(found.bound, closed.bound, rtol=1e-11, atol=0)
    assert abs(float(found.gap)) < 1e-12
    assert (int(found.steps) > 0) == (solver is not None)
    if group == "SO":
        np.testing.assert_allclose(np.linalg.det(found.point), 1, rtol=1e-11, atol=0)


@pytest.mark.both_precisions
@pytest.mark.parametrize("group", ["O", "SO"])
def test_linear_objectives_are_solved_where_they_start(group):
    W = signals(3, N, N)
    found = jd.descramble(W, diagonal_sum(), group=group).check()
    best = exact.diagonal_sum(W, group)
    np.testing.assert_allclose(found.value, best.value, rtol=50 * EPS, atol=0)
    assert int(found.steps) <= 1
    if group == "SO":
        np.testing.assert_allclose(np.linalg.det(found.point), 1, rtol=100 * EPS, atol=0)


@pytest.mark.both_precisions
def test_a_planted_sparse_frame_is_found_up_to_order_and_signs():
    S, hidden = planted(m=1000)
    found = jd.descramble(S, L4, restarts=5, key=jax.random.key(0)).check()
    assert float(found.value) <= float(L4(hidden, S)) + 50 * EPS
    frame = np.abs(np.asarray(found.point @ hidden.T))
    assert np.sort(frame, axis=1)[:, -1].min() > 0.95
    assert sorted(frame.argmax(axis=1).tolist()) == list(range(N))
    assert found.point.dtype == S.dtype


@pytest.mark.both_precisions
def test_batches_equal_loops_and_problems_without_an_answer_say_so():
    S = jnp.stack([planted(seed)[0] for seed in range(6)]).reshape(2, 3, N, 80)
    bad = S.at[0, 1, 0, 0].set(jnp.nan).at[1, 0, 2, 3].set(jnp.inf).at[1, 2].set(0.0)
    found = jd.descramble(bad, L4)
    assert found.status.tolist() == [[0, Status.NOT_FINITE, 0], [Status.NOT_FINITE, 0, Status.ZERO_SIGNALS]]
    for i, j in ((0, 0), (0, 2), (1, 1)):
        alone = jd.descramble(S[i, j], L4)
        np.testing.assert_allclose(found.value[i, j], alone.value, rtol=100 * EPS, atol=0)
        np.testing.assert_allclose(found.point[i, j], alone.point, rtol=0, atol=EPS**0.5)
        assert int(found.steps[i, j]) == int(alone.steps)
    for lost in (found.point[0, 1], found.value[0, 1], found.bound[1, 0], found.singular_values[1, 0]):
        assert bool(jnp.isnan(lost).all())
    assert float(orthogonal.defect(found.point[1, 2])) < 100 * EPS
    with pytest.raises(FloatingPointError, match=r"ZERO_SIGNALS in problems \[\[1, 2\]\]"):
        found.check()
    np.testing.assert_allclose(found.score(S)[0, 0], found.value[0, 0], rtol=100 * EPS, atol=0)


@pytest.mark.thorough
@needs_x64
def test_lists_of_any_shapes_are_solved_shape_by_shape():
    shapes = ((3, 9), (5, 30), (3, 9), (2, 4, 12))
    listed = [jnp.asarray(np.random.default_rng(k).standard_normal(shape)) for k, shape in enumerate(shapes)]
    found = jd.descramble([*listed, L4.summarise(listed[1])], L4)
    assert [one.point.shape for one in found] == [(3, 3), (5, 5), (3, 3), (2, 4, 4), (5, 5)]
    for one, S in zip(found, listed, strict=False):
        np.testing.assert_allclose(one.value, jd.descramble(S, L4).value, rtol=1e-12, atol=0)
    np.testing.assert_allclose(found[4].value, found[1].value, rtol=1e-12, atol=0)
    starts = jnp.stack([jnp.eye(4), jnp.eye(4)[::-1]])
    for one in jd.descramble([listed[3], listed[3]], L4, start=starts):
        np.testing.assert_allclose(one.value, jd.descramble(listed[3], L4, start=starts).value, rtol=1e-12, atol=0)


@needs_x64
def test_one_problem_of_a_batch_is_taken_out_by_its_place():
    found = jd.descramble(jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 12))))
    one = found.problem((1, -1))
    np.testing.assert_array_equal(one.point, found.point[1, 2])
    assert (found.problem(0).value.shape, one.objective) == ((3,), found.objective)
    for place in (2, (0, 3), (0, 0, 0)):
        with pytest.raises(IndexError, match=r"shape \(2, 3\)"):
            found.problem(place)


@pytest.mark.thorough
@needs_x64
def test_starts_one_for_all_or_one_per_layer():
    S = jnp.stack([planted(seed)[0] for seed in range(2)])
    best = jd.descramble(S, L4)
    again = jd.descramble(S, L4, start=best.point)
    assert again.steps.tolist() == [0, 0]
    np.testing.assert_allclose(again.point, best.point, rtol=0, atol=1e-12)
    one_for_all = jd.descramble(S, L4, start=best.point[0])
    assert int(one_for_all.steps[0]) == 0
    assert int(one_for_all.steps[1]) > 0
    alone = jd.descramble(S[1], L4, start=best.point[0])
    np.testing.assert_allclose(one_for_all.value[1], alone.value, rtol=1e-12, atol=0)
    reflected = jnp.eye(N).at[0, 0].set(-1.0)
    kept = jd.descramble(S[0], L4, start=reflected)
    np.testing.assert_allclose(np.linalg.det(kept.point), -1, rtol=1e-10, atol=0)


@pytest.mark.thorough
@needs_x64
def test_more_restarts_never_end_higher():
    S, again = signals(0, N, 30), [{"restarts": count, "key": jax.random.key(1)} for count in (2, 8)]
    none, few, more = (jd.descramble(S, locality("neumann"), PLAIN, **given) for given in ({}, *again))
    assert float(few.value) < float(none.value) - 1e-2
    assert float(more.value) < float(few.value) - 1e-3
    assert int(more.steps) > int(few.steps) > int(none.steps)
    np.testing.assert_allclose(more.value, locality("neumann")(more.point, S), rtol=1e-12, atol=0)
    special = jd.descramble(jnp.stack([S, S]), L4, **again[1], group="SO")
    np.testing.assert_allclose(np.linalg.det(special.point), [1, 1], rtol=1e-10, atol=0)
    np.testing.assert_allclose(special.value[1], special.value[0], rtol=1e-12, atol=0)


@pytest.mark.thorough
@pytest.mark.both_precisions
@pytest.mark.parametrize("objective", [L4, MIXED, smoothness()], ids=lambda objective: objective.name)
def test_one_neuron_few_samples_and_low_rank(objective):
    solver = PolarPower() if objective.concave else LBFGS(preconditioner=Analytic())
    one = jd.descramble(jnp.asarray([[3.0, -1.0]]), objective, solver).check()
    assert abs(float(one.point[0, 0])) == 1
    S = jnp.asarray(np.random.default_rng(0).standard_normal((N, 2)))
    for given, rank in ((S, 2), (S[:, :1] * jnp.ones((1, 9)), 1)):
        found = jd.descramble(given, objective, solver).check()
        assert int(found.rank) == rank
        assert float(found.value) <= float(found.initial_value) + 10 * EPS
        assert float(orthogonal.defect(found.point)) < 100 * EPS
        assert float(found.gap) > -50 * EPS


@needs_x64
def test_what_was_stopped_early_says_so():
    found = jd.descramble(signals(), locality("neumann"), LBFGS(max_steps=2, preconditioner=None))
    assert (int(found.status), int(found.steps)) == (Status.STEPS_SPENT, 2)
    with pytest.raises(FloatingPointError, match=r"descramble: STEPS_SPENT.*start=result\.point"):
        found.check()
    further = jd.descramble(signals(), locality("neumann"), LBFGS(max_steps=2, preconditioner=None), start=found.point)
    assert float(further.value) < float(found.value) < float(found.initial_value)


SOLVERS = {
    "gradient descent": solvers.GradientDescent(max_steps=500),
    "Adam": solvers.Optax(optax.adam(0.02), max_steps=500, tolerance=1e-3),
    "continuation": solvers.Continuation(PLAIN, (10.0,)),
    "chain": solvers.Chain((PolarPower(max_steps=3), PLAIN)),
}


@needs_x64
@pytest.mark.parametrize("name", SOLVERS)
def test_any_solver_may_be_given(name):
    objective = sparsity("logcosh")
    found = jd.descramble(signals(2), objective, SOLVERS[name])
    reference = jd.descramble(signals(2), objective, PLAIN)
    assert float(found.value) < float(found.initial_value) - 1e-3
    np.testing.assert_allclose(found.value, objective(found.point, signals(2)), rtol=1e-12, atol=0)
    if name != "continuation":  # which may well find another minimum
        np.testing.assert_allclose(found.value, reference.value, rtol=2e-2, atol=0)


@pytest.mark.both_precisions
def test_single_precision_in_single_precision_out():
    S = planted()[0].astype(jnp.float32)
    found = jd.descramble(S, MIXED).check()
    for name in ("point", "value", "initial_value", "bound", "gap", "singular_values"):
        assert getattr(found, name).dtype == jnp.float32
    for name in ("rank", "steps", "status"):
        assert getattr(found, name).dtype == jnp.int32
    assert float(orthogonal.defect(found.point)) < 1e-6 * N
    np.testing.assert_allclose(found.value, MIXED(found.point, S), rtol=1e-5, atol=0)


@pytest.mark.thorough
def test_files_and_held_out_scores(tmp_path):
    S = jnp.stack([planted(seed)[0] for seed in range(2)])
    objective = sparsity("logcosh", epsilon=0.7)
    found = jd.descramble(S, objective, PLAIN)
    found.save(tmp_path / "found.npz")
    back = jd.Descrambling.load(tmp_path / "found.npz")
    chex.assert_trees_all_close(found, back, rtol=1e-12, atol=1e-12)
    unseen = jnp.stack([planted(seed)[0][:, :17] for seed in (7, 8)])
    scores = [objective(found.point[i], unseen[i]) for i in range(2)]
    np.testing.assert_allclose(back.score(unseen), scores, rtol=1e-10, atol=0)


@needs_x64
def test_the_same_call_with_other_numbers_does_not_compile_again():
    from jaxdescramble.descrambling import solving

    def solve(seed, epsilon, tolerance):
        objective = sparsity("logcosh", epsilon=epsilon)
        return jd.descramble(signals(seed), objective, LBFGS(tolerance, preconditioner=None)).value

    one = solve(0, 1.0, 1e-5)
    before = solving.solve_signals._cache_size()
    assert float(solve(1, 0.8, 1e-4)) != float(one)
    assert solving.solve_signals._cache_size() == before


@pytest.mark.thorough
@needs_x64
def test_gradients_of_the_value_of_a_batch():
    S, V = jnp.stack([planted(seed)[0] for seed in range(2)]), jnp.stack([signals(seed, N, 80) for seed in range(2)])
    start = jd.descramble(S, MIXED).point
    value = jax.jit(lambda S: jd.descramble(S, MIXED, start=start).value)
    expected = (value(S + 1e-5 * V) - value(S - 1e-5 * V)) / 2e-5
    slopes = jax.grad(lambda S: value(S).sum())(S)
    np.testing.assert_allclose(jnp.sum(slopes * V, axis=(1, 2)), expected, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(jax.jvp(value, (S,), (V,))[1], expected, rtol=1e-6, atol=1e-10)


def network(params, x):
    return jnp.tanh(x @ params["a"]) @ params["b"]


@pytest.mark.thorough
@needs_x64
def test_every_layer_of_a_network_by_iteration():
    keys = jax.random.split(jax.random.key(0), 3)
    params = {"a": jax.random.normal(keys[0], (7, 5)), "b": jax.random.normal(keys[1], (5, 3))}
    x = jax.random.normal(keys[2], (60, 7))
    layers = jd.descramble_network(network, params, x, L4)
    out, inp = layers["['a']"].output.check(), layers["['b']"].input.check()
    hidden = (x @ params["a"]).T
    np.testing.assert_allclose(out.value, L4(out.point, hidden), rtol=1e-10, atol=0)
    np.testing.assert_allclose(inp.value, jd.descramble(jnp.tanh(hidden), L4).value, rtol=1e-9, atol=0)
    np.testing.assert_allclose(layers["['a']"].weight, out.point @ params["a"].T, rtol=0, atol=1e-12)
    assert float(out.value) < float(out.initial_value)
    with pytest.raises(TypeError, match=r"layer \['a'\], output side; layer \['b'\], input side: Continuation"):
        jd.descramble_network(network, params, x, L4, solvers.Continuation(PLAIN))


def best_first(point, summary):
    return -jnp.mean((point @ summary.signals)[0] ** 2) / jnp.mean(summary.signals**2)


@needs_x64
def test_a_users_objective_needs_nothing_but_its_function():
    # -<y_1^2>: the first row is the principal direction, a closed form.
    S = signals()
    found = jd.descramble(S, from_function(best_first), PLAIN)
    top = np.linalg.svd(np.asarray(S), compute_uv=False)[0] ** 2 / (S.shape[1] * float(jnp.mean(S**2)))
    np.testing.assert_allclose(found.value, -top, rtol=1e-12, atol=0)
    assert float(found.bound) == -np.inf
    assert int(found.status) in (Status.SOLVED, Status.PRECISION)


S, KEY = np.ones((3, 4)), jax.random.key(0)
WRONG = {
    "a start for the closed form": ((S, smoothness()), {"start": np.eye(3)}, TypeError, "takes no start"),
    "a key for the closed form": ((S, smoothness()), {"key": KEY}, TypeError, "takes no start, no restarts and no key"),
    "restarts of the closed form": ((S, smoothness()), {"restarts": 2, "key": KEY}, TypeError, "does not iterate"),
    "restarts without a key": ((S, L4), {"restarts": 2}, ValueError, "restarts: 2 random starts need a key"),
    "a key without restarts": ((S, L4), {"key": KEY}, ValueError, "key: a key without restarts"),
    "restarts below 0": ((S, L4), {"restarts": -1}, ValueError, "restarts"),
    "half a restart": ((S, L4), {"restarts": 0.5, "key": KEY}, TypeError, "restarts"),
    "a start of another size": ((S, L4), {"start": np.eye(4)}, ValueError, "start"),
    "a start that is not square": ((S, L4), {"start": np.eye(3)[:2]}, ValueError, "start"),
    "a start that is not orthogonal": ((S, L4), {"start": 2 * np.eye(3)}, ValueError, "must be orthogonal"),
    "a start in the other class": ((S, L4), {"start": np.diag([1.0, 1, -1]), "group": "SO"}, ValueError, "determinant"),
    "too many starts": ((np.ones((2, 3, 4)), L4), {"start": np.stack([np.eye(3)] * 3)}, ValueError, "start"),
    "starts for one layer": ((S, L4), {"start": np.stack([np.eye(3)] * 2)}, ValueError, "start"),
    "a solver class": ((S, L4, LBFGS), {}, TypeError, "expected a solver value"),
    "no solver": ((S, L4, "L-BFGS"), {}, TypeError, "expected a solver value"),
    "an objective factory": ((S, sparsity), {}, TypeError, "mind the parentheses"),
    "an unknown group": ((S, L4), {"group": "Sp"}, ValueError, "group"),
    "integers": ((S.astype(int), L4), {}, TypeError, "signals"),
    "one vector": ((S[0], L4), {}, ValueError, "signals"),
    "a closed form that there is not": ((S, L4, exact.ClosedForm()), {}, ValueError, "gives no `operator`"),
    "a number for a key": ((S, L4), {"restarts": 1, "key": 3}, TypeError, "key: expected one key"),
    "several keys": ((S, L4), {"restarts": 1, "key": jax.random.split(KEY)}, TypeError, "key: expected one key"),
}  # fmt: skip


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_anything_is_computed(case):
    given, options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        jd.descramble(*given, **options)


@needs_x64
def test_a_summary_built_from_batches_and_a_batch_of_summaries():
    S = jnp.stack([planted(seed)[0] for seed in range(2)])
    summary = functools.reduce(L4.update, jnp.split(S[0], 4, axis=1), L4.empty(N, S.dtype))
    whole = jd.descramble(S, L4)
    np.testing.assert_allclose(jd.descramble(summary, L4).value, whole.value[0], rtol=1e-12, atol=0)
    batch = jax.vmap(L4.summarise)(S)
    starts = jnp.stack([jnp.eye(N), whole.point[1]])
    found = jd.descramble(batch, L4, start=starts)
    assert int(found.steps[1]) == 0
    np.testing.assert_allclose(found.value[0], jd.descramble(S[0], L4, start=starts[0]).value, rtol=1e-12, atol=0)
    assert dataclasses.is_dataclass(found)
