"""What all readings of one layer are computed from: the weight in the frames of two halves of the samples.

A layer is held as W, or as a thin factor R with `R^T R = W^T W`. Its input signals are held as factors F with
`F F^T = X X^T`, one for each half. If the output axis is descrambled, R is enough, because the descrambler undoes a
rotation of the outputs. So a layer with many outputs costs no more than its inputs.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble.findings.explanations.axes import Axis


class Frame(NamedTuple):
    """Principal directions of the signals of one half, strongest first, and the energy along each of them."""

    directions: Float[Array, "n n"]
    energies: Float[Array, " n"]


class Inputs(NamedTuple):
    """The input signals of one layer on the two halves. It is the same for all draws that change one weight.

    Attributes:
        factors: factor F of each half, shape (in, k), divided by the square root of the number of samples.
        frames: `Frame` of each half if the input axis is descrambled, else None.
    """

    factors: tuple[Float[Array, "m k"], Float[Array, "m l"]]
    frames: tuple[Frame, Frame] | None


@dataclasses.dataclass(frozen=True)
class Look:
    """One layer, with frames found on one half of the samples (`fit`) and on the other half (`other`).

    Attributes:
        singular: singular values of W, descending.
        shape: (out, in), the shape of W.
        output: the output axis; `into` is the input axis.
        fit: `Frame` of the preactivations that was found on the fitting half; None if the axis is ordered.
        other: the same, found on the other half.
        held_out: energy of the other half's preactivations along the directions of `fit`; None if the axis is ordered.
        input_fit, input_other, input_held_out: the same three for the input signals.
        spectrum: energy of each principal component of the preactivations on the other half, descending.
        modes: W in the modes of both axes with the frames of `other`, shape (rows, channels, points).
        profiles: W in the modes of the output axis and the points of the input axis, shape (rows, in).
    """

    singular: Float[Array, " k"]
    shape: tuple[int, int]
    output: Axis
    into: Axis
    fit: Frame | None
    other: Frame | None
    held_out: Float[Array, " r"] | None
    input_fit: Frame | None
    input_other: Frame | None
    input_held_out: Float[Array, " m"] | None
    spectrum: Float[Array, " s"]
    modes: Float[Array, "r channels points"]
    profiles: Float[Array, "r m"]

    @property
    def energy(self) -> Float[Array, "r points"]:
        """Energy of W by output mode and input mode, summed over channels."""
        return jnp.sum(self.modes**2, axis=1)


def frame_of(factor: Float[Array, "n k"]) -> Frame:
    """Return the principal directions of signals with this factor.

    >>> [round(float(x), 4) for x in frame_of(jnp.asarray([[1.0, 0.0], [0.0, 2.0]])).energies]
    [4.0, 1.0]
    """
    energies, directions = decompositions.eigh(matmul(factor, factor.T))
    return Frame(directions[:, ::-1], jnp.maximum(energies[::-1], 0))


def thin(weight: Float[Array, "n m"]) -> Float[Array, "r m"]:
    """Return R with `R^T R = W^T W` and at most as many rows as columns."""
    return decompositions.triangle(weight) if weight.shape[0] > weight.shape[1] else weight


def energies_along(directions: Float[Array, "n n"], factor: Float[Array, "n k"]) -> Float[Array, " n"]:
    """Return the energy of signals along each direction."""
    return jnp.sum(matmul(directions.T, factor) ** 2, axis=1)


def looks(
    weight: Float[Array, "r m"], shape: tuple[int, int], inputs: Inputs, output: Axis, into: Axis
) -> tuple[Look, Look]:
    """Return two looks at a layer: frames found on the first half, read on the second, and the other way round.

    Args:
        weight: W, or `thin(W)` if the output axis is descrambled.
        shape: (out, in) of W.
        inputs: the input signals.
        output, into: the two axes of W.
    """
    signals = [matmul(weight, factor) for factor in inputs.factors]
    gram = matmul(weight, weight.T) if weight.shape[0] <= weight.shape[1] else matmul(weight.T, weight)
    singular = jnp.sqrt(jnp.maximum(decompositions.eigh(gram)[0][::-1], 0))
    spectra: list[Array]
    if output.ordered:
        frames = None
        rows = [output.analyse(weight)[0]] * 2
        spectra = [frame_of(one if one.shape[0] <= one.shape[1] else one.T).energies for one in signals]
    else:
        frames = [frame_of(one) for one in signals]
        spectra = [one.energies for one in frames]
        rows = [matmul(one.directions.T, weight) for one in frames]
    found = []
    for fit, other in ((0, 1), (1, 0)):
        row = rows[other]
        if inputs.frames is None:
            modes = jnp.moveaxis(into.analyse(row.T), -1, 0)
        else:
            modes = matmul(row, inputs.frames[other].directions)[:, None, :]
        own = inputs.frames
        found.append(
            Look(
                singular=singular,
                shape=shape,
                output=output,
                into=into,
                fit=None if frames is None else frames[fit],
                other=None if frames is None else frames[other],
                held_out=None if frames is None else energies_along(frames[fit].directions, signals[other]),
                input_fit=None if own is None else own[fit],
                input_other=None if own is None else own[other],
                input_held_out=None if own is None else energies_along(own[fit].directions, inputs.factors[other]),
                spectrum=spectra[other],
                modes=modes,
                profiles=row,
            )
        )
    return found[0], found[1]


def by_run(values: Float[Array, "n *rest"], runs: np.ndarray) -> Float[Array, "b *rest"]:
    """Return sums over the entries of each run (or bin); entries beyond the values do not count."""
    kept = runs[: values.shape[0]]
    return jnp.zeros((int(kept[-1]) + 1, *values.shape[1:]), values.dtype).at[kept].add(values)
