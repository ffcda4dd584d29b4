"""Primal weights: the linear map from the input to every preactivation of a deep linearly gated network."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import results
from jaxdescramble.gated.networks import Params, noted
from jaxdescramble.gated.spec import Spec, checked, layers_of


class PrimalWeight(NamedTuple):
    """`q = weight x + bias`, x and the units of a layer laid flat; the bias is zero where layers have none."""

    weight: Float[Array, "units inputs"]
    bias: Float[Array, " units"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def primal_weights(params: Params, spec: Spec) -> list[PrimalWeight]:
    """The linear maps that the gates of a "dlgn" or "dlgn-sf" decide on: `V_l ... V_1` and their offsets.

    The whole feature network is run on the unit vectors, without its biases: these are the maps as they are applied,
    also at zero-padded borders, where no single kernel is the product of several.

    Args:
        params: as `init` makes them.
        spec: a "dlgn" or "dlgn-sf".

    Returns:
        For every gated layer, in the order in which the values go through them, the weight (units, inputs) and the
        bias (units,). Convolutions are laid flat in the order of `gates(...).reshape(batch, -1)`.

    Raises:
        ValueError: a dnn or dgn, whose preactivations are not linear in x; params that do not fit the spec.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> params = init(jax.random.key(0), spec)
    >>> first, second = (layer["weight"] for layer in params["features"])
    >>> bool(jnp.allclose(primal_weights(params, spec)[1].weight, second @ first, atol=1e-6))
    True

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), primal linearity.
    """
    if checked(spec).kind not in ("dlgn", "dlgn-sf"):
        raise ValueError(
            f"spec: its kind is {spec.kind!r}; preactivations of a {spec.kind} are not linear in x, so they have no "
            "primal weights. At one input, switched.project gives the weight of any neuron."
        )
    layers = layers_of(params, "features", spec)
    bare = [{"weight": layer["weight"]} for layer in layers]
    shape, dtype = spec.architecture.input_shape, layers[0]["weight"].dtype
    zero = jnp.zeros((1, *shape), dtype)
    basis = jnp.eye(zero.size, dtype=dtype).reshape(-1, *shape)
    maps, offsets = noted(bare, basis, spec), noted(layers, zero, spec)
    found = [
        PrimalWeight(q.reshape(len(basis), -1).T, at_zero.ravel()) for q, at_zero in zip(maps, offsets, strict=True)
    ]
    return [found[i] for i in spec.order] if spec.order is not None else found
