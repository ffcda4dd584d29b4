"""Kernels in tiles and over devices, empirical tangent kernels, and learning with kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.gated import path_kernel as pk
from jaxdescramble.gated.path_kernel import blocks as streaming

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def dense_data(n, seed=0, kind=np.asarray):
    rng = np.random.default_rng(seed)
    return kind(rng.normal(size=(n, 5))), [kind((rng.random((n, width)) > 0.5).astype("int8")) for width in (7, 6)]


def covered(blocks, shape):
    """The matrix from its tiles, and how often each entry came."""
    whole, times = np.zeros(shape), np.zeros(shape, int)
    for rows, columns, block in blocks:
        whole[rows, columns] = block
        times[rows, columns] += 1
    return whole, times


@needs_x64
@pytest.mark.parametrize("devices", [None, 8])
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_tiles_cover_the_kernel_once(devices, kind):
    one, two = dense_data(21, 0, kind), dense_data(13, 1, kind)
    devices = devices and jax.devices()[:devices]
    kernel = functools.partial(pk.dense, normalise="cosine")
    for size in (8, 13, 100):
        whole, times = covered(pk.tiles(kernel, one, two, size, devices), (21, 13))
        assert (times == 1).all()
        np.testing.assert_allclose(whole, kernel(one[0], two[0], one[1], two[1]), rtol=0, atol=1e-15)
        whole, times = covered(pk.tiles(kernel, one, None, size, devices), (21, 21))
        assert (times == 1).all()
        np.testing.assert_allclose(whole, whole.T, rtol=0, atol=1e-15)
        np.testing.assert_allclose(whole, kernel(one[0], one[0], one[1], one[1]), rtol=0, atol=1e-15)


@needs_x64
def test_one_program_half_the_tiles_and_few_blocks(monkeypatch):
    one, other = dense_data(40), dense_data(24)
    computed = []
    program = streaming._tile
    monkeypatch.setattr(streaming, "_tile", lambda *a: computed.append(1) or program(*a))
    before = program._cache_size()
    older = jax.live_arrays()  # other tests leave arrays of this shape: operators, for example, are kept
    known, alive = set(map(id, older)), []
    for _ in pk.tiles(functools.partial(pk.dense, normalise="none"), one, tile_size=8):
        alive.append(sum(a.shape == (8, 8) and id(a) not in known for a in jax.live_arrays()))
    assert len(alive) == 25
    assert len(computed) == 15
    assert max(alive) <= 4  # one computed, one waiting, its transpose, one with the consumer
    list(pk.tiles(functools.partial(pk.dense, normalise="none"), other, dense_data(32), tile_size=8))
    assert program._cache_size() == before + 1  # equal options, other sizes: the same program


@needs_x64
def test_tiles_of_any_kernel():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(9, 6, 2)), [rng.random((9, 6, 3)), rng.random((9, 4))]
    whole = pk.gather(pk.tiles(pk.convolutional, (x, g), tile_size=4))
    np.testing.assert_allclose(whole, pk.convolutional(x, x, g, g), rtol=1e-13)
    data = dense_data(9)
    tangent = functools.partial(pk.expected_ntk, pk.dense, variances=(0.1, 0.2, 0.3))
    truth = pk.expected_ntk(pk.dense, data[0], data[0], data[1], data[1], jnp.asarray([0.1, 0.2, 0.3]))
    np.testing.assert_allclose(pk.gather(pk.tiles(tangent, data, tile_size=4)), truth, rtol=1e-13, atol=1e-14)
    plain = pk.gather(pk.tiles(lambda a, b: a @ b.T, (x[:, 0],), tile_size=4))
    np.testing.assert_allclose(plain, x[:, 0] @ x[:, 0].T, rtol=1e-13, atol=1e-14)


def network(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["b"]


@needs_x64
@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_empirical_tangent_kernel_is_that_of_full_jacobians(chunk_size):
    keys = jax.random.split(jax.random.key(0), 3)
    p = {"a": jax.random.normal(keys[0], (4, 6)), "b": jax.random.normal(keys[1], (6, 3))}
    x = jax.random.normal(keys[2], (12, 4))
    left, right = (jax.jacrev(lambda p, z=z: network(p, z))(p) for z in (x[:5], x[5:]))
    truth = sum(np.einsum("iaxy,jbxy->ijab", left[name], right[name]) for name in p)
    found = pk.empirical_ntk(network, p, x[:5], x[5:], chunk_size, between_outputs=True)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-13)
    apart = pk.empirical_ntk(network, p, x[:5], x[5:], chunk_size)
    np.testing.assert_allclose(apart, np.einsum("ijaa->ija", truth), rtol=0, atol=1e-13)
    # What must not be done: the outputs of a softmax always add up to one.
    summed = pk.empirical_ntk(lambda p, x: jax.nn.softmax(network(p, x)).sum(axis=1), p, x[:5], x[5:], chunk_size)
    assert summed.shape == (5, 7, 1)
    assert jnp.abs(summed).max() < 1e-25


def problem(n=30, dtype="float64"):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 4)).astype(dtype)
    g = [(x @ rng.normal(size=(4, 40)).astype(dtype) > 0) for _ in range(2)]
    return x, g, pk.dense(x, x, g, g), (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


@needs_x64
def test_ridge_is_the_solution_of_its_equations():
    x, g, K, labels = problem()
    Y = np.eye(3)[labels]
    unit = np.trace(K) / len(K)
    for amount in (1e-3, 1.0):
        fit = pk.ridge(K, labels, amount).check()
        truth = np.linalg.solve(K + amount * unit * np.eye(len(K)), Y)
        np.testing.assert_allclose(fit.coefficients, truth, rtol=0, atol=1e-10 * np.abs(truth).max())
        blocks = pk.ridge(pk.tiles(pk.dense, (x, g), tile_size=7), Y, amount)
        np.testing.assert_allclose(blocks.coefficients, fit.coefficients, rtol=0, atol=1e-10 * np.abs(truth).max())
        scaled = pk.predict(pk.ridge(1e6 * K, labels, amount), 1e6 * K)
        np.testing.assert_allclose(scaled, K @ fit.coefficients, rtol=0, atol=1e-10)
        np.testing.assert_allclose(scaled, pk.predict(fit, pk.tiles(pk.dense, (x, g), tile_size=7)), rtol=0, atol=1e-10)
    # Without regularisation, a kernel of full rank interpolates.
    exact = pk.ridge(K, labels).check()
    np.testing.assert_allclose(pk.predict(exact, K), Y, rtol=0, atol=1e-9)
    assert pk.classify(exact, K).tolist() == labels.tolist()
    signs = np.where(labels > 0, 1.0, -1.0)
    assert pk.classify(pk.ridge(K, signs), K).tolist() == (labels > 0).astype(int).tolist()


@needs_x64
def test_leaving_one_out_is_fitting_again():
    _, _, K, labels = problem(20)
    Y, unit = np.eye(3)[labels], np.trace(K) / len(K)
    candidates = np.asarray([1e-2, 1e-1, 1.0])
    found = pk.leave_one_out(K, labels, candidates)
    for k, amount in enumerate(candidates):
        again = np.zeros_like(Y)
        for i in range(len(K)):
            rest = np.delete(np.arange(len(K)), i)
            A = K[np.ix_(rest, rest)] + amount * unit * np.eye(len(rest))
            again[i] = K[i, rest] @ np.linalg.solve(A, Y[rest])
        np.testing.assert_allclose(found.predictions[k], again, rtol=0, atol=1e-11)
        np.testing.assert_allclose(found.error[k], ((again - Y) ** 2).sum(axis=1).mean(), rtol=1e-10)
        assert float(found.wrong[k]) == pytest.approx((again.argmax(1) != labels).mean())
    assert float(found.best) == candidates[np.argmin(found.error)]


@pytest.mark.both_precisions
def test_what_has_no_factor_is_a_status():
    K = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])
    fit = jax.jit(pk.ridge)(K, jnp.asarray([1.0, 0.0]))
    assert not bool(fit.solved)
    assert jnp.isnan(fit.coefficients).all()
    with pytest.raises(FloatingPointError, match="not positive definite"):
        fit.check()
    with pytest.raises(FloatingPointError, match="not finite or"):
        pk.ridge(K * jnp.inf, jnp.asarray([1.0, 0.0])).check()
    # Samples that occur twice: rank one short, and the jitter of n eps carries it.
    x = jnp.asarray([[1.0, 0.5], [1.0, 0.5], [0.0, 1.0]], "float32")
    fit = pk.ridge(x @ x.T, jnp.asarray([1.0, 1.0, 0.0])).check()
    assert fit.coefficients.dtype == jnp.float32
    np.testing.assert_allclose(pk.predict(fit, x @ x.T)[:, 0], [1, 1, 0], atol=2e-2)


@needs_x64
def test_alignment_and_complexity():
    x, g, K, labels = problem()
    n, Y = len(K), np.eye(3)[labels]
    H = np.eye(n) - 1 / n
    for centred in (True, False):
        C, T = (H @ K @ H, Y.T @ H) if centred else (np.asarray(K), Y.T)
        truth = np.sum(C * (T.T @ T)) / np.linalg.norm(C) / np.linalg.norm(T.T @ T)
        np.testing.assert_allclose(pk.alignment(K, labels, centred), truth, rtol=1e-12)
        blocks = pk.tiles(pk.dense, (x, g), tile_size=7)
        np.testing.assert_allclose(pk.alignment(blocks, labels, centred), truth, rtol=1e-12)
    assert float(pk.alignment(K + 100, labels)) == pytest.approx(float(pk.alignment(K, labels)), rel=1e-11)
    np.testing.assert_allclose(pk.complexity(K, labels), np.trace(K) / n * np.sum(Y * np.linalg.solve(K, Y)), rtol=1e-8)
    np.testing.assert_allclose(pk.complexity(7 * K, labels, 0.1), pk.complexity(K, labels, 0.1), rtol=1e-12)
    # Gates that know the classes suit them better.
    told = [np.eye(3)[labels], *g]
    assert pk.alignment(pk.dense(x, x, told, told), labels) > 1.2 * pk.alignment(K, labels)


@needs_x64
def test_streamed_alignment_of_a_kernel_that_is_almost_constant():
    x, _, _, labels = problem(60)
    ones, gates = np.ones_like(x, "float32"), [(x @ np.ones((4, 1)) + np.linspace(0, 9, 50)[None] > 0)]
    single = pk.alignment(pk.tiles(pk.dense, (ones, gates), tile_size=16), labels)
    double = pk.alignment(pk.dense(ones.astype(float), ones.astype(float), gates, gates), labels)
    assert single.dtype == jnp.float32 or single.dtype == jnp.float64
    np.testing.assert_allclose(single, double, rtol=1e-5)


@needs_x64
@pytest.mark.usefixtures("as_installed")
def test_what_does_not_fit_is_said():
    data = dense_data(5)
    with pytest.raises(ValueError, match="first axes must be equal"):
        pk.tiles(pk.dense, (data[0][:3], data[1]))
    with pytest.raises(ValueError, match="got 8 devices for 5 samples"):
        pk.tiles(pk.dense, data, devices=jax.devices()[:8])
    used = pk.tiles(pk.dense, data)
    pk.gather(used)
    with pytest.raises(ValueError, match="got no tiles"):
        pk.gather(used)
    with pytest.raises(ValueError, match="regularisation: got -1"):
        pk.ridge(jnp.eye(2), jnp.ones(2), -1.0)
    with pytest.raises(ValueError, match="targets: shape"):
        pk.ridge(jnp.eye(2), jnp.ones(3))
    with pytest.raises(ValueError, match="kernel: a tile reaches column 5"):
        pk.predict(pk.ridge(jnp.eye(2), jnp.ones(2)), pk.tiles(pk.dense, data))
    with pytest.raises(TypeError, match="one_hot"):
        jax.jit(pk.ridge)(jnp.eye(2), jnp.asarray([0, 1]))
    with pytest.raises(ValueError, match=r"f: returned shape \(\)"):
        pk.empirical_ntk(lambda p, x: (x @ p).sum(), jnp.ones((5, 1)), data[0], data[0])


@pytest.mark.usefixtures("as_installed")
def test_tiles_that_were_used_before_are_missed():
    x, gates = jnp.ones((5, 2)), [jnp.ones((5, 3))]
    used = pk.tiles(pk.dense, (x, gates), tile_size=2)
    next(used)
    with pytest.raises(ValueError, match="do not cover"):
        pk.gather(used)
    fit = pk.ridge(jnp.eye(5), jnp.arange(5.0))
    used = pk.tiles(pk.dense, (x, gates), (x, gates), tile_size=2)
    next(used)
    with pytest.raises(ValueError, match="all 5 training samples"):
        pk.predict(fit, used)
    with pytest.raises(TypeError, match="x1: got int"):
        pk.expected_ntk(pk.dense, jnp.ones((1, 2), int), jnp.ones((1, 2), int), [x[:1]], [x[:1]], 1.0)
