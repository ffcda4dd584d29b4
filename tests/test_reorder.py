"""Neurons in another order: the same function, or an error that names the operation in the way."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.networks.reordering import reorder
from jaxdescramble.networks.taps import wiretap

ORDER = np.array([3, 0, 5, 1, 4, 2])


@pytest.fixture(autouse=True)
def models_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def close(actual, expected):
    tolerance = 200 * float(jnp.finfo(expected.dtype).eps) * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


def reordered(f, params, x, name, changed, order=ORDER):
    """New parameters after the checks that hold for all: same function, neurons moved, only these leaves changed."""
    new = reorder(f, params, x, name, order)
    run = jax.jit(wiretap(f))
    (result, taps), (new_result, new_taps) = run(params, x), run(new, x)
    jax.tree.map(close, new_result, result)
    close(new_taps[name].preactivation, np.take(np.asarray(taps[name].preactivation), order, axis=-2))
    np.testing.assert_array_equal(new_taps[name].weight, np.take(np.asarray(taps[name].weight), order, axis=-2))
    old_leaves, new_leaves = (jax.tree_util.tree_leaves_with_path(tree) for tree in (params, new))
    moved = {
        jax.tree_util.keystr(path)
        for (path, old), (_, leaf) in zip(old_leaves, new_leaves, strict=True)
        if not np.array_equal(old, leaf)
    }
    assert moved == set(changed)
    back = reorder(f, new, x, name, np.argsort(order))
    jax.tree.map(np.testing.assert_array_equal, back, params)
    return new


X = normal(1, 7, 4)
MLP = {"a": normal(2, 4, 6), "b": normal(3, 6), "c": normal(4, 6, 6), "d": normal(5, 6), "e": normal(6, 6, 3)}


def mlp(params, x):
    hidden = jax.nn.gelu(x @ params["a"] + params["b"])
    return jax.nn.relu(hidden @ params["c"] + params["d"]) @ params["e"]


def test_multilayer_perceptron():
    new = reordered(mlp, MLP, X, "['a']", {"['a']", "['b']", "['c']"})
    np.testing.assert_array_equal(new["a"], MLP["a"][:, ORDER])
    np.testing.assert_array_equal(new["c"], MLP["c"][ORDER])
    reordered(mlp, MLP, X, "['c']", {"['c']", "['d']", "['e']"})


class Normed(nn.Module):
    norm: type[nn.Module]

    @nn.compact
    def __call__(self, x):
        norm = self.norm(use_running_average=True) if self.norm is nn.BatchNorm else self.norm()
        x = nn.softplus(norm(nn.Dense(6)(x)))
        return nn.Dense(3)(x)


@pytest.mark.parametrize("norm", [nn.BatchNorm, nn.LayerNorm, nn.RMSNorm])
def test_norms(norm):
    model = Normed(norm)
    variables = jax.jit(model.init)(jax.random.key(0), X)
    variables = jax.tree.map(lambda leaf: leaf + jnp.abs(normal(leaf.size, *leaf.shape)), variables)
    name = f"['params']['{norm.__name__}_0']"
    met = {"BatchNorm": ["scale", "bias"], "LayerNorm": ["scale", "bias"], "RMSNorm": ["scale"]}[norm.__name__]
    changed = {f"{name}['{leaf}']" for leaf in met}
    changed |= {"['params']['Dense_0']['kernel']", "['params']['Dense_0']['bias']", "['params']['Dense_1']['kernel']"}
    if norm is nn.BatchNorm:
        changed |= {f"['batch_stats']['BatchNorm_0']['{leaf}']" for leaf in ("mean", "var")}
    # the two leaves of equal values would not be seen to change
    variables = jax.tree.map(lambda leaf: leaf + jnp.linspace(0, 1, leaf.size).reshape(leaf.shape), variables)
    reordered(model.apply, variables, X, "['params']['Dense_0']['kernel']", changed)


def test_mixer_and_what_is_shared():
    def f(params, x):  # (batch, tokens, channels): both mixings, one gain used by both
        hidden = jax.nn.gelu(jnp.einsum("btc,th->bhc", x, params["up"]) + params["shift"][:, None])
        x = x + jnp.einsum("bhc,ht->btc", hidden * params["gain"][:, None], params["down"])
        return x + (jnp.tanh(x @ params["wide"]) * params["gain"]) @ params["narrow"]

    params = {"up": normal(1, 5, 6), "shift": normal(2, 6), "down": normal(3, 6, 5), "gain": normal(4, 6)}
    params |= {"wide": normal(5, 4, 6), "narrow": normal(6, 6, 4)}
    x = normal(7, 3, 5, 4)
    # The gain puts both layers into one order.
    reordered(f, params, x, "['up']", {"['up']", "['shift']", "['gain']", "['down']", "['wide']", "['narrow']"})

    def g(params, x):
        return f(params | {"gain": jnp.ones(6)}, x)

    del params["gain"]
    reordered(g, params, x, "['up']", {"['up']", "['shift']", "['down']"})
    reordered(g, params, x, "['wide']", {"['wide']", "['narrow']"})
    with pytest.raises(ValueError, match=r"`add` at .*computes the function's result"):
        reorder(g, params, x, "['down']", np.arange(5)[::-1])


def test_tied_weights():
    def autoencoder(params, x):
        return jnp.tanh(x @ params["w"]) @ params["w"].T

    reordered(autoencoder, {"w": normal(1, 4, 6)}, X, "['w']", {"['w']"})

    def twice(params, x):
        return jnp.tanh(jnp.tanh(x @ params["w"]) @ params["w"]) @ params["v"]

    with pytest.raises(ValueError, match="axis is an axis of the data"):
        reorder(twice, {"w": normal(1, 6, 6), "v": normal(2, 6, 2)}, normal(3, 7, 6), "['w']", ORDER)


def test_flattening_keeps_neurons_together():
    def f(params, x):  # (batch, tokens, features) -> all tokens' neurons into one layer
        hidden = jax.nn.relu(x @ params["a"] + params["b"])
        return hidden.reshape(x.shape[0], -1) @ params["c"]

    params = {"a": normal(1, 4, 6), "b": normal(2, 6), "c": normal(3, 30, 2)}
    new = reordered(f, params, normal(4, 3, 5, 4), "['a']", {"['a']", "['b']", "['c']"})
    np.testing.assert_array_equal(new["c"].reshape(5, 6, 2), params["c"].reshape(5, 6, 2)[:, ORDER])


def test_transposed_leaves_reductions_and_spread_constants():
    def f(params, x):
        hidden = params["a"] @ x.T + jnp.broadcast_to(params["b"][:, None], (6, 7))  # neurons first
        hidden = hidden / jnp.sqrt((hidden**2).sum(axis=0, keepdims=True)) + jnp.full((6, 7), 0.3)
        hidden = jnp.concatenate([hidden, jnp.cumsum(hidden, axis=1)], axis=1)
        return params["c"].reshape(3, 6) @ hidden, jnp.sort(hidden.max(axis=0)), jax.lax.stop_gradient(hidden.sum())

    params = {"a": normal(1, 6, 4), "b": normal(2, 6), "c": normal(3, 18)}
    reordered(f, params, X, "['a']", {"['a']", "['b']", "['c']"})


def test_sorted_neurons_do_not_tell_their_order_but_their_places_do():
    def largest(params, x):
        return jnp.sort(jnp.tanh(x @ params["a"] + params["b"]), axis=1)[:, -2:] @ params["c"]

    params = {"a": normal(1, 4, 6), "b": normal(2, 6), "c": normal(3, 2, 3)}
    reordered(largest, params, X, "['a']", {"['a']", "['b']"})

    def places(params, x):
        return jnp.argsort(x @ params["a"], axis=1).sum(axis=1)

    with pytest.raises(ValueError, match=r"`sort` at .*depends on their order.*Reorder another layer.*`jnp\.sort` of"):
        reorder(places, params, X, "['a']", ORDER)


def test_inside_scans_and_under_vmap():
    def deep(params, x):
        def block(x, parts):
            return x + jnp.tanh(x @ parts["up"] + parts["b"]) @ parts["down"], None

        return jax.lax.scan(block, x, params)[0]

    params = {"up": normal(1, 3, 4, 6), "b": normal(2, 3, 6), "down": normal(3, 3, 6, 4)}
    reordered(deep, params, X, "['up']", {"['up']", "['b']", "['down']"})
    with pytest.raises(ValueError, match=r"cannot be reordered: `scan` at .*function's result"):
        reorder(deep, params, X, "['down']", np.arange(4)[::-1])

    def ensemble(params, x):
        return jax.vmap(mlp, (0, None))(params, x)

    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), MLP)
    reordered(ensemble, stacked, X, "['c']", {"['c']", "['d']", "['e']"})

    def recurrent(params, xs):
        def step(state, x):
            return jnp.tanh(state @ params["h"] + jnp.tanh(x @ params["i"]) @ params["j"]), None

        return jax.lax.scan(step, jnp.zeros((3, 6)), xs)[0] @ params["o"]

    params = {"h": normal(1, 6, 6), "i": normal(2, 4, 6), "j": normal(3, 6, 6), "o": normal(4, 6, 2)}
    reordered(recurrent, params, normal(5, 5, 3, 4), "['i']", {"['i']", "['j']"})
    new = reorder(recurrent, params, normal(5, 5, 3, 4), "['h']", ORDER)  # it reads its own neurons
    np.testing.assert_array_equal(new["h"], params["h"][ORDER][:, ORDER])
    close(recurrent(new, normal(5, 5, 3, 4)), recurrent(params, normal(5, 5, 3, 4)))


def attend(params, x):
    q, k = x @ params["w"], x @ params["v"]
    return jax.nn.softmax(q @ k.T) @ x


BARRIERS = {
    "result": (lambda p, x: jnp.tanh(x @ p["w"]), "`tanh` at .*result"),
    "residual": (lambda p, x: (x @ p["w"] + x @ p["v"]) @ p["o"], {"['w']", "['v']", "['o']"}),
    "reshape": (
        lambda p, x: jnp.tanh((x @ p["w"]).reshape(-1, 2, 3)).sum(axis=1).max(axis=1),
        "`reduce_sum` at .*splits",
    ),
    "slice": (lambda p, x: (x @ p["w"])[:, :3].sum(axis=1), "`slice` at .*selects some"),
    "gather": (lambda p, x: (x @ p["w"])[:, jnp.array([0, 0])].sum(axis=1), "`gather` at .*selects some"),
    "order": (lambda p, x: jnp.cumsum(x @ p["w"], axis=1).sum(axis=1), "`cumsum` at .*depends on their order"),
    "which": (lambda p, x: (x @ p["w"]).argmax(axis=1), "`argmax` at .*depends on their order"),
    "constant": (lambda p, x: (x @ p["w"] * jnp.linspace(0, 1, 6)).sum(axis=1), "`mul` at .*"),
    "array": (lambda p, x: (x @ p["w"] + np.arange(6.0)).sum(axis=1), "`add` at .*constant that is not the same"),
    "attention": (attend, {"['w']", "['v']"}),
    "loop": (lambda p, x: jax.lax.fori_loop(0, x.shape[0], lambda _, v: v, x @ p["w"]).sum(), {"['w']"}),
    "while": (
        lambda p, x: jax.lax.while_loop(lambda v: v.sum() < 0, lambda v: v + 1.0, x @ p["w"]).sum(),
        "`while` at .*has no rule",
    ),
    "itself": (
        lambda p, x: (x @ p["w"]).T @ (x @ p["w"] + 1).reshape(-1, 6)[:, ::-1],
        "`rev` at .*on their order",
    ),
}


@pytest.mark.parametrize("barrier", BARRIERS)
def test_what_the_axis_cannot_pass_is_named(barrier):
    f, message = BARRIERS[barrier]
    params = {"w": normal(1, 4, 6), "v": normal(2, 4, 6), "o": normal(3, 6, 2)}
    if isinstance(message, set):  # these are no barriers: the whole stream gets the order
        reordered(f, params, X, "['w']", message)
        return
    with pytest.raises(ValueError, match=rf"neurons of \['w'\] cannot be reordered: {message}") as error:
        reorder(f, params, X, "['w']", ORDER)
    assert "test_reorder.py:" in str(error.value)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"no layer \['z'\]; there are \['a'\], \['c'\], \['e'\]"):
        reorder(mlp, MLP, X, "['z']", ORDER)
    with pytest.raises(ValueError, match=r"each of 0 \.\.\. 5 once.*got \[0, 0, 1, 2, 3, 4\]"):
        reorder(mlp, MLP, X, "['a']", [0, 0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        reorder(mlp, MLP, X, "['a']", [0, 1, 2, 3])
    heads = normal(1, 4, 2, 3)
    with pytest.raises(ValueError, match=r"several axes of its weight, \(2, 3\)"):
        reorder(lambda w, x: jnp.einsum("nd,dhk->nhk", x, w).sum(), heads, X, "params", ORDER)
