"""Networks and films with `rank=`: wide sides keep components, and frames of rectangular points do not jump."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.descrambling import Frames

WIDE, HIDDEN, OUT, SAMPLES, K = 10, 8, 3, 60, 4
KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {"first": jax.random.normal(KEYS[0], (WIDE, HIDDEN)), "second": jax.random.normal(KEYS[1], (HIDDEN, OUT))}
DRIFT = {name: 0.01 * jax.random.normal(KEYS[3], one.shape) for name, one in PARAMS.items()}
X = jnp.cumsum(jax.random.normal(KEYS[2], (SAMPLES, WIDE)), axis=1)
FIRST, SECOND = "['first']", "['second']"


def network(params, x):
    return jnp.tanh(x @ params["first"]) @ params["second"]


def at(step):
    return {name: one + step * DRIFT[name] for name, one in PARAMS.items()}


def film_of(f, params, **options):
    with jd.Film(f, X, every=1, wait=True, **options) as film:
        for step, one in enumerate(params):
            film.see(step, one)
    return film.close().check()


def test_sides_are_descrambled_as_signals_are():
    layers = jd.descramble_network(network, PARAMS, X, rank=K)
    _, taps = jd.wiretap(network)(PARAMS, X)
    for name, side, signals in ((FIRST, "output", taps[FIRST].preactivation), (SECOND, "input", taps[SECOND].input)):
        found, alone = layers[name].sides[side], jd.descramble(signals, rank=K)
        np.testing.assert_allclose(found.point, alone.point, atol=1e-9)
        np.testing.assert_allclose(found.left_out, alone.left_out, atol=1e-12)
    np.testing.assert_allclose(layers[FIRST].weight, layers[FIRST].output.point @ PARAMS["first"].T, atol=1e-12)
    np.testing.assert_allclose(layers[SECOND].weight, PARAMS["second"].T @ layers[SECOND].input.point.T, atol=1e-12)


def test_each_side_can_have_its_rank_and_narrow_sides_keep_all(tmp_path):
    seen = []

    def choose(name, side, size):
        seen.append((name, side, size))
        return {FIRST: K, SECOND: HIDDEN}[name]

    layers = jd.descramble_network(network, PARAMS, X, rank=choose)
    assert (FIRST, "output", HIDDEN) in seen
    assert layers[FIRST].output.point.shape == (K, HIDDEN)
    assert layers[SECOND].input.point.shape == (HIDDEN, HIDDEN)
    layers.save(tmp_path / "layers")
    again = jd.NetworkDescrambling.load(tmp_path / "layers")
    np.testing.assert_array_equal(again[FIRST].output.point, layers[FIRST].output.point)
    np.testing.assert_array_equal(again[FIRST].weight, layers[FIRST].weight)


def test_frames_follow_a_slow_network_and_files_keep_them(tmp_path):
    frames = film_of(network, map(at, range(3)), rank=K, out=tmp_path)
    for name, side in ((FIRST, "output"), (SECOND, "input")):
        one = frames.layers[name].sides[side]
        assert one.point.shape == (3, K, HIDDEN)
        assert one.jumps.max() < 0.3  # a row of the other sign alone would be 2
        alone = [jd.descramble_network(network, at(step), X, rank=K)[name].sides[side] for step in (0, 2)]
        np.testing.assert_allclose(one.value[::2], [each.value for each in alone], atol=1e-10)
        np.testing.assert_allclose(one.left_out[::2], [each.left_out for each in alone], atol=1e-12)
        np.testing.assert_allclose(one.point @ np.swapaxes(one.point, 1, 2), np.eye(K)[None].repeat(3, 0), atol=1e-12)
    read = Frames.load(tmp_path)
    np.testing.assert_array_equal(read.layers[FIRST].output.left_out, frames.layers[FIRST].output.left_out)
    read.save(tmp_path)
    with pytest.raises(RuntimeError, match="of another network or rank"):
        film_of(network, [at(0)], rank=K - 1, out=tmp_path)


@pytest.mark.thorough
def test_a_film_without_a_rank_has_no_new_field(tmp_path):
    film_of(network, [PARAMS], out=tmp_path)
    with np.load(tmp_path / "frame-000000000.npz") as file:
        assert not any("left_out" in name for name in file.files)
        assert '"format": 2' in str(file["header"])
    assert Frames.load(tmp_path).layers[FIRST].output.left_out is None


@pytest.mark.thorough
def test_a_direction_of_the_other_sign_is_no_jump_for_rotations():
    """The kept directions have no orientation: the largest entry of one changes its place and sign."""
    outer = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDE, WIDE)))[0][:, :2] @ np.diag([3.0, 1.0])

    def turned(angle):
        U = np.zeros((HIDDEN, 2))
        U[:2, 0], U[2, 1] = (np.cos(angle), -np.sin(angle)), 1
        return {"first": jnp.asarray(np.linalg.lstsq(np.asarray(X), np.asarray(X) @ outer, rcond=None)[0] @ U.T)}

    solver = jd.solvers.LBFGS(max_steps=200)
    frames = film_of(
        lambda params, x: jnp.tanh(x @ params["first"]) @ PARAMS["second"],
        [turned(np.pi / 4 + step * 0.02) for step in (-1, 1, 3)],
        objective=jd.objectives.sparsity(),
        solver=solver,
        group="SO",
        rank=2,
        layers=[FIRST],
    )
    assert frames.layers[FIRST].output.jumps.max() < 0.1


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("rank", "kind", "message"),
    [
        (0, ValueError, "rank: expected a positive integer, got 0"),
        (True, TypeError, "rank: expected a positive integer"),
        (lambda name, side, size: -1, ValueError, r"rank of layer \['first'\], output side: expected a positive"),
    ],
)
def test_bad_ranks_are_refused(rank, kind, message):
    with pytest.raises(kind, match=message):
        jd.descramble_network(network, PARAMS, X, rank=rank)
