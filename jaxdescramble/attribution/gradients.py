"""Attribution by gradients, for any JAX function."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import number_between, positive_integer, random_key
from jaxdescramble.attribution._targets import score, shaped_like, targets
from jaxdescramble.networks.obstacles import refuse_integers
from jaxdescramble.networks.tracing import Function

Items = TypeVar("Items")


def gradient(
    f: Function, params: PyTree, x: ArrayLike, target: ArrayLike | None = None
) -> Float[Array, "batch *features"]:
    """Return the gradient of one output of every sample: `d f_t(x) / d x`.

    Args:
        f: a function `f(params, x)` that returns the shape (batch, classes) or (batch,). Leave out a softmax at its
            end, which mixes all classes.
        params: parameters of f.
        x: the samples, shape (batch, ...); f must treat each sample by itself.
        target: the output to explain: one integer, or one integer for each sample; None means the largest output of
            each sample.

    Returns:
        The gradient, in the shape of x.

    Raises:
        TypeError, ValueError: if x is not an array of real numbers (token ids are integers: begin behind the lookup);
            if f returns another shape; if the target is out of range.

    >>> f = lambda W, x: jax.nn.relu(x) @ W
    >>> gradient(f, jnp.asarray([[1.0], [2.0]]), jnp.asarray([[3.0, -1.0]])).tolist()
    [[1.0, 0.0]]

    Source: Simonyan, Vedaldi, Zisserman 2014 (arXiv 1312.6034).
    """
    refuse_integers(f, params, x)
    x, target = targets(f, params, x, target)
    return _slope(f, params, target)(x)


def input_x_gradient(
    f: Function, params: PyTree, x: ArrayLike, target: ArrayLike | None = None
) -> Float[Array, "batch *features"]:
    """Return input times gradient, `x * d f_t(x) / d x`: what each input adds to the output of a linear piece.

    Arguments, result and errors are those of `gradient`.

    >>> f = lambda W, x: x @ W
    >>> input_x_gradient(f, jnp.asarray([[1.0], [2.0]]), jnp.asarray([[3.0, -1.0]])).tolist()
    [[3.0, -2.0]]

    Source: Shrikumar et al. 2016 (arXiv 1605.01713).
    """
    refuse_integers(f, params, x)
    x, target = targets(f, params, x, target)
    return x * _slope(f, params, target)(x)


def integrated_gradients(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    target: ArrayLike | None = None,
    *,
    baseline: ArrayLike = 0.0,
    steps: int = 64,
    chunk_size: int | None = None,
) -> Float[Array, "batch *features"]:
    """Integrate gradients along a straight line from a baseline: `(x - x0) int_0^1 f'(x0 + a (x - x0)) da`.

    They add up to `f_t(x) - f_t(x0)`, up to the error of the Gauss-Legendre quadrature.

    Args:
        f, params, x, target: the same arguments as in `gradient`; the target is chosen at x.
        baseline: x0, broadcast to x.
        steps: number of points of the quadrature.
        chunk_size: how many points are computed at a time; None means all of them.

    Returns:
        The integrated gradient, in the shape of x. Errors are those of `gradient`.

    >>> f = lambda W, x: (x @ W) ** 2
    >>> integrated_gradients(f, jnp.ones((2, 1)), jnp.asarray([[1.0, 2.0]])).round(4).tolist()
    [[3.0, 6.0]]

    Source: Sundararajan, Taly, Yan 2017 (arXiv 1703.01365).
    """
    refuse_integers(f, params, x)
    x, target = targets(f, params, x, target)
    start, steps = shaped_like(x, baseline, "baseline"), positive_integer(steps, "steps")
    places, shares = (jnp.asarray(a / 2, x.dtype) for a in np.polynomial.legendre.leggauss(steps))
    slope = _slope(f, params, target)

    def part(at: tuple[Array, Array]) -> Array:
        place, share = at
        return share * slope(start + (place + 0.5) * (x - start))

    return (x - start) * _total(part, (places, shares), steps, chunk_size)


def smooth_grad(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    target: ArrayLike | None = None,
    *,
    key: PRNGKeyArray,
    samples: int = 50,
    noise: float = 0.15,
    chunk_size: int | None = None,
) -> Float[Array, "batch *features"]:
    """Return the mean gradient at noisy copies of the input.

    Args:
        f, params, x, target: the same arguments as in `gradient`; the target is chosen at x.
        key: random key.
        samples: number of noisy copies.
        noise: standard deviation, in units of each sample's range (largest minus smallest feature).
        chunk_size: how many copies are computed at a time; None means all of them.

    Returns:
        The mean gradient, in the shape of x. Errors are those of `gradient`.

    >>> f = lambda W, x: x @ W
    >>> smooth_grad(f, jnp.asarray([[1.0], [2.0]]), jnp.ones((1, 2)), key=jax.random.key(0)).round(4).tolist()
    [[1.0, 2.0]]

    Source: Smilkov et al. 2017 (arXiv 1706.03825).
    """
    refuse_integers(f, params, x)
    x, target = targets(f, params, x, target)
    slope, axes = _slope(f, params, target), tuple(range(1, x.ndim))
    width = number_between(noise, "noise", 0, np.inf, "a standard deviation, at least 0", ends=True)
    scale = width * (jnp.max(x, axis=axes, keepdims=True) - jnp.min(x, axis=axes, keepdims=True))

    def one(key: Array) -> Array:
        return slope(x + scale * jax.random.normal(key, x.shape, x.dtype))

    samples = positive_integer(samples, "samples")
    keys = jax.random.split(random_key(key), samples)
    return _total(one, keys, samples, chunk_size) / samples


def _slope(f: Function, params: PyTree, target: Array) -> Callable[[Array], Array]:
    slope = jax.grad(lambda x: jnp.sum(score(f, params, x, target)))

    def known(x: Array) -> Array:
        # A gate is closed at NaN, so its gradient would be zero there.
        finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)), keepdims=True)
        return jnp.where(finite, slope(x), jnp.nan)

    return known


def _total(part: Callable[[Items], Array], items: Items, count: int, chunk: int | None) -> Array:
    """Sum a function over a leading axis, `chunk` places at a time."""
    if chunk is not None:
        positive_integer(chunk, "chunk_size")
    one = jax.eval_shape(part, jax.tree.map(lambda leaf: leaf[0], items))
    chunk = min(count, chunk or count)
    whole = count // chunk * chunk
    if chunk == count:  # without a loop: inside one, XLA's gradients of convolutions take ten times as long on a CPU
        return jnp.sum(jax.vmap(part)(items), axis=0)

    def step(total: Array, some: Items) -> tuple[Array, None]:
        return total + jnp.sum(jax.vmap(part)(some), axis=0), None

    blocks = jax.tree.map(lambda leaf: leaf[:whole].reshape((-1, chunk, *leaf.shape[1:])), items)
    total = jax.lax.scan(step, jnp.zeros(one.shape, one.dtype), blocks)[0]
    return total if whole == count else step(total, jax.tree.map(lambda leaf: leaf[whole:], items))[0]
