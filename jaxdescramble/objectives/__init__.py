"""Figures of merit of `P S`, one family a file: the only place that knows what "readable" means."""

from jaxdescramble.objectives.combined import weighted
from jaxdescramble.objectives.entropies import entropy, spectral_entropy
from jaxdescramble.objectives.local import locality
from jaxdescramble.objectives.objective import Curvature, Objective
from jaxdescramble.objectives.ordered import monotonicity, periodicity
from jaxdescramble.objectives.similar import similarity
from jaxdescramble.objectives.smooth import smoothness
from jaxdescramble.objectives.sparse import sparsity
from jaxdescramble.objectives.summaries import Factor, Gram, Samples, Summary
from jaxdescramble.objectives.variation import total_variation
from jaxdescramble.objectives.weights import bandedness, diagonal_norm, diagonal_sum

__all__ = [
    "Curvature",
    "Factor",
    "Gram",
    "Objective",
    "Samples",
    "Summary",
    "bandedness",
    "diagonal_norm",
    "diagonal_sum",
    "entropy",
    "locality",
    "monotonicity",
    "periodicity",
    "similarity",
    "smoothness",
    "sparsity",
    "spectral_entropy",
    "total_variation",
    "weighted",
]
