"""The limit of many samples: the descrambler from a layer's weight and the moments of its input.

With preactivations `W x + b`, `S S^T / m` tends to `E[(W x + b)(W x + b)^T]`. So in the limit P depends only on the
weight and the second moments of the input. The distance between an answer from m samples and the limit is known too.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import an_operator, instance_of, is_traced, positive_integer, real_array, same_size
from jaxdescramble._base.products import matmul
from jaxdescramble.exact.brockett import ClosedForm, Extremum
from jaxdescramble.objectives import Objective, smoothness
from jaxdescramble.operators import Operator


def from_weights(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    autocorrelation: ArrayLike | None = None,
    objective: Objective | None = None,
    group: str = "O",
) -> Extremum:
    """Return the descrambler of a linear layer's preactivations `W x + b` in the limit `m -> infinity`, without data.

    Use it if you have weights and no samples, or as the null of white inputs.

    `S S^T / m -> [W b] E[(x, 1)(x, 1)^T] [W b]^T = W R W^T + W mu b^T + b mu^T W^T + b b^T`

    The code keeps a factor instead of this sum, so that no digits are lost. The answer is differentiable in weight and
    bias; the moments are constants.

    Args:
        weight: the weight W, shape (n, k).
        bias: the bias b, shape (n,); None means zero.
        mean: the mean mu = E[x], shape (k,); None means zero.
        autocorrelation: R = E[x x^T], shape (k, k), without subtraction of means; None means the identity, which is
            white inputs.
        objective: an objective with a closed form; None means `objectives.smoothness()`.
        group: "O" or "SO".

    Returns:
        An `Extremum`. Its singular values are those of `S / sqrt(m)`.

    Raises:
        TypeError: if an array is not made of real numbers, or `objective` is not an objective.
        ValueError: if the shapes do not fit, no random vector has these moments, or the objective has no closed form.

    >>> W = jax.random.normal(jax.random.key(0), (4, 6))
    >>> limit = from_weights(W)
    >>> many = W @ jax.random.normal(jax.random.key(1), (6, 20000))
    >>> bool(abs(smoothness()(limit.point, many) / limit.value - 1) < 0.1)
    True

    Source: Sule, Spencer, Czaja 2025 (arXiv 2301.07820), the large-data limit.
    """
    W = real_array(weight, "weight", (2,), "(out, in)")
    n, k = W.shape
    b = jnp.zeros(n, W.dtype) if bias is None else real_array(bias, "bias", (1,), "(out,)").astype(W.dtype)
    mu = jnp.zeros(k, W.dtype) if mean is None else real_array(mean, "mean", (1,), "(in,)").astype(W.dtype)
    R = jnp.eye(k, dtype=W.dtype)
    if autocorrelation is not None:
        R = real_array(autocorrelation, "autocorrelation", (2,), "(in, in)").astype(W.dtype)
    same_size(b, 0, n, "bias", "the weight's rows")
    same_size(mu, 0, k, "mean", "the weight's columns")
    same_size(R, 0, k, "autocorrelation", "the weight's columns")
    same_size(R, 1, k, "autocorrelation", "the weight's columns")
    objective = smoothness() if objective is None else objective
    instance_of(objective, "objective", Objective, "an Objective such as objectives.smoothness()")
    moments = jnp.block([[R, mu[:, None]], [mu[None, :], jnp.ones((1, 1), W.dtype)]])
    values, vectors = decompositions.eigh(jax.lax.stop_gradient((moments + moments.T) / 2))
    _check_moments(moments, values)
    half = vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :]
    columns = matmul(jnp.concatenate([W, b[:, None]], axis=1), half)
    return ClosedForm()(objective, objective.summarise(columns), group)


def sampling_error(operator: Operator, powers: ArrayLike, samples: int) -> Float[Array, ""]:
    """Return the expected `||P_m - P||_F^2` from m samples to the limit P, modulo gauge, to first order in 1/m.

    Use it to choose the number of samples. The formula is `sum_{i != j} b_i b_j / (m (b_i - b_j)^2)`, over modes i and
    j whose eigenvalues of `D^T D` differ: the noise of a Gaussian sample covariance, divided by the gaps between the
    powers b. It is the same for complex signals (circular Gaussian ones) and U(n). The estimated value has an error of
    order `1 / sqrt(m)`; the true value at P_m is above its minimum by order `1 / m`.

    Args:
        operator: the derivative operator D, from `jaxdescramble.operators`.
        powers: b, shape (n,), descending: eigenvalues of the covariance of the signals (with zero mean).
        samples: number of samples m.

    Returns:
        A squared distance; infinite if equal powers meet unequal eigenvalues.

    Raises:
        TypeError: if `operator` is not an operator, or an argument has the wrong type.
        ValueError: if the sizes differ, or `samples` is less than 1.

    >>> from jaxdescramble.operators import derivative
    >>> round(float(sampling_error(derivative(2, boundary="neumann"), jnp.asarray([2.0, 1.0]), 100)), 3)  # 2 * 2 / 100
    0.04

    Source: Anderson, Ann. Math. Stat. 34 (1963) 122, for the eigenvectors of sample covariances.
    """
    an_operator(operator)
    samples = positive_integer(samples, "samples")
    b = real_array(powers, "powers", (1,), "(n,)")
    same_size(b, 0, operator.size, "powers", "the operator")
    run = np.repeat(np.arange(len(operator.multiplicities)), operator.multiplicities)
    apart = run[:, None] != run[None, :]
    gap = jnp.where(apart, b[:, None] - b[None, :], 1)
    return jnp.sum(jnp.where(apart, b[:, None] * b[None, :] / gap**2, 0)) / samples


def _check_moments(moments: Array, values: Array) -> None:
    if is_traced(moments):
        return
    R, spectrum = np.asarray(moments)[:-1, :-1], np.asarray(values)
    eps = float(np.finfo(spectrum.dtype).eps)
    scale = max(float(np.abs(R).max()), 1.0)
    if not np.isfinite(spectrum).all():
        raise ValueError("autocorrelation, mean: contain NaN or infinity; must be finite.")
    if np.abs(R - R.T).max() > eps**0.5 * scale:
        raise ValueError("autocorrelation: not symmetric; must be symmetric, because it is E[x x^T].")
    if spectrum[0] < -(eps**0.5) * max(float(spectrum[-1]), 1.0):
        raise ValueError(
            f"autocorrelation, mean: no random vector has these moments (smallest eigenvalue {spectrum[0]:.3g}). The "
            "autocorrelation is E[x x^T] without subtraction of means: add mean mean^T to a covariance."
        )
