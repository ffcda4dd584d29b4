"""The objective protocol, and one battery that every objective has to pass.

A new objective joins the battery by one line in `BATTERY`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.groups import orthogonal
from jaxdescramble.objectives import Factor, Gram, Objective, Samples, smoothness
from jaxdescramble.operators import derivative, from_matrix

N, M = 6, 20
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)

BATTERY = {
    "smoothness": smoothness(),
    "smoothness, third derivative": smoothness(order=3),
    "smoothness, Neumann differences": smoothness(order=1, boundary="neumann", scheme="difference"),
    "smoothness on a grid, Gram": smoothness(shape=(2, 3), boundary=("periodic", "dirichlet"), summary="gram"),
    "smoothness of a matrix, samples": smoothness(operator=from_matrix(jnp.triu(jnp.ones((N, N)))), summary="samples"),
}
each_objective = pytest.mark.parametrize("objective", BATTERY.values(), ids=BATTERY.keys())


def signals(seed=0, n=N, m=M):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, m)))


@each_objective
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="Taylor slopes need 64 bits")  # pyright: ignore
def test_gradient_has_slope_two_and_hessian_slope_three(objective):
    summary, point = objective.summarise(signals()), orthogonal.random(jax.random.key(1), N)

    def f(t, velocity):
        return objective(orthogonal.geodesic(point, t * velocity), summary)

    steps = np.logspace(-2.5, -1.5, 5)
    first, second = np.zeros(5), np.zeros(5)
    for seed in range(5):  # one direction alone may have a vanishing third derivative
        velocity = orthogonal.skew(signals(seed, N, N))
        value, slope, bend = f(0.0, velocity), jax.grad(f)(0.0, velocity), jax.grad(jax.grad(f))(0.0, velocity)
        values = jax.vmap(f, (0, None))(jnp.asarray(steps), velocity)
        first += np.abs(values - value - steps * slope)
        second += np.abs(values - value - steps * slope - steps**2 / 2 * bend)
    assert abs(np.polyfit(np.log(steps), np.log(first), 1)[0] - 2) < 0.1
    assert abs(np.polyfit(np.log(steps), np.log(second), 1)[0] - 3) < 0.1


@each_objective
@pytest.mark.both_precisions
def test_jitted_and_vmapped_equal_eager_and_looped(objective):
    batch = jnp.stack([signals(seed) for seed in range(3)])
    points = jax.vmap(lambda k: orthogonal.random(k, N))(jax.random.split(jax.random.key(0), 3))
    looped = jnp.stack([objective(p, objective.summarise(s)) for p, s in zip(points, batch, strict=True)])
    vmapped = jax.jit(jax.vmap(lambda p, s: objective(p, objective.summarise(s))))(points, batch)
    np.testing.assert_allclose(vmapped, looped, rtol=200 * EPS)


@each_objective
@pytest.mark.both_precisions
def test_dimensionless_and_unchanged_by_scale_repetition_and_order(objective):
    S, point = signals(), orthogonal.random(jax.random.key(2), N)
    value = objective(point, S)
    assert 0 <= float(value) <= 1
    scales = (1e-18, 1e18) if objective.summary is not Gram else (1e-9, 1e9)
    for scale in scales:
        np.testing.assert_allclose(objective(point, scale * S), value, rtol=200 * EPS)
    np.testing.assert_allclose(objective(point, jnp.concatenate([S, S], axis=1)), value, rtol=200 * EPS)
    np.testing.assert_allclose(objective(point, S[:, ::-1]), value, rtol=200 * EPS)


@each_objective
@pytest.mark.both_precisions
def test_summaries_merge_in_any_order_and_batching(objective):
    S, point = signals(m=30), orthogonal.random(jax.random.key(2), N)
    whole = objective(point, objective.summarise(S))
    start = objective.empty(N, S.dtype)
    one = objective.update(objective.update(start, S[:, :1]), S[:, 1:12])
    other = objective.update(start, S[:, 12:])
    np.testing.assert_allclose(objective(point, objective.merge(one, other)), whole, rtol=500 * EPS)
    np.testing.assert_allclose(objective(point, objective.merge(other, one)), whole, rtol=500 * EPS)
    np.testing.assert_allclose(objective(point, objective.merge(start, objective.summarise(S))), whole, rtol=500 * EPS)


@each_objective
@pytest.mark.both_precisions
def test_built_alike_means_compiled_once(objective):
    traces = []

    @jax.jit
    def value(objective, summary):
        traces.append(1)
        return objective(jnp.eye(N), summary)

    leaves, structure = jax.tree.flatten(objective)
    value(objective, objective.summarise(signals()))
    value(jax.tree.unflatten(structure, [2.0 * leaf for leaf in leaves]), objective.summarise(signals(1)))
    assert len(traces) == 1


def test_equal_smoothness_objectives_are_equal_and_share_one_compilation():
    assert smoothness(3) == smoothness(order=3)
    assert hash(smoothness(operator=derivative(4))) == hash(smoothness(operator=derivative(4)))
    traced = jax.jit(lambda objective, s: objective(jnp.eye(N), s))
    traced(smoothness(order=4), signals())
    traced(smoothness(order=4), signals())
    assert traced._cache_size() == 1


@pytest.mark.both_precisions
def test_smoothness_is_the_formula():
    S, point, D = signals(), orthogonal.random(jax.random.key(3), N), derivative(N, 3)
    by_hand = np.linalg.norm(D.matrix @ np.asarray(point @ S)) ** 2 / (
        D.eigenvalues[-1] * np.linalg.norm(np.asarray(S)) ** 2
    )
    np.testing.assert_allclose(smoothness(3)(point, S), by_hand, rtol=300 * EPS)


@pytest.mark.parametrize("summary", [Factor, Samples, Gram])
@pytest.mark.both_precisions
def test_every_summary_knows_the_same_second_moment(summary):
    S = signals(m=9)
    kept = summary.empty(N, S.dtype).update(S)
    matrix = signals(4, 4, N)
    np.testing.assert_allclose(kept.energy(matrix), np.linalg.norm(matrix @ S) ** 2, rtol=200 * EPS)
    np.testing.assert_allclose(kept.moment(matrix), matrix @ S @ S.T @ matrix.T, rtol=1e3 * EPS, atol=1e3 * EPS)
    np.testing.assert_allclose(kept.power(), np.linalg.norm(S) ** 2, rtol=200 * EPS)
    directions, singular = kept.principal()
    np.testing.assert_allclose(singular, np.linalg.svd(np.asarray(S))[1], rtol=300 * EPS)
    np.testing.assert_allclose(directions @ jnp.diag(singular**2) @ directions.T, S @ S.T, atol=1e3 * EPS)
    assert directions.dtype == S.dtype


def test_a_gram_matrix_loses_in_float32_what_a_factor_keeps():
    # Singular values 1 and 1e-5: the second one drowns in a float32 Gram matrix.
    n = 8
    U, V = (np.linalg.qr(np.random.default_rng(seed).standard_normal((k, n)))[0] for seed, k in [(0, n), (1, 50)])
    S = jnp.asarray((U * np.array([1.0] + [1e-5] * (n - 1))) @ V.T, jnp.float32)
    _, from_factor = Factor.empty(n, jnp.float32).update(S).principal()
    _, from_gram = Gram.empty(n, jnp.float32).update(S).principal()
    np.testing.assert_allclose(from_factor[1:], 1e-5, rtol=0.1)
    assert np.abs(np.asarray(from_gram[1:]) / 1e-5 - 1).max() > 1


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need 64 bits")  # pyright: ignore
@pytest.mark.parametrize("m", [3, 40])
def test_a_factor_can_be_differentiated_at_any_rank(m):
    S, V, matrix = signals(0, N, m), signals(1, N, m), signals(2, 4, N)

    def energy(S):
        return Factor.empty(N, S.dtype).update(S[:, :2]).update(S[:, 2:]).energy(matrix)

    np.testing.assert_allclose(jax.grad(energy)(S), 2 * matrix.T @ matrix @ S, atol=1e-10)
    if m > N:
        bend = jax.jvp(jax.grad(energy), (S,), (V,))[1]
        np.testing.assert_allclose(bend, 2 * matrix.T @ matrix @ V, atol=1e-8)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="compares with a numerical Hessian")  # pyright: ignore
@pytest.mark.parametrize("name", list(BATTERY))
def test_curvature_is_the_diagonal_of_the_hessian_and_the_bound_is_below(name):
    objective, S, point = BATTERY[name], signals(), orthogonal.random(jax.random.key(5), N)
    summary = objective.summarise(S)
    assert objective.curvature is not None
    assert objective.bound is not None
    frame, diagonal = objective.curvature(point, summary, **objective.options)
    for i, j in [(0, 1), (2, 5), (3, 4)]:
        generator = jnp.zeros((N, N)).at[i, j].set(1.0).at[j, i].set(-1.0)
        turn = frame @ generator @ frame.T
        second = jax.hessian(lambda t, turn=turn: objective(orthogonal.geodesic(point, t * turn), summary))(0.0)
        np.testing.assert_allclose(diagonal[i, j], second, rtol=1e-6, atol=1e-12)
    points = jax.vmap(lambda k: orthogonal.random(k, N))(jax.random.split(jax.random.key(6), 200))
    values = jax.vmap(lambda p: objective(p, summary))(points)
    assert float(values.min()) >= float(objective.bound(summary, **objective.options)) - 1e-14


def largest_entry(point, summary, power):
    """A user's own objective: a function of a point and the samples."""
    return -jnp.mean(jnp.max(jnp.abs(point @ summary.signals), axis=0) ** power)


def test_a_users_function_becomes_an_objective_in_one_line():
    one, same, other = (Objective(largest_entry, parameters=(("power", p),)) for p in (2.0, 2.0, 3.0))
    assert one == same
    traced = jax.jit(lambda objective, s: objective(jnp.eye(2), s))
    S = jnp.asarray([[1.0, 2.0], [3.0, 0.5]])
    np.testing.assert_allclose(traced(one, S), -(9 + 4) / 2)
    np.testing.assert_allclose(traced(other, S), -(27 + 8) / 2)
    assert traced._cache_size() == 1  # a parameter is traced: changing it does not compile again
    slope = jax.grad(lambda p: Objective(largest_entry, parameters=(("power", p),))(jnp.eye(2), S))(2.0)
    np.testing.assert_allclose(slope, -(9 * np.log(3) + 4 * np.log(2)) / 2, rtol=1e-6)
    assert one.operator_on(2) is None


@pytest.mark.both_precisions
def test_zero_signals_and_single_neurons_have_a_value_and_a_gradient():
    for S in (jnp.zeros((4, 3)), jnp.ones((1, 3))):
        value, slope = jax.value_and_grad(lambda s: smoothness()(jnp.eye(s.shape[0]), s))(S)
        assert float(value) == 0
        np.testing.assert_array_equal(slope, np.zeros_like(S))


def test_the_whole_family_runs_under_functools_partial_and_grad_of_the_operator():
    # The weight of an operator is a parameter: a regulariser can be learned through the objective.
    S = signals()
    f = functools.partial(
        lambda w, s: smoothness(operator=from_matrix(w * jnp.asarray(derivative(N).matrix)))(jnp.eye(N), s)
    )
    assert np.isfinite(float(f(jnp.asarray(2.0), S)))
