"""The paper's claim at its own size: independently trained networks tell the same story, and chance does not."""

import jax
import pytest

from jaxdescramble.studies.deernet.many_networks import many_networks


def holds(count):
    found = many_networks(jax.random.key(0), count)
    found.first.check()
    found.last.check()
    first, last, raw = (found.scores[name] for name in ("first layer", "last layer", "first layer, raw"))
    assert first.score > 0.9 > 0.1 > first.null.max()
    assert last.score > 0.6 > 0.1 > last.null.max()
    assert raw.score < 0.6
    assert first.p_value == last.p_value == pytest.approx(1 / 101)


@pytest.mark.slow
def test_twenty_networks_tell_one_story():
    holds(20)


@pytest.mark.slow
@pytest.mark.gpu
def test_a_hundred_networks_tell_one_story():
    holds(100)
