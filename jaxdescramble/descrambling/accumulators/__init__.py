"""Data that do not fit in memory: moments in one pass, and a second pass for objectives that need every sample."""

from jaxdescramble.descrambling.accumulators.accumulator import Accumulator
from jaxdescramble.descrambling.accumulators.passes import Refined, refine, score

__all__ = ["Accumulator", "Refined", "refine", "score"]
