"""The neural tangent kernel of the value weights in expectation, as a derivative of the path kernel."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import a_function, real_array
from jaxdescramble.gated.path_kernel.kernels import Gates, Variances, real_variances


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

    >>> from jaxdescramble.gated.path_kernel.kernels import dense
    >>> x, gates = jnp.asarray([[1.0, 2.0]]), [jnp.asarray([[1.0, 1.0, 0.0]])] * 3
    >>> float(expected_ntk(dense, x, x, gates, gates, 0.5)[0, 0])  # 4 / 2^3 * 5 * 2^3
    20.0

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), in the limit of infinite width; the exact form and the
    other architectures are ours.
    """
    x1, x2 = (real_array(x, name, range(2, 9), "(batch, *space, units)") for x, name in ((x1, "x1"), (x2, "x2")))
    a_function(kernel, "kernel", "the arguments of path_kernel.dense")
    dtype = jnp.result_type(x1, x2)
    point = [real_variances(variances, "variances").astype(dtype)]
    point += [] if bias_variances is None else [real_variances(bias_variances, "bias_variances").astype(dtype)]

    def second_moment(weights: Array, biases: Array | None = None) -> Array:
        return kernel(x1, x2, gates1, gates2, normalise="none", variances=weights, bias_variances=biases)

    return jax.jvp(second_moment, tuple(point), tuple(jnp.ones_like(value) for value in point))[1]
