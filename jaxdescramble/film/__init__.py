"""A film of training: descrambled layers every so many steps, frame aligned to frame, at next to no cost."""

from jaxdescramble.film.film import Film
from jaxdescramble.film.frames import FilmedLayer, FilmedSide, Frames

__all__ = ["Film", "FilmedLayer", "FilmedSide", "Frames"]
