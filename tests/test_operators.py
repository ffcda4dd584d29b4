"""Operators: matrix, eigenvalues, basis and fast application agree with one another and with textbook matrices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import operators
from jaxdescramble.operators import BOUNDARIES, SCHEMES, combine, derivative, from_matrix

pytestmark = pytest.mark.both_precisions

SHAPES = [1, 2, 3, 7, 8, (3, 4), (4, 4), (1, 5), (2, 3, 2)]
CASES = list(itertools.product(SHAPES, [1, 2, 3, 4, 6], BOUNDARIES, SCHEMES))
# The full product is 270 cases; every seventh of them, in a fixed order, still meets every value many times.
CASES = CASES[::7]


def tolerance(a: np.ndarray) -> float:
    return 200 * float(jnp.finfo(jnp.zeros(0).dtype).eps) * max(float(np.abs(a).max(initial=1.0)), 1.0)


@pytest.mark.parametrize(("shape", "order", "boundary", "scheme"), CASES)
def test_matrix_eigenvalues_basis_and_transforms_agree(shape, order, boundary, scheme):
    D = derivative(shape, order, boundary, scheme)
    n, a, T, M = D.size, D.eigenvalues, D.basis, D.matrix
    np.testing.assert_allclose(T.T @ T, np.eye(n), atol=1e-13)
    assert (np.diff(a) >= -1e-9 * a.max()).all()
    np.testing.assert_allclose(M.T @ M, (T * a) @ T.T, atol=1e-11 * max(a.max(), 1))
    x = np.random.default_rng(0).standard_normal((n, 3))
    applied, analysed, synthesised = jax.jit(lambda x: (D.apply(x), D.analyse(x), D.synthesise(x)))(x)
    np.testing.assert_allclose(applied, M @ x, atol=tolerance(M @ x))
    np.testing.assert_allclose(analysed, T.T @ x, atol=tolerance(x))
    np.testing.assert_allclose(synthesised, T @ x, atol=tolerance(x))


def test_finite_difference_matrices_are_the_textbook_ones():
    np.testing.assert_allclose(
        derivative(4, 2, "periodic", "difference").matrix,
        [[-2, 1, 0, 1], [1, -2, 1, 0], [0, 1, -2, 1], [1, 0, 1, -2]],
        atol=1e-12,
    )
    np.testing.assert_allclose(
        derivative(4, 1, "neumann", "difference").matrix, [[-1, 1, 0, 0], [0, -1, 1, 0], [0, 0, -1, 1]], atol=1e-12
    )
    np.testing.assert_allclose(
        derivative(2, 1, "dirichlet", "difference").matrix, [[1, 0], [-1, 1], [0, -1]], atol=1e-12
    )
    np.testing.assert_allclose(
        derivative(3, 2, "dirichlet", "difference").matrix, [[-2, 1, 0], [1, -2, 1], [0, 1, -2]], atol=1e-12
    )


@pytest.mark.parametrize(("order", "exact"), [(1, np.cos), (2, lambda t: -np.sin(t)), (3, lambda t: -np.cos(t))])
@pytest.mark.parametrize("n", [15, 16])
def test_fourier_derivatives_of_a_sine_are_exact(n, order, exact):
    t = 2 * np.pi * 2 * np.arange(n) / n
    frequency = 2 * np.pi * 2 / n
    got = derivative(n, order).apply(jnp.asarray(np.sin(t)))
    np.testing.assert_allclose(got, frequency**order * exact(t), atol=tolerance(t))


@pytest.mark.parametrize(("boundary", "order"), [("neumann", 3), ("dirichlet", 1)])
def test_spectral_slopes_live_half_way_between_the_points(boundary, order):
    n, k = 12, 3
    if boundary == "neumann":
        theta, points, places = np.pi * k / n, np.arange(n) + 0.5, np.arange(n - 1) + 1.0
        x, slope = np.cos(theta * points), theta**order * np.sin(theta * places)
    else:
        theta, points, places = np.pi * k / (n + 1), np.arange(n) + 1.0, np.arange(n + 1) + 0.5
        x, slope = np.sin(theta * points), theta**order * np.cos(theta * places)
    np.testing.assert_allclose(derivative(n, order, boundary).apply(jnp.asarray(x)), slope, atol=tolerance(x))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [8, 9, (4, 6)])
def test_the_null_space_is_the_constants_and_nothing_else(order, shape):
    # The naive odd Fourier derivative would annihilate a sawtooth on an even number of points too.
    assert (derivative(shape, order).eigenvalues[:2] > 1e-6).tolist() == [False, True]
    assert derivative(shape, order, "dirichlet").eigenvalues[0] > 1e-6


def test_a_grid_laplacian_is_rotation_symmetric_and_mixes_boundaries():
    D = derivative((5, 5), 2, ("periodic", "neumann"))
    x = np.random.default_rng(1).standard_normal((5, 5))
    rows = np.stack([derivative(5, 2, "periodic").matrix @ column for column in x.T], axis=1)
    columns = np.stack([derivative(5, 2, "neumann").matrix @ row for row in x])
    np.testing.assert_allclose(
        D.apply(jnp.asarray(x.ravel())), (rows + columns).ravel(), atol=tolerance(x * D.eigenvalues.max())
    )


def test_operators_are_values_and_do_not_retrace():
    assert derivative(8) == derivative(8)
    assert hash(derivative(8)) == hash(derivative((8,), 2, ("periodic",)))
    traces = []

    @jax.jit
    def roughness(D, x):
        traces.append(1)
        return jnp.sum(D.apply(x) ** 2)

    roughness(derivative(8), jnp.ones(8))
    roughness(derivative(8), jnp.arange(8.0))
    assert len(traces) == 1


def test_from_matrix_and_combine_agree_with_the_analytic_operators():
    D = derivative(6, 2, "neumann")
    dense = from_matrix(jnp.asarray(D.matrix))
    np.testing.assert_allclose(dense.eigenvalues, D.eigenvalues, atol=tolerance(D.eigenvalues))
    both = combine([0.5, 2.0], [derivative(6, 1), D])
    A = 0.5 * derivative(6, 1).matrix.T @ derivative(6, 1).matrix + 2 * D.matrix.T @ D.matrix
    T = np.asarray(both.basis)
    np.testing.assert_allclose((T * np.asarray(both.eigenvalues)) @ T.T, A, atol=tolerance(A))
    x = jnp.arange(6.0)[:, None]
    np.testing.assert_allclose(jnp.sum(both.apply(x) ** 2), x[:, 0] @ A @ x[:, 0], rtol=1e-5)
    np.testing.assert_allclose(both.synthesise(both.analyse(x)), x, atol=tolerance(x))
    assert isinstance(D, operators.Operator)
    assert isinstance(dense, operators.Operator)
    wide = from_matrix(jnp.ones((1, 4)))
    np.testing.assert_allclose(wide.eigenvalues, [0, 0, 0, 4], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "shape: expected a positive integer, got 0"),
        (((),), ValueError, "empty tuple"),
        ((4.5,), TypeError, "shape: expected a positive integer, got 4.5"),
        ((4, 0), ValueError, "order: expected a positive integer"),
        ((4, 2, "circular"), ValueError, "choose one of 'periodic', 'neumann', 'dirichlet'"),
        ((4, 2, "periodic", "exact"), ValueError, "scheme: got 'exact'"),
        (((4, 4), 2, ("periodic",)), ValueError, "got 1 names for a grid of 2 axes"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_bad_derivatives_are_refused_with_a_reason(arguments, error, message):
    with pytest.raises(error, match=message):
        derivative(*arguments)


@pytest.mark.usefixtures("as_installed")
def test_bad_matrices_and_sums_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="contains NaN"):
        from_matrix(jnp.full((2, 2), jnp.nan))
    with pytest.raises(ValueError, match="expected \\(rows, points\\)"):
        from_matrix(jnp.ones(3))
    with pytest.raises(ValueError, match="different numbers of points"):
        combine([1.0, 1.0], [derivative(3), derivative(4)])
    with pytest.raises(ValueError, match="got 1 weights for 2 operators"):
        combine([1.0], [derivative(3), derivative(3)])
    with pytest.raises(ValueError, match="at least 0"):
        combine([-1.0], [derivative(3)])


@pytest.mark.parametrize("n", [16, 64, 256])
def test_a_float32_laplacian_keeps_its_slow_modes_apart(n):
    # In float32 the slowest eigenvalues of a long path differ by less than rounding of the largest.
    step = np.eye(n, k=1)[:-1] - np.eye(n)[:-1]
    dense = from_matrix(jnp.asarray(step.T @ step, jnp.float32))
    assert dense.multiplicities == (1,) * n
    np.testing.assert_allclose(dense.eigenvalues, derivative(n, 2, "neumann", "difference").eigenvalues, atol=1e-5)
    np.testing.assert_allclose(dense.eigenvalues[1], (2 * np.sin(np.pi / 2 / n)) ** 4, rtol=1e-3)
    both = combine([1.0, 0.5], [derivative(n, 2), derivative(n, 1)])
    assert set(both.multiplicities) == {1, 2}


@pytest.mark.parametrize("shape", [(4, 6), (6, 6), (8, 6)])
def test_operators_made_inside_jit_work_and_have_derivatives_of_values(shape):
    matrix, weights = jnp.asarray(np.random.default_rng(0).standard_normal(shape)), jnp.ones(6)
    inside = jax.jit(lambda m: from_matrix(m).eigenvalues)(matrix)
    np.testing.assert_allclose(inside, from_matrix(matrix).eigenvalues, atol=tolerance(inside) * 10)
    closed_over = jax.jit(lambda w: from_matrix(matrix).eigenvalues @ w)(weights)
    np.testing.assert_allclose(closed_over, jnp.sum(matrix**2), rtol=1e-4)
    slope = jax.grad(lambda m: jnp.sum(from_matrix(m).eigenvalues))(matrix)
    np.testing.assert_allclose(slope, 2 * matrix, atol=1e-3)
    learned = jax.grad(lambda w: combine([w, 1.0], [derivative(6, 1), derivative(6, 2)]).eigenvalues.sum())(2.0)
    np.testing.assert_allclose(learned, derivative(6, 1).eigenvalues.sum(), rtol=1e-4)
