"""Explanations: which readings of a network are findings, and the page that says so."""

from jaxdescramble.findings.explanations.explaining import explain
from jaxdescramble.findings.explanations.judging import joint_p_values
from jaxdescramble.findings.explanations.readings import READINGS, LayerReading
from jaxdescramble.findings.explanations.report import LayerExplanation, Report, Verdict
from jaxdescramble.findings.explanations.sources import LayerSignals
from jaxdescramble.findings.explanations.splitting import time_blocks
from jaxdescramble.findings.explanations.waves import LayerWave
from jaxdescramble.findings.explanations.weight_nulls import (
    Isotropic,
    PermutedEntries,
    RandomFrame,
    Untrained,
    WeightNull,
)
from jaxdescramble.findings.explanations.whole_networks import TrainedNetworks

__all__ = [
    "READINGS",
    "Isotropic",
    "LayerExplanation",
    "LayerReading",
    "LayerSignals",
    "LayerWave",
    "PermutedEntries",
    "RandomFrame",
    "Report",
    "TrainedNetworks",
    "Untrained",
    "Verdict",
    "WeightNull",
    "explain",
    "joint_p_values",
    "time_blocks",
]
