"""Wide layers, `descramble(rank=k)`: the answer is that of the k leading components, and says what it keeps."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble._base import range_finder
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import Factor, Gram, Samples, Sketch
from jaxdescramble.objectives.leading import leading_directions

N, M, K = 24, 90, 5
CLOSED = jd.objectives.smoothness()
SPARSE = jd.objectives.sparsity()
QUICK = jd.solvers.LBFGS(tolerance=1e-9)
TURN = orthogonal.random(jax.random.key(7), K)


def signals_of(n=N, m=M, seed=0, power=1.0, dtype="float64"):
    """Signals whose singular values fall like i^-power, and their left singular vectors."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((size, min(n, m))))[0] for size in (n, m))
    values = np.arange(1, min(n, m) + 1.0) ** -power
    return jnp.asarray((left * values) @ right.T, jax.dtypes.canonicalize_dtype(dtype)), left, values


S, LEFT, VALUES = signals_of()


def small(signals, k=K):
    """U_k and U_k^T S by NumPy, with the library's signs."""
    U = np.linalg.svd(np.asarray(signals), full_matrices=False)[0][:, :k]
    U = U * np.sign(np.take_along_axis(U, np.abs(U).argmax(0)[None], 0))
    return U, jnp.asarray(U.T @ np.asarray(signals))


def test_the_closed_form_is_that_of_the_principal_components():
    U, T = small(S)
    found, inner = jd.descramble(S, rank=K).check(), jd.descramble(T)
    assert found.point.shape == (K, N)
    np.testing.assert_allclose(found.value, inner.value, atol=1e-12)
    np.testing.assert_allclose(found.bound, inner.bound, atol=1e-12)
    np.testing.assert_allclose(found.initial_value, inner.initial_value, atol=1e-12)
    np.testing.assert_allclose(found.point, inner.point @ U.T, atol=1e-9)
    np.testing.assert_allclose(found.point @ found.point.T, np.eye(K), atol=1e-12)
    np.testing.assert_allclose(found.point.T @ found.point, LEFT[:, :K] @ LEFT[:, :K].T, atol=1e-9)
    np.testing.assert_allclose(found.left_out, (VALUES[K:] ** 2).sum() / (VALUES**2).sum(), atol=1e-12)
    np.testing.assert_allclose(found.singular_values, VALUES[:K], rtol=1e-10)
    np.testing.assert_allclose(found.transform(S), found.point @ S, atol=1e-12)
    np.testing.assert_allclose(found.score(S), found.value, atol=1e-9)
    assert int(found.rank) == K
    assert found.how == f"closed form, on {K} principal components"


def test_an_iterative_answer_is_that_of_the_principal_components():
    """Signals of a few sparse sources in noise have one best frame, up to order and signs, so rounding decides less."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((K, 400)) * (rng.uniform(size=(K, 400)) < 0.1)
    signals = LEFT[:, :K] @ sources + 0.01 * rng.standard_normal((N, 400))
    found = jd.descramble(jnp.asarray(signals), SPARSE, QUICK, rank=K, start=TURN).check()
    inner = jd.descramble(small(signals)[1], SPARSE, QUICK, start=TURN)
    np.testing.assert_allclose(found.value, inner.value, atol=1e-6)
    np.testing.assert_allclose(found.bound, inner.bound, atol=1e-9)
    np.testing.assert_allclose(found.score(signals), found.value, atol=1e-9)
    assert found.initial_value > found.value + 0.01


def test_minimising_over_the_stiefel_manifold_would_throw_the_signal_away():
    """The reason for the definition: a smoother P of the same shape exists, with P S = 0."""
    found = jd.descramble(S, rank=K)
    nothing = jnp.asarray(LEFT[:, -K:].T)
    assert float(jnp.sum((nothing @ S) ** 2)) < 0.01 * float(jnp.sum((found.point @ S) ** 2))


@pytest.mark.thorough
def test_all_features_are_the_same_problem_as_no_rank():
    found, plain = jd.descramble(S, rank=N), jd.descramble(S)
    np.testing.assert_allclose(found.value, plain.value, atol=1e-12)
    gauge = jd.exact.Stabiliser(CLOSED.operator(N))
    assert float(jd.exact.align(found.point, plain.point, gauge).distance) < 1e-7
    assert float(found.left_out) == 0.0
    assert plain.left_out == 0.0


def test_weights_count_samples():
    weights = jnp.asarray(np.random.default_rng(1).integers(0, 3, M), float)
    spoiled = jnp.where(weights == 0, jnp.nan, S)
    repeated = S[:, np.repeat(np.arange(M), np.asarray(weights, int))]
    found, other = jd.descramble(spoiled, rank=K, weights=weights), jd.descramble(repeated, rank=K)
    for name in ("point", "value", "left_out", "singular_values"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), atol=1e-9)
    np.testing.assert_allclose(found.score(spoiled, weights), found.value, atol=1e-9)


@pytest.mark.every_case
@pytest.mark.parametrize("kind", [Factor, Gram, Samples, Sketch])
def test_every_summary_takes_a_rank(kind):
    summary = kind.empty(N, S.dtype).update(S[:, :40]).update(S[:, 40:])
    found, other = jd.descramble(summary, rank=K), jd.descramble(S, rank=K)
    for name in ("point", "value", "left_out", "samples"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), atol=1e-7)


@pytest.mark.thorough
def test_batches_lists_and_programs_agree():
    other = signals_of(seed=3)[0]
    alone = [jd.descramble(one, rank=K) for one in (S, other)]
    batch = jd.descramble(jnp.stack([S, other]), rank=K)
    several = jd.descramble([S, other, S[:10]], rank=K)
    compiled = jax.jit(lambda signals: jd.descramble(signals, rank=K))(S)
    for name in ("point", "value", "left_out"):
        expected = [getattr(one, name) for one in alone]
        np.testing.assert_allclose(getattr(batch, name), jnp.stack(expected), atol=1e-9)
        np.testing.assert_allclose(getattr(several[1], name), expected[1], atol=1e-9)
        np.testing.assert_allclose(getattr(compiled, name), expected[0], atol=1e-9)
    assert several[2].point.shape == (K, 10)
    assert batch.problem(1).point.shape == (K, N)
    np.testing.assert_allclose(batch.score(jnp.stack([S, other])), batch.value, atol=1e-9)


@pytest.mark.thorough
def test_a_solve_that_can_be_stopped_gives_the_same():
    seen = []
    found = jd.descramble(S, SPARSE, QUICK, rank=K, progress=lambda *state: seen.append(state), max_seconds=100.0)
    np.testing.assert_allclose(found.value, jd.descramble(S, SPARSE, QUICK, rank=K).value, atol=1e-9)
    assert seen


def test_a_start_is_a_point_or_a_turn():
    found = jd.descramble(S, SPARSE, QUICK, rank=K)
    again = jd.descramble(S, SPARSE, QUICK, rank=K, start=found.point)
    turned = jd.descramble(S, SPARSE, QUICK, rank=K, start=found.point @ small(S)[0])
    for one in (again, turned):
        assert int(one.steps) <= 2
        np.testing.assert_allclose(one.value, found.value, atol=1e-9)


@pytest.mark.thorough
def test_values_and_points_have_derivatives():
    """Against differences: the value by either path, and a gauge-free function of the point."""
    change = jnp.asarray(np.random.default_rng(5).standard_normal(S.shape))
    first = jd.descramble(S, SPARSE, QUICK, rank=K)

    def closed_value(signals):
        return jd.descramble(signals, rank=K).value

    def sparse_value(signals):
        return jd.descramble(signals, SPARSE, QUICK, rank=K, start=first.point).value

    def roughness_of_others(signals):
        return CLOSED(jnp.eye(K), jd.descramble(signals, rank=K).transform(change))

    for function in (closed_value, sparse_value, roughness_of_others):
        slope = jnp.sum(jax.grad(function)(S) * change)
        h = 1e-6
        expected = (function(S + h * change) - function(S - h * change)) / (2 * h)
        np.testing.assert_allclose(slope, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.thorough
def test_equal_singular_values_at_the_cut_are_a_kink():
    rng = np.random.default_rng(2)
    left, right = (np.linalg.qr(rng.standard_normal((size, 8)))[0] for size in (8, 30))
    signals, apart = (
        jnp.asarray((left * np.asarray([4, 3, 2, fourth, 1, 0, 0, 0.0])) @ right.T) for fourth in (2, 1.99)
    )
    assert int(jd.descramble(signals, rank=3).status) == jd.Status.KINK
    assert int(jd.descramble(apart, rank=3).status) == jd.Status.SOLVED
    assert int(jd.descramble(apart, rank=6).status) == jd.Status.SOLVED  # zeros at the cut are no tie
    slope = jax.grad(lambda signals: jd.descramble(signals, SPARSE, QUICK, rank=3).value)(signals)
    assert bool(jnp.isfinite(slope).all())


def test_a_rank_above_that_of_the_signals_is_completed():
    found = jd.descramble(signals_of(N, 3)[0], rank=K).check()
    np.testing.assert_allclose(found.point @ found.point.T, np.eye(K), atol=1e-12)
    assert int(found.rank) == 3
    assert float(found.left_out) < 1e-14


def test_signals_without_an_answer_have_a_status():
    bad = jnp.stack([S, S.at[0, 0].set(jnp.nan), 0 * S])
    found = jd.descramble(bad, rank=K)
    assert found.status.tolist() == [jd.Status.SOLVED, jd.Status.NOT_FINITE, jd.Status.ZERO_SIGNALS]
    assert np.isnan(found.point[1]).all()
    assert np.isnan(found.left_out[1])
    np.testing.assert_allclose(found.value[0], jd.descramble(S, rank=K).value, atol=1e-12)


def test_certificates_take_a_wide_point():
    found = jd.descramble(S, SPARSE, QUICK, rank=K)
    assert float(found.tightest_bound(S, steps=2)) <= float(found.value)
    flat = found.stationarity(S, key=jax.random.key(0), steps=12)
    assert float(flat.gradient_norm) < 1e-6
    assert float(flat.lowest) > -1e-6


@pytest.mark.thorough
@pytest.mark.parametrize(("objective", "solver"), [(None, None), (SPARSE, QUICK)])
def test_a_bootstrap_draws_components_of_its_own(objective, solver):
    """Of many samples the descrambler is sure; draws are aligned, and their rows orthonormal."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((3, 2000)) * np.asarray([[5.0], [2.0], [1.0]]) * (rng.uniform(size=(3, 2000)) < 0.2)
    signals = jnp.asarray(LEFT[:, :3] @ sources + 0.05 * rng.standard_normal((N, 2000)))
    found = jd.bootstrap(signals, objective, solver, key=jax.random.key(0), draws=3, rank=3)
    assert found.points.shape == (3, 3, N)
    np.testing.assert_allclose(found.points @ jnp.swapaxes(found.points, 1, 2), np.eye(3)[None].repeat(3, 0), atol=1e-9)
    assert float(found.distances.min()) > 1e-6
    assert float(found.distances.max()) < 0.5
    low, high = found.band(lambda P: P @ signals[:, 0])
    assert low.shape == (3,)
    assert bool((low <= high).all())
    with pytest.raises(ValueError, match="where the rank is 3"):
        jd.bootstrap(signals, key=jax.random.key(0), rank=3, gauge=jd.exact.CircularShifts(N))


def test_files_keep_a_wide_point_and_old_files_are_read(tmp_path):
    wide, square = jd.descramble(S, rank=K), jd.descramble(S[:K])
    for found, version in ((wide, 4), (square, 3)):
        found.save(tmp_path / "found.npz")
        again = jd.Descrambling.load(tmp_path / "found.npz")
        with np.load(tmp_path / "found.npz") as file:
            assert json.loads(str(file["header"]))["format"] == version
            assert ("left_out" in file.files) == (version == 4)
        for field in dataclasses.fields(found):
            if field.name not in ("objective", "how"):
                np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name))
        assert again.how == found.how
        assert "<svg" in again._repr_html_()


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_randomised_method_finds_the_exact_answer(dtype):
    """Above a thousand features. The spectrum falls slowly; plain power iterations would need dozens of products."""
    k, eps = 20, float(jnp.finfo(dtype).eps)
    signals, left, values = signals_of(1100, 1200, power=0.7, dtype=dtype)
    assert not range_finder.is_exact(1100, 1200, k)
    found = leading_directions(Samples(signals), k)
    U = np.asarray(found.directions, float)
    np.testing.assert_allclose(U.T @ U, np.eye(k), atol=100 * eps)
    outside = (U - left[:, :k] @ (left[:, :k].T @ U)) * values[:k]
    assert np.linalg.norm(outside) < 300 * eps * np.linalg.norm(values[:k])
    exact = (values[k:] ** 2).sum() / (values**2).sum()
    np.testing.assert_allclose(found.left_out, exact, atol=30 * eps)


@pytest.mark.thorough
@pytest.mark.parametrize("filled", [1, 30, 0])
def test_the_randomised_method_completes_what_is_missing(filled):
    """Signals on few axes, such as those of dead neurons: a Krylov basis is exhausted after them."""
    k = 40
    signals = np.zeros((1100, 1100))
    signals[:filled] = np.random.default_rng(0).standard_normal((filled, 1100))
    U = np.asarray(range_finder.leading(jnp.asarray(signals), k).vectors)
    np.testing.assert_allclose(U.T @ U, np.eye(k), atol=1e-12)
    np.testing.assert_allclose((U[:filled] ** 2).sum(), filled, atol=1e-12)


@pytest.mark.thorough
def test_large_layers_have_values_and_derivatives_too():
    signals, left, _ = signals_of(1100, 1200)
    k, change = 8, jnp.asarray(np.random.default_rng(5).standard_normal((1100, 1200))) / 100
    found = jd.descramble(signals, rank=k)
    inner = jd.descramble(jnp.asarray(left[:, :k].T) @ signals)
    np.testing.assert_allclose(found.value, inner.value, atol=1e-10)

    def reading(signals):
        return CLOSED(jnp.eye(k), jd.descramble(signals, rank=k).transform(change))

    slope = jnp.sum(jax.grad(reading)(signals) * change)
    h = 1e-4
    expected = (reading(signals + h * change) - reading(signals - h * change)) / (2 * h)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)
    many = jd.descramble(jnp.stack([signals, signals[:, ::-1]]), rank=k)
    np.testing.assert_allclose(many.value, jnp.stack([found.value] * 2), atol=1e-10)


def test_a_sketch_keeps_its_promise():
    """The error is bounded, the energy is exact, merging is like updating, and nothing has the size n x n."""
    signals = signals_of(60, 400, power=0.5)[0]
    parts = [Sketch.empty(60, signals.dtype, rank=12) for _ in range(2)]
    for number, batch in enumerate(jnp.split(signals, 10, axis=1)):
        parts[number % 2] = parts[number % 2].update(batch)
    sketch = parts[0].merge(parts[1])
    assert max(leaf.size for leaf in jax.tree.leaves(sketch)) == 60 * 12
    np.testing.assert_allclose(sketch.power(), jnp.sum(signals**2), rtol=1e-14)
    assert int(sketch.count) == 400
    error = np.linalg.eigvalsh(np.asarray(signals @ signals.T - sketch.factor @ sketch.factor.T))
    assert error.min() > -1e-12
    assert 0 < error.max() <= float(sketch.error)
    best = np.linalg.svd(np.asarray(signals), compute_uv=False)[:4] ** 2
    found = jd.descramble(sketch, rank=4)
    kept = float(jnp.sum(found.transform(signals) ** 2))
    assert best.sum() - 4 * float(sketch.error) <= kept <= best.sum()
    assert float(found.left_out) >= 1 - kept / float(jnp.sum(signals**2)) - 1e-12
    np.testing.assert_allclose(kept, best.sum(), rtol=2e-2)


@pytest.mark.thorough
def test_a_sketch_of_low_rank_signals_is_exact():
    signals = signals_of(60, 9)[0] @ jnp.asarray(np.random.default_rng(3).standard_normal((9, 100)))
    weights = jnp.asarray(np.random.default_rng(4).uniform(size=100))
    sketch = Sketch.empty(60, signals.dtype, rank=10).update(signals, weights)
    found, other = jd.descramble(sketch, rank=4), jd.descramble(signals, rank=4, weights=weights)
    for name in ("value", "point", "left_out", "samples"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), atol=1e-9)
    components, turn = sketch.leading(4).T, orthogonal.random(jax.random.key(7), 4)
    # Smoothness has one least value. Of many, rounding would choose: it differs between a sketch and its signals.
    smooth = jd.objectives.smoothness()
    turned = jd.descramble(components @ signals, smooth, QUICK, start=turn, weights=weights)
    direct = jd.descramble(signals, smooth, QUICK, rank=4, start=turn @ components, weights=weights)
    np.testing.assert_allclose(turned.value, direct.value, atol=1e-9)


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"rank": 0}, ValueError, "rank: expected a positive integer, got 0"),
        ({"rank": True}, TypeError, "rank: expected a positive integer"),
        ({"rank": N + 1}, ValueError, f"rank: got {N + 1}, but the signals have {N} features"),
        ({"rank": 2, "group": "permutation"}, ValueError, "takes no rank. Leave rank out"),
        ({"rank": 2, "objective": SPARSE, "start": jnp.eye(3)}, ValueError, "does not fit the rank"),
        ({"rank": 2, "objective": SPARSE, "start": jnp.ones((2, N))}, ValueError, "rows are not orthonormal"),
        ({"rank": 2, "objective": SPARSE, "start": jnp.eye(2, 5)}, ValueError, r"expected \(rank, rank\)"),
        ({"rank": 2, "objective": SPARSE, "signals": Gram.empty(3, float)}, TypeError, "a Gram keeps none"),
        ({"rank": 2, "signals": [S, S[:1]]}, ValueError, "rank: got 2, but the signals have 1 features"),
    ],
)
def test_bad_arguments_are_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        jd.descramble(**({"signals": S} | change))


def test_bad_sketches_are_refused():
    sketch = Sketch.empty(4, float, rank=2)
    with pytest.raises(ValueError, match="make both alike"):
        sketch.merge(Sketch.empty(4, float, rank=3))
    with pytest.raises(TypeError, match="to be merged with one"):
        sketch.merge(Gram.empty(4, float))
    with pytest.raises(ValueError, match="must be at most 4"):
        sketch.leading(5)
    with pytest.raises(ValueError, match="does not fit the summary's features"):
        sketch.update(jnp.ones((3, 2)))
    with pytest.raises(TypeError, match="an update has no derivative"):
        jax.grad(lambda x: sketch.update(x).energy(jnp.eye(4)))(jnp.ones((4, 2)))


@pytest.mark.thorough
def test_a_rotation_of_all_components_and_a_start_from_another_answer():
    for key in jax.random.split(jax.random.key(11), 4):
        S = jax.random.normal(key, (5, 40))
        found = jd.descramble(S, rank=5, group="SO")
        assert float(jnp.linalg.det(found.point)) > 0.99
        assert found.left_out.shape == ()
        first = jd.descramble(S, jd.objectives.sparsity(), jd.solvers.LBFGS(max_steps=5), rank=3, group="SO").point
        again = jd.descramble(
            S[:, ::-1] * 1.1, jd.objectives.sparsity(), jd.solvers.LBFGS(max_steps=5), rank=3, group="SO", start=first
        )
        assert again.point.shape == (3, 5)


def test_a_sketch_needs_a_rank():
    sketch = Sketch.empty(6, jnp.float64, rank=3).update(jax.random.normal(jax.random.key(0), (6, 20)))
    with pytest.raises(TypeError, match="how many to use, rank=k"):
        jd.descramble(sketch)
