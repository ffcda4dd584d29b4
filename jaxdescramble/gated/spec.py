"""The specification of a gated network: its architecture, the source of its gates, the input of its values."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from jaxdescramble._base.checks import in_order, instance_of, one_of, one_with, positive_integer
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble.gated._architecture import Architecture, Shape
from jaxdescramble.gated._layers import Layer
from jaxdescramble.gated.gate_kinds import Gate, Hard

KINDS = ("dnn", "dgn", "dlgn", "dlgn-sf")
VALUE_INPUTS = ("x", "ones")


@functools.partial(
    register_dataclass,
    data_fields=["gate", "feature_gate"],
    meta_fields=["architecture", "kind", "value_input", "order"],
)
@dataclasses.dataclass(frozen=True)
class Spec:
    """A gated network without its parameters: `h_l = G_l * (W_l h_(l-1))`. The kind says where the gates G come from.

    | kind      | G_l is the gate of                                                                         |
    |-----------|--------------------------------------------------------------------------------------------|
    | "dnn"     | the preactivation itself; with hard gates this is a ReLU network                           |
    | "dgn"     | the preactivation of a second network, whose own nonlinearity is `q * feature_gate(q)`     |
    | "dlgn"    | the preactivation of a second, deep linear network: `q_l = V_l q_(l-1)`, linear in x       |
    | "dlgn-sf" | a preactivation that one layer makes from x: `q_l = V_l x`; x is pooled first where needed |

    A spec is a pytree whose leaves are the numbers of its gates. You can pass it to a jitted function directly; a new
    steepness does not compile again. While these numbers are Python numbers a spec is hashable, so it can also be a
    static argument.

    Args:
        architecture: `FullyConnected`, `Convolutional`, `Residual`, `ConvolutionalResidual`, or a class of yours.
        kind: "dnn", "dgn", "dlgn" or "dlgn-sf"; see above.
        gate: `Hard()`, `Soft()` or `StraightThrough()`.
        value_input: where the values start: "x" or "ones".
        order: permutation of the gates: layer l of the values passes the gates of layer `order[l]` of the features.
            None keeps the order.
        feature_gate: gate of the features of a "dgn"; with `Hard()` they are a ReLU network.

    Raises:
        ValueError, TypeError: if a name is unknown; if `order` is not a permutation, or exchanges layers of different
            shapes; if a "dnn" has an order or starts at ones, because its gates and values are one network.

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
                raise TypeError(f"{name}: got the class {given}; must be an instance, such as {given}().")
        if self.kind == "dnn" and self.value_input != "x":
            raise ValueError(
                "value_input: got 'ones' with kind='dnn', which computes its gates from its values and would never see "
                "x. Use kind='dgn' or 'dlgn'."
            )
        if self.order is not None:
            object.__setattr__(self, "order", self._checked(self.order))

    def _checked(self, order: Sequence[int]) -> tuple[int, ...]:
        shapes = self.architecture.gate_shapes
        order = tuple(
            positive_integer(i, "order", least=0) for i in in_order(order, "order", "a permutation of layers")
        )
        if self.kind == "dnn":
            raise ValueError("order: got an order with kind='dnn', which has no separate gates. Use 'dgn' or 'dlgn'.")
        if sorted(order) != list(range(len(shapes))):
            raise ValueError(f"order: got {order}; must be a permutation of 0 to {len(shapes) - 1}, the gated layers.")
        for to, source in enumerate(order):
            if shapes[to] != shapes[source]:
                raise ValueError(
                    f"order: layer {to}, of shape {shapes[to]}, cannot use the gates of layer {source}, of shape "
                    f"{shapes[source]}. Permute only layers of the same shape."
                )
        return order


def checked(spec: Spec) -> Spec:
    """Check a spec and return it. `Spec` itself cannot check this: JAX may replace a gate by any object.

    Raises:
        TypeError: if `spec` is not a `Spec`, or if a gate of it is not a gate.

    >>> from jaxdescramble.gated import FullyConnected
    >>> checked(Spec(FullyConnected(5, (4, 3), 2))).kind
    'dlgn'
    """
    instance_of(spec, "spec", Spec, "a Spec")
    for name in ("gate", "feature_gate"):
        one_with(getattr(spec, name), name, ("through", "__call__"), "a gate such as gated.Soft()")
    return spec


def weight_shapes(spec: Spec) -> dict[str, tuple[Shape, ...]]:
    """Return the shapes of the weights of each network of a spec. The features have no output layer.

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


def layers_of(params: object, name: str, spec: Spec) -> tuple[Layer, ...]:
    """Return the layers of one network of `params`, and check that they match the spec.

    Raises:
        TypeError, ValueError: if a network or a layer is missing; if a shape does not match; if a layer has a bias but
            the spec has none, or the other way round.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> len(layers_of(init(jax.random.key(0), spec), "values", spec))
    3
    """
    shapes = weight_shapes(spec)
    params = instance_of(params, "params", Mapping, "a dictionary of layers, as init makes it")
    if name not in params:
        raise ValueError(
            f"params: got only {sorted(params)}; must have {name!r}, because a {spec.kind} has "
            f"{sorted(weight_shapes(spec))}. Make params with init and this spec."
        )
    layers, shapes = tuple(in_order(params[name], f"params: {name!r}", "a tuple of layers")), shapes[name]
    for layer in layers:
        _check_layer(layer, name)
    found = tuple(tuple(layer["weight"].shape) for layer in layers)
    if found != shapes:
        raise ValueError(f"params: got weights of shapes {found} for {name!r}; this spec needs {shapes}.")
    for layer, shape in zip(layers, shapes, strict=True):
        bias = tuple(layer["bias"].shape) if "bias" in layer else None
        if bias != ((shape[0],) if spec.architecture.biases else None):
            raise ValueError(
                f"params: a layer of {name!r} has {'no bias' if bias is None else f'a bias of shape {bias}'}, but the "
                f"architecture has biases={spec.architecture.biases}."
            )
    return layers


def _check_layer(layer: object, name: str) -> None:
    arrays = layer if isinstance(layer, Mapping) and "weight" in layer else {"weight": layer}
    for part in ("weight", "bias"):
        if part in arrays and not jnp.issubdtype(getattr(arrays[part], "dtype", type(None)), jnp.floating):
            raise TypeError(
                f"params: got {layer!r} as a layer of {name!r}; must be {{'weight': array}} of real numbers, with "
                "'bias' if the architecture has biases."
            )
