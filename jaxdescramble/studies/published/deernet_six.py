"""The DEERNets of the descrambler paper's authors: six dense layers with batch norm, from files that you have.

Source: Keeley et al., J. Magn. Reson. 338, 107186 (2022). `datasets.deernet_weights` reads the files.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble.datasets.deer import DeerGrid, sample
from jaxdescramble.datasets.deernet_weights import SEEN, TRACE, encode, network, random_points
from jaxdescramble.datasets.deernet_weights import load as read
from jaxdescramble.findings import LayerSignals
from jaxdescramble.networks import wiretap

INSTALL = (
    "The networks deervet_64_512_*.npz belong to their authors (licence beside the files) and are not shipped; give "
    "the path of a file that you have."
)

Params = dict[str, dict[str, Array]]


class Traces(NamedTuple):
    """Inputs of the network, and the distance distributions that they come from; samples are rows."""

    inputs: Float[Array, "samples 320"]
    distribution: Float[Array, "samples 512"]


def load(path: str | os.PathLike[str] | None = None) -> tuple[Callable[[Params, Array], Array], Params]:
    """Read a network; return the function and its parameters.

    Raises:
        TypeError: if `path` is not a path.
        ValueError: if there is no such file, or if it holds something else.
    """
    if path is None:
        raise ValueError(f"path: give a file. {INSTALL}")
    return network, read(path).params


def inputs(key: PRNGKeyArray, count: int = 1000) -> Traces:
    """Simulate traces over 2 us, and encode 64 random points of each of them.

    >>> inputs(jax.random.key(0), 3).inputs.shape
    (3, 320)
    """
    for_traces, for_points = jax.random.split(key)
    batch = sample(for_traces, count, DeerGrid(points=TRACE, t_max=2.0), dtype=jnp.float32)
    return Traces(encode(batch.trace.T, random_points(for_points, count)), batch.distribution.T)


def layers(params: Params, x: Float[Array, "samples 320"]) -> dict[str, LayerSignals]:
    """Return weights and signals; the first layer reads five blocks of 64 points (places, values and products)."""
    _, taps = wiretap(network)(params, x)
    return {
        name: LayerSignals(tap.weight, tap.input, channels=x.shape[1] // SEEN if place == 0 else 1)
        for place, (name, tap) in enumerate(taps.items())
    }
