"""One frame for several layers: the mean of an objective over layers, as one set of weighted samples.

Objectives are means over samples divided by a power of the mean energy of a sample. So if every layer is divided by the
root mean square of its samples, and its weights are divided by their sum, the objective of all samples together is the
mean of the objectives of the layers: a loud layer, or one of many samples, counts no more than another. For `l4`, for
`similarity` and for some functions of your own this does not hold, and they are refused.

Summaries that keep `S S^T` are divided and merged in the same way: `B = sum_l share_l B_l / tr B_l`.
"""

import dataclasses
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
from jaxdescramble.objectives import Factor, Gram, L4Sparsity, Objective, Samples, Similarity, Sketch, Summary, Weighted


def side_by_side(signals: Sequence[Any], weights: Any, objective: Objective) -> tuple[Array | Summary, Array | None]:
    """Return the samples of all layers in one array, and their weights (None if all count the same).

    Of summaries, return one summary of all layers, and None.

    Args:
        signals: arrays of shape (features, samples); the features are those of one stream. Or summaries of one kind.
        weights: None; or one entry for each layer: a number, the share of the layer, or an array, how much each sample
            counts inside its layer.
        objective: the objective whose mean is wanted.

    Raises:
        TypeError: if an item is not made of numbers, summaries are of different kinds or stand beside arrays, or the
            objective has no such mean.
        ValueError: if a layer has other features or axes, or no samples, or weights do not fit.

    >>> from jaxdescramble.objectives import smoothness
    >>> together, shares = side_by_side([jnp.ones((2, 3)), 5 * jnp.ones((2, 1))], None, smoothness())
    >>> bool(abs(together - 2**-0.5).max() < 1e-6), bool(abs(3 * shares - jnp.asarray([1, 1, 1, 3])).max() < 1e-6)
    (True, True)
    """
    _check_objective(objective)
    if any(isinstance(one, Summary) for one in signals):
        return _merged(signals, weights, objective), None
    axes = "(features, samples)"
    layers = [real_or_complex_array(one, f"signals[{k}]", {2}, axes) for k, one in enumerate(signals)]
    for k, layer in enumerate(layers):
        same_size(layer, 0, len(layers[0]), f"signals[{k}]", "signals[0]")
    _check_count(weights, len(layers))
    dtype = jnp.result_type(*layers)
    scaled, shares, parts = [], [], []
    for k, layer in enumerate(layers):
        given = None if weights is None else weights[k]
        share, inside = _share(given, f"weights[{k}]", layer.shape[1], real_type(dtype))
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
    each = [float(objective(point, objective.summarise(one, None if alike else w))) for _, one, w in parts]
    _compare(objective, value, each, [share for share, _, _ in parts], float(jnp.finfo(signals.dtype).eps) ** 0.5)


def _compare(objective: Objective, value: float, each: list[float], shares: list[Any], tolerance: float) -> None:
    mean = sum(share * one for share, one in zip(shares, each, strict=True)) / sum(shares)
    if not abs(value - mean) <= tolerance * max(abs(value), abs(mean)):
        raise TypeError(
            f"shared: {objective.name} of all layers together is {value:.6g} at some frame, and the mean over them is "
            f"{mean:.6g}. Only objectives for which both agree can be shared, such as smoothness or sparsity."
        )


def _check_count(weights: Any, count: int) -> None:
    if weights is not None and (not isinstance(weights, list | tuple) or len(weights) != count):
        raise ValueError(
            f"weights: with shared=True, give a list with one entry for each of {count} layers: a number (the share of "
            "the layer), an array (one weight for each sample) or None."
        )


def _merged(summaries: Sequence[Any], weights: Any, objective: Objective) -> Summary:
    """Return one summary of all layers: their shares of summaries of unit energy, merged."""
    _check_count(weights, len(summaries))
    first, shares, parts = summaries[0], [], []
    wanted = "a positive number (leave out a layer that counts nothing)"
    for k, one in enumerate(summaries):
        if not isinstance(one, Factor | Gram | Sketch):
            cure = "their signals" if isinstance(one, Samples) else "Grams, Factors or Sketches of all layers"
            raise TypeError(f"signals[{k}]: shared=True takes no {type(one).__name__} among summaries; give {cure}.")
        if type(one) is not type(first):
            raise TypeError(f"signals[{k}]: got a {type(one).__name__}, but signals[0] is a {type(first).__name__}.")
        if jax.tree.leaves(one)[0].ndim != 2:
            raise ValueError(f"signals[{k}]: a batch of summaries; shared=True takes a list with one for each layer.")
        if one.size != first.size:
            raise ValueError(f"signals[{k}]: a summary of {one.size} features, but signals[0] has {first.size}.")
        if isinstance(one, Sketch) and one.factor.shape != first.factor.shape:
            ranks = one.factor.shape[-1], first.factor.shape[-1]
            raise ValueError(f"signals[{k}]: a Sketch of rank {ranks[0]}, but signals[0] has {ranks[1]}; use one rank.")
        if not is_traced(one.count) and not np.asarray(one.count).any():
            raise ValueError(f"signals[{k}]: an empty summary; update it with the signals of its layer.")
        given = None if weights is None else weights[k]
        if given is not None and np.ndim(given):
            raise TypeError(f"weights[{k}]: a summary holds its samples' weights already; give a number, its share.")
        shares.append(1.0 if given is None else number_between(given, f"weights[{k}]", 0, np.inf, wanted))
        parts.append(_of_share(one, shares[-1]))
    together = parts[0]
    for one in parts[1:]:
        together = together.merge(one)
    known = type(objective).__module__.startswith("jaxdescramble.objectives") and not hasattr(objective, "function")
    if not known and isinstance(together, objective.summary) and not is_traced(jax.tree.leaves(together)[0]):
        point = orthogonal.random(jax.random.key(0), first.size, dtype=real_type(first.dtype)).astype(first.dtype)
        each = [float(objective(point, one)) for one in parts]
        _compare(objective, float(objective(point, together)), each, shares, float(jnp.finfo(first.dtype).eps) ** 0.5)
    return together


def _of_share(one: Any, share: Any) -> Any:
    """Return a summary of this energy; zeros stay zeros. Its tally counts the effective samples of its layer."""
    scaled = one.normalised()
    power = scaled.power()
    ratio = share / jnp.where(power > 0, power, 1)
    effective = jnp.asarray(one.effective(), power.dtype)
    tally = jnp.stack([jnp.asarray(share, power.dtype), share**2 / jnp.where(effective > 0, effective, 1)])
    if isinstance(scaled, Gram):
        return dataclasses.replace(scaled, gram=scaled.gram * ratio, tally=tally)
    factor = scaled.factor * jnp.sqrt(ratio)
    if isinstance(scaled, Factor):
        return dataclasses.replace(scaled, factor=factor, tally=tally)
    error = jnp.asarray(scaled.error) * ratio
    return dataclasses.replace(scaled, factor=factor, total=scaled.total * ratio, error=error, tally=tally)


def _of_unit_energy(layer: Array, inside: Array) -> Array:
    """Return a layer divided by the root mean square of its samples; zeros stay zeros."""
    used = jnp.where(inside[None, :] > 0, layer, 0)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(used)))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)  # so that squares neither overflow nor vanish
    used, layer = used / unit, layer / unit
    energy = jnp.sum(squared(used) * inside[None, :])
    return layer / jnp.sqrt(jnp.where(energy > 0, energy, 1))


def _share(given: Any, name: str, samples: int, dtype: DTypeLike) -> tuple[Any, Array]:
    """Return the share of a layer, and the weights of its samples, whose sum is 1."""
    if given is None or np.ndim(given) == 0:
        wanted = "a positive number, or an array (leave out a layer that counts nothing)"
        share = 1.0 if given is None else number_between(given, name, 0, np.inf, wanted)
        return share, jnp.full(samples, 1 / samples, dtype)
    inside = sample_weights(numbers(given, name), [(samples,)], dtype)
    total = jnp.sum(inside)
    return 1.0, inside / (jnp.where(total > 0, total, 1) if is_traced(inside) else total)
