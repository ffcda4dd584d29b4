"""The registry of kinds of operations: a new kind of layer is one class and one entry."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

import jaxdescramble as jd
from jaxdescramble.networks import kinds
from jaxdescramble.networks.kinds.dense import Dense
from jaxdescramble.networks.kinds.products import LayerKind
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


@pytest.mark.parametrize(
    ("f", "weight", "x", "kind"),
    [
        (lambda w, x: x @ w, (3, 2), (4, 3), "Dense"),
        (convolution(), (4, 2, 3), (4, 2, 5), "Convolution"),
        (convolution(feature_group_count=2), (4, 1, 3), (4, 2, 5), "GroupedConvolution"),
        (convolution(batch_group_count=2), (4, 2, 3), (4, 2, 5), "BatchGroupedConvolution"),
        (lambda w, x: jax.lax.ragged_dot(x, w, jnp.asarray([1, 3])), (2, 3, 2), (4, 3), "Experts"),
        (lambda w, x: jax.lax.stop_gradient(x), (1,), (4,), "StopGradient"),
        (lambda w, x: x**2, (1,), (4,), "Power"),
        (lambda w, x: jnp.tanh(x), (1,), (4,), "Curve"),
        (lambda w, x: jax.lax.top_k(x, 2)[0], (1,), (4,), "Kind"),
    ],
)
def test_the_first_kind_that_holds_is_taken(f, weight, x, kind):
    (operation,) = trace(f, jnp.ones(weight), jnp.ones(x)).operations
    assert type(kinds.kind_of(operation)).__name__ == kind


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
