"""Initial weights: scales that keep the size of the signal, and keys that keep features and values apart."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, PRNGKeyArray

from jaxdescramble._base.checks import floating_type, in_order, number_between, one_of, random_key
from jaxdescramble.gated.spec import Spec, checked, weight_shapes

Params = dict[str, tuple[dict[str, Array], ...]]
DISTRIBUTIONS = ("normal", "bernoulli")


def scales(spec: Spec) -> dict[str, tuple[float, ...]]:
    """Standard deviations of initial weights, layer by layer, that keep the mean square of what goes through.

    `sigma = sqrt(2 / fan_in)` where a gate follows that is open for one half of the inputs, `sqrt(1 / fan_in)` where
    none does: the output layer, and all layers of linear features. So with ones as input the mean of f^2 over weights
    is 1, whatever the depth, and linear preactivations are of the size of x, for which the steepness of soft gates is
    meant. What averages over space take away is not made up for.

    The b blocks of a residual network add B(h) to h, uncorrelated where gates know nothing of the values: the last
    layer of each is scaled by `1 / sqrt(b)`, and the mean square grows by `(1 + 1/b)^b < e`. Two exceptions: what ReLUs
    have passed is all positive, and in a dnn and the features of a dgn `1 / b` is needed if B ends in a gate; and
    nothing is in a dlgn-sf with gates after the additions, whose halves are independent (in a dlgn they are much the
    same from block to block, and halve but once). Of all kinds, with 6 and 24 blocks, mean squares were .6 to 2.9.

    Args:
        spec: the network.

    Returns:
        "values" and, unless it is a dnn, "features": one number for each weight, as in `init`.

    >>> from jaxdescramble.gated import FullyConnected
    >>> scales(Spec(FullyConnected(8, (2,), 1)))
    {'features': (0.353...,), 'values': (0.5, 0.707...)}

    Source: He et al. 2015 (arXiv 1502.01852), equation 10, for half-open gates.
    """
    net, found = checked(spec).architecture, {}
    for name, shapes in weight_shapes(spec).items():
        is_relu = (name, spec.kind) in (("values", "dnn"), ("features", "dgn"))
        is_gated = is_relu or name == "values"
        gains = [math.sqrt(2.0) if is_gated else 1.0] * len(shapes)
        if name == "values":
            gains[-1] = 1.0
        if name == "values" or spec.kind != "dlgn-sf":  # shallow features have no branches
            for end in net.branch_ends:
                gains[end] = math.sqrt(2.0) if is_gated and net.gate_before else 1.0
                if is_relu and net.gate_before:
                    gains[end] /= len(net.branch_ends)
                elif not (name == "values" and net.gate_after and spec.kind == "dlgn-sf"):
                    gains[end] /= math.sqrt(len(net.branch_ends))
        found[name] = tuple(gain / math.sqrt(math.prod(of[1:])) for gain, of in zip(gains, shapes, strict=True))
    return found


def init(
    key: PRNGKeyArray,
    spec: Spec,
    *,
    scale: ArrayLike | Sequence[ArrayLike] | None = None,
    distribution: str = "normal",
    bias_scale: ArrayLike = 0.0,
    dtype: DTypeLike = float,
) -> Params:
    """Random weights: those of features and of values from keys of their own.

    For one key the features of a "dgn" are the layers of the "dnn", and values are, up to their scale, the same for
    every kind that has features: random and trained gates can be compared on one draw of values, independent of both.

    Args:
        key: source of chance.
        spec: the network.
        scale: standard deviation of the weights of the values, one number or one for each layer; None for `scales`.
            Features always have theirs from `scales`.
        distribution: "normal", or "bernoulli" for plus or minus sigma, with which kernels fluctuate least.
        bias_scale: standard deviation of all biases, if the architecture has any.
        dtype: floating type.

    Returns:
        `{"features": layers, "values": layers}`, a dnn without the first. A layer is `{"weight": (out, in)}` or
        (out, in, *window), with "bias" (out,) if there are any; the last layer of values is the output's.

    Raises:
        TypeError, ValueError: no key, no spec; an unknown distribution; scales of another number than there are layers.

    >>> from jaxdescramble.gated import FullyConnected
    >>> params = init(jax.random.key(0), Spec(FullyConnected(5, (4, 3), 2)))
    >>> [layer["weight"].shape for layer in params["values"]]
    [(4, 5), (3, 4), (2, 3)]
    """
    one_of(distribution, "distribution", DISTRIBUTIONS)
    shapes, sigmas = weight_shapes(spec), dict[str, Any](scales(spec))
    if scale is not None:
        count = len(shapes["values"])
        several = isinstance(scale, list | tuple) or getattr(scale, "ndim", 0) == 1
        each = in_order(scale, "scale", "numbers") if several else [scale] * count
        sigmas["values"] = [_deviation(one, "scale") for one in each]
        if len(sigmas["values"]) != count:
            raise ValueError(f"scale: got {len(sigmas['values'])} numbers for the {count} layers of the values.")
    dtype, bias_scale = floating_type(dtype, half=True), _deviation(bias_scale, "bias_scale")
    for_gates, for_values = jax.random.split(random_key(key))
    # The one network of a dnn takes the key of the gates: values made with the key of a trained dnn are fresh.
    keys = {"features": for_gates, "values": for_gates if spec.kind == "dnn" else for_values}

    def layer(key: Array, shape: tuple[int, ...], sigma: Any) -> dict[str, Array]:
        for_weight, for_bias = jax.random.split(key)
        draw = jax.random.normal if distribution == "normal" else jax.random.rademacher
        found = {"weight": jnp.asarray(sigma, dtype) * draw(for_weight, shape, dtype)}
        if spec.architecture.biases:
            found["bias"] = jnp.asarray(bias_scale, dtype) * draw(for_bias, shape[:1], dtype)
        return found

    return {
        name: tuple(
            layer(jax.random.fold_in(keys[name], i), shape, sigma)
            for i, (shape, sigma) in enumerate(zip(shapes[name], sigmas[name], strict=True))
        )
        for name in shapes
    }


def _deviation(value: Any, name: str) -> ArrayLike:
    return number_between(value, name, 0, math.inf, "a standard deviation, at least 0", ends=True)
