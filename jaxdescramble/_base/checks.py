"""Checks of arguments: what can be known from shapes and types is said at once, with what to do about it."""

import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array

Kind = TypeVar("Kind")


def real_array(value: ArrayLike, name: str, ndims: Collection[int], axes: str, half: bool = False) -> Array:
    """`value` as a JAX array of float32 or float64.

    Args:
        value: anything `jnp.asarray` takes.
        name: the argument's name, for the message.
        ndims: the numbers of axes that are allowed.
        axes: what the axes mean, for the message.
        half: whether half precision will do.

    Raises:
        TypeError: not numbers, complex, integers, or a half-precision type.
        ValueError: the wrong number of axes, or an empty axis.

    >>> real_array([[1.0, 2.0]], "signals", (2,), "(features, samples)").shape
    (1, 2)
    """
    array = numbers(value, name, f"an array of numbers {axes}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(
            f"{name}: got complex numbers ({array.dtype}); descramblers here are real. Stack real and imaginary parts "
            "as separate samples, or descramble them apart."
        )
    if array.dtype in (jnp.float16, jnp.bfloat16) and not half:
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


def numbers(value: Any, name: str, wanted: str = "an array of numbers") -> Array:
    """`value` as a JAX array of whatever numbers they are.

    Raises:
        TypeError: text, objects, ragged lists, masked and structured arrays, integers that no type holds.

    >>> numbers([1, 2], "labels").shape
    (2,)
    """
    try:
        # Of text in a list jnp.asarray would first make a type.
        if isinstance(value, str | bytes | list | tuple) and any(
            isinstance(leaf, str | bytes) for leaf in jax.tree.leaves(value)
        ):
            raise TypeError("text")
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}.") from error


def samples_first(x: ArrayLike, name: str = "x") -> Array:
    """The input of a network as an array, a sample to each entry of its first axis; raises as `real_array` does.

    >>> samples_first([[1.0, 2.0]]).shape
    (1, 2)
    """
    return real_array(x, name, tuple(range(2, 9)), "(batch, ...), two axes at least: samples and features")


def is_traced(value: object) -> bool:
    """Whether a value's numbers are not to be had, because it is being traced by `jit`, `vmap` or `grad`.

    >>> is_traced(jnp.ones(2))
    False
    """
    return isinstance(value, Tracer)


def staged(*values: Any) -> bool:
    """Whether a call is part of somebody's program: one of its values is traced, or all that is computed here is.

    Inside `jit` a function may be given nothing but known arrays; what it makes of them is traced all the same.

    >>> staged(jnp.ones(2)), jax.jit(lambda: jnp.asarray(staged()))()
    (False, Array(True, dtype=bool))
    """
    return any(map(is_traced, jax.tree.leaves(values))) or is_traced(jnp.zeros(()))


def wide_types() -> bool:
    """Whether JAX's 64-bit types are on, here and now: a context manager may say otherwise than the configuration.

    >>> with jax.enable_x64(False):
    ...     wide_types()
    False
    """
    return bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]


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


def positive_integer(value: object, name: str, least: int = 1) -> int:
    """`value` as an int of at least 1, or of at least `least`.

    >>> positive_integer(3, "order")
    3
    """
    wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    if not least <= number < 2**31:
        raise ValueError(f"{name}: expected {wanted}, got {number}.")
    return number


def positive_number(value: Any, name: str) -> Any:
    """`value` as it is if it is a positive number (a traced one is taken to be), a Python number as a float.

    >>> positive_number(1, "epsilon")
    1.0
    """
    return number_between(value, name, 0, float("inf"), "a positive number")


def number_between(value: Any, name: str, low: float | int, high: float | int, wanted: str, ends: bool = False) -> Any:
    """`value` as `positive_number` has it, if it is a number between two others, or (`ends`) one of these.

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
    if (
        too_large
        or not np.isfinite(plain := _plain(value))
        or not (low <= plain <= high if ends else low < plain < high)
    ):
        raise ValueError(f"{name}: expected {wanted}, got {value!r}.")
    return value if isinstance(value, Array) else plain


def _plain(value: Any) -> float:
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except OverflowError:  # an integer of more than 308 digits
        return float("inf")


def range_within(value: Any, name: str, low: float | int = 0, high: float | int = float("inf")) -> tuple[float, float]:
    """`value` as two numbers in order, both between `low` and `high` or one of them.

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
    """`value` if it is True or False.

    >>> true_or_false(True, "joint")
    True
    """
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{name}: expected True or False, got {value!r}.")
    return bool(value)


def floating_type(value: Any, name: str = "dtype", half: bool = False) -> np.dtype:
    """`value` as float32 or float64, or (`half`) as any floating type.

    >>> floating_type("float32").name
    'float32'
    """
    wanted = "a floating type" if half else "float32 or float64"
    try:
        # None is NumPy's float64, and a list of names a structure: neither is meant. An array is no type either.
        if value is None or isinstance(value, list | tuple | dict | np.ndarray | Array):
            raise TypeError("no type")
        known = np.dtype(jax.dtypes.canonicalize_dtype(value))
    except (TypeError, ValueError, DeprecationWarning) as error:
        raise TypeError(f"{name}: got {value!r}; expected {wanted}.") from error
    if not (jnp.issubdtype(known, jnp.floating) if half else known in (np.float32, np.float64)):
        raise TypeError(f"{name}: got {known.name}; expected {wanted}.")
    return known


def random_key(value: object, name: str = "key") -> Any:
    """`value` if it is one key, of `jax.random.key` or of the old kind.

    >>> random_key(jax.random.key(0)).shape
    ()
    """
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    typed = isinstance(value, Array) and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    old = isinstance(value, np.ndarray | Array) and dtype == np.uint32 and shape in ((2,), (4,))
    if not ((typed and shape == ()) or old) or isinstance(value, np.ma.MaskedArray):
        shown = f"an array of shape {shape}, {dtype}" if isinstance(value, np.ndarray | Array) else repr(value)
        raise TypeError(f"{name}: expected one key, jax.random.key(0) or one of jax.random.split, got {shown}.")
    return value


def a_function(value: object, name: str, takes: str = "(params, x)") -> None:
    """Raise `TypeError` unless `value` can be called.

    >>> a_function(jnp.sin, "f")
    """
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name}: expected a function of {takes}, got {value!r} ({type(value).__name__}).")


def one_with(value: object, name: str, members: Collection[str], wanted: str) -> None:
    """Raise `TypeError` unless `value` has the members that make it what is wanted.

    >>> one_with(jnp.ones(2), "signals", ("shape",), "an array")
    """
    if isinstance(value, type) or not all(hasattr(value, member) for member in members):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")


def an_operator(value: object, name: str = "operator") -> None:
    """Raise `TypeError` unless `value` is an operator, as `operators` makes them.

    >>> from jaxdescramble.operators import derivative
    >>> an_operator(derivative(3))
    """
    wanted = "an operator such as operators.derivative(n), or operators.from_matrix(matrix)"
    one_with(value, name, ("analyse", "synthesise", "apply"), wanted)


def instance_of(value: Any, name: str, kind: type[Kind], wanted: str) -> Kind:
    """`value` if it is of a kind.

    >>> instance_of(1, "n", int, "an integer")
    1
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    return value


def sample_weights(
    value: Any, shapes: Collection[tuple[int, ...]], dtype: Any, empty: bool = False, layers: int = 0
) -> Array:
    """`value` as weights of samples, an array of a floating type: numbers of at least 0, or True and False.

    Args:
        value: anything `jnp.asarray` takes. Of a traced array only shape and type are checked.
        shapes: those that are allowed.
        dtype: the type to convert to.
        empty: whether all may be zero.
        layers: how many first axes are those of layers, each of which needs a sample that counts.

    Raises:
        TypeError: not real numbers.
        ValueError: another shape; a number that is negative, NaN or infinite; all zero; so large or so small that
            sums of squares leave the type's range.

    >>> sample_weights([True, False], [(2,)], jnp.float32).tolist()
    [1.0, 0.0]
    """
    wanted = " or ".join(map(str, dict.fromkeys(map(tuple, shapes))))
    array = numbers(value, "weights", f"one weight for each sample, an array of shape {wanted}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"weights: got complex numbers ({array.dtype}); give real numbers of at least 0.")
    if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.number)):
        raise TypeError(f"weights: got {array.dtype}; give real numbers of at least 0.")
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
            raise ValueError(f"weights: {plain[place]} at {place} {what} ({bad.sum()} of {bad.size} are so); {cure}.")
    if not empty and not (plain > 0).any(axis=tuple(range(layers, plain.ndim))).all():
        raise ValueError("weights: all are zero, so no sample is left; give at least one a positive weight.")
    largest = plain.max(initial=0)
    if largest and not 1e-15 <= largest <= 1e15:
        raise ValueError(
            f"weights: the largest is {largest:.3g}, outside of 1e-15 ... 1e15. Only their ratios change an answer; "
            "divide them by the largest."
        )
    return array


def in_order(value: Any, name: str, wanted: str) -> list[Any]:
    """`value` as a list, if it is a list or tuple (or the axes of an array).

    >>> in_order((1, 2), "shape", "sizes")
    [1, 2]
    """
    if not isinstance(value, list | tuple) and getattr(value, "ndim", 0) == 0:
        raise TypeError(f"{name}: expected {wanted}, got {value!r} ({type(value).__name__}).")
    return list(value)


def shaped_like(x: Array, value: Any, name: str) -> Array:
    """`value` broadcast to the shape and type of x.

    >>> shaped_like(jnp.ones((1, 2)), 0.5, "low").tolist()
    [[0.5, 0.5]]
    """
    array = numbers(value, name, f"a number, or an array that fits x, of shape {x.shape}")
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}.")
    try:
        return jnp.broadcast_to(array.astype(x.dtype), x.shape)
    except ValueError as error:
        raise ValueError(f"{name}: shape {array.shape} does not fit x, of shape {x.shape}.") from error


def same_size(array: Array, axis: int, size: int, name: str, against: str) -> None:
    """Raise `ValueError` unless `array.shape[axis] == size`.

    >>> same_size(jnp.ones((2, 3)), -1, 3, "weight", "the signals")
    """
    if array.shape[axis] != size:
        raise ValueError(f"{name}: shape {array.shape} does not fit {against}, which has {size} there (axis {axis}).")


def file_path(value: object, name: str) -> Path:
    """`value` as a path; a number is none, though `open` would take it for a file that is open already.

    >>> file_path("frames.npz", "path").suffix
    '.npz'
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {value!r} ({type(value).__name__}).")
    return Path(value)
