"""The protocol of architectures: how gated layers follow one another.

Any class with the members of `Architecture` is an architecture. The feature network and the value network use the same
method `hidden`. Its argument `turn` records preactivations for the features and multiplies by gates for the values, so
the two networks always have the same structure.
"""

import itertools
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Array

from jaxdescramble._base.checks import in_order, one_of, positive_integer, true_or_false
from jaxdescramble.gated._layers import HEADS, PADDINGS, Layers

Shape = tuple[int, ...]
Turn = Callable[[Array], Array]


@runtime_checkable
class Architecture(Protocol):
    """The members that every architecture has. Shapes are those of one sample: (width,) or (*space, channels).

    Attributes:
        outputs: width of the linear output layer.
        biases: whether the layers have biases.
        padding: padding of the convolutions.
        input_shape: shape of x.
        window: size of the kernel along each axis of space; () without space.
        gate_shapes: shape of the preactivations of every gate, in the order of `hidden`.
        weight_shapes: shapes of the weights; the output layer comes last.
        branch_ends: indices of the weights that end a branch, just before it is added to a skip.
        gate_before, gate_after: whether there is a gate just before these additions, and just after them.
    """

    @property
    def outputs(self) -> int: ...
    @property
    def biases(self) -> bool: ...
    @property
    def padding(self) -> str: ...
    @property
    def input_shape(self) -> Shape: ...
    @property
    def window(self) -> Shape: ...
    @property
    def gate_shapes(self) -> tuple[Shape, ...]: ...
    @property
    def weight_shapes(self) -> tuple[Shape, ...]: ...
    @property
    def branch_ends(self) -> tuple[int, ...]: ...
    @property
    def gate_before(self) -> bool: ...
    @property
    def gate_after(self) -> bool: ...

    def hidden(self, layers: Layers, h: Array, turn: Turn) -> Array:
        """Return the input of the output layer: send h through all other layers, with `turn` at each gate."""
        ...

    def views(self, x: Array) -> list[Array]:
        """Return x once for every gate, at the resolution from which one layer can make its preactivation."""
        ...


def chained(sizes: tuple[int, ...], window: Shape = ()) -> tuple[Shape, ...]:
    return tuple((after, before, *window) for before, after in itertools.pairwise(sizes))


def check_sizes(
    net: object, single: tuple[str, ...], many: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> None:
    """Check the sizes of an architecture, and store them as integers and tuples, so that it can be hashed."""
    for name in single:
        object.__setattr__(net, name, positive_integer(getattr(net, name), name))
    for name in (*many, *optional):
        sizes = tuple(positive_integer(size, name) for size in in_order(getattr(net, name), name, "a tuple of sizes"))
        if name in many and not sizes:
            raise ValueError(f"{name}: got (); must have at least one size, because each size is a gated layer.")
        object.__setattr__(net, name, sizes)
    for name in ("biases", "gate_before", "gate_after"):
        if name in getattr(net, "__dataclass_fields__", ()):
            object.__setattr__(net, name, true_or_false(getattr(net, name), name))


def check_spatial(shape: Shape, padding: object, head: object) -> None:
    one_of(padding, "padding", PADDINGS)
    one_of(head, "head", HEADS)
    if len(shape) not in (2, 3):
        raise ValueError(f"shape: got {shape}; must be (*space, channels) with one or two axes of space.")
