"""Layer-wise relevance propagation: hand an output's value back, layer by layer, to the inputs."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PyTree

from jaxdescramble._base.checks import is_traced, number_between, one_of, positive_number
from jaxdescramble._base.programs import fused
from jaxdescramble.attribution._targets import shaped_like, targets
from jaxdescramble.networks.axes import Axes
from jaxdescramble.networks.evaluate import bind, constants_of, evaluate
from jaxdescramble.networks.facts import Facts, study
from jaxdescramble.networks.graph import Graph, Operation
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.kinds.kind import Relevance
from jaxdescramble.networks.kinds.products import LayerKind, Product, layer_of
from jaxdescramble.networks.layers import Affine, affine_steps
from jaxdescramble.networks.obstacles import listed, obstacle_behind, refuse_integers
from jaxdescramble.networks.tracing import Function, leaves_of, trace

RULES = ("z", "epsilon", "alpha-beta", "w2", "z-box")
INPUT_RULES = (*RULES, "same")


@dataclasses.dataclass(frozen=True)
class Rule:
    """The rule by which a linear layer hands relevance back."""

    name: str
    epsilon: float | Array
    alpha: float | Array
    beta: float | Array
    low: ArrayLike
    high: ArrayLike


def lrp(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    target: ArrayLike | None = None,
    *,
    rule: str = "epsilon",
    epsilon: float = 1e-6,
    alpha: float = 1.0,
    beta: float = 0.0,
    input_rule: str = "same",
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> Float[Array, "batch *features"]:
    """Hand one output of every sample back to the inputs: layer-wise relevance propagation.

    Relevance starts as `f_t(x)` and goes back through every operation. A linear layer `z_k = sum_j a_j w_jk + b_k`
    hands back, with `sign(0) = 1`,

    | rule         | `R_j`                                                                                |
    |--------------|--------------------------------------------------------------------------------------|
    | "z"          | `sum_k a_j w_jk / z_k R_k`, nothing where `z_k = 0`                                  |
    | "epsilon"    | `sum_k a_j w_jk / (z_k + epsilon sign(z_k)) R_k`                                     |
    | "alpha-beta" | `sum_k (alpha (a_j w_jk)^+ / z_k^+ - beta (a_j w_jk)^- / z_k^-) R_k`, `alpha - beta = 1` |
    | "w2"         | `sum_k w_jk^2 / (sum_i w_ik^2) R_k`                                                  |
    | "z-box"      | `sum_k (a_j w_jk - l_j w_jk^+ - h_j w_jk^-) / (sum_i the same) R_k`                  |

    In the first three rules, the denominators include the biases, which keep their share of the relevance. Gates pass
    relevance on. Maxima pass it to the winner. Averages and sums of branches share it in proportion to their operands.

    Args:
        f: a function `f(params, x)` of linear and convolutional layers, normalisation in inference form, relu-like
            activations, pools and sums. It returns the shape (batch, classes), before any softmax.
        params, x, target: the same arguments as in `gradient`.
        rule: the rule of all layers.
        input_rule: the rule of layers that read x itself, at most rearranged, sliced, shifted and scaled feature by
            feature; "same" means `rule`.
        epsilon, alpha, beta: parameters of the rules.
        low, high: l and h of "z-box": the smallest and the largest possible x, broadcast to x.

    Returns:
        The relevance of each feature, in the shape of x. With rule "z" and no biases, it adds up to `f_t(x)`. For relu
        networks without biases it equals `x * gradient`.

    Raises:
        NotImplementedError: if an operation has no rule; the message names it with its line.
        TypeError, ValueError: if `gradient` would raise one; if a rule is unknown; if `alpha - beta` is not 1.

    >>> f = lambda W, x: jax.nn.relu(x @ W[0]) @ W[1]
    >>> W = jnp.asarray([[1.0, -1.0], [2.0, 1.0]]), jnp.ones((2, 1))
    >>> lrp(f, W, jnp.asarray([[1.0, 1.0]])).round(4).tolist()
    [[1.0, 2.0]]

    Source: Bach et al., PLoS ONE 10 (2015) e0130140; Montavon et al. 2017 (arXiv 1512.02479) for the input rules.
    """
    one_of(rule, "rule", RULES)
    one_of(input_rule, "input_rule", INPUT_RULES)
    positive = number_between(alpha, "alpha", -jnp.inf, jnp.inf, "a number")
    negative = number_between(beta, "beta", -jnp.inf, jnp.inf, "a number")
    if not any(map(is_traced, (positive, negative))) and abs(positive - negative - 1) > 1e-6:
        raise ValueError(f"alpha, beta: got {positive} and {negative}; relevance is kept where alpha - beta = 1.")
    added = positive_number(epsilon, "epsilon")
    refuse_integers(f, params, x)
    x, target = targets(f, params, x, target)
    for end, edge in (("low", low), ("high", high)):
        shaped_like(x, edge, end)
    everywhere = Rule(rule, added, positive, negative, low, high)
    first = everywhere if input_rule == "same" else dataclasses.replace(everywhere, name=input_rule)
    if (
        "z-box" in (rule, first.name)
        and not any(map(is_traced, (x, low, high)))
        and bool(((x < low) | (x > high)).any())
    ):
        raise ValueError(
            f"low, high: x reaches from {float(x.min()):.3g} to {float(x.max()):.3g}, which is not between {low} and "
            f"{high}; give the limits of x, or take another input rule, such as 'w2'."
        )
    graph = trace(f, params, x, opened=True)
    back = _Back(graph, study(graph), leaves_of((params, x)), everywhere, first)
    out = back.values[graph.outputs[0]]
    flat = out.reshape(len(x), -1)
    start = jnp.where(jnp.arange(flat.shape[1])[None, :] == target[:, None], flat, 0).reshape(out.shape)
    found = back.run(start)
    if first is not everywhere and not back.used:
        raise ValueError(
            f"input_rule: no layer reads x itself, at most rearranged, sliced, shifted and scaled, so {input_rule!r} "
            "has no place."
        )
    return found


def deep_taylor(
    f: Function,
    params: PyTree,
    x: ArrayLike,
    target: ArrayLike | None = None,
    *,
    input_rule: str = "z-box",
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
) -> Float[Array, "batch *features"]:
    """Return the deep Taylor decomposition: `lrp` of positive contributions, with another rule for the input.

    This is `lrp` with alpha 1 and beta 0. Choose the input rule "z-box" for pixels between `low` and `high`, and "w2"
    for inputs without bounds. Arguments, result and errors are those of `lrp`.

    >>> f = lambda W, x: jax.nn.relu(x @ W)
    >>> deep_taylor(f, jnp.asarray([[1.0], [-1.0]]), jnp.asarray([[1.0, 0.0]])).tolist()
    [[0.5, 0.5]]

    Source: Montavon et al., Pattern Recognition 65 (2017) 211 (arXiv 1512.02479).
    """
    return lrp(f, params, x, target, rule="alpha-beta", input_rule=input_rule, low=low, high=high)


class _Layer(NamedTuple):
    """A product with a constant weight, and the biases and scales that follow it."""

    product: Product
    steps: tuple[Affine, ...]

    @property
    def operations(self) -> list[Operation]:
        return [self.product.operation, *(step.operation for step in self.steps)]


class _Back:
    """One pass back through a graph."""

    def __init__(self, graph: Graph, facts: Facts, arguments: list[Array], rule: Rule, first: Rule):
        self.graph, self.facts, self.rule, self.first = graph, facts, rule, first
        wanted = {n for operation in graph.operations for n in operation.outputs}
        self.values = {**constants_of(graph), **evaluate(graph, arguments, wanted | set(graph.inputs))[1]}
        self.arguments = arguments
        self.layers = self._layers()
        self.near, self.early = self._before_the_layers()
        self.used = False

    def _layers(self) -> dict[int, "_Layer"]:
        """Return each layer with the biases and scales that follow it, by its last value.

        The weight may be any value that does not depend on x.
        """
        found = {}
        for operation in self.graph.operations:
            kind, live = kind_of(operation), [n in self.facts.data for n in operation.inputs]
            side = kind.constant_side(live) if isinstance(kind, LayerKind) else None
            if isinstance(kind, LayerKind) and side is not None:
                product = layer_of(kind, "", operation, side, -1, self.graph)
                steps, end, _ = affine_steps(product, self.facts, self._is_constant, rearranged=False)
                found[end] = _Layer(product, steps)
        return found

    def _is_constant(self, other: int, axes: Axes) -> bool:
        return other not in self.facts.data

    def _before_the_layers(self) -> tuple[set[int], set[Operation]]:
        """Return the values that are x before any layer, and the operations that shift and scale them.

        They are x rearranged, sliced, padded, shifted and scaled, feature by feature.
        """
        near, early = {n for n in self.facts.origin if self.facts.is_input(n)}, set()
        for operation in self.graph.operations:
            live = [i for i, n in enumerate(operation.inputs) if n in self.facts.data]
            if len(live) != 1 or operation.inputs[live[0]] not in near:
                continue
            kind = kind_of(operation)
            if live[0] in kind.affine_sides:
                early.add(operation)
                near.update(operation.outputs)
            elif operation.name in ("neg", "pad") or kind.cuts or kind.arranges(operation, self.graph):
                near.update(operation.outputs)
        return near, early

    def run(self, start: Array) -> Array:
        (x,) = self.graph.arguments[1]
        relevance: dict[int, Array] = {self.graph.outputs[0]: start}
        inside = {o for layer in self.layers.values() for o in layer.operations}

        def give(number: int, part: Array) -> None:
            relevance[number] = relevance[number] + part if number in relevance else part

        for operation in reversed(self.graph.operations):
            if not any(n in self.facts.data for n in operation.outputs):
                continue
            here = [relevance.get(n) for n in operation.outputs]
            if all(part is None for part in here):
                continue
            layer = self.layers.get(operation.outputs[0])
            if layer is not None:
                assert here[0] is not None
                give(layer.product.data, self._layer(layer, here[0]))
            elif operation not in inside:
                full = [
                    jnp.zeros_like(self.values[n]) if part is None else part
                    for n, part in zip(operation.outputs, here, strict=True)
                ]
                for number, part in self._other(operation, full):
                    give(number, part)
        return relevance.get(x, jnp.zeros_like(self.values[x]))

    def _layer(self, layer: "_Layer", R: Array) -> Array:
        head, number = layer.product.operation, layer.product.data
        rule = self.first if number in self.near else self.rule
        self.used |= number in self.near
        a, w = self.values[number], self.values[layer.product.weight]
        last = layer.operations[-1]
        z = self.values[last.outputs[0]]
        after = [step.scale_and_shift(self.values[step.other]) for step in layer.steps]

        def product(a: Array, w: Array) -> Array:
            operands = [self.values[n] for n in head.inputs]
            operands[layer.product.data_side], operands[layer.product.side] = a, w
            return bind(head, operands)[0]

        def parts(above: Array, below: Array) -> tuple[Array, Array]:
            """Return the positive and the negative part of a layer's output, biases and scales included."""
            for scale, shift in after:
                if scale is not None:
                    positive, high, low = scale > 0, scale * above, scale * below
                    above, below = jnp.where(positive, high, low), jnp.where(positive, low, high)
                if shift is not None:
                    above, below = above + jnp.maximum(shift, 0), below + jnp.minimum(shift, 0)
            return above, below

        def scaled(R: Array) -> Array:
            """Return a cotangent of the layer's output as one of the product's."""
            for scale, _ in reversed(after):
                R = R if scale is None else R * scale
            return R

        if rule.name in ("z", "epsilon"):
            G = scaled(_share(R, z, rule.epsilon if rule.name == "epsilon" else 0.0))
            return a * jax.vjp(lambda a: product(a, w), a)[1](G)[0]
        up, down = jnp.maximum(w, 0), jnp.minimum(w, 0)
        if rule.name == "alpha-beta":
            halves = (jnp.maximum(a, 0), jnp.minimum(a, 0))

            def split(high: Array, low: Array) -> tuple[Array, Array]:
                return parts(product(high, up) + product(low, down), product(high, down) + product(low, up))

            (above, below), pull = jax.vjp(split, *halves)
            G = pull((rule.alpha * _share(R, above, 0.0), -rule.beta * _share(R, below, 0.0)))
            return halves[0] * G[0] + halves[1] * G[1]
        if rule.name == "w2":
            ones = jnp.ones_like(a)
            G = _share(R, product(ones, w**2), 0.0)
            return jax.vjp(lambda a: product(a, w**2), ones)[1](G)[0]
        if any(scale is not None for scale, _ in after):
            raise NotImplementedError(
                f"z-box: a scale or a minus follows the layer ({last.source}); fold it into the weight."
            )
        edges = [self._at_edge(number, edge) for edge in (rule.low, rule.high)]
        low, high = jnp.minimum(*edges), jnp.maximum(*edges)
        # Without the bias, as published: the nearest root within the box.
        total = product(a, w) - product(low, up) - product(high, down)
        G = _share(R, total, 0.0)
        pulls = [jax.vjp(lambda a, m=m: product(a, m), a)[1](G)[0] for m in (w, up, down)]
        return a * pulls[0] - low * pulls[1] - high * pulls[2]

    def _at_edge(self, number: int, edge: ArrayLike) -> Array:
        """Return the smallest or the largest possible x, as a layer reads it."""
        a = self.values[number]
        if number not in self.near:
            return jnp.broadcast_to(jnp.asarray(edge, a.dtype), a.shape)
        (x,) = self.graph.arguments[1]
        at = jnp.broadcast_to(jnp.asarray(edge, self.values[x].dtype), self.values[x].shape)
        given = [at if n == x else value for n, value in zip(self.graph.inputs, self.arguments, strict=True)]
        return evaluate(self.graph, given, {number})[1][number]

    def _other(self, operation: Operation, R: list[Array]) -> list[tuple[int, Array]]:
        inputs, kind = operation.inputs, kind_of(operation)
        values, results = ([self.values[n] for n in numbers] for numbers in (inputs, operation.outputs))
        live = [i for i, n in enumerate(inputs) if n in self.facts.data]
        floating = [i for i in live if jnp.issubdtype(values[i].dtype, jnp.inexact)]
        if not floating:
            return []
        share = functools.partial(_share, epsilon=self.rule.epsilon if self.rule.name == "epsilon" else 0.0)
        flow = Relevance(operation, values, floating, results, R, share)
        # Before any layer each feature keeps its own relevance, also where a bias is added to it.
        parts = flow.passed_on() if operation in self.early else kind.relevance(flow)
        if parts is None:
            raise self._refusal(operation)
        return [(inputs[i], part) for i, part in zip(floating, parts, strict=True)]

    def _refusal(self, operation: Operation) -> NotImplementedError:
        culprit = listed(obstacle_behind(self.graph, self.facts, operation))
        return NotImplementedError(
            f"lrp: no rule for {culprit}. There are rules for linear and convolutional layers, relu and its kin, "
            "pools, sums and rearrangements. Leave a softmax at the end out of f. For smooth activations and attention "
            "use attribution.integrated_gradients, which needs no rules."
        )


@fused
def _share(R: Array, z: Array, epsilon: float | Array) -> Array:
    """Return `R / (z + epsilon sign(z))`, or zero where the denominator is zero."""
    z = z + epsilon * jnp.where(z >= 0, 1, -1).astype(z.dtype)
    return jnp.where(z == 0, 0, R / jnp.where(z == 0, 1, z))
