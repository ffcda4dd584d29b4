"""Arrays in files: what there is, which of it are layers, and one array read at a time."""

from jaxdescramble._base.inputs.arrays import Stored, layers, stored
from jaxdescramble._base.inputs.selection import Layer, Selection, selected

__all__ = ["Layer", "Selection", "Stored", "layers", "selected", "stored"]
