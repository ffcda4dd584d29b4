"""Exact answers: closed-form minimisers with certified bounds, gauge and alignment, linear networks."""

from jaxdescramble.exact.brockett import ClosedForm, Extremum, brockett_maximiser, brockett_minimiser
from jaxdescramble.exact.circulant import circulant_minimiser
from jaxdescramble.exact.commuting import CommonModes, commuting_minimiser
from jaxdescramble.exact.degeneracies import Degeneracy, degeneracy
from jaxdescramble.exact.gauge import Alignment, CircularShifts, Phases, Stabiliser, align, canonical
from jaxdescramble.exact.isotropic import isotropic_form, isotropic_moments, marchenko_pastur
from jaxdescramble.exact.large_data import from_weights, sampling_error
from jaxdescramble.exact.linear_networks import learning_times, linear_network_modes
from jaxdescramble.exact.orthogonal_procrustes import diagonal_sum, procrustes

__all__ = [
    "Alignment",
    "CircularShifts",
    "ClosedForm",
    "CommonModes",
    "Degeneracy",
    "Extremum",
    "Phases",
    "Stabiliser",
    "align",
    "brockett_maximiser",
    "brockett_minimiser",
    "canonical",
    "circulant_minimiser",
    "commuting_minimiser",
    "degeneracy",
    "diagonal_sum",
    "from_weights",
    "isotropic_form",
    "isotropic_moments",
    "learning_times",
    "linear_network_modes",
    "marchenko_pastur",
    "procrustes",
    "sampling_error",
]
