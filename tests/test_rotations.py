"""Rotations for quantisation: frames that cost nothing, rounding, rules that learn, and the table."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.studies.rotations import bert, experiment, frames, learning, tables, text
from jaxdescramble.studies.rotations.quantising import Quantising
from jaxdescramble.studies.rotations.transformer import TransformerPlan, cross_entropy, folded, initial, network

PLAN = TransformerPlan(layers=1, width=16, heads=2, gated=16, length=8)
MINILM = os.environ.get("JAXDESCRAMBLE_PUBLISHED")


@pytest.fixture(scope="module")
def params():
    """Return parameters whose gains are not 1, as after a training."""
    drawn = initial(jax.random.key(0), PLAN)
    leaves, tree = jax.tree.flatten(drawn)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf * (1 + 0.3 * jax.random.normal(key, leaf.shape)) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), jax.tree.unflatten(tree, moved))


@pytest.fixture(scope="module")
def tokens():
    return jax.random.randint(jax.random.key(2), (3, PLAN.length), 0, 256)


def far(one, other):
    return float(jnp.abs(one - other).max() / jnp.abs(one).max())


@pytest.mark.thorough
def test_frames_cost_nothing_and_learning_moves_as_transform_does(params, tokens):
    flat, frame = folded(params, PLAN), frames.haar(jax.random.key(3), PLAN)
    exact = PLAN.network(params, tokens)
    assert far(exact, PLAN.network(flat, tokens)) < 1e-5
    known = jd.symmetries(PLAN.network, flat, tokens)
    assert known["['embedding']"].group.name == "O(16)"
    assert known["['blocks'][0]['v']"].group.name == "GL(8) at each of 2 places"
    after = frames.transformed(flat, frame, PLAN)
    assert far(exact, PLAN.network(after, tokens)) < 1e-5
    ours = frames.moved(flat, frame)
    assert max(jax.tree.leaves(jax.tree.map(far, after, ours))) < 1e-5
    assert far(flat["embedding"], after["embedding"]) > 0.1
    assert frames.off_orthogonal(frame) < 1e-6


@pytest.mark.thorough
def test_gains_refuse_a_rotation(params):
    with pytest.raises(ValueError, match="elements: that of"):
        frames.transformed(params, frames.haar(jax.random.key(3), PLAN), PLAN)


def test_outputs_and_tokens_have_their_own_steps():
    bits = Quantising(4, 8)
    W = np.random.default_rng(0).normal(size=(5, 9))
    errors = [np.abs(one - W).max(axis=1) for one in (bits.weight(jnp.asarray(W)), bits.activation(jnp.asarray(W)))]
    for error, levels in zip(errors, (7, 127), strict=True):
        assert (error <= np.abs(W).max(axis=1) / levels / 2 + 1e-12).all()
        assert error.max() > 0.2 / levels
    with pytest.raises(ValueError, match="bits"):
        Quantising(1, 8)


def test_rounding_reaches_every_product_of_the_blocks(params, tokens):
    exact = network(params, tokens, heads=2)
    for bits, least, most in (
        (Quantising(8, 8), 1e-4, 0.1),
        (Quantising(2, 8), 0.1, 9.0),
        (Quantising(8, 2), 0.1, 9.0),
    ):
        assert least < far(exact, network(params, tokens, heads=2, rounding=bits)) < most


def test_spinquants_step_is_a_cayley_transform(key):
    P = jd.manifolds.orthogonal.random(key, 6)
    G = 0.1 * jax.random.normal(key, (6, 6))
    rule = learning.spinquant(0.5, 100)
    moved = P + rule.update(G, rule.init(P), P)[0]
    # In transposed matrices, as the paper has it: X = P^T, W = A - A^T with A = -(1 - X X^T / 2) G^T X^T.
    X, eye = P.T, jnp.eye(6)
    A = -(eye - X @ X.T / 2) @ G.T @ X.T
    W = A - A.T
    assert float(jnp.abs(W).sum(axis=0).max()) < 2
    step = jnp.linalg.solve(eye - 0.25 * W, (eye + 0.25 * W) @ X)
    np.testing.assert_allclose(moved.T, step, atol=2e-4)
    assert float(jnp.abs(moved - P).max()) > 0.05
    # A long gradient is cut to 1 / ||W||_1.
    far_off = P + rule.update(100 * G, rule.init(P), P)[0]
    np.testing.assert_allclose(far_off @ far_off.T, eye, atol=0.05)


@pytest.mark.thorough
def test_the_rate_falls_along_a_cosine_and_many_matrices_move_at_once(key):
    P = jnp.stack([jd.manifolds.orthogonal.random(one, 4) for one in jax.random.split(key)])
    G = 0.1 * jax.random.normal(key, P.shape)
    rule = learning.spinquant(0.5, 2)
    state = rule.init(P)
    first, state = rule.update(G, state, P)
    second, state = rule.update(G, state, P)
    third, _ = rule.update(G, state, P)
    np.testing.assert_allclose(rule.update(G[0], rule.init(P[0]), P[0])[0], first[0], atol=1e-6)
    sizes = [float(jnp.abs(one).max()) for one in (first, second, third)]
    assert 0.4 < sizes[1] / sizes[0] < 0.6
    assert sizes[2] < 1e-6


def table(cost, **more):
    seeds, bits, methods = cost.shape
    fields = {"network": "a network", "measure": "a cost", "bits": ("W4A4",) * bits, "unrounded": np.zeros(seeds)}
    fields |= {"methods": ("none", "Hadamard", "learned")[:methods], "cost": cost, "timed": np.zeros((0, 2))}
    fields |= {"kurtosis": np.ones_like(cost), "seconds": np.ones_like(cost)}
    return tables.Rotations(**(fields | {"changed": np.zeros(seeds), "off": np.zeros(seeds)} | more))


def test_the_table_pairs_seeds_and_can_be_kept(tmp_path):
    noise = np.asarray([0.0, 1.0, 2.0])[:, None, None]
    found = table(np.asarray([3.0, 2.0, 1.0]) + noise)
    rows = {row.method: row for row in found.check().rows()}
    assert rows["learned"].value.mean == 2
    assert rows["learned"].beside == (-1, -1, -1)
    # Student's t with 2 degrees of freedom: 4.3027.
    assert np.isclose(rows["none"].value.high, 4 + 4.3027 / 3**0.5, atol=1e-4)
    ((_, difference, costs, seconds),) = found.paired("learned", "Hadamard")
    assert difference == (-1, -1, -1)
    assert np.isclose(costs.mean, (1 / 2 * 2 / 3 * 3 / 4) ** (1 / 3))
    assert seconds == (1, 1, 1)
    assert "| W4A4 | learned | 2 (-0.4841 to 4.484) | -1 (-1 to -1) | 1 | 1 |" in found.markdown()
    found.save(tmp_path / "table.npz")
    again = tables.Rotations.load(tmp_path / "table.npz")
    assert again.methods == found.methods
    np.testing.assert_array_equal(again.cost, found.cost)
    assert len(repr(found)) < 300
    assert found.to_dict()["bits"] == ["W4A4"]
    missing = found.cost.copy()
    missing[:, :, 2] = np.nan
    assert [row.method for row in table(missing).rows()] == ["none", "Hadamard"]


def test_a_table_names_all_its_failures():
    cost = np.ones((1, 1, 2))
    cost[0, 0, 1] = np.nan
    wrong = table(cost, off=np.asarray([0.5]), changed=np.asarray([np.nan]))
    with pytest.raises(FloatingPointError, match=r"no costs of Hadamard; .* orthogonal, .* 5\.0e-01; .* exact network"):
        wrong.check()
    with pytest.raises(FloatingPointError, match="not finite"):
        table(np.full((1, 1, 2), np.inf)).check()


def test_texts_come_from_files_and_a_missing_one_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="apt-get install perl-doc"):
        text.load(tmp_path)
    (tmp_path / "b.pod").write_bytes(b"b" * 9_000)
    (tmp_path / "a.pod").write_bytes(b"a" * 9_000)
    (tmp_path / "foreign.pod").write_bytes("中".encode() * 9_000)
    found = text.load(tmp_path)
    assert [len(part) for part in found] == [16_200, 900, 900]
    assert set(found.training[:9_000]) == {ord("a")}
    assert set(found.test) == {ord("b")}
    with pytest.raises(ValueError, match="100 windows of 128 need 12800"):
        text.windows(found.test, 128, 100)
    with pytest.raises(TypeError, match="path"):
        text.load(3)


@pytest.mark.parametrize("change", [{"heads": 3}, {"width": 0}, {"steps": 1.5}])
def test_plans_are_checked(change):
    with pytest.raises((ValueError, TypeError), match=next(iter(change))):
        dataclasses.replace(PLAN, **change)


@pytest.mark.thorough
def test_learning_lowers_what_it_minimises(params, tokens):
    flat, start = folded(params, PLAN), frames.hadamard(jax.random.key(4), PLAN)
    free = learning.data_free(start, flat, 20)
    assert learning.weight_kurtosis(free, flat) < 0.9 * learning.weight_kurtosis(start, flat)
    seen = learning.activations(flat, tokens, PLAN, 1000)
    assert seen.stream.shape == (16, 48)
    assert seen.heads.shape == (1, 2, 8, 24)
    data = learning.data_learned(start, seen, 20)
    assert learning.kurtosis(data.stream @ seen.stream) < 0.9 * learning.kurtosis(start.stream @ seen.stream)
    assert max(map(frames.off_orthogonal, (free, data))) < 1e-5
    bits, batches = Quantising(3, 3), jnp.broadcast_to(tokens, (40, *tokens.shape))
    for rule, rate in (("spinquant", 1.5), ("adam", 0.01)):
        made = learning.loss_learned(start, flat, batches, bits, PLAN, rule, rate)
        assert made.losses[-5:].mean() < made.losses[0] - 0.02
        assert frames.off_orthogonal(made.frame) < 1e-5
        after = network(frames.transformed(flat, made.frame, PLAN), tokens, heads=2)
        assert far(PLAN.network(flat, tokens), after) < 1e-4


@pytest.mark.thorough
def test_a_small_run_is_kept_and_gone_on_with(tmp_path):
    said = []
    whole, settings = text.split(text.made_up(20_000)), experiment.RotationSettings.quick()
    found = experiment.transformer_rotations(whole, tmp_path, settings, lambda *args: said.append(args)).check()
    assert found.cost.shape == (2, 1, len(experiment.METHODS))
    assert np.isfinite(found.cost).all()
    assert found.timed.shape == (2, 2)
    # Words are learned: a byte of 256 costs 5.5 nats, one of 12 letters 2.5.
    assert (found.unrounded < 2.6).all()
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = experiment.transformer_rotations(whole, tmp_path, settings)
    np.testing.assert_array_equal(found.cost, again.cost)
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert {"training network 0", "training network 1"} <= {stage for stage, _, _ in said}


@pytest.mark.slow
@pytest.mark.skipif(MINILM is None, reason="needs MiniLM's wheel")
def test_minilm_is_the_same_in_rotated_frames(tmp_path):
    small = {"seeds": 1, "bits": ((8, 8),), "sentences": (6, 4), "draws": 1, "lbfgs": 3}
    found = bert.minilm_rotations(Path(MINILM or ""), tmp_path, **small)
    for one in found.values():
        assert one.check().cost.shape == (1, 1, len(bert.METHODS))
        assert one.kurtosis[0, 0, 0] > 5 > one.kurtosis[0, 0, 2]


def test_the_loss_of_a_uniform_guess_is_that_of_a_byte(tokens):
    assert np.isclose(float(cross_entropy(jnp.zeros((*tokens.shape, 256)), tokens)), np.log(256))
