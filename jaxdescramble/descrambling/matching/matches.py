"""Match two networks: move one of them, by its symmetries, as near to the other one as possible."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import a_function, is_traced, one_of, positive_integer, random_key
from jaxdescramble._base.results import Result
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._values import activations
from jaxdescramble.descrambling.matching.barriers import Barrier, barrier
from jaxdescramble.descrambling.matching.pieces import Axis, Kind, Pieces, Problem, State, element_of, start
from jaxdescramble.descrambling.matching.updates import distance, update
from jaxdescramble.networks.symmetry import Element, Symmetries, symmetries
from jaxdescramble.networks.symmetry.deriving import strands_of
from jaxdescramble.networks.symmetry.streams import generator
from jaxdescramble.networks.symmetry.transforming import moved_leaves
from jaxdescramble.networks.tracing import Function
from jaxdescramble.solvers.watch import Interrupted, Progress, Watch, watched

WAYS = ("weights", "activations")
MOST_SWEEPS = 200
"""Sweeps over all streams after which coordinate descent stops; it needs 3 to 20."""
SMALL = 1e-7
"""A sweep that lowers the distance by less than this share of the first one is the last."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Match(Result):
    """Two networks in one frame: what `match` returns.

    Attributes:
        elements: by name of a stream, the element that moves network b.
        params: the parameters of b in the new frame; they compute the same function as b.
        cost: the distance that was minimised, `sum ||a - g b||^2` over the leaves (or over the activations).
        history: the cost before the first sweep over all streams and after each sweep, for each start, shape
            (sweeps + 1, restarts + 1); NaN after a start has converged.
    """

    elements: Mapping[str, Element]
    params: PyTree
    cost: float
    history: Float[np.ndarray, "sweeps starts"]
    _context: tuple[Symmetries, PyTree, PyTree] = dataclasses.field(repr=False)

    def __repr__(self) -> str:
        return f"Match({len(self.elements)} streams, cost={self.cost:.4g} (before: {self.history[0, 0]:.4g}))"

    def to_dict(self) -> dict[str, object]:
        """Return the cost, the history and the orders, scales and matrices by stream, in plain Python types."""
        elements = {name: element.to_dict() for name, element in self.elements.items()}
        return {"cost": self.cost, "history": self.history, "elements": elements}

    def barrier(
        self, loss: Callable[[PyTree], ArrayLike], *, points: int = 11, nulls: int = 10, key: PRNGKeyArray | None = None
    ) -> Barrier:
        """Compare the losses along straight lines between the two networks, before and after matching.

        The barrier of a line is `max_t loss((1 - t) a + t b) - (1 - t) loss(a) - t loss(b)`: how far the loss rises
        above the line between both ends. The null are random elements of the group in the place of the one found: they
        show whether a low barrier is due to the match.

        Args:
            loss: a function of parameters with one number as its result, such as the loss on held-out data.
            points: number of points on the line, at least 3.
            nulls: number of random elements, at least 0.
            key: random key of the null; None means a fixed key.

        Returns:
            A `Barrier`: the losses along the lines, and the barriers.

        >>> f = lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"]
        >>> a = {"a": jnp.eye(2), "b": jnp.array([[1.0], [2.0]])}
        >>> b = {"a": jnp.eye(2)[::-1], "b": jnp.array([[1.0], [2.0]])[::-1]}
        >>> x = jnp.ones((3, 2))
        >>> found = match(f, a, b, x).barrier(lambda p: ((f(p, x) - 1) ** 2).mean(), nulls=2)
        >>> bool(abs(found.after) < 1e-6 < found.before)
        False

        Source: Frankle et al. (2020) for linear interpolation; Entezari et al. (2022) for the barrier.
        """
        known, a, b = self._context
        a_function(loss, "loss", "(params)")
        points, nulls = positive_integer(points, "points", 3), positive_integer(nulls, "nulls", 0)
        keys = jax.random.split(jax.random.key(0) if key is None else random_key(key), max(nulls, 1))
        return barrier(loss, a, b, self.params, (_apply(known, b, known.random(own)) for own in keys[:nulls]), points)


def match(
    f: Function,
    a: PyTree,
    b: PyTree,
    x: PyTree = None,
    *,
    by: str = "weights",
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> Match:
    """Move network b next to network a, by symmetries alone: b's function stays the same.

    Use it to compare, average or merge two networks of one architecture: training fixes no order of their neurons.
    `match` minimises the squared distance of the parameters (or activations) of a and of b, `sum ||a - g b||^2`,
    over all streams of `symmetries(f, b, x)`. It takes the streams in turn: the order of a stream is a linear
    assignment, scales and signs of each pair of neurons are solved for before, rotations are Procrustes problems.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        a, b: parameters of f, of the same structure and the same shapes; not traced.
        x: a batch of f. With `by="weights"` only its shapes and types matter.
        by: what is compared, "weights" or "activations". With activations, each stream is solved for alone.
        restarts: number of further descents from random starts; all run at once, and the best result is kept.
        key: random key of the starts; needed if `restarts` is not 0.
        progress: called as `progress(stage, done, total)` after each stream.
        max_seconds: stop after this many seconds, with the best result so far.

    Returns:
        A `Match`: the elements by stream, the moved parameters of b, the distance and its history.

    Raises:
        TypeError: if f is not a function, or parameters are traced.
        ValueError: if a and b differ in structure or shapes, if they have no symmetries, if numbers are not finite, or
            if `restarts` needs a key.
        Interrupted: on Ctrl-C; `result` is the best `Match` so far.

    >>> f = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
    >>> a = {"a": jnp.array([[1.0, 2.0, 3.0]]), "b": jnp.array([[1.0], [0.0], [-1.0]])}
    >>> b = {"a": jnp.array([[6.0, 1.0, 2.0]]), "b": jnp.array([[-0.5], [1.0], [0.0]])}
    >>> found = match(f, a, b, jnp.ones((1, 1)))
    >>> found.elements["['a']"].order.tolist(), round(found.cost, 6)
    ([1, 2, 0], 0.0)

    Source: Ainsworth, Hayase, Srinivasa (2023, Git Re-Basin) for coordinate descent over permutations; Singh, Jaggi
    (2020) and Li et al. (2015) for activations.
    """
    one_of(by, "by", WAYS)
    restarts = positive_integer(restarts, "restarts", 0)
    key = None if key is None else random_key(key)
    if restarts and key is None:
        raise ValueError("key: restarts begin at random elements; give key=jax.random.key(...).")
    known = symmetries(f, b, x)
    _check_networks(a, b)
    watch = watched(progress, max_seconds, (a, b), "match")
    assert watch is not None  # parameters are not traced
    pieces = Pieces(known.derivation)
    if not pieces.streams:
        raise ValueError("f has no stream that its parameters could move: there is nothing to match.")
    derivation = known.derivation
    dtype = jnp.promote_types(jnp.float32, jnp.result_type(*(leaf for leaf in jax.tree.leaves(b) if _is_real(leaf))))
    if by == "weights":
        for one, other, value in zip(*map(jax.tree.leaves, (a, b)), derivation.book.graph.arguments[0], strict=True):
            if _is_real(one):
                pieces.add(derivation.book.leaf_labels(value), jnp.asarray(one, dtype), jnp.asarray(other, dtype))
    else:
        for labels, one, other in activations(derivation, a, b, x):
            pieces.add(labels, one.astype(dtype), other.astype(dtype))
    states = {number: _starts(kind, restarts, key, number, dtype) for number, kind in pieces.kinds.items()}
    states, costs, history = _descend(pieces, states, watch)
    best = int(np.argmin(costs))
    chosen = {number: jax.tree.map(lambda leaf: np.asarray(leaf[best]), state) for number, state in states.items()}
    found = _match(known, pieces, chosen, float(costs[best]), history, a, b)
    if watch.stopped == Status.INTERRUPTED:
        raise Interrupted("match was interrupted; the best match so far is in .result of this exception.", found)
    return found


def _is_real(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _check_networks(a: PyTree, b: PyTree) -> None:
    if any(map(is_traced, jax.tree.leaves((a, b)))):
        raise TypeError("a, b: got traced arrays; call match outside of jit, grad and vmap.")
    first, second = map(jax.tree.structure, (a, b))
    if first != second:
        raise ValueError(f"a, b: expected parameters of one structure, got {first} and {second}.")
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        name = jax.tree_util.keystr(path)
        if np.shape(one) != np.shape(other):
            raise ValueError(f"a, b: leaf {name} has the shapes {np.shape(one)} and {np.shape(other)}.")
        for which, leaf in (("a", one), ("b", other)):
            if _is_real(leaf) and not jnp.isfinite(jnp.asarray(leaf)).all():
                raise ValueError(f"{which}: leaf {name} has numbers that are not finite.")


def _starts(kind: Kind, restarts: int, key: PRNGKeyArray | None, number: int, dtype: Any) -> State:
    """Return the identity, and random elements: a leading axis for all starts. Scales begin at 1."""
    first = jax.tree.map(lambda leaf: leaf[None], start(kind, dtype))
    if not restarts or key is None:
        return first
    rng = generator(jax.random.fold_in(key, number))
    shape = (restarts, *kind.places)
    if kind.ordered:
        drawn = rng.permuted(np.broadcast_to(np.arange(kind.size), (*shape, kind.size)), axis=-1)
        rest = {"order": jnp.asarray(drawn if kind.moves else np.sort(drawn), jnp.int32)}
        rest["scales"] = jnp.ones((restarts, *first["scales"].shape[1:]), dtype)
    else:
        turned = np.linalg.qr(rng.normal(size=(*shape, kind.size, kind.size)))[0]
        if kind.ones:  # stay in the group: begin at orders of the features
            orders = rng.permuted(np.broadcast_to(np.arange(kind.size), (*shape, kind.size)), axis=-1)
            turned = np.eye(kind.size)[orders]
        rest = dict.fromkeys(("matrix", "dual"), jnp.asarray(turned, dtype))
    return {name: jnp.concatenate([first[name], rest[name]]) for name in first}


def _descend(pieces: Pieces, states: dict[int, State], watch: Watch) -> tuple[dict[int, State], np.ndarray, np.ndarray]:
    """Solve for one stream after the other until no sweep lowers the distance; return the best states and distances."""
    problems = list(pieces.problems())
    best, costs = states, _distances(pieces, states)
    history, improved = [costs], np.full(len(costs), True)
    for sweep in range(MOST_SWEEPS):
        try:
            for done, (number, problem) in enumerate(problems):
                new = _solve(pieces, problem, states, improved)
                if not watch.wait(new) or watch.over():
                    break
                states = states | {number: new}
                watch.tell(f"sweep {sweep + 1}", done + 1, len(problems))
        except KeyboardInterrupt:
            watch.stopped = Status.INTERRUPTED
        now = _distances(pieces, states)
        improved = now < costs - SMALL * history[0]
        best = {number: _chosen(improved, states[number], best[number]) for number in states}
        costs = np.where(improved, now, costs)
        history.append(np.where(improved, now, np.nan))
        if not improved.any() or watch.stopped is not None:
            break
        states = best
    return best, costs, np.stack(history)


def _chosen(which: np.ndarray, new: State, old: State) -> State:
    """Return for each start the new state or the old one."""
    return {name: jnp.where(which.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, old[name]) for name, leaf in new.items()}


def _solve(pieces: Pieces, problem: Problem, states: Mapping[int, State], active: np.ndarray) -> State:
    kinds = tuple(pieces.kinds[number] for number in problem.slots)
    axes = tuple(piece.axes for piece in problem.pieces)
    one, other = [piece.one for piece in problem.pieces], [piece.other for piece in problem.pieces]
    return update(kinds, axes, one, other, [states[number] for number in problem.slots], jnp.asarray(active))


def _distances(pieces: Pieces, states: Mapping[int, State]) -> np.ndarray:
    """Return the squared distance of all pieces that something moves, for each start."""
    total: Any = 0.0
    for piece in pieces.all:
        slots = list(dict.fromkeys(axis.slot for axis in piece.axes))
        axes: tuple[Axis, ...] = tuple(axis._replace(slot=slots.index(axis.slot)) for axis in piece.axes)
        kinds = tuple(pieces.kinds[number] for number in slots)
        total = total + distance(kinds, axes, piece.one, piece.other, [states[number] for number in slots])
    return np.asarray(total, np.float64) + pieces.rest


def _match(
    known: Symmetries,
    pieces: Pieces,
    states: Mapping[int, Mapping[str, np.ndarray]],
    cost: float,
    history: np.ndarray,
    a: PyTree,
    b: PyTree,
) -> Match:
    elements = {}
    for name, derived in zip(known, known.derivation.streams, strict=True):
        elements[name] = Element(*element_of(derived, states[derived.number]))
    return Match(elements, _apply(known, b, elements), cost, history, (known, a, b))


def _apply(known: Symmetries, params: PyTree, elements: Mapping[str, Element]) -> PyTree:
    strands = {}
    for name, derived in zip(known, known.derivation.streams, strict=True):
        strands |= dict.fromkeys(strands_of(derived.group), elements[name])
    return moved_leaves(known.derivation, params, strands)
