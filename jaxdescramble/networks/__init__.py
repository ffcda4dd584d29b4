"""Read any JAX function as a graph of layers: `wiretap` them, `insert` frames, `reorder` neurons."""

from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.reordering import reorder
from jaxdescramble.networks.taps import Layout, Tap, insert, wiretap

__all__ = ["Layers", "Layout", "Tap", "insert", "reorder", "wiretap"]
