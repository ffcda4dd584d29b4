"""Rotations of MiniLM, a BERT: inside the heads they cost nothing; before the layers they are applied at run time.

The residual stream of a BERT admits an order of its features and one sign only: its norms have a gain and an offset in
the residual path, which cannot be folded. So a rotation of what a layer reads is a product more at run time: the layer
gets `R x` and has the weights `W R^T`. Values and outputs rotate inside each head, which the parameters take up.
"""

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.parts import Json, part
from jaxdescramble.descrambling import descramble
from jaxdescramble.manifolds import Power, SpecialOrthogonal, orthogonal
from jaxdescramble.networks import transform
from jaxdescramble.objectives import spread
from jaxdescramble.solvers import LBFGS, minimise
from jaxdescramble.studies.published import minilm
from jaxdescramble.studies.rotations.frames import drawn, off_orthogonal
from jaxdescramble.studies.rotations.learning import kurtosis
from jaxdescramble.studies.rotations.quantising import Quantising
from jaxdescramble.studies.rotations.tables import Rotations

BITS = ((8, 8), (4, 8), (8, 4), (4, 4))
METHODS = ("none", "Haar", "Hadamard", "data-free", "data learned")
WIDTH = minilm.HEADS * minilm.HEAD_WIDTH
SITES = 2 * minilm.BLOCKS
SITE = {"q": 0, "k": 0, "v": 0, "up": 1}
READERS = (("q", "k", "v"), ("up",))
MEASURES = {
    "hidden": "held-out squared error of the last hidden state, relative",
    "sentences": "held-out 1 - cosine of the sentences' vectors",
}
VERSION = 1
"""Increase this number if you change what a kept part depends on."""


class Turns(NamedTuple):
    """Rotations of MiniLM.

    Attributes:
        sites: rotation of what queries, keys and values read, and of what the MLP reads, in each block; at run time.
        heads: rotation of the values of each head of each block, in the parameters.
    """

    sites: Float[Array, "sites width width"]
    heads: Float[Array, "blocks heads size size"]


def _like() -> Turns:
    size = minilm.HEAD_WIDTH
    heads = jnp.broadcast_to(jnp.eye(size, dtype=jnp.float32), (minilm.BLOCKS, minilm.HEADS, size, size))
    return Turns(jnp.broadcast_to(jnp.eye(WIDTH, dtype=jnp.float32), (SITES, WIDTH, WIDTH)), heads)


def _random(key: Array, draw: Callable[..., Array]) -> Turns:
    return Turns(*(drawn(one, like, draw) for one, like in zip(jax.random.split(key), _like(), strict=True)))


@functools.partial(jax.jit, static_argnames="bits")
def hidden(params: minilm.Params, ids: Array, sites: Array, bits: Quantising | None) -> Array:
    """Return the last hidden state of MiniLM with rotations at run time, and rounding unless `bits` is None."""

    def layer(name: str, block: int, own: minilm.Pair, x: Array) -> Array:
        weight = own["weight"]
        if name in SITE:
            turn = sites[2 * block + SITE[name]]
            weight, x = weight @ turn.T, x @ turn.T
        if bits is not None:
            weight, x = bits.weight(weight), bits.activation(x)
        return minilm.product(name, block, {"weight": weight, "bias": own["bias"]}, x)

    return minilm.network(params, ids, layer=layer)


def in_heads(params: minilm.Params, ids: np.ndarray, heads: Array) -> minilm.Params:
    """Return parameters with rotated values, by `jd.transform`: the same function."""
    names = {f"['blocks'][{k}]['v']['weight']": np.asarray(one) for k, one in enumerate(heads)}
    return transform(minilm.network, params, ids[:1], names)


@jax.jit
def _watched(params: minilm.Params, ids: Array) -> dict[str, Array]:
    seen: dict[str, list[Array]] = {"sites": [], "o": []}

    def layer(name: str, block: int, own: minilm.Pair, x: Array) -> Array:
        if name in ("q", "up"):
            seen["sites"].append(x.reshape(-1, WIDTH).T)
        if name == "o":
            split = x.reshape(-1, minilm.HEADS, minilm.HEAD_WIDTH)
            seen["o"].append(jnp.transpose(split, (1, 2, 0)))
        return minilm.product(name, block, own, x)

    minilm.network(params, ids, layer=layer)
    return {name: jnp.stack(some) for name, some in seen.items()}


def data_learned(start: Turns, seen: Mapping[str, Array], steps: int) -> Turns:
    """Minimise the fourth powers of rotated activations, each token in its own unit: `objectives.spread("fourth")`.

    Args:
        start: the first rotations. Signs of rows change nothing, so both determinant classes have the same values.
        seen: what enters the sites (sites, width, samples), and what enters "o" (blocks, heads, size, samples).
        steps: largest number of steps of L-BFGS.
    """
    solver, objective = LBFGS(max_steps=steps), spread("fourth")
    found = [
        descramble(signals, objective, solver, start=point).point
        for signals, point in zip((seen["sites"], seen["o"]), start, strict=True)
    ]
    return Turns(*found)


def data_free(start: Turns, params: minilm.Params, steps: int) -> Turns:
    """Minimise the kurtosis of the rotated weights, with no data (OptRot), each weight in its own unit."""
    solver = LBFGS(max_steps=steps)
    weights = [
        jnp.concatenate([block[name]["weight"] / jnp.linalg.norm(block[name]["weight"]) for name in readers])
        for block in params["blocks"]
        for readers in READERS
    ]
    sites = [
        minimise(_of_readers, one, weight, solver=solver, group="SO").point
        for one, weight in zip(start.sites, weights, strict=True)
    ]
    shape = (minilm.HEADS, minilm.HEAD_WIDTH, WIDTH)
    values = jnp.stack([block["v"]["weight"].reshape(shape) for block in params["blocks"]])
    outputs = jnp.stack([block["o"]["weight"].T.reshape(shape) for block in params["blocks"]])
    every = Power(Power(SpecialOrthogonal()))
    return Turns(
        jnp.stack(sites), minimise(_of_heads, start.heads, values, outputs, solver=solver, manifold=every).point
    )


def _of_readers(point: Float[Array, "n n"], weight: Float[Array, "out n"]) -> Array:
    return kurtosis(weight @ point.T)


def _of_heads(point: Array, values: Array, outputs: Array) -> Array:
    """Return the mean kurtosis of the weights inside heads, (blocks, heads, size, width)."""
    turned = jnp.concatenate([point @ values, point @ outputs])
    return jnp.mean(jax.vmap(kurtosis)(turned.reshape(-1, *turned.shape[-2:])))


class _Sentences(NamedTuple):
    ids: np.ndarray
    real: np.ndarray

    def kept(self, columns: Array) -> Array:
        """Return signals (..., samples) of the tokens that are words."""
        return columns[..., np.flatnonzero(self.real.ravel())]


def _costs(exact: Array, found: Array, real: np.ndarray) -> dict[str, float]:
    weight = jnp.asarray(real)[..., None]
    missed = float(jnp.sum(weight * (found - exact) ** 2) / jnp.sum(weight * exact**2))
    first, second = (jnp.sum(weight * one, axis=1) for one in (exact, found))
    cosine = jnp.sum(first * second, 1) / jnp.linalg.norm(first, axis=1) / jnp.linalg.norm(second, axis=1)
    return {"hidden": missed, "sentences": float(1 - cosine.mean())}


def minilm_rotations(
    path: str | os.PathLike[str] | None,
    folder: Path,
    *,
    seeds: int = 3,
    bits: tuple[tuple[int, int], ...] = BITS,
    sentences: tuple[int, int] = (120, 32),
    draws: int = 2,
    lbfgs: int = 30,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Rotations]:
    """Round MiniLM in several frames, and compare what it says about held-out sentences with the exact network.

    Each seed draws other sentences, for calibration and for the test, and other random rotations. There is no rotation
    learned from a loss: the network has no head that predicts words.

    Args:
        path: the argument of `studies.published.minilm.load`.
        folder: folder of finished parts. Parts of the same settings are not run again.
        seeds: number of seeds.
        bits: bits of weights and activations.
        sentences: sentences for calibration, and for the test.
        draws: random rotations of each kind and seed; their mean cost counts. Learning starts from the first Hadamard.
        lbfgs: largest number of steps of L-BFGS.
        progress: called as `progress(stage, done, total)`.

    Returns:
        By measure, "hidden" and "sentences", a `Rotations`.

    Raises:
        ValueError: if the network's wheel is not there (the error says what to install); if sentences are too few.
        OSError: if a part cannot be written.
    """
    seeds, say = positive_integer(seeds, "seeds"), progress or (lambda stage, done, total: None)
    _, params = minilm.load(path)
    count = seeds * sum(sentences)
    given = minilm.inputs(path, count=count)
    if len(given.ids) < count:
        raise ValueError(f"sentences: {len(given.ids)} found; {seeds} seeds need {count}.")
    settings = {"bits": bits, "sentences": sentences, "draws": draws, "lbfgs": lbfgs, "version": VERSION}
    made: list[Json] = []
    for seed in range(seeds):
        say("MiniLM", seed, seeds)
        own = slice(seed * sum(sentences), (seed + 1) * sum(sentences))
        some = _Sentences(given.ids[own], given.weights[own])
        wanted = {**settings, "seed": seed, "words": int(some.ids.sum())}
        work = functools.partial(_measured, params, some, seed, bits, sentences[0], draws, lbfgs)
        made.append(part(folder, f"minilm-{seed}", wanted, work))
    say("done", 1, 1)

    def array(key: str, name: str | None = None) -> np.ndarray:
        rows = [[one[method][key] if name is None else one[method][key][name] for method in METHODS] for one in made]
        return np.asarray(rows, float)

    spread = np.swapaxes(np.broadcast_to(array("kurtosis"), (len(bits), seeds, len(METHODS))), 0, 1)
    seconds = np.swapaxes(np.broadcast_to(array("seconds"), (len(bits), seeds, len(METHODS))), 0, 1)
    return {
        measure: Rotations(
            network="all-MiniLM-L6-v2; rotations of the residual stream at run time",
            measure=words,
            bits=tuple(Quantising(*pair).name for pair in bits),
            methods=METHODS,
            cost=np.swapaxes(array("costs", measure), 1, 2),
            unrounded=np.zeros(seeds),
            kurtosis=spread,
            seconds=seconds,
            changed=array("changed").max(axis=1),
            off=array("off").max(axis=1),
            timed=np.zeros((0, 2)),
        )
        for measure, words in MEASURES.items()
    }


def _measured(
    params: minilm.Params, some: _Sentences, seed: int, bits: tuple[tuple[int, int], ...], calibrated: int,
    draws: int, lbfgs: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:  # fmt: skip
    """Return the numbers of every method for a seed, and the kurtosis of each site with and without learning."""
    fit, test = (_Sentences(some.ids[part], some.real[part]) for part in (slice(calibrated), slice(calibrated, None)))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2), seed), 2 * draws)
    tried: dict[str, list[Turns]] = {"none": [_like()]}
    tried["Haar"] = [_random(key, orthogonal.random) for key in keys[::2]]
    tried["Hadamard"] = [_random(key, orthogonal.random_hadamard) for key in keys[1::2]]
    start, seconds = tried["Hadamard"][0], {}
    began = time.perf_counter()
    tried["data-free"] = [data_free(start, params, lbfgs)]
    between = time.perf_counter()
    seen = {name: fit.kept(signals) for name, signals in _watched(params, jnp.asarray(fit.ids)).items()}
    tried["data learned"] = [data_learned(start, seen, lbfgs)]
    seconds |= {"data-free": between - began, "data learned": time.perf_counter() - between}
    ids = jnp.asarray(test.ids)
    exact = minilm.network(params, ids)
    unseen = test.kept(_watched(params, ids)["sites"])
    found: dict[str, Any] = {}
    for name, frames in tried.items():
        rows, changed, spread = [], [], []
        for turns in frames:
            moved = in_heads(params, test.ids, turns.heads)
            changed.append(float(jnp.abs(hidden(moved, ids, turns.sites, None) - exact).max() / jnp.abs(exact).max()))
            spread.append([float(kurtosis(turn @ own)) for turn, own in zip(turns.sites, unseen, strict=True)])
            rows.append([_costs(exact, hidden(moved, ids, turns.sites, Quantising(*pair)), test.real) for pair in bits])
        found[name] = {
            "costs": {key: np.mean([[one[key] for one in row] for row in rows], axis=0).tolist() for key in MEASURES},
            "kurtosis": float(np.mean(spread)),
            "sites": np.mean(spread, axis=0).tolist(),
            "seconds": seconds.get(name, 0.0),
            "changed": max(changed),
            "off": max(off_orthogonal(turns) for turns in frames),
        }
    return found, {}
