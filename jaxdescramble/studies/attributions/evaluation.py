"""Run the paper's tests, with controls, on Insens and other attributions.

There are six configurations (three networks on two sets of pictures) with several seeds each. One trained network is a
cell. Finished cells are kept in a folder, and a later run continues from them.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdescramble._base.checks import positive_integer
from jaxdescramble._base.parts import kept, part, place
from jaxdescramble.attribution.switched import patterns
from jaxdescramble.datasets import pictures
from jaxdescramble.datasets.pictures import Pictures
from jaxdescramble.studies.attributions import saliency
from jaxdescramble.studies.attributions.claims import Cell
from jaxdescramble.studies.attributions.classifiers import (
    ClassifierPlan,
    Params,
    accuracy,
    classifier,
    initial_parameters,
    train,
)

Progress = Callable[[str, int, int], None]
SETS = ("digits", "shapes")
NETWORKS = {
    "2CONV": ClassifierPlan(),
    "dense": ClassifierPlan(channels=(), widths=(512, 256), steps=1500),
    # As many silent neurons as in the paper's network, and biases that are not small.
    "quiet": ClassifierPlan(channels=(), widths=(512, 256), bias=-0.5, steps=1500),
}
QUICK = {
    "2CONV": ClassifierPlan(channels=(4, 8), widths=(32,), steps=60),
    "dense": ClassifierPlan(channels=(), widths=(64, 32), steps=150),
    "quiet": ClassifierPlan(channels=(), widths=(64, 32), bias=-0.5, steps=150),
}
LEVELS = (0.25, 0.5, 1.0)
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
NOISES = (0.1, 0.3)
STEPS = (0.1, 0.3)
INK = 0.2
SHOWN = 6
MARGIN = 4
# Everything that a kept cell depends on, except the code. If you change a test, increase the version.
TESTS = {"levels": LEVELS, "shares": SHARES, "noises": NOISES, "steps": STEPS, "ink": INK, "margin": MARGIN,
         "copies": (saliency.STEPS, saliency.COPIES), "version": 2}  # fmt: skip
PATTERNS = 4


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that an evaluation depends on.

    Attributes:
        seeds: number of seeds of each configuration.
        pictures: number of unseen pictures for the tests.
        quick: whether to use small networks with little training. Such a run tests the code, not the claims.
    """

    seeds: int = 3
    pictures: int = 64
    quick: bool = False

    def __post_init__(self):
        positive_integer(self.seeds, "seeds")
        positive_integer(self.pictures, "pictures")

    @property
    def plans(self) -> dict[str, ClassifierPlan]:
        """Return the networks by name."""
        return QUICK if self.quick else NETWORKS


class Evaluation(TypedDict):
    """Results of an evaluation, as JSON can hold them."""

    settings: dict[str, object]
    cells: list[Cell]


def evaluate(settings: EvaluationSettings, folder: Path, progress: Progress | None = None) -> Evaluation:
    """Train every network, run every test on every method, and collect the numbers.

    Args:
        settings: what to run.
        folder: path of the folder for finished cells. Cells of the same settings are not run again.
        progress: called as `progress(stage, done, total)`.

    Returns:
        A dictionary with "settings" and "cells". A cell is a dictionary of numbers; its entry "arrays" is the name of a
        file in the folder.

    Raises:
        ImportError: if scikit-learn, which provides the digits, is not installed.
        OSError: if a cell cannot be written. Finished cells are kept.
    """
    names = [(of, net, seed) for of in SETS for net in settings.plans for seed in range(settings.seeds)]
    cells: list[Any] = []
    for done, (of, net, seed) in enumerate(names):
        name, plan = f"cell-{of}-{net}-{seed}", settings.plans[net]
        wanted = {"plan": asdict(plan), "pictures": settings.pictures, "set": of, "seed": seed, "tests": TESTS}
        if progress is not None:
            there = kept(folder, name, wanted) is not None
            progress("kept" if there else f"{of}, {net}, seed {seed}", done, len(names))
        key = jax.random.fold_in(jax.random.key(SETS.index(of)), 100 * list(settings.plans).index(net) + seed)
        found = part(folder, name, wanted, functools.partial(cell, key, of, plan, settings.pictures))
        arrays = place(folder, name, wanted).with_suffix(".npz").name
        cells.append({"set": of, "network": net, "seed": seed, "arrays": arrays, **found})
    if progress is not None:
        progress("done", len(names), len(names))
    return {"settings": asdict(settings), "cells": cells}


def pictures_of(of: str) -> tuple[Pictures, Pictures]:
    """Return the pictures to learn from and the unseen pictures; they are always the same."""
    key = jax.random.key(20191125)
    if of == "digits":
        # Add a margin, as MNIST has one, so that there is background outside the outline.
        scanned = pictures.digits(28 - 2 * MARGIN, jnp.float32)
        wide = jnp.pad(scanned.images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
        learned, unseen = pictures.split(Pictures(wide, scanned.labels), 0.8, 0.2, key=key)
        return learned, unseen
    one, two = jax.random.split(key)
    return pictures.shapes(one, 4000, dtype=jnp.float32), pictures.shapes(two, 500, dtype=jnp.float32)


def cell(key: Array, of: str, plan: ClassifierPlan, count: int) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Train one network and run all tests on all methods: return numbers, and maps of a few pictures."""
    learned, unseen = pictures_of(of)
    for_training, for_maps, for_noise, for_null = jax.random.split(key, 4)
    before, params = train(for_training, plan, learned)
    images, labels = jnp.asarray(unseen.images[:count]), jnp.asarray(unseen.labels[:count])
    found = saliency.maps(params, images, for_maps)
    everything = found | saliency.controls(before, images, for_maps)
    numbers = {
        "accuracy": float(accuracy(params, jnp.asarray(unseen.images), jnp.asarray(unseen.labels))),
        "active": saliency.share_active(params, images),
        "outline": _outline(params, unseen, for_noise),
        "kept": _kept_pixels(params, images, labels, everything, for_noise),
        "noise": _under_noise(params, images, found, for_noise, for_maps),
        "steps": _steps(params, images, found, for_noise),
        "random": _randomised(params, images, found, plan, for_null, for_maps),
        "input": {name: float(jnp.mean(saliency.cosines(one, images))) for name, one in everything.items()},
    }
    shown = {"images": np.asarray(images[:SHOWN]), "labels": np.asarray(labels[:SHOWN])}
    shown |= {name: np.asarray(one[:SHOWN]) for name, one in everything.items()}
    return numbers, shown | _patterns(params, images[:SHOWN])


def _patterns(params: Params, images: Array) -> dict[str, np.ndarray]:
    """Split the last hidden layer: the neurons that add most to the score, and the most sensitive silent neurons."""
    layer = f"[{len(params) - 2}]['W']"
    read = jax.jit(lambda params, image: patterns(classifier, params, image, layer))
    found = jax.tree.map(lambda *each: jnp.concatenate(each), *(read(params, image[None]) for image in images))
    omega, added = found.sensitivity, jnp.where(found.active, found.contribution, 0)
    length = jnp.sqrt(jnp.sum(omega**2, axis=(2, 3, 4)))
    arrays = {}
    for name, by in (("active", jnp.abs(added)), ("silent", jnp.where(found.active, -1, length))):
        top = jnp.argsort(-by, axis=1)[:, :PATTERNS]
        arrays[f"pattern {name}"] = jnp.take_along_axis(omega, top[:, :, None, None, None], axis=1)
        arrays[f"pattern {name} value"] = jnp.take_along_axis(found.value, top, axis=1)
        arrays[f"pattern {name} added"] = jnp.take_along_axis(added, top, axis=1)
    arrays["pattern sum active"] = jnp.einsum("bn,bn...->b...", found.active.astype(omega.dtype), omega)
    arrays["pattern sum silent"] = jnp.einsum("bn,bn...->b...", (~found.active).astype(omega.dtype), omega)
    arrays["pattern projection"] = jnp.einsum("bn,bn...->b...", found.effect, found.weight) + found.bypass
    return {name: np.asarray(one) for name, one in arrays.items()}


def _outline(params: Params, unseen: Pictures, key: Array) -> dict[str, dict[str, float]]:
    """Run test a: accuracy when the figure, its outline, or as many other pixels stay clean."""
    images, labels = jnp.asarray(unseen.images), jnp.asarray(unseen.labels)
    return {
        name: {
            str(level): saliency.accuracy_where_clean(params, images, labels, clean, level, jax.random.fold_in(key, i))
            for i, level in enumerate(LEVELS)
        }
        for name, clean in saliency.outlines(images, ink=INK).items()
    }


def _kept_pixels(
    params: Params, images: Array, labels: Array, maps: Mapping[str, Array], key: Array
) -> dict[str, dict[str, list[float]]]:
    """Run test b: accuracy when the strongest pixels of a map stay clean, by noise level and share of pixels."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, values in maps.items():
        masks = [saliency.strongest(values, share, jax.random.fold_in(key, 1)) for share in SHARES]
        found[name] = {
            str(level): [saliency.accuracy_where_clean(params, images, labels, clean, level, key) for clean in masks]
            for level in LEVELS
        }
    return found


def _under_noise(
    params: Params, images: Array, maps: Mapping[str, Array], for_noise: Array, for_maps: Array
) -> dict[str, dict[str, float]]:
    """Run test c: |cosine| between the maps of a picture with and without noise, if its class stays the same.

    The absolute value is needed because a relevance has the sign of its score, which can change within a class. The
    same number is computed for the pictures themselves.
    """
    found: dict[str, dict[str, float]] = {"share that stays": {}}
    for i, level in enumerate(NOISES):
        noise = level * jax.random.normal(jax.random.fold_in(for_noise, i), images.shape, images.dtype)
        noisy = jnp.clip(images + noise, 0, 1)
        stays = saliency.classes(params, noisy) == saliency.classes(params, images)
        many = max(int(stays.sum()), 1)
        again = saliency.maps(params, noisy, jax.random.fold_in(for_maps, 1 + i)) | {"input": noisy}
        found["share that stays"][str(level)] = float(stays.mean())
        for name, one in (dict(maps) | {"input": images}).items():
            cosine = jnp.sum(jnp.where(stays, jnp.abs(saliency.cosines(one, again[name])), 0)) / many
            found.setdefault(name, {})[str(level)] = float(cosine)
    return found


def _steps(
    params: Params, images: Array, maps: Mapping[str, Array], key: Array
) -> dict[str, dict[str, dict[str, float]]]:
    """Run test d: states of neurons after steps of equal length along Insens and other directions."""
    random = jax.random.normal(key, images.shape, images.dtype)
    directions = {"+Insens": maps["Insens"], "-Insens": -maps["Insens"], "random": random, "+input": images,
                  "-input": -images, "+gradient": maps["gradient"], "-gradient": -maps["gradient"]}  # fmt: skip
    return {
        name: {str(length): saliency.flips(params, images, one, length) for length in STEPS}
        for name, one in directions.items()
    }


def _randomised(
    params: Params, images: Array, maps: Mapping[str, Array], plan: ClassifierPlan, key: Array, for_maps: Array
) -> dict[str, dict[str, float]]:
    """Run test e: rank correlation with the maps of networks whose last layer, or all layers, are drawn again.

    It is also computed over the pixels with ink alone: methods that give zero to black pixels always agree there.
    """
    other = initial_parameters(key, plan, images.shape[1:], params[-1]["b"].shape[0])
    found: dict[str, dict[str, float]] = {}
    for which, drawn in (("last layer", [*params[:-1], other[-1]]), ("all layers", other)):
        for name, one in saliency.maps(drawn, images, for_maps).items():
            for where, here in (("", jnp.ones(images.shape, bool)), (", ink", images > INK)):
                found.setdefault(name, {})[which + where] = saliency.rank_correlation(one, maps[name], here)
    return found
