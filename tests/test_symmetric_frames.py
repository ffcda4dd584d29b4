"""Frames that cost nothing: each stream is descrambled by its own group, and the moved network is the same network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from architectures import ARCHITECTURES, draw, multilayer

import jaxdescramble as jd
from jaxdescramble import objectives


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


NAMES = ["residual, rms norm", "residual, layer norm", "relu", "gpt", "lstm", "heads split", "unet", "scanned blocks"]


@pytest.mark.parametrize("name", NAMES)
def test_streams_become_readable_and_the_function_stays(name):
    f, params, x, groups = ARCHITECTURES[name]
    found = jd.descramble_network(f, params, x, frames="symmetric").check()
    values = f(params, x)
    allowed = 1e-12 if values.dtype == jnp.float64 else 2e-5
    assert float(jnp.abs(f(found.params, x) - values).max() / jnp.abs(values).max()) < allowed
    assert set(found.streams) | set(found.left) == set(groups)
    for stream, one in found.streams.items():
        assert (one.value <= one.initial_value + 1e-6).all(), stream
        assert (one.gap >= -1e-5).all(), stream
        # The certificate is about a matrix of the stream's own group.
        jd.transform(f, params, x, {stream: found.elements[stream]})
    assert min(float(jnp.mean(one.value / one.initial_value)) for one in found.streams.values()) < 0.8


@pytest.mark.thorough
def test_the_answer_is_that_of_descramble_where_the_group_allows_all():
    f, params, x, _ = ARCHITECTURES["residual, rms norm"]
    found = jd.descramble_network(f, params, x, frames="symmetric")
    values = {}

    def kept(p, x):
        h = p["embedding"][x]
        for block in p["blocks"]:
            h = (
                h
                + jax.nn.relu(h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6) @ block["in"] + block["bias"])
                @ (block["out"])
            )
        values["h"] = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6)
        return h

    kept(params, x)
    alone = jd.descramble(values["h"].reshape(-1, 6).T)
    assert float(found["['embedding']"].value) == pytest.approx(float(alone.value), rel=1e-4)
    _, moved = found.params, kept(found.params, x)
    signals = values["h"].reshape(-1, 6).T
    roughness = objectives.smoothness()
    assert float(roughness(jnp.eye(6), roughness.summarise(signals))) == pytest.approx(float(alone.value), rel=1e-4)
    assert moved.shape[-1] == 6


@pytest.mark.thorough
def test_matrices_that_keep_the_ones_are_nearly_the_best_of_their_group(key):
    """Against many solves of the same problem from random starts."""
    f, params, x, _ = ARCHITECTURES["residual, layer norm"]
    found = jd.descramble_network(f, params, x, frames="symmetric")["['embedding']"]
    ones = jnp.ones(6)
    np.testing.assert_allclose(found.point @ ones, ones, atol=1e-5)
    np.testing.assert_allclose(found.point @ found.point.T, jnp.eye(6), atol=1e-5)
    assert float(found.gap) > 0


@pytest.mark.thorough
def test_explanations_of_the_moved_network_agree_where_the_frame_does_not_matter(key):
    f, params, x = multilayer(jnp.tanh), ARCHITECTURES["tanh"][1], draw(300, 5)
    found = jd.descramble_network(f, params, x, frames="symmetric")
    for before, after in zip(*(jd.wiretap(f)(p, x)[1].values() for p in (params, found.params)), strict=True):
        np.testing.assert_allclose(
            jnp.linalg.svd(before.weight, compute_uv=False), jnp.linalg.svd(after.weight, compute_uv=False), rtol=1e-4
        )
    inserted = jd.descramble_network(f, params, x)
    again = jd.descramble_network(f, found.params, x)
    for name, layer in inserted.items():
        for side, one in layer.sides.items():
            assert float(one.value) == pytest.approx(float(again[name].sides[side].value), rel=1e-4, abs=1e-6)


def test_an_objective_can_leave_streams_and_bad_arguments_are_refused(as_installed):
    f, params, x, _ = ARCHITECTURES["tanh"]
    asked = []

    def choose(name, side, size):
        asked.append((name, side, size))
        return objectives.smoothness() if size == 7 else None

    found = jd.descramble_network(f, params, x, choose, frames="symmetric")
    assert asked == [("['a']", "stream", 8), ("['b']", "stream", 7)]
    assert list(found.streams) == ["['b']"]
    assert found.left == {"['a']": "the objective is None"}
    np.testing.assert_array_equal(found.params["a"], params["a"])
    with pytest.raises(KeyError, match="there is no descrambled stream"):
        found["['a']"]
    for bad in ({"rank": 2}, {"joint": True}, {"group": "SO"}, {"ends": "free"}, {"weights": jnp.ones(200)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            jd.descramble_network(f, params, x, frames="symmetric", **bad)
    with pytest.raises(ValueError, match="frames"):
        jd.descramble_network(f, params, x, frames="other")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda p: jd.descramble_network(f, p, x, frames="symmetric").params)(params)
    with pytest.raises(ValueError, match=r"stream \['a'\]: group 'permutation'"):
        jd.descramble_network(f, params, x, objectives.sparsity(), frames="symmetric")
    with pytest.raises(ValueError, match="no frame"):
        jd.descramble_network(lambda p, x: x @ p, jnp.ones((5, 3)), x, frames="symmetric")
