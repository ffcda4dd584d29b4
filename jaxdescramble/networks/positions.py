"""Find the sample that each position of a value belongs to: follow the first axes of x through a graph.

A value may have several places along one axis of x: scores of attention belong to a query and to a key. A place ends at
an operation that mixes positions, or whose kind has no rule; the error for weights of such a value names the operation.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxdescramble._base.checks import sample_weights
from jaxdescramble._base.programs import fused
from jaxdescramble.networks._places import Place, Places, inserted, place
from jaxdescramble.networks.axes import Axes, labels
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.flows import carry_forward
from jaxdescramble.networks.graph import Block, Graph, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.products import Product
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.tracing import Function, trace

TURNS = 8
"""How often a scan's body is gone through until what it carries stays."""


@dataclasses.dataclass
class Positions:
    """Where the axes of x are, for every value.

    Attributes:
        graph: that was followed.
        places: of every value, its dimensions preceded by one for each loop around it.
        ended: for each axis, the operations that mixed its positions.
    """

    graph: Graph
    places: dict[int, Places]
    ended: dict[int, list[Operation]]


def follow_positions(graph: Graph, starts: Mapping[int, int]) -> Positions:
    """Follow the first axes of some values through a graph.

    Args:
        graph: from `trace(..., opened=True)`: what calls with rules of their own do inside is looked at.
        starts: values, and how many of their first axes are axes of samples, the same for all.
    """
    walker = _Walker(graph)
    for number, axes in starts.items():
        shape = graph.shape(number)
        walker.places[number] = {
            k: frozenset({place(0, [range(size) if i == k else [0] * size for i, size in enumerate(shape)])})
            for k in range(axes)
        }
    walker.walk(graph)
    return Positions(graph, walker.places, walker.ended)


class _Walker:
    """The hooks of `carry_forward` for places."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.places: dict[int, Places] = {}
        self.ended: dict[int, list[Operation]] = {}
        self.starts: dict[int, Places] = {}  # what the operands that a scan carries begin with
        self.loops: dict[Operation, int] = {}  # how many scans are around an operation
        self.count_loops(graph, 0)

    def count_loops(self, block: Block, loops: int) -> None:
        for operation in block.operations:
            self.loops[operation] = loops
            for inner in operation.blocks:
                self.count_loops(inner, loops + (inner is operation.body))

    def read(self, number: int, loops: int) -> Places:
        """Return the places of a value as seen from inside `loops` scans: the same at each step of the inner ones."""
        rank = len(self.graph.shape(number))
        return {
            k: frozenset(_inside(one, rank, loops) for one in some) for k, some in self.places.get(number, {}).items()
        }

    def walk(self, block: Block) -> None:
        carry_forward(block, self.places, self.step, self.enter, self.leave, self.again)

    def step(self, operation: Operation) -> None:
        loops = self.loops[operation]
        if operation.name == "cond":
            for branch in operation.unread:
                self.walk(branch)
            for i, number in enumerate(operation.outputs):
                self.places[number] = _common([self.read(branch.outputs[i], loops) for branch in operation.unread])
            return
        read, kind = [self.read(number, loops) for number in operation.inputs], kind_of(operation)
        for i, number in enumerate(operation.outputs):
            found = {}
            for k in sorted({k for one in read for k in one}):
                had = [one.get(k) for one in read]
                found[k] = kind.places_after(operation, i, had, loops, self.graph)
                if not found[k] and any(had):
                    self.ended.setdefault(k, []).append(operation)
            self.places[number] = found

    # A scan is one more dimension of everything inside; what it carries must be the same at every step.

    def enter(self, scan: Operation, position: int, places: Places) -> Places:
        loops = self.loops[scan]
        there = self.read(scan.inputs[position], loops)
        if position >= scan.carries:
            return there
        there = {k: frozenset(inserted(one, loops) for one in some) for k, some in there.items()}
        assert scan.body is not None
        self.starts[scan.body.inputs[position]] = there
        return there

    def again(self, scan: Operation, turn: int) -> bool:
        assert scan.body is not None
        if turn > TURNS:
            return False
        loops, changed = self.loops[scan], False
        ends = scan.body.outputs[: scan.carries]
        for inner, result in zip(scan.body.inputs[: scan.carries], ends, strict=True):
            both = _common([self.starts.get(inner, {}), _steady(self.read(result, loops + 1), loops)])
            changed |= both != self.places.get(inner, {})
            self.places[inner] = both
        if changed and turn == TURNS:  # pragma: no cover - longer than in any network
            for inner in scan.body.inputs[: scan.carries]:
                self.places[inner] = dict.fromkeys(self.places[inner], frozenset())
        return changed

    def leave(self, scan: Operation, position: int, places: Places) -> Places:
        assert scan.body is not None
        loops = self.loops[scan]
        there = self.read(scan.body.outputs[position], loops + 1)
        if position < scan.carries:  # what the last step leaves
            there = _steady(there, loops)
            there = {k: frozenset(_removed(one, {loops}) for one in some) for k, some in there.items()}
        return there


def _inside(one: Place, rank: int, loops: int) -> Place:
    home = len(one.steps) - rank
    return Place(one.offset, (*one.steps[:home], *[()] * (loops - home), *one.steps[home:]))


def _removed(one: Place, at: set[int]) -> Place:
    return Place(one.offset, tuple(step for i, step in enumerate(one.steps) if i not in at))


def _steady(places: Places, loop: int) -> dict[int, frozenset[Place]]:
    return {k: frozenset(one for one in some if not one.along(loop)) for k, some in places.items()}


def _common(sets: Sequence[Places]) -> dict[int, frozenset[Place]]:
    """Return the places that are common to all sets which depend on the axis."""
    axes = {k for places in sets for k in places}
    return {k: frozenset.intersection(*(places[k] for places in sets if k in places)) for k in axes}


def layer_weights(
    f: Function,
    params: PyTree,
    x: PyTree,
    weights: object,
    folds: Mapping[str, Callable[[np.ndarray, Axes], np.ndarray]],
    refused: dict[str, str] | None = None,
) -> dict[str, Array]:
    """Return the weights of the samples of every layer.

    Args:
        f, params, x: the same arguments as in `wiretap`.
        weights: an array in the shape of x's first axes.
        folds: the argument `fold` of `layer_index`, by the name of the layer.
        refused: a dictionary that collects the reasons for layers without weights; None means to raise the first one.

    Returns:
        For each layer an array (samples,), or (*lead, samples) where the layers of a stack have different samples.

    Raises:
        TypeError, ValueError: if `axes_of_samples` raises one; without `refused`, also if `layer_index` does.
    """
    known, starts = axes_of_samples(x, weights)
    graph = trace(f, params, x, opened=True)
    facts = study(graph)
    products, _ = find_products(graph, facts)
    positions = follow_positions(graph, {graph.arguments[1][i]: axes for i, axes in starts.items()})
    found = {}
    for name, fold in folds.items():
        try:
            index = layer_index(positions, facts, products[name], known.ndim, fold)
        except ValueError as error:
            if refused is None:
                raise
            refused[name] = str(error)
            continue
        first = [one[(0,) * (one.ndim - 1)] for one in index]
        alike = all((one == row).all() for one, row in zip(index, first, strict=True))
        found[name] = _picked(known, tuple(first if alike else index))
    return found


@fused
def _picked(array: Array, places: tuple[np.ndarray | Array, ...]) -> Array:
    return array[places]


def axes_of_samples(x: PyTree, weights: object) -> tuple[Array, dict[int, int]]:
    """Return weights as an array, and for each leaf of x, by its number, how many of their axes it has.

    Raises:
        TypeError, ValueError: as `checks.sample_weights`; weights whose shape is not that of the first axes of x.
    """
    leaves = jax.tree_util.tree_leaves_with_path(x)
    shapes = [np.shape(leaf) for _, leaf in leaves]
    longest = max(shapes, key=len, default=())
    allowed = [longest[: i + 1] for i in range(len(longest))]
    if not allowed:
        raise ValueError("weights: x has no axes, so there are no samples to weigh.")
    known = sample_weights(weights, allowed, jnp.zeros(0).dtype)
    starts = {}
    for i, ((path, _), shape) in enumerate(zip(leaves, shapes, strict=True)):
        axes = min(len(shape), known.ndim)
        if shape[:axes] != known.shape[:axes]:
            raise ValueError(
                f"weights: shape {known.shape} is not that of the first axes of x{jax.tree_util.keystr(path)}, whose "
                f"shape is {shape}. Every array of x must begin with the samples' axes; close f over those that hold "
                "no samples."
            )
        if axes:
            starts[i] = axes
    return known, starts


def layer_index(
    positions: Positions,
    facts: Facts,
    product: Product,
    axes: int,
    fold: Callable[[np.ndarray, Axes], np.ndarray],
) -> tuple[np.ndarray, ...]:
    """Return the index along each axis of the weights, for each sample of a layer.

    Args:
        positions: from `follow_positions`, of the graph that the product stands in.
        facts: about that graph.
        product: the layer.
        axes: how many axes the weights have.
        fold: brings an array over the loops and dimensions of the layer's data, features left out, into the order of
            the columns of its signals, (*lead, samples).

    Returns:
        An array of integers for each axis, of shape (*lead, samples).

    Raises:
        ValueError: names the axis along which the index is unknown, says why, and what to do.
    """
    graph = positions.graph
    number = product.positions
    around = facts.loops.get(number, ())
    sizes = [math.prod(atom.size for atom in dimension) for dimension in product.data_axes]
    features = {i for i, dimension in enumerate(product.data_axes) if "in" in labels(dimension)}
    lengths = [loop.params["length"] for loop in around]
    rest = tuple(dimension for i, dimension in enumerate(product.data_axes) if i not in features)
    rank = len(graph.shape(number))
    found = []
    for k in range(axes):
        some = positions.places.get(number, {}).get(k)
        if not some:
            raise ValueError(_why(positions, product, k, some is None))
        if len(some) > 1:
            raise ValueError(
                f"weights: layer {product.name}: a sample there belongs to several positions along axis {k} of x (as "
                f"pairs of tokens do), so it has no one weight. {_WAY_OUT}"
            )
        one = _inside(next(iter(some)), rank, len(around))
        if any(one.along(len(around) + i) for i in features):
            raise ValueError(
                f"weights: layer {product.name} takes axis {k} of x for its features ({product.operation.source}), so "
                f"its samples have no weights along that axis. {_WAY_OUT}"
            )
        inner = [step for i, step in enumerate(one.steps[len(around) :]) if i not in features]
        shape = [*lengths, *(size for i, size in enumerate(sizes) if i not in features)]
        index = Place(one.offset, (*one.steps[: len(around)], *inner)).indices(shape)
        if (index < 0).any():
            raise ValueError(
                f"weights: layer {product.name} has samples that come from no position along axis {k} of x, such as a "
                f"class token or padding put in by the network. {_WAY_OUT}"
            )
        found.append(fold(index, rest))
    return tuple(found)


_WAY_OUT = (
    "Give weights along the axes that all samples share (often x.shape[:1]); or, in `descramble_network`, leave the "
    "layer out: let a function objective=lambda name, side, size: ... return None there."
)


def _why(positions: Positions, product: Product, axis: int, missing: bool) -> str:
    if missing:
        return f"weights: layer {product.name} reads nothing that depends on axis {axis} of x. {_WAY_OUT}"
    ended = positions.ended.get(axis, [])
    where = f"; the first to do so is `{ended[0].name}` ({ended[0].source})" if ended else ""
    return (
        f"weights: layer {product.name} reads what was mixed along axis {axis} of x{where}. Its samples have no weight "
        f"of their own there. {_WAY_OUT}"
    )
