"""Grouped and depthwise convolutions against loops over the groups, and against derivatives."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdescramble as jd

X64 = jax.config.jax_enable_x64  # pyright: ignore[reportAttributeAccessIssue]
TIGHT = 1e-11 if X64 else 1e-4
FORMATS = {"NHWC": ("NHWC", "HWIO", "NHWC"), "NCHW": ("NCHW", "OIHW", "NCHW")}
# (groups, channels into each group, channels out of each group)
GROUPS = {"grouped": (2, 3, 4), "depthwise": (4, 1, 1), "depthwise, multiplied": (4, 1, 2)}


def convolve(x, kernel, names, groups=1, **options):
    settings = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": names} | options
    return jax.lax.conv_general_dilated(x, kernel, feature_group_count=groups, **settings)


def along_channels(vector, names):
    return vector.reshape([-1 if letter == "C" else 1 for letter in names[0]])


def network(params, x, names, groups, join=convolve, **options):
    """A convolution of all channels, one in groups, a mean over places, a dense layer."""
    x = jax.nn.relu(convolve(x, params["a"], names))
    x = join(x, params["b"], names, groups, **options) + along_channels(params["bias"], names)
    x = jax.nn.relu(x).mean(axis=tuple(i for i in range(4) if names[0][i] in "HW"))
    return x @ params["c"]


def looped(x, kernel, names, groups, **options):
    """A convolution in groups, written as a loop."""
    parts = jnp.split(x, groups, names[0].index("C"))
    kernels = jnp.split(kernel, groups, names[1].index("O"))
    done = [convolve(part, kernel, names, **options) for part, kernel in zip(parts, kernels, strict=True)]
    return jnp.concatenate(done, names[2].index("C"))


def problem(key, names, groups, into, out, bias=True):
    keys = jax.random.split(key, 5)

    def kernel(key, sizes):
        return jax.random.normal(key, [sizes[letter] for letter in names[1]])

    params = {
        "a": kernel(keys[0], {"H": 1, "W": 1, "I": 2, "O": groups * into}),
        "b": kernel(keys[1], {"H": 3, "W": 2, "I": into, "O": groups * out}),
        "bias": bias * jax.random.normal(keys[2], (groups * out,)),
        "c": jax.random.normal(keys[3], (groups * out, 2)),
    }
    sizes = {"N": 3, "C": 2, "H": 5, "W": 4}
    return params, jax.random.normal(keys[4], [sizes[letter] for letter in names[0]])


@pytest.mark.both_precisions
@pytest.mark.parametrize("names", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("sizes", GROUPS.values(), ids=GROUPS.keys())
def test_each_group_is_a_layer_of_its_own(key, names, sizes):
    groups, into, out = sizes
    params, x = problem(key, names, *sizes)
    options = {"window_strides": (2, 1), "padding": "VALID", "rhs_dilation": (1, 2)}
    f = lambda params, x: network(params, x, names, groups, **options)  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no matrix is unread
        y, taps = jax.jit(jd.wiretap(f))(params, x)
    np.testing.assert_allclose(y, f(params, x), rtol=TIGHT)
    assert list(taps) == ["['a']", "['b']", "['c']"]
    tap = taps["['b']"]
    assert (tap.layout.lead, tap.layout.out, tap.layout.into) == ((groups,), (out,), (into, 3, 2))
    assert (tap.weight.shape, tap.bias.shape) == ((groups, out, into * 6), (groups, out))
    np.testing.assert_allclose(tap.weight @ tap.input + tap.bias[..., None], tap.preactivation, atol=10 * TIGHT)
    # Group by group it is a plain convolution, as the tape reads it.
    before = jax.nn.relu(convolve(x, params["a"], names))
    parts = jnp.split(before, groups, names[0].index("C"))
    kernels = jnp.split(params["b"], groups, names[1].index("O"))
    for g, (part, kernel) in enumerate(zip(parts, kernels, strict=True)):
        single = jd.wiretap(lambda k, x: convolve(x, k, names, **options))(kernel, part)[1]["params"]
        np.testing.assert_array_equal(tap.weight[g], single.weight)
        np.testing.assert_allclose(tap.input[g], single.input, atol=TIGHT)
        linear = tap.preactivation[g] - tap.bias[g][:, None]
        np.testing.assert_allclose(linear, single.preactivation, atol=10 * TIGHT)


@pytest.mark.parametrize("sizes", [GROUPS["grouped"], GROUPS["depthwise, multiplied"]])
def test_a_frame_put_in_at_each_group_leaves_the_function_alone(key, sizes):
    names, (groups, into, out) = FORMATS["NHWC"], sizes
    params, x = problem(key, names, *sizes)
    f = lambda params, x: network(params, x, names, groups)  # noqa: E731
    for shape in ((out, out), (groups, out, out)):
        P = jax.random.normal(key, shape) + jnp.broadcast_to(3 * jnp.eye(out), shape)
        g = jd.insert(f, params, x, {"['b']": P})
        np.testing.assert_allclose(g(params, x), f(params, x), rtol=1e3 * TIGHT)
    with pytest.raises(ValueError, match=rf"takes \({out}, {out}\) or \({groups}, {out}, {out}\)"):
        jd.insert(f, params, x, {"['b']": jnp.eye(groups * out)})
    with pytest.raises(ValueError, match="patches overlap"):
        jd.insert(f, params, x, {}, {"['b']": jnp.eye(6 * into)})


def test_descrambling_a_network_descrambles_every_group(key):
    names = FORMATS["NHWC"]
    params, x = problem(key, names, *GROUPS["grouped"])
    f = lambda params, x: network(params, x, names, 2)  # noqa: E731
    weights = jnp.asarray([1.0, 0.0, 2.0])
    side = lambda name, side, size: jd.objectives.smoothness() if (name, side) == ("['b']", "output") else None  # noqa: E731
    layer = jd.descramble_network(f, params, x, side, weights=weights)["['b']"]
    _, taps = jd.wiretap(f)(params, x, weights)
    tap = taps["['b']"]
    np.testing.assert_array_equal(tap.weights, jnp.repeat(weights, 20))  # every place has its sample's weight
    np.testing.assert_allclose(layer.weight, layer.output.point @ tap.weight, atol=1e3 * TIGHT)
    for g in range(2):
        alone = jd.descramble(tap.preactivation[g], weights=tap.weights)
        np.testing.assert_allclose(layer.output.value[g], alone.value, rtol=1e4 * TIGHT)


@pytest.mark.both_precisions
@pytest.mark.parametrize("out", [1, 2])
def test_channels_are_permuted_through_a_depthwise_convolution(key, out):
    names = FORMATS["NCHW"]
    params, x = problem(key, names, 4, 1, out)
    f = lambda params, x: network(params, x, names, 4)  # noqa: E731
    order = jnp.asarray([2, 0, 3, 1])
    same = jd.reorder(f, params, x, "['a']", order)
    np.testing.assert_allclose(f(same, x), f(params, x), rtol=TIGHT)
    kernels = params["b"].reshape(4, out, *params["b"].shape[1:])
    np.testing.assert_array_equal(same["b"], kernels[order].reshape(params["b"].shape))
    np.testing.assert_array_equal(same["c"], params["c"].reshape(4, out, 2)[order].reshape(-1, 2))


def test_channels_of_all_groups_are_permuted_alike_and_others_are_refused(key):
    names, groups = FORMATS["NHWC"], 2
    params, x = problem(key, names, *GROUPS["grouped"])
    params["second"] = jax.random.normal(key, (1, 1, 4, 8))

    def f(params, x):
        x = jnp.tanh(convolve(x, params["a"], names))
        x = jnp.tanh(convolve(x, params["b"], names, groups) + along_channels(params["bias"], names))
        x = convolve(x, params["second"], names, groups)
        return jnp.tanh(x).mean((1, 2)) @ params["c"]

    order = jnp.asarray([3, 1, 0, 2])
    same = jd.reorder(f, params, x, "['b']", order)
    np.testing.assert_allclose(f(same, x), f(params, x), rtol=1e2 * TIGHT)
    np.testing.assert_array_equal(same["second"], params["second"][:, :, order])
    np.testing.assert_array_equal(same["bias"], params["bias"].reshape(2, 4)[:, order].ravel())
    name = "['b']"
    before, after = (jd.wiretap(f)(p, x)[1][name].preactivation for p in (params, same))
    np.testing.assert_array_equal(after, before[:, order])
    same = jd.reorder(f, params, x, "['second']", order)
    np.testing.assert_allclose(f(same, x), f(params, x), rtol=1e2 * TIGHT)
    with pytest.raises(ValueError, match=r"conv_general_dilated.* splits their axis into parts"):
        jd.reorder(f, params, x, "['a']", [2, 0, 1, 3, 4, 5])
    with pytest.raises(ValueError, match=r"each of 0 \.\.\. 3 once"):
        jd.reorder(f, params, x, "['b']", jnp.arange(8)[::-1])


def test_whole_groups_change_places(key):
    # Each of three neurons makes both channels of its group.
    names = ("NWC", "WIO", "NWC")
    keys = jax.random.split(key, 4)
    params = {
        "a": jax.random.normal(keys[0], (5, 3)),
        "two": jax.random.normal(keys[1], (2,)),
        "b": jax.random.normal(keys[2], (2, 2, 6)),
        "c": jax.random.normal(keys[3], (6, 2)),
    }

    def f(params, x):
        x = jnp.tanh(x @ params["a"])[..., None] * params["two"].reshape(1, 1, 1, 2)
        x = jax.lax.conv_general_dilated(
            x.reshape(*x.shape[:2], 6), params["b"], (1,), "SAME", dimension_numbers=names, feature_group_count=3
        )
        return jnp.tanh(x).mean(1) @ params["c"]

    x, order = jax.random.normal(key, (2, 4, 5)), jnp.asarray([2, 0, 1])
    same = jd.reorder(f, params, x, "['a']", order)
    np.testing.assert_allclose(f(same, x), f(params, x), rtol=1e2 * TIGHT)
    np.testing.assert_array_equal(same["b"], params["b"].reshape(2, 2, 3, 2)[:, :, order].reshape(2, 2, 6))


@pytest.mark.thorough
@pytest.mark.parametrize("sizes", [GROUPS["grouped"], GROUPS["depthwise"]], ids=["grouped", "depthwise"])
def test_relevance_is_that_of_a_loop_over_the_groups(key, sizes):
    names = FORMATS["NHWC"]
    params, x = problem(key, names, *sizes)
    f = lambda params, x: network(params, x, names, sizes[0])  # noqa: E731
    loop = lambda params, x: network(params, x, names, sizes[0], looped)  # noqa: E731
    no_bias = params | {"bias": jnp.zeros_like(params["bias"])}
    gradient = x * jd.attribution.gradient(f, no_bias, x, 1)
    np.testing.assert_allclose(jd.attribution.lrp(f, no_bias, x, 1, rule="z"), gradient, atol=1e2 * TIGHT)
    for options in ({"rule": "z"}, {"rule": "alpha-beta", "alpha": 2.0, "beta": 1.0}, {"rule": "w2"}):
        # The loop's own bias comes after its pieces were joined: without one they are the same rule by rule.
        found, expected = (jd.attribution.lrp(g, no_bias, x, 1, **options) for g in (f, loop))
        np.testing.assert_allclose(found, expected, atol=1e3 * TIGHT)
    boxed = {"input_rule": "z-box", "low": -9.0, "high": 9.0}
    first = lambda params, x: jax.nn.relu(convolve(x, params["b"], names, 2)).mean((1, 2))  # noqa: E731
    second = lambda params, x: jax.nn.relu(looped(x, params["b"], names, 2)).mean((1, 2))  # noqa: E731
    kernel = {"b": params["b"][:, :, :1, :4]}
    found, expected = (jd.attribution.lrp(g, kernel, x, 1, **boxed) for g in (first, second))
    np.testing.assert_allclose(found, expected, atol=1e3 * TIGHT)


@pytest.mark.parametrize("sizes", [GROUPS["grouped"], GROUPS["depthwise"]], ids=["grouped", "depthwise"])
def test_switched_projections_are_derivatives(key, sizes):
    names, (groups, _, out) = FORMATS["NHWC"], sizes
    params, x = problem(key, names, *sizes)
    f = lambda params, x: network(params, x, names, groups)  # noqa: E731
    switched = jd.attribution.switched
    found = switched.gates(f, params, x)
    assert {name: one.shape[1:] for name, one in found.items()} == {
        "['a']": (5, 4, groups * sizes[1]),
        "['b']": (5, 4, groups * out),
    }
    projection = switched.project(f, params, x, ("['b']", (2, 1, groups * out - 1)))

    def neuron(x):
        x = jax.nn.relu(convolve(x, params["a"], names))
        return looped(x, params["b"], names, groups)[:, 2, 1, -1] + params["bias"][-1]

    expected = jax.grad(lambda x: neuron(x).sum())(x)
    np.testing.assert_allclose(projection.weight, expected, atol=1e2 * TIGHT)
    value = jnp.sum(projection.weight * x, (1, 2, 3)) + projection.bias
    np.testing.assert_allclose(value, neuron(x), atol=1e2 * TIGHT)
    if X64:  # in float32 the difference is too coarse, or crosses a gate
        step, direction = 1e-6, jax.random.normal(key, x.shape)
        slope = (f(params, x + step * direction) - f(params, x - step * direction))[:, 0] / (2 * step)
        weight = switched.project(f, params, x, 0).weight
        np.testing.assert_allclose(jnp.sum(weight * direction, (1, 2, 3)), slope, rtol=1e-5)


def test_all_routes_to_the_silent_neurons_agree(key):
    names = FORMATS["NHWC"]
    params, x = problem(key, names, *GROUPS["depthwise"])
    f = lambda params, x: network(params, x, names, 4)  # noqa: E731
    insens = jd.attribution.switched.insens
    forward, coloured = (insens(f, params, x, route=route) for route in ("forward", "coloured"))
    np.testing.assert_allclose(coloured.map, forward.map, atol=1e2 * TIGHT)
    # 3 x 2 places of the window and 2 channels, with every product of the network; forward takes all 40 features.
    costs = dict(forward.costs)
    assert costs["forward"] / costs["coloured"] == pytest.approx(40 / 12)


def test_a_network_mapped_over_its_parameters_is_read_member_by_member(key):
    names, members = FORMATS["NHWC"], 3
    problems = [problem(k, names, 1, 2, 3) for k in jax.random.split(key, members)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params for params, _ in problems))
    x = problems[0][1]
    f = lambda params, x: network(params, x, names, 1)  # noqa: E731
    together = lambda params, x: jax.vmap(f, (0, None))(params, x)  # noqa: E731
    tap = jd.wiretap(together)(params, x)[1]["['b']"]
    assert tap.layout.lead == (members,)
    for i, (own, _) in enumerate(problems):
        single = jd.wiretap(f)(own, x)[1]["['b']"]
        for field in ("weight", "bias", "input", "preactivation", "activation"):
            np.testing.assert_allclose(getattr(tap, field)[i], getattr(single, field), atol=1e2 * TIGHT)


def test_convolutions_of_groups_of_samples_are_named_as_unread(key):
    def f(params, x):
        return jax.lax.conv_general_dilated(x, params["k"], (1,), "SAME", batch_group_count=2)

    params, x = {"k": jax.random.normal(key, (4, 3, 2))}, jax.random.normal(key, (4, 3, 5))
    with pytest.warns(jd.JaxdescrambleWarning, match=r"\['k'\] .*, a convolution in groups of samples"):
        assert not jd.wiretap(f)(params, x)[1]
