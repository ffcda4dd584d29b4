"""Networks without gates and networks of token ids: what can be read is read; errors say where and what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import attribution as at
from jaxdescramble.attribution import switched

pytestmark = pytest.mark.usefixtures("as_installed")


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]), float)


def norm(p, x):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]


def block(p, x, approximate):
    y = norm(p["first"], x)
    q, k, v = (jnp.einsum("btd,dhk->bthk", y, p[name]) for name in "qkv")
    share = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 2, axis=-1)
    x = x + jnp.einsum("bhts,bshk,hkd->btd", share, v, p["o"])
    hidden = norm(p["second"], x) @ p["up"] + p["b"]
    return x + jax.nn.gelu(hidden, approximate=approximate) @ p["down"]


def from_embedded(p, x, approximate=False):
    return block(p, x, approximate).mean(1) @ p["head"]


def transformer(p, tokens, approximate=False):
    return from_embedded(p, p["table"][tokens] + p["positions"], approximate)


def one_hot(p, tokens):
    return from_embedded(p, jax.nn.one_hot(tokens, 11) @ p["table"] + p["positions"])


NORM = {"scale": jnp.ones((1, 1, 8)), "shift": jnp.zeros((1, 1, 8))}
P = {"table": normal(0, 11, 8), "positions": normal(1, 1, 5, 8), "first": NORM, "second": NORM, "head": normal(2, 8, 3)}
P |= {name: normal(i, 8, 2, 4) for i, name in enumerate("qkv", start=3)}
P |= {"o": normal(6, 2, 4, 8), "up": normal(7, 8, 12), "b": normal(8, 1, 1, 12), "down": normal(9, 12, 8)}
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (4, 5)))
EMBEDDED = P["table"][TOKENS] + P["positions"]
X = normal(10, 4, 8)


def mlp(activation):
    return lambda p, x: activation(x @ p["up"] + p["b"][0]) @ p["down"] @ p["head"]


def erf_gelu(v):
    return jax.nn.gelu(v, approximate=False)


# The activation and the operation that a message should name.
SMOOTH = {"erf": (erf_gelu, "erfc?"), "tanh in gelu": (jax.nn.gelu, "tanh"), "tanh": (jnp.tanh, "tanh")}
SMOOTH |= {"sigmoid": (jax.nn.sigmoid, "logistic"), "softmax": (jax.nn.softmax, "exp")}

BY_GATES = {
    "gates": lambda f, p, x: switched.gates(f, p, x),
    "insens": lambda f, p, x: switched.insens(f, p, x),
    "project": lambda f, p, x: switched.project(f, p, x, 0),
    "centre": lambda f, p, x: switched.centre(f, p, x, 0),
    "patterns": lambda f, p, x: switched.patterns(f, p, x, "['up']"),
    "path_gates": lambda f, p, x: switched.path_gates(f, p, x),
    "lrp": lambda f, p, x: at.lrp(f, p, x),
    "deep_taylor": lambda f, p, x: at.deep_taylor(f, p, x, input_rule="w2"),
}
BY_GRADIENTS = {
    "gradient": lambda f, p, x: at.gradient(f, p, x),
    "input_x_gradient": lambda f, p, x: at.input_x_gradient(f, p, x),
    "integrated_gradients": lambda f, p, x: at.integrated_gradients(f, p, x, steps=2),
    "smooth_grad": lambda f, p, x: at.smooth_grad(f, p, x, key=jax.random.key(0), samples=2),
}


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("method", BY_GATES)
def test_a_smooth_activation_is_named_with_its_line_and_a_way_out(method, activation):
    function, operation = SMOOTH[activation]
    message = rf"`{operation}` \(.*test_smooth_networks\.py:\d+.*attribution\.integrated_gradients"
    with pytest.raises((ValueError, NotImplementedError), match=message):
        BY_GATES[method](mlp(function), P, X)


@pytest.mark.parametrize("method", BY_GATES)
def test_a_transformer_is_no_piecewise_linear_network(method):
    with pytest.raises(
        (ValueError, NotImplementedError), match=r"`\w+` \(.*test_smooth_networks\.py:\d+.*integrated_gra"
    ):
        BY_GATES[method](from_embedded, P, EMBEDDED)


def test_several_activations_are_listed_and_a_linear_network_has_none():
    with pytest.raises(ValueError, match=r"^gates: f has no gates.*`rsqrt` .*`exp` .*`erfc?` .*\. For smooth"):
        switched.gates(lambda p, x: from_embedded(p, x), P, EMBEDDED)
    assert switched.gates(mlp(lambda v: v), P, X) == {}
    for method in ("insens", "path_gates"):
        with pytest.raises(ValueError, match=rf"^{method}: f has no gates that depend on x"):
            BY_GATES[method](mlp(lambda v: v), P, X)


def test_gates_behind_a_smooth_activation_are_left_out_with_a_warning():
    def f(p, x):
        return jax.nn.relu(jnp.tanh(jax.nn.relu(x @ p["up"] + p["b"][0]) @ p["down"]) @ p["up"])

    with pytest.warns(jd.JaxdescrambleWarning, match=r"gates: some gates.*`tanh` \(.*test_smooth_networks\.py"):
        assert list(switched.gates(f, P, X)) == ["['up']"]
    # What a softmax subtracts is no gate: nothing is left out.
    found = switched.gates(lambda p, x: jax.nn.softmax(jnp.tanh(jax.nn.relu(x @ p["up"])) @ p["down"]), P, X)
    assert list(found) == ["['up']"]


@pytest.mark.parametrize("f", [transformer, one_hot])
@pytest.mark.parametrize("method", BY_GATES | BY_GRADIENTS)
def test_token_ids_are_refused_in_words(method, f):
    operation = "gather" if f is transformer else "eq"
    message = rf"^x: got int\d+, which f looks up in a table by `{operation}` \(.*test_smooth.*begin behind the lookup"
    with pytest.raises(TypeError, match=message):
        (BY_GATES | BY_GRADIENTS)[method](f, P, TOKENS)


def test_other_integers_are_to_be_converted():
    for method in ("project", "gradient"):
        with pytest.raises(TypeError, match=r"^x: got uint8; convert to a floating type"):
            (BY_GATES | BY_GRADIENTS)[method](mlp(jax.nn.relu), P, jnp.ones((4, 8), jnp.uint8))


@pytest.mark.parametrize("approximate", [False, True])
def test_layers_of_a_network_of_token_ids_are_read(approximate):
    def f(p, tokens):
        return transformer(p, tokens, approximate)

    result, taps = jax.jit(jd.wiretap(f))(P, TOKENS)
    assert list(taps) == ["['q']", "['k']", "['v']", "['o']", "['up']", "['down']", "['head']"]
    np.testing.assert_allclose(result, f(P, TOKENS), atol=1e-5)
    np.testing.assert_allclose(
        taps["['q']"].preactivation.reshape(8, 20),
        jnp.einsum("btd,dhk->hkbt", norm(NORM, EMBEDDED), P["q"]).reshape(8, 20),
        atol=1e-5,
    )
    np.testing.assert_allclose(result.T, taps["['head']"].preactivation, atol=1e-5)
    inserted = jd.insert(f, P, TOKENS, {"['up']": 2 * jnp.eye(12)})
    np.testing.assert_allclose(inserted(P, TOKENS), result, atol=1e-5)


@pytest.mark.thorough
def test_a_network_of_token_ids_is_descrambled_and_the_rest_of_it_attributed():
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 11, (12, 5)))

    def only_up(name, side, size):
        return jd.objectives.smoothness() if (name, side) == ("['up']", "output") else None

    layers = jd.descramble_network(transformer, P, tokens, only_up)
    assert list(layers) == ["['q']", "['k']", "['v']", "['o']", "['up']", "['down']", "['head']"]
    assert float(layers["['up']"].output.value) < float(layers["['up']"].output.initial_value)
    # The way out that the messages name.
    for method in BY_GRADIENTS.values():
        found = method(from_embedded, P, EMBEDDED)
        assert found.shape == EMBEDDED.shape
        assert np.isfinite(found).all()
