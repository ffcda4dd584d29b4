"""Match two networks of one architecture: move one next to the other, by its symmetries."""

from jaxdescramble.descrambling.matching.barriers import Barrier
from jaxdescramble.descrambling.matching.matches import Match, match

__all__ = ["Barrier", "Match", "match"]
