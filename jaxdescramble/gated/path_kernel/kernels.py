"""Neural path kernels in closed form, and the expected neural tangent kernel.

Gates are a list with one array for each gated layer: shape (batch, width), or (batch, *space, channels) after a
convolution. They can be any real numbers. Gates of type bool or integer keep their small type until they are used.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import (
    a_function,
    is_traced,
    numbers,
    one_of,
    positive_integer,
    real_array,
    true_or_false,
)
from jaxdescramble.gated.path_kernel._arguments import (
    Gates,
    Variances,
    gate_arrays,
    real,
    several,
    variance_array,
    window_of,
)
from jaxdescramble.gated.path_kernel._moments import Walk, moment
from jaxdescramble.gated.path_kernel.layers import (
    Convolution,
    Dense,
    Layers,
    Skip,
    checked_layers,
    count,
    skipping,
    stacked,
)

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
    """Compute the neural path kernel of a fully connected gated network, or `E[f f']` over its weights.

    `NPK = Sigma * Lambda_1 * ... * Lambda_(d-1)` entry by entry, with `Sigma = X1 X2^T` and `Lambda_l = G1_l G2_l^T`.
    With variances, `H_0 = Sigma` and `H_l = (sigma_l^2 H_(l-1) + beta_l^2) * Lambda_l`; the last step has no Lambda.

    Args:
        x1: inputs of the values, shape (n1, features): the data, ones, or any other numbers.
        x2: inputs of the values, shape (n2, features).
        gates1: gates of x1, one array of shape (n1, width) for each hidden layer.
        gates2: gates of x2, one array of shape (n2, width) for each hidden layer.
        normalise: "none" returns the plain sums, which leave the range of float32 after about a dozen wide layers.
            "width" uses `Lambda_l / width_l`. "cosine" returns `K(x, x') / sqrt(K(x, x) K(x', x'))`, or 0 where K(x, x)
            is 0. "log" returns the logarithm of "none" and stays in range at any depth.
        variances: variances sigma^2 of the weights, one number or one for each of the d weights. None means ones, which
            gives the kernel itself.
        bias_variances: variances beta^2 of the biases, one number or one for each bias. None means no biases. For a
            network with biases, ones give the kernel itself.

    Returns:
        Array of shape (n1, n2), of the type of x1 and x2. "log" returns -inf where the kernel is zero. Inside `jit` it
        returns NaN where the kernel is negative.

    Raises:
        ValueError: if shapes do not match; if the normalisation is unknown; if a kernel under "log" is negative.
        TypeError: if an argument is not an array of real numbers.

    >>> x, gates = jnp.asarray([[1.0, 2.0], [3.0, 0.0]]), [jnp.asarray([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])]
    >>> dense(x, x, gates, gates, normalise="none").tolist()
    [[10.0, 3.0], [3.0, 18.0]]

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529); the form with biases is ours.
    """
    layers = stacked(0, len(several(gates1)))
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
    """Compute the neural path kernel of a convolutional gated network, with average pools and gated dense layers.

    `K_0[i, j] = <x_i, x'_j>` and `K_l[i, j] = <G_l(i), G'_l(j)> sum_t K_(l-1)[i + t, j + t]` at pairs of positions.
    Then the head: the average `D^-2 sum_ij K[i, j]`, or `sum_i K[i, i]` with "flatten". Then the dense layers, as in
    `dense`. Time and memory grow with the square of the number of positions, for each pair of samples.

    With circular padding, no pools and an average head, a shift of one sample together with its gates does not change
    the kernel.

    Args:
        x1: inputs of the values, shape (n1, *space, channels), with one or more axes of space.
        x2: inputs of the values, shape (n2, *space, channels).
        gates1: gates of x1: first those of the convolutions, (n1, *space, channels), then those of the dense layers,
            (n1, width).
        gates2: gates of x2, in the same order.
        normalise: "none" returns the plain sums. "width" divides by the widths of the layers, by the size of the window
            and, with "flatten", by D. "cosine" returns `K(x, x') / sqrt(K(x, x) K(x', x'))`. "log" returns the
            logarithm of "none".
        window: size of all windows, one number or one for each axis of space.
        padding: "circular" or "zero".
        pooling: factor of the average pool after the gate of each convolution; 1 means no pool. () means no pools.
        head: "average" takes the mean over all positions; "flatten" keeps every position.
        variances: variances sigma^2 of the weights, one number or one for each weight. None means ones, which gives the
            kernel itself.
        bias_variances: variances beta^2 of the biases, one number or one for each bias. None means no biases.

    Returns:
        Array of shape (n1, n2), of the type of x1 and x2. "log" returns -inf where the kernel is zero. Inside `jit` it
        returns NaN where the kernel is negative.

    Raises:
        ValueError: if shapes do not match; if a name is unknown; if a kernel under "log" is negative.
        TypeError: if an argument is not an array of real numbers.

    >>> x = jnp.asarray([[[1.0], [2.0], [0.0], [0.0]]])
    >>> turned = jnp.roll(x, 1, axis=1)
    >>> same = convolutional(x, turned, [x], [turned]) - convolutional(x, x, [x], [x])
    >>> float(same[0, 0])
    0.0

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), convolutions with global pooling; zero padding, pools and
    dense layers are ours.
    """
    x1 = real_array(x1, "x1", range(3, 9), "(batch, *space, channels)")
    convolutions = sum(numbers(gate, f"gates1[{i}]").ndim > 2 for i, gate in enumerate(several(gates1)))
    layers = stacked(convolutions, len(gates1) - convolutions, window_of(window, x1.ndim - 2), padding, pooling, head)
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
    """Compute the neural path kernel of a gated layer, blocks `h + B(h)`, a gated layer and a linear output.

    Without a gate after the addition it is `Sigma * Lambda_first * prod_i (1 + Lambda_i) * Lambda_last`, where Lambda_i
    is the product over the layers of block i. This is the sum over all `2^b` networks that leave out some blocks.

    With a gate R after each addition, the units differ. Let G be the last gate of block k, and B_k one number for all
    units. Block k changes the moments of unit i to `C_i <- R_i R'_i (C_i + G_i G'_i B_k)`. The sum over units is
    `S_k = sum_(m <= k) B_m * Lambda_(m, k)`, where Lambda_(m, k) is the Gram matrix of `G_m * R_m * ... * R_k`. So b
    blocks need b (b + 3) / 2 Gram matrices of products of gates.

    For other arrangements (branches without a last gate, shortcuts with weights) use `network`.

    Args:
        x1: inputs of the values, shape (n1, features), or (n1, *space, channels) for convolutions.
        x2: inputs of the values, shape (n2, features), or (n2, *space, channels) for convolutions.
        gates1: gates of x1: first layer, each block (its layers, then the gate after the addition), last layer.
        gates2: gates of x2, in the same order.
        normalise: "none" returns the plain sums. "width" divides by the widths of the layers. "cosine" returns
            `K(x, x') / sqrt(K(x, x) K(x', x'))`. "log" returns the logarithm of "none".
        depth: number of gated layers in a block.
        gate_after: whether there is also a gate after each addition.
        window: size of all windows, one number or one for each axis of space.
        padding: "circular" or "zero".
        head: "average" takes the mean over all positions; "flatten" keeps every position.
        variances: variances sigma^2 of the weights, one number or one for each weight. None means ones, which gives the
            kernel itself.
        bias_variances: variances beta^2 of the biases, one number or one for each bias. None means no biases.

    Returns:
        Array of shape (n1, n2), of the type of x1 and x2. "log" returns -inf where the kernel is zero. Inside `jit` it
        returns NaN where the kernel is negative.

    Raises:
        ValueError: if shapes do not match; if a name is unknown; if a kernel under "log" is negative.
        TypeError: if an argument is not an array of real numbers.

    >>> x, gates = jnp.ones((1, 1)), [jnp.ones((1, 2))] * 3  # 2 units: Lambda = 2 for each of the three
    >>> float(residual(x, x, gates, gates, normalise="none")[0, 0])  # 2 (1 + 2) 2
    12.0

    Source: Lakshminarayanan, Singh 2021 (arXiv 2110.03403), skip connections; gates after the additions are ours.
    """
    x1 = real_array(x1, "x1", range(2, 9), "(batch, *space, channels)")
    each = positive_integer(depth, "depth") + true_or_false(gate_after, "gate_after")
    blocks, rest = divmod(len(several(gates1)) - 2, each)
    if rest or blocks < 0:
        raise ValueError(
            f"gates1, depth: got {len(gates1)} arrays; with depth={depth} and gate_after={gate_after} there must be 2, "
            f"plus {each} for each block."
        )
    layers = skipping(blocks, depth, bool(gate_after), window_of(window, x1.ndim - 2), padding, head)
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
    """Compute the neural path kernel, or `E[f f']`, of any arrangement of weights, gates, pools and skips.

    Use it when the network is not one of `dense`, `convolutional` and `residual`.

    Args:
        layers: tuple of `Dense`, `Convolution`, `Gate`, `Pool`, `Flatten` and `Skip`; the last one must be a `Dense`.
        x1: inputs of the values, shape (n1, features) or (n1, *space, channels).
        x2: inputs of the values, shape (n2, features) or (n2, *space, channels).
        gates1: gates of x1, in the order of the layers.
        gates2: gates of x2, in the order of the layers.
        normalise: "none" returns the plain sums. "width" divides by the widths of the layers. "cosine" returns
            `K(x, x') / sqrt(K(x, x) K(x', x'))`. "log" returns the logarithm of "none".
        variances: variances sigma^2 of the weights, one number or one for each weight, in the order of the layers. None
            means ones, which gives the kernel itself.
        bias_variances: variances beta^2 of the biases, one number or one for each bias. None means no biases.

    Returns:
        Array of shape (n1, n2), of the type of x1 and x2. "log" returns -inf where the kernel is zero. Inside `jit` it
        returns NaN where the kernel is negative.

    Raises:
        ValueError: if shapes do not match; if the last layer is not a `Dense`; if the normalisation is unknown; if a
            kernel under "log" is negative.
        TypeError: if an argument is not an array of real numbers.

    >>> from jaxdescramble.gated.path_kernel import Gate
    >>> block = Skip((Dense(), Gate(), Dense(units=2)))  # a block of a ResNet: its branch has no gate at the end
    >>> x, gates = jnp.ones((1, 1)), [jnp.ones((1, 2))] * 3
    >>> float(network((Dense(), Gate(), block, Gate(), Dense()), x, x, gates, gates, "none")[0, 0])  # 2 + 2 * 2 * 2
    10.0

    Source: `_moments.py` explains the recursion.
    """
    one_of(normalise, "normalise", NORMALISATIONS)
    layers = checked_layers(layers)
    if not layers or not isinstance(layers[-1], Dense):
        raise ValueError(f"layers: got {layers[-1:]} as the last layer; must be the linear output, Dense().")
    left, right = (real_array(x, name, range(2, 9), "(batch, *space, units)") for x, name in ((x1, "x1"), (x2, "x2")))
    if left.shape[1:] != right.shape[1:]:
        raise ValueError(f"x2: got shape {right.shape}; must match x1, {left.shape}, in all axes but the first.")
    dtype = jnp.result_type(left, right)
    first, second = gate_arrays(gates1, "gates1", len(left), layers), gate_arrays(gates2, "gates2", len(right), layers)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.shape[1:] != b.shape[1:]:
            raise ValueError(
                f"gates2: array {i} has shape {b.shape}; must match gates1, {a.shape}, after the first axis."
            )
    weights = count(layers, Dense, Convolution)
    found = _kernel(
        layers,
        normalise,
        left.astype(dtype),
        right.astype(dtype),
        first,
        second,
        variance_array(variances, "variances", weights, dtype),
        variance_array(bias_variances, "bias_variances", weights, dtype),
    )
    if normalise == "log" and not is_traced(found):
        wrong = int(np.isnan(np.asarray(found)).sum())
        if wrong:
            raise ValueError(
                f"normalise: {wrong} of {found.size} kernels are negative or not finite and have no logarithm. Use "
                "inputs of the values without negative numbers (ones, for example), or normalise='cosine'."
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
    """Compute the expected neural tangent kernel of the value weights; exact at any width.

    `E[NTK] = sum_l dP / d sigma_l^2 + sum_l dP / d beta_l^2`, where `P(sigma_1^2, ...) = E[f f']` is the kernel with
    variances. This is one derivative in the direction of ones. For `dense` without biases and with equal sigma it is
    `d sigma^(2 (d-1)) NPK`.

    The formula holds if the gates do not depend on the value weights, and if the weights are independent with mean
    zero. It does not hold where the gates come from the value weights themselves (a ReLU network; FRNPF-DI). Between
    two different outputs the kernel is zero.

    Args:
        kernel: `dense`, `convolutional`, `residual`, or any function with the arguments of `dense`. Pass options with
            `functools.partial(residual, depth=2)`.
        x1: inputs of the values, shape (n1, features) or (n1, *space, channels).
        x2: inputs of the values, shape (n2, features) or (n2, *space, channels).
        gates1: gates of x1, in the order that the kernel expects.
        gates2: gates of x2, in the same order.
        variances: variances sigma^2 of the weights, one number or one for each weight.
        bias_variances: variances beta^2 of the biases, one number or one for each bias; 0 for biases that start at
            zero. None means no biases.

    Returns:
        Array of shape (n1, n2).

    Raises:
        TypeError, ValueError: if an argument has the wrong type. Errors of the kernel are passed on.

    >>> x, gates = jnp.asarray([[1.0, 2.0]]), [jnp.asarray([[1.0, 1.0, 0.0]])] * 3
    >>> float(expected_ntk(dense, x, x, gates, gates, 0.5)[0, 0])  # 4 / 2^3 * 5 * 2^3
    20.0

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), in the limit of infinite width; the exact form and the
    other architectures are ours.
    """
    x1, x2 = (real_array(x, name, range(2, 9), "(batch, *space, units)") for x, name in ((x1, "x1"), (x2, "x2")))
    a_function(kernel, "kernel", "the arguments of path_kernel.dense")
    dtype = jnp.result_type(x1, x2)
    point = [real(variances, "variances").astype(dtype)]
    point += [] if bias_variances is None else [real(bias_variances, "bias_variances").astype(dtype)]

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
        # The cosine allows a factor for each sample and layer. It keeps K(x, x) in range at any depth.
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
    """Scale the gates of every sample to a mean square of 1; gates that are all zero stay zero."""
    square = jnp.mean(gate**2, axis=tuple(range(1, gate.ndim)), keepdims=True)
    return gate / jnp.sqrt(jnp.where(square > 0, square, 1))
