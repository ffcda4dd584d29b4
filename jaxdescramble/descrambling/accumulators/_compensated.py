"""Gram matrices in pairs of numbers, high + low: what the high part rounds off, the low part keeps.

Two things round in a long sum of float32 products. Adding product to product: here by `two_sum`, whose rest is kept.
And the sum within one product: a feature that is constant, or has two values, rounds the same way in every product, and
five hundred columns err by 1e-5 of it, however many follow. So each block is split into a coarse part of seven bits,
whose products add up exactly, and a fine rest 2^-8 as large: twice the work, and errors of 1e-7 for such features, 1e-9
or less for others. (float64 needs none of this but the rests of sums.)

All is held in a unit of its own, a power of two near the largest entry seen, so that no square overflows or vanishes
and a change of unit rounds nothing.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxdescramble._base.products import matmul

# Columns to a product: so few that products of seven bits add up exactly, so many that the sums of pairs cost little.
BLOCK = 512
MANTISSA = {4: (jnp.int32, 23), 8: (jnp.int64, 52)}


class Sums(NamedTuple):
    """What each of d devices has added up: `S S^T = (gram + gram_low) unit^2`, `S 1 = (total + total_low) unit`.

    Of the matrices the symmetric part counts.

    Arrays of JAX with the device axis sharded, or of NumPy.
    """

    gram: Any  # (d, n, n)
    gram_low: Any
    total: Any  # (d, n)
    total_low: Any
    unit: Any  # (d,)
    largest: Any  # (d,), of the magnitudes of all entries, NaN or infinite if one is


def no_sums(n: int, dtype: DTypeLike, parts: int) -> Sums:
    """The sums over no columns, in NumPy.

    >>> no_sums(2, np.float32, 1).gram.shape
    (1, 2, 2)
    """
    matrix, vector, number = (np.zeros((parts, *shape), dtype) for shape in ((n, n), (n,), ()))
    return Sums(matrix, matrix, vector, vector, number + np.finfo(np.dtype(dtype)).tiny, number)


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """`a + b` rounded, and what was rounded off: exact, for arrays of NumPy and of JAX.

    >>> [float(x) for x in two_sum(np.float32(1), np.float32(2**-30))]
    [1.0, 9.313225746154785e-10]

    Source: Knuth, The Art of Computer Programming 2, theorem 4.2.2B.
    """
    s = a + b
    shadow = s - a
    return s, (a - (s - shadow)) + (b - shadow)


@functools.partial(jax.jit, static_argnames=("mesh", "rows"))
def add_columns(
    sums: Sums, columns: Array, mesh: Mesh | None = None, rows: bool = False, weighted: Array | None = None
) -> Sums:
    """The sums with more columns, shape (n, d w), each device adding its own w of them; of shape (d w, n) for `rows`.

    w is a multiple of `BLOCK` or less than it; columns of zeros add nothing. Where samples have weights, `columns` are
    those times the roots of the weights, and `weighted` those times the weights, for `S 1`.

    >>> sums = add_columns(no_sums(1, np.float32, 1), jnp.asarray([[3.0, 4.0]], "float32"))
    >>> float(sums.gram[0, 0, 0] * sums.unit[0] ** 2)
    25.0
    """
    add = functools.partial(_add, axis=0 if rows else 1)
    given = (columns,) if weighted is None else (columns, weighted)
    if mesh is None:
        return add(sums, *given)
    there = P("columns")
    specs = (Sums(*[there] * len(Sums._fields)), *[there if rows else P(None, "columns")] * len(given))
    return jax.shard_map(add, mesh=mesh, in_specs=specs, out_specs=specs[0])(sums, *given)


def _add(sums: Sums, columns: Array, weighted: Array | None = None, *, axis: int) -> Sums:
    sums = Sums(*(part[0] for part in sums))
    largest = jnp.maximum(sums.largest, jnp.max(jnp.abs(columns)))
    if weighted is not None:
        largest = jnp.maximum(largest, jnp.max(jnp.abs(weighted)))
    tiny = jnp.finfo(columns.dtype).tiny
    unit = jnp.clip(_power_of_two(largest), sums.unit, 1 / tiny)
    shrink = sums.unit / unit
    width = min(columns.shape[axis], BLOCK)

    def step(k: Array, carry: tuple) -> tuple:
        gram, gram_low, total, total_low = carry
        block = jax.lax.dynamic_slice_in_dim(columns, k * width, width, axis) * (1 / unit)
        block = block if axis else block.T
        coarse, fine = _split(block)
        # What is missing, coarse fine^T + fine coarse^T + fine fine^T, is the symmetric part of this.
        cross = matmul(2 * coarse + fine, fine.T)
        first, second = coarse, fine
        if weighted is not None:
            part = jax.lax.dynamic_slice_in_dim(weighted, k * width, width, axis) * (1 / unit)
            first, second = _split(part if axis else part.T)
        # A compiler that took a product into a sum would round differently in its two uses.
        product, row_sums = jax.lax.optimization_barrier((matmul(coarse, coarse.T), jnp.sum(first, axis=1)))
        gram, rest = two_sum(gram, product)
        total, total_rest = two_sum(total, row_sums)
        return gram, gram_low + (rest + cross), total, total_low + (total_rest + jnp.sum(second, axis=1))

    carry = (sums.gram * shrink**2, sums.gram_low * shrink**2, sums.total * shrink, sums.total_low * shrink)
    gram, gram_low, total, total_low = jax.lax.fori_loop(0, columns.shape[axis] // width, step, carry)
    found = Sums(*two_sum(gram, gram_low), *two_sum(total, total_low), unit, largest)
    return Sums(*(part[None] for part in found))


def _split(block: Array) -> tuple[Array, Array]:
    """Coarse multiples of a step of each row's own, whose products add up without rounding, and the fine rest."""
    if block.dtype.itemsize == 8:
        return block, jnp.zeros_like(block)
    bits = (jnp.finfo(block.dtype).nmant + 1 - (block.shape[1] - 1).bit_length()) // 2
    # Rows of next to nothing are all rest.
    peak = jnp.maximum(jnp.max(jnp.abs(block), axis=1, keepdims=True), jnp.finfo(block.dtype).tiny ** 0.5)
    step = _power_of_two(peak) * 2.0 ** (1 - bits)
    coarse = jnp.round(block * (1 / step)) * step
    return coarse, block - coarse


def _power_of_two(x: Array) -> Array:
    """The largest power of two that is not above x >= 0: its exponent bits alone."""
    integer, mantissa = MANTISSA[x.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(x, integer)
    return jax.lax.bitcast_convert_type((bits >> mantissa) << mantissa, x.dtype)


def together(*parts: Sums) -> Sums:
    """Sums over several sets of columns as those over all, of one device, in NumPy; pairwise, in the order given.

    >>> one = no_sums(1, np.float32, 1)._replace(total=np.full((1, 1), 2, "float32"), unit=np.ones(1, "float32"))
    >>> float(together(one, one).total[0, 0])
    4.0
    """
    if len(parts) == 1 and len(parts[0].unit) == 1:
        return Sums(*map(np.asarray, parts[0]))
    singles = [Sums(*(np.asarray(part[k : k + 1]) for part in sums)) for sums in parts for k in range(len(sums.unit))]
    while len(singles) > 1:
        singles = [_pair(*singles[k : k + 2]) for k in range(0, len(singles), 2)]
    return singles[0]


def _pair(one: Sums, other: Sums | None = None) -> Sums:
    if other is None:
        return one
    unit = np.maximum(one.unit, other.unit)

    def summed(power: int, name: str) -> tuple[Any, Any]:
        pairs = []
        for sums in (one, other):
            scale = ((sums.unit / unit) ** power).reshape((1,) * (power + 1))
            pairs.append((getattr(sums, name) * scale, getattr(sums, f"{name}_low") * scale))
        (a, a_low), (b, b_low) = pairs
        high, rest = two_sum(a, b)
        return two_sum(high, rest + (a_low + b_low))

    return Sums(*summed(2, "gram"), *summed(1, "total"), unit, np.maximum(one.largest, other.largest))


def mesh_of(devices: tuple[Any, ...] | None) -> Mesh | None:
    """The mesh of devices that share out columns; None for one, where JAX puts things."""
    return None if devices is None else Mesh(np.asarray(devices), ("columns",))


def placed(sums: Sums, devices: tuple[Any, ...] | None) -> Sums:
    """The sums of so many devices, each with its own."""
    mesh = mesh_of(devices)
    if mesh is None:
        return Sums(*map(jnp.asarray, sums))
    return Sums(*(jax.device_put(part, NamedSharding(mesh, P("columns"))) for part in sums))


def spread(sums: Sums, devices: tuple[Any, ...] | None) -> Sums:
    """The sums of one device for several: the first goes on with them, the others begin at zero."""
    rest = no_sums(sums.gram.shape[-1], sums.gram.dtype, len(devices or (0,)) - 1)
    return placed(Sums(*(np.concatenate(pair) for pair in zip(sums, rest, strict=True))), devices)
