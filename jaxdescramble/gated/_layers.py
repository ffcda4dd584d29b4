"""Linear operations of gated networks: dense layers, convolutions, average pools, heads."""

import itertools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdescramble._base.products import matmul

# "weight" (out, in) or (out, in, *kernel), and "bias" (out,) if the architecture has biases.
Layer = Mapping[str, Array]
Layers = Sequence[Layer]

PADDINGS = ("circular", "zero")
HEADS = ("average", "flatten")


def affine(layer: Layer, h: Float[Array, "batch *space inputs"], padding: str) -> Float[Array, "batch *space outputs"]:
    """Return `W h + b`: a convolution if the weight has a window, otherwise a matrix product.

    >>> affine({"weight": jnp.asarray([[1.0, 2.0]])}, jnp.asarray([[3.0, 4.0]]), "zero").tolist()
    [[11.0]]
    """
    weight = layer["weight"]
    y = matmul(h, weight.T) if weight.ndim == 2 else convolve(h, weight, padding)
    return y + layer["bias"].reshape((1,) * (y.ndim - 1) + (-1,)) if "bias" in layer else y


def convolve(
    h: Float[Array, "batch *space inputs"], kernel: Float[Array, "outputs inputs *window"], padding: str
) -> Float[Array, "batch *space outputs"]:
    """Return `y_i = sum_t W_t h_(i + t)`, t from `-((k - 1) // 2)` to `k // 2`, with circular or zero padding.

    This is one matrix product with the window of every position. Gated networks are often trained side by side, under
    `vmap` and in loops. There XLA's convolutions with several kernels took 13 times as long on a CPU.

    >>> shift = jnp.asarray([[[0.0, 0.0, 1.0]]])
    >>> convolve(jnp.asarray([[[1.0], [2.0], [3.0]]]), shift, "circular").ravel().tolist()
    [2.0, 3.0, 1.0]
    """
    around = [((size - 1) // 2, size // 2) for size in kernel.shape[2:]]
    wide = jnp.pad(h, [(0, 0), *around, (0, 0)], mode="wrap" if padding == "circular" else "constant")
    places = itertools.product(*(range(size) for size in kernel.shape[2:]))
    seen = [
        wide[(slice(None), *(slice(t, t + size) for t, size in zip(place, h.shape[1:-1], strict=True)))]
        for place in places
    ]
    flat = jnp.moveaxis(kernel, (0, 1), (-1, -2)).reshape(-1, len(kernel))
    return matmul(jnp.concatenate(seen, axis=-1), flat)


def average_pool(h: Float[Array, "batch *space channels"], factor: int) -> Float[Array, "batch *fewer channels"]:
    """Average over adjacent windows of size `factor` along every axis of space.

    >>> average_pool(jnp.asarray([[[1.0], [2.0], [3.0], [5.0]]]), 2).ravel().tolist()
    [1.5, 4.0]
    """
    if factor == 1:
        return h
    split = [part for size in h.shape[1:-1] for part in (size // factor, factor)]
    windows = h.reshape(len(h), *split, h.shape[-1])
    return jnp.mean(windows, axis=tuple(range(2, windows.ndim - 1, 2)))


def head(h: Float[Array, "batch *space channels"], kind: str) -> Float[Array, "batch features"]:
    """Turn the axes of space into features: average over them, or flatten them.

    >>> head(jnp.ones((1, 4, 3)), "average").shape, head(jnp.ones((1, 4, 3)), "flatten").shape
    ((1, 3), (1, 12))
    """
    if kind == "average":
        return jnp.mean(h, axis=tuple(range(1, h.ndim - 1)))
    return h.reshape(len(h), -1)
