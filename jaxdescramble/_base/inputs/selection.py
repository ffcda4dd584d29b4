"""Choose the arrays of a file that are layers, and their orientation."""

import dataclasses
import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdescramble._base.checks import wide_types
from jaxdescramble._base.inputs.arrays import Stored, layers, stored

SIGNALS = ("signals", "activations", "preactivations")
LARGEST = 8192


@dataclasses.dataclass(frozen=True)
class Layer:
    """The signals of a layer, or its weight in their place, as a `Source` of a problem.

    Attributes:
        stored: the array in its file.
        transposed: whether the file has the transpose: samples first (or, for a weight, inputs first).
        weight: the weight that belongs to these signals, in its file.
        weight_turned: whether the file has the transpose of that weight.
    """

    stored: Stored
    transposed: bool = False
    weight: Stored | None = None
    weight_turned: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[::-1] if self.transposed else self.stored.shape

    @property
    def dtype(self) -> np.dtype:
        """float64 if the file has it and JAX's 64-bit types are on; otherwise float32."""
        wide = self.stored.dtype == "float64" and wide_types()
        return np.dtype("float64" if wide else "float32")

    def read(self) -> np.ndarray:
        return self._read(self.stored, self.transposed)

    def read_weight(self) -> np.ndarray:
        """Return the weight (out, in) that belongs to these signals; without one, return the signals."""
        return self.read() if self.weight is None else self._read(self.weight, self.weight_turned)

    def _read(self, one: Stored, transposed: bool) -> np.ndarray:
        array = one.read()
        return np.ascontiguousarray(array.T if transposed else array, self.dtype)


class Selection(NamedTuple):
    """The layers by name, and the arrays that were left out, with the reason."""

    layers: dict[str, Layer]
    left_out: dict[str, str]


def selected(
    paths: Sequence[str | os.PathLike], names: Sequence[str] = (), samples_first: bool | None = None
) -> Selection:
    """Return the layers of files: the arrays that are called signals, or every weight if there are no such arrays.

    An array whose last name is "signals", "activations" or "preactivations" is a layer (features, samples); its weight
    is `NAME/weight` or `NAME.kernel` beside `NAME/signals`. If no array has such a name, every array of two axes is a
    layer: a weight (out, in) takes the place of the signals that white inputs make. "kernel", Flax's name, is
    (in, out) and is transposed. An array of three axes is a stack of layers.

    Args:
        paths: files or folders that `stored` accepts.
        names: patterns such as "encoder*"; only arrays that match one of them are used, whatever their last name.
        samples_first: whether features are the last axis; None means that the names decide.

    Raises:
        FileNotFoundError, OSError: if a file is missing or cannot be read.
        ValueError: if a file is damaged, or no array can be used.

    >>> np.savez("two.npz", **{"a.signals": np.ones((4, 50)), "a.weight": np.ones((4, 3)), "steps": np.ones(7)})
    >>> found = selected(["two.npz"])
    >>> {name: layer.shape for name, layer in found.layers.items()}, list(found.left_out)
    ({'a': (4, 50)}, ['steps'])
    """
    found: dict[str, Stored] = {}
    for path in paths:
        for one in stored(path):
            name = one.name if len(paths) == 1 else f"{Path(path).stem}/{one.name}"
            if name in found:
                raise ValueError(f"{path}: another file has an array called {name!r} too; rename one of them.")
            found[name] = one
    left_out = {name: why for name, one in found.items() if (why := _unfit(one))}
    fit = {name: one for name, one in found.items() if name not in left_out}
    if names:
        chosen = [name for name in fit if any(fnmatch.fnmatchcase(name, pattern) for pattern in names)]
    else:
        chosen = [name for name in fit if _last(name) in SIGNALS] or list(fit)
    weights = {_stem(name): name for name in fit if _last(name) in ("weight", "kernel")}
    taken: dict[str, Layer] = {}
    for name in fit:
        if name not in chosen:
            if name not in weights.values():
                left_out[name] = "matches no pattern" if names else "other arrays are called signals, this one is not"
            continue
        is_signals = _last(name) in SIGNALS
        partner = weights.get(_stem(name)) if is_signals else None
        transposed = _last(name) == "kernel" if samples_first is None else samples_first
        short = _stem(name) if is_signals else name
        for number, one in enumerate(layers(fit[name])):
            beside = None if partner is None else layers(fit[partner])[number]
            layer = Layer(one, transposed, beside, partner is not None and _last(partner) == "kernel")
            label = f"{short}[{number}]" if one.layer is not None else short
            if layer.shape[0] > LARGEST:
                left_out[label] = f"{layer.shape[0]} features; must be at most {LARGEST}, because P is (n, n)"
                continue
            taken[label] = layer
    if not taken:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(left_out.items())[:5])
        raise ValueError(
            f"{', '.join(map(str, paths))}: no array to descramble ({reasons}). Expected floating-point arrays "
            "(features, samples) or weights (out, in)."
        )
    return Selection(taken, left_out)


def _unfit(one: Stored) -> str:
    if one.dtype not in ("float32", "float64"):
        return f"{one.stored_dtype}, not a floating type"
    if len(one.shape) not in (2, 3):
        return f"shape {one.shape}, neither a matrix nor a stack of matrices"
    if min(one.shape[-2:]) < 2 or 0 in one.shape:
        return f"shape {one.shape}, only one row or column"
    return ""


def _last(name: str) -> str:
    return name.replace("/", ".").rsplit(".", 1)[-1].lower()


def _stem(name: str) -> str:
    cut = max(name.rfind("/"), name.rfind("."))
    return name[:cut] if cut > 0 else name
