"""What kind of gated network: an architecture, where its gates come from, what its values start from."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdescramble._base.checks import in_order, instance_of, one_of, one_with, positive_integer
from jaxdescramble.gated._architecture import Architecture, Shape
from jaxdescramble.gated.gate_kinds import Gate, Hard

KINDS = ("dnn", "dgn", "dlgn", "dlgn-sf")
VALUE_INPUTS = ("x", "ones")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["gate", "feature_gate"],
    meta_fields=["architecture", "kind", "value_input", "order"],
)
@dataclasses.dataclass(frozen=True)
class Spec:
    """A gated network but for its numbers. `h_l = G_l * (W_l h_(l-1))`, and what makes G is its kind.

    | kind      | G_l is the gate of                                                                      |
    |-----------|-----------------------------------------------------------------------------------------|
    | "dnn"     | the preactivation itself: with hard gates a ReLU network                                |
    | "dgn"     | preactivations of a second network, whose own nonlinearity is `q * feature_gate(q)`     |
    | "dlgn"    | preactivations of a second, deep linear network: `q_l = V_l q_(l-1)`, linear in x       |
    | "dlgn-sf" | preactivations made of x by one layer each, `q_l = V_l x`, pooled as it would be there  |

    A spec is a pytree whose leaves are its gates' numbers, and, while those are Python numbers, hashable. So it may be
    passed to a jitted function as it is (another steepness does not compile again) or as a static argument.

    Args:
        architecture: `FullyConnected`, `Convolutional`, `Residual`, `ConvolutionalResidual`, or one of your own.
        kind: see above.
        gate: `Hard()`, `Soft()`, `StraightThrough()`.
        value_input: what the values start from, "x" or "ones".
        order: gate layers permuted: the gated layer l of the values goes through those of layer `order[l]` of the
            features; None as they are.
        feature_gate: of the features of a "dgn"; hard, it is a ReLU network.

    Raises:
        ValueError, TypeError: unknown names; an order that is no permutation, or swaps layers of different shapes; a
            dnn, whose gates and values are one network, with an order or with ones.

    >>> from jaxdescramble.gated import FullyConnected, Soft
    >>> Spec(FullyConnected(10, (8, 8), 1), "dlgn", Soft(beta=8.0), order=(1, 0)).kind
    'dlgn'

    Source: Lakshminarayanan, Singh: arXiv 2006.10529 (dgn), 2110.03403 (dlgn, ones), 2203.16455 (shuffled gates).
    """

    architecture: Architecture
    kind: str = "dlgn"
    gate: Gate = dataclasses.field(default_factory=Hard)
    value_input: str = "x"
    order: Sequence[int] | None = None
    feature_gate: Gate = dataclasses.field(default_factory=Hard)

    def __post_init__(self):
        wanted = "an architecture such as gated.FullyConnected(inputs, widths, outputs)"
        one_with(self.architecture, "architecture", ("gate_shapes", "weight_shapes", "hidden"), wanted)
        one_of(self.kind, "kind", KINDS)
        one_of(self.value_input, "value_input", VALUE_INPUTS)
        for name in ("gate", "feature_gate"):
            if isinstance(getattr(self, name), type):
                given = getattr(self, name).__name__
                raise TypeError(f"{name}: got the class {given}; give one of its values, such as {given}().")
        if self.kind == "dnn" and self.value_input != "x":
            raise ValueError(
                "value_input: a dnn makes its gates of its own values, and of ones it would know nothing of x. Use "
                "kind='dgn' or 'dlgn'."
            )
        if self.order is not None:
            object.__setattr__(self, "order", self._checked(self.order))

    def _checked(self, order: Sequence[int]) -> tuple[int, ...]:
        shapes = self.architecture.gate_shapes
        order = tuple(
            positive_integer(i, "order", least=0) for i in in_order(order, "order", "a permutation of layers")
        )
        if self.kind == "dnn":
            raise ValueError("order: the gates of a dnn are its values' own. Use kind='dgn' or 'dlgn'.")
        if sorted(order) != list(range(len(shapes))):
            raise ValueError(f"order: got {order}; expected a permutation of 0 to {len(shapes) - 1}, the gate layers.")
        for to, source in enumerate(order):
            if shapes[to] != shapes[source]:
                raise ValueError(
                    f"order: layer {to}, of shape {shapes[to]}, cannot go through the gates of layer {source}, of "
                    f"shape {shapes[source]}. Permute layers of one shape among themselves."
                )
        return order


def checked(spec: Spec) -> Spec:
    """A spec, after a look at what may not be looked at where it is made: in a pytree taken apart, anything is a gate.

    Raises:
        TypeError: no spec, or gates that are none.

    >>> from jaxdescramble.gated import FullyConnected
    >>> checked(Spec(FullyConnected(5, (4, 3), 2))).kind
    'dlgn'
    """
    instance_of(spec, "spec", Spec, "a Spec")
    for name in ("gate", "feature_gate"):
        one_with(getattr(spec, name), name, ("through", "__call__"), "a gate such as gated.Soft()")
    return spec


def weight_shapes(spec: Spec) -> dict[str, tuple[Shape, ...]]:
    """Shapes of the weights of a spec's networks; features have no output layer.

    >>> from jaxdescramble.gated import FullyConnected
    >>> weight_shapes(Spec(FullyConnected(5, (4, 3), 2)))
    {'features': ((4, 5), (3, 4)), 'values': ((4, 5), (3, 4), (2, 3))}
    """
    net = checked(spec).architecture
    values = net.weight_shapes
    if spec.kind == "dnn":
        return {"values": values}
    if spec.kind != "dlgn-sf":
        return {"features": values[:-1], "values": values}
    views = jax.eval_shape(net.views, jax.ShapeDtypeStruct((1, *net.input_shape), jnp.float32))
    windows = [net.window if len(shape) > 1 else () for shape in net.gate_shapes]
    layers = zip(net.gate_shapes, views, windows, strict=True)
    return {"features": tuple((to[-1], of.shape[-1], *window) for to, of, window in layers), "values": values}


def layers_of(params: Any, name: str, spec: Spec) -> tuple[Any, ...]:
    """One network of `params`, after a look at whether it is that of the spec.

    Raises:
        ValueError: a network or layers are missing, shapes that do not fit, biases too many or too few.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> len(layers_of(init(jax.random.key(0), spec), "values", spec))
    3
    """
    shapes = weight_shapes(spec)
    instance_of(params, "params", Mapping, "a dictionary of layers, as init makes it")
    if name not in params:
        raise ValueError(
            f"params: no {name!r}, only {sorted(params)}; a {spec.kind} has {sorted(weight_shapes(spec))}. Make them "
            "with init and this spec."
        )
    layers, shapes = tuple(in_order(params[name], f"params: {name!r}", "a tuple of layers")), shapes[name]
    for layer in layers:
        _check_layer(layer, name)
    found = tuple(tuple(layer["weight"].shape) for layer in layers)
    if found != shapes:
        raise ValueError(f"params: weights of {name!r} have shapes {found}; those of this spec are {shapes}.")
    for layer, shape in zip(layers, shapes, strict=True):
        bias = tuple(layer["bias"].shape) if "bias" in layer else None
        if bias != ((shape[0],) if spec.architecture.biases else None):
            raise ValueError(
                f"params: a layer of {name!r} has {'no bias' if bias is None else f'a bias of shape {bias}'}, and "
                f"the architecture has biases={spec.architecture.biases}."
            )
    return layers


def _check_layer(layer: Any, name: str) -> None:
    arrays = layer if isinstance(layer, Mapping) and "weight" in layer else {"weight": layer}
    for part in ("weight", "bias"):
        if part in arrays and not jnp.issubdtype(getattr(arrays[part], "dtype", type(None)), jnp.floating):
            raise TypeError(
                f"params: a layer of {name!r} is {layer!r}; expected {{'weight': array}}, real, with 'bias' if "
                "there are any."
            )
