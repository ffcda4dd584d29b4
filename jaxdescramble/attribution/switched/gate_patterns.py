"""A hidden layer's activity as patterns of the input, and the effect of each neuron on an output."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PyTree

from jaxdescramble._base import results
from jaxdescramble._base.checks import in_order, positive_integer
from jaxdescramble.attribution._targets import targets
from jaxdescramble.attribution.switched._neurons import OUTPUT, read
from jaxdescramble.attribution.switched.projections import to_root
from jaxdescramble.networks.obstacles import refuse_integers
from jaxdescramble.networks.tracing import Function


class Patterns(NamedTuple):
    """The n neurons of one layer at each input.

    Attributes:
        weight: w_i, each neuron's switched projection.
        value: v_i, its preactivation.
        active: whether v_i is above the neuron's lowest edge.
        effect: g_i, the slope of the target in v_i along the piece: 0 where the gate is closed.
        rest: the part of the target that does not come through these neurons, `f_t - sum_i g_i v_i`.
        bypass: the part of the target's projection that does not come through them, `w_t - sum_i g_i w_i`.
    """

    weight: Float[Array, "batch n *features"]
    value: Float[Array, "batch n"]
    active: Bool[Array, "batch n"]
    effect: Float[Array, "batch n"]
    rest: Float[Array, " batch"]
    bypass: Float[Array, "batch *features"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict

    @property
    def contribution(self) -> Float[Array, "batch n"]:
        """What each neuron adds to the target, `g_i v_i`."""
        return self.effect * self.value

    @property
    def sensitivity(self) -> Float[Array, "batch n *features"]:
        """`omega_i = (v_i / |w_i|^2) w_i`, the part of the input behind the neuron's value; zero where w_i is zero."""
        return to_root(self.value, self.weight)


def patterns(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    layer: str,
    target: ArrayLike | None = None,
    *,
    neurons: Sequence[int] | None = None,
    chunk_size: int | None = None,
) -> Patterns:
    """Return every neuron of a layer, active or not, as a pattern of the input, with its effect on an output.

    `v_i = <w_i, x> + b_i`, `f_t = sum_i g_i v_i + rest`, `w_t = sum_i g_i w_i + bypass`

    x sets every gate. If no branch goes around the layer, bypass is zero: the projection of the output is a sum of
    projections of the neurons. An inactive neuron adds nothing to it, but it has a pattern: the part of x that keeps it
    inactive. `insens` is the mean of these patterns over all layers.

    Args:
        f, params, x: the same arguments as in `project`; f returns the shape (batch, classes) or (batch,).
        layer: name of the layer, from `gates`.
        target: the output to explain: one integer, or one integer for each sample; None means the largest output of
            each sample.
        neurons: flat indices of the neurons; None means all. rest and bypass include the other neurons.
        chunk_size: how many neurons are computed at a time; None means all of them.

    Raises:
        NotImplementedError: if `project` would raise it; if the layer is inside a scan, whose steps share a name.
        TypeError, ValueError: if `project` would raise one; if an index or a target is out of range.

    >>> f = lambda W, x: jax.nn.relu(x @ W[0]) @ W[1]
    >>> W = jnp.asarray([[1.0, 0.0], [1.0, 1.0]]), jnp.asarray([[2.0], [3.0]])
    >>> found = patterns(f, W, jnp.asarray([[1.0, -0.5]]), "[0]")
    >>> found.active.tolist(), found.effect.tolist(), found.weight[0, 0].tolist()
    ([[True, False]], [[2.0, 0.0]], [1.0, 1.0])

    Source: switched projections of Szymanski, McCane, Atkinson 2019 (arXiv 1909.11275); the decomposition is ours.
    """
    if not isinstance(layer, str):
        raise TypeError(f"layer: expected a name, as gates gives it, got {layer!r}.")
    refuse_integers(f, params, x)
    x, chosen_output = targets(f, params, x, target)
    network, x = read(f, params, x)
    value = network.value(layer)
    if network.facts.loops.get(value):
        raise NotImplementedError(f"layer: {layer!r} stands inside a scan; project its neurons one by one.")
    if chunk_size is not None:
        chunk_size = positive_integer(chunk_size, "chunk_size")
    pieces = network.follow(params, x, {network.x: x}, [layer])
    real = pieces.real[value]
    v = network.arranged(layer, real)
    size = math.prod(v.shape[1:])
    chosen = _chosen(neurons, layer, size)

    def of_neurons(z: Array) -> Array:
        """Return the layer for an input on the piece."""
        moved = network.follow(params, x, {network.x: z}, [layer]).moved[value]
        return network.arranged(layer, moved).reshape(len(x), size)

    def of_target(z: Array, place: int) -> Array:
        """Return the target for other numbers of a value on the piece."""
        moved = network.follow(params, x, {place: z}, [OUTPUT]).moved[network.value(OUTPUT)]
        return jnp.take_along_axis(moved.reshape(len(x), -1), chosen_output[:, None], axis=1)[:, 0]

    def slope(z: Array, place: int) -> Array:
        return jax.grad(lambda z: jnp.sum(of_target(z, place)))(z)

    pull = jax.linear_transpose(jax.linearize(of_neurons, x)[1], x)

    def one(i: Array) -> Array:
        return pull(jnp.zeros((len(x), size), v.dtype).at[:, i].set(1))[0]

    together = min(chunk_size or size, len(chosen))
    # One chunk needs no loop: inside one, gradients of convolutions take ten times as long on a CPU.
    rows = jax.vmap(one)(chosen) if together == len(chosen) else jax.lax.map(one, chosen, batch_size=together)
    weight = jnp.moveaxis(rows, 0, 1)
    above = jnp.broadcast_to(v > network.lowest(layer, pieces), v.shape)
    slopes = network.arranged(layer, slope(real, value))
    effect, flat, active = (one.reshape(len(x), size)[:, chosen] for one in (slopes, v, above))
    rest = of_target(real, value) - jnp.sum(effect * flat, axis=1)
    through = jnp.einsum("bn,bn...->b...", effect, weight, precision=jax.lax.Precision.HIGHEST)
    return Patterns(weight, flat, active, effect, rest, slope(x, network.x) - through)


def _chosen(neurons: Sequence[int] | None, layer: str, size: int) -> Array:
    if neurons is None:
        return jnp.arange(size)
    chosen = np.asarray(in_order(neurons, "neurons", f"a list of flat indices of {layer!r}"), object)
    if all(hasattr(index, "__index__") and np.ndim(index) == 0 for index in chosen.ravel()):
        chosen = np.asarray([positive_integer(index, "neurons", least=0) for index in chosen.ravel()], int)
    if chosen.ndim != 1 or chosen.size == 0 or not np.issubdtype(chosen.dtype, np.integer):
        raise TypeError(f"neurons: got {neurons!r}; expected a list of flat indices of {layer!r}.")
    if chosen.min() < 0 or chosen.max() >= size:
        raise ValueError(f"neurons: got {neurons!r}; {layer!r} has {size} neurons, 0 to {size - 1}.")
    return jnp.asarray(chosen)
