"""Where the systems meet: gates and pieces of gated networks by both rooms, kernels of other people's networks, frames
of gating networks."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble import gated
from jaxdescramble.attribution import switched
from jaxdescramble.gated import path_kernel

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x):
        for channels in (4, 5):
            x = nn.relu(nn.Conv(channels, (3, 3), padding="CIRCULAR", use_bias=False, param_dtype=float)(x))
        return nn.Dense(2, use_bias=False, param_dtype=float)(x.mean(axis=(1, 2)))


@needs_x64
def test_the_kernel_of_a_flax_network_is_the_gram_of_its_paths(key):
    model, x = Convolutions(), jax.random.normal(key, (3, 4, 4, 2))
    params = model.init(key, x)
    gates = switched.path_gates(model.apply, params, x)
    assert [gate.shape for gate in gates] == [(3, 4, 4, 4), (3, 4, 4, 5)]
    h = nn.Conv(4, (3, 3), padding="CIRCULAR", use_bias=False, param_dtype=float).apply(
        {"params": params["params"]["Conv_0"]}, x
    )
    np.testing.assert_array_equal(gates[0], h > 0)
    # Value weights of Rademacher signs behind these gates: E[f f'] is the kernel; here exactly, by all paths.
    K = path_kernel.convolutional(x, x, gates, gates, normalise="none")
    G1, G2 = (np.asarray(gate, float) for gate in gates)
    by_hand = np.zeros((3, 3))
    shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for i in np.ndindex(4, 4):
        for j in np.ndindex(4, 4):
            inner = np.zeros((3, 3))
            for t in shifts:
                i1, j1 = ((np.add(at, t)) % 4 for at in (i, j))
                first = np.zeros((3, 3))
                for u in shifts:
                    i0, j0 = ((np.add(at, u)) % 4 for at in (i1, j1))
                    first += np.asarray(x)[:, i0[0], i0[1]] @ np.asarray(x)[:, j0[0], j0[1]].T
                inner += first * (G1[:, i1[0], i1[1]] @ G1[:, j1[0], j1[1]].T)
            by_hand += inner * (G2[:, i[0], i[1]] @ G2[:, j[0], j[1]].T)
    np.testing.assert_allclose(K, by_hand / 16**2, rtol=1e-12)


@needs_x64
def test_the_kernel_of_an_equinox_network(key):
    model = eqx.nn.MLP(3, 2, 6, 2, use_bias=False, use_final_bias=False, dtype=float, key=key)
    arrays, static = eqx.partition(model, eqx.is_array)
    x = jax.random.normal(key, (4, 3))
    gates = switched.path_gates(lambda p, x: jax.vmap(eqx.combine(p, static))(x), arrays, x)
    K, h = x @ x.T, x
    for layer in model.layers[:-1]:
        q = h @ layer.weight.T
        on = (q > 0).astype(float)
        K, h = K * (on @ on.T) / 6, on * q
    np.testing.assert_allclose(path_kernel.dense(x, x, gates, gates), K, rtol=1e-13)


@needs_x64
@pytest.mark.parametrize("activation", [jax.nn.leaky_relu, jnp.abs, jax.nn.relu6, lambda v: 2 * jnp.where(v > 0, v, 0)])
def test_slopes_are_gates(key, activation):
    W, V = jax.random.normal(key, (3, 4)), jax.random.normal(key, (4, 2))
    x = 3 * jax.random.normal(key, (5, 3))
    (gates,) = switched.path_gates(lambda p, x: activation(x @ p[0]) @ p[1], (W, V), x)
    slope = jax.vmap(jax.vmap(jax.grad(activation)))(x @ W)
    np.testing.assert_array_equal(gates, slope)
    # A network without offsets is the sum over its paths: f = <phi, v>.
    if activation is not jax.nn.relu6:
        np.testing.assert_allclose(activation(x @ W) @ V, (gates * (x @ W)) @ V, rtol=1e-13)


@pytest.mark.usefixtures("as_installed")
def test_what_no_path_goes_through_is_refused():
    W, x = jnp.eye(2, dtype=jnp.float32), jnp.ones((1, 2), jnp.float32)
    picture = jnp.ones((1, 4, 4, 1), jnp.float32)
    spec = gated.Spec(gated.FullyConnected(2, (2, 2), 1), "dlgn")
    params = gated.init(jax.random.key(0), spec, dtype=jnp.float32)

    def around(W, x):
        h = x @ W
        return jax.nn.relu(h) @ W + h @ W

    def twice(W, x):
        h = x @ W
        return jax.nn.relu(h) @ W + jnp.abs(h) @ W

    for call, error, words in (
        (lambda: switched.path_gates(lambda p, x: nn.max_pool(jax.nn.relu(x), (2, 2), (2, 2)), None, picture),
         NotImplementedError, "chooses among neurons"),
        (lambda: switched.path_gates(around, W, x), NotImplementedError, "2 values, itself among"),
        (lambda: switched.path_gates(twice, W, x), NotImplementedError, "2 values, not itself"),
        (lambda: switched.path_gates(gated.as_function(spec), params, x), NotImplementedError, r"gated\.gates"),
        (lambda: switched.path_gates(lambda W, x: x @ W, W, x), ValueError, "no gates"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            call()


@needs_x64
@pytest.mark.parametrize("kind", ["dlgn", "dlgn-sf"])
def test_switched_projections_of_a_linearly_gated_network_are_its_primal_weights(key, kind):
    """Pieces that are known in closed form: the gates' maps, and the output's product of gated weights."""
    spec = gated.Spec(gated.FullyConnected(6, (5, 4), 3, biases=True), kind)
    params, x = gated.init(key, spec, bias_scale=0.3), jax.random.normal(key, (3, 6))
    f = gated.as_function(spec)
    gates = gated.gates(params, x, spec)
    pieces = switched.gates(f, params, x)
    for gate, piece, primal, name in zip(
        gates, pieces.values(), gated.primal_weights(params, spec), pieces, strict=True
    ):
        np.testing.assert_array_equal(gate, piece)
        for i in (0, 3):
            w, b = switched.project(f, params, x, (name, i))
            np.testing.assert_allclose(w, jnp.broadcast_to(primal.weight[i], w.shape), rtol=0, atol=1e-14)
            np.testing.assert_allclose(b, jnp.broadcast_to(primal.bias[i], b.shape), rtol=0, atol=1e-14)
    first, second, last = params["values"]
    w = switched.project(f, params, x, 1).weight
    for k in range(3):
        masked = last["weight"][1] * gates[1][k] @ second["weight"] * gates[0][k] @ first["weight"]
        np.testing.assert_allclose(w[k], masked, rtol=0, atol=1e-13)


@needs_x64
def test_insens_of_a_linearly_gated_network_in_closed_form(key):
    spec = gated.Spec(gated.FullyConnected(6, (5, 4), 3), "dlgn")
    params, x = gated.init(key, spec), jax.random.normal(key, (3, 6))
    found = switched.insens(gated.as_function(spec), params, x)
    V = jnp.concatenate([one.weight for one in gated.primal_weights(params, spec)])
    q = x @ V.T
    silent = (q <= 0).astype(float)
    omega = (silent * q / jnp.sum(V**2, axis=1)[None]) @ V / jnp.sum(silent, axis=1)[:, None]
    np.testing.assert_allclose(found.map, omega, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(found.count, jnp.sum(silent, axis=1))


@pytest.mark.thorough
@needs_x64
def test_the_frame_of_a_gating_network_is_that_of_its_primal_weights(key):
    """A deep linear network on whitened inputs: descrambling its signals is descrambling `V_l ... V_1`, exactly."""
    spec = gated.Spec(gated.FullyConnected(8, (6, 5), 2), "dlgn")
    params = gated.init(key, spec)
    x = jnp.linalg.qr(jax.random.normal(key, (40, 8)))[0]  # x^T x = 1
    signals = gated.preactivations(params, x, spec)[1].T
    objective = jd.objectives.smoothness()
    found = jd.descramble(signals, objective)
    limit = jd.exact.from_weights(gated.primal_weights(params, spec)[1].weight, objective=objective)
    np.testing.assert_allclose(found.value, limit.value, rtol=1e-10)
    # What no gauge changes: P^T D^T D P.
    curves = [objective.operator(5).apply(point) for point in (found.point, limit.point)]
    np.testing.assert_allclose(curves[0].T @ curves[0], curves[1].T @ curves[1], rtol=0, atol=1e-7)
