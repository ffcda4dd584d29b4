"""What others wrote down by hand for some architectures, as tables, and networks of these architectures.

- Git Re-Basin (Ainsworth, Hayase, Srinivasa 2023, `weight_matching.py`): the axes that one permutation ties.
- QuaRot (Ashkboos et al. 2024) and SpinQuant (Liu et al. 2024, both `rotation_utils.py`): what two rotations of a Llama
  touch.

A table has a row for each layer: name of the product, name of its norm, the group that it reads, the group that it
writes; "" is an axis that nothing moves. The networks know nothing of the tables: they are plain functions, as deep as
the originals and a few channels wide.
"""

import jax
import jax.numpy as jnp
import numpy as np
from architectures import draw, rms_norm

# Tables


def mlp_rows(hidden):
    groups = ["", *(f"P{i}" for i in range(hidden)), ""]
    return [(f"Dense_{i}", "", groups[i], groups[i + 1]) for i in range(hidden + 1)]


def vgg16_rows():
    rows = [(f"Conv_{i}", f"Norm_{i}", f"C{i - 1}" if i else "", f"C{i}") for i in range(13)]
    return [*rows, ("Dense_0", "", "C12", "D0"), ("Dense_1", "", "D0", "D1"), ("Dense_2", "", "D1", "")]


def resnet_rows(stem, groups, inner, first_is_wider):
    """All blocks of a group write into one stream; the first block of a group may read another one.

    Args:
        stem: product and norm before the first block.
        groups: number of blocks of each group.
        inner: product and norm of each layer of a block, and of its shortcut.
        first_is_wider: whether the first group has more channels than the stem.
    """
    *layers, shortcut = inner
    before, rows = "stem", [(*stem, "", "stem")]
    for group, count in enumerate(groups):
        out = f"G{group}" if group or first_is_wider else "stem"
        for block in range(count):
            name = f"blockgroups_{group}/blocks_{block}"
            chain = [before, *(f"{name}#{i}" for i in range(len(layers) - 1)), out]
            rows += [(f"{name}/{a}", f"{name}/{b}", chain[i], chain[i + 1]) for i, (a, b) in enumerate(layers)]
            if before != out:
                rows.append((f"{name}/{shortcut[0]}", f"{name}/{shortcut[1]}", before, out))
            before = out
    return [*rows, ("dense", "", before, "")]


RESNET20_BLOCK = (("conv1", "norm1"), ("conv2", "norm2"), ("shortcut/layers_0", "shortcut/layers_1"))
RESNET50_BLOCK = (
    *((f"ConvBlock_{i}/Conv_0", f"ConvBlock_{i}/BatchNorm_0") for i in range(3)),
    ("ResNetSkipConnection_0/ConvBlock_0/Conv_0", "ResNetSkipConnection_0/ConvBlock_0/BatchNorm_0"),
)
LLAMA_BLOCKS = 2
ROTATED = {"R1": [("embed", 1), ("head", 0)]} | {f"R2, block {i}": [(f"{i}/v", 1), (f"{i}/o", 0)] for i in range(2)}
for _i in range(LLAMA_BLOCKS):
    ROTATED["R1"] += [(f"{_i}/{name}", 0) for name in ("q", "k", "v", "gate", "up")]
    ROTATED["R1"] += [(f"{_i}/{name}", 1) for name in ("o", "down")]


def ties(rows, params):
    """Return the axes that each group of a table ties: a set of (leaf, axis), by name of the group.

    A product has a kernel (..., in, out), and maybe a bias; a norm has vectors.
    """
    found = {}
    for product, norm, reads, writes in rows:
        rank = params[f"{product}/kernel"].ndim
        ends = [(f"{product}/kernel", rank - 2, reads), (f"{product}/kernel", rank - 1, writes)]
        vectors = [f"{product}/bias", *(f"{norm}/{name}" for name in ("scale", "bias", "mean", "var"))]
        for leaf, axis, group in ends + [(name, 0, writes) for name in vectors if name in params]:
            if group:
                found.setdefault(group, set()).add((leaf, axis))
    return found


# Networks: functions of (leaf, x), where `leaf(name, *shape)` returns a parameter


def network(body, x):
    """Return f(params, x) and generic parameters."""
    shapes = {}

    def noted(name, *shape):
        shapes[name] = shape
        return jnp.ones(shape)

    with jax.numpy_rank_promotion("allow"):
        jax.eval_shape(lambda x: body(noted, x), x)
    params = {name: draw(*shape) + 1.5 * (len(shape) == 1) for name, shape in shapes.items()}
    params |= {name: jnp.abs(leaf) + 0.5 for name, leaf in params.items() if name.endswith("/var")}
    return lambda p, x: body(lambda name, *shape: p[name], x), params


def convolved(leaf, name, h, width, window=3, stride=1, bias=False):
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = leaf(f"{name}/kernel", window, window, h.shape[-1], width)
    h = jax.lax.conv_general_dilated(h, kernel, (stride, stride), "SAME", dimension_numbers=layout)
    return h + leaf(f"{name}/bias", width) if bias else h


def dense(leaf, name, h, width):
    return h @ leaf(f"{name}/kernel", h.shape[-1], width) + leaf(f"{name}/bias", width)


def layer_normed(leaf, name, h):
    return jax.nn.standardize(h, epsilon=1e-6) * leaf(f"{name}/scale", h.shape[-1]) + leaf(f"{name}/bias", h.shape[-1])


def batch_normed(leaf, name, h):
    mean, var, scale, bias = (leaf(f"{name}/{one}", h.shape[-1]) for one in ("mean", "var", "scale", "bias"))
    return (h - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias


def max_pooled(h, window=2):
    return jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, window, window, 1), (1, 2, 2, 1), "SAME")


def mlp(widths):
    def body(leaf, x):
        h = x.reshape(len(x), -1)
        for i, width in enumerate(widths):
            h = jax.nn.relu(dense(leaf, f"Dense_{i}", h, width))
        return jax.nn.log_softmax(dense(leaf, f"Dense_{len(widths)}", h, 10))

    return body


def vgg16(norm):
    def body(leaf, h):
        widths = iter(enumerate((4, 4, 0, 4, 4, 0, 5, 5, 5, 0, 6, 6, 6, 0, 6, 6, 6, 0)))
        number = 0
        for _, width in widths:
            if not width:
                h = max_pooled(h)
                continue
            h = jax.nn.relu(norm(leaf, f"Norm_{number}", convolved(leaf, f"Conv_{number}", h, width, bias=True)))
            number += 1
        h = h.reshape(len(h), -1)
        for i in range(2):
            h = jax.nn.relu(dense(leaf, f"Dense_{i}", h, 7))
        return jax.nn.log_softmax(dense(leaf, "Dense_2", h, 10))

    return body


def resnet20(norm):
    def block(leaf, name, h, width, stride):
        inner = jax.nn.relu(norm(leaf, f"{name}/norm1", convolved(leaf, f"{name}/conv1", h, width, 3, stride)))
        inner = norm(leaf, f"{name}/norm2", convolved(leaf, f"{name}/conv2", inner, width))
        if stride > 1:
            h = convolved(leaf, f"{name}/shortcut/layers_0", h, width, 3, stride)
            h = norm(leaf, f"{name}/shortcut/layers_1", h)
        return jax.nn.relu(h + inner)

    def body(leaf, x):
        h = jax.nn.relu(norm(leaf, "norm1", convolved(leaf, "conv1", x, 4)))
        for group, width in enumerate((4, 5, 6)):
            for number in range(3):
                stride = 2 if group and not number else 1
                h = block(leaf, f"blockgroups_{group}/blocks_{number}", h, width, stride)
        return jax.nn.log_softmax(dense(leaf, "dense", h.mean((1, 2)), 10))

    return body


def resnet50(norm):
    def layer(leaf, name, h, width, window, stride=1):
        return norm(leaf, f"{name}/BatchNorm_0", convolved(leaf, f"{name}/Conv_0", h, width, window, stride))

    def block(leaf, name, h, width, stride):
        inner = jax.nn.relu(layer(leaf, f"{name}/ConvBlock_0", h, width - 2, 1))
        inner = jax.nn.relu(layer(leaf, f"{name}/ConvBlock_1", inner, width - 2, 3, stride))
        inner = layer(leaf, f"{name}/ConvBlock_2", inner, width, 1)
        if h.shape != inner.shape:
            h = layer(leaf, f"{name}/ResNetSkipConnection_0/ConvBlock_0", h, width, 1, stride)
        return jax.nn.relu(h + inner)

    def body(leaf, x):
        h = max_pooled(jax.nn.relu(layer(leaf, "layers_0/ConvBlock_0", x, 4, 7, 2)), 3)
        for group, (count, width) in enumerate(((3, 5), (4, 6), (6, 7), (3, 8))):
            for number in range(count):
                stride = 2 if group and not number else 1
                h = block(leaf, f"blockgroups_{group}/blocks_{number}", h, width, stride)
        return dense(leaf, "dense", h.mean((1, 2)), 10)

    return body


def rotary(h):
    """Turn pairs of features (..., length, heads, width) by angles that grow with the position."""
    half = h.shape[-1] // 2
    angles = np.arange(h.shape[-3])[:, None, None] * 100.0 ** (-np.arange(half) / half)
    cos, sin = (np.concatenate([one(angles)] * 2, -1) for one in (np.cos, np.sin))
    return h * cos + jnp.concatenate([-h[..., half:], h[..., :half]], -1) * sin


def llama(leaf, x, turned=rotary, width=8, heads=4, shared=2, n=6):
    """A Llama whose gains are folded into the weights: embedding, grouped queries, rotary angles, gated units."""
    h = leaf("embed", 40, n)[x]
    batch, length, _ = h.shape
    for i in range(LLAMA_BLOCKS):
        u = rms_norm(h)
        q, k, v = (
            (u @ leaf(f"{i}/{name}", n, count * width)).reshape(batch, length, count, width)
            for name, count in (("q", heads), ("k", shared), ("v", shared))
        )
        q, k = turned(q), turned(k)
        k, v = (jnp.repeat(one, heads // shared, axis=2) for one in (k, v))
        scores = jnp.einsum("bthd,bshd->bhts", q, k) / np.sqrt(width)
        scores = jnp.where(np.tril(np.ones((length, length), bool)), scores, -1e30)
        mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, -1), v)
        h = h + mixed.reshape(batch, length, -1) @ leaf(f"{i}/o", heads * width, n)
        u = rms_norm(h)
        gate, up = u @ leaf(f"{i}/gate", n, 8), u @ leaf(f"{i}/up", n, 8)
        h = h + (jax.nn.silu(gate) * up) @ leaf(f"{i}/down", 8, n)
    return rms_norm(h) @ leaf("head", n, 40)


IMAGES = draw(3, 32, 32, 3)
HAND_WRITTEN = {
    "mlp": (mlp((8, 7, 6)), mlp_rows(3), 3, 9),
    "resnet-20, layer norm": (
        resnet20(layer_normed),
        resnet_rows(("conv1", "norm1"), (3, 3, 3), RESNET20_BLOCK, False),
        12,
        84,
    ),
    "vgg-16, layer norm": (vgg16(layer_normed), vgg16_rows(), 15, 71),
    "vgg-16, batch norm": (vgg16(batch_normed), vgg16_rows(), 15, 71),
    "resnet-20, batch norm": (
        resnet20(batch_normed),
        resnet_rows(("conv1", "norm1"), (3, 3, 3), RESNET20_BLOCK, False),
        12,
        84,
    ),
    "resnet-50": (
        resnet50(batch_normed),
        resnet_rows(
            ("layers_0/ConvBlock_0/Conv_0", "layers_0/ConvBlock_0/BatchNorm_0"), (3, 4, 6, 3), RESNET50_BLOCK, True
        ),
        37,
        212,
    ),
}
"""Network, table, and how many groups and how many axes in them the original table has."""
