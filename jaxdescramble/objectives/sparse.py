"""Sparsity: small if few neurons are active in each sample."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Complex, Float, Inexact

from jaxdescramble._base.checks import one_of, positive_number
from jaxdescramble._base.products import is_complex, matmul, squared
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives._curvatures import SpatialCurvature, entrywise_curvature, spatial_curvature
from jaxdescramble.objectives._relaxations import concentration, from_levels
from jaxdescramble.objectives._symmetries import Symmetries
from jaxdescramble.objectives.objective import Objective
from jaxdescramble.objectives.summaries import SampleSummary
from jaxdescramble.objectives.units import in_frame, in_own_unit, mean, ratio, softened
from jaxdescramble.operators import Operator, from_matrix

MEASURES = ("l1", "logcosh", "l4", "participation")


def sparsity(
    measure: str = "l1", epsilon: ArrayLike | None = None
) -> "L1Sparsity | LogCoshSparsity | L4Sparsity | Participation":
    """Return the objective that makes few neurons active in each sample: few entries of `P S` are far from zero.

    Here S has n features and m samples, and `s = ||S||_F / sqrt(n m)` is the root mean square of its entries. y are the
    entries of `Y = P S` in units of s, and E_s is the energy of sample s: the sum of its y^2. The energies sum to n m.
    phi(y) is the term of one entry.

    | measure         | f                                              | range    | bound                          |
    |-----------------|------------------------------------------------|----------|--------------------------------|
    | "l1"            | `mean(sqrt(y^2 + epsilon^2) - epsilon)`        | [0, 1]   | `sum_s phi(sqrt(E_s)) / (n m)` |
    | "logcosh"       | `mean(epsilon log cosh(y / epsilon))`          | [0, 1]   | the same                       |
    | "l4"            | `-sum y^4 / sum_s E_s^2`                       | [-1, 0]  | -1                             |
    | "participation" | `sum_s E_s^3 / sum_i y_is^4 / (n sum_s E_s)`   | [1/n, 1] | 1/n                            |

    Without the rounded corner, "l1" is `sum |y|` of the unscaled entries, divided by `sqrt(n m) ||S||_F`. The bounds
    hold because phi(y) is a concave function of `y^2` that is zero at zero. They are attained if some P puts every
    sample into one neuron; this is possible if any two samples are parallel or orthogonal. No measure changes when S is
    scaled, when samples are repeated or permuted, or when neurons are permuted or change sign. So P is known only up to
    these. There is no closed form. "l4" is minus a convex function, so the polar fixed point (`solvers.PolarPower`)
    applies.

    Args:
        measure: one of the four in the table; "l1" is the default. "participation" is the effective number of active
            neurons, divided by n.
        epsilon: how widely the corner of |y| is rounded, in units of s, for "l1" and "logcosh". None means 1e-3 for
            "l1" and 1 for "logcosh", whose slope is then tanh(y), the score function of FastICA and Picard-O. For small
            epsilon, both measures tend to the mean of |y|; they are smaller by at most epsilon. The other measures have
            no corner, so leave epsilon out.

    Returns:
        An objective with a bound, a relaxation (a higher bound, for `Descrambling.tightest_bound`, from the largest
        possible sum of `y^4`), and a curvature (the exact diagonal of its Hessian in the frame of the neurons).

    Raises:
        ValueError, TypeError: if the measure is unknown, epsilon is not positive, or the measure takes no epsilon.

    >>> even, sparse = jnp.ones((4, 1)), jnp.eye(4)[:, :1]
    >>> [round(float(sparsity()(jnp.eye(4), S)), 3) for S in (even, sparse)]
    [0.999, 0.5]

    Source: Hyvarinen, IEEE Trans. Neural Networks 10 (1999), log cosh and the fourth power; Ablin, Cardoso, Gramfort
    2018 (Picard-O); Zhai et al., JMLR 21 (2020), complete dictionary learning by L4.
    """
    one_of(measure, "measure", MEASURES)
    if measure in ("l4", "participation"):
        if epsilon is not None:
            raise ValueError(f"epsilon: measure {measure!r} has no corner to round; leave epsilon out.")
        return L4Sparsity() if measure == "l4" else Participation()
    kind = L1Sparsity if measure == "l1" else LogCoshSparsity
    return kind() if epsilon is None else kind(positive_number(epsilon, "epsilon"))


@jax.custom_jvp
def log_cosh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return `log cosh x`. It does not overflow, and it is exact for small x. Its derivative is tanh.

    >>> log_cosh(jnp.asarray([0.0, 1024.0])).round().tolist()
    [0.0, 1023.0]
    """
    size = jnp.abs(x)
    return size + jnp.log1p(jnp.expm1(-2 * size) / 2)


log_cosh.defjvps(lambda change, value, x: jnp.tanh(x) * change)


def _modulus(Y: Complex[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return |y|; its derivative at 0 is 0."""
    square = squared(Y)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


class _Entrywise(Objective[SampleSummary]):
    """A mean over all entries y of a concave function of `y^2` that is 0 at 0."""

    name = "sparsity"
    takes_weights = True
    takes_complex = True

    def _terms(self, Y: Array, energies: Array, summary: SampleSummary) -> Array:
        """Return the term of each entry, without weights."""
        raise NotImplementedError

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        return mean(summary.weigh(self._terms(Y, energies, summary)))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        S = in_own_unit(summary, complex_too=True)
        energies = jnp.sum(squared(S), axis=0, keepdims=True)
        lengths = jnp.where(energies > 0, jnp.sqrt(jnp.where(energies > 0, energies, 1)), 0)
        one_hot = jnp.zeros(S.shape, energies.dtype).at[:1].set(lengths)
        return mean(summary.weigh(self._terms(one_hot, energies, summary)))

    def relaxation(self, summary: SampleSummary, steps: int) -> Float[Array, ""]:
        S = in_own_unit(summary)
        energies = jnp.sum(S**2, axis=0, keepdims=True)
        count = jnp.arange(1, len(S) + 1, dtype=S.dtype)[:, None]
        levels = summary.weigh(count * self._terms(jnp.sqrt(energies / count), energies, summary))
        return from_levels(S, levels, steps=steps) / max(S.size, 1)

    def curvature(self, summary: SampleSummary) -> SpatialCurvature:
        return entrywise_curvature(summary, lambda Y, energies: self._terms(Y, energies, summary))

    def symmetries(self, n: int) -> Symmetries:
        return Symmetries(every_sign=True, every_order=True)


class L1Sparsity(_Entrywise):
    """The mean of |y| with a rounded corner. Make it with `sparsity("l1")`, which documents it.

    Attributes:
        epsilon: how widely the corner is rounded, in units of s.
    """

    epsilon: ArrayLike = 1e-3

    name = "sparsity"
    smoothing = "epsilon"

    def _terms(self, Y: Array, energies: Array, summary: SampleSummary) -> Array:
        return softened(squared(Y), jnp.asarray(self.epsilon, energies.dtype))

    def sparsifying_operator(self, n: int) -> Operator:
        return _identity(n, jnp.zeros(()).dtype)


class LogCoshSparsity(_Entrywise):
    """The mean of `epsilon log cosh(y / epsilon)`. Make it with `sparsity("logcosh")`, which documents it.

    Attributes:
        epsilon: how widely the corner is rounded, in units of s.
    """

    epsilon: ArrayLike = 1.0

    name = "sparsity"
    smoothing = "epsilon"

    def _terms(self, Y: Array, energies: Array, summary: SampleSummary) -> Array:
        floor = jnp.asarray(self.epsilon, energies.dtype)
        return floor * log_cosh((_modulus(Y) if is_complex(Y) else Y) / floor)

    def sparsifying_operator(self, n: int) -> Operator:
        return _identity(n, jnp.zeros(()).dtype)


class L4Sparsity(_Entrywise):
    """Minus the sum of `y^4`, normalised. Make it with `sparsity("l4")`, which documents it."""

    name = "sparsity"
    concave = True

    def _terms(self, Y: Array, energies: Array, summary: SampleSummary) -> Array:
        return -ratio(squared(Y) ** 2 if is_complex(Y) else Y**4, mean(summary.weigh(energies**2)) / len(Y))


class Participation(Objective[SampleSummary]):
    """The share of active neurons. Make it with `sparsity("participation")`, which documents it."""

    name = "sparsity"
    takes_weights = True
    takes_complex = True

    @fused
    def value(self, point: Inexact[Array, "n n"], summary: SampleSummary) -> Float[Array, ""]:
        Y, energies = in_frame(point, summary)
        shares = jnp.sum(ratio(squared(Y), energies) ** 2, axis=0)
        return jnp.sum(summary.weigh(ratio(energies[0], shares))) / (len(Y) * max(Y.size, 1))

    def bound(self, summary: SampleSummary) -> Float[Array, ""]:
        S = in_own_unit(summary, complex_too=True)
        return mean(summary.weigh(squared(S))) / len(S)  # 1/n, or 0 if the signals are zero

    def relaxation(self, summary: SampleSummary, steps: int) -> Float[Array, ""]:
        """Return the bound from the largest possible mean of `q = sum_i p_i^2`, p being the shares of the neurons.

        `1 / q` is convex, so the mean of `1 / q` is at least 1 over the mean of q.
        """
        S = in_own_unit(summary)
        energies = summary.weigh(jnp.sum(S**2, axis=0))
        found = mean(summary.weigh(S**2)) / (len(S) * concentration(S, energies, steps=steps))
        return found * (1 - 8 * jnp.finfo(S.dtype).eps)

    def curvature(self, summary: SampleSummary) -> SpatialCurvature:
        """Return the exact diagonal of the Hessian.

        The term of one sample y with energy E is `F = E / q`, with `p = y^2 / E` and `q = sum p^2`. Its derivatives are
        `F_i = -4 p_i y_i / q^2` and `F_ij = 32 p_i y_i p_j y_j / (E q^3) - 12 p_i / q^2 [i = j]`.
        """
        S = in_own_unit(summary)
        energies = jnp.sum(S**2, axis=0, keepdims=True)

        def diagonal(point: Array) -> Array:
            Y = matmul(point, S)
            p = ratio(Y**2, energies)
            q = jnp.sum(p**2, axis=0, keepdims=True)
            across = matmul(summary.weigh(ratio(32 * p**3, q**3) - ratio(12 * p, q**2)), (Y**2).T)
            radial = -4 * jnp.sum(summary.weigh(ratio(energies * p**2, q**2)), axis=1)
            cross = 32 * matmul(summary.weigh(ratio(energies * p**2, q**3)), (p**2).T)
            return spatial_curvature(across, radial, cross) / (len(S) * max(S.size, 1))

        return SpatialCurvature(diagonal)

    def symmetries(self, n: int) -> Symmetries:
        return Symmetries(every_sign=True, every_order=True)


@functools.lru_cache(maxsize=8)
def _identity(n: int, dtype: np.dtype) -> Operator:
    with jax.ensure_compile_time_eval():
        return from_matrix(jnp.eye(n, dtype=dtype))
