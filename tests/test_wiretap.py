"""The tape: signals equal the frameworks' own, whatever order of axes, batching or nesting a framework uses."""

import subprocess
import sys

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdescramble._base.cautions import JaxdescrambleWarning
from jaxdescramble.networks.taps import Tap, insert, wiretap


@pytest.fixture(autouse=True)
def models_may_promote_ranks():
    """What stands here for users' models is written as users write; `tapped` holds the library to the stricter rule."""
    with jax.numpy_rank_promotion("allow"):
        yield


def loose(f):
    def wrapped(params, x):
        with jax.numpy_rank_promotion("allow"):
            return f(params, x)

    return wrapped


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(max(shape[:1] or (1,))), float)


def close(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    tolerance = 100 * float(jnp.finfo(expected.dtype).eps) * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


def affine(tap):
    product = np.matmul(tap.weight, tap.input)
    return product if tap.bias is None else product + np.asarray(tap.bias)[..., None]


def tapped(f, params, x, eager=False):
    """The taps of f, jitted and perhaps not: the function is unchanged and every layer is what it says."""
    with jax.numpy_rank_promotion("raise"):
        result, taps = jax.jit(wiretap(loose(f)))(params, x)
        if eager:  # every operation compiled by itself: slow
            jax.tree.map(close, wiretap(loose(f))(params, x), (result, taps))
    jax.tree.map(close, result, jax.jit(f)(params, x))
    for tap in taps.values():
        layout, lead = tap.layout, len(tap.layout.lead)
        sizes = (np.prod(layout.out, dtype=int), np.prod(layout.samples, dtype=int))
        assert tap.preactivation.shape == (*layout.lead, *sizes)
        assert tap.input.shape[lead:] == (np.prod(layout.into, dtype=int), sizes[1])
        assert tap.weight.shape == (*layout.lead, sizes[0], tap.input.shape[-2])
        close(affine(tap), tap.preactivation)
    return taps


def columns(value):
    """(..., features) -> (features, samples)."""
    return np.asarray(value).reshape(-1, value.shape[-1]).T


MLP = {"a": normal(1, 4, 6), "b": normal(2, 6), "c": normal(3, 6, 3), "d": normal(4, 3)}
X = normal(5, 7, 4)


def mlp(params, x, activation=jnp.tanh):
    return activation(x @ params["a"] + params["b"]) @ params["c"] + params["d"]


# ---------------------------------------------------------------------------------------------- plain functions


def test_multilayer_perceptron():
    taps = tapped(mlp, MLP, X, eager=True)
    assert list(taps) == ["['a']", "['c']"]
    first, second = taps.values()
    np.testing.assert_array_equal(first.weight, MLP["a"].T)
    np.testing.assert_array_equal(first.bias, MLP["b"])
    np.testing.assert_array_equal(first.input, X.T)
    close(first.preactivation, (X @ MLP["a"] + MLP["b"]).T)
    close(first.activation, jnp.tanh(X @ MLP["a"] + MLP["b"]).T)
    close(second.input, first.activation)
    assert second.activation is None
    assert (first.layout.from_input, first.layout.to_output) == (True, False)
    assert (second.layout.from_input, second.layout.to_output) == (False, True)


@pytest.mark.parametrize(
    "activation",
    [jax.nn.relu, jax.nn.gelu, jax.nn.softplus, jax.nn.leaky_relu, jax.nn.silu, jax.nn.elu, jax.nn.selu, jax.nn.mish],
    ids=lambda activation: activation.__name__,
)
def test_activation_is_found_whatever_it_is_made_of(activation):
    first = tapped(lambda params, x: mlp(params, x, activation), MLP, X)["['a']"]
    close(first.activation, activation(X @ MLP["a"] + MLP["b"]).T)


def test_custom_derivatives_survive():
    @jax.custom_vjp
    def strange(v):
        return jnp.sin(v)

    strange.defvjp(lambda v: (jnp.sin(v), v), lambda v, g: (7.0 * g,))

    def f(params, x):
        return mlp(params, x, strange)

    close(tapped(f, MLP, X)["['a']"].activation, jnp.sin(X @ MLP["a"] + MLP["b"]).T)

    def loss(params, function):
        return function(params, X).sum()

    jax.tree.map(close, jax.grad(loss)(MLP, lambda p, x: wiretap(f)(p, x)[0]), jax.grad(loss)(MLP, f))

    # relu at zero: its own rule says 0, `max` would say 1/2
    def relu(w, x):
        return jax.nn.relu(x @ w)

    assert float(jax.grad(lambda w: wiretap(relu)(w, jnp.ones((1, 1)))[0].sum())(jnp.zeros((1, 1)))[0, 0]) == 0.0


def test_bare_array_and_both_operands_from_parameters():
    w = normal(1, 4, 4)
    taps = tapped(lambda w, x: (w @ w) @ (w @ x.T), w, X)  # only w @ x is a layer: w @ w is computed from parameters
    assert list(taps) == ["params"]
    np.testing.assert_array_equal(taps["params"].weight, w)
    close(taps["params"].preactivation, w @ X.T)
    with pytest.warns(JaxdescrambleWarning, match=r"\['w'\] \(4, 4\), \['x'\] \(7, 4\) by `dot_general`"):
        assert tapped(lambda p, x: x + p["x"] @ p["w"], {"x": X, "w": normal(2, 4, 4)}, X) == {}


def test_a_warning_points_at_the_line_that_called_the_package():
    """In a process of its own: the suite's checks of shapes stand between the package and its caller."""
    program = "import warnings, jax.numpy as jnp, jaxdescramble as jd\n"
    program += "with warnings.catch_warnings(record=True) as seen:\n"
    program += (
        "    jd.wiretap(lambda p, x: x + p['x'] @ p['w'])({'x': jnp.ones((7, 4)), 'w': jnp.eye(4)}, jnp.ones((7, 4)))\n"
    )
    program += "print(seen[0].filename, seen[0].lineno)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["<string>", "3"]


def test_tied_weights_are_numbered():
    def f(params, x):
        return jnp.tanh(x @ params["w"]) @ params["w"].T

    params = {"w": normal(1, 4, 6)}
    taps = tapped(f, params, X)
    assert list(taps) == ["['w']", "['w']#2"]
    np.testing.assert_array_equal(taps["['w']#2"].weight, params["w"])
    np.testing.assert_array_equal(taps["['w']"].weight, params["w"].T)


def test_slices_of_a_fused_kernel_are_told_apart():
    def f(params, x):
        q, k = jnp.split(params["qk"], 2, axis=1)
        return jnp.tanh(x @ q) * (x @ params["qk"][:, 3:]) + jnp.sin(x @ k)

    params = {"qk": normal(1, 4, 6)}
    taps = tapped(f, params, X)
    assert list(taps) == ["['qk'][:, 0:3]", "['qk'][:, 3:6]", "['qk'][:, 3:6]#2"]
    np.testing.assert_array_equal(taps["['qk'][:, 0:3]"].weight, params["qk"][:, :3].T)
    np.testing.assert_array_equal(taps["['qk'][:, 3:6]#2"].weight, params["qk"][:, 3:].T)


def test_mixer_folds_the_axes_that_are_not_mixed():
    def f(params, x):  # (batch, tokens, channels)
        hidden = jax.nn.gelu(jnp.einsum("btc,th->bhc", x, params["up"]) + params["shift"][:, None])
        x = x + jnp.einsum("bhc,ht->btc", hidden, params["down"])
        return x + jnp.tanh(x @ params["channels"])

    params = {"up": normal(1, 5, 8), "shift": normal(2, 8), "down": normal(3, 8, 5), "channels": normal(4, 4, 4)}
    x = normal(5, 3, 5, 4)
    taps = tapped(f, params, x)
    assert set(taps) == {"['up']", "['down']", "['channels']"}
    up = taps["['up']"]
    assert up.layout.samples == (3, 4)
    np.testing.assert_array_equal(up.bias, params["shift"])
    np.testing.assert_array_equal(up.input, x.transpose(1, 0, 2).reshape(5, 12))
    close(up.activation, jax.nn.gelu(params["up"].T @ up.input + params["shift"][:, None]))
    close(
        taps["['channels']"].input,
        columns(x + jnp.einsum("bhc,ht->btc", up.activation.reshape(8, 3, 4).transpose(1, 0, 2), params["down"])),
    )


def test_constants_end_the_preactivation_where_they_are_no_bias():
    gain = jnp.linspace(1.0, 2.0, 6)

    def f(params, x):
        scaled = (x @ params["a"]) * 0.5  # a number written into the function
        positional = x @ params["c"] + params["p"]  # varies over the samples
        fixed = (x @ params["d"] - gain) / params["s"]  # a constant array, and a learned number
        return jnp.tanh(scaled), jnp.tanh(positional), jnp.tanh(1 / (2 - fixed))

    params = {"a": normal(1, 4, 6), "c": normal(2, 4, 6), "p": normal(3, 7, 6), "d": normal(4, 4, 6)}
    params["s"] = jnp.asarray(2.5)
    taps = tapped(f, params, X)
    close(taps["['a']"].preactivation, (X @ params["a"]).T)
    close(taps["['a']"].activation, jnp.tanh(X @ params["a"] / 2).T)
    close(taps["['c']"].preactivation, (X @ params["c"]).T)
    assert taps["['a']"].bias is None
    assert taps["['c']"].bias is None
    close(taps["['d']"].bias, -gain / 2.5)
    close(taps["['d']"].weight, params["d"].T / 2.5)
    close(taps["['d']"].preactivation, (X @ params["d"] - gain).T / 2.5)


def test_affine_steps_from_either_side():
    def f(params, x):
        value = params["b"] - x @ params["a"]
        return jnp.tanh(params["g"] * (value.T[:, None] / params["h"][:, None, None])[:, 0].T + params["b"])

    params = {"a": normal(1, 4, 6), "b": normal(2, 6), "g": normal(3, 6), "h": 2 + normal(4, 6)}
    tap = tapped(f, params, X)["['a']"]
    scale = params["g"] / params["h"]
    close(tap.weight, -(params["a"] * scale).T)
    close(tap.bias, scale * params["b"] + params["b"])
    close(jnp.tanh(tap.preactivation), f(params, X).T)


def test_two_ways_out_are_no_activation():
    def f(params, x):
        v = x @ params["w"]
        return jnp.tanh(v).sum() + jnp.sin(v).sum(), (x @ params["u"]).sum()

    taps = tapped(f, {"w": normal(1, 4, 4), "u": normal(2, 4, 4)}, X)
    assert taps["['w']"].activation is None
    assert taps["['u']"].activation is None


def test_lookups_and_attention_products_are_no_layers():
    def f(params, x):
        tokens, y = x
        return (params["table"][tokens] @ (y @ params["w"]).T) @ y

    params = {"table": normal(1, 11, 5), "w": normal(2, 4, 5)}
    taps = tapped(f, params, (jnp.array([1, 4, 4]), X))
    assert list(taps) == ["['w']"]
    assert taps["['w']"].layout.from_input


def test_computed_weights_are_passed_over_and_convolutions_are_not():
    def f(params, x):
        x = jax.lax.conv_general_dilated(x, params["kernel"], (1,), "SAME")
        normed = params["v"] / jnp.linalg.norm(params["v"], axis=0)
        return jnp.tanh(x.reshape(x.shape[0], -1) @ normed) @ params["w"]

    params = {"kernel": normal(1, 3, 2, 3), "v": normal(2, 12, 5), "w": normal(3, 5, 2)}
    with pytest.warns(JaxdescrambleWarning, match=r"\['v'\] \(12, 5\) by `dot_general` .*, with a weight that f comp"):
        taps = tapped(f, params, normal(4, 7, 2, 4))
    assert list(taps) == ["['kernel']", "['w']"]
    assert not taps["['w']"].layout.from_input


def test_half_precision_and_no_samples():
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), MLP)
    taps = jax.jit(wiretap(lambda params, x: mlp(jax.tree.map(lambda p: p.astype(x.dtype), params), x)))(half, X)[1]
    np.testing.assert_array_equal(taps["['a']"].weight, half["a"].T.astype(X.dtype))  # as it is used, in x's type
    g = insert(mlp, half, X.astype(jnp.bfloat16), {"['a']": 2 * jnp.eye(6)})
    result = g(half, X.astype(jnp.bfloat16))
    assert result.dtype == jnp.bfloat16
    np.testing.assert_allclose(result.astype(float), mlp(half, X.astype(jnp.bfloat16)).astype(float), atol=0.05)
    assert tapped(mlp, MLP, X[:0])["['a']"].activation.shape == (6, 0)


def test_effects_stay(capfd):
    def f(params, x):
        jax.debug.print("sum {}", x.sum())
        return mlp(params, x)

    assert list(wiretap(f)(MLP, jnp.ones((3, 4)))[1]) == ["['a']", "['c']"]
    jax.effects_barrier()
    assert capfd.readouterr().out.count("sum 12.0") == 1


def test_single_sample_and_single_unit():
    def f(params, x):
        return jnp.tanh(x @ params["w"] + params["b"])

    tap = tapped(f, {"w": normal(1, 4, 1), "b": normal(2, 1)}, X[0])["['w']"]
    assert (tap.weight.shape, tap.input.shape, tap.layout.samples) == ((1, 4), (4, 1), ())
    tap = tapped(lambda w, x: jnp.dot(x, w), normal(1, 4), X)["params"]
    assert (tap.weight.shape, tap.layout.out) == ((1, 4), ())


SQUARE, KERNEL = normal(6, 4, 4), normal(7, 4, 1, 3)


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(x[:4, None], kernel, (1,), "SAME", batch_group_count=4)[0]


# By name: the function, and for each line of the warning the parameters and the operation.
UNREAD = {
    "a Fourier transform": (
        lambda p, x: jnp.fft.ifft(jnp.fft.fft(p["c"].sum(0)) * jnp.fft.fft(x)).real,
        r"\['c'\] \(4, 4\) by `fft` \(.*test_wiretap.py:\d+",
    ),
    "a filter in frequency": (lambda p, x: jnp.fft.ifft(p["c"][None] * jnp.fft.fft(x[:, None])).real, r"by `fft`"),
    "a convolution in groups of samples": (
        lambda p, x: convolved(x @ p["r"], p["k"]),
        r"\['k'\] \(4, 1, 3\) by `conv_general_dilated` \(.*\), a convolution in groups of samples",
    ),
    "a sum of low rank": (
        lambda p, x: jnp.tanh(x @ (p["c"] + p["a"] @ p["b"])) @ p["r"],
        r"\['a'\] \(4, 2\), \['b'\] \(2, 4\), \['c'\] \(4, 4\) by `dot_general` .*, with a weight that f computes",
    ),
    "quantised": (
        lambda p, x: x @ (p["i"].astype(x.dtype) * p["a"][:, :1]),
        r"\['a'\] .*, \['i'\] \(4, 4\) by `dot_general`",
    ),
    "rounded": (lambda p, x: x @ jnp.round(p["c"]), r"\['c'\] \(4, 4\) by `dot_general`"),
    "side by side": (lambda p, x: x @ jnp.concatenate([p["c"], p["a"]], 1), r"\['a'\] .*, \['c'\] .* by `dot_general`"),
    "experts": (
        lambda p, x: jnp.einsum("bi,bij->bj", x, p["e"][jnp.argmax(x, 1) % 2]),
        r"\['e'\] \(2, 4, 4\) by `gather`",
    ),
    "a solve": (lambda p, x: jax.scipy.linalg.solve_triangular(p["c"], x.T), r"\['c'\] .* by `triangular_solve`"),
    "normed in a scan": (
        lambda p, x: jax.lax.scan(lambda x, w: (x @ (w / jnp.linalg.norm(w)), None), x, p["e"])[0],
        r"\['e'\] \(2, 4, 4\) by `dot_general`",
    ),
    "chosen by a branch": (
        lambda p, x: x @ jax.lax.cond(x[0, 0] > 0, lambda: p["c"], lambda: p["r"]),
        r"\['c'\] \(4, 4\), \['r'\] \(4, 4\) by `cond`",
    ),
}
WEIGHTS = {"c": SQUARE, "k": KERNEL, "r": SQUARE, "a": normal(8, 4, 2), "b": normal(9, 2, 4), "e": normal(3, 2, 4, 4)}
WEIGHTS["i"] = jnp.arange(16, dtype=jnp.int8).reshape(4, 4)


@pytest.mark.parametrize("name", UNREAD)
def test_matrices_of_no_layer_are_named_in_one_warning(name):
    f, message = UNREAD[name]
    with pytest.warns(JaxdescrambleWarning, match=message) as seen:
        result, _ = jax.eval_shape(wiretap(f), WEIGHTS, X)
    assert len(seen) == 1
    assert result.shape[0] in X.shape


def test_tables_scales_and_positions_are_no_such_matrices():
    def f(params, x):
        tokens, y = x
        y = jnp.concatenate([params["class"], y + params["table"][tokens]]) + params["positions"][:7]
        y = y * jnp.exp(params["scale"]) + jax.lax.dynamic_slice(params["table"], (tokens[0], 0), (7, 4))
        state, _ = jax.lax.scan(lambda state, v: (jnp.tanh(state @ params["w"] + v[None]), None), params["start"], y)
        state = state + jnp.tanh(params["by head"][tokens[:3]]).reshape(3, 4) @ params["w"]
        return state * params["w"].sum(), params["returned"] @ params["class"].T

    params = {
        "class": normal(1, 2, 4),
        "table": normal(2, 11, 4),
        "positions": normal(3, 9, 4),
        "scale": normal(4, 7, 4),
    }
    params |= {
        "by head": normal(8, 11, 2, 2),
        "w": normal(5, 4, 4),
        "start": normal(6, 3, 4),
        "returned": normal(7, 3, 4),
    }
    tokens = jnp.array([1, 4, 4, 0, 10])
    assert list(jax.eval_shape(wiretap(f), params, (tokens, X[:5]))[1]) == [
        "['w']",
        "['w']#2",
    ]  # a warning would be an error


# -------------------------------------------------------------------------------------- jit, vmap, remat, scan


def test_layers_keep_the_order_of_computation():
    def f(params, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x @ params["z"], params["b"])[0] @ params["a"]

    params, names = {"z": normal(1, 4, 6), "b": normal(2, 2, 6, 6), "a": normal(3, 6, 3)}, ["['z']", "['b']", "['a']"]
    taps = jax.jit(wiretap(f))(params, X)[1]
    assert list(taps) == names
    assert isinstance(taps, dict)
    assert taps == dict(taps)
    assert taps.keys() == wiretap(f)(params, X)[1].keys()
    assert repr(taps) == f"Layers({names})"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(taps)]
    assert paths[0] == "[\"['z']\"].weight"
    assert list(jax.vmap(wiretap(f), (None, 0))(params, X[:, None])[1]) == names
    doubled = jax.tree.map(lambda leaf: 2 * leaf, taps)
    assert list(doubled) == names
    np.testing.assert_array_equal(doubled["['a']"].weight, 2 * params["a"].T)


def test_remat_and_jit_are_opened():
    @jax.checkpoint
    def block(params, x):
        return jax.jit(lambda v: jnp.tanh(v) ** 2)(x @ params["a"] + params["b"])

    def f(params, x):
        return jax.jit(block)(params, x) @ params["c"]

    taps = tapped(f, MLP, X)
    assert list(taps) == ["['a']", "['c']"]
    close(taps["['a']"].activation, (jnp.tanh(X @ MLP["a"] + MLP["b"]) ** 2).T)


def test_vmap_over_samples_with_the_batch_axis_last():
    def f(params, x):
        return jax.vmap(lambda v: mlp(params, v), in_axes=1, out_axes=1)(x)

    taps = tapped(f, MLP, X.T)
    close(taps["['a']"].activation, jnp.tanh(X @ MLP["a"] + MLP["b"]).T)
    assert taps["['a']"].layout.samples == (7,)


def test_vmap_over_parameters_gives_a_leading_axis():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), MLP)
    taps = tapped(lambda params, x: jax.vmap(mlp, (0, None))(params, x), stacked, X)
    tap = taps["['a']"]
    assert (tap.layout.lead, tap.weight.shape) == ((3,), (3, 6, 4))
    np.testing.assert_array_equal(tap.weight, stacked["a"].transpose(0, 2, 1))
    close(tap.activation[1], jnp.tanh(2 * (X @ MLP["a"] + MLP["b"])).T)
    np.testing.assert_array_equal(taps["['c']"].bias, stacked["d"])
    assert (tap.input.shape, taps["['c']"].input.shape) == ((1, 4, 7), (3, 6, 7))  # the members' first layers share x


def test_wiretap_itself_under_vmap_and_grad():
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), MLP)
    _, taps = jax.vmap(wiretap(mlp), (0, None))(stacked, X)
    close(taps["['a']"].preactivation[1], 2 * (X @ MLP["a"] + MLP["b"]).T)
    assert taps["['a']"].layout == wiretap(mlp)(MLP, X)[1]["['a']"].layout

    def energy(params, read):
        return (read(params)["['a']"].activation ** 2).sum()

    gradient = jax.grad(energy)(MLP, lambda params: wiretap(mlp)(params, X)[1])
    expected = jax.grad(lambda params: (jnp.tanh(X @ params["a"] + params["b"]) ** 2).sum())(MLP)
    jax.tree.map(close, gradient, expected)
    assert isinstance(jax.eval_shape(wiretap(mlp), MLP, X)[1]["['c']"], Tap)


def test_weight_closed_over_in_a_scan_folds_time_into_samples():
    def f(params, xs):  # (time, batch, features)
        def step(state, x):
            state = jnp.tanh(state @ params["h"] + x @ params["i"] + params["b"])
            return state, state @ params["o"]

        return jax.lax.scan(step, jnp.zeros((xs.shape[1], 6)), xs, reverse=True)

    params = {"h": normal(1, 6, 6), "i": normal(2, 4, 6), "b": normal(3, 6), "o": normal(4, 6, 2)}
    xs = normal(5, 5, 3, 4)
    taps = tapped(f, params, xs)
    assert list(taps) == ["['h']", "['i']", "['o']"]
    state, states = jnp.zeros((3, 6)), []
    for x in xs[::-1]:
        states.append(state)
        state = jnp.tanh(state @ params["h"] + x @ params["i"] + params["b"])
    close(taps["['h']"].input, columns(jnp.stack(states[::-1])))
    close(taps["['i']"].preactivation, columns(xs @ params["i"]))
    assert taps["['i']"].layout.samples == (5, 3)
    assert taps["['i']"].layout.from_input
    assert not taps["['h']"].layout.from_input
    assert taps["['o']"].layout.to_output
    np.testing.assert_array_equal(taps["['h']"].weight, params["h"].T)


def test_weights_scanned_over_give_a_leading_axis_of_layers():
    def f(params, x):
        def layer(x, parts):
            return x + jnp.tanh(x @ parts["w"] + parts["b"]) @ parts["v"] + params["shared"], None

        return jax.lax.scan(layer, x, {name: params[name] for name in "wbv"})[0]

    params = {"w": normal(1, 3, 4, 8), "b": normal(2, 3, 8), "v": normal(3, 3, 8, 4), "shared": normal(4, 4)}
    taps = tapped(f, params, X, eager=True)
    tap = taps["['w']"]
    assert (tap.layout.lead, tap.layout.samples) == ((3,), (7,))
    np.testing.assert_array_equal(tap.weight, params["w"].transpose(0, 2, 1))
    np.testing.assert_array_equal(tap.bias, params["b"])
    x = X
    for i in range(3):
        close(tap.input[i], x.T)
        close(tap.activation[i], jnp.tanh(x @ params["w"][i] + params["b"][i]).T)
        x = x + jnp.tanh(x @ params["w"][i] + params["b"][i]) @ params["v"][i] + params["shared"]
    assert taps["['v']"].bias is None  # the stream comes between the product and what is added to both


def test_one_bias_for_all_layers_of_a_scan():
    def f(params, x):
        def layer(x, w):
            return jnp.tanh(params["gain"] * (x @ w + params["b"])), None

        return jax.lax.scan(layer, x, params["w"])[0]

    params = {"w": normal(1, 3, 4, 4), "b": normal(2, 4), "gain": normal(3, 4)}
    tap = tapped(f, params, X)["['w']"]
    close(tap.weight, params["gain"][:, None] * params["w"].transpose(0, 2, 1))
    close(tap.bias, np.tile(params["gain"] * params["b"], (3, 1)))
    close(tap.input[1], jnp.tanh(tap.preactivation[0]))


def test_nested_scans_keep_layers_and_time_apart():
    def f(params, xs):
        def step(state, x):
            def layer(y, parts):
                return jnp.tanh(y @ parts["w"] + x @ parts["u"] + params["b"]), None

            return jax.lax.scan(layer, state, {"w": params["w"], "u": params["u"]})[0], None

        return jax.lax.scan(step, xs[0], xs)[0]

    params = {"w": normal(1, 2, 4, 4), "u": normal(2, 2, 4, 4), "b": normal(3, 4)}
    xs = normal(4, 5, 3, 4)
    taps = tapped(f, params, xs)
    for name in ("w", "u"):
        tap = taps[f"['{name}']"]
        assert (tap.layout.lead, tap.layout.samples) == ((2,), (5, 3))
        np.testing.assert_array_equal(tap.weight, params[name].transpose(0, 2, 1))
    close(taps["['u']"].input[1], columns(xs))
    state, inputs = xs[0], []
    for x in xs:
        for i in range(2):
            if i == 1:
                inputs.append(state)
            state = jnp.tanh(state @ params["w"][i] + x @ params["u"][i] + params["b"])
    close(taps["['w']"].input[1], columns(jnp.stack(inputs)))


def test_what_a_scan_does_not_change_is_read_once():
    def f(params, x):
        def step(carry, _):
            state, weight = carry  # the weight is handed round unchanged
            return (jnp.tanh(state + x @ params["w"] + state @ weight), weight), None

        return jax.lax.scan(step, (x, params["v"]), length=4)[0][0]

    taps = tapped(f, {"w": normal(1, 4, 4), "v": normal(2, 4, 4)}, X, eager=True)
    assert taps["['w']"].layout.samples == (7,)
    assert taps["['v']"].layout.samples == (4, 7)


def test_loops_that_cannot_be_read_are_named():
    def looped(params, x):
        x = jax.lax.while_loop(lambda s: jnp.sum(s) < -1e9, lambda s: jnp.tanh(s @ params["w"]), x)
        return x @ params["v"]

    def branched(params, x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ params["w"], lambda x: x, x) @ params["v"]

    params = {"w": normal(1, 4, 4), "v": normal(2, 4, 4)}
    for f in (looped, branched):
        with pytest.warns(UserWarning, match=r"\['w'\] stands inside .*test_wiretap\.py"):
            result, taps = wiretap(f)(params, X)
        assert list(taps) == ["['v']"]
        close(result, f(params, X))

    def harmless(params, x):  # no layer inside: no warning, which would be an error here
        return jax.lax.cond(x[0, 0] > 0, lambda x: x * params["w"][0], lambda x: x, x) @ params["v"]

    assert list(tapped(harmless, params, X)) == ["['v']"]


# ------------------------------------------------------------------------------------------- heads of attention


def attention(q, k, v):
    """(batch, tokens, heads, features)"""
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1]))
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v)


@pytest.mark.parametrize("order", ["part, head, feature", "head, part, feature", "split first"])
def test_heads_of_a_fused_product(order):
    heads, features = 2, 3

    def f(params, x):
        qkv = x @ params["qkv"] + params["b"]
        if order == "split first":
            q, k, v = (part.reshape(*x.shape[:2], heads, features) for part in jnp.split(qkv, 3, axis=-1))
        elif order == "part, head, feature":
            q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, heads, features), 2, 0)
        else:
            q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], heads, 3, features), 3, 0)
        return attention(q, k, v).reshape(*x.shape[:2], -1) @ params["o"]

    params = {"qkv": normal(1, 4, 18), "b": normal(2, 18), "o": normal(3, 6, 4)}
    x = normal(4, 2, 5, 4)
    taps = tapped(f, params, x)
    tap = taps["['qkv']"]
    assert (tap.layout.lead, tap.weight.shape, tap.input.shape) == ((2,), (2, 9, 4), (1, 4, 10))
    rows = np.arange(18).reshape((2, 3, 3) if order == "head, part, feature" else (3, 2, 3))
    rows = rows[1].ravel() if order == "head, part, feature" else rows[:, 1].ravel()
    np.testing.assert_array_equal(tap.weight[1], params["qkv"].T[rows])
    np.testing.assert_array_equal(tap.bias[1], params["b"][rows])
    close(tap.preactivation[1], columns(x @ params["qkv"] + params["b"])[rows])
    assert taps["['o']"].layout.lead == ()


def test_no_heads_without_attention():
    def f(params, x):
        return jnp.einsum("nd,dhk->nhk", x, params["w"]), jnp.tanh(x @ params["u"]).reshape(7, 2, 3)

    taps = tapped(f, {"w": normal(1, 4, 2, 3), "u": normal(2, 4, 6)}, X)
    assert (taps["['w']"].layout.lead, taps["['w']"].layout.out, taps["['w']"].weight.shape) == ((), (2, 3), (6, 4))
    assert taps["['u']"].layout.lead == ()
    assert taps["['u']"].layout.to_output


# ------------------------------------------------------------------------------------------------- Flax linen


def capture(model, variables, x):
    apply = jax.jit(lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=["intermediates"]))
    return apply(variables, x)[1]["intermediates"]


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8)(tokens)
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(y, y)
        y = nn.Dense(12)(nn.LayerNorm()(x))
        return nn.Dense(5)((x + nn.Dense(8)(nn.gelu(y))).mean(axis=1))


def test_linen_transformer():
    model, tokens = LinenBlock(), jnp.array([[1, 2, 3, 4], [5, 6, 7, 0], [9, 9, 2, 1]])
    variables = jax.tree.map(
        lambda leaf: leaf + 0.1 * normal(3, *leaf.shape), jax.jit(model.init)(jax.random.key(0), tokens)
    )
    taps = tapped(model.apply, variables, tokens)
    seen = capture(model, variables, tokens)

    def name(*path):
        return "".join(f"['{part}']" for part in ("params", *path, "kernel"))

    assert set(taps) == {
        *(name("attention", part) for part in ("query", "key", "value", "out")),
        *(name(f"Dense_{i}") for i in range(3)),
    }
    for i in range(3):
        tap = taps[name(f"Dense_{i}")]
        assert tap.layout.samples == ((3,) if tap.weight.shape[0] == 5 else (3, 4))
        close(tap.preactivation, columns(seen[f"Dense_{i}"]["__call__"][0]))
    for part in ("query", "key", "value"):
        tap = taps[name("attention", part)]
        own = np.asarray(seen["attention"][part]["__call__"][0])  # (batch, tokens, heads, features)
        assert (tap.layout.lead, tap.weight.shape) == ((2,), (2, 4, 8))
        close(tap.preactivation, own.transpose(2, 3, 0, 1).reshape(2, 4, 12))
        close(tap.input[0], columns(seen["LayerNorm_0"]["__call__"][0]))
    out = taps[name("attention", "out")]
    assert (out.layout.into, out.layout.lead, out.weight.shape) == ((2, 4), (), (8, 8))
    close(out.preactivation, columns(seen["attention"]["out"]["__call__"][0]))


class LinenNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(6)(x))
        return nn.Dense(3)(nn.relu(x))


def test_linen_batch_norm_in_inference_is_folded_in():
    model = LinenNormed()
    variables = jax.jit(model.init)(jax.random.key(0), X)
    variables = jax.tree.map(lambda leaf: leaf + 0.3 * jnp.abs(normal(leaf.size, *leaf.shape)), variables)
    seen = capture(model, variables, X)
    taps = tapped(model.apply, variables, X)
    tap = taps["['params']['Dense_0']['kernel']"]
    close(tap.preactivation, seen["BatchNorm_0"]["__call__"][0].T)
    close(tap.activation, jax.nn.relu(seen["BatchNorm_0"]["__call__"][0]).T)
    norm, stats = variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
    scale = norm["scale"] / jnp.sqrt(stats["var"] + 1e-5)
    close(tap.weight, scale[:, None] * variables["params"]["Dense_0"]["kernel"].T)
    close(tap.bias, scale * (variables["params"]["Dense_0"]["bias"] - stats["mean"]) + norm["bias"])

    # closed over, the statistics are constants: the same
    def f(params, x):
        return model.apply({"params": params, "batch_stats": variables["batch_stats"]}, x)

    close(tapped(f, variables["params"], X)["['Dense_0']['kernel']"].bias, tap.bias)


def test_linen_gru_in_its_scan_and_stacked_layers():
    model = nn.RNN(nn.GRUCell(5))
    xs = normal(1, 3, 4, 2).astype(jnp.float32)  # (batch, time, features)
    variables = jax.jit(model.init)(jax.random.key(0), xs)
    variables = jax.tree.map(lambda leaf: leaf + normal(leaf.size, *leaf.shape).astype(leaf.dtype), variables)
    taps = tapped(model.apply, variables, xs)
    cell = variables["params"]["cell"]
    assert {name.split("'")[5] for name in taps} == {"ir", "iz", "in", "hr", "hz", "hn"}
    before = jnp.zeros((3, 1, 5), jnp.float32)
    states = jnp.concatenate([before, model.apply(variables, xs)[:, :-1]], axis=1)
    for name, tap in taps.items():
        part = name.split("'")[5]
        assert tap.layout.samples == (4, 3)
        own = (xs if part[0] == "i" else states).transpose(1, 0, 2) @ cell[part]["kernel"]
        close(tap.preactivation, columns(own + cell[part].get("bias", 0)))

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return x + nn.tanh(nn.Dense(4)(x)), None

    stack = nn.scan(nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)()
    variables = jax.jit(stack.init)(jax.random.key(0), X, None)
    (tap,) = tapped(lambda variables, x: stack.apply(variables, x, None)[0], variables, X).values()
    assert (tap.layout.lead, tap.layout.samples) == ((3,), (7,))
    close(tap.preactivation[0], (X @ jax.tree.leaves(variables)[1][0] + jax.tree.leaves(variables)[0][0]).T)


# ------------------------------------------------------------------------------------- nnx, Equinox and Haiku


def test_nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.norm, self.last = (
                nnx.Linear(4, 6, rngs=rngs),
                nnx.LayerNorm(6, rngs=rngs),
                nnx.Linear(6, 3, rngs=rngs),
            )

        def __call__(self, x):
            return self.last(self.norm(nnx.silu(self.first(x))))

    model = Model(nnx.Rngs(0))
    definition, state = nnx.split(model)
    taps = tapped(lambda state, x: nnx.merge(definition, state)(x), state, X)
    first, last = taps.values()
    assert [("first" in name, "last" in name) for name in taps] == [(True, False), (False, True)]
    close(first.preactivation, model.first(X).T)
    close(first.activation, nnx.silu(model.first(X)).T)
    close(last.input, model.norm(nnx.silu(model.first(X))).T)
    close(last.preactivation, model(X).T)


def test_equinox_under_vmap():
    model = eqx.nn.MLP(4, 3, 6, 2, activation=jax.nn.softplus, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_array)
    taps = tapped(lambda params, x: jax.vmap(eqx.combine(params, rest))(x), params, X)
    assert list(taps) == [".layers[0].weight", ".layers[1].weight", ".layers[2].weight"]
    x = X
    for layer, tap in zip(model.layers, taps.values(), strict=True):
        np.testing.assert_array_equal(tap.weight, layer.weight)
        np.testing.assert_array_equal(tap.bias, layer.bias)
        close(tap.input, x.T)
        close(tap.preactivation, jax.vmap(layer)(x).T)
        x = jax.nn.softplus(jax.vmap(layer)(x))


def test_equinox_attention_heads_and_recurrence():
    model = eqx.nn.MultiheadAttention(2, 6, use_query_bias=True, key=jax.random.key(0))
    params, rest = eqx.partition(model, eqx.is_array)
    x = normal(1, 3, 5, 6)
    taps = tapped(lambda params, x: jax.vmap(lambda t: eqx.combine(params, rest)(t, t, t))(x), params, x)
    for part in ("query", "key", "value"):
        tap, layer = taps[f".{part}_proj.weight"], getattr(model, f"{part}_proj")
        assert (tap.layout.lead, tap.weight.shape) == ((2,), (2, 3, 6))
        np.testing.assert_array_equal(tap.weight.reshape(6, 6), layer.weight)
        close(tap.preactivation.reshape(6, 15), columns(jax.vmap(jax.vmap(layer))(x)))
    assert taps[".output_proj.weight"].layout.lead == ()

    cell = eqx.nn.GRUCell(6, 4, key=jax.random.key(1))
    params, rest = eqx.partition(cell, eqx.is_array)

    def f(params, x):
        cell = eqx.combine(params, rest)
        return jax.lax.scan(lambda state, value: (cell(value, state), None), jnp.zeros(4), x)[0]

    taps = tapped(f, params, x[0])
    close(taps[".weight_ih"].preactivation, cell.weight_ih @ x[0].T + cell.bias[:, None])
    assert taps[".weight_hh"].layout.samples == (5,)


def test_haiku():
    def network(x):
        y = hk.Linear(6, name="first")(x[-1])
        core = hk.GRU(5)
        states, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))
        return hk.Linear(3, name="last")(jax.nn.relu(y)), states

    model = hk.without_apply_rng(hk.transform(network))
    x = normal(1, 4, 3, 2)
    params = jax.tree.map(lambda leaf: leaf + normal(leaf.size, *leaf.shape), jax.jit(model.init)(jax.random.key(0), x))
    taps = tapped(model.apply, params, x)
    first, last = taps["['first']['w']"], taps["['last']['w']"]
    close(first.preactivation, (x[-1] @ params["first"]["w"] + params["first"]["b"]).T)
    close(first.activation, jax.nn.relu(x[-1] @ params["first"]["w"] + params["first"]["b"]).T)
    close(last.preactivation, model.apply(params, x)[0].T)
    close(taps["['gru']['w_i']"].preactivation, columns(x @ params["gru"]["w_i"]))
    # one kernel, used in two slices: update and reset together, then the candidate
    recurrent = [tap for name, tap in taps.items() if "w_h" in name]
    assert sorted(tap.weight.shape for tap in recurrent) == [(5, 5), (10, 5)]
    assert all(tap.layout.samples == (4, 3) for tap in recurrent)


# ------------------------------------------------------------------------------------------------------ insert


def counted(g, params, x):
    return str(jax.make_jaxpr(g)(params, x)).count("custom_linear_solve[")


def frame(seed, *shape):
    return 2 * jnp.eye(shape[-1]) + normal(seed, *shape)


def test_insert_leaves_the_function_as_it_is():
    g = insert(mlp, MLP, X, {"['a']": frame(1, 6, 6)}, inputs={"['c']": frame(2, 6, 6), "['a']": frame(3, 4, 4)})
    close(g(MLP, X), mlp(MLP, X))
    close(jax.jit(g)(MLP, X[:2]), mlp(MLP, X[:2]))  # another batch size
    close(jax.grad(lambda p: g(p, X).sum())(MLP)["a"], jax.grad(lambda p: mlp(p, X).sum())(MLP)["a"])


def test_what_is_inserted_stands_in_the_path():
    broken = {6: jnp.eye(6).at[2, 3].set(jnp.nan), 4: jnp.eye(4).at[0, 0].set(jnp.nan)}
    assert np.isnan(insert(mlp, MLP, X, {"['a']": broken[6]})(MLP, X)).all()
    assert np.isnan(insert(mlp, MLP, X, {}, inputs={"['a']": broken[4]})(MLP, X)).all()

    # at one layer's input only: the other reads the same x and stays whole
    def f(params, x):
        return (x @ params["u"], x @ params["v"])

    params = {"u": normal(1, 4, 4), "v": normal(2, 4, 4)}
    u, v = insert(f, params, X, {}, inputs={"['u']": broken[4]})(params, X)
    assert np.isnan(u).all()
    close(v, X @ params["v"])


def test_insert_in_a_scan_takes_each_layer_its_own():
    def f(params, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params)[0]

    params = normal(1, 3, 4, 4)
    points = frame(2, 3, 4, 4)
    g = insert(f, params, X, {"params": points}, inputs={"params": points[0]})
    close(g(params, X), f(params, X))
    assert np.isnan(insert(f, params, X, {"params": points.at[1].set(jnp.nan)})(params, X)).all()

    def rnn(w, xs):
        return jax.lax.scan(lambda state, x: (jnp.tanh(state @ w + x), state), jnp.zeros((3, 4)), xs)

    xs = normal(3, 5, 3, 4)
    jax.tree.map(close, insert(rnn, params[0], xs, {"params": points[1]})(params[0], xs), rnn(params[0], xs))


@pytest.mark.thorough
def test_insert_at_heads():
    model = nn.MultiHeadDotProductAttention(num_heads=2)
    x = normal(1, 2, 5, 6)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    name = "['params']['query']['kernel']"
    for point in (frame(2, 2, 3, 3), frame(3, 3, 3)):
        g = insert(model.apply, variables, x, {name: point}, inputs={name: frame(4, 1, 6, 6)})
        close(g(variables, x), model.apply(variables, x))
    broken = insert(model.apply, variables, x, {name: frame(2, 2, 3, 3).at[1].set(jnp.nan)})
    assert np.isnan(broken(variables, x)).all()


def test_insert_takes_orthogonal_matrices_by_their_transposes_and_differentiates_as_ever():
    turn = jnp.linalg.qr(normal(1, 6, 6))[0]

    def summed(point):
        return insert(mlp, MLP, X, {"['a']": point})(MLP, X).sum()

    value, slope = jax.jit(jax.value_and_grad(summed))(turn)
    close(value, mlp(MLP, X).sum())
    close(slope, jnp.zeros((6, 6)))
    close(jax.jvp(jax.grad(summed), (turn,), (frame(2, 6, 6),))[1], jnp.zeros((6, 6)))
    close(jax.vmap(summed)(jnp.stack([turn, frame(2, 6, 6)])), jnp.full(2, value))


def test_inserting_badly():
    with pytest.raises(ValueError, match=r"no layer \['z'\]; there are \['a'\], \['c'\]"):
        insert(mlp, MLP, X, {"['z']": jnp.eye(6)})
    with pytest.raises(ValueError, match=r"got shape \(5, 5\); the layer takes \(6, 6\)"):
        insert(mlp, MLP, X, {"['a']": jnp.eye(5)})
    with pytest.raises(ValueError, match=r"inputs.*\(4, 4\)"):
        insert(mlp, MLP, X, {}, inputs={"['a']": jnp.eye(5)})
    with pytest.raises(TypeError, match=r"params\['f'\]: got function"):
        wiretap(mlp)({**MLP, "f": mlp}, X)
