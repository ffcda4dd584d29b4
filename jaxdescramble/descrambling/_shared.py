"""One frame for several layers: the mean of an objective over layers, as one set of weighted samples.

Objectives are means over samples divided by a power of the mean energy of a sample. So if every layer is divided by the
root mean square of its samples, and its weights are divided by their sum, the objective of all samples together is the
mean of the objectives of the layers: a loud layer, or one of many samples, counts no more than another. For `l4`, for
`similarity` and for some functions of your own this does not hold, and they are refused.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxdescramble._base.checks import (
    is_traced,
    number_between,
    numbers,
    real_or_complex_array,
    same_size,
    sample_weights,
)
from jaxdescramble._base.products import real_type, squared
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import L4Sparsity, Objective, Similarity, Summary, Weighted


def side_by_side(signals: Sequence[Any], weights: Any, objective: Objective) -> tuple[Array, Array | None]:
    """Return the samples of all layers in one array, and their weights (None if all count the same).

    Args:
        signals: arrays of shape (features, samples); the features are those of one stream.
        weights: None; or one entry for each layer: a number, the share of the layer, or an array, how much each sample
            counts inside its layer.
        objective: the objective whose mean is wanted.

    Raises:
        TypeError: if an item is a summary or not made of numbers, or the objective has no such mean.
        ValueError: if a layer has other features or axes, or no samples, or weights do not fit.

    >>> from jaxdescramble.objectives import smoothness
    >>> together, shares = side_by_side([jnp.ones((2, 3)), 5 * jnp.ones((2, 1))], None, smoothness())
    >>> bool(abs(together - 2**-0.5).max() < 1e-6), bool(abs(3 * shares - jnp.asarray([1, 1, 1, 3])).max() < 1e-6)
    (True, True)
    """
    if any(isinstance(one, Summary) for one in signals):
        raise TypeError(
            "signals: shared=True takes arrays. Grams of several layers can be merged before, each divided by its "
            "`power()`, so that all count the same."
        )
    _check_objective(objective)
    axes = "(features, samples)"
    layers = [real_or_complex_array(one, f"signals[{k}]", {2}, axes) for k, one in enumerate(signals)]
    for k, layer in enumerate(layers):
        same_size(layer, 0, len(layers[0]), f"signals[{k}]", "signals[0]")
    if weights is not None and (not isinstance(weights, list | tuple) or len(weights) != len(layers)):
        raise ValueError(
            f"weights: with shared=True, give a list with one entry for each of {len(layers)} layers: a number (the "
            "share of the layer), an array (one weight for each sample) or None."
        )
    dtype = jnp.result_type(*layers)
    scaled, shares, parts = [], [], []
    for k, layer in enumerate(layers):
        share, inside = _share(None if weights is None else weights[k], layer.shape[1], real_type(dtype))
        layer = _of_unit_energy(layer.astype(dtype), inside)
        scaled.append(layer)
        shares.append(share * inside)
        parts.append((share, layer, inside))
    alike = weights is None and len({layer.shape for layer in layers}) == 1
    together = jnp.concatenate(scaled, axis=1), None if alike else jnp.concatenate(shares)
    if not alike and not objective.takes_weights:
        raise TypeError(
            f"shared: {objective.name} takes no weights, which layers of different sizes need. Give arrays of one "
            "shape, or another objective."
        )
    _check_mean(objective, together, parts, alike)
    return together


def _check_objective(objective: Objective) -> None:
    """Refuse objectives that are known to have another mean."""
    for term in objective.terms if isinstance(objective, Weighted) else (objective,):
        if term.applies_to != "signals":
            raise TypeError(
                f"shared: {term.name} reads weight matrices, whose columns have places; they cannot stand side by "
                "side. Use an objective of signals."
            )
        if isinstance(term, L4Sparsity | Similarity):
            raise TypeError(
                f"shared: {term.name} of all layers together is not the mean over the layers. Use sparsity('l1'), "
                "'logcosh', smoothness or another objective."
            )


def _check_mean(objective: Objective, together: tuple[Array, Array | None], parts: list, alike: bool) -> None:
    """Refuse other objectives whose value at some frame is not the mean over the layers; traced data are not tested."""
    signals, shares = together
    if type(objective).__module__.startswith("jaxdescramble.objectives") and not hasattr(objective, "function"):
        return
    if is_traced(signals) or not bool(jnp.isfinite(signals).all()):
        return
    point = orthogonal.random(jax.random.key(0), len(signals), dtype=real_type(signals.dtype)).astype(signals.dtype)
    value = float(objective(point, objective.summarise(signals, shares)))
    total = sum(share for share, _, _ in parts)
    each = [float(objective(point, objective.summarise(one, None if alike else w))) for _, one, w in parts]
    mean = sum(share * one for (share, _, _), one in zip(parts, each, strict=True)) / total
    if not abs(value - mean) <= float(jnp.finfo(signals.dtype).eps) ** 0.5 * max(abs(value), abs(mean)):
        raise TypeError(
            f"shared: {objective.name} of all layers together is {value:.6g} at some frame, and the mean over them is "
            f"{mean:.6g}. Only objectives for which both agree can be shared, such as smoothness or sparsity."
        )


def _of_unit_energy(layer: Array, inside: Array) -> Array:
    """Return a layer divided by the root mean square of its samples; zeros stay zeros."""
    used = jnp.where(inside[None, :] > 0, layer, 0)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(used)))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)  # so that squares neither overflow nor vanish
    used, layer = used / unit, layer / unit
    energy = jnp.sum(squared(used) * inside[None, :])
    return layer / jnp.sqrt(jnp.where(energy > 0, energy, 1))


def _share(given: Any, samples: int, dtype: DTypeLike) -> tuple[Any, Array]:
    """Return the share of a layer, and the weights of its samples, whose sum is 1."""
    if given is None or np.ndim(given) == 0:
        share = 1.0 if given is None else number_between(given, "weights", 0, np.inf, "a positive number, or an array")
        return share, jnp.full(samples, 1 / samples, dtype)
    inside = sample_weights(numbers(given, "weights"), [(samples,)], dtype)
    total = jnp.sum(inside)
    return 1.0, inside / (jnp.where(total > 0, total, 1) if is_traced(inside) else total)
