"""Neural path kernels in closed form, and the neural tangent kernel that they have in expectation.

Gates are a list, one array for each gated layer: (batch, width), or (batch, *space, channels) for a convolution; any
real numbers, or bool and integers, which stay as small as they are until they are multiplied.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import (
    a_function,
    in_order,
    is_traced,
    numbers,
    one_of,
    positive_integer,
    real_array,
    true_or_false,
)
from jaxdescramble.gated.path_kernel._moments import Walk, moment
from jaxdescramble.gated.path_kernel.layers import (
    Convolution,
    Dense,
    Gate,
    Layers,
    Skip,
    checked_layers,
    count,
    sizes,
    skipping,
    stacked,
)

Gates = Sequence[ArrayLike]
Variances = ArrayLike | Sequence[float]
NORMALISATIONS = ("none", "width", "cosine", "log")


def dense(
    x1: ArrayLike,
    x2: ArrayLike,
    gates1: Gates,
    gates2: Gates,
    normalise: str = "width",
    variances: Variances | None = None,
    bias_variances: Variances | None = None,
) -> Float[Array, "n1 n2"]:
    """The neural path kernel of a fully connected network, or `E[f f']` over its weights.

    `NPK = Sigma * Lambda_1 * ... * Lambda_(d-1)` entry by entry, `Sigma = X1 X2^T`, `Lambda_l = G1_l G2_l^T`. With
    variances, `H_0 = Sigma`, `H_l = (sigma_l^2 H_(l-1) + beta_l^2) * Lambda_l`, the last without a Lambda.

    Args:
        x1, x2: value inputs, (n1, features) and (n2, features): the data, all ones, or any other.
        gates1, gates2: for each hidden layer (n1, width) and (n2, width).
        normalise: "none" for the sums as they are, which leave the range of float32 after a dozen wide layers; "width"
            for `Lambda_l / width_l`; "cosine" for `K(x, x') / sqrt(K(x, x) K(x', x'))`, 0 where K(x, x) is; "log" for
            the logarithm of what "none" is, in range at any depth.
        variances: sigma^2, one number or one for each of the d weights; None for ones, the kernel itself.
        bias_variances: beta^2, likewise; None for a network without biases. The kernel itself has ones.

    Returns:
        (n1, n2), of the type of x1 and x2. "log" is -inf where the kernel is zero, and inside `jit` NaN where it is
        negative.

    Raises:
        ValueError: shapes that do not fit, an unknown normalisation, the logarithm of a negative kernel.
        TypeError: what are no real numbers.

    >>> x, gates = jnp.asarray([[1.0, 2.0], [3.0, 0.0]]), [jnp.asarray([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])]
    >>> dense(x, x, gates, gates, normalise="none").tolist()
    [[10.0, 3.0], [3.0, 18.0]]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529); with biases, derived here.
    """
    layers = stacked(0, len(_several(gates1)))
    return network(layers, x1, x2, gates1, gates2, normalise, variances, bias_variances)


def convolutional(
    x1: ArrayLike,
    x2: ArrayLike,
    gates1: Gates,
    gates2: Gates,
    normalise: str = "width",
    window: int | Sequence[int] = 3,
    padding: str = "circular",
    pooling: Sequence[int] = (),
    head: str = "average",
    variances: Variances | None = None,
    bias_variances: Variances | None = None,
) -> Float[Array, "n1 n2"]:
    """The neural path kernel of a convolutional network with average pools and gated dense layers after them.

    `K_0[i, j] = <x_i, x'_j>`, `K_l[i, j] = <G_l(i), G'_l(j)> sum_t K_(l-1)[i + t, j + t]` at pairs of positions; the
    average `D^-2 sum_ij K[i, j]` (or, laid flat, `sum_i K[i, i]`); then the dense layers as in `dense`. Time and memory
    go as the square of the number of positions, for each pair of samples.

    With circular padding, no pools and the average it does not change when one of the samples is shifted, gates and
    all.

    Args:
        x1, x2: (n1, *space, channels) and (n2, *space, channels), one axis of space or more.
        gates1, gates2: first those of convolutions, (n, *space, channels), then those of dense layers, (n, width).
        normalise: as for `dense`; "width" also divides by the window's size, and, laid flat, by D.
        window: of all convolutions, along every axis of space or each.
        padding: "circular" or "zero".
        pooling: for each convolution the factor of an average pool after its gate, 1 for none; () for none at all.
        head: "average" over all positions, or "flatten".
        variances, bias_variances: as for `dense`.

    Returns, raises: as `dense`.

    >>> x = jnp.asarray([[[1.0], [2.0], [0.0], [0.0]]])
    >>> turned = jnp.roll(x, 1, axis=1)
    >>> same = convolutional(x, turned, [x], [turned]) - convolutional(x, x, [x], [x])
    >>> float(same[0, 0])
    0.0

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), convolutions with global pooling; zero padding, pools
    and dense layers, derived here.
    """
    x1 = real_array(x1, "x1", range(3, 9), "(batch, *space, channels)")
    convolutions = sum(numbers(gate, f"gates1[{i}]").ndim > 2 for i, gate in enumerate(_several(gates1)))
    layers = stacked(convolutions, len(gates1) - convolutions, _window(window, x1.ndim - 2), padding, pooling, head)
    return network(layers, x1, x2, gates1, gates2, normalise, variances, bias_variances)


def residual(
    x1: ArrayLike,
    x2: ArrayLike,
    gates1: Gates,
    gates2: Gates,
    normalise: str = "width",
    depth: int = 1,
    gate_after: bool = False,
    window: int | Sequence[int] = 3,
    padding: str = "circular",
    head: str = "average",
    variances: Variances | None = None,
    bias_variances: Variances | None = None,
) -> Float[Array, "n1 n2"]:
    """The neural path kernel of a gated layer, blocks `h + B(h)`, a gated layer and a linear output.

    Without a gate after the addition `Sigma * Lambda_first * prod_i (1 + Lambda_i) * Lambda_last`, `Lambda_i` the
    product over the layers of block i: the sum over all `2^b` networks that leave blocks out.

    With a gate R after each addition units do not stay alike: block k, with G its last gate, makes of the moments of
    unit i `C_i <- R_i R'_i (C_i + G_i G'_i B_k)`, B_k one number for all units. Summed over units that is
    `S_k = sum_(m <= k) B_m * Lambda_(m, k)`, `Lambda_(m, k)` the Gram matrix of `G_m * R_m * ... * R_k`: Gram matrices
    of products of gates, b (b + 3) / 2 of them for b blocks.

    Args:
        x1, x2: (n1, features) and (n2, features), or (n, *space, channels) for convolutions.
        gates1, gates2: first layer, block by block (its layers, then the gate after), last layer.
        normalise: as for `dense`.
        depth: gated layers in a block.
        gate_after: whether there is a gate after each addition too.
        window, padding, head: of convolutions, as for `convolutional`.
        variances, bias_variances: as for `dense`.

    Returns, raises: as `dense`. Other arrangements (branches without a last gate, shortcuts with weights) go through
    `network`.

    >>> x, gates = jnp.ones((1, 1)), [jnp.ones((1, 2))] * 3  # 2 units: Lambda = 2 for each of the three
    >>> float(residual(x, x, gates, gates, normalise="none")[0, 0])  # 2 (1 + 2) 2
    12.0

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), skip connections; gates after them, derived here.
    """
    x1 = real_array(x1, "x1", range(2, 9), "(batch, *space, channels)")
    each = positive_integer(depth, "depth") + true_or_false(gate_after, "gate_after")
    blocks, rest = divmod(len(_several(gates1)) - 2, each)
    if rest or blocks < 0:
        raise ValueError(
            f"gates1, depth: got {len(gates1)}; with depth={depth} and gate_after={gate_after} there are 2 and {each} "
            "for each block."
        )
    layers = skipping(blocks, depth, bool(gate_after), _window(window, x1.ndim - 2), padding, head)
    return network(layers, x1, x2, gates1, gates2, normalise, variances, bias_variances)


def network(
    layers: Layers,
    x1: ArrayLike,
    x2: ArrayLike,
    gates1: Gates,
    gates2: Gates,
    normalise: str = "width",
    variances: Variances | None = None,
    bias_variances: Variances | None = None,
) -> Float[Array, "n1 n2"]:
    """The neural path kernel, or `E[f f']`, of any arrangement of weights, gates, pools and skips.

    Args:
        layers: a tuple of `Dense`, `Convolution`, `Gate`, `Pool`, `Flatten`, `Skip`, the last a `Dense`.
        x1, x2, gates1, gates2, normalise: as for `dense`; gates in the order in which layers meet them.
        variances, bias_variances: as for `dense`, in the order in which layers meet weights.

    Returns, raises: as `dense`.

    >>> block = Skip((Dense(), Gate(), Dense(units=2)))  # of a ResNet: a branch without a gate at its end
    >>> x, gates = jnp.ones((1, 1)), [jnp.ones((1, 2))] * 3
    >>> float(network((Dense(), Gate(), block, Gate(), Dense()), x, x, gates, gates, "none")[0, 0])  # 2 + 2 * 2 * 2
    10.0

    Source: the recursion is in `_moments.py`.
    """
    one_of(normalise, "normalise", NORMALISATIONS)
    layers = checked_layers(layers)
    if not layers or not isinstance(layers[-1], Dense):
        raise ValueError(f"layers: the last is {layers[-1:]}; end with the linear output, Dense().")
    left, right = (real_array(x, name, range(2, 9), "(batch, *space, units)") for x, name in ((x1, "x1"), (x2, "x2")))
    if left.shape[1:] != right.shape[1:]:
        raise ValueError(f"x2: shape {right.shape} does not fit x1, {left.shape}: only the first axes may differ.")
    dtype = jnp.result_type(left, right)
    first, second = _gates(gates1, "gates1", len(left), layers), _gates(gates2, "gates2", len(right), layers)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.shape[1:] != b.shape[1:]:
            raise ValueError(f"gates2: array {i} has shape {b.shape} and that of gates1 {a.shape}.")
    weights = count(layers, Dense, Convolution)
    found = _kernel(
        layers,
        normalise,
        left.astype(dtype),
        right.astype(dtype),
        first,
        second,
        _variances(variances, "variances", weights, dtype),
        _variances(bias_variances, "bias_variances", weights, dtype),
    )
    if normalise == "log" and not is_traced(found):
        wrong = int(np.isnan(np.asarray(found)).sum())
        if wrong:
            raise ValueError(
                f"normalise: {wrong} of {found.size} kernels are negative or not finite, and have no logarithm. Take a "
                "value input without negative numbers (all ones, say), or 'cosine'."
            )
    return found


def expected_ntk(
    kernel: Callable[..., Array],
    x1: ArrayLike,
    x2: ArrayLike,
    gates1: Gates,
    gates2: Gates,
    variances: Variances,
    bias_variances: Variances | None = None,
) -> Float[Array, "n1 n2"]:
    """The neural tangent kernel of the value weights, in expectation over them; exact at any width.

    `E[NTK] = sum_l dP / d sigma_l^2 + sum_l dP / d beta_l^2`, `P(sigma_1^2, ...) = E[f f']` the kernel with variances:
    one derivative in the direction of ones. For `dense` without biases and equal sigma, `d sigma^(2 (d-1)) NPK`.

    True for gates that do not depend on the value weights, and weights that are independent, of mean zero. Between two
    outputs it is zero. Where gates are made of the value weights themselves (a ReLU network; FRNPF-DI) it is not the
    neural tangent kernel.

    Args:
        kernel: `dense`, `convolutional`, `residual`; with options, `functools.partial(residual, depth=2)`; or any
            function with the arguments of `dense`.
        x1, x2, gates1, gates2: what the kernel takes.
        variances: sigma^2, one number or one for each weight.
        bias_variances: likewise of biases, 0 for biases that start at zero; None for a network without.

    Returns:
        (n1, n2).

    Raises:
        As the kernel.

    >>> x, gates = jnp.asarray([[1.0, 2.0]]), [jnp.asarray([[1.0, 1.0, 0.0]])] * 3
    >>> float(expected_ntk(dense, x, x, gates, gates, 0.5)[0, 0])  # 4 / 2^3 * 5 * 2^3
    20.0

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), in the limit of width; exact and for all architectures,
    derived here.
    """
    x1, x2 = (real_array(x, name, range(2, 9), "(batch, *space, units)") for x, name in ((x1, "x1"), (x2, "x2")))
    a_function(kernel, "kernel", "the arguments of path_kernel.dense")
    dtype = jnp.result_type(x1, x2)
    point = [_real(variances, "variances").astype(dtype)]
    point += [] if bias_variances is None else [_real(bias_variances, "bias_variances").astype(dtype)]

    def second_moment(weights: Array, biases: Array | None = None) -> Array:
        return kernel(x1, x2, gates1, gates2, normalise="none", variances=weights, bias_variances=biases)

    return jax.jvp(second_moment, tuple(point), tuple(jnp.ones_like(value) for value in point))[1]


@functools.partial(jax.jit, static_argnames=("layers", "normalise"))
def _kernel(
    layers: Layers,
    normalise: str,
    x1: Array,
    x2: Array,
    gates1: list[Array],
    gates2: list[Array],
    variances: Array | None,
    bias_variances: Array | None,
) -> Array:
    dtype = x1.dtype
    gates1, gates2 = ([gate.astype(dtype) for gate in gates] for gates in (gates1, gates2))
    if normalise == "cosine" and bias_variances is None and not any(isinstance(layer, Skip) for layer in layers):
        # A sample's gates in a layer may be scaled as one: no depth takes K(x, x) out of range.
        gates1, gates2 = ([_unit(gate) for gate in gates] for gates in (gates1, gates2))

    def of(x1, gates1, x2, gates2):
        means, logs = normalise in ("width", "cosine"), normalise == "log"
        walk = Walk(list(zip(gates1, gates2, strict=True)), variances, bias_variances, means, logs)
        return moment(walk, layers, x1, x2)

    found = of(x1, gates1, x2, gates2)
    if normalise == "log":
        return found.logarithm()
    if normalise != "cosine":
        return found.value

    def norm(x, gates):
        x, gates = x[None], [gate[None] for gate in gates]
        return jnp.sqrt(of(x, gates, x, gates).value[0, 0])

    sizes = jax.vmap(norm)(x1, gates1)[:, None] * jax.vmap(norm)(x2, gates2)[None, :]
    return jnp.where(sizes > 0, found.value / jnp.where(sizes > 0, sizes, 1), 0)


def _unit(gate: Array) -> Array:
    """Gates with a mean square of 1 in every sample; none at all stay none."""
    square = jnp.mean(gate**2, axis=tuple(range(1, gate.ndim)), keepdims=True)
    return gate / jnp.sqrt(jnp.where(square > 0, square, 1))


def _gates(gates: Gates, name: str, batch: int, layers: Layers) -> list[Array]:
    wanted, gates = count(layers, Gate), _several(gates, name)
    if len(gates) != wanted:
        raise ValueError(
            f"{name}: got {len(gates)} arrays for {wanted} gated layers; gates1 and gates2 have one for each."
        )
    found = []
    for i, gate in enumerate(gates):
        array = numbers(gate, f"{name}[{i}]")
        if not (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.integer)):
            array = real_array(array, f"{name}[{i}]", range(2, 9), "(batch, *space, units)")
        if array.ndim < 2 or len(array) != batch:
            raise ValueError(
                f"{name}: array {i} has shape {array.shape}; expected (batch, *space, units) with the {batch} samples "
                f"of x{name[-1]}."
            )
        found.append(array)
    return found


def _several(gates: Any, name: str = "gates1") -> list[Any]:
    return in_order(gates, name, "a list of arrays, one for each gated layer")


def _real(value: Variances, name: str) -> Array:
    array = numbers(value, name)
    if jnp.iscomplexobj(array) or array.dtype == bool:
        raise TypeError(f"{name}: got {array.dtype}; expected real numbers.")
    return array


def _variances(value: Variances | None, name: str, weights: int, dtype: jnp.dtype) -> Array | None:
    if value is None:
        return None
    array = _real(value, name).astype(dtype)
    if array.shape not in ((), (weights,)):
        raise ValueError(f"{name}: shape {array.shape}; give one number, or one for each of the {weights} weights.")
    if not is_traced(array) and not ((np.asarray(array) >= 0) & np.isfinite(np.asarray(array))).all():
        raise ValueError(f"{name}: got {np.asarray(array)}; variances are not negative.")
    return jnp.broadcast_to(array, (weights,))


def _window(window: int | Sequence[int], axes: int) -> tuple[int, ...]:
    if isinstance(window, list | tuple):
        return sizes(window, "window")
    return (positive_integer(window, "window"),) * axes
