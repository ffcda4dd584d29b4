"""Readings of any layer: smoothness, order, bands, sparsity, spectra, and the agreement of two halves.

Each reading is a number of a `Look`. None of them changes when the descrambler moves within its gauge (it may mix waves
of one frequency). Readings that would change, such as the sparsity along the output axis, are left out: their values
would depend on phases that smoothness does not fix.

To add a reading, write a function of a look and add one line to `READINGS`.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Frames, Look, by_run
from jaxdescramble.findings.explanations.measures import (
    band_edge_of,
    concentration_of,
    edge_of,
    entropy,
    locality_of,
    participation,
    roughness_of,
    sparsity_of,
)


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
        claim: what a finding says, as a plain sentence that compares with chance. "{inputs}" and "{outputs}" stand for
            the axes, "inputs" and "outputs", or, without an order of their own, "inputs in the descrambled order" and
            "neurons in the descrambled order". "" means "its value is larger (or smaller) than by chance".
        look_at: where a finding can be seen on the page, or "".
    """

    name: str
    function: Callable[[Look], Array]
    fits: Callable[[Axis, Axis], bool]
    depends_on_point: bool
    direction: int
    note: str
    claim: str = ""
    look_at: str = ""


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
        "neighbouring {outputs} respond more alike to new samples than by chance",
        "the picture 'Strongest waves': few waves carry most of the energy",
    ),
    LayerReading(
        "agreement of halves",
        lambda look: _frames(look.frames).agreement,
        _free_output,
        True,
        1,
        "share of the preactivations' energy that both halves place on the same wave; low: too few samples for P",
        "the two halves of the samples agree on the order of the neurons more than by chance",
        "the pictures 'Descrambled' and 'Strongest waves': other samples would give pictures more like these "
        "than chance does",
    ),
    LayerReading(
        "roughness along outputs",
        lambda look: roughness_of(_rows(look), look.output),
        _free_output,
        True,
        -1,
        "the objective of the descrambled weight's columns",
        "neighbouring {outputs} have more similar weights than by chance",
        "the pictures 'Descrambled' and of the draw: 'Descrambled' changes more slowly from row to row",
    ),
    LayerReading(
        "entropy along outputs",
        lambda look: entropy(by_run(_rows(look), look.output.runs)),
        _free_output,
        True,
        -1,
        "how evenly the weight's energy is spread over the waves of the output axis; 1 is even",
        "fewer waves of the neurons carry the weight's energy than by chance",
        "the pictures 'Descrambled' and of the draw: from top to bottom, 'Descrambled' has fewer frequencies",
    ),
    LayerReading(
        "band edge of outputs",
        lambda look: band_edge_of(_rows(look), look.output.frequencies),
        _ordered_output,
        False,
        -1,
        "95% of the weight's energy lies below; 1 is the highest frequency",
        "the weights change more slowly along the {outputs} than by chance",
        "the pictures 'Descrambled' and of the draw: 'Descrambled' changes more slowly from row to row",
    ),
    LayerReading(
        "roughness along ordered outputs",
        lambda look: roughness_of(_rows(look), look.output),
        _ordered_output,
        False,
        -1,
        "roughness of the weight's columns along the network's outputs",
        "neighbouring {outputs} have more similar weights than by chance",
        "the pictures 'Descrambled' and of the draw: 'Descrambled' changes more slowly from row to row",
    ),
    LayerReading(
        "roughness of input signals",
        lambda look: roughness_of(_frames(look.input_frames).held_out, look.into),
        _free_input,
        True,
        -1,
        "the objective of the descrambled input signals, on the half that Q has not seen",
        "neighbouring {inputs} carry more similar signals on new samples than by chance",
        "the picture 'Strongest waves' of the layer before: few waves carry most of the energy",
    ),
    LayerReading(
        "agreement of halves at the inputs",
        lambda look: _frames(look.input_frames).agreement,
        _free_input,
        True,
        1,
        "share of the input signals' energy that both halves place on the same wave",
        "the two halves of the samples agree on the order of the inputs more than by chance",
        "the picture 'Descrambled': other samples would give an order of the columns more like this than chance does",
    ),
    LayerReading(
        "roughness along inputs",
        lambda look: roughness_of(_columns(look), look.into),
        _always,
        False,
        -1,
        "roughness of the weight's rows along the inputs; in a hidden layer, along the order that descrambling finds",
        "neighbouring {inputs} have more similar weights than by chance",
        "the picture 'Strongest waves': neighbouring weights of a wave are similar",
    ),
    LayerReading(
        "entropy along inputs",
        lambda look: entropy(by_run(_columns(look), look.into.runs)),
        _always,
        False,
        -1,
        "how evenly the weight's energy is spread over the frequencies of the input axis; 1 is even",
        "the weight reads fewer frequencies of the {inputs} than by chance",
        "the picture 'Strongest waves': the waves are made of few frequencies",
    ),
    LayerReading(
        "band edge of inputs",
        lambda look: band_edge_of(_columns(look), look.into.frequencies),
        _ordered_input,
        False,
        -1,
        "95% of the weight's energy lies below; 1 is the highest frequency",
        "the weights change more slowly along the {inputs} than by chance",
        "the picture 'Strongest waves': the waves are smooth along the inputs",
    ),
    LayerReading(
        "sparsity of waves",
        sparsity_of,
        _always,
        True,
        -1,
        "share of the inputs that a wave of the output axis reads",
        "a wave of this layer reads fewer inputs than by chance",
        "the picture 'Strongest waves': few weights of a wave are large. A hidden layer's inputs stand in "
        "another order there, which can hide this",
    ),
    LayerReading(
        "locality of waves",
        locality_of,
        _ordered_input,
        True,
        -1,
        "variance of the input positions that a wave reads, divided by that of the whole axis",
        "the inputs that a wave of this layer reads lie closer together than by chance",
        "the picture 'Strongest waves': large weights of a wave lie close together",
    ),
    LayerReading(
        "frequency concentration",
        concentration_of,
        _both,
        True,
        1,
        "mutual information of output and input frequency; positive even for noise",
        "slow and fast waves of the {outputs} read different frequencies of the {inputs}, more than by chance",
        "the picture 'Strongest waves': waves of different frequencies read different frequencies",
    ),
    LayerReading(
        "effective rank of weights",
        lambda look: participation(look.singular**2),
        _always,
        False,
        -1,
        "number of singular directions that carry the weight's energy",
        "fewer directions carry the weight's energy than by chance",
        "the picture 'Singular values': the curve falls quickly",
    ),
    LayerReading(
        "largest singular value",
        edge_of,
        _always,
        False,
        1,
        "in units of the Marchenko-Pastur edge; noise gives about 1",
        "the strongest direction of the weight is stronger than by chance",
        "the picture 'Singular values': where the curve begins, compared with the flat line of noise",
    ),
    LayerReading(
        "effective rank of signals",
        lambda look: participation(look.spectrum),
        _always,
        False,
        -1,
        "number of principal components that carry the preactivations' energy",
        "fewer principal components carry the preactivations' energy than by chance",
        "the picture 'Strongest waves': few waves carry most of the energy",
    ),
)


def fitting(readings: tuple[LayerReading, ...], output: Axis, into: Axis) -> tuple[LayerReading, ...]:
    """Return the readings that have a meaning for these axes."""
    return tuple(one for one in readings if one.fits(output, into))
