"""Validate arguments early, from their shapes and types, with errors that say what to do."""

import operator
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import SupportsIndex, TypeGuard, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PRNGKeyArray

Kind = TypeVar("Kind")
Item = TypeVar("Item")


def real_array(value: ArrayLike, name: str, ndims: Collection[int], axes: str, half: bool = False) -> Array:
    """Return `value` as a JAX array of float32 or float64.

    Args:
        value: anything that `jnp.asarray` accepts.
        name: name of the argument, for the message.
        ndims: allowed numbers of axes.
        axes: meaning of the axes, for the message.
        half: whether half precision is allowed.

    Raises:
        TypeError: if the values are not numbers, or are complex, integers or of a half-precision type.
        ValueError: if the number of axes is wrong or an axis is empty.

    >>> real_array([[1.0, 2.0]], "signals", (2,), "(features, samples)").shape
    (1, 2)
    """
    array = numbers(value, name, f"an array of numbers {axes}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: got complex numbers ({array.dtype}); must be real. Stack the real and the imaginary parts as "
            "separate samples if these are signals; otherwise take .real, .imag or abs."
        )
    return real_or_complex_array(array, name, ndims, axes, half)


def real_or_complex_array(value: ArrayLike, name: str, ndims: Collection[int], axes: str, half: bool = False) -> Array:
    """Return `value` as a JAX array of floats or complex numbers; the arguments and errors are those of `real_array`.

    >>> real_or_complex_array([[1j]], "signals", (2,), "(features, samples)").shape
    (1, 1)
    """
    array = numbers(value, name, f"an array of numbers {axes}")
    if array.dtype in (jnp.float16, jnp.bfloat16) and not half:
        raise TypeError(
            f"{name}: got {array.dtype}, which is too coarse for orthogonal matrices. Convert with "
            ".astype(jnp.float32)."
        )
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise TypeError(f"{name}: got {array.dtype}; convert to a floating type with .astype(jnp.float32).")
    if array.ndim not in ndims:
        raise ValueError(f"{name}: expected {axes}, got an array of shape {array.shape}.")
    if 0 in array.shape:
        raise ValueError(f"{name}: shape {array.shape} has an empty axis; {axes} must all be at least 1.")
    return array


def numbers(value: object, name: str, wanted: str = "an array of numbers") -> Array:
    """Return `value` as a JAX array of any numeric type.

    Raises:
        TypeError: if `value` is text, an object, a ragged list, a masked or structured array, or too large an integer.

    >>> numbers([1, 2], "labels").shape
    (2,)
    """
    try:
        # jnp.asarray would convert a list of text to a text type, so reject text first.
        if isinstance(value, str | bytes | list | tuple) and any(
            isinstance(leaf, str | bytes) for leaf in jax.tree.leaves(value)
        ):
            raise TypeError("text")
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}.") from error


def samples_first(x: ArrayLike, name: str = "x") -> Array:
    """Return the input of a network as an array whose first axis is the samples. Raise the errors of `real_array`.

    >>> samples_first([[1.0, 2.0]]).shape
    (1, 2)
    """
    return real_array(x, name, tuple(range(2, 9)), "(batch, ...), at least two axes: samples and features")


def is_traced(value: object) -> TypeGuard[Array]:
    """Return whether `jit`, `vmap` or `grad` is tracing this value, so that its numbers are unknown.

    >>> is_traced(jnp.ones(2))
    False
    """
    return isinstance(value, Tracer)


def staged(*values: object) -> bool:
    """Return whether a call is part of a larger program: a value is traced, or every new array is traced.

    Inside `jit`, all arguments of a function can be concrete; the arrays that it computes are still traced.

    >>> staged(jnp.ones(2)), jax.jit(lambda: jnp.asarray(staged()))()
    (False, Array(True, dtype=bool))
    """
    return any(map(is_traced, jax.tree.leaves(values))) or is_traced(jnp.zeros(()))


def wide_types() -> bool:
    """Return whether JAX's 64-bit types are on here. A context manager can override the global configuration.

    >>> with jax.enable_x64(False):
    ...     wide_types()
    False
    """
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def is_finite(array: Array) -> bool:
    """Return whether every number of an array is finite. Decide on the host; return True for a traced array.

    >>> is_finite(jnp.asarray([1.0, jnp.nan]))
    False
    """
    # Use NumPy: inside a user's jit, jnp would trace this test and give no answer.
    return is_traced(array) or bool(np.isfinite(np.asarray(array)).all())


def one_of(value: object, name: str, allowed: Collection[str]) -> str:
    """Return `value` if it is one of `allowed`; otherwise raise a `ValueError` that lists them.

    >>> one_of("O", "group", ("O", "SO"))
    'O'
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}: got {value!r}; choose one of {', '.join(map(repr, allowed))}.")
    return value


def positive_integer(value: object, name: str, least: int = 1) -> int:
    """Return `value` as an int that is at least `least` (default: 1).

    >>> positive_integer(3, "order")
    3
    """
    wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
    try:
        number = operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    if not least <= number < 2**31:
        raise ValueError(f"{name}: expected {wanted}, got {number}.")
    return number


@overload
def positive_number(value: float, name: str) -> float: ...
@overload
def positive_number(value: object, name: str) -> float | Array: ...
def positive_number(value: object, name: str) -> float | Array:
    """Return `value` if it is a positive number; a Python number becomes a float. Traced values are not checked.

    >>> positive_number(1, "epsilon")
    1.0
    """
    return number_between(value, name, 0, float("inf"), "a positive number")


@overload
def number_between(value: float, name: str, low: float, high: float, wanted: str, ends: bool = False) -> float: ...
@overload
def number_between(
    value: object, name: str, low: float, high: float, wanted: str, ends: bool = ...
) -> float | Array: ...
def number_between(
    value: object, name: str, low: float | int, high: float | int, wanted: str, ends: bool = False
) -> float | Array:
    """Return `value` if it is a number between `low` and `high`; `ends` allows these two numbers themselves.

    >>> number_between(0, "noise", 0, 1, "a share", ends=True)
    0.0
    """
    if is_traced(value) and np.ndim(value) == 0:
        return value
    if not isinstance(value, int | float | np.number | np.ndarray | Array) or isinstance(value, bool):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    kind = getattr(value, "dtype", np.dtype(float))
    real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
    if np.ndim(value) != 0 or not real:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}.")
    too_large = isinstance(value, int) and abs(value) >= 2**63
    plain = float("inf") if too_large else float(value)
    inside = low <= plain <= high if ends else low < plain < high
    if not np.isfinite(plain) or not inside:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}.")
    return value if isinstance(value, Array) else plain


def range_within(value: object, name: str, low: float | int = 0, high: float | int = np.inf) -> tuple[float, float]:
    """Return `value` as two numbers in ascending order, both from `low` to `high`.

    >>> range_within((1, 2), "width")
    (1.0, 2.0)
    """
    wanted = f"a range (low, high) with {low} <= low <= high" + (f" <= {high}" if high < float("inf") else "")
    ends = in_order(value, name, wanted)
    if len(ends) != 2:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}.")
    first, last = (float(number_between(end, name, low, high, wanted, ends=True)) for end in ends)
    if first > last:
        raise ValueError(f"{name}: expected {wanted}, got {value!r}.")
    return first, last


def true_or_false(value: object, name: str) -> bool:
    """Return `value` if it is True or False.

    >>> true_or_false(True, "joint")
    True
    """
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}.")
    return bool(value)


def floating_type(value: object, name: str = "dtype", half: bool = False, is_complex: bool = False) -> np.dtype:
    """Return `value` as float32 or float64; `half` allows every floating type, `is_complex` also the complex types.

    >>> floating_type("float32").name
    'float32'
    """
    wanted = "a floating type" if half else "float32 or float64"
    try:
        # np.dtype would read None as float64 and a list of names as a structure. Arrays are not types either.
        if value is None or isinstance(value, list | tuple | dict | np.ndarray | Array):
            raise TypeError("no type")
        known = np.dtype(jax.dtypes.canonicalize_dtype(value))
    except (TypeError, ValueError, DeprecationWarning) as error:
        raise TypeError(f"{name}: got {value!r}; expected {wanted}.") from error
    if is_complex and jnp.issubdtype(known, jnp.complexfloating):
        return known
    if not (jnp.issubdtype(known, jnp.floating) if half else known in (np.float32, np.float64)):
        raise TypeError(f"{name}: got {known.name}; expected {wanted}.")
    return known


def random_key(value: object, name: str = "key") -> PRNGKeyArray:
    """Return `value` if it is one key, from `jax.random.key` or of the old uint32 kind.

    >>> random_key(jax.random.key(0)).shape
    ()
    """
    shown = repr(value)
    if isinstance(value, np.ndarray | Array):
        typed = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        old = value.dtype == np.uint32 and value.shape in ((2,), (4,)) and not isinstance(value, np.ma.MaskedArray)
        if old or (typed and value.shape == ()):
            return jnp.asarray(value)
        shown = f"an array of shape {value.shape}, {value.dtype}"
    raise TypeError(f"{name}: expected one key, from jax.random.key(0) or jax.random.split, got {shown}.")


def a_function(value: object, name: str, takes: str = "(params, x)") -> None:
    """Raise `TypeError` unless `value` can be called.

    >>> a_function(jnp.sin, "f")
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name}: expected a function of {takes}, got {value!r} ({type(value).__name__}).")


def one_with(value: object, name: str, members: Collection[str], wanted: str) -> None:
    """Raise `TypeError` unless `value` has all these members.

    >>> one_with(jnp.ones(2), "signals", ("shape",), "an array")
    """
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")


def an_operator(value: object, name: str = "operator") -> None:
    """Raise `TypeError` unless `value` is an operator from `operators`.

    >>> from jaxdescramble.operators import derivative
    >>> an_operator(derivative(3))
    """
    wanted = "an operator such as operators.derivative(n), or operators.from_matrix(matrix)"
    one_with(value, name, ("analyse", "synthesise", "apply"), wanted)


def instance_of(value: object, name: str, kind: type[Kind], wanted: str) -> Kind:
    """Return `value` if it is an instance of `kind`.

    >>> instance_of(1, "n", int, "an integer")
    1
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    return value


def sample_weights(
    value: object, shapes: Collection[tuple[int, ...]], dtype: DTypeLike, empty: bool = False, layers: int = 0
) -> Array:
    """Return weights of samples as an array of a floating type. Numbers of at least 0 and booleans are allowed.

    Args:
        value: anything that `jnp.asarray` accepts. For a traced array, only shape and type are checked.
        shapes: the allowed shapes.
        dtype: floating type of the result.
        empty: whether all weights may be zero.
        layers: number of leading axes that count layers; each layer needs at least one positive weight.

    Raises:
        TypeError: if the weights are not real numbers.
        ValueError: if the shape is not allowed; if a weight is negative, NaN or infinite; if all weights are zero; if
            they are so large or so small that sums of squares leave the type's range.

    >>> sample_weights([True, False], [(2,)], jnp.float32).tolist()
    [1.0, 0.0]
    """
    wanted = " or ".join(map(str, dict.fromkeys(map(tuple, shapes))))
    array = numbers(value, "weights", f"one weight for each sample, an array of shape {wanted}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"weights: got complex numbers ({array.dtype}); must be real numbers of at least 0.")
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)):
        raise TypeError(f"weights: got {array.dtype}; must be real numbers of at least 0.")
    if array.shape not in set(map(tuple, shapes)):
        raise ValueError(
            f"weights: got shape {array.shape}, but the signals need {wanted}: one number for each sample, at least 0 "
            "(0 leaves the sample out)."
        )
    array = array.astype(dtype)
    if is_traced(array):
        return array
    plain = np.asarray(array, np.float64)
    for bad, what, cure in (
        (~np.isfinite(plain), "is not finite", "give 0 to leave a sample out"),
        (plain < 0, "is negative", "weights must be at least 0"),
    ):
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(f"weights: {plain[place]} at {place} {what} ({bad.sum()} of {bad.size} entries); {cure}.")
    if not empty and not (plain > 0).any(axis=tuple(range(layers, plain.ndim))).all():
        raise ValueError("weights: all are zero, so no sample counts; give at least one sample a positive weight.")
    largest = plain.max(initial=0)
    if largest and not 1e-15 <= largest <= 1e15:
        raise ValueError(
            f"weights: the largest is {largest:.3g}; must be between 1e-15 and 1e15. Only the ratios of weights change "
            "an answer: divide all by the largest."
        )
    return array


def in_order(value: Iterable[Item] | Item, name: str, wanted: str) -> list[Item]:
    """Return `value` as a list if it is a list, a tuple or an array with at least one axis.

    >>> in_order((1, 2), "shape", "sizes")
    [1, 2]
    """
    if not isinstance(value, Iterable) or not (isinstance(value, list | tuple) or getattr(value, "ndim", 0)):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    return list(value)


def same_size(array: Array, axis: int, size: int, name: str, against: str) -> None:
    """Raise `ValueError` unless `array.shape[axis] == size`.

    >>> same_size(jnp.ones((2, 3)), -1, 3, "weight", "the signals")
    """
    if array.shape[axis] != size:
        raise ValueError(f"{name}: shape {array.shape} does not fit {against}; axis {axis} must have size {size}.")


def file_path(value: object, name: str) -> Path:
    """Return `value` as a path. Reject numbers, which `open` would take for an open file.

    >>> file_path("frames.npz", "path").suffix
    '.npz'
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {value!r} ({type(value).__name__}).")
    return Path(value)
