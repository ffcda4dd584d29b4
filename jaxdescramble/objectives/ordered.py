"""Order along the neurons: signals that repeat (`periodicity`), and signals that only rise (`monotonicity`)."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import transforms
from jaxdescramble._base.checks import one_of, positive_integer, positive_number
from jaxdescramble._base.products import matmul
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import AxesCurvature, axes_curvature, second_derivatives
from jaxdescramble.objectives._differences import on_a_line
from jaxdescramble.objectives._grids import BOUNDARY, ENDS, axes
from jaxdescramble.objectives._symmetries import Symmetries, of_grid
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.smooth import Quadratic
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import in_frame, in_own_unit, ratio
from jaxdescramble.objectives.variation import TotalVariation


def periodicity(period: int, boundary: str = BOUNDARY) -> "Periodicity":
    """Return the objective that makes signals repeat every `period` neurons.

    `f(P) = ||D P S||_F^2 / (lambda_max(D^T D) ||S||_F^2)`, `(D y)_i = y_i - y_(i + period)`

    Here `lambda_max` is the largest eigenvalue. f lies in [0, 1], and is 0 for signals of this period. f does not
    change when S is scaled, when samples are repeated or permuted, or when S is multiplied from the right by an
    orthogonal matrix. For one sample y on a circle, `f = 2 (1 - r) / lambda_max` with the autocorrelation
    `r = <y, shift^period y> / <y, y>`. If some wave changes sign after `period` neurons, `lambda_max` is 4.

    Args:
        period: the period, in neurons; less than n.
        boundary: "periodic" (the ends meet: the neurons lie on a circle) or "neumann" (the axis ends: only pairs of
            neurons within it are compared).

    Returns:
        A `Periodicity`. It has an operator, and therefore a closed form. It also has a bound, which is attained, and a
        curvature (a model of its Hessian for preconditioners).

    Raises:
        ValueError, TypeError: if `period` is not a positive integer, or the boundary is unknown. When you use the
            objective: if the period is not less than n.

    >>> wave = jnp.sin(2 * jnp.pi * jnp.arange(6) / 3)[:, None]
    >>> [abs(round(float(periodicity(lag)(jnp.eye(6), wave)), 4)) for lag in (3, 1)]
    [0.0, 0.75]

    Source: Amey et al. 2021 name periodicity and autocorrelation among their figures of merit.
    """
    return Periodicity(positive_integer(period, "period"), one_of(boundary, "boundary", ENDS))


class Periodicity(Quadratic):
    """How far signals are from repeating. Make it with `periodicity`, which documents it.

    Attributes:
        period, boundary: arguments of the difference D.
    """

    period: int = dataclasses.field(metadata={"static": True})
    boundary: str = dataclasses.field(default=BOUNDARY, metadata={"static": True})

    def operator(self, n: int) -> "Lag":
        if 1 < positive_integer(n, "n") <= self.period:
            raise ValueError(f"periodicity: a period of {self.period} does not fit {n} features; it must be less.")
        return Lag(n, self.period, self.boundary)

    def symmetries(self, n: int) -> Symmetries:
        return of_grid(*axes(n, None, self.boundary, self.name))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Lag:
    """The difference between neurons that are one period apart, an operator with a known eigenbasis.

    On a circle the modes are waves. A line splits into `period` chains of neurons, and each chain has its own cosines.

    >>> Lag(4, 2, "periodic").apply(jnp.asarray([1.0, 2.0, 4.0, 8.0])).tolist()
    [-3.0, -6.0, 3.0, 6.0]
    """

    size: int
    period: int
    boundary: str

    @functools.cached_property
    def _modes(self) -> tuple[np.ndarray, np.ndarray]:
        n, lag = self.size, self.period
        if self.boundary == "periodic":
            values = (2 * np.sin(lag * transforms.angles(n, "periodic") / 2)) ** 2
            basis = transforms.basis(n, "periodic")
        else:
            values, basis = np.zeros(n), np.zeros((n, n))
            for first in range(min(lag, n)):
                chain = np.arange(first, n, lag)
                values[chain] = (2 * np.sin(transforms.angles(len(chain), "neumann") / 2)) ** 2
                basis[np.ix_(chain, chain)] = transforms.basis(len(chain), "neumann")
        ascending = np.argsort(np.round(values, 12), kind="stable")
        return values[ascending], basis[:, ascending]

    @property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues of `D^T D`, ascending, float64, shape (n,)."""
        return self._modes[0]

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal eigenvectors in columns, float64, shape (n, n)."""
        return self._modes[1]

    @functools.cached_property
    def multiplicities(self) -> tuple[int, ...]:
        """Sizes of the runs of equal eigenvalues, ascending."""
        return tuple(np.unique(np.round(self.eigenvalues, 12), return_counts=True)[1].tolist())

    def apply(self, x: Float[Array, "n *rest"]) -> Float[Array, "k *rest"]:
        """Return `D x` along axis 0."""
        return x - jnp.roll(x, -self.period, 0) if self.boundary == "periodic" else x[: -self.period] - x[self.period :]

    def analyse(self, x: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
        """Return the mode coefficients `T^T x` along axis 0, where T is `basis`."""
        return self._product(self.basis.T, x)

    def synthesise(self, c: Float[Array, "n *rest"]) -> Float[Array, "n *rest"]:
        """Return `T c` along axis 0, where T is `basis`."""
        return self._product(self.basis, c)

    def _product(self, matrix: np.ndarray, x: Array) -> Array:
        return matmul(jnp.asarray(matrix, x.dtype), x.reshape((self.size, -1))).reshape(x.shape)


def monotonicity(epsilon: ArrayLike = 1e-3) -> "Monotonicity":
    """Return the objective that makes signals rise along the neurons: small if samples hardly ever fall.

    `f(P) = sum_ks phi(max(-d_ks, 0)) / (sqrt(lambda_max(D^T D) K m) ||S||_F)`, `d = D P S`,
    `phi(x) = x^3 / (x^2 + (epsilon s)^2)`

    Here S has n features and m samples, and `s = ||S||_F / sqrt(n m)` is the root mean square of its entries. D takes
    the differences of neighbours on a line, `K = n - 1` per sample. The sum runs over the differences k and the
    samples (index s); phi is a rounded form of x. The normalisation is that of `total_variation`. f lies in [0, 1], and
    is 0 if no sample ever falls. f does not change when S is scaled, or when samples are repeated or permuted. It
    changes when S changes sign. There is no closed form.

    The bound is 0 if the signals have a large mean. It uses that the total fall of a sample is half of its total
    variation, minus half of its rise from the first neuron to the last. These rises sum to at most
    `sqrt(2) |sum_s S_s|`, where S_s is the column of sample s; the bound of `total_variation` gives the rest. In
    general no P reaches the bound.

    Args:
        epsilon: how widely the corner is rounded, in units of s; f then has two continuous derivatives. The rounding
            makes f smaller than the total fall by at most epsilon.

    Returns:
        A `Monotonicity`. It has a bound.

    Raises:
        ValueError, TypeError: if `epsilon` is not a positive number.

    >>> rise = jnp.asarray([[0.0], [1.0], [1.0], [3.0]])
    >>> [round(float(monotonicity()(jnp.eye(4), S)), 4) for S in (rise, -rise)]
    [0.0, 0.2826]

    Source: Amey et al. 2021 name monotonicity among their figures of merit; the formula is ours.
    """
    return Monotonicity(positive_number(epsilon, "epsilon"))


class Monotonicity(Objective[SampleSummary]):
    """How far signals fall along the neurons. Make it with `monotonicity`, which documents it.

    Attributes:
        epsilon: how widely the corner is rounded, in units of s.
    """

    epsilon: ArrayLike = 1e-3

    smoothing = "epsilon"
    takes_weights = True

    @fused
    def value(self, point: Float[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        differences = on_a_line(len(point))
        d = differences.of_product(point, lambda matrix: in_frame(matrix, summary)[0])
        return jnp.sum(summary.weigh(_descent(d, self.epsilon))) / differences.largest_variation(d)

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        S = in_own_unit(summary)
        differences = on_a_line(len(S))
        d = differences(S)
        variation = TotalVariation(boundary="neumann", epsilon=self.epsilon).bound(summary)
        # The rounded corner lowers each difference by at most epsilon / 2.
        rest = math.sqrt(2) * jnp.sqrt(jnp.sum(jnp.sum(summary.weigh(S), axis=1) ** 2))
        rest = rest + jnp.asarray(self.epsilon, S.dtype) * d.size
        found = (variation - rest / differences.largest_variation(d)) / 2
        return jnp.maximum(found - 8 * jnp.finfo(S.dtype).eps, 0)

    def curvature(self, summary: SampleSummary) -> AxesCurvature:
        """Return a model of the Hessian in the principal directions of the signals, from the mean Hessian of a sample.

        It is `D^T diag(h) D`, with the sums h of `phi''` over the samples.
        """
        S = in_own_unit(summary)
        differences = on_a_line(len(S))

        def bending(point: Array, V: Array) -> Array:
            d = differences.of_product(point, lambda matrix: matmul(matrix, S))
            h = jnp.sum(summary.weigh(second_derivatives(lambda d: _descent(d, self.epsilon), d)), axis=(0, 2))
            moved = differences(V)[0]
            return jnp.sum(h[:, None] * moved**2, axis=0) / differences.largest_variation(d)

        return axes_curvature(self, summary, bending)

    def symmetries(self, n: int) -> Symmetries:
        return of_grid(*axes(n, None, "neumann", self.name), rising=True)


def _descent(d: Array, epsilon: ArrayLike) -> Array:
    """Return how far differences fall, with a rounded corner; a NaN remains a NaN."""
    fall = jnp.where(d >= 0, 0, -d)
    return ratio(fall**3, fall**2 + jnp.asarray(epsilon, d.dtype) ** 2)
