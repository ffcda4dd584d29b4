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
from jaxdescramble._base.programs import quick_jit
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.findings.explanations.axes import Axis


class Frame(NamedTuple):
    """Principal directions of the signals of one half, strongest first, and the energy along each of them."""

    directions: Float[Array, "*both n n"]
    energies: Float[Array, "*both n"]


class Frames(NamedTuple):
    """Frames of one axis, each found on one half and read on the other half; entry 0 is found on the first half.

    Attributes:
        fit: `Frame` of the fitting half.
        held_out: energy of the other half's signals along the directions of `fit`.
        agreement: share of the fitting half's energy that the other half places on modes of the same frequency.
    """

    fit: Frame
    held_out: Float[Array, "*both n"]
    agreement: Float[Array, "*both"]


class Inputs(NamedTuple):
    """The input signals of one layer on the two halves. It is the same for all draws that change one weight.

    Attributes:
        factors: factor F of each half, shape (in, k), divided by the square root of the number of samples.
        frames: `Frames` of the two halves if the input axis is descrambled, else None.
    """

    factors: tuple[Float[Array, "m k"], Float[Array, "m l"]]
    frames: Frames | None


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


@quick_jit
def singular_values(weight: Float[Array, "r m"]) -> Float[Array, " k"]:
    """Return the singular values, descending, from the smaller Gram matrix: those that matter here are large.

    >>> singular_values(jnp.asarray([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])).tolist()
    [4.0, 3.0]
    """
    gram = matmul(weight, weight.T) if weight.shape[0] <= weight.shape[1] else matmul(weight.T, weight)
    return jnp.sqrt(decompositions.singular_values(gram))


def in_frames(weights: Float[Array, "*stack m"], inputs: Inputs) -> Sequence[Float[Array, "*stack m"]]:
    """Return `W Q` for the frame Q of each half, for one weight or a stack; () if the input axis is ordered."""
    if inputs.frames is None:
        return ()
    rows = weights.reshape(-1, weights.shape[-1])
    return tuple(matmul(rows, one).reshape(weights.shape) for one in inputs.frames.fit.directions)


def both_looks(
    weight: Float[Array, "r m"],
    singular: Float[Array, " k"],
    turned: Sequence[Float[Array, "r m"]] | None,
    shape: tuple[int, int],
    inputs: Inputs,
    output: Axis,
    into: Axis,
) -> Look:
    """Return two looks at a layer, stacked: frames of the first half read on the second, and the other way round.

    Args:
        weight: W, or `thin(W)` if the output axis is descrambled.
        singular: singular values of W, descending.
        turned: `in_frames(weight, inputs)`, or None to compute it here.
        shape: (out, in) of W.
        inputs: the input signals.
        output, into: the two axes of W.

    Returns:
        A `Look` whose arrays have a leading axis of size 2. Map a reading over it: one program then reads both.
    """
    own = inputs.frames
    if own is None:
        turned = ()
        signals = [matmul(weight, factor) for factor in inputs.factors]
    else:
        # With the frame Q and the energies of the input signals, `Q diag(energies)^(1/2)` is a factor of them too.
        turned = in_frames(weight, inputs) if turned is None else turned
        signals = [one * jnp.sqrt(energies)[None, :] for one, energies in zip(turned, own.fit.energies, strict=True)]
    if output.ordered:
        frames = None
        rows = [output.analyse(weight)[0]] * 2
        spectra = [frame_of(one if one.shape[0] <= one.shape[1] else one.T).energies for one in signals]
        spectra = [jnp.pad(one, (0, max(map(len, spectra)) - len(one))) for one in spectra]
        in_modes = [lambda matrix: output.analyse(matrix)[0]] * 2
    else:
        frames = frames_of(signals, output)
        spectra = list(frames.fit.energies)
        rows = [matmul(one.T, weight) for one in frames.fit.directions]
        in_modes = [functools.partial(matmul, one.T) for one in frames.fit.directions]
    if own is None:
        modes = [jnp.moveaxis(into.analyse(row.T), -1, 0) for row in rows]
    else:
        modes = [analyse(one)[:, None, :] for analyse, one in zip(in_modes, turned, strict=True)]
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


def frames_of(factors: Sequence[Float[Array, "n _"]], axis: Axis) -> Frames:
    """Return the frames of both halves of signals on an axis, each with what the other half finds there."""
    found = [frame_of(one) for one in factors]
    held = [energies_along(one.directions, other) for one, other in zip(found, factors[::-1], strict=True)]
    agreed = [agreement_of(one, other, axis) for one, other in zip(found, found[::-1], strict=True)]
    return Frames(jax.tree.map(lambda *both: jnp.stack(both), *found), jnp.stack(held), jnp.stack(agreed))


LONGEST = 16
"""Longest run of equal frequencies whose modes are compared pair by pair; longer ones need a matrix product."""


def agreement_of(fit: Frame, other: Frame, axis: Axis) -> Float[Array, ""]:
    """Return the share of the energy that both halves place on modes of the same frequency."""
    runs = axis.runs[: fit.directions.shape[1]]
    longest = int(np.bincount(runs).max())
    if longest > LONGEST:
        overlap = matmul(fit.directions.T, other.directions) ** 2
        agreed = jnp.sum(jnp.where(runs[:, None] == runs[None, :], overlap, 0), axis=1)
    else:
        agreed = jnp.zeros_like(fit.energies)
        for step in range(1 - longest, longest):
            moved = jnp.roll(other.directions, -step, axis=1)
            same = runs == np.roll(runs, -step)
            agreed += jnp.where(same, jnp.sum(fit.directions * moved, axis=0) ** 2, 0)
    total = jnp.sum(fit.energies)
    return jnp.sum(fit.energies * agreed) / jnp.where(total > 0, total, 1)


def by_run(values: Float[Array, "n *rest"], runs: np.ndarray) -> Float[Array, "b *rest"]:
    """Return sums over the entries of each run (or bin); entries beyond the values do not count.

    >>> by_run(jnp.asarray([1.0, 2.0, 4.0]), np.asarray([0, 1, 1])).tolist()
    [1.0, 6.0]
    """
    kept = runs[: values.shape[0]]
    lengths = np.bincount(kept)
    if lengths.max() > LONGEST:
        member = np.arange(len(lengths))[:, None] == kept[None, :]
        return jnp.tensordot(jnp.asarray(member, values.dtype), values, axes=1, precision="highest")
    starts, total = np.cumsum(lengths) - lengths, None
    for step in range(int(lengths.max())):
        inside = (step < lengths).reshape(-1, *[1] * (values.ndim - 1))
        part = jnp.where(inside, values[np.minimum(starts + step, values.shape[0] - 1)], 0)
        total = part if total is None else total + part
    assert total is not None
    return total
