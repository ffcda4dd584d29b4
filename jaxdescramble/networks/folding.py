"""Bring a layer's values into the order (lead, ..., features, samples), and back."""

import math

import jax.numpy as jnp
from jax import Array

from jaxdescramble.networks.axes import Atom, Axes, axis, fold, labels
from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.layers import Layer


def heads_of(layer: Layer) -> tuple[int, ...]:
    """Return the factors of the out axis that count layers, such as heads of attention."""
    return tuple(size for size, apart in layer.factors if apart)


class Folder:
    """Brings one layer's values into the order (lead, ..., features, samples), and back."""

    def __init__(self, layer: Layer, facts: Facts):
        self.layer, self.facts = layer, facts
        self.loops = {loop: f"loop{i}" for i, loop in enumerate(layer.lead_loops)}
        self.batch = [label for label in layer.product.sizes if label.startswith("batch")]
        self.lead = [*self.loops.values(), *self.batch]

    def stacked(self, number: int, value: Array, axes: Axes, order: list[str]) -> Array:
        """Fold a value that `evaluate` read, stacked over the loops around it, to (*lead, *order)."""
        samples = math.prod(self.layer.product.sizes["sample"])
        # A loop through the data alone makes samples; they are slower than all others.
        strides = {}
        for loop in reversed(self.layer.sample_loops):
            strides[loop] = samples
            samples *= loop.params["length"]
        front: list[tuple[Atom, ...]] = []
        for loop in self.facts.loops.get(number, ()):
            if loop in self.loops:
                front.append(axis(self.loops[loop], loop.params["length"]))
            elif "sample" in order:
                front.append(axis("sample", loop.params["length"], strides[loop]))
            else:  # the same at every step
                value = jnp.take(value, 0, axis=len(front))
        for loop in self.layer.sample_loops:
            if "sample" in order and loop not in self.facts.loops.get(number, ()):  # read again at every step
                value = jnp.broadcast_to(value[None], (loop.params["length"], *value.shape))
                front.insert(0, axis("sample", loop.params["length"], strides[loop]))
        return fold(value, (*front, *axes), [*self.lead, *order])

    def heads_apart(self, value: Array, place: int) -> Array:
        """Return (..., out, ...) as (..., heads, rest of out, ...)."""
        before, after = value.shape[:place], value.shape[place + 1 :]
        moved = value.reshape(*before, *(size for size, _ in self.layer.factors), *after)
        moved = moved.transpose(self.order(place, value.ndim))
        return moved.reshape(
            *before, *heads_of(self.layer), value.shape[place] // math.prod(heads_of(self.layer)), *after
        )

    def heads_together(self, value: Array, place: int) -> Array:
        heads = heads_of(self.layer)
        before, after = value.shape[:place], value.shape[place + len(heads) + 1 :]
        rest = [size for size, apart in self.layer.factors if not apart]
        order = self.order(place, len(before) + 1 + len(after))
        moved = value.reshape(*before, *heads, *rest, *after).transpose([order.index(i) for i in range(len(order))])
        return moved.reshape(*before, math.prod((*heads, *rest)), *after)

    def order(self, place: int, ndim: int) -> list[int]:
        factors = self.layer.factors
        apart = [place + i for i, (_, is_apart) in enumerate(factors) if is_apart]
        rest = [place + i for i, (_, is_apart) in enumerate(factors) if not is_apart]
        return [*range(place), *apart, *rest, *range(place + len(factors), ndim - 1 + len(factors))]

    def signals(self, number: int, value: Array) -> Array:
        value = self.stacked(number, value, self.layer.axes, ["out", "sample"])
        return self.heads_apart(value, len(self.lead))

    def constant(self, number: int, value: Array, axes: Axes) -> Array:
        """Return the constant of an affine step as (*lead, out)."""
        rows = [() if "sample" in labels(dimension) else dimension for dimension in axes]
        shape = [math.prod(atom.size for atom in dimension) for dimension in rows]
        loops = value.shape[: len(self.facts.loops.get(number, ()))]
        if value.ndim == len(loops):
            value = value.reshape(*loops, *(1 for _ in shape))
        for i, dimension in enumerate(axes, start=len(loops)):
            if "sample" in labels(dimension):  # it is constant along samples
                value = value.take(jnp.array([0]), axis=i)
        value = jnp.broadcast_to(value, (*loops, *shape))
        return self.heads_apart(self.stacked(number, value, tuple(rows), ["out"]), len(self.lead))
