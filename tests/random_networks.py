"""Random networks of many kinds of steps: for tests of what must hold of every network."""

import jax
import jax.numpy as jnp
import numpy as np

SHAPE = (2, 3, 4)
"""Samples, positions, features of the input."""
ACTIVATIONS = (
    {
        name: getattr(jax.nn, name)
        for name in "relu gelu silu leaky_relu elu softplus sigmoid hard_tanh relu6".split()  # noqa: SIM905
    }
    | {
        "tanh": jnp.tanh,
        "abs": jnp.abs,
        "square": jnp.square,
        "cube": lambda v: v**3,
        "sin": jnp.sin,
        "times its cosine": lambda v: jnp.cos(v) * v,
        "bell": lambda v: jnp.exp(-v * v),
        "root": lambda v: jnp.sqrt(jnp.abs(v)) * jnp.sign(v),
        "ratio": lambda v: v / (1 + jnp.abs(v)),
        "kink": lambda v: jnp.where(v > 0, v, 0.3 * v),
        "two kinks": lambda v: jnp.maximum(v, 0) + 0.1 * jnp.minimum(v, 0),
        "shift": lambda v: v + 0.5,
        "softmax": lambda v: jax.nn.softmax(v, -1),
        "largest": lambda v: v * (v >= jnp.sort(v, -1)[..., -2:-1]),
        "below the largest": lambda v: v - jnp.max(v, -1, keepdims=True),
        "with its mean": lambda v: v + v.mean(-1, keepdims=True),
        "by its norm": lambda v: v * jnp.sum(v**2, -1, keepdims=True),
        "rounded": lambda v: v.astype(int).astype(v.dtype) + v,
        "running product": lambda v: jnp.cumprod(v, axis=1) + jax.lax.cummax(v, axis=1) + jnp.cumsum(v, axis=1),
        "sorted positions": lambda v: jnp.sort(v, axis=1),
        "stacked": lambda v: jnp.stack([v, 2 * v], -1).sum(-1),
        "every second": lambda v: v[..., ::2],
        "over positions": lambda v: (
            v + jnp.roll(v, 1, axis=1) + v.mean(1, keepdims=True) + jnp.max(v, 1, keepdims=True)
        ),
        "layer norm": jax.nn.standardize,
        "layer norm by var": lambda v: (v - v.mean(-1, keepdims=True)) / jnp.sqrt(v.var(-1, keepdims=True) + 0.1),
        "rms norm": lambda v: v * jax.lax.rsqrt(jnp.mean(v * v, -1, keepdims=True) + 0.1),
        "norm": lambda v: v / (1 + jnp.linalg.norm(v, axis=-1, keepdims=True)),
    }
)


def heads(v, count):
    parts = v.reshape(*v.shape[:-1], count, -1)
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", parts, parts), -1)
    return jnp.einsum("bhts,bshd->bthd", weights, parts).reshape(v.shape)


def group_norm(v, count):
    return jax.nn.standardize(v.reshape(*v.shape[:-1], count, -1)).reshape(v.shape)


WEIGHTED = {
    "dense": (lambda n, m: [(n, m)], lambda v, w: v @ w),
    "gain": (lambda n, m: [(n,)], lambda v, g: v * g),
    "bias": (lambda n, m: [(n,)], lambda v, b: v + b),
    "statistics": (lambda n, m: [(n,), (n,)], lambda v, a, b: (v - a) / jnp.sqrt(1 + b**2)),
    "bilinear": (lambda n, m: [(n, n)], lambda v, w: v * jnp.einsum("btn,nm,btm->bt", v, w, v)[..., None]),
    "to heads": (
        lambda n, m: [(n, 2, m // 2)],
        lambda v, w: jnp.einsum("btn,nhd->bthd", v, w).reshape(*v.shape[:-1], -1),
    ),
    "convolution": (
        lambda n, m: [(2, n, m)],
        lambda v, w: jax.lax.conv_general_dilated(v, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")),
    ),
    "prelu": (lambda n, m: [(n,)], lambda v, a: jnp.where(v > 0, v, a * v)),
    "loop": (lambda n, m: [(2, n, n)], lambda v, w: jax.lax.scan(lambda h, u: (jnp.tanh(h @ u) + h, None), v, w)[0]),
}
PAIRED = {"add": jnp.add, "subtract": jnp.subtract, "multiply": jnp.multiply}


def random_network(seed):
    """A function, its parameters and a batch, with the names of its steps."""
    rng = np.random.default_rng(seed)
    params, steps, sizes, names = {}, [], [SHAPE[-1]], []

    def new(*shape):
        name = f"p{len(params):02}"
        params[name] = jnp.asarray(rng.normal(size=shape) / (shape[-2] if len(shape) > 1 else 1) ** 0.5)
        return name

    for _ in range(rng.integers(3, 9)):
        at = len(sizes) - 1 if rng.random() < 0.7 else int(rng.integers(len(sizes)))
        n, m, kind = sizes[at], int(rng.choice([4, 6, 8])), rng.random()
        if kind < 0.4:
            name = "dense" if kind < 0.2 else str(rng.choice(list(WEIGHTED)))
            shapes, apply = WEIGHTED[name]
            leaves = [new(*shape) for shape in shapes(n, m)]
            steps.append(
                lambda p, values, at=at, apply=apply, leaves=leaves: apply(values[at], *(p[k] for k in leaves))
            )
        elif kind < 0.75:
            name = str(rng.choice(list(ACTIVATIONS)))
            steps.append(lambda p, values, at=at, apply=ACTIVATIONS[name]: apply(values[at]))
        elif kind < 0.85:
            name = str(rng.choice(list(PAIRED)))
            other = int(rng.choice([i for i, size in enumerate(sizes) if size == n]))
            steps.append(lambda p, values, at=at, o=other, apply=PAIRED[name]: apply(values[at], values[o]))
        elif kind < 0.9:
            name, other = "join", int(rng.integers(len(sizes)))
            steps.append(lambda p, values, at=at, o=other: jnp.concatenate([values[at], values[o]], -1))
        elif kind < 0.93 and n > 3:
            name, start = "part", int(rng.integers(n - 2))
            steps.append(lambda p, values, at=at, start=start: values[at][..., start : start + 3])
        else:
            count = int(rng.choice([k for k in (1, 2, 3, 4) if n % k == 0]))
            name, apply = (f"{count} heads", heads) if kind < 0.97 else (f"norm of {count} groups", group_norm)
            steps.append(lambda p, values, at=at, apply=apply, count=count: apply(values[at], count))
        names.append(name)
        sizes.append(jax.eval_shape(lambda p, x: run(p, x, steps)[-1], params, jnp.zeros(SHAPE)).shape[-1])
    last = new(sizes[-1], 9)

    def f(p, x):
        return run(p, x, steps)[-1] @ p[last]

    return f, params, jnp.asarray(rng.normal(size=SHAPE)), names


def run(params, x, steps):
    values = [x]
    for step in steps:
        values.append(step(params, values))
    return values
