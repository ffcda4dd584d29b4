"""Read one layer, and draws from its nulls, in compiled programs.

A null draws a stack of weights; one program reads a stack, and the network's own weight is a stack of one. So the
observed value and the draws go through the same program, and a layer compiles it once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import SMALL, Inputs, both_looks, singular_values, thin, together
from jaxdescramble.findings.explanations.preparing import Prepared
from jaxdescramble.findings.explanations.readings import LayerReading
from jaxdescramble.findings.explanations.weight_nulls import WeightNull

STACK, ENTRIES = 10, 2**25
"""Largest number of weights, and of their entries, in one stack."""

FEW, WIDE = 32, 256
"""Several weights of at most `FEW` rows and at least `WIDE` columns are read side by side: a product of few rows wastes
most of a core."""

Battery = tuple[LayerReading, ...]


def _shape(layer: Prepared) -> tuple[int, int]:
    return layer.weight.shape[0], layer.weight.shape[1]


def stack_size(layer: Prepared) -> int:
    """Return how many weights of this layer are drawn and read at a time."""
    return int(min(STACK, max(1, ENTRIES // layer.weight.size)))


@functools.partial(quick_jit, static_argnames=("battery", "shape", "output", "into"))
def read_stack(
    stack: Float[Array, "s r m"],
    singular: Float[Array, "s k"],
    count: Int[Array, ""],
    inputs: Inputs,
    battery: Battery,
    shape: tuple[int, int],
    output: Axis,
    into: Axis,
) -> Float[Array, "s readings"]:
    """Return every reading of the first `count` weights of a stack, averaged over the two looks.

    Args:
        stack: weights, or `thin` weights if the output axis is descrambled.
        singular: singular values of each weight, descending.
        count: number of weights to read; the rows of the others mean nothing.
        inputs: the input signals of the layer.
        battery: the readings.
        shape: (out, in) of the weight.
        output, into: axes of the weight.
    """

    def read(weight: Array, values: Array) -> Array:
        both = both_looks(weight, values, shape, inputs, output, into)
        none = jnp.zeros(0, stack.dtype)
        found = jax.vmap(lambda look: jnp.stack([one.function(look) for one in battery]) if battery else none)(both)
        return jnp.mean(found, axis=0).astype(stack.dtype)

    def in_turn() -> Array:
        rows = jnp.zeros((stack.shape[0], len(battery)), stack.dtype)
        return jax.lax.fori_loop(0, count, lambda k, rows: rows.at[k].set(read(stack[k], singular[k])), rows)

    if stack.shape[1] > FEW or stack.shape[2] < WIDE or stack.size > SMALL:
        return in_turn()
    return jax.lax.cond(count > 1, lambda: jax.vmap(read)(stack, singular), in_turn)


@quick_jit
def _singular_values(stack: Float[Array, "s r m"]) -> Float[Array, "s k"]:
    return together(singular_values, stack.size)(stack)


def _filled(stack: Array, size: int) -> Array:
    """Repeat the last entry until the stack has the size for which programs are compiled."""
    return stack if len(stack) == size else stack[np.minimum(np.arange(size), len(stack) - 1)]


def _read(
    weights: Float[Array, "s r m"], singular: Float[Array, "s k"], count: int, layer: Prepared, battery: Battery
) -> Float[np.ndarray, "count readings"]:
    source, used = layer.source, jnp.asarray(count)
    rows = read_stack(weights, singular, used, layer.inputs, battery, _shape(layer), source.output, source.into)
    return np.asarray(rows, np.float64)[:count]


def draw_one(key: PRNGKeyArray, null: WeightNull, layer: Prepared) -> Float[Array, "r m"]:
    """Return one draw of a null; of a small layer with the program of `read_draws`, which is compiled already."""
    size = stack_size(layer)
    keys = _filled(key[None], size) if size * layer.weight.size <= SMALL else key[None]
    return null.draw(keys, layer.weight, layer.singular, layer.reduced)[0]


def read_one(layer: Prepared, battery: Battery) -> Float[np.ndarray, " readings"]:
    """Return every reading of a layer as it is."""
    own, size = (thin(layer.weight) if layer.reduced else layer.weight)[None], stack_size(layer)
    return _read(_filled(own, size), _filled(layer.singular[None], size), 1, layer, battery)[0]


def read_draws(
    keys: Key[Array, " padded"], count: int, null: WeightNull, layer: Prepared, battery: Battery
) -> Iterator[Float[np.ndarray, "some readings"]]:
    """Yield readings of draws that change the weight of one layer, until the first `count` keys are used."""
    kept, size = None, stack_size(layer)
    if getattr(null, "keeps_singular_values", False):
        kept = _filled(layer.singular[None], size)
    for first in range(0, count, size):
        own = keys if len(keys) == size else _filled(keys[first : first + size], size)
        weights = null.draw(own, layer.weight, layer.singular, layer.reduced)
        singular = _singular_values(weights) if kept is None else kept
        yield _read(weights, singular, min(size, count - first), layer, battery)


def observed(layers: Sequence[Prepared], batteries: Sequence[Battery]) -> list[Callable[[], np.ndarray]]:
    """Return for each layer of a network a function that reads it."""
    return [functools.partial(read_one, *both) for both in zip(layers, batteries, strict=True)]
