"""What the readings of a layer measure: roughness, bands, sparsity, locality, participation of an energy."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Look, by_run


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
