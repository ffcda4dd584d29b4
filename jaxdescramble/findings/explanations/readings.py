"""Readings of any layer: smoothness, order, bands, sparsity, spectra, and the agreement of two halves.

Each reading is a number of a `Look`. None of them changes when the descrambler moves within its gauge (it may mix waves
of one frequency). Readings that would change, such as the sparsity along the output axis, are left out: their values
would depend on phases that smoothness does not fix.

To add a reading, write a function of a look and add one line to `READINGS`.
"""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Frames, Look, by_run


@dataclasses.dataclass(frozen=True)
class LayerReading:
    """A reading of a layer, with the facts that you need to judge its value.

    Attributes:
        name: name in the report.
        function: `function(look) -> scalar`.
        fits: `fits(output, into) -> bool`, whether the reading has a meaning for a layer with these axes.
        depends_on_point: whether the descrambler can change the value.
        direction: +1 if large values are the finding, -1 if small values are, 0 if both are.
        note: one line of explanation.
    """

    name: str
    function: Callable[[Look], Array]
    fits: Callable[[Axis, Axis], bool]
    depends_on_point: bool
    direction: int
    note: str


def _share(part: Array, whole: Array) -> Array:
    return part / jnp.where(whole > 0, whole, 1)


def participation(energies: Float[Array, "n *rest"]) -> Float[Array, "*rest"]:
    """Return the number of entries that carry the energy: `(sum e)^2 / sum e^2`, between 1 and n.

    >>> float(participation(jnp.asarray([1.0, 1.0, 0.0])))
    2.0
    """
    return _share(jnp.sum(energies, axis=0) ** 2, jnp.sum(energies**2, axis=0))


def entropy(energies: Float[Array, " n"]) -> Float[Array, ""]:
    """Return the entropy of a spectrum, as a share of the largest possible one.

    >>> round(float(entropy(jnp.asarray([1.0, 1.0]))), 3), abs(round(float(entropy(jnp.asarray([1.0, 0.0]))), 3))
    (1.0, 0.0)
    """
    share = _share(energies, jnp.sum(energies))
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0)) / math.log(
        max(energies.shape[0], 2)
    )


def band_edge_of(energies: Float[Array, " n"], frequencies: np.ndarray, fraction: float = 0.95) -> Float[Array, ""]:
    """Return the frequency below which this fraction of the energy lies, as a share of the highest frequency.

    The energy of a mode is spread evenly from the frequency of the mode before it to its own, so that the edge moves
    continuously with the weight.

    >>> round(float(band_edge_of(jnp.asarray([1.0, 1.0, 0.0]), np.asarray([0.0, 0.5, 1.0]), 0.75)), 3)
    0.25
    """
    share = jnp.cumsum(energies) / jnp.where(jnp.sum(energies) > 0, jnp.sum(energies), 1)
    at = jnp.argmax(share >= fraction - 1e-6)
    before = jnp.maximum(at - 1, 0)
    known = jnp.asarray(frequencies, energies.dtype)
    below = jnp.where(at > 0, share[before], 0)
    inside = jnp.clip(_share(fraction - below, share[at] - below), 0, 1)
    return known[before] + inside * (known[at] - known[before])


def roughness_of(energies: Float[Array, " n"], axis: Axis) -> Float[Array, ""]:
    """Return the objective's value of these energies along the modes of an axis."""
    values = jnp.asarray(axis.roughness[: energies.shape[0]], energies.dtype)
    return _share(jnp.sum(values * energies), jnp.sum(energies))


def concentration_of(look: Look) -> Float[Array, ""]:
    """Return the mutual information of output and input frequency in the energy of W, as a share of the largest one."""
    rows = by_run(look.energy, look.output.bins)
    joint = by_run(rows.T, look.into.bins).T
    joint = _share(joint, jnp.sum(joint))
    product = jnp.sum(joint, axis=1)[:, None] * jnp.sum(joint, axis=0)[None, :]
    ratio = jnp.where(joint > 0, joint / jnp.where(product > 0, product, 1), 1)
    return jnp.sum(joint * jnp.log(ratio)) / math.log(max(min(joint.shape), 2))


def _profiles(look: Look) -> Float[Array, "runs m"]:
    """Return the energy of each output frequency by entry of the input axis; channels are separate entries."""
    return by_run(look.profiles**2, look.output.runs)


def sparsity_of(look: Look) -> Float[Array, ""]:
    """Return how many inputs a wave reads, as a share of all, averaged over the waves by their energy."""
    profiles = _profiles(look)
    energy = jnp.sum(profiles, axis=1)
    return _share(jnp.sum(energy * participation(profiles.T)), jnp.sum(energy)) / profiles.shape[1]


def locality_of(look: Look) -> Float[Array, ""]:
    """Return the variance of the positions that a wave reads, divided by that of the whole axis."""
    profiles = _profiles(look).reshape(-1, look.into.channels, math.prod(look.into.shape)).sum(axis=1)
    places = np.indices(look.into.shape).reshape(len(look.into.shape), -1)
    energy = jnp.sum(profiles, axis=1)
    share = _share(profiles, energy[:, None])
    where = jnp.asarray(places, profiles.dtype)
    mean = jnp.matmul(share, where.T, precision="highest")
    square = jnp.matmul(share, (where**2).T, precision="highest")
    variance = jnp.sum(square - mean**2, axis=1)
    return _share(jnp.sum(energy * variance), jnp.sum(energy)) / max(float(places.var(axis=1).sum()), 1e-9)


def edge_of(look: Look) -> Float[Array, ""]:
    """Return the largest singular value divided by the Marchenko-Pastur edge of a matrix of this shape and norm."""
    n, m = look.shape
    sigma = jnp.sqrt(jnp.sum(look.singular**2) / (n * m))
    return _share(look.singular[0], sigma * (math.sqrt(n) + math.sqrt(m)))


def _frames(frames: Frames | None) -> Frames:
    assert frames is not None, "the reading does not fit this layer's axes"
    return frames


def _columns(look: Look) -> Float[Array, " m"]:
    return jnp.sum(look.energy, axis=0)


def _rows(look: Look) -> Float[Array, " r"]:
    return jnp.sum(look.energy, axis=1)


def _always(output: Axis, into: Axis) -> bool:
    return True


def _free_output(output: Axis, into: Axis) -> bool:
    return not output.ordered


def _free_input(output: Axis, into: Axis) -> bool:
    return not into.ordered


def _ordered_input(output: Axis, into: Axis) -> bool:
    return into.ordered and into.operator.size > 1


def _ordered_output(output: Axis, into: Axis) -> bool:
    return output.ordered and output.operator.size > 1


def _both(output: Axis, into: Axis) -> bool:
    return output.size > 1 and into.operator.size > 1 and not (output.ordered and into.ordered)


READINGS = (
    LayerReading(
        "roughness of signals",
        lambda look: roughness_of(_frames(look.frames).held_out, look.output),
        _free_output,
        True,
        -1,
        "the objective of the descrambled preactivations, on the half that P has not seen",
    ),
    LayerReading(
        "agreement of halves",
        lambda look: _frames(look.frames).agreement,
        _free_output,
        True,
        1,
        "share of the preactivations' energy that both halves place on the same wave; low: too few samples for P",
    ),
    LayerReading(
        "roughness along outputs",
        lambda look: roughness_of(_rows(look), look.output),
        _free_output,
        True,
        -1,
        "the objective of the descrambled weight's columns",
    ),
    LayerReading(
        "entropy along outputs",
        lambda look: entropy(by_run(_rows(look), look.output.runs)),
        _free_output,
        True,
        -1,
        "how evenly the weight's energy is spread over the waves of the output axis; 1 is even",
    ),
    LayerReading(
        "band edge of outputs",
        lambda look: band_edge_of(_rows(look), look.output.frequencies),
        _ordered_output,
        False,
        -1,
        "95% of the weight's energy lies below; 1 is the highest frequency",
    ),
    LayerReading(
        "roughness along ordered outputs",
        lambda look: roughness_of(_rows(look), look.output),
        _ordered_output,
        False,
        -1,
        "roughness of the weight's columns along the network's outputs",
    ),
    LayerReading(
        "roughness of input signals",
        lambda look: roughness_of(_frames(look.input_frames).held_out, look.into),
        _free_input,
        True,
        -1,
        "the objective of the descrambled input signals, on the half that Q has not seen",
    ),
    LayerReading(
        "agreement of halves at the inputs",
        lambda look: _frames(look.input_frames).agreement,
        _free_input,
        True,
        1,
        "share of the input signals' energy that both halves place on the same wave",
    ),
    LayerReading(
        "roughness along inputs",
        lambda look: roughness_of(_columns(look), look.into),
        _always,
        False,
        -1,
        "roughness of the weight's rows along the inputs; in a hidden layer, along the order that descrambling finds",
    ),
    LayerReading(
        "entropy along inputs",
        lambda look: entropy(by_run(_columns(look), look.into.runs)),
        _always,
        False,
        -1,
        "how evenly the weight's energy is spread over the frequencies of the input axis; 1 is even",
    ),
    LayerReading(
        "band edge of inputs",
        lambda look: band_edge_of(_columns(look), look.into.frequencies),
        _ordered_input,
        False,
        -1,
        "95% of the weight's energy lies below; 1 is the highest frequency",
    ),
    LayerReading(
        "sparsity of waves",
        sparsity_of,
        _always,
        True,
        -1,
        "share of the inputs that a wave of the output axis reads",
    ),
    LayerReading(
        "locality of waves",
        locality_of,
        _ordered_input,
        True,
        -1,
        "variance of the input positions that a wave reads, divided by that of the whole axis",
    ),
    LayerReading(
        "frequency concentration",
        concentration_of,
        _both,
        True,
        1,
        "mutual information of output and input frequency; positive even for noise",
    ),
    LayerReading(
        "effective rank of weights",
        lambda look: participation(look.singular**2),
        _always,
        False,
        -1,
        "number of singular directions that carry the weight's energy",
    ),
    LayerReading(
        "largest singular value",
        edge_of,
        _always,
        False,
        1,
        "in units of the Marchenko-Pastur edge; noise gives about 1",
    ),
    LayerReading(
        "effective rank of signals",
        lambda look: participation(look.spectrum),
        _always,
        False,
        -1,
        "number of principal components that carry the preactivations' energy",
    ),
)


def fitting(readings: tuple[LayerReading, ...], output: Axis, into: Axis) -> tuple[LayerReading, ...]:
    """Return the readings that have a meaning for these axes."""
    return tuple(one for one in readings if one.fits(output, into))
