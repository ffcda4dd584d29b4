"""A layer's neurons as patterns of the input, losers of max-pools, and biases from a pass with frozen gates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_switched import NETS, conv, dense, drawn, inputs, pooled

from jaxdescramble.attribution.switched import gates, insens, patterns, project
from jaxdescramble.attribution.switched._neurons import read

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize(("net", "layer"), [("dense", "['a']"), ("dense", "['c']"), ("pooled", "['l']"),
                                            ("pooled", "['m']"), ("mixed", "['a']")])  # fmt: skip
def test_an_output_is_the_sum_of_its_neurons(net, layer):
    p, x, f = drawn(12), inputs(net), NETS[net]
    features = tuple(range(1, x.ndim))
    found = jax.jit(lambda p, x: patterns(f, p, x, layer, 1, chunk_size=5))(p, x)
    np.testing.assert_allclose(jnp.sum(found.contribution, axis=1) + found.rest, f(p, x)[:, 1], rtol=0, atol=1e-13)
    whole = project(f, p, x, 1).weight
    through = jnp.einsum("bn,bn...->b...", found.effect, found.weight)
    np.testing.assert_allclose(through + found.bypass, whole, rtol=0, atol=1e-13)
    # Nothing goes around a layer of a plain network; around the skip's branch does.
    around = float(jnp.abs(found.bypass).max())
    assert around > 0.1 if layer == "['m']" else around < 1e-13
    for i in (0, 3):
        w, b = project(f, p, x, (layer, i))
        np.testing.assert_allclose(found.weight[:, i], w, rtol=0, atol=1e-14)
        np.testing.assert_allclose(found.value[:, i], jnp.sum(w * x, axis=features) + b, rtol=0, atol=1e-13)
    # What a neuron's sensitivity takes away is its value, all of it.
    moved = jnp.sum(found.weight * found.sensitivity, axis=tuple(range(2, found.weight.ndim)))
    np.testing.assert_allclose(moved, jnp.where(moved == 0, 0, found.value), rtol=0, atol=1e-13)
    if net == "dense":
        np.testing.assert_array_equal(found.effect == 0, ~found.active)
        on = gates(f, p, x)[layer].reshape(len(x), -1)
        np.testing.assert_array_equal(found.active, on > 0)


@pytest.mark.thorough
@needs_x64
def test_the_mean_silent_pattern_is_insens():
    p, x = drawn(13), inputs("dense", 3)
    total, count = 0, 0
    for layer in ("['a']", "['c']"):
        found = patterns(dense, p, x, layer)
        total = total + jnp.einsum("bn,bnd->bd", ~found.active * 1.0, found.sensitivity)
        count = count + jnp.sum(~found.active, axis=1)[:, None]
    np.testing.assert_allclose(total / jnp.maximum(count, 1), insens(dense, p, x).map, rtol=0, atol=1e-14)


@pytest.mark.thorough
@needs_x64
def test_some_neurons_are_those_of_all():
    p, x = drawn(14), inputs("pooled")
    every, some = patterns(pooled, p, x, "['n']", 0), patterns(pooled, p, x, "['n']", 0, neurons=[5, 2])
    np.testing.assert_allclose(some.weight, every.weight[:, jnp.asarray([5, 2])], rtol=0, atol=1e-14)
    rest = every.rest + jnp.sum(jnp.delete(every.contribution, jnp.asarray([5, 2]), axis=1), axis=1)
    np.testing.assert_allclose(some.rest, rest, rtol=0, atol=1e-13)


@needs_x64
@pytest.mark.parametrize("net", ["dense", "pooled"])
def test_biases_are_those_of_the_network_with_its_gates_frozen(net):
    """The same network written with masks in the place of its gates, run on nothing at all."""
    p, x = drawn(15), inputs(net)
    if net == "dense":
        on = [x @ p["a"] + p["b"] > 0]
        on.append((on[0] * (x @ p["a"] + p["b"])) @ p["c"] + p["d"] > 0)

        def frozen(z):
            first = z @ p["a"] + p["b"]
            second = (on[0] * first) @ p["c"] + p["d"]
            return {"['a']": first, "['c']": second, "output": (on[1] * second) @ p["e"]}

    else:
        first = conv(x, p["k"]) + p["g"]
        windows = first.reshape(2, 4, 2, 4, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 4, 4, 2, 4)
        winner = jax.nn.one_hot(jnp.argmax(jax.nn.relu(windows), axis=-1), 4)
        live = winner * (windows > 0)

        def frozen(z):
            one = conv(z, p["k"]) + p["g"]
            cut = one.reshape(2, 4, 2, 4, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(2, 4, 4, 2, 4)
            return {"['k']": one, "['l']": conv(jnp.sum(live * cut, axis=-1), p["l"])}

    for name, values in frozen(jnp.zeros_like(x)).items():
        there = frozen(x)[name].reshape(2, -1)
        for i in (0, 2):
            w, b = project(NETS[net], p, x, (name, i))
            np.testing.assert_allclose(b, values.reshape(2, -1)[:, i], rtol=0, atol=1e-13)
            np.testing.assert_allclose(jnp.sum((w * x).reshape(2, -1), axis=1) + b, there[:, i], rtol=0, atol=1e-13)


@needs_x64
def test_scaling_of_the_input_goes_with_the_biases():
    p, x = drawn(16), inputs("dense", 2)
    louder = p | {"b": 3 * p["b"], "d": 3 * p["d"]}
    np.testing.assert_allclose(insens(dense, louder, 3 * x).map, 3 * insens(dense, p, x).map, rtol=0, atol=1e-13)


@needs_x64
@pytest.mark.parametrize("pool_first", [False, True])
def test_losers_count_on_request(pool_first):
    p, x = drawn(17), inputs("pooled", 2)

    def net(p, x):
        h = conv(x, p["k"]) + p["g"]
        window = (1, 2, 2, 1)

        def pool(h):
            return jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, window, window, "VALID")

        h = jax.nn.relu(pool(h)) if pool_first else pool(jnp.transpose(jax.nn.relu(h), (0, 2, 1, 3)))
        return h.reshape(len(x), -1) @ p["n"].repeat(3, 0)[:32]

    found = insens(net, p, x, losers=True)
    w = jax.vmap(jax.jacrev(lambda x: (conv(x[None], p["k"]) + p["g"])[0]))(x).reshape(2, 128, 64)
    v = np.asarray((conv(x, p["k"]) + p["g"]).reshape(2, 8, 8, 2))
    for k in range(2):
        wins = np.zeros((8, 8, 2), bool)
        for i in range(0, 8, 2):
            for j in range(0, 8, 2):
                for c in range(2):
                    place = np.unravel_index(v[k, i : i + 2, j : j + 2, c].argmax(), (2, 2))
                    wins[i + place[0], j + place[1], c] = True
        silent = ((v[k] <= 0) | ~wins).ravel()
        omega = sum(v[k].ravel()[n] * w[k, n] / (w[k, n] ** 2).sum() for n in np.flatnonzero(silent)) / silent.sum()
        assert int(found.count[k]) == silent.sum() > int(insens(net, p, x).count[k])
        np.testing.assert_allclose(found.map[k].ravel(), omega, rtol=0, atol=1e-14)


@needs_x64
def test_who_is_heard_elsewhere_has_not_lost():
    p, x = drawn(18), inputs("pooled", 1)

    def skip(p, x):
        h = jax.nn.relu(conv(x, p["k"]))
        return (h.max(axis=(1, 2)) + h.sum(axis=(1, 2))) @ p["f"][:2]

    one, two = (insens(skip, p, x, losers=losers) for losers in (False, True))
    assert one.count.tolist() == two.count.tolist()
    neurons, _ = read(skip, p, x)
    assert list(neurons.hidden) == ["['k']"]


@pytest.mark.usefixtures("as_installed")
def test_bad_input_is_named():
    p, x = drawn(0, jnp.float32), inputs("dense", 1, dtype=jnp.float32)
    stack = jnp.ones((2, 6, 6), jnp.float32)
    for call, error, message in (
        (lambda: patterns(dense, p, x, "nothing"), ValueError, "no layer is called 'nothing'"),
        (lambda: patterns(dense, p, x, "['a']", 3), ValueError, "outputs 0 to 2"),
        (lambda: patterns(dense, p, x, "['a']", neurons=[5]), ValueError, "5 neurons, 0 to 4"),
        (lambda: patterns(dense, p, x, "['a']", neurons=[]), TypeError, "flat indices"),
        (lambda: patterns(dense, p, x, "['a']", chunk_size=0), ValueError, "chunk_size"),
        (
            lambda: patterns(
                lambda W, x: jax.lax.scan(lambda h, w: (jax.nn.relu(h @ w), None), x, W)[0], stack, x, "params"
            ),
            NotImplementedError,
            "inside a scan",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
