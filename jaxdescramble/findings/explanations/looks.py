"""What all readings of one layer are computed from: the weight in the frames of two halves of the samples.

A layer is held as W, or as a thin factor R with `R^T R = W^T W`. Its input signals are held as factors F with
`F F^T = X X^T`, one for each half. If the output axis is descrambled, R is enough, because the descrambler undoes a
rotation of the outputs. So a layer with many outputs costs no more than its inputs.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.products import matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.findings.explanations.axes import Axis


class Frame(NamedTuple):
    """Principal directions of the signals of one half, strongest first, and the energy along each of them."""

    directions: Float[Array, "*both n n"]
    energies: Float[Array, "*both n"]


class Inputs(NamedTuple):
    """The input signals of one layer on the two halves. It is the same for all draws that change one weight.

    Attributes:
        factors: factor F of each half, shape (in, k), divided by the square root of the number of samples.
        frames: `Frame` of each half if the input axis is descrambled, else None.
    """

    factors: tuple[Float[Array, "m k"], Float[Array, "m l"]]
    frames: tuple[Frame, Frame] | None


class Frames(NamedTuple):
    """Frames of one axis, found on the fitting half and on the other half.

    Attributes:
        fit: `Frame` of the fitting half.
        other: `Frame` of the other half.
        held_out: energy of the other half's signals along the directions of `fit`.
    """

    fit: Frame
    other: Frame
    held_out: Float[Array, "*both n"]


@functools.partial(
    register_dataclass,
    data_fields=["singular", "frames", "input_frames", "spectrum", "modes", "profiles"],
    meta_fields=["shape", "output", "into"],
)
@dataclasses.dataclass(frozen=True)
class Look:
    """One layer, with frames found on one half of the samples and used on the other half.

    Attributes:
        singular: singular values of W, descending.
        shape: (out, in), the shape of W.
        output: the output axis; `into` is the input axis.
        frames: `Frames` of the preactivations; None if the output axis is ordered.
        input_frames: `Frames` of the input signals; None if the input axis is ordered.
        spectrum: energy of each principal component of the preactivations on the other half, descending.
        modes: W in the modes of both axes with the frames of the other half, shape (rows, channels, points).
        profiles: W in the modes of the output axis and the points of the input axis, shape (rows, in).
    """

    singular: Float[Array, "*both k"]
    shape: tuple[int, int]
    output: Axis
    into: Axis
    frames: Frames | None
    input_frames: Frames | None
    spectrum: Float[Array, "*both s"]
    modes: Float[Array, "*both r channels points"]
    profiles: Float[Array, "*both r m"]

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


def both_looks(weight: Float[Array, "r m"], shape: tuple[int, int], inputs: Inputs, output: Axis, into: Axis) -> Look:
    """Return two looks at a layer, stacked: frames of the first half read on the second, and the other way round.

    Args:
        weight: W, or `thin(W)` if the output axis is descrambled.
        shape: (out, in) of W.
        inputs: the input signals.
        output, into: the two axes of W.

    Returns:
        A `Look` whose arrays have a leading axis of size 2. Map a reading over it: one program then reads both.
    """
    signals = [matmul(weight, factor) for factor in inputs.factors]
    gram = matmul(weight, weight.T) if weight.shape[0] <= weight.shape[1] else matmul(weight.T, weight)
    singular = jnp.sqrt(jnp.maximum(decompositions.eigh(gram)[0][::-1], 0))
    if output.ordered:
        frames = None
        rows = [output.analyse(weight)[0]] * 2
        spectra = [frame_of(one if one.shape[0] <= one.shape[1] else one.T).energies for one in signals]
        spectra = [jnp.pad(one, (0, max(map(len, spectra)) - len(one))) for one in spectra]
    else:
        frames = _swapped([frame_of(one) for one in signals], signals)
        spectra = list(frames.other.energies[::-1])
        rows = [matmul(one.T, weight) for one in frames.fit.directions]
    own = None if inputs.frames is None else _swapped(inputs.frames, inputs.factors)
    if own is None:
        modes = [jnp.moveaxis(into.analyse(row.T), -1, 0) for row in rows]
    else:
        modes = [matmul(row, one)[:, None, :] for row, one in zip(rows, own.fit.directions, strict=True)]
    return Look(
        singular=jnp.stack([singular, singular]),
        shape=shape,
        output=output,
        into=into,
        frames=frames,
        input_frames=own,
        spectrum=jnp.stack(spectra[::-1]),
        modes=jnp.stack(modes[::-1]),
        profiles=jnp.stack(rows[::-1]),
    )


def _swapped(frames: Sequence[Frame], factors: Sequence[Float[Array, "n k"]]) -> Frames:
    """Return the frames of both halves as `fit`, each with the other one, and with the energies held out."""
    fit = jax.tree.map(lambda *both: jnp.stack(both), *frames)
    held = [energies_along(one.directions, other) for one, other in zip(frames, factors[::-1], strict=True)]
    return Frames(fit, jax.tree.map(lambda both: both[::-1], fit), jnp.stack(held))


def by_run(values: Float[Array, "n *rest"], runs: np.ndarray) -> Float[Array, "b *rest"]:
    """Return sums over the entries of each run (or bin); entries beyond the values do not count."""
    kept = runs[: values.shape[0]]
    member = np.arange(int(kept[-1]) + 1)[:, None] == kept[None, :]
    return jnp.tensordot(jnp.asarray(member, values.dtype), values, axes=1, precision="highest")
