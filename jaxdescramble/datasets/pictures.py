"""Pictures to classify: real digits from scikit-learn, drawn figures, and textures that are known up to a shift.

Images are (samples, height, width, channels) in [0, 1], the layout of convolutions. Nothing is downloaded.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxdescramble._base import results
from jaxdescramble._base.checks import (
    floating_type,
    instance_of,
    is_traced,
    number_between,
    numbers,
    one_of,
    positive_integer,
    random_key,
)
from jaxdescramble._base.extras import extra


class Pictures(NamedTuple):
    """Images and their classes."""

    images: Float[Array, "samples height width channels"]  # in [0, 1]
    labels: Int[Array, " samples"]

    __repr__ = results.describe
    _repr_html_ = results.page
    to_dict = results.to_dict


def digits(size: int = 28, dtype: DTypeLike = float) -> Pictures:
    """Return the 1797 handwritten digits of scikit-learn, in their original order.

    They have 8 x 8 pixels. Other sizes come from cubic interpolation (Keys), clipped to [0, 1].

    Args:
        size: height and width in pixels; 8 gives the digits as they were scanned, in multiples of 1/16.
        dtype: floating type of the images: float32 or float64.

    Raises:
        ImportError: if scikit-learn is not installed.
        TypeError: if `size` is not an integer, or `dtype` is not float32 or float64.
        ValueError: if `size` is less than 1.

    >>> found = digits(size=8)
    >>> found.images.shape, found.labels[:5].tolist()
    ((1797, 8, 8, 1), [0, 1, 2, 3, 4])

    Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI (1998), test set.
    """
    size, dtype = positive_integer(size, "size"), floating_type(dtype).name
    scanned = extra("sklearn.datasets", "the digits need scikit-learn").load_digits()
    images = jnp.asarray(scanned.images[..., None] / 16, dtype)
    if size != 8:
        # Enlarged to 32 pixels and averaged back to 8 x 8, linear interpolation differs from the scan by 0.096 (rms),
        # cubic by 0.063. Lanczos would differ by 0.057, but it rings: it lights the background far from every stroke.
        # Cubic interpolation lights nothing beyond two scanned pixels from a stroke.
        images = jnp.clip(jax.image.resize(images, (len(images), size, size, 1), "cubic"), 0, 1)
    return Pictures(images, jnp.asarray(scanned.target, int))


# Half the width of a line and of a bar; figures fit into the unit circle.
LINE, BAR = 0.16, 0.25


def _box(u: Array, v: Array, width: float, height: float) -> Array:
    return jnp.maximum(jnp.abs(u) - width, jnp.abs(v) - height)


def _bar(u: Array, v: Array) -> Array:
    return _box(u, v, math.sqrt(1 - BAR**2), BAR)


def _plus(u: Array, v: Array) -> Array:
    return jnp.minimum(_bar(u, v), _bar(v, u))


def _dots(u: Array, v: Array) -> Array:
    return jnp.hypot(jnp.abs(u) - 0.65, v) - 0.35


# Signed distance to the edge, negative inside, of points (right, up). Beyond a corner it is the distance to the nearest
# side, which keeps corners sharp.
FIGURES: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda u, v: jnp.hypot(u, v) - 1,
    "ring": lambda u, v: jnp.abs(jnp.hypot(u, v) - 1 + LINE) - LINE,
    "square": lambda u, v: _box(u, v, math.sqrt(0.5), math.sqrt(0.5)),
    "frame": lambda u, v: jnp.abs(_box(u, v, math.sqrt(0.5) - LINE, math.sqrt(0.5) - LINE)) - LINE,
    "triangle": lambda u, v: jnp.maximum(-v, math.sqrt(0.75) * jnp.abs(u) + v / 2) - 0.5,
    "cross": lambda u, v: _plus((u + v) * math.sqrt(0.5), (u - v) * math.sqrt(0.5)),
    "plus": _plus,
    "horizontal bar": _bar,
    "vertical bar": lambda u, v: _bar(v, u),
    "two dots": _dots,
}
# Range of the radius of a figure's circle, in units of half the picture; and the largest angle of its turn.
RADIUS, TURN = (0.35, 0.6), math.pi / 12


def shapes(key: PRNGKeyArray, count: int, size: int = 28, noise: ArrayLike = 0.0, dtype: DTypeLike = float) -> Pictures:
    """Draw white figures on black: the ten of `FIGURES`, at random places, with random sizes and small turns.

    A pixel is `t^2 (3 - 2 t)`, where `t = 1/2 - d` is clipped to [0, 1] and d is the signed distance of its centre from
    the edge, in pixels; so the background is exactly 0. A figure fits into a circle with a radius of 0.35 to 0.6 times
    half the picture, anywhere in the picture, and turns by at most 15 degrees. After training on 5000 pictures, ridge
    regression classifies 33% of new ones correctly; three convolutions and a mean over places fail on a few in a
    thousand.

    Args:
        key: random key.
        count: number of pictures; classes are as equal in number as possible, in random order.
        size: height and width in pixels; below 16, figures are hard to tell apart.
        noise: standard deviation of white Gaussian noise; noisy images are clipped to [0, 1]. It may be traced.
        dtype: floating type of the images: float32 or float64.

    Returns:
        `Pictures`, with labels in the order of `FIGURES`.

    Raises:
        TypeError: if `key` is not a key, or another argument has the wrong type.
        ValueError: if `count` or `size` is less than 1, or `noise` is negative.

    >>> images, labels = shapes(jax.random.key(0), 50)
    >>> images.shape, jnp.bincount(labels).tolist(), float(images[0, 0, 0, 0])
    ((50, 28, 28, 1), [5, 5, 5, 5, 5, 5, 5, 5, 5, 5], 0.0)
    """
    count, size = positive_integer(count, "count"), positive_integer(size, "size")
    noise, (drawing, chance) = _noise(noise), jax.random.split(random_key(key))
    images, labels = _shapes(drawing, count, size, floating_type(dtype).name)
    if is_traced(noise) or noise != 0:
        images = jnp.clip(images + noise * jax.random.normal(chance, images.shape, images.dtype), 0, 1)
    return Pictures(images, labels)


@functools.partial(jax.jit, static_argnames=("count", "size", "dtype"))
def _shapes(key: PRNGKeyArray, count: int, size: int, dtype: str) -> tuple[Array, Array]:
    order, for_radius, for_place, for_turn = jax.random.split(key, 4)
    labels = _balanced(order, count, len(FIGURES))
    radius = jax.random.uniform(for_radius, (count, 1, 1), dtype, *RADIUS)
    x, y = (1 - radius)[None] * jax.random.uniform(for_place, (2, count, 1, 1), dtype, -1, 1)
    turn = jax.random.uniform(for_turn, (count, 1, 1), dtype, -TURN, TURN)
    centres = (2 * jnp.arange(size, dtype=dtype) + 1) / size - 1  # of pixels; rows run down the page
    right, up = centres[None, None, :] - x, -centres[None, :, None] - y
    u = (jnp.cos(turn) * right + jnp.sin(turn) * up) / radius
    v = (jnp.cos(turn) * up - jnp.sin(turn) * right) / radius
    # Compute all figures at every pixel and select one: this compiles to one fused loop without temporary arrays.
    which = jnp.broadcast_to(labels[:, None, None], u.shape)
    distance = jax.lax.select_n(which, *(figure(u, v) for figure in FIGURES.values())) * radius * (size / 2)
    inside = jnp.clip(0.5 - distance, 0, 1)
    return (inside**2 * (3 - 2 * inside))[..., None], labels


def shifted(
    key: PRNGKeyArray,
    count: int,
    size: int = 16,
    classes: int = 10,
    noise: ArrayLike = 0.1,
    shift: str = "circular",
    dtype: DTypeLike = float,
    *,
    templates: PRNGKeyArray,
) -> Pictures:
    """Draw textures on a torus, known up to a shift. Use them for convolutional networks with a mean over places.

    `image(i, j) = 1/2 + (t(i + a, j + b) + noise) / (2 r)`, where t is the template of the class, (a, b) is uniform
    among all circular shifts, and r is the largest |t| of all classes plus the largest noise; so images lie in [0, 1].
    Templates have random phases and one spectrum: flat up to `size / 4` periods a side, zero beyond, and no mean. Their
    mean square is 1. Under shifts, all classes therefore share mean and covariance, so linear classifiers and
    classifiers by spectrum are at chance. After training on 5000 pictures, ridge regression classifies 11% of new ones
    correctly; three circular convolutions and a mean over places fail on a few in a thousand. At a noise of 1 these
    networks learn slowly.

    Args:
        key: random key; it decides labels, shifts and noise.
        count: number of pictures; classes are as equal in number as possible, in random order.
        size: height and width in pixels, at least 8: smaller templates are shifts of each other.
        classes: number of classes.
        noise: standard deviation of white noise, which is uniform, so that it has a largest value. It may be traced.
        shift: "circular"; or "none", which keeps templates in their place, for comparison.
        dtype: floating type of the images: float32 or float64.
        templates: random key of the templates; use the same key, and the same noise, for training and test sets.

    Raises:
        TypeError: if a key is not a key, or another argument has the wrong type.
        ValueError: if a number is too small, `noise` is negative, or `shift` is unknown.

    >>> keys, common = jax.random.split(jax.random.key(0)), jax.random.key(1)
    >>> train, test = (shifted(key, 100, templates=common) for key in keys)
    >>> spectra = jnp.abs(jnp.fft.fft2(shifted(keys[0], 100, noise=0.0, templates=common).images, axes=(1, 2)))
    >>> train.images.shape, bool(jnp.allclose(spectra[:1], spectra, rtol=1e-3, atol=1e-3))
    ((100, 16, 16, 1), True)
    """
    count, classes = positive_integer(count, "count"), positive_integer(classes, "classes")
    if positive_integer(size, "size") < 8:
        raise ValueError(f"size: got {size}; must be at least 8, because smaller templates are shifts of each other.")
    key, templates = random_key(key), random_key(templates, "templates")
    moves = one_of(shift, "shift", ("circular", "none")) == "circular"
    return Pictures(*_shifted(key, templates, _noise(noise), count, size, classes, moves, floating_type(dtype).name))


@functools.partial(jax.jit, static_argnames=("count", "size", "classes", "moves", "dtype"))
def _shifted(
    key: PRNGKeyArray,
    templates: PRNGKeyArray,
    noise: ArrayLike,
    count: int,
    size: int,
    classes: int,
    moves: bool,
    dtype: str,
) -> tuple[Array, Array]:
    order, for_shift, for_noise = jax.random.split(key, 3)
    labels, textures = _balanced(order, count, classes), _textures(templates, classes, size, dtype)
    down, right = jax.random.randint(for_shift, (2, count, 1, 1), 0, size if moves else 1)
    place = jnp.arange(size)
    seen = textures[labels[:, None, None], (place[None, :, None] + down) % size, (place[None, None, :] + right) % size]
    loudest = math.sqrt(3) * jnp.asarray(noise, dtype)  # uniform in +-sqrt(3) has a variance of 1
    largest = jnp.max(jnp.abs(textures)) + loudest
    seen = seen + loudest * jax.random.uniform(for_noise, seen.shape, dtype, -1, 1)
    # Only rounding can leave [0, 1].
    return jnp.clip(0.5 + seen / (2 * largest), 0, 1)[..., None], labels


def _textures(key: PRNGKeyArray, classes: int, size: int, dtype: str) -> Float[Array, "classes size size"]:
    periods = np.fft.fftfreq(size, 1 / size)
    square = periods[:, None] ** 2 + periods[None, :] ** 2
    passes = (square > 0) & (square <= (size / 4) ** 2)
    # The phases of white noise have the symmetry that makes the texture real.
    waves = jnp.fft.fft2(jax.random.normal(key, (classes, size, size), dtype))
    flat = jnp.where(passes[None], waves / jnp.abs(waves), 0)
    return jnp.real(jnp.fft.ifft2(flat)) * (size**2 / math.sqrt(passes.sum()))


def split(pictures: Pictures, *fractions: float, key: PRNGKeyArray) -> list[Pictures]:
    """Split pictures into disjoint random parts; each part has its share of every class.

    Args:
        pictures: the pictures; not traced, because sizes depend on the labels.
        key: random key.
        fractions: size of each part, as a fraction of all pictures. If their sum is below 1, the rest is left out.

    Returns:
        One part for each fraction, in random order. In each part, the number of a class is within one of its share. If
        all classes have equal size, the size of the part is within one of its share too.

    Raises:
        TypeError: if `pictures` is not `Pictures`, or `key` is not a key.
        ValueError: if the fractions are not positive, have a sum above 1, or give a part without pictures.

    >>> train, test = split(digits(size=8), 0.8, 0.2, key=jax.random.key(0))
    >>> len(train.labels), len(test.labels), jnp.bincount(test.labels).tolist()
    (1437, 360, [36, 37, 36, 37, 36, 36, 36, 36, 34, 36])
    """
    instance_of(pictures, "pictures", Pictures, "Pictures")
    pictures = Pictures(*(numbers(part, f"pictures.{name}") for name, part in pictures._asdict().items()))
    if pictures.images.ndim < 1 or pictures.labels.ndim != 1:
        raise ValueError(f"pictures: got labels of shape {pictures.labels.shape}; must be (samples,).")
    whole = len(pictures.labels)
    if len(pictures.images) != whole:
        raise ValueError(f"pictures: got {len(pictures.images)} images and {whole} labels; must be the same number.")
    key, wanted = random_key(key), "positive numbers with a sum of at most 1"
    try:
        fractions = tuple(float(number_between(f, "fractions", 0, math.inf, wanted)) for f in fractions)
    except (TypeError, ValueError) as error:
        raise ValueError(f"fractions: got {fractions}; must be {wanted}.") from error
    # Rounding can lift a sum of decimal fractions above 1.
    if not fractions or sum(fractions) > 1 + len(fractions) * np.finfo(float).eps:
        raise ValueError(f"fractions: got {fractions}; must be {wanted}.")
    labels, order = np.asarray(pictures.labels), np.asarray(jax.random.permutation(key, whole))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, sizes = np.unique(labels, return_counts=True)
    # Round the shares of each class at a different place, evenly spread, so that the roundings cancel.
    rounding = (np.arange(len(sizes)) + 0.5) / len(sizes)
    ends = np.floor(sizes[:, None] * np.cumsum(fractions)[None, :] + rounding[:, None])
    place = np.concatenate([np.arange(n) for n in sizes])
    part = np.empty(whole, int)
    part[by_class] = np.sum(place[:, None] >= np.repeat(ends, sizes, axis=0), axis=1)
    parts = [order[part[order] == number] for number in range(len(fractions))]
    for chosen, fraction in zip(parts, fractions, strict=True):
        if not len(chosen):
            raise ValueError(f"fractions: {fraction} of {whole} pictures is less than one picture; give a larger one.")
    return [Pictures(pictures.images[chosen], pictures.labels[chosen]) for chosen in parts]


def _balanced(key: PRNGKeyArray, count: int, classes: int) -> Int[Array, " count"]:
    return jax.random.permutation(key, jnp.arange(count) % classes)


def _noise(noise: ArrayLike) -> ArrayLike:
    try:
        return number_between(noise, "noise", 0, math.inf, "a number", ends=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"noise: got {noise!r}; must be one number of at least 0, a standard deviation.") from error
