"""The output of a network that an attribution explains."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.checks import a_function, is_traced, numbers, samples_first
from jaxdescramble.networks.tracing import Function


def targets(f: Function, params: PyTree, x: ArrayLike, target: ArrayLike | None) -> tuple[Array, Array]:
    """Return x as an array, and the number of the output to explain for every sample."""
    a_function(f, "f")
    x = samples_first(x)
    shape = getattr(jax.eval_shape(f, params, x), "shape", None)
    if shape is None or len(shape) not in (1, 2) or shape[0] != len(x):
        raise ValueError(
            f"f: returned {'several arrays' if shape is None else f'shape {shape}'} for x of shape {x.shape}; expected "
            "(batch, classes) or (batch,). For a function of one sample pass jax.vmap(f, (None, 0))."
        )
    classes = shape[1] if len(shape) == 2 else 1
    if target is None:
        scores = f(params, x).reshape(len(x), classes)
        return x, jnp.argmax(scores, axis=1)
    chosen = numbers(target, "target", "an integer, or one for each sample")
    if not jnp.issubdtype(chosen.dtype, jnp.integer) or chosen.shape not in ((), (len(x),)):
        raise TypeError(f"target: got {target!r}; expected an integer, or one for each of the {len(x)} samples of x.")
    if not is_traced(chosen) and not (0 <= int(chosen.min()) <= int(chosen.max()) < classes):
        raise ValueError(f"target: got {target!r}; f has outputs 0 to {classes - 1}.")
    return x, jnp.broadcast_to(chosen, (len(x),))


def score(f: Function, params: PyTree, x: Array, target: Array) -> Float[Array, " batch"]:
    """Return the outputs to explain."""
    out = f(params, x)
    return jnp.take_along_axis(out.reshape(len(x), -1), target[:, None], axis=1)[:, 0]


def shaped_like(x: Array, value: object, name: str) -> Array:
    """Return `value`, broadcast to the shape of x and converted to its type.

    >>> shaped_like(jnp.ones((1, 2)), 0.5, "low").tolist()
    [[0.5, 0.5]]
    """
    array = numbers(value, name, f"a number, or an array that broadcasts to the shape {x.shape} of x")
    if array.dtype == bool or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}.")
    try:
        return jnp.broadcast_to(array.astype(x.dtype), x.shape)
    except ValueError as error:
        raise ValueError(f"{name}: shape {array.shape} does not broadcast to the shape {x.shape} of x.") from error
