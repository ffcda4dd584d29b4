"""Layers inside `custom_vjp` and `custom_jvp` are read, and the function keeps the derivative that its author wrote."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import JaxdescrambleWarning
from jaxdescramble.networks.evaluate import evaluate
from jaxdescramble.networks.reordering import reorder
from jaxdescramble.networks.taps import insert, wiretap
from jaxdescramble.networks.tracing import leaves_of, trace


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), float)


def close(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    tolerance = 200 * float(jnp.finfo(expected.dtype).eps) * max(1.0, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(actual, expected, atol=tolerance, rtol=0)


@jax.custom_vjp
def layer(w, x):
    return jnp.tanh(x @ w)


# Clips the gradient: a rule that is not linear in what comes back, so that two results need one call.
layer.defvjp(
    lambda w, x: (layer(w, x), (w, x)),
    lambda kept, g: (kept[1].T @ jnp.clip(g, -0.1, 0.1), 7.0 * jnp.clip(g, -0.1, 0.1) @ kept[0].T),
)


@jax.custom_jvp
def forward(w, x):
    return jnp.tanh(x @ w)


forward.defjvp(lambda primals, tangents: (forward(*primals), 3.0 * tangents[1] + (primals[1] @ tangents[0])))


@jax.custom_vjp
def several(w, x):
    y = jnp.sin(x @ w)
    return {"y": y, "count": jnp.sum(y > 0), "weight": w.T, "energy": jnp.sum(y**2)}


several.defvjp(
    lambda w, x: (several(w, x), (w, x)),
    lambda kept, g: (jnp.full_like(kept[0], g["energy"]) + g["weight"].T, jnp.clip(5.0 * g["y"], -1, 1) @ kept[0].T),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scaled(scale, w, x):
    return scale * (x @ w)


scaled.defvjp(
    lambda scale, w, x: (scaled(scale, w, x), (w, x)),
    lambda scale, kept, g: (scale * kept[1].T @ g, 11.0 * g @ kept[0].T),
)


@jax.custom_vjp
def nested(w, x):
    return layer(w, layer(w, x)) @ w


nested.defvjp(lambda w, x: (nested(w, x), (w, x)), lambda kept, g: (2.0 * kept[0], g.sum() * kept[1]))


@jax.custom_vjp
def zeros(w, x):
    return jnp.tanh(x @ w)


def _zeros_fwd(w, x):
    return zeros(w.value, x.value), (w.value, x.value, 2.0 if w.perturbed else 5.0)


zeros.defvjp(_zeros_fwd, lambda kept, g: (kept[2] * kept[1].T @ g, kept[2] * g @ kept[0].T), symbolic_zeros=True)


@jax.custom_vjp
def searched(w, x):
    """No layer inside, but a loop that cannot be differentiated backward: the rule is all there is."""
    return jax.lax.while_loop(lambda v: jnp.sum(v) < 100.0, lambda v: 2.0 * v, jnp.abs(x)) * w[:1]


searched.defvjp(lambda w, x: (searched(w, x), (w, x)), lambda kept, g: (jnp.ones_like(kept[0]), g))


def in_a_scan(w, x):
    return jax.lax.scan(lambda x, _: (x + layer(w, x), forward(w, x).sum()), x, length=3)


FUNCTIONS = {
    "vjp": layer,
    "bias after it": lambda w, x: jnp.sin(layer(w, x) + w[0][None]),
    "layer around it": lambda w, x: jnp.tanh(layer(w, jnp.sin(x @ w))) @ w,
    "several results": several,
    "some results unused": lambda w, x: several(w, x)["y"] @ several(w, x)["weight"],
    "nondiff": lambda w, x: scaled(2.0, w, x),
    "nested": nested,
    "symbolic zeros": zeros,
    "scan": in_a_scan,
    "scan over weights": lambda w, x: jax.lax.scan(lambda x, w: (layer(w, x), None), x, w)[0],
    "vmap": lambda w, x: jax.vmap(layer, (None, 0))(w, x[:, None]),
    "vmap of weights": lambda w, x: jax.vmap(layer, (0, None))(w, x),
    "jit and remat": lambda w, x: jax.checkpoint(jax.jit(layer))(w, x),
    "loop without layer": lambda w, x: searched(w, x @ w),
    "jvp": forward,
}
W, X = normal(1, 4, 4), normal(2, 5, 4)
STACKED = {name: jnp.stack([W, -2 * W, W.T]) for name in ("scan over weights", "vmap of weights")}


def loss(f):
    """A number in which every result counts."""
    return lambda w, x: sum(
        jnp.sum(jnp.cos(leaf) * (1.0 + i)) for i, leaf in enumerate(jax.tree.leaves(f(w, x))) if leaf.dtype == x.dtype
    )


def everything(f, w, x):
    """Results and gradients, all of floating type."""
    gradients = jax.grad(loss(f), (0, 1))(w, x)
    return jax.tree.map(lambda leaf: 1.0 * leaf, f(w, x)), gradients


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tape_and_insert_keep_the_gradient(name):
    f, w = FUNCTIONS[name], STACKED.get(name, W)
    taps = jax.eval_shape(wiretap(f), w, X)[1]
    assert taps
    sizes = {name: tap.weight.shape[-2] for name, tap in taps.items()}
    points = {name: jnp.eye(n) + 0.1 * normal(i, n, n) for i, (name, n) in enumerate(sizes.items())}
    inserted = insert(f, w, X, points)

    def tape(w, x):
        return wiretap(f)(w, x)[0]

    expected, *found = jax.jit(lambda w, x: [everything(g, w, x) for g in (f, tape, inserted)])(w, X)
    for one in found:
        jax.tree.map(close, one, expected)
    if name in ("several results", "scan"):  # eager: every operation for itself
        jax.tree.map(close, everything(tape, w, X), expected)


def test_figures_of_a_layer_with_another_rule():
    def f(w, x):
        return layer(w, x).mean()

    own = jax.grad(f)(W, X)
    body = jax.grad(lambda w: jnp.tanh(X @ w).mean())(W)
    assert np.abs(own - body).max() > 0.1
    close(jax.grad(lambda w: wiretap(f)(w, X)[0])(W), own)
    close(jax.grad(insert(f, W, X, {"params": 2 * jnp.eye(4)}))(W, X), own)


def test_taps_inside_are_read():
    tap = wiretap(lambda w, x: layer(w, x) @ w)(W, X)[1]["params"]
    close(tap.weight @ tap.input, tap.preactivation)
    close(tap.preactivation, (X @ W).T)
    close(tap.activation, jnp.tanh(X @ W).T)
    close(jax.grad(lambda w: wiretap(layer)(w, X)[1]["params"].preactivation.sum())(W), X.T @ jnp.ones((5, 4)))
    tap = wiretap(FUNCTIONS["bias after it"])(W, X)[1]["params"]
    close(tap.activation, FUNCTIONS["bias after it"](W, X).T)


def test_forward_mode_and_second_derivatives():
    def f(w, x):
        return jnp.sum(forward(w, x) ** 3)

    def derivatives(f):
        return jax.jvp(f, (W, X), (X.T @ X, X)), jax.hessian(f)(W, X)

    inserted = insert(f, W, X, {"params": jnp.eye(4) + 0.1 * normal(3, 4, 4)})
    functions = f, lambda w, x: wiretap(f)(w, x)[0], inserted
    expected, *found = jax.jit(lambda: [derivatives(g) for g in functions])()
    for one in found:
        jax.tree.map(close, one, expected)


def test_under_vmap_and_in_a_vmapped_gradient():
    xs = jnp.stack([X, -2 * X])
    for g in (lambda w, x: wiretap(layer)(w, x)[0], insert(layer, W, X, {"params": 2 * jnp.eye(4)})):
        close(jax.vmap(g, (None, 0))(W, xs), jax.vmap(layer, (None, 0))(W, xs))
        expected = jax.vmap(jax.grad(loss(layer)), (None, 0))(W, xs)
        close(jax.vmap(jax.grad(loss(g)), (None, 0))(W, xs), expected)


def test_what_is_inserted_shows_in_the_value():
    broken = {"params": jnp.eye(4).at[0, 1].set(jnp.nan)}
    assert np.isnan(insert(layer, W, X, broken)(W, X)).all()
    found = insert(several, W, X, broken)(W, X)
    assert np.isnan(found["y"]).all()
    assert np.isnan(found["energy"])
    assert int(found["count"]) == 0  # of nan none is positive
    np.testing.assert_array_equal(found["weight"], W.T)


def test_a_replaced_value_goes_on_and_the_derivative_stays():
    graph = trace(layer, W, X)
    assert [operation.name for operation in graph.operations] == ["dot_general", "tanh", "custom_rule"]
    product = graph.operations[0].outputs[0]

    def changed(w, x):
        return evaluate(graph, leaves_of((w, x)), replace={product: lambda value, _: 1e30 * jnp.sign(value)})[0][0]

    close(changed(W, X), jnp.sign(X @ W))
    close(jax.grad(lambda w: changed(w, X).sum())(W), jax.grad(lambda w: layer(w, X).sum())(W))
    infinite = evaluate(graph, [W, X], replace={graph.operations[1].outputs[0]: lambda v, _: v * jnp.inf})[0][0]
    assert np.isinf(infinite).all()


def test_bodies_nobody_asked_for_are_not_run_and_prints_come_once(capfd):
    @jax.custom_vjp
    def loud(w, x):
        jax.debug.print("once {}", x.sum())
        return jnp.tanh(jax.lax.scan(lambda x, _: (jax.debug.print("turn"), (x @ w, None))[1], x, length=2)[0])

    loud.defvjp(lambda w, x: (loud(w, x), x), lambda kept, g: (jnp.zeros((4, 4)), g))

    def f(w, x):
        return loud(w, x) @ w

    def printed(run, *arguments):
        jax.block_until_ready(run(*arguments))
        jax.effects_barrier()
        out = capfd.readouterr().out
        return out.count("once"), out.count("turn")

    assert printed(f, W, jnp.ones((3, 4))) == (1, 2)
    graph = trace(f, W, X)
    assert printed(lambda: evaluate(graph, [W, X])[0]) == (1, 2)
    assert printed(jax.jit(lambda: evaluate(graph, [W, X])[0])) == (1, 2)
    assert printed(wiretap(f), W, X)[0] == 1
    ran = str(jax.make_jaxpr(lambda w, x: evaluate(graph, [w, x])[0])(W, X))
    assert ran.count("scan[") == 1  # that of the call


def test_a_body_that_writes_is_opened_with_a_warning():
    total = jax.new_ref(jnp.zeros(()))

    @jax.custom_vjp
    def counting(w, x):
        total[...] += x.sum()
        return jnp.tanh(x @ w)

    counting.defvjp(lambda w, x: (counting(w, x), x), lambda kept, g: (jnp.zeros((4, 4)), g))
    with pytest.warns(JaxdescrambleWarning, match=r"custom_vjp_call.*test_custom_rules\.py.*Ref.*derivative"):
        result, taps = wiretap(lambda w, x: counting(w, x))(W, jnp.ones((3, 4)))
    assert float(total[...]) == 12.0
    close(taps["params"].activation, result.T)


def test_neurons_are_followed_through_a_rule():
    def f(params, x):
        return layer(params["a"], x) @ params["b"]

    params, order = {"a": normal(1, 4, 6), "b": normal(2, 6, 3)}, [3, 1, 5, 0, 2, 4]
    changed = reorder(f, params, X, "['a']", order)
    np.testing.assert_array_equal(changed["a"], params["a"][:, jnp.asarray(order)])
    close(f(changed, X), f(params, X))
    with pytest.raises(ValueError, match=r"`tanh` at .*test_custom_rules\.py.* computes the function's result"):
        reorder(lambda w, x: layer(w, x), W, X, "params", [1, 0, 2, 3])
