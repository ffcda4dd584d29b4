"""Matrices to look at: a weight, and one draw from a null, in the frames of all samples.

The frames are those of `jaxdescramble.descramble`, in the same gauge (the nearest one to the identity).
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxdescramble.findings.explanations import _linear as linear
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.draws import draw_one
from jaxdescramble.findings.explanations.preparing import Prepared
from jaxdescramble.findings.explanations.report import LayerExplanation, Verdict
from jaxdescramble.findings.explanations.waves import Names, mean_energy, mean_of, principal, waves_of
from jaxdescramble.findings.explanations.weight_nulls import NULLS, WeightNull
from jaxdescramble.findings.explanations.whole_networks import WholeNull


def descrambler(directions: Float[np.ndarray, "n n"], axis: Axis) -> Float[np.ndarray, "size n"]:
    """Return P of the closed form for signals with these principal directions, on an axis of at least n points.

    >>> from jaxdescramble.findings.explanations.axes import free_axis
    >>> from jaxdescramble.operators import derivative
    >>> P = descrambler(principal(np.diag([4.0, 3.0, 2.0, 1.0]))[1], free_axis(derivative(4)))
    >>> bool(np.allclose(P @ P.T, np.eye(4)))
    True
    """
    basis = np.asarray(axis.operator.basis, directions.dtype)[:, : len(directions)]
    if axis.size == len(directions):
        overlap = linear.matmul(basis.T, directions)
        directions = directions.copy()
        lengths = np.asarray(axis.operator.multiplicities)
        starts = np.cumsum(lengths) - lengths
        for length in np.unique(lengths):  # all runs of one length at once
            own = starts[lengths == length][:, None] + np.arange(length)
            left, _, right = np.linalg.svd(overlap[own[:, :, None], own[:, None, :]])
            directions[:, own] = np.einsum("nrl,rkl->nrk", directions[:, own], left @ right)
    return linear.matmul(basis, directions.T)


class Shared(NamedTuple):
    """Results that layers with the same input signals share.

    Attributes:
        factor: factor of the signals of both halves, shape (in, k), divided by their largest entry.
        scale: this entry.
        mean: mean of the signals before they are centred, shape (in,); zero if nothing needs it.
        right: descrambler of the inputs; None if they are ordered.
    """

    factor: Float[np.ndarray, "m k"]
    scale: float
    mean: Float[np.ndarray, " m"]
    right: Float[np.ndarray, "size m"] | None

    @staticmethod
    def of(one: Prepared, names: Names | None) -> "Shared":
        factor = np.concatenate([np.asarray(part) for part in one.inputs.factors], axis=1)
        scale = float(np.abs(factor).max()) or 1.0
        factor = factor / np.asarray(scale, factor.dtype)
        mean = np.zeros(len(factor)) if one.source.centred and names is None else mean_of(one)
        into = one.source.into
        return Shared(factor, scale, mean, None if into.ordered else descrambler(principal(factor)[1], into))


def pictures(
    one: Prepared,
    shared: Shared,
    nulls: list[WeightNull | WholeNull],
    key: PRNGKeyArray,
    verdicts: tuple[Verdict, ...],
    drawn: dict[str, np.ndarray],
    names: Names | None,
) -> LayerExplanation:
    """Return a layer with what to look at: before, after, one draw from the first null that has draws, waves."""
    source, weight = one.source, np.asarray(one.weight)
    null = next((null for null in nulls if not isinstance(null, WholeNull)), NULLS["random frame"]())
    factor, scale, mean, right = shared

    def directions_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        signals = linear.matmul(matrix, factor)
        return (np.sum(signals**2, axis=1), None) if source.output.ordered else principal(signals)

    def readable(matrix: np.ndarray, directions: np.ndarray | None) -> np.ndarray:
        after = matrix if directions is None else linear.matmul(descrambler(directions, source.output), matrix)
        return (after if right is None else linear.matmul(after, right.T)).astype(one.weight.dtype)

    energies, directions = directions_of(weight)
    drawn_weight = np.asarray(draw_one(key, null, one))
    n, m = weight.shape
    singular = linear.singular_values(weight)
    edge = float(np.sqrt(np.sum(singular**2) / (n * m)) * (math.sqrt(n) + math.sqrt(m)))
    return LayerExplanation(
        name=source.name,
        before=np.asarray(one.weight),
        after=readable(weight, directions),
        null=readable(drawn_weight, directions_of(drawn_weight)[1]),
        null_name=null.name,
        singular_values=singular,
        edge=edge,
        columns=(len(one.picked[0]), len(one.picked[1])),
        ordered=tuple(name for name, axis in (("outputs", source.output), ("inputs", source.into)) if axis.ordered),
        draws=drawn,
        verdicts=verdicts,
        waves=waves_of(one, energies, directions, right, mean, names),
        grid=(source.into.channels, *source.into.shape) if source.into.ordered else (),
        link=source.link,
        mean_energy=(0.0, 0.0) if source.centred else mean_energy(weight, mean / scale, factor),
    )
