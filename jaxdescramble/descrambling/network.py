"""Descramble every linear layer of a network, output side and input side."""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import file_path, one_of, random_key, true_or_false
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.results import Result
from jaxdescramble._base.status import Status, check_status
from jaxdescramble.descrambling._folders import load_items, save_items
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.descrambling.signals import descramble_watched
from jaxdescramble.descrambling.solving import DirectSolver
from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.taps import Tap, wiretap
from jaxdescramble.networks.unread import why_no_layer
from jaxdescramble.objectives import Objective, smoothness
from jaxdescramble.objectives.weighing import balanced, clear
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.watch import Interrupted, Progress, watched

ENDS = ("ordered", "free")
WEIGHTS = "weights.npz"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class LayerDescrambling(Result):
    """One layer, read from both sides: `weight = P W Q^T`.

    Attributes:
        output: descrambling P of the preactivations; None where the output axis is the network's own, ordered one.
        input: descrambling Q of the layer's input signals; None where the input axis is the network's own.
        weight: the two-sided weight, shape (..., out, in).
    """

    output: Descrambling | None
    input: Descrambling | None
    weight: Float[Array, "*batch out in"]

    @property
    def sides(self) -> dict[str, Descrambling]:
        """The descramblings that there are, by side: "output", "input"."""
        return {name: one for name in ("output", "input") if (one := getattr(self, name)) is not None}

    def check(self) -> "LayerDescrambling":
        """Return this layer if every side has an answer.

        Raises:
            FloatingPointError: one paragraph for every kind of failure, with the sides that failed.
        """
        _check_sides({f"{side} side": one for side, one in self.sides.items()}, "descramble_network")
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the sides and the weight into a folder; as `NetworkDescrambling.save`."""
        NetworkDescrambling({"": self}).save(folder)

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "LayerDescrambling":
        """Read what `save` wrote; as `NetworkDescrambling.load`."""
        (layer,) = NetworkDescrambling.load(folder, objective).values()
        return layer


@jax.tree_util.register_pytree_with_keys_class
class NetworkDescrambling(Layers):
    """The layers of a network by name, each a `LayerDescrambling`, in the order of computation."""

    def check(self) -> "NetworkDescrambling":
        """Return these layers if every side has an answer.

        Raises:
            FloatingPointError: one paragraph for every kind of failure, with the sides that failed.
        """
        sides = {f"{name} ({side} side)": one for name, layer in self.items() for side, one in layer.sides.items()}
        _check_sides(sides, "descramble_network")
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write every side into a file of its own in a folder, the weights into another, and a table of contents.

        Raises:
            TypeError: not a path.
            OSError: a file cannot be written (no such folder, a full disk).
        """
        layers = list(self.values())
        items = {f"{k}-{side}": one for k, layer in enumerate(layers) for side, one in layer.sides.items()}
        weights = {str(k): np.asarray(layer.weight) for k, layer in enumerate(layers)}
        write_arrays(file_path(folder, "folder") / WEIGHTS, weights)
        save_items(folder, "NetworkDescrambling", items, {"layers": list(self)})

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "NetworkDescrambling":
        """Read what `save` wrote.

        Args:
            folder: the folder.
            objective: needed only where the objective is not one of `jaxdescramble.objectives`; for all sides.

        Raises:
            FileNotFoundError: no such folder, or one without a table of contents.
            TypeError: not a path.
            ValueError: a folder of something else or of another version, a damaged file, a missing objective.
        """
        items, about = load_items(folder, "NetworkDescrambling", objective)
        try:
            with np.load(file_path(folder, "folder") / WEIGHTS, allow_pickle=False) as file:
                weights = [jnp.asarray(file[str(k)]) for k in range(len(about["layers"]))]
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"folder: {folder}/{WEIGHTS} is damaged ({error}); write it again with .save()."
            ) from error
        layers = NetworkDescrambling()
        for k, name in enumerate(about["layers"]):
            layers[name] = LayerDescrambling(items.get(f"{k}-output"), items.get(f"{k}-input"), weights[k])
        return layers


def _check_sides(sides: Mapping[str, Descrambling], what: str) -> None:
    statuses = [(name, member) for name, one in sides.items() for member in np.asarray(one.status).ravel()]
    check_status(np.asarray([status for _, status in statuses]), what, names=[name for name, _ in statuses])


def descramble_network(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    objective: Objective | Callable[[str, str, int], Objective | None] | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    joint: bool = False,
    ends: str = "ordered",
    weights: ArrayLike | Sequence[ArrayLike] | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
) -> "NetworkDescrambling":
    """Descramble every linear layer of any JAX function, both sides.

    Layer k is read as `P_k W_k Q_k^T`: P_k makes its preactivations readable, Q_k its input signals, that is what the
    activation before it left. Nothing in the network changes: `P^-1 P` is put in and one half of it is looked at
    (`jaxdescramble.insert` does put it in). Sides of one shape are solved in one program.

    Args:
        f: `f(params, x)`, any JAX function: a plain one, a Flax or Equinox model's.
        params: its parameters, a pytree.
        x: a batch of inputs, large enough to be typical: at least a few times as many samples as features.
        objective: for every layer and side, `objectives.smoothness()` if none is given; or a function
            `(name, side, size) -> objective`, side "output" or "input" and size its number of features, that gives None
            for a side that is to be left as it is.
        solver: the closed form if none is given.
        group: "O" or "SO".
        joint: descramble input sides on `[m W^T, X]`, `m = ||X||_2 / ||W||_2`, the paper's tap for its second layer:
            smooth in the data and along the weight's own input axis at once. It makes singular vectors of the
            descrambled weight sinusoidal by construction, so leave it off for readings.
        ends: "ordered" leaves the network's input axis and output axis as they are, since they mean something already;
            "free" descrambles them too.
        weights: how much each sample counts, of the shape of x's first axes, (batch,) or (batch, tokens): 0 leaves out
            padding. Every layer gets the weights of its own samples, as `wiretap` finds them.
        restarts, key: as in `descramble`, with a key of its own for every set of sides that are solved together.
        progress, max_seconds: as in `descramble`, for all layers together.

    Returns:
        `{layer name: LayerDescrambling}` in the order of computation, also after `jit`, with a `check` for all layers;
        names are tree paths of the weights.

    Raises:
        ValueError: f has no linear layer, unknown names; weights as for `wiretap`, of the layers that are descrambled.
        Interrupted: Ctrl-C, as in `descramble`; its `result` holds the sides that were begun, the others are None.

    >>> def f(params, x):
    ...     return jnp.tanh(x @ params["first"]) @ params["second"]
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> params = {"first": jax.random.normal(keys[0], (6, 4)), "second": jax.random.normal(keys[1], (4, 2))}
    >>> layers = descramble_network(f, params, jax.random.normal(keys[2], (50, 6)))
    >>> [(name, layer.weight.shape) for name, layer in layers.items()]
    [("['first']", (4, 6)), ("['second']", (2, 4))]

    Source: Amey et al. 2021, "Descrambler group" and SI on the second layer.
    """
    one_of(ends, "ends", ENDS)
    joint = true_or_false(joint, "joint")
    watch = watched(progress, max_seconds, (params, x, solver, weights, key), "descramble_network")
    refused: dict[str, str] = {}
    _, taps = wiretap(f)(params, x, weights, _refused=refused)  # pyright: ignore[reportCallIssue]
    if not taps:
        raise ValueError(f"descramble_network: f has no linear layer that can be read. {why_no_layer(f, params, x)}")
    found: dict[tuple[str, str], Descrambling] = {}
    for place, sides in enumerate(alike(taps, objective, joint, ends, refused)):
        own_key = None if key is None else jax.random.fold_in(random_key(key), place)
        names = [(one.name, one.side) for one in sides]
        each = None if weights is None else [one.weights for one in sides]
        try:
            signals = [one.signals for one in sides]
            solved = descramble_watched(
                watch, signals, sides[0].objective, solver, group, each, None, restarts, own_key
            )
        except (TypeError, ValueError) as error:
            where = "; ".join(f"layer {name}, {side} side" for name, side in names)
            raise type(error)(f"{where}: {error}") from error
        found |= {name: one for name, one in zip(names, solved, strict=True) if one is not None}
        if watch is not None and watch.stopped == Status.INTERRUPTED:
            raise Interrupted(
                "descramble_network was interrupted; what was found so far is in .result of this exception.",
                two_sided(taps, found),
            )
    return two_sided(taps, found)


class Side(NamedTuple):
    """One side of one layer that is to be descrambled."""

    name: str
    side: str
    objective: Objective
    signals: Float[Array, "*batch n m"]
    weights: Any = None


def alike(
    taps: Mapping[str, Tap], objective: Any, joint: bool, ends: str, refused: Mapping[str, str] | None = None
) -> list[list[Side]]:
    """The sides of a network that are to be descrambled, those of one problem and one shape together.

    Args:
        taps: as `wiretap` gives them.
        objective, joint, ends: as in `descramble_network`.
        refused: layers whose samples have no weights, with the reason.

    Raises:
        ValueError: one of those is to be descrambled.
    """
    groups: dict[Any, list[Side]] = {}
    for name, tap in taps.items():
        for side, kept, signals in (
            ("output", tap.layout.to_output, tap.preactivation),
            ("input", tap.layout.from_input, tap.input),
        ):
            chosen = _objective_for(objective, name, side, signals.shape[-2])
            if (kept and ends != "free") or chosen is None:
                continue
            if name in (refused or {}):
                raise ValueError((refused or {})[name])
            signals = _single(_joint(tap) if joint and side == "input" else signals)
            own = None if tap.weights is None else _spread(tap, joint and side == "input", signals)
            groups.setdefault((_identity(chosen), signals.shape, signals.dtype), []).append(
                Side(name, side, chosen, signals, own)
            )
    return list(groups.values())


def two_sided(taps: Mapping[str, Tap], found: Mapping[tuple[str, str], Descrambling]) -> NetworkDescrambling:
    """Every layer with what was found for its sides, `{(name, side): Descrambling}`, and the weight between them."""
    layers = NetworkDescrambling()
    for name, tap in taps.items():
        left, right, weight = found.get((name, "output")), found.get((name, "input")), _single(tap.weight)
        if left is not None:
            weight = jnp.matmul(left.point, weight, precision="highest")
        if right is not None:
            weight = jnp.matmul(weight, jnp.swapaxes(right.point, -1, -2), precision="highest")
        layers[name] = LayerDescrambling(left, right, weight)
    return layers


def _identity(objective: Any) -> tuple:
    """What two objectives share if they are one and the same problem: made by the same call, or holding the same."""
    leaves, structure = jax.tree.flatten(objective)
    return structure, *(leaf if isinstance(leaf, int | float) else id(leaf) for leaf in leaves)


def _objective_for(given: Any, name: str, side: str, size: int) -> Any:
    if given is None:
        return smoothness()
    return given(name, side, size) if callable(given) and not isinstance(given, Objective | type) else given


def _single(array: Array) -> Array:
    """Half precision as float32: networks may run in it, orthogonality cannot be kept in it."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _spread(tap: Tap, joint: bool, signals: Array) -> Array:
    """The weights of a side's samples, for each problem; if joint, 1 for each column of the layer's weight in front."""
    weights = jnp.broadcast_to(tap.weights, (*signals.shape[:-2], tap.weights.shape[-1]))
    if not joint:
        return weights
    ones = jnp.ones((*signals.shape[:-2], signals.shape[-1] - weights.shape[-1]), weights.dtype)
    return jnp.concatenate([ones, weights], axis=-1)


def _joint(tap: Tap) -> Array:
    """The layer's input signals beside its own weight, both at the (weighted) signals' spectral norm."""

    def one(weight: Array, signals: Array, sizes: Array) -> Array:
        largest = decompositions.singular_values(weight)[0]
        scale = decompositions.singular_values(sizes)[0] / jnp.where(largest > 0, largest, 1)
        return jnp.concatenate([scale * weight.T, signals], axis=1)

    together = one
    for _ in range(tap.weight.ndim - 2):
        together = jax.vmap(together)
    weight, signals = _single(tap.weight), _single(tap.input)
    if tap.weights is None:
        sizes = signals
    else:
        own = jnp.broadcast_to(tap.weights, (*signals.shape[:-2], signals.shape[-1])).astype(signals.dtype)
        signals, sizes = clear(signals, own), balanced(signals, own)
    shape = (*weight.shape[:-2], *signals.shape[-2:])
    return together(weight, jnp.broadcast_to(signals, shape), jnp.broadcast_to(sizes, shape))
