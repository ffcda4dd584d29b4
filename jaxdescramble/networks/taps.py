"""Read every linear layer's weight, bias, input and output from any JAX function of parameters and data."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxdescramble._base.cautions import JaxdescrambleWarning
from jaxdescramble._base.checks import a_function, instance_of, real_array
from jaxdescramble._base.decompositions import inverse_or_transpose
from jaxdescramble._base.products import matmul
from jaxdescramble._base.results import Result
from jaxdescramble.networks.axes import Axes, fold, unfold
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.folding import Folder, heads_of
from jaxdescramble.networks.graph import Graph
from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.layers import Layer, find_layers
from jaxdescramble.networks.positions import layer_weights
from jaxdescramble.networks.tracing import leaves_of, trace
from jaxdescramble.networks.unread import caution_unread


@dataclasses.dataclass(frozen=True, repr=False)
class Layout(Result):
    """How a layer's axes were folded: the original sizes, slowest first.

    Attributes:
        lead: axes that count layers: scans through the weight; batch dimensions of it (`vmap` over parameters); groups
            of a convolution; parts of the out axis that a later product goes along as a batch dimension (heads of
            attention).
        out: the sizes that the weight's rows fold.
        into: the sizes that its columns fold.
        samples: the sizes that the columns of the signals fold: scans through the data, then the data's own axes.
        from_input: the layer's input is x itself, at most rearranged or sliced: no layer comes before.
        to_output: its output reaches the function's result by elementwise operations, rearranging, cutting and joining.
    """

    lead: tuple[int, ...]
    out: tuple[int, ...]
    into: tuple[int, ...]
    samples: tuple[int, ...]
    from_input: bool
    to_output: bool


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Tap(Result):
    """The signals and the weight of one layer; `preactivation == weight @ input + bias[..., None]`, to rounding.

    Attributes:
        weight: (*lead, out, in). The parameter itself, rearranged. If a scale for each unit follows the product (batch
            norm in inference), the weight includes it.
        bias: (*lead, out), the sum of all constants that are added before the activation, or None.
        input: (*lead, in, samples), with size 1 on a lead axis along which all layers read the same (heads).
        preactivation: (*lead, out, samples).
        activation: (*lead, out, samples): the one value that elementwise operations compute from the preactivation and
            that others read; None where there is none or more than one.
        layout: how axes were folded.
        weights: how much each column of the signals counts: (samples,), or (*lead, samples) where they differ along the
            leading axes; None where no weights were given.
    """

    # Arrays, except inside a transformation, which may put anything in the leaves of a pytree (shapes, axes, None).
    weight: Any
    bias: Any
    input: Any
    preactivation: Any
    activation: Any
    layout: Any = dataclasses.field(metadata={"static": True})
    weights: Any = None


def wiretap(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], tuple[Any, dict[str, Tap]]]:
    """Return the function that also returns a `Tap` of every linear layer.

    A layer is a product (`dot_general`) of a parameter leaf with something that depends on x. The leaf may be
    rearranged, sliced, or converted in type on the way. A convolution is a product of its kernel with the patches that
    its window sees: out are its channels, in are (channels, *window), samples are (batch, *places). A convolution in
    groups is one such layer for each group, along a leading axis; a depthwise one has one channel in each group. Table
    lookups, products of data with data (attention) and products of parameters with parameters are not layers.

    These layers are not read: weights computed from parameters (weight norm), matrices applied in other ways (by a
    Fourier transform), convolutions in groups of samples, and all layers inside `while` or `cond`. A warning names them
    with their lines; f is evaluated as usual.

    A layer's name is its leaf's path in `params` as `jax.tree_util.keystr` writes it (`params` if that is one bare
    array), followed by the slice of it that was used, if not all: `['qkv'][:, 0:64]`; uses after the first are
    `name#2`, `name#3`.

    Args:
        f: `f(params, x)`, any pytrees of arrays, made of JAX operations. Flax linen: `model.apply`; nnx after
            `nnx.split`, Equinox after `eqx.partition`, Haiku after `hk.transform`.

    Returns:
        A function of the same arguments that returns `(f(params, x), {name: Tap})`. The layers stand in the order of
        computation, also after `jit`. The function can be jitted, differentiated and vmapped; its derivative is that of
        f, also where a layer stands inside a `custom_vjp` or `custom_jvp`.

        It also takes `weights`, of the shape of x's first axes, (batch,) or (batch, tokens): how much each sample
        counts. They do not change the signals. Each tap has the weights of its columns: the axes are followed through
        f, so that every position that a convolution, a scan or a reshape makes of a sample has the sample's weight.

    Raises:
        TypeError: from the returned function, if params or x hold something that is not an array.
        ValueError: from the returned function: weights that `Objective.summarise` refuses, or of another shape; a layer
            whose samples have no known weights (after a mean over tokens, for weights of tokens).

    >>> f = lambda params, x: jnp.tanh(x @ params["w"] + params["b"])
    >>> y, taps = wiretap(f)({"w": jnp.ones((3, 2)), "b": jnp.zeros((1, 2))}, jnp.ones((5, 3)))
    >>> {name: (tap.weight.shape, tap.input.shape) for name, tap in taps.items()}
    {"['w']": ((2, 3), (3, 5))}

    Source: Amey, Keeley, Choudhury, Kuprov, PNAS 118 (2021) e2016917118, wiretapping a link; reading jaxprs is ours.
    """

    a_function(f, "f")

    @functools.wraps(f, updated=())
    def tapped(
        params: Any, x: Any, weights: Any = None, *, _refused: dict[str, str] | None = None
    ) -> tuple[Any, dict[str, Tap]]:
        graph, facts, layers = _read(f, params, x)
        wanted: set[int] = set()
        for layer in layers.values():
            product = layer.product
            wanted |= {product.weight, product.data, layer.preactivation, *(step.other for step in layer.steps)}
            wanted |= set() if layer.activation is None else {layer.activation}
        outputs, found = evaluate(graph, leaves_of((params, x)), wanted)
        values = {**graph.constants, **found}
        taps = Layers((name, _tap(layer, facts, values)) for name, layer in layers.items())
        if weights is not None:
            fold = {name: functools.partial(_folded, layer, facts) for name, layer in layers.items()}
            for name, own in layer_weights(f, params, x, weights, fold, _refused).items():
                taps[name] = dataclasses.replace(taps[name], weights=own)
        return jax.tree.unflatten(graph.tree, outputs), taps

    return tapped


def insert(
    f: Callable[[Any, Any], Any],
    params: Any,
    x: Any,
    points: Mapping[str, ArrayLike],
    inputs: Mapping[str, ArrayLike] | None = None,
) -> Callable[[Any, Any], Any]:
    """Return the same function with `P^-1 P` inserted at the preactivation of each named layer.

    `v -> P^-1 (P v)`, the inverse with one step of refinement: the result is that of f to rounding if P is well
    conditioned. The inverse is the transpose where P is orthogonal to rounding. A singular P, or one with nan, gives
    inf or nan.

    Args:
        f, params, x: as for `wiretap`; params and x decide the layers and their sizes.
        points: P for each layer name, (out, out), or (*lead, out, out) where the layer has leading axes.
        inputs: Q for each layer name, (in, in) or with the leading axes of `Tap.input`: `Q^-1 Q` at that layer's input.

    Returns:
        `g(params, x)`. It traces f again and takes other batch sizes, too; the names of the layers must stay the same.

    Raises:
        ValueError: a name that is no layer, or a shape that does not fit.

    >>> f = lambda w, x: jnp.tanh(x @ w)
    >>> w, x = jnp.ones((3, 2)), jnp.ones((5, 3))
    >>> g = insert(f, w, x, {"params": jnp.array([[2.0, 1.0], [0.0, 1.0]])})
    >>> bool(jnp.allclose(g(w, x), f(w, x), atol=1e-5))
    True

    Source: Amey et al., PNAS 118 (2021) e2016917118, the unit operator inserted into a link.
    """
    a_function(f, "f")
    at_output, at_input = _matrices(points, "points"), {} if inputs is None else _matrices(inputs, "inputs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", JaxdescrambleWarning)  # g gives the warning
        _replacements(*_read(f, params, x)[1:], at_output, at_input)

    @functools.wraps(f, updated=())
    def inserted(params: Any, x: Any) -> Any:
        graph, facts, layers = _read(f, params, x)
        outputs, _ = evaluate(graph, leaves_of((params, x)), (), _replacements(facts, layers, at_output, at_input))
        return jax.tree.unflatten(graph.tree, outputs)

    return inserted


def _matrices(points: Any, argument: str) -> dict[str, Array]:
    instance_of(points, argument, Mapping, "a dictionary {layer name: matrix}")
    axes = "(n, n), or with the layer's leading axes in front"
    return {name: real_array(point, f"{argument}[{name!r}]", range(9), axes) for name, point in points.items()}


def _read(f: Callable, params: Any, x: Any) -> tuple[Graph, Facts, dict[str, Layer]]:
    for argument, name in ((params, "params"), (x, "x")):
        for path, leaf in jax.tree_util.tree_leaves_with_path(argument):
            if not hasattr(leaf, "dtype") and not isinstance(leaf, bool | int | float | complex):
                raise TypeError(
                    f"{name}{jax.tree_util.keystr(path)}: got {type(leaf).__name__}, not an array. Split the model "
                    "into arrays and the rest (nnx.split, eqx.partition) and close over the rest."
                )
    graph = trace(f, params, x)
    facts = study(graph)
    layers, hidden = find_layers(graph, facts)
    caution_unread(graph, facts, [layer.product for layer in layers.values()], hidden)
    return graph, facts, layers


def _layout(layer: Layer) -> Layout:
    sizes = layer.product.sizes
    batch = [sizes[label][0] for label in sizes if label.startswith("batch")]
    lead = [*(loop.params["length"] for loop in layer.lead_loops), *batch, *heads_of(layer)]
    out = tuple(size for size, apart in layer.factors if not apart) if heads_of(layer) else sizes["out"]
    samples = (*(loop.params["length"] for loop in layer.sample_loops), *sizes["sample"])
    return Layout(tuple(lead), out, sizes["in"], samples, layer.from_input, layer.to_output)


def _tap(layer: Layer, facts: Facts, values: Mapping[int, Any]) -> Tap:
    product, folder, layout = layer.product, Folder(layer, facts), _layout(layer)
    weight = folder.stacked(product.weight, values[product.weight], product.weight_axes, ["out", "in"])
    weight = folder.heads_apart(weight, len(folder.lead))
    loops = len(facts.loops.get(product.data, ()))
    patches = product.patches
    for _ in range(loops if product.kind.has_windows else 0):
        patches = jax.vmap(patches)
    signal = folder.stacked(product.data, patches(values[product.data]), product.data_axes, ["in", "sample"])
    preactivation = folder.signals(layer.preactivation, values[layer.preactivation])
    activation = None if layer.activation is None else folder.signals(layer.activation, values[layer.activation])
    signal = jnp.expand_dims(signal, tuple(len(folder.lead) + i for i in range(len(heads_of(layer)))))
    scale, bias = None, None
    for step in layer.steps:
        other = folder.constant(step.other, jnp.asarray(values[step.other]), step.axes)
        by, added = step.scale_and_shift(other)
        if by is not None:
            scale = by if scale is None else scale * by
            bias = None if bias is None else bias * by
        if added is not None:
            bias = added if bias is None else bias + added
    if scale is not None:
        weight = scale[..., None] * weight
    if bias is not None:
        bias = jnp.broadcast_to(bias, preactivation.shape[:-1])
    return Tap(weight, bias, signal, preactivation, activation, layout)


def _folded(layer: Layer, facts: Facts, index: np.ndarray, axes: Axes) -> np.ndarray:
    """Return indices over a layer's data without its features as (*lead, samples)."""
    product = layer.product
    with jax.ensure_compile_time_eval():
        folded = Folder(layer, facts).stacked(product.positions, jnp.asarray(index), axes, ["sample"])
        heads = range(folded.ndim - 1, folded.ndim - 1 + len(heads_of(layer)))
        return np.asarray(jnp.expand_dims(folded, tuple(heads)))


def _replacements(
    facts: Facts, layers: dict[str, Layer], at_output: dict[str, Array], at_input: dict[str, Array]
) -> dict[Any, Callable]:
    replace = {}
    for points, argument in ((at_output, "points"), (at_input, "inputs")):
        for name, point in points.items():
            if name not in layers:
                raise ValueError(f"{argument}: there is no layer {name}; there are {', '.join(layers) or 'none'}.")
            layer, layout = layers[name], _layout(layers[name])
            if argument == "inputs" and layer.product.kind.has_windows:
                raise ValueError(
                    f"inputs: {name} is a convolution, whose patches overlap: a Q for its patches does not act on its "
                    "input. Put P at the layer before."
                )
            lead, size = layout.lead, math.prod(layout.out if argument == "points" else layout.into)
            if argument == "inputs":
                # As in `Tap.input`: all heads read the same.
                heads = len(heads_of(layer))
                lead = (*lead[: len(lead) - heads], *(1 for _ in range(heads)))
            if point.shape not in ((size, size), (*lead, size, size)):
                raise ValueError(
                    f"{argument}[{name!r}]: got shape {point.shape}; the layer takes {(size, size)}"
                    + (f" or {(*lead, size, size)}." if lead else ".")
                )
            point = jnp.broadcast_to(point, (*lead, size, size))
            first, product = layer.product.operation.outputs[0], layer.product
            if argument == "points":
                replace[layer.preactivation] = _change(layer, facts, point, layer.axes, "out")
            else:
                replace[first, 1 - product.side] = _change(layer, facts, point, product.data_axes, "in")
    return replace


def _change(layer: Layer, facts: Facts, point: Array, axes: Axes, label: str) -> Callable[[Array, tuple], Array]:
    """Return `v -> P^-1 (P v)` for one step's value, arranged as in the function."""
    folder = Folder(layer, facts)
    loops = facts.loops[layer.product.operation.outputs[0]]
    place, order = len(folder.batch), [*folder.batch, label, "sample"]
    heads = tuple(place + i for i in range(len(heads_of(layer))))

    def change(value: Array, steps: tuple[Any, ...]) -> Array:
        matrix = point[tuple(step for step, loop in zip(steps, loops, strict=True) if loop in folder.loops)]
        # The solver does not support half precision.
        signals = fold(value, axes, order).astype(jnp.promote_types(value.dtype, jnp.float32))
        matrix = matrix.astype(signals.dtype)
        signals = folder.heads_apart(signals, place) if label == "out" else jnp.expand_dims(signals, heads)
        signals = _undo(matrix, matmul(matrix, signals))
        signals = folder.heads_together(signals, place) if label == "out" else jnp.squeeze(signals, heads)
        return unfold(signals.astype(value.dtype), axes, order, value.shape)

    return change


def _undo(matrix: Array, changed: Array) -> Array:
    """Return `P^-1` of signals, refined once: a plain solve in float32 changes the function three times as much."""
    inverse = inverse_or_transpose(matrix)
    signals = matmul(inverse, changed)
    return signals + matmul(inverse, changed - matmul(matrix, signals))
