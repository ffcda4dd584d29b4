"""Networks with complex weights: taps, descramblers of both sides, inserted unitary matrices, and what refuses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import unitary_group

import jaxdescramble as jd
from jaxdescramble.objectives import smoothness

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
INTO, HIDDEN, OUT, SAMPLES = 5, 6, 3, 40


def mod_relu(z, b):
    """`relu(|z| + b) z / |z|`: the phase passes, the absolute value is rectified (Arjovsky et al. 2016)."""
    size = jnp.abs(z)
    return z * jax.nn.relu(size + b[None, :]) / (size + 1e-6)


def network(params, x):
    hidden = mod_relu(x @ params["a"], params["bias"])
    middle = mod_relu(hidden @ params["b"], params["more"])
    return jnp.abs(middle @ params["c"]) ** 2


run, tapped = jax.jit(network), jax.jit(jd.wiretap(network))


def gaussian(rng, *shape):
    return jnp.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    params = {
        "a": gaussian(rng, INTO, HIDDEN),
        "b": gaussian(rng, HIDDEN, HIDDEN),
        "bias": jnp.full(HIDDEN, -0.5),
        "c": gaussian(rng, HIDDEN, OUT),
        "more": jnp.full(HIDDEN, -0.5),
    }
    return params, gaussian(rng, SAMPLES, INTO)


@needs_x64
def test_layers_are_read_as_complex_and_by_hand(trained):
    params, x = trained
    y, taps = tapped(params, x)
    np.testing.assert_allclose(y, run(params, x), rtol=1e-12)
    assert list(taps) == ["['a']", "['b']", "['c']"]
    z = np.asarray(x) @ np.asarray(params["a"])
    hidden = z * np.maximum(abs(z) - 0.5, 0) / (abs(z) + 1e-6)
    tap = taps["['b']"]
    np.testing.assert_array_equal(tap.weight, params["b"].T)  # the transpose, not the conjugate
    np.testing.assert_allclose(tap.input, hidden.T, rtol=1e-12)
    np.testing.assert_allclose(tap.preactivation, np.asarray(params["b"]).T @ hidden.T, rtol=1e-11)
    np.testing.assert_allclose(tap.activation, taps["['c']"].input, rtol=1e-14)
    assert tap.activation.dtype == jnp.complex128
    assert taps["['c']"].activation.dtype == jnp.float64
    assert (taps["['a']"].layout.from_input, taps["['c']"].layout.to_output) == (True, True)


@needs_x64
def test_both_sides_are_descrambled_and_the_weight_is_that_of_the_frames(trained):
    params, x = trained
    objective = smoothness(boundary="neumann")
    layers = jd.descramble_network(network, params, x, objective, group="U").check()
    _, taps = tapped(params, x)
    for name, layer in layers.items():
        tap = taps[name]
        P, Q = (None if side is None else np.asarray(side.point) for side in (layer.output, layer.input))
        for side, signals in ((layer.output, tap.preactivation), (layer.input, tap.input)):
            if side is not None:
                b = np.linalg.svd(signals, compute_uv=False) ** 2
                a = objective.operator(len(signals)).eigenvalues
                np.testing.assert_allclose(side.value, np.sum(a * b) / (a[-1] * b.sum()), rtol=1e-11)
        # In the frames, the layer still maps its signals: (P W Q^H) (Q X) = P (W X).
        X = np.asarray(tap.input) if Q is None else Q @ np.asarray(tap.input)
        after = np.asarray(tap.preactivation) if P is None else P @ np.asarray(tap.preactivation)
        np.testing.assert_allclose(np.asarray(layer.weight) @ X, after, atol=1e-11)
    assert layers["['a']"].input is None
    assert layers["['c']"].output is None


@needs_x64
def test_unitary_matrices_can_be_inserted_and_taken_out_again(trained):
    params, x = trained
    rng = np.random.default_rng(1)
    P = {"['a']": jnp.asarray(unitary_group.rvs(HIDDEN, random_state=rng))}
    general = {"['b']": gaussian(rng, HIDDEN, HIDDEN)}
    y = run(params, x)
    for points, inputs in ((P, None), (general, {"['b']": P["['a']"]})):
        inserted = jax.jit(jd.insert(network, params, x, points, inputs))
        np.testing.assert_allclose(inserted(params, x), y, rtol=1e-11)


@needs_x64
def test_a_unitary_matrix_between_real_signals_leaves_them_real():
    rng = np.random.default_rng(2)
    w, x = jnp.asarray(rng.standard_normal((3, 3))), jnp.asarray(rng.standard_normal((7, 3)))

    def f(w, x):
        return jnp.tanh(x @ w)

    y = jax.jit(jd.insert(f, w, x, {"params": jnp.asarray(unitary_group.rvs(3, random_state=rng))}))(w, x)
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, f(w, x), rtol=1e-13)


@needs_x64
@pytest.mark.thorough
def test_joint_frames_and_sample_weights_of_a_complex_network(trained, tmp_path):
    params, x = trained
    weights = jnp.asarray(np.arange(SAMPLES) % 3, float)
    options = {"group": "U", "joint": True}
    found = jd.descramble_network(network, params, x, weights=weights, **options)["['b']"]
    repeated = jd.descramble_network(network, params, jnp.repeat(x, np.arange(SAMPLES) % 3, axis=0), **options)["['b']"]
    np.testing.assert_allclose(found.input.value, repeated.input.value, rtol=1e-10)
    np.testing.assert_allclose(found.output.value, repeated.output.value, rtol=1e-10)
    # By hand, from [m W^H, X]: Q makes the columns of Q W^H = (W Q^H)^H smooth too.
    _, taps = tapped(params, jnp.repeat(x, np.arange(SAMPLES) % 3, axis=0))
    W, X = np.asarray(taps["['b']"].weight), np.asarray(taps["['b']"].input)
    both = np.concatenate([np.linalg.norm(X, 2) / np.linalg.norm(W, 2) * W.conj().T, X], axis=1)
    a, b = smoothness().operator(HIDDEN).eigenvalues, np.linalg.svd(both, compute_uv=False) ** 2
    np.testing.assert_allclose(repeated.input.value, np.sum(a * b) / (a[-1] * b.sum()), rtol=1e-10)
    found.save(tmp_path / "layer")
    np.testing.assert_array_equal(type(found).load(tmp_path / "layer").weight, found.weight)


@needs_x64
@pytest.mark.thorough
def test_an_order_of_complex_neurons_is_written_into_the_network(trained):
    params, x = trained
    moved = jd.reorder(network, params, x, "['a']", [3, 1, 0, 2, 5, 4])
    np.testing.assert_array_equal(moved["a"], params["a"][:, np.asarray([3, 1, 0, 2, 5, 4])])
    np.testing.assert_allclose(network(moved, x), run(params, x), rtol=1e-12)


def test_real_groups_and_complex_layers(trained):
    params, x = trained
    with pytest.raises(TypeError, match=r"layer \['a'\], output side.*got complex numbers.*use group='U'"):
        jd.descramble_network(network, params, x)


def mixed(params, x):
    """A complex layer, and a real one that reads absolute values."""
    return jnp.abs(x @ params["a"]) @ params["real"]


@needs_x64
@pytest.mark.thorough
def test_explain_judges_the_real_layers_and_names_the_complex_ones(trained):
    params, x = trained
    params = {"a": params["a"], "real": params["c"].real[:1] * jnp.ones((HIDDEN, OUT))}
    report = jd.explain(mixed, params, x, draws=19)
    assert list(report.layers) == ["['real']"]
    assert "complex128" in report.skipped["['a']"]
    with pytest.raises(ValueError, match=r"no layer can be judged. \['a'\]: its weight and signals are complex"):
        jd.explain(lambda w, x: x @ w["a"], {"a": params["a"]}, x, draws=19)
    # Samples that agree in their real parts only are not the same sample.
    from jaxdescramble.findings.explanations._samples import samples_of

    pair = np.asarray([[1 + 1j], [1 + 2j], [1 + 1j]])
    _, _, groups = samples_of(pair, None, None)
    assert groups[0] == groups[2] != groups[1]


@pytest.mark.thorough
def test_a_figure_of_complex_layers_shows_absolute_values(trained):
    from jaxdescramble import show

    layers = jd.descramble_network(network, *trained, group="U")
    figure = show.layers_figure(layers)
    shown = np.asarray(figure.axes[1].images[0].get_array())
    np.testing.assert_allclose(shown, np.abs(layers["['a']"].weight), rtol=1e-5)


def gated(params, x):
    """A real layer with relu, then the absolute values of a complex one."""
    return jnp.abs(jax.nn.relu(x @ params["real"]) @ params["b"])


@pytest.mark.usefixtures("as_installed")
def test_an_absolute_value_of_complex_numbers_is_a_curve_not_a_gate():
    # The second network goes on after it, with operations that take real numbers only.
    def bare(params, x):
        return jnp.abs(x @ params["a"])

    def longer(params, x):
        return bare(params, x) @ params["w"] + 1.0

    params, x = {"a": 1j * jnp.eye(3), "w": jnp.eye(3)}, jnp.ones((2, 3))
    for f in (bare, longer):
        for index in (0, None):
            with pytest.raises(NotImplementedError, match="abs"):
                jd.attribution.switched.project(f, params, x, ("output", index))
    found = jd.attribution.switched.project(longer, params, x, ("output", 0), jacobian=True)
    np.testing.assert_allclose(found.weight, jnp.zeros((2, 3)).at[:, 0].set(1.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("verb", ["insens", "gates", "path_gates"])
def test_gates_decide_on_real_numbers_only(verb):
    params, x = {"real": jnp.eye(3), "b": 1j * jnp.eye(3)}, jnp.ones((2, 3))
    with pytest.raises(TypeError, match=rf"{verb}: `abs` .*decides on complex numbers.*jacobian=True"):
        getattr(jd.attribution.switched, verb)(gated, params, x)
