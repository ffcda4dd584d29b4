"""Readings of the first layer for `jd.explain`: which bands and which frames it reads, and whether it is diagonal."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.findings import LayerReading
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Look
from jaxdescramble.findings.explanations.readings import participation
from jaxdescramble.studies.voice.spectra import BANDS, HERTZ

LOW = 1000.0
"""Frequency in Hz that divides low bands from high ones; most of the power of speech lies below."""
NEAR = 2
"""A matrix entry is near the diagonal if its row and its column are at most this many bands (62 Hz) apart."""


def near_diagonal(matrix: Float[Array, "bands bands"]) -> Float[Array, ""]:
    """Return the share of a matrix's energy that lies within `NEAR` bands of the diagonal; about 0.04 for noise.

    >>> float(near_diagonal(jnp.eye(129))), round(float(near_diagonal(jnp.ones((129, 129)))), 3)
    (1.0, 0.038)
    """
    places = np.arange(matrix.shape[0])
    inside = np.abs(places[:, None] - places[None, :]) <= NEAR
    return jnp.sum(jnp.where(inside, matrix**2, 0)) / jnp.sum(matrix**2)


def _by_band(look: Look) -> Float[Array, "lags bands"]:
    return jnp.sum(look.profiles**2, axis=0).reshape(-1, look.into.shape[-1])


def _middle(look: Look) -> Float[Array, ""]:
    energy = jnp.sum(_by_band(look), axis=1)
    return energy[energy.shape[0] // 2] / jnp.sum(energy)


def _low(look: Look) -> Float[Array, ""]:
    energy = jnp.sum(_by_band(look), axis=0)
    return jnp.sum(jnp.where(np.arange(energy.shape[0]) * HERTZ < LOW, energy, 0)) / jnp.sum(energy)


def _bands(look: Look) -> Float[Array, ""]:
    energy = jnp.sum(_by_band(look), axis=0)
    return participation(energy) / energy.shape[0]


def _diagonal(look: Look) -> Float[Array, ""]:
    # With the largest diagonal sum, P W is the square root of W^T W, which does not depend on the frame of the look.
    bands = look.into.shape[-1]
    rows = look.profiles.reshape(look.profiles.shape[0], -1, bands)
    middle = rows[:, rows.shape[1] // 2]
    values, directions = decompositions.eigh(matmul(middle.T, middle))
    return near_diagonal(matmul(directions * jnp.sqrt(jnp.maximum(values, 0))[None, :], directions.T))


def _reads_bands(output: Axis, into: Axis) -> bool:
    return into.ordered and not output.ordered and into.shape[-1] == BANDS


def _reads_frames(output: Axis, into: Axis) -> bool:
    return _reads_bands(output, into) and len(into.shape) == 2


OWN = (
    LayerReading(
        "energy on the middle frame",
        _middle,
        _reads_frames,
        False,
        1,
        "share of the weight's energy on the frame whose mask is wanted; the other frames are its neighbours in time",
    ),
    LayerReading(
        "energy below 1 kHz",
        _low,
        _reads_bands,
        False,
        0,
        "share of the weight's energy on bands below 1 kHz; 0.25 of the bands lie there",
    ),
    LayerReading(
        "bands that are read",
        _bands,
        _reads_bands,
        False,
        -1,
        "number of bands that carry the weight's energy, as a share of all",
    ),
    LayerReading(
        "diagonal by the largest diagonal sum",
        _diagonal,
        _reads_bands,
        False,
        1,
        "share of the energy of P W within 62 Hz of the diagonal, middle frame; P has the largest diagonal sum",
    ),
)
"""Readings of the first layer for `jd.explain`."""
