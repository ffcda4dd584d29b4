"""Make the draws of an explanation: in blocks, so that they can be watched, stopped and continued."""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxdescramble._base.checks import file_path
from jaxdescramble._base.files import write_arrays
from jaxdescramble._base.programs import quick_jit
from jaxdescramble.findings.explanations._workers import StoppedError, Workers, sharing
from jaxdescramble.findings.explanations.axes import Axis
from jaxdescramble.findings.explanations.draws import Battery, observed, read_draws
from jaxdescramble.findings.explanations.looks import Inputs, singular_values
from jaxdescramble.findings.explanations.preparing import Prepared, inputs_of, prepared, signals_of
from jaxdescramble.findings.explanations.sources import Source
from jaxdescramble.findings.explanations.weight_nulls import Untrained, WeightNull
from jaxdescramble.findings.explanations.whole_networks import (
    TrainedNetworks,
    WholeNull,
    digest_of,
    member,
    most_draws,
    same_structure,
)
from jaxdescramble.networks import wiretap
from jaxdescramble.objectives import Objective

CHUNK = 10
"""Number of draws that are completed for all layers before the next ones begin."""

SOON = 2**24
"""The first draw is a block of its own if the layers have more entries than this, or if a null replaces the network. So
there is something to show soon."""

FORMULAS = 2
"""Increased when readings or draws change, so that a folder of older draws is not continued."""


class Place(NamedTuple):
    """Where a layer of a function is found, its input axis, and the first layer that reads the same signals."""

    tap: str
    where: tuple[int, ...]
    into: Axis
    centred: bool
    reads: int


@functools.lru_cache(maxsize=8)
def _reader(f: Callable[..., PyTree], places: tuple[Place, ...]) -> Callable[..., list[tuple[Array, Inputs]]]:
    """Return a compiled function that reads weights and signals of the layers. Repeated explanations of f share it."""

    @jax.jit
    def read(
        params: PyTree, x: PyTree, columns: list[tuple[Array, Array]], weights: list[Array]
    ) -> list[tuple[Array, Inputs]]:
        _, taps = wiretap(f)(params, x)
        found = []
        for k, (place, picked, own) in enumerate(zip(places, columns, weights, strict=True)):
            tap = taps[place.tap]
            weight = tap.weight[place.where]
            weight = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
            if place.reads < k:
                found.append((weight, found[place.reads][1]))
                continue
            signals = jnp.broadcast_to(tap.input, (*tap.weight.shape[:-2], *tap.input.shape[-2:]))[place.where]
            found.append((weight, inputs_of(signals.astype(weight.dtype), picked, own, place.into, place.centred)))
        return found

    return read


class Network:
    """A function, to read other parameters in the same way: the same samples, columns and axes."""

    def __init__(self, f: Callable[..., PyTree], params: PyTree, x: PyTree, layers: list[Prepared]):
        self.params, self.x, self.layers = params, x, layers
        first = {id(one.inputs): k for k, one in reversed(list(enumerate(layers)))}
        places = tuple(
            Place(one.source.tap, one.source.place, one.source.into, one.source.centred, first[id(one.inputs)])
            for one in layers
        )
        self.read = _reader(f, places)

    def readings(
        self, other: PyTree, batteries: list[Battery], what: str, workers: Workers, x: PyTree = None
    ) -> list[np.ndarray]:
        """Return the readings of the network with other parameters, or other inputs of the same shape, layer by layer.

        Raises:
            ValueError: if these parameters have another structure or other shapes.
        """
        same_structure(other, self.params, what)
        columns = [(jnp.asarray(one.picked[0]), jnp.asarray(one.picked[1])) for one in self.layers]
        found = self.read(other, self.x if x is None else x, columns, [jnp.asarray(one.weights) for one in self.layers])
        layers = [
            one._replace(weight=weight, singular=singular_values(weight), inputs=inputs)
            for one, (weight, inputs) in zip(self.layers, found, strict=True)
        ]
        return list(workers.run(observed(layers, batteries)))


def prepare(
    workers: Workers, sources: list[Source], side: np.ndarray, weights: np.ndarray, seed: tuple[int, ...]
) -> tuple[list[Prepared], dict[str, str]]:
    """Return the layers that can be judged, ready for draws, and why the others cannot."""
    groups = sharing([signals_of(one) for one in sources])
    found = workers.run_together(
        groups,
        lambda group: prepared([sources[k] for k in group], side, weights, seed),
        [sources[group[0]].input.size for group in groups],
        to_the_end=True,
    )
    ready = [one for one in found if isinstance(one, Prepared)]
    return ready, {source.name: one for source, one in zip(sources, found, strict=True) if isinstance(one, str)}


class Store(NamedTuple):
    """A folder that keeps finished draws. Its file names tell one explanation from others."""

    folder: Path | None
    identity: str

    @staticmethod
    def at(
        folder: str | os.PathLike[str] | None,
        layers: list[Prepared],
        key: PRNGKeyArray,
        objective: Objective,
        nulls: Sequence[WeightNull | WholeNull],
    ) -> "Store":
        if folder is None:
            return Store(None, "")
        digest = hashlib.sha256()
        digest.update(json.dumps([one.source.name for one in layers]).encode())
        digest.update(repr((FORMULAS, objective, np.asarray(jax.random.key_data(key)).tolist())).encode())
        for one in layers:
            for array in (one.weight, *one.inputs.factors):
                digest.update(np.ascontiguousarray(array).tobytes())
        for null in nulls:
            if isinstance(null, Untrained):  # another `init` makes other networks
                digest.update(digest_of(null.network(key)).encode())
            elif dataclasses.is_dataclass(null) and not isinstance(null, WholeNull):
                digest.update(repr(null).encode())
        return Store(file_path(folder, "folder"), digest.hexdigest()[:16])

    def path(self, null: WeightNull | WholeNull, battery: str, first: int, last: int) -> Path:
        assert self.folder is not None
        name = re.sub(r"[^\w.-]+", "-", null.name)
        if isinstance(null, TrainedNetworks):  # its draws are those of these networks, and of no others
            name += "-" + hashlib.sha256("".join(null.digests[first:last]).encode()).hexdigest()[:16]
        return self.folder / f"draws-{self.identity}-{name}-{battery}-{first}-{last}.npz"

    def load(self, path: Path, layers: int) -> list[np.ndarray] | None:
        try:
            with np.load(path, allow_pickle=False) as file:
                return [file[str(k)] for k in range(layers)]
        except (OSError, ValueError, KeyError, EOFError):
            return None  # missing or damaged: draw again


class Drawn(NamedTuple):
    """The draws that are complete for all layers and nulls.

    Attributes:
        rows: for each null, the readings of each layer, shape (draws, readings).
        draws: number of draws of the nulls that have the most.
        stopped: "" if all draws were made; otherwise why not.
    """

    rows: dict[str, list[np.ndarray]]
    draws: int
    stopped: str


def draw(
    workers: Workers,
    layers: list[Prepared],
    batteries: list[Battery],
    nulls: list[WeightNull | WholeNull],
    draws: int,
    key: PRNGKeyArray,
    network: Network | None,
    store: Store,
) -> Drawn:
    """Make the draws in blocks: each block is complete for all nulls and layers before the next one begins.

    So whenever it is stopped, the complete draws are draws of whole networks, and can be judged. A null of few networks
    takes no part in the last blocks.
    """
    named = hashlib.sha256(repr([[one.name for one in battery] for battery in batteries]).encode()).hexdigest()[:8]
    limits = {null.name: most_draws(null, draws) for null in nulls}
    draws = max(limits.values())
    slow = sum(one.weight.size for one in layers) > SOON or any(isinstance(null, WholeNull) for null in nulls)
    ends = sorted({1 if slow else min(CHUNK, draws), *range(CHUNK, draws, CHUNK), draws})
    total, done = sum(limits.values()) * len(layers), 0
    blocks: list[dict[str, list[np.ndarray]]] = []
    count, stopped = 0, ""
    try:
        for first, last in itertools.pairwise([0, *ends]):
            block: dict[str, list[np.ndarray]] = {}
            for place, null in enumerate(nulls):
                end = min(last, limits[null.name])
                if end <= first:
                    continue
                path = None if store.folder is None else store.path(null, named, first, end)
                rows = None if path is None else store.load(path, len(layers))
                if rows is None:
                    keys = jax.random.fold_in(key, place + 1)
                    news = f"draws {first + 1} to {end} of {limits[null.name]} from '{null.name}'"
                    told = functools.partial(_told, workers, news, done, total)
                    rows = _block(workers, keys, range(first, end), null, layers, batteries, network, told)
                    if path is not None:
                        write_arrays(path, {str(k): one for k, one in enumerate(rows)})
                block[null.name] = rows
                done += len(layers) * (end - first)
            blocks.append(block)
            count = last
    except (StoppedError, KeyboardInterrupt) as why:
        stopped = f"{workers.why(why)} after {count} of {draws} draws"
    empty = [np.zeros((0, len(battery))) for battery in batteries]
    rows = {
        null.name: [
            np.concatenate([nothing, *(block[null.name][k] for block in blocks if null.name in block)])
            for k, nothing in enumerate(empty)
        ]
        for null in nulls
    }
    return Drawn(rows, count, stopped)


@functools.partial(quick_jit, static_argnames="layers")
def _keys(key: PRNGKeyArray, draws: Int[Array, " draws"], layers: int) -> tuple[Array, list[Array]]:
    """Return a key for each draw, and for each layer a key for each draw."""
    own = jax.vmap(jax.random.fold_in, (None, 0))(key, draws)
    return own, [jax.vmap(jax.random.fold_in, (0, None))(own, k) for k in range(layers)]


def _block(
    workers: Workers,
    key: PRNGKeyArray,
    draws: range,
    null: WeightNull | WholeNull,
    layers: list[Prepared],
    batteries: list[Battery],
    network: Network | None,
    told: Callable[[int], None],
) -> list[Float[np.ndarray, "draws readings"]]:
    """Return the readings of each layer, a row for each draw; `told` hears how many readings of a layer are done."""
    # Blocks that are not full repeat their last draw, so that programs compile once.
    whole, keys = _keys(key, jnp.minimum(draws.start + np.arange(CHUNK), draws.stop - 1), len(layers))
    if isinstance(null, WholeNull):
        assert network is not None
        rows: list[list[np.ndarray]] = []
        for k in range(len(draws)):
            rows.append(network.readings(member(null, draws[k], whole[k]), batteries, null.name, workers))
            told(len(rows) * len(layers))
        return [np.stack(one) for one in zip(*rows, strict=True)]

    def task(group: list[int]) -> list[Float[np.ndarray, "draws readings"]]:
        k, kept = group[0], []
        for part in read_draws(keys[k], len(draws), null, layers[k], batteries[k]):
            kept.append(part)
            if workers.watch.over():
                raise StoppedError
        return [np.concatenate(kept)]

    sizes = [one.weight.size for one in layers]
    return workers.run_together([[k] for k in range(len(layers))], task, sizes, lambda read: told(read * len(draws)))


def _told(workers: Workers, news: str, before: int, total: int, read: int) -> None:
    workers.watch.tell(news, before + read, total)
