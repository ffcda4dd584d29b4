"""Trained networks, kept in a folder: each is trained once."""

import dataclasses
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescramble._base.parts import part, place
from jaxdescramble.studies.rotations.text import Text
from jaxdescramble.studies.rotations.transformer import Params, Trained, TransformerPlan, initial, train

VERSION = 1
"""Increase this number if you change what a trained network depends on."""


def trained(
    folder: Path, seed: int, text: Text, plan: TransformerPlan, progress: Callable[[int, int], None] | None = None
) -> Trained:
    """Return the network of a seed; train it if the folder does not have it."""
    settings = {"plan": dataclasses.asdict(plan), "seed": seed, "text": fingerprint(text), "version": VERSION}
    name = f"network-{seed}"

    def make() -> tuple[dict[str, object], dict[str, np.ndarray]]:
        made = train(jax.random.fold_in(jax.random.key(0), seed), text, plan, progress)
        leaves = {f"leaf-{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(made.params))}
        return {"validation": made.validation}, leaves | {"losses": made.losses}

    numbers = part(folder, name, settings, make)
    tree = jax.tree.structure(jax.eval_shape(lambda: initial(jax.random.key(0), plan)))
    with np.load(place(folder, name, settings).with_suffix(".npz")) as file:
        params: Params = jax.tree.unflatten(tree, [jnp.asarray(file[f"leaf-{k}"]) for k in range(tree.num_leaves)])
        return Trained(params, file["losses"], numbers["validation"])


def fingerprint(text: Text) -> int:
    """Return a number that tells texts apart."""
    return zlib.crc32(b"".join(part.tobytes() for part in text))
