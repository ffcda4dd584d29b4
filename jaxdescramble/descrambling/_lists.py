"""Descramble the items of a list: alike ones together, in the order of the list."""

from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxdescramble._base.checks import numbers
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling.descramblings import Descramblings
from jaxdescramble.descrambling.result import Descrambling
from jaxdescramble.objectives import Summary
from jaxdescramble.solvers.watch import Watch


def is_problem(item: object) -> bool:
    """Return whether an item of a list is signals or a summary of signals.

    >>> is_problem(np.ones((2, 3))), is_problem(3)
    (True, False)
    """
    return isinstance(item, Summary) or getattr(item, "ndim", 0) >= 2


def alike_together(
    items: list,
    together: Callable[..., Descrambling],
    start: ArrayLike | None,
    watch: Watch | None,
    weights: object,
) -> Descramblings:
    """Solve the problems of a list, one batch for each kind and shape; return the results in the order of the list.

    Args:
        items: signals and summaries.
        together: descrambles a batch, with the arguments `start` and `weights`.
        start: one start for all, or None.
        watch: follows the solves; None means that nobody does.
        weights: as `descramble` takes them for a list.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    each = [one if one is None else numbers(one, "weights") for one in _weights_of_each(weights, len(items))]
    for place, item in enumerate(zip(items, each, strict=True)):
        leaves, structure = jax.tree.flatten(item)
        alike.setdefault((structure, *((leaf.shape, leaf.dtype) for leaf in leaves)), []).append(place)
    found: dict[int, Descrambling] = {}
    for places in alike.values():
        if watch is not None and watch.stopped == Status.INTERRUPTED:
            break
        if len(places) == 1:
            found[places[0]] = together(items[places[0]], start=start, weights=each[places[0]])
            continue
        # All items share the start, which may have one point for each layer of an item.
        begin = start
        if start is not None and np.ndim(start) > 2:
            begin = jnp.broadcast_to(start, (len(places), *np.shape(start)))
        stacked = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *(of[i] for i in places)) for of in (items, each)]
        batch = together(stacked[0], start=begin, weights=stacked[1])
        found |= {place: batch.problem(k) for k, place in enumerate(places)}
    return Descramblings(cast(Descrambling, found.get(place)) for place in range(len(items)))


def _weights_of_each(weights: object, count: int) -> list[object]:
    """Return the weights of every item of a list of signals."""
    if not isinstance(weights, list | tuple) or (weights and np.ndim(weights[0]) == 0 and weights[0] is not None):
        return [weights] * count
    if len(weights) != count:
        raise ValueError(f"weights: got {len(weights)} sets for a list of {count} signals; give one set for each.")
    return list(weights)
