"""The layers that an explanation looks at: from a JAX function, from a mapping of arrays, or from a file."""

import dataclasses
import fnmatch
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxdescramble._base.checks import file_path, real_array, wide_types
from jaxdescramble._base.inputs.arrays import stored
from jaxdescramble.findings.explanations.axes import Axis, free_axis, ordered_axis
from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.taps import Tap, wiretap
from jaxdescramble.objectives import Objective

PARTS = ("weight", "input", "preactivation")
PICKLES = (".pth", ".pt", ".bin", ".pkl", ".ckpt")
HIDDEN = "hidden layer"
LARGEST_FREE = 4096
"""Largest input axis that is descrambled; longer axes need a decomposition of minutes."""


@dataclasses.dataclass(frozen=True)
class LayerSignals:
    """The weight and the signals of one layer, for networks that are no JAX functions.

    Attributes:
        weight: W, shape (out, in).
        input: the signals that the layer reads, shape (in, samples).
        preactivation: the signals before the activation function, shape (out, samples); only used to check that weight
            and input belong together.
        shape: sizes of the grid if the inputs are pictures, such as (28, 28); None means a line.
        channels: number of channels, if the input axis is `channels` lines or grids one after the other.
        ordered_input, ordered_output: whether the order of the axis has a meaning. None means: the inputs of the first
            layer and the outputs of the last layer.
    """

    weight: ArrayLike
    input: ArrayLike
    preactivation: ArrayLike | None = None
    shape: tuple[int, ...] | None = None
    channels: int = 1
    ordered_input: bool | None = None
    ordered_output: bool | None = None


class Source(NamedTuple):
    """One layer, ready to be looked at.

    `columns` holds for each column of `input` the number of its sample. `tap` and `place` say where a function's layer
    was found: the name of the tap and the index along its leading axes. `link` says in words whether it reads the
    network's inputs or gives its outputs. `centred` says that its signals are read without their mean.
    """

    name: str
    weight: Float[np.ndarray, "n m"]
    input: Float[np.ndarray, "m columns"]
    columns: Int[np.ndarray, " columns"]
    output: Axis
    into: Axis
    tap: str = ""
    place: tuple[int, ...] = ()
    link: str = ""
    centred: bool = False


ENDS = ("inputs", "outputs")
"""The two axes of a network whose order may have a meaning."""

Pattern = str | Sequence[str] | Callable[[str], bool] | None


def chosen(name: str, pattern: Pattern) -> bool:
    """Return whether a layer's name matches: a part of the name, or a pattern with `*` and `?`, or one of several.

    >>> chosen("['encoder'][0]", "encoder"), chosen("['encoder'][0]", "*[[]0]"), chosen("a", ["b", "c"])
    (True, True, False)
    """
    if pattern is None:
        return True
    if isinstance(pattern, str):
        return fnmatch.fnmatchcase(name, pattern) if set(pattern) & set("*?") else pattern in name
    if isinstance(pattern, Sequence):
        return any(chosen(name, one) for one in pattern)
    return bool(pattern(name))


def _axes(
    size: tuple[int, int],
    objective: Objective,
    ordered_output: bool,
    ordered_input: bool,
    shape: tuple[int, ...] | None,
    channels: int,
) -> tuple[Axis, Axis]:
    n, m = size
    output = ordered_axis(n) if ordered_output else _free(objective, n)
    into = ordered_axis(m, shape, channels) if ordered_input else _free(objective, m)
    return output, into


def _free(objective: Objective, n: int) -> Axis:
    operator = objective.operator(n)
    if operator is None:
        raise ValueError(
            f"objective: {objective!r} has no closed form. `explain` descrambles thousands of draws, so it takes "
            "objectives of the form ||D P S||^2: objectives.smoothness(...), of any order and boundary."
        )
    return free_axis(operator)


def from_network(
    f: Callable[..., PyTree],
    params: PyTree,
    x: PyTree,
    axes: tuple[int, ...],
    objective: Objective,
    pattern: Pattern,
    ordered: Collection[str] = ENDS,
) -> tuple[list[Source], dict[str, str]]:
    """Return the layers of a network, and the layers that cannot be judged, with the reasons.

    Args:
        f, params, x: the arguments of `wiretap`.
        axes: shape of the samples, the first one or two axes of x.
        objective: the objective of the free axes.
        pattern: which layers.
        ordered: which ends of the network have an order with a meaning.
    """
    # The number of its sample travels as the sample's weight, to every column of every layer.
    numbers = 1.0 + np.arange(int(np.prod(axes))).reshape(axes)
    if numbers.size >= 2**24 and not wide_types():
        raise ValueError(f"x: {numbers.size} samples; without 64-bit types at most {2**24 - 1} can be told apart.")
    refused: dict[str, str] = {}

    @jax.jit
    def read(params: PyTree, x: PyTree, numbers: Array) -> Layers[Tap]:
        # Compiled, so that only the chosen layers are computed.
        _, taps = wiretap(f)(params, x, numbers, _refused=refused)
        kept = [name for name in taps if chosen(name, pattern) and name not in refused]
        return Layers((name, dataclasses.replace(taps[name], preactivation=None, activation=None)) for name in kept)

    taps = read(params, x, numbers)
    found: list[Source] = []
    grid = picture_shape(x)
    for name, tap in taps.items():
        found += list(_of_tap(name, tap, objective, grid, refused, ordered))
    return found, {name: why for name, why in refused.items() if chosen(name, pattern)}


def picture_shape(x: PyTree) -> tuple[int, ...] | None:
    """Return the sizes of a picture (height, width) or (height, width, channels) if x is one array of pictures."""
    leaves = jax.tree.leaves(x)
    if len(leaves) != 1 or np.ndim(leaves[0]) not in (3, 4) or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        return None
    return tuple(np.shape(leaves[0])[1:])


def _of_tap(
    name: str,
    tap: Tap,
    objective: Objective,
    grid: tuple[int, ...] | None,
    refused: dict[str, str],
    ordered: Collection[str],
) -> list[Source]:
    weight, signals = np.asarray(tap.weight), np.asarray(tap.input)
    if np.iscomplexobj(weight) or np.iscomplexobj(signals):
        refused[name] = _complex(weight.dtype, signals.dtype)
        return []
    lead = weight.shape[:-2]
    numbers = np.rint(np.asarray(tap.weights)).astype(np.int64) - 1
    columns = np.broadcast_to(numbers, (*signals.shape[:-2], signals.shape[-1]))
    # Layers that read the same signals (heads) share one array, and so all that is computed from it.
    read: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    window = tap.layout.window
    m = weight.shape[-1]
    shape, channels = None, 1
    ordered_input = tap.layout.from_input and "inputs" in ordered
    ordered_output = tap.layout.to_output and "outputs" in ordered
    if window:
        points = int(np.prod(window))
        shape, channels, ordered_input = window, m // points, points > 1
    elif ordered_input and grid is not None and int(np.prod(grid)) == m:
        shape = tuple(size for size in grid if size > 1) or None
    ends = ("reads the network's inputs", tap.layout.from_input), ("gives the network's outputs", tap.layout.to_output)
    link = " and ".join(what for what, there in ends if there) or HIDDEN
    found = []
    for place in np.ndindex(lead):
        own = name + "".join(f"[{k}]" for k in place)
        if not ordered_input and m > LARGEST_FREE:
            refused[own] = f"its input axis has {m} entries; at most {LARGEST_FREE} can be descrambled"
            continue
        output, into = _axes(weight.shape[-2:], objective, ordered_output, ordered_input, shape, channels)
        at = tuple(k if size > 1 else 0 for k, size in zip(place, signals.shape[:-2], strict=True))
        if at not in read:
            read[at] = _plain(signals[at]), columns[at]
        found.append(Source(own, _plain(weight[place]), *read[at], output, into, name, place, link))
    return found


def _complex(weight: np.dtype, signals: np.dtype) -> str:
    return (
        f"its weight and signals are {weight} and {signals}, and the readings judge real ones; for complex ones, use "
        "descramble_network(..., group='U') and findings.compare"
    )


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def from_mapping(
    layers: Mapping[str, LayerSignals | Mapping[str, ArrayLike] | Sequence[ArrayLike]],
    objective: Objective,
    pattern: Pattern,
    ordered: Collection[str] = ENDS,
) -> list[Source]:
    """Return the layers of a mapping from names to weights and signals.

    Raises:
        TypeError, ValueError: if a layer is not one of the three forms, if shapes do not fit together, or if the
            preactivations are not `weight @ input` plus a constant for each neuron.
    """
    if not layers:
        raise ValueError("explain: got an empty mapping; give at least one layer {name: (weight, input)}.")
    names = list(layers)
    found = []
    for place, name in enumerate(names):
        if not chosen(name, pattern):
            continue
        one = form_of(name, layers[name])
        if np.iscomplexobj(one.weight) or np.iscomplexobj(one.input):
            raise TypeError(f"{name}: {_complex(np.asarray(one.weight).dtype, np.asarray(one.input).dtype)}.")
        weight = np.asarray(real_array(one.weight, f"{name}.weight", (2,), "(out, in)"))
        signals = np.asarray(real_array(one.input, f"{name}.input", (2,), "(in, samples)"))
        if signals.shape[0] != weight.shape[1]:
            hint = " They look transposed: give `input.T`." if signals.shape[1] == weight.shape[1] else ""
            raise ValueError(
                f"{name}: weight (out, in) = {weight.shape} and input (in, samples) = {signals.shape} do not fit: the "
                f"input needs {weight.shape[1]} rows.{hint}"
            )
        _belongs(name, one, weight, signals)
        first, last = place == 0, place == len(names) - 1
        output, into = _axes(
            weight.shape,
            objective,
            last and "outputs" in ordered if one.ordered_output is None else one.ordered_output,
            first and "inputs" in ordered if one.ordered_input is None else one.ordered_input,
            one.shape,
            one.channels,
        )
        link = " and ".join(what for what, there in (("first layer", first), ("last layer", last)) if there)
        link = link or HIDDEN
        found.append(Source(name, weight, signals, np.arange(signals.shape[1]), output, into, link=link))
    return found


def form_of(name: str, given: LayerSignals | Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> LayerSignals:
    """Return a layer of a mapping as `LayerSignals`, whichever of the three forms it has."""
    if isinstance(given, LayerSignals):
        return given
    if isinstance(given, Mapping):
        missing = [part for part in PARTS[:2] if part not in given]
        if missing:
            raise ValueError(
                f"{name}: has no {' and no '.join(missing)}. A layer needs its weight (out, in) and its input signals "
                "(in, samples): without signals, no frame can be found."
            )
        return LayerSignals(given["weight"], given["input"], given.get("preactivation"))
    if not isinstance(given, tuple | list):
        raise TypeError(f"{name}: got {type(given).__name__}; give (weight, input) or (weight, input, preactivation).")
    if len(given) not in (2, 3):
        raise ValueError(f"{name}: got {len(given)} arrays; give (weight, input) or (weight, input, preactivation).")
    return LayerSignals(given[0], given[1], given[2] if len(given) == 3 else None)


def _belongs(name: str, one: LayerSignals, weight: np.ndarray, signals: np.ndarray) -> None:
    if one.preactivation is None:
        return
    wanted = np.asarray(real_array(one.preactivation, f"{name}.preactivation", (2,), "(out, samples)"))
    if wanted.shape != (weight.shape[0], signals.shape[1]):
        raise ValueError(
            f"{name}: preactivation has shape {wanted.shape}; weight and input give "
            f"{(weight.shape[0], signals.shape[1])}."
        )
    missed = wanted - weight @ signals
    missed = missed - missed.mean(axis=1, keepdims=True)
    size = np.linalg.norm(wanted - wanted.mean(axis=1, keepdims=True))
    if np.isfinite(size) and np.linalg.norm(missed) > 0.02 * max(size, 1e-12):
        raise ValueError(
            f"{name}: preactivation is not weight @ input plus a constant for each neuron (relative difference "
            f"{np.linalg.norm(missed) / max(size, 1e-12):.2g}). Check that the hook read the layer's own input, and "
            "the orientation of a square weight."
        )


def from_file(path: str | os.PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """Read a `.npz` or `.safetensors` file with arrays `<layer>.weight`, `<layer>.input` and `<layer>.preactivation`.

    Layers keep the order of the file's names, sorted as people count: `layer2` before `layer10`.

    Raises:
        FileNotFoundError, OSError, ValueError: if the file cannot be read, is a pickle of PyTorch, or holds weights
            without signals.
    """
    file = file_path(path, "f_or_layers")
    if file.suffix.lower() in PICKLES:
        raise ValueError(
            f"{file}: files with the suffix {file.suffix} are pickles, which can run any code when they are opened. In "
            "your own environment, load it with torch and write weights and signals with "
            "safetensors.numpy.save_file({'fc1.weight': ..., 'fc1.input': ...}, 'layers.safetensors')."
        )
    layers: dict[str, dict[str, np.ndarray]] = {}
    for one in stored(Path(file)):
        layer, _, part = one.name.replace("/", ".").rpartition(".")
        if part in PARTS and len(one.shape) == 2:
            layers.setdefault(layer, {})[part] = one.read()
    whole = {name: parts for name, parts in layers.items() if {"weight", "input"} <= set(parts)}
    if not whole:
        weights = sum("weight" in parts for parts in layers.values())
        raise ValueError(
            f"{file}: holds {weights} weight(s) and no input signals. `explain` needs for each layer two matrices, "
            "`<layer>.weight` (out, in) and `<layer>.input` (in, samples). Record the inputs with hooks; the page "
            "'Explain' of the documentation shows ten lines of PyTorch."
        )
    return whole
