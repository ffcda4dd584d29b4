"""Switched linear projections: the linear piece that an input lands on, and the inputs that keep its gates shut."""

from jaxdescramble.attribution.switched.gate_patterns import Patterns, patterns
from jaxdescramble.attribution.switched.projections import Centre, Projection, centre, gates, project
from jaxdescramble.attribution.switched.sensitivity import Insens, insens
from jaxdescramble.attribution.switched.slopes import path_gates

__all__ = [
    "Centre",
    "Insens",
    "Patterns",
    "Projection",
    "centre",
    "gates",
    "insens",
    "path_gates",
    "patterns",
    "project",
]
