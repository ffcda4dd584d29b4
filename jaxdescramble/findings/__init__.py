"""Readings of descrambled matrices, with null models to judge them by."""

from jaxdescramble.findings.agreement import Consistency, consistency
from jaxdescramble.findings.fourier import (
    FourierMap,
    band_edge,
    fourier_energy,
    fourier_map,
    frequency_concentration,
    notch_depth,
)
from jaxdescramble.findings.nulls import (
    FIRST_LAYER,
    SECOND_LAYER,
    Measure,
    Reading,
    Readings,
    compare,
    measure,
    random_frame,
)
from jaxdescramble.findings.ridges import (
    Ridge,
    distance_map_monotonicity,
    ridge,
    ridge_exponent,
    ridge_exponent_error,
    ridge_fit_r2,
    ridge_monotonicity,
)
from jaxdescramble.findings.vectors import (
    link_bandedness,
    link_orthogonality,
    link_purity,
    output_bandedness,
    polynomial_match,
    row_orthogonality,
)

__all__ = [
    "FIRST_LAYER",
    "SECOND_LAYER",
    "Consistency",
    "FourierMap",
    "Measure",
    "Reading",
    "Readings",
    "Ridge",
    "band_edge",
    "compare",
    "consistency",
    "distance_map_monotonicity",
    "fourier_energy",
    "fourier_map",
    "frequency_concentration",
    "link_bandedness",
    "link_orthogonality",
    "link_purity",
    "measure",
    "notch_depth",
    "output_bandedness",
    "polynomial_match",
    "random_frame",
    "ridge",
    "ridge_exponent",
    "ridge_exponent_error",
    "ridge_fit_r2",
    "ridge_monotonicity",
    "row_orthogonality",
]
