"""Gated networks: the identities that prove them, against networks written out by hand."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdescramble import attribution, gated
from jaxdescramble.attribution import switched
from jaxdescramble.gated import (
    Convolutional,
    ConvolutionalResidual,
    FullyConnected,
    Hard,
    Residual,
    Soft,
    Spec,
    StraightThrough,
    init,
)
from jaxdescramble.networks.taps import wiretap

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore

NETS = {
    "dense": FullyConnected(6, (5, 4, 5), 3, biases=True),
    "line": Convolutional((8, 2), (3, 4), 3, pooling=(2, 1), widths=(5,), biases=True),
    "plane": Convolutional((4, 6, 2), (3, 3), 2, padding="zero", head="flatten"),
    "residual": Residual(6, 4, blocks=2, depth=2, outputs=3, biases=True),
    "gated after": Residual(6, 4, blocks=2, depth=1, outputs=3, gate_after=True),
    "resnet": Residual(6, 4, blocks=2, depth=2, outputs=3, gate_after=True, gate_before=False),
    "both": ConvolutionalResidual((6, 2), 3, blocks=2, depth=1, outputs=2, kernel=2, gate_after=True),
}
KINDS = ("dnn", "dgn", "dlgn", "dlgn-sf")
LINEAR = ("dlgn", "dlgn-sf")


def drawn(spec, seed=0, **how):
    return init(jax.random.key(seed), spec, bias_scale=0.3, **how)


def inputs(net, batch=3, seed=9, dtype=float):
    return jax.random.normal(jax.random.key(seed), (batch, *net.input_shape), dtype)


def close(found, wanted, tolerance=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), found, wanted)


# The architectures written out: one function each, `a` what happens at a gate.


def linear(layer, h):
    y = jnp.einsum("...i,oi->...o", h, layer["weight"], precision="highest")
    return y + (layer["bias"] if "bias" in layer else jnp.zeros(y.shape[-1])).reshape((1,) * (y.ndim - 1) + (-1,))


def window(layer, h, circular):
    """The sum over a kernel's taps, each of them the whole input moved."""
    kernel, total = layer["weight"], 0
    size, axes = kernel.shape[2], tuple(range(1, h.ndim - 1))
    for tap in itertools.product(range(size), repeat=len(axes)):
        moved = jnp.roll(h, [(size - 1) // 2 - t for t in tap], axes)
        if not circular:
            for axis, t in zip(axes, tap, strict=True):
                place = jnp.arange(h.shape[axis]) + t - (size - 1) // 2
                inside = (place >= 0) & (place < h.shape[axis])
                moved = moved * jnp.expand_dims(inside, [i for i in range(h.ndim) if i != axis])
        total = total + linear({"weight": kernel[(slice(None), slice(None), *tap)]}, moved)
    return total + layer["bias"].reshape((1,) * (h.ndim - 1) + (-1,)) if "bias" in layer else total


def dense(w, x, a):
    return linear(w[3], a(linear(w[2], a(linear(w[1], a(linear(w[0], x)))))))


def line(w, x, a):
    h = a(window(w[0], x, True))
    h = a(window(w[1], (h[:, 0::2] + h[:, 1::2]) / 2, True))
    return linear(w[3], a(linear(w[2], h.sum(1) / 4)))


def plane(w, x, a):
    return linear(w[2], a(window(w[1], a(window(w[0], x, False)), False)).reshape(len(x), -1))


def residual(w, x, a):
    h = a(linear(w[0], x))
    h = h + a(linear(w[2], a(linear(w[1], h))))
    h = h + a(linear(w[4], a(linear(w[3], h))))
    return linear(w[6], a(linear(w[5], h)))


def gated_after(w, x, a):
    h = a(linear(w[0], x))
    h = a(h + a(linear(w[1], h)))
    h = a(h + a(linear(w[2], h)))
    return linear(w[4], a(linear(w[3], h)))


def resnet(w, x, a):
    h = a(linear(w[0], x))
    h = a(h + linear(w[2], a(linear(w[1], h))))
    h = a(h + linear(w[4], a(linear(w[3], h))))
    return linear(w[6], a(linear(w[5], h)))


def both(w, x, a):
    h = a(window(w[0], x, True))
    h = a(h + a(window(w[1], h, True)))
    h = a(h + a(window(w[2], h, True)))
    return linear(w[4], a(window(w[3], h, True)).mean(1))


BY_HAND = {"dense": dense, "line": line, "plane": plane, "residual": residual, "gated after": gated_after,
           "resnet": resnet, "both": both}  # fmt: skip


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_a_self_gated_network_is_the_relu_network_in_values_and_gradients(name):
    net, spec = NETS[name], Spec(NETS[name], "dnn")
    params, x = drawn(spec), inputs(NETS[name])

    def relu_net(params, x):
        return BY_HAND[name](params["values"], x, jax.nn.relu)

    def both_ways(f):
        return jax.jit(jax.value_and_grad(lambda p, x: jnp.sum(jnp.sin(f(p, x))), (0, 1)))(params, x)

    found = gated.apply(params, x, spec)
    assert found.shape == (3, net.outputs)
    close(found, relu_net(params, x))
    close(both_ways(gated.as_function(spec)), both_ways(relu_net))
    # The same through gates that are given, and through features that are a copy of the values.
    close(gated.apply(params, x, spec, gates=gated.gates(params, x, spec)), found)
    copied = gated.frnpf_di(jax.random.key(3), Spec(net, "dgn"), bias_scale=0.3).params
    close(gated.apply(copied, x, Spec(net, "dgn")), relu_net(copied, x))


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_preactivations_of_a_dlgn_and_a_dgn_are_those_of_the_network_by_hand(name):
    net, x = NETS[name], inputs(NETS[name])
    passing = {"dlgn": lambda q: q, "dgn": jax.nn.relu}
    for kind, turn in passing.items():
        spec, found = Spec(net, kind, Soft()), []
        params = drawn(spec, 1)

        def noting(q, found=found, turn=turn):
            found.append(q)
            return turn(q)

        BY_HAND[name]((*params["features"], params["values"][-1]), x, noting)
        close(gated.preactivations(params, x, spec), found)
        close(gated.gates(params, x, spec), [1.1 / (1 + jnp.exp(-4 * q)) for q in found])
        opened = iter(gated.gates(params, x, spec))
        close(
            gated.apply(params, x, spec), BY_HAND[name](params["values"], x, lambda h, opened=opened: next(opened) * h)
        )
        assert [q.shape[1:] for q in found] == [*net.gate_shapes]


@needs_x64
@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("name", NETS)
def test_primal_weights_are_the_constant_jacobian_of_linear_preactivations(name, kind):
    net, spec = NETS[name], Spec(NETS[name], kind)
    params, (x, y) = drawn(spec, 2), inputs(NETS[name], 2)
    preactivations = jax.jit(lambda x: gated.preactivations(params, x[None], spec))
    found = gated.primal_weights(params, spec)
    for q, (weight, bias) in zip(preactivations(x), found, strict=True):
        close(weight @ x.ravel() + bias, q.ravel())
        assert weight.shape == (q.size, x.size)
        assert bool((bias != 0).any()) == net.biases
    for at in (x, y):
        for slope, (weight, _) in zip(jax.jacrev(preactivations)(at), found, strict=True):
            close(slope.reshape(weight.shape), weight)
    bare = dataclasses.replace(net, biases=False)
    params, spec = drawn(Spec(bare, kind), 2), Spec(bare, kind)
    at = lambda x: gated.preactivations(params, x[None], spec)  # noqa: E731
    close(at(2.5 * x - 0.7 * y), jax.tree.map(lambda a, b: 2.5 * a - 0.7 * b, at(x), at(y)))


@needs_x64
def test_kernels_do_not_merge_at_zero_padded_borders():
    kernel = jnp.ones((1, 1, 3))
    shape = {"weight": kernel}, {"weight": kernel}
    maps = {}
    for padding in ("circular", "zero"):
        spec = Spec(Convolutional((6, 1), (1, 1), 1, padding=padding))
        params = drawn(spec) | {"features": shape}
        maps[padding] = gated.primal_weights(params, spec)[1].weight
    # The product of two boxes of width 3 is 1 2 3 2 1, and at a border what came from outside is missing.
    assert maps["circular"][0].tolist() == [3, 2, 1, 0, 1, 2]
    assert maps["zero"][0].tolist() == [2, 2, 1, 0, 0, 0]
    assert maps["zero"][2].tolist() == maps["circular"][2].tolist() == [1, 2, 3, 2, 1, 0]


@needs_x64
@pytest.mark.parametrize("kind", ["dnn", "dgn", "dlgn"])
@pytest.mark.parametrize("gate", [Hard(), Soft()])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("gate_after", [False, True])
def test_a_residual_network_is_its_paths(kind, gate, depth, gate_after):
    net = Residual(2, 2, blocks=2, depth=depth, outputs=1, gate_after=gate_after)
    spec = Spec(net, kind, gate)
    params, x = drawn(spec, 4), inputs(net, 4)
    W = [np.asarray(layer["weight"]) for layer in params["values"]]
    G = [np.asarray(g) for g in gated.gates(params, x, spec)]
    paths = [({i: 1.0}, np.asarray(x)[:, i]) for i in range(2)]  # (where a path is and its value, its feature)

    def step(paths, w, g):
        """Every path goes on to every unit."""
        return [
            ({to: v * w[to, i]}, phi if g is None else phi * g[:, to])
            for at, phi in paths
            for i, v in at.items()
            for to in range(len(w))
        ]

    weights, gates = iter(W), iter(G)
    paths = step(paths, next(weights), next(gates))
    for _ in range(2):
        through = paths
        for _ in range(depth):
            through = step(through, next(weights), next(gates))
        paths = paths + through
        if gate_after:
            g = next(gates)
            paths = [(at, phi * g[:, next(iter(at))]) for at, phi in paths]
    paths = step(paths, next(weights), next(gates))
    paths = step(paths, next(weights), None)
    assert len(paths) == 2 * 2 * (1 + 2**depth) ** 2 * 2
    value = np.asarray([next(iter(at.values())) for at, _ in paths])
    feature = np.stack([phi for _, phi in paths], axis=1)
    close(gated.apply(params, x, spec)[:, 0], feature @ value)
    if gate_after:
        return
    # No gate after the sum: the kernel of the paths is a product of ones and blocks.
    blocks = [np.prod([g @ g.T for g in G[1 + b * depth : 1 + (b + 1) * depth]], axis=0) for b in range(2)]
    closed = (x @ x.T) * (G[0] @ G[0].T) * (1 + blocks[0]) * (1 + blocks[1]) * (G[-1] @ G[-1].T)
    close(feature @ feature.T, closed)


@needs_x64
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate", [Hard(), Soft()])
@pytest.mark.parametrize("value_input", ["x", "ones"])
def test_a_dense_network_is_its_paths(kind, gate, value_input):
    if (kind, value_input) == ("dnn", "ones"):
        pytest.skip("a dnn starts from x")
    net = FullyConnected(3, (2, 3), 2)
    spec = Spec(net, kind, gate, value_input)
    params, x = drawn(spec, 5), inputs(net, 4)
    W1, W2, W3 = (np.asarray(layer["weight"]) for layer in params["values"])
    G1, G2 = (np.asarray(g) for g in gated.gates(params, x, spec))
    start = np.asarray(x) if value_input == "x" else np.ones((4, 3))
    f = np.zeros((4, 2))
    for i, j, k, out in itertools.product(range(3), range(2), range(3), range(2)):
        f[:, out] += start[:, i] * G1[:, j] * G2[:, k] * W1[j, i] * W2[k, j] * W3[out, k]
    close(gated.apply(params, x, spec), f)


@needs_x64
@pytest.mark.parametrize("kind", ["dgn", "dlgn"])
@pytest.mark.parametrize("name", ["dense", "line", "both"])
def test_given_the_gates_outputs_are_linear_in_each_weight_and_in_the_input(name, kind):
    net = dataclasses.replace(NETS[name], biases=False)
    spec = Spec(net, kind, Soft())
    params, other, x = drawn(spec, 6), drawn(spec, 7), inputs(net)
    f = jax.jit(lambda values, start: gated.apply(params | {"values": values}, x, spec, value_input=start))
    one, two = params["values"], other["values"]
    for layer in range(len(one)):
        put = lambda w, layer=layer: (*one[:layer], {"weight": w}, *one[layer + 1 :])  # noqa: E731
        a, b = one[layer]["weight"], two[layer]["weight"]
        mixed = f(put(2.3 * a - 1.3 * b), x)  # affine, where a skip goes past the layer
        close(mixed, 2.3 * f(put(a), x) - 1.3 * f(put(b), x))
        if not net.branch_ends:
            close(f(put(3 * a), x), 3 * f(put(a), x))
    u, v = inputs(net, 3, 1), inputs(net, 3, 2)
    close(f(one, 0.3 * u - 2 * v), 0.3 * f(one, u) - 2 * f(one, v))
    close(f(one, jnp.ones_like(x)), gated.apply(params, x, dataclasses.replace(spec, value_input="ones")))
    close(f(one, x[0]), f(one, jnp.broadcast_to(x[:1], x.shape)), 0)


@needs_x64
@pytest.mark.parametrize(
    "net", [Convolutional((8, 2), (4, 4), 1, widths=(3,)), ConvolutionalResidual((4, 4, 2), 4, 2, 1, 1)]
)
def test_outputs_do_not_see_circular_shifts_but_with_zero_padding_they_do(net):
    x = inputs(net, 1)
    axes = tuple(range(1, x.ndim - 1))
    shifts = itertools.product(*(range(size) for size in net.shape[:-1]))
    turned = jnp.concatenate([jnp.roll(x, shift, axes) for shift in shifts])
    for kind in KINDS:
        spread = {}
        for padding in ("circular", "zero"):
            spec = Spec(dataclasses.replace(net, padding=padding), kind, Soft())
            f = gated.apply(drawn(spec, 8), turned, spec)
            spread[padding] = float((f.max() - f.min()) / jnp.abs(f).max())
        assert spread["circular"] < 1e-14
        assert spread["zero"] > 0.1


@needs_x64
def test_pools_leave_shifts_by_their_product():
    spec = Spec(Convolutional((12, 2), (4, 4), 1, pooling=(3, 1)), gate=Soft())
    params, x = drawn(spec, 1), inputs(spec.architecture, 1)
    f = gated.apply(params, jnp.concatenate([jnp.roll(x, shift, 1) for shift in range(12)]), spec)[:, 0]
    close(f[0::3], f[0].repeat(4), 1e-14)
    assert float(abs(f[1] - f[0]) / abs(f[0])) > 0.01


@needs_x64
def test_gate_layers_permuted():
    net = FullyConnected(6, (5, 5, 5), 2)
    plain, order = Spec(net, "dlgn", Soft()), (2, 0, 1)
    spec = dataclasses.replace(plain, order=order)
    params, x = drawn(plain, 3), inputs(net)
    G = gated.gates(params, x, plain)
    H = gated.gates(params, x, spec)
    for to, source in enumerate(order):
        close(H[to], G[source], 0)
        close(gated.primal_weights(params, spec)[to], gated.primal_weights(params, plain)[source], 0)
    W = [layer["weight"] for layer in params["values"]]
    h = x
    for weight, source in zip(W, order, strict=False):
        h = G[source] * (h @ weight.T)
    close(gated.apply(params, x, spec), h @ W[-1].T)
    assert float(jnp.abs(gated.apply(params, x, spec) - gated.apply(params, x, plain)).max()) > 0.01
    kernel = [np.prod([g @ g.T for g in gates], axis=0) for gates in (G, H)]
    close(*kernel, 1e-14)
    # Layers of one shape, wherever they are.
    swapped = Spec(Convolutional((8, 2), (3, 3, 4), 1, pooling=(1, 1, 2), widths=(5, 5)), order=(1, 0, 2, 4, 3))
    assert gated.apply(drawn(swapped), inputs(swapped.architecture), swapped).shape == (3, 1)


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_of_ones_a_hard_gated_network_makes_steps(name):
    spec = Spec(NETS[name], "dlgn", value_input="ones")
    params, x = drawn(spec, 4), inputs(NETS[name])
    f = jax.jit(lambda x: gated.apply(params, x, spec))
    assert not jax.grad(lambda x: jnp.sum(f(x)))(x).any()
    near, far = x + 1e-9, -x
    assert f(near).tolist() == f(x).tolist()
    assert float(jnp.abs(f(far) - f(x)).max()) > 0.01


@needs_x64
def test_soft_gates_become_hard_and_scale():
    net = NETS["dense"]
    spec = Spec(dataclasses.replace(net, biases=False))
    params, x = drawn(spec, 2), inputs(net)
    hard = gated.apply(params, x, spec)
    assert min(float(jnp.abs(q).min()) for q in gated.preactivations(params, x, spec)) > 1e-3
    with_gate = jax.jit(lambda gate: gated.apply(params, x, dataclasses.replace(spec, gate=gate)))
    # exp(-beta |q|) is less than exp(-1000) = 0 there.
    close(with_gate(Soft(1e6, 0.0)), hard, 1e-15)
    gaps = [float(jnp.abs(with_gate(Soft(beta, 0.0)) - hard).max()) for beta in (1.0, 10.0, 100.0, 1000.0)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-3 * gaps[0]
    close(with_gate(Soft(4.0, 0.3)), 1.3**3 * with_gate(Soft(4.0, 0.0)), 1e-14)
    # Straight through: the values of hard gates, bit by bit.
    assert with_gate(StraightThrough()).tolist() == hard.tolist()


@needs_x64
def test_straight_through_gates_have_the_derivative_of_soft_ones():
    net = NETS["dense"]
    spec, beta = Spec(net, "dlgn", StraightThrough(3.0)), 3.0
    params, other, x = drawn(spec, 2), drawn(spec, 3), inputs(net)
    features, change = params["features"], other["features"]
    with_features = lambda features: gated.apply(params | {"features": features}, x, spec)  # noqa: E731
    found = jax.jvp(with_features, (features,), (change,))[1]
    q, dq = jax.jvp(
        lambda features: gated.preactivations(params | {"features": features}, x, spec), (features,), (change,)
    )
    slope = [beta * jnp.exp(-beta * q) / (1 + jnp.exp(-beta * q)) ** 2 * d for q, d in zip(q, dq, strict=True)]
    G = [(q > 0).astype(float) for q in q]
    close(found, jax.jvp(lambda G: gated.apply(params, x, spec, gates=G), (G,), (slope,))[1])
    assert float(jnp.abs(found).max()) > 0.01
    hard = dataclasses.replace(spec, gate=Hard())
    learned = jax.grad(lambda p: jnp.sum(gated.apply(p, x, hard)))(params)["features"]
    assert not any(leaf.any() for leaf in jax.tree.leaves(learned))


@needs_x64
def test_hardening_gap_by_hand():
    net = FullyConnected(6, (8, 8), 3)
    x = inputs(net, 50)
    for gate in (Hard(), StraightThrough()):
        spec = Spec(net, gate=gate)
        assert gated.hardening_gap(drawn(spec), x, spec) == (0, 0, 0)
    steep = Spec(net, gate=Soft(1e9, 0.1))
    gap = gated.hardening_gap(drawn(steep), x, steep)
    close(gap.outputs, 1 - 1 / 1.21, 1e-10)  # twice 1.1: a factor, which changes no direction and no prediction
    assert float(gap.direction) < 1e-10
    assert float(gap.predictions) == 0
    spec = Spec(net, gate=Soft(1.0, 0.0))
    params = drawn(spec)
    soft, hard = gated.apply(params, x, spec), gated.apply(params, x, Spec(net))
    gap = gated.hardening_gap(params, x, spec)
    close(gap.outputs, np.linalg.norm(hard - soft) / np.linalg.norm(soft))
    cosine = np.vdot(hard, soft) / np.linalg.norm(hard) / np.linalg.norm(soft)
    close(gap.direction, np.sqrt(1 - cosine**2))
    changed = np.argmax(hard, 1) != np.argmax(soft, 1)
    assert 0 < changed.sum() == round(float(gap.predictions) * 50) < 50


@needs_x64
def test_features_and_values_are_independent_and_kinds_share_them():
    net, key = FullyConnected(40, (40, 40), 40), jax.random.key(0)
    of = {kind: init(key, Spec(net, kind)) for kind in KINDS}

    def likeness(a, b):
        a, b = (np.ravel(w["weight"]) for w in (a, b))
        return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)

    for params in of.values():
        layers = [layer for network in params.values() for layer in network]
        for a, b in itertools.combinations(layers, 2):
            assert likeness(a, b) < 5 / 40  # five standard deviations of 1600 random numbers
    # One key: a dgn's features are the dnn, its values are not, and they are the same for every kind.
    close(of["dgn"]["features"], of["dnn"]["values"][:-1], 0)
    close(of["dlgn"]["features"], jax.tree.map(lambda w: w / 2**0.5, of["dgn"]["features"]))
    assert likeness(of["dgn"]["values"][0], of["dnn"]["values"][0]) < 5 / 40
    for kind in LINEAR:
        close(of[kind]["values"], of["dgn"]["values"], 0)


@needs_x64
def test_a_gate_after_sums_of_what_relus_passed_shuts_nothing_out():
    net = Residual(6, 8, blocks=2, depth=1, outputs=3, gate_after=True)
    params, x = drawn(Spec(net, "dnn"), 3), inputs(net, 50)
    plain = dataclasses.replace(net, gate_after=False)
    close(gated.apply(params, x, Spec(net, "dnn")), gated.apply(params, x, Spec(plain, "dnn")), 0)
    after = gated.gates(drawn(Spec(net)), x, Spec(net))[2]  # of a dlgn it is a gate like any other
    assert 0.4 < float(after.mean()) < 0.6


@needs_x64
@pytest.mark.parametrize("distribution", ["normal", "bernoulli"])
def test_initial_weights_keep_the_mean_square(distribution):
    net = FullyConnected(10, (32, 32, 32), 4)
    x = jax.random.normal(jax.random.key(1), (1, 10))
    x = x / jnp.sqrt(jnp.mean(x**2))

    def squares(spec):
        keys = jax.random.split(jax.random.key(2), 1000)

        def one(key):
            params = init(key, spec, distribution=distribution)
            f = gated.apply(params, x, spec)
            return jnp.stack([jnp.mean(f**2), *(jnp.mean(q**2) for q in gated.preactivations(params, x, spec))])

        return jnp.mean(jax.jit(jax.vmap(one))(keys), axis=0)

    # Standard errors are 4% of f^2, less of q^2.
    for kind in LINEAR:
        np.testing.assert_allclose(squares(Spec(net, kind, value_input="ones")), 1, rtol=0.15)
    # What goes into a ReLU is twice what comes out.
    np.testing.assert_allclose(squares(Spec(net, "dnn")), [1, 2, 2, 2], rtol=0.15)
    sigma = gated.scales(Spec(net))["values"]
    close(sigma, (0.2**0.5, 0.25, 0.25, 1 / 32**0.5), 1e-15)


@pytest.mark.thorough
@needs_x64
def test_initial_weights_of_networks_with_skips_stay_in_size():
    keys, x = jax.random.split(jax.random.key(2), 600), jax.random.normal(jax.random.key(1), (1, 10))

    def square(kind, **gates):
        net = Residual(10, 16, blocks=4, depth=1, outputs=4, **gates)
        spec = Spec(net, kind, value_input="x" if kind == "dnn" else "ones")
        found = jax.jit(jax.vmap(lambda key: jnp.mean(gated.apply(init(key, spec), x, spec) ** 2)))(keys)
        return float(jnp.mean(found))

    both, resnet = {"gate_after": True}, {"gate_after": True, "gate_before": False}
    grown = (1 + 1 / 4) ** 4
    np.testing.assert_allclose(square("dlgn"), grown, rtol=0.2)
    np.testing.assert_allclose(square("dgn", **both), grown, rtol=0.2)  # its gates after are always open
    np.testing.assert_allclose(square("dlgn-sf", **resnet), 1, rtol=0.2)
    assert 0.5 < square("dlgn", **resnet) < 2
    assert 0.5 < square("dnn", **both) < 3


@needs_x64
def test_scales_and_distributions_as_asked():
    spec = Spec(FullyConnected(50, (40, 40), 3, biases=True))
    params = init(jax.random.key(0), spec, scale=(0.1, 0.2, 0.3), distribution="bernoulli", bias_scale=0.5)
    for sigma, layer in zip((0.1, 0.2, 0.3), params["values"], strict=True):
        assert np.unique(np.abs(layer["weight"])).tolist() == [sigma]
        assert np.unique(np.abs(layer["bias"])).tolist() == [0.5]
    close(np.unique(np.abs(params["features"][0]["weight"])), [50**-0.5])
    one = init(jax.random.key(0), spec, scale=0.7)
    assert abs(float(jnp.std(one["values"][0]["weight"])) - 0.7) < 0.05
    close(init(jax.random.key(0), spec, scale=jnp.full(3, 0.7)), one, 0)


NET = FullyConnected(6, (8, 8), 3)


@needs_x64
@pytest.mark.parametrize("kind", ["dgn", "dlgn"])
def test_a_step_of_training_moves_what_is_trained_and_no_bit_of_what_is_not(kind):
    spec, key, x = Spec(NET, kind, Soft()), jax.random.key(1), inputs(NET, 20)
    trained = drawn(Spec(NET, "dnn") if kind == "dgn" else spec, 5)
    regimes = {
        "II": gated.frnpf_ii(key, spec),
        "DI": gated.frnpf_di(key, spec),
        "FL": gated.flnpf(key, spec, trained),
        "DL": gated.dlnpf(key, spec),
    }

    def train(regime, optimiser):
        def step(carry, _):
            params, state = carry
            slope = jax.grad(lambda p: jnp.mean((gated.apply(p, x, spec) - 1) ** 2))(params)
            update, state = optimiser.update(slope, state, params)
            return (optax.apply_updates(params, update), state), None

        start = (regime.params, optimiser.init(regime.params))
        return jax.jit(lambda start: jax.lax.scan(step, start, None, length=3))(start)[0][0]

    for name, regime in regimes.items():
        rule = optax.adamw(1e-2)
        after = train(regime, optax.transforms.selective_transform(rule, freeze_mask=regime.frozen))
        for network, is_trained in regime.trainable.items():
            same = jax.tree.map(lambda a, b: bool((a == b).all()), after[network], regime.params[network])
            assert set(jax.tree.leaves(same)) == {not is_trained}
        assert regime.trainable["features"] == (name == "DL")
    # What the docstring warns of.
    leaking = train(regimes["II"], optax.masked(optax.adamw(1e-2), regimes["II"].trainable))
    assert (leaking["features"][0]["weight"] != regimes["II"].params["features"][0]["weight"]).any()


@needs_x64
def test_where_the_regimes_get_their_gates():
    spec, key = Spec(NET, "dgn"), jax.random.key(1)
    began = init(key, Spec(NET, "dnn"))
    trained = jax.tree.map(lambda w: w + 0.1, began)
    learned = gated.flnpf(key, spec, trained).params
    close(learned["features"], trained["values"][:-1], 0)
    # The key is that of the network that was trained, and values are fresh all the same.
    close(learned["values"], gated.frnpf_ii(key, spec).params["values"], 0)
    close(gated.frnpf_ii(key, spec).params["features"], began["values"][:-1], 0)
    assert not (learned["values"][0]["weight"] == began["values"][0]["weight"]).any()
    copied = gated.frnpf_di(key, spec).params
    close(copied["features"], copied["values"][:-1], 0)
    stage = init(jax.random.key(4), Spec(NET, "dlgn-sf"))
    close(gated.flnpf(key, Spec(NET, "dlgn-sf"), stage).params["features"], stage["features"], 0)


@needs_x64
def test_five_seeds_side_by_side():
    spec, x, keys = Spec(NET, "dlgn", Soft()), inputs(NET), jax.random.split(jax.random.key(0), 5)
    regimes = jax.jit(jax.vmap(lambda key: gated.dlnpf(key, spec)))(keys)
    assert regimes.trainable == {"features": True, "values": True}
    found = jax.jit(jax.vmap(gated.apply, (0, None, None)))(regimes.params, x, spec)
    gates = jax.vmap(gated.gates, (0, None, None))(regimes.params, x, spec)
    for i, key in enumerate(keys):
        params = init(key, spec)
        close(found[i], gated.apply(params, x, spec))
        close([g[i] for g in gates], gated.gates(params, x, spec))
    slopes = jax.vmap(jax.grad(lambda p: jnp.sum(gated.apply(p, x, spec))))(regimes.params)
    assert slopes["features"][0]["weight"].shape == (5, 8, 6)


@needs_x64
def test_another_steepness_is_not_another_program():
    params, x, traces = drawn(Spec(NET)), inputs(NET), []

    def f(params, x, spec):
        traces.append(spec)
        return gated.apply(params, x, spec)

    run = jax.jit(f)
    found = [run(params, x, Spec(NET, gate=Soft(beta))) for beta in (1.0, 2.0, 3.0)]
    assert len(traces) == 1
    betas = jnp.asarray([1.0, 2.0, 3.0])
    close(jax.vmap(lambda beta: gated.apply(params, x, Spec(NET, gate=Soft(beta))))(betas), jnp.stack(found))
    # As a static value too, and as a function: equal ones are compiled once.
    static = jax.jit(f, static_argnames="spec")
    close([static(params, x, spec=Spec(NET, gate=Soft(2.0))) for _ in range(2)], [found[1]] * 2)
    assert len(traces) == 2
    assert gated.as_function(Spec(NET)) == gated.as_function(Spec(NET))


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_other_verbs_read_hard_gated_networks(name):
    x = inputs(NETS[name])
    for kind in KINDS:
        spec = Spec(NETS[name], kind)
        params, f = drawn(spec, 6), gated.as_function(spec)
        on = switched.gates(f, params, x)
        close([piece > 0 for piece in on.values()], [g > 0 for g in gated.gates(params, x, spec)], 0)
        where = "values" if kind == "dnn" else "features"
        assert all(layer.startswith(f"['{where}']") for layer in on)
        w, b = switched.project(f, params, x, 1)
        slope = jax.grad(lambda x, f=f, params=params: jnp.sum(f(params, x)[:, 1]))(x)
        close(w, slope)
        close(jnp.sum(w * x, axis=tuple(range(1, x.ndim))) + b, f(params, x)[:, 1])


@needs_x64
def test_of_a_dlgn_every_piece_is_known():
    spec = Spec(FullyConnected(6, (5, 4), 2, biases=True))
    params, x = drawn(spec, 6), inputs(spec.architecture)
    f = gated.as_function(spec)
    for layer, primal in zip(switched.gates(f, params, x), gated.primal_weights(params, spec), strict=True):
        w, b = switched.project(f, params, x, (layer, 3))
        close(w, jnp.broadcast_to(primal.weight[3][None], w.shape))
        close(b, primal.bias[3].repeat(3))
    _, taps = wiretap(f)(params, x)
    close(taps["['features'][1]['weight']"].preactivation.T, gated.preactivations(params, x, spec)[1])
    assert [*taps] == [f"['features'][{i}]['weight']" for i in (0, 1)] + [
        f"['values'][{i}]['weight']" for i in (0, 1, 2)
    ]
    # Without biases relevance by rule z is x times the gradient.
    spec = Spec(FullyConnected(6, (5, 4), 2))
    params = drawn(spec, 6)
    slope = jax.grad(lambda x: jnp.sum(gated.apply(params, x, spec)[:, 0]))(x)
    close(attribution.lrp(gated.as_function(spec), params, x, 0, rule="z"), x * slope)


@pytest.mark.both_precisions
@pytest.mark.parametrize("kind", KINDS)
def test_results_keep_their_type(kind):
    for gate in (Hard(), Soft(), StraightThrough()):
        spec = Spec(FullyConnected(6, (4, 4), 2, biases=True), kind, gate, feature_gate=Soft())
        params, x = init(jax.random.key(0), spec, dtype="float32"), inputs(NET, dtype="float32")
        results = [gated.apply(params, x, spec), gated.gates(params, x, spec), gated.hardening_gap(params, x, spec)]
        results += [gated.apply(params, x, spec, gates=gated.gates(params, x, spec))]
        results += [gated.primal_weights(params, spec)] if kind in LINEAR else []
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(results)} == {"float32"}


X = np.ones((2, 6))
WRONG = [
    (lambda: FullyConnected(6, (), 1), ValueError, "at least one size"),
    (lambda: FullyConnected(6, (0,), 1), ValueError, "widths"),
    (lambda: FullyConnected(6.0, (2,), 1), TypeError, "inputs"),
    (lambda: Convolutional((8, 8, 8, 2), (2,), 1), ValueError, "one or two axes of space"),
    (lambda: Convolutional((8, 2), (2, 2), 1, pooling=(2,)), ValueError, "1 factors for 2 convolutions"),
    (lambda: Convolutional((8, 2), (2,), 1, pooling=(3,)), ValueError, "must divide"),
    (lambda: Convolutional((8, 2), (2,), 1, padding="same"), ValueError, "'circular', 'zero'"),
    (lambda: ConvolutionalResidual((8, 2), 2, 1, 1, 1, head="max"), ValueError, "'average', 'flatten'"),
    (lambda: Residual(6, 4, 0, 1, 1), ValueError, "blocks"),
    (lambda: Residual(6, 4, 1, 1, 1, gate_before=False), ValueError, "gate_after=True"),
    (lambda: Soft(beta=0.0), ValueError, "beta"),
    (lambda: Soft(epsilon=-1.0), ValueError, "1 \\+ epsilon"),
    (lambda: Spec(NET, "resnet"), ValueError, "'dlgn-sf'"),
    (lambda: Spec(NET, gate=Soft), TypeError, "such as Soft\\(\\)"),
    (lambda: Spec(NET, "dnn", value_input="ones"), ValueError, "never see x"),
    (lambda: Spec(NET, "dnn", order=(1, 0)), ValueError, "no separate gates"),
    (lambda: Spec(NET, order=(0, 0)), ValueError, "permutation of 0 to 1"),
    (lambda: Spec(FullyConnected(6, (4, 5), 1), order=(1, 0)), ValueError, "layers of the same shape"),
    (lambda: Spec(Convolutional((8, 2), (3, 3), 1, pooling=(2, 1)), order=(1, 0)), ValueError, r"shape \(8, 3\)"),
    (lambda: init(jax.random.key(0), Spec(NET), distribution="uniform"), ValueError, "'bernoulli'"),
    (lambda: init(jax.random.key(0), Spec(NET), scale=(1.0,)), ValueError, "got 1 numbers; .* 3: one for each layer"),
    (lambda: gated.apply(drawn(Spec(NET)), X[:, :5], Spec(NET)), ValueError, r"shape \(2, 5\); the architecture"),
    (lambda: gated.apply(drawn(Spec(NET)), X[0], Spec(NET)), ValueError, r"\(batch, inputs\)"),
    (lambda: gated.apply(drawn(Spec(NET)), X.astype(int), Spec(NET)), TypeError, "astype"),
    (lambda: gated.apply(drawn(Spec(NET, "dnn")), X, Spec(NET)), ValueError, "must have 'features'"),
    (lambda: gated.apply(drawn(Spec(NET)), X, Spec(FullyConnected(6, (8, 7), 3))), ValueError, "got weights of shapes"),
    (lambda: gated.apply(drawn(Spec(NET)), X, Spec(dataclasses.replace(NET, biases=True))), ValueError, "no bias"),
    (lambda: gated.apply(drawn(Spec(NET)), X, Spec(NET), value_input=X[:, :3]), ValueError, r"must be \(2, 6\)"),
    (lambda: gated.apply(drawn(Spec(NET, "dnn")), X, Spec(NET, "dnn"), value_input=X), ValueError, "from its values"),
    (lambda: gated.apply(drawn(Spec(NET)), X, Spec(NET), gates=[jnp.ones((2, 8))]), ValueError, "each gated layer"),
    (lambda: gated.primal_weights(drawn(Spec(NET, "dgn")), Spec(NET, "dgn")), ValueError, "are linear in x"),
    (lambda: gated.frnpf_ii(jax.random.key(0), Spec(NET, "dnn")), ValueError, "has no features"),
    (lambda: gated.frnpf_di(jax.random.key(0), Spec(NET, "dlgn-sf")), ValueError, "copy"),
    (lambda: gated.dlnpf(jax.random.key(0), Spec(NET)), ValueError, "no gradient"),
    (lambda: gated.flnpf(jax.random.key(0), Spec(NET), drawn(Spec(NET, "dnn"))), ValueError, "kind='dgn'"),
]  # fmt: skip


@pytest.mark.every_case
@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("case", range(len(WRONG)))
def test_what_is_wrong_is_said(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()
