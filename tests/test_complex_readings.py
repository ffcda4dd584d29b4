"""Gauges, bootstraps and readings of complex descramblings, against formulas by hand and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import unitary_group

import jaxdescramble as jd
from jaxdescramble import exact, findings
from jaxdescramble.descrambling.bootstrapping import _gauge
from jaxdescramble.findings.agreement import chance_twin
from jaxdescramble.objectives import smoothness, sparsity
from jaxdescramble.operators import derivative

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
N = 6
POWERS = np.asarray([9.0, 4.0, 2.0, 1.0, 0.4, 0.1])


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def commuting(rng, D):
    """A random unitary matrix that commutes with `D^T D`: a random U(k) for each run of k equal eigenvalues."""
    blocks = np.zeros((D.size, D.size), complex)
    place = 0
    for k in D.multiplicities:
        blocks[place : place + k, place : place + k] = (
            unitary_group.rvs(k, random_state=rng) if k > 1 else np.exp(2j * np.pi * rng.uniform())
        )
        place += k
    basis = np.asarray(D.basis)
    return basis @ blocks @ basis.T


def phases(rng, n, common=False):
    return np.diag(np.exp(2j * np.pi * np.broadcast_to(rng.uniform(size=1 if common else n), n)))


@needs_x64
@pytest.mark.every_case
@pytest.mark.parametrize("what", ["stabiliser", "phases", "common", "shifts"])
def test_alignment_undoes_an_element_of_the_gauge_and_is_the_nearest(what):
    rng = np.random.default_rng(0)
    p, D = gaussian(rng, N, N), derivative(N)
    gauge, element = {
        "stabiliser": lambda: (exact.Stabiliser(D), lambda: commuting(rng, D)),
        "phases": lambda: (exact.Phases(N), lambda: phases(rng, N)),
        "common": lambda: (exact.Phases(N, common=True), lambda: phases(rng, N, common=True)),
        "shifts": lambda: (
            exact.CircularShifts(N),
            lambda: phases(rng, N, True) @ np.roll(np.eye(N)[:: rng.choice([-1, 1])], rng.integers(N), axis=0),
        ),
    }[what]()
    turned = jnp.asarray(np.asarray(element()) @ np.asarray(p))
    align = jax.jit(exact.align)
    found = align(p, turned, gauge)
    assert found.distance < 1e-13
    np.testing.assert_allclose(found.aligned, turned, atol=1e-13)
    # Towards another matrix no element comes nearer, and G is unitary.
    q = gaussian(rng, N, N)
    best = align(p, q, gauge)
    G = np.asarray(best.element)
    np.testing.assert_allclose(G @ G.conj().T, np.eye(N), atol=1e-13)
    others = [np.linalg.norm(np.asarray(element()) @ np.asarray(p) - np.asarray(q)) for _ in range(60)]
    assert best.distance * np.linalg.norm(q) < min(others)


@needs_x64
def test_phases_of_real_matrices_are_signs():
    rng = np.random.default_rng(1)
    p = jnp.asarray(rng.standard_normal((N, N)))
    signs = jnp.asarray([1.0, -1.0, -1.0, 1.0, -1.0, 1.0])
    align = jax.jit(exact.align)
    np.testing.assert_array_equal(align(p, signs[:, None] * p, exact.Phases(N)).element, np.diag(signs))
    np.testing.assert_array_equal(align(p, -p, exact.Phases(N, common=True)).element, -np.eye(N))


@needs_x64
@pytest.mark.thorough
def test_canonical_point_is_the_one_of_the_closed_form():
    rng = np.random.default_rng(2)
    objective = smoothness()
    D = objective.operator(N)
    found = jd.descramble(gaussian(rng, N, 9), objective, group="U")
    moved = commuting(rng, D) @ found.point
    assert abs(moved - found.point).max() > 0.1
    np.testing.assert_allclose(exact.canonical(moved, D), found.point, atol=1e-12)


def signals(rng, m):
    return jnp.asarray(unitary_group.rvs(N, random_state=rng)) @ (np.sqrt(POWERS)[:, None] * gaussian(rng, N, m))


@pytest.mark.thorough
@needs_x64
@pytest.mark.parametrize("boundary", ["periodic", "neumann"])
def test_draws_scatter_about_a_complex_answer_as_samples_do_about_the_limit(boundary):
    """Off-diagonal moments have the variance of real signals, split into two parts: the formula is the same."""
    rng, m, objective = np.random.default_rng(3), 3000, smoothness(boundary=boundary)
    S = signals(rng, m)
    found = jd.bootstrap(S, objective, key=jax.random.key(1), draws=150, group="U")
    predicted = float(exact.sampling_error(objective.operator(N), POWERS, m))
    np.testing.assert_allclose(jnp.mean(found.distances**2), predicted, rtol=0.3)
    by_hand = np.linalg.norm(np.asarray(found.points) - np.asarray(found.point), axis=(1, 2))
    np.testing.assert_allclose(found.distances, by_hand, rtol=1e-12)
    # Each aligned draw is the nearest of all equal answers: any other element of the gauge leads away.
    gauge = exact.Stabiliser(objective.operator(N))
    np.testing.assert_allclose(gauge.nearest(found.points[3], found.point), np.eye(N), atol=1e-7)
    assert found.values.dtype == jnp.float64
    low, high = found.band(lambda P: jnp.abs(P @ S[:, 0]))
    assert (low < high).all()
    assert float(jnp.mean(high - low)) < 0.5 * float(jnp.mean(jnp.abs(S[:, 0])))
    with pytest.raises(TypeError, match=r"returned complex numbers \(complex128\), which have no order.*jnp.abs"):
        found.band(lambda P: P @ S[:, 0])


@needs_x64
@pytest.mark.thorough
def test_an_iterative_bootstrap_aligns_the_phases_that_are_free():
    rng = np.random.default_rng(4)
    sources = np.where(rng.uniform(size=(2, 200)) < 0.3, gaussian(rng, 2, 200), 0)
    S = jnp.asarray(unitary_group.rvs(2, random_state=rng) @ sources)
    found = jd.bootstrap(S, sparsity("logcosh", 0.3), jd.solvers.LBFGS(), key=jax.random.key(0), draws=3, group="U")
    assert 1e-6 < float(found.distances.min()) <= float(found.distances.max()) < 0.3
    # What an alignment leaves: inner products of rows that are real and positive.
    overlap = np.einsum("ij,dij->di", np.asarray(found.point).conj(), np.asarray(found.points))
    np.testing.assert_allclose(np.angle(overlap), 0, atol=1e-12)


def test_default_gauges_of_complex_descramblers():
    point = jnp.eye(3) + 0j
    assert _gauge(sparsity(), point) == exact.Phases(3)
    assert _gauge(jd.objectives.locality(), point) == exact.Phases(3)
    assert _gauge(jd.objectives.total_variation(), point) == exact.Phases(3, common=True)
    assert _gauge(sparsity(), point.real) is None


@needs_x64
@pytest.mark.thorough
def test_a_weighted_bootstrap_of_complex_signals_draws_by_weight():
    rng = np.random.default_rng(5)
    S = signals(rng, 40)
    weights = (np.arange(40) < 20).astype(float)
    found = jd.bootstrap(S.at[:, 20:].set(jnp.nan), key=jax.random.key(1), draws=2, group="SU", weights=weights)
    np.testing.assert_allclose(found.point, jd.descramble(S[:, :20], group="SU").point, atol=1e-10)
    assert np.isfinite(found.values).all()


FIRST = tuple(one for one in findings.FIRST_LAYER if "ridge" not in one.name)
SECOND = findings.SECOND_LAYER
ALL = jax.jit(lambda W: (findings.fourier_map(W), findings.fourier_energy(W), findings.band_edge(W, 0.5)))


def folded(energy, axis):
    """Sum over the frequencies +f and -f."""
    n = energy.shape[axis]
    onto = (np.minimum(np.arange(n), n - np.arange(n))[None, :] == np.arange(n // 2 + 1)[:, None]).astype(float)
    return np.moveaxis(np.tensordot(onto, energy, (1, axis)), 0, axis)


@needs_x64
def test_fourier_readings_of_complex_weights_by_hand():
    """From the definition of the transform; all signs of frequencies are kept, then summed."""
    W, n = gaussian(np.random.default_rng(6), N, N), np.arange(N)
    fourier_matrix = np.exp(-2j * np.pi * np.outer(n, n) / N) / np.sqrt(N)
    energy = np.abs(fourier_matrix @ W @ fourier_matrix) ** 2
    both = folded(folded(energy, 0), 1)
    (link, given, magnitude), folded_energy, edge = ALL(W)
    np.testing.assert_allclose(folded_energy, both, rtol=1e-11)
    np.testing.assert_allclose(magnitude, np.fft.fftshift(np.sqrt((energy + energy[-n]) / 2)), rtol=1e-11)
    assert link.dtype == magnitude.dtype == jnp.float64
    assert given.tolist() == list(range(-3, 3))
    spectrum = both.sum(axis=0)
    np.testing.assert_allclose(edge, np.interp(0.5 * spectrum.sum(), np.cumsum(spectrum), np.arange(4) + 0.5))
    values = findings.measure(FIRST, W, W)
    np.testing.assert_allclose(values["notch, all link frequencies"], spectrum[0] / (spectrum[1:3].sum() / 4))
    joint = folded(energy, 0) / energy.sum()
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    information = np.sum(joint * np.log(joint / alone)) / np.log(4)
    np.testing.assert_allclose(values["frequency concentration"], information, rtol=1e-11)


@needs_x64
def test_a_wave_of_one_sense_has_a_signed_frequency():
    n = np.arange(N)
    wave = np.exp(2j * np.pi * (n[:, None] / N - 2 * n / N))
    (_, given, magnitude), _, _ = ALL(wave)
    share = np.sum(np.asarray(magnitude) ** 2, axis=0) / N**2
    assert given[np.argmax(share)] == -2
    np.testing.assert_allclose(share.max(), 1, rtol=1e-12)


@needs_x64
def test_link_and_output_readings_of_complex_weights_by_hand():
    rng = np.random.default_rng(7)
    W, basis = gaussian(rng, N, N), np.asarray(derivative(N).basis)
    values = findings.measure(SECOND, W, W)
    onto = ((np.arange(N) + 1)[None, :] // 2 == np.arange(4)[:, None]).astype(float)
    blocks = onto @ np.abs(basis.T @ W.conj().T @ W @ basis) ** 2 @ onto.T
    near = abs(np.arange(4)[:, None] - np.arange(4)) <= 2
    np.testing.assert_allclose(values["link bandedness"], blocks[near].sum() / blocks.sum(), rtol=1e-11)
    sizes = onto @ np.sum(np.abs(W @ basis) ** 2, axis=0)
    cosines = (blocks / np.outer(sizes, sizes))[~near]
    np.testing.assert_allclose(values["link orthogonality"], 1 - cosines.mean(), rtol=1e-11)
    products = np.abs(W @ W.conj().T) ** 2
    close = abs(np.arange(N)[:, None] - np.arange(N)) <= 1
    np.testing.assert_allclose(values["output bandedness"], products[close].sum() / products.sum(), rtol=1e-11)
    rows = products / np.sqrt(np.outer(np.diag(products), np.diag(products)))
    np.testing.assert_allclose(values["row orthogonality"], 1 - rows[~close].mean(), rtol=1e-11)
    left = np.linalg.svd(W)[0][:, :5]
    shares = np.abs(left.conj().T @ W @ basis) ** 2 @ onto.T
    np.testing.assert_allclose(values["link purity"], np.mean(shares.max(axis=1) / shares.sum(axis=1)), rtol=1e-11)
    centroid = np.abs(W @ basis) ** 2 @ onto.T @ np.arange(4) / np.sum(np.abs(W) ** 2, axis=1)
    pairs = np.outer(*2 * [np.linalg.norm(W, axis=1)]) * (1 - np.eye(N))
    order = np.sign(np.subtract.outer(np.arange(N), np.arange(N))) * np.sign(np.subtract.outer(centroid, centroid))
    np.testing.assert_allclose(values["distance map"], np.sum(pairs * order) / pairs.sum(), rtol=1e-11)
    # One output vector, a half-range cosine with a phase: the match is perfect.
    cosine = np.cos(np.pi * 3 * (np.arange(N) + 0.5) / N)[:, None] * np.exp(1j * rng.uniform(0, 6, N))
    np.testing.assert_allclose(findings.measure(SECOND, cosine, cosine)["cosine R2"], 1, rtol=1e-12)


@needs_x64
def test_readings_do_not_see_the_unitary_gauge_and_real_weights_read_the_same():
    """A gauge element on the link axis, from the left for a first layer and from the right for a second one."""
    rng = np.random.default_rng(8)
    W, real, turn = gaussian(rng, N, N), rng.standard_normal((N, N)), commuting(rng, derivative(N))
    for battery, moved in ((FIRST, turn @ W), (SECOND, W @ turn)):
        values = findings.measure(battery, W, W)
        for name, value in findings.measure(battery, moved, moved).items():
            np.testing.assert_allclose(value, values[name], rtol=1e-9, err_msg=name)
        as_complex = findings.measure(battery, real + 0j, real + 0j)
        for name, value in findings.measure(battery, real, real).items():
            if name != "frequency concentration":  # it tells signs of input frequencies apart
                np.testing.assert_allclose(as_complex[name], value, rtol=1e-9, err_msg=name)


@needs_x64
@pytest.mark.thorough
def test_comparisons_and_nulls_of_complex_weights():
    rng = np.random.default_rng(9)
    wave = np.exp(2j * np.pi * np.arange(N) / N)[:, None] * np.ones((1, N))
    W = jnp.asarray(wave) + 0.1 * gaussian(rng, N, N)
    draws = jax.vmap(findings.random_frame, (0, None))(jax.random.split(jax.random.key(0), 39), W)
    singular = np.linalg.svd(np.asarray(draws), compute_uv=False)
    np.testing.assert_allclose(singular, np.broadcast_to(np.linalg.svd(W, compute_uv=False), (39, N)), rtol=1e-10)
    # Entries of a Haar matrix are circular: E z^2 = 0 and E |z|^2 = ||W||^2 / (n m).
    assert abs(np.mean(np.asarray(draws) ** 2)) < 0.1 * np.mean(np.abs(np.asarray(draws)) ** 2)
    edge = findings.compare(FIRST[:1], W, W, {"random frame": (draws, draws)})[0]
    assert edge.p_value["random frame"] == 1 / 40
    with pytest.raises(TypeError, match=r"nulls\['real'\]: got float64 for a weight of complex128"):
        findings.compare(FIRST[:1], W, W, {"real": (draws.real, draws.real)})
    twin = chance_twin(jax.random.key(1), W)
    np.testing.assert_allclose(twin @ twin.conj().T, W @ W.conj().T, atol=1e-12)


@needs_x64
@pytest.mark.thorough
def test_consistency_of_complex_matrices():
    rng = np.random.default_rng(10)
    W, D = gaussian(rng, N, N), derivative(N)
    alike = jnp.stack([commuting(rng, D) @ W for _ in range(3)])
    found = findings.consistency(alike, key=jax.random.key(0), draws=9)
    np.testing.assert_allclose(found.score, 1, rtol=1e-12)
    assert found.null.max() < 0.95
    # Two matrices without a common story: the cosine is Re tr(A^H B) after the alignment.
    apart = jnp.stack([W, gaussian(rng, N, N)])
    score, _ = findings.consistency(apart, key=jax.random.key(0), draws=2)
    aligned = exact.align(apart[0], apart[1], exact.Stabiliser(D)).aligned
    by_hand = np.vdot(aligned, apart[1]).real / np.linalg.norm(apart[0]) / np.linalg.norm(apart[1])
    assert 0 < by_hand < 0.95
    np.testing.assert_allclose(score, by_hand, rtol=1e-11)


SQUARE = 1j * jnp.eye(4) + 1
REFUSED = {
    "a bootstrap with a rank": (
        lambda: jd.bootstrap(SQUARE, key=jax.random.key(1), group="U", rank=2),
        "rank: group 'U' takes no rank",
    ),
    "ridge": (lambda: findings.ridge(SQUARE), "weight: got complex numbers.*takes real weights.*Leave it out of"),
    "a battery with a ridge": (lambda: findings.measure(findings.FIRST_LAYER, SQUARE, SQUARE), "not in one.name"),
    "halves of two kinds": (lambda: findings.link_purity(SQUARE, SQUARE.real), "both must be real or both complex"),
    "degeneracy as a gauge": (
        lambda: exact.align(SQUARE, SQUARE, exact.Degeneracy(derivative(4), jnp.eye(4), (1, 1, 1, 1))),
        "a Degeneracy aligns real ones",
    ),
    "explain of layers": (
        lambda: jd.explain({"a": (np.asarray(SQUARE), np.ones((4, 9), complex))}, draws=19),
        "a: its weight and signals are complex.*group='U'",
    ),
    "an accumulator": (lambda: jd.Accumulator.empty(4, "complex64"), "give both parts as separate samples"),
    "a sweep": (
        lambda: jd.sweep([jd.Problem(np.ones((3, 5), complex), smoothness())], "nowhere"),
        "call descramble.signals, group='U'",
    ),
}


@pytest.mark.every_case
@pytest.mark.parametrize("what", REFUSED)
def test_what_reads_no_complex_numbers_says_so(what):
    call, message = REFUSED[what]
    with pytest.raises(TypeError, match=message):
        call()


def test_a_film_takes_no_unitary_group():
    with pytest.raises(ValueError, match="group: got 'U', but a film takes networks with real weights only"):
        jd.Film(lambda p, x: x @ p, jnp.ones((4, 3)), group="U")


@pytest.mark.thorough
def test_alignment_of_complex_matrices_has_derivatives_forward_and_reverse():
    rng = jax.random.split(jax.random.key(8), 2)
    P, Q = (jd.manifolds.Unitary().random(key, 6, 6) for key in rng)
    gauge, turn = exact.Stabiliser(jd.operators.derivative(6, boundary="periodic")), jnp.diag(jnp.arange(6.0))

    def distance(t):
        return exact.align(jax.scipy.linalg.expm(1j * t * turn) @ P, Q, gauge).distance

    slope = (distance(0.3 + 1e-5) - distance(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose([jax.grad(distance)(0.3), jax.jvp(distance, (0.3,), (1.0,))[1]], slope, rtol=1e-6)
    # At the answer, where all singular values are 1.
    assert jnp.isfinite(jax.jacfwd(lambda t: exact.align(jnp.exp(1j * t) * P, P, gauge).aligned)(0.0)).all()
