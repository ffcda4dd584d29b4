"""One frame for several layers: `descramble([...], shared=True)` minimises the mean of the objective over layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import objectives
from jaxdescramble.operators import derivative

N = 8
KEYS = jax.random.split(jax.random.key(0), 4)
LAYERS = [
    jnp.cumsum(jax.random.normal(KEYS[0], (N, 40)), 0),
    30 * jax.random.laplace(KEYS[1], (N, 25)),  # loud, and few samples
    0.1 * jax.random.normal(KEYS[2], (N, 60)),
]
GRAM = objectives.Gram.empty(N, jnp.float64).update(LAYERS[0])
FACTOR = objectives.Factor.empty(N, jnp.float64).update(LAYERS[0])
OBJECTIVES = {
    "smoothness": objectives.smoothness(),
    "locality": objectives.locality(),
    "sparsity": objectives.sparsity(),
    "total variation": objectives.total_variation(),
    "entropy": objectives.entropy(),
    "spectral entropy": objectives.spectral_entropy(),
    "monotonicity": objectives.monotonicity(),
    "sum": objectives.weighted((1.0, objectives.smoothness()), (0.5, objectives.sparsity())),
}


def mean_of(objective, point, shares=(1.0, 1.0, 1.0)):
    values = [objective(point, objective.summarise(layer)) for layer in LAYERS]
    return sum(share * value for share, value in zip(shares, values, strict=True)) / sum(shares)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_value_is_the_mean_over_the_layers(name):
    objective = OBJECTIVES[name]
    found = jd.descramble(LAYERS, objective, shared=True).check()
    np.testing.assert_allclose(found.value, mean_of(objective, found.point), rtol=1e-12)
    for key in jax.random.split(KEYS[3], 3):  # lower than anywhere that chance leads
        assert float(found.value) < float(mean_of(objective, jd.manifolds.orthogonal.random(key, N)))


def test_the_closed_form_is_that_of_the_sum_of_normalised_covariances():
    found = jd.descramble(LAYERS, shared=True)
    B = sum(np.asarray(layer @ layer.T / jnp.sum(layer**2)) for layer in LAYERS) / len(LAYERS)
    a = np.asarray(derivative(N).eigenvalues)
    least = np.sort(a) @ np.sort(np.linalg.eigvalsh(B))[::-1] / a.max()
    np.testing.assert_allclose(found.value, least, rtol=1e-10)
    np.testing.assert_allclose(found.gap, 0, atol=1e-12)
    alone = [float(jd.descramble(layer).value) for layer in LAYERS]
    assert float(found.value) > np.mean(alone)  # one frame for all costs something


def test_shares_weights_and_rank():
    shares = jd.descramble(LAYERS, shared=True, weights=[2.0, 1.0, None])
    np.testing.assert_allclose(
        shares.value, mean_of(objectives.smoothness(), shares.point, (2.0, 1.0, 1.0)), rtol=1e-12
    )
    # A weight of 0 leaves a sample out, whatever it holds; a whole number counts it that many times.
    spoiled = [LAYERS[0].at[:, 0].set(jnp.nan), *LAYERS[1:]]
    counts = jnp.ones(40).at[0].set(0).at[1].set(2)
    weighted = jd.descramble(spoiled, shared=True, weights=[counts, None, None])
    repeated = jd.descramble([jnp.concatenate([LAYERS[0][:, 1:2], LAYERS[0][:, 1:]], 1), *LAYERS[1:]], shared=True)
    np.testing.assert_allclose(weighted.value, repeated.value, rtol=1e-10)
    wide = jd.descramble(LAYERS, shared=True, rank=3)
    assert wide.point.shape == (3, N)
    assert 0 < float(wide.left_out) < 1


def total(point, summary):
    return jnp.trace(point @ summary.gram) ** 2


def largest(point, summary):
    return jnp.sum((point @ summary.signals) ** 4)


@pytest.mark.parametrize("kind", ["Gram", "Factor", "Sketch"])
def test_summaries_are_merged_as_arrays_are(kind):
    how = {"rank": N} if kind == "Sketch" else {}
    made = [getattr(objectives, kind).empty(N, layer.dtype, **how).update(layer) for layer in LAYERS]
    how = {"shared": True, "weights": [2.0, 1.0, None]} | ({"rank": 3} if kind == "Sketch" else {})
    found, expected = jd.descramble(made, **how), jd.descramble(LAYERS, **how)
    for field in ("value", "bound", "samples", "left_out"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-8)
    values, others = (np.asarray(one.singular_values) for one in (found, expected))
    np.testing.assert_allclose(values / values[0], others / others[0], rtol=1e-8)


def test_layers_of_any_size_and_complex_ones_count_the_same():
    tiny = [LAYERS[0] * 1e-200, LAYERS[1] * 1e200, LAYERS[2]]
    np.testing.assert_allclose(jd.descramble(tiny, shared=True).value, jd.descramble(LAYERS, shared=True).value)
    turned = [jnp.exp(1j * k) * layer for k, layer in enumerate(LAYERS)]
    found = jd.descramble(turned, shared=True, group="U").check()
    np.testing.assert_allclose(found.value, jd.descramble(LAYERS, shared=True).value, rtol=1e-10)


@pytest.mark.usefixtures("as_installed")
def test_layers_of_a_shared_frame_are_scored_one_by_one():
    found = jd.descramble(LAYERS, shared=True)
    each = [float(found.score(layer)) for layer in LAYERS]
    np.testing.assert_allclose(found.value, np.mean(each), rtol=1e-9)
    with pytest.raises(TypeError, match=r"got a list of 3; give one array.*\[found.score\(S\) for S in layers\]"):
        found.score(LAYERS)


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("signals", "options", "error", "message"),
    [
        (LAYERS[0], {}, TypeError, "needs a list of signals"),
        ([LAYERS[0], LAYERS[1][:5]], {}, ValueError, r"signals\[1\]"),
        ([LAYERS[0], LAYERS[1][None]], {}, ValueError, r"signals\[1\]: expected \(features, samples\)"),
        (LAYERS, {"weights": [1.0]}, ValueError, "one entry for each of 3 layers"),
        (LAYERS, {"weights": [-1.0, 1.0, 1.0]}, ValueError, r"weights\[0\]: expected a positive number, or an array"),
        (LAYERS, {"weights": [1.0, 0.0, 1.0]}, ValueError, r"weights\[1\].*leave out a layer"),
        ([objectives.Gram.empty(N, jnp.float64)] * 2, {}, ValueError, r"signals\[0\]: an empty summary"),
        ([GRAM, LAYERS[0]], {}, TypeError, r"signals\[1\]: shared=True takes no ArrayImpl among summaries; give Grams"),
        ([objectives.Samples(LAYERS[0])] * 2, {}, TypeError, "no Samples among summaries; give their signals"),
        ([GRAM, FACTOR], {}, TypeError, r"signals\[1\]: got a Factor, but signals\[0\] is a Gram"),
        (
            [GRAM] * 2,
            {"weights": [jnp.ones(40), None]},
            TypeError,
            r"weights\[0\]: a summary holds its samples' weights",
        ),
        ([GRAM] * 2, {"objective": objectives.sparsity("l4")}, TypeError, "not the mean over the layers"),
        (
            [GRAM] * 2,
            {"objective": objectives.from_function(total, summary=objectives.Gram)},
            TypeError,
            "at some frame",
        ),
        ([LAYERS[0], LAYERS[0][:, :0]], {}, ValueError, r"signals\[1\]: shape \(8, 0\) has an empty axis"),
        ([jnp.eye(N)] * 2, {"objective": objectives.diagonal_sum()}, TypeError, "reads weight matrices"),
        (LAYERS, {"objective": objectives.sparsity("l4")}, TypeError, "not the mean over the layers"),
        (LAYERS, {"objective": objectives.similarity(jnp.ones((N, 125)))}, TypeError, "not the mean over the layers"),
        ([LAYERS[0]] * 2, {"objective": objectives.from_function(largest)}, TypeError, "at some frame"),
    ],
)
def test_bad_input_is_refused(signals, options, error, message):
    with pytest.raises(error, match=message):
        jd.descramble(signals, shared=True, **options)
