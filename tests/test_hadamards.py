"""Hadamard matrices and block-diagonal frames: what they are, which sizes exist, and what they do to outliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import jaxdescramble as jd
from jaxdescramble.manifolds import Power, SpecialOrthogonal, orthogonal
from jaxdescramble.manifolds._hadamards import _known, _signs

EPS = float(jnp.finfo(jnp.zeros(0).dtype).eps)
MISSING = [92, 116, 156, 172, 184, 188]  # known to others, from Williamson's construction and searches


def test_every_size_that_is_known_gives_orthogonal_rows_of_signs():
    sizes = [n for n in range(1, 261) if _known(n)]
    assert sizes == [1, 2, *(n for n in range(4, 261, 4) if n not in [*MISSING, 232, 236, 260])]
    for n in sizes:
        signs = _signs(n).astype(np.float64)
        np.testing.assert_array_equal(np.abs(signs), 1)
        np.testing.assert_array_equal(signs @ signs.T, n * np.eye(n))


@pytest.mark.thorough
def test_sizes_of_layers():
    for n in (384, 768, 896, 1280, 2560, 3072, 5120, 8960, 11008, 13824, 14336, 18944):
        assert _known(n), n
    assert not _known(13696)
    rows = _signs(3072)[:: 3072 // 16].astype(np.float64)
    np.testing.assert_array_equal(rows @ rows.T, 3072 * np.eye(len(rows)))
    assert _signs(11008).dtype == np.int8


@pytest.mark.both_precisions
def test_powers_of_two_are_sylvesters_and_dtypes_are_kept():
    np.testing.assert_allclose(orthogonal.hadamard(8), scipy.linalg.hadamard(8) / np.sqrt(8), rtol=4 * EPS)
    assert orthogonal.hadamard(12).dtype == jnp.zeros(0).dtype
    assert orthogonal.hadamard(12, jnp.float32).dtype == jnp.float32
    for n in (16, 28):
        assert float(orthogonal.defect(orthogonal.hadamard(n))) < n * 10 * EPS
        orthogonal.check_orthogonal(orthogonal.random_hadamard(jax.random.key(1), n), "point")


@pytest.mark.both_precisions
def test_random_ones_differ_in_signs_and_if_asked_in_order():
    keys = jax.random.split(jax.random.key(0), 40)
    drawn = jax.jit(jax.vmap(lambda key: orthogonal.random_hadamard(key, 12)))(keys)
    fixed = orthogonal.hadamard(12)
    signs = np.round(drawn / fixed[None])
    np.testing.assert_array_equal(signs, np.broadcast_to(signs[:, :1], signs.shape))  # one sign a column
    assert len(np.unique(signs[:, 0], axis=0)) == 40
    assert abs(np.mean(signs[:, 0])) < 0.2
    shuffled = orthogonal.random_hadamard(keys[0], 12, permuted=True)
    assert float(orthogonal.defect(shuffled)) < 100 * EPS
    columns = np.abs(np.round(fixed.T @ shuffled, 3))
    np.testing.assert_array_equal(np.sort(columns.argmax(axis=0)), np.arange(12))
    assert (columns.argmax(axis=0) != np.arange(12)).any()


def test_they_flatten_outliers_in_known_neurons_more_than_haar_elements():
    rng = np.random.default_rng(0)
    S = jnp.asarray(rng.standard_normal((64, 500)) * np.where(np.arange(64) < 2, 20, 1)[:, None])
    error, keys = jd.objectives.spread("lp"), jax.random.split(jax.random.key(0), 10)
    hadamard = jax.vmap(lambda key: error(orthogonal.random_hadamard(key, 64), S))(keys)
    haar = jax.vmap(lambda key: error(orthogonal.random(key, 64), S))(keys)
    assert float(jnp.max(hadamard)) < 0.9 * float(jnp.min(haar))
    assert float(jnp.max(haar)) < float(error(jnp.eye(64), S))


@pytest.mark.both_precisions
def test_blocks_stand_on_the_diagonal_and_have_derivatives():
    blocks = jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 2)), jnp.zeros(0).dtype)
    np.testing.assert_array_equal(orthogonal.block_diagonal(blocks), scipy.linalg.block_diag(*blocks))
    np.testing.assert_array_equal(orthogonal.block_diagonal(1j * blocks), scipy.linalg.block_diag(*(1j * blocks)))
    many = jax.jit(jax.vmap(orthogonal.block_diagonal))(jnp.stack([blocks, 2 * blocks]))
    np.testing.assert_array_equal(many[1], scipy.linalg.block_diag(*(2 * blocks)))
    weight = jnp.arange(36.0).reshape(6, 6)
    slope = jax.grad(lambda B: jnp.sum(weight * orthogonal.block_diagonal(B)))(blocks)
    np.testing.assert_array_equal(slope, jnp.stack([weight[i : i + 2, i : i + 2] for i in (0, 2, 4)]))
    broken = orthogonal.block_diagonal(blocks.at[1].set(jnp.nan))
    assert int(jnp.isnan(broken).sum()) == 4


@pytest.mark.thorough
def test_heads_are_descrambled_one_by_one():
    heads, sparse = Power(SpecialOrthogonal()), jd.objectives.sparsity("logcosh")
    hidden = heads.random(jax.random.key(0), 8, 4, 4)
    S = orthogonal.block_diagonal(hidden).T @ jax.random.laplace(jax.random.key(1), (32, 3000))

    def in_heads(blocks, summary):
        return sparse(orthogonal.block_diagonal(blocks), summary)

    found = jd.minimise(in_heads, heads.origin(hidden), sparse.summarise(S), manifold=heads).check()
    one_by_one = [jd.descramble(part, sparse, jd.solvers.LBFGS()) for part in S.reshape(8, 4, -1)]
    assert float(found.value) < float(in_heads(hidden, S))
    apart = orthogonal.block_diagonal(jnp.stack([one.point for one in one_by_one]))
    np.testing.assert_allclose(np.abs(sparse(apart, S)), found.value, rtol=2e-3)
    sources = np.abs(np.corrcoef(orthogonal.block_diagonal(found.point) @ S, orthogonal.block_diagonal(hidden) @ S))
    assert (sources[:32, 32:].max(axis=1) > 0.97).all()


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: orthogonal.hadamard(10), ValueError, "n: no Hadamard matrix of size 10 .* nearest sizes are 8 and 12"),
        (lambda: orthogonal.hadamard(92), ValueError, "nearest sizes are 88 and 96"),
        (lambda: orthogonal.random_hadamard(jax.random.key(0), 3), ValueError, "nearest sizes are 2 and 4"),
        (lambda: orthogonal.hadamard(0), ValueError, "n: expected a positive integer"),
        (lambda: orthogonal.hadamard(4, "int32"), TypeError, "dtype"),
        (lambda: orthogonal.random_hadamard(0, 4), TypeError, "key"),  # pyright: ignore
        (lambda: orthogonal.random_hadamard(jax.random.key(0), 4, permuted=1), TypeError, "permuted: expected True"),  # pyright: ignore
        (lambda: orthogonal.block_diagonal(jnp.ones((2, 3, 4))), ValueError, r"blocks: got shape \(2, 3, 4\)"),
        (lambda: orthogonal.block_diagonal(jnp.eye(3)), ValueError, r"blocks: expected square matrices \(k, d, d\)"),
    ],
)
def test_bad_input_is_refused_in_words(call, error, words):
    with pytest.raises(error, match=words):
        call()
