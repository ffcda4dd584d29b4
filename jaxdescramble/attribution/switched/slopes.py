"""The slopes of a network's gates, as neural path kernels take them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble.attribution.switched._neurons import Neurons, read, where_known
from jaxdescramble.networks.layers import elementwise_results
from jaxdescramble.networks.pieces import follow_piece
from jaxdescramble.networks.tracing import Function, leaves_of


def path_gates(f: Function, params: PyTree, x: ArrayLike) -> list[Float[Array, "batch *neurons"]]:
    """Return the gates of any network: the slope of each neuron's activation at its preactivation, layer by layer.

    The slopes are 1 and 0 for relu, 1 and 0.01 for leaky_relu, 1 and -1 for abs. The strength of a path through the
    network is the product of its weights and of these slopes. So you get the path kernel of a trained network of any
    framework from `path_kernel.dense(x, x, gates, gates)`, `convolutional` or `residual`, with
    `gates = path_gates(f, params, x)`.

    Args:
        f, params, x: the same arguments as in `gates`. f must not contain max-pools, which choose among paths and do
            not gate them. The kernels read convolutions with channels last.

    Returns:
        An array for each gated layer, in the order of computation: shape (batch, width) or (batch, *space, channels).

    Raises:
        NotImplementedError: if f takes a maximum of several neurons; if a neuron has several activations, or the gate
            of another neuron.
        TypeError, ValueError: if `gates` would raise one; if f has no gates.

    >>> f = lambda W, x: jax.nn.leaky_relu(x @ W, 0.25)
    >>> path_gates(f, jnp.eye(2), jnp.asarray([[1.0, -1.0]]))[0].tolist()
    [[1.0, 0.25]]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), neural path features; slopes instead of gates are ours.
    """
    neurons, x = read(f, params, x)
    neurons.check_real("path_gates")
    if not neurons.hidden:
        raise neurons.no_gates("path_gates")
    if neurons.winners:
        name = next(iter(neurons.winners))
        raise NotImplementedError(
            f"{name}: a maximum chooses among neurons, but paths go through gates only. Use average pools."
        )
    return [where_known(x, _slope(neurons, name, params, x)) for name in neurons.hidden]


def _slope(neurons: Neurons, name: str, params: PyTree, x: Array) -> Array:
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
        raise NotImplementedError(f"{name}: is inside a scan; write the layers out for path kernels.")
    leaving = {n for n in elementwise_results(value, facts)[1] if jnp.issubdtype(graph.avals[n].dtype, jnp.inexact)}
    if len(leaving) != 1 or value in leaving:
        raise NotImplementedError(
            f"{name}: path gates are those of neurons that go on by one activation of their own; this one goes on as "
            f"{len(leaving)} values, {'itself' if value in leaving else 'not itself'} among them. Of a gated network "
            "take gated.gates."
        )
    return leaving.pop()
