"""Mixtures of experts by `ragged_dot`: each group of rows has a weight of its own."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.attribution.switched import insens, project

X64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
TIGHT = 1e-11 if X64 else 1e-4
EXPERTS, ROWS = 3, 7


def network(params, x):
    """Rows go to the expert that a router chooses; one expert is two layers."""
    expert = jnp.argmax(x @ params["router"], axis=1)
    order = jnp.argsort(expert)
    sizes = jnp.bincount(expert, length=EXPERTS).astype(jnp.int32)
    hidden = jax.nn.relu(jax.lax.ragged_dot(x[order], params["up"], sizes))
    return jax.lax.ragged_dot(hidden, params["down"], sizes)[jnp.argsort(order)]


def fixed(params, x):
    """Rows in groups of sizes that do not depend on x; the last row has no expert."""
    sizes = jnp.asarray([2, 0, 4], jnp.int32)
    return jax.lax.ragged_dot(jax.nn.relu(jax.lax.ragged_dot(x, params["up"], sizes)), params["down"], sizes)


@pytest.fixture
def problem(key):
    keys = jax.random.split(key, 4)
    params = {
        "router": jax.random.normal(keys[0], (4, EXPERTS)),
        "up": jax.random.normal(keys[1], (EXPERTS, 4, 5)),
        "down": jax.random.normal(keys[2], (EXPERTS, 5, 2)),
    }
    return params, jax.random.normal(keys[3], (ROWS, 4))


@pytest.mark.both_precisions
@pytest.mark.parametrize("f", [network, fixed])
def test_experts_are_read_as_one_product(problem, f):
    params, x = problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no matrix is unread
        y, taps = jax.jit(jd.wiretap(f))(params, x)
    np.testing.assert_allclose(y, f(params, x), atol=TIGHT)
    assert list(taps) == ["['router']", "['up']", "['down']"][f is fixed :]
    up, down = taps["['up']"], taps["['down']"]
    assert (up.layout.lead, up.layout.out, up.layout.into, up.layout.samples) == ((), (5,), (EXPERTS, 4), (ROWS,))
    np.testing.assert_array_equal(up.weight, params["up"].reshape(-1, 5).T)
    for tap in (up, down):
        np.testing.assert_allclose(tap.weight @ tap.input, tap.preactivation, atol=10 * TIGHT)
        used = (tap.input.reshape(EXPERTS, -1, ROWS) != 0).any(1)
        assert (used.sum(0) <= 1).all()  # a row meets one expert
    assert up.layout.from_input == (f is fixed)


def test_neurons_are_permuted_alike_in_all_experts(problem):
    params, x = problem
    order = jnp.asarray([2, 0, 4, 1, 3])
    same = jd.reorder(network, params, x, "['up']", order)
    np.testing.assert_array_equal(same["up"], params["up"][:, :, order])
    np.testing.assert_array_equal(same["down"], params["down"][:, order])
    np.testing.assert_allclose(network(same, x), network(params, x), atol=10 * TIGHT)
    with pytest.raises(ValueError, match="cannot be reordered"):
        jd.reorder(network, params, x, "['router']", [1, 0, 2])
    before = {**params, "before": jnp.eye(4)}
    f = lambda params, x: fixed(params, jnp.tanh(x @ params["before"]))  # noqa: E731
    same = jd.reorder(f, before, x, "['before']", [1, 0, 3, 2])
    np.testing.assert_array_equal(same["up"], params["up"][:, jnp.asarray([1, 0, 3, 2])])
    np.testing.assert_allclose(f(same, x), f(before, x), atol=10 * TIGHT)


def test_a_frame_is_inserted_behind_the_experts_and_refused_before_them(problem, key):
    params, x = problem
    P = jax.random.normal(key, (5, 5)) + 3 * jnp.eye(5)
    g = jd.insert(network, params, x, {"['up']": P})
    np.testing.assert_allclose(g(params, x), network(params, x), atol=1e3 * TIGHT)
    with pytest.raises(ValueError, match="is a mixture of experts"):
        jd.insert(network, params, x, {}, {"['up']": jnp.eye(12)})


@pytest.mark.parametrize("f", [network, fixed])
def test_the_affine_piece_keeps_the_groups(problem, f):
    params, x = problem
    slope, bias = project(f, params, x, 0)
    expected = jax.grad(lambda x: f(params, x)[:, 0].sum())(x)  # rows do not mix
    np.testing.assert_allclose(slope, expected, atol=1e2 * TIGHT)
    np.testing.assert_allclose(jnp.sum(slope * x, 1) + bias, f(params, x)[:, 0], atol=1e2 * TIGHT)


@pytest.mark.parametrize("f", [network, fixed])
def test_the_sensitivity_is_the_same_by_probes_and_by_neurons(problem, f, key):
    params, x = problem
    exact = insens(f, params, x)
    mean = insens(f, params, x, "probes", key=key, probes=256)
    np.testing.assert_allclose(exact.map, mean.map, atol=0.3 * float(jnp.max(exact.map)))


@pytest.mark.parametrize("rule", ["epsilon", "alpha-beta"])
def test_relevance_is_that_of_the_row_s_own_expert(problem, rule):
    params, x = problem
    R = jd.attribution.lrp(fixed, params, x, 0, rule=rule)
    sizes, looped = (2, 0, 4, 1), []
    rows = jnp.split(x, np.cumsum(sizes)[:-1])
    for e, part in enumerate(rows[:3]):
        if len(part):
            own = lambda p, x, e=e: jax.nn.relu(x @ p["up"][e]) @ p["down"][e]  # noqa: E731
            looped.append(jd.attribution.lrp(own, params, part, 0, rule=rule))
    np.testing.assert_allclose(R[:6], jnp.concatenate(looped), atol=1e2 * TIGHT)
    np.testing.assert_array_equal(R[6], 0)


def test_experts_inside_a_scan(problem):
    params, x = problem
    square = jnp.tile(params["up"][:, :, :4][None], (2, 1, 1, 1))

    def f(params, x):
        sizes = jnp.asarray([2, 1, 4], jnp.int32)
        return jax.lax.scan(lambda x, w: (jnp.tanh(jax.lax.ragged_dot(x, w, sizes)), None), x, params)[0]

    def g(params, x):
        step = lambda c, n: (c, jax.lax.ragged_dot(x, params, n))  # noqa: E731
        return jax.lax.scan(step, 0, jnp.asarray([[2, 1, 4], [0, 7, 0]], jnp.int32))[1]

    for function, weight in ((f, square), (g, square[0])):
        (tap,) = jd.wiretap(function)(weight, x)[1].values()
        np.testing.assert_allclose(tap.weight @ tap.input, tap.preactivation, atol=10 * TIGHT)


def test_weights_of_samples_follow_the_rows(problem):
    params, x = problem
    weights = jnp.arange(float(ROWS))
    tap = jd.wiretap(fixed)(params, x, weights)[1]["['down']"]
    np.testing.assert_array_equal(tap.weights, weights)


def test_the_weight_decides_the_order_of_its_features(key):
    """Two contracted dimensions in another order than in the data, two free dimensions, the group in the middle."""
    numbers = jax.lax.RaggedDotDimensionNumbers(
        dot_dimension_numbers=(((0, 2), (3, 0)), ((), ())), lhs_ragged_dimensions=[1], rhs_group_dimensions=[2]
    )
    w, x = jax.random.normal(key, (5, 2, EXPERTS, 4, 3)), jax.random.normal(key, (4, ROWS, 5))
    sizes = jnp.asarray([3, 0, 4], jnp.int32)
    W = w[:, :, np.repeat(np.arange(EXPERTS), sizes)]
    y = jnp.einsum("irj,jarib->rab", x, W)
    operation = jax.make_jaxpr(lambda x, w: jax.lax.ragged_dot_general(x, w, sizes, numbers))(x, w)
    assert operation.out_avals[0].shape == y.shape
    _, taps = jax.eval_shape(jd.wiretap(lambda w, x: jax.lax.ragged_dot_general(x, w, sizes, numbers)), w, x)
    tap = taps["params"]
    assert (tap.layout.out, tap.layout.into) == ((2, 3), (EXPERTS, 5, 4))
    try:
        _, taps = jd.wiretap(lambda w, x: jax.lax.ragged_dot_general(x, w, sizes, numbers))(w, x)
    except NotImplementedError:
        pytest.skip("this release of JAX cannot compute it")
    tap = taps["params"]
    np.testing.assert_allclose(tap.preactivation, y.reshape(ROWS, -1).T, atol=10 * TIGHT)
    np.testing.assert_allclose(tap.weight @ tap.input, tap.preactivation, atol=10 * TIGHT)


def test_sums_over_groups_are_not_read(problem):
    """As in derivatives of a weight: the rows are contracted."""
    _, x = problem
    numbers = jax.lax.RaggedDotDimensionNumbers(
        dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0], rhs_group_dimensions=[]
    )
    sizes, w = jnp.asarray([2, 1, 4], jnp.int32), jnp.ones((ROWS, 2))
    with pytest.warns(jd.JaxdescrambleWarning, match="No layer is read .* by `ragged_dot"):
        assert not jax.eval_shape(jd.wiretap(lambda w, x: jax.lax.ragged_dot_general(x, w, sizes, numbers)), w, x)[1]
