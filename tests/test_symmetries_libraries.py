"""Symmetries of networks written in Flax (linen and nnx) and Equinox, in four precisions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def batch(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), float)


def generic(params, x):
    """Leaves without zeros and ones, of the type of x; variances are positive."""
    rng = np.random.default_rng(1)

    def leaf(path, old):
        if not jnp.issubdtype(old.dtype, jnp.inexact):
            return old
        drawn = rng.normal(size=old.shape) / (np.prod(old.shape[:-1]) or 1) ** 0.5
        return jnp.asarray(abs(drawn) + 0.5 if "var" in jax.tree_util.keystr(path) else drawn, x.dtype)

    return jax.tree_util.tree_map_with_path(leaf, params)


def linen(model, x):
    params = generic(model.init(jax.random.key(0), x), x)
    return lambda p, x: model.apply(p, x), params


def linen_mlp():
    nn = pytest.importorskip("flax.linen")
    x = batch(30, 5)
    model = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(7), nn.tanh, nn.Dense(6)])
    return *linen(model, x), x, {"S(8) with scales": 1, "S(7) with signs": 1}


def linen_cnn():
    nn = pytest.importorskip("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(6, (3, 3))(x)))
            x = nn.max_pool(x, (2, 2), (2, 2))
            x = nn.relu(nn.GroupNorm(1)(nn.Conv(4, (3, 3), strides=2)(x)))
            return nn.Dense(5)(x.mean((1, 2)))

    x = batch(6, 8, 8, 3)
    return *linen(Network(), x), x, {"S(6) with signs, 2 scales": 1, "S(4) with scales": 1}


def linen_recurrent(kind):
    nn = pytest.importorskip("flax.linen")

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            zeros = jnp.zeros((len(x), 5), x.dtype)
            start = (zeros, zeros) if "LSTM" in kind else zeros
            return nn.Dense(6)(nn.RNN(getattr(nn, kind)(5))(x, initial_carry=start)[:, -1])

    x = batch(7, 6, 3)
    return *linen(Network(), x), x, {"S(5) with signs": 1}


def linen_transformer():
    nn = pytest.importorskip("flax.linen")

    class Block(nn.Module):
        @nn.compact
        def __call__(self, h):
            plain = functools.partial(nn.LayerNorm, use_scale=False, use_bias=False)
            h = h + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=6)(plain()(h))
            return h + nn.Dense(8)(nn.gelu(nn.Dense(9)(plain()(h))))

    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(8)(x) + self.param("positions", nn.initializers.normal(), (4, 8))
            for _ in range(2):
                h = Block()(h)
            return nn.Dense(10)(nn.LayerNorm(use_scale=False, use_bias=False)(h))

    x = batch(6, 4, 5)
    heads = {"GL(3) at each of 2 places": 4, "S(2)": 2, "S(9)": 2}
    return *linen(Encoder(), x), x, heads | {"O(7) on mean 0, any shift": 1}


def nnx_network():
    nnx = pytest.importorskip("flax.nnx")

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
            self.dense, self.out = nnx.Linear(6, 7, rngs=rngs), nnx.Linear(7, 5, rngs=rngs)

        def __call__(self, x):
            h = jax.nn.relu(self.norm(self.conv(x))).mean((1, 2))
            return self.out(jnp.tanh(self.dense(h)))

    x = batch(6, 5, 5, 3)
    graph, state = nnx.split(Network(nnx.Rngs(0)))
    params = generic(nnx.to_pure_dict(state), x)

    def f(p, x):
        nnx.replace_by_pure_dict(state, p)
        return nnx.merge(graph, state)(x)

    return f, params, x, {"S(6) with signs, 2 scales": 1, "S(7) with signs": 1}


def equinox(model, x):
    eqx = pytest.importorskip("equinox")
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    return lambda p, x: jax.vmap(eqx.combine(p, rest))(x), generic(params, x), x


def equinox_mlp():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(5, 6, 8, 2, activation=jax.nn.softplus, key=jax.random.key(0))
    return *equinox(model, batch(30, 5)), {"S(8)": 2}


def equinox_attention():
    eqx = pytest.importorskip("equinox")

    class Network(eqx.Module):
        inside: eqx.nn.Linear
        attention: eqx.nn.MultiheadAttention
        out: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.inside, self.out = eqx.nn.Linear(5, 6, key=keys[0]), eqx.nn.Linear(6, 7, key=keys[2])
            self.attention = eqx.nn.MultiheadAttention(2, 6, key=keys[1])

        def __call__(self, x):
            h = jax.vmap(self.inside)(x)
            return jax.vmap(self.out)(h + self.attention(h, h, h))

    groups = {"GL(3) at each of 2 places": 2, "S(2)": 1, "GL(6)": 1}
    return *equinox(Network(jax.random.key(0)), batch(6, 4, 5)), groups


def equinox_recurrent(kind):
    eqx = pytest.importorskip("equinox")

    class Network(eqx.Module):
        cell: eqx.Module
        out: eqx.nn.Linear

        def __init__(self, key):
            one, two = jax.random.split(key)
            self.cell, self.out = getattr(eqx.nn, kind)(3, 5, key=one), eqx.nn.Linear(5, 6, key=two)

        def __call__(self, x):
            zeros = jnp.zeros(5, x.dtype)
            start = (zeros, zeros) if kind == "LSTMCell" else zeros
            last, _ = jax.lax.scan(lambda carry, u: (self.cell(u, carry), None), start, x)
            return self.out(last[0] if kind == "LSTMCell" else last)

    return *equinox(Network(jax.random.key(0)), batch(7, 6, 3)), {"S(5) with signs": 1}


def equinox_convolutions():
    eqx = pytest.importorskip("equinox")

    class Network(eqx.Module):
        layers: list

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.layers = [
                eqx.nn.Conv2d(3, 6, 3, key=keys[0]),
                jax.nn.relu,
                eqx.nn.MaxPool2d(2, 2),
                eqx.nn.Conv2d(6, 4, 2, key=keys[1]),
                jax.nn.leaky_relu,
                lambda h: h.mean((1, 2)),
                eqx.nn.Linear(4, 5, key=keys[2]),
            ]

        def __call__(self, h):
            for layer in self.layers:
                h = layer(h)
            return h

    return *equinox(Network(jax.random.key(0)), batch(6, 3, 8, 8)), {"S(6) with scales": 1, "S(4) with scales": 1}


NETWORKS = {
    "Flax, convolutions and batch norm": linen_cnn,
    "Flax, MLP": linen_mlp,
    "Flax, LSTM": functools.partial(linen_recurrent, "LSTMCell"),
    "Flax, GRU": functools.partial(linen_recurrent, "GRUCell"),
    "Flax, encoder": linen_transformer,
    "Flax nnx": nnx_network,
    "Equinox, MLP": equinox_mlp,
    "Equinox, attention": equinox_attention,
    "Equinox, LSTM": functools.partial(equinox_recurrent, "LSTMCell"),
    "Equinox, GRU": functools.partial(equinox_recurrent, "GRUCell"),
    "Equinox, convolutions": equinox_convolutions,
}
PRECISIONS = {jnp.float64: 1e-12, jnp.float32: 1e-5, jnp.bfloat16: 0.2, jnp.float16: 0.03}


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_of_other_libraries_have_their_groups_and_keep_their_functions(name, key):
    f, params, x, groups = NETWORKS[name]()
    found = jd.symmetries(f, params, x)
    counted = {}
    for stream in found.values():
        counted[stream.group.name] = counted.get(stream.group.name, 0) + 1
    assert counted == groups
    elements = found.random(key)
    for dtype, allowed in PRECISIONS.items():
        cast = functools.partial(
            jax.tree.map,
            lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf,  # noqa: B023
        )
        some, data = cast(params), x.astype(dtype)
        moved = jd.transform(f, some, data, elements)
        assert [leaf.dtype for leaf in jax.tree.leaves(moved)] == [leaf.dtype for leaf in jax.tree.leaves(some)]
        before, after = (jax.jit(f)(p, data).astype(float) for p in (some, moved))
        assert float(jnp.abs(after - before).max() / jnp.abs(before).max()) < allowed
        assert max(float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (some, moved)), strict=True)) > 0.1
