"""The interpreter: a graph runs as its function does, values come out and go in where they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.networks.axes import FOREIGN, Atom, axis, fold, regroup, unfold
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.facts import study
from jaxdescramble.networks.kinds import kind_of
from jaxdescramble.networks.layers import find_products
from jaxdescramble.networks.tracing import leaves_of, trace


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def close(actual, expected):
    expected = np.asarray(expected)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    tolerance = 50 * float(jnp.finfo(expected.dtype).eps) * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


def run(f, *arguments, wanted=(), replace=None):
    graph = trace(f, *arguments)
    outputs, found = evaluate(graph, leaves_of(arguments), wanted, replace)
    return jax.tree.unflatten(graph.tree, outputs), found


def names(block):
    return [operation.name for operation in block.operations]


def everything(params, x):
    """Each kind of call and loop once."""
    state = jax.jit(lambda v: jax.nn.softplus(v))(x @ params["w"])
    state = jax.checkpoint(lambda v: jnp.sin(v) + jax.nn.relu(v))(state)

    def step(carry, value):
        count, state = carry
        return (count + 1, jnp.tanh(state @ params["w"] + value)), {"sum": state.sum(), "count": count}

    carry, stacked = jax.lax.scan(step, (0, state), jnp.stack([x, 2 * x, -x]), reverse=True, unroll=2)
    state = jax.lax.cond(carry[1][0, 0] > 0, jnp.cos, jnp.sin, carry[1])
    state = jax.lax.while_loop(lambda v: v.sum() < 10, lambda v: v + 1, state)
    noise = jax.random.normal(params["key"], state.shape, state.dtype)
    return {"state": state + noise, "carry": carry, "stacked": stacked, "constant": 3.0, "input": params["w"]}


@pytest.mark.thorough
def test_a_graph_runs_as_its_function_does():
    params, x = {"w": normal(1, 4, 4), "key": jax.random.key(7)}, normal(2, 3, 4)
    result, _ = run(everything, params, x)
    expected = everything(params, x)
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    jax.tree.map(close, result, expected)
    jitted = jax.jit(lambda params, x: run(everything, params, x)[0])(params, x)
    jax.tree.map(close, jitted, expected)
    batch = jnp.stack([x, -2 * x])
    batched = jax.vmap(lambda x: run(everything, params, x)[0]["stacked"]["sum"])(batch)
    close(batched[1], everything(params, -2 * x)["stacked"]["sum"])


def test_derivatives_are_the_functions_own():
    @jax.custom_jvp
    def clipped(v):
        return jnp.minimum(v, 1.0)

    clipped.defjvps(lambda tangent, _, v: 5.0 * tangent)

    def f(w, x):
        def step(state, value):
            return clipped(state * w + value), None

        return jax.lax.scan(step, x[0], x)[0].sum()

    w, x = normal(1, 4), normal(2, 3, 4)
    close(jax.grad(lambda w: run(f, w, x)[0])(w), jax.grad(f)(w, x))
    close(jax.hessian(lambda w: run(f, w, x)[0])(w), jax.hessian(f)(w, x))


def test_calls_are_opened_and_dead_code_is_left_out():
    def f(params, x):
        jnp.exp(x @ params)  # for nothing
        return jax.jit(jax.checkpoint(lambda v: jax.nn.relu(jnp.sin(v))))(x @ params)

    graph = trace(f, normal(1, 4, 4), normal(2, 3, 4))
    assert names(graph) == ["dot_general", "sin", "custom_jvp_call"]
    assert graph.operations[-1].pointwise
    assert "test_interpreter.py" in graph.operations[1].source

    @jax.custom_vjp
    def layer(w, x):
        return jnp.tanh(x @ w)

    layer.defvjp(lambda w, x: (layer(w, x), (w, x)), lambda kept, g: (kept[0] * g.sum(), kept[1] * g.sum()))
    assert names(trace(layer, normal(1, 4, 4), normal(2, 3, 4))) == ["dot_general", "tanh", "custom_rule"]
    assert names(trace(layer, normal(1, 4, 4), normal(2, 3, 4), opened=True)) == ["dot_general", "tanh"]


def test_what_a_scan_does_not_change_is_moved_out():
    def f(params, x):
        def step(state, value):
            def inner(state, _):
                return jnp.tanh(state @ params.T), None  # the transpose belongs outside both loops

            return jax.lax.scan(inner, state + x[0] @ params, length=2)[0] + value, None

        return jax.lax.scan(step, x[0], x)[0]

    params, x = normal(1, 4, 4), normal(2, 3, 4)
    graph = trace(f, params, x)
    assert "transpose" in names(graph)
    assert "dot_general" in names(graph)
    outer = graph.operations[-1]
    assert sorted(set(names(outer.body))) == ["add", "scan"]
    (inner,) = (operation for operation in outer.body.operations if operation.name == "scan")
    assert names(inner.body) == ["dot_general", "tanh"]
    close(run(f, params, x)[0], f(params, x))


def test_values_inside_loops_come_out_stacked():
    def f(w, x):
        def step(state, value):
            def inner(state, _):
                return jnp.sin(state @ w), None

            return jax.lax.scan(inner, state + value, length=2)[0], None

        return jax.lax.scan(step, x[0], x, reverse=True)[0]

    w, x = normal(1, 4, 4), normal(2, 3, 4)
    graph = trace(f, w, x)
    facts = study(graph)
    (product,) = find_products(graph, facts)[0].values()
    read = product.operation.outputs[0]
    assert [loop.params["length"] for loop in facts.loops[read]] == [3, 2]
    assert facts.varying[read] == set(facts.loops[read])
    _, found = run(f, w, x, wanted=[read, *graph.inputs])
    expected, state = np.zeros((3, 2, 4)), x[0]
    for i in (2, 1, 0):
        state = state + x[i]
        for j in (0, 1):
            expected[i, j] = state @ w
            state = jnp.sin(state @ w)
    close(found[read], expected)
    np.testing.assert_array_equal(found[graph.inputs[1]], x)


def test_replacing_a_value_and_replacing_one_operand():
    def f(w, x):
        def step(state, value):
            product = state * value
            return product + product * w, product

        return jax.lax.scan(step, x[0], x)

    w, x = normal(1, 4), normal(2, 3, 4)
    graph = trace(f, w, x)
    first, second, total = graph.operations[-1].body.operations
    assert [first.name, second.name, total.name] == ["mul", "mul", "add"]

    def expected(whole, operand):
        state, products = x[0], []
        for i in range(3):
            product = state * x[i] + (10.0 * i if whole else 0)
            products.append(product)
            state = product + (0 if operand and i == 1 else product) * w
        return state, jnp.stack(products)

    def whole(value, steps):
        return value + 10.0 * steps[0]

    def operand(value, steps):
        return jnp.where(steps[0] == 1, 0, value)

    place = (second.outputs[0], second.inputs.index(first.outputs[0]))
    for replace, wanted in (({first.outputs[0]: whole}, (True, False)), ({place: operand}, (False, True))):
        outputs, _ = evaluate(graph, [w, x], replace=replace)
        jax.tree.map(close, tuple(outputs), expected(*wanted))
    outputs, _ = evaluate(graph, [w, x], replace={graph.inputs[0]: lambda value, steps: 0 * value})
    jax.tree.map(close, tuple(outputs), f(0 * w, x))


def test_dependence_goes_round_loops():
    def f(params, x):
        def step(carry, _):
            a, b, c = carry
            return (params, a, b + x), (a, c)

        return jax.lax.scan(step, (params, params, params), length=3)

    graph = trace(f, normal(1, 4), normal(2, 4))
    facts = study(graph)
    last_a, last_b, last_c, all_a, all_c = graph.outputs
    assert [value in facts.data for value in (last_a, last_b, last_c, all_a, all_c)] == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert all(value in facts.parameters for value in graph.outputs)


def test_views_of_leaves_are_followed():
    def f(params, x):
        w = jnp.transpose(params["w"].reshape(2, 3, 4), (2, 0, 1))[..., None].astype(jnp.float16)[:, 1]
        return w + x, params["w"][::2], jax.lax.dynamic_slice_in_dim(params["w"], 1, 2)

    graph = trace(f, {"w": normal(1, 6, 4)}, normal(2, 4, 3, 1).astype(jnp.float16))
    facts = study(graph)
    (weight,) = graph.arguments[0]
    (add,) = (operation for operation in graph.operations if operation.name == "add")
    assert facts.origin[add.inputs[0]] == (weight, "[:, 1:2, :, :]")
    views = [facts.origin.get(number) for number in graph.outputs]
    assert views == [None, (weight, "[0:6:2, :]"), None]


def test_axes_survive_splitting_merging_and_moving():
    value = jnp.arange(24).reshape(2, 3, 4)
    axes = (axis("a", 2), axis("b", 3), axis("c", 4))
    moved = tuple(axes[i] for i in (1, 2, 0))
    regrouped = regroup(moved, (3, 2, 1, 4))
    assert regrouped == ((Atom("b", 3, 1),), (Atom("c", 2, 2),), (), (Atom("c", 2, 1), Atom("a", 2, 1)))
    arranged = value.transpose(1, 2, 0).reshape(3, 2, 1, 4)
    np.testing.assert_array_equal(fold(arranged, regrouped, ["a", "b", "c"]), value)
    np.testing.assert_array_equal(unfold(value, regrouped, ["a", "b", "c"], arranged.shape), arranged)
    assert fold(value, axes, ["c", "none", "a", "b"]).shape == (4, 1, 2, 3)
    assert regroup(regrouped, (24,)) == ((Atom("b", 3, 1), Atom("c", 4, 1), Atom("a", 2, 1)),)
    assert regroup(axes, (4, 6)) is None  # would cut b unevenly


def test_axes_of_slices():
    w, x = normal(1, 6, 4), normal(2, 1)
    axes = (axis("a", 6), axis("b", 4))

    def cuts(f):
        graph = trace(f, w, x)
        (operation,) = graph.operations
        return [kind_of(operation).axes_after(operation, 0, i, axes, graph) for i in range(len(operation.outputs))]

    assert cuts(lambda w, x: w[2:4, :3]) == [(axis("a", 2), axis(FOREIGN, 3))]
    assert cuts(lambda w, x: w[::2]) == [(axis(FOREIGN, 3), axis("b", 4))]  # not neighbours
    assert cuts(lambda w, x: w[1:3]) == [(axis(FOREIGN, 2), axis("b", 4))]  # across parts
    assert cuts(lambda w, x: jnp.split(w, [2, 5], axis=0)) == [
        (axis(label, size), axis("b", 4)) for label, size in (("a", 2), (FOREIGN, 3), (FOREIGN, 1))
    ]
