"""Read one layer, and draws from its nulls, in compiled programs.

One program draws weights from a null; another one reads a stack of weights, and the network's own weight is a stack of
one. So the observed value and the draws go through the same program, and a layer compiles it once.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Inputs, both_looks, thin
from jaxdescramble.findings.explanations.preparing import Prepared
from jaxdescramble.findings.explanations.readings import LayerReading
from jaxdescramble.findings.explanations.weight_nulls import WeightNull

STACK, ENTRIES = 10, 2**25
"""Largest number of weights, and of their entries, in one stack."""

Battery = tuple[LayerReading, ...]


def _shape(layer: Prepared) -> tuple[int, int]:
    return layer.weight.shape[0], layer.weight.shape[1]


def stack_size(layer: Prepared) -> int:
    """Return how many weights of this layer are drawn and read at a time."""
    return int(min(STACK, max(1, ENTRIES // layer.weight.size)))


@functools.partial(quick_jit, static_argnames=("battery", "shape", "output", "into"))
def read_stack(
    stack: Float[Array, "s r m"],
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
        count: number of weights to read; the rows of the others are zero.
        inputs: the input signals of the layer.
        battery: the readings.
        shape: (out, in) of the weight.
        output, into: axes of the weight.
    """

    def read(k: Array, rows: Array) -> Array:
        both = both_looks(stack[k], shape, inputs, output, into)
        none = jnp.zeros(0, stack.dtype)
        values = jax.vmap(lambda look: jnp.stack([one.function(look) for one in battery]) if battery else none)(both)
        return rows.at[k].set(jnp.mean(values, axis=0).astype(rows.dtype))

    return jax.lax.fori_loop(0, count, read, jnp.zeros((stack.shape[0], len(battery)), stack.dtype))


@functools.partial(quick_jit, static_argnames=("null", "reduced"))
def draw_stack(
    keys: Key[Array, " draws"], weight: Float[Array, "n m"], null: WeightNull, reduced: bool
) -> Float[Array, "s r m"]:
    """Return one weight for each key."""
    return jax.lax.map(lambda key: null.draw(key, weight, reduced), keys)


def read_one(layer: Prepared, battery: Battery) -> Float[Array, " readings"]:
    """Return every reading of a layer as it is."""
    own = thin(layer.weight) if layer.reduced else layer.weight
    stack = jnp.broadcast_to(own, (stack_size(layer), *own.shape))
    source = layer.source
    return read_stack(stack, jnp.asarray(1), layer.inputs, battery, _shape(layer), source.output, source.into)[0]


def read_draws(keys: Key[Array, " draws"], null: WeightNull, layer: Prepared, battery: Battery) -> Iterator[Array]:
    """Yield readings of draws that change the weight of one layer, shape (some, readings), until all keys are used."""
    size, count = stack_size(layer), len(keys)
    source = layer.source
    for first in range(0, count, size):
        own = keys[first : first + size]
        used = len(own)
        if used < size:
            own = jnp.concatenate([own, keys[jnp.zeros(size - used, int)]])
        stack = draw_stack(own, layer.weight, null, layer.reduced)
        rows = read_stack(stack, jnp.asarray(used), layer.inputs, battery, _shape(layer), source.output, source.into)
        yield rows[:used]


def observed(layers: Sequence[Prepared], batteries: Sequence[Battery]) -> list[np.ndarray]:
    """Return the readings of every layer of a network."""
    found = [read_one(one, battery) for one, battery in zip(layers, batteries, strict=True)]
    return [np.asarray(one, np.float64) for one in found]
