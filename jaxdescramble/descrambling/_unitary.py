"""Complex signals: the groups U(n) and SU(n), their signals and their starts."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdescramble._base.checks import numbers, real_array, real_or_complex_array, same_size
from jaxdescramble._base.products import complex_type, is_complex
from jaxdescramble.exact import ClosedForm
from jaxdescramble.exact.brockett import UNITARY
from jaxdescramble.manifolds.named import GROUPS
from jaxdescramble.objectives import Objective, Summary

__all__ = ["UNITARY", "as_columns", "check_problem", "promoted", "start_on"]


def as_columns(signals: Any, group: str, axes: str, ndims: Collection[int] = range(2, 9)) -> Array:
    """Return signals as an array of a type that the group takes: real numbers for all, complex ones for "U" and "SU".

    Raises:
        TypeError, ValueError: those of `real_array`; or if complex signals come with another group.
    """
    if group in UNITARY:
        return real_or_complex_array(signals, "signals", ndims, axes)
    array = numbers(signals, "signals", f"an array of numbers {axes}")
    if is_complex(array):
        raise TypeError(_refused(str(array.dtype), group))
    return real_array(array, "signals", ndims, axes)


def _refused(dtype: str, group: str) -> str:
    return (
        f"signals: got complex numbers ({dtype}) with group={group!r}; use group='U'. Stack the real and the imaginary "
        "parts as separate samples if P must be real."
    )


def check_problem(objective: Objective, data: Array | Summary, group: str, rank: object) -> None:
    """Raise `TypeError` if the data, the objective or `rank` do not fit the group.

    >>> from jaxdescramble.objectives import smoothness
    >>> check_problem(smoothness(), jnp.ones((2, 3)), "O", None)
    """
    is_complex = jnp.issubdtype(data.dtype, jnp.complexfloating)
    if group not in UNITARY:
        if is_complex:
            raise TypeError(_refused(str(data.dtype), group))
        return
    if rank is not None:
        raise TypeError(f"rank: group {group!r} takes no rank yet; leave rank out, or use group 'O' with real signals.")
    if not objective.takes_complex:
        raise TypeError(
            f"group: {objective.name} takes real signals and a real P only, so group {group!r} cannot be used. These "
            "objectives take complex signals: smoothness, periodicity, total_variation, sparsity, entropy, locality, "
            "sums of them, and functions that say so (from_function(takes_complex=True))."
        )


def promoted(data: Array | Summary, solver: object, group: str) -> Array | Summary:
    """Return the data with complex numbers if a solver searches U(n) or SU(n). The closed form takes them as they are.

    >>> promoted(jnp.ones((2, 3)), None, "U").dtype.name
    'complex64'
    """
    if group not in UNITARY or isinstance(solver, ClosedForm):
        return data
    if jnp.issubdtype(data.dtype, jnp.complexfloating):
        return data
    if isinstance(data, Summary):
        raise TypeError(
            f"signals: got a summary of real signals, and group {group!r} with an iterative solver. Make the summary "
            "from complex signals, signals.astype(complex), or use group 'O'."
        )
    return data.astype(complex_type(data.dtype))


def start_on(group: str, start: ArrayLike, n: int, axes: int) -> Array:
    """Return the start of a search on U(n) or SU(n): one complex point, or one for each problem.

    Raises:
        TypeError, ValueError: if a shape is wrong, or a point is not in the group.

    >>> start_on("U", jnp.eye(2), 2, 0).dtype.name
    'complex64'
    """
    shapes = "(features, features), or with the layers in front"
    point = real_or_complex_array(start, "start", {2, axes + 2}, shapes)
    same_size(point, -1, n, "start", "the signals' features")
    same_size(point, -2, n, "start", "the signals' features")
    point = jax.lax.convert_element_type(point, complex_type(point.dtype))
    for one in point.reshape(-1, n, n):
        GROUPS[group].check(one, "start")
    return point
