"""Which sides of which layers are descrambled, with what signals and objective."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxdescramble._base import decompositions
from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.products import adjoint, real_type
from jaxdescramble.descrambling.signals import an_objective
from jaxdescramble.networks.taps import Tap
from jaxdescramble.objectives import Objective, smoothness
from jaxdescramble.objectives.weighing import balanced, clear

Choice = Objective | Callable[[str, str, int], Objective | None]
"""One objective for all sides, or a function `(name, side, size) -> objective` that chooses one for each side."""

Rank = int | Callable[[str, str, int], int | None]
"""One rank for all sides, or a function `(name, side, size) -> rank or None` that chooses one for each side."""


class Side(NamedTuple):
    """One side of one layer, chosen for descrambling."""

    name: str
    side: str
    objective: Objective
    signals: Inexact[Array, "*batch n m"]
    weights: Float[Array, "*batch m"] | None = None
    rank: int | None = None


def alike(
    taps: Mapping[str, Tap],
    objective: Choice | None,
    joint: bool,
    ends: str,
    refused: Mapping[str, str] | None = None,
    rank: Rank | None = None,
) -> list[list[Side]]:
    """Return the sides of a network to descramble, in groups of one problem, one shape and one rank.

    Args:
        taps: the layers, from `wiretap`.
        objective, joint, ends, rank: see `descramble_network`.
        refused: layers whose samples have no weights, with the reason.

    Raises:
        ValueError: if a layer in `refused` has a side to descramble.
    """
    groups: dict[tuple[object, ...], list[Side]] = {}
    for name, tap in taps.items():
        for side, kept, signals in (
            ("output", tap.layout.to_output, tap.preactivation),
            ("input", tap.layout.from_input, tap.input),
        ):
            chosen = objective_for(objective, name, side, signals.shape[-2])
            if (kept and ends != "free") or chosen is None:
                continue
            if name in (refused or {}):
                raise ValueError((refused or {})[name])
            signals = single(_joint(tap) if joint and side == "input" else signals)
            own = None if tap.weights is None else _spread(tap, joint and side == "input", signals)
            k = rank_of(rank, name, side, signals.shape[-2])
            groups.setdefault((_identity(chosen), signals.shape, signals.dtype, k), []).append(
                Side(name, side, chosen, signals, own, k)
            )
    return list(groups.values())


def rank_of(given: Rank | None, name: str, side: str, size: int) -> int | None:
    """Return the rank of a side, or None if it keeps all features.

    Raises:
        TypeError, ValueError: if the rank is not a positive integer. The message names the side.

    >>> rank_of(4, "first", "output", 9), rank_of(4, "second", "input", 4)
    (4, None)
    """
    wanted = given(name, side, size) if callable(given) else given
    if wanted is None:
        return None
    wanted = positive_integer(wanted, f"rank of layer {name}, {side} side" if callable(given) else "rank")
    return wanted if wanted < size else None


def _identity(objective: Objective) -> tuple[object, ...]:
    """Return a key that two objectives share if they are the same problem: the same numbers and the same arrays."""
    leaves, structure = jax.tree.flatten(objective)
    return structure, *(leaf if isinstance(leaf, int | float) else id(leaf) for leaf in leaves)


def objective_for(given: Choice | None, name: str, side: str, size: int) -> Objective | None:
    if given is None:
        return smoothness()
    if isinstance(given, Objective | type) or not callable(given):
        return an_objective(given)
    return given(name, side, size)


def single(array: Array) -> Array:
    """Return an array in at least float32: in half precision, P would not stay orthogonal."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _spread(tap: Tap, joint: bool, signals: Array) -> Array:
    """Return the weights of a side's samples, for each problem; if joint, put a 1 in front for each row of W."""
    weights = jnp.broadcast_to(tap.weights, (*signals.shape[:-2], tap.weights.shape[-1]))
    if not joint:
        return weights
    ones = jnp.ones((*signals.shape[:-2], signals.shape[-1] - weights.shape[-1]), weights.dtype)
    return jnp.concatenate([ones, weights], axis=-1)


def _joint(tap: Tap) -> Array:
    """Return weight and input signals side by side, `[m W^T, X]`; m gives both the spectral norm of (weighted) X."""

    def one(weight: Array, signals: Array, sizes: Array) -> Array:
        largest = decompositions.singular_values(weight)[0]
        scale = decompositions.singular_values(sizes)[0] / jnp.where(largest > 0, largest, 1)
        return jnp.concatenate([scale * adjoint(weight), signals], axis=1)

    together = one
    for _ in range(tap.weight.ndim - 2):
        together = jax.vmap(together)
    weight, signals = single(tap.weight), single(tap.input)
    if tap.weights is None:
        sizes = signals
    else:
        shape = (*signals.shape[:-2], signals.shape[-1])
        own = jnp.broadcast_to(tap.weights, shape).astype(real_type(signals.dtype))
        signals, sizes = clear(signals, own), balanced(signals, own)
    shape = (*weight.shape[:-2], *signals.shape[-2:])
    return together(weight, jnp.broadcast_to(signals, shape), jnp.broadcast_to(sizes, shape))
