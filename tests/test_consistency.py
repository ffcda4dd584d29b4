"""Agreement of several networks against chance: planted stories are told, noise is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import exact, operators
from jaxdescramble.findings import consistency
from jaxdescramble.findings.agreement import chance_twin, pairwise_cosines
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
LINK, INPUT, COUNT = 7, 12, 5


def networks(key, noise):
    """One matrix, turned by a random element of the gauge for each network, and noise."""
    keys = jax.random.split(key, 3)
    story = orthogonal.random(keys[0], LINK) @ jax.random.normal(keys[1], (LINK, INPUT))
    D = operators.derivative(LINK)

    def turned(key):
        a, b = jax.random.split(key)
        modes = D.analyse(story)
        blocks = [orthogonal.random(one, k) for one, k in zip(jax.random.split(a, 4), D.multiplicities, strict=True)]
        first, parts = 0, []
        for block in blocks:
            parts.append(block @ modes[first : first + len(block)])
            first += len(block)
        return D.synthesise(jnp.concatenate(parts)) + noise * jax.random.normal(b, story.shape)

    return jax.vmap(turned)(jax.random.split(keys[2], COUNT))


@pytest.mark.thorough
@needs_x64
def test_a_story_told_in_different_gauges_is_one_story(key):
    found = consistency(networks(key, 0.0), key=key, draws=40)
    np.testing.assert_allclose(found.score, 1, rtol=1e-12)
    assert found.p_value == pytest.approx(1 / 41)
    assert found.effect > 5
    score, null = found
    assert (score, len(null)) == (found.score, 40)
    assert float(pairwise_cosines(networks(key, 0.0), None)[0, 1]) < 0.9  # it takes the gauge to see it


@needs_x64
def test_chance_is_told_as_chance(key):
    ps = [
        consistency(jax.random.normal(one, (COUNT, LINK, INPUT)), key=jax.random.fold_in(one, 1), draws=19).p_value
        for one in jax.random.split(key, 12)
    ]
    assert 0.2 < np.mean(ps) < 0.8
    assert np.min(ps) < 0.5 < np.max(ps)


@needs_x64
def test_the_score_falls_as_noise_drowns_the_story(key):
    scores = [consistency(networks(key, noise), key=key, draws=2).score for noise in (0.0, 0.5, 3.0)]
    assert scores[0] > scores[1] > scores[2]


@needs_x64
def test_a_twin_keeps_what_it_says_and_nothing_else(key):
    W = jax.random.normal(key, (LINK, INPUT))
    twin = chance_twin(key, W)
    np.testing.assert_allclose(twin @ twin.T, W @ W.T, rtol=1e-10, atol=1e-10)
    assert float(jnp.abs(jnp.sum(twin * W)) / jnp.sum(W**2)) < 0.5


def test_other_gauges_and_refusals(key):
    W = jax.random.normal(key, (LINK, INPUT))
    shifted = jnp.stack([jnp.roll(W, k, axis=0) for k in range(3)])
    found = consistency(shifted, key=key, gauge=exact.CircularShifts(LINK), draws=3)
    np.testing.assert_allclose(found.score, 1, rtol=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        consistency(shifted[:1], key=key)
    with pytest.raises(ValueError, match="NaN"):
        consistency(shifted * jnp.nan, key=key)
    with pytest.raises(ValueError, match="gauge"):
        consistency(shifted, key=key, gauge=exact.CircularShifts(6))
