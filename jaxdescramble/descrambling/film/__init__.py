"""A film of training: descrambled layers every so many steps, frame aligned to frame, at next to no cost."""

from jaxdescramble.descrambling.film.frames import FilmedLayer, FilmedSide, Frames
from jaxdescramble.descrambling.film.recorder import Film

__all__ = ["Film", "FilmedLayer", "FilmedSide", "Frames"]
