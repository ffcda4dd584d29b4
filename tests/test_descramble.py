"""The main verb on signals and on networks: batches, lists, summaries, held-out scores, files."""

import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import from_function, smoothness
from jaxdescramble.operators import derivative, from_matrix

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)


def waves(seed=0, n=16, m=60, modes=4):
    """Smooth signals on a circle of n points, each mode weaker than the last."""
    rng = np.random.default_rng(seed)
    T = derivative(n).basis[:, :modes]
    return jnp.asarray(T @ (rng.standard_normal((modes, m)) * 2.0 ** -np.arange(modes)[:, None]))


@pytest.mark.both_precisions
def test_scrambled_waves_come_back_smooth_and_generalise(key):
    S = waves()
    scrambled = orthogonal.random(key, 16) @ S
    found = jd.descramble(scrambled).check()
    assert int(found.rank) == 4
    assert float(found.value) <= float(smoothness()(jnp.eye(16), S)) + 100 * EPS
    assert float(found.initial_value) > 20 * float(found.value)
    assert abs(float(found.gap)) < 100 * EPS
    np.testing.assert_allclose(found.transform(scrambled), found.point @ scrambled, atol=100 * EPS)
    unseen = orthogonal.random(key, 16) @ waves(1)
    np.testing.assert_allclose(found.score(unseen), smoothness()(found.point, unseen), rtol=100 * EPS)
    assert float(found.score(unseen)) < 3 * float(found.value)


@pytest.mark.both_precisions
def test_batches_equal_loops_and_a_poisoned_layer_costs_the_others_nothing(key):
    S = jax.random.normal(key, (2, 3, 6, 20))
    together = jd.descramble(S)
    assert together.point.shape == (2, 3, 6, 6)
    for i in range(2):
        for j in range(3):
            alone = jd.descramble(S[i, j])
            np.testing.assert_allclose(together.value[i, j], alone.value, rtol=200 * EPS)
            np.testing.assert_allclose(together.point[i, j], alone.point, atol=1e4 * EPS)
    np.testing.assert_allclose(together.score(S), together.value, rtol=200 * EPS)
    bad = S.at[0, 1, 0, 0].set(jnp.nan).at[1, 2].set(0.0)
    found = jd.descramble(bad)
    assert found.status.tolist() == [[0, Status.NOT_FINITE, 0], [0, 0, Status.ZERO_SIGNALS]]
    np.testing.assert_allclose(found.value[0, 0], together.value[0, 0], rtol=200 * EPS)
    with pytest.raises(FloatingPointError, match=r"ZERO_SIGNALS in problems \[\[1, 2\]\]"):
        found.check()
    with pytest.raises(FloatingPointError, match="NaN or infinity"):
        jd.descramble(bad[0]).check()


def test_lists_of_different_sizes_and_streamed_summaries():
    mixed = jd.descramble([waves(0, 8), waves(1, 12, 7), waves(2, 8)])
    assert [found.point.shape[0] for found in mixed] == [8, 12, 8]
    objective, S = smoothness(), waves(0, 8, 50)
    summary = objective.empty(8, S.dtype)
    for start in range(0, 50, 9):
        summary = objective.update(summary, S[:, start : start + 9])
    np.testing.assert_allclose(jd.descramble(summary).value, jd.descramble(S).value, atol=100 * EPS)


def test_the_same_call_again_does_not_compile_again():
    from jaxdescramble.descrambling import solving

    jd.descramble(waves(), jd.objectives.smoothness(order=1))
    before = solving.solve_signals._cache_size()
    jd.descramble(waves(3), jd.objectives.smoothness(order=1))
    assert solving.solve_signals._cache_size() == before


def test_under_jit_and_grad_the_verb_is_a_jax_function():
    S = jax.random.normal(jax.random.key(0), (5, 12))
    value = jax.jit(lambda s: jd.descramble(s).value)
    step = 1e-5
    V = jax.random.normal(jax.random.key(1), S.shape)
    numerical = (value(S + step * V) - value(S - step * V)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jax.grad(value)(S) * V), numerical, rtol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [
        smoothness(),
        smoothness(order=3, boundary="neumann", scheme="difference", summary="gram"),
        smoothness(shape=(2, 3), boundary=("periodic", "neumann")),
        smoothness(operator=from_matrix(jnp.triu(jnp.ones((6, 6))))),
    ],
    ids=lambda objective: repr(objective)[:60],
)
def test_what_is_saved_is_what_is_loaded(tmp_path, objective):
    S = jax.random.normal(jax.random.key(0), (2, 6, 20))
    found = jd.descramble(S, objective)
    found.save(tmp_path / "deep" / "layer.npz")
    back = jd.Descrambling.load(tmp_path / "deep" / "layer.npz")
    chex.assert_trees_all_close(found, back, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(back.score(S), found.score(S), rtol=1e-10)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["layer.npz"]


def test_a_full_disk_leaves_the_old_file_and_a_broken_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "layer.npz"
    found = jd.descramble(waves())
    found.save(path)
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        jd.descramble(waves(1)).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(old[: len(old) // 2])
    with pytest.raises(ValueError, match="not a whole Descrambling file"):
        jd.Descrambling.load(path)
    with pytest.raises(FileNotFoundError):
        jd.Descrambling.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="not a whole Descrambling file"):
        jd.Descrambling.load(tmp_path / "other.npz")


# --- networks --------------------------------------------------------------------------------------------------------


def network(params, x):
    for name in ("a", "b"):
        x = jnp.tanh(x @ params[name]["kernel"] + params[name]["bias"][None])
    return x @ params["c"]["kernel"]


def parameters(key, sizes=(12, 10, 8, 5)):
    keys = jax.random.split(key, 6)
    return {
        name: {
            "kernel": jax.random.normal(keys[i], sizes[i : i + 2]) / 3,
            "bias": jax.random.normal(keys[3 + i], sizes[i + 1]),
        }
        for i, name in enumerate("abc")
    } | {"c": {"kernel": jax.random.normal(keys[2], sizes[2:])}}


@pytest.mark.both_precisions
def test_every_layer_of_a_network_both_sides(key):
    params, x = parameters(key), jax.random.normal(jax.random.key(1), (100, 12))
    layers = jd.descramble_network(network, params, x)
    assert list(layers) == ["['a']['kernel']", "['b']['kernel']", "['c']['kernel']"]
    first, middle, last = layers.values()
    assert first.input is None
    assert last.output is None
    np.testing.assert_allclose(
        middle.weight, middle.output.point @ params["b"]["kernel"].T @ middle.input.point.T, atol=100 * EPS
    )
    hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None]).T
    np.testing.assert_allclose(middle.input.value, jd.descramble(hidden).value, rtol=1e4 * EPS)
    # The function is the same with P^-1 P at every place that was looked at.
    inserted = jd.insert(
        network, params, x,
        {name: layer.output.point for name, layer in layers.items() if layer.output is not None},
        {name: layer.input.point for name, layer in layers.items() if layer.input is not None},
    )  # fmt: skip
    np.testing.assert_allclose(inserted(params, x), network(params, x), atol=1e3 * EPS)
    free = jd.descramble_network(network, params, x, ends="free")
    assert free["['a']['kernel']"].input is not None
    assert free["['c']['kernel']"].output is not None


def test_the_joint_tap_is_smooth_in_the_weight_as_well(key):
    params, x = parameters(key), jax.random.normal(jax.random.key(1), (100, 12))
    name = "['b']['kernel']"
    plain, joint = (jd.descramble_network(network, params, x, joint=flag)[name] for flag in (False, True))
    W, X = params["b"]["kernel"].T, jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None]).T
    m = np.linalg.norm(X, 2) / np.linalg.norm(W, 2)
    np.testing.assert_allclose(joint.input.value, jd.descramble(jnp.concatenate([m * W.T, X], axis=1)).value, rtol=1e-9)
    rough = [float(smoothness()(layer.input.point, W.T)) for layer in (plain, joint)]
    assert rough[1] < rough[0]


def test_a_network_without_linear_layers_and_wrong_words_are_refused(key):
    with pytest.raises(
        ValueError, match=r"no linear layer .* convolution .* has the parameters params \(1, 3\), and app"
    ):
        jd.descramble_network(lambda p, x: x * p, jnp.ones((1, 3)), jnp.ones((4, 3)))
    with (
        pytest.warns(jd.JaxdescrambleWarning, match="No layer is read"),
        pytest.raises(
            ValueError, match=r"convolutions in groups.* f applies \['w'\] \(3, 3\) by `dot_general` \(.*descr"
        ),
    ):
        jd.descramble_network(lambda p, x: x @ jnp.abs(p["w"]), {"w": jnp.eye(3)}, jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="ends: got 'closed'"):
        jd.descramble_network(network, parameters(key), jnp.ones((4, 12)), ends="closed")


def test_the_front_door_has_about_forty_names_and_no_framework_behind_it():
    assert len(jd.__all__) <= 44  # forty, and the four verbs of the network's own frames
    assert all(hasattr(jd, name) for name in jd.__all__)
    names = ("flax", "equinox", "haiku", "matplotlib", "rich", "typer")
    code = f"import jaxdescramble, sys; print([name for name in {names} if name in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    )
    assert shown.stdout.strip() == "[]"


def user_objective(point, summary):
    return jnp.mean((point @ summary.signals)[0] ** 2)


@pytest.mark.thorough
@pytest.mark.usefixtures("as_installed")
def test_an_objective_without_closed_form_is_iterated_and_another_solver_may_be_given():
    S = waves()
    with pytest.raises(ValueError, match="'user_objective' gives no `operator`"):
        jd.descramble(S, from_function(user_objective), jd.exact.ClosedForm())
    # Of four modes one neuron can be turned out altogether.
    assert float(jd.descramble(S, from_function(user_objective)).check().value) < 1e-9
    found = jd.descramble(S, from_function(user_objective), solver=StandStill())
    np.testing.assert_allclose(found.value, jnp.mean(S[0] ** 2), rtol=1e-6)


@jax.tree_util.register_static
class StandStill:
    """The laziest solver there is: what any other has to look like from outside."""

    def __call__(self, objective, summary, group):
        n = summary.size
        value = objective(jnp.eye(n), summary)
        return jd.exact.Extremum(
            jnp.eye(n), value, jnp.zeros(()), jnp.ones(n), jnp.asarray(n), jnp.asarray(0, jnp.int32)
        )


def test_half_precision_networks_are_read_in_float32(key):
    params = {"a": jax.random.normal(key, (12, 8), jnp.bfloat16), "b": jnp.ones((8, 2), jnp.bfloat16)}
    x = jax.random.normal(key, (40, 12), jnp.bfloat16)
    layer = jd.descramble_network(lambda p, x: jnp.tanh(x @ p["a"]) @ p["b"], params, x)["['a']"]
    assert layer.weight.dtype == jnp.float32
    assert float(layer.sides["output"].check().value) < float(layer.sides["output"].initial_value)


def test_an_objective_for_each_side_and_errors_that_name_the_layer(key):
    params, x = parameters(key), jax.random.normal(jax.random.key(1), (100, 12))
    with pytest.raises(ValueError, match=r"layer \['b'\]\['kernel'\], output side; layer .*: smoothness: the grid"):
        jd.descramble_network(network, params, x, jd.objectives.smoothness(shape=(2, 5)))
    grids = {10: (2, 5), 8: (2, 4)}
    asked = []

    def choose(name, side, size):
        asked.append((name, side, size))
        return jd.objectives.smoothness(shape=grids[size]) if side == "output" else None

    layers = jd.descramble_network(network, params, x, lambda *side: choose(*side) if side[2] in grids else None)
    assert list(layers["['b']['kernel']"].sides) == ["output"]
    assert layers["['c']['kernel']"].sides == {}
    assert ("['b']['kernel']", "input", 10) in asked


def test_a_zero_layer_with_the_joint_tap_has_an_answer(key):
    params = parameters(key)
    params["b"]["kernel"] = jnp.zeros_like(params["b"]["kernel"])
    layers = jd.descramble_network(network, params, jax.random.normal(key, (50, 12)), joint=True)
    layers["['b']['kernel']"].input.check()


def test_summaries_in_lists_and_in_batches(key):
    objective, S = smoothness(), jax.random.normal(key, (3, 5, 20))
    batch = jax.vmap(objective.summarise)(S)
    np.testing.assert_allclose(jd.descramble(batch).value, jd.descramble(S).value, rtol=1e-10)
    listed = jd.descramble([objective.summarise(one) for one in S])
    np.testing.assert_allclose(listed[1].value, jd.descramble(S[1]).value, rtol=1e-10)


@jax.tree_util.register_static
class Doubled:
    """An operator that no file can hold."""

    size = 4
    multiplicities = (1, 2, 1)
    eigenvalues = 2 * derivative(4).eigenvalues
    basis = derivative(4).basis

    def apply(self, x):
        return 2**0.5 * derivative(4).apply(x)

    def analyse(self, x):
        return derivative(4).analyse(x)

    def synthesise(self, c):
        return derivative(4).synthesise(c)


@pytest.mark.usefixtures("as_installed")
def test_an_operator_that_no_file_can_hold_is_given_to_load_again(tmp_path, key):
    found = jd.descramble(jax.random.normal(key, (4, 9)), smoothness(operator=Doubled()))
    found.save(tmp_path / "found.npz")
    with pytest.raises(ValueError, match="pass it as load"):
        jd.Descrambling.load(tmp_path / "found.npz")
    back = jd.Descrambling.load(tmp_path / "found.npz", objective=found.objective)
    np.testing.assert_allclose(back.point, found.point)
