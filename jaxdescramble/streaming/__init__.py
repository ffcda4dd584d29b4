"""More data than memory holds: moments in one pass, and a second pass for objectives that need every sample."""

from jaxdescramble.streaming.accumulator import Accumulator
from jaxdescramble.streaming.passes import Refined, refine, score

__all__ = ["Accumulator", "Refined", "refine", "score"]
