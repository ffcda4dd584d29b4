"""Checks of arguments: what can be known from shapes and types is said at once, with what to do about it."""

from collections.abc import Collection

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array


def real_array(value: ArrayLike, name: str, ndims: Collection[int], axes: str) -> Array:
    """`value` as a JAX array of float32 or float64.

    Args:
        value: anything `jnp.asarray` takes.
        name: the argument's name, for the message.
        ndims: the numbers of axes that are allowed.
        axes: what the axes mean, for the message.

    Raises:
        TypeError: not numbers, complex, integers, or a half-precision type.
        ValueError: the wrong number of axes, or an empty axis.

    >>> real_array([[1.0, 2.0]], "signals", (2,), "(features, samples)").shape
    (1, 2)
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array of numbers {axes}, got {type(value).__name__}.") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: got complex numbers ({array.dtype}); descramblers here are real. Stack real and imaginary parts "
            "as separate samples, or descramble them apart."
        )
    if array.dtype in (jnp.float16, jnp.bfloat16):
        raise TypeError(
            f"{name}: got {array.dtype}, in which orthogonality cannot be kept. Convert with .astype(jnp.float32)."
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: got {array.dtype}; convert to a floating type with .astype(jnp.float32).")
    if array.ndim not in ndims:
        raise ValueError(f"{name}: expected {axes}, got an array of shape {array.shape}.")
    if 0 in array.shape:
        raise ValueError(f"{name}: shape {array.shape} has an empty axis; {axes} must all be at least 1.")
    return array


def samples_first(x: ArrayLike) -> Array:
    """The input of a network as an array, a sample to each entry of its first axis; raises as `real_array` does.

    >>> samples_first([[1.0, 2.0]]).shape
    (1, 2)
    """
    return real_array(x, "x", tuple(range(2, 9)), "(batch, ...), two axes at least: samples and features")


def is_traced(value: object) -> bool:
    """Whether a value's numbers are not to be had, because it is being traced by `jit`, `vmap` or `grad`.

    >>> is_traced(jnp.ones(2))
    False
    """
    return isinstance(value, Tracer)


def is_finite(array: Array) -> bool:
    """Whether every number of an array is finite, decided on the host; True of a traced array, of which none is known.

    >>> is_finite(jnp.asarray([1.0, jnp.nan]))
    False
    """
    # NumPy, not jnp: inside someone's jit, jnp would stage the question and have no answer yet.
    return is_traced(array) or bool(np.isfinite(np.asarray(array)).all())


def one_of(value: object, name: str, allowed: Collection[str]) -> str:
    """`value` if it is among `allowed`, else a `ValueError` that lists them.

    >>> one_of("O", "group", ("O", "SO"))
    'O'
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: got {value!r}; choose one of {', '.join(map(repr, allowed))}.")
    return value


def positive_integer(value: object, name: str) -> int:
    """`value` as an int of at least 1.

    >>> positive_integer(3, "order")
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected a positive integer, got {value!r} ({type(value).__name__}).")
    number = value.__index__()  # pyright: ignore[reportAttributeAccessIssue]
    if number < 1:
        raise ValueError(f"{name}: expected a positive integer, got {number}.")
    return number


def positive_number(value: ArrayLike, name: str) -> ArrayLike:
    """`value` as it is if it is a positive number (a traced one is taken to be), a Python number as a float.

    >>> positive_number(1, "epsilon")
    1.0
    """
    if np.ndim(value) != 0 or (not is_traced(value) and not isinstance(value, int | float | np.generic | Array)):
        raise TypeError(f"{name}: expected a positive number, got {value!r}.")
    if is_traced(value):
        return value
    if isinstance(value, bool) or not 0 < float(value) < float("inf"):  # pyright: ignore[reportArgumentType]
        raise ValueError(f"{name}: expected a positive number, got {value!r}.")
    return value if isinstance(value, Array) else float(value)  # pyright: ignore[reportArgumentType]


def same_size(array: Array, axis: int, size: int, name: str, against: str) -> None:
    """Raise `ValueError` unless `array.shape[axis] == size`.

    >>> same_size(jnp.ones((2, 3)), -1, 3, "weight", "the signals")
    """
    if array.shape[axis] != size:
        raise ValueError(f"{name}: shape {array.shape} does not fit {against}, which has {size} there (axis {axis}).")
