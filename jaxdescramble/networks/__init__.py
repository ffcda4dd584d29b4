"""Read any JAX function as a graph: `wiretap` its layers, `insert` frames, find its `symmetries`, `transform` it."""

from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.reordering import reorder
from jaxdescramble.networks.symmetry import Element, Stream, Symmetries, fold, symmetries, transform
from jaxdescramble.networks.taps import Layout, Tap, insert, wiretap

__all__ = [
    "Element",
    "Layers",
    "Layout",
    "Stream",
    "Symmetries",
    "Tap",
    "fold",
    "insert",
    "reorder",
    "symmetries",
    "transform",
    "wiretap",
]
