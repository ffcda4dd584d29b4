"""Judge many readings together: the step-down maximum of Westfall and Young.

Each draw is one whole network, with the same index in all readings. Readings are standardised by the mean and the
standard deviation of the pool (the draws and the observed network together), so that the rule treats all members of the
pool alike. The p-value of the largest reading compares it with the largest reading of every draw. The next reading is
compared with the largest of the rest, and so on.
"""

from collections.abc import Iterable

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxdescramble._base.checks import real_array, same_size


def joint_p_values(
    observed: ArrayLike,
    draws: ArrayLike,
    directions: ArrayLike,
) -> tuple[Float[np.ndarray, " readings"], Bool[np.ndarray, " readings"]]:
    """Return p-values that are corrected for the number of readings.

    `p = (1 + r) / (N + 1)`, where r is the number of draws whose largest standardised reading is at least as large. The
    probability that any p-value of an empty network is at most alpha is at most alpha (exact if the observed network
    and the draws are exchangeable).

    Args:
        observed: the readings of the network, shape (readings,).
        draws: the readings of the draws from one null, shape (draws, readings).
        directions: +1 if large values are the finding, -1 if small values are, 0 if both are; one for each reading.

    Returns:
        The p-values, and which readings were judged. A reading is not judged, and has p = NaN, if a value is not finite
        or if the null cannot change it (all members of the pool agree up to rounding).

    Raises:
        TypeError, ValueError: if the shapes do not fit, if there are no draws, or if a direction is not -1, 0 or 1.

    >>> draws = np.random.default_rng(0).normal(size=(99, 3))
    >>> p, judged = joint_p_values(np.asarray([9.0, 0.0, 0.0]), draws, np.asarray([1, 1, -1]))
    >>> float(p[0]), bool((p[1:] > 0.1).all()), judged.tolist()
    (0.01, True, [True, True, True])

    Source: Westfall and Young, Resampling-Based Multiple Testing, Wiley 1993, algorithm 4.1 with maxima.
    """
    values, stack = (
        real_array(observed, "observed", (1,), "(readings,)"),
        real_array(draws, "draws", (2,), "(draws, readings)"),
    )
    same_size(stack, 1, len(values), "draws", "the readings")
    signs = np.asarray(directions)
    if signs.shape != values.shape or not np.isin(signs, (-1, 0, 1)).all():
        raise ValueError(f"directions: must be one of -1, 0, 1 for each of the {len(values)} readings.")
    if not len(stack):
        raise ValueError("draws: got none; p-values need at least one draw.")
    pool = np.concatenate([np.asarray(observed, np.float64)[None], np.asarray(draws, np.float64)])
    finite = np.isfinite(pool).all(axis=0)
    pool = np.where(finite, pool, 0.0)
    mean, spread = pool.mean(axis=0), pool.std(axis=0)
    judged = finite & (spread > 1e-5 * np.abs(pool).max(axis=0))
    scores = (pool - mean) / np.where(judged, spread, 1.0)
    scores = np.where(signs == 0, np.abs(scores), signs * scores)
    p = np.full(values.shape, np.nan)
    order = [int(k) for k in np.argsort(-scores[0], kind="stable") if judged[k]]
    largest, count = np.full(len(pool) - 1, -np.inf), len(stack)
    # From the smallest reading to the largest, the maximum grows by one reading at a time.
    raw: list[float] = []
    for k in reversed(order):
        largest = np.maximum(largest, scores[1:, k])
        raw.append((1 + int(np.sum(largest >= scores[0, k] - 1e-9))) / (count + 1))
    so_far = 0.0
    for k, own in zip(order, reversed(raw), strict=True):
        so_far = max(so_far, own)
        p[k] = so_far
    return p, judged


def distances(value: float, direction: int, nulls: Iterable[tuple[float, float]]) -> list[float]:
    """Return the distance from each null in its standard deviations, in the direction of a finding.

    Args:
        value: the reading of the network.
        direction: +1 if large values are the finding, -1 if small values are, 0 if both are.
        nulls: mean and standard deviation of the draws of each null.

    >>> distances(3.0, -1, [(1.0, 2.0)]), distances(3.0, 0, [(7.0, 2.0)])
    ([-1.0], [2.0])
    """
    found = [(value - mean) / max(spread, 1e-300) for mean, spread in nulls]
    return [direction * one if direction else abs(one) for one in found]
