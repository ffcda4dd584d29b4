"""Objectives: numbers that say how readable `P S` is, one family per file. Small values are readable.

Make an objective with a function in lower case, such as `smoothness()`; it checks its arguments. The objective itself
is a frozen dataclass, a subclass of `Objective`. `shape` and `boundary` mean the same in every objective that uses the
places of neurons (`_grids`).
"""

from jaxdescramble.objectives._symmetries import SignedOrder, Symmetries
from jaxdescramble.objectives.combined import Weighted, weighted
from jaxdescramble.objectives.entropies import Entropy, SpectralEntropy, entropy, spectral_entropy
from jaxdescramble.objectives.local import Locality, locality
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.ordered import Monotonicity, Periodicity, monotonicity, periodicity
from jaxdescramble.objectives.plain_functions import FromFunction, from_function
from jaxdescramble.objectives.quantisers import Quantised, quantised
from jaxdescramble.objectives.similar import Similarity, similarity
from jaxdescramble.objectives.sketches import Sketch
from jaxdescramble.objectives.smooth import Smoothness, smoothness
from jaxdescramble.objectives.sparse import L1Sparsity, L4Sparsity, LogCoshSparsity, Participation, sparsity
from jaxdescramble.objectives.spreads import Spread, spread
from jaxdescramble.objectives.summaries import Factor, Gram, Samples, SampleSummary
from jaxdescramble.objectives.summary import Summary
from jaxdescramble.objectives.variation import TotalVariation, total_variation
from jaxdescramble.objectives.weights import (
    Bandedness,
    DiagonalNorm,
    DiagonalSum,
    bandedness,
    diagonal_norm,
    diagonal_sum,
)

__all__ = [
    "Bandedness",
    "Curvature",
    "DiagonalNorm",
    "DiagonalSum",
    "Entropy",
    "Factor",
    "FromFunction",
    "Gram",
    "L1Sparsity",
    "L4Sparsity",
    "Locality",
    "LogCoshSparsity",
    "Monotonicity",
    "Objective",
    "Participation",
    "Periodicity",
    "Quantised",
    "SampleSummary",
    "Samples",
    "SignedOrder",
    "Similarity",
    "Sketch",
    "Smoothness",
    "SpectralEntropy",
    "Spread",
    "Summary",
    "Symmetries",
    "TotalVariation",
    "Weighted",
    "bandedness",
    "diagonal_norm",
    "diagonal_sum",
    "entropy",
    "from_function",
    "locality",
    "monotonicity",
    "periodicity",
    "quantised",
    "similarity",
    "smoothness",
    "sparsity",
    "spectral_entropy",
    "spread",
    "total_variation",
    "weighted",
]
