"""Switched linear projections: the linear piece that an input lands on, and what keeps its gates as they are."""

from jaxdescramble.switched.patterns import Patterns, patterns
from jaxdescramble.switched.project import Centre, Projection, centre, gates, project
from jaxdescramble.switched.sensitivity import Insens, insens
from jaxdescramble.switched.slopes import path_gates

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
