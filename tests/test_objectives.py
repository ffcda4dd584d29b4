"""The objective protocol, and one battery that every objective has to pass.

A new class of `jaxdescramble.objectives` joins by itself, with its defaults; further options by a line in `BATTERY`.
CONTRIBUTING.md lists what is demanded.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import objectives
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    Factor,
    Gram,
    Objective,
    Samples,
    bandedness,
    diagonal_norm,
    diagonal_sum,
    entropy,
    from_function,
    locality,
    monotonicity,
    periodicity,
    quantised,
    similarity,
    smoothness,
    sparsity,
    spectral_entropy,
    spread,
    total_variation,
    weighted,
)
from jaxdescramble.objectives._curvatures import AxesCurvature
from jaxdescramble.operators import derivative, from_matrix

N, M = 6, 20
PLACES = jnp.asarray(np.random.default_rng(7).standard_normal((N, 3)))
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)

BATTERY = {
    "smoothness": smoothness(),
    "smoothness, third derivative": smoothness(order=3),
    "smoothness, Neumann differences": smoothness(order=1, boundary="neumann", scheme="difference"),
    "smoothness on a grid, Gram": smoothness(shape=(2, 3), boundary=("periodic", "dirichlet"), summary="gram"),
    "smoothness of a matrix, samples": smoothness(operator=from_matrix(jnp.triu(jnp.ones((N, N)))), summary="samples"),
    # Corners are rounded widely here (`WIDE`), for Taylor slopes to be seen at steps of one in a hundred.
    "total variation": total_variation(epsilon=0.5, boundary="neumann"),
    "total variation, second differences on a circle": total_variation(2, "periodic", epsilon=0.5),
    "total variation on a grid": total_variation(shape=(2, 3), boundary=("neumann", "periodic"), epsilon=0.5),
    "isotropic total variation": total_variation(shape=(2, 3), isotropic=True, epsilon=0.5, boundary="neumann"),
    "locality": locality("neumann"),
    "locality on a circle": locality(),
    "locality on a grid": locality("neumann", shape=(3, 2)),
    "locality at given positions": locality(positions=PLACES),
    "sparsity": sparsity(epsilon=0.5),
    "sparsity, log cosh": sparsity("logcosh"),
    "sparsity, fourth power": sparsity("l4"),
    "sparsity, participation": sparsity("participation"),
    "entropy": entropy(epsilon=0.5),
    "spectral entropy": spectral_entropy(epsilon=0.5),
    "periodicity": periodicity(2),
    "periodicity on a line": periodicity(4, "neumann"),
    "monotonicity": monotonicity(epsilon=0.5),
    "diagonal sum": diagonal_sum(),
    "diagonal norm": diagonal_norm(),
    "bandedness": bandedness(),
    "similarity": similarity(),
    "spread, fourth power": spread(),
    "spread, kurtosis": spread("kurtosis"),
    "spread, norm": spread("lp"),
    "spread, whip": spread("whip", epsilon=0.5),
    "quantised": quantised(),
    "quantised in groups, with zero points": quantised(3, 3, False),
    "quantised, the derivative of rounding": quantised(gradient="rounded"),
    "weighted, quadratic": weighted((0.7, smoothness()), (0.2, periodicity(3))),
    "weighted, of many kinds": weighted(
        (0.2, smoothness(summary="gram")), (0.5, sparsity(epsilon=0.5)), (0.3, locality("neumann"))
    ),
}
# A class that is not met above joins with its defaults: a new objective is its file and a line in `__init__`.
CLASSES = [
    one
    for one in map(objectives.__dict__.get, objectives.__all__)
    if isinstance(one, type) and issubclass(one, Objective) and one not in (Objective, objectives.FromFunction)
]
MET = {type(objective) for objective in BATTERY.values()}
WIDE = 0.5
NOT_BOUNDED = {
    "spread": "it has the units of the literature: 3 for normal signals, 1 for flat ones, at most n for an outlier",
}
"""Objectives that may leave [-1, 1], and why."""
ROUNDED = {
    "quantised": "codes change at steps of 1e-3 in P; its derivatives are those of a model, tested in test_quantised",
}
"""Objectives that are not smooth, and what is tested instead."""


def with_defaults(kind):
    """Return an objective with its defaults; only corners that it names (`smoothing`) are rounded widely."""
    one = kind()
    return dataclasses.replace(one, **{one.smoothing: WIDE}) if one.smoothing else one


BATTERY |= {kind.__name__: with_defaults(kind) for kind in CLASSES if kind not in MET}
each_objective = pytest.mark.parametrize("objective", BATTERY.values(), ids=BATTERY.keys())


def signals(seed=0, n=N, m=M):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, m)))


@functools.cache
def haar(count=200):
    """Random points of the group."""
    return jax.vmap(lambda k: orthogonal.random(k, N))(jax.random.split(jax.random.key(6), count))


def short_geodesic(point, velocity, t):
    """`P exp(t Omega)` for small t, by its Taylor series: compiles in no time."""
    series = functools.reduce(lambda tail, k: jnp.eye(N) + t * velocity @ tail / k, range(9, 0, -1), jnp.eye(N))
    return point @ series


@each_objective
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="Taylor slopes need 64 bits")  # pyright: ignore
def test_gradient_has_slope_two_and_hessian_slope_three(objective):
    if objective.name in ROUNDED:
        return
    summary, point = objective.summarise(signals()), orthogonal.random(jax.random.key(1), N)
    steps = jnp.logspace(-3, -2, 5)

    @jax.jit
    @jax.vmap
    def remainders(velocity):
        def f(t):
            return objective(short_geodesic(point, velocity, t), summary)

        value, slope, bend = f(0.0), jax.grad(f)(0.0), jax.grad(jax.grad(f))(0.0)
        first = jax.vmap(f)(steps) - value - steps * slope
        return jnp.abs(first), jnp.abs(first - steps**2 / 2 * bend)

    # One direction alone may have a vanishing third derivative.
    first, second = remainders(jnp.stack([orthogonal.skew(signals(seed, N, N)) for seed in range(5)]))
    wanted = (
        f"{objective.name}: the Taylor remainder of order {{}} has slope {{:.2f}}. The value must be smooth at steps "
        "of 1e-3 to 1e-2 in P. Round corners with a field, and name it: `smoothing = 'epsilon'`; the battery then "
        f"sets it to {WIDE}. Or give it a wider default."
    )
    for order, remainder in ((2, first), (3, second)):
        slope = np.polyfit(np.log(steps), np.log(remainder.sum(0)), 1)[0]
        assert abs(slope - order) < 0.1, wanted.format(order, slope)


@pytest.mark.sampled(14)
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
    least = -1 if objective.concave else 0
    most = N if objective.name in NOT_BOUNDED else 1
    assert least <= float(value) <= most, f"{objective.name} is {value}: an objective lies in [{least}, {most}]"
    scales = (1e-18, 1e18) if objective.summary is not Gram else (1e-9, 1e9)
    for scale in scales:
        wanted = f"{objective.name} must be the same for S and {scale} S (`units.in_frame` divides by a unit)"
        np.testing.assert_allclose(objective(point, scale * S), value, rtol=200 * EPS, err_msg=wanted)
    if objective.applies_to == "weights":
        return  # its columns have places of their own
    wanted = (
        f"{objective.name} changes if all samples are {{}}. Samples of signals have no order, and are averaged over. "
        "If the order of the columns of S matters, as in a time series, say `applies_to = 'weights'`."
    )
    for what, changed in (("repeated", jnp.concatenate([S, S], axis=1)), ("reversed", S[:, ::-1])):
        np.testing.assert_allclose(objective(point, changed), value, rtol=200 * EPS, err_msg=wanted.format(what))


@each_objective
@pytest.mark.both_precisions
def test_summaries_merge_in_any_order_and_batching(objective):
    S, point = signals(m=30), orthogonal.random(jax.random.key(2), N)
    whole = objective(point, objective.summarise(S))
    start = objective.empty(N, S.dtype)
    one = objective.update(objective.update(start, S[:, :1]), S[:, 1:12])
    other = objective.update(start, S[:, 12:])
    wanted = f"{objective.name} must have the same value for samples that came in batches, merged in any order"
    np.testing.assert_allclose(objective(point, objective.merge(one, other)), whole, rtol=500 * EPS, err_msg=wanted)
    if objective.applies_to == "signals":
        np.testing.assert_allclose(objective(point, objective.merge(other, one)), whole, rtol=500 * EPS, err_msg=wanted)
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


@each_objective
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="compares with a numerical Hessian")  # pyright: ignore
def test_curvature_is_the_diagonal_of_the_hessian(objective):
    point, summary = orthogonal.random(jax.random.key(5), N), objective.summarise(signals())
    at = objective.curvature(summary)
    if at is None:
        return
    frame, diagonal = at(point)
    if isinstance(at, AxesCurvature):  # a model from means over samples; what is exact is tested below
        np.testing.assert_allclose(diagonal, diagonal.T, atol=1e-12)
        if at.diagonal is None:
            return
        frame, diagonal = point.T, at.diagonal(point)
    products = jnp.einsum("ki,lj->ijkl", frame, frame)
    turns = (products - products.swapaxes(2, 3)).reshape(N * N, N, N)
    second = jax.hessian(lambda t, turn: objective(short_geodesic(point, turn, t), summary))
    found = jax.jit(jax.vmap(second, (None, 0)))(0.0, turns).reshape(N, N)
    np.testing.assert_allclose(diagonal, found, rtol=1e-6, atol=1e-10)


@pytest.mark.sampled(28)
@each_objective
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="compares with a second derivative")  # pyright: ignore
def test_bending_is_the_sum_of_the_hessians_of_all_samples(objective, weighed):
    # As many samples as neurons: then some V moves each sample by plus or minus one vector v, and the second derivative
    # along V is the sum of v^T H v over the samples.
    S = signals(m=N)
    weights = jnp.linspace(0.5, 2, N) if weighed and objective._weighs else None
    summary, point = objective.summarise(S, weights), orthogonal.random(jax.random.key(5), N)
    bending = getattr(objective.curvature(summary), "bending", None)
    if bending is None or objective.name == "spectral_entropy":  # it takes a mean over phases
        return
    V, signs = signals(7, N, 3), jnp.sign(signals(8, 1, N))
    shares = jnp.ones(N) if weights is None else weights / jnp.mean(weights)
    scaled = S * jnp.sqrt(S.size / jnp.sum(shares[None, :] * S**2))

    def along(v):
        moved = v[:, None] @ signs @ jnp.linalg.inv(scaled)
        return jax.grad(jax.grad(lambda t: objective(point + t * moved, summary)))(0.0)

    np.testing.assert_allclose(bending(point, V), jax.jit(jax.vmap(along))(V.T), rtol=1e-8)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="compares with a second derivative")  # pyright: ignore
def test_a_model_in_principal_directions_is_exact_for_a_quadratic_form():
    # With wide corners, total variation is a quadratic form, and its model must be that of smoothness.
    wide, summary = total_variation(epsilon=1e4), Samples(signals())
    smooth = smoothness(order=1, scheme="difference", boundary="neumann")
    line = dataclasses.replace(wide, boundary=("neumann",))
    point = orthogonal.random(jax.random.key(5), N)
    found = line.curvature(summary)(point)
    exact = smooth.curvature(summary)(point)
    scale = jnp.max(jnp.abs(exact.diagonal)) / jnp.max(jnp.abs(found.diagonal))
    order = jnp.arange(N)[::-1]  # ascending and descending
    np.testing.assert_allclose(found.diagonal * scale, exact.diagonal[jnp.ix_(order, order)], rtol=1e-5, atol=1e-9)


@each_objective
@pytest.mark.both_precisions
def test_no_point_goes_below_the_bound(objective):
    for S in (signals(), jnp.eye(N)[:, jnp.arange(M) % 4] * jnp.linspace(0.0, 1.0, M)[None, :]):
        summary = objective.summarise(S)
        bound = objective.bound(summary)
        if bound is not None:
            values = jax.vmap(objective, (0, None))(haar(), summary)
            assert bound.dtype == values.dtype == S.dtype
            assert float(values.min()) >= float(bound) - 40 * EPS


@each_objective
@pytest.mark.both_precisions
def test_values_and_two_derivatives_are_finite_everywhere(objective):
    objective, still = objective.smoothed(1e-3), jnp.ones((N, 3))

    @jax.jit
    def everything(S, point, change):
        def value(point, S):
            return objective(point, objective.summarise(S))

        slopes = jax.grad(value, (0, 1))
        return value(point, S), slopes(point, S), jax.jvp(slopes, (point, S), change)[1]

    for S in (0 * still, still, jnp.eye(N)[:, :3].at[:, 1].set(0.0)):
        found = everything(S, jnp.eye(N), (signals(1, N, N), signals(2, N, 3)))
        assert all(np.isfinite(array).all() for array in jax.tree.leaves(found)), (
            f"{objective.name}: the value and two derivatives must be finite, also for signals or samples of zeros and "
            "for corners rounded a thousand times less. Divide with `units.ratio`, round |x| with `units.softened`."
        )
        if not S.any():
            assert float(found[0]) == 0, f"{objective.name} is {found[0]} for zero signals; must be 0 (`units.ratio`)"


def largest_entry(point, summary, power):
    """A user's own objective: a function of a point and the samples."""
    return -jnp.mean(jnp.max(jnp.abs(point @ summary.signals), axis=0) ** power)


class Twisted(Objective):
    """A user's own objective, as the README shows it."""

    power: jax.typing.ArrayLike = 2.0
    rows: int = dataclasses.field(default=1, metadata={"static": True})
    smoothing = "power"

    def value(self, point, summary):
        return jnp.mean(jnp.abs((point @ summary.signals)[: self.rows]) ** self.power)

    def bound(self, summary):
        return jnp.zeros((), summary.dtype)


def test_a_users_class_is_a_frozen_dataclass_and_a_pytree_without_a_decorator():
    traced, S = jax.jit(lambda objective, s: objective(jnp.eye(N), s)), signals()
    np.testing.assert_allclose(traced(Twisted(), S), jnp.mean(S[0] ** 2))
    np.testing.assert_allclose(traced(Twisted(power=4.0), S), jnp.mean(S[0] ** 4))
    assert traced._cache_size() == 1  # a number is data
    np.testing.assert_allclose(traced(Twisted(rows=3), S), jnp.mean(S[:3] ** 2))
    assert traced._cache_size() == 2  # a static field is not
    assert Twisted() == Twisted(2.0)
    assert hash(Twisted()) == hash(Twisted(2.0))
    assert Twisted().smoothed(2.0) == Twisted(4.0)
    assert repr(Twisted(4.0)) == "Twisted(power=4.0)"
    assert Twisted().name == "twisted"
    assert Twisted().tightest_bound(Samples(S)) == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Twisted().power = 3.0  # pyright: ignore[reportAttributeAccessIssue]
    said = (Twisted().operator(N), Twisted().curvature(Samples(S)), Twisted().assignment(Samples(S)))
    assert said == (None, None, None)
    assert not Twisted().quadratic


def test_a_class_that_cannot_be_an_objective_says_what_to_do():
    with pytest.raises(TypeError, match=r"measure: text and truth values are fixed .* metadata=\{'static': True\}"):

        class Forgotten(Objective):
            measure: str = "l1"

    class Empty(Objective):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty: define value"):
        Empty()(jnp.eye(N), signals())
    with pytest.raises(TypeError, match=r"Objective: .*objectives.from_function"):
        Objective(largest_entry)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: from_function(largest_entry, static="power"), ValueError, "static: 'power' is no parameter"),
        (lambda: from_function(largest_entry, power=[1], static="power"), TypeError, "power: .* cannot be static"),
        (lambda: from_function(largest_entry, summary=dict), TypeError, "summary: expected a kind of summary"),  # pyright: ignore
        (lambda: from_function(largest_entry, name=3), TypeError, "name: expected text or None"),  # pyright: ignore
        (lambda: from_function("largest"), TypeError, "function"),  # pyright: ignore
        (lambda: sparsity()(jnp.eye(N), Factor.empty(N, float)), TypeError, "reads samples, and a Factor keeps none"),
        (lambda: sparsity().bound(signals()), TypeError, "summary: expected a summary of signals"),  # pyright: ignore
        (lambda: smoothness().curvature(signals()), TypeError, "summary: expected a summary of signals"),  # pyright: ignore
        (lambda: entropy().bound(None), TypeError, "summary: expected a summary of signals"),  # pyright: ignore
    ],
)
@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
def test_what_is_no_function_parameter_or_summary_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.thorough
def test_shape_and_boundary_mean_the_same_in_every_objective_that_has_them():
    """Turned by one place along an axis, signals on it keep their value where its ends meet, and there alone."""
    S, eye = signals(n=12), jnp.eye(12)
    places = np.arange(12).reshape(3, 4)
    turned = [np.roll(places, 1, axis).ravel() for axis in (0, 1)]
    for kind in (smoothness, total_variation, locality):
        assert kind() == kind(boundary="periodic")
        assert kind(shape=(3, 4), boundary=["periodic", "periodic"])(eye, S) == kind(shape=(3, 4))(eye, S)
        for ends in (("periodic", "neumann"), ("neumann", "periodic")):
            objective = kind(shape=(3, 4), boundary=ends)
            value = float(objective(eye, S))
            for order, end in zip(turned, ends, strict=True):
                assert (abs(float(objective(eye, S[order])) - value) < 1e-9) == (end == "periodic")
        for wrong in ({"shape": (5, 2)}, {"boundary": ("neumann", "periodic")}):
            with pytest.raises(ValueError, match=r"12 features|2 names"):
                kind(**wrong)(eye, S)


def test_a_users_function_becomes_an_objective_in_one_line():
    one, same, other = (from_function(largest_entry, power=p) for p in (2.0, 2.0, 3.0))
    assert one == same
    traced = jax.jit(lambda objective, s: objective(jnp.eye(2), s))
    S = jnp.asarray([[1.0, 2.0], [3.0, 0.5]])
    np.testing.assert_allclose(traced(one, S), -(9 + 4) / 2)
    np.testing.assert_allclose(traced(other, S), -(27 + 8) / 2)
    assert traced._cache_size() == 1  # a parameter is traced: changing it does not compile again
    slope = jax.grad(lambda p: from_function(largest_entry, power=p)(jnp.eye(2), S))(2.0)
    np.testing.assert_allclose(slope, -(9 * np.log(3) + 4 * np.log(2)) / 2, rtol=1e-6)
    assert one.operator(2) is None
    assert one.name == "largest_entry"


def test_the_whole_family_runs_under_functools_partial_and_grad_of_the_operator():
    # The weight of an operator is a parameter: a regulariser can be learned through the objective.
    S = signals()
    f = functools.partial(
        lambda w, s: smoothness(operator=from_matrix(w * jnp.asarray(derivative(N).matrix)))(jnp.eye(N), s)
    )
    assert np.isfinite(float(f(jnp.asarray(2.0), S)))


@each_objective
def test_what_is_saved_with_any_objective_is_loaded_with_an_equal_one(objective, tmp_path):
    S, point = signals(), orthogonal.random(jax.random.key(8), N)
    numbers = dict.fromkeys(("value", "initial_value", "bound", "gap"), jnp.zeros(()))
    counts = dict.fromkeys(("rank", "steps", "status"), jnp.zeros((), jnp.int32))
    found = Descrambling(point, **numbers, **counts, singular_values=jnp.ones(N), objective=objective)
    found.save(tmp_path / "found.npz")
    if objective.name == "weighted":
        with pytest.raises(ValueError, match="pass it as load"):
            Descrambling.load(tmp_path / "found.npz")
    back = Descrambling.load(tmp_path / "found.npz", objective if objective.name == "weighted" else None)
    assert jax.tree.structure(back.objective) == jax.tree.structure(objective)
    np.testing.assert_allclose(back.score(S), objective(point, S), rtol=100 * EPS)


def test_a_file_of_an_older_version_is_refused_by_its_format(tmp_path):
    numbers = dict.fromkeys(("value", "initial_value", "bound", "gap"), jnp.zeros(()))
    counts = dict.fromkeys(("rank", "steps", "status"), jnp.zeros((), jnp.int32))
    Descrambling(jnp.eye(N), **numbers, **counts, singular_values=jnp.ones(N), objective=locality()).save(
        tmp_path / "found.npz"
    )
    with np.load(tmp_path / "found.npz") as file:
        content = dict(file)
    header = json.loads(str(content["header"])) | {"format": 2}
    np.savez(tmp_path / "old.npz", **(content | {"header": np.asarray(json.dumps(header))}))
    with pytest.raises(ValueError, match=r"has format 2, of another version .* this version reads format 3"):
        Descrambling.load(tmp_path / "old.npz")


def test_a_file_of_a_users_objective_asks_for_it(tmp_path):
    strange = Twisted()
    numbers = dict.fromkeys(("value", "initial_value", "bound", "gap"), jnp.zeros(()))
    counts = dict.fromkeys(("rank", "steps", "status"), jnp.zeros((), jnp.int32))
    found = Descrambling(jnp.eye(N), **numbers, **counts, singular_values=jnp.ones(N), objective=strange)
    found.save(tmp_path / "found.npz")
    with pytest.raises(ValueError, match=r"Twisted.*pass it as load"):
        Descrambling.load(tmp_path / "found.npz")
