"""Symmetries of full-depth networks are those that others wrote down by hand: Git Re-Basin, QuaRot, SpinQuant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from agreement import HAND_WRITTEN, IMAGES, LLAMA_BLOCKS, ROTATED, llama, network, ties
from architectures import draw, tokens

import jaxdescramble as jd

STATISTICS = ("mean", "var")


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def axes(stream):
    """The axes of a stream, as pairs (leaf, axis)."""
    every = ((path, ends if isinstance(ends[0], tuple) else (ends,)) for path, ends in stream.leaves.items())
    return frozenset((path.removeprefix("['").removesuffix("']"), axis) for path, ends in every for axis, _ in ends)


def worst(f, params, moved, x):
    before, after = jax.jit(f)(params, x), jax.jit(f)(moved, x)
    return float(jnp.abs(after - before).max() / jnp.abs(before).max())


@pytest.mark.parametrize("name", list(HAND_WRITTEN))
def test_streams_are_the_groups_of_git_re_basin_and_nothing_else(name, key):
    body, rows, groups, listed = HAND_WRITTEN[name]
    f, params = network(body, IMAGES)
    found = jd.symmetries(f, params, IMAGES)
    by_hand = ties(rows, params)
    assert {axes(stream) for stream in found.values()} == set(map(frozenset, by_hand.values()))
    # The originals leave out running statistics, and compute them anew after a permutation.
    without = [end for group in by_hand.values() for end in group if not end[0].endswith(STATISTICS)]
    assert (len(by_hand), len(without)) == (groups, listed)
    assert all(stream.group.moves for stream in found.values())
    moved = jd.transform(f, params, IMAGES, found.random(key))
    assert worst(f, params, moved, IMAGES) < (1e-12 if IMAGES.dtype == jnp.float64 else 2e-5)


@functools.cache
def small_llama(rotates=True):
    x = tokens(4, 5)
    body = llama if rotates else functools.partial(llama, turned=lambda h: h)
    f, params = network(body, x)
    return f, params, x, jd.symmetries(f, params, x)


def hadamard(n):
    return scipy.linalg.hadamard(n) / n**0.5


def orthogonal(*shape):
    return np.linalg.qr(np.random.default_rng(1).normal(size=shape))[0]


@pytest.mark.thorough
def test_rotations_of_a_llama_are_those_of_quarot_and_spinquant():
    f, params, x, found = small_llama()
    by_axes = {axes(stream): name for name, stream in found.items()}
    names = {rotation: by_axes[frozenset(ends)] for rotation, ends in ROTATED.items()}
    first = names.pop("R1")
    assert found[first].group.name == "O(6)"
    assert set(found) - {first} == {name for name in found if name[2] in "01"}
    # They take one rotation for the values of a layer; every key and value head has one of its own, and any matrix.
    assert {found[name].group.name for name in names.values()} == {"GL(8) at each of 2 places"}
    turn, shared = orthogonal(6, 6), orthogonal(8, 8)
    moved = jd.transform(f, params, x, {first: turn} | dict.fromkeys(names.values(), shared))
    np.testing.assert_allclose(moved["embed"], params["embed"] @ turn.T, atol=1e-6)
    np.testing.assert_allclose(moved["0/down"], params["0/down"] @ turn.T, atol=1e-6)
    # The group acts on columns of the signal. Of a weight (in, out), the output is its second axis.
    value = (turn @ np.asarray(params["0/v"])).reshape(6, 2, 8)
    np.testing.assert_allclose(moved["0/v"].reshape(6, 2, 8), value @ shared.T, atol=1e-6)
    assert worst(f, params, moved, x) < 1e-5
    apart = np.random.default_rng(2).normal(size=(2, 8, 8)) + 3 * np.eye(8)
    assert worst(f, params, jd.transform(f, params, x, {names["R2, block 1"]: apart}), x) < 1e-5


@pytest.mark.thorough
def test_hadamard_matrices_that_are_inserted_at_run_time_are_no_symmetries():
    f, params, x, found = small_llama()
    for block in range(LLAMA_BLOCKS):
        units, angles = f"['{block}/gate']", f"['{block}/q']"
        assert axes(found[units]) == {(f"{block}/gate", 1), (f"{block}/up", 1), (f"{block}/down", 0)}
        assert found[units].group.name == "S(8) with signs, scales"
        with pytest.raises(ValueError, match=r"mixes positions(.|\n)*`mul` at .*agreement\.py"):
            jd.transform(f, params, x, {units: hadamard(8)})
        assert axes(found[angles]) == {(f"{block}/q", 1), (f"{block}/k", 1)}
        assert found[angles].group.name == "signs with scales at each of 2 places"
        with pytest.raises(ValueError, match=r"mixes positions(.|\n)*agreement\.py"):
            jd.transform(f, params, x, {angles: hadamard(4)})
    # Without rotary angles, the queries and keys take any matrix; the units still do not.
    g, params, x, found = small_llama(rotates=False)
    assert found["['0/q']"].group.name == "GL(8) at each of 2 places"
    moved = jd.transform(g, params, x, {"['0/q']": hadamard(8)})
    assert worst(g, params, moved, x) < 1e-5
    assert float(jnp.abs(moved["0/q"] - params["0/q"]).max()) > 0.1
    # By force, the function is another one.
    angles = {name: (params[name].reshape(6, -1, 8) @ hadamard(8)).reshape(6, -1) for name in ("0/q", "0/k")}
    assert worst(g, params, params | angles, x) < 1e-5
    assert worst(f, params, params | angles, x) > 1e-3
    forced = params | {name: params[name] @ hadamard(8).T for name in ("0/gate", "0/up")}
    assert worst(g, params, forced | {"0/down": hadamard(8) @ params["0/down"]}, x) > 1e-3


@pytest.mark.thorough
def test_a_hadamard_matrix_is_free_where_the_network_multiplies_by_it():
    """What the papers do at the input of `down`: the network gets a product more, and the weight takes its inverse."""
    turn = jnp.asarray(hadamard(8))
    params, x = {"gate": draw(5, 8), "up": draw(5, 8), "down": draw(8, 9)}, draw(20, 5)

    def f(p, x):
        return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]

    def online(p, x):
        return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ turn @ p["down"]

    np.testing.assert_allclose(online(params | {"down": turn.T @ params["down"]}, x), f(params, x), atol=1e-5)
    assert axes(jd.symmetries(f, params, x)["['gate']"]) == {("gate", 1), ("up", 1), ("down", 0)}
    rest = jd.symmetries(online, params, x)
    # With a constant matrix behind them, the units keep their scales neither, nor their order.
    assert {name: (axes(one), one.group.name) for name, one in rest.items()} == {}
