"""Matching: planted elements are found, results are no worse than those of SciPy, and barriers have a null."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from architectures import ARCHITECTURES, draw, multilayer, residual, rms_norm

import jaxdescramble as jd


@pytest.fixture(autouse=True)
def networks_may_promote_ranks():
    with jax.numpy_rank_promotion("allow"):
        yield


def distance(a, b):
    return sum(float(jnp.sum((one - two) ** 2)) for one, two in zip(*map(jax.tree.leaves, (a, b)), strict=True))


PLANTED = ["relu", "tanh", "gelu", "abs", "gated unit", "residual, rms norm", "gpt", "bert", "heads split", "lstm"]
PLANTED += ["gru", "resnet, batch norm", "unet", "convolutions in groups", "mixer", "flattened", "scanned blocks"]


@pytest.mark.parametrize("name", PLANTED)
def test_planted_elements_are_found(name):
    f, params, x, _ = ARCHITECTURES[name]
    known = jd.symmetries(f, params, x)
    other = jd.transform(f, params, x, known.random(jax.random.key(1)))
    before = distance(params, other)
    found = jd.match(f, params, other, x)
    assert distance(params, found.params) < 1e-5 * before
    assert found.cost == pytest.approx(distance(params, found.params), abs=1e-6 * before)
    assert found.history[0, 0] == pytest.approx(before, rel=1e-5)
    values = f(params, x)
    assert float(jnp.abs(f(found.params, x) - f(other, x)).max() / jnp.abs(values).max()) < (
        1e-11 if values.dtype == jnp.float64 else 1e-4
    )


def scipys(a, b, sweeps=50):
    """Coordinate descent over the orders of two hidden layers, with SciPy's assignment."""
    a, b = (jax.tree.map(np.asarray, one) for one in (a, b))
    first, second = np.arange(len(b["bias_a"])), np.arange(len(b["bias_b"]))
    before = None
    for _ in range(sweeps):
        score = a["a"].T @ b["a"] + np.outer(a["bias_a"], b["bias_a"]) + a["b"] @ b["b"][:, second].T
        first = scipy.optimize.linear_sum_assignment(-score)[1]
        score = a["b"].T @ b["b"][first] + np.outer(a["bias_b"], b["bias_b"]) + a["c"] @ b["c"].T
        second = scipy.optimize.linear_sum_assignment(-score)[1]
        if before is not None and (before[0] == first).all() and (before[1] == second).all():
            break
        before = first, second
    moved = {"a": b["a"][:, first], "bias_a": b["bias_a"][first], "b": b["b"][first][:, second]}
    return moved | {"bias_b": b["bias_b"][second], "c": b["c"][second]}


def inner(a, b):
    return sum(float(jnp.vdot(one, two)) for one, two in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_unrelated_networks_come_as_near_as_with_scipy(seed):
    keys = iter(jax.random.split(jax.random.key(seed), 12))
    shapes = {"a": (5, 20), "bias_a": (20,), "b": (20, 16), "bias_b": (16,), "c": (16, 9)}
    a, b = ({name: jax.random.normal(next(keys), shape) for name, shape in shapes.items()} for _ in range(2))
    f, x = multilayer(jax.nn.gelu), draw(30, 5)
    found = jd.match(f, a, b, x)
    assert inner(a, found.params) >= inner(a, scipys(a, b)) - 1e-4
    again = jd.match(f, a, b, x, restarts=4, key=jax.random.key(0))
    assert again.cost <= found.cost + 1e-4
    assert again.history.shape[1] == 5
    assert (np.diff(found.history[:-1, 0]) < 0).all()


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["relu", "residual, rms norm", "gpt", "lstm", "resnet, batch norm", "linear"])
@pytest.mark.every_case
def test_activations_find_planted_elements(name):
    f, params, x, _ = ARCHITECTURES[name]
    other = jd.transform(f, params, x, jd.symmetries(f, params, x).random(jax.random.key(2)))
    found = jd.match(f, params, other, x, by="activations")
    assert found.cost < 1e-5 * found.history[0, 0]
    assert float(jnp.abs(f(found.params, x) - f(params, x)).max() / jnp.abs(f(params, x)).max()) < 1e-4


@pytest.mark.thorough
def test_scales_of_orders_of_magnitude_are_found():
    f, params, x, _ = ARCHITECTURES["relu"]
    scales = np.geomspace(0.05, 20, 8)
    other = jd.transform(f, params, x, {"['a']": scales})
    other = jd.transform(f, other, x, {"['a']": np.random.default_rng(0).permutation(8)})
    found = jd.match(f, params, other, x)
    assert distance(params, found.params) < 1e-4 * distance(params, other)


def trained(f, params, x, y):
    optimiser = optax.adam(0.01)

    def loss(p):
        return optax.softmax_cross_entropy_with_integer_labels(f(p, x), y).mean()

    def step(state, _):
        p, memory = state
        updates, memory = optimiser.update(jax.grad(loss)(p), memory, p)
        return (optax.apply_updates(p, updates), memory), None

    return jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, length=300)[0][0])(params), loss


@pytest.mark.thorough
def test_matching_lowers_the_barrier_between_trained_networks_and_random_elements_do_not():
    keys = iter(jax.random.split(jax.random.key(0), 20))
    x = jax.random.normal(next(keys), (400, 5))
    y = jnp.argmax(jnp.tanh(x @ jax.random.normal(next(keys), (5, 7))) @ jax.random.normal(next(keys), (7, 9)), axis=1)
    f = multilayer(jax.nn.relu)
    shapes = {"a": (5, 32), "bias_a": (32,), "b": (32, 32), "bias_b": (32,), "c": (32, 9)}
    starts = [
        {name: jax.random.normal(next(keys), shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
        for _ in range(2)
    ]
    (a, loss), (b, _) = (trained(f, start, x, y) for start in starts)
    found = jd.match(f, a, b, x)
    line = found.barrier(loss, nulls=6)
    assert line.after < line.before
    assert line.after < line.null.min()
    assert line.losses_after[-1] == pytest.approx(line.losses_before[-1], abs=1e-5)
    assert line.losses_null.shape == (6, 11)
    assert "null=" in repr(line)


def test_bad_networks_are_refused(as_installed):
    f, params, x, _ = ARCHITECTURES["tanh"]
    with pytest.raises(ValueError, match="one structure"):
        jd.match(f, {"a": params["a"]}, params, x)
    with pytest.raises(ValueError, match=r"leaf \['bias_a'\] has the shapes"):
        jd.match(f, params | {"bias_a": jnp.ones(9)}, params, x)
    with pytest.raises(ValueError, match=r"b: leaf \['a'\] has numbers that are not finite"):
        jd.match(f, params, params | {"a": params["a"].at[0, 0].set(jnp.nan)}, x)
    with pytest.raises(ValueError, match="key"):
        jd.match(f, params, params, x, restarts=3)
    with pytest.raises(ValueError, match="by"):
        jd.match(f, params, params, x, by="gradients")
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda p: jd.match(f, p, p, x).cost)(params)
    with pytest.raises(ValueError, match="nothing to match"):
        jd.match(lambda p, x: x @ p, jnp.ones((5, 3)), jnp.ones((5, 3)), x)


@pytest.mark.thorough
def test_long_matches_report_stop_and_are_interrupted_with_the_best_so_far():
    f, x = residual(rms_norm), ARCHITECTURES["residual, rms norm"][2]
    params = ARCHITECTURES["residual, rms norm"][1]
    other = jd.transform(f, params, x, jd.symmetries(f, params, x).random(jax.random.key(1)))
    told = []
    jd.match(f, params, other, x, progress=lambda *news: told.append(news))
    assert told[0] == ("sweep 1", 1, 3)
    began = time.monotonic()
    stopped = jd.match(f, params, other, x, max_seconds=1e-3)
    assert stopped.cost <= distance(params, other) + 1e-4
    assert time.monotonic() - began < 20

    def press(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(jd.Interrupted) as caught:
        jd.match(f, params, other, x, progress=press)
    assert caught.value.result.cost < distance(params, other)
    assert len(caught.value.result.elements) == 3
