"""What `descramble` does without a solver: it ends, with an answer, and says what it did."""

import dataclasses
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import solvers
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._iterate import first_guess
from jaxdescramble.descrambling._planning import FINE, near_start, solver_for, stages
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    locality,
    monotonicity,
    smoothness,
    sparsity,
    spectral_entropy,
    total_variation,
    weighted,
)
from jaxdescramble.solvers import LBFGS, Chain, SinglePrecision, Tournament, minimise
from jaxdescramble.solvers.solve import solve
from jaxdescramble.solvers.starts import order_of_sources

X64 = bool(jax.config.jax_enable_x64)  # pyright: ignore
needs_x64 = pytest.mark.skipif(not X64, reason="compares two precisions")
N = 12


def layer(n=N, m=150, seed=0):
    """Return the activations of a random ReLU layer of smooth inputs."""
    rng = np.random.default_rng(seed)
    inputs = np.cumsum(rng.standard_normal((2 * n, m)), axis=0) / n**0.5
    hidden = rng.standard_normal((n, 2 * n)) / (2 * n) ** 0.5 @ inputs
    return jnp.asarray(np.maximum(hidden, 0))


CASES = {
    "total variation": total_variation(),
    "l1": sparsity(),
    "log-cosh": sparsity("logcosh"),
    "locality": locality(),
    "weighted": weighted((0.5, smoothness()), (0.5, sparsity())),
}


@pytest.mark.sampled(3)
@pytest.mark.both_precisions
@pytest.mark.parametrize("objective", CASES.values(), ids=CASES)
def test_a_default_call_ends_with_an_answer_that_many_more_steps_hardly_change(objective):
    S = layer()
    found = jd.descramble(S, objective).check()
    assert Status(int(found.status)).usable
    assert float(found.value) < 0.9 * float(found.initial_value)
    longer = minimise(objective, found.point, objective.summarise(S), solver=LBFGS(max_steps=5000), group="SO")
    assert float(found.value) <= float(longer.value) * 1.001 + 1e-6
    assert 0 <= float(found.residual) < 0.1


@pytest.mark.thorough
@needs_x64
def test_a_default_call_does_the_same_under_jit_and_in_a_batch():
    S, objective = layer(), sparsity()
    eager = jd.descramble(S, objective)
    inside = jax.jit(lambda S: jd.descramble(S, objective))(S)
    both = jd.descramble(jnp.stack([layer(seed=1), S]), objective)
    np.testing.assert_allclose([inside.value, both.value[1]], eager.value, rtol=1e-3)
    assert inside.how == eager.how == both.how


@pytest.mark.thorough
def test_a_default_call_says_what_it_did_and_files_keep_it(tmp_path):
    S = layer()
    assert jd.descramble(S).how == "closed form"
    found = jd.descramble(S, sparsity())
    for part in ("LBFGS (Hessian modelled by the objective)", "6 stages with epsilon x 300", "a random start"):
        assert part in found.how
    assert "sources" not in found.how
    assert "the given start" in jd.descramble(S, sparsity(), start=jnp.eye(N)).how
    assert "random" not in jd.descramble(S, sparsity(), start=jnp.eye(N)).how
    assert "3 random starts" in jd.descramble(S, locality(), restarts=3, key=jax.random.key(0)).how
    assert jd.descramble(S, locality(), LBFGS(preconditioner=None)).how == "LBFGS, from the computed start"
    assert jd.descramble(S, total_variation(), group="permutation").how == "search over permutations"
    found.save(tmp_path / "found.npz")
    again = jd.Descrambling.load(tmp_path / "found.npz")
    assert again.how == found.how
    np.testing.assert_array_equal(again.residual, found.residual)


def test_stages_begin_at_one_width_whatever_the_last_width_is():
    for epsilon, widest in ((1e-4, 0.1), (1e-2, 0.3), (0.2, 0.3)):
        factors = stages(sparsity(epsilon=epsilon))
        np.testing.assert_allclose(factors[0] * epsilon, widest, rtol=1e-6)
        assert all(1 < wide / narrow < 3.3 for wide, narrow in itertools.pairwise((*factors, 1.0)))
    assert stages(sparsity("logcosh")) == ()
    assert stages(weighted((1, sparsity()), (1, locality()))) == stages(sparsity())
    traced = jax.jit(lambda epsilon: jnp.stack(stages(sparsity(epsilon=epsilon))))(1e-3)
    np.testing.assert_allclose(traced, stages(sparsity()), rtol=1e-5)


def test_a_start_on_slow_modes_is_the_guess_for_differences():
    S, objective = layer(), total_variation()
    summary = objective.summarise(S)
    for group in ("O", "SO"):
        guess = first_guess(objective, summary, group)
        assert float(objective(guess, summary)) < 0.6 * float(objective(jnp.eye(N), summary))
        assert group == "O" or float(jnp.linalg.det(guess)) > 0
    other = first_guess(objective, summary, "O", jnp.asarray(-1.0))
    np.testing.assert_allclose(jnp.linalg.det(other), -1, rtol=1e-4)


@pytest.mark.both_precisions
def test_a_solve_stops_where_the_value_hardly_falls():
    S, objective = layer(), total_variation()
    summary, start = objective.summarise(S), orthogonal.random(jax.random.key(0), N, dtype=S.dtype)

    def solve(decrease, solver=LBFGS):
        return minimise(objective, start, summary, solver=solver(decrease=decrease, max_steps=3000), history=3000)

    coarse, fine = solve(1e-2), solve(1e-4)
    for found, decrease in ((coarse, 1e-2), (fine, 1e-4)):
        assert int(found.status) == Status.DECREASE_SMALL
        found.check()
        values, steps = np.asarray(found.history.value), int(found.steps)
        assert steps % 10 == 0
        marks = values[9:steps:10]
        falls = -np.diff(marks) / np.abs(marks[1:])
        assert falls[-1] < decrease < falls[:-1].min(initial=1)
    assert int(coarse.steps) < int(fine.steps)
    assert int(solve(0.0).status) != Status.DECREASE_SMALL
    for kind in (solvers.ConjugateGradient, solvers.GradientDescent, solvers.TrustRegion):
        assert int(solve(1e-2, kind).status) == Status.DECREASE_SMALL


@pytest.mark.thorough
def test_rugged_objectives_take_three_random_starts():
    S = layer()
    for objective in (spectral_entropy(), weighted((0.2, locality()), (0.8, spectral_entropy()))):
        assert "the computed start and 3 random starts" in jd.descramble(S, objective).check().how
    assert "2 random starts" in jd.descramble(S, spectral_entropy(), restarts=2, key=jax.random.key(1)).how
    assert "random" not in jd.descramble(S, spectral_entropy(), start=jnp.eye(N)).how
    assert not total_variation().rugged


def test_a_decrease_that_is_no_fraction_is_refused():
    with pytest.raises(ValueError, match="decrease"):
        jd.descramble(layer(), sparsity(), LBFGS(decrease=-0.1))


def test_the_other_solvers_of_a_tournament_are_checked_too():
    solver = Tournament(LBFGS(), LBFGS(), others=(LBFGS(tolerance=-1.0),), key=jax.random.key(0))
    with pytest.raises(ValueError, match="tolerance"):
        jd.descramble(layer(), sparsity(), solver)


@pytest.mark.thorough
@needs_x64
def test_a_tournament_is_never_worse_than_its_start_and_refines_the_best_rough_answer():
    S, objective = layer(), sparsity()
    summary = objective.summarise(S)
    best = jd.descramble(S, objective, restarts=4, key=jax.random.key(3))
    solver = Tournament(LBFGS(max_steps=0), LBFGS(max_steps=1), restarts=2, key=jax.random.key(0))
    kept = minimise(objective, best.point, summary, solver=solver)
    assert float(best.value) * 0.999 < float(kept.value) <= float(best.value)
    rough = solvers.Restarts(LBFGS(max_steps=5), 2, key=jax.random.key(0))
    alone = minimise(objective, jnp.eye(N), summary, solver=rough)
    found = minimise(objective, jnp.eye(N), summary, solver=dataclasses.replace(solver, rough=LBFGS(max_steps=5)))
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-12)
    assert int(found.evaluations) >= int(alone.evaluations)


def test_a_tournament_with_a_deadline_keeps_time_for_its_fine_solve():
    S, objective, begun, key = layer(), sparsity(), [], jax.random.key(0)
    summary = objective.summarise(S)

    @dataclasses.dataclass(frozen=True)
    class Slow:
        def run(self, function, start, args, options):
            begun.append(time.monotonic())
            time.sleep(0.2)
            return solve(function, start, args, LBFGS(max_steps=2), options)

    solver = Tournament(LBFGS(max_steps=3), jax.tree_util.register_static(Slow)(), restarts=5, key=key)
    found = minimise(objective, jnp.eye(N), summary, solver=solver, max_seconds=0.7)
    # After two solves, at most .3 s are left: less than twice the time of a solve.
    assert 1 <= len(begun) <= 2
    assert float(found.value) < float(objective(jnp.eye(N), summary))
    begun.clear()
    minimise(objective, jnp.eye(N), summary, solver=solver, max_seconds=600)
    assert len(begun) == 6


@pytest.mark.thorough
@needs_x64
def test_single_precision_is_a_part_of_a_solve_in_double_precision():
    S, objective = layer(), sparsity("logcosh")
    summary = objective.summarise(S)
    rough = minimise(objective, jnp.eye(N), summary, solver=SinglePrecision(LBFGS(decrease=1e-4)))
    assert rough.point.dtype == rough.value.dtype == jnp.float64
    assert 1e-9 < float(orthogonal.defect(rough.point)) < 1e-5
    found = minimise(objective, jnp.eye(N), summary, solver=Chain((SinglePrecision(LBFGS(decrease=1e-4)), LBFGS())))
    assert float(orthogonal.defect(found.point)) < 1e-12
    assert int(found.check().status) in (Status.SOLVED, Status.PRECISION)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), summary)
    one = minimise(objective, jnp.eye(N, dtype=jnp.float32), single, solver=SinglePrecision(LBFGS(decrease=1e-4)))
    other = minimise(objective, jnp.eye(N, dtype=jnp.float32), single, solver=LBFGS(decrease=1e-4))
    np.testing.assert_array_equal(one.point, other.point)
    small = minimise(
        objective, jnp.eye(N), objective.summarise(1e-60 * S), solver=SinglePrecision(LBFGS(decrease=1e-4))
    )
    np.testing.assert_allclose(small.value, rough.value, rtol=1e-6)


@pytest.mark.slow
@needs_x64
def test_derivatives_of_unfinished_solves_are_refused_unless_the_residual_is_small():
    S, change, objective = layer(), layer(seed=5), sparsity("logcosh")
    read = jnp.asarray(np.random.default_rng(0).standard_normal((N, N)))

    def answer(S, start, solver):
        found = minimise(objective, start, objective.summarise(S), solver=solver, group="SO")
        return jnp.sum(read * found.point), found

    def derivative(start, solver):
        return jax.jvp(lambda S: answer(S, start, solver)[0], (S,), (change,))[1]

    exact = answer(S, jnp.eye(N), LBFGS())[1].point
    step = 1e-5
    both = [answer(S + sign * step * change, exact, LBFGS())[0] for sign in (1, -1)]
    expected = (both[0] - both[1]) / (2 * step)
    refused, taken = LBFGS(max_steps=8), LBFGS(decrease=1e-6)
    rough, fine = (answer(S, jnp.eye(N), solver)[1] for solver in (refused, taken))
    assert (int(rough.status), int(fine.status)) == (Status.STEPS_SPENT, Status.DECREASE_SMALL)
    assert float(rough.residual) > 1e-4 > float(fine.residual)
    assert bool(jnp.isnan(derivative(jnp.eye(N), refused)))
    corners = jax.jvp(lambda S: jd.descramble(S, total_variation()).point, (S,), (change,))[1]
    assert float(jd.descramble(S, total_variation()).residual) > 1e-4
    assert bool(jnp.isnan(corners).all())
    np.testing.assert_allclose(derivative(exact, taken), expected, rtol=2e-2)
    reverse = jax.grad(lambda S: jnp.sum(read * jd.descramble(S, total_variation()).point))(S)
    assert bool(jnp.isnan(reverse).all())
    # The value is differentiated at a fixed point, which needs no Hessian.
    slope = jax.grad(lambda S: minimise(objective, jnp.eye(N), objective.summarise(S), solver=refused).value)(S)
    assert bool(jnp.isfinite(slope).all())


def test_near_the_answer_nothing_is_searched_elsewhere():
    assert near_start(solver_for(total_variation())) == LBFGS(decrease=FINE, preconditioner=None)
    assert near_start(solver_for(smoothness())) == solver_for(smoothness())


@pytest.mark.thorough
def test_what_a_solver_gives_is_not_changed_by_the_defaults():
    S, key = layer(), jax.random.key(0)
    given = Tournament(LBFGS(decrease=1e-3), LBFGS(decrease=1e-2), restarts=7, key=key)
    assert "7 random starts" in jd.descramble(S, locality(), given, start=jnp.eye(N)).how
    assert near_start(given) is given
    batch = jd.descramble(jnp.stack([S, S]), total_variation(shape=(3, 4)), restarts=1, key=key)
    assert "a random start" in batch.how
    line = jd.descramble(jnp.stack([S, S]), total_variation(), restarts=2, key=key)
    assert "from the computed start, 2 random starts and the sources of 2 searches" in line.how


PLANTED = {
    "piecewise constant": (jd.datasets.planted.piecewise_constant, total_variation(boundary="neumann")),
    "local": (jd.datasets.planted.local, locality("neumann")),
}


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize(("generator", "objective"), PLANTED.values(), ids=PLANTED)
def test_a_default_call_finds_a_planted_order(generator, objective):
    problem = generator(jax.random.key(2), 16, 160)
    planted = float(objective(problem.frame, objective.summarise(problem.signals)))
    found = jd.descramble(problem.signals, objective)
    assert "from the computed start and the sources of the signals" in found.how
    assert float(found.value) < planted * 1.0001
    alone = jd.descramble(problem.signals, objective, start=jnp.eye(16))
    assert "sources" not in alone.how
    assert float(alone.value) > planted * 1.2


def test_sources_make_a_start_where_an_order_follows_from_them():
    few, many = (jd.objectives.Samples(jnp.ones((6, m))) for m in (5, 6))
    expected = {
        "chain": [total_variation(), total_variation(boundary="neumann"), total_variation(shape=(6, 1))],
        "line": [locality(), locality("neumann")],
        "any": [sparsity(), sparsity("logcosh")],
        "": [total_variation(shape=(2, 3)), total_variation(shape=(2, 3), isotropic=True), locality(shape=(2, 3))],
    }
    for order, objectives in expected.items():
        assert [order_of_sources(one, many) for one in objectives] == [order] * len(objectives)
        assert {order_of_sources(one, few) for one in objectives} == {""}
    assert order_of_sources(locality(positions=jnp.ones((6, 2))), many) == ""
    assert order_of_sources(monotonicity(), many) == ""


def test_results_of_different_calls_can_be_stacked():
    S = layer()
    one, other = (jd.descramble(S, sparsity(epsilon=epsilon)) for epsilon in (1e-3, 2e-3))
    assert one.how != other.how
    both = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, other)
    assert both.value.shape == (2,)


@pytest.mark.thorough
@needs_x64
def test_a_function_of_plain_signals_or_of_another_precision_is_minimised_too():
    S, objective = layer(), total_variation(epsilon=0.1)
    expected = minimise(objective, jnp.eye(N), objective.summarise(S)).value
    plain = minimise(objective, jnp.eye(N), S).value
    mixed = minimise(objective, jnp.eye(N), objective.summarise(S.astype(jnp.float32))).value
    np.testing.assert_allclose([plain, mixed], expected, rtol=0.05)


@pytest.mark.thorough
def test_a_sum_within_a_sum_has_a_model_of_its_hessian():
    quadratic = weighted(smoothness(order=1), smoothness())
    nested = weighted(monotonicity(), (0.5, quadratic), (0.5, weighted(sparsity(), sparsity("logcosh"))))
    assert nested.curvature(nested.summarise(layer())) is not None
    assert "modelled by the objective" in jd.descramble(layer(), nested).how
