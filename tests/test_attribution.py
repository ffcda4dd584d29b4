"""Attribution: completeness, hand-written layers, and what each method must agree with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import attribution as at

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
KEYS = jax.random.split(jax.random.key(0), 9)
X = jax.random.normal(KEYS[0], (3, 6))
W = [jax.random.normal(k, shape) for k, shape in zip(KEYS[1:4], [(6, 5), (5, 4), (4, 3)], strict=True)]
B = [jax.random.normal(k, (1, n)) for k, n in zip(KEYS[4:7], [5, 4, 3], strict=True)]
IMAGE = jax.random.normal(KEYS[7], (2, 6, 6, 1))
K = [jax.random.normal(KEYS[8], (3, 3, 1, 2)), jax.random.normal(KEYS[1], (18, 3))]


def net(params, x):
    for w, b in zip(params[0][:-1], params[1][:-1], strict=True):
        x = jax.nn.relu(x @ w + b)
    return x @ params[0][-1] + params[1][-1]


def conv(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def picture_net(params, x):
    h = nn.max_pool(jax.nn.relu(conv(x, params[0])), (2, 2), (2, 2))
    return h.reshape(len(x), -1) @ params[1]


NO_BIAS = [W, [jnp.zeros_like(b) for b in B]]


def share(R, z):
    return np.where(z == 0, 0, R / np.where(z == 0, 1, z))


def by_hand(a, w, b, R, rule, low=-3.0, high=3.0):
    """One layer's relevance, from all its contributions written out."""
    part = a[:, None] * w
    z = part.sum(0) + b
    if rule == "epsilon":
        return (part * share(R, z + 0.1 * np.where(z >= 0, 1, -1))).sum(1)
    if rule == "z":
        return (part * share(R, z)).sum(1)
    if rule == "alpha-beta":
        up, down = np.maximum(part, 0), np.minimum(part, 0)
        above, below = up.sum(0) + np.maximum(b, 0), down.sum(0) + np.minimum(b, 0)
        return (2 * up * share(R, above) - down * share(R, below)).sum(1)
    if rule == "w2":
        return (w**2 * share(R, (w**2).sum(0))).sum(1)
    part = part - low * np.maximum(w, 0) - high * np.minimum(w, 0)
    return (part * share(R, part.sum(0))).sum(1)


@pytest.mark.sampled(15)
@needs_x64
@pytest.mark.parametrize("input_rule", at.relevance.INPUT_RULES)
@pytest.mark.parametrize("rule", at.relevance.RULES)
def test_every_rule_is_its_sum_written_out(rule, input_rule):
    options = {"alpha": 2.0, "beta": 1.0, "epsilon": 0.1, "low": -3.0, "high": 3.0}
    found = at.lrp(net, [W, B], X, 1, rule=rule, input_rule=input_rule, **options)
    for x, R_x in zip(np.asarray(X), found, strict=True):
        layers = [x]
        for w, b in zip(W[:-1], B[:-1], strict=True):
            layers.append(np.maximum(layers[-1] @ w + np.ravel(b), 0))
        out = layers[-1] @ np.asarray(W[-1]) + np.ravel(B[-1])
        R = np.where(np.arange(3) == 1, out, 0)
        for k in (2, 1, 0):
            name = input_rule if k == 0 and input_rule != "same" else rule
            R = by_hand(layers[k], np.asarray(W[k]), np.ravel(B[k]), R, name)
        np.testing.assert_allclose(R_x, R, rtol=1e-10, atol=1e-10)


@pytest.mark.thorough
@needs_x64
def test_what_is_kept_and_what_agrees():
    out = net(NO_BIAS, X)
    z = at.lrp(net, NO_BIAS, X, 2, rule="z")
    np.testing.assert_allclose(z.sum(axis=1), out[:, 2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(z, at.input_x_gradient(net, NO_BIAS, X, 2), rtol=0, atol=1e-12)
    for alpha in (1.0, 2.0):
        # Nothing is lost but where no contribution has the sign: both are there in every layer but, maybe, the last.
        kept = at.lrp(picture_net, K, jnp.abs(IMAGE), rule="alpha-beta", alpha=alpha, beta=alpha - 1, input_rule="w2")
        np.testing.assert_allclose(kept.sum(axis=(1, 2, 3)), picture_net(K, jnp.abs(IMAGE)).max(axis=1), rtol=1e-10)
    taylor = at.deep_taylor(net, [W, B], X, low=X.min(), high=X.max())
    assert (net([W, B], X).max(axis=1) > 0).any()
    for R, top in zip(taylor, net([W, B], X).max(axis=1), strict=True):
        assert top < 0 or float(R.min()) >= -1e-12
    # To the quadrature's error, at a network's corners.
    whole = at.integrated_gradients(net, [W, B], X, 0, steps=600, baseline=0.5)
    start = net([W, B], jnp.full_like(X, 0.5))[:, 0]
    np.testing.assert_allclose(whole.sum(axis=1), net([W, B], X)[:, 0] - start, rtol=0, atol=0.02)
    # Of a quadratic function Gauss and Legendre are exact with one point.
    square = at.integrated_gradients(lambda W, x: (x @ W) ** 2, W[0], X, 0, steps=1)
    np.testing.assert_allclose(square, X * (X @ W[0])[:, :1] * W[0][:, 0][None], rtol=0, atol=1e-12)


@needs_x64
def test_convolutions_pools_and_skips_are_layers_like_others():
    def dense(params, x):  # the convolution as the matrix that it is, pooled as it is
        h = jax.nn.relu(x.reshape(len(x), -1) @ params[0]).reshape(len(x), 3, 2, 3, 2, 2)
        return h.max(axis=(2, 4)).reshape(len(x), -1) @ params[1]

    matrix = jax.jacrev(lambda z: conv(z.reshape(1, 6, 6, 1), K[0]).ravel())(jnp.zeros(36)).T
    for options in ({"rule": "epsilon"}, {"rule": "alpha-beta", "alpha": 2.0, "beta": 1.0}, {"rule": "w2"},
                    {"rule": "z", "input_rule": "z-box", "low": -4.0, "high": 4.0}):  # fmt: skip
        one = at.lrp(picture_net, K, IMAGE, **options)
        two = at.lrp(dense, [matrix, K[1]], IMAGE, **options)
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)

    def skip(params, x):
        return jnp.mean((x + jax.nn.relu(x @ params)).reshape(len(x), 2, 3), axis=2)

    square = jax.random.normal(KEYS[5], (6, 6))
    found = at.lrp(skip, square, X, 0, rule="z")
    np.testing.assert_allclose(found, at.input_x_gradient(skip, square, X, 0), rtol=0, atol=1e-12)


@needs_x64
def test_scales_after_a_layer_count_as_part_of_it():
    scale = jnp.asarray([[2.0, -1.0, 0.5, -3.0, 1.0]])

    def normed(params, x):
        return jax.nn.relu((x @ params[0] + params[1]) * scale) @ params[2]

    folded = [W[0] * scale, B[0] * scale, W[1]]

    def plain(params, x):
        return jax.nn.relu(x @ params[0] + params[1]) @ params[2]

    for rule in ("epsilon", "alpha-beta", "w2"):
        one, two = at.lrp(normed, [W[0], B[0], W[1]], X, rule=rule), at.lrp(plain, folded, X, rule=rule)
        np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10)


@needs_x64
def test_what_comes_before_the_first_layer_belongs_to_the_input():
    def prepared(params, x):
        return net(params, (x.reshape(len(x), 2, 3) - 0.25).reshape(len(x), 6) / 0.5)

    low, high = jnp.full((1, 6), -4.0), jnp.full((1, 6), 4.0)
    for input_rule in ("w2", "z-box"):
        one = at.lrp(prepared, [W, B], X, 1, input_rule=input_rule, low=low, high=high)
        two = at.lrp(net, [W, B], (X - 0.25) / 0.5, 1, input_rule=input_rule, low=-8.5, high=7.5)
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-10)


@needs_x64
def test_gates_of_all_kinds_hand_on_what_they_get():
    def other(params, x):
        h = jax.nn.leaky_relu(x @ params[0])
        h = jnp.concatenate([jnp.maximum(h[:, :2], h[:, 2:4]), jnp.minimum(h[:, 3:], h[:, :2])], axis=1)
        h = jnp.stack([h[:, :2], h[:, 2:]], axis=2).reshape(len(x), 4)
        return h @ params[1][:4, :3]

    found = at.lrp(other, [W[0], W[1]], X, jnp.asarray([2, 0, 1]), rule="z")
    expected = at.input_x_gradient(other, [W[0], W[1]], X, jnp.asarray([2, 0, 1]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@needs_x64
def test_noise_is_in_units_of_the_range_of_a_sample(key):
    slope = at.smooth_grad(lambda _, x: jnp.sum(x**2, axis=1), None, X, key=key, samples=20_000, noise=0.2)
    drawn = [jax.random.normal(k, X.shape) for k in jax.random.split(key, 3)]
    few = at.smooth_grad(lambda _, x: jnp.sum(x**2, axis=1), None, X, key=key, samples=3, noise=0.2)
    scale = 0.2 * (X.max(axis=1) - X.min(axis=1))[:, None]
    np.testing.assert_allclose(few, 2 * X + 2 * scale * sum(drawn) / 3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(slope, 2 * X, rtol=0, atol=0.05)


@pytest.mark.thorough
@needs_x64
def test_noise_and_chunks(key):
    many = at.smooth_grad(net, [W, B], X, key=key, samples=7, noise=0.3)
    np.testing.assert_allclose(
        at.smooth_grad(net, [W, B], X, key=key, samples=7, noise=0.3, chunk_size=3), many, rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        at.smooth_grad(net, [W, B], X, key=key, samples=4, noise=0.0), at.gradient(net, [W, B], X), rtol=0, atol=1e-12
    )
    whole = at.integrated_gradients(net, [W, B], X, steps=10)
    np.testing.assert_allclose(
        at.integrated_gradients(net, [W, B], X, steps=10, chunk_size=4), whole, rtol=0, atol=1e-12
    )
    each = jnp.asarray([0, 2, 1])
    np.testing.assert_allclose(
        at.gradient(net, [W, B], X, each),
        jnp.stack([at.gradient(net, [W, B], x[None], int(t))[0] for x, t in zip(X, each, strict=True)]),
        rtol=0,
        atol=1e-12,
    )
    jitted = jax.jit(lambda p, x: at.lrp(net, p, x))([W, B], X)
    np.testing.assert_allclose(jitted, at.lrp(net, [W, B], X), rtol=0, atol=1e-12)


def test_refusals_name_what_is_wrong():
    for call, error, message in (
        (
            lambda: at.lrp(lambda p, x: jax.nn.softmax(net(p, x)), [W, B], X),
            NotImplementedError,
            r"`\w+` \(.*test_attr",
        ),
        (lambda: at.lrp(net, [W, B], X, rule="gamma"), ValueError, "rule"),
        (lambda: at.lrp(lambda p, x: 1 / (x @ p), W[0], X), NotImplementedError, "`div`"),
        (lambda: at.lrp(lambda p, x: jax.nn.relu(x) * 2, None, X, input_rule="w2"), ValueError, "input_rule: no layer"),
        (lambda: at.deep_taylor(net, [W, B], X), ValueError, r"low, high: x reaches from"),
        (lambda: at.lrp(net, [W, B], X, rule="alpha-beta", alpha=2.0), ValueError, "alpha - beta = 1"),
        (lambda: at.lrp(net, [W, B], X, epsilon=0.0), ValueError, "epsilon"),
        (lambda: at.gradient(net, [W, B], X, 3), ValueError, "outputs 0 to 2"),
        (lambda: at.gradient(net, [W, B], X, 0.5), TypeError, "target"),
        (lambda: at.gradient(lambda p, x: x.sum(), None, X), ValueError, r"jax\.vmap\(f, \(None, 0\)\)"),
        (lambda: at.gradient(net, [W, B], X.astype(jnp.int32)), TypeError, "x: got int32"),
        (lambda: at.integrated_gradients(net, [W, B], X, steps=0), ValueError, "steps"),
    ):
        with pytest.raises(error, match=message):
            call()
