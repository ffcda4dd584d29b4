"""Checks of the arguments that all kernels share."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble._base.checks import in_order, is_traced, numbers, positive_integer, real_array
from jaxdescramble.gated.path_kernel.layers import Gate, Layers, count, sizes

Gates = Sequence[ArrayLike]
Variances = ArrayLike | Sequence[float]


def gate_arrays(gates: Gates, name: str, batch: int, layers: Layers) -> list[Array]:
    """Check that there is one array of gates for each gated layer, with the samples of x."""
    wanted, gates = count(layers, Gate), several(gates, name)
    if len(gates) != wanted:
        raise ValueError(f"{name}: got {len(gates)} arrays; must be {wanted}, one for each gated layer.")
    found = []
    for i, gate in enumerate(gates):
        array = numbers(gate, f"{name}[{i}]")
        if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer)):
            array = real_array(array, f"{name}[{i}]", range(2, 9), "(batch, *space, units)")
        if array.ndim < 2 or len(array) != batch:
            raise ValueError(
                f"{name}: array {i} has shape {array.shape}; must be (batch, *space, units) with the {batch} samples "
                f"of x{name[-1]}."
            )
        found.append(array)
    return found


def several(gates: Gates, name: str = "gates1") -> list[ArrayLike]:
    """Check that gates are a list or a tuple."""
    return in_order(gates, name, "a list of arrays, one for each gated layer")


def real(value: Variances, name: str) -> Array:
    """Check that variances are real numbers."""
    array = numbers(value, name)
    if jnp.iscomplexobj(array) or array.dtype == bool:
        raise TypeError(f"{name}: got {array.dtype}; must be real numbers.")
    return array


def variance_array(value: Variances | None, name: str, weights: int, dtype: jnp.dtype) -> Array | None:
    """Check variances, and return one number for each weight; None stays None."""
    if value is None:
        return None
    array = real(value, name).astype(dtype)
    if array.shape not in ((), (weights,)):
        raise ValueError(f"{name}: got shape {array.shape}; must be () or ({weights},), one number for each weight.")
    if not is_traced(array) and not ((np.asarray(array) >= 0) & np.isfinite(np.asarray(array))).all():
        raise ValueError(f"{name}: got {np.asarray(array)}; must be finite and at least 0.")
    return jnp.broadcast_to(array, (weights,))


def window_of(window: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return the size of a window along each axis of space."""
    if isinstance(window, list | tuple):
        return sizes(window, "window")
    return (positive_integer(window, "window"),) * axes
