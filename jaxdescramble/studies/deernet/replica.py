"""A rational replica of DEERNet: two digital filters and one regularised matrix in place of the trained network.

The descrambled network looks like a band-pass filter followed by a time-to-distance transform. This module builds
those parts by classical means, so that the claim can be tried: does it do what the network does?
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import signal

from jaxdescramble._base.checks import one_of, positive_integer, real_array, same_size
from jaxdescramble.datasets.deer import DeerGrid, DeerPriors, sample


class LCurve(NamedTuple):
    """The trade of Tikhonov regularisation, and where it was settled."""

    regularisation: np.ndarray  # lambda, evenly spaced in its logarithm
    residual: np.ndarray  # ||T F - P||_F
    size: np.ndarray  # ||T||_F
    corner: int  # index of the point taken


class Agreement(NamedTuple):
    """How well estimated distributions match the true ones."""

    correlation: Array  # mean over samples of the correlation coefficient along the distance axis
    absolute_error: Array  # mean over samples and distances


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["high_pass", "low_pass", "filters", "transform", "regularisation", "curve"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class Replica:
    """Two filters and a transform, `p = scale(max(0, transform @ filters @ v))`, with the pieces for plots."""

    high_pass: Array  # taps, (order + 1,)
    low_pass: Array
    filters: Float[Array, "points points"]  # both filters, run forward and back, as one matrix, edges included
    transform: Float[Array, "distances points"]
    regularisation: Array
    curve: LCurve

    def linear(self, traces: Float[Array, "points samples"]) -> Float[Array, "distances samples"]:
        """Everything that is linear: no clipping, and the height of the result goes with the modulation depth."""
        filtered = jnp.matmul(self.filters, traces, precision=jax.lax.Precision.HIGHEST)
        return jnp.matmul(self.transform, filtered, precision=jax.lax.Precision.HIGHEST)

    def apply(self, traces: Float[Array, "points samples"], peak: float = 0.75) -> Float[Array, "distances samples"]:
        """Distributions from traces, both in columns: negative values set to 0, then scaled to `peak`."""
        p = jnp.maximum(self.linear(traces), 0)
        highest = p.max(axis=0, keepdims=True)
        return p * (peak / jnp.where(highest > 0, highest, 1))

    def response(self, points: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Frequencies as fractions of Nyquist's, and what the high-pass and the low-pass, run twice, pass of them."""
        frequencies = np.linspace(0, 1, points)
        steps = np.exp(-1j * np.pi * frequencies)
        high, low = (np.abs(np.polyval(np.asarray(taps), steps)) ** 2 for taps in (self.high_pass, self.low_pass))
        return frequencies, high, low


def filter_taps() -> tuple[np.ndarray, np.ndarray]:
    """The paper's two FIR filters: high-pass of order 256 and low-pass of order 32.

    Least-squares designs (`scipy.signal.firls`): the high-pass's transition, 0.001 to 0.008 of Nyquist's frequency, is
    too narrow for its order, so that an equiripple design can only spread the failure over the whole pass band.

    Returns:
        Symmetric taps, (257,) and (33,).

    >>> high, low = filter_taps()
    >>> len(high), len(low), round(float(low.sum()), 3)
    (257, 33, 1.0)
    """
    high = signal.firls(257, [0, 0.001, 0.008, 1], [0, 0, 1, 1])
    low = signal.firls(33, [0, 0.01, 0.3, 1], [1, 1, 0, 0])
    return high, low


def filter_matrix(taps: np.ndarray, points: int) -> np.ndarray:
    """A symmetric FIR filter on a finite trace as a matrix, with zero phase and mirrored ends.

    A DEER trace is an even function of time, so the mirror at t = 0 is the true continuation; the mirror at the far end
    is the one that adds neither a step nor a trend, and leaves the gain at zero frequency exact in every row.

    Args:
        taps: filter of odd length.
        points: length of the trace; more than half the filter's order, or the mirror image runs out.

    Returns:
        Matrix (points, points).

    Raises:
        ValueError: for an even number of taps, or too short a trace.
    """
    half = len(taps) // 2
    if len(taps) % 2 == 0:
        raise ValueError(f"taps: got {len(taps)}; a filter with zero phase has an odd number of taps.")
    if points <= half:
        raise ValueError(
            f"points: got {points}; a filter of order {2 * half} needs traces of at least {half + 1} points."
        )
    padded = np.pad(np.eye(points), ((half, half), (0, 0)), mode="reflect")
    return np.stack([taps @ padded[row : row + len(taps)] for row in range(points)])


def l_curve_corner(residual: np.ndarray, size: np.ndarray) -> int:
    """Where the curve (log residual, log size) bends most towards the origin.

    Args:
        residual: norms of the residual for regularisations evenly spaced in their logarithm, rising.
        size: norms of the solution for the same regularisations, falling.

    Returns:
        Index of the point of largest curvature; an end of the curve is never taken.

    Source: Hansen and O'Leary, SIAM J. Sci. Comput. 14, 1487 (1993), eq. 4.7.
    """
    x, y = np.log(residual), np.log(size)
    dx, dy = np.gradient(x), np.gradient(y)
    bend = dx * np.gradient(dy) - dy * np.gradient(dx)
    # Where the curve stands still the quotient is noise over noise.
    speed = np.hypot(dx, dy)
    curvature = np.where(speed > 1e-6 * speed.max(), bend / np.maximum(speed, 1e-300) ** 3, -np.inf)
    return 2 + int(np.argmax(curvature[2:-2]))


def fit(inputs: ArrayLike, distributions: ArrayLike, candidates: int = 200) -> Replica:
    """Builds the transform from a library: T = P F^T (F F^T + lambda)^-1, F the filtered inputs.

    lambda is the corner of the L-curve; everything is computed in float64 from the singular values of F.

    Args:
        inputs: traces in columns, (points, samples).
        distributions: what `linear` shall answer for them, (distances, samples).
        candidates: number of regularisations tried.

    Returns:
        A `Replica`, in the dtype of `distributions`.

    Raises:
        ValueError: if the two do not have the same number of samples, or traces are shorter than the filters allow.

    Source: Amey et al., PNAS 118, e2016917118 (2021), "A rational replica".
    """
    inputs = real_array(inputs, "inputs", (2,), "(points, samples)")
    distributions = real_array(distributions, "distributions", (2,), "(distances, samples)")
    same_size(distributions, 1, inputs.shape[1], "distributions", "the inputs")
    candidates = positive_integer(candidates, "candidates")

    high, low = filter_taps()
    # Forward and back, as is usual offline: the high-pass is too short for its edges; one run leaves 6% of a constant.
    filters = np.linalg.matrix_power(filter_matrix(low, inputs.shape[0]) @ filter_matrix(high, inputs.shape[0]), 2)
    target = np.asarray(distributions, np.float64)
    u, s, vt = np.linalg.svd(filters @ np.asarray(inputs, np.float64), full_matrices=False)
    projected = target @ vt.T
    beyond = np.linalg.norm(target - projected @ vt) ** 2
    weight = np.sum(projected**2, axis=0)

    # What is smaller than this in F is rounding of the inputs, and a corner there would be a corner of the rounding.
    smallest = max(s[-1], 16 * float(jnp.finfo(inputs.dtype).eps) * s[0])
    tried = np.geomspace(smallest**2, s[0] ** 2, candidates)
    residual = np.sqrt([beyond + np.sum(weight * (t / (s**2 + t)) ** 2) for t in tried])
    size = np.sqrt([np.sum(weight * (s / (s**2 + t)) ** 2) for t in tried])
    corner = l_curve_corner(residual, size)
    transform = (projected * (s / (s**2 + tried[corner]))) @ u.T
    high, low, filters, transform, regularisation = (
        jnp.asarray(a, distributions.dtype) for a in (high, low, filters, transform, tried[corner])
    )
    return Replica(high, low, filters, transform, regularisation, LCurve(tried, residual, size, corner))


def rational_replica(
    key: PRNGKeyArray,
    count: int = 4096,
    library: str = "traces",
    grid: DeerGrid | None = None,
    priors: DeerPriors | None = None,
) -> Replica:
    """The replica, fitted to a library of simulated experiments.

    Distributions enter with their area, not their peak, set to 1 (times the modulation depth, for traces): that is how
    the signal depends on them linearly.

    Args:
        key: random key of the library.
        count: experiments in it.
        library: "traces", with background and noise; or "form factors", Gamma(t) and noise, as the paper has it. The
            filters leave too much of a background for a transform that has never met one: fitted to form factors it
            is better than the network on traces without a background, and far worse on whole ones.
        grid: time and distance grids.
        priors: ranges of the simulated experiments.

    Returns:
        A `Replica`.

    Raises:
        ValueError: for another `library`.

    >>> import jax
    >>> rational_replica(jax.random.key(0), 512).transform.shape
    (256, 256)
    """
    one_of(library, "library", ("traces", "form factors"))
    batch = sample(key, positive_integer(count, "count"), grid, priors)
    p = batch.distribution / batch.distribution.sum(axis=0, keepdims=True)
    depth = batch.parameters.modulation_depth[None, :]
    if library == "form factors":
        # With the noise that the traces have: without any, the L-curve has no corner to find.
        return fit(batch.form_factor + (batch.trace - batch.clean) / depth, p)
    return fit(batch.trace, p * depth)


def agreement(
    estimates: Float[Array, "distances samples"], distributions: Float[Array, "distances samples"]
) -> Agreement:
    """Correlation and mean absolute error of estimated distributions; a constant estimate has correlation 0.

    >>> import jax.numpy as jnp
    >>> truth = jnp.array([[0.0], [1.0], [0.0]])
    >>> [round(float(x), 3) for x in agreement(truth / 2, truth)]
    [1.0, 0.167]
    """
    a = estimates - estimates.mean(axis=0, keepdims=True)
    b = distributions - distributions.mean(axis=0, keepdims=True)
    norms = jnp.linalg.norm(a, axis=0) * jnp.linalg.norm(b, axis=0)
    correlation = jnp.sum(a * b, axis=0) / jnp.where(norms > 0, norms, 1)
    return Agreement(correlation.mean(), jnp.abs(estimates - distributions).mean())
