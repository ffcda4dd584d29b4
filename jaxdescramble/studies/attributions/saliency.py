"""Attribution maps of a classifier, their controls, and the tests of both."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from scipy.stats import rankdata

from jaxdescramble import attribution
from jaxdescramble.attribution import switched
from jaxdescramble.studies.attributions.classifiers import Params, accuracy, classifier

Images = Float[Array, "samples height width channels"]
STEPS, COPIES, TOGETHER = 64, 50, 8


def _insens(params: Params, x: Array, key: Array) -> Array:
    return switched.insens(classifier, params, x).map


def _of(method: Callable[..., Array], **options: int | float | str) -> Callable[[Params, Array, Array], Array]:
    return lambda params, x, key: method(classifier, params, x, **options)


# All methods explain the largest score before the softmax, except Insens, which explains the silent neurons.
METHODS: dict[str, Callable[[Params, Array, Array], Array]] = {
    "Insens": _insens,
    "gradient": _of(attribution.gradient),
    "input x gradient": _of(attribution.input_x_gradient),
    "integrated gradients": _of(attribution.integrated_gradients, steps=STEPS),
    "SmoothGrad": lambda params, x, key: attribution.smooth_grad(classifier, params, x, key=key, samples=COPIES),
    "LRP epsilon": _of(attribution.lrp, epsilon=0.01),
    "LRP alpha 1": _of(attribution.lrp, rule="alpha-beta"),
    "LRP alpha 2": _of(attribution.lrp, rule="alpha-beta", alpha=2.0, beta=1.0),
    "Deep Taylor z-box": _of(attribution.deep_taylor),
    "Deep Taylor w2": _of(attribution.deep_taylor, input_rule="w2"),
}
# Controls do not depend on the trained network.
CONTROLS = ("input", "edges", "random", "Insens, untrained")


@functools.partial(jax.jit, static_argnames="name")
def _map(name: str, params: Params, x: Array, key: Array) -> Array:
    return METHODS[name](params, x, key)


def maps(
    params: Params, images: Images, key: PRNGKeyArray, names: tuple[str, ...] = tuple(METHODS)
) -> dict[str, Array]:
    """Compute the map of each method for each picture, in the shape of the pictures."""
    found = {}
    for name in names:
        parts = [
            _map(name, params, images[i : i + TOGETHER], jax.random.fold_in(key, i))
            for i in range(0, len(images), TOGETHER)
        ]
        found[name] = jnp.concatenate(parts)
    return found


def controls(untrained: Params, images: Images, key: PRNGKeyArray) -> dict[str, Array]:
    """Return maps that do not depend on the trained network: the picture, its edges, noise, Insens before training."""
    random = jax.random.normal(key, images.shape, images.dtype)
    before = maps(untrained, images, key, ("Insens",))["Insens"]
    return dict(zip(CONTROLS, (images, edges(images), random, before), strict=True))


def edges(images: Images) -> Images:
    """Return the length of Sobel's gradient.

    >>> float(edges(jnp.ones((1, 4, 4, 1)))[0, 1, 1, 0])
    0.0
    """
    smooth, slope = jnp.asarray([1.0, 2.0, 1.0]), jnp.asarray([-1.0, 0.0, 1.0])
    wide = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")

    def along(rows: Array, columns: Array) -> Array:
        height, width = images.shape[1:3]
        parts = (
            rows[i] * columns[j] * wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
        )  # fmt: skip
        return sum(parts, jnp.zeros_like(images))

    return jnp.sqrt(along(smooth, slope) ** 2 + along(slope, smooth) ** 2)


def outlines(images: Images, reach: int = 3, ink: float = 0.2) -> dict[str, Bool[Array, "samples height width 1"]]:
    """Return the pixels that stay clean in the paper's test.

    The figure is the set of pixels that are brighter than `ink`. "outline" keeps the figure and all pixels within
    `reach` of it. "figure" keeps the figure alone. "elsewhere" keeps the figure and as many background pixels as the
    outline has; it takes the most distant ones, or fewer if there are not enough outside the outline.

    >>> kept = outlines(jnp.zeros((1, 9, 9, 1)).at[0, 4, 4, 0].set(1.0), reach=1)
    >>> [int(one.sum()) for one in kept.values()]
    [9, 1, 9]
    """
    figure = jnp.max(images, axis=3, keepdims=True) > ink

    # Compute the chessboard distance to the figure: grow the figure one pixel at a time.
    def grow(_: object, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        grown, distance = carry
        wider = jax.lax.reduce_window(grown, 0, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
        return wider, distance + 1 - grown

    start = (figure.astype(int), jnp.zeros(figure.shape, int))
    distance = jax.lax.fori_loop(0, max(images.shape[1:3]), grow, start)[1]
    ring = (distance > 0) & (distance <= reach)
    flat = jnp.where(figure, -1, distance).reshape(len(images), -1)
    rank = jnp.argsort(jnp.argsort(-flat, axis=1), axis=1)  # 0 is the most distant pixel
    many = jnp.sum(ring.reshape(len(images), -1), axis=1, keepdims=True)
    far = (rank < many).reshape(figure.shape) & (distance > reach)
    return {"outline": figure | ring, "figure": figure, "elsewhere": figure | far}


@jax.jit
def _hits(params: Params, images: Array, labels: Array, clean: Array, level: Array, key: Array) -> Array:
    noise = level * jax.random.uniform(key, images.shape, images.dtype)
    return accuracy(params, jnp.where(clean, images, noise), labels)


def accuracy_where_clean(
    params: Params, images: Images, labels: Int[Array, " samples"], clean: Array, level: float, key: PRNGKeyArray
) -> float:
    """Return the accuracy when all pixels that are not clean become noise, uniform in [0, level]."""
    return float(_hits(params, images, labels, clean, jnp.asarray(level, images.dtype), key))


def strongest(values: Images, share: float, key: PRNGKeyArray) -> Bool[Array, "samples height width channels"]:
    """Select a share of the pixels, those with the largest absolute values; ties are broken at random.

    >>> strongest(jnp.asarray([[[[3.0], [-4.0]], [[1.0], [0.0]]]]), 0.5, jax.random.key(0))[0, :, :, 0].tolist()
    [[True, True], [False, False]]
    """
    flat = -jnp.abs(values).reshape(len(values), -1)
    # Most maps are 0 at black pixels. Without a shuffle, ties would always favour the top of the picture.
    shuffled = jax.random.permutation(key, flat.shape[1])
    order = jnp.take(shuffled, jnp.argsort(jnp.take(flat, shuffled, axis=1), axis=1, stable=True))
    rank = jnp.argsort(order, axis=1)
    return (rank < max(1, round(share * flat.shape[1]))).reshape(values.shape)


def cosines(one: Array, other: Array) -> Float[Array, " samples"]:
    """Return the cosine between two maps of the same picture, or 0 if a map is zero.

    >>> cosines(jnp.ones((1, 2, 2, 1)), -jnp.ones((1, 2, 2, 1))).tolist()
    [-1.0]
    """
    a, b = one.reshape(len(one), -1), other.reshape(len(other), -1)
    lengths = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return jnp.sum(a * b, axis=1) / jnp.where(lengths > 0, lengths, 1)


def rank_correlation(one: Array, other: Array, where: Array) -> float:
    """Return Spearman's correlation of two absolute maps at some pixels, averaged over pictures; 0 for constant maps.

    >>> round(rank_correlation(jnp.arange(3.0)[None], jnp.asarray([[5.0, 7.0, 6.0]]), jnp.ones((1, 3), bool)), 3)
    0.5
    """
    found = []
    for a, b, here in zip(*map(np.asarray, (one, other, where)), strict=True):
        ranks = [rankdata(np.abs(values[here])) for values in (a, b)]
        u, v = (rank - rank.mean() for rank in ranks)
        lengths = np.linalg.norm(u) * np.linalg.norm(v)
        found.append(float(u @ v / lengths) if lengths > 0 else 0.0)
    return float(np.mean(found))


@jax.jit
def classes(params: Params, images: Images) -> Int[Array, " samples"]:
    """Return the class of the largest score."""
    return jnp.argmax(classifier(params, images), axis=1)


@jax.jit
def _states(params: Params, x: Array) -> tuple[Array, Array]:
    """Return for every hidden neuron whether it is active, and the class."""
    pieces = switched.gates(classifier, params, x)
    on = [piece.reshape(len(x), -1) > 0 for name, piece in pieces.items() if not name.endswith(" winner")]
    return jnp.concatenate(on, axis=1), classes(params, x)


def share_active(params: Params, images: Images) -> float:
    """Return the share of active hidden neurons."""
    return float(jnp.mean(_states(params, images)[0]))


def flips(params: Params, images: Images, direction: Array, length: float) -> dict[str, float]:
    """Measure how a step changes the states of neurons.

    Args:
        params: parameters of the classifier.
        images: the pictures, shape (samples, height, width, channels).
        direction: direction of the step, in the shape of the pictures. It is scaled to unit length; a zero direction
            moves nothing.
        length: length of the step, in units of the length of each picture.

    Returns:
        A dictionary: "woken", the share of silent neurons that become active; "silenced", the share of active neurons
        that become silent; "class changed", the share of pictures whose class changes.
    """
    axes = tuple(range(1, images.ndim))
    norms = jnp.sqrt(jnp.sum(direction**2, axis=axes, keepdims=True))
    sizes = jnp.sqrt(jnp.sum(images**2, axis=axes, keepdims=True))
    moved = images + length * sizes * direction / jnp.where(norms > 0, norms, 1)
    before, one = _states(params, images)
    after, other = _states(params, moved)
    return {
        "woken": float(jnp.sum(after & ~before) / jnp.maximum(jnp.sum(~before), 1)),
        "silenced": float(jnp.sum(before & ~after) / jnp.maximum(jnp.sum(before), 1)),
        "class changed": float(jnp.mean(one != other)),
    }
