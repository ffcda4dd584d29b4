"""The readings of a first and of a second layer, as the papers define them.

A battery is a tuple of readings. To add a reading, write one function and add one line to `FIRST_LAYER` or
`SECOND_LAYER`.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble.findings.fourier import band_edge, frequency_concentration, notch_depth, pair
from jaxdescramble.findings.ridges import (
    distance_map_monotonicity,
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


@dataclass(frozen=True)
class Measure:
    """A reading, with the facts that you need to judge its value.

    Attributes:
        name: name in the results.
        function: `function(fit, read) -> scalar`; `fit` and `read` are the same weight, descrambled on one half of the
            signals and on the other half.
        depends_on_point: whether the descrambler can change the value. If not, the value describes the weight alone.
        direction: +1 if large values are the finding, -1 if small values are, 0 if neither.
        unit: unit of the value.
        note: one line of explanation.
    """

    name: str
    function: Callable[[ArrayLike, ArrayLike], Array]
    depends_on_point: bool
    direction: int
    unit: str
    note: str


def _of_read(function: Callable[..., Array], **options) -> Callable[[ArrayLike, ArrayLike], Array]:
    """Make a reading of two matrices from a reading of one. It reads the second, because it chooses nothing."""

    def reading(fit: ArrayLike, read: ArrayLike) -> Array:
        return function(pair(fit, read)[1], **options)

    return reading


def _polynomial(family: str) -> Callable[[ArrayLike, ArrayLike], Array]:
    return functools.partial(polynomial_match, family=family)


FIRST_LAYER = (
    Measure("band edge", _of_read(band_edge), False, -1, "cycles per record", "95% of the energy lies below"),
    Measure(
        "band edge, 99%",
        _of_read(band_edge, fraction=0.99),
        False,
        -1,
        "cycles per record",
        "99% of the energy lies below",
    ),
    Measure(
        "notch, all link frequencies",
        _of_read(notch_depth, link_zero=True),
        False,
        -1,
        "ratio",
        "energy at input frequency 0 over its neighbours' energy; does not depend on P",
    ),
    Measure(
        "notch, link frequency 0 left out",
        _of_read(notch_depth, link_zero=False),
        True,
        -1,
        "ratio",
        "energy at input frequency 0 over its neighbours' energy, link frequency 0 excluded",
    ),
    Measure("ridge exponent", ridge_exponent, True, 1, "power", "3 in the paper; a random frame gives 0"),
    Measure("ridge exponent error", ridge_exponent_error, True, 0, "power", "standard error (HC3)"),
    Measure("ridge law R2", ridge_fit_r2, True, 1, "R2", "law fitted on one half, tested on the other half"),
    Measure(
        "ridge monotonicity",
        ridge_monotonicity,
        True,
        1,
        "Kendall tau",
        "assumes no law; few link frequencies carry weight, so trust p_value more than effect",
    ),
    Measure(
        "frequency concentration",
        frequency_concentration,
        True,
        1,
        "share of log bins",
        "mutual information of link and input frequency; positive even for noise",
    ),
)

SECOND_LAYER = (
    Measure(
        "link purity",
        link_purity,
        True,
        1,
        "energy share",
        "near 1 if the link vectors are sinusoids, or if the tap contained W2",
    ),
    Measure("distance map", distance_map_monotonicity, True, -1, "Kendall tau", "-1 if fast link waves go to short r"),
    Measure("link bandedness", link_bandedness, True, 1, "energy share", "M^T M by link frequency"),
    Measure("link orthogonality", link_orthogonality, True, 1, "1 - cos^2", "columns at distant frequencies"),
    Measure("output bandedness", output_bandedness, False, 1, "energy share", "M M^T by distance"),
    Measure("row orthogonality", row_orthogonality, False, 1, "1 - cos^2", "rows that lie far apart"),
    Measure("Chebyshev R2", _polynomial("chebyshev"), False, 1, "R2", "best of 8 members; compare the families"),
    Measure("Legendre R2", _polynomial("legendre"), False, 1, "R2", "best of 8 members; degrees 1, 2 are Chebyshev's"),
    Measure("cosine R2", _polynomial("fourier"), False, 1, "R2", "best of 8 members, half-range cosines"),
)
