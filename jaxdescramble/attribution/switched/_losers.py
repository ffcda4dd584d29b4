"""Find active neurons that no max-pool passes on: in every window another neuron is larger."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from jaxdescramble.attribution.switched._neurons import Neurons
from jaxdescramble.networks.evaluate import bind, evaluate
from jaxdescramble.networks.graph import Operation
from jaxdescramble.networks.kinds import arranges, kind_of
from jaxdescramble.networks.pieces import along_piece
from jaxdescramble.networks.tracing import leaves_of


def lost(neurons: Neurons, name: str, params: PyTree, x: Array) -> Bool[Array, "batch *neurons"] | None:
    """Return which neurons of a layer win in no max-pool; None unless max-pools alone read the layer.

    A neuron that ties with an earlier one of its window loses.
    """
    value = neurons.hidden[name]
    pools = _pools_behind(neurons, value)
    if not pools:
        return None
    operands = {pool.inputs[0] for pool, _ in pools}
    real = evaluate(neurons.graph, leaves_of((params, x)), operands | {value})[1]
    wins = jnp.zeros_like(real[value])
    for pool, way in pools:
        operand = real[pool.inputs[0]]
        (taken,) = jax.eval_shape(lambda moved, pool=pool, o=operand: along_piece(pool, [o], [moved]), operand)
        pull = jax.linear_transpose(lambda moved, pool=pool, o=operand: along_piece(pool, [o], [moved])[0], operand)
        (won,) = pull(jnp.ones(taken.shape, taken.dtype))
        for operation in reversed(way):
            before = jax.ShapeDtypeStruct(neurons.graph.shape(operation.inputs[0]), won.dtype)
            (won,) = jax.linear_transpose(lambda v, operation=operation: bind(operation, [v])[0], before)(won)
        wins = wins + won
    return neurons.arranged(name, wins == 0)


def _pools_behind(neurons: Neurons, value: int) -> list[tuple[Operation, tuple[Operation, ...]]]:
    """Return the max-pools that read a neuron behind its gates, each with the rearrangements before it.

    Return none if other operations read the neuron too.
    """
    graph, facts = neurons.graph, neurons.facts
    way: dict[int, tuple[Operation, ...]] = {value: ()}
    waiting, pools = [value], []
    if facts.home.get(value) is not graph:
        return []
    while waiting:
        here = waiting.pop()
        if here in graph.outputs:
            return []
        for operation, _ in facts.readers[here]:
            out = operation.outputs[0]
            if kind_of(operation).chooses:
                pools.append((operation, way[here]))
                continue
            if not jnp.issubdtype(graph.avals[out].dtype, jnp.inexact) or out in way:
                continue  # a comparison goes on as the choice that it makes
            of_data = [n for n in operation.inputs if n in facts.data and n not in way]
            floating = [n for n in of_data if jnp.issubdtype(graph.avals[n].dtype, jnp.inexact)]
            moves = arranges(operation, graph) and not operation.pointwise
            if floating or not (moves or operation.pointwise):
                return []
            way[out] = (*way[here], operation) if moves else way[here]
            waiting.append(out)
    return pools
