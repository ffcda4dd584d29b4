"""The neurons of a network, their gates, and the affine piece that an input lands on."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxdescramble._base.checks import a_function, samples_first
from jaxdescramble.networks.axes import axis
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.flows import carry_forward, follow_axis
from jaxdescramble.networks.graph import IDENTITY, Graph, Operation
from jaxdescramble.networks.kinds import arranges, kind_of
from jaxdescramble.networks.layers import find_layers, find_products
from jaxdescramble.networks.obstacles import curved_operations, listed, obstacle_behind, refuse_integers
from jaxdescramble.networks.pieces import Pieces, decides_on_complex, follow_piece
from jaxdescramble.networks.tracing import Function, leaves_of, trace

OUTPUT = "output"
WAY_OUT = (
    "For smooth networks use attribution.switched.project(..., jacobian=True), the first-order expansion at x, or "
    "attribution.integrated_gradients, which needs no gates."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Neurons:
    """A traced network with its neurons.

    Attributes:
        graph, facts: of `f(params, x)`.
        hidden: by name, the value that is a neuron's preactivation. A neuron is what a gate decides on; max-pools
            between the two are looked through.
        edges: by name, the gates that decide on it: the value that each reads and which of its edges it is.
        winners: by name, the results of operations that take the largest or smallest of several.
        blocked: gates that read what has no piece, and the operation that is to blame.
        batch: number of samples; `batch_axes`: where they stand in a value.
        tangents: whether smooth operations go on along their tangents, so that every neuron has an affine map.
    """

    graph: Graph
    facts: Facts
    hidden: dict[str, int]
    edges: dict[str, list[tuple[int, int]]]
    winners: dict[str, int]
    blocked: dict[int, Operation]
    batch: int
    batch_axes: dict[int, int]
    tangents: bool = False

    def with_tangents(self) -> "Neurons":
        """Return a copy in which tangents stand in for smooth operations, and every linear layer is a neuron too."""
        layers = {name: layer.preactivation for name, layer in find_layers(self.graph, self.facts)[0].items()}
        return dataclasses.replace(self, hidden=layers | self.hidden, blocked={}, tangents=True)

    @property
    def x(self) -> int:
        return self.graph.arguments[1][0]

    def follow(self, params: PyTree, x: Array, moved: dict[int, Array], names: Iterable[str]) -> Pieces:
        """Run along the piece of x (`networks.pieces.follow_piece`); raise if a wanted neuron has no piece."""
        names = list(names)
        wanted = {self.value(name) for name in names}
        pieces = follow_piece(self.graph, self.facts, leaves_of((params, x)), moved, wanted, self.tangents)
        for name in names:
            if self.value(name) in pieces.refused:
                raise self.unsupported(name, pieces.refused[self.value(name)])
        return pieces

    def value(self, name: str) -> int:
        """Return the number of the value of a neuron or of the output; raise `ValueError` for an unknown name."""
        if name == OUTPUT:
            if len(self.graph.outputs) != 1:
                raise ValueError(
                    f"f: returned {len(self.graph.outputs)} arrays; {OUTPUT!r} is the only one it returns."
                )
            return self.graph.outputs[0]
        if name not in self.hidden:
            for blame in self.blocked.values():
                raise self.unsupported(name, blame)
            if not self.hidden and not self.tangents:
                raise self.no_gates("neuron")
            raise ValueError(f"neuron: no layer is called {name!r}; there are {[*self.hidden, OUTPUT]}.")
        return self.hidden[name]

    def arranged(self, name: str, value: Array) -> Array:
        """Return a neuron's numbers with the batch first, then the steps of the scans around it."""
        number = self.value(name)
        place = len(self.facts.loops.get(number, ())) + self.batch_axes.get(number, 0)
        known = number in self.batch_axes or number not in self.facts.data
        value = jnp.moveaxis(value, place, 0) if value.ndim > place else value
        if not known or value.ndim == 0 or value.shape[0] != self.batch:
            raise ValueError(
                f"{name}: the {self.batch} samples of x cannot be followed into it (shape {value.shape}); switched "
                "projections take x of shape (batch, ...) and a network that treats each sample by itself. For a "
                "function of one sample pass jax.vmap(f, (None, 0))."
            )
        return value

    def unsupported(self, name: str, operation: Operation) -> NotImplementedError:
        """Return the error for a neuron without an affine piece, or without a derivative."""
        if self.tangents:
            return NotImplementedError(
                f"{name}: depends on x by way of {listed(operation)}, which has no derivative backwards. Ask for "
                "neurons before it, or write it without a loop of unknown length (`while`) and without callbacks."
            )
        culprit = listed(obstacle_behind(self.graph, self.facts, operation))
        return NotImplementedError(
            f"{name}: depends on x by way of {culprit}, which is not piecewise linear. Ask for neurons before it, or "
            f"leave it out of f (a softmax at the end, say). {WAY_OUT} Gates may be relu, leaky_relu, relu6, "
            "hard_tanh, abs, clip, max-pools, where of a comparison."
        )

    def check_real(self, argument: str) -> None:
        """Raise `TypeError` if a gate decides on complex numbers, such as `abs` of a complex layer."""
        for blame in self.blocked.values():
            if decides_on_complex(self.graph, blame):
                raise TypeError(
                    f"{argument}: {listed(blame)} decides on complex numbers. A gate compares real numbers; the "
                    "absolute value of a complex one is a curve. Use project(..., jacobian=True)."
                )

    def no_gates(self, argument: str) -> ValueError:
        """Return the error for a network without gates that depend on x."""
        smooth = curved_operations(self.graph, self.facts)
        if smooth:
            return ValueError(
                f"{argument}: f has no gates. Its activations are smooth, not piecewise linear: {listed(*smooth)}. "
                f"{WAY_OUT}"
            )
        return ValueError(
            f"{argument}: f has no gates that depend on x: no relu, no maximum, no comparison. If f is linear, project "
            "with the index of an output gives its weight."
        )

    def shape(self, value: int) -> tuple[int, ...]:
        """Return the shape of one sample's part of a value, without the steps of scans around it."""
        place, shape = self.batch_axes.get(value, 0), self.graph.shape(value)
        return shape[:place] + shape[place + 1 :]

    def lowest(self, name: str, pieces: Pieces) -> Array:
        """Return where a neuron's lowest piece ends."""
        return functools.reduce(jnp.minimum, self._edges(name, pieces))

    def piece(self, name: str, pieces: Pieces) -> Array:
        """Return the number of a neuron's piece: how many of its edges lie below it."""
        value = self.arranged(name, pieces.real[self.hidden[name]])
        return sum(((value > edge).astype(jnp.int32) for edge in self._edges(name, pieces)), jnp.zeros((), jnp.int32))

    def _edges(self, name: str, pieces: Pieces) -> Iterator[Array]:
        shape = self.graph.shape(self.hidden[name])
        steps = len(self.facts.loops.get(self.hidden[name], ()))
        for value, position in self.edges[name]:
            edge = pieces.edges[value][position]
            wide = edge.shape[steps:]
            if edge.ndim > steps and wide != shape:  # the gate stands behind a pool
                raise ValueError(
                    f"{name}: its gate turns at values of shape {wide}, which do not fit the neurons, of shape "
                    f"{shape}; give one number for all."
                )
            if edge.ndim == steps:
                yield edge.reshape((1, *edge.shape, *(1 for _ in shape[1:]))) if steps else edge
            else:
                yield jnp.moveaxis(edge, steps + self.batch_axes.get(self.hidden[name], 0), 0)


def where_known(x: Array, values: Array) -> Array:
    """Return `values`, samples first, with NaN for samples that hold NaN or infinity: no gate can decide on them.

    >>> where_known(jnp.asarray([[1.0], [jnp.nan]]), jnp.ones(2)).tolist()
    [1.0, nan]
    """
    finite = jnp.isfinite(x).all(axis=tuple(range(1, x.ndim)))
    return jnp.where(finite.reshape((-1,) + (1,) * (values.ndim - 1)), values, jnp.nan)


def read(f: Function, params: PyTree, x: ArrayLike) -> tuple[Neurons, Array]:
    """Return the neurons of a network at inputs of this shape, and x as an array.

    Raises:
        TypeError, ValueError: x is not one array of real numbers, (batch, ...); it holds integers, such as token ids.
    """
    a_function(f, "f")
    refuse_integers(f, params, x)
    x = samples_first(x)
    graph = trace(f, params, x, opened=True)
    facts = study(graph)
    pieces: list[Pieces] = []

    def run(arguments: list[Array]) -> None:
        pieces.append(follow_piece(graph, facts, arguments, {graph.arguments[1][0]: arguments[-1]}))

    jax.eval_shape(run, leaves_of((params, x)))
    hidden, edges, winners = _name_neurons(graph, facts, pieces[0])
    blocked = {n: blame for n, blame in pieces[0].blocked.items() if not _only_shifts(n, graph, facts)}
    return Neurons(graph, facts, hidden, edges, winners, blocked, len(x), _batch_axes(graph, len(x))), x


def _batch_axes(graph: Graph, batch: int) -> dict[int, int]:
    """Return the samples' dimension in each value that they can be followed into; `vmap` may put it last."""
    found = {}
    whole = axis("batch", batch)
    for value, axes in follow_axis(graph, graph.arguments[1][0], 0, "batch").items():
        if batch > 1 and whole in axes:
            found[value] = axes.index(whole)
    if batch == 1:  # any axis of size 1 will do: the numbers and their order are the same
        shapes = ((value, tuple(aval.shape)) for value, aval in enumerate(graph.avals) if hasattr(aval, "shape"))
        found = {value: shape.index(1) for value, shape in shapes if 1 in shape}
    return found


def _name_neurons(
    graph: Graph, facts: Facts, pieces: Pieces
) -> tuple[dict[str, int], dict[str, list[tuple[int, int]]], dict[str, int]]:
    owners = _owners(graph, facts)
    order = {number: i for i, number in enumerate(owners)}
    roots: dict[int, int] = {}  # the result of a gate still counts as the neuron that went in

    def root(value: int) -> int:
        return root(roots[value]) if value in roots else value

    for (value, _), operation in sorted(pieces.gates.items(), key=lambda gate: order.get(gate[1].outputs[0], -1)):
        if kind_of(operation).clips:
            roots[operation.outputs[0]] = value
        for reader, position in facts.readers[operation.outputs[0]]:
            if reader.name == "select_n" and position == 0:
                passed = {root(n) for n in reader.inputs[1:] if n in facts.data}
                if passed == {root(value)}:
                    roots[reader.outputs[0]] = value

    def neuron(value: int) -> int:
        while True:
            if value in roots:
                value = roots[value]
            elif (behind := _behind_a_pool(value, graph, facts)) is not None:
                value = behind
            else:
                return value

    of: dict[int, list[tuple[int, int]]] = {}
    for gate in sorted(pieces.gates, key=lambda gate: order.get(gate[0], -1)):
        of.setdefault(neuron(gate[0]), []).append(gate)
    names: dict[str, int] = {}

    def name(value: int, what: str) -> str:
        base = (owners.get(value) or "input") + what
        names[base] = names.get(base, 0) + 1
        return base if names[base] == 1 else f"{base}#{names[base]}"

    hidden = {name(value, ""): value for value in sorted(of, key=lambda value: order.get(value, -1))}
    edges = {one: of[value] for one, value in hidden.items()}
    choices = (number for number in pieces.winners if not _only_shifts(number, graph, facts))
    winners = {name(number, " winner"): number for number in sorted(choices, key=lambda n: order.get(n, -1))}
    return hidden, edges, winners


def _only_shifts(value: int, graph: Graph, facts: Facts) -> bool:
    """Return whether a maximum ends in a `stop_gradient`: a softmax subtracts it, which changes nothing."""
    waiting, seen = [value], {value}
    for here in waiting:
        if here in facts.returned:
            return False
        for reader, _ in facts.readers[here]:
            if reader.name != "stop_gradient":
                if not (reader.pointwise or arranges(reader, graph) or reader.name == "broadcast_in_dim"):
                    return False
                waiting += [number for number in reader.outputs if number not in seen]
                seen.update(reader.outputs)
    return True


def _behind_a_pool(value: int, graph: Graph, facts: Facts) -> int | None:
    """Return the operand of the max-pool whose rearranged result a value is; None if there is no such pool."""
    maker = facts.makers.get(value)
    while maker is not None and (maker.name in IDENTITY or arranges(maker, graph)):
        maker = facts.makers.get(maker.inputs[0])
    return maker.inputs[0] if maker is not None and kind_of(maker).chooses and maker.inputs[0] in facts.data else None


def _owners(graph: Graph, facts: Facts) -> dict[int, str]:
    """Return for every value, in the order of computation, the name of the last layer that it comes from, or ""."""
    products = {product.operation: name for name, product in find_products(graph, facts)[0].items()}
    owners = dict.fromkeys([*graph.inputs, *graph.constants], "")
    rank = {name: i for i, name in enumerate(products.values())}

    def last_read(operation: Operation) -> str:
        known = [name for number in operation.reads if (name := owners.get(number))]
        return max(known, key=lambda name: rank[name], default="")

    def step(operation: Operation) -> None:
        owners.update(dict.fromkeys(operation.outputs, products.get(operation) or last_read(operation)))

    def enter(scan: Operation, position: int, owner: str) -> str:
        return owner

    def leave(scan: Operation, position: int, owner: str) -> str:
        return owner or last_read(scan)

    carry_forward(graph, owners, step, enter, leave)
    return owners
