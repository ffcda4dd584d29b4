"""Neural path kernels: what the papers claim of them, and what is said when arguments do not fit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.gated import path_kernel as pk
from jaxdescramble.gated.path_kernel import Dense, Gate, Skip

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def close(found, truth, tolerance):
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance * float(np.abs(truth).max()))


def gated(W, x, gates):
    for w, g in zip(W[:-1], gates, strict=True):
        x = g * (w @ x)
    return (W[-1] @ x)[0]


@pytest.mark.thorough
@needs_x64
def test_fluctuations_fall_with_the_root_of_the_width():
    def error(width, draws, depth=4):
        keys = jax.random.split(jax.random.key(width), 3)
        x = jax.random.normal(keys[0], (1, 8))
        gates = [jax.random.bernoulli(k, 0.5, (1, width)).astype(float) for k in jax.random.split(keys[1], depth - 1)]
        shapes = [(width, 8), *[(width, width)] * (depth - 2), (1, width)]
        sigma = 2 / width

        def one(k):
            ks = jax.random.split(k, depth)
            W = [jax.random.rademacher(q, s, float) * sigma**0.5 for q, s in zip(ks, shapes, strict=True)]
            return sum(jnp.vdot(s, s) for s in jax.grad(gated)(W, x[0], [g[0] for g in gates]))

        found = jax.jit(lambda ks: jax.lax.map(one, ks, batch_size=10))(jax.random.split(keys[2], draws))
        return float(jnp.sqrt(jnp.mean((found / pk.expected_ntk(pk.dense, x, x, gates, gates, sigma)[0, 0] - 1) ** 2)))

    narrow, wide = error(16, 400), error(256, 100)  # .46 and .12 in specs/4
    assert 0.35 < narrow < 0.6
    assert 0.09 < wide < 0.15
    assert -0.6 < np.log(wide / narrow) / np.log(256 / 16) < -0.4


@needs_x64
def test_gates_of_the_value_weights_themselves_make_another_kernel():
    """One hidden layer, FRNPF-DI, inputs 60 degrees apart: E[relu relu'] is no Sigma E[Lambda]."""
    width, angle = 20_000, np.pi / 3
    x = jnp.asarray([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    keys = jax.random.split(jax.random.key(0), 3)
    W, independent = (jax.random.normal(k, (width, 2)) for k in keys[:2])
    v = jax.random.normal(keys[2], (1, width))

    def ratio(features):
        g = [(x @ features.T > 0).astype(float)]
        fixed = pk.empirical_ntk(lambda p, z: z[:, 2:] * (z[:, :2] @ p[0].T) @ p[1].T, (W, v),
                                 jnp.hstack([x, g[0]]), jnp.hstack([x, g[0]]))[:, :, 0]  # fmt: skip
        return fixed / pk.expected_ntk(pk.dense, x, x, g, g, 1.0)

    cosine, share = np.cos(angle), (np.pi - angle) / (2 * np.pi)
    arccosine = (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
    mismatch = (arccosine + cosine * share) / (2 * cosine * share)  # 1.41
    np.testing.assert_allclose(ratio(W)[0, 1], mismatch, rtol=0.03)
    np.testing.assert_allclose(ratio(independent)[0, 1], 1, rtol=0.03)
    np.testing.assert_allclose(jnp.diagonal(ratio(W)), 1, rtol=0.03)  # and on the diagonal nothing shows


@needs_x64
@pytest.mark.parametrize("window", [2, 3])
def test_shifts_leave_circular_kernels_alone_and_no_others(window):
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 6, 5, 2)), [(rng.random((2, 6, 5, 4)) > 0.5).astype(float) for _ in range(2)]
    dense_gate = rng.random((2, 3))

    def spread(**options):
        found = []
        for shift in itertools.product(range(6), range(5)):
            turned = [np.roll(a[1:], shift, (1, 2)) for a in (x, *g)]
            gates = [a[:1] for a in g] + [dense_gate[:1]], [*turned[1:], dense_gate[1:]]
            kernel = pk.convolutional(x[:1], turned[0], *gates, window=window, **options)
            found.append(float(kernel[0, 0]))
        return np.ptp(found) / np.abs(found).max()

    assert spread() < 1e-14
    assert spread(padding="zero") > 0.01
    assert spread(head="flatten") > 0.01


@needs_x64
def test_order_of_gate_layers():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(3, 2)), [rng.random((3, width)) for width in (5, 4, 3)]
    close(pk.dense(x, x, g[::-1], g[::-1]), pk.dense(x, x, g, g), 1e-14)
    x, g = rng.normal(size=(3, 5, 2)), [rng.random((3, 5, channels)) for channels in (5, 4, 3)]
    there, back = pk.convolutional(x, x, g, g), pk.convolutional(x, x, g[::-1], g[::-1])
    assert np.abs(there - back).max() > 1e-3 * np.abs(there).max()


@needs_x64
def test_ones_for_input_and_scaled_gates():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(4, 3)), [rng.random((4, width)) for width in (5, 4)]
    ones = jnp.ones_like(x)
    close(pk.dense(ones, ones, g, g, "none"), 3 * (g[0] @ g[0].T) * (g[1] @ g[1].T), 1e-14)
    larger = [1.1 * gate for gate in g]
    close(pk.dense(x, x, larger, larger), 1.1 ** (2 * len(g)) * pk.dense(x, x, g, g), 1e-14)


@needs_x64
@pytest.mark.parametrize("blocks", range(5))
def test_skips_are_the_sum_over_sub_networks(blocks):
    rng = np.random.default_rng(blocks)
    x, g = rng.normal(size=(3, 4)), [rng.random((3, 5)) for _ in range(2 * blocks + 2)]
    total = np.zeros((3, 3))
    for kept in itertools.product((False, True), repeat=blocks):
        inner = [gate for k, keep in enumerate(kept) for gate in g[1 + 2 * k : 3 + 2 * k] if keep]
        total += pk.dense(x, x, [g[0], *inner, g[-1]], [g[0], *inner, g[-1]], "none")
    close(pk.residual(x, x, g, g, "none", depth=2), total, 1e-14)


@pytest.mark.thorough
@pytest.mark.both_precisions
def test_deep_kernels_in_single_precision():
    rng = np.random.default_rng(0)
    x, g = np.ones((2, 3), "float32"), [rng.random((2, 100)) > 0.5 for _ in range(60)]
    with np.errstate(divide="ignore"):
        truth = np.log(3) + sum(np.log(gate.astype(float) @ gate.T.astype(float)) for gate in g)
    found = pk.dense(x, x, g, g, "log")
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, truth, rtol=1e-6)
    assert not np.isfinite(pk.dense(x, x, g, g, "none")).any()
    deeper = g * 3
    np.testing.assert_allclose(jnp.diagonal(pk.dense(x, x, deeper, deeper, "cosine")), 1, rtol=1e-4)
    gates = [gate.astype("int8") for gate in g[:3]]
    np.testing.assert_array_equal(pk.dense(x, x, gates, gates), pk.dense(x, x, g[:3], g[:3]))
    off = [np.zeros((2, 4), bool)]
    assert pk.dense(x, x, off, off, "log").tolist() == [[-np.inf] * 2] * 2
    assert pk.dense(x, x, off, off, "cosine").tolist() == [[0, 0]] * 2


@pytest.mark.both_precisions
@pytest.mark.usefixtures("as_installed")
def test_what_does_not_fit_is_said():
    x, g = jnp.ones((2, 3)), [jnp.ones((2, 4))]
    with pytest.raises(ValueError, match=r"gates1: array 0 has shape \(2, 4\); .* the 1 samples"):
        pk.dense(x[:1], x, g, g)
    with pytest.raises(ValueError, match=r"gates2: got 0 arrays; must be 1"):
        pk.dense(x, x, g, [])
    with pytest.raises(ValueError, match=r"adds branches of 4 and 5 units"):
        pk.residual(x, x, [*g, jnp.ones((2, 5)), *g], [*g, jnp.ones((2, 5)), *g])
    with pytest.raises(ValueError, match=r"gates: array 0 has shape \(2, 4\) .* has shape \(3,\) for each"):
        pk.network((Gate(), Dense()), x, x, g, g)
    with pytest.raises(ValueError, match="gates1, depth: got 4 arrays; with depth=2 and gate_after=True"):
        pk.residual(x, x, g * 4, g * 4, depth=2, gate_after=True)
    with pytest.raises(ValueError, match="variances: got shape"):
        pk.dense(x, x, g, g, variances=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="2 of 4 kernels are negative"):
        pk.dense(x * jnp.asarray([[1.0], [-1.0]]), x * jnp.asarray([[1.0], [-1.0]]), g, g, "log")
    with pytest.raises(ValueError, match="normalise: got 'mean'"):
        pk.dense(x, x, g, g, "mean")
    with pytest.raises(ValueError, match=r"positions \(3,\) are left at the end"):
        pk.network((Dense(),), x[:, :, None], x[:, :, None], [], [])
    with pytest.raises(ValueError, match=r"number is unknown.* Dense\(units"):
        pk.network((Dense(), Dense()), x, x, [], [])
    with pytest.raises(ValueError, match="every way through it must have a Dense"):
        Skip((Gate(),))
    with pytest.raises(ValueError, match="more than the limit of 2 paths"):
        pk.enumerate_paths((Dense(),), x, [], [np.ones((1, 3))], limit=2)
