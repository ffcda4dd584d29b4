"""Readings of planted matrices have the planted answers, do not see the gauge, and are judged against nulls rightly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.findings import (
    FIRST_LAYER,
    SECOND_LAYER,
    Measure,
    band_edge,
    compare,
    distance_map_monotonicity,
    fourier_energy,
    fourier_map,
    frequency_concentration,
    link_bandedness,
    link_orthogonality,
    link_purity,
    measure,
    notch_depth,
    output_bandedness,
    polynomial_match,
    random_frame,
    ridge,
    ridge_exponent,
    ridge_fit_r2,
    ridge_monotonicity,
    row_orthogonality,
)
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.operators import derivative

pytestmark = pytest.mark.both_precisions

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
LINK, INPUT, OUTPUT = 20, 64, 48
BATTERIES = {"first": (FIRST_LAYER, (LINK, INPUT)), "second": (SECOND_LAYER, (OUTPUT, LINK))}
frames = jax.jit(jax.vmap(random_frame, in_axes=(0, None)))


@functools.cache
def compiled(reading, **options):
    return jax.jit(functools.partial(reading, **options))


def number(reading, *matrices, **options) -> float:
    """A reading, compiled whole: run eagerly, every operation is compiled for every shape."""
    return float(compiled(reading, **options)(*map(jnp.asarray, matrices)))


def wave(n: int, k: float, phase: float = 0.0) -> np.ndarray:
    """A sinusoid of k cycles and unit length (0 < k < n / 2)."""
    return np.sqrt(2 / n) * np.cos(2 * np.pi * k * np.arange(n) / n + phase)


def ridged(places: dict[int, int], amplitudes=None, n: int = LINK, m: int = INPUT) -> jnp.ndarray:
    """A matrix whose link frequency k has all its energy at input frequency places[k]."""
    amplitudes = amplitudes or dict.fromkeys(places, 1.0)
    return jnp.asarray(sum(amplitudes[k] * np.outer(wave(n, k, k), wave(m, f, 1.0)) for k, f in places.items()))


def planted(layer: str, noise: float = 0.02) -> jnp.ndarray:
    """A matrix that shows what the paper found, on a little noise."""
    rough = np.random.default_rng(1)
    if layer == "first":
        M = np.asarray(ridged({1: 1, 2: 4, 3: 9, 4: 16}, {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4}))
    else:
        r = np.linspace(0, 1, OUTPUT)
        bumps = [np.exp(-(((r - (9 - k) / 9) / 0.04) ** 2)) for k in range(1, 9)]
        M = sum(np.outer(b / np.linalg.norm(b), wave(LINK, k + 1)) * (1 + 0.2 * k) for k, b in enumerate(bumps))
    return jnp.asarray(M + noise * rough.standard_normal(M.shape))


@functools.partial(jax.jit, static_argnums=1)
def gauge(key, n: int) -> jnp.ndarray:
    """A random element of the stabiliser of the derivative on n points: O(k) on each run of k equal eigenvalues."""
    D = derivative(n)
    runs = [orthogonal.random(k, size) for k, size in zip(jax.random.split(key, n), D.multiplicities, strict=False)]
    block = jax.scipy.linalg.block_diag(*runs).astype(jnp.zeros(0).dtype)
    return D.synthesise(block @ D.analyse(jnp.eye(n)))


def turned(layer: str, element: jnp.ndarray, M: jnp.ndarray) -> jnp.ndarray:
    """The link axis turned: rows of a first layer, columns of a second."""
    return element @ M if layer == "first" else M @ element.T


def as_floats(readings: dict) -> dict[str, float]:
    return {name: float(value) for name, value in readings.items()}


# --- Fourier --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (1, 2)])
def test_energy_adds_up_and_agrees_with_the_map(shape):
    W = jax.random.normal(jax.random.key(0), shape)
    energy, picture = jax.jit(lambda W: (fourier_energy(W), fourier_map(W)))(W)
    assert energy.shape == (shape[0] // 2 + 1, shape[1] // 2 + 1)
    np.testing.assert_allclose(energy.sum(), jnp.sum(W**2), rtol=100 * EPS)
    folded = np.zeros(energy.shape)
    for i, k in enumerate(picture.link_frequency):
        for j, f in enumerate(picture.input_frequency):
            folded[abs(int(k)), abs(int(f))] += float(picture.magnitude[i, j]) ** 2
    np.testing.assert_allclose(folded, energy, atol=100 * EPS)
    assert (np.diff(picture.link_frequency) == 1).all()


def test_map_does_not_see_the_gauge():
    W = planted("first")
    turned_map = compiled(fourier_map)(gauge(jax.random.key(3), LINK) @ W)
    np.testing.assert_allclose(turned_map.magnitude, compiled(fourier_map)(W).magnitude, atol=100 * EPS)


@pytest.mark.parametrize(("fraction", "edge"), [(0.4, 2.3), (0.75, 7.0), (0.9, 7.3)])
def test_band_edge_is_where_it_was_planted(fraction, edge):
    # Half of the energy at 2 (that bin ends at 2.5), half at 7 (from 6.5 to 7.5).
    W = ridged({1: 2, 2: 7})
    assert number(band_edge, W, fraction=fraction) == pytest.approx(edge, abs=1e-4)


@pytest.mark.parametrize("depth", [0.01, 0.5, 3.0])
def test_notch_has_its_planted_depth_with_and_without_link_frequency_zero(depth):
    beside = sum(np.outer(wave(LINK, 1), wave(INPUT, f)) for f in (1, 2, 3))  # energy 1/2 in each two-sided bin
    constant = np.full(INPUT, INPUT**-0.5)
    level = np.full(LINK, LINK**-0.5)
    moving = np.sqrt(depth / 2) * np.outer(wave(LINK, 2), constant)
    W = jnp.asarray(beside + moving + 2 * np.outer(level, constant))
    assert number(notch_depth, W) == pytest.approx(depth, rel=1e-4)
    assert number(notch_depth, W, link_zero=True) == pytest.approx(depth + 8, rel=1e-4)


def test_concentration_is_one_for_a_permutation_and_zero_for_a_product():
    n, m = 9, 17  # five link frequencies, each with an input frequency to itself and the same energy
    one_to_one = np.outer(np.full(n, n**-0.5), wave(m, 6)) + sum(
        np.outer(wave(n, k), wave(m, f)) for k, f in {1: 8, 2: 3, 3: 1, 4: 5}.items()
    )
    assert number(frequency_concentration, one_to_one, one_to_one) == pytest.approx(1, abs=1e-5)
    rng = np.random.default_rng(0)
    product = np.outer(rng.standard_normal(n), rng.standard_normal(m))
    assert number(frequency_concentration, product, product) == pytest.approx(0, abs=1e-5)
    noise = jax.random.normal(jax.random.key(1), (80, 256))
    # Folded energies are Gamma(2): E[x log x] = psi(3) - log 2 = 0.2296 nats, of log 41.
    assert number(frequency_concentration, noise, noise) == pytest.approx(0.2296 / np.log(41), rel=0.1)


# --- Ridge ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "scale"), [(3, 1.0), (3, 0.5), (2, 1.5), (1, 4.0)])
def test_ridge_law_is_the_planted_one_within_its_error(power, scale):
    places = {k: round(scale * k**power) for k in range(2, 6)}
    found = compiled(ridge)(ridged(places, m=256))
    assert abs(float(found.exponent) - power) < 2 * float(found.exponent_error) + 1e-4
    assert float(found.exponent_error) < 0.15
    assert float(found.r2) > 0.99
    np.testing.assert_allclose(found.input_frequency[1:5], [places[k] for k in range(2, 6)], rtol=1e-4)
    if scale != 0.5:
        assert float(found.coefficient) == pytest.approx(scale, rel=0.05)


def test_ridge_survives_a_noisy_tail_and_noise_alone_has_no_law():
    places = {1: 1, 2: 8, 3: 27, 4: 64}
    noise = 0.004 * jax.random.normal(jax.random.key(0), (80, 256))
    M = ridged(places, {1: 4.0, 2: 2.0, 3: 1.5, 4: 1.0}, n=80, m=256) + noise
    assert number(ridge_exponent, M, M) > 2
    assert number(ridge_monotonicity, M, M) > 0.6
    alone = compiled(ridge)(noise)
    assert abs(float(alone.exponent)) < 0.15
    assert abs(float(alone.exponent)) < 4 * float(alone.exponent_error)


def test_exponent_error_is_calibrated():
    # Places scattered by 20% about a square law, many draws: the scatter of exponents against the errors stated.
    rng = np.random.default_rng(5)
    matrices = [
        ridged({k: max(1, round(1.5 * k**2 * np.exp(0.2 * rng.standard_normal()))) for k in range(3, 10)}, m=400)
        for _ in range(40)
    ]
    found = jax.jit(jax.vmap(ridge))(jnp.stack(matrices))
    z = np.asarray((found.exponent - 2) / found.exponent_error)
    assert abs(np.mean(found.exponent) - 2) < 0.1
    assert 0.6 < np.std(z) < 1.5


def test_ridge_r2_is_that_of_the_other_half():
    square, cube = ridged({k: k**2 for k in (1, 2, 3)}), ridged({k: k**3 for k in (1, 2, 3)})
    assert number(ridge_fit_r2, square, square) == pytest.approx(1, abs=1e-4)
    # log f = 3 log k read by 2 log k: a third of every deviation is missed, and the mean as well.
    x = np.log([1.0, 2.0, 3.0])
    expected = 1 - np.sum(x**2) / np.sum(9 * (x - x.mean()) ** 2)
    assert number(ridge_fit_r2, square, cube) == pytest.approx(expected, abs=1e-4)


def test_monotonicities_have_their_signs_and_size():
    rising, falling = ridged({1: 3, 2: 6, 3: 9, 4: 20}), ridged({1: 20, 2: 9, 3: 6, 4: 3})
    one_swap = ridged({1: 3, 2: 9, 3: 6, 4: 20})
    values = [number(ridge_monotonicity, M, M) for M in (rising, falling, one_swap)]
    np.testing.assert_allclose(values, [1, -1, 4 / 6], atol=0.02)  # rounding leaves a trace of the empty frequencies
    rows = jnp.asarray(np.stack([wave(LINK, k) for k in (7, 5, 3, 1)]))
    assert number(distance_map_monotonicity, rows, rows) == pytest.approx(-1, abs=1e-5)
    assert number(distance_map_monotonicity, rows[::-1], rows[::-1]) == pytest.approx(1, abs=1e-5)
    assert float(distance_map_monotonicity(rows, rows * jnp.asarray([[1.0], [0], [0], [0]]))) == 0


# --- Vectors --------------------------------------------------------------------------------------------------------


def test_purity_is_one_for_sinusoids_and_reads_the_frequency_that_was_chosen():
    left = np.linalg.qr(np.random.default_rng(0).standard_normal((OUTPUT, 3)))[0]
    pure = sum((3 - i) * np.outer(left[:, i], wave(LINK, k, 0.3)) for i, k in enumerate((2, 5, 7)))
    assert number(link_purity, pure, pure) == pytest.approx(1, abs=1e-5)
    mixed = np.outer(left[:, 0], 0.8 * wave(LINK, 2) + 0.6 * wave(LINK, 5))
    assert number(link_purity, mixed, mixed) == pytest.approx(0.64, abs=1e-5)
    other = np.outer(left[:, 0], 0.8 * wave(LINK, 5) + 0.6 * wave(LINK, 2))
    assert number(link_purity, mixed, other) == pytest.approx(0.36, abs=1e-5)
    # Equal singular values: their vectors are any basis, the same one in both halves, so the halves still match.
    tied = sum(np.outer(left[:, i], wave(LINK, k)) for i, k in enumerate((2, 5, 7)))
    phased = sum(np.outer(left[:, i], wave(LINK, k, 1.0)) for i, k in enumerate((2, 5, 7)))
    assert number(link_purity, tied, phased) == pytest.approx(number(link_purity, tied, tied), abs=1e-5)


def test_polynomials_are_told_apart_from_the_third_degree_on():
    x = np.linspace(-1, 1, OUTPUT)
    rng = np.random.default_rng(0)
    right = np.linalg.qr(rng.standard_normal((LINK, 2)))[0]

    def matches(first, second):
        M = np.outer(first, right[:, 0]) * 2 + np.outer(second, right[:, 1]) + 0.7
        M = M - M.mean(axis=0)
        return {f: number(polynomial_match, M, M, family=f, count=2) for f in ("chebyshev", "legendre", "fourier")}

    odd, even = 4 * x**3 - 3 * x, 8 * x**4 - 8 * x**2 + 1
    found = matches(odd, even - even.mean())
    assert found["chebyshev"] == pytest.approx(1, abs=1e-4)
    assert max(found["legendre"], found["fourier"]) < 0.9
    found = matches((5 * x**3 - 3 * x) / 2, x**2 - np.mean(x**2))
    assert found["legendre"] == pytest.approx(1, abs=1e-4)
    assert max(found["chebyshev"], found["fourier"]) < 0.98
    cosines = [np.cos(np.pi * d * (np.arange(OUTPUT) + 0.5) / OUTPUT) for d in (3, 6)]
    found = matches(*cosines)
    assert found["fourier"] == pytest.approx(1, abs=1e-4)
    assert max(found["chebyshev"], found["legendre"]) < 0.9
    low = matches(x, x**2 - np.mean(x**2))
    assert low["chebyshev"] == pytest.approx(low["legendre"], abs=1e-4)


def test_bands_and_orthogonality_have_planted_values():
    # Two rows at frequencies (1 and 6) and 3: of block energies 1 + 1 + 1 on the diagonal, 2 lie between 1 and 6.
    M = np.stack([wave(LINK, 1) + wave(LINK, 6), wave(LINK, 3)])
    assert number(link_bandedness, M, M, width=2) == pytest.approx(0.6, abs=1e-5)
    assert number(link_bandedness, M, M, width=5) == pytest.approx(1, abs=1e-5)
    # Of the pairs more than 2 apart among 1, 3, 6, (1, 6) is parallel and (3, 6) is orthogonal.
    assert number(link_orthogonality, M, M, width=2) == pytest.approx(0.5, abs=1e-5)
    rows = np.repeat(np.eye(4), 2, axis=0)  # rows 2i and 2i + 1 are the same
    assert number(output_bandedness, rows, rows, width=1) == pytest.approx(1, abs=1e-6)
    assert number(row_orthogonality, rows, rows, width=1) == pytest.approx(1, abs=1e-6)
    same = np.outer([1.0, 5, 0, 2, 3], np.ones(3))
    assert number(row_orthogonality, same, same, width=1) == pytest.approx(0, abs=1e-6)
    random = jax.random.normal(jax.random.key(0), (100, 25))
    assert number(row_orthogonality, random, random) == pytest.approx(1 - 1 / 25, abs=0.005)


# --- What the descrambler can change --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [LINK, LINK - 1])
@pytest.mark.parametrize("layer", BATTERIES)
def test_no_reading_sees_the_gauge(layer, size):
    battery, _ = BATTERIES[layer]
    M = planted(layer)
    M = M[:size] if layer == "first" else M[:, :size]
    other = M + 0.05 * jax.random.normal(jax.random.key(9), M.shape)  # the halves differ
    before = as_floats(measure(battery, M, other))
    one, two = gauge(jax.random.key(1), size), gauge(jax.random.key(2), size)
    assert float(jnp.abs(one - jnp.eye(size)).max()) > 0.3
    after = as_floats(measure(battery, turned(layer, one, M), turned(layer, two, other)))
    for name, value in before.items():
        close = {"rel": 1e-3, "abs": 1e-4} if EPS > 1e-10 else {"rel": 1e-9}
        assert after[name] == pytest.approx(value, **close), name


@pytest.mark.parametrize("layer", BATTERIES)
def test_readings_depend_on_the_point_exactly_if_they_say_so(layer):
    battery, _ = BATTERIES[layer]
    M = planted(layer)
    before = as_floats(measure(battery, M, M))
    P, Q = (orthogonal.random(jax.random.key(i), LINK).astype(M.dtype) for i in (1, 2))
    after = as_floats(measure(battery, turned(layer, P, M), turned(layer, Q, M)))
    for entry in battery:
        change = abs(after[entry.name] - before[entry.name])
        scale = max(abs(before[entry.name]), 0.1)
        assert (change > 1e-2 * scale) if entry.depends_on_point else (change < 2000 * EPS * scale), entry.name


# --- Nulls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_random_frame_keeps_singular_values(shape):
    W = jax.random.normal(jax.random.key(0), shape)
    draws = frames(jax.random.split(jax.random.key(1), 3), W)
    kept = jnp.linalg.svd(draws, compute_uv=False)
    np.testing.assert_allclose(kept, jnp.broadcast_to(jnp.linalg.svd(W, compute_uv=False), kept.shape), rtol=200 * EPS)
    assert float(jnp.abs(draws[0] - draws[1]).max()) > 0.1


def test_random_frame_is_haar_on_both_sides():
    n, m, count = 4, 7, 6000
    W = jnp.zeros((n, m)).at[0, 0].set(1.0)  # a draw is u v^T, with u and v uniform on spheres
    draws = np.asarray(frames(jax.random.split(jax.random.key(2), count), W), np.float64)
    second, fourth = 1 / (n * m), 9 / (n * (n + 2) * m * (m + 2))
    eighth = (105 / (n * (n + 2) * (n + 4) * (n + 6))) * (105 / (m * (m + 2) * (m + 4) * (m + 6)))
    assert np.abs(draws.mean(0)).max() < 4.5 * np.sqrt(second / count)
    assert np.abs((draws**2).mean(0) - second).max() < 4.5 * np.sqrt((fourth - second**2) / count)
    assert np.abs((draws**4).mean(0) - fourth).max() < 4.5 * np.sqrt((eighth - fourth**2) / count)
    # The two sides are independent of one another and of sign.
    assert abs(np.mean(draws[:, 0, 0] * draws[:, 1, 1])) < 4.5 * np.sqrt(second**2 / count) * 2


@pytest.mark.parametrize("layer", BATTERIES)
def test_a_planted_finding_stands_out_and_a_draw_of_the_null_does_not(layer):
    battery, _ = BATTERIES[layer]
    M = planted(layer)
    draws = frames(jax.random.split(jax.random.key(0), 40), M)
    nulls = {"random frame": (draws[1:], draws[1:])}
    found = {reading.name: reading for reading in compare(battery, M, M, nulls)}
    standing = {
        "first": ("band edge", "ridge exponent", "frequency concentration"),
        "second": ("link purity", "link bandedness", "link orthogonality", "output bandedness"),
    }[layer]
    for name in standing:
        assert found[name].effect["random frame"] * found[name].direction > 3, name
        assert found[name].p_value["random frame"] == 1 / 40, name
    if layer == "first":  # bounded by 1 and carried by four frequencies: its rank can stand out, its effect size cannot
        assert found["ridge monotonicity"].value == pytest.approx(1, abs=1e-3)
        assert found["ridge monotonicity"].p_value["random frame"] <= 2 / 40
    alone = [as_floats(measure(battery, draw, draw)) for draw in draws[1:4]]
    for reading in compare(battery, draws[0], draws[0], nulls):
        # Vmapped over draws and one by one is the same.
        one_by_one = [values[reading.name] for values in alone]
        np.testing.assert_allclose(reading.nulls["random frame"][:3], one_by_one, rtol=1e4 * EPS, atol=1e3 * EPS)
        # A ratio of energies has a long tail; its effect size is to be read with its p-value.
        assert abs(reading.effect["random frame"]) < (5 if reading.unit == "ratio" else 3), reading.name
        assert reading.nulls["random frame"].shape == (39,)
        value = float(reading.difference["random frame"])
        draws_of = reading.nulls["random frame"].astype(float)
        assert value == pytest.approx(reading.value - draws_of.mean(), abs=1e-5)
        assert reading.effect["random frame"] == pytest.approx(value / draws_of.std(ddof=1), rel=1e-4, abs=1e-4)


def judged(value, draws, direction):
    """`compare` on a reading that returns the matrix's one entry."""
    entry = (Measure("entry", lambda fit, read: read[0, 0], True, direction, "", ""),)
    stack = jnp.asarray(draws, float)[:, None, None]
    (reading,) = compare(entry, jnp.full((1, 1), value), jnp.full((1, 1), value), {"null": (stack, stack)})
    return reading.effect["null"], reading.difference["null"], reading.p_value["null"]


def test_effects_and_p_values_follow_their_definitions():
    effect, difference, p = judged(6.0, [1.0, 2.0, 3.0, 6.0], 1)
    assert (effect, difference, p) == (pytest.approx(3 / np.std([1, 2, 3, 6], ddof=1)), pytest.approx(3), 2 / 5)
    assert judged(0.0, [1.0, 2.0, 3.0, 6.0], -1)[2] == 1 / 5
    assert judged(0.0, [1.0, 2.0, 3.0, 6.0], 1)[2] == 1
    assert judged(0.0, [1.0, 2.0, 3.0, 6.0], 0)[2] == 2 / 5
    assert judged(2.0, [1.0, 2.0, 3.0], 0)[2] == 1
    assert judged(2.0, [0.5], 1) == (None, 1.5, 1 / 2)  # one draw has no spread
    # Draws equal to the value up to rounding are ties, and their spread is not one.
    effect, difference, p = judged(1.0, [1.0, 1 - 4 * EPS, 1 + 4 * EPS], 1)
    assert (effect, p) == (None, 1)
    assert abs(difference) < 10 * EPS


def test_a_draw_that_is_not_a_number_counts_against_the_finding():
    broken = Measure("root", lambda fit, read: jnp.sqrt(read[0, 0]), True, 1, "", "")
    stack = jnp.asarray([1.0, 4.0, -1.0])[:, None, None]
    (reading,) = compare((broken,), jnp.full((1, 1), 9.0), jnp.full((1, 1), 9.0), {"null": (stack, stack)})
    assert reading.p_value["null"] == 2 / 4
    assert reading.difference["null"] == pytest.approx(1.5)


def test_a_second_comparison_compiles_nothing():
    traces = []
    entry = (Measure("sum", lambda fit, read: traces.append(0) or read.sum(), True, 1, "", ""),)
    M, stack = jnp.ones((2, 2)), jnp.ones((3, 2, 2))
    for _ in range(2):
        compare(entry, M, M, {"a": (stack, stack), "b": (stack, stack)})
    assert len(traces) == 1  # of the matrix; the program of the stacks is made of it


@pytest.mark.parametrize(
    ("layer", "dtype"), [("first", "float32"), ("second", "float32"), ("first", None), ("second", None)]
)
def test_zeros_are_finite_dtypes_are_kept_and_scale_does_not_matter(layer, dtype):
    dtype = dtype or jnp.zeros(0).dtype
    battery, shape = BATTERIES[layer]
    M = planted(layer).astype(dtype)
    for name, value in measure(battery, jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)).items():
        assert bool(jnp.isfinite(value)), name
    readings, scaled = measure(battery, M, M), measure(battery, M * 1e-7, M * 1e-7)
    for name, value in readings.items():
        assert value.dtype == dtype, name
        assert value.shape == (), name
        np.testing.assert_allclose(scaled[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    assert all(bool(jnp.isnan(value)) for value in measure(battery, M, M.at[0, 0].set(jnp.nan)).values())
    assert jax.eval_shape(random_frame, jax.random.key(0), M).dtype == dtype
    assert jax.eval_shape(fourier_map, M).magnitude.dtype == dtype


def test_precisions_agree():
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        pytest.skip("64-bit types are off")
    for layer, (battery, _) in BATTERIES.items():
        M = planted(layer)
        single, double = measure(battery, M.astype("float32"), M.astype("float32")), measure(battery, M, M)
        for name, value in double.items():
            np.testing.assert_allclose(single[name], value, rtol=1e-3, err_msg=name)


@pytest.mark.usefixtures("as_installed")
def test_bad_arguments_are_named():
    W = jnp.ones((8, 8))
    with pytest.raises(ValueError, match=r"weight: expected \(link, input\)"):
        band_edge(jnp.ones(3))
    with pytest.raises(TypeError, match="complex"):
        ridge(W + 0j)
    with pytest.raises(ValueError, match="NaN"):
        ridge(W.at[0, 0].set(jnp.nan))
    with pytest.raises(ValueError, match="shapes"):
        ridge_exponent(W, W[:5])
    with pytest.raises(ValueError, match="a ridge needs at least 4 points"):
        ridge(W[:2])
    with pytest.raises(ValueError, match="fraction"):
        band_edge(W, 1.0)
    with pytest.raises(ValueError, match="neighbours"):
        notch_depth(W, neighbours=0)
    # A record of 8 points has 3 frequencies that come in pairs: asking for more takes those.
    bumpy = jnp.asarray(np.random.default_rng(0).standard_normal((8, 8)))
    np.testing.assert_allclose(notch_depth(bumpy, neighbours=4), notch_depth(bumpy, neighbours=3))
    assert np.isnan(float(notch_depth(W[:, :1])))
    with pytest.raises(ValueError, match="family: got 'bessel'"):
        polynomial_match(W, W, "bessel")
    with pytest.raises(ValueError, match="count"):
        link_purity(W, W, 0)
    with pytest.raises(ValueError, match="width"):
        link_bandedness(W, W, 0)
    with pytest.raises(TypeError, match="pair"):
        compare(FIRST_LAYER, W, W, {"a": W[None]})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\(draws, \*\(8, 8\)\)"):
        compare(FIRST_LAYER, W, W, {"a": (W[None, :4], W[None, :4])})
    with pytest.raises(ValueError, match="NaN or infinity"):
        compare(FIRST_LAYER, W, W, {"a": (W[None], W[None] * jnp.inf)})
