"""The layers of a value network, as its kernels see them: the places of weights, gates, pools and skips.

A network is a tuple of layers. The layers hold no weights and no gates: these come as lists, in the order of the tuple.
The branch of a skip comes before its shortcut.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from jaxdescramble._base.checks import in_order, one_of, positive_integer

PADDINGS = ("circular", "zero")
HEADS = ("average", "flatten")


@dataclasses.dataclass(frozen=True)
class Dense:
    """A weight matrix over units. If there are positions, all of them use the same matrix.

    Args:
        units: number of outputs. It is needed only if no gate follows, because a gate shows the number.

    >>> (Dense(), Gate(), Dense())  # one hidden layer
    (Dense(units=None), Gate(), Dense(units=None))
    """

    units: int | None = None

    def __post_init__(self):
        if self.units is not None:
            object.__setattr__(self, "units", positive_integer(self.units, "units"))


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of stride 1: `y_i = sum_t W_t h_(i + t)`, t from `-((k - 1) // 2)` to `k // 2`.

    Args:
        window: size of the window along each axis of space.
        padding: "circular" or "zero".
        units: number of outputs. It is needed only if no gate follows, because a gate shows the number.

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
    """A gate: multiply every unit at every position by the next array in the list of gates.

    >>> Gate() == Gate()
    True
    """


@dataclasses.dataclass(frozen=True)
class Pool:
    """An average over adjacent windows of positions, or over all positions if `window` is None.

    >>> Pool((2, 2)).window
    (2, 2)
    """

    window: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.window is not None:
            object.__setattr__(self, "window", sizes(self.window, "window"))


@dataclasses.dataclass(frozen=True)
class Flatten:
    """A change of shape: all units of all positions become the units of a layer without positions.

    >>> Flatten() == Flatten()
    True
    """


@dataclasses.dataclass(frozen=True)
class Skip:
    """A sum of a branch and its input, or of a branch and a shortcut with its own weights.

    >>> Skip((Dense(), Gate())).shortcut
    ()

    Raises:
        ValueError: if some way through the branch, or through a shortcut with layers, has no weight. The two parts of
            the sum would not be independent then, so their kernels would not add.
    """

    branch: tuple["Layer", ...]
    shortcut: tuple["Layer", ...] = ()

    def __post_init__(self):
        for name, layers in (("branch", self.branch), ("shortcut", self.shortcut)):
            layers = checked_layers(layers, name)
            object.__setattr__(self, name, layers)
            if (layers or name == "branch") and not any(isinstance(layer, Dense | Convolution) for layer in layers):
                raise ValueError(f"{name}: got {layers!r}; every way through it must have a Dense or a Convolution.")


Layer = Dense | Convolution | Gate | Pool | Flatten | Skip
Layers = tuple[Layer, ...]


def sizes(value: Sequence[int], name: str) -> tuple[int, ...]:
    """Return sizes as a tuple of integers, the form in which layers store them.

    >>> sizes([3, 3], "window")
    (3, 3)
    """
    return tuple(positive_integer(size, name) for size in in_order(value, name, "a size along each axis of space"))


def checked_layers(value: Sequence[Layer], name: str = "layers") -> Layers:
    """Check that every element is a layer, and return a tuple.

    >>> checked_layers([Dense()])
    (Dense(units=None),)
    """
    layers = tuple(in_order(value, name, "a tuple of layers"))
    for layer in layers:
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}: got {layer!r}; must be Dense, Convolution, Gate, Pool, Flatten or Skip.")
    return layers


def flattened(layers: Layers) -> Iterator[Layer]:
    """Yield all layers in the order of the lists of weights and gates; the layers of a skip replace the skip.

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
    """Count the layers of these kinds.

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
    """Return the layers of a chain: gated convolutions with average pools, a head, gated dense layers, an output.

    >>> stacked(0, 1)
    (Dense(units=None), Gate(), Dense(units=None))
    """
    one_of(head, "head", HEADS)
    if in_order(pooling, "pooling", "a factor for each convolution") and len(pooling) != convolutions:
        raise ValueError(
            f"pooling: got {len(pooling)} factors for {convolutions} convolutions, which are the arrays of gates1 with "
            "axes of space. Give one factor for each convolution, 1 for no pool, or () for no pools at all."
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
    """Return the layers of a residual network: a gated layer, blocks `h + B(h)`, a gated layer, a linear output.

    B has `depth` gated layers. With `gate_after` a gate follows each addition. Without a window the layers are dense.

    >>> skipping(1, 1)[2]
    Skip(branch=(Dense(units=None), Gate()), shortcut=())
    """
    one_of(head, "head", HEADS)
    gated = (Convolution(tuple(window), padding) if window else Dense(), Gate())
    block = (Skip(gated * depth), *((Gate(),) if gate_after else ()))
    end = (Pool() if head == "average" else Flatten(),) if window else ()
    return (*gated, *block * blocks, *gated, *end, Dense())
