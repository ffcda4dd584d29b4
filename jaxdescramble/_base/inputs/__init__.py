"""Read arrays from files: list them, choose the layers among them, and load one array at a time."""

from jaxdescramble._base.inputs.arrays import Stored, layers, stored
from jaxdescramble._base.inputs.selection import Layer, Selection, selected

__all__ = ["Layer", "Selection", "Stored", "layers", "selected", "stored"]
