"""Compute gated networks: preactivations, gates, outputs."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdescramble._base.checks import in_order, real_array
from jaxdescramble.gated._architecture import Turn
from jaxdescramble.gated._layers import Layers, affine
from jaxdescramble.gated.spec import Spec, checked, layers_of

Params = Mapping[str, Layers]


def apply(
    params: Params,
    x: ArrayLike,
    spec: Spec,
    *,
    value_input: ArrayLike | None = None,
    gates: Sequence[Array] | None = None,
) -> Float[Array, "batch outputs"]:
    """Compute the output of a gated network: send the values through the gates.

    `h_0 = x` (or ones); `h_l = G_l(x) * (W_l h_(l-1))`; `f = W_d h_(d-1)`. For fixed gates, f is linear in the input of
    the values and in each of their weights (affine if there are skips or biases).

    Args:
        params: parameters from `init`.
        x: the samples, shape (batch, inputs) or (batch, *space, channels).
        spec: the network.
        value_input: where the values start, with the shape of x or of one sample; None means what the spec says.
        gates: gates to use instead of the network's own, in the format of `gates`; None means its own.

    Returns:
        The outputs f, shape (batch, outputs).

    Raises:
        ValueError, TypeError: if an array does not match the spec; if a "dnn" gets a value input but no gates.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> apply(init(jax.random.key(0), spec), jnp.ones((7, 5)), spec).shape
    (7, 2)

    Source: Lakshminarayanan, Singh (arXiv 2006.10529 and 2110.03403).
    """
    x = _samples(x, "x", spec)
    net, values = spec.architecture, layers_of(params, "values", spec)
    if spec.kind == "dnn" and value_input is not None and gates is None:
        raise ValueError(
            "value_input: a dnn computes its gates from its values. Pass gates=gates(params, x, spec) too, or use a "
            "kind that has features."
        )
    h = net.hidden(values[:-1], _start(value_input, x, spec), _turn(params, x, spec, gates))
    return affine(values[-1], h, net.padding)


def gates(params: Params, x: ArrayLike, spec: Spec) -> list[Float[Array, "batch *units"]]:
    """Return the gates of every gated layer of the values: `G_l(x)`.

    Args:
        params: parameters from `init`.
        x: the samples, shape (batch, inputs) or (batch, *space, channels).
        spec: the network.

    Returns:
        A list with one array for each gated layer, in the order in which the values pass them; shape (batch, width) or
        (batch, *space, channels).

    Raises:
        ValueError, TypeError: if an array does not match the spec.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> [g.shape for g in gates(init(jax.random.key(0), spec), jnp.ones((7, 5)), spec)]
    [(7, 4), (7, 3)]

    Source: Lakshminarayanan, Singh (arXiv 2006.10529 and 2110.03403).
    """
    return [spec.gate(q) for q in preactivations(params, x, spec)]


def preactivations(params: Params, x: ArrayLike, spec: Spec) -> list[Float[Array, "batch *units"]]:
    """Return the preactivations that decide the gates, in the order in which the values pass them.

    Args:
        params: parameters from `init`.
        x: the samples, shape (batch, inputs) or (batch, *space, channels).
        spec: the network.

    Returns:
        A list with one array for each gated layer, shape (batch, width) or (batch, *space, channels).

    Raises:
        ValueError, TypeError: if an array does not match the spec.

    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2), order=None)
    >>> params = init(jax.random.key(0), spec)
    >>> at = lambda x: preactivations(params, x[None], spec)[1][0]
    >>> x, y = jnp.eye(5)[:2]
    >>> bool(jnp.allclose(at(2 * x - y), 2 * at(x) - at(y), atol=1e-6))  # linear in x
    True

    Source: Lakshminarayanan, Singh (arXiv 2006.10529 and 2110.03403).
    """
    x = _samples(x, "x", spec)
    if spec.kind == "dnn":
        found = noted(layers_of(params, "values", spec)[:-1], x, spec)
    else:
        found = noted(layers_of(params, "features", spec), x, spec)
    return [found[i] for i in spec.order] if spec.order is not None else found


def noted(layers: Layers, x: Float[Array, "batch *features"], spec: Spec) -> list[Array]:
    """Return the preactivations of these layers, in the order of `Architecture.hidden`.

    >>> from jaxdescramble.gated import FullyConnected
    >>> noted([{"weight": 2 * jnp.eye(1)}] * 2, jnp.ones((1, 1)), Spec(FullyConnected(1, (1, 1), 1)))[1].tolist()
    [[4.0]]
    """
    net, found = spec.architecture, []
    if spec.kind == "dlgn-sf":
        return [affine(layer, view, net.padding) for layer, view in zip(layers, net.views(x), strict=True)]

    def turn(q: Array) -> Array:
        found.append(q)
        if spec.kind == "dlgn":
            return q
        return (spec.gate if spec.kind == "dnn" else spec.feature_gate).through(q, q)

    net.hidden(layers, x, turn)
    return found


@dataclasses.dataclass(frozen=True)
class Network:
    """The function `f(params, x)` of a spec. Equal specs give equal functions, so `jit` compiles them once."""

    spec: Spec

    def __call__(self, params: Params, x: ArrayLike) -> Float[Array, "batch outputs"]:
        return apply(params, x, self.spec)


def as_function(spec: Spec) -> Callable[[Params, ArrayLike], Float[Array, "batch outputs"]]:
    """Return a spec as a function `f(params, x)`, for `wiretap`, `attribution` and other callers.

    With hard gates f is piecewise linear, and `attribution.switched.gates` finds its gates by the names of the
    features' weights. In a "dgn" each preactivation decides two gates, its own and that of the values; an open gate is
    on piece 2.

    >>> from jaxdescramble.attribution import switched
    >>> from jaxdescramble.gated import FullyConnected, init
    >>> spec = Spec(FullyConnected(5, (4, 3), 2))
    >>> f, params = as_function(spec), init(jax.random.key(0), spec)
    >>> list(switched.gates(f, params, jnp.ones((7, 5))))
    ["['features'][0]['weight']", "['features'][1]['weight']"]
    """
    return Network(checked(spec))


def _turn(params: Params, x: Array, spec: Spec, given: Sequence[Array] | None) -> Turn:
    """Return the function that the values pass at each gate in turn."""
    if given is not None:
        gates = iter(_checked(given, x, spec))
        return lambda h: next(gates) * h
    if spec.kind == "dnn":
        return lambda h: spec.gate.through(h, h)
    features = iter(preactivations(params, x, spec))
    return lambda h: spec.gate.through(next(features), h)


def _samples(x: ArrayLike, name: str, spec: Spec) -> Array:
    shape = checked(spec).architecture.input_shape
    axes = "(batch, inputs)" if len(shape) == 1 else "(batch, *space, channels)"
    x = real_array(x, name, (len(shape) + 1,), axes)
    if x.shape[1:] != shape:
        raise ValueError(f"{name}: got shape {x.shape}; the architecture expects (batch, *{shape}).")
    return x


def _start(value_input: ArrayLike | None, x: Array, spec: Spec) -> Array:
    if value_input is None:
        return x if spec.value_input == "x" else jnp.ones_like(x)
    start = real_array(value_input, "value_input", (x.ndim - 1, x.ndim), "the shape of x or of one sample")
    if start.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"value_input: got shape {start.shape}; must be {x.shape}, the shape of x, or {x.shape[1:]}.")
    return jnp.broadcast_to(start.reshape((-1, *x.shape[1:])), x.shape)


def _checked(gates: Sequence[Array], x: Array, spec: Spec) -> list[Array]:
    wanted = [(len(x), *shape) for shape in spec.architecture.gate_shapes]
    several = in_order(gates, "gates", "a list of arrays, one for each gated layer")
    gates = [real_array(gate, f"gates[{i}]", range(1, 9), "(batch, *units)") for i, gate in enumerate(several)]
    found = [gate.shape for gate in gates]
    if found != wanted:
        raise ValueError(f"gates: got shapes {found}; must be {wanted}, one array for each gated layer.")
    return list(gates)
