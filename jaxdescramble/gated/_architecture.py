"""Architectures: how gated layers follow one another, said once for the network of features and that of values.

A class that has the members of `Architecture` is an architecture; `hidden` is a walk that is given its gates, so that
features (which note every preactivation) and values (which are multiplied by gates) cannot come to differ.
"""

import itertools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array

from jaxdescramble._base.checks import in_order, one_of, positive_integer, true_or_false
from jaxdescramble.gated._layers import HEADS, PADDINGS, Layers

Shape = tuple[int, ...]
Turn = Callable[[Array], Array]


@runtime_checkable
class Architecture(Protocol):
    """What an architecture says of itself. Shapes are of one sample: (width,) or (*space, channels).

    Attributes:
        outputs: width of the linear layer at the end.
        biases: whether layers have them.
        padding: of convolutions.
        input_shape: of x.
        window: the kernel's size along each axis of space; () without space.
        gate_shapes: of the preactivations, one for every gate in the order of the walk.
        weight_shapes: of the weights, the output's last.
        branch_ends: which of the weights end a branch that is added to a skip.
        gate_before, gate_after: whether a gate stands before those additions, and after them.
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
        """What the output layer reads: h through all layers but that one, with `turn` at each gate."""
        ...

    def views(self, x: Array) -> list[Array]:
        """For every gate, x in the resolution in which a single layer could make its preactivation."""
        ...


def chained(sizes: tuple[int, ...], window: Shape = ()) -> tuple[Shape, ...]:
    return tuple((after, before, *window) for before, after in itertools.pairwise(sizes))


def check_sizes(
    net: object, single: tuple[str, ...], many: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> None:
    """Sizes checked, and kept as Python integers and tuples of them: architectures are hashed."""
    for name in single:
        object.__setattr__(net, name, positive_integer(getattr(net, name), name))
    for name in (*many, *optional):
        sizes = tuple(positive_integer(size, name) for size in in_order(getattr(net, name), name, "a tuple of sizes"))
        if name in many and not sizes:
            raise ValueError(f"{name}: got (); there is at least one gated layer, or it would be a linear network.")
        object.__setattr__(net, name, sizes)
    for name in ("biases", "gate_before", "gate_after"):
        if name in getattr(net, "__dataclass_fields__", ()):
            object.__setattr__(net, name, true_or_false(getattr(net, name), name))


def check_spatial(net: Any) -> None:
    one_of(net.padding, "padding", PADDINGS)
    one_of(net.head, "head", HEADS)
    if len(net.shape) not in (2, 3):
        raise ValueError(f"shape: got {net.shape}; expected (*space, channels) with one or two axes of space.")
