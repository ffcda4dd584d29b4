"""A film of training: nothing waits, nothing jumps that has not moved, nothing is lost."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling.film import Film, Frames
from jaxdescramble.descrambling.film._nearest import nearest_equal, nearest_minimiser
from jaxdescramble.descrambling.film._snapshot import snapshot
from jaxdescramble.manifolds import orthogonal

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
SIZES = (12, 8, 8, 12)


def network(params, x):
    return jnp.tanh(jnp.tanh(x @ params["a"]) @ params["b"]) @ params["c"]


def weights(key, moved=0.0):
    """Weights on a smooth path: as far from each other as `moved` differs."""
    keys = jax.random.split(key, 6)
    return {
        name: jax.random.normal(one, (n, m)) / n**0.5 + moved * jax.random.normal(other, (n, m))
        for name, one, other, n, m in zip("abc", keys[:3], keys[3:], SIZES, SIZES[1:], strict=False)
    }


@pytest.fixture(scope="module")
def x():
    return jnp.cumsum(jax.random.normal(jax.random.key(9), (60, 12)), axis=1)


@pytest.fixture(scope="module")
def path():
    return [weights(jax.random.key(28), 0.002 * t) for t in range(6)]


def sides(layers):
    return [(name, side) for name, layer in layers.items() for side in layer.sides]


@pytest.fixture(scope="module")
def filmed(x, path):
    """A film of the path in the default objective, and how often f was traced at its first frame and at its last."""
    traced = []

    def counted(params, x):
        traced.append(None)
        return network(params, x)

    with Film(counted, x, every=10, wait=True) as film:
        film.see(0, path[0])
        film.wait()
        first = len(traced)
        for t in range(1, 6):
            assert film.see(10 * t, path[t])
            assert not film.see(10 * t + 5, path[t])
    return film.frames, first, len(traced)


@needs_x64
def test_frames_of_a_slow_network_do_not_jump_and_are_as_good_as_free_solves(filmed, x, path):
    frames, *_ = filmed
    solve = jax.jit(lambda params, x: jd.descramble_network(network, params, x))
    free = [solve(params, x) for params in path]
    assert frames.steps.tolist() == [0, 10, 20, 30, 40, 50]
    assert sides(frames.layers) == sides(jd.descramble_network(network, path[0], x))
    moved, jumped = [], []
    for name, side in sides(frames.layers):
        mine = frames.layers[name].sides[side]
        one = [layers[name].sides[side] for layers in free]
        np.testing.assert_allclose(mine.value, [float(found.value) for found in one], rtol=1e-9)
        np.testing.assert_allclose(mine.point @ mine.point.swapaxes(1, 2), np.eye(8)[None] + 0 * mine.point, atol=1e-13)
        moved.append(mine.jumps)
        jumped.append(np.linalg.norm(np.diff([found.point for found in one], axis=0), axis=(1, 2)))
    moved, jumped = np.asarray(moved), np.asarray(jumped)
    assert (moved <= jumped + 1e-9).all()
    assert moved.max() < 0.25
    assert jumped.max() > 1.99  # a sign, or a phase, that was free and fell the other way


@needs_x64
def test_the_weight_is_read_from_both_sides_as_aligned(filmed, path):
    frames, *_ = filmed
    for t, params in enumerate(path):
        for name, layer in frames.layers.items():
            W = np.asarray(params[name[2]]).T
            W = W if layer.output is None else layer.output.point[t] @ W
            W = W if layer.input is None else W @ layer.input.point[t].T
            np.testing.assert_allclose(layer.weight[t], W, atol=1e-13)


def test_all_frames_are_one_compiled_program(filmed):
    frames, first, last = filmed
    assert first == last
    assert frames.seconds[1:].max() < frames.seconds[0] / 3
    assert frames.check() is frames


@pytest.mark.thorough
@needs_x64
def test_null_spaces_are_aligned_too_and_special_frames_stay_special(key):
    operator = jd.objectives.smoothness(boundary="neumann").operator(7)
    S = jax.random.normal(key, (7, 3)) @ jax.random.normal(jax.random.fold_in(key, 1), (3, 30))
    near_to = jax.jit(nearest_minimiser, static_argnames="group")
    before = jax.jit(lambda S: jd.exact.brockett_minimiser(operator, jd.objectives.Samples(S), "SO").point)(S)
    modes = operator.analyse(before)
    turn = orthogonal.random(key, 4)
    # The same minimiser: the null space turned, a sign for each mode that carries.
    other = operator.synthesise(jnp.concatenate([modes[:3] * jnp.asarray([[-1.0], [1.0], [-1.0]]), turn @ modes[3:]]))
    near = near_to(operator, other, before, jnp.asarray(3))
    np.testing.assert_allclose(near, before, atol=1e-13)
    assert float(jnp.linalg.norm(other - before)) > 1
    reflected = operator.synthesise(modes.at[5].multiply(-1) + 0.01 * modes[::-1])
    reflected, _ = orthogonal.polar(reflected)
    assert float(jnp.linalg.det(reflected)) < 0
    near = near_to(operator, reflected, before, jnp.asarray(7), "SO")
    np.testing.assert_allclose(jnp.linalg.det(near), 1, rtol=1e-12)


@needs_x64
@pytest.mark.parametrize(
    ("objective", "change"),
    [
        (jd.objectives.sparsity(), lambda P: -P[jnp.asarray([2, 0, 4, 1, 3])]),
        (jd.objectives.total_variation(boundary="neumann"), lambda P: -P[::-1]),
        (jd.objectives.total_variation(boundary="periodic"), lambda P: -jnp.roll(P, 2, axis=0)),
    ],
    ids=["signed permutation", "reversal", "circular shift"],
)
def test_discrete_symmetries_are_found_by_value(key, objective, change):
    P = orthogonal.random(key, 5)
    summary = objective.summarise(jax.random.laplace(key, (5, 40)))
    near = jax.jit(nearest_equal, static_argnames="group")
    np.testing.assert_allclose(near(objective, summary, change(P), P), P, atol=1e-14)
    # What is no symmetry is not used, however near it would bring the point.
    scrambled = P[jnp.asarray([1, 0, 2, 4, 3])]
    found = near(objective, summary, scrambled, P)
    np.testing.assert_allclose(objective(found, summary), objective(scrambled, summary), rtol=1e-12)
    assert (float(jnp.abs(found - P).max()) < 1e-12) == (objective.name == "sparsity")


@pytest.mark.thorough
@needs_x64
def test_iterative_solvers_start_from_the_frame_before(x, path):
    objective, solver = jd.objectives.sparsity(), jd.solvers.LBFGS(preconditioner=None, max_steps=8)
    with Film(network, x, objective, solver, every=1, wait=True, layers=["['b']"]) as film:
        for t, params in enumerate(path):
            film.see(t, params)
    assert list(film.frames.layers) == ["['b']"]
    tap = jd.wiretap(network)(path[5], x)[1]["['b']"]
    for side, mine in film.frames.layers["['b']"].sides.items():
        signals = tap.preactivation if side == "output" else tap.input
        assert mine.steps.tolist() == [8] * 6
        assert (mine.status == Status.STEPS_SPENT).all()
        assert mine.value[5] < mine.value[0] - 1e-3  # 48 steps behind it, not 8
        np.testing.assert_allclose(mine.value[5], objective(jnp.asarray(mine.point[5]), signals), rtol=1e-12)
        assert mine.jumps[3:].min() < mine.jumps[0] / 2  # which of them, rounding decides
    with pytest.raises(FloatingPointError, match="STEPS_SPENT"):
        film.frames.check()


def test_donated_and_sharded_parameters_are_copied_in_time(x):
    devices = jax.devices()
    mesh = jax.sharding.Mesh(np.asarray(devices[:4]), ("shards",))
    sharded = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("shards"))
    for place in (devices[0], sharded):
        # A step that is slow to begin with and writes into what it was given.
        grow = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
        params = {"w": jax.device_put(jnp.zeros((400, 200)), place), "v": jax.device_put(jnp.zeros(8), devices[1])}
        grow_one = jax.jit(lambda leaf: leaf + 1, donate_argnums=0)
        copies = []
        for _ in range(20):
            copies.append(snapshot(params, "params"))
            old = params
            params = {"w": grow({"w": params["w"]})["w"], "v": grow_one(params["v"])}
            assert old["w"].is_deleted()
        for t, copy in enumerate(copies):
            assert (np.asarray(copy["w"]) == t).all()
            assert (np.asarray(copy["v"]) == t).all()
    with pytest.raises(RuntimeError, match=r"params\['v'\]: its buffer was donated"):
        snapshot(old, "params")
    host = np.zeros(3)
    kept = snapshot({"n": host, "k": jax.random.key(0), "s": 2.0}, "params")
    host += 1
    assert kept["n"].max() == 0
    assert kept["s"] == 2.0


def test_a_film_of_donated_training_is_that_of_the_kept_parameters(x, path, filmed):
    frames, *_ = filmed
    onward = jax.jit(lambda params, change: jax.tree.map(jnp.add, params, change), donate_argnums=0)
    params = jax.tree.map(jnp.array, path[0])
    with Film(network, x, every=10, wait=True, layers=["['a']"]) as film:
        for t in range(6):
            film.see(10 * t, params)
            if t < 5:
                params = onward(params, jax.tree.map(jnp.subtract, path[t + 1], path[t]))
    for name, side in sides(film.frames.layers):
        found, expected = film.frames.layers[name].sides[side], frames.layers[name].sides[side]
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-6)


def gate():
    """A network that can be held back while it is traced, on the worker."""
    opened = threading.Event()

    def held(params, x):
        opened.wait(30)
        return network(params, x)

    return held, opened


def test_training_does_not_wait_and_what_is_skipped_is_counted(x, path):
    held, opened = gate()
    film = Film(held, x, every=10, layers=["['a']"])
    began = time.perf_counter()
    assert film.see(0, path[0])
    assert [film.see(step, path[1]) for step in (5, 10, 20)] == [False, False, False]
    assert time.perf_counter() - began < 5
    assert film.skipped == 2
    assert len(film.frames) == 0
    opened.set()
    frames = film.close()
    assert frames.steps.tolist() == [0]
    assert film.close().steps.tolist() == [0]
    with pytest.raises(RuntimeError, match="film is closed"):
        film.see(30, path[0])


def test_a_network_that_diverges_is_data_and_the_film_goes_on(x, path):
    bad = path[1] | {"b": path[1]["b"].at[0, 0].set(jnp.nan)}
    with Film(network, x, every=1, wait=True) as film:
        for t, params in enumerate((path[0], bad, path[2])):
            film.see(t, params)
    layer = film.frames.layers["['b']"]
    assert layer.output.status.tolist() == [Status.SOLVED, Status.NOT_FINITE, Status.SOLVED]
    assert layer.input.status.tolist() == [Status.SOLVED] * 3  # what comes before the NaN
    assert np.isnan(layer.weight[1]).all()
    assert np.linalg.norm(layer.output.point[2] - layer.output.point[0]) < 0.5  # aligned over the gap
    with pytest.raises(FloatingPointError, match=r"NOT_FINITE at layer \['b'\], output side, steps \[1\]"):
        film.frames.check()


def test_a_first_frame_that_fails_is_said_at_once_and_a_later_one_at_the_end(x, path, monkeypatch):
    film = Film(lambda params, x: x @ params["missing"], x, every=1)
    film.see(0, path[0])
    film.wait()
    with pytest.raises(RuntimeError, match=r"1 frame.* first at step 0: KeyError: 'missing'"):
        film.see(1, path[0])
    assert len(film.close()) == 0  # said already

    film = Film(network, x, every=1, wait=True, layers=["['a']"])
    film.see(0, path[0])
    film.wait()
    program, film._program = film._program, None
    film.see(1, path[1])
    film.wait()
    film._program = program
    film.see(2, path[2])
    with pytest.raises(RuntimeError, match=r"1 frame.* first at step 1: TypeError"):
        film.close()
    assert film.frames.steps.tolist() == [0, 2]

    with pytest.raises(ZeroDivisionError), Film(lambda params, x: params["missing"], x, every=1) as film:  # noqa: PT012
        film.see(0, path[0])
        raise ZeroDivisionError  # training's own error is the one that is seen


def test_a_killed_run_goes_on_where_it_was(x, path, filmed, tmp_path):
    whole, *_ = filmed

    def film(steps):
        with Film(network, x, every=10, wait=True, out=tmp_path / "film", layers=["['a']"]) as film:
            for t in steps:
                film.see(10 * t, path[t])
        return film.frames

    film((0, 1, 2, 3))
    # The last checkpoint was at step 20: the frame of step 30 is of a run that is given up.
    frames = film((2, 4, 5))
    assert frames.steps.tolist() == [0, 10, 20, 40, 50]
    assert [path.name for path in (tmp_path / "film").glob("*.given-up")] == ["frame-000000030.npz.given-up"]
    loaded = Frames.load(tmp_path / "film")
    for name, side in sides(frames.layers):
        mine, expected = frames.layers[name].sides[side], whole.layers[name].sides[side]
        np.testing.assert_allclose(mine.point[[0, 1, 2, 4]], expected.point[[0, 1, 2, 5]], atol=1e-4)
        np.testing.assert_array_equal(loaded.layers[name].sides[side].point, mine.point)
    other = Film(lambda params, x: jnp.tanh(x @ params["d"]) @ params["e"], x, every=10, out=tmp_path / "film")
    other.see(60, {"d": jnp.ones((12, 5)), "e": jnp.ones((5, 2))})
    with pytest.raises(RuntimeError, match="is of another network"):
        other.close()
    (tmp_path / "film" / "frame-000000050.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"frame-000000050.npz: not a whole frame"):
        Frames.load(tmp_path / "film")


def test_a_full_disk_costs_no_frame(x, path, tmp_path, monkeypatch):
    real = np.savez

    def full(file, **arrays):
        if b"Film" in file.name if isinstance(file.name, bytes) else len(calls) == 1:
            calls.append(None)
            raise OSError(28, "No space left on device")
        calls.append(None)
        real(file, **arrays)

    calls = []
    monkeypatch.setattr("numpy.savez", full)
    film = Film(network, x, every=1, wait=True, out=tmp_path, layers=["['a']"])
    for t in range(3):
        film.see(t, path[t])
    with pytest.raises(OSError, match=r"1 frame\(s\) could not be written, the first at step 1 \(No space left"):
        film.close()
    assert film.frames.steps.tolist() == [0, 1, 2]
    assert Frames.load(tmp_path).steps.tolist() == [0, 2]
    film.frames.save(tmp_path / "again")
    assert Frames.load(tmp_path / "again").steps.tolist() == [0, 1, 2]


@pytest.mark.thorough
@needs_x64
def test_the_precision_of_the_loop_is_that_of_the_film(x):
    with jax.enable_x64(False):
        ramp = np.linspace(0, 1, 12)  # float64 where that is allowed
        with Film(
            lambda params, x: network(params, x * jnp.asarray(ramp)[None]), np.asarray(x, np.float32), layers=["['a']"]
        ) as film:
            film.see(0, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights(jax.random.key(0))))
    assert film.frames.layers["['a']"].output.point.dtype == np.float32


@pytest.mark.usefixtures("as_installed")
def test_bad_arguments_say_what_to_do(x, path, tmp_path):
    for change, kind, message in (
        ({"every": 0}, ValueError, "every: expected a positive integer, got 0"),
        ({"layers": "['a']"}, TypeError, "layers: got .* a list of names"),
        ({"group": "U"}, ValueError, "group: got 'U'"),
        ({"objective": 3}, TypeError, "objective: got 3"),
        ({"x": x[0]}, ValueError, r"x: got shape \(12,\); expected a batch"),
        ({"f": 1}, TypeError, "f: got int"),
    ):
        with pytest.raises(kind, match=message):
            Film(**({"f": network, "x": x} | change))
    film = Film(network, x, every=10, layers=["['z']"])
    film.see(10, path[0])
    film._failed, failed = (film.wait(), [])[1], film._failed  # the worker's own error is for later
    with pytest.raises(ValueError, match="step: got 10 after 10; steps have to rise"):
        film.see(10, path[0])
    with pytest.raises(ValueError, match=r"params\['a'\]: got \(3,\) float.*, where frames before had \(12, 8\)"):
        film.see(20, path[0] | {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"params\['c'\]: got nothing"):
        film.see(20, {name: path[0][name] for name in "ab"})
    with pytest.raises(TypeError, match=r"step: got .* the loop's own integer"):
        film.see(jnp.asarray(20), path[0])
    film._failed = failed
    with pytest.raises(RuntimeError, match=r"layers: no layer \"\['z'\]\"; there are \"\['a'\]\", \"\['b'\]\""):
        film.close()
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda params: Film(network, x).see(0, params))(path[0])
    with pytest.raises(FileNotFoundError):
        Frames.load(tmp_path / "nowhere")
