"""Descramble every linear layer of a network: the side of its outputs and the side of its inputs."""

import dataclasses
import functools
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import file_path, one_of, random_key, true_or_false
from jaxdescramble._base.products import adjoint
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Result
from jaxdescramble._base.status import Status, check_status
from jaxdescramble.descrambling._folders import load_items, save_items
from jaxdescramble.descrambling._planning import DirectSolver
from jaxdescramble.descrambling._sides import Choice, Rank, alike, objective_for, single
from jaxdescramble.descrambling._unitary import UNITARY
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.descrambling.signals import GROUPS, descramble_each
from jaxdescramble.descrambling.symmetric import SymmetricDescrambling, descramble_streams
from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.taps import Tap, wiretap
from jaxdescramble.networks.unread import why_no_layer
from jaxdescramble.objectives import Objective
from jaxdescramble.solvers import Solver
from jaxdescramble.solvers.watch import Interrupted, Progress, watched

ENDS = ("ordered", "free")
FRAMES = ("any", "symmetric")
WEIGHTS = "weights.npz"


@register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class LayerDescrambling(Result):
    """One layer with its weight W in the descrambled frames of both sides: `weight = P W Q^T` (`Q^H` for complex Q).

    Attributes:
        output: descrambling of the preactivations, with the descrambler P; None (P = 1) if this side was not
            descrambled, such as the output axis of the network.
        input: descrambling of the layer's input signals, with the descrambler Q; None (Q = 1) if this side was not
            descrambled, such as the input axis of the network.
        weight: the weight `P W Q^T`, shape (..., out, in); `P W Q^H` with group "U". A side with `rank=k` has k rows or
            columns here.
    """

    output: Descrambling | None
    input: Descrambling | None
    weight: Inexact[Array, "*batch out in"]

    @property
    def sides(self) -> dict[str, Descrambling]:
        """The descrambled sides by name, "output" and "input"; sides that are None are missing."""
        return {name: one for name in ("output", "input") if (one := getattr(self, name)) is not None}

    def check(self) -> "LayerDescrambling":
        """Return this layer if every side has an answer.

        Raises:
            FloatingPointError: if a side has none; one paragraph for every kind of failure names the sides.
        """
        _check_sides({f"{side} side": one for side, one in self.sides.items()}, "descramble_network")
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the sides and the weight into a folder, in the format of `NetworkDescrambling.save`."""
        NetworkDescrambling({"": self}).save(folder)

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "LayerDescrambling":
        """Read what `save` wrote; see `NetworkDescrambling.load`."""
        (layer,) = NetworkDescrambling.load(folder, objective).values()
        return layer


@jax.tree_util.register_pytree_with_keys_class
class NetworkDescrambling(Layers):
    """The layers of a network by name, each a `LayerDescrambling`, in the order of computation."""

    def check(self) -> "NetworkDescrambling":
        """Return these layers if every side has an answer.

        Raises:
            FloatingPointError: if a side has none; one paragraph for every kind of failure names the sides.
        """
        sides = {f"{name} ({side} side)": one for name, layer in self.items() for side, one in layer.sides.items()}
        _check_sides(sides, "descramble_network")
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder: one file for each side, one file for all weights, and a table of contents.

        Raises:
            TypeError: if `folder` is not a path.
            OSError: if a file cannot be written (no such folder, a full disk).
        """
        layers = list(self.values())
        items = {f"{k}-{side}": one for k, layer in enumerate(layers) for side, one in layer.sides.items()}
        weights = {str(k): np.asarray(layer.weight) for k, layer in enumerate(layers)}
        save_items(folder, "NetworkDescrambling", items, {"layers": list(self)}, {WEIGHTS: weights})

    @staticmethod
    def load(folder: str | os.PathLike[str], objective: Objective | None = None) -> "NetworkDescrambling":
        """Read what `save` wrote.

        Args:
            folder: path of the folder.
            objective: the objective of all sides; needed only if it is not one of `jaxdescramble.objectives`.

        Raises:
            FileNotFoundError: if the folder or its table of contents is missing.
            TypeError: if `folder` is not a path.
            ValueError: if the folder holds something else or another version, a file is damaged, or the objective is
                missing.
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
    names = [name for name, one in sides.items() for _ in np.asarray(one.status).ravel()]
    status, steps = (
        np.concatenate([np.zeros(0, int), *(np.ravel(np.asarray(part)) for part in parts)])
        for parts in ([one.status for one in sides.values()], [one.steps for one in sides.values()])
    )
    check_status(status, what, names=names, steps=steps)


@overload
def descramble_network(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    objective: Choice | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    joint: bool = False,
    ends: str = "ordered",
    rank: Rank | None = None,
    weights: ArrayLike | Sequence[ArrayLike] | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
    frames: Literal["any"] = "any",
) -> "NetworkDescrambling": ...
@overload
def descramble_network(
    f: Callable[..., PyTree], params: PyTree, x: PyTree, *args: Any, frames: Literal["symmetric"], **kwargs: Any
) -> SymmetricDescrambling: ...
def descramble_network(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    objective: Choice | None = None,
    solver: Solver | DirectSolver | None = None,
    *,
    group: str = "O",
    joint: bool = False,
    ends: str = "ordered",
    rank: Rank | None = None,
    weights: ArrayLike | Sequence[ArrayLike] | None = None,
    restarts: int = 0,
    key: PRNGKeyArray | None = None,
    progress: Progress | None = None,
    max_seconds: float | int | None = None,
    frames: str = "any",
) -> "NetworkDescrambling | SymmetricDescrambling":
    """Descramble both sides of every linear layer of any JAX function.

    For a layer k with weight W_k it finds two descramblers and returns `P_k W_k Q_k^T` (`Q_k^H` if complex). P_k makes
    the preactivations of the layer readable; Q_k makes its input signals readable, which are the activations of the
    layer before. The network itself is not changed: P_k and Q_k are used only to look at it. (`jaxdescramble.insert`
    builds a network that contains `P^-1 P`, to check that its function stays the same.) Sides of one shape are solved
    in one program.

    Args:
        f: a JAX function `f(params, x)`: a plain function, or the apply function of a Flax or Equinox model.
        params: parameters of f, a pytree.
        x: a batch of inputs, large enough to be typical: at least a few times as many samples as features.
        objective: what "readable" means for every layer and side; None means `objectives.smoothness()`. To choose for
            each side, give a function `(name, side, size) -> objective`: name is the layer's name, side is "output" or
            "input", and size is the number of features. It returns None for a side that you want to leave as it is.
        solver: the solver for every side; None means the one that suits the objective (see `descramble`).
        group: "O" allows both determinants; "SO" allows determinant +1 only. "U" and "SU" are for networks with complex
            weights or signals; all descramblers are then complex, also those of sides with real signals.
        joint: True descrambles an input side on the columns of `[m W^T, X]` instead of X, with X the input signals, W
            the weight (`W^H` if complex) and `m = ||X||_2 / ||W||_2` (spectral norms). Q then makes both the signals
            and the rows of the weight smooth. Use it to repeat the paper's analysis of its second layer. Leave it False
            if you want to draw conclusions from the weight: with it, singular vectors of the descrambled weight are
            sinusoidal by construction.
        ends: "ordered" does not descramble the network's input axis and output axis, because their order already has a
            meaning (these sides are None in the result); "free" descrambles them too.
        rank: k, for wide layers: sides of more than k features keep their k leading principal components, see
            `descramble`; the other sides keep all features. To choose for each side, give a function
            `(name, side, size) -> k`, or None for all features. None keeps all features of all sides.
        weights: how much each sample of x counts, shape (batch,) or (batch, tokens), at least 0; None means 1 each. 0
            leaves out padding. `wiretap` finds the weights that belong to the samples of each layer.
        restarts: number of further solves of each side from random starts; the best result is kept.
        key: random key of the restarts. Sides that are solved together share a key, which is derived from this one.
        progress: called as `progress(stage, done, total)` several times a second, outside `jit`.
        max_seconds: stop iterative solvers after this many seconds, counted over all layers; the status is then
            `TIME_SPENT`.
        frames: "any" gives each side a frame of its own. "symmetric" allows only frames that the parameters can take
            up alone, `jd.symmetries`: each stream is descrambled by its own group (orders, or orthogonal matrices), and
            the result contains the moved parameters. `objective` then gets the names of streams, side "stream".

    Returns:
        With `frames="symmetric"`, a `SymmetricDescrambling`, with `streams` and `params`. Otherwise a
        `NetworkDescrambling`: a dictionary `{layer name: LayerDescrambling}` in the order of computation, also after
        `jit`, whose `check()` covers all layers. A name is the path of the weight in `params`. `layers[name].weight` is
        `P W Q^T`; `.output` and `.input` are the `Descrambling`s of the two sides, with P and Q as their points.

    Raises:
        TypeError: if `frames="symmetric"` meets traced parameters.
        ValueError: if f has no linear layer (or no symmetric frame), if another option has no meaning for symmetric
            frames, if `ends` or `group` is unknown, if a rank is not a positive integer, if
            the sample weights do not fit, or if the samples of a layer to descramble have no known weights.
        Interrupted: on Ctrl-C; it is a `KeyboardInterrupt` whose `result` holds the sides whose solve had begun. The
            other sides are None.

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
    one_of(group, "group", (*GROUPS, *UNITARY))
    joint = true_or_false(joint, "joint")
    watch = watched(progress, max_seconds, (params, x, solver, weights, key), "descramble_network")
    if one_of(frames, "frames", FRAMES) == "symmetric":
        given = {"group": group != "O", "joint": joint, "ends": ends != "ordered"}
        given |= {"rank": rank is not None, "weights": weights is not None}
        for name in (name for name, one in given.items() if one):
            raise ValueError(
                f"{name}: has no meaning with frames='symmetric'; each stream has its own group. Leave it out."
            )
        choose = functools.partial(_of_stream, objective)
        return descramble_streams(f, params, x, choose, solver, restarts, key, watch)
    refused: dict[str, str] = {}
    _, taps = wiretap(f)(params, x, weights, _refused=refused)
    if not taps:
        raise ValueError(f"descramble_network: f has no linear layer that can be read. {why_no_layer(f, params, x)}")
    found: dict[tuple[str, str], Descrambling] = {}
    for place, sides in enumerate(alike(taps, objective, joint, ends, refused, rank)):
        own_key = None if key is None else jax.random.fold_in(random_key(key), place)
        names = [(one.name, one.side) for one in sides]
        each = None if weights is None else [one.weights for one in sides]
        try:
            first, signals = sides[0], [one.signals for one in sides]
            solved = descramble_each(
                watch, signals, first.objective, solver, group, each, None, restarts, own_key, first.rank
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


def two_sided(taps: Mapping[str, Tap], found: Mapping[tuple[str, str], Descrambling]) -> NetworkDescrambling:
    """Return every layer with its descrambled weight; `found` is `{(name, side): Descrambling}`."""
    layers = NetworkDescrambling()
    for name, tap in taps.items():
        left, right, weight = found.get((name, "output")), found.get((name, "input")), single(tap.weight)
        if left is not None:
            weight = jnp.matmul(left.point, weight, precision="highest")
        if right is not None:
            weight = jnp.matmul(weight, adjoint(right.point), precision="highest")
        layers[name] = LayerDescrambling(left, right, weight)
    return layers


def _of_stream(objective: Choice | None, name: str, size: int) -> Objective | None:
    return objective_for(objective, name, "stream", size)
