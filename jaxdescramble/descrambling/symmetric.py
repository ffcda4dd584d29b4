"""Descramble a network in the frames that cost nothing: each stream by its own group, and the parameters move."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import is_traced
from jaxdescramble._base.products import matmul
from jaxdescramble._base.results import Result
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling._planning import DirectSolver
from jaxdescramble.descrambling._values import last_values, unfolded, values_of
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.descrambling.signals import descramble_one
from jaxdescramble.networks.strands import number_of
from jaxdescramble.networks.symmetry import Matrices, Symmetries, symmetries, transform
from jaxdescramble.networks.symmetry.deriving import Derivation, Derived, strands_of
from jaxdescramble.objectives import Objective
from jaxdescramble.solvers import Solver, minimise
from jaxdescramble.solvers.watch import Interrupted, Watch

ChooseObjective = Callable[[str, int], Objective | None]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SymmetricDescrambling(Result):
    """A network in readable frames that cost nothing: what `descramble_network(..., frames="symmetric")` returns.

    Attributes:
        streams: by name of a stream, the descrambling of its signals, with the certificate of its own group. A stream
            with an element at each of several places, such as heads, has these as leading axes.
        params: the parameters in the new frames; the network computes the same function with them.
        elements: by name of a stream, the order or the matrices that moved it.
        left: streams that stay as they are, with the reason.
    """

    streams: Mapping[str, Descrambling]
    params: PyTree
    elements: Mapping[str, np.ndarray]
    left: Mapping[str, str]

    def __repr__(self) -> str:
        return f"SymmetricDescrambling({len(self.streams)} streams moved, {len(self.left)} left)"

    def __getitem__(self, name: str) -> Descrambling:
        if name not in self.streams:
            raise KeyError(f"there is no descrambled stream {name}; there are {', '.join(self.streams) or 'none'}.")
        return self.streams[name]

    def check(self) -> "SymmetricDescrambling":
        """Return this result if every stream has an answer.

        Raises:
            FloatingPointError: if a stream has none; the message says why.
        """
        for one in self.streams.values():
            one.check()
        return self

    def to_dict(self) -> dict[str, object]:
        """Return the descramblings, the elements and the reasons by stream, in plain Python types."""
        streams = {name: one.to_dict() for name, one in self.streams.items()}
        return {"streams": streams, "elements": dict(self.elements), "left": dict(self.left)}


def descramble_streams(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    objective: ChooseObjective,
    solver: Solver | DirectSolver | None,
    restarts: int,
    key: PRNGKeyArray | None,
    watch: Watch | None,
) -> SymmetricDescrambling:
    """Descramble every stream of a network by its own group, and move the parameters.

    Args:
        f, params, x: the network; the parameters must not be traced.
        objective: a function `(name, size)` that returns the objective of a stream, or None to leave it.
        solver, restarts, key: see `descramble`.
        watch: follows the solves.

    Raises:
        TypeError: if parameters are traced.
        ValueError: if the network has no stream, or an objective does not suit a group.
        Interrupted: on Ctrl-C, with what was found so far.
    """
    if watch is None or any(map(is_traced, jax.tree.leaves((params, x)))):
        raise TypeError("params, x: got traced arrays; frames='symmetric' works outside of jit, grad and vmap.")
    known = symmetries(f, params, x)
    if not known:
        raise ValueError("frames='symmetric': the parameters of f can take up no frame; see jd.symmetries.")
    signals = _signals(known, params, x)
    found: dict[str, Descrambling] = {}
    elements: dict[str, np.ndarray] = {}
    left: dict[str, str] = {}
    for place, (name, stream) in enumerate(known.items()):
        chosen = objective(name, stream.size)
        group = stream.group
        if name not in signals:
            left[name] = "it is an order of heads or groups, each of which is descrambled alone; or no value has it"
        elif chosen is None:
            left[name] = "the objective is None"
        elif not isinstance(group, Matrices) and not group.moves:
            left[name] = f"its group has no order: {group.name}"
        else:
            own = None if key is None else jax.random.fold_in(key, place)
            try:
                found[name] = _descrambled(watch, group, signals[name], chosen, solver, restarts, own)
            except (TypeError, ValueError) as error:
                raise type(error)(f"stream {name}: {error}") from error
            points = np.asarray(found[name].point, np.float64)
            elements[name] = points if isinstance(group, Matrices) else np.abs(points).argmax(-1)
        if watch.stopped == Status.INTERRUPTED:
            break
    result = SymmetricDescrambling(found, transform(f, params, x, _sound(elements)), elements, left)
    if watch.stopped == Status.INTERRUPTED:
        raise Interrupted(
            "descramble_network was interrupted; what was found so far is in .result of this exception.", result
        )
    return result


def _sound(elements: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Return the elements without those of failed solves; matrices are made orthogonal in float64."""
    found: dict[str, object] = {}
    for name, element in elements.items():
        if element.dtype.kind == "i":
            found[name] = element
        elif np.isfinite(element).all():
            left, _, right = np.linalg.svd(element)
            found[name] = left @ right
    return found


def _signals(known: Symmetries, params: PyTree, x: PyTree) -> dict[str, Array]:
    """Return by stream the last value that has it, as signals (*places, n, samples)."""
    derivation = known.derivation
    last = last_values(derivation)
    chosen: dict[str, tuple[Derived, int]] = {}
    for name, derived in zip(known, derivation.streams, strict=True):
        values = [last[strand] for strand in strands_of(derived.group) if strand in last]
        if values and derived.number not in derivation.outer:
            chosen[name] = derived, max(values)
    arrays = values_of(derivation, params, x, {value for _, value in chosen.values()})
    found = {}
    for name, (derived, value) in chosen.items():
        columns = _columns(derivation, derived, value, arrays[value])
        if columns is not None:
            found[name] = columns
    return found


def _columns(derivation: Derivation, derived: Derived, value: int, array: Array) -> Array | None:
    labels, array = unfolded(derivation, value, array)
    strands = set(strands_of(derived.group))
    for part in derivation.parts(array.shape, labels):
        for axis, label in enumerate(part.labels):
            if label and number_of(label) in strands and len(part.places[axis]) == len(derived.group.places):
                places = part.places[axis]
                block = jnp.moveaxis(array.ravel()[part.where], (*places, axis), range(len(places) + 1))
                return block.reshape(*block.shape[: len(places) + 1], -1)
    return None


def _descrambled(
    watch: Watch,
    group: object,
    signals: Array,
    objective: Objective,
    solver: Solver | DirectSolver | None,
    restarts: int,
    key: PRNGKeyArray | None,
) -> Descrambling:
    wide = jnp.promote_types(signals.dtype, jnp.float32)
    name = "O" if isinstance(group, Matrices) else "permutation"
    found = descramble_one(watch, signals.astype(wide), objective, solver, name, None, None, restarts, key)
    if not isinstance(group, Matrices) or not (group.mean or group.ones or group.fixes or group.cofixes):
        return found
    return _beside_ones(found, signals.astype(wide), objective)


def _beside_ones(found: Descrambling, signals: Array, objective: Objective) -> Descrambling:
    """Return the descrambling by matrices that keep the vector of ones, from one by all orthogonal matrices.

    With an orthonormal basis B of the vectors of mean zero, `P = 1 1^T / n + B Q B^T`; the solver looks for Q.
    """
    n = signals.shape[-2]
    basis = jnp.asarray(np.linalg.qr(np.concatenate([np.ones((n, 1)), np.eye(n)], axis=1))[0][:, 1:], signals.dtype)

    def whole(turn: Array, basis: Array) -> Array:
        return jnp.full((n, n), 1 / n, turn.dtype) + matmul(matmul(basis, turn), basis.T)

    def value(turn: Array, basis: Array, objective: Objective, summary: PyTree) -> Array:
        return objective(whole(turn, basis), summary)

    places = signals.shape[:-2]
    points, values, steps, status, residuals = [], [], [], [], []
    for place in np.ndindex(*places):
        left, _, right = decompositions.svd(matmul(matmul(basis.T, found.point[place]), basis))
        solution = minimise(value, matmul(left, right), basis, objective, objective.summarise(signals[place]))
        points.append(whole(solution.point, basis))
        for kept, one in ((values, solution.value), (steps, solution.steps), (status, solution.status)):
            kept.append(one)
        residuals.append(solution.residual)
    stacked = (jnp.stack(kept).reshape(*places, *kept[0].shape) for kept in (points, values, steps, status))
    point, best, count, state = stacked
    return dataclasses.replace(
        found,
        point=point,
        value=best,
        gap=best - found.bound,
        steps=count,
        status=state,
        residual=jnp.asarray(residuals).reshape(places),
        how=f"{found.how}; then L-BFGS over the matrices that keep the vector of ones",
    )
