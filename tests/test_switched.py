"""Switched projections and Insens: the identities that prove them, against full Jacobians."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.attribution.switched import centre, gates, insens, path_gates, patterns, project
from jaxdescramble.attribution.switched._neurons import read
from jaxdescramble.attribution.switched._reach import colours, reaches
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(x, w, stride=1):
    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=LAYOUT)


def dense(p, x):
    return jax.nn.relu(jax.nn.relu(x @ p["a"] + p["b"]) @ p["c"] + p["d"]) @ p["e"]


def mixed(p, x):
    h = jax.nn.leaky_relu(x @ p["a"] + p["b"])
    h = jax.nn.hard_tanh(h @ p["c"]) + jnp.clip(h @ p["c"], -0.5, 2) + jnp.abs(h @ p["f"])
    return jax.nn.relu6(3 * h) @ p["e"]


def pooled(p, x):
    h = nn.max_pool(jax.nn.relu(conv(x, p["k"]) + p["g"]), (2, 2), (2, 2))
    h = nn.avg_pool(jax.nn.relu(conv(h, p["l"])), (2, 2), (2, 2)).reshape(len(x), -1)
    h = h + jax.nn.relu(h @ p["m"])  # a skip
    return jax.nn.relu(h @ p["n"]) @ p["o"]


def normed(p, x):
    h = jax.nn.relu((conv(x, p["k"], 2) - p["g"]) * p["s"])
    h = jax.nn.relu(jnp.pad(conv(h, p["l"]), ((0, 0), (1, 0), (0, 1), (0, 0))))
    return h.max(axis=(1, 2)) @ p["q"]


SHAPES = {"a": (6, 5), "b": (1, 5), "c": (5, 4), "d": (1, 4), "e": (4, 3), "f": (5, 4), "k": (3, 3, 1, 2),
          "g": (1, 1, 1, 2), "l": (3, 3, 2, 3), "m": (12, 12), "n": (12, 7), "o": (7, 2), "s": (1, 1, 1, 2),
          "q": (3, 2)}  # fmt: skip
NETS = {"dense": dense, "mixed": mixed, "pooled": pooled, "normed": normed}


def drawn(seed=0, dtype=float):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {name: jax.random.normal(k, shape, dtype) for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)}


def inputs(net, batch=2, seed=9, dtype=float):
    shape = (8, 8, 1) if NETS[net] in (pooled, normed) else (6,)
    return jax.random.normal(jax.random.key(seed), (batch, *shape), dtype)


def oracle(net, p, x):
    """Omega of one sample from full Jacobians of the frozen network, neuron by neuron."""
    neurons, x = read(net, p, x)

    def values(z):
        pieces = neurons.follow(p, x, {neurons.x: z}, neurons.hidden)
        return {name: neurons.arranged(name, pieces.moved[n]) for name, n in neurons.hidden.items()}

    pieces = neurons.follow(p, x, {neurons.x: x}, neurons.hidden)
    total, count = np.zeros(x.shape[1:]), 0
    for name, J in jax.jacrev(values)(x).items():
        v = np.ravel(values(x)[name] - neurons.lowest(name, pieces))
        rows = np.reshape(J, (len(v), *x.shape[1:]))
        for value, w in zip(v, rows, strict=True):
            if value <= 0:
                count += 1
                total += value * w / max((w**2).sum(), 1e-300)
    return total / max(count, 1), count


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_insens_is_that_of_full_jacobians_by_every_route(name):
    p, x = drawn(), inputs(name)
    truth = [oracle(NETS[name], p, one[None]) for one in x]
    costs = dict(insens(NETS[name], p, x).costs)
    for route in costs:
        found = jax.jit(lambda p, x, route=route: insens(NETS[name], p, x, route=route, chunk_size=3))(p, x)
        assert found.route == route
        for k, (omega, count) in enumerate(truth):
            np.testing.assert_allclose(found.map[k], omega, rtol=0, atol=1e-14)
            assert int(found.count[k]) == count > 0


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_the_piece_is_the_network_and_its_slope_the_gradient(name):
    net, p, x = NETS[name], drawn(1), inputs(name)
    features = tuple(range(1, x.ndim))
    neurons, _ = read(net, p, x)
    for layer, index in [*((layer, 1) for layer in neurons.hidden), ("output", 0)]:
        w, b = project(net, p, x, (layer, index))
        there = neurons.follow(p, x, {neurons.x: x}, [layer])
        v = np.reshape(neurons.arranged(layer, there.real[neurons.value(layer)]), (2, -1))[:, index]
        np.testing.assert_allclose(jnp.sum(w * x, axis=features) + b, v, rtol=0, atol=1e-13)
    slope = jax.grad(lambda x: jnp.sum(net(p, x)[:, 0]))(x)
    np.testing.assert_allclose(project(net, p, x, 0).weight, slope, rtol=0, atol=1e-13)
    at = centre(net, p, x, 0)
    np.testing.assert_allclose(at.value, net(p, x)[:, 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(jnp.sum(at.contributions, axis=features), at.value, rtol=0, atol=1e-13)
    root = jnp.sum(project(net, p, x, 0).weight * at.centre, axis=features) + project(net, p, x, 0).bias
    np.testing.assert_allclose(root, 0, rtol=0, atol=1e-13)


def hidden_of(name, p, x):
    """Preactivations of some hidden layers, written without the library."""
    if name == "dense":
        first = x @ p["a"] + p["b"]
        return {"['a']": first, "['c']": jax.nn.relu(first) @ p["c"] + p["d"]}
    first = conv(x, p["k"]) + p["g"]
    second = conv(nn.max_pool(jax.nn.relu(first), (2, 2), (2, 2)), p["l"])
    h = nn.avg_pool(jax.nn.relu(second), (2, 2), (2, 2)).reshape(len(x), -1)
    return {"['k']": first, "['l']": second, "['m']": h @ p["m"], "['n']": (h + jax.nn.relu(h @ p["m"])) @ p["n"]}


@needs_x64
@pytest.mark.parametrize("name", ["dense", "pooled"])
def test_hidden_projections_are_the_gradients_of_preactivations(name):
    p, x = drawn(8), inputs(name)
    on = gates(NETS[name], p, x)
    for layer, v in hidden_of(name, p, x).items():
        np.testing.assert_array_equal(on[layer], v > 0)
        for index in (0, 3):

            def one(x, layer=layer, index=index):
                return jnp.sum(hidden_of(name, p, x)[layer].reshape(len(x), -1)[:, index])

            found = project(NETS[name], p, x, (layer, index))
            np.testing.assert_allclose(found.weight, jax.grad(one)(x), rtol=0, atol=1e-13)


@needs_x64
def test_insens_by_hand():
    p, x = jax.tree.map(np.asarray, drawn(11)), np.asarray(inputs("dense", 4))
    found = insens(dense, p, x)
    for k, one in enumerate(x):
        v1 = one @ p["a"] + p["b"][0]
        v2 = np.maximum(v1, 0) @ p["c"] + p["d"][0]
        rows = [(v, w) for v, w in zip(v1, p["a"].T, strict=True)]
        rows += [(v, w) for v, w in zip(v2, (p["a"] * (v1 > 0) @ p["c"]).T, strict=True)]
        silent = [(v, w) for v, w in rows if v <= 0]
        omega = sum(v * w / max(w @ w, 1e-300) for v, w in silent) / len(silent)
        np.testing.assert_allclose(found.map[k], omega, rtol=0, atol=1e-14)
        assert int(found.count[k]) == len(silent)


@needs_x64
def test_what_is_no_gate_is_none():
    W, x = jnp.eye(3), jnp.asarray([[-1.0, 1.0, 1.0]])

    def soft(W, x):  # a softmax begins with max(x, -inf)
        return jax.nn.softmax(jax.nn.relu(x @ W))

    assert gates(soft, W, x)["params"].tolist() == [[0, 1, 1]]
    assert int(insens(soft, W, x).count[0]) == 1
    assert set(gates(soft, W, x)) == {"params"}  # nor is the maximum that it subtracts a winner
    np.testing.assert_array_equal(path_gates(soft, W, x)[0], [[0, 1, 1]])
    with pytest.raises(ValueError, match=r"no gate.*`exp`"):
        insens(lambda W, x: jax.nn.softmax(x @ W), W, x)

    def stopped(W, x):  # what a stop_gradient stops is no part of the value
        return jax.nn.relu(jax.lax.stop_gradient(x) @ W + 1)

    w, b = project(stopped, W, x, ("params", 1))
    assert (w.tolist(), b.tolist()) == ([[0, 1, 0]], [1])


@needs_x64
def test_a_gate_after_a_gate_decides_on_what_it_reads():
    W, x = jnp.eye(2), jnp.asarray([[-0.3, 1.0]])

    def clipped(W, x):
        return jnp.clip(jax.nn.leaky_relu(x @ W, 0.1), -0.05, 1)

    # The slope of leaky_relu lies between: -0.3 becomes -0.03, which is above -0.05.
    assert [one.tolist() for one in gates(clipped, W, x).values()] == [[[0, 1]], [[1, 1]]]

    def chosen(W, x):
        return jax.nn.relu(jnp.where(x[:, :1] > 0, x @ W, 0))

    assert set(gates(chosen, W, x)) == {"input", "params"}


@pytest.mark.thorough
@needs_x64
def test_what_insens_does_not_see():
    p, x = drawn(2), inputs("dense", 3)
    omega = insens(dense, p, x).map
    scale, order = jnp.asarray([0.5, 2.0, 3.0, 1.0, 7.0]), jnp.asarray([3, 1, 4, 0, 2])
    scaled = p | {"a": p["a"] * scale[None], "b": p["b"] * scale[None], "c": p["c"] / scale[:, None]}
    turned = p | {"a": p["a"][:, order], "b": p["b"][:, order], "c": p["c"][order]}
    for same in (scaled, turned, p | {"e": -3 * p["e"]}):
        np.testing.assert_allclose(insens(dense, same, x).map, omega, rtol=0, atol=1e-14)
    shift = jnp.arange(6.0)[None]
    shifted = insens(dense, p | {"b": p["b"] - shift @ p["a"]}, x + shift)
    np.testing.assert_allclose(shifted.map, omega, rtol=0, atol=1e-13)
    Q = orthogonal.random(jax.random.key(5), 6)
    np.testing.assert_allclose(insens(dense, p | {"a": Q @ p["a"]}, x @ Q.T).map, omega @ Q.T, rtol=0, atol=1e-14)
    np.testing.assert_allclose(insens(dense, p | {"a": p["a"] / 4}, 4 * x).map, 4 * omega, rtol=0, atol=1e-13)
    # What it does see: a neuron that nobody listens to changes the mean.
    one_more = {"a": p["a"][:, :1], "b": -9 * jnp.ones((1, 1)), "c": jnp.zeros((4, 1)).T}
    dummy = p | {name: jnp.concatenate([p[name], more], 0 if name == "c" else 1) for name, more in one_more.items()}
    np.testing.assert_allclose(dense(dummy, x), dense(p, x), rtol=0, atol=1e-13)
    assert jnp.max(jnp.abs(insens(dense, dummy, x).map - omega)) > 0.05


@needs_x64
def test_a_step_past_the_centre_turns_every_neuron_of_the_first_layer():
    p, x = drawn(3), inputs("dense", 1)
    before = gates(dense, p, x)["['a']"][0]
    for i in range(5):
        omega = centre(dense, p, x, ("['a']", i)).sensitivity
        for reach, turned in ((0.9999, False), (1.0001, True)):
            after = gates(dense, p, x - reach * omega)["['a']"][0]
            assert bool(after[i] != before[i]) == turned


@needs_x64
def test_any_orthonormal_probes_give_the_same_norms():
    p, x = drawn(4), inputs("dense", 1)
    Q = orthogonal.random(jax.random.key(1), 6)

    def through(p, z):  # the same network, its input in another basis
        return dense(p, z @ Q)

    found = insens(through, p, x @ Q.T, route="forward")
    np.testing.assert_allclose(found.map @ Q, insens(dense, p, x, route="forward").map, rtol=0, atol=1e-14)


@needs_x64
def test_edges_of_the_definition():
    W = jnp.asarray([[1.0, 0.0, -1.0], [1.0, 0.0, 1.0]])

    def one(b, x):
        return jax.nn.relu(x @ W + b)

    x = jnp.asarray([[1.0, 1.0]])
    found = insens(one, jnp.asarray([[-4.0, -1.0, 0.0]]), x)  # v = -2; -1 with no weight; 0
    assert (int(found.count[0]), int(found.zero_weight_count[0]), float(found.largest_share[0])) == (3, 1, 1.0)
    np.testing.assert_allclose(found.map, -2 / 2 / 3 * jnp.ones((1, 2)), rtol=1e-15)
    active = insens(one, jnp.asarray([[1.0, 1.0, 1.0]]), x)
    assert (int(active.count[0]), float(jnp.abs(active.map).max())) == (0, 0.0)
    short = insens(one, jnp.asarray([[-4.0, -1.0, 0.0]]), x, cap=1.0)  # |v| / |w| = sqrt 2
    np.testing.assert_allclose(short.map, -1 / 3 / 2**0.5 * jnp.ones((1, 2)), rtol=1e-15)


@pytest.mark.thorough
@needs_x64
def test_pools_and_gates_may_change_places_and_ties_go_to_the_first():
    p, x = drawn(5), inputs("pooled")

    def after(p, x):
        return nn.max_pool(jax.nn.relu(conv(x, p["k"]) + p["g"]), (2, 2), (2, 2)).sum(axis=(1, 2)) @ p["f"][:2]

    def before(p, x):
        return jax.nn.relu(nn.max_pool(conv(x, p["k"]) + p["g"], (2, 2), (2, 2))).sum(axis=(1, 2)) @ p["f"][:2]

    one, two = (insens(net, p, x) for net in (after, before))
    np.testing.assert_allclose(one.map, two.map, rtol=0, atol=1e-15)
    assert one.count.tolist() == two.count.tolist()
    assert set(gates(before, p, x)) == {"['k']", "['k'] winner"}

    def pool(_, x):
        return nn.max_pool(x, (2, 2), (2, 2))

    flat = jnp.zeros((1, 4, 4, 1)).at[0, 3, 2, 0].set(1)
    assert gates(pool, None, flat)["input winner"].ravel().tolist() == [0, 2, 8, 14]
    assert project(pool, None, flat, 3).weight.ravel().nonzero()[0].tolist() == [14]
    assert project(pool, None, flat, 0).weight.ravel().nonzero()[0].tolist() == [0]


@needs_x64
def test_layers_in_a_scan_are_neurons_too():
    stack = jax.random.normal(jax.random.key(0), (3, 6, 6))

    def looped(W, x):
        return jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, W)[0]

    def unrolled(W, x):
        for w in W:
            x = jax.nn.relu(x @ w)
        return x

    x = inputs("dense", 2)
    one, two = insens(looped, stack, x), insens(unrolled, list(stack), x)
    np.testing.assert_allclose(one.map, two.map, rtol=0, atol=1e-14)
    assert one.count.tolist() == two.count.tolist()
    w = project(looped, stack, x, ("params", (1, 4)))
    np.testing.assert_allclose(w.weight, project(unrolled, list(stack), x, ("[1]", 4)).weight, rtol=0, atol=1e-14)


@pytest.mark.thorough
@needs_x64
def test_random_signs_come_near_and_single_precision_agrees(key):
    p, x = drawn(6), inputs("pooled")
    exact = insens(pooled, p, x)
    rough = insens(pooled, p, x, "probes", key=key, probes=400)
    for k in range(2):
        cosine = jnp.vdot(exact.map[k], rough.map[k]) / jnp.linalg.norm(exact.map[k]) / jnp.linalg.norm(rough.map[k])
        assert 0.99 < cosine < 1
    small = insens(pooled, jax.tree.map(jnp.float32, p), x.astype(jnp.float32))
    assert small.map.dtype == jnp.float32
    np.testing.assert_allclose(small.map, exact.map, rtol=0, atol=1e-5 * float(jnp.abs(exact.map).max()))


@pytest.mark.thorough
@needs_x64
def test_colours_are_as_far_apart_as_neurons_see():
    p, x = drawn(7), jax.random.normal(jax.random.key(2), (1, 16, 16, 1))

    def local(p, x):
        h = nn.max_pool(jax.nn.relu(conv(x, p["k"])), (2, 2), (2, 2))
        return jax.nn.relu(conv(h, p["l"])).mean(axis=(1, 2))

    neurons, _ = read(local, p, x)
    seen = reaches(neurons.graph, neurons.facts)
    assert [colours(neurons.graph, seen[n]) for n in neurons.hidden.values()] == [(3, 3, 1), (8, 8, 1)]
    costs = dict(insens(local, p, x).costs)
    np.testing.assert_allclose(costs["forward"] / costs["coloured"], 4.0)
    # And no neuron hears a pixel that its reach leaves out.
    for name, number in neurons.hidden.items():
        shape = neurons.graph.shape(number)
        w = project(local, p, x, (name, int(np.ravel_multi_index((shape[1] // 2, shape[2] // 2, 0), shape[1:])))).weight
        for axis, at in ((1, shape[1] // 2), (2, shape[2] // 2)):
            heard = np.flatnonzero(np.any(np.asarray(w) != 0, axis=tuple({0, 1, 2, 3} - {axis})))
            r = seen[number][axis]
            assert r.stride * at + r.low <= heard.min() <= heard.max() <= r.stride * at + r.high


def test_what_has_no_piece_is_named_with_its_line():
    def soft(W, x):
        return jax.nn.relu(jnp.tanh(x @ W) @ W)

    W, x = jnp.eye(3), jnp.ones((1, 3))
    with pytest.raises(NotImplementedError, match=r"`tanh` \(.*test_switched\.py:\d+.*relu, leaky_relu"):
        insens(soft, W, x)
    with pytest.raises(NotImplementedError, match="`exp`"):
        project(lambda W, x: jax.nn.softmax(x @ W), W, x, 0)
    with pytest.raises(NotImplementedError, match="`mul`"):
        project(lambda W, x: x * (x @ W), W, x, 0)
    # Before it, everything is known.
    hidden = project(lambda W, x: jax.nn.softmax(jax.nn.relu(x @ W)), W, x, ("params", 2))
    np.testing.assert_array_equal(hidden.weight, [[0, 0, 1]])


def test_loops_and_branches_do_not_hide_what_has_no_piece():
    W, x = jnp.stack([jnp.eye(3)] * 3), -jnp.ones((1, 3))

    def late(W, x):  # nothing is wrong before the second turn
        return jax.lax.scan(lambda h, w: (jnp.tanh(jax.nn.relu(h @ w)), None), x, W)[0]

    def early(W, x):
        return jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), jnp.tanh(x), W)[0]

    def branched(W, x):
        h = jax.nn.relu(x @ W[0])
        return jax.lax.cond(W[0, 0, 0] > 0, lambda h: jax.nn.relu(h @ W[1]), lambda h: h @ W[1], h)

    for net, operation in ((late, "tanh"), (early, "tanh"), (branched, "cond")):
        with pytest.raises(NotImplementedError, match=f"`{operation}`"):
            insens(net, W, x)
    for net in (late, early):
        with pytest.raises(NotImplementedError, match="`tanh`"):
            project(net, W, x, ("params", (1, 0)))


@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_named():
    p, x = drawn(0, jnp.float32), inputs("dense", 1, dtype=jnp.float32)
    for call, error, message in (
        (lambda: project(dense, p, x, ("nothing", 0)), ValueError, r"no layer is called 'nothing'; there are"),
        (lambda: project(dense, p, x, ("['a']", 5)), ValueError, "5 neurons, 0 to 4"),
        (lambda: project(dense, p, x, ("output", (0, 0))), ValueError, r"shape \(3,\)"),
        (lambda: project(lambda p, x: p["a"].T @ x[0], p, x, 0), ValueError, r"jax\.vmap\(f, \(None, 0\)\)"),
        (lambda: project(dense, p, x[0], 0), ValueError, "x: expected"),
        (lambda: project(dense, p, x, "['a']"), TypeError, r"neuron: got .*\(layer, index\)"),
        (lambda: insens(dense, p, x, "probes", key=jax.random.key(0), route="forward"), ValueError, "route"),
        (lambda: insens(lambda p, x: x @ p["a"], p, x), ValueError, "no gate"),
        (lambda: insens(dense, p, x, "guess"), ValueError, "method"),
        (lambda: insens(dense, p, x, "probes"), ValueError, "random signs"),
        (lambda: insens(dense, p, x, route="coloured"), ValueError, r"'coloured' does not lead"),
        (lambda: insens(dense, p, x, chunk_size=0), ValueError, "chunk_size"),
        (lambda: insens(dense, p, x.astype(jnp.int32)), TypeError, "x: got int32"),
        (lambda: project(lambda p, x: (x, x), p, x, 0), ValueError, "returned 2 arrays"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_routes_are_chosen_by_cost():
    wide = {
        "a": jnp.ones((50, 4)),
        "b": jnp.zeros((1, 4)),
        "c": jnp.ones((4, 4)),
        "d": jnp.zeros((1, 4)),
        "e": jnp.ones((4, 1)),
    }
    found = insens(dense, wide, jnp.ones((1, 50)))
    costs = dict(found.costs)
    assert found.route == "first layer" == min(costs, key=costs.__getitem__)
    assert [a for a, b in itertools.pairwise(sorted(costs.values())) if a == b] == []


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("batch", [1, 5, 4])  # 5 and 4 are also numbers of units
def test_networks_of_one_sample_under_vmap(batch):
    """Weights on the left, samples last: as Equinox writes its layers."""
    p, x = drawn(19), inputs("dense", batch)

    def one(p, x):
        first = jax.nn.relu(p["a"].T @ x + p["b"][0])
        return p["e"].T @ jax.nn.relu(p["c"].T @ first + p["d"][0])

    f = jax.vmap(one, (None, 0))
    np.testing.assert_allclose(f(p, x), dense(p, x), rtol=0, atol=1e-13)
    truth = insens(dense, p, x)
    for route in dict(truth.costs):
        np.testing.assert_allclose(insens(f, p, x, route=route).map, truth.map, rtol=0, atol=1e-14)
    for layer in ("['a']", "['c']"):
        np.testing.assert_array_equal(gates(f, p, x)[layer], gates(dense, p, x)[layer])
        for a, b in zip(project(f, p, x, (layer, 3)), project(dense, p, x, (layer, 3)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
        for a, b in zip(patterns(f, p, x, layer, 1), patterns(dense, p, x, layer, 1), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    wide = jax.random.normal(jax.random.key(3), (9, 6))
    behind = insens(lambda p, x: f(p, x @ wide), p, jax.random.normal(jax.random.key(4), (batch, 9)))
    assert behind.route == "first layer"


@pytest.mark.thorough
@needs_x64
def test_pools_under_vmap():
    p, x = drawn(20), inputs("pooled", 3)

    def after(p, x):
        h = nn.max_pool(jax.nn.relu(conv(x, p["k"]) + p["g"]), (2, 2), (2, 2))
        return h.sum(axis=(1, 2)) @ p["f"][:2]

    alone = jax.vmap(lambda p, x: after(p, x[None])[0], (None, 0))
    one, two = (insens(net, p, x, losers=True) for net in (after, alone))
    np.testing.assert_allclose(one.map, two.map, rtol=0, atol=1e-14)
    for name, piece in gates(after, p, x).items():
        np.testing.assert_array_equal(np.ravel(gates(alone, p, x)[name]), np.ravel(piece))


@needs_x64
@pytest.mark.parametrize("batch", [4, 5])  # 4 units behind a table of patches
def test_indexing_does_not_lose_the_samples(batch):
    W = jax.random.normal(jax.random.key(0), (4, 8)), jax.random.normal(jax.random.key(1), (3, 4))
    places, x = jnp.asarray([[0, 1, 2, 3], [2, 3, 4, 5]]), jax.random.normal(jax.random.key(2), (batch, 6))

    def one(W, r):
        return W[1] @ jax.nn.relu(W[0] @ r[places].reshape(8))

    def many(W, x):
        return jax.nn.relu(x[:, places].reshape(len(x), 8) @ W[0].T) @ W[1].T

    f = jax.vmap(one, (None, 0))
    np.testing.assert_allclose(f(W, x), many(W, x), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(gates(f, W, x)["[0]"], gates(many, W, x)["[0]"])
    np.testing.assert_allclose(insens(f, W, x).map, insens(many, W, x).map, rtol=0, atol=1e-14)


@needs_x64
def test_samples_that_cannot_be_followed_are_refused():
    W, x = jnp.eye(2), jnp.ones((4, 4))

    def mixed(W, x):  # samples and features in one axis, and cut another way
        return jax.nn.relu(jnp.transpose(x.reshape(2, 8)).reshape(8, 2) @ W).reshape(4, 4)

    with pytest.raises(ValueError, match="4 samples of x cannot be followed into it"):
        gates(mixed, W, x)
