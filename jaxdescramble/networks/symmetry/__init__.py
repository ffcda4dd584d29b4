"""Frames that cost nothing: derive the groups of a network's streams, and move its parameters."""

from jaxdescramble.networks.symmetry.folding import fold
from jaxdescramble.networks.symmetry.groups import Element, Matrices, Ordered
from jaxdescramble.networks.symmetry.streams import Reason, Stream, Symmetries, symmetries
from jaxdescramble.networks.symmetry.transforming import transform

__all__ = ["Element", "Matrices", "Ordered", "Reason", "Stream", "Symmetries", "fold", "symmetries", "transform"]
