"""Gram matrices in pairs of numbers, high + low: the low part keeps what the high part rounds off.

A long sum of float32 products of blocks rounds in two places:

- Between blocks, when one product is added to the next. `two_sum` does this and keeps the rest.
- Within a product. A feature that is constant, or has two values, rounds the same way in every product: with 500
  columns the relative error is 1e-5, and more columns do not reduce it. So each block is split into a coarse part of
  seven bits, whose products add up exactly, and a fine rest that is 2^-8 as large. This takes twice the work. The
  errors become 1e-7 for such features, and 1e-9 or less for others.

float64 needs only the first remedy.

All numbers are stored in units of a power of two near the largest entry so far. Then no square overflows or underflows,
and a change of the unit rounds nothing.
"""

import functools
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike
from jaxtyping import Array

from jaxdescramble._base.devices import Device
from jaxdescramble._base.products import matmul

# Columns in a product: few enough that products of seven bits add up exactly, many enough that `two_sum` costs little.
BLOCK = 512
Devices = tuple[Device, ...]
Numbers = TypeVar("Numbers", Array, np.ndarray)
MANTISSA = {4: (jnp.int32, 23), 8: (jnp.int64, 52)}


class Sums(NamedTuple):
    """The sums of each of d devices: `S S^T = (gram + gram_low) unit^2`, `S 1 = (total + total_low) unit`.

    Only the symmetric parts of the matrices count. The arrays are JAX arrays, sharded along the axis of devices, or
    NumPy arrays.
    """

    gram: Array | np.ndarray  # (d, n, n)
    gram_low: Array | np.ndarray
    total: Array | np.ndarray  # (d, n)
    total_low: Array | np.ndarray
    unit: Array | np.ndarray  # (d,)
    largest: Array | np.ndarray  # (d,), largest magnitude of all entries; NaN or infinite if an entry is


def no_sums(n: int, dtype: DTypeLike, parts: int) -> Sums:
    """Return the sums over no columns, as NumPy arrays.

    >>> no_sums(2, np.float32, 1).gram.shape
    (1, 2, 2)
    """
    matrix, vector, number = (np.zeros((parts, *shape), dtype) for shape in ((n, n), (n,), ()))
    return Sums(matrix, matrix, vector, vector, number + np.finfo(np.dtype(dtype)).tiny, number)


def two_sum(a: Numbers, b: Numbers) -> tuple[Numbers, Numbers]:
    """Return `a + b` rounded, and the rest that was rounded off, exactly; for NumPy and JAX arrays.

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
    """Return the sums with more columns, shape (n, d w), or (d w, n) if `rows`; each of d devices adds w of them.

    w is a multiple of `BLOCK`, or less than it; columns of zeros add nothing. If samples have weights, `columns` are
    the samples times the square roots of the weights, and `weighted` are the samples times the weights, for `S 1`.

    >>> sums = add_columns(no_sums(1, np.float32, 1), jnp.asarray([[3.0, 4.0]], "float32"))
    >>> float(sums.gram[0, 0, 0] * sums.unit[0] ** 2)
    25.0
    """
    add = functools.partial(_add, axis=0 if rows else 1)
    given = (columns,) if weighted is None else (columns, weighted)
    if mesh is None:
        return add(sums, *given)
    there = P("columns")
    specs = (there, *[there if rows else P(None, "columns")] * len(given))
    return jax.shard_map(add, mesh=mesh, in_specs=specs, out_specs=there)(sums, *given)


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
        # The other terms, coarse fine^T + fine coarse^T + fine fine^T, are the symmetric part of this product.
        cross = matmul(2 * coarse + fine, fine.T)
        first, second = coarse, fine
        if weighted is not None:
            part = jax.lax.dynamic_slice_in_dim(weighted, k * width, width, axis) * (1 / unit)
            first, second = _split(part if axis else part.T)
        # The barrier keeps the compiler from fusing a product into a sum, where its two uses could round differently.
        product, row_sums = jax.lax.optimization_barrier((matmul(coarse, coarse.T), jnp.sum(first, axis=1)))
        gram, rest = two_sum(gram, product)
        total, total_rest = two_sum(total, row_sums)
        return gram, gram_low + (rest + cross), total, total_low + (total_rest + jnp.sum(second, axis=1))

    carry = (sums.gram * shrink**2, sums.gram_low * shrink**2, sums.total * shrink, sums.total_low * shrink)
    gram, gram_low, total, total_low = jax.lax.fori_loop(0, columns.shape[axis] // width, step, carry)
    found = Sums(*two_sum(gram, gram_low), *two_sum(total, total_low), unit, largest)
    return Sums(*(part[None] for part in found))


def _split(block: Array) -> tuple[Array, Array]:
    """Split a block into multiples of a step of each row, whose products add up without rounding, and the fine rest."""
    if block.dtype.itemsize == 8:
        return block, jnp.zeros_like(block)
    bits = (jnp.finfo(block.dtype).nmant + 1 - (block.shape[1] - 1).bit_length()) // 2
    # Rows with only tiny entries belong to the rest as a whole.
    peak = jnp.maximum(jnp.max(jnp.abs(block), axis=1, keepdims=True), jnp.finfo(block.dtype).tiny ** 0.5)
    step = _power_of_two(peak) * 2.0 ** (1 - bits)
    coarse = jnp.round(block * (1 / step)) * step
    return coarse, block - coarse


def _power_of_two(x: Array) -> Array:
    """Return the largest power of two that is at most x, for x >= 0: the exponent bits of x."""
    integer, mantissa = MANTISSA[x.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(x, integer)
    return jax.lax.bitcast_convert_type((bits >> mantissa) << mantissa, x.dtype)


def together(*parts: Sums) -> Sums:
    """Add up sums over several sets of columns, in pairs and in the order given; return NumPy arrays for one device.

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

    def summed(power: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        pairs = []
        for sums in (one, other):
            scale = ((sums.unit / unit) ** power).reshape((1,) * (power + 1))
            pairs.append((getattr(sums, name) * scale, getattr(sums, f"{name}_low") * scale))
        (a, a_low), (b, b_low) = pairs
        high, rest = two_sum(a, b)
        return two_sum(high, rest + (a_low + b_low))

    return Sums(*summed(2, "gram"), *summed(1, "total"), unit, np.maximum(one.largest, other.largest))


def mesh_of(devices: Devices | None) -> Mesh | None:
    """Return the mesh of the devices that share the columns; None means JAX's default device."""
    return None if devices is None else Mesh(np.asarray(devices), ("columns",))


def placed(sums: Sums, devices: Devices | None) -> Sums:
    """Put the sums onto the devices, each device with its own part."""
    mesh = mesh_of(devices)
    if mesh is None:
        return Sums(*map(jnp.asarray, sums))
    return Sums(*(jax.device_put(part, NamedSharding(mesh, P("columns"))) for part in sums))


def spread(sums: Sums, devices: Devices | None) -> Sums:
    """Put the sums of one device onto several: the first device continues with them, the others begin at zero."""
    rest = no_sums(sums.gram.shape[-1], sums.gram.dtype, len(devices or (0,)) - 1)
    return placed(Sums(*(np.concatenate(pair) for pair in zip(sums, rest, strict=True))), devices)
