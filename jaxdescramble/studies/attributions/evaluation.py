"""What becomes of Insens, and of other attributions, when they are put to the paper's tests with controls.

Six configurations, three networks on two sets of pictures, several seeds of each: one cell is one trained network. A
cell that is finished stays in its folder, and a run goes on from those that are there.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    # As silent as the paper's network, and with biases that are not small.
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
# Everything that a kept cell depends on, but for the code: whoever changes a test counts up.
TESTS = {"levels": LEVELS, "shares": SHARES, "noises": NOISES, "steps": STEPS, "ink": INK, "margin": MARGIN,
         "copies": (saliency.STEPS, saliency.COPIES), "version": 2}  # fmt: skip
PATTERNS = 4


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything an evaluation depends on.

    Attributes:
        seeds: of each configuration, counted from 0.
        pictures: unseen ones that the tests are made on.
        quick: small networks, barely trained: exercises everything and proves nothing.
    """

    seeds: int = 3
    pictures: int = 64
    quick: bool = False

    def __post_init__(self):
        positive_integer(self.seeds, "seeds")
        positive_integer(self.pictures, "pictures")

    @property
    def plans(self) -> dict[str, ClassifierPlan]:
        """The networks by name."""
        return QUICK if self.quick else NETWORKS


def evaluate(settings: EvaluationSettings, folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Train every network, put every method to every test, and gather the numbers.

    Args:
        settings: what to run.
        folder: where each finished cell is kept; those of the same settings are not run again.
        progress: called as `progress(stage, done, total)`.

    Returns:
        "settings" and "cells", a list of dicts of numbers, each with the name of its "arrays" in the folder.

    Raises:
        ImportError: scikit-learn, whose digits are used, is not installed.
        OSError: a cell could not be written; those before it are whole.
    """
    names = [(of, net, seed) for of in SETS for net in settings.plans for seed in range(settings.seeds)]
    cells = []
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
    """Pictures to learn from and unseen ones, always the same."""
    key = jax.random.key(20191125)
    if of == "digits":
        # In a margin, as those of MNIST have it: there has to be a background beyond the outline.
        scanned = pictures.digits(28 - 2 * MARGIN, jnp.float32)
        wide = jnp.pad(scanned.images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
        learned, unseen = pictures.split(Pictures(wide, scanned.labels), 0.8, 0.2, key=key)
        return learned, unseen
    one, two = jax.random.split(key)
    return pictures.shapes(one, 4000, dtype=jnp.float32), pictures.shapes(two, 500, dtype=jnp.float32)


def cell(key: Array, of: str, plan: ClassifierPlan, count: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One trained network, every method, every test: numbers, and maps of a few pictures to look at."""
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
    """The last hidden layer taken apart: the neurons that add most to the score, and the silent ones held hardest."""
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
    """Test a: accuracy with the figure, its outline, or as many pixels elsewhere left clean."""
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
    """Test b: accuracy with the strongest pixels of a map left clean, by level of the noise elsewhere and by share."""
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
    """Test c: |cosine| between the maps of a picture with noise and without, where the class stays; and of pictures.

    Its modulus, since a relevance is of the sign of the score that it explains, which may change where the class stays.
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


def _steps(params: Params, images: Array, maps: Mapping[str, Array], key: Array) -> dict[str, dict[str, Any]]:
    """Test d: states of neurons after steps of equal length along Insens and elsewhere."""
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
    """Test e: rank correlation of maps with those of networks whose parameters are drawn anew: the last layer's, all.

    Over the pixels with ink as well: methods that give nothing to a black pixel agree on the background by themselves.
    """
    other = initial_parameters(key, plan, images.shape[1:], params[-1]["b"].shape[0])
    found: dict[str, dict[str, float]] = {}
    for which, drawn in (("last layer", [*params[:-1], other[-1]]), ("all layers", other)):
        for name, one in saliency.maps(drawn, images, for_maps).items():
            for where, here in (("", jnp.ones(images.shape, bool)), (", ink", images > INK)):
                found.setdefault(name, {})[which + where] = saliency.rank_correlation(one, maps[name], here)
    return found
