"""Realistic networks whose groups are smaller than one might expect; each reason names the operation and its line."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import (
    attention,
    attention_params,
    bert,
    convolve,
    draw,
    rms_norm,
    tokens,
    transformer_params,
)

import jaxdescramble as jd

SINUSOIDS = np.stack([fun(np.arange(5) / 100 ** (i / 3)) for i in range(3) for fun in (np.sin, np.cos)], -1)
IMAGES = (6, 6, 6, 2)


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def tied_with_a_final_gain(p, x):
    h = p["embedding"][x]
    h = h + jax.nn.relu(rms_norm(h) @ p["in"]) @ p["out"]
    return (rms_norm(h) * p["gain"]) @ p["embedding"].T


def sinusoids(p, x):
    h = p["embedding"][x] + SINUSOIDS
    h = h + jax.nn.relu(rms_norm(h) @ p["in"]) @ p["out"]
    return rms_norm(h) @ p["head"]


def masked(p, x):
    h = jnp.where(np.asarray([1, 0, 1, 1, 0, 1], bool), jnp.tanh(x @ p["a"]), 0.0)
    return h @ p["b"]


def prelu(p, x):
    h = x @ p["a"]
    return jnp.where(h > 0, h, p["slope"] * h) @ p["b"]


def group_normed(p, x):
    h = x @ p["a"]
    return jax.nn.relu(jax.nn.standardize(h.reshape(len(x), 3, 2)).reshape(len(x), 6)) @ p["b"]


def pixel_shuffled(p, x):
    h = convolve(x, p["a"])
    h = jnp.tanh(h.reshape(6, 6, 6, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(6, 12, 12, 2))
    return convolve(h, p["b"])


def frozen_projection(p, x):
    return jnp.tanh(jnp.tanh(x @ p["a"]) @ FROZEN) @ p["c"]


def spectral(p, x):
    u = np.ones(6) / math.sqrt(6)
    v = u @ p["a"].T
    return jnp.tanh(x @ (p["a"] / (v @ p["a"] @ u))) @ p["b"]


def features_softmaxed(p, x):
    return jax.nn.softmax(x @ p["a"], -1) @ p["b"]


def along_channels(p, x):
    h = jax.nn.relu(x @ p["a"])
    near = jax.lax.reduce_window(h * h, 0.0, jax.lax.add, (1, 3), (1, 1), "SAME")
    return (h / jnp.sqrt(1 + near)) @ p["b"]


def attention_alone(p, x):
    h = p["embedding"][x]
    return attention(p, jnp.tanh(h), 3, 3) @ p["head"]


AB = {"a": draw(4, 6), "b": draw(6, 7)}
IDS = tokens()
FROZEN = np.asarray(draw(6, 4))
RESIDUAL = {"embedding": draw(40, 6), "head": draw(6, 13), "in": draw(6, 9), "out": draw(9, 6)}
CASES = {
    "a tied head reads a final gain": (
        tied_with_a_final_gain,
        {"embedding": draw(40, 6), "gain": draw(6), "in": draw(6, 9), "out": draw(9, 6)},
        IDS,
        ("['embedding']", "S(6) with signs", "mul", "gain", "element by element"),
    ),
    "norms after the sum have gains": (
        bert,
        transformer_params(),
        IDS,
        ("['embedding']", "S(6) with signs, scales, one sign", "mul", "gain1", "element by element"),
    ),
    "sinusoids are added to the stream": (
        sinusoids,
        RESIDUAL,
        IDS,
        ("['embedding']", "", "add", "SINUSOIDS", "constant that is not the same"),
    ),
    "a mask of some units is fixed": (
        masked,
        AB,
        draw(5, 4),
        ("['a']", "signs", "select_n", "jnp.where", "constant"),
    ),
    "slopes are parameters": (
        prelu,
        AB | {"slope": draw(6)},
        draw(50, 4),
        ("['a']", "S(6) with scales", "gt", "slope", "no linear function"),
    ),
    "groups are normed": (
        group_normed,
        AB,
        draw(50, 4),
        ("['a']#2", "S(2) at each of 3 places", "sub", "standardize", "subtracts their mean"),
    ),
    "pixels are shuffled": (
        pixel_shuffled,
        {"a": draw(3, 3, 2, 8), "b": draw(3, 3, 2, 3)},
        draw(*IMAGES),
        ("['a']", "S(2) with signs", "tanh", "jnp.tanh", "no linear function"),
    ),
    "a projection is frozen": (
        frozen_projection,
        {"a": draw(4, 6), "c": draw(4, 7)},
        draw(50, 4),
        ("['a']", "", "dot_general", "FROZEN", "constant that is not"),
    ),
    "a spectral norm starts from ones": (
        spectral,
        AB,
        draw(50, 4),
        ("['a']", "S(6)", "dot_general", "v @ p", "sums them all up"),
    ),
    "a softmax runs along the features": (
        features_softmaxed,
        AB,
        draw(50, 4),
        ("['a']", "S(6)", "exp", "softmax", "no linear function"),
    ),
    "neighbouring features are summed": (
        along_channels,
        AB,
        draw(50, 4),
        ("['a']", "", "reduce_window_sum", "reduce_window", "slides a window"),
    ),
    "a curve comes before attention": (
        attention_alone,
        {"embedding": draw(40, 6), "head": draw(6, 13)} | attention_params(6, 3, 3),
        IDS,
        ("['embedding']", "S(6) with signs", "tanh", "jnp.tanh", "no linear function"),
    ),
}


def reasons(found, stream):
    """The operation, line and text of what restricts a stream; of all of them if there is no such stream."""
    if stream in found:
        return [(why.operation, why.line, why.text) for why in found[stream].why]
    asked = [one.restriction for some in found.derivation.asked.values() for one in some]
    return [
        ("", "", one.text) if one.operation is None else (one.operation.name, one.operation.source, one.text)
        for one in asked
    ]


@pytest.mark.parametrize("name", list(CASES))
def test_groups_that_are_smaller_than_expected_name_the_operation_and_its_line(name, key):
    f, params, x, (stream, group, primitive, code, text) = CASES[name]
    found = jd.symmetries(f, params, x)
    assert (found[stream].group.name if stream in found else "") == group
    named = [(line, why) for operation, line, why in reasons(found, stream) if operation == primitive and text in why]
    assert named
    if primitive:
        lines = [int(re.search(r"(\w+)\.py:(\d+)", line)[2]) for line, _ in named]
        files = [Path(__file__).parent / (re.search(r"(\w+\.py):", line)[1]) for line, _ in named]
        assert any(code in file.read_text().splitlines()[at - 1] for file, at in zip(files, lines, strict=True))
    before, after = f(params, x), f(jd.transform(f, params, x, found.random(key)), x)
    assert float(jnp.abs(after - before).max()) < 1e-12
    if stream in found or params is RESIDUAL:
        # An element of the group that one might expect is refused, or there is nothing to move.
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
        with pytest.raises(ValueError, match=r"mixes positions|there is no stream|has shape"):
            jd.transform(f, params, x, {stream: turn})
