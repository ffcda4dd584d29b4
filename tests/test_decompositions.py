"""Decompositions: vmapped equals looped, nested too, and a program of many of them comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble import decompositions

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
