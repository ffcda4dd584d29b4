"""Fit biexponentials to curves such as singular vectors, and fit other models for comparison."""

import functools
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from scipy.optimize import least_squares

VECTORS = 3


class Biexponential(NamedTuple):
    """Least-squares fits of curves; the first axis counts the curves."""

    r2: np.ndarray  # (curves,), 1 - ||residual||^2 / ||curve - its mean||^2; 0 for a constant curve
    constants: np.ndarray  # (curves, 2), milliseconds
    fitted: np.ndarray  # (curves, points)


def fit_biexponential(
    curves: np.ndarray, time: np.ndarray, offset: bool = True, constants: tuple[float, float] | None = None
) -> Biexponential:
    """Fit a biexponential to each curve: `a e^(-t/T1) + b e^(-t/T2) + d`, with a, b and d of any sign.

    The method is variable projection. The amplitudes are linear and solved exactly. The two constants are searched on a
    grid and refined by `scipy.optimize.least_squares`.

    Args:
        curves: the curves, shape (curves, points).
        time: times in milliseconds, shape (points,), evenly spaced from 0.
        offset: whether to include d, as the source does. Without d, two exponentials change sign at most once, but a
            third singular vector changes sign twice.
        constants: range of T1 and T2 in milliseconds; None means from one time step to ten times the whole time. Long
            constants turn two exponentials and an offset into a parabola, which fits almost any smooth curve.

    Returns:
        A `Biexponential`.

    Raises:
        ValueError: if the shapes do not match.

    >>> time = np.linspace(0.0, 800.0, 64)
    >>> found = fit_biexponential(np.exp(-time / 60)[None, :] - 0.5 * np.exp(-time / 300)[None, :], time)
    >>> found.constants.round().tolist(), round(float(found.r2[0]), 6)
    ([[60.0, 300.0]], 1.0)

    Source: Golub, Pereyra, SIAM J. Numer. Anal. 10, 413 (1973); Sule, Spencer, Czaja 2025 fit with the offset.
    """
    curves = np.asarray(curves, np.float64)
    if curves.ndim != 2 or np.shape(time) != curves.shape[1:]:
        raise ValueError(f"curves: got shape {curves.shape} for times {np.shape(time)}; must be (curves, points).")
    bounds = np.log(constants or (time[1], 10 * time[-1]))
    grid = np.linspace(bounds[0], bounds[1], 32)
    pairs = np.stack([grid[i] for i in np.triu_indices(len(grid), 1)], axis=1)
    bases = np.linalg.qr(np.stack([_columns(pair, time, offset) for pair in pairs]))[0]
    explained = np.sum(np.einsum("ptk,ct->cpk", bases, curves) ** 2, axis=2)
    found, fitted = [], []
    for curve, best in zip(curves, pairs[np.argmax(explained, axis=1)], strict=True):
        misfit = functools.partial(_misfit, curve=curve, time=time, offset=offset)
        refined = least_squares(misfit, best, bounds=bounds).x
        found.append(np.sort(np.exp(refined)))
        fitted.append(curve + misfit(refined))
    return Biexponential(_r2(curves, np.stack(fitted)), np.stack(found), np.stack(fitted))


def fit_polynomial(curves: np.ndarray, coefficients: int = 5) -> np.ndarray:
    """Return R^2 of a polynomial fit to each curve, with as many parameters as a biexponential with its offset."""
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, curves.shape[1]), coefficients - 1)
    basis = np.linalg.qr(basis)[0]
    return _r2(curves, curves @ basis @ basis.T)


def _columns(logs: np.ndarray, time: np.ndarray, offset: bool) -> np.ndarray:
    exponentials = np.exp(-time[:, None] / np.exp(logs)[None, :])
    return np.concatenate([exponentials, np.ones((len(time), 1))], axis=1) if offset else exponentials


def _misfit(logs: np.ndarray, curve: np.ndarray, time: np.ndarray, offset: bool) -> np.ndarray:
    columns = _columns(logs, time, offset)
    return columns @ np.linalg.lstsq(columns, curve, rcond=1e-12)[0] - curve


def _r2(curves: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    left, whole = np.sum((curves - fitted) ** 2, axis=1), np.sum((curves - curves.mean(1, keepdims=True)) ** 2, axis=1)
    return np.where(whole > 0, 1 - left / np.where(whole > 0, whole, 1), 0.0)


def right_vectors(weights: ArrayLike, points: int) -> np.ndarray:
    """Return the first three right singular vectors, split in halves: (..., out, 2 points) to (..., 3, 2, points)."""
    vectors = np.linalg.svd(np.asarray(weights, np.float64), full_matrices=False)[2][..., :VECTORS, :]
    return vectors.reshape(*vectors.shape[:-1], 2, points)


def read_vectors(vectors: np.ndarray, time: np.ndarray, constants: tuple[float, float]) -> dict[str, np.ndarray]:
    """Return R^2 of four fits to curves of shape (..., points), by name; `constants` is the signal model's range."""
    curves = vectors.reshape(-1, vectors.shape[-1])
    fits = {
        "biexponential": fit_biexponential(curves, time).r2,
        "no offset": fit_biexponential(curves, time, offset=False).r2,
        "signal model": fit_biexponential(curves, time, offset=False, constants=constants).r2,
        "quartic": fit_polynomial(curves),
    }
    return {name: r2.reshape(vectors.shape[:-1]) for name, r2 in fits.items()}
