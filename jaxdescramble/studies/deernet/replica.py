"""A rational replica of DEERNet: two digital filters and one regularised matrix replace the trained network.

The descrambled network looks like a band-pass filter followed by a time-to-distance transform. This module builds both
parts with classical methods, to test whether they do what the network does.
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
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.datasets.deer import DeerGrid, DeerPriors, sample


class LCurve(NamedTuple):
    """The L-curve of Tikhonov regularisation, and the chosen point."""

    regularisation: np.ndarray  # lambda, evenly spaced in its logarithm
    residual: np.ndarray  # ||T F - P||_F
    size: np.ndarray  # ||T||_F
    corner: int  # index of the chosen point


class Agreement(NamedTuple):
    """Agreement between estimated and true distributions."""

    correlation: Array  # mean over samples of the correlation coefficient along the distance axis
    absolute_error: Array  # mean over samples and distances


@functools.partial(
    register_dataclass,
    data_fields=["high_pass", "low_pass", "filters", "transform", "regularisation", "curve"],
    meta_fields=[],
)
@dataclass(frozen=True, eq=False)
class Replica:
    """Two filters and a transform, `p = scale(max(0, transform @ filters @ v))`, with their parts for plots."""

    high_pass: Array  # taps, (order + 1,)
    low_pass: Array
    filters: Float[Array, "points points"]  # both filters, each run forward and back, as one matrix with edges
    transform: Float[Array, "distances points"]
    regularisation: Array
    curve: LCurve

    def linear(self, traces: Float[Array, "points samples"]) -> Float[Array, "distances samples"]:
        """Apply the linear part, without clipping. The height of the result depends on the modulation depth."""
        filtered = jnp.matmul(self.filters, traces, precision=jax.lax.Precision.HIGHEST)
        return jnp.matmul(self.transform, filtered, precision=jax.lax.Precision.HIGHEST)

    def apply(self, traces: Float[Array, "points samples"], peak: float = 0.75) -> Float[Array, "distances samples"]:
        """Return distributions from traces, both in columns: set negative values to 0, then scale to `peak`."""
        p = jnp.maximum(self.linear(traces), 0)
        highest = p.max(axis=0, keepdims=True)
        return p * (peak / jnp.where(highest > 0, highest, 1))

    def response(self, points: int = 512) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return frequencies in units of Nyquist's, and the responses of both filters, each run twice."""
        frequencies = np.linspace(0, 1, points)
        steps = np.exp(-1j * np.pi * frequencies)
        high, low = (np.abs(np.polyval(np.asarray(taps), steps)) ** 2 for taps in (self.high_pass, self.low_pass))
        return frequencies, high, low


def filter_taps() -> tuple[np.ndarray, np.ndarray]:
    """Design the paper's two FIR filters: a high-pass filter of order 256 and a low-pass filter of order 32.

    Both are least-squares designs (`scipy.signal.firls`). The transition of the high-pass filter, 0.001 to 0.008 of the
    Nyquist frequency, is too narrow for its order. An equiripple design would spread the error over all frequencies.

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
    """Return the matrix of a symmetric FIR filter on a finite trace, with zero phase and mirrored ends.

    A DEER trace is an even function of time, so the mirror at t = 0 is exact. The mirror at the far end adds neither a
    step nor a trend, and keeps the gain at frequency zero exact in every row.

    Args:
        taps: taps of the filter; their number must be odd.
        points: length of the trace. It must exceed half of the filter's order, so that the mirror image suffices.

    Returns:
        Matrix of shape (points, points).

    Raises:
        ValueError: if the number of taps is even; if the trace is too short.
    """
    half = len(taps) // 2
    if len(taps) % 2 == 0:
        raise ValueError(f"taps: got {len(taps)}; must be an odd number, so that the filter has zero phase.")
    if points <= half:
        raise ValueError(f"points: got {points}; must be at least {half + 1} for a filter of order {2 * half}.")
    padded = np.pad(np.eye(points), ((half, half), (0, 0)), mode="reflect")
    return np.stack([taps @ padded[row : row + len(taps)] for row in range(points)])


def l_curve_corner(residual: np.ndarray, size: np.ndarray) -> int:
    """Find where the curve (log residual, log size) bends most towards the origin.

    Args:
        residual: norms of the residual, ascending, for regularisations that are evenly spaced in their logarithm.
        size: norms of the solution for the same regularisations, descending.

    Returns:
        Index of the point of largest curvature. It is never an end of the curve.

    Source: Hansen and O'Leary, SIAM J. Sci. Comput. 14, 1487 (1993), eq. 4.7.
    """
    x, y = np.log(residual), np.log(size)
    dx, dy = np.gradient(x), np.gradient(y)
    bend = dx * np.gradient(dy) - dy * np.gradient(dx)
    # Where the curve hardly moves, the quotient is only noise.
    speed = np.hypot(dx, dy)
    curvature = np.where(speed > 1e-6 * speed.max(), bend / np.maximum(speed, 1e-300) ** 3, -np.inf)
    return 2 + int(np.argmax(curvature[2:-2]))


def fit(inputs: ArrayLike, distributions: ArrayLike, candidates: int = 200) -> Replica:
    """Fit the transform to a library: T = P F^T (F F^T + lambda)^-1, where F holds the filtered inputs.

    lambda is the corner of the L-curve. Everything is computed in float64 from the singular values of F.

    Args:
        inputs: traces, shape (points, samples).
        distributions: answers that `linear` should give for them, shape (distances, samples).
        candidates: number of regularisations to try.

    Returns:
        A `Replica`, in the dtype of `distributions`.

    Raises:
        ValueError: if the numbers of samples differ; if traces are shorter than the filters allow.

    Source: Amey et al., PNAS 118, e2016917118 (2021), "A rational replica".
    """
    inputs = real_array(inputs, "inputs", (2,), "(points, samples)")
    distributions = real_array(distributions, "distributions", (2,), "(distances, samples)")
    same_size(distributions, 1, inputs.shape[1], "distributions", "the inputs")
    candidates = positive_integer(candidates, "candidates")

    high, low = filter_taps()
    # Run filters forward and back, as usual offline. One run of the short high-pass filter leaves 6% of a constant.
    filters = np.linalg.matrix_power(filter_matrix(low, inputs.shape[0]) @ filter_matrix(high, inputs.shape[0]), 2)
    target = np.asarray(distributions, np.float64)
    u, s, vt = np.linalg.svd(filters @ np.asarray(inputs, np.float64), full_matrices=False)
    projected = target @ vt.T
    beyond = np.linalg.norm(target - projected @ vt) ** 2
    weight = np.sum(projected**2, axis=0)

    # Singular values below this are rounding of the inputs, and a corner there would be meaningless.
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
    """Fit the replica to a library of simulated experiments.

    Distributions are scaled to area 1, not to peak 1 (and, for traces, multiplied by the modulation depth), because the
    signal depends linearly on distributions in this scale.

    Args:
        key: random key; it decides the library.
        count: number of experiments in the library.
        library: "traces" has background and noise. "form factors" has Gamma(t) and noise, as in the paper. The filters
            leave too much of a background for a transform that has never seen one. So a replica that is fitted to form
            factors is better than the network on traces without background, and far worse on whole traces.
        grid: grids of time and distance; None means `DeerGrid()`.
        priors: ranges of the simulated experiments; None means `DeerPriors()`.

    Returns:
        A `Replica`.

    Raises:
        ValueError: if `library` is unknown.

    >>> import jax
    >>> rational_replica(jax.random.key(0), 512).transform.shape
    (256, 256)
    """
    one_of(library, "library", ("traces", "form factors"))
    batch = sample(key, positive_integer(count, "count"), grid, priors)
    p = batch.distribution / batch.distribution.sum(axis=0, keepdims=True)
    depth = batch.parameters.modulation_depth[None, :]
    if library == "form factors":
        # Add the noise that the traces have. Without noise the L-curve has no corner.
        return fit(batch.form_factor + (batch.trace - batch.clean) / depth, p)
    return fit(batch.trace, p * depth)


def agreement(
    estimates: Float[Array, "distances samples"], distributions: Float[Array, "distances samples"]
) -> Agreement:
    """Compute correlation and mean absolute error of estimated distributions. Constant estimates have correlation 0.

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
