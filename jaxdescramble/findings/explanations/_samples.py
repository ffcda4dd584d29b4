"""Read the arguments `x`, `weights` and `groups`: samples, how much they count, and which ones stay together."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.checks import sample_weights
from jaxdescramble.findings.explanations.preparing import COLUMNS
from jaxdescramble.findings.explanations.sources import LayerSignals, Pattern, Source, chosen, form_of
from jaxdescramble.findings.explanations.splitting import halves, with_duplicates
from jaxdescramble.findings.explanations.waves import Names

MOST = 2 * COLUMNS
"""Largest number of samples that are read: as many as fill both halves of a layer with one column for each sample."""


class Labels(NamedTuple):
    """What is known about each sample; each part is None, or has the samples along its first axis.

    Attributes:
        weights: how much it counts.
        groups: its group.
        names: its name.
    """

    weights: ArrayLike | None
    groups: ArrayLike | Sequence[str] | None
    names: np.ndarray | None

    def of(self, picked: np.ndarray, count: int) -> "Labels":
        """Return the labels of the picked ones of `count` samples; parts of another length stay as they are."""
        return Labels(*(_rows(one, picked, count) for one in self))


@dataclasses.dataclass(frozen=True)
class Given:
    """The samples to read, and what belongs to them.

    Attributes:
        data: `x` of a function, or the layers of a mapping.
        labels: what is known about each sample.
        picked: numbers of the samples that are read, ascending; None if all are.
        count: number of samples that were given.
    """

    data: PyTree
    labels: Labels
    picked: np.ndarray | None
    count: int

    @property
    def description(self) -> dict[str, dict[str, float]]:
        """What the report says about it."""
        if self.picked is None:
            return {}
        return {"samples, chosen at random": {"given": float(self.count), "read": float(len(self.picked))}}


def some_samples(x: PyTree, labels: Labels, seed: Sequence[int]) -> Given:
    """Return at most `MOST` samples of x, chosen at random before the network reads them.

    Only the chosen rows are read, so x may be a memory map of a file that is larger than memory.

    >>> chosen = some_samples(np.zeros((MOST + 9, 2)), Labels(None, None, None), [0])
    >>> chosen.data.shape == (MOST, 2), len(chosen.picked) == MOST, chosen.count == MOST + 9
    (True, True, True)
    """
    leaves = jax.tree.leaves(x)
    count = len(max(leaves, key=np.ndim)) if leaves and all(np.ndim(leaf) for leaf in leaves) else 0
    tokens = [np.shape(one)[1] for one in labels if one is not None and np.ndim(one) == 2]
    picked = _picked(count, max(1, MOST // max([1, *tokens])), labels.weights, seed)
    if picked is None:
        return Given(x, labels, None, count)

    def few(leaf: ArrayLike) -> ArrayLike:
        own = leaf if isinstance(leaf, np.ndarray | jax.Array) else np.asarray(leaf)
        return own[picked] if own.shape[0] == count else leaf

    return Given(jax.tree.map(few, x), labels.of(picked, count), picked, count)


def some_columns(
    layers: Mapping[str, LayerSignals | Mapping[str, ArrayLike] | Sequence[ArrayLike]],
    pattern: Pattern,
    labels: Labels,
    seed: Sequence[int],
) -> Given:
    """Return layers with at most `MOST` columns, the same ones in all layers, if all have one number of columns."""
    forms = {name: form_of(name, one) for name, one in layers.items() if chosen(name, pattern)}
    counts = {np.shape(one.input)[-1] for one in forms.values() if np.ndim(one.input) == 2}
    count = counts.pop() if len(counts) == 1 else 0
    picked = _picked(count, MOST, labels.weights, seed)
    if picked is None:
        return Given(layers, labels, None, count)

    def few(signals: ArrayLike | None) -> ArrayLike | None:
        return signals if signals is None or np.ndim(signals) != 2 else np.asarray(signals)[:, picked]

    kept = {
        name: dataclasses.replace(one, input=few(one.input), preactivation=few(one.preactivation))
        for name, one in forms.items()
    }
    return Given({**layers, **kept}, labels.of(picked, count), picked, count)


def _picked(count: int, most: int, weights: ArrayLike | None, seed: Sequence[int]) -> np.ndarray | None:
    if count <= most:
        return None
    able = np.arange(count)
    if weights is not None and np.shape(weights)[:1] == (count,):
        able = np.flatnonzero(np.asarray(weights).reshape(count, -1).any(axis=1))
    if len(able) > most:
        able = np.sort(np.random.default_rng([*seed, 3]).choice(able, most, replace=False))
    return able


def _rows(values: ArrayLike | Sequence[str] | None, picked: np.ndarray, count: int) -> np.ndarray | None:
    if values is None:
        return None
    own = np.asarray(values)
    return own[picked] if own.shape[:1] == (count,) else own


def samples_of(
    x: PyTree, weights: ArrayLike | None, groups: ArrayLike | Sequence[str] | None, names: np.ndarray | None = None
) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """Return the shape of the samples, their weights and their groups, flat.

    Weights, groups and names with two axes say that x has two axes of samples.
    """
    leaves = jax.tree.leaves(x)
    shapes = [np.shape(leaf) for leaf in leaves]
    if not leaves or not all(shapes):
        raise ValueError("x: must be arrays whose first axis counts the samples.")
    longest = max(shapes, key=len)
    allowed = [longest[: i + 1] for i in range(len(longest))]
    own = None if weights is None else np.asarray(sample_weights(weights, allowed, jnp.zeros(0).dtype), np.float64)
    count = max(1, np.ndim(own) if own is not None else 0, 0 if groups is None else np.ndim(np.asarray(groups)))
    count = max(count, np.ndim(names) if names is not None and np.shape(names) in allowed else 0)
    axes = longest[:count]
    flat_weights = np.ones(int(np.prod(axes)))
    if own is not None:
        flat_weights = np.broadcast_to(own.reshape(own.shape + (1,) * (count - own.ndim)), axes).reshape(-1)
    rows = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves if np.shape(leaf)[0] == axes[0]]
    parts = [part for one in rows for part in ((np.real(one), np.imag(one)) if np.iscomplexobj(one) else (one,))]
    joined = np.concatenate([one.astype(np.float64, copy=False) for one in parts], axis=1)
    if count == 1:
        return axes, flat_weights, with_duplicates(joined, None if groups is None else _as_groups(groups, axes))
    # Without groups, the tokens of one sequence stay together.
    own_groups = np.repeat(np.arange(axes[0]), axes[1]) if groups is None else _as_groups(groups, axes)
    first = own_groups.reshape(axes)
    if (first == first[:, :1]).all():  # equal sequences stay together
        whole = with_duplicates(joined, first[:, 0])
        own_groups = np.where(own_groups >= 0, np.repeat(whole, axes[1]), -1)
    return axes, flat_weights, own_groups


def _as_groups(groups: ArrayLike | Sequence[str], axes: tuple[int, ...]) -> np.ndarray:
    found = np.asarray(groups)
    if found.shape != axes[: found.ndim] or found.ndim == 0:
        raise ValueError(f"groups: got shape {found.shape}; must be {axes}, one group for each sample, or {axes[:1]}.")
    if found.dtype.kind not in "iuUSb":
        raise TypeError(f"groups: got {found.dtype}; must be integers or texts, one for each sample.")
    left_out = found < 0 if found.dtype.kind == "i" else np.zeros(found.shape, bool)
    _, dense = np.unique(found, return_inverse=True)
    dense = np.where(left_out, -1, dense.reshape(found.shape))
    return np.broadcast_to(dense.reshape(dense.shape + (1,) * (len(axes) - dense.ndim)), axes).reshape(-1)


Texts = ArrayLike | Sequence[str] | Sequence[Sequence[str]]


def texts_of(names: Texts) -> np.ndarray:
    """Return `names` as an array of texts.

    Raises:
        TypeError, ValueError: if they are something else, or rows of different lengths.
    """
    try:
        found = np.asarray(names)
    except ValueError as error:
        raise ValueError("names: rows of different lengths; fill the names of short sentences up with ''.") from error
    if found.dtype.kind == "O" and all(isinstance(one, str) for one in found.ravel().tolist()):
        found = found.astype(str)
    if found.dtype.kind != "U":
        raise TypeError(
            f"names: got {found.dtype}; must be texts, one for each sample, such as [str(one) for one in y]."
        )
    return found


def names_of(texts: np.ndarray | None, axes: tuple[int, ...]) -> Names | None:
    """Return the names of samples of this shape; None if there are no texts.

    Raises:
        ValueError: if the shape is another one.

    >>> names = names_of(np.asarray(["b", "a", "b"]), (3,))
    >>> names.labels, names.codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    if texts is None:
        return None
    if texts.ndim == 0 or texts.shape != axes[: texts.ndim]:
        raise ValueError(
            f"names: got shape {texts.shape}; must be {axes}, one name for each sample"
            + (f", or {axes[:1]}." if len(axes) > 1 else ".")
        )
    labels, codes = np.unique(texts, return_inverse=True)
    codes = codes.reshape(texts.shape + (1,) * (len(axes) - texts.ndim))
    return Names(labels.tolist(), np.broadcast_to(codes, axes).reshape(-1))


def columns_of_arrays(
    sources: list[Source], weights: ArrayLike | None, groups: ArrayLike | Sequence[str] | None, seed: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the half, the weight and the group of each column, for layers that were given as arrays."""
    counts = {one.name: one.input.shape[1] for one in sources}
    sizes = sorted(set(counts.values()))
    if len(sizes) > 1:
        raise ValueError(
            f"explain: the layers have different numbers of samples: {counts}. Explain layers of one number of samples "
            "together, and choose them with `layers=`."
        )
    axes = (sizes[0],)
    own = np.ones(sizes[0])
    if weights is not None:
        own = np.asarray(sample_weights(weights, [axes], jnp.zeros(0).dtype), np.float64)
    first = sources[0].input.T
    grouped = with_duplicates(first, None if groups is None else _as_groups(groups, axes))
    return halves(grouped, own, seed), own, grouped
