"""Decompositions: vmapped equals looped, nested too, and a program of many of them comes back."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lapack_calls import lapack_calls

from jaxdescramble._base import decompositions

pytestmark = pytest.mark.both_precisions


@pytest.mark.parametrize(
    "decompose",
    [
        decompositions.svd,
        lambda m: decompositions.svd(m, full_matrices=False),
        decompositions.singular_values,
        lambda m: decompositions.eigh(m @ m.T),
        decompositions.qr,
        decompositions.triangle,
        lambda m: decompositions.determinant_sign(m[:4]),
    ],
)
def test_vmapped_twice_equals_looped(decompose):
    matrices = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5, 4)))
    together = jax.jit(jax.vmap(jax.vmap(decompose)))(matrices)
    for i in range(2):
        for j in range(3):
            alone = decompose(matrices[i, j])
            for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
                np.testing.assert_allclose(many[i, j], one, atol=1e3 * float(jnp.finfo(one.dtype).eps))


def test_on_a_cpu_no_batched_lapack_call_is_left():
    # Two of those in one program can wait for each other for ever on two cores.
    stack = jnp.ones((40, 6, 4))
    text = jax.jit(jax.vmap(decompositions.svd)).lower(stack).compile().as_text()
    assert "lapack" in text
    calls = [line for line in text.splitlines() if "custom-call(" in line and "lapack" in line]
    assert calls
    assert not any("[40,6,4]" in call for call in calls)
    batched = jax.jit(jax.vmap(jnp.linalg.svd)).lower(stack).compile().as_text()
    assert any("[40,6,4]" in line for line in batched.splitlines() if "custom-call(" in line and "lapack" in line)


TURN = jnp.asarray(np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0])
SOLVES = {
    "solve": (decompositions.solve, jnp.linalg.solve),
    "lower": (decompositions.solve_triangular, lambda a, b: jax.scipy.linalg.solve_triangular(a, b, lower=True)),
    "upper, transposed": (
        lambda a, b: decompositions.solve_triangular(a, b, lower=False, transposed=True),
        lambda a, b: jax.scipy.linalg.solve_triangular(a, b, trans=1),
    ),
    "cholesky": (
        lambda a, b: decompositions.cholesky(a @ a.T) @ b,
        lambda a, b: jnp.linalg.cholesky(a @ a.T) @ b,
    ),
    "solve_cholesky": (
        lambda a, b: decompositions.solve_cholesky(decompositions.cholesky(a @ a.T), b),
        lambda a, b: jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(a @ a.T), True), b),
    ),
    "inverse_or_transpose": (lambda a, b: decompositions.inverse_or_transpose(a) @ b, jnp.linalg.solve),
    "a transpose": (
        # Its derivatives are the inverse's, not the transpose's.
        lambda a, b: decompositions.inverse_or_transpose(a - jax.lax.stop_gradient(a) + TURN) @ b,
        lambda a, b: jnp.linalg.solve(a - jax.lax.stop_gradient(a) + TURN, b),
    ),
}


@pytest.fixture(scope="module")
def operands():
    rng = np.random.default_rng(0)
    return jnp.asarray(4 * np.eye(4) + rng.standard_normal((2, 3, 4, 4))), jnp.asarray(
        rng.standard_normal((2, 3, 4, 2))
    )


def assert_same(found, expected):
    eps = float(jnp.finfo(expected.dtype).eps)
    np.testing.assert_allclose(found, expected, rtol=0, atol=200 * eps * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("axes", [((0, None), (0, 0)), ((0, 0), (None, 0))])
@pytest.mark.parametrize("name", SOLVES)
def test_solves_equal_those_of_jax_whichever_operands_are_vmapped(name, axes, operands):
    (outer, inner), taken = axes, []
    for operand, *mapped in zip(operands, outer, inner, strict=True):
        taken.append(operand[tuple(slice(None) if one == 0 else 0 for one in mapped)])
    ours, theirs = (jax.vmap(jax.vmap(f, in_axes=inner), in_axes=outer) for f in SOLVES[name])
    assert_same(jax.jit(ours)(*taken), theirs(*taken))


@pytest.mark.parametrize("name", SOLVES)
def test_solves_have_derivatives_of_second_order_in_every_mode_and_under_vmap(name, operands):
    a, b = operands

    def losses(solve):
        def loss(a, b):
            return jnp.sum(jnp.sin(solve(a, b)))

        def of_stack(a, b):
            return jnp.sum(jax.vmap(loss)(a, b))

        def change(a, b):  # a Hessian's product, reverse over forward
            return jax.grad(lambda a: jax.jvp(loss, (a, b), (TURN, b))[1])(a)

        return {
            "of a vmapped one": jax.grad(of_stack, (0, 1))(a[0], b[0]),
            "reverse over forward": jax.vmap(change)(a[0], b[0]),
            "reverse over reverse": jax.grad(lambda a: jnp.sum(jax.grad(loss)(a, b[0, 0]) * TURN))(a[0, 0]),
        }

    found, expected = (jax.jit(losses, static_argnums=0)(solve) for solve in SOLVES[name])
    jax.tree.map(assert_same, found, expected)


@pytest.mark.parametrize("name", [name for name in SOLVES if name != "a transpose"])
def test_what_is_not_finite_gives_nan_and_leaves_the_rest_of_a_batch_alone(name, operands):
    a, b = operands[0][0], operands[1][0]
    solve = jax.jit(jax.vmap(SOLVES[name][0]))
    read = (0, 3) if name == "upper, transposed" else (3, 0)
    for bad in (jnp.nan, jnp.inf):
        found = solve(a.at[1, *read].set(bad), b)
        assert jnp.isnan(found[1]).all()
        np.testing.assert_array_equal(found[::2], solve(a, b)[::2])


def test_no_factor_of_what_is_not_positive_definite():
    assert jnp.isnan(jnp.diagonal(decompositions.cholesky(-jnp.eye(3)))).all()
    assert not jnp.isfinite(decompositions.solve(jnp.zeros((2, 2)), jnp.ones((2, 1)))).any()


def test_the_transpose_is_taken_where_all_of_a_stack_are_orthogonal_and_the_inverse_elsewhere():
    turns = jnp.stack([TURN, TURN.T])
    np.testing.assert_array_equal(decompositions.inverse_or_transpose(turns), turns.swapaxes(1, 2))
    eps = float(jnp.finfo(turns.dtype).eps)
    for other in (turns.at[1].multiply(2), turns * (1 + 30 * eps)):
        found = jax.jit(decompositions.inverse_or_transpose)(other)
        np.testing.assert_array_equal(found, jnp.linalg.inv(other))
        assert (found != other.swapaxes(1, 2)).any()
    together = jax.jit(jax.vmap(decompositions.inverse_or_transpose))(jnp.stack([turns, 2 * turns]))
    np.testing.assert_allclose(together, jnp.linalg.inv(jnp.stack([turns, 2 * turns])), atol=20 * eps)


def test_right_hand_sides_of_one_matrix_are_one_call():
    text = jax.jit(jax.vmap(decompositions.solve, in_axes=(None, 0))).lower(jnp.eye(3), jnp.ones((5, 3, 2))).as_text()
    assert {re.sub("lapack_[sd]|_ffi", "", call.name) for call in lapack_calls(text)} == {"getrf", "trsm"}
    assert "tensor<3x10x" in text
    assert not any(call.batch > 1 for call in lapack_calls(text))
