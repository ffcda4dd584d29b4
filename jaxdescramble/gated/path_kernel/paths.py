"""All paths of a tiny network, listed one by one. Use it to test the closed forms."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from jaxdescramble._base import results
from jaxdescramble._base.checks import in_order, numbers, positive_integer
from jaxdescramble.gated.path_kernel.layers import (
    Convolution,
    Dense,
    Flatten,
    Gate,
    Layers,
    Pool,
    Skip,
    checked_layers,
    count,
)

# The name of one weight: "weight" or "bias", the number of the layer, and the index into its array.
Name = tuple[str, int, tuple[int, ...]]
# A unit as a polynomial in the weights: the coefficients of each product of weights, one number for each sample.
Polynomial = dict[tuple[Name, ...], np.ndarray]
# All units, each by its position and its number.
Units = dict[tuple[tuple[int, ...], int], Polynomial]


class Paths(NamedTuple):
    """Features and values of all paths of a network: `f = features @ values`.

    Attributes:
        features: phi, the product of the input and all gates on each path, for each sample.
        values: v, the product of all weights on each path.
        weights: names of these weights: ("weight" or "bias", number of the layer, index).
    """

    features: Float[np.ndarray, "n paths"]
    values: Float[np.ndarray, " paths"]
    weights: list[tuple[Name, ...]]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def enumerate_paths(
    layers: Layers,
    x: ArrayLike,
    gates: Sequence[ArrayLike],
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None = None,
    output: int = 0,
    limit: int = 100_000,
) -> Paths:
    """List the neural path features and values of one output: `f(x) = <phi(x), v>`, `NPK = <phi, phi'>`.

    Use it on tiny networks, to test a kernel. It loops in plain Python and shares no code with the closed forms.

    A path picks an input and one unit of each layer, or it starts at a bias. Paths with the same weights (shifted paths
    of a convolution) have the same value. They count as one path, whose feature is their sum.

    Args:
        layers: tuple of `Dense`, `Convolution`, `Gate`, `Pool`, `Flatten` and `Skip`.
        x: inputs of the values, shape (n, features) or (n, *space, channels).
        gates: one array of shape (n, *space, units) for each gated layer.
        weights: one array of shape (outputs, inputs) or (outputs, inputs, *window) for each weight. After `Flatten` the
            inputs are in the order of `reshape`.
        biases: one array of shape (outputs,) for each weight; None means no biases.
        output: index of the output.
        limit: largest number of paths that is allowed.

    Returns:
        A `Paths` of NumPy arrays in float64.

    Raises:
        ValueError: if the arrays do not match the layers; if there are more paths than the limit.

    >>> from jaxdescramble.gated.path_kernel.layers import Dense, Gate
    >>> x, gate = [[1.0, 2.0]], [[1.0, 0.5]]
    >>> paths = enumerate_paths((Dense(), Gate(), Dense()), x, [gate], [np.eye(2), np.ones((1, 2))])
    >>> paths.features.tolist(), paths.values.tolist()
    ([[1.0, 2.0, 0.5, 1.0]], [1.0, 0.0, 0.0, 1.0])

    Source: Lakshminarayanan, Singh 2020 (arXiv 2006.10529), neural path features and values.
    """
    layers = checked_layers(layers)
    output, limit = positive_integer(output, "output", least=0), positive_integer(limit, "limit")
    values, gates = _arrays(weights, "weights"), _arrays(gates, "gates")
    offsets = None if biases is None else _arrays(biases, "biases")
    wanted = count(layers, Dense, Convolution)
    if len(values) != wanted or (offsets is not None and len(offsets) != wanted):
        raise ValueError(f"weights, biases: got {len(values)} weights; must be {wanted} arrays, one for each layer.")
    if len(gates) != count(layers, Gate):
        raise ValueError(f"gates: got {len(gates)} arrays; must be {count(layers, Gate)}, one for each gated layer.")
    (inputs,) = _arrays([x], "x")
    if inputs.ndim < 2:
        raise ValueError(f"x: got shape {inputs.shape}; must be (n, features) or (n, *space, channels).")
    for name, arrays in (("gates", gates), ("weights", values), ("biases", offsets or [])):
        for i, array in enumerate(arrays):
            if array.ndim < (1 if name == "biases" else 2) or (name == "gates" and len(array) != len(inputs)):
                raise ValueError(
                    f"{name}[{i}]: got shape {array.shape}; must match its layer and the {len(inputs)} samples of x."
                )
    walk = _Walk(gates, values, offsets, len(inputs), limit)
    units: Units = {}
    for *position, channel in itertools.product(*map(range, inputs.shape[1:])):
        units[tuple(position), channel] = {(): inputs[(slice(None), *position, channel)]}
    try:
        units = walk.through(layers, units, inputs.shape[1:-1])[0]
        found = units[(), output]
        names, held = list(found), {"weight": values, "bias": offsets}
        products = [np.prod([held[kind][layer][index] for kind, layer, index in path]) for path in names]
    except _PathLimitError:
        raise
    except (KeyError, IndexError, ValueError) as error:
        shapes = {"x": inputs.shape, "gates": [g.shape for g in gates], "weights": [w.shape for w in values]}
        shapes |= {"biases": offsets and [b.shape for b in offsets], "output": output}
        raise ValueError(f"layers: the layers do not match the arrays {shapes}.") from error
    return Paths(np.stack([found[path] for path in names], axis=1), np.asarray(products), names)


def _arrays(values: Sequence[ArrayLike], name: str) -> list[np.ndarray]:
    """Convert to NumPy arrays in float64, even where JAX has only 32-bit types."""
    found = []
    for i, value in enumerate(in_order(values, name, "a list of arrays")):
        array = numbers(value, f"{name}[{i}]" if name != "x" else name)
        if jnp.iscomplexobj(array):
            raise TypeError(f"{name}: got {array.dtype}; must be real numbers.")
        found.append(np.asarray(value, float))
    return found


class _PathLimitError(ValueError):
    """Raised for too many paths. Its own type, so that it is not mistaken for shapes that do not match."""


class _Walk:
    def __init__(self, gates, weights, biases, samples, limit):
        self.gates, self.weights, self.biases = gates, weights, biases
        self.samples, self.limit = samples, limit
        self.gate = self.weight = 0

    def through(self, layers: Layers, units: Units, space: tuple[int, ...]) -> tuple[Units, tuple[int, ...]]:
        for layer in layers:
            match layer:
                case Dense():
                    units = self.weighted(units, space, (1,) * len(space), "zero")
                case Convolution():
                    units = self.weighted(units, space, layer.window, layer.padding)
                case Gate():
                    gate = self.gates[self.gate]
                    self.gate += 1
                    units = {
                        (place, c): _times(unit, gate[(slice(None), *place, c)]) for (place, c), unit in units.items()
                    }
                case Pool():
                    window = layer.window or space
                    pooled: Units = {}
                    for (place, c), unit in units.items():
                        there = tuple(i // size for i, size in zip(place, window, strict=True))
                        there = there if layer.window else ()
                        _add(pooled.setdefault((there, c), {}), _times(unit, 1 / np.prod(window)))
                    units = pooled
                    space = tuple(n // size for n, size in zip(space, window, strict=True)) if layer.window else ()
                case Flatten():
                    units = {((), number): units[key] for number, key in enumerate(sorted(units))}
                    space = ()
                case Skip():
                    branch, space_after = self.through(layer.branch, units, space)
                    shortcut, _ = self.through(layer.shortcut, units, space)
                    units, space = {key: _sum(shortcut[key], branch[key]) for key in branch}, space_after
        return units, space

    def weighted(self, units: Units, space: tuple[int, ...], window: tuple[int, ...], padding: str) -> Units:
        number = self.weight
        self.weight += 1
        outputs, inputs = self.weights[number].shape[:2]
        convolution = self.weights[number].ndim > 2
        found: Units = {}
        paths = 0
        for place in itertools.product(*map(range, space)):
            for c in range(outputs):
                total: Polynomial = {}
                for taps in itertools.product(*map(range, window)):
                    there = tuple(i + t - (k - 1) // 2 for i, t, k in zip(place, taps, window, strict=True))
                    if padding == "circular":
                        there = tuple(i % n for i, n in zip(there, space, strict=True))
                    elif any(not 0 <= i < n for i, n in zip(there, space, strict=True)):
                        continue
                    for before in range(inputs):
                        name = ("weight", number, (c, before, *taps) if convolution else (c, before))
                        _add(total, {(*path, name): phi for path, phi in units[there, before].items()})
                if self.biases is not None:
                    _add(total, {(("bias", number, (c,)),): np.ones(self.samples)})
                found[place, c] = total
                paths += len(total)
                if paths > self.limit:
                    raise _PathLimitError(
                        f"layers: more than the limit of {self.limit} paths in layer {number}. Use a smaller network."
                    )
        return found


def _add(total: Polynomial, more: Polynomial) -> None:
    for path, phi in more.items():
        total[path] = total[path] + phi if path in total else phi


def _sum(one: Polynomial, two: Polynomial) -> Polynomial:
    total = dict(one)
    _add(total, two)
    return total


def _times(unit: Polynomial, factor: np.ndarray | float) -> Polynomial:
    return {path: phi * factor for path, phi in unit.items()}
