"""The neural tangent kernel of a network at its current weights, for each output."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.checks import a_function, positive_integer, samples_first, true_or_false


def empirical_ntk(
    f: Callable[[PyTree, Array], Array],
    params: PyTree,
    x1: ArrayLike,
    x2: ArrayLike,
    chunk_size: int = 64,
    between_outputs: bool = False,
) -> Float[Array, "n1 n2 *outputs"]:
    """Compute the neural tangent kernel of a network at its current weights, for each output a.

    `K_a(x, x') = <d f_a(x) / d params, d f_a(x') / d params>`. Let f return logits: the sum of softmax outputs is
    constant, so its gradient is zero.

    The function holds the gradients of at most two chunks of samples. It computes the gradients of x2 again for each
    chunk of x1, which takes about `n1 n2 / chunk_size` gradients for each output.

    Args:
        f: `f(params, x)`, from x of shape (batch, ...) to outputs of shape (batch, outputs) or (batch,). Samples must
            not influence each other.
        params: pytree of floating-point arrays. To exclude some (the weights of gates, for example), close over them.
        x1: the samples of the rows, shape (n1, ...).
        x2: the samples of the columns, shape (n2, ...).
        chunk_size: how many samples are computed at a time. Smaller chunks need less memory.
        between_outputs: whether to compute all pairs of outputs a and b. This takes `outputs` times as long.

    Returns:
        Array of shape (n1, n2, outputs), or (n1, n2, outputs, outputs) with `between_outputs`.

    Raises:
        TypeError, ValueError: if x is not an array of real numbers; if an output is not (batch, outputs) or (batch,).

    >>> f = lambda W, x: x @ W  # linear: the gradient of an output is x
    >>> empirical_ntk(f, jnp.ones((2, 3)), jnp.asarray([[1.0, 2.0]]), jnp.asarray([[3.0, 1.0]])).tolist()
    [[[5.0, 5.0, 5.0]]]

    Source: Jacot, Gabriel, Hongler 2018 (arXiv 1806.07572).
    """
    a_function(f, "f")
    left, right = samples_first(x1, "x1"), samples_first(x2, "x2")
    true_or_false(between_outputs, "between_outputs")
    if left.shape[1:] != right.shape[1:]:
        raise ValueError(f"x2: got shape {right.shape}; must match x1, {left.shape}, in all axes but the first.")
    shape = getattr(jax.eval_shape(f, params, left[:1]), "shape", ())
    if len(shape) not in (1, 2) or shape[:1] != (1,):
        raise ValueError(f"f: returned shape {shape} for one sample; must be (batch, outputs) or (batch,).")
    outputs = shape[1] if len(shape) == 2 else 1
    return _ntk(f, params, left, right, outputs, positive_integer(chunk_size, "chunk_size"), between_outputs)


@functools.partial(jax.jit, static_argnames=("f", "outputs", "chunk", "between"))
def _ntk(
    f: Callable[[PyTree, Array], Array], params: PyTree, x1: Array, x2: Array, outputs: int, chunk: int, between: bool
) -> Array:
    def slope(x: Array, output: Array) -> PyTree:
        return jax.grad(lambda p: f(p, x[None]).reshape(outputs)[output])(params)

    def kernel(pair: tuple[Array, Array]) -> Array:
        def row(one: Array) -> Array:
            mine = slope(one, pair[0])
            # `mine` is the same for the whole row, so chunks of rows times chunks of columns become matrix products.
            return jax.lax.map(lambda other: _inner(mine, slope(other, pair[1])), x2, batch_size=chunk)

        return jax.lax.map(row, x1, batch_size=chunk)

    each = jnp.arange(outputs)
    first, second = (jnp.repeat(each, outputs), jnp.tile(each, outputs)) if between else (each, each)
    found = jnp.moveaxis(jax.lax.map(kernel, (first, second)), 0, -1)
    return found.reshape(*found.shape[:2], outputs, outputs) if between else found


def _inner(one: PyTree, other: PyTree) -> Array:
    parts = jax.tree.map(lambda a, b: jnp.vdot(a, b, precision=jax.lax.Precision.HIGHEST), one, other)
    return functools.reduce(jnp.add, jax.tree.leaves(parts))
