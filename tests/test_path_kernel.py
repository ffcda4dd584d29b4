"""Neural path kernels: closed forms against all paths, tangent kernels against all sign patterns of the weights."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdescramble.gated import path_kernel as pk
from jaxdescramble.gated.path_kernel import Convolution, Dense, Flatten, Gate, Pool, Skip

needs_x64 = pytest.mark.skipif(not jax.config.jax_enable_x64, reason="asserts float64 figures")  # pyright: ignore
D, G = Dense(), Gate()


def linear(w, b, h):
    return h @ w.T + b.reshape((1,) * (h.ndim - 1) + (-1,))


def conv(w, b, h, circular):
    """`y_i = sum_t W_t h_(i + t)`; b is zero where there are no biases."""
    space = h.shape[1:-1]
    around = [((k - 1) // 2, k // 2) for k in w.shape[2:]]
    h = jnp.pad(h, [(0, 0), *around, (0, 0)], mode="wrap" if circular else "constant")
    y = 0
    for taps in itertools.product(*map(range, w.shape[2:])):
        y += h[(slice(None), *(slice(t, t + n) for t, n in zip(taps, space, strict=True)))] @ w[(..., *taps)].T
    return y + b.reshape((1,) * (h.ndim - 1) + (-1,))


def plain(w, b, x, g):
    h = x
    for i in range(2):
        h = g[i] * linear(w[i], b[i], h)
    return linear(w[2], b[2], h)


def around_a_circle(w, b, x, g, circular=True):
    h = g[1] * conv(w[1], b[1], g[0] * conv(w[0], b[0], x, circular), circular)
    return linear(w[2], b[2], h.mean(axis=1))


def with_pools(w, b, x, g):
    h = g[0] * conv(w[0], b[0], x, True)
    h = g[1] * conv(w[1], b[1], (h[:, ::2] + h[:, 1::2]) / 2, True)
    return linear(w[3], b[3], g[2] * linear(w[2], b[2], h.mean(axis=1)))


def picture(w, b, x, g):
    h = g[1] * conv(w[1], b[1], g[0] * conv(w[0], b[0], x, False), False)
    return linear(w[3], b[3], g[2] * linear(w[2], b[2], h.reshape(len(h), -1)))


def skipped(w, b, x, g, after):
    g, w, b = iter(g), iter(w), iter(b)

    def gated(h):
        return next(g) * linear(next(w), next(b), h)

    h = gated(x)
    for _ in range(2):
        h = h + gated(gated(h))
        h = next(g) * h if after else h
    h = gated(h)
    return linear(next(w), next(b), h)


def residual_convolutions(w, b, x, g):
    h = g[0] * conv(w[0], b[0], x, True)
    for i in (1, 2):
        h = g[2 * i] * (h + g[2 * i - 1] * conv(w[i], b[i], h, True))
    h = g[5] * conv(w[3], b[3], h, True)
    return linear(w[4], b[4], h.mean(axis=1))


def resnet(w, b, x, g):
    """Branches without a gate at their end, one shortcut with weights."""
    h = g[0] * linear(w[0], b[0], x)
    h = g[2] * (h + linear(w[2], b[2], g[1] * linear(w[1], b[1], h)))
    h = g[4] * (linear(w[5], b[5], h) + linear(w[4], b[4], g[3] * linear(w[3], b[3], h)))
    return linear(w[6], b[6], h)


# By name: the network, its layers, the kernel's front door, and shapes of x, gates and weights.
CIRCLE = [(4, 2), [(4, 2), (4, 2)], [(2, 2, 2), (2, 2, 3), (1, 2)]]
BLOCKS = [(2,), [(2,)] * 6, [(2, 2)] * 6 + [(1, 2)]]
TAIL = Skip((D, G, Dense(3)))
NETS = {
    "dense": (plain, (D, G) * 2 + (D,), pk.dense, (3,), [(4,), (3,)], [(4, 3), (3, 4), (1, 3)]),
    "circular": (
        around_a_circle,
        (Convolution((2,)), G, Convolution((3,)), G, Pool(), D),
        None,
        *CIRCLE,
    ),
    "zero": (
        functools.partial(around_a_circle, circular=False),
        (Convolution((2,), "zero"), G, Convolution((3,), "zero"), G, Pool(), D),
        None,
        *CIRCLE,
    ),
    "pools": (
        with_pools,
        (Convolution((3,)), G, Pool((2,)), Convolution((3,)), G, Pool(), D, G, D),
        functools.partial(pk.convolutional, pooling=(2, 1)),
        (4, 2),
        [(4, 2), (2, 2), (3,)],
        [(2, 2, 3), (2, 2, 3), (3, 2), (1, 3)],
    ),
    "picture": (
        picture,
        (Convolution((3, 2), "zero"), G) * 2 + (Flatten(), D, G, D),
        functools.partial(pk.convolutional, window=(3, 2), padding="zero", head="flatten"),
        (3, 2, 1),
        [(3, 2, 2), (3, 2, 1), (2,)],
        [(2, 1, 3, 2), (1, 2, 3, 2), (2, 6), (1, 2)],
    ),
    "skip": (
        functools.partial(skipped, after=False),
        (D, G, *(Skip((D, G, D, G)),) * 2, D, G, D),
        functools.partial(pk.residual, depth=2),
        *BLOCKS,
    ),
    "gate after skip": (
        functools.partial(skipped, after=True),
        (D, G, *(Skip((D, G, D, G)), G) * 2, D, G, D),
        functools.partial(pk.residual, depth=2, gate_after=True),
        (2,),
        [(2,)] * 8,
        BLOCKS[2],
    ),
    "residual convolutions": (
        residual_convolutions,
        (Convolution((2,)), G, *(Skip((Convolution((2,)), G)), G) * 2, Convolution((2,)), G, Pool(), D),
        functools.partial(pk.residual, window=2, gate_after=True),
        (3, 1),
        [(3, 2)] * 6,
        [(2, 1, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1)],
    ),
    "resnet": (
        resnet,
        (D, G, TAIL, G, Skip(TAIL.branch, (Dense(3),)), G, D),
        None,
        (2,),
        [(3,)] * 5,
        [(3, 2)] + [(3, 3)] * 5 + [(1, 3)],
    ),
}
NETS["residual convolutions"][4][5] = (3, 1)


def drawn(name, seed=0, hard=False, batches=(2, 3)):
    rng = np.random.default_rng(seed)
    _, _, _, shape, gates, weights = NETS[name]
    sides = []
    for n in batches:
        values = [rng.random((n, *s)) for s in gates]
        sides.append((rng.normal(size=(n, *shape)), [(g > 0.3).astype(float) for g in values] if hard else values))
    return (*sides, [rng.normal(size=s) for s in weights], [rng.normal(size=s[0]) for s in weights])


def close(found, truth, tolerance=1e-12):
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance * float(np.abs(truth).max()))


@needs_x64
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_closed_forms_are_those_of_all_paths(name, biases):
    net, layers, front, *_ = NETS[name]
    (x1, g1), (x2, g2), w, b = drawn(name, hard=biases)
    one, two = (pk.enumerate_paths(layers, x, g, w, b if biases else None) for x, g in ((x1, g1), (x2, g2)))
    assert one.weights == two.weights
    close(one.features @ one.values, net(w, b if biases else [0 * v for v in b], x1, g1)[:, 0])
    gram = one.features @ two.features.T
    assert np.abs(gram).max() > 1e-3
    offsets = 1.0 if biases else None
    close(pk.network(layers, x1, x2, g1, g2, "none", bias_variances=offsets), gram)
    if front is not None:
        close(front(x1, x2, g1, g2, normalise="none", bias_variances=offsets), gram)
    # E[f f'] is the sum over paths, each with the variances of its weights; the tangent kernel leaves one weight out.
    rng = np.random.default_rng(5)
    sigma, beta = rng.random(len(w)) + 0.5, rng.random(len(w)) + 0.5
    squares = [[(sigma if kind == "weight" else beta)[layer] for kind, layer, _ in path] for path in one.weights]
    whole = np.array([np.prod(s) for s in squares])
    less = np.array([sum(np.prod(s[:i] + s[i + 1 :]) for i in range(len(s))) for s in squares])
    kernel = functools.partial(pk.network, layers)
    beta = beta if biases else None
    close(kernel(x1, x2, g1, g2, "none", sigma, beta), (one.features * whole) @ two.features.T)
    close(pk.expected_ntk(kernel, x1, x2, g1, g2, sigma, beta), (one.features * less) @ two.features.T)


def two_blocks(w, b, x, g, after):
    g = iter(g)
    h = next(g) * linear(w[0], b[0], x)
    for i in (1, 2):
        h = h + next(g) * linear(w[i], b[i], h)
        h = next(g) * h if after else h
    return linear(w[3], b[3], h)


# Nets of at most 14 weights and biases: the network, its layers, shapes of x, gates and weights, whether it has biases.
BOTTLENECK = [(3, 1), [(3, 2), (3, 1)], [(2, 1, 2), (1, 2, 3), (1, 1)], False]
SMALL = {
    "dense": (*NETS["dense"][:2], (2,), [(2,), (2,)], [(2, 2), (2, 2), (2, 2)], False),
    "biases": (*NETS["dense"][:2], (1,), [(2,), (2,)], [(2, 1), (2, 2), (1, 2)], True),
    "circular": (*NETS["circular"][:2], *BOTTLENECK),
    "zero": (*NETS["zero"][:2], *BOTTLENECK),
}
for after in (False, True):
    block = (Skip((D, G)), G) if after else (Skip((D, G)),)
    SMALL["gate after skip" if after else "skip"] = (
        functools.partial(two_blocks, after=after),
        (D, G, *block * 2, D),
        *((1,), [(2,)] * (3 + 2 * after), [(2, 1), (2, 2), (2, 2), (1, 2)], False),
    )


@needs_x64
@pytest.mark.parametrize("case", SMALL)
def test_expectations_over_all_sign_patterns(case):
    net, layers, shape, gates, weights, biases = SMALL[case]
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(2, *shape)), [rng.random((2, *s)) for s in gates]
    sigma = rng.random(len(weights)) + 0.5
    sizes = [int(np.prod(s)) for s in weights] + [s[0] if biases else 0 for s in weights]
    assert sum(sizes) <= 14
    scales = np.repeat(np.concatenate([sigma, sigma]), sizes) ** 0.5
    patterns = jnp.asarray(list(itertools.product((-1.0, 1.0), repeat=sum(sizes))))

    def unpacked(flat):
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        w = [part.reshape(s) for part, s in zip(parts, weights, strict=False)]
        zeros = [jnp.zeros(s[0]) for s in weights]
        return w, parts[len(w) :] if biases else zeros

    @jax.jit
    @jax.vmap
    def one(signs):
        def f(flat):
            return net(*unpacked(flat), x, g)

        y, J = f(signs * scales), jax.jacrev(f)(signs * scales)
        return jnp.einsum("ao,bp->abop", y, y), jnp.einsum("aok,bpk->abop", J, J)

    second, tangent = (jnp.mean(values, axis=0) for values in one(patterns))
    eye = jnp.eye(second.shape[-1])[None, None]  # outputs share no weights of the last layer
    kernel, beta = functools.partial(pk.network, layers), sigma if biases else None
    close(second, kernel(x, x, g, g, "none", sigma, beta)[:, :, None, None] * eye)
    close(tangent, pk.expected_ntk(kernel, x, x, g, g, sigma, beta)[:, :, None, None] * eye)


@needs_x64
def test_one_sigma_for_all_dense_layers():
    (x, g), _, w, _ = drawn("dense")
    found = pk.expected_ntk(pk.dense, x, x, g, g, 0.7)
    close(found, len(w) * 0.7 ** (len(w) - 1) * pk.dense(x, x, g, g, "none"))


@needs_x64
@pytest.mark.parametrize("name", NETS)
def test_kernels_are_symmetric_and_positive_semi_definite(name):
    (x, g), *_ = drawn(name, batches=(12, 1))
    kernel = functools.partial(pk.network, NETS[name][1])
    for K in (kernel(x, x, g, g), kernel(x, x, g, g, "cosine"), pk.expected_ntk(kernel, x, x, g, g, 0.5, 0.1)):
        close(K, K.T, 1e-14)
        values = np.linalg.eigvalsh(K)
        assert values[0] > -1e-14 * values[-1]
    np.testing.assert_allclose(jnp.diagonal(kernel(x, x, g, g, "cosine")), 1, rtol=1e-14)


@needs_x64
@pytest.mark.parametrize("name", ["dense", "pools", "gate after skip", "residual convolutions"])
def test_logarithms_are_those_of_the_kernel(name):
    (x, g), (y, h), w, _ = drawn(name)
    kernel = functools.partial(pk.network, NETS[name][1], np.abs(x), np.abs(y), g, h)
    close(np.exp(kernel("log")), kernel("none"))
    options = {"variances": 1e-3 * jnp.arange(1.0, len(w) + 1), "bias_variances": 0.2}
    close(np.exp(kernel("log", **options)), kernel("none", **options))
    options["bias_variances"] = 0.0
    close(np.exp(kernel("log", **options)), kernel("none", **options))
