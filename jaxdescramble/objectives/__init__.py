"""Figures of merit of `P S`, one family a file: the only place that knows what "readable" means."""

from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.smooth import smoothness
from jaxdescramble.objectives.summaries import Factor, Gram, Samples, Summary

__all__ = ["Curvature", "Factor", "Gram", "Objective", "Samples", "Summary", "smoothness"]
