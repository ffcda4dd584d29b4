"""Weights of samples: a whole number counts its sample so many times, zero leaves it out whatever it holds."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_objectives import BATTERY, EPS, M, N, each_objective, signals

import jaxdescramble as jd
from jaxdescramble._base.status import Status
from jaxdescramble.descrambling.accumulators import refine, score
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    Factor,
    Gram,
    Samples,
    from_function,
    locality,
    similarity,
    smoothness,
    sparsity,
    total_variation,
)
from jaxdescramble.objectives.weighing import drawn, effective_number
from jaxdescramble.solvers import LBFGS, FromSources, Minibatches, Progressive, Seriated
from jaxdescramble.sweeps.specification import request

both = pytest.mark.both_precisions
WEIGHTS = np.asarray([0, 1, 2, 3, 1] * (M // 5))
REPEATED = np.repeat(np.arange(M), WEIGHTS)
SUM, KISH = WEIGHTS.sum(), WEIGHTS.sum() ** 2 / (WEIGHTS**2).sum()


def poisoned(S, weights=WEIGHTS):
    """The signals with NaN and infinity where samples do not count."""
    bad = np.where(np.arange(S.shape[-1]) % 2, np.inf, np.nan)
    return jnp.where(jnp.asarray(weights)[..., None, :] == 0, jnp.asarray(bad, S.dtype), S)


def close(one, other, rtol=1000 * EPS, atol=200 * EPS):
    np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


# --- objectives and summaries ----------------------------------------------------------------------------------------


@each_objective
@both
def test_whole_weights_of_any_objective_are_repetitions(objective):
    S, point = signals(), orthogonal.random(jax.random.key(3), N)
    if objective.applies_to == "weights":
        with pytest.raises(TypeError, match=r"weights: .* applies to a weight matrix, or .* no samples"):
            objective(point, S, WEIGHTS)
        return

    @jax.jit
    def facts(S, weights=None):
        summary = objective.summarise(S, weights)
        value, slope = jax.value_and_grad(objective)(point, summary)
        curvature = objective.curvature(summary)
        bent = None
        if curvature is not None:
            exact = getattr(curvature, "diagonal", None)
            bent = (curvature(point).diagonal if exact is None else exact(point), curvature(point).diagonal)
        return value, slope, bent, objective.bound(summary), objective.assignment(summary)

    found, expected = facts(poisoned(S), jnp.asarray(WEIGHTS)), facts(S[:, REPEATED])
    jax.tree.map(close, found, expected)
    close(facts(poisoned(S), 7.5 * WEIGHTS)[0], expected[0])
    # Weights make a difference, but where an objective is 1 whatever the signals.
    changed = abs(float(facts(S)[0]) - float(expected[0])) > 1e-6
    assert changed or objective.name in ("similarity",), f"{objective.name}: weights of samples make no difference"


@pytest.mark.thorough
@pytest.mark.parametrize("objective", [locality("neumann"), sparsity(), sparsity("participation"), sparsity("l4")])
def test_relaxations_weigh_samples(objective):
    S = signals(n=4)
    found = objective.tightest_bound(objective.summarise(poisoned(S), WEIGHTS), 2)
    close(found, objective.tightest_bound(objective.summarise(S[:, REPEATED]), 2), rtol=1e-9)


def test_a_reference_is_weighed_with_its_samples():
    S, R = signals(), np.array(signals(4))
    expected = similarity(R[:, REPEATED])(jnp.eye(N), S[:, REPEATED])
    R[:, WEIGHTS == 0] = np.nan
    close(similarity(R)(jnp.eye(N), poisoned(S), WEIGHTS), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [Factor, Gram, Samples])
@both
def test_summaries_are_those_of_repeated_samples(kind):
    S, matrix = signals(), jnp.asarray(np.random.default_rng(5).standard_normal((3, N)))
    whole = kind.empty(N, S.dtype).update(poisoned(S), WEIGHTS)
    plain = kind.empty(N, S.dtype).update(S[:, REPEATED])
    apart = kind.empty(N, S.dtype).update(poisoned(S)[:, :7], WEIGHTS[:7])
    merged = apart.merge(kind.empty(N, S.dtype).update(poisoned(S)[:, 7:], WEIGHTS[7:]))
    for one in (whole, merged, whole.normalised()):
        scale = whole.scale() ** 2 if one is not whole and one is not merged else 1
        close(one.power() * scale, plain.power())
        close(one.energy(matrix) * scale, plain.energy(matrix))
        close(one.moment(matrix) * scale, plain.moment(matrix))
        close(one.principal()[1] * scale**0.5, plain.principal()[1], rtol=EPS**0.5)
        close(one.effective(), KISH)
    assert plain.effective() == SUM
    # Samples without weights count as one each.
    mixed = kind.empty(N, S.dtype).update(S[:, :3]).update(S[:, 3:5], [2, 0])
    close(mixed.power(), jnp.sum(S[:, jnp.asarray([0, 1, 2, 3, 3])] ** 2))
    close(mixed.effective(), 25 / 7)


def test_without_weights_nothing_is_added():
    summary = total_variation(boundary="neumann").summarise(signals())
    assert len(jax.tree.leaves(summary)) == 1
    assert len(jax.tree.leaves(smoothness().summarise(signals()))) == 2
    terms = jnp.ones((2, M))
    assert summary.weigh(terms) is terms
    plain = jax.make_jaxpr(lambda S: total_variation(boundary="neumann")(jnp.eye(N), S))(signals())
    assert str(plain) == str(
        jax.make_jaxpr(lambda S: total_variation(boundary="neumann")(jnp.eye(N), S, None))(signals())
    )


def test_thinned_samples_keep_their_weights_and_drawn_ones_come_in_proportion():
    summary = Samples(signals(), weights=jnp.asarray(WEIGHTS, float))
    assert summary.thin(3).weights.tolist() == WEIGHTS[::3].tolist()
    places = np.asarray(drawn(jax.random.key(0), summary.weights, 20_000))
    shares = np.bincount(places, minlength=M) / 20_000
    assert (shares[WEIGHTS == 0] == 0).all()
    np.testing.assert_allclose(shares, WEIGHTS / SUM, atol=0.01)
    batch = summary.draw(jax.random.key(1), 50)
    assert batch.weights is None
    assert set(batch.signals[0].tolist()) <= set(np.asarray(signals())[0, WEIGHTS > 0].tolist())


def test_the_effective_number_of_samples():
    assert float(effective_number(jnp.asarray([3.0, 3.0, 0.0]))) == 2
    assert float(effective_number(jnp.zeros(3))) == 0
    close(effective_number(jnp.asarray([1e30, 2e30], "float32")), 9 / 5, rtol=1e-6)


# --- descramble ------------------------------------------------------------------------------------------------------

SOLVED = {
    "closed form": (smoothness(), {}),
    "closed form of a Gram matrix": (smoothness(summary="gram"), {}),
    "polar fixed point": (sparsity("l4"), {}),
    "L-BFGS": (total_variation(epsilon=0.3, boundary="neumann"), {"solver": LBFGS(preconditioner=None)}),
    "over permutations": (total_variation(boundary="neumann"), {"group": "permutation"}),
    "from sources": (
        sparsity("logcosh"),
        {"solver": LBFGS(preconditioner=None), "restarts": 1, "key": jax.random.key(0)},
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("objective", "how"), SOLVED.values(), ids=SOLVED.keys())
def test_descramble_finds_what_it_finds_for_repeated_samples(objective, how):
    S = signals() * jnp.arange(1.0, N + 1)[:, None]
    found = jd.descramble(poisoned(S), objective, weights=WEIGHTS, **how)
    expected = jd.descramble(S[:, REPEATED], objective, **how)
    for field in ("value", "initial_value", "bound", "singular_values"):
        close(getattr(found, field), getattr(expected, field), rtol=1e-5)
    assert (int(found.rank), int(found.status)) == (int(expected.rank), int(expected.status))
    close(found.samples, KISH)
    assert float(expected.samples) == SUM
    if "key" not in how:  # a search by chance may find another minimum that is equal
        close(abs(found.point), abs(expected.point), atol=1e-4)
    close(found.score(poisoned(S), WEIGHTS), expected.score(S[:, REPEATED]), rtol=1e-5)
    assert abs(float(found.score(S)) - float(found.value)) > 1e-9


@pytest.mark.thorough
def test_the_certificates_of_a_result_take_weights():
    S = signals(n=4)
    found = jd.descramble(poisoned(S), locality("neumann"), LBFGS(preconditioner=None), weights=WEIGHTS)
    bound = found.tightest_bound(poisoned(S), WEIGHTS, steps=1)
    close(bound, found.tightest_bound(S[:, REPEATED], steps=1), rtol=1e-9)
    key = jax.random.key(0)
    close(
        found.stationarity(poisoned(S), WEIGHTS, key=key, steps=3).lowest,
        found.stationarity(S[:, REPEATED], key=key, steps=3).lowest,
        rtol=1e-6,
    )


def test_batches_lists_and_vmapped_problems():
    batch = jnp.stack([signals(seed) for seed in range(3)])
    own = np.stack([WEIGHTS, np.roll(WEIGHTS, 1), WEIGHTS > 0])
    alone = [jd.descramble(S, weights=w) for S, w in zip(batch, own, strict=True)]
    together = jd.descramble(poisoned(batch, own), weights=own)
    listed = jd.descramble([*poisoned(batch, own)], weights=[*own])
    vmapped = jax.jit(jax.vmap(lambda S, w: jd.descramble(S, weights=w)))(poisoned(batch, own), own)
    for place, one in enumerate(alone):
        for other in (together.problem(place), listed[place], vmapped.problem(place)):
            close(other.value, one.value)
            close(other.samples, one.samples)
    shared = jd.descramble(batch, weights=WEIGHTS)
    close(shared.value[1], jd.descramble(batch[1], weights=WEIGHTS).value)
    some = jd.descramble([batch[0], batch[1][:4]], weights=[None, WEIGHTS])
    assert float(some[0].samples) == M
    close(some[1].samples, KISH)


REFUSED = {
    "negative": (-WEIGHTS, ValueError, r"weights: -1.* at \(1,\) is negative"),
    "nan": (np.where(WEIGHTS == 3, np.nan, 1.0), ValueError, r"weights: nan at \(3,\) is not finite"),
    "infinite": (np.where(WEIGHTS == 3, np.inf, 1.0), ValueError, "weights: inf at"),
    "all zero": (0 * WEIGHTS, ValueError, "weights: all are zero"),
    "complex": (1j * WEIGHTS, TypeError, "weights: got complex numbers"),
    "too few": (WEIGHTS[1:], ValueError, r"weights: got shape \(19,\), but the signals need .*\(20,\)"),
    "a matrix": (np.ones((N, M)), ValueError, r"weights: got shape \(6, 20\)"),
    "a number": (1.0, ValueError, r"weights: got shape \(\)"),
    "text": ("padding", TypeError, "weights: expected one weight for each sample"),
    "huge": (1e30 * WEIGHTS, ValueError, "weights: the largest is 3e.30"),
}


@pytest.mark.every_case
@pytest.mark.parametrize(("weights", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_weights_are_refused_by_name(as_installed, weights, error, message):
    objective, S = smoothness(), signals()
    found = jd.descramble(S)
    for call in (
        lambda: jd.descramble(S, weights=weights),
        lambda: objective.summarise(S, weights),
        lambda: objective(jnp.eye(N), S, weights),
        lambda: found.score(S, weights),
        lambda: jd.bootstrap(S, key=jax.random.key(0), draws=1, weights=weights),
        lambda: jd.wiretap(lambda w, x: x[:, :, None] @ w)(jnp.ones((1, 2)), S.T, weights),
        lambda: jd.Problem(np.asarray(S), weights=weights).with_defaults(),
    ):
        with pytest.raises(error, match=message):
            call()


def test_weights_beside_a_summary_or_of_another_number_of_problems_are_refused():
    summary = smoothness().summarise(signals())
    with pytest.raises(TypeError, match="weights: a summary holds"):
        jd.descramble(summary, weights=WEIGHTS)
    with pytest.raises(TypeError, match="weights: a summary holds"):
        smoothness()(jnp.eye(N), summary, WEIGHTS)
    with pytest.raises(ValueError, match="weights: got 1 sets for a list of 2"):
        jd.descramble([signals(), signals()], weights=[WEIGHTS])
    # A batch of padding adds nothing to a summary.
    close(smoothness().update(summary, signals(), 0 * WEIGHTS).power(), summary.power())


@pytest.mark.parametrize("objective", [smoothness(), sparsity("l4")], ids=["closed form", "iterative"])
def test_under_jit_bad_weights_are_a_status(objective):
    solve = jax.jit(lambda S, w: jd.descramble(S, objective, weights=w))
    ones = jnp.ones(M)
    assert int(solve(signals(), ones).status) in (Status.SOLVED, Status.PRECISION)
    assert int(solve(signals(), 0 * ones).status) == Status.ZERO_SIGNALS
    for bad in (-1.0, jnp.nan, jnp.inf):
        found = solve(signals(), ones.at[3].set(bad))
        assert int(found.status) == Status.NOT_FINITE
        with pytest.raises(FloatingPointError, match="a weight of a sample is negative"):
            found.check()


def users_own(point, summary):
    return jnp.mean((point @ summary.signals) ** 4)


def users_weighed(point, summary):
    return jnp.mean(summary.weigh((point @ summary.signals) ** 4))


def test_objectives_of_ones_own_say_that_they_weigh_or_get_selected_samples():
    S, point = signals(), orthogonal.random(jax.random.key(3), N)
    with pytest.raises(TypeError, match=r"users_own does not say that it weighs .* takes_weights=True"):
        jd.descramble(S, from_function(users_own), weights=WEIGHTS)
    with pytest.raises(TypeError, match="users_own does not say"):
        from_function(users_own)(point, Samples(S, weights=jnp.ones(M)))
    with pytest.raises(TypeError, match="weighted does not say"):
        jd.objectives.weighted(from_function(users_own), sparsity())(point, S, WEIGHTS)
    mask = WEIGHTS > 0
    expected = from_function(users_own)(point, S[:, mask])
    close(from_function(users_own)(point, poisoned(S), mask), expected)
    found = jd.descramble(poisoned(S), from_function(users_own), LBFGS(max_steps=1), weights=mask)
    expected = jd.descramble(S[:, mask], from_function(users_own), LBFGS(max_steps=1)).value
    close(found.score(poisoned(S), mask), expected)
    opted = from_function(users_weighed, takes_weights=True)
    close(opted(point, poisoned(S), WEIGHTS), opted(point, S[:, REPEATED]))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "combine", [lambda s: Progressive(s, s, (3,)), Seriated, lambda s: FromSources(s, 1, s, key=KEY)]
)
def test_combinators_weigh_samples(combine):
    solver = combine(LBFGS(preconditioner=None, max_steps=300))
    objective, S = sparsity("logcosh"), jax.random.laplace(jax.random.key(0), (3, M))
    summaries = objective.summarise(poisoned(S), WEIGHTS), objective.summarise(S[:, REPEATED])
    found, expected = (jd.minimise(objective, jnp.eye(3), one, solver=solver) for one in summaries)
    close(found.value, expected.value, rtol=1e-6)


KEY = jax.random.key(0)


def test_minibatches_are_drawn_by_weight():
    objective, S = sparsity("logcosh"), jax.random.laplace(jax.random.key(0), (3, M))
    solver = Minibatches(optax.sgd(0.1), size=16, max_steps=5, key=jax.random.key(1))
    found = jd.minimise(objective, jnp.eye(3), objective.summarise(poisoned(S), WEIGHTS), solver=solver)
    assert np.isfinite(found.value)
    close(found.value, objective(found.point, S[:, REPEATED]), rtol=1e-6)


def test_a_result_and_its_file_keep_the_number_of_samples(tmp_path):
    found = jd.descramble(signals(), weights=WEIGHTS)
    found.save(tmp_path / "found.npz")
    close(jd.Descrambling.load(tmp_path / "found.npz").samples, KISH)


# --- networks --------------------------------------------------------------------------------------------------------

BATCH = TOKENS = WIDTH = 4  # equal: sizes tell nothing
ONES = np.ones(10)


def eyes(*names, n=WIDTH):
    return {name: jnp.eye(n) for name in names}


def numbered(*shape):
    """Inputs whose features all are the number of their sample, and these numbers as weights."""
    numbers = 1.0 + np.arange(np.prod(shape)).reshape(shape)
    return jnp.asarray(np.broadcast_to(numbers[..., None], (*shape, WIDTH))), jnp.asarray(numbers)


def attention(p, x):
    scores = jnp.einsum("bqd,bkd->bqk", x @ p["q"], x @ p["k"])
    return x + 0 * (jax.nn.softmax(scores) @ (x @ p["v"])) @ p["o"]


def scanned(p, x):
    def step(h, xt):
        return 0 * h + xt, (0 * h + xt) @ p["a"]

    return jax.lax.scan(step, jnp.zeros_like(x[:, 0]), x.swapaxes(0, 1), reverse=True)[1] @ p["b"]


# Each hands the samples' numbers on to its last layer, in an order of its own.
ORDERS = {
    "as it is": lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"],
    "samples in front of tokens": lambda p, x: x.swapaxes(0, 1) @ p["b"],
    "one axis of both": lambda p, x: (x @ p["a"]).reshape(-1, WIDTH) @ p["b"],
    "tokens in halves": lambda p, x: x.reshape(BATCH, 2, 2, WIDTH).transpose(2, 0, 1, 3) @ p["b"],
    "backwards": lambda p, x: x[:, ::-1] @ p["b"],
    "rolled": lambda p, x: jnp.roll(x, 1, axis=1) @ p["b"],
    "every second": lambda p, x: x[::2, 1::2] @ p["b"],
    "the first token": lambda p, x: x[:, 0] @ p["b"],
    "the last of the stacked": lambda p, x: jnp.stack([x[:, -1], x[:, 0]]) @ p["b"],
    "joined": lambda p, x: jnp.concatenate([x[:2], x[::-1]]) @ p["b"],
    "normed over features": lambda p, x: (x - 0 * x.mean(-1, keepdims=True)) @ p["b"],
    "normed over the batch": lambda p, x: (x - 0 * x.mean(0, keepdims=True)) @ p["b"],
    "after attention": lambda p, x: attention(p, x) @ p["b"],
    "inside a scan": scanned,
    "by vmap": lambda p, x: jax.vmap(lambda row: jax.vmap(lambda t: t @ p["b"])(row), out_axes=1)(x),
    "a window of one": lambda p, x: jax.lax.conv_general_dilated(
        x, p["b"][None], (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    ),
}


@pytest.mark.parametrize("f", ORDERS.values(), ids=ORDERS.keys())
def test_every_column_gets_the_weight_of_its_own_sample(f):
    x, numbers = numbered(BATCH, TOKENS)
    params = eyes("a", "b", "q", "k", "v", "o")
    _, taps = jd.wiretap(f)(params, x, numbers)
    np.testing.assert_array_equal(taps["['b']"].weights, taps["['b']"].input[..., 0, :].reshape(-1))
    _, jitted = jax.jit(jd.wiretap(f))(params, x, numbers)
    np.testing.assert_array_equal(jitted["['b']"].weights, taps["['b']"].weights)


@pytest.mark.parametrize("f", ORDERS.values(), ids=ORDERS.keys())
def test_weights_of_the_batch_alone_are_spread(f):
    x = jnp.broadcast_to(numbered(BATCH)[0][:, None], (BATCH, TOKENS, WIDTH))
    _, taps = jd.wiretap(f)(eyes("a", "b", "q", "k", "v", "o"), x, 1.0 + np.arange(BATCH))
    np.testing.assert_array_equal(taps["['b']"].weights, taps["['b']"].input[..., 0, :].reshape(-1))


def test_positions_of_a_convolution_have_the_weight_of_their_sample():
    def f(p, x):
        h = jax.lax.conv_general_dilated(x, p["c"], (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(h).mean((1, 2)) @ p["d"]

    params = {"c": jnp.ones((3, 3, 2, 5)), "d": jnp.ones((5, 2))}
    _, taps = jd.wiretap(f)(params, jnp.ones((3, 6, 6, 2)), [1, 0, 2])
    assert taps["['c']"].layout.samples == (3, 3, 6)
    assert taps["['c']"].weights.tolist() == [1] * 18 + [0] * 18 + [2] * 18
    assert taps["['d']"].weights.tolist() == [1, 0, 2]


def test_members_of_an_ensemble_may_have_weights_of_their_own():
    def f(p, x):
        return jax.vmap(lambda p, x: jnp.tanh(x @ p))(p, x)

    weights = 1.0 + np.arange(12).reshape(3, 4)
    _, taps = jd.wiretap(f)(jnp.ones((3, 5, 2)), jnp.ones((3, 4, 5)), weights)
    np.testing.assert_array_equal(taps["params"].weights, weights)
    shared = jd.wiretap(lambda p, x: jax.vmap(lambda p: x @ p)(p))(jnp.ones((3, 5, 2)), jnp.ones((4, 5)), [1, 2, 3, 4])
    assert shared[1]["params"].weights.tolist() == [1, 2, 3, 4]
    deep = jd.wiretap(lambda p, x: jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, p)[0])
    assert deep(jnp.ones((3, 5, 5)), jnp.ones((4, 5)), [1, 2, 3, 4])[1]["params"].weights.tolist() == [1, 2, 3, 4]


MIXED = {
    "a mean over tokens": (lambda p, x: x.mean(1) @ p["b"], "mixed along axis 1 of x.*reduce_sum"),
    "a product along tokens": (lambda p, x: x.swapaxes(1, 2) @ p["b"], r"takes axis 1 of x for its features"),
    "a sort": (lambda p, x: jnp.sort(x, axis=0) @ p["b"], "mixed along axis 0 of x.*sort"),
    "a permutation": (lambda p, x: x[jnp.argsort(x[:, 0, 0])] @ p["b"], "mixed along axis 0 of x"),
    "pairs of tokens": (lambda p, x: (x[:, :, None] + x[:, None]) @ p["b"], "belongs to several positions"),
    "a class token": (
        lambda p, x: jnp.concatenate([jnp.ones((BATCH, 1, WIDTH)), x], axis=1) @ p["b"],
        "come from no position along axis 1",
    ),
    "a loop": (lambda p, x: jax.lax.fori_loop(0, x[0, 0, 0].astype(int), lambda i, h: h[::-1], x) @ p["b"], "while"),
    "a Fourier transform": (lambda p, x: jnp.fft.fft(x, axis=1).real @ p["b"], "mixed along axis 1"),
}


@pytest.mark.parametrize(("f", "why"), MIXED.values(), ids=MIXED.keys())
def test_samples_without_a_weight_of_their_own_are_refused_by_the_layers_name(f, why):
    x, numbers = numbered(BATCH, TOKENS)
    with pytest.raises(ValueError, match=rf"layer \['b'\].*{why}"):
        jd.wiretap(f)(eyes("b"), x, numbers)


def test_every_array_of_x_begins_with_the_samples_axes():
    def f(p, x):
        return (x["tokens"] * x["mask"][..., None] * x["scale"]) @ p["b"]

    x, numbers = numbered(BATCH, 3)
    given = {"tokens": x, "mask": jnp.ones((BATCH, 3)), "scale": 2.0}
    _, taps = jd.wiretap(f)(eyes("b"), given, numbers)
    np.testing.assert_array_equal(taps["['b']"].weights, numbers.ravel())
    with pytest.raises(ValueError, match=r"first axes of x\['mask'\], whose shape is \(1, 3\)"):
        jd.wiretap(f)(eyes("b"), given | {"mask": jnp.ones((1, 3))}, numbers)


def transformer(p, ids):
    h = p["embedding"][ids]
    mask = (ids != 0)[:, None, None, :]
    q, k, v = ((h @ p[name]).reshape(*ids.shape, 2, 4).transpose(0, 2, 1, 3) for name in "qkv")
    attended = jax.nn.softmax(jnp.where(mask, jnp.einsum("bhqd,bhkd->bhqk", q, k), -1e9)) @ v
    h = h + attended.transpose(0, 2, 1, 3).reshape(h.shape) @ p["o"]
    h = h / jnp.sqrt(jnp.mean(h**2, axis=-1, keepdims=True))
    return (h + jax.nn.gelu(h @ p["up"]) @ p["down"])[:, 0] @ p["head"]


@pytest.fixture(scope="module")
def text():
    rng = np.random.default_rng(0)
    shapes = {"embedding": (30, 8), "up": (8, 8), "down": (8, 8), "head": (8, 3)} | dict.fromkeys("qkvo", (8, 8))
    params = {name: jnp.asarray(rng.standard_normal(shape)) for name, shape in shapes.items()}
    lengths = np.asarray([8, 2, 6, 1, 5, 3, 7, 2])
    ids = rng.integers(1, 30, (8, 8)) * (np.arange(8)[None, :] < lengths[:, None])
    return params, jnp.asarray(ids), ids != 0


@pytest.mark.thorough
@pytest.mark.parametrize("joint", [False, True])
def test_padding_of_a_token_network_is_left_out(text, joint):
    params, ids, real = text
    assert 0.45 < 1 - real.mean() < 0.49
    _, taps = jd.wiretap(transformer)(params, ids)
    found = jd.descramble_network(transformer, params, ids, weights=real, joint=joint)
    plain = jd.descramble_network(transformer, params, ids, joint=joint)
    kept = np.flatnonzero(real)
    values = []
    for name in ("['up']", "['down']", "['o']"):
        expected = jd.descramble(taps[name].preactivation[..., kept])
        close(found[name].output.value, expected.value)
        assert float(found[name].output.samples) == len(kept)
        values.append(float(plain[name].output.value / found[name].output.value))
        if not joint:
            close(found[name].input.value, jd.descramble(taps[name].input[..., kept]).value)
            continue
        # The columns of the weight stand beside those samples that count, at their norm.
        S, W = taps[name].input[..., kept], taps[name].weight
        S = jnp.concatenate([W.T * jnp.linalg.norm(S, 2) / jnp.linalg.norm(W, 2), S], axis=1)
        close(found[name].input.value, jd.descramble(S).value)
    assert max(abs(np.log(values))) > 0.1  # padding does change values
    assert joint or float(np.max(found["['head']"].input.samples)) == len(ids)


def test_a_layer_without_weights_may_be_left_out_of_a_network():
    def f(p, x):
        return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]).mean(1) @ p["c"]

    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 6, WIDTH)))
    weights = np.random.default_rng(1).integers(0, 3, (5, 6))
    with pytest.raises(ValueError, match=r"layer \['c'\] reads what was mixed"):
        jd.descramble_network(f, eyes("a", "b", "c"), x, weights=weights)
    found = jd.descramble_network(
        f, eyes("a", "b", "c"), x, lambda name, side, size: None if "c" in name else smoothness(), weights=weights
    )
    expected = jd.descramble(jnp.tanh(x).reshape(-1, WIDTH)[np.repeat(np.arange(30), weights.ravel())].T)
    close(found["['b']"].input.value, expected.value)


# --- many solves -----------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_bootstrap_draws_by_weight():
    S, key = np.array(signals()), jax.random.key(0)
    for objective in (smoothness(), sparsity("l4")):
        found = jd.bootstrap(poisoned(S), objective, key=key, draws=4, weights=WEIGHTS)
        assert np.isfinite(found.values).all()
        close(found.point, jd.descramble(S[:, REPEATED], objective).point, atol=1e-4)
    # With zeros and ones as many columns are drawn as there are ones.
    mask = np.arange(M) < 2
    draws = jd.bootstrap(poisoned(S, mask), key=key, draws=30, weights=mask).values
    alone = {round(float(jd.descramble(S[:, list(pair)]).value), 9) for pair in ((0, 0), (0, 1), (1, 1))}
    assert {round(float(v), 9) for v in draws} == alone
    # So many columns as one asks for: the more, the narrower.
    wide, narrow = (jd.bootstrap(S, key=key, draws=40, weights=WEIGHTS, size=size).values.std() for size in (10, 1000))
    assert narrow < wide / 3
    jitted = jax.jit(lambda S, w: jd.bootstrap(S, key=key, draws=4, weights=w).values)(poisoned(S), WEIGHTS)
    close(jitted, jd.bootstrap(poisoned(S), key=key, draws=4, weights=WEIGHTS).values)


def stream(count=300, dtype="float32"):
    rng = np.random.default_rng(0)
    S = (rng.laplace(size=(4, count)) + 0.3).astype(dtype)
    weights = rng.integers(0, 4, count)
    parts = [(np.array(poisoned(S, weights)[:, i : i + 70]), weights[i : i + 70]) for i in range(0, count, 70)]
    return parts, S[:, np.repeat(np.arange(count), weights)], weights


def empty(**options):
    return jd.Accumulator.empty(4, "float32", reservoir=1000, key=jax.random.key(0), **options)


@pytest.mark.thorough
@pytest.mark.parametrize("devices", [None, 2])
def test_an_accumulator_adds_up_repeated_samples(devices, tmp_path):
    parts, repeated, weights = stream()
    devices = None if devices is None else jax.devices()[:devices]
    found, expected = empty(devices=devices).consume(parts), empty().add(repeated)
    assert (found.count, expected.count) == ((weights > 0).sum(), weights.sum())
    close(found.samples, weights.sum() ** 2 / (weights**2).sum())
    for name in ("gram", "mean", "autocorrelation", "covariance", "unit"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-6, atol=1e-6)
    eye = jnp.eye(4, dtype="float32")
    for objective in (smoothness(), smoothness(summary="gram"), sparsity()):
        one, other = (acc.summary(objective) for acc in (found, expected))
        np.testing.assert_allclose(objective(eye, one), objective(eye, other), rtol=1e-5)
        np.testing.assert_allclose(one.effective(), found.samples, rtol=1e-5)
    # Shared out and merged; killed and resumed.
    at = sum(part.shape[1] for part, _ in parts[:2])
    merged = empty().consume(parts[:2]).merge(empty(first=at).consume(parts[2:], stream="rest"))
    assert merged.tally == found.tally
    np.testing.assert_allclose(merged.gram, found.gram, rtol=1e-6)
    np.testing.assert_array_equal(merged.reservoir.weights, found.reservoir.weights)

    def killed(first):
        yield from parts[first:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty(devices=devices).consume(killed, save=tmp_path / "sums.npz")
    resumed = jd.Accumulator.load(tmp_path / "sums.npz", devices).consume(parts)
    np.testing.assert_array_equal(resumed.gram, found.gram)
    np.testing.assert_array_equal(resumed.reservoir.columns, found.reservoir.columns)
    np.testing.assert_array_equal(resumed.reservoir.weights, found.reservoir.weights)
    assert (resumed.count, resumed.tally) == (found.count, found.tally)
    other = [parts[0], parts[1], (parts[2][0], parts[2][1] + 1)]
    with pytest.raises(ValueError, match="batch 2 is not the one that was counted"):
        jd.Accumulator.load(tmp_path / "sums.npz", devices).consume(other)


def test_an_accumulator_refuses_bad_weights_and_adds_nothing_of_padding():
    parts, _, _ = stream(70)
    acc = empty().add(*parts[0])
    padding = acc.add(np.full((4, 3), np.nan, "float32"), np.zeros(3))
    assert (padding.count, padding.tally) == (acc.count, acc.tally)
    np.testing.assert_array_equal(padding.gram, acc.gram)
    for weights, message in (
        (-parts[0][1], "is negative"),
        (parts[0][1][1:], "got shape"),
        (parts[0][1] * 1j, "complex"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"batch, weights: .*{message}"):
            acc.add(parts[0][0], weights)
    with pytest.raises(ValueError, match="columns hold NaN"):
        acc.add(parts[0][0], np.ones(70))


def test_accumulators_of_format_1_are_read(tmp_path):
    from jaxdescramble.descrambling.accumulators._storage import read_sealed, write_sealed

    empty().add(stream(70)[1]).save(tmp_path / "new.npz")
    header, arrays = read_sealed(tmp_path / "new.npz", "Accumulator")
    assert header["format"] == 2
    header.pop("tally")
    write_sealed(tmp_path / "old.npz", header | {"format": 1}, arrays)
    old = jd.Accumulator.load(tmp_path / "old.npz")
    assert old.tally is None
    assert old.samples == old.count == header["count"]


@pytest.mark.parametrize("objective", [total_variation(boundary="neumann"), sparsity(), smoothness(summary="samples")])
def test_the_second_pass_weighs_samples(objective):
    parts, repeated, _ = stream()
    acc, P = empty().consume(parts), orthogonal.random(jax.random.key(1), 4, dtype="float32")
    value, slope = score(objective, P, parts, acc, gradient=True)
    expected, bend = jax.value_and_grad(objective)(P, Samples(jnp.asarray(repeated)))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, bend, atol=1e-5)
    moved = refine(objective, P, parts, acc, optax.sgd(0.1), passes=2)
    assert score(objective, moved.point, parts, acc) < value
    with pytest.raises(ValueError, match=r"other (weights|data)"):
        score(objective, P, [(part, np.minimum(own, 1)) for part, own in parts], acc)


@pytest.mark.thorough
def test_a_sweep_weighs_samples_and_knows_them_again(tmp_path):
    stack = jnp.stack([signals(seed) for seed in range(2)])
    aims = {"smooth": smoothness(), "alike": similarity()}
    problems = jd.grid(np.asarray(poisoned(stack)), aims, weights={0: WEIGHTS, 1: WEIGHTS})
    table = jd.sweep(problems, tmp_path / "weighted")
    plain = jd.sweep(jd.grid(np.asarray(stack[..., REPEATED]), aims), tmp_path / "repeated")
    close(table["value"], plain["value"])
    assert table["status"].tolist() == plain["status"].tolist()
    close(table["samples"], np.full(4, KISH))
    assert plain["samples"].tolist() == [SUM] * 4
    assert jd.sweep(problems, tmp_path / "weighted")["value"].tolist() == table["value"].tolist()
    with pytest.raises(ValueError, match="which differs in: the shapes of the signals, or weights of samples"):
        jd.sweep(jd.grid(np.asarray(poisoned(stack)), aims, weights=2 * WEIGHTS), tmp_path / "weighted")
    with pytest.raises(ValueError, match=r"problem 0 .*weights: -1"):
        jd.sweep(jd.grid(np.asarray(stack), aims, weights=-WEIGHTS), tmp_path / "bad")
    with pytest.raises(TypeError, match=r"problem 0 .*users_own does not say that it weighs"):
        jd.sweep(jd.grid(np.asarray(stack), from_function(users_own), weights=WEIGHTS), tmp_path / "bad")
    with pytest.raises(ValueError, match="weights: there is no layer 7"):
        jd.grid(np.asarray(stack), aims, weights={7: WEIGHTS})


def test_the_specification_of_a_sweep_names_an_array_of_weights(tmp_path):
    np.savez(tmp_path / "net.npz", **{"first.signals": np.asarray(signals()), "padding": WEIGHTS})
    asked = request({"signals": {"files": ["net.npz"], "weights": "padding"}}, tmp_path)
    assert asked.problems[0].weights.tolist() == WEIGHTS.tolist()
    for name, message in (
        ("masks", "got 'masks'; must be the name of an array with one axis. The files hold padding"),
        (3, "got 3"),
    ):
        with pytest.raises((ValueError, TypeError), match=re.escape(f"signals.weights: {message}")):
            request({"signals": {"files": ["net.npz"], "weights": name}}, tmp_path)


def filmed(params, x, objective, folder=None, **options):
    def f(params, x):
        return jnp.tanh(x @ params["first"]) @ params["second"]

    with jd.Film(f, x, objective, every=1, wait=True, out=folder, **options) as film:
        film.see(0, params)
    return film.frames.check().layers["['first']"].output


@pytest.mark.parametrize("objective", [smoothness(summary="gram"), sparsity("l4")], ids=["closed form", "iterative"])
def test_a_film_weighs_samples(objective, tmp_path):
    rng = np.random.default_rng(0)
    params = {"first": jnp.asarray(rng.standard_normal((6, 4))), "second": jnp.ones((4, 2))}
    x = np.array(signals(1, M, 6))
    expected = filmed(params, x[REPEATED], objective)
    x[WEIGHTS == 0] = np.nan
    found = filmed(params, x, objective, tmp_path, weights=WEIGHTS)
    close(found.value, expected.value, rtol=1e-6)
    close(found.point, expected.point, atol=1e-4)
    close(found.samples, [KISH])
    assert expected.samples == [SUM]
    close(jd.descrambling.Frames.load(tmp_path).layers["['first']"].output.samples, [KISH])
    with pytest.raises(ValueError, match="weights: all are zero"):
        filmed(params, x, objective, weights=0 * WEIGHTS)


def test_the_battery_has_no_objective_of_signals_that_does_not_weigh():
    plain = [name for name, one in BATTERY.items() if one.applies_to == "signals" and not one.takes_weights]
    assert not plain, (
        f"{plain}: an objective of this package that reads samples must say `takes_weights = True`, and multiply the "
        "terms of every sum over samples by `summary.weigh(terms)`."
    )
