"""First-order expansions of smooth networks: `project(..., jacobian=True)` against autodiff and finite differences."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.attribution.switched import centre, gates, project

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


P = {"a": normal(0, 6, 5), "b": normal(1, 1, 5), "c": normal(2, 5, 4), "d": normal(3, 4, 3), "k": normal(4, 3, 3, 1, 2)}
P |= {"l": normal(5, 18, 4), "q": normal(6, 6, 2, 4), "v": normal(7, 6, 2, 4), "o": normal(8, 2, 4, 3)}
P |= {"s": normal(9, 3, 6, 6) / 3}
X, PICTURES, WORDS = normal(10, 3, 6), normal(11, 2, 6, 6, 1), normal(12, 2, 4, 6)


def sigmoid(p, x):
    return jax.nn.sigmoid(jnp.tanh(x @ p["a"] + p["b"]) @ p["c"])


def mixed(p, x):  # a gate, then a curve, then a softmax
    h = jax.nn.relu(x @ p["a"] + p["b"])
    return jax.nn.softmax(jax.nn.gelu(h @ p["c"]) @ p["d"])


def softplus(p, x):  # JAX gives it a derivative of its own
    return jax.nn.silu(jax.nn.softplus(x @ p["a"]) @ p["c"]) @ p["d"]


def convolutional(p, x):
    h = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    h = nn.max_pool(jnp.tanh(h), (2, 2), (2, 2)).reshape(len(x), -1)
    return jax.nn.sigmoid(h @ p["l"])


def attention(p, x):
    q, v = (jnp.einsum("btd,dhk->bthk", x, p[name]) for name in "qv")
    share = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, q))
    return jnp.einsum("bhts,bshk,hkd->btd", share, v, p["o"])


def looped(p, x):
    return jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p["s"])[0]


def branched(p, x):
    return jax.lax.cond(p["b"][0, 0] > 0, lambda h: jnp.sin(h) @ p["a"], lambda h: jnp.cos(h) @ p["a"], x)


def spectrum(p, x):  # complex numbers on the way
    return jnp.abs(jnp.fft.rfft(x @ p["s"][0])) @ p["d"]


NETS = {"sigmoid": (sigmoid, X), "mixed": (mixed, X), "softplus": (softplus, X), "looped": (looped, X)}
NETS |= {"branched": (branched, X), "spectrum": (spectrum, X), "convolutional": (convolutional, PICTURES)}
NETS |= {"attention": (attention, WORDS)}


def expand(f, x, neuron, p=P, jacobian=True):
    """Return the expansion, computed by one program."""
    return jax.jit(lambda p, x: project(f, p, x, neuron, jacobian=jacobian))(p, x)


def by_hand(f, x):
    """Return each sample's Jacobian and value by `jax.jacobian` of one sample."""

    def one(z):
        return f(P, z[None])[0]

    return jax.jit(jax.vmap(lambda z: (jax.jacobian(one)(z), one(z))))(x)


def times(weight, x):
    """Return `<weight, x>` over the features of each sample."""
    return jnp.sum(weight * jnp.expand_dims(x, tuple(range(1, weight.ndim - x.ndim + 1))), tuple(range(1 - x.ndim, 0)))


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_the_expansion_of_the_output_is_that_of_jax(name):
    f, x = NETS[name]
    J, y = by_hand(f, x)
    found = expand(f, x, ("output", None))
    assert found.weight.shape == J.shape
    assert float(jnp.abs(J).max()) > 0.05
    np.testing.assert_allclose(found.weight, J, rtol=0, atol=1e-13)
    np.testing.assert_allclose(times(found.weight, x) + found.bias, y, rtol=0, atol=1e-13)
    last = int(np.prod(y.shape[1:])) - 1
    alone = expand(f, x, last)
    np.testing.assert_allclose(alone.weight, J.reshape(len(x), -1, *x.shape[1:])[:, last], rtol=0, atol=1e-13)
    np.testing.assert_allclose(alone.bias, found.bias.reshape(len(x), -1)[:, last], rtol=0, atol=1e-13)


@needs_x64
def test_it_is_the_limit_of_finite_differences_and_errs_by_the_square_of_the_step():
    found = expand(sigmoid, X, ("output", None))
    h = 1e-6
    for j in range(6):
        step = h * jnp.eye(6)[j]
        slope = (sigmoid(P, X + step[None]) - sigmoid(P, X - step[None])) / (2 * h)
        np.testing.assert_allclose(found.weight[:, :, j], slope, rtol=0, atol=1e-9)
    way = normal(20, 3, 6)

    def error(h):
        z = X + h * way
        return float(jnp.abs(times(found.weight, z) + found.bias - sigmoid(P, z)).max())

    assert error(1e-2) > 1e-6  # it is not an affine network
    np.testing.assert_allclose(error(1e-2) / error(1e-3), 100, rtol=0.05)


INNER = {"sigmoid": ["['a']", "['c']"], "mixed": ["['a']", "['c']", "['d']"], "softplus": ["['a']", "['c']", "['d']"]}
INNER |= {"convolutional": ["['k']", "['l']"], "attention": ["['q']", "['v']"]}


@needs_x64
@pytest.mark.parametrize("name", INNER)
def test_inner_neurons_are_the_preactivations_that_wiretap_reads(name):
    f, x = NETS[name]
    taps = jax.jit(jd.wiretap(f))(P, x)[1]
    for layer in INNER[name]:
        w, b = expand(f, x, (layer, None))
        found, tapped = (np.sort(np.ravel(v)) for v in (times(w, x) + b, taps[layer].preactivation))
        np.testing.assert_allclose(found, tapped, rtol=0, atol=1e-13)


@needs_x64
def test_expansions_of_inner_neurons_by_hand():
    second = expand(sigmoid, X, ("['c']", 2))
    by_hand = jax.grad(lambda x: jnp.sum((jnp.tanh(x @ P["a"] + P["b"]) @ P["c"])[:, 2]))(X)
    np.testing.assert_allclose(second.weight, by_hand, rtol=0, atol=1e-14)
    first = expand(sigmoid, X, ("['a']", None))  # the first layer is affine itself
    np.testing.assert_allclose(first.weight, jnp.broadcast_to(P["a"].T, (3, 5, 6)), rtol=0, atol=1e-15)
    np.testing.assert_allclose(first.bias, jnp.broadcast_to(P["b"], (3, 5)), rtol=0, atol=1e-15)


@needs_x64
def test_layers_in_a_scan_have_expansions_too():
    deep = expand(looped, X, ("['s']", (2, 4)))
    by_hand = jax.grad(lambda x: jnp.sum((jnp.tanh(jnp.tanh(x @ P["s"][0]) @ P["s"][1]) @ P["s"][2])[:, 4]))(X)
    np.testing.assert_allclose(deep.weight, by_hand, rtol=0, atol=1e-14)
    assert expand(looped, X, ("['s']", None)).weight.shape == (3, 3, 6, 6)


def piecewise(p, x):
    h = jnp.maximum(jax.nn.leaky_relu(x @ p["a"] + p["b"]), 0)
    return (jnp.abs(h @ p["c"]) + jnp.clip(h @ p["c"], -0.5, 2)) @ p["d"]


def pooled(p, x):
    h = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return nn.max_pool(jax.nn.relu(h), (2, 2), (2, 2)).reshape(len(x), -1) @ p["l"]


TIED = {"piecewise": (piecewise, X), "relu at zero": (lambda p, x: jnp.maximum(x @ p["a"], 0) @ p["c"], 0 * X)}
TIED |= {"tied pools": (pooled, 0 * PICTURES)}


@pytest.mark.both_precisions
@pytest.mark.parametrize("name", TIED)
def test_on_a_piecewise_linear_network_it_is_the_affine_piece_to_the_last_bit(name):
    f, x = TIED[name]
    for neuron in ((next(iter(gates(f, P, x))), 3), ("output", None)):
        plain, expanded = expand(f, x, neuron, jacobian=False), expand(f, x, neuron)
        np.testing.assert_array_equal(plain.weight, expanded.weight)
        np.testing.assert_array_equal(plain.bias, expanded.bias)


def test_a_tie_before_a_curve_goes_to_the_constant():
    """As `project` has it; JAX's own derivative of `maximum` is one half there."""
    found = expand(lambda p, x: jnp.tanh(jnp.maximum(x @ p["a"], 0)), 0 * X, ("output", None))
    np.testing.assert_array_equal(found.weight, jnp.zeros((3, 5, 6)))


@needs_x64
def test_what_the_parameters_of_hidden_layers_may_do():
    J, y = expand(sigmoid, X, ("output", None))
    # Hidden neurons in another order, and signs that tanh does not see.
    order, signs = jnp.asarray([3, 1, 4, 0, 2]), jnp.asarray([1.0, -1, 1, -1, -1])
    same = P | {
        "a": (P["a"] * signs[None])[:, order],
        "b": (P["b"] * signs[None])[:, order],
        "c": (P["c"] * signs[:, None])[order],
    }
    for one, other in zip(expand(sigmoid, X, ("output", None), same), (J, y), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)
    # A frame of the inputs turns the Jacobian.
    Q = jd.manifolds.orthogonal.random(jax.random.key(0), 6)
    turned = expand(sigmoid, X @ Q.T, ("output", None), P | {"a": Q @ P["a"]})
    np.testing.assert_allclose(turned.weight, J @ Q.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(turned.bias, y, rtol=0, atol=1e-14)


@needs_x64
def test_derivatives_that_f_declares_for_its_training_play_no_part():
    @jax.custom_vjp
    def sine(h):
        return jnp.sin(h)

    sine.defvjp(lambda h: (jnp.sin(h), None), lambda _, g: (7 * g,))

    def f(p, x):
        return sine(x) + jax.lax.stop_gradient(jnp.cos(x))

    found = expand(f, X, ("output", None))
    np.testing.assert_allclose(found.weight, jax.vmap(jnp.diag)(jnp.cos(X) - jnp.sin(X)), rtol=0, atol=1e-15)
    np.testing.assert_allclose(times(found.weight, X) + found.bias, jnp.sin(X) + jnp.cos(X), rtol=0, atol=1e-15)


@needs_x64
def test_under_jit_vmap_and_grad():
    plain, jitted = project(sigmoid, P, X, 1, jacobian=True), expand(sigmoid, X, 1)
    many = jax.jit(jax.vmap(lambda x: project(sigmoid, P, x[None], 1, jacobian=True)))(X)
    for a, b, c in zip(plain, jitted, many, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-15)
        np.testing.assert_allclose(c[:, 0], a, rtol=0, atol=1e-15)

    def steepness(p):
        return jnp.sum(project(sigmoid, p, X, ("output", None), jacobian=True).weight ** 2)

    def by_hand_(p):
        return jnp.sum(jax.vmap(jax.jacobian(lambda z: sigmoid(p, z[None])[0]))(X) ** 2)

    few = {name: P[name] for name in "abc"}
    for one, other in zip(*(jax.tree.leaves(jax.jit(jax.grad(g))(few)) for g in (steepness, by_hand_)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


@needs_x64
def test_all_neurons_of_a_layer_at_once_are_the_neurons_one_by_one():
    for f, x, layer in ((piecewise, X, "['a']"), (pooled, PICTURES, "['k']"), (pooled, PICTURES, "output")):
        together = expand(f, x, (layer, None), jacobian=False)
        size = int(np.prod(together.bias.shape[1:]))
        for i in (0, size - 1):
            alone = expand(f, x, (layer, i), jacobian=False)
            rows = together.weight.reshape(len(x), size, *x.shape[1:])
            np.testing.assert_allclose(rows[:, i], alone.weight, rtol=0, atol=1e-14)
            np.testing.assert_allclose(together.bias.reshape(len(x), size)[:, i], alone.bias, rtol=0, atol=1e-14)
    roots, alone = (jax.jit(lambda x, i=i: centre(piecewise, P, x, ("['a']", i)))(X) for i in (None, 3))
    assert roots.centre.shape == (3, 5, 6)
    for many, one in zip(roots, alone, strict=True):
        np.testing.assert_allclose(many[:, 3], one, rtol=0, atol=1e-13)


@pytest.mark.usefixtures("as_installed")
def test_refusals():
    def endless(p, x):
        return jax.lax.while_loop(lambda h: jnp.sum(h) < 9, lambda h: h + 1, x) @ p["a"]

    def called(p, x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x) @ p["a"]

    for call, error, message in (
        (lambda: project(sigmoid, P, X, 0), NotImplementedError, r"project\(\.\.\., jacobian=True\)"),
        (lambda: gates(sigmoid, P, X), ValueError, r"project\(\.\.\., jacobian=True\)"),
        (lambda: project(sigmoid, P, X, 0, jacobian=1), TypeError, "jacobian: expected True or False, got 1"),
        (lambda: project(sigmoid, P, X.astype(int), 0, jacobian=True), TypeError, "x: got int"),
        (lambda: project(sigmoid, P, X * 1j, 0, jacobian=True), TypeError, "x: got complex"),
        (lambda: project(sigmoid, P, X[0], 0, jacobian=True), ValueError, "x: expected"),
        (lambda: project(sigmoid, P, X, 4, jacobian=True), ValueError, "4 neurons, 0 to 3"),
        (lambda: project(sigmoid, P, X, ("['c']", (0, 0)), jacobian=True), ValueError, r"shape \(4,\)"),
        (
            lambda: project(sigmoid, P, X, ("['z']", 0), jacobian=True),
            ValueError,
            r"no layer is called .*\[\"\['a'\]\", \"\['c'\]\", 'output'\]",
        ),
        (lambda: project(jnp.add, 1.0, X, ("z", 0), jacobian=True), ValueError, r"there are \['output'\]"),
        (
            lambda: project(lambda p, x: jnp.fft.fft(x), P, X, 0, jacobian=True),
            TypeError,
            "'output' is of type complex",
        ),
        (lambda: project(lambda p, x: jnp.argmax(x, 1), P, X, 0, jacobian=True), TypeError, "'output' is of type int"),
        (lambda: project(endless, P, X, 0, jacobian=True), NotImplementedError, r"`while` \(.*test_jacobians\.py"),
        (lambda: project(called, P, X, 0, jacobian=True), NotImplementedError, r"`pure_callback` \(.*test_jacobians"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_samples_with_nan_have_no_expansion_and_hurt_no_other():
    found = expand(sigmoid, X.at[1, 2].set(jnp.nan), 0)
    assert np.isnan(found.weight[1]).all()
    assert np.isnan(found.bias[1])
    np.testing.assert_array_equal(found.weight[0], expand(sigmoid, X, 0).weight[0])


def test_smooth_neurons_may_saturate():
    """Where sigmoids are flat to the last bit, the expansion is a constant."""
    w, b = expand(lambda p, x: jax.nn.sigmoid(x), jnp.asarray([[1e4, -1e4]]), ("output", None))
    np.testing.assert_array_equal(w, jnp.zeros((1, 2, 2)))
    np.testing.assert_array_equal(b, [[1.0, 0.0]])
