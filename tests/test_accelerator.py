"""What an accelerator could get wrong, run by name where there is one: `JAX_PLATFORMS=cuda,cpu pytest -m gpu -n0`.

Products there default to TF32 or bfloat16 passes, three digits short of what orthogonality and small values need. The
checks compare float32 on the default device with NumPy's float64, and pass on a CPU too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd
from jaxdescramble.manifolds import orthogonal
from jaxdescramble.operators import derivative

pytestmark = pytest.mark.gpu


def hard_signals(n=80, m=2000):
    """Singular values over five orders of magnitude, as the link signals of a trained network have them."""
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.standard_normal((n, n)))[0], np.linalg.qr(rng.standard_normal((m, n)))[0]
    singular = np.geomspace(1, 1e-5, n)
    return jnp.asarray((left * singular) @ right.T, jnp.float32), singular


def test_float32_reaches_the_float64_optimum():
    S, singular = hard_signals()
    a = derivative(80).eigenvalues
    truth = float(np.sum(a * singular**2) / (a[-1] * np.sum(singular**2)))
    found = jd.descramble(S).check()
    assert float(orthogonal.defect(found.point)) < 2e-5
    np.testing.assert_allclose(float(found.value), truth, rtol=1e-3)
    np.testing.assert_allclose(float(found.bound), truth, rtol=1e-3)


def test_a_gram_matrix_is_summed_in_full_precision():
    S, _ = hard_signals(64, 4000)
    exact = np.asarray(S, np.float64) @ np.asarray(S, np.float64).T
    gram = np.asarray(jd.objectives.Gram.empty(64, jnp.float32).update(S).gram, np.float64)
    assert np.linalg.norm(gram - exact) / np.linalg.norm(exact) < 2e-6


def test_many_layers_at_once_equal_one_by_one():
    S = jnp.asarray(np.random.default_rng(0).standard_normal((16, 48, 300)), jnp.float32)
    together = jd.descramble(S)
    alone = jnp.stack([jd.descramble(one).value for one in S])
    np.testing.assert_allclose(together.value, alone, rtol=1e-4)


@pytest.mark.parametrize("name", ["total_variation", "sparsity", "locality"])
def test_a_default_call_in_float32_finds_what_it_finds_in_float64_on_a_cpu(name):
    objective = getattr(jd.objectives, name)()
    inputs = np.cumsum(np.random.default_rng(0).standard_normal((64, 300)), axis=0)
    S = np.maximum(np.random.default_rng(1).standard_normal((32, 64)) @ inputs, 0)
    found = jd.descramble(jnp.asarray(S, jnp.float32), objective).check()
    with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(True):
        exact = jd.descramble(jnp.asarray(S, jnp.float64), objective).check()
        value = float(objective(jnp.asarray(np.asarray(found.point), jnp.float64), jnp.asarray(S, jnp.float64)))
    np.testing.assert_allclose(float(found.value), value, rtol=1e-4)
    assert value < float(exact.value) * 1.01


def test_a_network_keeps_its_function():
    def f(params, x):
        return jax.nn.softplus(x @ params["a"]) @ params["b"]

    keys = jax.random.split(jax.random.key(0), 3)
    params = {"a": jax.random.normal(keys[0], (64, 80)) / 8, "b": jax.random.normal(keys[1], (80, 64)) / 9}
    params, x = jax.tree.map(lambda w: w.astype(jnp.float32), (params, jax.random.normal(keys[2], (500, 64))))
    point = jd.descramble_network(f, params, x)["['a']"].sides["output"].point
    with jax.default_matmul_precision("highest"):
        before, after = f(params, x), jd.insert(f, params, x, {"['a']": point})(params, x)
    assert float(jnp.linalg.norm(after - before) / jnp.linalg.norm(before)) < 1e-5
