"""Planted signals: readable signals in a hidden Haar-random frame that a descrambler should find.

`S = Q^T (Y + noise)`, where Q is the frame and Y is readable by one objective. Then `P = Q` makes `P S` readable.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from jaxdescramble._base import results
from jaxdescramble._base.checks import floating_type, number_between, positive_integer, random_key, true_or_false
from jaxdescramble._base.products import matmul
from jaxdescramble.manifolds import orthogonal


class Planted(NamedTuple):
    """Planted signals, and the frame that is hidden in them.

    Attributes:
        signals: the signals S, shape (features, samples), the input of a descrambler.
        frame: the hidden orthogonal matrix Q; `Q S` is readable up to noise.
        clean: Y, the signals in the readable frame, without noise.
    """

    signals: Float[Array, "n m"]
    frame: Float[Array, "n n"]
    clean: Float[Array, "n m"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def piecewise_constant(
    key: PRNGKeyArray, n: int, m: int, jumps: float = 3.5, noise: float | None = None, dtype: DTypeLike = float
) -> Planted:
    """Draw signals that are constant except for a few jumps. Use them to test total variation.

    Between two neighbours, a jump has the probability `jumps / (n - 1)`; the levels are standard normal. Total
    variation can find the frame up to a common sign of all neurons, the direction of the line, and a reflection of the
    mean over neurons (the constant mode of `operators.derivative`), which it does not see.

    Args:
        key: random key.
        n: number of features.
        m: number of samples.
        jumps: mean number of jumps per sample, at most n - 1.
        noise: white noise, in decibels below the mean square of the signals; None means no noise.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a size is less than 1, or `jumps` is not between 0 and n - 1.

    >>> planted = piecewise_constant(jax.random.key(0), 16, 100, jumps=3.0)
    >>> float(jnp.mean(jnp.sum(abs(jnp.diff(planted.clean, axis=0)) > 0, axis=0)).round())
    3.0

    Source: the model of Rudin, Osher, Fatemi, Physica D 60 (1992).
    """
    n, m, decibels, dtype = _checked(n, m, noise, dtype)
    wanted = f"a number from 0 to {n - 1}, the number of places between {n} neurons"
    jumps = number_between(jumps, "jumps", 0, n - 1, wanted, ends=True)
    where, height, rest = jax.random.split(random_key(key), 3)
    jumped = jax.random.uniform(where, (n - 1, m), dtype) < jumps / max(n - 1, 1)
    piece = jnp.concatenate([jnp.zeros((1, m), int), jnp.cumsum(jumped, axis=0)])
    levels = jax.random.normal(height, (n, m), dtype)
    return _hidden(rest, jnp.take_along_axis(levels, piece, axis=0), decibels)


def local(
    key: PRNGKeyArray,
    n: int,
    m: int,
    width: float = 3.0,
    noise: float | None = None,
    smooth: bool = False,
    dtype: DTypeLike = float,
) -> Planted:
    """Draw signals with one bump each, on a line. Use them to test locality.

    The centre of the bump is anywhere on the line. By default, every neuron in a window has its own random sign and
    size. Such signals fill the space evenly, so the frame can be found up to the signs of neurons and the direction of
    the line. With `smooth`, all neurons of a bump share one random sign, and the profile is a Gaussian. Such signals
    fill only the slow half of the space; a frame that packs them onto fewer neurons is more local than the frame that
    made them. So judge the value only, not the frame.

    Args:
        key: random key.
        n: number of features.
        m: number of samples.
        width: width of the window, or full width of the Gaussian at half maximum, in neurons.
        noise: white noise, in decibels below the mean square of the signals; None means no noise.
        smooth: whether bumps are Gaussian.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a size is less than 1, or `width` is less than 1.

    >>> planted = local(jax.random.key(0), 16, 100)
    >>> int(jnp.max(jnp.sum(planted.clean != 0, axis=0)))
    3
    """
    n, m, decibels, dtype = _checked(n, m, noise, dtype)
    width = number_between(width, "width", 1, np.inf, "a number of neurons, at least 1", ends=True)
    smooth = true_or_false(smooth, "smooth")
    where, size, rest = jax.random.split(random_key(key), 3)
    centre = jax.random.uniform(where, (1, m), dtype, -0.5, n - 0.5)
    away = jnp.arange(n, dtype=dtype)[:, None] - centre
    if smooth:
        Y = jax.random.rademacher(size, (1, m), dtype) * jnp.exp2(-((2 * away / width) ** 2))
    else:
        Y = jax.random.normal(size, (n, m), dtype) * (2 * jnp.abs(away) <= width)
    return _hidden(rest, Y, decibels)


def sparse(
    key: PRNGKeyArray, n: int, m: int, active: float = 0.1, noise: float | None = None, dtype: DTypeLike = float
) -> Planted:
    """Draw signals with few active neurons (Bernoulli-Gaussian). Use them to test sparsity.

    The frame can be found up to the order and the signs of neurons.

    Args:
        key: random key.
        n: number of features.
        m: number of samples.
        active: probability that a neuron is active.
        noise: white noise, in decibels below the mean square of the signals; None means no noise.
        dtype: floating type of the result: float32 or float64.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a size is less than 1, or `active` is not between 0 and 1.

    >>> planted = sparse(jax.random.key(0), 16, 1000)
    >>> round(float(jnp.mean(planted.clean != 0)), 1)
    0.1

    Source: Spielman, Wang, Wright, COLT 2012, the model of complete dictionary learning.
    """
    n, m, decibels, dtype = _checked(n, m, noise, dtype)
    active = number_between(active, "active", 0, 1, "a probability, between 0 and 1", ends=True)
    where, size, rest = jax.random.split(random_key(key), 3)
    Y = jax.random.normal(size, (n, m), dtype) * jax.random.bernoulli(where, active, (n, m))
    return _hidden(rest, Y, decibels)


def _checked(n: int, m: int, noise: float | None, dtype: DTypeLike) -> tuple[int, int, float | Array | None, np.dtype]:
    if noise is not None:
        noise = number_between(noise, "noise", -np.inf, np.inf, "a number of decibels")
    return positive_integer(n, "n"), positive_integer(m, "m"), noise, floating_type(dtype)


def _hidden(key: PRNGKeyArray, clean: Float[Array, "n m"], noise: float | Array | None) -> Planted:
    turn, chance = jax.random.split(key)
    frame = orthogonal.random(turn, len(clean), "O", clean.dtype)
    signals = clean
    if noise is not None:
        size = jnp.sqrt(jnp.mean(clean**2)) * 10 ** (-noise / 20)
        signals = clean + size * jax.random.normal(chance, clean.shape, clean.dtype)
    return Planted(matmul(frame.T, signals), frame, clean)
