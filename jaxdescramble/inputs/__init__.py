"""Arrays in files: what there is, which of it are layers, and one array read at a time."""

from jaxdescramble.inputs.selection import Layer, Selection, selected
from jaxdescramble.inputs.stored import Stored, layers, stored

__all__ = ["Layer", "Selection", "Stored", "layers", "selected", "stored"]
