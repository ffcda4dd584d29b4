"""Read one layer, and draws from its nulls, in compiled programs.

A null draws a stack of weights; one program reads a stack, and the network's own weight is a stack of one. So the
observed value and the draws go through the same program, and a layer compiles it once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.looks import Inputs, both_looks, singular_values, thin
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
        count: number of weights to read; the rows of the others are zero.
        inputs: the input signals of the layer.
        battery: the readings.
        shape: (out, in) of the weight.
        output, into: axes of the weight.
    """

    def read(k: Array, rows: Array) -> Array:
        both = both_looks(stack[k], singular[k], shape, inputs, output, into)
        none = jnp.zeros(0, stack.dtype)
        values = jax.vmap(lambda look: jnp.stack([one.function(look) for one in battery]) if battery else none)(both)
        return rows.at[k].set(jnp.mean(values, axis=0).astype(rows.dtype))

    return jax.lax.fori_loop(0, count, read, jnp.zeros((stack.shape[0], len(battery)), stack.dtype))


@quick_jit
def _singular_values(stack: Float[Array, "s r m"]) -> Float[Array, "s k"]:
    return jax.lax.map(singular_values, stack)


def _filled(stack: Array, layer: Prepared) -> Array:
    """Repeat the first entry until the stack has the size for which programs are compiled."""
    places = np.arange(stack_size(layer))
    return stack[np.where(places < len(stack), places, 0)]


def _read(
    weights: Float[Array, "s r m"], singular: Float[Array, "s k"], count: int, layer: Prepared, battery: Battery
) -> Float[Array, "count readings"]:
    source = layer.source
    used = jnp.asarray(count)
    return read_stack(
        weights, singular, used, layer.inputs, battery, _shape(layer), source.output, source.into
    )[:count]  # fmt: skip


def read_one(layer: Prepared, battery: Battery) -> Float[Array, " readings"]:
    """Return every reading of a layer as it is."""
    own = (thin(layer.weight) if layer.reduced else layer.weight)[None]
    return _read(_filled(own, layer), _filled(_singular_values(own), layer), 1, layer, battery)[0]


def read_draws(keys: Key[Array, " draws"], null: WeightNull, layer: Prepared, battery: Battery) -> Iterator[Array]:
    """Yield readings of draws that change the weight of one layer, shape (some, readings), until all keys are used."""
    kept = None
    if getattr(null, "keeps_singular_values", False):
        own = (thin(layer.weight) if layer.reduced else layer.weight)[None]
        kept = _filled(_singular_values(own), layer)
    for first in range(0, len(keys), stack_size(layer)):
        own = keys[first : first + stack_size(layer)]
        weights = null.draw(_filled(own, layer), layer.weight, layer.reduced)
        yield _read(weights, _singular_values(weights) if kept is None else kept, len(own), layer, battery)


def observed(layers: Sequence[Prepared], batteries: Sequence[Battery]) -> list[Callable[[], np.ndarray]]:
    """Return for each layer of a network a function that reads it."""

    def read(layer: Prepared, battery: Battery) -> np.ndarray:
        return np.asarray(read_one(layer, battery), np.float64)

    return [functools.partial(read, *both) for both in zip(layers, batteries, strict=True)]
