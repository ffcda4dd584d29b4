"""What takes a P of fewer rows, from `rank=`, and what refuses it with a cure."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdescramble as jd
from jaxdescramble import findings, objectives
from jaxdescramble.descrambling import Accumulator, refine, score
from jaxdescramble.objectives import Factor, Gram, Samples
from jaxdescramble.operators import derivative

N, M, K = 9, 40, 4
S = jnp.asarray(np.cumsum(np.random.default_rng(0).standard_normal((N, M)), axis=0))
P = jnp.asarray(np.linalg.qr(np.random.default_rng(1).standard_normal((N, K)))[0].T)
W = jnp.asarray(np.random.default_rng(2).standard_normal((N, 12)))
SPARSE, PARTS = objectives.sparsity(), {"first": jnp.ones((5, N)), "second": jnp.ones((N, 2))}
WEIGHTS = jnp.arange(M) % 3.0


def network(params, x):
    return jnp.tanh(x @ params["first"]) @ params["second"]


@pytest.mark.parametrize("objective", [SPARSE, objectives.smoothness(), objectives.entropy()])
def test_an_objective_at_a_wide_point_is_that_of_the_signals_it_keeps(objective):
    np.testing.assert_allclose(objective(P, S), objective(jnp.eye(K), P @ S), rtol=1e-12)
    np.testing.assert_allclose(objective(P, S, WEIGHTS), objective(jnp.eye(K), P @ S, WEIGHTS), rtol=1e-12)


@pytest.mark.parametrize("kind", [Gram, Factor, Samples])
def test_summaries_take_a_wide_point_too(kind):
    smooth = objectives.smoothness()
    np.testing.assert_allclose(smooth(P, kind.empty(N, S.dtype).update(S)), smooth(jnp.eye(K), P @ S), rtol=1e-9)


@pytest.mark.thorough
def test_wide_points_are_aligned_by_the_gauge_of_their_rows():
    gauge = jd.exact.Stabiliser(derivative(K))
    turned = gauge.nearest(jnp.eye(K), jnp.asarray(np.random.default_rng(3).standard_normal((K, K)))) @ P
    assert float(jnp.abs(turned - P).max()) > 0.1
    np.testing.assert_allclose(jd.exact.align(turned, P, gauge).aligned, P, atol=1e-12)


@pytest.mark.thorough
def test_readings_of_wide_weights():
    """A reading of P W is finite for any P; `row_orthogonality` is known: it does not change with rows of one frame."""
    for battery in (findings.FIRST_LAYER, findings.SECOND_LAYER):
        for side in (P @ W, (P @ W).T):
            read = findings.measure(battery, side, side)
            assert all(np.isfinite(np.asarray(value)).all() for value in read.values()), read
    explained = jd.explain(
        {"l": findings.LayerSignals(P @ W, S[:1] * jnp.ones((12, 1)))}, draws=19, key=jax.random.key(0)
    )
    assert explained.layers["l"].after.shape == (K, 12)


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jd.insert(network, PARTS, jnp.ones((3, 5)), {"['first']": P}), "from rank=k, has no inverse"),
        (lambda: jd.exact.canonical(P, derivative(N)), "it has no nearest turn to the identity. Bring it near another"),
        (
            lambda: jd.exact.align(P, P, jd.exact.degeneracy(derivative(K), Samples(P @ S))),
            "a Degeneracy takes square descramblers",
        ),
        (lambda: jd.descramble(S, SPARSE, start=P), f"an answer with rank={K}, give rank={K} here too"),
        (lambda: jd.minimise(lambda X: jnp.sum(X), P), "for its transpose, with orthonormal columns, use manifold="),
        (lambda: jd.minimise(lambda X: jnp.sum(X), P.T), r"for \(9, 4\) use manifold=manifolds.Stiefel"),
        (lambda: score(SPARSE, P, [S], Accumulator.empty(N, S.dtype).add(S)), "use point=jnp.eye"),
        (
            lambda: refine(SPARSE, P, [S], Accumulator.empty(N, S.dtype).add(S), optax.sgd(0.1)),
            "Accumulate `P @ batch` in a second pass, and use start=jnp.eye",
        ),
        (lambda: jd.reorder(network, PARTS, jnp.ones((3, 5)), "['first']", P.argmax(-1)), r"each of 0 ... 8 once"),
    ],
)
def test_what_needs_a_square_point_says_what_to_do(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
