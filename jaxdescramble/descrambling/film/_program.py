"""One frame of a film as one pure function: read the signals, solve from the last frame, and align with it."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxdescramble._base.decompositions import determinant_sign
from jaxdescramble._base.products import matmul
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._iterate import first_guess
from jaxdescramble.descrambling._planning import DirectSolver, near_start, solver_for
from jaxdescramble.descrambling._sides import Choice, Rank, alike
from jaxdescramble.descrambling.film._nearest import nearest_equal, nearest_minimiser
from jaxdescramble.descrambling.film.frames import LayerFrame
from jaxdescramble.descrambling.network import two_sided
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.descrambling.signals import descramble
from jaxdescramble.descrambling.wide import Kept, first_turn, keep, widened
from jaxdescramble.networks.taps import wiretap
from jaxdescramble.objectives import Objective, Summary, smoothness
from jaxdescramble.objectives.summaries import cleared
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.solve import is_iterative

FIELDS = ("point", "value", "initial_value", "bound", "rank", "steps", "status", "samples")
"""Fields of every side's `Descrambling` that a frame keeps. A side with a rank also keeps `left_out`."""

# Statuses whose points the next frame starts from. A point of `STEPS_SPENT` is orthogonal, and better than its start.
FOUND = (*(one for one in Status if one.usable), Status.STEPS_SPENT)


# A problem whose answer is aligned with the last frame: summary, point, value, rank, and the point of the last frame.
Aligning = tuple[Summary, Array, Array, Array, Array]
Output = TypeVar("Output")


class FilmSettings(NamedTuple):
    """Arguments that are fixed at compile time, see `descramble_network`; `layers` None means all layers."""

    group: str
    joint: bool
    ends: str
    layers: Collection[str] | None
    rank: Rank | None = None


class Track(NamedTuple):
    """The last point of every side, and whether the side ever had an answer: one array for each group of sides.

    A group contains the sides with the same objective and shape.
    """

    points: list[Array]
    seen: list[Array]


class Plan(NamedTuple):
    """The layers to film, in order; for each group of sides, their names and their objective; and the first track.

    A group contains the sides with the same objective and shape.
    """

    layers: list[str]
    members: list[list[tuple[str, str]]]
    objectives: list[Objective]
    track: Track


def make_plan(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    objective: Choice | None,
    settings: FilmSettings,
    weights: Array | None = None,
) -> Plan:
    """Make the plan of a film from the shapes of a network, without running it.

    Raises:
        TypeError: if an objective is not an `Objective`.
        ValueError: if there is no linear layer, a name of a layer is unknown, there is nothing to descramble, or the
            weights of the samples of a filmed layer are unknown.
    """
    members: list[list[tuple[str, str]]] = []
    chosen: list[Objective] = []
    shapes: list[tuple[tuple[int, ...], int, np.dtype]] = []
    layers: list[str] = []
    wanted = settings.layers

    def choose(name: str, side: str, size: int) -> Objective | None:
        if wanted is not None and name not in wanted:
            return None
        if objective is None or isinstance(objective, Objective):
            return default if objective is None else objective
        return objective(name, side, size)

    def look(params: PyTree, x: PyTree, weights: Array | None) -> None:
        refused: dict[str, str] = {}
        _, taps = wiretap(f)(params, x, weights, _refused=refused)
        unknown = sorted(set(wanted or ()) - set(taps))
        if unknown or not taps:
            there = ", ".join(map(repr, taps)) or "none: f has no product of x with a parameter"
            raise ValueError(f"layers: no layer {', '.join(map(repr, unknown)) or 'to film'}; there are {there}.")
        layers.extend(name for name in taps if wanted is None or name in wanted)
        for sides in alike(taps, choose, settings.joint, settings.ends, refused, settings.rank):
            members.append([(one.name, one.side) for one in sides])
            chosen.append(sides[0].objective)
            *batch, n, _ = sides[0].signals.shape
            shapes.append(((len(sides), *batch, sides[0].rank or n), n, sides[0].signals.dtype))

    default = smoothness()
    jax.eval_shape(look, params, x, weights)
    for one in chosen:
        if not isinstance(one, Objective):
            raise TypeError(f"objective: got {one!r}; expected an Objective such as objectives.smoothness().")
    if not members:
        raise ValueError(
            "nothing to descramble: the network's own input and output axes are left as they are, and there is no "
            'other side. Film a hidden layer, or give ends="free".'
        )
    points = [jnp.broadcast_to(jnp.eye(rows[-1], n, dtype=dtype), (*rows, n)) for rows, n, dtype in shapes]
    return Plan(layers, members, chosen, Track(points, [jnp.zeros(point.shape[:-2], bool) for point in points]))


def make_frame(
    f: Callable[..., PyTree],
    settings: FilmSettings,
    members: list[list[tuple[str, str]]],
    objectives: list[Objective],
    solver: Solver | DirectSolver | None,
    params: PyTree,
    x: PyTree,
    track: Track,
    weights: Array | None = None,
) -> tuple[list[LayerFrame], Track]:
    """Return the layers of the frame in the order of computation, and the next track; you can jit it."""
    _, taps = wiretap(f)(params, x, weights, _refused={})
    chosen = {one: objective for names, objective in zip(members, objectives, strict=True) for one in names}
    choose = lambda name, side, size: chosen.get((name, side))  # noqa: E731
    groups = alike(taps, choose, settings.joint, settings.ends, rank=settings.rank)
    found: dict[tuple[str, str], Descrambling] = {}
    points, seen = [], []
    for sides, before, known in zip(groups, track.points, track.seen, strict=True):
        signals = jnp.stack([one.signals for one in sides])
        each = [one.weights.astype(signals.dtype) for one in sides if one.weights is not None]
        own = jnp.stack(each) if each else None
        one, solving = sides[0], _solve if sides[0].rank is None else functools.partial(_solve_wide, sides[0].rank)
        solved, point, is_known = solving(one.objective, solver, settings.group, signals, before, known, own)
        points.append(point)
        seen.append(is_known)
        found |= {(one.name, one.side): solved.problem(k) for k, one in enumerate(sides)}
    layers = []
    for name, layer in two_sided(taps, found).items():
        if settings.layers is None or name in settings.layers:
            sides = {
                side: {field: getattr(one, field) for field in _fields_of(one)} for side, one in layer.sides.items()
            }
            layers.append(LayerFrame(sides, layer.weight))
    return layers, Track(points, seen)


def _fields_of(side: Descrambling) -> tuple[str, ...]:
    rows, features = side.point.shape[-2:]
    return FIELDS if rows == features else (*FIELDS, "left_out")


def _solve_wide(
    rank: int,
    objective: Objective,
    solver: Solver | DirectSolver | None,
    group: str,
    signals: Array,
    before: Array,
    seen: Array,
    weights: Array | None,
) -> tuple[Descrambling, Array, Array]:
    """Do what `_solve` does, on the leading principal components: `P = R U^T`, with R as near to `Q U` as possible.

    Q is the point of the last frame. `||G R U^T - Q||_F` and `||G R - Q U||_F` have the same minimiser G.
    """
    kept = keep(signals, weights, rank, signals.ndim - 2)
    if group == "SO":  # the directions have no orientation: take that of the last frame, or R would have to jump
        kept = _oriented(kept, before, seen)
    turn = first_turn(before, kept, group)
    overlap = matmul(before, kept.directions)
    found, _, now = _solve(objective, solver, group, cast(Array, kept.data), overlap, seen, weights, turn)
    fields = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    objective, how = fields.pop("objective"), fields.pop("how")
    found = Descrambling(**widened(fields, kept), objective=objective, how=how)
    return found, jnp.where(_usable(found.status)[..., None, None], found.point, before), now


def _oriented(kept: Kept, before: Array, seen: Array) -> Kept:
    """Change the sign of the last kept direction where `Q U` would have a negative determinant."""
    signs = _vmapped(determinant_sign, seen.ndim)(matmul(before, kept.directions))
    sign = jnp.where(seen & (signs < 0), -1, 1).astype(kept.directions.dtype)
    directions = kept.directions.at[..., -1].multiply(sign[..., None])
    data = cast(Array, kept.data).at[..., -1, :].multiply(sign[..., None])
    return kept._replace(directions=directions, data=data)


def _solve(
    objective: Objective,
    solver: Solver | DirectSolver | None,
    group: str,
    signals: Array,
    before: Array,
    seen: Array,
    weights: Array | None,
    start: Array | None = None,
) -> tuple[Descrambling, Array, Array]:
    """Solve sides of one shape; return answers nearest to those before, the next frame's start, and what was seen.

    `start` is where iterative solvers begin, if that is not `before`.
    """
    start = before if start is None else start
    axes = signals.ndim - 2
    summaries = _vmapped(objective.summarise, axes)(signals, weights)
    solver = near_start(solver_for(objective)) if solver is None else solver  # it begins at the frame before
    begin = None
    if is_iterative(solver):
        guess = _vmapped(lambda summary: first_guess(objective, cleared(summary), group), axes)
        begin = jax.lax.cond(
            seen.all(), lambda: start, lambda: jnp.where(seen[..., None, None], start, guess(summaries))
        )
    found = descramble(summaries, objective, solver, group=group, start=begin)

    def near(problem: Aligning) -> tuple[Array, Array]:
        summary, point, value, rank, before = problem
        operator = objective.operator(summary.size)
        if operator is None:
            nearest = nearest_equal(objective, summary, point, before, group)
        else:
            # Only the closed form puts no signal on the modes beyond the rank.
            carrying = summary.size if is_iterative(solver) else rank
            nearest = nearest_minimiser(operator, point, before, jnp.asarray(carrying), group)
        same = (nearest == point).all()
        return nearest, jax.lax.cond(same, lambda: value, lambda: objective(nearest, summary).astype(value.dtype))

    def one(problem: tuple[*Aligning, Array]) -> tuple[Array, Array]:
        (*rest, comparable) = problem
        return jax.lax.cond(comparable, near, lambda given: (given[1], given[2]), tuple(rest))

    finite = found.status != Status.NOT_FINITE
    problems = (summaries, found.point, found.value, found.rank, before, seen & finite)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), problems)
    point, value = jax.lax.map(one, flat)
    point, value = point.reshape(found.point.shape), value.reshape(found.value.shape)
    found = dataclasses.replace(found, point=point, value=value, gap=value - found.bound)
    usable = _usable(found.status)
    return found, jnp.where(usable[..., None, None], point, before), seen | usable


def _usable(status: Array) -> Array:
    return functools.reduce(jnp.logical_or, [status == one for one in FOUND])


def _vmapped(function: Callable[..., Output], axes: int) -> Callable[..., Output]:
    for _ in range(axes):
        function = jax.vmap(function)
    return function
