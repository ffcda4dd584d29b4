"""How many generators of all matrices of a stream leave a network's function as it is, for all its parameters.

One draw of the parameters is not enough: a unit that is on for all samples, an input that is narrower than the stream,
or the values of a gain would allow matrices of their own.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from further_architectures import EVERY

import jaxdescramble as jd
from jaxdescramble.networks.strands import number_of
from jaxdescramble.networks.symmetry.deriving import strands_of
from jaxdescramble.networks.symmetry.groups import Element
from jaxdescramble.networks.symmetry.moving import Mover

CHUNK = 64
"""Changes of the parameters that one call of the program looks at."""
DRAWS, MORE = 6, {"gpt": 8, "bert": 8, "resnet, batch norm": 24}
"""Draws of the parameters at which a change must leave the function as it is.

There are more of them than numbers in the rows of the matrices that act on vectors alone: gains, variances.
"""


@functools.cache
def small(name):
    """Return f, draws of generic parameters, a batch and the symmetries."""
    f, params, x, _ = EVERY[name]
    if name in ("gpt", "bert", "llama, grouped queries"):
        params = params | {"blocks": params["blocks"][:1]}
    x = x[:8] if x.ndim == 4 and name != "vision" else x
    draws = [generic(params, seed) for seed in range(MORE.get(name, DRAWS))]
    return f, draws, x, jd.symmetries(f, params, x)


def generic(params, seed):
    """Draw leaves of one size, without zeros and ones: fresh parameters can be more symmetric than others.

    Biases, offsets and means are small: a unit that is off for all samples in many draws would look free.
    """
    rng = np.random.default_rng(seed)

    def leaf(path, leaf):
        name, drawn = jax.tree_util.keystr(path), rng.normal(size=leaf.shape) / leaf.shape[0] ** 0.5
        if "var" in name or "gain" in name:
            return jnp.asarray(np.abs(drawn) + 0.5)
        return jnp.asarray(drawn * (0.2 if leaf.ndim == 1 else 1))

    return jax.tree_util.tree_map_with_path(leaf, params)


class Forced:
    """Moves several draws of parameters by any matrices of strands, also by those that no group contains."""

    def __init__(self, found, draws):
        self.derivation = found.derivation
        book = self.derivation.book
        self.tree = jax.tree.structure(draws[0])
        # The draws are a last axis, which nothing moves.
        self.leaves = [np.stack(some, -1) for some in zip(*map(jax.tree.leaves, draws), strict=True)]
        labels = [[d[0].label if d else "" for d in book.axes[n]] for n in book.graph.arguments[0]]
        self.finest = [
            {number_of(one) for label in some if label for one in book.strands.finest(label)} for some in labels
        ]
        self.labels = [[*some, ""] for some in labels]

    def members(self, stream):
        """The strands of a stream."""
        return self.derivation.members[self.derivation.stream_of[next(iter(strands_of(stream.group)))]]

    def moved(self, elements):
        """Return the leaves of all draws after elements, by strand; None for a leaf that does not move."""
        derivation = self.derivation
        mover = Mover(derivation.book.strands, elements, derivation.stream_of, derivation.places)
        return [
            None if own.isdisjoint(elements) else mover.move(leaf, some)
            for leaf, some, own in zip(self.leaves, self.labels, self.finest, strict=True)
        ]

    def params(self, elements, draw=0):
        """Return the parameters of one draw after elements, by strand."""
        pairs = zip(self.leaves, self.moved(elements), strict=True)
        leaves = [jnp.asarray((leaf if moved is None else moved)[..., draw]) for leaf, moved in pairs]
        return jax.tree.unflatten(self.tree, leaves)

    def tangents(self, stream, step=1e-6):
        """Every matrix unit acts on every strand of a stream, at every place: how the parameters of each draw move."""
        group, rows = stream.group, []
        for strand in self.members(stream):
            for place in np.ndindex(*group.places):
                for i, j in np.ndindex(group.size, group.size):
                    ends = []
                    for change in (step, -step):
                        matrix = np.broadcast_to(np.eye(group.size), (*group.places, group.size, group.size)).copy()
                        matrix[place][i, j] += change
                        ends.append(self.moved({strand: Element(matrices={strand: matrix})}))
                    row = [
                        np.zeros((leaf[..., 0].size, leaf.shape[-1]))
                        if a is None
                        else (a - b).reshape(-1, leaf.shape[-1]) / (2 * step)
                        for leaf, a, b in zip(self.leaves, *ends, strict=True)
                    ]
                    rows.append(np.concatenate(row))
        return np.moveaxis(np.array(rows), -1, 0)


def derivative(f, x):
    """Return a function of parameters and rows of changes of them: the changes of f, as rows."""

    @jax.jit
    def change(params, rows):
        leaves, tree = jax.tree.flatten(params)
        offsets = np.cumsum([leaf.size for leaf in leaves])[:-1]

        def along(row):
            parts = [part.reshape(leaf.shape) for part, leaf in zip(jnp.split(row, offsets), leaves, strict=True)]
            return jax.jvp(lambda some: f(jax.tree.unflatten(tree, some), x), (leaves,), (parts,))[1].ravel()

        return jax.vmap(along)(rows)

    def changes(params, rows):
        padded = np.pad(rows, ((0, -len(rows) % CHUNK), (0, 0))).reshape(-1, CHUNK, rows.shape[1])
        return np.concatenate([np.asarray(change(params, jnp.asarray(some))) for some in padded])[: len(rows)]

    return changes


def generators(change, draws, rows):
    """The number of independent generators that move parameters, and leave the function as it is at every draw.

    Args:
        change: what `derivative` returned.
        draws: some parameters.
        rows: for each of them, how every generator moves them.
    """
    left, singular, _ = np.linalg.svd(np.concatenate(rows, axis=1), full_matrices=False)
    moving = left[:, singular > 1e-6 * singular[0]].T
    changes = np.concatenate([change(p, moving @ some) for p, some in zip(draws, rows, strict=True)], axis=1)
    usual = np.linalg.norm(change(draws[0], np.random.default_rng(1).normal(size=(3, rows[0].shape[1]))), axis=1).min()
    singular = np.linalg.svd(np.linalg.qr(changes.T, mode="r"), compute_uv=False)
    return len(moving) - int((singular > 1e-7 * usual).sum())
