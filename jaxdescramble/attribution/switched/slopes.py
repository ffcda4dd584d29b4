"""The slopes of a network's gates, as neural path kernels take them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble.attribution.switched._neurons import Neurons, read, where_known
from jaxdescramble.networks.layers import elementwise_results
from jaxdescramble.networks.pieces import follow_piece
from jaxdescramble.networks.tracing import leaves_of


def path_gates(f: Callable[[Any, Any], Any], params: Any, x: ArrayLike) -> list[Float[Array, "batch *neurons"]]:
    """Return the gates of any network: the slope of each neuron's activation at its preactivation, layer by layer.

    1 and 0 for relu, 1 and 0.01 for leaky_relu, 1 and -1 for abs. A path through the network is worth the product of
    its weights and of these slopes, so that the path kernel of a trained network of any framework is
    `path_kernel.dense(x, x, gates, gates)`, or `convolutional` or `residual`, with `gates = path_gates(f, params, x)`.

    Args:
        f, params, x: as for `gates`; without max-pools, whose paths are chosen and not gated. The kernels read
            convolutions with channels last.

    Returns:
        For each gated layer in the order of computation (batch, width), or (batch, *space, channels).

    Raises:
        NotImplementedError: maxima of several neurons; neurons with several activations, or whose gate is another's.
        TypeError, ValueError: as for `gates`; no gates at all.

    >>> f = lambda W, x: jax.nn.leaky_relu(x @ W, 0.25)
    >>> path_gates(f, jnp.eye(2), jnp.asarray([[1.0, -1.0]]))[0].tolist()
    [[1.0, 0.25]]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), neural path features; slopes in the place of gates, ours.
    """
    neurons, x = read(f, params, x)
    if not neurons.hidden:
        raise neurons.no_gates("path_gates")
    if neurons.winners:
        name = next(iter(neurons.winners))
        raise NotImplementedError(
            f"{name}: a maximum chooses among neurons, and paths go through gates alone. Take average pools."
        )
    return [where_known(x, _slope(neurons, name, params, x)) for name in neurons.hidden]


def _slope(neurons: Neurons, name: str, params: Any, x: Array) -> Array:
    value, output = neurons.hidden[name], _activation(neurons, name)
    arguments = leaves_of((params, x))
    pieces = neurons.follow(params, x, {neurons.x: x}, [name])

    def activated(z: Array) -> Array:
        return jnp.sum(follow_piece(neurons.graph, neurons.facts, arguments, {value: z}, {output}).moved[output])

    return neurons.arranged(name, jax.grad(activated)(pieces.real[value]))


def _activation(neurons: Neurons, name: str) -> int:
    """Return the one value that elementwise operations compute from a neuron alone and that others read."""
    value, facts, graph = neurons.hidden[name], neurons.facts, neurons.graph
    if facts.loops.get(value):
        raise NotImplementedError(f"{name}: stands inside a scan; write the layers out for path kernels.")
    leaving = {n for n in elementwise_results(value, facts)[1] if jnp.issubdtype(graph.avals[n].dtype, jnp.inexact)}
    if len(leaving) != 1 or value in leaving:
        raise NotImplementedError(
            f"{name}: path gates are those of neurons that go on by one activation of their own; this one goes on as "
            f"{len(leaving)} values, {'itself' if value in leaving else 'not itself'} among them. Of a gated network "
            "take gated.gates."
        )
    return leaving.pop()
