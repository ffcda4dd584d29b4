"""Every figure of merit against its formula written as a loop, its limits and its extremes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.manifolds import orthogonal
from jaxdescramble.objectives import (
    bandedness,
    diagonal_norm,
    diagonal_sum,
    entropy,
    locality,
    monotonicity,
    periodicity,
    similarity,
    smoothness,
    sparsity,
    spectral_entropy,
    total_variation,
    weighted,
)

N, M = 6, 9
EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
both = pytest.mark.both_precisions


def drawn(seed=0, n=N, m=M):
    return np.random.default_rng(seed).standard_normal((n, m)).astype(jnp.zeros(0).dtype)


def one_hot(m=8):
    return jnp.eye(N)[:, jnp.arange(m) % N]


# --- formulas as loops -----------------------------------------------------------------------------------------------


def variation(Y, e, periodic=False, order=1):
    total, rows = 0.0, len(Y) if periodic else len(Y) - order
    for y in Y.T:
        line = np.concatenate([y, y[:order]]) if periodic else y
        for k in range(rows):
            d = sum((-1) ** (order - j) * math.comb(order, j) * line[k + j] for j in range(order + 1))
            total += math.sqrt(d * d + e * e) - e
    D = np.stack([np.diff(np.concatenate([c, c[:order]]) if periodic else c, order) for c in np.eye(len(Y))], axis=1)
    return total / math.sqrt(np.linalg.norm(D, 2) ** 2 * rows * Y.shape[1]) / np.linalg.norm(Y)


def grid_variation(Y, e, isotropic):
    total = 0.0
    for y in Y.T:
        y = y.reshape(2, 3)
        for i in range(2):
            for j in range(3):
                down = y[i + 1, j] - y[i, j] if i < 1 else None
                right = y[i, j + 1] - y[i, j] if j < 2 else None
                if isotropic:
                    total += math.sqrt((down or 0) ** 2 + (right or 0) ** 2 + e * e) - e
                else:
                    total += sum(math.sqrt(d * d + e * e) - e for d in (down, right) if d is not None)
    largest = 2 + 3  # of a path of two points, and of three
    return total / math.sqrt(largest * (6 if isotropic else 7) * Y.shape[1]) / np.linalg.norm(Y)


def spread(Y, places, furthest):
    total = 0.0
    for y in Y.T:
        shares = y**2 / np.sum(y**2)
        centre = sum(p * np.asarray(x) for p, x in zip(shares, places, strict=True))
        total += sum(v**2 * np.sum((x - centre) ** 2) for v, x in zip(y, places, strict=True))
    return total / furthest / np.sum(Y**2)


def disorder(powers, e):
    total, k = 0.0, len(powers)
    for p in powers.T:
        for share in p / p.sum():
            total -= p.sum() * share * math.log((share + e * e / k) / (1 + e * e / k))
    return total / math.log(k) / powers.sum()


def descent(Y, e):
    fall = sum(f**3 / (f * f + e * e) for y in Y.T for f in np.maximum(y[:-1] - y[1:], 0))
    return fall / math.sqrt((2 - 2 * math.cos(math.pi * (N - 1) / N)) * (N - 1) * Y.shape[1]) / np.linalg.norm(Y)


def unit(Y):
    return np.linalg.norm(Y) / math.sqrt(Y.size)


def one_sided(Y):
    spectrum = np.abs(np.fft.fft(Y, axis=0)) ** 2
    return np.stack([spectrum[k] + (spectrum[-k] if 0 < k < N - k else 0) for k in range(N // 2 + 1)])


CIRCLE = [(math.cos(2 * math.pi * i / N), math.sin(2 * math.pi * i / N)) for i in range(N)]
GRID = [(i, j) for i in range(2) for j in range(3)]
ANYWHERE = drawn(3, N, 2)
FORMULAS = {
    "total variation": (total_variation(epsilon=0.3, boundary="neumann"), lambda Y: variation(Y, 0.3 * unit(Y))),
    "on a circle": (total_variation(boundary="periodic"), lambda Y: variation(Y, 1e-3 * unit(Y), periodic=True)),
    "second order": (total_variation(2, boundary="neumann"), lambda Y: variation(Y, 1e-3 * unit(Y), order=2)),
    "third order": (total_variation(3, "periodic"), lambda Y: variation(Y, 1e-3 * unit(Y), True, 3)),
    "on a grid": (
        total_variation(shape=(2, 3), boundary="neumann"),
        lambda Y: grid_variation(Y, 1e-3 * unit(Y), False),
    ),
    "isotropic": (
        total_variation(shape=(2, 3), isotropic=True, boundary="neumann"),
        lambda Y: grid_variation(Y, 1e-3 * unit(Y), True),
    ),
    "locality": (locality("neumann"), lambda Y: spread(Y, np.arange(N)[:, None], 2.5**2)),
    "locality on a circle": (locality(), lambda Y: spread(Y, CIRCLE, 1)),
    "locality on a grid": (locality("neumann", shape=(2, 3)), lambda Y: spread(Y, GRID, 0.5**2 + 1)),
    "locality anywhere": (
        locality(positions=ANYWHERE),
        lambda Y: spread(Y, ANYWHERE, max(np.sum((ANYWHERE - ANYWHERE.mean(0)) ** 2, 1))),
    ),
    "l1": (sparsity(epsilon=0.1), lambda Y: np.mean([math.hypot(y / unit(Y), 0.1) - 0.1 for y in Y.ravel()])),
    "logcosh": (
        sparsity("logcosh", 0.5),
        lambda Y: np.mean([0.5 * math.log(math.cosh(y / unit(Y) / 0.5)) for y in Y.ravel()]),
    ),
    "l4": (sparsity("l4"), lambda Y: -np.sum(Y**4) / np.sum(np.sum(Y**2, 0) ** 2)),
    "participation": (
        sparsity("participation"),
        lambda Y: sum(np.sum(y**2) * np.sum(y**2) ** 2 / np.sum(y**4) for y in Y.T) / N / np.sum(Y**2),
    ),
    "entropy": (entropy(0.2), lambda Y: disorder(Y**2, 0.2)),
    "spectral entropy": (spectral_entropy(0.2), lambda Y: disorder(one_sided(Y), 0.2)),
    "periodicity": (periodicity(2), lambda Y: np.sum((Y - np.roll(Y, 2, axis=0)) ** 2) / 3 / np.sum(Y**2)),
    "periodicity, odd": (periodicity(3), lambda Y: np.sum((Y - np.roll(Y, 3, axis=0)) ** 2) / 4 / np.sum(Y**2)),
    "periodicity on a line": (periodicity(4, "neumann"), lambda Y: np.sum((Y[4:] - Y[:2]) ** 2) / 2 / np.sum(Y**2)),
    "monotonicity": (monotonicity(0.2), lambda Y: descent(Y, 0.2 * unit(Y))),
    "diagonal sum": (diagonal_sum(), lambda Y: -sum(Y[i, i] for i in range(N)) / np.linalg.norm(Y[:, :N], "nuc")),
    "diagonal norm": (diagonal_norm(), lambda Y: -sum(Y[i, i] ** 2 for i in range(N)) / np.sum(Y**2)),
    "bandedness": (
        bandedness(),
        lambda Y: (
            sum((i / (N - 1) - j / (M - 1)) ** 2 * Y[i, j] ** 2 for i in range(N) for j in range(M)) / np.sum(Y**2)
        ),
    ),
    "similarity": (
        similarity(drawn(4)),
        lambda Y: -np.sum(Y * drawn(4)) / np.linalg.norm(Y) / np.linalg.norm(drawn(4)),
    ),
    "weighted": (
        weighted((0.3, sparsity("l4")), (2, periodicity(3))),
        lambda Y: (
            -0.3 * np.sum(Y**4) / np.sum(np.sum(Y**2, 0) ** 2)
            + 2 * np.sum((Y - np.roll(Y, 3, axis=0)) ** 2) / 4 / np.sum(Y**2)
        ),
    ),
}


@both
@pytest.mark.parametrize(("objective", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_the_formula_written_as_a_loop(objective, formula):
    S, point = drawn() * np.linspace(0.1, 3, M, dtype=drawn().dtype)[None, :], orthogonal.random(jax.random.key(0), N)
    Y = np.asarray(point, np.float64) @ S.astype(np.float64)
    np.testing.assert_allclose(objective(point, S), formula(Y), rtol=500 * EPS)


# --- limits ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "build",
    [
        lambda e: total_variation(epsilon=e, boundary="neumann"),
        lambda e: total_variation(2, "periodic", epsilon=e),
        lambda e: total_variation(shape=(2, 3), isotropic=True, epsilon=e, boundary="neumann"),
        lambda e: sparsity("l1", e),
        lambda e: sparsity("logcosh", e),
        lambda e: monotonicity(e),
    ],
)
def test_a_rounded_corner_costs_at_most_epsilon(build):
    S = drawn(1)
    limit = float(build(1e-7)(jnp.eye(N), S))
    for epsilon in (1e-1, 1e-2, 1e-3):
        assert 0 <= limit - float(build(epsilon)(jnp.eye(N), S)) + 2 * EPS <= epsilon


def test_the_floor_of_entropy_costs_what_is_documented():
    for build, k in ((entropy, N), (spectral_entropy, N // 2 + 1)):
        limit = float(build(1e-9)(jnp.eye(N), drawn(1)))
        for epsilon in (0.5, 0.1, 1e-2):
            assert abs(float(build(epsilon)(jnp.eye(N), drawn(1))) - limit) <= epsilon**2 * (1 + 1 / k) / math.log(k)


@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="finite differences need 64 bits")  # pyright: ignore
@pytest.mark.parametrize("build", [total_variation, sparsity, entropy, spectral_entropy, monotonicity])
def test_gradients_at_the_epsilons_that_are_used(build):
    S, V = jnp.asarray(drawn(2)), jnp.asarray(drawn(3))

    def value(S):
        return build()(jnp.eye(N), S)

    numerical = (value(S + 1e-6 * V) - value(S - 1e-6 * V)) / 2e-6
    np.testing.assert_allclose(jnp.sum(jax.grad(value)(S) * V), numerical, rtol=1e-4)


# --- extremes --------------------------------------------------------------------------------------------------------

WAVES = jnp.cos(2 * jnp.pi * 2 * (jnp.arange(N)[:, None] + jnp.arange(4.0)[None, :]) / N)
SAW = jnp.asarray([1.0, -1.0] * (N // 2))[:, None]
STAIRS = jnp.cumsum(jnp.abs(jnp.asarray(drawn(5))), axis=0) - 3
EXTREMES = {
    "constants do not vary": (total_variation(boundary="neumann"), jnp.ones((N, 2)), 0),
    "ramps bend nowhere": (total_variation(2, boundary="neumann"), jnp.arange(float(N))[:, None], 0),
    "a saw varies most": (total_variation(boundary="periodic", epsilon=1e-9), SAW, 1),
    "and on a torus": (
        total_variation(boundary="periodic", shape=(2, 2), epsilon=1e-9),
        jnp.asarray([[1.0], [-1.0], [-1.0], [1.0]]),
        1,
    ),
    "isotropic on a torus": (
        total_variation(boundary="periodic", shape=(2, 2), isotropic=True, epsilon=1e-9),
        jnp.asarray([[1.0], [-1.0], [-1.0], [1.0]]),
        1,
    ),
    "one neuron is local": (locality("neumann"), one_hot(), 0),
    "both ends are not": (locality("neumann"), jnp.eye(N)[:, :1] - jnp.eye(N)[:, -1:], 1),
    "nor opposite points of a circle": (locality(), jnp.eye(N)[:, :1] + jnp.eye(N)[:, 3:4], 1),
    "nor opposite corners": (locality("neumann", shape=(3, 2)), jnp.eye(N)[:, :1] + jnp.eye(N)[:, -1:], 1),
    "the ends of a circle meet": (
        locality(),
        jnp.eye(N)[:, :1] + jnp.eye(N)[:, -1:],
        1 - math.cos(math.pi / N) ** 2,
    ),
    "one neuron is sparse": (sparsity(epsilon=1e-9), one_hot(), 1 / math.sqrt(N)),
    "all are not": (sparsity(epsilon=1e-9), SAW, 1),
    "l4 of one neuron": (sparsity("l4"), one_hot(), -1),
    "l4 of all": (sparsity("l4"), SAW, -1 / N),
    "one neuron takes part": (sparsity("participation"), one_hot(), 1 / N),
    "all neurons take part": (sparsity("participation"), SAW, 1),
    "one neuron has no entropy": (entropy(), one_hot(), 0),
    "all have": (entropy(), SAW, 1),
    "a wave has one frequency": (spectral_entropy(), WAVES, 0),
    "a saw has one frequency": (spectral_entropy(), SAW, 0),
    "a spike has all": (spectral_entropy(), one_hot(), (math.log(6) * 2 / 6 + math.log(3) * 4 / 6) / math.log(4)),
    "a wave repeats": (periodicity(3), WAVES, 0),
    "a saw does not": (periodicity(3), SAW, 1),
    "what rises never falls": (monotonicity(), STAIRS, 0),
    "diagonal sum": (diagonal_sum(), jnp.diag(jnp.arange(float(N))), -1),
    "diagonal norm": (diagonal_norm(), jnp.diag(jnp.arange(1.0 - N, 1)), -1),
    "a band of one": (bandedness(), jnp.eye(N), 0),
    "as unlike a band as can be": (bandedness(), jnp.zeros((N, N)).at[0, -1].set(2.0), 1),
    "like itself": (similarity(), drawn(), -1),
    "like its negative": (similarity(-3 * drawn()), drawn(), 1),
}


@both
@pytest.mark.parametrize(("objective", "S", "value"), EXTREMES.values(), ids=EXTREMES.keys())
def test_known_extremes(objective, S, value):
    np.testing.assert_allclose(objective(jnp.eye(len(S)), S), value, rtol=1e-6, atol=50 * EPS)


def test_a_wave_of_any_amplitude_has_no_less_spectral_entropy_than_its_turns_and_reflections():
    S = drawn(6)
    value = spectral_entropy()(jnp.eye(N), S)
    for turned in (np.roll(S, 2, axis=0), S[::-1], -S):
        np.testing.assert_allclose(spectral_entropy()(jnp.eye(N), turned), value, rtol=1e-12)


def test_periodicity_is_one_less_the_autocorrelation():
    S = drawn(6)
    r = np.sum(S * np.roll(S, -3, axis=0)) / np.sum(S**2)
    np.testing.assert_allclose(periodicity(3)(jnp.eye(N), S), 2 * (1 - r) / 4, rtol=1e-12)


SINGLE = {
    "smoothness": (smoothness(), 0),
    "total variation": (total_variation(boundary="neumann"), 0),
    "total variation on a circle": (total_variation(2, "periodic"), 0),
    "isotropic": (total_variation(isotropic=True, boundary="neumann"), 0),
    "locality": (locality("neumann"), 0),
    "locality on a circle": (locality(), 0),
    "locality on a grid": (locality("neumann", shape=(1, 1)), 0),
    "sparsity": (sparsity(epsilon=1e-9), 1),
    "log cosh": (sparsity("logcosh"), math.log(math.cosh(1))),
    "l4": (sparsity("l4"), -1),
    "participation": (sparsity("participation"), 1),
    "entropy": (entropy(), 0),
    "spectral entropy": (spectral_entropy(), 0),
    "periodicity": (periodicity(2), 0),
    "periodicity on a line": (periodicity(2, "neumann"), 0),
    "monotonicity": (monotonicity(), 0),
    "diagonal sum": (diagonal_sum(), -1),
    "diagonal norm": (diagonal_norm(), -1 / 3),
    "bandedness": (bandedness(), (0 + 1 / 4 + 1) / 3),
    "similarity": (similarity(), -1),
    "weighted": (weighted(smoothness(), (2, similarity()), total_variation(boundary="neumann")), -2),
}


@pytest.mark.sampled(11)
@both
@pytest.mark.parametrize(("objective", "value"), SINGLE.values(), ids=SINGLE.keys())
def test_a_single_neuron_has_a_value_two_derivatives_a_curvature_and_a_bound(objective, value):
    S, point = jnp.ones((1, 3)), jnp.eye(1)

    def at(point, S):
        return objective(point, objective.summarise(S))

    np.testing.assert_allclose(at(point, S), value, rtol=1e-6, atol=EPS)
    slopes = jax.grad(at, (0, 1))
    assert all(np.isfinite(slope).all() for slope in slopes(point, S))
    assert all(np.isfinite(bend).all() for bend in jax.jvp(slopes, (point, S), (point, S))[1])
    curvature, bound = objective.curvature(objective.summarise(S)), objective.bound(objective.summarise(S))
    assert bound is not None
    assert float(bound) <= float(at(point, S)) + EPS
    assert curvature is None or np.isfinite(curvature(point).diagonal).all()
