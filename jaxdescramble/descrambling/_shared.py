"""One frame for several layers: the mean of an objective over layers, as one set of weighted samples.

Objectives are means over samples divided by a power of the mean energy of a sample. So if every layer is divided by the
root mean square of its samples, and its weights are divided by their sum, the objective of all samples together is the
mean of the objectives of the layers: a loud layer, or one of many samples, counts no more than another.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble._base.checks import is_traced, number_between, numbers, real_array, same_size, sample_weights
from jaxdescramble.objectives import Summary


def side_by_side(signals: Sequence[Any], weights: Any) -> tuple[Array, Array | None]:
    """Return the samples of all layers in one array, and their weights (None if all count the same).

    Args:
        signals: arrays of shape (features, samples); the features are those of one stream.
        weights: None; or one entry for each layer: a number, the share of the layer, or an array, how much each sample
            counts inside its layer.

    Raises:
        TypeError: if an item is a summary, or not made of real numbers.
        ValueError: if a layer has other features or axes, or weights do not fit.

    >>> together, shares = side_by_side([jnp.ones((2, 3)), 5 * jnp.ones((2, 1))], None)
    >>> together.round(2).tolist()[0], shares.round(2).tolist()
    ([0.71, 0.71, 0.71, 0.71], [0.33, 0.33, 0.33, 1.0])
    """
    if any(isinstance(one, Summary) for one in signals):
        raise TypeError(
            "signals: shared=True takes arrays. Summaries of several layers can be merged before: "
            "one.normalised().merge(other.normalised()) counts both the same, as a Gram."
        )
    layers = [real_array(one, f"signals[{k}]", {2}, "(features, samples)") for k, one in enumerate(signals)]
    for k, layer in enumerate(layers):
        same_size(layer, 0, len(layers[0]), f"signals[{k}]", "signals[0]")
    if weights is not None and (not isinstance(weights, list | tuple) or len(weights) != len(layers)):
        raise ValueError(
            f"weights: with shared=True, give a list with one entry for each of {len(layers)} layers: a number (the "
            "share of the layer), an array (one weight for each sample) or None."
        )
    dtype = jnp.result_type(*layers)
    scaled, shares = [], []
    for k, layer in enumerate(layers):
        given = None if weights is None else weights[k]
        share, inside = _share(given, layer.shape[1], dtype)
        layer = layer.astype(dtype)
        energy = jnp.sum(jnp.where(inside[None, :] > 0, layer, 0) ** 2 * inside[None, :])
        scaled.append(layer / jnp.sqrt(jnp.where(energy > 0, energy, 1)))
        shares.append(share * inside)
    alike = weights is None and len({layer.shape for layer in layers}) == 1
    return jnp.concatenate(scaled, axis=1), None if alike else jnp.concatenate(shares)


def _share(given: Any, samples: int, dtype: Any) -> tuple[Any, Array]:
    """Return the share of a layer, and the weights of its samples, whose sum is 1."""
    if given is None or np.ndim(given) == 0:
        share = 1.0 if given is None else number_between(given, "weights", 0, np.inf, "a positive number, or an array")
        return share, jnp.full(samples, 1 / samples, dtype)
    inside = sample_weights(numbers(given, "weights"), [(samples,)], dtype)
    total = jnp.sum(inside)
    return 1.0, inside / (jnp.where(total > 0, total, 1) if is_traced(inside) else total)
