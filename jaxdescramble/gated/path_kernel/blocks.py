"""Kernels of too many samples for the memory: one compiled program computes them tile by tile."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base import results
from jaxdescramble._base.checks import a_function, in_order, instance_of, one_with, positive_integer, real_array
from jaxdescramble._base.devices import Device

# Samples along a side of a dense kernel's tile. On CPUs a tile fits into the cache of one core while its products are
# multiplied. Accelerators get larger tiles, which make up for the cost of a call.
CPU, ACCELERATOR = 512, 4096


class Tile(NamedTuple):
    """A block of a kernel and its place: `kernel[rows, columns] = block`."""

    rows: slice
    columns: slice
    block: Float[Array, "rows columns"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def tiles(
    kernel: Callable[..., Array],
    data1: Sequence[PyTree],
    data2: Sequence[PyTree] | None = None,
    tile_size: int | None = None,
    devices: Sequence[Device] | None = None,
) -> Iterator[Tile]:
    """Yield the blocks of a kernel one after the other; together they cover the kernel once.

    Use it when the whole kernel does not fit into memory. While you use one tile, the next one is computed; at most two
    are in memory. A kernel of the data with themselves is symmetric, so only half is computed: the transpose follows
    each block off the diagonal.

    Args:
        kernel: `dense`, `convolutional`, `residual`, or any function of `(x1, x2, gates1, gates2)`. Pass options with
            `functools.partial(dense, normalise="cosine")` or `partial(expected_ntk, dense, variances=0.1)`.
        data1: `(x, gates)` of the rows. More generally, pytrees of arrays with the samples first; the kernel gets each
            of them together with its partner from data2. NumPy arrays stay where they are, and each tile copies its
            part. Hard gates can be int8 or bool.
        data2: `(x, gates)` of the columns; None means data1.
        tile_size: largest number of samples along a side of a tile; all tiles have one size. None means 512 (4096 on
            accelerators), divided by the largest number of positions in an array (batch, *space, channels).
        devices: devices that share the rows of each tile; None means one device, the one that holds the data.

    Yields:
        `Tile(rows, columns, block)`.

    Raises:
        ValueError: if the data have no samples, or fewer samples than devices. Errors of the kernel are passed on.

    >>> from jaxdescramble.gated.path_kernel.kernels import dense
    >>> x, gates = jnp.ones((3, 2)), [jnp.ones((3, 4))]
    >>> for rows, columns, block in tiles(dense, (x, gates), tile_size=2):
    ...     print((rows.start, rows.stop), (columns.start, columns.stop), float(block[0, 0]))
    (0, 2) (0, 2) 2.0
    (0, 2) (2, 3) 2.0
    (2, 3) (0, 2) 2.0
    (2, 3) (2, 3) 2.0

    Source: ours.
    """
    a_function(kernel, "kernel", "(x1, x2, gates1, gates2)")
    rows, columns = _size(data1, "data1"), _size(data2, "data2") if data2 is not None else None
    if data2 is not None and len(data2) != len(data1):
        raise ValueError(f"data1, data2: got {len(data1)} and {len(data2)} parts; must have the same number of parts.")
    size = positive_integer(tile_size, "tile_size") if tile_size is not None else _default_size(data1)
    parts = 1 if devices is None else len(devices)
    if rows < parts:
        raise ValueError(f"devices: got {parts} devices for {rows} samples. Use at most one device per sample.")
    mesh = None if devices is None else Mesh(np.asarray(devices), ("rows",))
    others = None if data2 is None else tuple(data2)
    return _stream(_hashable(kernel), tuple(data1), others, (rows, columns or rows), size, mesh)


def gather(blocks: Iterable[Tile]) -> Float[np.ndarray, "n1 n2"]:
    """Assemble the whole kernel from its tiles, as a NumPy array.

    Args:
        blocks: all tiles of a kernel, such as the iterator that `tiles` returns.

    Returns:
        Array of shape (n1, n2).

    >>> from jaxdescramble.gated.path_kernel.kernels import dense
    >>> x, gates = jnp.asarray([[1.0], [2.0], [3.0]]), [jnp.ones((3, 4))]
    >>> gather(tiles(dense, (x, gates), tile_size=2)).tolist()
    [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 9.0]]

    Raises:
        ValueError: if there are no tiles, or if they do not cover a matrix once.
    """
    if not isinstance(blocks, Iterable):
        raise TypeError(f"blocks: got {blocks!r}; must be tiles.")
    blocks = [instance_of(block, "blocks", Tile, "tiles") for block in blocks]
    held = [(rows, columns, _block(rows, columns, block)) for rows, columns, block in blocks]
    if not held:
        raise ValueError("blocks: got no tiles. An iterator is empty after its first use; call tiles again.")
    whole = np.empty((max(rows.stop for rows, _, _ in held), max(c.stop for _, c, _ in held)), held[0][2].dtype)
    places = {(rows.start, columns.start): block.size for rows, columns, block in held}
    if len(places) < len(held) or sum(places.values()) != whole.size:
        raise ValueError(f"blocks: {len(held)} tiles do not cover {whole.shape} once. Was the iterator used before?")
    for rows, columns, block in held:
        whole[rows, columns] = block
    return whole


def _block(rows: slice, columns: slice, block: ArrayLike) -> np.ndarray:
    found = np.asarray(real_array(block, "blocks", (2,), "(rows, columns)"))
    sizes = tuple(getattr(part, "stop", 0) - getattr(part, "start", 0) for part in (rows, columns))
    if found.shape != sizes:
        raise ValueError(f"blocks: got a block of shape {found.shape} for {sizes[0]} rows and {sizes[1]} columns.")
    return found


def _stream(
    kernel: Callable[..., Array],
    data1: tuple[PyTree, ...],
    data2: tuple[PyTree, ...] | None,
    shape: tuple[int, int],
    size: int,
    mesh: Mesh | None,
) -> Iterator[Tile]:
    n1, n2 = shape
    parts = 1 if mesh is None else mesh.size
    height = min(-(-_even(n1, size) // parts), n1 // parts) * parts
    width = height if data2 is None else _even(n2, size)
    waiting: Tile | None = None
    for top in range(0, n1, height):
        above = _cut(data1, top, height, n1, mesh and NamedSharding(mesh, P("rows")))
        for left in range(top if data2 is None else 0, n2, width):
            beside = _cut(data1 if data2 is None else data2, left, width, n2, mesh and NamedSharding(mesh, P()))
            # The last row and column of tiles overlap others, so that all tiles have one shape and one program.
            block = _tile(kernel, mesh, above, beside)
            above_again, beside_again = max(top + height - n1, 0), max(left + width - n2, 0)
            block = block[above_again:, beside_again:] if above_again or beside_again else block
            if waiting is not None:
                yield from _with_transpose(waiting, data2 is None)
            waiting = Tile(slice(top, min(top + height, n1)), slice(left, min(left + width, n2)), block)
    assert waiting is not None
    yield from _with_transpose(waiting, data2 is None)


def _even(total: int, size: int) -> int:
    """Return the size of tiles, at most `size`, with which all tiles are nearly equal."""
    return -(-total // -(-total // size))


def _with_transpose(tile: Tile, symmetric: bool) -> Iterator[Tile]:
    jax.block_until_ready(tile.block)
    yield tile
    if symmetric and tile.rows != tile.columns:
        yield Tile(tile.columns, tile.rows, tile.block.T)


@functools.partial(jax.jit, static_argnames=("kernel", "mesh"))
def _tile(
    kernel: Callable[..., Array], mesh: Mesh | None, above: tuple[PyTree, ...], beside: tuple[PyTree, ...]
) -> Array:
    def block(above: tuple[PyTree, ...], beside: tuple[PyTree, ...]) -> Array:
        return kernel(*(part for pair in zip(above, beside, strict=True) for part in pair))

    if mesh is None:
        return block(above, beside)
    return jax.shard_map(block, mesh=mesh, in_specs=(P("rows"), P()), out_specs=P("rows"))(above, beside)


def _cut(
    data: tuple[PyTree, ...], start: int, size: int, total: int, sharding: NamedSharding | None
) -> tuple[PyTree, ...]:
    start = min(start, total - size)
    leaves, structure = jax.tree.flatten(data)
    there = iter(_slices([leaf for leaf in leaves if isinstance(leaf, Array)], start, size))
    parts = [next(there) if isinstance(leaf, Array) else jnp.asarray(leaf[start : start + size]) for leaf in leaves]
    cut = jax.tree.unflatten(structure, parts)
    return cut if sharding is None else jax.device_put(cut, sharding)


@functools.partial(jax.jit, static_argnums=2)
def _slices(arrays: list[Array], start: Array | int, size: int) -> list[Array]:
    return [jax.lax.dynamic_slice_in_dim(array, start, size) for array in arrays]


def _size(data: Sequence[PyTree], name: str) -> int:
    leaves = jax.tree.leaves(tuple(in_order(data, name, "(x, gates), or such a list of arrays")))
    for leaf in leaves:
        one_with(leaf, name, ("shape", "dtype"), "arrays")
        if leaf.dtype != bool and not jnp.issubdtype(leaf.dtype, jnp.number):
            raise TypeError(f"{name}: got an array of {leaf.dtype}; must be arrays of numbers.")
    sizes = {np.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes <= {(), (0,)}:
        raise ValueError(
            f"{name}: got arrays of shapes {[np.shape(leaf) for leaf in leaves]}; their first axes must be equal and "
            "count at least one sample."
        )
    return sizes.pop()[0]


def _default_size(data: Sequence[PyTree]) -> int:
    positions = max(math.prod(np.shape(leaf)[1:-1]) for leaf in jax.tree.leaves(tuple(data)))
    return max((CPU if jax.default_backend() == "cpu" else ACCELERATOR) // positions, 1)


@dataclasses.dataclass(frozen=True)
class _Bound:
    """A `functools.partial` with equality: equal functions and options are equal, so `jit` compiles them once."""

    function: Callable[..., Array]
    arguments: tuple[object, ...]
    options: tuple[tuple[str, object], ...]

    def __call__(self, *more: object) -> Array:
        return self.function(*self.arguments, *more, **dict(self.options))


def _hashable(kernel: Callable[..., Array]) -> Callable[..., Array]:
    if not isinstance(kernel, functools.partial):
        return kernel
    arguments = tuple(_hashable(one) for one in kernel.args)
    bound = _Bound(kernel.func, arguments, tuple(sorted(kernel.keywords.items())))
    try:
        hash(bound)
    except TypeError:  # an array among the options: this partial is compiled by itself
        return kernel
    return bound
