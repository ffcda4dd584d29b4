"""The registry of kinds of operations: a new kind of layer is one class and one entry."""

import ast
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

import jaxdescramble as jd
from jaxdescramble.networks import kinds
from jaxdescramble.networks.axes import axis
from jaxdescramble.networks.kinds.dense import Dense
from jaxdescramble.networks.kinds.products import LayerKind, Product
from jaxdescramble.networks.tracing import trace

PACKAGE = Path(jd.__file__).parent
TURNED = (((1,), (1,)), ((), ()))  # x W^T

turned_dot = Primitive("turned_dot")
turned_dot.def_impl(lambda x, w, dimension_numbers: x @ w.T)


@turned_dot.def_abstract_eval
def _(x, w, dimension_numbers):
    return x.update(shape=(x.shape[0], w.shape[0]))


class TurnedDot(Dense):
    """A product with the transpose of its weight, which is the second operand."""

    primitives = frozenset({"turned_dot"})
    weight_sides = (1,)


def network(params, x):
    return jnp.tanh(turned_dot.bind(x, params["a"], dimension_numbers=TURNED)) @ params["b"]


@pytest.fixture
def problem(key):
    keys = jax.random.split(key, 3)
    params = {"a": jax.random.normal(keys[0], (4, 3)), "b": jax.random.normal(keys[1], (4, 2))}
    return params, jax.random.normal(keys[2], (5, 3))


def test_a_new_kind_of_layer_is_one_class_and_one_entry(problem, monkeypatch):
    params, x = problem
    with pytest.warns(jd.JaxdescrambleWarning, match=r"No layer is read .* \['a'\] \(4, 3\) by `turned_dot`"):
        assert list(jd.wiretap(network)(params, x)[1]) == ["['b']"]
    with pytest.raises(ValueError, match="there is no layer"):
        jd.reorder(network, params, x, "['a']", [2, 0, 1, 3])
    monkeypatch.setitem(kinds.BY_PRIMITIVE, "turned_dot", [TurnedDot()])
    y, taps = jd.wiretap(network)(params, x)
    tap = taps["['a']"]
    np.testing.assert_array_equal(tap.weight, params["a"])
    np.testing.assert_array_equal(tap.input, x.T)
    np.testing.assert_allclose(tap.activation, jnp.tanh(params["a"] @ x.T), rtol=1e-5)
    np.testing.assert_allclose(y, network(params, x), rtol=1e-5)
    order = jnp.asarray([2, 0, 1, 3])
    same = jd.reorder(network, params, x, "['a']", order)
    np.testing.assert_array_equal(same["a"], params["a"][order])
    np.testing.assert_allclose(network(same, x), y, rtol=1e-5)
    g = jd.insert(network, params, x, {"['a']": jnp.eye(4) + 0.1}, {"['a']": jnp.eye(3) - 0.1})
    np.testing.assert_allclose(g(params, x), y, rtol=1e-4)


def test_what_makes_layers_is_named_in_its_own_file_only():
    names = {name for kind in kinds.KINDS if isinstance(kind, LayerKind) for name in kind.primitives}
    assert names >= {"dot_general", "conv_general_dilated"}
    found: dict[str, set[str]] = {name: set() for name in names}
    for path in [*PACKAGE.glob("networks/**/*.py"), *PACKAGE.glob("attribution/**/*.py")]:
        if path == PACKAGE / "networks" / "kinds" / "__init__.py":
            continue  # the list of files
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names:
                found[node.value].add(path.name)
    assert found["dot_general"] == {"dense.py"}
    assert found["conv_general_dilated"] == {"convolution.py"}
    for name, files in found.items():
        assert len(files) == 1, (
            f"{name!r} makes layers, and is named in {sorted(files)}. Name it in the file of one kind only; another "
            "kind of the same primitive says `primitives = ThatKind.primitives`, and other code asks the kind."
        )


def convolution(**groups):
    return lambda w, x: jax.lax.conv_general_dilated(x, w, (1,), "SAME", **groups)


# A function of one operation, the shapes of its weight and of x, with the samples first, and the kind.
EXAMPLES = [
    (lambda w, x: x @ w, (3, 2), (4, 3), "Dense"),
    (convolution(), (4, 2, 3), (4, 2, 5), "Convolution"),
    (convolution(feature_group_count=2), (4, 1, 3), (4, 2, 5), "GroupedConvolution"),
    (convolution(batch_group_count=2), (4, 2, 3), (4, 2, 5), "BatchGroupedConvolution"),
    (lambda w, x: jax.lax.ragged_dot(x, w, jnp.asarray([1, 3])), (2, 3, 2), (4, 3), "Experts"),
]
LAYER_KINDS = {type(kind).__name__: kind for kind in kinds.KINDS if isinstance(kind, LayerKind)}


@pytest.mark.parametrize(
    ("f", "weight", "x", "kind"),
    [
        *EXAMPLES,
        (lambda w, x: jax.lax.stop_gradient(x), (1,), (4,), "StopGradient"),
        (lambda w, x: x**2, (1,), (4,), "Power"),
        (lambda w, x: jnp.tanh(x), (1,), (4,), "Curve"),
        (lambda w, x: jax.lax.top_k(x, 2)[0], (1,), (4,), "Kind"),
    ],
)
def test_the_first_kind_that_holds_is_taken(f, weight, x, kind):
    (operation,) = trace(f, jnp.ones(weight), jnp.ones(x)).operations
    assert type(kinds.kind_of(operation)).__name__ == kind


def test_every_kind_of_layer_has_an_example():
    assert {kind for *_, kind in EXAMPLES} == set(LAYER_KINDS)


@pytest.mark.every_case
@pytest.mark.parametrize(("f", "weight", "x", "kind"), [one for one in EXAMPLES if LAYER_KINDS[one[-1]].weight_sides])
def test_every_kind_of_layer_keeps_the_promises_of_a_tap(f, weight, x, kind, key):
    weight, x = (jax.random.normal(k, shape) for k, shape in zip(jax.random.split(key), (weight, x), strict=True))
    weights = jnp.arange(1.0, 1.0 + len(x))
    y, taps = jd.wiretap(f)(weight, x, weights)
    np.testing.assert_array_equal(y, f(weight, x))
    (tap,) = taps.values()
    assert tap.bias is None
    np.testing.assert_allclose(tap.weight @ tap.input, tap.preactivation, atol=1e-5)
    np.testing.assert_allclose(jnp.sort(tap.preactivation.ravel()), jnp.sort(y.ravel()), atol=1e-5)
    columns = tap.preactivation.shape[-1]
    repeated = jnp.broadcast_to(jnp.repeat(weights, columns // len(x)), tap.weights.shape)
    np.testing.assert_array_equal(tap.weights, repeated)  # the samples are the slow part of the columns
    n = tap.weight.shape[-2]
    P = jax.random.normal(key, (*tap.layout.lead, n, n)) + 3 * jnp.eye(n)[(None,) * len(tap.layout.lead)]
    np.testing.assert_allclose(jd.insert(f, weight, x, {"params": P})(weight, x), y, atol=1e-4)


def test_calls_that_were_not_opened_are_elementwise_if_all_inside_is():
    (operation,) = trace(lambda w, x: jax.nn.relu(x), jnp.ones(1), jnp.ones(3)).operations
    assert operation.name.startswith("custom_jvp")
    assert kinds.kind_of(operation) is kinds.ELEMENTWISE


class Odd(TurnedDot):
    """A layer that answers the questions about layers in its own way."""

    why_no_inputs = "turns its input"

    def from_input(self, product, graph, is_input):
        return not is_input(product.data)

    def window(self, product):
        return (7,)


def test_a_kind_is_asked_where_x_begins_and_what_may_be_inserted(problem, monkeypatch):
    params, x = problem

    monkeypatch.setitem(kinds.BY_PRIMITIVE, "turned_dot", [TurnedDot()])
    plain = jd.wiretap(network)(params, x)[1]["['a']"].layout
    assert (plain.from_input, plain.window) == (True, ())
    monkeypatch.setitem(kinds.BY_PRIMITIVE, "turned_dot", [Odd()])
    odd = jd.wiretap(network)(params, x)[1]["['a']"].layout
    assert (odd.from_input, odd.window) == (False, (7,))
    with pytest.raises(ValueError, match=r"inputs: \['a'\] turns its input\. Put P at the layer before"):
        jd.insert(network, params, x, {}, {"['a']": jnp.eye(3)})


class NoWeight(Dense):
    """A product in which nothing acts as a weight, for rules of relevance."""

    def constant_side(self, live):
        return None


def test_relevance_asks_the_kind_what_acts_as_a_weight(problem, monkeypatch):
    params, x = problem

    def first(params, x):
        return x @ params["a"].T

    np.testing.assert_allclose(jd.attribution.lrp(first, params, x, 0).sum(1), first(params, x)[:, 0], rtol=1e-4)
    monkeypatch.setitem(kinds.BY_PRIMITIVE, "dot_general", [NoWeight()])
    with pytest.raises(NotImplementedError, match="no rule for `dot_general`"):
        jd.attribution.lrp(first, params, x, 0)


masked_dot = Primitive("masked_dot")
masked_dot.def_impl(lambda x, mask, w: (x * mask) @ w)


@masked_dot.def_abstract_eval
def _(x, mask, w):
    return x.update(shape=(x.shape[0], w.shape[1]))


class MaskedDot(LayerKind):
    """A product of three operands: data, a mask, and the weight."""

    primitives = frozenset({"masked_dot"})
    weight_sides = (2,)
    factors = (0, 2)
    reads_patches = True

    def product(self, name, operation, side, leaf, graph):
        (samples, into), _, (_, out) = (graph.shape(number) for number in operation.inputs)
        weight, patches, axes = (
            (axis(a, m), axis(b, n))
            for (a, m), (b, n) in (
                (("in", into), ("out", out)),
                (("sample", samples), ("in", into)),
                (("sample", samples), ("out", out)),
            )
        )
        sizes = {"out": (out,), "in": (into,), "sample": (samples,)}
        return Product(self, name, operation, side, leaf, weight, patches, axes, sizes)

    def patches(self, operation, operands):
        data, mask = operands
        assert isinstance(mask, jax.Array)  # also if it is a constant of f
        return data * mask


def masked(params, x):
    mask = jnp.asarray([[1.0, 0.0, 1.0]], x.dtype)
    return jnp.tanh(masked_dot.bind(x, jnp.repeat(mask, len(x), axis=0), params["a"].T))


def masked_by_a_constant(params, x):
    return jnp.tanh(masked_dot.bind(x, np.tile(np.asarray([[1, 0, 1]], x.dtype), (len(x), 1)), params["a"].T))


@pytest.mark.parametrize("f", [masked, masked_by_a_constant])
def test_a_kind_with_three_operands_changes_nothing_else(problem, monkeypatch, f):
    params, x = problem
    monkeypatch.setitem(kinds.BY_PRIMITIVE, "masked_dot", [MaskedDot()])
    y, taps = jd.wiretap(f)(params, x)
    np.testing.assert_array_equal(y, f(params, x))
    tap = taps["['a']"]
    np.testing.assert_array_equal(tap.input, x.T * jnp.asarray([[1.0], [0.0], [1.0]]))
    np.testing.assert_allclose(tap.weight @ tap.input, tap.preactivation, rtol=1e-5)
    g = jd.insert(f, params, x, {"['a']": jnp.eye(4) + 0.1})
    np.testing.assert_allclose(g(params, x), y, rtol=1e-4)
    with pytest.raises(ValueError, match="multiplies its weight with patches"):
        jd.insert(f, params, x, {}, {"['a']": jnp.eye(3)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"data_axes": p.data_axes[::-1]}, r"MaskedDot, layer \['a'\] .*`data_axes` does not fit `axes`"),
        (lambda p: {"data_axes": (*p.data_axes, ())}, "`data_axes` does not fit `axes`"),
        (lambda p: {"weight_axes": p.weight_axes[::-1]}, "`weight_axes` has the shape .4, 3., the array has .3, 4."),
        (lambda p: {"axes": p.axes[::-1]}, "`axes` has the shape"),
        (lambda p: {"sizes": {**p.sizes, "in": (2,)}}, "the axis 'in' has size 3 in `weight_axes`, but `sizes` says"),
        (lambda p: {"kind": Unfit()}, "Unfit.*`patches` returned the shape .5, 3, 1."),
    ],
)
@pytest.mark.every_case
def test_axes_that_do_not_fit_the_operation_are_named(problem, monkeypatch, change, message):
    params, x = problem

    class Wrong(MaskedDot):
        def product(self, *arguments):
            right = MaskedDot().product(*arguments)
            return dataclasses.replace(right, **change(right))

    monkeypatch.setitem(kinds.BY_PRIMITIVE, "masked_dot", [Wrong()])
    with pytest.raises(ValueError, match=message):
        jd.wiretap(masked)(params, x)


class Unfit(MaskedDot):
    """A layer whose patches have another shape than `product` says."""

    def patches(self, operation, operands):
        return operands[0][..., None]
