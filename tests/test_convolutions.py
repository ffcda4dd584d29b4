"""Convolutions on the tape and in place: patches, channels, the theorem on circulant layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescramble as jd

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
FORMATS = {"NHWC": ("NHWC", "HWIO", "NHWC"), "NCHW": ("NCHW", "OIHW", "NCHW")}


def network(params, x, names, strides=(1, 1), padding="SAME", pool=True):
    """Two convolutions with a pooling between them, a mean over places, a dense layer."""
    channel = names[0].index("C")
    shape = tuple(-1 if i == channel else 1 for i in range(4))

    def convolve(x, layer):
        y = jax.lax.conv_general_dilated(x, params[layer]["kernel"], strides, padding, dimension_numbers=names)
        return jax.nn.relu(y + params[layer]["bias"].reshape(shape))

    x = convolve(x, "a")
    if pool:
        window = tuple(2 if letter in "HW" else 1 for letter in names[0])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
    x = convolve(x, "b")
    x = x.mean(axis=tuple(i for i in range(4) if names[0][i] in "HW"))
    return x @ params["c"]


def parameters(key, names, channels=(3, 5, 4)):
    keys = jax.random.split(key, 5)

    def kernel(key, into, out):
        sizes = {"H": 3, "W": 2, "I": into, "O": out}
        return jax.random.normal(key, [sizes[letter] for letter in names[1]])

    a, b, c = channels
    return {
        "a": {"kernel": kernel(keys[0], a, b), "bias": jax.random.normal(keys[1], (b,))},
        "b": {"kernel": kernel(keys[2], b, c), "bias": jax.random.normal(keys[3], (c,))},
        "c": jax.random.normal(keys[4], (c, 2)),
    }


def images(key, names, count=6):
    sizes = {"N": count, "H": 8, "W": 6, "C": 3}
    return jax.random.normal(key, [sizes[letter] for letter in names[0]])


@needs_x64
@pytest.mark.parametrize("names", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((2, 1), "VALID")])
def test_a_convolution_is_a_product_with_its_patches(key, names, strides, padding):
    params, x = parameters(key, names), images(key, names)
    f = lambda params, x: network(params, x, names, strides, padding, pool=False)  # noqa: E731
    y, taps = jax.jit(jd.wiretap(f))(params, x)
    np.testing.assert_allclose(y, f(params, x), rtol=1e-12)
    assert list(taps) == ["['a']['kernel']", "['b']['kernel']", "['c']"]
    for tap in taps.values():
        bias = 0 if tap.bias is None else tap.bias[:, None]
        np.testing.assert_allclose(tap.weight @ tap.input + bias, tap.preactivation, rtol=0, atol=1e-11)
    first = taps["['a']['kernel']"]
    assert first.weight.shape == (5, 3 * 3 * 2)
    assert (first.layout.into, first.layout.samples[0]) == ((3, 3, 2), 6)
    np.testing.assert_allclose(first.activation, jax.nn.relu(first.preactivation), rtol=0, atol=0)
    # The same channel and place in the window everywhere: the weight is the kernel, rearranged.
    kernel = jnp.transpose(params["a"]["kernel"], [names[1].index(letter) for letter in "OIHW"])
    np.testing.assert_array_equal(first.weight, kernel.reshape(5, -1))


@needs_x64
@pytest.mark.parametrize("names", FORMATS.values(), ids=FORMATS.keys())
def test_channels_are_permuted_in_place_and_the_function_is_the_same(key, names):
    params, x = parameters(key, names), images(key, names)
    f = lambda params, x: network(params, x, names)  # noqa: E731
    for name, order in (("['a']['kernel']", [3, 0, 4, 1, 2]), ("['b']['kernel']", [2, 3, 1, 0])):
        same = jd.reorder(f, params, x, name, order)
        np.testing.assert_allclose(f(same, x), f(params, x), rtol=1e-12)
        taps, before = jd.wiretap(f)(same, x)[1], jd.wiretap(f)(params, x)[1]
        np.testing.assert_array_equal(taps[name].preactivation, before[name].preactivation[jnp.asarray(order)])
    with pytest.raises(ValueError, match="function's result"):
        jd.reorder(f, params, x, "['c']", [1, 0])


@needs_x64
def test_depthwise_convolutions_carry_their_channels_and_groups_do_not(key):
    names = FORMATS["NHWC"]
    keys = jax.random.split(key, 3)
    params = {
        "a": jax.random.normal(keys[0], (1, 1, 3, 4)),
        "b": jax.random.normal(keys[1], (3, 3, 1, 4)),
        "c": jax.random.normal(keys[2], (4, 2)),
    }
    x = images(key, names)

    def f(params, x, groups=4):
        x = jnp.tanh(jax.lax.conv_general_dilated(x, params["a"], (1, 1), "SAME", dimension_numbers=names))
        x = jax.lax.conv_general_dilated(
            x, params["b"], (1, 1), "SAME", dimension_numbers=names, feature_group_count=groups
        )
        return jnp.tanh(x).mean(axis=(1, 2)) @ params["c"]

    same = jd.reorder(f, params, x, "['a']", [2, 0, 3, 1])
    np.testing.assert_allclose(f(same, x), f(params, x), rtol=1e-12)
    np.testing.assert_array_equal(same["b"], params["b"][..., jnp.asarray([2, 0, 3, 1])])
    paired = params | {"b": jax.random.normal(keys[1], (3, 3, 2, 4))}
    with pytest.raises(ValueError, match="splits their axis"):
        jd.reorder(lambda params, x: f(params, x, 2), paired, x, "['a']", [2, 0, 3, 1])


@needs_x64
def test_a_frame_put_in_at_channels_leaves_the_function_alone_and_at_patches_is_refused(key):
    names = FORMATS["NHWC"]
    params, x = parameters(key, names), images(key, names)
    f = lambda params, x: network(params, x, names)  # noqa: E731
    P = jd.manifolds.orthogonal.random(key, 5)
    g = jd.insert(f, params, x, {"['a']['kernel']": P})
    np.testing.assert_allclose(g(params, x), f(params, x), rtol=1e-10)
    with pytest.raises(ValueError, match="patches overlap"):
        jd.insert(f, params, x, {}, {"['b']['kernel']": jnp.eye(30)})
    layers = jd.descramble_network(f, params, x)
    tap = jd.wiretap(f)(params, x)[1]["['a']['kernel']"]
    np.testing.assert_allclose(layers["['a']['kernel']"].output.value, jd.descramble(tap.preactivation).value)


@pytest.mark.thorough
@needs_x64
def test_a_circular_convolution_of_stationary_signals_is_descrambled_by_a_permutation_of_waves(key):
    # The layer's map over places is circulant and shares the waves of the derivative: P W is a permutation of modes.
    n, keys = 16, jax.random.split(key, 3)
    params = {"kernel": jax.random.normal(keys[0], (1, 1, 5))}

    def f(params, x):
        wrapped = jnp.concatenate([x[:, None, -2:], x[:, None], x[:, None, :2]], axis=2)
        y = jax.lax.conv_general_dilated(wrapped, params["kernel"], (1,), "VALID")
        return jnp.tanh(y)

    tap = jd.wiretap(f)(params, jax.random.normal(keys[1], (3, n)))[1]["['kernel']"]
    assert tap.layout.samples == (3, n)
    taps = np.zeros(n)
    taps[:3], taps[-2:] = np.asarray(params["kernel"])[0, 0, 2::-1], np.asarray(params["kernel"])[0, 0, :2:-1]
    W = jnp.asarray(np.stack([np.roll(taps, k) for k in range(n)], axis=1))
    np.testing.assert_allclose((W @ tap.input[2].reshape(3, n).T).T.ravel(), tap.preactivation[0], atol=1e-12)
    objective = jd.objectives.smoothness()
    D, found = objective.operator(n), jd.exact.from_weights(W, objective=objective)
    # The slowest wave gets what the kernel lets through best, and so on: from waves of that gain alone.
    gain = np.repeat(np.abs(np.fft.rfft(taps)) ** 2, D.multiplicities)
    np.testing.assert_allclose(found.singular_values**2, np.sort(gain)[::-1], rtol=1e-9)
    share = np.asarray(D.analyse(found.point @ D.basis)) ** 2
    first = 0
    for k in D.multiplicities:  # within a pair the gauge is free
        slots = np.arange(first, first + k)
        heard = np.isclose(gain[:, None], np.sort(gain)[::-1][None, slots], rtol=1e-6).any(axis=1)
        np.testing.assert_allclose(share[slots][:, heard].sum(), k, rtol=1e-9)
        first += k
    assert not np.allclose(share, np.eye(n), atol=0.5)  # this kernel is no low-pass: the waves do change places
    circle = jd.exact.circulant_minimiser(jnp.fft.irfft(np.abs(np.fft.rfft(taps)) ** 2, n))
    np.testing.assert_allclose(circle.value, found.value, rtol=1e-9)


def wrapped_network(params, x):
    """Two convolutions on a circle, one channel after another: what the first hears is stationary if x is."""
    h = x[:, None]
    for k, name in enumerate(("first", "second")):
        around = jnp.concatenate([h[..., -2:], h, h[..., :2]], axis=2)
        h = jax.lax.conv_general_dilated(around, params[name], (1,), "VALID")
        h = jnp.tanh(h) if k == 0 else h
    return h[:, 0]


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize(("task", "is_low_pass"), [("denoise", True), ("edges", False)])
def test_trained_convolutions_are_descrambled_by_the_permutation_that_their_gains_predict(key, task, is_low_pass):
    """The optimal P lays the wave that the channel says loudest on the slowest, and so on: nothing for a low-pass."""
    n, frequency = 16, np.abs(np.fft.fftfreq(16, 1 / 16))
    power = 1 / (1 + frequency**2)

    def batch(key, size=256):
        clean, noise = jax.random.normal(key, (2, size, n))
        clean = jnp.fft.ifft(jnp.fft.fft(clean) * jnp.sqrt(power)[None]).real
        wanted = clean if task == "denoise" else clean - (jnp.roll(clean, 2, 1) + jnp.roll(clean, -2, 1)) / 2
        return clean + 0.3 * noise, wanted

    optimiser = optax.adam(1e-2)

    @jax.jit
    def train(params, keys):
        def step(carry, key):
            params, state = carry
            x, wanted = batch(key)
            slope = jax.grad(lambda p: jnp.mean((wrapped_network(p, x) - wanted) ** 2))(params)
            updates, state = optimiser.update(slope, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimiser.init(params)), keys)[0][0]

    start = {"first": 0.3 * jax.random.normal(key, (1, 1, 5)), "second": 0.3 * jax.random.normal(key, (1, 1, 5))}
    params = train(start, jax.random.split(key, 600))
    x, wanted = batch(jax.random.key(9), 20_000)
    assert jnp.mean((wrapped_network(params, x) - wanted) ** 2) < 0.5 * jnp.mean(wanted**2)
    tap = jd.wiretap(wrapped_network)(params, x)[1]["['first']"]
    S = tap.preactivation[0].reshape(-1, n).T
    found = jd.descramble(S)
    # What the channel says of each wave: the input's power through the kernel's gain.
    kernel = np.zeros(n)
    kernel[:3], kernel[-2:] = np.asarray(params["first"])[0, 0, 2::-1], np.asarray(params["first"])[0, 0, :2:-1]
    said = (power + 0.09) * np.abs(np.fft.fft(kernel)) ** 2
    D = jd.objectives.smoothness().operator(n)
    modes = np.concatenate([[0], np.repeat(np.arange(1, n // 2), 2), [n // 2]])
    order = np.argsort(-said[modes], kind="stable")
    share = np.asarray(D.analyse(found.point @ D.basis)) ** 2
    # Within a pair of places the gauge is free, and waves that are equally loud to the samples' error share places.
    loud, first, there = said[modes], 0, 0.0
    for k in D.multiplicities:
        places = slice(first, first + k)
        near = (np.abs(np.log(loud[:, None] / loud[order][None, places])) < 0.05).any(axis=1)
        there += share[places][:, near].sum()
        first += k
    assert there > 0.97 * n
    np.testing.assert_allclose(found.bound, (np.sort(loud)[::-1] * np.asarray(D.eigenvalues)).sum()
                               / (np.max(D.eigenvalues) * loud.sum()), rtol=0.03)  # fmt: skip
    assert (list(order) == list(range(n))) == is_low_pass


GEOMETRIES = {
    "strides and even windows": (("NCHW", "OIHW", "NHWC"), (2, 3), ((1, 0), (0, 2)), (1, 1), (1, 1)),
    "holes in the window": (("NHWC", "HWIO", "NCHW"), (1, 2), ((3, 2), (1, 1)), (1, 1), (2, 3)),
    "transposed": (("NHWC", "HWIO", "NHWC"), (1, 1), ((1, 2), (0, 1)), (2, 3), (1, 1)),
    "edges cut off": (("CNHW", "IOHW", "NCHW"), (2, 1), ((-1, 0), (1, -2)), (1, 2), (1, 2)),
}


@pytest.mark.parametrize(("names", "strides", "padding", "holes", "spread"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_patches_are_what_every_geometry_multiplies(names, strides, padding, holes, spread):
    sizes = {"N": 2, "C": 3, "H": 8, "W": 9, "O": 4, "I": 3}
    x = jax.random.normal(jax.random.key(1), [sizes[letter] for letter in names[0]])
    kernel = jax.random.normal(jax.random.key(2), [3 if letter in "HW" else sizes[letter] for letter in names[1]])

    def f(params, x):
        return jax.lax.conv_general_dilated(
            x, params, strides, padding, lhs_dilation=holes, rhs_dilation=spread, dimension_numbers=names,
            precision="highest",
        )  # fmt: skip

    y, taps = jax.jit(jd.wiretap(f))(kernel, x)
    (tap,) = taps.values()
    order = [names[2].index(letter) for letter in "CNHW"]
    expected = jnp.transpose(y, order).reshape(4, -1)
    np.testing.assert_allclose(tap.preactivation, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(tap.weight @ tap.input, expected, rtol=1e-5, atol=1e-5)
