"""What a gated value network is made of, as far as its kernels can tell: where weights, gates, pools and skips stand.

A network is a tuple of layers. Its weights and its gates are not in it: they come as lists, in the order in which the
tuple meets them, a skip's branch before its shortcut.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdescramble._base.checks import in_order, one_of, positive_integer

PADDINGS = ("circular", "zero")
HEADS = ("average", "flatten")


@dataclasses.dataclass(frozen=True)
class Dense:
    """A weight matrix over units; the same one at every position, where there are positions.

    `units`, the number of its outputs, is needed only where no gate says it: the next layer reads them ungated.

    >>> (Dense(), Gate(), Dense())  # one hidden layer
    (Dense(units=None), Gate(), Dense(units=None))
    """

    units: int | None = None

    def __post_init__(self):
        if self.units is not None:
            object.__setattr__(self, "units", positive_integer(self.units, "units"))


@dataclasses.dataclass(frozen=True)
class Convolution:
    """Weights over units in a window of positions: `y_i = sum_t W_t h_(i + t)`, t from `-((k - 1) // 2)` to `k // 2`.

    `window` is its size along each axis of space, `padding` "circular" or "zero", the stride 1; `units` as for `Dense`.

    >>> Convolution((3, 3), "zero").window
    (3, 3)
    """

    window: tuple[int, ...]
    padding: str = "circular"
    units: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "window", sizes(self.window, "window"))
        one_of(self.padding, "padding", PADDINGS)
        if self.units is not None:
            object.__setattr__(self, "units", positive_integer(self.units, "units"))


@dataclasses.dataclass(frozen=True)
class Gate:
    """Every unit at every position times its gate: the next of the gates that a kernel is given.

    >>> Gate() == Gate()
    True
    """


@dataclasses.dataclass(frozen=True)
class Pool:
    """Average over windows of positions, one beside the other; over all positions if `window` is None.

    >>> Pool((2, 2)).window
    (2, 2)
    """

    window: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.window is not None:
            object.__setattr__(self, "window", sizes(self.window, "window"))


@dataclasses.dataclass(frozen=True)
class Flatten:
    """All units of all positions as the units of a layer without positions.

    >>> Flatten() == Flatten()
    True
    """


@dataclasses.dataclass(frozen=True)
class Skip:
    """A branch added to what it branched from, or to a shortcut with weights of its own.

    >>> Skip((Dense(), Gate())).shortcut
    ()

    Raises:
        ValueError: a branch (or a shortcut that has layers at all) without a weight on every way through it: the two
            parts of the sum would not be independent, and their kernels would not add.
    """

    branch: tuple["Layer", ...]
    shortcut: tuple["Layer", ...] = ()

    def __post_init__(self):
        for name, layers in (("branch", self.branch), ("shortcut", self.shortcut)):
            layers = checked_layers(layers, name)
            object.__setattr__(self, name, layers)
            if (layers or name == "branch") and not any(isinstance(layer, Dense | Convolution) for layer in layers):
                raise ValueError(f"{name}: {layers!r} has no Dense or Convolution on every way through it.")


Layer = Dense | Convolution | Gate | Pool | Flatten | Skip
Layers = tuple[Layer, ...]


def sizes(value: Any, name: str) -> tuple[int, ...]:
    """Sizes as a layer holds them.

    >>> sizes([3, 3], "window")
    (3, 3)
    """
    return tuple(positive_integer(size, name) for size in in_order(value, name, "a size along each axis of space"))


def checked_layers(value: Any, name: str = "layers") -> Layers:
    """Layers as a tuple of them.

    >>> checked_layers([Dense()])
    (Dense(units=None),)
    """
    layers = tuple(in_order(value, name, "a tuple of layers"))
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}: expected Dense, Convolution, Gate, Pool, Flatten or Skip, got {layer!r}.")
    return layers


def flattened(layers: Layers) -> Iterator[Layer]:
    """All layers in the order in which weights and gates are listed, those of skips in place of the skips.

    >>> [type(layer).__name__ for layer in flattened((Skip((Dense(), Gate())), Dense()))]
    ['Dense', 'Gate', 'Dense']
    """
    for layer in layers:
        if isinstance(layer, Skip):
            yield from flattened(layer.branch)
            yield from flattened(layer.shortcut)
        else:
            yield layer


def count(layers: Layers, *kinds: type) -> int:
    """How many layers are of these kinds.

    >>> count((Dense(), Gate(), Dense()), Dense, Convolution)
    2
    """
    return sum(isinstance(layer, kinds) for layer in flattened(layers))


def stacked(
    convolutions: int,
    dense: int,
    window: Sequence[int] = (),
    padding: str = "circular",
    pooling: Sequence[int] = (),
    head: str = "average",
) -> Layers:
    """Gated convolutions with average pools between them, a head, gated dense layers, a linear output.

    >>> stacked(0, 1)
    (Dense(units=None), Gate(), Dense(units=None))
    """
    one_of(head, "head", HEADS)
    if in_order(pooling, "pooling", "a factor for each convolution") and len(pooling) != convolutions:
        raise ValueError(
            f"pooling: got {len(pooling)} factors for {convolutions} convolutions, the arrays of gates1 with axes of "
            "space; give one for each, 1 where there is no pool, or () for none at all."
        )
    pooling = sizes(pooling, "pooling")
    layers: list[Layer] = []
    for factor in pooling or (1,) * convolutions:
        layers += [Convolution(tuple(window), padding), Gate()]
        layers += [Pool((factor,) * len(window))] if factor != 1 else []
    layers += [Pool() if head == "average" else Flatten()] if convolutions else []
    return (*layers, *(Dense(), Gate()) * dense, Dense())


def skipping(
    blocks: int,
    depth: int,
    gate_after: bool = False,
    window: Sequence[int] = (),
    padding: str = "circular",
    head: str = "average",
) -> Layers:
    """A gated layer, blocks `h + B(h)` of `depth` gated layers, a gated layer, a linear output.

    With `gate_after`, a gate follows each addition. Without a window, layers are dense.

    >>> skipping(1, 1)[2]
    Skip(branch=(Dense(units=None), Gate()), shortcut=())
    """
    one_of(head, "head", HEADS)
    gated = (Convolution(tuple(window), padding) if window else Dense(), Gate())
    block = (Skip(gated * depth), *((Gate(),) if gate_after else ()))
    end = (Pool() if head == "average" else Flatten(),) if window else ()
    return (*gated, *block * blocks, *gated, *end, Dense())
