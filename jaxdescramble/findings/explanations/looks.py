"""What all readings of one layer are computed from: the weight in the frames of two halves of the samples.

A layer is held as W, or as a thin factor R with `R^T R = W^T W`. Its input signals are held as factors F with
`F F^T = X X^T`, one for each half. If the output axis is descrambled, R is enough, because the descrambler undoes a
rotation of the outputs. So a layer with many outputs costs no more than its inputs.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
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


def frame_of(gram: Float[Array, "n n"]) -> Frame:
    """Return the principal directions of signals S with this Gram matrix `S S^T`.

    >>> [round(float(x), 4) for x in frame_of(jnp.diag(jnp.asarray([1.0, 4.0]))).energies]
    [4.0, 1.0]
    """
    energies, directions = decompositions.eigh(gram)
    return Frame(directions[:, ::-1], jnp.maximum(energies[::-1], 0))


SMALL = 2**18
"""A stack of at most this many entries is worked on side by side: small products waste most of a core."""


def gram_of(factor: Float[Array, "n k"]) -> Float[Array, "n n"]:
    """Return `F F^T`; with many rows, three of nine blocks are copied, because they are transposes of others."""
    size = -(-factor.shape[0] // 3)
    if size < 128:
        return matmul(factor, factor.T)
    blocks = [factor[first : first + size] for first in range(0, factor.shape[0], size)]
    products = {(a, b): matmul(blocks[a], blocks[b].T) for a in range(3) for b in range(a + 1)}
    return jnp.block([[products[a, b] if a >= b else products[b, a].T for b in range(3)] for a in range(3)])


def together(function: Callable[[Array], Array], entries: int) -> Callable[[Array], Array]:
    """Return `function` over a stack with this many entries: side by side if it is small, else one after the other."""
    return jax.vmap(function) if entries <= SMALL else functools.partial(jax.lax.map, function)


@quick_jit
def thin(weight: Float[Array, "n m"]) -> Float[Array, "r m"]:
    """Return R with `R^T R = W^T W` and at most as many rows as columns.

    The Cholesky factor of `W^T W` takes half the time of a QR decomposition. It loses directions of small singular
    values, so matrices that have them are decomposed by QR.
    """
    if weight.shape[0] <= weight.shape[1]:
        return weight
    factor = decompositions.cholesky(gram_of(weight.T))
    steep = jnp.diagonal(factor)
    even = jnp.min(steep) > jnp.finfo(weight.dtype).eps ** 0.25 * jnp.max(steep)  # False for NaN
    return jax.lax.cond(even, lambda: factor.T, lambda: decompositions.triangle(weight))


@quick_jit
def singular_values(weight: Float[Array, "r m"]) -> Float[Array, " k"]:
    """Return the singular values, descending, from the smaller Gram matrix: those that matter here are large.

    >>> singular_values(jnp.asarray([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])).tolist()
    [4.0, 3.0]
    """
    gram = gram_of(weight if weight.shape[0] <= weight.shape[1] else weight.T)
    return jnp.sqrt(decompositions.singular_values(gram))


def both_looks(
    weight: Float[Array, "r m"],
    singular: Float[Array, " k"],
    shape: tuple[int, int],
    inputs: Inputs,
    output: Axis,
    into: Axis,
) -> Look:
    """Return two looks at a layer, stacked: frames of the first half read on the second, and the other way round.

    Args:
        weight: W, or `thin(W)` if the output axis is descrambled.
        singular: singular values of W, descending.
        shape: (out, in) of W.
        inputs: the input signals.
        output, into: the two axes of W.

    Returns:
        A `Look` whose arrays have a leading axis of size 2. Map a reading over it: one program then reads both.
    """
    own = inputs.frames
    if own is None:
        turned = []
        signals = [matmul(weight, factor) for factor in inputs.factors]
    else:
        # With the frame Q and the energies of the input signals, `Q diag(energies)^(1/2)` is a factor of them too.
        turned = [matmul(weight, one) for one in own.fit.directions]
        signals = [one * jnp.sqrt(energies)[None, :] for one, energies in zip(turned, own.fit.energies, strict=True)]
    if output.ordered:
        frames = None
        rows = [output.analyse(weight)[0]] * 2
        spectra = [singular_values(one) ** 2 for one in signals]
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


@functools.partial(quick_jit, static_argnames="axis")
def frames_of(factors: Sequence[Float[Array, "n _"]], axis: Axis) -> Frames:
    """Return the frames of both halves of signals on an axis, each with what the other half finds there."""
    first, second = (frame_of(gram_of(one)) for one in factors)
    overlap = matmul(first.directions.T, second.directions) ** 2
    held_out = matmul(overlap, second.energies), matmul(first.energies, overlap)
    runs = axis.runs[: overlap.shape[0]]
    agreed = [by_run(one, runs)[runs, np.arange(len(runs))] for one in (overlap.T, overlap)]
    both = jax.tree.map(lambda *two: jnp.stack(two), first, second)
    totals = jnp.sum(both.energies, axis=1)
    agreement = jnp.sum(both.energies * jnp.stack(agreed), axis=1) / jnp.where(totals > 0, totals, 1)
    return Frames(both, jnp.stack(held_out), agreement)


PIECES = 8
"""Largest number of pieces, each of runs of one length, that are summed piece by piece; more need a matrix product."""


def by_run(values: Float[Array, "n *rest"], runs: np.ndarray) -> Float[Array, "b *rest"]:
    """Return sums over the entries of each run (or bin); entries beyond the values do not count.

    >>> by_run(jnp.asarray([1.0, 2.0, 4.0]), np.asarray([0, 1, 1])).tolist()
    [1.0, 6.0]
    """
    lengths = np.bincount(runs[: values.shape[0]])
    starts = np.cumsum(lengths) - lengths
    changes = np.flatnonzero(np.diff(lengths, prepend=-1, append=-1))
    if len(changes) - 1 > PIECES:
        member = np.arange(len(lengths))[:, None] == runs[None, : values.shape[0]]
        return jnp.tensordot(jnp.asarray(member, values.dtype), values, axes=1, precision="highest")
    pieces = []
    for first, last in itertools.pairwise(changes):
        own = values[starts[first] : starts[first] + (last - first) * lengths[first]]
        pieces.append(jnp.sum(own.reshape(last - first, lengths[first], *values.shape[1:]), axis=1))
    return jnp.concatenate(pieces)
