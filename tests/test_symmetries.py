"""Symmetries: elements keep the function, groups are the largest, and each refusal names its operation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import ARCHITECTURES, MULTILAYER, draw, layer_norm, multilayer, rms_norm
from further_architectures import EVERY
from random_networks import random_network

import jaxdescramble as jd

NAMES = list(EVERY)


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def worst(f, params, moved, x):
    before, after = f(params, x), f(moved, x)
    return float(jnp.abs(after - before).max() / jnp.abs(before).max())


@pytest.mark.both_precisions
@pytest.mark.parametrize("name", NAMES)
def test_random_elements_keep_the_function(name, key):
    f, params, x, groups = EVERY[name]
    found = jd.symmetries(f, params, x)
    assert {stream: one.group.name for stream, one in found.items()} == groups
    moved = jd.transform(f, params, x, found.random(key))
    assert worst(jax.jit(f), params, moved, x) < (1e-12 if draw(1).dtype == jnp.float64 else 2e-5)
    change = [float(jnp.abs(a - b).max()) for a, b in zip(*map(jax.tree.leaves, (params, moved)), strict=True)]
    leaves = {path for stream in found.values() for path in stream.leaves}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert {path for path, one in zip(paths, change, strict=True) if one > 1e-3} <= leaves
    assert max(change) > 0.1


@pytest.mark.thorough
def test_random_elements_keep_the_function_of_random_networks(key):
    moved_at_all = 0
    for seed in range(60):
        f, params, x, names = random_network(seed)
        found = jd.symmetries(f, params, x)
        moved_at_all += len(found) > 0
        before, after = f(params, x), f(jd.transform(f, params, x, found.random(key)), x)
        error = float(jnp.abs(after - before).max()) / max(float(jnp.abs(before).max()), 1e-6)
        assert error < 1e-8, (seed, names, found)
    assert moved_at_all > 20


def test_the_table_and_the_reasons():
    f, params, x, _ = ARCHITECTURES["residual, rms norm"]
    found = jd.symmetries(f, params, x)
    table = str(found).splitlines()
    assert table[0].split() == ["stream", "size", "group", "leaves"]
    assert table[1].split() == ["['embedding']", "6", "O(6)", "6"] or table[1].split()[2] == "O(6)"
    stream = found["['embedding']"]
    assert stream.leaves["['embedding']"] == (1, "written")
    assert stream.to_dict()["dimension"] == 15
    assert list(found.to_dict()) == list(found)
    assert found._repr_html_().count("<tr>") == len(found) + 1
    assert stream.leaves["['head']"] == (0, "read")
    assert stream.leaves["['blocks'][0]['out']"] == (1, "written")
    assert any(re.search(r"`reduce_sum`|`add`|`div`", str(why)) or "norm" in why.text for why in stream.why)
    assert all("architectures.py" in why.line for why in stream.why)


REBASIN = {
    "relu": {"['a']": {"['a']": (1, "written"), "['bias_a']": (0, "written"), "['b']": (0, "read")}},
    "resnet, batch norm": {
        "['stem']": {"['stem']": (3, "written"), "['head']": (0, "read")}
        | {"['blocks'][0]['one']": (2, "read"), "['blocks'][0]['two']": (3, "written")}
        | {
            f"{norm}['{leaf}']": (0, "written")
            for norm in ("['norm']", "['blocks'][0]['norm2']")
            for leaf in ("mean", "offset")
        },
    },
}


@pytest.mark.parametrize("name", list(REBASIN))
def test_axes_are_those_that_git_re_basin_lists(name):
    """Ainsworth, Hayase, Srinivasa 2023: a permutation ties kernel out, bias, norm, and the next kernel in."""
    f, params, x, _ = ARCHITECTURES[name]
    found = jd.symmetries(f, params, x)
    for stream, leaves in REBASIN[name].items():
        for path, where in leaves.items():
            assert found[stream].leaves[path] == where
    if name != "relu":
        assert {f"['norm']['{leaf}']" for leaf in ("mean", "var", "gain", "offset")} <= set(found["['stem']"].leaves)


def nothing(hidden):
    return lambda p, x: hidden(jnp.tanh(x @ p["a"]), p) @ p["b"]


NONE = {
    "reversed": (lambda h, p: h + h[:, ::-1], "rev"),
    "summed up in order": (lambda h, p: jnp.cumsum(h, axis=1), "cumsum"),
    "sorted and used as positions": (lambda h, p: jnp.argsort(h, axis=1).astype(float), "sort"),
    "weighed by place": (lambda h, p: jnp.exp(h) * jnp.arange(1.0, 7.0), "mul"),
    "shifted by place": (lambda h, p: h + jnp.arange(6.0), "add"),
    "mixed by a constant matrix": (lambda h, p: jnp.exp(h @ np.arange(36.0).reshape(6, 6)), "dot_general"),
    "compared with places": (lambda h, p: jnp.where(h > jnp.arange(6.0), h, 2.0), "gt"),
    "Fourier transform": (lambda h, p: jnp.abs(jnp.fft.fft(h)), "fft"),
    "added to the data": (lambda h, p: h + jnp.concatenate([h[:, :1] * 0, h[:, 1:]], 1)[:, ::-1], "rev"),
    "looked up": (lambda h, p: h[:, jnp.asarray([3, 1, 0, 2, 5, 4])] + h, "gather"),
    "convolved along": (lambda h, p: jax.vmap(lambda row: jnp.convolve(row, p["k"], "same"))(h), "conv"),
}


@pytest.mark.every_case
@pytest.mark.parametrize("name", list(NONE))
def test_no_symmetry_where_the_order_matters(name):
    hidden, primitive = NONE[name]
    params = {"a": draw(4, 6), "b": draw(6, 3), "k": draw(3)}
    f, x = nothing(hidden), draw(5, 4)
    found = jd.symmetries(f, params, x)
    assert "['a']" not in found
    with pytest.raises(ValueError, match="there is no stream"):
        jd.transform(f, params, x, {"['a']": np.arange(6)})
    everything = found.derivation
    reasons = [
        one.restriction.operation.name
        for some in everything.asked.values()
        for one in some
        if one.restriction.operation is not None
    ]
    assert any(primitive in one for one in reasons)


def test_elements_are_taken_in_every_form():
    f, params, x = multilayer(jax.nn.relu), MULTILAYER, draw(20, 5)
    order = np.asarray([3, 1, 0, 2, 7, 6, 5, 4])
    moved = jd.transform(f, params, x, {"['a']": order})
    np.testing.assert_array_equal(moved["a"], params["a"][:, order])
    np.testing.assert_array_equal(moved["b"], params["b"][order])
    np.testing.assert_array_equal(moved["c"], params["c"])
    np.testing.assert_array_equal(jd.transform(f, params, x, {"['a']": np.eye(8)[order]})["a"], moved["a"])
    scales = np.linspace(0.5, 2, 8)
    scaled = jd.transform(f, params, x, {"['a']": scales})
    np.testing.assert_allclose(scaled["a"], params["a"] * scales, rtol=1e-6)
    np.testing.assert_allclose(scaled["b"], params["b"] / scales[:, None], rtol=1e-6)
    both = jd.transform(f, params, x, {"['a']": np.eye(8)[order] * scales[:, None]})
    np.testing.assert_allclose(both["bias_a"], params["bias_a"][order] * scales, rtol=1e-6)
    # Two queries at each of two places: a (2, 2) matrix is an order, too.
    f, params, x, _ = ARCHITECTURES["llama, grouped queries"]
    swapped, moved = (
        jd.transform(f, params, x, {"['blocks'][0]['q']#3": one}) for one in (np.eye(2)[::-1], np.asarray([1, 0]))
    )
    np.testing.assert_array_equal(swapped["blocks"][0]["q"], moved["blocks"][0]["q"])
    assert bool((moved["blocks"][0]["q"] != params["blocks"][0]["q"]).all())


def test_a_rotation_moves_the_residual_stream_and_heads_move_one_by_one():
    f, params, x, _ = ARCHITECTURES["residual, rms norm"]
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    moved = jd.transform(f, params, x, {"['embedding']": turn})
    np.testing.assert_allclose(moved["embedding"], params["embedding"] @ turn.T, atol=1e-6)
    np.testing.assert_allclose(moved["head"], turn @ params["head"], atol=1e-6)
    f, params, x, _ = ARCHITECTURES["heads split"]
    turns = np.random.default_rng(3).normal(size=(3, 2, 2)) + 2 * np.eye(2)
    moved = jd.transform(f, params, x, {"['qkv']": turns})
    whole = np.asarray(params["qkv"]).reshape(6, 3, 3, 2)
    np.testing.assert_allclose(
        np.asarray(moved["qkv"]).reshape(6, 3, 3, 2)[:, 0], np.einsum("hij,nhj->nhi", turns, whole[:, 0]), rtol=1e-5
    )
    assert worst(f, params, moved, x) < 1e-5


def test_types_are_kept_and_shared_arrays_move_as_one():
    f = multilayer(jax.nn.relu)
    for dtype, allowed in ((jnp.bfloat16, 0.05), (jnp.float16, 0.01)):
        params, x = jax.tree.map(lambda leaf: leaf.astype(dtype), MULTILAYER), draw(20, 5).astype(dtype)  # noqa: B023
        moved = jd.transform(f, params, x, {"['a']": np.asarray([2.0, 0.5] * 4)})
        assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}
        assert worst(lambda p, x: f(p, x).astype(jnp.float32), params, moved, x) < allowed
    square = draw(6, 6)
    apart = {"a": draw(5, 6), "b": square, "c": square + 0, "d": draw(6, 2)}

    def g(p, x):
        return jnp.tanh(jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"]) @ p["d"]

    assert len(jd.symmetries(g, apart, draw(4, 5))) == 3
    together = jd.symmetries(g, apart | {"c": square}, draw(4, 5))
    assert list(together) == ["['a']"]  # what one array writes, the other one reads
    moved = jd.transform(g, apart | {"c": square}, draw(4, 5), {"['a']": np.asarray([1, 0, 2, 3, 5, 4])})
    np.testing.assert_array_equal(moved["b"], moved["c"])


BAD = {
    "not orthogonal": ("residual, rms norm", "['embedding']", 2 * np.eye(6), "is not orthogonal"),
    "singular": ("linear", "['a']", np.zeros((8, 8)), "singular"),
    "not finite": ("linear", "['a']", np.full((8, 8), np.nan), "not finite"),
    "mixed": ("relu", "['a']", np.ones((8, 8)) + np.eye(8), "mixes positions"),
    "negative": ("relu", "['a']", -np.ones(8), "negative scales; none are free"),
    "scaled": ("gelu", "['a']", 2 * np.ones(8), "none are free here"),
    "zero": ("relu", "['a']", np.zeros(8), "zero or not finite"),
    "shape": ("relu", "['a']", np.ones((3, 3)), r"expected \(8,\) or \(8, 8\)"),
    "twice": ("relu", "['a']", np.asarray([0, 0, 1, 2, 3, 4, 5, 6]), "each once"),
    "mean": ("residual, layer norm", "['embedding']", np.diag([1.0, -1, 1, 1, 1, 1]), "vector of ones"),
}


@pytest.mark.every_case
@pytest.mark.parametrize("name", list(BAD))
def test_elements_outside_the_group_are_refused_with_the_line(name):
    architecture, stream, value, text = BAD[name]
    f, params, x, _ = ARCHITECTURES[architecture]
    with pytest.raises(ValueError, match=text) as error:
        jd.transform(f, params, x, {stream: value})
    assert stream in str(error.value)
    if architecture not in ("linear",):
        assert "architectures.py" in str(error.value)


def test_other_arguments_are_refused(as_installed):
    f, params, x = multilayer(jnp.tanh), MULTILAYER, draw(4, 5)
    with pytest.raises(TypeError, match="f: "):
        jd.symmetries(3, params, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="elements: expected a mapping"):
        jd.transform(f, params, x, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"there is no stream 'z'; there are \['a'\], \['b'\]"):
        jd.transform(f, params, x, {"z": np.arange(8)})
    with pytest.raises(ValueError, match="belongs to another stream"):
        jd.transform(f, params, x, {"['a']": jd.symmetries(f, params, x)["['b']"].random(jax.random.key(0))})
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda p: jd.transform(f, p, x, {"['a']": np.arange(8)}))(params)
    with pytest.raises(KeyError, match="there is no stream"):
        jd.symmetries(f, params, x)["z"]


def test_operations_without_a_rule_stop_and_random_numbers_do_no_harm(key):
    def f(p, x):
        h = jnp.tanh(x @ p["a"])
        keep = jax.random.bernoulli(jax.random.wrap_key_data(p["key"]), 0.5, h.shape)
        return jnp.where(keep, h, 0) @ p["b"]

    params = {"a": draw(4, 6), "b": draw(6, 3)}
    for mask in (f, lambda p, x: jnp.where(jnp.arange(6) > 2, jnp.tanh(x @ p["a"]), 0) @ p["b"]):
        found = jd.symmetries(mask, params | {"key": jax.random.key_data(key)}, draw(5, 4))
        assert {name: stream.group.name for name, stream in found.items()} == {"['a']": "signs"}

    def g(p, x):
        h = jax.lax.while_loop(lambda h: jnp.sum(h) < 3, lambda h: h + jnp.tanh(h) ** 2, jnp.tanh(x @ p["a"]))
        return h @ p["b"]

    assert not jd.symmetries(g, {"a": draw(4, 6), "b": draw(6, 3)}, draw(5, 4))


def test_norms_written_in_other_ways_are_found():
    def fast(v):
        mean, square = v.mean(-1, keepdims=True), jnp.square(v).mean(-1, keepdims=True)
        return (v - mean) * jax.lax.rsqrt(jnp.maximum(0.0, square - jnp.square(mean)) + 1e-6)

    def by_norm(v):
        return v / jnp.linalg.norm(v, axis=-1, keepdims=True)

    def in_float32(v):
        return rms_norm(v.astype(jnp.float32)).astype(v.dtype)

    for norm, group in ((fast, "O(5) on mean 0, any shift"), (by_norm, "O(6)"), (in_float32, "O(6)")):
        params = {"a": draw(4, 6), "b": draw(6, 9)}
        assert jd.symmetries(lambda p, x: norm(x @ p["a"]) @ p["b"], params, draw(5, 4))["['a']"].group.name == group  # noqa: B023
    both = jd.symmetries(lambda p, x: (rms_norm(x @ p["a"]) + layer_norm(x @ p["a"])) @ p["b"], params, draw(5, 4))
    assert both["['a']"].group.dimension == 10
