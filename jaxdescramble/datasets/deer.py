"""Simulated double electron-electron resonance (DEER): traces, and the distance distributions behind them.

A pair of electron spins at distance r modulates the trace with the dipolar frequency, which falls as 1/r^3. A sample
holds a distribution p(r) of distances. Finding p(r) from the trace is a Fredholm inverse problem of the first kind.
Signals are (features, samples): every column of a batch is one experiment.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import fresnel

from jaxdescramble._base import results
from jaxdescramble._base.checks import (
    floating_type,
    instance_of,
    number_between,
    positive_integer,
    positive_number,
    random_key,
    range_within,
    real_array,
    same_size,
)

ELECTRON_GYROMAGNETIC_RATIO = 1.76085963e11  # rad / s / T
HBAR = 1.054571817e-34  # J s
MU0_OVER_4PI = 1e-7  # T^2 m^3 / J
# Dipolar coupling of two free electrons, D = DIPOLAR / r^3, in rad/us angstrom^3 (1e30 angstrom^3/m^3, 1e-6 s/us).
DIPOLAR = MU0_OVER_4PI * ELECTRON_GYROMAGNETIC_RATIO**2 * HBAR * 1e24
# Full width at half maximum of a Gaussian, in units of its standard deviation.
FWHM = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class DeerGrid:
    """The time and distance grids of an experiment, and the dipolar kernel between them.

    The fastest modulation of the shortest distance has two points per period; the modulation of the longest distance
    has one full turn: r_min = (4 c dt)^(1/3), r_max = (2 c t_max)^(1/3), c = mu0/(4 pi) g_e^2 hbar/(2 pi).

    Args:
        points: number of points of each grid.
        t_max: last time, in microseconds; the first time is 0.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if there are fewer than two points, or `t_max` is not positive.

    >>> grid = DeerGrid(points=256, t_max=2.0)
    >>> [round(float(r), 1) for r in grid.distance[[0, -1]]], grid.kernel.shape
    ([11.8, 59.3], (256, 256))

    Source: Worswick et al., Science Advances 4, eaat5218 (2018); Amey et al., PNAS 118, e2016917118 (2021), SI.
    """

    points: int = 256
    t_max: float = 2.0

    def __post_init__(self):
        # Store Python's own numbers, because a grid is hashed.
        object.__setattr__(self, "points", positive_integer(self.points, "points", least=2))
        object.__setattr__(self, "t_max", float(positive_number(self.t_max, "t_max")))

    @property
    def time(self) -> np.ndarray:
        """Time points in microseconds, shape (points,), float64."""
        return np.linspace(0.0, self.t_max, self.points)

    @property
    def distance(self) -> np.ndarray:
        """Distances in angstrom, shape (points,), float64."""
        c = DIPOLAR / (2 * np.pi)
        step = self.t_max / (self.points - 1)
        return np.linspace(np.cbrt(4 * c * step), np.cbrt(2 * c * self.t_max), self.points)

    @property
    def kernel(self) -> np.ndarray:
        """The kernel gamma(t, r), shape (points, points) = (time, distance), float64; each grid computes it once."""
        return _kernel_on(self)


def dipolar_kernel(time: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the trace of two spins at a fixed distance, averaged over all orientations.

    gamma(t, r) = int_0^1 cos((1 - 3 z^2) D t) dz
                = sqrt(pi/(6 D t)) [cos(D t) C(sqrt(6 D t/pi)) + sin(D t) S(sqrt(6 D t/pi))]

    with D = mu0/(4 pi) g_e^2 hbar/r^3, the normalised Fresnel integrals C and S, and gamma = 1 at t = 0.

    Args:
        time: times in microseconds, shape (times,), at least 0.
        distance: distances in angstrom, shape (distances,), positive.

    Returns:
        gamma, shape (times, distances), float64.

    Raises:
        TypeError: if an array is not made of real numbers.
        ValueError: if an array does not have one axis or is not finite, or a distance is not positive.

    >>> import numpy as np
    >>> dipolar_kernel(np.array([0.0, 0.1]), np.array([20.0, 40.0])).round(3).tolist()
    [[1.0, 1.0], [-0.211, 0.899]]

    Source: Amey et al., PNAS 118, e2016917118 (2021), "DEERNet".
    """
    real_array(time, "time", (1,), "(points,)")
    real_array(distance, "distance", (1,), "(points,)")
    if not (np.isfinite(np.asarray(time, float)).all() and np.isfinite(np.asarray(distance, float)).all()):
        raise ValueError("time, distance: contain NaN or infinity; must be finite.")
    if not np.all(np.asarray(distance) > 0):
        raise ValueError("distance: expected positive numbers, in angstrom.")
    with np.errstate(all="ignore"):  # phases that overflow the type give NaN
        phase = np.abs(np.asarray(time, float))[:, None] * DIPOLAR / np.asarray(distance, float)[None, :] ** 3
        safe = np.where(phase > 0, phase, 1.0)
        s, c = fresnel(np.sqrt(6 * safe / np.pi))  # SciPy returns the sine integral first
        gamma = np.sqrt(np.pi / (6 * safe)) * (np.cos(safe) * c + np.sin(safe) * s)
    return np.where(phase > 0, gamma, 1.0)


@functools.lru_cache(maxsize=8)
def _kernel_on(grid: DeerGrid) -> np.ndarray:
    kernel = dipolar_kernel(grid.time, grid.distance)
    kernel.flags.writeable = False  # all callers share one array
    return kernel


@dataclass(frozen=True)
class DeerPriors:
    """The ranges of random experiments; the defaults are those of the paper.

    Args:
        gaussians: largest number of Gaussians in one distribution; the number is uniform on 1..gaussians.
        width: narrowest FWHM as a fraction of the distance, and widest as a fraction of the range of distances.
        depth: range of the modulation depth.
        rate: range of the background's decay rate k, in 1/us.
        dimension: range of the background's dimension d.
        noise: largest noise rms, as a fraction of the modulation depth.
        peak: height to which distributions are scaled.

    Raises:
        TypeError: if an argument is not a number, or a range not a pair of numbers.
        ValueError: if `gaussians` is less than 1, a range is not ascending, or a number is negative.
    """

    gaussians: int = 4
    width: tuple[float, float] = (0.025, 0.5)
    depth: tuple[float, float] = (0.01, 1.0)
    rate: tuple[float, float] = (0.0, 0.5)
    dimension: tuple[float, float] = (2.0, 3.5)
    noise: float = 0.05
    peak: float = 0.75

    def __post_init__(self):
        object.__setattr__(self, "gaussians", positive_integer(self.gaussians, "gaussians"))
        for name in ("width", "depth", "rate", "dimension"):
            object.__setattr__(self, name, range_within(getattr(self, name), name))
        noise = number_between(self.noise, "noise", 0, math.inf, "a number of at least 0", ends=True)
        object.__setattr__(self, "noise", float(noise))
        object.__setattr__(self, "peak", float(positive_number(self.peak, "peak")))


class DeerParameters(NamedTuple):
    """The parameters of one batch of random experiments; the last axis of every field is the samples."""

    centre: Float[Array, "gaussians samples"]  # angstrom
    fwhm: Float[Array, "gaussians samples"]  # angstrom
    amplitude: Float[Array, "gaussians samples"]  # peak heights; 0 for a Gaussian that is absent
    modulation_depth: Float[Array, " samples"]
    rate: Float[Array, " samples"]  # 1/us
    dimension: Float[Array, " samples"]
    noise_level: Float[Array, " samples"]  # rms, in units of the trace

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


class DeerBatch(NamedTuple):
    """Simulated experiments as columns: `trace = (1 - m + m form_factor) background + noise`."""

    trace: Float[Array, "points samples"]
    distribution: Float[Array, "points samples"]  # scaled to `peak`
    form_factor: Float[Array, "points samples"]  # 1 at t = 0
    background: Float[Array, "points samples"]
    parameters: DeerParameters

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict

    @property
    def clean(self) -> Float[Array, "points samples"]:
        """The traces without noise."""
        depth = self.parameters.modulation_depth[None, :]
        return (1 - depth + depth * self.form_factor) * self.background


def draw(
    key: PRNGKeyArray,
    count: int,
    grid: DeerGrid | None = None,
    priors: DeerPriors | None = None,
    dtype: DTypeLike = float,
) -> DeerParameters:
    """Draw the parameters of random experiments. `sample` also simulates them.

    Centres and widths are lo + (hi - lo) |u1 + u2 - 1| with uniform u, which favours short distances and narrow widths.

    Args:
        key: random key; the same key gives the same experiments.
        count: number of samples.
        grid: time and distance grids; None means 256 points over 2 us.
        priors: ranges of the random parameters; None means those of the paper.
        dtype: floating type of the results.

    Raises:
        TypeError: if `key` is not a key, or another argument has the wrong type.
        ValueError: if `count` is not a positive integer.
    """
    grid, priors, dtype = _grid(grid), _priors(priors), floating_type(dtype, half=True)
    count, n = positive_integer(count, "count"), priors.gaussians
    # One call draws all numbers: 5 for each Gaussian, and 5 for the sample.
    u = jax.random.uniform(random_key(key), (5 * n + 5, count), dtype)
    of_gaussians, of_samples = u[: 5 * n].reshape(5, n, count), u[5 * n :]
    biased = jnp.abs(of_gaussians[0:4:2] + of_gaussians[1:4:2] - 1)

    r_min, r_max = float(grid.distance[0]), float(grid.distance[-1])
    centre = r_min + (r_max - r_min) * biased[0]
    narrowest, widest = priors.width[0] * centre, priors.width[1] * (r_max - r_min)
    present = jnp.arange(n)[:, None] <= jnp.floor(of_samples[0] * n)[None, :]
    depth = _between(priors.depth, of_samples[1])
    return DeerParameters(
        centre=centre,
        fwhm=narrowest + (widest - narrowest) * biased[1],
        # 1 - u is never 0, so no distribution is empty.
        amplitude=jnp.where(present, 1 - of_gaussians[4], 0),
        modulation_depth=depth,
        rate=_between(priors.rate, of_samples[2]),
        dimension=_between(priors.dimension, of_samples[3]),
        noise_level=priors.noise * depth * of_samples[4],
    )


def _grid(grid: DeerGrid | None) -> DeerGrid:
    return DeerGrid() if grid is None else instance_of(grid, "grid", DeerGrid, "a DeerGrid")


def _priors(priors: DeerPriors | None) -> DeerPriors:
    return DeerPriors() if priors is None else instance_of(priors, "priors", DeerPriors, "DeerPriors")


def _parameters(parameters: DeerParameters, noise: Array) -> DeerParameters:
    instance_of(parameters, "parameters", DeerParameters, "DeerParameters, as draw returns them")
    found = []
    for field, value in parameters._asdict().items():
        of_gaussians = field in ("centre", "fwhm", "amplitude")
        axes = "(gaussians, samples)" if of_gaussians else "(samples,)"
        found.append(real_array(value, f"parameters.{field}", (2 if of_gaussians else 1,), axes, half=True))
        same_size(
            found[-1], -1, noise.shape[1], f"parameters.{field}", "the noise, which has a column for each sample,"
        )
        if of_gaussians:
            same_size(found[-1], 0, found[0].shape[0], f"parameters.{field}", "the centres")
    return DeerParameters(*found)


def _between(bounds: tuple[float, float], u: Array) -> Array:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def simulate(
    parameters: DeerParameters,
    noise: Float[Array, "points samples"],
    grid: DeerGrid | None = None,
    peak: float = 0.75,
) -> DeerBatch:
    """Compute the experiments that these parameters describe; nothing here is random.

    v = (1 - m + m Gamma) exp(-(k t)^(d/3)) + noise_level * noise,  Gamma(t) = sum_r gamma(t, r) p(r) / sum_r p(r)

    Args:
        parameters: parameters from `draw`.
        noise: white noise of unit variance, shape (points, samples); the results have its dtype.
        grid: time and distance grids; None means 256 points over 2 us.
        peak: height to which distributions are scaled.

    Returns:
        A `DeerBatch`; its traces are not scaled.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the arrays do not fit each other or the grid.
    """
    grid, peak = _grid(grid), positive_number(peak, "peak")
    noise = real_array(noise, "noise", (2,), "(points, samples)", half=True)
    same_size(noise, 0, grid.points, "noise", "the grid")
    parameters = _parameters(parameters, noise)
    dtype = noise.dtype
    r = jnp.asarray(grid.distance, dtype)[:, None]
    p = jnp.zeros((grid.points, parameters.centre.shape[1]), dtype)
    for centre, fwhm, amplitude in zip(parameters.centre, parameters.fwhm, parameters.amplitude, strict=True):
        p = p + amplitude[None, :] * jnp.exp(-0.5 * ((r - centre[None, :]) * (FWHM / fwhm[None, :])) ** 2)

    kernel = jnp.asarray(grid.kernel, dtype)
    form_factor = jnp.matmul(kernel, p, precision=jax.lax.Precision.HIGHEST) / p.sum(axis=0, keepdims=True)

    # Compute (k t)^(d/3) through logarithms, which the grid knows; at t = 0 or k = 0 the exponential gives exactly 0.
    with np.errstate(divide="ignore"):
        log_time = jnp.asarray(np.log(grid.time), dtype)[:, None]
    decay = jnp.exp(parameters.dimension[None, :] / 3 * (jnp.log(parameters.rate)[None, :] + log_time))
    background = jnp.exp(-decay)
    depth = parameters.modulation_depth[None, :]
    trace = (1 - depth + depth * form_factor) * background + parameters.noise_level[None, :] * noise
    return DeerBatch(trace, p * (peak / p.max(axis=0, keepdims=True)), form_factor, background, parameters)


@functools.partial(jax.jit, static_argnames=("count", "grid", "priors", "dtype"))
def _sample(key, count, grid, priors, dtype) -> DeerBatch:
    for_parameters, for_noise = jax.random.split(key)
    noise = jax.random.normal(for_noise, (grid.points, count), dtype)
    return simulate(draw(for_parameters, count, grid, priors, dtype), noise, grid, priors.peak)


def sample(
    key: PRNGKeyArray,
    count: int,
    grid: DeerGrid | None = None,
    priors: DeerPriors | None = None,
    dtype: DTypeLike = float,
) -> DeerBatch:
    """Draw random experiments: traces, and the distributions behind them.

    Args:
        key: random key; the same key gives the same experiments.
        count: number of samples.
        grid: time and distance grids; None means 256 points over 2 us.
        priors: ranges of the random parameters; None means those of the paper.
        dtype: floating type of the results.

    Returns:
        A `DeerBatch` with `trace` and `distribution`, both (points, count), and all parts that they are made of.

    Raises:
        TypeError: if `key` is not a key, or another argument has the wrong type.
        ValueError: if `count` is not a positive integer.

    >>> import jax
    >>> batch = sample(jax.random.key(0), 5)
    >>> batch.trace.shape, round(float(batch.distribution.max()), 2)
    ((256, 5), 0.75)

    Source: Worswick et al., Science Advances 4, eaat5218 (2018); Amey et al., PNAS 118, e2016917118 (2021), SI.
    """
    count, dtype = positive_integer(count, "count"), floating_type(dtype, half=True).name
    return _sample(random_key(key), count, _grid(grid), _priors(priors), dtype)
