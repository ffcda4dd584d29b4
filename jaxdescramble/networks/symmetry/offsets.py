"""Move the offsets of norms into the biases of the products that read them: `W (v + o) + b = W v + (b + W o)`."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxdescramble.networks.evaluate import bind, evaluate
from jaxdescramble.networks.facts import Facts
from jaxdescramble.networks.graph import Graph, Operation

ARRANGING = frozenset("broadcast_in_dim convert_element_type reshape squeeze transpose custom_rule copy".split())  # noqa: SIM905
PRODUCTS = frozenset("dot_general conv_general_dilated mul".split())  # noqa: SIM905


class KeptError(Exception):
    """An offset must stay; the text says why."""


class Added(NamedTuple):
    """A sum of a value of the data and a leaf: `chain` are the operations between the leaf and the sum."""

    operation: Operation
    leaf: int
    chain: tuple[Operation, ...]
    value: int


def moved_offsets(graph: Graph, facts: Facts, params: PyTree) -> tuple[PyTree, dict[str, str]]:
    """Return parameters whose offsets are 0 where products with biases alone read them, and what was done by path."""
    leaves, tree = jax.tree.flatten(params)
    leaves = dict(zip(graph.arguments[0], leaves, strict=True))
    sums = [one for operation in graph.operations if (one := _added(operation, graph, facts)) is not None]
    what: dict[str, str] = {}
    for one in sums:
        name = graph.names[one.leaf]
        if np.ndim(leaves[one.leaf]) != 1 or not _scaled(one.operation, graph, facts):
            continue
        if not np.any(np.asarray(leaves[one.leaf])):
            continue
        try:
            biases = _Image(graph, facts, leaves).of(one)
        except KeptError as why:
            what[name] = f"kept: {why}"
            continue
        leaves |= biases
        leaves[one.leaf] = jnp.zeros_like(leaves[one.leaf])
        what[name] = f"moved into {', '.join(graph.names[number] for number in biases)}"
    return jax.tree.unflatten(tree, list(leaves.values())), what


def _added(operation: Operation, graph: Graph, facts: Facts) -> Added | None:
    """Return what an operation adds, if it adds a leaf that nothing else reads to a value of the data."""
    if operation.name not in ("add", "add_any"):
        return None
    for number, other in (operation.inputs, operation.inputs[::-1]):
        if number in facts.data or other not in facts.data:
            continue
        chain: list[Operation] = []
        while number in facts.makers and len(facts.readers[number]) == 1 and number not in facts.returned:
            maker = facts.makers[number]
            if maker.name not in ARRANGING or maker.blocks:
                break
            chain.insert(0, maker)
            number = maker.inputs[0]
        if number in graph.arguments[0] and len(facts.readers[number]) == 1 and number not in facts.returned:
            return Added(operation, number, tuple(chain), other)
    return None


def _scaled(operation: Operation, graph: Graph, facts: Facts) -> bool:
    """Return whether a sum has a factor that depends on parameters alone in one of its terms: a norm with a gain."""
    for number in operation.inputs:
        while number in facts.makers and facts.makers[number].name in ARRANGING:
            number = facts.makers[number].inputs[0]
        maker = facts.makers.get(number)
        if number in facts.data and maker is not None and maker.name == "mul":
            return any(factor in facts.parameters and factor not in facts.data for factor in maker.inputs)
    return False


class _Image:
    """What an offset adds to everything that is computed from it, up to the biases."""

    def __init__(self, graph: Graph, facts: Facts, leaves: Mapping[int, Array]):
        self.graph, self.facts, self.leaves = graph, facts, leaves
        self.biases: dict[int, Array] = {}

    def of(self, offset: Added) -> dict[int, Array]:
        """Return the biases after an offset has moved into them.

        Raises:
            KeptError: if something reads the offset that has no bias.
        """
        (result,) = offset.operation.outputs
        start = _along(offset.chain, self.leaves[offset.leaf])
        self.follow(result, jnp.broadcast_to(start, self.graph.shape(result)))
        return self.biases

    def follow(self, number: int, image: Array) -> None:
        """Follow an image through everything that reads the value."""
        if number in self.facts.returned:
            raise KeptError("the network has no bias that could take it up")
        for operation, position in self.facts.readers[number]:
            where = f"`{operation.equation.primitive.name}` at {operation.source}"
            added = _added(operation, self.graph, self.facts)
            if added is not None and added.value == number:
                self.absorb(added, image, where)
                continue
            others = [one for i, one in enumerate(operation.inputs) if i != position]
            linear = operation.name in PRODUCTS and not self.facts.data.intersection(others)
            if operation.blocks or not (linear or operation.name in ARRANGING):
                raise KeptError(f"{where} reads what it is added to; only products with weights may")
            values = [image if i == position else self.value(one) for i, one in enumerate(operation.inputs)]
            self.follow(operation.outputs[0], jnp.asarray(bind(operation, values)[0]))

    def value(self, number: int) -> Array:
        """Return a value that depends on parameters alone."""
        graph = dataclasses.replace(self.graph, outputs=(number,))
        data = (number for argument in graph.arguments[1:] for number in argument)
        zeros = [jnp.zeros(graph.shape(one), graph.avals[one].dtype) for one in data]
        return evaluate(graph, [*(jnp.asarray(leaf) for leaf in self.leaves.values()), *zeros])[0][0]

    def absorb(self, bias: Added, image: Array, where: str) -> None:
        """Add the image to a bias."""
        leaf = self.biases.get(bias.leaf, self.leaves[bias.leaf])
        whole, back = jax.vjp(lambda some: _along(bias.chain, some), jnp.asarray(leaf, image.dtype))
        image = image.reshape((1,) * (whole.ndim - image.ndim) + image.shape)
        missing = tuple(i for i in range(whole.ndim) if whole.shape[i] == 1 and image.shape[i] != 1)
        flat = image.mean(missing, keepdims=True)
        change = back(flat.astype(whole.dtype))[0] / jnp.maximum(back(jnp.ones_like(whole))[0], 1)
        error = jnp.abs(_along(bias.chain, change) - image).max()
        if error > 1e3 * jnp.finfo(image.dtype).eps * jnp.abs(image).max():
            raise KeptError(f"{where} adds a bias that cannot take it up, because it would differ from place to place")
        self.biases[bias.leaf] = (leaf + change).astype(leaf.dtype)


def _along(chain: tuple[Operation, ...], leaf: Array) -> Array:
    """Return what a chain of operations makes of a leaf."""
    for operation in chain:
        (leaf,) = bind(operation, [leaf])
    return leaf
