"""A film of a training: the descrambled layers at regular steps, each frame aligned to the one before."""

from jaxdescramble.descrambling.film.frames import FilmedLayer, FilmedSide, Frames
from jaxdescramble.descrambling.film.recorder import Film

__all__ = ["Film", "FilmedLayer", "FilmedSide", "Frames"]
