"""Attribute an output to its input: switched projections, gradients, relevance."""

from jaxdescramble.attribution import switched
from jaxdescramble.attribution.gradients import gradient, input_x_gradient, integrated_gradients, smooth_grad
from jaxdescramble.attribution.relevance import deep_taylor, lrp

__all__ = [
    "deep_taylor",
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "lrp",
    "smooth_grad",
    "switched",
]
