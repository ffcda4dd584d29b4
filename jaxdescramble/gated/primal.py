"""Primal weights: the linear map from the input to every preactivation of a deep linearly gated network."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base import results
from jaxdescramble.gated.networks import Params, noted
from jaxdescramble.gated.spec import Spec, checked, layers_of


class PrimalWeight(NamedTuple):
    """The map `q = weight x + bias`, where x and the units of a layer are flattened. A layer without biases has 0."""

    weight: Float[Array, "units inputs"]
    bias: Float[Array, " units"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def primal_weights(params: Params, spec: Spec) -> list[PrimalWeight]:
    """Return the linear maps from x to the preactivations of a "dlgn" or "dlgn-sf": `V_l ... V_1` and their offsets.

    Use it to see which direction of x each gate looks at. The function runs the whole feature network, without biases,
    on the unit vectors. The maps are therefore exact also at zero-padded borders, where a product of convolutions is
    not a convolution.

    Args:
        params: parameters from `init`.
        spec: a spec of kind "dlgn" or "dlgn-sf".

    Returns:
        A list with one `PrimalWeight` for each gated layer, in the order in which the values pass them: weight (units,
        inputs) and bias (units,). Convolutions are flattened in the order of `gates(...).reshape(batch, -1)`.

    Raises:
        ValueError: if the kind is "dnn" or "dgn", whose preactivations are not linear in x; if params do not match the
            spec.

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
            f"spec: got kind {spec.kind!r}; must be 'dlgn' or 'dlgn-sf', because only their preactivations are linear "
            "in x. For the weight of any neuron at one input, use attribution.switched.project."
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
