"""What summaries take: signals that fit, other summaries that fit, and the unit in which they count."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from jaxdescramble._base.checks import instance_of, real_or_complex_array, same_size
from jaxdescramble._base.products import is_complex
from jaxdescramble._base.programs import fused
from jaxdescramble.objectives.summary import Summary

Kind = TypeVar("Kind", bound=Summary)


def columns_for(summary: Summary, signals: ArrayLike) -> Inexact[Array, "n m"]:
    """Return signals as an array that fits a summary; it may have no columns, then of any dtype.

    Raises:
        TypeError: if they are no numbers, or complex for a real summary.
        ValueError: if they have another number of features.
    """
    empty = getattr(signals, "shape", None) == (summary.size, 0)
    columns = jnp.asarray(signals) if empty else real_or_complex_array(signals, "signals", (2,), "(features, samples)")
    if is_complex(columns) and not jnp.issubdtype(summary.dtype, jnp.complexfloating):
        raise TypeError(
            f"signals: got complex numbers ({columns.dtype}) for a summary of {summary.dtype}. Begin with an empty "
            "summary of a complex dtype, or stack the real and the imaginary parts as separate samples."
        )
    same_size(columns, 0, summary.size, "signals", "the summary's features")
    return columns


def alike(one: Kind, other: Summary) -> Kind:
    """Return `other` if it has the same kind and size as `one`; otherwise raise `TypeError` or `ValueError`."""
    same = instance_of(other, "other", type(one), f"a {type(one).__name__}, to be merged with one")
    if same.size != one.size:
        raise ValueError(f"other: a summary of {same.size} features, to be merged with one of {one.size}.")
    return same


@fused
def unit(largest: Array) -> Array:
    """Return the scale to divide by, a constant in derivatives; 1 if it is 0 or not finite."""
    return jax.lax.stop_gradient(jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1))
