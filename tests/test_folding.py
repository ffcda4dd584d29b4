"""Folding of gains and offsets: the function stays, the groups grow, and what must stay says why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import ARCHITECTURES, draw, layer_norm, rms_norm, tokens

import jaxdescramble as jd


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def close(f, params, moved, x, allowed=None):
    before, after = f(params, x), f(moved, x)
    allowed = allowed or (1e-12 if before.dtype == jnp.float64 else 2e-5)
    return float(jnp.abs(after - before).max() / jnp.abs(before).max()) < allowed


@pytest.mark.both_precisions
def test_a_transformer_with_layer_norm_gets_its_rotations(key):
    f, params, x, groups = ARCHITECTURES["gpt"]
    assert groups["['embedding']"].startswith("S(6)")
    folded, what = jd.fold(f, params, x)
    assert close(f, params, folded, x)
    block = "['blocks'][0]"
    assert what[f"{block}['gain1']"] == f"multiplied into {block}['q'], {block}['k'], {block}['v']"
    assert what[f"{block}['offset1']"] == f"moved into {block}['bq'], {block}['bk'], {block}['bv']"
    assert what["['offset']"] == "kept: the network has no bias that could take it up"  # the head has none
    assert not folded["blocks"][0]["offset1"].any()
    assert (folded["gain"] == 1).all()
    found = jd.symmetries(f, folded, x, at_values=True)
    assert found["['embedding']"].group.name == "O(5) on mean 0, any shift"
    moved = jd.transform(f, folded, x, found.random(key), at_values=True)
    assert close(f, params, moved, x)
    # For all values, the group is what it was.
    assert jd.symmetries(f, folded, x)["['embedding']"].group.name == groups["['embedding']"]


def llama_with_gains(p, x):
    h = p["embedding"][x]
    for block in p["blocks"]:
        h = h + jax.nn.relu((rms_norm(h) * block["gain"]) @ block["in"]) @ block["out"] * block["scale"]
    return (rms_norm(h) * p["gain"]) @ p["head"] + p["bias"]


@pytest.mark.thorough
def test_signs_scales_of_branches_and_later_offsets(key):
    blocks = [{"gain": draw(6), "in": draw(6, 9), "out": draw(9, 6), "scale": draw(6)} for _ in range(2)]
    params = {"embedding": draw(40, 6), "blocks": blocks, "gain": draw(6), "head": draw(6, 13), "bias": draw(13)}
    x = tokens()
    folded, what = jd.fold(llama_with_gains, params, x)
    assert what["['blocks'][1]['scale']"] == "multiplied into ['blocks'][1]['out']"
    assert what["['gain']"] == "multiplied into ['head']"
    assert list(what) == sorted(what)
    assert close(llama_with_gains, params, folded, x)
    found = jd.symmetries(llama_with_gains, folded, x, at_values=True)
    assert found["['embedding']"].group.name == "O(6)"
    rotated = jd.transform(llama_with_gains, folded, x, found.random(key), at_values=True)
    assert close(llama_with_gains, params, rotated, x)
    again, nothing = jd.fold(llama_with_gains, folded, x)
    assert set(nothing) == set(what)
    np.testing.assert_array_equal(again["head"], folded["head"])


def test_what_must_stay_stays_and_says_why():
    def head(p, x):
        return (layer_norm(p["embedding"][x]) * p["gain"] + p["offset"]) @ p["embedding"].T

    params = {"embedding": draw(40, 6), "gain": draw(6), "offset": draw(6)}
    folded, what = jd.fold(head, params, tokens())
    assert what["['gain']"].startswith("kept: `sub` at")
    assert "architectures.py" in what["['gain']"]
    assert what["['offset']"] == "kept: the network has no bias that could take it up"
    np.testing.assert_array_equal(folded["gain"], params["gain"])

    def plain(p, x):
        return (layer_norm(x @ p["in"]) * p["gain"] + p["offset"]) @ p["out"] + p["bias"]

    params = {"in": draw(4, 6), "gain": draw(6).at[2].set(0), "offset": draw(6), "out": draw(6, 3), "bias": draw(3)}
    folded, what = jd.fold(plain, params, draw(5, 4))
    assert what["['gain']"] == "kept: it has numbers that are 0 or not finite"
    assert what["['offset']"] == "moved into ['bias']"
    np.testing.assert_allclose(folded["bias"], params["bias"] + params["offset"] @ params["out"], rtol=1e-5)

    def curved(p, x):
        return jnp.tanh(layer_norm(x @ p["in"]) * p["gain"] + p["offset"]) @ p["out"] + p["bias"]

    _, what = jd.fold(curved, params, draw(5, 4))
    assert "`tanh` at" in what["['offset']"]

    def shifted(p, x):
        return layer_norm(x @ p["in"]) * (1 + p["gain"]) @ p["out"]

    _, what = jd.fold(shifted, params | {"gain": draw(6)}, draw(5, 4))
    assert what["['gain']"].startswith("kept: `add` at")


@pytest.mark.thorough
def test_an_offset_that_padding_cuts_off_stays():
    def f(p, x):
        h = jax.nn.standardize(x) * p["gain"] + p["offset"]
        layout = ("NHC", "HIO", "NHC")
        return jax.lax.conv_general_dilated(h, p["kernel"], (1,), p_padding, dimension_numbers=layout) + p["bias"]

    params = {"gain": draw(4), "offset": draw(4), "kernel": draw(3, 4, 5), "bias": draw(5)}
    x = draw(6, 10, 4)
    p_padding = "SAME"
    folded, what = jd.fold(f, params, x)
    assert "differ from place to place" in what["['offset']"]
    p_padding = "VALID"
    folded, what = jd.fold(f, params, x)
    assert what == {"['gain']": "multiplied into ['kernel']", "['offset']": "moved into ['bias']"}
    assert close(f, params, folded, x)


@pytest.mark.thorough
def test_types_are_kept_and_traced_parameters_are_refused(as_installed):
    def f(p, x):
        return (rms_norm(x @ p["in"]) * p["gain"] + p["offset"]) @ p["out"] + p["bias"]

    params = {"in": draw(4, 6), "gain": 1 + draw(6) / 9, "offset": draw(6), "out": draw(6, 3), "bias": draw(3)}
    x = draw(5, 4)
    for dtype in (jnp.bfloat16, jnp.float16):
        half = jax.tree.map(lambda leaf: leaf.astype(dtype), params)  # noqa: B023
        folded, _ = jd.fold(f, half, x.astype(dtype))
        assert {leaf.dtype for leaf in jax.tree.leaves(folded)} == {jnp.dtype(dtype)}
        assert close(lambda p, x: f(p, x).astype(jnp.float32), half, folded, x.astype(dtype), 0.1)
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda p: jd.fold(f, p, x))(params)
    with pytest.raises(TypeError, match="f: "):
        jd.fold(3, params, x)  # type: ignore[arg-type]


def test_only_leaves_of_zeros_or_ones_are_constants():
    def f(p, x):
        return (rms_norm(x @ p["in"]) * p["gain"] + p["offset"]) @ p["out"]

    params = {"in": draw(4, 6), "gain": jnp.ones(6), "offset": jnp.zeros(6), "out": draw(6, 8)}
    x = draw(5, 4)
    assert jd.symmetries(f, params, x, at_values=True)["['in']"].group.name == "O(6)"
    assert jd.symmetries(f, params, x)["['in']"].group.name == "S(6) with 2 signs, scales"
    half = params | {"gain": jnp.array([1.0, 1, 1, 0, 0, 0])}
    assert jd.symmetries(f, half, x, at_values=True)["['in']"].group.name == "S(6) with 2 signs, scales"
    with pytest.raises(TypeError, match="at_values"):
        jd.symmetries(f, params, x, at_values=2)  # type: ignore[arg-type]
