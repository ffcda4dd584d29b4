"""Read every linear layer's weight, bias, input and output from any JAX function of parameters and data."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxdescramble._base.cautions import JaxdescrambleWarning
from jaxdescramble._base.checks import a_function, instance_of, real_or_complex_array
from jaxdescramble._base.decompositions import inverse_or_transpose
from jaxdescramble._base.products import complex_type, is_complex, matmul
from jaxdescramble._base.pytrees import register_dataclass
from jaxdescramble._base.results import Result
from jaxdescramble.networks.axes import Axes, fold, unfold
from jaxdescramble.networks.evaluate import Place, Replacement, Steps, constants_of, evaluate
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.folding import Folder, heads_of
from jaxdescramble.networks.graph import Graph, Value
from jaxdescramble.networks.layer_dict import Layers
from jaxdescramble.networks.layers import Layer, find_layers
from jaxdescramble.networks.positions import layer_weights
from jaxdescramble.networks.tracing import Function, leaves_of, trace
from jaxdescramble.networks.unread import caution_unread


@dataclasses.dataclass(frozen=True, repr=False)
class Layout(Result):
    """How the axes of a layer's arrays were merged into one: the original sizes, slowest axis first.

    Attributes:
        lead: sizes of leading axes, along which the same layer occurs several times: steps of a scan over the weight,
            batch dimensions of the weight (`vmap` over parameters), groups of a convolution, and heads of attention
            (parts of the out axis that a later product uses as a batch dimension).
        out: sizes that were merged into the rows of the weight.
        into: sizes that were merged into the columns of the weight.
        samples: sizes that were merged into the columns of the signals: steps of scans over the data, then the axes of
            the data.
        from_input: True if the layer reads x itself, at most rearranged or sliced, so that no layer comes before it.
        to_output: True if the layer's output reaches the result of the function through elementwise operations,
            rearranging, cutting and joining only.
        window: sizes of the window of a convolution, whose places are the fast part of the columns of the weight; empty
            for other layers.
    """

    lead: tuple[int, ...]
    out: tuple[int, ...]
    into: tuple[int, ...]
    samples: tuple[int, ...]
    from_input: bool
    to_output: bool
    window: tuple[int, ...] = ()


# An array or None; but a transformation may put anything into the leaves of a pytree (shapes, axes).
Leaf: TypeAlias = Array | PyTree


@register_dataclass
@dataclasses.dataclass(frozen=True, repr=False)
class Tap(Result):
    """The signals and the weight of one layer; `preactivation == weight @ input + bias[..., None]`, up to rounding.

    Most layers have no leading axes; `layout.lead` names them (heads, groups, steps of a scan).

    Attributes:
        weight: the weight matrix, shape (*lead, out, in): the parameter, rearranged. If a scale for each neuron follows
            the product (batch norm in inference), the weight includes it.
        bias: sum of all constants that are added before the activation, shape (*lead, out); None if there are none.
        input: signals that the layer reads, shape (*lead, in, samples). A leading axis has size 1 if all of its layers
            read the same signals (heads).
        preactivation: signals before the activation function, shape (*lead, out, samples).
        activation: signals after the activation function, shape (*lead, out, samples). It is the value that elementwise
            operations compute from the preactivation and that other operations read; None if there is no such value,
            or more than one.
        layout: how axes were merged, a `Layout`.
        weights: how much each sample counts, shape (samples,), or (*lead, samples) if this differs along the leading
            axes; None if no sample weights were given.
    """

    weight: Leaf
    bias: Leaf
    input: Leaf
    preactivation: Leaf
    activation: Leaf
    layout: Layout = dataclasses.field(metadata={"static": True})
    weights: Leaf = None


@runtime_checkable
class Tapped(Protocol):
    """A function that `wiretap` returns; `_refused` collects the layers whose samples have no weights."""

    def __call__(
        self,
        params: PyTree,
        x: PyTree,
        weights: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        _refused: dict[str, str] | None = None,
    ) -> tuple[PyTree, dict[str, Tap]]: ...


def wiretap(f: Function) -> Tapped:
    """Turn f into a function that also returns a `Tap` of every linear layer: its weight and its signals.

    Use it to see the names and shapes of the layers, and to get the signals of a layer. Linear layers are:

    - a product (`dot_general`) of a parameter, one leaf of `params`, with a value that depends on x. The parameter may
      be rearranged, sliced or converted to another dtype before the product;
    - operations that can be read as such a product, with patches of the data: convolutions, for example. The files
      of `jaxdescramble/networks/kinds` say for each kind what the axes of a tap count.

    Table lookups, products of data with data (attention) and products of parameters with parameters are not layers.

    A warning names the layers that cannot be read, with their lines: those whose weight is computed from parameters
    (weight norm), matrices that are applied in other ways (by a Fourier transform), convolutions that group the samples
    (`batch_group_count`), and all layers inside `while` or `cond`. They are evaluated as usual.

    The name of a layer is the path of its parameter in `params`, in the notation of `jax.tree_util.keystr`, such as
    `['encode']`; it is `params` if `params` is a single array. If f uses a part of the parameter, the slice follows:
    `['qkv'][:, 0:64]`. If f uses a parameter again, the later uses are `name#2`, `name#3`.

    Args:
        f: a function `f(params, x)` of any pytrees of arrays, made of JAX operations. With Flax linen, `model.apply`;
            for other libraries, split the model first: `nnx.split`, `eqx.partition`, `hk.transform`.

    Returns:
        A function `tapped(params, x)` that returns `(f(params, x), {name: Tap})`, with the layers in the order of
        computation, also after `jit`. `Tap.weight` has the shape (out, in), and signals such as `Tap.input` and
        `Tap.preactivation` have samples in columns. You can jit, differentiate and vmap the function. Its derivative is
        that of f, even if a layer is inside a `custom_vjp` or `custom_jvp`.

        With `tapped(params, x, weights)` each tap also contains sample weights. `weights` says how much each sample of
        x counts, shape (batch,) or (batch, tokens); it does not change the signals. One sample can become several
        columns of a layer's signals, in a convolution, a scan or a reshape; each of them gets the weight of its sample.

    Raises:
        TypeError: from the returned function, if params or x contain something that is not an array.
        ValueError: from the returned function, if the sample weights are negative, not finite, all zero, or of another
            shape, or if the weights of a layer's samples are unknown (such as weights of tokens, after a mean over
            tokens).

    >>> f = lambda params, x: jnp.tanh(x @ params["w"] + params["b"])
    >>> y, taps = wiretap(f)({"w": jnp.ones((3, 2)), "b": jnp.zeros((1, 2))}, jnp.ones((5, 3)))
    >>> {name: (tap.weight.shape, tap.input.shape) for name, tap in taps.items()}
    {"['w']": ((2, 3), (3, 5))}

    Source: Amey, Keeley, Choudhury, Kuprov, PNAS 118 (2021) e2016917118, for wiretapping a link. Reading the layers
    from a jaxpr is this package's method.
    """

    a_function(f, "f")

    @functools.wraps(f, updated=())
    def tapped(
        params: PyTree,
        x: PyTree,
        weights: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        _refused: dict[str, str] | None = None,
    ) -> tuple[PyTree, dict[str, Tap]]:
        graph, facts, layers = _read(f, params, x)
        wanted: set[int] = set()
        for layer in layers.values():
            product = layer.product
            wanted |= {product.weight, *product.reads, layer.preactivation}
            wanted |= {step.other for step in layer.steps}
            wanted |= set() if layer.activation is None else {layer.activation}
        outputs, found = evaluate(graph, leaves_of((params, x)), wanted)
        values = {**constants_of(graph), **found}
        taps = Layers((name, _tap(layer, facts, values)) for name, layer in layers.items())
        if weights is not None:
            fold = {name: functools.partial(_folded, layer, facts) for name, layer in layers.items()}
            for name, own in layer_weights(f, params, x, weights, fold, _refused).items():
                taps[name] = dataclasses.replace(taps[name], weights=own)
        return jax.tree.unflatten(graph.tree, outputs), taps

    return tapped


def insert(
    f: Function,
    params: PyTree,
    x: PyTree,
    points: Mapping[str, ArrayLike],
    inputs: Mapping[str, ArrayLike] | None = None,
) -> Function:
    """Return the same function with `P^-1 P` inserted at the preactivation of each named layer.

    Use it to check that a change of frame leaves the network's function unchanged. The preactivation v of a layer
    becomes `P^-1 (P v)`. If P is well conditioned, the result equals that of f up to rounding, because one step of
    iterative refinement corrects the inverse. If P is orthogonal or unitary (up to rounding), the (conjugate) transpose
    is the inverse. If P is singular or contains nan, the result is inf or nan. Between real signals, the imaginary part
    of `P^-1 (P v)` is rounding and is dropped.

    Args:
        f: a function `f(params, x)`, made of JAX operations.
        params, x: parameters and a batch of f; they decide the layers and their sizes.
        points: matrix P for each layer name, shape (out, out), or (*lead, out, out) if the layer has leading axes
            (`Layout.lead`).
        inputs: matrix Q for each layer name, shape (in, in), or with the leading axes of `Tap.input`; it inserts
            `Q^-1 Q` at the input of that layer. None inserts nothing there.

    Returns:
        A function `g(params, x)`. It also takes batches of other sizes, because it traces f again; the layers must keep
        their names.

    Raises:
        ValueError: if a name is not the name of a layer, or a shape does not fit.

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
    def inserted(params: PyTree, x: PyTree) -> PyTree:
        graph, facts, layers = _read(f, params, x)
        outputs, _ = evaluate(graph, leaves_of((params, x)), (), _replacements(facts, layers, at_output, at_input))
        return jax.tree.unflatten(graph.tree, outputs)

    return inserted


NO_INVERSE = (
    " A P of fewer rows, from rank=k, has no inverse: it leaves signal out. Descramble this layer without rank."
)


def _matrices(points: Mapping[str, ArrayLike], argument: str) -> dict[str, Array]:
    instance_of(points, argument, Mapping, "a dictionary {layer name: matrix}")
    axes = "(n, n), or with the layer's leading axes in front"
    return {
        name: real_or_complex_array(point, f"{argument}[{name!r}]", range(9), axes) for name, point in points.items()
    }


def _read(f: Function, params: PyTree, x: PyTree) -> tuple[Graph, Facts, dict[str, Layer]]:
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
    window = layer.product.kind.window(layer.product)
    return Layout(tuple(lead), out, sizes["in"], samples, layer.from_input, layer.to_output, window)


def _tap(layer: Layer, facts: Facts, values: Mapping[int, Value]) -> Tap:
    product, folder, layout = layer.product, Folder(layer, facts), _layout(layer)
    weight = folder.stacked(product.weight, values[product.weight], product.weight_axes, ["out", "in"])
    weight = folder.heads_apart(weight, len(folder.lead))
    loops = [len(facts.loops.get(number, ())) for number in product.reads]
    patches = product.patches
    for i in reversed(range(max(loops) if product.kind.reads_patches else 0)):  # the innermost loop first
        patches = jax.vmap(patches, [[0 if count > i else None for count in loops]])
    deepest = product.reads[loops.index(max(loops))]
    signal = patches([values[number] for number in product.reads])
    signal = folder.stacked(deepest, signal, product.data_axes, ["in", "sample"])
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
    """Return indices over a layer's data, without the features, in the shape (*lead, samples)."""
    product = layer.product
    with jax.ensure_compile_time_eval():
        folded = Folder(layer, facts).stacked(product.positions, jnp.asarray(index), axes, ["sample"])
        heads = range(folded.ndim - 1, folded.ndim - 1 + len(heads_of(layer)))
        return np.asarray(jnp.expand_dims(folded, tuple(heads)))


def _replacements(
    facts: Facts, layers: dict[str, Layer], at_output: dict[str, Array], at_input: dict[str, Array]
) -> dict[Place, Replacement]:
    replace: dict[Place, Replacement] = {}
    for points, argument in ((at_output, "points"), (at_input, "inputs")):
        for name, point in points.items():
            if name not in layers:
                raise ValueError(f"{argument}: there is no layer {name}; there are {', '.join(layers) or 'none'}.")
            layer, layout = layers[name], _layout(layers[name])
            kind = layer.product.kind
            if argument == "inputs" and (kind.reads_patches or kind.why_no_inputs):
                why = kind.why_no_inputs or "multiplies its weight with patches, which are not its input"
                raise ValueError(f"inputs: {name} {why}. Put P at the layer before.")
            lead, size = layout.lead, math.prod(layout.out if argument == "points" else layout.into)
            if argument == "inputs":
                # All heads read the same signals, so these axes have size 1, like those of `Tap.input`.
                heads = len(heads_of(layer))
                lead = (*lead[: len(lead) - heads], *(1 for _ in range(heads)))
            if point.shape not in ((size, size), (*lead, size, size)):
                raise ValueError(
                    f"{argument}[{name!r}]: got shape {point.shape}; the layer takes {(size, size)}"
                    + (f" or {(*lead, size, size)}." if lead else ".")
                    + NO_INVERSE * (point.ndim > 1 and point.shape[-2] < point.shape[-1] == size)
                )
            point = jnp.broadcast_to(point, (*lead, size, size))
            first, product = layer.product.operation.outputs[0], layer.product
            if argument == "points":
                replace[layer.preactivation] = _change(layer, facts, point, layer.axes, "out")
            else:
                replace[first, product.data_side] = _change(layer, facts, point, product.data_axes, "in")
    return replace


def _change(layer: Layer, facts: Facts, point: Array, axes: Axes, label: str) -> Replacement:
    """Return the map `v -> P^-1 (P v)` for the value v of one scan step, with the axes that v has in the function."""
    folder = Folder(layer, facts)
    loops = facts.loops[layer.product.operation.outputs[0]]
    place, order = len(folder.batch), [*folder.batch, label, "sample"]
    heads = tuple(place + i for i in range(len(heads_of(layer))))

    def change(value: Array, steps: Steps) -> Array:
        matrix = point[tuple(step for step, loop in zip(steps, loops, strict=True) if loop in folder.loops)]
        # The solver does not support half precision.
        signals = fold(value, axes, order).astype(jnp.promote_types(value.dtype, jnp.float32))
        if is_complex(matrix) and not is_complex(signals):
            signals = signals.astype(complex_type(signals.dtype))
        matrix = matrix.astype(signals.dtype)
        signals = folder.heads_apart(signals, place) if label == "out" else jnp.expand_dims(signals, heads)
        signals = _undo(matrix, matmul(matrix, signals))
        signals = folder.heads_together(signals, place) if label == "out" else jnp.squeeze(signals, heads)
        signals = signals if is_complex(value) else signals.real
        return unfold(signals.astype(value.dtype), axes, order, value.shape)

    return change


def _undo(matrix: Array, changed: Array) -> Array:
    """Multiply by `P^-1`, with one step of refinement: without it, the error in float32 is three times as large."""
    inverse = inverse_or_transpose(matrix)
    signals = matmul(inverse, changed)
    return signals + matmul(inverse, changed - matmul(matrix, signals))
