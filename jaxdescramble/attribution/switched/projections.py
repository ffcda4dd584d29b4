"""Switched linear projections: the affine map of a neuron at an input."""

import math
import operator
from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxdescramble._base import results
from jaxdescramble._base.cautions import caution
from jaxdescramble._base.checks import true_or_false
from jaxdescramble.attribution.switched._neurons import OUTPUT, Neurons, read, where_known
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.obstacles import curved_operations, listed, obstacle_behind
from jaxdescramble.networks.tracing import Function

Name = tuple[str, int | tuple[int, ...] | None] | int


class Projection(NamedTuple):
    """`v = <weight, x> + bias`, sample by sample; with the axes of the neurons if all of a layer were asked for."""

    weight: Float[Array, "batch *neurons_and_features"]
    bias: Float[Array, "batch *neurons"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


class Centre(NamedTuple):
    """The nearest input at which a neuron's piece is zero, and the shares of the inputs in its value.

    Attributes:
        centre: the nearest root `x - omega` of the active piece.
        sensitivity: `omega = (v / |w|^2) w`, zero where w is.
        contributions: `omega_j w_j = v w_j^2 / |w|^2`: shares of v, all of its sign.
        value: v, shape (batch,), or (batch, *neurons).
    """

    centre: Float[Array, "batch *neurons_and_features"]
    sensitivity: Float[Array, "batch *neurons_and_features"]
    contributions: Float[Array, "batch *neurons_and_features"]
    value: Float[Array, "batch *neurons"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def project(f: Function, params: PyTree, x: ArrayLike, neuron: Name, *, jacobian: bool = False) -> Projection:
    """Return the affine map of a neuron, with every gate before it as x sets it.

    `v_i(x) = <w, x> + b`, `w = W_1 M_1 W_2 ... M_(l-1) w_i`, with M the slopes of the gates at x. The neuron's own gate
    is not applied. b is the value of this map at zero.

    Args:
        f: a function `f(params, x)`, made of piecewise-linear operations of JAX: linear and convolutional layers, batch
            norm in inference form, sums of branches, average pools; relu, leaky_relu, relu6, hard_tanh, abs, clip,
            `where` of a comparison with a constant, maxima, max-pools. On a tie with its constant, relu takes the
            constant; a max-pool takes the first of its window.
        params: parameters of f.
        x: the samples, shape (batch, ...); f must treat each sample by itself.
        neuron: a pair (layer, index): the name of the layer, from `gates` or "output", and the index into the neurons
            of one sample, flat or a tuple; None means all of them. A number alone is an index into the output.
        jacobian: whether f may also be smooth (sigmoid, tanh, GELU, softmax, attention). Then the map is the
            first-order expansion at x, `v(z) ~ J (z - x) + v(x)`: w is the row of the Jacobian J and `b = v(x) - J x`.
            It is exact at x only. J is the derivative of the values that f computes: a `custom_vjp` or a
            `stop_gradient` does not change it. Every linear layer has neurons then, under the name that `wiretap` gives
            it: its preactivations. If f is piecewise linear, the result is the same as without it.

    Returns:
        The weight, in the shape of x, and the bias, shape (batch,). With the index None, the axes of the neurons
        follow the batch: (batch, *neurons, *features) and (batch, *neurons).

    Raises:
        NotImplementedError: if an operation before the neuron is not piecewise linear; the message names it with its
            line. With `jacobian`, only if it cannot be differentiated (`while`, callbacks).
        TypeError, ValueError: if x is not an array of real numbers, or a name or an index is unknown; if the neuron is
            not a real number.

    >>> f = lambda W, x: jax.nn.relu(x @ W[0]) @ W[1]
    >>> W = jnp.asarray([[1.0, 0.0], [0.0, 1.0]]), jnp.asarray([[2.0], [3.0]])
    >>> w, b = project(f, W, jnp.asarray([[1.0, -1.0]]), 0)  # the second hidden neuron is inactive
    >>> w.tolist(), b.tolist()
    ([[2.0, 0.0]], [0.0])

    A sigmoid has slope 1/4 and value 1/2 at zero:

    >>> g = lambda W, x: jax.nn.sigmoid(x @ W)
    >>> w, b = project(g, jnp.asarray([[4.0], [8.0]]), jnp.asarray([[2.0, -1.0]]), ("output", None), jacobian=True)
    >>> w.tolist(), b.tolist()
    ([[[1.0, 2.0]]], [[0.5]])

    Source: Szymanski, McCane, Atkinson 2019 (arXiv 1909.11275), switched linear projections. Jacobians of smooth
    networks: Sule, Spencer, Czaja 2025 (arXiv 2301.07820) descramble them.
    """
    tangents = true_or_false(jacobian, "jacobian")
    neurons, x = read(f, params, x)
    neurons = neurons.with_tangents() if tangents else neurons
    name, index = _index(neurons, neuron)
    number = neurons.value(name)
    if not jnp.issubdtype(neurons.graph.avals[number].dtype, jnp.floating):
        raise TypeError(f"neuron: {name!r} is of type {neurons.graph.avals[number].dtype}; must be real numbers.")

    def value(z: Array) -> Array:
        moved = neurons.follow(params, x, {neurons.x: z}, [name]).moved[number]
        return neurons.arranged(name, moved)[(slice(None), *index)]

    bias = value(jnp.zeros_like(x))
    weight = jax.grad(lambda z: jnp.sum(value(z)))(x) if bias.ndim == 1 else _rows(value, x, bias)
    return Projection(where_known(x, weight), where_known(x, bias))


def _rows(value: Callable[[Array], Array], x: Array, bias: Array) -> Array:
    """Return the weights of all neurons of a layer, from the transpose of the affine map."""
    pull = jax.linear_transpose(jax.linearize(value, x)[1], x)
    shape, size = bias.shape[1:], math.prod(bias.shape[1:])

    def one(i: Array) -> Array:
        return pull(jnp.zeros((len(x), size), bias.dtype).at[:, i].set(1).reshape(bias.shape))[0]

    rows = jax.vmap(one, out_axes=1)(jnp.arange(size))
    return rows.reshape((len(x), *shape, *x.shape[1:]))


def centre(f: Function, params: PyTree, x: ArrayLike, neuron: Name) -> Centre:
    """Return the nearest input at which a neuron's active piece is zero, and its difference from x.

    `c = x - omega`, `omega = (v / |w|^2) w`. The contributions `(x_j - c_j) w_j = v w_j^2 / |w|^2` add up to v: they
    share v among the inputs, but they are not what each input adds. Where w = 0, omega is 0.

    Arguments and errors are those of `project`.

    >>> f = lambda W, x: x @ W
    >>> found = centre(f, jnp.asarray([[3.0], [4.0]]), jnp.asarray([[1.0, 1.0]]), 0)
    >>> [round(float(c), 4) for c in found.contributions[0]], found.value.tolist()
    ([2.52, 4.48], [7.0])

    Source: Szymanski, McCane, Atkinson 2019 (arXiv 1909.11275), switched centres.
    """
    weight, bias = project(f, params, x, neuron)
    x = jnp.asarray(x)
    x = jnp.expand_dims(x, tuple(range(1, bias.ndim)))
    value = jnp.sum(weight * x, axis=tuple(range(bias.ndim, weight.ndim))) + bias
    omega = to_root(value, weight)
    return Centre(x - omega, omega, omega * weight, value)


def to_root(value: Float[Array, "*neurons"], weight: Float[Array, "*neurons_and_features"]) -> Array:
    """Return `omega = (v / |w|^2) w`, from the root of an affine map to x; zero where w is zero."""
    axes = tuple(range(value.ndim, weight.ndim))
    square = jnp.sum(weight**2, axis=axes)
    scale = jnp.where(square > 0, value / jnp.where(square > 0, square, 1), 0)
    return jnp.expand_dims(scale, axes) * weight


def gates(f: Function, params: PyTree, x: ArrayLike) -> dict[str, Int[Array, "batch *neurons"]]:
    """Return the piece that each neuron is on, and the operand that each maximum took.

    A neuron is the value that a gate decides on. If a max-pool stands between the two, it is the value before the pool.
    Its name is the parameter of the last layer before it. Its piece is the number of the gate's edges that are less
    than the preactivation. A tie counts as below, also for leaky_relu, whose own piece at a tie is the upper one. Piece
    0 is *inactive*: at or below 0 for relu, leaky_relu, relu6 and abs, at or below -1 for hard_tanh.

    Arguments and errors are those of `project`. Gates behind an operation that is not piecewise linear are left out,
    with a warning. A network without other gates, such as one with GELU, raises `ValueError` or `NotImplementedError`.
    A linear network has no gates and gives {}.

    Returns:
        An array of shape (batch, ...) for each neuron's name. For maxima, the name is `name winner`, and the array says
        which value won, the first on a tie: its place among the values of the sample (max-pools), its place along the
        axes that were reduced, or the number of the operand.

    >>> f = lambda W, x: jax.nn.relu(x @ W)
    >>> gates(f, jnp.eye(2), jnp.asarray([[1.0, -1.0]]))["params"].tolist()
    [[1, 0]]

    Source: Szymanski, McCane, Atkinson 2019 (arXiv 1909.11275).
    """
    neurons, x = read(f, params, x)
    neurons.check_real("gates")
    blocked = [obstacle_behind(neurons.graph, neurons.facts, operation) for operation in neurons.blocked.values()]
    if not neurons.hidden and not neurons.winners:
        if blocked:
            raise neurons.unsupported("every gate", blocked[0])
        if curved_operations(neurons.graph, neurons.facts):
            raise neurons.no_gates("gates")
    if blocked:
        caution(
            f"gates: some gates of f are left out: they depend on x by way of {listed(*dict.fromkeys(blocked))}, "
            "which is not piecewise linear."
        )
    pieces = neurons.follow(params, x, {neurons.x: x}, neurons.hidden)
    found = {name: neurons.piece(name, pieces) for name in neurons.hidden}
    for name, number in neurons.winners.items():
        winner, loops = pieces.winners[number], len(neurons.facts.loops.get(number, ()))
        maker = neurons.facts.makers[number]
        if kind_of(maker).chooses_anywhere:
            winner = _within_sample(neurons, maker.inputs[0], winner)
        place = loops + neurons.batch_axes.get(number, 0)
        found[name] = jnp.moveaxis(winner, place, 0) if winner.ndim > place else winner
    return found


def _within_sample(neurons: Neurons, value: int, place: Array) -> Array:
    """Return the place within a sample for a place among all of a value's numbers."""
    shape, batch = neurons.graph.shape(value), neurons.batch_axes.get(value, 0)
    if not shape:
        return place
    after = int(np.prod(shape[batch + 1 :]))
    return place // (after * shape[batch]) * after + place % after


def _integer(value: object) -> int | None:
    """Return an integer of any library as an int, and None for everything else."""
    try:
        return operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None
    except (TypeError, ValueError):
        return None


def _index(neurons: Neurons, neuron: Name) -> tuple[str, tuple[int, ...]]:
    output = _integer(neuron)
    if output is not None:
        neuron = (OUTPUT, output)
    if not (isinstance(neuron, tuple) and len(neuron) == 2 and isinstance(neuron[0], str)):
        raise TypeError(f"neuron: got {neuron!r}; expected (layer, index), or the index of an output.")
    name, index = neuron
    index = operator.index(index) if isinstance(index, SupportsIndex) else index
    value = neurons.value(name)
    loops = len(neurons.facts.loops.get(value, ()))
    # Raises the error for a value without a batch.
    jax.eval_shape(lambda: neurons.arranged(name, jnp.zeros((1,) * loops + neurons.graph.shape(value))))
    steps = tuple(operation.params["length"] for operation in neurons.facts.loops.get(value, ()))
    shape = (*steps, *neurons.shape(value))
    size = int(np.prod(shape))
    if index is None:
        return name, ()
    if isinstance(index, int):
        if not 0 <= index < size:
            raise ValueError(f"neuron: index {index} of {name!r}, which has {size} neurons, 0 to {size - 1}.")
        return name, tuple(int(i) for i in np.unravel_index(int(index), shape))
    if not isinstance(index, tuple | list) or not all(hasattr(i, "__index__") and np.ndim(i) == 0 for i in index):
        raise TypeError(f"neuron: got the index {index!r} of {name!r}; expected an integer, a tuple of them, or None.")
    index = tuple(operator.index(i) for i in index)
    if len(index) != len(shape) or not all(0 <= i < size for i, size in zip(index, shape, strict=True)):
        raise ValueError(f"neuron: index {index} of {name!r}, whose neurons have shape {shape}.")
    return name, index
