"""More data than memory: moments in one pass, stopped and resumed, shared out and merged; objectives in a second."""

import dataclasses
import errno

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxdescramble import exact, objectives
from jaxdescramble.descrambling import descramble
from jaxdescramble.descrambling.accumulators import Accumulator, refine, score
from jaxdescramble.descrambling.accumulators import _compensated as compensated
from jaxdescramble.descrambling.accumulators import _reservoir as reservoir
from jaxdescramble.descrambling.accumulators import _storage as storage

N = 6
refusals = pytest.mark.usefixtures("as_installed")


def columns(m, seed=0, dtype="float32", n=N):
    """Correlated, of means that are not zero, the last feature constant."""
    rng = np.random.default_rng(seed)
    half = np.random.default_rng(99).standard_normal((n, n)) * 0.6 ** np.arange(n)
    S = half @ rng.standard_normal((n, m)) + np.linspace(-1, 1, n)[:, None]
    S[-1] = 0.1
    return S.astype(dtype)


def cut(S, *sizes):
    return np.split(S, np.cumsum(sizes), axis=1)


def error_of(gram, S):
    """The largest error of a Gram matrix, in units of sqrt(g_ii g_jj), against float64."""
    exactly = S.astype("float64") @ S.astype("float64").T
    size = np.sqrt(np.diag(exactly))
    return np.abs((gram - exactly) / np.outer(size, size)).max()


def same_bits(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.sums, other.sums, strict=True))


@pytest.fixture(scope="module")
def acc():
    return Accumulator.empty(N, "float32")


def test_ragged_batches_of_any_kind_add_up_to_what_float64_says_and_compile_nothing_new(acc):
    S = columns(3000)
    parts = cut(S, 1, 7, 33, 0, 64, 600, 1100)
    for part in parts:
        acc = acc.add(part)
    assert acc.count == 3000
    assert error_of(acc.moments.gram(), S) < 3e-8
    np.testing.assert_allclose(acc.mean, S.mean(axis=1, dtype="float64"), rtol=0, atol=1e-7)
    np.testing.assert_allclose(acc.autocorrelation, np.float64(S) @ np.float64(S).T / 3000, rtol=0, atol=3e-7)
    np.testing.assert_allclose(acc.covariance, np.cov(np.float64(S), bias=True), rtol=0, atol=3e-7)
    assert acc.mean.dtype == acc.gram.dtype == jnp.float32

    compiled = compensated.add_columns._cache_size()
    again = Accumulator.empty(N, "float32")
    for part in cut(S, 2, 11, 40, 50, 590, 1200):
        again = again.add(jnp.asarray(part))
    assert compensated.add_columns._cache_size() == compiled
    np.testing.assert_allclose(again.gram, acc.gram, rtol=1e-6, atol=0)
    in_rows = Accumulator.empty(N, "float32").add(np.ascontiguousarray(S.T).T)
    assert error_of(in_rows.moments.gram(), S) < 3e-8


def test_nothing_is_lost_between_products_nor_within_one(acc):
    # 2^26 + 1 is no float32: added one by one, the ones would vanish.
    first, ones = np.full((N, 1), 2.0**13, "float32"), np.ones((N, 1), "float32")
    found = acc.add(first)
    for _ in range(30):
        found = found.add(ones)
    assert (found.moments.gram() == 2**26 + 30).all()
    # Constant features round alike in every product: the sum of 0.1^2 in float32 is off by 1e-5 of itself.
    constant = np.broadcast_to(np.float32([0.1, 0.3, -0.7, 1.1, 1e-3, 3.3])[:, None], (N, 4096))
    assert error_of(acc.add(constant).moments.gram(), constant) < 1e-7
    naive = np.zeros((N, N), "float32")
    for k in range(4096):
        naive += np.outer(constant[:, k], constant[:, k])
    assert error_of(naive, constant) > 5e-6


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_squares_neither_overflow_nor_vanish(acc, scale):
    S = columns(100)
    found = acc.add(S[:, :50] * np.float32(scale) * np.float32(1e-6)).add(S[:, 50:] * np.float32(scale))
    whole = np.concatenate([S[:, :50] * 1e-6, S[:, 50:]], axis=1).astype("float64")
    assert error_of(found.moments.gram() / scale / scale, whole) < 1e-6
    singular = np.linalg.svd(np.asarray(found.summary().factor, "float64"), compute_uv=False)
    np.testing.assert_allclose(singular / scale, np.linalg.svd(whole, compute_uv=False), rtol=1e-5, atol=0)
    if scale > 1:
        with pytest.raises(ValueError, match=r"overflows float32.*summary\('factor'\)"):
            found.summary("gram")


def test_a_killed_stream_goes_on_to_the_last_bit(acc, tmp_path):
    path, batches, seen, asked = tmp_path / "sums.npz", cut(columns(700), 100, 90, 110, 100, 100, 100), [], []
    whole = acc.consume(batches)

    def killed():
        yield from batches[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        acc.consume(killed(), save=path, every=2, progress=lambda *news: seen.append(news))
    assert seen == [("batches", k, None) for k in (1, 2, 3, 4, 5)]
    assert "stopped at batch 5; 500 samples" in stopped.value.__notes__[0]
    kept = Accumulator.load(path)
    assert kept.count == stopped.value.accumulator.count == 500
    assert same_bits(kept, stopped.value.accumulator)

    def from_there(first):
        asked.append(first)
        return iter(batches[first:])

    resumed = kept.consume(from_there, save=path, progress=lambda *news: seen.append(news))
    assert asked == [4]
    assert seen[5:] == [("batches", 6, None), ("batches", 7, None)]
    assert same_bits(resumed, whole)
    assert same_bits(kept.consume(batches), whole)
    # Run once more after the end: nothing is counted twice.
    assert Accumulator.load(path).consume(batches, save=path).count == 700

    with pytest.raises(ValueError, match=r"batch 4 is not the one.*no shuffling"):
        kept.consume(batches[::-1])
    with pytest.raises(ValueError, match="5 batches of the stream 'batches' are counted"):
        kept.consume(batches[:4])
    assert kept.consume(batches[::-1], stream="others").count == 1200


def test_a_bad_batch_or_a_full_disk_costs_nothing_that_was_counted(acc, tmp_path, monkeypatch):
    path, S = tmp_path / "sums.npz", columns(120)
    bad = S[:, 40:80].copy()
    bad[2, 5], bad[3, 9] = np.nan, np.inf
    batches = [S[:, :40], bad, S[:, 80:]]
    with pytest.raises(
        ValueError, match=r"batch 1: 2 of 40 columns hold NaN or infinity, the first is column 5"
    ) as error:
        acc.consume(batches, save=path)
    assert Accumulator.load(path).count == error.value.accumulator.count == 40
    begun = acc.add(S[:, :40])
    with pytest.raises(ValueError, match="nothing of it was added"):
        begun.add(bad)
    assert begun.count == 40
    assert np.isfinite(begun.gram).all()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "write_atomically", full)
    with pytest.raises(OSError, match="No space left") as error:
        acc.consume(cut(S, 40, 40), save=path, every=2)
    assert error.value.accumulator.count == 80
    assert "could not be saved" in error.value.__notes__[1]
    assert Accumulator.load(path).count == 40


def test_a_damaged_file_is_refused_whichever_bit_it_is(tmp_path, key):
    path = tmp_path / "sums.npz"
    whole = Accumulator.empty(N, "float32", reservoir=4, key=key).add(columns(50))
    whole.save(path)
    content = path.read_bytes()
    read = Accumulator.load(path)
    assert same_bits(read, whole)
    assert np.array_equal(read.reservoir.columns, whole.reservoir.columns)
    assert read.reservoir.spans == whole.reservoir.spans
    assert set(compensated.Sums._fields) < set(np.load(path).files)
    rng = np.random.default_rng(0)
    damaged = [content[:k] for k in (0, 10, len(content) // 2, len(content) - 1)] + [content + b"x"]
    for place in (*rng.integers(0, len(content), 60), 0, len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for wrong in damaged:
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=r"or damaged.*count again from the start"):
            Accumulator.load(path)
    with pytest.raises(FileNotFoundError):
        Accumulator.load(tmp_path / "none.npz")
    storage.write_sealed(path, {"format": 99, "kind": "Accumulator"}, {})
    with pytest.raises(ValueError, match="format 99; this reads 1"):
        Accumulator.load(path)


@refusals
def test_merging_is_adding(acc):
    S = columns(900)
    one, two, three = (acc.add(part * np.float32(s)) for part, s in zip(cut(S, 300, 300), (1, 1, 64), strict=True))
    left, right = one.merge(two).merge(three), one.merge(two.merge(three))
    whole = np.concatenate([S[:, :600], S[:, 600:] * 64], axis=1)
    assert left.count == right.count == 900
    for found in (left, right, three.merge(two).merge(one)):
        assert error_of(found.moments.gram(), whole) < 3e-8
        np.testing.assert_allclose(found.moments.gram(), left.moments.gram(), rtol=1e-12, atol=0)
    assert same_bits(one.merge(acc), one)
    with pytest.raises(ValueError, match="6 features of float64 do not fit 6 features of float32"):
        one.merge(Accumulator.empty(N, "float64"))
    with pytest.raises(ValueError, match="5 features"):
        one.merge(Accumulator.empty(5, "float32"))
    with pytest.raises(TypeError, match="expected an Accumulator, got ndarray"):
        one.merge(S)
    with pytest.raises(ValueError, match="one accumulator has a reservoir"):
        one.merge(Accumulator.empty(N, "float32", reservoir=3, key=jax.random.key(0)))


def test_devices_share_the_columns_and_the_answer(acc, tmp_path):
    S, path = columns(1300), tmp_path / "sums.npz"
    parts = cut(S, 480, 480)
    single, eight = acc, Accumulator.empty(N, "float32", devices=jax.devices())
    single, eight = (found.consume(parts[:2], save=path) for found in (single, eight))
    again = Accumulator.load(path, devices=jax.devices()).add(parts[2])
    single, eight = (found.add(parts[2]) for found in (single, eight))
    for found in (single, eight):
        assert error_of(found.moments.gram(), S) < 3e-8
        np.testing.assert_allclose(found.mean, single.mean, rtol=1e-6, atol=0)
    assert eight.sums.gram.shape == (8, N, N)
    assert len(eight.sums.gram.devices()) == 8
    assert same_bits(again, eight)
    moved = Accumulator.load(path, devices=jax.devices()[:2]).add(parts[2])
    assert error_of(moved.moments.gram(), S) < 3e-8
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("columns",))
    program = compensated.add_columns.lower(eight.sums, jnp.zeros((N, 512), "float32"), mesh).compile().as_text()
    assert not any(collective in program for collective in ("all-reduce", "all-gather", "all-to-all", "permute"))


def test_counts_beyond_int32_stay_exact(acc, tmp_path):
    path, S = tmp_path / "sums.npz", columns(3)
    many = dataclasses.replace(acc.add(S), count=2**31 - 2)
    more = many.add(S).merge(many)
    assert more.count == 2**32 - 1
    more.save(path)
    assert Accumulator.load(path).count == 2**32 - 1
    assert int(more.summary().count) == 2**31 - 1
    assert more.summary("gram").count.dtype == jnp.int32
    np.testing.assert_allclose(more.mean, 3 * S.sum(axis=1) / (2**32 - 1), rtol=1e-6, atol=0)


def test_the_reservoir_is_the_same_however_the_stream_is_cut_shared_out_or_merged(key):
    S = np.arange(3000, dtype="float32")[None, :]

    def kept(parts, first=0):
        found = reservoir.empty(16, key, 1, "float32", first)
        for part in parts:
            found = found.add(part)
        return found

    whole = kept([S])
    held = whole.columns[0]
    assert len(set(held.tolist())) == 16
    sharded = Accumulator.empty(1, "float32", reservoir=16, key=key, devices=jax.devices()[:2])
    for found in (
        kept(cut(S, 1, 7, 1000, 15)),
        kept([jnp.asarray(part) for part in cut(S, 100, 900)]),
        kept([S[:, 1000:]], 1000).merge(kept([S[:, :1000]])),
        kept([S[:, :10]]).merge(kept([S[:, 2000:]], 2000)).merge(kept([S[:, 10:2000]], 10)),
        sharded.consume(cut(S, 1500)).reservoir,
    ):
        np.testing.assert_array_equal(found.columns[0], held)
        assert [span[1:] for span in found.spans] == [(0, 3000)]
    np.testing.assert_array_equal(reservoir.empty(5, key, 1, "float32", 0).add(S).columns[0], held[:5])
    one = Accumulator.empty(1, "float32", reservoir=16, key=key).add(S)
    np.testing.assert_array_equal(one.summary("samples").signals[0], held)
    with pytest.raises(ValueError, match="positions 500 to 3000 with one key"):
        whole.merge(kept([S], 500))
    with pytest.raises(ValueError, match="16 and 5 columns"):
        whole.merge(reservoir.empty(5, key, 1, "float32", 0))
    other = Accumulator.empty(1, "float32", reservoir=16, key=jax.random.key(1)).add(S)
    assert not np.array_equal(other.reservoir.columns, held)
    assert one.merge(other).count == 6000


def test_every_column_is_as_likely_to_be_kept():
    m, k, draws = 60, 6, 400
    S = np.arange(m, dtype="float32")[None, :]
    seen, shares = np.zeros(m), []
    for one in jax.random.split(jax.random.key(5), draws):
        found = reservoir.empty(k, one, 1, "float32", 0).add(S[:, :40])
        other = reservoir.empty(k, jax.random.fold_in(one, 1), 1, "float32", 0).add(S[:, 40:])
        merged = found.merge(other).columns[0].astype(int)
        seen[merged] += 1
        shares.append((merged >= 40).sum())
    expected = draws * k / m
    # Drawn without replacement: the variance of a count is that of a binomial, and there is one constraint.
    statistic = ((seen - expected) ** 2).sum() / expected / (1 - k / m) * (m - 1) / m
    assert 1e-3 < scipy.stats.chi2.sf(statistic, m - 1) < 1 - 1e-3
    # How many come from the second stream is hypergeometric.
    law = scipy.stats.hypergeom(m, 20, k)
    assert abs(np.mean(shares) - law.mean()) < 4 * law.std() / draws**0.5
    assert abs(np.var(shares) / law.var() - 1) < 0.25


def test_summaries_are_what_descramble_makes_of_all_the_data(acc):
    S = columns(2000)
    found = acc.add(S)
    objective = objectives.smoothness()
    expected = objective.bound(objectives.Samples(jnp.asarray(S, "float64")))
    answer = descramble(found.summary(objective), objective)
    np.testing.assert_allclose(answer.value, expected, rtol=1e-5, atol=0)
    np.testing.assert_allclose(objective(answer.point, found.summary("gram")), answer.value, rtol=1e-4, atol=0)
    assert type(found.summary(objective)) is objectives.Factor
    assert type(found.summary(objectives.smoothness(summary="gram"))) is objectives.Gram
    with pytest.raises(ValueError, match=r"none were kept.*reservoir=10_000"):
        found.summary(objectives.total_variation(boundary="neumann"))
    with pytest.raises(ValueError, match="choose one of 'factor', 'gram', 'samples'"):
        found.summary("everything")
    with pytest.raises(ValueError, match="no samples have been added"):
        acc.summary()


def test_what_is_below_the_resolution_is_said_to_be_rounding(acc):
    rng = np.random.default_rng(3)
    left, right = np.linalg.qr(rng.standard_normal((N, N)))[0], rng.standard_normal((N, 5000))
    S = (left * np.asarray([1, 0.1, 1e-2, 3e-3, 1e-5, 1e-6])) @ right
    singular = np.linalg.svd(S, compute_uv=False)
    found = acc.add(S.astype("float32"))
    assert 3e-4 < found.resolution < 5e-4
    resolved = np.asarray(found.summary().principal()[1])
    assert (np.abs(resolved[:4] / singular[:4] - 1) < [1e-6, 1e-6, 1e-4, 1e-3]).all()
    assert (resolved[4:] < 1e-6 * resolved[0]).all()
    assert int(descramble(found.summary()).rank) == 4
    deep = Accumulator.empty(N, "float64").add(S)
    np.testing.assert_allclose(deep.summary().principal()[1], singular, rtol=1e-3, atol=0)


def test_inputs_streamed_give_the_descrambler_of_a_layer():
    x, rng = columns(800, dtype="float64"), np.random.default_rng(1)
    W, b = jnp.asarray(rng.standard_normal((5, N))), jnp.asarray(rng.standard_normal(5))
    found = Accumulator.empty(N, "float64").consume(np.split(x, 8, axis=1))
    limit = jax.jit(exact.from_weights)(W, b, found.mean, found.autocorrelation)
    np.testing.assert_allclose(
        limit.value, objectives.smoothness()(limit.point, W @ x + b[:, None]), rtol=1e-10, atol=0
    )


MEANS = [
    objectives.total_variation(boundary="neumann"),
    objectives.total_variation(2, "periodic"),
    objectives.locality("neumann"),
    objectives.locality(),
    objectives.sparsity(),
    objectives.sparsity("logcosh"),
    objectives.sparsity("participation"),
    objectives.entropy(),
    objectives.spectral_entropy(),
    objectives.monotonicity(),
    objectives.similarity(),
    objectives.smoothness(summary="samples"),
    objectives.periodicity(2),
    objectives.weighted((1.0, objectives.sparsity()), (0.3, objectives.smoothness())),
]

BOTH = MEANS[::6]


@pytest.fixture(scope="module")
def streamed():
    """Data of both types, as batches of which the last is short, and what has counted them."""
    found = {}
    for dtype in ("float32", "float64"):
        S = columns(160, 7, dtype) * np.asarray(3e4, dtype)
        found[dtype] = S, cut(S, 60, 60), Accumulator.empty(N, dtype).add(S)
    return found


def ids(objective):
    return repr(objective)


@pytest.mark.parametrize("objective", MEANS, ids=ids)
def test_the_second_pass_is_the_objective_of_all(streamed, objective):
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((N, N)))[0]
    types = {"float64": 1e-12, "float32": 1e-6} if objective in BOTH else {"float64": 1e-12}
    for dtype, tolerance in types.items():
        S, batches, found = streamed[dtype]
        P = jnp.asarray(turn, dtype)
        expected = jax.jit(objective)(P, objectives.Samples(jnp.asarray(S)))
        value = score(objective, P, batches, found)
        assert value.dtype == dtype
        assert abs(value - expected) < tolerance * max(abs(expected), 0.1)


def test_so_is_its_gradient(streamed):
    S, batches, found = streamed["float64"]
    P, objective = jnp.asarray(np.linalg.qr(np.random.default_rng(4).standard_normal((N, N)))[0]), MEANS[0]
    value, slope = score(objective, P, batches, found, gradient=True)
    expected, gradient = jax.jit(jax.value_and_grad(objective))(P, objectives.Samples(jnp.asarray(S)))
    assert abs(value - expected) < 1e-12
    assert np.abs(slope - gradient).max() < 1e-11 * np.abs(gradient).max()
    # Columns of zeros that fill up a batch count for nothing even where they have a value.
    value, slope = score(objectives.from_function(with_a_penalty), P, batches, found, gradient=True)
    assert abs(value - np.cos(S / found.unit).mean() - N) < 1e-12 * N
    assert np.abs(slope - 2 * P).max() < 1e-12


def with_a_penalty(point, summary):
    return jnp.mean(jnp.cos(summary.signals / summary.scale())) + jnp.sum(point**2)


def own_unit(point, summary):
    return jnp.mean(jnp.abs(point @ summary.signals)) / jnp.sqrt(jnp.mean(summary.signals**2))


@refusals
def test_what_is_no_mean_is_refused_not_computed_wrongly(streamed):
    S, batches, found = streamed["float64"]
    P = jnp.eye(N)
    for objective in (objectives.sparsity("l4"), objectives.from_function(own_unit, name="own")):
        with pytest.raises(ValueError, match=r"(sparsity|own): is not a mean over samples.*Use the reservoir"):
            score(objective, P, batches, found)
    with pytest.raises(ValueError, match=r"similarity: cannot be taken batch by batch"):
        score(objectives.similarity(S), P, batches, found)
    with pytest.raises(ValueError, match="applies to a weight"):
        score(objectives.bandedness(), P, batches, found)
    objective = objectives.sparsity()
    with pytest.raises(ValueError, match="120 samples, but the accumulator has counted 160"):
        score(objective, P, batches[:2], found)
    with pytest.raises(ValueError, match="mean square of their entries is 4 of what was accumulated"):
        score(objective, P, [2 * batch for batch in batches], found)
    with pytest.raises(ValueError, match="batch 1: 60 of 60 columns"):
        score(objective, P, [batches[0], batches[1] * np.nan], found)
    with pytest.raises(TypeError, match="point: float32 given for data of float64"):
        score(objective, P.astype("float32"), batches, found)
    with pytest.raises(ValueError, match="start"):
        refine(objective, 2 * P, batches, found, optax.sgd(0.1))
    with pytest.raises(TypeError, match="an iterator is spent after one pass"):
        refine(objective, P, iter(batches), found, optax.sgd(0.1), passes=2)


def test_refining_over_the_stream_beats_the_reservoir(key):
    rng = np.random.default_rng(6)
    turn = np.linalg.qr(rng.standard_normal((N, N)))[0]
    S, objective = (turn @ rng.laplace(size=(N, 6400))).astype("float32"), objectives.sparsity("logcosh")
    batches, seen = np.split(S, 16, axis=1), []
    found = Accumulator.empty(N, "float32", reservoir=60, key=key).consume(batches)
    sample = np.asarray(found.summary(objective).signals)
    alone = Accumulator.empty(N, "float32").add(sample)
    # The reservoir's own answer, from the true frame, by the same steps.
    start = refine(objective, turn.T.astype("float32"), [sample], alone, optax.adam(0.01), passes=200)
    assert start.values[-1] < start.values[0]
    start = start.point
    rate = optax.adam(optax.cosine_decay_schedule(0.02, 48))
    refined = refine(objective, start, batches, found, rate, passes=3, progress=lambda *now: seen.append(now))
    assert len(refined.values) == 48
    assert [news[1:] for news in seen] == [(step, 48) for step in range(1, 49)]
    assert seen[-1][0] == f"refine, value {refined.values[-1]:.6g}"
    assert np.abs(refined.point.T @ refined.point - np.eye(N)).max() < 1e-6
    points = (start, refined.point, jnp.asarray(turn.T, "float32"))
    before, after, true = (float(score(objective, P, batches, found)) for P in points)
    assert before - true > 1e-3
    assert after < true + 1e-5
    first = refine(objective, start, batches, found, rate)
    rest = refine(objective, first.point, batches, found, rate, passes=2, state=first.state)
    np.testing.assert_array_equal(rest.point, refined.point)


@refusals
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (np.ones((N, 2)), TypeError, "batch: float64 given to an accumulator of float32"),
        (np.ones((N, 2), "float16"), TypeError, r"float16 given.*astype\('float32'\)"),
        (jnp.ones((N, 2), "bfloat16"), TypeError, "bfloat16 given"),
        (np.ones((N, 2), int), TypeError, "int64 given"),
        (np.ones((N, 2), "complex64"), TypeError, "real and imaginary parts as separate samples"),
        ([[1.0]] * N, TypeError, "expected an array of NumPy or JAX.*got list"),
        (np.ones(N, "float32"), ValueError, r"expected \(6 features, samples\), got an array of shape \(6,\)"),
        (np.ones((2, N), "float32"), ValueError, r"Samples seem to be in rows: give batch\.T"),
    ],
)
def test_nothing_is_accepted_in_silence(acc, batch, error, message):
    with pytest.raises(error, match=message):
        acc.add(batch)


@refusals
def test_what_an_accumulator_is_made_of(acc, key):
    with pytest.raises(TypeError, match="batch: a traced array; an accumulator adds outside jit"):
        jax.jit(lambda x: acc.add(x).count)(columns(3))
    for dtype in ("float16", "bfloat16", "int32", "complex64", "words"):
        with pytest.raises(TypeError, match="dtype: expected float32 or float64"):
            Accumulator.empty(N, dtype)
    with pytest.raises(ValueError, match="n: expected a positive integer"):
        Accumulator.empty(0, "float32")
    with pytest.raises(ValueError, match="drawn by a key"):
        Accumulator.empty(N, "float32", reservoir=3)
    with pytest.raises(ValueError, match="first: 3 means nothing"):
        Accumulator.empty(N, "float32", first=3)
    with pytest.raises(ValueError, match="first: expected a position"):
        Accumulator.empty(N, "float32", reservoir=3, key=key, first=-1)
    with pytest.raises(TypeError, match="give a list or an iterator of arrays"):
        acc.consume(columns(3))
    with pytest.raises(TypeError, match=r"or a function batches\(first\), got int"):
        acc.consume(3)
    with pytest.raises(TypeError, match="batch 0: float64"):
        acc.consume([columns(3, dtype="float64")])


def test_one_feature_and_zeros():
    one = Accumulator.empty(1, "float64").add(np.asarray([[3.0, 4.0]]))
    assert float(one.summary().factor[0, 0] ** 2) == pytest.approx(25, rel=1e-15)
    assert float(one.covariance[0, 0]) == 0.25
    assert one.unit == pytest.approx(12.5**0.5, rel=1e-15)
    zeros = Accumulator.empty(N, "float64").add(np.zeros((N, 40)))
    assert not zeros.summary().factor.any()
    assert zeros.unit == 1.0
    assert float(score(objectives.sparsity(), jnp.eye(N), [np.zeros((N, 40))], zeros)) == 0
