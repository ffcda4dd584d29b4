"""Inactive-state sensitivity: the part of an input that keeps the inactive neurons inactive."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import one_of, positive_integer, positive_number, random_key, true_or_false
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Stored
from jaxdescramble.attribution.switched._losers import lost
from jaxdescramble.attribution.switched._neurons import Neurons, read
from jaxdescramble.attribution.switched._reach import colours, multiplications, reaches
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.kinds import arranges, kind_of
from jaxdescramble.networks.tracing import Function, leaves_of

METHODS = ("exact", "probes")
ROUTES = ("forward", "coloured", "first layer", "reverse")
# Largest count of numbers in the probes of one chunk, if no `chunk_size` is given.
ROOM = 2**23


@functools.partial(
    register_dataclass,
    data_fields=["map", "count", "zero_weight_count", "largest_share"],
    meta_fields=["route", "costs"],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Insens(Stored):
    """Inactive-state sensitivity of an input.

    Attributes:
        map: the mean vector Omega of each sample, shaped like x.
        count: number of inactive neurons of each sample.
        zero_weight_count: number of inactive neurons with w_i = 0, which are counted but add nothing to Omega.
        largest_share: length of the longest omega_i, divided by the sum of all lengths. Near 1, a single neuron makes
            the map.
        route: the route that found the norms of the w_i.
        costs: pairs (route, number of multiplications on all samples, estimated from the shapes).
    """

    map: Float[Array, "batch *features"]
    count: Int[Array, " batch"]
    zero_weight_count: Int[Array, " batch"]
    largest_share: Float[Array, " batch"]
    route: str
    costs: tuple[tuple[str, float], ...]


class _Plan(NamedTuple):
    """The number of probes, the value that they replace, and a function that makes the k-th probe."""

    size: int
    value: int
    probe: Callable[[Array], Array]


def insens(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    method: str = "exact",
    chunk_size: int | None = None,
    *,
    key: PRNGKeyArray | None = None,
    probes: int = 32,
    route: str | None = None,
    cap: float | None = None,
    losers: bool = False,
) -> Insens:
    """Return the inactive-state sensitivity: the mean vector to x from the points where inactive neurons switch on.

    The result is an attribution map with the shape of x, for networks of relu-like neurons. Near x, such a network is
    an affine map, its piece at x. On this piece, the preactivation of hidden neuron i, minus the edge below which the
    neuron is inactive (0 for relu), is `v_i = <w_i, x> + b_i`, where w_i is the neuron's switched projection (see
    `project`). If the neuron is inactive, v_i is at most 0, and the nearest point with v_i = 0 is `x - omega_i`:

    `Omega(x) = mean over inactive hidden neurons of omega_i`, `omega_i = (v_i / |w_i|^2) w_i`

    You rarely need `method` and `route`, which decide how the norms |w_i| are computed: the exact routes differ only in
    cost. Three of them send changes (probes) forward through the piece, and add up the squares of the resulting changes
    of each v_i:

    - "forward": one probe for each input feature;
    - "coloured": features that no neuron sees together share a probe. Use it for convolutions;
    - "first layer": probes behind the first layer, one for each of its neurons, if it has fewer neurons than x has
      features. With W_l the weight of layer l and M the slopes of the gates before it (a diagonal matrix), this costs
      as much as the recursion `G_l = W_l^T M G_(l-1) M W_l`, whose diagonals are the |w_i|^2. It works for every
      network after that layer.

    The fourth route, "reverse", makes one pass backward for each neuron. Method "probes" sends random signs forward and
    estimates |w_i|^2 by the mean of the squared changes of v_i. All methods end with one pass backward, for Omega.

    Args:
        f: a function `f(params, x)`, made of piecewise-linear operations of JAX (`project` lists them).
        params: parameters of f.
        x: the samples, shape (batch, ...); f must treat each sample by itself. Hidden neurons are the inputs of gates,
            such as relu. If a max-pool stands before the gate, they are the values before the pool. Outputs of f do not
            count.
        method: "exact" or "probes".
        chunk_size: how many probes are computed at a time; None means as many as fit into 32 MB. It changes only the
            memory.
        key: random key of method "probes".
        probes: number of probes of method "probes".
        route: route of method "exact": "forward", "coloured", "first layer" or "reverse"; None means the cheapest.
        cap: largest length of an omega_i; longer ones are shortened to it. None means no limit.
        losers: True also counts active neurons as inactive, if only max-pools read them and they lose in each of these.

    Returns:
        An `Insens`. omega_i is 0 for a neuron with w_i = 0 or exactly at its edge; both kinds of neurons are counted in
        the mean. Without inactive neurons Omega is 0.

    Raises:
        NotImplementedError: if an operation before a gate is not piecewise linear.
        TypeError, ValueError: if x is not an array of real numbers, f has no gates, a name is unknown, or method
            "probes" has no key.

    >>> f = lambda W, x: jax.nn.relu(x @ W[0]) @ W[1]
    >>> W = jnp.asarray([[1.0, 2.0], [0.0, 0.0]]), jnp.ones((2, 1))
    >>> insens(f, W, jnp.asarray([[-3.0, 1.0]])).map.tolist()  # both are silent, by the first input alone
    [[-3.0, 0.0]]

    Source: Szymanski, McCane, Atkinson 2019 (arXiv 1909.11275v1), Insens; the algorithm is ours.
    """
    one_of(method, "method", METHODS)
    neurons, x = read(f, params, x)
    neurons.check_real("insens")
    for blame in neurons.blocked.values():
        raise neurons.unsupported("a hidden neuron", blame)
    if not neurons.hidden:
        raise neurons.no_gates("insens")
    if chunk_size is not None:
        chunk_size = positive_integer(chunk_size, "chunk_size")
    longest = None if cap is None else positive_number(cap, "cap")
    losers = true_or_false(losers, "losers")
    if method == "probes":
        if key is None:
            raise ValueError("key: method 'probes' draws random signs; give it key=jax.random.key(...).")
        if route is not None:
            raise ValueError(f"route: got {route!r}; method 'probes' has its own, leave it out.")
    elif route is not None:
        one_of(route, "route", ROUTES)
    ways, costs = _ways(f, neurons, params, x)
    if method == "probes":
        probes = positive_integer(probes, "probes")
        signs = jax.random.split(random_key(key), probes)
        shape, route = x.shape[1:], "probes"
        ways[route] = lambda: _Plan(probes, neurons.x, lambda k: jax.random.rademacher(signs[k], shape, x.dtype))
    elif route is None:
        route = min(costs, key=lambda name: costs[name])
    elif route not in costs:
        raise ValueError(f"route: {route!r} does not lead through this network; {[*costs]} do.")
    plan = ways[route]() if route in ways else None
    map_, count, zero, share = _insens(neurons, params, x, plan, chunk_size, method == "probes", longest, losers)
    return Insens(map_, count, zero, share, route, tuple(costs.items()))


def _insens(
    neurons: Neurons,
    params: PyTree,
    x: Array,
    plan: _Plan | None,
    chunk: int | None,
    is_mean: bool,
    cap: float | Array | None,
    losers: bool,
) -> tuple[Array, Array, Array, Array]:
    names = list(neurons.hidden)
    numbers = [neurons.hidden[name] for name in names]
    pieces = neurons.follow(params, x, {neurons.x: x}, names)
    above = {
        name: neurons.arranged(name, pieces.real[n]) - neurons.lowest(name, pieces)
        for name, n in zip(names, numbers, strict=True)
    }

    def forward(value: int) -> Callable[[Array], dict[str, Array]]:
        """Return the linear part of the piece: the map from a change of one value to the changes of all neurons."""
        start = x if value == neurons.x else evaluate(neurons.graph, leaves_of((params, x)), {value})[1][value]
        place = neurons.batch_axes.get(value, 0)

        def run(z: Array) -> dict[str, Array]:
            moved = neurons.follow(params, x, {value: jnp.moveaxis(z, 0, place)}, names).moved
            return {name: neurons.arranged(name, moved[n]) for name, n in zip(names, numbers, strict=True)}

        return jax.linearize(run, jnp.moveaxis(start, place, 0))[1]

    from_x = forward(neurons.x)
    backward = jax.linear_transpose(from_x, x)
    if plan is None:
        norms = _by_neuron(backward, above, chunk, x)
    else:
        through = from_x if plan.value == neurons.x else forward(plan.value)
        norms = _by_probe(through, plan, above, chunk, x)
        if is_mean:
            norms = {name: square / plan.size for name, square in norms.items()}
    silent = {name: v <= 0 for name, v in above.items()}
    for name in names if losers else ():
        loses = lost(neurons, name, params, x)
        silent[name] = silent[name] if loses is None else silent[name] | loses
    weighted = {name: silent[name] & (norms[name] > 0) for name in names}
    lengths = {
        name: jnp.where(weighted[name], jnp.abs(above[name]) / jnp.sqrt(jnp.where(weighted[name], norms[name], 1)), 0)
        for name in names
    }
    shares = {name: jnp.ones_like(length) for name, length in lengths.items()}
    if cap is not None:
        shares = {
            name: jnp.where(length > cap, cap / jnp.where(length > cap, length, 1), 1)
            for name, length in lengths.items()
        }
        lengths = {name: jnp.minimum(length, cap) for name, length in lengths.items()}

    def total(of: dict[str, Array], dtype: DTypeLike) -> Array:
        sums = (jnp.sum(one.reshape(len(x), -1), axis=1, dtype=dtype) for one in of.values())
        return sum(sums, jnp.zeros(len(x), dtype))

    count, zero = total(silent, jnp.int32), total({name: silent[name] & ~weighted[name] for name in names}, jnp.int32)
    many = jnp.maximum(count, 1).astype(x.dtype)
    cotangents = {
        name: jnp.where(weighted[name], shares[name] * above[name] / jnp.where(weighted[name], norms[name], 1), 0)
        / many.reshape((-1,) + (1,) * (above[name].ndim - 1))
        for name in names
    }
    (map_,) = backward({name: one.astype(above[name].dtype) for name, one in cotangents.items()})
    longest = functools.reduce(jnp.maximum, (jnp.max(one.reshape(len(x), -1), axis=1) for one in lengths.values()))
    whole = total(lengths, x.dtype)
    return map_, count, zero, jnp.where(whole > 0, longest / jnp.where(whole > 0, whole, 1), 0)


def _by_probe(
    forward: Callable[[Array], dict[str, Array]], plan: _Plan, above: dict[str, Array], chunk: int | None, x: Array
) -> dict[str, Array]:
    """Return the squared changes of every neuron, summed over all probes, chunk by chunk."""
    numbers = sum(v.size for v in above.values()) + x.size
    chunk = min(plan.size, chunk or max(1, ROOM // (4 * numbers)))
    rounds = -(-plan.size // chunk)

    def one(k: Array) -> dict[str, Array]:
        probe = plan.probe(jnp.minimum(k, plan.size - 1))
        went = forward(jnp.broadcast_to(probe[None], (len(x), *probe.shape)))
        return {name: jnp.where(k < plan.size, value**2, 0) for name, value in went.items()}

    def step(sums: dict[str, Array], first: Array) -> tuple[dict[str, Array], None]:
        squares = jax.vmap(one)(first + jnp.arange(chunk))
        return {name: sums[name] + jnp.sum(squares[name], axis=0) for name in sums}, None

    start = {name: jnp.zeros_like(v) for name, v in above.items()}
    return jax.lax.scan(step, start, chunk * jnp.arange(rounds))[0]


def _by_neuron(
    backward: Callable[[dict[str, Array]], tuple[Array]], above: dict[str, Array], chunk: int | None, x: Array
) -> dict[str, Array]:
    """Return the squared norms |w_i|^2; each takes one pass backward."""
    batch, found = len(x), {}
    for name, v in above.items():
        size = v.size // batch
        together = min(size, chunk or max(1, ROOM // (4 * (x.size + v.size))))

        def one(i: Array, name: str = name, size: int = size) -> Array:
            ones = {other: jnp.zeros_like(value) for other, value in above.items()}
            hot = jnp.zeros((batch, size), above[name].dtype).at[:, i].set(1)
            ones[name] = hot.reshape(above[name].shape)
            return jnp.sum(backward(ones)[0].reshape(batch, -1) ** 2, axis=1)

        rows = jax.lax.map(one, jnp.arange(size), batch_size=together)
        found[name] = rows.T.reshape(v.shape)
    return found


def _ways(
    f: Function, neurons: Neurons, params: PyTree, x: Array
) -> tuple[dict[str, Callable[[], _Plan]], dict[str, float]]:
    """Return for each route a function that makes its probes, and its cost: the number of multiplications."""
    graph, shape = neurons.graph, x.shape[1:]
    of = multiplications(graph)
    whole, features = sum(of.values()), math.prod(shape)

    def one_hot(k: Array) -> Array:
        return jnp.zeros(features, x.dtype).at[k].set(1).reshape(shape)

    ways = {"forward": lambda: _Plan(features, neurons.x, one_hot)}
    costs = {"forward": float(features * whole)}
    seen = reaches(graph, neurons.facts)
    # A class contains places that share a probe, so no neuron may see two places of one class.
    each = [colours(graph, seen.get(number, {})) for number in neurons.hidden.values()]
    classes = tuple(max(sizes) for sizes in zip(*each, strict=True))
    if math.prod(classes) < features:
        mixed = functools.partial(_class, classes, shape, x.dtype)
        ways["coloured"] = lambda: _Plan(math.prod(classes), neurons.x, mixed)
        costs["coloured"] = float(math.prod(classes) * whole)
    first = _first_layer(neurons)
    if first is not None:
        shape_behind = neurons.shape(first)
        width = math.prod(shape_behind)
        if width * neurons.batch == math.prod(graph.shape(first)) and width < features:
            ways["first layer"] = functools.partial(_behind_first, f, params, x[:1], first, shape_behind)
            costs["first layer"] = float(width * (whole - of[neurons.facts.makers[first]]) + features * width**2)
    hidden = sum(math.prod(graph.shape(number)) for number in neurons.hidden.values()) // neurons.batch
    costs["reverse"] = float(hidden * whole)
    return ways, costs


def _behind_first(f: Function, params: PyTree, x: Array, value: int, shape: tuple[int, ...]) -> _Plan:
    """Return the plan of route "first layer": probes are the rows of R, with `Q R` the transposed map of that layer."""
    neurons, x = read(f, params, x)
    first = _first_layer(neurons)
    assert first is not None

    def heard(z: Array) -> Array:
        return evaluate(neurons.graph, leaves_of((params, z)), {first})[1][first]

    W = jax.jacrev(heard)(x)
    half = decompositions.triangle(W.reshape(-1, x.size).T)
    return _Plan(len(half), value, lambda k: half[k].reshape(shape))


def _class(classes: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype, k: Array) -> Array:
    """Return ones at all places of the k-th class: the places that are equal modulo the number of classes per axis."""
    ones = jnp.ones((1,) * len(shape), bool)
    for a, (count, size) in reversed(list(enumerate(zip(classes, shape, strict=True)))):
        k, place = k // count, k % count
        mine = jnp.asarray(np.arange(size) % count) == place
        ones = ones & mine.reshape([-1 if i == a else 1 for i in range(len(shape))])
    return ones.astype(dtype)


def _first_layer(neurons: Neurons) -> int | None:
    """Return the result of the first layer, the only product that reads x; None if there is no such product."""
    facts, graph = neurons.facts, neurons.graph
    views = {value for value in facts.origin if facts.is_input(value)}
    readers = [reader for value in views for reader in facts.readers[value] if not arranges(reader[0], graph)]
    if len(readers) != 1 or not views.isdisjoint(graph.outputs):
        return None
    operation, position = readers[0]
    if facts.home[operation] is not graph or not kind_of(operation).is_product:
        return None
    return operation.outputs[0] if operation.inputs[1 - position] not in facts.data else None
